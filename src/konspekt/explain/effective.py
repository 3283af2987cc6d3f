"""Receptive fields by gradient: which pixels do change a unit, and how much.

Luo, Li, Urtasun and Zemel 2016, "Understanding the effective receptive field in deep convolutional neural networks",
https://arxiv.org/abs/1701.04128: a unit's gradient by the pixels falls off like a bell from the middle, and fills a small
part of what the arithmetic allows. Course: row A17.

Shape letters in this file: B images, C channels, H height, W width, h x w units of a layer's map.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from konspekt.core.errors import ConfigError, DataError, ResourceError
from konspekt.explain.capture import answer, captured, last_output, layer_called, undisturbed
from konspekt.explain.receptive import last_map
from konspekt.explain.sheets import Panel, Sheet
from konspekt.explain.subject import InputSize, Subject, learned_subject, subject_of, tensor_of
from konspekt.explain.trace import trace

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["EffectiveField", "effective_field", "gradient_of_unit"]


def gradient_of_unit(
    net: nn.Module, x: Tensor, layer: str, unit: tuple[int, int] | None = None, *, model: nn.Module | None = None
) -> Tensor:
    """The gradient, by each number of x (B, C, H, W), of a unit's sum over channels; x stays as it is.

    layer: the name of a module of the net whose last call gives a map (B, M, h, w). unit: (row, column); None: in the
    middle. model: what is run, where the net is only a part of it.

    Raises ConfigError where there is no such layer, no map or no such unit.
    """
    x = x.detach().requires_grad_()
    out = last_output(net, x, layer, model=model)
    if out.ndim != 4:
        raise ConfigError(f"layer {layer!r} gives {tuple(out.shape)}, no map (items, channels, height, width)")
    h, w = out.shape[2:]
    row, column = (h // 2, w // 2) if unit is None else unit
    if not (0 <= row < h and 0 <= column < w):
        raise ConfigError(f"layer {layer!r} has {h} x {w} units, so there is none at {(row, column)}")
    if not out.requires_grad:
        return torch.zeros_like(x)
    return torch.autograd.grad(out[:, :, row, column].sum(), x)[0]


@dataclass(frozen=True, eq=False)
class EffectiveField:
    """How much each pixel moves a unit.

    layer, unit: which unit: (row, column) of the layer's map. share: (H, W), the mean size of the gradient at each pixel,
    over images and channels, as a share of the sum; it sums to 1. box: (top, left, bottom, right) of the field by
    arithmetic, within the image, the last two not included; None where the net cannot be followed.
    """

    layer: str
    unit: tuple[int, int]
    share: NDArray[np.float64]
    box: tuple[int, int, int, int] | None

    @property
    def size(self) -> float:
        """The side of a square of as many pixels as have more than 4.55 % of the largest gradient (Luo et al. 2016)."""
        return float(np.sqrt((self.share > (1 - 0.9545) * self.share.max()).sum()))

    def side_of(self, share: float = 0.95) -> int:
        """The side of the smallest square around the gradient's centre of mass that holds this share of it."""
        rows, columns = np.indices(self.share.shape)
        middle = [np.round(2 * (at * self.share).sum()) / 2 for at in (rows, columns)]  # of a pixel, or between two
        away = [np.abs(at - m) for at, m in zip((rows, columns), middle, strict=True)]
        distance = np.maximum(*away).ravel()
        order = np.argsort(distance, kind="stable")
        last = int(np.searchsorted(np.cumsum(self.share.ravel()[order]), share - 1e-12))
        return int(2 * distance[order[min(last, len(order) - 1)]] + 1)

    def sheet(self) -> Sheet:
        """The map as a picture, with the field by arithmetic as a frame."""
        text = f"unit {self.unit[0]}, {self.unit[1]}: {self.size:.0f} pixels wide"
        panel = Panel(text, self.share / self.share.max(), "magnitude", box=self.box)
        note = "Gradient, as a share of its largest." + (" Frame: the field by arithmetic." if self.box else "")
        return Sheet(f"Effective field of {self.layer}", [panel], note)

    def figure(self) -> Figure:
        """The picture as a matplotlib figure."""
        return self.sheet().figure()

    def save(self, path: str | Path) -> Path:
        """Write the picture; the suffix says as what."""
        return self.sheet().save(path)


def effective_field(
    net: Any,
    images: Any = None,
    layer: str | None = None,
    unit: tuple[int, int] | None = None,
    input_size: InputSize = None,
) -> EffectiveField:
    """Which pixels move a unit, and how much, as the mean size of its gradient.

    net: a torch net or a fitted estimator of images. images: what the estimator predicts for; for a bare net a tensor (B,
    C, H, W); None: 32 images of noise, always the same, in the estimator's own mean and spread.
    layer: a module's name; None: the last map. unit: (row, column) in the layer's map; None: in the middle.

    Raises ConfigError on the layer and the unit, and where the gradient is 0 everywhere, as behind units that are all off;
    DataError where the images are not of the size.
    """
    if isinstance(net, str) or (images is not None and input_size is None):
        subject = learned_subject(net, images)
    else:
        subject = subject_of(net, input_size)
    x = _images(subject, images)
    with undisturbed(subject.model):
        if layer is None:
            layer = _last_map(subject, x)
        layer_called(subject.net, layer)
        total = torch.zeros(x.shape[-2:], dtype=torch.float64)
        for part in x.split(16):
            total += (
                gradient_of_unit(subject.net, part, layer, unit, model=subject.model).double().abs().sum((0, 1)).cpu()
            )
        h, w = last_output(subject.net, x[:1], layer, model=subject.model).shape[2:]
    at = (h // 2, w // 2) if unit is None else unit
    if not float(total.sum()) > 0:
        raise ConfigError(
            f"{subject.name}: no pixel moves unit {at} of layer {layer!r}: its gradient is 0 on these images"
        )
    return EffectiveField(layer, at, (total / total.sum()).numpy(), _box(subject, layer, at))


def _box(subject: Subject, layer: str, unit: tuple[int, int]) -> tuple[int, int, int, int] | None:
    """The field by arithmetic of what the gradient is of, the layer's last call; None where it cannot be followed."""
    try:
        found = trace(subject)
    except (ConfigError, ResourceError):  # a net that cannot be followed still has a gradient
        return None
    calls = [name for name in found.shapes if name.partition(":")[0] == layer]
    return found.fields[calls[-1]].box(*unit) if calls and calls[-1] in found.fields else None


def _images(subject: Subject, images: Any) -> Tensor:
    """Pixels (B, C, H, W) as the model takes them."""
    if images is None:
        noise = torch.randn(32, *subject.shape, generator=torch.Generator().manual_seed(0))
        if subject.estimator is not None:
            schema = subject.estimator.schema_
            mean, std = (torch.tensor(v)[:, None, None] for v in (schema.mean, schema.std))
            noise = mean + std * noise
        return subject.placed(noise)
    x = subject.estimator.encode(images).fields["x"] if subject.estimator is not None else tensor_of(images)
    if x.ndim != 4 or tuple(x.shape[1:]) != subject.shape or not len(x):
        wanted = ", ".join(map(str, subject.shape))
        raise DataError(f"{subject.name}: images must be (images, {wanted}), got {tuple(x.shape)}")
    return subject.placed(x)


def _last_map(subject: Subject, x: Tensor) -> str:
    """The last module that gives a map, found by running the net."""
    names = [name for name, _ in subject.net.named_modules() if name]
    with torch.no_grad(), captured(subject.net, names) as outs:
        answer(subject.model, x[:1])
    return last_map(subject, {name: tuple(out.shape[1:]) for name, out in outs.items()})
