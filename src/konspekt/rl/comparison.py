"""Several agents in the same environment, each trained from several seeds.

Few seeds make a mean that one lucky run decides. So each agent's score is the interquartile mean of its seeds (of the middle half of
the runs), with a bootstrap interval whose resamples are drawn within each environment (Agarwal, Schwarzer, Castro, Courville and
Bellemare 2021, "Deep Reinforcement Learning at the Edge of the Statistical Precipice"). Intervals
that lie apart speak for a difference; where they overlap, more seeds are needed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone

from konspekt.core import registry
from konspekt.core.comparisons import usable
from konspekt.core.errors import ConfigError, KonspektError
from konspekt.core.params import AtLeast, LessThan, MoreThan, check_arguments, shown
from konspekt.core.registry import system
from konspekt.rl.agent import Agent
from konspekt.rl.beside import Comparison
from konspekt.rl.making import name_of

__all__ = ["bootstrap_interval", "compare", "interquartile_mean"]

GRID = 100  # points of a learning curve
SCORE = (
    "The score of a run is the mean return of its greedy episodes after the training. IQM is the mean of the middle half of the "
    "runs (Agarwal et al. 2021)."
)
INTERVAL = (
    "The interval is a bootstrap one over the seeds. Where intervals overlap, the seeds do not tell the agents apart."
)
CURVES = (
    "Learning curves are returns of the training, actions taken to explore included, each the mean of the last 100 episodes; the "
    "band goes from the lowest seed to the highest."
)


Confidence = Annotated[float, MoreThan(0), LessThan(1)]
Resamples = Annotated[int, AtLeast(100)]
Seed = Annotated[int, AtLeast(0)]


def interquartile_mean(scores: ArrayLike) -> float:
    """The mean of the middle half of all scores, of whatever shape: a quarter is cut off at each side, rounded down.

    Raises ConfigError where there is no score, or one that is no finite number.
    """
    from scipy.stats import trim_mean

    return float(trim_mean(_finite(scores, "interquartile_mean"), 0.25, axis=None))


def _finite(scores: ArrayLike, where: str) -> NDArray[np.float64]:
    try:
        values = np.asarray(scores, dtype=np.float64)
    except (TypeError, ValueError):
        values = np.zeros(0)
    if not values.size or not np.isfinite(values).all():
        raise ConfigError(f"{where}: scores must be at least one number, all finite")
    return values


def bootstrap_interval(
    scores: ArrayLike, *, confidence: Confidence = 0.95, n_bootstrap: Resamples = 2000, random_state: Seed = 0
) -> tuple[float, float]:
    """The percentile bootstrap interval of the interquartile mean, stratified.

    scores: (runs,) of one environment, or (runs, environments): runs are drawn anew within each environment, as many as there are.
    confidence: of the interval. n_bootstrap: resamples that it is taken from. random_state: the seed.

    Raises ConfigError on an argument, and on scores as `interquartile_mean` does.
    """
    from scipy.stats import trim_mean

    given = {"confidence": confidence, "n_bootstrap": n_bootstrap, "random_state": random_state}
    check_arguments("bootstrap_interval", bootstrap_interval, given)
    values = np.atleast_1d(_finite(scores, "bootstrap_interval"))
    values = values.reshape(len(values), -1)
    rng = np.random.default_rng(random_state)
    drawn = rng.integers(len(values), size=(n_bootstrap, *values.shape))
    resamples = np.take_along_axis(values[None], drawn, axis=1).reshape(n_bootstrap, -1)
    means = trim_mean(resamples, 0.25, axis=1)
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


@system(name="compare-agents", kind="tool", rows=("R2", "R3", "R4", "R5"), paper="Agarwal et al. 2021")
def compare(
    agents: Mapping[str, Any] | Sequence[Any],
    env: Any,
    *,
    seeds: Annotated[int, AtLeast(1)] = 5,
    episodes: Annotated[int, AtLeast(1)] = 50,
    steps: Annotated[int, AtLeast(1)] | None = None,
    confidence: Confidence = 0.95,
    n_bootstrap: Resamples = 2000,
    random_state: Seed = 0,
    run_dir: str | Path | None = None,
    progress: Callable[[str], Any] | None = None,
) -> Comparison:
    """Train a clone of each agent from each seed in the same environment, let it play greedily, and set the scores side by side.

    agents: agents, or names of registered ones, in a list or by the names they get in the table.
    env: as in `fit`: an id, or a function that makes one.
    seeds: how many runs of each agent; their seeds are random_state, random_state + 1 and so on.
    episodes: greedy episodes after each training, whose mean return is the run's score.
    steps: environment steps of each training; None: as each agent has it.
    confidence: of the interval.
    n_bootstrap: resamples that it is taken from.
    random_state: the first seed.
    run_dir: a folder to save the comparison in, for the report; None: nothing is written.
    progress: is called with the name of each agent and its run before it.

    An agent that fails becomes a row that says why.

    Raises ConfigError on an argument, and the first agent's error where all of them fail.
    """
    given: dict[str, Any] = {
        "seeds": seeds,
        "episodes": episodes,
        "steps": steps,
        "confidence": confidence,
        "n_bootstrap": n_bootstrap,
        "random_state": random_state,
    }
    check_arguments("compare", compare, given)
    if run_dir is not None:
        usable(run_dir)
    rows, scores, curves = [], {}, {}
    first: KonspektError | None = None
    for name, agent in _agents(agents, steps):
        row: dict[str, Any] = dict.fromkeys(("iqm", "low", "high", "mean", "std", "min", "max", "length", "seconds"))
        row = {"agent": name, **row, "seeds": seeds, "problem": ""}
        rows.append(row)
        try:
            returns, lengths, histories, seconds = _runs(name, agent, env, seeds, episodes, random_state, progress)
        except KonspektError as error:
            first = first or error
            row["problem"] = " ".join(str(error).split())[:300]
            continue
        row["iqm"] = interquartile_mean(returns)
        how = {"confidence": confidence, "n_bootstrap": n_bootstrap, "random_state": random_state}
        row["low"], row["high"] = bootstrap_interval(returns, **how)
        row["mean"], row["min"], row["max"] = float(returns.mean()), float(returns.min()), float(returns.max())
        row["std"] = float(returns.std(ddof=1)) if seeds > 1 else 0.0
        row["length"], row["seconds"] = float(lengths.mean()), float(np.median(seconds))
        scores[name] = returns
        if (curve := _curve(histories)) is not None:
            curves[name] = curve
    if first is not None and not scores:
        raise first
    found = Comparison(
        rows=rows, scores=scores, curves=curves, env=name_of(env), settings=given, notes=(SCORE, INTERVAL, CURVES)
    )
    if run_dir is not None:
        found.save(run_dir)
    return found


def _runs(
    name: str, agent: Agent, env: Any, seeds: int, episodes: int, first: int, progress: Callable[[str], Any] | None
) -> tuple[NDArray[np.float64], NDArray[np.float64], list[list[dict[str, Any]]], NDArray[np.float64]]:
    """Of each seed: the mean return and length of its greedy episodes, the records of its training, its seconds."""
    returns, lengths, histories, seconds = [], [], [], []
    for seed in range(first, first + seeds):
        if progress is not None:
            progress(f"{name}, run {seed - first + 1} of {seeds}")
        one = clone(agent).set_params(random_state=seed)
        began = time.perf_counter()
        one.fit(env)
        seconds.append(time.perf_counter() - began)
        told = one.evaluate(env, episodes, seed)
        returns.append(told["return"])
        lengths.append(told["length"])
        histories.append(one.history_)
    return np.array(returns), np.array(lengths), histories, np.array(seconds)


def _curve(histories: list[list[dict[str, Any]]]) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Environment steps (G,), and each seed's running mean return there (seeds, G), where all seeds have one."""
    series = []
    for records in histories:
        known = [(r["env_steps"], r["return"]) for r in records if r.get("return") is not None and r.get("env_steps")]
        if not known:
            return None
        series.append(np.array(sorted(known), dtype=float).T)
    low, high = max(s[0][0] for s in series), min(s[0][-1] for s in series)
    if high < low:
        return None
    grid = np.linspace(low, high, GRID if high > low else 1)
    return grid, np.stack([np.interp(grid, *s) for s in series])


