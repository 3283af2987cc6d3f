"""Environments spread over processes of their own.

gymnasium's AsyncVectorEnv was weighed and left: a process for each environment, of which one waits for all others at each step; a new
episode with a seed of its own takes a second round of messages; and what an environment raises loses its seed and its step. Here a
process plays a share of the environments with the same code as the training process would (`vector.Looped`), begins new
episodes by itself, and a step is one message there and one back.

Processes are started afresh ("spawn"), not forked: torch's and OpenMP's threads run in this process, and a fork would copy the locks that
they hold. Messages are arrays, numbers and texts; tensors are made of them here.
"""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import signal
import threading
import weakref
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.vector.utils import CloudpickleWrapper
from numpy.typing import NDArray

from konspekt.core.errors import ConfigError, DataError, KonspektError, ResourceError
from konspekt.data.reading_processes import end_with_parent, starting
from konspekt.rl.episodes import Episode
from konspekt.rl.seeding import episode_seed
from konspekt.rl.vector import Closing, Looped, Step, check_alike, from_replay_state, replay_state

__all__ = ["SubProcesses"]

_PATIENCE = 5.0  # seconds that a process has to close its environments


class SubProcesses(Closing):
    """`num` environments in at most `processes` processes.

    make: makes one, in the process. Raises ConfigError if it cannot be sent there, DataError for what breaks the rules of an environment,
    ResourceError where a process has died.
    """

    def __init__(
        self, make: Callable[[], gymnasium.Env[Any, Any]], num: int, name: str, seed: int, processes: int
    ) -> None:
        self.num, self.name, self._seed = num, name, seed
        self.finished: list[Episode] = []
        bounds = np.linspace(0, num, min(processes, num) + 1).round().astype(int).tolist()
        self._shares = [slice(a, b) for a, b in itertools.pairwise(bounds)]
        self._numbers, self._steps = [0] * num, [0] * num  # the episode of each environment and its step, for messages
        self._lost: str | None = None
        context = multiprocessing.get_context("spawn")
        self._pipes: list[Connection] = []
        self._running: list[Any] = []
        self._end = weakref.finalize(self, _end, self._pipes, self._running)  # of an object that nobody closed, too
        try:
            for share in self._shares:
                here, there = context.Pipe()
                self._pipes.append(here)
                given = (there, CloudpickleWrapper(make), name, seed, share.start, share.stop - share.start)
                process = context.Process(target=_work, args=given, daemon=True)
                with starting():
                    self._start(process)
                self._running.append(process)
                there.close()
            spaces = self._answers()
            for share, own in zip(self._shares, spaces, strict=True):
                check_alike(spaces[0][:2], own[:2], f"{name}, environment {share.start}")
        except BaseException:
            self._end()
            raise
        self.observation_space, self.action_space, self.given_space = spaces[0]

    def _start(self, process: Any) -> None:
        try:
            process.start()
        except (OSError, MemoryError) as error:
            raise ResourceError(
                f"a process for {self.name} could not be started ({error}); use fewer, or processes=0"
            ) from error
        except Exception as error:  # whatever the user's objects raise when they are sent
            raise ConfigError(
                f"what makes {self.name} cannot be sent to another process ({type(error).__name__}: {error}): give an id, or a "
                "function that makes all it needs inside, or processes=0"
            ) from error

    def reset(self) -> NDArray[Any]:
        """Begin episode 0 everywhere, unless a state has just been loaded."""
        results = self._ask("reset", [None] * len(self._shares))
        self._places([places for _, places in results])
        return _joined([observation for observation, _ in results])

    def step(self, actions: NDArray[Any]) -> Step:
        """One step of each."""
        if len(actions) != self.num:
            raise DataError(f"{self.name}: there are {len(actions)} actions, where {self.num} are needed")
        results = self._ask("step", [actions[share] for share in self._shares])
        for i in range(self.num):
            self._steps[i] += 1
        for _, episodes in results:
            for episode in episodes:
                self._numbers[episode[0]], self._steps[episode[0]] = episode[1] + 1, 0
                self.finished.append(Episode(*episode))
        parts = [part for part, _ in results]
        observation, reward, terminated, truncated, final = (_joined([part[k] for part in parts]) for k in range(5))
        ended = terminated.any() or truncated.any()
        return Step(observation, reward, terminated, truncated, final if ended else observation)

    def state(self) -> dict[str, Any]:
        """The seed of each episode and the actions since."""
        records = [record for share in self._ask("records", [None] * len(self._shares)) for record in share]
        return replay_state(records, self.finished)

    def load_state(self, state: dict[str, Any]) -> list[str]:
        """Play each episode again up to where it was, in its process."""
        records, self.finished = from_replay_state(state, self.num, self.name)
        results = self._ask("load", [records[share] for share in self._shares])
        self._places([places for _, places in results])
        return [sentence for sentences, _ in results for sentence in sentences]

    def close(self) -> None:
        """Close the environments and end the processes."""
        self._end()

    def _places(self, places: list[list[tuple[int, int]]]) -> None:
        for share, own in zip(self._shares, places, strict=True):
            self._numbers[share] = [number for number, _ in own]
            self._steps[share] = [step for _, step in own]

    def _ask(self, what: str, values: Sequence[Any]) -> list[Any]:
        if self._lost is not None or not self._end.alive:
            raise ResourceError(self._lost or f"{self.name}: the environments are closed")
        for k, value in enumerate(values):
            try:
                self._pipes[k].send((what, value))
            except (BrokenPipeError, ConnectionResetError):
                self._died(k)
        return self._answers()

    def _answers(self) -> list[Any]:
        """The answer of each process. All are waited for before an error is raised, so that none stays in its pipe."""
        answers: list[Any] = []
        errors: list[KonspektError] = []
        for k, pipe in enumerate(self._pipes):
            try:
                kind, value = pipe.recv()
            except (EOFError, ConnectionResetError):
                self._died(k)
            if kind == "answer":
                answers.append(value)
            else:
                errors.append((ConfigError if kind == "ConfigError" else DataError)(value))
        if errors:
            raise errors[0]
        return answers

    def _died(self, k: int) -> None:
        """Raises ResourceError, with the seeds of the episodes that the process was in."""
        share = self._shares[k]
        code = None
        if k < len(self._running):
            self._running[k].join(_PATIENCE)
            code = self._running[k].exitcode
        reason = (
            f"killed by signal {-code}, perhaps because memory ran out"
            if code is not None and code < 0
            else f"exit code {code}"
        )
        within = "; ".join(
            f"environment {i}: episode {self._numbers[i]}, seed {episode_seed(self._seed, i, self._numbers[i])}, "
            f"step {self._steps[i] + 1}"
            for i in range(share.start, share.stop)
        )
        self._lost = (
            f"the process that plays environments {share.start} to {share.stop - 1} of {self.name} has died ({reason}), in {within}. "
            "Go on from the last checkpoint, with fewer processes, or with processes=0, where an environment that crashes is seen "
            "at its line"
        )
        self._end()
        raise ResourceError(self._lost)


