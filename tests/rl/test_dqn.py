"""Q-learning with nets: targets computed by hand, the semi-gradient, runs that are killed, problems that are known."""

import functools
import os
import signal

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

from konspekt.core.errors import ConfigError, DataError, InterruptedFit, ResourceError
from konspekt.core.estimator import load
from konspekt.rl import dqn_stream, replay_memory
from konspekt.rl.dqn import DQN
from konspekt.rl.q_nets import Duelling, QNet, Twins, short_way
from konspekt.rl.q_objective import QObjective, greatest
from konspekt.testing.contract import killed, weights_in
from konspekt.testing.two_states import TwoStates

SMALL = {"steps": 400, "hidden": (8,), "batch_size": 8, "buffer_size": 120, "learning_starts": 20, "train_every": 8}
BOXED = functools.partial(TwoStates, observations="box")


class Corridor(gymnasium.Env):
    """Places 0, 1, 2, one step a move; action 1 ends the episode, action 0 goes on until a limit of two steps cuts it."""

    def __init__(self):
        self.observation_space = spaces.Box(0, 3, (1,), np.float32)
        self.action_space = spaces.Discrete(2)
        self.place = 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.place += 1
        return np.full(1, self.place, np.float32), float(self.place), bool(action == 1), self.place == 2, {}


def batches_of(agent, env):
    """All batches of a fit, in order."""
    seen = []

    def look(moment):
        if moment.event == "step":
            objective = moment.objective
            seen.append(objective.last)

    plain = QObjective.loss

    def loss(self, batch, player):
        self.last = {k: v.clone() for k, v in batch.items()}
        return plain(self, batch, player)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(QObjective, "loss", loss)
        agent.fit(env, callbacks=[look])
    return seen


@pytest.mark.parametrize("n_steps", [1, 2, 3])
@pytest.mark.parametrize("n_envs", [1, 3])
def test_a_truncated_episode_bootstraps_and_a_terminated_one_does_not(n_envs, n_steps):
    """The target net is never brought up to date, so its values, those of the beginning, are known."""
    agent = DQN(**SMALL | {"steps": 100}, n_envs=n_envs, n_steps=n_steps, gamma=0.5, target_every=10**6, epsilon=1.0)
    batches = batches_of(agent, Corridor)
    objective = agent.objective_
    with torch.no_grad():
        values = objective.behind(torch.arange(4.0)[:, None]).max(1).values.tolist()
    kinds = set()
    for batch in batches:
        for place, action, target in zip(
            batch["observation"][:, 0].tolist(),
            batch["action"][:, 0].tolist(),
            batch["target"][:, 0].tolist(),
            strict=True,
        ):
            if action == 1:  # the end, whatever the limit says
                allowed = [place + 1]
            elif place == 1:  # the limit
                allowed = [2 + 0.5 * values[2]]
            elif n_steps == 1:
                allowed = [1 + 0.5 * values[1]]
            else:  # two rewards: the end by itself, or by the limit; or, of the newest step, one
                allowed = [1 + 0.5 * 2, 1 + 0.5 * 2 + 0.25 * values[2], 1 + 0.5 * values[1]]
            near = [k for k, x in enumerate(allowed) if target == pytest.approx(x, abs=1e-5)]
            assert near, (place, action, target, allowed)
            kinds.add((place, action, near[0]))
    assert {(0, 0), (0, 1), (1, 0), (1, 1)} == {(p, a) for p, a, _ in kinds}
    if n_steps > 1:
        assert {k for p, a, k in kinds if (p, a) == (0, 0)} >= {0, 1}


