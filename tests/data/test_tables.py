"""Tables: which types are found, what becomes of gaps and unseen values, and how a file is matched to a model."""

import gzip
import json

import numpy as np
import pandas as pd
import pytest
import torch

from konspekt.core.errors import ConfigError, DataError
from konspekt.data import tables
from konspekt.data.tables import TableSchema, is_table, read_csv, split_target

HERE = "here"


@pytest.fixture
def frame():
    return pd.DataFrame(
        {
            "age": [20.0, None, 40.0, 60.0],
            "size": [1, 2, 3, 4],
            "ok": [True, False, True, True],
            "kind": ["b", "a", None, "b"],
            "same": [7.0] * 4,
            "empty": [None] * 4,
        }
    )


def learn(X, **types):
    return TableSchema.learn(X, types, HERE)


def through_json(schema):
    return TableSchema.from_json(json.loads(json.dumps(schema.to_json(), allow_nan=False)))


# ------------------------------------------------------------------------------------------------------------- types


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ([1, 2], "number"),
        ([1.5, None], "number"),
        ([True, False], "number"),
        (pd.array([1, None], dtype="Int64"), "number"),
        (pd.array([1.5, None], dtype="Float32"), "number"),
        (pd.array([True, None], dtype="boolean"), "number"),
        (np.array([1, 2], dtype=np.uint8), "number"),
        (np.array([1, 2], dtype=np.float16), "number"),
        (np.array([2**63, 2**64 - 1], dtype=np.uint64), "number"),
        (["a", "b"], "category"),
        (["1", "2"], "category"),
        ([1, "b"], "category"),
        ([True, None], "category"),
        (pd.array(["a", None], dtype="string"), "category"),
        (pd.Categorical([1, 2]), "category"),
        (pd.Categorical(["a", "b"], categories=["b", "a", "c"], ordered=True), "category"),
        (pd.Categorical([None, None], categories=["a"]), "ignored"),
        ([None, None], "ignored"),
        ([float("nan")] * 2, "ignored"),
        (pd.array([None, None], dtype="Int64"), "ignored"),
    ],
    ids=str,
)
def test_the_type_is_found(values, found):
    schema = learn(pd.DataFrame({"x": values, "other": [0.0, 1.0]}))
    assert schema.columns[0].type == found
    fields = schema.encode(pd.DataFrame({"x": values, "other": [0.0, 1.0]}), HERE)
    assert fields["x"].dtype == torch.float32
    assert ("codes" in fields) == (found == "category")


def test_types_override_what_is_found(frame):
    schema = learn(frame, size="category", age="ignored", empty="category")
    assert {c.name: c.type for c in schema.columns} == {
        "age": "ignored",
        "size": "category",
        "ok": "number",
        "kind": "category",
        "same": "number",
        "empty": "category",
    }
    assert [c.categories for c in schema.categories] == [["1", "2", "3", "4"], ["a", "b"], []]
    assert learn(pd.DataFrame({"x": ["1.5", "2.5"]}), x="number").columns[0].mean == 2.0


def test_types_by_other_names_than_text():
    array = TableSchema.learn(np.eye(3), {"x1": "category"}, HERE)
    assert [c.type for c in array.columns] == ["number", "category", "number"]
    numbered = TableSchema.learn(pd.DataFrame(np.eye(3)), {1: "category"}, HERE)
    assert [c.type for c in numbered.columns] == ["number", "category", "number"]


@pytest.mark.parametrize(
    ("types", "message"),
    [
        ({"agee": "number"}, "here: types names no column 'agee'; did you mean 'age'"),
        ({"age": "numeric"}, r"here: types\['age'\] must be one of number, category, date, ignored, got 'numeric'"),
        ({("age",): "number"}, "types names no column"),
        ({"age": ["number"]}, "must be one of number"),
    ],
    ids=str,
)
def test_wrong_types_are_config_errors(frame, types, message):
    with pytest.raises(ConfigError, match=message):
        TableSchema.learn(frame, types, HERE)


def test_a_missing_date_is_no_number():
    frame = pd.DataFrame({"when": pd.to_datetime(["2020-01-01", None, "2020-01-03"])})
    (column,) = learn(frame, when="number").columns
    assert column.missing == 1
    assert column.mean == pd.to_numeric(frame["when"].dropna()).mean()


