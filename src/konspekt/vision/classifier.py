"""Classification of images by any registered net.

Each net's file names its paper. Course: row D11.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from torch import nn

from konspekt.core.params import AtLeast, LessThan, MoreThan, Registered, Search
from konspekt.core.registry import system
from konspekt.data.targets import ClassTargets
from konspekt.engine.neural import NeuralClassifier
from konspekt.vision.estimator import ImageEstimator
from konspekt.vision.objectives import ImageClassification

__all__ = ["ImageClassifier"]


@system(
    name="image-classifier",
    kind="estimator",
    task="image-classification",
    rows=("D11", "A7", "A10", "A13", "A15", "A18"),
    paper="LeCun, Bottou, Bengio and Haffner 1998",
)
@dataclass(kw_only=True, eq=False, repr=False)
class ImageClassifier(ImageEstimator, NeuralClassifier):
    """Classify images.

    X: a folder with one sub-folder for each class (png, jpg, bmp, webp, tiff; y stays None), a csv file with a column of
    paths (y the name of the column of labels), a list of paths or of Pillow images, a torch Dataset, or an array
    (N, H, W), (N, H, W, C) or (N, C, H, W); an array (N, P) is taken for the pixels of square grey images, row by row, if
    P is a square. y: labels (N,). Pixels of each channel are standardised inside. The parameters of training are
    described in `Training`.

    label_smoothing: the share of each label that is spread evenly over all classes.
    top_k: `evaluate` also says how often the true class is among so many likeliest, where there are more classes.
    test_augment: augmentations by which each prediction sees the image once more, such as ("flip",), each for certain;
        probabilities are averaged.

    Raises DataError, with a list, where images cannot be read or differ in size; ConfigError where the net cannot take
    their size.
    """

    label_smoothing: Annotated[float, AtLeast(0), LessThan(1), Search(choices=(0.0, 0.1))] = 0.0
    top_k: Annotated[int, AtLeast(1)] = 5
    test_augment: tuple[Annotated[str, Registered("augmentation")], ...] = ()
    epochs: Annotated[int, AtLeast(1)] = 20
    lr: Annotated[float | Literal["find"], MoreThan(0), Search(1e-4, 1e-1, log=True)] = 2e-3

    def num_outputs(self, targets: ClassTargets) -> int:
        """One for each class."""
        return targets.num_classes

    def objective(self, model: nn.Module, targets: ClassTargets) -> ImageClassification:
        """Cross-entropy."""
        return ImageClassification(
            model,
            self.class_weights_,
            label_smoothing=self.label_smoothing,
            top_k=self.top_k,
            views=self.test_augment,
        )