def test_no_gradient_reaches_the_target():
    """The gradient is that of half the squared difference with the target as a number, by autograd of q alone."""
    torch.manual_seed(0)
    for double in (False, True, "random"):
        nets = [QNet(spaces.Box(-1, 1, (3,)), 2, (5,), "tanh") for _ in range(2)]
        objective = QObjective(Twins(*nets) if double == "random" else nets[0], double=double, huber=False)
        for p in objective.behind.parameters():
            p.data += 0.1
        x, following = torch.randn(6, 3), torch.randn(6, 3)
        action, reward, discount = torch.randint(0, 2, (6, 1)), torch.randn(6, 1), torch.full((6, 1), 0.9)
        values = objective.target(following)
        batch = {
            "observation": x, "action": action, "reward": reward, "discount": discount, "next_observation": following,
            "next_values": values, "coin": torch.tensor([[True], [False]] * 3),
        }  # fmt: skip
        if not double:
            batch["target"] = reward + discount * greatest(values)
        q, target = objective.q_and_target(batch)
        assert q.requires_grad
        assert not target.requires_grad
        objective.loss(batch, "model")["loss"].backward()
        assert all(p.grad is None for p in objective.behind.parameters())
        ours = [p.grad.clone() for p in objective.model.parameters()]
        delta = (target - q).detach()  # w + alpha delta dq/dw goes down this slope
        expected = torch.autograd.grad(
            (-2 * delta * objective.q_and_target(batch)[0]).mean(), list(objective.model.parameters())
        )
        for one, other in zip(ours, expected, strict=True):
            torch.testing.assert_close(one, other)


def test_who_chooses_and_who_values():
    """double=True: the net chooses and the target net values. "random": the one that learns chooses, the other values."""

    class Table(torch.nn.Module):
        def __init__(self, values):
            super().__init__()
            self.values = torch.nn.Parameter(torch.tensor([values]))

        def forward(self, x):
            return self.values.expand(len(x), -1)

    def batch(objective, behind, coin=True):
        with torch.no_grad():
            for p, value in zip(objective.behind.parameters(), behind, strict=True):
                p.copy_(torch.tensor([value]))
        x = torch.zeros(1, 1)
        return {
            "observation": x, "next_observation": x, "next_values": objective.target(x), "action": torch.zeros(1, 1).long(),
            "reward": torch.ones(1, 1), "discount": torch.full((1, 1), 0.5), "coin": torch.tensor([[coin]]),
        }  # fmt: skip

    one = QObjective(Table([3.0, 1.0]), double=True)
    q, target = one.q_and_target(batch(one, [[10.0, 20.0]]))
    assert (q.item(), target.item()) == (3.0, 1 + 0.5 * 10)
    two = QObjective(Twins(Table([3.0, 1.0]), Table([4.0, 5.0])), double="random")
    q, target = two.q_and_target(batch(two, [[10.0, 20.0], [30.0, 40.0]], coin=True))
    assert (q.item(), target.item()) == (3.0, 1 + 0.5 * 30)
    q, target = two.q_and_target(batch(two, [[10.0, 20.0], [30.0, 40.0]], coin=False))
    assert (q.item(), target.item()) == (4.0, 1 + 0.5 * 20)


def test_the_greatest_of_noisy_equal_values_is_too_large_and_a_second_estimate_takes_it_back():
    """M:399: Q = x + noise for all of A actions. E max of A normal draws is known; of two estimates the bias is gone."""
    torch.manual_seed(0)
    truth, spread = 2.0, 1.5
    first, second = (truth + spread * torch.randn(200_000, 5) for _ in range(2))
    expected = 1.1629644736  # E max of five standard normal numbers
    assert greatest(first).mean().item() == pytest.approx(truth + spread * expected, abs=0.01)
    assert greatest(second, first).mean().item() == pytest.approx(truth, abs=0.02)
    assert greatest(first, first).mean() == greatest(first).mean()


