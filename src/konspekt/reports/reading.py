"""A run folder as the page needs it. Nothing here fails on a file that is absent, cut or damaged: a note says so.

Only config.yaml is required. The folder is not trusted: links are not followed, names that lead elsewhere are refused,
pictures must be pictures, and arrays are read without pickle.
"""

from __future__ import annotations

import base64
import re
import zipfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from konspekt.core.errors import DataError
from konspekt.core.folders import read_json
from konspekt.core.runs import read_config, read_metrics
from konspekt.reports.words import clean, short

__all__ = ["Folder", "Stage", "dicts", "mapping", "picture_source", "read_folder"]

MAX_ITEMS = 64
MAX_PICTURE = 2 << 20  # bytes
MAX_POINTS = 5_000  # of the clusters' picture
MAX_PLACE = 1e150  # beyond it, an axis would overflow
MAX_LOG = 200_000  # characters, from the end
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_MAGIC = {b"\x89PNG\r\n\x1a\n": "image/png", b"\xff\xd8\xff": "image/jpeg"}
_GIF = {b"GIF89a": "image/gif", b"GIF87a": "image/gif"}
MAX_EPISODES = 128 << 20  # bytes of episodes.csv
EPISODES = ("episode", "env", "number", "seed", "return", "length", "truncated")


@dataclass
class Stage:
    """One stage of the fit: its records in order, and the one that closed it."""

    name: str
    epochs: list[dict[str, Any]] = field(default_factory=list)
    steps: list[dict[str, Any]] = field(default_factory=list)
    end: dict[str, Any] | None = None


@dataclass
class Folder:
    """What a run folder holds. `notes` say what could not be read."""

    path: Path
    config: dict[str, Any]
    stages: list[Stage]
    data: dict[str, Any]
    validation: dict[str, np.ndarray]
    items: list[dict[str, Any]]
    result: dict[str, Any]
    chosen: dict[str, Any]
    kept: dict[str, dict[str, Any]]
    log: str
    notes: list[str]
    clusters: dict[str, np.ndarray] = field(default_factory=dict)
    episodes: dict[str, np.ndarray] = field(default_factory=dict)
    film: dict[str, Any] = field(default_factory=dict)


def mapping(value: Any) -> dict[str, Any]:
    """The value if it is a dict, else an empty one."""
    return value if isinstance(value, dict) else {}


def dicts(value: Any) -> list[dict[str, Any]]:
    """The dicts in a list; nothing where it is no list."""
    return [v for v in value if isinstance(v, dict)] if isinstance(value, list) else []


def read_folder(path: Path) -> Folder:
    """Read the folder.

    Raises DataError where it is no run folder.
    """
    notes: list[str] = []
    return Folder(
        path=path,
        config=read_config(path),
        stages=_stages(path, notes),
        data=mapping(_json(path / "data.json", notes)),
        validation=_arrays(path / "validation.npz", notes),
        items=_items(path / "items", notes),
        result=mapping(_json(path / "result.json", notes)),
        chosen=mapping(_json(path / "chosen.json", notes)),
        kept=_kept(path / "kept", notes),
        log=_log(path / "log.txt", notes),
        clusters=_clusters(path / "clusters.npz", notes),
        episodes=_episodes(path / "episodes.csv", notes),
        film=_film(path / "frames", notes),
        notes=notes,
    )


def _json(file: Path, notes: list[str]) -> Any:
    if not file.exists():
        return None
    try:
        return read_json(file)
    except (DataError, OSError) as error:
        notes.append(_inside(error, file))
        return None


def _inside(error: Exception, file: Path) -> str:
    """The message with the file's name only: where the folder lies is no matter of the page."""
    return str(error).replace(str(file), file.name)


def _stages(path: Path, notes: list[str]) -> list[Stage]:
    try:
        records = [r for r in read_metrics(path) if isinstance(r, dict)]
    except (ValueError, OSError) as error:
        notes.append(_inside(error, path / "metrics.jsonl"))
        return []
    stages: dict[str, Stage] = {}
    for record in records:
        name = clean(record.get("stage", "fit"))
        stage = stages.setdefault(name, Stage(name))
        if record.get("kind") == "epoch":
            stage.epochs.append(record)
        elif record.get("kind") == "step":
            stage.steps.append(record)
        elif record.get("kind") == "stage" and record.get("state") == "finished":
            stage.end = record
    return list(stages.values())


