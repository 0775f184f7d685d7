"""Shared arrays travel as references to workers on this machine, and as copies into everything that may be kept.

Each transport runs once, in a process of its own, and tries all cases; the tests look at what it reports. A case is
'reference' where the worker got a SharedArray whose memory is the very file, by /proc/self/maps, and 'copy' where it
got a plain array; the data are compared in both.
"""

import copy
import importlib.util
import io
import json
import os
import pickle
import socket
import threading
import uuid
from multiprocessing import connection, reduction

import joblib
import numpy as np
import pytest

from megalith import shared
from megalith.shared import transports
from megalith.testing.faults import run_python

HELPERS = '''
import os, pickle
import numpy as np
from megalith import shared

class Holder:
    """An object that has an array somewhere."""
    def __init__(self, inside):
        self.inside = inside

def find(x):
    while not isinstance(x, np.ndarray):
        x = x.inside if isinstance(x, Holder) else next(iter(x.values())) if isinstance(x, dict) else x[0]
    return x

def inode(array):
    """The file that memory is mapped from, by the kernel's word."""
    address = array.__array_interface__["data"][0]
    for line in open("/proc/self/maps"):
        low, _, high = line.split()[0].partition("-")
        if int(low, 16) <= address < int(high, 16):
            return int(line.split()[4])

def total(array):
    return float(np.arange(array.size) @ np.asarray(array).ravel())

def look(x):
    array = find(x)
    return [type(array).__name__, inode(array), list(array.shape), total(array), os.getpid()]

def same(x):
    return x

def part(x):
    return x[::-2, 3:]

def nested(x):
    return Holder({"deep": [x]})

def keep(x):
    return look(pickle.loads(pickle.dumps(x)))
'''

START = """
import json, os, sys
import numpy as np
from megalith import shared
from helpers import *

KEY = os.environ["KEY"]
data = np.arange(200_000, dtype=np.float64).reshape(200, 1000)
table = np.zeros(50_000, dtype=[("id", "u1"), ("weight", "f8")])
table["weight"] = np.arange(50_000)

def say(report, array, inside=False):
    kind, file, shape, sum, pid = report
    if shape != list(array.shape) or sum != total(array):
        return f"wrong data: {report}"
    if pid == os.getpid() and not inside:
        return "did not travel"
    if kind == "SharedArray" and file == inode(array) == os.stat(shared.handle(array).path).st_ino:
        return "reference"
    return "copy" if kind == "ndarray" and file != inode(array) else str(report)

def cases(call, closures=False):
    # `call(f, x)` gives f(x), run by a worker.
    things = {
        "argument": a, "inside of objects": Holder({"deep": [a]}), "slice": a[10:50], "strided": a[::3, ::2],
        "reversed": a[::-1, ::-1], "transposed": a.T, "column": a[:, 7],
        "record field": records["weight"], "empty": a[:0], "freed": freed,
    }
    out = {name: say(call(look, x), find(x)) for name, x in things.items()}
    out["result"] = say(look(call(same, a)), a, inside=True)
    out["result that is a view"] = say(look(call(part, a)), part(a), inside=True)
    out["result inside of objects"] = say(look(call(nested, a)), a, inside=True)
    out["pickled in the worker"] = say(call(keep, a), a)
    if closures:
        def closure(_):
            from helpers import look
            return look(b)
        b = a
        out["closure"] = say(call(closure, 0), a)
    return out

a = records = freed = None

def begin():
    global a, records, freed
    a = shared.cache(KEY, data, verbose=False)
    records = shared.cache(KEY + "r", table, verbose=False)
    freed = shared.cache(KEY + "f", data, verbose=False)
    shared.free(KEY + "f")

out = {}
"""

FINISH = """
if __name__ == "__main__":
    begin()
    main()
    print(json.dumps(out))
"""

