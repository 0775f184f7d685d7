"""joblib's interface to the files of results, and what opens and checks them."""

from __future__ import annotations

import contextlib
import datetime
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from joblib import memory as joblib_memory
from joblib._store_backends import CacheItemInfo, FileSystemStoreBackend

from megalith import records
from megalith.context.entries import SUFFIX, Entries, look
from megalith.context.keys import FunctionKey
from megalith.exceptions import ArgumentError, FormatError, KeyMissingError
from megalith.records.known_files import trust
from megalith.records.reading import Record

if TYPE_CHECKING:
    from collections.abc import Sequence


class PickledError(Exception):
    """An entry is a pickle, and those are not allowed."""


class Backend(FileSystemStoreBackend):  # type: ignore[misc]
    """The store behind a `Memory`: joblib's interface to `Entries`.

    Parameters
    ----------
    entries : Entries
        Where the results are.
    below : Backend, optional
        Where results are looked for that are not there; never written to.
    mmap_mode : {None, 'r', 'c', 'r+', 'w+'}
        How arrays are mapped on a hit.
    allow_pickle : bool
        Whether pickled results may be written and read.
    verbose : int
        As in joblib.
    """

    def __init__(
        self,
        entries: Entries,
        below: Backend | None = None,
        mmap_mode: str | None = None,
        *,
        allow_pickle: bool = False,
        verbose: int = 0,
    ) -> None:
        self.entries = entries
        self.below = below
        self.mmap_mode = mmap_mode
        self.allow_pickle = allow_pickle
        self.verbose = verbose
        self.compress = False
        self.location = entries.root

    def with_options(self, mmap_mode: str | None, *, allow_pickle: bool) -> Backend:
        """Return the same store, read in another way."""
        if (mmap_mode, allow_pickle) == (self.mmap_mode, self.allow_pickle):
            return self
        below = None if self.below is None else self.below.with_options(mmap_mode, allow_pickle=allow_pickle)
        return Backend(self.entries, below, mmap_mode, allow_pickle=allow_pickle, verbose=self.verbose)

    def readonly(self) -> Backend:
        """Return the same store, from which is only read."""
        entries = Entries(self.entries.root, readonly=True)
        below = None if self.below is None else self.below.readonly()
        return Backend(entries, below, self.mmap_mode, allow_pickle=self.allow_pickle, verbose=self.verbose)

    def path(self, call_id: Sequence[str]) -> str:
        """Return the file of an entry."""
        return self.entries.path(call_id[0], call_id[1])

    def find(self, call_id: Sequence[str]) -> Record | None:
        """Read an entry here or below; None if there is none.

        Raises
        ------
        FormatError, OSError
            If it is damaged, or cannot be read.
        PickledError
            If it is a pickle, and those are not allowed.
        """
        path = self.path(call_id)
        before = _stat(path)
        found = self.entries.read(path, self.mmap_mode)
        if found is None:
            return None if self.below is None else self.below.find(call_id)
        value, about = found
        _check_key(about, call_id[1], path)
        if type(about) is dict and about.get("pickled") is True:
            if not self.allow_pickle:
                raise PickledError
            return Record(_unpickled(value), about)
        if before is not None:
            _trust(value, path, before)
        return found

    def has(self, call_id: Sequence[str]) -> bool:
        """Whether there is an entry here, readable or not."""
        return os.path.exists(self.path(call_id))  # noqa: PTH110

    def holder(self, call_id: Sequence[str]) -> Backend | None:
        """Return the store that has an entry: this one or one below."""
        if self.has(call_id):
            return self
        return None if self.below is None else self.below.holder(call_id)

    def layers(self) -> list[Backend]:
        """Return this store and those below."""
        return [self] if self.below is None else [self, *self.below.layers()]

    # joblib's names.

    def load_item(
        self, call_id: Sequence[str], verbose: int = 1, timestamp: float | None = None, metadata: Any = None
    ) -> Any:
        """Return the value of an entry."""
        try:
            found = self.find(call_id)
        except PickledError:
            message = f"the result is a pickle; allow_pickle=True reads it: {self.path(call_id)}"
            raise KeyMissingError(message, key=call_id[1], root=self.location) from None
        if found is None:
            message = f"no such result; it may have been cleared: {self.path(call_id)}"
            raise KeyMissingError(message, key=call_id[1], root=self.location)
        return found.value

    def dump_item(self, call_id: Sequence[str], item: Any, verbose: int = 1) -> None:
        """Write an entry."""
        self.entries.prepare(os.path.dirname(self.path(call_id)))  # noqa: PTH120
        self.entries.write(call_id[0], call_id[1], records.plan(item, suffix=SUFFIX, exact=True), replace=True)

    def contains_item(self, call_id: Sequence[str]) -> bool:
        """Whether there is an entry that may be read; a damaged one counts."""
        holder = self.holder(call_id)
        return holder is not None and (
            self.allow_pickle or (about_of(holder.path(call_id)) or {}).get("pickled") is not True
        )

    def clear_item(self, call_id: Sequence[str]) -> None:
        """Remove an entry."""
        if not self.entries.readonly:
            with contextlib.suppress(PermissionError):
                self.entries.remove(self.path(call_id))

    def get_metadata(self, call_id: Sequence[str]) -> dict[str, Any]:
        """Return what is known of an entry, an empty dict if there is none."""
        holder = self.holder(call_id)
        return {} if holder is None else about_of(holder.path(call_id)) or {}

    def store_metadata(self, call_id: Sequence[str], metadata: Any) -> None:
        """Do nothing: what is known of an entry is written with it."""

    def store_cached_func_code(self, call_id: Sequence[str], func_code: str | None = None) -> None:
        """Do nothing: the code is a part of the keys."""

    def get_cached_func_code(self, call_id: Sequence[str]) -> str:
        """Return no code: it is a part of the keys."""
        return ""

    def get_items(self) -> list[Any]:
        """Return path, size and time of last use of every entry."""
        stamp = datetime.datetime.fromtimestamp
        return [CacheItemInfo(item.path, item.size, stamp(item.used)) for item in self.entries.items()]

    def clear_location(self, location: str) -> None:
        """Remove an entry, or the directory of a function, or all."""
        if self.entries.readonly:
            return
        if str(location).endswith(SUFFIX):
            self.entries.remove(str(location))
            return
        super().clear_location(location)
        self.entries.forget_total()

    def create_location(self, location: str) -> None:
        """Make a directory."""
        self.entries.prepare(str(location))


