import json

import numpy as np
import pytest
import torch

from konspekt.core.errors import DataError
from konspekt.rl.running_stats import RewardScale, RunningStats


@pytest.mark.parametrize("sizes", [(1, 1, 1, 5), (100,), (0, 3, 0, 40)])
def test_batches_give_mean_and_variance_of_all(sizes):
    rng = np.random.default_rng(0)
    batches = [rng.normal(1e3, 2, (n, 3)) for n in sizes]
    stats = RunningStats((3,))
    for batch in batches:
        stats.update(batch)
    every = np.concatenate(batches)
    assert stats.count == len(every)
    np.testing.assert_allclose(stats.mean, every.mean(0), rtol=1e-13)
    np.testing.assert_allclose(stats.variance, every.var(0), rtol=1e-9)


def test_two_parts_merge_to_the_whole():
    rng = np.random.default_rng(1)
    one, other, whole = RunningStats((2, 2)), RunningStats((2, 2)), RunningStats((2, 2))
    a, b = rng.normal(size=(7, 2, 2)), rng.normal(5, 1, size=(9, 2, 2))
    one.update(a)
    other.update(b)
    whole.update(np.concatenate([a, b]))
    one.merge(other)
    np.testing.assert_allclose(one.mean, whole.mean)
    np.testing.assert_allclose(one.variance, whole.variance)
    one.merge(RunningStats((2, 2)))
    assert one.count == 16


def test_normalised_values_have_mean_0_and_variance_1_and_are_clipped():
    values = np.random.default_rng(2).normal(3, 4, (1000, 2))
    values[0] = 1e6
    stats = RunningStats((2,))
    stats.update(values[1:])
    scaled = stats.normalise(values, clip=5)
    assert scaled.dtype == np.float32
    np.testing.assert_allclose(scaled[1:].mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(scaled[1:].std(0), 1, atol=1e-5)
    assert (scaled[0] == 5).all()


def test_before_the_first_value_nothing_is_scaled():
    np.testing.assert_allclose(RunningStats((2,)).normalise([[1.0, -2.0]]), [[1, -2]], rtol=1e-6)
    stats = RunningStats((2,))
    stats.update(np.zeros((0, 2)))
    assert stats.count == 0


def test_a_constant_is_no_division_by_nothing():
    stats = RunningStats()
    stats.update([4.0, 4.0, 4.0])
    assert stats.variance == 0
    assert stats.normalise([4.0]) == 0
    assert np.isfinite(stats.normalise([5.0])).all()


def test_a_state_goes_on_to_the_bit():
    rng = np.random.default_rng(3)
    stats = RunningStats((3,))
    stats.update(rng.normal(size=(5, 3)))
    again = RunningStats((3,))
    again.load_state(stats.state())
    json.dumps(again.state()["count"])
    assert all(isinstance(again.state()[name], torch.Tensor) for name in ("mean", "squares"))
    more = rng.normal(size=(6, 3))
    stats.update(more)
    again.update(more)
    assert np.array_equal(stats.mean, again.mean)
    assert np.array_equal(stats.variance, again.variance)
    with pytest.raises(DataError, match=r"have the shape \(3,\), where \(4,\) is needed"):
        RunningStats((4,)).load_state(stats.state())


def test_rewards_are_divided_by_the_deviation_of_the_discounted_return():
    rng = np.random.default_rng(4)
    rewards, ended = rng.normal(1, 3, (50, 2)), rng.random((50, 2)) < 0.1
    scale, returns, sums = RewardScale(2, 0.9), [], np.zeros(2)
    for reward, end in zip(rewards, ended, strict=True):
        got = scale(reward, end, clip=None)
        sums = sums * 0.9 + reward
        returns.extend(sums)
        np.testing.assert_allclose(got, reward / np.sqrt(np.var(returns) + 1e-8), rtol=1e-5)
        sums = np.where(end, 0, sums)


def test_the_scale_of_rewards_goes_on_from_a_state():
    rng = np.random.default_rng(5)
    one, other = RewardScale(3, 0.99), RewardScale(3, 0.99)
    for _ in range(5):
        one(rng.normal(size=3), np.zeros(3, bool))
    other.load_state(one.state())
    reward = rng.normal(size=3)
    assert np.array_equal(one(reward, [True, False, False]), other(reward, [True, False, False]))
    with pytest.raises(DataError, match="returns are those of 3 environments, where there are 2"):
        RewardScale(2, 0.99).load_state(one.state())
