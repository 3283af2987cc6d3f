"""What each part of the page says. A section is made from the folder; None leaves it out."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
from markupsafe import Markup

from konspekt.reports import acted
from konspekt.reports.clustered import CLUSTERS, clusters, is_clustering
from konspekt.reports.drawers import beside_row, draw, table_of
from konspekt.reports.predictions import predictions, worst
from konspekt.reports.pruned import PRUNING, pruning
from konspekt.reports.quality import leakage, left_out, quality
from konspekt.reports.reading import Folder, dicts, mapping
from konspekt.reports.templates import Bar, Tile, beside, bullets, facts, heading, part, sentence, table
from konspekt.reports.training import is_range_test, range_test, training
from konspekt.reports.weights import first_layer
from konspekt.reports.words import (
    GAP,
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
    size,
    title,
)

__all__ = ["SECTIONS", "warnings_of"]

MAX_CLASSES = 30  # of the bars
MAX_ROWS = 8  # of the examples
MAX_TABLE = 100  # rows


# --- the data -------------------------------------------------------------------------------------------------------


def data(folder: Folder) -> Markup | None:
    """What was trained on what."""
    if acted.is_acting(folder):
        return None
    known, source = folder.data, mapping(folder.config.get("data"))
    image = mapping(known.get("image"))
    shape = " × ".join(number(image[k]) for k in ("height", "width", "channels") if k in image)
    body = facts(
        [
            ("task", title(clean(known["task"])) if known.get("task") else None),
            ("source", known.get("source") or source.get("source")),
            ("target", source.get("target")),
            ("points" if is_clustering(folder) else "training items", known.get("train")),
            ("validation items", None if is_clustering(folder) else known.get("validation")),
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
    return body + (quality(folder) or Markup()) + (leakage(folder) or Markup()) + _examples(folder)


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
        Tile(
            i["source"],
            f"Example {number(i.get('index'))}" + (f": {said(i['truth'])}" if "truth" in i else ""),
            [said(i["truth"])] if "truth" in i else [],
        )
        for i in items
        if "source" in i
    ]
    rows = [
        beside_row({"truth": said(i["truth"])} if "truth" in i else {}, i["row"])
        for i in items
        if isinstance(i.get("row"), dict)
    ]
    body = heading("Examples") if tiles or rows else Markup()
    body += part("gallery", tiles, "Examples") if tiles else Markup()
    return body + (part("table", table_of("Examples", rows[:MAX_ROWS])) if rows else Markup())


# --- the rest -------------------------------------------------------------------------------------------------------


def kept(folder: Folder) -> Markup | None:
    """What the system itself kept, but for what stands with the training already."""
    elsewhere = bool(folder.stages and range_test(folder)[0])
    shown = {name: k for name, k in folder.kept.items() if not (elsewhere and is_range_test(name))}
    if pruning(folder) is not None:
        shown.pop(PRUNING)
    if is_clustering(folder):
        shown.pop(CLUSTERS, None)
    parts = (heading(title(name)) + draw(name, k.get("kind"), k.get("value")) for name, k in shown.items())
    return Markup().join(parts) or None


def model(folder: Folder) -> Markup | None:
    """The layers, the first of them, where the time went, and what had been expected."""
    if is_clustering(folder):
        return None
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
    if (spent := _spent(folder)) is not None:
        times += heading("Where the time went") + spent
    epochs = [real(r.get("seconds")) for s in folder.stages for r in s.epochs]
    epochs = [e for e in epochs if np.isfinite(e)]
    if epochs:
        text = f"An epoch took {duration(float(np.median(epochs)))} (median of {number(len(epochs))}"
        text += f"; {duration(min(epochs))} to {duration(max(epochs))})" if len(epochs) > 1 else ")"
        train, middle = real(folder.data.get("train")), float(np.median(epochs))
        speed = f", about {number(float(f'{train / middle:.2g}'))} items a second" if train > 0 and middle > 0 else ""
        times += sentence(f"{text}{speed}.", "note")
    times += _forecast(folder)
    return (beside(parts, times) + (first_layer(folder) or Markup())) or None


def _spent(folder: Folder) -> Markup | None:
    """The seconds of each part of the run."""
    spans = {k: real(v) for k, v in mapping(folder.result.get("timings")).items()}
    spans = {k: v for k, v in spans.items() if np.isfinite(v) and v >= 0}
    if not spans:
        return None
    total = sum(spans.values()) or 1.0
    names = {"train": "fit"} if is_clustering(folder) else {}
    rows = [[names.get(k, score_name(k)), duration(v), percent(v / total), Bar(v / total)] for k, v in spans.items()]
    return table("Time", ["part", "time", "share", ""], rows)


def _forecast(folder: Folder) -> Markup:
    """What the fit was expected to take, beside what it took."""
    before, after = (mapping(folder.result.get(key)) for key in ("forecast", "actual"))
    rows: list[list[Any]] = []
    for key, text, say in (
        ("seconds", "time", duration),
        ("memory", "memory", size),
        ("step_seconds", "a step", duration),
    ):
        said_so, was = real(before.get(key)), real(after.get(key))
        if np.isfinite(said_so) or np.isfinite(was):
            ratio = f"{number(was / said_so, 2)}{GAP}×" if said_so > 0 and np.isfinite(was) else None
            rows.append([text, say(said_so), say(was), ratio])
    if not rows or not before:
        return Markup()
    return heading("Forecast and actual") + table("Forecast", ["", "forecast", "actual", "actual / forecast"], rows)


def warnings_of(folder: Folder) -> list[str]:
    """The warnings of the log, each once, with how often it came."""
    found = Counter(re.findall(r"(?m)^\S+ \S+ WARNING (.*)$", folder.log))
    return [text if count == 1 else f"{text} ({number(count)} times)" for text, count in found.items()]


def problems(folder: Folder) -> Markup | None:
    """Warnings, skipped items, and files that could not be read."""
    warned = warnings_of(folder)
    body = bullets(warned[:MAX_TABLE]) if warned else Markup()
    body += left_out(folder) or Markup()
    if folder.notes:
        body += heading("Not shown on this page") + bullets(folder.notes)
    return body or None


def again(folder: Folder) -> Markup | None:
    """How to run it again: the command, the parameters, versions and machine, the log."""
    config = folder.config
    command, params = clean(config.get("command") or ""), mapping(config.get("params"))
    ours = command.startswith(("konspekt ", "python -m konspekt"))
    takes = acted.python_call(folder) if acted.is_acting(folder) else "X" if is_clustering(folder) else "X, y"
    body = Markup('<pre tabindex="0">{}</pre>').format(command if ours else _python(config, takes))
    if command and not ours:
        body += sentence(f"It was run from {short(command, 200)}.", "note")
    if params:
        body += heading("Parameters") + facts([(k, _value(v)) for k, v in params.items()], "facts code")
    if folder.chosen:
        body += heading("Chosen by the run") + facts(
            [(k, _chosen(k, v)) for k, v in folder.chosen.items()], "facts code"
        )
        body += sentence("What was left to the run to find out, by stage and parameter.", "note")
    versions, machine = mapping(config.get("versions")), mapping(config.get("machine"))
    seed = [("seed", _value(config["seed"]))] if "seed" in config else []
    body += heading("Versions and machine") + facts([*versions.items(), *seed, *machine.items()])
    if folder.log:
        count = plural(folder.log.count("\n"), "line")
        body += Markup("<details><summary>log.txt, {}</summary>").format(count)
        body += Markup('<pre tabindex="0">{}</pre></details>').format(folder.log)
    return body


def _chosen(name: str, value: Any) -> str:
    """What the run chose. For compilation it is the step from which on, or -1."""
    if name.rpartition(".")[2] == "compile" and type(value) is int:
        return "no" if value < 0 else f"from step {number(value)}"
    return number(value, 3) if type(value) is float else _value(value)


def _value(value: Any) -> str:
    """A parameter as Python writes it; a list in config.yaml was a tuple."""
    if isinstance(value, list):
        inner = ", ".join(_value(v) for v in value)
        return f"({inner},)" if len(value) == 1 else f"({inner})"
    return repr(value)


def _python(config: dict[str, Any], data: str) -> str:
    name = clean(config.get("class") or "Estimator")
    given = "".join(f"    {clean(k)}={clean(_value(v))},\n" for k, v in mapping(config.get("params")).items())
    source = mapping(config.get("data")).get("source")
    comment = f"  # data: {short(source, 80)}" if source else ""
    return f"import konspekt\n\nmodel = konspekt.{name}({chr(10) if given else ''}{given})\nmodel.fit({data}){comment}"


def _without_items(folder: Folder) -> bool:
    return is_clustering(folder) or acted.is_acting(folder)


SECTIONS: tuple[tuple[str, str, Callable[[Folder], Markup | None]], ...] = (
    ("problems", "Warnings", problems),
    ("clusters", "Clusters", clusters),
    ("acting", "Training", lambda folder: acted.acting(folder) if acted.is_acting(folder) else None),
    ("played", "Played", lambda folder: acted.played(folder) if acted.is_acting(folder) else None),
    ("environment", "Environment", lambda folder: acted.setting(folder) if acted.is_acting(folder) else None),
    ("data", "Data", data),
    ("pruning", "Pruning", pruning),
    ("training", "Training", lambda folder: None if _without_items(folder) else training(folder)),
    ("predictions", "Predictions", lambda folder: None if _without_items(folder) else predictions(folder)),
    ("worst", "Largest losses", worst),
    ("kept", "Kept by the system", kept),
    ("episodes", "Last episodes", lambda folder: acted.episodes(folder) if acted.is_acting(folder) else None),
    ("model", "Model and time", model),
    ("time", "Time", lambda folder: _spent(folder) if is_clustering(folder) else None),
    ("again", "Run it again", again),
)
