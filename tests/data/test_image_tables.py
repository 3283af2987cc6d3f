"""Tables that name images: which column has the paths, what is missing, and a fit from one."""

import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from konspekt import ImageClassifier, load
from konspekt.cli.app import main
from konspekt.core.errors import DataError
from konspekt.data.image_tables import images_listed, is_list_of_images
from konspekt.data.readers import ImageReader

HERE = "Here"


def small(**params):
    return ImageClassifier(**{"arch": "mlp(hidden=(4,))", "epochs": 1} | params)


@pytest.fixture
def table(tmp_path):
    """A csv of eight pictures in a folder beside it."""
    draw = np.random.default_rng(0)
    (tmp_path / "pictures").mkdir()
    rows = []
    for i in range(8):
        name = f"pictures/{i}.png"
        Image.fromarray(draw.integers(0, 256, (6, 7), dtype=np.uint8)).save(tmp_path / name)
        rows.append({"id": i, "photo": name, "kind": "ab"[i % 2], "size": i / 2, "weight": -i})
    pd.DataFrame(rows).to_csv(tmp_path / "t.csv", index=False)
    return tmp_path / "t.csv"


def paths(items):
    return [str(item.thing) for item in items]


def test_paths_start_at_the_file(table, monkeypatch):
    expected = [str(table.parent / f"pictures/{i}.png") for i in range(8)]
    for X in (table, str(table)):
        items, y = images_listed(X, "kind", HERE, truth=True)
        assert paths(items) == [item.name for item in items] == expected
        assert [item.row for item in items] == list(range(8))
        assert y.tolist() == ["a", "b"] * 4
    frame = pd.read_csv(table)
    frame.to_parquet(table.with_suffix(".parquet"))
    assert paths(images_listed(table.with_suffix(".parquet"), "kind", HERE, truth=True)[0]) == expected
    absolute = frame.assign(photo=expected)
    absolute.to_csv(table, index=False)
    assert paths(images_listed(table, None, HERE, truth=False)[0]) == expected
    monkeypatch.chdir(table.parent)  # of a DataFrame they start where the process is
    items, y = images_listed(frame, ("size", "weight"), HERE, truth=True)
    assert paths(items) == [f"pictures/{i}.png" for i in range(8)]
    assert y.columns.tolist() == ["size", "weight"]


def test_what_is_no_table_of_paths_stays_as_it_is(tmp_path):
    pixels = pd.DataFrame(np.zeros((3, 4)))
    for X in (pixels, [tmp_path / "a.png"], np.zeros((3, 2, 2)), tmp_path, "a.png"):
        assert not is_list_of_images(X)
        assert images_listed(X, "y", HERE, truth=True)[0] is X


@pytest.mark.parametrize(
    ("columns", "chosen"),
    [
        ({"photo": ["a.png", "b.JPG"], "place": ["Paris", "Rome"]}, "photo"),
        ({"image": ["a.png", "b.jpg"], "mask": ["c.png", "d.png"]}, "image"),
        ({"File Name": ["a", "b"], "place": ["Paris", "Rome"]}, "File Name"),
        ({"image_path": ["a.png", "b"], "place": ["Paris", "Rome"]}, "image_path"),
        ({"path": ["a", "b"], "thumb": ["c.png", "d.png"]}, "thumb"),
        ({"photo": ["a.png", None]}, "photo"),
    ],
)
def test_the_column_of_paths(columns, chosen):
    items, _ = images_listed(pd.DataFrame(columns), None, HERE, truth=False)
    assert [item.name for item in items] == [name or "(no path)" for name in columns[chosen]]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"front": ["a.png"], "back": ["b.png"]}, r"in the table the columns 'front' and 'back' could be the paths"),
        (
            {"image": ["a.png"], "path": ["b.png"]},
            r"the columns 'image' and 'path' could be.* rename the one .* 'path'",
        ),
        (
            {"place": ["Rome"], "n": [1]},
            r"the table has no column of paths of images: a column named 'path'.*place, n$",
        ),
    ],
)
def test_columns_that_are_not_clear(columns, message):
    with pytest.raises(DataError, match="Here: .*" + message):
        images_listed(pd.DataFrame(columns), None, HERE, truth=False)


