"""The page of a comparison, from what `Comparison.save` writes and from folders that are damaged."""

import io
import json

import numpy as np
import pytest

from konspekt.core.errors import DataError
from konspekt.reports.compared import _ranks, render, report_comparison
from konspekt.reports.words import GAP

HOSTILE = "<script>alert(1)</script>"


@pytest.fixture
def folder(tmp_path):
    """Two methods, one that failed, labels, noise."""
    rng = np.random.default_rng(0)
    points = rng.normal(size=(40, 2))
    labels = np.repeat([0, 1, -1, 2], 10)
    rows = [
        {"method": "dense", "clusters": 3, "noise": 0.25, "seconds": 0.012, "stability": 0.9, "seeds": None, "silhouette": 0.5,
         "davies_bouldin": 0.8, "adjusted_rand": 0.75, "parameters": "eps=0.3", "rule": "the knee", "problem": "warned: slow"},
        {"method": "round", "clusters": 4, "noise": 0.0, "seconds": 2.5, "stability": 1.0, "seeds": 0.5, "silhouette": 0.25,
         "davies_bouldin": 0.4, "adjusted_rand": 1.0, "parameters": "", "rule": "as given", "problem": ""},
        {"method": HOSTILE, "clusters": None, "noise": None, "seconds": None, "stability": None, "seeds": None,
         "silhouette": None, "davies_bouldin": None, "adjusted_rand": None, "parameters": "", "rule": "", "problem": "DataError: no"},
    ]  # fmt: skip
    said = {
        "source": "somewhere/rings.csv", "rows": rows, "points": 40, "total": 100, "columns": ["a", "b"],
        "indices": {"internal": ["silhouette", "davies_bouldin"], "external": ["adjusted_rand"]},
        "settings": {"n_resamples": 5, "n_seeds": 2, "seed": 7}, "notes": ["Agreement is not worth.", "Shapes are preferred."],
    }  # fmt: skip
    (tmp_path / "comparison.json").write_text(json.dumps(said))
    arrays = {
        "points": points,
        "axes": np.array(["a", "b"]),
        "labels-0": labels,
        "labels-1": np.repeat([3, 0, 1, 2], 10),
    }
    save(tmp_path, arrays | {"truth": np.repeat(["x", "y", "z", "w"], 10)})
    return tmp_path


def save(path, arrays):
    packed = io.BytesIO()
    np.savez_compressed(packed, **arrays)
    (path / "comparison.npz").write_bytes(packed.getvalue())


def change(folder, **changes):
    said = json.loads((folder / "comparison.json").read_text())
    (folder / "comparison.json").write_text(json.dumps(said | changes))


def test_the_page(folder):
    page = report_comparison(folder)
    assert page == folder / "report.html"
    text = page.read_text()
    assert "<h1>Comparison of clusterings <span>on rings.csv</span></h1>" in text
    assert (
        f"3 methods on 40 points, drawn from 100. Without a clustering: {HOSTILE.replace('<', '&lt;').replace('>', '&gt;')}"
        in text
    )
    assert "Agreement is not worth." in text
    assert "Shapes are preferred." in text
    assert text.count("<svg") == 3  # the labels, and two methods
    assert "The labels that were given, 4 clusters" in text
    assert 'aria-label="dense: 3 clusters, noise: 25.0' in text
    assert "dense: warned: slow" in text
    assert "DataError: no" in text
    assert text.count(">failed</td>") == 1
    assert "eps=0.3" in text
    assert "<script" not in text


def test_the_best_of_each_index_is_named(folder):
    text = render(folder)
    rows = [r for r in text.split("<tr>") if ">silhouette<" in r or ">Davies-Bouldin<" in r or ">davies bouldin<" in r]
    table = [r for r in rows if 'scope="row"' in r]
    assert '<td>high</td><td>dense</td><td class="n">0.5</td><td class="n">0.25</td>' in table[0]
    assert '<td>low</td><td>round</td><td class="n">0.8</td><td class="n">0.4</td>' in table[1]


def test_methods_that_agree(folder):
    text = render(folder)
    grid = text.partition("Agreement of the methods")[2]
    assert ">1.00</td>" in grid


def test_the_same_folder_gives_the_same_page(folder):
    assert render(folder) == render(folder)


def test_without_labels_there_is_nothing_external(folder):
    change(folder, indices={"internal": ["silhouette"], "external": []})
    text = render(folder)
    assert 'id="external"' not in text
    assert "agreement with labels" not in text
    assert text.index("Shapes are preferred.") < text.index("<table") < text.index("Agreement is not worth.")


def test_colours_follow_the_first_picture():
    first = _ranks(np.array(["a", "a", "a", "b", "b", "-1"]), None)
    assert first.tolist() == [0, 0, 0, 1, 1, -1]
    other = _ranks(np.array(["7", "7", "9", "8", "8", "8"]), first)
    assert other.tolist() == [0, 0, 2, 1, 1, 1]
    assert _ranks(np.array(["-1", "-1", "4", "4", "4", "4"]), first).tolist() == [-1, -1, 1, 1, 1, 1]
    assert _ranks(np.array(["1"] * 6), np.full(6, -1)).tolist() == [0] * 6


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        (b"", "comparison.npz is not readable"),
        (b"PK\x03\x04 cut", "comparison.npz is not readable"),
        (None, "comparison.npz is missing"),
        ({"points": np.zeros((3, 3)), "axes": np.array(["a", "b"])}, "holds no points of the plane"),
        ({"points": np.full((3, 2), np.nan), "axes": np.array(["a", "b"])}, "cannot be drawn"),
        ({"points": np.zeros((3, 2))}, "cannot be drawn"),
    ],
)
def test_pictures_that_cannot_be_drawn_are_a_sentence(folder, arrays, said):
    if isinstance(arrays, dict):
        save(folder, arrays)
    elif arrays is None:
        (folder / "comparison.npz").unlink()
    else:
        (folder / "comparison.npz").write_bytes(arrays)
    text = render(folder)
    assert said in text
    assert "<svg" not in text


def test_labels_of_another_length_are_not_drawn(folder):
    save(folder, {"points": np.zeros((4, 2)), "axes": np.array(["a", ""]), "labels-0": np.zeros(3, int), "labels-1": np.zeros(4, int)})  # fmt: skip
    text = render(folder)
    assert text.count("<svg") == 1
    assert "Across: a." in text


@pytest.mark.parametrize("changes", [{"rows": []}, {"rows": 3}, {"rows": [{"clusters": 2}]}])
def test_a_comparison_without_methods_is_refused(folder, changes):
    change(folder, **changes)
    with pytest.raises(DataError, match="names no method"):
        report_comparison(folder)


def test_other_values_than_expected_are_no_crash(folder):
    change(folder, columns=None, settings=[], notes=None, points="many", total=None, indices=None, source=None)
    rows = [{"method": "odd", "clusters": 2, "noise": "x", "seconds": "y", "stability": [], "silhouette": {}}]
    change(folder, rows=rows)
    text = render(folder)
    assert "<h1>Comparison of clusterings</h1>" in text
    assert f"{GAP}" in text or "–" in text


def test_no_comparison(tmp_path):
    with pytest.raises(
        DataError, match=r"there is no comparison\.json; `konspekt compare` or Comparison.save writes one"
    ):
        report_comparison(tmp_path)
