"""The page of a run that looked for clusters."""

import json
import re

import numpy as np
import pytest

from konspekt.reports.page import headline, render, report
from konspekt.reports.reading import read_folder


def arrays_of(folder):
    with np.load(folder / "clusters.npz") as archive:
        return dict(archive)


def change(folder, **arrays):
    """clusters.npz with other arrays; None leaves one out."""
    kept = {k: v for k, v in (arrays_of(folder) | arrays).items() if v is not None}
    np.savez(folder / "clusters.npz", **kept)


def change_json(folder, name, **values):
    file = folder / name
    file.write_text(json.dumps(json.loads(file.read_text(encoding="utf-8")) | values), encoding="utf-8")


def section(page, name):
    return page.partition(f'<section id="{name}"')[2].partition("</section>")[0].replace("\u202f", " ")


def test_headline_with_given_labels(tmp_path, runs):
    head = headline(read_folder(runs.clustering(tmp_path / "a")))
    assert head.title == "kmeans on flats.csv: 0.730 adjusted Rand index"
    assert head.state == "finished"
    assert head.story.replace("\u202f", " ") == (
        "4 clusters were found among 300 points in 93 ms. 5.0 % of the points belong to none of them."
    )
    assert "1 is full agreement, 0 what chance would reach" in head.context[0]
    assert len(head.context) == 1
    facts = {k: v.replace("\u202f", " ") for k, v in head.facts}
    assert facts == {
        "clusters": "4", "silhouette": "0.553", "Calinski-Harabasz": "561.6", "Davies-Bouldin": "0.662", "points": "300",
        "noise": "5.0 %", "time": "120 ms", "device": "cpu",
    }  # fmt: skip
    assert head.problems == "1 warning"


def test_headline_without_labels_is_the_silhouette(tmp_path, runs):
    head = headline(read_folder(runs.clustering(tmp_path / "a", truth=False)))
    assert (head.score, head.score_name) == ("0.553", "silhouette")
    assert head.context[0].startswith("Mean silhouette (Rousseeuw 1987): 1 is compact and well apart")
    assert len(head.context) == 1


def test_a_silhouette_of_some_points_says_so(tmp_path, runs):
    folder = runs.clustering(tmp_path / "a", truth=False)
    change_json(folder, "data.json", train=10_600)  # of which 5 % are noise
    assert headline(read_folder(folder)).context[1:] == ["It was taken of 10\u202f000 points, chosen at random."]
    change_json(folder, "data.json", train=10_500)
    assert headline(read_folder(folder)).context[1:] == []


@pytest.mark.parametrize(
    ("count", "story"),
    [
        (1.0, "1 cluster was found among 300 points in 93 ms."),
        (0.0, "No cluster was found among 300 points in 93 ms."),
    ],
)
def test_fewer_than_two_clusters(tmp_path, runs, count, story):
    folder = runs.clustering(tmp_path / "a", truth=False)
    change_json(folder, "result.json", scores={"clusters": count, "noise": 0.0})
    head = headline(read_folder(folder))
    assert head.story.replace("\u202f", " ") == story
    assert (head.score, head.score_name) == (f"{count:.0f}", "clusters")
    assert head.context == ["With fewer than two clusters nothing can be compared, so there is no silhouette."]


def test_sections(tmp_path, runs):
    page = render(read_folder(runs.clustering(tmp_path / "a")))
    assert re.findall(r'<section id="(\w+)"', page) == ["problems", "clusters", "data", "kept", "time", "again"]
    for wrong in ("training items", "No data were held out", "validation.npz", "epoch", "The run ended before"):
        assert wrong not in page
    found = section(page, "clusters")
    assert found.count("<svg") == 2
    assert "300 of 12 000 points are drawn. A projection: points that lie apart may look close." in found
    assert "Crosses are centres. Small and grey: noise, points of no cluster." in found
    assert "Each label has the colour of that cluster with which it shares most points." in found
    assert "principal component 1 (71% of variance)" in found
    assert "rates only the agreement with given labels, not what the clustering is worth" in found
    assert '<th scope="row">noise</th>' in found
    assert "south (77%)" in found
    kept = section(page, "kept")
    assert "Inertia" in kept
    assert "south (77%)" not in kept
    assert "two starts disagree" in section(page, "problems")
    assert "konspekt fit kmeans data=flats.csv n_clusters=4" in section(page, "again")
    assert "<td>fit</td>" in section(page, "time") or ">fit<" in section(page, "time")


