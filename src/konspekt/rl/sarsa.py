"""SARSA and expected SARSA with a table. Course: row R3 (document M, section 2.4, EV-SARSA)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from konspekt.core.registry import system
from konspekt.rl.q_learning import ReplayingTableAgent
from konspekt.rl.tabular import TableAgent

__all__ = ["SARSA", "ExpectedSARSA"]


@system(name="expected-sarsa", kind="agent", task="acting", rows=("R3",), paper="van Seijen et al. 2009")
@dataclass(kw_only=True, eq=False, repr=False)
class ExpectedSARSA(ReplayingTableAgent):
    """Expected SARSA (EV-SARSA): q(s, a) moves towards r + gamma times the mean of q(s', .) under the agent's own policy.

    It learns what its policy is worth, exploring included, so near a cliff it keeps away from the edge; SARSA does
    so too, and its draw of the next action is noise that is missing here.
    """

    kind: ClassVar[int] = 1


@system(name="sarsa", kind="agent", task="acting", rows=("R3",), paper="Rummery and Niranjan 1994")
@dataclass(kw_only=True, eq=False, repr=False)
class SARSA(TableAgent):
    """SARSA: q(s, a) moves towards r + gamma q(s', a'), where a' is the action that is taken next.

    It learns what its own policy is worth, so it has no replay: an old a' was the choice of an older policy.
    """

    kind: ClassVar[int] = 2
