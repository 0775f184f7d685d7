"""Items that failed: the exception as it was raised, where it was raised, and for what."""

from __future__ import annotations

import io
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

    def __reduce__(self) -> tuple[Any, ...]:
        return _failure, (self.index, self.args, _bytes_of(self.error), self.traceback)

    def __repr__(self) -> str:
        return f"Failure(index={self.index}, args={shown(self.args)}, error={self.error!r})"


def _failure(index: int, args: tuple[Any, ...], error: bytes, text: str) -> Failure:
    return Failure(index, args, _exception(error, text), text)


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
    texts = [_shown(arg, short) for arg in args]
    text = f"({', '.join(texts)}{',' if len(texts) == 1 else ''})"
    return text if len(text) <= REPR_LENGTH else text[: REPR_LENGTH - 4] + "...)"


def _shown(arg: Any, short: reprlib.Repr) -> str:
    try:
        shape, dtype = getattr(arg, "shape", None), getattr(arg, "dtype", None)
        is_array = shape is not None and dtype is not None and shape != ()
        return f"<{dtype} array of shape {shape}>" if is_array else short.repr(arg)
    except Exception:  # Code of the user's; what is wrong with an item matters more.
        return f"<{type(arg).__name__}>"


def explain(error: BaseException, index: int, args: tuple[Any, ...]) -> BaseException:
    """Add to an exception which item raised it, and return it."""
    notes = vars(error).setdefault("__notes__", [])  # `add_note` fails on frozen ones.
    notes.append(f"raised for item {index} of a map, called with {shown(args)}")
    return error


def packed(error: BaseException) -> bytes:
    """Pickle an exception with the text of its traceback, whatever it is made of."""
    return pickle.dumps((_bytes_of(error), "".join(traceback.format_exception(error))))


def unpacked(data: bytes) -> tuple[BaseException, str]:
    """Return an exception that came from a worker, with the traceback there as its cause, and that traceback."""
    form, text = pickle.loads(data)
    error = _exception(form, text)
    _set(error, "__cause__", RemoteTraceback(text))
    return error, text


def _bytes_of(error: BaseException) -> bytes:
    """Pickle an exception; where nothing helps, a RuntimeError that says what it was."""
    for is_forced in (False, True):
        file = io.BytesIO()
        try:
            _Pickler(file, is_forced=is_forced).dump(error)
            found = pickle.loads(file.getvalue())
        except Exception:  # Anything may happen in the code of users.
            continue
        if type(found).__qualname__ == type(error).__qualname__:
            return file.getvalue()
    return pickle.dumps(RuntimeError(traceback.format_exception_only(error)[-1].strip()))


def _exception(form: bytes, text: str) -> BaseException:
    """Return a pickled exception; a RuntimeError where its class cannot be had, or does not work, here."""
    try:
        error: BaseException = pickle.loads(form)
    except Exception as reason:
        last = text.strip().rpartition("\n")[2]
        return RuntimeError(f"{last} (this exception cannot be unpickled here: {reason})")
    return error


class _Pickler(cloudpickle.CloudPickler):  # type: ignore[misc]
    """Takes exceptions to parts.

    The usual way calls the class with `args`. That fails, or changes the message, where `__init__` takes something
    else than what it hands on.
    """

    def __init__(self, file: io.BytesIO, *, is_forced: bool) -> None:
        super().__init__(file)
        self._is_forced = is_forced

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, BaseException) and (self._is_forced or _is_plain(type(value))):
            return _made, (type(value), value.args), vars(value), None, None, _restore
        return super().reducer_override(value)


def _is_plain(kind: type[BaseException]) -> bool:
    """Whether it has no pickling of its own."""
    return (
        kind.__reduce__ is BaseException.__reduce__
        and kind.__reduce_ex__ is object.__reduce_ex__
        and kind.__setstate__ is BaseException.__setstate__
    )


def _made(kind: type[BaseException], args: tuple[Any, ...]) -> BaseException:
    error = kind.__new__(kind, *args)
    builtin: Any = next(base for base in kind.__mro__ if base.__module__ == "builtins")
    builtin.__init__(error, *args)
    _set(error, "args", args)
    return error


def _set(error: BaseException, name: str, value: Any) -> None:
    BaseException.__setattr__(error, name, value)  # Also of a frozen one.


def _restore(error: BaseException, state: dict[str, Any]) -> None:
    vars(error).update(state)
