"""A2C: its targets by hand, what it learns, and that a run repeated or resumed gives the same bits."""

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import nn

import konspekt
from konspekt.core.errors import ConfigError
from konspekt.rl.a2c import A2C, Rollouts
from konspekt.rl.actor_critic import PolicyObjective
from konspekt.rl.policies import Categorical, distribution_of
from konspekt.rl.vector import environments
from konspekt.testing.two_states import TwoStates

QUICK = {"steps": 3_000, "n_envs": 4, "hidden": (8,), "lr": 1e-2, "gamma": 0.9}


class Line(gymnasium.Env[Any, Any]):
    """Places 0, 1, 2, ...: each step leads one on and pays its place. At 3 an episode is terminated, or truncated."""

    observation_space = spaces.Box(0, 100, (1,))
    action_space = spaces.Discrete(2)

    def __init__(self, cut: bool) -> None:
        self.cut, self.place = cut, 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.place = 0
        return np.array([0], np.float32), {}

    def step(self, action: Any) -> Any:
        self.place += 1
        over = self.place == 3
        return np.array([self.place], np.float32), float(self.place), over and not self.cut, over and self.cut, {}


class Screen(gymnasium.Env[Any, Any]):
    """A grey picture that says in its brightness how many steps there were."""

    observation_space = spaces.Box(0, 255, (36, 36), np.uint8)
    action_space = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.steps = 1
        return np.full((36, 36), self.steps, np.uint8), {}

    def step(self, action: Any) -> Any:
        self.steps += 1
        return np.full((36, 36), self.steps, np.uint8), 1.0, False, self.steps == 4, {}


class Tenfold(nn.Module):
    """Either action alike; the value is ten times the place."""

    def __init__(self) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(2))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.logits.expand(len(x), -1), 10 * x[:, 0]


def rollouts(env: Any, num: int = 1, **options: Any) -> Rollouts:
    agent = A2C(n_envs=num, **options)
    agent.seed_ = 0
    envs = environments(env, num, seed=0)
    agent.take_spaces(envs)
    own = options.get("model")
    objective = PolicyObjective(own, Categorical(2)) if own else agent.build(envs.observation_space, envs.action_space)
    stream = agent.stream(objective, envs, torch.device("cpu"))
    assert isinstance(stream, Rollouts)
    return stream


@pytest.mark.parametrize("cut", [False, True])
def test_targets_by_hand(cut: bool) -> None:
    """gamma 1/2, five steps from place 0: rewards 1, 2, 3, then anew 1, 2; the last step is continued by V(2) = 20."""
    stream = rollouts(lambda: Line(cut), model=Tenfold(), n_steps=5, gamma=0.5, gae_lambda=1.0)
    batch = next(stream.epoch(0))
    assert batch["observation"].ravel().tolist() == [0, 1, 2, 0, 1]  # type: ignore[union-attr]
    third = 3 + 0.5 * 30 if cut else 3  # what is truncated is continued by V(3), the place before the reset
    fifth = 2 + 0.5 * 20
    target = [1 + 0.5 * (2 + 0.5 * third), 2 + 0.5 * third, third, 1 + 0.5 * fifth, fifth]
    assert batch["target"].tolist() == target  # type: ignore[union-attr]
    assert batch["advantage"].tolist() == [t - v for t, v in zip(target, [0, 10, 20, 0, 10], strict=True)]  # type: ignore[union-attr]


def test_the_batch_goes_step_by_step_over_all_environments() -> None:
    stream = rollouts(lambda: Line(True), num=3, model=Tenfold(), n_steps=2, gamma=0.5, gae_lambda=0.0)
    batch = next(stream.epoch(0))
    assert batch["observation"].ravel().tolist() == [0, 0, 0, 1, 1, 1]  # type: ignore[union-attr]
    assert batch["target"].tolist() == [1 + 5] * 3 + [2 + 10] * 3  # type: ignore[union-attr]


def test_advantages_can_be_standardised_and_targets_stay() -> None:
    plain, scaled = (
        next(rollouts(lambda: Line(True), model=Tenfold(), n_steps=5, normalize_advantage=on).epoch(0))
        for on in (False, True)
    )
    torch.testing.assert_close(plain["target"], scaled["target"])
    assert scaled["advantage"].mean().item() == pytest.approx(0, abs=1e-6)  # type: ignore[union-attr]
    assert scaled["advantage"].std(correction=0).item() == pytest.approx(1, abs=1e-6)  # type: ignore[union-attr]


