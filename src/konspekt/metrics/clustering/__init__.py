"""Indices of clusterings: internal ones judge by the points alone, external ones by known labels.

External indices rate the agreement with given labels, not what a clustering is worth; internal ones prefer clusters of
the shape that they assume. `INDICES` says of each which way is better, and its range.
"""

from konspekt.metrics.clustering.agreement import (
    PairCounts,
    adjusted_rand,
    fowlkes_mallows,
    hubert_gamma,
    jaccard,
    minkowski_score,
    pair_counts,
    phi,
    rand,
)
from konspekt.metrics.clustering.catalogue import INDICES, Index
from konspekt.metrics.clustering.compact import cop, cs, score_function
from konspekt.metrics.clustering.density import s_dbw
from konspekt.metrics.clustering.dispersion import (
    calinski_harabasz,
    cohesion,
    davies_bouldin,
    davies_bouldin_star,
    separation,
)
from konspekt.metrics.clustering.dunns import dunn, generalized_dunn
from konspekt.metrics.clustering.majority import goodman_kruskal, purity, variation_of_information
from konspekt.metrics.clustering.overlap import os_index, sv
from konspekt.metrics.clustering.ranking import c_index, gamma
from konspekt.metrics.clustering.silhouettes import silhouette, silhouette_samples
from konspekt.metrics.clustering.symmetry import sym, sym_33, sym_d, sym_db

__all__ = [
    "INDICES",
    "Index",
    "PairCounts",
    "adjusted_rand",
    "c_index",
    "calinski_harabasz",
    "cohesion",
    "cop",
    "cs",
    "davies_bouldin",
    "davies_bouldin_star",
    "dunn",
    "fowlkes_mallows",
    "gamma",
    "generalized_dunn",
    "goodman_kruskal",
    "hubert_gamma",
    "jaccard",
    "minkowski_score",
    "os_index",
    "pair_counts",
    "phi",
    "purity",
    "rand",
    "s_dbw",
    "score_function",
    "separation",
    "silhouette",
    "silhouette_samples",
    "sv",
    "sym",
    "sym_33",
    "sym_d",
    "sym_db",
    "variation_of_information",
]
