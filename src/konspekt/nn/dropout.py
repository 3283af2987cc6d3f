"""Inverted dropout. Course: row A8 (document I, section 18; H, 1.1.17).

Srivastava et al. 2014, https://jmlr.org/papers/v15/srivastava14a.html.
"""

from __future__ import annotations

from typing import Annotated

from torch import nn

from konspekt.core.params import AtLeast, LessThan
from konspekt.core.registry import system

__all__ = ["dropout"]


@system(name="dropout", kind="layer", rows=("A8",), paper="https://jmlr.org/papers/v15/srivastava14a.html")
def dropout(*, p: Annotated[float, AtLeast(0), LessThan(1)] = 0.5) -> nn.Module:
    """In training drop each number with probability p and scale the rest by 1 / (1 - p); in evaluation do nothing.

    (...) -> (...). The notes use p for both dropping and keeping; here it always drops. At p = 0.3 the rest grows by
    1 / 0.7, i.e. 43 % (the notes say 30 %), which keeps the expectation.

    p: the probability of dropping.
    """
    return nn.Dropout(p)
