"""Points of a function on disk: what they are known by, which are there, and the work of computing one.

They lie as the results of `megalith.context` do, so that its tools read them::

    <root>/<module>/<function>/
        <key>.npz                      a record: the result, and what is to be known of it
        <digest>.json                  what a version of the function is made of
        failures/<key>.json            each time the point failed: the error, its traceback, where and when
        megalith-<uid>/                drafts, and the locks of points that are being computed

A point is done when its record is there, whole. Which are there is one listing; what a sweep does then does not depend
on how many there are.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import inspect
import json
import os
import re
import socket
import time
import traceback
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, NamedTuple

from megalith import _checks, _durable, records
from megalith.context.entries import SUFFIX, Entries, look, shown
from megalith.context.keys import FunctionKey
from megalith.exceptions import ArgumentError, CacheWarning, DTypeError, FormatError
from megalith.maps.failure import packed, unpacked
from megalith.records.encoding import MEND
from megalith.sweep.claims import BusyError, claimed, count, is_used, mark_used, running
from megalith.sweep.parameter import ALL, GIVEN, Parameter
from megalith.sweep.pictures import as_kept

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from megalith.records.reading import Record

FAILURES = "failures"

# Attempts whose tracebacks are kept.
MOST_ATTEMPTS = 20

# Records of up to so many bytes are compared with their checksums when a sweep finds them; of larger ones that
# happens when they are read.
SMALL_BYTES = 1 << 16

# Points, failures, and what versions of functions are made of.
_OURS = re.compile(r"[0-9a-f]{32}\.(npz|npz\.damaged|json)")

# How often a point is waited for that is gone when it is read, or written where its directory is gone.
TRIES = 3

MEND_HERE = "sweep a function that does not reach it, or say how by megalith.context.register_digest"

# What stops a point, and is kept as its failure. KeyboardInterrupt is meant for the whole sweep.
ERRORS = (Exception, SystemExit)


# Parts of a function that have to be the same in a worker: packages may have another version there.
_COMPARED = ("code", "global", "constant global")

# Those that are not the same here, by the digest of the function.
_others: dict[str, list[str]] = {}


class Raised:
    """An exception that may have to travel; here it is the very one that was raised."""

    def __init__(self, error: BaseException, text: str) -> None:
        self.error = error
        self.text = text

    def __reduce__(self) -> Any:
        return _arrived, (packed(self.error),)


def _arrived(data: bytes) -> Raised:
    return Raised(*unpacked(data))


class Outcome(NamedTuple):
    """How the work on a point ended."""

    state: str
    """'done', 'there' (somebody else did it), 'busy' (somebody else is at it) or 'failed'."""
    seconds: float = 0.0
    nbytes: int = 0
    raised: Raised | None = None
    value: Any = None
    """Where nothing is kept on disk, or it was asked for."""


class Function:
    """A function that takes parameters by name, and what it is known by as it is now.

    Parameters
    ----------
    function : callable
        The function.
    dependencies : sequence
        What else counts: functions (by code), pathlib.Paths (by content), Parameters (by value), values.

    Attributes
    ----------
    name : str
        What people call it.
    id : str
        The directory of its points.
    digest : str
        What stands for it.
    """

    def __init__(self, function: Callable[..., Any], dependencies: Sequence[Any] = ()) -> None:
        if not callable(function):
            message = f"f: got {function!r}, expected a function of parameters"
            raise ArgumentError(message, name="f", got=function, expected="callable")
        _checks.returning(function)
        if isinstance(dependencies, str | PurePath | Parameter) or not isinstance(dependencies, Iterable):
            message = f"dependencies: got {dependencies!r}, expected a list"
            raise ArgumentError(message, name="dependencies", got=dependencies, expected="a list")
        # joblib's and our own caches have the function inside.
        self.function = function
        depends = [(value.name, value.value) if isinstance(value, Parameter) else value for value in dependencies]
        try:
            self._arguments: dict[str, inspect.Parameter] = dict(inspect.signature(function).parameters)
        except (TypeError, ValueError):
            message = f"f: the arguments of {function!r} have no names"
            raise ArgumentError(message, name="f", got=function, expected="a function of parameters") from None
        takes_all = any(argument.kind is inspect.Parameter.VAR_KEYWORD for argument in self._arguments.values())
        self._given = frozenset([*self._arguments, *([ALL] if takes_all else [])])
        self.keys = self._made(lambda: FunctionKey(function, depends=depends))
        self.name = self.keys.name.rpartition(".")[2]
        self.id = "/".join(self.keys.path)
        self.digest = self._made(self.keys.function_digest)

    def _made(self, make: Callable[[], Any]) -> Any:
        """Return what is made of the function while it is known what it is given."""
        token = GIVEN.set(self._given)
        try:
            return make()
        except DTypeError as error:
            # What mends it elsewhere is no option of a sweep.
            error.message = error.message.replace(MEND, MEND_HERE)
            raise
        finally:
            GIVEN.reset(token)

    def parts(self) -> dict[str, str]:
        """Return what the function is made of, as it is now."""
        parts: dict[str, str] = self._made(self.keys.parts)
        return parts

    def check_unchanged(self) -> None:
        """Check that the function still is what it was when this was made.

        Raises
        ------
        ArgumentError
            If it is not, or something that it reaches or depends on.
        """
        if self._made(self.keys.function_digest) != self.digest:
            message = f"f: {self.name}, or something it reaches, has changed since; sweep it again"
            raise ArgumentError(message, name="f", got=self.name, expected="the same function")

    def taken(self, names: Sequence[str]) -> tuple[str, ...]:
        """Return which parameters the function takes, in their order.

        Raises
        ------
        ArgumentError
            If it takes one that is not there, or one that has no name.
        """
        kinds = inspect.Parameter
        by_name = (kinds.POSITIONAL_OR_KEYWORD, kinds.KEYWORD_ONLY)
        arguments = self._arguments.values()
        for argument in arguments:
            needed = argument.default is kinds.empty
            if argument.kind is kinds.POSITIONAL_ONLY and (needed or argument.name in names):
                message = f"{self.name}: its argument {argument.name!r} cannot be given by name"
                raise ArgumentError(message, name="f", got=argument.name, expected="arguments with names")
            if argument.kind in by_name and needed and argument.name not in names:
                message = f"{self.name}: it takes {argument.name!r}, which is no parameter, or one without a value"
                raise ArgumentError(message, name="f", got=argument.name, expected=f"one of {', '.join(names)}")
        if any(argument.kind is kinds.VAR_KEYWORD for argument in arguments):
            return tuple(names)
        allowed = {argument.name for argument in arguments if argument.kind in by_name}
        return tuple(name for name in names if name in allowed)

    def identify(self, kwargs: Mapping[str, Any]) -> tuple[str, str]:
        """Return the key of a point, and what stands for its arguments."""
        arguments = self._made(lambda: self.keys.arguments_digest((), kwargs))
        return FunctionKey.combine(self.digest, arguments), arguments


class Failed(NamedTuple):
    """A point that failed."""

    point: Any
    error: str
    traceback: str
    host: str
    time: float
    attempts: int


class Store:
    """The points of functions in a directory.

    Parameters
    ----------
    root : path
        The directory.
    readonly : bool
        Whether nothing in it may be changed.
    below : Store, optional
        Where points are looked for that are not there; never written to.
    """

    def __init__(self, root: os.PathLike[str] | str, *, readonly: bool = False, below: Store | None = None) -> None:
        self.below = below
        self.entries = Entries(os.path.abspath(root), readonly=readonly)  # noqa: PTH100
        # Nothing here goes because it was not used for a long time.
        self._reading = Entries(self.entries.root, readonly=True)

    def done(self, function: str) -> set[str]:
        """List the keys of the points that are there, or below."""
        names = _names(f"{self.entries.root}/{function}")
        here = {name[: -len(SUFFIX)] for name in names if name.endswith(SUFFIX)}
        return here if self.below is None else here | self.below.done(function)

    def failed(self, function: str) -> set[str]:
        """List the keys of the points that have failed at some time."""
        names = _names(f"{self.entries.root}/{function}/{FAILURES}")
        return {name.removesuffix(".json") for name in names if name.endswith(".json")}

    def running(self, function: str, keys: Sequence[str]) -> set[str]:
        """Return the keys, of some, of the points that some process computes now."""
        return running(f"{self.entries.root}/{function}", keys)

    def count_running(self, function: str) -> int:
        """Return how many points some process computes now."""
        return count(f"{self.entries.root}/{function}")

    def found(self, function: Function, key: str, arguments: str) -> Record | None:
        """Read a point, None if it is not there; large arrays are mapped, others compared with their checksums."""
        found = self._whole(function, key, arguments, lambda path: self._reading.read(path, None))
        return self.below.found(function, key, arguments) if found is None and self.below is not None else found

    def check(self, function: Function, key: str, arguments: str) -> Record | None:
        """Look whether a point is whole, without reading much; its value may be mapped."""
        found = self._whole(function, key, arguments, self._look)
        return self.below.check(function, key, arguments) if found is None and self.below is not None else found

    def _look(self, path: str) -> Record | None:
        is_small = os.stat(path).st_size <= SMALL_BYTES  # noqa: PTH116
        return self._reading.read(path, None) if is_small else look(path)

    def _whole(
        self, function: Function, key: str, arguments: str, read: Callable[[str], Record | None]
    ) -> Record | None:
        """Read a point; one that is damaged is set aside with a warning, and is not there then."""
        path = self.entries.path(function.id, key)
        try:
            found = read(path)
            if found is None:
                return None
            about = found.about
            is_ours = type(about) is dict and about.get("arguments") == arguments
            if not is_ours or about.get("function") != function.digest:
                raise FormatError(f"{path}: it is the result of another call", path=path, field="key", got=key)
        except FileNotFoundError:
            return None
        except (FormatError, OSError) as error:
            # A link is not followed.
            if not isinstance(error, FormatError) and error.errno != errno.ELOOP:
                raise
            if os.path.lexists(path):
                self.entries.set_aside(path)
                warnings.warn(f"a point is damaged, and is computed again: {error}", CacheWarning, stacklevel=4)
            return None
        return found

    def has_note(self, function: str, key: str) -> bool:
        """Whether there is a note that a point failed."""
        return os.path.exists(f"{self.entries.root}/{function}/{FAILURES}/{key}.json")  # noqa: PTH110

    def attempts(self, function: str, key: str) -> list[dict[str, Any]]:
        """Return each time a point failed."""
        return _attempts(f"{self.entries.root}/{function}/{FAILURES}/{key}.json")

    def clear(self) -> None:
        """Remove all points of all functions, and nothing else that may lie in the directory."""
        root, emptied = self.entries.root, set[str]()
        for directory, _, names in os.walk(root, topdown=False):
            # Other results may lie here too.
            if not is_used(directory.removesuffix(f"/{FAILURES}")):
                continue
            ours = [f"{directory}/{name}" for name in names if _OURS.fullmatch(name)]
            own = f"{directory}/megalith-{os.getuid()}"
            for path in (*ours, *(f"{own}/{name}" for name in _names(own))):
                with contextlib.suppress(OSError):
                    os.unlink(path)  # noqa: PTH108
            emptied.add(own)
            while len(directory) > len(root):
                emptied.add(directory)
                directory = os.path.dirname(directory)  # noqa: PTH120
        for directory in sorted(emptied, key=len, reverse=True):
            with contextlib.suppress(OSError):
                os.rmdir(directory)  # noqa: PTH106

    def size(self, function: Function, key: str) -> int:
        """Return the bytes of a point, 0 if it is gone."""
        try:
            return os.stat(self.entries.path(function.id, key)).st_size  # noqa: PTH116
        except FileNotFoundError:
            return 0 if self.below is None else self.below.size(function, key)

    def prepare(self, function: Function) -> None:
        """Make the directory of a function, with a note of what this version of it is made of, for `explain`.

        Raises
        ------
        OSError
            If points cannot be kept there.
        """
        directory = f"{self.entries.root}/{function.id}"
        self.entries.prepare(directory)
        if not os.access(directory, os.W_OK | os.X_OK):
            why = "points cannot be kept here; with Context(readonly=True) they are computed all the same"
            raise PermissionError(errno.EACCES, why, directory)
        with contextlib.suppress(OSError):
            mark_used(self.entries, function.id)
        path = Path(directory, f"{function.digest}.json")
        if not path.exists():
            with contextlib.suppress(OSError):
                _durable.write(path, json.dumps(function.parts()).encode(), self.entries.mode, durable=False)


@dataclass(frozen=True)
class Task:
    """The work of computing a point and keeping it, or its failure; done by a worker."""

    function: Callable[..., Any]
    entries: Entries | None
    function_id: str = ""
    digest: str = ""
    wait: bool = False
    """Whether to wait for somebody else who is at it."""
    force: bool = False
    """Whether to compute what is there."""
    gives: bool = False
    """Whether the result is given back too."""
    before: Callable[[], object] | None = None
    """What to call before it is computed."""
    parts: Mapping[str, str] | None = None
    """What the function is made of where the sweep was started."""
    process: int = 0
    """The one in which it was started."""

    def __call__(self, arguments: str, kwargs: dict[str, Any]) -> Outcome:
        """Compute a point, unless somebody else does."""
        entries = self.entries
        if entries is None or entries.readonly:
            return self._compute(None, "", arguments, kwargs)
        key = FunctionKey.combine(self.digest, arguments)
        try:
            with claimed(entries, self.function_id, key, wait=self.wait) as is_ours:
                if is_ours or self.force:
                    return self._compute(entries, key, arguments, kwargs)
                return Outcome("there")
        except BusyError:
            return Outcome("busy")

    def _compute(self, entries: Entries | None, key: str, arguments: str, kwargs: dict[str, Any]) -> Outcome:
        about: dict[str, Any] = {"function": self.digest, "arguments": arguments}
        about["input_args"] = {name: shown(value) for name, value in kwargs.items()}
        about["host"] = _host()
        start, begin = time.time(), time.perf_counter()
        try:
            if self.before is not None:
                self.before()
            if self.parts is not None and os.getpid() != self.process:
                self._check_parts(self.parts)
            value = as_kept(self.function(**kwargs))
            seconds = time.perf_counter() - begin
            if entries is None:
                return Outcome("done", seconds, 0, None, value)
            about |= {"time": round(start, 6), "duration": round(seconds, 6)}
            nbytes = self._keep(entries, key, value, about)
        except ERRORS as error:
            raised = Raised(error, "".join(traceback.format_exception(error)))
            if entries is not None:
                note_failure(entries, self.function_id, key, raised, about["input_args"])
            return Outcome("failed", time.perf_counter() - begin, 0, raised)
        return Outcome("done", seconds, nbytes, None, value if self.gives else None)

    def _check_parts(self, parts: Mapping[str, str]) -> None:
        """Check that the function is here what it was where its points got their keys.

        Raises
        ------
        ArgumentError
            If it is not: somebody has set a global of a module there, which the worker has imported as it is written.
        """
        if self.digest not in _others:
            here: Mapping[str, str] = {}
            # What cannot be told apart is not told apart.
            with contextlib.suppress(Exception):
                here = Function(self.function).parts()
            _others[self.digest] = [
                name for name in parts if name.startswith(_COMPARED) and here.get(name, parts[name]) != parts[name]
            ]
        if others := _others[self.digest]:
            message = (
                f"{', '.join(others)}: not the same in this worker as where the sweep was started; make it an argument"
            )
            raise ArgumentError(message, name="f", got=others, expected="the same in all processes")

    def _keep(self, entries: Entries, key: str, value: Any, about: dict[str, Any]) -> int:
        """Write a result; what is asked for here and now is given even if it cannot be kept."""
        try:
            plan = records.plan(value, suffix=SUFFIX, about=about, exact=True)
            self._write(entries, key, plan)
        except (DTypeError, OSError) as error:
            if not self.gives:
                raise
            warnings.warn(f"the result is returned but not kept: {error}", CacheWarning, stacklevel=6)
            return 0
        return plan.nbytes

    def _write(self, entries: Entries, key: str, plan: records.Plan) -> None:
        for left in range(TRIES, 0, -1):
            try:
                entries.write(self.function_id, key, plan, replace=self.force)
            except FileNotFoundError:
                # Somebody has cleared the cache meanwhile.
                if left == 1:
                    raise
                mark_used(entries, self.function_id)
            else:
                return


def task_of(store: Store | None, function: Function, **options: Any) -> Task:
    """Return the work of computing points of a function."""
    entries = None if store is None else store.entries
    return Task(function.function, entries, function.id, function.digest, **options)


def compute(
    store: Store | None, function: Function, kwargs: dict[str, Any], *, force: bool, before: Callable[[], object]
) -> Outcome:
    """Compute one point here, or wait for somebody else who does."""
    key, arguments = function.identify(kwargs)
    options = {"wait": True, "force": force, "gives": True, "before": before}
    for _ in range(TRIES):
        outcome = task_of(store, function, **options)(arguments, kwargs)
        if outcome.state != "there" or store is None:
            break
        found = store.found(function, key, arguments)
        if found is not None:
            return Outcome("done", value=found.value)
    else:
        # It was there, and is not any more, again and again.
        outcome = task_of(None, function, before=before)(arguments, kwargs)
    if store is not None and outcome.state == "done":
        with contextlib.suppress(OSError):
            store.prepare(function)
    return outcome


def failure(raised: Raised, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is kept of a failure."""
    return {
        "time": time.time(),
        "host": _host(),
        "pid": os.getpid(),
        "arguments": dict(arguments),
        "error": told(raised.error),
        "traceback": raised.text,
    }


