"""What a run folder tells a resumed fit, looked at before it is believed.

The manifest's sums say that a checkpoint is whole, not who wrote it: malice writes them anew. Nothing in it is executed,
but a kernel trusts the sizes of what it is given, so a state of another size must not reach one.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from konspekt.core.errors import DataError, KonspektError
from konspekt.core.runs import Run
from konspekt.data.batches import Resident
from konspekt.engine import checkpoint

if TYPE_CHECKING:
    from konspekt.engine.loop import Closure, Loop

__all__ = ["check_state", "foreign", "ready_made"]

_LARGEST = 2**53  # no count of steps or epochs is larger
_NUMBERS = ("epoch", "step", "seconds", "used", "waited", "norm")
_OPEN = ("risk", "best", "best_epoch")  # numbers, or None
_GO_ON = ("lr", "converged")  # of a group's options those that steps change


@contextlib.contextmanager
def foreign(loop: Loop) -> Iterator[None]:
    """Within: what a checkpoint holds is taken up; what it raises becomes a DataError."""
    try:
        yield
    except KonspektError:
        raise
    except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError, RuntimeError, AssertionError) as error:
        text = " ".join(str(error).split())[:160]
        raise DataError(f"{_where(loop)} does not fit this fit ({type(error).__name__}: {text})") from error


def _where(loop: Loop) -> str:
    return f"{loop.run.checkpoints}: the newest checkpoint of stage {loop.stage!r}"


def check_state(loop: Loop, state: Mapping[str, Any], finished: bool) -> None:
    """Raise DataError unless `state` is of the form that `state_of` gives, and of the sizes of this fit.

    What hooks of objectives, schedules and batches keep is theirs to look at.
    """
    try:
        _check(loop, state, finished)
    except (KeyError, TypeError, AttributeError, ValueError, RuntimeError) as error:
        if isinstance(error, DataError):
            raise DataError(f"{_where(loop)}: {error}") from None
        raise DataError(
            f"{_where(loop)}: not the state of a stage ({type(error).__name__}: {str(error)[:80]}); do not trust it"
        ) from None


def _check(loop: Loop, state: Mapping[str, Any], finished: bool) -> None:
    for name in (*_NUMBERS, *(n for n in _OPEN if state[n] is not None)):
        _require(_is_number(state[name]) or (name in ("norm", *_OPEN) and type(state[name]) is float), name)
    for name in ("epoch", "step", "waited", "best_epoch"):
        _require(state[name] is None or (type(state[name]) is int and 0 <= state[name] < _LARGEST), name)
    _require(min(state["seconds"], state["used"]) >= 0, "seconds")
    _require(type(state["within"]) is bool, "within")
    sums = state["sums"]
    _require(
        all((isinstance(v, Tensor) and v.dim() == 0) or type(v) in (int, float) for v in sums.values())
        and all(n.endswith("/terms") or f"{n}/terms" in sums for n in sums),
        "sums",
    )
    own = loop.weights()
    _alike(own, state["weights"], "weights")
    for name in ("best_weights", *(("final",) if finished else ())):
        if state[name] is not None:
            _alike(own, state[name], name)
    _require((state["average"] is None) == (loop.average is None), "average")
    if loop.average is not None:
        _alike(loop.average.state(), state["average"], "average")
    random = checkpoint.random_state(loop.device)
    for number, one in enumerate([state["random"], *state["randoms"]]):
        _alike({n: one.get(n, t) for n, t in random.items()}, one, f"random {number}")
        _alike({"cpu": random["cpu"]}, {"cpu": one["cpu"]}, f"random {number}")
    _require(set(state["optimizers"]) == set(loop.players), "optimizers")
    for name, player in loop.players.items():
        _check_optimizer(player, player.flat.scatter(state["optimizers"][name]), f"optimizers.{name}")
    place = state["batches"]
    if isinstance(loop.batches, Resident):  # what an agent's acting keeps, it looks at itself
        _require(all(type(v) is int and 0 <= v < _LARGEST for v in place.values()) if place else True, "batches")
    _require(state["objective"] is not None, "objective")


def _check_optimizer(player: Closure, given: Mapping[str, Any], where: str) -> None:
    """Sizes as the parameters', where kernels take them on trust; options as those of this fit, but what steps change."""
    own = player.optimizer.state_dict()
    groups = given["param_groups"]
    _require(isinstance(groups, list) and len(groups) == len(own["param_groups"]), f"{where}.param_groups")
    for number, (mine, group) in enumerate(zip(own["param_groups"], groups, strict=True)):
        _require(group["params"] == mine["params"], f"{where}.param_groups.{number}.params")
        for name in _GO_ON:
            if name in mine:
                _alike(mine[name], group[name], f"{where}.param_groups.{number}.{name}")
        group |= {k: v for k, v in mine.items() if k not in _GO_ON}
    parameters = [p for group in player.optimizer.param_groups for p in group["params"]]
    _require(set(given["state"]) <= set(range(len(parameters))), f"{where}.state")
    if player.replays:  # those of the second order keep what they like, and ask no kernel that takes it on trust
        return
    kinds = _kinds(player)
    for number, kept in given["state"].items():
        here = f"{where}.state.{number}"
        _require(set(kept) == set(kinds), here)
        for name, value in kept.items():
            like = kinds[name]
            if not isinstance(like, Tensor):
                _require(value is None or isinstance(value, Tensor) or _is_number(value), f"{here}.{name}")
            if isinstance(value, Tensor):
                scalar = isinstance(like, Tensor) and like.dim() == 0
                shape = torch.Size([]) if scalar else parameters[number].shape
                _require(value.shape == shape and value.is_floating_point(), f"{here}.{name}")
            elif isinstance(like, Tensor):
                _require(False, f"{here}.{name}")


