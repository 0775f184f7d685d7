"""Walks through nested containers: where they are, and how they refuse what they meet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from megalith import _npy
from megalith._optional import is_instance
from megalith.exceptions import DTypeError

if TYPE_CHECKING:
    from megalith._typing import AnyArray

# What a message shows of a key.
SHOWN = 40


class Walk:
    """A walk through a nested value that is to be kept.

    Parameters
    ----------
    name : str
        What the value is called in messages.
    supported : str
        What can be kept.
    most_levels : int
        How many containers may lie inside of each other.
    """

    def __init__(self, name: str, supported: str, most_levels: int) -> None:
        self._name = name
        self._supported = supported
        self._most_levels = most_levels
        self._path: list[Any] = []
        self._open: set[int] = set()

    def where(self) -> str:
        """Return the place as Python would write it."""
        return place(self._name, self._path)

    def refuse(self, got: str, problem: str) -> NoReturn:
        """Raise the error for what is there."""
        message = f"{self.where()}: {problem}; supported are {self._supported}"
        raise DTypeError(message, name=self.where(), got=got, supported=self._supported)

    def too_deep(self, value: Any) -> NoReturn:
        """Raise the error for what lies too deep."""
        depth = len(self._path)
        del self._path[3:]
        what = f"from here on {depth - len(self._path)} more levels of containers"
        self.refuse(type(value).__name__, f"{what}; at most {self._most_levels} levels can be kept")

    def enter(self, value: Any) -> None:
        """Go into a container; `leave` comes out of it. No context manager, which would cost levels of the stack."""
        if id(value) in self._open:
            self.refuse(type(value).__name__, f"this {type(value).__name__} contains itself")
        if len(self._open) == self._most_levels:
            self.too_deep(value)
        self._open.add(id(value))

    def leave(self, value: Any) -> None:
        """Come out of a container."""
        self._open.remove(id(value))

    def node(self, value: Any) -> Any:
        """Return what is kept of a value."""
        raise NotImplementedError

    def nodes(self, values: Any) -> list[Any]:
        """Return what is kept of each entry of a sequence or set."""
        found = []
        for i, value in enumerate(values):
            self._path.append(i)
            found.append(self.node(value))
            self._path.pop()
        return found

    def describe(self, dtype: np.dtype[Any]) -> Any:
        """Return the description of a type of elements, which is refused if it has none."""
        try:
            return _npy.describe(dtype)
        except DTypeError as error:
            self.refuse(str(dtype), error.message.removeprefix("sink: "))

    def refuse_masked(self, array: AnyArray) -> None:
        """Raise the error for a masked array."""
        if is_instance(array, "numpy.ma", "MaskedArray"):
            problem = "a masked array, whose mask would be lost; give array.filled(value), or (array.data, array.mask)"
            self.refuse("MaskedArray", problem)

    def refuse_type(self, value: Any, kept: tuple[type, ...]) -> NoReturn:
        """Raise the error for a value of another type; for one of a class derived from what is kept, with the mend."""
        kind = type(value)
        for base in kept:
            if isinstance(value, base) and not isinstance(value, np.generic):
                what = f"a {kind.__name__}, which would come back as a plain {base.__name__}"
                self.refuse(kind.__name__, f"{what}; convert it with {base.__name__}(...)")
        self.refuse(kind.__name__, f"got {kind.__module__}.{kind.__qualname__}")


def place(name: str, path: list[Any]) -> str:
    """Return a place in a nested value as Python would write it."""
    return name + "".join(f"[{shown(key)}]" for key in path)


def shown(key: Any) -> str:
    """Return a key as a message shows it."""
    try:
        text = repr(key)
    except Exception:  # A key of any type; its own error is not what is wrong.
        text = f"a {type(key).__name__}"
    return text if len(text) <= SHOWN else text[:SHOWN] + "..."
