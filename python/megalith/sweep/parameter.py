"""Parameters: a name, the values it may have, and the one it has now."""

from __future__ import annotations

import enum
import keyword
import math
from collections.abc import Callable, Iterable, Sequence
from contextvars import ContextVar
from typing import Any, Literal

import numpy as np

from megalith.exceptions import ArgumentError
from megalith.records.encoding import register

# How many values are shown.
SHOWN = 8


# Among the names of arguments: whatever there is.
ALL = "**"

GIVEN: ContextVar[frozenset[str] | None] = ContextVar("megalith_given", default=None)
"""Names of the arguments of the function whose key is made.

A function, or the object whose method it is, may well reach the space it is swept over. Its key is the same whatever
has been swept, and whatever values the parameters have that it is given.
"""


class _Absent(enum.Enum):
    UNSET = enum.auto()


UNSET: Any = _Absent.UNSET
"""The value of a parameter that has none yet."""


class Parameter:
    """A dimension of a parameter space.

    Parameters
    ----------
    name : str
        What functions call it: the name of their argument.
    values : sequence, optional
        The values it may have: numbers, strings, bools, dates, or any other of the types a result can hold. No two
        are equal. Numbers of NumPy become Python's.
    minimum, maximum : number, optional
        The range it may lie in, where no values are listed.
    step : number, optional
        With `minimum` and `maximum`: values from one to the other, so far apart. With logarithmic spacing: by this
        factor.
    default : object, optional
        The value it has at first; else the first of `values`, or `minimum`.
    num : int, optional
        In place of `step`: how many values from `minimum` to `maximum`, both included.
    spacing : {'linear', 'logarithmic'}
        How values of a range are spaced.
    unit : str
        Of the values; for tables and figures.

    Attributes
    ----------
    name : str
        What functions call it.
    default : object
        The value it had at first.
    unit : str
        Of the values.

    Raises
    ------
    ArgumentError
        If something of this is not possible. It is a ValueError.

    Notes
    -----
    Steps are counted in decimals, so that the values are those one would write down: the third of 0.1, 0.2, ... is 0.3.
    A longer range has the same values at its beginning: results of these are found again.

    Examples
    --------
    >>> from megalith import Parameter
    >>> Parameter('length', minimum=0.1, maximum=0.5, step=0.1).values
    (0.1, 0.2, 0.3, 0.4, 0.5)
    >>> Parameter('rate', minimum=1, maximum=1000, step=10, spacing='logarithmic', unit='Hz').values
    (1, 10, 100, 1000)
    >>> mode = Parameter('mode', ['reflect', 'nearest'])
    >>> mode.value = 'mirror'
    Traceback (most recent call last):
    megalith.exceptions.ArgumentError: mode: got 'mirror', expected one of 'reflect', 'nearest'
    """

    def __init__(
        self,
        name: str,
        values: Iterable[Any] | None = None,
        *,
        minimum: Any = None,
        maximum: Any = None,
        step: Any = None,
        default: Any = None,
        num: int | None = None,
        spacing: Literal["linear", "logarithmic"] = "linear",
        unit: str = "",
    ) -> None:
        is_name = isinstance(name, str) and name.isidentifier() and not keyword.iskeyword(name)  # type: ignore[redundant-expr]
        if not is_name:
            message = f"name: got {name!r}, expected the name of an argument: letters, digits and underscores"
            raise ArgumentError(message, name="name", got=name, expected="a name of an argument")
        if not isinstance(unit, str):
            raise ArgumentError(f"{name}: unit: got {unit!r}, expected a str", name="unit", got=unit, expected="a str")
        self.name = name
        self.unit = unit
        self._range: tuple[Any, Any] = (None, None)
        self._values: tuple[Any, ...] = ()
        self._places: tuple[tuple[Any, ...], dict[Any, int]] | None = None
        self._callbacks: list[Callable[[Any], object]] = []
        self._source: Parameter | None = None
        self._derive: Callable[[Any], Any] | None = None
        self._followers: list[Parameter] = []
        if values is not None:
            if (minimum, maximum, step, num) != (None, None, None, None):
                message = f"{name}: got values and a range; the values say it all"
                raise ArgumentError(message, name="minimum", got=minimum, expected="values, or a range")
            self._values = _checked(name, values)
        else:
            self._range, self._values = _spaced(name, minimum, maximum, step, num, spacing)
        self.default = self._first() if default is None else default
        if self.default is not UNSET:
            self.default = self.check(self.default)
        self._value = self.default

    def __repr__(self) -> str:
        unit = f" {self.unit}" if self.unit else ""
        now = "" if self._value is UNSET else f", now {self._value!r}{unit}"
        return f"Parameter({self.name!r}, {self._space()}{now})"

    def _repr_html_(self) -> str:
        from html import escape

        return f"<code>{escape(repr(self))}</code>"

    def _content(self) -> tuple[Any, ...]:
        """Return what stands for it where it is a part of a key."""
        given = GIVEN.get()
        if given is not None:
            return (self.name,) if self.name in given or ALL in given else (self.name, self.value)
        return (self.name, self.value, self.default, self.unit, self._range, self._values, self._source, self._derive)

    def _space(self) -> str:
        if self._values:
            listed = ", ".join(map(repr, self._values[:SHOWN]))
            return f"[{listed}{', ...' if len(self._values) > SHOWN else ''}]"
        low, high = self._range
        return "any value" if low is None and high is None else f"{low} to {high}"

    def _first(self) -> Any:
        if self._values:
            return self._values[0]
        return UNSET if self._range[0] is None else self._range[0]

    @property
    def value(self) -> Any:
        """The value it has now; None if it has none yet."""
        return None if self._value is UNSET else self._value

    @value.setter
    def value(self, value: Any) -> None:
        if self._source is not None:
            message = f"{self.name}: it is linked to {self._source.name}, which gives its value; unlink() it first"
            raise ArgumentError(message, name=self.name, got=value, expected=f"a value of {self._source.name}")
        self._set(self.check(value))

    @property
    def values(self) -> tuple[Any, ...]:
        """The values it may have, in the order they were given; none for a range without steps."""
        return self._values

    @values.setter
    def values(self, values: Iterable[Any]) -> None:
        self._values = _checked(self.name, values)
        self._range = (None, None)
        if self._value is not UNSET and find(self._values, self._value) is None:
            start = find(self._values, self.default)
            self._set(self._values[start or 0])
        elif self._value is UNSET:
            self._value = self.default = self._values[0]

    @property
    def minimum(self) -> Any:
        """The smallest value, None if there is no such thing."""
        return self._bound(0, min)

    @property
    def maximum(self) -> Any:
        """The largest value, None if there is no such thing."""
        return self._bound(1, max)

    def _bound(self, side: int, of: Callable[[Sequence[Any]], Any]) -> Any:
        if self._range[side] is not None or not self._values:
            return self._range[side]
        return of(self._values) if all(map(_is_number, self._values)) else None

    def check(self, value: Any) -> Any:
        """Return a value as it is listed, an equal number of another type for instance.

        Parameters
        ----------
        value : object
            The value.

        Returns
        -------
        value : object
            The one that stands for it.

        Raises
        ------
        ArgumentError
            If it is not one of the values, or outside of the range.

        Examples
        --------
        >>> import numpy as np
        >>> from megalith import Parameter
        >>> Parameter('n', [1, 2, 3]).check(np.float32(2))
        2
        """
        value = plain(value)
        if self._values:
            i = self._place(value)
            if i is None:
                listed = ", ".join(map(repr, self._values[:SHOWN])) + (", ..." if len(self._values) > SHOWN else "")
                message = f"{self.name}: got {value!r}, expected one of {listed}{_nearest(self._values, value)}"
                raise ArgumentError(message, name=self.name, got=value, expected=f"one of {listed}")
            return self._values[i]
        low, high = self._range
        if low is None and high is None:
            return value
        is_inside = _is_number(value) and (low is None or value >= low) and (high is None or value <= high)
        if not is_inside:
            message = f"{self.name}: got {value!r}, expected a number from {low} to {high}"
            raise ArgumentError(message, name=self.name, got=value, expected=f"{low} to {high}")
        return value

    def _place(self, value: Any) -> int | None:
        """Return the place of a value in the list."""
        if self._places is None or self._places[0] is not self._values:
            self._places = (self._values, {known: i for i, known in enumerate(self._values)})
        try:
            i = self._places[1].get(value)
        except TypeError:
            i = None
        return i if i is not None and same(self._values[i], value) else find(self._values, value)

    def _set(self, value: Any) -> None:
        is_other = self._value is UNSET or not same(self._value, value)
        self._value = value
        if is_other:
            self.call_back(value)
        for follower in self._followers:
            follower._set(follower.derived(value))

    def register_callback(self, f: Callable[[Any], object]) -> None:
        """Have a function called with each new value, and with the value of a point when that is computed.

        Parameters
        ----------
        f : callable
            Takes the value. One that is registered already is not called twice.

        Raises
        ------
        ArgumentError
            If it cannot be called.

        Examples
        --------
        >>> from megalith import Parameter
        >>> length = Parameter('length', [1, 2, 3])
        >>> length.register_callback(print)
        >>> length.value = 2
        2
        """
        if not callable(f):
            message = f"f: got {f!r}, expected a function of the value"
            raise ArgumentError(message, name="f", got=f, expected="callable")
        if f not in self._callbacks:
            self._callbacks.append(f)

    def remove_callback(self, f: Callable[[Any], object]) -> None:
        """Have a function not called any more.

        Parameters
        ----------
        f : callable
            One that was registered; nothing happens if it was not.
        """
        if f in self._callbacks:
            self._callbacks.remove(f)

    def call_back(self, value: Any) -> None:
        """Call the functions that were registered.

        Parameters
        ----------
        value : object
            What they are called with.
        """
        for f in list(self._callbacks):
            f(value)

    def link(self, source: Parameter, f: Callable[[Any], Any] | None = None) -> None:
        """Have this parameter follow another, in sweeps too, where it is no dimension of its own any more.

        Parameters
        ----------
        source : Parameter
            The one that is followed.
        f : callable, optional
            Takes a value of `source` and gives the value of this one; by default the same.

        Raises
        ------
        ArgumentError
            If the other one follows this one, or if there is no value for the one it has now.

        Examples
        --------
        >>> from megalith import Parameter
        >>> length, width = Parameter('length', [1, 2, 3]), Parameter('width')
        >>> width.link(length, lambda length: 2 * length)
        >>> length.value = 3
        >>> width.value
        6
        """
        above: Parameter | None = source
        while above is not None:
            if above is self:
                message = f"{self.name}: {source.name} follows it, so it cannot follow {source.name}"
                raise ArgumentError(message, name="source", got=source.name, expected="another parameter")
            above = above._source
        before = (self._source, self._derive)
        self._source, self._derive = source, f
        try:
            now = UNSET if source._value is UNSET else self.derived(source._value)
        except BaseException:
            self._source, self._derive = before
            raise
        if before[0] is not None:
            before[0]._followers.remove(self)
        source._followers.append(self)
        if now is not UNSET:
            self._set(now)

    def unlink(self) -> None:
        """Have this parameter follow no other."""
        if self._source is not None:
            self._source._followers.remove(self)
        self._source = self._derive = None

    @property
    def source(self) -> Parameter | None:
        """The parameter that this one follows."""
        return self._source

    def derived(self, value: Any) -> Any:
        """Return the value that goes with one of the parameter it follows.

        Parameters
        ----------
        value : object
            Of the other one.

        Returns
        -------
        value : object
            Of this one.
        """
        return self.check(value if self._derive is None else self._derive(value))


