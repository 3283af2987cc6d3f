"""Rows 8 and 9: two processes, of which one meets a loss that is not finite, or dies."""

from __future__ import annotations

import math
import random
import re
import shutil
import signal
import tempfile
import time
from pathlib import Path
from typing import Any

from children import Row, status_of
from kill import WEIGHTS, resident, together

from konspekt.core.runs import read_metrics
from konspekt.engine import checkpoint
from konspekt.engine.supervised import Classification

__all__ = ["nan", "processes"]

SOON = 20  # seconds after which the other process must have ended


def nan(trials: int | None) -> list[Row]:
    """From the second epoch on one item makes the loss NaN, in the process that has it."""
    begun = time.perf_counter()
    number = trials or 20
    bad: list[str] = []
    seen = {0: 0, 1: 0}
    with tempfile.TemporaryDirectory() as place:
        home = Path(place)
        resident(home / "warm", False)
        for trial in range(number):
            run, said = home / f"run{trial}", home / f"said{trial}"
            item = 7 * trial % 48
            options = {"epochs": 4, "validation_fraction": None, "patience": None}
            begun_one = time.monotonic()
            children = together(run, False, 2, home, options=options, said=said, prepare=lambda item=item: _spoil(item))  # type: ignore[misc]
            codes = [status_of(c, SOON) for c in children]
            texts = [
                said.with_suffix(f".{r}").read_text() if said.with_suffix(f".{r}").is_file() else "" for r in (0, 1)
            ]
            text = f"trial {trial}"
            if codes != [4, 4] or time.monotonic() - begun_one > SOON:
                bad.append(f"{text}: ended with {codes}: {texts}")
                continue
            for told in texts:
                found = re.search(
                    r"DivergedError: training stopped at step (\d+) .* in process (\d) of 2\. The batch held items ([\d, ]+)",
                    told,
                )
                if not found or item not in map(int, found[3].split(",")):
                    bad.append(f"{text}: item {item}: {told[:300]}")
                else:
                    seen[int(found[2])] += 1
            kept = sorted((run / "checkpoint").iterdir())
            state = checkpoint.read(kept[-1])
            if int(kept[-1].name[-9:]) < 6 or not all(bool(t.isfinite().all()) for t in state["weights"].values()):
                bad.append(f"{text}: weights that are not finite in {kept[-1].name}")
            shutil.rmtree(run, ignore_errors=True)
    what = "a loss that is not finite in one process of two (gloo)"
    result = (
        f"{number - len(bad)} of {number}: both end, naming step, process ({seen[0] // 2} times 0, {seen[1] // 2} times 1) and "
        "items; the checkpoint before is finite"
    )
    return [Row(what, "nan", number, result, time.perf_counter() - begun, not bad and min(seen.values()) > 0, bad)]


def _spoil(item: int) -> None:
    """In a child: from the second epoch on the net gives NaN for one item, in whichever process has it."""
    logits_of, start = Classification._logits, Classification.start_epoch

    def spoiled(self: Any, batch: Any) -> Any:
        logits, y = logits_of(self, batch)
        if self.training and getattr(self, "late", False):
            logits = logits.masked_fill((batch["index"] == item)[:, None], math.nan)
        return logits, y

    def started(self: Any, epoch: int, batches: Any) -> None:
        self.late = epoch > 0
        start(self, epoch, batches)

    Classification._logits, Classification.start_epoch = spoiled, started  # type: ignore[method-assign]


def processes(trials: int | None) -> list[Row]:
    """One process of two dies; the other ends soon and leaves what 1, 2 and 3 processes go on from."""
    begun = time.perf_counter()
    number = trials or 20
    bad: list[str] = []
    longest = 0.0
    with tempfile.TemporaryDirectory() as place:
        home = Path(place)
        resident(home / "warm", False)
        for trial in range(number):
            run, said = home / f"run{trial}", home / f"said{trial}"
            draw = random.Random(trial)
            dies = draw.randrange(2)
            at = draw.randint(2, 15)
            children = together(run, False, 2, home, deadly={dies: ("step", at)}, said=said)
            first = status_of(children[dies])
            start = time.monotonic()
            other = status_of(children[1 - dies], SOON)
            longest = max(longest, time.monotonic() - start)
            told = said.with_suffix(f".{1 - dies}")
            text = f"trial {trial}, process {dies} killed at step {at}"
            if first != -signal.SIGKILL or other != 4:
                bad.append(f"{text}: it ended with {first}, the other with {other}")
                continue
            if "LostProcess" not in told.read_text() or "konspekt resume" not in told.read_text():
                bad.append(f"{text}: {told.read_text()[:200]}")
            for size in (1, 2, 3):
                copy = home / f"copy{trial}-{size}"
                shutil.copytree(run, copy)
                codes = [status_of(c) for c in together(copy, True, size, home, options={"run_dir": str(copy)})]
                epochs = [r["epoch"] for r in read_metrics(copy) if r["kind"] == "epoch"]
                if codes != [0] * size or epochs != [0, 1, 2] or not (copy / WEIGHTS).is_file():
                    bad.append(f"{text}: on {size} processes the resumed fit ended with {codes}, epochs {epochs}")
                shutil.rmtree(copy)
    what = "one process of two (gloo) is killed"
    result = (
        f"{number - len(bad)} of {number}: the other ends within {longest:.1f} s with a message; the checkpoint resumes on 1, 2 and 3 "
        "processes"
    )
    return [Row(what, "processes", number, result, time.perf_counter() - begun, not bad, bad)]
