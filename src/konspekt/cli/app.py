"""The `konspekt` command: list, info, fit, resume, evaluate, play, predict, compare, report, runs, card.

Exit codes: 0 done, 1 failed, 2 wrong usage. An error is one paragraph; `--debug` shows the traceback.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import textwrap
import time
import traceback
import warnings
from collections.abc import Container, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from konspekt.cli.acting import (
    agent_of,
    check_env_of_run,
    evaluation_text,
    is_agent,
    played_text,
    refuse_predict,
    trained_text,
)
from konspekt.core import registry
from konspekt.core.errors import ConfigError, DataError, InterruptedFit, KonspektError, nearest
from konspekt.core.memory import keep_freed_memory

__all__ = ["app", "main"]

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="A deep-learning course as one working library. `konspekt list` shows what there is; begin with "
    "`konspekt fit image-classifier data=digits image_size=32`.",
)

_OF_A_RUN = ("class", "seed", "fingerprint", "command", "versions", "machine")  # a run's config.yaml may be given back

Pairs = Annotated[list[str] | None, typer.Argument(metavar="KEY=VALUE...", show_default=False)]


@app.callback()
def options(debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False) -> None:
    """Options of every command; `main` looks at --debug itself, as it must know it when an error comes."""


@app.command("list")
def list_(
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, for programs.")] = False,
    kind: Annotated[str | None, typer.Option(help=f"Only one kind: {', '.join(registry.KINDS)}.")] = None,
) -> None:
    """List everything registered: name, kind, task, rows of the course."""
    if kind is not None and kind not in registry.KINDS:
        raise ConfigError(f"--kind: there is no kind {kind!r}; {nearest(kind, registry.KINDS)}")
    found = [e for e in registry.entries() if kind in (None, e.kind)]
    if as_json:
        keys = ("name", "kind", "task", "rows", "paper", "summary")
        print(json.dumps([{k: getattr(e, k) for k in keys} for e in found], indent=1, ensure_ascii=False))
        return
    width = max((len(e.name) for e in found), default=0)
    rows = max((len(",".join(e.rows)) for e in found), default=0)
    last = None
    for entry in found:
        if entry.kind != last:
            print(f"{'' if last is None else chr(10)}{entry.kind}s")
            last = entry.kind
        line = f"  {entry.name:{width}}  {','.join(entry.rows):{rows}}  {entry.summary}"
        print(_cut(line))


@app.command()
def info(
    system: Annotated[
        str,
        typer.Argument(help="A name that `konspekt list` shows; a net's may have arguments: 'resnet18(width=0.5)'."),
    ],
    verbose: Annotated[
        bool, typer.Option("--verbose", help="Of a net: every layer, and how its size comes about.")
    ] = False,
    image_size: Annotated[
        int | None,
        typer.Option(min=1, help="Of a net: for images of this side, not of its usual one.", show_default=False),
    ] = None,
) -> None:
    """Say what a system is, what its parameters are and may be, and where a search looks; of a net, its layers too."""
    import inspect

    from konspekt.core.params import describe, space_of, split_call

    entry = registry.lookup(None, split_call(system, "info")[0] if "(" in system else system)
    if entry.kind != "net" and (verbose or image_size is not None or "(" in system):
        raise ConfigError(f"{entry.name} is no net: arguments, --verbose and --image-size are for nets")
    target = entry.load()
    layers = ""
    if entry.kind == "net":  # before a word is said, as it refuses what the net cannot take
        from konspekt.explain.summaries import summary

        layers = summary(system, image_size).text(_width(), verbose=verbose)
    print(f"{entry.name} ({entry.kind}{', ' + entry.task if entry.task else ''})")
    print(_filled(f"rows {', '.join(entry.rows) or 'none'}{'; ' + entry.paper if entry.paper else ''}"))
    line = f"Python: from {entry.module} import {entry.qualname}"
    print(textwrap.fill(line, _width(), subsequent_indent="    ", break_long_words=False) + "\n")
    doc = inspect.getdoc(target) or ""
    print(
        "\n\n".join(_filled(p) for p in doc.split("\n\n") if not _is_parameter(p, inspect.signature(target).parameters))
    )
    # Of what is named in a parameter, as in "adam(beta2=0.99)", keyword-only arguments are the user's.
    keywords = {n for n, p in inspect.signature(target).parameters.items() if p.kind is inspect.Parameter.KEYWORD_ONLY}
    rows = [row for row in describe(target) if row["name"] in keywords]
    print("\nParameters" if rows else "\nParameters: none")
    for row in rows:
        print(f"  {row['name']} = {row['default'] or '(needed)'}")
        rule = "" if row["rule"].startswith("anything") else f"Must be {row['rule']}."
        text = f"{row['help']} {rule}".strip()
        print(textwrap.fill(text, _width(), initial_indent="      ", subsequent_indent="      "))
    if entry.kind in ("estimator", "agent"):
        print("\nSearch space")
        print(textwrap.indent(str(space_of(target)), "  "))
    if layers:
        print(f"\nLayers\n{layers}")


@app.command()
def fit(
    system: Annotated[str | None, typer.Argument(help="The estimator's or agent's name.", show_default=False)] = None,
    pairs: Pairs = None,
    config: Annotated[Path | None, typer.Option(help="A YAML file with system, data and parameters.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what the fit would take, from three steps of it.")
    ] = False,
) -> None:
    """Train: konspekt fit SYSTEM data=... [target=...] [validation=...] [parameter=value ...].

    data is a built-in set (digits, iris, wine, breast-cancer, diabetes), one that is downloaded when it is first used
    (mnist, fashion-mnist, cifar10; with -test behind the name, its test part), a csv or parquet file with
    target=COLUMN, for images one with a column of their paths, a folder of images with a sub-folder for each class, or
    an idx file of images, whose labels lie beside it or are named by target=FILE. A fifth is held out unless you say
    otherwise.

    An agent acts in an environment instead: konspekt fit dqn env=CartPole-v1 steps=50000. `konspekt list --kind agent`
    shows the agents; env is an id of gymnasium's, or MODULE:ID of a module that registers it.
    """
    if system is not None and "=" in system:
        system, pairs = None, [system, *(pairs or [])]
    given = _read_config(config) if config else {}
    given |= _pairs(pairs)
    system = system or str(given.pop("system", ""))
    given.pop("system", None)
    if not system:
        raise ConfigError(
            "which system? konspekt fit SYSTEM data=..., or konspekt fit AGENT env=...; `konspekt list --kind estimator` and "
            "`konspekt list --kind agent` show them"
        )
    entry = registry.lookup(("estimator", "agent"), system)
    if entry.kind == "agent":
        _act(*agent_of(entry, given, _new_run(system), dry_run=dry_run))
        return
    if "env" in given:
        raise ConfigError(f"{system} learns from data and acts in no environment: data=... in the place of env=")
    if "data" not in given:
        raise ConfigError("data is missing: data=digits, data=table.csv target=COLUMN, or data=FOLDER")
    from konspekt.core.params import params_of, parse_params

    cls = entry.load()
    if "run_dir" not in params_of(cls):
        raise ConfigError(
            f"{system} is for Python: it has no training of its own that a run could hold; `konspekt info {system}` says how "
            "it is used, and `konspekt predict` takes a saved one"
        )
    data, target = str(given.pop("data")), given.pop("target", None)
    validation = given.pop("validation", None)
    given = {"run_dir": _new_run(system), "verbose": "true"} | given
    if validation is None:
        if "validation_fraction" in params_of(cls):
            given.setdefault("validation_fraction", 0.2)
    elif "validation_fraction" not in params_of(cls):
        raise ConfigError(f"{system} holds nothing out, as it learns from all items at once: leave validation out")
    elif (share := _fraction(validation)) is not None:  # as a parameter, so that the run's config.yaml has it
        if given.get("validation_fraction") is not None:
            raise ConfigError("validation and validation_fraction both name a share: give one of them")
        given["validation_fraction"], validation = share, None
    estimator = cls(**parse_params(cls, given))
    X, y = _source(data, target)
    if validation is not None:
        validation = _source(str(validation), target, "validation")[0]
    if dry_run:
        if not hasattr(estimator, "forecast"):
            raise ConfigError(f"{system} takes no steps that could be forecast: leave --dry-run out")
        from konspekt.cli.tables import forecast_text

        print(forecast_text(estimator.forecast(X, y, validation=validation), _width()))
        return
    _train(estimator, X, y, validation=validation)


@app.command()
def resume(run: Annotated[Path, typer.Argument(help="The run folder.")], pairs: Pairs = None) -> None:
    """Continue an interrupted run; epochs=N gives it more epochs, steps=N an agent more steps."""
    from konspekt.core.params import params_of, parse_params
    from konspekt.core.runs import read_config

    past = read_config(run)
    try:
        entry = registry.lookup(("estimator", "agent"), str(past["system"]))
        cls = entry.load()
        params, data = dict(past["params"]), dict(past["data"])
        source = str(data["source"])
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{run / 'config.yaml'}: not the description of a run ({error})") from None
    agent = entry.kind == "agent"
    if "epochs" not in params_of(cls) and not agent:
        raise ConfigError(f"{run}: {past['system']} learns at one go, so there is nothing to resume: fit it again")
    if data.get("kind") == "memory":
        raise ConfigError(
            f"{run} was fitted from Python on {'an environment made there' if agent else 'data in memory'} ({source}); resume it "
            f"there: {cls.__name__}(...).fit({'env' if agent else 'X, y'}, resume={str(run)!r})"
        )
    given = _pairs(pairs)
    if agent:
        check_env_of_run(run, source, given.pop("env", None))
    estimator = cls(**parse_params(cls, {**params, "run_dir": str(run), "verbose": True, **given}))
    if agent:
        _act(estimator, source, resume=run)
        return
    X, y = _source(source, data.get("target"))
    validation = data.get("validation")
    if isinstance(validation, str):
        validation = _source(validation, data.get("target"), "validation")[0]
    _train(estimator, X, y, validation=validation, resume=run)


@app.command()
def evaluate(model: Annotated[Path, typer.Argument(help="A model or run folder.")], pairs: Pairs = None) -> None:
    """Measure a model on data: konspekt evaluate MODEL data=... [target=...].

    Of an agent, on greedy episodes, in the environment of its fit unless env names another: konspekt evaluate MODEL
    [env=CartPole-v1] [episodes=100] [random_state=0] [max_episode_steps=N].
    """
    given = _pairs(pairs)
    known = ("data", "target", "env", "episodes", "random_state", "max_episode_steps")
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise ConfigError(f"evaluate has no key {unknown[0]!r}; {nearest(unknown[0], known)}")
    estimator = _load(model)
    if is_agent(estimator):
        heading, scores = evaluation_text(estimator, given)
        print(heading)
        _print_scores(scores)
        return
    if acting := sorted(set(given) - {"data", "target"}):
        raise ConfigError(f"evaluate: {acting[0]}= is for agents; {type(estimator).__name__} is measured on data=")
    if "data" not in given:
        raise ConfigError("data is missing: konspekt evaluate MODEL data=table.csv target=COLUMN")
    if not hasattr(estimator, "evaluate"):
        raise ConfigError(f"{model}: {type(estimator).__name__} predicts nothing that could be measured")
    X, y = _source(given["data"], given.get("target"))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", UserWarning)
        scores = estimator.evaluate(X, y)
    _print_scores(scores)
    _print_warnings(str(one.message) for one in said)


@app.command()
def predict(
    model: Annotated[Path, typer.Argument(help="A model or run folder.")],
    inputs: Annotated[
        list[str], typer.Argument(metavar="INPUT...", help="csv, parquet and idx files, images, folders of images.")
    ],
    out: Annotated[Path | None, typer.Option(help="Write to this .csv or .json file instead of the terminal.")] = None,
) -> None:
    """Predict for each row or image; the result is a table."""
    if out is not None and out.suffix not in (".csv", ".json"):
        raise ConfigError(f"--out must end in .csv or .json, got {str(out)!r}")
    estimator = _load(model)
    if is_agent(estimator):
        refuse_predict(estimator, model)
    import pandas as pd

    from konspekt.core.folders import write_file

    tables = []
    for given in inputs:
        frame = estimator.predict_frame(_source(given, None)[0])
        frame.insert(0, "input", given)
        tables.append(frame)
    table = pd.concat(tables, ignore_index=True)
    as_json = out is not None and out.suffix == ".json"
    text = table.to_json(orient="records", indent=1, double_precision=15) if as_json else table.to_csv(index=False)
    if out is None:
        print(text, end="")
    else:
        write_file(out, text.encode())
        print(f"{len(table)} predictions in {out}")


@app.command()
def play(
    model: Annotated[Path, typer.Argument(help="An agent's model or run folder.")],
    pairs: Pairs = None,
    window: Annotated[bool, typer.Option("--window", help="Show it in a window instead of writing a gif.")] = False,
) -> None:
    """Let an agent play: konspekt play MODEL [env=CartPole-v1] [episodes=1] [random_state=0] [out=FILE.gif].

    The moving picture goes to play-ENV.gif unless out= says otherwise; a .png is a strip of a few pictures.
    max_episode_steps=N ends episodes that would go on.
    """
    given = _pairs(pairs)
    agent = _load(model)
    if not is_agent(agent):
        raise ConfigError(
            f"{model}: {type(agent).__name__} is no agent and plays nothing: konspekt predict {model} INPUT"
        )
    print(played_text(agent, given, window=window, width=_width()))


@app.command()
def compare(
    task: Annotated[str, typer.Option(help="What is compared: clustering, acting.")] = "clustering",
    pairs: Pairs = None,
) -> None:
    """Compare all methods of a task: konspekt compare --task clustering data=FILE.csv [target=COLUMN] [out=FOLDER].

    Their parameters are chosen without labels. methods=NAME,NAME takes only these; n_resamples, n_seeds, n_points and
    random_state are those of konspekt.cluster.compare. out is the folder of the page, runs/compare-... unless it is given.

    Of agents those that are named: konspekt compare --task acting env=FrozenLake-v1 agents=q-learning,sarsa [seeds=5]
    [steps=N] [episodes=50] [out=FOLDER].
    """
    from konspekt.cli.comparing import check_keys, compare_agents, run_comparison

    given = _pairs(pairs)
    check_keys(task, given)
    if task == "acting":
        print(compare_agents(given, _width()))
        return
    X, y = _source(given.pop("data"), given.pop("target", None))
    print(run_comparison(task, given, X, y, _width()))


@app.command()
def report(run: Annotated[Path, typer.Argument(help="The folder of a run, or of a comparison.")]) -> None:
    """Write the report of a run again, and print where it is."""
    from konspekt.reports.page import report as write

    print(write(run))


@app.command()
def runs(
    folder: Annotated[Path, typer.Argument(help="Where the run folders lie.")] = Path("runs"),
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, for programs.")] = False,
) -> None:
    """List the runs of a folder: system, data, state, score, time."""
    from konspekt.cli.tables import runs_text
    from konspekt.core.runs import list_runs

    found = list_runs(folder)
    print(json.dumps(found, indent=1, ensure_ascii=False) if as_json else runs_text(found, folder, _width()))


@app.command()
def card(
    model: Annotated[Path, typer.Argument(help="A model or run folder.")],
    licence: Annotated[str | None, typer.Option(help="Write this licence into the card first.")] = None,
) -> None:
    """Print the card of a model: what it is, its data, scores, limits, licence, versions."""
    from konspekt.core.estimator import peek, set_licence

    folder = model / "model" if (model / "model").is_dir() else model
    if licence is not None:
        set_licence(folder, licence)
    peek(folder)
    print((folder / "card.md").read_text(encoding="utf-8"), end="")


def main(arguments: list[str] | None = None) -> None:
    """The entry point: runs a command and turns every error into a paragraph and an exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    # On a busy machine OpenMP threads that wait by spinning make a small net's step tens of times slower.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    keep_freed_memory()
    debug = "--debug" in arguments
    arguments = [a for a in arguments if a != "--debug"] or ["--help"]
    try:
        code = app(args=arguments, standalone_mode=False, prog_name="konspekt")
        sys.stdout.flush()
        if code == 130:  # what typer makes of KeyboardInterrupt: a second Ctrl-C, or one outside of the training
            code = 1
            _complain("stopped by Ctrl-C", debug)
    except KonspektError as error:
        code = 2 if isinstance(error, ConfigError) else 1
        _complain(str(error), debug)
    except (BrokenPipeError, SystemExit) as stop:  # the reader had enough, which typer turns into an exit
        if not isinstance(stop, BrokenPipeError) and not isinstance(stop.__context__, BrokenPipeError):
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except MemoryError:
        code = 1
        _complain("out of memory: lower batch_size, image_size or the size of the net", debug)
    except typer.Exit as stop:
        code = stop.exit_code
    except Exception as error:  # noqa: BLE001, the last resort: a bug of ours must not be a wall of text
        if type(error).__module__.split(".")[0] in ("click", "typer") and hasattr(error, "format_message"):
            code = 2
            _complain(f"{error.format_message().rstrip('.')}; see konspekt --help", debug)
        else:
            code = 1
            text = " ".join(str(error).split())[:400]
            _complain(f"{type(error).__name__}: {text} (not foreseen; --debug shows where it happened)", debug)
    code = code if isinstance(code, int) else 0
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        # A native thread of torch's process group may abort a process while the interpreter winds down, and torchrun
        # would take that for a death: seen in 4 of 29 fits. Everything is written by now.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def _complain(text: str, debug: bool) -> None:
    if debug:
        traceback.print_exc()
    for line in f"error: {text}".splitlines():
        print(textwrap.fill(line, _width(), break_long_words=False, break_on_hyphens=False), file=sys.stderr)


