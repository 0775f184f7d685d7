"""`FunctionKey`: two calls have one key if function and arguments are the same, and else never."""

import functools
import importlib.machinery
import os
import pathlib
import pickle
import re
import sys
import textwrap
import threading
import types

import cloudpickle
import joblib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from megalith.context.keys import FunctionKey
from megalith.exceptions import ArgumentError, DTypeError
from megalith.records import code, origin
from megalith.records.origin import is_user_module
from megalith.testing.faults import run_python


def key_of(function, *args, **kwargs):
    return FunctionKey(function).call_key(args, kwargs)


def function_digest(function, **options):
    return FunctionKey(function, **options).function_digest()


def compiled(source, name="f", **space):
    """A function made from source, as a cell of a notebook makes one."""
    space.setdefault("__name__", "__main__")
    exec(compile(textwrap.dedent(source), "<ipython-input-1-abc>", "exec"), space)
    return space[name]


def same(first, second, name="f", **space):
    """Whether two sources make one function."""
    return function_digest(compiled(first, name, **space)) == function_digest(compiled(second, name, **space))


# Arguments.


def plain(x, y=2):
    return x + y


def starred(x, *args, scale=1, **kwargs):
    return x


def only(a, /, b, *, c, d=4):
    return a


def test_the_same_call_in_another_form_has_the_same_key():
    expected = key_of(plain, 1, 2)
    assert key_of(plain, 1) == expected
    assert key_of(plain, x=1) == expected
    assert key_of(plain, 1, y=2) == expected
    assert key_of(plain, y=2, x=1) == expected
    assert key_of(starred, 1, a=2, b=3) == key_of(starred, 1, b=3, a=2)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (((1,), {}), ((2,), {})),
        (((1,), {}), ((1.0,), {})),
        (((1,), {}), ((True,), {})),
        (((1, 2), {}), ((2, 1), {})),
        (((np.arange(3),), {}), ((np.arange(3.0),), {})),
        (((np.zeros((2, 3)),), {}), ((np.zeros((3, 2)),), {})),
    ],
)
def test_another_argument_gives_another_key(first, second):
    key = FunctionKey(plain)
    assert key.call_key(*first) != key.call_key(*second)


def test_further_arguments_count_by_place_and_by_name():
    keys = {
        key_of(starred, 1, 2),
        key_of(starred, 1, 2, 3),
        key_of(starred, 1, 3, 2),
        key_of(starred, 1, (2, 3)),
        key_of(starred, 1, scale=2),
        key_of(starred, 1, other=2),
        key_of(starred, 1, another=2),
    }
    assert len(keys) == 7


@pytest.mark.parametrize(
    ("function", "args", "kwargs", "expected"),
    [
        (plain, (1,), {}, {"x": 1, "y": 2}),
        (plain, (), {"y": 3, "x": 1}, {"x": 1, "y": 3}),
        (starred, (1, 2, 3), {"b": 4}, {"x": 1, "*": [2, 3], "scale": 1, "**": {"b": 4}}),
        (starred, (1,), {}, {"x": 1, "*": [], "scale": 1, "**": {}}),
        (only, (1, 2), {"c": 3}, {"a": 1, "b": 2, "c": 3, "d": 4}),
        (functools.partial(plain, 1), (5,), {}, {"x": 1, "y": 5}),
        (functools.partial(plain, y=7), (5,), {}, {"x": 5, "y": 7}),
    ],
)
def test_bind_shows_arguments_as_joblib_does(function, args, kwargs, expected):
    assert FunctionKey(function).bind(args, kwargs) == expected


@pytest.mark.parametrize(
    ("function", "args", "kwargs"),
    [
        (plain, (), {}),
        (plain, (1, 2, 3), {}),
        (plain, (1,), {"x": 1}),
        (plain, (1,), {"z": 1}),
        (only, (), {"a": 1, "b": 2, "c": 3}),
        (only, (1, 2), {}),
    ],
)
def test_a_call_that_cannot_be_made_raises_what_python_raises(function, args, kwargs):
    with pytest.raises(TypeError) as theirs:
        function(*args, **kwargs)
    key = FunctionKey(function)
    for bind in (key.bind, key.call_key):
        with pytest.raises(TypeError) as ours:
            bind(args, kwargs)
        assert str(ours.value) == str(theirs.value)


@given(st.lists(st.integers(), max_size=4), st.dictionaries(st.sampled_from("xyabs"), st.integers(), max_size=3))
def test_any_call_binds_as_python_does(args, kwargs):
    def function(x, y=3, *args, s=4, **kwargs):
        return {"x": x, "y": y, "*": list(args), "s": s, "**": kwargs}

    try:
        expected = function(*args, **kwargs)
    except TypeError:
        with pytest.raises(TypeError):
            FunctionKey(function).bind(tuple(args), kwargs)
    else:
        assert FunctionKey(function).bind(tuple(args), kwargs) == expected


def test_ignored_arguments_do_not_count():
    key = FunctionKey(plain, ignore=["y"])
    assert key.call_key((1, 2), {}) == key.call_key((1,), {"y": object()})
    assert key.call_key((1,), {}) != key.call_key((2,), {})
    assert key.bind((1,), {}) == {"x": 1}
    star = FunctionKey(starred, ignore=["*", "**"])
    assert star.call_key((1, 2), {"a": 3}) == star.call_key((1,), {})
    one = FunctionKey(starred, ignore=["verbose"])
    assert one.call_key((1,), {"verbose": object()}) == one.call_key((1,), {})
    assert one.call_key((1,), {"verbose": 1, "a": 1}) != one.call_key((1,), {"verbose": 1})


