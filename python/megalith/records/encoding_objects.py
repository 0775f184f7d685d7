"""Instances, classes, functions and modules as bytes.

An instance is its class and its state, as pickle would take it apart, without ever writing a pickle. What holds more
than its state says (an open file, a lock, a generator) is refused.
"""

from __future__ import annotations

import collections
import copyreg
import dataclasses
import enum
import functools
import io
import pathlib
import types
from typing import TYPE_CHECKING, Any

from megalith.records import code
from megalith.records.encoding import (
    ENCODERS,
    Encoder,
    Refused,
    Work,
    builtin,
    derived,
    encode,
    encode_part,
    named,
    other,
    qualified,
    text,
)
from megalith.records.nested import shown
from megalith.records.origin import is_user_class, package_version

if TYPE_CHECKING:
    from collections.abc import Mapping

_WHAT = {
    "generator": "a generator",
    "coroutine": "a coroutine",
    "TextIOWrapper": "an open file",
    "BufferedReader": "an open file",
    "BufferedWriter": "an open file",
    "BufferedRandom": "an open file",
    "FileIO": "an open file",
    "lock": "a lock",
    "RLock": "a lock",
    "socket": "a socket",
}


def refusal(value: Any, why: str = "") -> Refused:
    """Make the refusal of a value."""
    cls = type(value)
    what = _WHAT.get(cls.__name__)
    if what is None:
        what = f"an object of type {cls.__qualname__ if cls.__module__ == 'builtins' else qualified(cls)}"
    return Refused(qualified(cls), f"{what} cannot be a key{why and f' ({why})'}")


@builtin(slice)
def _slice(value: slice, work: Work) -> bytes:
    return other("slice", encode(value.start, work), encode(value.stop, work), encode(value.step, work))


@builtin(range)
def _range(value: range, work: Work) -> bytes:
    return other("range", encode(value.start, work), encode(value.stop, work), encode(value.step, work))


@derived(pathlib.PurePath)
def _path(value: pathlib.PurePath, work: Work) -> bytes:
    # Where a path leads is no part of it: nothing is resolved or opened.
    flavour = "windows" if isinstance(value, pathlib.PureWindowsPath) else "posix"
    return other("path", text(flavour), text(str(value)))


@derived(enum.Enum)
def _enum(value: enum.Enum, work: Work) -> bytes:
    content = value._value_
    if type(content) is object:
        content = None
    return other("enum", _class(type(value), work), encode(value._name_, work), encode_part(content, work, ".value"))


@builtin(collections.defaultdict)
def _defaultdict(value: collections.defaultdict[Any, Any], work: Work) -> bytes:
    def content(value: collections.defaultdict[Any, Any], work: Work) -> bytes:
        factory = encode_part(value.default_factory, work, ".default_factory")
        return other("defaultdict", factory, _items_of_dict(value, work))

    return work.within(value, content)


@builtin(io.BytesIO, io.StringIO)
def _file_in_memory(value: Any, work: Work) -> bytes:
    return other(type(value).__name__, encode(value.getvalue(), work), encode(value.tell(), work))


@builtin(types.MappingProxyType)
def _proxy(value: Mapping[Any, Any], work: Work) -> bytes:
    return work.within(value, lambda value, work: other("mappingproxy", encode(dict(value), work)))


@named("zarr.core.array.Array", "zarr.core.array.AsyncArray", "zarr.core.group.Group", "zarr.core.group.AsyncGroup")
@named("zarr.core.Array", "zarr.hierarchy.Group")
def _zarr(value: Any, work: Work) -> bytes:
    # Its state says where its content is, and not what it is.
    raise Refused(qualified(type(value)), "an array that is not read yet cannot be a key (read it first: array[:])")


@named("logging.Logger")
def _logger(value: Any, work: Work) -> bytes:
    return other("logger", text(value.name))


@builtin(types.ModuleType, subclasses=lambda value, work: _module(value, work))
def _module(value: types.ModuleType, work: Work) -> bytes:
    return other("module", text(value.__name__))


# Functions and classes.


@derived(type)
def _class(value: type, work: Work) -> bytes:
    if is_user_class(value):
        return other("class", text(qualified(value)), code.of(value).digest())
    return other("class", text(qualified(value)))


builtin(type)(_class)


@builtin(types.FunctionType)
def _function(value: types.FunctionType, work: Work) -> bytes:
    def content(value: types.FunctionType, work: Work) -> bytes:
        parts = [code.of(value).digest()]
        names = code.default_names(value)
        for name, default in names.items():
            parts += [text(name), encode_part(default, work, f"(default {name!r})")]
        for name, cell in zip(value.__code__.co_freevars, value.__closure__ or (), strict=True):
            parts.append(text(name))
            try:
                inside = cell.cell_contents
            except ValueError:
                parts.append(b"?")
            else:
                parts.append(encode_part(inside, work, f"(closure {name!r})"))
        wrapped = value.__dict__.get("__wrapped__")
        if wrapped is not None:
            parts.append(encode_part(wrapped, work, ".__wrapped__"))
        return other("function", text(qualified(value)), encode(len(parts), work), b"".join(parts))

    return work.within(value, content)


@builtin(types.BuiltinFunctionType, types.MethodDescriptorType, types.WrapperDescriptorType, types.MethodWrapperType)
def _native(value: Any, work: Work) -> bytes:
    owner = getattr(value, "__self__", None)
    if owner is None or isinstance(owner, types.ModuleType):
        module = getattr(value, "__module__", None) or getattr(owner, "__name__", "")
        return other("native", text(qualified(value)), text(package_version(module)))
    return other("native method", text(value.__qualname__), encode_part(owner, work, ".__self__"))


