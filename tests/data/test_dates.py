"""Dates as features: what is read as a date, and that the numbers are those of pandas and of the closed form."""

import datetime as dt
import json

import numpy as np
import pandas as pd
import pytest

from konspekt import LinearRegressor, MLPRegressor, load
from konspekt.core.errors import DataError
from konspekt.data.dates import DateFeatures, are_dates
from konspekt.data.table_files import read_csv
from konspekt.data.tables import TableSchema

HERE = "here"
WHEN = pd.Series(pd.date_range("2019-12-30 22:15", periods=40, freq="31h7min"))
ALL = ["days", "time of year (sin)", "time of year (cos)", "weekday (sin)", "weekday (cos)"]
ALL += ["time of day (sin)", "time of day (cos)"]


def learn(values, **types):
    return TableSchema.learn(pd.DataFrame({"when": values}), types, HERE)


def encoded(schema, values):
    return schema.encode(pd.DataFrame({"when": values}), HERE)["x"].numpy()


def features(values):
    return encoded(learn(values), values)


def independent(when, utc=None):
    """The seven features by pandas' own calendar."""
    utc = when if utc is None else utc
    elapsed = (utc - utc.min()).dt.total_seconds()
    length = np.where(when.dt.is_leap_year, 366, 365)
    seconds = when.dt.hour * 3600 + when.dt.minute * 60 + when.dt.second
    phases = [(when.dt.day_of_year - 1) / length, when.dt.day_of_week / 7, seconds / 86400]
    circles = [wave(2 * np.pi * p) for p in phases for wave in (np.sin, np.cos)]
    return np.column_stack([(elapsed - elapsed.mean()) / elapsed.std(ddof=0), *circles])


def test_the_features_are_those_of_pandas():
    schema = learn(WHEN)
    assert schema.feature_names == [f"when: {n}" for n in ALL]
    assert schema.num_features == 7
    np.testing.assert_allclose(encoded(schema, WHEN), independent(WHEN), atol=1e-6)


def test_cycles_lie_on_the_circle_and_close():
    days = pd.Series(
        pd.to_datetime(["2019-12-31", "2020-01-01", "2020-07-01", "2020-12-31", "2021-01-03", "2021-01-04"])
    )
    x = features(days)
    np.testing.assert_allclose(x[:, 1] ** 2 + x[:, 2] ** 2, 1, atol=1e-6)
    np.testing.assert_allclose(x[:, 3] ** 2 + x[:, 4] ** 2, 1, atol=1e-6)
    np.testing.assert_allclose(x[1, 1:3], [0, 1], atol=1e-7)  # 1 January
    np.testing.assert_allclose(x[5, 3:5], [0, 1], atol=1e-7)  # a Monday
    np.testing.assert_allclose(x[2, 1:3], [np.sin(2 * np.pi * 182 / 366), np.cos(2 * np.pi * 182 / 366)], atol=1e-7)
    step = 2 * np.sin(np.pi / 366)  # the chord of one day: New Year is a step like any other
    np.testing.assert_allclose(np.linalg.norm(x[3, 1:3] - x[1, 1:3]), step, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(x[4, 3:5] - x[5, 3:5]), 2 * np.sin(np.pi / 7), atol=1e-6)


FORMS = {
    "seconds": WHEN.astype("datetime64[s]"),
    "nanoseconds": WHEN.astype("datetime64[ns]"),
    "objects": WHEN.astype(object),
    "python": pd.Series([t.to_pydatetime() for t in WHEN], dtype=object),
    "numpy": pd.Series(list(WHEN.to_numpy()), dtype=object),
    "periods": WHEN.dt.to_period("min"),
    "arrow": WHEN.astype("timestamp[us][pyarrow]"),
    "text": WHEN.astype(str),
    "string": WHEN.astype(str).astype("string"),
    "T": WHEN.dt.strftime("%Y-%m-%dT%H:%M"),
    "slashes": WHEN.dt.strftime("%Y/%m/%d %H:%M:%S.000"),
}


@pytest.mark.parametrize("values", FORMS.values(), ids=FORMS)
def test_a_date_is_the_same_in_any_form(values):
    np.testing.assert_array_equal(features(values), features(WHEN))
    np.testing.assert_array_equal(encoded(learn(WHEN), values), features(WHEN))


