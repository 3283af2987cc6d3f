"""One image's way through a net: each layer's output, cost, size formula and receptive field.

The net is run once, on images without content (torch's meta device, so at once and without memory), and each operation
that reaches ATen is followed. So a net needs not be written in any particular way: functions, operators and branches on
shapes are seen as they happen. Course: row A17.
"""

from __future__ import annotations

import copy
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry
from torch.utils.weak import WeakTensorKeyDictionary

from konspekt.core.errors import ConfigError
from konspekt.core.memory import check_room
from konspekt.explain.calls import Call, Seen, per_dim, same, tensors
from konspekt.explain.fields import Axis, Field
from konspekt.explain.propagation import propagate
from konspekt.explain.subject import Subject
from konspekt.explain.windows import formula

__all__ = ["Step", "Trace", "trace"]

_PLAIN = {"iadd": "add", "radd": "add", "imul": "mul", "rmul": "mul", "getitem": "slice"}  # names of operators
_SHAPES = (
    "flatten",
    "view",
    "reshape",
    "permute",
    "transpose",
    "squeeze",
    "unsqueeze",
)  # which nobody counts as layers
_AXES = 10  # of a net's axes are held at a time, each with a byte for a pair of rows; measured, of the nets here


@dataclass
class Step:
    """One layer, as it was called: a module without inner modules, or a function that a module calls.

    name: the module's path; a function's has the path of its caller in front. A second call ends in ":2".
    kind: the class or function, with the window: "Conv2d 7x7/2". shape: of its (first) output, without the batch.
    multiply_adds: of convolutions and matrix products, for one image. memory: bytes that it keeps for the backward pass.
    seen: its field; None where what it gives does not come from the image, or is no single tensor.
    """

    name: str
    kind: str
    shape: tuple[int, ...] = ()
    parameters: int = 0
    multiply_adds: int = 0
    memory: int = 0
    seen: Seen | None = None
    formula: str = ""
    window: str = ""
    worth: bool = True  # whether it is shown: modules are, functions where they cost something or change shape or field


@dataclass
class Trace:
    """What was seen: the steps in their order, and the fields of all modules' outputs by name, inner ones included.

    lost: the refusal of the first operation that no rule of receptive fields follows; from there on there are no fields.
    """

    steps: list[Step] = field(default_factory=list)
    fields: dict[str, Field] = field(default_factory=dict)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    lost: ConfigError | None = None


@torch.inference_mode(False)  # what is made in it cannot be kept for a backward pass
def trace(subject: Subject) -> Trace:
    """Follow one image through a net in evaluation.

    Raises ConfigError where the net cannot be run on such an image, ResourceError where the fields of one of this size
    need more memory than there is.
    """
    net = subject.net
    if any(nn.parameter.is_lazy(p) for p in net.parameters()):
        raise ConfigError(
            f"{subject.name} has layers that get their shape from their first batch: run one through it first"
        )
    sides = " x ".join(map(str, subject.shape[1:]))
    check_room(
        _AXES * sum(n * n for n in subject.shape[1:]), f"{subject.name}: following receptive fields over {sides} pixels"
    )
    dtype = next((p.dtype for p in net.parameters() if p.is_floating_point()), torch.float32)
    try:
        return _run(net, subject.shape, dtype, torch.device("meta"))
    except ConfigError:
        raise
    except Exception:  # noqa: BLE001 - a net that looks at numbers, or at a device, is run in earnest
        if any(p.is_meta for p in net.parameters()):
            net = copy.deepcopy(net).to_empty(device="cpu")
    try:
        device = next((p.device for p in net.parameters()), torch.device("cpu"))
        return _run(net, subject.shape, dtype, device)
    except ConfigError:
        raise
    except Exception as error:
        text = " ".join(str(error).split())[:300]
        raise ConfigError(
            f"{subject.name} cannot be run on an image of {' x '.join(map(str, subject.shape))} (channels x height x "
            f"width): {type(error).__name__}: {text}"
        ) from error


def _run(net: nn.Module, shape: tuple[int, int, int], dtype: torch.dtype, device: torch.device) -> Trace:
    x = torch.zeros(1, *shape, dtype=dtype, device=device)
    modes = [(m, m.training) for m in net.modules()]
    own: dict[str, Tensor] = {}
    if device.type == "meta":
        for name, p in net.named_parameters():
            own[name] = p.detach().to("meta").requires_grad_(p.requires_grad)
        own |= {name: b.to("meta") for name, b in net.named_buffers()}
    watch = _Watch(net, x, list(own.values()) or [*net.parameters(), *net.buffers()])
    handles = watch.attach()
    try:
        net.eval()
        with (
            torch.random.fork_rng(devices=[]),
            torch.enable_grad(),
            torch.autograd.graph.saved_tensors_hooks(watch.keep, lambda t: t),
            _Functions(watch),
            _Operations(watch),
        ):
            out = torch.func.functional_call(net, own, x) if own else net(x)
        del out
    finally:
        for handle in handles:
            handle.remove()
        for module, mode in modes:
            module.training = mode
    return watch.found


