"""Memory and speed of fits on data that are resident, streamed by the training process, and streamed by two others.

    python benchmarks/streaming.py             in some minutes; writes benchmarks/STREAMING.md
    python benchmarks/streaming.py --quick     small data; prints, writes nothing

The data are made: a csv file of numbers and categories, and a folder of JPEG files that are brought to a smaller size.
Each fit runs in a process of its own. Memory is what the system says that the process holds (VmRSS), above what it held
after a fit on a few rows: after each epoch, and at its peak (VmHWM). Growth is that of all that the process holds, from
the median after epochs 2 to 4 to the median after epochs 8 to 10: single values waver by some MiB, as the allocator gives
memory back or not. That of reading processes is given beside it. Speed is that of the median epoch after the second,
with its validation.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

RESULTS = Path(__file__).parent / "STREAMING.md"
EPOCHS = 10
CASES = {"resident": ("never", 0), "streamed": ("always", 0), "streamed, 2 workers": ("always", 2)}
MIB = 2**20


def table(path: Path, rows: int) -> None:
    """A csv file of 24 numbers, 3 categories and a target."""
    import numpy as np
    import pandas as pd

    draw = np.random.default_rng(0)
    for first in range(0, rows, 50_000):
        x = draw.normal(size=(min(50_000, rows - first), 24))
        frame = pd.DataFrame(x.round(6), columns=[f"x{i}" for i in range(24)])
        for name in ("red", "green", "blue"):
            frame[name] = draw.choice([f"{name} {i}" for i in range(40)], len(x))
        frame["y"] = np.where(x[:, 0] + x[:, 1] > 0, "yes", "no")
        frame.to_csv(path, mode="a", index=False, header=first == 0)


def pictures(path: Path, count: int) -> None:
    """A folder of JPEG files, 160 x 160, of two classes."""
    import numpy as np
    from PIL import Image

    draw = np.random.default_rng(0)
    for i in range(count):
        folder = path / ("bright", "dark")[i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        coarse = draw.integers(0, 156, (10, 10, 3), dtype=np.uint8) + np.uint8(100 * (1 - i % 2))
        Image.fromarray(coarse).resize((160, 160), Image.Resampling.BICUBIC).save(folder / f"{i}.jpg", quality=90)


def held(pid: int | str, name: str = "VmRSS") -> int:
    """Bytes of memory that a process holds."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name + ":"))


def fit(kind: str, source: str, case: str) -> None:
    """One fit; prints what was measured as JSON."""
    import numpy as np

    from konspekt.tabular import MLPClassifier
    from konspekt.vision import ImageClassifier

    stream, workers = CASES[case]
    how = {
        "stream": stream,
        "workers": workers,
        "epochs": EPOCHS,
        "validation_fraction": 0.1,
        "device": "cpu",
        "compile": False,
    }
    small = {"epochs": 1, "verbose": False, "validation_fraction": 0.5}  # a fit that brings in what every fit needs
    with tempfile.TemporaryDirectory() as folder:
        MLPClassifier(run_dir=f"{folder}/a", **small).fit(np.eye(8), [0, 1] * 4)
        ImageClassifier(run_dir=f"{folder}/b", **small).fit(np.zeros((8, 28, 28)), [0, 1] * 4)
    level = held("self")
    after: list[int] = []
    beside: list[int] = []

    def measure(moment: object) -> None:
        if getattr(moment, "event") == "epoch":  # noqa: B009
            after.append(held("self") - level)
            beside.append(sum(held(child.pid or 0) for child in multiprocessing.active_children()))

    with tempfile.TemporaryDirectory() as folder:
        how["run_dir"] = f"{folder}/run"
        if kind == "table":
            fitted = MLPClassifier(hidden=(64,), batch_size=256, **how).fit(source, "y", callbacks=[measure])
        else:
            fitted = ImageClassifier(image_size=64, batch_size=64, **how).fit(source, callbacks=[measure])
        facts = json.loads(Path(f"{folder}/run/data.json").read_text())
        weights = Path(f"{folder}/run/model/weights.safetensors").read_bytes()
        result = json.loads(Path(f"{folder}/run/result.json").read_text())
    seconds = statistics.median(h["seconds"] for h in fitted.history_[2:])
    found = {
        "level": level,
        "after": after,
        "beside": max(beside),
        "peak": held("self", "VmHWM") - level,
        "speed": facts["train"] / seconds,
        "before": result["timings"]["data"],
        "weights": hash(weights),
    }
    print(json.dumps(found))


def measured(kind: str, source: Path, case: str) -> dict[str, object]:
    """`fit` in a process of its own."""
    command = [sys.executable, __file__, "--fit", kind, str(source), case]
    environment = os.environ | {"PYTHONHASHSEED": "0"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise SystemExit(done.stderr)
    found: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return found


def rows_of(kind: str, source: Path) -> list[str]:
    """The table of one kind of data."""
    lines = [
        "| data | MiB after epoch 2 | after epoch 10 | growth | peak MiB | workers MiB | items/s | s before training |",
        "|---|---|---|---|---|---|---|---|",
    ]
    found = {case: measured(kind, source, case) for case in CASES}
    if len({f["weights"] for f in found.values()}) != 1:
        raise SystemExit(f"{kind}: the weights differ")
    for case, f in found.items():
        after: list[int] = f["after"]  # type: ignore[assignment]
        level: int = f["level"]  # type: ignore[assignment]
        growth = (level + statistics.median(after[-3:])) / (level + statistics.median(after[1:4])) - 1
        lines.append(
            f"| {case} | {after[1] / MIB:.0f} | {after[-1] / MIB:.0f} | {growth:+.1%} | {f['peak'] / MIB:.0f} | "  # type: ignore[operator]
            f"{f['beside'] / MIB:.0f} | {f['speed']:,.0f} | {f['before']:.1f} |"  # type: ignore[operator]
        )
    return lines


def main() -> None:
    """Make the data, fit, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--fit", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.fit:
        fit(*given.fit)
        return
    rows, count = (20_000, 400) if given.quick else (400_000, 2_500)
    with tempfile.TemporaryDirectory() as folder:
        csv, images = Path(folder) / "t.csv", Path(folder) / "images"
        table(csv, rows)
        pictures(images, count)
        size = sum(p.stat().st_size for p in images.rglob("*.jpg"))
        of_table, of_images = rows_of("table", csv), rows_of("images", images)
        text = [
            "# Data in memory and on the disk",
            "",
            f"Written by `python benchmarks/streaming.py` on {platform.machine()} with {os.cpu_count()} processors, Python",
            f"{platform.python_version()}, at a load of {os.getloadavg()[0]:.1f} when it ended. MiB are those above the",
            "process's level after a fit on a few rows. All three fits of a table below end in the same weights, to the bit.",
            "",
            f"## A csv file: {rows:,} rows of 27 columns, {csv.stat().st_size / MIB:.0f} MiB",
            "",
            *of_table,
            "",
            f"## A folder: {count:,} JPEG files of 160 x 160, {size / MIB:.0f} MiB, at image_size=64",
            "",
            *of_images,
            "",
        ]
    print("\n".join(text))
    if not given.quick:
        RESULTS.write_text("\n".join(text), encoding="utf-8")


if __name__ == "__main__":
    main()