@pytest.mark.parametrize("ignore", [["z"], ["x", "z"], ["*"], "x"])
def test_an_ignored_name_that_is_no_argument_is_an_error(ignore):
    with pytest.raises(ArgumentError, match="ignore"):
        FunctionKey(plain, ignore=ignore)


def test_a_key_of_ones_own_stands_for_the_arguments():
    key = FunctionKey(plain, key=lambda x, y=2: x[0])
    assert key.call_key(([1, object()],), {}) == key.call_key(([1, 5],), {"y": 3})
    assert key.call_key(([1],), {}) != key.call_key(([2],), {})
    with pytest.raises(DTypeError, match=re.escape("key(...)[1]")):
        FunctionKey(plain, key=lambda x: x).call_key(([1, object()],), {})


class Net:
    pass


def holder():
    model = Net()
    model.net = threading.Lock()
    return {"model": model}


@pytest.mark.parametrize(
    ("function", "args", "kwargs", "where"),
    [
        (plain, (1, holder()), {}, "args[1]['model'].net (argument 'y' of "),
        (plain, (1,), {"y": holder()}, "kwargs['y']['model'].net (argument 'y' of "),
        (starred, (1, 2, holder()), {}, "args[2]['model'].net (of "),
        (starred, (1,), {"more": holder()}, "kwargs['more']['model'].net (of "),
        (functools.partial(plain, 1), (holder(),), {}, "args[0]['model'].net (argument 'y' of "),
        (functools.partial(plain, holder()), (1,), {}, "partial.args[0]['model'].net (argument 'x' of "),
    ],
)
def test_an_argument_that_cannot_be_keyed_is_named_by_its_place(function, args, kwargs, where):
    with pytest.raises(DTypeError) as caught:
        FunctionKey(function).call_key(args, kwargs)
    assert str(caught.value).startswith(where)
    assert "a lock cannot be a key" in str(caught.value)


def test_a_default_without_content_stands_for_itself():
    missing = object()

    def function(x, y=missing, z=missing):
        return x

    key = FunctionKey(function)
    assert key.call_key((1,), {}) == key.call_key((1,), {}) != key.call_key((2,), {})
    assert key.call_key((1, 2), {}) != key.call_key((1,), {})
    with pytest.raises(DTypeError, match=r"args\[1\]"):
        key.call_key((1, object()), {})


class Model:
    def __init__(self, gain):
        self.gain = gain

    def run(self, x):
        return x * self.gain

    def __call__(self, x):
        return x

    @classmethod
    def make(cls, gain):
        return cls(gain)

    @staticmethod
    def twice(x):
        return 2 * x


def test_self_is_an_argument_unless_it_is_ignored():
    assert key_of(Model(1).run, 2) == key_of(Model(1).run, 2)
    assert key_of(Model(1).run, 2) != key_of(Model(2).run, 2)
    assert FunctionKey(Model(1).run, ignore=["self"]).call_key((2,), {}) == FunctionKey(
        Model(2).run, ignore=["self"]
    ).call_key((2,), {})
    assert key_of(Model.run, Model(1), 2) == key_of(Model(1).run, 2)


def test_all_that_can_be_called_has_a_key():
    things = [
        plain, Model(1), Model(1).run, Model.make, Model.twice, Model, functools.partial(plain, 1), len, np.add, np.sum,
        np.vectorize(plain), functools.lru_cache(plain), "a".upper, int, os.path.join, joblib.hash,
        functools.partial(np.add, 1), np.linalg.norm,
    ]  # fmt: skip
    found = {function_digest(thing) for thing in things}
    # Of these, plain, its lru_cache and its partial are one function.
    assert len(found) >= len(things) - 5
    for thing in things:
        assert FunctionKey(thing).function_digest() == FunctionKey(thing).function_digest()


def test_objects_that_can_be_called_count_by_class_and_state():
    assert key_of(Model(1), 2) == key_of(Model(1), 2) != key_of(Model(3), 2)


def test_partials_count_by_function_and_what_they_hold():
    keys = {
        key_of(functools.partial(plain, 1), 2),
        key_of(functools.partial(plain, 2), 1),
        key_of(functools.partial(only, 2, 3), c=1),
    }
    assert len(keys) == 3
    assert key_of(functools.partial(plain, 1), 2) == key_of(plain, 1, 2)


def test_what_cannot_be_called_is_an_error():
    with pytest.raises(DTypeError, match="cannot be called"):
        FunctionKey(3)


# Code.

BASE = """
def f(x, y=1):
    z = x + y
    return [z, 'a', (1, 2.0), x in {'p', 'q', 'r'}]
"""


@pytest.mark.parametrize(
    "edited",
    [
        "# a comment\n\n\n" + BASE,
        BASE.replace("    z = x", "    # why\n\n    z = x"),
        BASE.replace("    z = x", '    """What it does."""\n    z = x'),
        BASE.replace("    z = x", '    """What it does.\n\n    At length."""\n    z = x'),
        BASE.replace("x + y", "(x  +  y)  # the sum"),
        BASE.replace("x + y", "(\n        x\n        + y\n    )"),
        BASE.replace("def f(x, y=1)", "def f(\n    x,\n    y=1,\n)"),
        BASE.replace("def f(x, y=1)", "def f(x: int, y: int = 1) -> list"),
        BASE.replace("{'p', 'q', 'r'}", "{'r', 'q', 'p'}"),
    ],
)
def test_comments_docstrings_moved_lines_and_annotations_do_not_count(edited):
    assert same(BASE, edited)