class _Watch:
    """What the hooks and modes write into."""

    def __init__(self, net: nn.Module, x: Tensor, constant: list[Tensor]) -> None:
        self.found = Trace()
        self.seen: Any = WeakTensorKeyDictionary()
        height, width = x.shape[-2:]
        self.seen[x] = (Axis.of_image(2, height), Axis.of_image(3, width))
        self.paths = {module: name for name, module in net.named_modules()}
        self.stack: list[str] = [""]
        self.open: Step | None = None  # the step that operations now belong to
        self.calls: Counter[str] = Counter()
        self.counted: set[nn.Parameter] = set()
        self.stored = {t.untyped_storage()._cdata for t in constant}
        self.blind = False  # while an operation is followed as a whole, not in its parts
        self.held: list[Any] = []  # what the backward pass keeps, so that no storage's number is used twice

    def attach(self) -> list[Any]:
        """Hooks at all modules."""
        handles = []
        for module in self.paths:
            handles.append(module.register_forward_pre_hook(self._enter, prepend=True))
            handles.append(module.register_forward_hook(self._leave))
        return handles

    def named(self, name: str) -> str:
        """The name of one more call."""
        self.calls[name] += 1
        return name if self.calls[name] == 1 else f"{name}:{self.calls[name]}"

    def _enter(self, module: nn.Module, inputs: Any) -> None:
        path = self.paths[module]
        self.stack.append(path)
        if self.open is None and next(module.children(), None) is None:
            own = [p for p in module.parameters() if p not in self.counted]
            self.counted.update(own)
            self.open = Step(self.named(path), type(module).__name__, parameters=sum(p.numel() for p in own))
            self.open.worth = not isinstance(module, nn.Identity)

    def _leave(self, module: nn.Module, inputs: Any, out: Any) -> None:
        path = self.stack.pop()
        if self.open is not None and self.open.name.partition(":")[0] == path:
            step, self.open = self.open, None
            self.close(step, out)
        elif path:
            self._note(self.named(path), out)

    def close(self, step: Step, out: Any) -> None:
        """The step is done, and this is what it gave."""
        step.kind = f"{step.kind} {step.window}".strip()
        first = next(tensors([out]), None)  # a recurrent layer gives its states too
        if first is not None:
            step.shape = tuple(first.shape[1:])
        if isinstance(out, Tensor):
            step.seen = self.seen.get(out)
            self._note(step.name, out)
        self.found.steps.append(step)

    def _note(self, name: str, out: Any) -> None:
        if isinstance(out, Tensor):
            self.found.shapes[name] = tuple(out.shape[1:])
            seen = self.seen.get(out)
            if seen is not None:
                self.found.fields[name] = Field.of(*seen)

    def keep(self, kept: Tensor) -> Tensor:
        """Count what the backward pass will need, each memory once."""
        storage = kept.untyped_storage()
        if storage._cdata not in self.stored:
            self.stored.add(storage._cdata)
            self.held.append(storage)
            step = self.open or (self.found.steps[-1] if self.found.steps else None)
            if step is not None:
                step.memory += storage.nbytes()
        return kept

    def note_call(self, func: Any, args: Any, kwargs: Any, out: Any) -> None:
        """One operation of ATen was done."""
        if self.blind:
            return
        name = func._overloadpacket.__name__
        changes = func._schema.is_mutable
        arguments = func._schema.arguments
        given = {
            a.name: args[i] if i < len(args) else kwargs.get(a.name, a.default_value) for i, a in enumerate(arguments)
        }
        followed = any(self.seen.get(t) is not None for t in tensors(given.values()))
        if next(tensors([out]), None) is None or not (followed or self.found.lost):
            return  # a number that the net looks at, or what does not come from the image
        pointwise = torch.Tag.pointwise in func.tags and name not in ("copy_", "copy")
        name = name.rstrip("_") if changes and pointwise else name
        self.note(Call(name, pointwise, given, out, self.seen.get), args[0] if changes else None)
        step = self.open
        if step is not None and func._overloadpacket in flop_registry:
            step.multiply_adds += flop_registry[func._overloadpacket](*args, **kwargs, out_val=out) // 2

    def note(self, call: Call, changed: Tensor | None = None) -> None:
        """An operation on what comes from the image. changed: the tensor that it wrote into."""
        if self.found.lost is None:
            try:
                self._follow(call, changed)
            except ConfigError as error:
                self.found.lost = error
                self.seen.clear()  # or what meets a tensor without a field later on would get a part of its own
        if self.open is not None:
            text = formula(call)
            if text:  # a convolution with mirrored padding has one for each
                self.open.formula += f"; {text}" if self.open.formula else text
            if not self.open.window:
                self.open.window = _shown(call)

    def _follow(self, call: Call, changed: Tensor | None) -> None:
        fields = propagate(call)
        if changed is not None:
            before = self.seen.get(changed)
            mate = changed.untyped_storage()._cdata
            if before is None or not same(before, fields[0]):
                for other in list(self.seen):
                    if other is not changed and other.untyped_storage()._cdata == mate:
                        raise ConfigError(
                            f"receptive fields cannot be followed through the operation {call.name!r}, which writes into "
                            "a part of a tensor; effective_field(...) shows by gradient what a unit sees"
                        )
        for i, out in enumerate(tensors([call.out])):
            if call.name != "native_batch_norm" or i == 0:  # its other outputs are statistics, empty in evaluation
                self.seen[out] = fields[min(i, len(fields) - 1)]


