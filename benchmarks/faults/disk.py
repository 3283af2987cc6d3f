"""Rows 3 and 6: a disk that is full, or read-only, at each write of a run."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from children import Row, scratch

from konspekt.core.errors import ResourceError
from konspekt.engine import checkpoint
from konspekt.reports import report
from konspekt.tabular import MLPClassifier
from konspekt.testing import refusing, tiny
from konspekt.vision import ImageClassifier

__all__ = ["disk", "readonly"]

PAGE = 4096  # bytes: what a tmpfs gives out at a time


def table_fit(run: Path, *, resume: bool = False) -> None:
    """A fit of 9 steps on a table, with all that a run folder may get, and its report."""
    X, y = tiny("tabular-classification", 24)
    made = MLPClassifier(
        hidden=(6,), norm="batch", epochs=3, batch_size=8, checkpoint_every=2, lr="find", validation_fraction=0.25,
        run_dir=str(run), verbose=False,
    )  # fmt: skip
    made.fit(X, y, resume=run if resume else None)
    report(run)


def image_fit(run: Path, *, resume: bool = False) -> None:
    """A fit on images, whose worst items are kept as files."""
    X, y = tiny("image-classification", 4)
    made = ImageClassifier(image_size=16, epochs=1, batch_size=2, checkpoint_every=1, run_dir=str(run), verbose=False)
    made.fit(X, y, resume=run if resume else None)
    report(run)


def wanted_of(run: Path) -> bytes:
    return (run / "model" / "weights.safetensors").read_bytes()


def whole_checkpoints(run: Path) -> int:
    """How many checkpoints there are; each must be whole.

    Raises DataError where one is not.
    """
    found = (
        [p for p in (run / "checkpoint").iterdir() if not p.name.startswith(".")]
        if (run / "checkpoint").is_dir()
        else []
    )
    for path in found:
        checkpoint.read(path)
    return len(found)


def outcome(fit: Any, run: Path) -> str | None:
    """What is wrong with how a fit took a refusal: None where it said so by a ResourceError."""
    try:
        fit(run)
    except ResourceError as error:
        text = str(error)
        return None if "cannot write" in text and str(run) in text else f"the message does not say where: {text[:150]}"
    except BaseException as error:  # noqa: BLE001, anything else is what is looked for
        return f"{type(error).__name__}: {str(error)[:150]}"
    return "no word of it"


def again(fit: Any, run: Path, wanted: bytes) -> str | None:
    """Go on, or begin anew where nothing was begun; what is wrong."""
    try:
        whole_checkpoints(run)
        fit(run, resume=(run / "config.yaml").is_file())
    except BaseException as error:  # noqa: BLE001
        return f"afterwards {type(error).__name__}: {str(error)[:150]}"
    return None if wanted_of(run) == wanted else "afterwards other weights"


def _each(what: str, command: str, number: int, trials: int | None, lasting: bool) -> Row:
    begun = time.perf_counter()
    bad: list[str] = []
    count = 0
    with scratch() as place:
        home = Path(place)
        for fit in (table_fit, image_fit):
            with refusing(home / "whole", 0) as asked:
                fit(home / "whole")
            wanted, total = wanted_of(home / "whole"), len(asked.calls)
            shutil.rmtree(home / "whole")
            step = max(1, 2 * total // trials) if trials else 1
            for at in range(1, total + 1, step):
                run = home / "run"
                count += 1
                with refusing(run, at, lasting=lasting, number=number) as disk:
                    wrong = outcome(fit, run)
                where = ", ".join(disk.refused[:1]) or "nothing"
                wrong = wrong or again(fit, run, wanted)
                if wrong:
                    bad.append(f"call {at} of {total}, {where}: {wrong}")
                shutil.rmtree(run, ignore_errors=True)
    result = f"{count - len(bad)} of {count}: a message; older checkpoints whole; then the same weights"
    return Row(what, command, count, result, time.perf_counter() - begun, not bad, bad[:40])


@contextlib.contextmanager
def mounted(folder: Path, size: str) -> Iterator[bool]:
    """A file system of its own at a folder; False where this user may not mount."""
    folder.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(folder)], capture_output=True, check=False
    )
    try:
        yield done.returncode == 0
    finally:
        if done.returncode == 0:
            subprocess.run(["umount", "-l", str(folder)], check=False)


def _small_disk(trials: int | None) -> Row:
    """A real file system that has room for so many pages and no more."""
    begun = time.perf_counter()
    bad: list[str] = []
    count = full = 0
    what = "a disk (tmpfs) with room for so many pages, for each number until the run fits"
    with tempfile.TemporaryDirectory() as place, mounted(Path(place) / "disk", "2m") as ready:
        if not ready:
            return Row(what, "disk", 0, "skipped: this user may not mount", 0.0, True)
        disk = Path(place) / "disk"
        run, ballast = disk / "run", disk / "ballast"
        table_fit(run)
        wanted = wanted_of(run)
        shutil.rmtree(run)
        pages = 0
        while True:
            free = os.statvfs(disk)
            ballast.write_bytes(bytes((free.f_bavail - pages) * PAGE))
            count += 1
            wrong = outcome(table_fit, run)
            ballast.unlink()
            if wrong == "no word of it":  # it had room
                break
            full += 1
            wrong = wrong or again(table_fit, run, wanted)
            if wrong:
                bad.append(f"{pages} pages: {wrong}")
            shutil.rmtree(run, ignore_errors=True)
            pages += 1 if not trials else max(1, 100 // trials)
            if pages > 400:
                bad.append("it never fitted")
                break
    result = f"{full - len(bad)} of {full}: a message; older checkpoints whole; then the same weights; with {pages} pages it fits"
    return Row(what, "disk", full, result, time.perf_counter() - begun, not bad, bad[:40])


def disk(trials: int | None) -> list[Row]:
    """Each write of a run fails once, then for good; then a small disk."""
    return [
        _each("each write of a run refused once: disk full (ENOSPC)", "disk", errno.ENOSPC, trials, False),
        _each("each write of a run refused, and all after it", "disk", errno.ENOSPC, trials, True),
        _small_disk(trials),
    ]


def readonly(trials: int | None) -> list[Row]:
    """A run folder that is, or becomes, read-only."""
    return [
        _each("each write of a run refused from then on: read-only (EROFS)", "readonly", errno.EROFS, trials, True),
        _remounted(),
    ]


def _remounted() -> Row:
    begun = time.perf_counter()
    what = "a disk (tmpfs) that is read-only at the start, or after step 1 to 8"
    bad: list[str] = []
    with tempfile.TemporaryDirectory() as place, mounted(Path(place) / "disk", "4m") as ready:
        if not ready:
            return Row(what, "readonly", 0, "skipped: this user may not mount", 0.0, True)
        disk = Path(place) / "disk"

        def remount(how: str) -> None:
            subprocess.run(["mount", "-o", f"remount,{how}", str(disk)], check=True)

        table_fit(disk / "whole")
        wanted = wanted_of(disk / "whole")
        for step in range(9):
            run = disk / f"run{step}"
            if step == 0:
                remount("ro")

            def fit(run: Path, step: int = step) -> None:
                X, y = tiny("tabular-classification", 24)

                def stop_writing(moment: Any) -> None:
                    if moment.event == "step" and moment.step == step:
                        # a file that is open for writing would keep the disk from becoming read-only
                        if moment.run._metrics is not None:
                            moment.run._metrics.close()
                            moment.run._metrics = None
                        moment.run._lock.close()
                        remount("ro")

                MLPClassifier(
                    hidden=(6,), norm="batch", epochs=3, batch_size=8, checkpoint_every=2, lr="find",
                    validation_fraction=0.25, run_dir=str(run),
                ).fit(X, y, callbacks=[stop_writing])  # fmt: skip

            wrong = outcome(fit, run)
            remount("rw")
            wrong = wrong or again(table_fit, run, wanted)
            if wrong:
                bad.append(f"after step {step}: {wrong}")
    result = f"{9 - len(bad)} of 9: a message; older checkpoints whole; then the same weights"
    return Row(what, "readonly", 9, result, time.perf_counter() - begun, not bad, bad)
