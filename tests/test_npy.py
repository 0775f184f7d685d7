"""Headers of .npy files: every version NumPy writes, and what damage makes of them."""

import io
import struct
import sys
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.lib import format as npy_format

from megalith import _core, _npy
from megalith.exceptions import DTypeError, FormatError, TruncatedFileError
from megalith.testing.strategies import arrays

WIDE = np.dtype([("größe", "f8"), ("число", "<i4"), ("数", "u1")])


def saved(array):
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NumPy warns of version 3.
        np.save(file, array, allow_pickle=True)
    return file.getvalue()


def parse(data, member=""):
    return _npy.parse_header(data, "a.npy", len(data), member)


def header(text, version=(1, 0)):
    text = text.encode("utf-8" if version == (3, 0) else "latin-1")
    length = struct.pack("<H" if version == (1, 0) else "<I", len(text))
    return b"\x93NUMPY" + bytes(version) + length + text


@given(arrays())
def test_parse_header_agrees_with_numpy(array):
    data = saved(array)
    found = parse(data)
    assert (found.shape, found.dtype) == (array.shape, array.dtype)
    values = np.ndarray(found.shape, found.dtype, data, found.offset, order=found.order)
    assert values.tobytes() == np.load(io.BytesIO(data)).tobytes()


@given(arrays(), st.sampled_from("CF"))
def test_make_header_is_what_numpy_writes(array, order):
    laid = np.array(array, order=order)
    found = "F" if laid.flags.f_contiguous and not laid.flags.c_contiguous else "C"
    assert saved(laid).startswith(_npy.make_header(laid.shape, laid.dtype, found))


@pytest.mark.parametrize(
    "dtype", [WIDE, np.dtype([(f"field{i}", "f8") for i in range(5000)]), np.dtype([("é", "i2")])], ids=str
)
def test_headers_of_every_version_go_both_ways(dtype):
    array = np.zeros(3, dtype)
    data = saved(array)
    assert parse(data)[:3] == ((3,), dtype, "C")
    ours = _npy.make_header((3,), dtype, "C")
    assert len(ours) % 64 == 0
    assert ours[6] == data[6]
    assert parse(ours + array.tobytes()).dtype == dtype
    assert np.load(io.BytesIO(ours + array.tobytes()), max_header_size=1 << 20).dtype == dtype


def test_version_3_keeps_backslashes_and_quotes_in_names():
    dtype = np.dtype([("a\\u4e2d\\'\"", "i4"), ("中\n", "i4")])
    ours = _npy.make_header((1,), dtype, "C") + bytes(8)
    assert parse(ours).dtype == parse(saved(np.zeros(1, dtype))).dtype == dtype


def test_read_header_reads_headers_longer_than_the_first_bytes(tmp_path):
    array = np.zeros(2, [(f"field{i}", "f8") for i in range(500)])
    np.save(tmp_path / "a.npy", array)
    assert _npy.read_header(tmp_path / "a.npy").dtype == array.dtype


@pytest.mark.parametrize(
    ("data", "field"),
    [
        (b"", "header"),
        (b"PK\3\4 anything", "header"),
        (b"\x93NUMPY", "header"),
        (b"\x93NUMPY\1", "header"),
        (b"\x93NUMPY\4\0\0\0\0\0", "version"),
        (b"\x93NUMPY\1\0\xff\xff{", "header"),
        (b"\x93NUMPY\2\0\xff\xff\xff\xff{", "header"),
        (b"\x93NUMPY\3\0\3\0\0\0\xff\xfe\xfd", "header"),
        (header("{'descr': '<f8', 'fortran_order': False}"), "header"),
        (header("{'descr': 'zz', 'fortran_order': False, 'shape': (1,)}"), "header"),
        (header("{'descr': '<f8', 'fortran_order': 3, 'shape': (1,)}"), "header"),
        (header("{'descr': '<f8', 'fortran_order': False, 'shape': 1}"), "header"),
        (header("__import__('os').abort()"), "header"),
        (header("(" * 60000), "header"),
        (header("-" * 60000 + "1"), "header"),
        (header("{'descr': '<f8', 'fortran_order': False, 'shape': (-1,)}"), "shape"),
        (header("{'descr': '<f8', 'fortran_order': False, 'shape': (" + "1," * 65 + ")}"), "shape"),
        (header(f"{{'descr': '<f8', 'fortran_order': False, 'shape': (0, {2**70})}}"), "shape"),
        (header(f"{{'descr': '<f8', 'fortran_order': False, 'shape': (0, {2**40}, {2**40})}}"), "shape"),
        (header("{'descr': ('<f8', (2,)), 'fortran_order': False, 'shape': (0,)}"), "descr"),
    ],
)
def test_damaged_headers_are_format_errors_that_name_file_and_field(data, field):
    for member in ("", "0.npy"):
        with pytest.raises(FormatError, match=r"^a\.npy, member 0\.npy: " if member else r"^a\.npy: ") as caught:
            parse(data, member)
        assert caught.value.field == (f"{member}: {field}" if member else field)
        assert caught.value.path == "a.npy"


