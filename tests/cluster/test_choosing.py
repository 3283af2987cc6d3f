"""The number of clusters: rules against worked values, known data, data without clusters, and the pictures."""

import numpy as np
import pytest
from sklearn.datasets import load_iris, make_blobs
from sklearn.metrics import silhouette_samples, silhouette_score

from konspekt.cluster.choosing import choose_k, elbow_of, first_within_error, reference, within_squares
from konspekt.cluster.kmeans import KMeans
from konspekt.cluster.kmedians import KMedians
from konspekt.core.errors import ConfigError, DataError

METHODS = ("elbow", "silhouette", "gap")


@pytest.fixture(scope="module")
def four():
    return make_blobs(160, centers=[[0, 0], [12, 0], [0, 12], [12, 12]], cluster_std=1.0, random_state=0)[0]


@pytest.fixture(scope="module")
def even():
    return np.random.default_rng(0).random((150, 2))


def words(figure):
    return " ".join(text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text")))


# -- rules ------------------------------------------------------------------------------------------------------------------


def test_the_elbow_of_a_curve_that_is_known():
    ks = np.arange(1, 9)
    power = 100.0 / ks  # of points without clusters in the plane: straight on logarithmic axes
    k, depth = elbow_of(ks, power)
    assert k is None
    assert np.allclose(depth, 0)
    broken = np.where(ks <= 4, 100.0 * ks**-3.0, 100.0 * 4.0**-3 * (ks / 4) ** -0.5)  # steep to 4, then flat
    k, depth = elbow_of(ks, broken)
    assert k == 4
    slope = np.log(broken[-1] / broken[0]) / np.log(8)
    assert depth[3] == pytest.approx((slope + 3.0) * np.log(4))


def test_an_elbow_needs_a_tenth_less_than_the_line():
    ks = np.array([1, 2, 4])
    assert elbow_of(ks, np.array([4.0, 2.0 * 0.91, 1.0]))[0] is None
    assert elbow_of(ks, np.array([4.0, 2.0 * 0.90, 1.0]))[0] == 2


def test_the_rule_of_one_standard_error():
    gaps = np.array([0.1, 0.5, 0.52, 0.9, 0.8])
    assert first_within_error(gaps, np.zeros(5)) == 3
    assert first_within_error(gaps, np.array([0, 0, 0.03, 0, 0])) == 1  # 0.5 >= 0.52 - 0.03
    assert first_within_error(np.array([0.1, 0.2, 0.3]), np.zeros(3)) is None


def test_sums_of_squares_are_those_of_k_means_and_leave_noise_out(four):
    fitted = KMeans(n_clusters=4, random_state=0).fit(four)
    assert within_squares(four, fitted.labels_) == pytest.approx(fitted.inertia_)
    labels = np.array([0, 0, 7, 7, -1, -1])
    assert within_squares(np.array([[0.0], [2], [5], [9], [1e6], [-1e6]]), labels) == pytest.approx(2 + 8)


def test_references_fill_the_box_along_the_components():
    rng = np.random.default_rng(0)
    long = rng.uniform(-1, 1, (2000, 2)) * [10, 1]
    turn = np.array([[1, -1], [1, 1]]) / np.sqrt(2)
    drawn = reference(long @ turn.T + 5, rng)
    back = (drawn - 5) @ turn
    assert drawn.shape == (2000, 2)
    assert np.abs(back[:, 0]).max() == pytest.approx(10, rel=0.03)
    assert np.abs(back[:, 1]).max() == pytest.approx(1, rel=0.3)  # a box along the axes would go to 11 / sqrt(2)
    assert back.std(axis=0)[0] == pytest.approx(10 / np.sqrt(3), rel=0.05)


# -- data -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_four_groups_that_stand_apart_are_four(four, method):
    choice = choose_k(four, range(1, 7), method, random_state=0, references=4)
    assert choice.k == 4
    assert choice.method == method
    assert choice.estimator.n_clusters_ == 4
    assert choice.ks.tolist() == list(range(1, 7))
    assert all(len(curve) == 6 for curve in choice.curves.values())
    assert f"rule ({method}): {choice.rule}" in str(choice)
    assert "k = 4: at k=4" in str(choice)
    again = choose_k(four, range(1, 7), method, random_state=0, references=4)
    assert all(np.array_equal(choice.curves[n], again.curves[n], equal_nan=True) for n in choice.curves)


@pytest.mark.parametrize("features", [1, 2, 5])
@pytest.mark.parametrize("kind", ["even", "normal"])
def test_points_without_clusters_have_no_elbow(kind, features):
    rng = np.random.default_rng(features)
    X = rng.random((250, features)) if kind == "even" else rng.normal(size=(250, features))
    choice = choose_k(X, random_state=0)
    assert choice.k is None
    assert choice.estimator is None
    assert "there is no elbow" in choice.reason
    assert "method='silhouette' or 'gap'" in choice.reason
    assert "no k is chosen" in str(choice)


def test_the_gap_knows_the_answer_one(even):
    choice = choose_k(even, range(1, 5), "gap", KMeans(n_init=2), 0, references=8)
    assert choice.k == 1
    assert "no grouping beats points without clusters" in choice.reason


def test_the_gap_is_the_difference_of_its_curves(four):
    choice = choose_k(four, range(2, 7), "gap", random_state=1, references=4)
    curves = choice.curves
    assert np.allclose(curves["gap"], curves["of references"] - curves["log of the sum"])
    fitted = KMeans(n_clusters=4, n_init=5, random_state=0).fit(four)
    assert curves["log of the sum"][2] == pytest.approx(np.log(fitted.inertia_))
    assert (curves["standard error"] > 0).all()
    assert (curves["standard error"] < 0.5).all()


def test_a_gap_that_grows_again_is_said():
    near = np.array([[0, 0], [0, 3], [3, 0], [3, 3]])
    centres = np.concatenate([near + shift for shift in ([0, 0], [40, 0], [0, 40], [40, 40], [20, 20])])
    X = make_blobs(300, centers=centres, cluster_std=0.2, random_state=0)[0]
    choice = choose_k(X, range(1, 22), "gap", KMeans(n_init=2), 0, references=2)
    assert choice.k == 5
    assert "the gap falls after k=5 and is larger again at k=20" in choice.notes[-1]


def test_a_gap_that_grows_to_the_end_chooses_nothing(four):
    choice = choose_k(four, [2, 3, 4], "gap", random_state=0, references=5)
    assert choice.k is None
    assert "the gap grows up to the last, k=4; try larger ks" in choice.reason


def test_silhouettes_are_those_of_scikit_learn():
    X = load_iris().data
    choice = choose_k(X, [1, 2, 3, 4], "silhouette", random_state=0)
    assert choice.k == 2  # as is known of iris: two of its three species touch
    labels = KMeans(n_clusters=2, random_state=0).fit(X).labels_
    assert choice.curves["mean silhouette"][1] == pytest.approx(silhouette_score(X, labels))
    assert np.isnan(choice.curves["mean silhouette"][0])
    own = silhouette_samples(X, choice.estimator.labels_)
    assert np.allclose(choice.widths.values, own)
    assert choice.curves["share below 0"][1] == pytest.approx((own < 0).mean())
    assert "the mean silhouette is 0.68" in choice.reason


def test_silhouettes_of_a_part_of_many_points(four, monkeypatch):
    monkeypatch.setattr("konspekt.cluster.choosing.SAMPLE", 60)
    choice = choose_k(four, [2, 4], "silhouette", random_state=0)
    assert len(choice.widths.values) == 60
    assert choice.k == 4
    assert "silhouettes of 60 of 160 points" in choice.notes


def test_a_weak_structure_is_called_so():
    X = np.random.default_rng(0).normal(size=(100, 8))
    choice = choose_k(X, [2, 3], "silhouette", random_state=0)
    assert "a mean of at most 0.25 shows no substantial structure (Kaufman and Rousseeuw 1990)" in choice.notes


def test_another_estimator_and_its_own_sum(four):
    choice = choose_k(four, range(1, 8), estimator=KMedians(n_init=2), random_state=0)
    assert choice.k == 4
    assert isinstance(choice.estimator, KMedians)
    assert choice.curves["inertia_"][3] == pytest.approx(choice.estimator.inertia_)


def test_a_sum_that_rises_is_said(four):
    poor = KMeans(init="random", n_init=1, max_iter=1)
    notes = [choose_k(four, range(2, 10), estimator=poor, random_state=seed).notes for seed in range(5)]
    assert any("the sum rises from k=" in note for found in notes for note in found)


def test_few_places_and_identical_points():
    X = np.repeat([[0.0, 0], [1, 1], [5, 5]], 10, axis=0)
    assert [choose_k(X, range(1, 6), m, random_state=0, references=3).k for m in METHODS] == [3, 3, 3]
    same = np.ones((20, 2))
    assert [choose_k(same, range(1, 4), m, random_state=0).k for m in METHODS] == [1, None, 1]
    assert "there are not more places" in choose_k(X, range(1, 6), random_state=0).reason
    assert "silhouettes are not defined" in choose_k(same, range(1, 4), "silhouette", random_state=0).reason
    assert (
        choose_k(X[::10], [2, 3], "silhouette", random_state=0).k == 2
    )  # with as many clusters as points it is not defined


# -- input ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"method": "knee"}, r"choose_k: method must be one of 'elbow', 'silhouette', 'gap', got 'knee'"),
        ({"ks": []}, r"ks must be integers of at least 1, got \[\]"),
        ({"ks": [0, 1, 2]}, r"ks must be integers of at least 1, got \[0, 1, 2\]"),
        ({"ks": [2.5]}, r"ks must be integers of at least 1, got \[2.5\]"),
        ({"ks": [2, 3, 3]}, r"method='elbow' needs at least 3 different ks, got \[2, 3, 3\]"),
        ({"ks": [1], "method": "silhouette"}, r"method='silhouette' needs a k of at least 2, got \[1\]"),
        ({"ks": 4, "method": "gap"}, r"method='gap' needs at least 2 different ks, got 4"),
        ({"estimator": "kmeans"}, r"estimator must be a clusterer with n_clusters or n_components, got 'kmeans'"),
        ({"references": 1}, r"references must be an integer of at least 2, got 1"),
        ({"random_state": -1}, r"random_state must be an integer of at least 0, or None, got -1"),
    ],
)
def test_bad_arguments_are_refused(four, arguments, message):
    with pytest.raises(ConfigError, match=message):
        choose_k(four, **arguments)


