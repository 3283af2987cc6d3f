"""AnomalyDetector beside scikit-learn's IsolationForest: labels are used for the measures only.

    python benchmarks/anomaly.py mammography.csv      in some minutes; writes benchmarks/RESULTS-anomaly.md
    python benchmarks/anomaly.py                      without the file: on sets that are made or that scikit-learn carries

mammography.csv: 11,183 rows without a header, six numbers and a label, '1' or '-1' in quotes; 260 rows are '1' (Woods et al.
1993). Both sides have their defaults, but for the seed, and are fitted on all rows without labels; the scores of the same
rows are measured against the labels. Everything runs on one thread.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import numpy as np
import sklearn
import torch
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import IsolationForest
from sklearn.metrics import average_precision_score, roc_auc_score

import konspekt
from konspekt import AnomalyDetector
from konspekt.core.errors import DataError
from konspekt.data.table_files import csv_errors

RESULTS = Path(__file__).parent / "RESULTS-anomaly.md"
SEEDS = range(5)
Data = tuple[np.ndarray, np.ndarray]


def mammography(path: Path) -> Data:
    """Features, and 1 for a microcalcification.

    Raises DataError where the file is not this data set.
    """
    import pandas as pd

    if not path.is_file():
        raise DataError(f"{path}: there is no such file; give the path of mammography.csv")
    with csv_errors(path):
        frame = pd.read_csv(path, header=None)
    labels = frame.iloc[:, -1].astype(str).str.strip("'")
    if frame.shape[1] != 7 or set(labels) != {"-1", "1"}:
        raise DataError(
            f"{path}: not mammography.csv: six numbers and a label, '-1' or '1', in each row, without a header"
        )
    return frame.iloc[:, :6].to_numpy(float), (labels == "1").to_numpy().astype(int)


def breast_cancer() -> Data:
    """All benign tumours and twenty malignant ones."""
    X, y = load_breast_cancer(return_X_y=True)
    some = np.random.default_rng(0).choice(np.flatnonzero(y == 0), 20, replace=False)
    rows = np.r_[np.flatnonzero(y == 1), some]
    return X[rows], (y[rows] == 0).astype(int)


def broken_relations(bent: bool) -> Data:
    """Ten columns that follow from three hidden numbers; in 100 of 2000 rows each value comes from a row of its own.

    Each column by itself is as it was: only what they say together is odd.
    """
    rng = np.random.default_rng(int(not bent))
    hidden, mixing = rng.normal(size=(2000, 3)), rng.normal(size=(3, 10))
    X = (np.tanh(hidden @ mixing) if bent else hidden @ mixing) + (0.1 if bent else 0.3) * rng.normal(size=(2000, 10))
    X[:100] = np.stack([rng.choice(column, size=100) for column in X.T], axis=1)
    return X, np.r_[np.ones(100, int), np.zeros(1900, int)]


def measured(make: Callable[[int], Any], data: Data) -> dict[str, list[float]]:
    """ROC-AUC, average precision and seconds of fitting and scoring, for each seed."""
    X, y = data
    found: dict[str, list[float]] = {"ROC-AUC": [], "average precision": [], "seconds": []}
    for seed in SEEDS:
        started = time.perf_counter()
        errors = -make(seed).fit(X).score_samples(X)
        found["seconds"].append(time.perf_counter() - started)
        found["ROC-AUC"].append(float(roc_auc_score(y, errors)))
        found["average precision"].append(float(average_precision_score(y, errors)))
    return found


def cells(found: dict[str, list[float]]) -> list[str]:
    """Mean and standard deviation over the seeds; of seconds, the median."""
    shown = [f"{statistics.mean(v):.3f} ± {statistics.stdev(v):.3f}" for k, v in found.items() if k != "seconds"]
    return [*shown, f"{statistics.median(found['seconds']):.2f}"]


def main() -> int:
    """Run the comparison; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mammography", nargs="?", type=Path, help="the path of mammography.csv")
    path = parser.parse_args().mammography
    torch.set_num_threads(1)
    try:
        sets = {"mammography": mammography(path)} if path else {}
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    sets |= {
        "breast-cancer, 20 malignant": breast_cancer(),
        "broken relations, bent": broken_relations(True),
        "broken relations, straight": broken_relations(False),
    }
    sides: dict[str, Callable[[int], Any]] = {
        "AnomalyDetector": lambda seed: AnomalyDetector(random_state=seed, device="cpu"),
        "IsolationForest": lambda seed: IsolationForest(random_state=seed),
    }
    load = os.getloadavg()[0]
    lines = [
        "| data | rows, columns, anomalies | detector | ROC-AUC | average precision | seconds |",
        "|---|---|---|---|---|---|",
    ]
    for name, data in sets.items():
        size = f"{len(data[0]):,}, {data[0].shape[1]}, {int(data[1].sum())}"
        for side, make in sides.items():
            row = [name, size, side, *cells(measured(make, data))]
            lines.append(f"| {' | '.join(row)} |")
            print(lines[-1], flush=True)
    if not path:
        return 0
    head = [
        "# Anomaly detection beside an isolation forest",
        "",
        f"Written by `python benchmarks/anomaly.py mammography.csv` on {datetime.date.today()}.",
        "",
        f"- machine: {os.cpu_count()} cores, one thread used; load average at the start {load:.2f}, so take the seconds with care",
        (
            f"- versions: Python {platform.python_version()}, torch {torch.__version__}, scikit-learn {sklearn.__version__}, "
            f"konspekt {konspekt.__version__}"
        ),
        (
            f"- {len(SEEDS)} seeds, mean and standard deviation; seconds of fitting and scoring, the median. Both with their defaults, "
            "fitted on all rows without labels, measured on the same rows."
        ),
        "",
    ]
    RESULTS.write_text("\n".join([*head, *lines]) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
