"""What a fit will take: time and memory, forecast from its first three steps and set beside what it took in the end.

Time: the data, the steps at the pace of the second and third, an evaluation after each epoch, and what follows the last
step. Memory: the peak above the level at the fit's start, as seen after three steps, and the copies that come later; on a
GPU as torch's allocator counts it, otherwise as the operating system counts the process.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from konspekt.data.batches import Batches
from konspekt.engine import checkpoint

if TYPE_CHECKING:
    from konspekt.engine.loop import Loop

__all__ = ["STEPS", "Level", "Rehearsal", "Watch"]

STEPS = 3


class Level:
    """The memory that this process held when the fit began, in bytes."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
            self.start = torch.cuda.memory_allocated(device)
        else:
            with contextlib.suppress(OSError):  # elsewhere than on Linux the peak is that of the whole process
                Path("/proc/self/clear_refs").write_text("5")
            self.start = _resident("VmRSS")

    def peak(self) -> int:
        """The most that was held since then, above it."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device) - self.start
        return max(_resident("VmHWM") - self.start, 0)


def _resident(which: str) -> int:
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(which):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@dataclass
class Rehearsal:
    """A fit that takes three steps of each stage only. stages: the forecast of each."""

    steps: int = STEPS
    stages: list[dict[str, Any]] = field(default_factory=list)


class Watch:
    """Times the first steps of a stage."""

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.times: list[float] = []
        self.looks = True
        self.activations = 0

    def stepped(self, now: float) -> None:
        """Note that a step has ended; after the third, the forecast is made."""
        self.times.append(now)
        if len(self.times) == STEPS:
            self.looks = False
            run = self.loop.run
            if run.rehearsal is None and (run.path is not None or self.loop.training.verbose):
                run.forecasts[self.loop.stage] = self.forecast()

    @contextlib.contextmanager
    def counting(self) -> Iterator[None]:
        """Within: the bytes that the forward pass leaves for the backward pass are counted."""
        weights = {p.untyped_storage().data_ptr() for p in self.loop.objective.parameters()}
        seen: dict[int, int] = {}

        def pack(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in weights:
                seen[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            yield
        self.activations = sum(seen.values())

    @torch.no_grad()
    def forward_seconds(self, source: Batches) -> float:
        """Seconds that the prediction of one batch takes; the second of two, as the first also warms up."""
        loop = self.loop
        random = checkpoint.random_state(loop.device)
        mode = loop.objective.training
        loop.objective.eval()
        batch = source.sample()
        begun = 0.0
        for _ in range(2):
            begun = time.perf_counter()
            loop.objective(batch)
            if loop.device.type == "cuda":
                torch.cuda.synchronize(loop.device)
        seconds = time.perf_counter() - begun
        loop.objective.train(mode)
        checkpoint.set_random_state(random, loop.device)
        return seconds

    def forecast(self) -> dict[str, Any]:
        """Seconds and bytes that this stage will take, and their parts."""
        loop, training = self.loop, self.loop.training
        gaps = [b - a for a, b in zip(self.times, self.times[1:], strict=False)] or [self.times[0] - loop.began]
        pace = min(gaps)
        steps = loop.per_epoch * training.epochs
        passes = training.epochs if loop.validation is not None else 0
        one_pass = 0.0
        if loop.validation is not None or loop.run.path is not None:
            source = loop.validation or loop.batches
            one_pass = self.forward_seconds(source) * source.num_batches
        weights = sum(p.numel() * p.element_size() for p in loop.objective.parameters())
        optimizers = sum(
            t.nbytes
            for player in loop.players.values()
            for state in player.optimizer.state.values()
            for t in state.values()
            if isinstance(t, Tensor)
        )
        parts = {
            "weights": weights,
            "gradients": sum(p.flat.weights.nbytes for p in loop.players.values()),
            "optimizer": optimizers,
            "averages": (weights if loop.average is not None else 0) + (weights if training.patience else 0),
            "data": _held(loop.batches) + (_held(loop.validation) if loop.validation is not None else 0),
            "activations": self.activations,
        }
        copies = parts["averages"] + weights + (optimizers if loop.run.checkpoints is not None else 0)
        level = loop.run.level
        after = (3 if loop.run.path is not None else 0) * one_pass
        seconds = self.times[-1] - loop.began + (steps - len(self.times)) * pace + passes * one_pass
        if training.max_time is not None:
            seconds = min(seconds, max(training.max_time - (loop.began - loop.run.began) - after, 0.0))
        return {
            "steps": steps,
            "step_seconds": pace,
            "evaluation_seconds": one_pass,
            "seconds": seconds,
            "after": after,
            "memory": max(level.peak() if isinstance(level, Level) else 0, sum(parts.values())) + copies,
            "parts": {name: size for name, size in parts.items() if size},
        }


def _held(source: Batches) -> int:
    """Bytes of the fields that a source keeps in memory."""
    fields = getattr(source, "fields", {})
    return sum(f.nbytes if isinstance(f, Tensor) else f.values.nbytes + f.offsets.nbytes for f in fields.values())
