"""The base of every estimator that learns by gradient: reading, splitting, building, training, predicting, saving.

A subclass says how X is read (`reader`) and what net to build (`build`); a fit of several stages overrides `train`.
"""

from __future__ import annotations

import contextlib
import copy
import numbers
import secrets
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin, RegressorMixin, clone
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from konspekt.core.errors import ConfigError, DataError
from konspekt.core.estimator import Estimator, plain, registered
from konspekt.core.params import Search
from konspekt.core.runs import Run
from konspekt.core.seeds import mix
from konspekt.data.batches import Batches, Resident, Transform
from konspekt.data.fields import Batch
from konspekt.data.images import OnBad
from konspekt.data.readers import Encoded, Learned, Opened, Reader, source_of
from konspekt.data.reading_processes import ReadingProcesses
from konspekt.data.sets import DataSet
from konspekt.data.streams import Scratch, Streamed
from konspekt.data.targets import ClassTargets, NumberTargets
from konspekt.engine import record
from konspekt.engine.clusters import fit_on_ray, processes_of
from konspekt.engine.forecast import Level, Rehearsal
from konspekt.engine.loop import Callback, minimise, probe_optimizer
from konspekt.engine.objective import Objective
from konspekt.engine.processes import Team, joined
from konspekt.engine.restoring import device_here, restored
from konspekt.engine.session import caller_untouched, choose_device, surroundings
from konspekt.engine.training import Training

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["NeuralClassifier", "NeuralEstimator", "NeuralRegressor", "Splits"]

_PREDICT_BATCH = 256  # items at a time where no gradient is kept


@dataclass
class Splits:
    """The batches of a fit."""

    train: Resident
    validation: Resident | None
    in_order: Resident  # the training items in order, without transform: for measures
    external: bool  # whether the validation data were given beside X, so that item numbers are not X's


