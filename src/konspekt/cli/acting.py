"""What the command does with agents: fit in an environment, evaluate, play."""

from __future__ import annotations

import os
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from konspekt.cli.tables import bytes_text
from konspekt.core import registry
from konspekt.core.errors import ConfigError, KonspektError, nearest

__all__ = [
    "agent_of",
    "check_env_of_run",
    "evaluation_text",
    "is_agent",
    "played_text",
    "quiet_screen",
    "refuse_predict",
    "trained_text",
]

EVALUATE_KEYS = ("env", "episodes", "random_state", "max_episode_steps")
PLAY_KEYS = ("env", "episodes", "out", "random_state", "max_episode_steps")
MOST = 1_000  # pictures of a gif
OF_DATA = {
    "data": "env=CartPole-v1, say, is what an agent acts in",
    "target": "the rewards of the environment are the targets",
    "validation": "an agent is measured by playing: evaluate_episodes=10 where there is one, or `konspekt evaluate` afterwards",
    "validation_fraction": "an agent is measured by playing: `konspekt evaluate`",
}


def is_agent(estimator: Any) -> bool:
    """Whether it acts in an environment."""
    entry = getattr(type(estimator), "__konspekt__", None)
    return entry is not None and entry.kind == "agent"


def agent_of(entry: registry.Entry, given: Mapping[str, Any], new_run: str, *, dry_run: bool) -> tuple[Any, str]:
    """The agent with the parameters that were given as text, and the id of its environment.

    Raises ConfigError on what an agent has no use for, a missing environment and a parameter.
    """
    from konspekt.core.params import parse_params

    given = dict(given)
    for key, why in OF_DATA.items():
        if key in given:
            raise ConfigError(f"{entry.name} is an agent and takes no {key}=: {why}")
    if dry_run:
        raise ConfigError(
            f"{entry.name} makes its data by acting, so three steps say nothing of the rest: leave --dry-run out, or look at a fit "
            "with few steps="
        )
    env = given.pop("env", None)
    if not isinstance(env, str) or not env:
        raise ConfigError(f"env is missing: konspekt fit {entry.name} env=CartPole-v1")
    cls = entry.load()
    return cls(**parse_params(cls, {"run_dir": new_run, "verbose": "true"} | given)), env


def check_env_of_run(run: Path, source: str, given: Any) -> None:
    """Raise ConfigError where another environment is given than that of the run, or a module would be imported unasked."""
    if given is None and ":" in source:
        raise ConfigError(
            f"{run}: its file names the environment {source!r}, and no module is imported because a file says so: give env={source} "
            "if you trust it"
        )
    if given not in (None, source):
        raise ConfigError(f"{run}: a run goes on in its own environment, {source}: leave env={given} out")


def trained_text(agent: Any, result: Mapping[str, Any]) -> str:
    """After a fit: what the last episodes came to, and one that was played greedily; its pictures go into the run folder."""
    from konspekt.rl.frames import film

    count = int(result.get("episodes", 0))
    steps = int((agent.history_[-1] if agent.history_ else {}).get("env_steps", 0))
    scores = dict(result["scores"])
    lines = [f"\ntraining: {count:,} episode{'s' * (count != 1)} in {steps:,} steps, {result['seconds']:.1f} s"]
    if not steps:  # a planner's
        lines = [f"\nlearned without acting, {result['seconds']:.1f} s"]
    if scores:
        spread = f" ± {scores['return_std']:.4g}" if "return_std" in scores else ""
        last = min(count, 100)
        what = "its episode" if last == 1 else f"the last {last} episodes"
        lines.append(
            f"return {scores['return']:.4g}{spread}, length {scores['length']:.4g}: {what}, mean ± standard deviation"
        )
    elif steps:
        lines.append("no episode ended: give more steps, or max_episode_steps")
    try:
        quiet_screen()
        one = film(agent, agent.env_)
        lines.append(f"return {one.total:.4g}, length {one.length}: one greedy episode, whose pictures the report has")
        if one.cut:
            text = f"it went on after {one.length:,} steps and was left there; max_episode_steps=N ends episodes"
            lines.append(text)
            agent.run_.log(f"the greedy episode of the report: {text}")
    except KonspektError as error:
        agent.run_.log(f"no pictures of a played episode: {error}", warning=True)
    return "\n".join(lines)