def test_dates_without_a_time_have_no_time_of_day():
    days = WHEN.dt.normalize()
    expected = features(days)
    assert learn(days).feature_names == [f"when: {n}" for n in ALL[:5]]
    for same in (days.dt.strftime("%Y-%m-%d"), days.dt.strftime("%Y/%m/%d"), pd.Series([d.date() for d in days])):
        np.testing.assert_array_equal(features(same), expected)
    np.testing.assert_array_equal(features(days.dt.date.astype("date32[day][pyarrow]")), expected)


def test_months_are_read_by_their_beginning():
    months = pd.period_range("2020-01", periods=5, freq="M")
    np.testing.assert_array_equal(features(months), features(months.to_timestamp()))


def test_zones_count_in_utc_and_cycle_by_the_wall():
    zoned = WHEN.dt.tz_localize("America/New_York")
    utc = zoned.dt.tz_convert("UTC").dt.tz_localize(None)
    np.testing.assert_allclose(features(zoned), independent(WHEN, utc), atol=1e-6)
    assert not np.allclose(features(zoned)[:, 5], features(zoned.dt.tz_convert("UTC"))[:, 5])
    text = zoned.map(lambda t: t.isoformat())
    np.testing.assert_array_equal(features(text), features(zoned))
    np.testing.assert_array_equal(features(text.str.replace(r":(\d\d)$", r"\1", regex=True)), features(zoned))
    np.testing.assert_array_equal(features(zoned.astype(object)), features(zoned))
    z = WHEN.dt.strftime("%Y-%m-%d %H:%M:%SZ")
    np.testing.assert_array_equal(features(z), features(WHEN.dt.tz_localize("UTC")))


def test_zones_may_not_be_mixed_with_none():
    mixed = pd.Series(["2020-01-01 10:00+01:00", "2020-01-02 10:00", "2020-01-03 10:00Z", "2020-01-04"])
    with pytest.raises(
        DataError, match=r"here: column 'when': it holds dates with a time zone, but rows 1, 3 \(counted"
    ):
        learn(mixed)
    assert learn(mixed, when="category").num_codes == [5]
    with pytest.raises(DataError, match=r"the training had dates without a time zone, but rows 0, 1, 2,.*tz_localize"):
        encoded(learn(WHEN), WHEN.dt.tz_localize("UTC"))
    with pytest.raises(DataError, match=r"the training had dates with a time zone, but rows 0, .* without a time zone"):
        encoded(learn(WHEN.dt.tz_localize("UTC")), WHEN)


def test_durations_are_seconds():
    spans = pd.Series(pd.to_timedelta([90, -30, 86400 * 400], unit="s"))
    schema = learn(spans)
    assert schema.feature_names == ["when: seconds"]
    seconds = spans.dt.total_seconds().to_numpy()
    np.testing.assert_allclose(encoded(schema, spans)[:, 0], (seconds - seconds.mean()) / seconds.std(), atol=1e-6)
    for same in (spans.astype(str), spans.astype(object), spans.astype("duration[us][pyarrow]")):
        np.testing.assert_array_equal(encoded(schema, same), encoded(schema, spans))
    np.testing.assert_array_equal(
        encoded(schema, ["PT1M30S", "1 day, 0:00:01"]), encoded(schema, pd.to_timedelta([90, 86401], unit="s"))
    )
    assert schema.facts(pd.DataFrame({"when": spans}))[0]["min"] == pd.Timedelta(-30, unit="s").isoformat()
    with pytest.raises(
        DataError, match=r"the training had durations, but rows 0, 1, .* hold dates without a time zone"
    ):
        encoded(schema, WHEN)