def test_targets_are_named(table):
    with pytest.raises(
        DataError,
        match=r"y is None; name the column of .*t\.csv that holds it, y=COLUMN .*: id, photo, kind, size, weight",
    ):
        small().fit(table)
    with pytest.raises(DataError, match=r"t\.csv has no column 'kin'; did you mean 'kind'"):
        small().fit(table, "kin")
    with pytest.raises(DataError, match="columns named twice: a; rename them"):
        images_listed(pd.DataFrame([["x.png", 1]], columns=["a", "a"]), None, HERE, truth=False)
    with pytest.raises(DataError, match=r"gone\.csv: there is no such file"):
        small().fit(table.with_name("gone.csv"), "kind")
    with pytest.raises(DataError, match="X has 8 images and y has 7 labels"):
        small().fit(table, list("abababa"))


@pytest.mark.parametrize("stream", ["never", "always"])
def test_a_table_teaches_what_its_files_teach(table, stream):
    files = sorted(table.parent.glob("pictures/*.png"))
    model = small(stream=stream).fit(table, "kind")
    other = small(stream=stream).fit(files, list("abababab"))
    np.testing.assert_array_equal(model.predict_proba(table), other.predict_proba(files))
    assert model.predict_frame(table)["item"].tolist() == [str(f) for f in files]
    assert model.evaluate(table, "kind") == other.evaluate(files, list("abababab"))
    held = small(stream=stream).fit(table, "kind", validation=table)
    assert held.history_[-1]["val_loss"] == pytest.approx(held.evaluate(table, "kind")["loss"])


@pytest.mark.parametrize("stream", ["never", "always"])
def test_what_cannot_be_read_is_listed_by_rows_or_left_out(table, stream, tmp_path):
    frame = pd.read_csv(table)
    frame.loc[3, "photo"] = "pictures/gone.png"
    frame.loc[5, "photo"] = None
    frame.to_csv(table, index=False)
    (table.parent / "pictures" / "6.png").write_text("no picture")
    with pytest.raises(DataError) as error:
        small(stream=stream).fit(table, "kind")
    lines = str(error.value).splitlines()
    folder = table.parent / "pictures"
    assert lines[:3] == [
        "3 of 8 images cannot be used:",
        f"  row 3, {folder / 'gone.png'}: the file does not exist",
        "  row 5, (no path): the path is missing",
    ]
    assert lines[3].startswith(f"  row 6, {folder / '6.png'}: not an image")
    run = tmp_path / "run"
    model = small(stream=stream, on_bad="skip", run_dir=str(run)).fit(table, "kind")
    encoded = model.encode(table, "kind", truth=True, on_bad="skip")
    assert encoded.y.tolist() == ["a", "b", "a", "a", "b"]
    skipped = json.loads((run / "data.json").read_text())["skipped"]
    assert [(s["row"], s["reason"][:16]) for s in skipped] == [
        ("3", "the file does no"),
        ("5", "the path is miss"),
        ("6", "not an image, or"),
    ]
    assert [p.name for p in (run / "quarantine").glob("*.png")] == ["00003-6.png"]


def test_several_targets_keep_their_names(table):
    class Numbers:
        image_size, on_bad, stream = None, "raise", "never"

    opened = ImageReader().open(Numbers(), table, ("size", "weight"))
    assert opened.y.columns.tolist() == ["size", "weight"]
    assert opened.y.to_numpy().tolist() == [[i / 2, -i] for i in range(8)]


def test_labels_keep_their_leading_zeros(table):
    frame = pd.read_csv(table).assign(kind=["007", "008"] * 4)
    frame.to_csv(table, index=False)
    assert small().fit(table, "kind").classes_.tolist() == ["007", "008"]


def test_from_the_command_line(table, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_WAIT_POLICY", "passive")
    words = ["fit", "image-classifier", "data=t.csv", "target=kind", "arch=mlp", "epochs=1", "run_dir=run"]
    with pytest.raises(SystemExit) as end:
        main(words)
    assert end.value.code == 0, capsys.readouterr().err
    with pytest.raises(SystemExit) as end:
        main(["predict", "run", "t.csv", "--out", "p.csv"])
    assert end.value.code == 0, capsys.readouterr().err
    found = pd.read_csv("p.csv")
    assert found["item"].tolist() == [f"pictures/{i}.png" for i in range(8)]
    assert found["prediction"].tolist() == load("run/model").predict("t.csv").tolist()
