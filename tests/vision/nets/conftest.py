"""What tests of published nets share: a state that anyone can fill the same way, and what a net makes of it."""

import zlib

import numpy as np
import pytest
import torch


def _fill(net):
    for name, value in net.state_dict().items():
        z = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(value.numel())
        if name.endswith("num_batches_tracked"):
            z = 0 * z
        elif name.endswith("running_var"):
            z = 1 + 0.1 * abs(z)
        elif name.endswith(("running_mean", ".bias")):
            z = 0.05 * z
        elif value.dim() == 1:
            z = 1 + 0.1 * z
        else:
            z = z * np.sqrt(2 / (value.numel() // len(value)))
        value.copy_(torch.from_numpy(z.reshape(value.shape)))
    return net


@pytest.fixture
def fill():
    """Fills a net's state with numbers that depend on the names only, and gives it back."""
    return _fill


@pytest.fixture
def on_meta(monkeypatch):
    """Builds a net without memory for its weights."""

    def build(builder, **arguments):
        with torch.device("meta"), monkeypatch.context() as patch:
            # there it would import a compiler, which takes seconds
            patch.setattr(torch.Tensor, "normal_", lambda self, *_, **__: self)
            return builder(**arguments)

    return build


@pytest.fixture
def published_logits(on_meta):
    """Of a builder: the logits in evaluation, in float64, with the filled state, of two images of 224 x 224 pixels."""

    def logits(builder):
        net = on_meta(builder).double().to_empty(device="cpu").eval()
        _fill(net)
        with torch.no_grad():
            return net(torch.from_numpy(np.random.default_rng(0).standard_normal((2, 3, 224, 224))))

    return logits


@pytest.fixture
def outline(on_meta):
    """Of a builder: its net on the meta device, and the CRC-32 of its lines "name (shape)" of the state in order."""

    def of(builder, **arguments):
        net = on_meta(builder, **arguments)
        lines = "\n".join(f"{name} {tuple(value.shape)}" for name, value in net.state_dict().items())
        return net, zlib.crc32(lines.encode())

    return of
