"""Parameters: their values, the one they have, callbacks and links."""

import copy
import pickle

import numpy as np
import pytest

from megalith import Parameter
from megalith.exceptions import ArgumentError


def test_a_parameter_has_the_first_of_its_values_or_its_default():
    assert Parameter("x", [3, 1, 2]).value == 3
    assert Parameter("x", [3, 1, 2], default=2).value == 2
    assert Parameter("x", minimum=0.5, maximum=2).value == 0.5
    assert Parameter("x").value is None


@pytest.mark.parametrize("value", [2.0, np.int8(2), np.float32(2), np.array(2)])
def test_an_equal_number_of_another_type_is_taken_as_the_one_that_is_listed(value):
    parameter = Parameter("x", [1, 2, 3])
    parameter.value = value
    assert parameter.value == 2
    assert type(parameter.value) is int


@pytest.mark.parametrize("value", [4, 2.5, "2", None, True, np.nan, [1, 2]])
def test_a_value_that_is_not_listed_is_a_value_error(value):
    parameter = Parameter("x", [1, 2, 3])
    with pytest.raises(ValueError, match=r"x: got .*, expected one of 1, 2, 3"):
        parameter.value = value
    assert parameter.value == 1


def test_the_error_says_which_number_is_near():
    with pytest.raises(ArgumentError, match=r"the nearest is 0\.3"):
        Parameter("x", [0.1, 0.2, 0.3]).value = 0.1 + 0.2


@pytest.mark.parametrize("value", [-0.1, 1.1, "a", np.nan, True])
def test_a_value_outside_of_the_range_is_a_value_error(value):
    parameter = Parameter("x", minimum=0, maximum=1)
    with pytest.raises(ValueError, match="expected a number from 0 to 1"):
        parameter.value = value
    parameter.value = np.float64(0.5)
    assert type(parameter.value) is float


def test_steps_give_the_numbers_one_would_write_down():
    assert Parameter("x", minimum=0.1, maximum=0.7, step=0.1).values == (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
    assert Parameter("x", minimum=-1, maximum=0, step=1 / 3).values[-1] == 0.0
    assert Parameter("x", minimum=0, maximum=10, step=4).values == (0, 4, 8)
    assert all(type(value) is int for value in Parameter("x", minimum=0, maximum=10, step=4).values)


def test_a_longer_range_begins_with_the_same_numbers():
    short, long = (Parameter("x", minimum=0.05, maximum=end, step=0.07).values for end in (3, 9))
    assert long[: len(short)] == short


def test_numbers_of_values_and_logarithmic_spacing():
    assert Parameter("x", minimum=0, maximum=0.4, num=5).values == (0.0, 0.1, 0.2, 0.3, 0.4)
    assert Parameter("x", minimum=1, maximum=1000, num=4, spacing="logarithmic").values == (1.0, 10.0, 100.0, 1000.0)
    assert Parameter("x", minimum=1, maximum=20, step=2, spacing="logarithmic").values == (1, 2, 4, 8, 16)


def test_strings_bools_and_other_categories_are_values():
    assert Parameter("x", np.array(["a", "b"])).values == ("a", "b")
    assert Parameter("x", [False, True]).values == (False, True)
    assert Parameter("x", [None, "otsu"]).value is None
    dates = np.array(["2020-01-01", "2021-01-01"], "datetime64[D]")
    assert Parameter("x", dates).values == tuple(dates)


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"values": []}, "got none"),
        ({"values": "abc"}, "a list of values"),
        ({"values": 3}, "a list of values"),
        ({"values": [1, 2, 1.0]}, "stands in it twice"),
        ({"values": [[1], [2]]}, "keys of a dict"),
        ({"values": [1], "minimum": 0}, "values and a range"),
        ({"minimum": 2, "maximum": 1}, "2 or more"),
        ({"minimum": "a"}, "a number"),
        ({"minimum": 0, "step": 1}, "both"),
        ({"minimum": 0, "maximum": 1, "step": 0}, "more than 0"),
        ({"minimum": 0, "maximum": 1, "step": 2, "spacing": "logarithmic"}, "more than 0"),
        ({"minimum": 1, "maximum": 2, "step": 1, "spacing": "logarithmic"}, "a factor"),
        ({"minimum": 0, "maximum": 1, "num": 0}, "1 or more"),
        ({"minimum": 0, "maximum": 1, "num": 2, "step": 1}, "not both"),
        ({"minimum": 0, "maximum": 1, "spacing": "log"}, "'linear' or 'logarithmic'"),
        ({"values": [1, 2], "default": 3}, "expected one of"),
    ],
)
def test_what_is_not_possible_is_said(options, what):
    with pytest.raises(ArgumentError, match=what):
        Parameter("x", **options)


@pytest.mark.parametrize("name", ["", "a b", "1a", "lambda", 3])
def test_names_are_those_of_arguments(name):
    with pytest.raises(ArgumentError, match="the name of an argument"):
        Parameter(name)


def test_new_values_keep_the_present_one_if_they_have_it():
    parameter = Parameter("x", [1, 2], default=2)
    parameter.values = [2, 3]
    assert parameter.value == 2
    parameter.values = np.arange(5, 8)
    assert parameter.value == 5
    assert parameter.values == (5, 6, 7)
    assert (parameter.minimum, parameter.maximum) == (5, 7)


def test_callbacks_are_called_with_new_values_only():
    parameter, seen = Parameter("x", [1, 2, 3]), []
    parameter.register_callback(seen.append)
    parameter.register_callback(seen.append)
    parameter.value = 2
    parameter.value = 2.0
    parameter.value = 3
    assert seen == [2, 3]
    parameter.remove_callback(seen.append)
    parameter.value = 1
    assert seen == [2, 3]
    with pytest.raises(ArgumentError, match="a function of the value"):
        parameter.register_callback("print")


def test_a_linked_parameter_follows():
    length, width, area = Parameter("length", [1, 2, 3]), Parameter("width"), Parameter("area")
    seen = []
    width.link(length, lambda length: 2 * length)
    area.link(width, lambda width: width**2)
    area.register_callback(seen.append)
    length.value = 3
    assert (width.value, area.value, seen) == (6, 36, [36])
    with pytest.raises(ArgumentError, match="linked to length"):
        width.value = 1
    with pytest.raises(ArgumentError, match="follows it"):
        length.link(area)
    width.unlink()
    length.value = 1
    assert width.value == 6


def test_a_link_to_values_that_are_not_possible_is_refused_and_not_made():
    length, width = Parameter("length", [5]), Parameter("width", [1, 2])
    with pytest.raises(ArgumentError, match="width: got 5"):
        width.link(length)
    width.value = 2
    assert width.source is None


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))])
def test_a_parameter_can_be_copied(copied):
    parameter = Parameter("x", [1, 2], unit="mm")
    parameter.value = 2
    again, empty = copied(parameter), copied(Parameter("y"))
    assert (again.values, again.value, again.unit) == ((1, 2), 2, "mm")
    assert empty.value is None
    empty.value = 3
    assert empty.value == 3


def test_representations_show_values_and_unit():
    assert repr(Parameter("x", range(20), unit="s")) == "Parameter('x', [0, 1, 2, 3, 4, 5, 6, 7, ...], now 0 s)"
    assert "&#x27;&lt;a&gt;&#x27;" in Parameter("x", ["<a>"])._repr_html_()
