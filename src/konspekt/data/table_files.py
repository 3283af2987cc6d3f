"""Files of tables: csv, also gzipped, and parquet, as DataFrames with a column for each name.

Parquet is read by pyarrow. What pandas writes beside the data is JSON; nothing in a file is executed.
"""

from __future__ import annotations

import contextlib
import gzip
import re
import warnings
import zlib
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from konspekt.core.errors import DataError, KonspektError
from konspekt.core.memory import check_room

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["check_header", "csv_errors", "csv_header", "is_csv", "is_table", "read_csv", "read_parquet", "read_table"]

_PARQUET = (".parquet", ".pq")
_CSV = (".csv", ".csv.gz")


def is_table(X: Any) -> bool:
    """Whether X is a DataFrame or the path of a csv or parquet file."""
    import pandas as pd

    return isinstance(X, pd.DataFrame) or (isinstance(X, (str, Path)) and str(X).lower().endswith(_CSV + _PARQUET))


def is_csv(X: Any) -> bool:
    """Whether X is the path of a csv file."""
    return isinstance(X, (str, Path)) and str(X).lower().endswith(_CSV)


def read_csv(path: str | Path, texts: Collection[str] = ()) -> pd.DataFrame:
    """Read a csv file, also .csv.gz: UTF-8, commas, the names of the columns in the first line.

    texts: columns of names or labels; where one has leading zeros ("007"), they are kept.

    Raises DataError where it cannot be read, is empty, names a column twice or has more values than names in a row.
    """
    import pandas as pd

    path = Path(path)
    header = csv_header(path)
    with csv_errors(path):
        frame = pd.read_csv(path, low_memory=False, index_col=False)
        for name in [n for n in texts if n in frame.columns and frame[n].dtype.kind in "iuf"]:
            written = pd.read_csv(path, usecols=[name], dtype=str, index_col=False)[name]
            if written.str.match(r"0\d", na=False).any():
                frame[name] = written
    if not len(frame):
        raise DataError(f"{path}: there is a header but no row")
    check_header(path, header)
    return frame


def csv_header(path: Path) -> pd.Series[Any]:
    """The first line of a csv file, as it is written.

    Raises DataError where there is no such file, it cannot be read or is not separated by commas.
    """
    import pandas as pd

    if not path.is_file():
        raise DataError(f"{path}: {'this is a folder, not a file' if path.is_dir() else 'there is no such file'}")
    with csv_errors(path):
        header = pd.read_csv(path, header=None, nrows=1, dtype=str, keep_default_na=False).iloc[0]
    separator = next((c for c in ";\t|" if len(header) == 1 and c in header[0]), None)
    if separator is not None:
        raise DataError(
            f"{path}: the values seem to be separated by {separator!r}; commas are needed: save it with commas, "
            f"or give pd.read_csv({str(path)!r}, sep={separator!r})"
        )
    return header


def check_header(path: Path, header: pd.Series[Any]) -> None:
    """Raise DataError where two columns of a csv file have one name, or the first line holds values, not names.

    Whole numbers may be names (years, pixels), broken ones hardly are.
    """
    numbers = [h for h in header if re.fullmatch(r"\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?\s*", h)]
    if len(numbers) > len(header) / 2 and any("." in h for h in numbers):
        raise DataError(
            f"{path}: the first line holds numbers ({', '.join(numbers[:3])}, ...) where the names of the columns belong; "
            f"write names into a first line, or give pd.read_csv({str(path)!r}, header=None)"
        )
    twice = header[header.duplicated() & (header != "")].tolist()
    if twice:
        raise DataError(f"{path}: columns named twice: {', '.join(twice)}; rename them")


@contextlib.contextmanager
def csv_errors(path: Path) -> Iterator[None]:
    """Within: what pandas raises on a csv file becomes a DataError that says what is wrong with the file."""
    import pandas as pd

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            yield
    except pd.errors.EmptyDataError:
        raise DataError(f"{path}: the file is empty") from None
    except pd.errors.ParserWarning:
        raise DataError(f"{path}: the rows have more values than the first line has names; name every column") from None
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: not UTF-8 text ({error.reason}: byte {error.object[error.start]:#x}); save it as UTF-8, or give "
            f"pd.read_csv({str(path)!r}, encoding='latin-1') or whatever its encoding is"
        ) from None
    except (pd.errors.ParserError, OSError, EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path}: not readable as csv ({' '.join(str(error).split())[:120]})") from None


def read_parquet(path: str | Path) -> pd.DataFrame:
    """Read a parquet file. An index with a name, which pandas writes as such, is a column again, as in a csv file.

    Raises DataError where it cannot be read, is empty or names a column twice, ResourceError where it does not fit in
    memory.
    """
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: {'this is a folder, not a file' if path.is_dir() else 'there is no such file'}")
    if not path.stat().st_size:
        raise DataError(f"{path}: the file is empty")
    try:
        facts = pq.read_metadata(path)
        names = facts.schema.to_arrow_schema().names
        twice = sorted({n for n in names if names.count(n) > 1})
        if twice:
            raise DataError(f"{path}: columns named twice: {', '.join(twice)}; rename them")
        if not names:
            raise DataError(f"{path}: there is no column")
        if not facts.num_rows:
            raise DataError(f"{path}: there are columns but no row")
        # A column of one value a billion times is a few bytes in the file.
        check_room(
            8 * facts.num_rows * len(names), f"{path}: a table of {facts.num_rows:,} rows x {len(names)} columns"
        )
        # partitioning: else a folder named "a=1" above the file would become a column.
        frame = pd.read_parquet(path, engine="pyarrow", partitioning=None)
    except KonspektError:
        raise
    except (pa.ArrowException, OSError, ValueError, TypeError, KeyError, NotImplementedError) as error:
        reason = " ".join(str(error).replace(f"'{path}'", "").split())[:160]
        raise DataError(
            f"{path}: not readable as parquet ({reason}); the file is cut, damaged or of another kind"
        ) from None
    named = [name for name in frame.index.names if name is not None]
    return frame.reset_index(level=named) if named else frame


def read_table(path: str | Path, texts: Collection[str] = ()) -> pd.DataFrame:
    """`read_parquet` or `read_csv`, by the name of the file."""
    return read_parquet(path) if str(path).lower().endswith(_PARQUET) else read_csv(path, texts)