def root_of(location: Any) -> str:
    """Return where results are, as joblib has it: below a directory that is a string, in one that is a Path."""
    name = os.path.expanduser(os.fspath(location))  # noqa: PTH111
    return os.path.abspath(os.path.join(name, "joblib") if isinstance(location, str) else name)  # noqa: PTH100, PTH118


def make_location(entries: Entries) -> None:
    """Make the directory, and keep git out of it; who may not write gets the error when something is written."""
    with contextlib.suppress(OSError):
        entries.prepare(entries.root)
        above, name = os.path.split(entries.root)
        path = Path(above if name == "joblib" else entries.root, ".gitignore")
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, entries.mode)
        with open(descriptor, "w") as file:  # noqa: PTH123
            file.write("# Created by joblib automatically.\n*\n")


def open_backend(location: Any, backend: str, mmap_mode: str | None, allow_pickle: bool | None = None) -> Backend:
    """Return the store at a location."""
    check_mmap_mode(mmap_mode)
    check_backend(backend)
    if not isinstance(location, Backend):
        entries = Entries(os.path.abspath(os.path.expanduser(os.fspath(location))))  # noqa: PTH100, PTH111
        location = Backend(entries)
    allowed = location.allow_pickle if allow_pickle is None else allow_pickle
    store: Backend = location.with_options(mmap_mode, allow_pickle=allowed)
    return store


def check_backend(backend: str) -> None:
    """Raise for a backend of joblib's that is not the one of files."""
    if backend != "local":
        # Says so itself, if nobody knows it.
        joblib_memory._store_backend_factory(backend, "")
        message = f"backend: got {backend!r}, expected 'local'; results of megalith are files"
        raise ArgumentError(message, name="backend", got=backend, expected="'local'")


def check_mmap_mode(mmap_mode: Any) -> None:
    """Raise for a mode that NumPy does not have."""
    if mmap_mode not in (None, "r", "c", "r+", "w+"):
        message = f"mmap_mode: got {mmap_mode!r}, expected None, 'r', 'c', 'r+' or 'w+'"
        raise ArgumentError(message, name="mmap_mode", got=mmap_mode, expected="None, 'r', 'c', 'r+' or 'w+'")


def pickled(value: Any) -> bytes:
    """Return a pickle of an object, code and all where no module has it."""
    import cloudpickle

    content: bytes = cloudpickle.dumps(value)
    return content


def _unpickled(value: Any) -> Any:
    """Return the object in an entry that was pickled, its checksum already verified."""
    import pickle

    return pickle.loads(value.tobytes())


def about_of(path: str) -> dict[str, Any] | None:
    """Return what is known of an entry, None of one that is damaged or gone."""
    try:
        about = look(path).about
    except (ValueError, OSError):
        return None
    return about if type(about) is dict else {}


def _check_key(about: Any, key: str, path: str) -> None:
    """Raise for an entry that was copied, or renamed, from that of another call."""
    if type(about) is not dict or "arguments" not in about:
        return
    told = FunctionKey.combine(str(about.get("function")), str(about["arguments"]))
    if told != key:
        raise FormatError(f"{path}: it is the result of another call", path=path, field="key", got=told)


def _stat(path: str) -> os.stat_result | None:
    try:
        return os.stat(path)  # noqa: PTH116
    except OSError:
        return None


def _trust(value: Any, path: str, before: os.stat_result) -> None:
    """Have arrays that are mapped read-only hashed once: entries are never rewritten."""
    if isinstance(value, np.ndarray):
        if not value.flags.writeable and value.nbytes:
            with contextlib.suppress(OSError):
                trust(value, path, before=before)
    elif isinstance(value, dict):
        for part in value.values():
            _trust(part, path, before)
    elif isinstance(value, tuple | list):
        for part in value:
            _trust(part, path, before)
