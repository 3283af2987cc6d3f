"""The base of agents that learn in rounds without a gradient: tables, and models that others fit.

A round acts for a while and then learns; between rounds there are checkpoints, records, Ctrl-C and callbacks. This is no second
loop for nets: nothing is differentiated here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import torch

from konspekt.core.errors import ConfigError, DataError, InterruptedFit
from konspekt.core.params import AtLeast, MoreThan
from konspekt.core.runs import Run
from konspekt.engine import checkpoint
from konspekt.engine.loop import Moment
from konspekt.engine.progress import Progress
from konspekt.engine.session import Interrupt
from konspekt.rl.agent import Agent
from konspekt.rl.episodes import Episode, Episodes
from konspekt.rl.recording import RECENT, facts_of, failed, newest_step, refuse_too_many, write_episodes
from konspekt.rl.vector import Environments

__all__ = ["RoundAgent", "episodes_from", "episodes_to"]

SAVE_SECONDS = 60.0
STAGE = "fit"


@dataclass(kw_only=True, eq=False, repr=False)
class RoundAgent(Agent):
    """The base of agents that act for a while, learn from it without a gradient, and begin again.

    steps: environment steps of the training, over all environments; the last round is finished, so there may be a few more.
    n_envs: environments that are stepped together.
    max_time: seconds that the fit may take.
    checkpoint_every: write a checkpoint every so many rounds; None: every minute.
    keep: how many checkpoints to keep.
    """

    steps: Annotated[int, AtLeast(1)] = 100_000
    n_envs: Annotated[int, AtLeast(1)] = 1
    max_time: Annotated[float | None, MoreThan(0)] = None
    checkpoint_every: Annotated[int | None, AtLeast(1)] = None
    keep: Annotated[int, AtLeast(1)] = 2

    may_differ: ClassVar[tuple[str, ...]] = ("steps", "max_time", "run_dir", "verbose")
    while_fitting: ClassVar[tuple[str, ...]] = ()  # attributes that a fit leaves nothing of

    # -- what a subclass says ---------------------------------------------------------------------------------------

    def start(self, envs: Environments) -> None:
        """Make what is learned, and whatever lives from round to round; random numbers from `self.seed_`."""
        raise NotImplementedError(f"{type(self).__name__}.start")

    def round(self, envs: Environments, number: int) -> dict[str, float]:
        """Act and learn: round `number`, from 0. Gives the measures of the round; "steps" must be how many were made."""
        raise NotImplementedError(f"{type(self).__name__}.round")

    def state(self) -> dict[str, Any]:
        """What `round` needs to go on to the bit, environments apart: tensors and JSON."""
        raise NotImplementedError(f"{type(self).__name__}.state")

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take back what `state` gave. It comes from a file: check shapes."""
        raise NotImplementedError(f"{type(self).__name__}.load_state")

    def result(self) -> None:
        """After the last round: what is left to be computed."""

    # -- learning ---------------------------------------------------------------------------------------------------

    def check_params(self) -> None:
        """Raise ConfigError where parameters are out of bounds or do not go together."""
        super().check_params()
        refuse_too_many(self)

    def learn(
        self, envs: Environments, run: Run, past: dict[str, Any] | None, callbacks: Sequence[Callable[..., Any]]
    ) -> None:
        """Rounds until `steps` are made."""
        try:
            self._learn(envs, run, past, callbacks)
        finally:
            for name in ("_run", *self.while_fitting):
                self.__dict__.pop(name, None)

    def _learn(
        self, envs: Environments, run: Run, past: dict[str, Any] | None, callbacks: Sequence[Callable[..., Any]]
    ) -> None:
        self._run, self.episodes_ = run, Episodes()
        self.start(envs)
        acted = number = 0
        if past is not None:
            acted, number, finished = self._go_on(envs, run)
            if self.steps < min(acted, past["params"]["steps"]):
                raise ConfigError(
                    f"{run.path} has made {acted:,} environment steps already; steps={self.steps} is less, and they cannot be had "
                    "back: give more"
                )
            if finished and acted >= self.steps:
                run.log("this run was finished already; nothing is trained without more steps: steps=N")
        progress = Progress(self.verbose, STAGE, 1, self.steps, steps=self.steps)
        saved, began = time.perf_counter(), run.began - run.used
        stopped = "epochs"
        writer = checkpoint.Writer()
        try:
            with Interrupt() as interrupt:
                while acted < self.steps and stopped == "epochs":
                    start = time.perf_counter()
                    try:
                        measures = self.round(envs, number)
                    except Exception as error:
                        writer.wait()
                        step = newest_step(run) if isinstance(error, DataError) else None
                        told = failed(self, run, error, True, step)
                        if told is error:
                            raise
                        raise told from error
                    acted, number = acted + int(measures.pop("steps")), number + 1
                    new = envs.take_finished()
                    self.episodes_ += new
                    now = time.perf_counter()
                    record = {"stage": STAGE, "epoch": number - 1, "step": acted, **measures}
                    record |= facts_of(new, self.episodes_[-RECENT:], acted) | {"seconds": now - start}
                    run.record("epoch", **record)
                    progress.epoch(acted, {"epoch": number - 1, **record})
                    for event in ("step", "epoch"):
                        moment = Moment(event, STAGE, number - 1, number, None, run, record)  # type: ignore[arg-type]
                        if any([callback(moment) is True for callback in callbacks]):
                            stopped = "callback"
                    if self.max_time is not None and now - began > self.max_time:
                        stopped = "max_time"
                        run.log(f"stopped after {acted} steps by max_time={self.max_time:g}")
                    every = self.checkpoint_every
                    due = number % every == 0 if every is not None else now - saved > SAVE_SECONDS
                    if run.checkpoints is not None and (due or interrupt.pressed):
                        self._save(writer, run, envs, acted, number)
                        saved = time.perf_counter()
                    if interrupt.pressed:
                        writer.wait()
                        self._interrupted(run, acted)
        finally:
            progress.close()
        self.result()
        run.record(
            "stage", stage=STAGE, state="finished", step=acted, stopped=stopped, seconds=time.perf_counter() - began
        )
        if run.checkpoints is not None:
            self._save(writer, run, envs, acted, number, finished=True)
            writer.wait()
        self.n_iter_ = number

    def _interrupted(self, run: Run, acted: int) -> None:
        write_episodes(run, self.episodes_)
        where = f"go on with: konspekt resume {run.path}" if run.path else "without run_dir nothing was kept"
        message = f"stopped by Ctrl-C after {acted} environment steps; {where}"
        run.log(message)
        raise InterruptedFit(message)

    def _save(
        self,
        writer: checkpoint.Writer,
        run: Run,
        envs: Environments,
        acted: int,
        number: int,
        *,
        finished: bool = False,
    ) -> None:
        parent = run.checkpoints
        if parent is None:
            return
        state = {
            "agent": self.state(),
            "environments": envs.state(),
            "episodes": episodes_to(self.episodes_),
            "acted": acted,
            "number": number,
            "used": run.used + time.perf_counter() - run.began,
        }
        keep = self.keep
        writer.write(
            parent,
            STAGE,
            None if finished else number,
            state,
            lambda: checkpoint.prune(parent, STAGE, keep, finished=finished),
        )

    def _go_on(self, envs: Environments, run: Run) -> tuple[int, int, bool]:
        """Take up the newest checkpoint: environment steps, rounds, whether the run was finished."""
        if run.checkpoints is None:
            raise ConfigError("there is no run folder to resume from")
        found = checkpoint.newest(run.checkpoints, STAGE)
        if found is None:
            run.rewind(STAGE, 0, 0)
            return 0, 0, False
        state, finished, damaged = found
        for message in damaged:
            run.log(f"a damaged checkpoint was passed over for the one before: {message}", warning=True)
        try:
            acted, number = int(state["acted"]), int(state["number"])
            self.load_state(state["agent"])
            for said in envs.load_state(state["environments"]):
                run.log(said, warning=True)
            self.episodes_ = episodes_from(state["episodes"])
            run.used = max(run.used, float(state["used"]))
        except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            if isinstance(error, (ConfigError, DataError)):
                raise
            text = " ".join(str(error).split())[:160]
            raise DataError(
                f"{run.checkpoints}: the newest checkpoint does not fit this fit ({type(error).__name__}: {text})"
            ) from error
        run.rewind(STAGE, acted, number)
        return acted, number, finished


def episodes_to(episodes: Sequence[Episode]) -> torch.Tensor:
    """Episodes as a tensor (E, 6) for a checkpoint."""
    if isinstance(episodes, Episodes):
        return torch.from_numpy(episodes.table.copy())
    return torch.tensor([[float(x) for x in e] for e in episodes], dtype=torch.float64).reshape(-1, 6)


def episodes_from(table: torch.Tensor) -> Episodes:
    """The inverse of `episodes_to`.

    Raises ValueError where the table is none of episodes.
    """
    if table.ndim != 2 or table.shape[1] != 6 or table.dtype != torch.float64:
        raise ValueError("episodes")
    return Episodes(table.numpy().copy())
