"""`Context.map_dask_array`: results of chunks on disk, never those of another function or of other data."""

import functools
import os
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import dask.array as da
import numpy as np
import pytest
from dask.array.core import getter

from megalith import Context
from megalith.arrays import as_source
from megalith.context import stacks
from megalith.exceptions import ArgumentError, DTypeError, FormatError, ShapeError
from megalith.testing.cases import assert_identical
from megalith.testing.faults import run_python


@pytest.fixture
def context(tmp_path):
    return Context(tmp_path / "cache")


@pytest.fixture
def log(tmp_path):
    """A file that `noted` writes a line to whenever it is called, in whatever process."""
    (tmp_path / "log").touch()
    return tmp_path / "log"


def noted(chunk, log, by=2):
    with log.open("a") as file:
        file.write("called\n")
    return chunk * by


def calls(log):
    """How often `noted` was called since this was asked last."""
    n = len(log.read_text().splitlines())
    log.write_text("")
    return n


def files(context, name):
    return sorted(path.name for path in (context.cache_dir / name).iterdir())


def test_results_are_a_stack_that_dask_opens(context):
    values = np.arange(20.0).reshape(10, 2)
    found = context.map_dask_array(np.sqrt, da.from_array(values, chunks=(3, 2)))
    assert found.chunks == ((3, 3, 3, 1), (2,))
    assert_identical(found.compute(), np.sqrt(values))
    assert files(context, "sqrt") == [".done", "0.npy", "1.npy", "2.npy", "3.npy", "info"]
    assert_identical(da.from_npy_stack(context.cache_dir / "sqrt").compute(), np.sqrt(values))
    assert isinstance(found.blocks[1].compute(), np.memmap)


def test_a_stack_along_another_axis_is_one_for_dask_too(context):
    values = np.arange(20.0).reshape(2, 10)
    found = context.map_dask_array(np.sqrt, da.from_array(values, chunks=(2, 4)))
    assert_identical(found.compute(), np.sqrt(values))
    assert_identical(da.from_npy_stack(context.cache_dir / "sqrt").compute(), np.sqrt(values))


def test_tuples_of_results_are_tuples_of_arrays(context):
    values = np.arange(10)
    both = context.map_dask_array(lambda x: (x + 1, x[:1] > 0), da.from_array(values, chunks=4), name=("more", "some"))
    assert isinstance(both, tuple)
    assert_identical(both[0].compute(), values + 1)
    assert_identical(both[1].compute(), np.array([False, True, True]))
    assert both[1].chunks == ((1, 1, 1),)
    (one,) = context.map_dask_array(lambda x: (x + 1,), da.from_array(values, chunks=4), name=("single",))
    assert_identical(one.compute(), values + 1)


def test_grids_keep_their_shape(context):
    values = np.arange(60).reshape(5, 4, 3)
    found = context.map_dask_array(np.negative, da.from_array(values, chunks=(3, 2, 3)), name="grid")
    assert found.chunks == ((3, 2), (2, 2), (3,))
    assert_identical(found.compute(), -values)
    assert [name for name in files(context, "grid") if name.endswith("npy")] == [
        "0.0.0.npy", "0.1.0.npy", "1.0.0.npy", "1.1.0.npy",
    ]  # fmt: skip
    with pytest.raises(TypeError):  # dask has no stacks of grids: better than some of the chunks
        da.from_npy_stack(context.cache_dir / "grid")


@pytest.mark.parametrize(
    ("f", "chunks"),
    [
        (lambda x: x[::2], (3, 4, 5)),
        (lambda x: x.mean(axis=2), (3, 2, 5)),
        (lambda x: x.mean(axis=(1, 2)), (3, 4, 5)),
        (lambda x: x[:1], (3, 2, 5)),
        (lambda x: np.stack([x, x], -1), (3, 2, 2)),
        (lambda x: x[:, :1, :0], (3, 2, 5)),
        (lambda x: x.astype(">i2"), (3, 2, 1)),
        (lambda x: np.asfortranarray(x), (3, 2, 5)),
        (lambda x: x.sum(), (-1, -1, -1)),
        (lambda x: [1, 2], (3, 4, 5)),
    ],
    ids=["shorter", "axis lost", "axes lost", "first", "axis gained", "empty", "type", "F order", "number", "list"],
)
def test_chunks_may_change(context, f, chunks):
    array = da.from_array(np.arange(120).reshape(6, 4, 5), chunks=chunks)
    found = context.map_dask_array(f, array)
    grid = np.empty(array.numblocks, object)
    for place in np.ndindex(*array.numblocks):
        grid[place] = np.asarray(f(array.blocks[place].compute()))
    for place in np.ndindex(*found.numblocks):
        block = found.blocks[place].compute() if found.ndim else found.compute()
        assert_identical(np.asarray(block), grid[(*place, 0, 0, 0)[: array.ndim]])


