"""Which points a space has: products, zips, cases, sums and conditions."""

import itertools
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from megalith import Parameter, ParameterSpace
from megalith.exceptions import ArgumentError


def space_of(**values):
    return ParameterSpace("", [Parameter(name, listed) for name, listed in values.items()])


def points(space):
    return [tuple(point) for point in space]


def test_a_space_is_the_product_of_all_that_list_values():
    space = space_of(a=[1, 2], b=["x", "y"])
    space.register_parameters([Parameter("c", minimum=0, maximum=1)])
    assert points(space) == [(1, "x"), (1, "y"), (2, "x"), (2, "y")]
    assert len(space) == 4
    assert next(iter(space))._fields == ("a", "b")


def test_products_zips_and_cases():
    space = space_of(a=[1, 2], b=[3, 4], c=[5, 6, 7])
    assert points(space.product("c", "a")) == list(itertools.product([5, 6, 7], [1, 2]))
    assert points(space.zip("a", "b")) == [(1, 3), (2, 4)]
    assert points(space.cases([{"a": 2.0, "c": 7}, {"c": 5}])) == [(2, 7), (1, 5)]
    assert points(space.zip("a", "b") * space.product("c")) == [(a, a + 2, c) for a in (1, 2) for c in (5, 6, 7)]


def test_a_sum_has_each_point_once_and_present_values_for_the_rest():
    space = space_of(a=[1, 2], b=[3, 4])
    space["b"].value = 4
    both = space.product("a") + space.zip("a", "b") + space.cases([{"a": 1, "b": 3}])
    assert points(both) == [(1, 4), (2, 4), (1, 3)]
    assert len(both) == 3


def test_conditions_leave_points_out_and_may_look_at_parameters_that_do_not_change():
    space = space_of(a=range(4), b=range(4), c=[2])
    assert points(space.product("a", "b").where(lambda a, b: a < b).where(lambda b, c: b > c)) == [
        (0, 3),
        (1, 3),
        (2, 3),
    ]
    assert len(space.where(lambda c: c > 2)) == 0
    assert points(space.product("a").where(lambda c: c > 2)) == []


def test_a_condition_is_asked_as_soon_as_its_names_are_bound():
    asked = []

    def small(a):
        asked.append(a)
        return a < 2

    space = space_of(a=range(10), b=range(1000), c=range(1000), d=range(10**6)).where(small)
    assert len(space) == 2 * 10**12
    assert len(asked) == 10
    assert [tuple(point) for point in itertools.islice(space, 2)] == [(0, 0, 0, 0), (0, 0, 0, 1)]


@given(st.lists(st.integers(1, 4), min_size=1, max_size=4), st.integers(0, 6))
def test_conditions_give_what_a_filter_gives(lengths, limit):
    names = "abcd"[: len(lengths)]
    space = space_of(**{name: range(n) for name, n in zip(names, lengths, strict=True)})
    found = space.where(lambda a: a != 1)
    if len(lengths) > 1:
        found = found.where(lambda a, b: a + b <= limit)
    wanted = [
        values
        for values in itertools.product(*map(range, lengths))
        if values[0] != 1 and (len(values) == 1 or values[0] + values[1] <= limit)
    ]
    assert points(found) == wanted
    assert len(found) == len(wanted)


def test_new_values_of_a_parameter_are_in_spaces_made_before():
    space = space_of(a=[1, 2], b=[1])
    product = space.product("a")
    space["a"].values = [1, 2, 3]
    assert points(product) == [(1,), (2,), (3,)]


