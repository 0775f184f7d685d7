"""Two machines: a controller and the program on one, engines on the other, a directory that both see.

They are network namespaces joined by a cable of the kernel's; the second one has host name, processes and shared memory
of its own too. Nothing of the first one's memory can be mapped there.
"""

import json
import os
import shutil
import subprocess
import sys
import textwrap
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

ALONE = "unshare --uts --ipc --pid --fork --kill-child --mount-proc --mount"
BEGIN = "hostname {name} && mount -t tmpfs -o size=64m tmpfs /dev/shm && exec {command}"


class Machines:
    """Two hosts, each a command prefix, and what runs on them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.names = [f"ml{side}{uuid.uuid4().hex[:6]}" for side in "ab"]
        self.children: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> "Machines":
        a, b = self.names
        try:
            for name in self.names:
                self.ip("netns", "add", name)
            self.ip("link", "add", a, "netns", a, "type", "veth", "peer", "name", b, "netns", b)
            for i, name in enumerate(self.names, 1):
                self.ip("-n", name, "addr", "add", f"10.77.0.{i}/24", "dev", name)
                self.ip("-n", name, "link", "set", name, "up")
                self.ip("-n", name, "link", "set", "lo", "up")
        except subprocess.CalledProcessError as error:
            self.__exit__()
            pytest.skip(f"this system allows no network namespaces: {error.stderr.decode().strip()}")
        return self

    def __exit__(self, *_: object) -> None:
        for child in self.children:
            child.kill()
            child.wait()
        for name in self.names:
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)

    def ip(self, *args: str) -> None:
        subprocess.run(["ip", *args], capture_output=True, check=True)

    def start(self, side: int, *command: str, alone: bool = False) -> subprocess.Popen[bytes]:
        name = self.names[side]
        if alone:
            command = (*ALONE.split(), "sh", "-c", BEGIN.format(name=name, command=" ".join(command)))
        env = {**os.environ, "IPYTHONDIR": str(self.directory / f"ipython{side}")}
        with (self.directory / f"log{len(self.children)}").open("wb") as log:
            child = subprocess.Popen(["ip", "netns", "exec", name, *command], stdout=log, stderr=log, env=env)
        self.children.append(child)
        return child

    def logs(self) -> str:
        return "\n".join(path.read_text(errors="replace") for path in sorted(self.directory.glob("log*")))


@pytest.fixture
def machines(tmp_path: Path) -> Iterator[Machines]:
    if shutil.which("ip") is None or shutil.which("unshare") is None or os.geteuid() != 0:
        pytest.skip("two machines need ip and unshare, and root")
    with Machines(tmp_path) as machines:
        yield machines


@pytest.fixture
def connection(machines: Machines) -> Path:
    """The file with which clients connect; two engines run on the other machine."""
    security = machines.directory / "ipython0" / "profile_default" / "security"
    machines.start(0, sys.executable, "-m", "ipyparallel.controller", "--ip=10.77.0.1", alone=True)
    client, engine = security / "ipcontroller-client.json", security / "ipcontroller-engine.json"
    wait_for(lambda: client.exists() and engine.exists(), machines)
    for _ in range(2):
        machines.start(1, sys.executable, "-m", "ipyparallel.engine", f"--file={engine}", alone=True)
    return client


def wait_for(condition, machines: Machines) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, machines.logs()
        time.sleep(0.05)


PROGRAM = """
import itertools, json, os, socket, sys, time
import ipyparallel
import numpy as np
from megalith import Context, maps, shared

