"""The contract, as checks over everything registered. No list is kept: a new system is checked as soon as it stands.

    for name, check in checks_of(entry):
        check(entry, folder)

Each check takes a registry entry and an empty folder, and raises ContractError where the contract is broken. A system
that must not pass one says so, with the reason, in `@system(waive={"resume": "why"})`.
"""

from __future__ import annotations

import copy
import inspect
import os
import random
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from konspekt.core import folders
from konspekt.core.errors import ConfigError, KonspektError
from konspekt.core.estimator import load
from konspekt.core.params import build, params_of
from konspekt.core.registry import Entry
from konspekt.core.runs import read_metrics
from konspekt.core.seeds import mix
from konspekt.reports.page import report
from konspekt.testing.tiny import tiny

__all__ = ["CHECKS", "ContractError", "checks_of", "smallest"]

Check = Callable[[Entry, Path], None]


class ContractError(AssertionError):
    """A registered system breaks the contract."""


def require(holds: bool, message: str) -> None:
    """Raise ContractError unless `holds`."""
    if not holds:
        raise ContractError(message)


def smallest(entry: Entry, **changes: Any) -> Any:
    """The estimator at its smallest size, unfitted."""
    cls = entry.load()
    small = {"epochs": 2, "batch_size": 8, "hidden": (8,), "random_state": 0}
    return cls(**{k: v for k, v in small.items() if k in params_of(cls)} | changes)


def _data(entry: Entry, items: int = 24) -> tuple[Any, Any]:
    return tiny(str(entry.task), items)


def _outputs(estimator: Any, X: Any) -> np.ndarray[Any, Any]:
    return np.asarray(estimator.predict_proba(X) if hasattr(estimator, "predict_proba") else estimator.predict(X))


def _weights(folder: Path) -> bytes:
    return (folder / "weights.safetensors").read_bytes()


# -- estimators ---------------------------------------------------------------------------------------------------------


def check_params(entry: Entry, folder: Path) -> None:
    """Parameters are stored as given, cloned, checked at fit, and drawn from a space of valid ones."""
    from sklearn.base import clone

    estimator = smallest(entry)
    given = estimator.get_params()
    require(clone(estimator).get_params() == given, "clone does not keep the parameters")
    require(type(estimator)(**given).get_params() == given, "__init__ changes what it is given")
    rng = np.random.default_rng(0)
    for _ in range(20):
        point = type(estimator).space().draw(rng)
        clone(estimator).set_params(**point).check_params()
    for name, param in params_of(type(estimator)).items():
        if param.base in (int, float, bool):
            wrong = clone(estimator).set_params(**{name: "wrong"})
            try:
                wrong.fit(*_data(entry))
            except ConfigError as error:
                require(
                    name in str(error) and "wrong" in str(error), f"the message for {name} lacks name or value: {error}"
                )
            else:
                raise ContractError(f"{name}='wrong' is accepted")


def check_fit(entry: Entry, folder: Path) -> None:
    """`fit` returns self, keeps the parameters, learns into names that end in "_"; predictions have the right form.

    Where the estimator is not `supervised`, it learns the same without y.
    """
    from sklearn.base import is_regressor

    X, y = _data(entry)
    estimator = smallest(entry)
    before = dict(estimator.get_params())
    require(estimator.fit(X, y) is estimator, "fit must return self")
    require(estimator.get_params() == before, "fit changed a parameter")
    stray = [n for n in vars(estimator) if n not in before and not n.endswith("_") and not n.startswith("_")]
    require(not stray, f"learned names must end in '_': {stray}")
    state = dict(vars(estimator))
    predicted = np.asarray(estimator.predict(X))
    require(len(predicted) == len(X), f"{len(predicted)} predictions for {len(X)} items")
    if hasattr(estimator, "predict_proba"):
        probabilities = np.asarray(estimator.predict_proba(X))
        require(probabilities.shape == (len(X), len(estimator.classes_)), f"probabilities are {probabilities.shape}")
        require(bool(np.allclose(probabilities.sum(axis=1), 1)), "probabilities do not sum to 1")
        require(bool((estimator.classes_[probabilities.argmax(1)] == predicted).all()), "predict is not the likeliest")
        require(
            predicted.dtype == estimator.classes_.dtype, f"labels are {predicted.dtype}, not {estimator.classes_.dtype}"
        )
    elif is_regressor(estimator):
        require(predicted.dtype == np.float64, f"predictions are {predicted.dtype}, not float64")
    if not getattr(estimator, "supervised", True):
        require(bool((np.asarray(smallest(entry).fit(X).predict(X)) == predicted).all()), "y changed what was learned")
        require(bool(np.isfinite(estimator.evaluate(X)["loss"])), "evaluate without y gives no finite loss")
    require(bool(np.isfinite(estimator.evaluate(X, y)["loss"])), "evaluate gives no finite loss")
    require(vars(estimator) == state, "predict changed the estimator")


