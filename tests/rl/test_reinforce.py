"""REINFORCE: batches of whole episodes, their returns and baselines by hand, and what it learns."""

from itertools import pairwise
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import nn

from konspekt.core.errors import DataError
from konspekt.rl import reinforce
from konspekt.rl.actor_critic import PolicyObjective
from konspekt.rl.policies import Categorical
from konspekt.rl.reinforce import Reinforce, WholeEpisodes
from konspekt.rl.vector import environments
from konspekt.testing.two_states import TwoStates

QUICK = {"steps": 4_000, "train_every": 64, "hidden": (8,), "lr": 1e-2, "gamma": 0.9}


class Walk(gymnasium.Env[Any, Any]):
    """(length, step): an episode takes 2 to 12 steps, drawn at its begin. A step pays its number. Even lengths are truncated."""

    observation_space = spaces.Box(0, 100, (2,))
    action_space = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.length, self.at = int(self.np_random.integers(2, 13)), 0
        return np.array([self.length, 0], np.float32), {}

    def step(self, action: Any) -> Any:
        self.at += 1
        over, even = self.at == self.length, self.length % 2 == 0
        return np.array([self.length, self.at], np.float32), float(self.at), over and not even, over and even, {}


class Sevenfold(nn.Module):
    """Either action alike; the value is seven times the step."""

    def __init__(self) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(2))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.logits.expand(len(x), -1), 7 * x[:, 1]


def episodes_of(num: int, **options: Any) -> WholeEpisodes:
    agent = Reinforce(n_envs=num, **options)
    agent.seed_ = 0
    envs = environments(Walk, num, seed=0)
    stream = agent.stream(PolicyObjective(Sevenfold(), Categorical(2)), envs, torch.device("cpu"))
    assert isinstance(stream, WholeEpisodes)
    return stream


def pieces(batch: Any) -> list[np.ndarray]:
    """Rows of each episode: (length, step, target or advantage)."""
    seen = batch["observation"].numpy()
    begins = [*np.flatnonzero(seen[:, 1] == 0), len(seen)]
    rows = np.column_stack([seen, batch["advantage"].numpy()])
    return [rows[b:e] for b, e in pairwise(begins)]


@pytest.mark.parametrize("num", [1, 3, 8])
def test_a_batch_is_whole_episodes_that_were_begun_in_its_round(num: int) -> None:
    stream = episodes_of(num, train_every=60, steps=3000, baseline="none", gamma=0.5)
    rounds, used, unused = 0, 0, 0
    for epoch in range(stream.epochs):
        before = stream.acted
        for batch in stream.epoch(epoch):
            rounds += 1
            whole = pieces(batch)
            used += sum(map(len, whole))
            for rows in whole:
                length = int(rows[0, 0])
                assert rows[:, 1].tolist() == list(range(length))  # from its first step to its last, nothing between
                by_hand = [sum(0.5**k * (t + k + 1) for k in range(length - t)) for t in range(length)]
                np.testing.assert_allclose(rows[:, 2], by_hand, rtol=1e-5)
            assert stream.acted - before >= 60
            before = stream.acted
        unused += int(stream.measures().get("unused_steps", 0))
    assert rounds > 10
    assert stream.acted >= 3000
    assert used + unused == stream.acted
    assert (unused == 0) == (num == 1)


def test_no_episode_is_preferred_for_being_short() -> None:
    """All episodes that are begun before the round is long enough are in it: their mean length is that of all, 7."""
    stream = episodes_of(4, train_every=40, steps=8_000, baseline="none")
    lengths = [len(rows) for epoch in range(stream.epochs) for batch in stream.epoch(epoch) for rows in pieces(batch)]
    assert len(lengths) > 500
    assert np.mean(lengths) == pytest.approx(7, abs=4 * np.sqrt(10 / len(lengths)))  # 10: the variance of 2, ..., 12


def test_a_truncated_episode_goes_on_with_its_value_where_one_is_learned() -> None:
    batch = next(episodes_of(1, train_every=200, baseline="value", gamma=0.5).epoch(0))
    target: Any = batch["target"]
    begin, kinds = 0, set()
    for rows in pieces(batch):
        length = len(rows)
        last = 7 * length if length % 2 == 0 else 0  # V of the observation before the reset
        by_hand = [
            sum(0.5**k * (t + k + 1) for k in range(length - t)) + 0.5 ** (length - t) * last for t in range(length)
        ]
        np.testing.assert_allclose(target[begin : begin + length], by_hand, rtol=1e-5)
        np.testing.assert_allclose(rows[:, 2], np.array(by_hand) - 7 * np.arange(length), rtol=1e-4, atol=1e-4)
        begin += length
        kinds.add(length % 2)
    assert kinds == {0, 1}


