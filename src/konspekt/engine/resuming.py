"""A stage's state as a tree for a checkpoint, and back: what a resumed run, a range test and a lost process need of it."""

from __future__ import annotations

import copy
import time
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from konspekt.core.errors import ConfigError
from konspekt.core.seeds import mix
from konspekt.engine import checkpoint
from konspekt.engine.foreign import check_state, foreign
from konspekt.engine.progress import Progress

if TYPE_CHECKING:
    from konspekt.engine.loop import Loop

__all__ = ["finish", "go_back", "hold", "remember", "restore", "save", "save_remembered", "snapshot", "state_of"]


def state_of(loop: Loop, *, alone: bool = True) -> dict[str, Any]:
    """All that a stage needs to go on to the bit. alone: without the generators of the other processes."""
    random = checkpoint.random_state(loop.device)
    others: list[dict[str, Tensor]] = []
    if not alone and loop.team.size > 1:
        told = loop.team.gather({name: t.tolist() for name, t in random.items()})
        others = [{name: torch.tensor(v, dtype=torch.uint8) for name, v in part.items()} for part in told]
    return {
        "weights": loop.weights(),
        "average": None if loop.average is None else loop.average.state(),
        "objective": loop.objective.state(),
        "optimizers": {n: p.flat.gather(p.optimizer.state_dict()) for n, p in loop.players.items()},
        "batches": loop.batches.state(),
        "schedule": loop.schedule.state(),
        "random": random,
        "randoms": others,
        "precision": loop.precision.state(),
        "epoch": loop.epoch,
        "step": loop.step,
        "within": loop.within,
        "sums": loop.sums,
        "norm": loop.players[loop.first].norm,
        "risk": None if loop.risk is None else float(loop.risk),
        "best": loop.best,
        "best_epoch": loop.best_epoch,
        "best_weights": loop.best_weights,
        "waited": loop.waited,
        "seconds": loop.seconds,
        "used": loop.run.used + time.perf_counter() - loop.run.began,
    }


def _take_up(loop: Loop, state: dict[str, Any]) -> None:
    """The inverse of `state_of`, but for the batches' place."""
    loop.load_weights(state["weights"])
    loop.objective.load_state(state["objective"])
    if loop.average is not None:
        loop.average.load_state(state["average"])
    for name, player in loop.players.items():
        player.optimizer.load_state_dict(player.flat.scatter(state["optimizers"][name]))
    loop.schedule.load_state(state["schedule"])
    loop.precision.load_state(state["precision"])
    loop.epoch, loop.step, loop.within, loop.sums = (state[k] for k in ("epoch", "step", "within", "sums"))
    loop.best, loop.best_epoch, loop.best_weights = (state[k] for k in ("best", "best_epoch", "best_weights"))
    loop.waited, loop.seconds, loop.risk = state["waited"], state["seconds"], state["risk"]
    loop.players[loop.first].norm = state["norm"]
    team = loop.team
    if len(state["randoms"]) == team.size:
        checkpoint.set_random_state(state["randoms"][team.rank], loop.device)
        return
    checkpoint.set_random_state(state["random"], loop.device)
    if not team.leads:  # the run had another number of processes
        torch.manual_seed(mix(torch.initial_seed() % 2**62, team.rank, state["step"]) % 2**63)


def snapshot(loop: Loop) -> dict[str, Any]:
    """The state in memory, to `go_back` to."""
    return copy.deepcopy(state_of(loop))


def go_back(loop: Loop, state: dict[str, Any]) -> None:
    """Be as at the `snapshot`."""
    _take_up(loop, state)
    checkpoint.set_random_state(state["random"], loop.device)
    loop.batches.load_state(state["batches"])
    for player in loop.players.values():
        player.flat.clear()


def save(loop: Loop) -> None:
    """Write a checkpoint of this moment; process 0 does."""
    begun = time.perf_counter()
    state = state_of(loop, alone=False)
    parent, stage, keep = loop.run.checkpoints, loop.stage, loop.training.keep
    if loop.team.leads and parent is not None:
        loop.writer.write(
            parent, stage, loop.step, state, lambda: checkpoint.prune(parent, stage, keep, finished=False)
        )
        loop.budget.saved(time.perf_counter() - begun)


