"""The pages made from the registry: docs/course.md, and the table of systems in README.md and README.ru.md.

    python -m konspekt.testing.docs            writes them
    python -m konspekt.testing.docs --check    writes nothing; exit code 1 where one is stale

It runs somewhere inside the repository. The course's rows and errata are data, in docs/course.toml; what is registered
for a row is read from the source tree that is installed.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import konspekt
from konspekt.core.errors import ConfigError, DataError, KonspektError
from konspekt.core.folders import write_file
from konspekt.core.registry import Entry, entries

__all__ = ["Course", "Row", "course_page", "main", "pages", "read_course", "repository", "stale", "systems_table"]

COURSE = Path("docs/course.toml")
PAGE = Path("docs/course.md")
README = Path("README.md")
TRANSLATION = Path("README.ru.md")
HEADS = {  # of the table of systems
    README: ("name", "kind", "rows", "what it is", "task"),
    TRANSLATION: ("имя", "вид", "строки курса", "что это", "задача"),
}
BEGIN, END = "<!-- systems -->", "<!-- /systems -->"


@dataclass(frozen=True)
class Row:
    """A row of the course.

    public: the name that it has, or will have. begun: what there is of it though nothing is registered for it.
    lacks: what is missing though something is registered for it.
    """

    id: str
    group: str
    system: str
    source: str
    public: str
    begun: str = ""
    lacks: str = ""


@dataclass(frozen=True)
class Course:
    """The course as docs/course.toml has it.

    documents: letter -> what it is. groups: letter -> (title, packages). rows: by id, in the course's order.
    errata: (title, [(source, what the notes say, what is right)]).
    """

    documents: dict[str, str]
    groups: dict[str, tuple[str, list[str]]]
    rows: dict[str, Row]
    errata: list[tuple[str, list[tuple[str, str, str]]]]


def repository(start: Path | None = None) -> Path:
    """The root of the repository that holds `start` (None: the current directory).

    Raises ConfigError where no folder above has konspekt's pyproject.toml.
    """
    start = (start or Path.cwd()).resolve()
    for folder in (start, *start.parents):
        file = folder / "pyproject.toml"
        if file.is_file():
            try:
                project = tomllib.loads(file.read_text(encoding="utf-8")).get("project", {})
            except (tomllib.TOMLDecodeError, UnicodeDecodeError):
                continue
            if project.get("name") == "konspekt":
                return folder
    raise ConfigError(
        f"{start} is not inside konspekt's repository: neither it nor a folder above has a pyproject.toml with "
        "name = 'konspekt'; run this where the repository is checked out"
    )


def read_course(file: Path) -> Course:
    """Read docs/course.toml.

    Raises DataError that names the place where it is not what it should be.
    """
    try:
        data = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{file}: there is no such file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{file}: not readable as TOML ({error})") from None
    groups: dict[str, tuple[str, list[str]]] = {}
    rows: dict[str, Row] = {}
    try:
        for group in data["groups"]:
            letter = group["letter"]
            groups[letter] = (group["title"], list(group["packages"]))
            for given in group["rows"]:
                row = Row(group=letter, **given)
                if row.id in rows:
                    raise DataError(f"{file}: row {row.id} stands there twice")
                if row.id[:1] != letter:
                    raise DataError(f"{file}: row {row.id} stands in group {letter}")
                rows[row.id] = row
        errata = [
            (part["title"], [(slip["source"], slip["says"], slip["build"]) for slip in part["slips"]])
            for part in data["errata"]
        ]
        return Course(dict(data["documents"]), groups, rows, errata)
    except (KeyError, TypeError) as error:
        raise DataError(f"{file}: a key is missing or unknown ({type(error).__name__}: {error})") from None


def own_entries() -> list[Entry]:
    """What this package registers; what other packages add is theirs to document."""
    return [e for e in entries() if e.module.split(".")[0] == "konspekt"]


def by_row(course: Course, found: Iterable[Entry]) -> dict[str, list[Entry]]:
    """Row id -> what is registered for it.

    Raises ConfigError where a system names a row that the course does not have, DataError where a row of course.toml
    says `begun` or `lacks` and the registry says otherwise.
    """
    registered: dict[str, list[Entry]] = {name: [] for name in course.rows}
    for entry in found:
        for name in entry.rows:
            if name not in registered:
                raise ConfigError(
                    f"{entry.module}: {entry.kind} {entry.name!r} names row {name!r}, which {COURSE} does not have: mend "
                    "the name, or add the row"
                )
            registered[name].append(entry)
    for name, row in course.rows.items():
        if row.begun and registered[name]:
            raise DataError(f"{COURSE}: row {name} says `begun`, but something is registered for it now: say `lacks`")
        if row.lacks and not registered[name]:
            raise DataError(f"{COURSE}: row {name} says `lacks`, but nothing is registered for it: say `begun`")
    return registered


def course_page(course: Course, found: Sequence[Entry]) -> str:
    """docs/course.md: each row with what is registered for it, and the errata."""
    registered = by_row(course, found)
    taken = [row for row in course.rows.values() if registered[row.id]]
    partly = sum(bool(row.lacks) for row in taken)
    lines = [
        "# The map of the course",
        "",
        "This page is written by `make docs` from docs/course.toml and the registry; edit those.",
        "",
        (
            "The course is five sets of lecture notes. The source column names them by letter: L2 is section 2 of document "
            "L, M:611 is line 611 of document M."
        ),
        "",
        *_table(("letter", "document"), course.documents.items()),
        "",
        (
            f"Of {len(course.rows)} rows, {len(taken)} have something registered ({partly} of them in part) and "
            f"{len(course.rows) - len(taken)} are open. The public name of an open row is the name that it will have."
        ),
        "",
    ]
    for letter, (title, packages) in course.groups.items():
        lines += [f"## {letter}. {title}", "", "Packages: " + ", ".join(f"`{p}`" for p in packages) + ".", ""]
        rows = [row for row in course.rows.values() if row.group == letter]
        cells = [(r.id, r.system, r.source, r.public, _state(r, registered[r.id])) for r in rows]
        lines += [*_table(("id", "system", "source", "public name", "state"), cells), ""]
    lines += [
        "## Where the notes err",
        "",
        (
            "The notes are lectures, not papers. Where they err, the package builds what the last column says; a docstring "
            "names the slip only where a reader of the notes would be misled."
        ),
        "",
    ]
    for title, slips in course.errata:
        lines += [f"### {title}", "", *_table(("source", "the notes say", "right, and built"), slips), ""]
    return "\n".join(lines).rstrip() + "\n"


def systems_table(found: Sequence[Entry], head: Sequence[str] = HEADS[README]) -> str:
    """The table of README.md: everything registered, estimators first. Under another head the rows stay as they are."""
    cells = [(_link(e, ""), e.kind, ", ".join(e.rows), e.summary, e.task or "") for e in found]
    return "\n".join(_table(head, cells))


def pages(root: Path) -> dict[Path, str]:
    """What the generated files of a repository should hold, by their path below `root`.

    Raises DataError where course.toml or a README is not as it should be, ConfigError on an unknown row.
    """
    found = own_entries()
    made = {PAGE: course_page(read_course(root / COURSE), found)}
    for path, head in HEADS.items():
        readme = (root / path).read_text(encoding="utf-8") if (root / path).is_file() else ""
        before, begin, rest = readme.partition(f"{BEGIN}\n")
        _, end, after = rest.partition(f"{END}\n")
        if not begin or not end:
            raise DataError(f"{root / path}: the lines {BEGIN} and {END} are missing; the table stands between them")
        made[path] = f"{before}{BEGIN}\n\n{systems_table(found, head)}\n\n{END}\n{after}"
    return made


def stale(root: Path) -> list[Path]:
    """The generated files that do not hold what they should, by their path below `root`."""
    return [
        path
        for path, text in pages(root).items()
        if not (root / path).is_file() or (root / path).read_text(encoding="utf-8") != text
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the pages, or check them; returns the exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if any(a != "--check" for a in arguments):
        print("usage: python -m konspekt.testing.docs [--check]", file=sys.stderr)  # noqa: T201
        return 2
    try:
        root = repository()
        installed = Path(konspekt.__file__).resolve().parent
        if installed != (root / "src" / "konspekt").resolve():
            raise ConfigError(f"the konspekt that Python imports is {installed}, not that of {root}; pip install -e .")
        wrong = stale(root)
        if not arguments:
            made = pages(root)
            for path in wrong:
                write_file(root / path, made[path].encode())
    except KonspektError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return 1
    for path in wrong:
        print(f"{path} is stale; `make docs` writes it" if arguments else f"wrote {path}")  # noqa: T201
    return 1 if arguments and wrong else 0


def _state(row: Row, registered: Sequence[Entry]) -> str:
    if not registered:
        return "open" + (f"; begun: {row.begun}" if row.begun else "")
    kinds: dict[str, list[str]] = {}
    for entry in registered:
        kinds.setdefault(entry.kind, []).append(_link(entry, "../"))
    text = "; ".join(f"{kind}{'s' if len(names) > 1 else ''} {', '.join(names)}" for kind, names in kinds.items())
    return text + (f". Lacks: {row.lacks}" if row.lacks else "")


def _link(entry: Entry, up: str) -> str:
    """The name, linked to its file; `up` leads from the page to the repository's root."""
    package = Path(konspekt.__file__).parent.joinpath(*entry.module.split(".")[1:])
    inner = "/".join(entry.module.split(".")) + ("/__init__" if package.is_dir() else "")
    return f"[`{entry.name}`]({up}src/{inner}.py)"


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[str]:
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    return lines + [f"| {' | '.join(_cell(str(c)) for c in row)} |" for row in rows]


def _cell(text: str) -> str:
    """Text that Markdown shows as it is; what stands in backticks stays code."""
    parts = text.replace("|", "\\|").split("`")
    return "`".join(
        p if i % 2 else re.sub(r"(<(?=[\w/!])|\*(?=\S)|(?<=\S)\*)", r"\\\1", p) for i, p in enumerate(parts)
    )


if __name__ == "__main__":
    sys.exit(main())
