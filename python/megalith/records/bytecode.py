"""Compiled code as bytes: its instructions, with constants, names and jumps in their places.

Comments, docstrings, line numbers, file names and the numbering of constants do not count. On the way, what the code
looks up is collected: names of globals with the attributes that are taken from them, and imports.
"""

from __future__ import annotations

import dis
import functools
import inspect
import types
import weakref
from typing import TYPE_CHECKING, Any, NamedTuple

from megalith.records.encoding import ENCODERS, Work, content_of_bytes, other, text

if TYPE_CHECKING:
    from collections.abc import Mapping

# Flags that change what a call does: *args, **kwargs, generator, coroutine, iterable coroutine, asynchronous generator.
_FLAGS = 0x04 | 0x08 | 0x20 | 0x80 | 0x100 | 0x200
_IS_FUNCTION_BODY = 0x01  # CO_OPTIMIZED: the body of a class has it not

_SKIPPED = frozenset({"CACHE", "EXTENDED_ARG", "NOP", "RESUME"})
# Python 3.13 makes one of two instructions if they stand on one line.
_PAIRS = {
    "LOAD_FAST_LOAD_FAST": ("LOAD_FAST", "LOAD_FAST"),
    "STORE_FAST_LOAD_FAST": ("STORE_FAST", "LOAD_FAST"),
    "STORE_FAST_STORE_FAST": ("STORE_FAST", "STORE_FAST"),
    "LOAD_FAST_BORROW_LOAD_FAST_BORROW": ("LOAD_FAST_BORROW", "LOAD_FAST_BORROW"),
}
_SAYS_NOTHING = frozenset({"__doc__", "__firstlineno__", "__static_attributes__"})
_CONSTANTS = frozenset(dis.hasconst)
_NAMES = frozenset(dis.hasname) | frozenset(dis.haslocal) | frozenset(dis.hasfree)
_JUMPS = frozenset(dis.hasjrel) | frozenset(dis.hasjabs)
_GLOBALS = frozenset({"LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"})
_LOCALS = frozenset(
    {"LOAD_FAST", "LOAD_FAST_CHECK", "LOAD_FAST_BORROW", "LOAD_DEREF", "LOAD_CLASSDEREF", "LOAD_FROM_DICT_OR_DEREF"}
)
_ATTRIBUTES = frozenset({"LOAD_ATTR", "LOAD_METHOD"})


class Reference(NamedTuple):
    """A name that code looks up, or a module that it imports, and the attributes it takes from there."""

    name: str
    attributes: tuple[str, ...]
    level: int | None = None  # of an import


class Scan(NamedTuple):
    """What was found in code: its bytes, and what it looks up, in order."""

    content: bytes
    references: tuple[Reference, ...]


_scans: weakref.WeakKeyDictionary[types.CodeType, Scan] = weakref.WeakKeyDictionary()


def scan(code: types.CodeType) -> Scan:
    """Return the bytes of a code object and what it looks up; what was scanned is kept as long as the code."""
    found = _scans.get(code)
    if found is None:
        imports: dict[str, Reference] = {}
        references: dict[Reference, None] = {}
        _find_imports(code, imports, references)
        content = canonical(code, imports, references)
        # What it sets itself is not given to it: a counter of its calls would make each of them another one.
        own = _set_globals(code)
        looked_up = tuple(one for one in references if one.level is not None or one.name not in own)
        found = _scans[code] = Scan(content, looked_up)
    return found


def _set_globals(code: types.CodeType) -> set[str]:
    """Return the globals that a code object, or one inside of it, sets."""
    names = {step.argval for step in dis.get_instructions(code) if step.opname in ("STORE_GLOBAL", "DELETE_GLOBAL")}
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names |= _set_globals(constant)
    return names


def _instructions(code: types.CodeType) -> list[dis.Instruction]:
    steps = []
    for step in dis.get_instructions(code):
        pair = _PAIRS.get(step.opname)
        if pair is not None:
            steps += [
                step._replace(opname=name, opcode=dis.opmap[name], argval=value)
                for name, value in zip(pair, step.argval, strict=True)
            ]
        elif step.opname not in _SKIPPED:
            steps.append(step)
    return steps


