"""What is sent to workers: functions, arguments and results as bytes, arrays by reference where memory is shared.

A large array is put into memory of its own once for each map, and each worker on this machine maps it: every item gets
a private, writable view, as if it had been sent a copy. That memory has no name: the kernel frees it with the last of
its users, however they end. A memory map of a file travels as the name of its file. A shared array of megalith stays
what it is. Everything else, and all that goes to another machine, is copied.

Functions and classes travel by their names where workers can import them, else with their code.
"""

from __future__ import annotations

import functools
import io
import mmap
import os
import pickle
import sys
import threading
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from types import FunctionType
from typing import TYPE_CHECKING, Any

import cloudpickle
import numpy as np

from megalith import _core
from megalith.arrays.source import certain_file

if TYPE_CHECKING:
    from typing import BinaryIO, Literal, Self

    from megalith._typing import AnyArray

# Arrays of so many bytes and more are mapped; to copy less takes no longer.
LARGE = 1 << 20

# Nothing has to be looked for in these.
SCALARS = frozenset((int, float, complex, bool, str, bytes, type(None)))

_by_value = threading.Lock()


class OutOfReachError(Exception):
    """Memory of the sender cannot be mapped here: this is another machine, container or user."""


@dataclass(frozen=True)
class Unnamed:
    """Unnamed memory of a process, for others on the same machine.

    Who comes late may find another file under the same number.
    """

    pid: int
    descriptor: int
    identity: tuple[int, int]

    def open(self, mode: Literal["rb", "r+b"]) -> BinaryIO:
        """Open it in another process."""
        path = f"/proc/{self.pid}/fd/{self.descriptor}"
        self._check(os.stat(path))  # noqa: PTH116
        file = open(path, mode)  # noqa: PTH123, SIM115
        try:
            self._check(os.fstat(file.fileno()))
        except OSError:
            file.close()
            raise
        return file

    def _check(self, status: os.stat_result) -> None:
        if (status.st_dev, status.st_ino) != self.identity:
            raise FileNotFoundError(f"descriptor {self.descriptor} of process {self.pid} is another file by now")


@dataclass(frozen=True)
class _Memory:
    """An array in unnamed memory of another process."""

    where: Unnamed
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    is_fortran: bool

    def open(self) -> AnyArray:
        nbytes = int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize
        try:
            with self.where.open("rb") as file:
                mapped = mmap.mmap(file.fileno(), nbytes, access=mmap.ACCESS_COPY)
        except (OSError, ValueError) as error:
            raise OutOfReachError(f"memory of process {self.where.pid} cannot be mapped: {error}") from error
        return np.ndarray(self.shape, self.dtype, mapped, order="F" if self.is_fortran else "C")


@dataclass(frozen=True)
class _File:
    """A mapped file."""

    path: str
    identity: tuple[int, int]
    mode: str
    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    is_fortran: bool

    def open(self) -> AnyArray:
        try:
            status = os.stat(self.path)  # noqa: PTH116
            if (status.st_dev, status.st_ino) != self.identity:
                raise OutOfReachError(f"{self.path} is another file here")
            order = "F" if self.is_fortran else "C"
            return np.memmap(self.path, self.dtype, self.mode, self.offset, self.shape, order)  # type: ignore[call-overload, no-any-return]
        except OSError as error:
            if isinstance(error, OutOfReachError):
                raise
            raise OutOfReachError(f"{self.path} cannot be mapped: {error}") from error


@dataclass
class _Copy:
    """Memory that holds what was in an array."""

    array: AnyArray
    memory: _Memory
    digest: bytes
    users: int = 0


