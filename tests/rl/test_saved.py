"""A saved agent whose config.json was changed by hand: the field is named, or it loads and acts; nothing else happens."""

import copy
import hashlib
import json
import random
import sys

import gymnasium
import numpy as np
import pytest

import konspekt
from konspekt.core.errors import ConfigError, DataError, KonspektError
from konspekt.core.folders import MANIFEST, json_bytes
from konspekt.rl.a2c import A2C
from konspekt.rl.dqn import DQN
from konspekt.rl.planner import Planner
from konspekt.rl.q_learning import QLearning
from konspekt.testing.two_states import TwoStates

ENV = "konspekt-tests/Saved-v0"


def box():
    return TwoStates(observations="box")


MAKE = {
    "a2c": lambda: A2C(steps=80, hidden=(4,)).fit(box),
    "dqn": lambda: DQN(steps=80, learning_starts=20, train_every=4, batch_size=4, hidden=(4,)).fit(box),
    "q-learning": lambda: QLearning(steps=200).fit(TwoStates),
    "planner": lambda: Planner().fit("FrozenLake-v1"),
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """One agent of each, saved once: (config, folder)."""
    place = tmp_path_factory.mktemp("saved")
    folders = {name: make().save(place / name) for name, make in MAKE.items()}
    return {name: (json.loads((folder / "config.json").read_text()), folder) for name, folder in folders.items()}


@pytest.fixture
def rewritten(saved, tmp_path):
    """A copy of a saved agent with another config.json, and sums that fit it."""

    def write(name, config):
        folder = tmp_path / "changed"
        folder.mkdir(exist_ok=True)
        for file in saved[name][1].iterdir():
            (folder / file.name).write_bytes(file.read_bytes())
        data = json.dumps(config).encode()
        (folder / "config.json").write_bytes(data)
        manifest = json.loads((folder / MANIFEST).read_text())
        manifest["files"]["config.json"] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        (folder / MANIFEST).write_text(json.dumps(manifest))
        return folder

    return write


def put(config, path, value):
    *way, last = path.split(".")
    place = config
    for key in way:
        place = place[key]
    if value is None:
        del place[last]
    else:
        place[last] = value


@pytest.mark.parametrize(
    ("name", "path", "value", "says"),
    [
        ("dqn", "params.n_envs", -1, "n_envs must be an integer at least 1, got -1"),
        ("dqn", "params.hidden", "x", "hidden must be an integer at least 1, got 'x'"),
        ("dqn", "params.hidden", [-1], r"hidden must be a tuple whose items are each an integer at least 1, got \(-1,\)"),
        ("dqn", "params.hidden", [10**12], r"weights do not fit .* \(1000000000000, 2\)"),
        ("a2c", "params.hidden", [1] * 300, "hidden has 300 layers, which are more than 200"),
        ("a2c", "params.gamma", float("nan"), "gamma must be at least 0 and at most 1, got nan"),
        ("a2c", "system", "nothing", "'nothing' is not a registered estimator or agent"),
        ("dqn", "system", "kmeans", "KMeans has no parameter"),
        ("dqn", "learned.action_space.n", 3, r"do not fit .*\(2, 4\).* for \(3, 4\)"),
        ("dqn", "learned.action_space", None, "action_space in config.json is missing"),
        ("dqn", "learned.action_space.n", 10**20, "action_space in config.json is no space: .*n = 1000000000"),
        ("dqn", "learned.observation_space.shape", [3], r"do not fit .*\(4, 2\).* for \(4, 3\)"),
        ("dqn", "learned.observation_space.shape", [9999, 9999], "observation_space in config.json .*99,980,001 numbers"),
        ("a2c", "learned.action_space", {"type": "multi-binary", "shape": [10**9]}, "action_space .*1,000,000,000 numbers"),
        ("q-learning", "learned.action_space", {"type": "multi-binary", "shape": [2]}, "takes actions that are Discrete"),
        ("q-learning", "learned.values.cells.start", [0.5], "does not fit observations and actions"),
        ("q-learning", "learned.values.cells.start", [float("nan")], "cells of the table are damaged"),
        ("q-learning", "learned.values.cells", None, "cells"),
        ("q-learning", "learned.values", None, "values in config.json is no mapping"),
        ("q-learning", "learned.facts.source", None, "facts.source in config.json is not of type str"),
        ("q-learning", "learned.facts.scores", {"return": "much"}, "facts.scores.return in config.json is no finite number"),
        ("q-learning", "learned.facts", [], "facts.source"),
        ("q-learning", "learned.seed", "7", "seed in config.json is no whole number: '7'"),
        ("q-learning", "learned.env", 5, "env in config.json is no id of an environment"),
        ("a2c", "learned.values.reward_scale", -1, "values.reward_scale in config.json is no finite number from 0 on: '-1'"),
        ("a2c", "learned.values.reward_scale", 10**400, "values.reward_scale in config.json is no finite number"),
        ("planner", "learned.values.bound", "nan", "values.bound in config.json is no finite number from 0 on"),
        ("planner", "learned.values.letters", ["S"] * 16, "values.letters in config.json is no text"),
        ("planner", "params.horizon", 10**12, r"v must have the shape \(1000000000001, 16\)"),
    ],
)  # fmt: skip
def test_the_field_is_named(saved, rewritten, name, path, value, says):
    config = copy.deepcopy(saved[name][0])
    put(config, path, value)
    folder = rewritten(name, config)
    with pytest.raises(DataError, match=says) as error:
        konspekt.load(folder)
    assert str(error.value).startswith(str(folder))


def test_parts_together_are_counted(saved, rewritten):
    config = copy.deepcopy(saved["dqn"][0])
    parts = [["a", {"type": "discrete", "n": 10**8, "start": 0}], ["b", config["learned"]["observation_space"]]]
    config["learned"]["observation_space"] = {"type": "dict", "parts": parts}
    with pytest.raises(DataError, match=r"100,000,00[0-9] numbers"):
        konspekt.load(rewritten("dqn", config))


def test_no_module_is_imported_because_a_file_names_it(saved, rewritten, tmp_path, monkeypatch):
    (tmp_path / "konspekt_named.py").write_text("import gymnasium\nfrom konspekt.testing.two_states import TwoStates\n"
        f"gymnasium.register({ENV!r}, entry_point=TwoStates)\n")  # fmt: skip
    monkeypatch.syspath_prepend(tmp_path)
    config = copy.deepcopy(saved["q-learning"][0])
    config["learned"]["env"] = f"konspekt_named:{ENV}"
    agent = konspekt.load(rewritten("q-learning", config))
    try:
        for use in (agent.evaluate, agent.play):
            with pytest.raises(
                ConfigError, match="no module is imported because a file says so: give env='konspekt_named:"
            ):
                use(episodes=1)
        assert "konspekt_named" not in sys.modules
        given = agent.evaluate(f"konspekt_named:{ENV}", episodes=1)
        assert "konspekt_named" in sys.modules
        assert agent.evaluate(episodes=1) == given  # it is registered now, so nothing has to be imported
        own = QLearning(steps=200).fit(f"konspekt_named:{ENV}")
        del gymnasium.registry[ENV], sys.modules["konspekt_named"]
        own.evaluate(episodes=1)  # the user's own word
    finally:
        gymnasium.registry.pop(ENV, None)
        sys.modules.pop("konspekt_named", None)


BAD = [
    -1, 0, 1, 3, 10**12, 2**64, 1e308, float("nan"), float("-inf"), 1.5, "x", "", "inf", None, True, [], [-1], [10**6] * 2, ["x"], {},
    {"a": 1}, "planner", "a2c", "relu", "float64", "object", "uint8", "box", "dict", [[1]], [4], "x" * 10_000,
]  # fmt: skip


def places(tree, at=()):
    yield at
    for key, inner in tree.items() if isinstance(tree, dict) else enumerate(tree[:2] if isinstance(tree, list) else ()):
        yield from places(inner, (*at, key))


@pytest.mark.parametrize("name", MAKE)
def test_anything_changed_is_refused_or_acts(saved, rewritten, name):
    rng = random.Random(name)
    outcomes = {"refused": 0, "acts": 0}
    for _ in range(30):
        config = copy.deepcopy(saved[name][0])
        where = rng.choice([p for p in places(config) if p and (p[0] == "learned" or rng.random() < 0.3)])
        place = config
        for key in where[:-1]:
            place = place[key]
        if rng.random() < 0.2:
            del place[where[-1]]
        else:
            place[where[-1]] = rng.choice(BAD)
        folder = rewritten(name, config)
        try:
            agent = konspekt.load(folder)
        except KonspektError as error:
            assert str(error).startswith(str(folder)), where  # noqa: PT017  both outcomes are right, each in its way
            outcomes["refused"] += 1
            continue
        agent.observation_space_.seed(0)
        action = agent.predict(agent.observation_space_.sample())
        assert agent.action_space_.contains(np.asarray(action)) or agent.action_space_.contains(np.int64(action)), where
        json_bytes(agent.learned()[0])  # what `save` writes, which takes no NaN
        agent.card()
        outcomes["acts"] += 1
    assert min(outcomes.values()) > 0
