"""What a fit writes into its run folder besides metrics and checkpoints, and what a resumed one compares with it."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shlex
import shutil
import sys
import textwrap
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

import konspekt
from konspekt.core.errors import ConfigError, DataError
from konspekt.core.estimator import plain, registered
from konspekt.core.folders import refusal, write_file
from konspekt.core.params import parse_params
from konspekt.core.runs import Run, read_config
from konspekt.data.batches import Resident
from konspekt.data.readers import Learned
from konspekt.data.streams import Streamed
from konspekt.data.targets import ClassTargets, NumberTargets
from konspekt.engine.boards import Board
from konspekt.engine.leakage import leakage, sentences

if TYPE_CHECKING:
    from konspekt.engine.neural import NeuralEstimator, Splits

__all__ = ["begin", "describe", "fingerprint", "finish", "layers_of", "open_past"]

_MAY_DIFFER = ("epochs", "max_time", "workers", "backend", "run_dir", "verbose")
_MOST_VALIDATION = 10_000
_MOST_THREADS = 4096
_MOST_QUARANTINED = 100 << 20  # bytes of a file that is copied
_EXAMPLES, _WORST = 24, 40  # at most 64 together


def fingerprint(batches: Resident | None, digest: Any = None) -> str:
    """The SHA-256 of all values of a data set, and of which items are used."""
    digest = digest or hashlib.sha256()
    if batches is not None:
        for _, mark in sorted(batches.marks().items()):
            digest.update(mark)
        digest.update(batches.items.numpy().tobytes())
    return str(digest.hexdigest())


def open_past(
    estimator: Any, resume: str | Path | None, may_differ: tuple[str, ...] = _MAY_DIFFER
) -> dict[str, Any] | None:
    """The config of the run to be resumed, or None. may_differ: parameters that a resumed run may change.

    Raises ConfigError, naming them, where parameters differ that may not; DataError where there is no run.
    """
    if resume is None:
        return None
    past = read_config(resume)
    name = registered(type(estimator)).name
    if past.get("system") != name:
        raise ConfigError(f"{resume} is a run of {past.get('system')!r}, not of {name!r}")
    try:
        was = parse_params(type(estimator), past["params"])
        kinds = {int: (past["seed"], past["machine"]["threads"]), str: (past["fingerprint"],)}
        if any(type(value) is not kind for kind, values in kinds.items() for value in values):
            raise TypeError
        if not 1 <= past["machine"]["threads"] <= _MOST_THREADS:
            raise TypeError
    except (KeyError, TypeError):
        raise DataError(f"{Path(resume) / 'config.yaml'}: not the description of a run; the file is damaged") from None
    now = estimator.get_params(deep=False)
    differ = [
        f"{k} was {was.get(k)!r}, is {v!r}"
        for k, v in now.items()
        if k not in may_differ and plain(was.get(k)) != plain(v)
    ]
    if differ:
        raise ConfigError(
            f"{resume} cannot be resumed with other parameters than {', '.join(may_differ)}: {'; '.join(differ)}"
        )
    return past


def say(estimator: NeuralEstimator, run: Run, note: str) -> None:
    """Write a line to log.txt and, with `verbose`, to the terminal."""
    run.log(note)
    if estimator.verbose and (run.team is None or run.team.leads):
        width = shutil.get_terminal_size((80, 24)).columns
        print(textwrap.fill(note, width, subsequent_indent="  "), flush=True)  # noqa: T201, what `verbose` is for


def describe(estimator: Any, source: dict[str, Any], mark: str, device: str, processes: int = 1) -> dict[str, Any]:
    """What config.yaml says of a run. source: of `source_of`. mark: the fingerprint of the data."""
    import sklearn

    return {
        "system": registered(type(estimator)).name,
        "class": type(estimator).__name__,
        "params": {k: plain(v) for k, v in estimator.get_params(deep=False).items()},
        "seed": int(estimator.seed_),
        "data": source,
        "fingerprint": mark,
        "command": _command(),
        "versions": {
            "konspekt": konspekt.__version__,
            "python": platform.python_version(),
            "torch": str(torch.__version__),
            "numpy": np.__version__,
            "scikit-learn": sklearn.__version__,
        },
        "machine": {
            "platform": platform.platform(),
            "processor": platform.machine(),
            "cpus": os.cpu_count(),
            "device": device,
            "threads": torch.get_num_threads(),
            "processes": processes,
        },
    }


def begin(
    estimator: NeuralEstimator,
    run: Run,
    past: dict[str, Any] | None,
    source: dict[str, Any],
    learned: Learned,
    skipped: list[dict[str, str]],
    splits: Splits,
    device: torch.device,
) -> None:
    """Write config.yaml and data.json; for a resumed run, refuse other data.

    Raises DataError where a resumed run has other data than before.
    """
    import yaml

    for note in learned.notes:
        say(estimator, run, note)
    if run.path is None:
        return
    if "tensorboard" in estimator.logs:
        run.listeners.append(Board(run.path))
    # The fields are standardised: only with the schema are they the data.
    known = {"schema": estimator.schema_.to_json(), "targets": estimator.targets_ and estimator.targets_.to_json()}
    digest = hashlib.sha256(json.dumps(known, sort_keys=True, default=str).encode())
    fingerprint(splits.train, digest)
    mark = fingerprint(splits.validation, digest)
    if past is not None:
        if past["fingerprint"] != mark:
            raise DataError(
                f"{run.path} was begun with other data (fingerprint {past['fingerprint'][:12]}, now {mark[:12]}); resume "
                "needs the same items in the same order"
            )
        run.log("resumed")
        return
    processes = 1 if run.team is None else run.team.size
    config = describe(estimator, source, mark, str(device), processes)
    facts = learned.facts() | {
        "task": registered(type(estimator)).task,
        "source": source["source"],
        "train": splits.train.num_items,
        "validation": splits.validation.num_items if splits.validation else 0,
        "skipped": skipped,
        "notes": learned.notes,
        "fingerprint": mark,
    }
    facts |= _target_facts(estimator.targets_, splits)
    facts["leakage"] = leakage(splits.train, splits.validation, facts)
    run.write_json("data.json", facts)
    for said in sentences(facts["leakage"], facts["validation"]):
        run.log(said, warning=True)
    if skipped:
        _quarantine(run, skipped, source)
    write_file(run.path / "config.yaml", yaml.safe_dump(config, sort_keys=False, allow_unicode=True).encode())
    held = f", {facts['validation']} held out" if facts["validation"] else ""
    run.log(
        f"{config['system']} on {source['source']}: {facts['train']} items to train on{held}; data {_whereabouts(splits, device)}"
    )


def _whereabouts(splits: Splits, device: torch.device) -> str:
    if not isinstance(splits.train, Streamed):
        return f"resident on {device}"
    readers = splits.train.readers
    by = "the training process" if readers is None else f"{readers.count} worker{'s' * (readers.count > 1)}"
    return f"streamed to {device} by {by}"


def _quarantine(run: Run, skipped: list[dict[str, str]], source: dict[str, Any]) -> None:
    """quarantine/: a list of the items that were left out, with their reasons, and copies of those that are files."""
    if run.path is None:
        return
    folder, listed = run.path / "quarantine", list[dict[str, Any]]()
    run.parent_of("quarantine/items.json")
    for number, bad in enumerate(skipped, 1):
        places = [Path(bad["item"])]  # of a folder's items the name is that within the folder
        places += [
            Path(source[key]) / bad["item"] for key in ("source", "validation") if isinstance(source.get(key), str)
        ]
        path, copied = next((p for p in places if p.is_file()), places[0]), None
        if path.is_file() and path.stat().st_size <= _MOST_QUARANTINED:
            copied = f"{number:05d}-{path.name}"
            try:
                shutil.copyfile(path, folder / copied)
            except OSError as error:  # it may be unreadable: that is why it is here
                copied = None
                (folder / f"{number:05d}-{path.name}").unlink(missing_ok=True)
                bad = bad | {"not copied": str(error.strerror)}
        listed.append(bad | {"copy": copied})
    run.write_json("quarantine/items.json", listed)
    run.log(f"{len(skipped)} items were left out; quarantine/ lists them with their reasons", warning=True)


def _command() -> str | None:
    """The konspekt command that this process is, if it is one."""
    program = Path(sys.argv[0])
    ours = program.name == "konspekt" or (program.name == "__main__.py" and program.parent.name == "konspekt")
    return shlex.join(["konspekt", *sys.argv[1:]]) if ours else None


def _target_facts(targets: Any, splits: Splits) -> dict[str, Any]:
    if isinstance(targets, ClassTargets):
        counts = [_count(b, targets.num_classes) for b in (splits.train, splits.validation)]
        rows = zip(targets.classes.tolist(), counts[0], counts[1], strict=True)
        return {"classes": [{"name": str(c), "train": t, "validation": v} for c, t, v in rows]}
    if isinstance(targets, NumberTargets):
        truth = targets.decode(splits.train.fields["y"][splits.train.items]).reshape(splits.train.num_items, -1)  # type: ignore[index]
        return {
            "targets": [
                {"name": n, "mean": column.mean(), "std": column.std(), "min": column.min(), "max": column.max()}
                for n, column in zip(targets.names, truth.T, strict=True)
            ]
        }
    return {}


def _count(batches: Resident | None, num_classes: int) -> list[int]:
    if batches is None:
        return [0] * num_classes
    y: Any = batches.fields["y"]
    counts: list[int] = torch.bincount(y[batches.items], minlength=num_classes).tolist()
    return counts


def finish(
    estimator: NeuralEstimator,
    run: Run,
    learned: Learned,
    splits: Splits,
    timings: dict[str, float],
    started: float,
) -> None:
    """Measure, and write the model, the held-out predictions, the worst items and result.json."""
    if run.path is None:
        return
    begun = time.perf_counter()
    measured = splits.validation or splits.in_order
    with torch.no_grad():
        scores = estimator.objective_.evaluate(measured)
        arrays = _write_predictions(estimator, run, measured)
    estimator.facts_["scores"] = scores
    estimator.exhibit(run, splits)
    if not splits.external:
        _write_items(run, learned, estimator.targets_, arrays)
    timings["evaluate"] = time.perf_counter() - begun
    begun = time.perf_counter()
    estimator.save(run.path / "model")
    timings["save"] = time.perf_counter() - begun
    model = estimator.objective_.model
    seconds = time.perf_counter() - started + run.used  # with the parts of the run before this one
    run.write_json(
        "result.json",
        {
            "scores": scores,
            "scores_on": "validation" if splits.validation else "train",
            "seconds": seconds,
            "epochs": len(run.history),
            "cut_short": bool(run.history and run.history[-1].get("cut_short")),
            "parameters": sum(p.numel() for p in model.parameters()),
            "layers": layers_of(model),
            "timings": timings,
            **_forecast_and_actual(run, seconds),
        },
    )
    run.log("finished: " + ", ".join(f"{k} {v:.4g}" for k, v in scores.items()))


def layers_of(model: torch.nn.Module) -> list[dict[str, Any]]:
    """Each layer's name, type and number of parameters."""
    return [
        {"name": n, "type": type(m).__name__, "parameters": sum(p.numel() for p in m.parameters(recurse=False))}
        for n, m in model.named_modules()
        if not m._modules or any(True for _ in m.parameters(recurse=False))
    ]


