"""The rules of gymnasium's classic control in compiled code, equal to it to the bit.

Sources: gymnasium.envs.classic_control, whose arithmetic is followed operation by operation: which numbers are of 32 bits, in which order
they are added, and where a square is a product and where it is C's pow. LLVM would turn pow(x, 2.0) into a product, which now and
then rounds otherwise; so the exponent comes at run time, as `rules[0]`.

A state is a row of float64; each environment says what is in it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numba import njit

from konspekt.rl.compiled_draws import INNER, uniform
from konspekt.rl.compiled_loop import looped_kernel

__all__ = ["CLASSIC", "acrobot_beginnings", "classic_kernel"]

F, D = np.float32, np.float64  # compiled, float() of a 32-bit number stays one
_ANGLE, _WIDTH = 12 * 2 * math.pi / 360, 2.4  # CartPole's limits
_PI = math.pi
_COST, _THREE, _TORQUE = F(0.001), F(3.0), F(2.0)  # Pendulum's
_POWER, _FASTEST, _LEFT, _RIGHT, _GOAL = F(0.0015), F(0.07), F(-1.2), F(0.6), F(0.45)  # MountainCarContinuous's


@njit(**INNER)
def _between(rng: Any, low: float, high: float) -> Any:
    return low + (high - low) * uniform(rng)


# -- CartPole: x, its speed, angle, its speed ----------------------------------------------------------------------------


def _cartpole() -> tuple[Any, Any, Any]:
    @njit(**INNER)
    def begin(state: Any, rng: Any, rules: Any) -> None:
        for k in range(4):
            state[k] = _between(rng, -0.05, 0.05)

    @njit(**INNER)
    def advance(action: Any, state: Any, rng: Any, rules: Any) -> Any:
        x, speed, angle, turning = state[0], state[1], state[2], state[3]
        force = 10.0 if action[0] == 1 else -10.0
        cosine, sine = np.cos(angle), np.sin(angle)
        total, pole = 0.1 + 1.0, 0.1 * 0.5
        push = (force + pole * (turning * turning) * sine) / total
        turn = (9.8 * sine - cosine * push) / (0.5 * (4.0 / 3.0 - 0.1 * (cosine * cosine) / total))
        move = push - pole * turn * cosine / total
        x = x + 0.02 * speed
        angle = angle + 0.02 * turning
        state[0], state[1], state[2], state[3] = x, speed + 0.02 * move, angle, turning + 0.02 * turn
        return 1.0, x < -_WIDTH or x > _WIDTH or angle < -_ANGLE or angle > _ANGLE

    @njit(**INNER)
    def observe(state: Any, observation: Any) -> None:
        for k in range(4):
            observation[k] = state[k]

    return begin, advance, observe


# -- Acrobot: two angles and their speeds ---------------------------------------------------------------------------------


def _acrobot() -> tuple[Any, Any, Any]:
    @njit(**INNER)
    def begin(state: Any, rng: Any, rules: Any) -> None:
        for k in range(4):
            state[k] = F(_between(rng, -0.1, 0.1))

    @njit(**INNER)
    def slope(a: float, b: float, a_speed: float, b_speed: float, torque: float, two: float) -> Any:
        d1 = 0.25 + (1.25 + 1.0 * np.cos(b)) + 1.0 + 1.0
        d2 = (0.25 + 0.5 * np.cos(b)) + 1.0
        phi2 = 0.5 * 9.8 * np.cos(a + b - _PI / 2.0)
        phi1 = (
            -0.5 * math.pow(b_speed, two) * np.sin(b)
            - 1.0 * b_speed * a_speed * np.sin(b)
            + 1.5 * 9.8 * np.cos(a - _PI / 2)
            + phi2
        )
        second = torque + d2 / d1 * phi1 - 0.5 * math.pow(a_speed, two) * np.sin(b) - phi2
        second /= 0.25 + 1.0 - math.pow(d2, two) / d1
        return a_speed, b_speed, -(d2 * second + phi1) / d1, second

    @njit(**INNER)
    def moved(state: Any, by: float, slope: Any) -> Any:
        return state[0] + by * slope[0], state[1] + by * slope[1], state[2] + by * slope[2], state[3] + by * slope[3]

    @njit(**INNER)
    def advance(action: Any, state: Any, rng: Any, rules: Any) -> Any:
        torque, two, half = float(action[0]) - 1.0, rules[0], 0.2 / 2.0
        k1 = slope(state[0], state[1], state[2], state[3], torque, two)
        k2 = slope(*moved(state, half, k1), torque, two)
        k3 = slope(*moved(state, half, k2), torque, two)
        k4 = slope(*moved(state, 0.2, k3), torque, two)
        for k in range(4):  # Runge and Kutta's step
            state[k] += 0.2 / 6.0 * (k1[k] + 2 * k2[k] + 2 * k3[k] + k4[k])
        for k in range(2):
            while state[k] > _PI:
                state[k] = state[k] - 2 * _PI
            while state[k] < -_PI:
                state[k] = state[k] + 2 * _PI
        state[2] = min(max(state[2], -4 * _PI), 4 * _PI)
        state[3] = min(max(state[3], -9 * _PI), 9 * _PI)
        over = -np.cos(state[0]) - np.cos(state[1] + state[0]) > 1.0
        return (0.0 if over else -1.0), over

    @njit(**INNER)
    def observe(state: Any, observation: Any) -> None:
        observation[0], observation[1] = np.cos(state[0]), np.sin(state[0])
        observation[2], observation[3] = np.cos(state[1]), np.sin(state[1])
        observation[4], observation[5] = state[2], state[3]

    return begin, advance, observe


def acrobot_beginnings(state: Any, observation: Any) -> None:
    """Write the first observations of episodes: gymnasium has the state in 32 bits there, and NumPy's cosine of them is its own."""
    angles = state[:, :2].astype(np.float32)
    observation[:, 0:4:2], observation[:, 1:4:2] = np.cos(angles), np.sin(angles)