def _arrays(file: Path, notes: list[str]) -> dict[str, np.ndarray]:
    """The arrays that belong together: as many truths as predictions; or, where nothing was to be predicted, as losses."""
    arrays = _loaded(file, notes, "nothing is said about single predictions")
    if arrays is None:
        return {}
    truth, prediction = arrays.get("truth"), arrays.get("prediction")
    loss = arrays.get("loss")
    if truth is None and prediction is None and loss is not None and loss.ndim == 1 and len(loss):
        return {k: v for k, v in arrays.items() if v.ndim > 0 and len(v) == len(loss)}
    if truth is None or prediction is None or truth.ndim == 0 or truth.shape != prediction.shape or not len(truth):
        notes.append(
            "validation.npz: truth and prediction are absent, empty or of different shapes; they are not shown"
        )
        return {}
    return {k: v for k, v in arrays.items() if k == "classes" or (v.ndim > 0 and len(v) == len(truth))}


def _loaded(file: Path, notes: list[str], lost: str) -> dict[str, np.ndarray] | None:
    """All arrays of an archive; None where there is none, or none that can be read: then a note says what is `lost`."""
    if not file.exists() or file.is_symlink():
        return None
    try:
        with (
            file.open("rb") as opened,
            np.load(opened, allow_pickle=False) as archive,
        ):  # np.load leaves a cut file open
            return {name: archive[name] for name in archive.files}
    except (ValueError, OSError, EOFError, KeyError, AttributeError, zipfile.BadZipFile, zlib.error) as error:
        notes.append(f"{file.name}: not readable ({short(error, 80)}); {lost}")
        return None


def _clusters(file: Path, notes: list[str]) -> dict[str, np.ndarray]:
    """Points in the plane that can be drawn, with their labels, and what belongs to them, as far as it fits them."""
    arrays = _loaded(file, notes, "the clusters are not drawn")
    if arrays is None:
        return {}
    points, labels, axes, marks = (arrays.get(name) for name in ("points", "labels", "axes", "marks"))
    if points is None or labels is None or points.ndim != 2 or points.shape[1] != 2 or points.dtype.kind not in "fiu":
        notes.append("clusters.npz: points of the shape (N, 2) or their labels are absent; the clusters are not drawn")
        return {}
    if labels.shape != points.shape[:1] or labels.dtype.kind not in "iu":
        notes.append("clusters.npz: there is not one whole number as label for each point; the clusters are not drawn")
        return {}
    seen = (np.abs(points) < MAX_PLACE).all(axis=1)  # not of NaN
    chosen = np.flatnonzero(seen)
    chosen = chosen[np.linspace(0, len(chosen) - 1, min(len(chosen), MAX_POINTS)).astype(int)]
    if not len(chosen):
        notes.append("clusters.npz: holds no point that can be drawn")
        return {}
    kept = {"points": points[chosen].astype(float), "labels": np.maximum(labels[chosen].astype(np.int64), -1)}
    kept["axes"] = axes if axes is not None and axes.shape == (2,) and axes.dtype.kind == "U" else np.array(["", ""])
    total = arrays.get("total")
    whole = total is not None and total.ndim == 0 and total.dtype.kind in "iu"
    kept["total"] = np.array(max(len(points), int(total) if whole and total is not None else 0))
    if marks is not None and marks.ndim == 2 and marks.shape[1] == 2 and marks.dtype.kind in "fiu":
        kept["marks"] = marks[(np.abs(marks) < MAX_PLACE).all(axis=1)].astype(float)
    truth = arrays.get("truth")
    if truth is not None and truth.shape == points.shape[:1] and truth.dtype.kind in "U":
        kept["truth"] = truth[chosen]
    return kept


