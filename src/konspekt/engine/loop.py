"""The one training loop. `backward()` stands here and nowhere else.

Each step: a batch; then, for each player whose turn it is, one call of its optimiser with a closure that clears the
gradient, computes the loss, differentiates it, adds the penalties' gradients, clips, and refuses what is not finite
before a weight is touched.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from konspekt.core import params
from konspekt.core.errors import ConfigError, DivergedError, InterruptedFit
from konspekt.core.runs import Run
from konspekt.data.batches import Batches
from konspekt.data.fields import Batch
from konspekt.engine import checkpoint
from konspekt.engine.diagnosis import why_not_finite
from konspekt.engine.flat import FlatParameters
from konspekt.engine.objective import Objective
from konspekt.engine.progress import Progress
from konspekt.engine.schedules import Schedule, with_warmup
from konspekt.engine.session import Interrupt
from konspekt.engine.training import Training
from konspekt.optim import GradientDescent

__all__ = ["Callback", "Closure", "Moment", "minimise", "probe_optimizer"]

LOG_EVERY = 50  # steps between two lines of metrics.jsonl, and between two looks at a GPU
SAVE_SECONDS = 60.0  # between two checkpoints, where `checkpoint_every` is None
_ONE_EVALUATION = (
    GradientDescent,
    torch.optim.SGD,
    torch.optim.Adagrad,
    torch.optim.RMSprop,
    torch.optim.Adadelta,
    torch.optim.Adam,
    torch.optim.AdamW,
)


@dataclass
class Moment:
    """What a callback gets to see."""

    event: str  # "step" or "epoch"
    stage: str
    epoch: int
    step: int
    objective: Objective
    run: Run
    record: dict[str, Any]  # after an epoch: what metrics.jsonl holds of it


Callback = Callable[[Moment], bool | None]  # True: stop here


def minimise(
    objective: Objective,
    batches: Batches,
    training: Training,
    *,
    run: Run,
    validation: Batches | None = None,
    stage: str = "fit",
    callbacks: Sequence[Callback] = (),
) -> Run:
    """Train an objective, with checkpoints, early stopping and a record in `run`.

    A run opened with `resume=True` skips stages that are finished and continues inside the open one.

    stage: letters, digits, _ and -; each `minimise` of a fit has its own.

    Raises DivergedError where a loss or gradient is not finite, InterruptedFit on Ctrl-C, ConfigError where parameters,
    players or the name of the stage do not do.
    """
    if not re.fullmatch(r"[\w-]+", stage):
        raise ConfigError(f"a stage's name must be letters, digits, _ and -, as a folder bears it; got {stage!r}")
    for source in (batches, validation):
        if source is not None:
            source.collate_as(objective.collate)
    loop = _Loop(objective, batches, training, run, validation, stage, callbacks)
    try:
        if not loop.restore():
            loop.train()
    finally:
        loop.release()
    return run


def probe_optimizer(training: Training) -> torch.optim.Optimizer:
    """The optimiser that `training` names, over a parameter of no consequence, to look at its properties."""
    nothing = torch.zeros(1, requires_grad=True)
    optimizer: torch.optim.Optimizer = params.build(
        "optimizer", training.optimizer, [{"params": [nothing]}], training.lr
    )
    return optimizer


class Closure:
    """What an optimiser calls to learn loss and gradient; every call within a step sees the same random numbers."""

    def __init__(self, loop: _Loop, player: str, groups: list[dict[str, Any]]) -> None:
        training = loop.training
        self.loop, self.player = loop, player
        own_decay = probe_optimizer(training).defaults.get("weight_decay", 0) != 0
        self.flat = FlatParameters(player, groups, merge=not own_decay)
        for group in self.flat.groups:
            group["lr"] = training.lr * group["lr_scale"]
            if own_decay and not group["decay"]:
                group["weight_decay"] = 0.0
        self.optimizer: torch.optim.Optimizer = params.build(
            "optimizer", training.optimizer, self.flat.groups, training.lr
        )
        self.replays = not isinstance(self.optimizer, _ONE_EVALUATION)
        self.l1, self.l2, self.shrink = training.l1, training.l2, training.weight_decay
        self.clip_norm, self.clip_value = training.clip_norm, training.clip_value
        self.value = self.norm = 0.0
        self.out: dict[str, Tensor] = {}
        self.random: dict[str, Tensor] = {}
        self.evaluations = 0

    def __call__(self) -> Tensor:
        loop, flat = self.loop, self.flat
        if self.replays:
            if self.evaluations:
                checkpoint.set_random_state(self.random, loop.device)
            else:
                self.random = checkpoint.random_state(loop.device)
        flat.gradient.zero_()
        out = loop.objective.loss(loop.batch, self.player)
        loss = out["loss"]
        loss.backward()
        if self.l1 or self.l2:
            loss = loss.detach() + self._penalise()
        if self.clip_value is not None:
            # Cutting would hide what is infinite from the check; NaN stays NaN.
            flat.gradient.masked_fill_(flat.gradient.isinf(), math.nan).clamp_(-self.clip_value, self.clip_value)
        self._check(loss)
        if not self.evaluations:
            self.out = out
            if self.shrink:
                for weights, _, group in flat.decayed:
                    weights.mul_(1 - self.optimizer.param_groups[group]["lr"] * self.shrink)
        self.evaluations += 1
        return loss

    @torch.no_grad()
    def _penalise(self) -> Tensor:
        """Add the gradient of l1 * sum |w| + l2 * sum w^2, and return its value."""
        penalty = self.flat.weights.new_zeros(())
        for weights, gradient, _ in self.flat.decayed:
            if self.l1:
                gradient.add_(weights.sign(), alpha=self.l1)
                penalty += self.l1 * weights.abs().sum()
            if self.l2:
                gradient.add_(weights, alpha=2 * self.l2)
                penalty += self.l2 * weights.square().sum()
        return penalty

    def _check(self, loss: Tensor) -> None:
        """Clip by norm, and refuse what is not finite."""
        loop, gradient = self.loop, self.flat.gradient
        square = torch.dot(gradient, gradient)
        if loop.deferred:
            norm = square.sqrt()
            loop.ok &= torch.isfinite(norm) & torch.isfinite(loss.detach())
            loop.bad_step = torch.where(loop.ok, loop.bad_step, loop.bad_step.clamp(max=loop.step))
            if self.clip_norm is not None:
                gradient.mul_((self.clip_norm / (norm + 1e-12)).clamp(max=1.0))
            if not self.evaluations:
                loop.last_norm = norm
            return
        value, norm_ = loss.item(), math.sqrt(square.item())
        if not math.isfinite(value + norm_):
            norm_ = float(gradient.double().norm())  # the square alone may overflow
            if not math.isfinite(value + norm_):
                loop.diverged(loop.step, loop.batch["index"], self.player)  # type: ignore[arg-type]
        if self.clip_norm is not None and norm_ > self.clip_norm:
            gradient.mul_(self.clip_norm / norm_)
        if not self.evaluations:
            self.value, self.norm = value, norm_

    def move(self) -> None:
        """One step of this player."""
        self.evaluations = 0
        before = self.flat.weights.clone() if self.loop.deferred else None
        if self.replays:
            self.optimizer.step(self)  # type: ignore[arg-type]
        else:  # what asks once is answered before: torch's way through `step(closure)` costs 5 % of a small net's step
            self()
            self.optimizer.step()
        if before is not None:
            torch.where(self.loop.ok, self.flat.weights, before, out=self.flat.weights.data)


class _Loop:
    """The state of one stage while it runs."""

    def __init__(
        self,
        objective: Objective,
        batches: Batches,
        training: Training,
        run: Run,
        validation: Batches | None,
        stage: str,
        callbacks: Sequence[Callback],
    ) -> None:
        self.objective, self.batches, self.training, self.run = objective, batches, training, run
        self.validation, self.stage, self.callbacks = validation, stage, callbacks
        self._check_apart(objective.players())
        self.players = {name: Closure(self, name, groups) for name, groups in objective.players().items()}
        self.first = next(iter(self.players))
        # `players()` may be costly, so the default of `turns`, which asks it, is answered once.
        self.after_step = None if type(objective).after_step is Objective.after_step else objective.after_step
        self.turns = tuple(self.players) if type(objective).turns is Objective.turns else None
        self.device = self.players[self.first].flat.weights.device
        self.per_epoch = batches.num_batches
        total = self.per_epoch * training.epochs
        self.schedule: Schedule = params.build("schedule", training.schedule, total, self.per_epoch)
        self.factor = with_warmup(self.schedule, training.warmup)
        self.adjusts = not (self.schedule.fixed and training.warmup == 0)
        self.higher = training.monitor in objective.higher_is_better
        # Where the device runs ahead of Python, nothing may wait for it inside a step: the finite check masks the
        # update on the device and is read every LOG_EVERY steps.
        self.deferred = self.device.type != "cpu"
        self.ok = torch.ones((), dtype=torch.bool, device=self.device)
        self.bad_step = torch.full((), 2**62, dtype=torch.int64, device=self.device)
        self.last_norm = torch.zeros((), device=self.device)
        self.recent: dict[int, Tensor] = {}
        self.batch: Batch = {}
        self.epoch = self.step = 0
        self.within = False  # whether the run stands inside an epoch
        self.best: float | None = None
        self.best_epoch: int | None = None
        self.best_weights: dict[str, Tensor] | None = None
        self.waited = 0
        self.seconds = 0.0
        self._clear()

    @staticmethod
    def _check_apart(players: dict[str, list[dict[str, Any]]]) -> None:
        """Raise ConfigError where two players would move one parameter."""
        owner: dict[Any, str] = {}
        for name, groups in players.items():
            for p in [p for group in groups for p in group["params"]]:
                if owner.setdefault(p, name) != name:
                    raise ConfigError(f"players {owner[p]!r} and {name!r} share a parameter of shape {tuple(p.shape)}")

    def _clear(self) -> None:
        """Begin the sums of an epoch."""
        self.sums: dict[str, Any] = {}

    # -- training ---------------------------------------------------------------------------------------------------

    def train(self) -> None:
        """Run the epochs that are left."""
        training = self.training
        progress = Progress(training.verbose, self.stage, training.epochs, self.per_epoch)
        self.began = time.perf_counter() - self.seconds
        self.saved = time.perf_counter()
        stopped = "epochs"
        with Interrupt() as self.interrupt:
            try:
                while self.epoch < training.epochs and stopped == "epochs":
                    stopped = self._epoch(progress)
                    if self.interrupt.pressed:
                        self._interrupted()
            finally:
                progress.close()
        self.seconds = time.perf_counter() - self.began
        self.run.record(
            "stage",
            stage=self.stage,
            state="finished",
            step=self.step,
            best_epoch=self.best_epoch,
            stopped=stopped,
            weights="last" if self.best_weights is None else "best",
            seconds=self.seconds,
        )
        if self.run.checkpoints:
            checkpoint.write(self.run.checkpoints, self.stage, None, self._state() | {"stopped": stopped})
            checkpoint.prune(self.run.checkpoints, self.stage, training.keep, finished=True)
        self._settle()

    def _settle(self) -> None:
        """At the end: the best weights, if they were watched, and prediction mode."""
        if self.best_weights is not None:
            self.objective.load_state_dict(self.best_weights)
        self.objective.eval()

    def _epoch(self, progress: Progress) -> str:
        """One epoch, or the rest of one; returns why to stop, or "epochs" to go on."""
        objective, run = self.objective, self.run
        start = time.perf_counter()
        if not self.within:
            self._clear()
            objective.start_epoch(self.epoch, self.batches)
        self.within = True
        objective.train()
        saves = self.run.checkpoints is not None
        for batch in self.batches.epoch(self.epoch):
            self.batch = batch
            self._step()
            if self.step % LOG_EVERY == 0:
                self._log()
            now = time.perf_counter()
            if now > progress.next:
                progress.step(self.step, now)
            if self.callbacks and self._stops("step", {}):
                return "callback"
            if saves and self._save_due(now):
                self.save()
            if self.interrupt.pressed:
                self._interrupted()
        self._read()
        record = self._record(time.perf_counter() - start)
        self.within, self.epoch = False, self.epoch + 1
        stop = self._watch(record)
        run.record("epoch", **record)
        progress.epoch(self.step, record)
        if self.callbacks and self._stops("epoch", record):
            return "callback"
        if stop:
            return "patience"
        if any(getattr(p.optimizer, "converged", False) for p in self.players.values()):
            return "converged"
        return "epochs"

    def _step(self) -> None:
        objective, players = self.objective, self.players
        if self.adjusts:
            factor = self.factor(self.step)
            for player in players.values():
                for group in player.optimizer.param_groups:
                    group["lr"] = self.training.lr * group["lr_scale"] * factor
        if self.deferred:
            self.recent[self.step] = self.batch["index"]  # type: ignore[assignment]
        for name in self.turns or tuple(objective.turns(self.step)):
            player = players[name]
            if len(players) > 1:
                self._only(name)
            player.move()
            self._add(player)
            if self.after_step is not None:
                with torch.no_grad():
                    self.after_step(self.step, name)
        self.step += 1

    def _only(self, moving: str) -> None:
        """Let the gradient reach the moving player's parameters only."""
        for name, player in self.players.items():
            for p in player.flat.parameters:
                p.requires_grad_(name == moving)

    def _add(self, player: Closure) -> None:
        """Add a player's loss, and what else it logs, to the sums of the epoch."""
        out = player.out
        count = out.get("count")
        weight: Any = len(self.batch["index"]) if count is None else count if self.deferred else float(count)
        name = "loss" if player.player == self.first else f"loss_{player.player}"
        loss: Any = out["loss"].detach() if self.deferred or player.l1 or player.l2 else player.value
        self.sums[name] = self.sums.get(name, 0.0) + loss * weight
        key = f"{name}/terms"
        self.sums[key] = self.sums.get(key, 0.0) + weight
        if len(out) > 1 + (count is not None):
            for extra, value in out.items():
                if extra not in ("loss", "count"):
                    self.sums[extra] = self.sums.get(extra, 0.0) + value.detach() * weight
                    self.sums[f"{extra}/terms"] = self.sums.get(f"{extra}/terms", 0.0) + weight

    def _means(self) -> dict[str, float]:
        means = {}
        for name, total in self.sums.items():
            if not name.endswith("/terms"):
                terms = float(self.sums[f"{name}/terms"])
                means[name] = float(total) / terms if terms else math.nan
        return means

    # -- looking ----------------------------------------------------------------------------------------------------

    def _read(self) -> None:
        """Look whether the device met something that is not finite."""
        if self.deferred and not bool(self.ok):
            step = int(self.bad_step)
            self.diverged(step, self.recent.get(step, next(iter(self.recent.values()))), self.first)
        self.recent.clear()

    def diverged(self, step: int, index: Tensor, player: str) -> None:
        """Raise DivergedError that says where and why."""
        reason = why_not_finite(self.objective, self.batch, player)
        items = index.tolist()
        shown = ", ".join(map(str, items[:16])) + (f" and {len(items) - 16} more" if len(items) > 16 else "")
        message = (
            f"training stopped at step {step} (epoch {self.epoch + 1}): {reason}. The batch held items {shown}. The "
            f"weights are still those of the step before. Lower lr (now {self.training.lr:g}), set clip_norm, or look "
            "at these items"
        )
        self.run.log(message, warning=True)
        raise DivergedError(message)

    def _log(self) -> None:
        self._read()
        if self.run.path:
            player = self.players[self.first]
            norm = float(self.last_norm) if self.deferred else player.norm
            rate = player.optimizer.param_groups[0]["lr"]
            self.run.record(
                "step", stage=self.stage, epoch=self.epoch, step=self.step, loss=float(player.out["loss"].detach()), lr=rate,
                grad_norm=norm,
            )  # fmt: skip

    def _record(self, seconds: float) -> dict[str, Any]:
        """What is known after an epoch: losses, rates, gradient norms by layer, validation."""
        player = self.players[self.first]
        record: dict[str, Any] = {"stage": self.stage, "epoch": self.epoch, "step": self.step, **self._means()}
        record["lr"] = player.optimizer.param_groups[0]["lr"]
        record["grad_norm"] = float(self.last_norm) if self.deferred else player.norm
        if self.run.path and self.batch:  # a run resumed at an epoch's end has seen no gradient
            named = [(n, p.grad) for n, p in self.objective.named_parameters() if p.grad is not None]
            norms = torch._foreach_norm([g for _, g in named])
            record["grad_norms"] = {n: float(v) for (n, _), v in zip(named, norms, strict=True)}
        record["seconds"] = seconds
        if self.validation is not None:
            self.objective.eval()
            start = time.perf_counter()
            with torch.no_grad():
                values = self.objective.evaluate(self.validation)
            record |= {f"val_{name}": value for name, value in values.items()}
            record["seconds_validation"] = time.perf_counter() - start
        return record

    def _watch(self, record: dict[str, Any]) -> bool:
        """Compare the monitored measure with the best so far; whether patience is at its end."""
        if self.validation is None:
            return False
        key = f"val_{self.training.monitor}"
        if key not in record:
            known = ", ".join(k.removeprefix("val_") for k in record if k.startswith("val_"))
            raise ConfigError(f"monitor={self.training.monitor!r} is not measured here; known: {known}")
        value = float(record[key])
        better = math.isfinite(value) and (
            self.best is None or (value > self.best if self.higher else value < self.best)
        )
        self.schedule.observe(value, better)
        if better:
            self.best, self.best_epoch, self.waited = value, record["epoch"], 0
            if self.training.patience is not None:
                self.best_weights = _copy(self.objective.state_dict())
        else:
            self.waited += 1
        return self.training.patience is not None and self.waited >= self.training.patience

    def _stops(self, event: str, record: dict[str, Any]) -> bool:
        moment = Moment(event, self.stage, self.epoch, self.step, self.objective, self.run, record)
        return any([callback(moment) is True for callback in self.callbacks])

    # -- checkpoints ------------------------------------------------------------------------------------------------

    def _save_due(self, now: float) -> bool:
        every = self.training.checkpoint_every
        return now - self.saved > SAVE_SECONDS if every is None else self.step % every == 0

    def save(self) -> None:
        """Write a checkpoint of this moment."""
        if self.run.checkpoints is None:
            return
        self._read()
        self.seconds = time.perf_counter() - self.began
        checkpoint.write(self.run.checkpoints, self.stage, self.step, self._state())
        checkpoint.prune(self.run.checkpoints, self.stage, self.training.keep, finished=False)
        self.saved = time.perf_counter()

    def _state(self) -> dict[str, Any]:
        return {
            "weights": self.objective.state_dict(),
            "objective": self.objective.state(),
            "optimizers": {name: p.optimizer.state_dict() for name, p in self.players.items()},
            "batches": self.batches.state(),
            "schedule": self.schedule.state(),
            "random": checkpoint.random_state(self.device),
            "epoch": self.epoch,
            "step": self.step,
            "within": self.within,
            "sums": self.sums,
            "norm": self.players[self.first].norm,
            "best": self.best,
            "best_epoch": self.best_epoch,
            "best_weights": self.best_weights,
            "waited": self.waited,
            "seconds": self.seconds,
        }

    def restore(self) -> bool:
        """Take up the newest checkpoint of a resumed run; True where the stage is finished already."""
        run = self.run
        if not run.resumes or run.checkpoints is None:
            return False
        found = checkpoint.newest(run.checkpoints, self.stage)
        if found is None:
            run.rewind(self.stage, -1, 0)
            return False
        state, finished, damaged = found
        done = state["epoch"] + bool(state["within"])
        if self.training.epochs < done:
            raise ConfigError(
                f"{run.path} is in epoch {done} already; epochs={self.training.epochs} cannot be had back"
            )
        for message in damaged:
            text = f"a damaged checkpoint was passed over for the one before: {message}"
            run.log(text, warning=True)
            Progress(self.training.verbose, self.stage, 1, 1).say(text)
        self.objective.load_state_dict(state["weights"])
        self.objective.load_state(state["objective"])
        for name, player in self.players.items():
            player.optimizer.load_state_dict(state["optimizers"][name])
        self.schedule.load_state(state["schedule"])
        checkpoint.set_random_state(state["random"], self.device)
        self.epoch, self.step, self.within, self.sums = (state[k] for k in ("epoch", "step", "within", "sums"))
        self.best, self.best_epoch, self.best_weights = (state[k] for k in ("best", "best_epoch", "best_weights"))
        self.waited, self.seconds = state["waited"], state["seconds"]
        self.players[self.first].norm = state["norm"]
        # A finished stage goes on only where it is the last and was given more epochs.
        more = state.get("stopped") == "epochs" and self.epoch < self.training.epochs
        if finished and not (more and run.last_stage() in (None, self.stage)):
            self._settle()
            return True
        self.batches.load_state(state["batches"])  # not of a finished stage: the next begins its epochs anew
        run.rewind(self.stage, self.step, self.epoch)
        return False

    def _interrupted(self) -> None:
        """Leave a checkpoint and say how to go on."""
        self.save()
        where = self.run.path
        advice = f"go on with: konspekt resume {where}" if where else "without run_dir nothing was kept"
        message = f"stopped by Ctrl-C after step {self.step} (epoch {self.epoch + 1}); {advice}"
        self.run.log(message)
        raise InterruptedFit(message)

    def release(self) -> None:
        """Give the parameters back to the nets."""
        for player in self.players.values():
            for p in player.flat.parameters:
                p.requires_grad_(True)
            player.flat.release()


def _copy(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in state.items()}
