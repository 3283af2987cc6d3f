"""Against closed forms: where the loss is a parabola, what second order foresees is what happens."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import prune as reference

from konspekt.core.errors import ConfigError
from konspekt.core.runs import Run
from konspekt.data.batches import Resident
from konspekt.engine import minimise
from konspekt.engine.supervised import Classification, Regression
from konspekt.engine.training import Training
from konspekt.explain.edges import Masked, Surgery, cut, diagonal, layers_with_edges, operate, smallest


def net_of(objective):
    return objective.model


def linear(features=6, items=40):
    """A linear layer at the least of its squared error, with features that depend on each other."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(items, features)) @ rng.normal(size=(features, features))
    y = X @ rng.normal(size=features) + rng.normal(size=items)
    layer = nn.Linear(features, 1, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(np.linalg.lstsq(X, y, rcond=None)[0]))
    objective = Regression(layer.double())
    batches = Resident({"x": torch.from_numpy(X), "y": torch.from_numpy(y)[:, None]}, batch_size=16)
    return objective, batches, X, y


def loss_of(X, y, w):
    return float(np.mean((X @ w - y) ** 2))


def test_the_diagonal_foresees_what_a_single_weight_costs():
    objective, batches, X, y = linear()
    w = objective.model.weight.detach().numpy()[0]
    found, how = diagonal(objective, batches, net_of, {"net": objective.model.weight})
    assert how == "exact second derivatives over 40 items"
    np.testing.assert_allclose(found["net"].numpy()[0], 2 * np.mean(X**2, axis=0), rtol=1e-10)
    for i in range(len(w)):
        without = w.copy()
        without[i] = 0
        foreseen = float(found["net"][0, i]) * w[i] ** 2 / 2
        assert loss_of(X, y, without) - loss_of(X, y, w) == pytest.approx(foreseen, rel=1e-6)


@pytest.mark.parametrize("share", [1 / 6, 0.5, 5 / 6])
def test_the_surgeon_finds_the_least_squares_without_what_it_takes_out(share):
    objective, batches, X, y = linear()
    layers = {"net": objective.model.weight}
    before = loss_of(X, y, objective.model.weight.detach().numpy()[0])
    alive = {"net": torch.ones(1, 6, dtype=torch.bool)}
    masks, risen = operate(objective, batches, net_of, layers, alive, share, per_layer=False)
    stays, w = masks["net"][0].numpy(), objective.model.weight.detach().numpy()[0]
    assert stays.sum() == 6 - round(share * 6)
    assert not w[~stays].any()
    np.testing.assert_allclose(w[stays], np.linalg.lstsq(X[:, stays], y, rcond=None)[0], rtol=1e-6)
    assert loss_of(X, y, w) - before == pytest.approx(risen, rel=1e-6)


def test_the_first_to_go_is_the_one_that_is_cheapest_once_the_others_have_moved():
    objective, _, X, y = linear()
    w = objective.model.weight.detach().numpy()[0].copy()
    rises = [
        loss_of(X[:, keep], y, np.linalg.lstsq(X[:, keep], y, rcond=None)[0]) - loss_of(X, y, w)
        for keep in (np.arange(6) != i for i in range(6))
    ]
    surgery = Surgery(torch.from_numpy(w), torch.from_numpy(2 * X.T @ X / len(X)))
    np.testing.assert_allclose(surgery.costs().numpy(), rises, rtol=1e-6)
    cut([surgery], 1)
    assert int((surgery.weights == 0).nonzero()[0, 0]) == int(np.argmin(rises))


def test_the_surgeon_leaves_a_weight_in_each_layer():
    layers = [Surgery(torch.tensor(w), torch.eye(len(w))) for w in ([1e-6, 1e-5], [5.0, 6.0, 7.0])]
    cut(layers, 3)
    assert [s.left for s in layers] == [1, 1]
    assert layers[0].weights.tolist() == pytest.approx([0, 1e-5])
    assert layers[1].weights.tolist() == [0, 0, 7]
    assert layers[1].risen == pytest.approx((25 + 36) / 2)


def test_directions_without_curvature_cost_nothing_and_move_nothing_else():
    surgery = Surgery(torch.tensor([3.0, 4.0, 5.0]), torch.diag(torch.tensor([1.0, 0.0, -2.0])))
    assert surgery.costs().tolist() == pytest.approx([4.5, 0, 25], abs=1e-6)
    cut([surgery], 1)
    assert surgery.weights.tolist() == pytest.approx([3, 0, 5])


def small_net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 3, bias=False))


@pytest.mark.parametrize("per_layer", [False, True])
def test_masks_by_size_are_those_of_torch(per_layer):
    net = small_net()
    layers = layers_with_edges(net)
    alive = {n: torch.ones_like(p, dtype=torch.bool) for n, p in layers.items()}
    for share in (0.3, 0.75):
        alive = smallest({n: p.abs() for n, p in layers.items()}, alive, share, per_layer=per_layer)
        other = small_net()
        if per_layer:
            for name in layers:
                reference.l1_unstructured(other.get_submodule(name), "weight", amount=share)
        else:
            where = [(other.get_submodule(n), "weight") for n in layers]
            reference.global_unstructured(where, pruning_method=reference.L1Unstructured, amount=share)
        for name, mask in alive.items():
            assert torch.equal(mask, other.get_submodule(name).weight_mask.bool()), name


