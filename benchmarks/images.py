"""Images: steps of the nets, epochs from files to weights, augmentation; beside loops by hand, other libraries and Pillow.

    python benchmarks/images.py --data FOLDER             all of it, in half an hour; writes benchmarks/IMAGES.md
    python benchmarks/images.py --data FOLDER --quick     few short turns; prints, writes nothing
    python benchmarks/images.py --only steps augment      some parts, on the page beside what it held of the others

pip install -e ".[bench]" brings the peers; what does not import is named with its error. FOLDER holds mnist/ with its four idx
files (or KONSPEKT_DATA). The sides take turns; a run whose own baseline varies more than twofold is thrown away and made anew. A ratio is
that of the medians, with the least and the largest ratio of a turn.
"""

from __future__ import annotations

import argparse
import datetime
import os
import re
import sys
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import augment_speed
from engine import BUSY, Line, machine_lines, say
from image_epochs import Epochs
from image_gpu import on_gpu
from image_steps import CASES, compare

from konspekt.core.memory import keep_freed_memory

RESULTS = Path(__file__).parent / "IMAGES.md"
HEADS = {
    "augment": (
        "A batch of 256 colour images of 32 x 32 pixels: milliseconds of `augment` in this process, and of Pillow image by image in "
        "two worker processes."
    ),
    "steps": (
        "Images a second of a training step: `konspekt.engine.minimise` in the surroundings of a fit beside the shortest loop by "
        "hand, with the same net, weights at the start and batches. By hand: fused Adam, gradients set to None, and the fastest of weights "
        "and batches with the channels last or first, for LeNet and ResNet-20 also compiled (where that gains more than 5 %, on both sides). Both keep freed memory, as the command does. "
        "The ratio is that of the median steps of all turns, ours over theirs; behind it the least and the largest of a turn. After each turn the weights of both sides are compared."
    ),
    "epochs": (
        "Seconds from MNIST's gzipped files to the weights after an epoch of 64: reading, random shifts of up to 2 pixels, training. "
        "The ratio is ours over theirs; the limit counts against the faster form of each library."
    ),
    "gpu": "Images made at random, in bf16; the share of the peak counts the operations of the products only.",
}
PEERS = ("lightning", "keras", "fastai", "torchvision", "pillow", "numpy")


def augmentation(quick: bool, threads: int) -> list[Line]:
    """The lines of `augment_speed`."""
    lines = []
    for place, f in enumerate(augment_speed.measure(3 if quick else 15, threads)):
        bound = augment_speed.LIMIT if place == 0 else None
        if f.ratio is None:
            lines.append(Line(f.what, f"{f.ours:.2f} ms", ""))
            continue
        figure = f"{f.ours:.2f} ms, Pillow {f.pillow:.2f}; {f.ratio:.3f} ({f.low:.3f} to {f.high:.3f})"
        lines.append(Line(f.what, figure, "" if bound is None else f"{bound:.2f}", f.ratio, bound))
    return lines


def section(name: str, lines: list[Line], facts: list[str]) -> str:
    """A part of the page."""
    text = [
        f"## {name}", "", HEADS[name], "", *facts, "",
        "| what | figure | limit | verdict |", "|---|---|---|---|",
        *(f"| {line.what} | {line.figure} | {line.limit} | {line.verdict} |" for line in lines), "",
        *(f"- {line.what}: {note}" for line in lines for note in line.notes),
    ]  # fmt: skip
    return "\n".join(text).rstrip() + "\n"


def renewed(held: str, lines: list[Line], fact: str) -> str:
    """A part of the page with these lines measured again, in their places; the fact says when."""
    for line in lines:
        what = re.escape(line.what)
        row = f"| {line.what} | {line.figure} | {line.limit} | {line.verdict} |"
        held, rows = re.subn(rf"(?m)^\| {what} \|.*$", lambda _, row=row: row, held)
        note = "\n".join(f"- {line.what}: {note}" for note in line.notes)
        held, notes = re.subn(rf"(?m)^- {what}: .*$", lambda _, note=note: note, held)
        assert rows == notes == 1, f"{line.what} does not stand once on the page: measure all nets first"
    return held.replace("\n\n| what |", f"\n{fact}\n\n| what |", 1)


