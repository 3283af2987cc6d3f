"""Row 2: spoiled models, checkpoints and run folders end in the same model, in another that the sums bear out, or in a KonspektError."""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import random
import resource
import shutil
import signal
import sys
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from children import Row, fork, scratch
from torch import nn

import konspekt
from konspekt.core.errors import KonspektError
from konspekt.core.runs import Run
from konspekt.data.batches import Resident
from konspekt.engine import Training, minimise
from konspekt.engine.session import surroundings
from konspekt.engine.supervised import Regression
from konspekt.tabular import LogisticClassifier, MLPClassifier, MLPRegressor
from konspekt.testing import mutations, tiny
from konspekt.vision import ImageClassifier

__all__ = ["rows"]

SECONDS, WAIT = 10, 60  # of computing, and by the clock, that a trial may take before it counts as hung
MEMORY = 2 << 30  # bytes of addresses beyond those that the process has
BATCH = 250  # trials in one process
_RUNS = ("os.system", "os.exec", "os.posix_spawn", "os.spawn", "subprocess.Popen", "os.fork", "pty.spawn", "socket.connect",
         "pickle.find_class", "ctypes.dlopen")  # fmt: skip

Trial = Callable[[Path, random.Random], str]  # the folder, the generator -> what came out; raises AssertionError


# -- the three kinds of trial ---------------------------------------------------------------------------------------------


def models(home: Path) -> list[Trial]:
    """Model folders of several estimators."""
    made: list[Trial] = []
    for number, (estimator, task) in enumerate(
        [
            (MLPClassifier(hidden=(6,), norm="batch", epochs=1), "tabular-classification"),
            (MLPRegressor(hidden=(5, 4), epochs=1, optimizer="adam(beta2=0.99)"), "tabular-regression"),
            (LogisticClassifier(epochs=1), "tabular-classification"),
            (ImageClassifier(epochs=1, image_size=16), "image-classification"),
        ]
    ):
        X, y = tiny(task, 24)
        whole = estimator.fit(X, y).save(home / f"model{number}")
        wanted = outputs(estimator, X)

        def trial(folder: Path, draw: random.Random, whole: Path = whole, X: Any = X, wanted: bytes = wanted) -> str:
            shutil.copytree(whole, folder)
            done, agrees = mutations.mutate_folder(folder, draw)
            note(done)
            same = outputs(konspekt.load(folder), X) == wanted
            assert same or agrees, "the model is another, and its sums do not say so"
            return "as it was" if same else "another, which its sums bear out"

        made.append(trial)
    return made


def outputs(estimator: Any, X: Any) -> bytes:
    values = estimator.predict_proba(X) if hasattr(estimator, "predict_proba") else estimator.predict(X)
    return np.asarray(values).tobytes()


def toy() -> tuple[Regression, Resident]:
    draw = torch.Generator().manual_seed(1)
    x, y = torch.randn(12, 3, generator=draw), torch.randn(12, 2, generator=draw)
    net = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 2))
    return Regression(net), Resident({"x": x, "y": y}, batch_size=4, shuffle=True)


OPTIMIZERS = ["adam", "momentum", "adamw", "adadelta", "rmsprop", "adagrad", "sgd"]


def fitted(path: Path, optimizer: str, *, resume: bool = False, stop: int | None = None) -> bytes:
    """A fit of 3 epochs of 3 steps; its weights as bytes."""

    def stopping(moment: Any) -> None:
        if moment.event == "step" and moment.step == stop:
            raise StoppedError

    training = Training(epochs=3, lr=0.05, checkpoint_every=2, optimizer=optimizer, ema=0.9, schedule="plateau", keep=2)
    with surroundings(torch.device("cpu"), 0), contextlib.closing(Run(path, resume=resume)) as run:
        objective, batches = toy()
        minimise(objective, batches, training, run=run, validation=batches, callbacks=[stopping] if stop else ())
    return b"".join(t.detach().numpy().tobytes() for t in objective.state_dict().values())


class StoppedError(Exception):
    pass