def test_the_mean_is_that_of_the_other_episodes() -> None:
    plain, centred = (next(episodes_of(1, train_every=100, baseline=b, gamma=0.9).epoch(0)) for b in ("none", "mean"))
    returns = [rows[:, 2] for rows in pieces(plain)]
    for k, rows in enumerate(pieces(centred)):
        others = np.concatenate([own for j, own in enumerate(returns) if j != k])
        np.testing.assert_allclose(rows[:, 2], returns[k] - others.mean(), rtol=1e-4, atol=1e-4)


def test_the_mean_of_a_single_episode_is_that_of_the_round_before() -> None:
    stream = episodes_of(1, train_every=1, steps=1000, baseline="mean", gamma=1.0)
    batches = stream.epoch(0)
    first, second = next(batches), next(batches)
    returns = first["advantage"]  # there is no round before
    length = len(returns)  # type: ignore[arg-type]
    assert returns.tolist() == [sum(range(t + 1, length + 1)) for t in range(length)]  # type: ignore[union-attr]
    own = [sum(range(t + 1, len(second["index"]) + 1)) for t in range(len(second["index"]))]
    np.testing.assert_allclose(second["advantage"], np.array(own) - returns.mean().item(), rtol=1e-5)  # type: ignore[union-attr]


@pytest.mark.parametrize("baseline", ["none", "mean", "value"])
def test_it_learns_the_two_states(baseline: Any) -> None:
    agent = Reinforce(**QUICK, baseline=baseline).fit(TwoStates)
    assert agent.predict(np.array([0, 1])).tolist() == [1, 0]
    assert agent.evaluate(TwoStates, episodes=20)["return"] >= 7
    last = agent.history_[-1]
    assert {"policy_loss", "entropy", "share_0"} <= set(last)
    assert ("value_loss" in last) == ("explained_variance" in last) == (baseline == "value")


def test_it_learns_by_real_numbers() -> None:
    agent = Reinforce(**QUICK).fit(lambda: TwoStates(actions="box"))
    away, stay = agent.predict(np.array([0, 1])).ravel()
    assert away > 0 > stay


def test_the_value_takes_the_units_of_the_returns() -> None:
    agent = Reinforce(**(QUICK | {"steps": 800})).fit(TwoStates)
    layer = agent.model_.rescaled
    assert 1 < float(layer.mean) < 10
    assert 0.1 < float(layer.deviation) < 3


@pytest.mark.parametrize(("baseline", "num"), [("value", 3), ("mean", 1)])
def test_a_run_that_was_killed_goes_on_to_the_same_bits(resumed_beside_whole: Any, baseline: Any, num: int) -> None:
    def made(folder: str) -> Reinforce:
        options = QUICK | {"steps": 1_600, "n_envs": num, "baseline": baseline}
        return Reinforce(**options, checkpoint_every=5, run_dir=folder)

    resumed, whole = resumed_beside_whole(made, Walk, "step", 17)
    for name, tensor in whole.objective_.state_dict().items():
        assert torch.equal(tensor, resumed.objective_.state_dict()[name]), name
    assert resumed.episodes_ == whole.episodes_
    assert [r["return"] for r in resumed.history_] == [r["return"] for r in whole.history_]


def test_an_episode_that_never_ends_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reinforce, "LONGEST", 500)
    with pytest.raises(
        DataError, match=r"the episode goes on after \d+ steps, where whole episodes are needed; give max_episode_steps"
    ):
        Reinforce(**QUICK).fit(lambda: TwoStates(length=10**9))


def test_rounds_may_be_longer_than_epochs() -> None:
    """An episode of 3,000 steps is a round, and an epoch is about 1,000 steps."""
    agent = Reinforce(**(QUICK | {"steps": 7_000, "train_every": 1_000})).fit(lambda: TwoStates(length=3_000))
    assert len(agent.episodes_) == 3
    assert agent.history_[-1]["env_steps"] == 9_000


@pytest.mark.parametrize("limit", [None, 50])
def test_no_time_limit_is_a_warning(limit, tmp_path):
    agent = Reinforce(steps=200, train_every=100, max_episode_steps=limit, run_dir=str(tmp_path / "run")).fit(TwoStates)
    said = "TwoStates has no time limit, and Reinforce learns from whole episodes: if one may go on for ever, give max_episode_steps"
    assert agent.run_.warnings == ([said] if limit is None else [])
