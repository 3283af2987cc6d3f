"""The run folder: what a fit leaves behind for `resume`, `report` and whoever comes later.

    config.yaml      system, parameters, data, command, versions
    chosen.json      what was found by measuring: a learning rate, whether to compile
    metrics.jsonl    one JSON object a line: "kind" is "step", "epoch" or "stage"
    log.txt          what was said, with times
    checkpoint/      the newest checkpoints, and one for each finished stage
    model/           what `konspekt.load` reads
    data.json        fields, types, missing values, classes, fingerprint
    validation.npz   index, truth, prediction, loss of at most 10,000 held-out items
    items/           at most 64 examples and the items with the largest loss
    kept/            what a system keeps by `Run.keep`
    episodes.csv     of an agent: a line for each episode of the training
    frames/          of an agent: pictures of a played episode

Paths inside are relative, so the folder can be moved. A run without a folder keeps its history in memory only.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import math
import shutil
import time
from pathlib import Path
from types import NoneType
from typing import IO, Any, Literal

import numpy as np

from konspekt.core.errors import ConfigError, DataError, ResourceError
from konspekt.core.folders import json_bytes, read_json, read_plain, refusal, write_file

__all__ = ["KINDS", "Run", "list_runs", "read_config", "read_metrics"]

Kind = Literal["curve", "matrix", "scatter", "images", "table", "text"]
KINDS: tuple[Kind, ...] = ("curve", "matrix", "scatter", "images", "table", "text")
_MAX_CONFIG = 256 << 10  # bytes: YAML is slow to read, and slower the deeper it goes
_MAX_DEPTH = 20
_MAX_METRICS = 4 << 30
_EARLY = {".lock", "log.txt", "data.json", "chosen.json"}  # what a run may write before its config.yaml


class Run:
    """One fit's memory. `path` None: nothing is written.

    resume: go on in a folder that already holds a run; otherwise such a folder is refused.
    follows: another process writes the folder; this one reads what it resumes from, and keeps its history in memory.

    Raises ResourceError where another process holds the folder, ConfigError where it holds a run already.
    """

    def __init__(self, path: str | Path | None = None, *, resume: bool = False, follows: bool = False) -> None:
        self.path = Path(path) if path is not None and not follows else None
        self._home = Path(path) if path is not None else None
        self.history: list[dict[str, Any]] = []
        self.stages: list[dict[str, Any]] = []  # the records of finished stages
        self.kept: dict[str, tuple[Kind, Any]] = {}
        self.warnings: list[str] = []
        self.resumes = resume
        self.began, self.used = time.perf_counter(), 0.0  # used: seconds of the parts of the run before this one
        self.chosen: dict[str, Any] = {}  # what was found by measuring, which a resumed run takes over
        self.team: Any = None  # the processes that train together, where there are several
        self.level: Any = None  # the memory at the start, to which forecasts and peaks refer
        self.timings: dict[str, float] = {}  # seconds by part
        self.forecasts: dict[str, dict[str, Any]] = {}  # by stage
        self.rehearsal: Any = None  # for a forecast: stages take three steps and note what they took
        self.listeners: list[Any] = []  # called with each record of metrics.jsonl; closed with the run
        self._lock: IO[str] | None = None
        self._metrics: IO[str] | None = None
        self._new = False  # whether all that the folder holds is of this run
        if resume and self._home is not None:
            records = _past(self._home)
            self.history = [r for r in records if r["kind"] == "epoch"]
            self.stages = [r for r in records if r["kind"] == "stage"]
            self.chosen = _read_chosen(self._home)
        if self.path is None:
            return
        if not resume and (self.path / "config.yaml").exists():
            raise ConfigError(
                f"{self.path} already holds a run; resume it, or give another run_dir (or remove the folder)"
            )
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            # The lock alone, or with what stands beside config.yaml, is of a fit that was killed before that was written.
            left = {p.name for p in self.path.iterdir()}
            self._new = not left or (".lock" in left and left <= _EARLY)
            self._lock = (self.path / ".lock").open("w")
        except OSError as error:
            raise refusal(error, self.path) from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            raise ResourceError(
                f"another process is writing to the run folder {self.path}; wait for it, or give another run_dir"
            ) from None

    @property
    def checkpoints(self) -> Path | None:
        """Where the checkpoints lie."""
        return self._home / "checkpoint" if self._home else None

    def abandon(self) -> None:
        """Take away what a fit wrote that failed before its first step, so that the mended one may use the folder.

        Only from a folder that was new or empty: elsewhere a file of the same name may be the user's.
        """
        if (
            self.path is None
            or not self._new
            or any((self.path / name).exists() for name in ("metrics.jsonl", "checkpoint"))
        ):
            return
        for listener in self.listeners:
            listener.close()
        self.listeners.clear()
        for name in ("config.yaml", "data.json", "log.txt", "chosen.json"):
            (self.path / name).unlink(missing_ok=True)
        for name in ("quarantine", "tensorboard", "kept"):
            shutil.rmtree(self.path / name, ignore_errors=True)

    def close(self) -> None:
        """Let go of the folder; one in which no run was begun is removed."""
        for listener in self.listeners:
            listener.close()
        self.listeners.clear()
        if self.path is not None and self._lock is not None and not (self.path / "config.yaml").exists():
            (self.path / ".lock").unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # there is something else in it
                self.path.rmdir()
        for file in (self._metrics, self._lock):
            if file is not None:
                with contextlib.suppress(OSError):  # what a full disk did not take, `record` has said already
                    file.close()
        self._metrics = self._lock = None

    def log(self, text: str, *, warning: bool = False) -> None:
        """Write a line to log.txt; a warning also stands in the report."""
        if warning:
            self.warnings.append(text)
        if self.path:
            mark = "WARNING " if warning else ""
            self._append("log.txt", f"{time.strftime('%Y-%m-%d %H:%M:%S')} {mark}{text}\n")

    def record(self, kind: Literal["step", "epoch", "stage"], **values: Any) -> None:
        """Add one object to metrics.jsonl and, for an epoch, to the history. What is not finite becomes null."""
        values = {"kind": kind, **_plain(values)}
        if kind == "epoch":
            self.history.append(values)
        elif kind == "stage":
            self.stages.append(values)
        for listener in self.listeners:
            listener(values)
        if self.path:
            try:
                if self._metrics is None:
                    file = self.path / "metrics.jsonl"
                    data = file.read_bytes() if file.exists() else b""
                    if data and not data.endswith(b"\n"):  # a kill cut the last line
                        write_file(file, data[: data.rfind(b"\n") + 1])
                    self._metrics = file.open("a", encoding="utf-8")
                self._metrics.write(json.dumps(values) + "\n")
                self._metrics.flush()
            except OSError as error:
                raise refusal(error, self.path / "metrics.jsonl") from None

    def rewind(self, stage: str, step: int, epoch: int) -> None:
        """Forget a stage's records after a step, of `epoch` and later ones as a whole, and that it was finished.

        A resumed run will write them again.
        """
        if self._home is None:
            return
        if self._metrics is not None:  # the file is replaced: what is recorded next must go to the new one
            self._metrics.close()
            self._metrics = None
        kept = [
            r
            for r in _past(self._home)
            if r.get("stage") != stage
            or (r["kind"] == "step" and r["step"] <= step)
            or (r["kind"] == "epoch" and r["epoch"] < epoch)
        ]
        if self.path is not None:
            write_file(self.path / "metrics.jsonl", "".join(json.dumps(r) + "\n" for r in kept).encode())
        self.history = [r for r in kept if r["kind"] == "epoch"]
        self.stages = [r for r in kept if r["kind"] == "stage"]
        for listener in self.listeners:
            listener.rewound(kept)

    def last_stage(self) -> str | None:
        """The stage that the newest record belongs to."""
        records = _past(self._home) if self._home else []
        return records[-1].get("stage") if records else None

    def choose(self, name: str, value: Any) -> None:
        """Write down what was found by measuring."""
        self.chosen[name] = value
        self.write_json("chosen.json", self.chosen)

    def parent_of(self, name: str) -> None:
        """Make the folder in which a file of the run is to stand.

        Raises ResourceError where the disk refuses.
        """
        if self.path:
            folder = (self.path / name).parent
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise refusal(error, folder) from None

    def write_json(self, name: str, value: Any, *, indent: int | None = 1) -> None:
        """Write a JSON file of the folder, if there is one; indent=None: in one line."""
        if self.path:
            self.parent_of(name)
            write_file(self.path / name, json_bytes(_plain(value), indent=indent))

    def write_arrays(self, name: str, arrays: dict[str, np.ndarray]) -> None:
        """Write an .npz file of the folder, if there is one. Strings are stored as such, never as objects."""
        if self.path is None:
            return
        self.parent_of(name)
        try:
            with (self.path / name).open("wb") as file:
                np.savez_compressed(file, **{k: _storable(v) for k, v in arrays.items()})  # type: ignore[arg-type]
        except OSError as error:
            raise refusal(error, self.path / name) from None

    def keep(self, name: str, kind: Kind, value: Any) -> None:
        """Keep something for the report.

        curve: {series: values} or {series: (x, values)}; matrix: {"values": (R, C), "rows": names, "columns": names};
        scatter: {"x": (N,), "y": (N,), "xlabel": str, "ylabel": str}; images: {"images": (N, H, W) or (N, H, W, 3),
        "titles": names}; table: a list of rows, each a dict; text: a string.
        In a curve, a series ([a, a], [0, 1]) of two points at one x is a mark at that x.
        """
        if kind not in KINDS:
            raise ConfigError(f"keep: kind must be one of {', '.join(KINDS)}, got {kind!r}")
        self.kept[name] = (kind, value)
        self.write_json(f"kept/{name}.json", {"kind": kind, "value": value}, indent=None if kind == "images" else 1)

    def _append(self, name: str, text: str) -> None:
        if self.path is None:
            return
        try:
            with (self.path / name).open("a", encoding="utf-8") as file:
                file.write(text)
        except OSError as error:
            raise refusal(error, self.path / name) from None


def _storable(value: np.ndarray) -> np.ndarray:
    return value.astype(str) if value.dtype == object else value


def _plain(value: Any) -> Any:
    """Numbers, strings, lists and dicts that JSON can hold."""
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, np.ndarray):
        return value.tolist() if value.dtype.kind in "biu" else _plain(value.tolist())
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    return value


def _read_chosen(path: Path) -> dict[str, Any]:
    file = path / "chosen.json"
    if not file.is_file():
        return {}
    chosen = read_json(file)
    if not isinstance(chosen, dict):
        raise DataError(f"{file}: a mapping belongs there; the file is damaged")
    return chosen


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The records of metrics.jsonl. A last line that a kill cut short is left out.

    Raises DataError where a line before the last is no JSON.
    """
    file = path / "metrics.jsonl"
    if not file.exists():
        return []
    lines = read_plain(file, _MAX_METRICS).splitlines()
    records = []
    for number, line in enumerate(lines, 1):
        try:
            records.append(json.loads(line))
        except (ValueError, RecursionError):
            if number < len(lines):
                raise DataError(f"{file}, line {number}: not JSON; the file is damaged") from None
    return records


