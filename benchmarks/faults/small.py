"""Rows 5 and 7: a clock that goes back, and batches with one item."""

from __future__ import annotations

import contextlib
import io
import json
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from children import Row, status_of
from kill import together

from konspekt.core.errors import KonspektError
from konspekt.core.runs import list_runs
from konspekt.tabular import MLPClassifier, MLPRegressor
from konspekt.testing import tiny
from konspekt.vision import ImageClassifier

__all__ = ["clock", "single"]

WEIGHTS = "model/weights.safetensors"


class StoppedError(Exception):
    pass


def _stop_at(step: int) -> Any:
    def callback(moment: Any) -> None:
        if moment.event == "step" and moment.step == step:
            raise StoppedError

    return callback


@contextlib.contextmanager
def falling_clock() -> Iterator[None]:
    """Within: each look at the clock of the wall gives an hour less; the monotonic clocks go on."""
    own_time, own_strftime, now = time.time, time.strftime, [time.time()]

    def back() -> float:
        now[0] -= 3600
        return now[0]

    def formatted(form: str, *moment: Any) -> str:
        return own_strftime(form, *(moment or (time.localtime(back()),)))

    time.time, time.strftime = back, formatted  # type: ignore[assignment]
    try:
        yield
    finally:
        time.time, time.strftime = own_time, own_strftime


def _fit(run: Path, *, resume: bool = False, stop: int | None = None) -> None:
    X, y = tiny("tabular-classification", 24)
    made = MLPClassifier(
        hidden=(6,), dropout=0.2, epochs=3, batch_size=8, checkpoint_every=2, validation_fraction=0.25, max_time=100,
        logs=("tensorboard",), run_dir=str(run),
    )  # fmt: skip
    made.fit(X, y, resume=run if resume else None, callbacks=[_stop_at(stop)] if stop else ())


def clock(trials: int | None) -> list[Row]:
    """The clock of the wall goes back during a run, between its parts, and between runs."""
    begun = time.perf_counter()
    number = trials or 9
    bad: list[str] = []
    with tempfile.TemporaryDirectory() as place:
        home = Path(place)
        _fit(home / "whole")
        wanted = (home / "whole" / WEIGHTS).read_bytes()
        for trial in range(number):
            run = home / f"run{trial}"
            step = 1 + trial % 8
            with falling_clock(), contextlib.suppress(StoppedError):
                _fit(run, stop=step)
            kept = sorted((run / "checkpoint").iterdir()) if (run / "checkpoint").is_dir() else []
            for age, path in enumerate(kept):  # the newest looks the oldest
                os.utime(path, (1e9 - 1000 * age, 1e9 - 1000 * age))
                for file in path.iterdir():
                    os.utime(file, (1e9 - 1000 * age, 1e9 - 1000 * age))
            with falling_clock():
                _fit(run, resume=True)
            log = (run / "log.txt").read_text()
            if (run / WEIGHTS).read_bytes() != wanted:
                bad.append(f"stopped at step {step}: other weights")
            if kept and "WARNING a damaged" in log:
                bad.append(f"stopped at step {step}: a checkpoint was taken for damaged")
            seconds = [json.loads(line).get("seconds", 0) for line in (run / "metrics.jsonl").read_text().splitlines()]
            if not all(0 <= s < 60 for s in seconds):
                bad.append(f"stopped at step {step}: seconds {seconds}")
        listed = [r["name"] for r in list_runs(home)]
        if sorted(listed) != sorted(p.name for p in home.iterdir()) or any(
            r["state"] != "finished" for r in list_runs(home)
        ):
            bad.append(f"konspekt runs lists {listed}")
    what = "the clock of the wall set back by an hour at each look; times of checkpoint files turned around"
    result = f"{number - len(bad)} of {number}: the same weights, seconds that are none less than 0, runs listed"
    return [Row(what, "clock", number, result, time.perf_counter() - begun, not bad, bad)]


def single(trials: int | None) -> list[Row]:
    """As many items that one is left over for the last batch; and batches of one."""
    begun = time.perf_counter()
    bad: list[str] = []
    count = 0
    shown = io.StringIO()
    for task, cls, options in [
        ("tabular-classification", MLPClassifier, {"hidden": (6,), "norm": "batch"}),
        ("tabular-regression", MLPRegressor, {"hidden": (6,), "norm": "batch"}),
        ("image-classification", ImageClassifier, {"image_size": 16, "augment": ("shift",)}),
        ("tabular-classification", MLPClassifier, {"hidden": (6,), "norm": "batch", "accumulate": 2}),
    ]:
        for items, size in [(9, 8), (17, 8), (25, 8), (9, 4), (3, 2), (4, 3), (8, 1), (5, 1)]:
            count += 1
            X, y = tiny(task, items)
            if task.endswith("classification"):
                y = np.array(y)
                y[:2] = np.unique(tiny(task, 24)[1])
            seen: list[int] = []

            def look(moment: Any, seen: list[int] = seen) -> None:
                if moment.event == "epoch":
                    seen.append(moment.step)

            made = cls(epochs=2, batch_size=size, **options)
            where = f"{cls.__name__} {options}: {items} items in batches of {size}"
            try:
                with contextlib.redirect_stderr(shown):
                    made.fit(X, y, callbacks=[look])
                values = made.predict_proba(X) if hasattr(made, "predict_proba") else made.predict(X)
                if not np.isfinite(np.asarray(values)).all():
                    bad.append(f"{where}: predictions that are not finite")
            except KonspektError as error:
                if size != 1 or "batch" not in str(error):
                    bad.append(f"{where}: {error}")
            except Exception as error:  # noqa: BLE001, anything else is what is looked for
                bad.append(f"{where}: {type(error).__name__}: {str(error)[:200]}")
    with tempfile.TemporaryDirectory() as place:
        for size, trained in [(2, False), (3, False), (5, True), (16, True)]:  # 36 items in two processes
            count += 1
            home, said = Path(place), Path(place) / f"said{size}"
            options = {"norm": "batch", "batch_size": size}
            codes = [status_of(c) for c in together(home / f"run{size}", False, 2, home, options=options, said=said)]
            texts = [path.read_text() for path in home.glob(f"said{size}.*")]
            if codes != ([0, 0] if trained else [4, 4]) or not all(
                "ConfigError: batch normalisation" in t for t in texts
            ):
                bad.append(f"two processes, batches of {size}: {codes} {texts}")
    what = "one item left over for the last batch, with batch norm; batches of one; one item for a process of two"
    result = f"{count - len(bad)} of {count}: trained, or (where one item would be alone with batch norm) a message"
    return [Row(what, "single", count, result, time.perf_counter() - begun, not bad, bad)]
