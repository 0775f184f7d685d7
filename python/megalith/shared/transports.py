"""Whether a shared array that is being pickled may travel as a reference, or needs to be copied.

A pickle may be kept: a file, a cache, a database. It holds a copy of the data, so that it can be read for ever. What
goes to a worker on the same machine is read at once and forgotten: there a reference of less than 1 KB does.

The two are told apart by who asks. `by_reference` walks up the Python frames of the calling thread to the nearest
function that serialises for a transport, and asks whether that transport stays on this machine. Nothing is registered
with a transport, so none has to be imported, in any order; and a plain `pickle.dumps`, also one inside of a worker, has
no such function above it, because workers run tasks outside of their serialisers.

===================  =====================================  =========================================================
transport            its function                           stays on this machine
===================  =====================================  =========================================================
multiprocessing,     ``multiprocessing.reduction.dumps``    always, but for `Connection.send` into a socket whose
concurrent.futures,  and ``dump``                           other end is not a loopback address (remote managers)
multiprocess
loky, joblib         ``loky.backend.reduction.dump``, the   always
                     copy of it in joblib; ``send`` in
                     ``joblib.pool``
Context.map          ``pack`` and ``pack_result`` of        workers that can map memory of the caller
                     `megalith.maps.parcel`
ipyparallel          ``serialize_object``, called by its    a loopback or ipc address at which the controller listens
                     client or engine                       for nobody else; no ssh; written by a controller here
dask.distributed     ``distributed.protocol``, called by    all Clients, Workers and Schedulers of this process have
                     its comms, client, worker, scheduler   such addresses, or inproc ones
===================  =====================================  =========================================================

Limits:

- A transport that is not in the table, or was changed beyond recognition by a new version, gets copies: right, but
  slow. The tests run all of them.
- Whoever forwards a loopback port to another machine by hand, to a scheduler that there, too, listens to loopback only,
  cannot be told from this machine. What arrives there says that it cannot be opened and what to do.
- A reference does not keep the memory alive while it is on its way: freeing a name before the receiver has opened it is
  an error at the receiver. What dask writes to disk to save memory is a copy.
- Where /proc/net/tcp is missing (macOS), clusters on TCP get copies.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType


def by_reference() -> bool:
    """Whether the pickling that is going on in this thread sends to a process on this machine.

    Returns
    -------
    by_reference : bool
        False for pickles that may be kept, and for what is not certainly on this machine.
    """
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        functions = _SERIALISERS.get(frame.f_globals.get("__name__", ""))
        if functions is not None:
            stays_here = functions.get(frame.f_code.co_name)
            if stays_here is not None:
                return stays_here(frame)
        frame = frame.f_back
    return False


def prepare(cls: type) -> None:
    """Tell dask, once it is loaded, what to do with shared arrays; cheap enough to be called for every view.

    Left alone, dask takes a subclass for the ndarray it is: it copies without asking `__reduce_ex__`, writes to disk
    what seems to be too large for a worker, and reads all of an array to give a task its name.

    Parameters
    ----------
    cls : type
        The class of shared arrays. Its `__dask_tokenize__`, if it has one, is used.
    """
    if not _FOR_DASK or "dask" not in sys.modules:
        return
    for place, function in tuple(_FOR_DASK.items()):
        module, name = place
        dispatch = getattr(sys.modules.get(module), name, None)  # None too while it is being imported
        if dispatch is not None:
            if function is not _token or hasattr(cls, "__dask_tokenize__"):
                dispatch.register(cls, function)
            _FOR_DASK.pop(place, None)


# --- multiprocessing, loky, joblib ------------------------------------------------------------------------------------


def _always(frame: FrameType) -> bool:
    return True


def _over_connection(frame: FrameType) -> bool:
    """Say yes, unless the caller is `Connection.send` on a socket to another machine."""
    caller = frame.f_back
    if caller is None or not caller.f_globals.get("__name__", "").endswith(".connection"):
        return True
    import os
    import socket
    import stat

    connection = caller.f_locals.get("self")
    try:
        descriptor = connection.fileno()  # type: ignore[union-attr]
        if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
            return True
        with socket.socket(fileno=os.dup(descriptor)) as end:
            return end.family == socket.AF_UNIX or _is_loopback(end.getpeername()[0])
    except (OSError, AttributeError, IndexError, TypeError):
        return False


# --- maps -------------------------------------------------------------------------------------------------------------


def _over_map(frame: FrameType) -> bool:
    near = frame.f_locals.get("is_near")
    return bool(frame.f_locals["self"].is_near if near is None else near)


# --- ipyparallel ------------------------------------------------------------------------------------------------------


def _over_ipyparallel(frame: FrameType) -> bool:
    """Ask the engine or the client that serialises."""
    for caller in _callers(frame):
        module = caller.f_globals.get("__name__", "")
        try:
            if module.startswith("ipyparallel.engine."):
                engines = sys.modules["ipyparallel.engine.app"].IPEngine
                return engines.initialized() and _engine_is_here(engines.instance())
            if module.startswith("ipyparallel.client.") and "self" in caller.f_locals:
                owner = caller.f_locals["self"]  # a Client, a View of one, or a function of a View
                owner = getattr(owner, "view", owner)
                return _client_is_here(getattr(owner, "client", owner))
        except (AttributeError, KeyError):  # another version
            return False
    return False


def _engine_is_here(engine: Any) -> bool:
    return _is_here(engine, engine.registration_url, certain=not engine.using_ssh and _is_this_host(engine.location))


def is_near(client: Any) -> bool:
    """Whether all engines of an ipyparallel client are on this machine."""
    try:
        return _client_is_here(client)
    except (AttributeError, KeyError):  # another version
        return False


def _client_is_here(client: Any) -> bool:
    config = client._config
    return _is_here(client, config["registration"], certain=not client._ssh and _is_this_host(config["location"]))


def _is_this_host(name: object) -> bool:
    import socket

    return name in (socket.gethostname(), "localhost", "127.0.0.1")


# --- dask -------------------------------------------------------------------------------------------------------------


class _UsePickleError(NotImplementedError, TypeError):
    """Says no to both places that ask for a serialiser: one takes the first class for it, one the second."""


def _serialize(array: Any) -> Any:
    raise _UsePickleError


def _sizeof(array: Any) -> int:
    """Return what dask should count for an array: shared memory is not the worker's own."""
    return 1024 if _dask_is_here() else int(array.nbytes)


