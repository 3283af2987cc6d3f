"""Randomness that can be repeated: seeds made from seeds, and draws that belong to an item.

The order of a data set comes from (seed, epoch), the draws for an item from (seed, epoch, index), so neither depends
on workers, batch size or where a run was interrupted. The mixing function is splitmix64 (Steele, Lea and Flood 2014).
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["generator", "item_draws", "mix"]

_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15
_STEP = 0xD1B54A32D192ED03
_A, _B = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


def mix(*numbers: int) -> int:
    """One 63-bit seed out of several integers; their order matters."""
    state = 0
    for number in numbers:
        state = (state + _GOLDEN + (number & _MASK)) & _MASK
        state = ((state ^ (state >> 30)) * _A) & _MASK
        state = ((state ^ (state >> 27)) * _B) & _MASK
        state ^= state >> 31
    return state >> 1


def generator(*numbers: int) -> torch.Generator:
    """A generator on the CPU, seeded by `mix`."""
    return torch.Generator().manual_seed(mix(*numbers))


def _signed(number: int) -> int:
    return number - (1 << 64) if number >= 1 << 63 else number


def _shift(x: Tensor, by: int) -> Tensor:
    return (x >> by) & ((1 << (64 - by)) - 1)  # logical: torch's shift of int64 keeps the sign


def item_draws(seed: int, epoch: int, index: Tensor, count: int) -> Tensor:
    """Numbers from [0, 1) that belong to items: the same for an item whatever batch it is in.

    index (B,) int64 -> (B, count) float32, on the index's device.
    """
    start = mix(seed, epoch) & _MASK
    if index.device.type == "cpu":  # the same numbers; of a small batch NumPy's calls take a fraction of torch's
        items = index.detach().numpy().astype(np.uint64)[:, None]
        return torch.from_numpy(_draws(items, start, np.arange(1, count + 1, dtype=np.uint64)))
    return _tensor_draws(index, start, count)


def _tensor_draws(index: Tensor, start: int, count: int) -> Tensor:
    """What `item_draws` computes, by torch, on the index's device."""
    state = (index.long() * _signed(_GOLDEN) + _signed(start))[:, None]
    state = state + torch.arange(1, count + 1, device=index.device) * _signed(_STEP)
    state = (state ^ _shift(state, 30)) * _signed(_A)
    state = (state ^ _shift(state, 27)) * _signed(_B)
    state = state ^ _shift(state, 31)
    return _shift(state, 40).float() / (1 << 24)


def _draws(items: NDArray[np.uint64], start: int, numbers: NDArray[np.uint64]) -> NDArray[np.float32]:
    """What `item_draws` computes, in NumPy's unsigned integers."""
    state = items * np.uint64(_GOLDEN) + (numbers * np.uint64(_STEP) + np.uint64(start))
    state ^= state >> np.uint64(30)
    state *= np.uint64(_A)
    state ^= state >> np.uint64(27)
    state *= np.uint64(_B)
    state ^= state >> np.uint64(31)
    state >>= np.uint64(40)
    return state.astype(np.float32) / np.float32(1 << 24)
