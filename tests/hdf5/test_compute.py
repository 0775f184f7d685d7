"""What a run is made of: plan, dry run, checks, records, and what becomes of files that were moved, lost or damaged."""

import json
import logging
import os
import shutil
import threading

import h5py
import numpy as np
import pytest

import megalith
from megalith import Context, shared
from megalith.exceptions import ArgumentError, DTypeError, FormatError, IndexRangeError, OutOfMemoryError, ShapeError
from megalith.hdf5 import compute, open_virtual, unwrap_cfg, unwrap_io

SOURCE = np.arange(60.0).reshape(12, 5)


def double(block):
    return 2 * block


def add(block, amount=1):
    return block + amount


@unwrap_io
def spectrum(block, n, chunkShape=None, noCompute=None, scale=1.0):
    if noCompute:
        return (1, n), np.float32
    assert chunkShape == (1, n)
    return np.full((1, n), scale * block.sum(), np.float32)


def noted(block, calls):
    calls.add(int(block.flat[0]))
    return block + 1


ENTERED, GO_ON, CALLS = threading.Event(), threading.Event(), []


def slow(block):
    CALLS.append(1)
    ENTERED.set()
    assert GO_ON.wait(60)
    return block


def read(sink, dataset="data"):
    with open_virtual(sink) as file:
        return file[dataset][()]


class TestBlocks:
    def test_boxes_that_form_a_grid_give_results_that_form_it_too(self, tmp_path):
        boxes = [(slice(a, b), slice(c, d)) for c, d in ((3, 5), (0, 3)) for a, b in ((0, 7), (7, 12))]
        for layout in ("virtual", "single"):
            assert np.array_equal(
                read(compute(double, SOURCE, tmp_path / layout, blocks=boxes, layout=layout)), 2 * SOURCE
            )

    def test_boxes_along_the_first_axis_give_results_in_their_order(self, tmp_path):
        trials = [slice(8, 12), (slice(0, 3), slice(1, 4)), (slice(2, 4), ...)]
        with pytest.raises(ShapeError, match="block 1: its result has shape"):
            compute(double, SOURCE, tmp_path / "a.h5", blocks=trials)
        sink = compute(double, SOURCE, tmp_path / "b.h5", blocks=[slice(8, 12), (slice(0, 3), ...), slice(2, 4)])
        assert np.array_equal(read(sink), 2 * SOURCE[[8, 9, 10, 11, 0, 1, 2, 2, 3]])

    def test_there_are_at_most_as_many_blocks_as_indices(self, tmp_path, calls):
        compute(noted, SOURCE, tmp_path / "a.h5", args=(calls,), blocks=100)
        assert len(calls.all()) == 12

    def test_results_without_axes_are_one_element_each(self, tmp_path):
        sink = compute(np.sum, SOURCE, tmp_path / "a.h5", blocks=[slice(0, 6), slice(6, 12)])
        assert np.array_equal(read(sink), [SOURCE[:6].sum(), SOURCE[6:].sum()])

    def test_results_of_any_length_go_into_a_virtual_dataset(self, tmp_path):
        source = np.array([3, 0, 0, 1, 0, 0, 2, 2])
        for layout, compression in (("virtual", None), ("virtual", "gzip")):
            sink = compute(
                np.flatnonzero, source, tmp_path / f"{compression}.h5", blocks=4, layout=layout, compression=compression
            )
            assert read(sink).tolist() == [0, 1, 0, 1]
        with pytest.raises(ShapeError, match="expected"):
            compute(np.flatnonzero, source, tmp_path / "a.h5", blocks=4, layout="single")

    def test_an_empty_source_gives_an_empty_result(self, tmp_path):
        for layout in ("virtual", "single"):
            assert read(compute(double, np.zeros((0, 3)), tmp_path / layout, layout=layout)).shape == (0, 3)

    @pytest.mark.parametrize("blocks", [0, -1, 2.5, [], [3], [slice(0, 4, 2)], "two"])
    def test_what_is_no_block_is_refused(self, blocks, tmp_path):
        with pytest.raises(ArgumentError, match="blocks"):
            compute(double, SOURCE, tmp_path / "a.h5", blocks=blocks)

    def test_a_box_outside_of_the_source_is_refused(self, tmp_path):
        with pytest.raises(IndexRangeError, match="outside of axis 0"):
            compute(double, SOURCE, tmp_path / "a.h5", blocks=[slice(0, 13)])