def _width() -> int:
    return max(shutil.get_terminal_size((80, 24)).columns, 40)


def _cut(line: str) -> str:
    return line if len(line) <= _width() else line[: _width() - 3].rstrip() + "..."


def _filled(paragraph: str) -> str:
    """A paragraph of a docstring as it is, or filled anew where a line is too long for the terminal."""
    too_long = max(map(len, paragraph.splitlines())) > _width()
    return textwrap.fill(paragraph, _width(), break_on_hyphens=False) if too_long else paragraph


def _is_parameter(paragraph: str, names: Container[str]) -> bool:
    return all(line[:1] == " " or line.split(":")[0] in names for line in paragraph.splitlines())


def _pairs(pairs: list[str] | None) -> dict[str, Any]:
    given: dict[str, Any] = {}
    for pair in pairs or []:
        key, equals, value = pair.partition("=")
        if not equals or not key.isidentifier():
            raise ConfigError(f"arguments are KEY=VALUE, got {pair!r}")
        if key in given:
            raise ConfigError(f"{key} is given twice")
        given[key] = value
    return given


def _read_config(path: Path) -> dict[str, Any]:
    """The YAML file of --config as one flat mapping; a run's own config.yaml will do."""
    import yaml

    if not path.is_file():
        raise ConfigError(f"--config: there is no file {path}")
    try:
        given = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"--config {path}: not readable as YAML ({' '.join(str(error).split())[:160]})") from None
    if not isinstance(given, dict) or not all(isinstance(k, str) for k in given):
        raise ConfigError(f"--config {path}: a mapping of names to values belongs there")
    own = set(_OF_A_RUN) <= set(given)  # else such a key is one that nobody reads, and is refused as unknown
    flat = {k: v for k, v in given.items() if k not in ("params", "data", *(_OF_A_RUN if own else ()))}
    params = given.get("params", {})
    if not isinstance(params, dict):
        raise ConfigError(f"--config {path}: params must be a mapping")
    twice = sorted(set(params) & set(flat))
    if twice:
        raise ConfigError(f"--config {path}: {', '.join(twice)} is given both at the top and under params")
    flat |= {k: v for k, v in params.items() if not (own and k in ("run_dir", "verbose"))}
    data = given.get("data")
    if isinstance(data, Mapping):
        kind = data.get("kind")
        known = {"env" if kind == "environment" else "data": None if kind == "memory" else data.get("source")}
        known |= {k: data.get(k) for k in ("target", "validation")}
        flat |= {k: v for k, v in known.items() if v is not None}
    elif data is not None:
        flat["data"] = data
    return flat


