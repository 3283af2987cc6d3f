"""Pooling against SciPy's filters and against sums written out."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from konspekt.core.errors import ConfigError
from konspekt.core.params import build
from konspekt.core.registry import lookup
from konspekt.nn.pooling import average_pool, global_pool, max_pool, sum_pool


def image(*shape):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("kernel", [1, 3])
def test_padded_windows_are_scipys_filters(kernel, stride):
    x = image(2, 3, 8, 7)
    window = (1, 1, kernel, kernel)
    arguments = {"kernel": kernel, "stride": stride, "padding": kernel // 2}
    most = ndimage.maximum_filter(x.numpy(), window, mode="constant", cval=-np.inf)
    mean = ndimage.uniform_filter(x.numpy(), window, mode="constant")
    for layer, expected in ((max_pool, most), (average_pool, mean), (sum_pool, mean * kernel**2)):
        out = layer(**arguments)(x).numpy()
        assert np.allclose(out, expected[:, :, ::stride, ::stride], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("kernel", "size"), [(2, (8, 6)), (3, (9, 6))])
def test_windows_that_touch_are_blocks(kernel, size):
    x = image(2, 3, *size)
    blocks = x.numpy().reshape(2, 3, size[0] // kernel, kernel, size[1] // kernel, kernel)
    assert np.array_equal(max_pool(kernel=kernel)(x).numpy(), blocks.max((3, 5)))
    assert np.allclose(average_pool(kernel=kernel)(x).numpy(), blocks.mean((3, 5)), rtol=1e-12)
    assert np.allclose(sum_pool(kernel=kernel)(x).numpy(), blocks.sum((3, 5)), rtol=1e-12)


def test_the_rest_of_a_row_counts_with_ceil():
    x = torch.arange(1.0, 6).expand(1, 1, 5, 5)
    assert max_pool()(x)[0, 0, 0].tolist() == [2, 4]
    assert max_pool(ceil=True)(x)[0, 0, 0].tolist() == [2, 4, 5]
    assert sum_pool(ceil=True)(x)[0, 0, 0].tolist() == [6, 14, 10]
    assert sum_pool(ceil=True)(x)[0, 0, 2].tolist() == [3, 7, 5]
    assert average_pool(ceil=True)(x)[0, 0, 2].tolist() == [1.5, 3.5, 5]


def test_whether_padding_counts_in_the_mean():
    x = torch.ones(1, 1, 4, 4)
    assert average_pool(kernel=3, stride=1, padding=1)(x)[0, 0, 0, 0].item() == pytest.approx(4 / 9)
    assert average_pool(kernel=3, stride=1, padding=1, count_padding=False)(x)[0, 0, 0, 0].item() == 1
    assert sum_pool(kernel=3, stride=1, padding=1)(x)[0, 0, 0, 0].item() == 4
    assert max_pool(kernel=3, stride=1, padding=1)(-x)[0, 0, 0, 0].item() == -1  # the padding never wins


@pytest.mark.parametrize("size", [(1, 1), (5, 3)])
def test_global_pooling(size):
    x = image(2, 4, *size)
    flat = x.numpy().reshape(2, 4, -1)
    assert np.allclose(global_pool()(x).numpy(), flat.mean(2), rtol=1e-12)
    assert np.array_equal(global_pool(how="max")(x).numpy(), flat.max(2))
    assert np.allclose(global_pool(how="sum")(x).numpy(), flat.sum(2), rtol=1e-12)
    assert global_pool(keep=True)(x).shape == (2, 4, 1, 1)


def test_a_small_shift_changes_little():
    """What pooling is for: the shifted image differs less after it than before."""
    x = torch.zeros(1, 1, 8, 8)
    x[0, 0, 1:3, 1:3] = 1
    shifted = x.roll(1, -1)
    before = (x - shifted).abs().sum() / x.sum()
    pool = max_pool(kernel=4)
    after = (pool(x) - pool(shifted)).abs().sum() / pool(x).sum()
    assert before == 1
    assert after == 0


@pytest.mark.parametrize("layer", [max_pool, average_pool, sum_pool])
def test_gradients(layer):
    x = image(1, 2, 5, 4).requires_grad_()
    assert torch.autograd.gradcheck(layer(kernel=3, stride=2, padding=1, ceil=True), (x,))


def test_arguments_and_images_are_checked():
    with pytest.raises(ConfigError, match="layer 'max-pool': padding must be at most half of kernel=3, got 2"):
        max_pool(kernel=3, padding=2)
    with pytest.raises(ConfigError, match="layer 'sum-pool': stride must be an integer at least 1, or None, got 0"):
        sum_pool(stride=0)
    with pytest.raises(ConfigError, match="layer 'average-pool': kernel must be an integer at least 1, got 0"):
        build("layer", "average-pool(kernel=0)")
    with pytest.raises(ConfigError, match="how must be one of 'max', 'average', 'sum', got 'median'"):
        build("layer", "global-pool(how='median')")
    with pytest.raises(ConfigError, match=r"a window of 3 pixels .* does not fit into 2 pixels"):
        max_pool(kernel=3)(torch.rand(1, 1, 5, 2))


def test_the_registry_knows_them():
    for name in ("max-pool", "average-pool", "sum-pool", "global-pool"):
        assert lookup("layer", name).rows == ("D1",)
    assert (
        repr(build("layer", "max-pool(kernel=3, stride=2)")) == "Pool('max', kernel=3, stride=2, padding=0, ceil=False)"
    )