@pytest.mark.parametrize(
    "edited",
    [
        BASE.replace("x + y", "x - y"),
        BASE.replace("x + y", "y + x"),
        BASE.replace("'a'", "'b'"),
        BASE.replace("'a'", "b'a'"),
        BASE.replace("(1, 2.0)", "(1, 2)"),
        BASE.replace("(1, 2.0)", "(True, 2.0)"),
        BASE.replace("(1, 2.0)", "(1, -2.0)"),
        BASE.replace("'r'}", "'s'}"),
        BASE.replace("y=1", "y=2"),
        BASE.replace("y=1", "y=1.0"),
        BASE.replace("y=1", "*, y=1"),
        BASE.replace("y=1", "/, y=1"),
        BASE.replace("y=1", "y=1, *z"),
        BASE.replace("def f", "async def f"),
        BASE.replace("return", "yield"),
        BASE.replace("x in", "x not in"),
    ],
)
def test_a_changed_body_constant_default_or_signature_counts(edited):
    assert not same(BASE, edited)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("0.0", "-0.0"),
        ("1", "True"),
        ("1", "1.0"),
        ("0", "False"),
        ("'1'", "b'1'"),
        ("(0.0,)", "(-0.0,)"),
        ("0j", "-0j"),
    ],
)
def test_constants_that_are_equal_but_not_the_same_count(first, second):
    assert not same(f"def f(): return {first}", f"def f(): return {second}")


@pytest.mark.parametrize("form", ["g({}=x)", "g(x, {}=1)", "g(*x, {}=1)", "g(**x, {}=1)", "x.g({}=1)", "x({}=1).y"])
def test_the_names_of_keywords_in_calls_count(form):
    assert not same(f"def f(x): return {form.format('low')}", f"def f(x): return {form.format('high')}")


def test_the_order_of_keywords_in_calls_counts():
    assert not same("def f(x): return g(low=1, high=2)", "def f(x): return g(high=1, low=2)")


NESTED = """
def f(x):
    '''Words.'''
    def inner(y):
        '''More words.'''
        return y + 1
    class Local:
        '''Words of a class.'''
        limit = 3
        def method(self):
            return [inner(i) for i in range(self.limit)]
    try:
        return Local().method()
    except ValueError:
        return lambda: x
"""


@pytest.mark.parametrize(
    "edited",
    [
        NESTED.replace("More words", "Other words"),
        NESTED.replace("        '''More words.'''\n", ""),
        NESTED.replace("        '''Words of a class.'''\n", ""),
        NESTED.replace("    '''Words.'''\n", "\n\n\n"),
        NESTED.replace("Words of a class", "Other words"),
    ],
)
def test_words_inside_of_inner_functions_and_classes_do_not_count(edited):
    assert edited != NESTED
    assert same(NESTED, edited)


@pytest.mark.parametrize(
    "edited",
    [
        NESTED.replace("y + 1", "y + 2"),
        NESTED.replace("limit = 3", "limit = 4"),
        NESTED.replace("inner(i)", "inner(-i)"),
        NESTED.replace("lambda: x", "lambda: -x"),
        NESTED.replace("ValueError", "KeyError"),
        NESTED.replace(
            "    try:\n        return Local().method()", "    a = Local()\n    try:\n        return a.method()"
        ),
    ],
)
def test_changes_inside_of_inner_functions_and_classes_count(edited):
    assert edited != NESTED
    assert not same(NESTED, edited)


def test_long_functions_are_the_same_with_a_docstring():
    # More than 256 constants: a docstring moves them all, and instructions get longer arguments.
    body = "".join(f"    x = x * {i}.5 if x else x - {i}.25\n" for i in range(400))
    assert same(f"def f(x):\n{body}    return x", f"def f(x):\n    'Words.'\n{body}    return x")
    assert not same(f"def f(x):\n{body}    return x", f"def f(x):\n{body}    return -x")


def test_two_lambdas_on_one_line_differ_by_code():
    one, two, three = (lambda x: x + 1), (lambda x: x + 2), (lambda x: x + 1)
    assert key_of(one, 1) == key_of(three, 1) != key_of(two, 1)


def test_functions_of_one_name_in_two_scopes_differ_by_code():
    def first():
        def f(x):
            return x

        return f

    def second():
        def f(x):
            return -x

        return f

    assert key_of(first(), 1) != key_of(second(), 1)


def test_functions_of_other_names_or_modules_have_other_keys():
    source = "def {}(x): return x"
    keys = {key_of(compiled(source.format(name), name, __name__=module), 1) for name in "fg" for module in ("m", "n.o")}
    assert len(keys) == 4


# Closures and defaults.


def closure_over(value):
    def f(x):
        return (x, value)

    return f


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (1, 2),
        (1, 1.0),
        ([1], [2]),
        (np.arange(3), np.arange(3) + 1),
        ("a", "b"),
        (plain, starred),
        ({1}, {2}),
        (int, str),
    ],
)
def test_closures_over_different_values_differ(first, second):
    assert key_of(closure_over(first), 1) != key_of(closure_over(second), 1)
    assert key_of(closure_over(first), 1) == key_of(closure_over(first), 1)


def test_a_closure_counts_as_it_was_when_the_key_was_made():
    values = [1]
    key = FunctionKey(closure_over(values))
    before = key.function_digest()
    values.append(2)
    assert key.function_digest() == before
    assert function_digest(closure_over(values)) != before


