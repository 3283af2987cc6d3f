"""Least eigenvalues of normalised Laplacians: closed forms of known graphs, NumPy's dense solver, graphs in pieces."""

import numpy as np
import pytest
from scipy import sparse

from konspekt.cluster.laplacian import eigengap, normalised, spectrum


def ring(n):
    near = np.roll(np.eye(n), 1, axis=1)
    return near + near.T


def random_graph(n, seed=0):
    rng = np.random.default_rng(seed)
    W = np.triu(rng.random((n, n)) * (rng.random((n, n)) < 0.1), 1)
    path = np.diag(np.full(n - 1, 0.1), 1)  # so that it hangs together
    return W + W.T + path + path.T


def by_numpy(W):
    """All eigenvalues of I - D^(-1/2) W D^(-1/2), a node without edges having the eigenvalue 0."""
    degrees = W.sum(1)
    roots = np.sqrt(np.where(degrees > 0, degrees, 1))
    L = np.diag((degrees > 0).astype(float)) - W / roots / roots[:, None]
    return np.linalg.eigvalsh(L)


def solved(W, k, seed=0, solver="arpack"):
    return spectrum(normalised(W), k, np.random.RandomState(seed), solver)


FORMS = [np.array, sparse.csr_array]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("n", [12, 200])  # one by all eigenvalues, one by iteration
def test_a_ring_and_a_complete_graph_have_their_known_eigenvalues(form, n):
    ring_values = np.sort(1 - np.cos(2 * np.pi * np.arange(n) / n))
    np.testing.assert_allclose(solved(form(ring(n)), 5).values, ring_values[:5], atol=1e-12)
    complete = form(np.ones((n, n)))  # with loops, which are left out
    np.testing.assert_allclose(solved(complete, 3).values, [0, n / (n - 1), n / (n - 1)], atol=1e-10)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("solver", ["arpack", "lobpcg"])
def test_values_and_vectors_are_those_of_numpy(form, solver):
    W = random_graph(150)
    found = solved(form(W), 4, solver=solver)
    np.testing.assert_allclose(found.values, by_numpy(W)[:4], atol=1e-6 if solver == "lobpcg" else 1e-12)
    degrees = W.sum(1)
    for value, row in zip(found.values, found.rows.T, strict=True):  # (D - W) u = value D u
        slack = 1e-3 if solver == "lobpcg" else 1e-9
        np.testing.assert_allclose(degrees * row - W @ row, value * degrees * row, atol=slack * np.abs(row).max())
    assert np.ptp(found.rows[:, 0]) == 0
    assert found.count == 1


@pytest.mark.parametrize("form", FORMS)
def test_as_many_zeros_as_pieces_and_the_rest_as_if_all_were_solved_at_once(form):
    W = np.zeros((170, 170))
    W[:90, :90], W[90:160, 90:160] = random_graph(90), random_graph(70, seed=1)
    W[160:163, 160:163] = 1 - np.eye(3)  # and seven nodes without an edge
    shuffle = np.random.default_rng(0).permutation(170)
    W = W[np.ix_(shuffle, shuffle)]
    found = solved(form(W), 14)
    assert found.count == 10
    assert (found.values == 0).sum() == 10
    np.testing.assert_allclose(found.values, by_numpy(W)[:14], atol=1e-10)
    assert np.bincount(found.pieces).tolist() == [90, 70, 3, 1, 1, 1, 1, 1, 1, 1]
    degrees = np.where(W.sum(1) > 0, W.sum(1), 1)
    gram = found.rows.T @ (degrees[:, None] * found.rows)
    np.testing.assert_allclose(gram, np.eye(14), atol=1e-9)  # the eigenvectors are orthonormal


def test_the_users_matrix_is_left_alone_and_the_start_is_the_seeds():
    W = random_graph(150)
    for form in FORMS:
        given = form(W)
        first = solved(given, 4)
        assert np.array_equal(given.toarray() if sparse.issparse(given) else given, W)
        assert np.array_equal(solved(given, 4).rows, first.rows)


def test_a_weight_lost_in_rounding_is_no_edge_but_a_far_nodes_own_is():
    W = np.kron(np.eye(2), np.ones((3, 3)))
    W[2, 3] = W[3, 2] = 1e-20
    assert normalised(W).count == 2
    far = np.zeros((4, 4))
    far[:3, :3] = 1
    far[3, 0] = far[0, 3] = 1e-20  # all that node 3 has
    assert normalised(far).count == normalised(sparse.csr_array(far)).count == 1


def test_more_eigenvalues_than_nodes_cannot_be_had():
    assert len(solved(ring(5), 9).values) == 5


def test_the_gap():
    values = np.array([0.0, 0.01, 0.02, 0.3, 0.7, 1.2])
    assert eigengap(values, "ratio") == 3  # 15 times
    assert eigengap(values, "difference") == 5  # 0.5
    assert eigengap(np.array([0.0, 0.5, 0.6]), "difference") == 1
    assert eigengap(np.array([0.0, 0.0, 0.0, 0.2]), "ratio") == 3
    assert eigengap(np.array([0.0, 0.5]), "ratio") == 1