def test_arrays_without_axes_or_elements_are_mapped(context):
    assert context.map_dask_array(lambda x: x + 1, da.from_array(np.array(3))).compute() == 4
    assert context.map_dask_array(lambda x: x + 1, da.zeros((0, 3))).shape == (0, 3)


def test_lengths_of_chunks_need_not_be_known(context):
    values = np.arange(10)
    array = da.from_array(values, chunks=4)
    found = context.map_dask_array(np.negative, array[array % 3 > 0])
    assert found.chunks == ((2, 3, 1),)
    assert_identical(found.compute(), -values[values % 3 > 0])


def test_results_that_do_not_fit_together_are_refused(context):
    grid = da.from_array(np.arange(24).reshape(4, 6), chunks=(2, 3))
    with pytest.raises(ShapeError, match="axis 1 of the array is cut into 2 chunks"):
        context.map_dask_array(lambda x: x.sum(axis=1), grid)
    with pytest.raises(ShapeError, match=r"chunk 0.1 has shape \(1, 3\)"):
        context.map_dask_array(lambda x: x[: 2 - (x[0, 0] == 3)], grid)
    with pytest.raises(DTypeError, match=r"chunk 1.0 has dtype float64"):
        context.map_dask_array(lambda x: x / 1 if x[0, 0] == 12 else x, grid)
    with pytest.raises(DTypeError, match="Python objects"):
        context.map_dask_array(lambda x: None, grid)


def test_a_name_for_each_result_is_needed(context):
    array = da.ones(4, chunks=2)
    with pytest.raises(ArgumentError, match="gave 2 results; give a tuple of so many names"):
        context.map_dask_array(lambda x: (x, x), array)
    with pytest.raises(ArgumentError, match="gave 1 results for 2 names"):
        context.map_dask_array(lambda x: (x,), array, name=("a", "b"))
    with pytest.raises(ArgumentError, match="gave a ndarray for 1 names"):
        context.map_dask_array(lambda x: x, array, name=("a",))
    for name in ("", "a/b", "..", ".hidden", "results", "memcache", "groups.json", 3, ("a", "a"), ()):
        with pytest.raises(ArgumentError, match="name"):
            context.map_dask_array(np.sqrt, array, name=name)


def test_names_are_those_of_functions():
    class Detector:
        def __call__(self, x):
            return x

        def detect(self, x):
            return x

    assert stacks.name_of(noted) == "noted"
    assert stacks.name_of(functools.partial(functools.partial(noted, by=3), by=4)) == "noted"
    assert stacks.name_of(lambda x: x) == "lambda"
    assert stacks.name_of(Detector().detect) == "detect"
    assert stacks.name_of(Detector()) == "Detector"


def test_finished_chunks_are_not_done_again(context, log):
    array = da.from_array(np.arange(10), chunks=3)
    first = context.map_dask_array(noted, array, log)
    assert calls(log) == 4
    again = Context(context.cache_dir).map_dask_array(noted, array, log)
    assert calls(log) == 0
    assert first.name == again.name
    assert_identical(again.compute(), np.arange(10) * 2)


def test_a_failing_chunk_is_all_that_is_missing(context, log):
    def fragile(chunk, log, limit):
        if chunk[0] >= int(Path(limit).read_text()):
            raise RuntimeError("too large")
        return noted(chunk, log)

    limit = context.cache_dir / "limit"
    limit.write_text("6")
    array = da.from_array(np.arange(10), chunks=3)
    with pytest.raises(RuntimeError, match="too large"):
        context.map_dask_array(fragile, array, log, limit)
    assert files(context, "fragile") == [".done", "0.npy", "1.npy"]
    limit.write_text("100")
    assert calls(log) == 2
    assert_identical(context.map_dask_array(fragile, array, log, limit).compute(), np.arange(10) * 2)
    assert calls(log) == 2


