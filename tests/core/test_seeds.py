"""Seeds against the published values of splitmix64, and draws of items by their statistics."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from konspekt.core.seeds import _tensor_draws, generator, item_draws, mix

MASK = (1 << 64) - 1


def splitmix64(state):
    """Steele, Lea and Flood 2014, figure 15, in Python's integers: the next state and the output."""
    state = (state + 0x9E3779B97F4A7C15) & MASK
    return state, finish(state)


def finish(z):
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def test_one_number_is_mixed_as_by_splitmix64():
    published = 6457827717110365317  # the first output for the seed 1234567
    assert splitmix64(1234567)[1] == published
    assert mix(1234567) == published >> 1


@given(st.lists(st.integers(-(2**70), 2**70), max_size=4))
@settings(max_examples=50, deadline=None, database=None, derandomize=True)
def test_a_seed_is_a_63_bit_number_that_torch_and_numpy_take(numbers):
    seed = mix(*numbers)
    assert 0 <= seed < 2**63
    assert torch.Generator().manual_seed(seed).initial_seed() == seed
    assert np.random.default_rng(seed) is not None


def test_order_and_count_of_the_numbers_matter():
    seeds = {mix(), mix(0), mix(0, 0), mix(1), mix(1, 0), mix(0, 1), mix(1, 2), mix(2, 1), mix(1, 2, 3), mix(3, 2, 1)}
    assert len(seeds) == 10
    assert mix(5, 7) == mix(5, 7)


def test_generator_repeats_and_leaves_the_callers_alone():
    before = torch.get_rng_state()
    assert torch.equal(torch.rand(5, generator=generator(1, 2)), torch.rand(5, generator=generator(1, 2)))
    assert not torch.equal(torch.rand(5, generator=generator(1, 2)), torch.rand(5, generator=generator(2, 1)))
    item_draws(1, 2, torch.arange(4), 3)
    assert torch.equal(before, torch.get_rng_state())


def test_item_draws_against_whole_numbers_of_python():
    seed, epoch, index = 3, 5, [0, 1, 7, 10**12]
    expected = [
        [
            (finish((i * 0x9E3779B97F4A7C15 + mix(seed, epoch) + j * 0xD1B54A32D192ED03) & MASK) >> 40) / 2**24
            for j in (1, 2, 3)
        ]
        for i in index
    ]
    assert item_draws(seed, epoch, torch.tensor(index), 3).tolist() == expected


@given(st.integers(0, 2**40), st.integers(0, 1000), st.integers(1, 30), st.integers(0, 2**32))
@settings(max_examples=30, deadline=None, database=None, derandomize=True)
def test_an_items_draws_do_not_depend_on_its_batch(seed, epoch, count, first):
    index = torch.arange(first, first + 12)
    whole = item_draws(seed, epoch, index, count)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(epoch))
    assert torch.equal(item_draws(seed, epoch, index[order], count), whole[order])
    assert torch.equal(item_draws(seed, epoch, index[3:4], count), whole[3:4])
    assert torch.equal(item_draws(seed, epoch, index.int() if first < 2**31 - 12 else index, count), whole)
    # and fewer draws are the first of more
    assert torch.equal(item_draws(seed, epoch, index, count + 2)[:, :count], whole)


def test_item_draws_are_uniform_on_0_to_1():
    draws = item_draws(0, 1, torch.arange(20_000), 4)
    assert draws.dtype == torch.float32
    assert draws.min() >= 0
    assert draws.max() < 1
    for column in draws.double().T.numpy():
        assert stats.kstest(column, "uniform").pvalue > 1e-3


def test_item_draws_of_neighbours_columns_epochs_and_seeds_are_not_related():
    index = torch.arange(20_000)
    one = item_draws(0, 1, index, 2).double()
    pairs = [
        (one[:-1, 0], one[1:, 0]),
        (one[:, 0], one[:, 1]),
        (one[:, 0], item_draws(0, 2, index, 1)[:, 0].double()),
        (one[:, 0], item_draws(1, 1, index, 1)[:, 0].double()),
    ]
    for a, b in pairs:
        assert abs(torch.corrcoef(torch.stack([a, b]))[0, 1].item()) < 4 / np.sqrt(20_000)
        # pairs fill the unit square evenly, which a correlation alone would not say
        cells = torch.bincount((a * 8).long() * 8 + (b * 8).long(), minlength=64).numpy()
        assert stats.chisquare(cells).pvalue > 1e-3


@pytest.mark.parametrize("shape", [(0, 3), (4, 0)])
def test_empty_draws(shape):
    assert item_draws(0, 0, torch.arange(shape[0]), shape[1]).shape == shape


def test_torch_and_numpy_draw_the_same():
    index = torch.tensor([0, 1, 7, 2**40, 2**62])
    for seed, epoch, count in ((0, 0, 1), (3, 5, 4), (2**62, 9, 2)):
        assert torch.equal(item_draws(seed, epoch, index, count), _tensor_draws(index, mix(seed, epoch), count))
