"""Advantage actor-critic: a policy that learns from how much better an action was than the state's value promised.

Course: row R5 (document M, 2.5).

Shape letters in this file: T steps of a round, N environments.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from konspekt.core.params import AtLeast, AtMost, MoreThan, Registered, Search
from konspekt.core.registry import system
from konspekt.core.seeds import mix
from konspekt.data.fields import Batch
from konspekt.rl.actor_critic import PolicyObjective
from konspekt.rl.interaction import Interaction
from konspekt.rl.neural_agent import ActingObjective
from konspekt.rl.policy_agent import PolicyAgent, PolicyInteraction
from konspekt.rl.returns import gae
from konspekt.rl.running_stats import RewardScale
from konspekt.rl.saved import number_from
from konspekt.rl.vector import Environments

__all__ = ["A2C", "Rollouts"]


@system(name="a2c", kind="agent", task="acting", rows=("R5",), paper="Mnih et al. 2016")
@dataclass(kw_only=True, eq=False, repr=False)
class A2C(PolicyAgent):
    """Advantage actor-critic, all environments in step: n_steps of each, then one step of gradient descent.

    Mnih et al. 2016, https://arxiv.org/abs/1602.01783, in the form without threads; the defaults are Stable-Baselines3's. An
    advantage is the return over the steps to the round's end, continued by a value, minus the state's value (`rl.returns.gae`).

    n_steps: steps of each environment in a round.
    gae_lambda: how far advantages look ahead: 1 to the end of the round, 0 one step (Schulman et al. 2016).
    normalize_rewards: rewards over the running deviation of the discounted return, cut at +-10.

    Attributes after `fit` besides: reward_scale_, that deviation (1 without normalize_rewards): values are in its units.
    """

    n_envs: Annotated[int, AtLeast(1)] = 8
    n_steps: Annotated[int, AtLeast(1), Search(choices=(5, 8, 16, 32))] = 5
    gae_lambda: Annotated[float, AtLeast(0), AtMost(1), Search(0.8, 1.0)] = 1.0
    normalize_rewards: bool = False
    optimizer: Annotated[str, Registered("optimizer")] = "rmsprop(rho=0.99, eps=1e-5)"
    lr: Annotated[float, MoreThan(0), Search(1e-5, 1e-2, log=True)] = 7e-4
    clip_norm: Annotated[float | None, MoreThan(0)] = 0.5

    def stream(self, objective: ActingObjective, envs: Environments, device: torch.device) -> Interaction:
        """Rounds of n_steps."""
        return Rollouts(self, cast(PolicyObjective, objective), envs, device)

    def take_from(self, stream: Interaction) -> None:
        """The scale of the rewards."""
        scale = cast(Rollouts, stream).reward_scale
        self.reward_scale_ = 1.0 if scale is None else float(np.sqrt(scale.stats.variance))

    def learned_values(self) -> dict[str, Any]:
        """Besides: the scale of the rewards, in whose units the values are."""
        return super().learned_values() | {"reward_scale": self.reward_scale_}

    def take_learned(self, values: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        """Take back what `learned_values` and `learned_tensors` gave."""
        self.reward_scale_ = number_from(values.get("reward_scale"), "values.reward_scale", 0.0)
        super().take_learned(values, tensors)


class Rollouts(PolicyInteraction):
    """Rounds of T steps of all environments, each of which is one batch."""

    whole_rounds: ClassVar[bool] = True

    def __init__(self, agent: A2C, objective: PolicyObjective, envs: Environments, device: torch.device) -> None:
        seed = mix(agent.seed_, 7)
        super().__init__(agent, objective, envs, device, round_steps=agent.n_steps * envs.num, seed=seed)
        self.n_steps, self.gamma, self.lam = agent.n_steps, agent.gamma, agent.gae_lambda
        self.reward_scale = RewardScale(envs.num, agent.gamma) if agent.normalize_rewards else None
        self._round: Batch | None = None

    def act(self) -> None:
        """T steps of each environment, with the same weights."""
        self.ready()
        envs, draw, policy = self.envs, self.distribution.draw, self.seen.policy
        length, num = self.n_steps, envs.num
        noise = self.distribution.noise(self.rng, (length, num))
        terminated, ended = np.zeros((length, num), np.bool_), np.zeros((length, num), np.bool_)
        reward = np.empty((length, num))
        cut: list[tuple[int, NDArray[np.int64]]] = []  # steps and environments that were truncated
        rows: list[NDArray[Any]] = []  # what is asked for its value: what was acted on, what comes next, what was cut
        finals: list[NDArray[Any]] = []
        actions = []
        now = self.now
        for t in range(length):
            rows.append(now)
            action = draw(policy(now), noise[t])
            actions.append(action)
            step = envs.step(action)
            over = None
            if step.final is not step.observation:
                terminated[t] = step.terminated
                over = ended[t] = step.terminated | step.truncated
                which = np.flatnonzero(over & ~step.terminated)
                if len(which):
                    cut.append((t, which))
                    final = step.final if self.stack is None else self.stack.after(step.final)
                    finals.append(final[which])
            reward[t] = step.reward if self.reward_scale is None else self.reward_scale(step.reward, ended[t])
            self.observation = step.observation
            now = self.observation if self.stack is None else self.stack.push(self.observation, over)
            self.stepped()
        self.now = now
        rows.append(now)
        everything = np.concatenate(rows + finals)
        values = self.seen.values(everything)
        own = (length + 1) * num
        value = values[:own].reshape(length + 1, num)
        next_value = value[1:]
        if cut:
            next_value, place = next_value.copy(), own
            for t, which in cut:
                next_value[t, which] = values[place : place + len(which)]
                place += len(which)
        advantage = gae(reward, value[:-1], next_value, terminated, ended, self.gamma, self.lam).ravel()
        before = values[: length * num]
        action = np.concatenate(actions)
        self._round = self.made(everything[: length * num], action, advantage, advantage + before, before)

    def batch(self) -> Batch | None:
        """The round."""
        made, self._round = self._round, None
        return made

    def kept(self) -> dict[str, Any]:
        """Besides: the scale of the rewards."""
        scale = {} if self.reward_scale is None else {"reward_scale": self.reward_scale.state()}
        return super().kept() | scale

    def take_kept(self, state: Mapping[str, Any]) -> None:
        """Take back what `kept` gave."""
        super().take_kept(state)
        if self.reward_scale is not None:
            self.reward_scale.load_state(state["reward_scale"])
