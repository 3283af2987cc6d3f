"""A page of results that is written part by part: a part that is measured anew takes the place of what the page held of it.

What `clustering.py` and `rl.py` share. A part is a table of lines with a limit and a verdict, under what says when and where.
"""

from __future__ import annotations

import argparse
import datetime
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from engine import BUSY, Line, machine_lines, say

__all__ = ["Page", "arguments"]


def arguments(doc: str | None, heads: dict[str, str], quick: str) -> argparse.Namespace:
    """`--only PART ...` and `--quick`. quick: what a short look leaves out."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=tuple(heads), default=list(heads), help="parts")
    parser.add_argument("--quick", action="store_true", help=f"{quick}; print, write nothing")
    return parser.parse_args()


@dataclass
class Page:
    """path: the file. top: title and introduction. heads: of each part, in the order of the page, what it is about."""

    path: Path
    top: str
    heads: dict[str, str]
    parts: dict[str, str] = field(default_factory=dict)  # those that were measured

    def measure(self, name: str, job: Callable[[], list[Line]], *, how: str = "", facts: tuple[str, ...] = ()) -> bool:
        """Measure a part, and tell its lines; whether all limits were met.

        how: in which circumstances, behind date and seconds. facts: items that stand below the machine.
        """
        load, began = os.getloadavg()[0], time.perf_counter()
        say(f"{name}: load average {load:.2f}{'; the machine is busy' if load > BUSY else ''}")
        lines = job()
        for line in lines:
            say(f"{line.what}: {line.figure}{f', limit {line.limit}' if line.limit else ''}: {line.verdict}")
            for note in line.notes:
                say(f"  {note}")
        when = f"- {datetime.date.today().isoformat()}, {time.perf_counter() - began:.0f} s{how}"
        self.parts[name] = self.part(name, lines, [when, *machine_lines(load), *facts])
        return all(line.verdict in ("met", "for information") for line in lines)

    def part(self, name: str, lines: list[Line], facts: list[str]) -> str:
        """A part as text."""
        text = [
            f"## {name}", "", self.heads[name], "", *facts, "",
            "| what | figure | limit | verdict |", "|---|---|---|---|",
            *(f"| {line.what} | {line.figure} | {line.limit} | {line.verdict} |" for line in lines), "",
            *(f"- {line.what}: {note}" for line in lines for note in line.notes),
        ]  # fmt: skip
        return "\n".join(text).rstrip() + "\n"

    def held(self) -> dict[str, str]:
        """The parts that the file holds."""
        old = self.path.read_text(encoding="utf-8") if self.path.exists() else ""
        found = re.finditer(r"^## (\w+)\n.*?(?=^## |\Z)", old, re.MULTILINE | re.DOTALL)
        return {m[1]: m[0].rstrip() + "\n" for m in found}

    def write(self) -> None:
        """Write the file: what was measured, and what it held of the other parts."""
        parts = self.held() | self.parts
        text = [f"{self.top}\n", *(parts[name] for name in self.heads if name in parts)]
        self.path.write_text("\n".join(text), encoding="utf-8")
        say(f"wrote {self.path.name}")
