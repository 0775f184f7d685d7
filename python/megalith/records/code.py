"""How code is identified: what a function or class does, and what it reaches.

A code object counts by its instructions (`bytecode`). From there the walk goes on to what these name: functions and
classes of the user's own modules are read in the same way, plain data that cannot change counts by value, a package
that is installed counts by its version. Of globals that can change the functions in them and the methods of their
classes count, and their state is left out.

`Code` keeps what a walk found together with every name it looked up. As long as all of them still are the same objects,
the digest holds; that look takes about a microsecond.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import importlib
import importlib.util
import inspect
import operator
import pathlib
import re
import sys
import types
from collections import deque
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from megalith._optional import is_instance
from megalith.records import bytecode
from megalith.records.encoding import ENCODERS, Refused, Work, content_of_bytes, module_name, qualified, text
from megalith.records.origin import compiled_content, home, is_user_class, is_user_module, package_version

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from megalith.records.bytecode import Reference

PYTHON: Final = f"Python {sys.version_info[0]}.{sys.version_info[1]}"
"""What compiled the code: another minor version has other instructions."""

MOST = 1024
"""Functions and classes whose code is remembered."""

MOST_THINGS = 100
"""Larger containers are not searched for functions."""

_IGNORED = b"~"
_ABSENT: Any = object()


_DATA = (
    type(None), bool, int, float, complex, str, bytes, type(Ellipsis), range, slice, np.generic, np.dtype,
    pathlib.PurePath, re.Pattern, enum.Enum,
)  # fmt: skip

# Of modules that are not imported for this.
_DATA_ELSEWHERE = (
    ("datetime", "date"), ("datetime", "time"), ("datetime", "timedelta"), ("datetime", "tzinfo"),
    ("decimal", "Decimal"), ("fractions", "Fraction"), ("uuid", "UUID"),
    ("operator", "itemgetter"), ("operator", "attrgetter"),
)  # fmt: skip

_NATIVE = (
    types.BuiltinFunctionType, types.MethodDescriptorType, types.WrapperDescriptorType, types.MethodWrapperType,
    types.ClassMethodDescriptorType, np.ufunc,
)  # fmt: skip


def is_data(value: Any) -> bool:
    """Whether a value is plain and cannot change."""
    if isinstance(value, tuple | frozenset):
        return all(is_data(item) for item in value)
    return isinstance(value, _DATA) or any(is_instance(value, module, name) for module, name in _DATA_ELSEWHERE)


def _is_frozen(value: Any) -> bool:
    """Whether a value is a frozen dataclass of plain data."""
    parameters = getattr(type(value), "__dataclass_params__", None)
    if not getattr(parameters, "frozen", False):
        return False
    values = [getattr(value, field.name, None) for field in dataclasses.fields(value)]
    return all(is_data(item) or _is_frozen(item) for item in values)


def default_names(function: types.FunctionType) -> dict[str, Any]:
    """Return the defaults of a function by the names of their arguments."""
    code = function.__code__
    defaults = function.__defaults__ or ()
    names = code.co_varnames[code.co_argcount - len(defaults) : code.co_argcount]
    return {**dict(zip(names, defaults, strict=True)), **(function.__kwdefaults__ or {})}


def inner(value: Any) -> Any:
    """Return what a wrapper wraps, None if it is none that is known."""
    if isinstance(value, staticmethod | classmethod | types.MethodType):
        return value.__func__
    if isinstance(value, functools.partial | functools.partialmethod | functools.cached_property):
        return value.func
    if isinstance(value, np.vectorize):
        return value.pyfunc
    if isinstance(value, type | types.ModuleType | types.FunctionType):
        return None
    top = type(value).__module__.partition(".")[0]
    for name in ("func", "py_func") if top in ("joblib", "megalith", "numba") else ():
        found = inspect.getattr_static(value, name, None)
        if found is not None and callable(getattr(value, name)):
            return getattr(value, name)
    wrapped = inspect.getattr_static(value, "__wrapped__", None)
    return wrapped if callable(wrapped) else None


def is_memory(value: Any) -> bool:
    """Whether a value is a function with a cache around it, which does what the function does."""
    if type(value) is functools._lru_cache_wrapper:
        return True
    module = type(value).__module__.partition(".")[0]
    return module in ("joblib", "megalith") and not isinstance(value, type) and inner(value) is not None


Watched = tuple[str, Any, str, Any]


class _Found(NamedTuple):
    """What a walk gave: the parts by name, and all that it looked at."""

    parts: dict[str, bytes]
    digest: bytes
    lookups: tuple[tuple[Callable[[str], Any], tuple[str, ...], tuple[Any, ...]], ...]
    absences: tuple[tuple[Any, frozenset[str]], ...]
    classes: tuple[tuple[type, Any, int], ...]
    containers: tuple[tuple[Any, tuple[Any, ...]], ...]
    functions: tuple[tuple[types.FunctionType, Any, Any, Any], ...]
    cells: tuple[tuple[types.CellType, Any], ...]


class Code:
    """What a function or class does, and what it reaches, as of now.

    Parameters
    ----------
    root : callable or type
        A function, a class, or something that wraps one.
    is_call : bool
        Whether it stands for itself: its defaults count, and what its closure holds now. Otherwise whoever asks sees to
        these.
    """

    def __init__(self, root: Any, *, is_call: bool = False) -> None:
        self.root = root
        self.is_call = is_call
        self._found: _Found | None = None
        # Values that can change count as they were when they were seen first.
        self._first: dict[int, tuple[Any, bytes]] = {}
        self._closure: dict[str, bytes] = {}
        self._watched: tuple[_Found | None, tuple[Watched, ...]] = (None, ())
        if is_call and isinstance(root, types.FunctionType):
            for name, cell in zip(root.__code__.co_freevars, root.__closure__ or (), strict=True):
                value = _inside(cell)
                if value is not _ABSENT and not _is_code(value):
                    self._closure[name] = self._closure_value(name, value)

    def _closure_value(self, name: str, value: Any) -> bytes:
        try:
            return ENCODERS[type(value)](value, Work())
        except Refused as refused:
            raise refused.at(f"closure {name!r}") from None

    def digest(self) -> bytes:
        """Return 16 bytes for all of it."""
        return self._now().digest

    def parts(self) -> dict[str, bytes]:
        """Return the bytes of each part by what it is."""
        return dict(self._now().parts)

    def watched(self) -> tuple[Watched, ...]:
        """Return what the last digest was read from: as long as these are the very same, so is the digest.

        Returns
        -------
        watched : tuple of (kind, place, name, value)
            ``'item'``: what a dict has under a name, ``'absent'``: that it has nothing there; ``'attribute'``: of an
            object; ``'get'``: what a function gives for a name. The same object as before if nothing changed.
        """
        found = self._found or self._now()
        of, watched = self._watched
        if of is not found:
            watched = tuple(_watched(found))
            self._watched = (found, watched)
        return watched

    def _now(self) -> _Found:
        found = self._found
        if found is None or not _is_unchanged(found):
            walk = _Walk(self, self._first)
            found = self._found = walk.run()
            self._first = walk.seen
        return found

    def closure(self, name: str) -> bytes | None:
        """Return the bytes of what the closure held at first."""
        return self._closure.get(name)

    def keep_closure(self, name: str, value: Any) -> bytes:
        """Take what came into the closure later."""
        data = self._closure[name] = self._closure_value(name, value)
        return data


def _watched(found: _Found) -> Iterator[Watched]:
    for get, names, values in found.lookups:
        space = getattr(get, "__self__", None)
        is_dict = type(space) is dict
        for name, value in zip(names, values, strict=True):
            yield ("item", space, name, value) if is_dict else ("get", get, name, value)
    for space, absent in found.absences:
        for name in sorted(absent):
            yield ("absent", space, name, None) if type(space) is dict else ("get", space.get, name, None)
    for function, code, _, _ in found.functions:
        yield "attribute", function, "__code__", code
    for cls, bases, n_names in found.classes:
        yield "attribute", cls, "__bases__", bases
        yield "get", functools.partial(_has_names, cls, n_names), "", True
    for container, things in found.containers:
        yield "get", functools.partial(_has_things, container, things), "", True
    for cell, value in found.cells:
        yield "attribute", cell, "cell_contents", value


def _is_unchanged(found: _Found) -> bool:
    for get, names, values in found.lookups:
        if not all(map(operator.is_, map(get, names), values)):
            return False
    for namespace, absent in found.absences:
        if not namespace.keys().isdisjoint(absent):
            return False
    for cls, bases, n_names in found.classes:
        if cls.__bases__ is not bases or not _has_names(cls, n_names):
            return False
    for container, things in found.containers:
        if not _has_things(container, things):
            return False
    for function, code, defaults, kwdefaults in found.functions:
        if (
            function.__code__ is not code
            or function.__defaults__ is not defaults
            or function.__kwdefaults__ is not kwdefaults
        ):
            return False
    return all(_inside(cell) is value for cell, value in found.cells)


def _has_names(cls: type, n_names: int, _: str = "") -> bool:
    return len(vars(cls)) == n_names


def _things_in(container: Any) -> tuple[Any, ...]:
    """Return what can be called in a dict, with its keys, or in a list; and what may contain such things."""
    if len(container) > MOST_THINGS:
        return ()
    if isinstance(container, tuple | list):
        return tuple([item for item in tuple(container) if _may_lead_to_code(item)])
    return tuple([one for item in tuple(container.items()) if _may_lead_to_code(item[1]) for one in item])


def _may_lead_to_code(value: Any) -> bool:
    return callable(value) or isinstance(value, tuple | list | dict)


def _has_things(container: Any, things: tuple[Any, ...], _: str = "") -> bool:
    now = _things_in(container)
    return len(now) == len(things) and all(map(operator.is_, now, things))


def _inside(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return _ABSENT


def _is_code(value: Any) -> bool:
    """Whether a value counts by what it does."""
    if isinstance(value, (types.FunctionType, type, types.ModuleType, *_NATIVE)):
        return True
    if isinstance(value, types.MethodType | functools.partial):
        return False
    return inner(value) is not None


class _Walk:
    """One look at all that code reaches: functions and classes are read in the order in which they are met."""

    def __init__(self, owner: Code, before: dict[int, tuple[Any, bytes]]) -> None:
        self.owner = owner
        self.before = before
        self.parts: dict[str, bytes] = {}
        self.labels: dict[int, str] = {}
        self.n_of_label: dict[str, int] = {}
        self.queue: deque[tuple[str, Any]] = deque()
        self.kept: list[Any] = []
        self.lookups: dict[int, tuple[Any, dict[str, Any]]] = {}
        self.absences: dict[int, tuple[Any, set[str]]] = {}
        self.classes: list[tuple[type, Any, int]] = []
        self.containers: dict[int, tuple[Any, tuple[Any, ...], bytes]] = {}
        self.functions: list[tuple[types.FunctionType, Any, Any, Any]] = []
        self.seen: dict[int, tuple[Any, bytes]] = {}
        self.cells: list[tuple[types.CellType, Any]] = []

    def run(self) -> _Found:
        root = self.owner.root
        token = self.token(root, is_root=True)
        if "code" not in self.parts and "code" not in self.labels.values():
            self.parts["code"] = token
        while self.queue:
            label, thing = self.queue.popleft()
            self.parts[label] = self.a_class(thing) if isinstance(thing, type) else self.function(thing, label)
        whole = b"".join([text(label) + self.parts[label] for label in sorted(self.parts)])
        return _Found(
            self.parts,
            content_of_bytes(text(PYTHON) + whole),
            tuple((space.get, tuple(names), tuple(names.values())) for space, names in self.lookups.values()),
            tuple((space, frozenset(names)) for space, names in self.absences.values()),
            tuple(self.classes),
            tuple([(value, things) for value, things, _ in self.containers.values()]),
            tuple(self.functions),
            tuple(self.cells),
        )

    def token(self, value: Any, *, is_root: bool = False) -> bytes:
        """Return what stands for something that code reaches; functions and classes are read later."""
        if isinstance(value, types.FunctionType):
            if is_root or is_user_module(home(value)):
                return self.node(value, qualified(value), is_root=is_root)
            return self.foreign_wrapper(value)
        if isinstance(value, type):
            if (is_root and value.__flags__ & 1 << 9) or is_user_class(value):
                return self.node(value, qualified(value), is_root=is_root)
            return self.package(value.__module__) + text(qualified(value))
        if isinstance(value, types.ModuleType):
            return text(value.__name__) if is_user_module(value.__name__) else self.package(value.__name__)
        if isinstance(value, property):
            return b"".join([self.token(part) for part in (value.fget, value.fset, value.fdel)])
        if is_data(value):
            return self.first(value) + self.methods(value)
        if isinstance(value, np.ufunc):
            return self.package("numpy") + text(value.__name__)
        if isinstance(value, _NATIVE):
            owner = getattr(value, "__objclass__", None)
            module = getattr(value, "__module__", None) or getattr(owner, "__module__", "")
            return self.package(module) + text(qualified(value)) + self.compiled(module)
        if isinstance(value, tuple):
            return b"(" + b"".join([self.token(item) for item in value])
        if isinstance(value, dict | list | types.MappingProxyType):
            return _IGNORED + self.functions_in(value)
        within = inner(value)
        if within is None:
            # Of an object its methods count, and its state only where that cannot change.
            state = self.first(value) if _is_frozen(value) else b""
            return _IGNORED + self.methods(value) + self.compiled(getattr(value, "__module__", "")) + state
        words = self.package(type(value).__module__) + text(qualified(type(value)))
        if isinstance(value, functools.partial):
            words += b"".join([self.first(part) for part in (value.args, value.keywords)])
        return words + self.token(within, is_root=is_root)

    def methods(self, value: Any) -> bytes:
        """Return what stands for the methods of an object."""
        return self.token(type(value)) if is_user_class(type(value)) else b""

    def functions_in(self, value: Any) -> bytes:
        """Return what stands for the functions in something that can change, nothing if there are none."""
        known = self.containers.get(id(value))
        if known is not None:
            return known[2]
        things = _things_in(value)
        self.containers[id(value)] = (value, things, b"")
        if isinstance(value, tuple | list):
            words = [self.function_or_more(item) for item in things]
        else:
            pairs = [(key, self.function_or_more(item)) for key, item in zip(things[::2], things[1::2], strict=True)]
            words = sorted([self.first(key) + word for key, word in pairs if word])
        data = b"".join(words)
        self.containers[id(value)] = (value, things, data)
        return data

    def function_or_more(self, value: Any) -> bytes:
        return self.token(value) if callable(value) else self.functions_in(value)

    def node(self, value: Any, name: str, *, is_root: bool) -> bytes:
        label = self.labels.get(id(value))
        if label is None:
            label = "code" if is_root else self.unique(f"global {name!r}")
            self.labels[id(value)] = label
            self.kept.append(value)
            self.queue.append((label, value))
        return text(label)

    def first(self, value: Any) -> bytes:
        """Return the bytes of a value as it was when it was first seen, something fixed for what has none."""
        known = self.seen.get(id(value)) or self.before.get(id(value))
        if known is None:
            try:
                known = (value, ENCODERS[type(value)](value, Work()))
            except (Refused, RecursionError):
                known = (value, _IGNORED)
        self.seen[id(value)] = known
        return known[1]

    def unique(self, label: str) -> str:
        n = self.n_of_label[label] = self.n_of_label.get(label, 0) + 1
        return label if n == 1 else f"{label} #{n}"

    def package(self, module: str | None) -> bytes:
        """Return what stands for code that is installed: its package, whose version is a part."""
        top = (module or "").partition(".")[0]
        version = package_version(top) if top else ""
        if version:
            self.parts[f"version of {top}"] = text(version)
        return text(top)

    def compiled(self, module: Any) -> bytes:
        """Take a module that the user has compiled by the content of its file."""
        content = compiled_content(module) if isinstance(module, str) and module in sys.modules else b""
        if content:
            self.parts[f"file of {module}"] = content
        return content

    def foreign_wrapper(self, value: types.FunctionType) -> bytes:
        """Take a function of an installed package by its version, and what it wraps of the user's by code."""
        words = self.package(home(value)) + text(value.__code__.co_qualname)
        held = [value.__dict__.get("__wrapped__"), *(_inside(cell) for cell in value.__closure__ or ())]
        for one in held:
            if isinstance(one, types.FunctionType) and id(one) not in self.labels:
                words += self.token(one) if is_user_module(home(one)) else b""
            elif one is not None and id(one) in self.labels:
                words += text(self.labels[id(one)])
        registry = value.__dict__.get("registry")
        if isinstance(registry, types.MappingProxyType):  # of functools.singledispatch
            for cls in sorted(registry, key=qualified):
                words += text(qualified(cls)) + self.token(registry[cls])
        return words

    def function(self, function: types.FunctionType, label: str) -> bytes:
        self.functions.append((function, function.__code__, function.__defaults__, function.__kwdefaults__))
        scan = bytecode.scan(function.__code__)
        words = [scan.content]
        is_root = label == "code"
        if not is_root:
            for name, default in default_names(function).items():
                words += [text(name), self.value(default)]
        elif self.owner.is_call:
            for name, default in default_names(function).items():
                self.parts[f"default {name!r}"] = self.value(default)
        if not is_root or self.owner.is_call:
            for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
                data = self.cell(name, cell, is_root=is_root)
                if is_root:
                    self.parts[f"closure {name!r}"] = data
                else:
                    words += [text(name), data]
            wrapped = function.__dict__.get("__wrapped__")
            if wrapped is not None:
                words.append(self.token(wrapped))
        for reference in scan.references:
            words += [bytecode.plain(tuple(reference)), self.resolve(reference, function.__globals__)]
        return b"".join(words)

    def value(self, value: Any) -> bytes:
        return self.token(value) if _is_code(value) else self.first(value)

    def cell(self, name: str, cell: types.CellType, *, is_root: bool) -> bytes:
        value = _inside(cell)
        first = self.owner.closure(name) if is_root else None
        if first is not None:
            return first
        self.cells.append((cell, value))
        if value is _ABSENT:
            return b"?"
        if _is_code(value):
            return self.token(value)
        return self.owner.keep_closure(name, value) if is_root else self.first(value)

    def a_class(self, cls: type) -> bytes:
        words = [text(cls.__name__)]
        words += [self.token(base) for base in cls.__bases__]
        if type(cls) is not type:
            words.append(self.token(type(cls)))
        space = vars(cls)
        self.classes.append((cls, cls.__bases__, len(space)))
        for name in sorted(space):
            value = self.look(space, name)
            if name in _CLASS_MACHINERY or isinstance(value, types.GetSetDescriptorType | types.MemberDescriptorType):
                continue
            if isinstance(value, cls) and isinstance(value, enum.Enum):
                words += [text(name), self.first(value._value_)]
            else:
                words += [text(name), self.token(value)]
        return b"".join(words)

    # Names.

    def look(self, space: Any, name: str) -> Any:
        """Look a name up, and remember what was there."""
        value = space.get(name, _ABSENT)
        if value is _ABSENT:
            self.absences.setdefault(id(space), (space, set()))[1].add(name)
        else:
            self.lookups.setdefault(id(space), (space, {}))[1][name] = value
        return value

    def resolve(self, reference: Reference, space: dict[str, Any]) -> bytes:
        if reference.level is not None:
            return self.imported(reference, space)
        value = self.look(space, reference.name)
        if value is _ABSENT:
            return b"!"  # a builtin, or not there yet
        owner = module_name(space.get("__name__"))
        return self.attributes(value, reference.attributes, f"{owner}.{reference.name}")

    def attributes(self, value: Any, names: tuple[str, ...], path: str) -> bytes:
        """Follow attributes as long as they are those of modules."""
        for name in names:
            if not isinstance(value, types.ModuleType) or not is_user_module(value.__name__):
                break
            module = value
            self.compiled(module.__name__)
            value = self.look(vars(module), name)
            path = f"{module.__name__}.{name}"
            if value is _ABSENT:
                return b"!"
        if is_data(value):
            self.parts[f"constant global {path!r}"] = self.first(value)
            return text(path) + self.methods(value)
        return self.token(value)

    def imported(self, reference: Reference, space: dict[str, Any]) -> bytes:
        name = reference.name
        if reference.level:
            package = space.get("__package__") or space.get("__name__", "").rpartition(".")[0]
            try:
                name = importlib.util.resolve_name("." * reference.level + name, package)
            except (ImportError, ValueError):
                return b"!"
        if not is_user_module(name):
            return self.package(name)
        module = self.module(name)
        if module is None:
            return b"!"
        if reference.attributes and reference.attributes[0] not in vars(module) and hasattr(module, "__path__"):
            self.module(f"{name}.{reference.attributes[0]}")
        return self.attributes(module, reference.attributes, name)

    def module(self, name: str) -> types.ModuleType | None:
        """Import a module of the user's, as the function is going to."""
        try:
            module = importlib.import_module(name)
        except Exception:
            module = None
        self.look(sys.modules, name)
        return module