@builtin(types.MethodType)
def _method(value: types.MethodType, work: Work) -> bytes:
    return other(
        "method", encode_part(value.__func__, work, ".__func__"), encode_part(value.__self__, work, ".__self__")
    )


@derived(functools.partial)
def _partial(value: functools.partial[Any], work: Work) -> bytes:
    def content(value: functools.partial[Any], work: Work) -> bytes:
        return other(
            "partial",
            text(qualified(type(value))),
            encode_part(value.func, work, ".func"),
            encode_part(value.args, work, ".args"),
            encode_part(value.keywords, work, ".keywords"),
        )

    return work.within(value, content)


@builtin(staticmethod, classmethod)
def _static(value: Any, work: Work) -> bytes:
    return other(type(value).__name__, encode(value.__func__, work))


@builtin(property)
def _property(value: property, work: Work) -> bytes:
    return other("property", encode(value.fget, work), encode(value.fset, work), encode(value.fdel, work))


# Instances.


def _derived_from(base: type) -> Encoder:
    """Return what encodes values of a type derived from a plain one: its class, the plain content, its attributes."""
    plain = ENCODERS[base]

    def content(value: Any, work: Work) -> bytes:
        cls = type(value)
        return other("derived", _class(cls, work), plain(value, work), _attributes(value, work))

    # The plain content of a list or dict looks whether it is open: it would find itself.
    inside = _items_of_list if base is list else _items_of_dict
    if base not in (list, dict):
        return lambda value, work: work.within(value, content)

    def container(value: Any, work: Work) -> bytes:
        return other("derived", _class(type(value), work), inside(value, work), _attributes(value, work))

    return lambda value, work: work.within(value, container)


def _items_of_list(value: Any, work: Work) -> bytes:
    return encode(list(list.__iter__(value)), work)


def _items_of_dict(value: Any, work: Work) -> bytes:
    return encode(dict(dict.items(value)), work)


def _attributes(value: Any, work: Work) -> bytes:
    state = object.__getstate__(value)
    return b"N" if state is None else _state(value, state, work)


for _base in (int, float, complex, str, bytes, bytearray, tuple, list, dict, set, frozenset):
    derived(_base)(_derived_from(_base))


def _state(value: Any, state: Any, work: Work) -> bytes:
    """Encode what `__getstate__` gave: attributes by name, or whatever a class made of it."""
    if (
        isinstance(state, tuple)
        and len(state) == 2
        and isinstance(state[1], dict)
        and isinstance(state[0], dict | None)
    ):
        state = {**(state[0] or {}), **state[1]}
    if type(state) is not dict or not all(type(name) is str for name in state):
        return encode(state, work)
    cls = type(value)
    parts = []
    for name in sorted(state):
        # What a cached_property keeps follows from the rest.
        if _is_cached(cls, name):
            continue
        piece = f".{name}" if name.isidentifier() else f".__dict__[{shown(name)}]"
        parts += [text(name), encode_part(state[name], work, piece)]
    return other("state", encode(len(parts), work), b"".join(parts)) if parts else b"N"


def _all_attributes(value: Any) -> dict[str, Any]:
    state: Any = object.__getstate__(value)
    return {**(state[0] or {}), **state[1]} if isinstance(state, tuple) else dict(state or {})


def _is_cached(cls: type, name: str) -> bool:
    for base in cls.__mro__:
        found = base.__dict__.get(name)
        if found is not None:
            return isinstance(found, functools.cached_property)
    return False


@derived(object)
def _instance(value: Any, work: Work) -> bytes:
    return work.within(value, _taken_apart)


def _is_plainly_taken_apart(cls: Any) -> bool:
    return (
        cls.__reduce_ex__ is object.__reduce_ex__
        and cls.__reduce__ is object.__reduce__
        and cls.__getstate__ is object.__getstate__
    )


def _taken_apart(value: Any, work: Work) -> bytes:
    cls = type(value)
    if cls is object:
        raise refusal(value, "nothing tells it from others")
    if code.is_memory(value):
        # Where results are kept is no part of what it does.
        return other("memory", encode_part(code.inner(value), work, ".__wrapped__"))
    if hasattr(cls, "__next__"):
        raise refusal(value, "" if cls.__name__ in _WHAT else "reading it would use it up")
    if dataclasses.is_dataclass(cls) and _is_plainly_taken_apart(cls):
        fields = {
            field.name: getattr(value, field.name) for field in dataclasses.fields(cls) if hasattr(value, field.name)
        }
        return other("dataclass", _class(cls, work), _state(value, {**_all_attributes(value), **fields}, work))
    try:
        reducer = copyreg.dispatch_table.get(cls)
        reduced = reducer(value) if reducer is not None else value.__reduce_ex__(4)
    except Refused:
        raise
    except Exception as error:
        raise refusal(value, "" if cls.__name__ in _WHAT else str(error)) from error
    if isinstance(reduced, str):
        return other("global", text(f"{cls.__module__}.{reduced}"))
    function, args, state, items, pairs = (*reduced, None, None, None)[:5]
    if function is copyreg.__newobj__ and args[:1] == (cls,):  # type: ignore[attr-defined]
        args = args[1:]
    return other(
        "instance",
        _class(cls, work),
        text(qualified(function)),
        encode(args, work),
        b"N" if state is None else _state(value, state, work),
        b"N" if items is None else encode(list(items), work),
        b"N" if pairs is None else encode(dict(pairs), work),
    )
