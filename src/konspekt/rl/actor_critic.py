"""A policy and a value, with separate bodies or one shared body, and the objective of policy gradients.

Course: row R5 (document M, 2.5). M:418 prints pi(s given a) and a sum over i = 0..N divided by N; what is meant is pi(a given s)
and a mean.

Shape letters in this file: B observations of a batch, U numbers of the policy's distribution, K components of an action.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn
from torch.nn import functional as F

from konspekt.core.errors import ConfigError
from konspekt.data.fields import Batch, Field
from konspekt.rl.nets import NatureCNN, encoder, mlp
from konspekt.rl.neural_agent import ActingObjective
from konspekt.rl.policies import Distribution, Gaussian, distribution_of
from konspekt.rl.spaces import is_pixels, words

__all__ = ["ActorCritic", "GaussianHead", "PolicyObjective", "Rescaled", "Spread"]

Spread = Literal["common", "state"]
NARROWEST, WIDEST = -5.0, 2.0  # logarithms of a standard deviation that depends on the state


class GaussianHead(nn.Module):
    """Features (B, F) -> means and logarithms of standard deviations, (B, 2 K).

    spread: "common": K parameters for all states; "state": a linear function of the features, cut to [-5, 2].
    """

    def __init__(self, features: int, size: int, spread: Spread, log_std: float) -> None:
        super().__init__()
        self.size, self.spread = size, spread
        self.linear = nn.Linear(features, size if spread == "common" else 2 * size)
        if spread == "common":
            self.log_std = nn.Parameter(torch.full((size,), log_std))
        else:
            nn.init.constant_(self.linear.bias[size:], log_std)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.linear(x)
        if self.spread == "common":
            return torch.cat([out, self.log_std.expand(len(out), -1)], dim=1)
        return torch.cat([out[:, : self.size], out[:, self.size :].clamp(NARROWEST, WIDEST)], dim=1)

    def begin(self) -> None:
        """Weights as at the head of any policy: nearly the same action whatever the state, of spread exp(log_std)."""
        nn.init.orthogonal_(self.linear.weight, 0.01)
        nn.init.zeros_(self.linear.bias[: self.size])


class Rescaled(nn.Module):
    """x * deviation + mean: a value in the units of the returns, of a net that works in units near 1.

    Both are buffers. A net that is to learn values in the hundreds by a few hundred steps would not get there otherwise.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("deviation", torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.deviation + self.mean


class ActorCritic(nn.Module):
    """Observations -> what the policy's distribution takes (B, U), and values (B,), or None where there is no value.

    shared: one body for both. value: whether there is a value. rescale: whether it is `Rescaled`. stack: frames that are
    stacked, of pixels. orthogonal: whether weights begin so, as in Stable-Baselines3: gain sqrt(2) in the bodies, 1 at the
    value, 0.01 at the policy; otherwise as torch's layers do.
    """

    def __init__(
        self,
        observations: gymnasium.Space[Any],
        distribution: Distribution,
        hidden: Sequence[int],
        activation: str,
        *,
        shared: bool = False,
        value: bool = True,
        rescale: bool = False,
        standardise: bool = False,
        stack: int = 1,
        spread: Spread = "common",
        log_std: float = 0.0,
        orthogonal: bool = True,
    ) -> None:
        super().__init__()
        pixels = is_pixels(observations)
        if stack > 1 and not pixels:
            raise ConfigError(f"stack={stack} is for pictures; these observations are {words(observations)}")
        if standardise and (pixels or not isinstance(observations, spaces.Box)):
            raise ConfigError(f"normalize_observations is for numbers; these observations are {words(observations)}")
        self.encoder, features = (nn.Identity(), 0) if pixels else encoder(observations, standardise)

        def make() -> tuple[nn.Module, int]:
            if pixels:
                height, width, *colours = (int(n) for n in observations.shape or ())
                net = NatureCNN((colours or [1])[0] * stack, (height, width))
                return net, net.features
            return mlp(features, hidden, activation), hidden[-1] if hidden else features

        self.policy_body, width = make()
        self.value_body = make()[0] if value and not shared else None
        self.policy_head: nn.Module = (
            GaussianHead(width, distribution.size, spread, log_std)
            if isinstance(distribution, Gaussian)
            else nn.Linear(width, distribution.units)
        )
        self.value_head = nn.Sequential(nn.Linear(width, 1), *([Rescaled()] if rescale else [])) if value else None
        if orthogonal:
            self._begin()

    def _begin(self) -> None:
        for body in (self.policy_body, self.value_body):
            for module in body.modules() if body is not None else ():
                if isinstance(module, (nn.Linear, nn.Conv2d)):
                    nn.init.orthogonal_(module.weight, math.sqrt(2))
                    nn.init.zeros_(module.bias)  # type: ignore[arg-type]
        linear = None if self.value_head is None else self.value_head[0]
        for head, gain in ((self.policy_head, 0.01), (linear, 1.0)):
            if isinstance(head, GaussianHead):
                head.begin()
            elif isinstance(head, nn.Linear):
                nn.init.orthogonal_(head.weight, gain)
                nn.init.zeros_(head.bias)

    @property
    def rescaled(self) -> Rescaled | None:
        """The layer that puts the value into the units of the returns, if there is one."""
        last = None if self.value_head is None else self.value_head[-1]
        return last if isinstance(last, Rescaled) else None

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """(B, ...) -> (B, U), (B,) or None."""
        x = self.encoder(x)
        features = self.policy_body(x)
        outputs = self.policy_head(features)
        if self.value_head is None:
            return outputs, None
        return outputs, self.value_head(features if self.value_body is None else self.value_body(x)).squeeze(1)


class PolicyObjective(ActingObjective):
    """-mean(advantage * log pi(a given s)) + value_coefficient * mean((V(s) - target)^2) - entropy * mean(H(pi(. given s))).

    Advantages and targets are numbers of the batch: no gradient goes through them. The mean is over steps, so the gradient has
    the direction of the notes' sum over the steps of an episode, and a size that does not depend on how long it is.

    Of a value that is `Rescaled` the error counts in the units of its net; value_loss is told in those of the returns.

    A batch has observation (B, ...), action (B,) or (B, K), advantage (B,) and, where there is a value, target (B,).
    """

    def __init__(
        self, model: nn.Module, distribution: Distribution, *, value_coefficient: float = 0.5, entropy: float = 0.0
    ) -> None:
        super().__init__()
        self.model, self.distribution = model, distribution
        self.value_coefficient, self.entropy = value_coefficient, entropy
        self._rescaled = [model.rescaled] if isinstance(model, ActorCritic) else []  # a list: it is no part besides

    def forward(self, batch: Batch) -> dict[str, Field]:
        """policy (B, U) and, where there is one, value (B,)."""
        outputs, value = self.model(batch["observation"])
        return {"policy": outputs} if value is None else {"policy": outputs, "value": value}

    def loss(self, batch: Batch, player: str) -> dict[str, Tensor]:
        """loss, and for the record policy_loss, value_loss and entropy."""
        advantage: Any = batch["advantage"]
        outputs, value = self.model(batch["observation"])
        if outputs.dtype != advantage.dtype:  # a net of 16 bits; the loss is of 32
            outputs, value = outputs.to(advantage.dtype), None if value is None else value.to(advantage.dtype)
        log_prob, entropies = self.distribution.terms(outputs, batch["action"])  # type: ignore[arg-type]
        loss = policy = torch.dot(advantage, log_prob) / -len(advantage)
        entropy = entropies.mean()
        told = {"policy_loss": policy, "entropy": entropy}
        if value is not None:
            told["value_loss"] = gap = F.mse_loss(value, batch["target"])  # type: ignore[arg-type]
            rescaled = self._rescaled[0] if self._rescaled else None
            if rescaled is not None:
                gap = gap / rescaled.deviation.square()
            loss = loss + self.value_coefficient * gap
        if self.entropy:
            loss = loss - self.entropy * entropy
        return {"loss": loss, **told}


def example(space: gymnasium.Space[Any], actions: gymnasium.Space[Any], rows: int, stack: int = 1) -> Batch:
    """A batch of zeros, of the shapes that acting gives: what the engine looks at before there is one."""
    shape = tuple(space.shape or ())
    if is_pixels(space):
        shape = (stack * (shape[2] if len(shape) == 3 else 1), *shape[:2])
    distribution = distribution_of(actions)
    if isinstance(distribution, Gaussian):
        action = torch.zeros(rows, distribution.size)
    else:
        kinds = getattr(distribution, "sizes", None)
        action = torch.zeros((rows,) if kinds is None else (rows, len(kinds)), dtype=torch.int64)
    return {
        "index": torch.arange(rows),
        "observation": torch.from_numpy(np.full((rows, *shape), getattr(space, "start", 0), space.dtype)),
        "action": action,
        "advantage": torch.zeros(rows),
        "target": torch.zeros(rows),
    }
