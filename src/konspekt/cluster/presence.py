"""Is there any cluster at all? The Hopkins statistic and the dip of distances. Course: row J7 (document I, section 38).

**Hopkins** (Hopkins and Skellam 1954; for F columns Cross and Jain 1982). m places are drawn uniformly from the box around the
points, and m of the points. With u the distance from a place to the nearest point, and w that from a point to the nearest
other one,

    H = sum u^F / (sum u^F + sum w^F)

Where n points lie at random, a ball's volume up to the nearest one is exponential, whence the exponent F: both sums are Gamma(m),
and H is Beta(m, m), about 0.5. It nears 1 where points crowd together and 0 where they keep apart. Lawson and Jurs 1990 leave
the exponent away, and others follow; then H is not Beta. Wright 2022 (https://journal.r-project.org/articles/RJ-2022-055) tells the
story. The Beta forgets that m places lie near the same points and that the box has a border, which counts for more the more
columns there are: so H, the mean of ten draws with m a tenth of the points, is compared with that of simulated points besides.

**Dip of distances.** Within a cluster distances are short and between clusters long, so all pairwise distances together have more
than one mode (Ackerman, Adolfsson and Brownstein 2016, https://doi.org/10.48550/arXiv.1602.06687; for single points Kalogeratos
and Likas 2012). The dip (Hartigan and Hartigan 1985) measures it. The table of the dip's quantiles does not hold for
distances, which are not independent; simulation gives its own.

**Nulls.** Points are simulated uniformly in the box, and from one Gaussian with the mean and covariance of the points: a single
lump is denser in its middle than at random, and no cluster. Where a column holds rounded numbers, so do the simulated points.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from numpy.typing import NDArray

from konspekt.cluster.clusterer import Clusterer
from konspekt.cluster.dip import dip_of
from konspekt.cluster.points import read_points
from konspekt.core.errors import DataError
from konspekt.core.params import AtLeast, check_arguments
from konspekt.core.registry import system

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

__all__ = ["Tendency", "hopkins", "tendency"]

MOST = 2_000  # points that are looked at
DRAWS = 10  # of places and points, as one of a tenth of the points tells little
PAIRED = 200  # points whose distances are taken: 19,900 of them
LEVEL = 0.05  # of the verdict, for both statistics together
NULLS = ("uniform", "gaussian")


@dataclass(frozen=True)
class Tendency:
    """What `tendency` found. `str()` of it is the verdict.

    hopkins, dip: the two statistics of the points; hopkins is the mean of ten draws. n_points: how many were looked at. n_features: the columns. m: the places and
    the points of Hopkins.
    hopkins_p: the share of Beta(m, m) above H, as the papers have it: the median of the draws.
    nulls: statistic -> null -> its values on simulated points, (n_null,).
    p: statistic -> null -> the share of simulated values that are as large, the data counted in.
    clusters: whether one of the statistics is larger than by chance under both nulls, each at 2.5 %.
    verdict: this in words.
    """

    hopkins: float
    dip: float
    n_points: int
    n_features: int
    m: int
    hopkins_p: float
    nulls: dict[str, dict[str, NDArray[np.float64]]] = field(repr=False)
    p: dict[str, dict[str, float]]
    clusters: bool
    verdict: str

    def __str__(self) -> str:
        return self.verdict

    def rows(self) -> list[dict[str, Any]]:
        """A row for each statistic and null: value, middle 95 % of the null, p."""
        made = []
        for name, value in (("hopkins", self.hopkins), ("dip", self.dip)):
            for null in NULLS:
                low, high = np.quantile(self.nulls[name][null], (0.025, 0.975))
                made.append(
                    {
                        "statistic": name,
                        "value": value,
                        "null": null,
                        "from": float(low),
                        "to": float(high),
                        "p": self.p[name][null],
                    }
                )
        return made

    def frame(self) -> pd.DataFrame:
        """`rows` as a table."""
        import pandas as pd

        return pd.DataFrame(self.rows())

    def figure(self) -> Figure:
        """Both statistics as lines over the histograms of their nulls, as a matplotlib figure."""
        from matplotlib.figure import Figure
        from scipy.stats import beta

        figure = Figure(figsize=(8, 3.6), layout="constrained")
        looks = {"uniform": ("#56b4e9", "///"), "gaussian": ("#e69f00", "...")}
        for axes, name, title in zip(
            figure.subplots(1, 2), self.nulls, ("Hopkins statistic", "dip of distances"), strict=True
        ):
            value, nulls = getattr(self, name), self.nulls[name]
            every = np.concatenate(list(nulls.values()))
            bins = np.linspace(every.min(), every.max() + 1e-12, 31)
            for null, (colour, hatch) in looks.items():
                axes.hist(
                    nulls[null], bins=bins, density=True, alpha=0.6, color=colour, hatch=hatch, label=f"{null} points"
                )
            if name == "hopkins":
                at = np.linspace(bins[0], bins[-1], 200)
                axes.plot(at, beta.pdf(at, self.m, self.m), "k--", lw=1, label=f"Beta({self.m}, {self.m}), of one draw")
            axes.axvline(value, color="black", lw=2, label="the data")
            axes.set(xlabel=f"{title}, {value:.3g} of the data", yticks=[])
        figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=4)
        return figure


@system(
    name="tendency",
    kind="tool",
    rows=("J7",),
    paper="Hopkins & Skellam 1954; Cross & Jain 1982; Hartigan & Hartigan 1985; Ackerman, Adolfsson & Brownstein 2016",
)
def tendency(
    X: Any,
    *,
    random_state: Annotated[int, AtLeast(0)] | None = None,
    n_null: Annotated[int, AtLeast(39)] = 199,
) -> Tendency:
    """Ask whether points have clusters at all: Hopkins statistic and dip of distances, against uniform and Gaussian points.

    X: what a clusterer takes: an array (N, F), a DataFrame, a file, of finite numbers. Of more than 2,000 points so many
        are drawn, and of those 200 for the dip. Columns that do not vary are left out. Columns count by their units, as in any
        distance.
    random_state: the seed; None: other draws each time.
    n_null: how many sets of points are simulated for each null.

    The tests see lumps of any shape, not which ones. With few points, and with many columns, they see little: that nothing was found
    does not show that nothing is there.

    Raises ConfigError on an argument; DataError as a clusterer does, and where there are fewer than ten different points.
    """
    check_arguments("tendency", tendency, {"random_state": random_state, "n_null": n_null})
    points = read_points(_Reader(), X, None, reset=True)[0].astype(np.float64)
    # A stream of its own: points that were drawn with the same seed would else be the very places that Hopkins draws.
    rng = np.random.default_rng(None if random_state is None else (random_state, 0x7E7DE7C1))
    if len(points) > MOST:
        points = points[np.sort(rng.choice(len(points), MOST, replace=False))]
    points = points[:, np.ptp(points, axis=0) > 0]
    different = len(np.unique(points, axis=0)) if points.size else 1
    if different < 10:
        raise DataError(
            f"tendency: {different} different points are too few to see clusters among; it takes at least 10"
        )
    points = (points - points.mean(0)) / np.abs(
        points - points.mean(0)
    ).max()  # against overflow; both are free of scale
    m = max(2, len(points) // 10)
    draws, own_dip = _both(points, m, rng)
    own = (float(draws.mean()), own_dip)
    nulls: dict[str, dict[str, NDArray[np.float64]]] = {"hopkins": {}, "dip": {}}
    for null, draw in _simulators(points, rng).items():
        drawn = [_both(draw(), m, rng) for _ in range(n_null)]
        nulls["hopkins"][null] = np.array([h.mean() for h, _ in drawn])
        nulls["dip"][null] = np.array([dip for _, dip in drawn])
    p = {
        name: {null: float((1 + (values >= value).sum()) / (1 + n_null)) for null, values in nulls[name].items()}
        for name, value in zip(nulls, own, strict=True)
    }
    clusters, verdict = _judged(own, nulls, p)
    from scipy.stats import beta

    return Tendency(
        hopkins=own[0],
        dip=own[1],
        n_points=len(points),
        n_features=points.shape[1],
        m=m,
        hopkins_p=float(np.median(beta.sf(draws, m, m))),
        nulls=nulls,
        p=p,
        clusters=clusters,
        verdict=verdict,
    )


def hopkins(points: NDArray[np.float64], m: int, rng: np.random.Generator, draws: int = 1) -> NDArray[np.float64]:
    """The Hopkins statistic with m places and m points, as the head of this file has it, `draws` times: (draws,).

    points: (N, F), finite.
    """
    from scipy.spatial import cKDTree
    from scipy.special import expit, logsumexp

    tree, columns = cKDTree(points), points.shape[1]
    places = rng.uniform(points.min(0), points.max(0), (draws * m, columns))
    chosen = np.concatenate([rng.choice(len(points), m, replace=False) for _ in range(draws)])
    to_place = tree.query(places)[0]
    to_other = tree.query(points[chosen], k=2)[0][:, 1]
    with np.errstate(divide="ignore"):  # a point that is there twice is at no distance: log 0
        logs = [columns * np.log(d).reshape(draws, m) for d in (to_place, to_other)]  # u^F alone underflows
        u, w = (logsumexp(one, axis=1) for one in logs)
    return np.where(u == w, 0.5, expit(np.subtract(u, w, where=u != w, out=np.zeros(draws))))


def _both(points: NDArray[np.float64], m: int, rng: np.random.Generator) -> tuple[NDArray[np.float64], float]:
    """Hopkins statistics of ten draws, and the dip of distances."""
    from scipy.spatial.distance import pdist

    few = points if len(points) <= PAIRED else points[rng.choice(len(points), PAIRED, replace=False)]
    return hopkins(points, m, rng, DRAWS), dip_of(pdist(few))


def _simulators(points: NDArray[np.float64], rng: np.random.Generator) -> dict[str, Callable[[], NDArray[np.float64]]]:
    """For each null what draws as many points without clusters, rounded as the points are."""
    least, most, mean = points.min(0), points.max(0), points.mean(0)
    _, scales, directions = np.linalg.svd(points - mean, full_matrices=False)
    root = scales[:, None] * directions / np.sqrt(len(points))
    steps = np.array([_step(column) for column in points.T])
    rough = np.flatnonzero(steps)

    def rounded(drawn: NDArray[np.float64]) -> NDArray[np.float64]:
        if len(rough):
            from_least = (drawn[:, rough] - least[rough]) / steps[rough]
            drawn[:, rough] = least[rough] + steps[rough] * np.round(from_least)
        return drawn

    return {
        "uniform": lambda: rounded(rng.uniform(least, most, points.shape)),
        "gaussian": lambda: rounded(mean + rng.normal(size=(len(points), len(root))) @ root),
    }


def _step(column: NDArray[np.float64]) -> float:
    """To what a column was rounded, such as whole numbers; 0 where it was not. Rounded numbers have distances with many modes."""
    values = np.unique(column)
    if 2 * len(values) > len(column):
        return 0.0
    gaps = np.diff(values)
    gaps = gaps[gaps > 1e-9 * (values[-1] - values[0])]
    in_steps = gaps / gaps.min()
    return float(gaps.min()) if np.abs(in_steps - np.round(in_steps)).max() < 1e-3 else 0.0


def _judged(
    own: tuple[float, float], nulls: dict[str, dict[str, NDArray[np.float64]]], p: dict[str, dict[str, float]]
) -> tuple[bool, str]:
    """Whether there are clusters, and in words why."""
    found = [name for name in ("hopkins", "dip") if max(p[name].values()) <= LEVEL / 2]
    h, low, high = own[0], *np.quantile(nulls["hopkins"]["uniform"], (0.025, 0.975))
    usual = f"points thrown at random have {low:.2f} to {high:.2f}"
    head = f"Hopkins {h:.2f} ({usual}), dip of distances {own[1]:.3f}"
    if found:
        by = {
            "hopkins": "the points crowd together more than random ones and than one Gaussian",
            "dip": "distances have more than one mode",
        }
        return True, f"There seem to be clusters: {' and '.join(by[f] for f in found)}. {head}."
    if p["hopkins"]["uniform"] <= LEVEL / 2:
        return False, f"There may be no clusters: the points form a lump, but no more than one Gaussian does. {head}."
    if h < low:
        return False, f"There may be no clusters: the points keep apart more than random ones, as on a grid. {head}."
    return False, f"There may be no clusters: the points lie as if thrown at random. {head}."


class _Reader(Clusterer):
    """Reads points as every clusterer does; its messages bear the tool's name."""


_Reader.__name__ = "tendency"
