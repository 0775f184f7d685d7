"""``megalith shared``: the arrays shared between processes, seen from a shell."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from megalith import shared
from megalith.cli.table import age, print_table, size

if TYPE_CHECKING:
    import argparse

    from megalith.shared import Entry


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
    rows = [(entry.id, size(entry.nbytes), entry.owner, age(time.time() - entry.created)) for entry in entries]
    rows = [("id", "size", "owner", "age"), *rows, (total, size(sum(entry.nbytes for entry in entries)), "", "")]
    print_table(rows, (1, 3))
