"""Spectral clustering: k-means among the eigenvectors of a graph of neighbours. Course: row J3 (document I, section 40.7)."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray

from konspekt.cluster.clusterer import Clusterer, too_many
from konspekt.cluster.laplacian import Spectrum, eigengap, normalised, spectrum
from konspekt.cluster.near import check_range
from konspekt.core.errors import DataError
from konspekt.core.memory import check_room
from konspekt.core.params import AtLeast, MoreThan, Search
from konspekt.core.registry import system
from konspekt.core.runs import Run

__all__ = ["SpectralClustering", "group_rows"]

SHOWN = 20  # eigenvalues of the report's curve
LOST = 1e-6  # of an exponent: what rounding may take from it
ASYMMETRY = 1e-8  # of the largest affinity: what rounding may leave between a pair and its mirror image


@system(
    name="spectral",
    kind="estimator",
    task="clustering",
    rows=("J3",),
    paper="Shi & Malik 2000; Ng, Jordan & Weiss 2001; von Luxburg 2007",
)
@dataclass(kw_only=True, eq=False, repr=False)
class SpectralClustering(Clusterer):
    """Cut a graph of the points where it is thinnest, so that clusters may have any shape.

    Built here of scikit-learn's and SciPy's pieces (neighbours, kernel, eigenvalues, k-means), to the same labels as scikit-learn's class,
    which keeps no eigenvalues, chooses no number of clusters, and leaves a graph in pieces to chance. The affinities' normalised
    Laplacian is taken, the eigenvectors of its least eigenvalues give each point a row, and k-means finds clusters among the rows.

    A graph in pieces is said in the log. Are there as many pieces as clusters, they are the clusters. Are there more, the largest
    ones are, and each of the others joins the one whose point is nearest (the largest one, where affinities were given).

    n_clusters: how many clusters; None: where the gap between eigenvalues says, up to `max_clusters`.
    affinity: rbf, exp(-gamma d^2) of all pairs, which takes the square of the points in memory; nearest_neighbors, 1 for neighbours of
    each other, 1/2 where only one is the other's, 0 elsewhere: a sparse graph; precomputed, X is the symmetric matrix of affinities, none
    of them negative.
    gamma: of rbf; 1 fits columns of a deviation near 1.
    n_neighbors: of nearest_neighbors; the point itself counts as one, as in scikit-learn.
    eigengap: where n_clusters is None: the largest ratio of two eigenvalues that follow each other, which never says one cluster; or
    the largest difference, which is made for compact clusters and few neighbours mislead.
    max_clusters: where n_clusters is None: the most that are thought of.
    eigen_solver: arpack, with a factor of the matrix, is exact; lobpcg has none, and may do where many columns make the factor large.
    n_init: starts of k-means.
    random_state: the seed, of the eigensolver's start too.

    Raises DataError where n_clusters or n_neighbors is more than the points, where affinities are negative or not symmetric, and where
    there are more pieces than `max_clusters` and n_clusters is None; ResourceError where rbf has no room.

    Attributes after `fit`, besides those of every clusterer: eigenvalues_ (n_clusters + 1,), the least ones, or (max_clusters + 1,) where
    the gap chose; eigengap_, the difference behind n_clusters, None where there are no more points; n_pieces_ of the graph.
    """

    n_clusters: Annotated[int | None, AtLeast(1), Search(2, 20, log=True)] = 8
    affinity: Annotated[
        Literal["rbf", "nearest_neighbors", "precomputed"], Search(choices=("rbf", "nearest_neighbors"))
    ] = "rbf"
    gamma: Annotated[float, MoreThan(0), Search(1e-2, 1e2, log=True)] = 1.0
    n_neighbors: Annotated[int, AtLeast(2), Search(4, 20, log=True)] = 10
    eigengap: Literal["ratio", "difference"] = "ratio"
    max_clusters: Annotated[int, AtLeast(2)] = 20
    eigen_solver: Literal["arpack", "lobpcg"] = "arpack"
    n_init: Annotated[int, AtLeast(1)] = 10
    random_state: int | None = None

    arrays = ("eigenvalues_",)
    values = ("eigengap_", "n_pieces_")

    @property
    def precomputed(self) -> bool:
        """Whether X is a matrix of affinities."""
        return self.affinity == "precomputed"

    def as_distances(self, X: NDArray[Any]) -> NDArray[Any]:
        """How much each affinity is less than the largest one; 0 from a point to itself."""
        apart = X.max() - X
        np.fill_diagonal(apart, 0)
        return apart

    def cluster(self, X: NDArray[Any]) -> None:
        """Build the graph, take the eigenvectors, and find clusters among their rows."""
        if self.n_clusters is not None:
            too_many(self.n_clusters, len(X), "SpectralClustering")
        X = X.astype(np.float64, copy=False)
        if not self.precomputed:
            check_range(X, "SpectralClustering")
        graph = normalised(self._affinities(X), overwrite=self.affinity == "rbf")
        if self.n_clusters is None and graph.count > self.max_clusters:
            raise DataError(
                f"SpectralClustering: the graph falls into {graph.count} pieces, more than max_clusters={self.max_clusters}, so that there "
                f"is no gap to choose n_clusters by; {self._denser()}, or give n_clusters"
            )
        generator = np.random.RandomState(self.seed_)
        wanted = (self.max_clusters if self.n_clusters is None else self.n_clusters) + 1
        short = self._run.path is not None and wanted < SHOWN  # of the report's curve
        shown = graph.weights.copy() if short else None
        found = self._solved(graph, wanted, generator)
        k = self.n_clusters or eigengap(found.values, self.eigengap)
        self.labels_, said = group_rows(found, k, generator, self.n_init, X if not self.precomputed else None)
        self.eigenvalues_, self.n_pieces_ = found.values, found.count
        self.eigengap_ = float(found.values[k] - found.values[k - 1]) if len(found.values) > k else None
        if found.count > 1:
            self._run.log(f"the graph falls into {found.count} pieces")
        if said:
            self._run.log(f"{said}; {self._denser()} where they are meant to hang together", warning=True)
        if not self.precomputed and not np.ptp(X, axis=0).any():
            self._run.log("all points are equal: the clusters are arbitrary", warning=True)
        if self.n_clusters is None:
            self._run.log(f"{k} clusters, by the largest {self.eigengap} of two eigenvalues that follow each other")
        if shown is not None:
            self._curve = self._more(replace(graph, weights=shown))

    def _more(self, graph: Any) -> NDArray[np.float64]:
        """Eigenvalues beyond those that the fit needs, for the report."""
        try:
            return self._solved(graph, SHOWN, np.random.RandomState(self.seed_)).values
        except DataError as error:
            self._run.log(
                f"the report shows only the {len(self.eigenvalues_)} eigenvalues of the fit: {error}", warning=True
            )
            return self.eigenvalues_  # type: ignore[no-any-return]

    def _solved(self, graph: Any, k: int, generator: np.random.RandomState) -> Spectrum:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            found = spectrum(graph, k, generator, self.eigen_solver)
        for warning in caught:
            if issubclass(warning.category, UserWarning) and self.eigen_solver == "lobpcg":
                text = str(warning.message).splitlines()[0].strip()
                self._run.log(f"lobpcg did not converge ({text}); take eigen_solver='arpack'", warning=True)
            else:
                warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
        return found

    def _denser(self) -> str:
        """What makes the graph's pieces hang together."""
        if self.affinity == "nearest_neighbors":
            return f"raise n_neighbors (now {self.n_neighbors})"
        return f"lower gamma (now {self.gamma:g})" if self.affinity == "rbf" else "give affinities between them"

    def _affinities(self, X: NDArray[np.float64]) -> Any:
        if self.affinity == "precomputed":
            _check_affinities(X)
            return X
        if self.affinity == "rbf":
            from sklearn.metrics.pairwise import rbf_kernel

            check_room(
                2 * 8 * len(X) ** 2, f"affinity='rbf' of {len(X):,} points (affinity='nearest_neighbors' takes little)"
            )
            if self.gamma * np.abs(X).max() ** 2 * np.finfo(np.float64).eps > LOST:
                X = X - X.mean(axis=0)  # far from 0, digits of the squares would cancel
            return rbf_kernel(X, gamma=self.gamma)
        from sklearn.neighbors import kneighbors_graph

        if self.n_neighbors > len(X):
            raise DataError(
                f"SpectralClustering: n_neighbors={self.n_neighbors} is more than the {len(X)} points; lower n_neighbors"
            )
        near = kneighbors_graph(X, self.n_neighbors, include_self=True)
        return 0.5 * (near + near.T)

    def exhibit(self, X: NDArray[Any], run: Run) -> None:
        """The least eigenvalues, and how many clusters were taken."""
        values = self.__dict__.pop("_curve", self.eigenvalues_)
        k = len(np.unique(self.labels_))
        curve = {"eigenvalue": (list(range(1, len(values) + 1)), values.tolist()), "clusters": ([k, k], [0, 1])}
        run.keep("eigenvalues of the Laplacian", "curve", curve)
        run.keep("graph", "table", [{"pieces": self.n_pieces_, "clusters": k, "eigengap": self.eigengap_}])

    def check_learned(self) -> None:
        """Eigenvalues and the gap are numbers."""
        if self.eigenvalues_ is None or self.eigenvalues_.ndim != 1:
            raise DataError("eigenvalues_ are no list of numbers")
        if not isinstance(self.n_pieces_, int) or not isinstance(self.eigengap_, (int, float, type(None))):
            raise DataError("n_pieces_ and eigengap_ are no answer of a fit")


