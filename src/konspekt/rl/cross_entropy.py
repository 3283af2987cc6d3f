"""The cross-entropy method: play, keep the best sessions, do as they did. Course: row R2 (document M, section 2.2)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray

from konspekt.core.errors import ConfigError, DataError
from konspekt.core.params import AtLeast, AtMost, MoreThan, Search
from konspekt.core.registry import system
from konspekt.core.runs import Run
from konspekt.core.seeds import mix
from konspekt.rl.discretise import Discretiser, needs_sample, numbered, quantile, tiles, uniform
from konspekt.rl.elite_models import ClassifierPolicy, RegressorPolicy, TablePolicy, estimator_of, starts_of
from konspekt.rl.elites import Carried, faded, joined, last_visits, play_sessions
from konspekt.rl.rounds import RoundAgent
from konspekt.rl.spaces import arrays_of, words
from konspekt.rl.vector import Environments

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["CrossEntropyMethod"]

MOST_ACTIONS = 10_000  # joint choices of bins


@system(
    name="cross-entropy-method", kind="agent", task="acting", rows=("R2",), paper="Rubinstein 1999; de Boer et al. 2005"
)
@dataclass(kw_only=True, eq=False, repr=False)
class CrossEntropyMethod(RoundAgent):
    """The cross-entropy method: a round plays whole sessions, takes the best of them, and fits the policy to what they did.

    Sessions are ranked by the discounted return; with gamma=1 by the plain one. Where all are equal nothing is learned from them. Continuous
    actions are drawn around the model's mean, or cut into bins and chosen; where a single noisy action tells little of the return, as in
    Pendulum, CrossEntropySearch is the one to take. On CartPole forests
    and logistic regression learn in fewer steps with elite=0.1 than with the default.

    model: what is fitted: table (counts; boxes are cut into cells), forest or logistic-regression (of scikit-learn), or
        any classifier or regressor of scikit-learn, unfitted. One of your own is not saved: `konspekt.load(folder, model=...)`
        fits it again to the elites that are.
    sessions: whole episodes of a round, over all environments. More where episodes begin in many states (Taxi: 500).
    elite: the share of the sessions that is learned from; those as good as the last of them too.
    relative: rank by what a session got above what its start foretells, where that is much (a regression on first observations
        of the last rounds; numbered ones by their means).
    carry: rounds whose elites compete with new sessions. Where the environment draws, lucky ones stay so long.
    visits: of a state that a session meets again and again: all, its actions count as often; last, only the one that led on. The
        second is right where nothing is drawn: a greedy policy that repeats loops gets nowhere (Taxi, CliffWalking). Where
        steps are drawn (FrozenLake) it takes luck for merit.
    smoothing: the share of actions that is drawn evenly, whatever the elites did; none in `predict`.
    lr: tables only: the share of the way to the elites' counts that a round goes (de Boer et al. 2005).
    prior: tables only: how many visits the old policy counts for in each state, beside those of the elites. With 0, where
        few sessions succeed, the luck of a handful fixes the policy of a state that they met once or twice (FrozenLake8x8).
    action_bins: bins for each number of continuous actions; 0: they stay continuous.
    spread: the deviation of continuous actions: fitted (that of the elites around the mean, and the noise beside it: Szita and Lorincz
        2006), or schedule (the noise alone).
    noise: the deviation of the noise at first, in halves of the actions' range. noise_end: at last.
    noise_fade: the share of `steps` over which it goes from the one to the other.
    discretise, bins, tilings: how boxes are cut for a table, as in QLearning; where bounds are missing, by the first round.

    Attributes after `fit`: policy_; spread_ (D,), the elites' deviation; elites_, observations and actions of the last elites.
    """

    model: Any = "table"
    sessions: Annotated[int, AtLeast(2), Search(choices=(50, 100, 200))] = 100
    elite: Annotated[float, MoreThan(0), AtMost(1), Search(0.1, 0.5)] = 0.25
    relative: bool = True
    carry: Annotated[int, AtLeast(0)] = 0
    visits: Literal["all", "last"] = "all"
    smoothing: Annotated[float, AtLeast(0), AtMost(1), Search(0.0, 0.2)] = 0.05
    lr: Annotated[float, MoreThan(0), AtMost(1), Search(0.3, 1.0)] = 0.7
    prior: Annotated[float, AtLeast(0)] = 5.0
    action_bins: Annotated[int, AtLeast(0)] = 0
    spread: Literal["fitted", "schedule"] = "fitted"
    noise: Annotated[float, AtLeast(0)] = 0.5
    noise_end: Annotated[float, AtLeast(0)] = 0.05
    noise_fade: Annotated[float, MoreThan(0), AtMost(1)] = 0.5
    discretise: Literal["uniform", "quantile", "tiles"] = "uniform"
    bins: tuple[Annotated[int, AtLeast(1), AtMost(10_000)], ...] = (6,)
    tilings: Annotated[int, AtLeast(1)] = 8

    while_fitting: ClassVar[tuple[str, ...]] = ("_carried", "_observation", "_fresh", "_acted", "_seed")
    whole_episodes: ClassVar[bool] = True
    actions: ClassVar[tuple[type, ...]] = (spaces.Discrete, spaces.Box)

    def check_params(self) -> None:
        """Raise ConfigError where parameters are out of bounds or do not go together."""
        super().check_params()
        if not self.bins:
            raise ConfigError(
                f"{type(self).__name__}: bins must hold a number, or one for each number of an observation"
            )
        named = ("table", "forest", "logistic-regression")
        if isinstance(self.model, str) and self.model not in named:
            raise ConfigError(
                f"{type(self).__name__}: model must be one of {', '.join(named)}, or a model of scikit-learn, got {self.model!r}"
            )

    # -- what is fitted -----------------------------------------------------------------------------------------------

    @property
    def _choices(self) -> int:
        """How many actions there are to choose from; 0 where they are continuous."""
        space: Any = self.action_space_
        if isinstance(space, spaces.Discrete):
            return int(space.n)
        return int(self.action_bins ** int(np.prod(space.shape))) if self.action_bins else 0

    def _check_actions(self) -> None:
        """Raise ConfigError where the actions are none that can be drawn."""
        space = self.action_space_
        if isinstance(space, spaces.Box):
            if not (np.isfinite(space.low).all() and np.isfinite(space.high).all()):
                raise ConfigError(
                    f"{type(self).__name__}: actions of {words(space)} have no bounds, and noise and bins need some; wrap the "
                    "environment in gymnasium.wrappers.RescaleAction or TransformAction"
                )
            if self._choices > MOST_ACTIONS:
                raise ConfigError(
                    f"{type(self).__name__}: action_bins={self.action_bins} make {self._choices:,} actions of {words(space)}, more than "
                    f"{MOST_ACTIONS:,}; take fewer, or action_bins=0"
                )
        if self.model != "table":
            self._estimator(0)

    def _estimator(self, number: int) -> Any:
        return estimator_of(
            self.model, mix(self.seed_, 9, number) % 2**31, continuous=not self._choices, owner=type(self).__name__
        )

    @property
    def _bounds(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        space: Any = self.action_space_
        return space.low.ravel().astype(np.float64), space.high.ravel().astype(np.float64)

    def _cells(self, seen: NDArray[Any] | None) -> Discretiser:
        space: Any = arrays_of(self.observation_space_)
        if not isinstance(space, spaces.Box):
            return numbered(space)
        if self.discretise == "tiles":
            return tiles(space, self.bins, self.tilings, seen)
        if self.discretise == "quantile" and seen is not None:
            return quantile(space, self.bins, seen)
        return uniform(space, self.bins, seen)

    def _empty(self, cells: Discretiser | None) -> Any:
        """A policy that has learned nothing: all actions alike."""
        choices = self._choices
        if cells is not None:
            first = np.full(choices, 1 / choices) if choices else sum(self._bounds) / 2
            return TablePolicy(cells, np.asarray(first), self.lr, choices > 0, self.prior)
        if choices:
            return ClassifierPolicy(arrays_of(self.observation_space_), choices)
        return RegressorPolicy(arrays_of(self.observation_space_), sum(self._bounds) / 2)  # type: ignore[arg-type]

    # -- learning ---------------------------------------------------------------------------------------------------

    def start(self, envs: Environments) -> None:
        """A policy that acts evenly."""
        self._check_actions()
        self._carried, self._acted = (
            Carried(self.carry, starts_of(envs.observation_space) if self.relative else None),
            0,
        )
        self._observation: NDArray[Any] | None = None
        self._fresh = np.ones(envs.num, np.bool_)
        self._seed = mix(self.seed_, 4) % 2**31
        space = envs.observation_space
        blind = self.model == "table" and isinstance(space, spaces.Box) and needs_sample(space, self.discretise)
        self.policy_ = None if blind else self._empty(self._cells(None) if self.model == "table" else None)
        low, high = self._bounds if not self._choices else (np.zeros(1), np.zeros(1))
        self.spread_ = (high - low) / 2 if self.spread == "fitted" else 0 * low
        self.elites_: tuple[NDArray[Any], NDArray[Any]] | None = None
        self.fitted_ = -1  # the round of the last fit

    def round(self, envs: Environments, number: int) -> dict[str, float]:
        """Whole sessions, then the fit."""
        if self._observation is None:
            self._observation = envs.reset()
        rng = np.random.Generator(np.random.PCG64(mix(self.seed_, 10, number)))
        noise = faded(self.noise, self.noise_end, self.noise_fade, self._acted / self.steps)
        act = self._drawing(rng, noise)
        played, self._observation, self._fresh, steps = play_sessions(
            envs, self._observation, self._fresh, self.sessions, self.gamma, act, self._seed, self.episodes_
        )
        self._acted += steps * envs.num
        chosen = self._carried.choose(played, self.elite)
        if self.policy_ is None:
            self.policy_ = self._empty(self._cells(joined(played)[0]))
        if chosen:
            observations, actions = joined(last_visits(chosen) if self.visits == "last" else chosen)
            self.elites_, self.fitted_ = (observations, self._inward(actions)), number
            self._fit_policy()
        scores = np.array([one.score for one in played])
        measures = {
            "score": float(scores.mean()),
            "elites": float(len(chosen)),
            "threshold": float(min((one.score for one in chosen), default=scores.max())),
        }
        if not self._choices:
            measures |= {"noise": noise, "spread": float(np.mean(self.spread_))}
        return {"steps": steps * envs.num, **measures}

    def _fit_policy(self) -> None:
        """Fit the policy to the elites, and the spread around it."""
        if self.elites_ is None:
            return
        if self.model == "table":
            self.policy_.fit(*self.elites_)
        else:
            self.policy_.fit(*self.elites_, self._estimator(self.fitted_))
        if not self._choices and self.spread == "fitted":
            observations, actions = self.elites_
            self.spread_ = (actions - self.policy_.predict(observations)).std(axis=0)

    def _drawing(self, rng: np.random.Generator, noise: float) -> Callable[[NDArray[Any]], NDArray[Any]]:
        """What acts in a round."""
        choices = self._choices
        if choices:

            def choose(observations: NDArray[Any]) -> NDArray[Any]:
                chances = self._chances(observations)
                below = np.cumsum(chances, axis=1)[:, :-1] <= rng.random(len(chances))[:, None]
                return self._forward(below.sum(axis=1))

            return choose
        low, high = self._bounds
        width = np.sqrt(self.spread_**2 + (noise * (high - low) / 2) ** 2)

        def draw(observations: NDArray[Any]) -> NDArray[Any]:
            if self.policy_ is None:
                return rng.uniform(low, high, (len(observations), len(low))).astype(np.float32)
            means = self.policy_.predict(observations)
            actions = means + width * rng.standard_normal(means.shape)
            even = rng.random(len(means)) < self.smoothing
            actions[even] = rng.uniform(low, high, (int(even.sum()), len(low)))
            return np.clip(actions, low, high).astype(np.float32)

        return draw

    def _chances(self, observations: NDArray[Any]) -> NDArray[np.float64]:
        """The probability of each choice, (N, A), smoothed."""
        choices = self._choices
        if self.policy_ is None:
            return np.full((len(observations), choices), 1 / choices)
        return (1 - self.smoothing) * self.policy_.predict(observations) + self.smoothing / choices  # type: ignore[no-any-return]

    def _forward(self, chosen: NDArray[np.int64]) -> NDArray[Any]:
        """Choices (N,) as the environments take them."""
        if isinstance(self.action_space_, spaces.Discrete):
            return chosen
        low, high = self._bounds
        levels = np.stack(np.unravel_index(chosen, (self.action_bins,) * len(low)), axis=1)
        return (low + (levels + 0.5) * (high - low) / self.action_bins).astype(np.float32)

    def _inward(self, actions: NDArray[Any]) -> NDArray[Any]:
        """The inverse of `_forward`; continuous actions (N, D) as they are."""
        if isinstance(self.action_space_, spaces.Discrete):
            return actions.astype(np.int64)
        given = actions.reshape(len(actions), -1).astype(np.float64)
        if not self.action_bins:
            return given
        low, high = self._bounds
        levels = np.clip(((given - low) / (high - low) * self.action_bins).astype(np.int64), 0, self.action_bins - 1)
        return np.ravel_multi_index(tuple(levels.T), (self.action_bins,) * len(low))

    # -- state ------------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """The policy, by its table or the pairs that it was fitted to, and the elites that are carried."""
        return {
            "values": self._values(),
            "tensors": self._tensors(),
            "carried": self._carried.state(),
            "acted": self._acted,
            "fresh": torch.from_numpy(self._fresh.copy()),
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take back what `state` gave."""
        self._carried.load_state(state["carried"])
        self._acted = int(state["acted"])
        fresh = state["fresh"].numpy()
        if fresh.shape != self._fresh.shape:
            raise ValueError(f"{len(fresh)} environments")
        self._fresh = fresh.copy()
        self._take(state["values"], state["tensors"])

    def _values(self) -> dict[str, Any]:
        cells = self.policy_.cells.to_json() if isinstance(self.policy_, TablePolicy) else None
        return {"cells": cells, "fitted": self.fitted_, "elites": self.elites_ is not None}

    def _tensors(self) -> dict[str, Tensor]:
        tensors = {"spread": self.spread_}
        if isinstance(self.policy_, TablePolicy):
            tensors |= {"edges": self.policy_.cells.edges, "policy": self.policy_.values}
        if self.elites_ is not None:
            tensors |= {"observations": self.elites_[0], "actions": self.elites_[1]}
        return {name: torch.from_numpy(np.ascontiguousarray(array).copy()) for name, array in tensors.items()}

    def _take(self, values: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
        choices, size = self._choices, int(np.prod(self.action_space_.shape or (1,)))
        self.fitted_, self.elites_ = int(values["fitted"]), None
        if values["elites"]:
            self._check_pairs(arrays["observations"], arrays["actions"])
            self.elites_ = arrays["observations"], arrays["actions"]
        if self.model != "table":
            self.policy_ = self._empty(None)
            self._fit_policy()  # the same pairs and the same seed give the same model
        elif values["cells"] is not None:
            cells = Discretiser.from_json(values["cells"], arrays["edges"])
            policy = self._empty(cells)
            if policy.values.shape != arrays["policy"].shape or len(cells.start) != int(
                np.prod(arrays_of(self.observation_space_).shape or (1,))
            ):
                raise DataError(f"a policy of {arrays['policy'].shape} does not fit observations and actions")
            policy.values = arrays["policy"]
            self.policy_ = policy
        if not choices and arrays["spread"].shape != (size,):
            raise DataError(f"a spread of {arrays['spread'].shape} does not fit actions of {size} numbers")
        self.spread_ = arrays["spread"]

    def _check_pairs(self, observations: NDArray[Any], actions: NDArray[Any]) -> None:
        """Raise DataError where the pairs are none of these spaces."""
        space, choices = arrays_of(self.observation_space_), self._choices
        fits = observations.shape[1:] == (space.shape or ()) and len(observations) == len(actions) > 0
        if choices:
            fits = (
                fits
                and actions.ndim == 1
                and actions.dtype == np.int64
                and 0 <= actions.min() <= actions.max() < choices
            )
        else:
            fits = (
                fits and actions.shape[1:] == (int(np.prod(self.action_space_.shape)),) and np.isfinite(actions).all()
            )
        if isinstance(space, spaces.Discrete):
            fits = fits and space.start <= observations.min() <= observations.max() < space.start + space.n
        if not fits:
            raise DataError("the elites do not fit the observations and actions of this model; it is damaged")

    # -- after fit --------------------------------------------------------------------------------------------------

    def greedy(self, observations: NDArray[Any]) -> NDArray[Any]:
        """The most probable action, or the mean of continuous ones."""
        values = self.policy_.predict(observations)
        if self._choices:
            return self._forward(values.argmax(axis=1))
        return np.clip(values, *self._bounds).astype(np.float32)

    def exhibit(self, run: Run) -> None:
        """Scores and elites by rounds; how often the elites took each action."""
        records = [r for r in run.history if "score" in r]
        steps = [r["env_steps"] for r in records]
        names = ("score", "threshold")
        run.keep("sessions and elites", "curve", {n: (steps, [r[n] for r in records]) for n in names})
        if self.elites_ is not None and self._choices:
            counts = np.bincount(self.elites_[1], minlength=self._choices)
            shares = counts / counts.sum()
            run.keep(
                "actions of the elites",
                "table",
                [{"action": a, "share": round(float(s), 4)} for a, s in enumerate(shares)],
            )

    def learned_values(self) -> dict[str, Any]:
        """How the policy is to be made again."""
        return self._values()

    def learned_tensors(self) -> dict[str, Tensor]:
        """The table, or the pairs that the model was fitted to."""
        tensors = self._tensors()
        if self.model == "table":
            tensors = {n: t for n, t in tensors.items() if n not in ("observations", "actions")}
        return tensors

    def take_learned(self, values: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        """Take back the policy; a model of scikit-learn is fitted again."""
        self._check_actions()
        self._take(values | {"elites": bool(values["elites"]) and self.model != "table"}, tensors)
        if self.policy_ is None:
            raise DataError("the model holds no policy; it is damaged")