def test_the_policy_that_acts_is_the_one_that_learns() -> None:
    """Scales of observations change between rounds only."""
    stream = rollouts(lambda: Line(True), num=2, n_steps=4, normalize_observations=True)
    scales = []
    for _, batch in zip(range(3), stream.epoch(0), strict=False):
        given = batch["observation"]
        outputs, _ = stream.model(given)
        np.testing.assert_allclose(stream.seen.policy(given.numpy()), outputs.detach().numpy(), rtol=1e-4, atol=1e-6)
        scales.append(stream.model.encoder[1].mean.item())  # type: ignore[index, union-attr]
    assert len(set(scales)) == 3
    layer: Any = stream.model.encoder[1]  # type: ignore[index]
    assert stream.scale is not None
    assert layer.mean.item() == pytest.approx(stream.scale.mean.item())
    assert int(layer.count) == stream.scale.count == 2 * 8  # two rounds; the third acts on what they showed


@pytest.mark.parametrize("shared", [False, True])
def test_it_learns_the_two_states(shared: bool) -> None:
    agent = A2C(shared=shared, **QUICK).fit(TwoStates)
    assert agent.predict(np.array([0, 1])).tolist() == [1, 0]
    assert agent.evaluate(TwoStates, episodes=20)["return"] >= 7
    last = agent.history_[-1]
    assert {"policy_loss", "value_loss", "entropy", "explained_variance", "share_0", "share_1"} <= set(last)
    assert last["share_0"] + last["share_1"] == pytest.approx(1)
    assert last["share_0"] > 0.7  # staying in state 1


@pytest.mark.parametrize("spread", ["common", "state"])
def test_it_learns_by_real_numbers(spread: Any) -> None:
    agent = A2C(spread=spread, normalize_rewards=True, **QUICK).fit(lambda: TwoStates(actions="box"))
    away, stay = agent.predict(np.array([0, 1])).ravel()
    assert away > 0 > stay
    assert not any(name.startswith("share") for name in agent.history_[-1])


class Two(gymnasium.ActionWrapper[Any, Any, Any]):
    """The first of three choices moves, the others do nothing."""

    def __init__(self, space: spaces.Space[Any]) -> None:
        super().__init__(TwoStates())
        self.action_space = space

    def action(self, action: Any) -> int:
        return int(action[0])


@pytest.mark.parametrize("space", [spaces.MultiDiscrete([2, 3]), spaces.MultiBinary(2)])
def test_it_learns_by_several_choices_at_once(space: spaces.Space[Any]) -> None:
    agent = A2C(**QUICK).fit(lambda: Two(space))
    assert agent.predict(np.array([0, 1]))[:, 0].tolist() == [1, 0]


@pytest.mark.parametrize(
    ("env", "options"),
    [
        (TwoStates, {}),
        (
            lambda: TwoStates(actions="box", observations="box"),
            {"normalize_observations": True, "normalize_rewards": True, "normalize_advantage": True},
        ),
        (Screen, {"stack": 2, "shared": True}),
    ],
)
def test_a_run_that_was_killed_goes_on_to_the_same_bits(
    resumed_beside_whole: Any, env: Any, options: dict[str, Any]
) -> None:
    def made(folder: str) -> A2C:
        return A2C(**(QUICK | {"steps": 300}), checkpoint_every=2, run_dir=folder, **options)

    resumed, whole = resumed_beside_whole(made, env, "step", 9)
    for name, tensor in whole.objective_.state_dict().items():
        assert torch.equal(tensor, resumed.objective_.state_dict()[name]), name
    assert resumed.episodes_ == whole.episodes_

    def told(one: A2C) -> list[dict[str, Any]]:
        return [{k: v for k, v in record.items() if "seconds" not in k} for record in one.history_]

    assert told(resumed) == told(whole)


def test_a_net_of_16_bits_learns_too() -> None:
    agent = A2C(precision="bf16", steps=80).fit(TwoStates)
    assert np.isfinite(agent.history_[-1]["loss"])


