"""Single weights leave a net: which can be done without, by size or by curvature, and how they are kept away.

By size: |w|. By curvature: what the loss rises by, to second order at a minimum, where w becomes 0. With a diagonal Hessian H that
is w^2 h / 2, optimal brain damage (LeCun, Denker and Solla 1990,
https://papers.nips.cc/paper/250-optimal-brain-damage); with the whole one it is w^2 / (2 [H^-1]_ii), where the other weights of
the layer move to make up for it, optimal brain surgeon (Hassibi and Stork 1993,
https://papers.nips.cc/paper/647-second-order-derivatives-for-network-pruning-optimal-brain-surgeon). Course: row A16.

Shape letters in this file: N weights of a layer that are still there.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from konspekt.core.errors import ConfigError, nearest
from konspekt.data.batches import Batches, Resident
from konspekt.data.fields import Batch
from konspekt.engine.curvature import hessian, item_gradients
from konspekt.engine.flat import FlatParameters
from konspekt.engine.objective import Objective

__all__ = [
    "DIAGONAL",
    "EXACT",
    "ITEMS",
    "Masked",
    "Surgery",
    "cut",
    "diagonal",
    "layers_with_edges",
    "operate",
    "smallest",
]

DIAGONAL = 500  # weights of which second derivatives are taken for a diagonal; of more, the Fisher information
EXACT = 2500  # weights of a layer of which the whole Hessian is inverted: about a minute on one core
ITEMS = 2000  # at most, of which curvature is taken
_ROOM = 1 << 25  # numbers of the items' gradients at a time
_FLAT = 1e-9  # of the largest curvature: less counts as this much


def layers_with_edges(net: nn.Module, names: Sequence[str] | None = None) -> dict[str, nn.Parameter]:
    """The matrices and kernels of a net by the names of their layers; embeddings, norms and biases are no edges.

    names: only these.

    Raises ConfigError on an unknown name, and where there is none.
    """
    found: dict[str, nn.Parameter] = {}
    for name, module in net.named_modules():
        weight = module._parameters.get("weight")
        if (
            weight is not None
            and weight.ndim > 1
            and not isinstance(module, (nn.Embedding, nn.LayerNorm))
            and not any(weight is p for p in found.values())  # of two layers that share a matrix it is the first one's
        ):
            found[name or "net"] = weight
    for name in names or ():
        if name not in found:
            raise ConfigError(f"prune: layers must name layers with a matrix, got {name!r}; {nearest(name, found)}")
    found = {name: p for name, p in found.items() if names is None or name in names}
    if not found:
        raise ConfigError(f"prune: a {type(net).__name__} has no layer whose edges could be taken out")
    return found


class Masked(Objective):
    """Another objective, in which some weights stay 0 whatever the optimiser's memory adds to them.

    masks: pairs of a parameter and a mask of its shape, True where the weight lives.
    """

    def __init__(self, inner: Objective, masks: Sequence[tuple[nn.Parameter, Tensor]]) -> None:
        super().__init__()
        self.inner = inner
        self.masks = [(p, mask.to(p.device)) for p, mask in masks]
        self.collate, self.higher_is_better = inner.collate, inner.higher_is_better
        self.apply_masks()

    @property
    def model(self) -> nn.Module:  # type: ignore[override]
        """What predicts."""
        return self.inner.model

    @torch.no_grad()
    def apply_masks(self) -> None:
        """Make 0 what is to be 0."""
        for p, mask in self.masks:
            p.data.mul_(mask)  # `data`, as the loop lays parameters elsewhere

    def forward(self, batch: Batch) -> dict[str, Any]:
        return self.inner(batch)  # type: ignore[no-any-return]

    def loss(self, batch: Batch, player: str) -> dict[str, Tensor]:
        return self.inner.loss(batch, player)

    def item_losses(self, batch: Batch) -> Tensor:
        return self.inner.item_losses(batch)

    def sample_targets(self, batch: Batch) -> Batch:
        return self.inner.sample_targets(batch)

    def players(self) -> dict[str, list[dict[str, Any]]]:
        return self.inner.players()

    def turns(self, step: int) -> Sequence[str]:
        return self.inner.turns(step)

    def start_epoch(self, epoch: int, batches: Batches) -> None:
        self.inner.start_epoch(epoch, batches)

    def after_step(self, step: int, player: str) -> None:
        self.inner.after_step(step, player)
        self.apply_masks()

    def state(self) -> dict[str, Any]:
        return self.inner.state()

    def load_state(self, state: Mapping[str, Any]) -> None:
        self.inner.load_state(state)

    def evaluate(self, batches: Batches) -> dict[str, float]:
        return self.inner.evaluate(batches)


# --- which ----------------------------------------------------------------------------------------------------------


def smallest(
    scores: Mapping[str, Tensor], alive: Mapping[str, Tensor], share: float, *, per_layer: bool
) -> dict[str, Tensor]:
    """The masks of what stays where the weights of the smallest scores go, until `share` of all are gone.

    scores, alive: for each layer, of one shape; alive: True for the weights that are still there. per_layer: the share of
    each layer, and not of all together. The best weight of each layer stays.

    Raises ConfigError where the share leaves less than a weight a layer.
    """
    groups = [[name] for name in scores] if per_layer else [list(scores)]
    kept = {name: mask.clone() for name, mask in alive.items()}
    for names in groups:
        total = sum(kept[name].numel() for name in names)
        ranked = []
        for name in names:
            values = scores[name].detach().double().cpu().reshape(-1).clone()
            values[~kept[name].reshape(-1).cpu()] = -torch.inf  # gone already: they are counted first
            if bool(kept[name].any()):
                values[values.argmax()] = torch.inf
            ranked.append(values)
        count = wanted(total, share, sum(bool(kept[n].any()) for n in names), names)
        gone = torch.cat(ranked).argsort(stable=True)[: max(count, int(sum((v == -torch.inf).sum() for v in ranked)))]
        mask = torch.ones(total, dtype=torch.bool)
        mask[gone] = False
        for name, part in zip(names, mask.split([kept[n].numel() for n in names]), strict=True):
            kept[name] = part.reshape(kept[name].shape).to(kept[name].device)
    return kept


def wanted(total: int, share: float, layers: int, names: Sequence[str]) -> int:
    """How many of `total` weights go.

    Raises ConfigError where fewer are left than one a layer.
    """
    count = round(share * total)
    if total - count < layers:
        place = names[0] if len(names) == 1 else f"{layers} layers"
        raise ConfigError(
            f"prune: share={share:g} would leave {total - count} of the {total} weights of {place}, and a layer without one "
            "lets nothing pass; lower share"
        )
    return count


# --- curvature ------------------------------------------------------------------------------------------------------


def _doubled(batch: Batch) -> Batch:
    return {n: f.double() if isinstance(f, Tensor) and f.is_floating_point() else f for n, f in batch.items()}


def _places(layers: Mapping[str, nn.Parameter], net: nn.Module) -> dict[str, nn.Parameter]:
    """The same layers in a copy of the net."""
    return {name: (net if name == "net" else net.get_submodule(name))._parameters["weight"] for name in layers}  # type: ignore[misc]


def _some(batches: Resident) -> Tensor:
    """The numbers of the items of which curvature is taken, evenly spread."""
    return batches.items[:: -(-batches.num_items // ITEMS)].to(batches.device)


def _hessian(objective: Objective, batches: Resident, weights: Sequence[nn.Parameter]) -> list[list[Tensor]]:
    """The second derivatives of the mean loss, in blocks of one parameter by another, on the CPU."""
    player = next(iter(objective.players()))
    flat = FlatParameters(player, [{"params": list(weights)}], merge=True)
    some, total = _some(batches), flat.weights.new_zeros(())
    try:
        for index in some.split(batches.batch_size):
            total = total + hessian(objective, _doubled(batches.take(index)), player, flat) * len(index)
    finally:
        flat.release()
    mean = (total / len(some)).cpu()
    return [[mean[a, b] for b in flat.slices] for a in flat.slices]


def in_doubles(objective: Objective) -> Objective:
    """A copy for measuring curvature: in 64 bits, in prediction mode, nothing frozen."""
    return _twin(objective).double()


def _twin(objective: Objective) -> Objective:
    twin: Objective = copy.deepcopy(objective).eval()
    for p in twin.parameters():
        p.requires_grad_(True)
    return twin


def diagonal(
    objective: Objective, batches: Resident, net_of: Any, layers: Mapping[str, nn.Parameter]
) -> tuple[dict[str, Tensor], str]:
    """The diagonal of the Hessian of the mean loss for each layer, and in words how it was found.

    For at most DIAGONAL weights by second derivatives. For more it is that of the true Fisher information, which for the
    losses used here is the Gauss-Newton matrix, from targets that are drawn from the prediction; where the objective
    cannot draw them, of the empirical one.

    net_of: gives the net out of an objective.
    """
    count = sum(p.numel() for p in layers.values())
    if count <= DIAGONAL:
        twin = in_doubles(objective)
        own = _places(layers, net_of(twin))
        blocks = _hessian(twin, batches, list(own.values()))
        found = {n: blocks[i][i].diagonal().reshape(p.shape) for i, (n, p) in enumerate(layers.items())}
        return found, f"exact second derivatives over {len(_some(batches))} items"
    twin = _twin(objective)
    own = _places(layers, net_of(twin))
    player = next(iter(twin.players()))
    size = min(batches.batch_size, max(1, _ROOM // count))
    some = _some(batches)
    flat = FlatParameters(player, [{"params": list(own.values())}], merge=True)
    sums = torch.zeros(len(flat.weights), dtype=torch.float64)
    how = "true"
    try:
        for index in some.split(size):
            batch = batches.take(index)
            try:
                batch = twin.sample_targets(batch)
            except ConfigError:  # class weights, or a loss of one's own
                how = "empirical"
            sums += item_gradients(twin, batch, player, flat).double().square().sum(0).cpu()
    finally:
        flat.release()
    found = {
        n: (sums[place] / len(some)).reshape(p.shape) for (n, p), place in zip(layers.items(), flat.slices, strict=True)
    }
    return found, f"diagonal of the {how} Fisher information over {len(some)} items"


class Surgery:
    """Optimal brain surgeon on one layer.

    weights (N,), curvature (N, N): those that are still there. Directions in which the loss curves down count as if it
    curved up as much, so that a step along them is no cheaper than it looks.
    """

    def __init__(self, weights: Tensor, curvature: Tensor) -> None:
        self.weights = weights.double().clone()
        values, vectors = torch.linalg.eigh(curvature.double())
        values = values.abs()
        values = values.clamp_min(max(float(values.max()) * _FLAT, torch.finfo(torch.float64).tiny))
        self.inverse = (vectors / values) @ vectors.T
        self.places = torch.arange(len(weights))  # of what `inverse` is about
        self.left = len(weights)
        self.risen = 0.0  # by how much the loss has risen, to second order

    def costs(self) -> Tensor:
        """What the loss rises by for each weight that goes (N,); infinite for those that have gone, and for the last."""
        made = torch.full((len(self.weights),), torch.inf, dtype=torch.float64)
        if self.left > 1:
            own = self.inverse.diagonal()
            alive = own > 0
            made[self.places[alive]] = self.weights[self.places[alive]].square() / (2 * own[alive])
        return made

    def remove(self, place: int) -> None:
        """Take a weight out, and move the others so that the loss rises as little as can be."""
        q = int((self.places == place).nonzero()[0, 0])
        column = self.inverse[:, q].clone()
        pivot = float(column[q])
        self.risen += float(self.weights[place] ** 2) / (2 * pivot)
        self.weights[self.places] -= column * (self.weights[place] / pivot)
        self.weights[place] = 0.0
        self.inverse.addr_(column, column, alpha=-1 / pivot)
        self.inverse[q] = self.inverse[:, q] = 0.0
        self.left -= 1
        if self.left < 0.9 * len(self.places):  # what has gone costs time
            here = (self.inverse.diagonal() > 0).nonzero()[:, 0]
            self.inverse, self.places = self.inverse[here][:, here].contiguous(), self.places[here]


def cut(surgeries: Sequence[Surgery], count: int) -> None:
    """Take out so many weights of several layers, always the one that costs least."""
    costs = [s.costs() for s in surgeries]
    lowest = [float(c.min()) for c in costs]
    for _ in range(count):
        which = min(range(len(surgeries)), key=lowest.__getitem__)
        surgeries[which].remove(int(costs[which].argmin()))
        costs[which] = surgeries[which].costs()
        lowest[which] = float(costs[which].min())


def operate(
    objective: Objective,
    batches: Resident,
    net_of: Any,
    layers: Mapping[str, nn.Parameter],
    alive: Mapping[str, Tensor],
    share: float,
    *,
    per_layer: bool,
) -> tuple[dict[str, Tensor], float]:
    """Optimal brain surgeon, with the whole Hessian of each layer by itself; the weights of the layers are changed.

    Gives the masks of what stays, and by how much the loss is to rise.

    Raises ConfigError where a layer has more than EXACT weights left, or the share leaves less than a weight a layer.
    """
    large = {n: int(alive[n].sum()) for n in layers if int(alive[n].sum()) > EXACT}
    if large:
        said = ", ".join(f"{n} ({count} weights)" for n, count in large.items())
        raise ConfigError(
            f"prune: hessian='exact' inverts a matrix of a layer's weights by themselves, at most {EXACT}; too large: {said}. "
            "Name smaller ones in layers=, or give hessian='diagonal'"
        )
    groups = [[name] for name in layers] if per_layer else [list(layers)]
    counts = []
    for names in groups:
        total = sum(alive[n].numel() for n in names)
        gone = total - sum(int(alive[n].sum()) for n in names)
        counts.append(wanted(total, share, sum(bool(alive[n].any()) for n in names), names) - gone)
    twin = in_doubles(objective)
    own = _places(layers, net_of(twin))
    surgeries = {}
    for name, p in own.items():
        here = alive[name].reshape(-1).cpu()
        block = _hessian(twin, batches, [p])[0][0][here][:, here]
        surgeries[name] = Surgery(p.detach().cpu().reshape(-1)[here], block) if bool(here.any()) else None
    masks = {}
    for names, count in zip(groups, counts, strict=True):
        cut([s for n in names if (s := surgeries[n]) is not None], count)
    for name, p in layers.items():
        surgery, mask = surgeries[name], alive[name].clone()
        if surgery is not None:
            flat, values = mask.reshape(-1), torch.zeros(p.numel(), dtype=torch.float64)
            here = flat.nonzero()[:, 0].cpu()
            values[here] = surgery.weights
            with torch.no_grad():
                p.copy_(values.reshape(p.shape))
            flat[here[surgery.weights == 0].to(flat.device)] = False
        masks[name] = mask
    return masks, sum(s.risen for s in surgeries.values() if s is not None)
