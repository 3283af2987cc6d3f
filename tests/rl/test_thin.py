"""The forward pass on views of the weights gives what the net gives, whatever the net is of."""

import numpy as np
import pytest
import torch
from gymnasium import spaces

from konspekt.rl.actor_critic import ActorCritic
from konspekt.rl.policies import distribution_of
from konspekt.rl.thin import Seen

DISCRETE = spaces.Discrete(3)


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize(
    ("observations", "options"),
    [
        (spaces.Box(-1, 1, (2, 3)), {}),
        (spaces.Box(-1, 1, (4,), np.float64), {"standardise": True}),
        (spaces.Box(-1, 1, (4,)), {"rescale": True}),
        (spaces.Discrete(5, start=2), {}),
        (spaces.MultiDiscrete([3, 4]), {}),
        (spaces.MultiBinary(4), {}),
    ],
)
def test_it_equals_the_net(observations: spaces.Space, options: dict[str, bool], activation: str, shared: bool) -> None:
    torch.manual_seed(0)
    net = ActorCritic(observations, distribution_of(DISCRETE), (16, 8), activation, shared=shared, **options)  # type: ignore[arg-type]
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.normal_()
        for name, buffer in net.named_buffers():
            if not name.endswith("count"):
                buffer.fill_(0.4)
    observations.seed(0)
    rows = np.stack([observations.sample() for _ in range(7)])
    seen = Seen(net, torch.device("cpu"))
    assert seen.thin
    seen.refresh()
    before = rows.copy()
    outputs, value = (out.detach().numpy() for out in net(torch.from_numpy(rows)))
    np.testing.assert_allclose(seen.policy(rows), outputs, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(seen.values(rows), value, rtol=1e-4, atol=1e-5)
    assert np.array_equal(rows, before)


@pytest.mark.parametrize("spread", ["common", "state"])
def test_a_gaussian_head_too(spread: str) -> None:
    torch.manual_seed(0)
    space = spaces.Box(-1, 1, (4,))
    net = ActorCritic(space, distribution_of(space), (8,), "tanh", spread=spread, log_std=1.9)  # type: ignore[arg-type]
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(torch.randn_like(parameter))  # beyond the bound of 2 in places
    rows = np.random.default_rng(0).normal(size=(9, 4)).astype(np.float32)
    seen = Seen(net, torch.device("cpu"))
    seen.refresh()
    expected = net(torch.from_numpy(rows))[0].detach().numpy()
    assert (spread == "common") or (expected[:, 4:] == 2.0).any()
    np.testing.assert_allclose(seen.policy(rows), expected, rtol=1e-4, atol=1e-5)


def test_it_follows_the_weights() -> None:
    space = spaces.Box(-1, 1, (4,))
    net = ActorCritic(space, distribution_of(DISCRETE), (8,), "tanh", value=False)
    seen, rows = Seen(net, torch.device("cpu")), np.ones((2, 4), np.float32)
    seen.refresh()
    for parameter in net.parameters():  # in place, and by other memory
        with torch.no_grad():
            parameter.add_(1.0)
        parameter.data = parameter.data.clone() * 2
    seen.refresh()
    np.testing.assert_allclose(seen.policy(rows), net(torch.from_numpy(rows))[0].detach().numpy(), rtol=1e-5)
    assert seen.values(rows).tolist() == [0.0, 0.0]


def test_what_is_made_of_other_layers_goes_through_torch() -> None:
    space = spaces.Box(0, 255, (36, 36), np.uint8)
    net = ActorCritic(space, distribution_of(DISCRETE), (), "tanh")
    seen, rows = Seen(net, torch.device("cpu")), np.full((2, 1, 36, 36), 7, np.uint8)
    seen.refresh()
    assert not seen.thin
    outputs, value = net(torch.from_numpy(rows))
    np.testing.assert_array_equal(seen.policy(rows), outputs.detach().numpy())
    np.testing.assert_array_equal(seen.values(rows), value.detach().numpy())
