"""The six kinds of clusters as generators."""

import numpy as np
import pytest

from konspekt.cluster import shapes
from konspekt.cluster.generators import SHAPES
from konspekt.core.errors import ConfigError

GROUPS = {"separate": 4, "bands": 3, "bridged": 3, "noisy": 3, "mixtures": 3, "none": 0}


@pytest.mark.parametrize("kind", SHAPES)
def test_points_and_labels(kind):
    X, y = shapes(kind, n_samples=301, random_state=5)
    assert X.shape == (301, 2)
    assert X.dtype == np.float64
    assert y.shape == (301,)
    assert y.dtype == np.int64
    assert len(np.unique(y[y >= 0])) == GROUPS[kind]
    again, labels = shapes(kind, n_samples=301, random_state=5)
    assert np.array_equal(X, again)
    assert np.array_equal(y, labels)
    assert not np.array_equal(X, shapes(kind, n_samples=301, random_state=6)[0])


@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.parametrize("n_samples", [1, 2, 7, 11])
def test_few_points_are_as_many_as_asked(kind, n_samples):
    X, y = shapes(kind, n_samples=n_samples, random_state=0)
    assert len(X) == len(y) == n_samples


def nearest_other(X, y):
    """For each point the distances to the nearest point of its own group and of another one."""
    D = np.linalg.norm(X[:, None] - X, axis=-1) + np.diag(np.full(len(X), np.inf))
    same = y[:, None] == y
    return np.where(same, D, np.inf).min(1), np.where(same, np.inf, D).min(1)


@pytest.mark.parametrize("kind", ["separate", "bands"])
def test_groups_are_apart(kind):
    for seed in range(5):
        own, other = nearest_other(*shapes(kind, n_samples=300, random_state=seed))
        assert (own < other).all()
        assert other.min() > 0.8


def test_bridges_join_the_groups():
    """Without points between them, the groups would be more than two apart."""
    for seed in range(5):
        X, y = shapes("bridged", n_samples=500, random_state=seed)
        assert nearest_other(X, y)[1].min() < 0.6


def test_mixtures_overlap():
    for seed in range(5):
        own, other = nearest_other(*shapes("mixtures", n_samples=500, random_state=seed))
        assert (other < own).mean() > 0.02


def test_bands_are_long_and_of_one_direction():
    X, y = shapes("bands", n_samples=600, random_state=0)
    for k in range(3):
        values, vectors = np.linalg.eigh(np.cov(X[y == k].T))
        assert values[1] / values[0] > 50
        assert abs(vectors[:, 1] @ [np.sqrt(0.5), np.sqrt(0.5)]) > 0.99


@pytest.mark.parametrize(("kind", "noise", "stray"), [("noisy", None, 100), ("noisy", 0.5, 250), ("bands", 0.1, 50), ("bands", None, 0)])  # fmt: skip
def test_noise_is_a_share(kind, noise, stray):
    X, y = shapes(kind, n_samples=500, noise=noise, random_state=0)
    assert (y == -1).sum() == stray
    assert ((X[y == -1] >= 0) & (X[y == -1] <= 10)).all()


def test_nothing_is_uniform():
    X, y = shapes("none", n_samples=4000, random_state=0)
    assert (y == -1).all()
    counts = np.histogram2d(*X.T, bins=4, range=[[0, 10], [0, 10]])[0]
    assert ((counts - 250) ** 2 / 250).sum() < 37.7  # the 99.9 % quantile of chi squared with 15 degrees of freedom


def test_what_is_wrong_is_said():
    with pytest.raises(
        ConfigError, match=r"kind 'moons' is not one of separate, bands, bridged, noisy, mixtures, none"
    ):
        shapes("moons")
    with pytest.raises(ConfigError, match=r"shapes: noise must be .*from 0 to 1.*got 2"):
        shapes("noisy", noise=2.0)
    with pytest.raises(ConfigError, match=r"shapes: n_samples must be an integer at least 1, got 0"):
        shapes("noisy", n_samples=0)
    with pytest.raises(ConfigError, match=r"'none' is nothing but noise; leave noise=0.5 out"):
        shapes("none", noise=0.5)
