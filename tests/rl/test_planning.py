"""Planning: against linear programming, dense solves, closed forms, published values, and returns of played episodes."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog
from sklearn.exceptions import ConvergenceWarning

from konspekt.core.errors import ConfigError, DataError, ResourceError
from konspekt.rl import evaluating, planning
from konspekt.rl.mdp import MDP
from konspekt.rl.planning import (
    finite_horizon,
    modified_policy_iteration,
    policy_iteration,
    policy_values,
    value_iteration,
)

METHODS = (value_iteration, policy_iteration, modified_policy_iteration)


def random_mdp(seed, states=6, actions=3, ends=True):
    """Dense arrays of a decision process; the last state is the end of it, if there is one."""
    rng = np.random.default_rng(seed)
    P = rng.dirichlet(np.full(states, 0.3), size=(states, actions))
    R = rng.normal(size=(states, actions, states))
    terminal = np.zeros(states, dtype=bool)
    terminal[-1] = ends
    return P, R, terminal


def by_linear_programming(mdp, gamma):
    """The smallest v with v >= r + gamma P v for each action: independent of all iterations (d'Epenoux 1963)."""
    states, actions = mdp.n_states, mdp.n_actions
    own = np.repeat(np.eye(states), actions, axis=0)
    rows = gamma * mdp.continuing.toarray() - own
    answer = linprog(np.ones(states), A_ub=rows, b_ub=-mdp.expected_rewards.ravel(), bounds=(None, None))
    assert answer.status == 0
    return answer.x


def chain(reward=1.0, leave=0.25):
    """State 0 is left with chance `leave`, into the end; staying and leaving are both rewarded."""
    P = np.array([[[1 - leave, leave]], [[0.0, 1.0]]])
    return MDP.from_arrays(P, np.array([[reward], [0.0]]), terminal=np.array([False, True]))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("gamma", [0.0, 0.5, 0.9, 1.0])
def test_two_states_in_closed_form(method, gamma):
    """v(0) = r + gamma (1 - p) v(0), so v(0) = r / (1 - gamma (1 - p))."""
    plan = method(chain(reward=2.0, leave=0.25), gamma, tolerance=1e-10)
    np.testing.assert_allclose(plan.v, [2.0 / (1 - gamma * 0.75), 0.0], atol=1e-8)
    assert plan.converged


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("env", ["FrozenLake-v1", "FrozenLake8x8-v1", "CliffWalking-v1", "CliffWalkingSlippery-v1"])
def test_the_optimum_is_that_of_linear_programming(method, env):
    mdp = MDP.from_env(env)
    plan = method(mdp, 0.95, tolerance=1e-8)
    np.testing.assert_allclose(plan.v, by_linear_programming(mdp, 0.95), atol=1e-6)


def test_the_published_values_of_frozen_lake():
    """0.542 with discount 0.99 (Taylor's and others' tables); 14/17 of the episodes without one, and without time limit."""
    mdp = MDP.from_env("FrozenLake-v1")
    assert round(value_iteration(mdp, 0.99, tolerance=1e-8).v[0], 4) == 0.5420
    for method in METHODS:
        assert method(mdp, 1.0, tolerance=1e-10).v[0] == pytest.approx(14 / 17, abs=1e-6)
    assert round(value_iteration(MDP.from_env("FrozenLake8x8-v1"), 0.99, tolerance=1e-8).v[0], 4) == 0.4146


def test_the_cliff_is_passed_in_thirteen_steps():
    mdp = MDP.from_env("CliffWalking-v1")
    for method in METHODS:
        plan = method(mdp, 1.0, tolerance=1e-9)
        assert plan.v[36] == pytest.approx(-13)
        state, path = 36, []
        while not mdp.terminal[state] and len(path) < 20:
            path.append(int(plan.policy[state]))
            state = int(mdp.next_states[mdp.indptr[state * 4 + plan.policy[state]]])
        assert path == [0] + [1] * 11 + [2]  # up, along the edge, down


def test_taxi_brings_every_passenger_by_the_shortest_way():
    """Steps by a search through the map, independent of planning: v = 20 - (steps - 1) without a discount."""
    import gymnasium

    env = gymnasium.make("Taxi-v4").unwrapped
    plan = value_iteration(MDP.from_env("Taxi-v4"), 1.0, tolerance=1e-9)
    distance = {}  # between cells, by moves of an empty taxi's table
    for first in range(25):
        seen, layer, steps = {first: 0}, [first], 0
        while layer:
            steps += 1
            cells = {env.P[cell * 20 + 1][a][0][1] // 20 for cell in layer for a in range(4)}
            layer = [cell for cell in cells if cell not in seen]
            seen |= dict.fromkeys(layer, steps)
        distance[first] = seen
    stops = [row * 5 + column for row, column in env.locs]
    for state in np.flatnonzero(env.initial_state_distrib):
        row, column, passenger, goal = env.decode(int(state))
        steps = distance[row * 5 + column][stops[passenger]] + distance[stops[passenger]][stops[goal]] + 2
        assert plan.v[state] == pytest.approx(21 - steps)


@pytest.mark.parametrize("gamma", [0.0, 0.9, 1.0])
@pytest.mark.parametrize("method", ["solve", "iterate"])
@pytest.mark.parametrize("seed", range(3))
def test_values_of_a_policy_are_those_of_a_dense_solve(gamma, method, seed):
    P, R, terminal = random_mdp(seed)
    mdp = MDP.from_arrays(P, R, terminal=terminal)
    policy = np.random.default_rng(seed).dirichlet(np.ones(3), size=6)
    P_pi = np.einsum("sa,sat->st", policy, P) * ~terminal  # nothing follows the end
    r_pi = np.einsum("sa,sat,sat->s", policy, P, R) * ~terminal
    P_pi[-1] = 0
    expected = np.linalg.solve(np.eye(6) - gamma * P_pi, r_pi)
    values = policy_values(mdp, policy, gamma, method=method, tolerance=1e-11)
    np.testing.assert_allclose(values.v, expected, atol=1e-9)
    q = np.einsum("sat,sat->sa", P, R + gamma * (expected * ~terminal)) * ~terminal[:, None]
    np.testing.assert_allclose(values.q, q, atol=1e-9)
    np.testing.assert_allclose((policy * values.q).sum(axis=1), values.v, atol=1e-9)


def test_values_of_a_policy_are_the_returns_that_it_gets():
    """The mean of 4,000 played episodes, within 4 standard errors."""
    import gymnasium

    mdp = MDP.from_env("FrozenLake-v1")
    plan = value_iteration(mdp, 0.9)
    env = gymnasium.make("FrozenLake-v1", max_episode_steps=1000)
    returns = []
    state, _ = env.reset(seed=0)
    for _ in range(4000):
        discount, total, done = 1.0, 0.0, False
        while not done:
            state, reward, terminated, truncated, _ = env.step(int(plan.policy[state]))
            total, discount, done = total + discount * reward, discount * 0.9, terminated or truncated
        returns.append(total)
        state, _ = env.reset()
    error = np.std(returns) / np.sqrt(len(returns))
    assert abs(np.mean(returns) - policy_values(mdp, plan.policy, 0.9).v[0]) < 4 * error
    assert error < 0.01


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([0.3, 0.8, 0.95]), st.booleans(), st.integers(0, 6))
def test_bounds_hold_and_methods_agree(seed, gamma, ends, sweeps):
    P, R, terminal = random_mdp(seed, ends=ends)
    mdp = MDP.from_arrays(P, R, terminal=terminal)
    best = by_linear_programming(mdp, gamma)
    plans = [
        value_iteration(mdp, gamma, tolerance=1e-2),
        value_iteration(mdp, gamma, tolerance=1e-2, sweeps_by="jacobi"),
        value_iteration(mdp, gamma, tolerance=1e-2, sweeps_by="gauss-seidel"),
        policy_iteration(mdp, gamma, tolerance=1e-2),
        policy_iteration(mdp, gamma, tolerance=1e-2, evaluation="iterate"),
        modified_policy_iteration(mdp, gamma, tolerance=1e-2, sweeps=sweeps),
    ]
    for plan in plans:
        assert plan.converged
        assert plan.bound <= 1e-2
        assert np.abs(plan.v - best).max() <= plan.bound + 1e-6  # the linear program's own tolerance
        got = policy_values(mdp, plan.policy, gamma, method="solve").v
        assert (best - got).max() <= plan.loss + 1e-6
        assert (best - got).min() >= -1e-6  # none is better than the optimum
        np.testing.assert_array_equal(plan.v, plan.q.max(axis=1))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.floats(0, 0.99))
