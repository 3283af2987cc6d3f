"""What leaks from the held-out items into the training, or from the order of the rows into the features.

Items that stand in both parts make a score too good, and a column that numbers the rows can only be learned by heart. Both are
said in the log and on the page; nothing is taken out, because only who knows the data can say what they mean.

Course: RULES on honest measurement; Kaufman, Rosset and Perlich 2012, https://doi.org/10.1145/2382577.2382579.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from konspekt.data.batches import Resident
from konspekt.data.fields import Field, Ragged
from konspekt.data.streams import Streamed

__all__ = ["duplicates", "identifiers", "leakage", "sentences"]

_CHUNK = 1 << 22  # bytes looked at together
_EXAMPLES = 20
_UNIQUE = 0.95  # of the rows have a value of their own: the column is a name or a number of the row
_CONSTANT = 0.995  # of the rows have one value


def leakage(train: Any, validation: Any, facts: Mapping[str, Any]) -> dict[str, Any]:
    """For data.json: {"duplicates": how many held-out items the training has too, "examples": [[train, held out], ...],
    "identifiers": [{"name", "why"}, ...]}; "duplicates" is None where they were not looked for.
    """
    count: int | None = None
    examples: list[list[int]] = []
    if isinstance(train, Resident) and isinstance(validation, Resident):
        count, examples = duplicates(train, validation)
    return {"duplicates": count, "examples": examples, "identifiers": identifiers(facts)}


def sentences(found: Mapping[str, Any], held: int) -> list[str]:
    """What was found, in words for the log."""
    said = []
    if found["duplicates"]:
        some = ", ".join(f"{v} = {t}" for t, v in found["examples"][:5])
        said.append(
            f"{found['duplicates']} of {held} held-out items stand among the training items too, to the last bit of their "
            f"features (held-out item = training item: {some}): the scores are too good by what was learned by heart"
        )
    said += [f"column {row['name']!r} {row['why']}" for row in found["identifiers"]]
    return said


def duplicates(train: Resident, validation: Resident) -> tuple[int, list[list[int]]]:
    """How many items of `validation` have the features of an item of `train`, and some pairs [train item, held-out item].

    Compared by 64-bit sums, then, for the pairs that agree, value by value.
    """
    both = [set(b.raw(b.items[:1].to(b.device))) for b in (train, validation)]
    names = sorted(both[0] & both[1] - {"y"})
    sources = [b.source if isinstance(b, Streamed) else None for b in (train, validation)]
    known = sources[0].item_sums if sources[0] is not None and sources[0] is sources[1] else None
    if known is not None:
        ours, theirs = (known[b.items.numpy()] for b in (train, validation))
    else:
        ours, theirs = (np.concatenate(list(_sums(b, names))) for b in (train, validation))
    order = np.argsort(ours, kind="stable")
    place = np.searchsorted(ours[order], theirs)
    place[place == len(ours)] = 0
    hits = np.flatnonzero(ours[order[place]] == theirs)
    pairs: list[list[int]] = []
    for hit in hits.tolist():
        item, held = int(train.items[order[place[hit]]]), int(validation.items[hit])
        one, other = (b.raw(torch.tensor([i], device=b.device)) for b, i in ((train, item), (validation, held)))
        if all(_same(one[n], other[n]) for n in names):
            pairs.append([item, held])
    return len(pairs), pairs[:_EXAMPLES]


def _sums(batches: Resident, names: Sequence[str]) -> Iterator[NDArray[np.int64]]:
    """A 64-bit sum of each item's features, chunk by chunk."""
    draw = np.random.default_rng(0)
    factors: dict[str, NDArray[np.int64]] = {}
    first = batches.raw(batches.items[:1].to(batches.device))
    width = max(sum(_bytes(first[n]) for n in names), 1)
    for items in batches.items.split(max(_CHUNK // width, 1)):
        fields = batches.raw(items.to(batches.device))
        total = np.zeros(len(items), dtype=np.int64)
        for name in names:
            field = fields[name]
            if isinstance(field, Ragged):
                longest = int(batches.fields[name].lengths.max())  # type: ignore[union-attr]
                rows = field.padded()[0]
                rows = torch.nn.functional.pad(rows, (0, 0) * (rows.ndim - 2) + (0, longest - rows.shape[1]))
            else:
                rows = field
            raw = rows.cpu().contiguous().numpy().reshape(len(items), -1).view(np.uint8)
            raw = np.pad(raw, ((0, 0), (0, -raw.shape[1] % 4))).view(np.uint32).astype(np.int64)
            if name not in factors:
                factors[name] = draw.integers(-(2**62), 2**62, raw.shape[1], dtype=np.int64) | 1
            with np.errstate(over="ignore"):
                total += raw @ factors[name]
        yield total


def _bytes(field: Field) -> int:
    values = field.values if isinstance(field, Ragged) else field
    return values.element_size() * max(values[0].numel(), 1) * (8 if isinstance(field, Ragged) else 2)


def _same(a: Field, b: Field) -> bool:
    one, other = (f.values if isinstance(f, Ragged) else f for f in (a, b))
    return bool(torch.equal(one.cpu(), other.cpu()))


def identifiers(facts: Mapping[str, Any]) -> list[dict[str, str]]:
    """Columns of a table that number or name the rows, or hold one value almost always.

    facts: "columns", rows as in data.json, and "rows", how many there are.
    """
    columns: Iterable[Mapping[str, Any]] = facts.get("columns") or ()
    rows = int(facts.get("rows") or 0)
    found = []
    for column in columns:
        present = rows - int(column["missing"])
        if column["type"] == "ignored" or present < 20:
            continue
        if column["type"] not in ("number", "category"):
            continue
        whole = column["type"] == "category" or all(float(column[k]).is_integer() for k in ("min", "max"))
        if whole and column["unique"] >= _UNIQUE * present:
            kind = "numbers the rows" if column["type"] == "number" else "names the rows"
            why = (
                f"{kind}: {column['unique']} different values in {present} rows; it can only be learned by heart "
                f"(types={column['name']}:ignored leaves it out)"
            )
            found.append({"name": str(column["name"]), "why": why})
        elif column.get("most") is not None and column["unique"] > 1 and column["most"] >= _CONSTANT * present:
            why = f"has one value in {column['most']} of {present} rows: there is next to nothing to learn from it"
            found.append({"name": str(column["name"]), "why": why})
    return found
