"""Q-learning with a table. Course: row R3 (document M, section 2.4)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from konspekt.core.params import AtLeast
from konspekt.core.registry import system
from konspekt.rl.tabular import TableAgent

__all__ = ["QLearning", "ReplayingTableAgent"]


@dataclass(kw_only=True, eq=False, repr=False)
class ReplayingTableAgent(TableAgent):
    """A table agent whose update asks no more than a transition, whatever policy made it, so that old ones serve again.

    replay: transitions drawn from those kept, after each step, that are learned from once more; 0: none (Lin 1992).
    buffer_size: transitions that are kept for it; the oldest go first.
    """

    replay: Annotated[int, AtLeast(0)] = 0
    buffer_size: Annotated[int, AtLeast(1)] = 10_000


@system(name="q-learning", kind="agent", task="acting", rows=("R3",), paper="Watkins 1989")
@dataclass(kw_only=True, eq=False, repr=False)
class QLearning(ReplayingTableAgent):
    """Q-learning: q(s, a) moves towards r + gamma max q(s', .), the worth of acting best from there on.

    The agent may try what it likes meanwhile: the table converges to that of the best policy, if everything is tried without end and
    lr_rule="visits" (Watkins and Dayan 1992).
    """

    kind: ClassVar[int] = 0
