"""The least eigenvalues of a graph's normalised Laplacian, piece by piece, and what they say of the number of clusters.

L = I - D^(-1/2) W D^(-1/2), where W (N, N) are symmetric weights without loops and D their sums. 0 is an eigenvalue as many times
as the graph has connected pieces, each with an eigenvector of its own, so that these are known without solving anything, and each
piece is solved by itself; solvers are poor at eigenvalues that stand several times. von Luxburg 2007. Course: row J3.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from konspekt.core.errors import DataError

__all__ = ["Normalised", "Solver", "Spectrum", "eigengap", "normalised", "spectrum"]

Solver = Literal["arpack", "lobpcg"]

EPS = np.finfo(float).eps  # a normalised weight of less is no edge: beside the 1 of the diagonal it is lost
SHIFT = 1e-5  # L + SHIFT is positive definite, so that it has a factor; as in scikit-learn
SMALL = 64  # nodes, up to which all eigenvalues are computed
ZERO = 1e-12  # what is an eigenvalue of 0 in a ratio


@dataclass(frozen=True)
class Spectrum:
    """values (k,): the least eigenvalues, ascending. rows (N, k): the eigenvectors times D^(-1/2), a row for each node.

    pieces (N,): the number of each node's connected piece; largest piece first. count: how many pieces.
    """

    values: NDArray[np.float64]
    rows: NDArray[np.float64]
    pieces: NDArray[np.int64]
    count: int


@dataclass(frozen=True)
class Normalised:
    """A graph's normalised weights, sparse (CSR) or dense, the roots of the degrees (N,), and its pieces."""

    weights: Any
    roots: NDArray[np.float64]
    pieces: NDArray[np.int64]
    count: int


def normalised(weights: Any, *, overwrite: bool = False) -> Normalised:
    """Normalise symmetric weights that are not negative. overwrite: a dense matrix may be changed in place."""
    from scipy import sparse
    from scipy.sparse.csgraph import connected_components

    if sparse.issparse(weights):
        made = sparse.csr_array(weights, dtype=np.float64, copy=True)
        nodes = np.repeat(np.arange(made.shape[0]), np.diff(made.indptr))
        made.data[nodes == made.indices] = 0
        degrees = np.asarray(made.sum(axis=1)).ravel()
        roots = np.sqrt(np.where(degrees > 0, degrees, 1.0))
        made.data /= roots[nodes] * roots[made.indices]
        made.data[made.data <= EPS] = 0
        made.eliminate_zeros()
        count, pieces = connected_components(made, directed=False)
    else:
        made = weights if overwrite else np.array(weights, dtype=np.float64)
        np.fill_diagonal(made, 0)
        degrees = made.sum(axis=1)
        roots = np.sqrt(np.where(degrees > 0, degrees, 1.0))
        made /= roots
        made /= roots[:, None]
        count, pieces = _pieces(made)
    order = np.argsort(-np.bincount(pieces, minlength=count), kind="stable")
    rank = np.empty(count, dtype=np.int64)
    rank[order] = np.arange(count)
    return Normalised(made, roots, rank[pieces], int(count))


def _pieces(made: NDArray[np.float64]) -> tuple[int, NDArray[np.int64]]:
    """The connected pieces of a dense graph; a sparse copy of its edges might be larger than it."""
    pieces, count = np.full(len(made), -1), 0
    while (left := np.flatnonzero(pieces < 0)).size:
        front = left[:1]
        pieces[front] = count
        while front.size:
            reached = np.zeros(len(made), dtype=bool)
            for begin in range(0, len(front), 256):
                reached |= (made[front[begin : begin + 256]] > EPS).any(axis=0)
            front = np.flatnonzero(reached & (pieces < 0))
            pieces[front] = count
        count += 1
    return count, pieces


