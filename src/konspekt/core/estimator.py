"""The contract: a learner is a dataclass whose fields are its hyper-parameters, and a scikit-learn estimator."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from sklearn.base import BaseEstimator

import konspekt
from konspekt.core import registry
from konspekt.core.errors import ConfigError, DataError, KonspektError
from konspekt.core.folders import json_bytes, read_json, read_tensors, tensor_file, verify, write_folder
from konspekt.core.params import check_params, parse_params, space_of
from konspekt.core.space import Space

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["NO_LICENCE", "Estimator", "load", "peek", "plain", "registered", "set_licence"]

NO_LICENCE = "not stated; `konspekt card MODEL --licence TEXT` writes one"
_FILES = ("config.json", "weights.safetensors", "card.md")


class Estimator(BaseEstimator):
    """The base of every learner.

    A subclass is a dataclass (`kw_only=True, eq=False, repr=False`) under `@system`. `__init__` stores, `fit` checks
    the parameters and learns into names that end in `_`, nothing else changes them. A subclass writes `fit`, and
    `learned` and `restore` so that it can be saved.
    """

    unit: ClassVar[str] = "items"  # what it learns from, in the words of the card

    @classmethod
    def space(cls) -> Space:
        """The search space that the annotations state."""
        return space_of(cls)

    def check_params(self) -> None:
        """Raise ConfigError where a parameter is out of its bounds."""
        check_params(self)

    def learned(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """What `fit` learned: JSON (schema, classes, vocabularies) and tensors."""
        raise NotImplementedError(f"{type(self).__name__} does not say what it learned")

    def restore(self, config: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        """Take back what `learned` gave. Raise DataError where the two do not fit together."""
        raise NotImplementedError(f"{type(self).__name__} cannot be restored")

    def save(self, folder: str | Path) -> Path:
        """Write the fitted estimator as a folder that `konspekt.load` reads: JSON, safetensors, a card, a manifest.

        A model that stands there already is replaced at once.

        Raises NotFittedError before `fit`, DataError where the folder holds something else, ResourceError where the
        disk refuses.
        """
        from sklearn.utils.validation import check_is_fitted

        check_is_fitted(self)
        entry = registered(type(self))
        learned, tensors = self.learned()
        config = {
            "system": entry.name,
            "konspekt": konspekt.__version__,
            "params": {k: plain(v) for k, v in self.get_params(deep=False).items() if k not in ("run_dir", "verbose")},
            "learned": learned,
        }
        write_folder(
            Path(folder),
            {
                "config.json": json_bytes(config),
                "weights.safetensors": tensor_file(tensors),
                "card.md": self.card().encode(),
            },
        )
        return Path(folder)

    def card(self) -> str:
        """The model card: what this is, its data, scores, limits, licence, versions (Mitchell et al. 2019)."""
        entry = registered(type(self))
        defaults = {k: f.default for k, f in type(self).__dataclass_fields__.items()}
        given = {k: v.tolist() if hasattr(v, "tolist") else v for k, v in self.get_params(deep=False).items()}
        changed = {k: v for k, v in given.items() if v != defaults[k]}
        lines = [f"# {type(self).__name__}", "", entry.summary, ""]
        lines += [f"- system: `{entry.name}`" + (f" ({entry.paper})" if entry.paper else "")]
        lines += [
            f"- parameters that are not the defaults: {', '.join(f'`{k}={v!r}`' for k, v in changed.items()) or 'none'}"
        ]
        facts: Mapping[str, Any] = getattr(self, "facts_", None) or {}
        lines += ["", "## Data", ""]
        if facts:
            held = f", {facts['validation']} held out" if facts.get("validation") else ", none held out"
            held = held if self.unit == "items" else ""
            lines += [f"- trained on {facts['train']} {self.unit} of {facts['source']}{held}"]
        lines += [f"- {text}" for text in self.card_data()]
        lines += ["", "## Scores", ""]
        scores = facts.get("scores") or {}
        lines += [f"- {name} {value:.4g} on the {facts['scores_on']} {self.unit}" for name, value in scores.items()]
        lines += [] if scores else ["- none were measured"]
        lines += ["", "## Limits", ""]
        lines += [f"- {text}" for text in self.card_limits()]
        lines += ["", "## Licence", "", NO_LICENCE, "", "## Versions", ""]
        lines += [
            f"- konspekt {konspekt.__version__}, Python {platform.python_version()}, torch {_torch_version()}",
            "",
        ]
        return "\n".join(lines)

    def card_data(self) -> list[str]:
        """Sentences for the card about the data, besides where they came from and how many there were."""
        return []

    def card_limits(self) -> list[str]:
        """Sentences for the card about what the model must not be trusted with."""
        return ["It was measured on no other data than those above: data from elsewhere may fare worse."]


def set_licence(folder: str | Path, licence: str) -> None:
    """Write a licence into the card of a saved model.

    Raises DataError where the folder is no model, or its card has no such field.
    """
    import re

    folder = Path(folder)
    peek(folder)
    card = (folder / "card.md").read_text(encoding="utf-8")
    text = " ".join(licence.split())
    new, found = re.subn(r"(?m)^## Licence\n\n.*$", lambda _: f"## Licence\n\n{text}", card)
    if not text or not found:
        raise DataError(f"{folder / 'card.md'}: " + ("give a licence" if not text else "has no field for a licence"))
    files: dict[str, Any] = {name: (folder / name).read_bytes() for name in _FILES}
    write_folder(folder, files | {"card.md": new.encode()})


def _torch_version() -> str:
    import torch

    return str(torch.__version__)


def registered(cls: type) -> registry.Entry:
    """The entry of a registered class.

    Raises ConfigError for a class without `@system`.
    """
    entry = cls.__dict__.get("__konspekt__")
    if entry is None:
        raise ConfigError(f"{cls.__name__} is not registered, so a folder could not name it; put @system(...) above it")
    return entry  # type: ignore[no-any-return]


def peek(folder: str | Path) -> dict[str, Any]:
    """The checked config.json of a model folder, without its weights.

    Raises DataError that names the file where the folder is damaged, incomplete or not a model.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"{folder}: there is no such folder; `load` takes a folder that `save` wrote")
    verify(folder, _FILES)
    config = read_json(folder / "config.json")
    where = folder / "config.json"
    kinds = {"system": str, "params": dict, "learned": dict}
    if not isinstance(config, dict) or any(not isinstance(config.get(k), t) for k, t in kinds.items()):
        raise DataError(f"{where}: not the description of a model; the file is damaged")
    return config


