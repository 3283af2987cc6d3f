"""What is tried before or beside the training, and undone: a learning rate, whether to compile, a forecast."""

from __future__ import annotations

import contextlib
import math
import time
from typing import TYPE_CHECKING

import torch
from torch import nn

from konspekt.core.errors import ConfigError, DivergedError
from konspekt.engine import checkpoint, resuming
from konspekt.engine.compiling import Compiling
from konspekt.engine.forecast import Rehearsal
from konspekt.engine.foreign import ready_made
from konspekt.engine.progress import Progress
from konspekt.engine.range_test import FIRST_LR, range_test, rates
from konspekt.engine.session import Interrupt

if TYPE_CHECKING:
    from konspekt.engine.loop import Loop

__all__ = ["rehearse", "settle_choices"]


def rehearse(loop: Loop, rehearsal: Rehearsal) -> None:
    """Take three real steps for a forecast; the objective is thrown away afterwards."""
    loop.began = loop.saved = time.perf_counter()
    progress = Progress(False, loop.stage, 1, 1)
    if loop.training.lr == "find":
        loop.lr = FIRST_LR
    loop.compiling = Compiling(loop.objective.model, False, None, lambda text, start: None, lambda: None)
    loop.budget = loop.make_budget()
    loop.objective.train()
    loop.objective.start_epoch(0, loop.batches)
    with Interrupt() as loop.interrupt:
        for parts, number in zip(loop.endless(), range(rehearsal.steps), strict=False):
            loop.take(parts)
            with loop.watch.counting() if number == 0 else contextlib.nullcontext():
                loop._step()
            loop.watch.stepped(time.perf_counter())
    progress.close()
    rehearsal.stages.append(loop.watch.forecast())
    loop.objective.eval()


def settle_choices(loop: Loop, progress: Progress) -> None:
    """What is found by trying, once in a run: the learning rate, whether to compile."""
    training, run = loop.training, loop.run
    loop.compiling = Compiling(loop.objective.model, False, None, lambda text, start: None, lambda: None)
    if loop.accumulate > 1 or loop.team.size > 1:
        norms = [n for n, m in loop.objective.named_modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
        if norms:
            parts = "process" if loop.team.size > 1 else "batch that is accumulated"
            text = f"batch statistics are those of each {parts}, not of the whole step's items ({norms[0]}, ...)"
            run.log(text, warning=loop.team.size > 1)  # so that it stands in the report
            _check_parts(loop)
    if training.lr == "find":
        found = ready_made(run, f"{loop.stage}.lr", over=0)
        if found is None:
            found = _find_rate(loop)
            run.choose(f"{loop.stage}.lr", found)
            progress.say(f"learning rate found: {found:.3g}")
        loop.lr = found
        loop.set_rates(1.0)

    def note(text: str, start: int) -> None:
        run.log(text)
        run.choose(f"{loop.stage}.compile", start)

    wanted = loop.sharding is None and training.compile
    if wanted == "auto" and any(player.replays for player in loop.players.values()):
        wanted = False  # nobody asked for it, and compiled nets have no second derivatives
    loop.compiling = Compiling(
        loop.objective.model, wanted, ready_made(run, f"{loop.stage}.compile"), note, lambda: _trial(loop)
    )


def _check_parts(loop: Loop) -> None:
    """Raise ConfigError where a process would get one item of a batch, which has no batch statistics."""
    flat = any(isinstance(m, nn.BatchNorm1d) for m in loop.objective.modules())
    fewest = getattr(loop.batches, "fewest", None)
    if flat and fewest is not None and fewest() == 1:
        raise ConfigError(
            f"batch normalisation needs two items or more, but a batch leaves one to a process: {loop.batches.num_items} "
            f"items in {loop.batches.num_batches} batches, of {loop.team.size} processes each; give another batch_size, "
            "another norm, or fewer processes"
        )


def _find_rate(loop: Loop) -> float:
    """The range test; everything is as before afterwards."""
    over = False

    def step(rate: float) -> float:
        nonlocal over
        loop.lr = rate
        loop.set_rates(1.0)
        parts = next(stream, None)
        if parts is None:
            return math.nan
        loop.take(parts)
        try:
            loop.turn()
        except DivergedError:
            return math.nan
        loss = float(loop.players[loop.first].out["loss"].detach())
        over = loop.time_over(time.perf_counter())
        return math.nan if over or loop.asked_to_stop else loss

    before = resuming.snapshot(loop)
    loop.objective.train()
    loop.objective.start_epoch(0, loop.batches)
    with Interrupt(terminate=loop.team.size > 1) as loop.interrupt:
        stream = loop.endless()
        loop.trying = True
        found = range_test(step, rates())
    loop.trying = False
    resuming.go_back(loop, before)
    loop.clear()
    loop.ok.fill_(True)
    loop.bad_step.fill_(2**62)
    if loop.asked_to_stop:
        loop.interrupted()
    if over:
        raise ConfigError(
            f"lr='find': max_time={loop.training.max_time:g} was over before a rate was found; give lr a number, or more time"
        )
    if found is None:
        raise ConfigError(
            "lr='find': the loss fell at no rate between 1e-7 and 10, so none can be recommended; give lr a number, or "
            "look at the data and the net"
        )
    loop.run.keep(
        "learning-rate range test", "curve", {"loss": (found.rates, found.losses), "taken": ([found.lr], [found.losses[found.rates.index(found.lr)]])}
    )  # fmt: skip
    loop.run.log(f"learning rate found by a range test of {len(found.rates)} steps: {found.lr:.3g}")
    return found.lr


def _trial(loop: Loop) -> None:
    """Compute loss and gradient once for the compiler's sake, and leave no trace."""
    random = checkpoint.random_state(loop.device)
    buffers = [b.clone() for b in loop.objective.buffers()]
    player = loop.players[loop.first]
    with loop.precision.pass_():
        loss = loop.objective.loss(loop.batch, loop.first)["loss"]
    torch.autograd.grad(loss, player.flat.parameters, allow_unused=True)
    checkpoint.set_random_state(random, loop.device)
    with torch.no_grad():
        for buffer, was in zip(loop.objective.buffers(), buffers, strict=True):
            buffer.copy_(was)