def _items(folder: Path, notes: list[str]) -> list[dict[str, Any]]:
    """The items, each picture as a data URI under "source"."""
    items = []
    for item in dicts(_json(folder / "items.json", notes))[:MAX_ITEMS]:
        name = item.get("image")
        if name is None:
            items.append(item)
        elif not isinstance(name, str) or not _NAME.fullmatch(name):
            notes.append(f"items.json names {short(name)!r}, which is no plain file name; the picture is not shown")
        elif source := picture_source(folder / name):
            items.append({**item, "source": source})
        else:
            notes.append(f"items/{name}: absent, a link, too large, or neither PNG nor JPEG; the picture is not shown")
    return items


def _episodes(file: Path, notes: list[str]) -> dict[str, np.ndarray]:
    """The columns of episodes.csv, and "at": the environment steps of the training when an episode ended."""
    if not file.exists():
        return {}
    try:
        if file.is_symlink() or not file.is_file() or file.stat().st_size > MAX_EPISODES:
            raise ValueError("a link, no file, or too large")
        with file.open(encoding="utf-8") as opened:
            if tuple(opened.readline().strip().split(",")) != EPISODES:
                raise ValueError("the first line names other columns")
            lines = opened.readlines()
        table = np.loadtxt(lines, delimiter=",", ndmin=2, comments=None) if lines else np.zeros((0, len(EPISODES)))
        if table.shape[1] != len(EPISODES) or not (np.abs(table) < MAX_PLACE).all():
            raise ValueError("a line has other values than seven numbers")
    except (ValueError, OSError) as error:
        notes.append(f"episodes.csv: not readable ({short(error, 80)}); single episodes are not shown")
        return {}
    if not len(table):
        return {}
    found = dict(zip(EPISODES, table.T, strict=True))
    if not ((found["env"] >= 0) & (found["env"] < 1e6) & (found["length"] > 0)).all():
        notes.append(
            "episodes.csv: a length or the number of an environment is out of range; single episodes are not shown"
        )
        return {}
    # All environments make their steps together, so their own steps so far times their number is what all have made.
    found["at"], envs = np.zeros(len(table)), np.unique(found["env"])
    for env in envs:
        own = found["env"] == env
        found["at"][own] = len(envs) * np.cumsum(found["length"][own])
    order = np.argsort(found["at"], kind="stable")
    return {name: values[order] for name, values in found.items()}


def _film(folder: Path, notes: list[str]) -> dict[str, Any]:
    """The pictures of a played episode as data URIs, and what is told of it."""
    if folder.is_symlink() or not folder.is_dir():
        return {}
    film: dict[str, Any] = {"told": mapping(_json(folder / "episode.json", notes))}
    for name, file, magic in (
        ("gif", "episode.gif", _GIF),
        ("first", "first.png", _MAGIC),
        ("strip", "strip.png", _MAGIC),
    ):
        if source := picture_source(folder / file, magic):
            film[name] = source
        else:
            notes.append(f"frames/{file}: absent, a link, too large, or no picture; it is not shown")
    return film


def picture_source(file: Path, magics: dict[bytes, str] = _MAGIC) -> str | None:
    """A picture file as a data URI; None where it cannot be shown, or is of another kind."""
    if file.is_symlink() or not file.is_file() or file.stat().st_size > MAX_PICTURE:
        return None
    try:
        content = file.read_bytes()
    except OSError:
        return None
    for magic, mime in magics.items():
        if content.startswith(magic):
            return f"data:{mime};base64,{base64.b64encode(content).decode()}"
    return None


def _kept(folder: Path, notes: list[str]) -> dict[str, dict[str, Any]]:
    kept = {}
    for file in sorted(folder.rglob("*.json")):
        name = file.relative_to(folder).as_posix().removesuffix(".json")
        value = _json(file, notes)
        if isinstance(value, dict) and "kind" in value:
            kept[name] = value
        elif value is not None:
            notes.append(f"kept/{clean(name)}.json: says no kind; it is not shown")
    return kept


def _log(file: Path, notes: list[str]) -> str:
    if not file.is_file() or file.is_symlink():
        return ""
    try:
        text = file.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        notes.append(f"log.txt: not readable ({error.strerror})")
        return ""
    return clean(text) if len(text) <= MAX_LOG else "…\n" + clean(text[-MAX_LOG:]).partition("\n")[2]
