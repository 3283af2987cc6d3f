"""The records of a run on one axis: stage after stage, in epochs (or in steps, where a stage has no whole epoch)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from konspekt.reports.reading import Stage
from konspekt.reports.words import real

__all__ = ["Timeline"]

NOT_MEASURED = {
    "kind", "stage", "epoch", "step", "cut_short", "lr", "risk", "seconds", "seconds_validation", "grad_norm", "grad_norms",
}  # fmt: skip
Placed = list[tuple[float, dict[str, Any]]]


class Timeline:
    """Where on the axis each record of the stages stands. An epoch stands at its end: the first one at 1.

    unit: what the axis counts. starts: where each stage begins, and its name. best: where the best epoch of the last
    stage that has one stands.
    """

    def __init__(self, stages: Sequence[Stage]) -> None:
        self.stages = [s for s in stages if s.epochs or s.steps]
        self.unit = "epoch" if all(s.epochs for s in self.stages) else "step"
        self.starts: list[tuple[float, str]] = []
        self.best: float | None = None
        self._epochs: Placed = []
        self._steps: Placed = []
        end = 0.0
        for stage in self.stages:
            self.starts.append((end, stage.name))
            epochs, steps = (end + x for x in _places(stage, self.unit))
            self._epochs += zip(epochs.tolist(), stage.epochs, strict=True)
            self._steps += zip(steps.tolist(), stage.steps, strict=True)
            chosen = (stage.end or {}).get("best_epoch")
            if isinstance(chosen, int):
                at = [x for x, r in zip(epochs.tolist(), stage.epochs, strict=True) if r.get("epoch") == chosen]
                self.best = at[0] if at else self.best
            end = float(max(end, *epochs, *steps))

    @property
    def measures(self) -> list[str]:
        """What was measured, without "val_": the loss first, then in order of appearance."""
        records = (r for _, r in (*self._epochs, *self._steps))
        found = (k.removeprefix("val_") for r in records for k, v in r.items() if not isinstance(v, (dict, list, str)))
        names = (name for name in dict.fromkeys(found) if name not in NOT_MEASURED)
        return sorted(names, key=lambda name: name != "loss")

    def epochs(self, key: str) -> tuple[np.ndarray, np.ndarray]:
        """Place and value of the epochs that have this measure; NaN stands for what was not finite."""
        return _series(self._epochs, key)

    def steps(self, key: str) -> tuple[np.ndarray, np.ndarray]:
        """The same of the steps."""
        return _series(self._steps, key)

    def layers(self) -> tuple[list[str], np.ndarray]:
        """The gradient norms by layer: names, and values (layers, epochs)."""
        norms = [r["grad_norms"] for _, r in self._epochs if isinstance(r.get("grad_norms"), dict)]
        names = list(dict.fromkeys(name for n in norms for name in n))
        values = [[real(n.get(name)) for n in norms] for name in names]
        return names, np.array(values, dtype=float).reshape(len(names), len(norms))


def _places(stage: Stage, unit: str) -> tuple[np.ndarray, np.ndarray]:
    """The distances of a stage's epochs and steps from its start."""
    ends, steps = _numbers(stage.epochs, "step"), _numbers(stage.steps, "step")
    if unit == "step":
        return ends, steps
    done = _numbers(stage.epochs, "epoch") + 1
    order = np.argsort(ends, kind="stable")
    at, whole = np.array([0.0, *ends[order]]), np.array([0.0, *done[order]])
    places = np.interp(steps, at, whole)
    if at[-1] > 0:  # steps of an epoch that did not end: at the pace of those that did
        places = np.where(steps > at[-1], whole[-1] * steps / at[-1], places)
    return done, places


def _numbers(records: Sequence[dict[str, Any]], key: str) -> np.ndarray:
    values: np.ndarray = np.nan_to_num(np.array([real(r.get(key)) for r in records], dtype=float))
    return values


def _series(placed: Placed, key: str) -> tuple[np.ndarray, np.ndarray]:
    found = sorted(((x, real(r[key])) for x, r in placed if key in r), key=lambda pair: pair[0])
    return np.array([x for x, _ in found], dtype=float), np.array([y for _, y in found], dtype=float)