def _source(data: str, target: Any, key: str = "data") -> tuple[Any, Any]:
    """What `data=` or another key names: a built-in set, one to be fetched, or a path that exists."""
    from konspekt.data.downloads import FETCHED, fetch, fetched_name
    from konspekt.data.idx import is_idx
    from konspekt.data.sets import SETS, load

    if isinstance(target, str) and "," in target:
        target = tuple(t.strip() for t in target.split(","))
    target = tuple(target) if isinstance(target, list) else target
    if data in SETS or fetched_name(data):
        if target is not None and key == "data":
            raise ConfigError(f"{key}={data} brings its own target: leave target={target} out")
        return load(data) if data in SETS else fetch(data, progress=_announce), None
    if not Path(data).exists():
        raise DataError(
            f"{key}={data}: there is no such file or folder, and no built-in set of that name; {nearest(data, (*SETS, *FETCHED))}"
        )
    # As a Path it is the file of these labels; a name would go for the validation data too.
    return data, Path(target) if isinstance(target, str) and is_idx(data) else target


def _announce(name: str, there: int, size: int) -> None:
    """Say how far a download is, where somebody looks on."""
    if sys.stderr.isatty():
        print(f"\r{name}: {there / 1e6:.1f} of {size / 1e6:.1f} MB", end="\n" * (there >= size), file=sys.stderr)


