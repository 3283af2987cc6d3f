"""The training loop beside the shortest loop written by hand, the cost of its checks, and of starting up.

    python benchmarks/engine.py             all of it, in a few minutes; writes benchmarks/RESULTS.md
    python benchmarks/engine.py --quick     few repetitions; prints, writes nothing

Both sides train the same net from the same weights on the same batches in the same order, with fused Adam, on data that
lie in memory. Ours runs as a fit runs it: under deterministic algorithms, with the finite check and a record of each
epoch. The hand-written loop has nothing but the lines that it needs, in the fastest form that was found. They take turns, and the ratio of their
medians is given with the range of the ratios of each turn. After each turn the two nets must have the same loss.
"""

from __future__ import annotations

import argparse
import copy
import datetime
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # as the command line has it; it counts from OpenMP's start on

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import konspekt
from konspekt.core.runs import Run
from konspekt.core.seeds import generator
from konspekt.data.batches import Resident
from konspekt.engine.loop import Closure, minimise
from konspekt.engine.session import surroundings
from konspekt.engine.supervised import Classification
from konspekt.engine.training import Training
from konspekt.tabular.mlp import MLP
from konspekt.vision.nets.lenet import lenet

RESULTS = Path(__file__).parent / "RESULTS.md"
BATCH, LR, SEED = 64, 1e-3, 0
BUSY = 0.5  # a load average above this, at the start, is remarked on
WILD = 2.0  # a baseline that varies by more than this throws its run away
ATTEMPTS = 3
CPU = torch.device("cpu")


