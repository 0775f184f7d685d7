"""Progress bars of long operations: `verbose=True` shows one, anything else costs nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import TracebackType

    from megalith._typing import Tick


class Bar:
    """A bar over the bytes of an operation that is done in parts, to be used in a ``with`` block.

    Parameters
    ----------
    bar : tqdm.tqdm or None
        The bar, None for no display.
    parts : int
        How many calls of the core make up the operation.
    """

    def __init__(self, bar: Any, parts: int = 1) -> None:
        self._bar = bar
        self._parts = parts
        self._done = 0

    def __enter__(self) -> Bar:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            if kind is None:
                self._bar.update(self._bar.total - self._bar.n)
            self._bar.close()

    def split(self, parts: int) -> None:
        """Say how many parts there are, once it is known."""
        if self._bar is not None:
            self._parts = max(parts, 1)

    @property
    def tick(self) -> Tick:
        """What the core calls with the share done of the present part."""
        return None if self._bar is None else self._move

    def part_done(self) -> None:
        """Go on to the next part."""
        if self._bar is not None:
            self._done += 1
            self._move(0.0)

    def _move(self, fraction: float) -> None:
        share = min((self._done + fraction) / self._parts, 1.0)
        self._bar.update(max(round(share * self._bar.total) - self._bar.n, 0))


_SILENT = Bar(None)


def progress(verbose: bool, name: str, nbytes: int, parts: int = 1) -> Bar:
    """Return a bar with rate and remaining time, for the operation that is its ``with`` block.

    Parameters
    ----------
    verbose : bool
        Whether to show anything.
    name : str
        What is being done.
    nbytes : int
        Bytes it is done on.
    parts : int
        Calls of the core it is made of.

    Returns
    -------
    bar : Bar
        Hands out the callback for the core.
    """
    if not verbose:
        return _SILENT
    from tqdm.auto import tqdm

    return Bar(tqdm(total=nbytes, desc=name, unit="B", unit_scale=True), parts)
