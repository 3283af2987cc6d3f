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

__all__ = ["Interrupt", "caller_untouched", "choose_device", "surroundings"]


def choose_device(name: str) -> torch.device:
    """The device that "auto", "cpu", "cuda" or "cuda:1" names.

    Raises ConfigError where there is no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError(f"device must be auto, cpu, cuda or cuda:N, got {name!r}") from None
    if device.type not in ("cpu", "cuda"):
        raise ConfigError(f"device must be auto, cpu, cuda or cuda:N, got {name!r}")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(f"device={name!r}: this machine has {torch.cuda.device_count()} CUDA devices; use 'cpu'")
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
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
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
    """Ctrl-C noted, not obeyed at once: the loop looks at `pressed` after each step. A second one has its usual effect."""

    def __init__(self) -> None:
        self.pressed = False
        self._before: signal._HANDLER = None

    def __enter__(self) -> Interrupt:
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._note)
        return self

    def _note(self, number: int, frame: types.FrameType | None) -> None:
        self.pressed = True
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def __exit__(self, *error: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)
