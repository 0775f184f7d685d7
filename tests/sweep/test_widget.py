"""The widget without a browser: its sliders, what it shows, and what it computes."""

import io
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from matplotlib.image import imread

from megalith import Parameter, ParameterSpace
from megalith.exceptions import MissingExtraError
from megalith.sweep import drawing
from megalith.sweep import widget as widget_module
from megalith.sweep.widget import Explorer

# What functions do and wait for; here, because what a closure holds is part of a function's key.
CALLS = []
BEGUN, GO = threading.Event(), threading.Event()


@pytest.fixture(autouse=True)
def nothing_has_happened():
    CALLS.clear()
    BEGUN.clear()
    GO.clear()


@pytest.fixture
def length():
    return Parameter("length", [1, 2, 3], unit="mm")


@pytest.fixture
def colour():
    return Parameter("colour", ["red", "blue"])


@pytest.fixture
def space(length, colour, tmp_path):
    space = ParameterSpace("waves", [length, colour])
    space.enable_cache(tmp_path / "cache")
    return space


def described(length, colour):
    return f"{length} of {colour}"


def counted(length, colour):
    CALLS.append((length, colour))
    return f"{length} of {colour}"


def slow(length):
    CALLS.append(length)
    BEGUN.set()
    assert GO.wait(30)
    return f"{length} mm"


def until(condition):
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_numbers_have_sliders_and_strings_have_drop_downs(space):
    controls = Explorer(space, described).controls
    assert [type(control.widget).__name__ for control in controls.values()] == ["SelectionSlider", "Dropdown"]
    assert [control.widget.description for control in controls.values()] == ["length [mm]", "colour"]
    assert controls["length"].widget._options_labels == ("1", "2", "3")


@pytest.mark.parametrize(
    ("parameter", "kind", "shown"),
    [
        (Parameter("x", [False, True]), "Dropdown", "False"),
        (Parameter("x", [1, "one", None]), "Dropdown", "1"),
        (Parameter("x", ["1", 1]), "Dropdown", "'1'"),
        (Parameter("x", [0.1, 0.1 + 1e-12]), "SelectionSlider", "0.1"),
        (Parameter("x", minimum=0, maximum=10), "IntSlider", 0),
        (Parameter("x", minimum=0.0, maximum=1.0, default=0.5), "FloatSlider", 0.5),
        (Parameter("x", default=3), "Text", "3"),
    ],
)
def test_each_kind_of_parameter_has_a_control_that_shows_its_value(parameter, kind, shown):
    control = Explorer(ParameterSpace("", [parameter]), lambda x: x).controls["x"].widget
    assert type(control).__name__ == kind
    assert (control.label if hasattr(control, "label") else control.value) == shown


def test_moving_a_slider_sets_the_value_and_calls_the_callbacks_once(space, length):
    calls = []
    length.register_callback(calls.append)
    Explorer(space, described).controls["length"].widget.index = 2
    assert length.value == 3
    assert calls == [3]


def test_setting_a_value_moves_the_slider(space, length, colour):
    controls = Explorer(space, described).controls
    length.value = 2
    colour.value = "blue"
    assert controls["length"].widget.label == "2"
    assert controls["colour"].widget.label == "blue"


def test_a_range_without_steps_moves_both_ways():
    x = Parameter("x", minimum=0.0, maximum=1.0)
    slider = Explorer(ParameterSpace("", [x]), lambda x: x).controls["x"].widget
    slider.value = 0.25
    assert x.value == 0.25
    x.value = 0.75
    assert slider.value == 0.75


def test_a_linked_parameter_follows_and_cannot_be_moved(length, tmp_path):
    width = Parameter("width")
    width.link(length, lambda length: 10 * length)
    space = ParameterSpace("", [length, width])
    space.enable_cache(tmp_path)

    def total(length, width):
        CALLS.append((length, width))
        return length + width

    explorer = Explorer(space, total)
    explorer.automatic.value = True
    explorer.controls["length"].widget.index = 1
    until(lambda: "22" in explorer.output.value)
    assert explorer.controls["width"].widget.disabled
    assert explorer.controls["width"].widget.value == "20"
    assert set(CALLS) <= {(1, 10), (2, 20)}


def test_values_that_were_added_can_be_chosen(space, length):
    explorer = Explorer(space, described)
    length.values = [1, 2, 3, 10]
    length.value = 10
    assert explorer.controls["length"].widget.label == "10"
    explorer.controls["length"].widget.index = 0
    assert length.value == 1


