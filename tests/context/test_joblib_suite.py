"""joblib's own tests of Memory, run against `megalith.context.disk`.

Only the imports change: `Memory`, `MemorizedFunc` and `MemorizedResult` of the installed joblib's test file are ours.
Each test that is left out is in `LEFT_OUT`, with what it asserts that is not so here.
"""

import warnings

import joblib
import pytest
from joblib.test import test_memory, test_memory_async

from megalith.context import disk

for module in (test_memory, test_memory_async):
    for name in ("Memory", "MemorizedFunc", "AsyncMemorizedFunc", "MemorizedResult"):
        if hasattr(module, name):
            setattr(module, name, getattr(disk, name))

# What the classes are built on is private in joblib. Another version may work, and is to be looked at first.
TRIED = ("1.4", "1.5", "1.6")

LAYOUT = "joblib's private file layout: a directory for each result, with output.pkl in it"
COLLISIONS = "warnings about functions of one name; here their code tells them apart"

LEFT_OUT = {}

globals().update(
    {
        name: found
        for module in (test_memory, test_memory_async)
        for name, found in vars(module).items()
        if name.lower().startswith("test") and name not in LEFT_OUT and not name.startswith("test_memory_async")
    }
)