def test_the_same_seed_gives_the_same_bits_and_another_does_not() -> None:
    first, again, other = (A2C(**(QUICK | {"steps": 400}), random_state=seed).fit(TwoStates) for seed in (1, 1, 2))
    weights = [torch.cat([p.ravel() for p in agent.objective_.parameters()]) for agent in (first, again, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_it_is_saved_with_its_scales(tmp_path: Path) -> None:
    env = lambda: TwoStates(actions="box", observations="box")  # noqa: E731
    agent = A2C(**(QUICK | {"steps": 800}), normalize_observations=True).fit(env)
    agent.save(tmp_path / "model")
    loaded = konspekt.load(tmp_path / "model")
    given = np.random.default_rng(0).normal(size=(5, 2)).astype(np.float32)
    np.testing.assert_array_equal(agent.predict(given), loaded.predict(given))
    assert loaded.model_.encoder[1].count > 700


def test_pictures_are_stacked_within_an_episode() -> None:
    stream = rollouts(Screen, num=2, n_steps=5, stack=2, shared=True)
    batch = next(stream.epoch(0))
    seen: Any = batch["observation"]
    assert seen.shape == (10, 2, 36, 36)
    assert seen[::2, :, 0, 0].tolist() == [[0, 1], [1, 2], [2, 3], [0, 1], [1, 2]]


def test_it_plays_with_the_frames_it_has_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    agent = A2C(steps=20, n_envs=2, stack=2, shared=True).fit(Screen)
    given: list[list[int]] = []
    monkeypatch.setattr(agent, "_mode", lambda x: given.append(x[0, :, 0, 0].tolist()) or np.zeros(len(x), np.int64))
    agent.play(Screen, episodes=2)
    assert given[:3] == [[0, 1], [1, 2], [2, 3]]
    agent.predict(np.full((36, 36), 9, np.uint8))
    assert given[-1] == [0, 9]


def test_the_report_has_shares_of_actions_and_v_over_the_states(tmp_path: Path) -> None:
    agent = A2C(**QUICK, run_dir=str(tmp_path / "run")).fit(TwoStates)
    kind, shares = agent.run_.kept["action-shares"]
    assert kind == "curve"
    assert set(shares) == {"action 0", "action 1"}
    steps, values = shares["action 0"]
    assert len(steps) == len(values) == len(agent.history_)
    _, v = agent.run_.kept["v"]
    assert v["v"][0] == [0, 1]
    assert v["v"][1][1] > v["v"][1][0]  # from 1 there is a step less to go


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"batch_size": 32}, "batch_size=32: what a round has seen is one batch; leave it None"),
        ({"gae_lambda": 1.5}, "gae_lambda"),
        ({"spread": "wide"}, "spread"),
        ({"stack": 4}, r"stack=4 is for pictures; these observations are Discrete\(2\)"),
        (
            {"normalize_observations": True},
            r"normalize_observations is for numbers; these observations are Discrete\(2\)",
        ),
        ({"steps": 10}, "steps=10 are over before the first batch, which takes 40 environment steps"),
    ],
)
def test_what_cannot_be_is_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        A2C(**options).fit(TwoStates)


def test_a_model_that_gives_something_else_is_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"model must give a pair, 2 numbers of the policy and a value .* is \(3,\), and not \(8, 2\)"
    ):
        A2C(model=nn.Linear(2, 3), steps=80).fit(lambda: TwoStates(observations="box"))


def test_its_draws_follow_its_probabilities() -> None:
    """Over many rounds the shares of the actions are those of the policy that acts."""

    class Tilted(Tenfold):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return (self.logits + torch.tensor([0.0, 1.0])).expand(len(x), -1), x[:, 0]

    stream = rollouts(lambda: Line(True), num=4, model=Tilted(), n_steps=250, steps=4000)
    actions = torch.cat([batch["action"] for batch in stream.epoch(0)])  # type: ignore[misc]
    assert actions.float().mean().item() == pytest.approx(float(1 / (1 + np.exp(-1))), abs=0.05)
    assert distribution_of(stream.envs.action_space).units == 2


def test_the_scale_of_the_rewards_is_saved_with_the_model(tmp_path):
    agent = A2C(**QUICK, normalize_rewards=True).fit(TwoStates)
    assert agent.reward_scale_ > 0
    assert agent.reward_scale_ != 1.0
    assert konspekt.load(agent.save(tmp_path / "model")).reward_scale_ == agent.reward_scale_
    assert A2C(**QUICK).fit(TwoStates).reward_scale_ == 1.0


def test_each_observation_that_was_learned_from_counts_once_in_the_scale():
    seen: list[Any] = []

    class Watched(Line):
        def step(self, action: Any) -> Any:
            seen.append(float(self.place))  # what was acted on
            return super().step(action)

    agent = A2C(steps=300, n_envs=1, n_steps=5, hidden=(4,), normalize_observations=True).fit(lambda: Watched(True))
    layer: Any = agent.model_.encoder[1]
    counted = seen[: int(layer.count)]  # all but the last round, which came after the last look
    assert len(counted) == 295
    assert layer.mean.item() == pytest.approx(np.mean(counted), rel=1e-5)
    assert layer.variance.item() == pytest.approx(np.var(counted), rel=1e-5)