def test_a_cached_result_is_shown_at_once_and_nothing_is_computed(space):
    space.sweep(counted)
    explorer = Explorer(space, counted)
    assert "1 of red" in explorer.output.value
    explorer.controls["length"].widget.index = 2
    assert "3 of red" in explorer.output.value
    assert explorer.status.value == "cached"
    assert explorer.button.disabled
    assert len(CALLS) == 6


def test_a_point_that_is_not_cached_is_computed_by_the_button_and_kept(space):
    explorer = Explorer(space, described)
    assert explorer.status.value == "not computed yet"
    assert explorer.output.layout.visibility == "hidden"
    explorer.button.click()
    until(lambda: explorer.status.value.startswith("computed in"))
    assert explorer.output.layout.visibility == "visible"
    assert "1 of red" in explorer.output.value
    assert space.cached(described)


def test_computing_at_once_needs_no_button(space, colour):
    explorer = Explorer(space, described)
    explorer.automatic.value = True
    until(lambda: "1 of red" in explorer.output.value)
    colour.value = "blue"
    until(lambda: "1 of blue" in explorer.output.value)


def test_without_a_cache_points_are_computed_all_the_same(length):
    explorer = Explorer(ParameterSpace("", [length]), lambda length: length * 11)
    explorer.button.click()
    until(lambda: "11" in explorer.output.value)


def test_sliding_fast_computes_the_first_and_the_last_point_only():
    length = Parameter("length", range(100))
    explorer = Explorer(ParameterSpace("", [length]), slow)
    explorer.automatic.value = True
    until(lambda: CALLS == [0])
    for i in range(1, 100):
        explorer.controls["length"].widget.index = i
    assert explorer.status.value == "computing..."
    GO.set()
    until(lambda: "99 mm" in explorer.output.value)
    assert CALLS == [0, 99]


def test_a_result_that_comes_late_does_not_replace_that_of_another_point(space, length):
    GO.set()
    space.run_process(slow)
    GO.clear()
    explorer = Explorer(space, slow)
    length.value = 3
    BEGUN.clear()
    explorer.button.click()
    until(BEGUN.is_set)
    length.value = 1
    assert explorer.status.value == "cached"
    assert "1 mm" in explorer.output.value
    GO.set()
    until(lambda: space.cached(slow, {"length": 3}) and not explorer._latest._is_busy)
    assert "1 mm" in explorer.output.value
    length.value = 3
    assert "3 mm" in explorer.output.value


def test_a_point_that_one_comes_back_to_is_still_being_computed(space, length):
    explorer = Explorer(space, slow)
    explorer.button.click()
    until(BEGUN.is_set)
    length.value = 2
    assert explorer.status.value == "not computed yet"
    length.value = 1
    assert explorer.status.value == "computing..."
    GO.set()
    until(lambda: "1 mm" in explorer.output.value)
    assert CALLS == [1]


def test_an_error_is_shown_with_its_traceback_and_can_be_tried_again(space):
    def told(length):
        if not GO.is_set():
            raise ValueError("<no> waves")
        return f"{length} mm"

    explorer = Explorer(space, told)
    explorer.button.click()
    until(lambda: explorer.status.value == "failed")
    assert "Traceback" in explorer.output.value
    assert "ValueError: &lt;no&gt; waves" in explorer.output.value
    GO.set()
    explorer.button.click()
    until(lambda: "1 mm" in explorer.output.value)


@pytest.mark.parametrize("is_cached", [True, False])
def test_an_error_of_a_point_that_was_left_is_told_and_shown_when_one_comes_back(is_cached, length, tmp_path):
    space = ParameterSpace("", [length])
    if is_cached:
        space.enable_cache(tmp_path)

    def broken(length):
        slow(length)
        raise SystemExit("no waves")

    explorer = Explorer(space, broken)
    explorer.button.click()
    until(BEGUN.is_set)
    length.value = 2
    GO.set()
    until(lambda: "failed: length=1" in explorer.status.value)
    length.value = 1
    assert explorer.status.value == "failed"
    assert "SystemExit: no waves" in explorer.output.value


def test_a_failure_of_a_sweep_is_shown_and_not_computed_again_by_itself(space, length):
    def picky(length):
        CALLS.append(length)
        return 1 / (length - 2)

    space.product("length").sweep(picky, on_error="keep")
    explorer = Explorer(space, picky)
    explorer.automatic.value = True
    length.value = 2
    assert explorer.status.value == "failed"
    assert "ZeroDivisionError" in explorer.output.value
    assert CALLS == [1, 2, 3]


