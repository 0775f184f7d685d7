"""`read` and `write` move bytes between files and memory, whole or in slices."""

import os

import h5py
import numpy as np
import pytest

import megalith
from megalith.arrays import Source
from megalith.exceptions import ArgumentError, DTypeError, IndexRangeError, MegalithError, ShapeError
from megalith.testing.cases import ALL, LARGE, assert_identical, pairs, sample, shape_of
from megalith.testing.layouts import LAYOUTS, SINK_LAYOUTS, empty_like_layout

CASES = pairs(
    {
        "dtype": ALL,
        "layout": list(LAYOUTS),
        "sink": [None, *SINK_LAYOUTS],
        "ndim": range(6),
        "size": (0, 1, 1000, LARGE),
        "threads": (1, 2, 8),
        "blocks": (1, 3, 1000),
    },
    excluded=lambda c: c.get("ndim") == 0 and c.get("size", 1) != 1,
)
RECORD = np.dtype([("a", "<u2"), ("b", ">f8"), ("c", "u1", (3,))])
KEYS = [
    np.s_[3],
    np.s_[-1],
    np.s_[2:7],
    np.s_[:, 4],
    np.s_[1:9:3, ::2],
    np.s_[::-1],
    np.s_[..., 5],
    np.s_[2:5, 1:6, 3:4],
    np.s_[5:5],
    np.s_[..., ::-2],
]


@pytest.mark.parametrize("case", CASES, ids=lambda c: "-".join(map(str, c.values())))
def test_write_and_read_give_the_array_back_for_every_pair_of_conditions(tmp_path, case):
    values = LAYOUTS[case["layout"]](sample(case["dtype"], shape_of(case["size"], case["ndim"])))
    path = tmp_path / "array.npy"
    written = megalith.write(path, values, blocks=case["blocks"], processes=case["threads"])
    assert isinstance(written, Source)
    stored = np.load(path)
    assert stored.dtype == values.dtype
    assert stored.shape == values.shape
    assert stored.tobytes() == values.tobytes()
    sink = None if case["sink"] is None else empty_like_layout(case["sink"], values.shape, values.dtype)
    got = megalith.read(path, sink, blocks=case["blocks"], processes=case["threads"])
    assert isinstance(got, Source)
    assert got.array.astype(values.dtype).tobytes() == values.tobytes()
    if sink is not None:
        assert sink.astype(values.dtype).tobytes() == values.tobytes()


@pytest.mark.parametrize("dtype", [RECORD, np.dtype("S5"), np.dtype("U3"), np.dtype("V7")], ids=str)
def test_write_and_read_move_items_of_any_kind(tmp_path, dtype):
    values = np.zeros((7, 11), dtype=dtype)
    if dtype.kind in "SU":
        values[...] = "ab"
    else:
        values.view(np.uint8)[...] = np.random.default_rng(0).integers(0, 255, values.nbytes).reshape(7, -1)
    megalith.write(tmp_path / "a.npy", values)
    assert np.load(tmp_path / "a.npy").tobytes() == values.tobytes()
    assert megalith.read(tmp_path / "a.npy").array.tobytes() == values.tobytes()


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("key", KEYS, ids=str)
def test_read_of_a_slice_equals_slicing(tmp_path, order, key):
    values = np.asarray(sample("int32", (10, 11, 12)), order=order)
    np.save(tmp_path / "a.npy", values)
    got = megalith.read(tmp_path / "a.npy", slicing=key)
    assert_identical(got.array, np.ascontiguousarray(values[key]).reshape(values[key].shape))


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("key", KEYS, ids=str)
def test_write_into_a_slice_of_a_file_equals_assignment(tmp_path, order, key):
    values = np.asarray(sample("int32", (10, 11, 12)), order=order)
    np.save(tmp_path / "a.npy", values)
    part = sample("int32", values[key].shape, seed=9)
    expected = values.copy()
    expected[key] = part
    megalith.write(tmp_path / "a.npy", part, slicing=key)
    assert_identical(np.load(tmp_path / "a.npy"), expected)


