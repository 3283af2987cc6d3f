"""NumPy's generator in compiled code: the same draws from the same seed as `numpy.random.default_rng(seed)`.

gymnasium's environments draw from a PCG64 (O'Neill 2014, https://www.pcg-random.org/paper.html) that NumPy's SeedSequence seeds. numba
takes no array of NumPy's generators, and to seed one in Python costs as much as dozens of compiled steps; so both stand
here, for seeds below 2**32. A generator is a row of six uint64: state and increment, each high and low; whether half a draw is kept;
that half. The tests compare each function with NumPy's.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = ["ENTRY", "INNER", "WORDS", "below", "compiled_episode_seed", "seed_draws", "uniform"]

# How kernels are compiled: without numba's counting of references (_nrt), as they make no array: each array that is handed to a function
# is otherwise counted by an atomic operation. What is only called by compiled code (INNER) gets no way in from Python, which
# takes as long to compile as the function. All are numba's own names, tested up to 0.68.
ENTRY: dict[str, Any] = {"nogil": True, "_nrt": False, "error_model": "numpy", "no_cfunc_wrapper": True}
INNER: dict[str, Any] = ENTRY | {"no_cpython_wrapper": True}

WORDS = 6  # uint64 numbers of a generator

U = np.uint64
_0, _1, _11, _27, _30, _31, _32, _58, _63, _64 = U(0), U(1), U(11), U(27), U(30), U(31), U(32), U(58), U(63), U(64)
_16 = np.uint32(16)
_LOW = U(0xFFFFFFFF)
_TOP = U(1 << 31)
_TIMES_HIGH, _TIMES_LOW = U(2549297995355413924), U(4865540595714422341)
_GOLDEN, _A, _B = U(0x9E3779B97F4A7C15), U(0xBF58476D1CE4E5B9), U(0x94D049BB133111EB)
_INIT_A, _MULT_A = np.uint32(0x43B0D7E5), np.uint32(0x931E8875)
_INIT_B, _MULT_B = np.uint32(0x8B51F9DD), np.uint32(0x58F38DED)
_MIX_LEFT, _MIX_RIGHT = np.uint32(0xCA01F9DD), np.uint32(0x4973F715)


@njit(**INNER)
def compiled_episode_seed(seed: Any, env: Any, number: Any) -> Any:
    """`konspekt.rl.seeding.episode_seed` of three uint64."""
    state = _0
    for k in range(3):
        part = seed if k == 0 else (env if k == 1 else number)
        state = state + _GOLDEN + part
        state = (state ^ (state >> _30)) * _A
        state = (state ^ (state >> _27)) * _B
        state = state ^ (state >> _31)
    return (state >> _1) % _TOP


@njit(**INNER)
def _next(rng: NDArray[np.uint64]) -> Any:
    """state = state * multiplier + increment, in 128 bits; the draw that comes of it."""
    high, low = rng[0], rng[1]
    a, b = low >> _32, low & _LOW
    c, d = _TIMES_LOW >> _32, _TIMES_LOW & _LOW
    bd, ad, bc = b * d, a * d, b * c
    middle = (bd >> _32) + (ad & _LOW) + (bc & _LOW)
    over = a * c + (ad >> _32) + (bc >> _32) + (middle >> _32)
    high = over + high * _TIMES_LOW + low * _TIMES_HIGH
    low = low * _TIMES_LOW + rng[3]
    rng[0] = high + rng[2] + (_1 if low < rng[3] else _0)
    rng[1] = low
    value, turn = rng[0] ^ low, rng[0] >> _58
    return (value >> turn) | (value << ((_64 - turn) & _63))


@njit(**INNER)
def _hashed(value: Any, constant: Any) -> Any:
    value = np.uint32(np.uint32(value ^ constant) * np.uint32(constant * _MULT_A))
    return np.uint32(value ^ (value >> _16))


@njit(**INNER)
def seed_draws(rng: NDArray[np.uint64], seed: Any) -> None:
    """Begin a generator: that of `numpy.random.default_rng(seed)`, seed a uint64 below 2**32."""
    pool = (
        rng  # its first four numbers, of 32 bits each, until the words are made: an array of its own is slow to compile
    )
    four = len(rng) - 2  # not a constant: loops are not to be unrolled, which takes long to compile
    constant = _INIT_A
    for i in range(four):
        pool[i] = _hashed(np.uint32(seed) if i == 0 else np.uint32(0), constant)
        constant = np.uint32(constant * _MULT_A)
    for source in range(four):
        for i in range(four):
            if source != i:
                other = _hashed(np.uint32(pool[source]), constant)
                constant = np.uint32(constant * _MULT_A)
                mixed = np.uint32(np.uint32(_MIX_LEFT * np.uint32(pool[i])) - np.uint32(_MIX_RIGHT * other))
                pool[i] = np.uint32(mixed ^ (mixed >> _16))
    constant = _INIT_B
    high, low, step_high, step_low = _0, _0, _0, _0
    for i in range(2 * four):
        value = np.uint32(np.uint32(pool[i % 4]) ^ constant)
        constant = np.uint32(constant * _MULT_B)
        value = np.uint32(value * constant)
        word = U(np.uint32(value ^ (value >> _16))) << (_32 if i % 2 else _0)
        if i < 2:
            high |= word
        elif i < 4:
            low |= word
        elif i < 6:
            step_high |= word
        else:
            step_low |= word
    rng[0], rng[1], rng[4], rng[5] = _0, _0, _0, _0
    rng[2] = (step_high << _1) | (step_low >> _63)
    rng[3] = (step_low << _1) | _1
    _next(rng)
    rng[1] = rng[1] + low
    rng[0] = rng[0] + high + (_1 if rng[1] < low else _0)
    _next(rng)


@njit(**INNER)
def uniform(rng: NDArray[np.uint64]) -> Any:
    """`Generator.random()`: a float64 in [0, 1)."""
    return float(_next(rng) >> _11) * (1.0 / 9007199254740992.0)


@njit(**INNER)
def _half(rng: NDArray[np.uint64]) -> Any:
    """32 bits: the lower half of a draw, then the upper one that was kept."""
    if rng[4] != _0:
        rng[4] = _0
        return rng[5]
    value = _next(rng)
    rng[4], rng[5] = _1, value >> _32
    return value & _LOW


@njit(**INNER)
def below(rng: NDArray[np.uint64], count: Any) -> Any:
    """`Generator.integers(count)`, and the place that `Generator.choice` takes of `count`; count a uint64 from 2 to 2**32 - 1.

    Lemire 2019, "Fast random integer generation in an interval", as NumPy has it.
    """
    product = _half(rng) * count
    left = product & _LOW
    if left < count:
        threshold = (_LOW - (count - _1)) % count
        while left < threshold:
            product = _half(rng) * count
            left = product & _LOW
    return product >> _32