@pytest.mark.parametrize(("tau", "every"), [(1.0, 16), (0.25, 8), (0.25, 2)])
def test_the_target_net_follows_by_environment_steps(tau, every):
    """After a round the target net has gone `tau` of the way as often as `target_every` steps have passed since the last."""
    told = []

    def follow(self, share):
        told.append(share)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(QObjective, "follow", follow)
        DQN(**SMALL | {"steps": 20 + 8 * 6}, target_every=every, target_tau=tau).fit(BOXED)
    steps, updates, expected = 20, 0, []
    for _ in range(6):
        steps += 8
        due = steps // every - updates
        updates += due
        expected += [1 - (1 - tau) ** due] if due else []
    assert told == pytest.approx(expected)


def test_following_is_a_copy_or_a_share_of_the_way():
    objective = QObjective(QNet(spaces.Box(-1, 1, (3,)), 2, (5,), "tanh"))
    before = [p.clone() for p in objective.behind.parameters()]
    with torch.no_grad():
        for p in objective.model.parameters():
            p += 1
    objective.follow(0.25)
    for old, p in zip(before, objective.behind.parameters(), strict=True):
        torch.testing.assert_close(p, old + 0.25)
    objective.follow(1.0)
    for p, ahead in zip(objective.behind.parameters(), objective.model.parameters(), strict=True):
        assert torch.equal(p, ahead)


@pytest.mark.parametrize(("hidden", "activation"), [((), "relu"), ((7,), "tanh"), ((16, 5), "relu")])
def test_the_short_way_gives_what_the_net_gives(hidden, activation):
    torch.manual_seed(0)
    net = QNet(spaces.Box(-1, 1, (2, 3)), 4, hidden, activation)
    x = np.random.default_rng(0).normal(size=(9, 2, 3)).astype(np.float32)
    short = short_way(net)
    short.refresh()
    np.testing.assert_allclose(short(x), net(torch.from_numpy(x)).detach().numpy(), rtol=1e-5, atol=1e-6)
    with torch.no_grad():
        net.head.bias += 1  # weights that move in place are seen
    np.testing.assert_allclose(short(x), net(torch.from_numpy(x)).detach().numpy(), rtol=1e-5, atol=1e-6)


def test_there_is_no_short_way_through_other_nets():
    box = spaces.Box(-1, 1, (3,))
    assert short_way(QNet(box, 2, (4,), "sigmoid")) is None
    assert short_way(QNet(box, 2, (4,), "relu", duelling=True)) is None
    assert short_way(torch.nn.Linear(3, 2)) is None


def test_a_duelling_head_is_value_plus_advantage_over_the_mean():
    torch.manual_seed(0)
    head = Duelling(5, 3, "relu")
    x = torch.randn(4, 5)
    q = head(x)
    torch.testing.assert_close(q.mean(1, keepdim=True), head.value(x))
    torch.testing.assert_close(q - q.mean(1, keepdim=True), head.advantage(x) - head.advantage(x).mean(1, keepdim=True))


@pytest.mark.parametrize("shape", [(40, 48), (40, 48, 3)])
@pytest.mark.parametrize("stack", [1, 4])
def test_pictures_become_channels_frame_by_frame(shape, stack):
    net = QNet(spaces.Box(0, 255, shape, np.uint8), 2, (), "relu", stack=stack)
    frames = np.random.default_rng(0).integers(0, 256, (2, stack, *shape), dtype=np.uint8)
    seen = []
    net.body.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    net(torch.from_numpy(frames if stack > 1 else frames[:, 0]))
    colours = 3 if len(shape) == 3 else 1
    assert seen[0].shape == (2, stack * colours, 40, 48)
    for s in range(stack):
        for c in range(colours):
            frame = frames[:, s, :, :, c] if colours == 3 else frames[:, s]
            np.testing.assert_array_equal(seen[0][:, s * colours + c].numpy(), frame)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"double": True, "duelling": True, "target_tau": 0.1, "target_every": 8},
        {"double": "random", "loss": "square", "n_envs": 2},
        {"prioritised": True, "n_steps": 3, "policy": "softmax", "temperature": 0.05},
        {"hidden": (), "stack": 2},
        {"train_every": 1, "gradient_steps": 1, "steps": 1000},
    ],
)
def test_each_form_learns_two_states(options):
    given = {
        "steps": 2000,
        "hidden": (16,),
        "batch_size": 32,
        "buffer_size": 2000,
        "learning_starts": 64,
        "train_every": 32,
    }
    agent = DQN(**given | {"lr": 3e-3, "target_every": 64, "gamma": 0.9} | options).fit(BOXED)
    assert agent.evaluate(BOXED, episodes=20)["return_min"] >= 7
    last = agent.history_[-1]
    assert last["replay"] > 0
    assert 3 < last["q"] < 12  # staying in 1 for ever is worth 10
    rate = "temperature" if options.get("policy") == "softmax" else "epsilon"
    assert last[rate] == getattr(agent, rate)