@pytest.mark.parametrize("key", [np.s_[10], np.s_[-11], np.s_[:, 4:99], np.s_[20:30]], ids=str)
def test_read_of_a_slice_outside_of_the_array_is_an_index_error(tmp_path, key):
    np.save(tmp_path / "a.npy", np.zeros((10, 11)))
    with pytest.raises(IndexRangeError, match="axis"):
        megalith.read(tmp_path / "a.npy", slicing=key)


def test_write_into_a_slice_outside_of_the_file_leaves_it_as_it_was(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((10, 11)))
    before = (tmp_path / "a.npy").read_bytes()
    with pytest.raises(IndexRangeError):
        megalith.write(tmp_path / "a.npy", np.ones(11), slicing=10)
    assert (tmp_path / "a.npy").read_bytes() == before


@pytest.mark.parametrize("key", [np.s_[0, 0, 0], "text", 1.5, (Ellipsis, Ellipsis)], ids=str)
def test_read_refuses_what_is_no_slice_of_the_array(tmp_path, key):
    np.save(tmp_path / "a.npy", np.zeros((10, 11)))
    with pytest.raises((ShapeError, ArgumentError, DTypeError)):
        megalith.read(tmp_path / "a.npy", slicing=key)


def test_write_into_a_slice_refuses_values_of_another_shape(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((10, 11)))
    with pytest.raises(ShapeError):
        megalith.write(tmp_path / "a.npy", np.ones((3, 3)), slicing=np.s_[2:4])


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("offset", [0, 7, 4096])
@pytest.mark.parametrize("dtype", ["uint8", ">i2", "float64"])
def test_read_of_a_raw_file_takes_type_shape_offset_and_order(tmp_path, order, offset, dtype):
    values = np.random.default_rng(0).integers(0, 100, (13, 17)).astype(dtype)
    raw = np.asarray(values, order=order)
    (tmp_path / "a.bin").write_bytes(b"x" * offset + raw.tobytes(order="A"))
    got = megalith.read(tmp_path / "a.bin", dtype=dtype, shape=(13, 17), offset=offset, order=order)
    assert got.array.tolist() == values.tolist()
    part = megalith.read(
        tmp_path / "a.bin", slicing=np.s_[3:9, ::2], dtype=dtype, shape=(13, 17), offset=offset, order=order
    )
    assert part.array.tolist() == values[3:9, ::2].tolist()


def test_read_of_a_raw_file_shorter_than_its_shape_is_an_error(tmp_path):
    (tmp_path / "a.bin").write_bytes(b"x" * 99)
    with pytest.raises(MegalithError, match="99"):
        megalith.read(tmp_path / "a.bin", dtype="uint8", shape=(100,))


def test_read_of_a_large_file_on_two_threads_equals_load(tmp_path):
    values = np.random.default_rng(0).integers(0, 255, (40, 1000, 500), dtype=np.uint8)
    np.save(tmp_path / "a.npy", values)
    assert_identical(megalith.read(tmp_path / "a.npy", processes=2).array, values)


def test_read_of_an_hdf5_dataset_gives_its_values_or_a_slice(tmp_path):
    values = sample("float32", (20, 30, 40))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        dataset = file.create_dataset("x", data=values, chunks=(7, 8, 9))
        assert_identical(np.asarray(megalith.read(dataset).array), values)
        part = megalith.read(dataset, slicing=np.s_[3:9, 5, ::2])
        assert_identical(np.asarray(part.array), values[3:9, 5, ::2].copy())


def test_write_of_an_hdf5_dataset_gives_the_file_its_values(tmp_path):
    values = sample("int16", (20, 30, 40))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        dataset = file.create_dataset("x", data=values, chunks=(7, 8, 9))
        megalith.write(tmp_path / "a.npy", dataset)
    assert_identical(np.load(tmp_path / "a.npy"), values)


