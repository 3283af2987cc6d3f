"""The check of nets, on a net that passes it and on nets that each break one promise."""

from typing import Annotated

import pytest
import torch
from torch import nn

from konspekt.core.errors import ConfigError
from konspekt.core.params import AtLeast
from konspekt.core.registry import Entry
from konspekt.testing import ContractError, checks


class Small(nn.Module):
    """Keeps 3 x 3 pixels or more, and has an auxiliary head."""

    heads = ("head", "aux")
    aux_weight = 0.3

    def __init__(self, channels, classes, size):
        super().__init__()
        self.conv = nn.Conv2d(channels, 4, 3)
        self.head = nn.Linear(4 * (size[0] - 2) * (size[1] - 2), classes)
        self.aux = nn.Linear(4 * (size[0] - 2) * (size[1] - 2), classes)

    def forward(self, x):
        x = self.conv(x).flatten(1)
        return (self.head(x), self.aux(x)) if self.training else self.head(x)


class AuxInPrediction(Small):
    def forward(self, x):
        x = self.conv(x).flatten(1)
        return self.head(x), self.aux(x)


class AuxFirst(Small):
    heads = ("aux", "head")


class Idle(Small):
    def __init__(self, *given):
        super().__init__(*given)
        self.idle = nn.Linear(2, 2)


class Stopped(Small):
    def forward(self, x):
        return self.head(self.conv(x).detach().flatten(1))


class OneHead(Small):
    heads = ("head",)


class NoHead(Small):
    heads = ()

    def forward(self, x):
        x = self.conv(x).flatten(1)
        return self.head(x) + self.aux(x)


class Unsaved(Small):
    def __init__(self, *given):
        super().__init__(*given)
        self.scale = torch.rand(1)

    def forward(self, x):
        return super().forward(x * self.scale)


class OneChannel(Small):
    def __init__(self, channels, classes, size):
        super().__init__(3, classes, size)


class Square(Small):
    def __init__(self, channels, classes, size):
        super().__init__(channels, classes, (size[0], size[0]))


class Flat(Small):
    def forward(self, x):
        return super().forward(x) if self.training else super().forward(x).flatten()


class NotFinite(Small):
    def forward(self, x):
        out = super().forward(x)
        return (out[0] / 0, out[1]) if self.training else out


def builder(net, least=3, message="image_size of at least {0} x {0}, got {1}", error=ConfigError, looser=0):
    def made(
        in_channels: Annotated[int, AtLeast(1)] = 3,
        num_classes: Annotated[int, AtLeast(1)] = 10,
        image_size: tuple[int, int] = (8, 8),
    ) -> nn.Module:
        if image_size[0] < least or image_size[1] < least - looser:
            raise error(message.format(least, image_size))
        return net(in_channels, num_classes, image_size)

    return made


def check(monkeypatch, tmp_path, made):
    monkeypatch.setattr(Entry, "load", lambda entry: made)
    monkeypatch.setattr(checks, "build", lambda kind, text, *inputs: made(*inputs))
    checks.check_net(Entry(name="made", kind="net", module="m", qualname="q"), tmp_path)


def test_a_good_net_passes(monkeypatch, tmp_path):
    check(monkeypatch, tmp_path, builder(Small))


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (builder(AuxInPrediction), "in evaluation it gives something beside the logits"),
        (builder(AuxFirst), "its output does not come from the head aux"),
        (builder(Idle), "no gradient reaches idle.bias, idle.weight"),
        (builder(Stopped), "no gradient reaches aux.bias, aux.weight, conv.bias, conv.weight"),
        (builder(OneHead), "2 logits in training, and 1 heads"),
        (builder(NoHead), "it names no head"),
        (builder(Unsaved), "with the same state it gives other logits"),
        (builder(Flat), r"logits are \(16,\), not \(4, 4\)"),
        (builder(NotFinite), "logits are not finite"),
        (builder(Small, message="too small: {1}"), r"it takes 3 x 3, but says: too small: \(2, 2\)"),
        (builder(Small, message="of at least {0} x {0}"), "the refusal of 1 x 1 does not name it"),
        (builder(Small, least=4, looser=1), r"\(4, 3\) is accepted, \(3, 3\) is not"),
        (builder(Small, least=600), "it refuses 512 x 512 pixels"),
    ],
)
def test_a_broken_promise_is_found(made, message, monkeypatch, tmp_path):
    with pytest.raises(ContractError, match=message):
        check(monkeypatch, tmp_path, made)


@pytest.mark.parametrize(
    ("made", "error"),
    [
        (builder(Small, least=1), RuntimeError),  # takes images that its convolution cannot
        (builder(Small, error=ValueError), ValueError),
        (builder(OneChannel), RuntimeError),
        (builder(Square), RuntimeError),
    ],
)
def test_what_a_net_cannot_do_comes_up(made, error, monkeypatch, tmp_path):
    with pytest.raises(error):
        check(monkeypatch, tmp_path, made)


def test_a_head_of_another_size_and_a_missing_default(monkeypatch, tmp_path):
    class Wrong(Small):
        heads = ("head", "conv")

        def __init__(self, channels, classes, size):
            super().__init__(channels, classes, size)
            self.conv = nn.Conv2d(channels, 5, 3)
            self.head = nn.Linear(5 * (size[0] - 2) * (size[1] - 2), classes)
            self.aux = nn.Linear(5 * (size[0] - 2) * (size[1] - 2), classes)

    with pytest.raises(ContractError, match="the head conv has 5 rows for 4 classes"):
        check(monkeypatch, tmp_path, builder(Wrong))
    with pytest.raises(ContractError, match="an argument has no default"):
        check(monkeypatch, tmp_path, lambda in_channels, num_classes=1, image_size=(8, 8): None)
