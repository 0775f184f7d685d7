"""Results as dicts, data sets and data frames, whole or in part."""

import importlib
import pickle

import numpy as np
import pytest
import xarray as xr

from megalith import Parameter, ParameterSpace
from megalith.exceptions import KeyMissingError
from megalith.testing.faults import run_python


@pytest.fixture
def space(context):
    parameters = [
        Parameter("sigma", [1, 2, 4], unit="um"),
        Parameter("level", [0.25, 0.5]),
        Parameter("mode", ["reflect", "nearest"]),
    ]
    return ParameterSpace("filters", parameters, context=context)


def measure(sigma, level, mode):
    if sigma == 2 and mode == "nearest":
        raise ValueError("no")
    image = np.full((4, 3), 10 * sigma + level, np.float32)
    return {"mean": sigma * level, "count": sigma, "label": mode.upper(), "image": image}


def test_a_dataset_has_parameters_as_typed_labelled_dimensions(space):
    found = space.sweep(measure, on_error="keep").to_xarray()
    assert dict(found.sizes) == {"sigma": 3, "level": 2, "mode": 2, "image_dim_0": 4, "image_dim_1": 3}
    assert [found[name].dtype.kind for name in ("sigma", "level", "mode")] == ["i", "f", "U"]
    assert set(found.indexes) == {"sigma", "level", "mode"}
    assert found.sigma.attrs == {"units": "um"}
    assert found["mean"].sel(sigma=4, level=0.5, mode="nearest") == 2
    assert np.isnan(found["mean"].sel(sigma=2, level=0.5, mode="nearest"))
    assert found["status"].sel(sigma=2, level=0.5).values.tolist() == ["done", "failed"]
    assert found["label"].sel(sigma=4, level=0.5).values.tolist() == ["REFLECT", "NEAREST"]


def test_types_are_kept_where_nothing_is_missing(space):
    found = space.product("sigma", "level").sweep(measure, on_error="keep").to_xarray()
    assert found["count"].dtype == np.int64
    assert found["image"].dtype == np.float32
    assert found["mode"].values == "reflect"


def test_arrays_are_read_when_they_are_looked_at(space, monkeypatch):
    found = space.sweep(measure, on_error="keep").to_xarray()
    read = []
    from megalith.sweep import tables

    before = tables._mapped
    monkeypatch.setattr(tables, "_mapped", lambda results, i: read.append(i) or before(results, i))
    image = found["image"]
    assert read == []
    assert image.sel(sigma=4, level=0.5, mode="reflect", image_dim_0=1).values.tolist() == [40.5] * 3
    assert len(read) == 1
    assert image.isel(sigma=[0, 2], level=1, mode=0, image_dim_1=slice(1, 3)).shape == (2, 4, 2)
    assert np.isnan(image.sel(sigma=2, mode="nearest").values).all()
    assert np.array_equal(pickle.loads(pickle.dumps(found)).image.values, image.values, equal_nan=True)


def test_a_zip_has_one_dimension(space):
    found = space.zip("level", "mode").sweep(measure).to_xarray()
    assert found["mean"].dims == ("run",)
    assert found["level"].dims == found["mode"].dims == ("run",)
    assert found["run"].values.tolist() == [0, 1]
    assert found["mean"].values.tolist() == [0.25, 0.5]


def test_sums_have_one_dimension_and_products_with_a_zip_two(space):
    both = (space.zip("level", "mode") + space.product("sigma")).sweep(measure, on_error="keep").to_xarray()
    assert dict(both["mean"].sizes) == {"run": 4}
    two = (space.product("sigma") * space.zip("level", "mode")).sweep(measure, on_error="keep").to_xarray()
    assert two["mean"].dims == ("sigma", "run")
    assert two["status"].values.tolist() == [["done", "done"], ["done", "failed"], ["done", "done"]]


def test_points_that_a_condition_excludes_say_so(space):
    found = space.where(lambda sigma, level: sigma * level <= 1).sweep(measure, on_error="keep").to_xarray()
    assert found["status"].sel(sigma=4, mode="reflect").values.tolist() == ["done", "excluded"]


def test_names_of_outputs_never_hide_parameters(space):
    found = space.sweep(lambda sigma: {"sigma": sigma, "status": 1}).to_xarray()
    assert found["sigma_"].sel(sigma=4, level=0.5, mode="reflect") == 4
    assert found["status_"].values.tolist() == np.ones((3, 2, 2), int).tolist()