def test_an_error_in_a_callback_is_shown(space, length):
    explorer = Explorer(space, described)

    def refuse(value):
        raise ValueError(f"not {value}")

    length.register_callback(refuse)
    explorer.controls["length"].widget.index = 1
    assert "ValueError: not 2" in explorer.output.value
    length.remove_callback(refuse)
    explorer.controls["length"].widget.index = 0
    assert explorer.status.value == "not computed yet"


def test_a_function_of_something_else_is_an_error_that_is_shown(space):
    explorer = Explorer(space, lambda height: height)
    assert explorer.status.value == "failed"
    assert "height" in explorer.output.value


def test_a_closed_widget_lets_its_parameters_go(space, length):
    explorer = Explorer(space, described)
    explorer.box.close()
    length.value = 2
    assert explorer.controls["length"].widget.label == "1"


def test_widget_is_a_box_of_the_controls_the_button_and_the_result(space):
    box = space.widget(described)
    assert [type(child).__name__ for child in box.children] == ["SelectionSlider", "Dropdown", "HBox", "HTML"]


def test_widget_without_ipywidgets_says_what_to_install(space, monkeypatch):
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    with pytest.raises(MissingExtraError, match=r"megalith\[widgets\]"):
        space.widget(described)


def test_ipywidgets_is_loaded_at_first_use():
    code = "import sys, megalith.sweep; sys.exit('ipywidgets' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_latest_does_again_what_is_asked_for_after_it_has_ended():
    done = []
    latest = widget_module.Latest(done.append)
    latest.ask("a")
    until(lambda: not latest._is_busy)
    latest.ask("b")
    until(lambda: not latest._is_busy)
    assert done == ["a", "b"]


@pytest.mark.parametrize("shape", [(9, 13), (9, 13, 3), (9, 13, 4)])
def test_png_holds_the_bytes_it_was_given(shape):
    given = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    found = np.rint(imread(io.BytesIO(drawing.png(given))) * 255)
    np.testing.assert_array_equal(found, given)


def test_pixels_of_floats_go_from_the_least_to_the_greatest():
    pixels = drawing.pixels(np.array([[-1.0, 0.0], [np.nan, 1.0]]))
    np.testing.assert_array_equal(pixels, [[0, 128], [0, 255]])


def test_pixels_of_floats_with_channels_go_from_0_to_1():
    pixels = drawing.pixels(np.full((1, 1, 3), [-0.5, 0.5, 2.0]))
    np.testing.assert_array_equal(pixels, [[[0, 128, 255]]])


@pytest.mark.parametrize(
    "array",
    [
        np.full((2, 2), 7.0),
        np.full((2, 2), np.nan),
        np.full((2, 2), np.inf),
        np.zeros((2, 2), bool),
        np.full((2, 2), 2**63, np.uint64),
        np.full((2, 2, 4), 1000, np.int16),
    ],
)
def test_pixels_of_one_value_are_all_alike(array):
    assert len(np.unique(drawing.pixels(array))) == 1


@pytest.mark.parametrize(
    ("value", "is_image"),
    [
        (np.zeros((8, 8)), True),
        (np.zeros((8, 8, 3), np.uint8), True),
        (np.zeros((8, 8), bool), True),
        (np.zeros((8, 8, 2)), False),
        (np.zeros((7, 8)), False),
        (np.zeros(64), False),
        (np.zeros((8, 8), complex), False),
        ([[1, 2], [3, 4]], False),
        ("text", False),
    ],
)
def test_images_are_arrays_of_numbers_with_some_pixels_on_a_side(value, is_image):
    assert drawing.is_image(value) == is_image
    assert ("<img" in drawing.as_html(value)) == is_image


def test_a_large_image_is_thinned_before_it_travels():
    text = drawing.as_html(np.zeros((5000, 3000), np.float16))
    assert "width: 600px" in text
    assert "5000 x 3000 float16, 0 to 0" in text


def test_as_html_shows_dicts_by_key_objects_as_they_wish_and_text_as_it_is():
    class Drawn:
        def _repr_html_(self):
            return "<b>drawn</b>"

    text = drawing.as_html({"a<b": Drawn(), "picture": np.zeros((8, 8)), "text": "<i>"})
    assert "a&lt;b" in text
    assert "<b>drawn</b>" in text
    assert "<img" in text
    assert "&lt;i&gt;" in text


def test_long_text_is_shown_with_its_middle_left_out():
    text = drawing.as_html("begin" + "x" * 100_000 + "end")
    assert len(text) < 21_000
    assert "begin" in text
    assert "end" in text
