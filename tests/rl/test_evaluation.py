"""Whole episodes, and what they came to."""

import functools

import gymnasium
import numpy as np
import pytest

from konspekt.core.errors import DataError
from konspekt.rl import evaluation
from konspekt.rl.agent import Agent
from konspekt.rl.evaluation import Played, play_episodes, scores_of
from konspekt.testing.two_states import TwoStates


class Knows(Agent):
    """Goes to state 1 and stays."""

    def greedy(self, observations):
        return 1 - observations.astype(np.int64)


@pytest.fixture
def agent():
    made, env = Knows(), TwoStates()
    made.observation_space_, made.action_space_, made.env_ = env.observation_space, env.action_space, None
    return made


class Uneven(TwoStates):
    """Episodes as long as the draw of their seed says."""

    def reset(self, *, seed=None, options=None):
        result = super().reset(seed=seed, options=options)
        self.length = int(self.np_random.integers(1, 30))
        return result


class Endless(TwoStates):
    """Never ends."""

    def step(self, action):
        return *super().step(action)[:3], False, {}


def test_episodes_are_the_optimum(agent):
    played = play_episodes(agent, TwoStates, 40, 0)
    assert {p.total for p in played} == {7.0, 8.0}
    assert all(p.length == 8 == len(p.rewards) == len(p.actions) and p.truncated for p in played)
    assert all(p.rewards.sum() == p.total for p in played)
    assert len({p.seed for p in played}) == 40
    assert all(p.actions[1:] == [0] * 7 for p in played)  # it stays, once it is there


def test_the_same_seed_gives_the_same_episodes(agent):
    one, same, other = ([(p.seed, p.total) for p in play_episodes(agent, TwoStates, 20, s)] for s in (3, 3, 4))
    assert one == same
    assert one != other


def test_each_episode_has_its_own_rewards_and_counts_whatever_its_length(agent):
    played = play_episodes(agent, Uneven, 50, 0)
    assert len(played) == 50
    assert len({p.length for p in played}) > 10
    for p in played:
        env = Uneven()
        state, _ = env.reset(seed=p.seed)
        assert p.length == env.length  # of this seed, so no short one was preferred to a long one
        rewards = [env.step(a)[1] for a in p.actions]
        assert rewards == p.rewards.tolist()
        assert p.total == p.length - 1 + state
    assert [p.seed for p in played[:16]] == [p.seed for p in play_episodes(agent, Uneven, 16, 0)]


def test_an_episode_without_end_says_what_to_give(agent, monkeypatch):
    monkeypatch.setattr(evaluation, "LONGEST", 500)
    with pytest.raises(
        DataError, match=r"Knows: episode 0 of environment 0 .* has not ended after 500 steps.*give max_episode_steps"
    ):
        play_episodes(agent, Endless, 2, 0)
    agent.max_episode_steps = 20
    assert [p.length for p in play_episodes(agent, Endless, 2, 0)] == [20, 20]


def test_another_space_is_refused(agent):
    with pytest.raises(
        DataError, match=r"learned with observations of Discrete\(2\); this environment's are Box\(2,\)"
    ):
        play_episodes(agent, lambda: TwoStates(observations="box"), 1, 0)


def test_a_policy_that_remembers_is_told_of_beginnings(agent):
    begun = []

    def player(num):
        assert num == 6

        def act(observations, fresh):
            begun.append(fresh.copy())
            return agent.greedy(observations)

        return act

    agent.player = player
    play_episodes(agent, TwoStates, 6, 0)
    assert [b.tolist() for b in begun] == [[True] * 6] + [[False] * 6] * 7


def test_scores():
    def one(rewards):
        return Played(0, sum(rewards), len(rewards), False, np.array(rewards), [])

    scores = scores_of([one([1.0, 2.0, 4.0]), one([3.0])], gamma=0.5)
    assert scores == {
        "return": 5.0, "return_std": np.std([7.0, 3.0], ddof=1), "return_min": 3.0, "return_max": 7.0,
        "discounted_return": (1 + 1 + 1 + 3) / 2, "length": 2.0, "episodes": 2.0,
    }  # fmt: skip
    assert scores_of([one([3.0])], 1.0)["return_std"] == 0.0


def test_where_no_time_limit_ends_an_episode_patience_is_shorter(agent, monkeypatch):
    monkeypatch.setattr(evaluation, "PATIENCE", 50)
    with pytest.raises(DataError, match=r"has not ended after 50 steps"):
        play_episodes(agent, Endless, 2, 0)
    limited = functools.partial(gymnasium.wrappers.TimeLimit, max_episode_steps=70)
    assert [p.length for p in play_episodes(agent, lambda: limited(Endless()), 2, 0)] == [70, 70]


def test_an_episode_may_be_left(agent):
    (one,) = play_episodes(agent, Endless, 1, 0, most=30)
    assert (one.cut, one.truncated, one.length, len(one.actions)) == (True, False, 30, 30)
    (other,) = play_episodes(agent, Endless, 1, 0, most=40)
    assert (other.seed, other.rewards[:30].tolist()) == (one.seed, one.rewards.tolist())
    (whole,) = play_episodes(agent, TwoStates, 1, 0, most=30)
    assert (whole.cut, whole.truncated, whole.length) == (False, True, 8)


@pytest.mark.parametrize(("env", "limit"), [("CliffWalking-v1", None), ("FrozenLake-v1", 100)])
def test_which_environments_have_a_time_limit(agent, env, limit):
    assert gymnasium.spec(env).max_episode_steps == limit
    assert evaluation.has_time_limit(agent, env) is (limit is not None)
    agent.max_episode_steps = 7
    assert evaluation.has_time_limit(agent, env)
