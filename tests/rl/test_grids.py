"""Grids of states: which environments have one, what the picture holds."""

import gymnasium
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from konspekt.core.errors import ConfigError, DataError
from konspekt.rl.grids import draw_grid, grid_of, name_actions
from konspekt.rl.mdp import MDP

NAMES = ("left", "down", "right", "up")
WAY = {"left": (-1, 0), "down": (0, 1), "right": (1, 0), "up": (0, -1)}


def texts(axes):
    """What is written, without the arrows."""
    return [t for t in axes.texts if t.get_text()]


def arrows(axes):
    """Each arrow as (column, row, step in columns, step in rows): where it stands, where it points."""
    found = []
    for text in axes.texts:
        patch = getattr(text, "arrow_patch", None)
        if patch is not None:
            (x0, y0), (x1, y1) = text.xyann, text.xy
            found.append(
                (round((x0 + x1) / 2), round((y0 + y1) / 2), np.sign(round(x1 - x0, 3)), np.sign(round(y1 - y0, 3)))
            )
    return found


def test_environments_with_a_grid_are_known():
    lake = gymnasium.make("FrozenLake-v1", desc=["SFH", "FFG"])
    assert grid_of(lake) == ((2, 3), "SFHFFG")
    shape, letters = grid_of(gymnasium.make("CliffWalking-v1"))
    assert (shape, letters[36:]) == ((4, 12), "S" + "C" * 10 + " ")
    for env in ("Taxi-v4", "Blackjack-v1", "CartPole-v1"):
        assert grid_of(gymnasium.make(env)) == (None, None)


def test_actions_are_named_by_where_they_mostly_lead():
    for env, names in (
        ("FrozenLake-v1", NAMES),
        ("FrozenLake8x8-v1", NAMES),
        ("CliffWalking-v1", ("up", "right", "down", "left")),
        ("CliffWalkingSlippery-v1", ("up", "right", "down", "left")),
    ):
        mdp = MDP.from_env(env)
        assert name_actions(mdp, mdp.shape) == names
    still = MDP.from_successors(np.ones((4, 2, 1)), np.arange(4).repeat(2).reshape(4, 2, 1), np.zeros((4, 2, 1)))
    assert name_actions(still, (2, 2)) == ("0", "1")


def test_the_picture_holds_values_arrows_and_marks():
    values = np.array([0.25, -0.5, 1.0, 0, 0, 0])
    axes = draw_grid(values, [2, 1, 0, 3, 0, 0], (2, 3), title="lake", letters="SF FHG").axes[0]
    assert arrows(axes) == [
        (i % 3, i // 3, *WAY[NAMES[a]]) for i, a in enumerate([2, 1, 0, 3])
    ]  # none in hole and goal
    written = [t.get_text() for t in texts(axes)]
    assert sorted(written) == sorted(["0.25", "start", "-0.50", "1.00", "0.00", "hole", "goal"])
    assert axes.get_title(loc="left") == "lake"


def test_colours_are_of_the_values_and_ends_are_left_out():
    figure = draw_grid([[5.0, 7.0], [-900.0, 6.0]], letters="  E ")
    picture = figure.axes[0].images[0]
    assert (picture.norm.vmin, picture.norm.vmax) == (5, 7)
    assert figure.axes[1].get_ylabel() == "v: expected return"
    cells = figure.axes[0].images[1].get_array()
    assert cells[..., 3].tolist() == [[0, 0], [1, 0]]  # only the end is painted over


def test_walls_are_dark_and_empty():
    axes = draw_grid(np.arange(4.0), [0, 1, 2, 3], (2, 2), walls=[False, True, False, False]).axes[0]
    assert [a[:2] for a in arrows(axes)] == [(0, 0), (0, 1), (1, 1)]
    assert [t.get_text() for t in texts(axes)] == ["0", "2", "3"]
    assert axes.images[1].get_array()[0, 1].max() == 1


def test_probabilities_are_lengths():
    shares = np.array([[0.75, 0, 0.25, 0], [0, 1, 0, 0]])
    axes = draw_grid([1.5, 2.5], shares, (1, 2)).axes[0]
    lengths = [float(np.hypot(*np.subtract(t.xy, t.xyann))) for t in axes.texts if getattr(t, "arrow_patch", None)]
    assert len(lengths) == 3
    assert lengths[0] > lengths[1] > 0


@pytest.mark.parametrize(("shape", "figures", "pointers"), [((5, 5), 25, 25), ((30, 30), 0, 900), ((90, 90), 0, 0)])
def test_large_grids_leave_out_what_could_not_be_read(shape, figures, pointers):
    size = shape[0] * shape[1]
    axes = draw_grid(np.arange(size) / 7, np.zeros(size, int), shape).axes[0]
    assert (len(texts(axes)), len(arrows(axes))) == (figures, pointers)


@pytest.mark.parametrize("env", ["FrozenLake-v1", "FrozenLake8x8-v1", "CliffWalking-v1"])
@pytest.mark.parametrize("scale", [1.0, -1234.5, 1e-6])
def test_figures_and_arrows_do_not_collide(env, scale):
    mdp = MDP.from_env(env)
    rng = np.random.default_rng(0)
    figure = draw_grid(
        scale * rng.random(mdp.n_states),
        rng.integers(0, 4, mdp.n_states),
        mdp.shape,
        letters=mdp.letters,
        actions=mdp.actions,
    )
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    axes, drawing = figure.axes[0], canvas.get_renderer()
    boxes = [t.get_window_extent(drawing) for t in texts(axes)]
    boxes += [t.arrow_patch.get_window_extent(drawing) for t in axes.texts if getattr(t, "arrow_patch", None)]
    side = axes.transData.transform((1, 1)) - axes.transData.transform((0, 0))
    assert len(boxes) > mdp.n_states
    for i, box in enumerate(boxes):
        assert box.width < abs(side[0])
        assert box.height < abs(side[1])
        assert not any(box.overlaps(other) for other in boxes[:i])


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"values": [1.0, 2.0]}, ConfigError, r"give shape=\(rows, columns\)"),
        ({"values": [1.0, 2.0], "shape": (2, 2)}, DataError, "2 values do not fill a grid of 2 x 2"),
        ({"values": [[1.0, np.nan]]}, DataError, "the value of state 1 is nan"),
        ({"values": [[1.0, 2.0]], "policy": [0]}, DataError, r"the policy has the shape \(1,\)"),
        ({"values": [[1.0, 2.0]], "policy": [0, 4]}, DataError, "the policy has action 4, and 4 actions are named"),
        ({"values": [[1.0, 2.0]], "walls": [True]}, DataError, "walls has 1 items, and there are 2 cells"),
        ({"values": [[1.0, 2.0]], "letters": "SSS"}, DataError, "letters has 3 items, and there are 2 cells"),
    ],
)
def test_what_does_not_fit_together(given, error, message):
    with pytest.raises(error, match=message):
        draw_grid(**given)