def test_what_a_closure_holds_but_cannot_be_keyed_is_named():
    with pytest.raises(DTypeError, match=r"^closure 'value' of .*closure_over.*: a lock cannot be a key"):
        FunctionKey(closure_over(threading.Lock()))
    assert FunctionKey(closure_over(threading.Lock()), version=1).call_key((1,), {})


def test_a_function_that_calls_itself_from_a_closure_has_a_key():
    def make(step):
        def count(n):
            return 0 if n <= 0 else step + count(n - step)

        return count

    assert key_of(make(1), 3) == key_of(make(1), 3) != key_of(make(2), 3)


def test_a_function_that_is_wrapped_under_its_own_name_has_one_key():
    made = []

    def make():
        @lambda f: made.append(FunctionKey(f)) or functools.lru_cache(f)
        def count(n):
            return 0 if n <= 0 else count(n - 1)

        return count

    make()
    make()
    first = made[0].call_key((3,), {})
    assert first == made[0].call_key((3,), {}) == made[1].call_key((3,), {})


def test_helpers_in_a_closure_are_read_at_each_call():
    space = {"__name__": "__main__"}
    helper = compiled("def helper(x): return other(x)", "helper", **space)
    space = helper.__globals__
    space["other"] = compiled("def other(x): return x", "other")
    key = FunctionKey(closure_over(helper))
    before = key.function_digest()
    space["other"] = compiled("def other(x): return -x", "other")
    assert key.function_digest() != before


def test_changed_defaults_of_a_function_count_at_the_next_call():
    def f(x, y=1, *, z=2):
        return x

    key = FunctionKey(f)
    first = key.call_key((1,), {})
    f.__defaults__ = (5,)
    second = key.call_key((1,), {})
    f.__kwdefaults__ = {"z": 3}
    third = key.call_key((1,), {})
    assert len({first, second, third}) == 3
    assert key.bind((1,), {}) == {"x": 1, "y": 5, "z": 3}


def test_a_default_that_the_function_changes_does_not_change_the_function():
    def f(x, seen=[]):  # noqa: B006
        seen.append(x)

    key = FunctionKey(f)
    before = key.function_digest()
    f(1)
    assert key.function_digest() == before


# What a function reaches.


def test_globals_of_plain_data_count_and_others_do_not():
    f = compiled("def f(x): return x * SCALE + TABLE[0] + sum(PAIR) + OBJECT.a")
    space = f.__globals__
    space.update(SCALE=2, TABLE=[1], PAIR=(1, 2), OBJECT=Model(1))
    key = FunctionKey(f)
    first = key.function_digest()
    space["TABLE"].append(3)
    space["TABLE"] = [9]
    space["OBJECT"] = Model(2)
    assert key.function_digest() == first
    seen = {first}
    for name, value in [("SCALE", 3), ("SCALE", 3.0), ("PAIR", (1, 3)), ("SCALE", pathlib.Path("a"))]:
        space[name] = value
        seen.add(key.function_digest())
    assert len(seen) == 5
    space.update(SCALE=2, PAIR=(1, 2))
    assert key.function_digest() == first


def test_globals_that_come_later_count_from_then_on():
    f = compiled("def f(x): return helper(x)")
    key = FunctionKey(f)
    early = key.function_digest()
    f.__globals__["helper"] = compiled("def helper(x): return x", "helper")
    late = key.function_digest()
    assert early != late == function_digest(f)
    f.__globals__["helper"] = compiled("def helper(x): return -x", "helper")
    assert key.function_digest() != late


def test_a_builtin_that_is_hidden_by_a_global_counts():
    f = compiled("def f(x): return len(x)")
    key = FunctionKey(f)
    before = key.function_digest()
    f.__globals__["len"] = compiled("def len(x): return 0", "len")
    assert key.function_digest() != before


def test_code_that_is_put_into_a_function_counts():
    f, g = compiled("def f(x): return x"), compiled("def f(x): return -x")
    helper = compiled("def helper(x): return f(x)", "helper", f=f)
    key, above = FunctionKey(f), FunctionKey(helper)
    before = key.function_digest(), above.function_digest()
    f.__code__ = g.__code__  # as autoreload does
    assert key.function_digest() != before[0]
    assert above.function_digest() != before[1]


CHAIN = """
import functools, enum
LIMIT = 3
class Base:
    factor = 2
    def scale(self, x): return x * self.factor
class Child(Base):
    @property
    def two(self): return 2
    @staticmethod
    def three(): return 3
    @classmethod
    def four(cls): return 4
    @functools.cached_property
    def five(self): return 5
class Mode(enum.Enum):
    FAST = 1
def third(x): return x + LIMIT + (Mode.FAST is x)
def second(x): return third(x)
@functools.lru_cache
def cached(x): return x + 10
def decorate(function):
    extra = 7
    @functools.wraps(function)
    def wrapper(*args): return function(*args) + extra
    return wrapper
@decorate
def decorated(x): return x + 20
half = functools.partial(second, 0.5)
def even(x): return x == 0 or odd(x - 1)
def odd(x): return x != 0 and even(x - 1)
def unused(x): return x
def f(x):
    return second(x), cached(x), decorated(x), Child().scale(x), half, even(x), [third(i) for i in x]
"""