register(Parameter, Parameter._content)


def plain(value: Any) -> Any:
    """Return a scalar of NumPy as Python's, where that is the same."""
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value[()]
    is_plain = isinstance(value, np.generic) and value.dtype.kind in "biufcU" and value.dtype.itemsize <= 16
    if is_plain and not isinstance(value, np.longdouble | np.clongdouble):
        value = value.item()
    # One NaN for all, which is found in a dict.
    return math.nan if type(value) is float and value != value else value


def same(a: Any, b: Any) -> bool:
    """Whether two values are the same: equal numbers are, NaNs are, True and 1 are not."""
    if isinstance(a, bool | np.bool_) is not isinstance(b, bool | np.bool_):
        return False
    if a is b or (a != a and b != b and type(a) is type(b)):
        return True
    try:
        return bool(a == b)
    except (TypeError, ValueError):
        return False


def find(values: Sequence[Any], value: Any) -> int | None:
    """Return the place of a value among others."""
    for i, other in enumerate(values):
        if same(other, value):
            return i
    return None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _nearest(values: Sequence[Any], value: Any) -> str:
    """Say which of many numbers is near."""
    numbers = [other for other in values if _is_number(other)]
    if len(numbers) < len(values) or not _is_number(value) or not math.isfinite(value):
        return ""
    return f"; the nearest is {min(numbers, key=lambda other: abs(other - value))!r}"


