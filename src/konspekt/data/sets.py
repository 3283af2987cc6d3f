"""Data sets by name: small ones that scikit-learn carries; `downloads` brings the larger ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from konspekt.core.errors import ConfigError, nearest

__all__ = ["SETS", "DataSet", "load"]

SETS = ("breast-cancer", "diabetes", "digits", "iris", "wine")


@dataclass(frozen=True)
class DataSet:
    """A data set. X: a DataFrame, or for images an array (N, H, W) or (N, C, H, W). y: labels or numbers (N,).

    test: the part that its makers keep for the test, None where there is none.
    """

    name: str
    X: Any
    y: Any
    task: str
    test: DataSet | None = None

    def for_task(self, task: str | None) -> tuple[Any, Any]:
        """X and y as a system of this task takes them: for tables, images become rows of pixels."""
        if self.task == "image-classification" and (task or "").startswith(("tabular", "anomaly", "clustering")):
            import pandas as pd

            flat = self.X.reshape(len(self.X), -1)
            return pd.DataFrame(flat, columns=[f"pixel {i}" for i in range(flat.shape[1])]), self.y
        return self.X, self.y


def load(name: str) -> DataSet:
    """Bring a data set that scikit-learn carries: digits (8x8 images), iris, wine, breast-cancer, diabetes.

    Labels are the names of the classes where the set has such.

    Raises ConfigError on an unknown name.
    """
    from sklearn import datasets

    if name not in SETS:
        from konspekt.data.downloads import FETCHED

        if name in FETCHED:
            raise ConfigError(f"{name} is not carried along: konspekt.data.fetch({name!r}) downloads it")
        raise ConfigError(f"there is no data set {name!r}; {nearest(name, SETS)}")
    if name == "digits":
        images, digits = datasets.load_digits(return_X_y=True)
        pixels = (images.reshape(-1, 8, 8) * (255 / 16)).round().astype("uint8")
        return DataSet(name, pixels, digits, "image-classification")
    bunch = getattr(datasets, f"load_{name.replace('-', '_')}")(as_frame=True)
    if name == "diabetes":
        return DataSet(name, bunch.data, bunch.target, "tabular-regression")
    return DataSet(name, bunch.data, bunch.target_names[bunch.target.to_numpy()], "tabular-classification")
