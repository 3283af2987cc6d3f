"""Pictures of clusters: what stands in the figures, and that every clustering can be drawn."""

from itertools import combinations

import numpy as np
import pytest
from matplotlib.colors import to_hex
from PIL import Image

from konspekt.cluster import panels, pictures
from konspekt.cluster.panels import COLOURS, SHAPES
from konspekt.cluster.pictures import draw_clusters, draw_frames, save_frames
from konspekt.core.errors import ConfigError, DataError, ResourceError

RNG = np.random.default_rng(0)
PLANE = RNG.normal(size=(90, 2))
LABELS = np.repeat([0, 1, 2], 30)
PLANE += 8 * np.array([[0, 0], [1, 0], [0, 1]])[LABELS]


def dots(axes):
    """Of each set of points on the axes: colour, shape and places."""
    return [
        (to_hex(line.get_color()), line.get_marker(), line.get_xydata())
        for line in axes.lines
        if len(line.get_xydata())
    ]


def texts(axes):
    return [text.get_text() for text in axes.texts]


def drawn(figure):
    """The figure's pixels."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]


def test_each_cluster_has_a_colour_a_shape_and_its_number():
    axes = draw_clusters(PLANE, LABELS, title="KMeans", columns=["a", "b"]).axes[0]
    for code in range(3):
        own = [
            places for colour, shape, places in dots(axes) if (colour, shape) == (COLOURS[code].lower(), SHAPES[code])
        ]
        assert sorted(map(tuple, np.concatenate(own))) == sorted(map(tuple, PLANE[code == LABELS]))
        text = next(t for t in axes.texts if t.get_text() == str(code))
        assert tuple(text.xy) in set(map(tuple, PLANE[code == LABELS]))
    assert axes.get_title(loc="left") == "KMeans\n3 clusters, 90 points"
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("a", "b")
    assert axes.get_aspect() == 1


def test_colours_differ_for_every_eye():
    """What a dichromat sees, on linear RGB: Viénot, Brettel and Mollon 1999."""
    dichromats = (
        ((0.11238, 0.88762, 0.0), (0.11238, 0.88762, 0.0), (0.00401, -0.00401, 1.0)),
        ((0.29275, 0.70725, 0.0), (0.29275, 0.70725, 0.0), (-0.02234, 0.02234, 1.0)),
    )
    linear = np.array([[(int(c[i : i + 2], 16) / 255) ** 2.2 for i in (1, 3, 5)] for c in COLOURS])
    for matrix in dichromats:
        seen = linear @ np.array(matrix).T
        assert min(np.abs(a - b).max() for a, b in combinations(seen, 2)) > 0.08
    assert len({(COLOURS[i % len(COLOURS)], SHAPES[i % len(SHAPES)]) for i in range(42)}) == 42


def test_noise_is_small_and_grey():
    labels = np.where(np.arange(90) % 9 == 0, -1, LABELS)
    axes = draw_clusters(PLANE, labels).axes[0]
    grey = next(line for line in axes.lines if to_hex(line.get_color()) == panels.NOISE)
    assert len(grey.get_xydata()) == 10
    assert grey.get_markersize() < min(line.get_markersize() for line in axes.lines if line is not grey)
    assert axes.get_title(loc="left") == "3 clusters, 90 points, 10 of them noise (grey)"


def test_centres_bear_the_numbers():
    marks = np.array([PLANE[c == LABELS].mean(0) for c in range(3)])
    axes = draw_clusters(PLANE, LABELS, marks=marks).axes[0]
    assert texts(axes) == ["0", "1", "2"]
    assert [t.get_position() for t in axes.texts] == [tuple(m) for m in marks]
    assert axes.get_title(loc="left").endswith("; circles: centres")
    few = draw_clusters(PLANE, LABELS, marks=marks[:2]).axes[0]  # not one for each cluster
    assert few.get_title(loc="left").endswith("; crosses: centres")
    assert any(shape == "X" and len(places) == 2 for _, shape, places in dots(few))


def test_truth_beside_in_the_colours_of_its_clusters():
    truth = np.array(["c", "b", "a"])[LABELS]
    left, right = draw_clusters(PLANE, LABELS, truth=truth).axes
    assert set(texts(right)) == {"a", "b", "c"}
    assert right.get_title(loc="left") == "Given labels\n3 labels, 90 points"
    for (colour, shape, places), (other, marker, there) in zip(dots(left), dots(right), strict=True):
        assert (colour, shape) == (other, marker)
        assert (places == there).all()


def test_more_columns_are_a_projection_and_say_so():
    points = np.concatenate([PLANE * 10, RNG.normal(size=(90, 2))], axis=1)
    axes = draw_clusters(points, LABELS, marks=points[:3]).axes[0]
    assert axes.get_xlabel().startswith("principal component 1 (")
    assert axes.get_ylabel().endswith("% of variance)")


def test_neighbours_take_other_colours_beyond_the_palette():
    labels = np.arange(90) % 9
    points = (
        20 * np.array([[0, 0], [5, 5], [9, 0], [0, 9], [9, 9], [4, 0], [0, 4], [0.5, 0], [9, 0.5]])[labels] + PLANE / 10
    )
    axes = draw_clusters(points, labels).axes[0]
    paint = {tuple(places[0]): colour for colour, _, places in dots(axes)}
    where = {code: points[labels == code] for code in (0, 2, 7, 8)}
    colours = {c: next(v for k, v in paint.items() if (own == k).all(1).any()) for c, own in where.items()}
    assert colours[7] != colours[0]
    assert colours[8] != colours[2]


def test_a_million_would_make_no_blot(monkeypatch):
    """Cells: a colour is the mix of its clusters by their share, the strength grows with the logarithm of the density."""
    points = np.concatenate([np.zeros((4000, 2)), np.full((1000, 2), 10.0), np.full((1, 2), [10.0, 0.0])])
    labels = np.concatenate([np.zeros(3000, int), np.ones(1000, int), np.zeros(1000, int), [-1]])
    axes = draw_clusters(points, labels).axes[0]
    image = axes.images[0].get_array()
    rows, columns = np.nonzero(image[..., 3])
    found = {(int(r > 70), int(c > 70)): image[r, c] for r, c in zip(rows, columns, strict=True)}
    assert len(found) == len(rows) == 3
    rgb = np.array([[int(c[i : i + 2], 16) / 255 for i in (1, 3, 5)] for c in (*COLOURS[:2], panels.NOISE)])
    assert np.allclose(found[0, 0][:3], 0.75 * rgb[0] + 0.25 * rgb[1])
    assert np.allclose(found[1, 1][:3], rgb[0])
    assert np.allclose(found[0, 1][:3], rgb[2])
    assert found[0, 0][3] > found[1, 1][3] > found[0, 1][3] >= 0.3


def test_cells_lie_where_their_points_do():
    points = np.repeat(PLANE, 60, axis=0)
    axes = draw_clusters(points, np.repeat(LABELS, 60)).axes[0]
    image, (left, right, bottom, top) = axes.images[0].get_array(), axes.images[0].get_extent()
    rows, columns = np.nonzero(image[..., 3])
    wide, high = (right - left) / image.shape[1], (top - bottom) / image.shape[0]
    assert wide == pytest.approx(high)
    middles = np.stack([left + (columns + 0.5) * wide, bottom + (rows + 0.5) * high], axis=1)
    apart = np.abs(PLANE[:, None] - middles).max(-1)
    assert (apart.min(1) <= wide / 2 + 1e-9).all()
    assert (apart.min(0) <= wide / 2 + 1e-9).all()


def same(count):
    return np.ones((count, 2))


@pytest.mark.parametrize("spread", [1, 80], ids=["points", "cells"])
@pytest.mark.parametrize(
    ("points", "labels"),
    [
        (PLANE[[0, 40]], [0, 1]),
        (PLANE, np.zeros(90, int)),
        (PLANE, np.full(90, -1)),
        (same(90), LABELS),
        (np.ones((90, 5)), LABELS),
        (PLANE * [1, 0], LABELS),
        (PLANE[:, :1], LABELS),
        (same(90)[:, :1], LABELS),
        (PLANE * [1, 1e5], LABELS),
        (PLANE + 1e12, LABELS),
        (PLANE * 1e140, LABELS),
        (PLANE.astype(np.float32), LABELS),
        (PLANE.astype(int), LABELS),
        (PLANE > 0, LABELS),
        (PLANE, np.arange(90)),
        (PLANE, LABELS * 10**12),
        (RNG.normal(size=(2, 30)), [0, 1]),
    ],
)
def test_everything_can_be_drawn(points, labels, spread):
    points, labels = np.repeat(points, spread, axis=0), np.repeat(labels, spread)
    figure = draw_clusters(points, labels, title="$\\frac{", columns=["$x_{"] * points.shape[1], marks=points[:2])
    figure.set_dpi(40)
    assert drawn(figure).std() > 0


def test_axes_of_very_different_scale_are_named_so():
    axes = draw_clusters(PLANE * [1, 1e5], LABELS).axes[0]
    assert axes.get_title(loc="left").endswith("; axes of different scale")
    assert axes.get_aspect() == "auto"


def test_one_column_is_spread():
    axes = draw_clusters(PLANE[:, :1], LABELS).axes[0]
    assert axes.get_ylabel() == "spread at random, for sight"
    assert len(np.unique(np.concatenate([p for _, _, p in dots(axes)])[:, 1])) == 90


def test_more_clusters_than_names():
    axes = draw_clusters(PLANE, np.arange(90)).axes[0]
    assert len(texts(axes)) == panels.NAMED
    assert axes.get_title(loc="left") == "90 clusters, 90 points; the 40 largest are named"


def test_distances_are_drawn_by_scaling(monkeypatch):
    distances = np.hypot(*(PLANE[:, None] - PLANE).transpose(2, 0, 1))
    axes = draw_clusters(distances, LABELS, precomputed=True, truth=LABELS).axes[0]
    assert axes.get_xlabel().startswith("principal coordinate 1 (")
    monkeypatch.setattr(pictures, "SINGLE", 30)
    axes = draw_clusters(distances, LABELS, precomputed=True).axes[0]
    assert sum(len(places) for _, _, places in dots(axes)) == 30
    with pytest.raises(
        DataError, match=r"distances have the shape \(N, N\) and are finite, these are of the shape \(90, 2\)"
    ):
        draw_clusters(PLANE, LABELS, precomputed=True)


@pytest.mark.parametrize(
    ("points", "labels", "more", "message"),
    [
        (PLANE, LABELS[:5], {}, r"labels has the shape \(5,\), but there are 90 points"),
        (PLANE, LABELS, {"truth": LABELS[:5]}, r"truth has the shape \(5,\), but there are 90 points"),
        (PLANE, LABELS, {"columns": ["a"]}, "1 names of columns for 2 columns"),
        (PLANE * np.nan, LABELS, {}, r"NaN or numbers beyond 1e\+150"),
        (PLANE * 1e200, LABELS, {}, r"NaN or numbers beyond 1e\+150"),
        (PLANE[0], LABELS, {}, r"of the shape \(N, F\), these are float64 of the shape \(2,\)"),
        (np.array([["a"]]), [0], {}, "points are numbers"),
        (PLANE[:0], [], {}, "points are numbers"),
    ],
)
def test_what_cannot_be_drawn(points, labels, more, message):
    with pytest.raises(DataError, match=message):
        draw_clusters(points, labels, **more)


# --- frames ---------------------------------------------------------------------------------------------------------


def history(steps):
    return [{"labels": LABELS, "marks": PLANE[:3] + i, "title": f"iteration {i}"} for i in range(steps)]


def test_at_most_twelve_frames_with_the_first_and_the_last():
    figure = draw_frames(PLANE, history(30), "k-means")
    shown = [axes.get_title(loc="left") for axes in figure.axes if axes.get_title(loc="left")]
    assert len(shown) == 12
    assert (shown[0], shown[-1]) == ("iteration 0", "iteration 29")
    assert figure.get_suptitle() == "k-means: 12 of 30 steps"


def test_the_ways_of_the_centres():
    axes = draw_frames(PLANE, history(4)).axes[3]
    ways = [line.get_xydata() for line in axes.lines if line.get_marker() == "None"]
    assert len(ways) == 3
    assert (ways[1] == PLANE[1] + np.arange(4)[:, None]).all()
    other = [*history(2), {"marks": PLANE[:2]}]  # two have become one: no way leads on
    assert not [line for line in draw_frames(PLANE, other).axes[2].lines if line.get_marker() == "None"]


def test_frames_of_marks_or_labels_alone():
    figure = draw_frames(PLANE, [{"marks": PLANE[:2]}, {"labels": LABELS}, {"marks": None}])
    assert [axes.get_title(loc="left") for axes in figure.axes[:3]] == ["step 0", "step 1", "step 2"]
    assert drawn(figure).std() > 0


def test_no_frames():
    with pytest.raises(ConfigError, match="there are no frames to draw; fit with keep_history=True"):
        draw_frames(PLANE, [])


def test_an_animation(tmp_path):
    file = save_frames(tmp_path / "a.gif", PLANE, history(3), "k-means", seconds=0.2)
    with Image.open(file) as picture:
        assert picture.n_frames == 3
        lengths = []
        for number in range(3):
            picture.seek(number)
            lengths.append(picture.info["duration"])
        assert lengths == [200, 200, 600]
    with pytest.raises(ConfigError, match=r"the name is 'a.mp4'; let it end in .gif"):
        save_frames(tmp_path / "a.mp4", PLANE, history(3))
    with pytest.raises(ResourceError):
        save_frames(tmp_path / "absent" / "a.gif", PLANE, history(3))