MULTIPROCESSING = """
import multiprocessing as mp
from concurrent.futures import ProcessPoolExecutor

def work(x, pipe, queue):
    pipe.send([look(x), x])
    queue.put([keep(x), x])

def main():
    for method in ("fork", "spawn", "forkserver"):
        context = mp.get_context(method)
        with context.Pool(1) as pool:
            out[f"Pool, {method}"] = cases(lambda f, x: pool.apply(f, (x,)))
        with ProcessPoolExecutor(1, mp_context=context) as executor:
            out[f"ProcessPoolExecutor, {method}"] = cases(lambda f, x: executor.submit(f, x).result())
        there, here = context.Pipe()
        queue = context.Queue()
        process = context.Process(target=work, args=(a, there, queue))
        process.start()
        arrived, sent = here.recv()
        kept, put = queue.get()
        process.join()
        out[f"Process, {method}"] = {
            # A forked process has the array itself.
            "argument": say(arrived, a),
            "sent through a pipe": say(look(sent), a, inside=True),
            "put into a queue": say(look(put), a, inside=True),
            "pickled in the worker": say(kept, a),
        }
    from multiprocessing.reduction import ForkingPickler
    out["bytes"] = {"array": len(ForkingPickler.dumps(a)), "view": len(ForkingPickler.dumps(a[::-3, ::2].T))}
"""

JOBLIB = """
def main():
    import joblib, loky
    for backend in ("loky", "multiprocessing"):
        with joblib.Parallel(2, backend=backend) as parallel:
            call = lambda f, x: parallel([joblib.delayed(f)(x)])[0]
            out[f"joblib, {backend}"] = cases(call, closures=backend == "loky")
    with loky.ProcessPoolExecutor(1) as executor:
        out["loky"] = cases(lambda f, x: executor.submit(f, x).result(), closures=True)
    from joblib.externals.loky.backend.reduction import dumps
    out["bytes"] = {"joblib": len(dumps(a)), "loky": len(loky.backend.reduction.dumps(a))}
"""

IPYPARALLEL = """
def main():
    import ipyparallel as ipp
    from megalith.shared import transports
    with ipp.Cluster(n=2, log_level=40) as client:
        direct, balanced = client[:], client.load_balanced_view()
        direct.block = balanced.block = True
        for pickler in ("pickle", "cloudpickle"):
            if pickler == "cloudpickle":
                direct.use_cloudpickle()
            out[f"DirectView, {pickler}"] = cases(lambda f, x: direct.apply(f, x)[1], closures=True)
            out[f"LoadBalancedView, {pickler}"] = cases(lambda f, x: balanced.apply(f, x), closures=True)
            direct.push({"pushed": a[:, ::3]})
            out[f"namespace, {pickler}"] = {
                "pulled": say(look(direct.pull("pushed")[0]), a[:, ::3], inside=True),
                "mapped": say(balanced.map(look, [a])[0], a),
                "mapped over all": say(direct.map(look, [a, Holder(a)])[1], a),
                "keyword": say(direct.apply(look, x=a)[0], a),
            }
        bytes_sent = []
        send = client.session.send

        def measure(stream, message, *args, buffers=(), **kwargs):
            bytes_sent.append(sum(memoryview(b).nbytes for b in buffers or ()))
            return send(stream, message, *args, buffers=buffers, **kwargs)

        client.session.send = measure
        balanced.apply(same, 1)
        balanced.apply(same, a)
        client.session.send = send
        out["bytes"] = {"array": bytes_sent[1] - bytes_sent[0]}
        transports._here.clear()
        client._ssh = True  # as if connected to somewhere else
        out["strangers"] = {"argument": say(balanced.apply(look, a), a)}
"""

