"""The ``megalith`` command."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import megalith
from megalith._shared_memory import DEFAULT_DIRECTORY, DEFAULT_PREFIX
from megalith.exceptions import MegalithError

if TYPE_CHECKING:
    from collections.abc import Sequence


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="megalith", description=megalith.__doc__)
    parser.add_argument("--version", action="version", version=f"megalith {megalith.__version__}")
    commands = parser.add_subparsers(dest="command", required=True)

    demo = commands.add_parser("demo", help="run the main job on a volume, against NumPy and SciPy")
    demo.add_argument("--input", type=Path, metavar="X.npy", help="a volume of three dimensions; made if not given")
    demo.add_argument("--json", type=Path, metavar="OUT.json", help="write the table for programs")
    demo.add_argument("--report", type=Path, metavar="OUT.html", help="write the table with pictures")
    demo.add_argument("--processes", type=int, metavar="N", help="number of threads")
    demo.add_argument("--repeat", type=int, metavar="N", help="times each step is run (the median counts)")

    bench = commands.add_parser("bench", help="time the kernels on this machine, beside their peers")
    bench.add_argument("--json", type=Path, metavar="OUT.json", help="write the table for programs")
    bench.add_argument("--plot", type=Path, metavar="OUT.png", help="draw the table (.png, .svg or .pdf)")
    bench.add_argument("--processes", type=int, metavar="N", help="number of threads")
    bench.add_argument("--elements", type=int, metavar="N", help="elements of the largest array, 2^27 if not given")
    bench.add_argument("--only", type=re.compile, metavar="REGEX", help="which workloads")

    commands.add_parser("info", help="say what megalith finds on this machine")

    shared = commands.add_parser("shared", help="arrays shared between processes: list them, free them")
    actions = shared.add_subparsers(dest="action", required=True)
    for name, text in (
        ("ls", "list the arrays, oldest first"),
        ("free", "free arrays by their names"),
        ("prune", "free arrays of this user that are too old, then the oldest until the rest is small enough"),
    ):
        action = actions.add_parser(name, help=text)
        action.add_argument("--directory", metavar="DIR", default=DEFAULT_DIRECTORY, help="where they are")
        action.add_argument("--prefix", default=DEFAULT_PREFIX, help="what their file names begin with")
    actions.choices["free"].add_argument("ids", nargs="+", metavar="ID")
    actions.choices["prune"].add_argument("--max-bytes", type=int, metavar="N", help="what may stay, in bytes")
    actions.choices["prune"].add_argument("--max-age", type=float, metavar="S", help="seconds an array may be old")

    cache = commands.add_parser("cache", help="results and points of sweeps that are kept on disk: list, check, remove")
    actions = cache.add_subparsers(dest="action", required=True)
    for name, text in (
        ("ls", "list the results, the one not used for the longest time first"),
        ("du", "list what the results of each function take"),
        ("verify", "read all results and compare their checksums"),
        ("prune", "remove what was not used for too long, then the longest unused until the rest is small enough"),
        ("clear", "remove all results"),
    ):
        actions.add_parser(name, help=text).add_argument("directory", type=Path, metavar="DIR")
    actions.choices["verify"].add_argument("--remove", action="store_true", help="remove what is damaged")
    actions.choices["prune"].add_argument("--max-bytes", type=int, metavar="N", help="what may stay, in bytes")
    actions.choices["prune"].add_argument("--max-age", type=float, metavar="S", help="seconds since the last use")
    actions.choices["prune"].add_argument(
        "--sweeps", action="store_true", help="points of sweeps too, which otherwise stay; computed counts as used"
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Parameters
    ----------
    arguments : sequence of str, optional
        The words behind ``megalith``; None means those of the shell.

    Returns
    -------
    status : int
        0 if all went well, 1 after an error or a result that is not equal to its peer's, 130 after Ctrl-C.
    """
    options = _parser().parse_args(arguments)
    try:
        if options.command == "info":
            from megalith.cli.info import info

            print(info())
            return 0
        if options.command == "shared":
            from megalith.cli.shared import run

            return run(options)
        if options.command == "cache":
            from megalith.cli import cache

            return cache.run(options)
        if options.command == "bench":
            from megalith.cli.bench import bench

            return bench(options.json, options.plot, options.processes, options.elements, options.only)
        from megalith.cli.demo import demo

        return demo(options.input, options.json, options.report, options.processes, options.repeat)
    except (MegalithError, OSError) as error:
        print(f"megalith {options.command}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"megalith {options.command}: interrupted", file=sys.stderr)
        return 130
