"""The one training loop. `backward()` stands here and nowhere else.

Each step: a batch (or several, with `accumulate`); then, for each player whose turn it is, one call of its optimiser with
a closure that clears the gradient, computes the loss, differentiates it, sums over the processes, adds the penalties'
gradients, clips, and refuses what is not finite before a weight is touched.
"""

from __future__ import annotations

import contextlib
import functools
import math
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from konspekt.core import params
from konspekt.core.errors import ConfigError, DivergedError, InterruptedFit, KonspektError
from konspekt.core.runs import Run
from konspekt.core.seeds import mix
from konspekt.data.batches import Batches
from konspekt.data.fields import Batch
from konspekt.engine import checkpoint, curvature, resuming, trials
from konspekt.engine.average import Average
from konspekt.engine.budget import Budget
from konspekt.engine.diagnosis import why_not_finite
from konspekt.engine.flat import FlatParameters
from konspekt.engine.forecast import Rehearsal, Watch
from konspekt.engine.foreign import foreign
from konspekt.engine.layout import kernels_last
from konspekt.engine.objective import Objective
from konspekt.engine.precision import Precision
from konspekt.engine.processes import LostProcess, Team, is_lost, lost_text
from konspekt.engine.progress import Progress
from konspekt.engine.range_test import FIRST_LR
from konspekt.engine.schedules import Schedule, with_warmup
from konspekt.engine.session import Interrupt
from konspekt.engine.training import Training
from konspekt.optim import GradientDescent

if TYPE_CHECKING:
    from konspekt.engine.compiling import Compiling
    from konspekt.engine.sharding import Sharding

__all__ = ["Callback", "Closure", "Moment", "minimise", "probe_optimizer"]

LOG_EVERY = 50  # steps between two lines of metrics.jsonl, and between two looks at a GPU
_PRESSED, _OVER, _SAVE = 2, 3, 4  # places in FlatParameters.shared, after the number of terms and the loss
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
    team: Team | None = None,
) -> Run:
    """Train an objective, with checkpoints, early stopping and a record in `run`.

    A run opened with `resume=True` skips stages that are finished and continues inside the open one.

    stage: letters, digits, _ and -; each `minimise` of a fit has its own.
    team: the processes of this fit; None: those that `run` knows of, which an estimator's are.

    Raises DivergedError where a loss or gradient is not finite, InterruptedFit on Ctrl-C, ConfigError where parameters,
    players or the name of the stage do not do.
    """
    if not re.fullmatch(r"[\w-]+", stage):
        raise ConfigError(f"a stage's name must be letters, digits, _ and -, as a folder bears it; got {stage!r}")
    for source in (batches, validation):
        if source is not None:
            source.collate_as(objective.collate)
    loop = Loop(objective, batches, training, run, validation, stage, callbacks, team or run.team or Team())
    try:
        if isinstance(run.rehearsal, Rehearsal):
            trials.rehearse(loop, run.rehearsal)
        elif not resuming.restore(loop):
            loop.train()
    finally:
        loop.release()
    return run


def probe_optimizer(training: Training) -> torch.optim.Optimizer:
    """The optimiser that `training` names, over a parameter of no consequence, to look at its properties."""
    nothing = torch.zeros(1, requires_grad=True)
    optimizer: torch.optim.Optimizer = params.build(
        "optimizer", training.optimizer, [{"params": [nothing]}], _rate(training)
    )
    return optimizer


def _rate(training: Training) -> float:
    return FIRST_LR if isinstance(training.lr, str) else training.lr


def _bare_step(optimizer: torch.optim.Optimizer) -> Callable[[], Any]:
    """The optimiser's `step` without torch's frame for hooks and profiles around it, which no optimiser here has.

    The frame takes 12 of Adam's 62 us on a CPU, where a small net's step takes 300.
    """
    bare = getattr(type(optimizer).step, "__wrapped__", None) if hasattr(type(optimizer).step, "hooked") else None
    return optimizer.step if bare is None else functools.partial(bare, optimizer)


