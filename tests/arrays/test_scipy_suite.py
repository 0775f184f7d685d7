"""SciPy's own tests of `correlate1d`, run against ours.

Every test of the installed SciPy that names `correlate1d`, or a filter that SciPy makes of it, is taken over as it is.
An adapter in the place of `scipy.ndimage.correlate1d` maps the arguments: `output` to `sink` or `dtype`, and SciPy's
defaults of the last axis and mode 'reflect'. It stands under SciPy's other filters too, so that `convolve1d`,
`gaussian_filter`, `prewitt`, `sobel` and `laplace` and their tests run on ours.
"""

import inspect

import numpy as np
import pytest
import scipy.ndimage
from scipy.ndimage import _filters, _ni_support
from scipy.ndimage.tests import test_filters

import megalith
from megalith.exceptions import DTypeError


def adapter(input, weights, axis=-1, output=None, mode="reflect", cval=0.0, origin=0):
    """`scipy.ndimage.correlate1d` in terms of `megalith.correlate1d`."""
    source, kernel = np.asarray(input), np.asarray(weights)
    is_complex = source.dtype.kind == "c" or kernel.dtype.kind == "c"
    # SciPy's own rule for the type of a result, its warning and its refusal of a real array for complex numbers.
    sink = _ni_support._get_output(output, source, complex_output=is_complex)
    options = {"axis": axis, "mode": mode, "cval": cval, "origin": origin}
    try:
        if isinstance(output, np.ndarray):
            assert megalith.correlate1d(source, kernel, output, **options) is output
            return output
        return megalith.correlate1d(source, kernel, dtype=sink.dtype, **options)
    except DTypeError as error:
        raise RuntimeError(str(error)) from error


NAMES = ("correlate1d", "convolve1d", "gaussian", "prewitt", "sobel", "laplace", "_complex")
"""`correlate1d`, what SciPy makes of it, and the helpers of its tests that call it."""


LEFT_OUT = {"test_gaussian_filter_float16"}
"""SciPy refuses half precision, and tests that it does; ours computes it."""


def names_correlate1d(function):
    """Whether the source of a test names `correlate1d` or a filter made of it."""
    text = inspect.getsource(function)
    return function.__name__ not in LEFT_OUT and any(name in text for name in NAMES)


def with_listed_parameters(function):
    """A test whose parameters are lists; SciPy gives iterators, which pytest is about to refuse."""
    function.pytestmark = [
        pytest.mark.parametrize(m.args[0], list(m.args[1]), *m.args[2:], **m.kwargs).mark
        if m.name == "parametrize" and len(m.args) > 1
        else m
        for m in getattr(function, "pytestmark", [])
    ]
    return function


def taken(select):
    """Test classes and functions of SciPy's file, with the methods that `select` chooses."""
    found = {}
    for name, thing in vars(test_filters).items():
        if inspect.isclass(thing) and name.startswith("Test"):
            methods = {
                k: with_listed_parameters(v)
                for k, v in vars(thing).items()
                if k.startswith("test") and callable(v) and select(v)
            }
            if methods:
                dropped = {k: None for k in vars(thing) if k.startswith("test") and k not in methods}
                found[name] = type(name, (thing,), dropped)
        elif name.startswith("test") and inspect.isfunction(thing) and select(thing):
            found[name] = with_listed_parameters(thing)
    return found


globals().update(taken(names_correlate1d))


@pytest.fixture
def xp():
    """The array library under test."""
    return np


@pytest.fixture
def num_parallel_threads():
    """How often SciPy's runner would run each test at once."""
    return 1


@pytest.fixture(autouse=True)
def ours_in_the_place_of_theirs(monkeypatch):
    """Put the adapter where SciPy's tests, and SciPy's filters, find `correlate1d`."""
    monkeypatch.setattr(scipy.ndimage, "correlate1d", adapter)
    monkeypatch.setattr(_filters, "correlate1d", adapter)


def test_there_are_as_many_of_them_as_scipy_has():
    assert sum(name.startswith("test") for name in dir(globals()["TestNdimageFilters"])) >= 80
    assert "test_bad_convolve_and_correlate_origins" in globals()
    assert hasattr(globals()["TestThreading"], "test_correlate1d")


def test_scipys_filters_run_on_ours(monkeypatch):
    seen = []
    ours = megalith.correlate1d
    monkeypatch.setattr(megalith, "correlate1d", lambda *args, **options: seen.append(1) or ours(*args, **options))
    scipy.ndimage.gaussian_filter(np.ones((4, 5)), 1.0)
    assert len(seen) == 2