def test_the_best_weight_of_a_layer_stays():
    scores = {"a": torch.tensor([1e-3, 2e-3]), "b": torch.arange(1.0, 9.0)}
    alive = {n: torch.ones_like(s, dtype=torch.bool) for n, s in scores.items()}
    kept = smallest(scores, alive, 0.8, per_layer=False)
    assert kept["a"].tolist() == [False, True]
    assert kept["b"].tolist() == [False] * 7 + [True]
    with pytest.raises(ConfigError, match=r"share=0\.95 would leave 0 of the 10 weights of 2 layers"):
        smallest(scores, alive, 0.95, per_layer=False)
    with pytest.raises(
        ConfigError, match=r"share=0\.8 would leave 0 of the 2 weights of a, and a layer without one lets"
    ):
        smallest(scores, alive, 0.8, per_layer=True)


def test_what_has_gone_counts_and_stays_gone():
    scores, alive = {"a": torch.tensor([9.0, 1, 2, 3])}, {"a": torch.tensor([False, True, True, True])}
    assert smallest(scores, alive, 0.25, per_layer=False)["a"].tolist() == [False, True, True, True]
    assert smallest(scores, alive, 0.5, per_layer=False)["a"].tolist() == [False, False, True, True]
    alive = {"a": torch.tensor([False, False, False, True])}
    assert smallest(scores, alive, 0.5, per_layer=False)["a"].tolist() == [False, False, False, True]


def test_the_fisher_information_of_logistic_regression_is_its_hessian(monkeypatch):
    """H of w_kf is the mean of p_k (1 - p_k) x_f^2; drawn targets get near it."""
    monkeypatch.setattr("konspekt.explain.edges.DIAGONAL", 3)
    torch.manual_seed(1)
    x = torch.randn(1500, 3)
    net = nn.Linear(3, 2)
    p = net(x).softmax(1).detach()
    expected = ((p * (1 - p)).T @ x.square()) / len(x)
    y = torch.zeros(1500, dtype=torch.int64)
    batches = Resident({"x": x, "y": y}, batch_size=500)
    net.weight.requires_grad_(False)  # frozen or not
    found, how = diagonal(Classification(net), batches, net_of, {"net": net.weight})
    assert how == "diagonal of the true Fisher information over 1500 items"
    torch.testing.assert_close(found["net"].float(), expected, rtol=0.15, atol=0)
    weighted, how = diagonal(Classification(net, torch.ones(2)), batches, net_of, {"net": net.weight})
    assert how.startswith("diagonal of the empirical Fisher")
    residual = (p - torch.nn.functional.one_hot(y, 2)).square().T @ x.square() / len(x)
    torch.testing.assert_close(weighted["net"].float(), residual, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("optimizer", ["adam", "momentum", "rmsprop"])
def test_nothing_revives_what_is_masked(optimizer):
    torch.manual_seed(0)
    x = torch.randn(64, 5)
    y = (x[:, 0] > 0).long() + (x[:, 1] > 0).long()
    batches = Resident({"x": x, "y": y}, batch_size=16, shuffle=True)
    net = small_net()
    inner = Classification(net)
    training = Training(epochs=3, optimizer=optimizer, lr=0.05, ema=0.9, l1=1e-3, weight_decay=1e-2)
    minimise(inner, batches, training, run=Run())  # the masked weights have moved before
    masks = {n: torch.rand_like(p) > 0.5 for n, p in layers_with_edges(net).items()}
    masked = Masked(inner, [(p, masks[n]) for n, p in layers_with_edges(net).items()])
    start = {n: p.detach().clone() for n, p in layers_with_edges(net).items()}
    minimise(masked, batches, training, run=Run())
    for name, p in layers_with_edges(net).items():
        assert not p[~masks[name]].any()
        assert bool((p != start[name])[masks[name]].all())
    assert masked.evaluate(batches) == inner.evaluate(batches)


def test_layers_by_name():
    net = nn.Sequential(
        nn.Embedding(3, 2), nn.Linear(2, 3), nn.LayerNorm((2, 3)), nn.Conv2d(1, 2, 3), nn.Conv2d(2, 2, 1)
    )
    assert list(layers_with_edges(net)) == ["1", "3", "4"]
    assert list(layers_with_edges(net, ["3"])) == ["3"]
    net[4].weight = net[3].weight
    assert list(layers_with_edges(net)) == ["1", "3"]  # one matrix, once
    with pytest.raises(ConfigError, match="layers must name layers with a matrix, got '0'"):
        layers_with_edges(net, ["0"])
    with pytest.raises(ConfigError, match="a ReLU has no layer whose edges could be taken out"):
        layers_with_edges(nn.ReLU())


def test_a_layer_too_large_for_its_whole_hessian():
    net = nn.Sequential(nn.Linear(60, 50), nn.Linear(50, 2))
    layers = layers_with_edges(net)
    alive = {n: torch.ones_like(p, dtype=torch.bool) for n, p in layers.items()}
    batches = Resident({"x": torch.randn(4, 60), "y": torch.zeros(4, dtype=torch.int64)})
    with pytest.raises(
        ConfigError, match=r"at most 2500; too large: 0 \(3000 weights\)\. Name smaller ones in layers="
    ):
        operate(Classification(net), batches, net_of, layers, alive, 0.5, per_layer=False)


def test_of_many_items_some_are_taken(monkeypatch):
    monkeypatch.setattr("konspekt.explain.edges.ITEMS", 20)
    objective, batches, X, _ = linear()
    found, how = diagonal(objective, batches, net_of, {"net": objective.model.weight})
    assert how == "exact second derivatives over 20 items"
    np.testing.assert_allclose(found["net"].numpy()[0], 2 * np.mean(X[::2] ** 2, axis=0), rtol=1e-10)