def _checked(name: str, values: Any) -> tuple[Any, ...]:
    """Return values as a tuple of plain ones, all different."""
    if isinstance(values, str | bytes | dict) or not isinstance(values, Iterable):
        message = f"{name}: values: got {values!r}, expected a list of values"
        raise ArgumentError(message, name="values", got=values, expected="a list")
    listed = tuple(plain(value) for value in values)
    if not listed:
        message = f"{name}: values: got none, expected one or more"
        raise ArgumentError(message, name="values", got=(), expected="one or more")
    seen: dict[Any, Any] = {}
    for value in listed:
        n = len(seen)
        known_as(name, value, seen)
        if len(seen) == n:
            message = f"{name}: values: {value!r} stands in it twice, or with an equal one"
            raise ArgumentError(message, name="values", got=value, expected="different values")
    return listed


def known_as(name: str, value: Any, first: dict[Any, Any]) -> Any:
    """Return the first of the values that are the same as one; `first` has those of before.

    Raises
    ------
    ArgumentError
        If it cannot be the key of a dict, or is equal to another one that is not the same: True and 1.
    """
    try:
        found = first.setdefault(value, value)
    except TypeError:
        message = f"{name}: values: got {value!r}, expected values that can be keys of a dict: tuples, not lists"
        raise ArgumentError(message, name="values", got=value, expected="hashable values") from None
    if not same(found, value):
        message = f"{name}: values: {value!r} stands in it with {found!r}, which is equal"
        raise ArgumentError(message, name="values", got=value, expected="different values")
    return found


