"""The `initialize_*` functions take and give what code written for ArrayProcessing expects."""

import inspect

import numpy as np
import pytest

import megalith
from megalith import arrays
from megalith.arrays import Source
from megalith.exceptions import ArgumentError, LayoutError, MegalithError, ShapeError
from megalith.testing.layouts import LAYOUTS


@pytest.mark.parametrize(
    ("function", "names"),
    [
        (megalith.initialize_processing, "processes verbose function blocks return_blocks"),
        (megalith.finalize_processing, "verbose function timer"),
        (megalith.initialize_source, "source return_buffer as_1d return_shape return_strides return_order"),
        (
            megalith.initialize_sink,
            "sink shape dtype order memory location mode source return_buffer as_1d return_shape return_strides",
        ),
        (megalith.where, "source sink blocks cutoff processes verbose dtype above"),
        (megalith.apply_lut, "source lut sink blocks processes verbose mode"),
        (megalith.apply_lut_to_index, "source kernel lut sink processes verbose"),
        (megalith.correlate1d, "source kernel sink axis processes verbose mode cval origin dtype fast"),
        (megalith.block_ranges, "source blocks processes"),
        (megalith.block_sums, "source blocks processes"),
        (megalith.block_counts, "source blocks processes"),
        (megalith.neighbours, "indices offset processes verbose"),
        (megalith.index_neighbours, "indices offset processes"),
        (megalith.read, "source sink slicing memory blocks processes verbose kwargs"),
        (megalith.write, "sink source slicing overwrite blocks processes verbose"),
    ],
    ids=lambda thing: getattr(thing, "__name__", ""),
)
def test_arguments_have_the_names_and_the_order_people_use(function, names):
    assert list(inspect.signature(function).parameters) == names.split()


@pytest.mark.parametrize(("processes", "n"), [(1, 1), (5, 5), ("serial", 1)])
def test_initialize_processing_gives_the_number_of_threads_and_no_timer(processes, n):
    assert megalith.initialize_processing(processes) == (n, None)


def test_initialize_processing_gives_blocks_when_asked():
    assert megalith.initialize_processing(3, return_blocks=True) == (3, None, 30)
    assert megalith.initialize_processing(3, blocks=7, return_blocks=True) == (3, None, 7)


def test_initialize_processing_reads_the_default_blocks_per_process():
    arrays.default_blocks_per_process = 4
    assert megalith.initialize_processing(2, return_blocks=True)[2] == 8


def test_initialize_processing_reads_the_default_processes():
    arrays.default_processes = 3
    assert megalith.initialize_processing()[0] == 3


@pytest.mark.parametrize("processes", [0, -1, "all", 1.5])
def test_initialize_processing_refuses_impossible_counts(processes):
    with pytest.raises(ArgumentError, match="processes"):
        megalith.initialize_processing(processes)


def test_finalize_processing_prints_the_time_a_verbose_function_took(capsys):
    _, timer = megalith.initialize_processing(verbose=True, function="smooth")
    assert timer is not None
    megalith.finalize_processing(verbose=True, function="smooth", timer=timer)
    assert "smooth" in "".join(capsys.readouterr())


def test_finalize_processing_without_a_timer_says_nothing(capsys):
    megalith.finalize_processing()
    assert capsys.readouterr() == ("", "")


def test_initialize_source_gives_source_and_buffer():
    values = np.arange(12).reshape(3, 4)
    source, buffer = megalith.initialize_source(values)
    assert isinstance(source, Source)
    assert np.shares_memory(buffer, values)
    assert buffer.tolist() == values.tolist()


def test_initialize_source_gives_everything_in_order_when_asked():
    values = np.asfortranarray(np.zeros((3, 4), dtype=np.int16))
    source, buffer, shape, strides, order = megalith.initialize_source(
        values, return_shape=True, return_strides=True, return_order=True
    )
    assert source.shape == (3, 4)
    assert buffer.shape == (3, 4)
    assert tuple(shape) == (3, 4)
    assert tuple(strides) == (1, 3)
    assert order == "F"


def test_initialize_source_alone_is_no_tuple():
    assert isinstance(megalith.initialize_source(np.zeros(3), return_buffer=False), Source)


@pytest.mark.parametrize("order", ["C", "F"])
def test_initialize_source_gives_a_list_of_the_elements_as_they_lie(order):
    values = np.asarray(np.arange(12).reshape(3, 4), order=order)
    _, buffer = megalith.initialize_source(values, as_1d=True)
    assert buffer.tolist() == list(range(12)) if order == "C" else values.ravel(order="F").tolist()
    assert np.shares_memory(buffer, values)


def test_initialize_source_gives_truth_as_bytes():
    assert megalith.initialize_source(np.array([True, False]))[1].dtype == np.uint8


def test_initialize_source_of_a_path_gives_the_values_of_the_file(tmp_path):
    np.save(tmp_path / "a.npy", np.arange(5))
    assert megalith.initialize_source(str(tmp_path / "a.npy"))[1].tolist() == [0, 1, 2, 3, 4]


def test_initialize_sink_makes_an_array_of_shape_and_type():
    sink, buffer = megalith.initialize_sink(shape=(3, 4), dtype=np.float32)
    assert isinstance(sink, Source)
    assert (buffer.shape, buffer.dtype) == ((3, 4), np.float32)
    assert buffer.flags.writeable


def test_initialize_sink_takes_what_is_not_said_from_the_source():
    source = np.asfortranarray(np.zeros((3, 4), dtype=np.int16))
    sink, buffer = megalith.initialize_sink(source=source)
    assert (sink.shape, sink.dtype, sink.order) == ((3, 4), np.int16, "F")
    assert not np.shares_memory(buffer, source)


def test_initialize_sink_of_an_array_is_that_array():
    given = np.zeros((3, 4))
    _, buffer, shape, strides = megalith.initialize_sink(given, return_shape=True, return_strides=True)
    buffer[1, 2] = 5
    assert given[1, 2] == 5
    assert (tuple(shape), tuple(strides)) == ((3, 4), (4, 1))


def test_initialize_sink_in_a_file_is_written_through(tmp_path):
    sink, buffer = megalith.initialize_sink(tmp_path / "a.npy", shape=(3, 4), dtype=np.int32)
    buffer[...] = 7
    buffer.flush() if hasattr(buffer, "flush") else None
    assert (np.load(tmp_path / "a.npy") == 7).all()
    assert (sink.shape, sink.dtype) == ((3, 4), np.int32)


def test_initialize_sink_at_a_location_is_a_file_there(tmp_path):
    megalith.initialize_sink(location=str(tmp_path / "a.npy"), shape=(5,), dtype=np.uint8)
    assert np.load(tmp_path / "a.npy").shape == (5,)


def test_initialize_sink_as_a_list_is_a_view_of_the_sink():
    given = np.zeros((3, 4))
    _, buffer = megalith.initialize_sink(given, as_1d=True)
    buffer[5] = 1
    assert given[1, 1] == 1


def test_initialize_sink_refuses_an_array_of_another_shape():
    with pytest.raises(ShapeError):
        megalith.initialize_sink(np.zeros((3, 4)), shape=(4, 3))


def test_initialize_sink_refuses_to_guess_a_shape():
    with pytest.raises(MegalithError, match="shape"):
        megalith.initialize_sink(dtype=np.float32)


def test_initialize_sink_refuses_a_read_only_array():
    with pytest.raises(LayoutError):
        megalith.initialize_sink(LAYOUTS["read-only"](np.zeros(3)))
