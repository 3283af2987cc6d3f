"""What a replay of stacked frames said it takes, and what the process took. Part of `rl.py`."""

from __future__ import annotations

from engine import Line
from large import child

__all__ = ["lines"]

LIMIT = 7.4e9  # 1 M frames of 84 x 84 are 7.06 GB; the rest is bookkeeping
ROOM = 8.5e9

FILLED = """
import json, sys, time
import numpy as np
from konspekt.core.memory import available_memory
from konspekt.rl.replay import Replay
from konspekt.rl.replay_memory import check_replay
from konspekt.rl.vector import Step
frames = int(sys.argv[1])
def taken():
    return next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith("VmRSS"))
rng = np.random.default_rng(0)
free = available_memory()
pictures = rng.integers(256, size=(64, 1, 84, 84), dtype=np.uint8)
before = taken()
said = check_replay((84, 84), np.uint8, frames)
replay = Replay((84, 84), np.uint8, frames, stack=4)
replay.begin(pictures[0])
reward, no, yes, action = np.ones(1), np.array([False]), np.array([True]), np.array([1])
start = time.perf_counter()
for k in range(1, frames + frames // 100):
    seen = pictures[k % 64]
    if k % 500:
        replay.add(action, Step(seen, reward, no, no, seen))
    else:  # an episode ends
        replay.add(action, Step(pictures[(k + 1) % 64], reward, yes, no, seen))
filled, start = time.perf_counter() - start, time.perf_counter()
for _ in range(200):
    rows = replay.draw(rng, 32)
    stacks, after = replay.seen(rows), replay.seen(replay.outcome(rows)[2])
    assert stacks.shape == after.shape == (32, 4, 84, 84)
drawn = (time.perf_counter() - start) / 200
print(json.dumps({"said": int(said.split(" takes ")[1].split(" bytes")[0].replace(",", "")), "taken": taken() - before,
                  "whole": taken(), "add": filled / k, "draw": drawn, "transitions": len(replay), "free": free}))
"""

PEER = """
import json
import numpy as np
from gymnasium import spaces
from stable_baselines3.common.buffers import ReplayBuffer
found = {}
for name, options in (("usual", {}), ("least", {"optimize_memory_usage": True, "handle_timeout_termination": False})):
    made = ReplayBuffer(1000, spaces.Box(0, 255, (4, 84, 84), np.uint8), spaces.Discrete(4), device="cpu", **options)
    found[name] = sum(a.nbytes for a in vars(made).values() if isinstance(a, np.ndarray)) / 1000
print(json.dumps(found))
"""


def lines(quick: bool) -> list[Line]:
    """1 M frames (a hundredth, where it should be quick), in a process of its own."""
    from rl_peer import missing

    from konspekt.core.memory import available_memory

    frames = 10_000 if quick else 1_000_000
    what = f"replay of {frames:,} frames of 84 x 84, stacked by four, filled"
    limit, bound = ("", None) if quick else ("7.4 GB, and what was said", LIMIT)
    free = available_memory()
    if not quick and free is not None and free < ROOM:
        return [
            Line(
                what,
                f"none: {free / 1e9:.1f} GB of memory are free, and {ROOM / 1e9:.1f} are wanted",
                limit,
                None,
                bound,
            )
        ]
    told = child(FILLED, frames)
    kept = told["taken"] <= 1.01 * told["said"] + 3e7  # what drawing takes for itself is no matter of the frames
    line = Line(what, f"{told['taken'] / 1e9:.3f} GB, said {told['said'] / 1e9:.3f} GB", limit, told["taken"], bound)
    if not kept and bound is not None:
        line.value = max(told["taken"], bound + 1)
        line.notes.append("the process took more than was said")
    line.notes += [
        f"the whole process holds {told['whole'] / 1e9:.3f} GB; {told['transitions']:,.0f} transitions",
        f"{told['add'] * 1e6:.1f} µs to add a step, {told['draw'] * 1e3:.2f} ms to draw 32 transitions, both stacks of each made",
    ]
    if missing() is None:
        theirs = child(PEER)
        line.notes.append(
            f"Stable-Baselines3's buffer of as many stacks has {theirs['usual'] * frames / 1e9:.1f} GB of arrays, "
            f"{theirs['least'] * frames / 1e9:.1f} GB with optimize_memory_usage (reckoned from one of 1,000)"
        )
    return [line]