def test_write_into_a_slice_of_an_hdf5_dataset_equals_assignment(tmp_path):
    values = sample("int16", (20, 30))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        dataset = file.create_dataset("x", data=np.zeros_like(values))
        megalith.write(dataset, values[5:9], slicing=np.s_[5:9])
        expected = np.zeros_like(values)
        expected[5:9] = values[5:9]
        assert_identical(dataset[()], expected)


def test_write_into_an_array_copies(tmp_path):
    sink, values = np.zeros((3, 4)), np.arange(12.0).reshape(3, 4)
    megalith.write(sink, values)
    assert_identical(sink, values)


def test_write_of_a_path_copies_the_file(tmp_path):
    values = sample("complex64", (30, 40))
    np.save(tmp_path / "a.npy", values)
    megalith.write(tmp_path / "b.npy", tmp_path / "a.npy")
    assert_identical(np.load(tmp_path / "b.npy"), values)


def test_write_replaces_a_file_by_default(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros(3))
    megalith.write(tmp_path / "a.npy", np.ones((2, 2), dtype=np.uint8))
    assert_identical(np.load(tmp_path / "a.npy"), np.ones((2, 2), dtype=np.uint8))


def test_write_over_a_file_leaves_those_who_mapped_it_with_their_bytes(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros(1000))
    mapped = np.load(tmp_path / "a.npy", mmap_mode="r")
    megalith.write(tmp_path / "a.npy", np.ones(10))
    assert (mapped == 0).all()


@pytest.mark.parametrize(
    "other", [np.ones(4), np.ones(3, dtype=np.float32), np.ones((3, 1))], ids=["n", "dtype", "ndim"]
)
def test_write_without_overwrite_refuses_another_specification(tmp_path, other):
    np.save(tmp_path / "a.npy", np.zeros(3))
    before = (tmp_path / "a.npy").read_bytes()
    with pytest.raises(FileExistsError):
        megalith.write(tmp_path / "a.npy", other, overwrite=False)
    assert (tmp_path / "a.npy").read_bytes() == before


def test_write_without_overwrite_fills_a_file_of_the_same_specification(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros(3))
    megalith.write(tmp_path / "a.npy", np.arange(3.0), overwrite=False)
    assert np.load(tmp_path / "a.npy").tolist() == [0, 1, 2]


def test_write_makes_files_that_belong_to_their_user_as_his_umask_says(tmp_path):
    old = os.umask(0o027)
    try:
        megalith.write(tmp_path / "a.npy", np.zeros(3))
    finally:
        os.umask(old)
    assert (tmp_path / "a.npy").stat().st_mode & 0o137 == 0


def test_write_leaves_nothing_but_the_file(tmp_path):
    megalith.write(tmp_path / "a.npy", np.zeros(LARGE), processes=2)
    assert [path.name for path in tmp_path.iterdir()] == ["a.npy"]


def test_write_of_a_file_onto_itself_leaves_its_values(tmp_path):
    values = sample("int32", (50, 60))
    np.save(tmp_path / "a.npy", values)
    megalith.write(tmp_path / "a.npy", tmp_path / "a.npy")
    assert_identical(np.load(tmp_path / "a.npy"), values)


def test_read_refuses_a_sink_of_another_shape(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros(3))
    with pytest.raises(ShapeError):
        megalith.read(tmp_path / "a.npy", np.zeros(4))


@pytest.mark.parametrize(("name", "value"), [("blocks", 0), ("processes", 0), ("processes", -3)])
def test_read_and_write_refuse_impossible_counts(tmp_path, name, value):
    np.save(tmp_path / "a.npy", np.zeros(3))
    with pytest.raises(ArgumentError, match=name):
        megalith.read(tmp_path / "a.npy", **{name: value})
    with pytest.raises(ArgumentError, match=name):
        megalith.write(tmp_path / "b.npy", np.zeros(3), **{name: value})
    assert not (tmp_path / "b.npy").exists()