def test_what_functions_reach_in_circles_and_chains_has_one_digest():
    assert same(CHAIN, CHAIN)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("LIMIT = 3", "LIMIT = 4"),
        ("x + LIMIT", "x - LIMIT"),
        ("factor = 2", "factor = 3"),
        ("x * self.factor", "x / self.factor"),
        ("return 2", "return 22"),
        ("return 3\n", "return 33\n"),
        ("return 4", "return 44"),
        ("return 5", "return 55"),
        ("x + 10", "x + 11"),
        ("x + 20", "x + 21"),
        ("extra = 7", "extra = 8"),
        ("+ extra", "- extra"),
        ("second, 0.5", "second, 0.25"),
        ("partial(second", "partial(third"),
        ("odd(x - 1)", "odd(x - 2)"),
        ("even(x - 1)", "even(x - 2)"),
        ("FAST = 1", "FAST = 2"),
        ("class Child(Base)", "class Child(Base, dict)"),
        ("@decorate\n", ""),
    ],
)
def test_a_change_anywhere_in_what_is_reached_counts(old, new):
    assert old in CHAIN
    assert not same(CHAIN, CHAIN.replace(old, new))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("def unused(x): return x", "def unused(x): return -x"),
        ("class Base:", "class Base:\n    '''Words.'''"),
        ("def third(x):", "# why\ndef third(x):"),
        ("def third(x): return", "def third(x):\n    '''Words.'''\n    return"),
    ],
)
def test_a_change_that_is_not_reached_or_says_nothing_does_not_count(old, new):
    assert old in CHAIN
    assert same(CHAIN, CHAIN.replace(old, new))


def test_which_helper_stands_under_which_name_counts():
    source = "def a(x): return x\ndef b(x): return -x\n{}\ndef f(x): return g(h(x)) + a(x) + b(x)"
    assert not same(source.format("g, h = a, b"), source.format("g, h = b, a"))


def test_methods_that_are_replaced_or_added_count():
    cls = compiled("class C:\n    def run(self, x): return x\ndef f(x): return C().run(x)", "C")
    f = cls.run.__globals__["f"]
    key = FunctionKey(f)
    before = key.function_digest()
    cls.run = compiled("def run(self, x): return -x", "run")
    after = key.function_digest()
    assert after != before
    cls.__add__ = compiled("def run(self, x): return -x", "run")
    assert key.function_digest() not in (before, after)


def test_memories_count_by_the_function_inside(tmp_path):
    memory = joblib.Memory(tmp_path, verbose=0)
    source = "def inner(x): return x {} 1\nhelper = wrap(inner)\ndef f(x): return helper(x)"
    plus = function_digest(compiled(source.format("+"), wrap=memory.cache))
    minus = function_digest(compiled(source.format("-"), wrap=memory.cache))
    assert plus != minus
    assert plus == function_digest(compiled(source.format("+"), wrap=memory.cache))


def test_vectorized_helpers_count_by_the_function_inside():
    source = "import numpy as np\ndef inner(x): return x {} 1\nhelper = np.vectorize(inner)\ndef f(x): return helper(x)"
    assert not same(source.format("+"), source.format("-"))
    assert same(source.format("+"), source.format("+"))


def test_dispatchers_of_numba_count_by_the_function_inside():
    numba = types.ModuleType("numba.core")
    exec("class Dispatcher:\n    def __init__(self, f): self.py_func = f\n    def __call__(self, x): pass", vars(numba))
    numba.Dispatcher.__module__ = "numba.core.registry"
    source = "def inner(x): return x {} 1\nhelper = Dispatcher(inner)\ndef f(x): return helper(x)"
    space = {"Dispatcher": numba.Dispatcher}
    assert not same(source.format("+"), source.format("-"), **space)


@pytest.mark.parametrize(
    ("source", "old", "new"),
    [
        (
            "import functools\n@functools.singledispatch\ndef g(x): return x\n"
            "@g.register\ndef _(x: int): return x + 1\ndef f(x): return g(x)",
            "x + 1",
            "x + 2",
        ),
        (
            "import contextlib\n@contextlib.contextmanager\ndef g(x): yield x\ndef f(x):\n    with g(x): pass",
            "yield x",
            "yield -x",
        ),
        ("OPERATIONS = {'a': lambda x: x}\ndef f(x): return OPERATIONS['a'](x)", "x: x", "x: -x"),
        ("def g(x): return x\nSTEPS = [[g, 1]]\ndef f(x): return STEPS[0][0](x)", "return x", "return -x"),
        ("class C:\n    def run(self): return 1\nC1 = C()\ndef f(x): return C1.run()", "1\nC1", "2\nC1"),
        (
            "import enum\nclass E(enum.Enum):\n    A = 1\n    def run(self): return 1\nA = E.A\n"
            "def f(x): return A.run()",
            "return 1",
            "return 2",
        ),
        (
            "import dataclasses\n@dataclasses.dataclass(frozen=True)\nclass C:\n    a: int\n"
            "LIMITS = C(1)\ndef f(x): return LIMITS.a",
            "C(1)",
            "C(2)",
        ),
        ("import operator\nget = operator.itemgetter(1)\ndef f(x): return get(x)", "(1)", "(2)"),
        ("def g(x): return x\nSTEPS = (g, abs)\ndef f(x): return [step(x) for step in STEPS]", "return x", "return -x"),
    ],
)
def test_functions_behind_what_python_makes_of_them_count(source, old, new):
    assert old in source
    assert same(source, source)
    assert not same(source, source.replace(old, new, 1))


