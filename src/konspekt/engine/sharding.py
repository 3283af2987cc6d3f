"""A net whose weights, gradients and optimiser states are shared out among the processes: torch's FSDP2. Field `strategy`.

Zhao et al. 2023, https://arxiv.org/abs/2304.11277; Rajbhandari et al. 2020 (ZeRO). torch gathers a part of the weights when it is
needed and adds up gradients so that each process keeps its share. The shares lie in one buffer, as the parameters of a
player otherwise do, and the optimiser, which must work element by element, moves them there.

A checkpoint holds the whole tensors, in the order of the undivided buffer: it resumes on any number of processes.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from konspekt.engine.flat import FlatParameters, room
from konspekt.engine.objective import Objective
from konspekt.engine.processes import Team

__all__ = ["ShardedParameters", "Sharding"]

UNIT = 100_000  # parameters from which on a block is gathered by itself; smaller ones go with what holds them


class Sharding:
    """Shares out a copy of an objective; the original gets the trained weights back.

    objective: the copy, which trains. whole: the original, without its parameters' memory meanwhile.
    """

    def __init__(self, objective: Objective, team: Team) -> None:
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

        for tensor in (*objective.parameters(), *objective.buffers()):
            team.spread(tensor.data)
        self.whole, self.team = objective, team
        self.objective = copy.deepcopy(objective)
        for p in objective.parameters():
            p.data = p.data.new_empty(0)
        self.mesh = init_device_mesh(team.device.type, (team.size,))
        self.units = [*_units(self.objective.model), self.objective]
        for unit in self.units:
            made: Any = fully_shard(unit, mesh=self.mesh)
            made.set_gradient_divide_factor(1.0)  # sums, as each process weights its terms itself
            if team.device.type == "cpu":
                made.set_force_sum_reduction_for_comms(True)
        register_fsdp_forward_method(self.objective, "loss")

    @property
    def layout(self) -> type[FlatParameters]:
        """How the parameters of a player are laid out."""
        return ShardedParameters

    def gathered(self, call: Callable[[], Any]) -> Any:
        """What `call` gives while all weights are there; every process must come here."""
        for unit in self.units:
            unit.unshard()  # type: ignore[operator]
        try:
            return call()
        finally:
            for unit in self.units:
                unit.reshard()  # type: ignore[operator]

    def state(self) -> dict[str, Tensor]:
        """The objective's whole tensors by name, in each process."""
        return {n: full(t) for n, t in self.objective.state_dict().items()}

    @torch.no_grad()
    def load_state(self, state: dict[str, Tensor]) -> None:
        """Take whole tensors."""
        for name, own in self.objective.state_dict().items():
            local(own).copy_(share(state[name], own))

    def give_back(self) -> None:
        """Put what was trained into the original."""
        with torch.no_grad():
            for p, trained in zip(self.whole.parameters(), self.objective.parameters(), strict=True):
                p.data = full(trained).clone()
            for buffer, own in zip(self.whole.buffers(), self.objective.buffers(), strict=True):
                buffer.copy_(full(own))
        self.whole.load_state(self.objective.state())


def _units(model: nn.Module) -> list[nn.Module]:
    """Blocks large enough to be gathered by themselves: what lists and sequences in the model hold, innermost first."""
    found: list[nn.Module] = []
    for module in model.modules():
        if isinstance(module, (nn.Sequential, nn.ModuleList)):
            found += [m for m in module if not isinstance(m, (nn.ModuleList, nn.ModuleDict))]
    large = [m for m in dict.fromkeys(found) if sum(p.numel() for p in m.parameters()) >= UNIT]
    return large[::-1]


class ShardedParameters(FlatParameters):
    """The shares of a player's parameters that this process keeps, as slices of one buffer, and their gradients."""

    def _room(self, p: nn.Parameter) -> int:
        return room(local(p))

    def _lay(self, p: nn.Parameter) -> Any:
        here = slice(self._place, self._place + local(p).numel())
        self.weights[here] = local(p).detach().reshape(-1)
        return self._take(p, here)

    def pull(self) -> None:
        """Take the gradients' shares into the buffer."""
        for p, here in zip(self.parameters, self.slices, strict=True):
            if p.grad is not None:
                self.gradient[here] += local(p.grad).reshape(-1)
                p.grad = None

    @torch.no_grad()
    def push(self) -> None:
        """Give the moved weights to the net."""
        for p, here in zip(self.parameters, self.slices, strict=True):
            local(p).copy_(self.weights[here].view_as(local(p)))

    def read(self) -> None:
        """Take the net's weights, which a checkpoint has changed."""
        for p, here in zip(self.parameters, self.slices, strict=True):
            self.weights[here] = local(p).detach().reshape(-1)

    def gather(self, state: dict[str, Any]) -> dict[str, Any]:
        """An optimiser's `state_dict` with whole tensors, in the order of the undivided buffer."""
        return {**state, "state": {g: {k: self._whole(v, g) for k, v in s.items()} for g, s in state["state"].items()}}

    def scatter(self, state: dict[str, Any]) -> dict[str, Any]:
        """The inverse of `gather`."""
        return {
            **state,
            "state": {g: {k: self._part_of(v, g) for k, v in s.items()} for g, s in state["state"].items()},
        }

    def _whole(self, value: Any, group: int) -> Any:
        length = len(self.groups[group]["params"][0])
        if not isinstance(value, Tensor) or value.shape != (length,):
            return value
        parts = []
        for p, here in self._members(group):
            piece = value[here].view_as(local(p))
            dealt: Any = p
            flat = (
                DTensor.from_local(piece, dealt.device_mesh, dealt.placements, shape=p.shape, stride=p.stride())
                .full_tensor()
                .reshape(-1)
            )
            parts.append(nn.functional.pad(flat, (0, room(flat) - len(flat))))
        return torch.cat(parts)

    def _part_of(self, value: Any, group: int) -> Any:
        members = self._members(group)
        if not isinstance(value, Tensor) or value.shape != (sum(room(p) for p, _ in members),):
            return value
        made, source = value.new_zeros(len(self.groups[group]["params"][0])), 0
        for p, here in members:
            made[here] = share(value[source : source + p.numel()].reshape(p.shape), p).reshape(-1)
            source += room(p)
        return made

    def release(self) -> None:
        """Nothing to give back: the net has its shares."""


def local(tensor: Tensor) -> Tensor:
    """This process's share, as memory of the tensor itself."""
    return tensor._local_tensor if isinstance(tensor, DTensor) else tensor


def full(tensor: Tensor) -> Tensor:
    """The whole tensor; every process must come here."""
    return tensor.full_tensor().detach() if isinstance(tensor, DTensor) else tensor


def share(value: Tensor, like: Tensor) -> Tensor:
    """This process's share of a whole tensor."""
    if not isinstance(like, DTensor):
        return value
    whole = value.to(like.device).contiguous()
    return local(distribute_tensor(whole, like.device_mesh, like.placements))
