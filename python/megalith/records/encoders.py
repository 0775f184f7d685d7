"""The table of encoders, with all types that megalith knows; imported at first use, which takes some milliseconds."""

# Imported for the types they teach the table.
from megalith.records import encoding_arrays, encoding_frames, encoding_objects  # noqa: F401
from megalith.records.encoding import ENCODERS, FORM, Refused, Work, content_of_bytes, encode_named, register

__all__ = ["ENCODERS", "FORM", "Refused", "Work", "content_of_bytes", "encode_named", "register"]
