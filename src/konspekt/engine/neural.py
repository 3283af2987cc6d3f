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
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin, RegressorMixin
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from konspekt.core.errors import ConfigError, DataError
from konspekt.core.estimator import Estimator, registered
from konspekt.core.params import Search
from konspekt.core.runs import Run
from konspekt.core.seeds import mix
from konspekt.data.batches import Batches, Resident, Transform
from konspekt.data.fields import Batch
from konspekt.data.images import OnBad
from konspekt.data.readers import Encoded, Learned, Reader, source_of
from konspekt.data.sets import DataSet
from konspekt.data.targets import ClassTargets, NumberTargets
from konspekt.engine import record
from konspekt.engine.loop import Callback, minimise, probe_optimizer
from konspekt.engine.objective import Objective
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

    # -- what a subclass says ---------------------------------------------------------------------------------------

    def build(self, schema: Any, targets: Any) -> Objective:
        """The objective for data of this schema. It is called at `fit` and at `load`, and draws from torch's generator."""
        raise NotImplementedError(f"{type(self).__name__}.build")

    def train(self, splits: Splits, run: Run, callbacks: Sequence[Callback]) -> Objective:
        """Build and minimise; a fit of several stages overrides this and calls `minimise` once for each."""
        objective = self.build(self.schema_, self.targets_).to(splits.train.device)
        minimise(objective, splits.train, self, run=run, validation=splits.validation, callbacks=callbacks)
        return objective

    def learn_targets(self, y: Any, train: NDArray[np.int64]) -> tuple[Any, Tensor | None]:
        """What is to be predicted, learned from the training items, and its tensor; None where there is nothing."""
        return None, None

    def strata(self, y: Any) -> NDArray[np.int64] | None:
        """The stratum of each item, (N,), of which training and validation get even shares; None: one for all."""
        return None

    def exhibit(self, run: Run) -> None:
        """What the report should show of this system besides: calls of `run.keep`."""

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
        device = choose_device(self.device)
        started = time.perf_counter()
        past = record.open_past(self, resume)
        self.seed_ = past["seed"] if past else secrets.randbits(31) if self.random_state is None else self.random_state
        with caller_untouched(), contextlib.closing(Run(resume or self.run_dir, resume=resume is not None)) as run:
            source = source_of(X, y, validation)
            X, y = self._unpacked(X, y)
            learned, skipped, splits = self._read(X, y, validation, device)
            record.begin(self, run, past, source, learned, skipped, splits, device)
            timings = {"data": time.perf_counter() - started}
            with surroundings(device, mix(self.seed_, 1) % 2**63, past["machine"]["threads"] if past else None):
                self.objective_ = self.train(splits, run, callbacks)
                timings["train"] = time.perf_counter() - started - timings["data"]
                self.objective_.eval()
                self.history_, self.n_iter_ = run.history, len(run.history)
                record.finish(self, run, learned, splits, timings, started)
            self.run_ = run

    def _read(
        self, X: Any, y: Any, validation: Any, device: torch.device
    ) -> tuple[Learned, list[dict[str, str]], Splits]:
        """Read the data, split, and learn the schema from the training items."""
        where = type(self).__name__
        opened = self.reader.open(self, X, y)
        is_share = isinstance(validation, numbers.Real)  # NumPy's numbers and, to be refused, 1 and True too
        fraction: Any = validation if is_share else self.validation_fraction if validation is None else 0
        if is_share and (not 0 <= fraction < 1 or isinstance(validation, bool)):
            raise ConfigError(f"{where}: validation as a fraction must be at least 0 and less than 1, got {validation}")
        train, held = self._split(opened.total, float(fraction or 0), self.strata(opened.y))
        learned = self.reader.learn(self, opened, train.numpy())
        self.schema_ = learned.schema
        self.targets_, target = self.learn_targets(opened.y, train.numpy())
        fields = dict(learned.fields) | ({} if target is None else {"y": target})
        self.check_training(len(held) > 0 or (validation is not None and not is_share))
        fields = {name: field.to(device) for name, field in fields.items()}
        batch_size = None if getattr(probe_optimizer(self), "full_batch", False) else self.batch_size
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
            held_out = Resident(fields, items=held, batch_size=measured, device=device)
        batches = Resident(
            fields,
            items=train,
            batch_size=batch_size,
            shuffle=batch_size is not None,
            seed=seed,
            transform=self.make_transform(),
            by_length=self.by_length,
            device=device,
        )
        in_order = Resident(fields, items=train, batch_size=measured, device=device)
        splits = Splits(batches, held_out, in_order, external=held_out is not None and not len(held))
        return learned, opened.skipped, splits

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
        """X as the fields that the net was trained on; with `truth`, also the targets, as field "y"."""
        check_is_fitted(self, "schema_")
        encoded = self.reader.encode(self, *self._unpacked(X, y), truth=truth, on_bad=on_bad)
        if truth and self.targets_ is not None:
            encoded.fields["y"] = self.targets_.encode(encoded.y, type(self).__name__)
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
        batches = self._batches(self.encode(X, y, truth=True))
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
        return config, dict(self.objective_.state_dict())

    def restore(self, config: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        """Take back what `learned` gave."""
        self.schema_ = self.reader.schema(config["schema"])
        self.targets_ = None if config["targets"] is None else self.target_type.from_json(config["targets"])
        self.seed_ = int(config["seed"])
        if config["n_features_in"] is not None:
            self.n_features_in_ = int(config["n_features_in"])
        if "feature_names_in" in config:
            self.feature_names_in_ = np.array(config["feature_names_in"], dtype=object)
        try:
            with torch.device("meta"):  # a damaged file may describe a net that fills the memory; here it takes none
                own = self.build(self.schema_, self.targets_).state_dict()
        except (RuntimeError, NotImplementedError):  # a net that looks at numbers while it is built
            with torch.random.fork_rng(devices=[]):
                own = self.build(self.schema_, self.targets_).state_dict()
        wrong = sorted(set(own) ^ set(tensors)) or [
            f"{n} {tuple(tensors[n].shape)} {tensors[n].dtype} for {tuple(own[n].shape)} {own[n].dtype}"
            for n in own
            if (own[n].shape, own[n].dtype) != (tensors[n].shape, tensors[n].dtype)
        ]
        if wrong:
            raise DataError(f"the weights do not fit the model that config.json describes: {', '.join(wrong[:8])}")
        broken = [n for n, t in tensors.items() if t.is_floating_point() and not bool(torch.isfinite(t).all())]
        if broken:
            raise DataError(f"weights that are NaN or infinite: {', '.join(broken[:8])}")
        with torch.random.fork_rng(devices=[]):
            objective = self.build(self.schema_, self.targets_)
        objective.load_state_dict(tensors)
        try:
            device = choose_device(self.device)
        except ConfigError as error:
            warnings.warn(f"{error}; the model is loaded with device='auto'", stacklevel=4)
            self.device = "auto"
            device = choose_device(self.device)
        self.objective_ = objective.to(device).eval()


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
        batches = self._batches(self.encode(X, y, truth=True))
        self.objective_.eval()
        values = self.objective_.evaluate(batches)
        truth = self.targets_.decode(batches.fields["y"])
        error = self.targets_.decode(self._forward(batches)["prediction"]) - truth
        return values | {"rmse": float(np.sqrt((error**2).mean(0)).mean()), "mae": float(np.abs(error).mean())}
