"""Boxes are all of an array, each element once, and end where chunks do."""

import itertools
import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from megalith.arrays.blocks import boxes

AXES = st.lists(
    st.tuples(st.integers(0, 9), st.integers(1, 5), st.integers(0, 4), st.integers(1, 5), st.integers(0, 4)), max_size=3
)


def edges(found, axis):
    """Where boxes are cut along an axis."""
    return {part for box in found for part in (box[axis].start, box[axis].stop)}


@given(axes=AXES, order=st.sampled_from("CF"), budget=st.integers(1, 200), given_chunks=st.sampled_from(range(4)))
def test_boxes_have_each_element_once_and_are_cut_between_chunks(axes, order, budget, given_chunks):
    shape, chunks, start, sink_chunks, sink_start = zip(*axes, strict=True) if axes else ((),) * 5
    options = {"chunks": chunks, "start": start} if given_chunks & 1 else {}
    options |= {"sink_chunks": sink_chunks, "sink_start": sink_start} if given_chunks & 2 else {}
    found = boxes(shape, 1, order, budget=budget, **options)
    counts = np.zeros(shape, int)
    for box in found:
        counts[box] += 1
    assert (counts == 1).all()
    for axis, n in enumerate(shape):
        inner = edges(found, axis) - {0, n}
        if given_chunks & 2:
            assert all((at + sink_start[axis]) % sink_chunks[axis] == 0 for at in inner)
        elif given_chunks:
            assert all((at + start[axis]) % chunks[axis] == 0 for at in inner)
    cell = math.prod(min(math.lcm(a, b), n) for n, a, _, b, _ in axes)
    if given_chunks == 3 and cell <= budget and not any(start) and not any(sink_start):
        for axis, n in enumerate(shape):
            assert all(at % chunks[axis] == 0 for at in edges(found, axis) - {0, n})


def test_boxes_keep_to_the_budget_where_chunks_do():
    for chunks, sink_chunks in itertools.product([(4, 4, 4), (2, 3, 5), (1, 30, 2)], repeat=2):
        found = boxes((30, 30, 30), 1, "C", chunks=chunks, sink_chunks=sink_chunks, budget=500)
        assert max(math.prod(part.stop - part.start for part in box) for box in found) <= 500