def _agents(agents: Any, steps: int | None) -> list[tuple[str, Agent]]:
    """Names, each with an agent that keeps no run folder and says nothing."""
    if isinstance(agents, (str, Agent)):
        agents = [agents]
    if isinstance(agents, Mapping):
        pairs: list[tuple[str | None, Any]] = [(str(k), v) for k, v in agents.items()]
    elif isinstance(agents, (list, tuple)):
        pairs = [(None, a) for a in agents]
    else:
        raise ConfigError(f"compare: agents are a list or a dict of them, got {type(agents).__name__}")
    found: dict[str, Agent] = {}
    for key, one in pairs:
        if isinstance(one, str):
            agent, name = registry.lookup("agent", one).load()(), one
        elif isinstance(one, Agent):
            agent, name = clone(one), type(one).__name__
        else:
            raise ConfigError(f"compare: an agent is needed, such as QLearning(), or the name of one; got {shown(one)}")
        quiet: dict[str, Any] = {"run_dir": None, "verbose": False}
        if steps is not None:
            if "steps" not in agent.get_params():
                raise ConfigError(f"compare: {name} makes no environment steps to set: leave steps out")
            quiet["steps"] = steps
        name, number = key or name, 1
        plain = name
        while name in found:
            number += 1
            name = f"{plain} {number}"
        found[name] = agent.set_params(**quiet)
    if not found:
        raise ConfigError("compare: agents is empty")
    return list(found.items())
