"""Clusters: the methods and the indices beside scikit-learn's and beside their plain definitions; many points.

python benchmarks/clustering.py                     everything, some twenty minutes; writes CLUSTERING.md
python benchmarks/clustering.py --only kmeans       some parts, on the page beside what it held of the others
python benchmarks/clustering.py --quick             few turns, nothing large; prints, writes nothing
"""

from __future__ import annotations

import argparse
import datetime
import os
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # as the command line has it; it counts from OpenMP's start on

import clustering_density
import clustering_hierarchy
import clustering_indices
import clustering_kmeans
import clustering_mixtures
from engine import BUSY, Line, machine_lines, say

RESULTS = Path(__file__).parent / "CLUSTERING.md"
HEADS = {
    "kmeans": "k-means, in steps over all points and in mini-batches, and k-medians.",
    "density": "DBSCAN, mean shift, and the graph of near points, for which scikit-learn has no class but DBSCAN(min_samples=1).",
    "mixtures": "Gaussian mixtures, spectral clustering, segments of an image.",
    "hierarchy": "Trees of clusters.",
    "indices": "Indices: those that scikit-learn has beside it, the others beside their definitions written plainly in NumPy, and all on many points.",
    "large": "Many points: seconds, and by how much the process grew.",
}  # fmt: skip
RATIO = "A ratio is that of the medians of the seconds, ours over theirs, and in brackets the least and the largest of a turn; the sides take turns on the same points and must come to the same result."


def section(name: str, lines: list[Line], facts: list[str]) -> str:
    """A part of the page."""
    text = [
        f"## {name}", "", HEADS[name], "", *facts, "",
        "| what | figure | limit | verdict |", "|---|---|---|---|",
        *(f"| {line.what} | {line.figure} | {line.limit} | {line.verdict} |" for line in lines), "",
        *(f"- {line.what}: {note}" for line in lines for note in line.notes),
    ]  # fmt: skip
    return "\n".join(text).rstrip() + "\n"


def written(parts: dict[str, str]) -> None:
    """CLUSTERING.md: these parts, and what it held of the others."""
    old = RESULTS.read_text(encoding="utf-8") if RESULTS.exists() else ""
    found = re.finditer(r"^## (\w+)\n.*?(?=^## |\Z)", old, re.MULTILINE | re.DOTALL)
    held = {m[1]: m[0].rstrip() + "\n" for m in found} | parts
    head = f"# Clusters: results of the benchmarks\n\nWritten by `python benchmarks/clustering.py`; each part says when and where. {RATIO}\n"
    RESULTS.write_text("\n".join([head, *(held[name] for name in HEADS if name in held)]), encoding="utf-8")
    say(f"wrote {RESULTS.name}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=tuple(HEADS), default=list(HEADS), help="parts")
    parser.add_argument("--quick", action="store_true", help="few turns, nothing large; print, write nothing")
    given = parser.parse_args()
    repeat = 3 if given.quick else 9
    jobs: dict[str, Callable[[], list[Line]]] = {
        "kmeans": lambda: [
            *clustering_kmeans.kmeans_lines(repeat),
            *clustering_kmeans.kmedians_lines(3 if given.quick else 5),
            *clustering_kmeans.torch_lines(repeat),
        ],
        "density": lambda: clustering_density.lines(repeat),
        "mixtures": lambda: [
            *clustering_mixtures.mixtures(repeat),
            *clustering_mixtures.spectral(repeat),
            *clustering_mixtures.segments(repeat),
        ],
        "hierarchy": lambda: clustering_hierarchy.lines(repeat),
        "indices": lambda: clustering_indices.lines(repeat, quick=given.quick),
        "large": lambda: [
            *clustering_kmeans.large_lines(3),
            *clustering_density.million(),
            *clustering_hierarchy.large(),
        ],
    }
    parts, met = {}, True
    for name, job in jobs.items():
        if name not in given.only or (given.quick and name == "large"):
            continue
        load, began = os.getloadavg()[0], time.perf_counter()
        say(f"{name}: load average {load:.2f}{'; the machine is busy' if load > BUSY else ''}")
        lines = job()
        for line in lines:
            say(f"{line.what}: {line.figure}{f', limit {line.limit}' if line.limit else ''}: {line.verdict}")
        met &= all(line.verdict in ("met", "for information") for line in lines)
        spent = time.perf_counter() - began
        parts[name] = section(
            name, lines, [f"- {datetime.date.today().isoformat()}, {spent:.0f} s", *machine_lines(load)]
        )
    if not given.quick:
        written(parts)
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