def test_a_label_has_the_colour_of_its_cluster(tmp_path, runs):
    folder = runs.clustering(tmp_path / "a", kinds=3)
    old = arrays_of(folder)["labels"]
    truth = np.array(["c", "a", "b", "none"])[old]  # in another order than the clusters
    change(folder, truth=truth)
    pictures = re.findall(r"<svg.*?</svg>", section(render(read_folder(folder)), "clusters"), re.S)
    for number, name in ((0, "c"), (1, "a"), (2, "b")):
        frame = r"stroke: (var\(--s\d\)); stroke-width: 1.4[^>]*/></g><text[^>]*>{}<"
        painted = [re.search(frame.format(word), p)[1] for p, word in zip(pictures, (number, name), strict=True)]
        assert painted == [f"var(--s{number})"] * 2


def test_from_python_the_fit_takes_points_only(tmp_path, runs):
    folder = runs.clustering(tmp_path / "a")
    text = (folder / "config.yaml").read_text(encoding="utf-8").replace("command: konspekt", "command: other")
    (folder / "config.yaml").write_text(text, encoding="utf-8")
    assert "model.fit(X)" in section(render(read_folder(folder)), "again")


def test_a_single_column_is_spread(tmp_path, runs):
    folder = runs.clustering(tmp_path / "a")
    points = arrays_of(folder)["points"] * [1, 0]
    change(folder, points=points, axes=np.array(["price ($x$)", ""]), marks=None, truth=None, total=np.array(300))
    found = section(render(read_folder(folder)), "clusters")
    assert "Upwards the points are spread at random, for sight." in found
    assert "price ($x$)" in found
    assert "points are drawn" not in found


def test_axes_of_very_different_scale(tmp_path, runs):
    folder = runs.clustering(tmp_path / "a")
    assert "different scales" not in render(read_folder(folder))
    change(folder, points=arrays_of(folder)["points"] * [1, 1e5], marks=None)
    assert "The axes have different scales." in render(read_folder(folder))


def test_places_by_distances(tmp_path, runs):
    folder = runs.clustering(tmp_path / "a")
    change(
        folder, axes=np.array(["principal coordinate 1 (60% of variance)", "principal coordinate 2 (9% of variance)"])
    )
    assert "Placed by their distances (classical scaling)." in section(render(read_folder(folder)), "clusters")


def test_distances_have_no_picture(tmp_path, runs):
    folder = runs.clustering(tmp_path / "a")
    (folder / "clusters.npz").unlink()
    runs.config(folder, params={"metric": "precomputed"})
    found = section(render(read_folder(folder)), "clusters")
    assert "Only distances were given, no coordinates" in found
    assert "<svg" not in found


def test_the_largest_of_many_clusters(tmp_path, runs):
    folder = runs.clustering(tmp_path / "a")
    change_json(folder, "result.json", scores={"clusters": 99.0, "noise": 0.05, "silhouette": 0.1})
    assert "The 4 largest of 99 clusters." in section(render(read_folder(folder)), "clusters")


def test_cut_off_before_the_result(tmp_path, runs):
    folder = runs.clustering(tmp_path / "a")
    (folder / "result.json").unlink()
    head = headline(read_folder(folder))
    assert head.state == "not finished"
    assert head.story == "There is no result.json: the run ended before its clusters were written."
    assert "<svg" in render(read_folder(folder))


@pytest.mark.parametrize("missing", ["data.json", "metrics.jsonl", "clusters.npz", "kept/clusters.json", "log.txt"])
def test_a_file_is_missing(tmp_path, runs, missing):
    folder = runs.clustering(tmp_path / "a")
    (folder / missing).unlink()
    page = render(read_folder(folder))
    assert "4 clusters were found" in page
    assert "cannot be shown" not in page


