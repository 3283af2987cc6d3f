"""Fits on streamed data: the same weights as on resident data, the same after a kill, and what goes wrong said."""

import json
import multiprocessing
import os
import signal

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from konspekt.core import ConfigError, DataError, ResourceError
from konspekt.data import stream_tables, streams
from konspekt.tabular import LinearRegressor, MLPClassifier, MLPRegressor
from konspekt.vision import ImageClassifier


@pytest.fixture
def table(tmp_path, monkeypatch):
    monkeypatch.setattr(stream_tables, "CELLS", 5 * 17)  # blocks of 17 rows
    draw = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "a": draw.normal(1e6, 1, 90),
            "gaps": np.where(draw.random(90) < 0.1, np.nan, draw.normal(size=90)),
            "kind": draw.choice(["red", "blue", "green"], 90),
            "size": draw.normal(size=90),
            "y": draw.choice(["no", "yes"], 90),
        }
    )
    frame.to_csv(tmp_path / "t.csv", index=False)
    return tmp_path / "t.csv"


@pytest.fixture
def pictures(tmp_path):
    draw = np.random.default_rng(0)
    for i in range(24):
        path = tmp_path / "pictures" / "ab"[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw.integers(0, 256, (28 + i % 3, 30, 3), dtype=np.uint8)).save(path)
    return tmp_path / "pictures"


def classifier(run, **params):
    given = {"hidden": (6,), "epochs": 3, "batch_size": 8, "validation_fraction": 0.2, "checkpoint_every": 2}
    return MLPClassifier(run_dir=None if run is None else str(run), **given | params)


def of_images(run, **params):
    given = {"arch": "mlp(hidden=(8,))", "image_size": 16, "augment": ("shift",), "epochs": 2, "batch_size": 5}
    return ImageClassifier(run_dir=str(run), validation_fraction=0.25, on_bad="skip", **given | params)


def same_runs(one, other, model_bytes):
    assert model_bytes(one) == model_bytes(other)
    for name in ("data.json", "validation.npz", "items/items.json"):
        assert (one / name).read_bytes() == (other / name).read_bytes(), name
    assert json.loads((one / "result.json").read_text())["scores"] == json.loads((other / "result.json").read_text())["scores"]  # fmt: skip
    assert not list(other.glob("stream*"))


def test_tables_give_the_same_weights_as_in_memory(table, tmp_path, model_bytes):
    classifier(tmp_path / "whole", stream="never").fit(table, "y")
    fitted = classifier(tmp_path / "streamed", stream="always").fit(table, "y")
    same_runs(tmp_path / "whole", tmp_path / "streamed", model_bytes)
    assert "data resident on cpu" in (tmp_path / "whole" / "log.txt").read_text()
    assert "data streamed to cpu by the training process" in (tmp_path / "streamed" / "log.txt").read_text()
    assert fitted.feature_names_in_.tolist() == ["a", "gaps", "kind", "size"]
    assert len(fitted.predict(table.parent / "t.csv")) == 90


def test_regression_of_two_targets_and_y_beside_the_file(table, tmp_path, model_bytes):
    for name, stream in (("whole", "never"), ("streamed", "always")):
        MLPRegressor(hidden=(4,), epochs=2, stream=stream, run_dir=str(tmp_path / name)).fit(table, ("a", "size"))
    same_runs(tmp_path / "whole", tmp_path / "streamed", model_bytes)
    y = np.arange(90) % 3
    one, other = (classifier(None, stream=s).fit(table, y) for s in ("never", "always"))
    assert [h["loss"] for h in one.history_] == [h["loss"] for h in other.history_]
    with pytest.raises(DataError, match="X has 90 rows and y has 89"):
        classifier(None, stream="always").fit(table, y[:-1])
    with pytest.raises(DataError, match="requires y to be passed"):
        classifier(None, stream="always").fit(table)


