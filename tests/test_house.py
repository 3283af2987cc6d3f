"""The rules of the house, as tests over all files: nothing here names a system."""

import ast
import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
import types
from pathlib import Path

import pytest

import konspekt

ROOT = Path(konspekt.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
MODULES = sorted(
    m.name for m in pkgutil.walk_packages(konspekt.__path__, "konspekt.") if not m.name.endswith("__main__")
)


def trees():
    return [(path.relative_to(ROOT), ast.parse(path.read_text(encoding="utf-8"))) for path in FILES]


def test_all_modules_import_and_no_export_has_become_a_module():
    loaded = [importlib.import_module(name) for name in MODULES]
    for module in [konspekt, *loaded]:
        for name in getattr(module, "__all__", ()):
            assert not isinstance(getattr(module, name), types.ModuleType), f"{module.__name__}.{name} is a module"


@pytest.mark.parametrize("name", MODULES)
def test_all_is_sorted_complete_and_true(name):
    module = importlib.import_module(name)
    public = getattr(module, "__all__", None)
    if public is None:
        defined = [n for n, v in vars(module).items() if getattr(v, "__module__", None) == name and n[0] != "_"]
        assert not defined, f"{name} defines {defined} and has no __all__"
        return
    assert len(set(public)) == len(public)
    assert list(public) == sorted(public, key=lambda n: (not n.isupper(), not n[0].isupper(), n)) or list(
        public
    ) == sorted(public), f"{name}.__all__ is not sorted"
    assert all(hasattr(module, n) for n in public)


def test_backward_stands_in_one_file():
    found = {
        str(path)
        for path, tree in trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(".backward")
    }
    assert found == {"engine/loop.py"}


def test_nothing_reads_or_writes_pickle_or_executes_text():
    modules = {"pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve"}
    calls = {"torch.load", "torch.save", "joblib.load", "joblib.dump", "eval", "exec", "yaml.load", "os.system"}
    for path, tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                names = {a.name.split(".")[0] for a in node.names} | {(getattr(node, "module", "") or "").split(".")[0]}
                assert not names & modules, path
            if isinstance(node, ast.Call):
                assert ast.unparse(node.func) not in calls, path


def test_no_array_is_loaded_with_objects():
    for path, tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("np.load", "numpy.load"):
                given = {k.arg: ast.unparse(k.value) for k in node.keywords}
                assert given.get("allow_pickle") == "False", path


def test_what_is_public_has_a_docstring():
    for name in MODULES:
        module = importlib.import_module(name)
        assert module.__doc__ or Path(str(module.__file__)).stat().st_size == 0, f"{name} does not say what it is"
        for public in getattr(module, "__all__", ()):
            thing = getattr(module, public)
            if getattr(thing, "__module__", None) != name or not (inspect.isclass(thing) or inspect.isfunction(thing)):
                continue
            assert inspect.getdoc(thing), f"{name}.{public}"
            for method, value in vars(thing).items() if inspect.isclass(thing) else ():
                if inspect.isfunction(value) and not method.startswith("_"):
                    assert inspect.getdoc(getattr(thing, method)), f"{name}.{public}.{method}"


def test_files_of_nets_name_their_source():
    for path in (ROOT / "vision" / "nets").glob("[a-z]*.py"):
        doc = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        assert re.search(r"https?://|\b(19|20)\d\d\b", doc), f"{path.name} names no paper"


def test_errors_stand_in_one_short_file():
    assert len((ROOT / "core" / "errors.py").read_text().splitlines()) < 60


def loaded_by(statement):
    code = f"import sys; {statement}; print(*sys.modules)"
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())


def test_import_is_lazy():
    heavy = {"torch", "pandas", "sklearn", "numpy", "matplotlib", "scipy"}
    assert not loaded_by("import konspekt") & heavy
    assert not loaded_by("import konspekt.cli.app") & heavy
    listing = "import contextlib, io; from konspekt.core import entries; entries()"
    assert not loaded_by(listing) & heavy
