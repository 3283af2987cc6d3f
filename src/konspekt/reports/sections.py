"""What each part of the page says. A section is made from the folder; None leaves it out."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

from konspekt.reports.drawers import draw, table_of
from konspekt.reports.figures import Line, Picture, histogram, lines, points, raster, reliability
from konspekt.reports.reading import Folder, dicts, mapping
from konspekt.reports.templates import Bar, Cell, Grid, Table, Tile, cell, part
from konspekt.reports.timeline import Timeline
from konspekt.reports.words import (
    clean,
    duration,
    listed,
    number,
    percent,
    plural,
    real,
    score_name,
    short,
    title,
)

__all__ = ["SECTIONS", "is_classification", "warnings_of"]

MAX_CLASSES = 30  # of a confusion matrix that is written out
MAX_CHARTS = 12
MAX_LAYERS = 32  # rows of the gradient picture
MAX_TABLE = 100
MAX_TARGETS = 6


# --- small pieces ---------------------------------------------------------------------------------------------------


def sentence(text: str, kind: str = "") -> Markup:
    """A paragraph."""
    return Markup('<p class="{}">{}</p>').format(kind, text) if kind else Markup("<p>{}</p>").format(text)


def heading(text: str) -> Markup:
    """A heading within a section."""
    return Markup("<h3>{}</h3>").format(clean(text))


def bullets(texts: Iterable[str]) -> Markup:
    """A list."""
    return Markup("<ul>{}</ul>").format(Markup().join(Markup("<li>{}</li>").format(clean(t)) for t in texts))


def facts(pairs: Iterable[tuple[str, Any]], kind: str = "facts") -> Markup:
    """Names and values; what is None or empty is left out."""
    known = [(k, v) for k, v in pairs if v not in (None, "", [])]
    rows = (Markup("<div><dt>{}</dt><dd>{}</dd></div>").format(clean(k), cell(v)) for k, v in known)
    return Markup('<dl class="{}">{}</dl>').format(kind, Markup().join(rows))


def charts(pictures: Sequence[Picture]) -> Markup:
    """Small multiples: as many beside each other as there is room for."""
    narrow = Markup().join(part("figure", p) for p in pictures if not p.wide)
    wide = Markup().join(part("figure", p) for p in pictures if p.wide)
    return (Markup('<div class="charts">{}</div>').format(narrow) if narrow else narrow) + wide


def beside(*blocks: Markup) -> Markup:
    """Blocks beside each other where there is room."""
    inner = Markup().join(Markup("<div>{}</div>").format(b) for b in blocks if b)
    return Markup('<div class="beside">{}</div>').format(inner) if inner else inner


def table(caption: str, head: Sequence[str], rows: Sequence[Sequence[Any]], note: str = "") -> Markup:
    """A table without the columns in which nothing stands."""
    filled = [i for i in range(len(head)) if i == 0 or any(row[i] not in (None, "") for row in rows)]
    body = [[row[i] for i in filled] for row in rows]
    return part("table", Table(caption, [head[i] for i in filled], body, note))


# --- the data -------------------------------------------------------------------------------------------------------


def data(folder: Folder) -> Markup | None:
    """What was trained on what."""
    said, source = folder.data, mapping(folder.config.get("data"))
    image = mapping(said.get("image"))
    shape = " × ".join(number(image[k]) for k in ("height", "width", "channels") if k in image)
    body = facts(
        [
            ("task", title(clean(said["task"])) if said.get("task") else None),
            ("source", said.get("source") or source.get("source")),
            ("target", source.get("target")),
            ("training items", said.get("train")),
            ("validation items", said.get("validation")),
            ("pictures", f"{shape} {clean(image.get('dtype') or '')}".strip()),
            ("fingerprint", short(said.get("fingerprint") or "", 16)),
            ("files left aside", listed(said["ignored"]) if isinstance(said.get("ignored"), list) else None),
        ]
    )
    if not said:
        body += sentence("data.json is absent: the run ended before its data were described.", "note")
    if isinstance(said.get("notes"), list) and said["notes"]:
        body += bullets(said["notes"])
    if classes := dicts(said.get("classes")):
        body += heading(f"{number(len(classes))} classes") + _classes(classes)
    if targets := dicts(said.get("targets")):
        keys = ("name", "mean", "std", "min", "max")
        body += heading("Targets") + table("Targets", keys, [[t.get(k) for k in keys] for t in targets[:MAX_TABLE]])
    if columns := dicts(said.get("columns")):
        body += heading(plural(len(columns), "column")) + _columns(columns)
    return body + _examples(folder)


def _classes(classes: list[dict[str, Any]]) -> Markup:
    largest = max((np.nan_to_num(real(c.get("train"))) for c in classes), default=0.0) or 1.0
    total = sum(np.nan_to_num(real(c.get("train"))) for c in classes) or 1.0
    note = ""
    if len(classes) > MAX_CLASSES:
        ranked = sorted(classes, key=lambda c: -np.nan_to_num(real(c.get("train"))))
        note = f"The {MAX_CLASSES // 2} largest and the {MAX_CLASSES // 2} smallest of {number(len(classes))} classes."
        classes = [*ranked[: MAX_CLASSES // 2], *ranked[-(MAX_CLASSES // 2) :]]
    rows = []
    for c in classes:
        train = np.nan_to_num(real(c.get("train")))
        name = short(c.get("name"), 60)
        rows.append([name, Bar(train / largest), c.get("train"), percent(train / total), c.get("validation")])
    return table("Classes", ["class", "", "training", "share", "validation"], rows, note)


def _columns(columns: list[dict[str, Any]]) -> Markup:
    rows = []
    for c in columns[:MAX_TABLE]:
        top = c.get("top") if isinstance(c.get("top"), list) else []
        common = ", ".join(f"{short(t[0], 20)} ({number(t[1])})" for t in (top or [])[:4] if isinstance(t, list))
        measures = [c.get(k) for k in ("missing", "unique", "min", "mean", "max", "std")]
        rows.append([short(c.get("name"), 60), c.get("type"), *measures, common, c.get("note")])
    head = ["column", "type", "missing", "unique", "min", "mean", "max", "std", "most frequent", "note"]
    more = len(columns) - MAX_TABLE
    return table("Columns", head, rows, f"And {plural(more, 'more column')}." if more > 0 else "")


def _examples(folder: Folder) -> Markup:
    items = [i for i in folder.items if i.get("role") == "example"]
    tiles = [
        Tile(i["source"], f"Example {number(i.get('index'))}: {_said(i.get('truth'))}", [_said(i.get("truth"))])
        for i in items
        if "source" in i
    ]
    rows = [{"truth": _said(i.get("truth")), **i["row"]} for i in items if isinstance(i.get("row"), dict)]
    body = heading("Examples") if tiles or rows else Markup()
    body += part("gallery", tiles, "Examples") if tiles else Markup()
    return body + (part("table", table_of("Examples", rows)) if rows else Markup())


def _said(value: Any) -> str:
    """A truth or a prediction, which may be a list."""
    if isinstance(value, (list, tuple)):
        return ", ".join(_said(v) for v in value)
    return short(number(value, 3) if isinstance(value, float) else value if value is not None else "–", 40)


# --- the training ---------------------------------------------------------------------------------------------------


def training(folder: Folder) -> Markup | None:
    """Curves of everything measured, the learning rate, the gradients."""
    time = Timeline(folder.stages)
    if not time.stages:
        return sentence("metrics.jsonl holds no step and no epoch: the run ended before its first record.", "note")
    pictures = [p for name in time.measures if (p := _measure(time, name))]
    more = [score_name(name) for name in time.measures[MAX_CHARTS:]] if len(pictures) > MAX_CHARTS else []
    pictures = pictures[:MAX_CHARTS]
    body = Markup()
    rates = time.steps("lr") if len(time.steps("lr")[0]) else time.epochs("lr")
    steady = len(np.unique(rates[1][np.isfinite(rates[1])])) <= 1
    if len(rates[0]) and not steady:
        pictures.append(_chart(time, "lr", "Learning rate", [Line("learning rate", *rates)], log=False))
    norms = [Line("single steps", *time.steps("grad_norm"), "faint"), Line("gradient norm", *time.epochs("grad_norm"))]
    if any(np.isfinite(n.y).any() for n in norms):
        pictures.append(_chart(time, "grad-norm", "Gradient norm", norms))
    names, values = time.layers()
    if len(names) > 1 and np.isfinite(values).any():
        pictures.append(_gradients(names, values))
    if len(rates[0]) and steady:
        body += sentence(f"The learning rate was {number(float(rates[1][0]))} throughout.", "note")
    if more:
        body += sentence(f"Also recorded, in metrics.jsonl: {listed(more, 20)}.", "note")
    return charts(pictures) + body


def _measure(time: Timeline, name: str) -> Picture | None:
    train, steps, held = time.epochs(name), time.steps(name), time.epochs(f"val_{name}")
    both = len(held[0]) > 0
    series = [
        Line("validation", *held),
        Line("training", *train, "quiet" if both else "main"),
        Line("single steps", *steps, "faint" if len(train[0]) else "main"),
    ]
    series = [s for s in series if np.isfinite(s.y).any()]
    if not series:
        return None
    lost = sum(int((~np.isfinite(s.y)).sum()) for s in series)
    note = f"{plural(lost, 'value was', 'values were')} not finite: the line has a gap there." if lost else ""
    return _chart(time, f"measure-{name}", title(score_name(name)), series, best=both, note=note)


def _chart(
    time: Timeline, name: str, heading: str, series: Sequence[Line], *, best: bool = False, log: bool | None = None,
    note: str = "",
) -> Picture:
    stages = time.starts if len(time.starts) > 1 else ()
    mark = time.best if best else None
    series = [s for s in series if len(s.x)]
    return lines(name, heading, series, xlabel=time.unit, best=mark, stages=stages, log=log, note=note)


def _gradients(names: list[str], values: np.ndarray) -> Picture:
    shared = os.path.commonprefix(names).rpartition(".")[0]
    names = [n[len(shared) :].lstrip(".") for n in names]
    caption = "One row a parameter"
    while len(names) > MAX_LAYERS and any("." in n for n in names):
        parents = [n.rpartition(".")[0] or n for n in names]
        groups = list(dict.fromkeys(parents))
        inside = np.array([[p == g for p in parents] for g in groups], dtype=float)
        values = np.sqrt(inside @ np.nan_to_num(values) ** 2)
        names, caption = groups, "One row a group of parameters"
    if len(names) > MAX_LAYERS:
        caption = f"The first {MAX_LAYERS} of {number(len(names))} parameters"
    values, names = values[:MAX_LAYERS], names[:MAX_LAYERS]
    last = values.shape[1]
    values = values[:, :: -(-last // 600)]
    caption += ", one column an epoch; a row without colour got no gradient."
    columns = ("epoch 1", f"epoch {number(last)}" if last > 1 else "")
    return raster("layers", "Gradient norm by layer", values, names, columns=columns, log=True, caption=caption)


# --- the predictions ------------------------------------------------------------------------------------------------


def is_classification(folder: Folder) -> bool:
    """Whether the predictions are classes."""
    truth = folder.validation.get("truth")
    return "classification" in clean(folder.data.get("task", "")) or (truth is not None and truth.dtype.kind in "US")


def predictions(folder: Folder) -> Markup | None:
    """Where the model is right and where it is wrong."""
    if "truth" not in folder.validation:
        return sentence("validation.npz is absent: no items were held out, or the run ended before they were predicted.", "note")
    truth, prediction = folder.validation["truth"], folder.validation["prediction"]
    where = " on the training data" if folder.result.get("scores_on") == "train" else ""
    body = sentence(f"{plural(len(truth), 'item')}{where}.", "note")
    if is_classification(folder):
        return body + (_confusion(folder) if truth.ndim == 1 else Markup())
    if truth.dtype.kind not in "fiu" or prediction.dtype.kind not in "fiu":
        return body + sentence("Truth and prediction are neither classes nor numbers; nothing is drawn.", "note")
    return body + _residuals(folder, truth.reshape(len(truth), -1), prediction.reshape(len(truth), -1))


def _confusion(folder: Folder) -> Markup:
    truth = folder.validation["truth"].astype(str)
    prediction = folder.validation["prediction"].astype(str)
    known = [str(c) for c in folder.validation.get("classes", np.array([])).astype(str).ravel()]
    known = known or [str(c.get("name")) for c in dicts(folder.data.get("classes"))]
    seen = sorted({*truth.tolist(), *prediction.tolist()} - {*known})
    order = {name: i for i, name in enumerate(dict.fromkeys([*known, *seen]))}
    counts = np.zeros((len(order), len(order)), dtype=int)
    np.add.at(counts, ([order[t] for t in truth.tolist()], [order[p] for p in prediction.tolist()]), 1)
    names = [short(n, 24) for n in order]
    body = heading("Confusions") + (_pairs(counts, names) if len(names) > MAX_CLASSES else _grid(counts, names))
    chart = Markup()
    chance = folder.validation.get("probability")
    if chance is not None and chance.ndim == 2 and chance.dtype.kind == "f":
        sure = chance.max(axis=1)
        usable = np.isfinite(sure) & (sure >= 0) & (sure <= 1)
        if usable.any():
            picture = reliability("reliability", "", sure[usable], (truth == prediction)[usable])
            chart = heading("How sure, how right") + part("figure", picture)
    return beside(body, chart) if len(names) <= 12 else body + chart


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
    rows = [[names[i], names[j], int(wrong[i, j]), percent(wrong[i, j] / counts[i].sum())] for i, j in pairs if wrong[i, j]]
    if not rows:
        return sentence("Every item was classified rightly.")
    return sentence(f"{number(len(names))} classes: the pairs most often confused.") + table(
        "Most confused pairs", ["truth", "prediction", "items", "share of the class"], rows
    )


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
    body += sentence("A residual is the truth minus the prediction. R² 1 is exact, 0 is no better than the mean.", "note")
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
    items = sorted((i for i in folder.items if i.get("role") == "worst"), key=lambda i: -np.nan_to_num(real(i.get("loss"))))
    sure = is_classification(folder)
    tiles = []
    for i in items:
        if "source" in i:
            said, is_so = _said(i.get("prediction")), _said(i.get("truth"))
            wrong = sure and said != is_so
            told = [f"{is_so} → {said}", f"loss {number(i.get('loss'), 3)}", f"item {number(i.get('index'))}"]
            tiles.append(Tile(i["source"], f"Item {i.get('index')}: truth {is_so}, prediction {said}", told, wrong))
    rows = [
        {"truth": _said(i.get("truth")), "prediction": _said(i.get("prediction")), "loss": i.get("loss"),
         "item": i.get("index"), **i["row"]}
        for i in items if isinstance(i.get("row"), dict)
    ]  # fmt: skip
    if not tiles and not rows:
        rows = _largest(folder)
    if not tiles and not rows:
        return None
    body = sentence("Truth → prediction. Labels that are wrong, odd inputs and hard cases gather here.", "note")
    body += part("gallery", tiles, "Items with the largest loss") if tiles else Markup()
    return body + (part("table", table_of("Items with the largest loss", rows)) if rows else Markup())


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
            "truth": _said(arrays["truth"][i].tolist()),
            "prediction": _said(arrays["prediction"][i].tolist()),
            "loss": float(loss[i]),
            "item": index[i].item(),
        }
        for i in order
    ]


# --- the rest -------------------------------------------------------------------------------------------------------


def kept(folder: Folder) -> Markup | None:
    """What the system itself kept."""
    if not folder.kept:
        return None
    parts = (heading(title(name)) + draw(name, k.get("kind"), k.get("value")) for name, k in folder.kept.items())
    return Markup().join(parts)


def model(folder: Folder) -> Markup | None:
    """The layers, and where the time went."""
    layers = dicts(folder.result.get("layers"))
    parts = Markup()
    times = Markup()
    if layers:
        counts = [np.nan_to_num(real(row.get("parameters"))) for row in layers]
        largest = max(counts) or 1.0
        rows = [
            [short(row.get("name") or "–", 60), short(row.get("type") or "", 40), row.get("parameters"), Bar(n / largest)]
            for row, n in zip(layers[:MAX_TABLE], counts, strict=False)
        ]
        more = len(layers) - MAX_TABLE
        note = f"And {plural(more, 'more layer')}." if more > 0 else ""
        parts += heading("Layers") + table("Layers", ["layer", "type", "parameters", ""], rows, note)
    spans = {k: real(v) for k, v in mapping(folder.result.get("timings")).items()}
    spans = {k: v for k, v in spans.items() if np.isfinite(v) and v >= 0}
    if spans:
        total = sum(spans.values()) or 1.0
        rows = [[score_name(k), duration(v), percent(v / total), Bar(v / total)] for k, v in spans.items()]
        times += heading("Where the time went") + table("Time", ["part", "time", "share", ""], rows)
    epochs = [real(r.get("seconds")) for s in folder.stages for r in s.epochs]
    epochs = [e for e in epochs if np.isfinite(e)]
    if epochs:
        text = f"An epoch took {duration(float(np.median(epochs)))} (median of {number(len(epochs))}"
        text += f"; {duration(min(epochs))} to {duration(max(epochs))})" if len(epochs) > 1 else ")"
        train, middle = real(folder.data.get("train")), float(np.median(epochs))
        speed = f", about {number(float(f'{train / middle:.2g}'))} items a second" if train > 0 and middle > 0 else ""
        times += sentence(f"{text}{speed}.", "note")
    return beside(parts, times) or None


def warnings_of(folder: Folder) -> list[str]:
    """The warnings of the log, each once, with how often it came."""
    found = Counter(re.findall(r"(?m)^\S+ \S+ WARNING (.*)$", folder.log))
    return [text if count == 1 else f"{text} ({number(count)} times)" for text, count in found.items()]


def problems(folder: Folder) -> Markup | None:
    """Warnings, skipped items, and files that could not be read."""
    warned, skipped = warnings_of(folder), dicts(folder.data.get("skipped"))
    body = bullets(warned[:MAX_TABLE]) if warned else Markup()
    if skipped:
        rows = [[short(s.get("item"), 120), short(s.get("reason"), 200)] for s in skipped[:MAX_TABLE]]
        more = len(skipped) - MAX_TABLE
        note = f"And {plural(more, 'more item')}, in data.json." if more > 0 else ""
        body += heading(plural(len(skipped), "skipped item")) + table("Skipped items", ["item", "reason"], rows, note)
    if folder.notes:
        body += heading("Not shown on this page") + bullets(folder.notes)
    return body or None


def again(folder: Folder) -> Markup | None:
    """How to run it again: the command, the parameters, versions and machine, the log."""
    config = folder.config
    command, params = config.get("command"), mapping(config.get("params"))
    body = Markup('<pre tabindex="0">{}</pre>').format(clean(command) if command else _python(config))
    if params:
        body += heading("Parameters") + facts([(k, _value(v)) for k, v in params.items()], "facts code")
    versions, machine = mapping(config.get("versions")), mapping(config.get("machine"))
    seed = [("seed", _value(config["seed"]))] if "seed" in config else []
    body += heading("Versions and machine") + facts([*versions.items(), *seed, *machine.items()])
    if folder.log:
        count = plural(folder.log.count("\n"), "line")
        text = '<details><summary>log.txt, {}</summary><pre tabindex="0">{}</pre></details>'
        body += Markup(text).format(count, folder.log)
    return body


def _value(value: Any) -> str:
    """A parameter as Python writes it; a list in config.yaml was a tuple."""
    if isinstance(value, list):
        inner = ", ".join(_value(v) for v in value)
        return f"({inner},)" if len(value) == 1 else f"({inner})"
    return repr(value)


def _python(config: dict[str, Any]) -> str:
    name = clean(config.get("class") or "Estimator")
    given = "".join(f"    {clean(k)}={clean(_value(v))},\n" for k, v in mapping(config.get("params")).items())
    source = mapping(config.get("data")).get("source")
    comment = f"  # data: {short(source, 80)}" if source else ""
    return f"import konspekt\n\nmodel = konspekt.{name}({chr(10) if given else ''}{given})\nmodel.fit(X, y){comment}"


SECTIONS: tuple[tuple[str, str, Callable[[Folder], Markup | None]], ...] = (
    ("problems", "Warnings", problems),
    ("data", "Data", data),
    ("training", "Training", training),
    ("predictions", "Predictions", predictions),
    ("worst", "Largest losses", worst),
    ("kept", "Kept by the system", kept),
    ("model", "Model and time", model),
    ("again", "Run it again", again),
)
