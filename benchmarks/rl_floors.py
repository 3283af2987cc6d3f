"""What a training cannot do without, in loops by hand: the update alone, the acting alone, the environment alone. Part of `rl.py`.

Each gives seconds for one environment step, so that a floor stands beside a training in the same unit. The weights lie in one
tensor, with which clipping and optimiser are one call each: the fastest form that was found.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable

import gymnasium
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from konspekt.rl.vector import environments

__all__ = ["a2c_floors", "dqn_floors"]

ENV, WIDTH, ACTIONS = "CartPole-v1", 4, 2  # numbers of an observation, actions
Timed = Callable[[], float]


def layers(sizes: tuple[int, ...], activation: type[nn.Module]) -> nn.Sequential:
    """Linear layers with an activation between them."""
    made: list[nn.Module] = []
    for before, after in itertools.pairwise(sizes):
        made += [nn.Linear(before, after), activation()]
    return nn.Sequential(*made[:-1])


def rate(what: Callable[[], object], count: int, steps: float) -> float:
    """Seconds of an environment step, where `what` is done `count` times and each stands for so many steps."""
    start = time.perf_counter()
    for _ in range(count):
        what()
    return (time.perf_counter() - start) / (count * steps)


def a2c_floors(n_envs: int, n_steps: int, clip: float, count: int) -> dict[str, Timed]:
    """Of A2C with a separate actor and critic of 64-64 tanh: the update with RMSprop, the acting, and the environments."""
    torch.manual_seed(0)
    batch = n_envs * n_steps
    actor, critic = (layers((WIDTH, 64, 64, out), nn.Tanh) for out in (ACTIONS, 1))
    weights = joined([*actor.parameters(), *critic.parameters()])
    optimizer = torch.optim.RMSprop([weights], lr=7e-4, alpha=0.99, eps=1e-5)
    x, action = torch.randn(batch, WIDTH), torch.randint(ACTIONS, (batch, 1))
    advantage, target = torch.randn(batch), torch.randn(batch)
    seen, rounds = np.ones((n_envs, WIDTH), np.float32), np.ones((batch + n_envs, WIDTH), np.float32)
    policy, value, rng = by_numpy(actor), by_numpy(critic), np.random.default_rng(0)

    def update() -> None:
        chances = F.log_softmax(actor(x), dim=1)
        loss = -(advantage * chances.gather(1, action)[:, 0]).mean() + 0.5 * F.mse_loss(critic(x)[:, 0], target)
        stepped(loss, weights, optimizer, clip)

    def act() -> None:
        noise = rng.gumbel(size=(n_steps, n_envs, ACTIONS))
        for k in range(n_steps):
            (policy(seen) + noise[k]).argmax(1)
        value(rounds)

    return {
        "bare update": lambda: rate(update, count, batch),
        "bare acting": lambda: rate(act, count, batch),
        **bare_environments(n_envs, 5 * count),
    }


def dqn_floors(
    hidden: tuple[int, ...], batch: int, together: int, updates_per_step: float, clip: float, count: int
) -> dict[str, Timed]:
    """Of DQN: the update with Adam, the acting of one environment, and the environment.

    together: updates between which the target net stands still, so that it is asked once for all of them.
    """
    torch.manual_seed(0)
    net, frozen = (layers((WIDTH, *hidden, ACTIONS), nn.ReLU) for _ in range(2))
    weights = joined(list(net.parameters()))
    optimizer = torch.optim.Adam([weights], lr=1e-3, fused=True)
    x, following = torch.randn(batch, WIDTH), torch.randn(together * batch, WIDTH)
    reward, going_on = torch.ones(together * batch), torch.full((together * batch,), 0.99)
    action = torch.randint(ACTIONS, (batch, 1))
    targets: list[Tensor] = []
    seen, q = np.ones((1, WIDTH), np.float32), by_numpy(net)

    def update() -> None:
        if not targets:
            with torch.no_grad():
                targets.extend(torch.addcmul(reward, going_on, frozen(following).amax(1)).split(batch))
        stepped(F.smooth_l1_loss(net(x).gather(1, action)[:, 0], targets.pop()), weights, optimizer, clip)

    return {
        "bare update": lambda: rate(update, count, 1 / updates_per_step),
        "bare acting": lambda: rate(lambda: q(seen).argmax(1), count, 1),
        **bare_environments(1, 5 * count),
    }


def by_numpy(net: nn.Sequential) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    """The net on views of its weights: on few rows torch's calls cost several times the arithmetic."""
    parts = [(m.weight.detach().numpy().T, m.bias.detach().numpy()) for m in net if isinstance(m, nn.Linear)]
    bend = np.tanh if isinstance(net[1], nn.Tanh) else lambda x, out: np.maximum(x, 0, out=out)

    def forward(x: NDArray[np.float32]) -> NDArray[np.float32]:
        for k, (weights, bias) in enumerate(parts):
            x = x @ weights
            x += bias
            if k + 1 < len(parts):
                bend(x, out=x)
        return x

    return forward


def joined(parameters: list[nn.Parameter]) -> nn.Parameter:
    """The parameters as slices of one, and their gradients as slices of its gradient."""
    whole = nn.Parameter(torch.cat([p.detach().reshape(-1) for p in parameters]))
    whole.grad = torch.zeros_like(whole)
    begin = 0
    for p in parameters:
        part = slice(begin, begin := begin + p.numel())
        p.data, p.grad = whole.data[part].view_as(p), whole.grad[part].view_as(p)
    return whole


def stepped(loss: Tensor, weights: nn.Parameter, optimizer: torch.optim.Optimizer, clip: float) -> None:
    """One step of gradient."""
    weights.grad.zero_()  # type: ignore[union-attr]
    loss.backward()
    torch.nn.utils.clip_grad_norm_([weights], clip, foreach=False)
    optimizer.step()


def bare_environments(num: int, count: int) -> dict[str, Timed]:
    """CartPole under random actions: compiled, and gymnasium's (SyncVectorEnv where there are several)."""
    actions = np.random.default_rng(0).integers(ACTIONS, size=(count, num))

    def compiled() -> float:
        envs = environments(ENV, num, seed=0)
        envs.reset()
        start = time.perf_counter()
        for action in actions:
            envs.step(action)
        spent = time.perf_counter() - start
        envs.close()
        return spent / actions.size

    def single() -> float:
        env = gymnasium.make(ENV, disable_env_checker=True)
        env.reset(seed=0)
        start = time.perf_counter()
        for action in actions[:, 0]:
            _, _, terminated, truncated, _ = env.step(action)
            if terminated or truncated:
                env.reset()
        return (time.perf_counter() - start) / count

    def vector() -> float:
        envs = gymnasium.make_vec(ENV, num, vectorization_mode="sync")
        envs.reset(seed=0)
        start = time.perf_counter()
        for action in actions:
            envs.step(action)
        spent = time.perf_counter() - start
        envs.close()
        return spent / actions.size

    theirs = (
        {"bare environment, gymnasium's": single}
        if num == 1
        else {"bare environment, gymnasium's SyncVectorEnv": vector}
    )
    return {"bare environment, compiled": compiled, **theirs}
