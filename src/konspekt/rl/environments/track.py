"""A track to drive: the race track of Barto, Bradtke and Singh."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from konspekt.core.errors import ConfigError, nearest
from konspekt.core.params import AtLeast, Within, check_arguments
from konspekt.core.registry import system
from konspekt.rl.environments.pictures import BLUE, INK, ORANGE, Canvas
from konspekt.rl.environments.tables import Table, TableEnvironment

__all__ = ["LAYOUTS", "Track"]

# "#" grass, "." road, "S" where one starts, "F" the finish.
LAYOUTS: dict[str, tuple[str, ...]] = {
    "bend": (
        "##################",
        "######..........F#",
        "#####...........F#",
        "####............F#",
        "###.............F#",
        "##......##########",
        "##.....###########",
        "##....############",
        "##....############",
        "##....############",
        "##....############",
        "##....############",
        "##....############",
        "##SSSS############",
        "##################",
    ),
    "chicane": (
        "#################",
        "##########.....F#",
        "########.......F#",
        "#######........F#",
        "#######.....#####",
        "#######....######",
        "######.....######",
        "####......#######",
        "###......########",
        "##.....##########",
        "##....###########",
        "##...############",
        "##...############",
        "##SSS############",
        "#################",
    ),
    "short": (
        "########",
        "###...F#",
        "##....F#",
        "##..####",
        "##..####",
        "##SS####",
        "########",
    ),
}
Car = tuple[int, int, int, int]  # row, column, and the speed down and to the right
PUSHES = tuple(itertools.product((-1, 0, 1), (-1, 0, 1)))  # what an action adds to the speeds


@system(
    name="track", kind="tool", rows=("R6",), paper="Barto, Bradtke & Singh 1995; Sutton & Barto 2018, exercise 5.12"
)
class Track(TableEnvironment):
    """A car on a track of squares, to be brought from the start to the finish in as few steps as can be.

    An action is one of nine, `3 * (1 + down) + 1 + right`: the speed down and to the right grows by -1, 0 or 1, within
    `max_speed`. Then the car moves by its speed; the squares are those on the straight line, one at a time. At the first one of
    the finish the episode ends. At the first one of the grass the car stands on a square of the start again, drawn
    evenly, and the episode goes on. With probability `slip` the push is lost. Each step pays -1.

    layout: "bend", "chicane" or "short", or lines of "#" (grass), "." (road), "S" (start) and "F" (finish).
    horizon: steps after which an episode is truncated.
    observations: "discrete": the number of the state, of those that can be reached (`decode` says what it is); "box":
        the row, the column and both speeds, each as -1 to 1.

    The optimum is computed: `P` holds what every action leads to, and `optimum` goes backwards through the horizon.

    Raises ConfigError on an argument, on lines of different lengths, and on a layout without start or finish.
    """

    def __init__(
        self,
        *,
        layout: str | Sequence[str] = "bend",
        slip: Annotated[float, Within(0, 1)] = 0.1,
        max_speed: Annotated[int, AtLeast(1)] = 4,
        horizon: Annotated[int, AtLeast(1)] = 200,
        observations: Literal["discrete", "box"] = "discrete",
        render_mode: Literal["rgb_array"] | None = None,
    ) -> None:
        given: dict[str, Any] = {"slip": slip, "max_speed": max_speed, "horizon": horizon}
        check_arguments("Track", type(self), {**given, "observations": observations, "render_mode": render_mode})
        lines = _lines(layout)
        self.squares = np.array([list(line) for line in lines])
        self.slip, self.max_speed = float(slip), max_speed
        self.starts: list[Car] = _starts(lines)
        self.cars, self.P = _explore(lines, self.slip, max_speed)
        self.initial_state_distrib = np.zeros(len(self.cars))
        self.initial_state_distrib[: len(self.starts)] = 1 / len(self.starts)
        self.begin(observations, 4, horizon, render_mode)
        self.action_space = spaces.Discrete(len(PUSHES))
        self.trail: list[Car] = []

    def decode(self, state: int) -> Car:
        """The row, the column, the speed down and the speed to the right of a state."""
        return self.cars[state]

    def features(self, state: int) -> NDArray[np.float32]:
        """Row, column and speeds, each as -1 to 1."""
        row, column, down, right = self.cars[state]
        rows, columns = self.squares.shape
        places = (2 * row / (rows - 1) - 1, 2 * column / (columns - 1) - 1)
        return np.array([*places, down / self.max_speed, right / self.max_speed], np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Put the car on a square of the start."""
        found = super().reset(seed=seed)
        self.trail = [self.cars[self.state]]
        return found

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Push, and move."""
        found = super().step(action)
        self.trail.append(self.cars[self.state])
        return found

    def draw(self) -> NDArray[np.uint8]:
        """The track from above, the car, and the way it has come since it last stood at the start."""
        rows, columns = self.squares.shape
        side = max(4, 416 // max(rows, columns))
        canvas = Canvas(columns * side, rows * side, (118, 158, 96))
        for (row, column), kind in np.ndenumerate(self.squares):
            x, y = column * side, row * side
            if kind == "#":
                if (row + column) % 2:
                    canvas.box(x, y, x + side, y + side, (110, 150, 89))
                continue
            canvas.box(x, y, x + side, y + side, (214, 212, 206) if kind == "S" else (92, 96, 104))
            canvas.box(x, y, x + side, y + side, None, edge=(104, 108, 116), width=0.5)
            for i, j in itertools.product(range(4), range(4)) if kind == "F" else ():
                shade = (245, 245, 245) if (i + j) % 2 else (30, 30, 34)
                canvas.box(x + i * side / 4, y + j * side / 4, x + (i + 1) * side / 4, y + (j + 1) * side / 4, shade)
        for (row, column), kind in np.ndenumerate(self.squares):  # once all squares are there, or they would cover it
            x, y = column * side, row * side
            for r, c, line in (
                (row - 1, column, [(x, y), (x + side, y)]),
                (row + 1, column, [(x, y + side), (x + side, y + side)]),
                (row, column - 1, [(x, y), (x, y + side)]),
                (row, column + 1, [(x + side, y), (x + side, y + side)]),
            ):
                inside = 0 <= r < rows and 0 <= c < columns
                if kind != "#" and inside and self.squares[r, c] == "#":
                    canvas.line(line, (236, 232, 222), side / 12)
        self._draw_car(canvas, side)
        return canvas.pixels()

    def _draw_car(self, canvas: Canvas, side: int) -> None:
        trail = self.trail or [self.cars[self.state]]
        last = max(i for i, car in enumerate(trail) if car in self.starts)
        way = [((car[1] + 0.5) * side, (car[0] + 0.5) * side) for car in trail[last:]]
        if len(way) > 1:
            canvas.line(way, (250, 204, 96), side / 10)
        for place in way[:-1]:
            canvas.disc(place, side / 9, ORANGE)
        (x, y), car = way[-1], trail[-1]
        down, right = car[2:]
        if down == right == 0 and len(way) > 1:  # at the finish, the car still looks to where it went
            right, down = round(x - way[-2][0]), round(y - way[-2][1])
        length = float(np.hypot(down, right))
        ahead = np.array([0.0, -1.0]) if length == 0 else np.array([right, down]) / length
        aside = np.array([-ahead[1], ahead[0]])
        centre = np.array([x, y])

        def corner(forward: float, sideways: float) -> tuple[float, float]:
            place = centre + side * (forward * ahead + sideways * aside)
            return float(place[0]), float(place[1])

        for forward, sideways in itertools.product((-0.28, 0.24), (-0.24, 0.24)):
            at = [
                corner(forward + f, sideways + s) for f, s in ((-0.1, -0.06), (0.1, -0.06), (0.1, 0.06), (-0.1, 0.06))
            ]
            canvas.shape(at, INK)
        hull = [(-0.42, -0.2), (0.2, -0.2), (0.46, -0.1), (0.46, 0.1), (0.2, 0.2), (-0.42, 0.2)]
        canvas.shape([corner(*place) for place in hull], BLUE, (245, 245, 245))
        canvas.shape(
            [corner(*place) for place in ((0.02, -0.13), (0.2, -0.1), (0.2, 0.1), (0.02, 0.13))], (200, 222, 240)
        )


def _lines(layout: str | Sequence[str]) -> tuple[str, ...]:
    if isinstance(layout, str):
        if layout not in LAYOUTS:
            raise ConfigError(
                f"Track: layout {layout!r} is not one of {', '.join(LAYOUTS)}; {nearest(layout, LAYOUTS)}"
            )
        layout = LAYOUTS[layout]
    lines = tuple(str(line) for line in layout)
    if len(lines) < 2 or len(lines[0]) < 2:
        raise ConfigError("Track: a layout needs at least 2 lines of at least 2 squares")
    for number, line in enumerate(lines):
        if len(line) != len(lines[0]):
            raise ConfigError(
                f"Track: line {number} of the layout has {len(line)} squares, and line 0 has {len(lines[0])}"
            )
        if stray := sorted(set(line) - set("#.SF")):
            raise ConfigError(
                f"Track: line {number} of the layout has {stray[0]!r}; the squares are '#', '.', 'S' and 'F'"
            )
    for kind, what in (("S", "start"), ("F", "finish")):
        if not any(kind in line for line in lines):
            raise ConfigError(f"Track: the layout has no {what} ({kind!r})")
    return lines


def _starts(lines: tuple[str, ...]) -> list[Car]:
    return [(r, c, 0, 0) for r, line in enumerate(lines) for c, kind in enumerate(line) if kind == "S"]


def _drive(lines: tuple[str, ...], max_speed: int, car: Car, push: tuple[int, int]) -> tuple[Car | None, bool]:
    """Where a car comes by a push that is not lost: None where it leaves the road; and whether it is at the finish."""
    row, column = car[:2]
    down, right = (max(-max_speed, min(max_speed, car[2 + i] + push[i])) for i in (0, 1))
    longest = max(abs(down), abs(right))
    for part in range(1, longest + 1):
        # Halves are rounded up on both axes, so that the squares of a way depend on nothing but the way.
        r = row + (2 * part * down + longest) // (2 * longest)
        c = column + (2 * part * right + longest) // (2 * longest)
        if not (0 <= r < len(lines) and 0 <= c < len(lines[0])) or lines[r][c] == "#":
            return None, False
        if lines[r][c] == "F":
            return (r, c, 0, 0), True
    return (row + down, column + right, down, right), False


@functools.lru_cache(maxsize=8)  # half a second, and many environments are made alike
def _explore(lines: tuple[str, ...], slip: float, max_speed: int) -> tuple[list[Car], Table]:
    """The states that can be reached, those of the start first, and the table over them."""
    starts = _starts(lines)
    cars = list(starts)
    numbers = {car: i for i, car in enumerate(cars)}
    table: Table = {}
    for state, car in enumerate(cars):  # the list grows while it is read
        if lines[car[0]][car[1]] == "F":
            table[state] = {action: [(1.0, state, 0.0, True)] for action in range(len(PUSHES))}
            continue
        table[state] = {}
        for action, push in enumerate(PUSHES):
            shares: dict[tuple[int, bool], float] = {}
            for probability, felt in ((1 - slip, push), (slip, (0, 0))):
                to, done = _drive(lines, max_speed, car, felt)
                followers = starts if to is None else [to]
                for follower in followers if probability > 0 else ():
                    if follower not in numbers:
                        numbers[follower] = len(cars)
                        cars.append(follower)
                    key = (numbers[follower], done)
                    shares[key] = shares.get(key, 0.0) + probability / len(followers)
            table[state][action] = [(share, follower, -1.0, done) for (follower, done), share in shares.items()]
    return cars, table
