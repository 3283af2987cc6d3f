"""Transfer to 1,000 photographs of dogs and cats: a net that learned on other data beside one that begins at random.

Yosinski, Clune, Bengio and Lipson 2014, "How transferable are features in deep neural networks?", https://arxiv.org/abs/1411.1792:
what a net learned on one task helps on another, the less the further the two are apart. There is no published value for
these photographs with what is at hand here. The nets begin

    at random
    labelled    with the weights of a net that told 292 written characters (Omniglot), ten digits (MNIST) and three kinds of blood
                cells (BCCD) apart: labelled pictures, but none of them looks like an animal
    turned      with those of a net that said by how many right angles a piece of one of the two photographs of scikit-learn
                (a Chinese temple, a flower) was turned: Gidaris, Singh and Komodakis 2018, https://arxiv.org/abs/1803.07728;
                Asano, Rupprecht and Vedaldi 2020, https://arxiv.org/abs/1904.13132, learn first layers from one picture so

Each is trained on 800 photographs and measured on the 200 others, in each of five parts (the 800 + 200 of the set are shuffled
together once), for as many epochs; a net with weights trains its head in the first half of them, then all of it, the earlier
layers with smaller steps. Chance is 50 %. A difference
is given with the standard error of its mean over the parts.
"""

from __future__ import annotations

import io
import re
import statistics
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from common import Study, folder_of, mnist, some
from PIL import Image
from sklearn.datasets import load_sample_images
from sklearn.model_selection import StratifiedKFold

from konspekt import ImageClassifier

SETTINGS = {
    "short": "ResNet-18, width 0.5, 64 x 64 pixels, 24 epochs of 32, bf16",
    "full": "ResNet-18, 128 x 128 pixels, 200 epochs of 32",
}
BOX = re.compile(
    r"<name>(\w+)</name>.*?<xmin>(\d+)</xmin>\s*<ymin>(\d+)</ymin>\s*<xmax>(\d+)</xmax>\s*<ymax>(\d+)</ymax>", re.DOTALL
)
Pictures = tuple[list[Any], list[str]]


def brought(picture: Image.Image, side: int) -> Image.Image:
    return picture.convert("RGB").resize((side, side), Image.Resampling.BILINEAR)


def labelled(study: Study, side: int, most: int) -> Pictures:
    """Characters, digits and cells, at most so many of each source."""
    X: list[Any] = []
    y: list[str] = []
    for name in ("images_background_small1.zip", "images_background_small2.zip"):
        with zipfile.ZipFile(folder_of(study, "omniglot") / name) as archive:
            files = [n for n in archive.namelist() if n.endswith(".png") and "__MACOSX" not in n]
            for file in files[: most // 2]:
                X.append(brought(Image.open(io.BytesIO(archive.read(file))), side))
                y.append("/".join(file.split("/")[1:3]))  # alphabet and character, which two archives may share
    digits, values, _, _ = mnist(study)
    digits, values = some(digits, values, min(most, 5000), 0)
    X += [brought(Image.fromarray(d), side) for d in digits]
    y += [f"digit {v}" for v in values]
    cells: list[tuple[Any, str]] = []
    for notes in sorted((folder_of(study, "bccd") / "Annotations").glob("*.xml")):
        picture = Image.open(notes.parents[1] / "JPEGImages" / f"{notes.stem}.jpg")
        for kind, *corners in BOX.findall(notes.read_text()):
            left, upper, right, lower = map(int, corners)
            if right > left and lower > upper:
                cells.append((brought(picture.crop((left, upper, right, lower)), side), kind))
        if len(cells) >= most:
            break
    return X + [c for c, _ in cells], y + [k for _, k in cells]


def turned(side: int, count: int) -> Pictures:
    """Square pieces of two photographs, each turned by a multiple of 90 degrees, which is its label."""
    photographs = [Image.fromarray(p) for p in load_sample_images().images]
    draw = np.random.default_rng(0)
    X, y = [], []
    for number in range(count):
        photograph = photographs[number % 2]
        length = int(np.exp(draw.uniform(np.log(side), np.log(min(photograph.size)))))
        left, upper = (int(draw.integers(0, whole - length + 1)) for whole in photograph.size)
        quarter = int(draw.integers(4))
        X.append(brought(photograph.crop((left, upper, left + length, upper + length)), side).rotate(90 * quarter))
        y.append(str(quarter))
    return X, y


def main() -> None:
    study = Study(__file__, __doc__ or "", SETTINGS, seeds=5, unit="parts:")
    folder = folder_of(study, "dogs-cats")
    paths = sorted(p for p in folder.glob("*/*/*.jpg"))
    kinds = np.array([p.parent.name for p in paths])
    side, width, epochs, before = study.pick((32, 0.125, 4, 1), (64, 0.5, 24, 6), (128, 1.0, 200, 60))
    options: dict[str, Any] = {
        "arch": f"resnet18(width={width})",
        "batch_size": 32,
        "lr": 2e-3,
        "schedule": "one-cycle",
        "precision": study.pick("bf16", "bf16", "32"),
    }
    with tempfile.TemporaryDirectory() as made:
        begins: dict[str, str | None] = {"at random": None}
        for name, (X, y) in (
            ("labelled", labelled(study, side, study.pick(400, 6000, 10_000))),
            ("turned", turned(side, study.pick(400, 12_000, 50_000))),
        ):
            draws = ("rgb-shift", "contrast", "crop") + (() if name == "labelled" else ("blur",))
            model = ImageClassifier(**(options | {"batch_size": 128}), augment=draws, epochs=before, random_state=0)
            right = model.fit(X, y, validation=0.1).history_[-1]["val_accuracy"]
            begins[name] = str(Path(made) / name)
            model.save(begins[name])
            study.say(f"{name}: {len(X):,} pictures, {len(set(y))} classes, held-out accuracy {100 * right:.1f} %")
        study.say("part  " + "  ".join(f"{name:>10}" for name in begins) + "   accuracy in %")
        found: dict[str, list[float]] = {name: [] for name in begins}
        parts = StratifiedKFold(5, shuffle=True, random_state=0).split(kinds, kinds)
        for part, (train, test) in zip(study.range, parts, strict=False):
            for name, weights in begins.items():
                stages: dict[str, Any] = {"epochs": epochs}
                if weights is not None:  # `epochs` are those of each stage
                    stages = {"epochs": epochs // 2, "freeze": "body", "unfreeze": ("nothing",), "lr_first": 0.3}
                model = ImageClassifier(
                    **options, **stages, weights=weights, image_size=side, channels=3, random_state=part,
                    augment=("flip", "resize-crop(area=0.4)", "brightness(by=0.3)", "contrast(by=0.3)"),
                )  # fmt: skip
                model.fit([paths[i] for i in train], kinds[train])
                found[name].append(100 * model.score([paths[i] for i in test], kinds[test]))
            study.say(f"{part:4}  " + "  ".join(f"{found[name][-1]:10.1f}" for name in begins))
    for name in begins:
        mean = statistics.mean(found[name])
        text = f"{mean:.1f} %"
        if name != "at random" and len(study.range) > 1:
            gains = [a - b for a, b in zip(found[name], found["at random"], strict=True)]
            error = statistics.stdev(gains) / len(gains) ** 0.5
            text += f", {statistics.mean(gains):+.1f} points beside it (+- {error:.1f})"
        study.say(f"{name}: {text}")
        what = "begun at random" if name == "at random" else f"begun with weights: {name}"
        study.found(f"ResNet-18, {what}", "dogs-cats, 800 of 1,000; accuracy", "none for this data", text)
    study.finish()


if __name__ == "__main__":
    main()
