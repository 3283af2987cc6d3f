"""Double Q-learning with two tables. Course: rows R3, R4 (document M, section 2.4)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from konspekt.core.registry import system
from konspekt.rl.q_learning import ReplayingTableAgent

__all__ = ["DoubleQLearning"]


@system(name="double-q-learning", kind="agent", task="acting", rows=("R3", "R4"), paper="van Hasselt 2010")
@dataclass(kw_only=True, eq=False, repr=False)
class DoubleQLearning(ReplayingTableAgent):
    """Double Q-learning: one table, drawn at each update, says which action is best in s', the other what it is worth.

    The maximum of noisy values is too large on average; two tables with different noise do not make that mistake, and may
    err downwards instead. The agent acts on the mean of both.
    """

    tables: ClassVar[int] = 2
    kind: ClassVar[int] = 3
