"""What a pruning takes out of a net, by each of its criteria.

Each has `objective` (what is to be fine-tuned), `remove(share)` (take out until that share is gone; gives in words what is),
`settle()` (after the fine-tuning) and `notes`. Whatever the criterion, edges that an earlier pruning has made 0 stay so.
Course: row A16.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from konspekt.core.errors import ConfigError
from konspekt.core.params import split_call
from konspekt.engine.neural import Splits
from konspekt.engine.objective import Objective
from konspekt.engine.slimming import slim, slots
from konspekt.explain.edges import Masked, diagonal, layers_with_edges, operate, smallest
from konspekt.explain.response import branches_of, responses
from konspekt.vision.estimator import ImageEstimator

__all__ = ["METHODS", "Branches", "Channels", "Edges", "curved", "kept_zero", "net_of", "zero_edges"]


def net_of(objective: Objective) -> nn.Module:
    """What a user's names of layers count in: the net behind the layer that standardises pixels, or the model."""
    return objective.net if hasattr(objective, "net") else objective.model  # type: ignore[return-value]


def kept_zero(work: Any) -> Objective:
    """What is to be fine-tuned: edges that are 0, as from an earlier pruning, stay so. Without any, the objective itself."""
    edges = layers_with_edges(net_of(work.objective_)).values()
    masks = [(p, p.detach() != 0) for p in edges if not bool(p.all())]
    return Masked(work.objective_, masks) if masks else work.objective_  # type: ignore[no-any-return]


def _settle(objective: Objective) -> None:
    """Make 0 again what is to be 0: averages and best weights have been taken in the meantime."""
    if isinstance(objective, Masked):
        objective.apply_masks()


def zero_edges(work: Any) -> int:
    """How many edges of the net are 0."""
    return sum(int((p == 0).sum()) for p in layers_with_edges(net_of(work.objective_)).values())


class Edges:
    """Single weights, by size or by curvature."""

    def __init__(
        self,
        work: Any,
        splits: Splits,
        *,
        hessian: str,
        per_layer: bool,
        layers: Sequence[str] | None,
        curved: bool = False,
    ) -> None:
        self.work, self.splits, self.per_layer = work, splits, per_layer
        self.how = ("exact" if hessian == "exact" else "diagonal") if curved else "size"
        self.layers = layers_with_edges(net_of(work.objective_), layers)
        self.alive = {name: (p.detach() != 0).cpu() for name, p in self.layers.items()}
        self.notes: list[str] = []
        self.objective: Objective = work.objective_

    @property
    def gone(self) -> int:
        """How many edges of these layers have gone."""
        return sum(int((~mask).sum()) for mask in self.alive.values())

    def remove(self, share: float) -> str:
        """Take out until this share of them is gone.

        Raises ConfigError where more have gone already.
        """
        objective, before = self.work.objective_, self.gone
        if self.how == "exact":
            self.alive, risen = operate(
                objective, self.splits.in_order, net_of, self.layers, self.alive, share, per_layer=self.per_layer
            )
            self.notes.append(
                f"share {share:g}: by the inverse of each layer's Hessian the loss was to rise by {risen:.3g}"
            )
        else:
            scores: dict[str, Tensor] = {name: p.detach().abs() for name, p in self.layers.items()}
            if self.how == "diagonal":
                curvature, said = diagonal(objective, self.splits.in_order, net_of, self.layers)
                scores = {n: s.cpu().double().square() * curvature[n] / 2 for n, s in scores.items()}
                self.notes.append(f"curvature: {said}")
            self.alive = smallest(scores, self.alive, share, per_layer=self.per_layer)
        total = sum(mask.numel() for mask in self.alive.values())
        if round(share * total) < before:
            raise ConfigError(
                f"prune: share={share:g} takes out none, as {before} of the {total} edges have gone already; give a larger share"
            )
        Masked(objective, [(p, self.alive[name]) for name, p in self.layers.items()])  # makes them 0
        self.objective = kept_zero(self.work)  # in layers that are not named, too
        return f"{self.gone} of {total} edges"

    def settle(self) -> None:
        """After the fine-tuning."""
        _settle(self.objective)