@pytest.mark.parametrize(
    "cell", [[1, 2], {"a": 1}, {1}, (1, 2), np.zeros(2), torch.zeros(2)], ids=lambda c: type(c).__name__
)
def test_cells_that_are_no_values_are_refused(cell):
    frame = pd.DataFrame({"x": [1.0, 2.0], "deep": pd.Series(["a", cell], dtype=object)})
    with pytest.raises(DataError, match=r"here: column 'deep': row 1 holds a \w+ .*types=\{'deep': 'ignored'\}"):
        learn(frame)
    schema = learn(frame, deep="ignored")
    assert schema.facts(frame)[1]["unique"] == 2


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([1.0, np.inf, -np.inf], r"here: column 'x': infinite values \(inf\) in rows \[1, 2\] \(counted from 0\)"),
        ([1e308, -1e308, 1e308], "here: column 'x': the values are too large to be standardised"),
        ([1j, 1.0, 2.0], "here: column 'x': Complex data not supported"),
    ],
    ids=["infinite", "too large", "complex"],
)
def test_numbers_that_cannot_be_used(values, message):
    with pytest.raises(DataError, match=message):
        learn(pd.DataFrame({"x": values}))
    with pytest.raises(DataError, match="here: "):
        learn(pd.DataFrame({"x": [1.0, 2.0, 3.0]})).encode(pd.DataFrame({"x": values}) * 1e300, HERE)


def test_text_where_numbers_belong_is_listed():
    frame = pd.DataFrame({"x": ["1", "two", None, "4", "five"]})
    with pytest.raises(DataError, match=r"column 'x' should hold numbers, but not in rows 1 \('two'\), 4 \('five'\)"):
        learn(frame, x="number")
    schema = learn(pd.DataFrame({"x": [1.0, 2.0]}))
    with pytest.raises(DataError, match=r"not in rows 1 \('two'\), 4"):
        schema.encode(frame, HERE)
    with pytest.raises(DataError, match=r"not in rows 0 \(1000"):
        learn(pd.DataFrame({"x": [10**400, 1]}), x="number")


# ------------------------------------------------------------------------------------------------- numbers and gaps


def test_numbers_are_standardised():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(50, 3)) * [1e-8, 1, 1e8] + [0, 5, -1e9]
    x = learn(X).encode(X, HERE)["x"].numpy()
    np.testing.assert_allclose(x, (X - X.mean(0)) / X.std(0), atol=1e-5)


def test_missing_numbers_are_the_mean_with_an_indicator(frame):
    schema = learn(frame)
    assert schema.feature_names == ["age", "size", "ok", "same", "age is missing"]
    assert schema.num_features == 5
    x = schema.encode(frame, HERE)["x"].numpy()
    assert x[1, 0] == 0  # the mean, standardised
    np.testing.assert_array_equal(x[:, 4], [0, 1, 0, 0])
    np.testing.assert_allclose(x[[0, 2, 3], 0].mean(), 0, atol=1e-7)


def test_a_gap_that_the_training_did_not_have_is_the_mean(frame):
    schema = learn(frame)
    x = schema.encode(frame.assign(size=[None, 1, 2, 3]), HERE)["x"]
    assert x[0, 1] == 0
    assert x.shape == (4, 5)


def test_a_constant_column_is_named_and_not_scaled(frame):
    schema = learn(frame)
    column = next(c for c in schema.columns if c.name == "same")
    assert (column.mean, column.scale, column.note) == (7.0, 1.0, "constant")
    x = schema.encode(frame.assign(same=[7.0, 8.0, 7.0, 7.0]), HERE)["x"]
    assert x[:, 3].tolist() == [0, 1, 0, 0]
    # 0.1 three times has a tiny standard deviation of its own.
    assert learn(pd.DataFrame({"x": [0.1] * 3})).columns[0].note == "constant"
    assert learn(pd.DataFrame({"x": [0.1, 0.1000001]})).columns[0].note == ""


def test_the_notes_tell_all(frame):
    notes = "\n".join(learn(frame).notes)
    assert "1 constant column(s) left out of scaling: same" in notes
    assert "missing numbers filled with the mean, with an indicator column each: age (1)" in notes
    assert "missing categories have a code of their own: kind (1)" in notes
    assert "ignored columns: empty" in notes
    many = pd.DataFrame(np.ones((2, 30)), columns=[f"c{i}" for i in range(30)])
    assert any("30 constant column(s)" in note and "and 18 more" in note for note in learn(many).notes)


