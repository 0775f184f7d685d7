"""Exceptions on their way from a worker, and what is kept of them."""

import pickle
import sys
import types
from dataclasses import dataclass

import pytest

from megalith import maps
from megalith.maps import failure


class WordyError(Exception):
    def __init__(self, n):
        super().__init__(f"bad value {n}")
        self.n = n


class PickyError(Exception):
    def __init__(self, *, reason):
        super().__init__(f"because of {reason}")
        self.reason = reason


@dataclass(frozen=True)
class FrozenError(Exception):
    code: int


class UnpicklableError(Exception):
    def __reduce__(self):
        raise TypeError("no")


class OtherError(Exception):
    def __reduce__(self):
        return str, ("something else",)


class OddExit(SystemExit):
    def __init__(self, *, code):
        super().__init__(code)


class SpeechlessError(Exception):
    def __init__(self):
        super().__init__(lambda: iter(()))
        self.frames = sys._getframe()

    def __str__(self):
        raise ZeroDivisionError


def raised(error):
    try:
        raise error
    except BaseException as caught:
        return caught


def sent(error):
    return failure.unpacked(failure.packed(raised(error)))


@pytest.mark.parametrize(
    "error",
    [
        WordyError(3),
        PickyError(reason="rain"),
        FrozenError(3),
        UnpicklableError("a", 1),
        OtherError("a", 1),
        OddExit(code=4),
        ExceptionGroup("many", [WordyError(1), ExceptionGroup("more", [PickyError(reason="snow")])]),
        FileNotFoundError(2, "No such file", "/a/b"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
        StopIteration(4),
        KeyError("k"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_exception_says_the_same_after_its_way(error):
    got, text = sent(error)
    assert type(got) is type(error)
    assert (str(got), repr(got), got.args == error.args or isinstance(error, ExceptionGroup)) == (
        str(error),
        repr(error),
        True,
    )
    assert {**vars(got), "__notes__": 0} == {**vars(error), "__notes__": 0}
    assert getattr(got, "code", None) == getattr(error, "code", None)
    assert "in raised" in text


def test_an_exception_that_has_no_text_and_no_pickle_is_named():
    got, _ = sent(SpeechlessError())
    assert type(got) is RuntimeError
    assert "SpeechlessError" in str(got)


def test_an_exception_of_a_class_that_is_missing_here_keeps_its_text():
    module = types.ModuleType("only_in_the_worker")
    exec("class ThereError(Exception): pass", module.__dict__)
    sys.modules[module.__name__] = module
    try:
        data = failure.packed(raised(module.ThereError("far away")))
    finally:
        del sys.modules[module.__name__]
    got, text = failure.unpacked(data)
    assert "ThereError: far away" in str(got)
    assert "ThereError: far away" in text


def test_the_item_is_noted_on_an_exception_that_cannot_be_written_to():
    def work(x):
        raise FrozenError(x)

    with pytest.raises(FrozenError) as caught:
        maps.run(work, [7])
    assert caught.value.__notes__ == ["raised for item 0 of a map, called with (7,)"]


def test_arguments_without_a_usable_repr_hide_no_exception():
    class Shapeless:
        dtype = 1

        @property
        def shape(self):
            raise ZeroDivisionError

        def __repr__(self):
            raise ZeroDivisionError

    def work(*_):
        raise WordyError(1)

    with pytest.raises(WordyError, match="bad value 1"):
        maps.run(work, [Shapeless()], [10**5000])


def test_one_exception_of_several_items_has_one_note():
    error = ValueError("one")

    def work(_):
        raise error

    results = maps.run(work, range(5), on_error="keep")
    assert [failure.index for failure in results] == list(range(5))
    assert len(error.__notes__) == 1


def test_failures_can_be_saved():
    def work(x):
        raise [PickyError(reason="rain"), UnpicklableError("a"), FrozenError(3)][x]

    results = maps.run(work, range(3), on_error="keep")
    for got, want in zip(pickle.loads(pickle.dumps(results)), results, strict=True):
        assert (got.index, got.args, got.traceback) == (want.index, want.args, want.traceback)
        assert (type(got.error), got.error.args) == (type(want.error), want.error.args)
