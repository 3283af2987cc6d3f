"""Columns of `totals` (n, 5), in which a compiled environment writes what a step gave; the first is the return so far."""

from __future__ import annotations

__all__ = ["LATE", "OVER", "RETURN", "REWARD"]

REWARD = 1
OVER = 2  # 1: terminated
LATE = 3  # 1: truncated
RETURN = 4  # of the episode that ended in the step
