"""How a fit goes about it: the fields that every neural estimator inherits, and those of them that agents have too."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from konspekt.core.errors import ConfigError
from konspekt.core.params import AtLeast, AtMost, LessThan, MoreThan, Registered, Search

__all__ = ["Descent", "Training"]


@dataclass(kw_only=True, eq=False, repr=False)
class Descent:
    """The parameters of learning by gradient, whatever the batches come from.

    batch_size: items a step; None: all of them.
    optimizer: the name of an optimiser, with arguments if need be, as in "adam(beta2=0.99)".
    lr: the learning rate, before the schedule; "find": chosen by a range test before the first step (Smith 2017).
    schedule: how the learning rate changes: constant, linear, step, exponential, inverse, cosine,
        one-cycle, plateau.
    warmup: steps over which the learning rate grows from 0 to `lr`.
    weight_decay: matrices shrink by lr * weight_decay each step, beside the gradient (Loshchilov and Hutter 2019).
    l1: adds l1 * sum |w| over the matrices to the loss.
    l2: adds l2 * sum w^2 over the matrices to the loss.
    clip_norm: gradients whose norm over all parameters is larger are scaled down to it (global clipping).
    clip_value: each component of the gradient is cut to this size (local clipping), before `clip_norm`.
    ema: the share of an average of the weights that each step keeps, such as 0.999; the average is what is measured
        and saved (Polyak and Juditsky 1992). Early on it keeps less: (1 + step) / (10 + step). None: no average.
    running_risk: lambda of the running estimate of the risk, Q = lambda * loss + (1 - lambda) * Q, shown with the
        progress and kept in metrics.jsonl (course: document L, 3.3); None: no estimate.
    monitor: the validation measure that early stopping and the plateau schedule watch.
    patience: stop after so many epochs without a better `monitor`, and take the best weights; None: run all epochs.
    max_time: seconds that the fit may take, with reading, measuring and saving; the best weights so far are kept.
    checkpoint_every: write a checkpoint every so many steps; None: every minute and at the end of each stage.
    keep: how many checkpoints to keep.
    random_state: the seed; None: a new one each time.
    device: where to compute: auto (a GPU if there is one), cpu, cuda, cuda:1, mps, ...
    precision: the numbers of the forward and backward pass: 32, bf16, or fp16 with scaled losses (CUDA only); weights and
        optimiser stay in 32 bits.
    compile: whether torch.compile translates the net: True, False, or auto: where a long run would be faster by it.
    logs: what else to write into the run folder: tensorboard.
    model: a net of your own, an nn.Module that takes what the estimator's net takes and gives what it gives; it is copied.
        Its code is not saved: `konspekt.load(folder, model=net)` brings the model back.
    run_dir: the folder of the run; None: nothing is written.
    verbose: show progress.
    """

    batch_size: Annotated[int | None, AtLeast(1), Search(choices=(16, 32, 64, 128))] = 32
    optimizer: Annotated[str, Registered("optimizer")] = "adam"
    lr: Annotated[float | Literal["find"], MoreThan(0), Search(1e-4, 1e-1, log=True)] = 1e-3
    schedule: Annotated[str, Registered("schedule")] = "constant"
    warmup: Annotated[int, AtLeast(0)] = 0
    weight_decay: Annotated[float, AtLeast(0), Search(1e-6, 1e-1, log=True)] = 0.0
    l1: Annotated[float, AtLeast(0)] = 0.0
    l2: Annotated[float, AtLeast(0)] = 0.0
    clip_norm: Annotated[float | None, MoreThan(0)] = None
    clip_value: Annotated[float | None, MoreThan(0)] = None
    ema: Annotated[float | None, MoreThan(0), LessThan(1)] = None
    running_risk: Annotated[float | None, MoreThan(0), AtMost(1)] = None
    monitor: str = "loss"
    patience: Annotated[int | None, AtLeast(1)] = None
    max_time: Annotated[float | None, MoreThan(0)] = None
    checkpoint_every: Annotated[int | None, AtLeast(1)] = None
    keep: Annotated[int, AtLeast(1)] = 2
    random_state: int | None = 0
    device: str = "auto"
    precision: Literal["32", "bf16", "fp16"] = "32"
    compile: bool | Literal["auto"] = "auto"
    logs: tuple[Literal["tensorboard"], ...] = ()
    model: Any = None
    run_dir: str | None = None
    verbose: bool = False

    def check_training(self, has_validation: bool) -> None:
        """Raise ConfigError where parameters do not go together."""
        name = type(self).__name__
        if self.run_dir == "":
            raise ConfigError(f"{name}: run_dir must name a folder, got ''")
        if self.logs and self.run_dir is None:
            raise ConfigError(f"{name}: logs={self.logs!r} are written into the run folder: give run_dir")
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


@dataclass(kw_only=True, eq=False, repr=False)
class Training(Descent):
    """The parameters of training on data, with the same names everywhere.

    epochs: how often all items are seen.
    accumulate: batches whose gradients are added up before a step, each weighted by its terms: the step of a batch so
        many times as large, in the memory of one. Batch normalisation still sees one batch at a time.
    validation_fraction: the share of the data held out if `fit` gets no `validation`; None or 0: none.
    workers: processes that read data which is streamed; 0: the training process reads by itself.
    stream: whether data stay on the disk and are read batch by batch: auto (where they would fill more than half of the
        free memory), always, never.
    on_bad: what to do with items that cannot be read: stop and list them, or leave them out and list them.
    backend: who starts several processes: local (torchrun, or nobody), ray, or "ray(processes=4)" for a Ray cluster.
    strategy: how several processes share a net: each has all of it (replicate), or a share of weights, gradients and
        optimiser states (fsdp), for nets that fill a GPU.
    """

    epochs: Annotated[int, AtLeast(1)] = 50
    accumulate: Annotated[int, AtLeast(1)] = 1
    validation_fraction: Annotated[float | None, AtLeast(0), LessThan(1)] = None
    workers: Annotated[int, AtLeast(0)] = 0
    stream: Literal["auto", "always", "never"] = "auto"
    on_bad: Literal["raise", "skip"] = "raise"
    backend: str = "local"
    strategy: Literal["replicate", "fsdp"] = "replicate"