def evaluation_text(agent: Any, given: Mapping[str, str]) -> tuple[str, dict[str, float]]:
    """A heading and the scores of greedy episodes.

    Raises ConfigError on a key.
    """
    check_keys("evaluate", given, EVALUATE_KEYS)
    episodes, seed = whole("evaluate", given, "episodes", 100, 1), whole("evaluate", given, "random_state", 0, 0)
    limit(agent, "evaluate", given)
    env = agent.env_of(given.get("env"))
    scores = agent.evaluate(env, episodes, seed)
    scores.pop("episodes", None)
    return f"{episodes} greedy episode{'s' * (episodes != 1)} of {env}, random_state={seed}", scores


def played_text(agent: Any, given: Mapping[str, str], *, window: bool, width: int) -> str:
    """Play episodes, in a window or into a gif, and say what they came to.

    Raises ConfigError on a key, on a file that is neither .gif nor .png, and where there is no display.
    """
    from konspekt.core.folders import write_file
    from konspekt.rl import frames

    check_keys("play", given, PLAY_KEYS)
    episodes, seed = whole("play", given, "episodes", 1, 1), whole("play", given, "random_state", 0, 0)
    limit(agent, "play", given)
    env = agent.env_of(given.get("env"))
    out = Path(given.get("out") or f"play-{env.replace('/', '-').replace(':', '-')}.gif")
    if out.suffix.lower() not in (".gif", ".png"):
        raise ConfigError(
            f"out must end in .gif (a moving picture) or .png (a strip of {frames.STRIP}), got {str(out)!r}"
        )
    if window:
        if "out" in given:
            raise ConfigError("--window shows the episodes and out= writes them: give one of the two")
        frames.check_display()
    played = agent.play(env, episodes, seed)
    lines = [
        f"episode {k}: return {one.total:.6g}, {one.length:,} steps, seed {one.seed}{', cut by the time limit' * one.truncated}"
        for k, one in enumerate(played, 1)
    ]
    if window:
        for one in played:
            frames.shown(agent, env, one)
        return "\n".join(lines)
    quiet_screen()
    total = sum(one.length + 1 for one in played)
    every = -(-total // MOST)
    pictures = [frames.small(p) for one in played for p in frames.drawn(agent, env, one, every)]
    fps = frames.fps_of(env)
    if out.suffix.lower() == ".gif":
        data = frames.gif(pictures, fps / every)
    else:
        data = frames.png(frames.strip([frames.small(p, 200) for p in pictures]))
    write_file(out, data)
    kept = f"{len(pictures):,} pictures" if every == 1 else f"{len(pictures):,} of {total:,} pictures"
    lines.append(f"{out} ({kept}, {bytes_text(len(data))})")
    return "\n".join(
        "\n".join(textwrap.wrap(line, width, subsequent_indent="  ", break_long_words=False)) for line in lines
    )


def refuse_predict(agent: Any, model: Path) -> None:
    """Say what to do with an agent in the place of `konspekt predict`.

    Raises ConfigError.
    """
    name = type(agent).__name__
    raise ConfigError(
        f"{model}: {name} acts and predicts for no rows or images: konspekt evaluate {model} env=... plays and measures, konspekt "
        f"play {model} shows it; in Python, konspekt.load({str(model)!r}).predict(observation) is the action"
    )


def check_keys(command: str, given: Mapping[str, str], known: tuple[str, ...]) -> None:
    """Raise ConfigError on a key that the command does not have for agents."""
    for key in given:
        if key in ("data", "target"):
            raise ConfigError(f"{command}: an agent takes no {key}=; {OF_DATA[key]}")
        if key not in known:
            raise ConfigError(f"{command} has no key {key!r} for agents; {nearest(key, known)}")


def limit(agent: Any, command: str, given: Mapping[str, str]) -> None:
    """Take a time limit that was given. Raises ConfigError where it is none."""
    if "max_episode_steps" in given:
        agent.max_episode_steps = whole(command, given, "max_episode_steps", 0, 1)


def whole(command: str, given: Mapping[str, str], key: str, usual: int, least: int) -> int:
    """A whole number that is given as text.

    Raises ConfigError where it is none, or too small.
    """
    text = str(given.get(key, usual))
    try:
        value = int(text.replace("_", ""))
    except ValueError:
        value = least - 1
    if value < least:
        raise ConfigError(f"{command}: {key} must be a whole number, at least {least}, got {text!r}")
    return value


def quiet_screen() -> None:
    """Where there is no display, tell SDL, which would complain on stderr about what nobody asked of it."""
    if sys.platform.startswith("linux") and not any(os.environ.get(n) for n in ("DISPLAY", "WAYLAND_DISPLAY")):
        os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
        os.environ.setdefault("SDL_AUDIODRIVER", "dummy")
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
