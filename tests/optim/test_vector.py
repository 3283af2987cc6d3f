"""What all second-order optimisers share: resuming, refusals, memory, the line search."""

import json
import math

import numpy as np
import pytest
import torch

from konspekt.core import ConfigError, ResourceError, entries
from konspekt.core.params import build
from konspekt.engine import checkpoint
from konspekt.optim import vector
from konspekt.optim.vector import Point, wolfe

NAMES = sorted(e.name for e in entries() if e.kind == "optimizer" and "A12" in e.rows)
START = [-1.2, 1.0, 0.7]


def test_the_row_is_complete():
    assert NAMES == ["bfgs", "evolution", "lbfgs", "lbfgsb", "natural-gradient", "newton"]


def bowls(w):
    return torch.stack([(w - 1).square().sum(), (w[0] - w[1]) ** 2, w[2].cos(), w.sum().square()])


def saved(optimizer):
    """The state as a checkpoint keeps it: tensors apart, the rest as JSON."""
    tensors = {}
    tree = json.loads(json.dumps(checkpoint.split(optimizer.state_dict(), tensors), allow_nan=False))
    return checkpoint.join(tree, {name: value.clone() for name, value in tensors.items()})


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("text", [*NAMES, "lbfgsb(upper=0.5)", "lbfgs(history=1)", "evolution(antithetic=False)"])
def test_resumed_from_its_state_it_takes_the_same_path_to_the_bit(problem, text, dtype):
    def made():
        return problem(text, lambda w: bowls(w).mean() + w[0] ** 4, START, 0.3, dtype, split=[2, 1], items=bowls)

    torch.manual_seed(0)
    whole = made()
    whole.run(6)
    torch.manual_seed(0)
    first = made()
    first.run(3)
    state = saved(first.optimizer)
    torch.manual_seed(5)
    second = made()
    for ours, theirs in zip(second.parts, first.parts, strict=True):
        ours.data.copy_(theirs.data)
    second.optimizer.load_state_dict(state)
    second.run(3)
    assert torch.equal(second.w, whole.w)
    assert not torch.equal(second.w, first.w)
    assert saved(second.optimizer).keys() == saved(whole.optimizer).keys()


@pytest.mark.parametrize("name", NAMES)
def test_groups_with_steps_of_their_own_are_refused(name):
    groups = [
        {"params": [torch.zeros(2, requires_grad=True)]},
        {"params": [torch.zeros(1, requires_grad=True)], "lr": 0.5},
    ]
    with pytest.raises(
        ConfigError, match=rf"optimizer '{name}' moves all parameters by one step length; .*\[0.1, 0.5\]"
    ):
        build("optimizer", name, groups, 0.1)


@pytest.mark.parametrize("name", NAMES)
def test_a_rate_of_zero_moves_nothing(problem, name):
    here = problem(name, lambda w: bowls(w).mean(), START, items=bowls)
    here.optimizer.param_groups[0]["lr"] = 0.0  # as a warmup has it at its first step
    here.optimizer.step(here)
    assert here.w.tolist() == START
    assert not here.optimizer.converged


@pytest.mark.parametrize(
    ("name", "instead"),
    [
        ("bfgs", "optimizer='lbfgs'"),
        ("newton", "optimizer='lbfgs'"),
        ("natural-gradient", "fisher='diagonal' or fisher='block'"),
    ],
)
def test_a_matrix_that_memory_has_no_room_for_is_refused_at_once(name, instead):
    groups = [{"params": [torch.zeros(10_000_000, requires_grad=True)]}]
    size = r"10000000 x 10000000 numbers, about [\d.e+]+ GiB; [\d.]+ GiB of memory are free"
    with pytest.raises(ResourceError, match=f"optimizer '{name}' keeps matrices of {size}. Take {instead}"):
        build("optimizer", name, groups, 1.0)


@pytest.mark.parametrize("text", ["lbfgs", "lbfgsb", "natural-gradient(fisher='block')", "evolution"])
def test_what_needs_no_matrix_is_not(monkeypatch, text):
    monkeypatch.setattr(vector, "_free_memory", lambda device: 0.0)
    made = build("optimizer", text, [{"params": [torch.zeros(100, requires_grad=True)]}], 1.0)
    assert not made.state  # no matrix yet, and none to come