def group_rows(
    found: Spectrum, k: int, generator: np.random.RandomState, n_init: int = 10, points: NDArray[Any] | None = None
) -> tuple[NDArray[np.int64], str]:
    """Labels (N,) of k clusters among the rows of the first k eigenvectors, and a warning where there are more pieces than k.

    points (N, F): by which pieces beyond k find the cluster they join; None: they join the largest piece.
    """
    from sklearn.cluster import k_means
    from sklearn.exceptions import ConvergenceWarning

    pieces, count = found.pieces, found.count
    if count > k:
        labels, extra = pieces.copy(), pieces >= k
        labels[extra] = 0 if points is None else _nearest_piece(points, pieces, k)
        how = "the largest" if points is None else "the nearest"
        text = f"the graph falls into {count} pieces, more than the {k} clusters: the largest {k} are the clusters, and the other"
        return labels, f"{text} {count - k}, of {int(extra.sum())} nodes, join {how} of them"
    if count == k:
        return pieces.copy(), ""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer distinct rows than clusters
        labels = k_means(found.rows[:, :k], k, random_state=generator, n_init=n_init)[1].astype(np.int64)
    return labels, ""


def _nearest_piece(points: NDArray[Any], pieces: NDArray[np.int64], k: int) -> NDArray[np.int64]:
    """For each point outside the first k pieces, the piece among them that is nearest to any point of its own piece."""
    from sklearn.neighbors import NearestNeighbors

    inside, outside = np.flatnonzero(pieces < k), np.flatnonzero(pieces >= k)
    distances, places = NearestNeighbors(n_neighbors=1).fit(points[inside]).kneighbors(points[outside])
    order = np.lexsort((distances[:, 0], pieces[outside]))
    _, first = np.unique(pieces[outside][order], return_index=True)
    home = pieces[inside][places[order[first], 0]]  # by piece, from piece k on
    return home[pieces[outside] - k]  # type: ignore[no-any-return]


def _check_affinities(W: NDArray[np.float64]) -> None:
    """Raise DataError where a matrix is not square, negative or not symmetric."""
    head = "SpectralClustering: with affinity='precomputed' X is the matrix of affinities (N, N)"
    if W.shape[0] != W.shape[1]:
        raise DataError(f"{head}, but its shape is {W.shape}")
    if W.min() < 0:
        row, column = np.unravel_index(np.argmin(W), W.shape)
        raise DataError(
            f"{head}, but {W[row, column]:g} at {int(row)}, {int(column)} is negative; distances are no affinities"
        )
    slack = ASYMMETRY * float(W.max())
    for begin in range(0, len(W), 1024):  # no second matrix
        apart = np.abs(W[begin : begin + 1024] - W[:, begin : begin + 1024].T)
        if apart.max() > slack:
            row, column = np.unravel_index(np.argmax(apart), apart.shape)
            i, j = int(row) + begin, int(column)
            raise DataError(
                f"{head}, which is symmetric, but {W[i, j]:g} at {i}, {j} stands against {W[j, i]:g} at {j}, {i}"
            )
