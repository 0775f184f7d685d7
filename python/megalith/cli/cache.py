"""``megalith cache``: what a Context, a Memory or a ParameterSpace keeps on disk, seen from a shell."""

from __future__ import annotations

import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from megalith.cli.table import age, print_table, size
from megalith.context.entries import Entries, function_of
from megalith.records.reading import open_record
from megalith.sweep.claims import is_used
from megalith.sweep.points import Store

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Iterator

    from megalith.context.entries import Item

# Where a Context has its results and the points of its sweeps, and a Memory whose directory was given as a string.
PLACES = ("results", "sweeps", "joblib")


class _Kept(NamedTuple):
    """A result, or a point of a sweep."""

    item: Item
    entries: Entries
    is_point: bool

    @property
    def function(self) -> str:
        name = function_of(self.entries.root, self.item.path)
        return f"{name} (sweep)" if self.is_point else name


def run(options: argparse.Namespace) -> int:
    """Do what the words behind ``megalith cache`` say.

    Parameters
    ----------
    options : argparse.Namespace
        What the parser made of them.

    Returns
    -------
    status : int
        0, or 1 if a result is damaged or there is no such directory.
    """
    if not options.directory.is_dir():
        print(f"megalith cache: {options.directory} is no directory", file=sys.stderr)
        return 1
    roots = _roots(options.directory.absolute())
    kept = sorted((one for root in roots for one in _all_in(root)), key=lambda one: one.item)
    if options.action == "ls":
        _show(kept)
    elif options.action == "du":
        _show_functions(kept)
    elif options.action == "verify":
        return _verify(kept, remove=options.remove)
    elif options.action == "prune":
        points = [] if options.sweeps else [one for one in kept if one.is_point]
        chosen = kept if options.sweeps else [one for one in kept if not one.is_point]
        _remove(_too_many(chosen, options.max_bytes, options.max_age))
        if points:
            print(f"{_summary(points)} stay; --sweeps removes them too")
    else:
        _remove(kept)
        for root in roots:
            Store(root).clear()
    return 0


def _roots(directory: Path) -> list[str]:
    found = [str(directory / name) for name in PLACES if (directory / name).is_dir()]
    return found or [str(directory)]


def _all_in(root: str) -> Iterator[_Kept]:
    entries = Entries(root)
    of_sweeps: dict[str, bool] = {}
    for item in entries.items():
        directory = str(Path(item.path).parent)
        if directory not in of_sweeps:
            of_sweeps[directory] = is_used(directory)
        yield _Kept(item, entries, of_sweeps[directory])


def _show(kept: list[_Kept]) -> None:
    """List results, the one not used for the longest time first."""
    rows = [("function", "arguments", "size", "took", "last use")]
    for one in kept:
        about = _about(one.item)
        arguments = ", ".join(f"{name}={text}" for name, text in about.get("input_args", {}).items())
        took = f"{about['duration']:.3g} s" if "duration" in about else ""
        used = age(time.time() - one.item.used)
        rows.append((one.function, arguments, size(one.item.size), took, used))
    rows.append(("in all", _counted(kept), size(sum(one.item.size for one in kept)), "", ""))
    print_table(rows, (2, 3, 4))


def _show_functions(kept: list[_Kept]) -> None:
    """List what the results of each function take."""
    counts: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    for one in kept:
        counts[one.function] += 1
        sizes[one.function] += one.item.size
    rows = [(function, str(counts[function]), size(nbytes)) for function, nbytes in sizes.most_common()]
    rows = [("function", "results", "size"), *rows, ("in all", str(len(kept)), size(sizes.total()))]
    print_table(rows, (1, 2))


def _verify(kept: list[_Kept], *, remove: bool) -> int:
    """Read all results and compare their checksums."""
    n_damaged = 0
    for one in kept:
        try:
            open_record(one.item.path, unnoted=True)
        except FileNotFoundError:
            continue
        except (ValueError, OSError) as error:
            n_damaged += 1
            print(f"damaged: {error}")
            if remove:
                one.entries.remove(one.item.path)
    what = " (removed)" if remove and n_damaged else ""
    print(f"{_summary(kept)}: {n_damaged} damaged{what}")
    return int(n_damaged > 0)


def _too_many(kept: list[_Kept], max_bytes: int | None, max_age: float | None) -> Iterator[_Kept]:
    """Find what is too old, and the longest unused until the rest is small enough."""
    left = sum(one.item.size for one in kept)
    now = time.time()
    for one in kept:
        is_old = max_age is not None and now - one.item.used > max_age
        if is_old or (max_bytes is not None and left > max_bytes):
            left -= one.item.size
            yield one


def _remove(kept: Iterable[_Kept]) -> None:
    removed = [one for one in kept if one.entries.remove(one.item.path)]
    print(f"{_counted(removed)} removed, {size(sum(one.item.size for one in removed))}")


def _summary(kept: list[_Kept]) -> str:
    return f"{_counted(kept)}, {size(sum(one.item.size for one in kept))}"


def _counted(kept: list[_Kept]) -> str:
    n_points = sum(one.is_point for one in kept)
    n_results = len(kept) - n_points
    told = [f"{n_results} results"] if n_results or not n_points else []
    return " and ".join([*told, *([f"{n_points} points of sweeps"] if n_points else [])])


def _about(item: Item) -> dict[str, Any]:
    try:
        about = open_record(item.path, "r", 0, unnoted=True).about
    except (ValueError, OSError):
        return {}
    return about if type(about) is dict else {}