DASK = """
def main():
    # After the arrays were made: dask does not know them yet.
    import dask
    from dask.distributed import Client, LocalCluster
    import distributed.comm.tcp as tcp

    silent = dict(dashboard_address=":0", silence_logs=50)
    with LocalCluster(n_workers=2, threads_per_worker=1, **silent) as cluster, Client(cluster) as client:
        one, two = list(client.scheduler_info(n_workers=-1)["workers"])

        futures = []  # Kept: dask loses what is scattered again just while it forgets it, of any array.

        def scattered(f, x, **kwargs):
            [future] = client.scatter([x], **kwargs)
            futures.append(future)
            return client.submit(f, future, pure=False).result()

        out["scatter"] = cases(scattered)
        out["scatter, directly"] = {"argument": say(scattered(look, a, direct=True, hash=False), a)}
        out["submit"] = cases(lambda f, x: client.submit(f, x, pure=False).result(), closures=True)
        out["persist"] = {"argument": say(dask.delayed(look)([a]).persist().compute(), a)}
        there = client.submit(part, a, workers=[one])
        out["worker to worker"] = {"argument": say(client.submit(look, there, workers=[two]).result(), part(a))}
        out["run"] = {"argument": say(client.run(look, a)[one], a)}
        counted = [0]
        to_frames = tcp.to_frames

        async def measure(message, **kwargs):
            frames = await to_frames(message, **kwargs)
            counted[0] += sum(memoryview(frame).nbytes for frame in frames)
            return frames

        tcp.to_frames = measure

        def bytes_of(x):
            counted[0] = 0
            client.scatter([x], hash=False)
            return counted[0]

        out["bytes"] = {"array": bytes_of(a) - bytes_of(1)}
        tcp.to_frames = to_frames

        # What a worker writes to disk, to save memory, may outlive the name.
        [future] = client.scatter([a], workers=[one])
        spill = lambda dask_worker: [dask_worker.data.evict() for _ in list(dask_worker.data.fast)]
        client.run(spill, workers=[one])
        out["disk"] = {"argument": say(client.submit(look, future, workers=[one], pure=False).result(), a)}
    with LocalCluster(n_workers=1, processes=False, **silent) as cluster, Client(cluster) as client:
        out["threads"] = {
            "argument": say(client.submit(look, a).result(), a, inside=True),
            "result": say(look(client.submit(same, a).result()), a, inside=True),
        }
    # Others could come to this one.
    strangers = dict(n_workers=1, host="0.0.0.0", protocol="tcp://", **silent)
    with LocalCluster(**strangers) as cluster, Client(cluster) as client:
        f = client.scatter(a)
        out["strangers"] = {
            "argument": say(client.submit(look, a, pure=False).result(), a),
            "scattered": say(client.submit(look, f, pure=False).result(), a),
            "result": say(look(client.submit(same, f).result()), a, inside=True),
        }
"""

SCRIPTS = {"multiprocessing": MULTIPROCESSING, "joblib": JOBLIB, "ipyparallel": IPYPARALLEL, "dask": DASK}
NEEDS = {
    "multiprocessing": [],
    "joblib": ["joblib", "loky"],
    "ipyparallel": ["ipyparallel", "cloudpickle"],
    "dask": ["distributed"],
}

VIEWS = ["slice", "strided", "reversed", "transposed", "column", "record field"]
RESULTS = ["result", "result that is a view", "result inside of objects"]


@pytest.fixture(scope="session")
def outcomes(tmp_path_factory):
    """Run a transport once; the words for all that it carried."""
    known = {}

    def run(transport):
        for package in NEEDS[transport]:
            if importlib.util.find_spec(package) is None:
                pytest.skip(f"needs {package}")
        if transport not in known:
            directory = tmp_path_factory.mktemp(transport)
            (directory / "helpers.py").write_text(HELPERS)
            key = f"test-{os.getpid()}-{uuid.uuid4().hex}"
            paths = [str(directory), *filter(None, [os.environ.get("PYTHONPATH")])]
            env = {"KEY": key, "PYTHONPATH": os.pathsep.join(paths), "IPYTHONDIR": str(directory / "ipython")}
            try:
                child = run_python(START + SCRIPTS[transport] + FINISH, directory, timeout_s=100, env=env)
            finally:
                for name in (key, key + "r", key + "f"):
                    shared.free(name)
            known[transport] = json.loads(child.check().splitlines()[-1])
        return known[transport]

    return run


