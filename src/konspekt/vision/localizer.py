"""Localisation: what is in an image, and where: one class and one box.

Sermanet et al. 2014, "OverFeat", https://arxiv.org/abs/1312.6229, for one net with two outputs; the loss of the box is
that of Girshick 2015, "Fast R-CNN", https://arxiv.org/abs/1504.08083, section 2.3. Course: row D11.

The net gives K + 4 numbers: logits of the classes, and the centre, width and height of the box, each through a sigmoid as
a share of the image.

Shape letters in this file: B batch, K classes, C channels, H height, W width, N images.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn
from torch.nn import functional as F

from konspekt.core.errors import ConfigError
from konspekt.core.params import AtLeast, LessThan, MoreThan, Search, split_call
from konspekt.core.registry import system
from konspekt.core.runs import Run
from konspekt.data.batches import Batches
from konspekt.data.boxes import Boxes, BoxReader
from konspekt.data.fields import Batch, Field
from konspekt.data.readers import Encoded, displayed
from konspekt.data.targets import ClassTargets
from konspekt.engine.neural import NeuralClassifier, Splits
from konspekt.vision.estimator import ImageEstimator
from konspekt.vision.objectives import ImageClassification, auxiliary

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Localization", "ObjectLocalizer", "corners", "pair_iou"]

_BETA = 0.1  # of the image: where the box's loss goes over from square to linear
_OVERLAP = 0.5  # IoU from which on a box counts as found (ILSVRC)
_SHOWN = 12  # images with boxes in the report
_PICTURE = 160  # pixels that the longer side of such a picture has at least, and at most twice as many


def corners(raw: Tensor) -> Tensor:
    """Four numbers of the net (B, 4) as left, top, right, bottom (B, 4), shares of the image within 0 and 1."""
    centre, half = raw[:, :2].sigmoid(), raw[:, 2:].sigmoid() / 2
    return torch.cat([centre - half, centre + half], 1).clamp(0, 1)


def pair_iou(one: Tensor, other: Tensor) -> Tensor:
    """Intersection over union of each pair of boxes (B, 4), left, top, right, bottom in any unit -> (B,)."""
    sides = (torch.minimum(one[:, 2:], other[:, 2:]) - torch.maximum(one[:, :2], other[:, :2])).clamp(min=0)
    overlap = sides.prod(1)
    areas = [(box[:, 2:] - box[:, :2]).clamp(min=0).prod(1) for box in (one, other)]
    return overlap / (areas[0] + areas[1] - overlap).clamp(min=1e-12)


class Localization(ImageClassification):
    """Cross-entropy of the class, and `box_weight` times the smooth L1 distance of the box's four sides.

    model: x (B, C, H, W) -> (B, K + 4). Batches hold "boxes" (B, 4), in pixels of x.
    """

    def __init__(self, model: nn.Module, weights: Tensor | None = None, *, box_weight: float, **given: Any) -> None:
        super().__init__(model, weights, **given)
        self.box_weight = box_weight

    def forward(self, batch: Batch) -> dict[str, Field]:
        out = auxiliary(self.model(batch["x"]))[0]
        return {"logits": out[:, :-4], "boxes": corners(out[:, -4:])}

    def _mean_loss(self, out: Tensor, batch: Batch) -> Tensor:
        return super()._mean_loss(out[:, :-4], batch) + self.box_weight * self._box_losses(out, batch).mean()

    def _box_losses(self, out: Tensor, batch: Batch) -> Tensor:
        return F.smooth_l1_loss(corners(out[:, -4:]), self._truth(batch), reduction="none", beta=_BETA).sum(1)

    @staticmethod
    def _truth(batch: Batch) -> Tensor:
        x: Any = batch["x"]
        height, width = x.shape[-2:]
        return batch["boxes"] / torch.tensor([width, height] * 2, dtype=torch.float32, device=x.device)  # type: ignore[operator]

    def _logits_of(self, batch: Batch) -> Tensor:
        return auxiliary(self.model(batch["x"]))[0][:, :-4]

    def item_losses(self, batch: Batch) -> Tensor:
        out = auxiliary(self.model(batch["x"]))[0]
        return self._losses(out[:, :-4], batch["y"]) + self.box_weight * self._box_losses(out, batch)  # type: ignore[arg-type]

    @torch.no_grad()
    def sample_targets(self, batch: Batch) -> Batch:
        """Raises ConfigError: the loss of the box is the likelihood of nothing simple."""
        raise ConfigError(
            "a box's loss is no likelihood here, so there is no true Fisher information; take "
            "natural-gradient(estimate='empirical')"
        )

    @torch.no_grad()
    def evaluate(self, batches: Batches) -> dict[str, float]:
        """Loss, accuracy of the class, mean IoU of the boxes, and "located": class right and IoU at least 0.5."""
        loss = right = overlap = located = 0.0
        for batch in batches.epoch(0):
            found: Any = self(batch)
            loss += float(self.item_losses(batch).sum())
            hit = found["logits"].argmax(1) == batch["y"]
            iou = pair_iou(found["boxes"], self._truth(batch))
            right += float(hit.sum())
            overlap += float(iou.sum())
            located += float((hit & (iou >= _OVERLAP)).sum())
        count = batches.num_items
        return {"loss": loss / count, "accuracy": right / count, "iou": overlap / count, "located": located / count}

    @property
    def higher_is_better(self) -> tuple[str, ...]:  # type: ignore[override]
        """The names of measures that grow as the model gets better."""
        return ("accuracy", "iou", "located")


@system(
    name="object-localizer",
    kind="estimator",
    task="object-localization",
    rows=("D11", "A15"),
    paper="Sermanet, Eigen, Zhang, Mathieu, Fergus and LeCun 2014",
)
@dataclass(kw_only=True, eq=False, repr=False)
class ObjectLocalizer(ImageEstimator, NeuralClassifier):
    """Say what is in an image and where: one class and one box.

    X: as for `ImageClassifier`, but for folders of classes, which have no boxes. y: a DataFrame with the columns label,
    left, top, right, bottom (or xmin, ymin, xmax, ymax), an array (N, 5) of the same, a pair of labels (N,) and boxes
    (N, 4), or for a csv file of paths the tuple of its columns. Boxes are in pixels of the images as they are given; where
    `image_size` brings images to another size, boxes follow, and predictions are in pixels of the image again. The
    parameters of training are described in `Training`.

    box_weight: what the loss of the box counts beside that of the class.
    label_smoothing: the share of each label that is spread evenly over all classes.

    `predict` gives classes, `predict_boxes` boxes (N, 4), `predict_frame` both; `evaluate` says accuracy, mean IoU and how
    often class and box are right ("located": IoU of at least 0.5).

    Raises DataError on images or boxes that cannot be, with their rows.
    """

    box_weight: Annotated[float, MoreThan(0), Search(0.3, 30.0, log=True)] = 5.0
    label_smoothing: Annotated[float, AtLeast(0), LessThan(1), Search(choices=(0.0, 0.1))] = 0.0
    epochs: Annotated[int, AtLeast(1)] = 20
    lr: Annotated[float | Literal["find"], MoreThan(0), Search(1e-4, 1e-1, log=True)] = 2e-3

    reader = BoxReader()

    def check_params(self) -> None:
        """Raise ConfigError where a parameter is out of its bounds, or images would be mixed, which boxes cannot be."""
        super().check_params()
        if any(split_call(name, "augment")[0] == "mixup" for name in self.augment):
            raise ConfigError(
                f"{type(self).__name__}: augment='mixup' mixes two images, and their boxes cannot be mixed"
            )

    def num_outputs(self, targets: ClassTargets) -> int:
        """One for each class, and four of the box."""
        return targets.num_classes + 4

    def objective(self, model: nn.Module, targets: ClassTargets) -> Localization:
        """The joint loss of class and box."""
        return Localization(
            model, self.class_weights_, box_weight=self.box_weight, label_smoothing=self.label_smoothing
        )

    def learn_targets(self, y: Boxes, train: NDArray[np.int64]) -> tuple[ClassTargets, dict[str, Tensor]]:
        """The classes, and each item's class and box."""
        targets, codes = super().learn_targets(y.labels, train)
        return targets, {"y": codes, "boxes": self._in_pixels(y)}

    def encode_targets(self, y: Boxes) -> dict[str, Tensor]:
        """The class and the box of other items."""
        return {"y": self.targets_.encode(y.labels, type(self).__name__), "boxes": self._in_pixels(y)}

    def _in_pixels(self, y: Boxes) -> Tensor:
        """Boxes (N, 4) in pixels of the images as the net sees them."""
        return torch.from_numpy(y.boxes * ([self.schema_.width, self.schema_.height] * 2)).float()

    def strata(self, y: Boxes) -> NDArray[np.int64]:
        """The class of each item."""
        return super().strata(y.labels)

    def predict_boxes(self, X: Any) -> NDArray[np.float64]:
        """The box of each image, (N, 4): left, top, right, bottom, in pixels of the image as it was given."""
        encoded = self.encode(X)
        return _unscaled(self._forward(self._batches(encoded))["boxes"], encoded)

    def predict_frame(self, X: Any) -> pd.DataFrame:
        """A row for each item: its name, the likeliest class and its probability, and the box."""
        import pandas as pd

        encoded = self.encode(X)
        found = self._forward(self._batches(encoded))
        chances, codes = found["logits"].double().softmax(dim=1).max(dim=1)
        frame = {"item": encoded.names, "prediction": self.targets_.decode(codes), "probability": chances.numpy()}
        sides = _unscaled(found["boxes"], encoded).T
        return pd.DataFrame(frame | dict(zip(("left", "top", "right", "bottom"), sides, strict=True)))

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """How often class and box are right, the box with an IoU of at least 0.5; y as in `fit`.

        Labels that the training had not count as errors.
        """
        check_is_fitted(self, "objective_")
        encoded = self.reader.encode(self, *self._unpacked(X, y), truth=True)
        found = self._forward(self._batches(encoded))
        hit = self.targets_.decode(found["logits"].argmax(dim=1)) == encoded.y.labels
        overlap = pair_iou(found["boxes"].double(), torch.from_numpy(encoded.y.boxes)).numpy()
        return float(np.average(hit & (overlap >= _OVERLAP), weights=sample_weight))

    def exhibit(self, run: Run, splits: Splits) -> None:
        """Some of the measured images with two boxes: what is there, in white, and what was found, in orange."""
        measured = splits.validation or splits.in_order
        places = measured.items[:_SHOWN].to(measured.device)
        batch = measured.take(places)
        with torch.no_grad():
            found: Any = self.objective_(batch)
        truth = self.objective_._truth(batch)
        overlaps = pair_iou(found["boxes"], truth).tolist()
        chances, codes = found["logits"].softmax(1).max(1)
        names = [self.targets_.decode(c) for c in (batch["y"], codes)]
        titles = [
            f"{true}: found {said} ({chance:.2f}), IoU {iou:.2f}"
            for true, said, chance, iou in zip(*names, chances.tolist(), overlaps, strict=True)
        ]
        pixels: Any = batch["x"]
        pictures = [
            _drawn(*one) for one in zip(pixels.cpu(), truth.cpu().tolist(), found["boxes"].cpu().tolist(), strict=True)
        ]
        run.keep("boxes", "images", {"images": np.stack(pictures), "titles": titles})