def test_facts_show_each_column(frame):
    facts = {row["name"]: row for row in learn(frame).facts(frame)}
    assert facts["age"] == {
        "name": "age",
        "type": "number",
        "missing": 1,
        "unique": 3,
        "note": "",
        "mean": 40.0,
        "std": pytest.approx(np.std([20, 40, 60])),
        "min": 20.0,
        "max": 60.0,
        "most": 1,
    }
    assert facts["kind"]["top"] == [["b", 2], ["a", 1]]
    assert (facts["kind"]["missing"], facts["kind"]["unique"]) == (1, 2)
    assert (facts["empty"]["type"], facts["empty"]["missing"]) == ("ignored", 4)
    assert facts["empty"] | {"name": "empty", "unique": 0, "note": "empty", "top": [], "most": 0} == facts["empty"]
    assert facts["ok"]["mean"] == 0.75
    json.dumps(list(facts.values()), allow_nan=False)


def test_no_column_left_is_an_error():
    with pytest.raises(DataError, match="here: no column is left to learn from: a, b hold no value or are ignored"):
        learn(pd.DataFrame({"a": [None, None], "b": [1, 2]}), b="ignored")
    with pytest.raises(DataError, match=r"no column is left .*: the table has none beside the target"):
        learn(pd.DataFrame(index=[0, 1]))


# ---------------------------------------------------------------------------------------------------------- categories


def test_unseen_and_missing_categories_have_codes_of_their_own(frame):
    schema = learn(frame)
    assert schema.num_codes == [4]  # unseen, missing, a, b
    other = pd.DataFrame({**{c: frame[c] for c in frame}, "kind": ["z", None, "a", "b"]})
    assert schema.encode(other, HERE)["codes"][:, 0].tolist() == [0, 1, 2, 3]
    whole = learn(pd.DataFrame({"kind": ["a", "b"]}))
    assert whole.num_codes == [3]  # nothing missing at training: missing is unseen
    assert whole.encode(pd.DataFrame({"kind": ["z", None, "a", "b"]}), HERE)["codes"][:, 0].tolist() == [0, 0, 1, 2]


@pytest.mark.parametrize(
    "values",
    [
        [1, 2, 3],
        [1.0, 2.0, 3.0],
        ["1", "2", "3"],
        pd.array([1, 2, 3], dtype="Int64"),
        pd.array([1, 2, 3], dtype="Float64"),
        pd.array(["1", "2", "3"], dtype="string"),
        pd.Categorical([1, 2, 3]),
        pd.Categorical(["1", "2", "3"], categories=["3", "2", "1", "0"]),
        np.array([1, 2, 3], dtype=object),
    ],
    ids=lambda v: str(getattr(v, "dtype", type(v[0]).__name__)),
)
def test_categories_agree_whatever_type_they_come_in(values):
    schema = learn(pd.DataFrame({"zip": [3, 1, 2]}), zip="category")
    assert schema.encode(pd.DataFrame({"zip": values}), HERE)["codes"][:, 0].tolist() == [1, 2, 3]


def test_integers_with_gaps_read_as_floats_are_the_same_categories(tmp_path):
    (tmp_path / "whole.csv").write_text("zip,x\n101,1\n202,2\n")
    (tmp_path / "gaps.csv").write_text("zip,x\n101,1\n,2\n202,3\n")
    schema = learn(read_csv(tmp_path / "whole.csv"), zip="category")
    assert schema.encode(read_csv(tmp_path / "gaps.csv"), HERE)["codes"][:, 0].tolist() == [1, 0, 2]
    schema = learn(read_csv(tmp_path / "gaps.csv"), zip="category")
    assert schema.categories[0].categories == ["101", "202"]
    assert schema.encode(read_csv(tmp_path / "whole.csv"), HERE)["codes"][:, 0].tolist() == [2, 3]


def test_truth_values_with_gaps_are_the_same_numbers():
    schema = learn(pd.DataFrame({"ok": [True, False, True]}))
    gaps = pd.DataFrame({"ok": pd.Series([True, None, False], dtype=object)})
    whole = schema.encode(pd.DataFrame({"ok": [True, True, False]}), HERE)["x"]
    assert schema.encode(gaps, HERE)["x"][[0, 2]].tolist() == whole[[0, 2]].tolist()
    assert schema.encode(gaps, HERE)["x"][1] == 0


