"""The results of cached calls on disk: one file each, whole or not there, and no more of them than a limit allows.

::

    <root>/
        total.bytes                    of all entries; no module can have this name
        <module>/<function>/
            <key of the call>.npz      a record: the value, and what is to be known of it
            <digest>.json              what a version of the function is made of, for `explain`
            megalith-<uid>/            locks of keys that are being computed, and drafts

The total may say too much (a writer was killed), never too little: entries are counted under the lock under which they
appear and go. A scan, made when it is above the limit, mends it.
A hit sets the time of last use of its file; those not used for the longest time go first. What goes is unlinked, so
who has it mapped keeps it.
"""

from __future__ import annotations

import contextlib
import heapq
import os
import re
import reprlib
import sys
import threading
import time
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from megalith import _core, records
from megalith.records.reading import Record, open_record
from megalith.shared.names import Name

if TYPE_CHECKING:
    from collections.abc import Iterator

SUFFIX = ".npz"

# A damaged entry is set aside under its name and this, until the next scan.
DAMAGED = ".damaged"

# The total where nobody has counted the entries yet.
UNKNOWN = -1

# Arrays of so many bytes are mapped on a hit, where nothing else was asked for.
MAP_FROM = 64 << 20

# The index of what was used when is made anew when it is so much older than the time it took.
SCAN_SHARE = 20

_KEY = re.compile(r"[0-9a-f]{32}\.npz")

# What a listing shows of an argument.
SHOWN = 80

# Of an object, in what it says of itself: another one in each process.
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")

_repr = reprlib.Repr()
_repr.maxstring = _repr.maxother = _repr.maxlong = SHOWN

_indexes: weakref.WeakSet[_Index] = weakref.WeakSet()


class Item(NamedTuple):
    """An entry, as a listing shows it."""

    used: float
    """When it was used last: seconds since 1970."""
    path: str
    size: int


class Entries:
    """A directory of entries.

    Parameters
    ----------
    root : str
        The directory.
    readonly : bool
        Whether nothing in it may be changed, times of use included.
    limit : int, optional
        Bytes that all entries may have.
    max_age : float, optional
        Seconds after their last use that entries go.
    mode : int
        Permissions of the files. Directories may be entered by whom files may be read.
    """

    def __init__(
        self,
        root: str,
        *,
        readonly: bool = False,
        limit: int | None = None,
        max_age: float | None = None,
        mode: int = 0o600,
    ) -> None:
        self.root = root
        self.readonly = readonly
        self.limit = limit
        self.max_age = max_age
        self.mode = mode
        self._index = _Index()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_index": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._index = _Index()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Entries):
            return NotImplemented
        return self.__getstate__() == other.__getstate__()

    __hash__ = None  # type: ignore[assignment]

    def path(self, function: str, key: str) -> str:
        """Return the file of an entry, there or not."""
        return f"{self.root}/{function}/{key}{SUFFIX}"

    def name(self, function: str, key: str) -> Name:
        """Return the entry as a name whose turn can be waited for."""
        directory = f"{self.root}/{function}"
        return Name(key, directory, "", f"{directory}/{key}")

    def prepare(self, directory: str) -> None:
        """Make a directory and those above it, ours alone unless files are for others too.

        Raises
        ------
        OSError
            If it cannot be made.
        """
        if os.path.isdir(directory):  # noqa: PTH112
            return
        readers = self.mode & 0o444
        mode = 0o700 | (readers | readers >> 2) & 0o077
        above = os.path.dirname(directory)  # noqa: PTH120
        if above != directory:
            self.prepare(above)
        with contextlib.suppress(FileExistsError):
            os.mkdir(directory, mode)  # noqa: PTH102

    def read(self, path: str, mmap_mode: str | None) -> Record | None:
        """Read an entry, None if there is none.

        Raises
        ------
        FormatError, OSError
            If it is damaged, or cannot be read.
        """
        try:
            if mmap_mode is None:
                found = _open(path, None, MAP_FROM, map_from=MAP_FROM)
            else:
                found = _open(path, "r" if mmap_mode == "r" else "c", 0)
        except (FileNotFoundError, NotADirectoryError):
            return None
        if not self.readonly:
            _core.touch(path)
        return found

    def write(self, function: str, key: str, plan: records.Plan, *, replace: bool) -> bool:
        """Write an entry; False if somebody else has, which is not replaced.

        Raises
        ------
        OSError
            If it cannot be written.
        """
        draft = _core.Draft.shared(f"{self.root}/{function}", "", key, SUFFIX, plan.nbytes, self.mode, reserve=False)
        try:
            plan.write(draft)
            # Others may have a limit on the same directory.
            is_counted = self.limit is not None or os.path.exists(self._total)  # noqa: PTH110
            total = draft.publish(replace=replace, books=self._total if is_counted else None)
        except FileExistsError:
            return False
        finally:
            draft.discard()
        self._keep_limits(total, Item(time.time(), self.path(function, key), plan.nbytes))
        return True

    def remove(self, path: str) -> bool:
        """Remove an entry; whether there was one."""
        return _core.books_remove(path, self._total)[0]

    def set_aside(self, path: str) -> bool:
        """Take a damaged entry out of the way; whether that was possible."""
        if not self.readonly:
            with contextlib.suppress(OSError):
                os.replace(path, path + DAMAGED)  # noqa: PTH105
                return True
        return False

    def forget_total(self) -> None:
        """Have the next writer count anew: entries were removed without a word."""
        with contextlib.suppress(OSError):
            os.unlink(self._total)  # noqa: PTH108

    def items(self, function: str = "") -> Iterator[Item]:
        """List the entries, of one function or all; what vanishes meanwhile is left out."""
        waiting = [f"{self.root}/{function}" if function else self.root]
        while waiting:
            try:
                found = list(os.scandir(waiting.pop()))
            except (FileNotFoundError, NotADirectoryError):
                continue
            for file in found:
                if file.is_dir(follow_symlinks=False):
                    if not file.name.startswith("megalith-"):
                        waiting.append(file.path)
                elif _KEY.fullmatch(file.name):
                    with contextlib.suppress(FileNotFoundError):
                        status = file.stat(follow_symlinks=False)
                        yield Item(status.st_atime_ns / 1e9, file.path, status.st_size)
                elif file.name.endswith(SUFFIX + DAMAGED) and not self.readonly:
                    with contextlib.suppress(OSError):
                        os.unlink(file.path)  # noqa: PTH108

    @property
    def _total(self) -> str:
        return f"{self.root}/total.bytes"

    def _is_full(self, total: int | None) -> bool:
        return self.limit is not None and total is not None and total > self.limit

    def _keep_limits(self, total: int | None, added: Item) -> None:
        """Remove what was not used for the longest time until the limits are kept."""
        is_unknown = self.limit is not None and total == UNKNOWN
        if not self._is_full(total) and not is_unknown and self.max_age is None:
            self._index.add(added)
            return
        with self._index.lock:
            self._index.add(added)
            is_scanned = is_unknown or self._index.is_stale()
            if is_scanned:
                total = self._scan()
            oldest_allowed = 0.0 if self.max_age is None else time.time() - self.max_age
            while True:
                is_full = self._is_full(total)
                item = self._index.oldest()
                if item is None:
                    if not is_full or is_scanned:
                        return
                    total, is_scanned = self._scan(), True
                    continue
                if not is_full and item.used >= oldest_allowed:
                    return
                self._index.drop()
                # One that cannot be removed is another user's.
                with contextlib.suppress(OSError):
                    _, total = _core.books_remove(item.path, self._total)

    def _scan(self) -> int | None:
        """Make the index anew, and mend the total."""
        start = time.monotonic()
        added = None
        if self.limit is not None:
            with contextlib.suppress(OSError):
                added = _core.books_added(self._total)
        items = list(self.items())
        self._index.fill(items, time.monotonic() - start)
        if added is not None:
            with contextlib.suppress(OSError):
                return _core.books_settle(self._total, sum(item.size for item in items), added)
        return None