client = ipyparallel.Client({connection!r})
client.wait_for_engines(2, timeout=60)
context = Context({cache!r}, client[:])
out = {{}}
"""


def run(machines: Machines, connection: Path, code: str) -> dict:
    program = machines.directory / "program.py"
    text = PROGRAM.format(connection=str(connection), cache=str(machines.directory / "cache"))
    program.write_text(text + textwrap.dedent(code) + "\nprint(json.dumps(out))\n")
    env = {**os.environ, "IPYTHONDIR": str(machines.directory / "ipython0")}
    command = ["ip", "netns", "exec", machines.names[0], sys.executable, str(program)]
    done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=100, check=False)
    assert done.returncode == 0, done.stderr + machines.logs()
    return json.loads(done.stdout.splitlines()[-1])


def test_a_map_over_engines_of_another_machine(machines, connection):
    code = """
    def where(x):
        return x, socket.gethostname()

    out["hosts"] = sorted({host for _, host in context.map(where, range(20))})
    out["here"] = socket.gethostname()
    array = np.ones(3_000_000)
    out["totals"] = context.map(lambda a, i: float(a.sum()) + i, itertools.repeat(array), range(4))
    atlas = shared.cache(f"two-{os.getpid()}", array[:1000], verbose=False)
    out["kinds"] = context.map(lambda a: [type(a).__name__, float(a.sum())], [atlas, atlas])
    shared.free(f"two-{os.getpid()}")
    start = time.perf_counter()
    context.map(abs, range(10_000))
    out["seconds"] = time.perf_counter() - start
    cached = context.cache(where)
    out["cached"] = context.map(cached, [1, 2]) == [cached(1), cached(2)]
    """
    out = run(machines, connection, code)
    assert out["hosts"] == [machines.names[1]]
    assert out["here"] != machines.names[1]
    assert out["totals"] == [3_000_000.0 + i for i in range(4)]
    assert out["kinds"] == [["ndarray", 1000.0]] * 2
    assert out["cached"]
    assert out["seconds"] < 20


def test_chunks_of_a_dask_array_are_computed_and_written_by_another_machine(machines, connection):
    code = """
    import dask.array

    np.save(os.environ["IPYTHONDIR"] + "/x.npy", np.arange(300.0).reshape(30, 10))
    x = np.load(os.environ["IPYTHONDIR"] + "/x.npy", mmap_mode="r")

    def work(chunk, offset):
        open(f"{context.cache_dir}/{socket.gethostname()}.host", "a").close()
        return chunk * 2 + offset

    result = context.map_dask_array(work, dask.array.from_array(x, chunks=(7, 10)), 1, name="doubled")
    out["equal"] = bool(np.array_equal(result.compute(), x * 2 + 1))
    out["hosts"] = sorted(path.stem for path in context.cache_dir.glob("*.host"))
    out["files"] = sorted(path.name for path in (context.cache_dir / "doubled").glob("*.npy"))
    """
    out = run(machines, connection, code)
    assert out == {"equal": True, "hosts": [machines.names[1]], "files": [f"{i}.npy" for i in range(5)]}


@pytest.mark.parametrize(("layout", "compression"), [("virtual", None), ("single", None), ("single", "gzip")])
def test_blocks_are_computed_and_written_to_hdf5_by_another_machine(machines, connection, layout, compression):
    code = f"""
    import h5py
    from megalith import hdf5

    place = os.environ["IPYTHONDIR"]
    x = np.arange(3000.0).reshape(300, 10)
    with h5py.File(place + "/x.h5", "w") as file:
        file["data"] = x

    def work(block):
        open(f"{{context.cache_dir}}/{{socket.gethostname()}}.host", "a").close()
        return block * 2 + 1

    options = {{"layout": {layout!r}, "compression": {compression!r}, "context": context}}
    sources = [place + "/x.h5", x]
    sinks = [hdf5.compute(work, s, f"{{place}}/{{i}}.h5", blocks=7, **options) for i, s in enumerate(sources)]
    out["equal"] = [bool(np.array_equal(h5py.File(sink)["data"][:], x * 2 + 1)) for sink in sinks]
    out["hosts"] = sorted(path.stem for path in context.cache_dir.glob("*.host"))
    """
    assert run(machines, connection, code) == {"equal": [True, True], "hosts": [machines.names[1]]}
