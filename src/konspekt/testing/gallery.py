"""The pictures of docs/gallery.md.

    python -m konspekt.testing.gallery     writes docs/gallery/*.png

It runs somewhere inside the repository, trains two small nets and takes about a minute. The photographs and the digits
are scikit-learn's own. The lines of code on the page are lines of this file and of gallery_rows.py, as a test sees to.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from konspekt import explain
from konspekt.cluster.generators import SHAPES, shapes
from konspekt.core.errors import KonspektError
from konspekt.core.folders import write_file
from konspekt.core.params import build
from konspekt.explain.pruning import Pruned
from konspekt.explain.sheets import Panel, Sheet
from konspekt.testing.docs import repository
from konspekt.testing.gallery_rows import (
    AUGMENTATIONS,
    augmented,
    batch,
    fit_digits,
    fit_scenes,
    handwritten,
    mixed,
    photograph,
    tensor,
)
from konspekt.vision.classifier import ImageClassifier

__all__ = [
    "AUGMENTATIONS",
    "NETS",
    "PRUNING",
    "augmented",
    "batch",
    "fit_digits",
    "fit_scenes",
    "handwritten",
    "main",
    "mixed",
    "photograph",
    "pictures",
    "png",
    "tensor",
]

FOLDER = Path("docs/gallery")
FULL = 145_000  # bytes that a figure in full colour may take
NETS = {  # name -> the layer whose units look at the image, and the size of the image for the gradient
    "lenet": ("conv2", 32),
    "alexnet": ("features", 448),
    "vgg16": ("features", 448),
    "resnet18": ("layer4", 448),
    "googlenet": ("inception5b", 448),
}
PRUNING: dict[str, Any] = {"share": (0.5, 0.8, 0.9, 0.95, 0.98), "epochs": 2}
ARITHMETIC, GRADIENT = "#e69f00", "#56b4e9"  # Okabe and Ito's orange and sky blue, drawn solid and dashed


# --- what a net sees --------------------------------------------------------------------------------------------------


def _fields(nets: Mapping[str, tuple[str, int]]) -> Any:
    """Receptive fields of nets as frames on one photograph, at one scale: by arithmetic and by gradient."""
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.patches import Rectangle

    figure = Figure(figsize=(7.2, 4.1), facecolor="white")
    spots = figure.subplots(2, 3).ravel()
    figure.subplots_adjust(left=0.01, right=0.99, top=0.97, bottom=0.09, wspace=0.04, hspace=0.22)
    for axes in spots:
        axes.set_axis_off()
    for axes, (name, (layer, side)) in zip(spots, nets.items(), strict=False):
        channels = 1 if name == "lenet" else 3
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            net = build("net", name if name == "lenet" else f"{name}(width=0.25)", channels, 10, (side, side)).eval()
        noise = torch.randn(8, channels, side, side, generator=torch.Generator().manual_seed(0))
        by_arithmetic = explain.receptive_field(net, layer, side).size[0]
        by_gradient = explain.effective_field(net, noise, layer).size
        axes.imshow(photograph("china"))
        for size, colour, style in ((by_arithmetic, ARITHMETIC, "-"), (by_gradient, GRADIENT, "--")):
            corner = (320 - size / 2, 213.5 - size / 2)
            for line, wide in (("black", 3.2), (colour, 1.7)):
                frame = Rectangle(corner, size, size, fill=False, edgecolor=line, linewidth=wide, clip_on=False)
                frame.set_linestyle("-" if line == "black" else style)
                axes.add_patch(frame)
        axes.text(0, 440, f"{name}: {by_arithmetic} and {by_gradient:.0f} pixels", va="top", fontsize=9)
    lines = [
        Line2D([], [], color=ARITHMETIC, linewidth=2.2, label="by arithmetic:\nwhat can move a unit"),
        Line2D([], [], color=GRADIENT, linewidth=2.2, linestyle="--", label="by gradient:\nwhat does move it"),
    ]
    spots[-1].legend(handles=lines, loc="center", frameon=False, fontsize=10, labelspacing=1.2)
    return figure


def _depths(scenes: ImageClassifier, side: int) -> Sheet:
    """What moves a unit of each stage of a trained net."""
    panels = []
    for layer in ("layer1", "layer2", "layer3", "layer4"):
        field = explain.effective_field(scenes.model_.net, None, layer, input_size=(3, side, side))
        panels.append(replace(field.sheet().panels[0], title=f"{layer}: {field.size:.0f} pixels"))
    return Sheet("Effective fields of a trained ResNet-18, thin", panels, "Frame: the field by arithmetic.")


def _without_outliers(found: explain.Evidence, name: str) -> Sheet:
    """Saliency; the brightest half percent is cut off, or a few pixels would leave the rest in the dark."""
    values = found.values / np.quantile(found.values, 0.995)
    panels = [Panel("image", found.picture), Panel(f"for {name}", values.clip(0, 1), "magnitude")]
    return Sheet("Saliency", panels, "As a share of the value that half a percent of all pixels exceed.")


def _evidence(pairs: Iterable[tuple[str, explain.Evidence]]) -> Sheet:
    """Class activation maps below each other."""
    panels = [panel for name, found in pairs for panel in replace(found, target=name).sheet().panels]
    return Sheet("Class activation maps", panels, "As a share of the largest of each.", columns=2)


def _curve(result: Pruned) -> Any:
    """Quality against size."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 3.3), facecolor="white")
    axes = figure.add_axes((0.1, 0.16, 0.72, 0.76))
    size = [point.parameters for point in result.points]
    for name, line, scores in (
        ("fine-tuned", {"color": "#0072b2", "marker": "o"}, [p.after[result.measure] for p in result.points]),
        ("as cut", {"color": "#d55e00", "marker": "s", "linestyle": "--"}, [p.before[result.measure] for p in result.points]),
    ):  # fmt: skip
        axes.plot(size, scores, linewidth=2, **line)
        axes.annotate(
            name, (size[-1], scores[-1]), (9, 0), textcoords="offset points", va="center", color=line["color"]
        )
    axes.set_xscale("log")
    axes.invert_xaxis()  # what is taken away goes to the right
    axes.set_xticks(size, [f"{n:,}" for n in size], fontsize=8)
    axes.minorticks_off()
    axes.set_xlabel("parameters left")
    axes.set_title(f"{result.measure} on held-out digits", loc="left", fontsize=10)
    axes.grid(axis="y", color="#dddddd")
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _kinds() -> Any:
    """The six kinds of clusters, in colours and marks; noise is small and grey."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 4.9), facecolor="white", layout="constrained")
    looks = (("#0072b2", "o"), ("#d55e00", "s"), ("#009e73", "^"), ("#cc79a7", "D"))
    for axes, kind in zip(figure.subplots(2, 3).ravel(), SHAPES, strict=True):
        X, y = shapes(kind, random_state=0)
        axes.plot(*X[y < 0].T, ".", ms=3, mec="none", color="#767676")
        for group, (colour, mark) in enumerate(looks):
            axes.plot(*X[y == group].T, mark, ms=3.2, mec="none", color=colour)
        axes.set_title(kind, loc="left", fontsize=10)
        axes.set(xticks=[], yticks=[], aspect="equal", xlim=(-0.4, 10.4), ylim=(-0.4, 10.4))
    return figure


# --- all of them ------------------------------------------------------------------------------------------------------


def pictures(digits: ImageClassifier, scenes: ImageClassifier, step: int = 1) -> dict[str, Callable[[], Any]]:
    """File name without suffix -> what makes the picture: a Pillow image, a `Sheet` or a matplotlib figure.

    step: the photographs are looked at by every so many pixels.
    """
    X, y = handwritten()
    net, china, flower = scenes.model_, tensor("china", step), tensor("flower", step)
    classes = list(scenes.classes_)
    temple, bloom = classes.index("temple"), classes.index("flower")

    def maps() -> Sheet:
        sheet = explain.activations(net, china, "net.relu")
        return replace(sheet, panels=sheet.panels[:6], columns=3, note=f"{sheet.note} The first 5 of them.")

    made: dict[str, Callable[[], Any]] = {f"augment-{n}": lambda n=n: augmented(n) for n in AUGMENTATIONS}
    return made | {
        "augment-mixup": mixed,
        "filters-digits": lambda: explain.filters(digits),
        "filters-colour": lambda: explain.filters(scenes),
        "activations": maps,
        "activations-digit": lambda: explain.activations(digits, X[3], "conv1"),
        "receptive-fields": lambda: _fields(NETS),
        "effective-fields": lambda: _depths(scenes, 224 // step),
        "saliency": lambda: _without_outliers(explain.saliency(net, china, temple, method="smooth"), "temple"),
        "saliency-digit": lambda: explain.saliency(digits, X[3], method="gradient-input").sheet(),
        "class-activation-map": lambda: _evidence(
            [
                ("temple", explain.class_activation_map(net, china, temple)),
                ("flower", explain.class_activation_map(net, flower, bloom)),
            ]
        ),
        "pruning": lambda: _curve(explain.prune(digits, X, y, **PRUNING)),
        "cluster-shapes": _kinds,
    }


def png(picture: Any) -> bytes:
    """A picture as a png that names no version and no day.

    Rows of photographs, and figures that would be large, are reduced to 256 colours, dithered.
    """
    if isinstance(picture, Sheet):
        picture = picture.figure()
    if not isinstance(picture, Image.Image):
        drawn = io.BytesIO()
        picture.savefig(drawn, format="png", dpi=100)
        full = Image.open(drawn).convert("RGB")
        written = _written(full)
        return written if len(written) <= FULL else _written(_reduced(full))
    return _written(_reduced(picture))


def _reduced(picture: Image.Image) -> Image.Image:
    """256 colours, of which the lightest is white: paper stays paper."""
    colours = np.array(picture.quantize(256).getpalette()).reshape(-1, 3)
    colours[colours.min(axis=1) >= min(248, colours.min(axis=1).max())] = 255  # Pillow finds colours to within 4 only
    few = Image.new("P", (1, 1))
    few.putpalette(colours.ravel().tolist())
    return picture.quantize(256, palette=few)


def _written(picture: Image.Image) -> bytes:
    target = io.BytesIO()
    picture.info.clear()
    picture.save(target, format="png", optimize=True)
    return target.getvalue()


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the pictures; returns the exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments:
        print("usage: python -m konspekt.testing.gallery", file=sys.stderr)  # noqa: T201
        return 2
    try:
        folder = repository() / FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        for name, make in pictures(fit_digits(), fit_scenes()).items():
            write_file(folder / f"{name}.png", png(make()))
            print(f"wrote {FOLDER / name}.png")  # noqa: T201
    except KonspektError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
