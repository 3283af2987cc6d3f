"""An objective made anew and given saved weights, which are looked at before they are believed."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from torch import Tensor

from konspekt.core.errors import ConfigError, DataError
from konspekt.engine.objective import Objective
from konspekt.engine.session import choose_device

__all__ = ["device_here", "restored"]


def restored(make: Callable[[], Objective], tensors: dict[str, Tensor]) -> Objective:
    """What `make` makes, with these weights. The caller's generators are untouched.

    Raises DataError where names, shapes or types differ, or a weight is not finite.
    """
    try:
        with torch.device("meta"):  # a damaged file may describe a net that fills the memory; here it takes none
            own = make().state_dict()
    except (RuntimeError, NotImplementedError):  # a net that looks at numbers while it is built
        with torch.random.fork_rng(devices=[]):
            own = make().state_dict()
    wrong = sorted(set(own) ^ set(tensors)) or [
        f"{n} {tuple(tensors[n].shape)} {tensors[n].dtype} for {tuple(own[n].shape)} {own[n].dtype}"
        for n in own
        if not torch.nn.parameter.is_lazy(own[n])
        and (own[n].shape, own[n].dtype) != (tensors[n].shape, tensors[n].dtype)
    ]
    if wrong:
        raise DataError(f"the weights do not fit the model that config.json describes: {', '.join(wrong[:8])}")
    broken = [n for n, t in tensors.items() if t.is_floating_point() and not bool(torch.isfinite(t).all())]
    if broken:
        raise DataError(f"weights that are NaN or infinite: {', '.join(broken[:8])}")
    with torch.random.fork_rng(devices=[]):
        objective = make()
    objective.load_state_dict(tensors)
    return objective


def device_here(name: str) -> tuple[str, torch.device]:
    """The device of a saved model, or, where this machine has no such, "auto" and a warning."""
    try:
        return name, choose_device(name)
    except ConfigError as error:
        warnings.warn(f"{error}; the model is loaded with device='auto'", stacklevel=5)
        return "auto", choose_device("auto")
