"""Mixtures and spectral clustering beside scikit-learn's classes of the same name, and segments of an image.

    python benchmarks/clustering_mixtures.py            prints; takes some minutes
    python benchmarks/clustering_mixtures.py --quick    few repetitions

Both sides are fitted on the same points with the same settings and seed, in turns, on one thread; they must come to the same
clusters. Seconds are the processor's. The ratio of the medians is given with the range of the ratios of the turns.
"""

from __future__ import annotations

import argparse
import os
import time
import warnings
from collections.abc import Callable
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import numpy as np
from engine import Line, against, say, steady
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.cluster import SpectralClustering as PeerSpectral
from sklearn.datasets import make_blobs
from sklearn.metrics import adjusted_rand_score
from sklearn.mixture import GaussianMixture as PeerMixture
from threadpoolctl import threadpool_limits

from konspekt.cluster.gaussian_mixture import GaussianMixture
from konspekt.cluster.image_segments import segment_image
from konspekt.cluster.spectral import SpectralClustering

__all__ = ["mixtures", "segments", "spectral"]

BOUND = 1.05


def _beside(
    what: str,
    ours: Callable[[], Any],
    peer: Callable[[], Any],
    repeat: int,
    *,
    exact: bool,
    bound: float | None = BOUND,
) -> Line:
    """A line for two fits, which give labels. exact: the labels are equal; else they are up to names."""
    last: dict[str, NDArray[Any]] = {}

    def timed(name: str, fit: Callable[[], Any]) -> Callable[[], float]:
        def run() -> float:
            start = time.process_time()
            fitted = fit()
            seconds = time.process_time() - start
            last[name] = fitted
            return seconds

        return run

    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn's of graphs in pieces
        seconds = steady({"ours": timed("ours", ours), "peer": timed("peer", peer)}, "peer", repeat, what)
    same = adjusted_rand_score(last["ours"], last["peer"])
    assert np.array_equal(last["ours"], last["peer"]) if exact else same > 0.999, (
        f"{what}: other labels, ARI {same:.4f}"
    )
    if seconds is None:
        return Line(what, "none: the machine was too unsteady", f"{bound:.2f}" if bound else "", None, bound)
    ratio, least, most = against(seconds["ours"], seconds["peer"])
    note = f"scikit-learn {np.median(seconds['peer']):.3f} s, here {np.median(seconds['ours']):.3f} s; {'the same labels' if exact else f'ARI {same:.4f}'}"
    figure = f"{ratio:.3f} ({least:.3f} to {most:.3f})"
    return Line(what, figure, f"{bound:.2f}" if bound else "", ratio, bound, [note])


def mixtures(repeat: int) -> list[Line]:
    """EM of fixed length on 50,000 points, with each kind of covariance, and a small set, where what is around it weighs most."""
    lines = []
    for count, columns, k, kinds in ((50_000, 8, 10, ("full", "tied", "diag", "spherical")), (500, 2, 3, ("full",))):
        X, _ = make_blobs(count, columns, centers=k, cluster_std=3.0, random_state=0)
        for kind in kinds:
            settings: dict[str, Any] = {
                "n_components": k,
                "covariance_type": kind,
                "max_iter": 20,
                "tol": 0.0,
                "random_state": 0,
            }
            line = _beside(
                f"GaussianMixture {kind}, {count:,} x {columns}, {k} components, 20 steps",
                lambda X=X, s=settings: GaussianMixture(**s).fit_predict(X),
                lambda X=X, s=settings: PeerMixture(**s).fit_predict(X),
                repeat if count > 1000 else 10 * repeat,
                exact=True,
                bound=BOUND if count > 1000 else None,  # of milliseconds, the checks of parameters and data are a part
            )
            lines.append(line)
    return lines


def spectral(repeat: int) -> list[Line]:
    """Graphs of all pairs and of neighbours, connected ones and one in pieces, in few and in more columns."""
    cases: tuple[tuple[str, int, int, float, dict[str, Any]], ...] = (
        ("rbf", 1_000, 2, 1.0, {"affinity": "rbf", "gamma": 0.5}),
        ("rbf", 3_000, 4, 2.0, {"affinity": "rbf", "gamma": 0.1}),
        ("neighbours", 3_000, 2, 1.0, {"affinity": "nearest_neighbors"}),
        ("neighbours", 20_000, 2, 1.0, {"affinity": "nearest_neighbors"}),
        ("neighbours", 3_000, 8, 5.0, {"affinity": "nearest_neighbors"}),
        ("neighbours, in pieces", 3_000, 8, 1.0, {"affinity": "nearest_neighbors"}),
    )
    lines = []
    for what, count, columns, spread, settings in cases:
        X, _ = make_blobs(count, columns, centers=5, cluster_std=spread, random_state=3)
        lines.append(
            _beside(
                f"SpectralClustering, {what}, {count:,} x {columns}, 5 clusters",
                lambda X=X, s=settings: SpectralClustering(n_clusters=5, random_state=0, **s).fit_predict(X),
                lambda X=X, s=settings: PeerSpectral(5, random_state=0, **s).fit_predict(X),
                repeat,
                exact=False,
            )
        )
    return lines


def segments(repeat: int) -> list[Line]:
    """A photograph of 512 x 512 in 8 segments: from a sample, beside k-means of all pixels; the second is for comparison only."""
    from PIL import Image
    from sklearn.datasets import load_sample_image

    image = np.asarray(Image.fromarray(load_sample_image("china.jpg")).resize((512, 512)))
    pixels = np.concatenate([image.reshape(-1, 3) / 255, 0.3 * np.mgrid[:512, :512].reshape(2, -1).T / 511], axis=1)

    def ours() -> float:
        start = time.process_time()
        segment_image(image, 8, random_state=0)
        return time.process_time() - start

    def whole() -> float:
        start = time.process_time()
        KMeans(8, n_init=1, random_state=0).fit(pixels)
        return time.process_time() - start

    what = "segment_image, 512 x 512 x 3, 8 segments, beside KMeans of all pixels"
    with threadpool_limits(1):
        seconds = steady({"ours": ours, "peer": whole}, "peer", repeat, what)
    if seconds is None:
        return [Line(what, "none: the machine was too unsteady", "")]
    ratio, least, most = against(seconds["ours"], seconds["peer"])
    note = (
        f"here {np.median(seconds['ours']):.2f} s with reading and colours, KMeans {np.median(seconds['peer']):.2f} s"
    )
    return [Line(what, f"{ratio:.2f} ({least:.2f} to {most:.2f})", "", notes=[note])]


def main() -> None:
    """Print the lines."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few repetitions")
    repeat = 3 if parser.parse_args().quick else 9
    for part in (mixtures, spectral, segments):
        for line in part(repeat):
            say(f"{line.what}: {line.figure}, {line.verdict}")
            for note in line.notes:
                say(f"  {note}")


if __name__ == "__main__":
    main()
