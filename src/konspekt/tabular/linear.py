"""Linear, polynomial and logistic regression as networks of one layer, whose weights can be read and drawn.

Bishop 2006, chapters 3 and 4 (softmax regression: 4.3.4). Course: row B1 (document D; document L, section 2).

Shape letters in this file: B batch, F features, K categories, P terms of the polynomial, O outputs.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from konspekt.core.errors import ResourceError
from konspekt.core.params import AtLeast, MoreThan, Registered, Search
from konspekt.core.registry import system
from konspekt.core.runs import Run
from konspekt.data.readers import TableReader
from konspekt.data.tables import TableSchema
from konspekt.data.targets import ClassTargets, NumberTargets
from konspekt.engine.neural import NeuralClassifier, NeuralRegressor, Splits
from konspekt.engine.supervised import Classification, Regression

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

__all__ = ["LinearRegressor", "LogisticClassifier", "PolynomialNet"]

MAX_FACTORS = 500_000
MAX_TERMS = 100_000  # beyond that a polynomial is no model that anyone can read, nor hold in memory


class PolynomialNet(nn.Module):
    """One linear map of products of features; categories enter as ones and zeros.

    x (B, F) float, codes (B, K) int64 -> (B, O)

    degree: products of up to this many features. interactions: products of different features only.
    """

    def __init__(
        self,
        num_features: int,
        num_outputs: int,
        *,
        num_codes: Sequence[int] = (),
        degree: int = 1,
        interactions: bool = False,
    ) -> None:
        super().__init__()
        self.num_codes = tuple(num_codes)
        width = num_features + sum(n - 1 for n in num_codes)
        terms = count_terms(width, degree, interactions)
        degree = min(degree, width) if interactions else degree
        choose = itertools.combinations if interactions else itertools.combinations_with_replacement
        products = (list(choose(range(width), d)) for d in range(2, degree + 1))
        self.products = [torch.tensor(p, dtype=torch.int64).reshape(-1, d) for d, p in enumerate(products, 2)]
        for d, product in enumerate(self.products, 2):
            self.register_buffer(f"product{d}", product, persistent=False)
        self.linear = nn.Linear(terms, num_outputs)
        nn.init.zeros_(self.linear.weight)  # convex: the start does not matter, so it draws nothing
        nn.init.zeros_(self.linear.bias)

    def forward(self, x_BF: Tensor, codes_BK: Tensor | None = None) -> Tensor:
        return self.linear(self.terms(x_BF, codes_BK))  # type: ignore[no-any-return]

    def terms(self, x_BF: Tensor, codes_BK: Tensor | None = None) -> Tensor:
        """The terms of the polynomial, (B, P): the features, then their products by degree."""
        parts = [x_BF]
        if codes_BK is not None:
            # Code 0, a value that the training did not have, is all zeros.
            parts += [F.one_hot(codes_BK[:, k], n)[:, 1:].to(x_BF) for k, n in enumerate(self.num_codes)]
        features = torch.cat(parts, dim=1) if len(parts) > 1 else x_BF
        if not self.products:
            return features
        higher = [features[:, getattr(self, f"product{d}")].prod(dim=2) for d in range(2, len(self.products) + 2)]
        return torch.cat([features, *higher], dim=1)

    def names(self, schema: TableSchema) -> list[str]:
        """What each term is, (P,): "age", "sex = male", "age * bmi", "age^2"."""
        single = list(schema.feature_names)
        for column in schema.categories:
            values = (["(missing)"] if column.missing else []) + column.categories
            single += [f"{column.name} = {v}" for v in values]
        named = list(single)
        for product in self.products:
            for term in product.tolist():
                counts = {i: term.count(i) for i in dict.fromkeys(term)}
                named.append(" * ".join(single[i] + (f"^{n}" if n > 1 else "") for i, n in counts.items()))
        return named


def count_terms(width: int, degree: int, interactions: bool) -> int:
    """How many terms a polynomial over `width` features has.

    Raises ResourceError where they, or the factors in them, are too many.
    """
    terms = factors = 0
    of_degree = 1
    for d in range(1, degree + 1):
        of_degree = of_degree * (width - d + 1 if interactions else width + d - 1) // d
        terms, factors = terms + of_degree, factors + d * of_degree
        if terms > MAX_TERMS or factors > MAX_FACTORS:
            raise ResourceError(
                f"degree={degree} over {width} features makes more than {MAX_TERMS:,} terms or {MAX_FACTORS:,} factors "
                "in them; lower degree" + ("" if interactions else ", or set interactions=True")
            )
        if not of_degree:
            break
    return terms


def weight_table(net: PolynomialNet, schema: TableSchema, outputs: list[str]) -> pd.DataFrame:
    """The weights by name: one row a term and one for the constant, one column an output."""
    import pandas as pd

    weights = torch.cat([net.linear.weight, net.linear.bias[:, None]], dim=1).detach().cpu().double().numpy().T
    return pd.DataFrame(weights, index=[*net.names(schema), "(constant)"], columns=outputs)


def draw_weights(table: pd.DataFrame, most: int = 20) -> Figure:
    """The largest weights as bars, one panel an output."""
    from matplotlib.figure import Figure

    table = table.drop(index="(constant)")
    table = table.loc[table.abs().max(axis=1).sort_values().index[-most:]]
    columns = list(table.columns)
    figure = Figure(figsize=(2.2 + 2.4 * len(columns), 0.8 + 0.28 * len(table)), layout="constrained")
    axes = figure.subplots(1, len(columns), sharey=True, squeeze=False)[0]
    for ax, column in zip(axes, columns, strict=True):
        values = table[column]
        ax.barh(values.index, values, color=["#0072B2" if v >= 0 else "#D55E00" for v in values])
        ax.axvline(0, color="0.4", linewidth=0.8)
        ax.set_title(str(column), fontsize=10)
        ax.spines[["top", "right", "left"]].set_visible(False)
        ax.tick_params(left=False)
    figure.supxlabel("weight of the standardised feature", fontsize=9)
    return figure


def _keep(run: Run, table: pd.DataFrame) -> None:
    """The 30 largest weights as a matrix of the report."""
    largest = table.loc[table.abs().max(axis=1).sort_values(ascending=False).index[:30]]
    value = {"values": largest.to_numpy(), "rows": list(largest.index), "columns": [str(c) for c in largest.columns]}
    run.keep("weights", "matrix", value)


@system(
    name="logistic-classifier",
    kind="estimator",
    task="tabular-classification",
    rows=("B1", "A10", "A18"),
    paper="Bishop 2006, section 4.3.4",
)
@dataclass(kw_only=True, eq=False, repr=False)
class LogisticClassifier(NeuralClassifier):
    """Classify rows of a table by a linear (or polynomial) softmax; its weights can be read.

    X: an array (N, F) of finite numbers, a DataFrame, or a csv or parquet file, with numbers, categories,
    dates and missing values.
    y: labels (N,), or the name of a column. The parameters of training are described in `Training`.

    degree: add products of up to this many features.
    interactions: products of different features only, no powers.
    types: column -> number, category, date or ignored, where the type found is not the one meant.

    Raises DataError where a column holds what it should not, a target is missing or there is one class only;
    ResourceError where the polynomial has too many terms.
    """

    degree: Annotated[int, AtLeast(1), Search(1, 3)] = 1
    interactions: Annotated[bool, Search()] = False
    lr: Annotated[float | Literal["find"], MoreThan(0), Search(1e-4, 1e-1, log=True)] = 1e-2
    schedule: Annotated[str, Registered("schedule")] = "cosine"
    types: Mapping[str, str] | None = None

    reader = TableReader()
    precise = True

    def build(self, schema: TableSchema, targets: ClassTargets) -> Classification:
        """Cross-entropy of a linear map with one output a class."""
        return Classification(_net(self, schema, targets.num_classes), self.class_weights_)

    def weights(self) -> pd.DataFrame:
        """The weights of the standardised features by name, one column a class."""
        return weight_table(self.model_, self.schema_, [str(c) for c in self.classes_])

    def plot(self) -> Figure:
        """The largest weights as bars."""
        return draw_weights(self.weights())

    def exhibit(self, run: Run, splits: Splits) -> None:
        """The weights, for the report; a net of the user's own has no such table."""
        if self.model is None:
            _keep(run, self.weights())


