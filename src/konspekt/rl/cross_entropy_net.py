"""The cross-entropy method with a net, which the engine trains. Course: row R2 (document M, section 2.2)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, cast

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray

from konspekt.core.errors import ConfigError
from konspekt.core.params import AtLeast, AtMost, MoreThan, Registered, Search
from konspekt.core.registry import system
from konspekt.core.runs import Run
from konspekt.core.seeds import mix
from konspekt.data.fields import Batch
from konspekt.rl.actor_critic import ActorCritic, PolicyObjective, example
from konspekt.rl.elite_models import starts_of
from konspekt.rl.elites import Carried, faded, joined, play_sessions
from konspekt.rl.interaction import Interaction
from konspekt.rl.neural_agent import ActingObjective, NeuralAgent
from konspekt.rl.policies import Gaussian, distribution_of
from konspekt.rl.spaces import is_pixels, words
from konspekt.rl.thin import Seen
from konspekt.rl.vector import Environments

__all__ = ["CrossEntropyNet"]


@system(
    name="cross-entropy-net", kind="agent", task="acting", rows=("R2",), paper="Rubinstein 1999; Szita and Lorincz 2006"
)
@dataclass(kw_only=True, eq=False, repr=False)
class CrossEntropyNet(NeuralAgent):
    """The cross-entropy method with a net: a round plays whole sessions, takes the best, and trains the net to act as they did.

    The loss is the cross-entropy of the elites' actions; of continuous ones the negative logarithm of a Gaussian's density, whose mean is
    the net's and whose deviation, one for all states, is learned beside it. Sessions are ranked by the discounted return. An epoch is a
    round; the first that ends beyond `steps` is the last.

    sessions: whole episodes of a round, over all environments.
    elite: the share of the sessions that is learned from; those as good as the last of them too. Where all are equal, all are.
    relative: rank by what a session got above what its start foretells, where that is much (a regression on first observations).
    carry: rounds whose elites compete with new sessions. Where the environment draws, lucky ones stay so long.
    batches: mini-batches of elite pairs that follow a round.
    noise: what is added to the deviation of continuous actions at first, in halves of their range. noise_end: at last.
    noise_fade: the share of `steps` over which it goes from the one to the other.
    """

    sessions: Annotated[int, AtLeast(2), Search(choices=(50, 100, 200))] = 50
    elite: Annotated[float, MoreThan(0), AtMost(1), Search(0.1, 0.5)] = 0.3
    relative: bool = True
    carry: Annotated[int, AtLeast(0)] = 0
    batches: Annotated[int, AtLeast(1)] = 50
    noise: Annotated[float, AtLeast(0)] = 0.5
    noise_end: Annotated[float, AtLeast(0)] = 0.0
    noise_fade: Annotated[float, MoreThan(0), AtMost(1)] = 0.5
    batch_size: Annotated[int | None, AtLeast(1), Search(choices=(32, 64, 128, 256))] = 128
    lr: Annotated[float, MoreThan(0), Search(1e-4, 1e-1, log=True)] = 5e-3
    activation: Annotated[str, Registered("activation")] = "tanh"

    whole_episodes: ClassVar[bool] = True
    actions: ClassVar[tuple[type, ...]] = (spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary, spaces.Box)
    may_differ: ClassVar[tuple[str, ...]] = ("max_time", "processes", "run_dir", "verbose")

    def check_params(self) -> None:
        """Raise ConfigError where parameters are out of bounds or do not go together."""
        super().check_params()
        if self.steps < self.sessions:
            raise ConfigError(
                f"{type(self).__name__}: steps={self.steps} are over before sessions={self.sessions} have ended; give more"
            )

    def build(self, observations: gymnasium.Space[Any], actions: gymnasium.Space[Any]) -> PolicyObjective:
        """The net, with the loss of a policy gradient whose advantages are all 1: the cross-entropy."""
        if is_pixels(observations):
            raise ConfigError(
                f"{type(self).__name__}: observations of {words(observations)} are pictures: take dqn, reinforce or a2c"
            )
        if isinstance(actions, spaces.Box) and not (np.isfinite(actions.low).all() and np.isfinite(actions.high).all()):
            raise ConfigError(
                f"{type(self).__name__}: actions of {words(actions)} have no bounds, and noise needs some; wrap the environment in "
                "gymnasium.wrappers.TransformAction"
            )
        distribution = distribution_of(actions)
        net = self.own_net() or ActorCritic(observations, distribution, self.hidden, self.activation, value=False)
        return PolicyObjective(net, distribution)

    def stream(self, objective: ActingObjective, envs: Environments, device: torch.device) -> Interaction:
        """Rounds of sessions, and batches of their elites."""
        self._stream = EliteSessions(self, cast(PolicyObjective, objective), envs, device)
        return self._stream

    def learn(
        self, envs: Environments, run: Run, past: dict[str, Any] | None, callbacks: Sequence[Callable[..., Any]]
    ) -> None:
        """Rounds, until the steps are made."""

        def made(moment: Any) -> bool:
            return moment.event == "epoch" and self._stream.acted >= self.steps

        try:
            super().learn(envs, run, past, [*callbacks, made])
        finally:
            self.__dict__.pop("_stream", None)

    @torch.no_grad()
    def greedy(self, observations: NDArray[Any]) -> NDArray[Any]:
        """The most probable action."""
        objective = cast(PolicyObjective, self.objective_)
        outputs = objective.model(self.tensor(observations))[0]
        chosen: NDArray[Any] = objective.distribution.mode(outputs).cpu().numpy()
        return chosen


class EliteSessions(Interaction):
    """Rounds of whole sessions; batches are drawn evenly from the pairs of the elites."""

    def __init__(
        self, agent: CrossEntropyNet, objective: PolicyObjective, envs: Environments, device: torch.device
    ) -> None:
        super().__init__(
            envs,
            steps=agent.steps,
            round_steps=agent.sessions,
            per_round=agent.batches,
            seed=mix(agent.seed_, 7),
            device=device,
        )
        self.rounds_per_epoch = 1
        self.agent, self.objective = agent, objective
        self.distribution, self.seen = objective.distribution, Seen(objective.model, device)
        self.carried = Carried(agent.carry, starts_of(envs.observation_space) if agent.relative else None)
        self.fresh = np.ones(envs.num, np.bool_)
        self.pairs: tuple[NDArray[Any], NDArray[Any]] | None = None
        self.told: dict[str, float] = {}

    @property
    def progress(self) -> float:
        """The share of the training that is over, from 0 to 1."""
        return min(1.0, self.acted / self.agent.steps)

    def act(self) -> None:
        """Whole sessions, with the same weights."""
        agent, distribution = self.agent, self.distribution
        self.seen.refresh()
        widths, noise = None, 0.0
        low = high = np.zeros(0, np.float32)
        if isinstance(distribution, Gaussian):
            space: Any = self.envs.action_space
            noise = faded(agent.noise, agent.noise_end, agent.noise_fade, self.progress)
            low, high = (np.ravel(bound).astype(np.float32) for bound in (space.low, space.high))
            widths = (noise * (high - low) / 2).astype(np.float32)

        def choose(observations: NDArray[Any]) -> NDArray[Any]:
            outputs = self.seen.policy(observations)
            if widths is not None and noise > 0:
                size = len(widths)
                spread = np.sqrt(np.exp(2 * outputs[:, size:]) + widths**2)
                outputs = np.concatenate([outputs[:, :size], np.log(spread)], axis=1)
            drawn = distribution.draw(outputs, distribution.noise(self.rng, (len(outputs),)))
            return drawn if widths is None else np.clip(drawn, low, high)

        played, self.observation, self.fresh, steps = play_sessions(
            self.envs,
            self.observation,
            self.fresh,
            agent.sessions,
            agent.gamma,
            choose,
            mix(agent.seed_, 4) % 2**31,
            self.episodes,
        )
        self.acted += steps * self.envs.num - self.envs.num
        self.stepped()
        chosen = self.carried.choose(played, agent.elite) or played
        self.pairs = joined(chosen)
        scores = [one.score for one in played]
        self.told = {
            "score": float(np.mean(scores)),
            "elites": float(len(chosen)),
            "threshold": float(min(one.score for one in chosen)),
        } | ({} if widths is None else {"noise": noise})

    def batch(self) -> Batch | None:
        """Pairs of the elites."""
        if self.pairs is None:
            return None
        observations, actions = self.pairs
        index = self.rng.integers(len(actions), size=self.agent.batch_size or len(actions))
        return {
            "index": torch.from_numpy(index),
            "observation": torch.from_numpy(observations[index]).to(self.device),
            "action": torch.from_numpy(actions[index]).to(self.device),
            "advantage": torch.ones(len(index), device=self.device),
        }

    def sample(self) -> Batch:
        """The last batch, or, before there is one, one of zeros."""
        if self._last is not None:
            return self._last
        made = example(self.envs.observation_space, self.envs.action_space, self.envs.num)
        return {name: value.to(self.device) for name, value in made.items()}  # type: ignore[union-attr, misc]

    def measures(self) -> dict[str, float]:
        """The mean score, how many elites there are, the least of their scores, the noise."""
        return self.told

    def kept(self) -> dict[str, Any]:
        """The elites, those that are carried, and where episodes begin."""
        pairs = None if self.pairs is None else [torch.from_numpy(array) for array in self.pairs]
        return {
            "pairs": pairs,
            "carried": self.carried.state(),
            "fresh": torch.from_numpy(self.fresh.copy()),
            "told": self.told,
        }

    def take_kept(self, state: Mapping[str, Any]) -> None:
        """Take back what `kept` gave."""
        self.carried.load_state(state["carried"])
        fresh = state["fresh"].numpy().copy()
        if fresh.shape != self.fresh.shape:
            raise ValueError(f"{len(fresh)} environments")
        self.fresh, self.told = fresh, {str(k): float(v) for k, v in state["told"].items()}
        self.pairs = None
        if state["pairs"] is not None:
            observations, actions = (part.numpy() for part in state["pairs"])
            space: Any = self.envs.observation_space
            if observations.shape[1:] != (space.shape or ()) or len(observations) != len(actions) or not len(actions):
                raise ValueError(f"elites of {observations.shape} and {actions.shape}")
            self.pairs = observations, actions
