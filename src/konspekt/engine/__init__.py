"""The one training loop, what it minimises, and the base class of the estimators that use it."""

from konspekt.engine.loop import Moment, minimise
from konspekt.engine.neural import NeuralClassifier, NeuralEstimator, NeuralRegressor, Splits
from konspekt.engine.objective import Objective
from konspekt.engine.training import Training

__all__ = [
    "Moment",
    "NeuralClassifier",
    "NeuralEstimator",
    "NeuralRegressor",
    "Objective",
    "Splits",
    "Training",
    "minimise",
]
