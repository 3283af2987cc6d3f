"""What the page says about classes: who is taken for whom, how sure, measures by class, precision and recall."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from markupsafe import Markup

from konspekt.reports.classwise import Outcome, average_precision, outcome, precision_at, roc_auc
from konspekt.reports.figures import Line, Picture, lines, reliability
from konspekt.reports.reading import Folder, dicts
from konspekt.reports.templates import Cell, Grid, beside, heading, part, sentence, table
from konspekt.reports.words import decimal, number, percent, plural, short

__all__ = ["Measured", "classes", "measured"]

MAX_CLASSES = 30  # of a confusion matrix that is written out
MAX_CURVES = 6  # as many as there are colours
MAX_ROWS = 100
MAX_SCORES = 4_000_000  # items times classes, of the curve over all pairs
RECALLS = np.linspace(0, 1, 201)


@dataclass(frozen=True)
class Measured:
    """The predictions of a folder as numbers of classes: N items, K classes.

    truth, prediction: (N,). scored: (N,) whether the item has probabilities that can be used. chance: (N, K), or (N, 0)
    where it is not known whose probabilities they are.
    """

    names: list[str]
    truth: np.ndarray
    prediction: np.ndarray
    scored: np.ndarray
    chance: np.ndarray

    @cached_property
    def outcome(self) -> Outcome:
        """Support, precision, recall and F1."""
        return outcome(self.truth, self.prediction, len(self.names))

    def by_score(self, measure: Any, *more: Any) -> list[Any]:
        """`measure(positive, score)` of each class against the rest; NaN where a class has no probabilities."""
        given = range(self.chance.shape[1] if self.scored.any() else 0)
        truth, chance = self.truth[self.scored], self.chance[self.scored]
        values = [measure(truth == k, chance[:, k], *more) for k in given]
        return values + [np.nan] * (len(self.names) - len(values))


def measured(folder: Folder) -> Measured:
    """The predictions of validation.npz."""
    arrays = folder.validation
    truth, prediction = (arrays[key].astype(str).tolist() for key in ("truth", "prediction"))
    given = [str(c) for c in arrays.get("classes", np.array([])).astype(str).ravel()]
    known = given or [str(c.get("name")) for c in dicts(folder.data.get("classes"))]
    seen = sorted({*truth, *prediction} - {*known})
    order = {name: i for i, name in enumerate(dict.fromkeys([*known, *seen]))}
    chance = arrays.get("probability")
    if chance is None or chance.ndim != 2 or chance.dtype.kind != "f" or chance.shape[1] != len(set(given)):
        chance = np.zeros((len(truth), 0))
    return Measured(
        names=[short(name, 24) for name in order],
        truth=np.array([order[name] for name in truth]),
        prediction=np.array([order[name] for name in prediction]),
        scored=(np.isfinite(chance) & (chance >= 0) & (chance <= 1)).all(axis=1) & (chance.shape[1] > 0),
        chance=chance,
    )


def classes(folder: Folder) -> Markup:
    """Confusions, calibration, measures by class, precision and recall."""
    m = measured(folder)
    many = len(m.names)
    counts = np.zeros((many, many), dtype=int)
    np.add.at(counts, (m.truth, m.prediction), 1)
    body = heading("Confusions") + (_pairs(counts, m.names) if many > MAX_CLASSES else _grid(counts, m.names))
    if m.scored.any():
        sure, right = m.chance.max(axis=1)[m.scored], (m.truth == m.prediction)[m.scored]
        chart = heading("How sure, how right") + part("figure", reliability("reliability", "", sure, right))
        body = beside(body, chart) if many <= 12 else body + chart
    rows = heading("By class") + _by_class(m)
    if m.scored.any():
        curves = heading("Precision and recall") + part("figure", _precision_recall(m))
        return body + beside(rows, curves)
    return body + rows


def _by_class(m: Measured) -> Markup:
    o = m.outcome
    ranks, precisions = (np.array(m.by_score(measure)) for measure in (roc_auc, average_precision))
    columns = (o.precision, o.recall, o.f1, ranks, precisions)
    shown, note = np.arange(len(m.names)), ""
    if len(shown) > MAX_ROWS:
        shown = np.sort(np.argsort(np.nan_to_num(o.f1, nan=2.0), kind="stable")[:MAX_ROWS])
        note = f"The {MAX_ROWS} of {number(len(m.names))} classes with the lowest F1. "
    rows: list[list[Any]] = [[m.names[k], int(o.support[k]), *(decimal(c[k]) for c in columns)] for k in shown]
    seen = [np.isfinite(c) for c in columns]
    means = [float(c[s].mean()) if s.any() else np.nan for c, s in zip(columns, seen, strict=True)]
    rows.append([Markup("<em>mean of the classes</em>"), int(o.support.sum()), *map(decimal, means)])
    note += "AUC: the chance that an item of the class gets a higher probability of it than another item; AP: the mean "
    note += "precision along its curve. A dash: not defined for want of items."
    head = ["class", "items", "precision", "recall", "F1", *(["AUC", "AP"] if m.scored.any() else [])]
    return table("Measures by class", head, [row[: len(head)] for row in rows], note)


def _precision_recall(m: Measured) -> Picture:
    """Each class against the rest; beyond a few, their mean and the curve over all pairs of an item and a class."""
    curves = [np.broadcast_to(c, len(RECALLS)) for c in m.by_score(precision_at, RECALLS)]
    present = [k for k, curve in enumerate(curves) if np.isfinite(curve).any()]
    if len(present) <= MAX_CURVES:
        series = [Line(m.names[k], RECALLS, curves[k]) for k in present]
        note = "Each class against the rest."
        return _shares(series, note)
    mean = np.mean([curves[k] for k in present], axis=0)
    series = [Line("mean", RECALLS, mean)]
    note = f"Mean: of the curves of {plural(len(present), 'class', 'classes')}, each against the rest."
    if m.chance.size <= MAX_SCORES:
        chance = m.chance[m.scored]
        positive = m.truth[m.scored][:, None] == np.arange(chance.shape[1])
        series.append(Line("pooled", RECALLS, precision_at(positive.ravel(), chance.ravel(), RECALLS)))
        note += " Pooled: one curve over all pairs of an item and a class."
    if len(present) <= MAX_CLASSES:
        series += [Line("single classes", RECALLS, curves[k], "faint") for k in present]
    return _shares(series, note)


def _shares(series: list[Line], note: str) -> Picture:
    return lines("precision-recall", "", series, xlabel="recall", ylabel="precision", share=True, note=note)


def _grid(counts: np.ndarray, names: list[str]) -> Markup:
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    cells = [
        [
            Cell(number(int(n)) if n else "·", float(np.sqrt(share[i, j])) if n else 0.0, second=i != j)
            for j, n in enumerate(row)
        ]
        for i, row in enumerate(counts)
    ]
    right = [percent(float(share[i, i])) if counts[i].sum() else "–" for i in range(len(names))]
    note = "Rows are what the items are, columns what the model says. The shade is the share of the row (its square root): blue is right, orange is wrong."  # fmt: skip
    return part("grid", Grid("Confusion matrix", names, names, cells, "truth", "prediction", [("right", right)], note))


def _pairs(counts: np.ndarray, names: list[str]) -> Markup:
    wrong = counts.copy()
    np.fill_diagonal(wrong, 0)
    ranked = np.argsort(-wrong, axis=None, kind="stable")[:25]
    pairs = [(int(k) // len(names), int(k) % len(names)) for k in ranked]
    rows = [
        [names[i], names[j], int(wrong[i, j]), percent(wrong[i, j] / counts[i].sum())] for i, j in pairs if wrong[i, j]
    ]
    if not rows:
        return sentence("Every item was classified rightly.")
    return sentence(f"{number(len(names))} classes: the pairs most often confused.") + table(
        "Most confused pairs", ["truth", "prediction", "items", "share of the class"], rows
    )