def _past(path: Path) -> list[dict[str, Any]]:
    """The records of a run that is gone on with.

    Raises DataError where one is not what `Run.record` writes.
    """
    records = read_metrics(path)
    needed = {"step": ("step",), "epoch": ("epoch",), "stage": ()}
    for number, record in enumerate(records, 1):
        keys = needed.get(str(record.get("kind"))) if isinstance(record, dict) else None
        known = keys is not None and isinstance(record.get("stage"), (str, NoneType))
        numbers = [record.get(k, 0) for k in ("seconds", "step")] + [record.get(k) for k in keys or ()] if known else []
        if not known or not all(type(n) in (int, float) for n in numbers):
            raise DataError(f"{path / 'metrics.jsonl'}, line {number}: not a record of a fit; the file is damaged")
    return records


def read_config(path: str | Path) -> dict[str, Any]:
    """The config.yaml of a run.

    Raises DataError where the folder holds no run.
    """
    import yaml

    file = Path(path) / "config.yaml"
    if not file.is_file():
        raise DataError(_no_run(Path(path)))
    data, depth = read_plain(file, _MAX_CONFIG), 0
    try:
        text = data.decode("utf-8")
        for event in yaml.parse(text, yaml.SafeLoader):  # one after the other, so that it stops in time
            if isinstance(event, yaml.AliasEvent):
                raise DataError(f"{file}: names a part of itself, which may stand for more than there is memory for")
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > _MAX_DEPTH:
                raise DataError(f"{file}: more than {_MAX_DEPTH} levels deep; do not trust it")
        config = yaml.safe_load(text)
    except (yaml.YAMLError, LookupError, TypeError, ValueError, RecursionError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{file}: not readable as YAML ({str(error)[:80]})") from None
    if not isinstance(config, dict):
        raise DataError(f"{file}: a mapping belongs there, found {type(config).__name__}")
    return config


def _no_run(path: Path) -> str:
    """What is said of a place without config.yaml."""
    if not path.is_dir():
        return f"{path}: there is no such folder; `konspekt runs` lists the runs in runs/"
    if not (path / ".lock").is_file():
        return f"{path} is not a run folder: it has no config.yaml; give a folder that a fit wrote, as `konspekt runs` lists them"
    if _held(path):
        return f"{path}: a process is beginning a run there, and nothing of it is recorded yet; wait for it"
    return (
        f"{path}: a fit was begun there and stopped before anything of it was recorded (there is no config.yaml), so there is nothing "
        f"to go on with: fit again, with run_dir={path} if it is to be this folder"
    )


def list_runs(folder: Path) -> list[dict[str, Any]]:
    """The runs in a folder, the newest first: name, system, data, state, epochs, measure, score, seconds.

    state: finished, running (a process holds it), stopped (it can be resumed), or damaged.

    Raises DataError where there is no such folder.
    """
    if not folder.is_dir():
        raise DataError(
            f"{folder}: there is no such folder; `konspekt fit` makes runs/, or give the folder of your runs"
        )
    found = [p for p in folder.iterdir() if (p / "config.yaml").is_file()]
    found += [folder] if (folder / "config.yaml").is_file() else []
    found.sort(key=lambda p: ((p / "config.yaml").stat().st_mtime, p.name), reverse=True)
    return [_summary(p) for p in found]


def _summary(path: Path) -> dict[str, Any]:
    row: dict[str, Any] = {
        "name": path.name, "system": "", "data": "", "state": "damaged", "epochs": 0, "measure": None, "score": None,
        "seconds": None,
    }  # fmt: skip
    try:
        config = read_config(path)
        row |= {"system": str(config["system"]), "data": str(config["data"]["source"])}
        epochs = [r for r in read_metrics(path) if r["kind"] == "epoch"]
        row["epochs"] = len(epochs)
        row["seconds"] = sum(r.get("seconds") or 0.0 for r in epochs)
        if (path / "result.json").is_file():
            result = read_json(path / "result.json")
            scores = result["scores"]
            row["measure"] = next((k for k in ("accuracy", "roc_auc", "r2", "return", "loss") if k in scores), None)
            row["score"] = scores.get(row["measure"])
            row["seconds"] = result["seconds"]
        elif epochs:
            shown = next(
                (k for k in ("val_accuracy", "val_r2", "return", "val_loss", "loss") if epochs[-1].get(k) is not None),
                None,
            )
            row["measure"] = shown.removeprefix("val_") if shown else None
            row["score"] = epochs[-1].get(shown) if shown else None
        row["state"] = "running" if _held(path) else "finished" if (path / "result.json").is_file() else "stopped"
    except (DataError, KeyError, TypeError, AttributeError):
        row["state"] = "damaged"
    return row


def _held(path: Path) -> bool:
    """Whether a process writes to the run."""
    try:
        with (path / ".lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            fcntl.flock(lock, fcntl.LOCK_UN)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False
