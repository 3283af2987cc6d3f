"""How much each residual branch adds to what goes past it.

Where a branch gives numbers near zero its block changes little, and the block can do without it (Veit, Wilber and Belongie 2016,
https://arxiv.org/abs/1605.06431, show how little single branches matter). Course: row A16.

Shape letters in this file: B images of a batch.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from konspekt.core.errors import ConfigError
from konspekt.data.batches import Batches
from konspekt.engine.objective import Objective

__all__ = ["branches_of", "responses"]


def branches_of(net: Any) -> dict[str, Any]:
    """The residual blocks of a net that still have their branch, by name.

    Raises ConfigError where there is none.
    """
    blocks = net.residual_blocks() if hasattr(net, "residual_blocks") else {}
    found = {name: block for name, block in blocks.items() if block.shortcuts and not block.dropped}
    if not found:
        raise ConfigError(
            f"prune: by='branches' takes out residual branches, of which a {type(net).__name__} has none left; resnet18 to "
            "resnet152, resnet20 to resnet110 and their se_ forms have them"
        )
    return found


@torch.no_grad()
def responses(objective: Objective, net: nn.Module, batches: Batches) -> dict[str, float]:
    """For each branch, the norm of what it gives over that of what the shortcut gives, averaged over the images.

    Raises ConfigError where the net has no residual branches.
    """
    sums = dict.fromkeys(branches_of(net), 0.0)

    def listen(name: str) -> Any:
        def hook(block: Any, inputs: tuple[Tensor, ...]) -> None:
            branch, past = (part(inputs[0]).flatten(1).double().norm(dim=1) for part in (block.branch, block.shortcut))
            sums[name] += float((branch / past.clamp_min(torch.finfo(torch.float32).tiny)).sum())

        return hook

    hooks = [block.register_forward_pre_hook(listen(name)) for name, block in branches_of(net).items()]
    was = objective.training
    objective.eval()
    try:
        for batch in batches.epoch(0):
            objective(batch)
    finally:
        for hook in hooks:
            hook.remove()
        objective.train(was)
    return {name: total / batches.num_items for name, total in sums.items()}
