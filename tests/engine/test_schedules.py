"""Schedules against closed forms and against torch's own schedulers."""

import math

import pytest
import torch
from torch.optim import lr_scheduler

from konspekt.core import ConfigError, entries
from konspekt.core.params import build
from konspekt.engine.schedules import Schedule, with_warmup

TOTAL, EPOCH = 60, 6  # steps in all and in an epoch


def factors(text, steps=TOTAL, total=TOTAL, per_epoch=EPOCH):
    schedule = build("schedule", text, total, per_epoch)
    return [schedule.factor(step) for step in range(steps)]


def theirs(make, steps=TOTAL):
    """The factors of a torch scheduler that is advanced at each step."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], 1.0)
    scheduler = make(optimizer)
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


def test_all_that_are_registered_are_looked_at_here():
    names = {e.name for e in entries() if e.kind == "schedule"}
    assert names == {"constant", "step", "exponential", "inverse", "linear", "cosine", "one-cycle", "plateau"}


def test_constant():
    assert factors("constant") == [1.0] * TOTAL
    assert build("schedule", "constant", TOTAL, EPOCH).fixed
    assert not build("schedule", "cosine", TOTAL, EPOCH).fixed


def test_step():
    expected = theirs(lambda o: lr_scheduler.StepLR(o, 2 * EPOCH, 0.3))
    assert factors("step(every=2, factor=0.3)") == pytest.approx(expected, rel=1e-12)
    assert factors("step", 200 * EPOCH)[EPOCH * 10 - 1 : EPOCH * 10 + 1] == [1.0, 0.1]


def test_exponential():
    found = factors("exponential(factor=0.8)")
    assert found == pytest.approx([0.8 ** (s / EPOCH) for s in range(TOTAL)], rel=1e-12)
    expected = theirs(lambda o: lr_scheduler.ExponentialLR(o, 0.8), 10)
    assert found[::EPOCH] == pytest.approx(expected, rel=1e-12)


def test_inverse():
    assert factors("inverse(rate=2.0)") == pytest.approx([3 / (3 + s) for s in range(TOTAL)], rel=1e-12)


@pytest.mark.parametrize("rate", [0.5, 1.0, 3.0])
def test_inverse_keeps_the_conditions_of_robbins_and_monro(rate):
    """Its steps sum to infinity, as the harmonic series does; the sum of their squares stays below its integral."""
    steps = factors(f"inverse(rate={rate})", 2**15)
    c = EPOCH / rate  # the factor is c / (c + step)
    for power in range(8, 15):
        block = sum(steps[2**power : 2 ** (power + 1)])
        assert block == pytest.approx(c * math.log((c + 2 ** (power + 1)) / (c + 2**power)), rel=0.01)
        assert block > c * math.log(2) * 0.9  # each doubling adds as much, for ever
    assert sum(f * f for f in steps) < 1 + c
    assert sum(f * f for f in steps[2**14 :]) < c * c / 2**14 * 1.01
    # a geometric one breaks the first condition
    assert sum(factors("exponential", 2**13)) < 1.01 / (1 - 0.95 ** (1 / EPOCH))


@pytest.mark.parametrize("floor", [0.0, 0.25])
def test_linear(floor):
    expected = [floor + (1 - floor) * (TOTAL - s) / TOTAL for s in range(TOTAL)]
    assert factors(f"linear(floor={floor})") == pytest.approx(expected, rel=1e-9, abs=1e-12)
    assert factors(f"linear(floor={floor})", TOTAL + 5)[TOTAL:] == [floor] * 5


@pytest.mark.parametrize("floor", [0.0, 0.2])
def test_cosine(floor):
    expected = theirs(lambda o: lr_scheduler.CosineAnnealingLR(o, TOTAL, eta_min=floor))
    assert factors(f"cosine(floor={floor})") == pytest.approx(expected, rel=1e-9, abs=1e-12)
    beyond = factors(f"cosine(floor={floor})", TOTAL + 5)[TOTAL:]
    assert beyond == pytest.approx([floor] * 5)


@pytest.mark.parametrize("rise", [0.1, 0.3, 0.5])
def test_one_cycle(rise):
    found = factors(f"one-cycle(rise={rise})")
    expected = theirs(lambda o: lr_scheduler.OneCycleLR(o, 1.0, TOTAL, pct_start=rise, cycle_momentum=False), TOTAL - 1)
    assert found[:-1] == pytest.approx(expected, rel=1e-9)
    assert found[0] == pytest.approx(0.04)
    assert found[round(rise * TOTAL) - 1] == max(found) == 1.0
    assert found[-1] == pytest.approx(4e-6)


@pytest.mark.parametrize(("rise", "total"), [(0.0, 9), (1.0, 9), (0.3, 1), (0.3, 2), (0.5, 2)])
def test_one_cycle_at_the_edges(rise, total):
    found = factors(f"one-cycle(rise={rise}, start=0.5, end=0.25)", total + 3, total)
    assert all(0.25 <= f <= 1 for f in found)
    if rise < 1:
        assert found[total - 1 :] == pytest.approx([0.25] * 4) or total == 1


def test_plateau_against_torch():
    values = [5.0, 6, 4, 5, 5, 5, 5, 5, 3, 4, 4, 4, 2, 2, 2, 2, 2, 2]
    schedule = build("schedule", "plateau(patience=2, factor=0.5, floor=0.2)", TOTAL, EPOCH)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], 1.0)
    scheduler = lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=2, threshold=0, min_lr=0.2, eps=0)
    best, found, expected = math.inf, [], []
    for value in values:
        schedule.observe(value, value < best)
        scheduler.step(value)
        best = min(best, value)
        found.append(schedule.factor(0))
        expected.append(optimizer.param_groups[0]["lr"])
    assert found == expected
    assert set(found) == {1.0, 0.5, 0.25, 0.2}


@pytest.mark.parametrize("cut", range(7))
def test_plateau_goes_on_from_its_state(cut):
    better = [True, False, False, False, True, False, False, False, False, False]
    whole = build("schedule", "plateau(patience=1)", TOTAL, EPOCH)
    first = build("schedule", "plateau(patience=1)", TOTAL, EPOCH)
    second = build("schedule", "plateau(patience=1)", TOTAL, EPOCH)
    for b in better[:cut]:
        first.observe(0.0, b)
    second.load_state(first.state())
    for k, b in enumerate(better):
        whole.observe(0.0, b)
        if k >= cut:
            second.observe(0.0, b)
            assert second.factor(0) == whole.factor(0)
    assert whole.factor(0) == pytest.approx(1e-3)


def test_the_others_have_no_state():
    schedule = build("schedule", "cosine", TOTAL, EPOCH)
    before = schedule.factor(7)
    schedule.observe(1.0, False)
    assert schedule.state() == {}
    schedule.load_state({})
    assert schedule.factor(7) == before


def test_warm_up():
    half = Schedule(lambda step: 0.5 if step >= 3 else 1.0)
    assert [with_warmup(half, 4)(s) for s in range(6)] == pytest.approx([0.25, 0.5, 0.75, 0.5, 0.5, 0.5])
    assert with_warmup(half, 0) == half.factor
    assert [with_warmup(half, 1)(s) for s in range(2)] == [1.0, 1.0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("step(every=0)", "every must be an integer at least 1, got 0"),
        ("exponential(factor=0)", "factor must be .*more than 0, got 0"),
        ("cosine(floor=2.0)", r"floor must be .*from 0 to 1, got 2\.0"),
        ("plateau(patience=-1)", "patience must be an integer at least 0, got -1"),
        ("cosine(flor=0.1)", "has no argument 'flor'; did you mean 'floor'"),
        ("cosin", "'cosin' is not a registered schedule; did you mean 'cosine'"),
    ],
)
def test_what_they_may_not_be(text, message):
    with pytest.raises(ConfigError, match=message):
        build("schedule", text, TOTAL, EPOCH)