@system(
    name="linear-regressor",
    kind="estimator",
    task="tabular-regression",
    rows=("B1", "A10", "A18"),
    paper="Bishop 2006, section 3.1",
)
@dataclass(kw_only=True, eq=False, repr=False)
class LinearRegressor(NeuralRegressor):
    """Predict one or several numbers by a linear (or polynomial) function; its weights can be read.

    X: an array (N, F) of finite numbers, a DataFrame, or a csv or parquet file, with numbers, categories,
    dates and missing values.
    y: numbers (N,) or (N, T), or the name of a column (a tuple of names: several). Targets are standardised inside.
    The parameters of training are described in `Training`.

    degree: add products of up to this many features.
    interactions: products of different features only, no powers.
    types: column -> number, category, date or ignored, where the type found is not the one meant.

    Raises DataError where a column holds what it should not, or a target is missing or no number; ResourceError where
    the polynomial has too many terms.
    """

    degree: Annotated[int, AtLeast(1), Search(1, 3)] = 1
    interactions: Annotated[bool, Search()] = False
    lr: Annotated[float | Literal["find"], MoreThan(0), Search(1e-4, 1e-1, log=True)] = 1e-2
    schedule: Annotated[str, Registered("schedule")] = "cosine"
    types: Mapping[str, str] | None = None

    reader = TableReader()
    precise = True

    def build(self, schema: TableSchema, targets: NumberTargets) -> Regression:
        """Squared error of a linear map with one output a target."""
        return Regression(_net(self, schema, targets.num_targets))

    def weights(self) -> pd.DataFrame:
        """The weights of the standardised features by name, one column a target, in standard deviations of the target."""
        return weight_table(self.model_, self.schema_, self.targets_.names)

    def plot(self) -> Figure:
        """The largest weights as bars."""
        return draw_weights(self.weights())

    def exhibit(self, run: Run, splits: Splits) -> None:
        """The weights, for the report; a net of the user's own has no such table."""
        if self.model is None:
            _keep(run, self.weights())

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags


def _net(estimator: LogisticClassifier | LinearRegressor, schema: TableSchema, num_outputs: int) -> nn.Module:
    own = estimator.own_net()
    return own or PolynomialNet(
        schema.num_features,
        num_outputs,
        num_codes=schema.num_codes,
        degree=estimator.degree,
        interactions=estimator.interactions,
    )
