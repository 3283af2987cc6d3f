"""Classification of images by any registered net.

LeCun, Bottou, Bengio and Haffner 1998 for the nets that are here so far. Course: row D3; D11 in part.

Shape letters in this file: B batch, C channels, H height, W width.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Annotated, Literal

from torch import Tensor, nn

from konspekt.core.params import AtLeast, MoreThan, Registered, Search, build
from konspekt.core.registry import system
from konspekt.core.seeds import mix
from konspekt.data.batches import Transform
from konspekt.data.fields import Batch
from konspekt.data.images import ImageSchema
from konspekt.data.readers import ImageReader
from konspekt.data.targets import ClassTargets
from konspekt.engine.neural import NeuralClassifier
from konspekt.engine.supervised import Classification
from konspekt.nn.scaling import Standardise
from konspekt.vision.augment import augment

__all__ = ["ImageClassifier"]


@system(
    name="image-classifier",
    kind="estimator",
    task="image-classification",
    rows=("D3", "A10", "A13", "A18"),
    paper="LeCun, Bottou, Bengio and Haffner 1998",
)
@dataclass(kw_only=True, eq=False, repr=False)
class ImageClassifier(NeuralClassifier):
    """Classify images.

    X: a folder with one sub-folder for each class (png, jpg, bmp, webp, tiff; y stays None), a list of paths or of
    Pillow images, or an array (N, H, W), (N, H, W, C) or (N, C, H, W); an array (N, P) is taken for the pixels of
    square grey images, row by row, if P is a square. y: labels (N,). Pixels of each channel are standardised inside. The
    parameters of training are described in `Training`.

    arch: the net, with its arguments if need be: "lenet", "lenet(form='paper')", "mlp(hidden=(256,))".
    augment: what is done at random to training images: "shift" moves them by up to a sixteenth of their size.
    image_size: the size to bring images to, one number or (height, width); None: they must be of one size.

    Raises DataError, with a list, where images cannot be read or differ in size; ConfigError where the net cannot take
    their size.
    """

    arch: Annotated[str, Registered("net"), Search(choices=("lenet", "mlp"))] = "lenet"
    augment: tuple[Literal["shift"], ...] = ()
    image_size: int | tuple[int, int] | None = None
    epochs: Annotated[int, AtLeast(1)] = 20
    lr: Annotated[float | Literal["find"], MoreThan(0), Search(1e-4, 1e-1, log=True)] = 2e-3

    reader = ImageReader()

    def build(self, schema: ImageSchema, targets: ClassTargets) -> Classification:
        """Cross-entropy of the net, behind a layer that standardises the pixels."""
        size = (schema.height, schema.width)
        net = self.own_net() or build("net", self.arch, schema.channels, targets.num_classes, size)
        scale = Standardise(schema.mean, schema.std)
        model = nn.Sequential(OrderedDict(scale=scale, net=net))
        return Classification(model, self.class_weights_, fields=("x",))

    def make_transform(self) -> Transform | None:
        """The augmentations, with draws that belong to (seed, epoch, item)."""
        if not self.augment:
            return None
        names, seed = self.augment, mix(self.seed_, 4)

        def transform(batch: Batch, epoch: int) -> Batch:
            pixels, index = batch["x"], batch["index"]
            if isinstance(pixels, Tensor) and isinstance(index, Tensor):
                batch["x"] = augment(pixels, index, names=names, seed=seed, epoch=epoch)
            return batch

        return transform
