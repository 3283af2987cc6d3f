"""Pruning: what a fitted net can do without is taken out, and the rest is trained on for a while.

    result = konspekt.explain.prune(model, X, y, by="magnitude", share=(0.5, 0.8, 0.9), run_dir="runs/pruned")
    result.frame()                     # quality against size, before and after the fine-tuning
    result.save("small")               # the smallest; result.points[1].estimator is the one with 80 % taken out
    konspekt.report(result)

Course: row A16 (document I, section 17). Its rule: fine-tune after pruning, and judge on data that were held out.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import torch
from sklearn.utils.validation import check_is_fitted

from konspekt.core.errors import ConfigError
from konspekt.core.params import AtLeast, check_arguments
from konspekt.core.registry import system
from konspekt.core.runs import Run
from konspekt.core.seeds import mix
from konspekt.data.batches import Resident
from konspekt.data.readers import Learned, source_of
from konspekt.data.sets import DataSet
from konspekt.engine import record
from konspekt.engine.forecast import Level
from konspekt.engine.loop import minimise, probe_optimizer
from konspekt.engine.neural import NeuralEstimator, Splits
from konspekt.engine.session import caller_untouched, choose_device, surroundings
from konspekt.explain.edges import layers_with_edges
from konspekt.explain.removals import METHODS, zero_edges

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Point", "Pruned", "prune"]

By = Literal["magnitude", "curvature", "branches", "channels"]
_HELD_OUT = 0.2  # where neither the call nor the estimator says a share
_MEASURED = 256  # items a batch
_TIMED = 64  # items of which the time is taken
_TIMING = 0.3  # seconds that this may take, where five passes of each net take less


@dataclass(frozen=True)
class Point:
    """A net of the curve.

    share: of the edges, branches or channels that have been taken out. removed: how many, or the names of branches.
    parameters: that are left, without the edges that are 0. multiply_adds: of one item; edges that are 0 are multiplied
    all the same. seconds: of one item in a batch, measured: the fastest pass. before, after: the measures on the held-out data before and
    after the fine-tuning. estimator: this net, fitted.
    """

    share: float
    removed: str
    parameters: int
    multiply_adds: int
    seconds: float
    before: Mapping[str, float]
    after: Mapping[str, float]
    estimator: Any = field(repr=False)


@dataclass(frozen=True, repr=False)
class Pruned:
    """What `prune` found.

    points: the curve of quality against size, the net as it was given first. measure: the one that is drawn. notes: how
    it was judged what can go. run_: the run, for `konspekt.report`.
    """

    points: tuple[Point, ...]
    by: str
    measure: str
    notes: tuple[str, ...]
    run_: Run = field(repr=False)

    @property
    def estimator(self) -> Any:
        """The smallest net, fitted."""
        return self.points[-1].estimator

    @property
    def sparsity(self) -> float:
        """The share of the edges of the smallest net that are 0."""
        edges = layers_with_edges(self.estimator.model_).values()
        return 1 - sum(int(p.count_nonzero()) for p in edges) / sum(p.numel() for p in edges)

    def __repr__(self) -> str:
        steps = ", ".join(f"{p.after[self.measure]:.4g} without {p.share:.0%}" for p in self.points)
        return f"Pruned(by={self.by!r}, {self.measure} {steps})"

    def rows(self) -> list[dict[str, Any]]:
        """The curve as rows of a table."""
        return [
            {
                "share": p.share,
                "removed": p.removed,
                "parameters": p.parameters,
                "multiply-adds": p.multiply_adds,
                "seconds an item": p.seconds,
                f"{self.measure} before fine-tuning": p.before[self.measure],
                self.measure: p.after[self.measure],
            }
            for p in self.points
        ]

    def frame(self) -> pd.DataFrame:
        """The curve as a table."""
        import pandas as pd

        return pd.DataFrame(self.rows())

    def save(self, folder: str | Path) -> Path:
        """Save the smallest net, as every estimator is saved."""
        return self.estimator.save(folder)  # type: ignore[no-any-return]


@system(
    name="prune",
    kind="tool",
    rows=("A16",),
    paper="LeCun, Denker and Solla 1990; Hassibi and Stork 1993; Li et al. 2017",
)
def prune(
    estimator: Any,
    X: Any,
    y: Any = None,
    *,
    by: By = "magnitude",
    share: float | Sequence[float] = (0.5, 0.8, 0.9),
    validation: Any = None,
    epochs: Annotated[int, AtLeast(0)] = 5,
    hessian: Literal["diagonal", "exact"] = "diagonal",
    per_layer: bool = False,
    layers: Sequence[str] | None = None,
    run_dir: str | Path | None = None,
) -> Pruned:
    """Take out of a fitted net what it can do without, in steps, and fine-tune after each.

    estimator: fitted; it stays as it is. Its own parameters of training count in the fine-tuning, but for `epochs`.
    X, y: what `fit` takes.
    by: magnitude: single weights, the smallest first. curvature: single weights, first those without which the loss rises
        least (optimal brain damage and surgeon). channels: whole channels of convolutions whose kernels have the smallest sum
        of sizes, the same share of each layer; the tensors get smaller. branches: residual branches with the smallest response
        on the held-out data; they leave the graph, and the estimator's `arch` says which.
    share: what is gone after each step, of all edges, channels or branches; the curve has a point for each.
    validation: what the net is judged on: a fraction of X, a pair (X, y), or whatever X may be; None: as the estimator
        held out, or a fifth. With the fraction and the data of the fit, it is the part that the fit had held out.
    epochs: of fine-tuning after each step; 0: none.
    hessian: for by="curvature". diagonal: weights are judged one by one. exact: with the inverse of each layer's whole
        Hessian, and the other weights of the layer make up for those that go; for layers of at most 2500 weights. Both are
        measured on at most 2000 training items.
    per_layer: the share of each layer, and not of all edges together. Channels are always taken so.
    layers: only these layers, by their names in the net.
    run_dir: the folder of the run; None: nothing is written.

    Raises NotFittedError before `fit`; ConfigError where an argument is out of bounds, the net has nothing of the kind, or
    nothing would be left of a layer; DataError where X is not of the kind that the estimator was fitted on.
    """
    given: dict[str, Any] = {"by": by, "epochs": epochs, "hessian": hessian, "per_layer": per_layer}
    check_arguments("prune", prune, given)
    if not isinstance(estimator, NeuralEstimator):
        raise ConfigError(f"prune takes an estimator that learns by gradient, got {type(estimator).__name__}")
    check_is_fitted(estimator, "objective_")
    shares = _shares(share)
    for name, stray in (
        ("hessian", hessian != "diagonal" and by != "curvature"),
        ("layers", layers and by == "branches"),
    ):
        if stray:
            raise ConfigError(f"prune: {name}= does not go with by={by!r}; leave it out")
    if isinstance(layers, str):
        raise ConfigError(f"prune: layers must be a list of names, got {layers!r}; write [{layers!r}]")
    if per_layer and by == "branches":
        raise ConfigError("prune: per_layer= does not go with by='branches'; leave it out")
    device = choose_device(estimator.device)
    work = _copied(estimator, device)
    splits, skipped = _batches(work, X, y, validation, device)
    method = METHODS[by](work, splits, hessian=hessian, per_layer=per_layer, layers=layers)
    run = Run(run_dir)
    try:
        with caller_untouched(), surroundings(device, mix(work.seed_, 5) % 2**63):
            return _pruned(work, method, splits, skipped, shares, by, epochs, run, source_of(X, y, validation))
    except Exception:
        run.abandon()
        raise
    finally:
        run.close()


def _shares(share: Any) -> list[float]:
    several = not isinstance(share, (Real, str)) and hasattr(share, "__iter__")
    shares = list(share) if several else [share]
    if not shares or any(not isinstance(s, Real) or isinstance(s, bool) or not 0 < s < 1 for s in shares):
        raise ConfigError(f"prune: share must be more than 0 and less than 1, or several such numbers, got {share!r}")
    if shares != sorted(set(shares)):
        raise ConfigError(f"prune: shares must grow from step to step, as what is gone is gone; got {share!r}")
    return [float(s) for s in shares]


def _copied(estimator: Any, device: torch.device) -> Any:
    """The estimator with a net of its own."""
    work = copy.copy(estimator)
    work.__dict__.pop("run_", None)
    work.objective_ = copy.deepcopy(estimator.objective_).to(device).eval()
    work.facts_ = dict(getattr(estimator, "facts_", {}))
    return work


def _batches(work: Any, X: Any, y: Any, validation: Any, device: torch.device) -> tuple[Splits, list[dict[str, str]]]:
    """Batches of X and of the held-out data, encoded as the estimator has learned to, and what could not be read."""
    encoded = work.encode(X, y, truth=True, on_bad=work.on_bad)
    fields, skipped = {name: f.to(device) for name, f in encoded.fields.items()}, list(encoded.skipped)
    is_share = isinstance(validation, Real)
    if is_share and (isinstance(validation, bool) or not 0 < float(validation) < 1):
        raise ConfigError(f"prune: validation as a fraction must be more than 0 and less than 1, got {validation}")
    total = len(next(iter(fields.values())))
    if validation is None or is_share:
        fraction = validation if is_share else work.validation_fraction or _HELD_OUT
        train, held = work._split(total, float(fraction), work.strata(encoded.y))
        held_out = Resident(fields, items=held, batch_size=_MEASURED, device=device)
    else:
        train = torch.arange(total)
        pair = isinstance(validation, tuple) and len(validation) == 2 and not isinstance(validation, DataSet)
        X_held, y_held = validation if pair else (validation, y if isinstance(y, (str, tuple)) else None)
        other = work.encode(X_held, y_held, truth=True, on_bad=work.on_bad)
        skipped += other.skipped
        held_out = Resident(other.fields, batch_size=_MEASURED, device=device)
    batch_size = None if getattr(probe_optimizer(work), "full_batch", False) else work.batch_size
    batches = Resident(
        fields,
        items=train,
        batch_size=batch_size,
        shuffle=batch_size is not None,
        seed=mix(work.seed_, 2),
        transform=work.make_transform(),
        by_length=work.by_length,
        device=device,
    )
    in_order = Resident(fields, items=train, batch_size=_MEASURED, device=device)
    return Splits(batches, held_out, in_order, external=True), skipped


def _pruned(
    work: Any,
    method: Any,
    splits: Splits,
    skipped: list[dict[str, str]],
    shares: list[float],
    by: str,
    epochs: int,
    run: Run,
    source: dict[str, Any],
) -> Pruned:
    """The steps of a pruning, in a run."""
    started = run.began
    held: Any = splits.validation
    device = splits.train.device
    run.level = Level(device)
    tuning = copy.copy(work)
    tuning.epochs = epochs or work.epochs
    tuning.check_training(True)
    learned = Learned(work.schema_, splits.train.fields, dict, [], lambda item: {})
    source = source | {"kind": "memory"}  # a pruning is no fit that `konspekt resume` could go on with
    record.begin(tuning, run, None, source, learned, skipped, splits, device)
    if skipped:
        method.notes.append(f"{len(skipped)} items could not be read and were left out, as on_bad='skip' says")
    run.timings["data"] = time.perf_counter() - started
    scores = work.objective_.evaluate(held)
    measure = next((name for name in ("accuracy", "r2") if name in scores), "loss")
    points = [_point(work, 0.0, "nothing", scores, scores, held)]
    for share in shares:
        removed = method.remove(share)
        objective = method.objective
        objective.eval()
        before = objective.evaluate(held)
        stage = f"pruned-{100 * share:.6g}".replace(".", "_")
        if epochs:
            minimise(objective, splits.train, tuning, run=run, validation=held, stage=stage)
            objective.eval()
        else:
            run.record("stage", stage=stage, state="finished", step=0, stopped="epochs", weights="last", seconds=0.0)
        method.settle()
        after = objective.evaluate(held)
        points.append(_point(work, share, removed, before, after, held))
        run.log(f"share {share:g}, without {removed}: {measure} {before[measure]:.4g}, fine-tuned {after[measure]:.4g}")
    run.timings["train"] = time.perf_counter() - started - run.timings["data"]
    times = _seconds([point.estimator for point in points], held)
    points = [replace(point, seconds=seconds) for point, seconds in zip(points, times, strict=True)]
    result = Pruned(tuple(points), by, measure, tuple(dict.fromkeys(method.notes)), run)
    work.facts_ |= {"source": source["source"], "train": splits.train.num_items, "validation": held.num_items}
    work.facts_ |= {"scores": dict(points[-1].after), "scores_on": "held-out"}
    for point in points[1:]:
        point.estimator.history_, point.estimator.n_iter_ = run.history, len(run.history)
        point.estimator.facts_ = work.facts_ | {"scores": dict(point.after)}
        point.estimator.run_ = run
    run.keep("pruning", "table", result.rows())
    for note in result.notes:
        run.log(note)
    record.finish(result.estimator, run, learned, splits, run.timings, started)
    return result


def _point(
    work: Any,
    share: float,
    removed: str,
    before: Mapping[str, float],
    after: Mapping[str, float],
    held: Any,
) -> Point:
    snapshot = copy.copy(work)
    snapshot.objective_ = copy.deepcopy(work.objective_)
    model = snapshot.objective_.model
    parameters = sum(p.numel() for p in model.parameters()) - zero_edges(snapshot)
    return Point(share, removed, parameters, _multiply_adds(snapshot, held), 0.0, before, after, snapshot)


@torch.no_grad()
def _multiply_adds(work: Any, held: Resident) -> int:
    """Of one item, in matrix products and convolutions."""
    from torch.utils.flop_counter import FlopCounterMode

    counter = FlopCounterMode(display=False)
    with counter:
        work.objective_(held.take(held.items[:1].to(held.device)))
    return int(counter.get_total_flops()) // 2  # a multiplication and an addition


@torch.no_grad()
def _seconds(nets: Sequence[Any], held: Resident) -> list[float]:
    """Of one item in a batch, for each net: the fastest of several passes, the nets in turns.

    What is slower than the fastest was held up by another process, and in turns all nets meet the same others.
    """
    batch = held.take(held.items[:_TIMED].to(held.device))
    taken: list[list[float]] = [[] for _ in nets]
    begun = time.perf_counter()
    while len(taken[0]) < 5 or (time.perf_counter() - begun < _TIMING and len(taken[0]) < 50):
        for net, times in zip(nets, taken, strict=True):
            started = time.perf_counter()
            net.objective_(batch)
            if held.device.type == "cuda":
                torch.cuda.synchronize(held.device)
            times.append(time.perf_counter() - started)
    return [min(times) / len(batch["index"]) for times in taken]
