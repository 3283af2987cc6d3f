"""What a saved agent's config.json says of its environment, looked at before it is believed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import gymnasium

from konspekt.core.errors import ConfigError, DataError
from konspekt.rl.spaces import space_from_json

__all__ = ["env_from", "facts_from", "number_from", "seed_from", "space_from", "trusted_env"]


def space_from(config: Mapping[str, Any], name: str) -> gymnasium.Space[Any]:
    """The space of this name. Raises DataError that names it."""
    if name not in config:
        raise _damaged(name, "is missing")
    try:
        return space_from_json(config[name])
    except DataError as error:
        raise _damaged(name, f"is no space: {error}") from None


def env_from(config: Mapping[str, Any]) -> str | None:
    """The id of the environment, or None. Raises DataError where it is none."""
    env = config.get("env", "")
    if env is not None and (not isinstance(env, str) or not env or len(env) > 200):
        raise _damaged("env", "is no id of an environment")
    return env


def seed_from(config: Mapping[str, Any]) -> int:
    """The seed of the fit. Raises DataError where it is no whole number."""
    seed = config.get("seed")
    if type(seed) is not int:
        raise _damaged("seed", f"is no whole number: {str(seed)[:40]!r}")
    return seed


def facts_from(config: Mapping[str, Any]) -> dict[str, Any]:
    """What the card says of the fit: source, train, validation, scores, scores_on. Raises DataError where one is missing."""
    facts = config.get("facts")
    kinds = {"source": str, "train": int, "validation": int, "scores": dict, "scores_on": str}
    for name, kind in kinds.items():
        if not isinstance(facts, dict) or type(facts.get(name)) is not kind:
            raise _damaged(f"facts.{name}", f"is not of type {kind.__name__}")
    for name, value in facts["scores"].items():  # type: ignore[index]
        number_from(value, f"facts.scores.{name}")
    return dict(facts)  # type: ignore[arg-type]


def number_from(value: Any, name: str, least: float = -math.inf) -> float:
    """A finite number, at least `least`. Raises DataError where it is none."""
    try:
        number = float(value) if type(value) in (int, float) else math.nan
    except OverflowError:
        number = math.inf
    if not math.isfinite(number) or number < least:
        bound = "" if least == -math.inf else f" from {least:g} on"
        raise _damaged(name, f"is no finite number{bound}: {str(value)[:40]!r}")
    return number


def trusted_env(env: str, owner: str) -> str:
    """The id that a file names, where nothing has to be imported for it.

    Raises ConfigError on "module:id" whose id is not registered yet: a file may not name what is imported.
    """
    module, colon, name = env.partition(":")
    if not colon:
        return env
    if name in gymnasium.registry:
        return name
    raise ConfigError(
        f"{owner}: its file names the environment {env!r}, and no module is imported because a file says so: give env={env!r} "
        f"if you trust {module!r}"
    )


def _damaged(name: str, why: str) -> DataError:
    return DataError(f"{name[:80]} in config.json {why}; the file is damaged")
