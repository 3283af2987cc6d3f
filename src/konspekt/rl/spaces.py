"""Spaces of observations and actions: as arrays of one shape, as JSON in a saved model, as words in a message.

An observation of parts (Dict, Tuple) becomes whole numbers where each part is one (Discrete, MultiDiscrete), so that a table can be
indexed by it; otherwise gymnasium flattens it. All others stay what they are, but for floats of a width that is seldom computed with.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from konspekt.core.errors import ConfigError, DataError

__all__ = ["arrays_of", "is_pixels", "same_space", "space_from_json", "space_to_json", "to_array", "words"]

_PLAIN = (spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)
_MOST = 2**25  # numbers of an observation: more is a damaged file, as each takes 30 bytes for its bounds
_MOST_STATES = 100_000_000  # of a Discrete one


def arrays_of(space: gymnasium.Space[Any]) -> gymnasium.Space[Any]:
    """The space of the arrays that agents see of observations of `space`.

    Raises ConfigError where they, or a part of them, are neither numbers nor numbered, such as text, or have no fixed size.
    """
    if isinstance(space, spaces.Box) and _is_odd(space):
        low, high = (bound.astype(np.float32) for bound in (space.low, space.high))
        return spaces.Box(low, high, dtype=np.float32)
    if isinstance(space, _PLAIN):
        return space
    leaves = list(_leaves(space))
    strange = next((leaf for leaf in leaves if not isinstance(leaf, _PLAIN)), None)
    if strange is not None:
        part = "" if strange is space else f", a part of {words(space)},"
        raise ConfigError(
            f"observations of {words(strange)}{part} are taken by no agent here; make them an array of numbers with "
            "gymnasium.wrappers.TransformObservation"
        )
    if _is_whole(leaves):
        many = [leaf if isinstance(leaf, spaces.MultiDiscrete) else _as_many(leaf) for leaf in leaves]
        return spaces.MultiDiscrete(
            np.concatenate([one.nvec.ravel() for one in many]),
            start=np.concatenate([one.start.ravel() for one in many]),
        )
    return spaces.flatten_space(space)


def _as_many(space: Any) -> spaces.MultiDiscrete:
    return spaces.MultiDiscrete([space.n], start=[space.start])


def _is_odd(space: spaces.Box) -> bool:
    """Whether its floats are of a width, half or long, that compiled code and torch do not both take."""
    return np.dtype(space.dtype).kind == "f" and np.dtype(space.dtype).itemsize not in (4, 8)


def _is_whole(leaves: list[gymnasium.Space[Any]]) -> bool:
    return bool(leaves) and all(isinstance(leaf, (spaces.Discrete, spaces.MultiDiscrete)) for leaf in leaves)


def _leaves(space: gymnasium.Space[Any]) -> Iterator[gymnasium.Space[Any]]:
    """The spaces that it is made of, in the order in which gymnasium flattens them."""
    if isinstance(space, (spaces.Dict, spaces.Tuple)):
        for part in space.spaces.values() if isinstance(space, spaces.Dict) else space.spaces:
            yield from _leaves(part)
    else:
        yield space


def _values(space: gymnasium.Space[Any], observation: Any) -> Iterator[NDArray[Any]]:
    """What an observation has for each of `_leaves`."""
    if isinstance(space, spaces.Dict):
        for name, part in space.spaces.items():
            yield from _values(part, observation[name])
    elif isinstance(space, spaces.Tuple):
        for part, value in zip(space.spaces, observation, strict=True):
            yield from _values(part, value)
    else:
        yield np.asarray(observation, dtype=np.int64).ravel()


def to_array(space: gymnasium.Space[Any], observation: Any) -> NDArray[Any]:
    """One observation of `space` as an array of `arrays_of(space)`; a Discrete one becomes a number (), int64."""
    if isinstance(space, spaces.Box) and _is_odd(space):
        return np.asarray(observation, dtype=np.float32)
    if isinstance(space, _PLAIN):
        return np.asarray(observation, dtype=np.int64 if isinstance(space, spaces.Discrete) else space.dtype)
    if _is_whole(list(_leaves(space))):
        return np.concatenate(list(_values(space, observation)))
    return np.asarray(spaces.flatten(space, observation), dtype=arrays_of(space).dtype)


def is_pixels(space: gymnasium.Space[Any]) -> bool:
    """Whether observations are pictures: uint8, (H, W) or (H, W, C)."""
    return isinstance(space, spaces.Box) and space.dtype == np.uint8 and len(space.shape) in (2, 3)


def words(space: gymnasium.Space[Any]) -> str:
    """A space in a few words, for messages."""
    if isinstance(space, spaces.Discrete):
        return f"Discrete({space.n})" + (f" from {space.start}" if space.start else "")
    if isinstance(space, spaces.Box):
        return f"Box{space.shape} of {space.dtype}"
    if isinstance(space, spaces.MultiDiscrete):
        return f"MultiDiscrete({space.nvec.tolist()})" + (f" from {space.start.tolist()}" if space.start.any() else "")
    if isinstance(space, spaces.Dict):
        return f"Dict({', '.join(f'{name}: {words(part)}' for name, part in space.spaces.items())})"
    if isinstance(space, spaces.Tuple):
        return f"Tuple({', '.join(map(words, space.spaces))})"
    if isinstance(space, spaces.MultiBinary):
        return f"MultiBinary({', '.join(map(str, space.shape))})"
    return type(space).__name__


def same_space(one: gymnasium.Space[Any], other: gymnasium.Space[Any]) -> bool:
    """Whether observations or actions of the one are those of the other, bounds of boxes apart."""
    return _form(space_to_json(one)) == _form(space_to_json(other))


def _form(data: dict[str, Any]) -> Any:
    if data["type"] in ("dict", "tuple"):
        parts = data["parts"]
        return data["type"], [(n, _form(p)) for n, p in parts]
    return {k: v for k, v in data.items() if k not in ("low", "high")}


def space_to_json(space: gymnasium.Space[Any]) -> dict[str, Any]:
    """A space as JSON.

    Raises ConfigError on a kind of space that cannot be saved.
    """
    if isinstance(space, spaces.Discrete):
        return {"type": "discrete", "n": int(space.n), "start": int(space.start)}
    if isinstance(space, spaces.MultiDiscrete):
        return {"type": "multi-discrete", "nvec": space.nvec.tolist(), "start": space.start.tolist()}
    if isinstance(space, spaces.MultiBinary):
        return {"type": "multi-binary", "shape": list(space.shape)}
    if isinstance(space, spaces.Box):
        bounds = {"low": _bound(space.low), "high": _bound(space.high)}
        return {"type": "box", "shape": list(space.shape), "dtype": str(space.dtype)} | bounds
    if isinstance(space, spaces.Dict):
        return {"type": "dict", "parts": [[k, space_to_json(s)] for k, s in space.spaces.items()]}
    if isinstance(space, spaces.Tuple):
        return {"type": "tuple", "parts": [[str(i), space_to_json(s)] for i, s in enumerate(space.spaces)]}
    raise ConfigError(f"a space {type(space).__name__} cannot be saved; wrap the environment so that it is a Box")


def space_from_json(data: Any) -> gymnasium.Space[Any]:
    """The inverse of `space_to_json`.

    Raises DataError where the JSON describes no space.
    """
    try:
        count = _numbers(data)
        if not 0 <= count <= _MOST:  # before the bounds take memory
            raise ValueError(f"{count:,} numbers")
        return _from_json(data)
    except (LookupError, TypeError, ValueError, AttributeError, AssertionError, ArithmeticError, MemoryError) as error:
        raise DataError(f"a space in config.json is damaged ({type(error).__name__}: {str(error)[:80]})") from None
    except RecursionError:
        raise DataError("a space in config.json is damaged: too many parts stand in each other") from None


def _numbers(data: Any) -> int:
    """How many numbers the arrays of a space that is described by JSON would have."""
    leaves = list(_described(data))
    flattened = data["type"] in ("dict", "tuple") and any(one["type"] in ("box", "multi-binary") for one in leaves)
    count = 0
    for one in leaves:
        if one["type"] == "discrete":
            count += int(one["n"]) if flattened else 1
        elif one["type"] == "multi-discrete":
            sizes = np.array(one["nvec"], np.int64)
            count += sum(map(int, sizes.ravel())) if flattened else sizes.size
        else:
            count += math.prod(int(n) for n in one["shape"])
    return count


def _described(data: Any) -> Iterator[Any]:
    if data["type"] in ("dict", "tuple"):
        for _, part in data["parts"]:
            yield from _described(part)
    else:
        yield data


def _from_json(data: Any) -> gymnasium.Space[Any]:
    kind = data["type"]
    if kind == "discrete":
        if not 1 <= data["n"] <= _MOST_STATES:
            raise ValueError(f"n = {data['n']}")
        return spaces.Discrete(int(data["n"]), start=int(data["start"]))
    if kind == "multi-discrete":
        return spaces.MultiDiscrete(np.array(data["nvec"], np.int64), start=np.array(data["start"], np.int64))
    if kind == "multi-binary":
        shape = [int(n) for n in data["shape"]]
        return spaces.MultiBinary(shape[0] if len(shape) == 1 else shape)
    if kind == "box":
        shape = tuple(int(n) for n in data["shape"])
        if min(shape, default=1) < 1 or np.dtype(data["dtype"]).kind not in "biuf":
            raise ValueError(f"a box {shape} of {data['dtype']}")
        dtype: Any = np.dtype(data["dtype"])
        low, high = (_unbound(data[side], shape, dtype) for side in ("low", "high"))
        return spaces.Box(low, high, shape=shape, dtype=dtype)
    parts = [(str(name), _from_json(part)) for name, part in data["parts"]]
    if kind == "dict":
        return spaces.Dict(dict(parts))
    if kind == "tuple":
        return spaces.Tuple([part for _, part in parts])
    raise ValueError(f"type {kind!r}")


def _bound(bound: NDArray[Any]) -> Any:
    """A box's bound as JSON: one number where all are alike; infinities as text."""
    alike = bool((bound == bound.flat[0]).all())
    listed = [_number(x) for x in (bound.flat[:1] if alike else bound.ravel())]
    return listed[0] if alike else listed


def _number(x: Any) -> Any:
    value = x.item()
    return value if not isinstance(value, float) or math.isfinite(value) else str(value)


def _unbound(data: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    given = [float(x) if isinstance(x, str) else x for x in (data if isinstance(data, list) else [data])]
    array = np.array(given, dtype)
    return np.broadcast_to(array.reshape(shape if len(array) > 1 else ()), shape).astype(dtype)
