"""Parameters that say once, in their annotation, what they may be and where a search should look.

    lr: Annotated[float, MoreThan(0), Search(1e-4, 1e-1, log=True)] = 1e-3
    optimizer: Annotated[str, Registered("optimizer")] = "adam"
    norm: Literal["none", "batch", "layer"] = "none"

The check at `fit` and its message, the command line's parsing and help, the documentation and `space()` are all
derived from that. A parameter that is `Registered(kind)` names something in the registry, with arguments if need be:
`"adam"`, `"adam(beta2=0.99)"`, `"step(every=10, factor=0.5)"`.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import inspect
import itertools
import math
import numbers
import re
import reprlib
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from konspekt.core import registry
from konspekt.core.errors import ConfigError, nearest
from konspekt.core.space import Category, Dimension, Integer, Real, Space

__all__ = [
    "AtLeast",
    "AtMost",
    "LessThan",
    "MoreThan",
    "Param",
    "Registered",
    "Search",
    "Within",
    "build",
    "check_params",
    "describe",
    "params_of",
    "parse_params",
    "shown",
    "space_of",
]


@dataclass(frozen=True)
class AtLeast:
    """A number that is `low` or more."""

    low: float

    def holds(self, value: Any) -> bool:
        """Whether the number is in bounds."""
        return bool(value >= self.low)

    def __str__(self) -> str:
        return f"at least {self.low:g}"


@dataclass(frozen=True)
class AtMost:
    """A number that is `high` or less."""

    high: float

    def holds(self, value: Any) -> bool:
        """Whether the number is in bounds."""
        return bool(value <= self.high)

    def __str__(self) -> str:
        return f"at most {self.high:g}"


@dataclass(frozen=True)
class MoreThan:
    """A number above `low`."""

    low: float

    def holds(self, value: Any) -> bool:
        """Whether the number is in bounds."""
        return bool(value > self.low)

    def __str__(self) -> str:
        return f"more than {self.low:g}"


@dataclass(frozen=True)
class LessThan:
    """A number below `high`."""

    high: float

    def holds(self, value: Any) -> bool:
        """Whether the number is in bounds."""
        return bool(value < self.high)

    def __str__(self) -> str:
        return f"less than {self.high:g}"


@dataclass(frozen=True)
class Within:
    """A number from `low` to `high`, both included."""

    low: float
    high: float

    def holds(self, value: Any) -> bool:
        """Whether the number is in bounds."""
        return bool(self.low <= value <= self.high)

    def __str__(self) -> str:
        return f"from {self.low:g} to {self.high:g}"


@dataclass(frozen=True)
class Registered:
    """A string that names something registered of this kind, with arguments in parentheses if it takes any."""

    kind: str

    def check(self, owner: str, name: str, value: str) -> None:
        """Raise ConfigError where the name is unknown or an argument does not fit."""
        called, arguments = split_call(value, f"{owner}: {name}")
        try:
            entry = registry.lookup(self.kind, called)
        except ConfigError as error:
            raise ConfigError(f"{owner}: {name} {error}") from None
        check_arguments(f"{owner}: {name}={called!r}", entry.load(), arguments)

    def __str__(self) -> str:
        return f"the name of a registered {self.kind}"


@dataclass(frozen=True)
class Search:
    """Where a search should look: a range of numbers, or `choices`. Without arguments: all choices of the annotation."""

    low: float | None = None
    high: float | None = None
    log: bool = False
    choices: tuple[Any, ...] | None = None


Bound = AtLeast | AtMost | MoreThan | LessThan | Within


@dataclass(frozen=True)
class Param:
    """One parameter as its annotation describes it."""

    name: str
    base: Any  # int, float, bool, str, tuple, Mapping, or object where anything goes
    optional: bool
    choices: tuple[Any, ...]
    item: Param | None  # of a tuple: what each item is
    bounds: tuple[Bound, ...]
    registered: Registered | None
    search: Search | None
    default: Any
    help: str = ""
    words: tuple[str, ...] = ()  # that may stand in the place of a number or a bool: lr="find"

    @property
    def rule(self) -> str:
        """What the value must be, as words that complete "must be ..."; "anything" where `fit` decides."""
        words: str
        if self.choices:
            words = "one of " + ", ".join(repr(c) for c in self.choices)
        elif self.registered:
            words = str(self.registered)
        elif self.base is tuple and self.item:
            words = f"a tuple whose items are each {self.item.rule}"
        else:
            noun = {int: "an integer", float: "a number", bool: "True or False", str: "a string", Mapping: "a mapping"}
            words = " ".join([noun.get(self.base, "anything"), " and ".join(str(b) for b in self.bounds)]).strip()
            if self.bounds and self.base in (int, float):
                words = " and ".join(str(b) for b in self.bounds)
                words = f"an integer {words}" if self.base is int else words
        words += "".join(f", or {w!r}" for w in self.words)
        return f"{words}, or None" if self.optional else words

    def check(self, owner: str, value: Any) -> None:
        """Raise ConfigError, with owner, rule and value, where the value does not fit."""
        if (value is None and self.optional) or (isinstance(value, str) and value in self.words):
            return
        if self.registered and isinstance(value, str):
            self.registered.check(owner, self.name, value)
        elif not self._fits(value):
            hint = ""
            if self.choices and isinstance(value, str) and all(isinstance(c, str) for c in self.choices):
                hint = f" ({nearest(value, self.choices)})"
            raise ConfigError(f"{owner}: {self.name} must be {self.rule}, got {shown(value)}{hint}")
        elif self.base is tuple and self.item and self.item.registered:
            for part in value:
                self.item.check(owner, part)

    def _fits(self, value: Any) -> bool:
        if self.choices:
            return any(type(value) is type(c) and value == c for c in self.choices)
        if self.base is tuple:
            inside = self.item
            return isinstance(value, tuple) and all(inside is None or inside._fits(v) for v in value)
        if self.base is bool:
            return isinstance(value, bool) or type(value).__name__ in ("bool_", "bool")
        if self.base in (int, float):
            wanted = numbers.Integral if self.base is int else numbers.Real
            number = isinstance(value, wanted) and not isinstance(value, bool)
            try:
                finite = number and math.isfinite(value)
            except OverflowError:  # an integer that no float holds
                finite = self.base is int
            return finite and all(b.holds(value) for b in self.bounds)
        if self.base is str:
            return isinstance(value, str)
        if self.base is Mapping:
            return isinstance(value, Mapping)
        return True

    def parse(self, owner: str, text: str) -> Any:
        """The value that the command line's text stands for.

        Tuples: `64,64` or as in Python, of calls too: `flip,crop(padding=4)`; mappings: `zip:category,age:number`.
        """
        if text.lower() in {"none", "null"} and (self.optional or self.base is object):
            return None
        if text in self.words:
            return text
        value: Any = text
        try:
            if self.choices:
                value = next((c for c in self.choices if str(c) == text), text)
            elif self.base is tuple:
                parts = [_unquoted(part) for part in _split(_inside(text))]
                value = tuple(self.item.parse(owner, p) if self.item else p for p in parts)
            elif self.base is Mapping:
                pairs = (part.rsplit(":", 1) for part in _split(text.strip("{} ")))
                value = {key.strip(" '\""): item.strip(" '\"") for key, item in pairs}
            elif self.base is bool:
                value = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}[text.lower()]
            elif self.base is int:
                value = int(text)
            elif self.base is float:
                value = float(text)
            elif self.base is object:
                value = _literal(text)
        except ConfigError:  # about an item of a tuple
            raise
        except (ValueError, KeyError):
            raise ConfigError(f"{owner}: {self.name} must be {self.rule}, got {shown(text)}") from None
        self.check(owner, value)
        return value


def shown(value: Any) -> str:
    """The repr of a value for a message: whole, unless it is long or deep."""
    short = reprlib.Repr()
    short.maxlevel, short.maxstring, short.maxother, short.maxlong = 5, 300, 300, 60
    short.maxlist = short.maxtuple = short.maxdict = short.maxset = 30
    return short.repr(value)


def _inside(text: str) -> str:
    """What stands between the brackets of a tuple or a list, where they are around all of it."""
    text = text.strip()
    if text[:1] + text[-1:] not in ("()", "[]"):
        return text
    depth = list(itertools.accumulate((letter in "([") - (letter in ")]") for letter in text))
    return text[1:-1] if 0 not in depth[:-1] else text


def _unquoted(text: str) -> str:
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"" else text


def _split(text: str) -> list[str]:
    """Split at commas that stand outside parentheses."""
    parts, depth = [""], 0
    for letter in text:
        depth += (letter == "(") - (letter == ")")
        if letter == "," and depth <= 0:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts if part.strip()]


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text


def _param(name: str, annotation: Any, default: Any, help: str = "") -> Param:
    marks: list[Any] = []
    optional = False
    choices: tuple[Any, ...] = ()
    words: tuple[str, ...] = ()
    item: Param | None = None
    while True:
        origin = typing.get_origin(annotation)
        if origin is typing.Annotated:
            annotation, *more = typing.get_args(annotation)
            marks += more
        elif origin in (typing.Union, types.UnionType):
            members = typing.get_args(annotation)
            optional = optional or type(None) in members
            literal = [m for m in members if typing.get_origin(m) is Literal]
            rest = [m for m in members if m is not type(None)]
            if literal and len(rest) > len(literal):
                words = tuple(w for m in literal for w in typing.get_args(m))
                rest = [m for m in rest if m not in literal]
            annotation = rest[0] if len(rest) == 1 else float if set(rest) == {int, float} else object
        else:
            break
    if origin is Literal:
        choices, base = typing.get_args(annotation), type(typing.get_args(annotation)[0])
    elif origin is tuple or annotation is tuple:
        base, inner = tuple, [a for a in typing.get_args(annotation) if a is not Ellipsis]
        item = _param(name, inner[0], dataclasses.MISSING) if inner else None
    elif origin is not None and isinstance(origin, type) and issubclass(origin, Mapping):
        base = Mapping
    elif annotation in (int, float, bool, str):
        base = annotation
    else:
        base = object
    return Param(
        name=name,
        base=base,
        optional=optional,
        choices=choices,
        item=item,
        bounds=tuple(m for m in marks if isinstance(m, Bound)),
        registered=next((m for m in marks if isinstance(m, Registered)), None),
        search=next((m for m in marks if isinstance(m, Search)), None),
        default=default,
        help=help,
        words=words,
    )


def _docs(owner: type | Callable[..., Any]) -> dict[str, str]:
    """The lines "name: text" of the docstrings of a class and its bases, or of a function."""
    found: dict[str, str] = {}
    for place in getattr(owner, "__mro__", (owner,)):
        for match in re.finditer(r"^(\w+): ((?:.+)(?:\n(?!\w+: )\S.*|\n[ ]+\S.*)*)", inspect.getdoc(place) or "", re.M):
            found.setdefault(match[1], re.sub(r"\s+", " ", match[2]))
    return found


def params_of(owner: type | Callable[..., Any]) -> dict[str, Param]:
    """The parameters of a dataclass, or of a function, in their order."""
    return dict(_params_of(owner))


@functools.lru_cache(maxsize=512)  # half a millisecond each, which a fit of few points would feel
def _params_of(owner: type | Callable[..., Any]) -> dict[str, Param]:
    if dataclasses.is_dataclass(owner):
        hints = typing.get_type_hints(owner, include_extras=True)
        docs = _docs(owner)
        return {
            f.name: _param(f.name, hints[f.name], f.default, docs.get(f.name, ""))
            for f in dataclasses.fields(owner)
            if f.init
        }
    hints = typing.get_type_hints(owner if inspect.isfunction(owner) else owner.__init__, include_extras=True)
    docs = _docs(owner)
    return {
        name: _param(
            name, hints.get(name, Any), dataclasses.MISSING if p.default is p.empty else p.default, docs.get(name, "")
        )
        for name, p in inspect.signature(owner).parameters.items()
    }


def check_params(estimator: Any) -> None:
    """Check every parameter of an estimator against its annotation.

    Raises ConfigError: "MLPClassifier: lr must be more than 0, got -1".
    """
    for name, param in params_of(type(estimator)).items():
        param.check(type(estimator).__name__, getattr(estimator, name))


def parse_params(owner: type, given: Mapping[str, Any]) -> dict[str, Any]:
    """Turn text from a command line, or values from a YAML file, into checked parameter values.

    Raises ConfigError on an unknown name, with the nearest known one, and on a value that does not fit.
    """
    known = params_of(owner)
    values = {}
    for name, value in given.items():
        if name not in known:
            system = getattr(owner.__dict__.get("__konspekt__"), "name", "SYSTEM")
            hint = nearest(name, known).replace("konspekt list", f"konspekt info {system}")
            raise ConfigError(f"{owner.__name__} has no parameter {shown(name)}; {hint}")
        if isinstance(value, str):
            values[name] = known[name].parse(owner.__name__, value)
        else:
            value = tuple(value) if isinstance(value, list) else value
            known[name].check(owner.__name__, value)
            values[name] = float(value) if known[name].base is float and type(value) is int else value
    return values


def split_call(text: str, where: str) -> tuple[str, dict[str, Any]]:
    """Split "name(key=value, ...)" into the name and its arguments, which are literals.

    Raises ConfigError where the text is neither a name nor such a call.
    """
    if re.fullmatch(r"[\w\-.]+", text):
        return text, {}
    match = re.fullmatch(r"([\w\-.]+)\((.*)\)", text, re.S)
    try:
        if match is None:
            raise ValueError
        if "#" in re.sub(r"'[^']*'|\"[^\"]*\"", "", match[2]):
            raise ValueError
        call = ast.parse(f"f({match[2]})", mode="eval").body
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name) or call.args:
            raise ValueError
        if len({k.arg for k in call.keywords}) < len(call.keywords):
            raise ValueError
        return match[1], {str(k.arg): ast.literal_eval(k.value) for k in call.keywords if k.arg or _refuse()}
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        raise ConfigError(f"{where} must be a name or a call such as 'name(key=1)', got {shown(text)}") from None


def _refuse() -> bool:
    raise ValueError


def check_arguments(
    where: str, target: Callable[..., Any], arguments: Mapping[str, Any], *, inputs: bool = False
) -> None:
    """Check arguments against the annotations of a function: those that a user may set, which are keyword-only.

    inputs: those that the data decide are among them too.
    """
    signature = inspect.signature(target).parameters
    keyword = inspect.Parameter.KEYWORD_ONLY
    open_to_user = {n: p for n, p in params_of(target).items() if inputs or signature[n].kind is keyword}
    for name, value in arguments.items():
        if name not in open_to_user:
            known = nearest(name, open_to_user) if open_to_user else "it takes none"
            raise ConfigError(f"{where} has no argument {name!r}; {known}")
        open_to_user[name].check(where, value)


def build(kind: str, text: str, *inputs: Any) -> Any:
    """Call what `text` names among the registered things of this kind, with `inputs` before its own arguments."""
    name, arguments = split_call(text, kind)
    target = registry.lookup(kind, name).load()
    check_arguments(f"{kind} {name!r}", target, arguments)
    return target(*inputs, **arguments)


def space_of(owner: type) -> Space:
    """The search space that the annotations of a class describe."""
    dimensions: dict[str, Dimension | Space] = {}
    for name, param in params_of(owner).items():
        search = param.search
        if search is None:
            continue
        if search.choices is not None:
            dimensions[name] = Category(search.choices)
        elif search.low is not None and search.high is not None:
            made = Integer if param.base is int else Real
            dimensions[name] = made(search.low, search.high, log=search.log)  # type: ignore[arg-type]
        else:
            dimensions[name] = Category((True, False) if param.base is bool else param.choices)
    return Space(dimensions)


def describe(owner: type) -> list[dict[str, str]]:
    """One row for each parameter: name, default, rule, help; the command line and the documentation print it."""
    return [
        {
            "name": name,
            "default": "" if param.default is dataclasses.MISSING else repr(param.default),
            "rule": param.rule,
            "help": param.help,
        }
        for name, param in params_of(owner).items()
    ]