def _joined(parts: list[NDArray[Any]]) -> NDArray[Any]:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _end(pipes: list[Connection], running: list[Any]) -> None:
    for pipe in pipes:
        with contextlib.suppress(OSError):
            pipe.send(("close", None))
    for process in running:
        process.join(_PATIENCE)
        if process.is_alive():  # its environment hangs
            process.kill()
            process.join()
        process.close()
    for pipe in pipes:
        pipe.close()
    pipes.clear()
    running.clear()


# -- in the processes -----------------------------------------------------------------------------------------------------


def _work(pipe: Connection, make: Any, name: str, seed: int, first: int, count: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the training process's affair
    threading.Thread(target=end_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    played: Looped | None = None
    try:
        try:
            played = Looped([make() for _ in range(count)], name, seed, first=first)
        except Exception as error:  # noqa: BLE001, the training process raises it
            pipe.send(_failure(error))
            return
        pipe.send(("answer", (played.observation_space, played.action_space, played.given_space)))
        while True:
            what, value = pipe.recv()
            if what == "close":
                return
            try:
                pipe.send(("answer", _done(played, what, value)))
            except (KonspektError, ValueError, TypeError, MemoryError) as error:
                pipe.send(_failure(error))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return  # the training process is gone
    finally:
        if played is not None:
            played.close()
        pipe.close()


def _done(played: Looped, what: str, value: Any) -> Any:
    if what == "reset":
        return played.reset(), played.places()
    if what == "step":
        step = played.step(value)
        return (step.observation, step.reward, step.terminated, step.truncated, step.final), [
            tuple(one) for one in played.take_finished()
        ]
    if what == "records":
        return played.records()
    return played.load_records(value), played.places()


def _failure(error: BaseException) -> tuple[str, str]:
    kind = "ConfigError" if isinstance(error, ConfigError) else "DataError"
    text = str(error) if isinstance(error, KonspektError) else f"{type(error).__name__}: {error}"
    return kind, text
