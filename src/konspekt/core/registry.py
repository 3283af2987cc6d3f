"""What the package offers, found by reading its files, not by importing them.

`@system(...)` stands above a class or a function and takes literals only. The first question to the registry parses
the files that contain such a line; nothing is imported until `Entry.load`. Packages from outside name a package of
theirs under the entry point group `konspekt.systems`.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import importlib
import importlib.util
import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from konspekt.core.errors import ConfigError, nearest

__all__ = ["KINDS", "TASKS", "Entry", "entries", "lookup", "system"]

KINDS = (
    "estimator",
    "net",
    "optimizer",
    "schedule",
    "activation",
    "init",
    "layer",
    "augmentation",
    "loss",
    "metric",
    "agent",
    "tool",
)
TASKS = (
    "tabular-classification",
    "tabular-regression",
    "anomaly-detection",
    "image-classification",
    "image-regression",
    "object-localization",
    "image-embedding",
    "clustering",
    "acting",
)
GROUP = "konspekt.systems"
_EXTRAS = {"gymnasium": "rl", "numba": "rl"}  # the extra that brings a package

T = TypeVar("T", bound=Callable[..., Any])


@dataclass(frozen=True)
class Entry:
    """One registered thing."""

    name: str
    kind: str
    module: str
    qualname: str
    task: str | None = None
    rows: tuple[str, ...] = ()
    paper: str | None = None
    waive: Mapping[str, str] = dataclasses.field(default_factory=dict)
    summary: str = ""

    def load(self) -> Any:
        """Import the module and hand out the class or function.

        Raises ConfigError where a package of an extra that is not installed is missing.
        """
        try:
            return getattr(importlib.import_module(self.module), self.qualname)
        except ModuleNotFoundError as error:
            extra = _EXTRAS.get((error.name or "").split(".")[0])
            if extra is None:
                raise
            raise ConfigError(
                f"{self.name} needs {error.name}, which is not installed: pip install 'konspekt[{extra}]'"
            ) from error


def system(
    *,
    name: str,
    kind: str,
    task: str | None = None,
    rows: tuple[str, ...] = (),
    paper: str | None = None,
    waive: Mapping[str, str] | None = None,
) -> Callable[[T], T]:
    """Register the class or function below.

    name: what the command line, config files and model folders call it; unique within its kind.
    kind: one of KINDS; it decides which contract tests run.
    task: one of TASKS, for estimators; it decides on which tiny data they run.
    rows: the ids of the course's rows that it covers.
    paper: the source.
    waive: contract checks that it does not pass, each with the reason.

    Raises TypeError, for whoever writes a system, on an unknown kind or task and on annotations that are no fields.
    """

    def mark(target: T) -> T:
        where = f"@system(name={name!r}) on {target.__qualname__}"
        if kind not in KINDS:
            raise TypeError(f"{where}: kind {kind!r} is not one of {', '.join(KINDS)}")
        if task is not None and task not in TASKS:
            raise TypeError(f"{where}: task {task!r} is not one of {', '.join(TASKS)}")
        if kind == "estimator":
            if not dataclasses.is_dataclass(target):
                raise TypeError(
                    f"{where}: an estimator is a dataclass; put @dataclass(kw_only=True, ...) below @system"
                )
            fields = {f.name for f in dataclasses.fields(target)}
            stray = sorted(set(inspect.get_annotations(target)) - fields)
            if stray:
                raise TypeError(f"{where}: annotations that are no fields: {', '.join(stray)}")
        doc = _summary(inspect.getdoc(target))
        entry = Entry(name, kind, target.__module__, target.__qualname__, task, rows, paper, waive or {}, doc)
        target.__konspekt__ = entry  # type: ignore[attr-defined]
        return target

    return mark


def _summary(doc: str | None) -> str:
    return (doc or "").split("\n\n")[0].replace("\n", " ").strip()


def _packages() -> Iterator[tuple[str, Path]]:
    yield "konspekt", Path(__file__).parent.parent
    from importlib.metadata import entry_points

    for point in entry_points(group=GROUP):
        try:
            spec = importlib.util.find_spec(point.value)
        except ModuleNotFoundError:
            spec = None
        if spec is None or spec.origin is None:
            raise ConfigError(f"the entry point {GROUP}:{point.name} names {point.value!r}, which is not installed")
        origin = Path(spec.origin)
        yield point.value, origin.parent if origin.name == "__init__.py" else origin


def _read(package: str, place: Path) -> Iterator[Entry]:
    files = sorted(place.rglob("*.py")) if place.is_dir() else [place]
    for file in files:
        source = file.read_text(encoding="utf-8")
        if "\n@system(" not in source:
            continue
        inner = file.relative_to(place).with_suffix("").parts if place.is_dir() else ()
        module = ".".join((package, *(part for part in inner if part != "__init__")))
        for node in ast.parse(source).body:
            if not isinstance(node, (ast.ClassDef, ast.FunctionDef)):
                continue
            for decorator in node.decorator_list:
                if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == "system":
                    try:
                        given = {str(k.arg): ast.literal_eval(k.value) for k in decorator.keywords}
                        summary = _summary(ast.get_docstring(node))
                        entry = Entry(module=module, qualname=node.name, summary=summary, **given)
                    except (TypeError, ValueError) as error:
                        where = f"{file}, line {decorator.lineno}"
                        raise ConfigError(f"{where}: @system takes name=, kind=, ... as literals ({error})") from None
                    if entry.kind not in KINDS:
                        raise ConfigError(f"{file}, line {decorator.lineno}: kind {entry.kind!r} is not one of {KINDS}")
                    yield entry


@functools.cache
def entries() -> tuple[Entry, ...]:
    """Everything registered, by kind and name.

    Raises ConfigError where two things of one kind bear one name.
    """
    found: dict[tuple[str, str], Entry] = {}
    for package, place in _packages():
        for entry in _read(package, place):
            key = (entry.kind, entry.name)
            if key in found:
                raise ConfigError(
                    f"two things of kind {entry.kind!r} are named {entry.name!r}: in {found[key].module} and in {entry.module}"
                )
            found[key] = entry
    return tuple(sorted(found.values(), key=lambda e: (KINDS.index(e.kind), e.name)))


def lookup(kind: str | tuple[str, ...] | None, name: str) -> Entry:
    """The entry of this kind, or of one of these kinds (None: of any), and name.

    Raises ConfigError with the nearest name: "'admw' is not a registered optimizer; did you mean 'adamw'?".
    """
    kinds = (kind,) if isinstance(kind, str) else kind
    candidates = [e for e in entries() if kinds is None or e.kind in kinds]
    for entry in candidates:
        if entry.name == name:
            return entry
    what = f"a registered {' or '.join(kinds)}" if kinds else "registered"
    raise ConfigError(f"{name!r} is not {what}; {nearest(name, [e.name for e in candidates])}")