def _find_imports(code: types.CodeType, imports: dict[str, Reference], references: dict[Reference, None]) -> None:
    """Collect which names of functions and inner functions stand for modules, or for what is imported from them."""
    steps = _instructions(code)
    module: Reference | None = None
    is_from = False
    taken: str | None = None
    for i, step in enumerate(steps):
        if step.opname == "IMPORT_NAME":
            level, names = (_constant_before(steps, i, n) for n in (2, 1))
            module = Reference(step.argval, (), level if isinstance(level, int) else 0)
            is_from = names is not None
            taken = None
            references[module] = None
        elif step.opname == "IMPORT_FROM":
            taken = step.argval
        elif module is not None and step.opname.startswith("STORE_") and isinstance(step.argval, str):
            if is_from and taken is not None:
                bound = module._replace(attributes=(taken,))
            elif taken is None and not is_from:
                bound = module._replace(name=module.name.partition(".")[0])
            else:
                bound = module
            imports[step.argval] = bound
            references[bound] = None
            if not is_from:
                module = None
        elif step.opname not in ("POP_TOP", "SWAP", "ROT_TWO", "COPY") or (step.opname == "POP_TOP" and is_from):
            module = None
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            _find_imports(constant, imports, references)


def _constant_before(steps: list[dis.Instruction], i: int, n: int) -> Any:
    return steps[i - n].argval if i >= n else None


def canonical(code: types.CodeType, imports: Mapping[str, Reference], references: dict[Reference, None]) -> bytes:
    """Return the bytes of a code object, and collect what it looks up."""
    steps = _instructions(code)
    if not code.co_flags & _IS_FUNCTION_BODY:
        steps = _without_words(steps)
    offsets = [step.offset for step in steps]
    index = functools.partial(_index_at, offsets)
    n_arguments = code.co_argcount + code.co_kwonlyargcount
    n_arguments += bool(code.co_flags & inspect.CO_VARARGS) + bool(code.co_flags & inspect.CO_VARKEYWORDS)
    kinds = (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags & _FLAGS)
    parts = [plain(kinds), plain(code.co_varnames[:n_arguments]), plain(len(steps))]
    for i, step in enumerate(steps):
        parts.append(text(step.opname))
        if step.opcode in _CONSTANTS:
            parts.append(_constant(_value(code, step), imports, references))
        elif step.opcode in _NAMES:
            parts.append(plain(step.argval))
            _note(steps, i, imports, references)
        elif step.opcode in _JUMPS:
            parts.append(plain(index(step.argval)))
        else:
            parts.append(plain(step.arg))
    for entry in getattr(dis.Bytecode(code), "exception_entries", ()):
        span = (index(entry.start), index(entry.end), index(entry.target), entry.depth, bool(entry.lasti))
        parts.append(plain(span))
    return other("code", content_of_bytes(b"".join(parts)))


def _index_at(offsets: list[int], offset: int) -> int:
    """Return the number of the first instruction at or after an offset: it does not move with long arguments."""
    low, high = 0, len(offsets)
    while low < high:
        middle = (low + high) // 2
        if offsets[middle] < offset:
            low = middle + 1
        else:
            high = middle
    return low


def _without_words(steps: list[dis.Instruction]) -> list[dis.Instruction]:
    """Leave out the docstring of a class, and where it stands."""
    kept: list[dis.Instruction] = []
    for step in steps:
        if step.opname == "STORE_NAME" and step.argval in _SAYS_NOTHING and kept and kept[-1].opname.startswith("LOAD"):
            kept.pop()
        else:
            kept.append(step)
    return kept


def _value(code: types.CodeType, step: dis.Instruction) -> Any:
    """Return the constant of an instruction; before Python 3.13 dis does not look up the names of keywords."""
    return code.co_consts[step.arg] if step.opname == "KW_NAMES" and step.arg is not None else step.argval


def _constant(value: Any, imports: Mapping[str, Reference], references: dict[Reference, None]) -> bytes:
    if isinstance(value, types.CodeType):
        return canonical(value, imports, references)
    return plain(value)


def plain(value: Any) -> bytes:
    """Return the bytes of a constant."""
    return ENCODERS[type(value)](value, Work())


def _note(
    steps: list[dis.Instruction], i: int, imports: Mapping[str, Reference], references: dict[Reference, None]
) -> None:
    """Collect what an instruction looks up: a name, and the attributes that are taken right after."""
    step = steps[i]
    name = step.argval
    is_global = step.opname in _GLOBALS
    imported = imports.get(name) if isinstance(name, str) and (is_global or step.opname in _LOCALS) else None
    if not is_global and imported is None:
        return
    attributes = []
    for following in steps[i + 1 :]:
        if following.opname not in _ATTRIBUTES:
            break
        attributes.append(following.argval)
    if imported is not None:
        references[imported._replace(attributes=(*imported.attributes, *attributes))] = None
    if is_global:
        references[Reference(name, tuple(attributes))] = None
