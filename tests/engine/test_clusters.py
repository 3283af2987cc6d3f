"""Fits on a Ray cluster. The local cluster takes half a minute to start, so that test is slow."""

import sys

import pytest
import torch
from sklearn.datasets import load_iris

from konspekt import MLPClassifier
from konspekt.core import ConfigError, DivergedError
from konspekt.engine.clusters import processes_of


@pytest.mark.parametrize(("text", "count"), [("local", None), ("ray", 0), ("ray(processes=3)", 3)])
def test_a_backend_is_read(text, count):
    assert processes_of(text, "here") == count


@pytest.mark.parametrize(
    "text", ["slurm", "local(processes=2)", "ray(workers=2)", "ray(processes=-1)", "ray(processes=True)"]
)
def test_what_is_no_backend_is_refused(text):
    with pytest.raises(ConfigError, match=r"here: backend must be 'local', 'ray' or 'ray\(processes=N\)', got"):
        processes_of(text, "here")


def test_without_ray_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    X, y = load_iris(return_X_y=True)
    with pytest.raises(ConfigError, match=r"needs the package ray: pip install 'konspekt\[ray\]'"):
        MLPClassifier(backend="ray").fit(X, y)
    with pytest.raises(ConfigError, match="callbacks cannot go to a cluster"):
        MLPClassifier(backend="ray").fit(X, y, callbacks=[print])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_two_processes_on_a_local_cluster_do_what_one_does():
    pytest.importorskip("ray", reason="Ray is not installed: pip install -e '.[ray]'")
    X, y = load_iris(return_X_y=True)
    settings = {"epochs": 3, "batch_size": 31, "random_state": 3, "validation_fraction": 0.2, "device": "cpu"}
    alone = MLPClassifier(**settings).fit(X, y)
    together = MLPClassifier(**settings, backend="ray(processes=2)").fit(X, y)
    for one, other in zip(alone.model_.parameters(), together.model_.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
    assert together.n_iter_ == 3
    with pytest.raises(DivergedError, match="of 2"):
        MLPClassifier(**(settings | {"lr": 1e30, "optimizer": "sgd"}), backend="ray(processes=2)").fit(X, y)
