"""Several clusterings side by side."""

import json
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
from sklearn.cluster import KMeans as Peer
from sklearn.metrics import adjusted_rand_score, davies_bouldin_score, silhouette_score

from konspekt.cluster import DBSCAN, KMeans, compare, shapes
from konspekt.cluster.clusterer import Clusterer
from konspekt.cluster.comparison import _stability
from konspekt.core.errors import ConfigError, DataError
from konspekt.metrics.clustering import INDICES


@dataclass(kw_only=True, eq=False, repr=False)
class Broken(Clusterer):
    """Fails, as a method may that is not ours."""

    def cluster(self, X):
        raise ZeroDivisionError("a bug\nof theirs")


@dataclass(kw_only=True, eq=False, repr=False)
class Halves(Clusterer):
    """The first half of the points, and the second: what a subsample never changes much."""

    random_state: int | None = None

    def cluster(self, X):
        self.labels_ = (X[:, 0] > 5).astype(np.int64)


@pytest.fixture(scope="module")
def data():
    return shapes("noisy", n_samples=120, random_state=0)


@pytest.fixture(scope="module")
def found(data):
    X, y = data
    methods = {"three": KMeans(n_clusters=3), "dense": DBSCAN(eps=0.6), "broken": Broken(), "halves": Halves()}
    return compare(X, methods, y, random_state=4, n_resamples=3, n_seeds=2)


class TestTable:
    def test_a_row_for_each_method(self, found):
        table = found.frame()
        assert table["method"].tolist() == ["three", "dense", "broken", "halves"]
        assert set(INDICES) <= set(table.columns)
        assert table["clusters"][[0, 1, 3]].tolist() == [3, table["clusters"][1], 2]
        assert table["noise"][0] == 0 < table["noise"][1] < 0.5
        assert (table["seconds"][[0, 1, 3]] > 0).all()

    def test_indices_are_those_of_the_labels(self, found, data):
        X, y = data
        for row in (found.rows[0], found.rows[1]):
            labels = found.labels[row["method"]]
            own = labels != -1
            assert row["silhouette"] == pytest.approx(silhouette_score(X[own], labels[own]))
            assert row["davies_bouldin"] == pytest.approx(davies_bouldin_score(X[own], labels[own]))
            assert row["adjusted_rand"] == pytest.approx(adjusted_rand_score(y, labels))

    def test_a_method_that_fails_is_a_row_with_its_message(self, found):
        row = found.rows[2]
        assert row["problem"] == "ZeroDivisionError: a bug of theirs"
        assert row["clusters"] is None
        assert "broken" not in found.labels

    def test_stability_over_seeds_where_there_are_any(self, found):
        assert found.rows[1]["seeds"] is None
        assert found.rows[3]["seeds"] == 1
        assert found.rows[3]["stability"] == 1
        assert -0.5 <= found.rows[0]["stability"] <= 1

    def test_parameters_that_are_not_the_usual_ones_are_told(self, found):
        assert [r["parameters"] for r in found.rows] == ["n_clusters=3", "eps=0.6", "", ""]
        assert found.rows[0]["rule"] == "as given"

    def test_the_notes_say_what_indices_are_not(self, found):
        assert "External indices rate the agreement with labels" in found.notes[0]
        assert "not what a clustering is worth" in found.notes[0]
        assert "prefers the shapes that it assumes" in found.notes[1]

    def test_the_seed_repeats_it(self, found, data):
        again = compare(*data[:1], {"three": KMeans(n_clusters=3)}, data[1], random_state=4, n_resamples=3, n_seeds=2)
        assert np.array_equal(again.labels["three"], found.labels["three"])
        assert again.rows[0]["stability"] == found.rows[0]["stability"]


def test_stability_by_hand():
    """Two subsamples share the points 1, 2, 3, 4; on these one labelling splits a cluster of the other."""
    one = (np.array([0, 1, 2, 3, 4]), np.array([0, 0, 0, 1, 1]))
    other = (np.array([1, 2, 3, 4, 5]), np.array([5, 5, 6, 7, 7]))
    assert _stability([one, other], 6) == pytest.approx(adjusted_rand_score([0, 0, 1, 1], [5, 5, 6, 7]))
    third = (np.array([1, 2, 3, 4]), np.array([1, 1, 0, 0]))
    three = [adjusted_rand_score([0, 0, 1, 1], [5, 5, 6, 7]), 1, adjusted_rand_score([5, 5, 6, 7], [1, 1, 0, 0])]
    assert _stability([one, other, third], 6) == pytest.approx(np.mean(three))
    assert _stability([one], 6) is None
    assert _stability([], 6) is None