def check_save(entry: Entry, folder: Path) -> None:
    """A saved model predicts the same to the bit, and saves to the same weights."""
    X, y = _data(entry)
    estimator = smallest(entry).fit(X, y)
    back = load(estimator.save(folder / "model"))
    require(np.array_equal(_outputs(estimator, X), _outputs(back, X)), "the loaded model predicts something else")
    back.save(folder / "again")
    require(_weights(folder / "model") == _weights(folder / "again"), "the loaded model has other weights")
    estimator.save(folder / "model")
    require(_weights(folder / "model") == _weights(folder / "again"), "saving over a model changed it")


def check_repeat(entry: Entry, folder: Path) -> None:
    """The same seed gives the same weights to the bit, another seed others; the caller's generators are untouched."""
    X, y = _data(entry)
    torch.manual_seed(1)
    random.seed(1)
    np.random.seed(1)
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # type: ignore[index]
    for seed, name in ((0, "a"), (0, "b"), (1, "c")):
        smallest(entry, random_state=seed, validation_fraction=0.25).fit(X, y).save(folder / name)
    after = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # type: ignore[index]
    require(bool((before[0] == after[0]).all()) and before[1:] == after[1:], "fit touched the caller's generators")
    require(_weights(folder / "a") == _weights(folder / "b"), "the same seed gives other weights")
    require(_weights(folder / "a") != _weights(folder / "c"), "another seed gives the same weights")


def check_resume(entry: Entry, folder: Path) -> None:
    """A fit killed at a drawn step, and one killed inside a checkpoint's write, resume to the same weights to the bit."""
    X, y = _data(entry)

    def made(name: str) -> Any:
        return smallest(entry, run_dir=str(folder / name), checkpoint_every=1, validation_fraction=0.25, epochs=3)

    whole = made("whole").fit(X, y)
    steps = max(r["step"] for r in read_metrics(folder / "whole") if r["kind"] == "epoch")
    draw = random.Random(mix(*entry.name.encode()))
    at = draw.randrange(2, steps)

    def kill_at_step(moment: Any) -> None:
        if moment.event == "step" and moment.step == at:
            os.kill(os.getpid(), signal.SIGKILL)

    for name, callback, writes in (("step", kill_at_step, None), ("write", None, draw.randrange(6, 5 * (steps - 1)))):
        _killed(lambda n=name, c=callback: made(n).fit(X, y, callbacks=[c] if c else []), writes)  # type: ignore[misc]
        resumed = made(name).fit(X, y, resume=folder / name)
        where = f"killed at step {at}" if writes is None else f"killed at flush {writes} of a checkpoint"
        same = _weights(folder / name / "model") == _weights(folder / "whole" / "model")
        require(same, f"{where} of {steps}, the resumed fit has other weights")
        require(resumed.n_iter_ == whole.n_iter_, f"{where}: {resumed.n_iter_} epochs instead of {whole.n_iter_}")


def _killed(fit: Callable[[], Any], writes: int | None) -> None:
    """Run a fit in a forked process that must die by SIGKILL: by itself, or at the `writes`-th flush."""
    child = os.fork()
    if child == 0:
        try:
            if writes is not None:
                _kill_at_flush(writes)
            fit()
        finally:
            os._exit(3)  # the parent's pytest must not go on in the child
    _, status = os.waitpid(child, 0)
    died = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    require(died, "the fit that was to be killed ended by itself")


def _kill_at_flush(writes: int) -> None:
    flush, count = folders.flush, 0

    def deadly(path: Path) -> None:
        nonlocal count
        count += 1
        if count == writes:
            os.kill(os.getpid(), signal.SIGKILL)
        flush(path)

    folders.flush = deadly


