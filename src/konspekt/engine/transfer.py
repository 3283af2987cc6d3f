"""Transfer: a net that has learned on other data keeps what it knows while a new head learns; then it follows, slowly.

Yosinski, Clune, Bengio and Lipson 2014, "How transferable are features in deep neural networks?",
https://arxiv.org/abs/1411.1792; rates by depth: Howard and Ruder 2018, https://arxiv.org/abs/1801.06146, section 3.2.
Course: row A15.

A net's depths are its parts in the order in which they are registered, which is that of the forward pass in every net of
`vision.nets`. What is frozen has no gradient, takes no step, and its batch normalisation keeps its statistics.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import nn

from konspekt.core.errors import ConfigError, nearest
from konspekt.engine.objective import Objective, split_decay

__all__ = ["BODY", "NOTHING", "Transferable", "frozen_modules", "head_modules", "parts"]

BODY = "body"  # freeze all but the head
NOTHING = "nothing"  # freeze nothing


def _holders(net: nn.Module) -> list[tuple[str, nn.Module]]:
    """The modules that hold parameters or running statistics themselves, in order."""
    return [
        (name, module)
        for name, module in net.named_modules()
        if any(True for _ in module.parameters(recurse=False)) or any(True for _ in module.buffers(recurse=False))
    ]


def _below(name: str, parent: str) -> bool:
    return name == parent or name.startswith(f"{parent}.")


def head_modules(net: nn.Module) -> list[str]:
    """The names of what a net decides with: its head, and auxiliary heads as a whole.

    A net says them in `heads`; of one that does not, the head is the last module that has a matrix.

    Raises ConfigError where there is none.
    """
    heads = tuple(getattr(net, "heads", ()))
    if heads:
        return [heads[0], *(name.rpartition(".")[0] or name for name in heads[1:])]
    matrices = [name for name, m in _holders(net) if any(p.ndim > 1 for p in m.parameters(recurse=False))]
    if not matrices:
        raise ConfigError(f"a {type(net).__name__} has no layer with weights, so it has no head that could be trained")
    return matrices[-1:]


def frozen_modules(net: nn.Module, depth: str, where: str = "freeze") -> list[nn.Module]:
    """The modules that keep what they know where a net is frozen up to `depth`.

    depth: the name of a module, which is frozen too with all before it, such as "layer2" or "features.5"; "body": all but
    the head; "nothing".

    Raises ConfigError where the net has no such part, or nothing would be left to learn.
    """
    holders = _holders(net)
    heads = head_modules(net)
    of_heads = [any(_below(name, head) for head in heads) for name, _ in holders]
    if depth == NOTHING:
        return []
    if depth == BODY:
        return [m for (_, m), head in zip(holders, of_heads, strict=True) if not head]
    last = max((i for i, (name, _) in enumerate(holders) if _below(name, depth)), default=None)
    if last is None:
        names = [name for name, m in net.named_modules() if name and any(True for _ in m.parameters())]
        hint = nearest(depth, [BODY, NOTHING, *names])
        top = ", ".join(name for name, m in net.named_children() if any(True for _ in m.parameters()))
        raise ConfigError(f"{where}: the net has no part {depth!r} with weights; its parts are {top}; {hint}")
    kept = [m for i, (_, m) in enumerate(holders) if i <= last and not (of_heads[i] and not _below(depth, heads[0]))]
    frozen = {id(p) for m in kept for p in m.parameters(recurse=False)}
    if all(id(p) in frozen for p in net.parameters()):
        raise ConfigError(f"{where}: up to {depth!r} all of the net is frozen, and nothing could learn; take {BODY!r}")
    return kept


def parts(net: nn.Module) -> list[tuple[str, list[nn.Parameter]]]:
    """The parts of a net that may have rates of their own, from the first to the head.

    They are its children with weights; of nets made of a few long sequences, such as VGG's, the layers of these. A part
    without a matrix, such as a normalisation, belongs to the one before.
    """
    children = [(name, m) for name, m in net.named_children() if any(True for _ in m.parameters())]
    while len(children) <= 3 and any(isinstance(m, nn.Sequential) and len(m) > 1 for _, m in children):
        children = [
            pair
            for name, m in children
            for pair in (
                [(f"{name}.{n}", c) for n, c in m.named_children() if any(True for _ in c.parameters())]
                if isinstance(m, nn.Sequential)
                else [(name, m)]
            )
        ]
    found: list[tuple[str, list[nn.Parameter]]] = []
    taken: set[nn.Parameter] = set()
    direct = list(net.parameters(recurse=False))
    for name, members in [("", direct), *((n, list(m.parameters())) for n, m in children)]:
        fresh = [p for p in members if p not in taken]
        taken.update(fresh)
        if fresh and found and not any(p.ndim > 1 for p in fresh):
            found[-1][1].extend(fresh)
        elif fresh:
            found.append((name, fresh))
    return found


class Transferable(Objective):
    """An objective whose net can be frozen up to a depth, and whose earlier parts can take smaller steps.

    lr_first: the learning rate of the net's first part, as a share of that of its head; the rates of the parts between
        are evenly spaced in their logarithm.
    """

    lr_first: float = 1.0
    _still: Sequence[nn.Module] = ()

    @property
    def net(self) -> nn.Module:
        """What the depths are counted in: `model.net`, or the model."""
        return getattr(self.model, "net", self.model)

    def freeze(self, depth: str, where: str = "freeze") -> None:
        """Freeze the net up to a depth, and nothing besides; see `frozen_modules`."""
        still = frozen_modules(self.net, depth, where)
        for p in self.parameters():
            p.requires_grad_(True)
        for module in still:
            for p in module.parameters(recurse=False):
                p.requires_grad_(False)
        self._still = still
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        """As for every module; what is frozen stays as in prediction, so that its running statistics do."""
        super().train(mode)
        for module in self._still:
            module.training = False
        return self

    def players(self) -> dict[str, list[dict[str, Any]]]:
        """One player; with `lr_first`, a group for each part of the net."""
        if self.lr_first == 1.0:
            return {"model": split_decay(self)}
        found = parts(self.net)
        scales = torch.logspace(0, 1, len(found), base=1 / self.lr_first, dtype=torch.float64) * self.lr_first
        groups: list[dict[str, Any]] = []
        for (_, members), scale in zip(found, scales.tolist() if len(found) > 1 else [1.0], strict=True):
            for decay in (True, False):
                some = [p for p in members if p.requires_grad and (p.ndim > 1) == decay]
                if some:
                    groups.append({"params": some, "lr_scale": scale, "decay": decay})
        inside = {p for group in groups for p in group["params"]}
        rest = [p for p in self.parameters() if p.requires_grad and p not in inside]
        return {"model": groups + ([{"params": rest}] if rest else [])}
