"""Hidden layers of a trained net as features for other estimators.

Donahue et al. 2014, "DeCAF: a deep convolutional activation feature for generic visual recognition",
https://arxiv.org/abs/1310.1531. Course: row N2.

Shape letters in this file: N items, B batch, C channels, D features.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import TransformerMixin
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from konspekt.core import registry
from konspekt.core.errors import ConfigError, DataError, nearest
from konspekt.core.estimator import Estimator, load, plain, registered
from konspekt.core.params import Search, parse_params
from konspekt.core.registry import system
from konspekt.data.readers import Encoded
from konspekt.engine.transfer import head_modules
from konspekt.vision.estimator import ImageEstimator

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["FeatureExtractor"]

_POOLINGS: dict[str, Callable[[Tensor], Tensor]] = {  # (B, C, ...) -> (B, D)
    "average": lambda maps: maps.flatten(2).mean(2),
    "max": lambda maps: maps.flatten(2).amax(2),
    "flat": lambda maps: maps.flatten(1),
}


@contextlib.contextmanager
def _predicting(net: nn.Module) -> Iterator[None]:
    """Within: in evaluation; afterwards each module is in the mode that it was found in."""
    modes = [(module, module.training) for module in net.modules()]
    net.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


@system(
    name="feature-extractor",
    kind="estimator",
    task="image-embedding",
    rows=("N2",),
    paper="Donahue et al. 2014",
)
@dataclass(kw_only=True, eq=False, repr=False)
class FeatureExtractor(TransformerMixin, Estimator):
    """Take what a layer of a trained net makes of images as their features.

    A transformer for scikit-learn's pipelines, to be used from Python, as
    `make_pipeline(FeatureExtractor(model=classifier, layer="layer3"), LogisticRegression())`.

    X: images, as the model takes them. The net is not trained further, and scikit-learn's `clone` keeps it: a
    cross-validation measures what stands behind it. Features are standardised in no way; `StandardScaler` does that.

    model: a fitted estimator of images, or the folder of a saved one or of a run.
    layer: the name of a module of its net, as "layer3" or "features.4"; None: what goes into the head. Of a module that is
        used several times in one pass the last output counts.
    pooling: what becomes of maps: each one's mean or maximum over all places, or all of their numbers in a row.

    Attributes after `fit`: estimator_ (the fitted estimator), n_features_out_ (D).

    Raises ConfigError where the model is not fitted, or the layer is none of its net's or gives no tensor.
    """

    model: Any = None
    layer: str | None = None
    pooling: Annotated[Literal["average", "max", "flat"], Search()] = "average"

    supervised = False  # y is not looked at
    takes_fitted = (
        "image-classifier"  # a registered estimator whose fitted instance `model` may be: the checks make one
    )

    def fit(self, X: Any = None, y: Any = None) -> Self:
        """Find the model and its layer. X and y are not looked at: all is learned already.

        Raises ConfigError where there is no such layer, DataError where the model's folder cannot be read.
        """
        self.check_params()
        self._begin(self._found())
        return self

    def _found(self) -> ImageEstimator:
        """The fitted estimator that `model` is or names."""
        where, model = type(self).__name__, self.model
        if isinstance(model, (str, Path)):
            inner = Path(model) / "model"
            model = load(inner if inner.is_dir() else model)
        if not isinstance(model, ImageEstimator):
            raise ConfigError(
                f"{where}: model must be a fitted estimator of images, such as ImageClassifier, or the folder of a saved one, "
                f"got {'None' if model is None else type(model).__name__}"
            )
        if not hasattr(model, "objective_"):
            raise ConfigError(
                f"{where}: model is {'an' if type(model).__name__[0] in 'AEIOU' else 'a'} {type(model).__name__} that is not "
                "fitted: fit it first. scikit-learn's search over model= forgets what was fitted: give folders there"
            )
        return model

    def _begin(self, model: ImageEstimator) -> None:
        """Take over a fitted estimator, and try the layer on an image of zeros."""
        schema: Any = model.schema_
        kind = torch.uint8 if schema.dtype == "uint8" else torch.float32
        device = next(model.objective_.parameters()).device
        one = torch.zeros((1, *schema.shape), dtype=kind, device=device)
        self.n_features_out_ = self._features(model, [one]).shape[1]
        self.estimator_ = model

    @torch.no_grad()
    def _features(self, model: ImageEstimator, batches: Any) -> Tensor:
        """(N, D) float32 on the CPU; batches: of pixels, (B, C, H, W)."""
        net = model.model_
        parts = []
        with _predicting(net), self._watched(net.net) as seen:  # type: ignore[arg-type]
            for pixels in batches:
                seen.clear()
                net(pixels)
                if not seen:
                    raise ConfigError(f"{self._where()} is not used when the net predicts; name another layer")
                if len(seen[-1]) != len(pixels):
                    raise ConfigError(
                        f"{self._where()} gives {len(seen[-1])} rows for {len(pixels)} images; name another layer"
                    )
                parts.append(seen[-1].float().cpu())
        return torch.cat(parts)

    def _where(self) -> str:
        return f"{type(self).__name__}: layer={self.layer!r}"

    @contextlib.contextmanager
    def _watched(self, net: nn.Module) -> Iterator[list[Tensor]]:
        """Within: what the layer gives is put into the list, pooled."""
        seen: list[Tensor] = []

        def keep(value: Any) -> None:
            if not isinstance(value, Tensor):
                kind = type(value).__name__
                raise ConfigError(
                    f"{self._where()} gives a {kind}, not one tensor; name a module inside of it, or after it"
                )
            made = _POOLINGS[self.pooling](value) if value.ndim > 2 else value.reshape(len(value), -1)
            seen[:] = [made.clone()]  # as a layer behind may work in place

        def before(module: nn.Module, given: tuple[Any, ...]) -> None:
            keep(given[0])

        def after(module: nn.Module, given: tuple[Any, ...], out: Any) -> None:
            keep(out)

        modules = {name: module for name, module in net.named_modules() if name}
        if self.layer is None:
            handle = net.get_submodule(head_modules(net)[0]).register_forward_pre_hook(before)
        elif self.layer in modules:
            handle = modules[self.layer].register_forward_hook(after)
        else:
            hint = nearest(self.layer, modules)
            if "did you mean" not in hint:
                hint = f"its parts are {', '.join(name for name, _ in net.named_children())}"
            raise ConfigError(f"{type(self).__name__}: the net has no layer {self.layer!r}; {hint}")
        try:
            yield seen
        finally:
            handle.remove()

    def transform(self, X: Any) -> NDArray[np.float32]:
        """The features of images, (N, D) float32.

        Raises DataError where the images cannot be read, or are not of the size that the model was trained on.
        """
        return self._transformed(X)[0]

    def _transformed(self, X: Any) -> tuple[NDArray[np.float32], Encoded]:
        check_is_fitted(self)
        model: ImageEstimator = self.estimator_
        encoded = model.encode(X)
        pixels = (batch["x"] for batch in model._batches(encoded).epoch(0))
        features: NDArray[np.float32] = self._features(model, pixels).numpy()
        return features, encoded

    def predict_frame(self, X: Any) -> pd.DataFrame:
        """A row for each item: its name, and its features."""
        import pandas as pd

        features, encoded = self._transformed(X)
        named = dict(zip(self.get_feature_names_out(), features.T, strict=True))
        return pd.DataFrame({"item": encoded.names} | named)

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[Any]:
        """What the features are called, (D,): "layer3_0", "layer3_1", ...; those that go into the head "hidden_0", ..."""
        check_is_fitted(self)
        name = self.layer or "hidden"
        return np.array([f"{name}_{i}" for i in range(self.n_features_out_)], dtype=object)

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The parameters by name; those of the model are none of them, as it stays what it is."""
        params: dict[str, Any] = super().get_params(deep=False)
        return params

    def __sklearn_clone__(self) -> Self:
        """As scikit-learn's FrozenEstimator: the fitted model is a parameter, and stays what it is."""
        other = copy.copy(self)
        for name in [name for name in vars(other) if name.endswith("_")]:
            delattr(other, name)
        return other

    # -- saving -----------------------------------------------------------------------------------------------------

    def save(self, folder: str | Path) -> Path:
        """Write a folder that `konspekt.load` reads, with the model in it.

        Raises what `Estimator.save` does.
        """
        check_is_fitted(self)
        bare = copy.copy(self)
        bare.model = self.estimator_.model  # a net of the user's own, which `load` then asks for; else None
        return Estimator.save(bare, folder)

    def learned(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """What the model is and what it learned, as JSON, and its tensors."""
        model: ImageEstimator = self.estimator_
        learned, tensors = model.learned()
        given = {
            k: plain(v) for k, v in model.get_params(deep=False).items() if k not in ("run_dir", "verbose", "model")
        }
        return {"system": registered(type(model)).name, "params": given, "learned": learned}, tensors

    def restore(self, config: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        """Take back what `learned` gave."""
        cls = registry.lookup("estimator", config["system"]).load()
        if not issubclass(cls, ImageEstimator):
            raise DataError(f"config.json names {config['system']!r} as the model, which is no estimator of images")
        model = cls(**parse_params(cls, config["params"]))
        model.model = self.model
        model.restore(config["learned"], tensors)
        self.check_params()
        self._begin(model)
        self.model = model  # so that a clone has it too

    def card_data(self) -> list[str]:
        """What the model was trained on, and which of its layers is taken."""
        facts, model = getattr(self.estimator_, "facts_", {}), type(self.estimator_).__name__
        layer = "what goes into the head" if self.layer is None else f"the layer {self.layer!r}"
        source = f", trained on {facts['train']} items of {facts['source']}" if facts else ""
        return [f"features: {layer} of the net of {model}{source}", *self.estimator_.schema_.sentences()]
