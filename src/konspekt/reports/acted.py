"""What the page says about an agent's run: return against environment steps, its losses, the played pictures, the last episodes."""

from __future__ import annotations

from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes

from konspekt.reports.canvas import HEIGHT, MUTED, SERIES, WIDTH, end_labels, finite, name_axes, scale, svg, thin
from konspekt.reports.figures import Line, Picture, lines
from konspekt.reports.reading import Folder, mapping
from konspekt.reports.templates import charts, facts, part, sentence, table
from konspekt.reports.timeline import NOT_MEASURED
from konspekt.reports.training import training
from konspekt.reports.words import (
    clean,
    listed,
    number,
    plural,
    real,
    score,
    score_name,
    short,
    title,
)

__all__ = [
    "acting",
    "context",
    "counts",
    "episodes",
    "is_acting",
    "outcome",
    "played",
    "python_call",
    "scores",
    "setting",
]

RECENT = 100  # episodes of which a running mean is taken, as the fit's own records do
DOTS = 500  # episodes that are drawn
TABLE = 12  # of the last episodes
MAX_CHARTS = 14
OTHERWISE = NOT_MEASURED | {"env_steps", "episodes", "return", "length"}  # have no picture, or one of their own
NAMES = {
    "epsilon": "epsilon, the share of random actions",
    "grad_norm": "gradient norm",
    "lr": "learning rate",
    "q": "mean q",
    "replay": "transitions in the replay",
    "td_error": "TD error",
}


def is_acting(folder: Folder) -> bool:
    """Whether the run is that of an agent."""
    return clean(folder.data.get("task") or "") == "acting"


# --- the headline ---------------------------------------------------------------------------------------------------


def scores(folder: Folder) -> dict[str, Any]:
    """The scores; without result.json, those of the last record."""
    found = {clean(k): v for k, v in mapping(folder.result.get("scores")).items()}
    if found or folder.result:
        return found
    last: dict[str, Any] = next((r for r in reversed(_records(folder)) if np.isfinite(real(r.get("return")))), {})
    return {k: last[k] for k in ("return", "length") if k in last}


def context(folder: Folder) -> list[str]:
    """What the score is, and is not."""
    count = _count(folder)
    if not scores(folder):
        told = ["No episode ended, so there is no return."] if folder.result and _steps(folder) else []
        return told + _greedy(folder)
    what = (
        f"The mean of the last {number(RECENT)} episodes"
        if count > RECENT
        else f"The mean of {plural(count, 'episode')}"
    )
    return [f"{what} of the training, actions taken to explore included.", *_greedy(folder)]


def _greedy(folder: Folder) -> list[str]:
    got = real(folder.film.get("told", {}).get("return"))
    return (
        [f"One greedy episode afterwards got {number(got)}; konspekt evaluate plays many."] if np.isfinite(got) else []
    )


def counts(folder: Folder) -> list[tuple[str, str]]:
    """The few numbers below the headline."""
    known, steps, seconds = scores(folder), _steps(folder), real(folder.result.get("seconds"))
    table_of = folder.episodes
    told = [
        ("standard deviation", score("return_std", known["return_std"]) if "return_std" in known else ""),
        ("best episode", number(float(table_of["return"].max())) if table_of else ""),
        ("mean length", number(real(known["length"])) if "length" in known else ""),
        ("episodes", number(_count(folder)) if _count(folder) else ""),
        ("environment steps", number(steps) if steps else ""),
        ("steps a second", number(float(f"{steps / seconds:.2g}")) if steps and seconds > 0 else ""),
    ]
    parameters = folder.result.get("parameters")
    return [*told, ("parameters", number(parameters) if parameters is not None else "")]


