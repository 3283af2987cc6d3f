"""How receptive fields pass through the operations of a net: one rule for each, by its name in ATen.

ATen is the set of operations to which torch reduces what a net does, so that a rule counts wherever the operation comes
from: a module, a function, a method, an operator. What is done number by number is marked so by torch. An operation
without a rule is refused by its name. Course: row A17.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from konspekt.explain import fields
from konspekt.explain.calls import Call, Seen, along, moved, only_map, per_dim, refusal
from konspekt.explain.fields import Axis
from konspekt.explain.windows import adaptive, mirrored, resized, windows, zeros_around

__all__ = ["propagate"]


def propagate(call: Call) -> list[Seen]:
    """The fields of what a call gives, one for each of its outputs; the last counts for all further ones.

    Raises ConfigError on an operation without a rule.
    """
    rule = _pointwise if call.pointwise else _RULES.get(call.name)
    if rule is None:
        raise refusal(call, "no rule says what it sees")
    found = rule(call)
    return found if isinstance(found, list) else [found]


# -- slices and shapes ---------------------------------------------------------------------------------------------------


def _slice(call: Call) -> Seen:
    x, seen = only_map(call)
    dim = call.given["dim"] % x.ndim
    start, _, step = slice(call.given["start"], call.given["end"], call.given["step"]).indices(x.shape[dim])
    count = call.out.shape[dim]
    return along(call, x, seen, x.ndim, lambda a, i: fields.picked(a, start, count, step) if i == dim else a)


def _select(call: Call) -> Seen:
    x, seen = only_map(call)
    dim = call.given["dim"] % x.ndim
    at = call.given["index"] % x.shape[dim]
    cut = along(call, x, seen, x.ndim, lambda a, i: fields.picked(a, at, 1) if i == dim else a)
    return moved(cut, lambda d: None if d == dim else d - (d > dim))


def _split(call: Call) -> list[Seen]:
    x, seen = only_map(call)
    dim = call.given["dim"] % x.ndim
    found, start = [], 0
    for part in call.out:
        count = part.shape[dim]
        found.append(
            along(call, x, seen, x.ndim, lambda a, i, s=start, c=count: fields.picked(a, s, c) if i == dim else a)  # type: ignore[misc]
        )
        start += count
    return found


def _view(call: Call) -> Seen:
    x, seen = only_map(call)
    shape = call.out.shape

    def one(axis: Axis) -> Axis:
        if axis.dim is None and axis.fold is None:
            return axis
        n = len(axis)
        fold = axis.fold if axis.dim is None else math.prod(x.shape[axis.dim + 1 :])
        kept = None if axis.dim is None else len(shape) - (x.ndim - axis.dim)  # its place from the end
        fits = [d for d in range(len(shape)) if shape[d] == n and math.prod(shape[d + 1 :]) == fold]
        if fits:
            return replace(axis, dim=kept if kept in fits else fits[0], fold=None)
        return replace(axis, dim=None, fold=None if n == 1 else fold)

    return one(seen[0]), one(seen[1])


def _permuted(call: Call) -> Seen:
    x, seen = only_map(call)
    order = list(range(x.ndim))
    if call.name == "permute":
        order = [d % x.ndim for d in call.given["dims"]]
    elif x.ndim > 1:
        a, b = (0, 1) if call.name == "t" else (call.given["dim0"] % x.ndim, call.given["dim1"] % x.ndim)
        order[a], order[b] = b, a
    return moved(along(call, x, seen, x.ndim, lambda axis, i: axis), order.index)


def _expanded(call: Call) -> Seen:
    x, seen = only_map(call)
    more = call.out.ndim - x.ndim

    def change(axis: Axis, i: int) -> Axis:
        count = call.out.shape[i + more]
        sources = np.arange(count) if len(axis) == count else np.zeros(count, dtype=np.int64)
        return axis if len(axis) == count else fields.stretched(axis, count, sources[:, None])

    return moved(along(call, x, seen, x.ndim, change), lambda d: d + more)


def _joined_maps(call: Call) -> Seen:
    dim = call.given["dim"] % call.out.ndim
    parts = list(call.given["tensors"])
    seen = [(t, call.seen(t)) for t in parts]
    known = [s for _, s in seen if s is not None]

    def one(which: int) -> Axis:
        axes = [s[which] for s in known]
        if any(a.fold is not None for a in axes) or len({a.dim for a in axes}) > 1:
            raise refusal(call, "maps and flattened maps are put together")
        if axes[0].dim != dim:
            return fields.joined(axes, axes[0].dim)
        nothing = np.zeros((1, axes[0].reach.shape[1]), dtype=bool)
        reach = [nothing.repeat(t.shape[dim], axis=0) if s is None else s[which].reach for t, s in seen]
        return Axis(dim, np.concatenate(reach), None, any(a.whole for a in axes))

    return one(0), one(1)


# -- sums ----------------------------------------------------------------------------------------------------------------


def _pointwise(call: Call) -> Seen:
    """Number by number; what is smaller is repeated, as in broadcasting."""
    inputs = call.inputs
    ndim = call.out.ndim

    def one(which: int) -> Axis:
        axes = [s[which] for _, s in inputs]
        live = {a.dim - t.ndim for (t, _), a in zip(inputs, axes, strict=True) if a.dim is not None}
        folds = {a.fold for a in axes if a.fold is not None}
        if len(live) + len(folds) > 1 or (folds and any(t.shape != call.out.shape for t, _ in inputs)):
            raise refusal(call, "rows and columns of maps do not lie alike in its arguments")
        place = live.pop() + ndim if live else None
        new = fields.joined(axes, place)
        if place is not None and len(new) == 1 < call.out.shape[place]:  # one unit for all of a constant's
            new = replace(new, reach=new.reach.repeat(call.out.shape[place], axis=0), line=None)
        return replace(new, fold=folds.pop()) if folds else new

    return one(0), one(1)


def _reduced(call: Call) -> Seen | list[Seen]:
    x, seen = only_map(call)
    given = call.given.get("dim")
    dims = range(x.ndim) if given is None or given == [] else [d % x.ndim for d in per_dim(given, 1)]
    keep = bool(call.given.get("keepdim", False))

    def change(axis: Axis, i: int) -> Axis:
        return fields.mixed(axis, keep=keep) if i in dims else axis

    new = along(call, x, seen, x.ndim, change)
    return new if keep else moved(new, lambda d: d - sum(r < d for r in dims))


def _normalised(call: Call) -> Seen:
    """Statistics over some dimensions are divided by, so that each unit there sees what all see."""
    x, seen = only_map(call)
    if call.name in ("_softmax", "_log_softmax"):
        dims = [call.given["dim"] % x.ndim]
    elif call.name == "native_layer_norm":
        dims = list(range(x.ndim - len(call.given["normalized_shape"]), x.ndim))
    elif call.name == "native_group_norm" or call.given["training"]:
        dims = list(range(x.ndim))
    else:
        return seen
    return along(call, x, seen, x.ndim, lambda axis, i: fields.spread(axis) if i in dims else axis)


def _product(call: Call) -> Seen:
    """A matrix product of the map, (..., K), with a matrix that does not come from the image."""
    x, seen = only_map(call)
    left = next(call.given[n] for n in ("mat1", "batch1", "input", "self") if n in call.given)
    if x is not left:
        raise refusal(call, "a map is the second factor of a matrix product")
    k, new = x.shape[-1], call.out.shape[-1]

    def one(axis: Axis) -> Axis:
        if axis.fold is not None:
            if axis.fold * len(axis) <= k:
                return fields.mixed(axis)
            if axis.fold % k:
                raise refusal(call, "it divides a flattened map in the middle of a row")
            return replace(axis, fold=axis.fold // k * new)
        return fields.mixed(axis) if axis.dim == x.ndim - 1 else axis

    return one(seen[0]), one(seen[1])


def _products(call: Call) -> Seen:
    """Of two maps: only where neither has rows or columns left."""
    if any(a.dim is not None or a.fold is not None for _, s in call.inputs for a in s):
        return _product(call)
    return fields.joined([s[0] for _, s in call.inputs], None), fields.joined([s[1] for _, s in call.inputs], None)


def _unchanged(call: Call) -> Seen:
    return only_map(call)[1]


_RULES: dict[str, Callable[[Call], Seen | list[Seen]]] = {
    **dict.fromkeys(
        ("convolution", "max_pool2d_with_indices", "max_pool3d_with_indices", "avg_pool2d", "avg_pool3d"), windows
    ),
    **dict.fromkeys(("_adaptive_avg_pool2d", "adaptive_avg_pool2d", "adaptive_max_pool2d"), adaptive),
    "constant_pad_nd": zeros_around,
    **dict.fromkeys(("reflection_pad2d", "replication_pad2d", "circular_pad2d"), mirrored),
    "slice": _slice,
    "select": _select,
    **dict.fromkeys(("split", "split_with_sizes"), _split),
    **dict.fromkeys(("upsample_nearest2d", "upsample_bilinear2d"), resized),
    **dict.fromkeys(("view", "_unsafe_view", "unsqueeze", "squeeze", "reshape", "_reshape_alias"), _view),
    **dict.fromkeys(("permute", "transpose", "t"), _permuted),
    "expand": _expanded,
    "cat": _joined_maps,
    **dict.fromkeys(("mean", "sum", "amax", "amin", "var", "std", "max", "min", "logsumexp", "prod"), _reduced),
    **dict.fromkeys(
        ("_softmax", "_log_softmax", "native_layer_norm", "native_group_norm", "native_batch_norm"), _normalised
    ),
    **dict.fromkeys(("mm", "addmm", "linear"), _product),
    **dict.fromkeys(("bmm", "baddbmm"), _products),
    **dict.fromkeys(("clone", "detach", "alias", "_to_copy", "contiguous", "lift_fresh", "dropout"), _unchanged),
    **dict.fromkeys(("_prelu_kernel", "hardswish", "log_sigmoid_forward", "channel_shuffle"), _unchanged),
}
