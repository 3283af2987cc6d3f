"""Search spaces: every drawn point passes the check, in trees of any shape; what does not belong is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from konspekt.core import Category, ConfigError, Integer, Real, Space

QUIET = settings(max_examples=100, deadline=None, database=None, derandomize=True)


@st.composite
def ranges(draw, made, whole):
    log = draw(st.booleans())
    number = st.integers if whole else st.floats
    low = draw(number(1 if whole and log else 1e-6 if log else -1000, 1000))
    high = draw(number(low, 1001))
    return made(low, high, log=log)


@st.composite
def spaces(draw, depth=2, prefix="p"):
    """A tree in which every name occurs once."""
    dimensions = {}
    for i in range(draw(st.integers(0 if depth < 2 else 1, 3))):
        name = f"{prefix}{i}"
        kind = draw(st.sampled_from(["real", "integer", "category", "tree", "nested"][: 5 if depth else 3]))
        if kind == "real":
            dimensions[name] = draw(ranges(Real, False))
        elif kind == "integer":
            dimensions[name] = draw(ranges(Integer, True))
        elif kind == "category":
            choices = draw(st.lists(st.sampled_from(["a", "b", 1, True, None, 2.5]), min_size=1, unique_by=repr))
            dimensions[name] = Category(tuple(choices))
        elif kind == "tree":
            branches = range(draw(st.integers(1, 3)))
            dimensions[name] = Category({f"c{b}": draw(spaces(depth - 1, f"{name}{'xyz'[b]}")) for b in branches})
        else:
            dimensions[name] = draw(spaces(depth - 1, f"{name}n"))
    return Space(dimensions)


@given(spaces(), st.integers(0, 2**32))
@QUIET
def test_every_drawn_point_passes_the_check_and_repeats_with_the_seed(space, seed):
    point = space.draw(np.random.default_rng(seed))
    space.check(point)
    assert space.draw(np.random.default_rng(seed)) == point
    assert space == Space(space.dimensions)
    assert isinstance(str(space), str)


@given(spaces(), st.integers(0, 2**32), st.data())
@QUIET
def test_a_point_with_a_name_missing_added_or_out_of_range_is_refused(space, seed, data):
    point = space.draw(np.random.default_rng(seed))
    if point:
        name = data.draw(st.sampled_from(sorted(point)))
        with pytest.raises(ConfigError, match=f"(lacks '{name}'|is not active)"):
            space.check({k: v for k, v in point.items() if k != name})
        with pytest.raises(ConfigError, match=f"{name} must be|is not active"):
            space.check(point | {name: object()})
    with pytest.raises(ConfigError, match="'stranger' is not active in this point"):
        space.check(point | {"stranger": 1})


TREE = Space(
    {
        "lr": Real(1e-4, 1e-1, log=True),
        "depth": Integer(1, 8),
        "kernel": Category({"linear": Space({}), "rbf": Space({"gamma": Real(1e-3, 1e1, log=True)})}),
        "net": Space({"width": Integer(1, 4)}),
    }
)


def test_branches_are_there_only_when_drawn():
    rng = np.random.default_rng(0)
    points = [TREE.draw(rng) for _ in range(200)]
    assert {p["kernel"] for p in points} == {"linear", "rbf"}
    for p in points:
        assert ("gamma" in p) == (p["kernel"] == "rbf")
        assert "net.width" in p
    assert len(TREE) == 4


def test_messages():
    good = {"lr": 0.01, "depth": 3, "kernel": "rbf", "gamma": 1.0, "net.width": 2}
    TREE.check(good)
    with pytest.raises(ConfigError, match="'gamma' is not active in this point"):
        TREE.check(good | {"kernel": "linear"})
    with pytest.raises(ConfigError, match=r"the point lacks 'gamma' \(real 0.001 to 10, log\)"):
        TREE.check({k: v for k, v in good.items() if k != "gamma"})
    with pytest.raises(ConfigError, match="depth must be integer 1 to 8, got 9"):
        TREE.check(good | {"depth": 9})
    with pytest.raises(ConfigError, match="depth must be integer 1 to 8, got True"):
        TREE.check(good | {"depth": True})
    with pytest.raises(ConfigError, match=r"lr must be real 0\.0001 to 0\.1, log, got nan"):
        TREE.check(good | {"lr": math.nan})
    with pytest.raises(ConfigError, match="kernel must be one of linear, rbf, got 'poly'"):
        TREE.check(good | {"kernel": "poly"})
    with pytest.raises(ConfigError, match=r"'gama' is not active in this point; did you mean 'gamma'\?"):
        TREE.check(good | {"gama": 1.0})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Real(1, 0), "Real: low must not be above high, got 1 and 0"),
        (lambda: Integer(5, 4), "Integer: low must not be above high, got 5 and 4"),
        (lambda: Integer(0, math.inf), "Integer: low must not be above high, got 0 and inf"),
        (lambda: Real(0, math.inf), "Real: low must not be above high, got 0 and inf"),
        (lambda: Real(math.nan, 1), "Real: low must not be above high, got nan and 1"),
        (lambda: Real(0, 1, log=True), "Real: a logarithmic range must start above 0, got 0"),
        (lambda: Integer(-1, 1, log=True), "Integer: a logarithmic range must start above 0, got -1"),
        (lambda: Category(()), "a Category needs at least one choice"),
        (lambda: Category({}), "a Category needs at least one choice"),
    ],
)
def test_what_is_no_dimension(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


def test_laws():
    rng = np.random.default_rng(1)
    real = [Real(2, 5).draw(rng) for _ in range(3000)]
    assert stats.kstest(real, stats.uniform(2, 3).cdf).pvalue > 1e-3
    logarithms = [math.log(Real(1e-4, 1e2, log=True).draw(rng)) for _ in range(3000)]
    assert stats.kstest(logarithms, stats.uniform(math.log(1e-4), math.log(1e6)).cdf).pvalue > 1e-3
    counts = np.bincount([Integer(0, 4).draw(rng) for _ in range(5000)], minlength=5)
    assert stats.chisquare(counts).pvalue > 1e-3
    counts = np.bincount([Integer(1, 7, log=True).draw(rng) for _ in range(8000)], minlength=8)[1:]
    law = np.diff(np.log(np.arange(1, 9))) / math.log(8)
    assert stats.chisquare(counts, law * 8000).pvalue > 1e-3
    counts = [sum(Category(("a", "b")).draw(rng) == c for _ in range(2000)) for c in ("a", "b")]
    assert min(counts) > 900


def test_types_of_what_is_drawn():
    rng = np.random.default_rng(0)
    assert type(Real(0, 1).draw(rng)) is float
    assert type(Integer(0, 1).draw(rng)) is int
    assert type(Integer(1, 9, log=True).draw(rng)) is int
    assert Category((True,)).draw(rng) is True
    assert not Category((True,)).holds(1)
    assert Real(0, 1).holds(1)
    assert not Real(0, 1).holds(True)


def test_printed_as_a_tree():
    assert str(TREE).splitlines() == [
        "lr: real 0.0001 to 0.1, log",
        "depth: integer 1 to 8",
        "kernel: one of linear, rbf",
        "  if rbf:",
        "    gamma: real 0.001 to 10, log",
        "net.width: integer 1 to 4",
    ]
    assert str(Space({})) == "(nothing to search)"
    assert repr(TREE) == str(TREE)


def test_equality():
    assert Space({"a": Real(0, 1)}) == Space({"a": Real(0, 1)})
    assert Space({"a": Real(0, 1)}) != Space({"a": Real(0, 2)})
    assert Space({}) != {}
    with pytest.raises(TypeError, match="unhashable"):
        hash(Space({}))
