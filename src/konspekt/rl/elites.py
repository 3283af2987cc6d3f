"""Sessions that are played whole, the best of them, and noise that fades. Course: row R2 (document M, section 2.2).

Shape letters in this file: n environments, T steps of a session, E sessions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from konspekt.rl.checking import LONGEST, Place, refuse_endless
from konspekt.rl.episodes import Episode, next_number
from konspekt.rl.seeding import episode_seed
from konspekt.rl.vector import Environments

__all__ = ["Carried", "Session", "above_start", "faded", "joined", "last_visits", "play_sessions", "select"]

FORETOLD = 0.1  # the share of the scores' variance that the start must foretell to be reckoned with
REMEMBERED = 10  # rounds whose sessions tell what a start is worth


class Session(NamedTuple):
    """A whole episode. observations (T, ...), actions (T, ...), score: what sessions are ranked by, the discounted return."""

    observations: NDArray[Any]
    actions: NDArray[Any]
    score: float


def select(scores: NDArray[np.float64], share: float) -> NDArray[np.bool_]:
    """Which sessions are the best `share` of all, (E,); at least one.

    Sessions as good as the last of them belong to them too, unless that would be more than twice as many: then only those that
    are better. Where all are equal none is best, and nothing can be learned from them.
    """
    wanted = max(1, math.ceil(share * len(scores)))
    threshold = np.sort(scores)[::-1][wanted - 1]
    if scores.max() == scores.min():
        return np.zeros(len(scores), np.bool_)
    best = scores >= threshold
    better: NDArray[np.bool_] = scores > threshold
    return better if best.sum() > 2 * wanted and better.any() else best


def above_start(
    scores: NDArray[np.float64], starts: NDArray[Any], past: tuple[NDArray[np.float64], NDArray[Any]] | None = None
) -> NDArray[np.float64]:
    """Scores (E,) less what the start foretells; the scores as they are where it foretells next to nothing.

    Who begins well would be an elite whatever it does, and what to do elsewhere would be forgotten. What is foretold is a least-squares
    regression on the first observations: starts (E, F), or (E,) whole numbers, which name groups and foretell their means. Whether
    that is much is judged by predictions that leave the session out. No shrinkage: with it a part of the luck would stay, and where all
    in a group are equal it would decide. past: scores, each less the mean of its round, and starts of earlier rounds, which the
    regression learns from too: where starts are many, few begin alike in one round.
    """
    centred = scores - scores.mean()
    known, begun = centred, starts
    if past is not None:
        known, begun = np.concatenate([centred, past[0]]), np.concatenate([starts, past[1]])
    rest, weight = _by_groups(known, begun) if begun.ndim == 1 else _by_columns(known, begun)
    rest, weight = rest[: len(scores)], weight[: len(scores)]
    if not centred.any():
        return scores
    alone = weight > 1 - 1e-6
    left_out = np.where(alone, centred, rest / np.where(alone, 1.0, 1 - weight))
    foretold = 1 - (left_out @ left_out) / (centred @ centred)
    if foretold <= FORETOLD:
        return scores
    unit = 1e-9 * np.abs(scores).max()
    return np.rint(rest / unit) * unit  # equal ones stay equal


def _by_columns(scores: NDArray[np.float64], starts: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What a regression on columns (E, F) leaves of the scores, and the weight of each in its own prediction, (E,)."""
    scores = scores - scores.mean()
    u, sizes, _ = np.linalg.svd(starts - starts.mean(axis=0), full_matrices=False)
    u = u[:, sizes > 1e-6 * max(sizes[0], 1e-12)]
    return scores - u @ (u.T @ scores), 1 / len(scores) + (u**2).sum(axis=1)  # 1 where no other began like it


