"""Faults that a fit must outlive, each as a command.

    python benchmarks/faults kill [--trials N]     one row of the table
    python benchmarks/faults all --write           all rows, written into docs/reliability.md

Exit code 1 where a row fails.
"""

from __future__ import annotations

import argparse
import importlib
import os
import platform
import sys
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from children import Row

import konspekt

PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"
BEGIN, END = "<!-- rows: written by `python benchmarks/faults all --write` -->", "<!-- end of the rows -->"
MODULES = {
    "kill": "kill", "mutate": "mutate", "disk": "disk", "worker": "worker", "clock": "small", "readonly": "disk",
    "single": "small", "nan": "processes", "processes": "processes",
}  # fmt: skip


def say(text: str) -> None:
    print(text, flush=True)


def processor() -> str:
    """The processor's name."""
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").is_file() else ():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def page(rows: list[Row]) -> str:
    """The rows as they stand between the markers."""
    lines = [
        f"- machine: {processor()}, {os.cpu_count()} cores, {platform.system()}",
        f"- versions: Python {platform.python_version()}, torch {torch.__version__}, konspekt {konspekt.__version__}",
        "",
        "| what | command | trials | result | seconds |",
        "|---|---|---|---|---|",
    ]
    lines += [f"| {r.what} | `{_command(r)}` | {r.trials} | {r.result} | {r.seconds:.0f} |" for r in rows]
    return "\n".join(lines)


def _command(row: Row) -> str:
    return f"python benchmarks/faults {row.command}"


def write(rows: list[Row]) -> None:
    """Put the rows between the markers; rows of other commands that stand there stay."""
    text = PAGE.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    old, after = rest.split(END)
    done = {f"`{_command(r)}`" for r in rows}
    kept = [
        line
        for line in old.splitlines()
        if line.startswith("| ") and "`python" in line and not any(d in line for d in done)
    ]
    new = page(rows).splitlines()
    head, body = [x for x in new if "`python" not in x], [x for x in new if "`python" in x]
    order = list(MODULES)
    body = sorted(kept + body, key=lambda line: order.index(line.split("`python benchmarks/faults ")[1].split("`")[0]))
    PAGE.write_text(f"{before}{BEGIN}\n\n" + "\n".join(head + body) + f"\n\n{END}{after}", encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("row", choices=[*MODULES, "all"])
    parser.add_argument("--trials", type=int, help="how many; the default is what the table has")
    parser.add_argument("--write", action="store_true", help="write the rows into docs/reliability.md")
    options = parser.parse_args()
    torch.set_num_threads(1)
    sys.warnoptions.append("ignore:resource_tracker")  # after a killed fit's workers it cleans up, and says so
    found: list[Row] = []
    for name in MODULES if options.row == "all" else [options.row]:
        module = importlib.import_module(MODULES[name])
        made = getattr(module, name, None) or module.rows
        for row in made(options.trials):
            found.append(row)
            say(f"{'ok  ' if row.good else 'FAIL'} {row.what}: {row.result}; {row.trials} trials, {row.seconds:.1f} s")
            for note in row.notes:
                say(f"     {note}")
    if options.write:
        write(found)
        say(f"wrote {PAGE.name}")
    return 0 if all(row.good for row in found) else 1


if __name__ == "__main__":
    sys.exit(main())
