"""Weights by an evolution strategy: losses only, no gradient. Course: row A12 (document I, sections 7, 9 and 13).

Source: Hansen 2016, The CMA evolution strategy: a tutorial, https://arxiv.org/abs/1604.00772, equations 5-9, 43 and 44 and table 1,
with the covariance kept at the identity.

Shape letters in this file: P numbers in all parameters.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated, Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from konspekt.core.params import AtLeast, MoreThan
from konspekt.core.registry import system
from konspekt.core.seeds import generator
from konspekt.optim.vector import VectorOptimizer, offered

__all__ = ["evolution"]


class Evolution(VectorOptimizer):
    """The (mu/mu_w, lambda) evolution strategy with cumulative step-size adaptation; one step is one generation."""

    name = "evolution"

    full_batch = False

    @torch.no_grad()
    def step(self, closure: Callable[[], Any]) -> float:  # type: ignore[override]
        """Breed one generation; hands back the loss of the mean that it was bred from."""
        loss_of = offered(closure, "loss", self.name)
        state, mean = self.memory, self.weights()
        if not state:
            # One number from torch's generator. The rest must not come from it: each evaluation sets it back.
            state["seed"] = int(torch.randint(2**62, ()))
            state["generation"], state["sigma"], state["path"] = 0, self.setting("sigma"), torch.zeros_like(mean)
        start: float = loss_of()
        places = self.places(closure)
        size = len(places)
        pairs = self.setting("antithetic")
        children = self._population(size)
        sigma, found = state["sigma"], []
        for child in range(children // (1 + pairs)):
            noise = self._noise(child, mean, places)
            signs = (1, -1) if pairs else (1,)
            losses = []
            for sign in signs:
                self.put(mean + sign * sigma * noise)
                losses.append(loss_of())
            best = min(range(len(signs)), key=losses.__getitem__)
            found.append((losses[best], child, signs[best]))
        # Of a mirrored pair only the better may be a parent: both would cancel, and shorten the path for no reason.
        parents = [f for f in sorted(found)[: max(children // (4 if pairs else 2), 1)] if math.isfinite(f[0])]
        if not parents:  # too far out, all of them
            state["sigma"], state["generation"] = sigma / 2, state["generation"] + 1
            self.put(mean)
            return start
        weights = [math.log(len(parents) + 0.5) - math.log(rank + 1) for rank in range(len(parents))]
        weights = [w / sum(weights) for w in weights]
        step = torch.zeros_like(mean)
        for (_, child, sign), weight in zip(parents, weights, strict=True):  # drawn again, rather than kept
            step.add_(self._noise(child, mean, places), alpha=sign * weight)
        state["generation"] += 1
        self.put(mean + self.setting("lr") * sigma * step)
        self._adapt(step, size, 1 / sum(w * w for w in weights))
        return start

    def _population(self, size: int) -> int:
        """How many children: as given, or 4 + 3 log P; even where they come in pairs."""
        children: int = self.setting("population") or 4 + int(3 * math.log(size))
        return max(children + children % 2, 4) if self.setting("antithetic") else children

    def _noise(self, child: int, mean: Tensor, places: Tensor) -> Tensor:
        """(P,), the mutation of a child, which its number and its generation decide."""
        draw = generator(self.memory["seed"], self.memory["generation"], child)
        noise = torch.zeros_like(mean)
        noise[places] = torch.randn(len(places), generator=draw).to(mean)
        return noise

    def _adapt(self, step: Tensor, size: int, mass: float) -> None:
        """Lengthen the mutations where successive steps go the same way, shorten them where they go back."""
        state = self.memory
        rate = (mass + 2) / (size + mass + 5)
        damp = 1 + 2 * max(0.0, math.sqrt((mass - 1) / (size + 1)) - 1) + rate
        state["path"] = (1 - rate) * state["path"] + math.sqrt(rate * (2 - rate) * mass) * step
        expected = math.sqrt(size) * (1 - 1 / (4 * size) + 1 / (21 * size**2))
        length = float(state["path"].double().norm())
        state["sigma"] *= math.exp(min(1.0, rate / damp * (length / expected - 1)))


@system(name="evolution", kind="optimizer", rows=("A12",), paper="https://arxiv.org/abs/1604.00772")
def evolution(
    groups: list[dict[str, Any]],
    lr: float,
    *,
    population: Annotated[int | None, AtLeast(2)] = None,
    sigma: Annotated[float, MoreThan(0)] = 0.1,
    antithetic: bool = True,
) -> Optimizer:
    """Weights by an evolution strategy, which compares losses and takes no gradient.

    Each generation mutates the weights w into children w + sigma z with z standard normal, ranks them by their loss on
    the batch, and crosses the best by a weighted mean: w = w + lr sigma sum_i c_i z_i, c_i falling with the logarithm of
    the rank. These are the notes' mutation and crossover for vectors of numbers, with many parents. sigma adapts by
    the length of the path that the steps have taken. `lr` is the learning rate of the mean: 1 is the published
    strategy; with the estimators' default it creeps. For some hundred weights; where there is a gradient,
    following it is far cheaper, as the notes say.

    With `antithetic` the mutations come in pairs z, -z, of which the better may be a parent (Auger, Brockhoff and
    Hansen 2011, Mirrored sampling in evolution strategies with weighted recombination). Children whose loss is not
    finite die.

    population: how many children a generation has; None: 4 + 3 log(number of weights).
    sigma: the standard deviation of the mutations at the first step.
    antithetic: draw the mutations in mirrored pairs.
    """
    return Evolution(groups, lr, population=population, sigma=float(sigma), antithetic=antithetic)