def test_the_operator_contracts_and_rises(seed, gamma):
    P, R, terminal = random_mdp(seed)
    mdp = MDP.from_arrays(P, R, terminal=terminal)
    rng = np.random.default_rng(seed)
    u, w = rng.normal(size=(2, 6))
    u[-1] = w[-1] = 0
    upper = np.maximum(u, w)
    after = [planning.backup(mdp, gamma, x).max(axis=1) for x in (u, w, upper)]
    assert np.abs(after[0] - after[1]).max() <= gamma * np.abs(u - w).max() + 1e-12
    assert (after[2] >= np.maximum(after[0], after[1]) - 1e-12).all()
    sweeps = value_iteration(mdp, gamma, tolerance=1e-6, sweeps_by="jacobi").history
    assert all(b <= gamma * a + 1e-12 for a, b in itertools.pairwise(sweeps))


def test_where_nothing_ends_a_shift_saves_most_sweeps():
    """Jacobi's sweeps alone need log(tolerance * (1 - gamma) / change) / log(gamma) of them; the values are the same."""
    P, R, _ = random_mdp(0, states=50, ends=False)
    mdp = MDP.from_arrays(P, R)
    fast = value_iteration(mdp, 0.99, tolerance=1e-6)
    plain = value_iteration(mdp, 0.99, tolerance=1e-6, sweeps_by="gauss-seidel")
    assert fast.converged
    assert np.abs(fast.v - plain.v).max() <= fast.bound + plain.bound
    assert fast.sweeps < plain.sweeps / 5
    assert fast.residual <= fast.history[-1] + 1e-12