def rewritten(path, values):
    """Change a file in place, and set its time back."""
    before = path.stat()
    with path.open("r+b") as file:
        file.seek(-values.nbytes, os.SEEK_END)
        file.write(values.tobytes())
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("source", ["ndarray", "memmap", "named", "stack", "npy task"])
def test_changed_data_are_noticed_whatever_dask_calls_them(context, log, tmp_path, source):
    values = np.arange(10)
    np.save(tmp_path / "a.npy", values)
    da.to_npy_stack(tmp_path / "stack", da.from_array(values, chunks=3))

    def array():
        if source == "ndarray":
            return da.from_array(values, chunks=3)
        if source == "memmap":
            return da.from_array(np.load(tmp_path / "a.npy", mmap_mode="r"), chunks=3)
        if source == "named":
            return da.from_array(values, chunks=3, name="always this")
        if source == "stack":
            return da.from_npy_stack(tmp_path / "stack")
        read = da.from_delayed(dask_delayed(np.load)(str(tmp_path / "a.npy")), (10,), int, name="read")
        return read.rechunk(3)

    from dask import delayed as dask_delayed

    first = context.map_dask_array(noted, array(), log)
    assert_identical(first.compute(), np.arange(10) * 2)
    assert calls(log) == 4
    values[4] = 100
    if source == "stack":
        rewritten(tmp_path / "stack" / "1.npy", values[3:6])
    else:
        rewritten(tmp_path / "a.npy", values)
    second = context.map_dask_array(noted, array(), log)
    assert calls(log) == 1
    assert second.name != first.name
    assert_identical(second.compute(), values * 2)
    with pytest.raises(FormatError, match=r"1\.npy: it has changed"):
        first.compute()


def test_changed_functions_helpers_and_arguments_are_noticed(context):
    array = da.from_array(np.arange(10), chunks=3)

    def scaled(by):
        def scale(x):
            return x * by

        return scale

    for by in (2, 3, 2):
        assert_identical(context.map_dask_array(scaled(by), array).compute(), np.arange(10) * by)
        assert_identical(context.map_dask_array(pow, array, by).compute(), np.arange(10) ** by)
    assert_identical(context.map_dask_array(lambda x: x + 1, array, name="same").compute(), np.arange(10) + 1)
    assert_identical(context.map_dask_array(lambda x: x + 2, array, name="same").compute(), np.arange(10) + 2)


def test_functions_that_cannot_be_identified_are_refused(context):
    with Path(os.devnull).open() as file, pytest.raises(DTypeError):
        context.map_dask_array(lambda x: x + len(file.name), da.ones(3))
    assert list(context.cache_dir.iterdir()) == []


@pytest.mark.parametrize("damage", ["cut", "changed", "gone", "record", "no record"])
def test_damaged_chunks_are_done_again(context, log, damage):
    array = da.from_array(np.arange(10), chunks=3)
    context.map_dask_array(noted, array, log)
    path, record = context.cache_dir / "noted" / "2.npy", context.cache_dir / "noted" / ".done" / "2.json"
    assert calls(log) == 4
    if damage == "cut":
        os.truncate(path, path.stat().st_size - 1)
    elif damage == "changed":
        rewritten(path, np.array([5, 5]))
    elif damage == "record":
        record.write_text('{"call": 3')
    else:
        (path if damage == "gone" else record).unlink()
    assert_identical(context.map_dask_array(noted, array, log).compute(), np.arange(10) * 2)
    assert calls(log) == 1


def test_files_that_only_look_different_are_used(context, log):
    array = da.from_array(np.arange(10), chunks=3)
    first = context.map_dask_array(noted, array, log)
    assert calls(log) == 4
    moved = context.cache_dir.with_name("moved")
    context.cache_dir.rename(moved)
    for path in (moved / "noted").glob("*.npy"):
        os.utime(path, (1, 1))
    found = Context(moved).map_dask_array(noted, array, log)
    assert calls(log) == 0
    assert_identical(found.compute(), np.arange(10) * 2)
    moved.rename(context.cache_dir)
    assert_identical(first.compute(), np.arange(10) * 2)


def test_files_of_chunks_that_are_no_more_go(context):
    context.map_dask_array(np.sqrt, da.ones(10, chunks=2))
    context.map_dask_array(np.sqrt, da.ones(10, chunks=5))
    assert files(context, "sqrt") == [".done", "0.npy", "1.npy", "info"]
    assert sorted(path.name for path in (context.cache_dir / "sqrt" / ".done").iterdir()) == ["0.json", "1.json"]


