"""One operation of a net, as the rules of receptive fields see it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from konspekt.core.errors import ConfigError
from konspekt.explain.fields import Axis

__all__ = ["Call", "Seen", "along", "moved", "only_map", "per_dim", "refusal", "same", "tensors"]

Seen = tuple[Axis, Axis]  # rows, columns


@dataclass
class Call:
    """One call of an operation. given: its arguments by name. seen: the fields of the tensors that come from the image."""

    name: str
    pointwise: bool
    given: dict[str, Any]
    out: Any
    seen: Callable[[Tensor], Seen | None]

    @property
    def inputs(self) -> list[tuple[Tensor, Seen]]:
        """The tensors among the arguments that come from the image."""
        found = [(t, self.seen(t)) for t in tensors(self.given.values())]
        return [(t, s) for t, s in found if s is not None]


def tensors(value: Any) -> Iterator[Tensor]:
    """The tensors in nested lists."""
    if isinstance(value, Tensor):
        yield value
    elif not isinstance(value, (str, bytes)) and isinstance(value, (Sequence, type({}.values()))):
        for part in value:
            yield from tensors(part)


def same(a: Seen, b: Seen) -> bool:
    """Whether both say the same."""
    return a[0].same(b[0]) and a[1].same(b[1])


def refusal(call: Call, why: str) -> ConfigError:
    """What to raise where no rule follows."""
    return ConfigError(
        f"receptive fields cannot be followed through the operation {call.name!r}: {why}; effective_field(...) shows by "
        "gradient what a unit sees"
    )


def only_map(call: Call) -> tuple[Tensor, Seen]:
    """The only tensor that comes from the image."""
    if len(call.inputs) != 1:
        raise refusal(call, f"{len(call.inputs)} of its arguments come from the image")
    return call.inputs[0]


def per_dim(value: Any, count: int) -> list[int]:
    """An argument that is a number for each dimension, or one for all."""
    listed = [value] if isinstance(value, int) else list(value)
    return listed * count if len(listed) == 1 else listed


def along(call: Call, x: Tensor, seen: Seen, dims: int, change: Callable[[Axis, int], Axis]) -> Seen:
    """Change the axes that lie in the last `dims` dimensions; change gets the axis and which of those it is."""
    first = x.ndim - dims

    def one(axis: Axis) -> Axis:
        if axis.fold is not None:
            raise refusal(call, "the map was flattened before it")
        return axis if axis.dim is None or axis.dim < first else change(axis, axis.dim - first)

    return one(seen[0]), one(seen[1])


def moved(seen: Seen, place: Callable[[int], int | None]) -> Seen:
    """Renumber the dimensions; None: the dimension, of one unit, is gone."""

    def one(axis: Axis) -> Axis:
        return axis if axis.dim is None else replace(axis, dim=place(axis.dim))

    return one(seen[0]), one(seen[1])
