"""What the reproductions share: options, data, several seeds, and the page that they write, RESULTS.md."""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import re
import shlex
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # as the command line has it; it counts from OpenMP's start on

import numpy as np
import torch
from numpy.typing import NDArray

import konspekt
from konspekt.data.idx import read_idx

__all__ = ["Row", "Study", "mnist", "of_seeds", "some"]

RESULTS = Path(__file__).parent / "RESULTS.md"
SETTINGS = ("tiny", "short", "full")
HEAD = """# Results of the reproductions

Each command writes its own lines here. `README.md` says what each measures and how to run it. "Ours" is the mean over so many
seeds with the standard deviation between them, where there are several. Seconds are those of the whole command, and in brackets
those of the processor, which tell more where the machine had other work. No setting was chosen by what is measured here, unless the script says so.

| command | system | data | the paper's value | ours | setting | seconds (of CPU) | machine |
|---|---|---|---|---|---|---|---|
"""


@dataclass(frozen=True)
class Row:
    """A line of the table: what is compared with which published value."""

    system: str
    data: str
    paper: str
    ours: str


@dataclass
class Study:
    """One run of a reproduction: its options, what it prints, and what it found.

    doc: the script's docstring, shown by --help. seeds: how many it takes, unless it is told otherwise; unit: what they are.
    settings: what "short" and "full" mean, for the table; "tiny" is for a look at whether all runs, and is not recorded.
    """

    script: str
    doc: str
    settings: dict[str, str]
    seeds: int = 3
    unit: str = "seeds:"  # what --seeds counts
    parts: Sequence[str] = ()  # systems and data that --only can name
    rows: list[Row] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        parser = argparse.ArgumentParser(
            prog=Path(self.script).name, description=self.doc, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        where = "the folder of data sets, each in a folder of its name (default: KONSPEKT_DATA)"
        parser.add_argument("--data", type=Path, help=where, default=os.environ.get("KONSPEKT_DATA") or None)
        said = "; ".join(f"{name}: {text}" for name, text in self.settings.items())
        parser.add_argument("--setting", choices=SETTINGS, default="short", help=f"how much is run; {said}")
        parser.add_argument("--seeds", type=int, default=self.seeds, help=f"how many (default {self.seeds})")
        parser.add_argument("--threads", type=int, help="threads of torch (default: its own choice)")
        if self.parts:
            what = "only these systems or data, as the table names them; it keeps its lines of the others"
            parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help=what)
        given = parser.parse_args()
        if given.seeds < 1 or (given.threads or 1) < 1:
            parser.error("--seeds and --threads must be at least 1")
        self.data = None if given.data is None else Path(given.data)
        self.setting: str = given.setting
        self.range = range(1 if self.setting == "tiny" else given.seeds)
        self.only: list[str] = given.only if self.parts else []
        if unknown := [name for name in self.only if name not in self.parts]:
            parser.error(f"--only takes {', '.join(map(repr, self.parts))}; got {', '.join(map(repr, unknown))}")
        if given.threads:
            torch.set_num_threads(given.threads)
        self.began, self.worked = time.perf_counter(), time.process_time()
        self.say(f"{parser.prog}, setting {self.setting}, seeds {len(self.range)}, {torch.get_num_threads()} thread(s)")

    def pick(self, tiny: Any, short: Any, full: Any) -> Any:
        """What belongs to the setting."""
        return {"tiny": tiny, "short": short, "full": full}[self.setting]

    def wants(self, *names: str) -> bool:
        """Whether what has these names, of a system and of data, is to be run."""
        return not self.only or any(name in self.only for name in names)

    def say(self, text: str) -> None:
        """Print a line, at most 80 columns, and keep it for the page."""
        print(text, flush=True)
        self.lines.append(text)

    def found(self, system: str, data: str, paper: str, ours: str) -> None:
        """A line for the table."""
        self.rows.append(Row(system, data, paper, ours))

    def finish(self) -> None:
        """Write this run's lines into RESULTS.md, in the place of those that it wrote before."""
        spent = f"{time.perf_counter() - self.began:.0f} ({time.process_time() - self.worked:.0f})"
        self.say(f"seconds (of CPU): {spent}")
        if self.setting == "tiny":
            return
        whole = Path(self.script).name + ("" if self.setting == "short" else f" --setting {self.setting}")
        command = " ".join([whole, "--only", *(shlex.quote(name) for name in self.only)]) if self.only else whole
        old = RESULTS.read_text(encoding="utf-8") if RESULTS.exists() else HEAD
        table = [
            line for line in old.splitlines() if line.startswith("| `") and not self._replaced(line, whole, command)
        ]
        sections = dict(re.findall(r"^## `(.+?)`\n\n(.*?)(?=^## |\Z)", old, flags=re.MULTILINE | re.DOTALL))
        commands = {line.split("`")[1] for line in table}
        sections = {name: body for name, body in sections.items() if name in commands}
        place = f"{processor()}, {torch.get_num_threads()} of {os.cpu_count()} cores"
        count = len(self.range)
        setting = f"{self.setting}: {self.settings[self.setting]}" + (f", {self.unit} {count}" if count > 1 else "")
        for row in self.rows:
            cells = (f"`{command}`", row.system, row.data, row.paper, row.ours, setting, spent, place)
            table.append(f"| {' | '.join(cells)} |")
        made = (
            f"{datetime.date.today().isoformat()}, {place}, Python {platform.python_version()}, torch "
            f"{torch.__version__}, konspekt {konspekt.__version__}."
        )
        sections[command] = "\n".join([made, "", "```text", *self.lines, "```", "", ""])
        text = HEAD + "\n".join(sorted(table)) + "\n\n"
        text += "".join(f"## `{name}`\n\n{body}" for name, body in sorted(sections.items()))
        beside = RESULTS.with_suffix(".part")
        beside.write_text(text.rstrip() + "\n", encoding="utf-8")
        beside.replace(RESULTS)
        print(f"wrote {RESULTS.name}")

    def _replaced(self, line: str, whole: str, command: str) -> bool:
        """Whether a line of the table gives way: the same command's, a part's if this is the whole, or the same system and data."""
        of = line.split("`")[1]
        if of == command or (not self.only and of.startswith(f"{whole} --only ")):
            return True
        own = of == whole or of.startswith(f"{whole} --only ")
        return own and any(line.split(" | ")[1:3] == [row.system, row.data] for row in self.rows)


