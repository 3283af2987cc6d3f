"""The summary of a net: layers, shapes, parameters, multiply-adds, memory, receptive fields.

Multiply-adds are those of convolutions and matrix products, as papers count them; additions of biases, normalisation,
activations and pooling are not in them. Memory is what training keeps of a layer for the backward pass, for one image:
measured through autograd, each tensor once. Course: row A17, I§21.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from torch import nn

from konspekt.core.registry import system
from konspekt.explain.fields import Field
from konspekt.explain.subject import InputSize, subject_of
from konspekt.explain.trace import Step, Trace, trace

__all__ = ["LayerRow", "Summary", "summary"]

MOST_ROWS = 60  # of a table that shows every layer; beyond that blocks are shown


@dataclass(frozen=True)
class LayerRow:
    """One row of a summary.

    name: the module's path; a function's has its caller's path in front. kind: class or function, with the window as
    "7x7/2", sides and stride. shape: of the output, without the batch. parameters: those that no row above has.
    multiply_adds: for one image. memory: bytes kept for the backward pass of one image.
    field: what a unit sees of the image; None where the output has nothing of it.
    formula: how height and width come about.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    parameters: int
    multiply_adds: int
    memory: int
    field: Field | None
    formula: str = ""

    def to_json(self) -> dict[str, Any]:
        """Only numbers, strings and lists."""
        field = None if self.field is None else self.field.to_json()
        return {**vars(self), "shape": list(self.shape), "field": field}


