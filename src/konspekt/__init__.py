"""A deep-learning course as one working library. Names are imported when they are first used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from konspekt.core.estimator import load as load
    from konspekt.reports.page import report as report

__version__ = "0.1.0"

_HOMES = {
    "load": "konspekt.core.estimator",
    "report": "konspekt.reports.page",
    "A2C": "konspekt.rl.a2c",
    "AgglomerativeClustering": "konspekt.cluster.agglomerative",
    "AnomalyDetector": "konspekt.tabular.anomaly",
    "CrossEntropyMethod": "konspekt.rl.cross_entropy",
    "CrossEntropyNet": "konspekt.rl.cross_entropy_net",
    "CrossEntropySearch": "konspekt.rl.cross_entropy_search",
    "DBSCAN": "konspekt.cluster.dbscan",
    "DQN": "konspekt.rl.dqn",
    "DivisiveClustering": "konspekt.cluster.divisive",
    "DoubleQLearning": "konspekt.rl.double_q",
    "ExpectedSARSA": "konspekt.rl.sarsa",
    "FeatureExtractor": "konspekt.vision.features",
    "GaussianMixture": "konspekt.cluster.gaussian_mixture",
    "GraphClustering": "konspekt.cluster.radius_graph",
    "ImageClassifier": "konspekt.vision.classifier",
    "ImageRegressor": "konspekt.vision.regressor",
    "KMeans": "konspekt.cluster.kmeans",
    "KMedians": "konspekt.cluster.kmedians",
    "LinearRegressor": "konspekt.tabular.linear",
    "LogisticClassifier": "konspekt.tabular.linear",
    "MLPClassifier": "konspekt.tabular.mlp",
    "MLPRegressor": "konspekt.tabular.mlp",
    "MeanShift": "konspekt.cluster.mean_shift",
    "ObjectLocalizer": "konspekt.vision.localizer",
    "Planner": "konspekt.rl.planner",
    "QLearning": "konspekt.rl.q_learning",
    "Reinforce": "konspekt.rl.reinforce",
    "SARSA": "konspekt.rl.sarsa",
    "SpectralClustering": "konspekt.cluster.spectral",
}
_PACKAGES = (
    "cluster",
    "core",
    "data",
    "engine",
    "explain",
    "metrics",
    "nn",
    "optim",
    "reports",
    "rl",
    "tabular",
    "testing",
    "vision",
)

__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    if name in _PACKAGES:
        return importlib.import_module(f"konspekt.{name}")
    raise AttributeError(f"module 'konspekt' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, *_PACKAGES])
