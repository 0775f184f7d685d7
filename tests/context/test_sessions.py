"""Sessions of users: modules that are edited, kernels that are restarted, workers that are sent functions.

Each session is a fresh interpreter with a project of real modules; `ran` says which computations were made.
"""

import importlib.util
import inspect
import os

import pytest

from megalith.testing.faults import run_python

START = """
import json, os, sys, pathlib, warnings
warnings.simplefilter("error")
from megalith import Context

context = Context("project")

def run(path):
    "Run the cells of a notebook, as ipykernel does: each compiled under the name of a file that is new each time."
    for i, cell in enumerate(pathlib.Path(path).read_text().split("# %%\\n")):
        name = f"/tmp/ipykernel_{os.getpid()}/{abs(hash((cell, os.getpid())))}.py"
        exec(compile(cell, name, "exec"), globals())
"""

# Computations are lines of a file, so that those of other processes count too.
COMPUTED = """
import os
def computed(what):
    with open(os.environ["COMPUTED"], "a") as file:
        file.write(f"{what}\\n")
"""


class Project:
    """A directory with modules and a Context."""

    def __init__(self, directory):
        self.directory = directory
        self.log = directory / "computed.txt"
        self.seed = 0
        self.write("counting", COMPUTED)

    def write(self, name, code):
        """Write a module."""
        (self.directory / f"{name}.py").write_text(inspect.cleandoc(code) + "\n")
        for cached in self.directory.glob("__pycache__/*"):
            cached.unlink()

    def run(self, code, timeout_s=60.0, **env):
        """Run a session; what was computed in it, and what it printed."""
        self.log.write_text("")
        self.seed += 1
        paths = [str(self.directory), *filter(None, [os.environ.get("PYTHONPATH")])]
        env = {
            "COMPUTED": str(self.log),
            "PYTHONHASHSEED": str(self.seed),
            # Of an edit of the same length within a second Python's own cache of bytecode would not know.
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONPATH": os.pathsep.join(paths),
            "IPYTHONDIR": str(self.directory / "ipython"),
            **env,
        }
        code = f"import os\nos.chdir({str(self.directory)!r})\n{START}\n{inspect.cleandoc(code)}"
        child = run_python(code, self.directory, timeout_s=timeout_s, env=env)
        said = child.check().splitlines()
        return self.log.read_text().split(), said

    def ran(self, code, **options):
        """Run a session; what was computed in it."""
        return self.run(code, **options)[0]


@pytest.fixture
def project(tmp_path):
    return Project(tmp_path)


ANALYSIS = '''
"""An analysis."""
import numpy as np
from counting import computed
import helpers

LIMIT = 3

def analyse(x, scale=2):
    """Do it."""
    computed("analyse")
    # A comment.
    return helpers.smooth(np.asarray(x) * scale).sum() + LIMIT
'''

HELPERS = '''
def smooth(x):
    """Smooth it."""
    return weighted(x)

def weighted(x):
    return x + WEIGHT

def not_called(x):
    return -x

WEIGHT = 1
'''

CALL = """
from analysis import analyse
cached = context.cache(analyse)
print(float(cached([1, 2, 3])), float(cached([1, 2, 3])))
"""


@pytest.fixture
def analysed(project):
    """A project whose analysis was computed once."""
    project.write("analysis", ANALYSIS)
    project.write("helpers", HELPERS)
    assert project.run(CALL) == (["analyse"], ["18.0 18.0"])
    return project


