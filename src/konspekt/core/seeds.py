"""Randomness that can be repeated: seeds made from seeds, and draws that belong to an item.

The order of a data set comes from (seed, epoch), the draws for an item from (seed, epoch, index), so neither depends
on workers, batch size or where a run was interrupted. The mixing function is splitmix64 (Steele, Lea and Flood 2014).
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["generator", "item_draws", "mix"]

_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15
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
    start = mix(seed, epoch)
    state = (index.long() * _signed(_GOLDEN) + _signed(start & _MASK))[:, None]
    state = state + torch.arange(1, count + 1, device=index.device) * _signed(0xD1B54A32D192ED03)
    state = (state ^ _shift(state, 30)) * _signed(_A)
    state = (state ^ _shift(state, 27)) * _signed(_B)
    state = state ^ _shift(state, 31)
    return _shift(state, 40).float() / (1 << 24)
