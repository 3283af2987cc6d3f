"""What each part of the page says. A section is made from the folder; None leaves it out."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

from konspekt.reports.drawers import beside_row, draw, table_of
from konspekt.reports.figures import Line, Picture, lines, raster
from konspekt.reports.predictions import predictions, worst
from konspekt.reports.reading import Folder, dicts, mapping
from konspekt.reports.templates import Bar, Tile, beside, bullets, charts, facts, heading, part, sentence, table
from konspekt.reports.timeline import Timeline
from konspekt.reports.words import (
    clean,
    duration,
    listed,
    number,
    percent,
    plural,
    real,
    said,
    score_name,
    short,
    title,
)

__all__ = ["SECTIONS", "warnings_of"]

MAX_CHARTS = 12
MAX_CLASSES = 30  # of the bars
MAX_ROWS = 8  # of the examples
MAX_LAYERS = 32  # rows of the gradient picture
MAX_TABLE = 100  # rows


# --- the data -------------------------------------------------------------------------------------------------------


def data(folder: Folder) -> Markup | None:
    """What was trained on what."""
    known, source = folder.data, mapping(folder.config.get("data"))
    image = mapping(known.get("image"))
    shape = " × ".join(number(image[k]) for k in ("height", "width", "channels") if k in image)
    body = facts(
        [
            ("task", title(clean(known["task"])) if known.get("task") else None),
            ("source", known.get("source") or source.get("source")),
            ("target", source.get("target")),
            ("training items", known.get("train")),
            ("validation items", known.get("validation")),
            ("pictures", f"{shape} {clean(image.get('dtype') or '')}".strip()),
            ("fingerprint", clean(known.get("fingerprint") or "")[:12]),
            ("files left aside", listed(known["ignored"]) if isinstance(known.get("ignored"), list) else None),
        ]
    )
    if not known:
        body += sentence("data.json is absent: the run ended before its data were described.", "note")
    if isinstance(known.get("notes"), list) and known["notes"]:
        body += bullets(known["notes"])
    if classes := dicts(known.get("classes")):
        body += heading(f"{number(len(classes))} classes") + _classes(classes)
    if targets := dicts(known.get("targets")):
        keys = ("name", "mean", "std", "min", "max")
        body += heading("Targets") + table("Targets", keys, [[t.get(k) for k in keys] for t in targets[:MAX_TABLE]])
    if columns := dicts(known.get("columns")):
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
        Tile(i["source"], f"Example {number(i.get('index'))}: {said(i.get('truth'))}", [said(i.get("truth"))])
        for i in items
        if "source" in i
    ]
    rows = [beside_row({"truth": said(i.get("truth"))}, i["row"]) for i in items if isinstance(i.get("row"), dict)]
    body = heading("Examples") if tiles or rows else Markup()
    body += part("gallery", tiles, "Examples") if tiles else Markup()
    return body + (part("table", table_of("Examples", rows[:MAX_ROWS])) if rows else Markup())


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
    time: Timeline,
    name: str,
    heading: str,
    series: Sequence[Line],
    *,
    best: bool = False,
    log: bool | None = None,
    note: str = "",
) -> Picture:
    stages = time.starts if len(time.starts) > 1 else ()
    mark = time.best if best else None
    series = [s for s in series if len(s.x)]
    return lines(name, heading, series, xlabel=time.unit, best=mark, stages=stages, log=log, note=note)


def _gradients(names: list[str], values: np.ndarray) -> Picture:
    while len({n.partition(".")[0] for n in names}) == 1 and all("." in n for n in names):
        names = [n.partition(".")[2] for n in names]
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
            [
                short(row.get("name") or "–", 60),
                short(row.get("type") or "", 40),
                row.get("parameters"),
                Bar(n / largest),
            ]
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
    command, params = clean(config.get("command") or ""), mapping(config.get("params"))
    ours = command.startswith(("konspekt ", "python -m konspekt"))
    body = Markup('<pre tabindex="0">{}</pre>').format(command if ours else _python(config))
    if command and not ours:
        body += sentence(f"It was run from {short(command, 200)}.", "note")
    if params:
        body += heading("Parameters") + facts([(k, _value(v)) for k, v in params.items()], "facts code")
    versions, machine = mapping(config.get("versions")), mapping(config.get("machine"))
    seed = [("seed", _value(config["seed"]))] if "seed" in config else []
    body += heading("Versions and machine") + facts([*versions.items(), *seed, *machine.items()])
    if folder.log:
        count = plural(folder.log.count("\n"), "line")
        body += Markup("<details><summary>log.txt, {}</summary>").format(count)
        body += Markup('<pre tabindex="0">{}</pre></details>').format(folder.log)
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
