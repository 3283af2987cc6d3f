"""The dip against another library's values and against its definition, solved as linear programs."""

import numpy as np
import pytest
from scipy.optimize import linprog
from sklearn.datasets import load_iris, load_wine

from konspekt.cluster.dip import dip_of

# diptest 0.12.0, a binding to the code of Maechler's R package of that name, on the columns of the sets.
IRIS = [0.0402564102564, 0.0466666666667, 0.118974358974, 0.0949122807018]
WINE = [
    0.0254915730337, 0.0160878447395, 0.0221207865169, 0.0323033707865, 0.0351123595506, 0.0324410663142, 0.0446500697657,
    0.0340199750312, 0.0221207865169, 0.0234281616065, 0.0243445692884, 0.0373886090663, 0.0250175561798,
]  # fmt: skip


@pytest.mark.parametrize(("load", "dips"), [(load_iris, IRIS), (load_wine, WINE)])
def test_as_another_library_has_it(load, dips):
    assert [dip_of(column) for column in load().data.T] == pytest.approx(dips, abs=1e-12)


def by_definition(values):
    """The least D for which some distribution function with one mode is within D of the sample's.

    The mode is tried at each value, where the function may jump. (Between two values there is no better one: the density there is at
    least that beside it on either side, so the mode can move to one of them.) Variables: the function at each value, at the mode
    just before and just after it, and D.
    """
    u, counts = np.unique(values, return_counts=True)
    after = np.cumsum(counts) / counts.sum()
    before = after - counts / counts.sum()
    best = np.inf
    for mode in range(len(u)):
        left, right = np.arange(mode + 1), np.arange(mode, len(u))
        size = len(left) + len(right)
        rows, limits = [], []

        def add(terms, limit, rows=rows, limits=limits, size=size):
            row = np.zeros(size + 1)
            for place, factor in terms:
                row[place] += factor
            rows.append(row)
            limits.append(limit)

        for place, j in [*enumerate(left), *enumerate(right, len(left))]:
            at_mode = j == mode
            lower = before[j] if at_mode and place < len(left) else after[j]
            upper = after[j] if at_mode and place >= len(left) else before[j]
            add([(place, -1), (size, -1)], -lower)  # G >= lower - D
            add([(place, 1), (size, -1)], upper)  # G <= upper + D
        for part, first, sign in ((left, 0, 1), (right, len(left), -1)):
            for k in range(len(part) - 2):  # slopes rise to the left of the mode, and fall to its right
                one, two = np.diff(u[part[k : k + 3]])
                add(
                    [(first + k, -sign / one), (first + k + 1, sign / one + sign / two), (first + k + 2, -sign / two)],
                    0,
                )
        for place in range(size - 1):
            add([(place, 1), (place + 1, -1)], 0)  # it never falls
        cost = np.r_[np.zeros(size), 1]
        best = min(
            best, linprog(cost, A_ub=np.array(rows), b_ub=np.array(limits), bounds=[(0, 1)] * size + [(0, 1)]).fun
        )
    return best


@pytest.mark.parametrize("seed", range(12))
def test_as_defined(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(3, 13))
    sample = [rng.normal(size=n), rng.integers(0, 6, n), np.r_[rng.normal(size=n), 4 + rng.normal(size=n)]][seed % 3]
    if len(np.unique(sample)) > 1:
        assert dip_of(sample) == pytest.approx(by_definition(sample), abs=1e-9)


def test_known_values():
    assert dip_of([0, 0, 1, 1]) == 0.25  # two equal atoms: the largest dip there is
    assert dip_of([3.0, 3.0, 3.0]) == 0
    assert dip_of(np.arange(10)) == pytest.approx(1 / 20)  # evenly spaced: half a step, the least there is
    assert dip_of([1.0, 2.0]) == pytest.approx(1 / 4)


def test_neither_order_nor_place_nor_unit_matter():
    x = np.random.default_rng(0).normal(size=200) ** 3
    assert dip_of(x[::-1].reshape(20, 10)) == dip_of(x)
    assert dip_of(-5 * x + 3) == pytest.approx(dip_of(x), abs=1e-12)


def test_two_modes_have_a_larger_dip_than_one():
    rng = np.random.default_rng(0)
    one = [dip_of(rng.normal(size=300)) for _ in range(20)]
    two = [dip_of(np.r_[rng.normal(size=150), 5 + rng.normal(size=150)]) for _ in range(20)]
    assert max(one) < min(two)
