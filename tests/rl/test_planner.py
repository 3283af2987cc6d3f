"""The agent that plans: what it gets is what it says, where its table comes from, what it refuses."""

import math

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from sklearn.exceptions import ConvergenceWarning, NotFittedError

from konspekt.core.errors import ConfigError, DataError
from konspekt.core.estimator import load
from konspekt.core.runs import read_metrics
from konspekt.rl.planner import Planner
from konspekt.testing.two_states import TwoStates

METHODS = ("value-iteration", "policy-iteration", "modified-policy-iteration")


class Bare(gymnasium.Env):
    """Five cells in a row, to the right end for a reward of 1; states and actions are numbered from 1; no table."""

    def __init__(self, ends=True):
        self.observation_space, self.action_space = spaces.Discrete(5, start=1), spaces.Discrete(2, start=1)
        self.ends = ends

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.cell = 1
        return self.cell, {}

    def step(self, action):
        assert action in (1, 2)
        self.cell = min(5, max(1, self.cell + (1 if action == 2 else -1)))
        done = self.cell == 5 and self.ends
        return self.cell, float(done), done, False, {}


class Tabled(Bare):
    """The same with a table, whose reward may be another than is paid."""

    def __init__(self, told=1.0):
        super().__init__()
        self.initial_state_distrib = np.eye(5)[0]
        self.P = {}
        for s in range(1, 6):
            left, right = max(1, s - 1), min(5, s + 1)
            self.P[s] = {1: [(1.0, left, 0.0, left == 5)], 2: [(1.0, right, told * (right == 5), right == 5)]}


@pytest.mark.parametrize("method", METHODS)
def test_it_gets_what_it_says(method):
    """Two states: go to 1 and stay; v = gamma / (1 - gamma) and 1 / (1 - gamma), and 7.5 in eight steps on average."""
    agent = Planner(method=method, gamma=0.9, tolerance=1e-9).fit(TwoStates)
    np.testing.assert_allclose(agent.v_, [9, 10], atol=1e-8)
    np.testing.assert_allclose(agent.q_, [[8.1, 9], [10, 8.1]], atol=1e-8)
    assert agent.policy_.tolist() == agent.predict(np.array([0, 1])).tolist() == [1, 0]
    assert agent.predict(1) == 0
    assert 0 <= agent.bound_ <= 1e-9
    assert agent.value_ == pytest.approx(9.5)
    assert agent.evaluate(TwoStates, episodes=10)["return_min"] >= 7


def test_played_episodes_return_the_value():
    """FrozenLake under its own limit of 100 steps: the plan for a horizon of 100 is exact, within 4 standard errors."""

    def lake():  # stepped by gymnasium
        return gymnasium.make("FrozenLake-v1")

    agent = Planner(horizon=100, gamma=1.0).fit(lake)
    assert (agent.v_.shape, agent.policy_.shape, agent.bound_) == ((101, 16), (100, 16), 0)
    scores = agent.evaluate(lake, episodes=400, random_state=1)
    assert abs(scores["return"] - agent.value_) < 4 * math.sqrt(agent.value_ * (1 - agent.value_) / 400)
    endless = Planner(gamma=1.0).fit(lake)
    assert agent.value_ < endless.value_ == pytest.approx(14 / 17, abs=1e-3)
    assert endless.bound_ == math.inf


def test_with_a_horizon_the_step_counts():
    """In the last step of two states nothing is gained by going; a policy of one step knows only that."""
    agent = Planner(horizon=3, gamma=1.0).fit(TwoStates)
    assert agent.policy_[:, 0].tolist() == [1, 1, 0]
    act = agent.player(2)
    states, fresh = np.array([0, 0]), np.array([True, True])
    taken = [act(states, fresh if t == 0 else np.array([False, t == 2])).tolist() for t in range(4)]
    assert taken == [[1, 1], [1, 1], [0, 1], [0, 1]]  # the second begins anew at step 2
    assert agent.predict(0) == 1


