"""Running a net for what happens inside of it, and leaving it as it was."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from konspekt.core.errors import ConfigError, DataError, KonspektError, nearest

__all__ = ["answer", "captured", "last_output", "layer_called", "no_layer", "undisturbed"]


def no_layer(net: nn.Module, name: Any, known: Iterable[str]) -> ConfigError:
    """What to raise where a net has no such layer: it names the nearest."""
    hint = nearest(str(name), known).replace("see `konspekt list`", "str(explain.summary(...)) lists them")
    return ConfigError(f"{type(net).__name__} has no layer {name!r}; {hint}")


def layer_called(net: nn.Module, name: str) -> nn.Module:
    """The module of this name.

    Raises ConfigError with the nearest name.
    """
    modules = {n: m for n, m in net.named_modules() if n}
    if name not in modules:
        raise no_layer(net, name, modules)
    return modules[name]  # type: ignore[no-any-return]


@contextlib.contextmanager
def undisturbed(*nets: nn.Module) -> Iterator[None]:
    """Nets in evaluation, with constant parameters; afterwards each module's mode and each parameter is as it was.

    Within, gradients can be taken, also where the caller has switched them off.
    """
    modules = list(dict.fromkeys(m for net in nets for m in net.modules()))
    modes = [m.training for m in modules]
    parameters = list(dict.fromkeys(p for net in nets for p in net.parameters()))
    wanted = [p.requires_grad for p in parameters]
    try:
        for net in nets:
            net.eval()
        for p in parameters:
            p.requires_grad_(False)
        with torch.inference_mode(False), torch.enable_grad():
            yield
    finally:
        for m, mode in zip(modules, modes, strict=True):
            m.training = mode
        for p, want in zip(parameters, wanted, strict=True):
            p.requires_grad_(want)


def answer(model: Callable[[Tensor], Any], x: Tensor) -> Any:
    """What a model makes of images (B, C, H, W).

    Raises DataError where it cannot be run on them.
    """
    try:
        return model(x)
    except KonspektError:
        raise
    except Exception as error:
        text = " ".join(str(error).split())[:300]
        size = " x ".join(map(str, x.shape[1:]))
        raise DataError(
            f"{type(model).__name__} cannot be run on images of {size} (channels x height x width): "
            f"{type(error).__name__}: {text}"
        ) from error


def last_output(net: nn.Module, x: Tensor, layer: str, *, model: nn.Module | None = None) -> Tensor:
    """What a layer's last call gives for x. model: what is run, where the net is only a part of it."""
    with captured(net, [layer]) as outs:
        answer(model or net, x)
    if layer not in outs:
        raise ConfigError(f"layer {layer!r} is not called in evaluation, or gives no tensor")
    return outs[layer]


@contextlib.contextmanager
def captured(net: nn.Module, layers: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """The outputs of modules by name, as the net is run within; of a module that is called again, the last.

    What the net goes on with is made from these outputs, so that it can be differentiated by them.
    """
    outs: dict[str, Tensor] = {}

    def keep(name: str) -> Any:
        def hook(module: nn.Module, inputs: Any, out: Any) -> Tensor | None:
            if not isinstance(out, Tensor):
                return None
            outs.pop(name, None)  # so that the order is that of the last calls
            outs[name] = out
            return out.clone()  # what comes after may change it in place

        return hook

    handles = [layer_called(net, name).register_forward_hook(keep(name)) for name in layers]
    try:
        yield outs
    finally:
        for handle in handles:
            handle.remove()