def said(outcomes, transport, names):
    """What happened to the cases of a transport, without bytes and what is by value on purpose."""
    ways = {way: cases for way, cases in outcomes(transport).items() if way not in ("bytes", "disk", "strangers")}
    found = {(way, name): cases[name] for way, cases in ways.items() for name in names if name in cases}
    assert found
    return found


@pytest.mark.parametrize("transport", SCRIPTS)
def test_arguments_travel_by_reference_also_inside_of_objects(outcomes, transport):
    found = said(outcomes, transport, ["argument", "inside of objects", "mapped", "mapped over all", "keyword"])
    assert {case: got for case, got in found.items() if got != "reference"} == {}


@pytest.mark.parametrize("transport", SCRIPTS)
def test_views_travel_by_reference(outcomes, transport):
    found = said(outcomes, transport, VIEWS)
    assert {case: got for case, got in found.items() if got != "reference"} == {}


@pytest.mark.parametrize("transport", SCRIPTS)
def test_results_travel_by_reference(outcomes, transport):
    found = said(outcomes, transport, [*RESULTS, "pulled", "sent through a pipe", "put into a queue"])
    assert {case: got for case, got in found.items() if got != "reference"} == {}


@pytest.mark.parametrize("transport", ["joblib", "ipyparallel", "dask"])
def test_closures_travel_by_reference(outcomes, transport):
    found = said(outcomes, transport, ["closure"])
    assert {case: got for case, got in found.items() if got != "reference"} == {}


@pytest.mark.parametrize("transport", SCRIPTS)
def test_arrays_without_a_name_travel_as_copies(outcomes, transport):
    found = said(outcomes, transport, ["freed"])
    assert {case: got for case, got in found.items() if got != "copy"} == {}


@pytest.mark.parametrize("transport", SCRIPTS)
def test_what_a_worker_pickles_itself_is_a_copy(outcomes, transport):
    found = said(outcomes, transport, ["pickled in the worker"])
    assert {case: got for case, got in found.items() if got != "copy"} == {}


@pytest.mark.parametrize("transport", SCRIPTS)
def test_empty_views_arrive(outcomes, transport):
    assert set(said(outcomes, transport, ["empty"]).values()) <= {"reference", "copy"}


@pytest.mark.parametrize("transport", SCRIPTS)
def test_less_than_1_kb_travels(outcomes, transport):
    assert all(0 < size < 1000 for size in outcomes(transport)["bytes"].values()), outcomes(transport)["bytes"]


@pytest.mark.parametrize("transport", ["ipyparallel", "dask"])
def test_clusters_that_may_be_elsewhere_get_copies(outcomes, transport):
    found = outcomes(transport)["strangers"]
    assert {case: got for case, got in found.items() if got != "copy"} == {}


def test_what_dask_spills_to_disk_is_a_copy(outcomes):
    assert outcomes("dask")["disk"] == {"argument": "copy"}


# --- what may be kept -------------------------------------------------------------------------------------------------


@pytest.fixture
def array(key):
    return shared.cache(key, np.arange(30_000, dtype=np.float32).reshape(100, 300), verbose=False)


def by_joblib(array):
    file = io.BytesIO()
    joblib.dump({"array": array}, file)
    file.seek(0)
    return lambda: joblib.load(file)["array"]


def by_numpy(array):
    file = io.BytesIO()
    np.save(file, array)
    file.seek(0)
    return lambda: np.load(file)


def by_cloudpickle(array):
    saved = pytest.importorskip("cloudpickle").dumps(lambda: array)
    return lambda: pickle.loads(saved)()


def by_protocol(protocol):
    def save(array):
        saved = pickle.dumps([array], protocol=protocol)
        return lambda: pickle.loads(saved)[0]

    return save


def by_buffers(array):
    buffers = []
    saved = pickle.dumps(array, protocol=5, buffer_callback=buffers.append)
    held = [bytes(buffer.raw()) for buffer in buffers]
    return lambda: pickle.loads(saved, buffers=held)