def of_seeds(values: Sequence[float], form: str = ".2f", unit: str = "") -> str:
    """A mean with the standard deviation between seeds, where there are several."""
    mean = f"{statistics.mean(values):{form}}"
    spread = f" +- {statistics.stdev(values):{form}}" if len(values) > 1 else ""
    return f"{mean}{spread}{unit}"


def processor() -> str:
    """The processor's name."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


Images = NDArray[np.uint8]
Labels = NDArray[np.integer[Any]]


def mnist(study: Study, *, pad: int = 0) -> tuple[Images, Labels, Images, Labels]:
    """MNIST: images (60000, 28, 28) and labels to train on, images (10000, 28, 28) and labels to test.

    pad: pixels of background on each side; 2 makes the 32 x 32 of LeNet's paper.
    """
    if study.data is None:
        whole = konspekt.data.fetch("mnist")
        parts = [whole.X, whole.y, whole.test.X, whole.test.y]
    else:
        folder = folder_of(study, "mnist")
        names = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
        parts = []
        for name in names:
            found = [p for p in (folder / f"{name}-ubyte.gz", folder / f"{name}-ubyte") if p.is_file()]
            if not found:
                sys.exit(f"{folder}: {name}-ubyte.gz is not there; konspekt.data.fetch('mnist') brings the four files")
            parts.append(read_idx(found[0]))
    X, y, X_test, y_test = parts
    if pad:
        wide = ((0, 0), (pad, pad), (pad, pad))
        X, X_test = np.pad(X, wide), np.pad(X_test, wide)
    return X, y, X_test, y_test


def folder_of(study: Study, name: str) -> Path:
    """The folder of a data set."""
    if study.data is None:
        sys.exit(
            f"{Path(study.script).name}: where is {name}? give --data FOLDER, or KONSPEKT_DATA, that holds {name}/"
        )
    folder = study.data / name
    if not folder.is_dir():
        sys.exit(f"{Path(study.script).name}: {study.data} holds no folder {name}")
    return folder


def some(X: Images, y: Labels, count: int, seed: int) -> tuple[Images, Labels]:
    """`count` items drawn at random, in the order of the set; all where there are no more."""
    if count >= len(X):
        return X, y
    items = np.sort(np.random.default_rng(seed).permutation(len(X))[:count])
    return X[items], y[items]
