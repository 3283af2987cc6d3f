"""Policies that explore: frequencies against probabilities, and schedules against their closed forms."""

from dataclasses import dataclass

import numpy as np
import pytest
from scipy import stats

from konspekt.core.errors import ConfigError
from konspekt.rl.exploration import Exploring, draw, epsilon_greedy, probabilities, softmax

Q = np.array([[1.0, 3.0, 2.0, 0.0]])


@dataclass(kw_only=True, eq=False, repr=False)
class Explorer(Exploring):
    pass


def test_the_probabilities_are_those_of_the_formulas():
    greedy = probabilities(Q, "epsilon-greedy", 0.2)
    np.testing.assert_allclose(greedy, [[0.05, 0.85, 0.05, 0.05]])
    soft = probabilities(Q, "softmax", 2.0)
    np.testing.assert_allclose(soft, np.exp(Q / 2) / np.exp(Q / 2).sum())


@pytest.mark.parametrize(("policy", "rate"), [("epsilon-greedy", 0.3), ("epsilon-greedy", 1.0), ("softmax", 1.5)])
def test_actions_are_drawn_as_often_as_their_probabilities_say(policy, rate):
    many = np.repeat(Q, 20_000, axis=0)
    counts = np.bincount(draw(many, policy, rate, np.random.default_rng(1)), minlength=4)
    expected = probabilities(Q, policy, rate)[0] * len(many)
    assert stats.chisquare(counts, expected).pvalue > 1e-3


def test_without_chance_the_greatest_is_taken_and_the_first_of_equals():
    rng = np.random.default_rng(0)
    q = np.array([[0.0, 2.0, 2.0], [5.0, 1.0, 1.0]])
    for _ in range(20):
        np.testing.assert_array_equal(epsilon_greedy(q, 0.0, rng), [1, 0])
    np.testing.assert_array_equal(softmax(q[1:], 1e-3, rng), [0])


def test_each_row_has_its_own_draw():
    q = np.zeros((3000, 2))
    rng = np.random.default_rng(3)
    for actions in (epsilon_greedy(q, 1.0, rng), softmax(q, 1.0, rng)):
        assert 1350 < actions.sum() < 1650


def test_large_values_do_not_overflow():
    np.testing.assert_allclose(
        probabilities(np.array([[1e6, 1e6 - 1]]), "softmax", 1.0), [[0.7310586, 0.2689414]], rtol=1e-6
    )


@pytest.mark.parametrize(
    ("decay", "middle"),
    [("linear", 0.505), ("exponential", 0.1), ("constant", 0.01)],
)
def test_the_rate_goes_from_the_first_value_to_the_last(decay, middle):
    agent = Explorer(epsilon_start=1.0, epsilon=0.01, exploration=0.4, decay=decay)
    assert agent.rate(0.0) == (0.01 if decay == "constant" else 1.0)
    assert agent.rate(0.2) == pytest.approx(middle)
    assert agent.rate(0.4) == 0.01
    assert agent.rate(1.0) == 0.01


def test_a_softmax_policy_changes_its_temperature():
    agent = Explorer(policy="softmax", temperature_start=4.0, temperature=1.0, exploration=1.0, decay="exponential")
    assert agent.rate(0.5) == pytest.approx(2.0)


def test_an_exponential_way_to_0_is_refused():
    with pytest.raises(ConfigError, match=r"decay='exponential' never reaches 0: .*got 0\.0 and 1\.0"):
        Explorer(epsilon=0.0, decay="exponential").check_exploration()
    Explorer(epsilon=0.0, decay="exponential", policy="softmax").check_exploration()
