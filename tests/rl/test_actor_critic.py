"""The nets of policy and value, and their loss by hand."""

import math

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import nn

from konspekt.core.errors import ConfigError
from konspekt.rl.actor_critic import ActorCritic, PolicyObjective, example
from konspekt.rl.policies import Categorical, Gaussian, distribution_of
from konspekt.testing.two_states import TwoStates

BOX = spaces.Box(-1, 1, (3,))


def test_weights_are_orthogonal_with_the_gains_of_each_part() -> None:
    net = ActorCritic(BOX, Categorical(2), (8, 8), "tanh")
    for layer, gain in (
        (net.policy_body[0], 2.0),
        (net.policy_body[2], 2.0),
        (net.policy_head, 1e-4),
        (net.value_head[0], 1.0),
    ):
        weight = layer.weight.detach()
        square = weight @ weight.T if len(weight) <= weight.shape[1] else weight.T @ weight
        torch.testing.assert_close(square, gain * torch.eye(len(square)), atol=1e-5, rtol=1e-4)
        assert not layer.bias.any()


def test_weights_may_begin_as_torchs_layers_do() -> None:
    torch.manual_seed(0)
    net = ActorCritic(BOX, Gaussian(2), (8, 8), "tanh", spread="state", log_std=-1.0, orthogonal=False)
    for layer in (net.policy_body[0], net.policy_body[2], net.value_head[0], net.policy_head.linear):
        bound = layer.in_features**-0.5  # U(-1 / sqrt(inputs), 1 / sqrt(inputs))
        assert 0.5 * bound < float(layer.weight.detach().abs().max()) <= bound
    assert net.policy_head.linear.bias[:2].all()
    assert (net.policy_head.linear.bias[2:] == -1).all()


def test_a_shared_body_stands_once() -> None:
    apart, shared = (ActorCritic(BOX, Categorical(2), (8, 4), "tanh", shared=shared) for shared in (False, True))
    body = 3 * 8 + 8 + 8 * 4 + 4
    heads = 4 * 2 + 2 + 4 + 1
    assert sum(p.numel() for p in apart.parameters()) == 2 * body + heads
    assert sum(p.numel() for p in shared.parameters()) == body + heads
    outputs, value = shared(torch.ones(5, 3))
    assert (outputs.shape, value.shape) == ((5, 2), (5,))


def test_without_a_value_there_is_none() -> None:
    net = ActorCritic(BOX, Categorical(2), (8,), "tanh", value=False)
    assert net(torch.ones(5, 3))[1] is None
    assert not any("value" in name for name, _ in net.named_parameters())


@pytest.mark.parametrize("spread", ["common", "state"])
def test_a_gaussian_begins_with_the_deviation_asked_for(spread: str) -> None:
    net = ActorCritic(BOX, Gaussian(2), (8,), "tanh", spread=spread, log_std=-0.5)  # type: ignore[arg-type]
    outputs = net(torch.randn(4, 3))[0]
    torch.testing.assert_close(outputs[:, 2:], torch.full((4, 2), -0.5), atol=0.05, rtol=0)
    assert bool((outputs[:, 2:].std(0) > 0).all()) == (spread == "state")


def test_a_deviation_that_depends_on_the_state_is_bounded() -> None:
    net = ActorCritic(BOX, Gaussian(1), (8,), "tanh", spread="state", log_std=50.0)
    assert net(torch.randn(4, 3))[0][:, 1].tolist() == [2.0] * 4


def test_pictures_go_through_the_net_of_the_nature_paper() -> None:
    net = ActorCritic(spaces.Box(0, 255, (84, 84), np.uint8), Categorical(4), (), "tanh", shared=True, stack=4)
    outputs, value = net(torch.zeros(2, 4, 84, 84, dtype=torch.uint8))
    assert (outputs.shape, value.shape) == ((2, 4), (2,))
    assert net.policy_body.linear.out_features == 512


def test_options_that_do_not_fit_the_observations_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"stack=4 is for pictures; these observations are Box\(3,\) of float32"):
        ActorCritic(BOX, Categorical(2), (8,), "tanh", stack=4)
    with pytest.raises(
        ConfigError, match=r"normalize_observations is for numbers; these observations are Discrete\(5\)"
    ):
        ActorCritic(spaces.Discrete(5), Categorical(2), (8,), "tanh", standardise=True)