def finish(loop: Loop, stopped: str) -> None:
    """Write the stage's end, in the place of its checkpoints."""
    parent, stage, keep = loop.run.checkpoints, loop.stage, loop.training.keep
    if parent is None:
        return
    state = state_of(loop, alone=False) | {"stopped": stopped, "final": None}
    if loop.held:
        state |= {**loop.held, "final": loop.best_weights}
    if loop.team.leads:
        loop.writer.write(parent, stage, None, state, lambda: checkpoint.prune(parent, stage, keep, finished=True))
        loop.writer.wait()
    loop.team.wait()


def hold(loop: Loop) -> None:
    """Keep what a measurement in mid-epoch changes, so that a resumed run does not see it."""
    keys = ("best", "best_epoch", "best_weights", "waited")
    loop.held = {k: getattr(loop, k) for k in keys} | {"schedule": copy.deepcopy(loop.schedule.state())}


def remember(loop: Loop) -> None:
    """Between two steps: what the next may change before its weights move."""
    loop.remembered = {"batches": loop.batches.state(), "random": checkpoint.random_state(loop.device)}
    loop.buffers_before = [b.clone() for b in loop.objective.buffers()]


def save_remembered(loop: Loop) -> None:
    """When a process is lost: write the state before this step, unless a player has moved in it already."""
    loop.writer.wait()
    if not loop.team.leads or loop.moved or loop.run.checkpoints is None or not loop.remembered:
        return
    if loop.sharding is not None:  # its share of the weights is gone with it
        return
    with torch.no_grad():
        for buffer, before in zip(loop.objective.buffers(), loop.buffers_before, strict=True):
            buffer.copy_(before)
    checkpoint.write(loop.run.checkpoints, loop.stage, loop.step, state_of(loop) | loop.remembered)


def restore(loop: Loop) -> bool:
    """Take up the newest checkpoint of a resumed run; True where the stage is finished already."""
    run, team = loop.run, loop.team
    if not run.resumes or run.checkpoints is None:
        return False
    if not team.leads:
        team.wait()  # process 0 is the first to look, as it removes what is damaged
    found = checkpoint.newest(run.checkpoints, loop.stage)
    last = run.last_stage()
    if team.leads:
        team.wait()
    team.wait()  # all have read what is changed below
    if found is None:
        run.rewind(loop.stage, -1, 0)
        return False
    state, finished, damaged = found
    check_state(loop, state, finished)
    done = state["epoch"] + bool(state["within"])
    acted = state["batches"].get("acted") if hasattr(loop.batches, "acted") else None  # environment steps, of an agent
    if loop.training.epochs < done:
        if acted is not None:
            raise ConfigError(
                f"{run.path} has made {acted:,} environment steps already, which cannot be had back: give more steps than that"
            )
        raise ConfigError(f"{run.path} is in epoch {done} already; epochs={loop.training.epochs} cannot be had back")
    for message in damaged:
        text = f"a damaged checkpoint was passed over for the one before: {message}"
        run.log(text, warning=True)
        Progress(loop.training.verbose and team.leads, loop.stage, 1, 1).say(text)
    with foreign(loop):
        _take_up(loop, state)
    loop.taken_up = loop.step
    run.used = max(run.used, state["used"])
    # A finished stage goes on only where it is the last and was given more epochs, or more time.
    limit = loop.training.max_time
    stopped = state.get("stopped")
    more = stopped == "epochs" or (stopped == "max_time" and (limit is None or limit > run.used))
    if finished and not (more and loop.epoch < loop.training.epochs and last in (None, loop.stage)):
        if state["final"] is not None:
            loop.best_weights = state["final"]
        if last in (None, loop.stage):
            more_of = (
                f"more time than the {run.used:.3g} s that are used: max_time="
                if stopped == "max_time"
                else (
                    "more epochs: epochs=" if acted is None else f"more than the {acted:,} steps that are made: steps="
                )
            )
            text = f"this run was finished already; nothing is trained without {more_of}N"
            run.log(text)
            Progress(loop.training.verbose and team.leads, loop.stage, 1, 1).say(text)
        if acted is not None:  # an agent's episodes, and what else was seen by acting, are results too
            with foreign(loop):
                loop.batches.load_state(state["batches"])
        loop.settle()
        return True
    with foreign(loop):
        loop.batches.load_state(state["batches"])  # not of a finished stage: the next begins its epochs anew
    run.rewind(loop.stage, loop.step, loop.epoch)
    return False
