"""The contract, as checks over everything registered. No list is kept: a new system is checked as soon as it stands.

    for name, check in checks_of(entry):
        check(entry, folder)

Each check takes a registry entry and an empty folder, and raises ContractError where the contract is broken. A system
that must not pass one says so, with the reason, in `@system(waive={"resume": "why"})`.
"""

from __future__ import annotations

import copy
import functools
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

from konspekt.cluster.clusterer import Clusterer
from konspekt.core.errors import ConfigError, KonspektError
from konspekt.core.estimator import load
from konspekt.core.params import build, params_of
from konspekt.core.registry import Entry, lookup
from konspekt.core.runs import read_metrics
from konspekt.core.seeds import mix
from konspekt.engine.neural import NeuralEstimator
from konspekt.reports.page import report
from konspekt.testing.agents import AGENT_CHECKS, smallest_agent
from konspekt.testing.contract import ContractError, killed, require, weights_in
from konspekt.testing.tiny import tiny
from konspekt.vision.augment import augment

__all__ = ["CHECKS", "ContractError", "checks_of", "smallest"]

Check = Callable[[Entry, Path], None]


def smallest(entry: Entry, **changes: Any) -> Any:
    """The estimator at its smallest size, unfitted. One that `takes_fitted` names another gets that one, fitted."""
    if entry.kind == "agent":
        return smallest_agent(entry, **changes)
    cls = entry.load()
    small = {"epochs": 2, "batch_size": 8, "hidden": (8,), "random_state": 0, "n_clusters": 3, "n_components": 2}
    if inner := getattr(cls, "takes_fitted", None):
        small["model"] = _fitted(inner)
    return cls(**{k: v for k, v in small.items() if k in params_of(cls)} | changes)


@functools.cache
def _fitted(name: str) -> Any:
    entry = lookup("estimator", name)
    return smallest(entry).fit(*_data(entry))


def _data(entry: Entry, items: int = 24) -> tuple[Any, Any]:
    return tiny(str(entry.task), items)


def _outputs(estimator: Any, X: Any) -> np.ndarray[Any, Any]:
    """What it says of X: probabilities, or predictions, or features."""
    says = next((m for m in ("predict_proba", "predict", "transform") if hasattr(estimator, m)), None)
    if says is None:  # a clusterer that knows the clusters of its own points only
        return np.asarray(estimator.labels_)
    return np.asarray(getattr(estimator, says)(X))


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
    """`fit` returns self, keeps the parameters, learns into names that end in "_"; what it says of X has the right form.

    Where the estimator is not `supervised`, it learns the same without y.
    """
    X, y = _data(entry)
    estimator = smallest(entry)
    before = dict(estimator.get_params())
    require(estimator.fit(X, y) is estimator, "fit must return self")
    require(estimator.get_params() == before, "fit changed a parameter")
    stray = [n for n in vars(estimator) if n not in before and not n.endswith("_") and not n.startswith("_")]
    require(not stray, f"learned names must end in '_': {stray}")
    state = dict(vars(estimator))
    for says, form in (("predict", _check_predictions), ("transform", _check_features)):
        if hasattr(estimator, says):
            form(entry, estimator, X, y)
    if hasattr(estimator, "evaluate"):
        needed = ["loss"] if isinstance(estimator, NeuralEstimator) else []
        for given in [(X, y), *([] if getattr(estimator, "supervised", True) else [(X,)])]:
            measured = estimator.evaluate(*given)
            require(all(np.isfinite(measured[n]) for n in needed or measured), f"evaluate gives {measured}")
    require(vars(estimator) == state, "predict, transform or evaluate changed the estimator")


def _check_predictions(entry: Entry, estimator: Any, X: Any, y: Any) -> None:
    from sklearn.base import is_regressor

    predicted = np.asarray(estimator.predict(X))
    require(len(predicted) == len(X), f"{len(predicted)} predictions for {len(X)} items")
    if hasattr(estimator, "predict_proba"):
        probabilities = np.asarray(estimator.predict_proba(X))
        classes = getattr(estimator, "classes_", np.arange(probabilities.shape[1]))  # a clusterer's are numbers
        require(probabilities.shape == (len(X), len(classes)), f"probabilities are {probabilities.shape}")
        require(bool(np.allclose(probabilities.sum(axis=1), 1)), "probabilities do not sum to 1")
        require(bool((classes[probabilities.argmax(1)] == predicted).all()), "predict is not the likeliest")
        require(predicted.dtype == classes.dtype, f"labels are {predicted.dtype}, not {classes.dtype}")
    elif is_regressor(estimator):
        require(predicted.dtype == np.float64, f"predictions are {predicted.dtype}, not float64")
    if not getattr(estimator, "supervised", True):
        require(bool((np.asarray(smallest(entry).fit(X).predict(X)) == predicted).all()), "y changed what was learned")


