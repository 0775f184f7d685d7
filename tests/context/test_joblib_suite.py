"""joblib's own tests of Memory, run against `megalith.context.disk`.

Only the imports change: `Memory`, `MemorizedFunc` and `MemorizedResult` of the installed joblib's test file are ours.
Each test that is left out is in `LEFT_OUT`, with what it asserts that is not so here.
"""

from pathlib import Path

import joblib
import pytest
from joblib.test import test_memory, test_memory_async

from megalith.context import disk

for module in (test_memory, test_memory_async):
    for name in ("Memory", "MemorizedFunc", "AsyncMemorizedFunc", "MemorizedResult"):
        if hasattr(module, name):
            setattr(module, name, getattr(disk, name))

# What the classes are built on is private in joblib: another version may work, and is to be looked at first.
TRIED = ("1.4", "1.5", "1.6")

LAYOUT = "joblib's private file layout"
COLLISION = "joblib's warnings of functions with one name: here their code tells them apart"

LEFT_OUT = {
    "test_parallel_call_cached_function_defined_in_jupyter": LAYOUT,
    "test_persistence": LAYOUT,
    "test_func_dir": LAYOUT + ", and its file of source code",
    "test_call_and_shelve_lazily_load_stored_result": LAYOUT,
    "test__get_items": LAYOUT,
    "test_memory_name_collision": COLLISION,
    "test_memory_warning_lambda_collisions": COLLISION,
    "test_memory_warning_collision_detection": COLLISION,
    "test_memory_in_memory_function_code_change": COLLISION,
}

# Of releases before 1.5.
LEFT_OUT_OF_OLDER = {
    "test_deprecated_bytes_limit": "joblib's own limit was never kept, and so deprecated; ours is",
}


@pytest.fixture
def memory(tmp_path):
    """What joblib's own conftest.py had up to 1.5, which is not installed with it."""
    return disk.Memory(location=tmp_path, verbose=0)


def corrupt_single_cache_item(memory):
    """Do what joblib's function of this name does, to the file that is ours."""
    (item,) = memory.store_backend.get_items()
    Path(item.path).write_text("garbage")


test_memory.corrupt_single_cache_item = corrupt_single_cache_item
test_memory_async.corrupt_single_cache_item = corrupt_single_cache_item

pytestmark = pytest.mark.filterwarnings("default")

for module in (test_memory, test_memory_async):
    for name, found in vars(module).items():
        if name.lower().startswith("test") and name not in LEFT_OUT | LEFT_OUT_OF_OLDER:
            globals().setdefault(name, found)


def test_the_version_of_joblib_is_one_that_was_tried():
    assert joblib.__version__.startswith(TRIED)


def test_every_test_that_is_left_out_is_there():
    assert LEFT_OUT.keys() <= vars(test_memory).keys()
