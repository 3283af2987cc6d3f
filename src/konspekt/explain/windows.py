"""How receptive fields pass through windows, padding and interpolation, and how the sizes behind them come about."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch.nn import functional as F

from konspekt.explain import fields
from konspekt.explain.calls import Call, Seen, along, only_map, per_dim, refusal, tensors
from konspekt.explain.fields import Axis, Line
from konspekt.explain.sizes import adaptive_size, both, conv_size, padded_size, transposed_size

__all__ = ["adaptive", "formula", "mirrored", "resized", "windows", "zeros_around"]


@dataclass(frozen=True)
class _Window:
    """A convolution's or pooling's arguments, a number for each dimension."""

    kernel: list[int]
    stride: list[int]
    padding: list[int]
    dilation: list[int]
    ceil_mode: bool = False
    transposed: bool = False
    extra: tuple[int, ...] = ()


def _window_of(call: Call) -> _Window:
    given = call.given
    if call.name == "convolution":
        kernel = list(given["weight"].shape[2:])
        extra = tuple(per_dim(given["output_padding"], len(kernel)))
        transposed = given["transposed"]
    else:
        dims = int(call.name.split("pool")[1][0])
        kernel, extra, transposed = per_dim(given["kernel_size"], dims), (), False
    count = len(kernel)
    return _Window(
        kernel,
        per_dim(given["stride"] or kernel, count),
        per_dim(given["padding"], count),
        per_dim(given.get("dilation", 1), count),
        bool(given.get("ceil_mode", False)),
        transposed,
        extra,
    )


def windows(call: Call) -> Seen:
    """Behind a convolution or a pooling window."""
    x, seen = only_map(call)
    w, out = _window_of(call), next(tensors([call.out]))
    if call.name == "convolution":
        if x is not call.given["input"]:
            raise refusal(call, "its kernel comes from the image")
        if any(axis.dim == x.ndim - len(w.kernel) - 1 for axis in seen):  # rows of the image are its channels
            if call.given["groups"] != 1:
                raise refusal(call, "it keeps groups of the image's rows apart")
            seen = tuple(fields.mixed(a) if a.dim == x.ndim - len(w.kernel) - 1 else a for a in seen)  # type: ignore[assignment]

    def change(axis: Axis, i: int) -> Axis:
        count = out.shape[out.ndim - len(w.kernel) + i]
        how = {"stride": w.stride[i], "padding": w.padding[i], "dilation": w.dilation[i]}
        return (fields.transposed if w.transposed else fields.window)(axis, w.kernel[i], count, **how)

    return along(call, x, seen, len(w.kernel), change)


def adaptive(call: Call) -> Seen:
    """Behind pooling to a number of units."""
    x, seen = only_map(call)
    counts = per_dim(call.given["output_size"], 2)
    return along(call, x, seen, len(counts), lambda axis, i: fields.adaptive(axis, counts[i]))


def formula(call: Call) -> str:
    """How the size of what a call gives comes about: "(224 + 2*3 - 7) // 2 + 1 = 112"; empty where there is nothing to say."""
    found = list(tensors(call.given.values()))
    size = found[0].shape[-2:] if found and found[0].ndim >= 2 else ()
    if len(size) != 2 or "3d" in call.name:
        return ""
    if call.name in ("convolution", "max_pool2d_with_indices", "avg_pool2d"):
        w = _window_of(call)
        if len(w.kernel) != 2:
            return ""
        given = zip(size, w.kernel, w.stride, w.padding, w.dilation, strict=True)
        if w.transposed:
            return both([transposed_size(*g, e)[1] for g, e in zip(given, w.extra, strict=True)])
        return both([conv_size(*g, ceil_mode=w.ceil_mode)[1] for g in given])
    if "adaptive" in call.name:
        counts = per_dim(call.given["output_size"], 2)
        return both([adaptive_size(n, count)[1] for n, count in zip(size, counts, strict=True)])
    if call.name in ("constant_pad_nd", "reflection_pad2d", "replication_pad2d", "circular_pad2d"):
        pad = [*call.given["pad" if call.name == "constant_pad_nd" else "padding"], 0, 0]
        return both([padded_size(size[0], *pad[2:4])[1], padded_size(size[1], *pad[:2])[1]]) if any(pad[:4]) else ""
    return ""


def zeros_around(call: Call) -> Seen:
    """Behind padding with a constant, or cropping."""
    x, seen = only_map(call)
    pad = list(call.given["pad"])

    def change(axis: Axis, i: int) -> Axis:
        at = 2 * (x.ndim - 1 - i)
        before, after = pad[at : at + 2] if at < len(pad) else (0, 0)
        return fields.window(axis, 1, len(axis) + before + after, padding=before)

    return along(call, x, seen, x.ndim, change)


def mirrored(call: Call) -> Seen:
    """Behind padding with what is there already."""
    x, seen = only_map(call)
    pad = list(call.given["padding"])

    def change(axis: Axis, i: int) -> Axis:
        before, after = pad[2 * (1 - i) : 2 * (1 - i) + 2]
        at, last = np.arange(-before, len(axis) + after), len(axis) - 1
        if call.name == "replication_pad2d":
            at = at.clip(0, last)
        elif call.name == "circular_pad2d":
            at = at % len(axis)
        else:
            at = last - np.abs(last - np.abs(at))
        line = axis.line and Line(axis.line.start - before * axis.line.jump, axis.line.jump, axis.line.size)
        return replace(fields.stretched(axis, len(at), at[:, None]), line=line)

    return along(call, x, seen, 2, change)


def resized(call: Call) -> Seen:
    """Behind interpolation."""
    x, seen = only_map(call)

    def change(axis: Axis, i: int) -> Axis:
        n, count = len(axis), call.out.shape[-2 + i]
        if call.name == "upsample_nearest2d":
            sources = np.arange(count) * n // count
            return fields.stretched(axis, count, sources[:, None])
        corners = bool(call.given["align_corners"])
        weights = F.interpolate(
            torch.eye(n, dtype=torch.float64)[None], size=count, mode="linear", align_corners=corners
        )[0].numpy()
        return fields.stretched(axis, count, np.where(weights.T > 0, np.arange(n), -1))

    return along(call, x, seen, 2, change)
