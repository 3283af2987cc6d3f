"""Training steps of the nets of `vision.nets`: the engine beside the shortest loop by hand. Part of `images.py`."""

from __future__ import annotations

import contextlib
import copy
import itertools
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from engine import ATTEMPTS, CPU, LR, SEED, WILD, Line, against, say
from torch import Tensor, nn
from torch.nn import functional as F

from konspekt.core.params import build
from konspekt.core.runs import Run
from konspekt.core.seeds import generator
from konspekt.data.batches import Resident
from konspekt.engine.loop import Moment, minimise
from konspekt.engine.session import surroundings
from konspekt.engine.training import Training
from konspekt.vision.objectives import ImageClassification

__all__ = ["CASES", "Case", "Sides", "compare", "made"]

BOUND = 1.03
TRIES = 3  # runs of each way by hand, before the fastest is chosen
WARM = 3  # steps of each run that are not counted; what compiles, compiles in them
PAYS = 0.95  # a compiled step must take less than this share of a plain one
# By how much the changes of the weights may differ, as a share of their length. Other batches give 1. Adam makes a whole step of a
# gradient that is all rounding, so that two layouts, or what a compiler makes, part by some hundredths.
LIKE = 0.25


@dataclass(frozen=True)
class Case:
    """A net, the side of its images, and how many of them are in a batch."""

    arch: str
    side: int = 32
    batch: int = 64
    channels: int = 3
    classes: int = 10
    compiles: bool = False  # whether compiling is tried too: it takes minutes where a net is deep, anew in each turn

    @property
    def name(self) -> str:
        return f"{self.arch}, batch {self.batch} of {self.channels} x {self.side} x {self.side}"


# One of each family and, where it changes what is computed, of each kind of block; at 32 x 32 or the smallest size above.
CASES = (
    Case("lenet", channels=1, compiles=True),
    Case("alexnet", 63),
    Case("vgg11", batch=32),
    Case("vgg11_bn", batch=32),
    Case("vgg16", batch=16),
    Case("nin", 39),
    Case("googlenet"),
    Case("resnet20", compiles=True),
    Case("resnet18"),
    Case("resnet50", batch=32),
    Case("se_resnet50", batch=32),
    Case("resnet18", 224, 8, classes=1000),
)


@dataclass
class Ran:
    """What one run of a side gave: the seconds of each step, and how far the weights moved, (P,)."""

    steps: list[float]
    change: Tensor

    @property
    def seconds(self) -> float:
        """The median."""
        return statistics.median(self.steps)