@pytest.mark.parametrize(
    ("module", "old", "new"),
    [
        ("analysis", "# A comment.", "# Another one."),
        ("analysis", '"""Do it."""', '"""Do it another way."""'),
        ("analysis", '    """Do it."""\n', ""),
        ("analysis", '"""An analysis."""', '"""An analysis."""\n\n\n# Moved down.\nOTHER = 1\n\n'),
        ("analysis", "(np.asarray(x) * scale).sum() + LIMIT", "(\n        np.asarray(x) * scale,\n    ).sum() + LIMIT"),
        ("analysis", "(x, scale=2)", "(x: list[float], scale: int=2) -> float"),
        ("analysis", 'computed("analyse")', "computed('analyse')"),
        ("helpers", '"""Smooth it."""', '"""Smooth that."""'),
        ("helpers", "return -x", "return +x"),
        ("helpers", "def not_called(x):\n    return -x\n", ""),
        ("helpers", "WEIGHT = 1", "WEIGHT = 1\nUNUSED = 2"),
    ],
    ids=[
        "comment", "docstring", "docstring removed", "moved lines", "formatter", "annotations", "quotes",
        "docstring of a helper", "function that is not reached", "function removed", "constant that is not reached",
    ],
)  # fmt: skip
def test_an_edit_that_says_nothing_keeps_results(analysed, module, old, new):
    source = {"analysis": ANALYSIS, "helpers": HELPERS}[module]
    assert old in source
    analysed.write(module, source.replace(old, new))
    assert analysed.run(CALL) == ([], ["18.0 18.0"])


@pytest.mark.parametrize(
    ("module", "old", "new", "value"),
    [
        ("analysis", "* scale", "* scale * 2", 30.0),
        ("analysis", "scale=2", "scale=3", 24.0),
        ("analysis", "LIMIT = 3", "LIMIT = 4", 19.0),
        ("helpers", "return weighted(x)", "return weighted(x) - 1", 15.0),
        ("helpers", "x + WEIGHT", "x - WEIGHT", 12.0),
        ("helpers", "WEIGHT = 1", "WEIGHT = 2", 21.0),
    ],
    ids=["body", "default", "constant", "helper", "helper of a helper", "constant of a helper"],
)
def test_an_edit_that_changes_results_computes_again_and_the_old_ones_stay(analysed, module, old, new, value):
    source = {"analysis": ANALYSIS, "helpers": HELPERS}[module]
    analysed.write(module, source.replace(old, new))
    assert analysed.run(CALL) == (["analyse"], [f"{value} {value}"])
    analysed.write(module, source)
    assert analysed.run(CALL) == ([], ["18.0 18.0"])
    analysed.write(module, source.replace(old, new))
    assert analysed.run(CALL) == ([], [f"{value} {value}"])


def test_another_session_says_what_was_edited(analysed):
    analysed.write("helpers", HELPERS.replace("x + WEIGHT", "x - WEIGHT"))
    _, said = analysed.run("from analysis import analyse\nprint(context.cache(analyse).explain([1, 2, 3]).reason)")
    assert said == ["the function has changed: global 'helpers.weighted'"]


def test_two_versions_in_turn_in_one_session_are_computed_once_each(project):
    code = """
    from counting import computed
    for _ in range(3):
        for by in (2, 3):
            exec(compile(f"def scale(x):\\n    computed({by})\\n    return x * {by}", "<ipython-input-1>", "exec"))
            print(context.cache(scale)(1), end=" ")
    """
    assert project.run(code) == (["2", "3"], ["2 3 2 3 2 3 "])
    assert project.run(code) == ([], ["2 3 2 3 2 3 "])


NOTEBOOK = """
from counting import computed
import numpy as np
OFFSET = 10
# %%
def helper(x):
    return x + OFFSET
# %%
@context.cache
def fit(x):
    computed("fit")
    return helper(x)
# %%
print(fit(1))
"""


def test_a_notebook_finds_its_results_after_a_restart_of_the_kernel(project):
    (project.directory / "book.py").write_text(NOTEBOOK)
    assert project.run("run('book.py')") == (["fit"], ["11"])
    assert project.run("run('book.py')\nrun('book.py')") == ([], ["11", "11"])
    (project.directory / "book.py").write_text(NOTEBOOK.replace("# %%\n@", "# %%\n# A cell in between\n\n# %%\n@"))
    assert project.run("run('book.py')") == ([], ["11"])
    (project.directory / "book.py").write_text(NOTEBOOK.replace("x + OFFSET", "x - OFFSET"))
    assert project.run("run('book.py')") == (["fit"], ["-9"])


