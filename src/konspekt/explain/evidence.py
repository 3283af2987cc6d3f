"""What in an image speaks for a class: saliency by gradient, and class activation maps.

Simonyan, Vedaldi and Zisserman 2014, "Deep inside convolutional networks", https://arxiv.org/abs/1312.6034 (gradient).
Smilkov, Thorat, Kim, Viegas and Wattenberg 2017, "SmoothGrad", https://arxiv.org/abs/1706.03825.
Zhou, Khosla, Lapedriza, Oliva and Torralba 2016, "Learning deep features for discriminative localization",
https://arxiv.org/abs/1512.04150 (class activation maps).
Selvaraju and others 2017, "Grad-CAM", https://arxiv.org/abs/1610.02391. Course: row A17.

Shape letters in this file: C channels, H height, W width, M maps, h x w units of a map, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from konspekt.core.errors import ConfigError
from konspekt.explain.capture import captured, layer_called, undisturbed
from konspekt.explain.receptive import last_map
from konspekt.explain.sheets import Panel, Sheet, as_picture
from konspekt.explain.subject import Subject, learned_subject

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Evidence", "class_activation_map", "saliency"]

SAMPLES, NOISE = 25, 0.15  # of SmoothGrad: noisy copies, and their standard deviation as a share of the image's range


@dataclass(frozen=True, eq=False)
class Evidence:
    """How much each place of an image speaks for an output.

    target: the class, or the output. score: the net's output for it. values: (H, W), as the method has it.
    picture: the image, (H, W) or (H, W, 3) from 0 to 1. method: by what it was found.
    units: (h, w), of a class activation map: before it was enlarged; layer: whose maps they are.
    """

    target: str
    score: float
    values: NDArray[np.float64]
    picture: NDArray[np.float64]
    method: str
    units: NDArray[np.float64] | None = None
    layer: str | None = None

    def sheet(self) -> Sheet:
        """The image, and beside it the same in grey with what speaks for the target as a glow."""
        signed = self.method == "gradient-input"
        values = self.values if signed or self.units is None else self.values.clip(0)
        top = float(np.abs(values).max()) or 1.0
        kind: Any = "signed" if signed else "magnitude"
        where = f" of {self.layer}" if self.layer else ""
        glow = Panel(f"for {self.target}", values / top, kind, under=self.picture)
        return Sheet(
            f"What speaks for {self.target}",
            [Panel("image", self.picture), glow],
            f"{self.method}{where}; score {self.score:.3g}. As a share of the largest.",
        )

    def figure(self) -> Figure:
        """The picture as a matplotlib figure."""
        return self.sheet().figure()

    def save(self, path: str | Path) -> Path:
        """Write the picture; the suffix says as what."""
        return self.sheet().save(path)


def saliency(
    net: Any,
    image: Any,
    target: Any = None,
    method: Literal["gradient", "gradient-input", "smooth"] = "gradient",
) -> Evidence:
    """How much the score of a class changes with each pixel.

    net: a fitted estimator of images, or a torch net. image: one image that the estimator predicts for: a path, a Pillow
    image or an array; for a bare net a tensor (C, H, W). target: the class; None: the one that is predicted. The score is
    that before the softmax.
    method: "gradient": the largest size of the gradient among the channels. "gradient-input": gradient times
    standardised pixel, summed over the channels, with its sign. "smooth": the gradient's size, averaged over 25 copies
    with noise of 15 % of the image's range, the same noise each time.

    Raises ConfigError on target and method, DataError where the image is not of the size.
    """
    if method not in ("gradient", "gradient-input", "smooth"):
        raise ConfigError(f"method must be one of 'gradient', 'gradient-input', 'smooth', got {method!r}")
    subject = learned_subject(net, image)
    x = subject.pixels(image)
    with undisturbed(subject.model):
        with torch.no_grad():
            scores = subject.scores(x)
        at, name = subject.target(scores, target)
        if method == "smooth":
            noise = torch.randn(SAMPLES, *x.shape[1:], generator=torch.Generator().manual_seed(0))
            spread = NOISE * float(x.max() - x.min())
            copies = x + spread * noise.to(x.device, x.dtype)
            values = torch.stack([_slope(subject, one[None], at)[0].abs() for one in copies]).mean(0).amax(0)
        else:
            slope = _slope(subject, x, at)
            values = slope[0].abs().amax(0)
            if method == "gradient-input":
                # d score / d z = std * d score / d x for z = (x - mean) / std, so that grey counts as nothing
                schema = getattr(subject.estimator, "schema_", None)
                mean = 0 if schema is None else torch.tensor(schema.mean, device=x.device)[:, None, None]
                values = (slope * (x - mean))[0].sum(0)
    picture = as_picture(x[0].double().cpu().numpy())
    return Evidence(name, float(scores[0, at]), values.double().cpu().numpy(), picture, method)


def _slope(subject: Subject, x: Tensor, at: int) -> Tensor:
    """The gradient of one of the scores by the pixels x (1, C, H, W)."""
    x = x.detach().requires_grad_()
    return _gradient(subject, subject.scores(x)[0, at], x)


def _gradient(subject: Subject, score: Tensor, by: Tensor) -> Tensor:
    found = torch.autograd.grad(score, by, allow_unused=True)[0] if score.requires_grad else None
    if found is None:
        raise ConfigError(
            f"{subject.name}: its scores have no gradient by the image: do they depend on it, and is the net free of "
            "torch.no_grad() and detach()?"
        )
    return found


def class_activation_map(
    net: Any,
    image: Any,
    target: Any = None,
    *,
    layer: str | None = None,
    method: Literal["auto", "cam", "grad-cam"] = "auto",
) -> Evidence:
    """Where a net sees what speaks for a class.

    "cam": the maps before global average pooling, weighted by what the class makes of each; it is exact where the class's
    score is a weighted sum of their means. "grad-cam": each map weighted by the mean of its gradient, negative sums left
    out in the picture; any net with maps will do. "auto": "cam" where it is exact. Where both can be had they agree up to scale.
    net, image, target: as for `saliency`. layer: whose maps; None: the last ones with more than one unit.

    Raises ConfigError where there are no maps, or "cam" is asked of a net that it does not fit.
    """
    if method not in ("auto", "cam", "grad-cam"):
        raise ConfigError(f"method must be one of 'auto', 'cam', 'grad-cam', got {method!r}")
    subject = learned_subject(net, image)
    x = subject.pixels(image)
    names = [name for name, _ in subject.net.named_modules() if name]
    if layer is not None:
        layer_called(subject.net, layer)
    with undisturbed(subject.model):
        with captured(subject.net, names) as outs:
            scores = subject.scores(x.detach().requires_grad_())
        at, name = subject.target(scores, target)
        layer = layer or last_map(subject, {n: tuple(out.shape[1:]) for n, out in outs.items()})
        maps = outs.get(layer)
        if maps is None or maps.ndim != 4:
            raise ConfigError(f"layer {layer!r} gives no maps: take a layer before global pooling and full layers")
        weights = None if method == "grad-cam" else _class_weights(subject.net, maps, scores, at)
        if weights is None and method == "cam":
            raise ConfigError(
                f"{subject.name}: its scores are no weighted sums of the means of the maps of {layer!r}, which 'cam' "
                "needs: take method='grad-cam'"
            )
        method = "grad-cam" if weights is None else "cam"
        if weights is None:
            weights = _gradient(subject, scores[0, at], maps)[0].mean((1, 2))
        units = (weights[:, None, None] * maps[0].detach()).sum(0)
    values = F.interpolate(units[None, None], size=subject.shape[1:], mode="bilinear")[0, 0]
    return Evidence(
        name,
        float(scores[0, at].detach()),
        values.double().cpu().numpy(),
        as_picture(x[0].double().cpu().numpy()),
        method,
        units.double().cpu().numpy(),
        layer,
    )


@torch.no_grad()
def _class_weights(net: nn.Module, maps: Tensor, scores: Tensor, at: int) -> Tensor | None:
    """What the score makes of the mean of each map, (M,); None where it is no weighted sum of these means.

    Tried, and not read off the net's structure: so it counts whatever stands between, dropout or flattening.
    """
    means = maps.mean((2, 3))

    def agree(found: Tensor) -> bool:
        return found.shape == scores.shape and torch.allclose(found, scores, rtol=1e-4, atol=1e-5)

    if agree(means):
        return torch.eye(len(means[0]), device=means.device, dtype=means.dtype)[at]
    for module in net.modules():
        if isinstance(module, nn.Linear) and module.in_features == means.shape[1] and agree(module(means)):
            return module.weight[at].detach()
    return None
