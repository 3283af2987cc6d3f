"""Distributions over actions against torch.distributions and against their own draws."""

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch.distributions import Categorical as TorchCategorical
from torch.distributions import Normal

from konspekt.core.errors import ConfigError
from konspekt.rl.policies import Categorical, Gaussian, MultiCategorical, distribution_of


def outputs(units: int, rows: int = 6) -> torch.Tensor:
    return torch.randn(rows, units, generator=torch.Generator().manual_seed(1))


def test_categorical_log_probability_and_entropy_are_torchs() -> None:
    logits, actions = outputs(4), torch.tensor([0, 1, 2, 3, 0, 1])
    log, entropy = Categorical(4).terms(logits, actions)
    known = TorchCategorical(logits=logits)
    torch.testing.assert_close(log, known.log_prob(actions))
    torch.testing.assert_close(entropy, known.entropy())


def test_several_choices_are_sums_over_the_choices() -> None:
    logits, actions = outputs(5), torch.tensor([[0, 0], [1, 1], [0, 2], [1, 0], [0, 1], [1, 2]])
    log, entropy = MultiCategorical([2, 3]).terms(logits, actions)
    one, two = TorchCategorical(logits=logits[:, :2]), TorchCategorical(logits=logits[:, 2:])
    torch.testing.assert_close(log, one.log_prob(actions[:, 0]) + two.log_prob(actions[:, 1]))
    torch.testing.assert_close(entropy, one.entropy() + two.entropy())
    assert MultiCategorical([2, 3]).mode(logits).tolist() == [
        [int(row[:2].argmax()), int(row[2:].argmax())] for row in logits
    ]


def test_gaussian_is_torchs() -> None:
    given, actions = outputs(6), outputs(3) * 2
    log, entropy = Gaussian(3).terms(given, actions)
    known = Normal(given[:, :3], given[:, 3:].exp())
    torch.testing.assert_close(log, known.log_prob(actions).sum(1))
    torch.testing.assert_close(entropy, known.entropy().sum(1))


@pytest.mark.parametrize("by", ["numpy", "torch"])
def test_draws_have_the_probabilities(by: str) -> None:
    logits = torch.tensor([[0.0, 1.0, -1.0, 2.0, 0.5]]).expand(20_000, -1)
    distribution = MultiCategorical([2, 3])
    if by == "numpy":
        noise = distribution.noise(np.random.default_rng(0), (20_000,))
        drawn = distribution.draw(logits.numpy(), noise)
    else:
        drawn = distribution.sample(logits, torch.Generator().manual_seed(0)).numpy()
    for k, part in enumerate((logits[0, :2], logits[0, 2:])):
        shares = np.bincount(drawn[:, k], minlength=len(part)) / len(drawn)
        np.testing.assert_allclose(shares, part.softmax(0).numpy(), atol=0.012)  # 3.5 standard errors of 0.0035


@pytest.mark.parametrize("by", ["numpy", "torch"])
def test_gaussian_draws_have_mean_and_deviation(by: str) -> None:
    given = torch.tensor([[1.0, -2.0, 0.0, float(np.log(3.0))]]).expand(20_000, -1)
    distribution = Gaussian(2)
    if by == "numpy":
        drawn = distribution.draw(given.numpy(), distribution.noise(np.random.default_rng(0), (20_000,)))
        assert drawn.dtype == np.float32
    else:
        drawn = distribution.sample(given, torch.Generator().manual_seed(0)).numpy()
    np.testing.assert_allclose(drawn.mean(0), [1, -2], atol=0.08)
    np.testing.assert_allclose(drawn.std(0), [1, 3], rtol=0.02)


def test_noise_is_finite_where_the_exponential_is_zero() -> None:
    class Zeros:
        def standard_exponential(self, shape: tuple[int, ...], dtype: type) -> np.ndarray:
            return np.zeros(shape, dtype)

    assert np.isfinite(Categorical(2).noise(Zeros(), (3,))).all()  # type: ignore[arg-type]


def test_each_kind_of_action_space_has_its_distribution() -> None:
    assert distribution_of(spaces.Discrete(3, start=5)).units == 3
    assert distribution_of(spaces.MultiDiscrete([[2, 3], [4, 5]])).units == 14
    assert distribution_of(spaces.MultiBinary(3)).units == 6
    assert distribution_of(spaces.Box(-1, 1, (2, 3))).units == 12
    with pytest.raises(ConfigError, match="no distribution here is over actions of Text"):
        distribution_of(spaces.Text(3))