def test_times_of_day_are_a_circle():
    clock = pd.Series([dt.time(0), dt.time(6), dt.time(12), dt.time(18), dt.time(23, 59, 59, 500000)], dtype=object)
    schema = learn(clock)
    assert schema.feature_names == ["when: time of day (sin)", "when: time of day (cos)"]
    x = encoded(schema, clock)
    np.testing.assert_allclose(x[:4], [[0, 1], [1, 0], [0, -1], [-1, 0]], atol=1e-6)
    np.testing.assert_array_equal(encoded(schema, clock.astype(str)), x)
    assert learn(clock.astype(str)).columns[0].type == "category"  # 10:30 may be a duration or a score
    np.testing.assert_array_equal(encoded(learn(clock.astype(str), when="date"), clock.astype(str)), x)
    assert schema.facts(pd.DataFrame({"when": clock}))[0]["max"] == "23:59:59.500000"
    assert learn([dt.time(8)] * 3).feature_names == schema.feature_names


@pytest.mark.parametrize(
    "values",
    [
        ["01.02.2020", "02.02.2020"],
        ["01/02/2020", "02/02/2020"],
        ["2020-1-2", "2020-1-3"],
        ["2020-02-30", "2020-02-01"],
        ["2020-13-01", "2020-02-01"],
        ["2020/01-02", "2020/01-03"],
        ["2020-W01-1", "2020-W02-1"],
        ["20200101", "20200102"],
        ["2020-01", "2020-02"],
        ["2020-01-01 25:00", "2020-01-01 10:00"],
        ["2020-01-01 10", "2020-01-01 11"],
        ["2020-01-01 10:00+25:00", "2020-01-01 10:00+01:00"],
        ["2020-01-01 ", "2020-01-02 "],
        ["0000-00-00", "2020-01-02"],
        ["\u0662\u0660\u0662\u0660-01-01", "2020-01-02"],
        ["2020-01-01", "soon"],
        ["10:30", "11:30"],
        ["today", "now"],
        pd.Categorical(["2020-01-01", "2020-01-02"]),
    ],
    ids=str,
)
def test_what_is_no_iso_date_stays_a_category(values):
    assert not are_dates(pd.Series(values))
    assert learn(values).columns[0].type == "category"


def test_gaps_do_not_count_and_all_gaps_are_no_date():
    assert learn(["2020-01-01", None, "2020-01-03"]).columns[0].type == "date"
    for empty in (pd.Series([pd.NaT, pd.NaT]), pd.Series([None, None], dtype=object)):
        frame = pd.DataFrame({"when": empty, "x": [1.0, 2.0]})
        for types in ({}, {"when": "date"}):
            assert TableSchema.learn(frame, types, HERE).columns[0].type == "ignored"


def test_types_force_and_keep_out():
    text = WHEN.astype(str)
    assert learn(text, when="category").columns[0].type == "category"
    frame = pd.DataFrame({"when": text, "x": 1.0})
    assert TableSchema.learn(frame, {"when": "ignored"}, HERE).feature_names == ["x"]
    forced = learn(pd.Categorical(text), when="date")
    np.testing.assert_array_equal(encoded(forced, pd.Categorical(text)), features(WHEN))
    with pytest.raises(
        DataError, match=r"'when' should hold dates or times, but not in rows 1 \('soon'\), 2 \('1.5.20'\)"
    ):
        learn(["2020-01-01", "soon", "1.5.20"], when="date")
    with pytest.raises(DataError, match=r"not in rows 0 \(np.int64\(20200101\)\), 1 .*types={'when': 'category'}"):
        learn([20200101, 20200102], when="date")


def test_what_cannot_be_read_at_prediction_is_listed_with_rows():
    schema = learn(WHEN)
    with pytest.raises(DataError, match=r"not in rows 1 \('31.12.2020'\), 3 \('2020-02-30'\) \(counted from 0\)"):
        encoded(schema, ["2020-01-01", "31.12.2020", None, "2020-02-30"])
    with pytest.raises(DataError, match=r"not in rows 0 \(np.float64\(5.0\)\)"):
        encoded(schema, [5.0])
    beyond = pd.Series(np.array(["2020-01-01", "290000-01-01"], dtype="M8[s]"))
    with pytest.raises(DataError, match=r"not in rows 1 \("):
        encoded(schema, beyond)


