"""A player's parameters as slices of one buffer, and their gradients as slices of another.

One tensor instead of many: the optimiser makes one call a group, clearing, clipping and the finite check are one
operation each. Element-wise optimisers compute the same as with separate tensors.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from konspekt.core.errors import ConfigError

__all__ = ["FlatParameters"]

_ALIGN = 16  # elements: 64 bytes of float32, a cache line, so that vectorised kernels start aligned


class FlatParameters:
    """Lay out the parameters of torch parameter groups in one buffer.

    groups: dicts with "params" and, if need be, "lr_scale" (default 1) and "decay" (default False).
    merge: make one group for the optimiser of those that differ in "decay" only, as each costs a call a step; the
        penalties find their slices in `decayed`.

    Raises ConfigError where a player moves nothing, or where types or devices are mixed.
    """

    def __init__(self, player: str, groups: list[dict[str, Any]], *, merge: bool) -> None:
        parts: dict[tuple[float, bool], list[nn.Parameter]] = {}
        seen: set[nn.Parameter] = set()
        for group in groups:
            fresh = [p for p in dict.fromkeys(group["params"]) if p.requires_grad and p not in seen]
            seen.update(fresh)
            if fresh:
                parts.setdefault((group.get("lr_scale", 1.0), group.get("decay", False)), []).extend(fresh)
        if not seen:
            raise ConfigError(f"player {player!r} has no parameter that it may move")
        kinds = {(p.dtype, p.device) for p in seen}
        if len(kinds) > 1:
            raise ConfigError(f"player {player!r}: parameters of one player must share type and device, got {kinds}")
        dtype, device = kinds.pop()
        size = sum(_room(p) for p in seen)
        self.weights = torch.zeros(size, dtype=dtype, device=device)
        self.gradient = torch.zeros_like(self.weights)
        self.parameters: list[nn.Parameter] = []
        self.groups: list[dict[str, Any]] = []
        self.decayed: list[tuple[Tensor, Tensor, int]] = []  # weights, gradient, which of the groups
        place = 0
        scales = dict.fromkeys(scale for scale, _ in parts)
        for members in [[k for k in parts if k[0] == s] for s in scales] if merge else [[k] for k in parts]:
            made: dict[str, Any] = {"lr_scale": members[0][0], "decay": members[0][1] if not merge else None}
            start = place
            for key in members:
                begin = place
                place = self._lay(parts[key], place)
                if key[1]:
                    self.decayed.append((self.weights[begin:place], self.gradient[begin:place], len(self.groups)))
            made["params"] = [nn.Parameter(self.weights[start:place])]
            made["params"][0].grad = self.gradient[start:place]
            self.groups.append(made)

    def _lay(self, members: list[nn.Parameter], place: int) -> int:
        """Move parameters into the buffer, from `place` on; returns where the next begin."""
        for p in members:
            here = slice(place, place + p.numel())
            self.weights[here] = p.data.reshape(-1)
            p.data = self.weights[here].view_as(p)
            p.grad = self.gradient[here].view_as(p)
            place += _room(p)
        self.parameters += members
        return place

    def release(self) -> None:
        """Give each parameter memory of its own again, without a gradient."""
        for p in self.parameters:
            p.data = p.data.clone()
            p.grad = None


def _room(p: nn.Parameter) -> int:
    return -(-p.numel() // _ALIGN) * _ALIGN