_CLASS_MACHINERY = frozenset(
    {
        "__abstractmethods__", "__annotate__", "__annotate_func__", "__annotations__", "__annotations_cache__",
        "__classdictcell__", "__dataclass_fields__", "__dict__", "__doc__", "__firstlineno__", "__module__",
        "__orig_bases__", "__parameters__", "__qualname__", "__slotnames__", "__static_attributes__",
        "__type_params__", "__weakref__", "_abc_impl",
    }
)  # fmt: skip


# Found by the identity of code and globals, which these keep. Functions, and what they have closed over, are not kept.
_codes: dict[tuple[int, int], Code] = {}


def of(thing: types.FunctionType | type) -> Code:
    """Return what a function or class does, without what the function's closure and defaults hold."""
    key = (id(thing), 0) if isinstance(thing, type) else (id(thing.__code__), id(thing.__globals__))
    found = _codes.get(key)
    if found is None:
        found = Code(thing if isinstance(thing, type) else _bare(thing))
        if len(_codes) >= MOST:
            _codes.pop(next(iter(_codes)), None)
        _codes[key] = found
    return found


def _bare(function: types.FunctionType) -> types.FunctionType:
    code = function.__code__
    cells = tuple(types.CellType() for _ in code.co_freevars)
    return types.FunctionType(code, function.__globals__, code.co_name, None, cells)
