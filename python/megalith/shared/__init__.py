"""Arrays in memory that all processes of a machine share, under names.

`cache` computes an array once on a machine: one process makes it, all others map it, without a copy. What it gives is a
read-only `SharedArray`; its file is ``/dev/shm/sharearray_<id>.npy``, which `numpy.load` opens too. `allocate` makes an
array inside of shared memory, `free` gives up a name: the memory lives until the last view of it dies, anywhere.
"""

from megalith.shared.allocation import allocate
from megalith.shared.caching import TimeoutException, cache, decorator, free, get
from megalith.shared.handles import Handle, handle
from megalith.shared.listing import Entry, ls, prune, usage
from megalith.shared.names import _build_path as _build_path
from megalith.shared.names import valid_id
from megalith.shared.views import SharedArray

__all__ = [
    "Entry",
    "Handle",
    "SharedArray",
    "TimeoutException",
    "allocate",
    "cache",
    "decorator",
    "free",
    "get",
    "handle",
    "ls",
    "prune",
    "usage",
    "valid_id",
]
