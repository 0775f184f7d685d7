"""Each layout on each kind of worker gives what a loop gives, and keeps what was done."""

import h5py
import numpy as np
import pytest

from megalith import Context
from megalith.arrays import as_source
from megalith.hdf5 import compute, open_virtual

from .conftest import values

LAYOUTS = [
    pytest.param({"layout": "virtual"}, id="virtual"),
    pytest.param({"layout": "single"}, id="single"),
    pytest.param({"layout": "virtual", "compression": "gzip"}, id="virtual-gzip"),
    pytest.param({"layout": "single", "compression": "gzip"}, id="single-gzip"),
]
SHAPES = [(101,), (23, 7), (11, 5, 4), (9, 4, 3, 5)]
RECORD = np.dtype([("time", "<i8"), ("position", "<f4", (3,)), ("is_good", "?")], align=True)
DTYPES = [
    "?", "i1", "u1", "<i2", ">u2", "i4", "u4", ">i8", "u8", "f2", "f4", ">f8", "g", "c8", "c16", "S5", "V3",
    [("a", "u1"), ("b", ">f8")], RECORD,
]  # fmt: skip


def turned(block):
    """The block with its elements back to front, and a type of its own."""
    return block[..., ::-1]


def reduced(block):
    return block.sum(axis=0, keepdims=True)


def expanded(block):
    return np.repeat(block, 2, axis=0)


def loop(func, source, cuts):
    return np.concatenate([func(source[a:b]) for a, b in zip(cuts, cuts[1:])])  # noqa: B905, RUF007


