"""Functions whose results are kept in memory, over the disk: `Context.cache` with ``memcache=True``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from megalith.context.memcache import AsyncMemoized, Memoized
from megalith.context.memorized import AsyncMemorizedFunc, BoundMemorizedFunc, Entry, Explanation, MemorizedFunc

if TYPE_CHECKING:
    from pathlib import Path

    from megalith.context.keys import FunctionKey

__all__ = ["AsyncLayered", "Layered", "layer"]


class Layered(Memoized):
    """A function that remembers its results in memory, over one that keeps them on disk; `layer` makes it.

    It is a `Memoized`, and has what a `MemorizedFunc` has: `explain` and `cached` look into memory first, `forget`,
    `clear` and `call` act on both. Nothing of it is saved by `Context.save_memcache`: it is on disk already.

    Attributes
    ----------
    disk : MemorizedFunc
        The function below.
    """

    disk: MemorizedFunc

    def __init__(self, function: MemorizedFunc, directory: Path, max_bytes: int | None, key: Any = None) -> None:
        super().__init__(function, directory, max_bytes, function.keys)
        self.disk = function
        self._is_loaded = True

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        """Be a method of the instances of a class."""
        return self if instance is None else BoundMemorizedFunc(self, instance)

    @property
    def func(self) -> Any:
        """The function that computes."""
        return self.disk.func

    @property
    def keys(self) -> FunctionKey:
        """What calls are known by."""
        keys: FunctionKey = self.disk.keys
        return keys

    def load(self) -> int:
        """Read nothing: what is saved is on disk, and read when it is asked for.

        Returns
        -------
        n_entries : int
            0.
        """
        return 0

    def explain(self, /, *args: Any, **kwargs: Any) -> Explanation:
        """Say whether a call would be answered from memory or disk, and why or why not.

        Parameters
        ----------
        *args, **kwargs
            Arguments of the function.

        Returns
        -------
        explanation : Explanation
            ``.hit`` and ``.reason``.
        """
        if self._holds(self.keys.call_key(args, kwargs)):
            return Explanation(hit=True, reason="in memory")
        explanation: Explanation = self.disk.explain(*args, **kwargs)
        return explanation

    def cached(self, /, *args: Any, **kwargs: Any) -> bool:
        """Whether a call would be answered from memory or disk.

        Parameters
        ----------
        *args, **kwargs
            Arguments of the function.

        Returns
        -------
        is_cached : bool
            As ``check_call_in_cache``.
        """
        return self._holds(self.keys.call_key(args, kwargs)) or self.disk.cached(*args, **kwargs)

    check_call_in_cache = cached

    def forget(self, /, *args: Any, **kwargs: Any) -> bool:
        """Remove the result of a call from memory and disk.

        Parameters
        ----------
        *args, **kwargs
            Arguments of the function.

        Returns
        -------
        was_there : bool
            Whether there was one.
        """
        was_on_disk = self.disk.forget(*args, **kwargs)
        return self._drop(self.keys.call_key(args, kwargs)) or was_on_disk

    def entries(self) -> list[Entry]:
        """List the results on disk, as `MemorizedFunc.entries`; `cache_info` says what is in memory.

        Returns
        -------
        entries : list of Entry
            The latest first.
        """
        entries: list[Entry] = self.disk.entries()
        return entries

    def clear(self, warn: bool = True) -> None:
        """Remove all results of this function from memory and disk.

        Parameters
        ----------
        warn : bool
            Whether to log it.
        """
        self.disk.clear(warn)
        self._clear()

    def call(self, /, *args: Any, **kwargs: Any) -> Any:
        """Compute, whatever is there, and keep the result in memory and on disk.

        Parameters
        ----------
        *args, **kwargs
            Arguments of the function.

        Returns
        -------
        output : object
            The result.
        metadata : dict
            What is known of it.
        """
        key = self.keys.call_key(args, kwargs)
        output, metadata = self.disk.call(*args, **kwargs)
        return self._renew(key, output), metadata

    def call_and_shelve(self, /, *args: Any, **kwargs: Any) -> Any:
        """Have the result on disk, and return a reference to it, as `MemorizedFunc.call_and_shelve`.

        Parameters
        ----------
        *args, **kwargs
            Arguments of the function.

        Returns
        -------
        result : MemorizedResult or NotMemorizedResult
            ``get()`` gives the value.
        """
        return self.disk.call_and_shelve(*args, **kwargs)

    def _renew(self, key: str, output: Any) -> Any:
        value, nbytes = self._keep(output, is_alone=False)
        self._drop(key)
        return self._insert(key, value, nbytes)


class AsyncLayered(Layered, AsyncMemoized):
    """A coroutine function that remembers what was awaited in memory, over the disk."""

    disk: AsyncMemorizedFunc

    async def call(self, /, *args: Any, **kwargs: Any) -> Any:
        """Compute, whatever is there, and keep the result in memory and on disk."""
        key = self.keys.call_key(args, kwargs)
        output, metadata = await self.disk.call(*args, **kwargs)
        return self._renew(key, output), metadata


def layer(function: MemorizedFunc, directory: Path, max_bytes: int | None) -> Layered:
    """Have a function on disk remember its results in memory too.

    Parameters
    ----------
    function : MemorizedFunc
        What `Memory.cache` gave.
    directory : path
        For the sake of `Memoized`; nothing is written there.
    max_bytes : int or None
        Bytes of the results in memory.

    Returns
    -------
    layered : Layered
        The function.
    """
    cls = AsyncLayered if isinstance(function, AsyncMemorizedFunc) else Layered
    return cls(function, directory, max_bytes)
