"""The contract of agents, as checks on an environment of two states whose best return is known."""

from __future__ import annotations

import functools
import os
import random
import signal
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import spaces

from konspekt.core.errors import ConfigError, DataError, KonspektError
from konspekt.core.estimator import load
from konspekt.core.params import params_of
from konspekt.core.registry import Entry
from konspekt.core.runs import read_metrics
from konspekt.core.seeds import mix
from konspekt.reports.page import report
from konspekt.testing.contract import ContractError, killed, require, weights_in
from konspekt.testing.two_states import TwoStates

__all__ = ["AGENT_CHECKS", "smallest_agent"]

# Enough for what is asked: a place in the middle to be killed at, and checkpoints that hold all there is.
_SMALL: dict[str, Any] = {
    "steps": 600,
    "n_envs": 2,
    "hidden": (8,),
    "batch_size": 8,
    "buffer_size": 256,
    "learning_starts": 32,
    "train_every": 32,
    "sessions": 8,
    "candidates": 12,
    "model": "table",
    "random_state": 0,
}
_LEARNING = 6_000  # steps in which every agent must learn two states
_LENGTH = 8


def smallest_agent(entry: Entry, **changes: Any) -> Any:
    """The agent at its smallest size, unfitted."""
    cls = entry.load()
    known = params_of(cls)
    small = {k: v for k, v in _SMALL.items() if k in known and (known[k].default is not None or k == "random_state")}
    if "batch_size" in known and known["batch_size"].default is None:  # a round is one batch
        changes.pop("batch_size", None)
    return cls(**small | {k: v for k, v in changes.items() if k in known})


def _states() -> np.ndarray[Any, Any]:
    return np.array([0, 1])


class NaNReward(TwoStates):
    """Pays NaN at its third step."""

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """As it should be, but for the reward."""
        observation, reward, *rest = super().step(action)
        return (observation, float("nan") if self.steps == 3 else reward, *rest)  # type: ignore[return-value]


class FourValues(TwoStates):
    """Gives four values a step, as gym did before 0.26."""

    def step(self, action: Any) -> Any:
        """Without `truncated`."""
        observation, reward, _, truncated, info = super().step(action)
        return observation, reward, truncated, info


class Breaks(TwoStates):
    """Raises at its fifth step."""

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """As it should be, until it breaks."""
        if self.steps == 4:
            raise RuntimeError("the motor is hot")
        return super().step(action)


class Wordy(TwoStates):
    """Observes text."""

    def __init__(self) -> None:
        super().__init__()
        self.observation_space = spaces.Text(4)


def check_agent_fit(entry: Entry, folder: Path) -> None:
    """`fit` returns self, keeps the parameters, learns into names that end in "_"; actions are of the space, scores finite."""
    agent = smallest_agent(entry)
    before = dict(agent.get_params())
    require(agent.fit(TwoStates) is agent, "fit must return self")
    require(agent.get_params() == before, "fit changed a parameter")
    stray = [n for n in vars(agent) if n not in before and not n.endswith("_") and not n.startswith("_")]
    require(not stray, f"learned names must end in '_': {stray}")
    state = dict(vars(agent))
    many, one = agent.predict(_states()), agent.predict(1)
    require(
        np.shape(many) == (2,) and np.shape(one) == (), f"actions are of shape {np.shape(many)} and {np.shape(one)}"
    )
    space = TwoStates().action_space
    require(all(space.contains(np.int64(a)) for a in (*many, one)), f"{many} and {one} are no actions")
    require(one == many[1], "an observation alone gets another action than among others")
    scores = agent.evaluate(TwoStates, episodes=5)
    require(all(np.isfinite(v) for v in scores.values()), f"evaluate gives {scores}")
    require(scores == agent.evaluate(TwoStates, episodes=5), "evaluate with the same seed gives other scores")
    require(vars(agent) == state, "predict or evaluate changed the agent")
    boxed = functools.partial(TwoStates, observations="box")
    if issubclass(spaces.Box, entry.load().observations):
        actions = smallest_agent(entry).fit(boxed).predict(np.eye(2, dtype=np.float32))
        require(np.shape(actions) == (2,), f"of boxes, actions are of shape {np.shape(actions)}")


def check_agent_learns(entry: Entry, folder: Path) -> None:
    """With enough steps it goes to the state that pays, and stays: the best return, which is known."""
    agent = smallest_agent(entry, steps=_LEARNING, hidden=(16,), batch_size=32, buffer_size=_LEARNING)
    agent.fit(functools.partial(TwoStates, length=_LENGTH))
    scores = agent.evaluate(functools.partial(TwoStates, length=_LENGTH), episodes=20)
    require(scores["return_min"] >= _LENGTH - 1, f"the best policy returns {_LENGTH - 1} or more, this one {scores}")


