"""Inverted dropout by its distribution."""

from __future__ import annotations

import pytest
import torch
from scipy import stats

from konspekt.core import ConfigError
from konspekt.core.params import build


@pytest.mark.parametrize("p", [0.1, 0.3, 0.5, 0.9])
def test_p_drops_and_the_rest_is_scaled_so_that_the_mean_stays(p):
    torch.manual_seed(0)
    n = 50_000
    layer = build("layer", f"dropout(p={p})").train()
    x = torch.full((n,), 3.0, dtype=torch.float64)
    y = layer(x)
    dropped = int((y == 0).sum())
    assert stats.binomtest(dropped, n, p).pvalue > 1e-3
    assert y[y != 0].tolist() == pytest.approx([3 / (1 - p)] * (n - dropped))
    assert y.mean().item() == pytest.approx(3, rel=0.05)


def test_the_gradient_passes_where_the_number_did():
    torch.manual_seed(1)
    x = torch.ones(100, dtype=torch.float64, requires_grad=True)
    y = build("layer", "dropout")(x)
    (slope,) = torch.autograd.grad(y.sum(), x)
    assert torch.equal(slope, y.detach())
    assert set(slope.tolist()) == {0.0, 2.0}


def test_evaluation_does_nothing_and_the_mask_repeats_with_the_seed():
    layer = build("layer", "dropout(p=0.4)")
    x = torch.randn(5, 7)
    torch.manual_seed(2)
    first = layer(x)
    torch.manual_seed(2)
    assert torch.equal(layer(x), first)
    assert torch.equal(layer.eval()(x), x)
    assert torch.equal(build("layer", "dropout(p=0)").train()(x), x)


@pytest.mark.parametrize("p", ["1", "-0.1", "1.5"])
def test_bounds(p):
    with pytest.raises(ConfigError, match=f"layer 'dropout': p must be at least 0 and less than 1, got {p}"):
        build("layer", f"dropout(p={p})")
