"""``megalith info``: threads, processor, memory and versions."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import sys
from pathlib import Path

import numpy as np

import megalith
from megalith import _core
from megalith.arrays.blocks import thread_count

GIB = 1 << 30


def info() -> str:
    """Return what megalith finds on this machine, a line for each fact."""
    facts = {
        "megalith": f"{megalith.__version__}{' (debug build: slow)' if _core.DEBUG else ''}",
        "python": f"{platform.python_version()} on {platform.platform()}",
        "numpy": np.__version__,
        "hdf5": _hdf5(),
        "threads": f"{thread_count(None)} ({_thread_rule()})",
        "processor": f"{processor()}, kernels use {_core.cpu_level()}",
        "shared arrays": _shared(),
        "memory": _memory(),
        "open files": _open_files(),
    }
    width = max(len(name) for name in facts)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in facts.items())


def processor() -> str:
    """Return what the processor calls itself; Linux says its family and model too, which names often hide."""
    found: dict[str, str] = {}
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            key, _, value = line.partition(":")
            found.setdefault(key.strip(), value.strip())
    numbers = [f"{key.removeprefix('cpu ')} {found[key]}" for key in ("cpu family", "model") if key in found]
    name = found.get("model name") or platform.processor()
    return ", ".join(dict.fromkeys(word for word in (name, *numbers, platform.machine()) if word))


def _thread_rule() -> str:
    for name in ("MEGALITH_NUM_THREADS", "OMP_NUM_THREADS"):
        value = os.environ.get(name, "").split(",")[0].strip()
        if value.isdecimal() and int(value) > 0:
            return f"{name}={os.environ[name]}"
    return f"{os.cpu_count()} processors, what affinity and quota leave"


def _hdf5() -> str:
    try:
        version = importlib.metadata.version("h5py")
    except importlib.metadata.PackageNotFoundError:
        return "h5py is not installed"
    import h5py

    return f"{h5py.version.hdf5_version} (h5py {version})"


def _shared() -> str:
    directory = Path(_core.shared_directory())
    there = next(path for path in (directory, *directory.parents) if path.exists())
    room = _core.capacity(str(there))
    kind = "in memory" if room["memory_backed"] else "on disk"
    free = "unknown" if room["free"] is None else f"{room['free'] / GIB:.1f} GiB"
    return f"{directory}, {kind}, {free} free"


def _memory() -> str:
    room = _core.capacity("/dev/shm" if sys.platform == "linux" else "/tmp")["room"]
    return "unknown" if room is None else f"{room / GIB:.1f} GiB can be taken before this machine is short of it"


def _open_files() -> str:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return f"{soft} (at most {hard})"