def test_linear_q_without_a_hidden_layer_is_the_known_q():
    """Approximate q-learning on indicators is a table: q(1, stay) = 1 / (1 - gamma), and so on, as no episode ends by itself."""
    given = SMALL | {"steps": 4000, "batch_size": 64, "buffer_size": 4000, "hidden": ()}
    agent = DQN(**given, gamma=0.5, epsilon=0.5, lr=0.02, loss="square", target_every=32).fit(BOXED)
    np.testing.assert_allclose(agent.q(np.eye(2, dtype=np.float32)), [[0.5, 1.0], [2.0, 0.5]], atol=0.02)


@pytest.mark.parametrize(
    "options",
    [{}, {"double": "random", "n_envs": 2}, {"prioritised": True, "stack": 2}, {"double": True, "n_steps": 3}],
)
def test_a_killed_fit_goes_on_to_the_same_weights(tmp_path, options):
    def made(name):
        return DQN(**SMALL | {"steps": 84}, **options, run_dir=str(tmp_path / name), checkpoint_every=1)

    def kill(moment):
        if moment.event == "step" and moment.step == 18:  # within a round of four batches
            os.kill(os.getpid(), signal.SIGKILL)

    whole = made("whole").fit(BOXED)
    killed(lambda: made("killed").fit(BOXED, callbacks=[kill]), None)
    resumed = made("killed").fit(BOXED, resume=tmp_path / "killed")
    assert weights_in(tmp_path / "killed" / "model") == weights_in(tmp_path / "whole" / "model")
    assert resumed.episodes_ == whole.episodes_
    np.testing.assert_array_equal(resumed.foretold_, whole.foretold_)
    np.testing.assert_array_equal(resumed.shares_, whole.shares_)
    rows = [{k: v for k, v in agent.history_[-1].items() if not k.startswith("seconds")} for agent in (whole, resumed)]
    assert rows[0] == rows[1]


def test_a_replay_too_large_to_be_saved_is_filled_anew_and_that_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(dqn_stream, "MOST_KEPT", 100)

    def kill(moment):
        if moment.event == "step" and moment.step == 18:
            os.kill(os.getpid(), signal.SIGKILL)

    def made():
        return DQN(**SMALL | {"steps": 84}, run_dir=str(tmp_path / "run"), checkpoint_every=1)

    killed(lambda: made().fit(BOXED, callbacks=[kill]), None)
    agent = made().fit(BOXED, resume=tmp_path / "run")
    text = (tmp_path / "run" / "log.txt").read_text()
    assert "it is filled anew for 20 environment steps" in text
    assert agent.history_[-1]["env_steps"] == 84
    assert sum(e.length for e in agent.episodes_) > 84  # the steps beside those of the training are in the record too


def test_the_memory_is_in_the_log_and_too_little_is_refused_before_it_is_taken(tmp_path, monkeypatch):
    DQN(**SMALL, run_dir=str(tmp_path / "run")).fit(BOXED)
    text = (tmp_path / "run" / "log.txt").read_text()
    assert "the replay of 120 observations takes 2,160 bytes (0.00 GB) when it is full" in text
    monkeypatch.setattr(replay_memory, "free_memory", lambda: 1000)
    with pytest.raises(
        ResourceError, match=r"DQN: the replay of 120 .*2,160 bytes.* 1,000 bytes .*buffer_size=50 or less"
    ):
        DQN(**SMALL).fit(BOXED)


