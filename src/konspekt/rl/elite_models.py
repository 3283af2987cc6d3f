"""What the cross-entropy method fits to the pairs of its elites: a table, or a model of scikit-learn. Course: row R2.

A model gives, for observations (N, ...), the probability of each action (N, A), or the mean of continuous actions (N, D). It is
rebuilt from the pairs that it was fitted to, so that nothing of scikit-learn's has to be stored, and no pickle is needed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from konspekt.core.errors import ConfigError
from konspekt.rl.discretise import Discretiser

__all__ = ["ClassifierPolicy", "RegressorPolicy", "TablePolicy", "estimator_of", "features", "starts_of"]

TREES = 20


def features(space: gymnasium.Space[Any], observations: NDArray[Any]) -> NDArray[np.float64]:
    """Observations (N, ...) as columns (N, F): numbered ones as indicators."""
    if isinstance(space, spaces.Discrete):
        return np.eye(int(space.n))[observations.astype(np.int64) - int(space.start)]
    if isinstance(space, spaces.MultiDiscrete):
        flat = observations.reshape(len(observations), -1) - space.start.ravel()
        return np.concatenate(
            [np.eye(int(k))[flat[:, d].astype(np.int64)] for d, k in enumerate(space.nvec.ravel())], 1
        )
    return observations.reshape(len(observations), -1).astype(np.float64)


def starts_of(space: gymnasium.Space[Any]) -> Callable[[NDArray[Any]], NDArray[Any]]:
    """What foretells how a session ends: first observations (E, ...) -> (E, F), those of boxes with their squares.

    Numbered ones stay numbers (E,): each is a group of its own.
    """

    def columns(observations: NDArray[Any]) -> NDArray[Any]:
        if isinstance(space, spaces.Discrete):
            return np.asarray(observations, np.int64)
        found = features(space, observations)
        return np.concatenate([found, found**2], axis=1) if isinstance(space, spaces.Box) else found

    return columns


def estimator_of(model: Any, seed: int, *, continuous: bool, owner: str) -> Any:
    """A model of scikit-learn, unfitted, that draws from `seed`.

    model: forest, logistic-regression, or an estimator, which is cloned. Raises ConfigError where it cannot do what is asked.
    """
    from sklearn.base import clone, is_classifier, is_regressor

    if isinstance(model, str):
        made = _named(model, continuous)
        if made is None:
            raise ConfigError(
                f"{owner}: model={model!r} is a classifier, and the actions are numbers: give action_bins=5, or model='forest'"
            )
    elif not (hasattr(model, "get_params") and (is_classifier(model) or is_regressor(model))):
        raise ConfigError(
            f"{owner}: model must be 'table', 'forest', 'logistic-regression', or a classifier or regressor of scikit-learn, got {model!r}"
        )
    elif is_regressor(model) != continuous:
        kind, other = (
            ("numbers", "a regressor, or action_bins=5 with a classifier")
            if continuous
            else ("choices", "a classifier")
        )
        raise ConfigError(f"{owner}: the actions are {kind}, for which model must be {other}, got {model!r}")
    else:
        made = clone(model)
    if not continuous and not hasattr(made, "predict_proba"):
        raise ConfigError(
            f"{owner}: {type(made).__name__} gives no probabilities of classes (predict_proba); take another model"
        )
    seeds = {name: seed % 2**31 for name in made.get_params() if name.split("__")[-1] == "random_state"}
    return made.set_params(**seeds)


def _named(model: str, continuous: bool) -> Any:
    from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if model == "forest":
        kind = RandomForestRegressor if continuous else RandomForestClassifier
        return kind(n_estimators=TREES, min_samples_leaf=5, n_jobs=1)
    return None if continuous else make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))


class TablePolicy:
    """Counts: pi(a given s) is how often a was chosen in s over how often s was met; continuous actions by their mean in s.

    What the elites did not meet stays as it was. lr: the share of the way that a state goes to its counts (de Boer et al. 2005).
    prior: visits that what stands in the table counts for beside those of the elites, so that a state which was met once hardly
    moves. values: (S, A) probabilities, or (S, D) means.
    """

    def __init__(
        self, cells: Discretiser, first: NDArray[np.float64], lr: float, discrete: bool, prior: float = 0.0
    ) -> None:
        self.cells, self.lr, self.discrete, self.prior = cells, lr, discrete, prior
        self.values = np.tile(first, (cells.size, 1))

    def fit(self, observations: NDArray[Any], actions: NDArray[Any]) -> None:
        """actions: (N,) numbers of choices, or (N, D)."""
        sums, counts = np.zeros_like(self.values), np.zeros(self.cells.size)
        given = np.eye(self.values.shape[1])[actions] if self.discrete else actions
        for rows in self.cells.rows(observations).T:
            np.add.at(sums, rows, given)
            counts += np.bincount(rows, minlength=len(counts))
        met = counts > 0
        share = self.lr * counts[met, None] / (counts[met, None] + self.prior)
        self.values[met] += share * (sums[met] / counts[met, None] - self.values[met])

    def predict(self, observations: NDArray[Any]) -> NDArray[np.float64]:
        """(N, ...) -> (N, A) or (N, D); of tilings the mean."""
        return self.values[self.cells.rows(observations)].mean(axis=1)  # type: ignore[no-any-return]


class ClassifierPolicy:
    """Probabilities of a classifier that was fitted to the pairs; classes that the elites lack have none, and one alone has all."""

    def __init__(self, space: gymnasium.Space[Any], actions: int) -> None:
        self.space, self.actions, self.model = space, actions, None
        self.only: int | None = None

    def fit(self, observations: NDArray[Any], actions: NDArray[Any], model: Any) -> None:
        """Fit a fresh model, unless there is nothing to tell apart."""
        classes = np.unique(actions)
        self.only = int(classes[0]) if len(classes) == 1 else None
        self.model = model if self.only is not None else model.fit(features(self.space, observations), actions)

    def predict(self, observations: NDArray[Any]) -> NDArray[np.float64]:
        """(N, ...) -> (N, A); even before the first fit."""
        found = np.zeros((len(observations), self.actions))
        if self.only is not None:
            found[:, self.only] = 1
        elif self.model is None:
            found[:] = 1 / self.actions
        else:
            found[:, self.model.classes_] = self.model.predict_proba(features(self.space, observations))
        return found


class RegressorPolicy:
    """Means of continuous actions by a regressor that was fitted to the pairs."""

    def __init__(self, space: gymnasium.Space[Any], first: NDArray[np.float64]) -> None:
        self.space, self.first, self.model = space, first, None

    def fit(self, observations: NDArray[Any], actions: NDArray[Any], model: Any) -> None:
        """actions: (N, D)."""
        wanted = actions[:, 0] if actions.shape[1] == 1 else actions
        self.model = model.fit(features(self.space, observations), wanted)

    def predict(self, observations: NDArray[Any]) -> NDArray[np.float64]:
        """(N, ...) -> (N, D); the middle before the first fit."""
        if self.model is None:
            return np.tile(self.first, (len(observations), 1))
        means = self.model.predict(features(self.space, observations))
        return np.asarray(means, np.float64).reshape(len(observations), -1)
