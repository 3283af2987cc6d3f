"""The numbers of the forward and backward pass: 32 bits, or 16 with the weights kept in 32. Field `precision`.

Micikevicius et al. 2018, https://arxiv.org/abs/1710.03740. bfloat16 has the range of float32 and needs no care. float16 has not:
small gradients vanish, so the loss is multiplied by a scale, the gradient divided by it, and a step whose gradient
overflowed is left out while the scale is halved; after 2000 steps without an overflow it is doubled.
"""

from __future__ import annotations

import contextlib
from typing import Any

import torch
from torch import Tensor

from konspekt.core.errors import ConfigError

__all__ = ["Precision"]

_START, _GROWTH = 2.0**16, 2000


class Precision:
    """How one fit computes.

    name: "32", "bf16" or "fp16".

    Raises ConfigError for fp16 on a device that is no CUDA GPU: a CPU is hundreds of times slower with it.
    """

    def __init__(self, name: str, device: torch.device) -> None:
        if name == "fp16" and device.type != "cuda":
            raise ConfigError(f"precision='fp16' needs a CUDA GPU, and this is {device}; use precision='bf16' or '32'")
        self.name, self.device = name, device
        self.scale = torch.full((), _START, device=device) if name == "fp16" else None
        self.calm = torch.zeros((), dtype=torch.int32, device=device)  # steps since the last overflow

    @property
    def reduced(self) -> bool:
        """Whether the pass is in 16 bits."""
        return self.name != "32"

    def pass_(self) -> contextlib.AbstractContextManager[Any]:
        """The context of a forward pass."""
        if not self.reduced:
            return contextlib.nullcontext()
        # The cache of weights in 16 bits lives as long as this context, so no step sees those of another.
        dtype = torch.bfloat16 if self.name == "bf16" else torch.float16
        return torch.autocast(self.device.type, dtype=dtype, cache_enabled=True)

    def unscale(self, gradient: Tensor) -> bool:
        """Divide a gradient by the scale; whether it overflowed, so that this step must be left out."""
        if self.scale is None:
            return False
        overflow = torch.zeros((), device=gradient.device)
        torch._amp_foreach_non_finite_check_and_unscale_([gradient], overflow, self.scale.double().reciprocal().float())
        torch._amp_update_scale_(self.scale, self.calm, overflow, 2.0, 0.5, _GROWTH)
        return bool(overflow)

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {} if self.scale is None else {"scale": float(self.scale), "calm": int(self.calm)}

    def load_state(self, state: dict[str, Any]) -> None:
        """Take back what `state` gave."""
        if self.scale is not None and state:
            self.scale.fill_(state["scale"])
            self.calm.fill_(state["calm"])