class Fixed(nn.Module):
    """Log-probabilities (log 1/4, log 3/4) and the value 2, whatever is seen."""

    def __init__(self) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.tensor([0.0, math.log(3)]))
        self.v = nn.Parameter(torch.tensor(2.0))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.logits.expand(len(x), -1), self.v.expand(len(x))


def test_the_loss_by_hand() -> None:
    objective = PolicyObjective(Fixed(), Categorical(2), value_coefficient=0.5, entropy=0.1)
    batch = {
        "index": torch.arange(2),
        "observation": torch.zeros(2, 1),
        "action": torch.tensor([0, 1]),
        "advantage": torch.tensor([3.0, -1.0]),
        "target": torch.tensor([5.0, 1.0]),
    }
    out = objective.loss(batch, "model")  # type: ignore[arg-type]
    policy = -(3 * math.log(1 / 4) - math.log(3 / 4)) / 2
    entropy = -(math.log(1 / 4) / 4 + 3 * math.log(3 / 4) / 4)
    assert out["policy_loss"].item() == pytest.approx(policy)
    assert out["value_loss"].item() == pytest.approx((9 + 1) / 2)
    assert out["entropy"].item() == pytest.approx(entropy)
    assert out["loss"].item() == pytest.approx(policy + 0.5 * 5 - 0.1 * entropy)


def test_the_value_moves_towards_its_target_and_not_by_the_advantage() -> None:
    net = Fixed()
    objective = PolicyObjective(net, Categorical(2), value_coefficient=0.5)
    batch = {
        "index": torch.arange(1),
        "observation": torch.zeros(1, 1),
        "action": torch.tensor([0]),
        "advantage": torch.tensor([100.0]),
        "target": torch.tensor([5.0]),
    }
    slope = torch.autograd.grad(objective.loss(batch, "model")["loss"], [net.v, net.logits])  # type: ignore[arg-type]
    assert slope[0].item() == pytest.approx(0.5 * 2 * (2 - 5))  # d/dv of 0.5 (v - 5)^2
    torch.testing.assert_close(slope[1], -100 * torch.tensor([3 / 4, -3 / 4]))  # -A z, z of action 0: (1 - 1/4, -3/4)


def test_the_error_of_a_rescaled_value_counts_in_the_units_of_its_net() -> None:
    net = ActorCritic(BOX, Categorical(2), (8,), "tanh", rescale=True)
    assert net.rescaled is not None
    net.rescaled.mean.fill_(100.0)
    net.rescaled.deviation.fill_(10.0)
    batch = example(BOX, spaces.Discrete(2), 4) | {"target": torch.full((4,), 110.0)}
    out = PolicyObjective(net, Categorical(2), value_coefficient=1.0).loss(batch, "model")
    assert out["value_loss"].item() == pytest.approx(100.0)  # 0 observed: a value of 100
    assert (out["loss"] - out["policy_loss"]).item() == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("space", "actions"),
    [
        (BOX, spaces.Discrete(2)),
        (spaces.Discrete(4, start=2), spaces.MultiDiscrete([2, 3])),
        (spaces.MultiDiscrete([2, 3]), spaces.Box(-1, 1, (2,))),
        (spaces.Box(0, 255, (40, 36, 3), np.uint8), spaces.MultiBinary(2)),
    ],
)
def test_an_example_fits_its_net(space: spaces.Space, actions: spaces.Space) -> None:
    distribution = distribution_of(actions)
    net = ActorCritic(space, distribution, (4,), "tanh", stack=1)
    out = PolicyObjective(net, distribution).loss(example(space, actions, 3), "model")
    assert torch.isfinite(out["loss"])


@pytest.mark.parametrize("dtype", [np.float64, np.int64, np.bool_])
def test_bounded_actions_that_are_not_float32_are_learned_from(dtype):
    from konspekt.rl.cross_entropy_net import CrossEntropyNet

    class Typed(TwoStates):
        def __init__(self):
            super().__init__(actions="box")
            self.action_space = spaces.Box(np.zeros(1, dtype), np.ones(1, dtype), dtype=dtype)

        def step(self, action):
            assert action.dtype == dtype
            return super().step(np.asarray(action, np.float32))

    agent = CrossEntropyNet(steps=300, sessions=8, hidden=(8,)).fit(Typed)
    assert all(torch.isfinite(p).all() for p in agent.model_.parameters())
