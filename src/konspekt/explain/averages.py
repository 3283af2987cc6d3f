"""A copy of a net in which what can reach a unit does: nothing cancels, nothing is switched off.

Whether the gradient of a unit by a pixel is zero then depends on the net's shape only. Course: row A17.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

__all__ = ["averaging_copy"]


def averaging_copy(net: nn.Module) -> nn.Module:
    """A copy in float64 and evaluation that averages where the net weighs, chooses or normalises.

    Weights become 1 / fan-in, biases 0, other parameters 1; batch norm lets pass what comes; local response norm does
    too; maxima become means. Differences and quotients become sums: what inhibits a unit, as in the neocognitron, still
    reaches it, but cannot silence it, nor cancel. On images that are not negative, a unit's gradient by a pixel then is
    positive exactly where the pixel is in the unit's receptive field. The net given is not changed.
    """
    inner = copy.deepcopy(net).double().eval()
    with torch.no_grad():
        for module in inner.modules():
            for name, p in module.named_parameters(recurse=False):
                p.requires_grad_(False)
                fan_in = p[0].numel() if p.ndim > 1 else 1
                if isinstance(module, nn.modules.conv._ConvTransposeNd):
                    fan_in = p.numel() // module.out_channels
                p.fill_(0.0 if "bias" in name else 1.0 / max(fan_in, 1))
            for name, value in (("running_mean", 0.0), ("running_var", 1.0)):
                statistic = getattr(module, name, None)
                if isinstance(statistic, Tensor):
                    statistic.fill_(value)
    return _Averaging(inner)


class _Averaging(nn.Module):
    """Runs the net that it holds with means in the place of maxima, and sums in that of differences and quotients."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Any:
        with _Means():
            return self.net(x)


_SUMS: dict[str, Any] = {
    **dict.fromkeys(("sub", "subtract", "rsub", "__rsub__", "div", "divide", "true_divide", "__rdiv__"), torch.add),
    **dict.fromkeys(("sub_", "subtract_", "div_", "divide_", "true_divide_"), torch.Tensor.add_),
}


class _Means(TorchFunctionMode):
    """Maxima become means, differences and quotients sums, local response norm nothing, wherever they are called."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if name in ("max_pool2d", "max_pool2d_with_indices"):
            return _pooled(*args, **kwargs)
        if name in ("adaptive_max_pool2d", "adaptive_max_pool2d_with_indices"):
            return F.adaptive_avg_pool2d(args[0], kwargs.get("output_size", args[1] if len(args) > 1 else 1))
        if name == "amax":
            return torch.mean(*args, **kwargs)
        if name == "local_response_norm":
            return args[0]
        if name in _SUMS and "rounding_mode" not in kwargs and _from_image(*args, *kwargs.values()):
            return _SUMS[name](*args, **kwargs)
        return func(*args, **kwargs)


def _from_image(*values: Any) -> bool:
    """Whether one of them does; a grid of places, for example, does not, and must stay as it is."""
    return any(isinstance(v, Tensor) and v.requires_grad for v in values)


def _pooled(
    x: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Tensor:
    """The mean over each window, with the arguments of F.max_pool2d."""
    if dilation in (1, (1, 1), [1, 1]):
        return F.avg_pool2d(x, kernel_size, stride or kernel_size, padding, ceil_mode)
    pair = [(v, v) if isinstance(v, int) else tuple(v) for v in (kernel_size, stride or kernel_size, padding, dilation)]
    (kh, kw), step, pad, apart = pair
    weight = x.new_full((x.shape[1], 1, kh, kw), 1 / (kh * kw))
    return F.conv2d(x, weight, None, step, pad, apart, x.shape[1])
