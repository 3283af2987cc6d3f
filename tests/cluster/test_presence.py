"""Is there any cluster: the Hopkins statistic, the dip of distances, and the verdict."""

import numpy as np
import pandas as pd
import pytest
from scipy.spatial import cKDTree
from scipy.stats import beta, kstest

from konspekt.cluster import shapes, tendency
from konspekt.cluster.presence import _step, hopkins
from konspekt.core.errors import ConfigError, DataError


@pytest.mark.parametrize("kind", ["separate", "bands", "noisy"])
def test_clusters_are_found(kind):
    for seed in range(4):
        found = tendency(shapes(kind, n_samples=150, random_state=seed)[0], random_state=seed, n_null=39)
        assert found.clusters, (seed, found)
        assert str(found).startswith("There seem to be clusters: ")
        assert found.hopkins_p < 0.05


def test_nothing_is_found_in_nothing():
    for seed in range(6):
        found = tendency(shapes("none", n_samples=150, random_state=seed)[0], random_state=seed, n_null=39)
        assert not found.clusters, (seed, found)
        assert 0.3 < found.hopkins < 0.7
        assert str(found).startswith("There may be no clusters: ")


def test_one_gaussian_is_a_lump_and_no_cluster():
    for seed in range(3):
        X = np.random.default_rng(seed).normal(size=(150, 3)) * [1, 5, 0.2]
        found = tendency(X, random_state=0, n_null=39)
        assert found.p["hopkins"]["uniform"] <= 0.025
        assert not found.clusters
        assert "the points form a lump, but no more than one Gaussian does" in found.verdict


def test_a_grid_is_no_cluster():
    X = np.stack(np.meshgrid(np.arange(18.0), np.arange(18.0)), -1).reshape(-1, 2)
    found = tendency(X, random_state=0, n_null=39)
    assert not found.clusters
    assert found.hopkins < 0.3
    assert "keep apart more than random ones" in found.verdict


def test_rounded_noise_is_no_cluster():
    """Distances of rounded numbers have many modes; those of the simulated points must have them, too."""
    X = np.random.default_rng(0).integers(0, 6, size=(300, 2)).astype(float)
    assert not tendency(X, random_state=0, n_null=39).clusters


def test_steps_of_rounded_columns():
    rng = np.random.default_rng(0)
    assert _step(rng.normal(size=50)) == 0
    assert _step(rng.integers(0, 4, 50) * 2.5 - 1) == 2.5
    assert _step(np.round(rng.uniform(0, 3, 200), 1)) == pytest.approx(0.1)
    assert _step(np.repeat([0.0, 1.0, 2.7], 10)) == 0


class TestHopkins:
    def test_it_is_as_defined(self):
        """By hand: the same draws, brute force, the powers of the distances themselves."""
        X = np.random.default_rng(3).normal(size=(60, 3))
        rng = np.random.default_rng(9)
        places = rng.uniform(X.min(0), X.max(0), (6, 3))
        chosen = rng.choice(60, 6, replace=False)
        u = np.linalg.norm(places[:, None] - X, axis=-1).min(1)
        w = np.sort(np.linalg.norm(X[chosen][:, None] - X, axis=-1), axis=1)[:, 1]
        expected = (u**3).sum() / ((u**3).sum() + (w**3).sum())
        assert hopkins(X, 6, np.random.default_rng(9))[0] == pytest.approx(expected, rel=1e-12)

    def test_it_is_beta_where_points_lie_at_random_and_the_box_has_no_border(self):
        """On a torus, with few places and points, so that none is asked for twice."""
        rng, m, found = np.random.default_rng(0), 5, []
        for _ in range(400):
            X = rng.uniform(size=(400, 2))
            tree = cKDTree(X, boxsize=1)
            u = tree.query(rng.uniform(size=(m, 2)))[0]
            w = tree.query(X[rng.choice(400, m, replace=False)], k=2)[0][:, 1]
            found.append((u**2).sum() / ((u**2).sum() + (w**2).sum()))
        assert kstest(found, beta(m, m).cdf).pvalue > 0.01
        inside = [hopkins(rng.uniform(size=(400, 2)), m, rng)[0] for _ in range(400)]  # with a border: nearly so
        assert kstest(inside, beta(m, m).cdf).pvalue > 0.001

    def test_many_columns_do_not_underflow(self):
        X = np.random.default_rng(0).normal(size=(100, 500)) * 1e-3
        found = hopkins(X, 10, np.random.default_rng(0), 3)
        assert found.shape == (3,)
        assert ((found > 0.5) & (found <= 1)).all()

    def test_points_that_are_all_twice_there(self):
        X = np.repeat(np.random.default_rng(0).normal(size=(50, 2)), 2, axis=0)
        assert hopkins(X, 10, np.random.default_rng(0))[0] == 1


@pytest.fixture(scope="module")
def found():
    return tendency(shapes("separate", n_samples=100, random_state=0)[0], random_state=1, n_null=39)


class TestResult:
    def test_table(self, found):
        table = found.frame()
        assert list(table.columns) == ["statistic", "value", "null", "from", "to", "p"]
        assert table[["statistic", "null"]].to_numpy().tolist() == [
            [s, n] for s in ("hopkins", "dip") for n in ("uniform", "gaussian")
        ]
        assert (table["p"] >= 1 / 40).all()
        assert table["p"][0] == found.p["hopkins"]["uniform"]

    def test_figure(self, found):
        left, right = found.figure().axes
        assert left.get_xlabel() == f"Hopkins statistic, {found.hopkins:.3g} of the data"
        assert right.get_xlabel() == f"dip of distances, {found.dip:.3g} of the data"
        assert [t.get_text() for t in left.figure.legends[0].get_texts()] == [
            "uniform points", "gaussian points", "Beta(10, 10), of one draw", "the data",
        ]  # fmt: skip
        assert left.lines[-1].get_xdata()[0] == found.hopkins

    def test_the_seed_repeats_it_and_units_do_not_matter(self, found):
        X = shapes("separate", n_samples=100, random_state=0)[0]
        again = tendency(pd.DataFrame(X * 1e200, columns=["a", "b"]), random_state=1, n_null=39)
        assert again.hopkins == pytest.approx(found.hopkins)
        assert again.p == found.p

    def test_of_many_points_some_are_drawn(self):
        found = tendency(shapes("none", n_samples=3000, random_state=0)[0], random_state=0, n_null=39)
        assert (found.n_points, found.m) == (2000, 200)

    def test_a_column_that_does_not_vary_is_left_out(self):
        X = shapes("none", n_samples=100, random_state=0)[0]
        found = tendency(np.c_[X, np.ones(100)], random_state=0, n_null=39)
        assert found.n_features == 2


def test_what_is_wrong_is_said():
    X = shapes("none", n_samples=50, random_state=0)[0]
    with pytest.raises(ConfigError, match="tendency: n_null must be an integer at least 39, got 3"):
        tendency(X, n_null=3)
    with pytest.raises(DataError, match="tendency: 9 different points are too few"):
        tendency(np.repeat(X[:9], 5, axis=0))
    with pytest.raises(DataError, match="tendency: 1 different points are too few"):
        tendency(np.ones((30, 2)))
    with pytest.raises(DataError, match=r"tendency: .*NaN"):
        tendency(np.where(X > 9, np.nan, X))
