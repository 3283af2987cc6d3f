"""Parameters: the rule and its message, text from the command line, named things with arguments, the search space."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from konspekt.core import Category, ConfigError, Integer, Real, Space
from konspekt.core.params import (
    AtLeast,
    LessThan,
    MoreThan,
    Registered,
    Search,
    Within,
    build,
    check_params,
    describe,
    params_of,
    parse_params,
    space_of,
    split_call,
)

QUIET = settings(max_examples=100, deadline=None, database=None, derandomize=True)


@dataclass(kw_only=True, eq=False, repr=False)
class Base:
    """A base.

    lr: the step,
        also of the bias.
    """

    lr: Annotated[float, MoreThan(0), Search(1e-4, 1e-1, log=True)] = 1e-3
    seed: int | None = None


@dataclass(kw_only=True, eq=False, repr=False)
class Learner(Base):
    """A learner.

    depth: how deep.
    norm: which norm.
    """

    depth: Annotated[int, AtLeast(1), Search(1, 8)] = 1
    share: Annotated[float, AtLeast(0), LessThan(1)] | None = None
    momentum: Annotated[float, Within(0, 1), Search(choices=(0.0, 0.9))] = 0.9
    norm: Annotated[Literal["none", "batch", "layer"], Search()] = "none"
    bias: Annotated[bool, Search()] = True
    sizes: tuple[Annotated[int, AtLeast(1)], ...] = (64,)
    anything: Any = None
    types: Mapping[str, str] = field(default_factory=dict)
    act: Annotated[str, Registered("activation")] = "relu"
    acts: tuple[Annotated[str, Registered("activation")], ...] = ()
    name: str = "x"
    mixed: int | float = 1
    level: Literal[1, 2] | None = 1


def check(**values):
    check_params(Learner(**values))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"lr": 0}, "Learner: lr must be more than 0, got 0$"),
        ({"lr": -1.5}, r"Learner: lr must be more than 0, got -1\.5$"),
        ({"lr": math.nan}, "Learner: lr must be more than 0, got nan$"),
        ({"lr": math.inf}, "Learner: lr must be more than 0, got inf$"),
        ({"lr": "0.1"}, r"Learner: lr must be more than 0, got '0\.1'$"),
        ({"lr": None}, "Learner: lr must be more than 0, got None$"),
        ({"lr": True}, "Learner: lr must be more than 0, got True$"),
        ({"depth": 0}, "Learner: depth must be an integer at least 1, got 0$"),
        ({"depth": 1.0}, r"Learner: depth must be an integer at least 1, got 1\.0$"),
        ({"depth": True}, "Learner: depth must be an integer at least 1, got True$"),
        ({"seed": 1.5}, r"Learner: seed must be an integer, or None, got 1\.5$"),
        ({"share": 1}, "Learner: share must be at least 0 and less than 1, or None, got 1$"),
        ({"momentum": 1.1}, r"Learner: momentum must be from 0 to 1, got 1\.1$"),
        ({"norm": "bach"}, r"norm must be one of 'none', 'batch', 'layer', got 'bach' \(did you mean 'batch'\?\)"),
        ({"norm": 3}, "norm must be one of 'none', 'batch', 'layer', got 3$"),
        ({"bias": 1}, "Learner: bias must be True or False, got 1$"),
        ({"sizes": [64]}, r"sizes must be a tuple whose items are each an integer at least 1, got \[64\]"),
        ({"sizes": (64, 0)}, r"sizes must be a tuple whose items are each an integer at least 1, got \(64, 0\)"),
        ({"types": 3}, "Learner: types must be a mapping, got 3$"),
        ({"act": "rellu"}, r"Learner: act 'rellu' is not a registered activation; did you mean 'relu'\?"),
        ({"act": 3}, "Learner: act must be the name of a registered activation, got 3$"),
        ({"act": "leaky-relu(slope=2)"}, "Learner: act='leaky-relu': slope must be from 0 to 1, got 2$"),
        ({"act": "leaky-relu(slop=0.2)"}, r"act='leaky-relu' has no argument 'slop'; did you mean 'slope'\?"),
        ({"act": "relu(a=1)"}, "Learner: act='relu' has no argument 'a'; it takes none$"),
        ({"act": "relu(1)"}, r"act must be a name or a call such as 'name\(key=1\)', got 'relu\(1\)'"),
        ({"acts": ("tanh", "rellu")}, "Learner: acts 'rellu' is not a registered activation"),
        ({"name": 5}, "Learner: name must be a string, got 5$"),
        ({"level": 3}, "Learner: level must be one of 1, 2, or None, got 3$"),
        ({"level": True}, "Learner: level must be one of 1, 2, or None, got True$"),
    ],
)
def test_who_what_rule_and_value(values, message):
    with pytest.raises(ConfigError, match=message):
        check(**values)


def test_what_fits():
    check()
    check(lr=1, depth=np.int64(3), share=np.float32(0.5), seed=None, sizes=(), types={"a": "number"}, anything=object())
    check(act="leaky-relu(slope=0.2)", acts=("relu", "softmax(temperature=2.0)"), mixed=2, level=None, norm="layer")
    check(mixed=0.5, share=0.0, momentum=1.0)


@given(st.floats(), st.floats(-10, 10), st.floats(0, 5))
@QUIET
def test_bounds_hold_as_their_words_say(value, low, width):
    assert AtLeast(low).holds(value) == (value >= low)
    assert MoreThan(low).holds(value) == (value > low)
    assert LessThan(low).holds(value) == (value < low)
    assert Within(low, low + width).holds(value) == (low <= value <= low + width)
    assert str(Within(0, 0.5)) == "from 0 to 0.5"


class TestText:
    @pytest.mark.parametrize(
        ("name", "text", "value"),
        [
            ("lr", "1e-2", 0.01),
            ("depth", "3", 3),
            ("seed", "none", None),
            ("seed", "null", None),
            ("share", "0.25", 0.25),
            ("norm", "batch", "batch"),
            ("norm", "none", "none"),
            ("bias", "False", False),
            ("bias", "yes", True),
            ("bias", "0", False),
            ("sizes", "64,32", (64, 32)),
            ("sizes", "(64, 32)", (64, 32)),
            ("sizes", "64", (64,)),
            ("sizes", "", ()),
            ("types", "zip:category,age:number", {"zip": "category", "age": "number"}),
            ("types", "a:b:number", {"a:b": "number"}),
            ("act", "leaky-relu(slope=0.2)", "leaky-relu(slope=0.2)"),
            ("acts", "relu,leaky-relu(slope=0.2),tanh", ("relu", "leaky-relu(slope=0.2)", "tanh")),
            ("acts", "leaky-relu(slope=0.2)", ("leaky-relu(slope=0.2)",)),
            ("acts", "(tanh, leaky-relu(slope=0.2))", ("tanh", "leaky-relu(slope=0.2)")),
            ("acts", "['tanh', \"leaky-relu(slope=0.2)\"]", ("tanh", "leaky-relu(slope=0.2)")),
            ("name", "None", "None"),
            ("mixed", "3", 3.0),
            ("level", "2", 2),
            ("level", "None", None),
            ("anything", "[1, 2]", [1, 2]),
            ("anything", "plain words", "plain words"),
            ("anything", "none", None),
        ],
    )
    def test_is_parsed(self, name, text, value):
        parsed = parse_params(Learner, {name: text})[name]
        assert parsed == value
        assert type(parsed) is type(value)

    @pytest.mark.parametrize(
        ("name", "text", "message"),
        [
            ("depth", "3.5", r"Learner: depth must be an integer at least 1, got '3\.5'"),
            ("depth", "0", "Learner: depth must be an integer at least 1, got 0$"),
            ("lr", "fast", "Learner: lr must be more than 0, got 'fast'"),
            ("lr", "nan", "Learner: lr must be more than 0, got nan"),
            ("lr", "none", "Learner: lr must be more than 0, got 'none'"),
            ("bias", "maybe", "Learner: bias must be True or False, got 'maybe'"),
            ("sizes", "64,x", r"Learner: sizes must be .*an integer at least 1, got '(64,)?x'"),
            ("types", "zip", "Learner: types must be a mapping, got 'zip'"),
            ("norm", "bach", r"did you mean 'batch'\?"),
            ("act", "rellu", r"did you mean 'relu'\?"),
            ("dept", "3", r"Learner has no parameter 'dept'; did you mean 'depth'\?"),
        ],
    )
    def test_is_refused(self, name, text, message):
        with pytest.raises(ConfigError, match=message):
            parse_params(Learner, {name: text})

    def test_values_from_a_file(self):
        given_ = {"lr": 1, "sizes": [3, 4], "types": {"a": "number"}, "seed": None, "bias": False}
        parsed = parse_params(Learner, given_)
        assert parsed == {"lr": 1.0, "sizes": (3, 4), "types": {"a": "number"}, "seed": None, "bias": False}
        assert type(parsed["lr"]) is float
        with pytest.raises(ConfigError, match="depth must be an integer at least 1, got None"):
            parse_params(Learner, {"depth": None})

    @given(st.text(max_size=30), st.sampled_from(["lr", "depth", "sizes", "types", "norm", "bias", "act", "acts"]))
    @QUIET
    def test_any_text_gives_a_value_that_fits_or_a_ConfigError(self, text, name):
        try:
            values = parse_params(Learner, {name: text})
        except ConfigError:
            return
        check(**values)


class TestCalls:
    @pytest.mark.parametrize(
        ("text", "call"),
        [
            ("adam", ("adam", {})),
            ("one-cycle", ("one-cycle", {})),
            ("adam()", ("adam", {})),
            ("adam(beta2=0.99)", ("adam", {"beta2": 0.99})),
            ("step(every=10, factor=-0.5)", ("step", {"every": 10, "factor": -0.5})),
            ("x(a='b,)(', c=(1, 2), d=None, e=[True])", ("x", {"a": "b,)(", "c": (1, 2), "d": None, "e": [True]})),
        ],
    )
    def test_are_split(self, text, call):
        assert split_call(text, "here") == call

    @pytest.mark.parametrize(
        "text",
        [
            "",
            " ",
            "adam(",
            "adam)",
            "adam(1)",
            "adam(*[1])",
            "adam(**{'eps': 1})",
            "adam(eps)",
            "adam(eps=b)",
            "adam(eps=1+open('x'))",
            "adam(eps=__import__('os').system('true'))",
            "adam(eps=" + "(" * 5000 + "1" + ")" * 5000 + ")",
            "adam(eps=" + "-" * 100_000 + "1)",
            "adam(eps=1\0)",
            "adam(eps=1) sgd",
            "ad am",
            "adam\n",
        ],
        ids=lambda t: repr(t[:24]),
    )
    def test_that_are_none_are_refused(self, text):
        with pytest.raises(ConfigError, match="here must be a name or a call such as"):
            split_call(text, "here")

    @given(st.text(alphabet="adm_-.()=,'\"[]1\\ \n\0#*:", max_size=24))
    @QUIET
    def test_any_text_is_a_call_or_a_ConfigError(self, text):
        try:
            name, arguments = split_call(text, "here")
        except ConfigError:
            return
        assert text.startswith(name)
        assert isinstance(arguments, dict)

    def test_build_calls_with_the_inputs_first(self):
        weight = torch.ones(2, 3)
        assert build("init", "uniform(bound=0)", weight) is None
        assert weight.count_nonzero() == 0
        assert build("activation", "leaky-relu(slope=0.5)").negative_slope == 0.5
        with pytest.raises(ConfigError, match="init 'uniform': bound must be at least 0, got -1"):
            build("init", "uniform(bound=-1)", weight)
        with pytest.raises(ConfigError, match="'weight'"):
            build("init", "uniform(weight=3)", weight)


class TestDerived:
    def test_space(self):
        assert space_of(Learner) == Space(
            {
                "lr": Real(1e-4, 1e-1, log=True),
                "depth": Integer(1, 8),
                "momentum": Category((0.0, 0.9)),
                "norm": Category(("none", "batch", "layer")),
                "bias": Category((True, False)),
            }
        )

    def test_every_point_of_the_space_passes_the_check(self):
        rng = np.random.default_rng(0)
        for _ in range(50):
            point = space_of(Learner).draw(rng)
            check(**point)
            assert set(point) == {"lr", "depth", "momentum", "norm", "bias"}

    def test_description(self):
        rows = {row["name"]: row for row in describe(Learner)}
        assert rows["lr"] == {
            "name": "lr",
            "default": "0.001",
            "rule": "more than 0",
            "help": "the step, also of the bias.",
        }
        assert rows["depth"]["help"] == "how deep."
        assert rows["depth"]["rule"] == "an integer at least 1"
        assert rows["name"]["help"] == ""
        assert [row["name"] for row in describe(Learner)][:2] == ["lr", "seed"]
        assert describe(build)[0]["name"] == "kind"

    def test_of_a_function(self):
        def f(x, *, rate: Annotated[float, AtLeast(0)] = 0.5, mode: Literal["in", "out"] = "in"):
            """Do.

            rate: how fast.
            """

        params = params_of(f)
        assert list(params) == ["x", "rate", "mode"]
        assert params["rate"].default == 0.5
        assert params["rate"].help == "how fast."
        assert params["mode"].choices == ("in", "out")