def curved(work: Any, splits: Splits, **options: Any) -> Edges:
    """Single weights, by curvature."""
    return Edges(work, splits, curved=True, **options)


class Channels:
    """Whole channels of convolutions, by the sum of the sizes in their kernels."""

    def __init__(self, work: Any, splits: Splits, *, layers: Sequence[str] | None, **options: Any) -> None:
        self.work, self.notes = work, ["channels: the sum of |w| over the kernel of each"]
        net = net_of(work.objective_)
        found = slots(net) if isinstance(work, ImageEstimator) else {}
        if not found:
            raise ConfigError(
                f"prune: by='channels' takes channels out of convolutions, which a {type(net).__name__} cannot do without; lenet, "
                "alexnet, nin, the vgg and, inside their blocks, the resnet and googlenet can. by='magnitude' goes with every net"
            )
        for name in layers or ():
            if name not in found:
                raise ConfigError(f"prune: the channels of {name!r} cannot go; those of {', '.join(found)} can")
        self.before = {name: s.channels for name, s in found.items() if layers is None or name in layers}
        self.objective: Objective = work.objective_

    def remove(self, share: float) -> str:
        """Take out until this share of them is gone."""
        net = net_of(self.work.objective_)
        kept = {}
        for name, channels in self.before.items():
            norms = net.get_submodule(name).weight.detach().abs().flatten(1).sum(1)  # type: ignore[operator]
            stay = max(1, channels - round(share * channels))
            kept[name] = norms.argsort(descending=True, stable=True)[: min(stay, len(norms))].sort().values
        slim(net, {name: index for name, index in kept.items() if len(index) < net.get_submodule(name).out_channels})  # type: ignore[operator]
        self.work.slimmed_ = self.work.slimmed | {name: len(index) for name, index in kept.items()}
        self.objective = kept_zero(self.work)
        gone = sum(self.before.values()) - sum(map(len, kept.values()))
        return f"{gone} of {sum(self.before.values())} channels"

    def settle(self) -> None:
        """After the fine-tuning: channels that have gone cannot come back, single edges could."""
        _settle(self.objective)


class Branches:
    """Residual branches, by their response on the held-out data."""

    def __init__(self, work: Any, splits: Splits, **options: Any) -> None:
        self.work, self.splits, self.notes = (
            work,
            splits,
            ["branches: the norm of the branch over that of the shortcut"],
        )
        self.total = len(branches_of(net_of(work.objective_)))
        self.gone: list[str] = []
        if not isinstance(work, ImageEstimator) or work.model is not None:
            raise ConfigError("prune: by='branches' needs a net that `arch` names, as `arch` is to say what has gone")
        self.objective: Objective = work.objective_

    def remove(self, share: float) -> str:
        """Take out until this share of them is gone."""
        count = round(share * self.total) - len(self.gone)
        if count < 1:
            raise ConfigError(
                f"prune: share={share:g} takes out none of the {self.total - len(self.gone)} residual branches that are left; "
                f"each is {1 / self.total:.3g} of them"
            )
        old = self.work.objective_
        found = responses(old, net_of(old), self.splits.validation)  # type: ignore[arg-type]
        chosen = sorted(found, key=found.__getitem__)[:count]
        self.notes.append(
            f"share {share:g}: responses "
            + ", ".join(f"{n} {r:.3g}" for n, r in sorted(found.items(), key=lambda i: i[1]))
        )
        self.gone += chosen
        name, arguments = split_call(self.work.arch, "arch")
        arguments["drop"] = (*arguments.get("drop", ()), *sorted(chosen))
        self.work.arch = f"{name}({', '.join(f'{k}={v!r}' for k, v in arguments.items())})"
        new = self.work.build(self.work.schema_, self.work.targets_)
        weights = old.state_dict()
        new.load_state_dict({name: weights[name] for name in new.state_dict()})
        self.work.objective_ = new.to(next(old.parameters()).device).eval()
        self.objective = kept_zero(self.work)
        return ", ".join(sorted(self.gone))

    def settle(self) -> None:
        """After the fine-tuning: branches that have gone cannot come back, single edges could."""
        _settle(self.objective)


METHODS: dict[str, Any] = {"magnitude": Edges, "curvature": curved, "branches": Branches, "channels": Channels}
