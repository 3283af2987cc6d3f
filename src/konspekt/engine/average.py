"""The running average of the weights, which is measured and saved in their place. Field `ema`; row A11.

Polyak and Juditsky 1992; as a moving average with a decay that grows at the start, as in TensorFlow's
ExponentialMovingAverage: min(decay, (1 + step) / (10 + step)).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn

__all__ = ["Average"]


class Average:
    """An average of a model's parameters and floating buffers; buffers of whole numbers are taken as they are."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        # What has two names, as tied weights have, is averaged once, or two swaps of it would undo each other.
        state: dict[str, Tensor] = {}
        seen: set[int] = set()
        for name, tensor in model.state_dict(keep_vars=True).items():
            if id(tensor) not in seen:
                state[name] = tensor
            seen.add(id(tensor))
        # Of weights that are shared out among processes each averages its share.
        self.live = {n: getattr(t, "_local_tensor", t) for n, t in state.items() if t.is_floating_point()}
        self.shadow = {n: t.detach().clone() for n, t in self.live.items()}

    @torch.no_grad()
    def follow(self, step: int) -> None:
        """Take in the weights after `step` steps."""
        keep = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(list(self.shadow.values()), [t.detach() for t in self.live.values()], 1 - keep)

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange the average and the live weights."""
        for name, live in self.live.items():
            kept = live.detach().clone()
            live.copy_(self.shadow[name])
            self.shadow[name].copy_(kept)

    @contextlib.contextmanager
    def shown(self) -> Iterator[None]:
        """Within: the model has the average as its weights."""
        self.swap()
        try:
            yield
        finally:
            self.swap()

    def state(self) -> dict[str, Tensor]:
        """The average."""
        return self.shadow

    @torch.no_grad()
    def load_state(self, state: dict[str, Tensor]) -> None:
        """Take back what `state` gave."""
        for name, shadow in self.shadow.items():
            shadow.copy_(state[name])