def _check_features(entry: Entry, estimator: Any, X: Any, y: Any) -> None:
    made = np.asarray(estimator.transform(X))
    require(made.ndim == 2 and len(made) == len(X), f"features of {len(X)} items are {made.shape}")
    require(made.dtype.kind == "f" and bool(np.isfinite(made).all()), "features are no finite floats")
    names = estimator.get_feature_names_out()
    require(len(set(names)) == made.shape[1], f"{made.shape[1]} features have {len(set(names))} names")
    if not getattr(estimator, "supervised", True):
        require(
            np.array_equal(smallest(entry).fit_transform(X), made),
            "y changed what was learned, or fit_transform differs",
        )


def check_save(entry: Entry, folder: Path) -> None:
    """A saved model says the same to the bit, and saves to the same weights."""
    X, y = _data(entry)
    estimator = smallest(entry).fit(X, y)
    back = load(estimator.save(folder / "model"))
    require(np.array_equal(_outputs(estimator, X), _outputs(back, X)), "the loaded model says something else")
    back.save(folder / "again")
    require(weights_in(folder / "model") == weights_in(folder / "again"), "the loaded model has other weights")
    estimator.save(folder / "model")
    require(weights_in(folder / "model") == weights_in(folder / "again"), "saving over a model changed it")


def check_repeat(entry: Entry, folder: Path) -> None:
    """The same seed gives the same weights to the bit, another seed others; the caller's generators are untouched."""
    X, y = _data(entry)
    torch.manual_seed(1)
    random.seed(1)
    np.random.seed(1)
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # type: ignore[index]
    held = {"validation_fraction": 0.25} if "validation_fraction" in params_of(entry.load()) else {}
    for seed, name in ((0, "a"), (0, "b"), (1, "c")):
        smallest(entry, random_state=seed, **held).fit(X, y).save(folder / name)
    after = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # type: ignore[index]
    require(bool((before[0] == after[0]).all()) and before[1:] == after[1:], "fit touched the caller's generators")
    require(weights_in(folder / "a") == weights_in(folder / "b"), "the same seed gives other weights")
    if not issubclass(entry.load(), Clusterer):  # which may find the same clusters from everywhere
        require(weights_in(folder / "a") != weights_in(folder / "c"), "another seed gives the same weights")


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
        killed(lambda n=name, c=callback: made(n).fit(X, y, callbacks=[c] if c else []), writes)  # type: ignore[misc]
        resumed = made(name).fit(X, y, resume=folder / name)
        where = f"killed at step {at}" if writes is None else f"killed at flush {writes} of a checkpoint"
        same = weights_in(folder / name / "model") == weights_in(folder / "whole" / "model")
        require(same, f"{where} of {steps}, the resumed fit has other weights")
        require(resumed.n_iter_ == whole.n_iter_, f"{where}: {resumed.n_iter_} epochs instead of {whole.n_iter_}")


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
        "NaN in an array": (spoiled(np.nan), labels),
        "inf": (spoiled(np.inf), labels),
        "strings": (np.full(numbers.shape, "a"), labels),
        "X is None": (None, labels),
        "X is a number": (3, labels),
    }
    cls = entry.load()
    if hasattr(cls, "predict") or issubclass(
        cls, Clusterer
    ):  # else X is read by `transform` only, where one row will do
        table["one row"] = (numbers[:1], labels[:1])
        table["y too short"] = (numbers, labels[:-1])
    if getattr(cls, "supervised", True):
        table["y missing"] = (numbers, None)
        table["a target missing"] = (numbers, np.where(labels == 0, np.nan, 1.0))
    if hasattr(cls, "predict_proba") and getattr(cls, "supervised", True):
        table["one class"] = (numbers, np.zeros(8))
    for name, (bad_X, bad_y) in table.items():
        try:
            fitted = smallest(entry).fit(bad_X, bad_y)
            if not hasattr(cls, "predict") and hasattr(cls, "transform"):
                fitted.transform(bad_X)
        except (KonspektError, TypeError) as error:
            require(len(str(error)) > 20, f"{name}: the message says too little: {error}")
        except Exception as error:
            raise ContractError(f"{name}: {type(error).__name__} instead of a DataError: {error}") from error
        else:
            raise ContractError(f"{name}: accepted")


def check_report(entry: Entry, folder: Path) -> None:
    """A run leaves a folder that a report can be made of."""
    X, y = _data(entry)
    files = ["config.yaml", "metrics.jsonl", "data.json", "result.json"]
    if issubclass(entry.load(), NeuralEstimator):
        files += ["validation.npz", "items/items.json"]
        smallest(entry, run_dir=str(folder / "run"), validation_fraction=0.25).fit(X, y)
    else:
        smallest(entry, run_dir=str(folder / "run")).fit(X, y)
    for name in files:
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


