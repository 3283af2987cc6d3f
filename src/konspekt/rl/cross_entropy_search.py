"""The cross-entropy method over the numbers of a small net instead of over actions. Course: row R2 (document M, section 2.2).

Shape letters in this file: n environments, C candidates, P numbers of a net, F columns of an observation, E sessions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray

from konspekt.core.errors import ConfigError, DataError
from konspekt.core.params import AtLeast, AtMost, MoreThan, Search
from konspekt.core.registry import system
from konspekt.core.runs import Run
from konspekt.core.seeds import mix
from konspekt.rl.checking import LONGEST, Place, refuse_endless
from konspekt.rl.elite_models import features, starts_of
from konspekt.rl.elites import above_start, faded, select
from konspekt.rl.episodes import next_number
from konspekt.rl.rounds import RoundAgent
from konspekt.rl.seeding import episode_seed
from konspekt.rl.spaces import arrays_of, words
from konspekt.rl.vector import Environments

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["CrossEntropySearch"]

MOST_NUMBERS = 1_000_000  # of a net: every candidate holds as many


@system(
    name="cross-entropy-search",
    kind="agent",
    task="acting",
    rows=("R2",),
    paper="Szita and Lorincz 2006; de Boer et al. 2005",
)
@dataclass(kw_only=True, eq=False, repr=False)
class CrossEntropySearch(RoundAgent):
    """The cross-entropy method over weights: a round draws nets from a normal distribution and refits it to the best of them.

    Each candidate acts without chance, so what is tried is tried for whole sessions: that finds what single noisy actions do not
    (a swing, a run-up), and suits continuous actions. Every number of the net has its own mean and deviation; the noise of Szita
    and Lorincz, which is added to the deviations of the elites, keeps the search from narrowing too early. The policy is the net
    of the means. Observations are standardised by those of some steps of random actions. Where the start decides much, candidates that
    began well are taken for good ones, and the search narrows around nothing: more repeats, a wider spread and more noise help.
    Pendulum-v1 took candidates=100, repeats=4, spread=4, noise=0.8 and 5 million steps.

    hidden: widths of the net's tanh layers; () is a linear policy.
    candidates: nets of a round.
    repeats: whole episodes of each candidate in a round; its score is the mean. More where starts or steps are drawn.
    elite: the share of the candidates that the distribution is refitted to.
    relative: score what a session got above what its start foretells, where that is much (a ridge regression).
    spread: the deviation of every number at first.
    noise: what is added to the deviations at first (by variances). noise_end: at last.
    noise_fade: the share of `steps` over which it goes from the one to the other.

    Attributes after `fit`: mean_ and deviation_ (P,); centre_ and scale_ (F,), of the observations.
    """

    n_envs: Annotated[int, AtLeast(1)] = 50
    hidden: tuple[Annotated[int, AtLeast(1)], ...] = (16,)
    candidates: Annotated[int, AtLeast(2), Search(choices=(50, 100, 200))] = 50
    repeats: Annotated[int, AtLeast(1), Search(choices=(1, 2, 4))] = 1
    elite: Annotated[float, MoreThan(0), AtMost(1), Search(0.05, 0.3)] = 0.1
    relative: bool = True
    spread: Annotated[float, MoreThan(0), Search(1.0, 5.0)] = 2.0
    noise: Annotated[float, AtLeast(0)] = 0.3
    noise_end: Annotated[float, AtLeast(0)] = 0.0
    noise_fade: Annotated[float, MoreThan(0), AtMost(1)] = 0.5

    while_fitting: ClassVar[tuple[str, ...]] = ("_observation", "_fresh", "_acted")
    whole_episodes: ClassVar[bool] = True
    actions: ClassVar[tuple[type, ...]] = (spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary, spaces.Box)

    # -- the net ------------------------------------------------------------------------------------------------------

    @property
    def _widths(self) -> list[int]:
        """Of the layers, from the columns of an observation to the numbers that make an action."""
        seen, act = arrays_of(self.observation_space_), self.action_space_
        one = np.zeros((1, *(seen.shape or ())))
        columns = features(seen, one + (seen.start if isinstance(seen, (spaces.Discrete, spaces.MultiDiscrete)) else 0))
        if isinstance(act, spaces.Discrete):
            outputs = int(act.n)
        elif isinstance(act, spaces.MultiDiscrete):
            outputs = int(act.nvec.sum())
        else:
            outputs = int(np.prod(act.shape))
        return [columns.shape[1], *self.hidden, outputs]

    def _size(self) -> int:
        """P: weights and a bias of every layer. Raises ConfigError where they or the actions are none that can be searched."""
        space, widths = self.action_space_, self._widths
        if isinstance(space, spaces.Box) and not (np.isfinite(space.low).all() and np.isfinite(space.high).all()):
            raise ConfigError(
                f"{type(self).__name__}: actions of {words(space)} have no bounds; wrap the environment in "
                "gymnasium.wrappers.TransformAction"
            )
        size = sum((a + 1) * b for a, b in pairwise(widths))
        if size > MOST_NUMBERS:
            raise ConfigError(
                f"{type(self).__name__}: a net of {size:,} numbers is more than {MOST_NUMBERS:,}, which is no matter for a search; "
                "take fewer hidden, or an agent that learns by gradient: dqn, a2c"
            )
        return size

    def _outputs(self, nets: NDArray[np.float64], observations: NDArray[Any]) -> NDArray[np.float64]:
        """Nets (N, P), or one (1, P) for all, and observations (N, ...) -> (N, O)."""
        x = (features(arrays_of(self.observation_space_), observations) - self.centre_) / self.scale_
        at, widths = 0, self._widths
        for layer, (a, b) in enumerate(pairwise(widths)):
            weights, bias = nets[:, at : at + a * b].reshape(-1, a, b), nets[:, at + a * b : at + (a + 1) * b]
            x = np.matmul(x[:, None], weights)[:, 0] / np.sqrt(a) + bias
            at += (a + 1) * b
            if layer < len(widths) - 2:
                x = np.tanh(x)
        return x

    def _decide(self, outputs: NDArray[np.float64]) -> NDArray[Any]:
        """The actions (N, ...) that the outputs (N, O) stand for, as environments take them."""
        space = self.action_space_
        if isinstance(space, spaces.Discrete):
            return outputs.argmax(axis=1)
        if isinstance(space, spaces.MultiDiscrete):
            parts = np.split(outputs, np.cumsum(space.nvec.ravel())[:-1], axis=1)
            return np.stack([part.argmax(axis=1) for part in parts], axis=1)
        if isinstance(space, spaces.MultiBinary):
            return (outputs > 0).astype(np.int8)
        low, high = (bound.ravel().astype(np.float64) for bound in (space.low, space.high))  # type: ignore[attr-defined]
        return (low + (np.tanh(outputs) + 1) / 2 * (high - low)).astype(np.float32)

    # -- learning -----------------------------------------------------------------------------------------------------

    def start(self, envs: Environments) -> None:
        """A wide distribution around nets of zeros."""
        size, columns = self._size(), self._widths[0]
        self.mean_, self.deviation_ = np.zeros(size), np.full(size, self.spread)
        self.centre_, self.scale_ = np.zeros(columns), np.ones(columns)
        self._observation: NDArray[Any] | None = None
        self._fresh, self._acted = np.ones(envs.num, np.bool_), 0

    def round(self, envs: Environments, number: int) -> dict[str, float]:
        """Draw candidates, play them, refit the distribution to the best."""
        if self._observation is None:
            self._observation = envs.reset()
        steps = self._measure(envs) if number == 0 else 0
        rng = np.random.Generator(np.random.PCG64(mix(self.seed_, 10, number)))
        nets = self.mean_ + self.deviation_ * rng.standard_normal((self.candidates, len(self.mean_)))
        scores, starts, played = self._play(envs, nets)
        self._acted += steps + played
        noise = faded(self.noise, self.noise_end, self.noise_fade, self._acted / self.steps)
        ranked = above_start(scores.ravel(), starts_of(envs.observation_space)(starts)) if self.relative else scores
        each = ranked.reshape(self.candidates, -1).mean(axis=1)
        best = select(each, self.elite)
        if best.any():
            self.mean_ = nets[best].mean(axis=0)
            # Of few elites the plain variance is too small by one part in their number, and rounds multiply that.
            self.deviation_ = np.sqrt(nets[best].var(axis=0, ddof=min(1, int(best.sum()) - 1)) + noise**2)
        return {
            "steps": steps + played,
            "score": float(scores.mean()),
            "elites": float(best.sum()),
            "threshold": float(scores.mean(axis=1)[best].min() if best.any() else scores.max()),
            "noise": noise,
            "spread": float(self.deviation_.mean()),
        }

    def _measure(self, envs: Environments) -> int:
        """Centre and scale of boxes, by some steps of actions drawn evenly; how many steps those were."""
        if not isinstance(envs.observation_space, spaces.Box):
            return 0
        rng = np.random.Generator(np.random.PCG64(mix(self.seed_, 11)))
        seen, count = [], -(-2_000 // envs.num)
        for _ in range(min(count, max(1, self.steps // (10 * envs.num)))):
            seen.append(features(envs.observation_space, self._observation))  # type: ignore[arg-type]
            step = envs.step(self._decide(rng.standard_normal((envs.num, self._widths[-1]))))
            self._observation, self._fresh = step.observation, step.terminated | step.truncated
        every = np.concatenate(seen)
        self.centre_ = every.mean(axis=0)
        self.scale_ = np.where(every.std(axis=0) > 1e-6, every.std(axis=0), 1.0)
        return len(seen) * envs.num

    def _play(self, envs: Environments, nets: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[Any], int]:
        """Scores (C, repeats) of nets (C, P), the first observations (E, ...) of those sessions, and environment steps.

        An environment that is through with a session takes the next one to be played; one that is amid an episode at the beginning
        ends it first. When none is left, environments go on for nothing until all are through.
        """
        n, wanted = envs.num, len(nets) * self.repeats
        observation: NDArray[Any] = self._observation  # type: ignore[assignment]
        fresh = self._fresh
        scores = np.zeros(wanted)
        starts = np.zeros((wanted, *observation.shape[1:]), observation.dtype)
        task = np.full(n, -1)  # which session is played where
        own = np.zeros((n, nets.shape[1]))
        discount, lengths = np.ones(n), np.zeros(n, np.int64)
        given = ended = steps = 0
        while ended < wanted:
            if fresh.any():
                for i in np.flatnonzero(fresh):
                    task[i], lengths[i], discount[i] = -1, 0, 1.0
                    if given < wanted:
                        task[i], own[i], starts[given] = given, nets[given // self.repeats], observation[i]
                        given += 1
            actions = self._decide(self._outputs(own, observation))
            step = envs.step(actions)
            steps, lengths = steps + 1, lengths + 1
            live = task >= 0
            np.add.at(scores, task[live], (discount * step.reward)[live])
            discount *= self.gamma
            fresh = step.terminated | step.truncated
            ended += int((fresh & live).sum())
            observation = step.observation
            if lengths.max() >= LONGEST:
                i = int(lengths.argmax())
                number = next_number(i, self.episodes_, envs.finished)
                seed = episode_seed(mix(self.seed_, 4) % 2**31, i, number)
                refuse_endless(Place(envs.name, i, number, seed, LONGEST, actions[i]))
        self._observation, self._fresh = observation, fresh
        return scores.reshape(len(nets), -1), starts, steps * n

    # -- state --------------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """The distribution, the scale of the observations, and where episodes begin."""
        return {"tensors": self.learned_tensors(), "acted": self._acted, "fresh": torch.from_numpy(self._fresh.copy())}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take back what `state` gave."""
        fresh = state["fresh"].numpy()
        if fresh.shape != self._fresh.shape:
            raise ValueError(f"{len(fresh)} environments")
        self._fresh, self._acted = fresh.copy(), int(state["acted"])
        self.take_learned({}, state["tensors"])

    # -- after fit ----------------------------------------------------------------------------------------------------

    def greedy(self, observations: NDArray[Any]) -> NDArray[Any]:
        """What the net of the means does."""
        return self._decide(self._outputs(self.mean_[None], observations))

    def exhibit(self, run: Run) -> None:
        """Scores and elites by rounds."""
        records = [r for r in run.history if "score" in r]
        steps = [r["env_steps"] for r in records]
        names = ("score", "threshold")
        run.keep("candidates and elites", "curve", {n: (steps, [r[n] for r in records]) for n in names})

    def learned_tensors(self) -> dict[str, Tensor]:
        """The distribution, and the scale of the observations."""
        arrays = {"mean": self.mean_, "deviation": self.deviation_, "centre": self.centre_, "scale": self.scale_}
        return {name: torch.from_numpy(array.copy()) for name, array in arrays.items()}

    def take_learned(self, values: dict[str, Any], tensors: Mapping[str, Tensor]) -> None:
        """Take back what `learned_tensors` gave."""
        size, columns = self._size(), self._widths[0]
        for name, wanted in (("mean", size), ("deviation", size), ("centre", columns), ("scale", columns)):
            array = tensors[name].numpy()
            if array.shape != (wanted,) or not np.isfinite(array).all():
                raise DataError(
                    f"{name} of shape {array.shape} does not fit a net of {size} numbers; the model is damaged"
                )
            setattr(self, f"{name}_", array.astype(np.float64))
