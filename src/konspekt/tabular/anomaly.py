"""Anomaly detection by reconstruction: rows that an autoencoder, trained on all of them, gives back badly are odd.

Hawkins, He, Williams and Baxter 2002 (https://doi.org/10.1007/3-540-46145-0_17); noise on the input as in Vincent et
al. 2008 (https://doi.org/10.1145/1390156.1390294). Names and signs are those of scikit-learn's outlier detectors.
Course: row B3 (document L, section 1, which names the task; document H, 1.1.33, has the autoencoder).

Shape letters in this file: N rows, B batch, F numbers, K categories, V values to give back, C columns of the table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import OutlierMixin
from torch import Tensor, nn
from torch.nn import functional as F

from konspekt.core.errors import ConfigError, DataError, ResourceError
from konspekt.core.params import AtLeast, LessThan, MoreThan, Registered, Search, Within
from konspekt.core.registry import system
from konspekt.core.runs import Run
from konspekt.data.batches import Batches
from konspekt.data.fields import Batch, Field
from konspekt.data.readers import TableReader
from konspekt.data.sets import DataSet
from konspekt.data.tables import Column, TableSchema
from konspekt.engine.loop import Callback
from konspekt.engine.neural import NeuralEstimator, Splits
from konspekt.engine.objective import Objective
from konspekt.engine.supervised import inputs_of
from konspekt.tabular.mlp import MLP

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["AnomalyDetector", "Autoencoder", "Reconstruction", "is_anomaly", "threshold"]

_BINS, _LISTED = 40, 20


class Autoencoder(nn.Module):
    """A perceptron to a few numbers, and its mirror image back; nothing bends the few numbers in the middle.

    x (B, F) float, codes (B, K) int64 -> (B, V): a number for each of x, then a logit for each code of each category
    """

    def __init__(
        self,
        num_features: int,
        bottleneck: int,
        *,
        num_codes: Sequence[int] = (),
        hidden: Sequence[int] = (64,),
        activation: str = "tanh",
        init: str | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        more: dict[str, Any] = {"activation": activation, "init": init, "dropout": dropout}
        self.encoder = MLP(num_features, bottleneck, num_codes=num_codes, hidden=hidden, **more)
        self.decoder = MLP(bottleneck, num_features + sum(num_codes), hidden=tuple(hidden)[::-1], **more)

    def forward(self, x_BF: Tensor, codes_BK: Tensor | None = None) -> Tensor:
        return self.decoder(self.encoder(x_BF, codes_BK))  # type: ignore[no-any-return]


class Reconstruction(Objective):
    """What giving a row back costs, a mean over the columns of the table; targets have no part in it.

    A number costs the square of its error, in standard deviations; a category the cross-entropy of its code and the
    indicator of a gap that of its logit, in nats. A number that was missing costs nothing: only its indicator counts.

    `loss` is what is minimised, over numbers that are clipped; `item_losses` and `forward` give the error that tells how odd
    a row is, over numbers as they are.

    model: x (B, F), codes (B, K) -> (B, F + the sum of the numbers of codes).
    noise: the standard deviation of what is added to each number in training; the net is to give back what was there before.
    clip: numbers beyond so many standard deviations look to the net as if they were there. None: as they are.
    error: of how odd a row is, what a number costs: its squared error, or log(1 + squared error).
    """

    higher_is_better = ("roc_auc", "average_precision")
    binary: Tensor
    gate: Tensor

    def __init__(
        self,
        model: nn.Module,
        schema: TableSchema,
        noise: float = 0.0,
        clip: float | None = None,
        error: Literal["squared", "log"] = "squared",
    ) -> None:
        super().__init__()
        self.model = model
        self.noise, self.clip, self.error = noise, clip, error
        self.num_codes = schema.num_codes
        self.columns, self.column_of, binary, gate = _layout(schema)
        self.register_buffer("binary", torch.tensor(binary, dtype=torch.bool), persistent=False)  # (F,)
        self.register_buffer("gate", torch.tensor(gate, dtype=torch.int64), persistent=False)  # (F,); -1: none

    def forward(self, batch: Batch) -> dict[str, Field]:
        x: Any = batch["x"]
        errors = self._costs(batch, x, x, log=self.error == "log")
        return {"errors": errors, "loss": errors.sum(dim=1) / len(self.columns)}

    def loss(self, batch: Batch, player: str) -> dict[str, Tensor]:
        x: Any = batch["x"]
        seen = x + self.noise * torch.randn_like(x) * ~self.binary if self.training and self.noise else x
        return {"loss": self._costs(batch, seen, self._clipped(x)).sum(dim=1).mean() / len(self.columns)}

    def item_losses(self, batch: Batch) -> Tensor:
        return self(batch)["loss"]  # type: ignore[no-any-return]

    def _clipped(self, x_BF: Tensor) -> Tensor:
        return x_BF if self.clip is None else x_BF.clamp(-self.clip, self.clip)

    def _costs(self, batch: Batch, seen: Tensor, wanted: Tensor, *, log: bool = False) -> Tensor:
        """What giving back the numbers `wanted` (B, F), and the codes, costs where the net sees `seen`: (B, F + K)."""
        codes: Any = batch.get("codes")
        width = seen.shape[1]
        out = self.model(*inputs_of(batch | {"x": self._clipped(seen)}, ("x", "codes")))
        if out.shape != (len(seen), width + sum(self.num_codes)):
            raise ConfigError(
                f"the net must give back ({len(seen)}, {width + sum(self.num_codes)}): {width} numbers and a logit for each of "
                f"{sum(self.num_codes)} codes; got {tuple(out.shape)}"
            )
        numbers = out[:, :width]
        costs = (numbers - wanted).square()
        costs = costs.log1p() if log else costs
        if bool(self.binary.any()):
            there = 1 - F.pad(wanted, (0, 1))[:, self.gate]  # the last column, where gate is -1, is 0: always there
            marks = F.binary_cross_entropy_with_logits(numbers, wanted, reduction="none")
            costs = torch.where(self.binary, marks, costs * there)
        if codes is None:
            return costs
        logits = out[:, width:].split(self.num_codes, dim=1)
        of_codes = [F.cross_entropy(z, codes[:, k], reduction="none") for k, z in enumerate(logits)]
        return torch.cat([costs, torch.stack(of_codes, dim=1)], dim=1)

    @torch.no_grad()
    def evaluate(self, batches: Batches) -> dict[str, float]:
        """Loss, as it is minimised; and where the batches have labels of both kinds, ROC-AUC and average precision."""
        loss, errors, labels = 0.0, [], []
        for batch in batches.epoch(0):
            loss += float(self.loss(batch, "model")["loss"]) * len(batch["index"])
            if "y" in batch:
                errors.append(self.item_losses(batch).cpu())
                labels.append(batch["y"].cpu())  # type: ignore[union-attr]
        values = {"loss": loss / batches.num_items}
        if labels and bool(torch.isfinite(torch.cat(errors)).all()):
            values |= _ranking(torch.cat(labels).numpy(), torch.cat(errors).numpy())
        return values


def _ranking(labels: NDArray[Any], errors: NDArray[Any]) -> dict[str, float]:
    """How well errors tell labels (1: an anomaly) apart; nothing where there is one kind only."""
    from sklearn.metrics import average_precision_score, roc_auc_score

    if len(np.unique(labels)) < 2:
        return {}
    return {
        "roc_auc": float(roc_auc_score(labels, errors)),
        "average_precision": float(average_precision_score(labels, errors)),
    }


def _layout(schema: TableSchema) -> tuple[list[Column], list[int], list[bool], list[int]]:
    """The columns that count (C); of each error its column (F + K); of each number whether it is an indicator (F), and
    the place of the indicator that says whether it was missing (F), -1 where there is none.
    """
    columns = [c for c in schema.columns if c.type != "ignored"]
    place = {c.name: i for i, c in enumerate(columns)}
    marked = [c for c in schema.numbers if c.indicator]
    indicator = {c.name: len(schema.numbers) + i for i, c in enumerate(marked)}
    of = [place[c.name] for c in (*schema.numbers, *marked)]
    binary = [False] * len(schema.numbers) + [True] * len(marked)
    gate = [indicator.get(c.name, -1) for c in schema.numbers] + [-1] * len(marked)
    for c in schema.dates:
        names = c.date_names
        own = int(c.indicator)
        gate += [len(of) + len(names) - 1 if own else -1] * (len(names) - own) + [-1] * own
        binary += [False] * (len(names) - own) + [True] * own
        of += [place[c.name]] * len(names)
    return columns, of + [place[c.name] for c in schema.categories], binary, gate


def is_anomaly(y: Any, outlier_label: str | None, where: str) -> NDArray[np.bool_]:
    """Which of the labels y (N,) say that a row is an anomaly.

    1 or True is an anomaly and 0 or False is none; or, as `predict` has it, -1 is an anomaly and 1 is none; or
    `outlier_label`, compared as text, is an anomaly and everything else is none.

    Raises DataError where that cannot be told.
    """
    values = np.asarray(y)
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1:
        raise DataError(f"{where}: y must be a label for each row, (N,), got the shape {values.shape}")
    plain = [v.item() if isinstance(v, np.generic) else v for v in values]
    gone = [i for i, v in enumerate(plain) if v is None or v != v or type(v).__name__ == "NAType"]
    if gone:
        raise DataError(f"{where}: y is missing in {len(gone)} of {len(plain)} rows: {gone[:20]} (counted from 0)")
    if outlier_label is not None:
        texts = [str(int(v)) if isinstance(v, float) and v.is_integer() else str(v) for v in plain]
        return np.array([t == outlier_label for t in texts])
    found = set(plain)
    if found <= {0, 1} and (0 in found or all(isinstance(v, bool) for v in plain)):
        return np.array([v == 1 for v in plain])
    if found <= {-1, 1} and -1 in found:
        return np.array([v == -1 for v in plain])
    some = ", ".join(sorted(map(repr, found))[:5]) + (", ..." if len(found) > 5 else "")
    raise DataError(
        f"{where}: y must be 1 or True for an anomaly and 0 or False for none, or -1 for an anomaly and 1 for none; it holds "
        f"{some}; outlier_label=... says which value is an anomaly"
    )


def threshold(scores: NDArray[np.float64], contamination: float | Literal["auto"]) -> float:
    """The score below which a row is an anomaly, from those of the training rows (N,), which are at most 0.

    A share is the quantile of that share. "auto" is Tukey's upper fence (1977), Q3 + 1.5 (Q3 - Q1), of the roots of the
    errors: the root of a squared error is a distance in standard deviations. Of normal residuals it takes 1.6 % of the rows
    where they lie in one direction and fewer, towards 0.35 %, in many. A few rows far out do not move it, no share need be
    known, and where nothing stands apart there may be no anomaly.
    """
    if contamination != "auto":
        return float(np.percentile(scores, 100 * contamination))
    low, high = np.percentile(np.sqrt(-scores), [25, 75])
    return -float((high + 1.5 * (high - low)) ** 2)


@system(
    name="anomaly-detector",
    kind="estimator",
    task="anomaly-detection",
    rows=("B3", "A18"),
    paper="Hawkins, He, Williams and Baxter 2002",
)
@dataclass(kw_only=True, eq=False, repr=False)
class AnomalyDetector(OutlierMixin, NeuralEstimator):
    """Find the odd rows of a table: those that an autoencoder gives back badly.

    X: an array (N, F) of finite numbers, a DataFrame or a csv file with numbers, categories and missing values.
    y: not needed, and never used in training. Where it is given, or the name of its column, the scores are measured
    against it: 1 or True is an anomaly, 0 or False is none; or -1 is an anomaly and 1 is none. An array that is neither is
    left aside, and the log says so; a named column that is neither is refused. The parameters of training are described in `Training`.

    `score_samples` is minus the reconstruction error, so that higher is more normal; `decision_function` is that minus
    `offset_`; `predict` gives 1 where it is at least 0, and -1 for an anomaly: as scikit-learn's IsolationForest.

    hidden: the units of each hidden layer up to the bottleneck; the decoder has them in reverse. Empty for none.
    bottleneck: how many numbers a row is squeezed into; None: a third as many as it has columns, at least 1.
    activation: what follows each hidden layer.
    init: how the matrices start; None: he before a ReLU, xavier otherwise.
    dropout: the share of hidden units dropped at each training step.
    noise: the standard deviation of what is added to the standardised numbers at each training step.
    clip: numbers beyond so many standard deviations look to the net as if they were there, and training wants them back so:
        what lies far out neither draws the net to it nor can be given back. The error counts all of it. None: as they are.
    error: what a number costs, of how odd a row is: log(1 + its squared error), so that one column that lies far out does
        not outweigh all the others, or its squared error. What is minimised is the squared error, always.
    contamination: the share of anomalies, which sets the threshold among the scores of the training rows; auto: Tukey's
        fence (see `threshold`).
    outlier_label: the value of y that is an anomaly, where y holds neither 0 and 1 nor -1 and 1.
    types: column -> number, category, date or ignored, where the type found is not the one meant.

    Attributes after `fit`: offset_ (the threshold among the scores).

    Raises DataError where a column holds what it should not; ResourceError where the net does not fit in memory.
    """

    hidden: tuple[Annotated[int, AtLeast(1)], ...] = (64,)
    bottleneck: Annotated[int | None, AtLeast(1), Search(1, 16)] = None
    activation: Annotated[str, Registered("activation"), Search(choices=("relu", "tanh", "leaky-relu"))] = "tanh"
    init: Annotated[str | None, Registered("init")] = None
    dropout: Annotated[float, AtLeast(0), LessThan(1), Search(0.0, 0.5)] = 0.0
    noise: Annotated[float, AtLeast(0), Search(0.0, 0.5)] = 0.0
    clip: Annotated[float | None, AtLeast(1), Search(1.0, 4.0)] = 2.0
    error: Annotated[Literal["log", "squared"], Search()] = "log"
    contamination: Annotated[float | Literal["auto"], MoreThan(0), Within(0, 0.5)] = "auto"
    outlier_label: str | None = None
    types: Mapping[str, str] | None = None

    reader = TableReader()
    precise = True
    supervised = False

    def build(self, schema: TableSchema, targets: None) -> Reconstruction:
        """The reconstruction error of an autoencoder."""
        net = self.own_net()
        width = schema.num_features + len(schema.num_codes)
        try:
            net = net or Autoencoder(
                schema.num_features,
                self.bottleneck or max(1, width // 3),
                num_codes=schema.num_codes,
                hidden=self.hidden,
                activation=self.activation,
                init=self.init,
                dropout=self.dropout,
            )
        except (RuntimeError, TypeError) as error:  # torch's, where a size exceeds the memory or 64 bits
            if max(*self.hidden, self.bottleneck or 0, 0) < 2**16:
                raise
            raise ResourceError(
                f"{type(self).__name__}: a net with hidden={self.hidden}, bottleneck={self.bottleneck} does not fit in "
                f"memory; lower them ({str(error).splitlines()[0][:120]})"
            ) from None
        return Reconstruction(net, schema, self.noise, self.clip, self.error)

    def learn_targets(self, y: Any, train: NDArray[np.int64]) -> tuple[None, Tensor | None]:
        """Nothing to learn; the labels, for measures, where y has such."""
        self._unused = ""
        if y is None:
            return None, None
        try:
            codes = self.encode_targets(y)
            if self.outlier_label is not None and not bool(codes.any()):
                values = sorted({str(v) for v in np.asarray(y).ravel().tolist()})
                raise DataError(
                    f"{type(self).__name__}: no row has outlier_label={self.outlier_label!r}; the values of y are "
                    + ", ".join(map(repr, values[:12]))
                    + (", ..." if len(values) > 12 else "")
                )
            return None, codes
        except DataError as error:
            if self.outlier_label is not None or getattr(y, "name", None) is not None:  # a column with a name was meant
                raise
            self._unused = f"no measures by labels: {error}"
            return None, None

    def encode_targets(self, y: Any) -> Tensor:
        """1 for an anomaly, 0 for none, (N,) int64."""
        return torch.from_numpy(is_anomaly(y, self.outlier_label, type(self).__name__).astype(np.int64))

    def _unpacked(self, X: Any, y: Any) -> tuple[Any, Any]:
        """X and y of a built-in set; its classes are no labels of anomalies, unless `outlier_label` says which one is."""
        named = isinstance(X, DataSet) and y is None and self.outlier_label is None
        X, y = super()._unpacked(X, y)
        return X, None if named else y

    def train(self, splits: Splits, run: Run, callbacks: Sequence[Callback]) -> Objective:
        """Minimise the error, and set the threshold among the scores of the training rows."""
        if self._unused:
            run.log(self._unused, warning=True)
        objective = self.objective_ = super().train(splits, run, callbacks)
        if run.rehearsal is None:
            outputs = self._forward(splits.in_order)
            scores = _scores(outputs)
            self.offset_ = threshold(scores, self.contamination)
            if run.path is not None:
                self._seen = splits.in_order, scores, outputs["errors"].numpy()
        return objective

    def exhibit(self, run: Run, splits: Splits) -> None:
        """How the errors of the training rows are spread, with the threshold; and the oddest of them, with the reason."""
        in_order, scores, errors = self.__dict__.pop("_seen")
        items = in_order.items.numpy()
        labels = in_order.fields["y"].cpu().numpy()[items] if "y" in in_order.fields else None
        run.keep(
            "share of the training rows by error",
            "curve",
            _spread(-scores, labels) | {"threshold": ([-self.offset_] * 2, [0.0, 1.0])},
        )
        order = np.argsort(scores, kind="stable")[:_LISTED]
        shares = self._shares(errors[order])
        names = [c.name for c in self.objective_.columns]  # type: ignore[attr-defined]
        rows = []
        for at, row in zip(order, shares, strict=True):
            first = np.argsort(-row, kind="stable")[:3]
            reason = ", ".join(f"{names[c]} {row[c]:.0%}" for c in first if row[c] >= 0.01 or c == first[0])
            label = {} if labels is None else {"label": "anomaly" if labels[at] else "normal"}
            found = "anomaly" if scores[at] < self.offset_ else "normal"
            rows.append(
                {"item": items[at], "error": -scores[at], "prediction": found, **label, "share of the error": reason}
            )
        run.keep("oddest training rows", "table", rows)

    # -- after fit --------------------------------------------------------------------------------------------------

    def score_samples(self, X: Any) -> NDArray[np.float64]:
        """Minus the reconstruction error of each row, (N,): higher is more normal."""
        return _scores(self.outputs(X))

    def decision_function(self, X: Any) -> NDArray[np.float64]:
        """The score of each row minus the threshold, (N,): below 0 is an anomaly."""
        return self.score_samples(X) - self.offset_

    def predict(self, X: Any) -> NDArray[np.int64]:
        """1 for a row that is normal, -1 for an anomaly, (N,)."""
        return np.where(self.decision_function(X) < 0, -1, 1)

    def explain_scores(self, X: Any) -> pd.DataFrame:
        """Why a row is odd: the share of its error that each column brings, (N, C); a row sums to 1."""
        import pandas as pd

        shares = self._shares(self.outputs(X)["errors"].numpy())
        return pd.DataFrame(shares, columns=[c.name for c in self.objective_.columns])  # type: ignore[attr-defined]

    def predict_frame(self, X: Any) -> pd.DataFrame:
        """A row for each item: its name, 1 or -1, its error, and the column that brings most of it with the share."""
        import pandas as pd

        encoded = self.encode(X)
        outputs = self._forward(self._batches(encoded))
        scores, shares = _scores(outputs), self._shares(outputs["errors"].numpy())
        names = np.array([c.name for c in self.objective_.columns], dtype=object)  # type: ignore[attr-defined]
        return pd.DataFrame(
            {
                "item": encoded.names,
                "prediction": np.where(scores - self.offset_ < 0, -1, 1),
                "error": -scores,
                "column": names[shares.argmax(axis=1)],
                "share": shares.max(axis=1),
            }
        )

    def _shares(self, errors: NDArray[Any]) -> NDArray[np.float64]:
        """Errors (N, F + K) as shares of the columns (N, C); where there is no error, equal ones."""
        objective: Any = self.objective_
        totals = np.zeros((len(errors), len(objective.columns)))
        for place, column in enumerate(objective.column_of):
            totals[:, column] += errors[:, place]
        whole = totals.sum(axis=1, keepdims=True)
        return np.where(whole > 0, totals / np.where(whole > 0, whole, 1.0), 1.0 / totals.shape[1])

    def learned(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """The schema and the threshold as JSON, and the objective's weights."""
        config, tensors = super().learned()
        return config | {"offset": self.offset_}, tensors

    def restore(self, config: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        """Take back what `learned` gave."""
        super().restore(config, tensors)
        self.offset_ = float(config["offset"])
        if not np.isfinite(self.offset_) or self.offset_ > 0:
            raise DataError(f"the threshold of the scores is {self.offset_}, but it must be a finite number, at most 0")

    def card_limits(self) -> list[str]:
        """What the model must not be trusted with."""
        return [*super().card_limits(), "Odd is not bad: what it finds is unlike the training rows, nothing else."]


def _scores(outputs: Mapping[str, Tensor]) -> NDArray[np.float64]:
    """Minus the error of each row (N,), in 64 bits but to the precision of 32.

    The last bits of a sum depend on how many rows a batch has, and the row that is the threshold must not change sides.
    """
    return -outputs["loss"].float().double().numpy()  # type: ignore[no-any-return]


def _spread(errors: NDArray[np.float64], labels: NDArray[Any] | None) -> dict[str, Any]:
    """A histogram of errors as a line, over the logarithm where they span decades; one for each kind of label."""
    positive = errors[errors > 0]
    low, high = (float(positive.min()), float(positive.max())) if len(positive) else (0.0, 1.0)
    low = max(low, high * 1e-6)
    edges = np.geomspace(low, high, _BINS + 1) if high > 30 * low else np.linspace(0, high or 1.0, _BINS + 1)
    middle = (edges[1:] + edges[:-1]) / 2
    kinds = {"rows": errors} if labels is None else {"normal": errors[labels == 0], "anomalies": errors[labels == 1]}
    clipped = {name: np.clip(values, edges[0], edges[-1]) for name, values in kinds.items() if len(values)}
    return {name: (middle, np.histogram(values, edges)[0] / len(values)) for name, values in clipped.items()}