def test_tuples_give_numbered_outputs_and_what_has_no_common_form_stays_as_it_is(space):
    found = space.sweep(lambda sigma, level: (sigma, np.zeros(sigma), [level, None])).to_xarray()
    first, second, third = (found[f"<lambda>_{i}"].sel(sigma=2, level=0.5, mode="reflect") for i in range(3))
    assert first == 2
    assert second.item().tolist() == [0, 0]
    assert third.item() == [0.5, None]


def test_a_data_frame_has_a_row_for_each_point(space):
    table = space.sweep(measure, on_error="keep").to_dataframe()
    assert list(table.columns) == ["sigma", "level", "mode", "mean", "count", "label", "image", "status"]
    assert len(table) == 12
    assert table.groupby("status").size().to_dict() == {"done": 10, "failed": 2}
    assert table[table.status == "done"]["mean"].sum() == 9


def test_results_without_a_cache_have_tables_too(space):
    free = ParameterSpace("", space.parameters.values())
    found = free.sweep(measure, on_error="keep")
    kept = space.sweep(measure, on_error="keep")
    xr.testing.assert_equal(found.to_xarray().drop_attrs(), kept.to_xarray().drop_attrs())
    assert found.to_dataframe().drop(columns="image").equals(kept.to_dataframe().drop(columns="image"))


def test_an_unfinished_sweep_has_tables(space):
    found = space.results(measure)
    assert found.to_xarray()["status"].values.tolist() == [[["missing"] * 2] * 2] * 3
    assert len(found.to_dataframe()) == 12
    assert found.to_dict() == {}


def test_points_that_are_not_there_are_key_errors(space):
    found = space.results(measure)
    with pytest.raises(KeyMissingError, match="is missing; a sweep computes it"):
        found[1, 0.25, "reflect"]
    with pytest.raises(KeyError, match="no such point"):
        found[7, 0.25, "reflect"]
    assert (1, 0.25, "reflect") not in found


SLOW = """
import time
from pathlib import Path

def slow(i):
    while i == 2 and not Path(__file__).with_name("go").exists():
        time.sleep(0.001)
    return 10 * i
"""

READER = """
import json, sys
from megalith import Context, Parameter, ParameterSpace
sys.path.insert(0, {here!r})
from slow_program import slow
space = ParameterSpace("", [Parameter("i", range(4))], context=Context({cache!r}))
found = space.results(slow)
print(json.dumps([list(found.status.values()), list(found.values())]))
"""


def test_another_process_sees_what_is_done_while_a_sweep_runs(tmp_path, context, monkeypatch):
    (tmp_path / "slow_program.py").write_text(SLOW)
    monkeypatch.syspath_prepend(tmp_path)
    slow = importlib.import_module("slow_program").slow
    space = ParameterSpace("", [Parameter("i", range(4))], context=context)
    running = space.sweep_async(slow)
    while space.results(slow).counts != {"done": 2, "running": 1, "missing": 1}:
        assert not running.wait(0.01)
    said = run_python(READER.format(here=str(tmp_path), cache=str(context.cache_dir)), tmp_path / "reader").check()
    (tmp_path / "go").touch()
    assert said == '[["done", "done", "running", "missing"], [0, 10]]\n'
    assert running.get(60).to_dict() == {(i,): 10 * i for i in range(4)}


def test_results_can_be_pickled_and_shown(space):
    found = space.sweep(measure, on_error="keep")
    again = pickle.loads(pickle.dumps(found))
    assert again[4, 0.5, "nearest"]["mean"] == 2
    assert repr(found) == "<Results of measure: 12 points, 10 done, 2 failed>"
    html = found._repr_html_()
    assert "<td>failed</td>" in html
    assert "&#x27;reflect&#x27;" in html


def one(f, context, **values):
    return ParameterSpace("", [Parameter(name, listed) for name, listed in values.items()], context=context).sweep(f)


def test_outputs_that_would_share_a_name_all_have_one(context):
    found = one(lambda x: {"x": 10 + x, "x_": 20 + x, "status": 30 + x}, context, x=[0, 1])
    table = found.to_dataframe()
    assert table.columns.tolist() == ["x", "x__", "x_", "status_", "status"]
    assert table["x__"].tolist() == [10, 11]
    dataset = found.to_xarray()
    assert {name: dataset[name].values.tolist() for name in ("x__", "x_", "status_")} == {
        "x__": [10, 11],
        "x_": [20, 21],
        "status_": [30, 31],
    }


