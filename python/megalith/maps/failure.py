"""Items that failed: the exception as it was raised, where it was raised, and for what."""

from __future__ import annotations

import pickle
import reprlib
import traceback
from dataclasses import dataclass
from typing import Any

import cloudpickle

REPR_LENGTH = 200


@dataclass(frozen=True)
class Failure:
    """What stands in the place of a result that could not be had, under ``on_error='keep'``.

    Parameters
    ----------
    index : int
        Which item it was.
    args : tuple
        What the function was called with.
    error : Exception
        What it raised.
    traceback : str
        Where, as Python would have printed it in the worker.

    Examples
    --------
    >>> from megalith import maps
    >>> maps.run(lambda x: 1 / x, [1, 0, 2], on_error='keep')[1]
    Failure(index=1, args=(0,), error=ZeroDivisionError('division by zero'))
    """

    index: int
    args: tuple[Any, ...]
    error: BaseException
    traceback: str

    def __repr__(self) -> str:
        return f"Failure(index={self.index}, args={shown(self.args)}, error={self.error!r})"


class RemoteTraceback(Exception):  # noqa: N818  # It is the cause of an exception, never raised.
    """The text of a traceback in another process."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f'\n"""\n{self.text}"""'


def shown(args: tuple[Any, ...]) -> str:
    """Return the arguments of a call as people want to see them: short, arrays by their shape."""
    short = reprlib.Repr()
    short.maxother = short.maxstring = short.maxlong = 60
    texts = [_array(arg) or short.repr(arg) for arg in args]
    text = f"({', '.join(texts)}{',' if len(texts) == 1 else ''})"
    return text if len(text) <= REPR_LENGTH else text[: REPR_LENGTH - 4] + "...)"


def _array(arg: Any) -> str | None:
    shape, dtype = getattr(arg, "shape", None), getattr(arg, "dtype", None)
    return None if shape is None or dtype is None or shape == () else f"<{dtype} array of shape {shape}>"


def explain(error: BaseException, index: int, args: tuple[Any, ...]) -> BaseException:
    """Add to an exception which item raised it, and return it."""
    error.add_note(f"raised for item {index} of a map, called with {shown(args)}")
    return error


def packed(error: BaseException) -> bytes:
    """Pickle an exception with the text of its traceback, whatever it is made of.

    Exceptions whose `__init__` takes other arguments than `args` cannot be unpickled the usual way, and find out only
    then: such an exception is made anew from its class, its `args` and its attributes. Where that fails too, what
    arrives is a RuntimeError that says what it was.
    """
    text = "".join(traceback.format_exception(error))
    for form in (error, _Parts(type(error), error.args, {**error.__dict__})):
        try:
            data = cloudpickle.dumps((form, text))
            found = _whole(pickle.loads(data)[0])
        except Exception:  # Anything may happen in the code of users; the next form is tried.
            continue
        if type(found).__qualname__ == type(error).__qualname__:
            return bytes(data)
    kind = type(error)
    return pickle.dumps((RuntimeError(f"{kind.__module__}.{kind.__qualname__}: {error}"), text))


def unpacked(data: bytes) -> tuple[BaseException, str]:
    """Return an exception that came from a worker, with the traceback there as its cause, and that traceback."""
    form, text = pickle.loads(data)
    error = _whole(form)
    error.__cause__ = RemoteTraceback(text)
    return error, text


@dataclass(frozen=True)
class _Parts:
    """What an exception is made of."""

    kind: type[BaseException]
    args: tuple[Any, ...]
    attributes: dict[str, Any]


def _whole(form: Any) -> BaseException:
    if not isinstance(form, _Parts):
        assert isinstance(form, BaseException)
        return form
    error = form.kind.__new__(form.kind, *form.args)
    error.args = form.args
    error.__dict__.update(form.attributes)
    return error
