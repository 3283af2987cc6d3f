"""Optimisers, as builders that take torch parameter groups and a step."""

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

__all__ = [
    "GradientDescent",
    "adadelta",
    "adagrad",
    "adam",
    "adamw",
    "descent",
    "momentum",
    "nesterov",
    "rmsprop",
    "sgd",
]
