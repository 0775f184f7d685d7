"""Maps: items are sent in portions that suit how long they take, and their results put in order."""

from __future__ import annotations

import itertools
import pickle
import time
import uuid
from collections import deque
from collections.abc import Sized
from concurrent.futures import CancelledError
from queue import Empty
from traceback import format_exception
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from megalith import _checks
from megalith._threads import requested
from megalith.exceptions import ArgumentError, WorkerDiedError
from megalith.maps.background import AsyncResult
from megalith.maps.failure import Failure, explain, shown, unpacked
from megalith.maps.marks import SLOTS
from megalith.maps.parcel import Sender
from megalith.maps.task import FAILURES, Order, Share, code_of, environment, is_worker, work, work_here
from megalith.maps.workers import Chunk, Death, Item, Workers, as_workers, log
from megalith.records.origin import is_user_module

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    OnError = Literal["raise", "keep"]

# How long a portion of small items should take: what it costs to send one no longer counts.
PORTION_S = 0.05

# When a worker reports what it has done of a portion that takes longer than expected.
REPORT_S = 0.2

# Items in a portion, and bytes.
MOST_ITEMS = 16384
MOST_BYTES = 16 << 20

# How often an item may be tried again after a worker died of it.
RETRIES = 2

# How often we look who is alive.
LOOK_S = 0.5

# What gives items without running any code of the user's.
STATIC = (list, tuple, range, itertools.repeat)

_MISSING: Any = object()


def run(
    f: Callable[..., Any],
    *args: Iterable[Any],
    workers: Any = None,
    on_error: OnError = "raise",
    verbose: bool = False,
    on_result: Callable[[int, Any], None] | None = None,
    desc: str | None = None,
) -> list[Any]:
    """Call a function for each item and return the results in order.

    Parameters
    ----------
    f : callable
        The function. It may be a closure or a lambda.
    *args : iterable
        What it is called with, one item of each; the shortest ends the map. They are asked for items as these are
        needed.
    workers : int, Executor, ipyparallel view or dask Client, optional
        Where: that many processes, or those workers. None is the calling thread, and so are maps inside of an item.
    on_error : {'raise', 'keep'}
        Whether the first failure ends the map, or a `Failure` stands in the place of its result.
    verbose : bool
        Whether a bar is shown.
    on_result : callable, optional
        Called in the calling thread with the index and the result of each item as it arrives, in any order.
    desc : str, optional
        What the bar calls it; the name of the function by default.

    Returns
    -------
    results : list
        One for each item.

    Raises
    ------
    Exception
        What the function raised, with a note of the item.
    WorkerDiedError
        If a worker died of an item three times, or all are gone.
    ArgumentError
        If an argument is not one of those allowed.

    Notes
    -----
    Items that take less than 50 ms are sent several at once. A worker that dies costs no result: what it had is done
    again, the item it died of at most twice, so functions that write must bear to be run again. Workers are given a
    part of the processors each. Large arrays are mapped by workers on this machine, each item getting a private view,
    and copied to others. Ctrl-C takes back what waits and interrupts ipyparallel engines and processes of our own.

    A serial map costs 0.1 microseconds for each item, one over processes about 0.1 ms for each portion.

    Examples
    --------
    >>> from megalith import maps
    >>> maps.run(pow, [2, 3, 4], [5, 2, 1])
    [32, 9, 4]
    """
    _check(f, args, on_error)
    is_static = on_result is None and _is_static(args)
    if not verbose:
        return _results(f, args, _team(workers), on_error, on_result, is_static=is_static)
    from tqdm.auto import tqdm

    with tqdm(total=_length(args), desc=desc or _name(f), unit="item") as bar:

        def advance(index: int, result: Any) -> None:
            if on_result is not None:
                on_result(index, result)
            bar.update()

        return _results(f, args, _team(workers), on_error, advance, is_static=is_static)


def start(
    f: Callable[..., Any],
    *args: Iterable[Any],
    workers: Any = None,
    on_error: OnError = "raise",
) -> AsyncResult:
    """Call a function for each item in the background.

    Parameters
    ----------
    f : callable
        The function.
    *args : iterable
        What it is called with, as for `run`.
    workers : int, Executor, ipyparallel view or dask Client, optional
        Where; None is a thread of this process.
    on_error : {'raise', 'keep'}
        As for `run`.

    Returns
    -------
    result : AsyncResult
        Gives the results once they are there.

    Raises
    ------
    ArgumentError
        If an argument is not one of those allowed.

    Examples
    --------
    >>> from megalith import maps
    >>> result = maps.start(pow, [2, 3, 4], [5, 2, 1])
    >>> result.get()
    [32, 9, 4]
    """
    _check(f, args, on_error)
    total = _length(args)
    team = _team(workers)

    def results(arrived: Callable[[int, Any], None]) -> list[Any]:
        return _results(f, args, team, on_error, arrived, is_static=False)

    return AsyncResult(results, total, team, _name(f))


