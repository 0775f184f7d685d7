"""An artificial volume: grey values with tissue, vessels and noise, of any size."""

import tracemalloc

import h5py
import numpy as np
import pytest

import megalith
from megalith.exceptions import ArgumentError, DTypeError, ShapeError
from megalith.mock import artificial_volume, volume


@pytest.mark.parametrize("shape", [(20, 40, 60), (1, 1, 1), (100, 3, 2), (50, 70), (90,), (0, 5, 5), (3, 0)])
def test_it_has_the_shape_and_type_that_were_asked_for(shape):
    for dtype in ("uint8", "uint16", "int32", "float32", ">u2"):
        made = artificial_volume(shape, seed=0, dtype=dtype)
        assert (made.shape, made.dtype) == (shape, np.dtype(dtype))


def test_the_same_seed_gives_the_same_volume_and_another_another():
    first = artificial_volume((20, 40, 40), seed=1)
    assert np.array_equal(first, artificial_volume((20, 40, 40), seed=1))
    assert not np.array_equal(first, artificial_volume((20, 40, 40), seed=2))


def test_slabs_make_no_difference(monkeypatch):
    whole = artificial_volume((50, 30, 30), seed=1)
    monkeypatch.setattr(volume, "SLAB_BYTES", 1)
    assert np.array_equal(artificial_volume((50, 30, 30), seed=1), whole)


def test_the_number_of_threads_makes_no_difference():
    with megalith.threads(1):
        one = artificial_volume((40, 80, 80), seed=1)
    assert np.array_equal(artificial_volume((40, 80, 80), seed=1), one)


@pytest.mark.parametrize(("dtype", "white"), [("uint8", 255), ("int8", 127), ("uint16", 4095), ("float64", 1)])
def test_grey_values_go_from_zero_to_white(dtype, white):
    made = artificial_volume((60, 100, 100), seed=0, dtype=dtype) / white
    assert made.min() >= 0
    assert 0.9 < made.max() <= 1


def test_there_are_background_tissue_and_vessels():
    made = artificial_volume((100, 160, 160), seed=0, dtype="float32")
    background, tissue, vessels = made < 0.2, (made > 0.4) & (made < 0.7), made > 0.8
    assert 0.3 < background.mean() < 0.7
    assert 0.2 < tissue.mean() < 0.6
    assert 0.0005 < vessels.mean() < 0.05


def test_tissue_is_smooth_and_noise_is_not_all():
    made = artificial_volume((60, 100, 100), seed=0, dtype="float32")
    for axis in range(3):
        assert np.abs(np.diff(made, axis=axis)).mean() < 0.25 * made.std()


def test_it_goes_into_a_sink(tmp_path):
    expected = artificial_volume((30, 40, 50), seed=0, dtype="uint16")
    sink = np.zeros((30, 40, 50), "uint16")
    assert artificial_volume((30, 40, 50), seed=0, sink=sink) is sink
    assert np.array_equal(sink, expected)
    assert isinstance(artificial_volume((30, 40, 50), seed=0, dtype="uint16", sink=tmp_path / "a.npy"), np.memmap)
    assert np.array_equal(np.load(tmp_path / "a.npy"), expected)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        dataset = file.create_dataset("a", (30, 40, 50), "uint16")
        artificial_volume((30, 40, 50), seed=0, sink=dataset)
        assert np.array_equal(dataset[()], expected)
        for shape in ((40,), (30, 40), (0, 3)):
            flat = file.create_dataset(str(shape), shape, "uint16")
            artificial_volume(shape, seed=0, sink=flat)
            assert np.array_equal(flat[()], artificial_volume(shape, seed=0, dtype="uint16"))


@pytest.mark.parametrize("kind", ["path", "dataset"])
def test_memory_beyond_the_result_does_not_grow_with_it(tmp_path, kind):
    most = []
    for n in (64, 256):
        with h5py.File(tmp_path / "a.h5", "w") as file:
            sink = tmp_path / "a.npy" if kind == "path" else file.create_dataset("a", (n, 256, 256), "uint8")
            tracemalloc.start()
            artificial_volume((n, 256, 256), seed=0, sink=sink)
            most.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
    assert most[1] < most[0] + (8 << 20)


def test_what_is_no_volume_is_refused():
    with pytest.raises(ShapeError, match="4 axes"):
        artificial_volume((1, 2, 3, 4))
    with pytest.raises(ArgumentError, match="0 or more"):
        artificial_volume((1, -2, 3))
    with pytest.raises(DTypeError, match="bool is not supported"):
        artificial_volume((1, 2, 3), dtype=bool)
    with pytest.raises(ShapeError, match="sink"):
        artificial_volume((1, 2, 3), sink=np.zeros((3, 2, 1), np.uint8))


def test_the_threshold_of_the_demo_takes_tissue_and_leaves_background():
    made = artificial_volume((80, 96, 96), seed=0)
    above = made > made[made > 0].mean()
    assert 0.3 < above.mean() < 0.6
    # Tissue hangs together: most voxels have all of their neighbours along an axis.
    assert (above[1:] == above[:-1]).mean() > 0.95
