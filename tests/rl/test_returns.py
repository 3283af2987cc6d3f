"""Returns and advantages, by hand and against the definition."""

import numpy as np
import pytest

from konspekt.rl.returns import discounted, gae


def test_discounted_returns_are_the_sums() -> None:
    rewards = np.random.default_rng(0).normal(size=50)
    by_hand = [sum(0.9**k * r for k, r in enumerate(rewards[t:])) + 0.9 ** (50 - t) * 7 for t in range(50)]
    np.testing.assert_allclose(discounted(rewards, 0.9, 7.0), by_hand, rtol=1e-12)
    np.testing.assert_allclose(discounted(np.ones(4), 1.0), [4, 3, 2, 1])
    assert discounted(np.zeros(0), 0.9).shape == (0,)


def test_what_was_truncated_is_worth_its_value_and_what_was_terminated_nothing() -> None:
    # One step each: reward 1, V(s) = 2, V of what it led to = 10, gamma 0.5.
    one = np.ones((1, 3))
    terminated, ended = np.array([[True, False, False]]), np.array([[True, True, False]])
    advantage = gae(one, 2 * one, 10 * one, terminated, ended, 0.5, 1.0)
    assert advantage.tolist() == [[1 - 2, 1 + 5 - 2, 1 + 5 - 2]]


def test_no_sum_goes_over_the_end_of_an_episode() -> None:
    # gamma 0.5, lam 1; step 0 is truncated to a state of value 8, step 1 begins a new episode, step 2 is terminated.
    reward = np.array([[1.0], [2.0], [4.0]])
    value = np.array([[0.5], [0.25], [1.0]])
    next_value = np.array([[8.0], [1.0], [99.0]])
    terminated, ended = np.array([[False], [False], [True]]), np.array([[True], [False], [True]])
    advantage = gae(reward, value, next_value, terminated, ended, 0.5, 1.0)
    assert advantage.ravel().tolist() == [1 + 0.5 * 8 - 0.5, 2 + 0.5 * 4 - 0.25, 4 - 1]


def test_both_flags_at_once_count_as_terminated() -> None:
    flag = np.array([[True]])
    assert gae(np.ones((1, 1)), np.zeros((1, 1)), np.full((1, 1), 5.0), flag, flag, 0.9, 1.0).item() == 1


@pytest.mark.parametrize("lam", [0.0, 0.7, 1.0])
def test_gae_is_the_weighted_mean_of_n_step_advantages(lam: float) -> None:
    rng = np.random.default_rng(2)
    steps = 6
    reward, value, after = (rng.normal(size=(steps, 1)) for _ in range(3))
    after[:-1] = value[1:]
    none = np.zeros((steps, 1), bool)
    advantage = gae(reward, value, after, none, none, 0.9, lam)
    discount = 0.9 ** np.arange(steps)
    each = [  # r_0 + gamma r_1 + ... + gamma^n V(s_n) - V(s_0)
        discount[:n] @ reward[:n, 0] + 0.9**n * after[n - 1, 0] - value[0, 0] for n in range(1, steps + 1)
    ]
    weights = [(1 - lam) * lam ** (n - 1) for n in range(1, steps)] + [lam ** (steps - 1)]
    assert advantage[0, 0] == pytest.approx(np.dot(weights, each))


@pytest.mark.parametrize("lam", [0.0, 0.6, 1.0])
def test_gae_is_the_discounted_sum_of_residuals(lam: float) -> None:
    # Schulman et al. 2016, equation 16: A_t = sum over l of (gamma lam)^l delta_(t+l), up to the end of the episode.
    rng = np.random.default_rng(4)
    steps, gamma = 12, 0.9
    reward, value, after = (rng.normal(size=(steps, 3)) for _ in range(3))
    terminated = rng.random((steps, 3)) < 0.15
    ended = terminated | (rng.random((steps, 3)) < 0.15)
    assert terminated[:-1].any()
    assert (ended & ~terminated)[:-1].any()
    got = gae(reward, value, after, terminated, ended, gamma, lam)
    for i in range(3):
        for t in range(steps):
            total = 0.0
            for place in range(t, steps):
                beyond = 0.0 if terminated[place, i] else after[place, i]
                total += (gamma * lam) ** (place - t) * (reward[place, i] + gamma * beyond - value[place, i])
                if ended[place, i]:
                    break
            assert got[t, i] == pytest.approx(total, abs=1e-12)
