"""What holds for every index: names of labels and order of points do not matter, the right labels are better, the range."""

import subprocess
import sys

import numpy as np
import pytest

from konspekt.core.errors import DataError
from konspekt.core.registry import entries
from konspekt.metrics import clustering
from konspekt.metrics.clustering import INDICES, Index

R = np.random.default_rng(5)
LABELS = np.repeat([0, 1, 2], [40, 30, 50])
X = np.array([[0.0, 0, 0], [9, 1, 2], [3, 10, -4]])[LABELS] + R.normal(size=(120, 3))
MIXED = R.permutation(LABELS)
EVERY = pytest.mark.parametrize("index", INDICES.values(), ids=lambda i: i.name)
INTERNAL = pytest.mark.parametrize("index", [i for i in INDICES.values() if i.kind == "internal"], ids=lambda i: i.name)


def of(index, labels, order=slice(None)):
    return index((X if index.kind == "internal" else LABELS)[order], labels[order])


def test_every_registered_index_stands_in_the_table_and_in_the_package():
    registered = {e.qualname for e in entries() if e.kind == "metric" and e.module.startswith(clustering.__name__)}
    assert registered == set(INDICES)
    for name, index in INDICES.items():
        assert index.name == name
        assert getattr(clustering, name) is index.function
        assert index.row == ("J5" if index.kind == "internal" else "J6")
        assert any(c.isdigit() for c in index.paper)


@EVERY
def test_the_docstring_says_the_direction(index):
    text = " ".join(index.function.__doc__.lower().split())
    better = "higher is better" in text or "higher the better" in text
    worse = "lower is better" in text or "lower the better" in text
    assert (better, worse) == (index.higher_is_better, not index.higher_is_better)


@EVERY
def test_names_of_labels_and_order_of_points_do_not_matter(index):
    for labels in (LABELS, MIXED):
        value = of(index, labels)
        assert isinstance(value, float)
        assert of(index, np.array(["z", "y", "x"])[labels]) == pytest.approx(value, rel=1e-9, abs=1e-12)
        assert of(index, 7 - 3 * labels, R.permutation(120)) == pytest.approx(value, rel=1e-9, abs=1e-12)


@EVERY
def test_the_right_labels_are_better_than_drawn_ones(index):
    assert index.best([of(index, MIXED), of(index, LABELS)]) == 1


@EVERY
def test_values_lie_in_the_range(index):
    for seed in range(5):
        labels = np.random.default_rng(seed).integers(0, 2 + 4 * seed, 120)
        assert index.low <= of(index, labels) <= index.high


@INTERNAL
def test_noise_is_left_out(index):
    far = np.r_[X, 100 * R.normal(size=(10, 3))]
    assert index(far, np.r_[LABELS, [-1] * 10]) == pytest.approx(index(X, LABELS), rel=1e-12)


@INTERNAL
def test_what_no_internal_index_takes(index):
    with pytest.raises(DataError, match=r"all points are noise \(label -1\)"):
        index(X, np.full(120, -1))
    with pytest.raises(DataError, match="120 points, but 119 labels"):
        index(X, LABELS[1:])
    with pytest.raises(DataError, match="NaN"):
        index(np.where(X[3, 1] == X, np.nan, X), LABELS)


@INTERNAL
def test_one_cluster_is_refused_or_has_a_value(index):
    if index.name in ("cohesion", "separation", "score_function"):
        assert index.low <= index(X, np.zeros(120)) <= index.high
    else:
        with pytest.raises(DataError, match="needs at least 2, and the labels name 1"):
            index(X, np.zeros(120))


@INTERNAL
def test_points_are_not_changed(index):
    before = X.copy()
    index(X, MIXED)
    assert (before == X).all()


def test_the_best_of_values():
    assert Index("a", "b", "internal", True, 0, 1).best([1, 3, 2]) == 1
    assert Index("a", "b", "internal", False, 0, 1).best([1, 3, 2]) == 0


def test_importing_the_package_imports_nothing_heavy():
    code = (
        "import sys, konspekt.metrics.clustering\n"
        "heavy = {'sklearn', 'scipy', 'pandas', 'torch', 'matplotlib'} & set(sys.modules)\n"
        "sys.exit(f'imported: {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