def _smallest_image(text: str) -> int:
    """The side of the smallest square image that a net's builder takes; each refusal before must name the size."""
    message = "at least 1 x 1"
    for side in range(1, 513):
        try:
            build("net", text, 3, 4, (side, side))
        except ConfigError as error:
            message = str(error)
            require(f"({side}, {side})" in message, f"the refusal of {side} x {side} does not name it: {message}")
        else:
            require(
                side == 1 or f"at least {side} x {side}" in message, f"it takes {side} x {side}, but says: {message}"
            )
            return side
    raise ContractError("it refuses 512 x 512 pixels")


def check_net(entry: Entry, folder: Path) -> None:
    """At the smallest size that it takes, thinned, it makes logits, and the gradient reaches all parameters.

    One pixel less is refused; other channels and images that are not square are taken; its state goes into another such net;
    `heads` are the modules that make the logits; every argument has a default.
    """
    signature = inspect.signature(entry.load()).parameters
    require(all(p.default is not inspect.Parameter.empty for p in signature.values()), "an argument has no default")
    text = f"{entry.name}(width=0.125)" if "width" in signature else entry.name
    side, items, classes = _smallest_image(text), 4, 4
    for size in ((side - 1, side), (side, side - 1)) if side > 1 else ():
        try:
            build("net", text, 3, classes, size)
        except ConfigError as error:
            require(str(size) in str(error), f"the refusal of {size} does not name it: {error}")
        else:
            raise ContractError(f"{size} is accepted, {(side - 1, side - 1)} is not")

    def logits(net: nn.Module, images: Tensor) -> tuple[Tensor, ...]:
        out = net(images)
        require(net.training or isinstance(out, Tensor), "in evaluation it gives something beside the logits")
        every = out if isinstance(out, tuple) else (out,)
        for part in every:
            require(part.shape == (items, classes), f"logits are {tuple(part.shape)}, not {(items, classes)}")
            require(bool(torch.isfinite(part).all()), "logits are not finite")
        return every

    torch.manual_seed(0)
    still: set[str] | None = None
    for _ in range(4):  # in a net of two maps a ReLU may be shut for a whole batch
        net = build("net", text, 3, classes, (side, side))
        images = torch.randn(items, 3, side, side)
        trained = logits(net.train(), images)
        weights = dict(net.named_parameters())
        loss = torch.stack([(part * torch.randn_like(part)).sum() for part in trained]).sum()
        gradients = torch.autograd.grad(loss, list(weights.values()), allow_unused=True)
        shut = {n for n, g in zip(weights, gradients, strict=True) if g is None or not bool(g.any())}
        still = shut if still is None else still & shut
        if not still:
            break
    require(not still, f"no gradient reaches {', '.join(sorted(still or ()))}")
    if len(trained) > 1:
        require(net.aux_weight > 0, "auxiliary heads have no weight")
        require(len(trained) == len(net.heads), f"{len(trained)} logits in training, and {len(net.heads)} heads")

    with torch.no_grad():
        (first,) = logits(net.eval(), images)
        again = build("net", text, 3, classes, (side, side))
        again.load_state_dict(net.state_dict())
        require(torch.equal(first, logits(again.eval(), images)[0]), "with the same state it gives other logits")
        wide = build("net", text, 1, classes, (side, side + 3))
        logits(wide.train(), torch.randn(items, 1, side, side + 3))
        logits(wide.eval(), torch.randn(items, 1, side, side + 3))
        require(bool(net.heads), "it names no head")
        for name in net.heads:
            head = net.get_submodule(name)
            require(len(head.weight) == classes, f"the head {name} has {len(head.weight)} rows for {classes} classes")
        for parameter in net.get_submodule(net.heads[0]).parameters():
            parameter.zero_()
        (flat,) = logits(net, images)
        require(torch.equal(flat, flat[:1].expand_as(flat)), f"its output does not come from the head {net.heads[0]}")


# -- augmentations --------------------------------------------------------------------------------------------------------