def _fraction(value: Any) -> float | None:
    try:
        return float(value)
    except (ValueError, TypeError):
        return None


def _new_run(system: str) -> str:
    name = f"{system}-{time.strftime('%Y%m%d-%H%M%S')}"
    path, number = Path("runs") / name, 1
    while path.exists():
        number += 1
        path = Path("runs") / f"{name}-{number}"
    return str(path)


def _load(folder: Path) -> Any:
    from konspekt.core.estimator import load
    from konspekt.core.runs import read_config

    if (folder / ".lock").is_file():  # a run's, which may have been stopped before there was more of it
        read_config(folder)
    if (folder / "config.yaml").is_file() and not (folder / "model").is_dir():
        raise DataError(
            f"{folder}: this run is not finished, so it has no model yet; go on with: konspekt resume {folder}"
        )
    return load(folder / "model" if (folder / "model").is_dir() else folder)


def _print_scores(scores: Mapping[str, float]) -> None:
    width = max(len(k) for k in scores)
    for name, value in scores.items():
        print(f"{name:{width}}  {value:.4f}" if abs(value) >= 1e-3 or not value else f"{name:{width}}  {value:.3e}")


def _print_warnings(texts: Iterable[str]) -> None:
    for text in texts:
        print(textwrap.fill(f"warning: {text}", _width(), subsequent_indent="  ", break_long_words=False))


