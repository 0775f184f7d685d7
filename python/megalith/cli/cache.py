"""``megalith cache``: the results that a Context or a Memory keeps on disk, seen from a shell."""

from __future__ import annotations

import sys
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from megalith.cli.table import age, print_table, size
from megalith.context.entries import Entries, function_of
from megalith.records.reading import open_record

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable
    from pathlib import Path

    from megalith.context.entries import Item

# Where a Context has its results, and a Memory whose directory was given as a string.
PLACES = ("results", "joblib")


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
    entries = Entries(_root(options.directory.absolute()))
    items = sorted(entries.items())
    if options.action == "ls":
        _show(entries, items)
    elif options.action == "du":
        _show_functions(entries, items)
    elif options.action == "verify":
        return _verify(entries, items, remove=options.remove)
    elif options.action == "prune":
        _remove(entries, _too_many(items, options.max_bytes, options.max_age))
    else:
        _remove(entries, items)
    return 0


def _root(directory: Path) -> str:
    below = [directory / name for name in PLACES if (directory / name).is_dir()]
    return str(below[0] if len(below) == 1 else directory)


def _show(entries: Entries, items: list[Item], total: str = "in all") -> None:
    """List results, the one not used for the longest time first."""
    rows = [("function", "arguments", "size", "took", "last use")]
    for item in items:
        about = _about(item)
        arguments = ", ".join(f"{name}={text}" for name, text in about.get("input_args", {}).items())
        took = f"{about['duration']:.3g} s" if "duration" in about else ""
        used = age(time.time() - item.used)
        rows.append((function_of(entries.root, item.path), arguments, size(item.size), took, used))
    rows.append((total, f"{len(items)} results", size(sum(item.size for item in items)), "", ""))
    print_table(rows, (2, 3, 4))


def _show_functions(entries: Entries, items: list[Item]) -> None:
    """List what the results of each function take."""
    counts: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    for item in items:
        function = function_of(entries.root, item.path)
        counts[function] += 1
        sizes[function] += item.size
    rows = [(function, str(counts[function]), size(nbytes)) for function, nbytes in sizes.most_common()]
    rows = [("function", "results", "size"), *rows, ("in all", str(len(items)), size(sizes.total()))]
    print_table(rows, (1, 2))


def _verify(entries: Entries, items: list[Item], *, remove: bool) -> int:
    """Read all results and compare their checksums."""
    n_damaged = 0
    for item in items:
        try:
            open_record(item.path, unnoted=True)
        except FileNotFoundError:
            continue
        except (ValueError, OSError) as error:
            n_damaged += 1
            print(f"damaged: {error}")
            if remove:
                entries.remove(item.path)
    what = " (removed)" if remove and n_damaged else ""
    print(f"{len(items)} results, {size(sum(item.size for item in items))}: {n_damaged} damaged{what}")
    return int(n_damaged > 0)


def _too_many(items: list[Item], max_bytes: int | None, max_age: float | None) -> Iterable[Item]:
    """Find what is too old, and the longest unused until the rest is small enough."""
    left = sum(item.size for item in items)
    now = time.time()
    for item in items:
        is_old = max_age is not None and now - item.used > max_age
        if is_old or (max_bytes is not None and left > max_bytes):
            left -= item.size
            yield item


def _remove(entries: Entries, items: Iterable[Item]) -> None:
    removed = [item for item in items if entries.remove(item.path)]
    print(f"{len(removed)} results removed, {size(sum(item.size for item in removed))}")


def _about(item: Item) -> dict[str, Any]:
    try:
        about = open_record(item.path, "r", 0, unnoted=True).about
    except (ValueError, OSError):
        return {}
    return about if type(about) is dict else {}
