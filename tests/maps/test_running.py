"""How a map goes about its items: when they are asked for, what is packed, what is unpacked how often."""

import functools
import os
import time
import weakref

import numpy as np
import pytest

from megalith import maps
from megalith.exceptions import ArgumentError
from megalith.testing.faults import run_python


def test_results_of_a_slow_iterable_do_not_wait_for_a_full_portion(threads):
    arrived = []

    def items():
        for i in range(30):
            time.sleep(0.05)
            yield i, len(arrived)

    results = maps.run(lambda item: item, items(), workers=threads, on_result=lambda *x: arrived.append(x))
    assert max(i - n_arrived for i, n_arrived in results) < 20


def test_threads_do_not_ask_for_more_large_items_than_they_can_take(threads):
    alive = []
    most = []

    def items():
        for _ in range(200):
            block = np.empty(4_000_000, np.uint8)
            alive.append(weakref.ref(block))
            most.append(sum(reference() is not None for reference in alive))
            yield block

    assert maps.run(lambda block: block.shape, items(), workers=threads) == [(4_000_000,)] * 200
    assert max(most) < 60


def test_what_a_function_holds_is_unpickled_once_for_a_portion():
    class Heavy:
        def __init__(self):
            self.content = os.urandom(1 << 21)

        def __setstate__(self, state):
            time.sleep(0.05)
            self.__dict__.update(state, key=os.urandom(8))

    heavy = Heavy()
    keys = maps.run(lambda _: heavy.key, range(200), workers=2)
    assert len(set(keys)) < 100


def test_a_large_array_that_a_function_holds_is_as_it_was_for_each_item():
    array = np.zeros(300_000)

    def fill(_):
        total = float(array.sum())
        array[:] = 1
        return total

    assert maps.run(fill, range(100), workers=2) == [0.0] * 100


def test_no_iterable_is_an_error():
    for map_ in (maps.run, maps.start):
        with pytest.raises(ArgumentError, match="nothing to map over"):
            map_(abs)


async def wait_for(x):
    return x


@pytest.mark.parametrize("workers", [None, 2])
def test_a_coroutine_function_is_an_error(workers):
    class Callable:
        async def __call__(self, x):
            return x

    for f in (wait_for, functools.partial(wait_for, 1), Callable()):
        for map_ in (maps.run, maps.start):
            with pytest.raises(ArgumentError, match="coroutine function"):
                map_(f, [1, 2], workers=workers)


def test_what_only_cloudpickle_can_send_is_sent():
    @functools.lru_cache(maxsize=3)
    def remembered(x):
        return x + 1

    assert maps.run(remembered, [1, 1], workers=2) == [2, 2]
    assert maps.run(lambda module, x: module.fabs(x), [__import__("math")] * 2, [-1, -2], workers=2) == [1.0, 2.0]


def test_a_decorated_function_of_a_module_is_sent(tmp_path, monkeypatch):
    (tmp_path / "decorated_here.py").write_text(
        "class Plus:\n"
        "    def __init__(self, f):\n"
        "        self.f = f\n"
        "    def __call__(self, x):\n"
        "        return self.f(x) + 1\n"
        "@Plus\n"
        "def plus(x):\n"
        "    return x\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    import decorated_here

    assert maps.run(decorated_here.plus, [1, 2], workers=2) == [2, 3]


@pytest.mark.parametrize("workers", ["None", "2", "ThreadPoolExecutor(2)", "ProcessPoolExecutor(2)"])
def test_a_program_that_ends_waits_for_its_maps(workers, tmp_path):
    program = f"""
import pathlib, time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from megalith import maps

def note(i):
    time.sleep(0.02)
    pathlib.Path({str(tmp_path)!r}, f"{{i}}.done").touch()

if __name__ == "__main__":
    maps.start(note, range(60), workers={workers})
"""
    run_python(program, tmp_path).check()
    assert len(list(tmp_path.glob("*.done"))) == 60


def test_processes_share_the_threads_that_the_environment_allows_the_caller(tmp_path):
    program = """
from concurrent.futures import ProcessPoolExecutor
from megalith import initialize_processing, maps
def threads(_):
    return initialize_processing()[0]
if __name__ == "__main__":
    with ProcessPoolExecutor(2) as executor:
        print(max(maps.run(threads, range(4), workers=executor)))
"""
    for name in ("OMP_NUM_THREADS", "MEGALITH_NUM_THREADS"):
        assert run_python(program, tmp_path, env={name: "4"}).check().strip() == "2"
