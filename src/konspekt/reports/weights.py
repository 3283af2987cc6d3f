"""The weights of the first layer: filters as pictures, or how much of each input the layer takes.

Only the header of model/weights.safetensors is read, and one tensor.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
from markupsafe import Markup

from konspekt.core.errors import DataError
from konspekt.core.folders import read_json
from konspekt.reports.drawers import png
from konspekt.reports.reading import Folder, dicts, mapping
from konspekt.reports.templates import Bar, Tile, heading, part, sentence, table
from konspekt.reports.words import decimal, number, short

__all__ = ["first_layer"]

MAX_FILTERS = 64
MAX_INPUTS = 30
MAX_WEIGHTS = 1 << 22  # of the tensor that is read
MIN_SIDE = 3  # pixels: smaller filters are no pictures
Shape = tuple[int, ...]


def first_layer(folder: Folder) -> Markup | None:
    """Filters where the first layer is a convolution over pixels, norms where it is a matrix over numbers."""
    from safetensors import SafetensorError

    channels = mapping(folder.data.get("image")).get("channels")
    try:
        if channels in (1, 3):
            found = _first(folder, lambda s: len(s) == 4 and s[1] == channels and min(s[2:]) >= MIN_SIDE)
            return _filters(found) if found is not None else None
        if "weights" in folder.kept or not (columns := _inputs(folder)):  # a linear model keeps all of its weights
            return None
        found = _first(folder, lambda s: len(s) == 2 and s[1] == len(columns))
        return _norms(found, columns) if found is not None else None
    except (DataError, SafetensorError, OSError, ValueError, TypeError, KeyError) as error:
        return sentence(f"The first layer is not shown: model/ is not readable ({short(error, 120)}).", "note")


def _filters(weights: np.ndarray) -> Markup:
    """weights: (filters, 1 or 3, height, width)."""
    shown = weights[:MAX_FILTERS]
    top = float(np.abs(shown).max()) or 1.0
    tiles = [
        Tile(png(np.moveaxis(127.5 * (1 + w / top), 0, -1), 0.0, 255.0), f"Filter {i + 1}") for i, w in enumerate(shown)
    ]
    height, width = weights.shape[2:]
    colour = "of three colours" if weights.shape[1] == 3 else "of one channel"
    count = f"The first {MAX_FILTERS} of {number(len(weights))}" if len(weights) > MAX_FILTERS else number(len(weights))
    text = (
        f"{count} filters of {height} × {width} pixels, {colour}. Mid-grey is zero, brighter is above, darker below; "
    )
    text += f"the largest weight is {number(top, 3)}."
    return (
        heading("First-layer filters") + part("gallery", tiles, "First-layer filters", "small") + sentence(text, "note")
    )


def _norms(weights: np.ndarray, names: list[str]) -> Markup:
    """weights: (units, inputs)."""
    norms = np.linalg.norm(weights.astype(float), axis=0)
    top = float(norms.max()) or 1.0
    order = np.argsort(-norms, kind="stable")
    rows = [[short(names[i], 60), decimal(float(norms[i])), Bar(float(norms[i]) / top)] for i in order[:MAX_INPUTS]]
    note = f"The norm of the {number(len(weights))} weights that an input has. Inputs are standardised, so the norms can be "
    note += "compared; what later layers do with them is not in them."
    if len(names) > MAX_INPUTS:
        note = f"The {MAX_INPUTS} largest of {number(len(names))}. {note}"
    return heading("First-layer weights by input") + table("First-layer weights", ["input", "norm", ""], rows, note)


def _inputs(folder: Folder) -> list[str]:
    """The names of a table's inputs, as TableSchema.feature_names has them.

    Empty where there are categories: their embeddings stand before the first layer.
    """
    file = folder.path / "model" / "config.json"
    if not dicts(folder.data.get("columns")) or not file.is_file():
        return []
    schema = mapping(mapping(mapping(read_json(file)).get("learned")).get("schema"))
    columns = dicts(schema.get("columns"))
    numbers = [c for c in columns if c.get("type") == "number"]
    if any(c.get("type") == "category" for c in columns):
        return []
    gaps = [c for c in numbers if isinstance(c.get("missing"), int) and c["missing"] > 0]
    return [str(c.get("name")) for c in numbers] + [f"{c.get('name')} is missing" for c in gaps]


def _first(folder: Folder, fits: Callable[[Shape], bool]) -> np.ndarray | None:
    """The first weight of this shape, in the order of the layers; None where there is none."""
    from safetensors import safe_open

    file = folder.path / "model" / "weights.safetensors"
    if file.is_symlink() or not file.is_file():
        return None
    layers = [str(layer.get("name")) for layer in dicts(folder.result.get("layers"))]

    def place(key: str) -> Any:
        inner = key.rpartition(".")[0]
        at = [i for i, name in enumerate(layers) if name and (inner == name or inner.endswith(f".{name}"))]
        spelt = [(0, int(p), "") if p.isdigit() else (1, 0, p) for p in re.split(r"(\d+)", key) if p]
        return at[-1] if at else len(layers), spelt

    with safe_open(str(file), framework="numpy") as tensors:
        shapes = {key: tuple(tensors.get_slice(key).get_shape()) for key in tensors.keys()}  # noqa: SIM118
        fitting = [k for k, s in shapes.items() if fits(s) and 0 < np.prod(s) <= MAX_WEIGHTS]
        found = tensors.get_tensor(min(fitting, key=place)) if fitting else None
    return found if found is not None and found.dtype.kind == "f" and np.isfinite(found).all() else None