def note_failure(entries: Entries, function: str, key: str, raised: Raised, arguments: Mapping[str, Any]) -> None:
    """Write that a point has failed, beside the times before; a directory that cannot be written to has no notes."""
    if entries.readonly:
        return
    directory = f"{entries.root}/{function}/{FAILURES}"
    with contextlib.suppress(OSError):
        entries.prepare(directory)
        path = f"{directory}/{key}.json"
        noted = json.dumps([*_attempts(path), failure(raised, arguments)][-MOST_ATTEMPTS:], indent=1)
        _durable.write(Path(path), noted.encode(), entries.mode, durable=False)


def told(error: BaseException) -> str:
    """Return type and message of an exception, whatever its own methods do."""
    return "".join(traceback.format_exception_only(error)).strip()


def _attempts(path: str) -> list[dict[str, Any]]:
    try:
        found = json.loads(Path(path).read_bytes())
    except (OSError, ValueError):
        return []
    return [one for one in found if type(one) is dict] if type(found) is list else []


def _names(directory: str) -> Iterator[str]:
    """List a directory that may not be there."""
    try:
        with os.scandir(directory) as found:
            for file in found:
                yield file.name
    except (FileNotFoundError, NotADirectoryError):
        return


@functools.cache
def _host() -> str:
    return socket.gethostname()
