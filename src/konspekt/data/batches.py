"""Batches of data that fit in memory: one tensor a field on the device, and a batch is an index.

The order is drawn from (seed, epoch), so a run that is resumed in mid-epoch sees the batches it would have seen.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor

from konspekt.core.errors import ConfigError, DataError
from konspekt.core.seeds import generator
from konspekt.data.fields import Batch, Collate, Field, Ragged

__all__ = ["Batches", "Resident", "Transform", "mark_of", "mark_of_parts"]

Transform = Callable[[Batch, int], Batch]
_BUCKETS = 50  # batches whose items are sorted together: enough to be of similar length, few enough to stay random


class Batches(Protocol):
    """Where the loop gets its batches: from `data`, or from an agent's environment."""

    @property
    def num_items(self) -> int:
        """How many items an epoch has."""

    @property
    def num_batches(self) -> int:
        """How many batches an epoch has; schedules count by it."""

    def epoch(self, epoch: int) -> Iterator[Batch]:
        """The batches of one epoch, from where `load_state` put it."""

    def collate_as(self, how: Mapping[str, Collate]) -> None:
        """Hand over ragged fields as an objective's `collate` says."""

    def sample(self) -> Batch:
        """A batch as large as most, without the transform, for a look; the place in the epoch stays."""

    def share(self, rank: int, size: int) -> None:
        """Be one of several processes: from now on each batch is this one's part of it, which may be empty."""

    def facts(self) -> dict[str, float]:
        """What the record of the epoch that has just ended says of its batches, asked once after each."""

    def state(self) -> dict[str, Any]:
        """Tensors and JSON that say where in the epoch this is."""

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""


