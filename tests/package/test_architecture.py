"""The house is as DESIGN says: arrows point down, nothing lies about, nobody leaves the pool."""

import ast
import re
import subprocess
import tomllib

import pytest

NEEDED = {"pyproject.toml", "Cargo.toml", "Cargo.lock", "LICENSE", "README.md", "rust", "python", "tests"}
TOP = NEEDED | {"benches", "docs"}

# From the ground up; a package may import from the floors below its own, and from itself.
FLOORS = [
    {
        *("_core", "exceptions", "_checks", "_durable", "_npy", "_optional", "_progress", "_shared_memory", "_threads"),
        "_typing",
    },
    {"arrays", "records"},
    {"shared"},
    {"maps"},
    {"context"},
    {"select", "hdf5", "sweep", "mock", "testing"},
    {"cli"},
]
FLOOR = {name: floor for floor, names in enumerate(FLOORS) for name in names}

# Subclasses of joblib's, loaded when a Context caches first.
JOBLIBS = [("context", name) for name in ("backend", "disk", "memorized")]

# What each crate may stand on.
CRATES = {
    "megalith-core": set(),
    "megalith-kernels": {"megalith-core"},
    "megalith-files": {"megalith-core"},
    "megalith-shm": {"megalith-core", "megalith-files"},
    "megalith-python": {"megalith-core", "megalith-kernels", "megalith-files", "megalith-shm"},
}


def modules(root):
    """Every module of the package: its dotted name below megalith, and its file."""
    base = root / "python" / "megalith"
    for path in sorted(base.rglob("*.py")):
        parts = path.relative_to(base).with_suffix("").parts
        yield tuple(part for part in parts if part != "__init__"), path


def imported(tree, module):
    """Names below megalith that a module imports, relative imports resolved."""
    package = ("megalith", *module)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == "megalith":
                    yield alias.name.split(".")[1:]
        elif isinstance(node, ast.ImportFrom):
            base = (node.module or "").split(".") if node.module else []
            if node.level:
                base = [*package[: len(package) - node.level], *base]
            if base[:1] == ["megalith"]:
                for alias in node.names:
                    yield [*base[1:], alias.name]


def test_every_package_has_a_floor(root):
    found = {module[0] for module, _ in modules(root) if module}
    assert found <= set(FLOOR), f"say in FLOORS where {found - set(FLOOR)} stand"


def test_python_imports_between_packages_point_down(root):
    wrong = []
    for module, path in modules(root):
        if not module:
            continue
        for target in imported(ast.parse(path.read_text()), module):
            if module[0] == "cli":  # the roof stands on everything, and uses the top as a user does
                continue
            if not target:
                wrong.append(f"{path}: imports megalith itself")
            elif target[0] not in FLOOR:
                wrong.append(f"{path}: imports {'.'.join(target)} from the top, which is for users")
            elif target[0] != module[0] and FLOOR[target[0]] >= FLOOR[module[0]] > 0:
                wrong.append(f"{path}: {module[0]} imports {target[0]}, which is not below it")
    assert wrong == []


def test_the_ground_floor_imports_nothing_from_above(root):
    wrong = [
        f"{path}: {target}"
        for module, path in modules(root)
        if module and FLOOR[module[0]] == 0
        for target in imported(ast.parse(path.read_text()), module)
        if not target or FLOOR.get(target[0], 9) > 0
    ]
    assert wrong == []


def test_the_top_of_the_package_holds_imports_and_nothing_else(root):
    tree = ast.parse((root / "python" / "megalith" / "__init__.py").read_text())
    kinds = {type(node).__name__ for node in tree.body[1:]}
    assert kinds <= {"Import", "ImportFrom", "Assign"}
    assigned = {target.id for node in tree.body if isinstance(node, ast.Assign) for target in node.targets}
    assert assigned <= {"__all__", "__version__"}


def test_the_package_says_that_it_is_typed(root):
    assert (root / "python" / "megalith" / "py.typed").exists()
    assert (root / "python" / "megalith" / "_core.pyi").exists()


