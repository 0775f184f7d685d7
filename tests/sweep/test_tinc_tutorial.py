"""TINC's tutorials on caching, with megalith's import: pixels of a figure, and the notebook on results in Python."""

import os
import signal

import matplotlib as mpl
import numpy as np
import pytest

mpl.use("Agg")
from matplotlib import pyplot as plt

from megalith import Parameter, ParameterSpace

DRAWN = []


def graph(length, width, position):
    DRAWN.append((length, width, position))
    figure, axes = plt.subplots(figsize=(2, 1.5), dpi=50)
    axes.bar([position], [length], width=width)
    return figure


def create_graph(length, width, position):
    figure = graph(length, width, position)
    figure.canvas.draw()
    pixels = figure.canvas.buffer_rgba()
    plt.close(figure)
    return pixels


@pytest.fixture
def ps(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    DRAWN.clear()
    space = ParameterSpace("graphs")
    length, width = Parameter("length", [1, 3, 5]), Parameter("width", [0.2, 0.4])
    position = Parameter("position", np.linspace(0, 1, 3))
    space.register_parameters([length, width, position])
    space.enable_cache()
    return space


def test_the_caching_tutorial(ps):
    drawn = create_graph(1, 0.2, 0.5)
    assert isinstance(drawn, memoryview)
    DRAWN.clear()

    def interrupt(_point, _value):
        if len(DRAWN) == 9:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        ps.sweep(create_graph, on_result=interrupt)
    assert len(DRAWN) == 9
    results = ps.sweep(create_graph)
    assert len(DRAWN) == len(set(DRAWN)) == 18
    assert len(results) == 18

    seen = []
    for name, value in (("length", 3), ("width", 0.4), ("position", 0.5)):
        ps[name].value = value
        ps[name].register_callback(seen.append)
    image = ps.run_process(create_graph)
    assert seen == []
    assert len(DRAWN) == 18
    assert image.shape == (75, 100, 4)
    assert image.dtype == np.uint8
    assert np.array_equal(image, np.asarray(create_graph(3, 0.4, 0.5)))
    DRAWN.clear()

    forced = ps.run_process(create_graph, force_recompute=True)
    assert seen == [3, 0.4, 0.5]
    assert DRAWN == [(3, 0.4, 0.5)]
    assert np.array_equal(forced, image)

    ps.clear_cache()
    assert len(ps.results(create_graph)) == 0
    ps.run_process(create_graph)
    assert len(DRAWN) == 2
    assert seen == 2 * [3, 0.4, 0.5]


def test_figures_and_images_are_kept_as_pixels(ps):
    from PIL import Image

    figure = ps.run_process(graph)
    assert np.array_equal(figure, np.asarray(create_graph(1, 0.2, 0.0)))
    assert plt.get_fignums() == []
    image = ps.run_process(lambda length: {"images": [Image.new("RGB", (4, length), "red")]})["images"][0]
    assert image.shape == (1, 4, 3)
    assert np.array_equal(ps.sweep(graph, ["length"])[1], figure)


def test_the_notebook_on_results_in_python(ps):
    def process(param1, param2, param3):
        DRAWN.append((param1, param2, param3))
        return [param1 + param2 + param3, {"more_data": [param1 + param2, param2 + param3]}]

    space = ParameterSpace("cache_test")
    p1, p2, p3 = Parameter("param1"), Parameter("param2"), Parameter("param3")
    p1.values = [0.1, 0.2, 0.3]
    p2.values = range(5)
    p3.values = [i * 0.2 for i in range(4)]
    space.register_parameters([p1, p2, p3])
    space.enable_cache()
    p3.value = 0.4
    first = space.run_process(process)
    assert space.run_process(process) == first == [0.1 + 0 + 0.4, {"more_data": [0.1, 0.4]}]
    assert len(DRAWN) == 1
    space.clear_cache()
    space.run_process(process)
    space.sweep(process)
    assert len(DRAWN) == 61
    p1.value = 0.3
    space.run_process(process)
    assert len(DRAWN) == 61