class Closure:
    """What an optimiser calls to learn loss and gradient; every call within a step sees the same random numbers."""

    def __init__(self, loop: Loop, player: str, groups: list[dict[str, Any]]) -> None:
        training = loop.training
        self.loop, self.player = loop, player
        like = probe_optimizer(training)
        own_decay = like.defaults.get("weight_decay", 0) != 0
        self.replays = not isinstance(like, _ONE_EVALUATION)
        if getattr(like, "exact", False) and not (training.clip_norm is None and training.clip_value is None):
            raise ConfigError(
                f"optimizer={training.optimizer!r} takes the gradient as it is, or none at all; leave clip_norm=None and "
                "clip_value=None"
            )
        layout = FlatParameters if loop.sharding is None else loop.sharding.layout
        # Element-wise methods only: those that look at curvature count on the order of the parameters.
        kernels = [] if self.replays else loop.kernels_last
        # Sums over batches and processes are taken in the buffer.
        apart = not (self.replays or loop.shares)
        self.flat = layout(player, groups, merge=not own_decay, channels_last=kernels, apart=apart)
        if loop.sharding is not None and (self.replays or isinstance(like, GradientDescent)):
            raise ConfigError(
                f"strategy='fsdp' needs an optimiser that works element by element, such as adam; {training.optimizer!r} does not"
            )
        for group in self.flat.groups:
            group["lr"] = _rate(training) * group["lr_scale"]
            if own_decay and not group["decay"]:
                group["weight_decay"] = 0.0
        self.optimizer: torch.optim.Optimizer = params.build(
            "optimizer", training.optimizer, self.flat.groups, _rate(training)
        )
        self.step = _bare_step(self.optimizer)
        self.l1, self.l2, self.shrink = training.l1, training.l2, training.weight_decay
        self.clip_norm, self.clip_value = training.clip_norm, training.clip_value
        self.value = self.norm = 0.0
        self.out: dict[str, Tensor] = {}
        self.random: dict[str, Tensor] | None = None  # at the step's begin
        self.drawn: dict[str, Tensor] | None = None  # after targets were drawn
        self.buffers: list[Tensor] = []  # running statistics and their like, at the step's begin
        self.moved_on: list[Tensor] = []  # the same after the first evaluation
        self.evaluations = 0
        self.overflow = False

    def __call__(self) -> Tensor:
        return self._evaluate()

    def _evaluate(self, probe: bool = False) -> Tensor:
        flat, loop = self.flat, self.loop
        if self.replays:
            self._replay()
            loop.moved |= self.evaluations > 0  # the optimiser has gone elsewhere to ask again
        if loop.shares:
            flat.clear()
            loss, out = self._shared()
        else:
            out = loop.objective.loss(loop.batch, self.player)
            loss = out["loss"]
            flat.clear()  # only now, so that the new gradients get the memory of the old ones, which the caches know
            loss.backward()
            flat.collect()
        if self.l1 or self.l2:
            loss = loss.detach() + self._penalise()
        if self.clip_value is not None:
            for part in flat.gradients:  # cutting would hide what is infinite from the check; NaN stays NaN
                part.masked_fill_(part.isinf(), math.nan).clamp_(-self.clip_value, self.clip_value)
        self._check(loss, probe)
        if not self.evaluations:
            self.out = out
            if self.replays:
                self.moved_on = [b.clone() for b in loop.objective.buffers()]
            if self.shrink and not self.replays and not self.overflow:
                for weights, group in flat.decayed:
                    weights.data.mul_(1 - self.optimizer.param_groups[group]["lr"] * self.shrink)
        self.evaluations += 1
        return loss

    def probe(self) -> Tensor:
        """Loss and gradient at a point that is only tried: a loss of inf where either is not finite, and no error."""
        loss = self._evaluate(probe=True).detach()
        usable = torch.isfinite(loss) & torch.isfinite(self.flat.gradient).all()
        return torch.where(usable, loss, math.inf)

    @torch.no_grad()
    def loss(self) -> float:
        """The loss with its penalties, without gradient; inf where it is not finite, but at the step's begin."""
        self._alone()
        self._replay()
        out = self.loop.objective.loss(self.loop.batch, self.player)
        value = float(out["loss"])
        if self.l1 or self.l2:
            value += float(self._penalise(slopes=False))
        if not self.evaluations:
            self.out, self.value, self.norm = out, value, 0.0
            self.moved_on = [b.clone() for b in self.loop.objective.buffers()]
            if not math.isfinite(value):
                self.loop.diverged(self.loop.step, self.loop.index, self.player)
        self.evaluations += 1
        return value if math.isfinite(value) else math.inf

    def hessian(self) -> Tensor:
        """(P, P), the second derivatives of the loss with its penalties, in the order of the optimiser's parameters."""
        self._alone()
        self._replay()
        return curvature.hessian(self.loop.objective, self.loop.batch, self.player, self.flat, self.l2)

    def item_gradients(self, estimate: str = "empirical") -> Tensor:
        """(B, P), the gradient of each item's loss; estimate "true": of targets that are drawn from the prediction."""
        self._alone()
        self._replay()
        objective, batch = self.loop.objective, self.loop.batch
        if estimate == "true":
            with torch.no_grad():
                batch = objective.sample_targets(batch)
            self.drawn = checkpoint.random_state(self.loop.device)
            self._replay()
        return curvature.item_gradients(objective, batch, self.player, self.flat)

    def blocks(self) -> list[slice]:
        """Where each parameter tensor is among the optimiser's P numbers; what lies between pads them and stays 0."""
        return self.flat.slices

    def _replay(self) -> None:
        """Go back to the random numbers and the running statistics with which the step began."""
        if self.random is None:
            self.random = checkpoint.random_state(self.loop.device)
            self.buffers = [b.clone() for b in self.loop.objective.buffers()]
        else:
            checkpoint.set_random_state(self.random, self.loop.device)
            self._put_back(self.buffers)

    @torch.no_grad()
    def _put_back(self, values: list[Tensor]) -> None:
        for buffer, value in zip(self.loop.objective.buffers(), values, strict=True):
            buffer.copy_(value)

    def _alone(self) -> None:
        """Raise ConfigError where a step's gradient is a sum over batches or processes, or is scaled, or compiled."""
        if self.loop.shares or self.loop.compiling.compiled:
            raise ConfigError(
                f"optimizer={self.loop.training.optimizer!r} asks for more than a gradient, which is to be had of one batch, "
                "in one process, in 32 bits and of a net that is not compiled; leave accumulate=1, precision='32' and "
                "compile='auto', and use one device"
            )

    def _shared(self) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss and gradient over the step's batches and over all processes, each weighted by the number of its terms."""
        loop, flat = self.loop, self.flat
        precision = loop.precision
        terms: Any = 0.0
        total: Any = 0.0
        extras: dict[str, Any] = {}
        for batch in loop.parts:
            size = len(batch["index"])
            if not size:  # the others have its items
                if loop.sharding is not None:  # they wait for this process's shares nevertheless
                    (0.0 * loop.objective.loss(loop.batches.sample(), self.player)["loss"]).backward()
                continue
            with precision.pass_():
                out = loop.objective.loss(batch, self.player)
            count: Any = out.get("count", size)
            part = out["loss"].float() * count if precision.reduced else out["loss"] * count
            (part if precision.scale is None else part * precision.scale).backward()
            terms, total = terms + count, total + part.detach()
            for name, value in out.items():
                if name not in ("loss", "count"):
                    extras[name] = extras.get(name, 0.0) + value.detach() * count
        if loop.sharding is not None:
            loop.own_loss = float(total)
        flat.shared[0], flat.shared[1] = terms, total
        loop.ask(flat.shared)
        if loop.sharding is None:
            loop.team.add(flat.buffer)
        else:  # torch has added the gradients up already
            flat.pull()
            loop.team.add(flat.shared)
        loop.hear(flat.shared)
        self.overflow = precision.unscale(flat.gradient)
        count = flat.shared[0].clone()
        flat.gradient.div_(count)
        own = {name: value / terms for name, value in extras.items()}
        return flat.shared[1] / count, {"loss": flat.shared[1] / count, "count": count, **own}

    @torch.no_grad()
    def _penalise(self, slopes: bool = True) -> Tensor:
        """Add the gradient of l1 * sum |w| + l2 * sum w^2, unless `slopes` is False, and return its value."""
        penalty = self.flat.weights.new_zeros(())
        for weights, _ in self.flat.decayed:
            if self.l1:
                if slopes:
                    weights.grad.add_(weights.sign(), alpha=self.l1)  # type: ignore[union-attr]
                penalty += self.l1 * weights.abs().sum()
            if self.l2:
                if slopes:
                    weights.grad.add_(weights, alpha=2 * self.l2)  # type: ignore[union-attr]
                penalty += self.l2 * weights.square().sum()
        if self.loop.sharding is not None:
            self.loop.team.add(penalty)
        return penalty

    def _check(self, loss: Tensor, probe: bool) -> None:
        """Clip by norm, and refuse what is not finite, but of a probe."""
        loop, gradients = self.loop, self.flat.gradients
        if self.overflow:  # the scale was too large for float16: no step, and a smaller scale for the next
            self.flat.clear()
        square = torch.dot(gradients[0], gradients[0])
        for part in gradients[1:]:
            square += torch.dot(part, part)
        if loop.sharding is not None:
            loop.team.add(square)
        if loop.deferred:
            norm = square.sqrt()
            if not probe:
                loop.ok &= torch.isfinite(norm) & torch.isfinite(loss.detach())
                loop.bad_step = torch.where(loop.ok, loop.bad_step, loop.bad_step.clamp(max=loop.step))
            if self.clip_norm is not None:
                for part in gradients:
                    part.mul_((self.clip_norm / (norm + 1e-12)).clamp(max=1.0))
            if not self.evaluations:
                loop.last_norm = norm
            return
        value, norm_ = loss.item(), math.sqrt(square.item())
        if not math.isfinite(value + norm_):
            norm_ = math.hypot(*(float(part.double().norm()) for part in gradients))  # the square alone may overflow
            if not math.isfinite(value + norm_):
                if probe:
                    return
                loop.diverged(loop.step, loop.index, self.player)
        if self.clip_norm is not None and norm_ > self.clip_norm:
            for part in gradients:
                part.mul_(self.clip_norm / norm_)
        if not self.evaluations:
            self.value, self.norm = value, norm_

    def move(self) -> None:
        """One step of this player."""
        self.evaluations = 0
        self.overflow = False
        before = self.flat.weights.clone() if self.loop.deferred else None
        if self.replays:
            self._move_freely()
        else:  # what asks once is answered before: torch's way through `step(closure)` costs 5 % of a small net's step
            self()
            if not self.overflow:
                self.step()
        if before is not None:
            torch.where(self.loop.ok, self.flat.weights, before, out=self.flat.weights.data)
        self.flat.push()

    def _move_freely(self) -> None:
        """A step of an optimiser that may evaluate several times, at points of its choice."""
        self.random = self.drawn = None
        begin = self.flat.weights.clone() if self.shrink else None
        first = self.loop.step == self.loop.taken_up  # with a state from a checkpoint, which may be anyone's
        with foreign(self.loop) if first else contextlib.nullcontext():
            self.optimizer.step(self)  # type: ignore[arg-type]
        self._put_back(self.moved_on)  # not those of the point that was tried last
        if begin is not None:
            # After all evaluations, so that they are of one function; of the weights before, as beside any other step.
            with torch.no_grad():
                for weights, group in self.flat.decayed:
                    here = slice(weights.storage_offset(), weights.storage_offset() + len(weights))
                    weights.sub_(begin[here], alpha=self.optimizer.param_groups[group]["lr"] * self.shrink)
        if self.drawn is not None:  # the next step's random numbers come after this step's
            checkpoint.set_random_state(self.drawn, self.loop.device)