class TestArguments:
    def test_names_and_objects_and_another_library(self, data):
        found = compare(data[0], ["kmeans", KMeans(n_clusters=2), KMeans(n_clusters=4), Peer(3)], n_resamples=0, n_seeds=0, indices=["silhouette"], random_state=0)  # fmt: skip
        assert [r["method"] for r in found.rows] == ["kmeans", "KMeans", "KMeans 2", "KMeans 3"]
        assert [r["clusters"] for r in found.rows] == [3, 2, 4, 3]
        assert found.rows[0]["rule"].startswith("n_clusters=3 of 2 to 10, by the silhouette")
        assert found.indices == {"internal": ["silhouette"], "external": []}
        assert [r["stability"] for r in found.rows] == [None] * 4

    def test_all_registered_ones(self):
        X, y = shapes("separate", n_samples=48, random_state=0)
        found = compare(X, y=y, n_resamples=0, n_seeds=0, indices=["adjusted_rand"], random_state=0)
        assert len(found.rows) >= 4
        assert [r["method"] for r in found.rows if r["clusters"] is None] == []
        assert found.frame()["adjusted_rand"].max() == 1

    def test_of_more_points_some_are_drawn(self, data):
        X, y = data
        found = compare(X, [KMeans(n_clusters=3)], y, n_points=50, n_resamples=0, n_seeds=0, random_state=0)
        assert (len(found.points), len(found.truth), found.total) == (50, 50, 120)
        rows = {tuple(x): label for x, label in zip(X, y, strict=True)}
        assert [rows[tuple(x)] for x in found.points] == found.truth.tolist()

    def test_columns_that_outweigh_others_are_told(self, data):
        found = compare(data[0] * [1, 100], [KMeans(n_clusters=3)], n_resamples=0, n_seeds=0, indices=[])
        assert "differ in their spread up to" in found.notes[-1]

    def test_a_table_with_labels(self, data):
        frame = pd.DataFrame(data[0], columns=["a", "b"]).assign(kind=np.where(data[1] > 0, "up", "down"))
        found = compare(frame, [KMeans(n_clusters=2)], "kind", n_resamples=0, n_seeds=0, indices=["purity"])
        assert found.columns == ["a", "b"]
        assert found.rows[0]["purity"] > 0.5

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"n_resamples": 1}, "compare: n_resamples=1 leaves nothing to compare; give 2 or more, or 0 for none"),
            ({"n_points": 3}, "compare: n_points must be .*at least 10.*got 3"),
            ({"indices": ["silhouete"]}, "compare: there is no index 'silhouete'; did you mean 'silhouette'"),
            ({"indices": "dunn"}, r"indices must be a list of names, got 'dunn'; write \['dunn'\]"),
            ({"indices": ["rand"]}, "the index rand compares with known labels: give y, or leave it out"),
            ({"estimators": []}, "compare: estimators is empty"),
            ({"estimators": "kmeans"}, "compare: estimators are a list or a dict of them, got str"),
            (
                {"estimators": ["mlp-classifier"]},
                "compare: mlp-classifier is for tabular-classification, not for clustering",
            ),
            ({"estimators": ["kmean"]}, "'kmean' is not a registered estimator; did you mean 'kmeans'"),
            ({"estimators": [KMeans]}, "an estimator of clusters has fit_predict"),
        ],
    )
    def test_what_is_wrong_is_said(self, data, arguments, message):
        with pytest.raises(ConfigError, match=message):
            compare(data[0], **arguments)

    def test_data_that_no_method_takes(self, data):
        with pytest.raises(DataError, match=r"compare: .*NaN"):
            compare(np.where(data[0] > 9, np.nan, data[0]))
        with pytest.raises(DataError, match=r"compare: X has 120 points and y the shape \(3,\)"):
            compare(data[0], y=[1, 2, 3])


class TestSaving:
    def test_files(self, found, tmp_path):
        place = found.save(tmp_path / "new" / "folder")
        assert sorted(p.name for p in place.iterdir()) == ["comparison.csv", "comparison.json", "comparison.npz"]
        said = json.loads((place / "comparison.json").read_text())
        assert said["rows"][2]["problem"] == "ZeroDivisionError: a bug of theirs"
        assert said["settings"]["seed"] == 4
        table = pd.read_csv(place / "comparison.csv")
        assert table["adjusted_rand"][0] == pytest.approx(found.rows[0]["adjusted_rand"])
        with np.load(place / "comparison.npz", allow_pickle=False) as arrays:
            assert np.array_equal(arrays["labels-1"], found.labels["dense"])
            assert "labels-2" not in arrays
        assert found.save(place) == place  # an earlier comparison is replaced

    def test_a_folder_with_something_else_is_left_alone(self, found, tmp_path):
        (tmp_path / "diary.txt").write_text("dear")
        with pytest.raises(ConfigError, match="something else is there already"):
            found.save(tmp_path)
        with pytest.raises(ConfigError, match="something else is there already"):
            found.save(tmp_path / "diary.txt")
        assert [p.name for p in tmp_path.iterdir()] == ["diary.txt"]


def test_known_labels_with_a_gap_are_refused():
    X, _ = shapes("separate", n_samples=20, random_state=0)
    with pytest.raises(DataError, match=r"the known labels \(y, or the target\): 1 labels are missing"):
        compare(X, [KMeans(n_clusters=2)], [None, *"ab" * 9, "a"], n_resamples=0, n_seeds=0)


@pytest.mark.parametrize(("scale", "says"), [(1e300, "overflow; scale X down"), (1e-300, "vanish; scale X up")])
def test_numbers_whose_squares_overflow_or_vanish_are_refused(scale, says):
    X, _ = shapes("separate", n_samples=20, random_state=0)
    with pytest.raises(DataError, match=says):
        compare(X * scale, [KMeans(n_clusters=2)], n_resamples=0, n_seeds=0)
