"""An arm to move: two joints that bring the tip to a target in the shortest time."""

from __future__ import annotations

import functools
from typing import Annotated, Any, Literal

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from konspekt.core.errors import ConfigError
from konspekt.core.params import AtLeast, LessThan, MoreThan, check_arguments
from konspekt.core.registry import system
from konspekt.rl.environments.pictures import BLUE, GREY, INK, ORANGE, RED, WATER, Canvas

__all__ = ["Arm"]

Floats = NDArray[np.float64]
LINK = 0.5  # the length of either part, so that the arm reaches 1 far
HOME = (-np.pi / 2, 0.0)  # hanging straight down
NEAREST, FARTHEST = (
    0.2,
    0.9,
)  # targets; with `tolerance` they stay clear of the places where the arm is straight or folded
SLACK = 1e-6  # an action is a float32


@system(name="arm", kind="tool", rows=("R6",), paper="Ng, Harada & Russell 1999 (the shaping)")
class Arm(gymnasium.Env[Any, Any]):
    """An arm of two parts in the plane, whose tip is to come within `tolerance` of a target as soon as can be.

    An action is two numbers of -1 to 1: the speeds of the two joints, as shares of `speed`; more is clipped. The joints
    obey at once and turn all the way round. An episode begins with the arm hanging straight down and the target drawn
    evenly from the ring between 0.2 and 0.9 around the shoulder (the arm reaches 1), and ends with the tip at it. Each
    step pays -1.

    The observation: cosine and sine of both joints' angles, the target (x, y), and half the way from the tip to it.

    speed: the most that a joint turns in a step, in radians.
    tolerance: how near the tip has to come, below 0.1.
    shaping: pays so much beside for each unit of length that the tip comes nearer to the tolerance, and takes as much for
        each that it goes away. That changes the return of an episode that arrives by a constant, and so not what is best;
        with 0, one in a hundred episodes of random actions arrives, and there is little to learn from.
    horizon: steps after which an episode is truncated, pi / speed or more, which the farthest target may take.

    The optimum has a closed form up to a minimum along a circle. Joints are independent, so in n steps the arm comes to every
    posture with no joint farther than n * speed away, and to no other. The nearest posture with the tip at the target has it on
    the circle of radius `tolerance`, by one of the two bends of the elbow: the shortest time is that minimum, divided by the
    speed and rounded up.

    Raises ConfigError on an argument, and on a horizon in which a target may be out of reach.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 12}  # noqa: RUF012  gymnasium's own way

    def __init__(
        self,
        *,
        speed: Annotated[float, MoreThan(0), LessThan(3)] = 0.15,
        tolerance: Annotated[float, MoreThan(0), LessThan(0.1)] = 0.05,
        shaping: Annotated[float, AtLeast(0)] = 10.0,
        horizon: Annotated[int, AtLeast(1)] = 100,
        render_mode: Literal["rgb_array"] | None = None,
    ) -> None:
        given = {"speed": speed, "tolerance": tolerance, "shaping": shaping, "horizon": horizon}
        check_arguments("Arm", type(self), {**given, "render_mode": render_mode})
        if horizon < np.pi / speed:
            raise ConfigError(
                f"Arm: half a turn at speed={speed:g} takes {np.ceil(np.pi / speed):g} steps, and horizon={horizon} has fewer"
            )
        self.speed, self.tolerance, self.shaping, self.horizon = float(speed), float(tolerance), float(shaping), horizon
        self.render_mode = render_mode
        self.observation_space = spaces.Box(-1, 1, (8,), np.float32)
        self.action_space = spaces.Box(-1, 1, (2,), np.float32)
        self.joints = np.array(HOME)
        self.target = np.array([NEAREST, 0.0])
        self.steps = 0
        self.trail: list[Floats] = []

    def optimum(self, target: Any = None) -> float:
        """The best return of an episode with this target (x, y), or on average over the targets that are drawn.

        The average is taken over 7,200 targets that fill the ring evenly.
        """
        if target is not None:
            return float(self._returns(np.reshape(np.asarray(target, np.float64), (1, 2)))[0])
        return self._average

    @functools.cached_property
    def _average(self) -> float:
        # The arm hangs straight, so left and right are alike: half a ring is enough.
        areas = (np.arange(60) + 0.5) / 60 * (FARTHEST**2 - NEAREST**2) + NEAREST**2
        angles = (np.arange(120) + 0.5) / 120 * np.pi - np.pi / 2
        radius, angle = np.meshgrid(np.sqrt(areas), angles)
        places = np.stack([radius * np.cos(angle), radius * np.sin(angle)], -1).reshape(-1, 2)
        return float(np.mean([self._returns(part).mean() for part in np.array_split(places, 10)]))

    def _returns(self, targets: Floats) -> Floats:
        farness, _ = self.nearest_posture(targets, np.array(HOME))
        steps = np.maximum(np.ceil(farness / self.speed - SLACK), 1)
        gained = np.linalg.norm(targets - _tip(np.array(HOME)), axis=1) - self.tolerance
        returns: Floats = -steps + self.shaping * gained
        return returns

    def nearest_posture(self, targets: Floats, joints: Floats) -> tuple[Floats, Floats]:
        """The least that the farther of the two joints has to turn until the tip is at the target; and by how much each.

        targets: (n, 2). joints: the angles now (2,). Returns (n,) and (n, 2), in radians.
        """
        count = len(targets)
        centre, width = np.full((count, 1), np.pi), np.pi
        for points in (121, 21, 21, 21, 21):  # the circle, then ever less of it about the best
            angle = centre + np.linspace(-width, width, points)
            turns = _postures(targets[:, None] + self.tolerance * np.stack([np.cos(angle), np.sin(angle)], -1)) - joints
            turns = (turns + np.pi) % (2 * np.pi) - np.pi  # (bends, n, points, 2), the shorter way round
            farness = np.abs(turns).max(-1)
            best = farness.min(0).argmin(-1)
            centre = np.take_along_axis(angle, best[:, None], 1)
            width = 2 * width / (points - 1)
        row = np.arange(count)
        bend = farness[:, row, best].argmin(0)
        return farness[bend, row, best], turns[bend, row, best]

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Let the arm hang, and draw a target."""
        super().reset(seed=seed)
        self.joints = np.array(HOME)
        radius = np.sqrt(self.np_random.uniform(NEAREST**2, FARTHEST**2))
        angle = self.np_random.uniform(-np.pi, np.pi)
        self.target = radius * np.array([np.cos(angle), np.sin(angle)])
        self.steps = 0
        self.trail = [_tip(self.joints)]
        return self._observe(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Turn the joints."""
        before = self._gap()
        self.joints = self.joints + self.speed * np.clip(np.asarray(action, np.float64), -1, 1)
        self.trail.append(_tip(self.joints))
        self.steps += 1
        after = self._gap()
        arrived = after <= SLACK
        reward = -1 + self.shaping * (before - after)
        return self._observe(), float(reward), bool(arrived), self.steps >= self.horizon and not arrived, {}

    def _gap(self) -> float:
        return max(0.0, float(np.linalg.norm(self.target - _tip(self.joints))) - self.tolerance)

    def _observe(self) -> NDArray[np.float32]:
        first, second = self.joints
        way = (self.target - _tip(self.joints)) / 2
        parts = (np.cos(first), np.sin(first), np.cos(second), np.sin(second), *self.target, *way)
        return np.clip(np.array(parts, np.float32), -1, 1)

    def render(self) -> NDArray[np.uint8] | None:
        """The arm, the way of its tip, and the target with its tolerance, if render_mode is "rgb_array"."""
        if self.render_mode != "rgb_array":
            return None
        canvas = Canvas(400, 400)

        def place(x: float, y: float) -> tuple[float, float]:
            return 200 + 185 * x, 200 - 185 * y

        middle = place(0, 0)
        canvas.disc(middle, 185, WATER)
        for radius in (0.25, 0.5, 0.75):
            canvas.disc(middle, 185 * radius, None, edge=(206, 218, 230))
        canvas.line([place(-1, 0), place(1, 0)], (206, 218, 230))
        canvas.line([place(0, -1), place(0, 1)], (206, 218, 230))
        target = place(*self.target)
        canvas.disc(target, 185 * self.tolerance, (250, 214, 206), edge=RED, width=2)
        canvas.disc(target, 3, RED)
        trail = [place(*tip) for tip in self.trail or [_tip(self.joints)]]
        if len(trail) > 1:
            canvas.line(trail, ORANGE, 1.5)
        for tip in trail[:-1]:
            canvas.disc(tip, 2.2, ORANGE)
        elbow = place(LINK * np.cos(self.joints[0]), LINK * np.sin(self.joints[0]))
        tip = place(*_tip(self.joints))
        canvas.box(183, 183, 217, 217, GREY, radius=6)
        canvas.line([middle, elbow], BLUE, 16)
        canvas.line([elbow, tip], (84, 136, 196), 12)
        canvas.disc(middle, 11, INK)
        canvas.disc(middle, 4, GREY)
        canvas.disc(elbow, 8, INK)
        canvas.disc(elbow, 3, GREY)
        canvas.disc(tip, 5, INK)
        canvas.text((10, 10), f"step {self.steps}", size=15)
        return canvas.pixels()


def _tip(joints: Floats) -> Floats:
    """Where the tip is: (..., 2) of the joints (..., 2)."""
    first, both = joints[..., 0], joints[..., 0] + joints[..., 1]
    return LINK * np.stack([np.cos(first) + np.cos(both), np.sin(first) + np.sin(both)], -1)


def _postures(places: Floats) -> Floats:
    """The two postures (2, ..., 2) with the tip at these places (..., 2), which the arm reaches."""
    x, y = places[..., 0], places[..., 1]
    bend = np.arccos(np.clip((x**2 + y**2) / (2 * LINK**2) - 1, -1, 1))
    # Both parts are of one length, so the shoulder looks half the bend past the tip.
    return np.stack([np.stack([np.arctan2(y, x) - b / 2, b], -1) for b in (bend, -bend)])
