"""The tree of errors, and the clause that suggests a name."""

from __future__ import annotations

import pytest

from konspekt.core import errors
from konspekt.core.errors import KonspektError, nearest

BUILT_IN = {
    "DataError": ValueError,
    "ConfigError": ValueError,
    "ResourceError": ValueError,
    "DivergedError": ArithmeticError,
    "InterruptedFit": KeyboardInterrupt,
}


@pytest.mark.parametrize(("name", "built_in"), BUILT_IN.items())
def test_each_is_ours_and_a_built_in_one(name, built_in):
    cls = getattr(errors, name)
    with pytest.raises(KonspektError if issubclass(cls, Exception) else cls, match="what happened"):
        raise cls("what happened")
    with pytest.raises(built_in, match="what happened"):
        raise cls("what happened")


def test_the_tree_is_complete_and_drawn():
    own = {c.__name__ for c in KonspektError.__subclasses__() if c.__module__ == errors.__name__}
    assert own | {"InterruptedFit"} == set(BUILT_IN)
    for name, built_in in BUILT_IN.items():
        assert f"{name} ({built_in.__name__})" in errors.__doc__
    assert errors.__all__ == sorted([*BUILT_IN, "KonspektError", "nearest"])


def test_ctrl_c_is_not_caught_as_an_ordinary_error_would_be():
    assert not issubclass(errors.DataError, KeyboardInterrupt)
    assert not issubclass(errors.InterruptedFit, Exception)


@pytest.mark.parametrize(
    ("name", "names", "clause"),
    [
        ("admw", ["adam", "adamw", "sgd"], "did you mean 'adamw'?"),
        ("ADAM", ["adam", "sgd"], "did you mean 'adam'?"),
        ("zzz", ["sgd", "adam"], "known: adam, sgd"),
        ("zzz", [f"name{i}" for i in range(12)], "known: " + ", ".join(sorted(f"name{i}" for i in range(12)))),
        ("zzz", [f"name{i}" for i in range(13)], "there are 13; see `konspekt list`"),
        ("zzz", [], "known: "),
    ],
)
def test_nearest(name, names, clause):
    assert nearest(name, names) == clause


def test_nearest_takes_any_iterable_and_leaves_a_list_alone():
    names = ["b", "a"]
    assert nearest("q", iter(names)) == "known: a, b"
    assert names == ["b", "a"]