@dataclass
class Task:
    """A net, its data, and for how long it is trained."""

    name: str
    net: nn.Module
    x: Tensor
    y: Tensor
    epochs: int

    @property
    def steps(self) -> int:
        return self.epochs * -(-len(self.x) // BATCH)

    def training(self) -> Training:
        return Training(epochs=self.epochs, batch_size=BATCH, optimizer="adam", lr=LR)


@dataclass
class Line:
    """A line of the results."""

    what: str
    figure: str
    limit: str
    value: float | None = None  # in the unit of `bound`; None: thrown away
    bound: float | None = None  # None: for information
    notes: list[str] = field(default_factory=list)

    @property
    def verdict(self) -> str:
        if self.bound is None:
            return "for information"
        if self.value is None:
            return "thrown away"
        return "met" if self.value <= self.bound else "missed"


def tables(epochs: int) -> Task:
    """Rows that a linear rule divides, with one label in ten turned around."""
    g = generator(SEED, 1)
    x = torch.randn(6400, 100, generator=g)
    y = (x @ torch.randn(100, generator=g) > 0).long()
    y = torch.where(torch.rand(6400, generator=g) < 0.1, 1 - y, y)
    torch.manual_seed(SEED)
    return Task("MLP 100-64-64-2, batch 64", MLP(100, 2, hidden=(64, 64)), x, y, epochs)


def images(epochs: int) -> Task:
    """Images of 1 x 32 x 32: a pattern for each class, under noise."""
    g = generator(SEED, 2)
    y = torch.randint(10, (1600,), generator=g)
    x = torch.randn(10, 1, 32, 32, generator=g)[y] + 2 * torch.randn(1600, 1, 32, 32, generator=g)
    torch.manual_seed(SEED)
    return Task("LeNet, batch 64 of 1 x 32 x 32", lenet(1, 10, (32, 32)), x, y, epochs)


# --- the two sides ----------------------------------------------------------------------------------------------------


def by_hand(task: Task) -> tuple[float, nn.Module]:
    """The shortest loop: seconds, and the trained net."""
    net, x, y = copy.deepcopy(task.net), task.x, task.y
    net = net.to(memory_format=torch.channels_last)  # no change for a perceptron, a fifth less time for LeNet
    orders = [generator(SEED, epoch) for epoch in range(task.epochs)]  # the same order as ours
    start = time.perf_counter()
    parameters = list(net.parameters())
    optimizer = torch.optim.Adam(parameters, lr=LR, fused=True)
    for order in orders:
        for part in torch.randperm(len(x), generator=order).split(BATCH):
            loss = F.cross_entropy(net(x.index_select(0, part)), y.index_select(0, part))
            for p in (
                parameters
            ):  # 7 % of the perceptron's step less than optimizer.zero_grad(), with set_to_none or without
                p.grad = None
            loss.backward()
            optimizer.step()
    return time.perf_counter() - start, net


def by_engine(task: Task, steps: list[int] | None = None) -> tuple[float, nn.Module]:
    """`konspekt.engine.minimise`, in the surroundings of a fit: seconds, and the trained net."""
    net = copy.deepcopy(task.net)
    batches = Resident({"x": task.x, "y": task.y}, batch_size=BATCH, shuffle=True, seed=SEED)
    with surroundings(CPU, SEED):
        start = time.perf_counter()
        run = minimise(Classification(net), batches, task.training(), run=Run())
        seconds = time.perf_counter() - start
    if steps is not None:
        steps.append(run.history[-1]["step"])
    return seconds, net


def by_estimator(task: Task) -> float:
    """The whole of `MLPClassifier.fit`: reading, checking and encoding the data, building, training."""
    x, y = task.x.double().numpy(), task.y.numpy()
    model = konspekt.MLPClassifier(hidden=(64, 64), epochs=task.epochs, batch_size=BATCH, lr=LR, random_state=SEED)
    start = time.perf_counter()
    model.fit(x, y)
    return time.perf_counter() - start


@torch.no_grad()
def loss_of(net: nn.Module, task: Task) -> float:
    net.eval()
    return float(F.cross_entropy(net(task.x), task.y))


def steps_by_check(task: Task) -> tuple[float, float, float]:
    """A fit in which every other step goes without the finite check, and so without the loss and norm that it reads.

    Returns the median seconds of a step with it, of one without it, and of the check alone.
    """
    check, move = Closure._check, Closure.move
    alone: list[float] = []
    steps: dict[bool, list[float]] = {True: [], False: []}

    def checked(self: Closure, loss: Tensor, probe: bool) -> None:
        if self.loop.step % 2:
            return
        start = time.perf_counter()
        check(self, loss, probe)
        alone.append(time.perf_counter() - start)

    def moved(self: Closure) -> None:
        start = time.perf_counter()
        move(self)
        steps[self.loop.step % 2 == 0].append(time.perf_counter() - start)

    Closure._check, Closure.move = checked, moved  # type: ignore[method-assign]
    try:
        by_engine(task)
    finally:
        Closure._check, Closure.move = check, move  # type: ignore[method-assign]
    return statistics.median(steps[True]), statistics.median(steps[False]), statistics.median(alone)


# --- measuring --------------------------------------------------------------------------------------------------------


def alternate(sides: dict[str, Callable[[], float]], repeat: int) -> dict[str, list[float]]:
    """Seconds of each side, in turns; who begins changes from turn to turn. The first turn is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(repeat + 1):
        for name in list(sides) if turn % 2 else list(sides)[::-1]:
            spent = sides[name]()
            if turn:
                seconds[name].append(spent)
    return seconds


def steady(sides: dict[str, Callable[[], float]], base: str, repeat: int, what: str) -> dict[str, list[float]] | None:
    """`alternate`, again where the baseline varied too much; None where it always did."""
    for attempt in range(ATTEMPTS):
        seconds = alternate(sides, repeat)
        spread = max(seconds[base]) / min(seconds[base])
        if spread <= WILD:
            return seconds
        left = ATTEMPTS - 1 - attempt
        say(
            f"  {what}: thrown away, as its own baseline varied {spread:.1f} times; {f'{left} more tries' if left else 'no figure'}"
        )
    return None


def against(ours: list[float], base: list[float]) -> tuple[float, float, float]:
    """The ratio of the medians, and the least and the largest ratio of a turn."""
    each = [a / b for a, b in zip(ours, base, strict=True)]
    return statistics.median(ours) / statistics.median(base), min(each), max(each)


def loops(task: Task, threads: int, repeat: int, bound: float) -> list[Line]:
    """Ours against the loop by hand, on so many threads."""
    what = f"{task.name}, {threads} thread{'s' if threads > 1 else ''}"
    torch.set_num_threads(threads)
    assert torch.get_num_threads() == threads
    steps: list[int] = []
    gaps: list[float] = []
    last: dict[str, float] = {}

    def note(side: str, loss: float) -> None:
        last[side] = loss
        if len(last) == 2:
            gaps.append(abs(last["engine"] - last["hand"]) / last["hand"])
            last.clear()

    def engine() -> float:
        seconds, net = by_engine(task, steps)
        note("engine", loss_of(net, task))
        return seconds

    def hand() -> float:
        seconds, net = by_hand(task)
        note("hand", loss_of(net, task))
        return seconds

    start = loss_of(copy.deepcopy(task.net), task)
    sides: dict[str, Callable[[], float]] = {"engine": engine, "hand": hand}
    if isinstance(task.net, MLP):
        sides["estimator"] = lambda: by_estimator(task)
    seconds = steady(sides, "hand", repeat, what)
    end = loss_of(by_hand(task)[1], task)
    assert set(steps) == {task.steps}, f"{what}: ours made {set(steps)} steps instead of {task.steps}"
    assert end < 0.9 * start, f"{what}: nothing was learned, the loss went from {start:.4f} to {end:.4f}"
    assert max(gaps) < 0.02, (
        f"{what}: the losses differ by up to {max(gaps):.1%}: the two sides did not do the same work"
    )
    if seconds is None:
        return [Line(what, "none: the machine was too unsteady", f"{bound:.2f}", None, bound)]
    ratio, least, most = against(seconds["engine"], seconds["hand"])
    micro = statistics.median(seconds["hand"]) / task.steps * 1e6
    same = f"by hand {micro:.0f} µs a step; {task.steps} steps; losses differ by at most {max(gaps):.1e} of {end:.3f}"
    lines = [Line(what, f"{ratio:.3f} ({least:.3f} to {most:.3f})", f"{bound:.2f}", ratio, bound, [same])]
    if "estimator" in seconds:
        ratio, least, most = against(seconds["estimator"], seconds["hand"])
        lines.append(Line(f"whole MLPClassifier.fit, {what}", f"{ratio:.3f} ({least:.3f} to {most:.3f})", ""))
    return lines


def check_cost(task: Task, repeat: int) -> list[Line]:
    """What the finite check costs: steps with it against steps without it, which take turns within a fit."""
    what = "finite check, share of a LeNet step, 1 thread"
    torch.set_num_threads(1)
    steps_by_check(task)
    fits = [steps_by_check(task) for _ in range(repeat)]
    with_it, without, alone = zip(*fits, strict=True)
    if max(without) / min(without) > WILD:
        say(f"  {what}: thrown away, as the steps without it varied {max(without) / min(without):.1f} times; no figure")
        return [Line(what, "none: the machine was too unsteady", "1 %", None, 1.0)]
    ratio, least, most = (100 * (r - 1) for r in against(list(with_it), list(without)))
    micro = statistics.median(alone) * 1e6
    within = f"the check by itself takes {micro:.0f} µs of {statistics.median(without) * 1e6:.0f} µs"
    return [Line(what, f"{ratio:.2f} % ({least:.2f} to {most:.2f})", "1 %", ratio, 1.0, [within])]


def process(*arguments: str) -> float:
    """Seconds of a process from start to end."""
    start = time.perf_counter()
    subprocess.run(arguments, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - start


def start_up(repeat: int) -> list[Line]:
    """`import konspekt` beyond Python's own start, and `konspekt --help`."""
    python = sys.executable
    command = Path(python).with_name("konspekt")
    asked = (str(command), "--help") if command.exists() else (python, "-m", "konspekt", "--help")
    sides: dict[str, Callable[[], float]] = {
        "python": lambda: process(python, "-c", "pass"),
        "import": lambda: process(python, "-c", "import konspekt"),
        "help": lambda: process(*asked),
    }
    seconds = steady(sides, "python", repeat, "start")
    if seconds is None:
        none = "none: the machine was too unsteady"
        return [
            Line("import konspekt", none, "50 ms", None, 50.0),
            Line("konspekt --help", none, "300 ms", None, 300.0),
        ]
    milli = {name: [1000 * s for s in spent] for name, spent in seconds.items()}
    beyond = [a - b for a, b in zip(milli["import"], milli["python"], strict=True)]
    cost, shown = statistics.median(beyond), statistics.median(milli["help"])
    return [
        Line(
            "import konspekt, beyond Python's start",
            f"{cost:.1f} ms ({min(beyond):.1f} to {max(beyond):.1f})",
            "50 ms",
            cost,
            50.0,
            [f"Python's start takes {statistics.median(milli['python']):.1f} ms"],
        ),
        Line(
            "konspekt --help",
            f"{shown:.0f} ms ({min(milli['help']):.0f} to {max(milli['help']):.0f})",
            "300 ms",
            shown,
            300.0,
        ),
    ]


# --- telling ----------------------------------------------------------------------------------------------------------


def say(text: str) -> None:
    print(text, flush=True)


def processor() -> str:
    """The processor's name."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def machine_lines(load: float | None = None) -> list[str]:
    """The machine and the versions, as items of a list."""
    load = os.getloadavg()[0] if load is None else load
    busy = " The machine was busy: take the figures with care." if load > BUSY else ""
    return [
        f"- machine: {processor()}, {os.cpu_count()} cores; load average at the start {load:.2f}.{busy}",
        f"- versions: Python {platform.python_version()}, torch {torch.__version__}, konspekt {konspekt.__version__}",
    ]


def page(lines: list[Line], load: float, repeat: int, seconds: float) -> str:
    """RESULTS.md."""
    text = [
        "# Results of the benchmarks",
        "",
        (
            f"Written by `make bench` (`python benchmarks/engine.py`) on {datetime.date.today().isoformat()}, in "
            f"{seconds:.0f} s."
        ),
        "",
        *machine_lines(load),
        (
            f"- {repeat} repetitions of each side, in turns, after one that is not counted; OMP_WAIT_POLICY="
            f"{os.environ['OMP_WAIT_POLICY']}"
        ),
        "",
        (
            "The first lines are ratios: seconds of `konspekt.engine.minimise`, in the surroundings of a fit, over seconds of "
            "the shortest loop written by hand with the same net, the same weights at the start, fused Adam and the same batches, "
            "at as many threads. A ratio of medians, with the least and the largest ratio of a turn. Times are medians with "
            "their range."
        ),
        "",
        "| what | figure | limit | verdict |",
        "|---|---|---|---|",
        *(f"| {line.what} | {line.figure} | {line.limit} | {line.verdict} |" for line in lines),
        "",
        *(f"- {line.what}: {note}" for line in lines for note in line.notes),
    ]
    return "\n".join(text) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure the engine against a loop written by hand.")
    parser.add_argument("--repeat", type=int, default=11, help="turns that are counted, at least 9 (default 11)")
    parser.add_argument("--quick", action="store_true", help="3 short turns; print, write nothing")
    options = parser.parse_args()
    if options.repeat < 9:
        parser.error("--repeat must be at least 9; --quick is for a look")
    repeat = 3 if options.quick else options.repeat
    table, picture = (tables(5), images(2)) if options.quick else (tables(20), images(8))
    load, began = os.getloadavg()[0], time.perf_counter()
    say(f"load average {load:.2f}{'; the machine is busy' if load > BUSY else ''}")
    lines: list[Line] = []
    jobs: list[Callable[[], list[Line]]] = [
        lambda: loops(table, 1, repeat, 1.05),
        lambda: loops(picture, 1, repeat, 1.02),
        lambda: check_cost(picture, repeat),
        lambda: loops(table, 2, repeat, 1.05),
        lambda: loops(picture, 2, repeat, 1.02),
        lambda: start_up(repeat),
    ]
    for job in jobs:
        for line in job():
            lines.append(line)
            limit = f", limit {line.limit}" if line.limit else ""
            say(f"{line.what}: {line.figure}{limit}: {line.verdict}")
            for note in line.notes:
                say(f"  {note}")
    if not options.quick:
        RESULTS.write_text(page(lines, load, repeat, time.perf_counter() - began), encoding="utf-8")
        say(f"wrote {RESULTS.name}")
    return 0 if all(line.verdict in ("met", "for information") for line in lines) else 1


if __name__ == "__main__":
    sys.exit(main())
