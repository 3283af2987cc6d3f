"""The nets on a GPU, on made images, beside the card's peak; and MNIST from files to 99.5 %. Part of `images.py`."""

from __future__ import annotations

import copy
import statistics
import time
from pathlib import Path

import torch
from engine import Line, against
from image_steps import BOUND, Case, Sides
from torch.utils.flop_counter import FlopCounterMode

import konspekt

__all__ = ["on_gpu"]

STEPS = 40
CASES = (Case("resnet18", 32, 1024), Case("resnet50", 224, 256, classes=1000))
# Peaks of dense products in bf16 with sums in 32 bits, in TFLOP/s, from the makers' data sheets; the first that fits counts.
PEAKS = (
    ("H200", 989), ("H100 PCIe", 756), ("H100", 989), ("GH200", 989), ("B200", 2250), ("A100", 312), ("A800", 312),
    ("A40", 150), ("A30", 165), ("A10", 125), ("L40S", 362), ("L40", 181), ("L4", 121), ("RTX 4090", 165), ("RTX 3090", 71),
)  # fmt: skip


def peak_of(name: str) -> float | None:
    """The card's peak in FLOP/s; None where it is not in the list."""
    return next((1e12 * peak for card, peak in PEAKS if card in name), None)


def flops_of(sides: Sides) -> float:
    """Floating-point operations of the forward and backward pass for one image, a multiply-add counted as two."""
    case = sides.case
    net = copy.deepcopy(sides.net).train()
    x = torch.randn(2, case.channels, case.side, case.side, device=sides.device)
    with FlopCounterMode(display=False) as counter:
        net(x).sum().backward()
    return counter.get_total_flops() / 2


def on_gpu(data: Path | None, repeat: int) -> list[Line]:
    """The lines of a GPU; one that says so where there is none."""
    if not torch.cuda.is_available():
        return [Line("on a GPU", "not measured: this machine has none that torch can use", "")]
    device = torch.device("cuda")
    card = torch.cuda.get_device_name()
    peak = peak_of(card)
    lines = []
    for case in CASES:
        sides = Sides(case, device=device, precision="bf16")
        flops = flops_of(sides)
        x, y = sides.batches(STEPS)
        ours, base = [], []
        for turn in range(repeat + 1):
            mine, theirs = sides.by_engine(x, y, compiled=True), sides.by_hand(x, y, compiled=True)
            if turn:
                ours.append(mine.seconds)
                base.append(theirs.seconds)
        ratio, least, most = against(ours, base)
        rate = case.batch / statistics.median(ours)
        share = f"{rate * flops / peak:.1%} of its peak" if peak else "its peak is not in the list"
        note = f"{flops / 1e9:.2f} GFLOP an image, forward and backward; both sides compiled; {STEPS} steps; by hand "
        note += f"{case.batch / statistics.median(base):.0f} images/s"
        figure = f"{rate:.0f} images/s, {share}; {ratio:.3f} ({least:.3f} to {most:.3f})"
        lines.append(Line(f"{case.name}, bf16, {card}", figure, f"{BOUND:.2f}", ratio, BOUND, [note]))
        torch._dynamo.reset()
        torch.cuda.empty_cache()
    if data is not None:
        lines.append(_mnist(data / "mnist", card))
    return lines


def _mnist(folder: Path, card: str) -> Line:
    """A ResNet from MNIST's files to its weights."""
    files = [sorted(folder.glob(f"{split}-images-idx3-ubyte*"))[0] for split in ("train", "t10k")]
    seconds, scores = [], []
    for seed in range(3):
        model = konspekt.ImageClassifier(
            arch="resnet20", augment=("rotate(degrees=10)", "shift(by=2)"), epochs=8, batch_size=256, lr=0.1,
            optimizer="nesterov(momentum=0.9)", schedule="one-cycle", l2=2.5e-4, label_smoothing=0.05, precision="bf16",
            device="cuda", random_state=seed,
        )  # fmt: skip
        start = time.perf_counter()
        model.fit(str(files[0]))
        seconds.append(time.perf_counter() - start)
        scores.append(model.score(str(files[1])))
    figure = f"{statistics.median(seconds):.1f} s for {100 * statistics.median(scores):.2f} % (least {100 * min(scores):.2f})"
    return Line(f"MNIST from files to 99.5 %, ResNet-20, 8 epochs, {card}", figure, "", notes=["3 seeds"])