def check_overfit(entry: Entry, folder: Path) -> None:
    """Eight items, all in one batch, are learned by heart."""
    X, y = _data(entry, items=8)
    estimator = smallest(entry, epochs=150, lr=0.03, batch_size=8).fit(X, y)
    first, last = estimator.history_[0]["loss"], estimator.history_[-1]["loss"]
    require(last < 0.3 * first, f"the loss of one batch fell from {first:.3g} to {last:.3g} only")


def check_gradient(entry: Entry, folder: Path) -> None:
    """The gradient reaches every parameter of the net."""
    X, y = _data(entry)
    estimator = smallest(entry, epochs=1)
    moved: set[str] = set()
    start: dict[str, Tensor] = {}

    def look(moment: Any) -> None:
        for name, p in moment.objective.named_parameters():
            if moment.step == 1:
                start[name] = p.detach().clone()
            if p.grad is not None and bool(p.grad.any()):
                moved.add(name)

    estimator.fit(X, y, callbacks=[look])
    still = sorted(set(start) - moved)
    require(not still, f"no gradient reached {', '.join(still)}")


def check_bad_input(entry: Entry, folder: Path) -> None:
    """Bad data raise DataError or ConfigError (or scikit-learn's TypeError), never anything else, and never pass."""
    numbers = np.full((8, 16, 16) if str(entry.task).startswith("image") else (8, 3), 1.0)
    numbers += np.arange(8.0).reshape(-1, *[1] * (numbers.ndim - 1))
    labels = np.arange(8) % 2

    def spoiled(value: float) -> np.ndarray[Any, Any]:
        copy = numbers.copy()
        copy.flat[5] = value
        return copy

    table = {
        "empty": (numbers[:0], labels[:0]),
        "one row": (numbers[:1], labels[:1]),
        "NaN in an array": (spoiled(np.nan), labels),
        "inf": (spoiled(np.inf), labels),
        "strings": (np.full(numbers.shape, "a"), labels),
        "y too short": (numbers, labels[:-1]),
        "X is None": (None, labels),
        "X is a number": (3, labels),
    }
    if getattr(entry.load(), "supervised", True):
        table["y missing"] = (numbers, None)
        table["a target missing"] = (numbers, np.where(labels == 0, np.nan, 1.0))
    if hasattr(entry.load(), "predict_proba"):
        table["one class"] = (numbers, np.zeros(8))
    for name, (bad_X, bad_y) in table.items():
        try:
            smallest(entry).fit(bad_X, bad_y)
        except (KonspektError, TypeError) as error:
            require(len(str(error)) > 20, f"{name}: the message says too little: {error}")
        except Exception as error:
            raise ContractError(f"{name}: {type(error).__name__} instead of a DataError: {error}") from error
        else:
            raise ContractError(f"{name}: accepted")


def check_report(entry: Entry, folder: Path) -> None:
    """A run leaves a folder that a report can be made of."""
    X, y = _data(entry)
    smallest(entry, run_dir=str(folder / "run"), validation_fraction=0.25).fit(X, y)
    for name in ("config.yaml", "metrics.jsonl", "data.json", "validation.npz", "items/items.json", "result.json"):
        require((folder / "run" / name).is_file(), f"the run folder lacks {name}")
    text = report(folder / "run").read_text(encoding="utf-8")
    require(entry.name in text and "<svg" in text, "the report lacks the system's name or has no picture")


# -- what estimators are made of ------------------------------------------------------------------------------------------


class _Bowl:
    """The quadratic w'diag(1, 5)w as an optimiser's closure, with what second-order methods ask for besides."""

    def __init__(self, w: nn.Parameter) -> None:
        self.w, self.scale = w, torch.tensor([1.0, 5.0], dtype=torch.float64)

    def __call__(self) -> Tensor:
        self.w.grad = 2 * self.w.detach() * self.scale
        return (self.w.detach().square() * self.scale).sum()

    def loss(self) -> float:
        return float((self.w.detach().square() * self.scale).sum())

    def hessian(self) -> Tensor:
        return torch.diag(2 * self.scale)

    def item_gradients(self, estimate: str) -> Tensor:  # of two items, whose mean of outer products is the Hessian
        return torch.diag(2 * self.scale.sqrt())

    def blocks(self) -> list[slice]:
        return [slice(0, 2)]