@dataclass(kw_only=True, eq=False, repr=False)
class NeuralEstimator(Training, Estimator):
    """An estimator that learns by gradient descent through `engine.minimise`.

    Attributes after `fit`: objective_, model_ (its net), schema_ (how X is read), targets_, history_ (one dict an
    epoch), run_, n_iter_ (epochs run), seed_.
    """

    reader: ClassVar[Reader]  # how X is read; a subclass sets it
    by_length: ClassVar[str | None] = None  # the ragged field by whose lengths training batches are made up
    precise: ClassVar[bool] = False  # predict in 64 bits, so that an item's prediction depends on no other item
    target_type: ClassVar[Any] = None  # what its targets are; NeuralClassifier and NeuralRegressor set it
    supervised: ClassVar[bool] = True  # whether `fit` needs y; if not, a y that is given may serve for measures

    # -- what a subclass says ---------------------------------------------------------------------------------------

    def build(self, schema: Any, targets: Any) -> Objective:
        """The objective for data of this schema. It is called at `fit` and at `load`, and draws from torch's generator."""
        raise NotImplementedError(f"{type(self).__name__}.build")

    def own_net(self) -> torch.nn.Module | None:
        """A copy of the user's own net, if `model` is one: `build` takes it in the place of what it would make."""
        if self.model is not None and not isinstance(self.model, torch.nn.Module):
            raise ConfigError(f"{type(self).__name__}: model must be a torch.nn.Module or None, got {self.model!r}")
        return copy.deepcopy(self.model)

    def train(self, splits: Splits, run: Run, callbacks: Sequence[Callback]) -> Objective:
        """Build and minimise; a fit of several stages overrides this and calls `minimise` once for each."""
        objective = self.built(splits).to(splits.train.device)
        minimise(objective, splits.train, self, run=run, validation=splits.validation, callbacks=callbacks)
        return objective

    def built(self, splits: Splits) -> Objective:
        """What `build` makes; a net of the user's own is tried on one batch.

        Raises ConfigError where it does not take what it gets, or gives something else.
        """
        objective = self.build(self.schema_, self.targets_)
        if self.model is not None:
            batch = splits.train.sample()
            shapes = ", ".join(f"{n} {tuple(f.shape)} {f.dtype}" for n, f in batch.items() if isinstance(f, Tensor))
            where = f"{type(self).__name__}: model={plain(self.model)}"
            objective = objective.to(splits.train.device)
            mode = objective.training
            try:
                with torch.no_grad():
                    out = objective.eval()(batch)
                    losses = objective.item_losses(batch)
            except Exception as error:
                text = " ".join(str(error).split())[:300]
                raise ConfigError(f"{where} fails on a batch of {shapes}: {type(error).__name__}: {text}") from error
            self.check_outputs(out, where)
            if losses.shape != batch["index"].shape:  # type: ignore[union-attr]
                raise ConfigError(f"{where}: the loss of {len(batch['index'])} items came out as {tuple(losses.shape)}")
            objective.train(mode)
        return objective

    def check_outputs(self, outputs: dict[str, Any], where: str) -> None:
        """Raise ConfigError where the outputs of a net of the user's own are not of the shape that is wanted."""

    def learn_targets(self, y: Any, train: NDArray[np.int64]) -> tuple[Any, Tensor | dict[str, Tensor] | None]:
        """What is to be predicted, learned from the training items, and its tensor, which is field "y" of a batch.

        Of several tensors, a dict with their names; None where nothing is predicted.
        """
        return None, None

    def encode_targets(self, y: Any) -> Tensor | dict[str, Tensor] | None:
        """The tensors of other items' targets, as `learn_targets` made them; None where nothing is predicted."""
        return None if self.targets_ is None else self.targets_.encode(y, type(self).__name__)

    def strata(self, y: Any) -> NDArray[np.int64] | None:
        """The stratum of each item, (N,), of which training and validation get even shares; None: one for all."""
        return None

    def exhibit(self, run: Run, splits: Splits) -> None:
        """What the report should show of this system besides: calls of `run.keep`. splits: the data of the fit."""

    def make_transform(self) -> Transform | None:
        """What is done to each training batch: augmentation."""
        return None

    # -- fit --------------------------------------------------------------------------------------------------------

    def fit(
        self,
        X: Any,
        y: Any = None,
        *,
        validation: Any = None,
        resume: str | Path | None = None,
        callbacks: Sequence[Callback] = (),
    ) -> Self:
        """Learn from X and y.

        validation: a fraction, a pair (X, y), or whatever X may be; without it `validation_fraction` counts.
        resume: the run folder of an interrupted fit, to be continued with the same data and parameters.
        callbacks: called with an engine.loop.Moment after each step and epoch; returning True stops the fit.

        Raises ConfigError on a parameter, DataError on the data, DivergedError where the loss is not finite.
        """
        before = dict(vars(self))
        try:
            self._fit(X, y, validation, resume, callbacks)
        except BaseException:
            self.__dict__.clear()  # what an earlier fit learned still predicts, and nothing half learned does
            self.__dict__.update(before)
            raise
        return self

    def _fit(self, X: Any, y: Any, validation: Any, resume: str | Path | None, callbacks: Sequence[Callback]) -> None:
        self.check_params()
        where = type(self).__name__
        if resume is not None and not isinstance(resume, (str, Path)):
            raise ConfigError(f"{where}: resume must be the run folder to go on with, got {resume!r}")
        if not isinstance(callbacks, Sequence) or not all(callable(c) for c in callbacks):
            raise ConfigError(f"{where}: callbacks must be a list of functions that take a Moment, got {callbacks!r}")
        count = processes_of(self.backend, type(self).__name__)
        if count is not None:
            if callbacks:
                raise ConfigError(f"{type(self).__name__}: callbacks cannot go to a cluster: leave them or backend out")
            record.open_past(self, resume)
            fit_on_ray(self, count, X, y, validation, resume)
            return
        device = choose_device(self.device)
        past = record.open_past(self, resume)
        with joined(device) as team, caller_untouched(), self._run(resume, team) as run:
            try:
                self._fit_in(run, device, X, y, validation, past, callbacks)
            except Exception:
                run.abandon()
                raise

    def forecast(self, X: Any, y: Any = None, *, validation: Any = None) -> dict[str, Any]:
        """What `fit` with these arguments would take, from three real steps of each stage; nothing of them is kept.

        Gives "layers" (name, type, parameters), "parameters", "seconds" and "memory" (bytes above what the process held
        before), their parts, and "stages". What the data need is in it; no device is asked for more than the fit would.

        Raises what `fit` raises before its training.
        """
        one = clone(self).set_params(run_dir=None, verbose=False)
        one.check_params()
        device = choose_device(one.device)
        rehearsal = Rehearsal()
        with caller_untouched(), contextlib.closing(Run()) as run:
            run.rehearsal = rehearsal
            one._fit_in(run, device, X, y, validation, None, ())
            data = run.timings["data"]
        model = one.objective_.model
        return {
            "layers": record.layers_of(model),
            "parameters": sum(p.numel() for p in model.parameters()),
            "seconds": data + sum(s["seconds"] + s["after"] for s in rehearsal.stages),
            "data_seconds": data,
            "memory": max(s["memory"] for s in rehearsal.stages),
            "device": str(device),
            "stages": rehearsal.stages,
        }

    @staticmethod
    def _shown(run: Run) -> int | None:
        """The epoch whose weights the model has."""
        ends = [r for r in run.stages if r.get("weights") == "best"]
        return ends[-1]["best_epoch"] if ends else run.history[-1]["epoch"] if run.history else None

    def card_data(self) -> list[str]:
        """What the items are, and what is predicted."""
        said = self.schema_.sentences() if hasattr(self.schema_, "sentences") else []
        return said + (self.targets_.sentences() if hasattr(self.targets_, "sentences") else [])

    def _run(self, resume: str | Path | None, team: Team) -> contextlib.closing[Run]:
        """The run folder; one, written by process 0, for all processes of a fit."""
        where = team.tell(None if resume is None and self.run_dir is None else str(resume or self.run_dir))
        run = Run(where, resume=resume is not None, follows=not team.leads)
        run.team = team if team.size > 1 else None
        return contextlib.closing(run)

    def _fit_in(
        self,
        run: Run,
        device: torch.device,
        X: Any,
        y: Any,
        validation: Any,
        past: dict[str, Any] | None,
        callbacks: Sequence[Callback],
    ) -> None:
        started = run.began
        run.level = Level(device)
        team = run.team or Team()
        drawn = secrets.randbits(31) if self.random_state is None else self.random_state
        self.seed_ = past["seed"] if past else team.tell(int(drawn))
        source = source_of(X, y, validation)
        X, y = self._unpacked(X, y)
        with Scratch(run.path, "stream" if team.leads else f"stream-{team.rank}") as scratch:
            learned, skipped, splits = self._read(X, y, validation, device, scratch)
            record.begin(self, run, past, source, learned, skipped, splits, device)
            self.facts_ = {
                "source": source["source"],
                "train": splits.train.num_items,
                "validation": 0 if splits.validation is None else splits.validation.num_items,
                "scores": {},
                "scores_on": "held-out" if splits.validation is not None else "training",
            }
            timings = run.timings
            timings["data"] = time.perf_counter() - started
            with surroundings(device, mix(self.seed_, 1) % 2**63, past["machine"]["threads"] if past else None):
                self.objective_ = self.train(splits, run, callbacks)
                timings["train"] = time.perf_counter() - started - timings["data"]
                self.objective_.eval()
                self.history_, self.n_iter_ = run.history, len(run.history)
                last: dict[str, Any] = next((r for r in run.history[::-1] if r.get("epoch") == self._shown(run)), {})
                self.facts_["scores"] = {k[4:]: v for k, v in last.items() if k.startswith("val_") and v is not None}
                record.finish(self, run, learned, splits, timings, started)
        self.run_ = run

    def _read(
        self, X: Any, y: Any, validation: Any, device: torch.device, scratch: Scratch
    ) -> tuple[Learned, list[dict[str, str]], Splits]:
        """Read the data, split, and learn the schema from the training items."""
        where = type(self).__name__
        batch_size = None if getattr(probe_optimizer(self), "full_batch", False) else self.batch_size
        opened = self._opened(X, y, batch_size, scratch)
        is_share = isinstance(validation, numbers.Real)  # NumPy's numbers and, to be refused, 1 and True too
        fraction: Any = validation if is_share else self.validation_fraction if validation is None else 0
        if is_share and (not 0 <= fraction < 1 or isinstance(validation, bool)):
            raise ConfigError(f"{where}: validation as a fraction must be at least 0 and less than 1, got {validation}")
        train, held = self._split(opened.total, float(fraction or 0), self.strata(opened.y))
        learned = self.reader.learn(self, opened, train.numpy())
        self.schema_ = learned.schema
        self.targets_, target = self.learn_targets(opened.y, train.numpy())
        fields = dict(learned.fields) | _named(target)
        self.check_training(len(held) > 0 or (validation is not None and not is_share))
        fields = {name: field.to(device) for name, field in fields.items()}
        make: Callable[..., Resident] = partial(Resident, fields, device=device)
        if learned.source is not None:
            scratch.callback(learned.source.close)
            readers = ReadingProcesses(learned.source, self.workers) if self.workers else None
            if readers is not None:
                scratch.callback(readers.close)
            make = partial(Streamed, learned.source, fields, readers=readers, device=device)
        seed = mix(self.seed_, 2)
        measured = max(batch_size or 0, _PREDICT_BATCH)
        held_out: Resident | None = None
        if validation is not None and not is_share:
            pair = isinstance(validation, tuple) and len(validation) == 2
            X_held, y_held = validation if pair else (validation, y if isinstance(y, (str, tuple)) else None)
            encoded = self.encode(X_held, y_held, truth=True, on_bad=self.on_bad)
            opened.skipped += encoded.skipped
            held_out = Resident(encoded.fields, batch_size=measured, device=device)
        elif len(held):
            held_out = make(items=held, batch_size=measured)
        batches = make(
            items=train,
            batch_size=batch_size,
            shuffle=batch_size is not None,
            seed=seed,
            transform=self.make_transform(),
            by_length=self.by_length,
        )
        in_order = make(items=train, batch_size=measured)
        splits = Splits(batches, held_out, in_order, external=held_out is not None and not len(held))
        return learned, opened.skipped, splits

    def _opened(self, X: Any, y: Any, batch_size: int | None, scratch: Scratch) -> Opened:
        """X and y, read into memory or, where they are too large for it or it is asked for, left on the disk.

        Raises ConfigError where they cannot be left there, and must.
        """
        streamed: Any = getattr(self.reader, "stream", None) if batch_size is not None else None
        opened: Opened | None = None if streamed is None else streamed(self, X, y, scratch)
        if opened is None and self.stream == "always":
            why = (
                "all items are in one batch: give batch_size, and an optimiser that takes batches"
                if batch_size is None
                else "csv files and files of images can be, what lies in memory cannot"
            )
            raise ConfigError(f"{type(self).__name__}: stream='always', but these data cannot be streamed: {why}")
        return opened or self.reader.open(self, X, y)

    def _split(self, total: int, fraction: float, strata: NDArray[np.int64] | None) -> tuple[Tensor, Tensor]:
        """The items to train on and those held out, each in order; the seed decides."""
        items = np.arange(total)
        if not fraction:
            return torch.from_numpy(items), torch.arange(0)
        from sklearn.model_selection import train_test_split

        alone = items[:0]
        if strata is not None:
            few = np.bincount(strata)[strata] == 1
            alone, items = items[few], items[~few]  # the only item of a class is trained on
            if not len(items):
                raise DataError(
                    f"{type(self).__name__}: cannot hold out {fraction:g} of the items: each of the {total} items is the only "
                    "one of its class, and a class is known by several; is y a number (a regression), or a name of the item?"
                )
        try:
            train, held = train_test_split(
                items,
                test_size=fraction,
                stratify=None if strata is None else strata[items],
                random_state=mix(self.seed_, 3) % 2**32,
            )
        except ValueError as error:
            raise DataError(f"{type(self).__name__}: cannot hold out {fraction:g} of the items: {error}") from None
        return torch.from_numpy(np.sort(np.concatenate([train, alone]))), torch.from_numpy(np.sort(held))

    # -- after fit --------------------------------------------------------------------------------------------------

    @property
    def model_(self) -> torch.nn.Module:
        """The net that predicts."""
        check_is_fitted(self, "objective_")
        return self.objective_.model

    def encode(self, X: Any, y: Any = None, *, truth: bool = False, on_bad: OnBad = "raise") -> Encoded:
        """X as the fields that the net was trained on; with `truth`, also the targets, if there are any, as field "y"."""
        check_is_fitted(self, "schema_")
        encoded = self.reader.encode(self, *self._unpacked(X, y), truth=truth, on_bad=on_bad)
        if truth and encoded.y is not None:
            encoded.fields |= _named(self.encode_targets(encoded.y))
        return encoded

    def outputs(self, X: Any) -> dict[str, Tensor]:
        """What the objective's `forward` gives for X, on the CPU: name -> (N, ...)."""
        return self._forward(self._batches(self.encode(X)))

    def _unpacked(self, X: Any, y: Any) -> tuple[Any, Any]:
        """X and y of a built-in set."""
        if not isinstance(X, DataSet):
            return X, y
        inputs, targets = X.for_task(registered(type(self)).task)
        return inputs, targets if y is None else y

    def _batches(self, encoded: Encoded) -> Resident:
        device = next(self.objective_.parameters()).device
        return Resident(encoded.fields, batch_size=_PREDICT_BATCH, collate=self.objective_.collate, device=device)

    @torch.no_grad()
    def _forward(self, batches: Batches) -> dict[str, Tensor]:
        objective = copy.deepcopy(self.objective_).double() if self.precise else self.objective_
        objective.eval()
        parts = [objective(_widened(batch) if self.precise else batch) for batch in batches.epoch(0)]
        return {name: torch.cat([p[name].cpu() for p in parts]) for name in parts[0]}

    def evaluate(self, X: Any, y: Any = None) -> dict[str, float]:
        """Measures of the predictions for X against y: those that training logs, and more by the task."""
        encoded = self.encode(X, y, truth=True, on_bad=self.on_bad)
        if encoded.skipped:
            first, out = encoded.skipped[0], len(encoded.skipped)
            warnings.warn(
                f"{out} of {out + len(encoded.names)} items could not be used, and are not in these measures, such as "
                f"{first['item']}: {first['reason']}",
                stacklevel=2,
            )
        batches = self._batches(encoded)
        self.objective_.eval()
        return self.objective_.evaluate(batches)

    def learned(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """The schema and the targets as JSON, and the objective's weights."""
        config: dict[str, Any] = {
            "schema": self.schema_.to_json(),
            "n_features_in": getattr(self, "n_features_in_", None),
        }
        if hasattr(self, "feature_names_in_"):
            config["feature_names_in"] = self.feature_names_in_.tolist()
        config["targets"] = None if self.targets_ is None else self.targets_.to_json()
        config["seed"] = self.seed_
        config["facts"] = self.facts_
        return config, dict(self.objective_.state_dict())

    def restore(self, config: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        """Take back what `learned` gave."""
        self.schema_ = self.reader.schema(config["schema"])
        self.targets_ = None if config["targets"] is None else self.target_type.from_json(config["targets"])
        self.seed_ = int(config["seed"])
        self.facts_ = dict(config.get("facts") or {})
        if config["n_features_in"] is not None:
            self.n_features_in_ = int(config["n_features_in"])
        if "feature_names_in" in config:
            names = config["feature_names_in"]
            if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
                raise DataError("the names of columns in config.json are no list of text; the file is damaged")
            self.feature_names_in_ = np.array(names, dtype=object)
        objective = restored(lambda: self.build(self.schema_, self.targets_), tensors)
        self.device, device = device_here(self.device)
        self.objective_ = objective.to(device).eval()


def _named(target: Tensor | dict[str, Tensor] | None) -> dict[str, Tensor]:
    """The fields that a target gives a batch."""
    return {} if target is None else target if isinstance(target, dict) else {"y": target}


def _widened(batch: Batch) -> Batch:
    return {n: f.double() if isinstance(f, Tensor) and f.is_floating_point() else f for n, f in batch.items()}


@dataclass(kw_only=True, eq=False, repr=False)
class NeuralClassifier(ClassifierMixin, NeuralEstimator):
    """A neural estimator of classes; its objective's `forward` gives "logits" (N, C).

    class_weight: the weight of each class in the loss: "balanced", or a mapping from class to weight; None: all alike.

    Attributes after `fit`: classes_.
    """

    class_weight: Annotated[Any, Search(choices=(None, "balanced"))] = None

    target_type = ClassTargets

    def check_params(self) -> None:
        """Raise ConfigError where a parameter is out of its bounds."""
        super().check_params()
        if not (self.class_weight is None or self.class_weight == "balanced" or isinstance(self.class_weight, dict)):
            raise ConfigError(
                f"{type(self).__name__}: class_weight must be None, 'balanced' or a mapping from class to weight, got "
                f"{self.class_weight!r}"
            )

    def learn_targets(self, y: Any, train: NDArray[np.int64]) -> tuple[ClassTargets, Tensor]:
        """The classes, and each item's."""
        targets, codes = ClassTargets.learn(y, type(self).__name__)
        self.classes_ = targets.classes
        self.class_weights_ = targets.weights(self.class_weight, codes[train], type(self).__name__)
        return targets, codes

    def check_outputs(self, outputs: dict[str, Any], where: str) -> None:
        """Raise ConfigError where the net gives not one number a class."""
        shape = tuple(outputs["logits"].shape)
        if len(shape) != 2 or shape[1] != self.targets_.num_classes:
            raise ConfigError(
                f"{where} must give logits (items, {self.targets_.num_classes}), a number for each class; got {shape}"
            )

    def strata(self, y: Any) -> NDArray[np.int64]:
        """The class of each item."""
        return ClassTargets.learn(y, type(self).__name__)[1].numpy()

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """The probability of each class, (N, C), in the order of `classes_`."""
        logits = self.outputs(X)["logits"]
        return torch.softmax(logits.double(), dim=1).numpy()

    def predict_frame(self, X: Any) -> pd.DataFrame:
        """A row for each item: its name, the likeliest class, and the probability of each."""
        import pandas as pd

        encoded = self.encode(X)
        logits = self._forward(self._batches(encoded))["logits"].double()
        frame = {"item": encoded.names, "prediction": self.targets_.decode(logits.argmax(dim=1))}
        probabilities = torch.softmax(logits, dim=1).numpy()
        return pd.DataFrame(frame | {f"p({c})": probabilities[:, i] for i, c in enumerate(self.classes_)})

    def predict(self, X: Any) -> NDArray[Any]:
        """The likeliest class of each item, (N,)."""
        codes = self.outputs(X)["logits"].argmax(dim=1)
        return self.targets_.decode(codes)  # type: ignore[no-any-return]

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """The accuracy of the predictions for X; y as in `fit`. Labels that the training had not count as errors."""
        from sklearn.metrics import accuracy_score

        check_is_fitted(self, "objective_")
        encoded = self.reader.encode(self, *self._unpacked(X, y), truth=True)
        codes = self._forward(self._batches(encoded))["logits"].argmax(dim=1)
        return float(accuracy_score(encoded.y, self.targets_.decode(codes), sample_weight=sample_weight))

    def learned(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """The schema, the classes and their weights as JSON, and the objective's weights."""
        config, tensors = super().learned()
        config["class_weights"] = None if self.class_weights_ is None else self.class_weights_.tolist()
        return config, tensors

    def restore(self, config: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        """Take back what `learned` gave."""
        weights = config["class_weights"]
        self.class_weights_ = None if weights is None else torch.tensor([float(w) for w in weights])
        super().restore(config, tensors)
        self.classes_ = self.targets_.classes


@dataclass(kw_only=True, eq=False, repr=False)
class NeuralRegressor(RegressorMixin, NeuralEstimator):
    """A neural estimator of one or several numbers; its objective's `forward` gives "prediction" (N, T)."""

    target_type = NumberTargets

    def learn_targets(self, y: Any, train: NDArray[np.int64]) -> tuple[NumberTargets, Tensor]:
        """Mean and scale of the targets, and the standardised targets."""
        return NumberTargets.learn(y, train, type(self).__name__)

    def check_outputs(self, outputs: dict[str, Any], where: str) -> None:
        """Raise ConfigError where the net gives not one number a target."""
        shape = tuple(outputs["prediction"].shape)
        if len(shape) != 2 or shape[1] != self.targets_.num_targets:
            raise ConfigError(
                f"{where} must give predictions (items, {self.targets_.num_targets}), a number for each target; got {shape}"
            )

    def predict(self, X: Any) -> NDArray[np.float64]:
        """Predictions in the target's own units: (N,), or (N, T) if y was so."""
        standardised = self.outputs(X)["prediction"]
        return self.targets_.decode(standardised)  # type: ignore[no-any-return]

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """R^2 of the predictions for X, averaged over targets; y as in `fit`."""
        from sklearn.metrics import r2_score

        check_is_fitted(self, "objective_")
        encoded = self.reader.encode(self, *self._unpacked(X, y), truth=True)
        predicted = self.targets_.decode(self._forward(self._batches(encoded))["prediction"])
        return float(r2_score(encoded.y, predicted, sample_weight=sample_weight))

    def predict_frame(self, X: Any) -> pd.DataFrame:
        """A row for each item: its name, and the prediction for each target."""
        import pandas as pd

        encoded = self.encode(X)
        values = self.targets_.decode(self._forward(self._batches(encoded))["prediction"]).reshape(
            len(encoded.names), -1
        )
        names = ["prediction"] if self.targets_.num_targets == 1 else self.targets_.names
        return pd.DataFrame({"item": encoded.names} | {n: values[:, i] for i, n in enumerate(names)})

    def evaluate(self, X: Any, y: Any = None) -> dict[str, float]:
        """Loss (standardised), R^2, and in the target's own units, averaged over targets, RMSE and MAE."""
        batches = self._batches(self.encode(X, y, truth=True, on_bad=self.on_bad))
        self.objective_.eval()
        values = self.objective_.evaluate(batches)
        truth = self.targets_.decode(batches.fields["y"])
        error = self.targets_.decode(self._forward(batches)["prediction"]) - truth
        return values | {"rmse": float(np.sqrt((error**2).mean(0)).mean()), "mae": float(np.abs(error).mean())}