def test_a_cell_that_is_run_again_after_an_edit_of_another_is_computed_again(project):
    code = """
    import re
    cells = open("book.py").read().split("# %%\\n")
    def cell(code):
        exec(compile(code, f"<ipython-input-{len(code)}-abc>", "exec"), globals())
    for one in cells:
        cell(one)
    cell(cells[1].replace("x + OFFSET", "x * OFFSET"))  # the helper alone
    print(fit(1))
    cell("OFFSET = 20")
    print(fit(1))
    cell(cells[0])
    cell(cells[1])
    print(fit(1))
    """
    (project.directory / "book.py").write_text(NOTEBOOK)
    assert project.run(code) == (["fit", "fit", "fit"], ["11", "10", "20", "11"])


def test_lambdas_closures_and_functions_of_one_name_never_share_results(project):
    code = """
    from counting import computed
    cache = context.cache
    double, triple = cache(lambda x: [computed("double"), 2 * x][1]), cache(lambda x: [computed("triple"), 3 * x][1])
    same, twin = cache(lambda x: x), cache(lambda x: x)
    def scaled(by):
        @cache
        def scale(x):
            computed(f"scale{by}")
            return by * x
        return scale
    def one():
        @cache
        def inner(x):
            computed("one")
            return x + 1
        return inner
    def two():
        @cache
        def inner(x):
            computed("two")
            return x + 2
        return inner
    print(double(1), triple(1), same(1), twin(1), [scaled(by)(1) for by in (4, 5.0, 5, True)], one()(1), two()(1))
    """
    said = ["2 3 1 1 [4, 5.0, 5, 1] 2 3"]
    assert project.run(code) == (["double", "triple", "scale4", "scale5.0", "scale5", "scaleTrue", "one", "two"], said)
    assert project.run(code) == ([], said)


def test_sets_among_constants_arguments_and_results_do_not_depend_on_the_hash_seed(project):
    code = """
    from counting import computed
    KNOWN = frozenset(["a", "b", "c", "d", "e"])
    @context.cache
    def known(x, more=frozenset(["u", "v", "w"])):
        computed("known")
        return sorted(set(x) & KNOWN), "a" in {"x", "y", "z", "a"}
    print(known({"a", "b", "q", "r"}), known(x={"r", "q", "b", "a"}))
    """
    first = project.run(code)
    assert first == (["known"], ["(['a', 'b'], True) (['a', 'b'], True)"])
    for _ in range(3):
        assert project.run(code) == ([], first[1])


def test_a_project_that_moves_keeps_its_results(analysed, tmp_path):
    moved = tmp_path / "elsewhere" / "deep"
    moved.parent.mkdir()
    inside = [path for path in tmp_path.iterdir() if path.name != "elsewhere"]
    moved.mkdir()
    for path in inside:
        path.rename(moved / path.name)
    assert Project(moved).run(CALL) == ([], ["18.0 18.0"])


def test_a_script_under_another_name_keeps_its_results(project):
    code = """
    from counting import computed
    @context.cache
    def work(x):
        computed("work")
        return x + 1
    print(work(1))
    """
    assert project.ran(code) == ["work"]
    script = f"os.chdir({str(project.directory)!r})\ncontext = Context('project')\n{inspect.cleandoc(code)}"
    (project.directory / "sub").mkdir()
    other = Project(project.directory / "sub")
    assert other.run("# Another first line\n" + script) == ([], ["2"])


def test_numpy_counts_by_its_version_and_never_by_its_code(project):
    code = """
    import numpy as np
    from counting import computed
    @context.cache
    def mean(x):
        computed("mean")
        return float(np.mean(x))
    print(mean([1, 2]))
    print(sorted(name for name in mean.keys.parts() if "version" in name or "numpy" in name))
    """
    assert project.run(code) == (["mean"], ["1.5", "['version of numpy']"])
    patched = "import numpy as np\nmean_of_numpy = np.mean\nnp.mean = lambda x: mean_of_numpy(x)\n"
    assert project.ran(patched + inspect.cleandoc(code)) == []
    pretended = "from importlib import metadata\nversion = metadata.version\n"
    pretended += "metadata.version = lambda name: '99.9' if name == 'numpy' else version(name)\n"
    assert project.ran(pretended + inspect.cleandoc(code)) == ["mean"]
    assert project.ran(inspect.cleandoc(code)) == []