def test_the_most_frequent_values_get_a_code(monkeypatch):
    monkeypatch.setattr(tables, "MAX_CATEGORIES", 3)
    values = ["e", *"aaa", *"bb", *"cc", "d"]
    schema = learn(pd.DataFrame({"k": values}))
    assert schema.categories[0].categories == ["a", "b", "c"]
    assert schema.num_codes == [4]
    (note,) = [n for n in schema.notes if n.startswith("column k")]
    assert note == "column k: 5 different values; the 3 most frequent have a code each, the rest share one"
    codes = schema.encode(pd.DataFrame({"k": values}), HERE)["codes"][:, 0].tolist()
    assert codes == [0, 1, 1, 1, 2, 2, 3, 3, 0]


def test_the_cap_is_a_thousand():
    schema = learn(pd.DataFrame({"id": [f"u{i}" for i in range(3000)]}))
    assert schema.num_codes == [1001]


# ------------------------------------------------------------------------------------------------------ there and back


def test_the_schema_goes_through_json(frame):
    schema = learn(frame)
    again = through_json(schema)
    assert again == schema
    before, after = schema.encode(frame, HERE), again.encode(frame, HERE)
    assert before.keys() == after.keys()
    for name, field in before.items():
        assert torch.equal(field, after[name])
    assert again.notes == schema.notes


@pytest.mark.parametrize(
    "damage",
    [
        {"type": "os.system"},
        {"mean": float("nan")},
        {"mean": "5"},
        {"mean": None},
        {"scale": 0},
        {"scale": -1.0},
        {"scale": float("inf")},
        {"missing": "many"},
        {"name": 5},
        {"categories": [1, 2]},
        {"categories": None},
        {"extra": 1},
    ],
    ids=str,
)
def test_a_damaged_schema_is_refused(frame, damage):
    value = learn(frame).to_json()
    value["columns"][0] |= damage
    with pytest.raises((DataError, TypeError)):  # `load` makes one DataError of both
        TableSchema.from_json(value)


# -------------------------------------------------------------------------------------------------------------- files


def test_csv_and_csv_gz_are_the_same(tmp_path, frame):
    frame.to_csv(tmp_path / "t.csv", index=False)
    with gzip.open(tmp_path / "T.CSV.GZ", "wt") as file:
        frame.to_csv(file, index=False)
    frame.to_csv(tmp_path / "t.csv.gz", index=False)
    plain = read_csv(tmp_path / "t.csv")
    pd.testing.assert_frame_equal(plain, read_csv(tmp_path / "t.csv.gz"))
    assert is_table(tmp_path / "T.CSV.GZ")
    assert learn(plain).feature_names == learn(frame).feature_names


def test_commas_at_the_end_of_rows_do_no_harm(tmp_path):
    (tmp_path / "t.csv").write_text("a,b\n1,2,\n3,4,\n")
    assert read_csv(tmp_path / "t.csv").to_dict("list") == {"a": [1, 3], "b": [2, 4]}


def test_columns_without_names_are_numbered(tmp_path):
    (tmp_path / "t.csv").write_text(",a,\n0,1,2\n")
    assert list(read_csv(tmp_path / "t.csv").columns) == ["Unnamed: 0", "a", "Unnamed: 2"]


def test_a_byte_order_mark_is_no_part_of_a_name(tmp_path):
    (tmp_path / "t.csv").write_bytes(b"\xef\xbb\xbfa,y\n1,0\n2,1\n")
    assert list(read_csv(tmp_path / "t.csv").columns) == ["a", "y"]


FILES = {
    "empty": (b"", "the file is empty"),
    "blank lines": (b"\n\n\n", "the file is empty"),
    "header only": (b"a,b\n", "there is a header but no row"),
    "names twice": (b"a,b,a\n1,2,3\n", "columns named twice: a; rename them"),
    "latin-1": (
        "größe,y\n1,2\n".encode("latin-1"),
        r"not UTF-8 text \(.*byte 0xf6\); save it as UTF-8.*encoding='latin-1'",
    ),
    "utf-16": ("a,y\n1,2\n".encode("utf-16"), "not UTF-8 text"),
    "a longer row": (b"a,b\n1,2\n1,2,3,4\n", "not readable as csv .*line 3, saw 4"),
    "longer rows": (b"a,b\n0,2,3\n1,5,6\n2,2,2", "the rows have more values than the first line has names"),
    "open quote": (b'a,b\n"1,2\n3,4\n', "not readable as csv"),
    "semicolons": (b"a;b\n1;2\n", r"seem to be separated by ';'; commas are needed.*sep=';'"),
    "tabs": (b"a\tb\n1\t2\n", r"seem to be separated by '\\t'"),
    "decimal commas": (b"a;b\n1,5;2,5\n", "seem to be separated by ';'"),
    "binary": (bytes(range(256)) * 4, "t.csv: "),
}