def _token(array: Any) -> Any:
    return array.__dask_tokenize__()


_FOR_DASK: dict[tuple[str, str], Callable[[Any], Any]] = {
    ("distributed.protocol.serialize", "dask_serialize"): _serialize,
    ("dask.sizeof", "sizeof"): _sizeof,
    ("dask.tokenize", "normalize_token"): _token,
}
"""What dask still has to be told: the table, and what to enter for shared arrays."""

_DASK_INSIDE = ("distributed.protocol.", "msgpack", "contextlib")
"""Modules of the frames within dask's serialisation."""

_DASK_CALLERS = (
    "distributed.comm.",
    "distributed.client",
    "distributed.core",
    "distributed.scheduler",
    "distributed.worker",
)
"""Modules that send what they serialise; `distributed.spill` and users keep it."""


def _over_dask(frame: FrameType) -> bool:
    """Ask who called the serialisers: what spills to disk uses them too."""
    for caller in _callers(frame):
        module = caller.f_globals.get("__name__", "")
        if not module.startswith(_DASK_INSIDE):
            return bool(module.startswith(_DASK_CALLERS)) and _dask_is_here()
    return False


def dask_is_near() -> bool:
    """Whether all that this process takes part in by dask is on this machine."""
    return _dask_is_here()


def _dask_is_here() -> bool:
    """Whether all that this process takes part in is on this machine, by the addresses of dask itself.

    A message does not say where it ends: the scheduler forwards.
    """
    distributed = sys.modules.get("distributed")
    if distributed is None:
        return False
    seen = False
    try:
        for server in (*distributed.Scheduler._instances, *distributed.Worker._instances):
            if not _is_closed(server):
                seen = True
                scheduler = getattr(server, "scheduler", server)
                if not _is_here(server, server.address, scheduler.address):
                    return False
        for client in tuple(distributed.Client._instances):
            if not _is_closed(client):
                seen = True
                # The address we dialled may be the near end of a tunnel; the scheduler tells its own.
                own = client._scheduler_identity.get("address", "")
                if not _is_here(client, client.scheduler.address, own):
                    return False
    except (AttributeError, ValueError, RuntimeError):  # starting, stopping, or another version
        return False
    return seen


def _is_closed(server: Any) -> bool:
    return bool(getattr(server.status, "name", server.status) == "closed")


# --- addresses --------------------------------------------------------------------------------------------------------

_here: WeakSet[Any] = WeakSet()


def _is_here(owner: Any, *addresses: str, certain: bool = True) -> bool:
    """Whether somebody's addresses are all on this machine. Looking costs milliseconds, so a yes is kept."""
    if owner in _here:
        return True
    if certain and all(map(_is_private, addresses)):
        _here.add(owner)
        return True
    return False


def _is_private(address: str) -> bool:
    """Whether an address is on this machine, and nobody from elsewhere can come to it."""
    protocol, _, place = address.partition("://")
    if protocol in ("inproc", "ipc"):
        return True
    host, _, port = place.rpartition(":")
    return _is_loopback(host) and port.isdecimal() and _listens_to_loopback_only(int(port))


def _is_loopback(host: str) -> bool:
    import ipaddress

    try:
        return host == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _listens_to_loopback_only(port: int) -> bool:
    hosts = list(_listeners(port))
    return bool(hosts) and all(map(_is_loopback, hosts))


def _listeners(port: int) -> Iterator[str]:
    """Give the addresses at which this machine listens to a port."""
    import ipaddress
    from pathlib import Path

    for name in ("tcp", "tcp6"):
        try:
            lines = Path("/proc/self/net", name).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            local, _, state = line.split()[1:4]
            words, _, digits = local.partition(":")
            if state == "0A" and int(digits, 16) == port:
                packed = b"".join(int(words[i : i + 8], 16).to_bytes(4, sys.byteorder) for i in range(0, len(words), 8))
                host = ipaddress.ip_address(packed)
                yield str(getattr(host, "ipv4_mapped", None) or host)


def _callers(frame: FrameType) -> Iterator[FrameType]:
    caller = frame.f_back
    while caller is not None:
        yield caller
        caller = caller.f_back


_SERIALISERS: dict[str, dict[str, Callable[[FrameType], bool]]] = {
    "megalith.maps.parcel": {"pack": _over_map, "pack_result": _over_map},
    "multiprocessing.reduction": {"dumps": _over_connection, "dump": _always},
    "multiprocess.reduction": {"dumps": _over_connection, "dump": _always},
    "joblib.externals.loky.backend.reduction": {"dumps": _always, "dump": _always},
    "loky.backend.reduction": {"dumps": _always, "dump": _always},
    "joblib.pool": {"send": _always},
    "ipyparallel.serialize.serialize": {"serialize_object": _over_ipyparallel},
    "distributed.protocol.pickle": {"dumps": _over_dask},
    "distributed.protocol.serialize": {"serialize": _over_dask},
}
"""By module and name, the functions that serialise, and what tells whether that transport stays here."""
