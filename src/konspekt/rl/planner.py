"""An agent that plans: it knows the table of its environment, or estimates it. Course: row R1 (document M, section 2.3)."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import check_is_fitted

from konspekt.core.errors import ConfigError, DataError
from konspekt.core.params import AtLeast, MoreThan
from konspekt.core.registry import system
from konspekt.core.runs import Run
from konspekt.rl import planning
from konspekt.rl.agent import Agent
from konspekt.rl.grids import draw_grid
from konspekt.rl.mdp import MDP
from konspekt.rl.random_walks import sampled_mdp, try_table
from konspekt.rl.saved import number_from
from konspekt.rl.vector import Environments, environments

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor

__all__ = ["Planner"]

ARROWS = {"left": "\u2190", "down": "\u2193", "right": "\u2192", "up": "\u2191"}
RECORDS = 1000  # sweeps at most that are recorded
COMPILED = 5000  # episodes from which on compiling an environment pays
NAMED = 24  # states at most of a table in the report


@system(
    name="planner",
    kind="agent",
    task="acting",
    rows=("R1",),
    paper="Bellman 1957; Howard 1960; Puterman & Shin 1978",
)
@dataclass(kw_only=True, eq=False, repr=False)
class Planner(Agent):
    """Plan with the table of the environment's transitions, and act by what is optimal in it.

    The table is that which the environment carries (FrozenLake, Taxi, CliffWalking: `env.unwrapped.P`); a thousand random steps show
    whether the environment does what it says. Where there is none, it can be estimated from episodes of a random policy.

    method: "value-iteration", "policy-iteration", or "modified-policy-iteration", which is mostly the fastest on large tables.
    gamma: the discount. 1 only where the end can be reached from every state; there is then no bound on the error.
    tolerance: v is computed to within so much of the optimum, in every state; with gamma=1 the last change of v is no more.
    horizon: plan for so many steps and no more, for each step another policy; None: without end. Give an environment's time limit
        where it matters.
    sweeps: of a policy's values between greedy steps, in modified policy iteration.
    episodes: estimate the table from so many episodes of a random policy; None: read the environment's, or refuse.
    unseen: what an action does, in an estimated table, that was never tried: "avoid", "stay" or "refuse", as in `MDP.from_samples`.

    Attributes after `fit`: v_ (S,), q_ (S, A), policy_ (S,), or with a horizon v_ (H + 1, S), q_ of the first step and policy_ (H, S); bound_, how
    far v_ may be from the optimum of the table, infinite where gamma is 1; value_, the expected return of an episode, NaN where it is
    not known where episodes begin; mdp_, the table, which is not saved.
    """

    method: Literal["value-iteration", "policy-iteration", "modified-policy-iteration"] = "value-iteration"
    tolerance: Annotated[float, MoreThan(0)] = 1e-6
    horizon: Annotated[int | None, AtLeast(1)] = None
    sweeps: Annotated[int, AtLeast(0)] = 20
    episodes: Annotated[int | None, AtLeast(1)] = None
    unseen: Literal["avoid", "stay", "refuse"] = "avoid"

    observations: ClassVar[tuple[type, ...]] = (spaces.Discrete,)
    actions: ClassVar[tuple[type, ...]] = (spaces.Discrete,)

    def make_environments(self, env: Any, num: int, seed: int) -> Environments:
        """The environments of the trial, of estimating, or of an evaluation: so few steps pay for no compiling."""
        many = self.episodes is not None and self.episodes >= COMPILED
        limit = self.max_episode_steps
        return environments(env, num, seed=seed, max_episode_steps=limit, compiled="auto" if many else False)

    def _fit(self, env: Any, resume: Any, callbacks: Sequence[Callable[..., Any]]) -> None:
        if callbacks:
            raise ConfigError("Planner: callbacks are not for a plan, which has no steps to stop at; leave them out")
        self._given = env  # what `learn` reads the table of
        try:
            super()._fit(env, resume, callbacks)
        finally:
            self.__dict__.pop("_given", None)

    def learn(
        self, envs: Environments, run: Run, past: dict[str, Any] | None, callbacks: Sequence[Callable[..., Any]]
    ) -> None:
        """Read or estimate the table, and plan."""
        if past is not None:
            run.rewind("fit", 0, 0)
        began = time.perf_counter()
        if self.episodes is None:
            self.mdp_ = MDP.from_env(self._given)
            try_table(self.mdp_, envs, self.seed_)
        else:
            self.mdp_ = self._estimated(envs, run)
        self.shape_, self.letters_, self.actions_ = self.mdp_.shape, self.mdp_.letters, self.mdp_.actions
        run.log(f"a table of {len(self.mdp_.rewards):,} successors of {self.mdp_.n_states:,} states; planning")
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always", ConvergenceWarning)
            self._plan(run)
        for warning in told:
            run.log(str(warning.message), warning=True)
            warnings.warn(str(warning.message), warning.category, stacklevel=4)
        first = self.v_[0] if self.horizon is not None else self.v_
        self.value_ = math.nan if self.mdp_.start is None else float(self.mdp_.start @ first)
        seconds = time.perf_counter() - began
        worth = "" if math.isnan(self.value_) else f"an episode is worth {self.value_:.6g}; "
        table = "table" if self.episodes is None else "estimated table"
        run.log(f"planned in {seconds:.2f} s: {worth}v is within {self.bound_:.3g} of the optimum of the {table}")
        run.record("stage", stage="fit", state="finished", step=len(run.history), stopped="epochs", seconds=seconds)

    def _plan(self, run: Run) -> None:
        if self.horizon is not None:
            plan = planning.finite_horizon(self.mdp_, self.horizon, self.gamma)
            self.v_, self.q_, self.policy_, self.bound_ = plan.v, plan.q, plan.policy, 0.0
            history = [float(np.abs(a - b).max()) for a, b in zip(plan.v[::-1], plan.v[-2::-1], strict=False)]
        else:
            best = self._best()
            self.v_, self.q_, self.policy_, self.bound_ = best.v, best.q, best.policy, best.bound
            history = best.history
        step = math.ceil(len(history) / RECORDS)
        for number in range(0, len(history), step):
            run.record("epoch", stage="fit", epoch=number, step=number + 1, residual=history[number])

    def _best(self) -> planning.Plan:
        if self.method == "value-iteration":
            return planning.value_iteration(self.mdp_, self.gamma, tolerance=self.tolerance)
        if self.method == "policy-iteration":
            return planning.policy_iteration(self.mdp_, self.gamma, tolerance=self.tolerance)
        return planning.modified_policy_iteration(self.mdp_, self.gamma, sweeps=self.sweeps, tolerance=self.tolerance)

    def _estimated(self, envs: Environments, run: Run) -> MDP:
        """The table of the shares that were seen in episodes of random actions; the log says what was not seen."""
        mdp = sampled_mdp(envs, self._given, int(self.episodes or 0), self.seed_, self.unseen)
        self.episodes_ = envs.take_finished()
        counts = np.zeros((0, 0)) if mdp.counts is None else mdp.counts
        acted = counts.any(axis=1)
        never = int((counts[acted] == 0).sum())
        run.log(
            f"estimated from {int(counts.sum()):,} steps of {len(self.episodes_):,} random episodes: acted in {acted.sum():,} of "
            f"{mdp.n_states:,} states, where {never:,} of {counts[acted].size:,} pairs of state and action were never tried",
            warning=never > 0,
        )
        return mdp

    # -- acting -----------------------------------------------------------------------------------------------------

    def greedy(self, observations: NDArray[Any]) -> NDArray[Any]:
        """The planned action of each state, (N,); with a horizon, that of the first step."""
        policy: NDArray[np.int64] = self.policy_ if self.policy_.ndim == 1 else self.policy_[0]
        return policy[self._states(observations)]

    def _states(self, observations: NDArray[Any]) -> NDArray[np.int64]:
        states: NDArray[np.int64] = observations.astype(np.int64) - int(self.observation_space_.start)  # type: ignore[attr-defined]
        return states

    def player(self, num: int) -> Callable[[NDArray[Any], NDArray[np.bool_]], NDArray[Any]]:
        """With a horizon it counts the steps of each episode; after the last, the last step's policy goes on."""
        if self.policy_.ndim == 1:
            return super().player(num)
        done = np.zeros(num, dtype=np.int64)

        def act(observations: NDArray[Any], fresh: NDArray[np.bool_]) -> NDArray[Any]:
            done[fresh] = 0
            actions: NDArray[np.int64] = self.policy_[
                np.minimum(done, len(self.policy_) - 1), self._states(observations)
            ]
            done[:] += 1
            return actions

        return act

    # -- showing ----------------------------------------------------------------------------------------------------

    def plot(
        self,
        *,
        shape: tuple[int, int] | None = None,
        states: Any = None,
        actions: Sequence[str] | None = None,
        title: str | None = None,
    ) -> Figure:
        """v and the policy on the grid of the environment, as a matplotlib figure; with a horizon, those of the first step.

        shape: (rows, columns), where the environment does not say it. states: an array (rows, columns) of the numbers of states to be
        drawn, as a slice of Taxi: `np.arange(25).reshape(5, 5) * 20 + passenger * 4 + destination`. actions: what they are called.

        Raises ConfigError where it is not known where the states lie.
        """
        check_is_fitted(self, "v_")
        v, policy = (self.v_, self.policy_) if self.v_.ndim == 1 else (self.v_[0], self.policy_[0])
        names = actions or self.actions_ or tuple(map(str, range(self.q_.shape[1])))
        letters = self.letters_
        if states is not None:
            chosen = np.asarray(states)
            if chosen.ndim != 2 or chosen.dtype.kind not in "iu" or chosen.min() < 0 or chosen.max() >= len(v):
                raise ConfigError(f"states must be an array (rows, columns) of numbers of states, 0 to {len(v) - 1}")
            shape, v, policy = chosen.shape, v[chosen.ravel()], policy[chosen.ravel()]
            letters = None if letters is None else "".join(letters[s] for s in chosen.ravel())
        elif shape is None:
            shape = self.shape_
        if shape is None:
            raise ConfigError(
                f"the {len(v)} states of this environment lie on no known grid: give shape=(rows, columns), or states=, an array (rows, "
                "columns) of the numbers of those to be drawn"
            )
        said = f"{self.env_ or self.facts_['source']}, " if title is None else ""
        return draw_grid(
            v,
            policy,
            shape,
            title=f"{said}gamma {self.gamma:g}" if title is None else title,
            letters=letters,
            actions=names,
        )

    def exhibit(self, run: Run) -> None:
        """The values as a matrix and the policy as arrows, where the states lie on a small grid; else a table of the first states."""
        v, policy = (self.v_, self.policy_) if self.v_.ndim == 1 else (self.v_[0], self.policy_[0])
        names = self.actions_ or tuple(map(str, range(self.q_.shape[1])))
        if self.shape_ is None or max(self.shape_) > NAMED:
            first = [{"state": s, "v": float(v[s]), "action": names[policy[s]]} for s in range(min(len(v), NAMED))]
            run.keep("policy", "table", first)
            return
        rows, columns = self.shape_
        sides = {"rows": list(map(str, range(rows))), "columns": list(map(str, range(columns)))}
        run.keep("values", "matrix", {"values": v.reshape(self.shape_), **sides})
        cells = [ARROWS.get(names[a], names[a]) for a in policy]
        letters = self.letters_ or " " * len(cells)
        cells = [letter if letter in "GHC" else cell for cell, letter in zip(cells, letters, strict=True)]
        run.keep("policy", "text", "\n".join(" ".join(cells[r * columns : (r + 1) * columns]) for r in range(rows)))

    # -- saving -----------------------------------------------------------------------------------------------------

    def learned_values(self) -> dict[str, Any]:
        """The bound, the value and the grid."""
        bound = self.bound_ if math.isfinite(self.bound_) else None
        value = self.value_ if math.isfinite(self.value_) else None
        grid = {"shape": self.shape_, "letters": self.letters_, "actions": self.actions_}
        return {"bound": bound, "value": value, **{k: list(v) if isinstance(v, tuple) else v for k, v in grid.items()}}

    def learned_tensors(self) -> dict[str, Tensor]:
        """v, q and the policy."""
        import torch

        parts = {"v": self.v_, "q": self.q_, "policy": self.policy_}
        return {name: torch.from_numpy(np.ascontiguousarray(part)) for name, part in parts.items()}

    def take_learned(self, values: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        """Take back what was learned. Raise DataError where it does not fit the spaces."""
        states, actions = int(self.observation_space_.n), int(self.action_space_.n)  # type: ignore[attr-defined]
        steps = () if self.horizon is None else (self.horizon,)
        shapes = {
            "v": (*(h + 1 for h in steps), states),
            "q": (states, actions),
            "policy": (*steps, states),
        }
        for name, shape in shapes.items():
            if name not in tensors or tuple(tensors[name].shape) != shape:
                raise DataError(f"{name} must have the shape {shape}")
        self.v_, self.q_, self.policy_ = (tensors[name].numpy() for name in shapes)
        if self.policy_.dtype != np.int64 or self.policy_.min() < 0 or self.policy_.max() >= actions:
            raise DataError(f"the policy has actions other than 0 to {actions - 1}")
        if not np.isfinite(self.v_).all() or not np.isfinite(self.q_).all():
            raise DataError("v or q holds NaN or infinite numbers")
        self.bound_ = math.inf if values["bound"] is None else number_from(values["bound"], "values.bound", 0.0)
        self.value_ = math.nan if values["value"] is None else number_from(values["value"], "values.value")
        grid, letters, names = values["shape"], values["letters"], values["actions"]
        if grid is not None and (len(grid) != 2 or math.prod(map(int, grid)) != states):
            raise DataError(f"a grid {grid} does not hold {states} states")
        if (letters is not None and not isinstance(letters, str)) or (
            names is not None and not isinstance(names, list)
        ):
            raise DataError("values.letters in config.json is no text, or values.actions no list; the file is damaged")
        if (letters is not None and len(letters) != states) or (names is not None and len(names) != actions):
            raise DataError("the letters of the grid or the names of the actions do not fit the spaces")
        self.shape_ = None if grid is None else (int(grid[0]), int(grid[1]))
        self.letters_ = letters if letters is None else str(letters)
        self.actions_ = None if names is None else tuple(map(str, names))
