"""Checkpoints: all that a run needs to go on to the bit, as safetensors and JSON.

A folder `checkpoint/STAGE-STEP` is written aside, flushed and renamed, its manifest last (core.folders), so a kill at
any moment leaves the one before. `checkpoint/STAGE-finished` is the end of a stage.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from konspekt.core import folders
from konspekt.core.errors import DataError

__all__ = ["Writer", "join", "newest", "prune", "read", "split", "write"]

FINISHED = "finished"
_LARGE = 64 << 20  # bytes of tensors from which on a checkpoint is written while training goes on
_NAME = re.compile(r"(?P<stage>[\w-]+)-(?P<step>\d{9}|finished)")


def split(tree: Any, tensors: dict[str, Tensor], name: str = "") -> Any:
    """Take the tensors out of a tree of dicts, lists and JSON; {"$tensor": name} stands in their places.

    Raises TypeError, for whoever writes an objective, on a value that is neither.
    """
    if isinstance(tree, Tensor):
        while name in tensors:  # of {"a.b": x, "a": {"b": y}}
            name += "+"
        tensors[name] = tree
        return {"$tensor": name}
    if isinstance(tree, Mapping):
        if all(isinstance(k, str) and not k.startswith("$") for k in tree):
            return {k: split(v, tensors, f"{name}.{k}") for k, v in tree.items()}
        return {"$items": [[split(k, tensors), split(v, tensors, f"{name}.{k}")] for k, v in tree.items()]}
    if isinstance(tree, (list, tuple)):
        parts = [split(v, tensors, f"{name}.{i}") for i, v in enumerate(tree)]
        return parts if isinstance(tree, list) else {"$tuple": parts}
    if tree is None or isinstance(tree, (bool, int, float, str)):
        return tree
    raise TypeError(f"state at {name or 'top'} must be tensors and JSON, got {type(tree).__name__}")


def join(tree: Any, tensors: Mapping[str, Tensor]) -> Any:
    """The inverse of `split`."""
    if isinstance(tree, list):
        return [join(v, tensors) for v in tree]
    if not isinstance(tree, dict):
        return tree
    if set(tree) == {"$tensor"}:
        return tensors[tree["$tensor"]]
    if set(tree) == {"$tuple"}:
        return tuple(join(v, tensors) for v in tree["$tuple"])
    if set(tree) == {"$items"}:
        return {join(k, tensors): join(v, tensors) for k, v in tree["$items"]}
    return {k: join(v, tensors) for k, v in tree.items()}


def write(parent: Path, stage: str, step: int | None, state: dict[str, Any]) -> Path:
    """Write a checkpoint; `step` None: the stage is finished.

    Raises ResourceError where the disk refuses; older checkpoints stay.
    """
    tensors: dict[str, Tensor] = {}
    tree = split(state, tensors, "state")
    return _write(parent, stage, step, tree, tensors, copy=True)


def _write(parent: Path, stage: str, step: int | None, tree: Any, tensors: dict[str, Tensor], *, copy: bool) -> Path:
    folder = parent / (f"{stage}-{FINISHED}" if step is None else f"{stage}-{step:09d}")
    folders.write_folder(
        folder, {"state.json": folders.json_bytes(tree), "tensors.safetensors": folders.tensor_file(tensors, copy=copy)}
    )
    return folder


class Writer:
    """Writes checkpoints; large ones from a copy in memory, by a thread, while training goes on."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def write(
        self, parent: Path, stage: str, step: int | None, state: dict[str, Any], done: Callable[[], None]
    ) -> None:
        """Write a checkpoint, then call `done`; one that is still being written is waited for.

        Raises ResourceError where the disk refuses, also of the one before.
        """
        self.wait()
        tensors: dict[str, Tensor] = {}
        tree = split(state, tensors, "state")
        if step is None or sum(t.nbytes for t in tensors.values()) < _LARGE:
            _write(parent, stage, step, tree, tensors, copy=True)
            done()
            return
        copies = {name: t.detach().to("cpu", copy=True).contiguous() for name, t in tensors.items()}

        def work() -> None:
            try:
                _write(parent, stage, step, tree, copies, copy=False)
                done()
            except BaseException as error:  # noqa: BLE001, `wait` raises it in the thread that trains
                self._error = error

        self._thread = threading.Thread(target=work, name="checkpoint")
        self._thread.start()

    def wait(self) -> None:
        """Go on when what is being written is written.

        Raises ResourceError where the disk refused.
        """
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        error, self._error = self._error, None
        if error is not None:
            raise error


def read(folder: Path) -> dict[str, Any]:
    """Read a checkpoint back.

    Raises DataError that names the damaged file.
    """
    folders.verify(folder, ("state.json", "tensors.safetensors"))
    tensors = folders.read_tensors(folder / "tensors.safetensors")
    tree = folders.read_json(folder / "state.json")
    try:
        state = join(tree, tensors)
    except KeyError as error:
        raise DataError(f"{folder / 'state.json'}: names a tensor {str(error)[:80]} that is not there") from None
    except (TypeError, ValueError, RecursionError) as error:  # a tensor, tuple or mapping that is written otherwise
        raise DataError(
            f"{folder / 'state.json'}: not the state of a run ({str(error)[:80]}); do not trust it"
        ) from None
    if not isinstance(state, dict):
        raise DataError(f"{folder / 'state.json'}: not the state of a run")
    return state


def newest(parent: Path, stage: str) -> tuple[dict[str, Any], bool, list[str]] | None:
    """The newest checkpoint of a stage that is whole: its state, whether the stage is finished, and what was damaged.

    Damaged ones that it takes the place of are removed, or they would count as the newest to `prune`. None where there
    is none at all. Raises DataError where all there are are damaged, and leaves them.
    """
    found = []
    for path in parent.iterdir() if parent.is_dir() else ():
        match = _NAME.fullmatch(path.name)
        if match and match["stage"] == stage:
            found.append((match["step"] == FINISHED, match["step"], path))
    damaged: dict[Path, str] = {}
    for finished, _, path in sorted(found, reverse=True):
        try:
            state = read(path)
        except DataError as error:
            damaged[path] = str(error)
            continue
        for bad in damaged:
            folders.remove(bad)
        return state, finished, list(damaged.values())
    if damaged:
        raise DataError("no checkpoint of this run can be read: " + "; ".join(damaged.values()))
    return None


def prune(parent: Path, stage: str, keep: int, finished: bool) -> None:
    """Remove the stage's older checkpoints, all of them if it is finished, and what a kill left half written."""
    for part in parent.glob(".*"):
        folders.remove(part)
    steps = sorted(
        p for p in parent.iterdir() if (m := _NAME.fullmatch(p.name)) and m["stage"] == stage and m["step"] != FINISHED
    )
    for path in steps if finished else steps[:-keep]:
        folders.remove(path)


def random_state(device: torch.device) -> dict[str, Tensor]:
    """The state of torch's generators."""
    state = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    elif device.type == "mps":
        state["mps"] = torch.mps.get_rng_state()
    return state


def set_random_state(state: Mapping[str, Tensor], device: torch.device) -> None:
    """Set torch's generators to a state."""
    torch.set_rng_state(state["cpu"].cpu())
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"].cpu(), device)
    elif device.type == "mps" and "mps" in state:
        torch.mps.set_rng_state(state["mps"].cpu())
