"""Acting and learning with a table of q-values, compiled. Course: rows R3, R4 (document M, section 2.4).

A state is K rows of the table, one for each tiling (K = 1 where there is none), and q(s, a) is the mean of their entries. A turn is
what lies between two steps of the environments: to learn from the one that was made, and to choose the actions of the next. Where the
environments are compiled too, `running` makes of both one call for many steps. Both ways go through the same `turn` and draw the same
numbers, so they learn the same table to the bit.

What is compiled is what an agent uses: policy and target are chosen when a kernel is made, not in it, and a branch for replay falls
away where there is none. Arrays are few, as each one handed on costs compilation.

Shape letters: n environments, D numbers of an observation, K rows of a state, R rows of the table, A actions, T tables (2 for double
Q), C transitions that are kept for replay, M episodes at most that end in a call.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numba import njit

from konspekt.rl.compiled_columns import LATE, OVER, RETURN, REWARD
from konspekt.rl.compiled_draws import ENTRY, INNER

__all__ = [
    "DOUBLE",
    "EPSILON",
    "ERRORS",
    "EXPECTED",
    "FILLED",
    "GREEDIEST",
    "MANY",
    "PLACE",
    "SAMPLED",
    "TEMPERATURE",
    "running",
    "turning",
]

# What the state after a step counts as: by its best action (Q-learning), the policy's mean (expected SARSA), its next action (SARSA),
# or what is best by the one table, valued by the other (double Q-learning).
GREEDIEST, EXPECTED, SAMPLED, DOUBLE = 0, 1, 2, 3
GAMMA, LR, EXPONENT, EPSILON, TEMPERATURE, REPLAYS, ERRORS = range(7)  # of `numbers`
MANY, PLACE, FILLED = 0, 1, 2  # of `places`
_SMALLEST = 5e-324  # gamma^t that came to nothing; 0 itself says that an episode begins
U = np.uint64
_11, _27, _30, _31 = U(11), U(27), U(30), U(31)
_GOLDEN, _A, _B = U(0x9E3779B97F4A7C15), U(0xBF58476D1CE4E5B9), U(0x94D049BB133111EB)


@njit(**INNER)
def _draw(rng: Any) -> float:
    """A float64 in [0, 1), by splitmix64 (Steele, Lea and Flood 2014): one word of state, and no seeding to compile."""
    rng[0] += _GOLDEN
    word = rng[0]
    word = (word ^ (word >> _30)) * _A
    word = (word ^ (word >> _27)) * _B
    return float((word ^ (word >> _31)) >> _11) * (1.0 / 9007199254740992.0)


@njit(**INNER)
def _fill(q: Any, without: int, rows: Any, i: int, at: int, width: int, values: Any) -> float:
    """q of each action into `values` (A,), the mean of tilings and of all tables but `without` (T: of all); the largest of them.

    The state's rows are numbers at to at + width in row i of `rows`. No argument may be a literal, for which it would be compiled again.
    """
    most = -np.inf
    tables = len(q) - 1 if without < len(q) else len(q)
    for a in range(len(values)):
        value = 0.0
        for table in range(len(q)):
            if table != without:
                for k in range(at, at + width):
                    value += q[table, rows[i, k], a]
        if tables * width > 1:
            value /= tables * width
        values[a] = value
        if value > most:
            most = value
    return most


@njit(**INNER)
def _best(values: Any, most: float, rng: Any) -> int:
    """The action of the largest value; among equal ones a drawn one."""
    best = ties = 0
    for a in range(len(values)):
        if values[a] == most:
            ties += 1
            if ties == 1 or _draw(rng) * ties < 1.0:
                best = a
    return best


@njit(**INNER)
def _greedy_pick(values: Any, most: float, numbers: Any, rng: Any) -> int:
    """An action of the epsilon-greedy policy."""
    if _draw(rng) < numbers[EPSILON]:
        return int(_draw(rng) * len(values))
    return _best(values, most, rng)


@njit(**INNER)
def _softmax_pick(values: Any, most: float, numbers: Any, rng: Any) -> int:
    """An action of the softmax (Boltzmann) policy."""
    total = 0.0
    for a in range(len(values)):
        total += math.exp((values[a] - most) / numbers[TEMPERATURE])
    draw = _draw(rng) * total
    for a in range(len(values)):
        draw -= math.exp((values[a] - most) / numbers[TEMPERATURE])
        if draw < 0:
            return a
    return len(values) - 1


@njit(**INNER)
def _greediest(q: Any, which: int, rows: Any, i: int, width: int, values: Any, numbers: Any, rng: Any) -> float:
    """What the state after a step is worth: its best action."""
    return _fill(q, len(q), rows, i, width, width, values)  # type: ignore[no-any-return]


@njit(**INNER)
def _greedy_mean(q: Any, which: int, rows: Any, i: int, width: int, values: Any, numbers: Any, rng: Any) -> float:
    """What the state after a step is worth: the mean under the epsilon-greedy policy."""
    most = _fill(q, len(q), rows, i, width, width, values)
    total = 0.0
    for a in range(len(values)):
        total += values[a]
    return (1 - numbers[EPSILON]) * most + numbers[EPSILON] * total / len(values)  # type: ignore[no-any-return]


@njit(**INNER)
def _softmax_mean(q: Any, which: int, rows: Any, i: int, width: int, values: Any, numbers: Any, rng: Any) -> float:
    """What the state after a step is worth: the mean under the softmax policy."""
    most = _fill(q, len(q), rows, i, width, width, values)
    total = weights = 0.0
    for a in range(len(values)):
        weight = math.exp((values[a] - most) / numbers[TEMPERATURE])
        total += weight * values[a]
        weights += weight
    return total / weights


@njit(**INNER)
def _other_table(q: Any, which: int, rows: Any, i: int, width: int, values: Any, numbers: Any, rng: Any) -> float:
    """What the state after a step is worth: what the other table says of the best action by this one, number `which`."""
    best = _best(values, _fill(q, 1 - which, rows, i, width, width, values), rng)
    _fill(q, which, rows, i, width, width, values)
    return values[best]  # type: ignore[no-any-return]


def _sampled(pick: Any) -> Any:
    @njit(**INNER)
    def sampled(q: Any, which: int, rows: Any, i: int, width: int, values: Any, numbers: Any, rng: Any) -> float:
        # What the state after a step is worth: the policy's next action, which is kept, as it will be taken.
        most = _fill(q, len(q), rows, i, width, width, values)
        action = pick(values, most, numbers, rng)
        rows[i, 3 * width] = action
        return values[action]  # type: ignore[no-any-return]

    return sampled


@cache
def turning(kind: int, softmax: bool) -> Callable[..., None]:
    """The turn of an agent, compiled once for a process, when it is first called.

    kind: one of GREEDIEST, EXPECTED, SAMPLED, DOUBLE. softmax: the policy; else epsilon-greedy.

    turn(learning, acting, outcome, actions, q, visits, rng, now, values, numbers, tallies, taken, places, past, rewards, ends)

    learning, acting: whether a step was made, and whether another one will be. outcome (n, 4 at least): what the step gave, in `compiled_columns`. actions (n, 1): those that were taken, and then those to take. q (T, R, A). visits (T, R, A): updates of each entry. rng (1,).
    now (n, 3K + 1): rows of the states that were acted on, of those that the actions led to, of those to act on next; the next action,
    where the update chose it (SARSA), else -1. values (A,): scratch. numbers: see the places above; EXPONENT 0: the learning rate is LR,
    else visits ** -EXPONENT; ERRORS sums |TD error|. tallies (n, 3): of the running episode q of its first action, discounted return, gamma^t.
    taken (A,): how often each action was taken. places (3,): episodes that ended in this call, where the next transition is
    kept, how many there are. past (C, 2K + 2), rewards (C,): those transitions: rows before and after, action, whether that was the end;
    None where there is no replay, as for SAMPLED, which writes the next action behind the rows. ends (M, 2): of each episode that ended q of its first action and its discounted return.
    """
    pick = _softmax_pick if softmax else _greedy_pick
    mean = _softmax_mean if softmax else _greedy_mean
    double = kind == DOUBLE
    follow = (_greediest, mean, None, _other_table)[kind] if kind != SAMPLED else _sampled(pick)

    @njit(**INNER)
    def update(
        q: Any,
        visits: Any,
        rng: Any,
        rows: Any,
        i: int,
        width: int,
        action: int,
        reward: float,
        over: bool,
        values: Any,
        numbers: Any,
    ) -> float:
        # Move q(s, a) towards what was got and what follows; the size of the error. What ended by itself (over) is followed by
        # nothing; what was cut short by a limit is not over.
        which = len(q) - 1
        if double:
            which = int(_draw(rng) * 2)
        error = reward
        if not over:
            error += numbers[GAMMA] * follow(q, which, rows, i, width, values, numbers, rng)
        value = 0.0
        for k in range(width):
            value += q[which, rows[i, k], action]
        error -= value / width
        for k in range(width):
            row = rows[i, k]
            visits[which, row, action] += 1
            rate = numbers[LR]
            if numbers[EXPONENT] > 0:
                rate = visits[which, row, action] ** -numbers[EXPONENT]
            q[which, row, action] += rate * error
        return abs(error)

    @njit(**ENTRY)
    def turn(
        learning: bool,
        acting: bool,
        outcome: Any,
        actions: Any,
        q: Any,
        visits: Any,
        rng: Any,
        now: Any,
        values: Any,
        numbers: Any,
        tallies: Any,
        taken: Any,
        places: Any,
        past: Any,
        rewards: Any,
        ends: Any,
    ) -> None:
        width = now.shape[1] // 3
        for i in range(len(now) if learning else 0):
            action, reward, over = actions[i, 0], outcome[i, REWARD], outcome[i, OVER] != 0.0
            numbers[ERRORS] += update(q, visits, rng, now, i, width, action, reward, over, values, numbers)
            tallies[i, 1] += tallies[i, 2] * reward
            tallies[i, 2] *= numbers[GAMMA]
            if tallies[i, 2] == 0.0:
                tallies[i, 2] = _SMALLEST
            if over or outcome[i, LATE] != 0.0:
                ends[places[MANY], 0], ends[places[MANY], 1] = tallies[i, 0], tallies[i, 1]
                tallies[i, 2] = 0.0
                places[MANY] += 1
                now[i, 3 * width] = -1
            if past is not None:
                place = places[PLACE]
                for k in range(2 * width):
                    past[place, k] = now[i, k]
                past[place, 2 * width], past[place, 2 * width + 1], rewards[place] = action, over, reward
                places[PLACE] = (place + 1) % len(past)
                if places[FILLED] < len(past):
                    places[FILLED] += 1
                for _ in range(int(numbers[REPLAYS])):
                    p = int(_draw(rng) * places[FILLED])
                    was, ended = past[p, 2 * width], past[p, 2 * width + 1] != 0
                    update(q, visits, rng, past, p, width, was, rewards[p], ended, values, numbers)
        for i in range(len(now) if acting else 0):
            for k in range(width):
                now[i, k] = now[i, 2 * width + k]
            action = now[i, 3 * width]
            if action < 0 or tallies[i, 2] == 0.0:
                most = _fill(q, len(q), now, i, 2 * width, width, values)
                if action < 0:
                    action = pick(values, most, numbers, rng)
                if tallies[i, 2] == 0.0:
                    tallies[i, 0], tallies[i, 1], tallies[i, 2] = values[action], 0.0, 1.0
            actions[i, 0] = action
            now[i, 3 * width] = -1
            taken[action] += 1

    return turn  # type: ignore[no-any-return]


@njit(**INNER)
def _find_numbers(
    observation: Any, i: int, start: Any, strides: Any, edges: Any, tiling: int, now: Any, at: int
) -> None:
    """The row of row i of the observations (n, D), whose numbers are whole, into now[i, at]."""
    row = 0
    for d in range(len(start)):
        row += int(observation[i, d] - start[d]) * strides[d]
    now[i, at] = row


@njit(**INNER)
def _find_bins(observation: Any, i: int, start: Any, strides: Any, edges: Any, tiling: int, now: Any, at: int) -> None:
    """The rows of row i of the observations (n, D), one in each tiling, from now[i, at]."""
    for k in range(len(edges)):
        row = k * tiling
        for d in range(len(start)):
            place = 0
            while place < edges.shape[2] and observation[i, d] >= edges[k, d, place]:
                place += 1
            row += place * strides[d]
        now[i, at + k] = row


@cache
def running(turn: Any, step: Any, whole: bool) -> Callable[..., None]:
    """Many steps of an agent with this turn in environments with this step, in one call; compiled once for a process.

    whole: the numbers of observations are whole.

    run(count, world, cells, table, ended)

    count: steps of all environments. world: what `step` takes. cells: start, strides (D,), edges (K, D, E) where a number goes into the next bin,
    ascending, then inf, rows of one tiling. table: what `turn` takes from q on. ended (M, 6): the episodes that ended, as in `Episodes`.
    """
    find = _find_numbers if whole else _find_bins

    @njit(**ENTRY)
    def run(count: int, world: Any, cells: Any, table: Any, ended: Any) -> None:
        actions, limit, seed, state, lives, totals, draws, rules, observation, final = world
        start, strides, edges, tiling = cells
        q, visits, rng, now, values, numbers, tallies, taken, places, past, rewards, ends = table
        width, many = now.shape[1] // 3, 0
        for t in range(count + 1):
            if t > 0:
                step(actions, limit, seed, state, lives, totals, draws, rules, observation, final)
                for i in range(len(now)):
                    find(final, i, start, strides, edges, tiling, now, width)
                    over = totals[i, OVER] != 0.0
                    if over or totals[i, LATE] != 0.0:
                        find(observation, i, start, strides, edges, tiling, now, 2 * width)
                        ended[many, 0], ended[many, 3] = i, totals[i, RETURN]
                        ended[many, 1], ended[many, 2], ended[many, 4] = lives[i, 3], lives[i, 4], lives[i, 5]
                        ended[many, 5] = 0.0 if over else 1.0
                        many += 1
                    else:
                        for k in range(width, 2 * width):
                            now[i, k + width] = now[i, k]
            turn(
                t > 0,
                t < count,
                totals,
                actions,
                q,
                visits,
                rng,
                now,
                values,
                numbers,
                tallies,
                taken,
                places,
                past,
                rewards,
                ends,
            )

    return run  # type: ignore[no-any-return]
