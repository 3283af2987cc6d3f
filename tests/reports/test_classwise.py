"""Measures of single classes against scikit-learn's."""

import warnings

import numpy as np
import pytest
from sklearn import metrics

from konspekt.reports.classwise import average_precision, outcome, precision_at, roc_auc


def drawn(seed, ties):
    """Labels of one class and scores that say something about them; with ties there are 11 different scores."""
    rng = np.random.default_rng(seed)
    positive = rng.random(200) < rng.uniform(0.1, 0.9)
    score = np.clip(positive * 0.3 + rng.random(200) * 0.7, 0, 1)
    return positive, np.round(score, 1) if ties else score


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_ranking(seed, ties):
    positive, score = drawn(seed, ties)
    assert roc_auc(positive, score) == pytest.approx(metrics.roc_auc_score(positive, score), abs=1e-12)
    expected = metrics.average_precision_score(positive, score)
    assert average_precision(positive, score) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("ties", [False, True])
def test_curve(ties):
    positive, score = drawn(7, ties)
    precision, recall, _ = metrics.precision_recall_curve(positive, score)
    precision, recall = precision[:-1], recall[:-1]  # from the lowest threshold up, without the point added at the end
    for level in (0.0, 0.1, 0.37, 0.5, 0.99, 1.0):
        reached = np.flatnonzero(recall >= level - 1e-12)
        assert precision_at(positive, score, np.array([level])).item() == pytest.approx(precision[reached[-1]])


def test_one_kind_of_item_only():
    score = np.array([0.2, 0.9, 0.4])
    for positive in (np.zeros(3, bool), np.ones(3, bool)):
        assert np.isnan(roc_auc(positive, score))
    assert np.isnan(average_precision(np.zeros(3, bool), score))
    assert np.isnan(precision_at(np.zeros(3, bool), score, np.array([0.5]))).all()
    assert average_precision(np.ones(3, bool), score) == 1


def test_counts():
    rng = np.random.default_rng(0)
    truth, said = rng.integers(0, 5, 300), rng.integers(0, 6, 300)
    truth[truth == 4] = 0  # class 4 does not occur, class 5 is only ever said, class 6 is neither
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = metrics.precision_recall_fscore_support(truth, said, labels=range(7), zero_division=np.nan)
    found = outcome(truth, said, 7)
    for mine, theirs in zip((found.precision, found.recall, found.f1, found.support), expected, strict=True):
        np.testing.assert_allclose(mine, theirs)
    assert np.isnan(found.f1[6])
    assert found.f1[5] == 0
