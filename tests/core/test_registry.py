"""The registry reads files, imports nothing, and speaks to whoever mistypes."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import importlib.util
import subprocess
import sys
from dataclasses import dataclass
from typing import ClassVar

import pytest

from konspekt.core import ConfigError, entries, lookup, registry, system
from konspekt.core.registry import KINDS, TASKS

OURS = [e for e in entries() if e.module.startswith(("konspekt.nn", "konspekt.optim"))]
fresh = entries.__wrapped__  # the function under the cache


def package(folder, name, **files):
    place = folder / name
    place.mkdir()
    for file, text in files.items():
        (place / f"{file}.py").write_text(text)
    return name, place


def only(monkeypatch, *packages):
    monkeypatch.setattr(registry, "_packages", lambda: iter(packages))


GOOD = '''raise RuntimeError("imported")

@system(name="thing", kind="loss", rows=("A1", "A2"), paper="Someone 1999", waive={"resume": "why"})
@other
class Thing:
    """First
    line.

    More.
    """

@system(name="act", kind="tool")
def act(): pass
'''


def test_entries_are_read_from_the_text(tmp_path, monkeypatch):
    only(monkeypatch, package(tmp_path, "pack", good=GOOD, __init__='@system(name="x", kind="loss")\ndef f(): pass'))
    thing, act = fresh()
    assert thing == registry.Entry(
        name="thing",
        kind="loss",
        module="pack.good",
        qualname="Thing",
        rows=("A1", "A2"),
        paper="Someone 1999",
        waive={"resume": "why"},
        summary="First line.",
    )
    assert (act.name, act.summary, act.task) == ("act", "", None)


def test_a_packages_own_file_and_sub_packages(tmp_path, monkeypatch):
    name, place = package(tmp_path, "pack", __init__='\n@system(name="x", kind="loss")\ndef f(): pass\n')
    package(place, "deep", file='\n@system(name="y", kind="loss")\ndef g(): pass\n')
    single = tmp_path / "single.py"
    single.write_text('\n@system(name="z", kind="loss")\ndef h(): pass\n')
    only(monkeypatch, (name, place), ("single", single))
    assert [(e.name, e.module) for e in fresh()] == [("x", "pack"), ("y", "pack.deep.file"), ("z", "single")]


def test_two_of_a_kind_with_one_name_are_refused_and_of_two_kinds_are_not(tmp_path, monkeypatch):
    text = '\n@system(name="same", kind="{}")\ndef f(): pass\n'
    only(monkeypatch, package(tmp_path, "pack", a=text.format("loss"), b=text.format("metric")))
    assert len(fresh()) == 2
    only(monkeypatch, package(tmp_path, "pack2", a=text.format("loss"), b=text.format("loss")))
    with pytest.raises(ConfigError, match=r"named 'same': in pack2\.a and in pack2\.b"):
        fresh()


def test_order_is_by_kind_then_name():
    keys = [(KINDS.index(e.kind), e.name) for e in entries()]
    assert keys == sorted(keys)
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize("entry", OURS, ids=lambda e: f"{e.kind}:{e.name}")
def test_what_the_text_says_is_what_the_object_says(entry):
    made = entry.load()
    assert made.__konspekt__ == entry
    assert made.__module__ == entry.module
    assert entry.rows
    assert entry.summary


def test_rows_of_the_course_are_covered():
    assert {row for e in OURS for row in e.rows} == {"A5", "A6", "A7", "A8", "A11", "A12", "D1"}


def test_lookup():
    assert lookup("optimizer", "adam").qualname == "adam"
    assert lookup(None, "leaky-relu").kind == "activation"
    with pytest.raises(ConfigError, match=r"'admw' is not a registered optimizer; did you mean 'adamw'\?"):
        lookup("optimizer", "admw")
    with pytest.raises(ConfigError, match=r"'relu' is not a registered optimizer; "):
        lookup("optimizer", "relu")
    with pytest.raises(ConfigError, match=r"'adamm' is not registered; did you mean 'adam'\?"):
        lookup(None, "adamm")


def test_the_questions_import_neither_torch_nor_a_system():
    code = (
        "import sys\n"
        "from konspekt.core import entries, lookup\n"
        "assert len(entries()) > 30, len(entries())\n"
        "assert lookup('optimizer', 'adam').name == 'adam'\n"
        "heavy = {'torch', 'numpy', 'pandas', 'sklearn'} & set(sys.modules)\n"
        "ours = [m for m in sys.modules if m.startswith('konspekt.') and not m.startswith('konspekt.core')]\n"
        "print(sorted(heavy), ours)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[] []"


class TestSystem:
    def test_marks_and_hands_back(self):
        def f():
            """One.

            Two.
            """

        marked = system(name="f", kind="tool", rows=("A1",))(f)
        assert marked is f
        assert f.__konspekt__.summary == "One."
        assert f.__konspekt__.qualname.endswith("f")

    def test_unknown_kind_and_task(self):
        with pytest.raises(TypeError, match=r"@system\(name='f'\) on .*kind 'tol' is not one of estimator, net"):
            system(name="f", kind="tol")(lambda: None)
        with pytest.raises(TypeError, match=f"task 'flying' is not one of {', '.join(TASKS)}"):
            system(name="f", kind="tool", task="flying")(lambda: None)

    def test_an_estimator_is_a_dataclass(self):
        class Plain:
            pass

        with pytest.raises(TypeError, match=r"on .*Plain: an estimator is a dataclass; put @dataclass"):
            system(name="plain", kind="estimator")(Plain)

    def test_annotations_that_are_no_fields(self):
        @dataclass(kw_only=True, eq=False, repr=False)
        class Stray:
            good: int = 1
            second: ClassVar[int] = 2
            first: ClassVar[int] = 2

        with pytest.raises(TypeError, match="Stray: annotations that are no fields: first, second"):
            system(name="stray", kind="estimator")(Stray)

        @dataclass
        class Base:
            x: int = 1

        class Child(Base):  # the decorator forgotten: its annotations are no fields
            y: int = 2

        with pytest.raises(TypeError, match="Child: annotations that are no fields: y"):
            system(name="child", kind="estimator")(Child)

    def test_a_proper_estimator(self):
        @dataclass(kw_only=True, eq=False, repr=False)
        class Proper:
            """Does things."""

            x: int = 1

        assert system(name="proper", kind="estimator", task=TASKS[0])(Proper) is Proper
        assert Proper.__konspekt__.task == TASKS[0]
        assert dataclasses.fields(Proper)[0].name == "x"


class TestPackagesFromOutside:
    def test_an_entry_point_is_read(self, tmp_path, monkeypatch):
        package(tmp_path, "outsider", __init__="", good=GOOD)
        monkeypatch.syspath_prepend(tmp_path)
        point = importlib.metadata.EntryPoint("mine", "outsider", registry.GROUP)
        monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [point])
        found = {(e.kind, e.name): e.module for e in fresh()}
        assert found[("loss", "thing")] == "outsider.good"
        assert ("optimizer", "adam") in found
        assert "outsider" not in sys.modules

    def test_one_that_is_not_installed_is_named(self, monkeypatch):
        point = importlib.metadata.EntryPoint("mine", "no_such_package_at_all", registry.GROUP)
        monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [point])
        with pytest.raises(ConfigError, match=r"konspekt\.systems:mine names 'no_such_package_at_all', which is not"):
            fresh()


class TestMissingExtra:
    def test_it_is_named_with_the_command_that_installs_it(self, monkeypatch):
        entry = registry.Entry("thing", "agent", "konspekt_absent", "Thing")

        def import_module(name):
            raise ModuleNotFoundError("No module named 'gymnasium.spaces'", name="gymnasium.spaces")

        monkeypatch.setattr(registry.importlib, "import_module", import_module)
        with pytest.raises(ConfigError, match=r"thing needs gymnasium.spaces.*pip install 'konspekt\[rl\]'"):
            entry.load()

    def test_of_any_other_package_python_speaks(self, monkeypatch):
        entry = registry.Entry("thing", "agent", "konspekt_absent", "Thing")
        with pytest.raises(ModuleNotFoundError):
            entry.load()
