"""Blur against SciPy, cut-out against NumPy, noise and the shares of mixup against their distributions."""

import numpy as np
import pytest
import torch
from scipy import ndimage, stats

from konspekt.vision.augment_images import Images
from konspekt.vision.augment_mix import mixup, symmetric_beta
from konspekt.vision.augment_pixels import blur, cut_out, noise


def images(x, epoch=0, **fields):
    made = Images({"x": x, "index": torch.arange(len(x)), **fields}, epoch=epoch)
    made.seed = 7
    return made


@pytest.mark.parametrize("shape", [(12, 3, 9, 14), (12, 1, 3, 40), (2, 3, 100, 64)])
def test_blur_is_scipys(shape):
    x = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    made = images(x)
    blur(made, least=0.1, most=3, p=0.7)
    draw, value = (d.double().tolist() for d in made.draws(2))
    for image, result, d, v in zip(x, made.done()["x"], draw, value, strict=True):
        sigma = 0.1 + 2.9 * v
        want = ndimage.gaussian_filter(image.double().numpy(), (0, sigma, sigma), mode="nearest")
        np.testing.assert_allclose(result, want if d < 0.7 else image, atol=1e-6 if d < 0.7 else 0)


@pytest.mark.parametrize("fill", ["mean", "zero"])
@pytest.mark.parametrize(
    ("height", "width", "size", "side"), [(12, 9, 0.5, 4), (8, 8, 0.4, 3), (6, 20, 1.0, 6), (9, 9, 0.01, 1)]
)
def test_cut_out_hides_a_square_around_any_pixel(fill, height, width, size, side):
    x = torch.rand(2000, 3, height, width) + 1
    made = images(x)
    cut_out(made, size=size, fill=fill, p=0.8)
    out = made.done()["x"].numpy()
    found = np.zeros((height, width), int)
    draw, down, across = (d.tolist() for d in made.draws(3))
    for item in range(200):
        y, z = int(down[item] * height), int(across[item] * width)
        want = x[item].numpy().copy()
        if draw[item] < 0.8:
            top, left = y - side // 2, z - side // 2
            seen = (slice(None), slice(max(top, 0), max(top + side, 0)), slice(max(left, 0), max(left + side, 0)))
            want[seen] = 0 if fill == "zero" else want.mean((1, 2), keepdims=True)
        np.testing.assert_allclose(out[item], want, rtol=1e-6)
    for y, z in zip(down, across, strict=True):
        found[int(y * height), int(z * width)] += 1
    expected = 2000 / height / width
    assert (np.abs(found - expected) < 5.5 * expected**0.5).all()


def test_noise_is_normal_and_independent():
    x = torch.zeros(500, 3, 12, 12)
    made = images(x)
    noise(made, std=0.5)
    z = made.done()["x"].double().numpy() * 2
    assert stats.kstest(z.ravel(), "norm").pvalue > 1e-3
    flat = z.reshape(500, -1)
    pairs = {
        "pixels": (z[..., 1:], z[..., :-1]),
        "rows": (z[:, :, 1:], z[:, :, :-1]),
        "channels": (z[:, 1:], z[:, :-1]),
        "images": (flat[1:], flat[:-1]),
        "one on, in the next image": (flat[1:, 1:], flat[:-1, :-1]),
    }
    for what, (a, b) in pairs.items():
        for power in (1, 2):
            bound = 4.5 / a.size**0.5
            assert abs(np.corrcoef(a.ravel() ** power, b.ravel() ** power)[0, 1]) < bound, what
    for change in ({"epoch": 1}, {"seed": 8}):
        other = images(x, epoch=change.get("epoch", 0))
        other.seed = change.get("seed", 7)
        noise(other, std=0.5)
        assert abs(np.corrcoef(other.done()["x"].flatten(), z.ravel())[0, 1]) < 4.5 / z.size**0.5


def test_noise_of_eight_bits_and_its_share():
    made = images(torch.full((200, 1, 16, 16), 128, dtype=torch.uint8))
    noise(made, std=0.04, p=0.3)
    out = made.done()["x"].double()
    acted = made.draws(1)[0] < 0.3
    assert torch.equal((out != 128).flatten(1).any(1), acted)
    assert float((out[acted] - 128).std()) == pytest.approx(0.04 * 255, rel=0.03)


def test_noise_reaches_neither_end():
    made = images(torch.zeros(100, 3, 64, 64))
    drawn = made.noise()
    assert torch.isfinite(drawn.erfinv()).all()
    assert stats.kstest(drawn.flatten().double().numpy(), "uniform", (-1, 2)).pvalue > 1e-3
    assert torch.equal(drawn, ((drawn.double() * 2**24).round() / 2**24).float())


@pytest.mark.parametrize("alpha", [0.1, 0.2, 1.0, 4.0])
def test_shares_are_beta(alpha):
    generator = torch.Generator().manual_seed(3)
    share = symmetric_beta(alpha, *torch.rand(2, 20_000, generator=generator, dtype=torch.float64))
    assert stats.kstest(share.numpy(), "beta", (alpha, alpha)).pvalue > 1e-3
    assert torch.isfinite(symmetric_beta(0.001, torch.tensor([0.0, 0.0, 0.9]), torch.tensor([0.0, 0.25, 0.5]))).all()


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_mixup_mixes_each_image_with_another(dtype):
    x = torch.randint(0, 256, (64, 3, 5, 6)).to(dtype)
    made = images(x, y=torch.arange(64))
    mixup(made, alpha=1.0)
    out = made.done()
    other, share = out["y_other"], out["mix"].double()
    assert sorted(other.tolist()) == list(range(64))
    assert (other != torch.arange(64)).all()
    assert torch.equal(out["y"], torch.arange(64))
    assert out["mix"].dtype is torch.float32
    want = share[:, None, None, None] * x.double() + (1 - share[:, None, None, None]) * x[other].double()
    torch.testing.assert_close(out["x"].double(), want, rtol=0, atol=0.501 if dtype is torch.uint8 else 1e-4)
    again = images(x[:32], y=torch.arange(32))
    mixup(again, alpha=1.0)
    assert torch.equal(again.done()["mix"], out["mix"][:32])  # shares belong to the items
    alone = images(x[:1], y=torch.arange(1))
    mixup(alone)
    assert torch.equal(alone.done()["x"], x[:1])


def test_mixup_mixes_values_too():
    y = torch.rand(8, 2)
    made = images(torch.rand(8, 1, 4, 4), y=y)
    mixup(made)
    out = made.done()["y_other"]
    assert out.shape == y.shape
    assert not torch.equal(out, y)
