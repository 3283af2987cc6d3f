"""Readers: what a fit learns of X, from which rows, and how later data are read in the same way."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from konspekt import ImageClassifier, LinearRegressor, MLPClassifier, load
from konspekt.core.errors import ConfigError, DataError
from konspekt.data.readers import ImageReader, TableReader, source_of
from konspekt.data.sets import load as load_set


@pytest.fixture
def frame():
    rng = np.random.default_rng(0)
    return pd.DataFrame({"a": rng.normal(size=20), "b": rng.normal(size=20), "k": ["u", "v"] * 10})


LABELS = np.array(["p", "q"] * 10)


def tiny(**params):
    return MLPClassifier(**{"hidden": (4,), "epochs": 1} | params)


def opened(X, y, **params):
    return TableReader().open(tiny(**params), X, y)


# ------------------------------------------------------------------------------------------------------------- tables


def test_a_table_is_opened_from_a_frame_a_file_or_an_array(frame, tmp_path):
    table = frame.assign(y=LABELS)
    table.to_csv(tmp_path / "t.csv", index=False)
    for X, y in ((frame, LABELS), (table, "y"), (tmp_path / "t.csv", "y"), (str(tmp_path / "t.csv"), "y")):
        found = opened(X, y)
        assert (found.total, list(found.y), found.skipped) == (20, list(LABELS), [])
        pd.testing.assert_frame_equal(found.data.astype({"k": str}), frame.astype({"k": str}))
    assert opened(frame[["a", "b"]].to_numpy(), LABELS).data.dtype == np.float64


@pytest.mark.parametrize(
    "convert",
    [
        lambda X: X.tolist(),
        lambda X: torch.from_numpy(X),
        lambda X: torch.from_numpy(X).requires_grad_(),
        lambda X: torch.from_numpy(X).bfloat16(),
        lambda X: torch.from_numpy((X * 10).astype(np.int32)),
        lambda X: X.astype(np.float16),
        lambda X: X.astype(object),
        lambda X: np.asfortranarray(X)[::-1],
        lambda X: np.ma.masked_array(X),
        memoryview,
    ],
    ids=["list", "tensor", "grad", "bfloat16", "int tensor", "float16", "object", "turned", "unmasked", "memoryview"],
)
def test_arrays_of_any_kind_are_taken(convert):
    X = np.random.default_rng(0).normal(size=(20, 2))
    model = tiny().fit(convert(X), LABELS)
    assert model.predict_proba(convert(X)).shape == (20, 2)


def test_statistics_come_from_the_training_rows_only(frame):
    X = frame.assign(k=["u"] * 20)
    seen = tiny(validation_fraction=0.25, random_state=3).fit(X, LABELS)
    # Whatever the held-out rows hold, the schema and the weights stay: find them by what changes the validation loss.
    changed = []
    for row in range(20):
        other = X.copy()
        other.loc[row, "a"] = 1e6
        changed.append(tiny(validation_fraction=0.25, random_state=3).fit(other, LABELS))
    same = [m.schema_ == seen.schema_ for m in changed]
    assert sum(same) == 5
    for model, is_same in zip(changed, same, strict=True):
        same_weights = torch.equal(model.model_.layers[0].weight, seen.model_.layers[0].weight)
        assert same_weights == is_same
        assert (model.history_[-1]["val_loss"] != seen.history_[-1]["val_loss"]) or not is_same


def test_held_out_rows_bring_no_categories_no_indicators_and_no_target_statistics(frame):
    y = np.arange(20.0)
    model = LinearRegressor(epochs=1, validation_fraction=0.25).fit(frame, y)
    for row in range(20):
        other, targets = frame.copy(), y.copy()
        other.loc[row, "k"], other.loc[row, "b"], targets[row] = "only here", None, 1e6
        again = LinearRegressor(epochs=1, validation_fraction=0.25).fit(other, targets)
        learned = "only here" in again.schema_.categories[0].categories
        assert learned == ("b is missing" in again.schema_.feature_names)
        assert learned == (again.targets_.mean[0] > 1000)
        if not learned:
            assert again.schema_ == model.schema_
            np.testing.assert_array_equal(again.targets_.mean, model.targets_.mean)


def test_validation_given_beside_x_teaches_nothing(frame):
    plain = tiny().fit(frame, LABELS)
    strange = frame.assign(a=1e6, k="new")
    model = tiny().fit(frame, LABELS, validation=(strange, LABELS))
    assert model.schema_ == plain.schema_
    np.testing.assert_array_equal(model.predict_proba(frame), plain.predict_proba(frame))
    assert model.history_[-1]["val_accuracy"] == 0.5


def test_learned_says_what_it_found(frame):
    estimator = tiny()
    reader = TableReader()
    learned = reader.learn(estimator, reader.open(estimator, frame, LABELS), np.arange(20))
    assert set(learned.fields) == {"x", "codes"}
    facts = learned.facts()
    assert facts["rows"] == 20
    assert [c["name"] for c in facts["columns"]] == ["a", "b", "k"]
    assert learned.show(3) == {
        "row": {"a": float(f"{frame['a'][3]:.6g}"), "b": float(f"{frame['b'][3]:.6g}"), "k": "v"}
    }
    assert TableReader().schema(json.loads(json.dumps(learned.schema.to_json()))) == learned.schema


def test_items_of_the_run_show_gaps_and_odd_values(tmp_path):
    table = pd.DataFrame(
        {"n": [1, None, 3, 4], "t": pd.array([True, None, False, True], dtype="boolean"), "k": ["a", None, "b", "a"]}
    )
    tiny(run_dir=str(tmp_path / "run")).fit(table, [0, 1, 0, 1])
    items = json.loads((tmp_path / "run/items/items.json").read_text())
    rows = {i["index"]: i["row"] for i in items}
    assert rows[0] == {"n": 1, "t": True, "k": "a"}
    assert rows[1]["n"] is None
    assert rows[1]["k"] is None


def test_encode_asks_for_the_truth_only_where_it_is_needed(frame):
    model = tiny().fit(frame, LABELS)
    assert set(model.encode(frame).fields) == {"x", "codes"}
    assert model.encode(frame, LABELS, truth=True).fields["y"].tolist() == [0, 1] * 10
    with pytest.raises(DataError, match="MLPClassifier: the true y is needed here: give y, or the name of its column"):
        model.evaluate(frame)
    with pytest.raises(DataError, match="X has 20 rows and y has 19; they must be as many"):
        model.evaluate(frame, LABELS[:-1])
    with pytest.raises(DataError, match="y must hold one value a row, got a single int"):
        model.evaluate(frame, 1)


def test_a_file_may_hold_more_and_in_another_order(frame, tmp_path):
    model = tiny().fit(frame, LABELS)
    frame.assign(y=LABELS, id=range(20))[["y", "k", "id", "b", "a"]].to_csv(tmp_path / "t.csv", index=False)
    np.testing.assert_allclose(model.predict_proba(tmp_path / "t.csv"), model.predict_proba(frame), rtol=1e-12)
    assert model.evaluate(tmp_path / "t.csv", "y") == pytest.approx(model.evaluate(frame, LABELS))
    frame[["a"]].to_csv(tmp_path / "few.csv", index=False)
    with pytest.raises(DataError, match="columns that the model was trained on are missing: b, k; the file has: a"):
        model.predict(tmp_path / "few.csv")


def test_a_frame_must_have_the_columns_in_their_order(frame):
    model = tiny().fit(frame, LABELS)
    with pytest.raises(DataError, match=r"(?s)yet now missing:\n- b\n- k$"):
        model.predict(frame[["a"]])
    with pytest.raises(DataError, match="must be in the same order as they were in fit"):
        model.predict(frame[["b", "a", "k"]])
    with pytest.raises(DataError, match=r"(?s)unseen at fit time:\n- more$"):
        model.predict(frame.assign(more=1))


def test_frames_with_numbered_columns_must_keep_their_order(frame, tmp_path):
    numbered = frame[["a", "b"]].set_axis([0, 1], axis=1)
    model = tiny().fit(numbered, LABELS)
    for known in (model, load(model.save(tmp_path / "model"))):
        known.predict(numbered)
        with pytest.raises(DataError, match="not those of the training in their order: was '0', now '1'"):
            known.predict(numbered[[1, 0]])


def test_a_model_of_an_array_reads_a_file_by_places(frame, tmp_path):
    X = frame[["a", "b"]].to_numpy()
    model = tiny().fit(X, LABELS)
    frame[["a", "b"]].to_csv(tmp_path / "t.csv", index=False)
    np.testing.assert_allclose(model.predict_proba(tmp_path / "t.csv"), model.predict_proba(X), rtol=1e-12)
    frame.to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(DataError, match="X has 3 features, but MLPClassifier is expecting 2 features"):
        model.predict(tmp_path / "t.csv")


def test_arrays_and_frames_may_be_mixed_with_scikit_learns_warning(frame):
    X = frame[["a", "b"]]
    by_frame, by_array = tiny().fit(X, LABELS), tiny().fit(X.to_numpy(), LABELS)
    with pytest.warns(UserWarning, match="X does not have valid feature names"):
        one = by_frame.predict_proba(X.to_numpy())
    with pytest.warns(UserWarning, match="was fitted without feature names"):
        two = by_array.predict_proba(X)
    np.testing.assert_array_equal(one, two)


# ------------------------------------------------------------------------------------------------------------- images


@pytest.fixture
def pictures(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for i in range(4):
            pixels = rng.integers(0, 256, size=(6, 6), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "pets" / name / f"{i}.png")
    return tmp_path / "pets"


def small(**params):
    return ImageClassifier(**{"arch": "mlp(hidden=(4,))", "epochs": 1} | params)


def test_a_folder_brings_its_labels(pictures):
    found = ImageReader().open(small(), pictures, None)
    assert found.total == 8
    assert found.y.tolist() == ["cat"] * 4 + ["dog"] * 4
    other = ImageReader().open(small(), pictures, np.arange(8))
    assert other.y.tolist() == list(range(8))


def test_everything_else_needs_labels(pictures):
    paths = sorted(pictures.rglob("*.png"))
    with pytest.raises(
        DataError, match=r"ImageClassifier: requires y to be passed.*only folders and idx files bring labels"
    ):
        small().fit(paths)
    with pytest.raises(DataError, match="X has 8 images and y has 7 labels; they must be as many"):
        small().fit(paths, [0, 1] * 3 + [0])
    with pytest.raises(
        DataError, match=r"y='kind': images have no column of that name; .*, or leave y \(target=\) out"
    ):
        small().fit(pictures, "kind")
    with pytest.raises(DataError, match="y must hold one value a row, got a single int"):
        small().fit(paths, 3)
    with pytest.raises(DataError, match="there is 1 sample only"):
        small().fit(paths[:1], [0])


def test_labels_follow_the_images_that_are_left(pictures):
    paths = sorted(pictures.rglob("*.png"))
    paths[2].write_text("no picture")
    labels = np.array(["a", "b"] * 4)
    model = small(on_bad="skip").fit([str(p) for p in paths], labels)
    encoded = model.encode(paths, labels, truth=True, on_bad="skip")
    assert encoded.y.tolist() == np.delete(labels, 2).tolist()
    assert encoded.names == [str(p) for i, p in enumerate(paths) if i != 2]
    assert [s["item"] for s in encoded.skipped] == [str(paths[2])]
    with pytest.raises(DataError, match=r"1 of 8 images cannot be used:\n.*2\.png: "):
        model.predict(paths)


def test_images_that_are_all_the_same_teach_nothing(pictures):
    same = np.full((6, 8, 8), 7, dtype=np.uint8)
    message = "all 6 images are the same, pixel for pixel, such as image 0 and image 1: there is nothing to learn"
    with pytest.raises(DataError, match=message):
        small().fit(same, [0, 1] * 3)
    same[5, 0, 0] = 8
    assert small().fit(same, [0, 1] * 3).schema_.mean[0] > 7
    for path in pictures.rglob("*.png"):
        Image.new("L", (6, 6), 9).save(path)
    for stream in ("never", "always"):
        with pytest.raises(DataError, match=r"all 8 images are the same, pixel for pixel, such as cat/0\.png"):
            small(stream=stream).fit(pictures)
    # One channel may be constant.
    colours = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), dtype=np.uint8)
    colours[..., 1] = 0
    assert small().fit(colours, [0, 1] * 3).schema_.std[1] == 1.0


def test_classes_that_vanish_are_said(pictures, tmp_path):
    (pictures / "cow").mkdir()
    (pictures / "eel").mkdir()
    (pictures / "eel" / "0.png").write_text("no picture")
    with pytest.raises(DataError, match=r'1 of the 4 class folders in .* hold no images: cow.*on_bad="skip"'):
        small().fit(pictures)
    for stream in ("never", "always"):
        model = small(on_bad="skip", stream=stream, run_dir=str(tmp_path / stream)).fit(pictures)
        assert model.classes_.tolist() == ["cat", "dog"]
        skipped = json.loads((tmp_path / stream / "data.json").read_text())["skipped"]
        assert [s["item"] for s in skipped] == ["cow/", "eel/0.png"]
        assert skipped[0]["reason"] == "the class folder holds no images, so there is no such class"
        assert "no image is left of the classes cow, eel" in (tmp_path / stream / "log.txt").read_text()


def test_channels_of_the_estimator(pictures):
    grey = np.random.default_rng(0).integers(0, 256, (8, 6, 6), dtype=np.uint8)
    y = [0, 1] * 4
    model = small(channels=3).fit(grey, y)
    assert (model.schema_.shape, model.schema_.convert) == ((3, 6, 6), True)
    colour = np.stack([grey] * 3, axis=-1)
    np.testing.assert_array_equal(model.predict_proba(grey), model.predict_proba(colour))
    assert model.reader.schema(model.schema_.to_json()) == model.schema_
    for stream in ("never", "always"):
        found = small(channels=3, stream=stream).fit(pictures)
        assert found.schema_.shape == (3, 6, 6)
        assert len(set(found.schema_.mean)) == 1
        assert len(found.predict(grey)) == 8
    with pytest.raises(ConfigError, match=r"channels must be .*, got 2"):
        small(channels=2).fit(grey, y)


def test_an_estimator_that_needs_no_labels_asks_for_none(pictures):
    class Unsupervised:
        image_size, on_bad, stream, supervised = None, "raise", "never", False

    for X in (pictures, sorted(pictures.rglob("*.png"))):
        found = ImageReader().open(Unsupervised(), X, None)
        assert (found.total, found.y) == (8, None)


def test_channels_are_measured_on_the_training_images_only():
    images = np.full((10, 8, 8), 100, dtype=np.uint8)
    images[:, 0, 0] = np.arange(100, 110)
    y = [0, 1] * 5
    plain = small(validation_fraction=0.2).fit(images, y)
    kept = 0
    for item in range(10):
        other = images.copy()
        other[item] = 255
        kept += small(validation_fraction=0.2).fit(other, y).schema_ == plain.schema_
    assert kept == 2


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_what_the_report_shows_is_a_picture(dtype):
    images = (np.random.default_rng(0).random((6, 5, 7, 3)) * 255).astype(dtype)
    estimator, reader = small(), ImageReader()
    learned = reader.learn(estimator, reader.open(estimator, images, [0, 1] * 3), np.arange(6))
    shown = learned.show(2)
    assert (shown["image"].dtype, shown["image"].shape, shown["name"]) == (np.uint8, (5, 7, 3), "image 2")
    if dtype == np.uint8:
        np.testing.assert_array_equal(shown["image"], images[2])
    else:
        assert (shown["image"].min(), shown["image"].max()) == (0, 255)


# ------------------------------------------------------------------------------------------------------ where it is from


def facts(**changed):
    return {"source": "t.csv", "kind": "path", "target": None, "validation": None} | changed


def test_the_source_of_data():
    arrays = np.zeros((3, 2)), np.zeros(3)
    assert source_of(load_set("iris"), None) == facts(source="iris", kind="set")
    assert source_of(Path("t.csv"), "y") == facts(target="y")
    assert source_of("t.csv", ("p", "q")) == facts(target=["p", "q"])
    assert source_of("t.csv", arrays)["target"] is None
    assert source_of(*arrays) == facts(source="ndarray 3x2", kind="memory")
    assert source_of([1, 2], [0, 1]) == facts(source="list", kind="memory")
    assert source_of("t.csv", "y", Path("v.csv")) == facts(target="y", validation="v.csv")
    assert source_of("t.csv", "y", load_set("iris")) == facts(target="y", validation="iris")
    assert source_of("t.csv", "y", 0.25) == facts(target="y", validation=0.25)
    # A run whose validation data only the caller has cannot be found again.
    assert source_of("t.csv", "y", arrays)["kind"] == "memory"
