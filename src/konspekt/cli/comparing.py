"""`konspekt compare`: several methods on the same data, or agents in the same environment: a table in the terminal and a page."""

from __future__ import annotations

import sys
import textwrap
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from konspekt.cli.tables import seconds_text
from konspekt.core import registry
from konspekt.core.comparisons import usable
from konspekt.core.errors import ConfigError, nearest

__all__ = ["COMPARED", "check_keys", "compare_agents", "comparison_text", "run_comparison"]

KEYS = {
    "clustering": ("data", "target", "out", "methods", "n_resamples", "n_seeds", "n_points", "random_state"),
    "acting": ("env", "agents", "out", "seeds", "steps", "episodes", "confidence", "n_bootstrap", "random_state"),
}
COMPARED = tuple(KEYS)  # tasks whose methods can be compared
NEEDED = {
    "clustering": (("data", "data=table.csv [target=COLUMN]"),),
    "acting": (
        ("env", "env=FrozenLake-v1 agents=q-learning,sarsa"),
        ("agents", "env=FrozenLake-v1 agents=q-learning,sarsa"),
    ),
}


def run_comparison(task: str, given: Mapping[str, str], X: Any, y: Any, width: int) -> str:
    """Compare, write the page, and give the text for the terminal.

    given: the keys but data and target as text.

    Raises ConfigError on a key or its value, DataError on the data, ResourceError where the disk refuses.
    """
    from konspekt.cluster.comparison import compare
    from konspekt.core.params import params_of
    from konspekt.reports.compared import report_comparison

    known = params_of(compare)
    arguments = {k: known[k].parse("compare", v) for k, v in given.items() if k not in ("out", "methods")}
    methods = given.get("methods")
    names = [m.strip() for m in methods.split(",") if m.strip()] if methods is not None else None
    out = Path(given["out"]) if "out" in given else _new_folder(task)
    usable(out)  # said before the work, not after it
    found = compare(X, names, y, progress=_announce, **arguments)
    _announce("")
    page = report_comparison(found.save(out))
    return f"{comparison_text(found, width)}\n\npage   {page}\ntable  {out / 'comparison.csv'}"


def compare_agents(given: Mapping[str, str], width: int) -> str:
    """Compare agents, write the page, and give the text for the terminal.

    Raises ConfigError on a key or its value, the first agent's error where all fail, ResourceError where the disk refuses.
    """
    from konspekt.core.params import params_of
    from konspekt.reports.compared import report_comparison
    from konspekt.rl.comparison import compare

    known = params_of(compare)
    arguments = {k: known[k].parse("compare", v) for k, v in given.items() if k not in ("out", "agents", "env")}
    names = [name.strip() for name in given["agents"].split(",") if name.strip()]
    out = Path(given["out"]) if "out" in given else _new_folder("acting")
    usable(out)  # said before the work, not after it
    found = compare(names, given["env"], progress=_announce, run_dir=out, **arguments)
    _announce("")
    return f"{found.text(width)}\n\npage   {report_comparison(out)}\ntable  {out / 'comparison.csv'}"


def check_keys(task: str, given: Mapping[str, str]) -> None:
    """Raise ConfigError on a task that has no comparison and on a key that is not known."""
    if task not in COMPARED:
        if task in registry.TASKS:
            raise ConfigError(
                f"--task {task}: there is no comparison of its methods; there is one of {', '.join(COMPARED)}"
            )
        raise ConfigError(f"--task: there is no task {task!r}; {nearest(task, COMPARED)}")
    unknown = sorted(set(given) - set(KEYS[task]))
    if unknown:
        other = next((name for name, keys in KEYS.items() if unknown[0] in keys), None)
        hint = nearest(unknown[0], KEYS[task]) if other is None else f"that is one of --task {other}"
        raise ConfigError(f"compare has no key {unknown[0]!r}; {hint}")
    for key, example in NEEDED[task]:
        if key not in given:
            raise ConfigError(f"{key} is missing: konspekt compare --task {task} {example}")


def comparison_text(found: Any, width: int) -> str:
    """The methods in a table of at most `width` columns, and below it what failed."""
    with_truth = bool(found.indices["external"]) and any(r.get("adjusted_rand") is not None for r in found.rows)
    head = ["method", "clusters", "noise", "silhouette", *(["ARI"] if with_truth else []), "stable", "seeds", "time"]
    lines = [head]
    for row in found.rows:
        if row["clusters"] is None:
            lines.append([row["method"], "failed", *[""] * (len(head) - 2)])
            continue
        cells = [str(row["clusters"]), f"{row['noise']:.1%}", _two(row.get("silhouette"))]
        cells += [_two(row.get("adjusted_rand"))] if with_truth else []
        lines.append([row["method"], *cells, _two(row["stability"]), _two(row["seeds"]), seconds_text(row["seconds"])])
    rest = [max(len(line[i]) for line in lines) for i in range(1, len(head))]
    longest = max(8, width - sum(rest) - 2 * len(rest))
    for line in lines:
        if len(line[0]) > longest:
            line[0] = line[0][: longest - 3] + "..."
    first = max(len(line[0]) for line in lines)
    text = [
        "  ".join([line[0].ljust(first), *(c.rjust(w) for c, w in zip(line[1:], rest, strict=True))]).rstrip()
        for line in lines
    ]
    for row in found.rows:
        if row["problem"]:
            text += textwrap.wrap(f"{row['method']}: {row['problem']}", width, subsequent_indent="  ")
    text.append("")
    said = "stable: agreement (adjusted Rand) of clusterings of subsamples; seeds: of fits with other seeds"
    if with_truth:
        said += ". ARI: agreement with the labels that were given, which is not what a clustering is worth"
    if found.total != len(found.points):
        said += f". {len(found.points):,} of {found.total:,} points were drawn; n_points= says how many"
    text += textwrap.wrap(f"{said}. An index prefers the shapes that it assumes.", width)
    for note in found.notes:
        if "standardis" in note:  # what the user can do something about, now
            text += ["", *textwrap.wrap(note, width)]
    return "\n".join(text)


def _two(value: Any) -> str:
    return "-" if value is None else f"{value:.2f}"


def _new_folder(task: str) -> Path:
    place, number = Path("runs") / f"compare-{task}-{time.strftime('%Y%m%d-%H%M%S')}", 1
    path = place
    while path.exists():
        number += 1
        path = place.with_name(f"{place.name}-{number}")
    return path


def _announce(name: str) -> None:
    """Say which method is at work, where somebody looks on."""
    if sys.stderr.isatty():
        print(f"\r\033[K{name}{' ...' if name else ''}", end="", file=sys.stderr, flush=True)
