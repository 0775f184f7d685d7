"""What cannot be kept is refused with the place where it is."""

import collections
import datetime
import enum
import sys

import numpy as np
import pytest

from megalith import records
from megalith.exceptions import DTypeError, FormatError
from megalith.records.tree import flatten, unflatten

Point = collections.namedtuple("Point", "x y")


class Color(enum.IntEnum):
    RED = 1


class Meters(np.float64):
    pass


class Badly:
    def __repr__(self):
        raise RuntimeError

    __hash__ = object.__hash__


def masked():
    return np.ma.masked_array([1, 2], mask=[True, False])


@pytest.mark.parametrize(
    ("value", "where", "what"),
    [
        (object(), "result", "object"),
        ({"model": [1, 2, object()]}, "result['model'][2]", "object"),
        ({1: ({None: {2.5: b"x"}},)}, "result[1][0][None][2.5]", "bytes"),
        ([datetime.date(2026, 1, 1)], "result[0]", "date"),
        ([{1, 2}], "result[0]", "set"),
        ([Point(1, 2)], "result[0]", "tuple(...)"),
        ({"a": collections.OrderedDict()}, "result['a']", "dict(...)"),
        ({"a": collections.defaultdict(list)}, "result['a']", "dict(...)"),
        ([Color.RED], "result[0]", "int(...)"),
        ([Meters(1)], "result[0]", "Meters"),
        ([1j], "result[0]", "complex"),
        ({(1, 2): 3}, "result[(1, 2)]", "a key of type tuple"),
        ({np.int64(1): 3}, "result[np.int64(1)]", "a key of type int64"),
        ({Badly(): 3}, "result[a Badly]", "a key of type Badly"),
        ({"k" * 100: object()}, "result['" + "k" * 39 + "...]", "object"),
        ({1 << 20_000: object()}, "result[a int]", "object"),
        (masked(), "result", "array.filled(value)"),
        ([masked()], "result[0]", "array.filled(value)"),
        ([np.ma.masked], "result[0]", "masked"),
        (np.array([None]), "result", "pickle"),
        ({"a": np.array([None])}, "result['a']", "pickle"),
        ([np.zeros(2, [("a", object)])], "result[0]", "pickle"),
        ([np.array(["a"], np.dtypes.StringDType())], "result[0]", "astype('U')"),
        (
            [np.zeros(2, np.dtype({"names": ["a", "b"], "formats": ["i4"] * 2, "offsets": [0, 2]}))],
            "result[0]",
            "overlap",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_kept_is_named_with_its_place(value, where, what):
    for function in (flatten, records.plan):
        with pytest.raises(DTypeError) as caught:
            function(value)
        message = str(caught.value)
        assert message.startswith(f"{where}: ")
        assert what in message
        assert "supported are arrays" in message
        assert caught.value.name == where


def test_the_name_of_the_value_is_the_callers():
    with pytest.raises(DTypeError, match=r"^points\[0\]: "):
        flatten([object()], "points")


def test_values_that_contain_themselves_are_refused():
    ring = [1]
    ring.append({"again": ring})
    with pytest.raises(DTypeError, match=r"^result\[1\]\['again'\]: this list contains itself"):
        records.plan(ring)
    table = {}
    table["me"] = (table,)
    with pytest.raises(DTypeError, match=r"^result\['me'\]\[0\]: this dict contains itself"):
        records.plan(table)


def test_a_container_in_several_places_is_no_cycle():
    part = [1]
    assert unflatten(*flatten([part, part, (part,)])) == [[1], [1], ([1],)]


def nested(levels, wrap):
    value = 0
    for _ in range(levels):
        value = wrap(value)
    return value


WRAPS = [lambda v: [v], lambda v: (v,), lambda v: {"a": v}, lambda v: {1: v}]


@pytest.mark.parametrize("wrap", WRAPS)
def test_deep_nesting_is_kept_up_to_a_limit(wrap, tmp_path):
    value = nested(200, wrap)
    assert records.load(records.save(tmp_path / "a", value)) == value
    for levels in (201, 5000, 100_000):
        with pytest.raises(DTypeError, match="at most 200 levels"):
            records.plan(nested(levels, wrap))


@pytest.mark.parametrize("wrap", WRAPS)
def test_nesting_deeper_than_the_stack_is_an_error(wrap):
    value = nested(190, wrap)
    suffix_and_tree = flatten(value)

    def descend(n):
        if n:
            return descend(n - 1)
        with pytest.raises(DTypeError, match="level"):
            records.plan(value)
        with pytest.raises(FormatError):
            unflatten(*suffix_and_tree)
        return None

    frame, depth = sys._getframe(), 0
    while frame:
        frame, depth = frame.f_back, depth + 1
    descend(sys.getrecursionlimit() - depth - 120)


def test_a_key_that_is_refused_does_not_hide_behind_its_value():
    with pytest.raises(DTypeError, match="a key of type bytes"):
        flatten({b"a": object()})
