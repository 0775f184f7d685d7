"""What every kind of worker has to do: a class of tests, to be inherited from with a fixture `workers`."""

import itertools
import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from megalith import _core, maps, shared
from megalith.arrays import initialize_processing
from megalith.exceptions import WorkerDiedError

Array = npt.NDArray[Any]

__all__ = ["MapContract"]


class PickyError(Exception):
    """An exception that cannot be unpickled the usual way: its `args` are not what it is made of."""

    def __init__(self, code: int, *, reason: str) -> None:
        super().__init__(f"{code}: {reason}")
        self.code = code
        self.reason = reason


class LockedError(Exception):
    """An exception that no pickle can hold."""

    def __init__(self) -> None:
        super().__init__("locked")
        self.lock = threading.Lock()


def cube(x: int) -> int:
    """Return a power."""
    return x**3


def fail_at(bad: int, x: int) -> int:
    """Raise for one item."""
    if x == bad:
        raise PickyError(x, reason="bad luck")
    return x


def raise_locked(_x: int) -> None:
    """Raise what cannot be sent."""
    raise LockedError


class EndError(BaseException):
    """No Exception, so that nobody catches it by mistake."""


def end_at(kind: type[BaseException], bad: int, x: int) -> int:
    """Raise an exception of some kind for one item."""
    if x == bad:
        raise kind("the end")
    return x


def overwrite(array: Array, i: int) -> float:
    """Sum an array, and then write to it."""
    total = float(array.sum())
    array[i] = 100.0
    return total


def die_once(note: str, x: int) -> int:
    """Kill the worker that does item 5, the first time."""
    if x == 5 and not Path(note).exists():
        Path(note).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return x


def nap(seconds: float) -> float:
    """Take some time."""
    time.sleep(seconds)
    return seconds


def inner(n: int) -> tuple[list[int], int]:
    """Map inside of an item, and say how many processes took part."""
    results = maps.run(lambda x: (x + n, os.getpid()), range(3), workers=2)
    return [value for value, _ in results], len({pid for _, pid in results} | {os.getpid()})


