"""Every error is ours and also the builtin it is, travels between processes, and says what, got, allowed."""

import builtins
import copy
import pickle
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest

import megalith
from megalith import exceptions
from megalith.exceptions import MegalithError

BUILTINS = {
    "ShapeError": "ValueError",
    "ArgumentError": "ValueError",
    "DTypeError": "TypeError",
    "LayoutError": "ValueError",
    "IndexRangeError": "IndexError",
    "FileReadError": "OSError",
    "FileWriteError": "OSError",
    "FormatError": "ValueError",
    "KeyMissingError": "KeyError",
    "LockTimeoutError": "TimeoutError",
    "SharedMemoryFullError": "MemoryError",
    "OutOfMemoryError": "MemoryError",
    "SelectionError": "LookupError",
    "SweepError": "RuntimeError",
    "OwnershipError": "PermissionError",
    "MissingExtraError": "ImportError",
    "InternalError": "RuntimeError",
}
ERRORS = [
    error
    for error in vars(exceptions).values()
    if isinstance(error, type) and issubclass(error, MegalithError) and error is not MegalithError
]


@pytest.mark.parametrize(("name", "builtin"), BUILTINS.items())
def test_each_error_is_also_the_builtin_it_is(name, builtin):
    error = getattr(exceptions, name)
    assert issubclass(error, MegalithError)
    assert issubclass(error, getattr(builtins, builtin))


def test_every_error_in_the_module_is_exported():
    assert {error.__name__ for error in ERRORS} <= set(exceptions.__all__)


def test_no_error_of_ours_catches_what_the_system_refuses():
    for builtin in (FileNotFoundError, FileExistsError, KeyboardInterrupt):
        assert not any(issubclass(builtin, error) or issubclass(error, builtin) for error in ERRORS)


@pytest.mark.parametrize("error", ERRORS, ids=lambda e: e.__name__)
def test_each_error_shows_its_message_unquoted(error):
    assert str(error("what, got, allowed")) == "what, got, allowed"


@pytest.mark.parametrize("error", ERRORS, ids=lambda e: e.__name__)
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_each_error_pickles_with_its_fields_and_notes(error, protocol):
    fields = {name: f"value of {name}" for name in error._fields}
    before = error("a message", **fields)
    before.add_note("a note")
    after = pickle.loads(pickle.dumps(before, protocol))
    assert type(after) is error
    assert str(after) == "a message"
    assert {name: getattr(after, name) for name in error._fields} == fields
    assert after.__notes__ == ["a note"]


@pytest.mark.parametrize("error", ERRORS, ids=lambda e: e.__name__)
def test_each_error_copies(error):
    assert str(copy.deepcopy(error("a message"))) == "a message"


WRONG = {
    "ShapeError": (lambda: megalith.correlate1d(np.ones((2, 3)), [1.0], axis=5), ["axis", "5", "2"]),
    "ArgumentError": (lambda: megalith.where(np.ones(3), blocks=-4), ["blocks", "-4", "1 or more"]),
    "DTypeError": (lambda: megalith.apply_lut(np.ones(3), np.ones(3)), ["source", "float64", "int"]),
    "IndexRangeError": (lambda: megalith.apply_lut(np.array([1, 77]), np.ones(3)), ["77", "3", "1", "clip"]),
    "LayoutError": (lambda: megalith.where(np.ones(3), np.broadcast_to(np.int64(1), (3,))), ["sink", "read-only"]),
}


@pytest.mark.parametrize(("name", "call", "words"), [(name, *rest) for name, rest in WRONG.items()])
def test_messages_say_what_was_given_and_what_is_allowed(name, call, words):
    with pytest.raises(getattr(exceptions, name)) as caught:
        call()
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("call", "fields"),
    [
        (WRONG["ShapeError"][0], {"name": "axis", "got": 5}),
        (WRONG["ArgumentError"][0], {"name": "blocks", "got": -4}),
        (WRONG["DTypeError"][0], {"name": "source"}),
        (WRONG["IndexRangeError"][0], {"index": 77, "size": 3, "position": (1,)}),
        (WRONG["LayoutError"][0], {"name": "sink"}),
    ],
    ids=WRONG,
)
def test_errors_carry_the_facts_as_attributes(call, fields):
    with pytest.raises(MegalithError) as caught:
        call()
    assert {name: getattr(caught.value, name) for name in fields} == fields


def test_an_error_in_a_worker_process_arrives_as_what_it_was():
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        error = pool.submit(megalith.apply_lut, np.array([9]), np.zeros(2)).exception()
    assert type(error) is exceptions.IndexRangeError
    assert (error.index, error.size) == (9, 2)


def test_warnings_are_warnings_of_users():
    assert issubclass(exceptions.MegalithWarning, UserWarning)
    assert issubclass(exceptions.MegalithDeprecationWarning, DeprecationWarning)
