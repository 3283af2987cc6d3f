"""Normalisation of a layer's outputs: over the batch, over the batch with corrections, over the features. Row A8.

Sources: Ioffe and Szegedy 2015, https://arxiv.org/abs/1502.03167 (batch normalisation); Ioffe 2017,
https://arxiv.org/abs/1702.03275 (batch renormalisation); Ba, Kiros and Hinton 2016, https://arxiv.org/abs/1607.06450
(layer normalisation). Course: document I, section 18, and H, 1.1.18. Mean and variance are taken for each feature over
the batch (and space), and running averages of them when predicting; the notes' retelling of H has the axes swapped.

Shape letters in this file: B batch, F features or channels, H, W height and width.
"""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from konspekt.core.errors import ConfigError, nearest
from konspekt.core.params import AtLeast, MoreThan, Within
from konspekt.core.registry import system

__all__ = ["BatchRenorm", "batch_norm", "batch_renorm", "layer_norm", "norm_layer"]


class BatchRenorm(nn.Module):
    """Batch normalisation whose training output agrees with its prediction, up to bounds.

    (B, F) -> (B, F) or (B, F, H, W) -> (B, F, H, W). In training

        y = ((x - mean_B) / std_B * r + d) * weight + bias
        r = clip(std_B / std, 1 / r_max, r_max),  d = clip((mean_B - mean) / std, -d_max, d_max)

    with the batch's mean_B and std_B, the running mean and std, and no gradient through r and d. Where nothing is
    clipped this is (x - mean) / std, which is what prediction computes; r_max=1, d_max=0 is batch normalisation.
    A training batch with a single value for each feature has no variance: it is normalised by the running statistics,
    which it leaves alone (torch's batch normalisation refuses it).

    Against the paper: the running average is of the unbiased variance, as in torch's BatchNorm, not of std, so that
    the two have the same state and predict alike; the running averages take a tenth of each batch, the paper's a hundredth.

    r_max: the bound of r, 1 or more.
    d_max: the bound of d, 0 or more.
    warmup: over that many batches the bounds grow linearly from 1 and 0; the paper keeps 1 and 0 for 5,000 steps and
        reaches 3 and 5 at 40,000 and 25,000.
    """

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def __init__(
        self,
        num_features: int,
        *,
        r_max: float = 3.0,
        d_max: float = 5.0,
        warmup: int = 0,
        momentum: float = 0.1,
        eps: float = 1e-5,
    ) -> None:
        super().__init__()
        self.num_features = num_features
        self.r_max = r_max
        self.d_max = d_max
        self.warmup = warmup
        self.momentum = momentum
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(num_features))
        self.bias = nn.Parameter(torch.zeros(num_features))
        self.register_buffer("running_mean", torch.zeros(num_features))
        self.register_buffer("running_var", torch.ones(num_features))
        self.register_buffer("num_batches_tracked", torch.zeros((), dtype=torch.long))

    def forward(self, x: Tensor) -> Tensor:
        """(B, F) -> (B, F) or (B, F, H, W) -> (B, F, H, W)."""
        count = x.numel() // self.num_features
        if not self.training or count <= 1:
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        with torch.no_grad():
            axes = [0, *range(2, x.dim())]
            var_F, mean_F = torch.var_mean(x.to(self.running_var.dtype), axes, correction=0)
            std_F = (self.running_var + self.eps).sqrt()
            r_max, d_max = self._bounds()
            r_F = ((var_F + self.eps).sqrt() / std_F).clamp(1 / r_max, r_max)
            d_F = ((mean_F - self.running_mean) / std_F).clamp(-d_max, d_max)
            self.running_mean.lerp_(mean_F, self.momentum)
            self.running_var.lerp_(var_F * (count / (count - 1)), self.momentum)
            self.num_batches_tracked += 1
        # weight * r and weight * d + bias as the affine part: one kernel, and autograd finds the gradient of `weight`
        scale_F, shift_F = self.weight * r_F, self.weight * d_F + self.bias
        return F.batch_norm(x, None, None, scale_F, shift_F, training=True, eps=self.eps)

    def _bounds(self) -> tuple[Tensor, Tensor]:
        done = self.running_var.new_ones(())
        if self.warmup:
            done = (self.num_batches_tracked.to(done.dtype) / self.warmup).clamp(max=1)
        return 1 + done * (self.r_max - 1), done * self.d_max

    def extra_repr(self) -> str:
        """What stands between the parentheses when the module is printed."""
        return (
            f"{self.num_features}, r_max={self.r_max}, d_max={self.d_max}, warmup={self.warmup}, "
            f"momentum={self.momentum}, eps={self.eps}"
        )


