"""`konspekt.report(run)`: a run folder becomes one HTML page that needs nothing else: no network, no script, no data.

The page is a function of the folder: the same folder gives the same bytes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from markupsafe import Markup

from konspekt.core.errors import ConfigError
from konspekt.core.folders import write_file
from konspekt.reports import acted, clustered
from konspekt.reports.predictions import is_classification
from konspekt.reports.reading import Folder, dicts, mapping, read_folder
from konspekt.reports.sections import SECTIONS, warnings_of
from konspekt.reports.templates import environment, sentence
from konspekt.reports.words import GAP, clean, duration, number, percent, plural, real, score, score_name, short, title

__all__ = ["report"]

FIRST = ("accuracy", "balanced_accuracy", "r2", "f1", "auc", "roc_auc", "average_precision", "rmse", "mae", "loss")
STOPPED = {
    "epochs": "all epochs were done",
    "patience": "the validation score no longer improved",
    "converged": "it had converged",
    "callback": "a callback stopped it",
}


class HasRun(Protocol):
    """What has been fitted: `run_` is its `core.runs.Run`."""

    run_: Any


def report(run: str | Path | HasRun, out: str | Path | None = None) -> Path:
    """Write the page of a run and return where it is.

    run: the folder of a run or of a saved comparison, or an estimator that was fitted with `run_dir`, or a comparison that was saved.
    out: the file, or a folder to write `report.html` into; None: the run folder itself.

    Raises DataError where there is no run, ConfigError where the fit kept no folder, ResourceError where the disk
    refuses.
    """
    folder = _folder_of(run)
    if (folder / "comparison.json").is_file() and not (folder / "config.yaml").is_file():
        from konspekt.reports.compared import report_comparison  # which needs this module

        return report_comparison(folder, Path(out) / "report.html" if out is not None and Path(out).is_dir() else out)
    page = render(read_folder(folder))
    target = Path(out) if out is not None else folder
    target = target / "report.html" if target.is_dir() else target
    write_file(target, page.encode("utf-8", "replace"))
    return target


def _folder_of(run: str | Path | HasRun) -> Path:
    if isinstance(run, (str, Path)):
        return Path(run)
    if not hasattr(run, "run_"):
        if hasattr(run, "fit"):
            from sklearn.exceptions import NotFittedError

            raise NotFittedError(f"this {type(run).__name__} has no run yet; call fit with run_dir first")
        if hasattr(run, "path") and hasattr(run, "save"):
            if run.path is None:
                raise ConfigError("this comparison is in memory only: save(folder) it first, or give compare a run_dir")
            return Path(run.path)
        raise TypeError(f"report takes a run folder or a fitted estimator, got {type(run).__name__}")
    path = getattr(run.run_, "path", None)
    if path is None:
        raise ConfigError(f"{type(run).__name__}: the fit kept no run folder; give run_dir, then fit again")
    return Path(path)


def render(folder: Folder) -> str:
    """The page as text."""
    sections = [(name, text, body) for name, text, make in SECTIONS if (body := _made(folder, text, make))]
    head = headline(folder)
    return environment().get_template("report.html").render(head=head, sections=sections)


def _made(folder: Folder, text: str, make: Any) -> Markup | None:
    """A section; where its part of the folder is not what it should be, the sentence that says so."""
    try:
        with np.errstate(all="ignore"):  # a value near the largest float overflows when it is squared
            made: Markup | None = make(folder)
        return made
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, ArithmeticError, OSError) as error:
        what = f"{text} cannot be shown: the folder's files hold something unexpected"
        return sentence(f"{what} ({type(error).__name__}: {short(error, 120)}).", "note")


# --- the headline ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Headline:
    """What the reader sees first."""

    run: str
    system: str
    data: str
    score: str
    score_name: str
    context: list[str]
    state: str
    story: str
    facts: list[tuple[str, str]]
    problems: str

    @property
    def title(self) -> str:
        """The title of the browser's tab."""
        on = f" on {self.data}" if self.data else ""
        return f"{self.system}{on}" + (f": {self.score} {self.score_name}" if self.score else "")