def test_bad_data_are_refused(four):
    with pytest.raises(DataError, match=r"choose_k: ks go up to 10, but there are 6 points; lower them"):
        choose_k(four[:6])
    with pytest.raises(DataError, match="NaN"):
        choose_k(np.full((20, 2), np.nan))


# -- pictures ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_a_picture_shows_curve_choice_and_rule(four, method):
    choice = choose_k(four, range(1, 7), method, random_state=0, references=3)
    figure = choice.figure()
    said = words(figure)
    assert f"{method}: 4" in said
    assert "number of clusters k" in said
    curve = figure.axes[0].lines[0]
    first = next(iter(choice.curves))
    assert np.array_equal(curve.get_xdata(), choice.ks)
    assert np.array_equal(curve.get_ydata(), choice.curves[first], equal_nan=True)
    marked = [line.get_xdata() for line in figure.axes[0].lines[1:]]
    assert any(list(x) == [4] for x in marked)


def test_pictures_of_what_has_no_answer(even):
    assert "by the elbow: none" in words(choose_k(even, random_state=0).figure())
    same = np.ones((20, 2))
    for method, said in zip(METHODS, ("the sum reaches 0", "not defined", "all points are the same"), strict=True):
        assert said in words(choose_k(same, range(1, 4), method, random_state=0).figure())


def test_the_silhouette_plot_has_a_bar_for_each_cluster_and_marks_wrong_points(even):
    choice = choose_k(even, [3, 5], "silhouette", KMeans(init="random", n_init=1, max_iter=1), 0)
    right = choice.figure().axes[1]
    numbers = {text.get_text() for text in right.texts}
    assert numbers == {str(c) for c in range(choice.k)}
    assert (choice.widths.values < 0).any()
    assert right.get_xlim()[0] <= choice.widths.values.min()


def test_silhouettes_keep_their_digits_far_from_the_origin(four):
    near, far = (choose_k(four + offset, range(2, 5), "silhouette", random_state=0) for offset in (0, 1e9))
    assert far.k == near.k == 4
    assert far.curves["mean silhouette"] == pytest.approx(near.curves["mean silhouette"], abs=1e-6)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("scale", "says"), [(1e300, "overflow; scale X down"), (1e-300, "vanish; scale X up")])
def test_numbers_whose_squares_overflow_or_vanish_are_refused(four, method, scale, says):
    with pytest.raises(DataError, match=says):
        choose_k(four * scale, range(1, 4), method, random_state=0)