class Sender:
    """Packs what one map sends.

    Parameters
    ----------
    is_near : bool
        Whether workers can map memory of this process.
    is_static : bool
        Whether arrays stay as they are while the map runs. Otherwise one that comes again is compared with its copy.

    Attributes
    ----------
    version : int
        Changes with the way in which things are packed.
    """

    def __init__(self, *, is_near: bool, is_static: bool) -> None:
        self.is_near = is_near and hasattr(os, "memfd_create")
        self.version = 0
        self._is_static = is_static
        self._modules: set[str] = set()
        self._copies: dict[int, _Copy] = {}
        self._used: list[_Copy] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for copy in self._copies.values():
            close(copy.memory.where.descriptor)
        self._copies.clear()

    def pack(self, value: Any) -> tuple[bytes, list[_Copy]]:
        """Pickle a value for a worker; returned too is the memory that has to be there until `release`."""
        if type(value) is tuple and SCALARS.issuperset(map(type, value)):
            return pickle.dumps(value, pickle.HIGHEST_PROTOCOL), []
        self._used = []
        buffer = io.BytesIO()
        try:
            _Plain(self, buffer).dump(value)
        except (_NeedsCodeError, pickle.PicklingError, AttributeError, TypeError):
            self._used = []
            buffer = io.BytesIO()
            with self._modules_by_value():
                _WithCode(self, buffer).dump(value)
        for copy in self._used:
            copy.users += 1
        return buffer.getvalue(), self._used

    def release(self, used: list[_Copy]) -> None:
        """Say that something packed will not be unpacked any more."""
        for copy in used:
            copy.users -= 1

    def keep_away(self) -> None:
        """Copy everything from now on."""
        self.is_near = False
        self.version += 1

    def carry_code_of(self, module: str) -> bool:
        """Send the code of a module that workers could not import from now on; False if that was done already."""
        found = {name for name in sys.modules if name == module or name.startswith(module + ".")} - self._modules
        self._modules |= found
        self.version += bool(found)
        return bool(found)

    def carries(self, module: str | None) -> bool:
        """Whether functions and classes of a module are sent with their code."""
        return module is None or module == "__main__" or module in self._modules

    def _modules_by_value(self) -> ExitStack:
        stack = ExitStack()
        if self._modules:
            stack.enter_context(_by_value)
            for name in self._modules:
                module = sys.modules.get(name)
                if module is not None and name not in cloudpickle.list_registry_pickle_by_value():
                    cloudpickle.register_pickle_by_value(module)
                    stack.callback(cloudpickle.unregister_pickle_by_value, module)
        return stack

    def reduced(self, array: AnyArray) -> tuple[Any, ...] | None:
        """Return what stands for an array, None if it is to be copied."""
        if not self.is_near or array.dtype.hasobject:
            return None
        if type(array) is np.memmap:
            file = _file(array)
            if file is not None:
                return _File.open, (file,)
        if array.nbytes < LARGE or not (array.flags.c_contiguous or array.flags.f_contiguous):
            return None
        copy = self._copy(array)
        if copy is None:
            return None
        self._used.append(copy)
        return _Memory.open, (copy.memory,)

    def _copy(self, array: AnyArray) -> _Copy | None:
        known = self._copies.get(id(array))
        if known is not None and (self._is_static or known.digest == _core.digest(array)):
            return known
        for key, copy in tuple(self._copies.items()):
            if copy.users == 0 and all(copy is not used for used in self._used):
                close(self._copies.pop(key).memory.where.descriptor)
        is_fortran = not array.flags.c_contiguous
        descriptor = _filled(array.T if is_fortran else array)
        if descriptor is None:
            return None
        memory = _Memory(located(descriptor), array.shape, array.dtype, is_fortran)
        copy = _Copy(array, memory, b"" if self._is_static else _core.digest(array))
        # What an older copy of the same array is still needed for has its own reference; its key must be another one.
        if known is not None and id(array) in self._copies:
            self._copies[-known.memory.where.descriptor] = known
        self._copies[id(array)] = copy
        return copy


class _NeedsCodeError(Exception):
    pass


