"""The base of agents that learn by gradient: an objective and a stream of batches that acts, for the one engine.

A subclass says what net and loss there are (`build`), how it acts and what a batch is (`stream`), and what is greedy.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Annotated, Any, ClassVar

import gymnasium
import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits
from torch import Tensor

from konspekt.core.errors import ConfigError, DataError, ResourceError
from konspekt.core.params import AtLeast, MoreThan, Registered, Search
from konspekt.core.runs import Run
from konspekt.core.seeds import mix
from konspekt.data.batches import Batches
from konspekt.data.fields import Batch, Collate
from konspekt.engine.loop import minimise
from konspekt.engine.objective import Objective
from konspekt.engine.processes import joined
from konspekt.engine.restoring import device_here, restored
from konspekt.engine.session import choose_device, surroundings
from konspekt.engine.training import Descent, Training
from konspekt.rl.agent import Agent
from konspekt.rl.evaluation import play_episodes, scores_of
from konspekt.rl.interaction import Interaction
from konspekt.rl.recording import failed, newest_step, refuse_too_many
from konspekt.rl.replay_memory import check_net
from konspekt.rl.spaces import arrays_of
from konspekt.rl.vector import Environments

__all__ = ["ActingObjective", "NeuralAgent"]

MOST_LAYERS = 200
_NEVER = 10**9  # epochs of patience that keep the best weights and never stop


class ActingObjective(Objective):
    """An objective of an agent. `forward` takes a batch's "observation"; `evaluate` plays."""

    higher_is_better = ("return", "return_min", "return_max", "discounted_return")

    def evaluate(self, batches: Batches) -> dict[str, float]:
        """The scores of greedy episodes."""
        if not isinstance(batches, _Contests):
            raise TypeError("an agent is measured by playing")
        return batches.scores()