def test_missing_dates_are_the_means_with_an_indicator():
    gaps = WHEN.where(np.arange(40) % 4 != 1)
    schema = learn(gaps)
    assert schema.feature_names == [*(f"when: {n}" for n in ALL), "when is missing"]
    x = encoded(schema, gaps)
    present = gaps.notna().to_numpy()
    np.testing.assert_array_equal(x[:, -1], ~present)
    np.testing.assert_allclose(x[~present][:, :-1], np.tile(x[present][:, :-1].mean(0), (10, 1)), atol=1e-6)
    np.testing.assert_allclose(x[present][:, :-1], independent(gaps[present]), atol=1e-6)
    assert "missing dates filled with the means, with an indicator column each: when (10)" in schema.notes
    whole = learn(WHEN)  # a gap that the training did not have
    np.testing.assert_allclose(encoded(whole, gaps)[1], encoded(whole, WHEN).mean(0), atol=1e-6)
    np.testing.assert_array_equal(encoded(whole, gaps.astype(object).where(present, None)), encoded(whole, gaps))


def test_only_cycles_that_vary_are_features():
    assert learn(pd.date_range("2020-01-06", periods=5, freq="7D")).feature_names == [f"when: {n}" for n in ALL[:3]]
    yearly = pd.to_datetime([f"{y}-01-01" for y in range(2000, 2010)])
    assert learn(yearly).feature_names == ["when: days", "when: weekday (sin)", "when: weekday (cos)"]
    schema = learn(["2020-01-01"] * 4)
    assert (schema.feature_names, schema.columns[0].note) == (["when: days"], "constant")
    assert encoded(schema, ["2020-01-01", "2020-01-03"])[:, 0].tolist() == [0, 2]
    assert any("1 constant column(s)" in note for note in schema.notes)


def test_moments_a_microsecond_apart_are_told_apart():
    times = pd.to_datetime(["2020-01-01 10:00:00.000001", "2020-01-01 10:00:00.000002"])
    assert features(times)[:, 0].tolist() == [-1, 1]


def test_far_dates_are_read():
    far = [dt.date(1, 1, 1), dt.date(9999, 12, 31)]
    schema = learn(far)
    assert features(far)[:, 0].tolist() == [-1, 1]
    facts = schema.facts(pd.DataFrame({"when": far}))[0]
    assert (facts["min"], facts["max"]) == ("0001-01-01", "9999-12-31")


def test_notes_and_facts_say_what_was_read():
    frame = pd.DataFrame({"when": WHEN.where(WHEN.index != 3), "zone": WHEN.dt.tz_localize("Europe/Berlin"), "x": 1.0})
    schema = TableSchema.learn(frame, None, HERE)
    assert "types found: number: x; date: when, zone" in schema.notes
    read = [
        n for n in schema.notes if n.startswith("column when is read as date: when: days, when: time of year (sin)")
    ]
    assert read[0].endswith("when: time of day (cos), when is missing")
    assert any(n.startswith("column zone is read as zoned date: zone: days") for n in schema.notes)
    assert schema.feature_names[0] == "x"
    when, zone, _ = schema.facts(frame)
    assert when == {
        "name": "when", "type": "date", "missing": 1, "unique": 39, "note": "",
        "min": "2019-12-30T22:15:00", "max": WHEN.max().isoformat(),
    }  # fmt: skip
    assert zone["min"] == "2019-12-30T21:15:00+00:00"
    json.dumps([when, zone], allow_nan=False)


def test_the_schema_goes_through_json_and_older_ones_load():
    frame = pd.DataFrame({"when": WHEN.where(WHEN.index != 3), "x": np.arange(40.0)})
    schema = TableSchema.learn(frame, None, HERE)
    value = json.loads(json.dumps(schema.to_json(), allow_nan=False))
    again = TableSchema.from_json(value)
    assert again == schema
    np.testing.assert_array_equal(again.encode(frame, HERE)["x"], schema.encode(frame, HERE)["x"])
    assert "dates" not in value["columns"][1]  # as it was written before there were dates
    assert set(value["columns"][1]) == {"name", "type", "mean", "scale", "missing", "categories", "note"}


