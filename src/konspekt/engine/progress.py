"""What a fit shows while it runs: a bar in a terminal, one line an epoch elsewhere, nothing unless asked."""

from __future__ import annotations

import re
import shutil
import sys
import time
from typing import Any

__all__ = ["Progress"]

_INTERVAL = 0.1  # seconds between two refreshes of the bar
_ACTING = 1.0  # seconds between two lines about acting, whose rounds may be short
_LEARNT = ("loss", "val_loss", "val_accuracy", "val_r2", "risk")
_ACTED = ("return", "length", "val_return", "loss", "epsilon")


class Progress:
    """The progress of one stage.

    show: whether to show anything. epochs, batches: how many there are.
    steps: of the environments in the whole training, where batches are made by acting: then steps are counted, not epochs.
    """

    def __init__(self, show: bool, stage: str, epochs: int, batches: int, steps: int | None = None) -> None:
        self.show, self.stage, self.epochs, self.steps = show, stage, epochs, steps
        self.began, self._told = time.perf_counter(), -float("inf")
        self.next = float("inf")
        self._bar: Any = None
        self._values = ""
        if show and sys.stdout.isatty():
            from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as Bar

            self._bar = Bar(
                TextColumn("{task.description}"),
                BarColumn(bar_width=None),
                TextColumn("{task.percentage:>3.0f}%"),
                TextColumn("{task.fields[values]}"),
                TimeRemainingColumn(compact=True),
                transient=True,
            )
            self._task = self._bar.add_task(stage, total=epochs * batches, values="")
            self._bar.start()
            self.next = 0.0

    def step(self, step: int, now: float, risk: float | None = None) -> None:
        """Move the bar; the loop calls it when `now`, from time.perf_counter, has passed `next`.

        risk: the running estimate of the risk, shown beside what the last epoch came to.
        """
        self._bar.update(self._task, completed=step)
        if risk is not None:
            room = shutil.get_terminal_size((80, 24)).columns >= 110  # or the time that is left would not fit any more
            self._bar.update(self._task, values=f"risk {risk:.4g}  {self._values if room else ''}".rstrip())
        self.next = now + _INTERVAL

    def epoch(self, step: int, record: dict[str, Any]) -> None:
        """Say what an epoch came to."""
        if not self.show:
            return
        keys = _LEARNT if self.steps is None else _ACTED
        shown = {k: record[k] for k in keys if record.get(k) is not None}
        values = "  ".join(f"{k.replace('val_', 'val ')} {v:.4g}" for k, v in shown.items())
        if self._bar is not None:
            self._values = values.partition("  risk ")[0]  # `step` shows a newer one
            self._bar.update(self._task, completed=step, values=values)
        elif self.steps is not None:
            self._acted(int(record.get("env_steps", step)), self.steps, values)
        else:
            name = "" if self.stage == "fit" else f"{self.stage}: "
            print(f"{name}epoch {record['epoch'] + 1}/{self.epochs}  {values}  {record['seconds']:.1f} s", flush=True)  # noqa: T201

    def _acted(self, done: int, steps: int, values: str) -> None:
        now = time.perf_counter()
        if now - self._told >= _ACTING or done >= steps:
            self._told = now
            line = f"{done:,}/{steps:,} steps  {values}  {now - self.began:.1f} s"
            if len(line) > shutil.get_terminal_size((80, 24)).columns:
                line = re.sub(r"  length \S+", "", line)  # what is missed least
            print(line, flush=True)  # noqa: T201

    def say(self, text: str) -> None:
        """A line of its own."""
        if self.show:
            (self._bar.console.print if self._bar is not None else print)(text)

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
            self.next = float("inf")

    @staticmethod
    def now() -> float:
        """The clock that `step` is given."""
        return time.perf_counter()