@dataclass(frozen=True)
class Summary:
    """What `summary` gives; str() of it is a table of at most 80 columns.

    layers: one row for each call of a layer. blocks: the same, taken together by blocks, where there are many layers.
    unfollowed: the operation that no rule of receptive fields follows, and why; empty where all are. Behind it field is None.
    parameters, trainable, multiply_adds: of the whole net. weight_memory: bytes of its parameters. memory: bytes that
    training keeps for the backward pass of one image; auxiliary heads are not in it.
    verbose: whether str() shows every layer, and how its size comes about.
    """

    name: str
    image: tuple[int, int, int]
    layers: tuple[LayerRow, ...]
    blocks: tuple[LayerRow, ...]
    parameters: int
    trainable: int
    weight_memory: int
    verbose: bool = False
    unfollowed: str = ""

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds for one image."""
        return sum(row.multiply_adds for row in self.layers)

    @property
    def memory(self) -> int:
        """Bytes kept for the backward pass of one image."""
        return sum(row.memory for row in self.layers)

    def to_json(self) -> dict[str, Any]:
        """Only numbers, strings and lists; every layer is there."""
        return {
            "name": self.name,
            "image": list(self.image),
            "parameters": self.parameters,
            "trainable": self.trainable,
            "weight_memory": self.weight_memory,
            "multiply_adds": self.multiply_adds,
            "memory": self.memory,
            "unfollowed": self.unfollowed,
            "layers": [row.to_json() for row in self.layers],
        }

    def text(self, width: int = 80, *, verbose: bool | None = None) -> str:
        """The table, at most `width` (at least 60) columns wide."""
        verbose = self.verbose if verbose is None else verbose
        rows = self.layers if verbose else self.blocks
        head = ("layer", "type", "output", "params", "mult-adds", "memory", "field")
        cells = [_cells(row) for row in rows]
        total = ("total", "", "", f"{self.parameters:,}", _short(self.multiply_adds), _bytes(self.memory), "")
        widths = [max(len(row[i]) for row in (head, total, *cells)) for i in range(7)]
        spare = max(width, 60) - sum(widths[2:]) - 2 * 6
        widths[1] = min(widths[1], max(spare - widths[0], spare // 2 - 2))
        widths[0] = min(widths[0], spare - widths[1])
        lines = [_line(head, widths), "-" * (sum(widths) + 12)]
        for row, texts in zip(rows, cells, strict=True):
            lines.append(_line(texts, widths))
            if verbose and row.formula:
                lines += _wrapped(row.formula, max(width, 60))
        lines += ["-" * (sum(widths) + 12), _line(total, widths), ""]
        return "\n".join(lines + self._words(max(width, 60)))

    def _words(self, width: int) -> list[str]:
        import textwrap

        image = " x ".join(map(str, self.image))
        frozen = self.parameters - self.trainable
        words = [
            f"For one image of {image} (channels x height x width). Weights: {_bytes(self.weight_memory)}"
            + (f", of {frozen:,} parameters that are frozen" if frozen else "")
            + ". mult-adds: of convolutions and matrix products. memory: what training keeps for the backward pass. field: "
            "side in pixels of the square that a unit sees, height x width where they differ, padding included."
        ]
        if self.unfollowed:
            words.append(f"Fields are not known to the end: {self.unfollowed}.")
        if len(self.blocks) < len(self.layers) and not self.verbose:
            words.append(f"{len(self.layers)} layers, taken together by blocks; verbose shows each.")
        return textwrap.wrap(" ".join(words), width, break_on_hyphens=False)

    def __str__(self) -> str:
        return self.text()


@system(name="summary", kind="tool", rows=("A17",), paper="He, Zhang, Ren and Sun 2016")
def summary(net: Any, input_size: InputSize = None, *, verbose: bool = False) -> Summary:
    """What a net is made of, layer by layer, at one size of the images.

    net: a torch net, a fitted estimator of images, or the name of a registered net: "resnet18(width=0.5)". A net that
    is named is neither filled with weights nor computed.
    input_size: side, (height, width) or (channels, height, width) of the images; a bare net needs it.
    verbose: print every layer, and how its size comes about: "(224 + 2*3 - 7) // 2 + 1 = 112".

    Where the net does what no rule of receptive fields follows, as attention and recurrent layers do, all but the fields
    from there on is given, and said so.

    Raises ConfigError where the net cannot be run on such images.
    """
    subject = subject_of(net, input_size)
    found = trace(subject)
    shown = [step for step in found.steps if step.worth]
    rows = [_row(step, found) for step in shown]
    stray = sum(step.memory for step in found.steps if not step.worth)
    if stray and rows:
        rows[0] = _with_memory(rows[0], stray)
    parameters = list(subject.net.parameters())
    return Summary(
        subject.name,
        subject.shape,
        tuple(rows),
        tuple(_blocks(subject.net, rows, found)),
        sum(p.numel() for p in parameters),
        sum(p.numel() for p in parameters if p.requires_grad),
        sum(p.numel() * p.element_size() for p in parameters),
        verbose,
        "" if found.lost is None else str(found.lost),
    )


def _row(step: Step, found: Trace) -> LayerRow:
    return LayerRow(
        step.name,
        step.kind,
        step.shape,
        step.parameters,
        step.multiply_adds,
        step.memory,
        found.fields.get(step.name),
        step.formula,
    )


def _with_memory(row: LayerRow, more: int) -> LayerRow:
    return LayerRow(**{**vars(row), "memory": row.memory + more})


def _blocks(net: nn.Module, rows: list[LayerRow], found: Trace) -> list[LayerRow]:
    """The rows, where they are few; else those of a block taken together: an outermost module that is no mere container."""
    if len(rows) <= MOST_ROWS:
        return rows
    modules = dict(net.named_modules())
    groups: list[tuple[str, list[LayerRow]]] = []
    for row in rows:
        path = _block(row, modules)
        if groups and groups[-1][0] == path:
            groups[-1][1].append(row)
        else:
            groups.append((path, [row]))
    return [g[0] if len(g) == 1 else _together(g, path, modules, found) for path, g in groups]


def _block(row: LayerRow, modules: dict[str, nn.Module]) -> str:
    parts = row.name.partition(":")[0].split(".")
    for depth in range(1, len(parts)):
        path = ".".join(parts[:depth])
        if path in modules and not isinstance(modules[path], (nn.Sequential, nn.ModuleList, nn.ModuleDict)):
            return path
    return row.name


def _together(rows: list[LayerRow], path: str, modules: dict[str, nn.Module], found: Trace) -> LayerRow:
    return LayerRow(
        path,
        type(modules[path]).__name__,
        found.shapes.get(path, rows[-1].shape),
        sum(r.parameters for r in rows),
        sum(r.multiply_adds for r in rows),
        sum(r.memory for r in rows),
        found.fields.get(path, rows[-1].field),
    )


def _cells(row: LayerRow) -> tuple[str, ...]:
    return (
        row.name,
        row.kind.replace("2d", "", 1),
        "x".join(map(str, row.shape)),
        f"{row.parameters:,}" if row.parameters else "-",
        _short(row.multiply_adds) if row.multiply_adds else "-",
        _bytes(row.memory) if row.memory else "-",
        "-" if row.field is None else str(row.field),
    )


def _line(texts: tuple[str, ...], widths: list[int]) -> str:
    name = texts[0] if len(texts[0]) <= widths[0] else "~" + texts[0][-widths[0] + 1 :]
    kind = texts[1] if len(texts[1]) <= widths[1] else _squeezed(texts[1], widths[1])
    cells = [f"{name:<{widths[0]}}", f"{kind:<{widths[1]}}"]
    cells += [f"{text:>{w}}" for text, w in zip(texts[2:], widths[2:], strict=True)]
    return "  ".join(cells).rstrip()


def _squeezed(kind: str, width: int) -> str:
    """A type with its class cut, so that the window stays."""
    name, _, window = kind.partition(" ")
    room = width - len(window) - 2 if window else width - 1
    return f"{name[:room]}~ {window}".rstrip() if room > 0 else kind[:width]


def _wrapped(formula: str, width: int) -> list[str]:
    import textwrap

    return textwrap.wrap(formula, width, initial_indent="    ", subsequent_indent="      ", break_on_hyphens=False)


def _short(number: float) -> str:
    """A number in three digits: "1.81 G"."""
    if number < 1000:
        return f"{number:g}"
    power = min(int(math.log10(number * 1.0005)) // 3, 4)
    value = number / 1000**power
    return f"{value:.{max(0, 2 - int(math.log10(value)))}f} {'kMGT'[power - 1]}"


def _bytes(number: float) -> str:
    return f"{number} B" if number < 1000 else f"{_short(number)}B"
