"""Receptive fields by arithmetic: which pixels can change a unit.

Araujo, Norris and Sim 2019, "Computing receptive fields of convolutional neural networks",
https://doi.org/10.23915/distill.00021; the arithmetic stands in `fields`, what an operation does to it in `propagation`.
Course: row A17.
"""

from __future__ import annotations

from typing import Any

from konspekt.core.errors import ConfigError
from konspekt.core.registry import system
from konspekt.explain.capture import no_layer
from konspekt.explain.fields import Field
from konspekt.explain.subject import InputSize, Subject, subject_of
from konspekt.explain.trace import trace

__all__ = ["last_map", "receptive_field", "receptive_fields"]


def receptive_fields(net: Any, input_size: InputSize = None) -> dict[str, Field]:
    """The receptive field of every layer's units, by the layer's name, in the order of the net.

    net, input_size: as for `summary`. Modules with inner modules are there too, under their names, and functions that a
    module calls, such as "layer1.0.add".

    Raises ConfigError where the net cannot be run on such images, or does what no rule follows.
    """
    found = trace(subject_of(net, input_size))
    if found.lost is not None:
        raise found.lost
    return found.fields


@system(name="receptive-field", kind="tool", rows=("A17",), paper="Araujo, Norris and Sim 2019")
def receptive_field(net: Any, layer: str | None = None, input_size: InputSize = None) -> Field:
    """The receptive field of a layer's units; layer=None: of the last map, before global pooling and full layers.

    Raises ConfigError as `receptive_fields` does, if that happens before the layer, and where there is no such layer or no
    map at all.
    """
    subject = subject_of(net, input_size)
    found = trace(subject)
    if found.lost is not None and layer not in found.fields:
        raise found.lost
    if layer is None:
        layer = last_map(subject, found.shapes)
    if layer not in found.fields:
        raise no_layer(subject.net, layer, found.fields)
    return found.fields[layer]


def last_map(subject: Subject, shapes: dict[str, tuple[int, ...]]) -> str:
    """The name of the last layer whose output is a map with more than one unit, else with one."""
    maps = [name for name, shape in shapes.items() if len(shape) == 3]
    if not maps:
        raise ConfigError(
            f"{subject.name} has no convolution, nor any other layer that gives a map: each unit sees the whole image"
        )
    return [n for n in maps if max(shapes[n][1:]) > 1 or n == maps[0]][-1]