def test_states_and_actions_may_be_numbered_from_one():
    for agent in (Planner(gamma=0.5).fit(Tabled), Planner(gamma=0.5, episodes=50).fit(Bare)):
        np.testing.assert_allclose(agent.v_, [0.125, 0.25, 0.5, 1, 0], atol=1e-6)
        assert agent.predict(np.array([1, 2, 3, 4])).tolist() == [2, 2, 2, 2]
        assert agent.evaluate(Bare, episodes=2)["length"] == 4


def test_a_table_is_estimated_from_episodes(tmp_path):
    """Ice that does not slip is known after each pair was tried once."""

    def sure():
        return gymnasium.make("FrozenLake-v1", is_slippery=False)

    agent = Planner(gamma=0.9, episodes=1000, run_dir=str(tmp_path / "run")).fit(sure)
    known = Planner(gamma=0.9).fit(sure)
    assert agent.value_ == pytest.approx(known.value_, abs=1e-6)
    np.testing.assert_allclose(agent.v_, known.v_, atol=1e-5)
    assert len(agent.episodes_) == 1000
    assert (agent.mdp_.actions, agent.mdp_.shape, agent.mdp_.start[0]) == (("left", "down", "right", "up"), (4, 4), 1)
    text = (tmp_path / "run" / "log.txt").read_text()
    assert (
        "of 1,000 random episodes: acted in 11 of 16 states, where 0 of 44 pairs of state and action were never tried"
        in text
    )
    assert "of the optimum of the estimated table" in text


def test_what_was_never_tried_is_told(tmp_path):
    agent = Planner(episodes=1, run_dir=str(tmp_path / "run"), random_state=3).fit("FrozenLake-v1")
    assert agent.mdp_.unseen[agent.mdp_.counts.any(axis=1)].any()
    assert "WARNING estimated from" in (tmp_path / "run" / "log.txt").read_text()
    with pytest.raises(DataError, match="pairs of a state that was met and an action were never seen"):
        Planner(episodes=1, unseen="refuse", random_state=3).fit("FrozenLake-v1")


def test_environments_without_a_table_are_refused():
    with pytest.raises(DataError, match=r"Bare carries no table .* the planner does with episodes=1000"):
        Planner().fit(Bare)
    with pytest.raises(DataError, match="takes observations that are Discrete"):
        Planner().fit("CartPole-v1")


def test_a_table_that_lies_is_found_out():
    with pytest.raises(
        DataError, match=r"does not do what its table P says: .* action 1 in state 3 led to state 4 with reward 1"
    ):
        Planner().fit(lambda: Tabled(told=2.0))


def test_episodes_that_never_end(monkeypatch):
    monkeypatch.setattr("konspekt.rl.random_walks.LONGEST", 300)
    with pytest.raises(DataError, match="has not ended after 300 steps; give max_episode_steps"):
        Planner(episodes=2).fit(lambda: Bare(ends=False))
    assert Planner(episodes=2, max_episode_steps=50).fit(lambda: Bare(ends=False)).value_ == 0


def test_gamma_one_needs_an_end():
    with pytest.raises(ConfigError, match="gamma=1 needs episodes that end"):
        Planner(gamma=1.0).fit(TwoStates)
    Planner(gamma=1.0, horizon=8).fit(TwoStates)


def test_what_is_not_for_a_plan_is_refused():
    with pytest.raises(ConfigError, match="callbacks are not for a plan"):
        Planner().fit(TwoStates, callbacks=[print])
    with pytest.raises(ConfigError, match="method"):
        Planner(method="guessing").fit(TwoStates)
    with pytest.raises(NotFittedError):
        Planner().plot()