def by_deepcopy(array):
    copied = copy.deepcopy([array])
    return lambda: copied[0]


SAVERS = {
    **{f"pickle {protocol}": by_protocol(protocol) for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1)},
    "buffers": by_buffers,
    "deepcopy": by_deepcopy,
    "cloudpickle": by_cloudpickle,
    "joblib.dump": by_joblib,
    "numpy.save": by_numpy,
}


@pytest.mark.parametrize("saver", SAVERS)
@pytest.mark.parametrize("view", [np.s_[:], np.s_[::-1, 5::7]], ids=["all", "view"])
def test_what_is_saved_has_the_data_after_free(key, array, saver, view):
    expected = np.array(array[view])
    load = SAVERS[saver](array[view])
    shared.free(key)
    del array
    loaded = load()
    assert type(loaded) is np.ndarray
    np.testing.assert_array_equal(loaded, expected)


def test_a_pickle_is_a_copy_also_while_other_threads_send(array):
    stop = threading.Event()

    def send():
        while not stop.is_set():
            reduction.ForkingPickler.dumps(array)

    thread = threading.Thread(target=send)
    thread.start()
    try:
        assert all(len(pickle.dumps(array)) > array.nbytes for _ in range(200))
    finally:
        stop.set()
        thread.join()


def test_sharing_imports_no_transport(tmp_path, key):
    code = f"""
    import pickle, sys
    import numpy as np
    from megalith import shared
    array = shared.cache({key!r}, np.arange(10), verbose=False)
    pickle.dumps(array)
    loaded = {{"multiprocessing.reduction", "joblib", "loky", "ipyparallel", "dask", "distributed"}} & set(sys.modules)
    assert not loaded, loaded
    """
    run_python(code, tmp_path).check()


# --- where transports lead --------------------------------------------------------------------------------------------


def external_address():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing
        except OSError:
            return "127.0.0.1"
        return probe.getsockname()[0]


def sent_to(host, array):
    received = []

    def receive():
        with listener.accept() as end:
            received.append(end.recv())

    with connection.Listener((host, 0)) as listener:
        thread = threading.Thread(target=receive)
        thread.start()
        with connection.Client(listener.address) as end:
            end.send(array)
        thread.join()
    return received[0]


def test_a_connection_to_this_machine_gets_a_reference(array):
    assert type(sent_to("127.0.0.1", array)) is shared.SharedArray


def test_a_connection_to_another_address_gets_a_copy(array):
    host = external_address()
    if host.startswith("127."):
        pytest.skip("this machine has no address but its own")
    assert type(sent_to(host, array)) is np.ndarray


@pytest.mark.parametrize(
    ("host", "dialled", "expected"),
    [
        ("127.0.0.1", "tcp://127.0.0.1", True),
        ("127.0.0.1", "tls://localhost", True),
        ("0.0.0.0", "tcp://127.0.0.1", False),
        ("0.0.0.0", "tcp://198.51.100.7", False),
        ("::1", "tcp://[::1]", True),
        ("::", "tcp://127.0.0.1", False),
    ],
)
def test_an_address_is_private_if_nobody_from_elsewhere_can_come_to_it(host, dialled, expected):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        server = socket.create_server((host, 0), family=family, dualstack_ipv6=host == "::")
    except OSError:
        pytest.skip(f"cannot listen to {host}")
    with server:
        assert transports._is_private(f"{dialled}:{server.getsockname()[1]}") is expected


def test_an_address_at_which_nobody_here_listens_is_not_private():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert not transports._is_private(f"tcp://127.0.0.1:{port}")


@pytest.mark.parametrize(
    ("address", "expected"), [("inproc://10.0.0.1/1/2", True), ("ipc:///tmp/x-1", True), ("", False)]
)
def test_an_address_within_a_process_or_file_system_is_private(address, expected):
    assert transports._is_private(address) is expected
