"""The run folder: what a fit leaves behind for `resume`, `report` and whoever comes later.

    config.yaml      system, parameters, data, command, versions
    metrics.jsonl    one JSON object a line: "kind" is "step", "epoch" or "stage"
    log.txt          what was said, with times
    checkpoint/      the newest checkpoints, and one for each finished stage
    model/           what `konspekt.load` reads
    data.json        fields, types, missing values, classes, fingerprint
    validation.npz   index, truth, prediction, loss of at most 10,000 held-out items
    items/           at most 64 examples and the items with the largest loss
    kept/            what a system keeps by `Run.keep`

Paths inside are relative, so the folder can be moved. A run without a folder keeps its history in memory only.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import math
import time
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np

from konspekt.core.errors import ConfigError, DataError, ResourceError
from konspekt.core.folders import json_bytes, refusal, write_file

__all__ = ["KINDS", "Run", "read_config", "read_metrics"]

Kind = Literal["curve", "matrix", "scatter", "images", "table", "text"]
KINDS: tuple[Kind, ...] = ("curve", "matrix", "scatter", "images", "table", "text")


class Run:
    """One fit's memory. `path` None: nothing is written.

    resume: go on in a folder that already holds a run; otherwise such a folder is refused.

    Raises ResourceError where another process holds the folder, ConfigError where it holds a run already.
    """

    def __init__(self, path: str | Path | None = None, *, resume: bool = False) -> None:
        self.path = Path(path) if path is not None else None
        self.history: list[dict[str, Any]] = []
        self.kept: dict[str, tuple[Kind, Any]] = {}
        self.warnings: list[str] = []
        self.resumes = resume
        self._lock: IO[str] | None = None
        self._metrics: IO[str] | None = None
        if self.path is None:
            return
        if not resume and (self.path / "config.yaml").exists():
            raise ConfigError(
                f"{self.path} already holds a run; resume it, or give another run_dir (or remove the folder)"
            )
        try:
            self.path.mkdir(parents=True, exist_ok=True)
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
        if resume:
            self.history = [r for r in read_metrics(self.path) if r["kind"] == "epoch"]

    @property
    def checkpoints(self) -> Path | None:
        """Where the checkpoints lie."""
        return self.path / "checkpoint" if self.path else None

    def close(self) -> None:
        """Let go of the folder; one in which no run was begun is removed."""
        if self.path is not None and self._lock is not None and not (self.path / "config.yaml").exists():
            (self.path / ".lock").unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # there is something else in it
                self.path.rmdir()
        for file in (self._metrics, self._lock):
            if file is not None:
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
        if self.path is None:
            return
        if self._metrics is not None:  # the file is replaced: what is recorded next must go to the new one
            self._metrics.close()
            self._metrics = None
        kept = [
            r
            for r in read_metrics(self.path)
            if r.get("stage") != stage
            or (r["kind"] == "step" and r["step"] <= step)
            or (r["kind"] == "epoch" and r["epoch"] < epoch)
        ]
        write_file(self.path / "metrics.jsonl", "".join(json.dumps(r) + "\n" for r in kept).encode())
        self.history = [r for r in kept if r["kind"] == "epoch"]

    def last_stage(self) -> str | None:
        """The stage that the newest record belongs to."""
        records = read_metrics(self.path) if self.path else []
        return records[-1].get("stage") if records else None

    def write_json(self, name: str, value: Any) -> None:
        """Write a JSON file of the folder, if there is one."""
        if self.path:
            (self.path / name).parent.mkdir(parents=True, exist_ok=True)
            write_file(self.path / name, json_bytes(_plain(value)))

    def write_arrays(self, name: str, arrays: dict[str, np.ndarray]) -> None:
        """Write an .npz file of the folder, if there is one. Strings are stored as such, never as objects."""
        if self.path is None:
            return
        (self.path / name).parent.mkdir(parents=True, exist_ok=True)
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
        """
        if kind not in KINDS:
            raise ConfigError(f"keep: kind must be one of {', '.join(KINDS)}, got {kind!r}")
        self.kept[name] = (kind, value)
        self.write_json(f"kept/{name}.json", {"kind": kind, "value": value})

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
        return _plain(value.tolist())
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    return value


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The records of metrics.jsonl. A last line that a kill cut short is left out.

    Raises DataError where a line before the last is no JSON.
    """
    file = path / "metrics.jsonl"
    if not file.exists():
        return []
    lines = file.read_bytes().splitlines()
    records = []
    for number, line in enumerate(lines, 1):
        try:
            records.append(json.loads(line))
        except ValueError:
            if number < len(lines):
                raise DataError(f"{file}, line {number}: not JSON; the file is damaged") from None
    return records


def read_config(path: str | Path) -> dict[str, Any]:
    """The config.yaml of a run.

    Raises DataError where the folder holds no run.
    """
    import yaml

    file = Path(path) / "config.yaml"
    if not file.is_file():
        raise DataError(f"{path} is not a run folder: it has no config.yaml")
    try:
        config = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DataError(f"{file}: not readable as YAML ({str(error)[:80]})") from None
    if not isinstance(config, dict):
        raise DataError(f"{file}: a mapping belongs there, found {type(config).__name__}")
    return config
