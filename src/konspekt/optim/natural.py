"""The natural gradient. Course: row A12 (document I, section 13).

Shape letters in this file: B items of a batch, P numbers in all parameters.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

import torch
from torch import Tensor
from torch.optim import Optimizer

from konspekt.core.errors import ConfigError
from konspekt.core.params import AtLeast, LessThan
from konspekt.core.registry import system
from konspekt.optim.vector import VectorOptimizer, offered, require_memory

__all__ = ["natural_gradient"]

_COPIES = 4  # the mean so far, the matrix, its factor, and a product on the way


class NaturalGradient(VectorOptimizer):
    """w = w - lr (F + damping I)^-1 g; keeps the running mean of F, a part for each block that is inverted."""

    name = "natural-gradient"

    full_batch = False
    fits = False  # whether memory was asked for the largest block
    exact = False  # it goes nowhere but into the product

    @torch.no_grad()
    def step(self, closure: Callable[[], Any]) -> float:  # type: ignore[override]
        """Take one step; hands back the loss where it began."""
        item_gradients = offered(closure, "item_gradients", self.name)
        start = self.begin(closure)
        blocks: list[slice] = offered(closure, "blocks", self.name)()
        kind, damping, lr = self.setting("fisher"), self.setting("damping"), self.setting("lr")
        # In 64 bits: sums of squares have twice the range of what they are sums of.
        gradients, g = item_gradients(self.setting("estimate")).double(), start.gradient.double()
        places = [torch.arange(b.start, b.stop, device=g.device) for b in blocks]
        parts = [torch.cat(places)] if kind == "full" else places
        if kind == "block" and not self.fits:
            require_memory(self.name, max(len(part) for part in parts), _COPIES, g, "fisher='diagonal'")
            self.fits = True
        if kind == "diagonal":
            found = [gradients[:, part].square().mean(0) for part in parts]
        else:
            found = [gradients[:, part].T @ gradients[:, part] / len(gradients) for part in parts]
        found = self._averaged(found, start.w)
        move = torch.zeros_like(g)
        for part, fisher in zip(parts, found, strict=True):
            if kind == "diagonal":
                if not bool((fisher + damping > 0).all()):
                    raise ConfigError(self._singular(len(gradients)))
                move[part] = g[part] / (fisher + damping)
            else:
                move[part] = self._solve(fisher, g[part], damping, len(gradients))
        self.put(start.w - lr * move.to(start.w))
        return start.loss

    def _averaged(self, found: list[Tensor], like: Tensor) -> list[Tensor]:
        """The running mean, with these in it; a plain mean until there are enough steps."""
        if not self.setting("rho"):
            return found
        steps = self.memory["steps"] = self.memory.get("steps", 0) + 1
        stays = min(1 - 1 / steps, self.setting("rho"))
        if steps > 1:
            found = [
                before.double().lerp(new, 1 - stays) for before, new in zip(self.memory["mean"], found, strict=True)
            ]
        self.memory["mean"] = [part.to(like) for part in found]
        return found

    def _solve(self, fisher: Tensor, g: Tensor, damping: float, items: int) -> Tensor:
        fisher = fisher.clone()
        fisher.diagonal().add_(damping)
        factor, failed = torch.linalg.cholesky_ex(fisher)
        # A matrix without full rank may pass by rounding; then its smallest pivot is as small as rounding.
        pivots = factor.diagonal()
        if bool(failed) or float(pivots.min()) ** 2 <= len(g) * torch.finfo(g.dtype).eps * float(pivots.max()) ** 2:
            raise ConfigError(self._singular(items))
        return torch.cholesky_solve(g[:, None], factor)[:, 0]

    def _singular(self, items: int) -> str:
        return (
            f"optimizer 'natural-gradient': the Fisher information of a batch of {items} items cannot be inverted with "
            f"damping={self.setting('damping'):g}; take a larger damping, such as 1e-3, or a larger batch_size"
        )


@system(name="natural-gradient", kind="optimizer", rows=("A12",))
def natural_gradient(
    groups: list[dict[str, Any]],
    lr: float,
    *,
    fisher: Literal["full", "diagonal", "block"] = "full",
    estimate: Literal["true", "empirical"] = "true",
    damping: Annotated[float, AtLeast(0)] = 0.1,
    rho: Annotated[float, AtLeast(0), LessThan(1)] = 0.95,
) -> Optimizer:
    """Natural gradient descent: w = w - lr (F + damping I)^-1 g, with F the Fisher information.

    F is the mean over items of h h', with h the gradient of one item's loss: of the batch, averaged over the steps. For F to be the Fisher information
    the item's target must be drawn from the model's own prediction: estimate="true", one draw an item.
    estimate="empirical" takes the targets of the data, as the notes do ("the covariance of the gradient on the training
    set"): cheaper by a forward pass, but not the Fisher information, nor close to it unless the model is right and
    the data are many; it may shrink steps where the model errs most (Kunstner, Hennig and Balles 2019,
    https://arxiv.org/abs/1905.12558). The gradients are not centred.

    Without damping a full F makes the step the same function whatever linear coordinates the weights are given in, if all
    items together determine all weights. The penalties `l1` and `l2` are in g, not in F. `lr` is a plain factor, without a
    search; between 0.01 and 1 is usual. Nets with batch statistics have no loss of an item by itself and are
    refused. Amari 1998.

    fisher: "full": all of F; "block": one block for each parameter tensor, the rest taken as 0; "diagonal".
    estimate: with targets drawn from the model, or those of the data.
    damping: what is added to the diagonal; it bounds the steps where F, of few items, knows of no curvature.
    rho: how much of the running mean of F stays at a step; 0: F of this step's batch alone.
    """
    made = NaturalGradient(groups, lr, fisher=fisher, estimate=estimate, damping=float(damping), rho=float(rho))
    if fisher == "full":
        w = made.weights().double()
        require_memory("natural-gradient", len(w), _COPIES, w[:1], "fisher='diagonal' or fisher='block'")
    return made
