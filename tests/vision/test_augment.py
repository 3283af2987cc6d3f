"""Shifts against NumPy, and draws that belong to the image and not to its batch."""

import numpy as np
import pytest
import torch

from konspekt.core.errors import ConfigError
from konspekt.vision import augment as module
from konspekt.vision.augment import AUGMENTATIONS, augment, shift


def moved(image: np.ndarray, down: int, right: int) -> np.ndarray:
    """(C, H, W), padded by its edge, rolled, and cut out again."""
    pad = max(abs(down), abs(right))
    wide = np.pad(image, ((0, 0), (pad, pad), (pad, pad)), mode="edge")
    rolled = np.roll(wide, (down, right), (1, 2))
    return rolled[:, pad : pad + image.shape[1], pad : pad + image.shape[2]]


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(200, 1, 9, 12), (200, 3, 8, 8)])
def test_shift_moves_and_repeats_the_edge(dtype, shape):
    x = torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(0)).to(dtype)
    out = shift(x, torch.arange(len(x)), seed=1, epoch=2, by=2)
    assert out.dtype is dtype
    assert out.shape == x.shape
    assert out.is_contiguous()
    found = set()
    for image, result in zip(x.numpy(), out.numpy(), strict=True):
        fits = [(d, r) for d in range(-2, 3) for r in range(-2, 3) if np.array_equal(moved(image, d, r), result)]
        assert len(fits) == 1
        found.add(fits[0])
    assert len(found) == 25  # every way occurs


def test_each_way_is_equally_likely():
    x = torch.zeros(20_000, 1, 5, 5)
    x[:, :, 2, 2] = 1
    where = shift(x, torch.arange(len(x)), seed=0, epoch=0, by=2)[:, 0].sum(0)
    assert where.sum() == 20_000
    assert ((where - 800).abs() < 5 * 800**0.5).all()


def test_the_default_is_a_sixteenth():
    for height, width, down, right in ((32, 64, 2, 4), (8, 8, 1, 1), (5, 40, 1, 2)):
        x = torch.arange(height * width).view(1, 1, height, width).expand(500, 1, height, width)
        out = shift(x, torch.arange(500), seed=0, epoch=0)
        centre = out[:, 0, height // 2, width // 2]
        assert set((centre // width - height // 2).tolist()) == set(range(-down, down + 1))
        assert set((centre % width - width // 2).tolist()) == set(range(-right, right + 1))


def test_draws_belong_to_the_item_and_not_to_the_batch():
    x = torch.randint(0, 256, (50, 3, 16, 16), dtype=torch.uint8)
    index = torch.randperm(50) + 1000
    whole = augment(x, index, names=("shift", "shift"), seed=3, epoch=4)
    for order in (torch.randperm(50), torch.tensor([7]), torch.arange(0, 50, 3)):
        part = augment(x[order], index[order], names=("shift", "shift"), seed=3, epoch=4)
        assert torch.equal(part, whole[order])


def test_draws_differ_by_epoch_seed_and_place(monkeypatch):
    x = torch.arange(256.0).view(1, 1, 16, 16).expand(64, 1, 16, 16)
    index = torch.arange(64)
    runs = [augment(x, index, names=("shift",), seed=s, epoch=e) for s, e in ((0, 0), (0, 1), (1, 0))]
    assert torch.equal(runs[0], augment(x, index, names=("shift",), seed=0, epoch=0))
    assert not any(torch.equal(runs[a], runs[b]) for a, b in ((0, 1), (0, 2), (1, 2)))
    seeds = []
    monkeypatch.setitem(AUGMENTATIONS, "note", lambda pixels, index, *, seed, epoch: seeds.append(seed) or pixels)
    monkeypatch.setitem(AUGMENTATIONS, "other", lambda pixels, index, *, seed, epoch: seeds.append(seed) or pixels)
    augment(x, index, names=("note", "note", "other"), seed=0, epoch=0)
    augment(x, index, names=("other", "note"), seed=0, epoch=0)
    assert len(set(seeds)) == 4  # "note" in second place, twice, is the same


def test_the_callers_generator_and_images_are_left_alone():
    x = torch.rand(8, 1, 16, 16)
    before, state = x.clone(), torch.get_rng_state()
    augment(x, torch.arange(8), names=("shift",), seed=0, epoch=0)
    assert torch.equal(x, before)
    assert torch.equal(torch.get_rng_state(), state)


def test_odd_batches():
    assert shift(torch.zeros(0, 1, 8, 8), torch.zeros(0, dtype=torch.long), seed=0, epoch=0).shape == (0, 1, 8, 8)
    x = torch.rand(4, 2, 6, 5)
    assert torch.equal(shift(x, torch.arange(4), seed=0, epoch=0, by=0), x)
    assert shift(x, torch.arange(4), seed=0, epoch=0, by=20).shape == x.shape  # farther than the image is wide
    turned = torch.rand(4, 6, 5, 2).permute(0, 3, 1, 2)
    same = shift(turned.contiguous(), torch.arange(4), seed=0, epoch=0)
    assert torch.equal(shift(turned, torch.arange(4), seed=0, epoch=0), same)
    assert augment(x, torch.arange(4), names=(), seed=0, epoch=0) is x


def test_errors():
    x, index = torch.rand(4, 1, 8, 8), torch.arange(4)
    with pytest.raises(ConfigError, match="shift: by must be at least 0, got -1"):
        shift(x, index, seed=0, epoch=0, by=-1)
    with pytest.raises(ConfigError, match=r"augment: 'shfit' is not an augmentation; did you mean 'shift'\?"):
        augment(x, index, names=("shfit",), seed=0, epoch=0)
    assert set(AUGMENTATIONS) <= set(module.__all__)
