"""Words, the time axis and the canvas by themselves."""

import math

import numpy as np
import pytest

from konspekt.reports.canvas import svg, thin
from konspekt.reports.figures import reliability
from konspekt.reports.reading import Stage
from konspekt.reports.templates import Table
from konspekt.reports.timeline import Timeline
from konspekt.reports.words import (
    clean,
    decimal,
    duration,
    listed,
    number,
    percent,
    plural,
    score,
    short,
    size,
    tick,
    title,
)  # fmt: skip


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"), (61706, "61 706"), (-3, "−3"), (0.081234, "0.08123"), (1.25e-5, "1.25e−5"), (3.0, "3"), (1234567.8, "1 234 568"),
        (2e12, "2e12"), (math.nan, "–"), (math.inf, "∞"), (None, "–"), (True, "True"), ("a", "a"), (10**400, "huge"), (20100.5, "20 100"),
    ],
)  # fmt: skip
def test_numbers(value, text):
    assert number(value).replace("\u202f", " ") == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.25, "0.25"),
        (7.5e-4, "7.5e−4"),
        (1e-6, "1e−6"),
        (150_000, "150k"),
        (2.5e6, "2.5M"),
        (-20, "−20"),
        (3e15, "3e15"),
    ],
)
def test_ticks(value, text):
    assert tick(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0123, "12 ms"),
        (0.00353, "3.5 ms"),
        (2.04e-5, "0.02 ms"),
        (0.0, "0 ms"),
        (0.9999, "1.0 s"),
        (12.34, "12.3 s"),
        (59.97, "1 min 00 s"),
        (200, "3 min 20 s"),
        (7500, "2 h 05 min"),
        (None, "–"),
    ],
)
def test_durations(seconds, text):
    assert duration(seconds).replace("\u202f", " ") == text


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (100 << 20, "100 MiB"), (3 << 40, "3.0 TiB"), (None, "–")],
)
def test_sizes(count, text):
    assert size(count).replace("\u202f", " ") == text


def test_decimals_are_set_like_numbers():
    assert decimal(0.12349) == "0.123"
    assert decimal(math.nan) == "–"
    assert Table("t", ["a", "b"], [["x", decimal(1.0)], ["0", decimal(math.nan)]]).numeric == [False, True]


def test_words():
    assert percent(0.98765).replace("\u202f", " ") == "98.8 %"
    assert percent(0.98765, 2000).replace("\u202f", " ") == "98.77 %"
    assert percent(math.nan) == "–"
    assert plural(1, "item") == "1 item"
    assert plural(2, "box", "boxes") == "2 boxes"
    assert title("learning-curve_2") == "Learning curve 2"
    assert title("--") == "--"
    assert short("a" * 50, 5) == "aaaa…"
    assert clean("a\x00\ud800") == "a\ufffd?"
    assert listed(range(10), 2) == "0, 1 and 8 more"
    assert score("val_accuracy", 0.5).startswith("50.0")
    assert score("r2", 0.83123) == "0.831"
    assert score("loss", None) == "–"


def test_epochs_stand_at_their_ends():
    stage = Stage("fit", [{"kind": "epoch", "epoch": e, "step": 10 * (e + 1), "loss": e} for e in range(3)])
    stage.steps = [{"kind": "step", "step": s, "loss": s} for s in (5, 10, 25, 35)]
    time = Timeline([stage])
    assert time.unit == "epoch"
    assert time.epochs("loss")[0].tolist() == [1, 2, 3]
    assert time.steps("loss")[0].tolist() == [0.5, 1.0, 2.5, 3.5]


def test_stages_follow_each_other():
    first = Stage("a", [{"kind": "epoch", "epoch": e, "step": e + 1, "loss": 1.0} for e in range(4)])
    second = Stage(
        "b", [{"kind": "epoch", "epoch": e, "step": e + 1, "loss": 2.0} for e in range(2)], end={"best_epoch": 1}
    )
    time = Timeline([first, second, Stage("empty")])
    assert time.starts == [(0.0, "a"), (4.0, "b")]
    assert time.epochs("loss")[0].tolist() == [1, 2, 3, 4, 5, 6]
    assert time.best == 6


def test_a_stage_without_a_whole_epoch_is_told_in_steps():
    time = Timeline([Stage("a", [{"epoch": 0, "step": 8, "loss": 1.0}]), Stage("b", [], [{"step": 3, "loss": 1.0}])])
    assert time.unit == "step"
    assert time.epochs("loss")[0].tolist() == [8]
    assert time.steps("loss")[0].tolist() == [11]


def test_measures_leave_out_what_is_none():
    stage = Stage(
        "a",
        [{"kind": "epoch", "epoch": 0, "val_f1": 1.0, "loss": 1.0, "val_seconds": 2, "grad_norms": {}, "note": "x"}],
    )
    assert Timeline([stage]).measures == ["loss", "f1"]


def test_thinning_keeps_ends_and_peaks():
    x = np.arange(100_000.0)
    y = np.sin(x)
    y[777], y[50_000], y[60_000] = 40.0, -40.0, np.nan
    few, _ = thin(x, y)
    assert len(few) <= 1000
    assert {0.0, 777.0, 50_000.0, 99_999.0} <= set(few.tolist())
    assert thin(x, np.full(len(x), np.nan))[0].size <= 1000
    assert thin(x[:9], y[:9])[0].tolist() == x[:9].tolist()


def test_ids_of_two_figures_never_meet():
    def ids(name):
        source = svg(name, "l", lambda axes: axes.plot([1, 2], [2, 1], marker="o"))
        return {part.split('"')[0] for part in source.split(' id="')[1:]}

    assert ids("a b")
    assert not ids("a b") & ids("a-b")
    assert not ids("a_20_b") & ids("a b")


def test_text_is_not_mathematics():
    source = svg("a", "<l>", lambda axes: axes.set_title("$\\frac{1}$ <b> & 猫"))
    assert "$\\frac{1}$ &lt;b&gt; &amp; 猫" in source
    assert 'aria-label="&lt;l&gt;"' in source
    assert "xmlns" not in source


def test_calibration_error():
    sure = np.array([0.95] * 10 + [0.55] * 10)
    right = np.array([True] * 9 + [False] + [True] * 5 + [False] * 5)
    caption = reliability("r", "", sure, right).caption  # |0.95 − 0.9| / 2 + |0.55 − 0.5| / 2
    assert "error 5 points" in caption
