"""Metrics for TensorBoard: what goes into metrics.jsonl, as event files in the run folder. `logs=tensorboard`; row A18."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

from konspekt.core.errors import ConfigError

__all__ = ["Board"]


class Board:
    """Writes the records of one run; `tensorboard --logdir RUNS` shows them.

    folder: the run folder; event files go to its `tensorboard/`.

    Raises ConfigError where tensorboard is not installed.
    """

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise ConfigError(
                "logs='tensorboard' needs the package tensorboard: pip install 'konspekt[log]', or leave logs out"
            ) from None
        self._folder = folder / "tensorboard"
        self._open = SummaryWriter
        self._writer = SummaryWriter(str(self._folder))

    def __call__(self, record: dict[str, Any]) -> None:
        """Take one record of metrics.jsonl."""
        if record["kind"] not in ("step", "epoch"):
            return
        step, stage = int(record["step"]), record["stage"]
        head = "" if stage == "fit" else f"{stage}/"
        tail = "_step" if record["kind"] == "step" else ""
        for name, value in record.items():
            if isinstance(value, dict):
                for part, number in value.items():
                    self._scalar(f"{head}{name}/{part}", number, step)
            elif name not in ("kind", "stage", "epoch", "step", "cut_short"):
                self._scalar(f"{head}{name}{tail}", value, step)

    def rewound(self, records: list[dict[str, Any]]) -> None:
        """Take back what a resumed run will write again: the files are made anew of what is left in metrics.jsonl."""
        self._writer.close()
        shutil.rmtree(self._folder)
        self._writer = self._open(str(self._folder))
        for record in records:
            self(record)

    def _scalar(self, name: str, value: Any, step: int) -> None:
        if isinstance(value, (int, float)):
            self._writer.add_scalar(name, value if math.isfinite(value) else math.nan, step)

    def close(self) -> None:
        """Write what is left."""
        self._writer.close()