def test_the_figure_is_the_matrix_and_its_copies(monkeypatch):
    monkeypatch.setattr(vector, "_free_memory", lambda device: 2.0**30)
    build("optimizer", "bfgs", [{"params": [torch.zeros(9459, requires_grad=True)]}], 1.0)  # 3 * 9459^2 * 4 < 2^30
    with pytest.raises(ResourceError, match=r"9460 x 9460 numbers, about 1 GiB; 1 GiB of memory are free"):
        build("optimizer", "bfgs", [{"params": [torch.zeros(9460, requires_grad=True)]}], 1.0)


@pytest.mark.parametrize(
    ("name", "method"), [("newton", "hessian"), ("natural-gradient", "item_gradients"), ("evolution", "loss")]
)
def test_a_plain_closure_is_not_enough_for_some(name, method):
    optimizer = build("optimizer", name, [{"params": [torch.ones(2, requires_grad=True)]}], 1.0)
    with pytest.raises(ConfigError, match=rf"optimizer '{name}' needs a closure with a method {method}\(\)"):
        optimizer.step(lambda: torch.tensor(1.0))


class TestWolfe:
    """The search along a line, on functions of one number."""

    def search(self, function, start, direction, first, longest=math.inf):
        seen = []

        def evaluate(w):
            w = w.clone().requires_grad_()
            loss = function(w)
            (gradient,) = torch.autograd.grad(loss, w)
            seen.append(w.item())
            usable = math.isfinite(loss.item())
            return Point(w.detach(), loss.item() if usable else math.inf, gradient)

        begin = evaluate(torch.tensor([start], dtype=torch.float64))
        seen.clear()
        return begin, wolfe(evaluate, begin, torch.tensor([direction], dtype=torch.float64), first, longest), seen

    @pytest.mark.parametrize("first", [1e-6, 1e-3, 0.1, 1.0, 30.0, 1e5])
    @pytest.mark.parametrize(
        "function", [lambda w: (w**2).sum(), lambda w: (w**4 - w).sum(), lambda w: (w - w.log()).sum()]
    )
    def test_both_conditions_hold_whatever_the_first_step(self, function, first):
        begin, end, seen = self.search(function, 3.0, -1.0, first)
        moved, slope = end.w - begin.w, begin.gradient
        assert end.loss <= begin.loss + 1e-4 * (slope @ moved).item()
        assert abs((end.gradient @ moved).item()) <= 0.9 * abs((slope @ moved).item())
        assert seen[0] == pytest.approx(3 - first, rel=1e-12)
        assert len(seen) == len(set(seen)) < 40

    def test_a_first_step_that_fulfils_them_is_taken(self):
        _, end, seen = self.search(lambda w: (w**2).sum(), 3.0, -1.0, 2.0)
        assert (end.w.item(), seen) == (1.0, [1.0])

    def test_upwards_and_without_slope_there_is_nothing(self):
        assert self.search(lambda w: (w**2).sum(), 3.0, 1.0, 1.0)[1:] == (None, [])
        assert self.search(lambda w: (w**2).sum(), 0.0, 1.0, 1.0)[1:] == (None, [])

    def test_the_longest_step_is_not_passed_and_is_taken_where_it_still_goes_down(self):
        _, end, seen = self.search(lambda w: (-w / 100).exp().sum(), 0.0, 1.0, 0.25, longest=1.0)
        assert end.w.item() == 1.0 == max(seen)

    def test_a_false_slope_finds_nothing(self):
        begin, end, seen = self.search(lambda w: (2 * (w**2).detach() - w**2).sum(), 3.0, 1.0, 1.0)
        assert end is None
        assert min(seen) > begin.w.item()


def test_free_memory_is_some():
    assert 2**20 < vector._free_memory(torch.device("cpu")) < 2**50
    assert np.isfinite(vector._free_memory(torch.device("cpu")))