def check_agent_save(entry: Entry, folder: Path) -> None:
    """A saved agent acts the same, and saves to the same weights; on other spaces it is refused."""
    agent = smallest_agent(entry).fit(TwoStates)
    back = load(agent.save(folder / "model"))
    require(np.array_equal(agent.predict(_states()), back.predict(_states())), "the loaded agent acts otherwise")
    back.save(folder / "again")
    require(weights_in(folder / "model") == weights_in(folder / "again"), "the loaded agent has other weights")
    for other in ("CartPole-v1", "FrozenLake-v1"):
        try:
            back.evaluate(other, episodes=1)
        except DataError as error:
            require("2" in str(error), f"the message does not name the spaces: {error}")
        else:
            raise ContractError(f"an agent of two states is taken for {other}")


def check_agent_repeat(entry: Entry, folder: Path) -> None:
    """The same seed gives the same weights to the bit; the caller's generators are untouched."""
    torch.manual_seed(1)
    random.seed(1)
    np.random.seed(1)
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # type: ignore[index]
    for seed, name in ((0, "a"), (0, "b")):
        smallest_agent(entry, random_state=seed).fit(TwoStates).save(folder / name)
    after = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # type: ignore[index]
    require(bool((before[0] == after[0]).all()) and before[1:] == after[1:], "fit touched the caller's generators")
    require(weights_in(folder / "a") == weights_in(folder / "b"), "the same seed gives other weights")


def check_agent_resume(entry: Entry, folder: Path) -> None:
    """A fit killed at a drawn step, and one killed inside a checkpoint's write, resume to the same weights to the bit."""

    seen: list[int] = []
    steps = 0
    for steps in (120, 600, 3_000):  # as few as give places to be killed at: each step is followed by a checkpoint
        seen.clear()
        agent = smallest_agent(entry, steps=steps)
        agent.fit(TwoStates, callbacks=[lambda m: seen.append(m.step) if m.event == "step" else None])
        if len(seen) >= 5:
            break
    require(len(seen) >= 5, f"{len(seen)} steps are too few to be killed in")

    def made(name: str) -> Any:
        return smallest_agent(entry, steps=steps, run_dir=str(folder / name), checkpoint_every=1)

    whole = made("whole").fit(TwoStates)
    draw = random.Random(mix(*entry.name.encode()))
    at = draw.randrange(2, len(seen))

    def kill_at_step(moment: Any) -> None:
        if moment.event == "step" and moment.step == at:
            os.kill(os.getpid(), signal.SIGKILL)

    writes = draw.randrange(6, 5 * (len(seen) - 1))
    for name, callback, flush in (("step", kill_at_step, None), ("write", None, writes)):
        killed(lambda n=name, c=callback: made(n).fit(TwoStates, callbacks=[c] if c else []), flush)  # type: ignore[misc]
        resumed = made(name).fit(TwoStates, resume=folder / name)
        where = f"killed at step {at}" if flush is None else f"killed at flush {flush} of a checkpoint"
        same = weights_in(folder / name / "model") == weights_in(folder / "whole" / "model")
        require(same, f"{where} of {len(seen)}, the resumed fit has other weights")
        require(resumed.episodes_ == whole.episodes_, f"{where}, the resumed fit had other episodes")


def check_agent_bad_input(entry: Entry, folder: Path) -> None:
    """What is no environment, breaks its rules, or has other spaces raises DataError or ConfigError that says so."""
    table: dict[str, tuple[Any, str]] = {
        "None": (None, "None"),
        "a number": (3, "3"),
        "an unknown id": ("CartPole-v77", "CartPole"),
        "a class that is none": (dict, "dict"),
        "NaN reward": (NaNReward, "reward"),
        "four values": (FourValues, "truncated"),
        "an environment that raises": (Breaks, "the motor is hot"),
        "observations of text": (Wordy, "Text"),
    }
    if not issubclass(spaces.Box, entry.load().actions):
        table["actions of numbers"] = (functools.partial(TwoStates, actions="box"), "Box")
    for name, (env, told) in table.items():
        try:
            smallest_agent(entry).fit(env)
        except KonspektError as error:
            require(told in str(error), f"{name}: the message lacks {told!r}: {error}")
        except Exception as error:
            raise ContractError(f"{name}: {type(error).__name__} instead of a DataError: {error}") from error
        else:
            raise ContractError(f"{name}: accepted")
    for key in ("y", "validation"):
        try:
            smallest_agent(entry).fit(TwoStates, **{key: [1, 2]})
        except ConfigError as error:
            require(key in str(error), f"the message lacks {key}: {error}")
        else:
            raise ContractError(f"{key} is accepted")


def check_agent_report(entry: Entry, folder: Path) -> None:
    """A run leaves a folder that a report can be made of."""
    smallest_agent(entry, run_dir=str(folder / "run")).fit(TwoStates)
    for name in ("config.yaml", "metrics.jsonl", "data.json", "result.json", "episodes.csv"):
        require((folder / "run" / name).is_file(), f"the run folder lacks {name}")
    require(bool(read_metrics(folder / "run")), "nothing was recorded")
    text = report(folder / "run").read_text(encoding="utf-8")
    require(entry.name in text and "<svg" in text, "the report lacks the agent's name or has no picture")


AGENT_CHECKS = {
    "fit": check_agent_fit,
    "learns": check_agent_learns,
    "save": check_agent_save,
    "repeat": check_agent_repeat,
    "resume": check_agent_resume,
    "bad_input": check_agent_bad_input,
    "report": check_agent_report,
}
