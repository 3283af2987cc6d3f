"""Acting: agents beside Stable-Baselines3's and beside what a training cannot do without; tables; the memory of a replay.

python benchmarks/rl.py                     everything, some twenty-five minutes; writes RL.md
python benchmarks/rl.py --only a2c dqn      some parts, on the page beside what it held of the others
python benchmarks/rl.py --quick             few short turns, nothing large; prints, writes nothing

pip install -e ".[rl,bench]" brings the peer. What does not import is named with its error, and what needs it is left out. One thread.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # as the command line has it; it counts from OpenMP's start on

import rl_memory
import rl_pixels
import rl_speed
import rl_tables
import torch
from engine import Line, say
from result_page import Page, arguments
from rl_peer import missing, version_line

HEADS = {
    "a2c": "A2C on CartPole-v1: environment steps a second of training.",
    "dqn": "DQN on CartPole-v1: environment steps a second of training.",
    "returns": "What both sides' agents get after equal steps, in 100 greedy episodes of gymnasium's own CartPole-v1.",
    "pixels": "DQN with the net of the Nature paper on four stacked frames of 84 x 84.",
    "tables": "Tables: Q-learning, and planning.",
    "replay": "A replay of stacked frames, filled.",
}
NEEDS_PEER = ("a2c", "dqn", "returns", "pixels")
TOP = (
    "# Acting: results of the benchmark\n\nWritten by `make acting-bench` (`python benchmarks/rl.py`); each part says when and where. "
    "Both sides have the same net, batch, updates a step, optimiser, clipping and discount. A ratio is that of the medians, Stable-Baselines3's "
    "seconds over ours, and in brackets the least and the largest of a turn; the sides take turns, and the first turn, in which kernels are compiled, is not counted. Of ours the whole `fit` counts; of the "
    "peer `learn` alone, on a vector of environments without its Monitor, which is the fastest form that was found. A floor is a loop by "
    "hand that does one thing only, with its weights in one tensor."
)


def main() -> int:
    given = arguments(__doc__, HEADS, "few short turns, nothing large")
    torch.set_num_threads(1)  # two threads on small nets are slower, and far slower where other work runs
    absent, quick = missing(), given.quick
    jobs: dict[str, Callable[[], list[Line]]] = {
        "a2c": lambda: rl_speed.a2c_lines(quick),
        "dqn": lambda: rl_speed.dqn_lines(quick),
        "returns": lambda: rl_speed.return_lines(quick),
        "pixels": lambda: rl_pixels.lines(quick),
        "tables": lambda: rl_tables.lines(quick),
        "replay": lambda: rl_memory.lines(quick),
    }
    page, met = Page(Path(__file__).parent / "RL.md", TOP, HEADS), True
    for name, job in jobs.items():
        if name not in given.only:
            continue
        if absent is not None and name in NEEDS_PEER:
            say(f"{name}: left out: {absent}")
            met = False
            continue
        met &= page.measure(name, job, how=", one thread", facts=(version_line(),))
    if not quick and page.parts:
        page.write()
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
