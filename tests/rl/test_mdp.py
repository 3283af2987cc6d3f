"""The table of a decision process: read, given, estimated, and what cannot be one."""

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from konspekt.core.errors import ConfigError, DataError, ResourceError
from konspekt.rl.mdp import MDP
from konspekt.rl.planning import value_iteration


class Tabled(gymnasium.Env):
    """An environment with a table."""

    def __init__(self, P, n_states=2, n_actions=1):
        self.observation_space, self.action_space = spaces.Discrete(n_states), spaces.Discrete(n_actions)
        self.P = P

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return 0, {}

    def step(self, action):
        return 0, 0.0, True, False, {}


def dense(mdp):
    """(S, A, S) probabilities of going on, and the mean rewards."""
    return mdp.continuing.toarray().reshape(mdp.n_states, mdp.n_actions, -1), mdp.expected_rewards


@pytest.mark.parametrize("merge", [True, False])
@pytest.mark.parametrize(
    ("env", "ends"), [("FrozenLake-v1", [5, 7, 11, 12, 15]), ("CliffWalkingSlippery-v1", [47]), ("Taxi-v4", [])]
)
def test_the_table_of_an_environment_is_read(env, ends, merge):
    mdp = MDP.from_env(env, merge=merge)
    inner = gymnasium.make(env).unwrapped
    going, rewards = dense(mdp)
    for state, actions in inner.P.items():
        for action, listed in actions.items():
            if state in ends:
                assert mdp.ending[state, action]
                assert going[state, action].sum() == rewards[state, action] == 0
                continue
            assert rewards[state, action] == pytest.approx(sum(p * r for p, _, r, _ in listed))
            for after in {s for _, s, _, _ in listed}:
                expected = sum(p for p, s, _, done in listed if s == after and not done)
                assert going[state, action, after] == pytest.approx(expected)
    assert np.flatnonzero(mdp.terminal).tolist() == ends
    np.testing.assert_array_equal(mdp.start, inner.initial_state_distrib)


def test_successors_that_a_pair_has_twice_are_added_up_or_kept():
    """FrozenLake's corner: to the left and up it stays, with a third each."""
    apart, together = (MDP.from_env("FrozenLake-v1", merge=merge) for merge in (False, True))
    assert (len(apart.rewards), len(together.rewards)) == (44 * 3 + 20, 148)
    np.testing.assert_allclose(together.probabilities[:2], [2 / 3, 1 / 3])
    assert together.next_states[:2].tolist() == [0, 4]
    for one, other in zip(dense(apart), dense(together), strict=True):
        np.testing.assert_allclose(one, other)


def test_grids_and_starts_are_known():
    lake, cliff, taxi = (MDP.from_env(e) for e in ("FrozenLake8x8-v1", "CliffWalking-v1", "Taxi-v4"))
    assert (lake.shape, lake.actions) == ((8, 8), ("left", "down", "right", "up"))
    assert (cliff.shape, cliff.actions) == ((4, 12), ("up", "right", "down", "left"))
    assert cliff.letters[36:] == "S" + "C" * 10 + "G"
    assert taxi.shape is None
    assert (taxi.reachable().sum(), cliff.reachable().sum()) == (
        404,
        38,
    )  # published: 400 and 4 ends; no cell of the cliff
    assert repr(cliff).startswith("MDP(48 states, 4 actions, 192 successors, shape=(4, 12)")


def test_an_environment_with_numbered_states_from_a_function():
    mdp = MDP.from_env(lambda: Tabled({0: {0: [(1.0, 1, 5.0, True)]}, 1: {0: [(1.0, 0, 7.0, False)]}}))
    assert mdp.terminal.tolist() == [False, True]  # what the table says of the end is never seen
    np.testing.assert_allclose(value_iteration(mdp, 0.9).v, [5, 0])