def _check(f: Callable[..., Any], args: tuple[Iterable[Any], ...], on_error: OnError) -> None:
    _checks.returning(f)
    if not args:
        message = "args: got nothing to map over, expected one iterable or more"
        raise ArgumentError(message, name="args", got=args, expected="one iterable or more")
    _checks.on_error(on_error)


def _team(workers: Any) -> Workers | None:
    """Return the workers to use: those of a map inside of an item are busy with the items of the outer one."""
    return None if is_worker.get() else as_workers(workers)


def _results(
    f: Callable[..., Any],
    args: tuple[Iterable[Any], ...],
    team: Workers | None,
    on_error: OnError,
    on_result: Callable[[int, Any], None] | None,
    *,
    is_static: bool,
) -> list[Any]:
    if team is None:
        return _run_here(f, zip(*args, strict=False), on_error, on_result)
    try:
        items = zip(*args, strict=False)
        with Sender(is_near=team.is_near, is_static=is_static) as sender:
            return _Run(f, items, _length(args), team, sender, on_error, on_result).results()
    finally:
        team.close()


def _is_static(iterables: tuple[Iterable[Any], ...]) -> bool:
    return all(type(iterable) in STATIC for iterable in iterables)


def _length(iterables: tuple[Iterable[Any], ...]) -> int | None:
    lengths = [len(iterable) for iterable in iterables if isinstance(iterable, Sized)]
    return min(lengths) if len(lengths) == len(iterables) else None


def _name(f: Any) -> str:
    return str(getattr(f, "__name__", None) or getattr(getattr(f, "func", None), "__name__", type(f).__name__))


def _run_here(
    f: Callable[..., Any],
    items: Iterator[tuple[Any, ...]],
    on_error: OnError,
    on_result: Callable[[int, Any], None] | None,
) -> list[Any]:
    results: list[Any] = []
    noted: set[int] = set()  # Exceptions that have a note; one object may be raised by several items.
    args: tuple[Any, ...] | None = None  # Of the item that is running, so that we know whose exception it is.
    while True:
        try:
            if on_result is None:
                for args in items:
                    results.append(f(*args))
                    args = None
                return results
            args = next(items, None)
            if args is None:
                return results
            result = f(*args)
        except FAILURES as error:
            if args is None:
                raise
            if id(error) not in noted:
                noted.add(id(explain(error, len(results), args)))
            if on_error == "raise":
                raise
            result = Failure(len(results), args, error, "".join(format_exception(error)))
        args = None
        results.append(result)
        if on_result is not None:
            on_result(len(results) - 1, result)


