"""What the command prints as tables: a forecast, the runs of a folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["beside_text", "forecast_text", "runs_text"]

_MOST_LAYERS = 60


def seconds_text(seconds: float) -> str:
    """Seconds as people read them: "0.35 s", "2 min 5 s", "3 h 20 min"."""
    if seconds < 60:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def bytes_text(size: float) -> str:
    """Bytes as people read them: "3.2 MB"."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            return f"{size:.3g} {unit}"
        size /= 1000
    raise AssertionError


def _aligned(rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> list[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  ".join(
            c.rjust(w) if i in right else c.ljust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def forecast_text(forecast: Mapping[str, Any], width: int) -> str:
    """The layers, and what time and memory the fit will take."""
    layers = [[x["name"] or "(net)", x["type"], f"{x['parameters']:,}"] for x in forecast["layers"]]
    hidden = layers[_MOST_LAYERS:]
    lines = _aligned([["layer", "type", "parameters"], *layers[:_MOST_LAYERS]], right=(2,))
    if hidden:
        lines.append(f"... and {len(hidden)} more")
    lines += [f"{forecast['parameters']:,} parameters together", ""]
    several = len(forecast["stages"]) > 1
    rows = [["reading the data", seconds_text(forecast["data_seconds"])]]
    for number, stage in enumerate(forecast["stages"], 1):
        name = f"stage {number}: " if several else ""
        rows.append(
            [f"{name}{stage['steps']:,} steps of {stage['step_seconds'] * 1e3:.3g} ms", seconds_text(stage["seconds"])]
        )
    rows.append(["time expected", seconds_text(forecast["seconds"])])
    for name, size in max(forecast["stages"], key=lambda s: s["memory"])["parts"].items():
        rows.append([name, bytes_text(size)])
    rows.append([f"memory expected on {forecast['device']}", bytes_text(forecast["memory"])])
    lines += _aligned(rows, right=(1,))
    return "\n".join(line[:width] for line in lines)


def beside_text(forecast: Mapping[str, float], actual: Mapping[str, float]) -> str:
    """Forecast beside actual, in a line."""
    return (
        f"forecast {seconds_text(forecast['seconds'])}, {bytes_text(forecast['memory'])}; "
        f"actual {seconds_text(actual['seconds'])}, {bytes_text(actual['memory'])}"
    )


def runs_text(runs: Sequence[Mapping[str, Any]], folder: Path, width: int) -> str:
    """The runs of a folder, the newest first."""
    if not runs:
        return f"no runs in {folder}; `konspekt fit` makes them in runs/, or where run_dir= says"
    rows = [["run", "state", "epochs", "score", "time", "data"]]
    for run in runs:
        score = "" if run["score"] is None else f"{run['measure']} {run['score']:.4g}"
        took = "" if run["seconds"] is None else seconds_text(run["seconds"])
        rows.append([run["name"], run["state"], str(run["epochs"]), score, took, run["data"]])
    return "\n".join(line if len(line) <= width else line[: width - 3] + "..." for line in _aligned(rows, right=(2,)))