def _pictures(channels: int, dtype: torch.dtype) -> dict[str, Tensor]:
    """Twelve images with numbers and labels, not square."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (12, channels, 17, 20), generator=generator, dtype=torch.uint8)
    x = x if dtype is torch.uint8 else x.float() / 255
    return {"x": x, "index": torch.arange(12) * 7 + 3, "y": torch.arange(12)}


def check_augment(entry: Entry, folder: Path) -> None:
    """Shape and dtype stay, the seed decides, the batch it is given is left alone, and with p=0 nothing happens."""
    names = (entry.name,)
    for channels in (1, 3):
        for dtype in (torch.uint8, torch.float32):
            batch = _pictures(channels, dtype)
            before, x = copy.deepcopy(batch), batch["x"]
            made = [augment(batch, names=names, seed=s, epoch=e)["x"] for s, e in ((0, 0), (0, 0), (1, 0), (0, 1))]
            where = f"of {channels} channels, {dtype}"
            require(
                all(bool((batch[name] == before[name]).all()) for name in before), f"images {where} are overwritten"
            )
            require(all(m.shape == x.shape and m.dtype is dtype for m in made), f"images {where} change shape or dtype")
            require(torch.equal(made[0], made[1]), f"images {where}: the same seed gives other images")
            if channels == 3:
                for again, what in ((made[2], "seed"), (made[3], "epoch")):
                    require(not torch.equal(made[0], again), f"images {where}: another {what} gives the same images")
            if "p" in params_of(entry.load()):
                still = augment(batch, names=(f"{entry.name}(p=0)",), seed=0, epoch=0)["x"]
                require(torch.equal(still, x), f"images {where} change with p=0")


def check_augment_item(entry: Entry, folder: Path) -> None:
    """What happens to an image does not depend on its batch; of floats, but for the last bits."""
    for channels in (1, 3):
        for dtype in (torch.uint8, torch.float32):
            batch = _pictures(channels, dtype)
            whole = augment(batch, names=(entry.name,), seed=0, epoch=0)["x"]
            for items in (torch.tensor([4]), torch.tensor([9, 2, 5])):
                part = augment({k: v[items] for k, v in batch.items()}, names=(entry.name,), seed=0, epoch=0)["x"]
                apart = float((part.float() - whole[items].float()).abs().max())
                require(
                    apart <= (0 if dtype is torch.uint8 else 1e-5), f"in another batch an image differs by {apart:g}"
                )


def check_augment_boxes(entry: Entry, folder: Path) -> None:
    """A bright rectangle, its mask and its box stay together."""
    mask = torch.zeros(64, 32, 36, dtype=torch.long)
    mask[:, 9:21, 8:25] = 1
    box = torch.tensor([8.0, 9.0, 25.0, 21.0]).repeat(64, 1)
    batch = {"x": mask[:, None].float(), "index": torch.arange(64), "masks": mask, "boxes": box}
    out = augment(batch, names=(entry.name,), seed=0, epoch=0)
    require(out["masks"].dtype is mask.dtype and out["boxes"].shape == box.shape, "masks or boxes change their form")
    moved = bool((out["masks"] != mask).any())
    require(moved == bool((out["boxes"] != box).any()), "masks move without boxes, or boxes without masks")
    if not moved:
        return
    bright = out["x"][:, 0] > 0.5
    apart = float((bright != (out["masks"] == 1)).float().mean())
    require(apart < 0.02, f"{apart:.1%} of the pixels belong to the rectangle by image or mask alone")
    for item, seen in enumerate(out["masks"] == 1):
        rows, columns = seen.any(1).nonzero(), seen.any(0).nonzero()
        if len(rows):
            around = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            off = max(abs(float(a) - float(b)) for a, b in zip(around, out["boxes"][item], strict=True))
            require(off <= 1.5, f"item {item}: the box is {off:.1f} pixels away from its rectangle")


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
    "agent": {"params": check_params, **AGENT_CHECKS},
    "optimizer": {"optimizer": check_optimizer},
    "schedule": {"schedule": check_schedule},
    "activation": {"activation": check_activation},
    "init": {"init": check_init},
    "augmentation": {
        "augment": check_augment,
        "augment_item": check_augment_item,
        "augment_boxes": check_augment_boxes,
    },
    "net": {"net": check_net},
}


# Checks of estimators that learn by `engine.minimise`.
_OF_GRADIENTS = frozenset({"resume", "overfit", "gradient"})


def checks_of(entry: Entry) -> list[tuple[str, Check]]:
    """The checks of an entry's kind, waived ones too: who runs them must see them fail.

    An estimator that does not learn by gradient is not asked what only such a fit can answer; one without `random_state`
    has no seed to repeat.

    Raises ConfigError where `waive` names no check.
    """
    checks = CHECKS.get(entry.kind, {})
    if entry.kind == "estimator":
        cls = entry.load()
        beside = frozenset[str]() if issubclass(cls, NeuralEstimator) else _OF_GRADIENTS
        beside |= frozenset() if "random_state" in params_of(cls) else {"repeat"}
        beside |= frozenset() if "run_dir" in params_of(cls) else {"report"}
        checks = {name: check for name, check in checks.items() if name not in beside}
    elif entry.kind == "agent" and "steps" not in params_of(entry.load()):  # a planner has nothing to go on with
        checks = {name: check for name, check in checks.items() if name != "resume"}
    for name in entry.waive:
        if name not in checks:
            raise ConfigError(f"{entry.name}: waive names no check {name!r}; there are {', '.join(checks)}")
    return list(checks.items())
