"""What can go wrong, as a tree. Every message says what is wrong, where, and what to do.

    KonspektError
    ├── DataError (ValueError)           the data: a file, a row, a column, a label
    ├── ConfigError (ValueError)         a parameter, a name, a combination of them
    ├── ResourceError (ValueError)       the disk, the memory, a folder that another process holds
    └── DivergedError (ArithmeticError)  a loss or a gradient that is not finite

    InterruptedFit (KeyboardInterrupt)   Ctrl-C during a fit, after its checkpoint is written; no `except Exception`
                                         on the way, as in a grid search, may take it for a failure

An estimator that is used before `fit` raises scikit-learn's own `NotFittedError`.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

__all__ = ["ConfigError", "DataError", "DivergedError", "InterruptedFit", "KonspektError", "ResourceError", "nearest"]


class KonspektError(Exception):
    """The root: catch it to catch every failure that the package foresees."""


class DataError(KonspektError, ValueError):
    """The data cannot be used as they are."""


class ConfigError(KonspektError, ValueError):
    """A parameter or a name is not one that can be used."""


class ResourceError(KonspektError, ValueError):
    """The machine refuses: disk, memory, permissions, a lock."""


class DivergedError(KonspektError, ArithmeticError):
    """A loss or a gradient was not finite. The weights are those of the step before."""


class InterruptedFit(KeyboardInterrupt):
    """The user pressed Ctrl-C; what was learned is in the last checkpoint, if the fit had a run folder."""


def nearest(name: str, names: Iterable[str]) -> str:
    """The clause that suggests what `name` may have meant: "did you mean 'adam'?", or the whole list if it is short."""
    known = sorted(names)
    close = get_close_matches(name.lower(), known, n=1, cutoff=0.6)
    if close:
        return f"did you mean {close[0]!r}?"
    if len(known) <= 12:
        return f"known: {', '.join(known)}"
    return f"there are {len(known)}; see `konspekt list`"