@dataclass(kw_only=True, eq=False, repr=False)
class NeuralAgent(Agent, Descent):
    """The base of agents that learn by gradient through `engine.minimise`.

    steps: environment steps of the training, over all environments: at most so many where rounds are of one length, as a round that
        would not be whole is left out; the last round of whole episodes is finished.
    n_envs: environments that are stepped together.
    processes: processes that step them; 0: this one does.
    hidden: units of each hidden layer; pictures go through the convolutional net of Mnih et al. 2015 in their place.
    activation: the activation of the hidden layers.
    evaluate_episodes: greedy episodes that are played after each epoch of about 1,000 environment steps; the weights of the
        best are kept. 0: none.
    monitor: the measure of these episodes that `patience` and the plateau schedule watch.
    patience: stop after so many epochs without a better `monitor`; it needs evaluate_episodes.
    preprocess: "pixels" makes small grey pictures of an environment's large ones (rl.pixels); None: as they are.

    Attributes after `fit` besides: objective_, model_ (its net), n_iter_ (epochs run).
    """

    steps: Annotated[int, AtLeast(1)] = 50_000
    n_envs: Annotated[int, AtLeast(1)] = 1
    processes: Annotated[int, AtLeast(0)] = 0
    hidden: tuple[Annotated[int, AtLeast(1)], ...] = (64, 64)
    activation: Annotated[str, Registered("activation")] = "relu"
    evaluate_episodes: Annotated[int, AtLeast(0)] = 0
    lr: Annotated[float, MoreThan(0), Search(1e-5, 1e-2, log=True)] = 1e-3
    monitor: str = "return"
    compile: bool = False
    preprocess: str | None = None

    may_differ: ClassVar[tuple[str, ...]] = ("steps", "max_time", "processes", "run_dir", "verbose")

    # -- what a subclass says ---------------------------------------------------------------------------------------

    def build(self, observations: gymnasium.Space[Any], actions: gymnasium.Space[Any]) -> ActingObjective:
        """The objective for these spaces, as arrays. It is called at `fit` and at `load`, and draws from torch's generator."""
        raise NotImplementedError(f"{type(self).__name__}.build")

    def stream(self, objective: ActingObjective, envs: Environments, device: torch.device) -> Interaction:
        """What acts and gives batches."""
        raise NotImplementedError(f"{type(self).__name__}.stream")

    def take_from(self, stream: Interaction) -> None:
        """After the training: keep what of the acting belongs to the agent."""

    def own_net(self) -> torch.nn.Module | None:
        """A copy of the user's own net, if `model` is one: `build` takes it in the place of what it would make."""
        if self.model is not None and not isinstance(self.model, torch.nn.Module):
            raise ConfigError(f"{type(self).__name__}: model must be a torch.nn.Module or None, got {self.model!r}")
        return copy.deepcopy(self.model)

    # -- learning ---------------------------------------------------------------------------------------------------

    def check_params(self) -> None:
        """Raise ConfigError where parameters are out of bounds or do not go together."""
        super().check_params()
        refuse_too_many(self)
        if len(self.hidden) > MOST_LAYERS:
            raise ConfigError(
                f"{type(self).__name__}: hidden has {len(self.hidden):,} layers, which are more than {MOST_LAYERS}; give fewer"
            )
        if self.evaluate_episodes == 0:
            for name, given in (
                ("patience", self.patience is not None),
                ("schedule", self.schedule.startswith("plateau")),
            ):
                if given:
                    raise ConfigError(
                        f"{type(self).__name__}: {name}={getattr(self, name)!r} watches greedy episodes: give "
                        "evaluate_episodes=10, say"
                    )
        self.check_training(self.evaluate_episodes > 0)
        self.device_ = choose_device(self.device)

    def learn(
        self, envs: Environments, run: Run, past: dict[str, Any] | None, callbacks: Sequence[Callable[..., Any]]
    ) -> None:
        """Build, act and minimise."""
        device = self.device_
        with joined(device) as team:
            if team.size > 1:
                raise ConfigError("agents train in one process; give processes=N to step environments in several")
            with surroundings(device, mix(self.seed_, 1) % 2**63, past["machine"]["threads"] if past else None):
                spaces = arrays_of(self.observation_space_), self.action_space_
                check_net(self, *spaces)
                self.objective_ = objective = self._built(*spaces).to(device)
                stream = self.stream(objective, envs, device)
                if stream.whole_rounds and stream.total_steps < self.steps:
                    run.log(
                        f"steps={self.steps:,}: {stream.total_steps:,} are made, as a round has {stream.round_steps:,}"
                    )
                patience = self.patience or (_NEVER if self.evaluate_episodes else None)
                common = {f.name: getattr(self, f.name) for f in fields(Descent)} | {"patience": patience}
                training = Training(**common, epochs=stream.epochs)
                contests = _Contests(self, envs, stream) if self.evaluate_episodes else None
                with threadpool_limits(1, "blas"):  # NumPy's products of a few rows: its threads would wait by spinning
                    try:
                        minimise(objective, stream, training, run=run, validation=contests, callbacks=callbacks)
                    except Exception as error:
                        acting = stream.failed is error
                        told = failed(self, run, error, acting, newest_step(run) if acting else None)
                        if told is error:
                            raise
                        raise told from error
                objective.eval()
                self.episodes_ = stream.episodes
                self.take_from(stream)
                for said in getattr(stream, "notes", ()):
                    run.log(said, warning=True)
        self.n_iter_ = len(run.history)

    def _built(self, observations: gymnasium.Space[Any], actions: gymnasium.Space[Any]) -> ActingObjective:
        try:
            return self.build(observations, actions)
        except RuntimeError as error:
            if "allocate" not in str(error):
                raise
            text = " ".join(str(error).split())
            raise ResourceError(
                f"{type(self).__name__}: there is no memory for the net (hidden={self.hidden!r}): {text[:200]}; give fewer units"
            ) from error

    @property
    def model_(self) -> torch.nn.Module:
        """The net."""
        return self.objective_.model

    def tensor(self, observations: NDArray[Any]) -> Tensor:
        """Observations (N, ...) on the net's device."""
        where = next(self.objective_.parameters()).device
        return torch.from_numpy(np.ascontiguousarray(observations)).to(where)

    # -- saving -----------------------------------------------------------------------------------------------------

    def learned_tensors(self) -> dict[str, Tensor]:
        """The objective's weights."""
        return dict(self.objective_.state_dict())

    def take_learned(self, values: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        """Take back what `learned_tensors` gave."""
        if len(self.hidden) > MOST_LAYERS:  # each takes time, also where it takes no memory
            raise DataError(
                f"hidden has {len(self.hidden):,} layers, which are more than {MOST_LAYERS}; config.json is damaged"
            )
        spaces = arrays_of(self.observation_space_), self.action_space_
        objective = restored(lambda: self.build(*spaces), tensors)
        self.device, self.device_ = device_here(self.device)
        self.objective_ = objective.to(self.device_).eval()  # type: ignore[assignment]


class _Contests:
    """What the engine evaluates after each epoch: greedy episodes in environments of their own."""

    def __init__(self, agent: NeuralAgent, envs: Environments, stream: Interaction) -> None:
        self.agent, self.stream = agent, stream
        self.env = agent._given
        if isinstance(self.env, gymnasium.Env):
            raise ConfigError(
                f"{type(agent).__name__}: evaluate_episodes={agent.evaluate_episodes} plays in environments beside that of the "
                "training, and an instance is only one: give an id, or a function that makes one"
            )
        self.num_items = self.num_batches = agent.evaluate_episodes

    def scores(self) -> dict[str, float]:
        """Of the weights of the moment."""
        agent = self.agent
        mode = agent.objective_.training
        agent.objective_.eval()
        played = play_episodes(agent, self.env, agent.evaluate_episodes, mix(agent.seed_, 6))
        agent.objective_.train(mode)
        return scores_of(played, agent.gamma)

    def collate_as(self, how: Mapping[str, Collate]) -> None:
        """Nothing here is ragged."""

    def sample(self) -> Batch:
        """A batch for a look."""
        return self.stream.sample()

    def epoch(self, epoch: int) -> Iterator[Batch]:
        """Nothing: it is played."""
        return iter(())

    def share(self, rank: int, size: int) -> None:
        """Nothing to share."""

    def facts(self) -> dict[str, float]:
        """Nothing."""
        return {}

    def state(self) -> dict[str, Any]:
        """Nothing: all episodes are begun anew."""
        return {}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Nothing."""
