"""Several processes that train one net: what they add up, tell each other and agree on.

Each takes its part of every batch. Gradients, already multiplied by the number of their terms, lie in one buffer for each
player, so one sum over the processes, divided by the number of all terms, is the gradient of the whole batch: parts of
different sizes need no care, and neither does a player or an optimiser that asks several times. (DistributedDataParallel
would reduce in buckets while the backward pass goes on, which gains where the net is large and the network slow, but it
reduces means of parts, and only for a module's `forward`.)

The processes are started by others: `torchrun --nproc-per-node 2 -m konspekt fit ...` sets RANK, WORLD_SIZE and the
address where they meet. Process 0 writes.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from konspekt.core.errors import ConfigError, ResourceError

__all__ = ["LostProcess", "Team", "called_for", "is_lost", "joined", "lost_text", "own_device"]

_WAIT = timedelta(minutes=30)  # for a process that is alive and says nothing: another's evaluation may take long


class LostProcess(ResourceError):
    """Another process of the fit is gone."""


class Team:
    """The processes of a fit, of which this is one. Alone, every method hands back what it is given."""

    def __init__(self, rank: int = 0, size: int = 1, device: torch.device | None = None) -> None:
        self.rank, self.size = rank, size
        self.device = device or torch.device("cpu")

    @property
    def leads(self) -> bool:
        """Whether this process writes and speaks."""
        return self.rank == 0

    def add(self, values: Tensor) -> None:
        """Sum a tensor over the processes, in place.

        Raises LostProcess where one of them is gone.
        """
        if self.size > 1:
            with _told():
                dist.all_reduce(values)

    def spread(self, values: Tensor) -> None:
        """Make a tensor what it is in process 0, in place."""
        if self.size > 1:
            with _told():
                dist.broadcast(values, src=0)

    def tell(self, value: Any) -> Any:
        """A JSON value of process 0, in all of them."""
        return self.gather(value if self.leads else None)[0] if self.size > 1 else value

    def gather(self, value: Any) -> list[Any]:
        """The JSON value of each process, in their order."""
        if self.size == 1:
            return [value]
        text = torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8).to(self.device)
        with _told():
            lengths = [torch.zeros(1, dtype=torch.int64, device=self.device) for _ in range(self.size)]
            dist.all_gather(lengths, torch.tensor([len(text)], device=self.device))
            longest = max(int(n) for n in lengths)
            parts = [torch.zeros(longest, dtype=torch.uint8, device=self.device) for _ in range(self.size)]
            dist.all_gather(parts, torch.nn.functional.pad(text, (0, longest - len(text))))
        return [json.loads(p[: int(n)].cpu().numpy().tobytes()) for p, n in zip(parts, lengths, strict=True)]

    def wait(self) -> None:
        """Go on when all have come here."""
        if self.size > 1:
            self.gather(None)


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """Turn torch's error about a lost connection into a LostProcess."""
    try:
        yield
    except RuntimeError as error:  # DistBackendError and DistNetworkError are such
        raise LostProcess(lost_text(error)) from None


def is_lost(error: RuntimeError) -> bool:
    """Whether torch's error speaks of a connection."""
    signs = ("connection closed", "connection reset", "gloo", "nccl", "broken pipe", "socket")
    return isinstance(error, dist.DistError) or any(sign in str(error).lower() for sign in signs)


def lost_text(error: RuntimeError) -> str:
    """torch's error in a few words."""
    text = re.sub(r"\[[^\]]*\.(cc|cpp):\d+\] *", "", str(error).splitlines()[0])
    return f"another process of this fit is gone ({text.split('. ')[0][:120]})"


def called_for() -> bool:
    """Whether this process was started as one of several, by torchrun or a cluster."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def own_device(name: str) -> str:
    """The device of this process, where "auto" or "cuda" leaves it open: a GPU for each process of a machine."""
    local = os.environ.get("LOCAL_RANK")
    if called_for() and local is not None and name in ("auto", "cuda") and torch.cuda.is_available():
        count = torch.cuda.device_count()
        if int(local) >= count:
            raise ConfigError(
                f"process {local} of this machine has no GPU: there are {count}; start as many processes, or give device=cpu"
            )
        return f"cuda:{local}"
    return name


@contextlib.contextmanager
def joined(device: torch.device) -> Iterator[Team]:
    """Meet the other processes, if this is one of several; a group that the caller has made already is used.

    Raises ConfigError where the processes cannot meet.
    """
    if dist.is_available() and dist.is_initialized():
        yield Team(dist.get_rank(), dist.get_world_size(), device)
        return
    if not called_for():
        yield Team()
        return
    try:
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=_WAIT)
    except (RuntimeError, ValueError) as error:
        raise ConfigError(
            f"WORLD_SIZE={os.environ['WORLD_SIZE']} says that this is one process of several, but they cannot meet "
            f"({str(error).splitlines()[0][:160]}); start them by: torchrun --nproc-per-node N -m konspekt fit ..."
        ) from None
    try:
        team = Team(dist.get_rank(), dist.get_world_size(), device)
        yield team
        team.wait()  # nobody leaves while another still writes: what starts them would take an early end for a death
    finally:
        with contextlib.suppress(RuntimeError):  # a lost process has closed the connection already
            dist.destroy_process_group()
