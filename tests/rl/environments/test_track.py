import math

import numpy as np
import pytest

from konspekt.core.errors import ConfigError
from konspekt.rl.environments.track import LAYOUTS, Track


def shortest(lines, start, top):
    """Steps from a square of the start to the finish, breadth first, with a mover of its own."""

    def square(r, c):
        return lines[r][c] if 0 <= r < len(lines) and 0 <= c < len(lines[0]) else "#"

    edge = {(*start, 0, 0)}
    seen = set(edge)
    for steps in range(1, 100):
        following = set()
        for r, c, down, right in edge:
            for more_down in (-1, 0, 1):
                for more_right in (-1, 0, 1):
                    d, w = max(-top, min(top, down + more_down)), max(-top, min(top, right + more_right))
                    parts = max(abs(d), abs(w), 1)
                    way = [
                        square(math.floor(r + d * i / parts + 0.5), math.floor(c + w * i / parts + 0.5))
                        for i in range(1, parts + 1)
                    ]
                    hits = [what for what in way if what in "#F"]
                    if hits and hits[0] == "F":
                        return steps
                    if not hits:
                        following.add((r + d, c + w, d, w))
        edge = following - seen
        seen |= following
    raise AssertionError("no way")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_without_slip_the_optimum_is_the_shortest_way(layout):
    env = Track(layout=layout, slip=0)
    lines = LAYOUTS[layout]
    starts = [(r, c) for r, line in enumerate(lines) for c, what in enumerate(line) if what == "S"]
    ways = [shortest(lines, start, env.max_speed) for start in starts]
    assert [env.plan.v[0, state] for state in range(len(starts))] == [-steps for steps in ways]
    assert env.optimum() == pytest.approx(-np.mean(ways))


@pytest.mark.parametrize(("squares", "steps"), [(2, 1), (4, 2), (7, 3), (8, 4), (11, 4), (12, 5)])
def test_straight_on_every_step_is_one_square_longer(squares, steps):
    # 1 + 2 + ... + n squares after n steps
    env = Track(layout=["S" + "." * (squares - 2) + "F"] * 2, slip=0, max_speed=9)
    assert env.optimum() == -steps


def test_next_to_the_finish_the_time_is_geometric():
    env = Track(layout=["SF", "##"], slip=0.5)
    assert env.optimum() == pytest.approx(-2, abs=1e-12)
    assert Track(layout=["SF", "##"], slip=1, horizon=7).optimum() == -7


def test_off_the_road_one_stands_at_the_start_again():
    env = Track(layout="short", slip=0)
    env.reset(seed=0)
    left = 3 * 1 + 0
    seen = set()
    for _ in range(60):
        _, reward, terminated, _, _ = env.step(left)
        assert (reward, terminated) == (-1, False)
        seen.add(env.decode(env.state))
    assert {car for car in seen if car[2:] == (0, 0)} == {(5, 2, 0, 0), (5, 3, 0, 0)}
    assert all(car[0] == 5 for car in seen)


def test_a_lost_push_leaves_the_speed():
    env = Track(layout="short", slip=0.25)
    faster = 0 * 3 + 1  # upwards
    outcomes = {env.decode(o[1]): o[0] for o in env.P[0][faster]}
    assert outcomes == {(4, 2, -1, 0): 0.75, (5, 2, 0, 0): 0.25}


def test_the_finish_is_passed_at_any_speed():
    env = Track(layout=["S..F...", "#######"], slip=0)
    faster = 3 * 1 + 2
    env.reset(seed=0)
    assert [env.step(faster)[2] for _ in range(2)] == [False, True]  # to 1, then by 2 on to 3
    assert env.decode(env.state) == (0, 3, 0, 0)
    env = Track(layout=["S...F...", "########"], slip=0, max_speed=1)
    env.reset(seed=0)
    assert [env.step(faster)[2] for _ in range(4)] == [False, False, False, True]  # no faster than max_speed


def test_as_numbers():
    env = Track(layout="short", observations="box")
    observation, _ = env.reset(seed=0)
    row, column = env.decode(env.state)[:2]
    assert np.allclose(observation, [2 * row / 6 - 1, 2 * column / 7 - 1, 0, 0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"layout": "bnd"}, "layout 'bnd' is not one of bend, chicane, short; did you mean 'bend'"),
        ({"layout": ["SF", "#"]}, "line 1 of the layout has 1 squares, and line 0 has 2"),
        ({"layout": ["SF", "#x"]}, "line 1 of the layout has 'x'; the squares are '#', '.', 'S' and 'F'"),
        ({"layout": ["S.", "##"]}, r"the layout has no finish \('F'\)"),
        ({"layout": ["F.", "##"]}, r"the layout has no start \('S'\)"),
        ({"layout": []}, "at least 2 lines of at least 2 squares"),
        ({"slip": 1.5}, "slip must be from 0 to 1, got 1.5"),
        ({"max_speed": 0}, "max_speed must be an integer at least 1, got 0"),
        ({"observations": "pixels"}, "observations"),
    ],
)
def test_what_is_wrong_is_named(arguments, message):
    with pytest.raises(ConfigError, match=message):
        Track(**arguments)