def _act(agent: Any, env: str, resume: Path | None = None) -> None:
    """Fit an agent; then what it came to, and where model and report lie."""
    from konspekt.reports.page import report as write

    run = resume or Path(agent.run_dir)
    try:
        agent.fit(env, resume=resume)
        print(trained_text(agent, json.loads((run / "result.json").read_text(encoding="utf-8"))))
        _print_warnings(agent.run_.warnings)
        print(f"\nmodel   {run / 'model'}\nreport  {write(run)}")
    except InterruptedFit as stop:
        raise _StoppedError(str(stop)) from None
    except KeyboardInterrupt:  # outside of the steps, or a second one
        if (run / "result.json").is_file():
            text = (
                f"stopped by Ctrl-C after the training: {run / 'model'} is kept; konspekt report {run} writes its page"
            )
        elif (run / "config.yaml").is_file():
            text = f"stopped by Ctrl-C; go on with: konspekt resume {run}"
        else:
            text = "stopped by Ctrl-C before the fit began; nothing was kept"
        raise _StoppedError(text) from None


class _StoppedError(KonspektError):
    """An InterruptedFit on its way through typer, which ends a program on KeyboardInterrupt without a word."""


def _train(estimator: Any, X: Any, y: Any, **how: Any) -> None:
    """Fit; then the scores, and where model and report lie."""
    from konspekt.reports.page import report as write

    try:
        estimator.fit(X, y, **how)
    except InterruptedFit as stop:
        raise _StoppedError(str(stop)) from None
    run = estimator.run_.path
    if run is None:  # one process of several: the first one writes and speaks
        return
    result = json.loads((run / "result.json").read_text(encoding="utf-8"))
    cut = ", the last one cut short" if result.get("cut_short") else ""
    epochs = f" after {result['epochs']} epoch{'s' * (result['epochs'] != 1)}" if result["epochs"] else ""
    print(f"\n{result['scores_on']} scores{epochs}{cut}, {result['seconds']:.1f} s")
    _print_scores(result["scores"])
    if "forecast" in result:
        from konspekt.cli.tables import beside_text

        print(beside_text(result["forecast"], result["actual"]))
    _print_warnings(estimator.run_.warnings)
    print(f"\nmodel   {run / 'model'}\nreport  {write(run)}")


if __name__ == "__main__":
    main()
