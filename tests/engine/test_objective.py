"""What an objective does unless it says otherwise."""

import pytest
import torch
from torch import nn

from konspekt.data.batches import Resident
from konspekt.engine import Objective
from konspekt.engine.objective import split_decay


class Absolute(Objective):
    """The mean distance from a constant, over `weight` terms an item."""

    def __init__(self, weighted=False):
        super().__init__()
        self.model = nn.Linear(1, 1)
        self.weighted = weighted

    def loss(self, batch, player):
        assert player == "model"
        if not self.weighted:
            return {"loss": batch["x"].mean()}
        count = batch["weight"].sum()
        return {"loss": (batch["x"] * batch["weight"]).sum() / count, "count": count}


def test_evaluate_is_the_mean_over_all_terms():
    x, weight = torch.arange(10.0), torch.tensor([1.0, 1, 5, 1, 1, 1, 1, 1, 1, 100])
    batches = Resident({"x": x, "weight": weight}, batch_size=4)  # 4, 4 and 2
    assert Absolute().evaluate(batches) == {"loss": pytest.approx(4.5)}
    assert Absolute(weighted=True).evaluate(batches) == {"loss": pytest.approx(float((x * weight).sum()) / 113)}
    loss = Absolute(weighted=True)
    assert not torch.is_tensor(loss.evaluate(batches)["loss"])


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda o: o({}), "forward"),
        (lambda o: o.loss({}, "model"), "loss"),
        (lambda o: o.item_losses({}), "item_losses"),
    ],
)
def test_what_must_be_written_is_named(call, name):
    class Mine(Objective):
        pass

    with pytest.raises(NotImplementedError, match=rf"Mine\.{name}"):
        call(Mine())


def test_the_other_hooks_do_nothing():
    objective = Absolute()
    assert objective.state() == {}
    assert objective.start_epoch(0, None) is None
    assert objective.after_step(0, "model") is None
    assert objective.load_state({}) is None
    assert list(objective.players()) == ["model"]
    assert objective.turns(3) == ("model",)


def test_matrices_decay_and_the_rest_does_not():
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Linear(4, 2), nn.Embedding(3, 2), nn.Linear(2, 2))
    net[4].weight.requires_grad_(False)
    matrices, others = split_decay(net)
    assert matrices["decay"]
    assert not others["decay"]
    assert [id(p) for p in matrices["params"]] == [id(net[k].weight) for k in (0, 2, 3)]
    names = [net[0].bias, net[1].weight, net[1].bias, net[2].bias, net[4].bias]
    assert [id(p) for p in others["params"]] == [id(p) for p in names]


def test_groups_without_parameters_are_left_out():
    assert [g["decay"] for g in split_decay(nn.Linear(2, 2, bias=False))] == [True]
    assert [g["decay"] for g in split_decay(nn.LayerNorm(2))] == [False]
    assert split_decay(nn.ReLU()) == []