def test_the_maximum_is_over_actions_not_over_where_they_may_lead():
    """ERRATA M:345. An action that leads to riches with chance 0.1 is worth a tenth of them, and the sure half is better."""
    P = np.zeros((3, 2, 3))
    P[0, 0] = [0, 0.1, 0.9]  # 1 in 10: to the reward of 1
    P[0, 1] = [0, 0, 1]
    P[1:, :, 2] = 1
    R = np.zeros((3, 2))
    R[0, 1], R[1] = 0.5, 1.0
    plan = value_iteration(MDP.from_arrays(P, R, terminal=np.array([False, False, True])), 1.0)
    np.testing.assert_allclose(plan.v, [0.5, 1.0, 0.0])
    np.testing.assert_allclose(plan.q[0], [0.1, 0.5])
    assert plan.policy[0] == 1


def test_without_discount_the_policy_still_gets_to_the_end():
    """On ice that does not slip every way that avoids holes is worth 1: the plan must choose one that arrives."""
    import gymnasium

    mdp = MDP.from_env(lambda: gymnasium.make("FrozenLake-v1", is_slippery=False))
    for method in METHODS:
        plan = method(mdp, 1.0)
        assert plan.bound == np.inf
        np.testing.assert_allclose(policy_values(mdp, plan.policy, 1.0).v[[0, 1, 2, 14]], 1)


def test_a_finite_horizon_is_what_backward_steps_by_hand_give():
    P, R, _ = random_mdp(3, states=4, ends=False)
    mdp = MDP.from_arrays(P, R)
    plan = finite_horizon(mdp, 3, 0.8)
    v = np.zeros(4)
    for t in (2, 1, 0):
        q = np.einsum("sat,sat->sa", P, R + 0.8 * v)
        v = q.max(axis=1)
        np.testing.assert_allclose(plan.v[t], v)
        np.testing.assert_array_equal(plan.policy[t], q.argmax(axis=1))
    np.testing.assert_allclose(plan.q, q)
    assert (plan.v[3] == 0).all()


def test_a_horizon_changes_what_is_best():
    """A reward of 10 three steps away, or 1 at once, ever again: with 2 steps left the near one, with 3 the far one."""
    P = np.zeros((4, 2, 4))
    P[0, 0, 0] = P[0, 1, 1] = P[1, :, 2] = P[2, :, 3] = P[3, :, 3] = 1
    R = np.zeros((4, 2))
    R[0, 0], R[2] = 1, 10
    plan = finite_horizon(MDP.from_arrays(P, R), 3)
    assert plan.policy[:, 0].tolist() == [1, 0, 0]
    assert plan.v[:, 0].tolist() == [10, 2, 1, 0]


def test_hundred_steps_on_frozen_lake():
    """The success of the best policy under the environment's own time limit lies below 14/17 and rises with the horizon."""
    mdp = MDP.from_env("FrozenLake-v1")
    successes = finite_horizon(mdp, 400).v[::-1, 0]
    assert (np.diff(successes) >= 0).all()
    assert successes[100] == pytest.approx(0.7442, abs=5e-4)
    assert successes[400] < 14 / 17


