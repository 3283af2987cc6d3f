"""Learning from tables."""

from konspekt.tabular.anomaly import AnomalyDetector
from konspekt.tabular.linear import LinearRegressor, LogisticClassifier
from konspekt.tabular.mlp import MLPClassifier, MLPRegressor

__all__ = ["AnomalyDetector", "LinearRegressor", "LogisticClassifier", "MLPClassifier", "MLPRegressor"]