def _shown(call: Call) -> str:
    """The window of a call, as "7x7/2": its sides, and its stride if that is not 1; dilation as "d2"."""
    weight = call.given.get("weight")
    if call.name == "convolution" and weight is not None:
        kernel = list(weight.shape[2:])
    elif call.name in ("max_pool2d_with_indices", "avg_pool2d"):
        kernel = per_dim(call.given["kernel_size"], 2)
    else:
        return ""
    stride, dilation = list(call.given["stride"] or kernel), list(call.given.get("dilation", [1]))
    text = "x".join(map(str, kernel))
    text += f"/{'x'.join(map(str, dict.fromkeys(stride)))}" if set(stride) != {1} else ""
    return text + (f" d{'x'.join(map(str, dict.fromkeys(dilation)))}" if set(dilation) != {1} else "")


class _Operations(TorchDispatchMode):
    """Sees every operation of ATen."""

    def __init__(self, watch: _Watch) -> None:
        super().__init__()
        self.watch = watch

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        self.watch.note_call(func, args, kwargs, out)
        return out


class _Functions(TorchFunctionMode):
    """Sees the functions that modules call, so that these are steps too."""

    def __init__(self, watch: _Watch) -> None:
        super().__init__()
        self.watch = watch

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        watch = self.watch
        around = watch.open
        name = str(getattr(func, "__name__", "")).strip("_")
        if around is None and name != "get":  # x.shape and the like are "__get__"
            path = watch.stack[-1]
            name = _PLAIN.get(name, name)
            watch.open = Step(f"{path}.{name}" if path else name, name, worth=False)
        inputs = [watch.seen.get(t) for t in tensors([*args, *kwargs.values()])]
        circular = func is F.pad and (args[2] if len(args) > 2 else kwargs.get("mode")) == "circular"
        watch.blind = watch.blind or circular  # which torch does by writing into parts of a tensor
        try:
            out = func(*args, **kwargs)
            if circular and inputs[0] is not None:
                given = {"input": args[0], "padding": list(args[1] if len(args) > 1 else kwargs["pad"])}
                watch.note(Call("circular_pad2d", False, given, out, watch.seen.get))
        finally:
            watch.blind = watch.blind and not circular
            step, watch.open = watch.open, around
        if around is None and step is not None:
            _finish(watch, step, inputs, out)
        return out


def _finish(watch: _Watch, step: Step, inputs: list[Seen | None], out: Any) -> None:
    """Keep a function's call, if it is worth it; what it keeps in memory goes to the step before if not."""
    known = [s for s in inputs if s is not None]
    after = watch.seen.get(out) if isinstance(out, Tensor) else None
    lost = watch.found.lost is not None and next(tensors([out]), None) is not None
    if after is None and not lost:
        return
    if step.kind not in _SHAPES and (
        step.multiply_adds > 0 or step.formula or (known and after and (len(known) > 1 or not same(known[0], after)))
    ):
        step.worth = True
        step.name = watch.named(step.name)
        watch.close(step, out)
    elif watch.found.steps:
        watch.found.steps[-1].memory += step.memory
    else:
        watch.close(step, out)
