"""The multilayer perceptron on tables: regression of one or several targets, binary and multiclass classification.

Rumelhart, Hinton and Williams 1986. Categories are embedded as in Guo and Berkhahn 2016
(https://arxiv.org/abs/1604.06737). Course: row B2 (document L, section 2; document I, section 15; document D).

Shape letters in this file: B batch, F features, K categories, H hidden units, O outputs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from torch import Tensor, nn

from konspekt.core.errors import ConfigError, ResourceError
from konspekt.core.params import AtLeast, LessThan, Registered, Search
from konspekt.core.registry import system
from konspekt.data.readers import TableReader
from konspekt.data.tables import TableSchema
from konspekt.data.targets import ClassTargets, NumberTargets
from konspekt.engine.neural import NeuralClassifier, NeuralRegressor
from konspekt.engine.supervised import Classification, Regression
from konspekt.nn import activation as make_activation
from konspekt.nn import initialise, norm_layer

__all__ = ["MLP", "MLPClassifier", "MLPRegressor"]

Norm = Literal["none", "batch", "renorm", "layer"]


class MLP(nn.Module):
    """Linear layers with an activation after each but the last; category codes are embedded beside the numbers.

    x (B, F) float, codes (B, K) int64 -> (B, O)
    """

    def __init__(
        self,
        num_features: int,
        num_outputs: int,
        *,
        num_codes: Sequence[int] = (),
        hidden: Sequence[int] = (64, 64),
        activation: str = "relu",
        init: str | None = None,
        dropout: float = 0.0,
        norm: Norm = "none",
    ) -> None:
        super().__init__()
        # Code 0, a value that the training did not have, stays the zero vector: no column, no opinion.
        self.embeddings = nn.ModuleList(nn.Embedding(n, embedding_size(n), padding_idx=0) for n in num_codes)
        width = num_features + sum(embedding_size(n) for n in num_codes)
        layers: list[nn.Module] = []
        for units in hidden:
            layers.append(nn.Linear(width, units))
            if (layer := norm_layer(norm, units, 1)) is not None:
                layers.append(layer)
            layers.append(make_activation(activation))
            if dropout:
                layers.append(nn.Dropout(dropout))
            width = units
        layers.append(nn.Linear(width, num_outputs))
        self.layers = nn.Sequential(*layers)
        initialise(self, init or ("he" if "relu" in activation else "xavier"))

    def forward(self, x_BF: Tensor, codes_BK: Tensor | None = None) -> Tensor:
        if codes_BK is None:
            return self.layers(x_BF)  # type: ignore[no-any-return]
        embedded = [embed(codes_BK[:, k]) for k, embed in enumerate(self.embeddings)]
        return self.layers(torch.cat([x_BF, *embedded], dim=1))  # type: ignore[no-any-return]


def embedding_size(num_codes: int) -> int:
    """How many numbers stand for a category: half as many as it has values, at most 50."""
    return min(50, (num_codes + 1) // 2)


@system(
    name="mlp-classifier",
    kind="estimator",
    task="tabular-classification",
    rows=("B2", "A6", "A7", "A8", "A10", "A13", "A18"),
    paper="Rumelhart, Hinton and Williams 1986",
)
@dataclass(kw_only=True, eq=False, repr=False)
class MLPClassifier(NeuralClassifier):
    """Classify rows of a table by a multilayer perceptron.

    X: an array (N, F) of finite numbers, a DataFrame, or a csv or parquet file, with numbers, categories,
    dates and missing values.
    y: labels (N,), or the name of a column. The parameters of training are described in `Training`.

    hidden: the units of each hidden layer; empty for none.
    activation: what follows each hidden layer.
    init: how the matrices start; None: he before a ReLU, xavier otherwise.
    dropout: the share of hidden units dropped at each training step.
    norm: a normalisation before each activation.
    types: column -> number, category, date or ignored, where the type found is not the one meant.

    Raises DataError where a column holds what it should not, a target is missing or there is one class only;
    ResourceError where the net does not fit in memory.
    """

    hidden: tuple[Annotated[int, AtLeast(1)], ...] = (64, 64)
    activation: Annotated[str, Registered("activation"), Search(choices=("relu", "tanh", "leaky-relu"))] = "relu"
    init: Annotated[str | None, Registered("init")] = None
    dropout: Annotated[float, AtLeast(0), LessThan(1), Search(0.0, 0.5)] = 0.0
    norm: Annotated[Norm, Search()] = "none"
    types: Mapping[str, str] | None = None

    reader = TableReader()
    precise = True

    def build(self, schema: TableSchema, targets: ClassTargets) -> Classification:
        """Cross-entropy of an MLP with one output a class."""
        return Classification(_net(self, schema, targets.num_classes), self.class_weights_)


@system(
    name="mlp-regressor",
    kind="estimator",
    task="tabular-regression",
    rows=("B2", "A6", "A7", "A8", "A10", "A13", "A18"),
    paper="Rumelhart, Hinton and Williams 1986",
)
@dataclass(kw_only=True, eq=False, repr=False)
class MLPRegressor(NeuralRegressor):
    """Predict one or several numbers from rows of a table by a multilayer perceptron.

    X: an array (N, F) of finite numbers, a DataFrame, or a csv or parquet file, with numbers, categories,
    dates and missing values.
    y: numbers (N,) or (N, T), or the name of a column (a tuple of names: several). Targets are standardised inside.
    The parameters of training are described in `Training`.

    hidden: the units of each hidden layer; empty for none.
    activation: what follows each hidden layer.
    init: how the matrices start; None: he before a ReLU, xavier otherwise.
    dropout: the share of hidden units dropped at each training step.
    norm: a normalisation before each activation.
    types: column -> number, category, date or ignored, where the type found is not the one meant.

    Raises DataError where a column holds what it should not, or a target is missing or no number; ResourceError where
    the net does not fit in memory.
    """

    hidden: tuple[Annotated[int, AtLeast(1)], ...] = (64, 64)
    activation: Annotated[str, Registered("activation"), Search(choices=("relu", "tanh", "leaky-relu"))] = "relu"
    init: Annotated[str | None, Registered("init")] = None
    dropout: Annotated[float, AtLeast(0), LessThan(1), Search(0.0, 0.5)] = 0.0
    norm: Annotated[Norm, Search()] = "none"
    types: Mapping[str, str] | None = None

    reader = TableReader()
    precise = True

    def build(self, schema: TableSchema, targets: NumberTargets) -> Regression:
        """Squared error of an MLP with one output a target."""
        return Regression(_net(self, schema, targets.num_targets))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags


def _net(estimator: MLPClassifier | MLPRegressor, schema: TableSchema, num_outputs: int) -> nn.Module:
    own = estimator.own_net()
    if own is not None:
        return own
    if estimator.norm == "batch" and estimator.batch_size == 1:
        raise ConfigError(f"{type(estimator).__name__}: norm='batch' needs batches of several items, got batch_size=1")
    try:
        return MLP(
            schema.num_features,
            num_outputs,
            num_codes=schema.num_codes,
            hidden=estimator.hidden,
            activation=estimator.activation,
            init=estimator.init,
            dropout=estimator.dropout,
            norm=estimator.norm,
        )
    except (RuntimeError, TypeError) as error:  # torch's, where a size exceeds the memory or 64 bits
        if max(estimator.hidden, default=0) < 2**16:
            raise
        raise ResourceError(
            f"{type(estimator).__name__}: a net with hidden={estimator.hidden} does not fit in memory; lower hidden "
            f"({str(error).splitlines()[0][:120]})"
        ) from None
