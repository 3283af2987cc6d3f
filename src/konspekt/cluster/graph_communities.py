"""Communities: clusters of the nodes of a graph. Course: row J8 (document I, section 38).

Two ways. Modularity (Newman & Girvan 2004) compares the edges within communities with those that chance would put there; it is
raised by Louvain's moves (Blondel et al. 2008), or by greedy unions (Clauset, Newman & Moore 2004) where their number is given. Spectral
takes the eigenvectors of the normalised Laplacian, as `SpectralClustering` does. The first is networkx's, the second
is `konspekt.cluster.laplacian`'s.
"""

from __future__ import annotations

import secrets
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from konspekt.cluster.laplacian import eigengap, normalised, spectrum
from konspekt.cluster.spectral import group_rows
from konspekt.core.errors import ConfigError, DataError
from konspekt.core.registry import system

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Communities", "communities", "modularity"]

STARTS = 10  # of Louvain, whose result depends on the order of the nodes; the best is kept
MOST = 20  # communities that the eigengap thinks of
LARGEST = 1e150  # of weights: modularity squares their sum
ASYMMETRY = 1e-8  # of the largest weight: what rounding may leave between an edge and its mirror image
DRAWN = 2_000  # nodes that a picture can still show


@dataclass(frozen=True)
class Communities:
    """What `communities` found.

    nodes: the names of the nodes, (N,), in the order of the graph. labels_: the community of each, (N,), the largest is 0.
    modularity_: of these communities, from -1/2 to 1. n_communities_: how many there are. adjacency: the weights, sparse (N, N).
    """

    nodes: tuple[Hashable, ...]
    labels_: NDArray[np.int64]
    modularity_: float
    adjacency: Any

    @property
    def n_communities_(self) -> int:
        """How many communities there are."""
        return int(self.labels_.max()) + 1

    def groups(self) -> list[list[Hashable]]:
        """The nodes of each community, largest community first."""
        return [[self.nodes[i] for i in np.flatnonzero(self.labels_ == c)] for c in range(self.n_communities_)]

    def figure(self) -> Figure:
        """The graph with its nodes in the colours of their communities, as a matplotlib figure.

        Raises ConfigError where there are more than 2,000 nodes, of which no drawing shows anything.
        """
        if len(self.nodes) > DRAWN:
            raise ConfigError(
                f"communities: a drawing of {len(self.nodes):,} nodes shows nothing; {DRAWN:,} can be drawn"
            )
        import networkx as nx
        from matplotlib.collections import LineCollection

        from konspekt.cluster.pictures import draw_clusters

        places = nx.spring_layout(nx.from_scipy_sparse_array(self.adjacency), seed=0)
        plane = np.array([places[i] for i in range(len(self.nodes))])
        title = f"{self.n_communities_} communities, modularity {self.modularity_:.3f}"
        figure = draw_clusters(plane, self.labels_, title=title, columns=["", ""])
        rows, columns = self.adjacency.nonzero()
        ends = np.stack([plane[rows[rows < columns]], plane[columns[rows < columns]]], axis=1)
        figure.axes[0].add_collection(LineCollection(ends, colors="0.8", linewidths=0.6, zorder=0))
        figure.axes[0].set_axis_off()  # a layout has no units
        return figure


@system(
    name="communities",
    kind="tool",
    rows=("J8",),
    paper="Newman & Girvan 2004; Clauset, Newman & Moore 2004; Blondel et al. 2008; von Luxburg 2007",
)
def communities(
    graph: Any,
    method: Literal["modularity", "spectral"] = "modularity",
    *,
    n_communities: int | None = None,
    resolution: float = 1.0,
    random_state: int | None = None,
) -> Communities:
    """Find groups of a graph's nodes that have more edges among themselves than to others.

    graph: a networkx graph without directions; a symmetric matrix of weights (N, N), an array or sparse; or a list of edges (u, v) or
    (u, v, weight), where u and v are any names. Weights are positive; a networkx edge's is its "weight", 1 where it has none. An edge
    that is listed twice weighs the sum.
    method: modularity: Louvain, the best of 10 starts, or, with n_communities, greedy unions down to that number. spectral: k-means among
    the eigenvectors, with n_communities or by the eigengap. Louvain is networkx's in Python: some seconds for 100,000 edges.
    n_communities: how many; None: the method says.
    resolution: of modularity: above 1 makes smaller communities, below 1 larger ones; the modularity given is at it.
    random_state: the seed, of Louvain's starts and of the eigensolver.

    Raises DataError where the graph is directed, empty or without an edge, where a weight is negative or not finite, and where a matrix
    is not symmetric; ConfigError on a parameter.
    """
    _check(method, n_communities, resolution, random_state)
    nodes, weights = _read(graph)
    if n_communities is not None and n_communities > len(nodes):
        raise DataError(f"communities: n_communities={n_communities} is more than the {len(nodes)} nodes; lower it")
    seed = secrets.randbits(31) if random_state is None else int(random_state)
    find = _by_modularity if method == "modularity" else _by_spectrum
    labels = _by_size(find(weights, n_communities, resolution, seed))
    return Communities(tuple(nodes), labels, modularity(weights, labels, resolution), weights)


