"""Norm layers: batch renormalisation against its formula in numpy and against batch normalisation, the rest by definition."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from konspekt.core import ConfigError
from konspekt.core.params import build
from konspekt.nn import BatchRenorm, norm_layer

SHAPES = [(6, 4), (3, 4, 5, 2)]


def batch(shape, seed=0, scale=2.0, shift=1.0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, dtype=torch.float64, generator=generator) * scale + shift


def perturb(module):
    """Give the layer a scale, a shift and statistics that are not the initial ones."""
    generator = torch.Generator().manual_seed(9)
    for name, p in module.state_dict().items():
        if p.is_floating_point():
            p.copy_(torch.rand(p.shape, generator=generator, dtype=torch.float64) + 0.5 + (name == "running_var"))
    return module


def column(values, dims):
    return values.reshape(1, -1, *[1] * (dims - 2))


def formula(x, state, r_max, d_max, momentum=0.1, eps=1e-5):
    """The paper's algorithm 1 in numpy; the running variance is unbiased."""
    axes = (0, *range(2, x.ndim))
    n = x.size // x.shape[1]
    mean, var = x.mean(axes), x.var(axes)
    sigma = np.sqrt(state["running_var"] + eps)
    r = np.clip(np.sqrt(var + eps) / sigma, 1 / r_max, r_max)
    d = np.clip((mean - state["running_mean"]) / sigma, -d_max, d_max)
    y = (x - column(mean, x.ndim)) / np.sqrt(column(var, x.ndim) + eps) * column(r, x.ndim) + column(d, x.ndim)
    return (
        y * column(state["weight"], x.ndim) + column(state["bias"], x.ndim),
        (1 - momentum) * state["running_mean"] + momentum * mean,
        (1 - momentum) * state["running_var"] + momentum * var * n / (n - 1),
        (r, d),
    )


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("r_max", "d_max"), [(3.0, 5.0), (1.2, 0.3), (1.0, 0.0), (1e9, 1e9)])
def test_renorm_is_the_papers_formula(shape, r_max, d_max):
    layer = perturb(BatchRenorm(4, r_max=r_max, d_max=d_max).double())
    state = {k: v.clone().numpy() for k, v in layer.state_dict().items()}
    x = batch(shape, scale=4.0, shift=-1.0)
    y, mean, var, (r, d) = formula(x.numpy(), state, r_max, d_max)
    if r_max == 1.2:
        assert (r == 1.2).any(), "nothing was clipped"
        assert (abs(d) == 0.3).any()
    np.testing.assert_allclose(layer(x).detach().numpy(), y, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(layer.running_mean.numpy(), mean, rtol=1e-12)
    np.testing.assert_allclose(layer.running_var.numpy(), var, rtol=1e-12)
    assert layer.num_batches_tracked == 1


@pytest.mark.parametrize("shape", SHAPES)
def test_with_r_1_and_d_0_it_is_batch_normalisation_in_values_gradients_and_statistics(shape):
    ours = perturb(BatchRenorm(4, r_max=1, d_max=0).double())
    theirs = norm_layer("batch", 4, len(shape) // 2).double()
    theirs.load_state_dict(ours.state_dict())
    for seed in range(3):
        x = batch(shape, seed).requires_grad_()
        x2 = x.detach().clone().requires_grad_()
        y, y2 = ours(x), theirs(x2)
        weight = batch(shape, 50)
        (y * weight).sum().backward()
        (y2 * weight).sum().backward()
        torch.testing.assert_close(y, y2, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(x.grad, x2.grad, rtol=1e-9, atol=1e-10)
    for (name, a), (name2, b) in zip(ours.state_dict().items(), theirs.state_dict().items(), strict=True):
        assert name == name2
        torch.testing.assert_close(a, b, rtol=1e-12, atol=0)
    torch.testing.assert_close(ours.weight.grad, theirs.weight.grad, rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(ours.bias.grad, theirs.bias.grad, rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(ours.eval()(x), theirs.eval()(x), rtol=1e-12, atol=1e-12)


def test_gradcheck_of_the_part_through_which_gradients_flow():
    layer = perturb(BatchRenorm(3, r_max=1, d_max=0).double())
    x = batch((5, 3)).requires_grad_()
    assert torch.autograd.gradcheck(lambda x, *_: layer(x), (x, layer.weight, layer.bias))


def test_no_gradient_flows_through_r_and_d():
    layer = perturb(BatchRenorm(4).double())
    x = batch((6, 4)).requires_grad_()
    mean, var = x.mean(0), x.var(0, correction=0)
    sigma = (layer.running_var + 1e-5).sqrt().clone()
    r = ((var + 1e-5).sqrt() / sigma).clamp(1 / 3, 3).detach()
    d = ((mean - layer.running_mean) / sigma).clamp(-5, 5).detach()
    written_out = ((x - mean) / (var + 1e-5).sqrt() * r + d) * layer.weight + layer.bias
    weight = batch((6, 4), 7)
    inputs = (x, layer.weight, layer.bias)
    expected = torch.autograd.grad((written_out * weight).sum(), inputs)
    for a, b in zip(torch.autograd.grad((layer(x) * weight).sum(), inputs), expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("shape", SHAPES)
def test_unclipped_training_output_is_what_prediction_gives(shape):
    layer = perturb(BatchRenorm(4, r_max=1e9, d_max=1e9).double())
    x = batch(shape)
    predicted = copy.deepcopy(layer).eval()(x)
    torch.testing.assert_close(layer(x), predicted, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("shape", [(1, 4), (1, 4, 1, 1)])
def test_a_single_value_for_each_feature_uses_the_running_statistics_and_leaves_them(shape):
    layer = perturb(BatchRenorm(4).double())
    before = copy.deepcopy(layer.state_dict())
    x = batch(shape).requires_grad_()
    y = layer(x)
    torch.testing.assert_close(y, copy.deepcopy(layer).eval()(x))
    assert all(torch.equal(v, before[k]) for k, v in layer.state_dict().items())
    y.sum().backward()
    assert x.grad.isfinite().all()
    with pytest.raises(ValueError, match="Expected more than 1 value per channel"):
        norm_layer("batch", 4, len(shape) // 2).double()(batch(shape))


def test_one_image_has_statistics_of_its_own():
    layer = BatchRenorm(4).double()
    layer(batch((1, 4, 5, 5)))
    assert layer.num_batches_tracked == 1
    assert layer(torch.empty(0, 4, dtype=torch.float64)).shape == (0, 4)


def test_statistics_approach_those_of_the_data_and_prediction_is_standardised():
    layer = BatchRenorm(4).double()
    for seed in range(200):
        layer(batch((64, 4), seed))
    x = batch((5000, 4), 999)
    y = layer.eval()(x)
    assert y.mean(0).abs().max() < 0.15
    assert y.std(0).tolist() == pytest.approx([1] * 4, rel=0.1)


def test_warmup_goes_from_batch_normalisation_to_the_bounds():
    layer = BatchRenorm(4, r_max=1.5, d_max=0.4, warmup=4).double()
    with torch.no_grad():
        layer.running_mean += 30  # so that r and d stay clipped
        layer.running_var *= 1e4
    for step in range(6):
        done = min(step / 4, 1)
        state = {k: v.clone().numpy() for k, v in layer.state_dict().items()}
        x = batch((6, 4), step)
        y, *_ = formula(x.numpy(), state, 1 + done * 0.5, done * 0.4)
        np.testing.assert_allclose(layer(x).detach().numpy(), y, rtol=1e-9, atol=1e-9)


def test_state_saves_and_loads_also_from_batch_normalisation():
    layer = BatchRenorm(4).double()
    layer(batch((6, 4)))
    other = BatchRenorm(4).double()
    other.load_state_dict(layer.state_dict())
    x = batch((6, 4), 1)
    assert torch.equal(layer(x), other(x))
    assert torch.equal(layer.eval()(x), other.eval()(x))
    assert set(layer.state_dict()) == set(nn.BatchNorm1d(4).state_dict())


def test_the_batch_does_not_matter_to_prediction():
    layer = perturb(BatchRenorm(4).double()).eval()
    x = batch((6, 4))
    torch.testing.assert_close(layer(x)[2:3], layer(x[2:3]))


@pytest.mark.parametrize("dims", [1, 2])
def test_layer_normalisation_is_over_all_features_of_an_item(dims):
    layer = norm_layer("layer", 4, dims).double()
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([1.0, 2.0, 3.0, 4.0]))
        layer.bias.copy_(torch.tensor([0.0, 1.0, 0.0, -1.0]))
    x = batch(SHAPES[dims - 1]).numpy()
    axes = tuple(range(1, x.ndim))
    z = (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + 1e-5)
    expected = z * column(np.arange(1.0, 5), x.ndim) + column(np.array([0.0, 1, 0, -1]), x.ndim)
    np.testing.assert_allclose(layer(torch.from_numpy(x)).detach().numpy(), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("dims", [1, 2])
def test_batch_normalisation_is_over_the_batch_and_space(dims):
    x = batch(SHAPES[dims - 1]).numpy()
    layer = norm_layer("batch", 4, dims).double()
    axes = (0, *range(2, x.ndim))
    expected = (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + 1e-5)
    np.testing.assert_allclose(layer(torch.from_numpy(x)).detach().numpy(), expected, rtol=1e-10, atol=1e-10)


def test_norm_layer_by_name():
    assert norm_layer("none", 4, 1) is None
    assert isinstance(norm_layer("batch", 4, 1), nn.BatchNorm1d)
    assert isinstance(norm_layer("batch", 4, 2), nn.BatchNorm2d)
    assert isinstance(norm_layer("renorm", 4, 2), BatchRenorm)
    assert isinstance(norm_layer("layer", 4, 1), nn.LayerNorm)
    with pytest.raises(ConfigError, match=r"'bach' is not a norm layer; did you mean 'batch'\?"):
        norm_layer("bach", 4, 1)
    for name in ("batch", "renorm", "layer"):
        with pytest.raises(ConfigError, match=f"norm '{name}': dimensions must be 1 .* or 2 .*, got 3"):
            norm_layer(name, 4, 3)


def test_arguments_through_the_registry():
    layer = build("layer", "renorm(r_max=2.0, d_max=1.0, warmup=3, momentum=0.2, eps=1e-3)", 4, 2)
    assert repr(layer) == "BatchRenorm(4, r_max=2.0, d_max=1.0, warmup=3, momentum=0.2, eps=0.001)"
    assert build("layer", "batch(momentum=0.3, eps=1e-4)", 4).momentum == 0.3
    assert build("layer", "layer(eps=1e-4)", 4).eps == 1e-4
    with pytest.raises(ConfigError, match=r"layer 'renorm': r_max must be at least 1, got 0\.5"):
        build("layer", "renorm(r_max=0.5)", 4, 1)