@pytest.mark.parametrize(
    ("P", "message"),
    [
        (
            {0: {0: [(0.5, 1, 0.0, True)]}, 1: {0: [(1.0, 0, 0.0, False)]}},
            "state 0, action 0: the probabilities sum to 0.5, not to 1",
        ),
        (
            {0: {0: [(1.0, 2, 0.0, True)]}, 1: {0: [(1.0, 0, 0.0, False)]}},
            "the next state 2 of successor 0 is none of 0 to 1",
        ),
        (
            {0: {0: [(1.0, 1, np.nan, True)]}, 1: {0: [(1.0, 0, 0.0, False)]}},
            "the reward nan of successor 0 is not a finite number",
        ),
        (
            {0: {0: [(1.0, 1, 0.0, True)]}, 1: {0: [(1.5, 0, 0.0, False), (-0.5, 1, 0.0, False)]}},
            "state 1, action 0: the probability -0.5 of successor 1 is below 0",
        ),
        ({0: {0: [(1.0, 1, 0.0, True)]}}, "its table P has nothing for state 1"),
        ({0: {}, 1: {}}, "its table P has nothing for state 0, action 0"),
        ({0: {0: []}, 1: {0: [(1.0, 0, 0.0, False)]}}, "state 0, action 0 has no successor"),
        (
            {0: {0: [(1.0, 1, 0.0)]}, 1: {0: []}},
            r"P\[0\]\[0\] must be a list of \(probability, next state, reward, terminated\)",
        ),
        (
            {0: {0: [(1.0, 0.5, 0.0, True)]}, 1: {0: [(1.0, 0, 0.0, False)]}},
            "next states in its table P are no whole numbers",
        ),
    ],
)
def test_tables_of_environments_that_cannot_be(P, message):
    with pytest.raises(DataError, match=message):
        MDP.from_env(Tabled(P))


def test_environments_without_an_honest_table():
    with pytest.raises(DataError, match="CartPole-v1 carries no table"):
        MDP.from_env("CartPole-v1")
    with pytest.raises(DataError, match="the wrapper TransformReward changes what the table"):
        MDP.from_env(gymnasium.wrappers.TransformReward(gymnasium.make("FrozenLake-v1"), lambda r: 2 * r))
    with pytest.raises(DataError, match="with fickle_passenger=True the destination changes"):
        MDP.from_env(gymnasium.make("Taxi-v4", fickle_passenger=True))


def test_dense_arrays():
    P = np.array([[[0.25, 0.75], [1, 0]], [[0, 1], [0.5, 0.5]]])
    R = np.arange(8.0).reshape(2, 2, 2)
    mdp = MDP.from_arrays(P, R)
    going, rewards = dense(mdp)
    np.testing.assert_array_equal(going, P)
    np.testing.assert_allclose(rewards, (P * R).sum(axis=2))
    assert len(mdp.rewards) == 6  # what cannot happen takes no room
    assert not mdp.terminal.any()
    np.testing.assert_array_equal(dense(MDP.from_arrays(P, rewards))[1], rewards)
    ended = MDP.from_arrays(P, R, terminal=np.array([False, True]))
    assert ended.terminal.tolist() == [False, True]
    going, rewards = dense(ended)
    np.testing.assert_array_equal(going[0], [[0.25, 0], [1, 0]])
    assert (going[1] == 0).all()
    assert (rewards[1] == 0).all()
    assert rewards[0, 0] == 0.75  # entering the end is rewarded


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"P": np.ones((2, 2, 3))}, r"P must be an array \(S, A, S\), not of shape \(2, 2, 3\)"),
        ({"R": np.ones(2)}, r"R has the shape \(2,\); with P of \(2, 1, 2\) it must be \(2, 1\) or \(2, 1, 2\)"),
        ({"P": [[[0.5, 0.6]], [[0, 1]]]}, "state 0, action 0: the probabilities sum to 1.1, not to 1"),
        ({"P": [[[0, 1]], [[0, 0]]]}, "state 1, action 0: the probabilities sum to 0, not to 1"),
        ({"P": [[[2, -1]], [[0, 1]]]}, "the probability -1.0 of successor 1 is below 0"),
        (
            {"P": [[[np.nan, 1]], [[0, 1]]]},
            "state 0, action 0: the probability nan of successor 0 is not a finite number",
        ),
        ({"R": [[0.0], [np.inf]]}, "state 1, action 0: the reward inf"),
        ({"terminal": [0, 1]}, "terminal must be 2 booleans, got int64"),
        ({"start": [0.5, 0.2]}, "start must be probabilities that sum to 1, not to 0.7"),
        ({"shape": (2, 2)}, "a grid of 2 x 2 does not hold 2 states"),
        ({"actions": ("left", "right")}, "actions has 2 items instead of 1"),
    ],
)
def test_dense_arrays_that_cannot_be(change, message):
    arrays = {"P": [[[0.5, 0.5]], [[0, 1]]], "R": [[1.0], [0.0]], **change}
    with pytest.raises(DataError, match=message):
        MDP.from_arrays(**arrays)