def test_parameters_called_status_and_run_keep_their_values(context):
    found = one(lambda status: -status, context, status=[5, 6])
    assert found.to_dataframe().status.tolist() == [5, 6]
    dataset = found.to_xarray()
    assert dataset.status.values.tolist() == [5, 6]
    assert dataset.status_.values.tolist() == ["done", "done"]
    space = ParameterSpace("", [Parameter("run", [7, 8]), Parameter("x", [1, 2])], context=context)
    for points in (space, space.zip("run", "x"), space.zip("x", "run"), space.product("x") + space.product("run")):
        dataset = points.sweep(lambda run, x: run * x).to_xarray()
        assert set(dataset.run.values.tolist()) == {7, 8}


def test_values_that_one_array_cannot_hold_stay_what_they_are(context):
    big = one(lambda n: n, context, n=[2**63, -1, 2**70]).to_dataframe()
    assert big.n.tolist() == big.iloc[:, 1].tolist() == [2**63, -1, 2**70]
    nothing = one(lambda n: repr(n), context, n=[None, 1, 2])
    assert nothing.to_dataframe().n.tolist() == nothing.to_xarray().n.values.tolist() == [None, 1, 2]
    holes = ParameterSpace("", [Parameter("n", [2**53 + 1, 0])], context=context).sweep(
        lambda n: n if n else 1 / 0, on_error="keep"
    )
    assert holes.to_dataframe().iloc[:, 1].tolist() == [2**53 + 1, None]


@pytest.mark.parametrize(
    "pair",
    [
        (np.arange(2), np.array(["a", "b"])),
        (np.arange(2), np.array(["2020-01-01", "2021-01-01"], "M8[D]")),
        (1, np.datetime64("2020-01-01")),
        (1, np.bytes_(b"a")),
    ],
)
def test_outputs_of_types_that_do_not_mix_are_objects(context, pair):
    variable = one(lambda i: pair[i], context, i=[0, 1]).to_xarray()["<lambda>"].load()
    assert variable.dtype == object
    assert np.array_equal(variable.values[0], pair[0])
    assert np.array_equal(variable.values[1], pair[1])


def test_a_data_set_whose_points_are_gone_says_so(context):
    space = ParameterSpace("", [Parameter("i", [0, 1])], context=context)
    dataset = space.sweep(lambda i: np.arange(3) + i).to_xarray()
    space.clear_cache()
    with pytest.raises(KeyMissingError, match="not on disk any more"):
        dataset.load()


def test_points_whose_only_value_is_a_tuple_are_found(context):
    assert one(lambda size: sum(size), context, size=[(1, 2), (3, 4)])[3, 4] == 7


def test_linked_values_that_are_nan_have_their_place(context):
    source, follower = Parameter("a", [1, 2]), Parameter("b")
    follower.link(source, lambda _: float("nan"))
    found = ParameterSpace("", [source, follower], context=context).sweep(lambda a, b: a).to_xarray()
    assert found.a.values.tolist() == [1, 2]


def test_images_with_a_palette_are_pixels(context):
    image = pytest.importorskip("PIL.Image")

    def red(i):
        return image.new("RGB", (4, 3), (255, 0, 0)).convert("P")

    assert one(red, context, i=[0])[0].tolist() == [[[255, 0, 0]] * 4] * 3


def test_pictures_in_memory_that_is_used_again_stay_what_they_were():
    canvas = np.zeros((2, 2), np.uint8)

    def draw(i):
        canvas[:] = i
        return memoryview(canvas)

    assert [found[0, 0] for found in one(draw, None, i=[1, 2]).values()] == [1, 2]


def test_points_can_be_looked_up_by_any_equal_number(context):
    found = one(lambda x: -x, context, x=[1, 2])
    assert found[np.float32(2)] == found[2.0] == found[np.int8(2)] == -2


def test_results_with_nan_pickle(context):
    found = pickle.loads(pickle.dumps(one(negative, context, x=[float("nan"), 1.0])))
    assert np.isnan(found[float("nan")])
    assert found.to_xarray().negative.sel(x=1.0) == -1.0


def negative(x):
    return -x