def test_images_by_two_processes_give_the_same_weights_as_in_memory(pictures, tmp_path, model_bytes):
    (pictures / "a" / "bad.png").write_bytes(b"no image")
    of_images(tmp_path / "whole").fit(pictures)
    of_images(tmp_path / "streamed", stream="always", workers=2).fit(pictures)
    same_runs(tmp_path / "whole", tmp_path / "streamed", model_bytes)
    assert "data streamed to cpu by 2 workers" in (tmp_path / "streamed" / "log.txt").read_text()
    assert multiprocessing.active_children() == []
    of_images(tmp_path / "alone", stream="always").fit(pictures)
    same_runs(tmp_path / "whole", tmp_path / "alone", model_bytes)


def test_after_a_kill_it_goes_on_to_the_bit_streamed_or_not(table, tmp_path, killed, die, model_bytes):
    classifier(tmp_path / "whole").fit(table, "y")
    killed(lambda: classifier(tmp_path / "cut", stream="always").fit(table, "y", callbacks=[die(13)]))
    assert (tmp_path / "cut" / "stream").is_dir()  # what a kill leaves
    classifier(tmp_path / "cut", stream="always").fit(table, "y", resume=tmp_path / "cut")
    assert model_bytes(tmp_path / "cut") == model_bytes(tmp_path / "whole")
    assert not (tmp_path / "cut" / "stream").exists()


def test_what_was_begun_in_memory_may_go_on_from_the_disk(table, tmp_path, killed, die, model_bytes, monkeypatch):
    classifier(tmp_path / "whole").fit(table, "y")
    killed(lambda: classifier(tmp_path / "cut").fit(table, "y", callbacks=[die(13)]))
    monkeypatch.setattr(streams, "_free_memory", lambda: 10)  # less is free than when it began
    classifier(tmp_path / "cut").fit(table, "y", resume=tmp_path / "cut")
    assert model_bytes(tmp_path / "cut") == model_bytes(tmp_path / "whole")
    other = pd.read_csv(table)
    other.loc[3, "size"] += 1e-3
    other.to_csv(table, index=False)
    with pytest.raises(DataError, match="was begun with other data"):
        classifier(tmp_path / "cut", epochs=4).fit(table, "y", resume=tmp_path / "cut")


def test_a_reading_process_that_dies_ends_the_fit_with_advice(pictures, tmp_path, model_bytes):
    of_images(tmp_path / "whole").fit(pictures)

    def kill(moment):
        if (moment.event, moment.step) == ("step", 5):
            os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL)

    message = r"a process that reads data \(workers\) has died: .* `konspekt resume RUN` .*workers=0"
    fit = of_images(tmp_path / "cut", stream="always", workers=1, checkpoint_every=1, epochs=2)
    with pytest.raises(ResourceError, match=message) as error:
        fit.fit(pictures, callbacks=[kill])
    assert error.value.__cause__ is None
    assert multiprocessing.active_children() == []
    resumed = of_images(tmp_path / "cut", stream="always", checkpoint_every=1)
    resumed.fit(pictures, resume=tmp_path / "cut")  # with no process beside it
    assert model_bytes(tmp_path / "cut") == model_bytes(tmp_path / "whole")


def test_a_file_that_goes_bad_ends_the_fit_with_its_name(pictures, tmp_path):
    def spoil(moment):
        (pictures / "a" / "0.png").write_bytes(b"no image")

    with pytest.raises(DataError, match=r"a.0\.png: not an image, or damaged.*bring it back as it was, and resume"):
        of_images(tmp_path / "run", stream="always").fit(pictures, callbacks=[spoil])


def test_what_cannot_be_streamed_is_refused(table):
    with pytest.raises(ConfigError, match="stream='always', but these data cannot be streamed: csv files and files of"):
        classifier(None, stream="always").fit(np.eye(4), [0, 1, 0, 1])
    for estimator in (classifier(None, stream="always", batch_size=None), LinearRegressor(stream="always", batch_size=None)):  # fmt: skip
        with pytest.raises(ConfigError, match="cannot be streamed: all items are in one batch: give batch_size"):
            estimator.fit(table, "size")


def test_columns_of_which_the_user_is_wrong(table):
    with pytest.raises(ConfigError, match="types names no column 'sise'; did you mean 'size'"):
        classifier(None, stream="always", types={"sise": "ignored"}).fit(table, "y")
    with pytest.raises(DataError, match=r"t\.csv has no column 'yy'; did you mean 'y'"):
        classifier(None, stream="always").fit(table, "yy")
