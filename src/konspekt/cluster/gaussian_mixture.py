"""Mixtures of Gaussians by expectation-maximisation. Course: row J2 (document I, section 40.4); RULES.md 109."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray

from konspekt.cluster.clusterer import Assigns, Clusterer
from konspekt.core.errors import ConfigError, DataError
from konspekt.core.memory import check_room
from konspekt.core.params import AtLeast, Search
from konspekt.core.registry import system
from konspekt.core.runs import Run

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

__all__ = ["GaussianMixture"]

SURE = 0.7  # a point whose likeliest component has less than this lies between components
MANY = 0.1  # of the points: from there on their overlap is remarked on
SMALL = 1 << 22  # numbers in matrices of covariances: with fewer, nobody asks whether there is memory for them
FLOOR = 2.0  # a variance below this many times reg_covar is what reg_covar made of it


@system(
    name="gaussian-mixture",
    kind="estimator",
    task="clustering",
    rows=("J2",),
    paper="Dempster, Laird & Rubin 1977; McLachlan & Peel 2000",
)
@dataclass(kw_only=True, eq=False, repr=False)
class GaussianMixture(Assigns, Clusterer):
    """Cover the points with Gaussians by EM; a point belongs to each of them with a probability.

    A thin class over scikit-learn's `GaussianMixture`, which is right and fast: the same numbers from the same seed. Added are
    saving, the run's page, a log of what did not converge, collapsed or overlaps, and the history of the steps.

    n_components: how many Gaussians; two unless told otherwise, as scikit-learn's one is no clustering. `bic` of several fits tells
    which number to take: the one where it is least.
    covariance_type: full, a matrix for each component; tied, one for all; diag, a variance for each column of each; spherical, one
    variance for each.
    tol: EM ends when the mean log-likelihood grows by less than this.
    reg_covar: is added to the variances, so that none becomes 0. It is in the unit of the data squared.
    max_iter: the most steps of EM.
    n_init: how many starts; the one with the largest likelihood is kept.
    init_params: where EM starts: from the clusters of k-means, k-means++ seeds, random memberships, or random points. Seeds and points
    are components of one point each, which need reg_covar above 0.
    keep_history: keep `history_`, the start and each step of the best start; `plot_history` draws it. Takes N numbers a step.
    random_state: the seed.

    Raises DataError where n_components is more than the points, and where a covariance is singular.

    Attributes after `fit`, besides those of every clusterer: weights_ (K,), means_ (K, F), covariances_ and precisions_cholesky_ in
    the shape of covariance_type ((K, F, F), (F, F), (K, F), (K,)), converged_, n_iter_, lower_bound_ (the mean log-likelihood
    before the last step), lower_bounds_ (that of each step), history_ (a list of dicts, with keep_history).
    """

    n_components: Annotated[int, AtLeast(1), Search(2, 20, log=True)] = 2
    covariance_type: Annotated[Literal["full", "tied", "diag", "spherical"], Search()] = "full"
    tol: Annotated[float, AtLeast(0)] = 1e-3
    reg_covar: Annotated[float, AtLeast(0), Search(1e-7, 1e-3, log=True)] = 1e-6
    max_iter: Annotated[int, AtLeast(1)] = 100
    n_init: Annotated[int, AtLeast(1)] = 1
    init_params: Annotated[Literal["kmeans", "k-means++", "random", "random_from_data"], Search()] = "kmeans"
    keep_history: bool = False
    random_state: int | None = None

    arrays = ("weights_", "means_", "covariances_", "precisions_cholesky_")
    values = ("converged_", "n_iter_", "lower_bound_", "lower_bounds_")

    # -- fit --------------------------------------------------------------------------------------------------------

    def cluster(self, X: NDArray[Any]) -> None:
        """EM, by scikit-learn."""
        from sklearn import config_context
        from sklearn.exceptions import ConvergenceWarning

        if self.n_components > len(X):
            raise DataError(
                f"GaussianMixture: n_components={self.n_components} is more than the {len(X)} points; lower n_components"
            )
        self.__dict__.pop("history_", None)
        matrices = {"full": self.n_components, "tied": 1}.get(self.covariance_type, 0)
        if matrices * X.shape[1] ** 2 > SMALL:
            check_room(  # covariances, their factors, and the piece that is being made
                8 * X.shape[1] ** 2 * (2 * matrices + 1),
                f"GaussianMixture: covariance_type={self.covariance_type!r} of {X.shape[1]:,} columns ('diag' takes little)",
            )
        try:
            with (
                warnings.catch_warnings(),
                np.errstate(all="raise", under="ignore"),
                config_context(assume_finite=True),  # `read_points` has looked
            ):
                warnings.simplefilter("ignore", ConvergenceWarning)  # is said below
                peer, labels = self._stepwise(X) if self.keep_history else self._at_once(X)
        except FloatingPointError as error:
            raise DataError(
                f"GaussianMixture: the numbers leave what {X.dtype} can hold ({error}), the largest is {np.abs(X).max():.3g}; scale "
                "the columns (sklearn.preprocessing.StandardScaler)"
            ) from None
        except ValueError as error:
            if "ill-defined" not in str(error):
                raise
            raise DataError(
                f"GaussianMixture: a component fell onto too few or equal points, or columns depend on each other, so its covariance "
                f"is singular; raise reg_covar (now {self.reg_covar:g}), lower n_components (now {self.n_components}), take a "
                f"simpler covariance_type than {self.covariance_type!r}, or scale the columns"
            ) from None
        self.labels_ = labels
        for name in self.arrays:
            setattr(self, name, getattr(peer, name))
        self.converged_, self.n_iter_ = bool(peer.converged_), int(peer.n_iter_)
        self.lower_bound_, self.lower_bounds_ = float(peer.lower_bound_), [float(b) for b in peer.lower_bounds_]
        self._remark()

    def _new(self, **changes: Any) -> Any:
        from sklearn.mixture import GaussianMixture as Peer

        names = ("n_components", "covariance_type", "tol", "reg_covar", "max_iter", "n_init", "init_params")
        return Peer(**{name: getattr(self, name) for name in names} | {"random_state": self.seed_} | changes)

    def _at_once(self, X: NDArray[Any]) -> tuple[Any, NDArray[np.int64]]:
        peer = self._new()
        return peer, peer.fit_predict(X)

    def _stepwise(self, X: NDArray[Any]) -> tuple[Any, NDArray[np.int64]]:
        """The same, a step at a time: the starts draw from one generator, and warm starts go on where a step ended."""
        from sklearn.utils import check_random_state

        generator = check_random_state(self.seed_)
        best: tuple[Any, NDArray[np.int64]] | None = None
        for _ in range(self.n_init):
            peer = self._new(max_iter=0, n_init=1, warm_start=True, random_state=generator)
            labels = peer.fit_predict(X)
            frames, bounds = [self._frame(peer, labels)], []
            peer.set_params(max_iter=1)
            for _ in range(self.max_iter):
                labels = peer.fit_predict(X)
                bounds.append(peer.lower_bound_)
                frames.append(self._frame(peer, labels))
                if peer.converged_:
                    break
            peer.n_iter_, peer.lower_bounds_ = len(bounds), bounds
            if best is None or peer.lower_bound_ > best[0].lower_bound_:
                best, self.history_ = (peer, labels), frames
        assert best is not None  # noqa: S101  # n_init is at least 1
        return best

    @staticmethod
    def _frame(peer: Any, labels: NDArray[Any]) -> dict[str, Any]:
        learned = {name: getattr(peer, f"{name}_").copy() for name in ("weights", "means", "covariances")}
        return {"labels": labels.astype(np.int64), **learned, "lower_bound": float(peer.lower_bound_)}

    def _remark(self) -> None:
        """Log what the user should know of the fit."""
        if not self.converged_:
            self._run.log(
                f"EM did not converge within max_iter={self.max_iter} steps: the mean log-likelihood still grew by "
                f"{self.lower_bounds_[-1] - self.lower_bounds_[-2]:.2g}, which is not less than tol={self.tol:g}; raise max_iter"
                if self.n_iter_ > 1
                else f"EM cannot converge within max_iter={self.max_iter}; raise max_iter",
                warning=True,
            )
        empty = self.n_components - len(np.unique(self.labels_))
        if empty:
            self._run.log(
                f"{empty} of {self.n_components} components are the likeliest of no point; lower n_components",
                warning=True,
            )
        least = float(1 / np.square(self._inverse_deviations().max(), dtype=np.float64))
        if least < FLOOR * self.reg_covar:
            self._run.log(
                f"a component is so thin that its least variance, {least:.2g}, is what reg_covar={self.reg_covar:g} made of it: it holds "
                "equal points, or columns depend on each other, or the columns' unit is too small for reg_covar",
                warning=True,
            )

    def _inverse_deviations(self) -> NDArray[Any]:
        """The diagonal of the precisions' factor: each entry is the inverse deviation of a column, given columns before it."""
        factor = self.precisions_cholesky_
        matrices = self.covariance_type in ("full", "tied")
        return np.diagonal(factor, axis1=-2, axis2=-1) if matrices else factor

    # -- after fit --------------------------------------------------------------------------------------------------

    def _peer(self) -> Any:
        peer = self._new()
        peer.n_features_in_ = self.n_features_in_
        for name in self.arrays:
            setattr(peer, name, getattr(self, name))
        return peer

    def _ask(self, method: str, points: NDArray[Any]) -> NDArray[Any]:
        try:
            with np.errstate(all="raise", under="ignore"):
                answer: NDArray[Any] = getattr(self._peer(), method)(points)
        except FloatingPointError:
            raise DataError(
                f"GaussianMixture: row {int(np.abs(points).max(1).argmax())} holds {np.abs(points).max():.3g}, too far from all components "
                f"for a probability in {points.dtype}; leave it out"
            ) from None
        return answer

    def assign(self, X: NDArray[Any]) -> NDArray[np.int64]:
        """The likeliest component."""
        return self._ask("predict", X)

    def predict_proba(self, X: Any) -> NDArray[Any]:
        """The probability of each component given the point, (M, K): its soft memberships."""
        return self._ask("predict_proba", self.read(X))

    def predict_frame(self, X: Any) -> pd.DataFrame:
        """A row for each new point: its number, its likeliest component, and the probability of that."""
        frame = super().predict_frame(X)
        frame["probability"] = self.predict_proba(X).max(1)
        return frame

    def score_samples(self, X: Any) -> NDArray[Any]:
        """The log-likelihood of each point, (M,)."""
        return self._ask("score_samples", self.read(X))

    def score(self, X: Any, y: Any = None) -> float:
        """The mean log-likelihood of the points; y is not looked at."""
        return float(self.score_samples(X).mean())

    def bic(self, X: Any) -> float:
        """The Bayesian information criterion, -2 log-likelihood + parameters * log(N); less is better (Schwarz 1978)."""
        points = self.read(X)
        return self._criterion(points, math.log(len(points)))

    def aic(self, X: Any) -> float:
        """Akaike's criterion, -2 log-likelihood + 2 parameters; less is better (Akaike 1974)."""
        return self._criterion(self.read(X), 2.0)

    def _criterion(self, points: NDArray[Any], price: float) -> float:
        """-2 log-likelihood + parameters * price."""
        return float(-2 * self._ask("score_samples", points).sum(dtype=np.float64)) + self.n_parameters() * price

    def n_parameters(self) -> int:
        """How many free numbers the mixture has: weights, means, covariances."""
        k, f = self.means_.shape
        each = f * (f + 1) // 2
        covariances = {"full": k * each, "tied": each, "diag": k * f, "spherical": k}[self.covariance_type]
        return k - 1 + k * f + covariances

    def plot_history(self, X: Any = None) -> Figure:
        """The steps of EM as frames. X: the points of the fit, where the model was loaded.

        Raises ConfigError where no history was kept.
        """
        from konspekt.cluster.pictures import draw_frames

        points = self.points_of(X)
        if not getattr(self, "history_", None):
            raise ConfigError(
                "GaussianMixture: no history was kept; fit with keep_history=True (it is not saved with a model)"
            )
        frames = []
        for step, one in enumerate(self.history_):
            said = f"step {step}: log-likelihood {one['lower_bound']:.4g}" if step else "start"
            frames.append({"labels": one["labels"], "marks": one["means"], "title": said})
        return draw_frames(points, frames, title="GaussianMixture")

    def _marks(self) -> NDArray[Any] | None:
        return self.means_  # type: ignore[no-any-return]

    def exhibit(self, X: NDArray[Any], run: Run) -> None:
        """The likelihood by step, the components, the criteria, and how many points lie between components."""
        run.keep("log-likelihood by step", "curve", {"mean log-likelihood": self.lower_bounds_})
        spread = {"full": lambda c: np.diagonal(c, axis1=1, axis2=2), "diag": lambda c: c}
        spread |= {"tied": lambda c: np.tile(np.diagonal(c), (len(self.means_), 1))}
        spread |= {"spherical": lambda c: np.tile(c[:, None], (1, self.n_features_in_))}
        deviations = np.sqrt(spread[self.covariance_type](self.covariances_))
        names = getattr(self, "feature_names_in_", [f"column {i}" for i in range(self.n_features_in_)])
        rows = []
        for k, (weight, mean, deviation) in enumerate(zip(self.weights_, self.means_, deviations, strict=True)):
            row: dict[str, Any] = {"component": k, "weight": float(weight)}
            for name, m, s in list(zip(names, mean, deviation, strict=True))[:8]:
                row |= {f"mean {name}": float(m), f"std {name}": float(s)}
            rows.append(row)
        run.keep("components", "table", rows)
        between = float((self._ask("predict_proba", X).max(1) < SURE).mean())
        criteria = {
            "parameters": self.n_parameters(),
            "BIC": self._criterion(X, math.log(len(X))),
            "AIC": self._criterion(X, 2.0),
        }
        run.keep("criteria", "table", [criteria | {f"share of points below {SURE}": between}])
        if between > MANY:
            run.log(
                f"the components overlap: {between:.0%} of the points have less than {SURE} for their likeliest one; use predict_proba, "
                "the soft memberships, rather than labels",
                warning=True,
            )

    def check_learned(self) -> None:
        """The shapes of the mixture fit together."""
        if self.means_.ndim != 2 or self.means_.shape[1] != self.n_features_in_ or not len(self.means_):
            raise DataError(f"means_ has the shape {self.means_.shape}, for {self.n_features_in_} columns")
        k, f = self.means_.shape
        shape = {"full": (k, f, f), "tied": (f, f), "diag": (k, f), "spherical": (k,)}[self.covariance_type]
        for name, wanted in (("weights_", (k,)), ("covariances_", shape), ("precisions_cholesky_", shape)):
            if getattr(self, name).shape != wanted:
                raise DataError(f"{name} has the shape {getattr(self, name).shape}, not {wanted}")
        if self.labels_.max(initial=-1) >= k or self.labels_.min(initial=0) < 0:
            raise DataError(f"labels_ name other components than the {k} that there are")
        if self.weights_.min() <= 0 or abs(self.weights_.sum() - 1) > 1e-3:
            raise DataError("weights_ are no probabilities")
        if self._inverse_deviations().min() <= 0:
            raise DataError("precisions_cholesky_ has entries on its diagonal that are not positive")
        numbers = [self.lower_bound_, self.n_iter_, *self.lower_bounds_]
        if not isinstance(self.converged_, bool) or not all(type(n) in (int, float) for n in numbers):
            raise DataError("converged_, n_iter_ and lower_bound_ are no answer of a fit")
