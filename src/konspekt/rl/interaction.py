"""Batches that are made by acting: a round of environment steps, then so many batches out of what was seen.

The engine asks for a batch only when the last step is done, so an agent acts with the weights of the moment. A subclass says how a
round acts and what a batch is; position, episodes, records and the environments' state are kept here.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from konspekt.core.errors import ConfigError
from konspekt.data.fields import Batch, Collate
from konspekt.rl.recording import RECENT, facts_of
from konspekt.rl.rounds import episodes_from, episodes_to
from konspekt.rl.vector import Environments, Episode

__all__ = ["EPOCH_STEPS", "Interaction"]

EPOCH_STEPS = 1_000  # environment steps, about, between two records


class Interaction:
    """A source of batches that acts.

    envs: before their first reset. steps: environment steps of the training, over all environments.
    round_steps: environment steps of a round; per_round: batches that follow it.
    warmup: environment steps before the first round, which give no batch.
    seed: of the draws of `rng`, which are all of the acting.
    """

    whole_rounds: ClassVar[bool] = False  # whether each round is of `round_steps` exactly

    def __init__(
        self,
        envs: Environments,
        *,
        steps: int,
        round_steps: int,
        per_round: int = 1,
        warmup: int = 0,
        seed: int,
        device: torch.device,
    ) -> None:
        if warmup + round_steps > steps:
            raise ConfigError(
                f"steps={steps} are over before the first batch, which takes {warmup + round_steps} environment steps; give more"
            )
        self.envs, self.device = envs, device
        self.round_steps, self.per_round, self.warmup = round_steps, per_round, warmup
        self.rounds = (steps - warmup) // round_steps
        self.rounds_per_epoch = max(1, min(-(-EPOCH_STEPS // round_steps), self.rounds))
        self.rng = np.random.Generator(np.random.PCG64(seed))
        self.round = self.place = 0  # of the round: batches that were given
        self.acted = 0  # environment steps so far
        self.begun = False
        self.observation: NDArray[Any] = np.zeros(0)  # (n, ...), what is to be acted on
        self.episodes: list[Episode] = []
        self._told = 0  # episodes that a record has counted
        self._last: Batch | None = None
        self.failed: Exception | None = None  # what the acting raised

    # -- what a subclass says ---------------------------------------------------------------------------------------

    def begin(self) -> None:
        """After the first reset: act `warmup` steps, if there are any."""

    def act(self) -> None:
        """Act `round_steps` environment steps with the weights of the moment; count them by `stepped`."""
        raise NotImplementedError(f"{type(self).__name__}.act")

    def batch(self) -> Batch | None:
        """The next batch of the round; None: there is none. "index" (B,) is what a message about a bad step names."""
        raise NotImplementedError(f"{type(self).__name__}.batch")

    def over(self, epoch: int) -> bool:
        """Whether the epoch's rounds are over; where rounds differ in length, steps are counted in their place."""
        return self.round >= min((epoch + 1) * self.rounds_per_epoch, self.rounds)

    def measures(self) -> dict[str, float]:
        """What a record says besides: epsilon, the size of the replay."""
        return {}

    def kept(self) -> dict[str, Any]:
        """What lives from batch to batch besides: tensors and JSON."""
        return {}

    def take_kept(self, state: Mapping[str, Any]) -> None:
        """Take back what `kept` gave. It comes from a file: check shapes."""

    # -- acting -----------------------------------------------------------------------------------------------------

    def stepped(self) -> None:
        """Note that all environments made a step."""
        self.acted += self.envs.num
        if self.envs.finished:
            self.episodes += self.envs.take_finished()

    @property
    def total_steps(self) -> int:
        """Environment steps of the whole training: whole rounds."""
        return self.warmup + self.rounds * self.round_steps

    @property
    def progress(self) -> float:
        """The share of the training that is over, from 0 to 1."""
        return self.acted / self.total_steps

    # -- Batches ----------------------------------------------------------------------------------------------------

    @property
    def num_items(self) -> int:
        """Environment steps of an epoch."""
        return self.rounds_per_epoch * self.round_steps

    @property
    def num_batches(self) -> int:
        """Batches of a whole epoch."""
        return self.rounds_per_epoch * self.per_round

    @property
    def epochs(self) -> int:
        """How many epochs there are; the last may be shorter."""
        return math.ceil(self.rounds / self.rounds_per_epoch)

    def epoch(self, epoch: int) -> Iterator[Batch]:
        """Act and give batches, until the epoch's rounds are over."""
        if not self.begun:
            self.observation = self.envs.reset()
            self.begun = True
            self.begin()
        while not self.over(epoch):
            if self.place == 0:
                try:
                    self.act()
                except Exception as error:
                    self.failed = error
                    raise
            while self.place < self.per_round:
                self.place += 1
                batch = self.batch()
                if batch is not None:
                    self._last = batch
                    yield batch
            self.place, self.round = 0, self.round + 1

    def collate_as(self, how: Mapping[str, Collate]) -> None:
        """Nothing here is ragged."""

    def sample(self) -> Batch:
        """The last batch, or, before there is one, observations of zeros."""
        if self._last is not None:
            return self._last
        space: Any = self.envs.observation_space
        zeros = np.zeros((self.envs.num, *(space.shape or ())), space.dtype)
        return {"index": torch.arange(self.envs.num), "observation": torch.from_numpy(zeros).to(self.device)}

    def share(self, rank: int, size: int) -> None:
        """Raise ConfigError: agents train in one process."""
        raise ConfigError("agents train in one process; give processes=N to step environments in several")

    def facts(self) -> dict[str, float]:
        """Environment steps, episodes since the last record, mean return and length of the last 100 episodes."""
        new = self.episodes[self._told :]
        self._told = len(self.episodes)
        return facts_of(new, self.episodes[-RECENT:], self.acted) | self.measures()

    def state(self) -> dict[str, Any]:
        """All that the acting needs to go on to the bit."""
        return {
            "round": self.round,
            "place": self.place,
            "acted": self.acted,
            "begun": self.begun,
            "told": self._told,
            "rng": _random_to(self.rng),
            "observation": torch.from_numpy(np.ascontiguousarray(self.observation)),
            "episodes": episodes_to(self.episodes),
            "environments": self.envs.state() if self.begun else None,
            "kept": self.kept() if self.begun else None,
        }

    def load_state(self, state: Mapping[str, Any]) -> list[str]:
        """Go on from there; gives sentences about what could not be restored."""
        self.round, self.place, self.acted = (int(state[name]) for name in ("round", "place", "acted"))
        if not 0 <= self.place <= self.per_round or min(self.round, self.acted) < 0:
            raise ValueError("the place in the training is no place in it")
        if self.whole_rounds and self.acted > self.total_steps:
            raise ConfigError(
                f"the run has made {self.acted:,} environment steps already, which cannot be had back: give more steps than that"
            )
        self._told = int(state["told"])
        self.begun = bool(state["begun"])
        _random_from(self.rng, state["rng"])
        self.episodes = episodes_from(state["episodes"])
        said: list[str] = []
        if self.begun:
            self.observation = state["observation"].numpy().copy()
            space: Any = self.envs.observation_space
            if self.observation.shape != (self.envs.num, *(space.shape or ())):
                raise ValueError(f"observations are of shape {self.observation.shape}")
            said = self.envs.load_state(state["environments"])
            self.observation = self.envs.reset()  # what was restored, or the first of a new episode
            self.take_kept(state["kept"])
        self.notes = said
        return said


def _random_to(rng: np.random.Generator) -> dict[str, Any]:
    """A generator's state as JSON; its 128-bit numbers as text."""
    state: Any = rng.bit_generator.state
    inner = {k: str(v) for k, v in state["state"].items()}
    return {"state": inner, "has_uint32": int(state["has_uint32"]), "uinteger": int(state["uinteger"])}


def _random_from(rng: np.random.Generator, state: Mapping[str, Any]) -> None:
    inner = {k: int(v) for k, v in state["state"].items()}
    rng.bit_generator.state = {
        "bit_generator": "PCG64",
        "state": inner,
        "has_uint32": int(state["has_uint32"]),
        "uinteger": int(state["uinteger"]),
    }
