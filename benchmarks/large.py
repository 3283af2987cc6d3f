"""What large data, large nets and two processes cost.

    python benchmarks/large.py            all of it, in some minutes and 12 GB; writes benchmarks/LARGE.md
    python benchmarks/large.py --quick    a tenth of the sizes; prints, writes nothing

Memory: the most that a fit on an array of 2 GB holds above the level before it (the array is the caller's), over the
bytes of the tensors that it keeps (data, weights, gradients, optimiser). Processes: seconds a step of one process with one thread and with
two, and of two processes with one thread each, and the share of a step that the sum of the gradients takes. Checkpoint:
seconds to write one of a net of 1 GB, and for how long the training pauses meanwhile. Each measurement runs in processes of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

RESULTS = Path(__file__).parent / "LARGE.md"

MEMORY = """
import json, sys, tempfile
import numpy as np
import konspekt
from konspekt.engine.forecast import Level
import torch
rows, where = int(sys.argv[1]), sys.argv[2]
rng = np.random.default_rng(0)
warm = rng.normal(size=(400, 100)).astype(np.float32)
with tempfile.TemporaryDirectory() as scratch:  # what a first fit imports and caches is no matter of the data
    konspekt.MLPClassifier(epochs=1, validation_fraction=0.2, run_dir=scratch + "/run").fit(warm, warm[:, 0] > 0)
X = np.empty((rows, 100), dtype=np.float32)
for part in np.array_split(X, 50):
    part[:] = rng.standard_normal(part.shape, dtype=np.float32)
y = (X[:, 0] > 0).astype(np.int64)
level = Level(torch.device("cpu"))
with tempfile.TemporaryDirectory() as scratch:
    run_dir = scratch + "/run" if where == "folder" else None
    model = konspekt.MLPClassifier(epochs=1, batch_size=8192, validation_fraction=0.2, run_dir=run_dir)
    model.fit(X, y)
    weights = sum(p.nbytes for p in model.model_.parameters())
print(json.dumps({"peak": level.peak(), "kept": X.nbytes + y.nbytes + 4 * weights, "array": X.nbytes}))
"""

STEPS = """
import json, os, sys, time
import numpy as np
import torch
import konspekt
from konspekt.engine import processes
what, epochs = sys.argv[1], int(sys.argv[2])
torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
rng = np.random.default_rng(0)
spent = [0.0]
add = processes.Team.add
def timed(self, values):
    start = time.perf_counter()
    add(self, values)
    spent[0] += time.perf_counter() - start
processes.Team.add = timed
if what == "lenet":
    X, y = rng.integers(0, 255, size=(6400, 32, 32), dtype=np.uint8), np.arange(6400) % 10
    model = konspekt.ImageClassifier(epochs=epochs, batch_size=256)
else:
    X, y = rng.normal(size=(25600, 100)), np.arange(25600) % 2
    model = konspekt.MLPClassifier(hidden=(512, 512), epochs=epochs, batch_size=256)
