"""The results of cached calls on disk: one file each, whole or not there, and no more of them than a limit allows.

::

    <root>/
        total                          bytes of all entries, added to before an entry appears
        <module>/<function>/
            <key of the call>.npz      a record: the value, and what is to be known of it
            <digest>.json              what a version of the function is made of, for `explain`
            megalith-<uid>/            locks of keys that are being computed, and drafts

The total may say too much (a writer was killed), never too little: a scan, made when it is above the limit, mends it.
A hit sets the time of last use of its file; those not used for the longest time go first. What goes is unlinked, so
who has it mapped keeps it.
"""

from __future__ import annotations

import contextlib
import heapq
import os
import re
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from megalith import _core, records
from megalith.records.reading import Record, open_record
from megalith.shared.names import Name

if TYPE_CHECKING:
    from collections.abc import Iterator

SUFFIX = ".npz"

# A damaged entry is set aside under its name and this, until the next scan.
DAMAGED = ".damaged"

# Arrays of so many bytes are mapped on a hit, where nothing else was asked for.
MAP_FROM = 64 << 20

# The index of what was used when is made anew when it is so much older than the time it took.
SCAN_SHARE = 20

_KEY = re.compile(r"[0-9a-f]{32}\.npz")


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
        map_from = MAP_FROM if mmap_mode is None else 0
        try:
            if mmap_mode is None:
                found = open_record(path, None, map_from, map_from=map_from, unnoted=True)
            else:
                found = open_record(path, "r" if mmap_mode == "r" else "c", 0, unnoted=True)
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
        directory = f"{self.root}/{function}"
        total = self._add(plan.nbytes)
        try:
            draft = _core.Draft.shared(directory, "", key, SUFFIX, plan.nbytes, self.mode, reserve=False)
            try:
                plan.write(draft)
                draft.publish(replace=replace)
            finally:
                draft.discard()
        except BaseException as error:
            self._add(-plan.nbytes)
            if isinstance(error, FileExistsError):
                return False
            raise
        self._keep_limits(total, Item(time.time(), self.path(function, key), plan.nbytes))
        return True

    def remove(self, path: str) -> bool:
        """Remove an entry; whether there was one."""
        try:
            size = os.stat(path).st_size  # noqa: PTH116
            os.unlink(path)  # noqa: PTH108
        except (FileNotFoundError, NotADirectoryError):
            return False
        self._add(-size)
        return True

    def set_aside(self, path: str) -> None:
        """Take a damaged entry out of the way, where that is possible."""
        if not self.readonly:
            with contextlib.suppress(OSError):
                os.replace(path, path + DAMAGED)  # noqa: PTH105

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
        return f"{self.root}/total"

    def _add(self, nbytes: int) -> int | None:
        """Add to the total: the new one, None where no limit needs it or it cannot be had."""
        if self.limit is None:
            # Others may have a limit on the same directory.
            if os.path.exists(self._total):  # noqa: PTH110
                with contextlib.suppress(OSError):
                    _core.add_to_total(self._total, nbytes)
            return None
        try:
            total = _core.add_to_total(self._total, nbytes)
            if total is None:
                total = _core.add_to_total(self._total, sum(item.size for item in self.items()) + nbytes, first=True)
        except OSError:
            return None
        return total

    def _keep_limits(self, total: int | None, added: Item) -> None:
        """Remove what was not used for the longest time until the limits are kept."""
        is_full = self.limit is not None and total is not None and total > self.limit
        if not is_full and self.max_age is None:
            self._index.add(added)
            return
        with self._index.lock:
            self._index.add(added)
            if self._index.is_stale():
                total = self._scan(total)
            oldest_allowed = 0.0 if self.max_age is None else time.time() - self.max_age
            scanned = False
            while True:
                is_full = self.limit is not None and total is not None and total > self.limit
                item = self._index.oldest()
                if item is None:
                    if not is_full or scanned:
                        return
                    total, scanned = self._scan(total), True
                    continue
                if not is_full and item.used >= oldest_allowed:
                    return
                self._index.drop()
                if self.remove(item.path) and total is not None:
                    total -= item.size

    def _scan(self, total: int | None) -> int | None:
        """Make the index anew, and mend the total."""
        start = time.monotonic()
        before = None if total is None else self._add(0)
        items = list(self.items())
        self._index.fill(items, time.monotonic() - start)
        # What others have added since is kept, so the total is never too small.
        return None if before is None else self._add(sum(item.size for item in items) - before)


class _Index:
    """Entries by their last use, as they were at the last scan; the oldest is looked at again before it goes."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
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


def function_of(root: str, path: str) -> str:
    """Return the directory of an entry below the root: the function it belongs to."""
    return os.path.relpath(Path(path).parent, root)
