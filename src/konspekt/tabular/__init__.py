"""Learning from tables."""

from konspekt.tabular.linear import LinearRegressor, LogisticClassifier
from konspekt.tabular.mlp import MLPClassifier, MLPRegressor

__all__ = ["LinearRegressor", "LogisticClassifier", "MLPClassifier", "MLPRegressor"]
