"""Finished episodes as rows of an array behave as the list of tuples that they stand for."""

import functools
from typing import Any

import numpy as np
import pytest

from konspekt.core.errors import DataError
from konspekt.rl import cross_entropy_search, elites, reinforce
from konspekt.rl.cross_entropy import CrossEntropyMethod
from konspekt.rl.cross_entropy_net import CrossEntropyNet
from konspekt.rl.cross_entropy_search import CrossEntropySearch
from konspekt.rl.episodes import Episode, Episodes, next_number
from konspekt.rl.reinforce import Reinforce
from konspekt.testing.two_states import TwoStates

LISTED = [Episode(i % 2, i, 100 + i, float(i) / 2, 3 + i, i % 3 == 0) for i in range(7)]


@pytest.fixture
def episodes():
    made = Episodes()
    for one in LISTED[:3]:
        made.append(one)
    made += LISTED[3:]
    return made


def test_they_are_the_list(episodes):
    assert list(episodes) == LISTED
    assert episodes == LISTED
    assert len(episodes) == 7
    assert bool(episodes)
    assert not Episodes()


def test_the_next_number_counts_those_of_the_environment(episodes):
    assert next_number(0, episodes) == 7
    assert next_number(1, LISTED[:2], LISTED[2:4]) == 4
    assert next_number(2, episodes) == next_number(0) == 0


def test_places_and_slices(episodes):
    assert episodes[-1] == LISTED[-1]
    assert list(episodes[2:5]) == LISTED[2:5]
    assert list(episodes[-100:]) == LISTED[-100:]
    with pytest.raises(IndexError):
        episodes[7]


def test_types_are_those_of_an_episode(episodes):
    for name, kind in zip(Episode._fields, (int, int, int, float, int, bool), strict=True):
        assert type(getattr(episodes[3], name)) is kind, name


def test_seeds_of_31_bits_survive_the_array():
    made = Episodes()
    made.append(Episode(0, 0, 2**31 - 1, 1.0, 1, False))
    assert made[0].seed == 2**31 - 1
    assert np.float64(2**31 - 1) == 2**31 - 1


class Tiring(TwoStates):
    """Episodes of 8 steps, and after some of them one that never ends. seeds: those of all episodes."""

    def __init__(self, some: int, seeds: list[int | None]) -> None:
        super().__init__()
        self.some, self.seeds = some, seeds

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        self.seeds.append(seed)
        self.length = 8 if len(self.seeds) <= self.some else 10**9
        return super().reset(seed=seed, options=options)


@pytest.mark.parametrize(
    ("module", "agent"),
    [
        (elites, CrossEntropyMethod(steps=2_000, sessions=8, random_state=1, n_envs=1)),
        (elites, CrossEntropyNet(steps=2_000, sessions=8, random_state=1, n_envs=1)),
        (cross_entropy_search, CrossEntropySearch(steps=2_000, candidates=4, hidden=(2,), random_state=1, n_envs=1)),
        (reinforce, Reinforce(steps=2_000, train_every=64, random_state=1, n_envs=1)),
    ],
    ids=lambda given: type(given).__name__,
)
def test_what_never_ends_is_named_with_its_own_seed(monkeypatch: pytest.MonkeyPatch, module: Any, agent: Any) -> None:
    monkeypatch.setattr(module, "LONGEST", 100)
    for some in range(16, 24):  # the first episode of a round is among them
        seeds: list[int | None] = []
        with pytest.raises(DataError, match=f"the episode goes on after .* episode {some}, seed ") as told:
            agent.fit(functools.partial(Tiring, some, seeds))
        assert f"seed {seeds[-1]}," in str(told.value)
