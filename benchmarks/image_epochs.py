"""An epoch on MNIST from files to weights: konspekt beside a loop by hand, Lightning, Keras 3 and fastai. Part of `images.py`.

Each side reads the gzipped idx files, shifts each image at random by up to 2 pixels each way (the edge is repeated) in each
batch, trains the same LeNet on 28 x 28 pixels with Adam for one epoch of 64, and is timed from the files to the weights. Imports
are not counted, nor is the first turn. Peers come in the forms in which they are used: image by image in two workers, and by
whole batches, which is the fastest that was found; what counts is the faster.
"""

from __future__ import annotations

import gzip
import importlib
import logging
import os
import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "torch")

import numpy as np
import torch
from engine import LR, SEED, Line, against, say, steady
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import BatchSampler, DataLoader, Dataset, RandomSampler

import konspekt
from konspekt.vision.nets.lenet import lenet

__all__ = ["Epochs"]

BATCH, BY, WORKERS = 64, 2, 2
MEAN, STD = 33.3, 78.6  # of MNIST's pixels, as everyone knows them
BOUND = 0.9
Predict = Callable[[np.ndarray], np.ndarray]
Sample = tuple[Tensor, Tensor]


def read(folder: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Images (N, 28, 28) uint8 and labels (N,), in the shortest way."""
    found = []
    for kind, head in (("images-idx3", 16), ("labels-idx1", 8)):
        path = folder / f"{split}-{kind}-ubyte.gz"
        raw = gzip.decompress(path.read_bytes()) if path.is_file() else path.with_suffix("").read_bytes()
        found.append(np.frombuffer(raw, np.uint8, offset=head))
    return found[0].reshape(-1, 28, 28), found[1]


def widened(pixels: np.ndarray) -> Tensor:
    """(N, 28, 28) -> (N, 32, 32): the edge repeated."""
    return torch.from_numpy(np.pad(pixels, ((0, 0), (BY, BY), (BY, BY)), mode="edge"))


def shifted(wide: Tensor) -> Tensor:
    """A batch (B, 32, 32) uint8 -> (B, 1, 28, 28) float: a place of its own for each image, standardised."""
    count = len(wide)
    down, right = torch.randint(2 * BY + 1, (2, count))
    views = wide.unfold(1, 28, 1).unfold(2, 28, 1)  # (B, 5, 5, 28, 28), without a copy
    return views[torch.arange(count), down, right][:, None].float().sub_(MEAN).div_(STD)


def by_torch(net: nn.Module) -> Predict:
    @torch.no_grad()
    def predict(pixels: np.ndarray) -> np.ndarray:
        x = torch.from_numpy(pixels.copy())[:, None].float().sub_(MEAN).div_(STD)
        return net.eval()(x).argmax(1).numpy()

    return predict


def fresh() -> nn.Module:
    torch.manual_seed(SEED)
    return lenet(1, 10, (28, 28))


class Items(Dataset[Sample]):
    """One image at a time, shifted by slicing."""

    def __init__(self, pixels: np.ndarray, labels: np.ndarray) -> None:
        self.wide, self.labels = widened(pixels), torch.from_numpy(labels.astype(np.int64))

    def __len__(self) -> int:
        return len(self.wide)

    def __getitem__(self, index: int) -> Sample:
        down, right = torch.randint(2 * BY + 1, (2,)).tolist()
        image = self.wide[index, down : down + 28, right : right + 28]
        return image[None].float().sub_(MEAN).div_(STD), self.labels[index]


class Whole(Items):
    """A whole batch, asked for by a list of indices."""

    def __getitem__(self, index: Any) -> Sample:
        part = torch.as_tensor(index)
        return shifted(self.wide.index_select(0, part)), self.labels.index_select(0, part)


@dataclass
class Epochs:
    """The sides of the comparison.

    folder: MNIST's four files. most: images of an epoch; None: all.
    """

    folder: Path
    most: int | None = None
    missing: list[str] = field(default_factory=list)

    def files(self) -> tuple[np.ndarray, np.ndarray]:
        pixels, labels = read(self.folder, "train")
        return pixels[: self.most], labels[: self.most]

    # -- the sides: each trains once from the files on, and gives what predicts ------------------------------------------

    def konspekt(self) -> Predict:
        model = konspekt.ImageClassifier(
            arch="lenet", augment=(f"shift(by={BY})",), epochs=1, batch_size=BATCH, lr=LR, random_state=SEED
        )
        if self.most is None:
            found = [p for p in sorted(self.folder.glob("train-images-idx3-ubyte*")) if p.suffix in (".gz", "")]
            model.fit(str(found[0]))
        else:
            model.fit(*self.files())
        return model.predict

    def hand(self) -> Predict:
        net, (pixels, labels) = fresh().to(memory_format=torch.channels_last), self.files()
        wide, y = widened(pixels), torch.from_numpy(labels.astype(np.int64))
        parameters = list(net.parameters())
        optimizer = torch.optim.Adam(parameters, lr=LR, fused=True)
        for part in torch.randperm(len(wide)).split(BATCH):
            loss = F.cross_entropy(net(shifted(wide.index_select(0, part))), y.index_select(0, part))
            for p in parameters:
                p.grad = None
            loss.backward()
            optimizer.step()
        return by_torch(net)

    def lightning(self, *, whole: bool) -> Predict:
        import lightning

        logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)

        class Module(lightning.LightningModule):
            def __init__(self) -> None:
                super().__init__()
                self.net = fresh().to(memory_format=torch.channels_last)

            def training_step(self, batch: Sample, number: int) -> Tensor:
                return F.cross_entropy(self.net(batch[0]), batch[1])

            def configure_optimizers(self) -> torch.optim.Optimizer:
                return torch.optim.Adam(self.parameters(), lr=LR, fused=True)

        data: Any = (Whole if whole else Items)(*self.files())
        if whole:
            order = BatchSampler(RandomSampler(data), BATCH, drop_last=False)
            loader: Any = DataLoader(data, batch_size=None, sampler=order)
        else:
            loader = DataLoader(data, batch_size=BATCH, shuffle=True, num_workers=WORKERS)
        module = Module()
        trainer = lightning.Trainer(
            max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
            enable_model_summary=False, barebones=True,
        )  # fmt: skip
        trainer.fit(module, loader)
        return by_torch(module.net)

    def keras(self, *, whole: bool) -> Predict:
        import keras

        keras.utils.set_random_seed(SEED)
        layers, first = keras.layers, {"data_format": "channels_first"}
        shift: list[Any] = []
        if not whole:  # as its guides have it: a layer of the model, which acts in training only
            by = BY / 28
            shift = [layers.RandomTranslation(by, by, fill_mode="nearest", interpolation="nearest", **first)]
        model = keras.Sequential(
            [
                keras.Input((1, 28, 28)), *shift, layers.Rescaling(1 / STD, -MEAN / STD) if shift else layers.Identity(),
                layers.Conv2D(6, 5, activation="relu", **first), layers.MaxPooling2D(2, **first),
                layers.Conv2D(16, 5, activation="relu", **first), layers.MaxPooling2D(2, **first),
                layers.Flatten(), layers.Dense(120, "relu"), layers.Dense(84, "relu"), layers.Dense(10),
            ]
        )  # fmt: skip
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(optimizer=keras.optimizers.Adam(LR), loss=loss)
        pixels, labels = self.files()
        if whole:
            data = Whole(pixels, labels)
            order = BatchSampler(RandomSampler(data), BATCH, drop_last=False)
            model.fit(DataLoader(data, batch_size=None, sampler=order), epochs=1, verbose=0)
        else:
            model.fit(pixels[:, None].astype(np.float32), labels, batch_size=BATCH, epochs=1, verbose=0, shuffle=True)

        def predict(pixels: np.ndarray) -> np.ndarray:
            x = pixels[:, None].astype(np.float32)
            return model.predict((x - MEAN) / STD if whole else x, batch_size=1024, verbose=0).argmax(1)

        return predict

    def fastai(self) -> Predict:
        from fastai.vision.all import DataLoaders, Learner, accuracy

        data: Any = Whole(*self.files())
        order = BatchSampler(RandomSampler(data), BATCH, drop_last=False)
        loader = DataLoader(data, batch_size=None, sampler=order)
        learner = Learner(DataLoaders(loader, loader), fresh(), loss_func=nn.CrossEntropyLoss(), metrics=accuracy)
        with learner.no_bar(), learner.no_logging():
            learner.fit(1, LR)
        return by_torch(learner.model)

    # -- measuring ---------------------------------------------------------------------------------------------------

    def sides(self) -> dict[str, Callable[[], Predict]]:
        """What there is here; `missing` says what is not, and why."""
        found: dict[str, Callable[[], Predict]] = {"konspekt": self.konspekt, "loop by hand": self.hand}
        wanted: dict[str, tuple[str, dict[str, Callable[[], Predict]]]] = {
            "Lightning": (
                "lightning",
                {
                    "Lightning, image by image in 2 workers": lambda: self.lightning(whole=False),
                    "Lightning, by whole batches": lambda: self.lightning(whole=True),
                },
            ),
            "Keras": (
                "keras",
                {
                    "Keras, RandomTranslation in the model": lambda: self.keras(whole=False),
                    "Keras, by whole batches": lambda: self.keras(whole=True),
                },
            ),
            "fastai": ("fastai.vision.all", {"fastai, by whole batches": self.fastai}),
        }
        for name, (module, forms) in wanted.items():
            try:
                importlib.import_module(module)
                found |= forms
            except (ImportError, RuntimeError, OSError) as error:
                self.missing.append(f"{name} does not import here: {type(error).__name__}: {str(error)[:160]}")
        return found

    def lines(self, threads: int, repeat: int) -> list[Line]:
        """Ours against each library in its faster form, and against the loop by hand."""
        warnings.simplefilter("ignore")
        held = read(self.folder, "t10k")
        scores: dict[str, list[float]] = {}

        def timed(name: str, fit: Callable[[], Predict]) -> Callable[[], float]:
            def run() -> float:
                start = time.perf_counter()
                predict = fit()
                seconds = time.perf_counter() - start
                scores.setdefault(name, []).append(float((predict(held[0]) == held[1]).mean()))
                return seconds

            return run

        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            sides = {name: timed(name, fit) for name, fit in self.sides().items()}
            what = f"LeNet, an epoch of MNIST, {threads} thread{'s' * (threads > 1)}"
            seconds = steady(sides, "loop by hand", repeat, what)
        finally:
            torch.set_num_threads(before)
        for name, found in scores.items():
            assert statistics.median(found) > (0.9 if self.most is None else 0.2), f"{name} learned nothing: {found}"
        if seconds is None:
            return [Line(what, "none: the machine was too unsteady", f"{BOUND:.2f}", None, BOUND)]
        ours, lines = seconds["konspekt"], []
        middle = {name: statistics.median(spent) for name, spent in seconds.items()}
        for name, spent in seconds.items():
            score = f"accuracy {statistics.median(scores[name]):.4f}"
            ratio, least, most = against(ours, spent)
            family = [n for n in seconds if n.partition(",")[0] == name.partition(",")[0]]
            text = f"{middle[name]:.2f} s, {score}"
            if name == "konspekt":
                lines.append(Line(f"{what}, konspekt", text, ""))
            elif name == "loop by hand" or middle[name] > min(middle[n] for n in family):
                lines.append(Line(f"{what}, {name}", f"{text}; {ratio:.3f} ({least:.3f} to {most:.3f})", ""))
            else:
                figure = f"{text}; {ratio:.3f} ({least:.3f} to {most:.3f})"
                lines.append(Line(f"{what}, {name}", figure, f"{BOUND:.2f}", ratio, BOUND))
        for text in self.missing:
            say(f"  {text}")
        return lines
