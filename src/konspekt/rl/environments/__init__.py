"""Environments of the uses that the notes name: driving, a robot's arm, a stock, recommending, a game.

They follow gymnasium's interface, and each knows its optimum. `make("konspekt/Track-v0")` makes one; after
`register()`, `gymnasium.make` does too. Nothing is registered by an import, and `specify` needs no registering.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from konspekt.core.errors import ConfigError, nearest

if TYPE_CHECKING:
    import gymnasium
    from gymnasium.envs.registration import EnvSpec

__all__ = ["ENVIRONMENTS", "make", "register", "specify"]

ENVIRONMENTS = {
    "konspekt/Arm-v0": "konspekt.rl.environments.arm:Arm",
    "konspekt/Game-v0": "konspekt.rl.environments.game:Game",
    "konspekt/Recommender-v0": "konspekt.rl.environments.recommender:Recommender",
    "konspekt/Stock-v0": "konspekt.rl.environments.stock:Stock",
    "konspekt/Track-v0": "konspekt.rl.environments.track:Track",
}


def make(name: str, **arguments: Any) -> gymnasium.Env[Any, Any]:
    """The environment of this id, by the class's arguments; gymnasium's registry is not needed for it.

    Raises ConfigError for an id that is none of ENVIRONMENTS, and for arguments that the class refuses.
    """
    module, qualname = _entry(name).split(":")
    made: gymnasium.Env[Any, Any] = getattr(importlib.import_module(module), qualname)(**arguments)
    return made


def specify(name: str) -> EnvSpec:
    """What `gymnasium.make` takes in the place of an id, in any process and without its registry.

    Raises ConfigError for an id that is none of ENVIRONMENTS.
    """
    from gymnasium.envs.registration import EnvSpec

    return EnvSpec(id=name, entry_point=_entry(name))


def register() -> None:
    """Tell gymnasium of ENVIRONMENTS, so that `gymnasium.make` takes their ids; a second call changes nothing.

    No limit of steps is registered: each environment truncates its episodes itself, after `horizon` steps.
    """
    import gymnasium

    for name, entry in ENVIRONMENTS.items():
        if name not in gymnasium.registry:
            gymnasium.register(id=name, entry_point=entry)


def _entry(name: str) -> str:
    if name not in ENVIRONMENTS:
        raise ConfigError(f"{name!r} is no environment of konspekt's; {nearest(name, ENVIRONMENTS)}")
    return ENVIRONMENTS[name]