def load(folder: str | Path, *, model: Any = None) -> Any:
    """Bring back a saved estimator. Only registered systems are made; nothing in the folder is executed.

    folder: what `save` wrote, or the folder of a run, which holds one.
    model: the net, where the estimator was fitted with one of the user's own; its weights come from the folder.

    Raises DataError that names the file where the folder is damaged, incomplete or not a model, ConfigError where `model`
    is missing or not wanted.
    """
    inner = Path(folder) / "model"
    if (Path(folder) / "config.yaml").is_file() and inner.is_dir():
        folder = inner
    config, where = peek(folder), Path(folder) / "config.json"
    params = dict(config["params"])
    own = params.get("model")
    own = own if isinstance(own, str) and own.startswith("<") else None  # other text names a model of konspekt's
    if own is not None:
        params.pop("model")
    if own is not None and model is None:
        raise ConfigError(
            f"{folder}: this model was fitted with a net of the user's own, {own}, whose code is not saved: make it again "
            f"and give it, konspekt.load({str(folder)!r}, model=net)"
        )
    if own is None and model is not None:
        raise ConfigError(f"{folder}: this model has konspekt's own net: leave model= out")
    try:
        cls = registry.lookup(("estimator", "agent"), config["system"]).load()
        estimator = cls(**parse_params(cls, params))
    except ConfigError as error:
        raise DataError(f"{where}: {error}") from None
    if own is not None:
        estimator.model = model
    weights = Path(folder) / "weights.safetensors"
    tensors = read_tensors(weights)
    try:
        estimator.restore(config["learned"], tensors)
    except KonspektError as error:
        raise DataError(f"{folder}: {error}") from None
    except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError, RuntimeError, MemoryError) as error:
        raise DataError(
            f"{where}: does not describe a {config['system']!r} that fits {weights.name} "
            f"({type(error).__name__}: {str(error)[:120]}); the folder is damaged"
        ) from None
    return estimator


def plain(value: Any) -> Any:
    """A parameter as JSON has it: numpy's numbers and arrays as Python's, names of a mapping as text, a net by what it prints."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if (hasattr(value, "parameters") and hasattr(value, "state_dict")) or hasattr(value, "get_params"):
        return f"<{' '.join(repr(value).split())[:300]}>"
    return value.tolist() if hasattr(value, "tolist") else value