def pages() -> dict[str, str]:
    """The parts that IMAGES.md holds."""
    old = RESULTS.read_text(encoding="utf-8") if RESULTS.exists() else ""
    found = re.finditer(r"^## (\w+)\n.*?(?=^## |\Z)", old, re.MULTILINE | re.DOTALL)
    return {m[1]: m[0].rstrip() + "\n" for m in found}


def written(parts: dict[str, str]) -> None:
    """IMAGES.md: these parts, and what it held of the others."""
    held = pages() | parts
    head = "# Images: results of the benchmarks\n\nWritten by `python benchmarks/images.py`; each part says when and where.\n"
    RESULTS.write_text("\n".join([head, *(held[name] for name in HEADS if name in held)]), encoding="utf-8")
    say(f"wrote {RESULTS.name}")


def versions() -> str:
    """The versions of the peers."""
    found = []
    for package in PEERS:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            found.append(f"{package} not installed")
    return ", ".join(found)


def main() -> int:
    keep_freed_memory()  # as the command line does; for all sides
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("KONSPEKT_DATA") or None, help="holds mnist/")
    parser.add_argument("--only", nargs="+", choices=tuple(HEADS), default=list(HEADS), help="parts")
    parser.add_argument(
        "--nets", nargs="+", metavar="NET", help="steps of these nets only, written into the table that there is"
    )
    parser.add_argument("--threads", type=int, help="threads (default: 1 for steps, torch's own choice else)")
    parser.add_argument("--repeat", type=int, default=9, help="turns that are counted, at least 9 (default 9)")
    parser.add_argument("--quick", action="store_true", help="2 short turns, no compiling; print, write nothing")
    given = parser.parse_args()
    if given.repeat < 9:
        parser.error("--repeat must be at least 9; --quick is for a look")
    data = None if given.data is None else Path(given.data)
    if "epochs" in given.only and not given.nets and (data is None or not (data / "mnist").is_dir()):
        parser.error("give --data FOLDER that holds mnist/, or --only with other parts than epochs")
    repeat, cores = (2 if given.quick else given.repeat), os.cpu_count() or 1
    few, all_ = given.threads or 1, given.threads or cores

    def steps() -> list[Line]:
        lines = []
        for case in CASES:
            if given.nets and case.arch not in given.nets:
                continue
            seconds = 0.2 if given.quick else 1.0
            lines.append(compare(case, few, repeat, seconds=seconds, try_compiled=case.compiles and not given.quick))
            told(lines[-1])
        return lines

    def epochs() -> list[Line]:
        assert data is not None
        return Epochs(data / "mnist", 6400 if given.quick else None).lines(all_, repeat)

    def told(line: Line) -> None:
        say(f"{line.what}: {line.figure}{f', limit {line.limit}' if line.limit else ''}: {line.verdict}")
        for note in line.notes:
            say(f"  {note}")

    jobs: dict[str, Callable[[], list[Line]]] = {
        "augment": lambda: augmentation(given.quick, all_),  # first, as it forks before torch has threads
        "steps": steps,
        "epochs": epochs,
        "gpu": lambda: on_gpu(data, repeat),
    }
    parts, met = {}, True
    for name, job in jobs.items():
        if name not in (["steps"] if given.nets else given.only):
            continue
        load, began = os.getloadavg()[0], time.perf_counter()
        say(f"{name}: load average {load:.2f}{'; the machine is busy' if load > BUSY else ''}")
        lines = job()
        if name != "steps":
            for line in lines:
                told(line)
        met &= all(line.verdict in ("met", "for information") for line in lines)
        today, spent = datetime.date.today().isoformat(), time.perf_counter() - began
        facts = [
            f"- {today}, {repeat} turns of each side after one that is not counted, {spent:.0f} s",
            *machine_lines(load),
            f"- {versions()}",
        ]
        if given.nets and not given.quick:
            nets = ", ".join(dict.fromkeys(line.what.split(",")[0] for line in lines))
            fact = f"- measured again on {today}: {nets}; {repeat} turns, load average at the start {load:.2f}"
            parts[name] = renewed(pages()[name], lines, fact)
        else:
            parts[name] = section(name, lines, facts)
    if not given.quick:
        written(parts)
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
