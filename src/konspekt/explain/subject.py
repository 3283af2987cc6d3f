"""What is looked into: a net, the net inside a fitted estimator, or a registered net by its name."""

from __future__ import annotations

from dataclasses import MISSING, dataclass
from numbers import Integral
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from konspekt.core.errors import ConfigError, DataError, nearest
from konspekt.core.params import build, params_of, split_call
from konspekt.core.registry import lookup
from konspekt.data.images import ImageSchema
from konspekt.explain.capture import answer

__all__ = ["InputSize", "Subject", "learned_subject", "subject_of", "tensor_of"]

InputSize = int | tuple[int, ...] | None


@dataclass(frozen=True)
class Subject:
    """A net, and what stands around it.

    name: what to call it. net: without the layer that standardises pixels. model: with it, as it takes raw pixels.
    shape: (channels, height, width) of its images. estimator: whose net it is, None where it is a bare one.
    """

    name: str
    net: nn.Module
    model: nn.Module
    shape: tuple[int, int, int]
    estimator: Any = None

    def pixels(self, image: Any) -> Tensor:
        """One image as the model takes it: (1, C, H, W), float, on the model's device.

        An estimator's image is whatever it predicts for, a path or an array; a bare net's is an array or tensor (C, H, W).
        Raises DataError where it is not one image, or not of the size.
        """
        if self.estimator is not None:
            listed = image if isinstance(image, (list, np.ndarray, Tensor)) and len(image) == 1 else [image]
            x = self.estimator.encode(listed).fields["x"]
        else:
            x = tensor_of(image)
            x = x[None] if x.ndim == 3 else x
        if tuple(x.shape) != (1, *self.shape):
            raise DataError(
                f"{self.name} takes one image of {' x '.join(map(str, self.shape))} (channels x height x width), got "
                f"{' x '.join(map(str, x.shape))}"
            )
        return self.placed(x)

    def placed(self, x: Tensor) -> Tensor:
        """Pixels (B, C, H, W) in the model's type and on its device.

        Raises DataError where one of them is no finite number.
        """
        one = next((p for p in self.model.parameters() if p.is_floating_point()), torch.zeros(()))
        with torch.inference_mode(False):  # a tensor that was made in it takes no gradient
            x = x.clone().to(one.device, one.dtype)
        if not bool(x.isfinite().all()):
            raise DataError(
                f"{self.name}: the pixels hold a number that is not finite, so that nothing can be said of them"
            )
        return x

    def scores(self, x: Tensor) -> Tensor:
        """The net's outputs for pixels (B, C, H, W): (B, K), logits or predictions."""
        if self.estimator is None:
            out = answer(self.model, x)
        else:
            named = self.estimator.objective_.forward({"x": x, "index": torch.arange(len(x))})
            out = named["logits"] if "logits" in named else named["prediction"]
        out = out[0] if isinstance(out, tuple) else out
        if not isinstance(out, Tensor) or out.ndim != 2:
            raise ConfigError(f"{self.name} gives no vector of scores for an image, but {type(out).__name__}")
        return out

    def target(self, scores: Tensor, target: Any) -> tuple[int, str]:
        """The output that is asked for, and what to call it. None: the largest.

        target: a class of the estimator; for a bare net or numbers, the output's index.
        """
        classes = getattr(self.estimator, "classes_", None)
        known = list(range(scores.shape[1])) if classes is None else list(classes)
        if np.ndim(target) > 0:
            raise ConfigError(
                f"{self.name}: target must be one {'output' if classes is None else 'class'}, got {target!r}"
            )
        if target is None:
            at = int(scores.argmax())
        elif target in known:
            at = known.index(target)
        else:
            hint = nearest(str(target), map(str, known))
            raise ConfigError(f"{self.name}: there is no {'output' if classes is None else 'class'} {target!r}; {hint}")
        return at, f"output {at}" if classes is None else str(known[at])


