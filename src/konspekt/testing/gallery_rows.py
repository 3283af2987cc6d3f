"""What the gallery is made of: photographs and digits, two small nets, rows of augmented photographs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from konspekt.data.fields import Batch
from konspekt.vision.augment import augment
from konspekt.vision.classifier import ImageClassifier

__all__ = [
    "AUGMENTATIONS",
    "SCENES",
    "augmented",
    "batch",
    "fit_digits",
    "fit_scenes",
    "handwritten",
    "mixed",
    "photograph",
    "tensor",
]

SCENES = "resnet18(width=0.25)"
BOXES = {"china": (62, 28, 352, 395), "flower": (168, 84, 448, 360)}  # left, upper, right, lower: temple, flower
TILE = (144, 96)  # pixels of an augmented photograph, width and height
AUGMENTATIONS = {  # name -> (photograph, as it is drawn); where the usual strength is too mild for small pictures, stronger
    "flip": ("china", "flip"),
    "vertical-flip": ("china", "vertical-flip"),
    "crop": ("china", "crop(padding=24)"),
    "shift": ("china", "shift(by=20)"),
    "rotate": ("flower", "rotate(degrees=40)"),
    "resize-crop": ("flower", "resize-crop(area=0.2)"),
    "brightness": ("flower", "brightness(by=0.6)"),
    "contrast": ("flower", "contrast(by=0.8)"),
    "saturation": ("flower", "saturation(by=0.9)"),
    "gamma": ("flower", "gamma(most=2.5)"),
    "rgb-shift": ("flower", "rgb-shift(by=0.25)"),
    "grey": ("flower", "grey(p=0.5)"),
    "blur": ("china", "blur(least=0.5, most=3, p=1)"),
    "cut-out": ("china", "cut-out(size=0.5)"),
    "noise": ("china", "noise(std=0.15)"),
    "mixup": ("china", "mixup(alpha=1)"),
}


# --- data and nets ----------------------------------------------------------------------------------------------------


def photograph(name: str) -> NDArray[np.uint8]:
    """(427, 640, 3): "china" or "flower", of scikit-learn."""
    from sklearn.datasets import load_sample_image

    return np.array(load_sample_image(f"{name}.jpg"))


def handwritten() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """(1797, 8, 8) and (1797,): scikit-learn's digits, from black 0 to white 255."""
    from sklearn.datasets import load_digits

    data = load_digits()
    return np.uint8(data.images * (255 / 16)), data.target


def tensor(name: str, step: int = 1) -> Tensor:
    """The photograph as a net takes it, (3, H, W) float; step: every how many pixels."""
    return torch.from_numpy(photograph(name)[::step, ::step].copy()).permute(2, 0, 1).float()


def fit_digits(epochs: int = 12, items: int | None = None) -> ImageClassifier:
    """LeNet on scikit-learn's digits. The weight decay takes away what is left of the random beginning in the filters."""
    X, y = handwritten()
    model = ImageClassifier(
        arch="lenet", image_size=32, epochs=epochs, lr=5e-3, optimizer="adamw", weight_decay=1.0, schedule="cosine",
        validation_fraction=0.2, compile=False,
    )  # fmt: skip
    return model.fit(X[:items], y[:items])


def fit_scenes(epochs: int = 6, items: int = 1200) -> ImageClassifier:
    """A thin ResNet-18 that tells 64 x 64 patches of the two photographs apart: "flower", "temple", "rest"."""
    X, y = _patches(items)
    model = ImageClassifier(
        arch=SCENES, augment=("flip",), epochs=epochs, lr=5e-3, optimizer="adamw", weight_decay=2.0,
        schedule="cosine", validation_fraction=0.2, compile=False,
    )  # fmt: skip
    return model.fit(X, y)


def _patches(count: int) -> tuple[NDArray[np.uint8], NDArray[np.str_]]:
    """Squares of 48 to 128 pixels, brought to 64: nearly all in the box, or nearly all outside."""
    rng = np.random.default_rng(0)
    names = {"china": "temple", "flower": "flower"}
    photographs = {name: Image.fromarray(photograph(name)) for name in names}
    X: list[NDArray[np.uint8]] = []
    y: list[str] = []
    while len(X) < count:
        name = ("china", "flower")[rng.integers(2)]
        side = int(rng.integers(48, 129))
        left, upper = int(rng.integers(640 - side)), int(rng.integers(427 - side))
        box = (left, upper, left + side, upper + side)
        wide, high = (min(box[i + 2], BOXES[name][i + 2]) - max(box[i], BOXES[name][i]) for i in (0, 1))
        share = max(wide, 0) * max(high, 0) / side**2
        if not 0.2 < share < 0.8:
            X.append(np.asarray(photographs[name].resize((64, 64), Image.Resampling.BILINEAR, box=box)))
            y.append(names[name] if share >= 0.8 else "rest")
    return np.stack(X), np.array(y)


