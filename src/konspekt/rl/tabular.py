"""The base of agents that keep a table of q-values. Course: row R3 (document M, section 2.4)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray

from konspekt.core.errors import ConfigError, DataError
from konspekt.core.params import AtLeast, AtMost, MoreThan, Search
from konspekt.core.runs import Run
from konspekt.core.seeds import mix
from konspekt.rl.discretise import Discretiser, needs_sample, numbered, quantile, tiles, uniform
from konspekt.rl.exploration import Exploring
from konspekt.rl.rounds import RoundAgent
from konspekt.rl.spaces import arrays_of
from konspekt.rl.tables_shown import show_table
from konspekt.rl.vector import Environments

if TYPE_CHECKING:
    from torch import Tensor

    from konspekt.rl.table_learner import Learner

__all__ = ["TableAgent"]

ROUND, ROUNDS = 100, 1_000  # environment steps of a round at least; rounds of a long training
LONGEST_ROUND = 1_000_000  # environment steps: a round takes memory for each
SAMPLE = 1_000  # environment steps, at most a tenth of all, that are drawn evenly to see where a box's observations lie


@dataclass(kw_only=True, eq=False, repr=False)
class TableAgent(RoundAgent, Exploring):
    """The base of agents with a table of q-values, one for each state and action.

    Numbered states are its rows; boxes are cut into cells first. The whole loop, environment and update, is one compiled call where
    gymnasium's toy texts and classic control (Acrobot apart) are played; other environments are stepped one call at a time, and
    the table comes out the same to the bit. An episode that a time limit cuts short goes on in the
    table: only what ends by itself is followed by nothing.

    lr: the share of its error by which an entry moves, with lr_rule="constant".
    lr_rule: "constant", or "visits": 1 / (updates of the entry)^exponent, which converges to the answer (Robbins and Monro 1951).
    exponent: of lr_rule="visits", above 1/2 for convergence; 1 is the plain mean, which forgets its first guesses slowly.
    initial_q: what everything is worth at first; more than can be got makes the agent try everything.
    discretise: how a box is cut: uniform (equal widths), quantile (equal shares of what 1,000 even actions show), or tiles
        (tile coding: `tilings` shifted grids). Where a bound is missing, uniform and tiles take the extremes of those 1,000 steps,
        which count as steps.
    bins: bins for each number of a box; one number stands for all.
    tilings: grids of discretise="tiles".
    n_envs: environments that are stepped together, on one table.

    Attributes after `fit` besides: q_ (S, A), with tiles a row for each tile; visits_ (S, A), updates of each entry, of both tables where there are two; firsts_ (E, 2), of
    the last 1,000 episodes what q said of the first action, and the discounted return that followed.
    """

    lr: Annotated[float, MoreThan(0), AtMost(1), Search(0.01, 1.0, log=True)] = 0.1
    lr_rule: Literal["constant", "visits"] = "constant"
    exponent: Annotated[float, MoreThan(0), AtMost(1), Search(0.5, 1.0)] = 0.8
    initial_q: float = 0.0
    exploration: Annotated[float, MoreThan(0), AtMost(1)] = 0.5
    discretise: Literal["uniform", "quantile", "tiles"] = "uniform"
    bins: tuple[Annotated[int, AtLeast(1), AtMost(10_000)], ...] = (10,)
    tilings: Annotated[int, AtLeast(1)] = 8

    while_fitting: ClassVar[tuple[str, ...]] = ("_learner", "_envs")
    observations: ClassVar[tuple[type, ...]] = (spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary, spaces.Box)
    tables: ClassVar[int] = 1
    kind: ClassVar[int]  # of tabular_kernels: what follows a step is worth

    def check_params(self) -> None:
        """Raise ConfigError where parameters are out of bounds or do not go together."""
        super().check_params()
        self.check_exploration()
        if not self.bins:
            raise ConfigError(
                f"{type(self).__name__}: bins must hold a number, or one for each number of an observation"
            )

    # -- learning ---------------------------------------------------------------------------------------------------

    def start(self, envs: Environments) -> None:
        """Make the table, unless the bins are to be found by acting."""
        self._acted = 0
        self._learner: Learner | None = None
        self._envs = envs
        space = envs.observation_space
        if not isinstance(space, spaces.Box):
            self._make(envs, numbered(space))
        elif not needs_sample(space, self.discretise):
            self._make(envs, self._cut(space, None))

    def _cut(self, space: spaces.Box, sample: NDArray[Any] | None) -> Discretiser:
        if self.discretise == "tiles":
            return tiles(space, self.bins, self.tilings, sample)
        if sample is not None and self.discretise == "quantile":
            return quantile(space, self.bins, sample)
        return uniform(space, self.bins, sample)

    def _make(self, envs: Environments, cells: Discretiser) -> None:
        from konspekt.rl.table_learner import Learner

        self.discretiser_ = cells
        exponent = self.exponent if self.lr_rule == "visits" else 0.0
        self._learner = Learner(
            envs,
            cells,
            kind=self.kind,
            softmax=self.policy == "softmax",
            numbers=(self.gamma, self.lr, exponent, int(getattr(self, "replay", 0))),
            tables=self.tables,
            initial=self.initial_q,
            buffer=int(getattr(self, "buffer_size", 1)),
            seed=mix(self.seed_, 7),
        )

    def round(self, envs: Environments, number: int) -> dict[str, float]:
        """A thousandth of the training, at least 100 environment steps and at most 1,000,000."""
        if self._learner is None:
            return self._look(envs)
        wanted = min(max(ROUND, self.steps // ROUNDS), LONGEST_ROUND, self.steps - self._acted)
        steps = -(-wanted // envs.num)
        chance = self.rate(self._acted / self.steps)
        measures = self._learner.make(envs, steps, chance)
        self._acted += steps * envs.num
        return {"steps": steps * envs.num, **measures}

    def _look(self, envs: Environments) -> dict[str, float]:
        """Act evenly, see where the observations lie, and make the table."""
        rng = np.random.Generator(np.random.PCG64(mix(self.seed_, 8)))
        steps = max(1, min(SAMPLE, self.steps // 10) // envs.num)
        seen = [envs.reset()]
        for _ in range(steps):
            step = envs.step(rng.integers(self.action_space_.n, size=envs.num))
            seen.append(step.final)
        space = envs.observation_space
        assert isinstance(space, spaces.Box)  # noqa: S101  for the type checker
        self._make(envs, self._cut(space, np.concatenate(seen)))
        self._learner.observation = np.array(step.observation.reshape(envs.num, -1))  # type: ignore[union-attr]
        self._acted = steps * envs.num
        return {"steps": self._acted}

    def state(self) -> dict[str, Any]:
        """The table and all around it."""
        learner = self._learner
        return {
            "acted": self._acted,
            "cells": None if learner is None else self.discretiser_.to_json(),
            "edges": torch.zeros(0) if learner is None else torch.from_numpy(self.discretiser_.edges),
            "learner": None if learner is None else learner.state(),
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take back what `state` gave."""
        self._acted = int(state["acted"])
        if state["learner"] is None:
            return
        if self._learner is None:
            self._make(self._envs, Discretiser.from_json(state["cells"], state["edges"].numpy()))
        self._learner.load_state(state["learner"])  # type: ignore[union-attr]

    def result(self) -> None:
        """Take the table out of the loop."""
        learner = self._learner
        assert learner is not None  # noqa: S101  the first round makes it
        self.tables_ = learner.q
        self.visits_ = learner.visits.sum(axis=0)
        self.taken_ = learner.taken
        self.firsts_ = learner.firsts

    # -- after fit --------------------------------------------------------------------------------------------------

    @property
    def q_(self) -> NDArray[np.float64]:
        """q of each state and action, (S, A); of two tables the mean."""
        return self.tables_.mean(axis=0)  # type: ignore[no-any-return]

    def q(self, observations: NDArray[Any]) -> NDArray[np.float64]:
        """q of each action, (N, A), for observations (N, ...)."""
        rows = self.discretiser_.rows(observations)
        return self.tables_[:, rows].mean(axis=(0, 2))  # type: ignore[no-any-return]

    def greedy(self, observations: NDArray[Any]) -> NDArray[np.int64]:
        """The action of the largest q, the first among equal ones."""
        return self.q(observations).argmax(axis=1)

    def exhibit(self, run: Run) -> None:
        """v and visits, on the grid where there is one; action shares; q against returns."""
        show_table(self, run, self._given)

    def learned_values(self) -> dict[str, Any]:
        """How observations become rows."""
        return {"cells": self.discretiser_.to_json()}

    def learned_tensors(self) -> dict[str, Tensor]:
        """The tables and what was counted."""
        arrays = {
            "q": self.tables_,
            "visits": self.visits_,
            "taken": self.taken_,
            "firsts": self.firsts_,
            "edges": self.discretiser_.edges,
        }
        return {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()}

    def take_learned(self, values: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        """Take back the tables.

        Raises DataError where they do not fit the spaces.
        """
        arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
        cells = Discretiser.from_json(values["cells"], arrays["edges"])
        shape = (cells.size, int(self.action_space_.n))
        space: Any = arrays_of(self.observation_space_)
        fits = len(cells.start) == int(np.prod(space.shape or (1,)))
        if not isinstance(space, spaces.Box):
            own = numbered(space)
            alike = np.array_equal(own.strides, cells.strides) and np.array_equal(own.start, cells.start)
            fits = own.size == cells.size and alike and cells.edges.size == 0
        if arrays["q"].shape != (self.tables, *shape) or arrays["visits"].shape != shape or not fits:
            raise DataError(f"a table of {arrays['q'].shape} does not fit observations and actions of this model")
        if not np.isfinite(arrays["q"]).all():
            raise DataError("the table holds NaN or infinite numbers")
        self.discretiser_, self.tables_ = cells, arrays["q"]
        self.visits_, self.taken_, self.firsts_ = arrays["visits"], arrays["taken"], arrays["firsts"]