def modularity(weights: Any, labels: NDArray[np.int64], resolution: float) -> float:
    """The sum over communities of: share of edges within, less resolution times the square of the share of edges' ends."""
    total = float(weights.sum())  # both ends of each edge; a loop is one entry of two ends
    total += float(weights.diagonal().sum())
    rows, columns = weights.nonzero()
    within = labels[rows] == labels[columns]
    inside = float(weights.data[within].sum()) + float(weights.diagonal().sum())
    ends = np.asarray(weights.sum(axis=1)).ravel() + weights.diagonal()
    shares = np.bincount(labels, weights=ends) / total
    return inside / total - resolution * float(shares @ shares)


def _check(method: str, n_communities: Any, resolution: Any, random_state: Any) -> None:
    if method not in ("modularity", "spectral"):
        raise ConfigError(f"communities: method must be 'modularity' or 'spectral', got {method!r}")
    whole = isinstance(n_communities, (int, np.integer)) and not isinstance(n_communities, bool)
    if n_communities is not None and not (whole and n_communities >= 1):
        raise ConfigError(f"communities: n_communities must be an integer at least 1, or None, got {n_communities!r}")
    if isinstance(resolution, bool) or not isinstance(resolution, (int, float)) or not 0 < resolution < np.inf:
        raise ConfigError(f"communities: resolution must be more than 0, got {resolution!r}")
    if random_state is not None and (
        isinstance(random_state, bool) or not isinstance(random_state, (int, np.integer)) or random_state < 0
    ):
        raise ConfigError(f"communities: random_state must be an integer at least 0, or None, got {random_state!r}")


def _by_modularity(weights: Any, k: int | None, resolution: float, seed: int) -> NDArray[np.int64]:
    import networkx as nx

    graph = nx.from_scipy_sparse_array(weights)
    if k is not None:
        found = nx.community.greedy_modularity_communities(
            graph, weight="weight", resolution=resolution, cutoff=k, best_n=k
        )
        return _labels_of(found, weights.shape[0])
    best, top = None, -np.inf
    for start in range(STARTS):
        found = nx.community.louvain_communities(graph, weight="weight", resolution=resolution, seed=seed + start)
        labels = _labels_of(found, weights.shape[0])
        value = modularity(weights, labels, resolution)
        if value > top + 1e-12:  # rounding must not choose
            best, top = labels, value
    assert best is not None  # noqa: S101  # there is at least one start
    return best


def _by_spectrum(weights: Any, k: int | None, resolution: float, seed: int) -> NDArray[np.int64]:
    graph = normalised(weights)
    if k is None and graph.count > MOST:
        raise DataError(
            f"communities: the graph falls into {graph.count} pieces with nothing between them, too many to choose by the eigengap; give "
            "n_communities, or take method='modularity'"
        )
    generator = np.random.RandomState(seed % 2**32)
    found = spectrum(graph, MOST + 1 if k is None else k, generator)
    return group_rows(found, k or eigengap(found.values, "ratio"), generator)[0]


def _labels_of(groups: Iterable[Iterable[int]], count: int) -> NDArray[np.int64]:
    labels = np.empty(count, dtype=np.int64)
    for number, group in enumerate(groups):
        labels[list(group)] = number
    return labels