@pytest.mark.parametrize("crate", CRATES)
def test_each_crate_stands_on_those_below_it_only(root, crate):
    manifest = tomllib.loads((root / "rust" / crate / "Cargo.toml").read_text())
    tables = [manifest, *manifest.get("target", {}).values()]
    ours = {
        name
        for table in tables
        for kind in ("dependencies", "build-dependencies")
        for name in table.get(kind, {})
        if name.startswith("megalith")
    }
    assert ours <= CRATES[crate]


def test_there_are_no_crates_but_those(root):
    assert {path.parent.name for path in (root / "rust").glob("*/Cargo.toml")} == set(CRATES)


@pytest.mark.parametrize("crate", [name for name in CRATES if name != "megalith-python"])
def test_only_one_crate_knows_python(root, crate):
    manifest = tomllib.loads((root / "rust" / crate / "Cargo.toml").read_text())
    assert not {"pyo3", "numpy"} & set(manifest.get("dependencies", {}))


def test_core_and_kernels_know_no_files(root):
    for crate in ("megalith-core", "megalith-kernels"):
        for path in (root / "rust" / crate / "src").rglob("*.rs"):
            assert not re.search(r"\bstd::fs\b|\brustix::fs\b", path.read_text()), path


def test_no_parallel_iterator_outside_of_the_pool(root):
    stray = re.compile(
        r"\b(?:into_par_iter|par_iter(?:_mut)?|par_chunks\w*|par_sort\w*|par_bridge|par_extend)\b"
        r"|\brayon::(?:join|scope|spawn|broadcast)\b|\buse rayon\b"
    )
    pool = root / "rust" / "megalith-core" / "src" / "pool.rs"
    wrong = [
        f"{path}:{n}: {line.strip()}"
        for path in sorted((root / "rust").rglob("*.rs"))
        if path != pool and "target" not in path.parts
        for n, line in enumerate(path.read_text().splitlines(), 1)
        if stray.search(line.split("//")[0])
    ]
    assert wrong == []


def test_detach_happens_at_the_door_only(root):
    door = root / "rust" / "megalith-python" / "src" / "guard.rs"
    wrong = [
        path
        for path in (root / "rust" / "megalith-python").rglob("*.rs")
        if path != door and re.search(r"\bpy\.detach\(|\.allow_threads\(", path.read_text())
    ]
    assert wrong == []


def test_the_top_of_the_repository_holds_what_design_says_and_nothing_else(root):
    listed = subprocess.run(["git", "ls-files"], cwd=root, capture_output=True, text=True, check=False)
    if listed.returncode == 0 and listed.stdout:
        found = {line.split("/")[0] for line in listed.stdout.splitlines()}
    else:  # an unpacked source distribution
        found = {path.name for path in root.iterdir()} - {"target", "PKG-INFO"}
    assert {name for name in found if not name.startswith(".")} <= TOP
    assert found >= NEEDED


def test_library_code_does_not_print(root):
    # `finalize_processing` prints the time, and `Memory` what joblib's prints, when a `verbose` argument asks for it.
    wrong = [
        f"{path}:{node.lineno}"
        for module, path in modules(root)
        if module and module[0] not in ("cli", "shared") and path.name not in ("initialize.py", "memorized.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert wrong == []


def test_optional_packages_are_not_imported_at_the_top_of_a_module(root):
    heavy = {"joblib", "h5py", "dask", "ipyparallel", "xarray", "zarr", "scipy", "matplotlib", "tqdm", "ipywidgets"}
    wrong = []
    for module, path in modules(root):
        # Subclasses of joblib's are in modules that are themselves imported at first use.
        if module[:1] in (("testing",), ("cli",)) or module in JOBLIBS:
            continue
        for node in ast.parse(path.read_text()).body:
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names = [node.module]
            wrong += [f"{path}: {name}" for name in names if name.split(".")[0] in heavy]
    assert wrong == []
