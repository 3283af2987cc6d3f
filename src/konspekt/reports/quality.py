"""What the page says about the quality of the data: gaps, constants, balance, leakage, what was left out."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from konspekt.reports.reading import Folder, dicts, mapping
from konspekt.reports.templates import bullets, folded, heading, sentence, table
from konspekt.reports.words import clean, listed, number, percent, plural, real, said, short, size

__all__ = ["leakage", "left_out", "quality"]

TYPES = {"number": ("number", "numbers"), "category": ("category", "categories")}
MAX_NAMES = 12
MAX_REASONS = 20
MAX_OPEN = 12  # rows of a list that is not folded
MAX_LISTED = 10_000
NEARLY = 0.99  # share of its most frequent value from which on a column is called nearly constant
MAX_RATIO = 10.0  # of the largest class to the smallest, beyond which the page says what follows


def quality(folder: Folder) -> Markup | None:
    """What was found in columns and classes; None where nothing can be said."""
    known = folder.data
    found = _of_columns(dicts(known.get("columns")), _rows(known)) + _of_classes(dicts(known.get("classes")))
    return heading("Quality") + bullets(f"{what}: {text}" for what, text in found) if found else None


def _rows(known: dict[str, Any]) -> float:
    """How many rows the columns were described by."""
    rows = real(known.get("rows"))
    return rows if np.isfinite(rows) else float(np.nansum([real(known.get(k)) for k in ("train", "validation")]))


def _of_columns(columns: list[dict[str, Any]], rows: float) -> list[tuple[str, str]]:
    if not columns:
        return []
    kinds = Counter(short(c.get("type") or "unknown", 20) for c in columns)
    found = [("types", ", ".join(plural(n, *TYPES.get(kind, (kind, kind))) for kind, n in kinds.most_common()))]

    gaps = sorted(((real(c.get("missing")), c) for c in columns if real(c.get("missing")) > 0), key=lambda g: -g[0])
    if gaps:
        cells, total = sum(g for g, _ in gaps), rows * len(columns)
        share = f" ({percent(cells / total, 1000)} of all)" if total > 0 else ""
        where = listed([f"{short(c.get('name'), 30)} ({_share(g, rows)})" for g, c in gaps], MAX_NAMES)
        found.append(("missing values", f"{number(int(cells))}{share} in {plural(len(gaps), 'column')}: {where}"))
    else:
        found.append(("missing values", "none"))

    constant = [c for c in columns if 0 <= real(c.get("unique")) <= 1]
    if constant:
        found.append(("constant columns", _names(constant)))
    nearly = [(c, top) for c in columns if c not in constant and (top := _top(c)) >= NEARLY * rows > 0]
    if nearly:
        texts = [f"{short(c.get('name'), 30)} ({percent(top / rows)} are one value)" for c, top in nearly]
        found.append(("nearly constant columns", listed(texts, MAX_NAMES)))
    unlike = [c for c in columns if c.get("type") != "number" and real(c.get("unique")) == rows > 1]
    if unlike:
        found.append(("another value in each row", f"{_names(unlike)}: a name or a number of the row, not a property?"))
    return found


def _share(part: float, rows: float) -> str:
    return percent(part / rows, 1000) if rows > 0 else number(int(part))


def _top(column: dict[str, Any]) -> float:
    """How often the most frequent value stands in a column; 0 where it is not known."""
    top = column.get("top")
    first = top[0] if isinstance(top, list) and top else None
    count = real(first[1]) if isinstance(first, list) and len(first) == 2 else np.nan
    return float(np.nan_to_num(count))


def _names(columns: list[dict[str, Any]]) -> str:
    return listed([c.get("name") for c in columns], MAX_NAMES)


def _of_classes(classes: list[dict[str, Any]]) -> list[tuple[str, str]]:
    sizes = [(real(c.get("train")), short(c.get("name"), 40), real(c.get("validation"))) for c in classes]
    sizes = sorted((s for s in sizes if np.isfinite(s[0])), key=lambda s: s[0])
    if len(sizes) < 2:
        return []
    (least, rare, _), (most, common, _) = sizes[0], sizes[-1]
    ratio = most / least if least > 0 else np.inf
    text = f"{number(float(f'{ratio:.3g}'))} to 1: {number(int(most))} items of class {common}, {number(int(least))} of class {rare}"
    if ratio > MAX_RATIO:
        text += "; accuracy says little about the small ones, see the measures by class"
    found = [("balance of the classes", text)]
    unseen = [name for _, name, held in sizes if held == 0]
    if unseen and len(unseen) < len(sizes):
        found.append(("classes with nothing held out", listed(unseen, MAX_NAMES)))
    return found


def leakage(folder: Folder) -> Markup | None:
    """What the search for leaks found: items on both sides, columns that name the row."""
    found = mapping(folder.data.get("leakage"))
    if not found:
        return None
    body, count = Markup(), real(found.get("duplicates"))
    if count > 0:
        body += sentence(
            f"{plural(int(count), 'held-out item stands', 'held-out items stand')} in the training data too: the score is "
            "partly memory. Remove them, or split by groups."
        )
        given = found.get("examples")
        pairs = [p for p in given if isinstance(p, list) and len(p) == 2] if isinstance(given, list) else []
        rows = [[said(a), said(b)] for a, b in pairs[:MAX_LISTED]]
        shown = table("Items on both sides", ["training item", "held-out item"], rows) if rows else Markup()
        body += folded(f"{plural(len(rows), 'pair')} of them", shown) if len(rows) > MAX_OPEN else shown
    elif count == 0:
        body += sentence("No held-out item stands in the training data too.")
    names = dicts(found.get("identifiers"))
    if names:
        body += sentence("Columns that may name the row rather than describe it; leave them out if they do:")
        body += bullets(f"{short(c.get('name'), 60)}: {short(c.get('why') or 'no reason given', 200)}" for c in names)
    return heading("Leakage") + body if body else None


def left_out(folder: Folder) -> Markup | None:
    """Skipped items by reason, then each of them; and what lies in the quarantine."""
    skipped, files = dicts(folder.data.get("skipped")), _quarantined(folder.path / "quarantine")
    body = Markup()
    if skipped:
        reasons = Counter(short(s.get("reason") or "no reason given", 200) for s in skipped).most_common()
        body += heading(plural(len(skipped), "skipped item"))
        if len(skipped) > MAX_OPEN:
            more = sum(n for _, n in reasons[MAX_REASONS:])
            note = f"And {plural(more, 'item')} for {number(len(reasons) - MAX_REASONS)} other reasons." if more else ""
            body += table("Reasons", ["reason", "items"], [[r, n] for r, n in reasons[:MAX_REASONS]], note)
        rows = [[short(s.get("item"), 200), short(s.get("reason"), 200)] for s in skipped]
        body += _list("Skipped items", ["item", "reason"], rows, "skipped item", "data.json")
    if files:
        total = size(sum(n for _, n in files))
        body += heading("Quarantine") + sentence(
            f"{plural(len(files), 'file')}, {total}, in the run's folder quarantine/: what was set aside, as it came."
        )
        body += _list(
            "Quarantine", ["file", "size"], [[short(f, 200), size(n)] for f, n in files], "file", "quarantine/"
        )
    return body or None


def _list(caption: str, head: list[str], rows: list[list[Any]], what: str, where: str) -> Markup:
    """All rows; folded where there are many."""
    more = len(rows) - MAX_LISTED
    note = f"And {plural(more, f'more {what}')}, in {where}." if more > 0 else ""
    shown = table(caption, head, rows[:MAX_LISTED], note)
    return folded(f"All {plural(len(rows), what)}", shown) if len(rows) > MAX_OPEN else shown


def _quarantined(path: Path) -> list[tuple[str, int]]:
    """The plain files below, with their sizes in bytes; links are not followed."""
    found = []
    if path.is_symlink():
        return []
    for folder, _, names in os.walk(path):
        plain = [file for name in names if not (file := Path(folder) / name).is_symlink() and file.is_file()]
        found += [(clean(file.relative_to(path).as_posix()), file.stat().st_size) for file in plain]
    return sorted(found)
