"""REINFORCE: a policy that learns from the returns of whole episodes.

Course: row R5 (document M, 2.5).

Shape letters in this file: T steps of a round, N environments, B steps of a batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray

from konspekt.core.params import AtLeast, MoreThan, Search
from konspekt.core.registry import system
from konspekt.core.seeds import mix
from konspekt.data.fields import Batch
from konspekt.rl.actor_critic import PolicyObjective
from konspekt.rl.checking import LONGEST, Place, refuse_endless
from konspekt.rl.episodes import next_number
from konspekt.rl.interaction import Interaction
from konspekt.rl.neural_agent import ActingObjective
from konspekt.rl.policy_agent import PolicyAgent, PolicyInteraction
from konspekt.rl.returns import discounted
from konspekt.rl.seeding import episode_seed
from konspekt.rl.vector import Environments

__all__ = ["Reinforce", "WholeEpisodes"]

BLOCK = 256  # steps whose noise is drawn at once
FOLLOWS = 0.2  # how much of the units of the value each round renews


@system(name="reinforce", kind="agent", task="acting", rows=("R5",), paper="Williams 1992")
@dataclass(kw_only=True, eq=False, repr=False)
class Reinforce(PolicyAgent):
    """REINFORCE (Williams 1992, https://doi.org/10.1007/BF00992696): grad log pi(a given s) times the return, minus a baseline.

    A round plays whole episodes with the same weights: they begin until `train_every` steps are made, and all that began are played
    to their end, so that long ones count like short ones. With several environments, what those play that wait for the longest
    episode to end is not learned from, as its rest will be played with other weights; records say how many steps that were
    (`unused_steps`). With one environment there are none.

    The return is that of the episode as it was played, its time limit included; with baseline="value" a truncated episode goes on
    with the value of where it came to. The factor gamma^t before the gradient of step t is left out, as usual.

    baseline: what is taken from the return. none; mean: the mean return over the steps of the round's other episodes, as the
        own one would bias the gradient (of a single episode: of the round before); value: a learned v(s).
    train_every: environment steps of a round, at least.
    """

    baseline: Literal["none", "mean", "value"] = "value"
    train_every: Annotated[int, AtLeast(1), Search(choices=(500, 1000, 2000, 5000))] = 1_000
    lr: Annotated[float, MoreThan(0), Search(1e-4, 1e-1, log=True)] = 5e-3

    whole_episodes: ClassVar[bool] = True

    @property
    def has_value(self) -> bool:
        """Whether a value is learned beside the policy."""
        return self.baseline == "value"

    @property
    def rescales(self) -> bool:
        """A round is one step of descent, too few for a value to grow by itself to the size of the returns."""
        return True

    def stream(self, objective: ActingObjective, envs: Environments, device: torch.device) -> Interaction:
        """Rounds of whole episodes."""
        return WholeEpisodes(self, cast(PolicyObjective, objective), envs, device)


class WholeEpisodes(PolicyInteraction):
    """Rounds of whole episodes, each of which is one batch."""

    def __init__(self, agent: Reinforce, objective: PolicyObjective, envs: Environments, device: torch.device) -> None:
        super().__init__(agent, objective, envs, device, round_steps=agent.train_every, seed=mix(agent.seed_, 7))
        self.rounds_per_epoch = min(
            2 * self.rounds_per_epoch, self.rounds
        )  # a long round should not be more than an epoch
        self.gamma, self.baseline = agent.gamma, agent.baseline
        self.env_seed = mix(agent.seed_, 4) % 2**31  # of the environments, for messages
        self.ages = np.zeros(envs.num, np.int64)  # steps of the episodes under way
        self.unused = 0  # steps of the epoch that are in no batch
        self.mean = 0.0  # return over the steps of the round before
        self._round: Batch | None = None

    def over(self, epoch: int) -> bool:
        """Whether the epoch's steps are made: rounds differ in length."""
        return self.acted >= min((epoch + 1) * self.rounds_per_epoch, self.rounds) * self.round_steps

    @property
    def progress(self) -> float:
        """The share of the training that is over, from 0 to 1."""
        return min(1.0, self.acted / (self.rounds * self.round_steps))

    def act(self) -> None:
        """Whole episodes, with the same weights."""
        self.ready()
        envs, num = self.envs, self.envs.num
        rows: list[NDArray[Any]] = []
        actions: list[NDArray[Any]] = []
        rewards: list[NDArray[np.float64]] = []
        whole: list[
            tuple[int, int, int]
        ] = []  # environment, first step and the step after the last, of episodes that count
        finals: list[NDArray[Any]] = []
        cut: list[int] = []  # which of the whole ones were truncated
        first = np.zeros(num, np.int64)  # step of the round at which the episode under way began
        counts = self.ages == 0  # episodes that were begun with other weights do not
        waiting = int(counts.sum())
        now = self.now
        while waiting or len(rows) * num < self.round_steps or not whole:
            t = len(rows)
            if t % BLOCK == 0:
                self._check_ends()
                noise = self.distribution.noise(self.rng, (BLOCK, num))
            rows.append(now)
            action = self.distribution.draw(self.seen.policy(now), noise[t % BLOCK])
            step = envs.step(action)
            actions.append(action)
            rewards.append(step.reward)
            self.ages += 1
            over = None
            if step.final is not step.observation:
                over = step.terminated | step.truncated
                final = step.final if self.stack is None else self.stack.after(step.final)
                for i in np.flatnonzero(over):
                    if counts[i]:
                        if not step.terminated[i]:
                            cut.append(len(whole))
                            finals.append(final[i])
                        whole.append((int(i), int(first[i]), t + 1))
                    first[i], self.ages[i] = t + 1, 0
                    waiting -= int(counts[i])
                    counts[i] = (t + 1) * num < self.round_steps or not whole
                    waiting += int(counts[i])
            self.observation = step.observation
            now = self.observation if self.stack is None else self.stack.push(self.observation, over)
            self.stepped()
        self.now = now
        self._round = self._batch(rows, actions, np.stack(rewards), whole, cut, finals)

    def _check_ends(self) -> None:
        """Raise DataError where an episode does not end."""
        if self.ages.max() >= LONGEST:
            i = int(self.ages.argmax())
            number = next_number(i, self.episodes, self.envs.finished)
            refuse_endless(Place(self.envs.name, i, number, episode_seed(self.env_seed, i, number), int(self.ages[i])))

    def _batch(
        self,
        rows: list[NDArray[Any]],
        actions: list[NDArray[Any]],
        reward: NDArray[np.float64],
        whole: list[tuple[int, int, int]],
        cut: list[int],
        finals: list[NDArray[Any]],
    ) -> Batch:
        """The steps of the episodes that count, one episode after another."""
        step = np.concatenate([np.arange(begin, end) for _, begin, end in whole])
        env = np.concatenate([np.full(end - begin, i) for i, begin, end in whole])
        observation, action = np.stack(rows)[step, env], np.stack(actions)[step, env]
        self.unused += reward.size - len(step)
        last = np.zeros(len(whole))
        value = None
        if self.baseline == "value":
            values = self.seen.values(np.concatenate([observation, np.stack(finals)]) if cut else observation)
            value, last[cut] = values[: len(step)], values[len(step) :]
        returns = [discounted(reward[b:e, i], self.gamma, v) for (i, b, e), v in zip(whole, last, strict=True)]
        target = np.concatenate(returns)
        if value is not None:
            self._rescale(target)
            return self.made(observation, action, target - value, target, value)
        return self.made(observation, action, target - self._mean(returns, target), None, None)

    def _rescale(self, target: NDArray[np.float64]) -> None:
        """Follow the returns with the units of the value; the advantages have been taken, which must not know them."""
        layer: Any = getattr(self.model, "rescaled", None)
        if layer is not None:
            mean = float(target.mean())
            new = mean, max(float(target.std()), 0.01 * abs(mean), 1e-3)
            share = 1.0 if self.round == 0 else FOLLOWS
            for buffer, value in zip((layer.mean, layer.deviation), new, strict=True):
                buffer.fill_((1 - share) * float(buffer) + share * value)

    def _mean(self, returns: list[NDArray[np.float64]], target: NDArray[np.float64]) -> Any:
        """The baseline of each step, (B,), where it is no learned value."""
        if self.baseline == "none":
            return 0.0
        before, self.mean = self.mean, float(target.mean())
        if len(returns) == 1:
            return before
        total, count = target.sum(), len(target)
        return np.concatenate([np.full(len(own), (total - own.sum()) / (count - len(own))) for own in returns])

    def batch(self) -> Batch | None:
        """The round."""
        made, self._round = self._round, None
        return made

    def measures(self) -> dict[str, float]:
        """Besides: steps that are in no batch."""
        unused, self.unused = self.unused, 0
        return super().measures() | ({"unused_steps": float(unused)} if self.envs.num > 1 else {})

    def kept(self) -> dict[str, Any]:
        """Besides: how far the episodes are, and the mean return."""
        ages = torch.from_numpy(self.ages.copy())
        return super().kept() | {"ages": ages, "unused": self.unused, "mean": self.mean}

    def take_kept(self, state: Mapping[str, Any]) -> None:
        """Take back what `kept` gave."""
        super().take_kept(state)
        ages = state["ages"].numpy().copy()
        if ages.shape != self.ages.shape:
            raise ValueError("the lengths of the episodes are of another shape")
        self.ages, self.unused, self.mean = ages, int(state["unused"]), float(state["mean"])
