"""``megalith shared``: the arrays shared between processes, seen from a shell."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from megalith import shared

if TYPE_CHECKING:
    import argparse

    from megalith.shared import Entry

UNITS = ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))


def run(options: argparse.Namespace) -> int:
    """Do what the words behind ``megalith shared`` say.

    Parameters
    ----------
    options : argparse.Namespace
        What the parser made of them.

    Returns
    -------
    status : int
        0, or 1 if an array that was to be freed is not there.
    """
    place = (options.directory, options.prefix)
    if options.action == "ls":
        _table(shared.ls(*place))
        return 0
    if options.action == "prune":
        freed = shared.prune(options.max_bytes, options.max_age, *place)
        _table(freed, "freed")
        return 0
    known = {entry.id for entry in shared.ls(*place)}
    for id in options.ids:
        shared.free(id, *place)
        print(f"{id}: {'freed' if id in known else 'there is no such array'}")
    return int(not known.issuperset(options.ids))


def _table(entries: list[Entry], total: str = "in all") -> None:
    rows = [(entry.id, size(entry.nbytes), entry.owner, _age(time.time() - entry.created)) for entry in entries]
    rows = [("id", "size", "owner", "age"), *rows, (total, size(sum(entry.nbytes for entry in entries)), "", "")]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    for id, nbytes, owner, age in rows:
        print(f"{id:<{widths[0]}}  {nbytes:>{widths[1]}}  {owner:<{widths[2]}}  {age:>{widths[3]}}".rstrip())


def size(nbytes: int) -> str:
    """Write a number of bytes as people read it."""
    for unit, name in UNITS:
        if nbytes >= unit:
            return f"{nbytes / unit:.1f} {name}"
    return f"{nbytes} B"


def _age(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 172800 else f"{seconds / 86400:.1f} d"