def test_several_faults_are_counted():
    P = np.full((4, 2, 4), 0.2)
    with pytest.raises(
        DataError, match=r"state 0, action 0: the probabilities sum to 0\.8, not to 1; so do those of 7 more pairs"
    ):
        MDP.from_arrays(P, np.zeros((4, 2)))


def test_successors_in_arrays_are_not_copied():
    chances, rewards = np.full((3, 2, 2), 0.5), np.ones((3, 2, 2))
    after = np.array([[[0, 1], [1, 2]]] * 3, dtype=np.int32)
    mdp = MDP.from_successors(chances, after, rewards)
    assert all(
        np.shares_memory(a, b)
        for a, b in ((chances, mdp.probabilities), (after, mdp.next_states), (rewards, mdp.rewards))
    )
    np.testing.assert_array_equal(dense(mdp)[0][0], [[0.5, 0.5, 0], [0, 0.5, 0.5]])
    with pytest.raises(DataError, match=r"next_states has the shape \(3, 2\), and probabilities \(3, 2, 2\)"):
        MDP.from_successors(chances, after[..., 0], rewards)


def test_probabilities_that_miss_one_by_rounding_are_made_whole():
    share = np.float64(np.float32(1 / 3))
    mdp = MDP.from_successors(np.full((1, 1, 3), share), np.zeros((1, 1, 3), int), np.ones((1, 1, 3)))
    assert share * 3 != 1
    assert mdp.probabilities.sum() == pytest.approx(1, abs=1e-15)


def test_memory_is_asked_for_first(monkeypatch):
    monkeypatch.setattr("konspekt.core.memory.available_memory", lambda: 10)
    with pytest.raises(ResourceError, match="a table of 4 successors needs"):
        MDP.from_arrays(np.full((2, 1, 2), 0.5), np.ones((2, 1)))
    with pytest.raises(ResourceError, match="planning with 2 states needs"):
        MDP.from_successors(np.ones((2, 1, 1)), np.zeros((2, 1, 1), int), np.ones((2, 1, 1)))


STEPS = {  # state 0 three times, twice to 1 (rewards 1 and 3) and once to the end, 2; state 1 once back
    "states": [0, 0, 0, 1],
    "actions": [0, 0, 0, 1],
    "rewards": [1.0, 3.0, 5.0, -1.0],
    "next_states": [1, 1, 2, 0],
    "terminated": [False, False, True, False],
}


def test_an_estimate_is_the_share_of_what_was_seen():
    mdp = MDP.from_samples(**STEPS, n_states=4, n_actions=2, unseen="stay")
    going, rewards = dense(mdp)
    np.testing.assert_allclose(going[0, 0], [0, 2 / 3, 0, 0])
    assert rewards[0, 0] == pytest.approx(3)
    np.testing.assert_array_equal(going[1, 1], [1, 0, 0, 0])
    np.testing.assert_array_equal(going[0, 1], [1, 0, 0, 0])  # never tried: it stays
    assert mdp.counts.tolist() == [[3, 0], [0, 1], [0, 0], [0, 0]]
    assert mdp.unseen.sum() == 6
    assert mdp.terminal.tolist() == [False, False, True, True]  # the end, and what was never met
    assert len(mdp.rewards) == 3 + 1 + 6  # each (reward, next state) by itself


