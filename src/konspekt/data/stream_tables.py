"""Tables that are streamed: the text is read once, in blocks of rows, and lies on the disk as numbers from then on.

First the values of each column, 8 bytes each, go to a file (`Columns`). From it one column at a time is brought back as
the very Series that reading the whole file would have given, so that what is learned of it (its type, its mean, its
categories) is the same to the last bit. Then the rows are encoded, block by block, into a `Spill`, from which an epoch
reads them in any order, without parsing text again.

In memory are one column, one block, and the different texts of the columns of text.

Shape letters in this file: N rows, n rows of a block, C columns.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from konspekt.core.errors import DataError, nearest
from konspekt.data.stream_columns import Columns
from konspekt.data.streams import Scratch, Spill
from konspekt.data.table_files import check_header, csv_errors, csv_header
from konspekt.data.tables import TableSchema

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["StreamedTable", "csv_blocks", "in_memory", "open_csv"]

_GROWTH = {".csv": 3, ".gz": 15}  # times its size is what a file takes in memory: values, texts, the encoded rows
CELLS = 2**20  # values of a block: 8 MB as numbers, some 60 MB as texts

Blocks = Callable[..., Iterator["pd.DataFrame"]]


def csv_blocks(path: Path, rows: int) -> Blocks:
    """Rows of a csv file, block by block: called with (columns, dtype), it reads the file from its beginning.

    columns: the places of those wanted; None: all. dtype: as pandas has it; None: found out block by block.

    Raises DataError where the file cannot be read.
    """

    def blocks(columns: Sequence[int] | None = None, dtype: Any = None) -> Iterator[pd.DataFrame]:
        import pandas as pd

        with csv_errors(path):
            frames = pd.read_csv(
                path, low_memory=False, index_col=False, chunksize=rows, usecols=None if columns is None else columns,
                dtype=dtype,
            )  # fmt: skip
        with frames:
            while True:
                with csv_errors(path):
                    frame = next(frames, None)
                if frame is None:
                    return
                yield frame

    return blocks


class StreamedTable:
    """A table on the disk: targets and columns for a fit to learn from, rows to show, and what encodes it.

    blocks: reads it; called again, it reads it again. source: what to call it in messages. target: the column of the
    targets, several, or none. texts: columns of names or labels; where one has leading zeros ("007"), they are kept.

    Raises DataError where it has no such column, or no row.
    """

    def __init__(self, blocks: Blocks, source: str, target: Any, texts: Collection[str], scratch: Scratch) -> None:
        self.folder = scratch.folder()
        self._all = Columns(self.folder / "columns.bin")
        self._all.write(blocks())
        if not self._all.total:
            raise DataError(f"{source}: there is a header but no row")
        names = self._all.names
        wanted = [target] if isinstance(target, str) else list(target) if isinstance(target, tuple) else []
        for name in wanted:
            if name not in names:
                raise DataError(f"{source} has no column {name!r}; {nearest(name, names)}")
        self._text = self._read_as_text(blocks, {*texts, *wanted})
        self.places = [i for i, name in enumerate(names) if name not in wanted]
        self.y: Any = None
        if isinstance(target, str):
            self.y = self.column(names.index(target))
        elif wanted:
            import pandas as pd

            self.y = pd.DataFrame({name: self.column(names.index(name)) for name in wanted})

    def _read_as_text(self, blocks: Blocks, texts: set[str]) -> tuple[Columns, dict[int, int]]:
        """The columns that must be read as text: of a mixture, or of labels with leading zeros; and where each is."""
        columns = self._all
        unsettled = [i for i in range(len(columns.names)) if columns.dtype(i) is None]
        doubtful = [
            i
            for i, name in enumerate(columns.names)
            if name in texts and columns.dtype(i) in ("int64", "uint64", "float64")
        ]
        store = Columns(self.folder / "texts.bin")
        again = sorted(unsettled + doubtful)
        if not again:
            return store, {}
        store.write(blocks(again, str))
        zeros = {
            place
            for at, place in enumerate(again)
            if place in unsettled or any(w[0] == "0" and w[1:2].isdigit() for w in store.words(at) if w)
        }
        return store, {place: at for at, place in enumerate(again) if place in zeros}

    @property
    def total(self) -> int:
        """N."""
        return self._all.total

    @property
    def names(self) -> list[str]:
        """Of the columns beside the targets."""
        return [self._all.names[i] for i in self.places]

    def column(self, place: int) -> pd.Series[Any]:
        """A column of the file, of all rows."""
        store, where = self._text
        return store.column(where[place]) if place in where else self._all.column(place)

    def block(self, number: int) -> pd.DataFrame:
        """The columns beside the targets, of one block of rows."""
        import pandas as pd

        store, where = self._text
        plain = self._all.block(number, [p for p in self.places if p not in where])
        read = store.block(number, [where[p] for p in self.places if p in where])
        found = {self._all.names[p]: read[where[p]] if p in where else plain[p] for p in self.places}
        return pd.DataFrame(found)

    def row(self, item: int) -> pd.Series[Any]:
        """One row beside the targets, as a whole table would give it."""
        for number, length in enumerate(self._all.lengths):
            if item < length:
                return self.block(number).iloc[item]
            item -= length
        raise IndexError(item)

    def learn(self, train: NDArray[np.int64], types: Mapping[str, str] | None, where: str) -> TableSchema:
        """What `TableSchema.learn` learns of the training rows, column by column."""
        return TableSchema.learn_columns(
            self.names, lambda place: self.column(self.places[place]).iloc[train], types, where
        )

    def encoded(self, schema: TableSchema, where: str) -> Spill:
        """All rows as a schema encodes them, on the disk."""

        def blocks() -> Iterator[Any]:
            first = 0
            for number, length in enumerate(self._all.lengths):
                rows = f"{where}: in rows {first} to {first + length - 1}, counted from the first of them"
                yield schema.encode(self.block(number), rows if len(self._all.lengths) > 1 else where)
                first += length

        return Spill.write(self.folder / "rows.bin", blocks(), self.total)

    def facts(self, schema: TableSchema) -> list[dict[str, Any]]:
        """What `TableSchema.facts` says of the whole table, column by column."""
        return [
            fact
            for column, place in zip(schema.columns, self.places, strict=True)
            for fact in TableSchema([column], schema.named).facts(self.column(place).to_frame())
        ]


def open_csv(path: Path, target: Any, texts: Collection[str], scratch: Scratch) -> StreamedTable:
    """A csv file, also .csv.gz, as a streamed table.

    Raises DataError as `read_csv` and `StreamedTable` do.
    """
    header = csv_header(path)
    table = StreamedTable(csv_blocks(path, max(1, CELLS // len(header))), str(path), target, texts, scratch)
    check_header(path, header)
    return table


def in_memory(path: Path) -> float:
    """About how many bytes a csv file would take in memory."""
    return path.stat().st_size * _GROWTH.get(path.suffix.lower(), 3)