def cuts_of(n, blocks):
    return [i * n // blocks for i in range(blocks + 1)]


def read(sink, dataset="data"):
    with open_virtual(sink) as file:
        return file[dataset][()]


def same(a, b):
    """Whether arrays have the same type, shape and bytes (of records those that mean something)."""
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    if a.dtype.names is not None:
        return all(same(a[name], b[name]) for name in a.dtype.names)
    return np.array_equal(a, b) if a.dtype.char in "gG" else a.tobytes() == b.tobytes()


def noted(block, calls, bad=()):
    calls.add(int(block[0, 0]))
    if int(block[0, 0]) in bad and not calls.path.with_name("mended").exists():
        raise ZeroDivisionError(f"bad data at {block[0, 0]}")
    return block + 1


class LayoutTests:
    """What holds for every kind of worker: a subclass gives the workers."""

    @pytest.fixture
    def context(self, workers, tmp_path):
        return Context(tmp_path / "cache", workers=workers)

    @pytest.mark.parametrize("options", LAYOUTS)
    def test_results_are_those_of_a_loop_for_sources_of_1_to_4_dimensions_and_uneven_blocks(
        self, options, context, tmp_path
    ):
        for shape in SHAPES:
            source, cuts = values(shape), cuts_of(shape[0], 4)
            for func in (turned, reduced, expanded):
                sink = compute(
                    func, source, tmp_path / f"{func.__name__}-{len(shape)}.h5", blocks=4, context=context, **options
                )
                assert same(read(sink), loop(func, source, cuts))

    @pytest.mark.parametrize("options", LAYOUTS)
    def test_every_type_that_hdf5_can_hold_comes_back_as_it_was(self, options, context, tmp_path):
        for i, dtype in enumerate(DTYPES):
            source = values((10, 3), dtype)
            sink = compute(turned, source, tmp_path / f"{i}.h5", blocks=3, context=context, **options)
            assert same(read(sink), source[:, ::-1]), dtype

    @pytest.mark.parametrize("layout", ["virtual", "single"])
    def test_sources_may_be_anywhere(self, layout, context, tmp_path):
        source = values((40, 3))
        np.save(tmp_path / "a.npy", source)
        np.save(tmp_path / "fortran.npy", np.asfortranarray(source))
        source.tofile(tmp_path / "a.raw")
        with h5py.File(tmp_path / "a.h5", "w") as file:
            file["group/one"] = source
            file["two"] = source.astype("f4")
        with h5py.File(tmp_path / "a.h5") as opened:
            sources = {
                "ndarray": source,
                "part": np.repeat(source, 2, axis=1)[:, ::2],
                "memmap": np.load(tmp_path / "a.npy", mmap_mode="r"),
                "npy": tmp_path / "a.npy",
                "fortran": str(tmp_path / "fortran.npy"),
                "raw": as_source(tmp_path / "a.raw", dtype="f8", shape=(40, 3)),
                "dataset": opened["group/one"],
                "pair": (tmp_path / "a.h5", "group/one"),
            }
            for name, place in sources.items():
                sink = compute(turned, place, tmp_path / f"{name}-sink.h5", blocks=3, layout=layout, context=context)
                assert same(read(sink), source[:, ::-1]), name

    def test_a_zarr_array_is_a_source(self, context, tmp_path):
        zarr = pytest.importorskip("zarr")
        source = values((40, 3))
        array = zarr.create_array(tmp_path / "a.zarr", shape=source.shape, dtype=source.dtype, chunks=(8, 3))
        array[...] = source
        for name, place in {"array": array, "path": tmp_path / "a.zarr"}.items():
            assert same(
                read(compute(turned, place, tmp_path / f"{name}.h5", blocks=3, context=context)), source[:, ::-1]
            )

    def test_means_are_those_of_all_blocks_in_order(self, context, tmp_path):
        source = values((60, 5), "f4")
        sink = compute(reduced, source, tmp_path / "mean.h5", blocks=7, keeptrials=False, context=context)
        parts = [reduced(source[a:b]) for a, b in zip(cuts_of(60, 7), cuts_of(60, 7)[1:])]  # noqa: B905
        assert same(read(sink), np.mean(parts, axis=0, dtype="f8").astype("f4"))
        assert {path.name for path in tmp_path.iterdir()} <= {"cache", "mean.h5"}

    @pytest.mark.parametrize("options", LAYOUTS)
    def test_a_block_that_raises_is_named_and_the_rest_is_kept(self, options, context, calls, tmp_path):
        source = np.arange(20.0).reshape(10, 2)
        ask = {"args": (calls, (8,)), "blocks": 5, "context": context, **options}
        with pytest.raises(ZeroDivisionError, match="bad data at 8") as error:
            compute(noted, source, tmp_path / "sink.h5", **ask)
        assert any("block 2 of 5, source[4:6, 0:2]" in note for note in error.value.__notes__)
        assert sorted(map(int, calls.all())) == [0, 4, 8, 12, 16]
        assert not (tmp_path / "sink.h5").exists()
        calls.clear()
        calls.path.with_name("mended").touch()
        assert same(read(compute(noted, source, tmp_path / "sink.h5", **ask)), source + 1)
        assert calls.all() == ["8"]

    @pytest.mark.parametrize("options", LAYOUTS)
    def test_a_complete_result_is_not_computed_again(self, options, context, calls, tmp_path):
        source = np.arange(20.0).reshape(10, 2)
        for _ in range(2):
            sink = compute(noted, source, tmp_path / "sink.h5", args=(calls,), blocks=5, context=context, **options)
        assert len(calls.all()) == 5
        assert same(read(sink), source + 1)
        kept = {path.name for path in tmp_path.glob("sink.h5.blocks/*")}
        blocks = {f"{i}.{suffix}" for i in range(5) for suffix in ("h5", "json")}
        assert kept == (blocks | {"run.json"} if options["layout"] == "virtual" else set())


class TestHere(LayoutTests):
    @pytest.fixture
    def workers(self):
        return None


class TestOnThreads(LayoutTests):
    @pytest.fixture
    def workers(self, threads):
        return threads


class TestOnProcesses(LayoutTests):
    @pytest.fixture
    def workers(self, processes):
        return processes


class TestOnLoky(LayoutTests):
    @pytest.fixture
    def workers(self):
        return 2


class TestOnIpyparallel(LayoutTests):
    @pytest.fixture
    def workers(self, ipyparallel_client):
        return ipyparallel_client.load_balanced_view()


class TestOnDask(LayoutTests):
    @pytest.fixture
    def workers(self, dask_client):
        return dask_client