def test_linked_parameters_change_along():
    length, width = Parameter("length", [1, 2, 3]), Parameter("width")
    width.link(length, lambda length: 10 * length)
    space = ParameterSpace("", [length, width])
    assert points(space) == [(1, 10), (2, 20), (3, 30)]
    assert points(space.where(lambda width: width > 15)) == [(2, 20), (3, 30)]
    with pytest.raises(ArgumentError, match="linked to length"):
        space.product("width")


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (lambda space: space.product("z"), "no parameter 'z'"),
        (lambda space: space.product("a", "a"), "twice"),
        (lambda space: space.zip(), "no names"),
        (lambda space: space.zip("a", "a"), "twice"),
        (lambda space: len(space.zip("a", "b")), "as many values"),
        (lambda space: len(space.product("free")), "lists no values"),
        (lambda space: space.cases([{"a": 7}]), "a: got 7"),
        (lambda space: space.cases([{"z": 7}]), "no parameter 'z'"),
        (lambda space: space.cases([{"free": 7}, {"a": 1}]), "has no value otherwise"),
        (lambda space: space.where(lambda z: z), "no parameter 'z'"),
        (lambda space: space.where(lambda *args: True), "a function whose arguments"),
        (lambda space: space.where("a < b"), "a function whose arguments"),
        (lambda space: len(space.product("a").where(lambda free: free)), "no parameter free"),
        (lambda space: space + space_of(a=[1]), "made of the same one"),
        (lambda space: space.register_parameters([Parameter("a", [1])]), "another parameter 'a'"),
        (lambda space: space.register_parameters(["a"]), "expected a megalith.Parameter"),
        (lambda space: list(space.product("a") + space.cases([{"free": 1}])), "free: it has no value"),
    ],
)
def test_what_is_not_possible_is_said(make, what):
    space = space_of(a=[1, 2], b=[1, 2, 3])
    space.register_parameters([Parameter("free")])
    with pytest.raises(ArgumentError, match=what):
        make(space)


def test_a_space_can_be_pickled():
    space = space_of(a=[1, 2], b=np.array([0.5, 1.5])).where(abs_of_a)
    again = pickle.loads(pickle.dumps(space))
    assert points(again) == points(space)
    first = next(iter(space))
    assert pickle.loads(pickle.dumps(first)) == first


def abs_of_a(a):
    return abs(a) > 1


def test_representations_show_parameters_and_points():
    space = ParameterSpace("boxes", [Parameter("a", [1, 2], unit="mm")])
    assert repr(space) == "ParameterSpace('boxes', [a], 2 points)"
    assert "<td>a</td><td>[1, 2]</td><td>mm</td><td>1</td>" in space._repr_html_()


def test_cases_that_differ_in_the_type_of_equal_numbers_are_one_and_bools_are_refused():
    space = ParameterSpace("", [Parameter("a")])
    assert points(space.cases([{"a": 1}, {"a": 1.0}, {"a": 2}])) == [(1,), (2,)]
    with pytest.raises(ArgumentError, match="True stands in it with 1, which is equal"):
        space.cases([{"a": 1}, {"a": True}])
    with pytest.raises(ArgumentError, match="tuples, not lists"):
        space.cases([{"a": [1, 2]}])


def test_a_nan_is_one_value_and_is_found_again():
    with pytest.raises(ArgumentError, match="stands in it twice"):
        Parameter("a", [float("nan"), np.float64("nan")])
    space = space_of(a=[float("nan"), 1.0])
    assert space.sweep(lambda a: str(a))[float("nan")] == "nan"


def test_ten_thousand_cases_of_as_many_values_are_found_at_once(monkeypatch):
    from megalith.sweep import parameter

    compared = []
    monkeypatch.setattr(parameter, "find", lambda *given: compared.append(given))
    space = space_of(a=range(10_000))
    assert len(space.cases([{"a": float(i)} for i in range(10_000)])) == 10_000
    assert compared == []


def test_spaces_are_shown_whatever_their_size_and_conditions():
    huge = space_of(**{f"p{i}": range(1000) for i in range(10)})
    assert f"{10**30:,} points" in repr(huge)
    assert huge.dry_run().points == 10**30
    asked = []
    conditioned = space_of(a=range(1000), b=range(1000)).where(lambda a, b: asked.append((a, b)))
    assert "1,000,000 points at most" in repr(conditioned)
    assert asked == []


def test_a_space_whose_condition_raises_is_shown():
    space = space_of(a=[0, 1]).where(lambda a: 1 / a)
    assert "points unknown: ZeroDivisionError" in repr(space)
    assert "ZeroDivisionError" in space._repr_html_()
    with pytest.raises(ZeroDivisionError):
        len(space)


def test_arguments_in_the_wrong_place_are_told():
    with pytest.raises(ArgumentError, match="parameters are the second argument"):
        ParameterSpace([Parameter("a", [1])])
    with pytest.raises(ArgumentError, match=r"expected a megalith\.Context"):
        ParameterSpace("", [Parameter("a", [1])], context="cache")
    with pytest.raises(ArgumentError, match="unit: got None"):
        Parameter("a", [1], unit=None)
