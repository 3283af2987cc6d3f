"""Agreement by how classes spread over clusters: purity, Goodman-Kruskal, variation of information. All in O(N)."""

from __future__ import annotations

from typing import Any

import numpy as np

from konspekt.core.registry import system
from konspekt.metrics.clustering.contingency import contingency

__all__ = ["goodman_kruskal", "purity", "variation_of_information"]


def _commonest(truth: Any, labels: Any, name: str) -> tuple[int, int]:
    """How many points are of the commonest class of their cluster, and how many there are."""
    table = contingency(truth, labels, name)
    most = np.zeros(len(table.clusters), np.int64)
    np.maximum.at(most, table.columns, table.cells)
    return int(most.sum()), table.points


@system(
    name="purity",
    kind="metric",
    rows=("J6",),
    paper="Zhao & Karypis 2001, Criterion functions for document clustering",
)
def purity(truth: Any, labels: Any) -> float:
    """Purity: the share of points that are of the commonest class of their cluster. Higher is better, in (0, 1].

    sum_j max_i n_ij / N, i over the classes, j over the clusters. It is not symmetric, and single points as clusters
    have purity 1, so that it says little where clusters are many. One cluster: the share of the largest class. N = 1:
    1.
    """
    right, every = _commonest(truth, labels, "purity")
    return right / every


@system(
    name="goodman-kruskal",
    kind="metric",
    rows=("J6",),
    paper="Goodman & Kruskal 1954, Measures of association for cross classifications",
)
def goodman_kruskal(truth: Any, labels: Any) -> float:
    """Goodman-Kruskal index: sum_j p_j (1 - max_i p_ij / p_j), j over the clusters. Lower is better, in [0, 1).

    The probability that the class of a point is guessed wrongly by the commonest class of its cluster. This is the
    measure of Goodman & Kruskal as it is used on clusterings (Wu, Xiong & Chen, Adapting the right measures for k-means
    clustering, 2009): 1 - `purity`. Their own lambda relates it to guessing without clusters: 1 - this / (1 - the share
    of the largest class). Single points as clusters, and N = 1: 0. One cluster: 1 - the share of the largest class.
    """
    right, every = _commonest(truth, labels, "goodman_kruskal")
    return (every - right) / every


@system(
    name="variation-of-information",
    kind="metric",
    rows=("J6",),
    paper="Meila 2003, Comparing clusterings by the variation of information",
)
def variation_of_information(truth: Any, labels: Any) -> float:
    """Variation of information: H(classes | clusters) + H(clusters | classes), in nats. Lower is better, in [0, ln N].

    -sum_ij p_ij (ln(p_ij / p_i) + ln(p_ij / p_j)); a metric on partitions, and so symmetric. Labellings alike, and N =
    1: 0. One cluster against single points: ln N.
    """
    table = contingency(truth, labels, "variation_of_information")
    inside = np.log(table.cells / table.classes[table.rows]) + np.log(table.cells / table.clusters[table.columns])
    return max(0.0, -float(table.cells @ inside) / table.points)
