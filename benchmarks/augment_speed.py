"""Augmentation of whole batches beside Pillow, image by image, in two worker processes.

    python benchmarks/augment_speed.py             in half a minute; prints a table
    python benchmarks/augment_speed.py --quick     few turns

A batch of 256 colour images of 32 x 32 pixels, uint8, in memory. Pillow's side is its fastest form that was found: two
processes that live on, that have the images from the start, draw with Python's `random`, and write into memory that is
shared, so that nothing is pickled but the numbers of the images; four batches are asked for at once, so that no process
waits for the other. Ours is `augment` in this process, on two threads, a batch at a time. The sides take turns; the
ratio is that of the medians, with the range of the ratios of each turn.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # as the command line has it; it counts from OpenMP's start on

import numpy as np
import torch
from PIL import Image, ImageEnhance, ImageFilter

from konspekt.core.memory import keep_freed_memory
from konspekt.core.registry import entries
from konspekt.data.fields import Batch
from konspekt.vision.augment import augment

BATCH, SIDE, AT_ONCE, WORKERS = 256, 32, 4, 2
MAIN = ("flip", "crop", "rotate", "brightness", "contrast", "saturation")
LIMIT = 0.33
Picture = Image.Image


def _enhanced(kind: Callable[[Picture], ImageEnhance._Enhance]) -> Callable[[Picture], Picture]:
    return lambda picture: kind(picture).enhance(random.uniform(0.5, 1.5))


def _flip(picture: Picture) -> Picture:
    return picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if random.random() < 0.5 else picture


def _vertical_flip(picture: Picture) -> Picture:
    return picture.transpose(Image.Transpose.FLIP_TOP_BOTTOM) if random.random() < 0.5 else picture


def _crop(picture: Picture) -> Picture:  # what lies outside is black
    left, upper = random.randint(-4, 4), random.randint(-4, 4)
    return picture.crop((left, upper, left + SIDE, upper + SIDE))


def _rotate(picture: Picture) -> Picture:
    return picture.rotate(random.uniform(-15, 15), Image.Resampling.BILINEAR)


def _resize_crop(picture: Picture) -> Picture:
    side = random.uniform(0.08, 1) ** 0.5 * SIDE
    left, upper = random.uniform(0, SIDE - side), random.uniform(0, SIDE - side)
    return picture.resize((SIDE, SIDE), Image.Resampling.BILINEAR, (left, upper, left + side, upper + side))


def _blur(picture: Picture) -> Picture:
    return picture.filter(ImageFilter.GaussianBlur(random.uniform(0.1, 2))) if random.random() < 0.5 else picture


def _gamma(picture: Picture) -> Picture:
    power = 1.5 ** random.uniform(-1, 1)
    return picture.point([round(255 * (level / 255) ** power) for level in range(256)] * 3)


def _grey(picture: Picture) -> Picture:
    return picture.convert("L").convert("RGB") if random.random() < 0.2 else picture


PILLOW: dict[str, Callable[[Picture], Picture]] = {
    "blur": _blur,
    "brightness": _enhanced(ImageEnhance.Brightness),
    "contrast": _enhanced(ImageEnhance.Contrast),
    "crop": _crop,
    "flip": _flip,
    "gamma": _gamma,
    "grey": _grey,
    "resize-crop": _resize_crop,
    "rotate": _rotate,
    "saturation": _enhanced(ImageEnhance.Color),
    "vertical-flip": _vertical_flip,
}


@dataclass(frozen=True)
class Figure:
    """Milliseconds for a batch; Pillow's and the ratio are None where Pillow has no such operation.

    low, high: the smallest and the largest ratio of a turn.
    """

    what: str
    ours: float
    pillow: float | None = None
    ratio: float | None = None
    low: float | None = None
    high: float | None = None


class Workers:
    """Two processes that augment image by image.

    images (N, H, W, C) uint8, N a multiple of BATCH.
    """

    def __init__(self, images: np.ndarray) -> None:
        context = multiprocessing.get_context("fork")
        self.images = images
        self.out = torch.empty(images.shape[0], 3, SIDE, SIDE, dtype=torch.uint8).share_memory_().numpy()
        self.ends = []
        self.processes = []
        for _ in range(WORKERS):
            mine, theirs = context.Pipe()
            process = context.Process(target=self._work, args=(theirs,), daemon=True)
            process.start()
            self.ends.append(mine)
            self.processes.append(process)

    def _work(self, end) -> None:
        while (job := end.recv()) is not None:
            names, first, last = job
            changes = [PILLOW[name] for name in names]
            for item in range(first, last):
                picture = Image.fromarray(self.images[item])
                for change in changes:
                    picture = change(picture)
                self.out[item] = np.asarray(picture).transpose(2, 0, 1)
            end.send(None)

    def seconds(self, names: tuple[str, ...]) -> float:
        """The time of one batch, out of as many as there are."""
        count = len(self.images) // WORKERS
        started = time.perf_counter()
        for place, end in enumerate(self.ends):
            end.send((names, place * count, (place + 1) * count))
        for end in self.ends:
            end.recv()
        return (time.perf_counter() - started) * BATCH / len(self.images)

    def close(self) -> None:
        """End the processes."""
        for end, process in zip(self.ends, self.processes, strict=True):
            end.send(None)
            process.join()


def ours(batches: list[Batch], names: tuple[str, ...], epoch: int) -> float:
    """The time of one batch, in seconds."""
    started = time.perf_counter()
    for batch in batches:
        augment(batch, names=names, seed=0, epoch=epoch)
    return (time.perf_counter() - started) / len(batches)


def measure(turns: int = 15, threads: int = 2) -> list[Figure]:
    """All figures: flip, crop, rotation and colour together first, then each augmentation by itself."""
    pixels = np.random.default_rng(0).integers(0, 256, (AT_ONCE * BATCH, SIDE, SIDE, 3), dtype=np.uint8)
    workers = Workers(pixels)  # before torch starts threads of its own
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    x = torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()
    index, y = torch.arange(len(x)), torch.arange(len(x)) % 10
    whole: list[Batch] = [
        {"x": x[at : at + BATCH], "index": index[at : at + BATCH], "y": y[at : at + BATCH]}
        for at in range(0, len(x), BATCH)
    ]
    figures = []
    try:
        for names in [MAIN, *((e.name,) for e in entries() if e.kind == "augmentation")]:
            there = all(name in PILLOW for name in names)
            for _ in range(2):  # warm
                ours(whole, names, 0)
            mine, theirs = [], []
            for turn in range(turns):
                mine.append(1000 * ours(whole, names, turn))
                theirs.append(1000 * workers.seconds(names) if there else float("nan"))
            what, middle = ", ".join(names), statistics.median(mine)
            if there:
                ratios = [a / b for a, b in zip(mine, theirs, strict=True)]
                other = statistics.median(theirs)
                figures.append(Figure(what, middle, other, middle / other, min(ratios), max(ratios)))
            else:
                figures.append(Figure(what, middle))
    finally:
        workers.close()
        torch.set_num_threads(before)
    return figures


def table(figures: list[Figure]) -> list[str]:
    """The figures as lines of markdown."""
    lines = ["| augmentation | ours, ms | Pillow in 2 workers, ms | ratio | of single turns |", "|---|---|---|---|---|"]
    for f in figures:
        if f.pillow is None:
            lines.append(f"| {f.what} | {f.ours:.2f} | | | |")
        else:
            lines.append(f"| {f.what} | {f.ours:.2f} | {f.pillow:.2f} | {f.ratio:.2f} | {f.low:.2f} to {f.high:.2f} |")
    return lines


def main() -> int:
    keep_freed_memory()  # as the command line does
    """Measure and print; returns the exit code: 1 where the limit is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few turns")
    parser.add_argument("--threads", type=int, default=2, help="threads of our side")
    given = parser.parse_args()
    print(f"load average at the start {os.getloadavg()[0]:.2f}, {os.cpu_count()} cores")
    figures = measure(3 if given.quick else 15, given.threads)
    print("\n".join(table(figures)))
    met = (figures[0].ratio or 0) <= LIMIT
    print(f"{figures[0].what}: {'met' if met else 'missed'}, at most {LIMIT} times Pillow's time")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
