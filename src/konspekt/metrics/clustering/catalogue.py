"""The table of all indices: which way is better, and between which values they lie."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

__all__ = ["INDICES", "Index"]


@dataclass(frozen=True)
class Index:
    """An index of clusterings; it is called as its function is, and its module is imported only then.

    kind: "internal", called with points and labels, or "external", called with true labels and labels.
    low, high: the bounds of its values; those that grow with N or with the data's units have infinity.
    """

    name: str
    module: str
    kind: Literal["internal", "external"]
    higher_is_better: bool
    low: float
    high: float

    @property
    def function(self) -> Callable[..., float]:
        """The function itself."""
        found: Callable[..., float] = getattr(importlib.import_module(f"{__package__}.{self.module}"), self.name)
        return found

    @property
    def row(self) -> str:
        """The row of the course."""
        return str(self.function.__konspekt__.rows[0])  # type: ignore[attr-defined]

    @property
    def paper(self) -> str:
        """The source of the definition."""
        return str(self.function.__konspekt__.paper)  # type: ignore[attr-defined]

    def __call__(self, first: Any, labels: Any, **options: Any) -> float:
        """The value for points, or true labels, and labels."""
        return float(self.function(first, labels, **options))

    def best(self, values: Any) -> int:
        """The place of the best of some values."""
        import numpy as np

        return int(np.argmax(values) if self.higher_is_better else np.argmin(values))


_ROWS: tuple[tuple[str, str, Literal["internal", "external"], bool, float, float], ...] = (
    ("cohesion", "dispersion", "internal", False, 0.0, math.inf),
    ("separation", "dispersion", "internal", True, 0.0, math.inf),
    ("dunn", "dunns", "internal", True, 0.0, math.inf),
    ("generalized_dunn", "dunns", "internal", True, 0.0, math.inf),
    ("s_dbw", "density", "internal", False, 0.0, math.inf),
    ("silhouette", "silhouettes", "internal", True, -1.0, 1.0),
    ("calinski_harabasz", "dispersion", "internal", True, 0.0, math.inf),
    ("c_index", "ranking", "internal", False, 0.0, 1.0),
    ("davies_bouldin", "dispersion", "internal", False, 0.0, math.inf),
    ("davies_bouldin_star", "dispersion", "internal", False, 0.0, math.inf),
    ("score_function", "compact", "internal", True, 0.0, 1.0),
    ("gamma", "ranking", "internal", True, -1.0, 1.0),
    ("cop", "compact", "internal", False, 0.0, math.inf),
    ("cs", "compact", "internal", False, 0.0, math.inf),
    ("sym", "symmetry", "internal", True, 0.0, math.inf),
    ("sym_db", "symmetry", "internal", False, 0.0, math.inf),
    ("sym_d", "symmetry", "internal", True, 0.0, math.inf),
    ("sym_33", "symmetry", "internal", True, 0.0, math.inf),
    ("sv", "overlap", "internal", True, 0.0, math.inf),
    ("os_index", "overlap", "internal", False, 0.0, math.inf),
    ("rand", "agreement", "external", True, 0.0, 1.0),
    ("adjusted_rand", "agreement", "external", True, -0.5, 1.0),
    ("jaccard", "agreement", "external", True, 0.0, 1.0),
    ("fowlkes_mallows", "agreement", "external", True, 0.0, 1.0),
    ("hubert_gamma", "agreement", "external", True, -1.0, 1.0),
    ("phi", "agreement", "external", True, -1.0, 1.0),
    ("minkowski_score", "agreement", "external", False, 0.0, math.inf),
    ("goodman_kruskal", "majority", "external", False, 0.0, 1.0),
    ("purity", "majority", "external", True, 0.0, 1.0),
    ("variation_of_information", "majority", "external", False, 0.0, math.inf),
)
INDICES: dict[str, Index] = {row[0]: Index(*row) for row in _ROWS}