def _kinds(player: Closure) -> dict[str, Any]:
    """What the optimiser keeps of a parameter, by name: from a step with one number."""
    one = torch.zeros(1, device=player.flat.weights.device, requires_grad=True)
    one.grad = torch.zeros_like(one)
    options = {k: v for k, v in player.optimizer.param_groups[0].items() if k != "params"}
    like = type(player.optimizer).__new__(type(player.optimizer))
    torch.optim.Optimizer.__init__(like, [{"params": [one]} | options], dict(player.optimizer.defaults))
    for name, value in vars(player.optimizer).items():
        vars(like).setdefault(name, value)
    like.step()
    return dict(like.state[one])


def _alike(own: Any, given: Any, where: str) -> None:
    """Raise DataError unless `given` has the names, shapes and types of `own`; where `own` is None anything may stand."""
    if isinstance(own, Tensor):
        _require(isinstance(given, Tensor) and (own.shape, own.dtype) == (given.shape, given.dtype), where)
    elif isinstance(own, Mapping):
        _require(isinstance(given, Mapping) and set(own) == set(given), where)
        for name, value in own.items():
            _alike(value, given[name], f"{where}.{name}")
    elif isinstance(own, bool):
        _require(type(given) is bool, where)
    elif isinstance(own, (int, float)):
        _require(_is_number(given), where)


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < 1e300


def _require(holds: bool, where: str) -> None:
    if not holds:
        raise DataError(f"{where[:120]} is not of this fit; the checkpoint is another's, or damaged: do not trust it")


def ready_made(run: Run, name: str, over: float | None = None) -> Any:
    """What an earlier part of the run found by measuring: a number, more than `over`; None where it found nothing.

    Raises DataError where something else stands there.
    """
    value = run.chosen.get(name)
    if value is None:
        return None
    if not _is_number(value) or not math.isfinite(value) or (over is not None and value <= over):
        file = Path(run.path or "") / "chosen.json"
        raise DataError(f"{file}: {name[:80]!r} must be a number, got {repr(value)[:80]}; the file is damaged")
    return value
