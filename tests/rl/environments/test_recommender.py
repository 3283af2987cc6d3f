import itertools

import numpy as np
import pytest

from konspekt.core.errors import ConfigError
from konspekt.rl.environments.recommender import Recommender


def clicks(env, choose, episodes):
    """Clicks of each episode, of what chooses by the environment and the belief."""
    totals = []
    for seed in range(episodes):
        env.reset(seed=seed)
        belief, truncated, total = np.full(env.places, 1 / env.places), False, 0.0
        while not truncated:
            item = choose(env, belief)
            _, reward, terminated, truncated, _ = env.step(item)
            assert not terminated
            belief = env.believe(belief, item, reward == 1)
            total += reward
        totals.append(total)
    return np.array(totals)


def test_the_oracle_gets_the_optimum_and_one_item_what_it_is_said_to():
    env = Recommender()
    seeing = clicks(env, lambda e, _: e.chances[e.taste].argmax(), 150)
    assert abs(seeing.mean() - env.optimum()) < 4 * seeing.std() / np.sqrt(150)
    item, expected = env.best_fixed()
    always = clicks(env, lambda e, _: item, 150)
    assert abs(always.mean() - expected) < 4 * always.std() / np.sqrt(150)
    assert item == 0
    assert expected < 0.5 * env.optimum()


def test_who_remembers_stands_between():
    env = Recommender()
    believing = clicks(env, lambda e, belief: (belief @ e.chances).argmax(), 60)
    error = believing.std() / np.sqrt(60)
    assert env.best_fixed()[1] + 10 * error < believing.mean() < env.optimum() - 4 * error


def test_without_drift_the_closed_forms_hold():
    env = Recommender(items=2, drift=0, width=0.5, horizon=10)
    # places 0 to 5, items at 0 and 3; appeals 0.9 and 0.6
    near, far = np.exp(-((1 / 3 / 0.5) ** 2) / 2), np.exp(-((2 / 3 / 0.5) ** 2) / 2)
    most = np.exp(-((1 / 0.5) ** 2) / 2)
    first = 0.9 * np.array([1, near, far, most, far, near])
    second = 0.6 * np.array([most, far, near, 1, near, far])
    assert np.allclose(env.chances, np.stack([first, second], 1))
    assert env.optimum() == pytest.approx(10 * np.maximum(first, second).mean())
    assert env.best_fixed() == (0, pytest.approx(10 * first.mean()))
    env.reset(seed=0)
    taste = env.taste
    for _ in range(10):
        env.step(0)
    assert env.taste == taste


def test_beliefs_are_those_of_all_ways_that_the_taste_may_have_gone():
    env = Recommender(items=2, drift=0.3)
    seen = [(0, True), (1, False), (0, True)]
    weights = np.zeros(6)
    for start, moves in itertools.product(range(6), itertools.product((-1, 0, 1), repeat=3)):
        taste, weight = start, 1 / 6
        for (item, clicked), move in zip(seen, moves, strict=True):
            chance = env.chances[taste, item]
            weight *= (chance if clicked else 1 - chance) * (0.7 if move == 0 else 0.15)
            taste = (taste + move) % 6
        weights[taste] += weight
    belief = np.full(6, 1 / 6)
    for item, clicked in seen:
        belief = env.believe(belief, item, clicked)
    assert np.allclose(belief, weights / weights.sum())


def test_the_taste_drifts_as_often_as_it_is_said_to():
    env = Recommender(drift=0.25, horizon=4000)
    env.reset(seed=0)
    way = [env.taste]
    for _ in range(4000):
        env.step(0)
        way.append(env.taste)
    moved = np.diff(way) % env.places
    assert set(moved) == {0, 1, env.places - 1}
    assert np.mean(moved != 0) == pytest.approx(0.25, abs=0.03)
    assert np.mean(moved == 1) == pytest.approx(0.125, abs=0.025)


def test_what_is_seen():
    env = Recommender(items=3, memory=2)
    assert not env.reset(seed=0)[0].any()
    rows = []
    for item in (2, 0, 1):
        observation, reward, *_ = env.step(item)
        row = np.zeros(3)
        row[item] = 2 * reward - 1
        rows.append(row)
        assert np.array_equal(observation, np.concatenate([*rows[::-1], np.zeros(3)])[:6])
    env = Recommender(items=3, observations="discrete")
    assert env.reset(seed=0)[0] == 0
    for item in (2, 0, 1, 1, 1, 1):
        observation, reward, *_ = env.step(item)
        assert observation == 1 + 2 * item + reward


def test_what_is_wrong_is_named():
    with pytest.raises(ConfigError, match="drift must be from 0 to 1, got 2"):
        Recommender(drift=2)
    with pytest.raises(ConfigError, match="items must be an integer from 2 to 100, got 1"):
        Recommender(items=1)
