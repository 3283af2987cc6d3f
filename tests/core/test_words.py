"""Words that may stand in the place of a number or a bool: lr="find", compile="auto"."""

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import pytest

from konspekt.cli.app import main
from konspekt.core import ConfigError, Real
from konspekt.core.params import AtLeast, MoreThan, Search, check_params, describe, params_of, parse_params, space_of
from konspekt.core.runs import read_config


@dataclass(kw_only=True, eq=False, repr=False)
class Learner:
    """A learner.

    lr: the step.
    compile: whether to compile.
    depth: how deep.
    """

    lr: Annotated[float | Literal["find"], MoreThan(0), Search(1e-4, 1e-1, log=True)] = 1e-3
    compile: bool | Literal["auto"] = "auto"
    depth: Annotated[int | Literal["shallow", "deep"] | None, AtLeast(1)] = None


KNOWN = params_of(Learner)


@pytest.mark.parametrize(
    ("name", "rule", "words"),
    [
        ("lr", "more than 0, or 'find'", ("find",)),
        ("compile", "True or False, or 'auto'", ("auto",)),
        ("depth", "an integer at least 1, or 'shallow', or 'deep', or None", ("shallow", "deep")),
    ],
)
def test_the_rule_names_them(name, rule, words):
    assert KNOWN[name].rule == rule
    assert KNOWN[name].words == words
    assert {r["name"]: r["rule"] for r in describe(Learner)}[name] == rule


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("lr", "find", "find"),
        ("lr", "0.5", 0.5),
        ("lr", "1e-3", 1e-3),
        ("compile", "auto", "auto"),
        ("compile", "yes", True),
        ("compile", "False", False),
        ("depth", "3", 3),
        ("depth", "deep", "deep"),
        ("depth", "none", None),
    ],
)
def test_text_from_the_command_line(name, text, value):
    found = KNOWN[name].parse("Learner", text)
    assert found == value
    assert type(found) is type(value)
    assert parse_params(Learner, {name: text}) == {name: value}


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("lr", "seek", "Learner: lr must be more than 0, or 'find', got 'seek'"),
        ("lr", "Find", "Learner: lr must be more than 0, or 'find', got 'Find'"),
        ("lr", 0.0, "Learner: lr must be more than 0, or 'find', got 0.0"),
        ("lr", None, "Learner: lr must be more than 0, or 'find', got None"),
        ("lr", True, "Learner: lr must be more than 0, or 'find', got True"),
        ("compile", "on", "Learner: compile must be True or False, or 'auto', got 'on'"),
        ("compile", 1, "Learner: compile must be True or False, or 'auto', got 1"),
        ("depth", "0", "Learner: depth must be an integer at least 1, or 'shallow', or 'deep', or None, got '0'"),
        ("depth", 2.5, "Learner: depth must be an integer at least 1, or 'shallow', or 'deep', or None, got 2.5"),
    ],
    ids=str,
)
def test_what_does_not_fit(name, value, message):
    with pytest.raises(ConfigError) as error:
        check_params(Learner(**{name: value}))
    assert str(error.value) == message
    if isinstance(value, str):
        with pytest.raises(ConfigError, match=f"Learner: {name} must be"):
            parse_params(Learner, {name: value})


@pytest.mark.parametrize("value", ["find", 0.1, 1, np.float32(0.5), np.int64(2)])
def test_what_fits(value):
    check_params(Learner(lr=value))


def test_from_a_file_words_stay_words_and_integers_become_floats():
    assert parse_params(Learner, {"lr": 1, "compile": True, "depth": "deep"}) == {
        "lr": 1.0,
        "compile": True,
        "depth": "deep",
    }
    assert type(parse_params(Learner, {"lr": 1})["lr"]) is float


def test_a_search_looks_among_numbers():
    found = space_of(Learner)
    assert set(found.dimensions) == {"lr"}
    assert found.dimensions["lr"] == Real(1e-4, 1e-1, log=True)


class TestCommand:
    @pytest.fixture
    def run(self, capsys, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("COLUMNS", "400")

        def call(*arguments):
            with pytest.raises(SystemExit) as stop:
                main([*arguments])
            captured = capsys.readouterr()
            return stop.value.code, captured.out, captured.err

        return call

    def test_they_reach_the_run(self, run, tmp_path):
        pairs = ["data=iris", "epochs=1", "hidden=4", "lr=find", "compile=auto", "run_dir=run"]
        code, out, err = run("fit", "mlp-classifier", *pairs)
        assert (code, err) == (0, "")
        params = read_config(tmp_path / "run")["params"]
        assert (params["lr"], params["compile"]) == ("find", "auto")
        assert "learning rate found: " in out
        code, _, err = run("resume", "run", "epochs=2")
        assert (code, err) == (0, "")

    @pytest.mark.parametrize(
        ("pair", "message"),
        [
            ("lr=seek", "MLPClassifier: lr must be more than 0, or 'find', got 'seek'"),
            ("compile=perhaps", "MLPClassifier: compile must be True or False, or 'auto', got 'perhaps'"),
        ],
    )
    def test_a_wrong_word_is_wrong_usage(self, run, pair, message):
        code, _, err = run("fit", "mlp-classifier", "data=iris", pair)
        assert code == 2
        assert message in " ".join(err.split())

    def test_info_shows_them(self, run):
        code, out, _ = run("info", "mlp-classifier")
        assert code == 0
        assert "more than 0, or 'find'" in " ".join(out.split())
