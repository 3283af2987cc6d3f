"""The scripts of reproductions/: each says what it reproduces, from where, and at which settings; and how their page is kept."""

import ast
import importlib.util
import re
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "reproductions"
SCRIPTS = sorted(p for p in FOLDER.glob("*.py") if p.name != "common.py")


@pytest.fixture
def common(monkeypatch, tmp_path):
    spec = importlib.util.spec_from_file_location("common", FOLDER / "common.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "common", module)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "RESULTS", tmp_path / "RESULTS.md")
    return module


def test_there_are_some():
    assert len(SCRIPTS) >= 6


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda p: p.stem)
class TestEach:
    def test_it_names_its_source(self, script):
        text = ast.get_docstring(ast.parse(script.read_text()))
        assert re.search(r"\b(19|20)\d\d\b", text), "no year"
        assert "https://" in text or "section" in text

    def test_it_has_a_short_and_a_full_setting(self, script):
        found = [
            node.value
            for node in ast.parse(script.read_text()).body
            if isinstance(node, ast.Assign) and node.targets[0].id == "SETTINGS"
        ]
        assert set(ast.literal_eval(found[0])) == {"short", "full"}

    def test_the_list_names_it(self, script):
        assert f"`{script.name}`" in (FOLDER / "README.md").read_text()


def study(common, monkeypatch, *arguments, script="some.py"):
    monkeypatch.setattr(sys, "argv", [script, *arguments])
    return common.Study(script, "What it is. A paper 1999.", {"short": "few", "full": "all"}, seeds=2)


def test_help(common, monkeypatch, capsys):
    with pytest.raises(SystemExit):
        study(common, monkeypatch, "--help")
    out = capsys.readouterr().out
    for said in ("A paper 1999.", "--data", "--setting {tiny,short,full}", "short: few; full: all", "--seeds"):
        assert said in " ".join(out.split())


class TestPage:
    def test_rows_and_text(self, common, monkeypatch):
        one = study(common, monkeypatch)
        one.found("a net", "some data", "1 %", "2 %")
        one.say("what was printed")
        one.finish()
        text = common.RESULTS.read_text()
        row = next(line for line in text.splitlines() if line.startswith("| `some.py`"))
        assert row.startswith("| `some.py` | a net | some data | 1 % | 2 % | short: few, seeds: 2 | ")
        assert "## `some.py`" in text
        assert "what was printed" in text

    def test_a_run_replaces_its_own_lines_and_no_others(self, common, monkeypatch):
        for script, setting, value in (("a.py", "short", "1"), ("b.py", "short", "2"), ("a.py", "full", "3")):
            one = study(common, monkeypatch, "--setting", setting, script=script)
            one.found("net", "data", "paper", f"value {value}")
            one.finish()
        again = study(common, monkeypatch, script="a.py")
        again.found("net", "data", "paper", "value 4")
        again.finish()
        text = common.RESULTS.read_text()
        found = re.findall(r"^\| `(.+?)` .*value (\d)", text, flags=re.MULTILINE)
        assert found == [("a.py --setting full", "3"), ("a.py", "4"), ("b.py", "2")]
        assert re.findall(r"^## `(.+)`", text, flags=re.MULTILINE) == ["a.py", "a.py --setting full", "b.py"]

    def test_a_part_that_is_run_again_replaces_its_own_lines(self, common, monkeypatch):
        def run(value, *arguments):
            monkeypatch.setattr(sys, "argv", ["a.py", *arguments])
            one = common.Study("a.py", "What it is.", {"short": "few"}, seeds=2, parts=["net", "a tree", "data"])
            for system in ("net", "a tree"):
                if one.wants(system, "data"):
                    one.found(system, "data", "paper", f"value {value}")
            one.finish()
            text = common.RESULTS.read_text()
            found = re.findall(r"^\| `(.+?)` \| (.+?) \| .*value (\d)", text, flags=re.MULTILINE)
            return found, re.findall(r"^## `(.+)`", text, flags=re.MULTILINE)

        run(1)
        part = "a.py --only 'a tree'"
        assert run(2, "--only", "a tree") == ([(part, "a tree", "2"), ("a.py", "net", "1")], ["a.py", part])
        assert run(3, "--only", "net")[0] == [(part, "a tree", "2"), ("a.py --only net", "net", "3")]
        assert run(4, "--only", "data")[1] == ["a.py --only data"]
        assert run(5) == ([("a.py", "a tree", "5"), ("a.py", "net", "5")], ["a.py"])

    def test_a_part_that_there_is_not(self, common, monkeypatch, capsys):
        monkeypatch.setattr(sys, "argv", ["a.py", "--only", "forest"])
        with pytest.raises(SystemExit):
            common.Study("a.py", "What it is.", {"short": "few"}, parts=["net"])
        assert "--only takes 'net'; got 'forest'" in capsys.readouterr().err

    def test_a_tiny_run_is_not_recorded(self, common, monkeypatch):
        one = study(common, monkeypatch, "--setting", "tiny")
        one.found("net", "data", "paper", "value")
        one.finish()
        assert not common.RESULTS.exists()
        assert len(one.range) == 1

    def test_missing_data(self, common, monkeypatch, tmp_path):
        one = study(common, monkeypatch, "--data", str(tmp_path))
        with pytest.raises(SystemExit, match=f"{tmp_path} holds no folder mnist"):
            common.mnist(one)


def test_of_seeds(common):
    assert common.of_seeds([1.0]) == "1.00"
    assert common.of_seeds([1.0, 3.0], ".1f", " %") == "2.0 +- 1.4 %"  # of a sample: sqrt(2)


def test_some_items_are_in_order_and_drawn_by_the_seed(common):
    import numpy as np

    X, y = np.arange(100), np.arange(100) * 2
    (few, labels), (other, _) = common.some(X, y, 10, 0), common.some(X, y, 10, 1)
    assert len(few) == 10
    assert (np.diff(few) > 0).all()
    assert (labels == 2 * few).all()
    assert (few != other).any()
    assert common.some(X, y, 100, 0)[0] is X