def _drawn(pixels: Tensor, truth: list[float], found: list[float]) -> NDArray[np.uint8]:
    """An image (C, H, W) with two boxes, enlarged until lines are thin beside it, or made smaller."""
    from PIL import Image, ImageDraw

    rows = displayed(pixels)
    picture = Image.fromarray(rows).convert("RGB")
    picture.thumbnail((2 * _PICTURE, 2 * _PICTURE))
    times = max(1, -(-_PICTURE // max(picture.size)))
    picture = picture.resize((picture.width * times, picture.height * times), Image.Resampling.NEAREST)
    draw = ImageDraw.Draw(picture)
    for box, colour, line in ((truth, "black", 3), (truth, "white", 1), (found, "black", 4), (found, "#e69f00", 2)):
        sides = [box[i] * picture.size[i % 2] for i in range(4)]
        draw.rectangle(
            [min(sides[0], sides[2]), min(sides[1], sides[3]), sides[2], sides[3]], outline=colour, width=line
        )
    return np.asarray(picture)


def _unscaled(shares: Tensor, encoded: Encoded) -> NDArray[np.float64]:
    """Boxes (N, 4) as shares of the images -> in pixels of the originals."""
    height, width = encoded.sizes.T  # type: ignore[union-attr]
    return shares.double().numpy() * np.stack([width, height, width, height], axis=1)