# -- MountainCar: position, speed -----------------------------------------------------------------------------------------


def _mountain_car() -> tuple[Any, Any, Any]:
    @njit(**INNER)
    def begin(state: Any, rng: Any, rules: Any) -> None:
        state[0], state[1] = _between(rng, -0.6, -0.4), 0.0

    @njit(**INNER)
    def advance(action: Any, state: Any, rng: Any, rules: Any) -> Any:
        position, speed = state[0], state[1]
        speed += (action[0] - 1) * 0.001 + math.cos(3 * position) * (-0.0025)
        speed = min(max(speed, -0.07), 0.07)
        position = min(max(position + speed, -1.2), 0.6)
        if position == -1.2 and speed < 0:
            speed = 0.0
        state[0], state[1] = position, speed
        return -1.0, position >= 0.5 and speed >= 0

    @njit(**INNER)
    def observe(state: Any, observation: Any) -> None:
        observation[0], observation[1] = state[0], state[1]

    return begin, advance, observe


# -- MountainCarContinuous: position, speed, whether a step was taken ---------------------------------------------------------


def _mountain_car_continuous() -> tuple[Any, Any, Any]:
    @njit(**INNER)
    def begin(state: Any, rng: Any, rules: Any) -> None:
        state[0], state[1], state[2] = _between(rng, -0.6, -0.4), 0.0, 0.0

    @njit(**INNER)
    def advance(action: Any, state: Any, rng: Any, rules: Any) -> Any:
        force = action[0]
        if state[2] == 0.0:  # the first step is in 64 bits; what it leads to is kept in 32
            position, speed = state[0], state[1]
            speed += D(force * _POWER - F(0.0025 * math.cos(3 * position)))
            speed = min(max(speed, -0.07), 0.07)
            position = min(max(position + speed, -1.2), 0.6)
            if position == -1.2 and speed < 0:
                speed = 0.0
            over = position >= 0.45 and speed >= 0
            state[0], state[1] = F(position), F(speed)
        else:
            place, fast = F(state[0]), F(state[1])
            fast = F(fast + F(F(force * _POWER) - F(0.0025 * math.cos(D(F(_THREE * place))))))
            fast = min(max(fast, -_FASTEST), _FASTEST)
            place = min(max(F(place + fast), _LEFT), _RIGHT)
            if place == _LEFT and fast < 0:
                fast = F(0)
            over = place >= _GOAL and fast >= 0
            state[0], state[1] = place, fast
        state[2] = 1.0
        return (100.0 if over else 0.0) - D(force) * D(force) * 0.1, over

    @njit(**INNER)
    def observe(state: Any, observation: Any) -> None:
        observation[0], observation[1] = state[0], state[1]

    return begin, advance, observe


# -- Pendulum: angle, its speed -------------------------------------------------------------------------------------------


def _pendulum() -> tuple[Any, Any, Any]:
    @njit(**INNER)
    def begin(state: Any, rng: Any, rules: Any) -> None:
        state[0] = _between(rng, -_PI, _PI)
        state[1] = _between(rng, -1.0, 1.0)

    @njit(**INNER)
    def advance(action: Any, state: Any, rng: Any, rules: Any) -> Any:
        angle, turning, torque, two = state[0], state[1], action[0], rules[0]
        off = (angle + _PI) % (2 * _PI) - _PI
        cost = math.pow(off, two) + 0.1 * math.pow(turning, two) + D(F(_COST * F(math.pow(torque, F(two)))))
        turning = turning + (15.0 * np.sin(angle) + D(F(_THREE * torque))) * 0.05
        turning = min(max(turning, -8.0), 8.0)
        state[0], state[1] = angle + turning * 0.05, turning
        return -cost, False

    @njit(**INNER)
    def observe(state: Any, observation: Any) -> None:
        observation[0], observation[1], observation[2] = np.cos(state[0]), np.sin(state[0]), state[1]

    return begin, advance, observe


CLASSIC: dict[
    str, tuple[Callable[[], tuple[Any, Any, Any]], int]
] = {  # a class of gymnasium's -> its rules, numbers of a state
    "CartPoleEnv": (_cartpole, 4),
    "AcrobotEnv": (_acrobot, 4),
    "MountainCarEnv": (_mountain_car, 2),
    "Continuous_MountainCarEnv": (_mountain_car_continuous, 3),
    "PendulumEnv": (_pendulum, 2),
}


@cache
def classic_kernel(name: str) -> Callable[..., None]:
    """The kernel of a class in CLASSIC, compiled once for a process, when they are first called."""
    return looped_kernel(*CLASSIC[name][0]())
