"""What the page says about classes agrees with scikit-learn, and with the folder."""

import re

import numpy as np
import pytest
from sklearn import metrics
from sklearn.calibration import calibration_curve

from konspekt.reports import classes as module
from konspekt.reports.classes import classes
from konspekt.reports.figures import reliability
from konspekt.reports.reading import read_folder


def text_of(source):
    return " ".join(re.sub(r"<[^>]+>", " ", source).split())


def rows_of(source, caption):
    """The cells of the table with this caption."""
    body = source[source.index(f'<caption class="unseen">{caption}</caption>') :]
    rows = re.findall(r"<tr>(.*?)</tr>", body[: body.index("</table>")], re.S)
    return [[text_of(c) for c in re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row)] for row in rows]


@pytest.fixture
def stored(tmp_path, runs):
    """Write a validation.npz and read the folder."""

    def store(**arrays):
        folder = runs.bare(tmp_path / "a")
        np.savez(folder / "validation.npz", **arrays)
        return read_folder(folder)

    return store


def drawn(count=240, names=("a", "b", "c", "d"), seed=0):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, len(names), count)
    chance = rng.dirichlet(np.ones(len(names)), count)
    chance[np.arange(count), truth] += 0.4
    chance /= chance.sum(axis=1, keepdims=True)
    labels = np.array(names)
    return {"truth": labels[truth], "prediction": labels[chance.argmax(1)], "probability": chance, "classes": labels}


def test_table_is_that_of_scikit_learn(stored):
    arrays = drawn()
    head, *rows, mean = rows_of(classes(stored(**arrays)), "Measures by class")
    assert head == ["class", "items", "precision", "recall", "F1", "AUC", "AP"]
    names, truth, said = arrays["classes"], arrays["truth"], arrays["prediction"]
    expected = metrics.precision_recall_fscore_support(truth, said, labels=names)
    for k, (name, row) in enumerate(zip(names, rows, strict=True)):
        auc = metrics.roc_auc_score(truth == name, arrays["probability"][:, k])
        ap = metrics.average_precision_score(truth == name, arrays["probability"][:, k])
        shares = [*(e[k] for e in expected[:3]), auc, ap]
        assert row == [name, str(expected[3][k]), *(f"{v:.3f}" for v in shares)]
    auc = metrics.roc_auc_score(truth, arrays["probability"], multi_class="ovr", labels=names)
    f1 = metrics.f1_score(truth, said, average="macro")
    assert mean[0] == "mean of the classes"
    assert mean[4:6] == [f"{f1:.3f}", f"{auc:.3f}"]


def test_what_is_not_defined_is_a_dash(stored):
    arrays = drawn(names=("a", "b", "c"))
    arrays |= {"truth": np.where(arrays["truth"] == "c", "a", arrays["truth"]), "prediction": np.full(240, "a")}
    rows = {row[0]: row for row in rows_of(classes(stored(**arrays)), "Measures by class")}
    assert rows["b"][2:4] == ["–", "0.000"]  # never said, so it has no precision
    assert rows["c"][1:] == ["0", "–", "–", "–", "–", "–"]


def test_few_classes_have_a_curve_each(stored):
    source = classes(stored(**drawn(names=("yes", "no"))))
    label = re.search(r'aria-label="(yes: from [^"]+)"', source)[1]
    assert re.search(r"; no: from ", label)
    assert "Each class against the rest." in source
    assert ">precision</text>" in source


def test_many_classes_have_their_mean_and_a_pooled_curve(stored):
    arrays = drawn(names=tuple(f"kind {i}" for i in range(9)), count=400)
    source = classes(stored(**arrays))
    label = re.search(r'aria-label="(mean: from [^"]+)"', source)[1]
    positive = arrays["truth"][:, None] == arrays["classes"]
    precision, recall, _ = metrics.precision_recall_curve(positive.ravel(), arrays["probability"].ravel())
    end = precision[np.flatnonzero(recall == 1)[-1]]
    assert f"pooled: from 1 to {end:.3g}" in label
    ends = []
    for k in range(9):
        precision, recall, _ = metrics.precision_recall_curve(positive[:, k], arrays["probability"][:, k])
        ends.append(precision[np.flatnonzero(recall == 1)[-1]])
    assert f"to {np.mean(ends):.3g}, lowest" in label.split(";")[0]
    assert "Faint: single classes." in source


def test_very_many_classes(stored, monkeypatch):
    monkeypatch.setattr(module, "MAX_SCORES", 1000)
    arrays = drawn(names=tuple(f"kind {i}" for i in range(120)), count=300)
    source = classes(stored(**arrays))
    assert "The 100 of 120 classes with the lowest F1." in source
    assert len(rows_of(source, "Measures by class")) == 1 + 100 + 1
    assert "Pooled" not in source
    assert "Faint: single classes." not in source


def test_probabilities_of_nobody_are_not_used(stored):
    arrays = drawn()
    for wrong in (
        {"probability": arrays["probability"][:, :3]},
        {"classes": np.array(["a", "a", "b", "c"])},
        {"probability": np.full((240, 4), np.nan)},
        {"probability": np.full((240, 4), "x")},
    ):
        source = classes(stored(**arrays | wrong))
        assert rows_of(source, "Measures by class")[0] == ["class", "items", "precision", "recall", "F1"]
        assert "How sure, how right" not in source
        assert "Precision and recall" not in source


def test_rows_whose_probabilities_are_damaged_are_left_out(stored):
    arrays = drawn()
    arrays["probability"][:40] = np.nan
    row = rows_of(classes(stored(**arrays)), "Measures by class")[1]
    auc = metrics.roc_auc_score(arrays["truth"][40:] == "a", arrays["probability"][40:, 0])
    assert row[1] == str((arrays["truth"] == "a").sum())
    assert row[5] == f"{auc:.3f}"


def test_calibration():
    rng = np.random.default_rng(3)
    sure = rng.uniform(0.3, 0.999, 500)
    right = rng.random(500) < sure**2
    picture = reliability("r", "", sure, right)
    hits, means = calibration_curve(right, sure, n_bins=10)
    counts = np.histogram(sure, np.linspace(0, 1, 11))[0]
    error = 100 * np.sum(counts[counts > 0] / 500 * np.abs(hits - means))
    assert f"Expected calibration error {error:.3g} points" in picture.caption
    assert "in ten bins of equal width" in picture.caption
    for b in np.flatnonzero(counts):
        assert f"{10 * b} to {10 * b + 10} %: {counts[b]} items" in picture.svg
        assert f">{counts[b]}</text>" in picture.svg
