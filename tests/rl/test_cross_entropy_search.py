from __future__ import annotations

import functools
from itertools import pairwise
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

import konspekt
from konspekt.core.errors import ConfigError, DataError
from konspekt.rl import cross_entropy_search
from konspekt.rl.cross_entropy_search import CrossEntropySearch
from konspekt.rl.vector import environments
from konspekt.testing.two_states import TwoStates

SMALL: dict[str, Any] = {"steps": 4_000, "candidates": 20, "n_envs": 20, "hidden": (4,), "random_state": 0}


@pytest.mark.parametrize("actions", ["discrete", "box"])
@pytest.mark.parametrize("observations", ["discrete", "box"])
def test_two_states_are_learned_and_brought_back(actions, observations, tmp_path):
    env = functools.partial(TwoStates, actions=actions, observations=observations)
    fitted = CrossEntropySearch(**SMALL).fit(env)
    assert fitted.evaluate(env, 20)["return_min"] >= 7
    seen = np.array([0, 1]) if observations == "discrete" else np.eye(2, dtype=np.float32)
    back = konspekt.load(fitted.save(tmp_path / "model"))
    assert np.array_equal(back.predict(seen), fitted.predict(seen))


def test_continuous_actions_are_learned():
    fitted = CrossEntropySearch(steps=120_000).fit("MountainCarContinuous-v0")
    assert fitted.evaluate(episodes=20)["return"] > 90  # what the environment counts as solved


def test_the_net_is_that_of_torch():
    agent = CrossEntropySearch(hidden=(5, 4))
    agent.observation_space_, agent.action_space_ = spaces.Box(-1, 1, (3,)), spaces.Discrete(2)
    agent.centre_, agent.scale_ = np.full(3, 0.5), np.full(3, 2.0)
    rng = np.random.default_rng(0)
    nets, seen = rng.normal(size=(6, agent._size())), rng.normal(size=(6, 3))
    assert agent._size() == 4 * 5 + 6 * 4 + 5 * 2
    found = agent._outputs(nets, seen)
    for net, one, outputs in zip(nets, seen, found, strict=True):
        x, rest = torch.from_numpy((one - 0.5) / 2), torch.from_numpy(net)
        for a, b in pairwise((3, 5, 4, 2)):
            weight, bias, rest = rest[: a * b].reshape(a, b).T / a**0.5, rest[a * b : a * b + b], rest[a * b + b :]
            x = torch.nn.functional.linear(torch.tanh(x) if a != 3 else x, weight, bias)
        np.testing.assert_allclose(outputs, x.numpy())


@pytest.mark.parametrize("n", [3, 8])
def test_each_candidate_plays_its_sessions(n):
    agent = CrossEntropySearch(hidden=(), repeats=2, gamma=0.5)
    agent.observation_space_, agent.action_space_ = spaces.Discrete(2), spaces.Discrete(2)
    agent.centre_, agent.scale_ = np.zeros(2), np.ones(2)
    envs = environments(TwoStates, n, seed=0)
    agent._observation, agent._fresh, agent.seed_ = envs.reset(), np.ones(n, bool), 0
    # outputs are biases: the first stays always, the second moves always
    nets = np.array([[0, 0, 0, 0, 1, 0], [0, 0, 0, 0, 0, 1.0]])
    scores, starts, steps = agent._play(envs, nets)
    assert scores[0].tolist() == [(2 - 2**-7) * start for start in starts[:2]]
    # from state 1 nothing at once: it leaves and comes back, which pays nothing
    assert scores[1].tolist() == [0, 0]
    assert steps == n * 8 * -(-4 // n)


def test_the_distribution_is_that_of_the_elites(monkeypatch):
    agent = CrossEntropySearch(**SMALL | {"steps": 100, "noise": 0.2, "noise_end": 0.2, "elite": 0.2})
    tried: list[Any] = []

    def play(envs: Any, nets: Any) -> Any:
        tried.append(nets)
        return np.arange(20.0)[:, None], np.zeros(20, np.int64), 100

    monkeypatch.setattr(agent, "_play", play)
    agent.fit(TwoStates)
    ((*_, a, b, c, d),) = tried
    best = np.stack([a, b, c, d])
    np.testing.assert_allclose(agent.mean_, best.mean(axis=0))
    np.testing.assert_allclose(agent.deviation_**2, ((best - best.mean(axis=0)) ** 2).sum(axis=0) / 3 + 0.04)
    # of one elite there is no deviation but the noise
    agent.set_params(elite=0.01).fit(TwoStates)
    np.testing.assert_allclose(agent.deviation_, 0.2)


def test_a_pole_is_held():
    fitted = CrossEntropySearch(steps=200_000, random_state=0).fit("CartPole-v1")  # of 500
    assert fitted.evaluate(episodes=50)["return"] > 475


@pytest.mark.parametrize(
    ("space", "outputs", "actions"),
    [
        (spaces.MultiDiscrete([2, 3]), [[0, 1, 5, 0, 2]], [[1, 0]]),
        (spaces.MultiBinary(3), [[1, -1, 2]], [[1, 0, 1]]),
        (spaces.Box(np.array([0.0, -2.0]), np.array([4.0, 2.0]), dtype=np.float64), [[0, 100]], [[2, 2]]),
    ],
)
def test_outputs_become_actions(space, outputs, actions):
    agent = CrossEntropySearch()
    agent.observation_space_, agent.action_space_ = spaces.MultiDiscrete([2, 2]), space
    assert agent._widths == [4, 16, len(outputs[0])]
    assert agent._decide(np.array(outputs, np.float64)).tolist() == actions


def test_an_interrupted_search_goes_on_to_the_same_distribution(resumed_beside_whole):
    env = functools.partial(TwoStates, actions="box", observations="box")

    def made(folder):
        return CrossEntropySearch(**SMALL | {"steps": 2_000, "n_envs": 7, "checkpoint_every": 1}, run_dir=folder)

    resumed, whole = resumed_beside_whole(made, env, "step", 4)
    one, other = whole.learned_tensors(), resumed.learned_tensors()
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert resumed.episodes_ == whole.episodes_


def test_what_cannot_be_is_refused(monkeypatch):
    with pytest.raises(ConfigError, match="a net of 4,012,002 numbers is more than 1,000,000"):
        CrossEntropySearch(**SMALL | {"hidden": (2_000, 2_000)}).fit(TwoStates)

    class Unbounded(TwoStates):
        def __init__(self) -> None:
            super().__init__(actions="box")
            self.action_space: gymnasium.Space[Any] = spaces.Box(-np.inf, np.inf, (1,), np.float32)

    with pytest.raises(ConfigError, match="have no bounds; wrap"):
        CrossEntropySearch(**SMALL).fit(Unbounded)
    fitted = CrossEntropySearch(**SMALL).fit(TwoStates)
    config, tensors = fitted.learned()
    with pytest.raises(DataError, match=r"mean of shape .* does not fit a net of 22 numbers"):
        CrossEntropySearch(hidden=(4,)).restore(config, tensors | {"mean": tensors["mean"][:3]})
    monkeypatch.setattr(cross_entropy_search, "LONGEST", 50)
    with pytest.raises(DataError, match=r"whole episodes are needed; give max_episode_steps .*seed \d+"):
        CrossEntropySearch(**SMALL).fit(functools.partial(TwoStates, length=10**9))