def test_other_directories_and_the_source_itself_are_left_alone(context, tmp_path):
    (context.cache_dir / "mine").mkdir()
    (context.cache_dir / "mine" / "0.npy").touch()
    (context.cache_dir / "note").touch()
    array = da.ones(4, chunks=2)
    for name in ("mine", "note"):
        with pytest.raises(FileExistsError, match="give another name"):
            context.map_dask_array(np.sqrt, array, name=name)
    found = context.map_dask_array(np.sqrt, array, name="a")
    stack = da.from_npy_stack(context.cache_dir / "a")
    mapped = da.from_array(as_source(context.cache_dir / "a" / "0.npy"), chunks=1)
    for source in (found, found + 1, stack, (stack + 1)[::2], mapped):
        with pytest.raises(ArgumentError, match="read from"):
            context.map_dask_array(np.sqrt, source, name="a")
    assert_identical(context.map_dask_array(np.negative, found, name="b").compute(), -np.ones(4))


def test_what_is_no_dask_array_and_where_nothing_may_be_written_is_refused(context):
    with pytest.raises(DTypeError, match="from_array"):
        context.map_dask_array(np.sqrt, np.ones(3))
    with pytest.raises(ArgumentError, match="readonly"):
        Context(context.cache_dir, readonly=True).map_dask_array(np.sqrt, da.ones(3))


def test_files_belong_to_the_user_alone(context):
    context.map_dask_array(np.sqrt, da.ones(3))
    for path in (context.cache_dir / "sqrt").rglob("*"):
        assert path.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("workers", ["processes", "threads"])
def test_workers_write_the_results(context, log, tmp_path, workers):
    np.save(tmp_path / "a.npy", np.arange(100))
    array = da.from_array(np.load(tmp_path / "a.npy", mmap_mode="r"), chunks=9) + 1
    with ThreadPoolExecutor(2) as pool:
        context.workers = 2 if workers == "processes" else pool
        found = context.map_dask_array(noted, array, log)
        assert calls(log) == 12
        assert context.map_dask_array(noted, array, log).name == found.name
    context.workers = None
    assert context.map_dask_array(noted, array, log).name == found.name
    assert calls(log) == 0
    assert_identical(found.compute(), (np.arange(100) + 1) * 2)


@pytest.mark.parametrize("kind", ["array", "mapped", "copied", "Source"])
def test_graphs_that_are_sent_hold_no_more_than_their_chunk(context, tmp_path, monkeypatch, kind):
    np.save(tmp_path / "a.npy", np.zeros(20_000))
    mapped = np.load(tmp_path / "a.npy", mmap_mode="r")
    if kind == "mapped":  # dask copied none before 2026
        array = da.map_blocks(lambda: None, chunks=((100,) * 200,), dtype=float, meta=np.zeros(0))
        tasks = {(array.name, i): (getter, "whole", (slice(100 * i, 100 * i + 100),)) for i in range(200)}
        array = da.Array({**tasks, "whole": mapped}, array.name, array.chunks, float)
    else:
        source = {"array": np.array(mapped), "copied": mapped, "Source": as_source(tmp_path / "a.npy")}[kind]
        array = da.from_array(source, chunks=100)
    sent = []

    def run(task, files, keys, graphs, **options):
        sent.extend(len(pickle.dumps(graph)) for graph in graphs)
        return list(map(task, files, keys, graphs))

    monkeypatch.setattr(stacks.maps, "run", run)
    context.workers = 2
    assert_identical(context.map_dask_array(np.sqrt, array + 1).compute(), np.ones(20_000))
    assert len(sent) == 200
    assert max(sent) < 8000


CLUSTER = """
if __name__ == "__main__":
    import dask.array as da
    import numpy as np
    from dask.distributed import Client, LocalCluster

    from megalith import Context
    from megalith.exceptions import ArgumentError

    OFFSET = 5

    def shifted(chunk):
        return chunk + OFFSET, chunk.sum(keepdims=True)

    np.save("a.npy", np.arange(40).reshape(8, 5))
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster, Client(cluster) as client:
        context = Context("cache", workers=client)
        array = da.from_array(np.load("a.npy", mmap_mode="r"), chunks=(3, 4))
        both = context.map_dask_array(shifted, array, name=("all", "sums"))
        assert both[0].chunks == ((3, 3, 2), (4, 1)) and both[1].chunks == ((1, 1, 1), (1, 1))
        assert np.array_equal(both[0].compute(), np.arange(40).reshape(8, 5) + OFFSET)
        assert both[1].sum().compute() == np.arange(40).sum()
        try:
            context.map_dask_array(shifted, (array + 1).persist() * 2)
        except ArgumentError as error:
            print("persist()" in str(error))
"""


def test_a_dask_cluster_writes_the_results(tmp_path):
    code = f"import os; os.chdir({os.fspath(tmp_path)!r})\n{CLUSTER}"
    assert run_python(code, tmp_path, timeout_s=100).check() == "True\n"