def headline(folder: Folder) -> Headline:
    """System, data, score, state and the few numbers that matter."""
    scores, where = _scores(folder)
    found = clustered.is_clustering(folder)
    main = next((name for name in FIRST if name in scores), next(iter(scores), None))
    items = _items(folder)
    state, story = _state(folder)
    if found:
        main, where = clustered.leading(scores), ""
        state, story = clustered.outcome(folder)
    acts = acted.is_acting(folder)
    if acts:
        scores = acted.scores(folder)
        main, where = "return" if "return" in scores else None, " in the training"
        state, story = acted.outcome(folder)
    parameters = folder.result.get("parameters")
    epochs = sum(len(s.epochs) for s in folder.stages)
    sizes = [folder.data.get("train"), folder.data.get("validation")]
    facts = [(score_name(k), score(k, v, items)) for k, v in scores.items() if k != main][:4]
    facts += [
        ("training items", number(sizes[0]) if sizes[0] is not None else ""),
        ("validation items", (number(sizes[1]) if sizes[1] else "none") if folder.data else ""),
        ("epochs", number(epochs) if epochs else ""),
        ("parameters", number(parameters) if parameters is not None else ""),
    ]
    facts = clustered.counts(folder, main) if found else acted.counts(folder) if acts else facts
    facts += [
        ("time", duration(folder.result["seconds"]) if "seconds" in folder.result else ""),
        ("device", short(mapping(folder.config.get("machine")).get("device") or "", 24)),
    ]
    warned, skipped = len(warnings_of(folder)) + len(folder.notes), len(dicts(folder.data.get("skipped")))
    problems = [plural(n, what) for n, what in ((warned, "warning"), (skipped, "skipped item")) if n]
    source = clean(mapping(folder.config.get("data")).get("source") or folder.data.get("source") or "")
    return Headline(
        run=clean(folder.path.resolve().name),
        system=short(folder.config.get("system") or folder.config.get("class") or "A run", 80),
        data=short(source.rstrip("/").rpartition("/")[2], 80),
        score=score(main, scores[main], items) if main else "",
        score_name=f"{score_name(main)}{where}" if main else "",
        context=acted.context(folder) if acts else _context(folder, main, scores) if main else [],
        state=state,
        story=story,
        facts=[(k, v) for k, v in facts if v],
        problems=", ".join(problems),
    )


def _scores(folder: Folder) -> tuple[dict[str, Any], str]:
    """The scores and on what; without result.json, those of the last epoch."""
    scores = {clean(k): v for k, v in mapping(folder.result.get("scores")).items()}
    if scores:
        where = {"validation": " on held-out data", "train": " on the training data"}
        return scores, where.get(str(folder.result.get("scores_on")), "")
    last: dict[str, Any] = next((r for s in reversed(folder.stages) for r in reversed(s.epochs)), {})
    held = {k.removeprefix("val_"): v for k, v in last.items() if k.startswith("val_") and math.isfinite(real(v))}
    if held:
        return held, " on held-out data, last epoch"
    return (
        ({"loss": last["loss"]}, " on the training data, last epoch")
        if math.isfinite(real(last.get("loss")))
        else ({}, "")
    )


def _context(folder: Folder, main: str, scores: dict[str, Any]) -> list[str]:
    """What helps to judge the score: its uncertainty, and what no learning at all would reach."""
    if clustered.is_clustering(folder):
        return clustered.meaning(folder, main)
    told = []
    truth, value = folder.validation.get("truth"), real(scores[main])
    if folder.result.get("scores_on") == "train":
        told.append("No data were held out: how it does on new data is not known.")
    if main == "accuracy" and truth is not None and truth.ndim == 1 and is_classification(folder) and 0 <= value <= 1:
        low, high = _wilson(value, _items(folder))
        told.append(f"95{GAP}% interval {percent(low)} to {percent(high)}, from {plural(_items(folder), 'item')}.")
        common = np.unique(truth, return_counts=True)[1].max() / len(truth)
        told.append(f"Always answering the most frequent class would reach {percent(float(common))}.")
    if main == "r2":
        told.append("1 is exact, 0 is no better than always answering the mean.")
    return told


def _items(folder: Folder) -> int:
    """How many items were scored; validation.npz may hold fewer."""
    said = folder.data.get("train" if folder.result.get("scores_on") == "train" else "validation")
    return max(
        said if isinstance(said, int) else 0, len(folder.validation.get("truth", folder.validation.get("loss", ())))
    )


def _wilson(share: float, count: int, z: float = 1.96) -> tuple[float, float]:
    """The interval of a share (Wilson 1927), which stays within 0 and 1."""
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return max(0.0, middle - half), min(1.0, middle + half)


def _state(folder: Folder) -> tuple[str, str]:
    """One word for the state of the run, and its story in a sentence."""
    planned = mapping(folder.config.get("params")).get("epochs")
    if not folder.stages:
        return "interrupted", "The run ended before its first record."
    last, epochs = folder.stages[-1], sum(len(s.epochs) for s in folder.stages)
    done = plural(len(last.epochs), "epoch")
    of = f" of {number(planned)}" if isinstance(planned, int) and planned > len(last.epochs) == epochs else ""
    stage = f"Stage {short(last.name)}" if len(folder.stages) > 1 else "The run"
    if last.end is None:
        what = f"was interrupted after {done}{of}" if last.epochs else "was interrupted in its first epoch"
        more = "; resume goes on from its newest checkpoint" if (folder.path / "checkpoint").is_dir() else ""
        return "interrupted", f"{stage} {what}{more}."
    reason = folder.result.get("stopped") or last.end.get("stopped")
    why = STOPPED.get(str(reason), f"{title(clean(reason)).lower()}" if reason else "")
    story = f"{stage} ended after {done}{of}{f': {why}' if why else ''}."
    best = last.end.get("best_epoch")
    if isinstance(best, int) and last.epochs:
        restored = mapping(folder.config.get("params")).get("patience") is not None  # only then is the best one kept
        if restored or best == last.epochs[-1].get("epoch"):
            story += f" The weights are those of epoch {number(best + 1)}, the best one."
        else:
            story += f" Epoch {number(best + 1)} was the best, but the weights are the last ones: patience was not set."
    if not folder.result:
        story += " There is no result.json: the run ended before it was evaluated."
        return "not evaluated", story
    return "finished", story
