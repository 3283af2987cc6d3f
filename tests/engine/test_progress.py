"""What a fit shows while it runs."""

import pytest

from konspekt.engine.progress import Progress


def acted(steps, **values):
    return {"epoch": 0, "seconds": 0.5, "env_steps": float(steps), **values}


def test_an_epoch_of_learning_from_data(capsys):
    Progress(True, "fit", 5, 10).epoch(
        10, {"epoch": 1, "loss": 0.1234, "val_accuracy": 0.5, "return": 3.0, "seconds": 0.25}
    )
    assert capsys.readouterr().out == "epoch 2/5  loss 0.1234  val accuracy 0.5  0.2 s\n"


def test_acting_is_counted_in_steps(capsys, monkeypatch):
    now = iter([10.0, 13.1])
    monkeypatch.setattr("konspekt.engine.progress.time.perf_counter", lambda: next(now))
    progress = Progress(True, "fit", 1, 50_000, steps=50_000)
    progress.epoch(700, acted(12_000, epsilon=0.04, loss=0.12, length=231.0, **{"return": 231.0}))
    assert capsys.readouterr().out == "12,000/50,000 steps  return 231  length 231  loss 0.12  epsilon 0.04  3.1 s\n"


def test_a_line_that_is_too_long_leaves_the_length_out(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    values = {"return": -1234.5, "length": 1000.0, "loss": 0.1234, "epsilon": 0.05}
    Progress(True, "fit", 1, 50_000, steps=2_000_000).epoch(1, acted(1_000_000, **values))
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("1,000,000/2,000,000 steps  return -1234  loss 0.1234  epsilon 0.05  ")
    assert len(line) <= 80


def test_short_rounds_give_a_line_a_second_and_the_last(capsys, monkeypatch):
    now = iter([0.0, 0.1, 0.5, 1.05, 1.15, 1.2])
    monkeypatch.setattr("konspekt.engine.progress.time.perf_counter", lambda: next(now))
    progress = Progress(True, "fit", 1, 500, steps=500)
    for steps in (100, 200, 300, 400, 500):
        progress.epoch(steps, acted(steps))
    assert [line.split("/")[0] for line in capsys.readouterr().out.splitlines()] == ["100", "400", "500"]


@pytest.mark.parametrize("steps", [None, 100])
def test_nothing_unless_asked(capsys, steps):
    Progress(False, "fit", 1, 10, steps=steps).epoch(10, acted(100, loss=1.0))
    assert capsys.readouterr().out == ""