def outcome(folder: Folder) -> tuple[str, str]:
    """One word for the state of the run, and its story in a sentence."""
    steps, wanted = _steps(folder), mapping(folder.config.get("params")).get("steps")
    if not folder.stages:
        return "interrupted", "The run ended before its first record."
    of = f" of {number(wanted)}" if isinstance(wanted, int) and wanted > steps else ""
    done = f"{plural(steps, 'environment step')}{of}" if not of else f"{number(steps)}{of} environment steps"
    if not folder.result:
        more = "; resume goes on from its newest checkpoint" if (folder.path / "checkpoint").is_dir() else ""
        return "interrupted", f"The run was interrupted after {done}{more}."
    if not steps:
        return "finished", f"The answer was found without acting, in {plural(len(_records(folder)), 'round')}."
    count = _count(folder)
    reason = str((folder.stages[-1].end or {}).get("stopped") or "")
    why = {
        "max_time": "its time was over",
        "patience": "its greedy episodes no longer improved",
        "callback": "a callback stopped it",
    }
    if reason not in why:
        return (
            "finished",
            f"The agent made {plural(steps, 'environment step')}, {plural(count, 'whole episode')} among them.",
        )
    return "finished", f"The agent made {done}, {plural(count, 'whole episode')} among them, until {why[reason]}."


def _count(folder: Folder) -> int:
    said = folder.result.get("episodes")
    return said if isinstance(said, int) else len(folder.episodes.get("return", ()))


def _steps(folder: Folder) -> int:
    last = [real(r.get("env_steps")) for r in _records(folder)]
    last = [s for s in last if np.isfinite(s)]
    return int(max(last)) if last else 0


def _records(folder: Folder) -> list[dict[str, Any]]:
    return [r for s in folder.stages for r in s.epochs]


# --- the environment ------------------------------------------------------------------------------------------------


def setting(folder: Folder) -> Markup:
    """What was acted in."""
    known = folder.data
    notes = [clean(n) for n in known["notes"]] if isinstance(known.get("notes"), list) else []
    body = facts(
        [
            ("environment", known.get("source")),
            ("observations", known.get("observations")),
            ("actions", known.get("actions")),
            ("stepped together", known.get("environments")),
            ("discount", mapping(folder.config.get("params")).get("gamma")),
            ("fingerprint", clean(known.get("fingerprint") or "")[:12]),
        ]
    )
    return body + Markup().join(sentence(n, "note") for n in notes)


# --- the training ---------------------------------------------------------------------------------------------------


def acting(folder: Folder) -> Markup | None:
    """Return and length of the episodes, and everything measured, against environment steps."""
    records = [r for r in _records(folder) if np.isfinite(real(r.get("env_steps")))]
    if not records and not folder.episodes:
        return training(folder)  # of what learns without acting, from epoch to epoch
    records.sort(key=lambda r: real(r.get("env_steps")))
    pictures = [p for key in ("return", "length") if (p := _of_episodes(folder, records, key))]
    keys = [k for r in records for k, v in r.items() if not isinstance(v, (dict, list, str))]
    names = [n for n in dict.fromkeys(k.removeprefix("val_") for k in keys) if n not in OTHERWISE]
    names = sorted(names, key=lambda n: ("epsilon", "loss").index(n) if n in ("epsilon", "loss") else 2)
    more: list[str] = []
    fixed: list[str] = []
    for name in [*names, "lr", "grad_norm"]:
        series = [
            Line(word, *_series(records, key)) for word, key in (("training", name), ("greedy episodes", f"val_{name}"))
        ]
        series = [s for s in series if np.isfinite(s.y).sum() > 1]
        if not series:
            continue
        values = np.unique(np.concatenate([s.y[np.isfinite(s.y)] for s in series]))
        if len(values) == 1:
            fixed.append(f"{score_name(name)} {number(float(values[0]))}")
            continue
        if len(pictures) >= MAX_CHARTS:
            more.append(score_name(name))
            continue
        heading = title(NAMES.get(name, score_name(name)))
        pictures.append(lines(f"measure-{name}", heading, series, xlabel="environment steps"))
    body = charts(pictures)
    if fixed:
        body += sentence(f"The same in every record: {listed(fixed, 20)}.", "note")
    if more:
        body += sentence(f"Also recorded, in metrics.jsonl: {listed(more, 20)}.", "note")
    return body


def _series(records: list[dict[str, Any]], key: str) -> tuple[np.ndarray, np.ndarray]:
    pairs = [(real(r["env_steps"]), real(r[key])) for r in records if key in r]
    return np.array([x for x, _ in pairs], dtype=float), np.array([y for _, y in pairs], dtype=float)