def test_an_editable_package_of_the_users_own_counts_by_code(project):
    package = project.directory / "src" / "mine"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("from .tools import tool\n")
    (package / "tools.py").write_text("def tool(x):\n    return x + 1\n")
    code = """
    sys.path.insert(0, "src")
    from counting import computed
    import mine
    @context.cache
    def use(x):
        computed("use")
        return mine.tool(x)
    print(use(1))
    """
    assert project.run(code) == (["use"], ["2"])
    assert project.run(code) == ([], ["2"])
    (package / "tools.py").write_text("def tool(x):\n    return x + 2\n")
    assert project.run(code) == (["use"], ["3"])


# Workers.


WORK = """
from counting import computed
import numpy as np

FACTOR = 3

def helper(x):
    return FACTOR * x

def work(context, x):
    return float(context.cache(slow)(np.full(1000, x)))

def slow(x):
    computed("slow")
    import time
    time.sleep(0.3)
    return helper(x).sum()
"""

LOKY = """
if __name__ == "__main__":
    import joblib, loky
    with loky.ProcessPoolExecutor(2) as executor:
        futures = [executor.submit(work, context, 2.0) for _ in range(4)]
        print([future.result() for future in futures])
    print(joblib.Parallel(2)(joblib.delayed(work)(context, 2.0) for _ in range(4)))
    print(work(context, 2.0))
"""

POOL = """
if __name__ == "__main__":
    import multiprocessing as mp
    for method in ("spawn", "forkserver", "fork"):
        with mp.get_context(method).Pool(2) as pool:
            print(pool.starmap(work, [(context, 2.0)] * 4, 1))
    print(work(context, 2.0))
"""

IPYPARALLEL = """
if __name__ == "__main__":
    warnings.simplefilter("default")
    import ipyparallel as ipp
    with ipp.Cluster(n=2, log_level=40) as client:
        context.ipy_view = client[:]
        client[:].use_cloudpickle()
        print(client[:].apply_sync(work, context, 2.0))
        print(list(client.load_balanced_view().map_sync(work, [context] * 4, [2.0] * 4)))
    print(work(context, 2.0))
"""

DASK = """
if __name__ == "__main__":
    warnings.simplefilter("default")
    from dask.distributed import Client, LocalCluster
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0", silence_logs=50) as cluster:
        with Client(cluster) as client:
            futures = [client.submit(work, context, 2.0, pure=False) for _ in range(4)]
            print(client.gather(futures))
    print(work(context, 2.0))
"""

SCRIPTS = {
    "loky": (["loky"], LOKY, ["[6000.0, 6000.0, 6000.0, 6000.0]"] * 2),
    "multiprocessing": ([], POOL, ["[6000.0, 6000.0, 6000.0, 6000.0]"] * 3),
    "ipyparallel": (
        ["ipyparallel", "cloudpickle"], IPYPARALLEL, ["[6000.0, 6000.0]", "[6000.0, 6000.0, 6000.0, 6000.0]"],
    ),
    "dask": (["distributed"], DASK, ["[6000.0, 6000.0, 6000.0, 6000.0]"]),
}  # fmt: skip


@pytest.mark.parametrize("transport", SCRIPTS)
def test_workers_that_are_sent_a_context_and_a_function_of_the_script_compute_once(project, transport):
    packages, script, said = SCRIPTS[transport]
    for package in packages:
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"needs {package}")
    code = inspect.cleandoc(WORK) + "\n" + inspect.cleandoc(script)
    ran, printed = project.run(code, timeout_s=100)
    assert ran == ["slow"]
    assert [line for line in printed if line.startswith(("[", "6"))] == [*said, "6000.0"]


def test_a_cached_function_of_the_script_travels_itself(project):
    code = """
    from counting import computed
    @context.cache(memcache=True)
    def both(x):
        computed("both")
        return x + 1
    @context.cache
    def disk(x):
        computed("disk")
        return x + 2
    if __name__ == "__main__":
        import joblib, loky
        with loky.ProcessPoolExecutor(2) as executor:
            print([executor.submit(f, 1).result() for f in (both, disk, both, disk)])
        print(both(1), disk(1))
    """
    ran, said = project.run(code)
    assert sorted(ran) == ["both", "disk"]
    assert said == ["[2, 3, 2, 3]", "2 3"]
