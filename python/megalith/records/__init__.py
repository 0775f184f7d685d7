"""One format for every value megalith keeps: an array as ``.npy``, anything nested as a ``.npz`` of aligned arrays.

A value is an array, a scalar (str, int, float, bool, None, or one of NumPy's), or tuples, lists and dicts of these, in
any nesting. `save` and `load` are for files; `plan` and `read` are for those who bring their own memory.
"""

from megalith.records.digest import digest, register_digest
from megalith.records.reading import load, read
from megalith.records.writing import Plan, plan, save

__all__ = [
    "Plan",
    "digest",
    "load",
    "plan",
    "read",
    "register_digest",
    "save",
]
