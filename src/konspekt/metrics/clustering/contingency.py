"""The table of two labellings: how many points of each class lie in each cluster."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from konspekt.metrics.clustering.checking import two_labellings

__all__ = ["Contingency", "contingency"]


@dataclass(frozen=True)
class Contingency:
    """The cells that are not empty.

    `cells` (M,) points of class `rows` (M,) are in cluster `columns` (M,); the sums are `classes` and `clusters`. There
    are at most N such cells, however many classes and clusters there are.
    """

    cells: NDArray[np.int64]
    rows: NDArray[np.int64]
    columns: NDArray[np.int64]
    classes: NDArray[np.int64]
    clusters: NDArray[np.int64]

    @property
    def points(self) -> int:
        """How many points there are."""
        return int(self.classes.sum())


def contingency(truth: Any, labels: Any, name: str) -> Contingency:
    """The table of the classes and the clusters.

    Raises DataError where they are not of one length; name: the index that asks, for the message.
    """
    own, classes, found, clusters = two_labellings(truth, labels, name)
    joint = own * clusters + found
    if classes * clusters <= 4 * len(own) + 1000:
        counts = np.bincount(joint, minlength=classes * clusters)
        places = np.flatnonzero(counts)
        cells = counts[places]
    else:
        places, cells = np.unique(joint, return_counts=True)
    rows, columns = np.divmod(places, clusters)
    sums = np.bincount(own, minlength=classes), np.bincount(found, minlength=clusters)
    return Contingency(cells, rows, columns, *sums)
