"""The shared objectives against scikit-learn's measures."""

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, log_loss, mean_squared_error, r2_score
from torch import nn

from konspekt.data.batches import Resident
from konspekt.engine.supervised import Classification, Regression, inputs_of

ITEMS, CLASSES = 23, 4


def classification(weights=None):
    torch.manual_seed(0)
    x, y = torch.randn(ITEMS, 5), torch.arange(ITEMS) % CLASSES
    objective = Classification(nn.Linear(5, CLASSES), weights)
    return objective, Resident({"x": x, "y": y}, batch_size=6), x, y


def probabilities(objective, x):
    with torch.no_grad():
        return torch.softmax(objective.model(x).double(), 1).numpy()


class TestClassification:
    @pytest.mark.parametrize("weights", [None, torch.tensor([1.0, 0.5, 2.0, 0.7])])
    def test_loss_and_measures(self, weights):
        objective, batches, x, y = classification(weights)
        p = probabilities(objective, x)
        each = None if weights is None else weights[y].numpy()
        # ours divides by the number of items, scikit-learn by the sum of their weights
        scale = 1.0 if each is None else each.mean()
        expected = scale * log_loss(y.numpy(), p, sample_weight=each)
        assert objective.loss({"x": x, "y": y}, "model")["loss"].item() == pytest.approx(expected, rel=1e-5)
        values = objective.evaluate(batches)
        assert values["loss"] == pytest.approx(expected, rel=1e-5)
        assert values["accuracy"] == pytest.approx(accuracy_score(y.numpy(), p.argmax(1)))

    def test_batches_of_different_sizes_add_up_to_the_whole(self):
        weights = torch.tensor([3.0, 0.1, 1.0, 1.0])
        objective, batches, x, y = classification(weights)
        sizes = [len(b["index"]) for b in batches.epoch(0)]
        assert sizes == [6, 6, 6, 5]
        parts = [objective.loss(b, "model")["loss"].item() * n for b, n in zip(batches.epoch(0), sizes, strict=True)]
        assert sum(parts) / ITEMS == pytest.approx(objective.loss({"x": x, "y": y}, "model")["loss"].item(), rel=1e-6)

    def test_item_losses(self):
        objective, _, x, y = classification()
        losses = objective.item_losses({"x": x, "y": y})
        p = probabilities(objective, x)
        np.testing.assert_allclose(losses.detach(), -np.log(p[np.arange(ITEMS), y]), rtol=1e-4)
        assert losses.shape == (ITEMS,)
        assert losses.mean().item() == pytest.approx(objective.loss({"x": x, "y": y}, "model")["loss"].item(), rel=1e-6)

    def test_forward_gives_logits_and_takes_no_gradient_from_evaluate(self):
        objective, batches, x, _ = classification()
        assert torch.equal(objective({"x": x})["logits"], objective.model(x))
        objective.evaluate(batches)
        assert all(p.grad is None for p in objective.parameters())

    def test_class_weights_move_with_the_objective_and_are_not_saved(self):
        objective, *_ = classification(torch.ones(CLASSES))
        assert objective.double().weights.dtype == torch.float64
        assert set(objective.state_dict()) == {"model.weight", "model.bias"}

    def test_balanced_weights_are_those_of_scikit_learn(self):
        from sklearn.utils.class_weight import compute_class_weight

        from konspekt.tabular import LogisticClassifier

        y = np.array(["a"] * 15 + ["b"] * 5 + ["c"] * 4)
        fitted = LogisticClassifier(class_weight="balanced", epochs=1).fit(np.arange(24.0)[:, None], y)
        expected = compute_class_weight("balanced", classes=fitted.classes_, y=y)
        np.testing.assert_allclose(fitted.objective_.weights, expected, rtol=1e-6)


def regression(targets):
    torch.manual_seed(0)
    x = torch.randn(ITEMS, 5)
    y = torch.randn(ITEMS, targets) * torch.arange(1, targets + 1) + 0.3
    return Regression(nn.Linear(5, targets)), Resident({"x": x, "y": y}, batch_size=6), x, y


class TestRegression:
    @pytest.mark.parametrize("targets", [1, 3])
    def test_loss_and_measures(self, targets):
        objective, batches, x, y = regression(targets)
        guess = objective.model(x).detach().numpy()
        expected = mean_squared_error(y, guess)
        assert objective.loss({"x": x, "y": y}, "model")["loss"].item() == pytest.approx(expected, rel=1e-5)
        values = objective.evaluate(batches)
        assert values["loss"] == pytest.approx(expected, rel=1e-5)
        assert values["r2"] == pytest.approx(r2_score(y, guess, multioutput="uniform_average"), rel=1e-5)

    def test_r2_of_a_constant_target_does_not_exist(self):
        objective, _, x, y = regression(2)
        y[:, 1] = 0.5
        assert set(objective.evaluate(Resident({"x": x, "y": y}))) == {"loss"}

    def test_item_losses(self):
        objective, _, x, y = regression(3)
        losses = objective.item_losses({"x": x, "y": y})
        np.testing.assert_allclose(losses.detach(), ((objective.model(x) - y).detach().numpy() ** 2).mean(1), rtol=1e-5)
        assert losses.mean().item() == pytest.approx(objective.loss({"x": x, "y": y}, "model")["loss"].item(), rel=1e-6)

    def test_predicting_the_mean_costs_the_variance(self):
        objective, _, x, y = regression(1)
        y = (y - y.mean(0)) / y.std(0, correction=0)
        nn.init.zeros_(objective.model.weight)
        nn.init.zeros_(objective.model.bias)
        assert objective.evaluate(Resident({"x": x, "y": y})) == pytest.approx({"loss": 1.0, "r2": 0.0}, abs=1e-5)


def test_inputs_are_the_fields_that_are_there_in_order():
    batch = {"codes": torch.zeros(1), "y": torch.ones(1), "x": torch.ones(1), "index": torch.arange(1)}
    assert inputs_of(batch, ("x", "codes")) == [batch["x"], batch["codes"]]
    assert inputs_of({"x": batch["x"]}, ("x", "codes")) == [batch["x"]]