@pytest.mark.parametrize(("data", "message"), FILES.values(), ids=FILES)
def test_files_that_are_no_tables(tmp_path, data, message):
    path = tmp_path / "t.csv"
    path.write_bytes(data)
    with pytest.raises(DataError, match=message) as caught:
        read_csv(path)
    assert str(caught.value).startswith(str(path))


def test_files_that_are_not_there(tmp_path):
    with pytest.raises(DataError, match=r"no\.csv: there is no such file"):
        read_csv(tmp_path / "no.csv")
    (tmp_path / "x.csv").mkdir()
    with pytest.raises(DataError, match=r"x\.csv: this is a folder, not a file"):
        read_csv(tmp_path / "x.csv")
    for damaged in (b"not gzip", gzip.compress(b"a,b\n" + b"1,2\n" * 1000)[:-20]):
        (tmp_path / "t.csv.gz").write_bytes(damaged)
        with pytest.raises(DataError, match="not readable as csv"):
            read_csv(tmp_path / "t.csv.gz")


def test_a_file_is_matched_by_names(frame):
    schema = learn(frame)
    other = frame[["kind", "same", "age", "empty", "ok", "size"]].assign(more=1)
    assert list(schema.match(other, HERE).columns) == list(frame.columns)
    with pytest.raises(DataError, match=r"here: columns .* missing: age, kind; the file has: size, ok, same, empty"):
        schema.match(frame.drop(columns=["age", "kind"]), HERE)


def test_a_file_is_matched_by_places_where_the_training_had_no_names():
    schema = learn(np.eye(3))
    matched = schema.match(pd.DataFrame(np.eye(3), columns=list("abc")), HERE)
    assert torch.equal(schema.encode(matched, HERE)["x"], schema.encode(np.eye(3), HERE)["x"])


def test_columns_of_a_frame_must_be_those_of_the_training():
    schema = learn(pd.DataFrame(np.eye(3)))
    schema.check_columns(pd.DataFrame(np.eye(3)))
    with pytest.raises(DataError, match="the columns are not those of the training in their order: was '0', now '1'"):
        schema.check_columns(pd.DataFrame(np.eye(3))[[1, 0, 2]])
    with pytest.raises(DataError, match="X has 2 features, expected 3"):
        schema.check_columns(pd.DataFrame(np.eye(2)))


# ------------------------------------------------------------------------------------------------------------ targets


def test_the_target_is_taken_out_by_name(tmp_path, frame):
    frame.to_csv(tmp_path / "t.csv", index=False)
    for source in (frame, tmp_path / "t.csv", str(tmp_path / "t.csv")):
        X, y = split_target(source, "size")
        assert list(X.columns) == ["age", "ok", "kind", "same", "empty"]
        assert y.tolist() == [1, 2, 3, 4]
        X, y = split_target(source, ("size", "age"))
        assert list(X.columns) == ["ok", "kind", "same", "empty"]
        assert list(y.columns) == ["size", "age"]
    assert frame.columns[0] == "age"  # the caller's frame is as it was


def test_a_target_that_is_not_there(tmp_path, frame):
    frame.to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(DataError, match=r"the DataFrame has no column 'siz'; did you mean 'size'\?"):
        split_target(frame, "siz")
    with pytest.raises(DataError, match=r"t\.csv has no column 'y'; known: age, empty"):
        split_target(tmp_path / "t.csv", ("size", "y"))
    with pytest.raises(DataError, match="y='size' names a column, but X has no columns with names"):
        split_target(np.eye(4), "size")
    with pytest.raises(DataError, match=r"data\.xlsx: not a table; tables are \.csv, \.csv\.gz and \.parquet files"):
        split_target("data.xlsx", "y")


def test_tables_of_other_libraries_are_taken(frame):
    class Polars:
        columns: tuple = ("age", "size")

        def to_pandas(self):
            return frame

    X, y = split_target(Polars(), "size")
    assert y.tolist() == [1, 2, 3, 4]
    assert not is_table(Polars())
    assert is_table(X)
