"""A function of a vector and a registered optimiser, with all that the engine's closure offers."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from konspekt.core.params import build


class _Problem:
    """Itself the closure. `function` takes the vector; `items`, if there are any, gives the loss of each."""

    def __init__(self, text, function, start, lr=1.0, dtype=torch.float64, split=None, items=None):
        values = torch.tensor(np.asarray(start), dtype=dtype)
        self.parts = [nn.Parameter(p.clone()) for p in values.split(split or [len(values)])]
        self.function, self.items = function, items
        self.optimizer = build("optimizer", text, [{"params": [p]} for p in self.parts], lr)
        self.evaluated = []  # the points, and the losses there
        self.random = []

    @property
    def w(self):
        return torch.cat([p.detach() for p in self.parts])

    def _at(self):
        loss = self.function(torch.cat(list(self.parts)))
        self.evaluated.append((self.w.numpy().copy(), loss.item()))
        return loss

    def __call__(self):
        for p in self.parts:
            p.grad = None
        loss = self._at()
        loss.backward()
        return loss

    def probe(self):
        loss = self().detach()
        return loss if math.isfinite(loss) else torch.full((), math.inf)

    def loss(self):
        with torch.no_grad():
            loss = self._at().item()
        return loss if math.isfinite(loss) else math.inf

    def hessian(self):
        return torch.autograd.functional.hessian(self.function, self.w)

    def item_gradients(self, estimate):
        return torch.autograd.functional.jacobian(self.items, self.w)

    def blocks(self):
        ends = np.cumsum([len(p) for p in self.parts])
        return [slice(int(e) - len(p), int(e)) for e, p in zip(ends, self.parts, strict=True)]

    def run(self, steps):
        """The points between steps, with their losses and gradients, until the optimiser has converged."""
        path = [self._point()]
        for _ in range(steps):
            self.optimizer.step(self)
            path.append(self._point())
            if getattr(self.optimizer, "converged", False):
                break
        return path

    def _point(self):
        w = self.w.requires_grad_()
        loss = self.function(w)
        (gradient,) = torch.autograd.grad(loss, w)
        return w.detach().numpy(), loss.item(), gradient.numpy()


@pytest.fixture
def problem():
    return _Problem


@pytest.fixture
def rosenbrock():
    """Rosenbrock's function as torch has it; SciPy's `rosen` is the other side."""
    return lambda w: (100 * (w[1:] - w[:-1] ** 2) ** 2 + (1 - w[:-1]) ** 2).sum()


@pytest.fixture
def logistic():
    """A logistic regression with a little l2: as torch function, as function and gradient in numpy, and its data."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 4)) * [1, 10, 0.1, 1]
    y = (X @ [1, 0.2, -5, 0] + rng.logistic(size=60) > 0).astype(float)
    tX, ty = torch.tensor(X), torch.tensor(y)

    def function(w):
        return nn.functional.binary_cross_entropy_with_logits(tX @ w, ty) + 0.01 * w.square().sum()

    def other(w):
        z = X @ w
        loss = np.mean(np.logaddexp(0, z) - y * z) + 0.01 * w @ w
        return loss, X.T @ (1 / (1 + np.exp(-z)) - y) / len(y) + 0.02 * w

    return function, other, X, y
