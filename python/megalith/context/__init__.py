"""Caches that are never stale: which calls are the same, and what was computed for them.

`Context` has it all; `megalith.context.disk` is `joblib.Memory` with its keys and files.
"""

from megalith.context.context import Context
from megalith.records import register_digest

__all__ = ["Context", "register_digest"]
