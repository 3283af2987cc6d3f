"""Objectives of images: what `engine.supervised` has, for nets with auxiliary heads, mixed images and several views.

Label smoothing: Szegedy et al. 2016, https://arxiv.org/abs/1512.00567, section 7. Auxiliary heads: Szegedy et al. 2015,
https://arxiv.org/abs/1409.4842, section 5. Course: rows D11, D7, A9.

Shape letters in this file: B batch, K classes, T targets, C channels, H height, W width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from konspekt.data.batches import Batches
from konspekt.data.fields import Batch
from konspekt.engine.supervised import Classification, Regression
from konspekt.engine.transfer import Transferable
from konspekt.vision.augment import augment

__all__ = ["ImageClassification", "ImageRegression", "auxiliary"]


def auxiliary(out: Any) -> tuple[Tensor, tuple[Tensor, ...]]:
    """What a net gave, as its own output and those of its auxiliary heads, which it has in training only."""
    return (out[0], tuple(out[1:])) if isinstance(out, tuple) else (out, ())


def views_of(batch: Batch, views: tuple[str, ...]) -> list[Tensor]:
    """The pixels as they are, and once more for each augmentation, with the same draws for each image."""
    x: Any = batch["x"]
    same = {"x": x, "index": torch.zeros(len(x), dtype=torch.int64, device=x.device)}
    return [x] + [
        augment(dict(same), names=(name,), seed=0, epoch=place, certain=True)["x"]  # type: ignore[misc]
        for place, name in enumerate(views)
    ]


class ImageClassification(Transferable, Classification):
    """Cross-entropy, in nats.

    model: x (B, C, H, W) -> logits (B, K), or in training (logits, auxiliary logits, ...), whose losses count `aux_weight`
        of the net each.
    weights (K,): of each class, of mean 1 over the items, or None.
    label_smoothing: the share of the target that is spread evenly over all classes, in training.
    top_k: `evaluate` also says how often the true class is among so many likeliest, where there are more.
    views: augmentations by which a prediction sees each image once more; probabilities are averaged.

    Batches of mixed images hold, beside y, "y_other" (B,) and "mix" (B,), the share of the own image.
    """

    def __init__(
        self,
        model: nn.Module,
        weights: Tensor | None = None,
        *,
        label_smoothing: float = 0.0,
        top_k: int = 5,
        views: tuple[str, ...] = (),
    ) -> None:
        super().__init__(model, weights, fields=("x",))
        self.label_smoothing, self.top_k, self.views = label_smoothing, top_k, views

    def loss(self, batch: Batch, player: str) -> dict[str, Tensor]:
        logits, others = auxiliary(self.model(batch["x"]))
        loss = self._mean_loss(logits, batch)
        if others:
            weight = float(self.net.aux_weight)  # type: ignore[arg-type]
            loss = loss + weight * torch.stack([self._mean_loss(other, batch) for other in others]).sum()
        return {"loss": loss}

    def _mean_loss(self, logits: Tensor, batch: Batch) -> Tensor:
        y: Any = batch["y"]
        if "mix" not in batch:
            if self.weights is None:
                return F.cross_entropy(logits, y, label_smoothing=self.label_smoothing)
            return self._losses(logits, y).mean()
        own: Any = batch["mix"]
        return (own * self._losses(logits, y) + (1 - own) * self._losses(logits, batch["y_other"])).mean()  # type: ignore[arg-type]

    def _losses(self, logits: Tensor, y: Tensor) -> Tensor:
        losses = F.cross_entropy(logits, y, reduction="none", label_smoothing=self.label_smoothing)
        return losses if self.weights is None else losses * self.weights[y]

    def _logits_of(self, batch: Batch) -> Tensor:
        if not self.views or self.training:
            return auxiliary(self.model(batch["x"]))[0]
        chances = [auxiliary(self.model(x))[0].float().softmax(1) for x in views_of(batch, self.views)]
        return torch.stack(chances).mean(0).clamp_min(torch.finfo(torch.float32).tiny).log()

    @torch.no_grad()
    def evaluate(self, batches: Batches) -> dict[str, float]:
        """Loss (weighted as in training, without smoothing), accuracy and, with more classes, top-k accuracy."""
        loss = right = among = 0.0
        several = False
        for batch in batches.epoch(0):
            logits, y = self._logits(batch)
            losses = F.cross_entropy(logits, y, reduction="none")
            if self.weights is not None:
                losses = losses * self.weights[y]
            loss += float(losses.sum())
            right += float((logits.argmax(1) == y).sum())
            several = logits.shape[1] > self.top_k > 1
            if several:
                among += float((logits.topk(self.top_k, 1).indices == y[:, None]).sum())
        values = {"loss": loss / batches.num_items, "accuracy": right / batches.num_items}
        return values | ({f"top{self.top_k}_accuracy": among / batches.num_items} if several else {})

    @property
    def higher_is_better(self) -> tuple[str, ...]:  # type: ignore[override]
        """The names of measures that grow as the model gets better."""
        return ("accuracy", f"top{self.top_k}_accuracy")


class ImageRegression(Transferable, Regression):
    """Mean squared error of standardised targets: 1 is what predicting the mean would get.

    model: x (B, C, H, W) -> prediction (B, T), or in training (prediction, auxiliary predictions, ...). y (B, T) float32.
    views: as in `ImageClassification`; predictions are averaged.
    """

    def __init__(self, model: nn.Module, *, views: tuple[str, ...] = ()) -> None:
        super().__init__(model, fields=("x",))
        self.views = views

    def loss(self, batch: Batch, player: str) -> dict[str, Tensor]:
        prediction, others = auxiliary(self.model(batch["x"]))
        loss = self._mean_loss(prediction, batch)
        if others:
            weight = float(self.net.aux_weight)  # type: ignore[arg-type]
            loss = loss + weight * torch.stack([self._mean_loss(other, batch) for other in others]).sum()
        return {"loss": loss}

    @staticmethod
    def _mean_loss(prediction: Tensor, batch: Batch) -> Tensor:
        y: Any = batch["y"]
        if "mix" in batch:
            own = batch["mix"][:, None]  # type: ignore[index]
            y = own * y + (1 - own) * batch["y_other"]
        return F.mse_loss(prediction, y)

    def _prediction(self, batch: Batch) -> Tensor:
        if not self.views or self.training:
            return auxiliary(self.model(batch["x"]))[0]
        return torch.stack([auxiliary(self.model(x))[0] for x in views_of(batch, self.views)]).mean(0)
