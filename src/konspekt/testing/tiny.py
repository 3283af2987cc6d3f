"""Tiny data for each task: small enough for a test, hard enough that a broken system fails on it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from konspekt.core.errors import ConfigError, nearest

__all__ = ["MAKERS", "tiny"]


def _table(items: int) -> tuple[Any, np.random.Generator]:
    import pandas as pd

    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(items, 3)), columns=["a", "b", "c"])
    frame["kind"] = rng.choice(["red", "green", "blue"], size=items)
    frame.loc[items // 2, "b"] = np.nan
    return frame, rng


def _tabular_classification(items: int) -> tuple[Any, Any]:
    frame, _ = _table(items)
    y = np.where(frame["a"] + (frame["kind"] == "red") > 0.3, "yes", "no")
    y[:2] = "yes", "no"
    return frame, y


def _tabular_regression(items: int) -> tuple[Any, Any]:
    frame, rng = _table(items)
    y = 3 * frame["a"] - frame["c"] + 2 * (frame["kind"] == "red") + 0.01 * rng.normal(size=items) + 100
    return frame, y.to_numpy()


def _anomaly_detection(items: int) -> tuple[Any, Any]:
    """Rows where c follows from a and b; in one of eight it does not. y: 1 for those."""
    frame, rng = _table(items)
    frame["c"] = frame["a"] - frame["b"].fillna(0) + 0.1 * rng.normal(size=items)
    y = np.zeros(items, dtype=np.int64)
    y[3::8] = 1
    frame.loc[y == 1, "c"] += 4
    return frame, y


def _image_classification(items: int) -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 60, size=(items, 16, 16), dtype=np.uint8)
    y = np.arange(items) % 2
    images[y == 0, 4:12, 2:6] += 150
    images[y == 1, 2:6, 4:12] += 150
    return images, y


def _image_regression(items: int) -> tuple[Any, Any]:
    """A bright square on a dark ground; y: in which column its middle is."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 60, size=(items, 16, 16), dtype=np.uint8)
    left = np.arange(items) % 12
    for image, place in zip(images, left, strict=True):
        image[6:10, place : place + 4] += 150
    return images, left + 2.0


def _object_localization(items: int) -> tuple[Any, Any]:
    """A bright bar, upright or lying, somewhere on a dark ground. y: its name and its box."""
    import pandas as pd

    rng = np.random.default_rng(0)
    images = rng.integers(0, 60, size=(items, 16, 16), dtype=np.uint8)
    rows = []
    for i, image in enumerate(images):
        width, height = ((4, 8), (8, 4))[i % 2]
        left, top = rng.integers(0, 17 - width), rng.integers(0, 17 - height)
        image[top : top + height, left : left + width] += 150
        rows.append((("upright", "lying")[i % 2], left, top, left + width, top + height))
    return images, pd.DataFrame(rows, columns=["label", "left", "top", "right", "bottom"])


def _clustering(items: int) -> tuple[Any, Any]:
    """Three groups in the plane, and a third column in which they do not differ. y: the group's name."""
    rng = np.random.default_rng(0)
    group = np.arange(items) % 3
    X = rng.normal(size=(items, 3)) * 0.4
    X[:, :2] += np.array([[0.0, 0.0], [6.0, 0.0], [0.0, 6.0]])[group]
    return X, np.array(["a", "b", "c"])[group]


def _acting(items: int) -> tuple[Any, Any]:
    """An environment, as a function that makes one; there is no y."""
    from konspekt.testing.two_states import TwoStates

    return TwoStates, None


MAKERS: dict[str, Callable[[int], tuple[Any, Any]]] = {
    "tabular-classification": _tabular_classification,
    "tabular-regression": _tabular_regression,
    "anomaly-detection": _anomaly_detection,
    "image-classification": _image_classification,
    "image-regression": _image_regression,
    "object-localization": _object_localization,
    "image-embedding": _image_classification,  # what a classifier has learned to see
    "clustering": _clustering,
    "acting": _acting,
}


def tiny(task: str, items: int = 24) -> tuple[Any, Any]:
    """X and y of a task, always the same.

    Raises ConfigError for a task without a maker.
    """
    if task not in MAKERS:
        raise ConfigError(f"there is no tiny data for task {task!r}; {nearest(task, MAKERS)}")
    return MAKERS[task](items)