def _of_episodes(folder: Folder, records: list[dict[str, Any]], key: str) -> Picture | None:
    """Each episode as a faint point, the running mean as a line, greedy episodes between epochs as another."""
    heading = {"return": "Return", "length": "Length of the episodes"}[key]
    at, values = (folder.episodes.get(k, np.zeros(0)) for k in ("at", key))
    if len(values):
        sums = np.concatenate([[0.0], np.cumsum(values)])
        first = np.maximum(np.arange(len(values)) + 1 - RECENT, 0)
        mean = (sums[1:] - sums[first]) / (np.arange(len(values)) + 1 - first)
        main = (at, mean)
    else:
        main = _series(records, key)
    greedy = _series(records, f"val_{key}")
    both = len(finite(greedy[1])) > 0
    if len(finite(main[1])) == 0:
        return None
    chosen = np.unique(np.linspace(0, max(len(values) - 1, 0), min(len(values), DOTS)).astype(int))

    def draw(axes: Axes) -> None:
        axes.plot(at[chosen], values[chosen], ".", ms=3.6, mec="none", color=MUTED, alpha=0.45, clip_on=False, zorder=1)
        ends = []
        for (x, y), word, colour in ((main, "training", SERIES[0]), (greedy, "greedy", SERIES[1])):
            if len(finite(y)):
                few = "o" if len(finite(y)) <= 12 else ""
                axes.plot(*thin(x, y), color=colour, lw=2.2, marker=few, ms=3.5, clip_on=False, zorder=3)
                ends.append((float(finite(y)[-1]), word, colour))
        scale(axes, "x", whole=True)
        scale(axes, "y")
        name_axes(axes, "environment steps", "")
        axes.set_xlim(left=0)
        if both:
            end_labels(axes, ends)

    y = finite(main[1])
    told = f"{heading} against environment steps: the running mean goes from {number(float(y[0]), 3)} to {number(float(y[-1]), 3)}"
    caption = f"Line: mean of the last {number(RECENT)} episodes."
    if len(values):
        drawn = (
            f"{number(len(chosen))} of {number(len(values))} episodes"
            if len(chosen) < len(values)
            else "an episode each"
        )
        caption += f" Points: {drawn}."
    margins = (44, 60 if both else 14, 18, 34)
    return Picture(heading, svg(f"episodes-{key}", told, draw, size=(WIDTH, HEIGHT), margins=margins), caption)


# --- what was played ------------------------------------------------------------------------------------------------


def played(folder: Folder) -> Markup | None:
    """The pictures of an episode played after the training: moving, and some of them beside each other."""
    film = folder.film
    if "gif" not in film and "strip" not in film:
        return None
    told, limit = film.get("told", {}), ""
    if told.get("truncated") is True:
        limit = ", cut by the time limit"
    elif told.get("cut") is True:
        limit = " before it was left, as it went on"
    known = {k: real(told.get(k)) for k in ("return", "length")}
    if not all(np.isfinite(v) for v in known.values()):
        text = "A greedy episode after the training."
    else:
        text = f"A greedy episode after the training: return {number(known['return'])}, {plural(int(known['length']), 'step')}{limit}"
        text += f"; seed {told['seed']}." if isinstance(told.get("seed"), int) else "."
    return part("film", film.get("gif"), film.get("first"), film.get("strip"), text)


def episodes(folder: Folder) -> Markup | None:
    """The last episodes of the training."""
    known = folder.episodes
    if not known:
        return None
    several = len(np.unique(known["env"])) > 1
    rows = []
    for i in range(len(known["return"]) - 1, max(len(known["return"]) - 1 - TABLE, -1), -1):
        rows.append(
            [
                number(i + 1),
                float(known["return"][i]),
                int(known["length"][i]),
                "time limit" if known["truncated"][i] else "its own end",
                int(known["env"][i]) if several else None,
                str(int(known["seed"][i])),
            ]
        )
    body = table("Last episodes", ["episode", "return", "length", "ended by", "environment", "seed"], rows)
    link = Markup('<a href="episodes.csv">episodes.csv</a>')
    return body + Markup('<p class="note">All {} are in {}, beside this page in the run folder.</p>').format(
        number(len(known["return"])), link
    )


def python_call(folder: Folder) -> str:
    """What `fit` was given, for Python."""
    source = mapping(folder.config.get("data"))
    return repr(short(source.get("source"), 80)) if source.get("kind") == "environment" else "env"
