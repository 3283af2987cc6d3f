"""TensorBoard's event files, read back by tensorboard's own reader."""

import sys

import pytest
from sklearn.datasets import load_iris

from konspekt import MLPClassifier
from konspekt.core import ConfigError

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of tensorboard's own imports


def scalars(folder):
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = reader.EventAccumulator(str(folder))
    events.Reload()
    return {name: [(e.step, e.value) for e in events.Scalars(name)] for name in events.Tags()["scalars"]}


def test_epochs_and_steps_are_written_and_read_back(tmp_path):
    X, y = load_iris(return_X_y=True)
    run = tmp_path / "run"
    model = MLPClassifier(
        epochs=30, logs=("tensorboard",), run_dir=str(run), validation_fraction=0.2, running_risk=0.2
    ).fit(X, y)
    found = scalars(run / "tensorboard")
    wanted = [(r["step"], pytest.approx(r["val_loss"], rel=1e-6)) for r in model.history_]
    assert found["val_loss"] == wanted
    assert [s for s, _ in found["loss_step"]] == [50, 100]
    assert [s for s, _ in found["risk_step"]] == [50, 100]
    assert any(name.startswith("grad_norms/model.layers.0") for name in found)


def test_a_resumed_run_takes_back_what_came_later(tmp_path):
    X, y = load_iris(return_X_y=True)
    settings = {"logs": ("tensorboard",), "run_dir": str(tmp_path / "run"), "checkpoint_every": 5}

    def stop(moment):
        if moment.step == 14:
            raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        MLPClassifier(epochs=6, **settings).fit(X, y, callbacks=[stop])
    model = MLPClassifier(epochs=6, **settings).fit(X, y, resume=tmp_path / "run")
    steps = [s for s, _ in scalars(tmp_path / "run" / "tensorboard")["loss"]]
    assert steps == [r["step"] for r in model.history_]


def test_without_a_run_folder_or_the_package(tmp_path, monkeypatch):
    X, y = load_iris(return_X_y=True)
    with pytest.raises(ConfigError, match=r"logs=\('tensorboard',\) are written into the run folder: give run_dir"):
        MLPClassifier(logs=("tensorboard",)).fit(X, y)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ConfigError, match=r"needs the package tensorboard: pip install 'konspekt\[log\]'"):
        MLPClassifier(logs=("tensorboard",), run_dir=str(tmp_path / "run")).fit(X, y)
