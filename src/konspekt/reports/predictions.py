"""What the page says about single predictions: right and wrong, residuals, the items with the largest loss."""

from __future__ import annotations

from typing import Any

import numpy as np
from markupsafe import Markup

from konspekt.reports.classes import classes
from konspekt.reports.drawers import beside_row, table_of
from konspekt.reports.figures import histogram, points
from konspekt.reports.reading import Folder, dicts
from konspekt.reports.templates import Tile, charts, heading, part, sentence, table
from konspekt.reports.words import clean, number, plural, real, said, short

__all__ = ["is_classification", "predictions", "worst"]

MAX_TARGETS = 6
MAX_ROWS = 20


def is_classification(folder: Folder) -> bool:
    """Whether the predictions are classes."""
    truth = folder.validation.get("truth")
    return "classification" in clean(folder.data.get("task", "")) or (truth is not None and truth.dtype.kind in "US")


def predictions(folder: Folder) -> Markup | None:
    """Where the model is right and where it is wrong."""
    if "truth" not in folder.validation:
        if "loss" in folder.validation:  # nothing was to be predicted, so nothing is right or wrong
            return None
        return sentence(
            "validation.npz is absent: no items were held out, or the run ended before they were predicted.", "note"
        )
    truth, prediction = folder.validation["truth"], folder.validation["prediction"]
    where = " on the training data" if folder.result.get("scores_on") == "train" else ""
    body = sentence(f"{plural(len(truth), 'item')}{where}.", "note")
    if is_classification(folder):
        return body + (classes(folder) if truth.ndim == 1 else Markup())
    if truth.dtype.kind not in "fiu" or prediction.dtype.kind not in "fiu":
        return body + sentence("Truth and prediction are neither classes nor numbers; nothing is drawn.", "note")
    return body + _residuals(folder, truth.reshape(len(truth), -1), prediction.reshape(len(truth), -1))


def _residuals(folder: Folder, truth: np.ndarray, prediction: np.ndarray) -> Markup:
    names = [clean(t.get("name")) for t in dicts(folder.data.get("targets"))]
    count = truth.shape[1]
    names = (names + [f"target {i + 1}" for i in range(len(names), count)])[:count] if count > 1 else names[:1] or ["y"]
    truth, prediction = truth.astype(float), prediction.astype(float)
    rows: list[list[Any]] = []
    for i, name in enumerate(names):
        seen = np.isfinite(truth[:, i]) & np.isfinite(prediction[:, i])
        t, miss = truth[seen, i], (truth - prediction)[seen, i]
        if not len(t):
            rows.append([short(name), None, None, None, None])
            continue
        spread = float(((t - t.mean()) ** 2).sum())
        r2 = 1 - float((miss**2).sum()) / spread if spread > 0 else None
        rows.append([short(name), r2, float(np.sqrt((miss**2).mean())), float(np.abs(miss).mean()), float(miss.mean())])
    body = table("Errors by target", ["target", "R²", "RMSE", "MAE", "mean residual"], rows)
    body += sentence(
        "A residual is the truth minus the prediction. R² 1 is exact, 0 is no better than the mean.", "note"
    )
    ranked = sorted(range(count), key=lambda i: (rows[i][1] is None, rows[i][1] or 0.0))
    for i in sorted(ranked[:MAX_TARGETS]):
        t, p = truth[:, i], prediction[:, i]
        body += heading(names[i]) if count > 1 else Markup()
        body += charts(
            [
                points(f"fit-{i}", "Prediction and truth", p, t, xlabel="prediction", ylabel="truth", rule="diagonal"),
                points(f"residual-{i}", "Residuals", p, t - p, xlabel="prediction", ylabel="residual", rule="zero"),
                histogram(f"spread-{i}", "How large the residuals are", t - p, xlabel="residual"),
            ]
        )
    if count > MAX_TARGETS:
        body += sentence(f"Drawn are the {MAX_TARGETS} targets of {number(count)} with the lowest R².", "note")
    return body


def worst(folder: Folder) -> Markup | None:
    """The items with the largest loss."""
    items = sorted(
        (i for i in folder.items if i.get("role") == "worst"), key=lambda i: -np.nan_to_num(real(i.get("loss")))
    )
    sure = is_classification(folder)
    tiles = []
    for i in items:
        if "source" in i:
            guess, fact = said(i.get("prediction")), said(i.get("truth"))
            wrong = sure and guess != fact
            told = [f"loss {number(i.get('loss'), 3)}", f"item {number(i.get('index'))}"]
            seen = f"Item {i.get('index')}"
            if {"truth", "prediction"} & set(i):
                told, seen = [f"{fact} → {guess}", *told], f"{seen}: truth {fact}, prediction {guess}"
            tiles.append(Tile(i["source"], seen, told, wrong))
    rows = [
        beside_row(
            {key: said(i.get(key)) for key in ("truth", "prediction") if {"truth", "prediction"} & set(i)}
            | {"loss": i.get("loss"), "item": i.get("index")},
            i["row"],
        )
        for i in items
        if isinstance(i.get("row"), dict)
    ]
    if not tiles and not rows:
        rows = _largest(folder)
    if not tiles and not rows:
        return None
    known = any({"truth", "prediction"} & set(i) for i in items) or "truth" in folder.validation
    text = "Truth → prediction. Labels that are wrong, odd inputs and hard cases gather here."
    body = sentence(text if known else "Odd inputs and hard cases gather here.", "note")
    body += part("gallery", tiles, "Items with the largest loss") if tiles else Markup()
    return body + (part("table", table_of("Items with the largest loss", rows[:MAX_ROWS])) if rows else Markup())


def _largest(folder: Folder, count: int = 10) -> list[dict[str, Any]]:
    """The same from validation.npz, where the items themselves are not in the folder."""
    arrays = folder.validation
    loss = arrays.get("loss")
    if loss is None or loss.ndim != 1 or loss.dtype.kind != "f":
        return []
    index = arrays.get("index", np.arange(len(loss)))
    order = np.argsort(-np.nan_to_num(loss, nan=-np.inf), kind="stable")[:count]
    return [
        {
            **{key: said(arrays[key][i].tolist()) for key in ("truth", "prediction") if key in arrays},
            "loss": float(loss[i]),
            "item": index[i].item(),
        }
        for i in order
    ]
