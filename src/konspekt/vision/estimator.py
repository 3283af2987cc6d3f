"""What the estimators of images share: how images are read and augmented, which net looks at them, from what weights it begins.

Course: rows D11, D2, A15. Shape letters in this file: B batch, C channels, H height, W width.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from torch import Tensor, nn

from konspekt.core.errors import ConfigError
from konspekt.core.params import AtMost, MoreThan, Registered, Search, build, split_call
from konspekt.core.runs import Run
from konspekt.core.seeds import mix
from konspekt.data.batches import Transform
from konspekt.data.fields import Batch
from konspekt.data.images import ImageSchema
from konspekt.data.readers import ImageReader
from konspekt.engine.loop import Callback, minimise
from konspekt.engine.neural import NeuralEstimator, Splits
from konspekt.engine.record import say
from konspekt.engine.slimming import check_plan, slim_as
from konspekt.engine.transfer import NOTHING, Transferable, frozen_modules, head_modules
from konspekt.nn.scaling import Standardise
from konspekt.vision.augment import augment

__all__ = ["ImageEstimator", "white_of"]


@dataclass(kw_only=True, eq=False, repr=False)
class ImageEstimator(NeuralEstimator):
    """An estimator that looks at images through a registered net.

    arch: the net, with its arguments if need be: "resnet18", "lenet(form='paper')", "vgg11_bn(width=0.5)".
    augment: what is done at random to training images, in this order: ("flip", "crop(padding=4)"); `konspekt list --kind
        augmentation` shows what there is.
    image_size: the size to bring images to, one number or (height, width); None: they must be of one size.
    channels: 1: colour becomes grey; 3: grey is repeated; None: as the images are.
    weights: what the net begins with: a .safetensors file, a folder made by `save`, or "hf:owner/name" from the Hugging
        Face hub. A head of another size is made anew; all else must match. None: it begins at random.
    first_layer: "sum": where the weights are for 3 channels and the images have 1, the first layer's kernels are summed
        over the channels, so that grey images are seen as the same pictures in colour would be; where it is the other way
        round, each kernel is divided among the channels. None: such weights are refused.
    freeze: the depth up to which the net keeps the weights that it began with: the name of one of its parts ("layer2"),
        "body" (all but the head) or "nothing". The statistics of frozen batch normalisation are kept too.
    unfreeze: depths to go on with, in further stages of `epochs` epochs each: freeze="body" and ("layer2", "nothing") train
        the head, then all from layer3 on, then all.
    lr_first: the learning rate of the net's first part, as a share of that of its head; between them it grows evenly in its
        logarithm. 1: one rate for all.
    progressive: train in stages of depth, as the net knows them: VGG from A to the depth that is wanted, GoogLeNet from
        one auxiliary head to the next.
    """

    arch: Annotated[str, Registered("net"), Search(choices=("lenet", "mlp", "resnet20"))] = "lenet"
    augment: tuple[Annotated[str, Registered("augmentation")], ...] = ()
    image_size: int | tuple[int, int] | None = None
    channels: Literal[1, 3] | None = None
    weights: str | None = None
    first_layer: Literal["sum"] | None = None
    freeze: str = NOTHING
    unfreeze: tuple[str, ...] = ()
    lr_first: Annotated[float, MoreThan(0), AtMost(1)] = 1.0
    progressive: bool = False

    reader = ImageReader()

    def card_data(self) -> list[str]:
        """What the images are, what is predicted and, of a pruned net, that it is smaller than `arch` says."""
        count = len(self.slimmed)
        return super().card_data() + (
            [f"pruned: {count} convolutions of {self.arch} have fewer channels than that is built with"]
            if count
            else []
        )

    def objective(self, model: nn.Module, targets: Any) -> Transferable:
        """What is minimised, for a model that takes pixels."""
        raise NotImplementedError(f"{type(self).__name__}.objective")

    def num_outputs(self, targets: Any) -> int:
        """How many numbers the net gives."""
        raise NotImplementedError(f"{type(self).__name__}.num_outputs")

    def build(self, schema: ImageSchema, targets: Any) -> Transferable:
        """The objective of the net, behind a layer that standardises the pixels."""
        size = (schema.height, schema.width)
        net = self.own_net() or build("net", self.arch, schema.channels, self.num_outputs(targets), size)
        if self.slimmed:
            slim_as(net, self.slimmed)
        return self._wrapped(net, schema, targets)

    @property
    def slimmed(self) -> dict[str, int]:
        """How many channels are left to the convolutions that `explain.prune` has slimmed; `fit` begins with all of them."""
        return dict(getattr(self, "slimmed_", {}))

    def learned(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """What was learned and, of a net that has been slimmed, its shape."""
        config, tensors = super().learned()
        return config | ({"slimmed": self.slimmed} if self.slimmed else {}), tensors

    def restore(self, config: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        """Take back what `learned` gave."""
        if "slimmed" in config:
            self.slimmed_ = check_plan(config["slimmed"])
        super().restore(config, tensors)

    def _wrapped(self, net: nn.Module, schema: ImageSchema, targets: Any) -> Transferable:
        scale = Standardise(schema.mean, schema.std)
        objective = self.objective(nn.Sequential(OrderedDict(scale=scale, net=net)), targets)
        objective.lr_first = self.lr_first
        return objective

    def check_params(self) -> None:
        """Raise ConfigError where a parameter is out of its bounds, or where two do not go together."""
        super().check_params()
        name = type(self).__name__
        if self.unfreeze and self.freeze == NOTHING:
            raise ConfigError(f"{name}: unfreeze={self.unfreeze!r} goes on from a frozen net: give freeze='body'")
        if self.freeze != NOTHING and self.weights is None and self.model is None:
            raise ConfigError(
                f"{name}: freeze={self.freeze!r} would keep weights that were drawn at random: give weights="
            )
        if self.first_layer is not None and self.weights is None:
            raise ConfigError(f"{name}: first_layer={self.first_layer!r} is about a file of weights: give weights=")
        if any(split_call(text, "test_augment")[0] == "mixup" for text in getattr(self, "test_augment", ())):
            raise ConfigError(
                f"{name}: test_augment='mixup' would predict for two images at once: mixup is for training, in augment="
            )
        if self.progressive and (self.weights is not None or self.freeze != NOTHING):
            raise ConfigError(f"{name}: progressive=True begins at random: leave weights and freeze out")

    def train(self, splits: Splits, run: Run, callbacks: Sequence[Callback]) -> Transferable:
        """Take weights, grow what grows, then minimise: once, or in stages of depth, or of unfrozen parts."""
        self.__dict__.pop("slimmed_", None)
        objective: Any = self.built(splits)
        self._begin(objective, splits, run)
        objective = objective.to(splits.train.device)
        where = type(self).__name__

        def stage(name: str, what: Transferable) -> None:
            try:
                minimise(
                    what, splits.train, self, run=run, validation=splits.validation, stage=name, callbacks=callbacks
                )
            except ValueError as error:
                if "more than 1 value per channel" not in str(error):
                    raise
                raise ConfigError(
                    f"{where}: batch normalisation has one number of each map to go by, as batches are of one item and maps "
                    "of 1 x 1: give batch_size=2 or more, or larger images, with image_size="
                ) from None

        depths = (self.freeze, *self.unfreeze)
        for place, depth in enumerate(depths):  # a wrong name is said before the first stage, not after it
            frozen_modules(objective.net, depth, f"{where}: {'unfreeze' if place else 'freeze'}")
        if self.progressive:
            for name, part in self._progression(objective.net):
                stage(f"depth-{name}", self._wrapped(part, self.schema_, self.targets_).to(splits.train.device))
        for place, depth in enumerate(depths):
            objective.freeze(depth)
            stage("fit" if place == len(depths) - 1 else f"frozen-{place + 1}", objective)
        objective.freeze(NOTHING)
        return objective  # type: ignore[no-any-return]

    def _begin(self, objective: Transferable, splits: Splits, run: Run) -> None:
        """What happens to the net before its first step. A run that is resumed does it again, or has it in its checkpoint."""
        net, where = objective.net, type(self).__name__
        resumed = run.checkpoints is not None and run.checkpoints.is_dir() and any(run.checkpoints.iterdir())
        if self.weights is not None and not resumed:
            from konspekt.engine.pretrained import take_weights

            heads = tuple(getattr(net, "heads", ())) or tuple(head_modules(net))
            for note in take_weights(net, self.weights, heads=heads, first_layer=self.first_layer, where=where):
                say(self, run, note)
        if hasattr(net, "grow") and self.weights is None and not resumed:  # else it has grown already
            scale: Any = objective.model.scale  # type: ignore[union-attr]
            pixels: Any = (batch["x"] for batch in splits.in_order.epoch(0))
            net.grow(scale(x) for x in pixels)  # type: ignore[operator]

    def _progression(self, net: Any) -> Any:
        if not hasattr(net, "progression"):
            raise ConfigError(
                f"{type(self).__name__}: progressive=True, but {split_call(self.arch, 'arch')[0]!r} has no stages of depth; "
                "vgg13 to vgg19 and googlenet have"
            )
        return net.progression()

    def make_transform(self) -> Transform | None:
        """The augmentations, with draws that belong to (seed, epoch, item)."""
        if not self.augment:
            return None
        names, seed, white = self.augment, mix(self.seed_, 4), white_of(self.schema_)

        def transform(batch: Batch, epoch: int) -> Batch:
            return augment(batch, names=names, seed=seed, epoch=epoch, white=white)

        return transform


def white_of(schema: ImageSchema) -> float:
    """What counts as white in the augmentations that need it: 255 of 8-bit images; of floats 1, 255 or 65535, by their mean."""
    if schema.dtype == "uint8":
        return 255.0
    return next((white for white in (1.0, 255.0) if max(schema.mean) <= white), 65535.0)
