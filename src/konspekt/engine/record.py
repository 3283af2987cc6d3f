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
from konspekt.core.estimator import registered
from konspekt.core.folders import write_file
from konspekt.core.params import parse_params
from konspekt.core.runs import Run, read_config
from konspekt.data.batches import Resident
from konspekt.data.fields import Ragged
from konspekt.data.readers import Learned
from konspekt.data.targets import ClassTargets, NumberTargets

if TYPE_CHECKING:
    from konspekt.engine.neural import NeuralEstimator, Splits

__all__ = ["begin", "fingerprint", "finish", "open_past"]

_MAY_DIFFER = ("epochs", "run_dir", "verbose")
_MOST_VALIDATION = 10_000
_EXAMPLES, _WORST = 24, 40  # at most 64 together


def fingerprint(batches: Resident | None, digest: Any = None) -> str:
    """The SHA-256 of all values of a data set, and of which items are used."""
    digest = digest or hashlib.sha256()
    if batches is not None:
        for name, field in sorted(batches.fields.items()):
            for tensor in (field.values, field.offsets) if isinstance(field, Ragged) else (field,):
                digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
                digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
        digest.update(batches.items.numpy().tobytes())
    return str(digest.hexdigest())


def open_past(estimator: NeuralEstimator, resume: str | Path | None) -> dict[str, Any] | None:
    """The config of the run to be resumed, or None.

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
        past["seed"], past["machine"]["threads"], past["fingerprint"]
    except (KeyError, TypeError):
        raise DataError(f"{Path(resume) / 'config.yaml'}: not the description of a run; the file is damaged") from None
    now = estimator.get_params(deep=False)
    differ = [
        f"{k} was {was.get(k)!r}, is {v!r}"
        for k, v in now.items()
        if k not in _MAY_DIFFER and _plain(was.get(k)) != _plain(v)
    ]
    if differ:
        raise ConfigError(
            f"{resume} cannot be resumed with other parameters than {', '.join(_MAY_DIFFER)}: {'; '.join(differ)}"
        )
    return past


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(v) for v in value]
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    return value.item() if isinstance(value, np.generic) else value


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
    import sklearn
    import yaml

    for note in learned.notes:
        run.log(note)
        if estimator.verbose:
            width = shutil.get_terminal_size((80, 24)).columns
            print(textwrap.fill(note, width, subsequent_indent="  "), flush=True)  # noqa: T201, what `verbose` is for
    if run.path is None:
        return
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
    params = {k: _plain(v) for k, v in estimator.get_params(deep=False).items()}
    config = {
        "system": registered(type(estimator)).name,
        "class": type(estimator).__name__,
        "params": params,
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
            "device": str(device),
            "threads": torch.get_num_threads(),
        },
    }
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
    run.write_json("data.json", facts)
    write_file(run.path / "config.yaml", yaml.safe_dump(config, sort_keys=False, allow_unicode=True).encode())
    held = f", {facts['validation']} held out" if facts["validation"] else ""
    run.log(
        f"{config['system']} on {source['source']}: {facts['train']} items to train on{held}; data resident on {device}"
    )


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
    estimator.exhibit(run)
    if not splits.external:
        _write_items(run, learned, arrays)
    timings["evaluate"] = time.perf_counter() - begun
    begun = time.perf_counter()
    estimator.save(run.path / "model")
    timings["save"] = time.perf_counter() - begun
    model = estimator.objective_.model
    layers = [
        {"name": n, "type": type(m).__name__, "parameters": sum(p.numel() for p in m.parameters(recurse=False))}
        for n, m in model.named_modules()
        if not m._modules
    ]
    run.write_json(
        "result.json",
        {
            "scores": scores,
            "scores_on": "validation" if splits.validation else "train",
            "seconds": time.perf_counter() - started,
            "epochs": len(run.history),
            "parameters": sum(p.numel() for p in model.parameters()),
            "layers": layers,
            "timings": timings,
        },
    )
    run.log("finished: " + ", ".join(f"{k} {v:.4g}" for k, v in scores.items()))


def _write_predictions(estimator: NeuralEstimator, run: Run, batches: Resident) -> dict[str, Any]:
    """Write validation.npz, and give back all that it has per item."""
    outputs: list[dict[str, Tensor]] = []
    losses, truths, index = [], [], []
    for batch in batches.epoch(0):
        outputs.append({k: v.cpu() for k, v in estimator.objective_(batch).items() if isinstance(v, Tensor)})
        losses.append(estimator.objective_.item_losses(batch).cpu())
        truths.append(batch["y"].cpu())  # type: ignore[union-attr]
        index.append(batch["index"].cpu())  # type: ignore[union-attr]
    loss, y, items = torch.cat(losses), torch.cat(truths), torch.cat(index)
    arrays: dict[str, Any] = {"index": items.numpy(), "loss": loss.float().numpy()}
    if isinstance(estimator.targets_, ClassTargets):
        logits = torch.cat([o["logits"] for o in outputs])
        arrays |= {
            "truth": estimator.targets_.decode(y).astype(str),
            "prediction": estimator.targets_.decode(logits.argmax(1)).astype(str),
            "probability": torch.softmax(logits, 1).numpy(),
            "classes": estimator.targets_.classes.astype(str),
        }
    elif isinstance(estimator.targets_, NumberTargets):
        prediction = torch.cat([o["prediction"] for o in outputs])
        arrays |= {"truth": estimator.targets_.decode(y), "prediction": estimator.targets_.decode(prediction)}
    per_item = {k: v for k, v in arrays.items() if k != "classes"}
    limited = {k: v[:_MOST_VALIDATION] for k, v in per_item.items()}
    run.write_arrays("validation.npz", limited | ({"classes": arrays["classes"]} if "classes" in arrays else {}))
    return per_item


def _write_items(run: Run, learned: Learned, arrays: dict[str, Any]) -> None:
    """items/: some examples and the items with the largest loss, as pictures or rows."""
    worst = np.argsort(-arrays["loss"], kind="stable")[:_WORST]
    spread = np.linspace(0, len(arrays["loss"]) - 1, min(_EXAMPLES, len(arrays["loss"]))).astype(int)
    entries: list[dict[str, Any]] = []
    for role, places in (("example", spread), ("worst", worst)):
        for place in places:
            item = int(arrays["index"][place])
            entry = {"role": role, "index": item, "loss": float(arrays["loss"][place])}
            entry |= {key: arrays[key][place].tolist() for key in ("truth", "prediction") if key in arrays}
            shown = learned.show(item)
            if "image" in shown and run.path is not None:
                from PIL import Image

                name = f"{role}-{item}.png"
                (run.path / "items").mkdir(exist_ok=True)
                Image.fromarray(shown["image"]).save(run.path / "items" / name)
                entry["image"] = name
            else:
                entry |= shown
            entries.append(entry)
    run.write_json("items/items.json", entries)
