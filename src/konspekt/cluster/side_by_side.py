"""What a comparison of clusterings found, and its files. Course: rows J5, J6 (document I, section 39)."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from konspekt.cluster.pictures import in_the_plane
from konspekt.core.comparisons import write_comparison
from konspekt.core.folders import json_bytes

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Comparison"]


@dataclass(frozen=True)
class Comparison:
    """What `compare` found.

    rows: a dict for each method: method, clusters, noise (a share), seconds (of one fit), the indices by their names (None where
    one is not defined), stability (of subsamples), seeds (stability over seeds; None where a method has none), parameters,
    rule (how they were chosen), problem (why there is no clustering, or what the method warned of).
    indices: the names of the internal and of the external indices.
    labels: method -> (N,) labels, of those that did not fail.
    points (N, F), columns, truth (N,) or None: what was clustered.
    total: how many points were given.
    settings: the arguments of `compare`.
    notes: what a reader must know, in sentences.
    source: the name of the data.
    """

    rows: list[dict[str, Any]]
    indices: dict[str, list[str]]
    labels: dict[str, NDArray[np.int64]] = field(repr=False)
    points: NDArray[Any] = field(repr=False)
    columns: list[str] = field(repr=False)
    truth: NDArray[Any] | None = field(repr=False)
    total: int
    settings: dict[str, Any]
    notes: tuple[str, ...]
    source: str

    def frame(self) -> pd.DataFrame:
        """The rows as a table."""
        import pandas as pd

        return pd.DataFrame(self.rows)

    def save(self, folder: str | Path) -> Path:
        """Write comparison.json, comparison.csv and comparison.npz, of which `konspekt.reports.compared` makes a page.

        folder: is made; one that is there must be empty, or hold an earlier comparison, which is replaced.

        Raises ConfigError on another folder, ResourceError where the disk refuses.
        """
        plane, axes, _ = in_the_plane(self.points, self.columns)
        arrays: dict[str, NDArray[Any]] = {"points": plane, "axes": np.array(axes)}
        arrays |= {
            f"labels-{i}": self.labels[row["method"]] for i, row in enumerate(self.rows) if row["method"] in self.labels
        }
        if self.truth is not None:
            arrays["truth"] = self.truth.astype(str)
        packed = io.BytesIO()
        np.savez_compressed(packed, **arrays)  # type: ignore[arg-type]
        said = {
            "source": self.source,
            "rows": self.rows,
            "indices": self.indices,
            "points": len(self.points),
            "total": self.total,
            "columns": self.columns,
            "settings": self.settings,
            "notes": list(self.notes),
        }
        files = {
            "comparison.npz": packed.getvalue(),
            "comparison.csv": self.frame().to_csv(index=False).encode(),
            "comparison.json": json_bytes(said),
        }
        return write_comparison(folder, files)
