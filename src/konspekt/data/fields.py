"""Fields of a batch: tensors, and ragged tensors for items of different lengths.

Shape letters in this file: N items, T values in all, B items of a batch, L length of the longest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from konspekt.core.errors import DataError

__all__ = ["Batch", "Collate", "Field", "Ragged"]


@dataclass(frozen=True)
class Ragged:
    """N pieces of different lengths in one tensor: tokens, boxes, sound.

    values (T, ...): the pieces one after another.
    offsets (N + 1,) int64: where each begins; the last is T.
    """

    values: Tensor
    offsets: Tensor

    @classmethod
    def of(cls, pieces: Sequence[Tensor]) -> Ragged:
        """Put pieces (L_i, ...) into one; they must agree in all but their length.

        Raises DataError where they don't, or where there is none.
        """
        if not pieces:
            raise DataError("a Ragged needs at least one piece, to know of what shape and type the pieces are")
        shapes = {tuple(p.shape[1:]) for p in pieces}
        if len(shapes) > 1:
            raise DataError(f"the pieces of a Ragged must agree in all but their length, got {sorted(shapes)}")
        lengths = torch.tensor([0] + [len(p) for p in pieces])
        return cls(torch.cat(list(pieces)), lengths.cumsum(0))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, item: int) -> Tensor:
        if not -len(self) <= item < len(self):
            raise IndexError(f"item {item} of {len(self)}")
        item %= len(self)
        return self.values[self.offsets[item] : self.offsets[item + 1]]

    @property
    def lengths(self) -> Tensor:
        """(N,) int64."""
        return self.offsets.diff()

    def take(self, index: Tensor) -> Ragged:
        """The pieces of `index` (B,), in its order."""
        lengths = self.lengths.index_select(0, index)
        offsets = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
        start = self.offsets.index_select(0, index) - offsets[:-1]
        place = torch.arange(int(offsets[-1]), device=index.device) + start.repeat_interleave(lengths)
        return Ragged(self.values.index_select(0, place), offsets)

    def padded(self, value: float = 0) -> tuple[Tensor, Tensor]:
        """All pieces at one length: (N, L, ...) filled up with `value`, and the mask (N, L), True where a value is."""
        lengths = self.lengths
        longest = int(lengths.max()) if len(lengths) else 0
        mask = torch.arange(longest, device=lengths.device) < lengths[:, None]
        padded = self.values.new_full((len(self), longest, *self.values.shape[1:]), value)
        padded[mask] = self.values
        return padded, mask

    def pieces(self) -> list[Tensor]:
        """The pieces as a list of (L_i, ...)."""
        return list(self.values.split(self.lengths.tolist()))

    def to(self, device: torch.device | str) -> Ragged:
        """The same on a device."""
        return Ragged(self.values.to(device), self.offsets.to(device))


Field = Tensor | Ragged
Batch = dict[str, Field]
Collate = Literal["pad", "ragged"]
