"""What the rows share: forked processes, the report of a row, a run to spoil."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["Row", "fork", "scratch", "status_of"]


def scratch() -> tempfile.TemporaryDirectory[str]:
    """A folder for the runs of a row, in memory where the system has such a place."""
    shared = Path("/dev/shm")  # noqa: S108, what stands in it has a name that nobody knows
    return tempfile.TemporaryDirectory(dir=shared if shared.is_dir() else None)


@dataclass
class Row:
    """A line of the table."""

    what: str
    command: str
    trials: int
    result: str
    seconds: float
    good: bool
    notes: list[str] = field(default_factory=list)


def fork(work: Callable[[], object], *, quiet: bool = True) -> int:
    """A process of its own group that does `work` and ends with the code of its SystemExit, or 3. Gives its id."""
    sys.stdout.flush()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child:
        return child
    code: object = 3
    try:
        os.setpgid(0, 0)
        if quiet:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, 1)
        work()
        code = 0
    except SystemExit as stop:
        code = stop.code
    except BaseException as error:  # noqa: BLE001, the parent's program must not go on in the child
        os.write(2, f"{type(error).__name__}: {error}\n".encode(errors="replace"))
    finally:
        os._exit(code if isinstance(code, int) else 3)


def status_of(child: int, seconds: float = 120.0) -> int | None:
    """The exit code of a child (negative: the signal that ended it); None where it had to be killed after `seconds`."""
    end = time.monotonic() + seconds
    pause = 0.001
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(pause)
        pause = min(0.05, pause * 1.5)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None
