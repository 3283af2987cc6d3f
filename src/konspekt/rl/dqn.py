"""Q-learning with a net, a replay and a target net.

Course: row R4 (document M, 2.4).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import gymnasium
import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from konspekt.core.errors import ConfigError, DataError
from konspekt.core.params import AtLeast, AtMost, MoreThan, Search, Within
from konspekt.core.registry import system
from konspekt.core.runs import Run
from konspekt.core.seeds import mix
from konspekt.rl.dqn_stream import Recall, Replaying
from konspekt.rl.exploration import Exploring
from konspekt.rl.interaction import Interaction
from konspekt.rl.neural_agent import ActingObjective, NeuralAgent
from konspekt.rl.q_nets import QNet, Twins
from konspekt.rl.q_objective import QObjective
from konspekt.rl.recording import say
from konspekt.rl.replay import Replay
from konspekt.rl.replay_memory import check_replay
from konspekt.rl.spaces import arrays_of, words
from konspekt.rl.vector import Environments

__all__ = ["DQN"]


@system(name="dqn", kind="agent", task="acting", rows=("R4",), paper="Mnih et al. 2015")
@dataclass(kw_only=True, eq=False, repr=False)
class DQN(Exploring, NeuralAgent):
    """Deep Q-network (Mnih et al. 2015, https://doi.org/10.1038/nature14236), for discrete actions.

    q(s, a) is a net; it descends on the squared (or Huber's) temporal difference r + gamma max q(s', .) - q(s, a), the target
    taken as a number. Old steps come again out of a replay, and the target is that of a net that follows behind. A truncated
    episode would have gone on, so its last value is counted; after a terminated one there is nothing. `hidden=()` makes q
    linear: the approximate Q-learning of the notes. The defaults are for problems of a few numbers; pictures want
    buffer_size=1_000_000, train_every=4, gradient_steps=1, target_every=10_000, lr=1e-4, stack=4.

    buffer_size: observations that the replay holds, over all environments; each is stored once, also where `stack` shows it several
        times. The memory is stated before it is taken.
    learning_starts: environment steps with actions at random before the first update.
    train_every: environment steps, over all environments, between updates; rounded up to whole steps of all of them.
    gradient_steps: batches that are learned from after them; None: half as many as `train_every`.
    target_every: environment steps, over all environments, after which the target net is brought up to date, at the end of a round
        of `train_every` of them.
    target_tau: how far: 1 copies the net, less is that share of the way to it.
    double: False: the target net chooses the next action and values it, which overestimates; True: the net chooses, the target net
        values (van Hasselt et al. 2016, https://arxiv.org/abs/1509.06461); "random": two nets, of which a coin says which learns
        from a transition; it chooses, the other values (van Hasselt 2010).
    loss: huber (linear beyond a difference of 1) or square.
    prioritised: draw transitions by their last temporal difference (Schaul et al. 2016, https://arxiv.org/abs/1511.05952).
    alpha: to what power; 0 is evenly.
    beta: how far weights undo it at the beginning; at the end of the training they do so whole.
    duelling: a head with the state's value and the actions' advantages (Wang et al. 2016, https://arxiv.org/abs/1511.06581).
    n_steps: rewards in a target before the value (Sutton 1988); what follows the first is not off-policy, and small is safe.
    stack: frames that make what the net sees: pictures as channels, numbers in a row. At an episode's begin those before the first
        are zeros. `predict` then takes stacks, (stack, ...) or (N, stack, ...), the newest frame last.

    Attributes after `fit` besides: foretold_ (K, 2), of at most 2,000 training episodes q of the first action beside the discounted
    return they had; shares_ (R, 1 + A), the environment steps of each record and how often each action was taken.
    """

    batch_size: Annotated[int, AtLeast(1), Search(choices=(32, 64, 128))] = 64
    clip_norm: Annotated[float | None, MoreThan(0)] = 10.0
    lr: Annotated[float, MoreThan(0), Search(1e-5, 1e-2, log=True)] = 1e-3
    buffer_size: Annotated[int, AtLeast(8)] = 100_000
    learning_starts: Annotated[int, AtLeast(1)] = 1_000
    train_every: Annotated[int, AtLeast(1), Search(choices=(1, 4, 16, 64, 256))] = 64
    gradient_steps: Annotated[int | None, AtLeast(1)] = None
    target_every: Annotated[int, AtLeast(1), Search(10, 10_000, log=True)] = 250
    target_tau: Annotated[float, MoreThan(0), AtMost(1)] = 1.0
    double: bool | Literal["random"] = False
    loss: Literal["huber", "square"] = "huber"
    prioritised: bool = False
    alpha: Annotated[float, Within(0, 1)] = 0.6
    beta: Annotated[float, Within(0, 1)] = 0.4
    duelling: bool = False
    n_steps: Annotated[int, Within(1, 100), Search(choices=(1, 3, 5))] = 1
    stack: Annotated[int, Within(1, 64)] = 1

    # -- learning ---------------------------------------------------------------------------------------------------

    def check_params(self) -> None:
        """Raise ConfigError where parameters are out of bounds or do not go together."""
        super().check_params()
        self.check_exploration()
        name, least = type(self).__name__, self.stack + self.n_steps + 2
        if (first := sum(self._rounded(self.n_envs))) > self.steps:
            raise ConfigError(
                f"{name}: steps={self.steps} are over before the first batch, which takes {first} environment steps "
                f"(learning_starts={self.learning_starts}, then train_every={self.train_every}); give more"
            )
        if self.buffer_size // self.n_envs < least:
            raise ConfigError(
                f"{name}: buffer_size={self.buffer_size} leaves {self.buffer_size // self.n_envs} observations for each of "
                f"{self.n_envs} environments, and stack={self.stack} with n_steps={self.n_steps} need {least}: give more"
            )

    def learn(
        self, envs: Environments, run: Run, past: dict[str, Any] | None, callbacks: Sequence[Callable[..., Any]]
    ) -> None:
        """Say what memory the replay will take, then act and minimise."""
        space: Any = arrays_of(self.observation_space_)
        more = 32 if self.prioritised else 0  # at most: the tree has a power of two of leaves
        said = check_replay(space.shape, space.dtype, self.buffer_size, more=more, owner=type(self).__name__)
        say(self, run, said)
        try:
            super().learn(envs, run, past, callbacks)
            stream = self._stream
            self.foretold_ = np.array(stream.shown).reshape(-1, 2)
            self.shares_ = np.array(stream.shares).reshape(-1, 1 + stream.actions)
        finally:
            self.__dict__.pop("_stream", None)  # the replay is not kept

    def build(self, observations: gymnasium.Space[Any], actions: gymnasium.Space[Any]) -> ActingObjective:
        """The net, or two of them, and what stands behind."""
        own = self.own_net()
        count = int(actions.n)  # type: ignore[attr-defined]

        def made() -> torch.nn.Module:
            if own is not None:
                return own
            return QNet(observations, count, self.hidden, self.activation, stack=self.stack, duelling=self.duelling)

        if self.double == "random" and own is not None:
            raise ConfigError(
                f"{type(self).__name__}: double='random' makes two nets, and model is one; give double=True"
            )
        model = Twins(made(), made()) if self.double == "random" else made()
        return QObjective(model, double=self.double, huber=self.loss == "huber", notes_errors=self.prioritised)

    def stream(self, objective: Any, envs: Environments, device: torch.device) -> Interaction:
        """What acts and gives batches out of the replay."""
        space: Any = envs.observation_space
        form: dict[str, Any] = {"num": envs.num, "stack": self.stack, "gamma": self.gamma, "n_steps": self.n_steps}
        replay: Replay
        if self.prioritised:
            from konspekt.rl.prioritised import PrioritisedReplay  # it compiles kernels

            replay = PrioritisedReplay(space.shape, space.dtype, self.buffer_size, alpha=self.alpha, **form)
        else:
            replay = Replay(space.shape, space.dtype, self.buffer_size, **form)
        starts, each = self._rounded(envs.num)
        self._stream = Replaying(
            objective,
            envs,
            replay,
            self,
            Recall(self.batch_size, starts, self.target_every, self.target_tau, self.beta),
            gradient_steps=self.gradient_steps or -(-each // 2),
            steps=self.steps,
            round_steps=each,
            warmup=starts,
            seed=mix(self.seed_, 7),
            device=device,
        )
        return self._stream

    def _rounded(self, num: int) -> tuple[int, int]:
        """Environment steps before the first round, and of a round: whole steps of `num` environments."""
        return -(-self.learning_starts // num) * num, -(-self.train_every // num) * num

    # -- acting -----------------------------------------------------------------------------------------------------

    def greedy(self, observations: NDArray[Any]) -> NDArray[Any]:
        """The action with the greatest q: (N, ...), or stacks (N, S, ...) -> (N,)."""
        return self.q(observations).argmax(1)

    @torch.no_grad()
    def q(self, observations: NDArray[Any]) -> NDArray[Any]:
        """The value of each action, (N, A), for observations (N, ...), or stacks (N, S, ...)."""
        check_is_fitted(self, "objective_")
        q: NDArray[Any] = self.model_(self.tensor(observations)).cpu().numpy()
        return q

    def predict(self, observation: Any) -> Any:
        """The greedy action for an observation, or for (N, ...) of them, (N,); with `stack`, for (S, ...) or (N, S, ...)."""
        if self.stack == 1:
            return super().predict(observation)
        check_is_fitted(self, "observation_space_")
        space: Any = arrays_of(self.observation_space_)
        array, shape = np.asarray(observation), (self.stack, *space.shape)
        many = array.ndim == len(shape) + 1
        if array.shape[many:] != shape or array.dtype.kind not in "biuf" or not np.isfinite(array).all():
            raise DataError(
                f"{type(self).__name__}: with stack={self.stack} an observation is the last {self.stack} frames, {shape}, or an array "
                f"(N, ...) of such, of finite numbers from {words(space)}; got {array.dtype} of shape {array.shape}"
            )
        actions = self._outward(self.greedy((array if many else array[None]).astype(space.dtype, copy=False)))
        return actions if many else actions[0]

    def player(self, num: int) -> Callable[[NDArray[Any], NDArray[np.bool_]], NDArray[Any]]:
        """What plays `num` environments; it stacks their frames."""
        if self.stack == 1:
            return super().player(num)
        space: Any = arrays_of(self.observation_space_)
        stacks = [np.zeros((num, self.stack, *space.shape), space.dtype)]

        def act(observations: NDArray[Any], fresh: NDArray[np.bool_]) -> NDArray[Any]:
            stacks[0] = np.concatenate([stacks[0][:, 1:], observations[:, None]], axis=1)
            stacks[0][fresh, :-1] = 0
            return self.greedy(stacks[0])

        return act

    def exhibit(self, run: Run) -> None:
        """q of the first action against the return that came, and how often each action was taken."""
        foretold, got = self.foretold_.T
        if len(got):
            words_ = {"xlabel": "q of the first action", "ylabel": "discounted return"}
            run.keep("q against returns", "scatter", {"x": foretold, "y": got, **words_})
        steps = self.shares_[:, 0]
        curves = {f"action {k}": (steps, share) for k, share in enumerate(self.shares_[:, 1:].T)}
        run.keep("action shares", "curve", curves)