# --- augmentations ----------------------------------------------------------------------------------------------------


def _small(name: str) -> Image.Image:
    return Image.fromarray(photograph(name)).resize(TILE, Image.Resampling.LANCZOS)


def batch(name: str, count: int = 4) -> Batch:
    """A photograph `count` times, each with a number of its own; the box of what it shows, of the flower a mask too."""
    pixels = torch.from_numpy(np.array(_small(name)))
    box = torch.tensor(BOXES[name]) * torch.tensor([TILE[0] / 640, TILE[1] / 427] * 2)
    made = {
        "x": pixels.permute(2, 0, 1).repeat(count, 1, 1, 1),
        "index": torch.arange(count),
        "boxes": box.repeat(count, 1),
    }
    if name == "flower":
        rows, columns = torch.meshgrid(*(torch.arange(n) + 0.5 for n in reversed(TILE)), indexing="ij")
        orange = pixels[:, :, 0].int() - pixels[:, :, 2].int() > 30
        inside = (columns > box[0]) & (rows > box[1]) & (columns < box[2]) & (rows < box[3])
        made["masks"] = (orange & inside).byte().repeat(count, 1, 1)
    return made


def augmented(name: str) -> Image.Image:
    """The photograph, and beside it four draws of an augmentation."""
    photo, text = AUGMENTATIONS[name]
    before = batch(photo)
    after = augment(before, names=(text,), seed=0, epoch=0)
    moves = any(not torch.equal(before[k], after[k]) for k in ("boxes", "masks") if k in before)
    tiles = [_tile(before, 0, moves), *(_tile(after, i, moves) for i in range(4))]
    return _row(tiles, ["original", text])


def mixed() -> Image.Image:
    """Both photographs, and three mixtures of them with their shares."""
    _, text = AUGMENTATIONS["mixup"]
    pair = {"x": torch.cat([batch(n, 1)["x"] for n in ("china", "flower")]), "index": torch.arange(2)}  # type: ignore[list-item]
    pair["y"] = torch.arange(2)
    tiles, words = [_tile(pair, 0), _tile(pair, 1)], ["original", "original"]
    for epoch in range(3):
        after = augment(pair, names=(text,), seed=0, epoch=epoch)
        tiles.append(_tile(after, 0))
        share = float(after["mix"][0])  # type: ignore[index, arg-type]
        words.append(f"{share:.2f} and {1 - share:.2f}")
    words[2] += f"\n{text}"
    return _row(tiles, words)


def _tile(images: Mapping[str, Any], at: int, frames: bool = False) -> Image.Image:
    tile = Image.fromarray(images["x"][at].permute(1, 2, 0).numpy())
    if frames:
        draw = ImageDraw.Draw(tile)
        left, upper, right, lower = (float(v) for v in images["boxes"][at])
        for width, colour, inset in ((3, "black", -1), (1, "white", 0)):
            draw.rectangle(
                (left + inset, upper + inset, right - 1 - inset, lower - 1 - inset), outline=colour, width=width
            )
        if "masks" in images:
            mask = images["masks"][at].bool()
            inner = mask.clone()
            for dim in (0, 1):
                inner &= mask.roll(1, dim) & mask.roll(-1, dim)
            pixels = np.array(tile)
            pixels[(mask & ~inner).numpy()] = 255
            tile = Image.fromarray(pixels)
    return tile


def _row(tiles: Sequence[Image.Image], words: Sequence[str]) -> Image.Image:
    """Tiles side by side, with words under the first ones; the last word has the room that is left."""
    gap, below = 5, 20 if all("\n" not in word for word in words) else 38
    row = Image.new("RGB", (len(tiles) * (TILE[0] + gap) - gap, TILE[1] + below), "white")
    draw, font = ImageDraw.Draw(row), ImageFont.load_default(size=13)
    for i, tile in enumerate(tiles):
        row.paste(tile, (i * (TILE[0] + gap), 0))
    for i, word in enumerate(words):
        draw.text((i * (TILE[0] + gap) + 1, TILE[1] + 3), word, fill="black", font=font)
    return row