@pytest.mark.parametrize("horizon", [None, 5])
def test_a_saved_plan_acts_alike(tmp_path, horizon):
    agent = Planner(horizon=horizon, gamma=1.0).fit("CliffWalking-v1")
    back = load(agent.save(tmp_path / "model"))
    for name in ("v_", "q_", "policy_"):
        np.testing.assert_array_equal(getattr(agent, name), getattr(back, name))
    assert (back.bound_, back.value_, back.shape_, back.letters_, back.actions_) == (
        agent.bound_,
        agent.value_,
        (4, 12),
        agent.letters_,
        ("up", "right", "down", "left"),
    )
    assert len(back.plot().axes) == 2


def test_a_plan_that_does_not_fit_its_spaces_is_refused():
    agent = Planner().fit(TwoStates)
    good_values, good = agent.learned_values(), agent.learned_tensors()
    wrong = (
        ({}, {"v": good["q"]}, r"v must have the shape \(2,\)"),
        ({}, {"policy": good["policy"] + 1}, "actions other than 0 to 1"),
        ({}, {"v": good["v"] * np.nan}, "v or q holds NaN"),
        ({"shape": [3, 3]}, {}, r"a grid \[3, 3\] does not hold 2 states"),
        ({"letters": "S"}, {}, "letters of the grid"),
    )
    for values, tensors, message in wrong:
        with pytest.raises(DataError, match=message):
            agent.take_learned(good_values | values, good | tensors)


def test_a_run_is_recorded_and_planned_anew(tmp_path):
    folder = tmp_path / "run"
    agent = Planner(gamma=0.9, run_dir=str(folder)).fit("FrozenLake-v1")
    curve = [r["residual"] for r in read_metrics(folder) if r["kind"] == "epoch"]
    assert curve == [r["residual"] for r in agent.history_]
    assert curve[-1] < 1e-6 < curve[0]
    assert set(agent.run_.kept) == {"values", "policy"}
    lines = agent.run_.kept["policy"][1].split("\n")
    way = dict(zip("\u2190\u2193\u2192\u2191", range(4), strict=True))
    ends = {5: "H", 7: "H", 11: "H", 12: "H", 15: "G"}
    for state, cell in enumerate(" ".join(lines).split()):
        assert cell == ends[state] if state in ends else way[cell] == agent.policy_[state]
    again = Planner(gamma=0.9, run_dir=str(folder)).fit("FrozenLake-v1", resume=folder)
    np.testing.assert_array_equal(again.v_, agent.v_)
    assert len([r for r in read_metrics(folder) if r["kind"] == "epoch"]) == len(curve)


def test_a_tolerance_out_of_reach_is_told(tmp_path):
    class Gain(Tabled):
        """Going left in the first cell is paid, and the end could be reached."""

        def __init__(self):
            super().__init__()
            self.P[1][1] = [(1.0, 1, 1.0, False)]

        def step(self, action):
            paid = self.cell == 1 and action == 1
            observation, reward, *rest = super().step(action)
            return (observation, float(reward or paid), *rest)

    with pytest.warns(ConvergenceWarning, match="with gamma=1 bounds nothing"):
        Planner(gamma=1.0, run_dir=str(tmp_path / "run")).fit(Gain)
    assert "WARNING planning ended after 100,000 sweeps" in (tmp_path / "run" / "log.txt").read_text()


def test_plots_need_a_grid():
    taxi = Planner().fit("Taxi-v4")
    with pytest.raises(ConfigError, match="the 500 states of this environment lie on no known grid"):
        taxi.plot()
    slice_ = np.arange(25).reshape(5, 5) * 20 + 2 * 4 + 1
    names = ("south", "north", "east", "west", "pick up", "drop off")
    figure = taxi.plot(states=slice_, actions=names)
    assert "pick up" in [text.get_text() for text in figure.axes[0].texts]
    with pytest.raises(ConfigError, match="states must be an array"):
        taxi.plot(states=slice_ + 490)
    assert Planner().fit(TwoStates).plot(shape=(1, 2)).axes[0].get_title(loc="left") == "TwoStates, gamma 0.99"