class _Index:
    """Entries by their last use, as they were at the last scan; the oldest is looked at again before it goes."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        _indexes.add(self)
        self._items: list[Item] = []
        self._made = -float("inf")
        self._took = 0.0

    def add(self, item: Item) -> None:
        """Note a new entry, if there is an index."""
        with self.lock:
            if self._made > 0:
                heapq.heappush(self._items, item)

    def fill(self, items: list[Item], took: float) -> None:
        """Take the result of a scan."""
        heapq.heapify(items)
        self._items, self._made, self._took = items, time.monotonic(), took

    def is_stale(self) -> bool:
        """Whether others may have added much since the last scan."""
        return time.monotonic() - self._made > 1 + SCAN_SHARE * self._took

    def oldest(self) -> Item | None:
        """Return the entry not used for the longest time."""
        while self._items:
            item = self._items[0]
            try:
                status = os.stat(item.path)  # noqa: PTH116
            except OSError:
                heapq.heappop(self._items)
                continue
            now = Item(status.st_atime_ns / 1e9, item.path, status.st_size)
            if now.used <= item.used and now.size == item.size:
                return item
            heapq.heapreplace(self._items, now if now.used > item.used else now._replace(used=item.used))
        return None

    def drop(self) -> None:
        """Forget the oldest."""
        heapq.heappop(self._items)


def _renew_locks() -> None:
    for index in _indexes:
        index.lock = threading.RLock()


# A thread that held one is not there in a forked child.
os.register_at_fork(after_in_child=_renew_locks)


def look(path: str) -> Record:
    """Read what is known of an entry, with its arrays mapped; the time of its last use stays.

    Raises
    ------
    FormatError, OSError
        If it is damaged, or cannot be read.
    """
    return _open(path, "r", 0)


def _open(path: str, mmap_mode: Any, verify_below: int, *, map_from: int = sys.maxsize) -> Record:
    """Read a file that is no link; its time of last use stays."""
    return open_record(path, mmap_mode, verify_below, map_from=map_from, unnoted=True, flags=os.O_NOFOLLOW)


def shown(value: Any) -> str:
    """Return an argument in a few words."""
    if isinstance(value, np.ndarray):
        return f"{type(value).__name__}({value.shape}, {value.dtype})"
    try:
        text = _ADDRESS.sub("", _repr.repr(value))
    except Exception:  # Code of the user's.
        text = f"<{type(value).__name__}>"
    return text if len(text) <= SHOWN else text[: SHOWN - 3] + "..."


def function_of(root: str, path: str) -> str:
    """Return the directory of an entry below the root: the function it belongs to."""
    return os.path.relpath(Path(path).parent, root)