def check_optimizer(entry: Entry, folder: Path) -> None:
    """It lowers a quadratic, through a closure, and goes on from its saved state."""
    weights = [nn.Parameter(torch.tensor([3.0, -2.0], dtype=torch.float64)) for _ in range(2)]
    made = [build("optimizer", entry.name, [{"params": [w]}], 0.1) for w in weights]
    closures = [_Bowl(w) for w in weights]
    first = closures[0].loss()
    for _ in range(5):
        made[0].step(closures[0])  # type: ignore[arg-type]
    weights[1].data.copy_(weights[0].data)
    made[1].load_state_dict(copy.deepcopy(made[0].state_dict()))
    for place in (0, 1):
        for _ in range(20):
            made[place].step(closures[place])  # type: ignore[arg-type]
    require(closures[0].loss() < first, "the quadratic did not get smaller")
    require(bool((weights[0] == weights[1]).all()), "the saved state does not carry on")


def check_schedule(entry: Entry, folder: Path) -> None:
    """The factor is between 0 and 1 at every step."""
    schedule = build("schedule", entry.name, 40, 4)
    factors = []
    for step in range(40):
        factors.append(schedule.factor(step))
        if step % 4 == 3:
            schedule.observe(1.0, False)
    require(
        all(0 <= f <= 1 for f in factors) and max(factors) > 0.5, f"factors run from {min(factors)} to {max(factors)}"
    )


def check_activation(entry: Entry, folder: Path) -> None:
    """It keeps the shape, is new at each call, and lets a gradient through."""
    made = build("activation", entry.name).eval()
    require(made is not build("activation", entry.name), "the builder hands out the same module twice")
    x = torch.linspace(-3, 3, 24).reshape(4, 6).requires_grad_()
    out = made(x)
    require(out.shape == x.shape, f"shape {tuple(x.shape)} became {tuple(out.shape)}")
    weighted = (out * torch.arange(24.0).reshape(4, 6)).sum()
    (gradient,) = torch.autograd.grad(weighted, x)
    require(bool(torch.isfinite(gradient).all()) and bool(gradient.any()), "no finite gradient comes through")


def check_init(entry: Entry, folder: Path) -> None:
    """It fills a matrix and a kernel in place with finite numbers, from torch's generator."""
    for shape in ((5, 7), (4, 3, 3, 3)):
        weights = []
        for _ in range(2):
            torch.manual_seed(0)
            weight = torch.full(shape, float("nan"))
            build("init", entry.name, weight)
            weights.append(weight)
        require(bool(torch.isfinite(weights[0]).all()), "something was left unfilled")
        require(bool((weights[0] == weights[1]).all()), "it does not draw from torch's generator")


def check_net(entry: Entry, folder: Path) -> None:
    """It makes logits of the right shape, and the gradient reaches all parameters."""
    torch.manual_seed(0)
    net = build("net", entry.name, 3, 5, (32, 32))
    out = net(torch.rand(4, 3, 32, 32))
    require(out.shape == (4, 5), f"logits are {tuple(out.shape)}, not (4, 5)")
    weights = list(net.parameters())
    gradients = torch.autograd.grad(out.square().sum(), weights)
    still = [n for (n, _), g in zip(net.named_parameters(), gradients, strict=True) if not bool(g.any())]
    require(not still, f"no gradient reaches {', '.join(still)}")
    required = inspect.signature(entry.load()).parameters
    require(all(p.default is not inspect.Parameter.empty for p in required.values()), "an argument has no default")


CHECKS: dict[str, dict[str, Check]] = {
    "estimator": {
        "params": check_params,
        "fit": check_fit,
        "save": check_save,
        "repeat": check_repeat,
        "resume": check_resume,
        "overfit": check_overfit,
        "gradient": check_gradient,
        "bad_input": check_bad_input,
        "report": check_report,
    },
    "optimizer": {"optimizer": check_optimizer},
    "schedule": {"schedule": check_schedule},
    "activation": {"activation": check_activation},
    "init": {"init": check_init},
    "net": {"net": check_net},
}


def checks_of(entry: Entry) -> list[tuple[str, Check]]:
    """The checks of an entry's kind, waived ones too: who runs them must see them fail.

    Raises ConfigError where `waive` names no check.
    """
    checks = CHECKS.get(entry.kind, {})
    for name in entry.waive:
        if name not in checks:
            raise ConfigError(f"{entry.name}: waive names no check {name!r}; there are {', '.join(checks)}")
    return list(checks.items())