def test_a_header_of_more_elements_than_the_file_has_is_truncated():
    data = saved(np.zeros(10))
    with pytest.raises(TruncatedFileError) as caught:
        parse(data[:-1])
    assert (caught.value.wanted, caught.value.done, caught.value.field) == (80, 79, "shape")


def test_objects_are_refused():
    with pytest.raises(DTypeError, match="pickle"):
        parse(saved(np.array([None])))


def test_names_of_fields_that_one_caller_changes_are_not_those_of_the_next():
    data = saved(np.zeros(1, [("a", "i4")]))
    parse(data).dtype.names = ("b",)
    assert parse(data).dtype.names == ("a",)


def test_known_headers_stay_few():
    for i in range(3 * _npy.KNOWN_HEADERS):
        parse(saved(np.zeros((0, i))))
    assert len(_npy._known) <= _npy.KNOWN_HEADERS


@given(st.data())
def test_any_change_of_a_header_gives_a_header_or_an_error_of_ours(data):
    whole = bytearray(saved(np.zeros((2, 3), data.draw(st.sampled_from(["<f8", "M8[us]", "V3", WIDE])))))
    for _ in range(data.draw(st.integers(1, 3))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            found = parse(bytes(whole))
        except (FormatError, DTypeError):
            return
        np.ndarray(found.shape, found.dtype, bytes(whole), found.offset, order=found.order)


@pytest.mark.parametrize(
    "dtype",
    [
        np.dtype(object),
        np.dtype([("a", object)]),
        np.dtypes.StringDType(),
        np.dtype({"names": ["a", "b"], "formats": ["i4", "i4"], "offsets": [0, 2]}),
    ],
    ids=["object", "field", "strings", "overlap"],
)
def test_types_a_header_cannot_say_are_refused(dtype):
    with pytest.raises(DTypeError, match=r"^sink: "):
        _npy.make_header((1,), dtype, "C")


@pytest.mark.parametrize("name", ["\ud800", "中\ud800"])
def test_field_names_that_are_no_unicode_are_kept(name):
    dtype = np.dtype([(name, "i4")])
    assert parse(_npy.make_header((1,), dtype, "C") + bytes(4)).dtype == dtype


def test_a_known_header_is_parsed_in_a_few_microseconds():
    data = saved(np.zeros((3, 4)))
    parse(data)
    calls = []
    sys.setprofile(lambda *what: calls.append(what))
    try:
        parse(data)
    finally:
        sys.setprofile(None)
    assert len(calls) < 20  # NumPy's parser makes hundreds.


@given(
    st.sampled_from(
        ["<f8", ">u2", "|b1", "<c16", "|S0", "|S7", "<U3", "<f2", "|i1", "<M8[s]", "|V4", "=f8", "<f9", "|O"]
    ),
    st.lists(st.integers(-1, 1 << 70), max_size=4),
    st.booleans(),
    st.lists(st.tuples(st.integers(0, 90), st.sampled_from(list(b"'<>|,() {}:0123456789Tru\n\xe9"))), max_size=2),
)
def test_what_is_parsed_the_short_way_is_what_numpy_parses(descr, shape, fortran, changes):
    literal = f"{{'descr': {descr!r}, 'fortran_order': {fortran}, 'shape': {tuple(shape)}, }}".encode("latin-1")
    body = bytearray(literal.ljust(117) + b"\n")
    for at, byte in changes:
        body[at % len(body)] = byte
    text = b"\x93NUMPY\1\0" + len(body).to_bytes(2, "little") + bytes(body)
    plain = _core.plain_header(text)
    if plain is None:
        return
    shape, descr, is_fortran, offset = plain
    assert offset == len(text)
    try:
        parsed = npy_format.read_array_header_1_0(io.BytesIO(text[8:]))
    except _npy._DAMAGED:
        # Of the type alone, which NumPy is asked for in any case.
        with pytest.raises(TypeError):
            np.dtype(descr)
    else:
        assert parsed == (shape, is_fortran, np.dtype(descr))
