"""What all agents share: actions that `predict` gives, and spaces that `fit` refuses."""

import json
import shutil

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

import konspekt
from konspekt.core.errors import DataError
from konspekt.rl.a2c import A2C
from konspekt.rl.dqn import DQN
from konspekt.rl.q_learning import QLearning


class Given(gymnasium.Env):
    """Draws from its spaces, in episodes of ten steps; an action that is none of its space is an error."""

    def __init__(self, seen=None, act=None):
        self.observation_space = spaces.Discrete(2) if seen is None else seen
        self.action_space = spaces.Discrete(2) if act is None else act

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.observation_space.seed(seed)
        self.at = 0
        return self.observation_space.sample(), {}

    def step(self, action):
        assert self.action_space.contains(action)
        self.at += 1
        return self.observation_space.sample(), 1.0, self.at == 10, False, {}


AGENTS = {
    "a2c": lambda: A2C(steps=80, n_envs=2, hidden=(4,)),
    "dqn": lambda: DQN(steps=80, learning_starts=20, train_every=4, batch_size=4, hidden=(4,)),
    "q-learning": lambda: QLearning(steps=200, bins=(2,)),
}


@pytest.mark.parametrize(
    "space",
    [
        spaces.Discrete(3, start=4),
        spaces.MultiDiscrete([2, 3], start=[0, 5]),
        spaces.MultiDiscrete([[2, 3], [4, 5]], start=[[1, 0], [0, 2]]),
        spaces.MultiBinary((2, 2)),
        spaces.Box(0, 1, ()),
        spaces.Box(-3, 3, (2, 2), np.int8),
        spaces.Box(-3, 3, (2, 2), np.float64),
    ],
)
def test_actions_are_of_the_space_after_loading_too(space, tmp_path):
    agent = AGENTS["a2c"]().fit(lambda: Given(act=space))
    one, many = agent.predict(1), agent.predict(np.array([0, 1, 1]))
    assert space.contains(one)
    assert many.shape == (3, *space.shape)
    assert all(space.contains(np.asarray(action)) for action in many) or isinstance(space, spaces.Discrete)
    assert np.allclose(many[2], one, rtol=1e-5, atol=1e-6)  # a batch may be summed in another order
    back = konspekt.load(agent.save(tmp_path / "model"))
    assert np.array_equal(back.predict(1), one)
    assert back.evaluate(lambda: Given(act=space), episodes=2)["return"] == 10


@pytest.mark.parametrize("name", AGENTS)
@pytest.mark.parametrize(
    "space",
    [
        spaces.Box(0, 1, ()),
        spaces.Box(-1, 1, (2,), np.float16),
        spaces.MultiDiscrete([[2, 3], [4, 5]], start=[[1, 0], [0, 2]]),
        spaces.MultiBinary((2, 2)),
        spaces.Tuple((spaces.Discrete(3, start=2), spaces.Dict({"a": spaces.Discrete(2)}))),
        spaces.Dict({"a": spaces.Box(0, 1, (2,), np.float32), "b": spaces.Discrete(2)}),
    ],
)
def test_observations_of_all_kinds_are_taken_and_saved(name, space, tmp_path):
    agent = AGENTS[name]().fit(lambda: Given(space))
    assert agent.observation_space_ == space
    space.seed(0)
    seen = space.sample()
    back = konspekt.load(agent.save(tmp_path / "model"))
    assert back.observation_space_ == space
    assert back.predict(seen) == agent.predict(seen) in (0, 1)
    assert back.evaluate(lambda: Given(space), episodes=2)["return"] == 10


@pytest.mark.parametrize("name", AGENTS)
def test_blackjack_is_numbered(name):
    agent = AGENTS[name]().fit("Blackjack-v1")
    assert isinstance(agent.observation_space_, spaces.Tuple)
    assert agent.predict((13, 1, 0)) in (0, 1)
    assert agent.predict(np.array([[13, 1, 0], [20, 10, 1]])).shape == (2,)
    assert agent.predict(np.array([[13, 1, 0]]))[0] == agent.predict((13, 1, 0))
    if name == "q-learning":
        assert agent.q_.shape == (32 * 11 * 2, 2)
    with pytest.raises(DataError, match=r"Tuple\(Discrete\(32\), Discrete\(11\), Discrete\(2\)\)"):
        agent.predict((32, 1, 0))
    with pytest.raises(DataError, match=r"11 in an observation lies outside Tuple\(Discrete\(32\)"):
        agent.predict(np.array([[13, 11, 0]]))


@pytest.mark.parametrize("name", AGENTS)
def test_boxes_without_numbers_are_refused(name):
    empty = spaces.Box(0, 1, (0,))
    for env, what in ((lambda: Given(empty), "observation"), (lambda: Given(act=empty), "action")):
        with pytest.raises(DataError, match=rf"{what}s of Box\(0,\) of float32 hold no number.*{what}_space"):
            AGENTS[name]().fit(env)


def test_numbers_outside_are_no_observation():
    agent = AGENTS["q-learning"]().fit(lambda: Given(spaces.MultiBinary(2)))
    for wrong in ([0.5, 0], [0, 2], [-1, 0]):
        with pytest.raises(DataError, match=r"in an observation lies outside MultiBinary\(2\)"):
            agent.predict(np.array(wrong))


@pytest.mark.parametrize("name", AGENTS)
def test_a_finished_run_that_is_resumed_leaves_what_it_left(name, tmp_path):
    """As after a kill between the last checkpoint and the model: episodes and scores are not those of no acting."""

    def agent():
        made = AGENTS[name]()
        made.run_dir = str(tmp_path / "run")
        return made.set_params(**({"normalize_rewards": True} if name == "a2c" else {}))

    first = agent().fit(Given)
    files = {file: (tmp_path / "run" / file).read_bytes() for file in ("episodes.csv", "model/config.json")}
    scores = json.loads((tmp_path / "run" / "result.json").read_text())["scores"]
    shutil.rmtree(tmp_path / "run" / "model")
    again = agent().fit(Given, resume=tmp_path / "run")
    assert list(again.episodes_) == list(first.episodes_)
    assert len(first.episodes_) >= 8
    assert {file: (tmp_path / "run" / file).read_bytes() for file in files} == files
    assert json.loads((tmp_path / "run" / "result.json").read_text())["scores"] == scores
