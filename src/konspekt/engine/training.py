"""How a fit goes about it: the fields that every neural estimator inherits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from konspekt.core.errors import ConfigError
from konspekt.core.params import AtLeast, LessThan, MoreThan, Registered, Search

__all__ = ["Training"]


@dataclass(kw_only=True, eq=False, repr=False)
class Training:
    """The parameters of training, with the same names everywhere.

    epochs: how often all items are seen.
    batch_size: items a step; None: all of them.
    optimizer: the name of an optimiser, with arguments if need be, as in "adam(beta2=0.99)".
    lr: the learning rate, before the schedule.
    schedule: how the learning rate changes: constant, step, exponential, inverse, cosine, one-cycle, plateau.
    warmup: steps over which the learning rate grows from 0 to `lr`.
    weight_decay: matrices shrink by lr * weight_decay each step, beside the gradient (Loshchilov and Hutter 2019).
    l1: adds l1 * sum |w| over the matrices to the loss.
    l2: adds l2 * sum w^2 over the matrices to the loss.
    clip_norm: gradients whose norm over all parameters is larger are scaled down to it (global clipping).
    clip_value: each component of the gradient is cut to this size (local clipping), before `clip_norm`.
    monitor: the validation measure that early stopping and the plateau schedule watch.
    patience: stop after so many epochs without a better `monitor`, and take the best weights; None: run all epochs.
    validation_fraction: the share of the data held out if `fit` gets no `validation`; None or 0: none.
    checkpoint_every: write a checkpoint every so many steps; None: every minute and at the end of each stage.
    keep: how many checkpoints to keep.
    on_bad: what to do with items that cannot be read: stop and list them, or leave them out and list them.
    random_state: the seed; None: a new one each time.
    device: where to compute: auto (a GPU if there is one), cpu, cuda, cuda:1, ...
    run_dir: the folder of the run; None: nothing is written.
    verbose: show progress.
    """

    epochs: Annotated[int, AtLeast(1)] = 50
    batch_size: Annotated[int | None, AtLeast(1), Search(choices=(16, 32, 64, 128))] = 32
    optimizer: Annotated[str, Registered("optimizer")] = "adam"
    lr: Annotated[float, MoreThan(0), Search(1e-4, 1e-1, log=True)] = 1e-3
    schedule: Annotated[str, Registered("schedule")] = "constant"
    warmup: Annotated[int, AtLeast(0)] = 0
    weight_decay: Annotated[float, AtLeast(0), Search(1e-6, 1e-1, log=True)] = 0.0
    l1: Annotated[float, AtLeast(0)] = 0.0
    l2: Annotated[float, AtLeast(0)] = 0.0
    clip_norm: Annotated[float | None, MoreThan(0)] = None
    clip_value: Annotated[float | None, MoreThan(0)] = None
    monitor: str = "loss"
    patience: Annotated[int | None, AtLeast(1)] = None
    validation_fraction: Annotated[float | None, AtLeast(0), LessThan(1)] = None
    checkpoint_every: Annotated[int | None, AtLeast(1)] = None
    keep: Annotated[int, AtLeast(1)] = 2
    on_bad: Literal["raise", "skip"] = "raise"
    random_state: int | None = 0
    device: str = "auto"
    run_dir: str | None = None
    verbose: bool = False

    def check_training(self, has_validation: bool) -> None:
        """Raise ConfigError where parameters do not go together."""
        name = type(self).__name__
        if self.run_dir == "":
            raise ConfigError(f"{name}: run_dir must name a folder, got ''")
        if self.patience is not None and not has_validation:
            raise ConfigError(
                f"{name}: patience={self.patience} needs validation data to watch: give validation=, or "
                "validation_fraction=0.2"
            )
        if self.schedule.startswith("plateau") and not has_validation:
            raise ConfigError(
                f"{name}: schedule={self.schedule!r} needs validation data to watch: give validation=, or "
                "validation_fraction=0.2"
            )