@pytest.mark.parametrize("method", METHODS)
def test_gamma_one_needs_an_end(method):
    P, R, _ = random_mdp(0, ends=False)
    with pytest.raises(
        ConfigError, match=r"gamma=1 needs episodes that end, and from 6 of 6 states \(0, 1, 2, 3, 4, \.\.\.\)"
    ):
        method(MDP.from_arrays(P, R), 1.0)
    with pytest.raises(ConfigError, match=r"gamma must be from 0 to 1, got 1\.5"):
        method(MDP.from_arrays(P, R), 1.5)


def endless_gain():
    """Staying is rewarded, and the end could be reached."""
    P = np.zeros((2, 2, 2))
    P[0, 0, 0] = P[0, 1, 1] = P[1, :, 1] = 1
    return MDP.from_arrays(P, np.array([[1.0, 0.0], [0.0, 0.0]]), terminal=np.array([False, True]))


def test_a_gain_without_end_is_told():
    with pytest.warns(
        ConvergenceWarning, match="after 50 sweeps with a residual of 1, which with gamma=1 bounds nothing"
    ):
        plan = value_iteration(endless_gain(), 1.0, max_sweeps=50)
    assert not plan.converged
    with pytest.raises(ConfigError, match="from state 0 it never ends, and is rewarded 1 a step"):
        policy_iteration(endless_gain(), 1.0)
    with pytest.raises(ConfigError, match="from state 0 it never ends"):
        policy_values(endless_gain(), [0, 0], 1.0)


def test_too_few_sweeps_are_told_with_their_bound():
    with pytest.warns(ConvergenceWarning, match=r"after 2 sweeps with a residual of .* bounds the error by") as told:
        plan = value_iteration(chain(), 0.9, tolerance=1e-9, max_sweeps=2)
    assert not plan.converged
    assert plan.sweeps == len(plan.history) == 2
    assert f"{plan.bound:.3g}" in str(told[0].message)
    assert abs(plan.v[0] - 1 / (1 - 0.9 * 0.75)) <= plan.bound
    with pytest.warns(ConvergenceWarning, match="still change by 0.675 after 2 sweeps"):
        policy_values(chain(), [0, 0], 0.9, method="iterate", max_sweeps=2)


def test_policies_that_are_none_are_refused():
    mdp = chain()
    for policy, message in (
        ([0, 3], "action 3 in state 1, and there are 1 actions"),
        ([0.0, 0.0], r"shape \(2,\) and type float64"),
        ([[0.5], [1.0]], r"in state 0 is \[0\.5\]"),
        ([[1.0], [np.nan]], r"in state 1 is \[nan\]"),
    ):
        with pytest.raises(DataError, match=message):
            policy_values(mdp, np.array(policy), 0.9)


def test_parameters_that_cannot_be():
    mdp = chain()
    with pytest.raises(ConfigError, match="tolerance must be more than 0, got 0"):
        value_iteration(mdp, 0.9, tolerance=0)
    with pytest.raises(ConfigError, match="max_sweeps must be at least 1, got 0"):
        policy_iteration(mdp, 0.9, max_sweeps=0)
    with pytest.raises(ConfigError, match="sweeps must be at least 0, got -1"):
        modified_policy_iteration(mdp, 0.9, sweeps=-1)
    with pytest.raises(ConfigError, match=r"sweeps_by must be .* got 'chaos'"):
        value_iteration(mdp, 0.9, sweeps_by="chaos")
    with pytest.raises(ConfigError, match=r"method must be .* got 'guess'"):
        policy_values(mdp, [0, 0], 0.9, method="guess")
    with pytest.raises(ConfigError, match="horizon must be at least 1, got 0"):
        finite_horizon(mdp, 0)


def test_a_horizon_beyond_the_memory_is_refused(monkeypatch):
    monkeypatch.setattr("konspekt.core.memory.available_memory", lambda: 1000)
    with pytest.raises(ResourceError, match="a plan of 100 steps for 2 states needs"):
        finite_horizon(chain_in_memory, 100)


chain_in_memory = chain()


def test_large_tables_are_iterated_and_small_ones_solved(monkeypatch):
    P, R, terminal = random_mdp(1)
    mdp = MDP.from_arrays(P, R, terminal=terminal)
    assert policy_values(mdp, np.zeros(6, int), 0.9).sweeps == 0
    monkeypatch.setattr(evaluating, "SOLVED", 5)
    values = policy_values(mdp, np.zeros(6, int), 0.9)
    assert values.sweeps > 0
    assert values.bound <= 1e-8