def _by_size(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Numbers by size, the largest community first, and by first node where sizes are equal."""
    _, first, codes, sizes = np.unique(labels, return_index=True, return_inverse=True, return_counts=True)
    rank = np.empty(len(sizes), dtype=np.int64)
    rank[np.lexsort((first, -sizes))] = np.arange(len(sizes))
    return rank[codes]


# -- reading ------------------------------------------------------------------------------------------------------------


def _read(graph: Any) -> tuple[list[Hashable], Any]:
    """The names of the nodes, and the weights as a symmetric sparse matrix without zeros; a loop stands once on the diagonal."""
    from scipy import sparse

    if hasattr(graph, "adjacency") and hasattr(graph, "is_directed"):
        nodes, weights = _of_networkx(graph)
    elif sparse.issparse(graph) or (
        isinstance(graph, np.ndarray) and graph.ndim == 2 and graph.shape[0] == graph.shape[1]
    ):
        nodes, weights = _of_matrix(graph)
    else:
        nodes, weights = _of_edges(graph)
    if not np.isfinite(weights.data).all() or (weights.data < 0).any():
        place = int(np.flatnonzero(~np.isfinite(weights.data) | (weights.data < 0))[0])
        coo = weights.tocoo()
        u, v = nodes[int(coo.row[place])], nodes[int(coo.col[place])]
        raise DataError(
            f"communities: the edge between {u!r} and {v!r} has the weight {coo.data[place]:g}; weights are positive numbers: leave such "
            "edges out, or shift all of them"
        )
    if weights.nnz and weights.data.max() > LARGEST:
        raise DataError(
            f"communities: a weight is as large as {weights.data.max():.3g}, the square of which overflows; divide all of them by "
            "one number"
        )
    weights.eliminate_zeros()
    if not weights.nnz:
        raise DataError(
            f"communities: the graph has {len(nodes)} nodes and no edge, so that there is nothing to group by"
        )
    return nodes, weights


def _of_networkx(graph: Any) -> tuple[list[Hashable], Any]:
    from scipy import sparse

    if graph.is_directed():
        raise DataError(
            "communities: the graph is directed; give graph.to_undirected(), or sum both directions' weights"
        )
    nodes = list(graph)
    place = {node: i for i, node in enumerate(nodes)}
    edges = [(place[u], place[v], w) for u, v, w in graph.edges(data="weight", default=1)]
    try:
        columns = np.array(edges, dtype=np.float64).reshape(-1, 3)
    except (TypeError, ValueError):
        raise DataError("communities: an edge's weight is no number; weights are positive numbers") from None
    return nodes, _symmetric(columns, len(nodes), sparse)


def _of_matrix(matrix: Any) -> tuple[list[Hashable], Any]:
    from scipy import sparse

    if matrix.shape[0] != matrix.shape[1]:
        raise DataError(f"communities: a matrix of weights is (N, N), but its shape is {matrix.shape}")
    try:
        weights = sparse.csr_array(matrix, dtype=np.float64)
    except (TypeError, ValueError):
        raise DataError("communities: the matrix of weights holds something else than numbers") from None
    apart = abs(weights - weights.T)
    if apart.nnz and np.nanmax(apart.data, initial=0) > ASYMMETRY * np.nanmax(abs(weights).data, initial=0):
        place = int(np.nanargmax(apart.tocoo().data))
        i, j = int(apart.tocoo().row[place]), int(apart.tocoo().col[place])
        raise DataError(
            f"communities: the matrix of weights is not symmetric: {weights[i, j]:g} at {i}, {j} stands against {weights[j, i]:g} at "
            f"{j}, {i}; for a directed graph give the sum of the matrix and its transpose"
        )
    weights.sum_duplicates()
    return list(range(weights.shape[0])), weights


def _of_edges(edges: Any) -> tuple[list[Hashable], Any]:
    from scipy import sparse

    what = "communities: a graph is a networkx graph, a matrix of weights (N, N), or a list of edges (u, v) or (u, v, weight)"
    if isinstance(edges, (str, bytes)) or not isinstance(edges, Iterable):
        raise DataError(f"{what}, not {type(edges).__name__}")
    place: dict[Hashable, int] = {}
    rows = []
    for number, edge in enumerate(edges):
        parts = (
            tuple(edge.tolist())
            if isinstance(edge, np.ndarray)
            else tuple(edge)
            if isinstance(edge, (tuple, list))
            else ()
        )
        if len(parts) not in (2, 3):
            raise DataError(f"{what}; entry {number} is {edge!r}")
        u, v, weight = (*parts, 1.0)[:3]
        try:
            rows.append((place.setdefault(u, len(place)), place.setdefault(v, len(place)), float(weight)))
        except (TypeError, ValueError):
            raise DataError(f"{what}; entry {number} is {edge!r}, whose names or weight cannot be used") from None
    return list(place), _symmetric(np.array(rows, dtype=np.float64).reshape(-1, 3), len(place), sparse)


def _symmetric(edges: NDArray[np.float64], count: int, sparse: Any) -> Any:
    """Edges (E, 3) of numbers of nodes and weights, each once, as a matrix that has both directions; equal ones are added."""
    bad = edges[~np.isfinite(edges[:, 2]) | (edges[:, 2] < 0)]  # alone, as a sum might hide it
    edges = bad[:1] if len(bad) else edges
    u, v = edges[:, 0].astype(np.int64), edges[:, 1].astype(np.int64)
    other = u != v
    data = np.concatenate([edges[:, 2], edges[other, 2]])
    places = (np.concatenate([u, v[other]]), np.concatenate([v, u[other]]))
    weights = sparse.coo_array((data, places), shape=(count, count)).tocsr()
    weights.sum_duplicates()
    return weights
