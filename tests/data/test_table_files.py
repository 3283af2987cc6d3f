"""Parquet files as tables: read as the csv file of the same table, and what is refused. csv itself: test_tables.py."""

import datetime as dt

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from konspekt import MLPClassifier
from konspekt.core import memory
from konspekt.core.errors import DataError, ResourceError
from konspekt.data.table_files import is_table, read_csv, read_parquet, read_table
from konspekt.data.tables import TableSchema, split_target

N = 24


@pytest.fixture
def frame():
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "a": rng.normal(size=N).round(6),
            "k": ["u", "v", None] * 8,
            "n": pd.array([1, 2, None] * 8, dtype="Int64"),
            "day": pd.date_range("2020-01-01", periods=N, freq="37h"),
            "y": ["p", "q"] * 12,
        }
    )


@pytest.mark.parametrize("name", ["t.parquet", "T.PARQUET", "t.pq"])
def test_a_parquet_file_is_the_csv_file_of_the_same_table(tmp_path, frame, name):
    frame.to_parquet(tmp_path / name)
    frame.to_csv(tmp_path / "t.csv", index=False)
    assert is_table(tmp_path / name)
    assert is_table(str(tmp_path / name))
    pd.testing.assert_frame_equal(read_table(tmp_path / name), read_parquet(tmp_path / name))
    one, two = read_table(tmp_path / name), read_csv(tmp_path / "t.csv")
    schema, other = (TableSchema.learn(t.drop(columns="y"), None, "here") for t in (one, two))
    assert schema == other
    for field, values in schema.encode(one[["a", "k", "n", "day"]], "here").items():
        np.testing.assert_array_equal(values, schema.encode(two[["a", "k", "n", "day"]], "here")[field])


def test_a_model_is_fitted_and_asked_by_parquet_files(tmp_path, frame):
    frame.to_parquet(tmp_path / "t.parquet")
    frame[["y", "day", "n", "k", "a"]].assign(more=[[1]] * N).to_parquet(tmp_path / "more.parquet")
    frame.to_csv(tmp_path / "t.csv", index=False)
    model = MLPClassifier(hidden=(4,), epochs=2, random_state=0)
    by_file = model.fit(tmp_path / "t.parquet", "y", validation=str(tmp_path / "more.parquet"))
    expected = by_file.predict_proba(tmp_path / "t.csv")
    np.testing.assert_array_equal(by_file.predict_proba(str(tmp_path / "t.parquet")), expected)
    np.testing.assert_array_equal(by_file.predict_proba(tmp_path / "more.parquet"), expected)
    assert by_file.evaluate(tmp_path / "t.parquet", "y") == by_file.evaluate(tmp_path / "t.csv", "y")
    by_frame = MLPClassifier(hidden=(4,), epochs=2, random_state=0).fit(tmp_path / "t.csv", "y")
    np.testing.assert_array_equal(by_frame.predict_proba(tmp_path / "t.parquet"), expected)


def test_the_types_of_pandas_come_back(tmp_path):
    table = pd.DataFrame(
        {
            "zone": pd.to_datetime(["2020-01-01", "2020-06-01"]).tz_localize("Europe/Berlin"),
            "span": pd.to_timedelta([1, 2], unit="h"),
            "month": pd.period_range("2020-01", periods=2, freq="M"),
            "date": [dt.date(2020, 1, 1), None],
            "time": [dt.time(1, 2), dt.time(3, 4, 5)],
            "cat": pd.Categorical(["a", "b"]),
            "flag": pd.array([True, None], dtype="boolean"),
            "price": pa.array(["1.50", "2.25"]).cast(pa.decimal128(5, 2)).to_pandas(),
        }
    )
    table.to_parquet(tmp_path / "t.parquet")
    before, after = (
        TableSchema.learn(t, {"price": "number"}, "here") for t in (table, read_table(tmp_path / "t.parquet"))
    )
    assert before == after
    kinds = {c.name: c.dates.kind if c.dates else c.type for c in after.columns}
    assert kinds == {
        "zone": "zoned date", "span": "duration", "month": "date", "date": "date", "time": "time of day",
        "cat": "category", "flag": "number", "price": "number",
    }  # fmt: skip


def test_an_index_with_a_name_is_a_column_and_a_numbering_is_none(tmp_path, frame):
    frame.set_index("k").to_parquet(tmp_path / "t.parquet")
    assert list(read_parquet(tmp_path / "t.parquet").columns) == ["k", "a", "n", "day", "y"]
    frame[frame["y"] == "p"].to_parquet(tmp_path / "some.parquet")
    assert list(read_parquet(tmp_path / "some.parquet").columns) == list(frame.columns)


def test_a_folder_named_like_a_partition_adds_no_column(tmp_path, frame):
    (tmp_path / "year=2020").mkdir()
    frame.to_parquet(tmp_path / "year=2020/t.parquet")
    assert list(read_parquet(tmp_path / "year=2020/t.parquet").columns) == list(frame.columns)


