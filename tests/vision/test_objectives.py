from collections import OrderedDict

import numpy as np
import pytest
import torch
from sklearn.metrics import top_k_accuracy_score
from torch import nn
from torch.nn import functional as F

from konspekt.data.batches import Resident
from konspekt.vision.objectives import ImageClassification, ImageRegression


class TwoHeads(nn.Module):
    """In training it gives what an auxiliary head says too."""

    heads = ("fc", "aux.fc")
    aux_weight = 0.3

    def __init__(self, outputs=7):
        super().__init__()
        self.fc = nn.Linear(4, outputs)
        self.aux = nn.Sequential(OrderedDict(fc=nn.Linear(4, outputs)))

    def forward(self, x):
        x = x.flatten(1)
        return (self.fc(x), self.aux(x)) if self.training else self.fc(x)


@pytest.fixture
def batch():
    torch.manual_seed(0)
    return {
        "index": torch.arange(5),
        "x": torch.randn(5, 1, 2, 2),
        "y": torch.tensor([0, 6, 3, 3, 1]),
        "y_other": torch.tensor([3, 3, 6, 1, 0]),
        "mix": torch.tensor([1.0, 0.5, 0.9, 0.2, 0.0]),
    }


def plain(batch):
    return {n: f for n, f in batch.items() if n not in ("y_other", "mix")}


def smoothed(logits, y, share):
    """By hand: the label's share is 1 - share, and all K classes get share / K besides."""
    target = torch.full_like(logits, share / logits.shape[1])
    target[torch.arange(len(y)), y] += 1 - share
    return -(target * torch.log_softmax(logits, 1)).sum(1)


def test_auxiliary_heads_count_in_training_and_are_gone_in_prediction(batch):
    torch.manual_seed(1)
    objective = ImageClassification(TwoHeads())
    x, y = batch["x"].flatten(1), batch["y"]
    own, aux = objective.model.fc(x), objective.model.aux(x)
    expected = F.cross_entropy(own, y) + 0.3 * F.cross_entropy(aux, y)
    torch.testing.assert_close(objective.loss(plain(batch), "model")["loss"], expected)
    objective.eval()
    torch.testing.assert_close(objective.loss(plain(batch), "model")["loss"], F.cross_entropy(own, y))
    torch.testing.assert_close(objective(plain(batch))["logits"], own)
    torch.testing.assert_close(objective.item_losses(plain(batch)), F.cross_entropy(own, y, reduction="none"))


def test_labels_are_smoothed_in_training_and_not_where_it_is_measured(batch):
    objective = ImageClassification(TwoHeads(), label_smoothing=0.2).eval()
    logits = objective(plain(batch))["logits"]
    torch.testing.assert_close(objective.loss(plain(batch), "model")["loss"], smoothed(logits, batch["y"], 0.2).mean())
    data = Resident({n: f for n, f in plain(batch).items() if n != "index"})
    assert objective.evaluate(data)["loss"] == pytest.approx(float(F.cross_entropy(logits, batch["y"]).detach()))


def test_mixed_images_have_the_mixed_loss(batch):
    weights = torch.linspace(0.5, 2, 7)
    objective = ImageClassification(TwoHeads(), weights, label_smoothing=0.1).eval()
    logits, own = objective(plain(batch))["logits"], batch["mix"]
    first = smoothed(logits, batch["y"], 0.1) * weights[batch["y"]]
    second = smoothed(logits, batch["y_other"], 0.1) * weights[batch["y_other"]]
    expected = (own * first + (1 - own) * second).mean()
    torch.testing.assert_close(objective.loss(batch, "model")["loss"], expected)


def test_top_k_agrees_with_scikit_learn():
    torch.manual_seed(0)
    x, y = torch.randn(60, 1, 2, 2), torch.randint(0, 7, (60,))
    data = Resident({"x": x, "y": y}, batch_size=16)
    for k in (2, 3, 5):
        objective = ImageClassification(TwoHeads(), top_k=k).eval()
        logits = objective({"x": x})["logits"].detach().numpy()
        expected = top_k_accuracy_score(y.numpy(), logits, k=k, labels=np.arange(7))
        assert objective.evaluate(data)[f"top{k}_accuracy"] == pytest.approx(expected)
        assert f"top{k}_accuracy" in objective.higher_is_better
    assert set(ImageClassification(TwoHeads(), top_k=7).eval().evaluate(data)) == {"loss", "accuracy"}


def test_a_prediction_may_see_an_image_in_several_views():
    torch.manual_seed(0)
    x = torch.randn(3, 1, 2, 2)
    objective = ImageClassification(TwoHeads(), views=("flip",)).eval()
    alone = ImageClassification(objective.model).eval()
    expected = (alone({"x": x})["logits"].softmax(1) + alone({"x": x.flip(3)})["logits"].softmax(1)) / 2
    torch.testing.assert_close(objective({"x": x})["logits"].softmax(1), expected)
    one_by_one = torch.cat([objective({"x": image[None]})["logits"] for image in x])
    torch.testing.assert_close(objective({"x": x})["logits"], one_by_one)


def test_regression_has_auxiliary_heads_mixed_targets_and_views(batch):
    torch.manual_seed(0)
    y, other = torch.randn(5, 2), torch.randn(5, 2)
    objective = ImageRegression(TwoHeads(2), views=("flip",))
    x, own = batch["x"], batch["mix"][:, None]
    target = own * y + (1 - own) * other
    given = batch | {"y": y, "y_other": other}
    expected = F.mse_loss(objective.model.fc(x.flatten(1)), target) + 0.3 * F.mse_loss(
        objective.model.aux(x.flatten(1)), target
    )
    torch.testing.assert_close(objective.loss(given, "model")["loss"], expected)
    objective.eval()
    both = (objective.model(x) + objective.model(x.flip(3))) / 2
    torch.testing.assert_close(objective({"x": x})["prediction"], both)
    torch.testing.assert_close(objective.item_losses({"x": x, "y": y}), (both - y).square().mean(1))
