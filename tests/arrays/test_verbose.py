"""`verbose=True` shows a bar on the standard error stream and changes nothing else."""

import numpy as np
import pytest

import megalith
from megalith.testing.cases import LARGE, assert_identical

VALUES = np.random.default_rng(0).integers(0, 9, LARGE, dtype=np.uint8)
CALLS = {
    "where": lambda **v: megalith.where(VALUES, **v),
    "apply_lut": lambda **v: megalith.apply_lut(VALUES, np.arange(9), **v),
    "apply_lut_to_index": lambda **v: megalith.apply_lut_to_index(VALUES, np.array([1]), np.arange(9), **v),
    "correlate1d": lambda **v: megalith.correlate1d(VALUES, [1.0, 2.0], **v),
    "neighbours": lambda **v: megalith.neighbours(np.arange(300_000), 1, **v),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_verbose_call_shows_its_name_and_gives_the_same(name, capsys):
    plain = CALLS[name]()
    assert capsys.readouterr() == ("", "")
    assert_identical(CALLS[name](verbose=True), plain)
    said = capsys.readouterr()
    assert said.out == ""
    assert name in said.err
    assert "100%" in said.err


@pytest.mark.parametrize("name", ["read", "write"])
def test_a_verbose_read_or_write_shows_its_name(name, tmp_path, capsys):
    megalith.write(tmp_path / "a.npy", VALUES)
    if name == "read":
        megalith.read(tmp_path / "a.npy", verbose=True)
    else:
        megalith.write(tmp_path / "a.npy", VALUES, verbose=True)
    assert name in capsys.readouterr().err


def test_a_verbose_call_that_fails_raises_its_own_error(capsys):
    with pytest.raises(IndexError):
        megalith.apply_lut(VALUES, np.arange(3), verbose=True)
    assert "apply_lut" in capsys.readouterr().err
