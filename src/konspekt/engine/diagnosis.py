"""Why a loss or a gradient is not finite: the first module whose output is not, or what comes after all of them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from konspekt.data.fields import Batch, Ragged
from konspekt.engine.objective import Objective

__all__ = ["why_not_finite"]


def why_not_finite(objective: Objective, batch: Batch, player: str) -> str:
    """Run the batch again, with the weights as they are, and name the first value that is not finite."""
    for name, field in batch.items():
        if not _finite(field):
            return f"field {name!r} of the batch is not finite"
    found: list[str] = []

    def look(name: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            if not found and not _finite(output):  # a module's parts come before it
                found.append(f"{name} ({type(module).__name__})")

        return hook

    hooks = [m.register_forward_hook(look(name)) for name, m in objective.named_modules() if name]
    try:
        with torch.no_grad():
            out = objective.loss(batch, player)
    finally:
        for hook in hooks:
            hook.remove()
    if found:
        return f"the output of module {found[0]} is not finite (NaN or inf)"
    if not _finite(out["loss"]):
        return "the loss is not finite (NaN or inf), though the outputs of all modules are"
    for name, p in objective.named_parameters():
        if p.grad is not None and not _finite(p.grad):
            return f"the gradient of {name} is not finite (NaN or inf), though the loss is"
    return "the gradient is not finite (NaN or inf)"


def _finite(value: Any) -> bool:
    if isinstance(value, Ragged):
        value = value.values
    if isinstance(value, Tensor):
        return not value.is_floating_point() or bool(torch.isfinite(value).all())
    if isinstance(value, dict):
        return all(_finite(v) for v in value.values())
    if isinstance(value, (list, tuple)):
        return all(_finite(v) for v in value)
    return True
