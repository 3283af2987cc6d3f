"""The page's templates and the small parts that they share: tables, bars, galleries, shaded grids."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from konspekt.reports import words
from konspekt.reports.figures import Picture
from konspekt.reports.words import clean, number

__all__ = [
    "Bar",
    "Cell",
    "Grid",
    "Table",
    "Tile",
    "beside",
    "bullets",
    "charts",
    "environment",
    "facts",
    "folded",
    "heading",
    "part",
    "sentence",
    "table",
]


@dataclass(frozen=True)
class Bar:
    """A table cell that is a bar of this share of the column's width."""

    share: float


@dataclass(frozen=True)
class Table:
    """Rows of cells: text, numbers (set flush right), None, Markup or Bars. `caption` is read out, not shown."""

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[Any]]
    note: str = ""

    @property
    def numeric(self) -> list[bool]:
        """Which columns hold numbers only."""
        columns = [[row[i] for row in self.rows if row[i] is not None] for i in range(len(self.head))]
        return [bool(c) and all(map(_is_number, c)) for c in columns]


def _is_number(value: Any) -> bool:
    """A number, or text that the page made from one: "12.3 s", "4.5 %"."""
    if isinstance(value, words.Digits):
        return True
    if isinstance(value, str):
        return words.GAP in value and value[:1].isdigit()
    return isinstance(value, (int, float)) and not isinstance(value, bool)


@dataclass(frozen=True)
class Cell:
    """One cell of a Grid: its text, how full its shade is (0 to 1), and whether the shade is the second colour."""

    text: str
    shade: float = 0.0
    second: bool = False


@dataclass(frozen=True)
class Grid:
    """A shaded table of numbers. `extra` are columns after it: a heading and one text for each row."""

    caption: str
    rows: Sequence[str]
    columns: Sequence[str]
    cells: Sequence[Sequence[Cell]]
    down: str = ""
    across: str = ""
    extra: Sequence[tuple[str, Sequence[str]]] = ()
    note: str = ""

    @property
    def upright(self) -> bool:
        """Whether the columns' names must stand on end."""
        return any(len(c) > 4 for c in self.columns)


@dataclass(frozen=True)
class Tile:
    """A picture of a gallery with its lines of text; `wrong` marks what the model got wrong."""

    source: str
    alt: str
    lines: Sequence[str] = ()
    wrong: bool = False


@functools.cache
def environment() -> jinja2.Environment:
    """The templates beside this file. Everything that is not Markup is escaped."""
    env = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.filters["cell"] = cell
    env.filters["clean"] = words.clean
    env.tests["bar"] = lambda value: isinstance(value, Bar)
    return env


def cell(value: Any) -> str | Markup:
    """What stands in a table's cell."""
    if isinstance(value, Markup):
        return value
    if isinstance(value, (list, tuple)):
        return ", ".join(str(cell(v)) for v in value)
    if value is None:
        return ""
    return number(value) if isinstance(value, (int, float)) else words.clean(value)


def part(name: str, *arguments: Any) -> Markup:
    """A macro of parts.html, filled in."""
    macro = getattr(environment().get_template("parts.html").module, name)
    return Markup(macro(*arguments))  # noqa: S704 - the template escapes


def sentence(text: str, kind: str = "") -> Markup:
    """A paragraph."""
    return Markup('<p class="{}">{}</p>').format(kind, text) if kind else Markup("<p>{}</p>").format(text)


def heading(text: str) -> Markup:
    """A heading within a section."""
    return Markup("<h3>{}</h3>").format(clean(text))


def bullets(texts: Iterable[str]) -> Markup:
    """A list."""
    return Markup("<ul>{}</ul>").format(Markup().join(Markup("<li>{}</li>").format(clean(t)) for t in texts))


def facts(pairs: Iterable[tuple[str, Any]], kind: str = "facts") -> Markup:
    """Names and values; what is None or empty is left out."""
    known = [(k, v) for k, v in pairs if v not in (None, "", [])]
    rows = (Markup("<div><dt>{}</dt><dd>{}</dd></div>").format(clean(k), cell(v)) for k, v in known)
    return Markup('<dl class="{}">{}</dl>').format(kind, Markup().join(rows))


def folded(summary: str, body: Markup) -> Markup:
    """What is shown when it is asked for."""
    return Markup("<details><summary>{}</summary>{}</details>").format(clean(summary), body)


def charts(pictures: Sequence[Picture]) -> Markup:
    """Small multiples: as many beside each other as there is room for."""
    narrow = Markup().join(part("figure", p) for p in pictures if not p.wide)
    wide = Markup().join(part("figure", p) for p in pictures if p.wide)
    return (Markup('<div class="charts">{}</div>').format(narrow) if narrow else narrow) + wide


def beside(*blocks: Markup) -> Markup:
    """Blocks beside each other where there is room."""
    inner = Markup().join(Markup("<div>{}</div>").format(b) for b in blocks if b)
    return Markup('<div class="beside">{}</div>').format(inner) if inner else inner


def table(caption: str, head: Sequence[str], rows: Sequence[Sequence[Any]], note: str = "") -> Markup:
    """A table without the columns in which nothing stands."""
    filled = [i for i in range(len(head)) if i == 0 or any(row[i] not in (None, "") for row in rows)]
    body = [[row[i] for i in filled] for row in rows]
    return part("table", Table(caption, [head[i] for i in filled], body, note))
