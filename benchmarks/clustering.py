"""Clusters: the methods and the indices beside scikit-learn's and beside their plain definitions; many points.

python benchmarks/clustering.py                     everything, some twenty minutes; writes CLUSTERING.md
python benchmarks/clustering.py --only kmeans       some parts, on the page beside what it held of the others
python benchmarks/clustering.py --quick             few turns, nothing large; prints, writes nothing
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # as the command line has it; it counts from OpenMP's start on

import clustering_density
import clustering_hierarchy
import clustering_indices
import clustering_kmeans
import clustering_mixtures
from engine import Line
from result_page import Page, arguments

HEADS = {
    "kmeans": "k-means, in steps over all points and in mini-batches, and k-medians.",
    "density": "DBSCAN, mean shift, and the graph of near points, for which scikit-learn has no class but DBSCAN(min_samples=1).",
    "mixtures": "Gaussian mixtures, spectral clustering, segments of an image.",
    "hierarchy": "Trees of clusters.",
    "indices": "Indices: those that scikit-learn has beside it, the others beside their definitions written plainly in NumPy, and all on many points.",
    "large": "Many points: seconds, and by how much the process grew.",
}  # fmt: skip
TOP = (
    "# Clusters: results of the benchmarks\n\nWritten by `python benchmarks/clustering.py`; each part says when and where. "
    "A ratio is that of the medians of the seconds, ours over theirs, and in brackets the least and the largest of a turn; the sides take turns on the same points and must come to the same result."
)


def main() -> int:
    given = arguments(__doc__, HEADS, "few turns, nothing large")
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
    page, met = Page(Path(__file__).parent / "CLUSTERING.md", TOP, HEADS), True
    for name, job in jobs.items():
        if name in given.only and not (given.quick and name == "large"):
            met &= page.measure(name, job)
    if not given.quick:
        page.write()
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
