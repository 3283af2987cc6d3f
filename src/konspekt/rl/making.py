"""One environment from an id, an instance, or a function that makes one."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from typing import Any, cast

import gymnasium
from gymnasium.envs.registration import EnvSpec

from konspekt.core.errors import ConfigError, DataError
from konspekt.rl.checking import check_env
from konspekt.rl.environments import ENVIRONMENTS, specify

__all__ = ["function_name", "maker", "name_of", "single", "spec_of"]

_PACKAGES = {  # the first name of a missing module -> what to install
    "Box2D": 'pip install "gymnasium[box2d]"',
    "ale_py": 'pip install "gymnasium[atari]" and `import ale_py`',
    "mujoco": 'pip install "gymnasium[mujoco]"',
    "pygame": 'pip install "gymnasium[classic-control]"',
    "jax": 'pip install "gymnasium[jax]"',
    "minigrid": "pip install minigrid",
}
_NAMESPACES = {"ALE": "ale_py", "MiniGrid": "minigrid"}
_NEAR = 0.8  # of difflib, between names without their versions: CartPol is near to CartPole, Nope not to Hopper


def name_of(env: Any) -> str:
    """What messages and records call an environment."""
    if isinstance(env, str):
        return env
    if isinstance(env, gymnasium.Env):
        return env.spec.id if env.spec is not None else type(env.unwrapped).__name__
    name = str(getattr(env, "__qualname__", type(env).__name__)).rsplit("<locals>.", 1)[-1]
    return "the function" if name == "<lambda>" else name


def function_name(make: Any) -> str:
    """What messages call a function that makes environments."""
    name = name_of(make) if not isinstance(make, str) else make
    return name if name == "the function" else f"the function {name}"


def spec_of(env: Any) -> EnvSpec | None:
    """What gymnasium.make made an instance from, wrappers included, if it did and another can be made so."""
    try:
        spec = env.spec if isinstance(env, gymnasium.Env) else None
    except (ValueError, AttributeError):  # a wrapper that cannot be described
        return None
    if spec is None or spec.entry_point is None or any(wrapper.kwargs is None for wrapper in spec.additional_wrappers):
        return None
    return spec


def maker(
    env: Any, *, again: str = "", max_episode_steps: int | None = None, render: bool = False
) -> Callable[[], gymnasium.Env[Any, Any]]:
    """A function that makes an environment of `env`; of an instance it gives the instance itself.

    again: why it is called more than once, or in another process, such as "n_envs=8", if it is; an instance has then to be one that
    gymnasium.make can make again.
    Raises ConfigError if `env` is nothing of the kind, or an instance that cannot be made again and has to be.
    """
    if isinstance(env, str):
        what = _registered(env)
        return lambda: _limited(_made(what, render), max_episode_steps)
    if isinstance(env, gymnasium.vector.VectorEnv):
        raise ConfigError(
            f"env is a vector of {env.num_envs} environments: give an id, one environment or a function that makes one, and n_envs"
        )
    if isinstance(env, gymnasium.Env):
        if not again:
            return lambda: _limited(env, max_episode_steps, own=False)
        spec = spec_of(env)
        if spec is None:
            which = again.split("=")[0]
            need = "environments stepped together" if which == "n_envs" else "environments in processes of their own"
            raise ConfigError(
                f"{again} asks for {need}, and an instance ({name_of(env)}) cannot be copied: give a function that makes one, an id, "
                f"or {which}={int(which == 'n_envs')}"
            )
        return lambda: _limited(_made(spec, render), max_episode_steps)
    if callable(env):
        return lambda: _limited(_called(env), max_episode_steps)
    raise ConfigError(
        f"env is {str(env)[:60]!r} ({type(env).__name__}), where an id such as 'CartPole-v1', a gymnasium.Env, or a function that "
        "makes one is needed"
    )


def single(env: Any, *, max_episode_steps: int | None = None, render: bool = False) -> gymnasium.Env[Any, Any]:
    """One environment from an id, an instance (itself) or a function.

    max_episode_steps: a time limit in the place of the environment's own. render: frames can be asked for (rgb_array).
    Raises ConfigError for what names or makes no environment, DataError for what does not behave as one.
    """
    made = maker(env, max_episode_steps=max_episode_steps, render=render)()
    check_env(made, name_of(env))
    return made


def _registered(name: str) -> str | EnvSpec:
    """What an id stands for: other processes do not know what was registered in this one.

    Raises ConfigError unless it is registered, with what is near.
    """
    if ":" in name:  # "module:id": gymnasium imports the module, which registers it
        return name
    if name in ENVIRONMENTS:
        return specify(name)
    known = {**gymnasium.registry, **dict.fromkeys(ENVIRONMENTS)}
    if name in gymnasium.registry:
        return gymnasium.registry[name]
    space = name.split("/")[0] if "/" in name else ""
    module = _NAMESPACES.get(space)
    if module is not None and not any(other.startswith(f"{space}/") for other in known):
        raise ConfigError(f"{name!r} is not registered: {_PACKAGES[module]} first")
    versions = sorted((other for other in known if _without_version(other) == _without_version(name)), key=_version)
    if versions and _without_version(name) == name:
        return _registered(versions[-1])  # as gymnasium does, which warns besides
    raise ConfigError(f"no environment {_cut(name)!r}: {_instead(name, versions, known)}")


def _instead(name: str, versions: list[str], known: Iterable[str]) -> str:
    """What to do in the place of an id that is not registered: gymnasium's reason, its versions, what is near, or how to go on."""
    try:
        gymnasium.spec(name)
    except gymnasium.error.DeprecatedEnv as error:
        return " ".join(str(error).split())
    except gymnasium.error.Error:
        pass  # what is there is said better below
    if versions:
        return f"there is {', '.join(versions)}; did you mean {versions[-1]!r}?"
    bases = {_without_version(other).lower(): other for other in sorted(known, key=_version)}  # the newest of each
    folded = re.sub(r"[-_ ]v?\d+$", "", name.strip(" /").lower())
    close = get_close_matches(folded, bases, n=1, cutoff=_NEAR)
    if close:
        return f"did you mean {bases[close[0]]!r}?"
    inside = sorted(other for other in known if "/" in name and other.startswith(name.split("/")[0] + "/"))
    if inside:
        return f"there is {', '.join(inside)}"
    return (
        "gymnasium.pprint_registry() in Python lists the ids; one that a module of yours registers is 'module:id', and in Python an "
        "environment or a function that makes one will do"
    )


