"""What the contract checks are made of: the error, fits that are killed, the weights of a folder."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from konspekt.core import folders

__all__ = ["ContractError", "killed", "require", "weights_in"]


class ContractError(AssertionError):
    """A registered system breaks the contract."""


def require(holds: bool, message: str) -> None:
    """Raise ContractError unless `holds`."""
    if not holds:
        raise ContractError(message)


def weights_in(folder: Path) -> bytes:
    """The learned tensors of a model folder."""
    return (folder / "weights.safetensors").read_bytes()


def killed(fit: Callable[[], Any], writes: int | None) -> None:
    """Run a fit in a forked process that must die by SIGKILL: by itself, or at the `writes`-th flush."""
    child = os.fork()
    if child == 0:
        try:
            if writes is not None:
                _kill_at_flush(writes)
            fit()
        finally:
            os._exit(3)  # the parent's pytest must not go on in the child
    _, status = os.waitpid(child, 0)
    died = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    require(died, "the fit that was to be killed ended by itself")


def _kill_at_flush(writes: int) -> None:
    flush, count = folders.flush, 0

    def deadly(path: Path) -> None:
        nonlocal count
        count += 1
        if count == writes:
            os.kill(os.getpid(), signal.SIGKILL)
        flush(path)

    folders.flush = deadly
