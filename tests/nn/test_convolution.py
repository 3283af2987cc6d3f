"""Convolutions against SciPy, and the arithmetic of sizes against torch itself."""

import itertools

import numpy as np
import pytest
import torch
from scipy import ndimage, signal
from torch import nn
from torch.nn import functional as F

from konspekt.core.errors import ConfigError
from konspekt.core.params import build
from konspekt.core.registry import lookup
from konspekt.nn import initialise, output_size, transposed_size
from konspekt.nn.convolution import MODES, convolution, pointwise, transposed

# torch's names for what lies past the edge, and SciPy's
SCIPY = {"zeros": "constant", "replicate": "nearest", "reflect": "mirror", "circular": "wrap"}


def made(*arguments, seed=0, **named):
    torch.manual_seed(seed)
    return convolution(*arguments, **named).double()


def image(*shape):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("mode", SCIPY)
@pytest.mark.parametrize(("kernel", "dilation"), [(3, 1), (5, 1), (3, 2), (1, 1)])
def test_same_convolution_is_scipys_correlation(mode, kernel, dilation):
    layer = made(2, 3, kernel=kernel, padding_mode=mode, dilation=dilation)
    x = image(2, 2, 9, 7)
    weight, bias = layer.weight.detach().numpy(), layer.bias.detach().numpy()
    wide = np.zeros((3, 2, dilation * (kernel - 1) + 1, dilation * (kernel - 1) + 1))
    wide[:, :, ::dilation, ::dilation] = weight
    expected = np.zeros((2, 3, 9, 7))
    for b, f, c in itertools.product(range(2), range(3), range(2)):
        expected[b, f] += ndimage.correlate(x[b, c].numpy(), wide[f, c], mode=SCIPY[mode])
    assert np.allclose(layer(x).detach().numpy(), expected + bias[:, None, None], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("stride", [1, 2, 3])
def test_without_padding_it_is_scipys_valid_correlation_at_every_stride(stride):
    layer = made(3, 2, kernel=4, padding=0, stride=stride, bias=False)
    x = image(1, 3, 11, 8)
    weight = layer.weight.detach().numpy()
    for f in range(2):
        expected = sum(signal.correlate2d(x[0, c].numpy(), weight[f, c], mode="valid") for c in range(3))
        assert np.allclose(layer(x)[0, f].detach().numpy(), expected[::stride, ::stride], rtol=1e-10, atol=1e-12)


def test_groups_see_their_own_channels_only():
    layer = made(4, 6, groups=2)
    x = image(1, 4, 5, 5)
    halves = []
    for g in range(2):
        part = made(2, 3)
        part.load_state_dict({"weight": layer.weight[3 * g : 3 * g + 3], "bias": layer.bias[3 * g : 3 * g + 3]})
        halves.append(part(x[:, 2 * g : 2 * g + 2]))
    assert torch.allclose(layer(x), torch.cat(halves, 1), rtol=1e-12, atol=1e-12)
    depthwise = made(4, 4, groups=4, bias=False)
    expected = ndimage.correlate(x[0, 3].numpy(), depthwise.weight[3, 0].detach().numpy(), mode="constant")
    assert np.allclose(depthwise(x)[0, 3].detach().numpy(), expected, rtol=1e-10)


def test_pointwise_is_a_full_layer_at_each_pixel():
    torch.manual_seed(0)
    layer = pointwise(3, 5).double()
    x = image(2, 3, 4, 6)
    matrix, bias = layer.weight.detach().numpy()[:, :, 0, 0], layer.bias.detach().numpy()
    expected = np.einsum("fc,bchw->bfhw", matrix, x.numpy()) + bias[:, None, None]
    assert np.allclose(layer(x).detach().numpy(), expected, rtol=1e-12)
    assert pointwise(3, 5, stride=2, bias=False)(x.float()).shape == (2, 5, 2, 3)


@pytest.mark.parametrize(("stride", "padding", "dilation"), [(1, 0, 1), (2, 1, 1), (3, 2, 2)])
def test_the_transposed_convolution_is_the_transpose(stride, padding, dilation):
    """<convolution(x), y> = <x, transposed(y)>, with the same numbers."""
    torch.manual_seed(0)
    up = transposed(3, 2, kernel=3, stride=stride, padding=padding, dilation=dilation, bias=False).double()
    y = image(1, 3, 4, 5)
    x = image(1, 2, *up(y).shape[-2:])
    down = F.conv2d(x, up.weight, stride=stride, padding=padding, dilation=dilation)
    assert down.shape == y.shape
    assert (down * y).sum().item() == pytest.approx((x * up(y)).sum().item(), rel=1e-10)


def test_the_transposed_convolution_lays_down_kernels():
    torch.manual_seed(0)
    up = transposed(1, 1, kernel=3, stride=2).double()
    y = image(1, 1, 4, 3)
    spread = np.zeros((7, 5))
    spread[::2, ::2] = y[0, 0].numpy()
    expected = signal.convolve2d(spread, up.weight[0, 0].detach().numpy()) + up.bias.item()
    assert np.allclose(up(y)[0, 0].detach().numpy(), expected, rtol=1e-10)


def test_output_size_is_torchs_for_every_small_case():
    cases = itertools.product(range(1, 9), range(1, 5), range(1, 4), range(3), range(1, 4))
    for size, kernel, stride, padding, dilation in cases:
        x = torch.empty(1, 1, size, size, device="meta")
        weight = torch.empty(1, 1, kernel, kernel, device="meta")
        try:
            expected = F.conv2d(x, weight, None, stride, padding, dilation).shape[-1]
        except RuntimeError:
            with pytest.raises(ConfigError, match="does not fit into"):
                output_size(size, kernel, stride, padding, dilation)
        else:
            assert output_size(size, kernel, stride, padding, dilation) == expected


@pytest.mark.parametrize("ceil", [False, True])
def test_output_size_of_pooling_is_torchs_for_every_small_case(ceil):
    for size, kernel, stride, padding in itertools.product(range(1, 10), range(1, 5), range(1, 5), range(3)):
        if 2 * padding > kernel:
            continue
        try:
            expected = F.max_pool2d(torch.zeros(1, 1, size, size), kernel, stride, padding, ceil_mode=ceil).shape[-1]
        except RuntimeError:
            with pytest.raises(ConfigError, match="does not fit into"):
                output_size(size, kernel, stride, padding, ceil=ceil)
        else:
            assert output_size(size, kernel, stride, padding, ceil=ceil) == expected


def test_transposed_size_is_torchs_and_undoes_output_size():
    cases = itertools.product(range(1, 6), range(1, 5), range(1, 4), range(3), range(1, 3), range(2))
    for size, kernel, stride, padding, dilation, more in cases:
        if more >= max(stride, dilation):
            continue
        y = torch.empty(1, 1, size, size, device="meta")
        weight = torch.empty(1, 1, kernel, kernel, device="meta")
        try:
            expected = F.conv_transpose2d(y, weight, None, stride, padding, more, 1, dilation).shape[-1]
        except RuntimeError:
            with pytest.raises(ConfigError, match=rf"of {size} pixels: take less padding"):
                transposed_size(size, kernel, stride, padding, dilation, output_padding=more)
            continue
        assert transposed_size(size, kernel, stride, padding, dilation, output_padding=more) == expected
        if more < stride:
            assert output_size(expected, kernel, stride, padding, dilation) == size


def test_sizes_of_known_nets():
    assert output_size(224, 7, 2, 3) == 112  # ResNet's first layer
    assert output_size(227, 11, 4) == 55  # AlexNet's, which the notes' formula without a floor gives as 54.25 at 224
    assert output_size(224, 11, 4) == 54
    assert output_size(112, 3, 2, ceil=True) == 56  # GoogLeNet's pooling
    assert transposed_size(28, 2, 2) == 56  # U-Net's way up


@pytest.mark.parametrize("size", [(3, 5), (8, 7)])
@pytest.mark.parametrize("stride", [1, 2])
def test_same_padding_keeps_the_size_over_the_stride(size, stride):
    for kernel, dilation, mode in itertools.product((1, 3, 5), (1, 2), MODES):
        if mode in ("reflect", "circular") and dilation * (kernel - 1) // 2 > min(size) - 1:
            continue
        layer = convolution(1, 1, kernel=kernel, dilation=dilation, stride=stride, padding_mode=mode)
        assert layer(torch.rand(1, 1, *size)).shape[-2:] == tuple(-(-s // stride) for s in size)


def test_images_that_are_too_small_say_so():
    reflect = convolution(1, 1, kernel=7, padding_mode="reflect")
    assert reflect(torch.rand(1, 1, 4, 4)).shape == (1, 1, 4, 4)
    with pytest.raises(ConfigError, match=r"padding_mode='reflect' continues an image of 3 pixels by at most 2, and 3"):
        reflect(torch.rand(1, 1, 9, 3))
    circular = convolution(1, 1, kernel=7, padding_mode="circular")
    assert circular(torch.rand(1, 1, 3, 3)).shape == (1, 1, 3, 3)
    with pytest.raises(
        ConfigError, match=r"'circular' continues an image of 2 pixels by at most 2, and 3 .*2 pixels high"
    ):
        circular(torch.rand(1, 1, 2, 9))
    with pytest.raises(ConfigError, match=r"a window of 5 pixels \(kernel 3, dilation 2\) does not fit into 4 pixels"):
        convolution(1, 1, padding=0, dilation=2)(torch.rand(1, 1, 4, 9))
    assert convolution(1, 2)(torch.rand(1, 3, 3)).shape == (2, 3, 3)  # one image without a batch


def test_arguments_are_checked():
    with pytest.raises(ConfigError, match="layer 'convolution': groups=2 does not divide in_channels=3"):
        convolution(3, 4, groups=2)
    with pytest.raises(ConfigError, match="layer 'transposed': groups=2 does not divide out_channels=3"):
        transposed(4, 3, groups=2)
    with pytest.raises(
        ConfigError, match="padding='same' needs a window with a middle; kernel=4 with dilation=1 has none"
    ):
        convolution(3, 4, kernel=4)
    with pytest.raises(ConfigError, match=r"padding_mode must be one of 'zeros', 'replicate', .*got 'mirror'"):
        build("layer", "convolution(padding_mode='mirror')", 3, 4)
    with pytest.raises(
        ConfigError, match="layer 'convolution': padding must be an integer at least 0, or 'same', got -1"
    ):
        convolution(3, 4, padding=-1)
    with pytest.raises(ConfigError, match="layer 'pointwise': out_channels must be an integer at least 1, got 0"):
        pointwise(3, 0)
    with pytest.raises(ConfigError, match="output_padding must be less than stride=2 or dilation=1, got 2"):
        transposed(3, 4, output_padding=2)


def test_even_windows_with_even_dilation_have_a_middle():
    assert convolution(1, 1, kernel=4, dilation=2)(torch.rand(1, 1, 8, 8)).shape == (1, 1, 8, 8)


def test_they_are_torchs_layers_and_initialised_as_such():
    layer = build("layer", "convolution(kernel=5, padding_mode='circular')", 3, 4)
    assert isinstance(layer, nn.Conv2d)
    initialise(layer, "zeros")
    assert not layer.weight.any()
    for name in ("convolution", "pointwise", "transposed"):
        assert lookup("layer", name).rows == ("D1",)


@pytest.mark.parametrize("mode", MODES)
def test_gradients(mode):
    layer = made(2, 2, kernel=3, padding_mode=mode, dilation=2, stride=2)
    x = image(1, 2, 5, 4).requires_grad_()
    assert torch.autograd.gradcheck(lambda x, *_: layer(x), (x, layer.weight, layer.bias))