class TestFunctions:
    def test_a_dry_run_says_what_a_function_gives_and_the_largest_shape_is_passed_on(self, tmp_path):
        for layout in ("virtual", "single"):
            sink = compute(spectrum, SOURCE, tmp_path / layout, args=(4,), cfg={"scale": 2}, blocks=5, layout=layout)
            sums = [2 * SOURCE[i * 12 // 5 : (i + 1) * 12 // 5].sum() for i in range(5)]
            assert np.array_equal(read(sink), np.repeat(np.array(sums, "f4")[:, None], 4, axis=1))

    def test_a_function_that_says_one_shape_and_returns_another_is_an_error(self, tmp_path):
        def liar(block, noCompute=None):
            return ((3, 3), "f8") if noCompute else block

        with pytest.raises(ShapeError, match=r"returned \(4, 5\), expected \(3, 3\)"):
            compute(liar, SOURCE, tmp_path / "a.h5", blocks=3)

    def test_a_dry_run_that_gives_no_shape_is_an_error(self, tmp_path):
        with pytest.raises(DTypeError, match="noCompute=True"):
            compute(lambda block, noCompute=None: block, SOURCE, tmp_path / "a.h5")

    @pytest.mark.parametrize(
        "result", [None, "text", np.array([object()]), np.array(["a"]), np.ma.zeros(3), np.array(["2026"], "M8[Y]")]
    )
    def test_results_that_hdf5_cannot_hold_are_refused(self, result, tmp_path):
        with pytest.raises(DTypeError, match="func"):
            compute(lambda block: result, SOURCE, tmp_path / "a.h5", blocks=2)

    def test_results_of_two_types_are_refused(self, tmp_path):
        with pytest.raises(DTypeError, match="for one block and"):
            compute(lambda block: block if block[0, 0] else block > 0, SOURCE, tmp_path / "a.h5", blocks=3)

    def test_a_function_may_change_its_block(self, tmp_path):
        source = SOURCE.copy()

        def spoil(block):
            block += 1
            return block

        assert np.array_equal(read(compute(spoil, source, tmp_path / "a.h5", blocks=3)), SOURCE + 1)
        assert np.array_equal(source, SOURCE)

    def test_options_may_come_through_both_decorators(self, tmp_path):
        @unwrap_cfg
        @unwrap_io
        def scale(block, factor=1):
            return factor * block

        sink = compute(scale, SOURCE, tmp_path / "a.h5", cfg={"factor": 3}, blocks=2)
        assert np.array_equal(read(sink), 3 * SOURCE)

    def test_means_need_results_of_one_shape_and_numbers(self, tmp_path):
        with pytest.raises(ShapeError, match="one shape"):
            compute(double, SOURCE, tmp_path / "a.h5", blocks=5, keeptrials=False)
        with pytest.raises(DTypeError, match="no mean of dtype"):
            compute(lambda block: block.astype("S8"), SOURCE, tmp_path / "b.h5", blocks=3, keeptrials=False)

    @pytest.mark.parametrize("dtype", ["?", "u1", "i8", "f2", "f4", "c8", "c16"])
    def test_means_have_the_type_that_numpy_gives(self, dtype, tmp_path):
        source = SOURCE.astype(dtype)
        sink = compute(np.copy, source, tmp_path / "a.h5", blocks=3, keeptrials=False, compression="gzip")
        wanted = np.mean(np.split(source, 3), axis=0)
        assert read(sink).dtype == wanted.dtype
        assert np.allclose(read(sink), wanted, rtol=1e-3)


class TestSources:
    def test_an_hdf5_file_with_several_datasets_needs_a_name(self, tmp_path):
        with h5py.File(tmp_path / "a.h5", "w") as file:
            file["one"] = SOURCE
            file["group/two"] = SOURCE
        with pytest.raises(ArgumentError, match="'group/two', 'one'"):
            compute(double, tmp_path / "a.h5", tmp_path / "sink.h5")
        sink = compute(double, tmp_path / "a.h5", tmp_path / "sink.h5", dataset="one")
        assert np.array_equal(read(sink, "one"), 2 * SOURCE)
        with pytest.raises(FormatError, match="no dataset 'three'"):
            compute(double, (tmp_path / "a.h5", "three"), tmp_path / "other.h5")

    def test_a_dataset_that_is_open_for_writing_is_read_as_it_is(self, tmp_path):
        with h5py.File(tmp_path / "a.h5", "w") as file:
            dataset = file.create_dataset("x", data=SOURCE, chunks=(2, 5), compression="gzip")
            sink = compute(double, dataset, tmp_path / "sink.h5", blocks=3, context=Context(tmp_path / "c", workers=2))
        assert np.array_equal(read(sink), 2 * SOURCE)

    def test_a_result_is_a_source_unless_a_part_of_it_is_missing(self, tmp_path):
        first = compute(double, SOURCE, tmp_path / "first.h5", blocks=3)
        assert np.array_equal(read(compute(double, first, tmp_path / "second.h5", blocks=2)), 4 * SOURCE)
        (tmp_path / "first.h5.blocks" / "2.h5").unlink()
        with pytest.raises(FileNotFoundError, match=r"first\.h5\.blocks/2\.h5"):
            compute(double, first, tmp_path / "third.h5")

    def test_a_shared_array_is_mapped_by_the_workers(self, tmp_path):
        name = f"hdf5-{os.getpid()}"
        array = shared.cache(name, SOURCE, verbose=False)
        try:
            context = Context(tmp_path / "cache", workers=2)
            assert np.array_equal(
                read(compute(double, array, tmp_path / "a.h5", blocks=3, context=context)), 2 * SOURCE
            )
        finally:
            shared.free(name)

    def test_an_hdf5_file_in_memory_is_a_source(self, tmp_path):
        context = Context(tmp_path / "cache", workers=2)
        with h5py.File("nowhere.h5", "w", driver="core", backing_store=False) as file:
            file["x"] = SOURCE
            assert np.array_equal(read(compute(double, file["x"], tmp_path / "a.h5", context=context)), 2 * SOURCE)
            assert np.array_equal(read(compute(double, file, tmp_path / "b.h5", blocks=2)), 2 * SOURCE)

    def test_a_result_one_of_whose_blocks_has_changed_is_another_source(self, tmp_path):
        first = compute(double, SOURCE, tmp_path / "first.h5", blocks=3)
        compute(double, first, tmp_path / "second.h5")
        with h5py.File(tmp_path / "first.h5.blocks" / "1.h5", "r+") as file:
            file["data"][0, 0] = 7
        os.utime(tmp_path / "first.h5.blocks" / "1.h5", (1, 1))
        with pytest.raises(FormatError, match="source differ"):
            compute(double, first, tmp_path / "second.h5")

    def test_concatenated_files_are_a_source(self, tmp_path):
        for i, part in enumerate(np.split(SOURCE, 3)):
            np.save(tmp_path / f"{i}.npy", part)
        joined = megalith.ConcatenatedArrays([np.load(tmp_path / f"{i}.npy", mmap_mode="r") for i in range(3)])
        assert np.array_equal(read(compute(double, joined, tmp_path / "a.h5", blocks=2)), 2 * SOURCE)

    def test_what_is_not_there_is_an_error(self, tmp_path):
        with pytest.raises(FileNotFoundError):
            compute(double, tmp_path / "nothing.h5", tmp_path / "sink.h5")
        with pytest.raises(FileNotFoundError):
            compute(double, SOURCE, tmp_path / "nowhere" / "sink.h5")
        with pytest.raises(ShapeError, match="no axes"):
            compute(double, np.array(3.0), tmp_path / "sink.h5")
        assert list(tmp_path.iterdir()) == []


class TestResults:
    def test_the_sink_is_returned_and_says_how_it_was_made(self, tmp_path):
        sink = compute(add, SOURCE, tmp_path / "a.h5", args=(3,), blocks=3, dataset="group/sum")
        assert sink == tmp_path / "a.h5"
        with h5py.File(sink) as file:
            found = dict(file["group/sum"].attrs)
        assert found["function"].endswith("add")
        assert (found["arguments"], found["cfg"], found["blocks"]) == ("(3,)", "{}", 3)
        assert json.loads(found["versions"])["h5py"] == h5py.__version__
        assert len(found["code"]) == 32

    def test_without_a_sink_the_result_is_in_the_directory_of_the_context(self, tmp_path, calls):
        context = Context(tmp_path / "cache")
        ask = {"args": (calls,), "blocks": 3, "context": context}
        sinks = [compute(noted, SOURCE, **ask), compute(noted, SOURCE, **ask), compute(noted, SOURCE + 1, **ask)]
        assert sinks[0] == sinks[1] != sinks[2]
        assert len(calls.all()) == 6
        assert (tmp_path / "cache") in sinks[0].parents
        with pytest.raises(ArgumentError, match="sink"):
            compute(double, SOURCE)
        with pytest.raises(ArgumentError, match="sink"):
            compute(double, SOURCE, context=Context(tmp_path / "cache", readonly=True))

    def test_files_have_the_permissions_that_the_user_gives_new_files(self, tmp_path):
        before = os.umask(0o027)
        try:
            sinks = [compute(double, SOURCE, tmp_path / name, layout=name) for name in ("virtual", "single")]
        finally:
            os.umask(before)
        block = tmp_path / "virtual.blocks" / "0.h5"
        assert [oct(path.stat().st_mode)[-3:] for path in (*sinks, block, block.parent)] == ["640", "640", "640", "750"]

    def test_a_single_result_leaves_no_other_files(self, tmp_path):
        for compression in (None, "gzip", "lzf", 4):
            compute(double, SOURCE, tmp_path / f"{compression}", blocks=3, layout="single", compression=compression)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["4", "None", "gzip", "lzf"]

    def test_a_compressed_result_is_compressed_whatever_the_cut(self, tmp_path):
        source = np.arange(2**18).reshape(2**10, -1) // 1000
        for blocks in (
            1,
            4,
            3,
            [slice(0, 600), slice(600, 1024)],
            [(slice(a, b), slice(c, d)) for a, b in ((0, 512), (512, 1024)) for c, d in ((0, 3), (3, 256))],
        ):
            sink = compute(
                double, source, tmp_path / "a.h5", blocks=blocks, layout="single", compression="gzip", resume=False
            )
            with h5py.File(sink) as file:
                assert np.array_equal(file["data"][()], 2 * source)
                assert file["data"].compression == "gzip"
                assert file["data"].id.get_storage_size() < source.nbytes / 4

    def test_compressed_blocks_are_moved_as_they_are_where_chunks_fit(self, tmp_path, monkeypatch):
        moved = []
        from megalith.hdf5 import files

        move = files.move_chunks
        monkeypatch.setattr(files, "move_chunks", lambda *args: (moved.append(args[2]), move(*args)))

        def dry(block, noCompute=None):
            return (block.shape, block.dtype) if noCompute else block

        source = np.arange(2**18).reshape(2**10, -1)
        compute(dry, source, tmp_path / "a.h5", blocks=4, layout="single", compression="gzip")
        assert moved == [(0, 0), (256, 0), (512, 0), (768, 0)]

    def test_names_with_signs_that_hdf5_reads_are_taken_literally(self, tmp_path):
        sink = compute(double, SOURCE, tmp_path / "a %b 100%.h5", blocks=3, dataset="50%b")
        assert np.array_equal(read(sink, "50%b"), 2 * SOURCE)
        with h5py.File(sink) as file:
            assert np.array_equal(file["50%b"][()], 2 * SOURCE)

    def test_moving_the_directory_keeps_a_virtual_result_readable(self, tmp_path, monkeypatch):
        (tmp_path / "before").mkdir()
        monkeypatch.chdir(tmp_path / "before")
        sink = compute(double, SOURCE, "a.h5", blocks=3)
        monkeypatch.chdir(tmp_path)
        shutil.move(sink.parent, tmp_path / "after")
        assert np.array_equal(read(tmp_path / "after" / "a.h5"), 2 * SOURCE)
        with h5py.File(tmp_path / "after" / "a.h5") as file:
            assert np.array_equal(file["data"][()], 2 * SOURCE)

    def test_opening_a_result_that_lacks_a_block_names_it(self, tmp_path):
        sink = compute(double, SOURCE, tmp_path / "a.h5", blocks=3)
        block = tmp_path / "a.h5.blocks" / "1.h5"
        block.write_bytes(block.read_bytes()[:100])
        with pytest.raises(FormatError, match=r"a\.h5\.blocks/1\.h5"):
            open_virtual(sink)
        block.unlink()
        with pytest.raises(FileNotFoundError, match=r"a\.h5\.blocks/1\.h5"):
            open_virtual(sink)
        with h5py.File(sink) as file:
            assert not file["data"][4:8].any()  # what HDF5 itself makes of it

    def test_a_symbolic_link_to_a_result_opens_it(self, tmp_path):
        (tmp_path / "there").mkdir()
        sink = compute(double, SOURCE, tmp_path / "there" / "a.h5", blocks=3)
        (tmp_path / "here.h5").symlink_to(sink)
        assert np.array_equal(read(tmp_path / "here.h5"), 2 * SOURCE)

    def test_opening_a_file_without_virtual_datasets_just_opens_it(self, tmp_path):
        with h5py.File(tmp_path / "a.h5", "w") as file:
            file["x"] = SOURCE
            file.create_group("group")
        assert np.array_equal(read(tmp_path / "a.h5", "x"), SOURCE)
        (tmp_path / "b.h5").write_text("not HDF5")
        with pytest.raises(FormatError, match=r"b\.h5"):
            open_virtual(tmp_path / "b.h5")


class TestAnotherRun:
    CHANGES = {  # noqa: RUF012
        "function": {"func": double},
        "arguments": {"args": (2,)},
        "cfg": {"cfg": {"amount": 3}},
        "source": {"source": SOURCE + 1},
        "blocks": {"blocks": 4},
        "layout": {"layout": "single"},
        "dataset": {"dataset": "other"},
        "compression": {"compression": "gzip"},
    }

    @pytest.mark.parametrize("what", CHANGES)
    @pytest.mark.parametrize("is_finished", [True, False], ids=["finished", "unfinished"])
    def test_a_run_with_anything_else_refuses_to_go_on(self, what, is_finished, tmp_path):
        ask = {"func": add, "source": SOURCE, "sink": tmp_path / "a.h5", "blocks": 3}
        compute(**ask)
        if not is_finished:
            (tmp_path / "a.h5").unlink()
        ask.update(self.CHANGES[what])
        with pytest.raises(FormatError, match=f"another run: {what} differ"):
            compute(**ask)
        if is_finished:
            assert np.array_equal(read(tmp_path / "a.h5"), SOURCE + 1)
        compute(**ask, resume=False)
        assert read(tmp_path / "a.h5", ask.get("dataset", "data")).shape == SOURCE.shape

    def test_a_source_file_that_has_changed_is_another_source(self, tmp_path):
        np.save(tmp_path / "a.npy", SOURCE)
        compute(add, tmp_path / "a.npy", tmp_path / "sink.h5")
        np.save(tmp_path / "a.npy", SOURCE + 1)
        os.utime(tmp_path / "a.npy", (1, 1))
        with pytest.raises(FormatError, match="source differ"):
            compute(add, tmp_path / "a.npy", tmp_path / "sink.h5")

    def test_a_file_or_directory_of_the_users_is_never_touched(self, tmp_path):
        with h5py.File(tmp_path / "mine.h5", "w") as file:
            file["x"] = SOURCE
        (tmp_path / "a.h5.blocks").mkdir()
        (tmp_path / "a.h5.blocks" / "mine.txt").write_text("mine")
        (tmp_path / "b.h5.partial").write_text("mine")
        for resume in (True, False):
            with pytest.raises(FileExistsError, match="is no result"):
                compute(double, SOURCE, tmp_path / "mine.h5", resume=resume)
            with pytest.raises(FileExistsError, match="in the way"):
                compute(double, SOURCE, tmp_path / "a.h5", resume=resume)
            with pytest.raises(FileExistsError, match=r"b\.h5\.partial"):
                compute(double, SOURCE, tmp_path / "b.h5", layout="single", resume=resume)
        assert np.array_equal(read(tmp_path / "mine.h5", "x"), SOURCE)
        assert (tmp_path / "a.h5.blocks" / "mine.txt").read_text() == "mine"

    def test_a_second_run_waits_for_the_first_and_takes_its_result(self, tmp_path, caplog):
        def first_and_second(layout):
            ENTERED.clear(), GO_ON.clear(), CALLS.clear()
            threads = [
                threading.Thread(
                    target=compute, args=(slow, SOURCE, tmp_path / layout), kwargs={"layout": layout, "blocks": 2}
                )
                for _ in range(2)
            ]
            threads[0].start()
            assert ENTERED.wait(60)
            threads[1].start()
            while "waiting for it" not in caplog.text:
                threads[1].join(0.01)
            GO_ON.set()
            for thread in threads:
                thread.join()

        for layout in ("virtual", "single"):
            with caplog.at_level(logging.WARNING, "megalith"):
                caplog.clear()
                first_and_second(layout)
            assert len(CALLS) == 2
            assert np.array_equal(read(tmp_path / layout), SOURCE)


class TestDamage:
    @pytest.mark.parametrize("is_finished", [True, False], ids=["finished", "unfinished"])
    @pytest.mark.parametrize("harm", ["flip", "cut", "empty", "gone", "record", "no record"])
    def test_a_damaged_block_is_computed_again_and_no_other(self, harm, is_finished, calls, tmp_path):
        ask = {"args": (calls,), "blocks": 4}
        sink = compute(noted, SOURCE, tmp_path / "a.h5", **ask)
        if not is_finished:
            sink.unlink()
        block, record = tmp_path / "a.h5.blocks" / "2.h5", tmp_path / "a.h5.blocks" / "2.json"
        data = bytearray(block.read_bytes())
        data[data.index(np.float64(32).tobytes())] ^= 1
        if harm == "flip":
            block.write_bytes(data)
        elif harm == "cut":
            block.write_bytes(data[:-50])
        elif harm == "empty":
            block.write_bytes(b"")
        elif harm == "gone":
            block.unlink()
        elif harm == "record":
            record.write_text(record.read_text()[:30])
        else:
            record.unlink()
        calls.clear()
        assert np.array_equal(read(compute(noted, SOURCE, tmp_path / "a.h5", **ask)), SOURCE + 1)
        assert calls.all() == ["30"]

    def test_a_block_that_is_lost_while_others_run_is_refused(self, tmp_path):
        def destroy(block):
            if block[0, 0] == 45:
                (tmp_path / "a.h5.blocks" / "0.h5").unlink()
            return block

        with pytest.raises(FormatError, match=r"blocks/0\.h5.*gone or damaged"):
            compute(destroy, SOURCE, tmp_path / "a.h5", blocks=4)
        assert not (tmp_path / "a.h5").exists()

    def test_bytes_of_an_unfinished_single_result_are_compared_with_their_records(self, calls, tmp_path):
        ask = {"args": (calls,), "blocks": 4, "layout": "single"}
        stop = tmp_path / "stop"
        stop.touch()

        def stops(block, calls):
            if block[0, 0] == 45 and stop.exists():
                raise RuntimeError
            return noted(block, calls)

        with pytest.raises(RuntimeError):
            compute(stops, SOURCE, tmp_path / "a.h5", **ask)
        partial = tmp_path / "a.h5.partial"
        with h5py.File(partial) as file:
            offset = file["data"].id.get_offset()
        with partial.open("r+b") as file:
            file.seek(offset + 3 * 5 * 8)
            file.write(b"damage")
        calls.clear()
        stop.unlink()
        assert np.array_equal(read(compute(stops, SOURCE, tmp_path / "a.h5", **ask)), SOURCE + 1)
        assert calls.all() == ["15", "45"]

    @pytest.mark.parametrize("harm", ["gone", "damaged"])
    def test_an_unfinished_single_result_that_is_lost_begins_anew(self, harm, tmp_path):
        stop = tmp_path / "stop"
        stop.touch()

        def stops(block):
            if block[0, 0] == 45 and stop.exists():
                raise RuntimeError
            return block

        with pytest.raises(RuntimeError):
            compute(stops, SOURCE, tmp_path / "a.h5", blocks=4, layout="single")
        partial = tmp_path / "a.h5.partial"
        partial.unlink() if harm == "gone" else partial.write_bytes(b"x" * 3000)
        stop.unlink()
        assert np.array_equal(read(compute(stops, SOURCE, tmp_path / "a.h5", blocks=4, layout="single")), SOURCE)

    def test_a_damaged_manifest_is_said_and_can_be_given_up(self, tmp_path):
        compute(double, SOURCE, tmp_path / "a.h5").unlink()
        (tmp_path / "a.h5.blocks" / "run.json").write_text("{")
        with pytest.raises(FormatError, match=r"run\.json.*resume=False"):
            compute(double, SOURCE, tmp_path / "a.h5")
        assert np.array_equal(read(compute(double, SOURCE, tmp_path / "a.h5", resume=False)), 2 * SOURCE)


class TestLimits:
    @pytest.mark.parametrize("layout", ["virtual", "single"])
    def test_an_interrupted_run_goes_on(self, layout, calls, tmp_path):
        def interrupted(block, calls):
            if block[0, 0] == 30 and not (tmp_path / "go on").exists():
                raise KeyboardInterrupt
            return noted(block, calls)

        ask = {"args": (calls,), "blocks": 4, "layout": layout}
        with pytest.raises(KeyboardInterrupt):
            compute(interrupted, SOURCE, tmp_path / "a.h5", **ask)
        assert calls.all() == ["0", "15"]
        (tmp_path / "go on").touch()
        assert np.array_equal(read(compute(interrupted, SOURCE, tmp_path / "a.h5", **ask)), SOURCE + 1)
        assert calls.all() == ["0", "15", "30", "45"]

    def test_blocks_that_do_not_fit_in_memory_are_refused_with_need_and_supply(self, tmp_path):
        np.lib.format.open_memmap(tmp_path / "a.npy", "w+", "u1", (2**40,)).flush()  # a sparse file
        with pytest.raises(OutOfMemoryError, match=r"1,099,511,627,776 bytes of memory and [\d,]+ are available"):
            compute(double, tmp_path / "a.npy", tmp_path / "a.h5", blocks=1)

    def test_results_that_do_not_fit_in_memory_are_refused_too(self, tmp_path):
        with pytest.raises(OutOfMemoryError) as error:
            compute(lambda block, noCompute=None: ((2**40,), "f8"), SOURCE, tmp_path / "a.h5", blocks=1)
        assert error.value.asked == 2**43 + SOURCE.nbytes

    def test_a_result_that_does_not_fit_on_the_disk_is_refused_before_work_starts(self, tmp_path):
        def never(block, noCompute=None):
            assert noCompute
            return (2**20, 2**10), "u1"

        for layout in ("virtual", "single"):
            with pytest.raises(OSError, match=r"(?i)room|space|free"):
                compute(never, np.zeros(2**10, "u1"), tmp_path / layout, blocks=2**10, layout=layout)
            assert not (tmp_path / layout).exists()
            assert not (tmp_path / f"{layout}.partial").exists()

    @pytest.mark.parametrize("option", [{"layout": "both"}, {"compression": "zip"}, {"compression": 11}])
    def test_options_that_are_none_are_refused(self, option, tmp_path):
        with pytest.raises(ArgumentError, match=next(iter(option))):
            compute(double, SOURCE, tmp_path / "a.h5", **option)
        with pytest.raises(DTypeError, match="func"):
            compute("double", SOURCE, tmp_path / "a.h5")

    def test_a_bar_is_shown_if_asked_for(self, tmp_path, capsys):
        compute(double, SOURCE, tmp_path / "a.h5", blocks=3, verbose=True)
        assert "compute a.h5" in capsys.readouterr().err
