"""Compute functions by the conventions of Syncopy: orders of workers, dry runs, options in one dict."""

import itertools
import pickle

import h5py
import numpy as np
import pytest

from megalith.exceptions import ArgumentError, DTypeError, FormatError
from megalith.hdf5 import FauxTrial, unwrap_cfg, unwrap_io
from megalith.maps import run

SOURCE = np.arange(40.0).reshape(10, 4)


@unwrap_io
def scale(block, factor, offset=0, chunkShape=None, noCompute=None):
    if noCompute:
        return block.shape, block.dtype
    return factor * block + offset


@unwrap_io
def total(block):
    return block.sum(axis=0, keepdims=True)


@pytest.fixture
def place(tmp_path):
    with h5py.File(tmp_path / "in.h5", "w") as file:
        file["data"] = SOURCE
        file["group/other"] = -SOURCE
    return tmp_path


def read(path, name="data"):
    with h5py.File(path) as file:
        return file[name][()]


class TestFunctionsThatTakeOrders:
    def test_an_array_is_computed_in_place(self):
        assert np.array_equal(scale(SOURCE, 2, offset=1), 2 * SOURCE + 1)

    def test_a_dry_run_gives_shape_and_type(self):
        trial = FauxTrial((3, 4), np.float32, idx=(slice(0, 3), slice(None)), dimord=["time", "channel"])
        assert scale(trial, 2, noCompute=True) == ((3, 4), np.float32)

    def test_the_name_and_the_text_of_the_function_stay(self):
        assert scale.__name__ == "scale"
        assert total.__module__ == __name__

    def test_an_order_with_all_keys_of_a_virtual_result(self, place):
        order = {
            "infile": str(place / "in.h5"), "indset": "group/other", "ingrid": (slice(2, 5), 1), "inshape": (3, 1),
            "sigrid": None, "fancy": False, "hdr": None, "vdsdir": str(place), "outfile": str(place / "0.h5"),
            "outdset": "chk", "outgrid": (slice(0, 3), slice(0, 1)), "outshape": (3, 1), "dtype": np.dtype("f4"),
            "keeptrials": True, "call_id": "0_0",
        }  # fmt: skip
        assert scale(order, 2, offset=1) is None
        found = read(place / "0.h5", "chk")
        assert found.dtype == np.float32
        assert np.array_equal(found, 2 * -SOURCE[2:5, 1:2] + 1)

    def test_absent_keys_have_defaults(self, place):
        scale({"infile": place / "in.h5", "outfile": place / "out.h5"}, 3)
        assert np.array_equal(read(place / "out.h5"), 3 * SOURCE)

    def test_a_block_is_indexed_once_more_if_it_is_fancy(self, place):
        order = {
            "infile": place / "in.h5", "ingrid": (slice(0, 6), slice(0, 4)), "fancy": True,
            "sigrid": ([0, 0, 5], [3, 1]), "vdsdir": place, "outfile": place / "0.h5",
        }  # fmt: skip
        scale(order, 1)
        assert np.array_equal(read(place / "0.h5"), SOURCE[np.ix_([0, 0, 5], [3, 1])])

    def test_an_empty_selection_is_not_computed(self, place):
        order = {
            "infile": place / "in.h5", "ingrid": ([], slice(0, 4)), "vdsdir": place, "outfile": place / "0.h5",
            "outshape": (0, 4), "dtype": "f4",
        }  # fmt: skip
        scale(order, None)
        assert read(place / "0.h5").shape == (0, 4)

    def test_npy_and_raw_files_are_read_too(self, place):
        np.save(place / "in.npy", SOURCE)
        scale({"infile": place / "in.npy", "ingrid": (slice(1, 3),), "vdsdir": place, "outfile": place / "0.h5"}, 1)
        assert np.array_equal(read(place / "0.h5"), SOURCE[1:3])
        for i in range(2):
            (place / f"{i}.raw").write_bytes(b"header" + SOURCE.astype("<i2").tobytes())
        header = {"dtype": "<i2", "length": 6, "M": 10, "N": 4}
        order = {
            "infile": [place / "0.raw", place / "1.raw"], "hdr": [header, header], "ingrid": (slice(0, 2), slice(1, 3)),
            "vdsdir": place, "outfile": place / "1.h5",
        }  # fmt: skip
        scale(order, 1)
        assert np.array_equal(read(place / "1.h5"), np.vstack([SOURCE[:2, 1:3]] * 2))

    def test_results_go_into_a_file_that_is_there(self, place):
        with h5py.File(place / "out.h5", "w") as file:
            file.create_dataset("sum", (10, 4), "f8")
        for rows in (slice(0, 4), slice(4, 10)):
            order = {"infile": place / "in.h5", "ingrid": (rows,), "outfile": place / "out.h5", "outdset": "sum"}
            scale({**order, "outgrid": (rows, slice(None))}, 2)
        assert np.array_equal(read(place / "out.h5", "sum"), 2 * SOURCE)

    def test_sums_over_trials_count_each_call_once_and_leave_nans_out(self, place):
        with h5py.File(place / "in.h5", "r+") as file:
            file["data"][3, 2] = np.nan
        with h5py.File(place / "out.h5", "w") as file:
            file.create_dataset("data", (1, 4), "f8")
        for i in (0, 1, 1, 0):
            order = {"infile": place / "in.h5", "ingrid": (slice(5 * i, 5 * i + 5),), "outfile": place / "out.h5"}
            total({**order, "keeptrials": False, "call_id": i})
        wanted = SOURCE.sum(axis=0, keepdims=True)
        wanted[0, 2] = SOURCE[5:, 2].sum()
        assert np.array_equal(read(place / "out.h5"), wanted)

    def test_an_order_that_cannot_be_carried_out_says_why(self, place):
        with pytest.raises(ArgumentError, match="lacks 'outfile'"):
            scale({"infile": place / "in.h5"}, 1)
        with pytest.raises(ArgumentError, match="no such key: 'file'"):
            scale({"infile": place / "in.h5", "outfile": place / "out.h5", "file": 1}, 1)
        with pytest.raises(FileNotFoundError):
            scale({"infile": place / "nothing.h5", "outfile": place / "out.h5"}, 1)
        with pytest.raises(FormatError, match="no dataset 'x'"):
            scale({"infile": place / "in.h5", "indset": "x", "outfile": place / "out.h5"}, 1)
        assert not (place / "out.h5").exists()

    def test_an_exception_leaves_nothing_and_no_lock(self, place):
        @unwrap_io
        def fails(block):
            raise ZeroDivisionError

        with h5py.File(place / "out.h5", "w") as file:
            file.create_dataset("data", (3, 4), "f8")
        order = {"infile": place / "in.h5", "outfile": place / "out.h5"}
        with pytest.raises(ZeroDivisionError):
            fails(order)
        with pytest.raises((TypeError, ValueError)):
            scale(order, 1)  # 10 rows into 3
        scale({**order, "ingrid": (slice(0, 3),)}, 1)
        assert np.array_equal(read(place / "out.h5"), SOURCE[:3])

    @pytest.mark.parametrize("compression", [None, "gzip"])
    def test_many_processes_write_into_one_file(self, compression, place):
        with h5py.File(place / "out.h5", "w") as file:
            file.create_dataset("data", (10, 4), "f8", chunks=(4, 2), compression=compression)
        grids = list(itertools.product([slice(i, i + 1) for i in range(10)], [slice(0, 1), slice(1, 4)]))
        orders = [
            {"infile": place / "in.h5", "ingrid": grid, "outfile": place / "out.h5", "outgrid": grid} for grid in grids
        ]
        run(scale, orders, itertools.repeat(5), workers=4)
        assert np.array_equal(read(place / "out.h5"), 5 * SOURCE)

    def test_dask_workers_write_into_one_file_under_its_lock_too(self, place, dask_client):
        with h5py.File(place / "out.h5", "w") as file:
            file.create_dataset("data", (10, 4), "f8", chunks=(4, 2), compression="gzip")
        rows = [slice(i, i + 1) for i in range(10)]
        orders = [
            {"infile": place / "in.h5", "ingrid": (i,), "outfile": place / "out.h5", "outgrid": (i,)} for i in rows
        ]
        run(scale, orders, itertools.repeat(5), workers=dask_client)
        assert np.array_equal(read(place / "out.h5"), 5 * SOURCE)