def _by_groups(scores: NDArray[np.float64], starts: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The same for groups (E,): what their means leave."""
    _, group, count = np.unique(starts, return_inverse=True, return_counts=True)
    return scores - (np.bincount(group, scores) / count)[group], 1 / count[group]


def last_visits(sessions: Sequence[Session]) -> list[Session]:
    """The sessions without their loops: of every observation only the last visit, with the action that led on from there.

    What was done at earlier visits led back to the same state. Where observations are states, a greedy policy of one such
    session does not loop.
    """
    kept = []
    for one in sessions:
        flat = one.observations.reshape(len(one.observations), -1)[::-1]
        last = np.sort(len(flat) - 1 - np.unique(flat, axis=0, return_index=True)[1])
        kept.append(Session(one.observations[last], one.actions[last], one.score))
    return kept


def faded(first: float, last: float, share: float, progress: float) -> float:
    """A number that goes from `first` to `last` evenly over `share` of the training, and stays. progress: from 0 to 1."""
    return first + (last - first) * min(progress / share, 1.0)


@dataclass
class Carried:
    """Elites of the last `rounds` rounds, which compete with the sessions of the next one."""

    rounds: int
    starts: Callable[[NDArray[Any]], NDArray[Any]] | None = None
    kept: list[list[Session]] = field(default_factory=list)
    begun: list[tuple[NDArray[np.float64], NDArray[Any]]] = field(default_factory=list)  # scores and starts of rounds

    def choose(self, sessions: Sequence[Session], share: float) -> list[Session]:
        """The elites among these sessions and those that were kept; of these sessions they are kept in their turn.

        With `starts`, first observations (E, ...) -> (E, F) or (E,), those that got most above what their start foretells.
        """
        pool = [*sessions, *(one for old in self.kept for one in old)]
        scores = np.array([one.score for one in pool])
        if self.starts is not None:
            starts = self.starts(np.stack([one.observations[0] for one in pool]))
            past = [np.concatenate(parts) for parts in zip(*self.begun, strict=True)]
            own = scores[: len(sessions)]
            self.begun = [*self.begun, (own - own.mean(), starts[: len(sessions)])][-REMEMBERED:]
            scores = above_start(scores, starts, (past[0], past[1]) if past else None)
        best = select(scores, share)
        chosen = [one for one, is_best in zip(pool, best, strict=True) if is_best]
        if self.rounds:
            fresh = [one for one, is_best in zip(sessions, best, strict=False) if is_best]
            self.kept = [*self.kept, fresh][-self.rounds :]
        return chosen

    def state(self) -> dict[str, Any]:
        """Tensors and JSON."""
        kept = [
            [
                {"o": torch.from_numpy(one.observations), "a": torch.from_numpy(one.actions), "score": one.score}
                for one in old
            ]
            for old in self.kept
        ]
        return {"kept": kept, "begun": [[torch.from_numpy(part) for part in old] for old in self.begun]}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take back what `state` gave."""
        self.kept = [[Session(s["o"].numpy(), s["a"].numpy(), float(s["score"])) for s in old] for old in state["kept"]]
        self.begun = [(scores.numpy(), starts.numpy()) for scores, starts in state["begun"]]
        if any(len(scores) != len(starts) for scores, starts in self.begun):
            raise ValueError("scores and starts of earlier rounds")


def joined(sessions: Sequence[Session]) -> tuple[NDArray[Any], NDArray[Any]]:
    """The observations and actions of all sessions, one after the other."""
    return np.concatenate([s.observations for s in sessions]), np.concatenate([s.actions for s in sessions])


def play_sessions(
    envs: Environments,
    observation: NDArray[Any],
    fresh: NDArray[np.bool_],
    sessions: int,
    gamma: float,
    act: Callable[[NDArray[Any]], NDArray[Any]],
    seed: int,
    past: Sequence[Episode] = (),
) -> tuple[list[Session], NDArray[Any], NDArray[np.bool_], int]:
    """At least `sessions` whole episodes; what is to be acted on next, which environments begin an episode there, and vector steps.

    Each environment plays its share of them, so that short episodes count no more than long ones; one that is
    through goes on until all are, for nothing, and so does one that was amid an episode, until that ends.
    observation (n, ...): to be acted on. fresh (n,): where it is the first of an episode. act: observations -> actions. seed: of the
    environments, and past: the episodes that were finished before, both for the message.

    Raises DataError where an episode does not end.
    """
    n = envs.num
    wanted = -(-sessions // n)
    done: list[list[Session]] = [[] for _ in range(n)]
    seen: list[list[Any]] = [[] for _ in range(n)]
    acted: list[list[Any]] = [[] for _ in range(n)]
    rewards: list[list[float]] = [[] for _ in range(n)]
    counts, steps = fresh.copy(), 0
    while any(len(own) < wanted for own in done):
        actions = act(observation)
        step = envs.step(actions)
        steps += 1
        over = step.terminated | step.truncated
        for i in range(n):
            if counts[i] and len(done[i]) < wanted:
                seen[i].append(observation[i])
                acted[i].append(actions[i])
                rewards[i].append(step.reward[i])
                if over[i]:
                    score = float(np.array(rewards[i]) @ gamma ** np.arange(len(rewards[i])))
                    done[i].append(Session(np.array(seen[i]), np.array(acted[i]), score))
                    seen[i], acted[i], rewards[i] = [], [], []
                elif len(rewards[i]) >= LONGEST:
                    number = next_number(i, past, envs.finished)
                    refuse_endless(Place(envs.name, i, number, episode_seed(seed, i, number), LONGEST, actions[i]))
        counts, observation, fresh = counts | over, step.observation, over
    return [one for own in done for one in own], observation, fresh, steps
