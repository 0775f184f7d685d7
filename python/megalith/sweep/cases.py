"""Which points there are: sums of products of axes, walked lazily, each condition as soon as its names are bound."""

from __future__ import annotations

import inspect
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from megalith.exceptions import ArgumentError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from megalith.sweep.parameter import Parameter


class Axis:
    """Parameters that change together.

    Parameters
    ----------
    parameters : sequence of Parameter
        Which.
    rows : sequence of tuple, optional
        Their values; by default those that the parameters list, the first of each, the second of each, ...
    followers : sequence of Parameter
        Those that are linked to one before them.
    """

    def __init__(
        self,
        parameters: Sequence[Parameter],
        rows: Sequence[tuple[Any, ...]] | None = None,
        followers: Sequence[Parameter] = (),
    ) -> None:
        self.parameters = tuple(parameters)
        self.followers = tuple(followers)
        self.names = tuple(parameter.name for parameter in (*self.parameters, *self.followers))
        self._rows = rows

    @property
    def dimension(self) -> str:
        """What the axis is called: by its parameter, if it is the values of one."""
        return self.parameters[0].name if len(self.parameters) == 1 and self._rows is None else "run"

    @property
    def rows(self) -> Sequence[tuple[Any, ...]]:
        """The values, as they are listed now."""
        rows = self._listed() if self._rows is None else self._rows
        if not self.followers:
            return rows
        found = []
        for row in rows:
            values = dict(zip(self.names, row, strict=False))
            for follower in self.followers:
                assert follower.source is not None
                values[follower.name] = follower.derived(values[follower.source.name])
            found.append(tuple(values.values()))
        return found

    def _listed(self) -> Sequence[tuple[Any, ...]]:
        lengths = {parameter.name: len(parameter.values) for parameter in self.parameters}
        for name, n in lengths.items():
            if n == 0:
                message = f"{name}: it lists no values to sweep over; set its .values, or give it a step"
                raise ArgumentError(message, name=name, got=(), expected="values")
        if len(set(lengths.values())) > 1:
            message = f"zip: expected as many values of each, got {lengths}"
            raise ArgumentError(message, name="zip", got=lengths, expected="equal numbers")
        return list(zip(*(parameter.values for parameter in self.parameters), strict=True))


@dataclass(frozen=True)
class Condition:
    """What a point has to fulfil."""

    function: Callable[..., Any]
    names: tuple[str, ...]

    def __call__(self, point: Mapping[str, Any]) -> bool:
        """Whether a point does."""
        return bool(self.function(**{name: point[name] for name in self.names}))


@dataclass(frozen=True)
class Block:
    """A product of axes, the last one fastest, without the points that a condition excludes."""

    axes: tuple[Axis, ...]
    conditions: tuple[Condition, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Of the parameters that change."""
        return tuple(name for axis in self.axes for name in axis.names)

    @property
    def size(self) -> int:
        """Of the whole product."""
        return math.prod(len(axis.rows) for axis in self.axes)

    def __mul__(self, other: Block) -> Block:
        shared = set(self.names) & set(other.names)
        if shared:
            message = f"product: {', '.join(sorted(shared))} would stand in it twice"
            raise ArgumentError(message, name="product", got=sorted(shared), expected="different parameters")
        return Block(self.axes + other.axes, self.conditions + other.conditions)

    def points(self, fixed: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """Walk the points.

        Parameters
        ----------
        fixed : dict
            Values of the parameters that do not change.

        Yields
        ------
        point : dict
            With the fixed values in it.
        """
        rows, due, last = self._plan(fixed)
        if not all(condition(fixed) for condition in due[0]):
            return
        point = {**fixed}
        if not self.axes:
            yield {**point}
            return
        at = [0] * len(rows)
        depth = 0
        while depth >= 0:
            if at[depth] == len(rows[depth]):
                at[depth] = 0
                depth -= 1
                continue
            point.update(zip(self.axes[depth].names, rows[depth][at[depth]], strict=True))
            at[depth] += 1
            if due[depth + 1] and not all(condition(point) for condition in due[depth + 1]):
                continue
            if depth == last:
                yield {**point}
            else:
                depth += 1

    def count(self, fixed: Mapping[str, Any]) -> int:
        """Count the points; of axes that no condition looks at only the number of values counts."""
        rows, due, _ = self._plan(fixed)
        if not all(condition(fixed) for condition in due[0]):
            return 0
        deepest = max((depth for depth in range(len(due)) if due[depth]), default=0)
        free = math.prod(len(values) for values in rows[deepest:])
        if deepest == 0:
            return free
        return free * sum(1 for _ in Block(self.axes[:deepest], self.conditions).points(fixed))

    def _plan(self, fixed: Mapping[str, Any]) -> tuple[list[Sequence[Any]], list[list[Condition]], int]:
        """Return the rows of each axis, and the conditions to look at once so many axes are bound."""
        bound = set(fixed) - set(self.names)
        due: list[list[Condition]] = [[] for _ in range(len(self.axes) + 1)]
        waiting = list(self.conditions)
        for depth in range(len(self.axes) + 1):
            if depth:
                bound.update(self.axes[depth - 1].names)
            due[depth] = [condition for condition in waiting if bound.issuperset(condition.names)]
            waiting = [condition for condition in waiting if not bound.issuperset(condition.names)]
        if waiting:
            missing = sorted({name for condition in waiting for name in condition.names} - bound)
            message = f"where: there is no parameter {', '.join(missing)}"
            raise ArgumentError(message, name="condition", got=missing, expected=f"of {', '.join(sorted(bound))}")
        return [axis.rows for axis in self.axes], due, len(self.axes) - 1


def condition_of(function: Any) -> Condition:
    """Return a function of parameters as a condition.

    Raises
    ------
    ArgumentError
        If its arguments have no names.
    """
    names = list(inspect.signature(function).parameters.values()) if callable(function) else []
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    if not names or any(parameter.kind not in kinds for parameter in names):
        message = f"condition: got {function!r}, expected a function whose arguments are parameters: lambda a, b: a < b"
        raise ArgumentError(message, name="condition", got=function, expected="a function of parameters")
    return Condition(function, tuple(parameter.name for parameter in names))