def test_functions_that_are_put_into_a_table_count_and_data_do_not():
    f = compiled("TABLE = {'a': len, 'n': [1]}\ndef f(x): return TABLE[x](x)", "f")
    table = f.__globals__["TABLE"]
    key = FunctionKey(f)
    first = key.function_digest()
    table.update(b=3, n=[2], m=[(1, {"a": [2]})])
    assert key.function_digest() == first
    for name, function in [("a", abs), ("c", len)]:
        before, table[name] = key.function_digest(), function
        assert key.function_digest() != before
    table.update(a=len)
    del table["c"]
    assert key.function_digest() == first


def test_a_class_that_gets_another_base_counts():
    source = "class A:\n    def run(self): return 1\nclass B:\n    def run(self): return 2\nclass C(A): pass\n"
    f = compiled(source + "def f(x): return C().run()", "f")
    key = FunctionKey(f)
    before = key.function_digest()
    f.__globals__["C"].__bases__ = (f.__globals__["B"],)
    assert key.function_digest() != before


def test_a_module_that_is_loaded_anew_counts(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    path = tmp_path / "module_of_keys.py"
    path.write_text("def g(x): return x")
    key = FunctionKey(compiled("def f(x):\n    from module_of_keys import g\n    return g(x)"))
    before = key.function_digest()
    path.write_text("def g(x):\n    return x + 1")
    del sys.modules["module_of_keys"]
    importlib.invalidate_caches()
    importlib.import_module("module_of_keys")
    assert key.function_digest() != before
    del sys.modules["module_of_keys"]


def test_globals_that_change_all_the_time_take_no_memory():
    f = compiled("def f(x): return x + N", N=0)
    key = FunctionKey(f)
    for n in range(2000):
        f.__globals__["N"] = 10**6 + n
        key.function_digest()
    assert len(key._code._first) < 5


def test_installed_packages_count_by_their_version(monkeypatch):
    source = "import numpy as np\nimport joblib\ndef f(x): return np.linalg.norm(x) + joblib.hash(x)"
    f = compiled(source)
    key = FunctionKey(f)
    assert {"version of numpy", "version of joblib"} <= set(key.parts())
    assert not any(name.startswith("global") for name in key.parts())
    monkeypatch.setattr(code, "package_version", lambda module: "0.0")
    assert function_digest(compiled(source)) != key.function_digest()


def test_an_extension_module_of_the_user_counts_by_its_file(tmp_path, monkeypatch):
    digests = []
    for content in (b"one", b"two", b"one"):
        origin.compiled_content.cache_clear()
        path = tmp_path / f"fast{importlib.machinery.EXTENSION_SUFFIXES[0]}"
        path.write_bytes(content)
        module = types.ModuleType("fast_of_the_user")
        module.__file__, module.run = str(path), len
        monkeypatch.setitem(sys.modules, module.__name__, module)
        key = FunctionKey(compiled("def f(x): return fast.run(x)", fast=module))
        assert "file of fast_of_the_user" in key.parts()
        digests.append(key.function_digest())
    assert digests[0] == digests[2] != digests[1]


def test_the_standard_library_counts_by_the_version_of_python():
    f = compiled("import json, os.path\ndef f(x): return json.dumps(x), os.path.join(x, x)")
    assert set(FunctionKey(f).parts()) == {"code", "name"}


def test_large_graphs_of_code_that_calls_each_other_are_walked_once():
    lines = [f"def f{i}(x): return " + " + ".join(f"f{j}(x)" for j in range(40)) for i in range(40)]
    key = FunctionKey(compiled("\n".join(lines), "f0"))
    assert len(key.parts()) >= 40
    deep = [f"def f{i}(x): return f{i + 1}(x)" for i in range(3000)]
    assert len(FunctionKey(compiled("\n".join(deep), "f0")).parts()) == 3001


def test_nothing_is_walked_again_while_nothing_changes(monkeypatch):
    f = compiled(CHAIN)
    key = FunctionKey(f)
    key.function_digest()
    monkeypatch.setattr(code, "_Walk", None)
    assert key.function_digest() == key.function_digest()


def test_the_parts_of_a_function_are_named():
    scale = 3

    def f(x, y=1):
        return helper_of_tests(x) * scale * LIMIT_OF_TESTS + np.sum(y)

    parts = FunctionKey(f, depends=[plain]).parts()
    module = __name__
    assert {
        "code",
        "name",
        "default 'y'",
        "closure 'scale'",
        f"global '{module}.helper_of_tests'",
        f"constant global '{module}.LIMIT_OF_TESTS'",
        "version of numpy",
        "depends[0]",
    } == set(parts)
    assert all(re.fullmatch("[0-9a-f]{32}", digest) for digest in parts.values())
    assert set(FunctionKey(f, version=3).parts()) == {"version", "name"}


LIMIT_OF_TESTS = 5


def helper_of_tests(x):
    return x


def test_parts_say_what_changed():
    before = FunctionKey(compiled(CHAIN)).parts()
    after = FunctionKey(compiled(CHAIN.replace("LIMIT = 3", "LIMIT = 4").replace("x + 10", "x + 11"))).parts()
    changed = {name for name in {*before, *after} if before.get(name) != after.get(name)}
    assert changed == {"constant global '__main__.LIMIT'", "global '__main__.cached'"}


# Overrides.


def test_a_version_stands_for_the_code():
    first, second = compiled("def f(x): return x"), compiled("def f(x): return -x")
    assert function_digest(first, version=1) == function_digest(second, version=1)
    assert function_digest(first, version=1) != function_digest(first, version=2)
    assert function_digest(first, version=1) != function_digest(first, version="1")
    assert function_digest(first, version=1) != function_digest(first)
    other = compiled("def g(x): return x", "g")
    assert function_digest(first, version=1) != function_digest(other, version=1)


def test_depends_adds_functions_values_and_files(tmp_path):
    path = tmp_path / "model.bin"
    path.write_bytes(b"one")
    one, two = compiled("def h(x): return x", "h"), compiled("def h(x): return -x", "h")
    digests = {
        function_digest(plain),
        function_digest(plain, depends=[one]),
        function_digest(plain, depends=[two]),
        function_digest(plain, depends=[1]),
        function_digest(plain, depends=[np.arange(3)]),
        function_digest(plain, depends=[path]),
        function_digest(plain, depends=[str(path)]),
        function_digest(plain, depends=[one], version=1),
        function_digest(plain, depends=[two], version=1),
    }
    assert len(digests) == 9


def test_the_content_of_a_file_counts_and_its_times_do_not(tmp_path):
    path = tmp_path / "model.bin"
    path.write_bytes(b"one")
    key = FunctionKey(plain, depends=[path])
    first = key.function_digest()
    path.write_bytes(b"two")
    assert key.function_digest() != first
    path.write_bytes(b"one")
    os.utime(path, (1, 1))
    assert key.function_digest() == first
    path.unlink()
    with pytest.raises(FileNotFoundError):
        key.function_digest()


def test_a_file_that_is_written_through_a_mapping_counts_though_its_times_do_not_tell(tmp_path):
    path = tmp_path / "model.bin"
    path.write_bytes(bytes(8192))
    mapping = np.memmap(path, np.uint8, "r+")
    mapping[0] = 1
    key = FunctionKey(plain, depends=[path])
    os.utime(path, (1, 1))
    before = key.function_digest()
    mapping[0] = 2
    assert key.function_digest() != before


def test_what_a_dependency_reaches_is_read_at_each_call():
    helper = compiled("def h(x): return x * SCALE", "h", SCALE=1)
    key = FunctionKey(plain, depends=[helper])
    before = key.function_digest()
    helper.__globals__["SCALE"] = 2
    assert key.function_digest() != before


# Names.


def test_names_and_paths_say_which_function_it_is():
    key = FunctionKey(plain)
    assert key.name == f"{__name__}.plain"
    assert key.path == (*__name__.split("."), "plain")

    def local(x):
        return x

    for function in (local, lambda x: x, compiled("def f(x): return x"), Model(1).run, len, np.add, Model(1)):
        path = FunctionKey(function).path
        assert all(re.fullmatch(r"[\w.+=-]+", part) and part not in (".", "..") for part in path)
    assert FunctionKey(compiled("def f(x): return x")).path == ("__main__", "f")
    nested = compiled("def outer():\n    return lambda x: x\nf = outer()")
    assert FunctionKey(nested).path == ("__main__", "outer.-locals-.-lambda-")


def test_very_long_names_make_short_directories():
    name = "f" * 500
    path = FunctionKey(compiled(f"def {name}(x): return x", name)).path
    other = FunctionKey(compiled(f"def {name}g(x): return x", name + "g")).path
    assert len(path[-1]) < 130
    assert path != other


def test_functions_of_notebooks_are_known_by_name_and_code_and_never_by_file():
    source = "def f(x):\n    return x + 1\n"
    space = {"__name__": "__main__"}
    keys = set()
    for file in ("<ipython-input-1-aa>", "/tmp/ipykernel_123/45.py", "/tmp/ipykernel_999/1.py"):
        exec(compile("\n" * len(keys) + source, file, "exec"), space)
        key = FunctionKey(space["f"])
        assert key.path == ("__main__", "f")
        keys.add(key.call_key((1,), {}))
    assert len(keys) == 1


def test_keys_of_a_thread_pool_agree():
    f = compiled(CHAIN)
    key = FunctionKey(f)
    found = []
    threads = [threading.Thread(target=lambda: found.append(key.call_key(([1],), {}))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1


def test_keys_can_be_pickled():
    key = FunctionKey(plain, ignore=["y"], version=2)
    again = pickle.loads(pickle.dumps(key))
    assert again.call_key((1,), {}) == key.call_key((1,), {})
    f = compiled(
        "LIMIT = 3\nclass C:\n    'Words.'\n    x = 1\n    def run(self, x): return x + LIMIT\n"
        "def g(x): return C().run(x) in {'a', 'b'}\ndef f(x): return g(x)"
    )
    there = cloudpickle.loads(cloudpickle.dumps(FunctionKey(f)))
    assert there.call_key((1,), {}) == FunctionKey(f).call_key((1,), {})


# Other processes, and edited files.

MAIN = """
import sys
sys.path.insert(0, {path!r})
from megalith.context.keys import FunctionKey
from pack.work import task
print(FunctionKey(task).call_key((1,), {{}}))
"""

WORK = """
import numpy as np
from . import tools
from .tools import helper, LIMIT as MOST
import pack.deep.er
import pack.deep.er as short

def task(x):
    from .late import later
    import pack.lazy
    far = pack.deep.er.far(x) + short.brief(x)
    return np.sum(helper(x)) + MOST + tools.direct(x) + far + later(x) + pack.lazy.slow(x)
"""

FILES = {
    "work.py": WORK,
    "__init__.py": "",
    "tools.py": """
        LIMIT = 3
        STATE = []
        WORDS = {'a', 'b', 'c'}
        def hidden(x): return x in {'u', 'v', 'w'}
        def helper(x, names=frozenset('xyz')): return hidden(x)
        def direct(x): return x
        def unused(x): return x
    """,
    "deep/__init__.py": "",
    "deep/er.py": "def far(x): return x\ndef brief(x): return x",
    "late.py": "def later(x): return x\ndef unused(x): return x",
    "lazy.py": "def slow(x): return x",
}


@pytest.fixture
def pack(tmp_path):
    """A package of a user's; call it with edits to get the key of a call in a fresh process."""

    def run(*edits, seed="0"):
        for name, text in FILES.items():
            text = textwrap.dedent(text)
            for file, old, new in edits:
                if file == name:
                    assert old in text
                    text = text.replace(old, new)
            path = tmp_path / "pack" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        env = {"PYTHONHASHSEED": seed, "PYTHONDONTWRITEBYTECODE": "1"}
        return run_python(MAIN.format(path=str(tmp_path)), tmp_path / "run", env=env).check()

    return run


def test_keys_are_the_same_in_another_process_after_edits_that_say_nothing(pack):
    expected = pack()
    assert pack(seed="1") == pack(seed="4242") == expected
    edits = [
        ("work.py", "def task(x):", "# a comment\n\ndef task(x):\n    '''Words.'''"),
        ("tools.py", "def hidden(x): return", "\n# moved\ndef hidden(x):\n    'Words.'\n    return"),
        ("tools.py", "def unused(x): return x", "def unused(x): return -x"),
        ("tools.py", "STATE = []", "STATE = [1]"),
    ]
    assert pack(*edits) == expected


def test_helpers_that_were_edited_in_another_module_change_the_key(pack):
    keys = [
        pack(*edits)
        for edits in (
            [],
            [("tools.py", "x in {'u', 'v', 'w'}", "x in {'u', 'v'}")],
            [("tools.py", "LIMIT = 3", "LIMIT = 4")],
            [("tools.py", "def direct(x): return x", "def direct(x): return -x")],
            [("tools.py", "frozenset('xyz')", "frozenset('xy')")],
            [("deep/er.py", "def far(x): return x", "def far(x): return -x")],
            [("deep/er.py", "def brief(x): return x", "def brief(x): return -x")],
            [("late.py", "def later(x): return x", "def later(x): return -x")],
            [("lazy.py", "return x", "return -x")],
        )
    ]
    assert len(set(keys)) == len(keys)


def test_the_first_call_in_a_process_has_the_key_of_later_ones(pack, tmp_path):
    pack()
    code = MAIN.format(path=str(tmp_path)) + "task(1)\nprint(FunctionKey(task).call_key((1,), {}))"
    first, second = run_python(code, tmp_path / "run").check().split()
    assert first == second


def test_functions_of_a_script_keep_their_key_under_another_file_name(tmp_path):
    source = """
    from megalith.context.keys import FunctionKey
    LIMIT = 3
    def helper(x): return x + LIMIT
    class Thing:
        def __init__(self, a): self.a = a
    def f(x): return helper(x.a)
    key = FunctionKey(f)
    print(key.name, key.call_key((Thing(1),), {}))
    """
    first = run_python(source, tmp_path / "one").check()
    second = run_python("# moved\n\n" + textwrap.dedent(source), tmp_path / "two").check()
    third = run_python(source.replace("x + LIMIT", "x - LIMIT"), tmp_path / "one").check()
    fourth = run_python(source.replace("self.a = a", "self.a = a + 0"), tmp_path / "one").check()
    assert first == second
    assert first.startswith("__main__.f ")
    assert len({first, third, fourth}) == 3


def test_children_of_a_script_have_its_keys(tmp_path):
    source = """
    import multiprocessing
    from megalith.context.keys import FunctionKey
    LIMIT = 3
    def helper(x): return x + LIMIT
    class Thing: pass
    def f(x): return helper(x)
    def key(_): return FunctionKey(f).call_key((Thing(),), {})
    if __name__ == "__main__":
        found = {key(0)}
        for method in ("fork", "spawn", "forkserver"):
            with multiprocessing.get_context(method).Pool(1) as pool:
                found |= set(pool.map(key, [1]))
        print(len(found))
    """
    assert run_python(source, tmp_path).check().strip() == "1"


def test_modules_of_the_user_are_told_from_others():
    assert is_user_module("__main__")
    assert is_user_module(__name__)
    for name in ("numpy", "numpy.linalg", "joblib", "json", "os.path", "sys", "megalith", "megalith.records.code"):
        assert not is_user_module(name), name
    assert sys.modules["numpy"].__file__


def test_only_what_cannot_change_unseen_is_watched():
    assert FunctionKey(plain).watched() is not None
    assert FunctionKey(functools.partial(plain, y=5)).watched() is not None
    assert FunctionKey(functools.partial(plain, y=[5])).watched() is None
    assert FunctionKey(plain, key=lambda x, y=2: x).watched() is None
    assert FunctionKey(plain, depends=[only]).watched() is None
    assert FunctionKey(Model(2).run).watched() is None
    assert FunctionKey(Model(2)).watched() is None


N_CALLS = 0


def counting(x):
    global N_CALLS
    N_CALLS += 1
    return x


def test_a_global_that_the_function_sets_itself_is_no_part_of_it():
    key = FunctionKey(counting)
    before = key.function_digest()
    counting(1)
    assert key.function_digest() == FunctionKey(counting).function_digest() == before
    assert not any("N_CALLS" in part for part in key.parts())
