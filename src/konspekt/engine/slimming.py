"""Whole channels leave a net: its tensors get smaller, with those of the layers that read them.

Li, Kadav, Durdanovic, Samet and Graf 2017, "Pruning filters for efficient convnets", https://arxiv.org/abs/1608.08710.
Course: row A16.

Which layers read a convolution's channels is found in the graph of the net's forward pass (torch.fx). Channels can go where
all that lies between the convolution and its readers treats each channel by itself: normalisation, activation, pooling,
dropout, flattening. They cannot where maps are added or concatenated, or where groups of channels are kept apart. So of a
chain (LeNet, AlexNet, VGG, NiN) all convolutions but the last can be slimmed, of a residual block those inside.

A slimmed net is described by how many channels each convolution has kept; with that, the net as it was built and the weights
it can be made again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from konspekt.core.errors import ConfigError, DataError

__all__ = ["Slot", "check_plan", "slim", "slim_as", "slots"]

_BY_CHANNEL = (
    nn.ReLU,
    nn.ReLU6,
    nn.LeakyReLU,
    nn.ELU,
    nn.SELU,
    nn.GELU,
    nn.SiLU,
    nn.Mish,
    nn.Softplus,
    nn.Softsign,
    nn.Tanh,
    nn.Sigmoid,
    nn.Hardtanh,
    nn.Hardswish,
    nn.Hardsigmoid,
    nn.MaxPool2d,
    nn.AvgPool2d,
    nn.LPPool2d,
    nn.AdaptiveAvgPool2d,
    nn.AdaptiveMaxPool2d,
    nn.Dropout,
    nn.Dropout2d,
    nn.LocalResponseNorm,  # its window then holds other neighbours, but it works with any number of channels
    nn.Identity,
)
_FUNCTIONS_BY_CHANNEL = frozenset({
    "relu", "relu6", "relu_", "leaky_relu", "elu", "selu", "gelu", "silu",
    "mish", "softplus", "softsign", "tanh", "sigmoid", "hardtanh", "hardswish", "hardsigmoid",
    "max_pool2d", "avg_pool2d", "lp_pool2d", "adaptive_avg_pool2d",
    "adaptive_max_pool2d", "dropout", "dropout2d", "local_response_norm",
})  # fmt: skip
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)


@dataclass(frozen=True)
class Slot:
    """A convolution whose output channels can go.

    norms: the normalisations behind it. readers: the layers that take its channels, convolutions or full layers.
    """

    name: str
    channels: int
    norms: tuple[str, ...]
    readers: tuple[str, ...]


@dataclass
class _Path:
    norms: list[str] = field(default_factory=list)
    readers: list[str] = field(default_factory=list)


def slots(net: nn.Module) -> dict[str, Slot]:
    """The convolutions of a net whose channels can go, by name, in the order of the forward pass.

    Empty where there are none, or where the forward pass looks at numbers and so has no fixed graph.
    """
    from torch import fx

    modes = {m: m.training for m in net.modules()}
    for m in modes:
        m.training = True  # auxiliary heads are there in training only, and read channels too
    try:
        graph = fx.Tracer().trace(net)
    except (fx.proxy.TraceError, TypeError, RuntimeError, ValueError, AttributeError, NotImplementedError):
        return {}
    finally:
        for m, mode in modes.items():
            m.training = mode
    modules = dict(net.named_modules())
    calls = Counter(node.target for node in graph.nodes if node.op == "call_module")
    found = {}
    for node in graph.nodes:
        conv = modules.get(str(node.target)) if node.op == "call_module" else None
        if not isinstance(conv, nn.Conv2d) or conv.groups != 1 or conv.out_channels < 2:
            continue
        path = _Path()
        touched = [str(node.target)]
        if _follow(node, modules, path, flat=False):
            touched += path.norms + path.readers
            if all(calls[name] == 1 for name in touched) and len(set(touched)) == len(touched):
                slot = Slot(str(node.target), conv.out_channels, tuple(path.norms), tuple(path.readers))
                found[slot.name] = slot
    return found


def _follow(node: Any, modules: Mapping[str, nn.Module], path: _Path, *, flat: bool) -> bool:
    """Note who reads what a node gives; whether all of them can do with fewer channels."""
    if not node.users:
        return False
    for user in node.users:
        after = flat
        if user.op == "call_module":
            module = modules[str(user.target)]
            if isinstance(module, nn.Conv2d) and module.groups == 1 and not flat:
                path.readers.append(str(user.target))
                continue
            if isinstance(module, nn.Linear) and flat:
                path.readers.append(str(user.target))
                continue
            if isinstance(module, _NORMS):
                path.norms.append(str(user.target))
            elif isinstance(module, nn.Flatten) and (module.start_dim, module.end_dim) == (1, -1):
                after = True
            elif not isinstance(module, _BY_CHANNEL):
                return False
        elif user.op in ("call_function", "call_method"):
            called = user.target if isinstance(user.target, str) else getattr(user.target, "__name__", "")
            if called == "flatten":
                begin = user.args[1] if len(user.args) > 1 else user.kwargs.get("start_dim", 0)
                end = user.args[2] if len(user.args) > 2 else user.kwargs.get("end_dim", -1)
                if (begin, end) != (1, -1):
                    return False
                after = True
            elif called not in _FUNCTIONS_BY_CHANNEL:
                return False
        else:
            return False
        if not _follow(user, modules, path, flat=after):
            return False
    return True


def slim(net: nn.Module, kept: Mapping[str, Tensor]) -> None:
    """Leave some channels of some convolutions, and take the others out of the net, in place.

    kept: for each convolution the numbers of the channels that stay, (k,) int64.

    Raises ConfigError where channels of such a convolution cannot go.
    """
    known = slots(net)
    for name, index in kept.items():
        if name not in known:
            raise ConfigError(f"the channels of {name!r} cannot go; those of {', '.join(known) or 'no layer'} can")
        slot = known[name]
        conv: Any = net.get_submodule(name)
        before, after = conv.out_channels, len(index)
        _take(conv, ("weight", "bias"), 0, index)
        conv.out_channels = after
        for norm_name in slot.norms:
            norm: Any = net.get_submodule(norm_name)
            wide = _widened(index, norm.num_features // before)
            _take(norm, ("weight", "bias", "running_mean", "running_var"), 0, wide)
            norm.num_features = len(wide)
        for reader_name in slot.readers:
            reader: Any = net.get_submodule(reader_name)
            if isinstance(reader, nn.Linear):  # each channel comes as so many numbers in a row
                wide = _widened(index, reader.in_features // before)
                _take(reader, ("weight",), 1, wide)
                reader.in_features = len(wide)
            else:
                _take(reader, ("weight",), 1, index)
                reader.in_channels = after


def _widened(index: Tensor, factor: int) -> Tensor:
    return (index[:, None] * factor + torch.arange(factor, device=index.device)).reshape(-1)


def _take(module: nn.Module, names: tuple[str, ...], dim: int, index: Tensor) -> None:
    """Replace tensors of a module by parts of them."""
    for name in names:
        parameter = module._parameters.get(name)
        if parameter is not None:
            part = parameter.detach().index_select(dim, index.to(parameter.device))
            module._parameters[name] = nn.Parameter(part, requires_grad=parameter.requires_grad)
        buffer = module._buffers.get(name)
        if buffer is not None:
            module._buffers[name] = buffer.index_select(dim, index.to(buffer.device))


def check_plan(plan: Any) -> dict[str, int]:
    """How many channels each convolution has kept, as a file says it.

    Raises DataError where it is no such mapping.
    """
    if (
        not isinstance(plan, dict)
        or not plan
        or any(not isinstance(k, str) or type(v) is not int or v < 1 for k, v in plan.items())
    ):
        raise DataError("'slimmed' in config.json says no numbers of channels by layer; the file is damaged")
    return dict(plan)


def slim_as(net: nn.Module, plan: Mapping[str, int]) -> None:
    """Bring a net that was just built to the shapes of one that has been slimmed; its weights come after.

    plan: how many channels each slimmed convolution has kept.

    Raises DataError where the net has no such convolution, or fewer channels.
    """
    known = slots(net)
    for name, count in plan.items():
        if name not in known:
            raise DataError(
                f"the model says that channels of {name!r} were taken out, which this net cannot do without"
            )
        if not 1 <= count <= known[name].channels:
            raise DataError(f"the model says that {name!r} has kept {count} of {known[name].channels} channels")
    slim(net, {name: torch.arange(count) for name, count in plan.items()})
