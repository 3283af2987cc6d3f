"""Weights that were learned elsewhere: read from a file, a saved model or a hub, checked, and put into a net.

A file is safetensors (https://huggingface.co/docs/safetensors), which holds numbers and nothing else. A PyTorch file is a
pickle, which may run code: it is refused, with the lines that convert it in a process of the user's own.

What is put into a net is all of it but its heads: the modules that give one number a class, which are made anew where the file's
are of another size (Yosinski et al. 2014, "How transferable are features in deep neural networks?",
https://arxiv.org/abs/1411.1792). Whatever else differs is a reason to refuse: half a net's weights are no weights. Course: row A15, in part.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from konspekt.core.errors import ConfigError, DataError, ResourceError, nearest
from konspekt.core.estimator import peek
from konspekt.core.folders import MANIFEST, read_tensors

__all__ = ["read_weights", "take_weights"]

_HUB = re.compile(r"hf:(?P<name>[\w.-]+/[\w.-]+?)(?:/(?P<file>[\w./-]+\.safetensors))?(?:@(?P<revision>[\w./-]+))?")
_FORMS = "a .safetensors file, a folder that `save` wrote, a run folder, or 'hf:owner/name'"
_PICKLES = (".pth", ".pt", ".bin", ".ckpt", ".pkl", ".pickle")
_WRAPPERS = ("model.net.", "module.", "_orig_mod.", "net.", "model.")  # of estimators here, and of torch's wrappers
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_SHOWN = 20  # differences that a message lists


def take_weights(
    net: nn.Module,
    weights: str | Path,
    *,
    heads: tuple[str, ...],
    first_layer: Literal["sum"] | None = None,
    where: str,
) -> list[str]:
    """Put weights into a net, in place; where they are refused, the net is as it was.

    weights: a .safetensors file, a folder that `save` wrote, a run folder with its model, or "hf:owner/name",
        "hf:owner/name/FILE.safetensors", "hf:owner/name@REVISION".
    heads: the modules whose weights may be of another number of outputs, or absent: they then stay as they are. The first is the net's
        own output; what belongs to the other ones, the auxiliary heads, may be absent as a whole. (): the last module
        that has parameters.
    first_layer: what to do where the first convolution sees 3 channels in one of file and net and 1 in the other; None:
        refuse. "sum": the kernels of the net's channels add up to the sum of the file's, so that a grey picture gives what
        the file's net gives for it, repeated in each channel.
    where: what a message begins with.

    Returns sentences for the log: what was taken, what is new.

    Raises DataError where the weights cannot be read or do not fit, with the differences; ConfigError where `weights` names
    nothing that could, or huggingface_hub is missing; ResourceError where the hub cannot be reached.
    """
    said = f"{where}: weights={str(weights)!r}"
    own: dict[str, Tensor] = net.state_dict()
    if not own:
        raise ConfigError(f"{said}: the net has no parameters")
    if open_ := [n for n, m in net.named_modules() if any(is_lazy(p) for p in m.parameters(recurse=False))]:
        raise ConfigError(
            f"{said}: the sizes of {_some(open_)} are not known before the net's first batch: call net(batch) once before"
        )
    theirs = _unwrapped(read_weights(weights, where=where), own)
    taken, notes = dict(theirs), [f"weights were taken from {weights}"]
    notes += _first_layer(net, taken, first_layer, said)
    notes += _heads(own, taken, heads or (_last(net),))
    _fits(own, taken, said)
    notes += _types(own, taken, said)
    net.load_state_dict(taken, strict=False)  # what is not in it may be absent, by now
    return notes


# -- reading --------------------------------------------------------------------------------------------------------------


def read_weights(weights: str | Path, *, where: str) -> dict[str, Tensor]:
    """The tensors that `weights` names, see `take_weights`; of a saved model those of its net, by their names in the net.

    Raises DataError, ConfigError and ResourceError as `take_weights` does.
    """
    said = f"{where}: weights={str(weights)!r}"
    if not isinstance(weights, (str, Path)) or not str(weights):
        raise ConfigError(f"{where}: weights must be {_FORMS}, got {weights!r}")
    if str(weights).startswith("hf:"):
        return read_tensors(_fetched(str(weights), said))
    path = Path(weights)
    if path.is_dir():
        return _saved(path, said)
    if not path.is_file():
        around = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        hint = f"; {nearest(path.name, around)}" if 0 < len(around) <= 12 else ""
        raise DataError(f"{said}: there is no such file or folder{hint}. It must be {_FORMS}")
    try:
        with path.open("rb") as file:
            head = file.read(9)
    except OSError as error:
        raise DataError(f"{said}: the file cannot be read: {error.strerror}") from None
    # a safetensors header's length may begin with these bytes too, but its ninth byte is "{"
    pickled = head[8:9] != b"{" and (head[:2] == b"PK" or head[:1] == b"\x80")
    if pickled or path.suffix.lower() in _PICKLES:
        beside = path.with_suffix(".safetensors")
        new = str(path.with_name(f"{path.stem}-new.safetensors") if beside == path else beside)
        raise DataError(
            f"{said} is a PyTorch file, a pickle, which can run code when it is read, and is not read here. If you trust "
            f"where it comes from, convert it by three lines of Python, and give {new!r}:\n"
            "import torch, safetensors.torch\n"
            f"state = torch.load(open({str(path)!r}, 'rb'), map_location='cpu', weights_only=True)\n"
            "safetensors.torch.save_file({name: value.clone().contiguous() for name, value in "
            f"state.get('state_dict', state).items()}}, {new!r})"
        )
    try:
        return read_tensors(path)
    except DataError as error:
        raise DataError(f"{said}: {error}. It must be {_FORMS}") from None


def _saved(folder: Path, said: str) -> dict[str, Tensor]:
    """The net's tensors of a saved model or of a run's."""
    if (folder / "model").is_dir() and not (folder / MANIFEST).is_file():
        folder = folder / "model"
    elif (folder / "config.yaml").is_file():
        raise DataError(f"{said}: this run has no model yet; finish it first: konspekt resume {folder}")
    files = sorted(p.name for p in folder.glob("*.safetensors"))
    if files and not (folder / MANIFEST).is_file():
        raise DataError(f"{said}: this folder was not written by `save`; name a file in it, as {folder / files[0]}")
    try:
        slimmed = peek(folder)["learned"].get("slimmed")
    except DataError as error:
        raise DataError(f"{said}: {error}. It must be {_FORMS}") from None
    if slimmed:
        raise DataError(
            f"{said}: this model was pruned: {len(slimmed)} of its convolutions have fewer channels than its net is built "
            "with; begin with the model that it was made of"
        )
    tensors = read_tensors(folder / "weights.safetensors")
    if inner := {n[10:]: t for n, t in tensors.items() if n.startswith("model.net.")}:
        return inner
    raise DataError(f"{said}: the model there has no net whose weights could be taken (no tensor 'model.net....')")


def _fetched(text: str, said: str) -> Path:
    """The file of a repository on the Hugging Face hub, in the hub's cache."""
    match = _HUB.fullmatch(text)
    if match is None:
        raise ConfigError(
            f"{said}: must be 'hf:owner/name', 'hf:owner/name/FILE.safetensors' or either with '@REVISION' behind it"
        )
    try:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import (
            EntryNotFoundError,
            GatedRepoError,
            LocalEntryNotFoundError,
            RepositoryNotFoundError,
            RevisionNotFoundError,
        )
    except ImportError:
        raise ConfigError(
            f"{said}: huggingface_hub is not installed: pip install huggingface_hub, or download the file and give its path"
        ) from None
    file = match["file"] or "model.safetensors"
    try:
        return Path(hf_hub_download(match["name"], file, revision=match["revision"]))
    except LocalEntryNotFoundError as error:  # of two classes: the network's fault, though its name says otherwise
        raise ResourceError(
            f"{said}: {file} is not in the cache and the hub cannot be reached; try again, or give the path of a file that "
            f"you have ({_shortly(error)})"
        ) from None
    except EntryNotFoundError:
        raise DataError(
            f"{said}: the repository has no file {file}; name one: hf:{match['name']}/FILE.safetensors"
        ) from None
    except GatedRepoError:
        raise DataError(
            f"{said}: the repository asks for its terms to be accepted; do so there, then `hf auth login`"
        ) from None
    except RepositoryNotFoundError:
        raise DataError(
            f"{said}: there is no repository {match['name']}, or it is private: mend the name, or `hf auth login`"
        ) from None
    except RevisionNotFoundError:
        raise DataError(f"{said}: the repository has no revision {match['revision']}") from None
    except Exception as error:
        raise ResourceError(f"{said}: the download failed ({type(error).__name__}: {_shortly(error)})") from error


