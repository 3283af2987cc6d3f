"""Row 4: a worker that reads data dies; the fit says so, and resumes to the bit."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import tempfile
import time
from pathlib import Path
from typing import Any

from children import Row, fork, status_of
from kill import WEIGHTS, streamed

from konspekt.core.errors import ResourceError
from konspekt.data import reading_processes
from konspekt.testing import tiny

__all__ = ["worker"]


def worker(trials: int | None) -> list[Row]:
    """So many deaths, 20 by default; the fit is resumed with fewer workers each time."""
    begun = time.perf_counter()
    number = trials or 20
    bad: list[str] = []
    noticed = 0
    reading_processes._TASK = 64  # bytes: a task for each batch, so that the workers have work until the end
    with tempfile.TemporaryDirectory() as place:
        home = Path(place)
        table = home / "table.csv"
        X, y = tiny("tabular-classification", 200)
        X.assign(target=y).to_csv(table, index=False)
        streamed(0, table)(home / "whole", False)
        wanted = (home / "whole" / WEIGHTS).read_bytes()
        for trial in range(number):
            run, said = home / f"run{trial}", home / f"said{trial}"
            at = random.Random(trial).randint(1, 40)

            def deadly(moment: Any, at: int = at) -> None:
                if moment.event == "step" and moment.step == at:
                    os.kill(multiprocessing.active_children()[0].pid or 0, signal.SIGKILL)

            def work(run: Path = run, said: Path = said, deadly: Any = deadly) -> None:
                try:
                    streamed(2, table, [deadly])(run, False)
                except ResourceError as error:
                    said.write_text(str(error))
                    raise SystemExit(4) from None

            code = status_of(fork(work), 60)
            if code == 4:
                noticed += 1
                if "workers" not in said.read_text() or "konspekt resume" not in said.read_text():
                    bad.append(f"killed at step {at}: {said.read_text()}")
                if status_of(fork(lambda run=run, n=trial % 2: streamed(n, table)(run, True)), 60) != 0:  # type: ignore[misc]
                    bad.append(f"killed at step {at}: the resumed fit failed")
            elif code != 0:  # 0: all was read already
                bad.append(f"killed at step {at}: the fit ended with {code}")
            if code in (0, 4) and (run / WEIGHTS).read_bytes() != wanted:
                bad.append(f"killed at step {at}: other weights")
    what = "SIGKILL of one of 2 workers that read data"
    result = f"{number - len(bad)} of {number}: {noticed} noticed, with a message, and resumed with 0 or 1 worker; the same weights in all"
    good = not bad and noticed > 0
    return [Row(what, "worker", number, result, time.perf_counter() - begun, good, bad)]
