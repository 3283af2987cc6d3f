"""The surroundings of a fit: generators forked, algorithms deterministic, threads as recorded; all put back after."""

from __future__ import annotations

import contextlib
import random
import signal
import threading
import types
from collections.abc import Iterator

import numpy as np
import torch

from konspekt.core.errors import ConfigError
from konspekt.core.params import shown
from konspekt.engine.processes import own_device

__all__ = ["Interrupt", "caller_untouched", "choose_device", "surroundings"]


def choose_device(name: str) -> torch.device:
    """The device that "auto", "cpu", "cuda", "cuda:1" or "mps" names; "auto" takes a GPU where there is one.

    Raises ConfigError where there is no such device here.
    """
    name = own_device(name)
    apple = torch.backends.mps.is_available()
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "mps" if apple else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")
    if device.type not in ("cpu", "cuda", "mps"):
        raise ConfigError(f"device must be auto, cpu, cuda, cuda:N or mps, got {shown(name)}")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(f"device={name!r}: this machine has {torch.cuda.device_count()} CUDA devices; use 'cpu'")
    if device.type == "mps" and not apple:
        raise ConfigError("device='mps': this machine has no Apple GPU that torch can use; use 'cpu'")
    return device


@contextlib.contextmanager
def caller_untouched() -> Iterator[None]:
    """Python's and NumPy's global generators are as before afterwards, whatever an import or a user's callback draws."""
    python, numpy = random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


@contextlib.contextmanager
def surroundings(device: torch.device, seed: int, threads: int | None = None) -> Iterator[None]:
    """Within: torch's generators are seeded and the caller's untouched; CPU algorithms are deterministic.

    threads: the number that an earlier part of the run had; sums depend on it.
    """
    before = torch.are_deterministic_algorithms_enabled()
    warn = torch.is_deterministic_algorithms_warn_only_enabled()
    fill = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    count = torch.get_num_threads()
    own = [device.index or 0] if device.type != "cpu" else []
    with torch.random.fork_rng(devices=own, device_type="cuda" if device.type == "cpu" else device.type):
        torch.manual_seed(seed)
        if device.type == "cpu":
            torch.use_deterministic_algorithms(True)
            torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        if threads is not None and threads != count:
            torch.set_num_threads(threads)
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(before, warn_only=warn)
            torch.utils.deterministic.fill_uninitialized_memory = fill  # type: ignore[attr-defined]
            if threads is not None and threads != count:
                torch.set_num_threads(count)


class Interrupt:
    """Ctrl-C noted, not obeyed at once: the loop looks at `pressed` after each step. A second one has its usual effect.

    terminate: note SIGTERM too. torchrun sends it to the others when a process dies, and they have a checkpoint to write.
    """

    def __init__(self, *, terminate: bool = False) -> None:
        self.pressed = False
        self.by = "Ctrl-C"
        self._numbers = [signal.SIGINT, *([signal.SIGTERM] if terminate else [])]
        self._before: dict[int, signal._HANDLER] = {}

    def __enter__(self) -> Interrupt:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in self._numbers}
        return self

    def _note(self, number: int, frame: types.FrameType | None) -> None:
        self.pressed = True
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        else:
            self.by = "SIGTERM"

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            if handler is not None:
                signal.signal(number, handler)
