"""What a net has learned to look for, and what it makes of an image: filters and activations as pictures.

The pictures of first-layer filters follow Krizhevsky, Sutskever and Hinton 2012, figure 3; those of activations Zeiler and
Fergus 2014, "Visualizing and understanding convolutional networks", https://arxiv.org/abs/1311.2901. Course: row A17.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from konspekt.core.errors import ConfigError
from konspekt.explain.capture import last_output, layer_called, no_layer, undisturbed
from konspekt.explain.sheets import Panel, Sheet, as_picture
from konspekt.explain.subject import learned_subject, subject_of

__all__ = ["activations", "filters"]

MOST = 64  # pictures on a sheet
SIDE = 8  # filters, and channels of each, of a layer whose filters are no pictures


def filters(net: Any, layer: str | None = None) -> Sheet:
    """The kernels of a convolution as pictures.

    A layer that sees 3 channels, as the first one of colours, is shown in colour: mid-grey is 0. Of any other, each
    channel of each filter is one picture, with negative weights blue and positive ones red; at most 8 x 8 of them.
    net: a torch net or a fitted estimator of images. layer: its name; None: the first convolution.

    Raises ConfigError where there is no such layer, or it is no convolution over images.
    """
    inner = net if isinstance(net, nn.Module) else subject_of(net).net
    convolutions = {n: m for n, m in inner.named_modules() if _kernels(m) is not None}
    if layer is None:
        if not convolutions:
            raise ConfigError(f"{type(inner).__name__} has no convolution, so it has no filters that are pictures")
        layer = next(iter(convolutions))
    elif layer not in convolutions:
        if layer in dict(inner.named_modules()):
            kind = type(layer_called(inner, layer)).__name__
            raise ConfigError(
                f"layer {layer!r} is a {kind}, no convolution; convolutions: {', '.join(convolutions) or 'none'}"
            )
        raise no_layer(inner, layer, convolutions)
    found = _kernels(convolutions[layer])
    if found is None or found.is_meta:
        raise ConfigError(f"layer {layer!r} has no weights yet")
    kernels = found.detach().double().cpu().numpy()  # (filters, channels, height, width)
    count, channels, height, width = kernels.shape
    size = f"{count} filters of {channels} x {height} x {width}"
    if channels == 3:
        top = float(np.abs(kernels).max()) or 1.0
        shown = [Panel("", np.moveaxis(0.5 + k / (2 * top), 0, -1)) for k in kernels[:MOST]]
        more = "" if count <= MOST else f" The first {MOST} are shown."
        return Sheet(f"Filters of {layer}", shown, f"{size}; mid-grey is 0, the largest weight {top:.3g}.{more}")
    if channels == 1:
        shown = [Panel("", k[0], "signed") for k in kernels[:MOST]]
        return Sheet(f"Filters of {layer}", shown, size + ("." if count <= MOST else f"; the first {MOST} are shown."))
    some, seen = min(count, SIDE), min(channels, SIDE)
    shown = [Panel("", kernels[i, j], "signed") for i in range(some) for j in range(seen)]
    note = f"{size}. A row is a filter, a column a channel that it sees"
    note += "." if (some, seen) == (count, channels) else f": {some} of {count}, {seen} of {channels}."
    return Sheet(f"Filters of {layer}", shown, note, columns=seen)


def _kernels(module: nn.Module) -> torch.Tensor | None:
    weight = getattr(module, "weight", None)
    if isinstance(module, nn.ConvTranspose2d) and isinstance(weight, torch.Tensor):
        return weight.transpose(0, 1)
    return weight if isinstance(module, nn.Conv2d) and isinstance(weight, torch.Tensor) else None


def activations(net: Any, image: Any, layer: str) -> Sheet:
    """What a layer gives for one image: its maps as pictures, on one scale; the image stands first.

    net: a torch net or a fitted estimator. image: one image that the estimator predicts for: a path, a Pillow image or
    an array; for a bare net a tensor (C, H, W). layer: a module's name. At most 63 maps are shown, those with the most
    activation if there are more; `images` has the image and these.

    Raises ConfigError where there is no such layer or it gives no maps, DataError where the image is not of the size.
    """
    subject = learned_subject(net, image)
    layer_called(subject.net, layer)
    x = subject.pixels(image)
    with undisturbed(subject.model), torch.no_grad():
        out = last_output(subject.net, x, layer, model=subject.model)
    if out.ndim != 4:
        raise ConfigError(
            f"layer {layer!r} gives {' x '.join(map(str, out.shape[1:]))} numbers and no maps; take a layer before it"
        )
    maps = out[0].double().cpu().numpy()
    chosen = np.arange(len(maps))
    note = f"{len(maps)} maps of {maps.shape[1]} x {maps.shape[2]}"
    if len(maps) >= MOST:
        chosen = np.sort(np.argsort(-np.abs(maps).mean(axis=(1, 2)), kind="stable")[: MOST - 1])
        note += f"; the {MOST - 1} with the most activation are shown"
    kind = "signed" if float(maps.min()) < 0 else "magnitude"
    panels = [Panel("image", as_picture(x[0].double().cpu().numpy()))]
    panels += [Panel(f"map {i}", maps[i], kind) for i in chosen]  # type: ignore[arg-type]
    return Sheet(f"Activations of {layer}", panels, note + ".")
