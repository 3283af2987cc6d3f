"""Standardisation as a layer, so that a saved or exported net takes the raw numbers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

__all__ = ["Standardise"]


class Standardise(nn.Module):
    """(x - mean) / std for each channel, with statistics that are set once and saved with the weights.

    x (B, C, ...) of any dtype -> (B, C, ...) float. mean, std: (C,), in the units of x.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float], dimensions: int = 2) -> None:
        super().__init__()
        shape = (-1, *[1] * dimensions)
        self.register_buffer("mean", torch.tensor(list(mean), dtype=torch.float32).reshape(shape))
        self.register_buffer("std", torch.tensor(list(std), dtype=torch.float32).reshape(shape))

    def forward(self, x: Tensor) -> Tensor:
        return (x.to(self.mean.dtype) - self.mean) / self.std
