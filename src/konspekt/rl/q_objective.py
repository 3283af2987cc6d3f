"""The loss of q-learning with a net: the square, or Huber's function, of the temporal difference.

The notes' rule w + alpha dL/dw has its sign wrong, and with the sign of dL/dQ that they give two slips cancel; what is meant is
w + alpha delta dQ/dw, delta = r + gamma max q' - q: the descent on the squared difference, in which the target r + gamma max q'
counts as a number. It is a semi-gradient: through the target, which depends on w too, nothing is differentiated. The target net
holds the target still between its updates; what breaks the likeness of neighbouring steps is the replay (ERRATA of the course).

Course: row R4 (document M, 2.4). Shape letters in this file: B transitions, A actions.
"""

from __future__ import annotations

import copy
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from konspekt.data.fields import Batch, Field
from konspekt.rl.neural_agent import ActingObjective
from konspekt.rl.q_nets import Twins

__all__ = ["Double", "QObjective", "greatest"]

Double = bool | Literal["random"]


def greatest(values: Tensor, chooser: Tensor | None = None) -> Tensor:
    """The value of the best action, (B, A) -> (B, 1). chooser: q by which the action is chosen; None: `values` themselves.

    The greatest of several noisy values is more than the greatest mean: E max >= max E. A chooser whose noise is another's takes
    the excess away (van Hasselt 2010).
    """
    if chooser is None:
        return values.max(1, keepdim=True).values
    return values.gather(1, chooser.argmax(1, keepdim=True))


class QObjective(ActingObjective):
    """What is lost on a batch of transitions, as `Replaying` gives them.

    double: False: the target net chooses the next action and values it; True: the net chooses, the target net values (van Hasselt
    et al. 2016); "random": of two nets, `model` being `Twins`, a coin for each transition says which learns; it chooses, and the
    other's target net values (van Hasselt 2010, where the coin is tossed for each update and there are no target nets:
    target_every=1).
    """

    def __init__(
        self, model: nn.Module, *, double: Double = False, huber: bool = True, notes_errors: bool = False
    ) -> None:
        super().__init__()
        self.model = model
        self.doubling, self.huber, self.notes_errors = double, huber, notes_errors
        self.twins = isinstance(model, Twins)
        self.behind = copy.deepcopy(model).requires_grad_(False).eval()
        self.errors: Tensor | None = None  # (B, 1), the temporal differences of the last batch

    def train(self, mode: bool = True) -> Self:
        """The target net is not trained."""
        super().train(mode)
        self.behind.eval()
        return self

    def forward(self, batch: Batch) -> dict[str, Field]:
        """The prediction: q (B, A)."""
        return {"q": self.model(batch["observation"])}

    @torch.no_grad()
    def target(self, observations: Tensor) -> Tensor:
        """The target net's q, (B, A); of twins (2, B, A)."""
        if self.twins:
            return torch.stack([self.behind.first(observations), self.behind.second(observations)])  # type: ignore[operator]
        return self.behind(observations)  # type: ignore[no-any-return]

    def q_and_target(self, batch: Any) -> tuple[Tensor, Tensor]:
        """q of the actions taken, and what it should be, both (B, 1); no gradient passes through the second."""
        observations, action = batch["observation"], batch["action"]
        if not self.doubling:
            return self.model(observations).gather(1, action), batch["target"]
        following, values = batch["next_observation"], batch["next_values"]
        if not self.twins:
            q = self.model(observations).gather(1, action)
            with torch.no_grad():
                best = greatest(values, self.model(following))
        else:
            first, second = self.model.first, self.model.second
            coin: Tensor = batch["coin"]
            q = torch.where(coin, first(observations).gather(1, action), second(observations).gather(1, action))  # type: ignore[operator]
            with torch.no_grad():
                by_first = greatest(values[1], first(following))  # type: ignore[operator]
                by_second = greatest(values[0], second(following))  # type: ignore[operator]
                best = torch.where(coin, by_first, by_second)
        return q, batch["reward"] + batch["discount"] * best

    def loss(self, batch: Any, player: str) -> dict[str, Tensor]:
        """The mean over the transitions, weighted where these are drawn by priority."""
        q, target = self.q_and_target(batch)
        lost = F.smooth_l1_loss if self.huber else F.mse_loss
        if not self.notes_errors:
            return {"loss": lost(q, target)}
        self.errors = (target - q).detach()
        return {"loss": (lost(q, target, reduction="none") * batch["weight"]).mean()}

    def item_losses(self, batch: Any) -> Tensor:
        """The loss of each transition, (B,)."""
        return (F.smooth_l1_loss if self.huber else F.mse_loss)(*self.q_and_target(batch), reduction="none")[:, 0]

    @torch.no_grad()
    def follow(self, share: float) -> None:
        """Move the target net by this share of the way to the net; 1: a copy."""
        behind: list[Tensor] = list(self.behind.parameters())
        ahead: list[Tensor] = list(self.model.parameters())
        if share == 1:
            torch._foreach_copy_(behind, ahead)
        else:
            torch._foreach_lerp_(behind, ahead, share)
        for old, new in zip(self.behind.buffers(), self.model.buffers(), strict=True):
            old.copy_(new)