def test_what_the_report_shows_is_kept(tmp_path):
    agent = DQN(**SMALL, run_dir=str(tmp_path / "run")).fit(BOXED)
    kind, scatter = agent.run_.kept["q against returns"]
    assert kind == "scatter"
    played = [e for e in agent.episodes_ if e.number > 2]
    assert len(scatter["x"]) == len(scatter["y"]) >= len(played)
    # A reward is paid in steps 1 to 8; the discounted return of an episode lies between what its total can come to.
    for got, episode in zip(scatter["y"][-5:], agent.episodes_[-5:], strict=True):
        assert episode.total * 0.99**7 <= got + 1e-6
        assert got <= episode.total + 1e-6
    kind, curves = agent.run_.kept["action shares"]
    assert kind == "curve"
    assert sum(share[0] for _, share in curves.values()) == pytest.approx(1)
    assert not hasattr(agent, "_stream")


def test_stacked_frames_in_prediction_and_play(tmp_path):
    agent = DQN(**SMALL, stack=3).fit(BOXED)
    stacks = np.random.default_rng(0).normal(size=(5, 3, 2)).astype(np.float32)
    actions = agent.predict(stacks)
    assert actions.shape == (5,)
    assert agent.predict(stacks[2]) == actions[2]
    with pytest.raises(DataError, match=r"with stack=3 .*\(3, 2\).*got float32 of shape \(2,\)"):
        agent.predict(stacks[0, 0])
    seen = []
    agent.greedy = lambda x: seen.append(x) or np.zeros(len(x), np.int64)
    player = agent.player(2)
    for k in range(4):
        player(np.full((2, 2), k + 1, np.float32), np.array([k == 0, k in (0, 2)]))
    np.testing.assert_array_equal([x[0, :, 0] for x in seen], [[0, 0, 1], [0, 1, 2], [1, 2, 3], [2, 3, 4]])
    np.testing.assert_array_equal([x[1, :, 0] for x in seen], [[0, 0, 1], [0, 1, 2], [0, 0, 3], [0, 3, 4]])
    del agent.greedy
    back = load(agent.save(tmp_path / "model"))
    np.testing.assert_array_equal(back.predict(stacks), actions)
    assert back.evaluate(BOXED, episodes=3) == agent.evaluate(BOXED, episodes=3)


class Squares(TwoStates):
    """The two states as pictures, which are dark or light."""

    def __init__(self):
        super().__init__()
        self.observation_space = spaces.Box(0, 255, (36, 36), np.uint8)

    def _observe(self):
        return np.full((36, 36), 250 * self.state, np.uint8)


def test_pictures_are_stacked_in_the_replay_and_in_play_alike(tmp_path):
    """What the net is asked in training and in play is made in two places; both give whole stacks, zeros before the first frame."""
    given = {
        "steps": 64,
        "batch_size": 4,
        "buffer_size": 40,
        "learning_starts": 16,
        "train_every": 16,
        "gradient_steps": 1,
    }
    agent = DQN(**given, stack=3, n_envs=2).fit(Squares)
    assert agent.model_.body.convolutions[0].in_channels == 3
    (batch,) = batches_of(DQN(**given | {"steps": 32}, stack=3), Squares)
    assert batch["observation"].shape == (4, 3, 36, 36)
    assert batch["observation"].dtype == torch.uint8
    assert agent.evaluate(Squares, episodes=2) == load(agent.save(tmp_path / "model")).evaluate(Squares, episodes=2)


