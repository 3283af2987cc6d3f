"""What all agents share: the environment, the run folder, saving, greedy prediction, evaluation.

A subclass learns in `learn(environments, run, past, callbacks)` and says in `greedy(observations)` what it does. Agents that
learn by gradient derive from `NeuralAgent`, those that learn in rounds without one from `RoundAgent`.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from konspekt.core.errors import ConfigError, DataError
from konspekt.core.estimator import Estimator
from konspekt.core.params import AtLeast, AtMost, Search
from konspekt.core.runs import Run
from konspekt.core.seeds import mix
from konspekt.engine import record
from konspekt.engine.session import caller_untouched
from konspekt.rl import recording, saved
from konspekt.rl.episodes import Episode, Episodes
from konspekt.rl.evaluation import play_episodes, scores_of
from konspekt.rl.spaces import arrays_of, same_space, space_to_json, to_array, words
from konspekt.rl.vector import Environments, environments

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Agent"]

SEEDS = 2**31


@dataclass(kw_only=True, eq=False, repr=False)
class Agent(Estimator):
    """The base of every agent.

    env: the id of an environment of gymnasium's API ("CartPole-v1"), an environment, or a function that makes one.

    gamma: the discount: what a reward is worth one step later. 1 only where episodes end.
    max_episode_steps: truncate episodes after so many steps; None: as the environment has it.
    random_state: the seed; None: a new one each time.
    run_dir: the folder to write the run into; None: nothing is written.
    verbose: show progress.

    Attributes after `fit`: observation_space_, action_space_; episodes_, the finished episodes of the training; history_;
    run_, seed_.
    """

    gamma: Annotated[float, AtLeast(0), AtMost(1), Search(0.9, 0.999)] = 0.99
    max_episode_steps: Annotated[int | None, AtLeast(1)] = None
    random_state: int | None = 0
    run_dir: str | None = None
    verbose: bool = False

    observations: ClassVar[tuple[type, ...]] = (spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)
    actions: ClassVar[tuple[type, ...]] = (spaces.Discrete,)  # kinds of spaces that the agent can take
    unit: ClassVar[str] = "episodes"
    whole_episodes: ClassVar[bool] = False  # whether it learns from episodes that have ended only
    may_differ: ClassVar[tuple[str, ...]] = ("run_dir", "verbose")  # parameters that a resumed run may change

    # -- what a subclass says ---------------------------------------------------------------------------------------

    def learn(
        self,
        envs: Environments,
        run: Run,
        past: dict[str, Any] | None,
        callbacks: Sequence[Callable[..., Any]],
    ) -> None:
        """Learn by acting in `envs`, which stand before their first reset. past: config.yaml of a run that is gone on with."""
        raise NotImplementedError(f"{type(self).__name__}.learn")

    def greedy(self, observations: NDArray[Any]) -> NDArray[Any]:
        """The action for each of the observations, (N, ...) as `arrays_of` the space has them.

        Discrete: (N,) int64 counted from 0; MultiDiscrete (N, k) int64; Box (N, d) float32.
        """
        raise NotImplementedError(f"{type(self).__name__}.greedy")

    def player(self, num: int) -> Callable[[NDArray[Any], NDArray[np.bool_]], NDArray[Any]]:
        """What plays `num` environments: (observations, which of them begin an episode) -> actions.

        An override may remember what came before, as stacked frames do.
        """
        return lambda observations, fresh: self.greedy(observations)

    def exhibit(self, run: Run) -> None:
        """What the report should show of this agent besides: calls of `run.keep`."""

    @property
    def num_envs(self) -> int:
        """How many environments are stepped together."""
        return int(getattr(self, "n_envs", 1))

    def make_environments(self, env: Any, num: int, seed: int) -> Environments:
        """The environments of the fit, or of an evaluation."""
        return environments(
            env,
            num,
            seed=seed,
            processes=getattr(self, "processes", 0),
            max_episode_steps=self.max_episode_steps,
            preprocess=getattr(self, "preprocess", None),
        )

    # -- fit --------------------------------------------------------------------------------------------------------

    def fit(
        self,
        env: Any,
        y: Any = None,
        *,
        validation: Any = None,
        resume: str | Path | None = None,
        callbacks: Sequence[Callable[..., Any]] = (),
    ) -> Self:
        """Learn to act in an environment.

        resume: the run folder of an interrupted fit, to be continued with the same environment and parameters.
        callbacks: called with an engine.loop.Moment after each step and epoch; returning True stops the fit.

        Raises ConfigError on a parameter, and on y and validation, which acting has no use for; DataError on the environment,
        also where its spaces are none that this agent can take.
        """
        where = type(self).__name__
        self.check_params()
        for name, given in (("y", y), ("validation", validation)):
            if given is not None:
                raise ConfigError(f"{where}: {name} is not for acting, where rewards are the targets; leave it out")
        if resume is not None and not isinstance(resume, (str, Path)):
            raise ConfigError(f"{where}: resume must be the run folder to go on with, got {resume!r}")
        if not isinstance(callbacks, Sequence) or not all(callable(c) for c in callbacks):
            raise ConfigError(f"{where}: callbacks must be a list of functions that take a Moment, got {callbacks!r}")
        before = dict(vars(self))
        try:
            self._fit(env, resume, callbacks)
        except BaseException:
            self.__dict__.clear()  # what an earlier fit learned still acts, and nothing half learned does
            self.__dict__.update(before)
            raise
        return self

    def _fit(self, env: Any, resume: str | Path | None, callbacks: Sequence[Callable[..., Any]]) -> None:
        past = record.open_past(self, resume, self.may_differ)
        drawn = secrets.randbits(31) if self.random_state is None else self.random_state
        self.seed_ = past["seed"] if past else int(drawn)
        run = Run(str(resume or self.run_dir) if resume or self.run_dir else None, resume=resume is not None)
        with caller_untouched():
            try:
                envs = self.make_environments(env, self.num_envs, mix(self.seed_, 4) % SEEDS)
                try:
                    self.take_spaces(envs)
                    self.env_, self._loaded = env if isinstance(env, str) else None, False
                    self._given = env  # until the fit is over
                    self.facts_ = {
                        "source": recording.name_of(env),
                        "train": 0,
                        "validation": 0,
                        "scores": {},
                        "scores_on": "training",
                    }
                    self.episodes_: list[Episode] | Episodes = []
                    recording.begin(self, run, past, env, envs)
                    self.learn(envs, run, past, callbacks)
                finally:
                    if not isinstance(env, gymnasium.Env):  # an instance is the user's, who may go on with it
                        envs.close()
                self.history_ = run.history
                recording.finish(self, run)
            except Exception:
                run.abandon()
                raise
            finally:
                run.close()
        del self._given
        self.run_ = run

    def take_spaces(self, envs: Environments) -> None:
        """Note the spaces of the environment.

        Raises DataError where the agent cannot take them, and says which can.
        """
        self._check_spaces(envs.given_space, envs.action_space)

    def _check_spaces(self, observations: gymnasium.Space[Any], actions: gymnasium.Space[Any]) -> None:
        self.observation_space_, self.action_space_ = observations, actions
        for what, space, taken in (
            ("observations", observations, self.observations),
            ("actions", actions, self.actions),
        ):
            arrays = space if what == "actions" else arrays_of(space)
            if 0 in (getattr(arrays, "shape", None) or ()):
                raise DataError(
                    f"{type(self).__name__}: {what} of {words(space)} hold no number, so there is nothing to learn; mend the "
                    f"environment's {what[:-1]}_space"
                )
            if not isinstance(arrays, taken):
                kinds = ", ".join(t.__name__ for t in taken)
                raise DataError(
                    f"{type(self).__name__} takes {what} that are {kinds}; this environment's are {words(space)}. "
                    f"{recording.who_takes(what, arrays)}"
                )

    # -- after fit --------------------------------------------------------------------------------------------------

    def predict(self, observation: Any) -> Any:
        """The action for an observation as the environment gives it, or for a batch (N, ...) of them, (N, ...).

        Greedy: what the agent takes for best. Raises DataError where it is no observation of the space.
        """
        check_is_fitted(self, "observation_space_")
        space, arrays = self.observation_space_, arrays_of(self.observation_space_)
        array = self._observed(observation)
        shape = arrays.shape or ()
        many = array.ndim == len(shape) + 1
        if array.shape[many:] != shape or array.dtype.kind not in "biuf":
            raise DataError(
                f"{type(self).__name__}: an observation is of {words(space)}, or an array (N, ...) of such; got "
                f"{array.dtype} of shape {array.shape}"
            )
        if isinstance(space, spaces.Discrete):
            outside = array[
                (array < space.start) | (array >= space.start + space.n) | (array != array.astype(np.int64))
            ]
            if outside.size:
                raise DataError(f"{type(self).__name__}: {outside.flat[0]} is no observation of {words(space)}")
        elif array.dtype.kind == "f" and not np.isfinite(array).all():
            raise DataError(f"{type(self).__name__}: the observation holds NaN or infinite numbers")
        elif isinstance(arrays, (spaces.MultiDiscrete, spaces.MultiBinary)):
            first, count = (arrays.start, arrays.nvec) if isinstance(arrays, spaces.MultiDiscrete) else (0, 2)
            off = (array < first) | (array >= first + count) | (array != array.astype(np.int64))
            if off.any():
                raise DataError(
                    f"{type(self).__name__}: {array[off].flat[0]} in an observation lies outside {words(space)}"
                )
        actions = self.greedy((array if many else array[None]).astype(arrays.dtype, copy=False))
        given = self._outward(actions)
        # Of a box without dimensions, too, the action is an array.
        return given if many else given[0, ...] if isinstance(self.action_space_, spaces.Box) else given[0]

    def _observed(self, observation: Any) -> NDArray[Any]:
        """What `predict` was given, as an array. Raises DataError where parts are not those of the space."""
        space = self.observation_space_
        if not isinstance(observation, (dict, tuple)):
            return np.asarray(observation)
        if isinstance(space, (spaces.Dict, spaces.Tuple)) and not space.contains(observation):
            raise DataError(f"{type(self).__name__}: {str(observation)[:80]} is no observation of {words(space)}")
        return to_array(space, observation)

    def _outward(self, actions: NDArray[Any]) -> NDArray[Any]:
        """Actions as the environment takes them."""
        space = self.action_space_
        if isinstance(space, spaces.Discrete):
            return actions + space.start
        shaped = actions.reshape(len(actions), *(space.shape or ()))
        if isinstance(space, spaces.MultiDiscrete):
            return (shaped + space.start).astype(space.dtype)
        if isinstance(space, spaces.Box):
            whole = np.issubdtype(space.dtype, np.integer)  # the nearest, as `action_form` has it
            return np.clip(np.rint(shaped) if whole else shaped, space.low, space.high).astype(space.dtype)
        return shaped.astype(space.dtype)

    def evaluate(self, env: Any = None, episodes: int = 100, random_state: int = 0) -> dict[str, float]:
        """What the greedy policy gets in `episodes` new episodes: mean, spread and range of the return, mean length.

        env: as in `fit`; None: that of the fit, where it was an id.

        Raises DataError where the environment has other spaces than that of the fit.
        """
        check_is_fitted(self, "observation_space_")
        return scores_of(self.play(env, episodes, random_state), self.gamma)

    def play(self, env: Any = None, episodes: int = 1, random_state: int = 0, *, frames: int = 0) -> list[Any]:
        """Act greedily in whole episodes, which are given as a list of `evaluation.Played`.

        frames: keep at most so many pictures of the first episodes.
        """
        check_is_fitted(self, "observation_space_")
        if isinstance(episodes, bool) or not isinstance(episodes, (int, np.integer)) or episodes < 1:
            raise ConfigError(f"{type(self).__name__}: episodes must be a whole number, at least 1, got {episodes!r}")
        return play_episodes(self, self.env_of(env), int(episodes), int(random_state), frames=frames)

    def env_of(self, env: Any) -> Any:
        """The environment that is meant: that of the fit where none is given."""
        if env is None and getattr(self, "env_", None) is None:
            raise ConfigError(
                f"{type(self).__name__} was not fitted on an environment with an id: give one, env='CartPole-v1', an "
                "environment, or a function that makes one"
            )
        if env is not None:
            return env
        from_file = getattr(self, "_loaded", False)
        return saved.trusted_env(str(self.env_), type(self).__name__) if from_file else self.env_

    def check_same_spaces(self, envs: Environments) -> None:
        """Raise DataError where an environment has other spaces than that of the fit."""
        for what, own, given in (
            ("observations", self.observation_space_, envs.given_space),
            ("actions", self.action_space_, envs.action_space),
        ):
            if not same_space(own, given):
                raise DataError(
                    f"{type(self).__name__} learned with {what} of {words(own)}; this environment's are {words(given)}. Give "
                    "the environment that it was fitted on, or fit anew"
                )

    # -- saving -----------------------------------------------------------------------------------------------------

    def learned(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """The spaces and facts as JSON, and what `learned_tensors` gives."""
        config: dict[str, Any] = {
            "observation_space": space_to_json(self.observation_space_),
            "action_space": space_to_json(self.action_space_),
            "env": self.env_,
            "seed": self.seed_,
            "facts": self.facts_,
            "values": self.learned_values(),
        }
        return config, self.learned_tensors()

    def learned_values(self) -> dict[str, Any]:
        """What else of the learned state is JSON."""
        return {}

    def learned_tensors(self) -> dict[str, Tensor]:
        """The learned state."""
        raise NotImplementedError(f"{type(self).__name__}.learned_tensors")

    def restore(self, config: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        """Take back what `learned` gave."""
        self._check_spaces(saved.space_from(config, "observation_space"), saved.space_from(config, "action_space"))
        self.env_, self._loaded = saved.env_from(config), True
        self.seed_ = saved.seed_from(config)
        self.facts_ = saved.facts_from(config)
        if not isinstance(config.get("values"), dict):
            raise DataError("values in config.json is no mapping; the file is damaged")
        self.take_learned(config["values"], tensors)

    def take_learned(self, values: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        """Take back what `learned_values` and `learned_tensors` gave. Raise DataError where they do not fit the spaces."""
        raise NotImplementedError(f"{type(self).__name__}.take_learned")

    def card_data(self) -> list[str]:
        """What was observed, what could be done."""
        return [f"observations: {words(self.observation_space_)}; actions: {words(self.action_space_)}"]

    def card_limits(self) -> list[str]:
        """What the agent must not be trusted with."""
        return ["It acts well, if at all, in the environment it learned in: a change of its rules was never seen."]
