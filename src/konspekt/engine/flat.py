"""A player's parameters as slices of one buffer, and their gradients as slices of another.

One tensor instead of many: the optimiser makes one call a group, clearing, clipping and the finite check are one
operation each. Element-wise optimisers compute the same as with separate tensors. Kernels of convolutions may lie with the
channels last, for which torch's CPU and GPU kernels are faster; the nets' inputs follow by themselves.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor, nn

from konspekt.core.errors import ConfigError

__all__ = ["FlatParameters", "room"]

SHARED = 8  # elements after the gradient, in the same buffer: numbers that processes add up together with it
_ALIGN = 16  # elements: 64 bytes of float32, a cache line, so that vectorised kernels start aligned


class FlatParameters:
    """Lay out the parameters of torch parameter groups in one buffer.

    groups: dicts with "params" and, if need be, "lr_scale" (default 1) and "decay" (default False).
    merge: make one group for the optimiser of those that differ in "decay" only, as each costs a call a step; the
        penalties find their slices in `decayed`.
    channels_last: kernels of convolutions, (O, I, H, W), to be laid out as (O, H, W, I).

    weights, gradient: (P,). buffer: the gradient, and behind it `shared`, (8,), which one sum over processes takes along.

    Raises ConfigError where a player moves nothing, or where types or devices are mixed.
    """

    def __init__(
        self, player: str, groups: list[dict[str, Any]], *, merge: bool, channels_last: Collection[Tensor] = ()
    ) -> None:
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
        size = sum(self._room(p) for p in seen)
        self.weights = torch.zeros(size, dtype=dtype, device=device)
        self.buffer = torch.zeros(size + SHARED, dtype=dtype, device=device)
        self.gradient, self.shared = self.buffer[:size], self.buffer[size:]
        self._last = {id(p) for p in channels_last}
        self.parameters: list[nn.Parameter] = []
        self.slices: list[slice] = []  # where each of them is
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
            laid = self._view(self.weights[here], p)
            laid.copy_(p.data)
            p.data = laid
            p.grad = self._view(self.gradient[here], p)
            self.slices.append(here)
            place += room(p)
        self.parameters += members
        return place

    def _room(self, p: nn.Parameter) -> int:
        return room(p)

    def pull(self) -> None:
        """Bring the gradients into the buffer, where they do not lie there anyway."""

    def push(self) -> None:
        """Bring the weights into the net, where they do not lie there anyway."""

    def read(self) -> None:
        """Bring the net's weights into the buffer, where they do not lie there anyway."""

    def gather(self, state: dict[str, Any]) -> dict[str, Any]:
        """An optimiser's `state_dict` as a checkpoint holds it."""
        return state

    def scatter(self, state: dict[str, Any]) -> dict[str, Any]:
        """The inverse of `gather`."""
        return state

    def _view(self, part: Tensor, p: nn.Parameter) -> Tensor:
        if id(p) not in self._last:
            return part.view(p.shape)
        o, i, h, w = p.shape
        return part.view(o, h, w, i).permute(0, 3, 1, 2)

    def release(self) -> None:
        """Give each parameter memory of its own again, without a gradient."""
        for p in self.parameters:
            p.data = p.data.clone(memory_format=torch.contiguous_format)
            p.grad = None


def room(p: Tensor) -> int:
    """How many elements of a buffer a tensor takes, with what aligns the next."""
    return -(-p.numel() // _ALIGN) * _ALIGN
