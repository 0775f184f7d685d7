"""What the documentation shows runs, and every public function is documented."""

import doctest
import importlib
import inspect
import os
import re
import tomllib
from pathlib import Path

import numpy as np
import pytest
from numpydoc.validate import validate

import megalith
import megalith.context
import megalith.hdf5
import megalith.maps
import megalith.select
import megalith.sweep
import megalith.sweep.results
from megalith.testing.faults import run_python

PACKAGE = Path(megalith.__file__).parent
MODULES = sorted(
    ".".join(("megalith", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")
    for path in PACKAGE.rglob("*.py")
    if path.stem != "__main__"
)
PUBLIC = (
    megalith,
    megalith.arrays,
    megalith.context,
    megalith.hdf5,
    megalith.maps,
    megalith.mock,
    megalith.records,
    megalith.select,
    megalith.shared,
    megalith.sweep,
)
FUNCTIONS = {
    f"{module.__name__}.{name}": thing
    for module in PUBLIC
    for name in module.__all__
    for thing in [getattr(module, name)]
    if inspect.isfunction(thing)
}
CLASSES = {
    f"{module.__name__}.{name}": thing
    for module in PUBLIC
    for name in module.__all__
    for thing in [getattr(module, name)]
    if inspect.isclass(thing) and not issubclass(thing, BaseException)
}
# Made by `ParameterSpace.sweep`, and not by users.
CLASSES["megalith.sweep.results.Results"] = megalith.sweep.results.Results


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings_run(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module(name)
    with np.printoptions(threshold=1000):
        result = doctest.testmod(module, optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    assert result.failed == 0


def sections(thing):
    """Headings of a numpydoc docstring."""
    text = inspect.getdoc(thing) or ""
    return re.findall(r"^([A-Z][A-Za-z ]+)\n-{3,}$", text, flags=re.MULTILINE)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_public_function_documents_parameters_results_errors_and_shows_an_example(name):
    function = FUNCTIONS[name]
    never_fails = function.__name__ in ("finalize_processing", "valid_id")
    wanted = ["Examples"] if never_fails else ["Raises", "Examples"]
    if inspect.signature(function).parameters:
        wanted.insert(0, "Parameters")
    returns = str(inspect.signature(function).return_annotation)
    if returns not in ("None", "Iterator[None]", "Generator[None]") and not returns.startswith("Iterator"):
        wanted.insert(1, "Returns")
    found = sections(function)
    assert [section for section in wanted if section not in found] == []


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_parameter_of_a_public_function_is_documented(name):
    function = FUNCTIONS[name]
    text = inspect.getdoc(function)
    found = re.search(r"^Parameters\n-+\n(.*?)(?=^[A-Z][A-Za-z ]+\n-{3,}$|\Z)", text, flags=re.MULTILINE | re.DOTALL)
    listed = re.findall(r"^([*\w, ]+?)(?: :|$)", found.group(1) if found else "", flags=re.MULTILINE)
    documented = {part.strip(" *") for line in listed for part in line.split(",")}
    assert set(inspect.signature(function).parameters) <= documented


@pytest.mark.parametrize("name", CLASSES)
def test_every_public_class_and_its_methods_are_documented(name):
    cls = CLASSES[name]
    assert sections(cls)
    for method, thing in vars(cls).items():
        if not method.startswith("_") and (inspect.isfunction(thing) or isinstance(thing, property)):
            assert inspect.getdoc(thing), method


def members(name, cls):
    """Full names of the public methods and properties of a class."""
    kinds = (property, staticmethod, classmethod)
    inherited = np.ndarray if issubclass(cls, np.ndarray) else object  # documented by NumPy
    return [
        f"{name}.{member}"
        for member, thing in vars(cls).items()
        if not member.startswith("_") and not hasattr(inherited, member)
        if inspect.isfunction(thing) or isinstance(thing, kinds)
    ]


@pytest.mark.parametrize(
    "name", [*FUNCTIONS, *CLASSES, *(m for name, cls in CLASSES.items() for m in members(name, cls))]
)
def test_docstrings_have_the_form_that_numpydoc_wants(name, root):
    wanted = set(tomllib.loads((root / "pyproject.toml").read_text())["tool"]["numpydoc_validation"]["checks"])
    if name == "megalith.threads":  # a context manager: what it yields is nothing
        wanted.remove("YD01")
    if issubclass(CLASSES.get(name, object), np.ndarray):  # its arguments are ndarray's, and nobody calls it
        wanted.remove("PR01")
    found = [f"{code} {text}" for code, text in validate(name)["errors"] if code in wanted]
    assert found == []


def test_every_public_name_is_there_and_listed_in_order():
    for module in PUBLIC:
        assert all(hasattr(module, name) for name in module.__all__)
        assert len(set(module.__all__)) == len(module.__all__)


def test_every_function_of_arrays_is_at_the_top_too():
    functions = {name for name in megalith.arrays.__all__ if inspect.isfunction(getattr(megalith.arrays, name))}
    public = {
        "where", "apply_lut", "apply_lut_to_index", "correlate1d", "block_ranges", "block_sums", "block_counts",
        "neighbours", "index_neighbours", "read", "write", "initialize_processing", "finalize_processing",
        "initialize_source", "initialize_sink",
    }  # fmt: skip
    assert public <= functions & set(megalith.__all__)


def blocks_of(text, language):
    """Fenced code of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


def test_python_code_in_the_readme_runs(root, tmp_path):
    code = blocks_of((root / "README.md").read_text(), "python")
    assert code
    script = "\n".join(code)
    child = run_python(f"import os\nos.chdir({str(tmp_path)!r})\n" + script, tmp_path / "code", timeout_s=110)
    child.check()


def test_the_readme_names_every_public_function(root):
    text = (root / "README.md").read_text()
    names = {name.split(".")[-1] for name in FUNCTIONS} - {"initialize_processing", "finalize_processing"}
    assert sorted(name for name in names if name not in text) == []


def test_links_and_pictures_of_the_readme_exist(root):
    text = (root / "README.md").read_text()
    targets = re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", text) + re.findall(r'src="([^"]+)"', text)
    missing = [target for target in targets if "://" not in target and not os.path.exists(root / target)]  # noqa: PTH110
    assert missing == []