def test_a_net_of_ones_own_is_taken():
    net = torch.nn.Linear(2, 2)
    agent = DQN(**SMALL, model=net).fit(BOXED)
    assert isinstance(agent.model_, torch.nn.Linear)
    assert agent.model_ is not net
    with pytest.raises(ConfigError, match="double='random' makes two nets"):
        DQN(**SMALL, model=net, double="random").fit(BOXED)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"buffer_size": 8, "n_envs": 4}, r"buffer_size=8 leaves 2 observations for each of 4 environments.*need 4"),
        ({"steps": 20}, r"steps=20 are over before the first batch, which takes 28"),
        ({"stack": 2}, r"stack=2 is for pictures and boxes; these observations are Discrete\(2\)"),
        ({"double": "always"}, r"double"),
        ({"target_tau": 0.0}, r"target_tau must be more than 0"),
        ({"decay": "exponential", "epsilon": 0.0}, r"decay='exponential' never reaches 0"),
    ],
)
def test_parameters_that_do_not_go_together_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        DQN(**SMALL | options).fit(TwoStates)


def test_numbers_as_actions_are_refused():
    with pytest.raises(DataError, match=r"DQN takes actions that are Discrete; .*Box\(1,\)"):
        DQN(**SMALL).fit(functools.partial(TwoStates, actions="box"))


def test_a_whole_number_of_rounds_is_made_and_that_is_said(tmp_path):
    agent = DQN(**SMALL | {"steps": 35}, run_dir=str(tmp_path / "run")).fit(BOXED)
    made = int(agent.history_[-1]["env_steps"])
    assert made < 35
    assert f"steps=35: {made} are made, as a round has " in (tmp_path / "run" / "log.txt").read_text()


def test_a_net_too_large_is_refused_before_it_is_made():
    with pytest.raises(
        ResourceError, match=r"DQN: a net of 1,000,000,00\d,000,000,000 weights.*hidden=.*8,000,0.* bytes"
    ):
        DQN(**SMALL | {"hidden": (10**9, 10**9)}).fit(TwoStates)


def test_environments_beyond_all_number_are_refused():
    with pytest.raises(ConfigError, match=r"DQN: n_envs=1000000000000 .*more than 100,000"):
        DQN(**SMALL | {"n_envs": 10**12, "buffer_size": 10**14, "steps": 10**14}).fit(TwoStates)


def test_ctrl_c_and_a_broken_environment_name_environment_steps(tmp_path):
    def press(moment):
        if moment.event == "step" and moment.step == 20:
            signal.raise_signal(signal.SIGINT)

    path = tmp_path / "run"
    with pytest.raises(
        InterruptedFit, match=r"stopped by Ctrl-C after \d+ environment steps; go on with: konspekt resume "
    ):
        DQN(**SMALL, run_dir=str(path)).fit(BOXED, callbacks=[press])
    with pytest.raises(ConfigError, match=r"has made \d+ environment steps already, which cannot be had back"):
        DQN(**SMALL | {"steps": 28}, run_dir=str(path)).fit(BOXED, resume=path)

    class Breaks(TwoStates):
        calls = 0

        def step(self, action):
            Breaks.calls += 1
            if Breaks.calls > 250:
                raise RuntimeError("no power")
            return super().step(action)

    path = tmp_path / "other"
    with pytest.raises(
        DataError, match=r"no power.*; the run is kept: .*, fit\(env, resume=.*\) goes on after environment step 2\d\d"
    ):
        DQN(**SMALL, checkpoint_every=1, run_dir=str(path)).fit(functools.partial(Breaks, observations="box"))
    assert "WARNING stopped: the environment raised RuntimeError: no power" in (path / "log.txt").read_text()


def test_a_net_that_cannot_be_allocated_is_no_traceback(monkeypatch):
    def build(*spaces):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 5 bytes")

    agent = DQN(**SMALL)
    monkeypatch.setattr(agent, "build", build)
    with pytest.raises(
        ResourceError, match=r"DQN: there is no memory for the net \(hidden=\(8,\)\).*5 bytes; give fewer"
    ):
        agent.fit(TwoStates)