def checkpoints(home: Path) -> list[Trial]:
    """Checkpoints of toy runs, which are gone on with by the engine."""
    made: list[Trial] = []
    for optimizer in OPTIMIZERS:
        whole = home / f"run-{optimizer}"
        with contextlib.suppress(StoppedError):
            fitted(whole, optimizer, stop=7)
        (whole / "config.yaml").write_text("{}\n")
        shutil.copytree(whole, home / "again")
        wanted = fitted(home / "again", optimizer, resume=True)
        shutil.rmtree(home / "again")

        def trial(
            folder: Path, draw: random.Random, whole: Path = whole, optimizer: str = optimizer, wanted: bytes = wanted
        ) -> str:
            shutil.copytree(whole, folder)
            older, newer = sorted((folder / "checkpoint").iterdir())
            if draw.random() < 0.5:
                shutil.rmtree(older)
            done, agrees = mutations.mutate_folder(newer, draw)
            note(done)
            same = fitted(folder, optimizer, resume=True) == wanted
            assert same or agrees, "the weights are others, and the sums do not say so"
            return "as it was" if same else "another, which its sums bear out"

        made.append(trial)
    return made


def run_folders(home: Path) -> list[Trial]:
    """What else a run folder holds, through `konspekt resume`."""
    from konspekt.cli.app import main

    table = home / "table.csv"
    X, y = tiny("tabular-classification", 24)
    X.assign(target=y).to_csv(table, index=False)
    whole = home / "cut"

    def stopping(moment: Any) -> None:
        if moment.event == "step" and moment.step == 5:
            raise StoppedError

    estimator = MLPClassifier(hidden=(6,), epochs=3, batch_size=8, checkpoint_every=2, lr="find", run_dir=str(whole))
    with contextlib.suppress(StoppedError):
        estimator.fit(str(table), "target", callbacks=[stopping])
    again = home / "again"

    def resumed(folder: Path) -> tuple[object, str]:
        said = home / "said"
        with said.open("w+") as file, contextlib.redirect_stderr(file):
            try:
                main(["resume", str(folder)])
            except SystemExit as stop:
                file.flush()
                return stop.code, said.read_text(errors="replace")
        return None, ""

    shutil.copytree(whole, again)
    assert resumed(again)[0] == 0
    wanted = (again / "model" / "weights.safetensors").read_bytes()
    shutil.rmtree(again)

    def trial(folder: Path, draw: random.Random) -> str:
        shutil.copytree(whole, folder)
        name = draw.choice(["config.yaml", "config.yaml", "chosen.json", "metrics.jsonl"])
        how = {
            "config.yaml": mutations.mutate_text,
            "chosen.json": mutations.mutate_json,
            "metrics.jsonl": mutations.mutate_lines,
        }
        note(f"{name}: {how[name](folder / name, draw)}")
        code, said = resumed(folder)
        if code in (1, 2):
            assert said.startswith("error: "), f"ended with {code} and without a message"
            assert "not foreseen" not in said, said
            raise KonspektError(said)
        assert code == 0, f"ended with {code}"
        same = (folder / "model" / "weights.safetensors").read_bytes() == wanted
        return "as it was" if same else "another, which its sums bear out"  # no sums guard these files

    return [trial]


# -- running them -----------------------------------------------------------------------------------------------------------

_last = ""


def note(done: str) -> None:
    """Keep what was done to the folder, for the report of a trial that fails."""
    global _last
    _last = done


class Guard:
    """An audit hook that notes what is run, or opened for writing outside a folder."""

    def __init__(self, home: Path) -> None:
        self.home, self.on, self.seen = str(home), False, list[str]()
        sys.addaudithook(self)

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.on:
            return
        if event in _RUNS:
            self.seen.append(f"{event} {arguments!r:.100}")
        elif event == "open" and isinstance(arguments[0], (str, bytes)):
            path = os.path.abspath(os.fsdecode(arguments[0]))
            writes = arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC)
            if (
                not path.startswith(self.home)
                and (writes or path in ("/etc/passwd",))
                and path not in (os.devnull, "/proc/self/clear_refs")
            ):
                self.seen.append(f"open {path}")


