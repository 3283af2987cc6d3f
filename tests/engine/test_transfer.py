from collections import OrderedDict

import pytest
import torch
from torch import nn

from konspekt.core.errors import ConfigError
from konspekt.core.runs import Run
from konspekt.data.batches import Resident
from konspekt.engine.loop import minimise
from konspekt.engine.training import Training
from konspekt.engine.transfer import frozen_modules, head_modules, parts
from konspekt.vision.objectives import ImageClassification


class Little(nn.Module):
    heads = ("fc",)

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(2)
        self.layer1 = nn.Sequential(nn.Conv2d(2, 3, 1, bias=False), nn.BatchNorm2d(3), nn.ReLU())
        self.layer2 = nn.Sequential(nn.Conv2d(3, 4, 1, bias=False), nn.BatchNorm2d(4), nn.ReLU())
        self.fc = nn.Linear(4, 2)

    def forward(self, x):
        return self.fc(self.layer2(self.layer1(self.bn1(self.conv1(x)))).mean((2, 3)))


def batches(items=12, batch_size=4):
    torch.manual_seed(0)
    x = torch.randn(items, 1, 6, 6)
    return Resident({"x": x, "y": (x.mean((1, 2, 3)) > 0).long()}, batch_size=batch_size, shuffle=True)


def objective(net=None, **changes):
    torch.manual_seed(1)
    made = ImageClassification(nn.Sequential(OrderedDict(net=net or Little())))
    for name, value in changes.items():
        setattr(made, name, value)
    return made


def fitted(made, **given):
    before = {n: t.clone() for n, t in made.state_dict().items()}
    minimise(made, batches(), Training(**{"epochs": 2, "lr": 0.1, "optimizer": "descent"} | given), run=Run())
    return {n.removeprefix("model.net."): bool((t != before[n]).any()) for n, t in made.state_dict().items()}


@pytest.mark.parametrize(
    ("depth", "moving"),
    [
        ("nothing", {"conv1", "bn1", "layer1.0", "layer1.1", "layer2.0", "layer2.1", "fc"}),
        ("conv1", {"bn1", "layer1.0", "layer1.1", "layer2.0", "layer2.1", "fc"}),
        ("layer1", {"layer2.0", "layer2.1", "fc"}),
        ("layer2.0", {"layer2.1", "fc"}),
        ("body", {"fc"}),
    ],
)
def test_what_is_frozen_keeps_weights_and_statistics(depth, moving):
    made = objective()
    made.freeze(depth)
    changed = fitted(made)
    assert {name.rpartition(".")[0] for name, moved in changed.items() if moved} == moving
    assert all(moved for name, moved in changed.items() if name.rpartition(".")[0] in moving)


def test_frozen_batch_normalisation_predicts_with_its_statistics_while_the_rest_trains():
    made = objective()
    made.freeze("layer1")
    made.train()
    assert made.training
    assert made.net.layer2[1].training
    assert not made.net.bn1.training
    assert not made.net.layer1[1].training
    made.freeze("nothing")
    assert made.net.bn1.training
    assert all(p.requires_grad for p in made.parameters())


def test_thawed_it_learns_again():
    made = objective()
    made.freeze("body")
    fitted(made)
    made.freeze("nothing")
    assert all(fitted(made).values())


def test_rates_grow_evenly_in_the_logarithm_from_the_first_part_to_the_head():
    made = objective(lr_first=0.001)
    groups = made.players()["model"]
    scale_of = {p: g["lr_scale"] for g in groups for p in g["params"]}
    net = made.net
    expected = [
        (net.conv1.weight, 0.001),
        (net.bn1.bias, 0.001),
        (net.layer1[0].weight, 0.01),
        (net.layer2[1].weight, 0.1),
        (net.fc.bias, 1.0),
    ]
    for p, scale in expected:
        assert scale_of[p] == pytest.approx(scale)
    assert len(scale_of) == len(list(made.parameters()))
    assert all(g["decay"] == (p.ndim > 1) for g in groups for p in g["params"])


def test_steps_are_smaller_by_that_share():
    torch.manual_seed(3)
    net = Little().eval()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.0  # the statistics stay, so that both fits see one loss
    start = {n: p.detach().clone() for n, p in net.named_parameters()}
    moves = []
    for first in (1.0, 0.01):
        net.load_state_dict(start, strict=False)
        made = objective(net, lr_first=first)
        minimise(
            made,
            batches(12, None),
            Training(epochs=1, batch_size=None, lr=0.1, optimizer="descent"),
            run=Run(),
        )
        moves.append({n: p.detach() - start[n] for n, p in net.named_parameters()})
    assert moves[1]["conv1.weight"].abs().max() > 0
    torch.testing.assert_close(moves[1]["conv1.weight"], 0.01 * moves[0]["conv1.weight"], rtol=1e-3, atol=1e-7)
    torch.testing.assert_close(moves[1]["fc.weight"], moves[0]["fc.weight"])


def test_long_sequences_are_taken_apart_and_a_part_without_a_matrix_joins_the_one_before():
    net = nn.Module()
    net.features = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Conv2d(2, 2, 3), nn.ReLU())
    net.classifier = nn.Sequential(nn.Dropout(), nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2))
    found = parts(net)
    assert [name for name, _ in found] == ["features.0", "features.3", "classifier.1", "classifier.3"]
    assert [len(members) for _, members in found] == [4, 2, 2, 2]


def test_auxiliary_heads_are_heads_as_a_whole():
    net = Little()
    net.heads = ("fc", "aux1.fc2")
    net.aux1 = nn.Module()
    net.aux1.conv = nn.Conv2d(3, 2, 1)
    net.aux1.fc2 = nn.Linear(2, 2)
    assert head_modules(net) == ["fc", "aux1"]
    still = frozen_modules(net, "body")
    assert net.aux1.conv not in still
    assert net.layer2[0] in still


def test_a_net_without_named_heads_decides_with_its_last_matrix():
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(2, 3), nn.BatchNorm1d(3))
    assert head_modules(net) == ["2"]
    with pytest.raises(ConfigError, match="a ReLU has no layer with weights"):
        head_modules(nn.ReLU())


def test_a_depth_that_is_not_there_or_leaves_nothing():
    with pytest.raises(
        ConfigError,
        match=r"freeze: the net has no part 'layer4' with weights; its parts are conv1, bn1, layer1, layer2, fc; did you mean 'layer2'",
    ):
        frozen_modules(Little(), "layer4")
    with pytest.raises(ConfigError, match="up to 'fc' all of the net is frozen, and nothing could learn; take 'body'"):
        frozen_modules(Little(), "fc")