class _Run:
    """A map on workers."""

    def __init__(
        self,
        f: Callable[..., Any],
        items: Iterator[tuple[Any, ...]],
        total: int | None,
        team: Workers,
        sender: Sender,
        on_error: OnError,
        on_result: Callable[[int, Any], None] | None,
    ) -> None:
        self._f, self._items, self._total, self._team, self._sender = f, items, total, team, sender
        self._on_error, self._on_result = on_error, on_result
        self._results: list[Any] = []
        self._noted: set[int] = set()
        self._again: deque[Item] = deque()
        self._is_exhausted = False
        self._slots, self._numbers = deque(range(SLOTS)), itertools.count()
        self._function: tuple[int, tuple[str, bytes, str | None]] | None = None
        # Seconds an item takes, by those that are done.
        self._pace: float | None = None

    def results(self) -> list[Any]:
        """Return the results of all items."""
        team, looked = self._team, time.monotonic()
        try:
            while self._feed():
                if time.monotonic() > looked + LOOK_S:
                    team.look()
                    looked = time.monotonic()
                try:
                    chunk = team.done.get(timeout=LOOK_S)
                except Empty:
                    continue
                if chunk is None:
                    raise CancelledError("the map was aborted")
                self._take(chunk)
        except BaseException as error:
            team.stop(interrupt=isinstance(error, KeyboardInterrupt | CancelledError))
            raise
        return self._results

    def _feed(self) -> bool:
        """Send what workers can take; False if nothing is on its way and nothing is left."""
        team = self._team
        is_quick = self._pace is not None and self._pace < PORTION_S
        room = min(team.count() * (2 if is_quick else 1), SLOTS)
        while len(team.chunks) < max(room, 1):
            items = self._portion()
            if not items:
                break
            self._send(Chunk(items, self._slots.popleft(), next(self._numbers)))
        return bool(team.chunks or self._again) or not self._is_exhausted

    def _portion(self) -> list[Item]:
        """Return the items to send next."""
        if self._pace is None:
            n = 1
        else:
            suitable = PORTION_S / max(self._pace, 1e-9)
            if self._total is not None:
                # Less towards the end, so that all workers end at about the same time.
                left = self._total - len(self._results) + len(self._again)
                suitable = min(suitable, max(left / (2 * max(self._team.count(), 1)), suitable / 10))
            n = min(max(int(suitable), 1), MOST_ITEMS)
        items: list[Item] = []
        nbytes, end = 0, time.monotonic() + PORTION_S
        while len(items) < n and nbytes < MOST_BYTES and (not items or time.monotonic() < end):
            item = self._next()
            if item is None:
                break
            if item.deaths and items:
                self._again.appendleft(item)
                break
            if self._team.is_here:
                nbytes += sum(arg.nbytes for arg in item.args if isinstance(arg, np.ndarray))
            elif item.version != self._sender.version and not self._pack(item):
                continue
            nbytes += len(item.packed) + sum(copy.array.nbytes for copy in item.copies if copy.users == 1)
            items.append(item)
            if item.deaths:  # A worker died of it, or near it: nothing else shall suffer from it.
                break
        return items

    def _next(self) -> Item | None:
        if self._again:
            return self._again.popleft()
        if self._is_exhausted:
            return None
        args = next(self._items, None)
        if args is None:
            self._is_exhausted = True
            return None
        self._results.append(_MISSING)
        return Item(len(self._results) - 1, args)

    def _pack(self, item: Item) -> bool:
        self._sender.release(item.copies)
        item.version, item.copies = self._sender.version, ()
        try:
            item.packed, item.copies = self._sender.pack(item.args)
        except FAILURES as error:
            self._fail(item, error)
            return False
        return True

    def _send(self, chunk: Chunk) -> None:
        team, share = self._team, Share(self._team.share(), requested(None), environment())
        if team.is_here:
            team.send(chunk, work_here, self._f, [item.args for item in chunk.items], REPORT_S, share)
            return
        items = [item.packed for item in chunk.items]
        order = Order(*self._pack_function(), items, REPORT_S, share, self._sender.is_near, team.place(chunk))
        team.send(chunk, work, pickle.dumps(order, pickle.HIGHEST_PROTOCOL))

    def _pack_function(self) -> tuple[str, bytes, str | None]:
        version = self._sender.version
        if self._function is None or self._function[0] != version:
            packed, copies = self._sender.pack(self._f)
            token = "" if copies else uuid.uuid4().hex
            goes_by_name = not self._sender.carries(getattr(self._f, "__module__", None))
            self._function = (version, (token, packed, code_of(self._f) if goes_by_name else None))
        return self._function[1]

    def _take(self, chunk: Chunk) -> None:
        """Keep the results of a chunk that has ended; what was not done is done again."""
        report = self._team.received(chunk)
        self._slots.append(chunk.slot)
        # The future refers to the chunk: what it holds would be there until the collector runs.
        items, chunk.items, chunk.future = chunk.items, [], None
        if isinstance(report, Death):
            self._bury(items, report)
            return
        n = len(report.results)
        for item, (is_result, value) in zip(items, report.results, strict=False):
            self._arrived(item, is_result, value, is_packed=report.is_packed)
        if n:
            pace = report.seconds / n
            self._pace = pace if self._pace is None else (self._pace + pace) / 2
        left = items[n:]
        is_packed_anew = bool(left) and left[0].version != self._sender.version
        if report.is_out_of_reach and not is_packed_anew:
            log.info("%s cannot map memory of this process; arrays are copied", report.worker)
            self._sender.keep_away()
        elif report.missing is not None and not is_packed_anew:
            module = report.missing[0] or getattr(self._f, "__module__", None) or ""
            if not (module and is_user_module(module) and self._sender.carry_code_of(module)):
                error, text = unpacked(report.missing[1])
                if isinstance(error, ImportError):
                    error.add_note(f"raised by {report.worker}; what a map uses has to be installed for its workers")
                self._fail(left.pop(0), error, text)
        self._again.extendleft(reversed(left))

    def _arrived(self, item: Item, is_result: bool, value: Any, *, is_packed: bool) -> None:
        error: BaseException | None = None
        text = ""
        if is_result and is_packed:
            try:
                value = pickle.loads(value)
            except FAILURES as reason:
                is_result, error = False, reason
        elif not is_result:
            error, text = unpacked(value) if is_packed else (value, "")
        if error is None:
            self._keep(item, value)
        else:
            self._fail(item, error, text)

    def _fail(self, item: Item, error: BaseException, text: str = "") -> None:
        if id(error) not in self._noted:
            self._noted.add(id(explain(error, item.index, item.args)))
        if self._on_error == "raise" or not isinstance(error, FAILURES):
            raise error
        self._keep(item, Failure(item.index, item.args, error, text or "".join(format_exception(error))))

    def _keep(self, item: Item, result: Any) -> None:
        self._sender.release(item.copies)
        self._results[item.index] = result
        if self._on_result is not None:
            self._on_result(item.index, result)

    def _bury(self, items: list[Item], death: Death) -> None:
        """Do again what a dead worker had."""
        suspects = items if death.at is None else items[death.at - 1 : death.at] if death.at else []
        for item in reversed(items):
            self._again.appendleft(item)
        for item in suspects:
            item.deaths += 1 + (death.others if len(suspects) == 1 else 0)
            log.warning("%s died while it had item %d; it is tried again", death.worker, item.index)
            if item.deaths > RETRIES:
                self._again.remove(item)
                n = item.deaths
                message = f"{n} workers died of item {item.index}, called with {shown(item.args)}; last {death.worker}"
                self._fail(item, WorkerDiedError(message, worker=death.worker, index=item.index))