class _Plain(pickle.Pickler):
    """The fast one, which knows functions and classes by name only."""

    def __init__(self, sender: Sender, file: io.BytesIO) -> None:
        super().__init__(file, pickle.HIGHEST_PROTOCOL)
        self._sender = sender

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, FunctionType | type) or type(value) is _Remembering:
            if (
                self._sender.carries(value.__module__)
                or "<locals>" in value.__qualname__
                or value.__name__ == "<lambda>"
            ):
                raise _NeedsCodeError
        elif isinstance(value, np.ndarray) and type(value) in (np.ndarray, np.memmap):
            reduced = self._sender.reduced(value)
            if reduced is not None:
                return reduced
        return NotImplemented


class _WithCode(cloudpickle.CloudPickler):  # type: ignore[misc]
    def __init__(self, sender: Sender, file: io.BytesIO) -> None:
        super().__init__(file)
        self._sender = sender

    def reducer_override(self, value: Any) -> Any:
        if type(value) in (np.ndarray, np.memmap):
            reduced = self._sender.reduced(value)
            if reduced is not None:
                return reduced
        elif type(value) is _Remembering and _has_no_name(value):
            return _remembering, (value.__wrapped__, value.cache_parameters())
        return super().reducer_override(value)


_Remembering: Any = type(functools.lru_cache(abs))


def _has_no_name(function: Any) -> bool:
    found: Any = sys.modules.get(function.__module__)
    for name in function.__qualname__.split("."):
        found = getattr(found, name, None)
    return function.__module__ == "__main__" or found is not function


def _remembering(function: Any, parameters: dict[str, Any]) -> Any:
    return functools.lru_cache(**parameters)(function)


def _file(array: np.memmap[Any, Any]) -> _File | None:
    if not (array.flags.c_contiguous or array.flags.f_contiguous) or array.size == 0:
        return None
    found = certain_file(array)
    if found is None:
        return None
    path, offset = found
    status = path.stat()
    mode = "r" if array.mode == "r" else "r+"
    is_fortran = not array.flags.c_contiguous
    return _File(
        str(path.absolute()), (status.st_dev, status.st_ino), mode, offset, array.shape, array.dtype, is_fortran
    )


_descriptors: set[int] = set()
"""Open here, and of no use in a forked child, where they would keep the memory."""


def _filled(array: AnyArray) -> int | None:
    """Return a descriptor of memory with the content of an array, None if there is no room for it."""
    descriptor = unnamed(0)
    try:
        room = _core.capacity(f"/proc/self/fd/{descriptor}")["room"]
        if room is not None and room < array.nbytes:
            close(descriptor)
            return None
        view = memoryview(array.reshape(-1).view(np.uint8).data)
        done = 0
        while done < len(view):
            done += os.write(descriptor, view[done : done + (1 << 30)])
    except BaseException:
        close(descriptor)
        raise
    return descriptor


def unnamed(nbytes: int) -> int:
    """Return a descriptor of `nbytes` zeros in memory that processes of this user on this machine can map."""
    descriptor = os.memfd_create("megalith-map")
    _descriptors.add(descriptor)
    os.truncate(descriptor, nbytes)
    return descriptor


def located(descriptor: int) -> Unnamed:
    """Return where others find memory that was made here."""
    status = os.fstat(descriptor)
    return Unnamed(os.getpid(), descriptor, (status.st_dev, status.st_ino))


def close(descriptor: int) -> None:
    """Close a descriptor that was made here."""
    _descriptors.discard(descriptor)
    with suppress(OSError):
        os.close(descriptor)


def _close_all() -> None:
    for descriptor in tuple(_descriptors):
        close(descriptor)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_all)


def pack_result(value: Any, *, is_near: bool) -> bytes:
    """Pickle what goes back; shared arrays by reference if `is_near`."""
    try:
        return pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
    except (pickle.PicklingError, AttributeError, TypeError):
        return bytes(cloudpickle.dumps(value))