class MapContract:
    """Tests of `megalith.maps.run` and `start` on workers of some kind.

    A test class inherits from it and has the fixtures `workers` (what to give as workers) and, unless `can_die` is
    False, `mortals` (workers that may be killed).
    """

    can_die = True
    is_process = True

    @pytest.fixture
    def workers(self) -> Any:
        """Give the workers."""
        raise NotImplementedError

    def test_results_come_in_the_order_of_the_items(self, workers: Any) -> None:
        """Items that take longer do not come later."""
        delays = [0.2, 0.0, 0.1, 0.0, 0.05]
        assert maps.run(nap, delays, workers=workers) == delays

    def test_several_iterables_are_zipped_and_the_shortest_ends_the_map(self, workers: Any) -> None:
        """As for the builtin."""
        assert maps.run(pow, range(2, 6), itertools.count(1), workers=workers) == [2, 9, 64, 625]
        assert maps.run(pow, range(9), iter([2, 2]), workers=workers) == [0, 1]

    def test_nothing_to_do_gives_an_empty_list(self, workers: Any) -> None:
        """Also of a generator, whose length nobody knows."""
        assert maps.run(cube, [], workers=workers) == []
        assert maps.run(cube, iter(()), workers=workers) == []

    def test_ten_thousand_small_items(self, workers: Any) -> None:
        """They are sent many at once."""
        start = time.perf_counter()
        assert maps.run(cube, range(10_000), workers=workers) == [x**3 for x in range(10_000)]
        assert time.perf_counter() - start < 20

    def test_closures_and_lambdas_travel(self, workers: Any) -> None:
        """With what they close over."""
        offset, array = 7, np.arange(5)

        def closure(x: int) -> int:
            return x + offset + int(array.sum())

        assert maps.run(closure, range(3), workers=workers) == [17, 18, 19]
        assert maps.run(lambda f, x: f(x), [lambda x: x + 1, abs], [-1, -2], workers=workers) == [0, 2]

    def test_an_exception_keeps_its_type_its_attributes_and_its_traceback(self, workers: Any) -> None:
        """Also one that cannot be unpickled the usual way."""
        with pytest.raises(PickyError, match="3: bad luck") as caught:
            maps.run(fail_at, itertools.repeat(3), range(10), workers=workers)
        assert (caught.value.code, caught.value.reason) == (3, "bad luck")
        assert any("item 3 of a map, called with (3, 3)" in note for note in caught.value.__notes__)
        cause = caught.value.__cause__
        frames = [frame.name for frame in caught.traceback]
        assert "fail_at" in (str(cause) if cause is not None else frames)

    def test_an_exception_that_cannot_be_sent_arrives_as_its_text(self, workers: Any) -> None:
        """It is no reason to lose where it was raised."""
        with pytest.raises((LockedError, RuntimeError), match="locked") as caught:
            maps.run(raise_locked, [1], workers=workers)
        assert any("item 0 of a map" in note for note in caught.value.__notes__)

    def test_failures_are_kept_if_wanted(self, workers: Any) -> None:
        """The others finish."""
        results = maps.run(fail_at, [2] * 5, range(5), workers=workers, on_error="keep")
        failure = results.pop(2)
        assert results == [0, 1, 3, 4]
        assert isinstance(failure, maps.Failure)
        assert (failure.index, failure.args, type(failure.error)) == (2, (2, 2), PickyError)
        assert "fail_at" in failure.traceback

    @pytest.mark.parametrize("on_error", ["raise", "keep"])
    @pytest.mark.parametrize("kind", [EndError, KeyboardInterrupt])
    def test_what_is_no_exception_ends_the_map(self, workers: Any, kind: type[BaseException], on_error: Any) -> None:
        """Also where failures are kept; the workers are of use afterwards."""
        with pytest.raises(kind, match="the end"):
            maps.run(end_at, [kind] * 8, [3] * 8, range(8), workers=workers, on_error=on_error)
        assert maps.run(cube, range(4), workers=workers) == [0, 1, 8, 27]

    def test_an_item_that_exits_is_a_failure(self, workers: Any) -> None:
        """Its worker does not."""
        results = maps.run(end_at, [SystemExit] * 8, [3] * 8, range(8), workers=workers, on_error="keep")
        assert isinstance(results[3].error, SystemExit)
        assert results[4:] == [4, 5, 6, 7]

    def test_an_error_of_the_iterable_is_not_one_of_an_item(self, workers: Any) -> None:
        """It is raised as it is, also where failures are kept."""

        def items() -> Iterator[int]:
            yield 1
            raise PickyError(5, reason="nothing left")

        with pytest.raises(PickyError) as caught:
            maps.run(cube, items(), workers=workers, on_error="keep")
        assert not getattr(caught.value, "__notes__", [])

    def test_arguments_and_results_that_cannot_be_sent_are_failures_of_their_items(self, workers: Any) -> None:
        """All other items have results."""
        arguments = maps.run(lambda x: type(x).__name__, [1, threading.Lock(), "a"], workers=workers, on_error="keep")
        assert (arguments[0], arguments[2]) == ("int", "str")
        assert arguments[1] == "lock" or isinstance(arguments[1].error, TypeError)
        results = maps.run(lambda x: threading.Lock() if x else x, [0, 1], workers=workers, on_error="keep")
        assert results[0] == 0
        assert not self.is_process or isinstance(results[1].error, TypeError)

    def test_a_large_array_arrives_as_if_it_had_been_copied(self, workers: Any) -> None:
        """Of 200 MB; a worker may write to it, and nobody else sees it."""
        array = np.ones(25_000_000)
        totals = maps.run(overwrite, itertools.repeat(array), range(4), workers=workers)
        assert totals == [array.size] * 4 or not self.is_process
        assert np.all(array == 1) == self.is_process

    def test_arrays_in_fortran_order_and_parts_of_arrays_arrive_as_they_are(self, workers: Any) -> None:
        """Whatever way they take."""
        base = np.arange(600_000.0).reshape(600, 1000)
        arrays = [base, np.asfortranarray(base), base[::2, ::3], base.T, base.astype(">f4"), base[:0], base[3, 5]]
        for got, array in zip(maps.run(lambda a: a, arrays, workers=workers), arrays, strict=True):
            assert got.dtype == array.dtype
            assert np.array_equal(got, array)

    def test_an_array_that_is_filled_anew_for_each_item_arrives_as_it_was_then(self, workers: Any) -> None:
        """As a reader does that has one buffer."""
        buffer = np.zeros(300_000)

        def items() -> Iterator[Array]:
            for i in range(6):
                buffer[:] = i
                yield buffer if self.is_process else buffer.copy()

        assert maps.run(lambda a: (a.min(), a.max()), items(), workers=workers) == [(i, i) for i in range(6)]

    def test_a_mapped_file_arrives_with_its_content(self, workers: Any, tmp_path: Path) -> None:
        """Its mode too: what a worker writes to a writable map is in the file."""
        np.save(tmp_path / "a.npy", np.arange(1000.0))
        array = np.load(tmp_path / "a.npy", mmap_mode="r+")
        part = array[10:500]

        def write(a: Array, i: int) -> float:
            a[i] = -1
            return float(a[100])

        assert maps.run(write, [part] * 3, range(3), workers=workers) == [110.0] * 3
        assert array[9:13].tolist() == [9.0, -1.0, -1.0, -1.0]
        array = np.load(tmp_path / "a.npy", mmap_mode="r")
        assert maps.run(lambda a: bool(a.flags.writeable), [array], workers=workers) == [False]

    def test_shared_arrays_stay_shared(self, workers: Any) -> None:
        """They travel as references, there and back."""
        key = f"map-{os.getpid()}"
        array = shared.cache(key, np.arange(1000.0), verbose=False)
        try:
            results = maps.run(lambda a: (type(a).__name__, a[::2]), [array, array[5:]], workers=workers)
            assert [name for name, _ in results] == ["SharedArray", "SharedArray"]
            assert all(isinstance(part, shared.SharedArray) for _, part in results)
        finally:
            shared.free(key)

    def test_maps_inside_of_items_run_there(self, workers: Any) -> None:
        """Workers of workers would be too many."""
        if workers is None:
            return
        assert maps.run(inner, range(3), workers=workers) == [([n, n + 1, n + 2], 1) for n in range(3)]

    def test_workers_share_the_processors(self, workers: Any) -> None:
        """Together they have no more threads than the machine."""
        n_threads = maps.run(lambda _: initialize_processing()[0], range(2), workers=workers)
        assert max(n_threads) <= max(_core.default_threads() // (2 if workers is not None else 1), 1)

    def test_progress_is_shown_and_true(self, workers: Any, capsys: pytest.CaptureFixture[str]) -> None:
        """The bar ends at the number of items."""
        maps.run(cube, range(20), workers=workers, verbose=True)
        shown = capsys.readouterr().err
        assert "cube" in shown
        assert "20/20" in shown

    def test_results_are_told_as_they_arrive(self, workers: Any) -> None:
        """To the calling thread, each once."""
        arrived: list[tuple[int, Any, int]] = []
        maps.run(cube, range(50), workers=workers, on_result=lambda i, x: arrived.append((i, x, threading.get_ident())))
        assert sorted(arrived) == [(i, i**3, threading.get_ident()) for i in range(50)]

    def test_a_map_in_the_background(self, workers: Any) -> None:
        """With ipyparallel's interface."""
        result = maps.start(nap, [0.05] * 6, workers=workers)
        with pytest.raises(TimeoutError):
            result.get(0.001)
        with pytest.raises(ValueError, match="not ready"):
            result.successful()
        assert result.get(30) == [0.05] * 6
        assert (result.ready(), result.successful(), result.progress, len(result)) == (True, True, 6, 6)
        assert list(result) == [0.05] * 6
        assert result.wait(0)
        assert result.wait_interactive(timeout=1)

    def test_an_error_in_the_background_is_raised_by_get(self, workers: Any) -> None:
        """And `successful` says so."""
        result = maps.start(fail_at, [2] * 5, range(5), workers=workers)
        assert result.wait(30)
        assert not result.successful()
        with pytest.raises(PickyError):
            result.get()

    def test_a_map_that_is_aborted_ends(self, workers: Any) -> None:
        """And the workers are of use afterwards."""
        result = maps.start(nap, [0.1] * 1000, workers=workers)
        time.sleep(0.5)
        result.abort()
        with pytest.raises(CancelledError):
            result.get(10)
        assert maps.run(cube, range(4), workers=workers) == [0, 1, 8, 27]

    def test_an_item_whose_worker_is_killed_is_done_again(self, request: pytest.FixtureRequest, tmp_path: Path) -> None:
        """Once, by another worker; nobody notices but the log."""
        if not self.can_die:
            return
        workers = request.getfixturevalue("mortals")
        note = str(tmp_path / "died")
        assert maps.run(die_once, [note] * 20, range(20), workers=workers) == list(range(20))
        assert Path(note).exists()

    def test_an_item_that_kills_every_worker_is_named(self, request: pytest.FixtureRequest) -> None:
        """After three tries; the others have results."""
        if not self.can_die:
            return
        workers = request.getfixturevalue("mortals")

        def deadly(x: int) -> int:
            if x == 3:
                os.kill(os.getpid(), signal.SIGKILL)
            return x

        results = maps.run(deadly, range(8), workers=workers, on_error="keep")
        failure = results.pop(3)
        assert results == [0, 1, 2, 4, 5, 6, 7]
        assert isinstance(failure.error, WorkerDiedError)
        assert "item 3" in str(failure.error)
        assert vars(failure.error)["index"] == 3
