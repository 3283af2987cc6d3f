"""The rules of gymnasium's toy texts in compiled code: any table of transitions, and Blackjack.

Sources: gymnasium.envs.toy_text. FrozenLake, CliffWalking and Taxi carry their transitions as a table `P`; it is read from the
environment, so maps and options of the user's are in it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from konspekt.rl.compiled_draws import INNER, below, uniform
from konspekt.rl.compiled_loop import looped_kernel

__all__ = ["blackjack_kernel", "table_kernel", "table_of"]


def table_of(
    env: Any,
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """A table `P` as arrays: cumulated shares of states to begin in (S,); then, (S, A, outcomes), next states, cumulated
    probabilities (-1 where there are fewer outcomes), rewards, whether the episode ends."""
    states, actions = len(env.P), len(env.P[0])
    outcomes = max(len(env.P[s][a]) for s in range(states) for a in range(actions))
    shape = (states, actions, outcomes)
    following, probability = np.zeros(shape, np.int64), np.full(shape, -1.0)
    reward, over = np.zeros(shape), np.zeros(shape, np.bool_)
    for s in range(states):
        for a in range(actions):
            listed = env.P[s][a]
            probability[s, a, : len(listed)] = np.cumsum([one[0] for one in listed])
            for k, (_, state, value, end) in enumerate(listed):
                following[s, a, k], reward[s, a, k], over[s, a, k] = state, value, end
    return np.cumsum(env.initial_state_distrib), following, probability, reward, over


@njit(**INNER)
def _drawn(cumulated: Any, rng: Any) -> Any:
    """gymnasium's categorical_sample: the first place whose cumulated probability is above a draw, or 0."""
    draw = uniform(rng)
    for k in range(len(cumulated)):
        if cumulated[k] > draw:
            return k
    return 0


@cache
def table_kernel() -> Callable[..., None]:
    """The kernel of a table, compiled once for a process. A state is its number."""

    @njit(**INNER)
    def begin(state: Any, rng: Any, rules: Any) -> None:
        state[0] = _drawn(rules[0], rng)

    @njit(**INNER)
    def advance(action: Any, state: Any, rng: Any, rules: Any) -> Any:
        _, following, probability, reward, over = rules
        s, a = int(state[0]), action[0]
        # With one outcome everywhere nothing depends on the draw.
        k = _drawn(probability[s, a], rng) if probability.shape[2] > 1 else 0
        state[0] = following[s, a, k]
        return reward[s, a, k], over[s, a, k]

    @njit(**INNER)
    def observe(state: Any, observation: Any) -> None:
        observation[0] = int(state[0])

    return looped_kernel(begin, advance, observe)


_DECK = np.uint64(13)
_TWO, _THREE, _FOUR = np.uint64(2), np.uint64(3), np.uint64(4)


@cache
def blackjack_kernel() -> Callable[..., None]:
    """The kernel of Blackjack, compiled once for a process.

    A state is a hand of the player and one of the dealer, each as its sum with aces at 1, whether there is an ace, and the number of
    cards; then the dealer's open card. An observation is the player's sum, that card, and whether an ace counts 11. rules: what a
    natural pays beside what it wins anyway: 0 nothing, 1 it wins at once (`sab`), 2 one and a half (`natural`).
    """

    @njit(**INNER)
    def draw(hand: Any, rng: Any) -> Any:
        card = min(int(below(rng, _DECK)) + 1, 10)
        hand[0] += card
        hand[2] += 1
        if card == 1:
            hand[1] = 1
        return card

    @njit(**INNER)
    def value(hand: Any) -> Any:
        return hand[0] + 10 if hand[1] == 1 and hand[0] + 10 <= 21 else hand[0]

    @njit(**INNER)
    def begin(state: Any, rng: Any, rules: Any) -> None:
        for k in range(7):
            state[k] = 0
        state[6] = draw(state[3:6], rng)
        draw(state[3:6], rng)
        draw(state[0:3], rng)
        draw(state[0:3], rng)
        below(rng, _FOUR)  # the suit and the name of the open card, which gymnasium draws to show them
        if state[6] == 10:
            below(rng, _THREE)

    @njit(**INNER)
    def advance(action: Any, state: Any, rng: Any, rules: Any) -> Any:
        player, dealer = state[0:3], state[3:6]
        if action[0] == 1:
            draw(player, rng)
            over = value(player) > 21
            return (-1.0 if over else 0.0), over
        while value(dealer) < 17:
            draw(dealer, rng)
        mine, other = value(player), value(dealer)  # the player is not above 21 here
        other = 0 if other > 21 else other
        reward = 1.0 if mine > other else (-1.0 if mine < other else 0.0)
        natural = player[2] == 2 and mine == 21
        if rules[0] == 1 and natural and not (dealer[2] == 2 and other == 21):
            reward = 1.0
        elif rules[0] == 2 and natural and reward == 1.0:
            reward = 1.5
        return reward, True

    @njit(**INNER)
    def observe(state: Any, observation: Any) -> None:
        observation[0] = int(value(state[0:3]))
        observation[1] = int(state[6])
        observation[2] = 1 if state[1] == 1 and state[0] + 10 <= 21 else 0

    return looped_kernel(begin, advance, observe)
