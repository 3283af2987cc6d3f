"""Optimisers, as builders that take torch parameter groups and a step."""

from konspekt.optim.bounded import lbfgsb
from konspekt.optim.evolution import evolution
from konspekt.optim.first_order import (
    GradientDescent,
    adadelta,
    adagrad,
    adam,
    adamw,
    descent,
    momentum,
    nesterov,
    rmsprop,
    sgd,
)
from konspekt.optim.natural import natural_gradient
from konspekt.optim.quasi_newton import bfgs, lbfgs
from konspekt.optim.second_order import newton
from konspekt.optim.vector import VectorOptimizer

__all__ = [
    "GradientDescent",
    "VectorOptimizer",
    "adadelta",
    "adagrad",
    "adam",
    "adamw",
    "bfgs",
    "descent",
    "evolution",
    "lbfgs",
    "lbfgsb",
    "momentum",
    "natural_gradient",
    "nesterov",
    "newton",
    "rmsprop",
    "sgd",
]