def _cut(name: str) -> str:
    return name if len(name) <= 60 else f"{name[:60]}..."


def _without_version(name: str) -> str:
    return re.sub(r"-v\d+$", "", name)


def _version(name: str) -> int:
    found = re.search(r"-v(\d+)$", name)
    return int(found[1]) if found else -1


def _made(what: str | EnvSpec, render: bool) -> gymnasium.Env[Any, Any]:
    name = what if isinstance(what, str) else what.id
    options: dict[str, Any] = {"render_mode": "rgb_array"} if render else {}
    try:
        with warnings.catch_warnings():
            # Box2D's bindings warn while they are loaded, and where warnings are errors the process falls.
            warnings.filterwarnings("ignore", "builtin type .* has no __module__ attribute", DeprecationWarning)
            return gymnasium.make(what, disable_env_checker=True, **options)
    except (gymnasium.error.DependencyNotInstalled, ImportError) as error:
        text = " ".join(str(error).split())[:300]
        if type(error) is ImportError:  # moved elsewhere, as it says
            raise ConfigError(f"{name} cannot be made: {text}") from error
        missing = next((pip for module, pip in _PACKAGES.items() if re.search(rf"\b{module}\b", text, re.I)), None)
        advice = f": {missing}" if missing else f" ({text})"
        raise ConfigError(f"{name} needs a package that is not installed{advice}") from error
    except (gymnasium.error.Error, TypeError, ValueError) as error:
        raise ConfigError(f"{name} cannot be made: {' '.join(str(error).split())[:300]}") from error
    except Exception as error:  # what is registered may be the user's own
        text = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        raise DataError(f"{name} cannot be made: it raised {text}; mend the environment") from error


def _called(make: Callable[[], Any]) -> gymnasium.Env[Any, Any]:
    name = function_name(make)
    try:
        made = make()
    except Exception as error:
        raise DataError(f"{name}, which is to make an environment, raised {type(error).__name__}: {error}") from error
    check_env(made, name)
    return cast("gymnasium.Env[Any, Any]", made)


def _limited(env: gymnasium.Env[Any, Any], steps: int | None, *, own: bool = True) -> gymnasium.Env[Any, Any]:
    """With a time limit of so many steps, in the place of its own if it has one.

    own: it was made here. Of a user's instance the limit inside is changed only where it is the shorter one.
    """
    if steps is None:
        return env
    layer: Any = env
    while isinstance(layer, gymnasium.Wrapper):
        if isinstance(layer, gymnasium.wrappers.TimeLimit) and (own or steps > layer._max_episode_steps):
            layer._max_episode_steps = steps
            return env
        layer = layer.env
    return gymnasium.wrappers.TimeLimit(env, steps)