class Resident:
    """Batches out of fields that lie in memory.

    fields: name -> tensor (N, ...) or Ragged of N.
    items: (M,) int64, which of them belong to this split; None: all. Batches carry these numbers as "index".
    batch_size: items a batch; None: all in one. A last batch of one item joins the batch before it, because batch
        statistics of one item do not exist.
    shuffle: a new order each epoch.
    seed: with the epoch, it decides the order.
    collate: for ragged fields, "pad" (the field padded, and NAME_mask) or "ragged".
    by_length: a ragged field; batches then hold items of similar length.
    transform: called with (batch, epoch) on each batch; augmentation.

    Raises DataError where the fields disagree in length or are empty.
    """

    def __init__(
        self,
        fields: Mapping[str, Field],
        *,
        items: Tensor | None = None,
        batch_size: int | None = None,
        shuffle: bool = False,
        seed: int = 0,
        collate: Mapping[str, Collate] | None = None,
        by_length: str | None = None,
        transform: Transform | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        sizes = {name: len(field) for name, field in fields.items()}
        if len(set(sizes.values())) > 1:
            raise DataError(f"the fields must have as many items each, got {sizes}")
        if "index" in fields:
            raise ConfigError("a field may not be named 'index': every batch has one of that name")
        self.fields = {name: field.to(device) for name, field in fields.items()}
        total = next(iter(sizes.values()), 0)
        self.items = torch.arange(total) if items is None else items
        if not len(self.items):
            raise DataError("there are no items")
        self.batch_size = batch_size or len(self.items)
        self.shuffle, self.seed = shuffle, seed
        self.collate, self.transform = dict(collate or {}), transform
        for name, field in self.fields.items():
            if isinstance(field, Ragged):
                self.collate.setdefault(name, "pad")
        if by_length is not None and not isinstance(self.fields.get(by_length), Ragged):
            raise ConfigError(f"by_length must name a ragged field, got {by_length!r}")
        self.by_length = by_length
        self.device = torch.device(device)
        self._epoch, self._position = 0, 0
        self._skip = False
        self._rank, self._size = 0, 1
        self._dense = type(self) is Resident and not any(isinstance(f, Ragged) for f in self.fields.values())

    @property
    def num_items(self) -> int:
        """How many items an epoch has."""
        return len(self.items)

    @property
    def num_batches(self) -> int:
        """How many batches an epoch has."""
        return len(_sizes(self.num_items, self.batch_size))

    def order(self, epoch: int) -> list[Tensor]:
        """The item numbers of each batch of an epoch."""
        items = self.items
        if self.shuffle:
            items = items[torch.randperm(len(items), generator=generator(self.seed, epoch))]
        if self.by_length is None:
            return list(items.to(self.device).split(_sizes(len(items), self.batch_size)))
        ragged = self.fields[self.by_length]
        lengths = ragged.lengths.cpu() if isinstance(ragged, Ragged) else torch.zeros(0)
        near = [b[lengths[b].argsort(stable=True)] for b in items.split(self.batch_size * _BUCKETS)]
        batches = list(torch.cat(near).to(self.device).split(_sizes(len(items), self.batch_size)))
        if self.shuffle:
            mixed = torch.randperm(len(batches), generator=generator(self.seed, epoch, 1)).tolist()
            batches = [batches[i] for i in mixed]
        return batches

    def take(self, index: Tensor) -> Batch:
        """One batch of these items (B,), as the objective gets it, without the transform."""
        if self._dense:  # the usual case in as few calls as can be: a step of a small net takes 0.3 ms
            batch: Batch = {"index": index}
            for name, field in self.fields.items():
                batch[name] = field.index_select(0, index)  # type: ignore[union-attr]
            return batch
        return self._collated(index, self.raw(index))

    def raw(self, index: Tensor) -> dict[str, Field]:
        """The fields of these items (B,), as they are kept."""
        return {n: f.take(index) if isinstance(f, Ragged) else f.index_select(0, index) for n, f in self.fields.items()}

    def _collated(self, index: Tensor, fields: Mapping[str, Field]) -> Batch:
        batch: Batch = {"index": index}
        for name, field in fields.items():
            if isinstance(field, Ragged) and self.collate[name] == "pad":
                batch[name], batch[f"{name}_mask"] = field.padded()
            else:
                batch[name] = field
        return batch

    def taken(self, indices: Iterable[Tensor]) -> Iterator[Batch]:
        """One batch after the other, as `take` gives them."""
        return map(self.take, indices)

    def epoch(self, epoch: int) -> Iterator[Batch]:
        """The batches of one epoch, from where `load_state` put it."""
        start = self._position if self._skip and epoch == self._epoch else 0
        self._epoch, self._position, self._skip = epoch, start, False
        indices = self.order(epoch)[start:]
        if self._size > 1:
            indices = [index.tensor_split(self._size)[self._rank] for index in indices]
        for batch in self.taken(indices):
            if self.transform is not None and len(batch["index"]):
                batch = self.transform(batch, epoch)
            self._position += 1
            yield batch

    def sample(self) -> Batch:
        """A batch as large as most, without the transform, for a look; the place in the epoch stays."""
        return self.take(self.items[: self.batch_size].to(self.device))

    def share(self, rank: int, size: int) -> None:
        """Be one of several processes: from now on each batch is this one's part of it, which may be empty."""
        self._rank, self._size = rank, size

    def fewest(self) -> int:
        """The fewest items that a process gets of a batch, of those that get any."""
        return min(max(1, size // self._size) for size in _sizes(self.num_items, self.batch_size))

    def marks(self) -> dict[str, bytes]:
        """For each field, the SHA-256 of its values over all items, used or not."""
        found = {}
        for name, field in self.fields.items():
            if isinstance(field, Ragged):
                both = mark_of(name, field.values) + mark_of(name, field.offsets)
                found[name] = hashlib.sha256(both).digest()
            else:
                found[name] = mark_of(name, field)
        return found

    def collate_as(self, how: Mapping[str, Collate]) -> None:
        """Hand over ragged fields as an objective's `collate` says."""
        self.collate.update(how)

    def facts(self) -> dict[str, float]:
        """Nothing: the items are the same in each epoch."""
        return {}

    def state(self) -> dict[str, Any]:
        """Epoch and position."""
        return {"epoch": self._epoch, "position": self._position}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        self._epoch, self._position, self._skip = int(state["epoch"]), int(state["position"]), True


def mark_of(name: str, field: Tensor) -> bytes:
    """The SHA-256 of a field's name, type, shape and values."""
    field = field.detach().cpu().contiguous()
    return mark_of_parts(name, field.dtype, field.shape, hashlib.sha256(field.view(-1).view(torch.uint8).numpy()))


def mark_of_parts(name: str, dtype: torch.dtype, shape: tuple[int, ...], values: Any) -> bytes:
    """The same where the values came in parts. values: the SHA-256 object that has taken them all."""
    return hashlib.sha256(f"{name} {dtype} {tuple(shape)}".encode() + values.digest()).digest()


def _sizes(items: int, batch_size: int) -> list[int]:
    sizes = [batch_size] * (items // batch_size)
    rest = items % batch_size
    if rest == 1 and sizes:
        sizes[-1] += 1
    elif rest:
        sizes.append(rest)
    return sizes
