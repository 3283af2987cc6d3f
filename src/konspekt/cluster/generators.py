"""The six kinds of clusters that the notes draw, as generators. Course: row J7 (document I, section 38)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray

from konspekt.core.errors import ConfigError, nearest
from konspekt.core.params import AtLeast, Within, check_arguments
from konspekt.core.registry import system

__all__ = ["SHAPES", "shapes"]

SIDE = 10.0  # the square in which the points lie, and in which noise is uniform
Generator = np.random.Generator
Points = NDArray[np.float64]


def _groups(centres: list[tuple[float, float]], sizes: list[int], rng: Generator, spread: float) -> list[Points]:
    return [np.array(c) + spread * rng.normal(size=(n, 2)) for c, n in zip(centres, sizes, strict=True)]


def _separate(count: int, rng: Generator) -> list[Points]:
    """Four round groups, eight or more standard deviations apart."""
    return _groups([(2, 2), (8, 3), (3, 8), (7.5, 7.5)], _shares(count, 4), rng, 0.5)


def _bands(count: int, rng: Generator) -> list[Points]:
    """Three parallel stripes, aslant, each twelve times as long as it is wide."""
    made = []
    for offset, n in zip((-2.2, 0.0, 2.2), _shares(count, 3), strict=True):
        along, across = rng.uniform(-4.5, 4.5, n), offset + 0.25 * rng.normal(size=n)
        made.append(SIDE / 2 + np.column_stack([along - across, along + across]) / np.sqrt(2))
    return made


def _bridged(count: int, rng: Generator) -> list[Points]:
    """Three round groups, joined by two thin lines of points; a point of a line belongs to the nearer group."""
    line = max(2, round(0.06 * count)) if count >= 10 else 0
    centres = np.array([(2, 2.5), (8, 3), (5, 8)], dtype=float)
    groups = _groups(list(map(tuple, centres)), _shares(count - 2 * line, 3), rng, 0.65)
    for first, second in ((0, 1), (1, 2)):
        share = rng.uniform(0.15, 0.85, line)
        bridge = (
            centres[first] + share[:, None] * (centres[second] - centres[first]) + 0.08 * rng.normal(size=(line, 2))
        )
        near = share < 0.5
        groups[first], groups[second] = (
            np.concatenate([groups[first], bridge[near]]),
            np.concatenate([groups[second], bridge[~near]]),
        )
    return groups


def _noisy(count: int, rng: Generator) -> list[Points]:
    """Three round groups; the noise among them is added for every kind alike."""
    return _groups([(2.5, 3), (7.5, 2.5), (5, 7.5)], _shares(count, 3), rng, 0.5)


def _mixtures(count: int, rng: Generator) -> list[Points]:
    """Three Gaussians, of other sizes and directions, that overlap."""
    means = [(3.6, 4.2), (6.4, 4.6), (5.0, 6.8)]
    spreads = [[[1.0, 0.6], [0.6, 0.8]], [[0.5, -0.3], [-0.3, 0.9]], [[1.4, 0.0], [0.0, 0.3]]]
    sizes = rng.multinomial(count, [0.4, 0.35, 0.25])
    return [rng.multivariate_normal(m, c, n) for m, c, n in zip(means, spreads, sizes, strict=True)]


def _none(count: int, rng: Generator) -> list[Points]:
    """Nothing but noise."""
    return []


SHAPES: dict[str, Callable[[int, Generator], list[Points]]] = {
    "separate": _separate,
    "bands": _bands,
    "bridged": _bridged,
    "noisy": _noisy,
    "mixtures": _mixtures,
    "none": _none,
}
_NOISE = {"noisy": 0.2, "none": 1.0}


@system(name="shapes", kind="tool", rows=("J7",))
def shapes(
    kind: Literal["separate", "bands", "bridged", "noisy", "mixtures", "none"],
    *,
    n_samples: Annotated[int, AtLeast(1)] = 500,
    noise: Annotated[float, Within(0, 1)] | None = None,
    random_state: Annotated[int, AtLeast(0)] | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Draw points (N, 2) of one of the six kinds of clusters, and their labels (N,): the group's number, or -1 for noise.

    kind: separate: four round groups far from each other. bands: three parallel stripes. bridged: three round groups joined
        by thin lines of points. noisy: three round groups in uniform noise. mixtures: three Gaussians that overlap. none:
        uniform points, all of them labelled -1.
    n_samples: how many points, noise included; they come in random order.
    noise: the share of points that are uniform on the square from 0 to 10; None: a fifth for noisy, all for none, and none for the
        other kinds.
    random_state: the seed; None: a new draw each time.

    Raises ConfigError on an argument.
    """
    if kind not in SHAPES:
        raise ConfigError(f"shapes: kind {kind!r} is not one of {', '.join(SHAPES)}; {nearest(str(kind), SHAPES)}")
    given: dict[str, Any] = {"n_samples": n_samples, "noise": noise, "random_state": random_state}
    check_arguments("shapes", shapes, given)
    if kind == "none" and noise not in (None, 1):
        raise ConfigError(f"shapes: kind 'none' is nothing but noise; leave noise={noise:g} out")
    rng = np.random.default_rng(random_state)
    share = _NOISE.get(kind, 0.0) if noise is None else float(noise)
    stray = round(share * n_samples)
    groups = SHAPES[kind](n_samples - stray, rng)
    points = np.concatenate([*groups, rng.uniform(0, SIDE, (stray, 2))])
    labels = np.concatenate([*(np.full(len(g), i) for i, g in enumerate(groups)), np.full(stray, -1)]).astype(np.int64)
    order = rng.permutation(n_samples)
    return points[order], labels[order]


def _shares(count: int, parts: int) -> list[int]:
    """`count` in parts that differ by one at most."""
    return [len(part) for part in np.array_split(np.arange(count), parts)]
