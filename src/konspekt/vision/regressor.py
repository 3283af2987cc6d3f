"""Regression of numbers on images by any registered net.

Each net's file names its paper. Course: row D11.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from torch import nn

from konspekt.core.params import AtLeast, MoreThan, Registered, Search
from konspekt.core.registry import system
from konspekt.data.readers import ImageReader
from konspekt.data.targets import NumberTargets
from konspekt.engine.neural import NeuralRegressor
from konspekt.vision.estimator import ImageEstimator
from konspekt.vision.objectives import ImageRegression

__all__ = ["ImageRegressor"]


class _NumberReader(ImageReader):
    """Images; the names of a folder's sub-folders are no numbers to learn from."""

    folders_are_classes: ClassVar[bool] = False


@system(
    name="image-regressor",
    kind="estimator",
    task="image-regression",
    rows=("D11", "A15"),
    paper="LeCun, Bottou, Bengio and Haffner 1998",
)
@dataclass(kw_only=True, eq=False, repr=False)
class ImageRegressor(ImageEstimator, NeuralRegressor):
    """Predict one or several numbers from an image: an age, an angle, a count.

    X: as for `ImageClassifier`; of a folder all images are taken, and y is needed. y: (N,) or (N, T) numbers, standardised
    inside, or for a csv file of paths the name of a column, or names. The parameters of training are described in
    `Training`.

    test_augment: augmentations by which each prediction sees the image once more; predictions are averaged.

    Raises DataError, with a list, where images cannot be read or differ in size; ConfigError where the net cannot take
    their size.
    """

    test_augment: tuple[Annotated[str, Registered("augmentation")], ...] = ()
    epochs: Annotated[int, AtLeast(1)] = 20
    lr: Annotated[float | Literal["find"], MoreThan(0), Search(1e-4, 1e-1, log=True)] = 2e-3

    reader = _NumberReader()

    def num_outputs(self, targets: NumberTargets) -> int:
        """One for each target."""
        return targets.num_targets

    def objective(self, model: nn.Module, targets: NumberTargets) -> ImageRegression:
        """Mean squared error."""
        return ImageRegression(model, views=self.test_augment)