def batch(trials: list[Trial], numbers: range, home: Path, report: int) -> None:
    """Run trials in this process and write a line of JSON about each to `report`."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    warnings.simplefilter("ignore")
    guard = Guard(home)
    for number in numbers:
        folder = home / f"trial{number}" / "it"
        folder.parent.mkdir()
        note("nothing yet")
        os.write(report, (json.dumps({"begin": number}) + "\n").encode())
        draw = random.Random(number)
        line: dict[str, Any] = {"end": number}
        signal.setitimer(signal.ITIMER_PROF, SECONDS)  # of this process, as others may keep the machine busy
        signal.alarm(WAIT)
        faulthandler.dump_traceback_later(WAIT - 2)  # where it hangs
        guard.seen.clear()
        guard.on = True
        try:
            line["came"] = trials[number % len(trials)](folder, draw)
        except KonspektError as error:
            line["came"] = "KonspektError"
            line["said"] = str(error)[:300]
            if len(str(error)) > 1_000_000 or len(str(error)) < 20:
                line["bad"] = f"a message of {len(str(error))} characters"
        except BaseException as error:  # noqa: BLE001, what is not foreseen is what is looked for
            line["came"] = "unforeseen"
            line["bad"] = f"{type(error).__name__}: {str(error)[:300]}"
            line["where"] = [
                f"{f.filename.rsplit('/konspekt/')[-1]}:{f.lineno}" for f in traceback.extract_tb(error.__traceback__)
            ][-6:]
        guard.on = False
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.alarm(0)
        faulthandler.cancel_dump_traceback_later()
        if guard.seen:
            line["bad"] = f"{line.get('bad', '')} did {guard.seen[:3]}"
        line["done"] = _last[:300]
        os.write(report, (json.dumps(line) + "\n").encode("utf-8", "replace"))
        shutil.rmtree(folder.parent, ignore_errors=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    os.write(report, (json.dumps({"peak": peak}) + "\n").encode())


def tried(trials: list[Trial], count: int, home: Path) -> tuple[Counter[str], list[dict[str, Any]]]:
    """Run the trials in forked processes, a batch in each; one that dies is gone on without the trial that it died in."""
    came: Counter[str] = Counter()
    bad: list[dict[str, Any]] = []
    start = 0
    while start < count:
        numbers = range(start, min(start + BATCH, count))
        reading, writing = os.pipe()
        child = fork(lambda n=numbers, w=writing: batch(trials, n, home, w))  # type: ignore[misc]
        os.close(writing)
        current, start = numbers[0], numbers[-1] + 1
        with open(reading, "rb") as lines:
            for raw in lines:
                line = json.loads(raw)
                current = line.get("begin", current)
                if "end" in line:
                    came[line["came"]] += 1
                    if "bad" in line:
                        bad.append(line)
        _, status = os.waitpid(child, 0)
        code = os.waitstatus_to_exitcode(status)
        if code != 0:
            what = "hung" if code in (-signal.SIGALRM, -signal.SIGPROF) else f"the interpreter ended with {code}"
            came[what] += 1
            bad.append({"end": current, "bad": what})
            start = current + 1
    return came, bad


KINDS = {"models": (models, 0.6), "checkpoints": (checkpoints, 0.33), "run folders": (run_folders, 0.07)}


def rows(trials: int | None) -> list[Row]:
    """10,000 spoiled folders: models, checkpoints, run folders."""
    total = trials or 10_000
    found = []
    torch.set_num_threads(1)
    for name, (make, share) in KINDS.items():
        begun = time.perf_counter()
        count = max(1, round(total * share))
        with scratch() as place:
            came, bad = tried(make(Path(place)), count, Path(place))
        said = ", ".join(f"{n} {what}" for what, n in came.most_common())
        found.append(
            Row(
                f"{name} spoiled by accident or malice: the same, another that its sums bear out, or an error with a message",
                "mutate", count, f"{count - len(bad)} of {count} ({said})", time.perf_counter() - begun, not bad,
                [json.dumps(b)[:600] for b in bad[:30]],
            )
        )  # fmt: skip
    return found