def _forecast_and_actual(run: Run, seconds: float) -> dict[str, Any]:
    """What was forecast after three steps, and what it came to; nothing where no stage took three steps."""
    stages = list(run.forecasts.values())
    if not stages or run.used:  # a resumed run's forecast would be of a part
        return {}
    took = [r for r in run.history if r.get("step")]
    steps = sum(s["steps"] for s in stages)
    foreseen = {
        "seconds": run.timings["data"] + sum(s["seconds"] + s["after"] for s in stages),
        "step_seconds": sum(s["step_seconds"] * s["steps"] for s in stages) / steps,
        "memory": max(s["memory"] for s in stages),
    }
    done = max((r["step"] for r in took), default=0)
    actual: dict[str, Any] = {"seconds": seconds, "memory": run.level.peak()}
    if len(stages) == 1 and done:
        actual["step_seconds"] = sum(r["seconds"] for r in took) / done
    run.log(f"forecast {foreseen['seconds']:.3g} s, actual {seconds:.3g} s")
    return {"forecast": foreseen, "actual": actual}


def _write_predictions(estimator: NeuralEstimator, run: Run, batches: Resident) -> dict[str, Any]:
    """Write validation.npz, and give back the number, loss, truth and prediction of each item, the last two encoded.

    Of all items only these are kept in memory, which grow as the targets do, not as the data.
    """
    targets = estimator.targets_
    found: dict[str, list[Tensor]] = {}
    logits: list[Tensor] = []
    seen = 0
    for batch in batches.epoch(0):
        output = estimator.objective_(batch)
        values: dict[str, Any] = {"index": batch["index"], "loss": estimator.objective_.item_losses(batch).float()}
        if isinstance(targets, ClassTargets):
            values |= {"truth": batch["y"], "prediction": output["logits"].argmax(1)}
            if seen < _MOST_VALIDATION:
                logits.append(output["logits"].cpu())
        elif isinstance(targets, NumberTargets):
            values |= {"truth": batch["y"], "prediction": output["prediction"]}
        for name, value in values.items():
            found.setdefault(name, []).append(value.cpu())
        seen += len(batch["index"])
    items: dict[str, Any] = {name: torch.cat(parts) for name, parts in found.items()}
    arrays = {name: _decoded(targets, name, values[:_MOST_VALIDATION]) for name, values in items.items()}
    if isinstance(targets, ClassTargets):
        arrays["probability"] = torch.softmax(torch.cat(logits)[:_MOST_VALIDATION], 1).numpy()
        arrays["classes"] = targets.classes.astype(str)
    run.write_arrays("validation.npz", arrays)
    return items


