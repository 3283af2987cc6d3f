"""What agents share whose policy is a distribution that learns by gradient.

Course: row R5 (document M, 2.5).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, cast

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor

from konspekt.core.errors import ConfigError
from konspekt.core.params import AtLeast, Registered, Search
from konspekt.core.runs import Run
from konspekt.data.fields import Batch
from konspekt.rl.actor_critic import ActorCritic, PolicyObjective, Spread, example
from konspekt.rl.frame_stacks import FrameStack
from konspekt.rl.interaction import Interaction
from konspekt.rl.neural_agent import NeuralAgent
from konspekt.rl.policies import Categorical, distribution_of
from konspekt.rl.running_stats import RunningStats
from konspekt.rl.spaces import arrays_of, is_pixels
from konspekt.rl.thin import Seen
from konspekt.rl.vector import Environments

__all__ = ["PolicyAgent", "PolicyInteraction"]

MOST_ACTIONS = 20  # whose shares are recorded
MOST_STATES = 100_000  # whose values are kept for the report


@dataclass(kw_only=True, eq=False, repr=False)
class PolicyAgent(NeuralAgent):
    """The base of `Reinforce` and `A2C`.

    entropy: how much the entropy of the policy counts beside what it gets.
    value_coefficient: what the squared error of the value counts beside the policy's loss.
    shared: one body for policy and value, not one each.
    spread: the standard deviation of Gaussian actions: one for all states (common), or a function of the state (state).
    log_std: the logarithm of the standard deviation to begin with.
    orthogonal: weights begin orthogonal, and the policy nearly the same in all states (Stable-Baselines3's ortho_init); False:
        as torch's layers begin, which was better on Pendulum-v1.
    normalize_advantage: advantages of a batch minus their mean over their deviation.
    normalize_observations: numbers minus their running mean over their running deviation; both are saved with the net.
    stack: pictures that are seen together, the last ones.
    batch_size: None: what a round has seen is one batch, used once, as the policy that acted must be the one that learns.
    """

    entropy: Annotated[float, AtLeast(0), Search(1e-4, 1e-1, log=True)] = 0.0
    value_coefficient: Annotated[float, AtLeast(0)] = 0.5
    shared: bool = False
    spread: Spread = "common"
    log_std: float = 0.0
    orthogonal: bool = True
    normalize_advantage: bool = False
    normalize_observations: bool = False
    stack: Annotated[int, AtLeast(1)] = 1
    batch_size: Annotated[int | None, AtLeast(1)] = None
    activation: Annotated[str, Registered("activation")] = "tanh"
    steps: Annotated[int, AtLeast(1)] = 100_000

    actions: ClassVar[tuple[type, ...]] = (spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary, spaces.Box)

    def check_params(self) -> None:
        """Raise ConfigError where parameters are out of bounds or do not go together."""
        super().check_params()
        if self.batch_size is not None:
            raise ConfigError(
                f"{type(self).__name__}: batch_size={self.batch_size}: what a round has seen is one batch; leave it None, and set "
                "how long a round is"
            )

    @property
    def has_value(self) -> bool:
        """Whether a value is learned beside the policy."""
        return True

    @property
    def rescales(self) -> bool:
        """Whether the value's net works in units near 1 whatever the returns are."""
        return False

    def build(self, observations: gymnasium.Space[Any], actions: gymnasium.Space[Any]) -> PolicyObjective:
        """Nets and loss."""
        distribution = distribution_of(actions)
        net = self.own_net() or ActorCritic(
            observations,
            distribution,
            self.hidden,
            self.activation,
            shared=self.shared,
            value=self.has_value,
            rescale=self.rescales,
            standardise=self.normalize_observations,
            stack=self.stack,
            spread=self.spread,
            log_std=self.log_std,
            orthogonal=self.orthogonal,
        )
        return PolicyObjective(net, distribution, value_coefficient=self.value_coefficient, entropy=self.entropy)

    # -- acting -----------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def greedy(self, observations: NDArray[Any]) -> NDArray[Any]:
        """The most probable action. Pictures are taken for the first ones of an episode, unless they are stacked already."""
        space = arrays_of(self.observation_space_)
        if is_pixels(space) and observations.shape[1:] == space.shape:
            observations = FrameStack(space, len(observations), self.stack).push(observations)
        return self._mode(observations)

    def _mode(self, observations: NDArray[Any]) -> NDArray[Any]:
        objective = cast(PolicyObjective, self.objective_)
        outputs: Tensor = objective.model(self.tensor(observations))[0]
        chosen: NDArray[Any] = objective.distribution.mode(outputs).cpu().numpy()
        return chosen

    def player(self, num: int) -> Callable[[NDArray[Any], NDArray[np.bool_]], NDArray[Any]]:
        """What plays `num` environments, and remembers their last pictures."""
        space = arrays_of(self.observation_space_)
        if not is_pixels(space):
            return super().player(num)
        stack = FrameStack(space, num, self.stack)

        @torch.no_grad()
        def play(observations: NDArray[Any], fresh: NDArray[np.bool_]) -> NDArray[Any]:
            return self._mode(stack.push(observations, fresh))

        return play

    # -- the report -------------------------------------------------------------------------------------------------

    def exhibit(self, run: Run) -> None:
        """Shares of the actions against steps; v over states, where these can be counted."""
        records = [record for record in run.history if "share_0" in record]
        if records:
            steps = [record["env_steps"] for record in records]
            names = sorted((name for name in records[0] if name.startswith("share_")), key=lambda name: int(name[6:]))
            first = int(self.action_space_.start) if isinstance(self.action_space_, spaces.Discrete) else 0
            shares = {
                f"action {first + k}": (steps, [record[name] for record in records]) for k, name in enumerate(names)
            }
            run.keep("action-shares", "curve", shares)
        space = self.observation_space_
        if isinstance(space, spaces.Discrete) and self.has_value and space.n <= MOST_STATES:
            states = np.arange(space.n) + space.start
            with torch.no_grad():
                value = self.objective_.model(self.tensor(states))[1]
            values = value.cpu().double() * getattr(self, "reward_scale_", 1.0)
            run.keep("v", "curve", {"v": (states.tolist(), values.tolist())})


class PolicyInteraction(Interaction):
    """Acting by a policy that is a distribution, and what is recorded of it.

    Records besides: explained_variance, 1 - Var[target - V] / Var[target] over the epoch's steps (1 is a perfect value, 0 one
    that knows no more than a constant); share_0, share_1, ... of discrete actions.
    """

    def __init__(
        self,
        agent: PolicyAgent,
        objective: PolicyObjective,
        envs: Environments,
        device: torch.device,
        *,
        round_steps: int,
        seed: int,
    ) -> None:
        super().__init__(envs, steps=agent.steps, round_steps=round_steps, seed=seed, device=device)
        self.agent, self.model, self.distribution = agent, objective.model, objective.distribution
        self.seen = Seen(objective.model, device)
        space: Any = envs.observation_space
        self.stack = FrameStack(space, envs.num, agent.stack) if is_pixels(space) else None
        self.now: NDArray[Any] = np.zeros(0)  # what is acted on: `observation`, stacked if it is pixels
        self.scale: RunningStats | None = None
        if agent.normalize_observations and isinstance(objective.model, ActorCritic):
            self.scale = RunningStats(tuple(objective.model.encoder[1].mean.shape))  # type: ignore[index]
        self._unseen: NDArray[Any] | None = None  # observations that the scale has yet to take in
        counts = isinstance(self.distribution, Categorical) and self.distribution.units <= MOST_ACTIONS
        self.shares = np.zeros(self.distribution.units if counts else 0, np.int64)
        self.pairs: list[NDArray[Any]] = []  # (2, B): targets and values of the epoch

    def begin(self) -> None:
        """Look at the first observations."""
        self.now = self.observation if self.stack is None else self.stack.push(self.observation)
        self.seen.refresh()
        given, wanted = np.shape(self.seen.policy(self.now)), (self.envs.num, self.distribution.units)
        if given != wanted:
            raise ConfigError(
                f"{type(self.agent).__name__}: model must give a pair, {wanted[1]} numbers of the policy and a value for each "
                f"observation; for observations {self.now.shape} the first of the pair is {given}, and not {wanted}"
            )

    def ready(self) -> None:
        """Before a round acts: the weights of the moment, and scales that know the last round.

        They change between rounds only, so that the policy which acts is the one that learns.
        """
        if self.scale is not None and (self._unseen is not None or not self.scale.count):
            scale = self.scale
            if self._unseen is None:
                # The first round knows no more than its own first observations, and counts them later.
                scale = RunningStats(scale.mean.shape)
                scale.update(self.observation.reshape(len(self.observation), -1))
            else:
                scale.update(self._unseen.reshape(len(self._unseen), -1))
            layer: Any = self.model.encoder[1]  # type: ignore[index]
            layer.mean.copy_(torch.from_numpy(scale.mean))
            # What has been the same so far is left at its size: over a deviation of 0 its first change would count for all.
            layer.variance.copy_(torch.from_numpy(np.where(scale.variance > 0, scale.variance, 1.0)))
            layer.count.fill_(scale.count)
            self._unseen = None
        self.seen.refresh()

    def made(
        self,
        observation: NDArray[Any],
        action: NDArray[Any],
        advantage: NDArray[Any],
        target: NDArray[Any] | None,
        value: NDArray[Any] | None,
    ) -> Batch:
        """A batch out of arrays (B, ...), and the records of it."""
        if self.scale is not None:
            self._unseen = observation
        if len(self.shares):
            self.shares += np.bincount(action, minlength=len(self.shares))
        if self.agent.normalize_advantage and len(advantage) > 1:
            advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
        device = self.device
        batch: dict[str, Any] = {
            "index": torch.arange(len(action)),
            "observation": torch.from_numpy(observation).to(device),
            "action": torch.from_numpy(action).to(device),
            "advantage": torch.from_numpy(advantage.astype(np.float32, copy=False)).to(device),
        }
        if target is not None:
            if value is not None:
                self.pairs.append(np.stack([target, value]))
            batch["target"] = torch.from_numpy(target.astype(np.float32, copy=False)).to(device)
        return batch

    def sample(self) -> Batch:
        """The last batch, or, before there is one, zeros."""
        if self._last is not None:
            return self._last
        made = example(self.envs.observation_space, self.envs.action_space, self.envs.num, self.agent.stack)
        return {name: field.to(self.device) for name, field in made.items()}

    def measures(self) -> dict[str, float]:
        """Of the epoch; then the sums begin anew."""
        told: dict[str, float] = {}
        if self.pairs:
            target, value = np.concatenate(self.pairs, axis=1).astype(np.float64)
            spread = target.var()
            if spread > 0:
                told["explained_variance"] = float(1 - (target - value).var() / spread)
            self.pairs = []
        if self.shares.sum():
            told |= {f"share_{k}": float(share) for k, share in enumerate(self.shares / self.shares.sum())}
            self.shares[:] = 0
        return told

    def kept(self) -> dict[str, Any]:
        """Scales, frames and sums."""
        pairs = np.concatenate(self.pairs, axis=1) if self.pairs else np.zeros((2, 0))
        kept: dict[str, Any] = {
            "shares": torch.from_numpy(self.shares.copy()),
            "pairs": torch.from_numpy(pairs.astype(np.float64)),
        }
        if self.stack is not None:
            kept["frames"] = torch.from_numpy(self.stack.frames)
        if self.scale is not None:
            kept["scale"] = self.scale.state()
            kept["unseen"] = None if self._unseen is None else torch.from_numpy(np.ascontiguousarray(self._unseen))
        return kept

    def take_kept(self, state: Mapping[str, Any]) -> None:
        """Take back what `kept` gave."""
        shares, pairs = state["shares"].numpy().copy(), state["pairs"].numpy()
        if shares.shape != self.shares.shape or pairs.ndim != 2 or len(pairs) != 2:
            raise ValueError("the sums of the epoch are of another shape")
        self.shares, self.pairs = shares, [pairs] if pairs.shape[1] else []
        self.now = self.observation
        if self.stack is not None:
            frames = state["frames"].numpy().copy()
            if frames.shape != self.stack.frames.shape or frames.dtype != np.uint8:
                raise ValueError(f"the stacked frames are of shape {frames.shape}")
            self.now = self.stack.frames = frames
        if self.scale is not None:
            self.scale.load_state(state["scale"])
            self._unseen = None if state["unseen"] is None else state["unseen"].numpy().copy()
