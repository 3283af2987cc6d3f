"""`running_risk`: Q = lambda * loss + (1 - lambda) * Q, in metrics.jsonl and beside the progress."""

import json

import pytest
import torch
from torch import nn

from konspekt.core import ConfigError
from konspekt.data.batches import Resident
from konspekt.engine import loop
from konspekt.engine.progress import Progress
from konspekt.engine.supervised import Regression
from konspekt.tabular import MLPClassifier


def points():
    draw = torch.Generator().manual_seed(1)
    x, y = torch.randn(12, 3, generator=draw), torch.randn(12, 2, generator=draw)
    return Resident({"x": x, "y": y}, batch_size=4, shuffle=True)


class Noted(Regression):
    """Writes down what was lost."""

    def __init__(self):
        torch.manual_seed(0)
        super().__init__(nn.Linear(3, 2))
        self.losses = []

    def loss(self, batch, player):
        out = super().loss(batch, player)
        self.losses.append(out["loss"].item())
        return out


def risk(losses, share):
    value = losses[0]
    for loss in losses[1:]:
        value = share * loss + (1 - share) * value
    return value


@pytest.fixture
def deferred(monkeypatch):
    """The loop as it goes on a GPU: nothing is read inside a step."""
    init = loop.Loop.__init__

    def patched(self, *args):
        init(self, *args)
        self.deferred = True

    monkeypatch.setattr(loop.Loop, "__init__", patched)


@pytest.mark.parametrize("share", [0.05, 0.3, 1.0])
@pytest.mark.parametrize("more", [{}, {"l2": 0.1, "l1": 0.1}, {"accumulate": 1, "clip_norm": 0.01}], ids=str)
def test_the_recursion(train, tmp_path, monkeypatch, share, more):
    monkeypatch.setattr(loop, "LOG_EVERY", 2)
    objective = Noted()
    run = train(objective, points(), tmp_path / "run", epochs=3, running_risk=share, **more)
    for record in run.history:
        assert record["risk"] == pytest.approx(risk(objective.losses[: record["step"]], share), rel=1e-6)
    lines = [json.loads(x) for x in (run.path / "metrics.jsonl").read_text().splitlines()]
    steps = [r for r in lines if r["kind"] == "step"]
    assert [r["step"] for r in steps] == [2, 4, 6, 8]
    for record in steps:
        assert record["risk"] == pytest.approx(risk(objective.losses[: record["step"]], share), rel=1e-6)
    if share == 1:
        assert run.history[-1]["risk"] == pytest.approx(objective.losses[-1])


def test_where_nothing_is_read_inside_a_step(train, deferred):
    objective = Noted()
    run = train(objective, points(), epochs=3, running_risk=0.3)
    assert run.history[-1]["risk"] == pytest.approx(risk(objective.losses, 0.3), rel=1e-6)


def test_of_a_player_that_moves_now_and_then(train):
    class Rare(Noted):
        def turns(self, step):
            return ("model",) if step % 3 == 0 else ()

    objective = Rare()
    run = train(objective, points(), epochs=3, running_risk=0.5)
    assert len(objective.losses) == 3
    assert run.history[-1]["risk"] == pytest.approx(risk(objective.losses, 0.5), rel=1e-6)


def test_without_it_nothing_is_kept(train):
    assert "risk" not in train(Noted(), points()).history[-1]


def test_it_goes_on_after_a_kill(train, die, killed, tmp_path):
    def fit(name, **more):
        return train(Noted(), points(), tmp_path / name, epochs=3, running_risk=0.2, checkpoint_every=2, **more)

    whole = fit("whole")
    killed(lambda: fit("cut", callbacks=[die(6)]))
    assert [h["risk"] for h in fit("cut", resume=True).history] == [h["risk"] for h in whole.history]


def test_beside_the_progress(train, capsys):
    objective = Noted()
    train(objective, points(), epochs=1, running_risk=0.5, verbose=True)
    assert f"risk {risk(objective.losses, 0.5):.4g}" in capsys.readouterr().out


def test_in_the_bar(monkeypatch):
    """The bar shows the newest estimate before what the last epoch came to."""
    monkeypatch.setenv("COLUMNS", "120")  # in a narrow terminal the time that is left is worth more
    bar = Progress(False, "fit", 2, 3)
    shown = []

    class Bar:
        def update(self, task, **fields):
            shown.append(fields.get("values"))

    bar._bar, bar._task, bar.show = Bar(), 0, True
    bar.step(1, 0.0, 0.12345)
    bar.epoch(3, {"loss": 0.5, "risk": 0.25})
    bar.step(4, 0.0, 0.0625)
    assert [s for s in shown if s] == ["risk 0.1235", "loss 0.5  risk 0.25", "risk 0.0625  loss 0.5"]


@pytest.mark.parametrize("share", [0, 1.5, -1, "x"])
def test_what_is_no_share(share):
    with pytest.raises(ConfigError, match=r"MLPClassifier: running_risk must be .* got"):
        MLPClassifier(running_risk=share).fit([[0.0], [1.0]], [0, 1])
