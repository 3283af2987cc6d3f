"""Measures of single classes: precision, recall, F1, the area under the ROC curve, precision-recall curves.

They are those of scikit-learn, which the tests compare them with; its import would take longer than the page.

Shape letters: N items, K classes, T thresholds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["Outcome", "average_precision", "outcome", "precision_at", "roc_auc"]


@dataclass(frozen=True)
class Outcome:
    """Each (K,); NaN where a measure is not defined.

    support: items of the class. said: items that were called so. right: both.
    """

    support: np.ndarray
    said: np.ndarray
    right: np.ndarray

    @property
    def precision(self) -> np.ndarray:
        """Of the items that were called so, the share that is."""
        return _share(self.right, self.said)

    @property
    def recall(self) -> np.ndarray:
        """Of the items that are, the share that was called so."""
        return _share(self.right, self.support)

    @property
    def f1(self) -> np.ndarray:
        """The harmonic mean of precision and recall; 0 where nothing is right, NaN where the class does not occur."""
        return _share(2 * self.right, self.support + self.said)


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    shares: np.ndarray = np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0)
    return shares


def outcome(truth: np.ndarray, prediction: np.ndarray, num_classes: int) -> Outcome:
    """Count. truth, prediction: (N,) numbers of classes."""
    counts = [np.bincount(values, minlength=num_classes) for values in (truth, prediction, truth[truth == prediction])]
    return Outcome(*counts)


def _hits(positive: np.ndarray, score: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """True and false positives (T,) at each distinct score, from the highest; items of one score come together."""
    order = np.argsort(-score, kind="stable")
    last = np.append(np.flatnonzero(np.diff(score[order])), len(score) - 1)
    true = np.cumsum(positive[order])[last]
    return true, last + 1 - true


def roc_auc(positive: np.ndarray, score: np.ndarray) -> float:
    """The chance that an item of the class scores higher than another one; NaN where one of the two is absent.

    positive: (N,) whether the item is of the class. score: (N,).
    """
    true, false = (np.append(0, hits) for hits in _hits(positive, score))
    area = float(np.trapezoid(true, false))
    return area / (true[-1] * false[-1]) if true[-1] and false[-1] else np.nan


def average_precision(positive: np.ndarray, score: np.ndarray) -> float:
    """The sum of the precisions, each weighted by the recall that it adds; NaN where no item is of the class."""
    true, false = _hits(positive, score)
    if not true[-1]:
        return np.nan
    return float(np.sum(np.diff(true, prepend=0) * true / (true + false)) / true[-1])


def precision_at(positive: np.ndarray, score: np.ndarray, recalls: np.ndarray) -> np.ndarray:
    """The precision at the highest threshold that reaches each recall; NaN where no item is of the class.

    recalls: rising, within 0 and 1.
    """
    true, false = _hits(positive, score)
    if not true[-1]:
        return np.full(len(recalls), np.nan)
    at = np.searchsorted(true, recalls * true[-1] - 1e-9)
    return np.asarray((true / (true + false))[at])