@pytest.mark.parametrize(
    "damage",
    [
        {"kind": "os"},
        {"origin": 1.5},
        {"origin": 2**70},
        {"mean": float("nan")},
        {"scale": 0},
        {"cycles": ["time", "year"]},
        {"cycles": ["month"]},
        {"cycles": None},
        {"fill": [0.0]},
        {"fill": [float("inf")] * 6},
        {"kind": "duration"},
        {"extra": 1},
        None,
        "text",
    ],
    ids=str,
)
def test_damaged_dates_are_refused(damage):
    value = learn(WHEN).to_json()
    column = value["columns"][0]
    column["dates"] = column["dates"] | damage if isinstance(damage, dict) else damage
    with pytest.raises((DataError, TypeError)):
        TableSchema.from_json(value)
    numbers = TableSchema.learn(pd.DataFrame({"x": [1.0, 2.0]}), None, HERE).to_json()
    numbers["columns"][0]["dates"] = learn(WHEN).to_json()["columns"][0]["dates"]
    with pytest.raises(DataError, match="column 'x' of the schema is damaged"):
        TableSchema.from_json(numbers)


def test_only_present_cells_are_learned_from():
    some = DateFeatures.learn(pd.Series(["2020-01-01", None, "2020-01-03"]), "when", HERE)
    assert (some.kind, some.mean, some.scale) == ("date", 1.0, 1.0)


def test_a_net_learns_what_depends_on_the_weekday(tmp_path):
    rng = np.random.default_rng(0)
    when = pd.Series(pd.date_range("2018-01-01", periods=420, freq="D")).sample(
        frac=1, random_state=0, ignore_index=True
    )
    y = np.where(when.dt.day_of_week >= 5, 3.0, -1.0) + rng.normal(scale=0.05, size=420)
    train = pd.DataFrame({"when": when.dt.strftime("%Y-%m-%d"), "y": y})
    train[:300].to_csv(tmp_path / "train.csv", index=False)
    train[300:].to_csv(tmp_path / "test.csv", index=False)
    pd.DataFrame({"when": when, "y": y})[300:].to_parquet(tmp_path / "test.parquet")
    model = MLPRegressor(hidden=(32,), epochs=40, lr=0.02, random_state=0).fit(tmp_path / "train.csv", "y")
    assert model.evaluate(tmp_path / "test.csv", "y")["r2"] > 0.95
    again = load(model.save(tmp_path / "model"))
    predictions = model.predict(tmp_path / "test.csv")
    np.testing.assert_array_equal(again.predict(tmp_path / "test.csv"), predictions)
    np.testing.assert_array_equal(again.predict(tmp_path / "test.parquet"), predictions)
    np.testing.assert_array_equal(again.predict(read_csv(tmp_path / "test.csv")[["when"]]), predictions)
    as_category = MLPRegressor(hidden=(4,), epochs=1, types={"when": "category"}).fit(tmp_path / "train.csv", "y")
    assert as_category.schema_.num_codes == [301]


def test_a_run_shows_dates_and_their_gaps(tmp_path):
    frame = pd.DataFrame({"when": WHEN.where(WHEN.index != 0), "x": np.arange(40.0)})
    model = LinearRegressor(epochs=1, run_dir=str(tmp_path / "run")).fit(frame, np.arange(40.0))
    rows = {i["index"]: i["row"] for i in json.loads((tmp_path / "run/items/items.json").read_text())}
    assert rows[0]["when"] is None
    assert rows[1]["when"] == str(WHEN[1])
    assert "column when is read as date" in (tmp_path / "run/log.txt").read_text()
    facts = json.loads((tmp_path / "run/data.json").read_text())["columns"][0]
    assert facts["min"] == WHEN[1].isoformat()
    assert model.n_features_in_ == 2


def test_dates_of_a_streamed_file_are_the_same(tmp_path):
    frame = pd.DataFrame({"when": WHEN.where(WHEN.index != 3).astype(str), "y": np.arange(40.0)})
    frame.to_csv(tmp_path / "t.csv", index=False)
    one, two = (
        LinearRegressor(epochs=2, random_state=0, stream=how).fit(tmp_path / "t.csv", "y")
        for how in ("never", "always")
    )
    assert one.schema_ == two.schema_
    assert one.schema_.columns[0].type == "date"
    np.testing.assert_array_equal(one.predict(tmp_path / "t.csv"), two.predict(tmp_path / "t.csv"))