def _shortly(error: Exception) -> str:
    return textwrap.shorten(str(error), 160, placeholder=" ...")


# -- what fits ------------------------------------------------------------------------------------------------------------


def _unwrapped(theirs: dict[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The file's tensors without what a wrapper put before all names, and without an estimator's scaling of pixels."""
    if any(n.startswith("model.net.") for n in theirs):
        theirs = {n: t for n, t in theirs.items() if not n.startswith("model.scale.")}
    stripped = True
    while stripped:
        stripped = False
        for prefix in _WRAPPERS:
            if theirs and all(n.startswith(prefix) for n in theirs) and not all(n.startswith(prefix) for n in own):
                theirs, stripped = {n[len(prefix) :]: t for n, t in theirs.items()}, True
    return theirs


def _last(net: nn.Module) -> str:
    """The last module that has parameters of its own."""
    *_, last = (n for n, m in net.named_modules() if next(m.parameters(recurse=False), None) is not None)
    return str(last)


def _first_layer(net: nn.Module, taken: dict[str, Tensor], how: str | None, said: str) -> list[str]:
    """Bring the kernels of the first convolution to as many channels as the net's has, where one side has one."""
    if how not in (None, "sum"):
        raise ConfigError(f"{said}: first_layer must be 'sum' or None, got {how!r}")
    found = ((n, m) for n, m in net.named_modules() if isinstance(m, nn.Conv2d))
    name, first = next(found, ("", None))
    kernels = taken.get(f"{name}.weight" if name else "weight")
    if first is None or kernels is None or kernels.ndim != 4 or first.groups != 1:
        return []
    here, there = first.in_channels, kernels.shape[1]
    # any other difference, as of their size, is none that a sum would mend
    same_else = (kernels.shape[0], *kernels.shape[2:]) == (first.out_channels, *first.kernel_size)
    if here == there or 1 not in (here, there) or not same_else:
        return []
    if how is None:
        repeats = ", which repeats the grey channel" if here == 1 else ""
        raise DataError(
            f"{said}: the first layer {name} sees {_channels(there)} in the file and {_channels(here)} here; give "
            f"channels={there}{repeats}, or first_layer='sum', which changes its kernels so that a grey picture gives "
            "what it would give there"
        )
    wide = kernels.double().sum(1, keepdim=True).expand(-1, here, -1, -1) / here
    taken[f"{name}.weight" if name else "weight"] = wide.to(torch.promote_types(kernels.dtype, torch.float32))
    what = "its kernels were added up over them" if here == 1 else "each of its kernels was divided among them"
    return [f"the first layer {name} saw {_channels(there)}, here {here}: {what}, so a grey picture gives the same"]


def _channels(count: int) -> str:
    return f"{count} channel{'s' * (count != 1)}"


def _heads(own: dict[str, Tensor], taken: dict[str, Tensor], heads: tuple[str, ...]) -> list[str]:
    """Take the heads that are to stay new out of both, and say which are and which are not."""
    notes = []
    for head in heads[1:]:  # what is called aux...; else the head itself
        top = match[0] if (match := re.match(r"(?:[^.]+\.)*?aux[^.]*", head, re.I)) else head
        if (mine := _below(own, top)) and not _below(taken, top):
            notes.append(f"{top} is not in the file: it is new")
            _drop(own, mine)
    tops = {name.split(".")[0] for name in own}
    for top in sorted({n.split(".")[0] for n in taken} - tops):
        if top.lower().startswith("aux"):  # a net that was built without its auxiliary heads
            notes.append(f"{top} of the file was left out: the net here has no such part")
            _drop(taken, _below(taken, top))
    for head in heads:
        mine, theirs = _below(own, head), _below(taken, head)
        if not mine:  # left out just now, as a whole
            continue
        there, here = _outputs(taken, theirs), _outputs(own, mine)
        if not theirs:
            notes.append(f"the head {head} is not in the file: it is new")
            _drop(own, mine)
        elif there == here:
            notes.append(f"the head {head} has {there} outputs in the file too: it was taken with the rest")
        elif mine == theirs and all(taken[n].shape[1:] == own[n].shape[1:] for n in mine):
            notes.append(f"the head {head} had {there} outputs, here {here}: it is new")
            _drop(own, mine)
            _drop(taken, mine)
    return notes


def _below(tensors: Mapping[str, Tensor], module: str) -> list[str]:
    return sorted(n for n in tensors if n.startswith(f"{module}.")) if module else sorted(tensors)


def _outputs(tensors: Mapping[str, Tensor], names: Iterable[str]) -> int | None:
    """The first dimension of a module's widest tensor, its weight."""
    shapes = [tuple(tensors[n].shape) for n in names]
    return max(shapes, key=len)[0] if any(shapes) else None


def _drop(tensors: dict[str, Tensor], names: Iterable[str]) -> None:
    for name in names:
        del tensors[name]


def _fits(own: Mapping[str, Tensor], taken: Mapping[str, Tensor], said: str) -> None:
    """Raise DataError with the differences, where there are any."""
    missing = [n for n in own if n not in taken and not n.endswith("num_batches_tracked")]
    stray = [n for n in taken if n not in own and not n.endswith("num_batches_tracked")]  # a count that nothing needs
    if not taken:
        raise DataError(
            f"{said}: nothing of the file can be taken: it has nothing but heads of other sizes, or is empty"
        )
    if not set(own) & set(taken):
        raise DataError(
            f"{said}: these are weights of another net: no name is the same. The file has {_some(taken)}; the net here "
            f"has {_some(own)}"
        )
    both = [n for n in own if n in taken]
    wrong = [n for n in both if own[n].shape != taken[n].shape]
    kinds = [n for n in both if own[n].is_floating_point() != taken[n].is_floating_point()]
    kinds += [n for n in both if taken[n].is_floating_point() and taken[n].dtype not in _FLOATS]
    lines = [f"{n} {tuple(own[n].shape)} is missing in the file" for n in missing]
    lines += [f"{n} {tuple(taken[n].shape)} of the file has no place in the net" for n in stray]
    lines += [f"{n} is {tuple(taken[n].shape)} in the file and {tuple(own[n].shape)} here" for n in wrong]
    lines += [f"{n} is {_named(taken[n])} in the file and {_named(own[n])} here" for n in kinds]
    if lines:
        more = f"\n  and {len(lines) - _SHOWN} more" if len(lines) > _SHOWN else ""
        raise DataError(
            f"{said}: these weights are not of this net; give the arguments that it was made with, or the weights of this "
            f"one. They differ in {len(lines)} place{'s' * (len(lines) > 1)}:\n  " + "\n  ".join(lines[:_SHOWN]) + more
        )


def _types(own: Mapping[str, Tensor], taken: Mapping[str, Tensor], said: str) -> list[str]:
    """What was said in other bits; raise DataError where something is not finite."""
    floats = {n: t for n, t in taken.items() if t.is_floating_point()}
    broken = [n for n, t in floats.items() if not bool(torch.isfinite(t.to(own[n].dtype)).all())]
    if broken:
        raise DataError(f"{said}: weights that are NaN or infinite: {_some(broken)}; take another file")
    other = {(_named(t), _named(own[n])) for n, t in floats.items() if t.dtype != own[n].dtype}
    return [f"the weights are {there} in the file and {here} here" for there, here in sorted(other)]


def _named(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _some(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
