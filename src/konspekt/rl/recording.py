"""What an agent's fit writes into its run folder besides metrics and checkpoints, and what a resumed one compares."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
import torch

from konspekt.core.errors import ConfigError, DataError, KonspektError
from konspekt.core.folders import write_file
from konspekt.core.runs import Run
from konspekt.engine import checkpoint
from konspekt.engine.boards import Board
from konspekt.engine.record import describe, layers_of, say
from konspekt.rl.evaluation import has_time_limit
from konspekt.rl.spaces import space_to_json, words
from konspekt.rl.vector import Environments, Episode

if TYPE_CHECKING:
    from konspekt.rl.agent import Agent

__all__ = [
    "begin",
    "facts_of",
    "failed",
    "finish",
    "name_of",
    "newest_step",
    "refuse_too_many",
    "say",
    "warn_of_endless",
    "who_takes",
    "write_episodes",
]

MOST_ENVIRONMENTS = 100_000
RECENT = 100  # episodes of which a running return is the mean


def name_of(env: Any) -> str:
    """What an environment is called."""
    if isinstance(env, str):
        return env
    if isinstance(env, gymnasium.Env):
        return str(env.spec.id if env.spec is not None else type(env.unwrapped).__name__)
    name = str(getattr(env, "__name__", type(env).__name__))
    return "a function" if name == "<lambda>" else name


def who_takes(what: str, space: gymnasium.Space[Any]) -> str:
    """A sentence that names the agents that take such observations or actions."""
    from konspekt.core import registry

    able = []
    for entry in registry.entries():
        if entry.kind == "agent" and isinstance(space, getattr(entry.load(), what, ())):
            able.append(entry.name)
    return f"These do: {', '.join(able)}" if able else "No agent here does: wrap the environment"


def begin(agent: Agent, run: Run, past: dict[str, Any] | None, env: Any, envs: Environments) -> None:
    """Write config.yaml and data.json; for a resumed run, refuse another environment.

    Raises DataError where a resumed run has another environment than before.
    """
    import yaml

    if run.path is None:
        return
    if "tensorboard" in getattr(agent, "logs", ()):
        run.listeners.append(Board(run.path))
    source = {"source": name_of(env), "kind": "environment" if isinstance(env, str) else "memory"}
    known = [source["source"], space_to_json(agent.observation_space_), space_to_json(agent.action_space_)]
    mark = hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()
    if past is not None:
        if past["fingerprint"] != mark:
            raise DataError(
                f"{run.path} was begun on {past['data'].get('source')!r}, now the environment is {source['source']!r} or has "
                "other spaces; resume needs the same one"
            )
        run.log("resumed")
        return
    facts = {
        "task": "acting",
        "source": source["source"],
        "environments": envs.num,
        "observations": words(agent.observation_space_),
        "actions": words(agent.action_space_),
        "train": 0,
        "validation": 0,
        "skipped": [],
        "notes": [],
        "fingerprint": mark,
    }
    run.write_json("data.json", facts)
    config = describe(agent, source, mark, str(getattr(agent, "device_", "cpu")))
    write_file(run.path / "config.yaml", yaml.safe_dump(config, sort_keys=False, allow_unicode=True).encode())
    run.log(
        f"{config['system']} on {source['source']}: {envs.num} environment{'s' * (envs.num > 1)}, observations "
        f"{facts['observations']}, actions {facts['actions']}"
    )
    warn_of_endless(agent, run, env, envs)


def warn_of_endless(agent: Agent, run: Run, env: Any, envs: Environments) -> None:
    """Say so where no time limit ends an episode and the agent learns from whole ones, or is measured by them."""
    whole = agent.whole_episodes
    if (whole or getattr(agent, "evaluate_episodes", 0)) and not has_time_limit(agent, env, envs):
        run.log(
            f"{name_of(env)} has no time limit, and {type(agent).__name__} {'learns from' if whole else 'is measured by'} whole "
            "episodes: if one may go on for ever, give max_episode_steps",
            warning=True,
        )


def failed(agent: Agent, run: Run, error: Exception, acting: bool, step: int | None) -> Exception:
    """Note in the log why a fit stopped; gives what is to be raised.

    acting: whether the environment is to blame, so that the fit can go on when it is mended; the message then says how. step: the
    environment step of the newest checkpoint, from which it would go on; None: there is none.
    """
    place = run.path
    if place is None or not any((place / name).exists() for name in ("metrics.jsonl", "checkpoint")):
        return error  # it did not get so far that something would be kept
    text = " ".join(str(error).split()) or "no message"
    if acting and isinstance(error, DataError):
        begins = (
            "from the beginning, as there was no checkpoint yet" if step is None else f"after environment step {step:,}"
        )
        how = f"konspekt resume {place}" if isinstance(agent._given, str) else f"fit(env, resume={str(place)!r})"
        text = f"{error}; the run is kept: once the environment is mended, {how} goes on {begins}"
        error = type(error)(text)
    if not isinstance(error, ConfigError) and str(error) not in run.warnings:  # the engine may have noted it
        kind = "" if isinstance(error, KonspektError) else f"{type(error).__name__}: "
        run.log(f"stopped: {kind}{text}", warning=True)
    return error


def newest_step(run: Run, stage: str = "fit") -> int | None:
    """The environment steps that the newest checkpoint of a run has made."""
    found = None if run.checkpoints is None else checkpoint.newest(run.checkpoints, stage)
    if found is None:
        return None
    state = found[0]
    return int(state["acted"] if "acted" in state else state["batches"]["acted"])


def refuse_too_many(agent: Agent) -> None:
    """Raise ConfigError on a number of environments that no machine holds."""
    if agent.num_envs > MOST_ENVIRONMENTS:
        raise ConfigError(
            f"{type(agent).__name__}: n_envs={agent.num_envs} environments that are stepped together are more than "
            f"{MOST_ENVIRONMENTS:,}; give fewer, 8 or 64, say"
        )


def facts_of(episodes: Sequence[Episode], recent: Sequence[Episode], steps: int) -> dict[str, float]:
    """What a record of an epoch says of acting. episodes: finished in it; recent: the last ones, of which means are taken."""
    facts: dict[str, float] = {"env_steps": float(steps), "episodes": float(len(episodes))}
    if recent:
        facts["return"] = float(np.mean([e.total for e in recent]))
        facts["length"] = float(np.mean([e.length for e in recent]))
    return facts


def write_episodes(run: Run, episodes: Sequence[Episode]) -> None:
    """episodes.csv: a line for each finished episode: environment, number, seed, return, length, truncated."""
    if run.path is None:
        return
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["episode", "env", "number", "seed", "return", "length", "truncated"])
    for place, e in enumerate(episodes):
        writer.writerow([place, e.env, e.number, e.seed, repr(float(e.total)), e.length, int(e.truncated)])
    write_file(run.path / "episodes.csv", text.getvalue().encode())


def finish(agent: Agent, run: Run) -> None:
    """Write the episodes, what the agent keeps, the model and result.json."""
    if run.path is None:
        return
    trained = time.perf_counter()
    write_episodes(run, agent.episodes_)
    last = agent.episodes_[-RECENT:]
    scores: dict[str, float] = {}
    if last:
        totals = np.array([e.total for e in last])
        scores = {"return": float(totals.mean()), "length": float(np.mean([e.length for e in last]))}
        scores |= {"return_std": float(totals.std(ddof=1))} if len(last) > 1 else {}
    agent.facts_ |= {"scores": scores, "train": len(agent.episodes_)}
    agent.exhibit(run)
    agent.save(run.path / "model")
    model: Any = getattr(agent, "model_", None)
    sizes = {}
    if isinstance(model, torch.nn.Module):
        sizes = {"parameters": sum(p.numel() for p in model.parameters()), "layers": layers_of(model)}
    run.write_json(
        "result.json",
        {
            "scores": scores,
            "scores_on": "training",
            "seconds": time.perf_counter() - run.began + run.used,
            "epochs": len(run.history),
            "cut_short": False,
            "episodes": len(agent.episodes_),
            "timings": {"train": trained - run.began, "evaluate": time.perf_counter() - trained},
            **sizes,
        },
    )
    run.log("finished: " + ", ".join(f"{k} {v:.4g}" for k, v in scores.items()))
