"""What every learner is: contract, registry, parameters, spaces, errors, seeds, model and run folders."""

from konspekt.core.errors import ConfigError, DataError, DivergedError, InterruptedFit, KonspektError, ResourceError
from konspekt.core.registry import entries, lookup, system
from konspekt.core.space import Category, Integer, Real, Space

__all__ = [
    "Category",
    "ConfigError",
    "DataError",
    "DivergedError",
    "Integer",
    "InterruptedFit",
    "KonspektError",
    "Real",
    "ResourceError",
    "Space",
    "entries",
    "lookup",
    "system",
]