def _spaced(
    name: str, minimum: Any, maximum: Any, step: Any, num: int | None, spacing: str
) -> tuple[tuple[Any, Any], tuple[Any, ...]]:
    """Return the range of a parameter, and its values if there are steps."""
    low, high, step = plain(minimum), plain(maximum), plain(step)

    def refuse(what: str, got: Any, expected: str) -> ArgumentError:
        return ArgumentError(f"{name}: {what}: got {got!r}, expected {expected}", name=what, got=got, expected=expected)

    if spacing not in ("linear", "logarithmic"):
        raise refuse("spacing", spacing, "'linear' or 'logarithmic'")
    for what, got in (("minimum", low), ("maximum", high), ("step", step)):
        if got is not None and not (_is_number(got) and math.isfinite(got)):
            raise refuse(what, got, "a number")
    if low is not None and high is not None and low > high:
        raise refuse("maximum", high, f"{low} or more")
    if step is None and num is None:
        return (low, high), ()
    if low is None or high is None:
        raise refuse("minimum, maximum", (low, high), "both, where there are steps")
    is_log = spacing == "logarithmic"
    if is_log and low <= 0:
        raise refuse("minimum", low, "more than 0, where spacing is logarithmic")
    if num is not None:
        if step is not None:
            raise refuse("num", num, "step or num, not both")
        if type(plain(num)) is not int or num < 1:
            raise refuse("num", num, "1 or more")
        spaced = np.geomspace(low, high, num) if is_log else _parts(low, high, int(num))
        return (low, high), _checked(name, spaced)
    if step <= (1 if is_log else 0):
        raise refuse("step", step, "a factor of more than 1" if is_log else "more than 0")
    return (low, high), _checked(name, _steps(low, high, step, is_log=is_log))


def _steps(low: Any, high: Any, step: Any, *, is_log: bool) -> list[Any]:
    """Count from one number to another, in decimals."""
    from decimal import Decimal

    is_whole = isinstance(low, int) and isinstance(step, int)
    start, by, end = (Decimal(repr(number)) for number in (low, step, high))
    # A step such as 1 / 3 has been rounded: what it adds up to is rounded too, and may lie beyond the end by that.
    digits = None if is_log else 12 - by.adjusted()
    found, at = [], start
    while at <= end + by * Decimal("1e-12"):
        found.append(int(at) if is_whole else float(at if digits is None else round(at, digits)) + 0.0)
        at = start * by ** len(found) if is_log else start + by * len(found)
    return found


def _parts(low: Any, high: Any, num: int) -> list[float]:
    """Divide a range, in decimals."""
    from decimal import Decimal

    start, end = Decimal(repr(low)), Decimal(repr(high))
    return [float(start + (end - start) * i / max(num - 1, 1)) for i in range(num)]
