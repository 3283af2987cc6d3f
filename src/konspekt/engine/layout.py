"""Whether the kernels of convolutions lie with the channels last, and with them all that runs through the net.

On a GPU they do. On a CPU, torch's kernels reorder either the images or, for channels last, the weights of each
layer at each step, so what there is less of should be reordered. Measured on 21 nets, image sizes and batch sizes with one thread
(torch 2.13, oneDNN): where the weights are fewer than half of the numbers that run in and out of the convolutions, a
step with the channels last took 0.75 to 1.03 of the time; where they are more, 1.0 to 1.4, but for a GoogLeNet with a small
batch (0.9). The count decides, not a clock, so that a fit repeated gives the same bits.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from konspekt.data.batches import Batches
from konspekt.engine import checkpoint
from konspekt.engine.objective import Objective

__all__ = ["kernels_last"]

FEW = 300_000  # weights in convolutions up to which there is nothing to ask
SHARE = 0.5  # of the numbers in and out of the convolutions; fewer weights than that: channels last


def kernels_last(objective: Objective, batches: Batches, processes: int = 1) -> list[Tensor]:
    """The kernels, (O, I, H, W), that are to be laid out with the channels last: all or none.

    For a large net on a CPU, the loss of one batch is computed to count what runs through it; it leaves no trace.
    """
    layers = [m for m in objective.modules() if isinstance(m, nn.Conv2d)]
    kernels: list[Tensor] = [m.weight for m in layers]
    size = sum(k.numel() for k in kernels)
    if size <= FEW or kernels[0].device.type != "cpu":
        return kernels
    return kernels if size * processes < SHARE * _running(objective, batches, layers) else []


@torch.no_grad()
def _running(objective: Objective, batches: Batches, layers: list[nn.Conv2d]) -> int:
    """How many numbers go in and out of the layers for a batch."""
    count = 0

    def note(module: nn.Module, given: tuple[Tensor, ...], out: Tensor) -> None:
        nonlocal count
        count += given[0].numel() + out.numel()

    random = checkpoint.random_state(torch.device("cpu"))
    state, training = copy.deepcopy(objective.state()), objective.training
    buffers = [b.clone() for b in objective.buffers()]
    hooks = [layer.register_forward_hook(note) for layer in layers]
    try:
        objective.train()
        objective.start_epoch(0, batches)
        objective.loss(batches.sample(), next(iter(objective.players())))
    finally:
        for hook in hooks:
            hook.remove()
    for buffer, was in zip(objective.buffers(), buffers, strict=True):
        buffer.copy_(was)
    objective.load_state(state)
    objective.train(training)
    checkpoint.set_random_state(random, torch.device("cpu"))
    return count