class Loop:
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
        team: Team,
    ) -> None:
        self.team = team
        self.sharding: Sharding | None = None
        if training.strategy == "fsdp" and team.size > 1:
            from konspekt.engine.sharding import Sharding  # its imports take a second

            self.sharding = Sharding(objective, team)
            objective = self.sharding.objective
        self.objective, self.batches, self.training, self.run = objective, batches, training, run
        self.validation, self.stage, self.callbacks = validation, stage, callbacks
        self._check_apart(objective.players())
        self.accumulate = training.accumulate
        # Whether a step's gradient is a sum over several batches or processes, or is scaled.
        self.shares = team.size > 1 or self.accumulate > 1 or training.precision != "32"
        self.kernels_last = kernels_last(objective, batches, team.size) if self.sharding is None else []
        self.players = {name: Closure(self, name, groups) for name, groups in objective.players().items()}
        self.first = next(iter(self.players))
        # `players()` may be costly, so the default of `turns`, which asks it, is answered once.
        self.after_step = None if type(objective).after_step is Objective.after_step else objective.after_step
        self.turns = tuple(self.players) if type(objective).turns is Objective.turns else None
        self.device = self.players[self.first].flat.weights.device
        self._join()
        self.precision = Precision(training.precision, self.device)
        self.per_epoch = -(-batches.num_batches // self.accumulate)
        self.average = None if training.ema is None else Average(objective.model, training.ema)
        self.lr = _rate(training)
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
        self.parts: list[Batch] = []
        self.pressed = self.over = self.save_asked = False
        self.risk: Any = None  # a tensor where the device runs ahead, or None
        self.watch = Watch(self)
        self.compiling: Compiling  # of `trials`
        self.writer = checkpoint.Writer()
        self.epoch = self.step = 0
        self.within = False  # whether the run stands inside an epoch
        self.best: float | None = None
        self.best_epoch: int | None = None
        self.best_weights: dict[str, Tensor] | None = None
        self.waited = 0
        self.seconds = 0.0
        self.own_loss = 0.0  # of this process's part, where the net is shared out
        self.ticked = 0.0  # when the last step ended
        self.trying = self.moved = False
        self.taken_up: int | None = None  # the step at which a checkpoint was taken up
        self.held: dict[str, Any] = {}  # by a measurement in mid-epoch, at the end of `max_time`
        self.remembered: dict[str, Any] = {}
        self.buffers_before: list[Tensor] = []
        self.weighs = training.running_risk
        self.clear()

    def _join(self) -> None:
        """Begin alike in all processes: the same weights, another stream of random numbers each, a part of the data each."""
        team = self.team
        if team.size == 1:
            return
        for player in self.players.values() if self.sharding is None else ():
            team.spread(player.flat.weights)
        for rest in (*self.objective.buffers(), *(p.data for p in self.objective.parameters() if not p.requires_grad)):
            team.spread(rest)
        if not team.leads:
            torch.manual_seed(mix(torch.initial_seed() % 2**62, team.rank) % 2**63)
        self.batches.share(team.rank, team.size)

    @staticmethod
    def _check_apart(players: dict[str, list[dict[str, Any]]]) -> None:
        """Raise ConfigError where two players would move one parameter."""
        owner: dict[Any, str] = {}
        for name, groups in players.items():
            for p in [p for group in groups for p in group["params"]]:
                if owner.setdefault(p, name) != name:
                    raise ConfigError(f"players {owner[p]!r} and {name!r} share a parameter of shape {tuple(p.shape)}")

    def clear(self) -> None:
        """Begin the sums of an epoch."""
        self.sums: dict[str, Any] = {}

    # -- training ---------------------------------------------------------------------------------------------------

    def train(self) -> None:
        """Run the epochs that are left."""
        training, run = self.training, self.run
        shown, acting = training.verbose and self.team.leads, getattr(self.batches, "total_steps", None)
        progress = Progress(shown, self.stage, training.epochs, self.per_epoch, steps=acting)
        self.began = time.perf_counter() - self.seconds
        self.saved = time.perf_counter()
        self.budget = self.make_budget()
        try:
            trials.settle_choices(self, progress)
            self.ticked = time.perf_counter()
            if self.team.size > 1 and self.step == 0:
                self.save()  # what the others leave when this process dies early
        except LostProcess as error:
            self._lost(error)
        stopped = "epochs"
        with Interrupt(terminate=self.team.size > 1) as self.interrupt:
            try:
                while self.epoch < training.epochs and stopped == "epochs":
                    stopped = self._epoch(progress)
                    if self.pressed:
                        self.interrupted()
            except LostProcess as error:
                self._lost(error)
            except RuntimeError as error:  # of a sum that torch takes itself
                if self.team.size == 1 or not is_lost(error):
                    raise
                self._lost(LostProcess(lost_text(error)))
            finally:
                progress.close()
                self.compiling.release()
        self.seconds = time.perf_counter() - self.began
        run.record(
            "stage",
            stage=self.stage,
            state="finished",
            step=self.step,
            best_epoch=self.best_epoch,
            stopped=stopped,
            weights="last" if self.best_weights is None else "best",
            seconds=self.seconds,
        )
        resuming.finish(self, stopped)
        self.settle()

    def settle(self) -> None:
        """At the end: the best weights, if they were watched, else the average, if there is one; prediction mode."""
        if self.best_weights is not None:
            self.load_weights(self.best_weights)
        elif self.average is not None:
            self.average.swap()
        self.objective.eval()

    def weights(self) -> dict[str, Tensor]:
        """The objective's whole tensors; where they are shared out, every process must come here."""
        return self.objective.state_dict() if self.sharding is None else self.sharding.state()

    def load_weights(self, weights: dict[str, Tensor]) -> None:
        """Take whole tensors."""
        if self.sharding is None:
            self.objective.load_state_dict(weights)
            return
        self.sharding.load_state(weights)
        for player in self.players.values():
            player.flat.read()

    def endless(self) -> Iterator[list[Batch]]:
        """Steps' batches, epoch after epoch."""
        epoch = 0
        while True:
            yield from self._grouped(epoch)
            epoch += 1

    def _grouped(self, epoch: int) -> Iterator[list[Batch]]:
        """The batches of an epoch, so many together as make a step."""
        if self.accumulate == 1:
            for batch in self.batches.epoch(epoch):
                yield [batch]
            return
        group: list[Batch] = []
        for batch in self.batches.epoch(epoch):
            group.append(batch)
            if len(group) == self.accumulate:
                yield group
                group = []
        if group:
            yield group

    def _epoch(self, progress: Progress) -> str:
        """One epoch, or the rest of one; returns why to stop, or "epochs" to go on."""
        objective, run, watch = self.objective, self.run, self.watch
        start = time.perf_counter()
        if not self.within:
            self.clear()
            objective.start_epoch(self.epoch, self.batches)
        self.within = True
        objective.train()
        if self.team.size > 1:
            resuming.remember(self)
        self.ticked = time.perf_counter()  # the measurement after an epoch is no part of a step
        over = False
        # A step of a small net takes 0.3 ms, of which a question costs a thousandth: those that a fit answers once are asked here.
        saves, limited, interrupt = run.checkpoints is not None, self.training.max_time is not None, self.interrupt
        alone, undecided = self.team.size == 1, not self.compiling.decided
        for parts in self._grouped(self.epoch):
            if undecided:
                self.compiling.before(self.step, self.per_epoch * self.training.epochs - self.step, self.budget.left)
                undecided = not self.compiling.decided
            self.parts, self.batch = parts, parts[0]
            self._step()
            if self.step % LOG_EVERY == 0:
                self._log()
            now = time.perf_counter()
            if watch.looks and self.sharding is None:
                watch.stepped(now)
            if now > progress.next:
                progress.step(self.step, now, self.risk)
            if self.callbacks and self._stops("step", {}):
                return "callback"
            if saves and self._save_due(now):
                self.save()
            if interrupt.pressed if alone else self.pressed:
                self.interrupted()
            if limited and self.time_over(now):
                over = self.step == self.per_epoch * (self.epoch + 1)
                if not over:
                    return self._cut_short(start, progress)
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
        if over and self.epoch < self.training.epochs:
            self._say_time_is_over(progress)
            return "max_time"
        return "epochs"

    def _cut_short(self, start: float, progress: Progress) -> str:
        """The end of `max_time` within an epoch: what there is of it is measured, and may be the best."""
        self._read()
        resuming.hold(self)  # a resumed run with more time goes on from here, as if nothing had been measured
        record = self._record(time.perf_counter() - start) | {"cut_short": True}
        self._watch(record)
        self.run.record("epoch", **record)
        progress.epoch(self.step, record)
        self._say_time_is_over(progress)
        return "max_time"

    def _say_time_is_over(self, progress: Progress) -> None:
        where = f"step {self.step} (epoch {min(self.step // self.per_epoch + 1, self.training.epochs)} of {self.training.epochs})"
        where = self._acted or where
        text = f"stopped after {where} by max_time={self.training.max_time:g}"
        self.run.log(text)
        if self.run.path is not None:
            text += f"; a larger max_time goes on: konspekt resume {self.run.path} max_time=SECONDS"
        progress.say(text)

    def take(self, parts: list[Batch]) -> None:
        """Make these batches those of the step."""
        self.parts, self.batch = parts, parts[0]

    @property
    def index(self) -> Tensor:
        """The items of the step, in this process."""
        return torch.cat([batch["index"] for batch in self.parts])  # type: ignore[misc]

    def set_rates(self, factor: float) -> None:
        for player in self.players.values():
            for group in player.optimizer.param_groups:
                group["lr"] = self.lr * group["lr_scale"] * factor

    def _step(self) -> None:
        if self.adjusts:
            self.set_rates(self.factor(self.step))
        if self.deferred:
            self.recent[self.step] = self.index
        self.turn()
        self.step += 1
        self.moved = False
        if self.team.size > 1:
            resuming.remember(self)
        if self.average is not None:
            self.average.follow(self.step)

    def turn(self) -> None:
        """Each player's turn."""
        objective, players = self.objective, self.players
        self.moved = False
        for name in self.turns or tuple(objective.turns(self.step)):
            player = players[name]
            if len(players) > 1:
                self._only(name)
            player.move()
            self.moved = True
            self._add(player)
            if self.after_step is not None:
                with torch.no_grad():
                    self.after_step(self.step, name)

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
        if self.weighs is not None and name == "loss":
            self.risk = loss if self.risk is None else self.weighs * loss + (1 - self.weighs) * self.risk
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
        if self.trying:
            raise DivergedError("while a learning rate was looked for")
        told = self.team.gather([*self._reason(player), index.tolist()])
        # A sum of gradients shows no more where it went wrong, a loss or an output does.
        where = next((n for n, (_, sure, _) in enumerate(told) if sure), None)
        reason, _, items = told[where or 0]
        if self.team.size > 1 and where is not None:
            reason += f" in process {where} of {self.team.size}"
        shown = ", ".join(map(str, items[:16])) + (f" and {len(items) - 16} more" if len(items) > 16 else "")
        message = (
            f"training stopped at step {step} ({self._acted or f'epoch {self.epoch + 1}'}): {reason}. The batch held items {shown}. The "
            f"weights are still those of the step before. Lower lr (now {self.lr:g}), set clip_norm, or look "
            "at these items"
        )
        self.run.log(message, warning=True)
        raise DivergedError(message)

    def _reason(self, player: str) -> tuple[str, bool]:
        """Why something is not finite in this process's part of the step, and whether it is this part that is to blame."""
        reason = "a loss or a gradient is not finite (NaN or inf)"
        if self.sharding is not None:  # to look closer, all processes would have to
            return reason, not math.isfinite(self.own_loss)
        for batch in self.parts:
            if len(batch["index"]):
                reason = why_not_finite(self.objective, batch, player)
                if not reason.startswith("the gradient"):
                    return reason, True
        return reason, False

    def _log(self) -> None:
        self._read()
        if self.run.path:
            player = self.players[self.first]
            norm = float(self.last_norm) if self.deferred else player.norm
            rate = player.optimizer.param_groups[0]["lr"]
            self.run.record(
                "step", stage=self.stage, epoch=self.epoch, step=self.step, loss=float(player.out["loss"].detach()), lr=rate,
                grad_norm=norm, **({} if self.risk is None else {"risk": float(self.risk)}),
            )  # fmt: skip

    def _record(self, seconds: float) -> dict[str, Any]:
        """What is known after an epoch: losses, rates, gradient norms by layer, validation."""
        player = self.players[self.first]
        record: dict[str, Any] = {"stage": self.stage, "epoch": self.epoch, "step": self.step, **self._means()}
        record["lr"] = player.optimizer.param_groups[0]["lr"]
        record["grad_norm"] = float(self.last_norm) if self.deferred else player.norm
        if self.run.path and self.batch:  # a run resumed at an epoch's end has seen no gradient
            named = [(n, p.grad) for n, p in self.objective.named_parameters() if p.grad is not None]
            norms = torch._foreach_norm([g for _, g in named]) if named else ()
            record["grad_norms"] = {n: float(v) for (n, _), v in zip(named, norms, strict=True)}
        record["seconds"] = seconds
        record |= self.batches.facts()
        if self.risk is not None:
            record["risk"] = float(self.risk)
        validation = self.validation
        if validation is not None:
            self.objective.eval()
            start = time.perf_counter()
            with torch.no_grad(), self._averaged():
                values = self.team.tell(self._gathered(lambda: self.objective.evaluate(validation)))
            record |= {f"val_{name}": value for name, value in values.items()}
            record["seconds_validation"] = time.perf_counter() - start
            self.budget.measured(record["seconds_validation"])
        return record

    def _gathered(self, call: Callable[[], Any]) -> Any:
        return call() if self.sharding is None else self.sharding.gathered(call)

    def _averaged(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext() if self.average is None else self.average.shown()

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
            if self.training.patience is not None or self.training.max_time is not None:
                with self._averaged():
                    self.best_weights = {n: t.detach().clone() for n, t in self.weights().items()}
        else:
            self.waited += 1
        return self.training.patience is not None and self.waited >= self.training.patience

    def _stops(self, event: str, record: dict[str, Any]) -> bool:
        moment = Moment(event, self.stage, self.epoch, self.step, self.objective, self.run, record)
        return any(self.team.gather(any([callback(moment) is True for callback in self.callbacks])))

    # -- checkpoints ------------------------------------------------------------------------------------------------

    def _save_due(self, now: float) -> bool:
        every = self.training.checkpoint_every
        if every is not None:
            return self.step % every == 0
        return self.save_asked if self.team.size > 1 else now - self.saved > SAVE_SECONDS

    def save(self) -> None:
        """Write a checkpoint of this moment."""
        if self.run.checkpoints is None:
            return
        self._read()
        self.seconds = time.perf_counter() - self.began
        resuming.save(self)
        self.saved = time.perf_counter()

    # -- time, and what the processes agree on ------------------------------------------------------------------------

    def ask(self, shared: Tensor) -> None:
        """Put what this process wants into the sum over all: to stop, to save."""
        if self.team.size > 1:
            now = time.perf_counter()
            shared[_PRESSED] = float(self.interrupt.pressed)
            shared[_OVER] = float(self.team.leads and self._due(now))
            shared[_SAVE] = float(self.team.leads and now - self.saved > SAVE_SECONDS)

    def hear(self, shared: Tensor) -> None:
        """Read what the processes want. A GPU is waited for at the log interval only, or where there is a limit of time."""
        if self.team.size == 1:
            return
        if not self.deferred or self.training.max_time is not None or (self.step + 1) % LOG_EVERY == 0:
            wants = shared[_PRESSED : _SAVE + 1].tolist()
            self.pressed, self.over, self.save_asked = (w > 0 for w in wants)

    @property
    def asked_to_stop(self) -> bool:
        """Whether Ctrl-C was pressed: of several processes, once all know it."""
        return self.pressed if self.team.size > 1 else self.interrupt.pressed

    def _due(self, now: float) -> bool:
        self.budget.stepped(now - self.ticked)
        self.ticked = now
        return self.budget.over(now)

    def time_over(self, now: float) -> bool:
        if self.training.max_time is None:
            return False
        return self.over if self.team.size > 1 else self._due(now)

    def make_budget(self) -> Budget:
        """What `max_time` leaves, with a forward pass timed if there is a limit."""
        self.ticked = time.perf_counter()
        limit, run = self.training.max_time, self.run
        one_pass, size = 0.0, 0
        if limit is not None:
            source = self.validation or self.batches
            one_pass = self.watch.forward_seconds(source) * source.num_batches
            tensors: dict[str, Tensor] = {}
            checkpoint.split(resuming.state_of(self), tensors)
            size = sum(t.nbytes for t in tensors.values())
        budget = Budget(
            limit,
            run.began - run.used,
            writes=run.checkpoints is not None,
            size=size,
            one_pass=one_pass,
            measures=self.validation is not None,
        )
        self.ticked = time.perf_counter()
        return budget

    @property
    def _acted(self) -> str:
        """Of batches that are made by acting, the environment steps so far; "" of others."""
        acted = getattr(self.batches, "acted", None)
        return "" if acted is None else f"{acted:,} environment steps"

    # -- ends -------------------------------------------------------------------------------------------------------

    def interrupted(self) -> None:
        """Leave a checkpoint and say how to go on."""
        self.save()
        self.writer.wait()
        path = self.run.path
        advice = f"go on with: konspekt resume {path}" if path else "without run_dir nothing was kept"
        where = self._acted or f"step {self.step} (epoch {self.epoch + 1})"
        message = f"stopped by {self.interrupt.by} after {where}; {advice}"
        self.run.log(message)
        raise InterruptedFit(message)

    def _lost(self, error: LostProcess) -> None:
        """Another process is gone: leave the state before this step, if no weight has moved in it, and say how to go on."""
        advice = "without run_dir nothing was kept"
        if self.run.checkpoints is not None:
            resuming.save_remembered(self)
            advice = f"go on, with any number of processes, with: konspekt resume {self.run.checkpoints.parent}"
        message = f"training stopped at step {self.step} (epoch {self.epoch + 1}): {error}; {advice}"
        self.run.log(message, warning=True)
        raise LostProcess(message) from None

    def release(self) -> None:
        """Give the parameters back to the nets."""
        with contextlib.suppress(KonspektError):  # where it matters it was waited for before
            self.writer.wait()
        for player in self.players.values():
            for p in player.flat.parameters:
                p.requires_grad_(True)
            player.flat.release()
        if self.sharding is not None:
            self.sharding.give_back()