def _decoded(targets: Any, name: str, values: Tensor) -> Any:
    """Truths and predictions in words or in their own units; anything else as it is."""
    if name not in ("truth", "prediction"):
        return values.numpy()
    labels = targets.decode(values)
    return labels.astype(str) if isinstance(targets, ClassTargets) else labels


def _write_items(run: Run, learned: Learned, targets: Any, items: dict[str, Tensor]) -> None:
    """items/: some examples and the items with the largest loss, as pictures or rows."""
    losses = items["loss"].numpy()
    worst = np.argsort(-losses, kind="stable")[:_WORST]
    spread = np.linspace(0, len(losses) - 1, min(_EXAMPLES, len(losses))).astype(int)
    entries: list[dict[str, Any]] = []
    for role, places in (("example", spread), ("worst", worst)):
        known = {name: _decoded(targets, name, values[places]) for name, values in items.items()}
        for place, (item, loss) in enumerate(zip(known["index"].tolist(), known["loss"].tolist(), strict=True)):
            entry = {"role": role, "index": item, "loss": loss}
            entry |= {key: known[key][place].tolist() for key in ("truth", "prediction") if key in known}
            shown = learned.show(item)
            if "image" in shown and run.path is not None:
                from PIL import Image

                name = f"{role}-{item}.png"
                run.parent_of(f"items/{name}")
                try:
                    Image.fromarray(shown["image"]).save(run.path / "items" / name)
                except OSError as error:
                    raise refusal(error, run.path / "items" / name) from None
                entry["image"] = name
            else:
                entry |= shown
            entries.append(entry)
    run.write_json("items/items.json", entries)