def _refuse_dimensions(name: str, dimensions: int) -> ConfigError:
    return ConfigError(f"norm {name!r}: dimensions must be 1 (rows of features) or 2 (images), got {dimensions!r}")


@system(name="batch", kind="layer", rows=("A8",), paper="https://arxiv.org/abs/1502.03167")
def batch_norm(
    num_features: int,
    dimensions: int = 1,
    *,
    momentum: Annotated[float, Within(0, 1)] = 0.1,
    eps: Annotated[float, MoreThan(0)] = 1e-5,
) -> nn.Module:
    """Batch normalisation: mean 0 and variance 1 for each feature over the batch, then a learned scale and shift.

    dimensions 1: (B, F) -> (B, F); dimensions 2: (B, F, H, W) -> (B, F, H, W). In training torch refuses a batch with a
    single value for each feature by a ValueError.

    momentum: how much of each batch goes into the running averages that prediction uses.

    Raises ConfigError where `dimensions` is neither 1 nor 2.
    """
    if dimensions == 1:
        return nn.BatchNorm1d(num_features, eps=eps, momentum=momentum)
    if dimensions == 2:
        return nn.BatchNorm2d(num_features, eps=eps, momentum=momentum)
    raise _refuse_dimensions("batch", dimensions)


@system(name="renorm", kind="layer", rows=("A8",), paper="https://arxiv.org/abs/1702.03275")
def batch_renorm(
    num_features: int,
    dimensions: int = 1,
    *,
    r_max: Annotated[float, AtLeast(1)] = 3.0,
    d_max: Annotated[float, AtLeast(0)] = 5.0,
    warmup: Annotated[int, AtLeast(0)] = 0,
    momentum: Annotated[float, Within(0, 1)] = 0.1,
    eps: Annotated[float, MoreThan(0)] = 1e-5,
) -> nn.Module:
    """Batch renormalisation, for small batches: as batch normalisation, corrected towards the running averages.

    dimensions 1: (B, F) -> (B, F); dimensions 2: (B, F, H, W) -> (B, F, H, W).

    r_max: the correction of the scale stays within 1/r_max and r_max.
    d_max: the correction of the shift stays within -d_max and d_max.
    warmup: over that many batches the bounds grow from those of batch normalisation.
    momentum: how much of each batch goes into the running averages.

    Raises ConfigError where `dimensions` is neither 1 nor 2.
    """
    if dimensions not in (1, 2):
        raise _refuse_dimensions("renorm", dimensions)
    return BatchRenorm(num_features, r_max=r_max, d_max=d_max, warmup=warmup, momentum=momentum, eps=eps)


@system(name="layer", kind="layer", rows=("A8",), paper="https://arxiv.org/abs/1607.06450")
def layer_norm(num_features: int, dimensions: int = 1, *, eps: Annotated[float, MoreThan(0)] = 1e-5) -> nn.Module:
    """Layer normalisation: mean 0 and variance 1 for each item over all its features; no batch is needed.

    dimensions 1: (..., F) -> (..., F); dimensions 2: (B, F, H, W) -> (B, F, H, W), over channels and space together, with
    a scale and a shift for each channel (a group normalisation of one group).

    Raises ConfigError where `dimensions` is neither 1 nor 2.
    """
    if dimensions == 1:
        return nn.LayerNorm(num_features, eps=eps)
    if dimensions == 2:
        return nn.GroupNorm(1, num_features, eps=eps)
    raise _refuse_dimensions("layer", dimensions)


def norm_layer(
    name: Literal["none", "batch", "renorm", "layer"], num_features: int, dimensions: int
) -> nn.Module | None:
    """The norm layer of this name for `num_features` features or channels; None for "none".

    dimensions: 1 for rows of features, 2 for images.

    Raises ConfigError on another name, with the nearest one, and where `dimensions` is neither 1 nor 2.
    """
    makers = {"batch": batch_norm, "renorm": batch_renorm, "layer": layer_norm}
    if name == "none":
        return None
    if name not in makers:
        raise ConfigError(f"{name!r} is not a norm layer; {nearest(name, ['none', *makers])}")
    return makers[name](num_features, dimensions)