def subject_of(given: Any, input_size: InputSize = None) -> Subject:
    """What to look into.

    given: a net; a fitted estimator of images; or the name of a registered net, with arguments if need be. A net that is
    named is made without memory for its weights, and only its shapes can be asked for.
    input_size: side, (height, width) or (channels, height, width). An estimator knows its own; a named net has a default.

    Raises ConfigError, and NotFittedError where the estimator is not fitted.
    """
    size = (input_size, input_size) if isinstance(input_size, Integral) else input_size
    if size is not None:
        if not isinstance(size, tuple) or len(size) not in (2, 3) or not all(map(_is_count, size)):
            raise ConfigError(
                f"input_size must be a side in pixels, (height, width) or (channels, height, width), got {input_size!r}"
            )
        size = tuple(map(int, size))  # also of NumPy's
    if isinstance(given, str):
        return _named(given, size)
    if isinstance(given, nn.Module):
        if size is None:
            raise ConfigError(
                f"{type(given).__name__}: give input_size=(channels, height, width) of its images; a net does not know it"
            )
        return Subject(type(given).__name__, given, given, _with_channels(given, size))
    if hasattr(given, "get_params") and hasattr(given, "reader"):
        return _of_estimator(given, size)
    raise ConfigError(
        f"a net, a fitted estimator of images or the name of a registered net is needed, got {type(given).__name__}"
    )


def learned_subject(given: Any, images: Any) -> Subject:
    """What to look into with images at hand: its weights count, and of a bare net the images say the size.

    given: a net or a fitted estimator of images. images: one or several; of a bare net an array or tensor (..., C, H, W).

    Raises ConfigError where only a name is given, DataError where the images of a bare net are not of that form.
    """
    if isinstance(given, str):
        raise ConfigError(f"a net with its weights is needed, got the name {given!r}: build it, or fit an estimator")
    if not isinstance(given, nn.Module):
        return subject_of(given)
    shape = tensor_of(images).shape
    if len(shape) not in (3, 4) or 0 in shape:
        size = " x ".join(map(str, shape)) or "a number"
        raise DataError(f"{type(given).__name__} takes images of channels x height x width, got {size}")
    return subject_of(given, tuple(shape[-3:]))


def tensor_of(images: Any) -> Tensor:
    """Images for a bare net as a tensor."""
    try:
        return torch.as_tensor(images)
    except (TypeError, ValueError, RuntimeError):
        raise DataError(
            f"a bare net takes images as an array or tensor (channels, height, width), got {type(images).__name__}; "
            "a fitted estimator takes files and Pillow images too"
        ) from None


def _is_count(number: Any) -> bool:
    return isinstance(number, Integral) and not isinstance(number, bool) and number > 0


@torch.inference_mode(False)
def _named(text: str, size: tuple[int, ...] | None) -> Subject:
    builder = lookup("net", split_call(text, "net")[0]).load()
    default = {name: p.default for name, p in params_of(builder).items()}
    missing = [n for n in ("in_channels", "num_classes", "image_size") if default.get(n, MISSING) is MISSING]
    if missing:
        raise ConfigError(f"net {text!r} has no default for {', '.join(missing)}: build it, and give the net itself")
    channels = size[0] if size and len(size) == 3 else default["in_channels"]
    image = tuple(size[-2:]) if size else default["image_size"]
    inputs = (channels, default["num_classes"], image)
    try:
        with torch.device("meta"):
            net = build("net", text, *inputs)
    except (RuntimeError, NotImplementedError):  # a net that looks at numbers while it is built
        with torch.random.fork_rng(devices=[]):
            net = build("net", text, *inputs)
    return Subject(text, net, net, (channels, *image))


def _with_channels(net: nn.Module, size: tuple[int, ...]) -> tuple[int, int, int]:
    if len(size) == 3:
        return size[0], size[1], size[2]
    first = next((m for m in net.modules() if isinstance(m, nn.Conv2d)), None)
    if first is None:
        raise ConfigError(
            f"{type(net).__name__}: the number of channels cannot be seen without a convolution: give input_size="
            f"(channels, {size[0]}, {size[1]})"
        )
    return first.in_channels, size[0], size[1]


def _of_estimator(estimator: Any, size: tuple[int, ...] | None) -> Subject:
    model = estimator.model_  # NotFittedError before fit
    name = type(estimator).__name__
    schema = estimator.schema_
    if not isinstance(schema, ImageSchema):
        raise ConfigError(f"{name} does not learn from images, which is what can be looked into here")
    if size is not None and tuple(size[-2:]) != schema.shape[1:]:
        raise ConfigError(
            f"{name} was fitted on images of {schema.height} x {schema.width} pixels, not of {size[-2]} x {size[-1]}: "
            "leave input_size out"
        )
    net = getattr(model, "net", model)
    return Subject(name, net, model, schema.shape, estimator)