class Sides:
    """The two loops on one case: the same weights at the start, the same batches, fused Adam."""

    def __init__(self, case: Case, *, device: torch.device = CPU, precision: str = "32") -> None:
        self.case, self.device, self.precision = case, device, precision
        torch.manual_seed(SEED)
        size = (case.side, case.side)
        self.net: nn.Module = build("net", case.arch, case.channels, case.classes, size).to(device)
        self.start = self._flat(self.net)

    @staticmethod
    def _flat(net: nn.Module) -> Tensor:
        return torch.cat([p.detach().reshape(-1).clone() for p in net.parameters()])

    def batches(self, steps: int) -> tuple[Tensor, Tensor]:
        """Noise with a class's pattern in it, so that there is something to learn."""
        case, g = self.case, generator(SEED, 1)
        count = case.batch * (steps + WARM)
        y = torch.randint(case.classes, (count,), generator=g)
        x = torch.randn(count, case.channels, case.side, case.side, generator=g)
        x += torch.randn(case.classes, case.channels, 1, 1, generator=g)[y]
        return x.to(self.device), y.to(self.device)

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def _tick(self, ticks: list[float], step: int, items: int) -> None:
        """Note the time after a step; a GPU is waited for at the first and the last that count only."""
        if step in (WARM, items // self.case.batch):
            self._wait()
        ticks.append(time.perf_counter())

    def _steps(self, ticks: list[float]) -> list[float]:
        """Seconds of the steps that count; on a GPU, which runs behind, the mean for each."""
        ticks = ticks[WARM - 1 :]
        if self.device.type == "cuda":
            return [(ticks[-1] - ticks[0]) / (len(ticks) - 1)]
        return [after - before for before, after in itertools.pairwise(ticks)]

    def by_hand(self, x: Tensor, y: Tensor, *, compiled: bool = False, last: bool = True) -> Ran:
        """The shortest loop: gradients set to None, one fused optimiser; weights and batches with the channels last, or not."""
        layout = torch.channels_last if last else torch.contiguous_format
        net = copy.deepcopy(self.net).to(memory_format=layout).train()
        forward: Any = torch.compile(net) if compiled else net
        rows = x.permute(0, 2, 3, 1).contiguous() if last else x  # a part of the former has the channels last, uncopied
        aux = float(getattr(net, "aux_weight", 0.0))
        reduced = torch.autocast(self.device.type, torch.bfloat16) if self.precision == "bf16" else None
        torch.manual_seed(SEED)
        parameters = list(net.parameters())
        optimizer = torch.optim.Adam(parameters, lr=LR, fused=True)
        ticks: list[float] = []
        order = torch.randperm(len(x), generator=generator(SEED, 0)).to(self.device)
        for step, part in enumerate(order.split(self.case.batch)):
            with reduced or contextlib.nullcontext():
                images = rows.index_select(0, part)
                out = forward(images.permute(0, 3, 1, 2) if last else images)
                target = y.index_select(0, part)
                if isinstance(out, tuple):
                    loss = F.cross_entropy(out[0], target)
                    for other in out[1:]:
                        loss = loss + aux * F.cross_entropy(other, target)
                else:
                    loss = F.cross_entropy(out, target)
            for p in parameters:
                p.grad = None
            loss.backward()
            optimizer.step()
            self._tick(ticks, step + 1, len(x))
        return Ran(self._steps(ticks), self._flat(net) - self.start)

    def by_engine(self, x: Tensor, y: Tensor, *, compiled: bool) -> Ran:
        """`konspekt.engine.minimise` in the surroundings of a fit, with its finite checks, and nothing written."""
        case, net = self.case, copy.deepcopy(self.net)
        batches = Resident({"x": x, "y": y}, batch_size=case.batch, shuffle=True, seed=SEED, device=self.device)
        ticks: list[float] = []

        def note(moment: Moment) -> None:
            if moment.event == "step":
                self._tick(ticks, moment.step, len(x))

        precision: Any = self.precision
        training = Training(
            epochs=1, batch_size=case.batch, optimizer="adam", lr=LR, compile=compiled, precision=precision,
        )  # fmt: skip
        with surroundings(self.device, SEED):
            minimise(ImageClassification(net).to(self.device), batches, training, run=Run(), callbacks=[note])
        return Ran(self._steps(ticks), self._flat(net) - self.start)


def made(case: Case, sides: Sides, seconds: float) -> int:
    """How many steps take about so many seconds."""
    once = sides.by_hand(*sides.batches(3)).seconds
    return max(4, min(100, round(seconds / once)))


def best_way(sides: Sides, x: Tensor, y: Tensor, *, try_compiled: bool) -> tuple[dict[str, bool], str]:
    """The fastest setting of the loop by hand, as arguments of `by_hand`, and what each takes."""
    ways: dict[str, dict[str, bool]] = {"channels last": {}, "channels first": {"last": False}}
    if try_compiled:
        ways["channels last, compiled"] = {"compiled": True}
    taken: dict[str, list[float]] = {name: [] for name in ways}
    said = ""
    for _ in range(TRIES):  # in turns, so that an unsteady machine is unfair to all alike
        for name, way in ways.items():
            try:
                taken[name] += sides.by_hand(x, y, **way).steps
            except Exception as error:
                if not way.get("compiled"):
                    raise
                said = f"; {name}: {type(error).__name__}"  # no compiler, or none that can do this net
    spent = {name: statistics.median(steps) for name, steps in taken.items() if steps}
    best = min(spent, key=spent.__getitem__)
    plain = min((n for n in spent if not ways[n].get("compiled")), key=spent.__getitem__)
    if ways[best].get("compiled") and spent[best] > PAYS * spent[plain]:
        best = plain
    return ways[best], f"{best} ({', '.join(f'{n} {1e3 * s:.3g} ms' for n, s in spent.items())}{said})"


@contextlib.contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def compare(case: Case, threads: int, repeat: int, *, seconds: float = 1.0, try_compiled: bool = True) -> Line:
    """The engine's step over the hand-written one's, both compiled where that makes the latter faster."""
    with _threads(threads):
        sides = Sides(case)
        what = f"{case.name}, {threads} thread{'s' * (threads > 1)}"
        x, y = sides.batches(made(case, sides, seconds))
        way, said = best_way(sides, x, y, try_compiled=try_compiled)
        compiled = way.get("compiled", False)
        for attempt in range(ATTEMPTS):
            ours, base, gaps = [], [], []
            for turn in range(repeat + 1):  # the first is not counted; who begins changes
                ran: dict[str, Ran] = {}
                for side in ("engine", "hand") if turn % 2 else ("hand", "engine"):
                    ran[side] = (
                        sides.by_hand(x, y, **way) if side == "hand" else sides.by_engine(x, y, compiled=compiled)
                    )
                if turn:
                    ours.append(ran["engine"].steps)
                    base.append(ran["hand"].steps)
                    gap = (ran["engine"].change - ran["hand"].change).norm() / ran["hand"].change.norm()
                    gaps.append(float(gap))
            spread = max(map(statistics.median, base)) / min(map(statistics.median, base))
            if spread <= WILD:
                break
            left = ATTEMPTS - 1 - attempt
            say(f"  {what}: thrown away, its own baseline varied {spread:.1f} times; {left or 'no'} more tries")
        else:
            return Line(what, "none: the machine was too unsteady", f"{BOUND:.2f}", None, BOUND)
        torch._dynamo.reset()
        assert max(gaps) < LIKE, f"{what}: the changes of the weights differ by {max(gaps):.0%} of their length"
        _, least, most = against(*([statistics.median(steps) for steps in turns] for turns in (ours, base)))
        mine, theirs = (statistics.median(itertools.chain(*turns)) for turns in (ours, base))
        ratio, rate, hand = mine / theirs, case.batch / mine, case.batch / theirs
        note = (
            f"{len(x) // case.batch - WARM} steps a turn of {1e3 * theirs:.3g} ms by hand: {said}; the changes of the "
            f"weights differ by at most {max(gaps):.1e} of their length"
        )
        figure = f"{rate:.0f} images/s, by hand {hand:.0f}; {ratio:.3f} ({least:.3f} to {most:.3f})"
        return Line(what, figure, f"{BOUND:.2f}", ratio, BOUND, [note])