class TestFauxTrials:
    def test_they_look_like_arrays(self):
        trial = FauxTrial((5, 1, 3), "f4", idx=(slice(0, 5), 0, slice(1, 4)), dimord=["a", "b", "c"])
        assert (trial.shape, trial.dtype, trial.ndim, trial.size, trial.nbytes) == ((5, 1, 3), np.float32, 3, 15, 60)
        assert len(trial) == 5
        assert trial.T.shape == (3, 1, 5)
        assert trial.T.dimord == ["c", "b", "a"]
        assert trial.T.idx == (slice(1, 4), 0, slice(0, 5))
        assert trial.squeeze().shape == (5, 3)
        assert str(trial) == "FauxTrial(shape=(5, 1, 3), dtype=float32)"

    def test_they_travel(self):
        trial = pickle.loads(pickle.dumps(FauxTrial([2, 3], "i2")))
        assert (trial.shape, trial.dtype, trial.idx, trial.T.dimord) == ((2, 3), np.int16, None, None)


@unwrap_cfg
def options(*data, **kwargs):
    return data, kwargs


class TestOptions:
    @pytest.mark.parametrize(
        ("args", "kwargs"),
        [
            ((1, {"a": 2}), {}),
            (({"a": 2}, 1), {}),
            ((1,), {"cfg": {"a": 2}}),
            (({"data": 1, "a": 2},), {}),
            ((), {"cfg": {"dataset": 1, "a": 2}}),
            ((1,), {"a": 2}),
            ((), {"data": 1, "a": 2}),
            ((1, {}), {"a": 2}),
            ((1, {"options": {"a": 2}, "other": {"a": 3}}), {}),
        ],
    )
    def test_all_ways_to_give_them_are_one(self, args, kwargs):
        assert options(*args, **kwargs) == ((1,), {"a": 2})

    def test_words_are_truth_values_and_the_dict_stays_as_it_is(self):
        cfg = {"a": "yes", "b": "no", "c": "maybe", "data": [1, 2]}
        assert options(cfg) == ((1, 2), {"a": True, "b": False, "c": "maybe"})
        assert cfg == {"a": "yes", "b": "no", "c": "maybe", "data": [1, 2]}

    @pytest.mark.parametrize(
        ("args", "kwargs", "match"),
        [
            (({}, {}), {}, "2 dicts"),
            (({"a": 1},), {"cfg": {"a": 2}}, "2 dicts"),
            ((1, {"a": 2}), {"a": 3}, "a: given in cfg and beside it"),
            (({"data": 1, "dataset": 2},), {}, "data and dataset"),
        ],
    )
    def test_what_is_given_twice_is_refused(self, args, kwargs, match):
        with pytest.raises(ArgumentError, match=match):
            options(*args, **kwargs)

    def test_what_is_no_dict_is_refused(self):
        with pytest.raises(DTypeError, match="cfg: got int"):
            options(1, cfg=3)

    def test_orders_pass(self, place):
        both = unwrap_cfg(scale)
        both({"infile": place / "in.h5", "outfile": place / "0.h5"}, 2, {"offset": 1})
        assert np.array_equal(read(place / "0.h5"), 2 * SOURCE + 1)
        assert np.array_equal(both(SOURCE, 2, cfg={"offset": 1}), 2 * SOURCE + 1)