def test_pairs_that_were_never_seen_are_told():
    with pytest.raises(
        DataError, match=r"2 pairs of a state that was met and an action were never seen: \(0, 1\), \(1, 0\); give"
    ):
        MDP.from_samples(**STEPS, n_states=4, n_actions=2)
    with pytest.raises(ConfigError, match=r"unseen must be .* got 'guess'"):
        MDP.from_samples(**STEPS, n_states=4, n_actions=2, unseen="guess")


def test_what_was_never_seen_is_avoided_or_hoped_for():
    """Reward -1 a step to the end: staying for nothing looks better, staying for the worst does not."""
    steps = {"states": [0], "actions": [0], "rewards": [-1.0], "next_states": [1], "terminated": [True]}
    hopeful, careful = (MDP.from_samples(**steps, n_states=2, n_actions=2, unseen=u) for u in ("stay", "avoid"))
    assert value_iteration(hopeful, 0.9).policy[0] == 1
    assert value_iteration(careful, 0.9).policy[0] == 0


def test_an_estimate_comes_near_to_the_table():
    """20,000 steps of each pair of FrozenLake, drawn from its table: shares within 4.5 standard errors of a share of 1/3."""
    mdp, rng = MDP.from_env("FrozenLake-v1"), np.random.default_rng(0)
    alive = np.flatnonzero(~mdp.terminal)
    states, actions = (x.ravel().repeat(2000) for x in np.meshgrid(alive, np.arange(4)))
    rows = states * 4 + actions
    low, high = mdp.indptr[rows], mdp.indptr[rows + 1]
    picked, total, draw = low.copy(), np.zeros(len(rows)), rng.random(len(rows))
    for k in range(3):
        at = np.minimum(low + k, high - 1)
        total += mdp.probabilities[at] * (low + k < high)
        picked = np.where((draw >= total) & (low + k + 1 < high), low + k + 1, picked)
    seen = (states, actions, mdp.rewards[picked], mdp.next_states[picked], mdp.terminated[picked])
    guess = MDP.from_samples(*seen, n_states=16, n_actions=4)
    assert np.abs(dense(guess)[0] - dense(mdp)[0]).max() < 4.5 * np.sqrt(2 / 9 / 2000)
    assert np.abs(value_iteration(guess, 0.9).v - value_iteration(mdp, 0.9).v).max() < 0.03


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"states": [0, 0, 9, 1]}, "step 2: 9 in states is none of 0 to 3"),
        ({"actions": [0, 0, 0, -1]}, "step 3: -1 in actions is none of 0 to 1"),
        ({"next_states": [1.5, 1, 2, 0]}, "step 0: 1.5 in next_states is none of 0 to 3"),
        ({"rewards": [1, np.nan, 0, 0]}, "step 1: the reward nan is not a finite number"),
        ({"rewards": [1.0]}, r"rewards has the shape \(1,\)"),
        ({"terminated": [0, 0, 1, 0]}, "terminated must be booleans, got int64"),
        ({"states": []}, "states has the shape"),
    ],
)
def test_steps_that_cannot_be(change, message):
    with pytest.raises(DataError, match=message):
        MDP.from_samples(**{**STEPS, **change}, n_states=4, n_actions=2, unseen="stay")


def test_a_state_where_episodes_begin_goes_on_also_if_they_end_there():
    """Out to 1 for -1 or -3, and home for 10, where the episode ends: home is worth -1 + 0.9 * 10 at its begin."""
    P = {
        0: {0: [(1.0, 1, -1.0, False)], 1: [(1.0, 1, -3.0, False)]},
        1: {0: [(1.0, 0, 10.0, True)], 1: [(1.0, 1, -1.0, False)]},
    }
    env = Tabled(P, n_actions=2)
    env.initial_state_distrib = np.array([1.0, 0.0])
    mdp = MDP.from_env(env)
    assert not mdp.terminal.any()
    assert value_iteration(mdp, gamma=0.9).v == pytest.approx([8.0, 10.0])