@pytest.mark.parametrize(
    "values", [pa.array([[1], [2]]), pa.array([{"p": 1}, {"p": 2}]), pa.array([[("p", 1)], []], pa.map_(pa.string(), pa.int64()))],
    ids=["list", "struct", "map"],
)  # fmt: skip
def test_nested_columns_are_named_and_can_be_ignored(tmp_path, values):
    pq.write_table(pa.table({"deep": values, "x": [1.0, 2.0]}), tmp_path / "t.parquet")
    X, _ = split_target(tmp_path / "t.parquet", None)
    with pytest.raises(DataError, match=r"here: column 'deep': row 0 holds a \w+ .*types=\{'deep': 'ignored'\}"):
        TableSchema.learn(X, None, "here")
    assert TableSchema.learn(X, {"deep": "ignored"}, "here").feature_names == ["x"]


def whole(tmp_path):
    path = tmp_path / "whole.parquet"
    pd.DataFrame({"a": np.random.default_rng(0).normal(size=500)}).to_parquet(path)
    return path.read_bytes()


DAMAGE = {
    "empty": (lambda data: b"", "the file is empty"),
    "another format": (lambda data: b"a,b\n1,2\n" * 20, r"not readable as parquet \(.*magic bytes not found.*\)"),
    "cut": (lambda data: data[:-100], r"not readable as parquet \(.*; the file is cut, damaged"),
    "only its beginning": (lambda data: data[:6], "not readable as parquet"),
    "damaged within": (lambda data: data[:4] + bytes(60) + data[64:], "not readable as parquet"),
    "a wrong length": (lambda data: data[:-8] + b"\xff\xff\xff\x7f" + data[-4:], "not readable as parquet"),
}


@pytest.mark.parametrize(("change", "message"), DAMAGE.values(), ids=DAMAGE)
def test_files_that_are_no_parquet(tmp_path, change, message):
    path = tmp_path / "t.parquet"
    path.write_bytes(change(whole(tmp_path)))
    with pytest.raises(DataError, match=message) as caught:
        read_parquet(path)
    assert str(caught.value).startswith(str(path))


def test_tables_without_rows_or_columns_or_with_a_name_twice(tmp_path):
    path = tmp_path / "t.parquet"
    pd.DataFrame({"a": []}).to_parquet(path)
    with pytest.raises(DataError, match=r"t\.parquet: there are columns but no row"):
        read_parquet(path)
    pd.DataFrame(index=range(3)).to_parquet(path)
    with pytest.raises(DataError, match=r"t\.parquet: there is no column"):
        read_parquet(path)
    pq.write_table(pa.table([pa.array([1]), pa.array([2]), pa.array([3])], names=["a", "b", "a"]), path)
    with pytest.raises(DataError, match=r"t\.parquet: columns named twice: a; rename them"):
        read_parquet(path)
    with pytest.raises(DataError, match=r"no\.parquet: there is no such file"):
        read_parquet(tmp_path / "no.parquet")
    (tmp_path / "folder.parquet").mkdir()
    with pytest.raises(DataError, match=r"folder\.parquet: this is a folder, not a file"):
        read_parquet(tmp_path / "folder.parquet")


def test_a_small_file_of_a_huge_table_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    path = tmp_path / "t.parquet"
    pd.DataFrame({"a": np.zeros(300_000)}).to_parquet(path)
    assert path.stat().st_size < 50_000
    monkeypatch.setattr(memory, "available_memory", lambda: 2_000_000)
    with pytest.raises(ResourceError, match=r"a table of 300,000 rows x 1 columns needs 0.0 GiB of memory"):
        read_parquet(path)
    monkeypatch.setattr(memory, "available_memory", lambda: None)  # nobody knows
    assert len(read_parquet(path)) == 300_000


def test_an_extension_type_is_read_as_what_it_is_stored_as(tmp_path):
    class Odd(pa.ExtensionType):
        def __init__(self):
            super().__init__(pa.int64(), "konspekt.test")

        def __arrow_ext_serialize__(self):
            return b"anything"

        @classmethod
        def __arrow_ext_deserialize__(cls, storage, serialized):
            raise AssertionError("a type that nobody registered is not built")

    column = pa.ExtensionArray.from_storage(Odd(), pa.array([1, 2]))
    pq.write_table(pa.table([column], names=["a"]), tmp_path / "t.parquet")
    assert read_parquet(tmp_path / "t.parquet")["a"].tolist() == [1, 2]


def test_a_first_line_of_numbers_is_no_header(tmp_path):
    file = tmp_path / "bare.csv"
    file.write_text("0.25,1.5,a\n0.5,2.5,b\n0.75,3.5,a\n")
    with pytest.raises(DataError, match=r"the first line holds numbers \(0\.25, 1\.5, \.\.\.\) where the names"):
        read_csv(file)
    file.write_text("2019,2020,2021\n1,2,3\n")  # years are names that people use
    assert list(read_csv(file).columns) == ["2019", "2020", "2021"]
    file.write_text("0.5,share,town\n1,2,3\n")
    assert len(read_csv(file)) == 1