def spectrum(graph: Normalised, k: int, generator: np.random.RandomState, solver: Solver = "arpack") -> Spectrum:
    """The k least eigenvalues and their vectors. The generator draws where the solver starts. Dense weights are consumed.

    Raises DataError where the solver fails.
    """
    total, c = graph.weights.shape[0], graph.count
    k = min(k, total)
    values, rows = [0.0] * min(k, c), np.zeros((total, k))
    own = [np.flatnonzero(graph.pieces == piece) for piece in range(min(k, c))] if c > 1 else [np.arange(total)]
    for column, nodes in enumerate(own):  # of D^(1/2) 1 on a piece, scaled to length 1, D^(-1/2) leaves a constant
        rows[nodes, column] = 1 / np.linalg.norm(graph.roots[nodes])
    more: list[tuple[float, NDArray[np.int64], NDArray[np.float64]]] = []
    for nodes in own if k > c else []:
        if len(nodes) > 1:
            part = graph.weights if c == 1 else graph.weights[np.ix_(nodes, nodes)]
            found, vectors = _least(part, min(k - c + 1, len(nodes)), graph.roots[nodes], generator, solver)
            more += [(max(float(v), 0.0), nodes, x) for v, x in zip(found[1:], vectors.T[1:], strict=True)]
    for column, (value, nodes, vector) in enumerate(sorted(more, key=lambda m: m[0])[: k - c] if k > c else [], c):
        values.append(value)
        rows[nodes, column] = vector / graph.roots[nodes]
    return Spectrum(np.array(values), rows[:, : len(values)], graph.pieces, c)


def _least(
    S: Any, k: int, roots: NDArray[np.float64], generator: np.random.RandomState, solver: Solver
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The k least eigenvalues of I - S, ascending, for a connected graph, and their vectors (N, k)."""
    from scipy import linalg, sparse
    from scipy.sparse.linalg import LinearOperator, eigsh, lobpcg

    n = S.shape[0]
    if n <= SMALL or n < 5 * k + 1:  # too few nodes for the iterations
        L = np.eye(n) - (S.toarray() if sparse.issparse(S) else S)
        values, vectors = linalg.eigh(L, subset_by_index=[0, k - 1], check_finite=False)
        return values, vectors
    if solver == "lobpcg":
        L = (sparse.eye_array(n) - S).tocsr() if sparse.issparse(S) else np.eye(n) - S
        start = generator.standard_normal((n, k + 1))
        start[:, 0] = roots
        values, vectors = lobpcg(L, start, tol=None, largest=False, maxiter=2000)
        order = np.argsort(values)[:k]
        return values[order], vectors[:, order]
    start = generator.uniform(-1, 1, n)
    try:
        operator = LinearOperator((n, n), matvec=_factor(S, sparse.issparse(S)), dtype=np.float64)
        values, vectors = eigsh(operator, k=k, sigma=-SHIFT, which="LM", v0=start, OPinv=operator)
    except (RuntimeError, linalg.LinAlgError) as error:  # of ARPACK or SuperLU; of Cholesky
        raise DataError(
            f"the {k} least eigenvalues of a graph of {n:,} nodes were not found ({str(error)[:80]}); take more neighbours or a smaller "
            "gamma, fewer clusters, or another eigen_solver"
        ) from None
    order = np.argsort(values)
    return values[order], vectors[:, order]


def _factor(S: Any, is_sparse: bool) -> Callable[[Any], Any]:
    """What solves (I - S + SHIFT) x = b. The matrix is symmetric and positive, which eigsh's own factor makes no use of."""
    from scipy import linalg, sparse
    from scipy.sparse.linalg import splu

    if is_sparse:
        shifted = ((1 + SHIFT) * sparse.eye_array(S.shape[0]) - S).tocsc()
        # symmetric pivots and minimum degree on A + A^T leave a fraction of the fill-in of the default
        options = {"SymmetricMode": True}
        lu = splu(shifted, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options=options)
        return lu.solve  # type: ignore[no-any-return]
    shifted = np.negative(S, out=S) if S.flags.writeable else -S
    shifted.flat[:: len(shifted) + 1] = 1 + SHIFT
    factor = linalg.cho_factor(shifted.T, lower=True, overwrite_a=True, check_finite=False)
    return lambda b: linalg.cho_solve(factor, b, check_finite=False)


def eigengap(values: NDArray[np.float64], rule: Literal["ratio", "difference"]) -> int:
    """The number of clusters that eigenvalues in ascending order suggest: that behind which the next is much larger.

    ratio: the largest value[k] / value[k - 1] (counted from 0), from two clusters on, as the first eigenvalue is always 0.
    difference: the largest value[k] - value[k - 1], which can say 1.
    """
    if rule == "difference":
        return int(np.diff(values).argmax()) + 1
    ratios = np.maximum(values[2:], ZERO) / np.maximum(values[1:-1], ZERO)
    return int(ratios.argmax()) + 2 if len(ratios) else 1
