"""Row 1: SIGKILL at random steps, inside saves and at random moments; the resumed run has the same weights to the bit."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from children import Row, fork, scratch, status_of
from torch import nn
from torch.nn import functional as F

from konspekt.core import folders
from konspekt.core.runs import Run
from konspekt.data.batches import Resident
from konspekt.engine import Training, loop, minimise
from konspekt.engine.objective import Objective
from konspekt.engine.session import surroundings
from konspekt.engine.supervised import Regression
from konspekt.tabular import MLPClassifier
from konspekt.testing import tiny

__all__ = ["kill", "streamed", "together"]

Fit = Callable[[Path, bool], None]  # the run folder, whether to resume
WEIGHTS = "model/weights.safetensors"
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive", "PATH": "/usr/bin:/bin"}


# -- the fits -----------------------------------------------------------------------------------------------------------


def _estimator(run: Path, **changes: Any) -> MLPClassifier:
    given = {"hidden": (6,), "norm": "batch", "dropout": 0.2, "epochs": 3, "batch_size": 8, "checkpoint_every": 2}
    given |= {"validation_fraction": 0.25, "schedule": "cosine", "patience": 3, "run_dir": str(run)}
    return MLPClassifier(**given | changes)


def resident(run: Path, resume: bool) -> None:
    """A table in memory: batch norm, dropout, a schedule, early stopping."""
    X, y = tiny("tabular-classification", 48)
    _estimator(run).fit(X, y, resume=run if resume else None)


def streamed(workers: int, table: Path, callbacks: Any = ()) -> Fit:
    """A csv file that is read batch by batch."""

    def fit(run: Path, resume: bool) -> None:
        made = _estimator(run, stream="always", workers=workers)
        made.fit(str(table), "target", resume=run if resume else None, callbacks=callbacks)

    return fit


class Two(Objective):
    """A generator and a discriminator of points, each with its turn."""

    def __init__(self) -> None:
        super().__init__()
        self.model = nn.Sequential(nn.Linear(2, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))
        self.judge = nn.Sequential(nn.Linear(2, 8), nn.Dropout(0.2), nn.ReLU(), nn.Linear(8, 1))

    def players(self) -> dict[str, list[dict[str, Any]]]:
        return {n: [{"params": list(getattr(self, n).parameters())}] for n in ("judge", "model")}

    def turns(self, step: int) -> tuple[str, ...]:
        return ("judge", "model") if step % 2 else ("judge",)

    def forward(self, batch: Any) -> dict[str, Any]:
        return {"made": self.model(torch.randn(len(batch["index"]), 2))}

    def loss(self, batch: Any, player: str) -> dict[str, Any]:
        made = self.judge(self.forward(batch)["made"])
        if player == "model":
            return {"loss": F.softplus(-made).mean()}
        return {"loss": (F.softplus(made) + F.softplus(-self.judge(batch["x"]))).mean()}


def _points() -> Resident:
    draw = torch.Generator().manual_seed(1)
    x, y = torch.randn(24, 2, generator=draw), torch.randn(24, 2, generator=draw)
    return Resident({"x": x, "y": y}, batch_size=4, shuffle=True)


def _keep(run: Path, objective: Objective) -> None:
    """Write the weights as the model of a run would stand."""
    file = run / WEIGHTS
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(b"".join(t.detach().numpy().tobytes() for t in objective.state_dict().values()))


def players(run: Path, resume: bool) -> None:
    """Two players who move in turns, at different rates."""
    with surroundings(torch.device("cpu"), 0), contextlib.closing(Run(run, resume=resume)) as record:
        objective = Two()
        minimise(objective, _points(), Training(epochs=3, lr=0.01, checkpoint_every=2), run=record)
    _keep(run, objective)


def stages(run: Path, resume: bool) -> None:
    """The last layer, then all layers, then all again at another rate."""
    training = Training(epochs=2, lr=0.02, checkpoint_every=2)
    with surroundings(torch.device("cpu"), 0), contextlib.closing(Run(run, resume=resume)) as record:
        net = nn.Sequential(nn.Linear(2, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 2))
        for p in net[0].parameters():
            p.requires_grad_(False)
        minimise(Regression(net), _points(), training, run=record, stage="head")
        minimise(Regression(net.requires_grad_(True)), _points(), training, run=record, stage="all")
        last = Regression(net)
        minimise(last, _points(), Training(epochs=1, lr=0.002, checkpoint_every=2), run=record, stage="fine")
    _keep(run, last)


# -- the kills ----------------------------------------------------------------------------------------------------------


def arm(where: str, at: int, counted: Path | None = None) -> None:
    """In a child: kill it at the `at`-th step, flush of a checkpoint or model, or rename; or only count them, into a file."""
    counts = {"step": 0, "flush": 0, "rename": 0}

    def deadly(name: str, call: Any) -> Any:
        def wrapped(*given: Any) -> Any:
            if name == "step" or {"checkpoint", "model"} & set(Path(given[0]).parts[-3:]):
                counts[name] += 1
                if counted is not None:
                    counted.write_text(f"{counts['step']} {counts['flush']} {counts['rename']}")
                elif name == where and counts[name] == at:
                    os.kill(os.getpid(), signal.SIGKILL)
            return call(*given)

        return wrapped

    loop.Loop._step = deadly("step", loop.Loop._step)  # type: ignore[method-assign]
    folders.flush = deadly("flush", folders.flush)
    folders._put = deadly("rename", folders._put)


def _trial(fit: Fit, run: Path, draw: random.Random, most: dict[str, int], seconds: float) -> tuple[str, int]:
    """Begin a fit and kill it; where, and the id that it had."""
    where = draw.choice(["step", "flush", "flush", "rename", "moment"])
    if where == "moment":
        child = fork(lambda: fit(run, False))
        time.sleep(draw.uniform(0, seconds))
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        return "a moment", child
    at = draw.randint(1, most[where])

    def work() -> None:
        arm(where, at)
        fit(run, False)

    child = fork(work)
    code = status_of(child)
    if code != -signal.SIGKILL:
        raise AssertionError(f"{where} {at}: the fit that was to be killed ended with {code}")
    return f"{where} {at}", child


def again(fit: Fit, run: Path) -> int | None:
    """Resume, or begin where the kill came before anything was written; the exit code."""
    begun = (run / "config.yaml").is_file() or (run / "metrics.jsonl").is_file() or (run / "checkpoint").is_dir()
    return status_of(fork(lambda: fit(run, begun)))


def _alone(name: str, fit: Fit, trials: int, home: Path) -> Row:
    """So many kills of a fit in one process (and its workers)."""
    begun = time.perf_counter()
    counted, whole = home / "counted", home / "whole"

    def work() -> None:
        arm("", 0, counted)
        fit(whole, False)

    code = status_of(fork(work))
    seconds = time.perf_counter() - begun
    if code != 0:
        return Row(name, "kill", 0, f"the uninterrupted fit ended with {code}", seconds, False)
    most = dict(zip(("step", "flush", "rename"), map(int, counted.read_text().split()), strict=True))
    wanted = (whole / WEIGHTS).read_bytes()
    bad = []
    for number in range(trials):
        run = home / f"run{number}"
        draw = random.Random(number)
        try:
            where, child = _trial(fit, run, draw, most, seconds)
            code = again(fit, run)
            left = _left(child)
            if code != 0:
                bad.append(f"trial {number}, killed at {where}: the resumed fit ended with {code}")
            elif (run / WEIGHTS).read_bytes() != wanted:
                bad.append(f"trial {number}, killed at {where}: other weights")
            elif left:
                bad.append(f"trial {number}, killed at {where}: its workers are alive after {left:.0f} s")
        except (AssertionError, OSError) as error:
            bad.append(f"trial {number}: {error}")
        shutil.rmtree(run, ignore_errors=True)
    shutil.rmtree(whole, ignore_errors=True)
    return Row(
        name, "kill", trials, f"{trials - len(bad)} of {trials} to the bit", time.perf_counter() - begun, not bad, bad
    )


def _left(group: int) -> float:
    """Seconds for which processes of a group are alive, 0 once they are gone; 5 are waited for."""
    begun = time.monotonic()
    while time.monotonic() - begun < 5:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return 0.0
        time.sleep(0.05)
    return time.monotonic() - begun


# -- two processes --------------------------------------------------------------------------------------------------------


def together(
    run: Path, resume: bool, size: int, home: Path, *, deadly: dict[int, tuple[str, int]] | None = None,
    options: dict[str, Any] | None = None, said: Path | None = None, prepare: Callable[[], None] | None = None,
) -> list[int]:  # fmt: skip
    """Start a fit in so many processes that meet by gloo, and give their ids.

    deadly: which of them dies, where. said: beside it each writes the error that ends it. prepare: what each does first.
    """
    import torch.distributed as dist

    store = home / f"store{random.getrandbits(60)}"
    X, y = tiny("tabular-classification", 48)

    def member(rank: int) -> None:
        if prepare is not None:
            prepare()
        if deadly and rank in deadly:
            arm(*deadly[rank])
        os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(size), "LOCAL_RANK": str(rank)}
        dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=size)
        made = _estimator(run, **{"norm": "none", **(options or {})})
        try:
            made.fit(X, y, resume=run if resume else None)
        except Exception as error:
            if said is None:
                raise
            said.with_suffix(f".{rank}").write_text(f"{type(error).__name__}: {error}")
            os._exit(4)

    return [fork(lambda rank=rank: member(rank)) for rank in range(size)]  # type: ignore[misc]


def _pair(name: str, trials: int, home: Path, *, both: bool) -> Row:
    """Two processes, of which both are killed, or one, whereupon the other must end by itself."""
    begun = time.perf_counter()
    options = {} if both else {"dropout": 0.0}  # who is killed takes its generator along
    whole = home / "whole"
    codes = [status_of(c) for c in together(whole, False, 2, home, options=options)]
    if codes != [0, 0]:
        return Row(name, "kill", 0, f"the uninterrupted fit ended with {codes}", time.perf_counter() - begun, False)
    wanted = (whole / WEIGHTS).read_bytes()
    bad = []
    for number in range(trials):
        draw, run, said = random.Random(number), home / f"run{number}", home / f"said{number}"
        rank = draw.randrange(2)
        where, at = ("step", draw.randint(2, 15)) if rank or draw.random() < 0.5 else ("flush", draw.randint(6, 30))
        deadly = {rank: (where, at)}
        if both:
            deadly[1 - rank] = ("step", at) if where == "step" else ("step", 99)
        children = together(run, False, 2, home, deadly=deadly, options=options, said=said)
        first = status_of(children[rank])
        if both and where != "step":
            with contextlib.suppress(ProcessLookupError):
                os.kill(children[1 - rank], signal.SIGKILL)
        other = status_of(children[1 - rank], 20)
        codes = [status_of(c) for c in together(run, (run / "config.yaml").is_file(), 2, home, options=options)]
        text = f"trial {number}, process {rank} killed at {where} {at}"
        if first != -signal.SIGKILL or other is None:
            bad.append(f"{text}: it ended with {first}, the other with {other}")
        elif codes != [0, 0]:
            bad.append(f"{text}: the resumed fit ended with {codes}")
        elif (run / WEIGHTS).read_bytes() != wanted:
            bad.append(f"{text}: other weights")
        shutil.rmtree(run, ignore_errors=True)
    return Row(
        name, "kill", trials, f"{trials - len(bad)} of {trials} to the bit", time.perf_counter() - begun, not bad, bad
    )


# -- fresh processes --------------------------------------------------------------------------------------------------------


def _fresh(trials: int, home: Path) -> Row:
    """The command line: `konspekt fit`, killed at a random moment, `konspekt resume`."""
    begun = time.perf_counter()
    fit = [
        "mlp-classifier",
        "data=iris",
        "epochs=30",
        "norm=batch",
        "dropout=0.2",
        "checkpoint_every=3",
        "schedule=cosine",
    ]

    def command(*given: str) -> list[str]:
        return [sys.executable, "-m", "konspekt", *given]

    start = time.monotonic()
    subprocess.run(command("fit", *fit, f"run_dir={home / 'whole'}"), check=True, capture_output=True, env=ENVIRONMENT)
    seconds = time.monotonic() - start
    wanted = (home / "whole" / WEIGHTS).read_bytes()
    bad = []
    for number in range(trials):
        run = home / f"fresh{number}"
        process = subprocess.Popen(
            command("fit", *fit, f"run_dir={run}"),
            env=ENVIRONMENT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        while process.poll() is None and not (run / "config.yaml").is_file():
            time.sleep(0.005)
        time.sleep(random.Random(number).uniform(0, seconds / 3))
        process.kill()
        process.wait()
        done = subprocess.run(command("resume", str(run)), capture_output=True, text=True, env=ENVIRONMENT, check=False)
        if done.returncode:
            bad.append(f"trial {number}: {done.stderr[:300]}")
        elif (run / WEIGHTS).read_bytes() != wanted:
            bad.append(f"trial {number}: other weights")
    name = "the command line in fresh processes, SIGKILL at a random moment, `konspekt resume`"
    return Row(
        name, "kill", trials, f"{trials - len(bad)} of {trials} to the bit", time.perf_counter() - begun, not bad, bad
    )


def kill(trials: int | None) -> Iterator[Row]:
    """So many kills of each path, 100 by default."""
    number = trials or 100
    with scratch() as place:
        home = Path(place)
        table = home / "table.csv"
        X, y = tiny("tabular-classification", 48)
        X.assign(target=y).to_csv(table, index=False)
        for warm in (resident, streamed(0, table), players, stages):  # imports, so that no child pays for them
            warm(home / "warm", False)
            shutil.rmtree(home / "warm")
        paths: dict[str, tuple[Fit, int]] = {
            "data in memory": (resident, number),
            "data streamed by the training process": (streamed(0, table), number),
            "data streamed by 2 workers, which end too": (streamed(2, table), number),
            "two players in turns": (players, number),
            "three stages": (stages, number),
        }
        for name, (fit, count) in paths.items():
            yield _alone(f"SIGKILL at a step, in a save, at a moment: {name}", fit, count, home)
        for folder in ("both", "one", "fresh"):
            (home / folder).mkdir()
        yield _pair("two processes (gloo), both killed", number, home / "both", both=True)
        yield (_pair("two processes (gloo), one killed, the other ends by itself", number, home / "one", both=False))
        yield _fresh(max(1, number // 10), home / "fresh")
