"""Arguments by name, bound by Python itself."""

from __future__ import annotations

import inspect
import keyword
import types
from typing import TYPE_CHECKING, Any

from megalith.exceptions import ArgumentError
from megalith.records.encoding import text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class Arguments:
    """How arguments become names: a function of the same signature, which Python itself calls."""

    def __init__(self, function: Any, name: str, ignore: Sequence[str]) -> None:
        if isinstance(ignore, str):
            message = f"ignore: got {ignore!r}, expected a list of names of arguments"
            raise ArgumentError(message, name="ignore", got=ignore, expected="list of str")
        self._function = function if isinstance(function, types.FunctionType) else None
        try:
            signature: inspect.Signature | None = inspect.signature(function)
        except (TypeError, ValueError):
            signature = None
        if isinstance(function, type) and signature is not None:
            self._function = None
        is_wrapper = hasattr(function, "__wrapped__")
        parameters = list(signature.parameters.values()) if signature is not None else _ANY
        if any(keyword.iskeyword(parameter.name) or not parameter.name.isidentifier() for parameter in parameters):
            parameters = _ANY
        self._parameters = {_shown_name(parameter): parameter for parameter in parameters}
        self._is_open = parameters is _ANY or is_wrapper
        self._follows = self._function is not None and not is_wrapper and parameters is not _ANY
        names = list(self._parameters)
        self._keywords_ignored: tuple[str, ...] = ()
        unknown = [one for one in ignore if one not in names]
        if unknown and "**" in names:
            self._keywords_ignored = tuple(unknown)
        elif unknown:
            message = f"ignore: {name} has no argument {unknown[0]!r}; there are {', '.join(names) or 'none'}"
            raise ArgumentError(message, name="ignore", got=unknown[0], expected=", ".join(names))
        kept = [one for one in names if one not in set(ignore)]
        self.names = tuple(kept)
        self.labels = tuple(text(one) for one in kept)
        self.positions = {
            one: i
            for i, (one, parameter) in enumerate(self._parameters.items())
            if parameter.kind in (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        }
        self._call = _twin(parameters, kept, name)

    def default(self, name: str) -> Any:
        """Return the default of an argument, `inspect.Parameter.empty` if it has none."""
        parameter = self._parameters.get(name)
        return inspect.Parameter.empty if parameter is None else parameter.default

    def defaults(self) -> list[Any]:
        """Return all defaults."""
        empty = inspect.Parameter.empty
        return [parameter.default for parameter in self._parameters.values() if parameter.default is not empty]

    def bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[tuple[str, ...], tuple[Any, ...]]:
        """Return names and values."""
        call = self._call
        function = self._function
        if self._follows and function is not None:
            if call.__defaults__ is not function.__defaults__:
                call.__defaults__ = function.__defaults__
            if call.__kwdefaults__ is not function.__kwdefaults__:
                call.__kwdefaults__ = function.__kwdefaults__
        if self._keywords_ignored:
            kwargs = {name: value for name, value in kwargs.items() if name not in self._keywords_ignored}
        try:
            return self.names, call(*args, **kwargs)
        except TypeError:
            # What a decorator makes of its arguments is its own matter.
            if not self._is_open:
                raise
        return ("*", "**"), (args, dict(kwargs))


_ANY = [
    inspect.Parameter("args", inspect.Parameter.VAR_POSITIONAL),
    inspect.Parameter("kwargs", inspect.Parameter.VAR_KEYWORD),
]


_STARS: dict[Any, str] = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}


def _shown_name(parameter: inspect.Parameter) -> str:
    return _STARS.get(parameter.kind, parameter.name)


def _twin(parameters: Sequence[inspect.Parameter], kept: Sequence[str], name: str) -> types.FunctionType:
    """Make a function of the same signature that gives the values of its arguments."""
    words: list[str] = []
    seen_star = False
    for i, parameter in enumerate(parameters):
        if parameter.kind is parameter.KEYWORD_ONLY and not seen_star:
            words.append("*")
            seen_star = True
        seen_star = seen_star or parameter.kind is parameter.VAR_POSITIONAL
        stars = _STARS.get(parameter.kind, "")
        words.append(stars + parameter.name + ("" if parameter.default is parameter.empty else "=None"))
        is_last_of_position = parameter.kind is parameter.POSITIONAL_ONLY and not (
            i + 1 < len(parameters) and parameters[i + 1].kind is parameter.POSITIONAL_ONLY
        )
        if is_last_of_position:
            words.append("/")
    values = [parameter.name for parameter in parameters if _shown_name(parameter) in kept]
    space: dict[str, Any] = {}
    listed = "".join(f"{value}, " for value in values)
    exec(f"def twin({', '.join(words)}): return ({listed})", space)  # the names are identifiers
    twin: types.FunctionType = space["twin"]
    given = [parameter for parameter in parameters if parameter.default is not parameter.empty]
    twin.__defaults__ = tuple(p.default for p in given if p.kind is not p.KEYWORD_ONLY) or None
    twin.__kwdefaults__ = {p.name: p.default for p in given if p.kind is p.KEYWORD_ONLY} or None
    twin.__name__ = name.rpartition(".")[2]
    twin.__qualname__ = name.partition(".")[2] if name.startswith("__main__.") else twin.__name__
    return twin