@pytest.mark.parametrize(
    ("arrays", "note"),
    [
        ({"points": None}, "points of the shape (N, 2) or their labels are absent"),
        ({"labels": None}, "points of the shape (N, 2) or their labels are absent"),
        ({"points": np.zeros((300, 3))}, "points of the shape (N, 2) or their labels are absent"),
        ({"points": np.full((300, 2), "a")}, "points of the shape (N, 2) or their labels are absent"),
        ({"labels": np.zeros(299, int)}, "there is not one whole number as label for each point"),
        ({"labels": np.zeros(300)}, "there is not one whole number as label for each point"),
        ({"points": np.full((300, 2), np.nan)}, "holds no point that can be drawn"),
        ({"points": np.zeros((0, 2)), "labels": np.zeros(0, int)}, "holds no point that can be drawn"),
        ({"points": np.array([[{}, 1]] * 300, dtype=object)}, "clusters.npz: not readable"),
    ],
)
def test_an_archive_that_cannot_be_drawn(tmp_path, runs, arrays, note):
    folder = runs.clustering(tmp_path / "a")
    change(folder, **arrays)
    page = render(read_folder(folder))
    assert f"{note}" in page
    assert "<svg" not in section(page, "clusters")
    assert "4 clusters were found" in page


@pytest.mark.parametrize(
    "arrays",
    [
        {"axes": None},
        {"axes": np.array(["a", "b", "c"])},
        {"axes": np.array(["<script>", "$\\frac{$"])},
        {"total": None},
        {"total": np.array("many")},
        {"total": np.array(-5)},
        {"marks": np.full((4, 2), np.nan)},
        {"marks": np.zeros((4, 3))},
        {"marks": np.full((4, 2), 1e300)},
        {"truth": np.arange(9)},
        {"truth": np.full(300, "<script>\x00")},
        {"truth": np.array([str(i) for i in range(300)])},
        {"labels": np.arange(300)},
        {"labels": np.full(300, -1)},
        {"labels": np.full(300, -(10**12))},
        {"labels": np.full(300, 10**12)},
        {"points": np.zeros((300, 2))},
        {"points": np.full((300, 2), 1e149)},
        {"points": np.where(np.arange(600).reshape(300, 2) % 7, 1.0, np.inf)},
    ],
)
def test_what_does_not_fit_is_left_out(tmp_path, runs, arrays):
    folder = runs.clustering(tmp_path / "a")
    change(folder, **arrays)
    page = render(read_folder(folder))
    assert "cannot be shown" not in page
    assert "<script>" not in page
    assert "<svg" in section(page, "clusters")


def test_an_archive_that_is_cut(tmp_path, runs):
    folder = runs.clustering(tmp_path / "a")
    whole = (folder / "clusters.npz").read_bytes()
    (folder / "clusters.npz").write_bytes(whole[: len(whole) // 2])
    assert "clusters.npz: not readable" in render(read_folder(folder))


def test_a_link_is_not_followed(tmp_path, runs):
    folder = runs.clustering(tmp_path / "a")
    (folder / "clusters.npz").rename(tmp_path / "elsewhere.npz")
    (folder / "clusters.npz").symlink_to(tmp_path / "elsewhere.npz")
    assert "<svg" not in section(render(read_folder(folder)), "clusters")


@pytest.mark.parametrize(
    "value", ["a word", [], [1], [{}], [{"cluster": 0}], [{"cluster": [0], "share": "x", "mean a": {}}]]
)
def test_a_table_that_is_none(tmp_path, runs, value):
    folder = runs.clustering(tmp_path / "a")
    runs.keep(folder, "clusters", "table", value)
    assert "Clusters cannot be shown" not in render(read_folder(folder))


@pytest.mark.parametrize(
    "scores", [None, [], {}, {"clusters": None}, {"clusters": "x", "silhouette": None}, {"clusters": 1e300}]
)
def test_scores_that_are_none(tmp_path, runs, scores):
    folder = runs.clustering(tmp_path / "a")
    change_json(folder, "result.json", scores=scores)
    assert "<svg" in section(render(read_folder(folder)), "clusters")


def test_a_fit_by_epochs_is_none(tmp_path, runs):
    folder = runs.clustering(tmp_path / "a")
    runs.write_metrics(folder, runs.metrics(epochs=2))
    page = render(read_folder(folder))
    assert '<section id="training"' in page
    assert '<section id="clusters"' not in page


def test_the_same_bytes_twice(tmp_path, runs):
    folder = runs.clustering(tmp_path / "a", kinds=12)
    assert report(folder).read_bytes() == report(folder).read_bytes()
