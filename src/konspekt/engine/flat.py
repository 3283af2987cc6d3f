"""A player's parameters as slices of one buffer, and their gradients as slices of another.

One tensor instead of many: the optimiser makes one call a group, clearing, clipping and the finite check are one
operation each. Element-wise optimisers compute the same as with separate tensors. Kernels of convolutions may lie with the
channels last; the nets' inputs follow by themselves.

The gradient of a large parameter may stay where the backward pass makes it. In the buffer it would be cleared and added to:
three passes over memory, which for the 57 M weights of AlexNet take a tenth of a step.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from konspekt.core.errors import ConfigError

__all__ = ["FlatParameters", "room"]

SHARED = 8  # elements after the gradient, in the same buffer: numbers that processes add up together with it
LARGE = 65_536  # elements from which on a parameter's gradient may stay apart
_ALIGN = 16  # elements: 64 bytes of float32, a cache line, so that vectorised kernels start aligned


@dataclass
class _Stretch:
    """Weights from `begin` to `end`, whose gradient begins at `spot`, or is that of the parameter `apart`."""

    begin: int
    end: int
    spot: int
    apart: nn.Parameter | None = None


class FlatParameters:
    """Lay out the parameters of torch parameter groups in one buffer.

    groups: dicts with "params" and, if need be, "lr_scale" (default 1) and "decay" (default False).
    merge: make one group for the optimiser of those that differ in "decay" only, as each costs a call a step; the
        penalties find their parts in `decayed`.
    channels_last: kernels of convolutions, (O, I, H, W), to be laid out as (O, H, W, I).
    apart: whether gradients of large parameters may stay out of the buffer: between `collect` and `clear` they are in `gradients`.

    weights: (P,). gradient: (Q,) of the parameters that are not apart. buffer: the gradient, and behind it `shared`, (8,),
    which one sum over processes takes along.
    groups: for the optimiser; their "params" are parts of `weights` that hold parts of the gradient.
    decayed: parts of `weights` that penalties concern, with gradients likewise, and the number of the group.

    Raises ConfigError where a player moves nothing, or where types or devices are mixed.
    """

    def __init__(
        self,
        player: str,
        groups: list[dict[str, Any]],
        *,
        merge: bool,
        channels_last: Collection[Tensor] = (),
        apart: bool = False,
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
        # What would have to be padded stays in the buffer.
        self._apart = {id(p) for p in seen if apart and p.numel() >= LARGE and p.numel() == room(p)}
        size = sum(self._room(p) for p in seen)
        together = sum(self._room(p) for p in seen if id(p) not in self._apart)
        self.weights = torch.zeros(size, dtype=dtype, device=device)
        self.buffer = torch.zeros(together + SHARED, dtype=dtype, device=device)
        self.gradient, self.shared = self.buffer[:together], self.buffer[together:]
        self._last = {id(p) for p in channels_last}
        self._place = self._spot = 0  # where the next begins, in the weights and in the gradient
        self.parameters: list[nn.Parameter] = []
        self.slices: list[slice] = []  # where each of them is
        self.groups: list[dict[str, Any]] = []
        self.decayed: list[tuple[nn.Parameter, int]] = []
        self.apart: list[
            tuple[nn.Parameter, nn.Parameter]
        ] = []  # of the net, and the same weights as `groups` has them
        scales = dict.fromkeys(scale for scale, _ in parts)
        for members in [[k for k in parts if k[0] == s] for s in scales] if merge else [[k] for k in parts]:
            made: dict[str, Any] = {"lr_scale": members[0][0], "decay": members[0][1] if not merge else None}
            stretches: list[_Stretch] = []
            decayed: list[_Stretch] = []
            for key in members:
                for p in parts[key]:
                    laid = self._lay(p)
                    _append(stretches, laid)
                    if key[1]:
                        _append(decayed, laid)
            own = {stretch.apart: self._part(stretch) for stretch in stretches if stretch.apart is not None}
            self.apart += own.items()
            made["params"] = [own[s.apart] if s.apart is not None else self._part(s) for s in stretches]
            self.decayed += [
                (own[s.apart] if s.apart is not None else self._part(s), len(self.groups)) for s in decayed
            ]
            self.groups.append(made)

    def _lay(self, p: nn.Parameter) -> _Stretch:
        """Move a parameter into the buffer."""
        here = slice(self._place, self._place + p.numel())
        laid = self._view(self.weights[here], p)
        laid.copy_(p.data)
        p.data = laid
        if id(p) in self._apart:
            p.grad = None
        else:
            p.grad = self._view(self.gradient[self._spot : self._spot + p.numel()], p)
        return self._take(p, here)

    def _take(self, p: nn.Parameter, here: slice) -> _Stretch:
        """Note where a parameter is."""
        self.parameters.append(p)
        self.slices.append(here)
        apart = id(p) in self._apart
        stretch = _Stretch(here.start, here.start + self._room(p), self._spot, p if apart else None)
        self._place = stretch.end
        self._spot += 0 if apart else self._room(p)
        return stretch

    def _part(self, stretch: _Stretch) -> nn.Parameter:
        """A part of the weights as an optimiser takes it."""
        part = nn.Parameter(self.weights[stretch.begin : stretch.end])
        if stretch.apart is None:
            part.grad = self.gradient[stretch.spot : stretch.spot + stretch.end - stretch.begin]
        return part

    def _room(self, p: nn.Parameter) -> int:
        return room(p)

    @property
    def gradients(self) -> list[Tensor]:
        """The gradient in parts, each of one dimension: of what lies together, and of each parameter apart."""
        return [self.gradient, *(part.grad for _, part in self.apart if part.grad is not None)]

    def clear(self) -> None:
        """Set the gradient to 0."""
        self.gradient.zero_()
        for p, part in self.apart:
            p.grad = part.grad = None

    def collect(self) -> None:
        """After a backward pass: let the optimiser see the gradients that are apart."""
        for p, part in self.apart:
            if p.grad is None:  # the loss has nothing to do with it
                p.grad = torch.zeros_like(p)
            elif p.grad.layout != torch.strided:  # of an embedding that was asked for sparse gradients
                p.grad = p.grad.to_dense()
            part.grad = self._line(p.grad, p)

    def pull(self) -> None:
        """Bring the gradients into the buffer, where they do not lie there anyway."""

    def push(self) -> None:
        """Bring the weights into the net, where they do not lie there anyway."""

    def read(self) -> None:
        """Bring the net's weights into the buffer, where they do not lie there anyway."""

    def gather(self, state: dict[str, Any]) -> dict[str, Any]:
        """An optimiser's `state_dict` as a checkpoint holds it.

        One tensor a group, with the parameters in their usual layout: which of them are apart or have the channels last is
        no part of it, as it may differ with the number of processes.
        """
        if not self._differs:
            return state
        groups: list[dict[str, Any]] = []
        kept: dict[int, dict[str, Any]] = {}
        for number, group in enumerate(state["param_groups"]):
            groups.append({**group, "params": [number]})
            parts = [state["state"][k] for k in group["params"] if k in state["state"]]
            if parts:
                kept[number] = {name: self._joined([part[name] for part in parts], number) for name in parts[0]}
        return {**state, "state": kept, "param_groups": groups}

    def scatter(self, state: dict[str, Any]) -> dict[str, Any]:
        """The inverse of `gather`. What is of another size than this player's is passed on as it is."""
        if not self._differs:
            return state
        groups: list[dict[str, Any]] = []
        kept: dict[int, dict[str, Any]] = {}
        first = 0
        for number, group in enumerate(state["param_groups"]):
            lengths = [len(p) for p in self.groups[number]["params"]]
            names = list(range(first, first + len(lengths)))
            groups.append({**group, "params": names if group["params"] == [number] else group["params"]})
            if number in state["state"]:
                split = {name: self._split(value, number) for name, value in state["state"][number].items()}
                kept |= {k: {name: values[i] for name, values in split.items()} for i, k in enumerate(names)}
            first += len(lengths)
        strangers = {k: v for k, v in state["state"].items() if k not in range(len(groups))}
        return {**state, "state": kept | strangers, "param_groups": groups}

    @property
    def _differs(self) -> bool:
        """Whether the buffer's order or division is not that of a checkpoint."""
        return bool(self.apart) or any(id(p) in self._last for p in self.parameters)

    def _members(self, group: int) -> list[tuple[nn.Parameter, slice]]:
        """The parameters of a group, and where they are in it."""
        begin = sum(len(p) for g in self.groups[:group] for p in g["params"])
        end = begin + sum(len(p) for p in self.groups[group]["params"])
        return [
            (p, slice(s.start - begin, s.stop - begin))
            for p, s in zip(self.parameters, self.slices, strict=True)
            if begin <= s.start < max(end, begin + 1)
        ]

    def _joined(self, values: list[Any], group: int) -> Any:
        lengths = [len(p) for p in self.groups[group]["params"]]
        if not all(isinstance(v, Tensor) and v.shape == (n,) for v, n in zip(values, lengths, strict=True)):
            return values[0]
        whole = torch.cat(values)
        for p, here in self._members(group):
            if id(p) in self._last:
                whole[here] = self._view(whole[here].clone(), p).reshape(-1)
        return whole

    def _split(self, value: Any, group: int) -> list[Any]:
        lengths = [len(p) for p in self.groups[group]["params"]]
        if not (isinstance(value, Tensor) and value.shape == (sum(lengths),)):
            return [value.clone() if isinstance(value, Tensor) else value for _ in lengths]  # each counts for itself
        value = value.clone()
        for p, here in self._members(group):
            if id(p) in self._last:
                value[here] = self._line(value[here].clone().view(p.shape), p)
        return list(value.split(lengths))

    def _view(self, part: Tensor, p: nn.Parameter) -> Tensor:
        """A part of the buffer, (n,), in the shape of a parameter."""
        if id(p) not in self._last:
            return part.view(p.shape)
        o, i, h, w = p.shape
        return part.view(o, h, w, i).permute(0, 3, 1, 2)

    def _line(self, like: Tensor, p: nn.Parameter) -> Tensor:
        """The inverse of `_view`, uncopied where the memory is in that order."""
        return (like.permute(0, 2, 3, 1) if id(p) in self._last else like).reshape(-1)

    def release(self) -> None:
        """Give each parameter memory of its own again, without a gradient."""
        for p in self.parameters:
            p.data = p.data.clone(memory_format=torch.contiguous_format)
            p.grad = None


def _append(stretches: list[_Stretch], more: _Stretch) -> None:
    """Add a stretch, as part of the last one where it follows on it."""
    last = stretches[-1] if stretches else None
    if last is not None and last.end == more.begin and last.apart is None and more.apart is None:
        stretches[-1] = _Stretch(last.begin, more.end, last.spot)
    else:
        stretches.append(more)


def room(p: Tensor) -> int:
    """How many elements of a buffer a tensor takes, with what aligns the next."""
    return -(-p.numel() // _ALIGN) * _ALIGN