model.fit(X, y)
last = model.history_[-1]
steps = last["step"] // epochs
if os.environ.get("RANK", "0") == "0":
    seconds = sorted(r["seconds"] for r in model.history_)[len(model.history_) // 2]
    print(json.dumps({"step": seconds / steps, "sum": spent[0] / last["step"], "loss": last["loss"]}))
"""

CHECKPOINT = """
import json, sys, tempfile, time
import torch
from torch import nn
from konspekt.core.runs import Run
from konspekt.data.batches import Resident
from konspekt.engine import Training, minimise, checkpoint, loop
from konspekt.engine.supervised import Regression
width = int(sys.argv[1])
net = nn.Linear(width, width, bias=False)
x = torch.randn(12, width)
pauses, writes, steps, begun = [], [], [], []
save, write = loop.Loop.save, checkpoint._write
def saved(self):
    start = time.perf_counter()
    save(self)
    pauses.append(time.perf_counter() - start)
def written(*a, **k):
    start = time.perf_counter()
    out = write(*a, **k)
    writes.append(time.perf_counter() - start)
    return out
loop.Loop.save, checkpoint._write = saved, written
def look(moment):
    if moment.event == "step":
        begun.append(time.perf_counter())
        time.sleep(0.5 if moment.step > 4 else 0)  # time for the writer, as a large net's steps would give
with tempfile.TemporaryDirectory() as scratch:
    run = Run(scratch + "/run")
    batches = Resident({"x": x, "y": x}, batch_size=2)
    minimise(Regression(net), batches, Training(epochs=4, optimizer="sgd", lr=1e-6, checkpoint_every=20), run=run, callbacks=[look])
    run.close()
print(json.dumps({"bytes": net.weight.nbytes, "pause": pauses[0], "write": writes[0]}))
"""


def child(code: str, *arguments: object, processes: int = 1, threads: int = 1) -> dict[str, float]:
    """The JSON that a process of its own prints last."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "child.py"
        file.write_text(code, encoding="utf-8")
        start = [sys.executable] if processes == 1 else [
            sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(processes)
        ]  # fmt: skip
        environment = os.environ | {"OMP_NUM_THREADS": str(threads), "PYTHONWARNINGS": "ignore"}
        out = subprocess.run(
            [*start, str(file), *map(str, arguments)], env=environment, capture_output=True, text=True, check=False
        )
        if out.returncode:
            raise SystemExit(f"a measurement failed:\n{out.stderr[-3000:]}")
        return json.loads(out.stdout.strip().splitlines()[-1])  # type: ignore[no-any-return]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of the sizes; print only")
    quick = parser.parse_args().quick
    sys.path.insert(0, str(Path(__file__).parent))
    from engine import machine_lines, say

    began, machine = time.perf_counter(), machine_lines()
    rows = []

    def row(what: str, figure: str, limit: str = "") -> None:
        rows.append(f"| {what} | {figure} | {limit} |")
        say(rows[-1])

    for where, words in (("memory", "without"), ("folder", "with")):
        found = child(MEMORY, 500_000 if quick else 5_000_000, where)
        ratio = found["peak"] / found["kept"]
        row(
            f"memory of a fit on {found['array'] / 1e9:.2f} GB of float32, {words} a run folder",
            f"{ratio:.3f} of what it keeps ({found['peak'] / 1e9:.2f} GB above the level)", f"1.3: {'met' if ratio <= 1.3 else 'missed'}",
        )  # fmt: skip
    for what, words in (("mlp", "MLP 100-512-512-2, batch 256"), ("lenet", "LeNet, batch 256 of 32 x 32")):
        ways: dict[str, dict[str, int]] = {
            "1 process, 1 thread": {}, "1 process, 2 threads": {"threads": 2}, "2 processes, 1 thread each": {"processes": 2}
        }  # fmt: skip
        turns: dict[str, list[dict[str, float]]] = {name: [] for name in ways}
        for _ in range(1 if quick else 5):
            for name, how in ways.items():
                turns[name].append(child(STEPS, what, 2 if quick else 5, **how))
        base = statistics.median(t["step"] for t in turns["1 process, 1 thread"])
        for name, seen in turns.items():
            step = statistics.median(t["step"] for t in seen)
            least, most = min(t["step"] for t in seen), max(t["step"] for t in seen)
            share = statistics.median(t["sum"] / t["step"] for t in seen)
            summed = f"; the sum of the gradients takes {share:.1%}" if "2 processes" in name else ""
            row(
                f"{words}, {name}",
                f"{step * 1e3:.2f} ms a step ({least * 1e3:.2f} to {most * 1e3:.2f}), {base / step:.2f} times as fast as one{summed}",
            )
    seen = [child(CHECKPOINT, 5120 if quick else 16384) for _ in range(1 if quick else 3)]
    write, pause = (statistics.median(s[k] for s in seen) for k in ("write", "pause"))
    row(
        f"checkpoint of {seen[0]['bytes'] / 1e9:.2f} GB",
        f"{write:.2f} s to write (copy to disk, flushed, summed), training pauses for {pause:.2f} s",
    )
    if quick:
        return
    text = [
        "# Large data, large nets, two processes", "",
        f"Written by `python benchmarks/large.py` in {time.perf_counter() - began:.0f} s.", "", *machine, "",
        "| what | figure | limit |", "|---|---|---|", *rows, "",
    ]  # fmt: skip
    RESULTS.write_text("\n".join(text), encoding="utf-8")
    say(f"wrote {RESULTS.name}")


if __name__ == "__main__":
    main()
