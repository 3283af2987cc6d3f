"""A fit on a Ray cluster: the same code in several processes that Ray starts. Field `backend`.

Ray starts the processes and introduces them to each other; from there on the fit is that of `processes.py`. Process 0 writes
the run and the model into a folder that all of them must see; the estimator that was asked takes the model from there.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sklearn.base import clone

from konspekt.core.errors import ConfigError, KonspektError, ResourceError
from konspekt.core.estimator import peek
from konspekt.core.folders import read_tensors
from konspekt.core.params import split_call
from konspekt.core.runs import Run

if TYPE_CHECKING:
    from konspekt.engine.neural import NeuralEstimator

__all__ = ["fit_on_ray", "processes_of"]


def processes_of(backend: str, where: str) -> int | None:
    """How many processes a cluster is to start: None for "local", 0 for as many as it has devices.

    Raises ConfigError where the text names no backend.
    """
    name, arguments = split_call(backend, f"{where}: backend")
    count = arguments.pop("processes", 0)
    wrong = (
        name not in ("local", "ray") or arguments or isinstance(count, bool) or not isinstance(count, int) or count < 0
    )
    if wrong or (name == "local" and count):
        raise ConfigError(f"{where}: backend must be 'local', 'ray' or 'ray(processes=N)', got {backend!r}")
    return count if name == "ray" else None


def fit_on_ray(
    estimator: NeuralEstimator, count: int, X: Any, y: Any, validation: Any, resume: str | Path | None
) -> None:
    """Fit on the cluster that this process is connected to, or on a local one that is started for it.

    count: of processes; 0: one for each GPU of the cluster, or for each CPU.

    Raises ConfigError where Ray is not installed, ResourceError where the cluster fails, and what `fit` raises.
    """
    try:
        import ray
        from ray.train import RunConfig, ScalingConfig
        from ray.train.torch import TorchTrainer
    except ImportError:
        raise ConfigError(
            "backend='ray' needs the package ray: pip install 'konspekt[ray]', or leave backend out"
        ) from None
    started = not ray.is_initialized()
    if started:
        os.environ.setdefault("RAY_AUTH_MODE", "disabled")  # or it writes a token into the home folder
        ray.init(include_dashboard=False, log_to_driver=estimator.verbose, logging_level="warning")
    resources = ray.cluster_resources()
    gpus = int(resources.get("GPU", 0)) if estimator.device in ("auto", "cuda") else 0
    count = count or gpus or max(int(resources.get("CPU", 1)), 1)
    try:
        with tempfile.TemporaryDirectory(prefix="konspekt-") as scratch:
            home = Path(estimator.run_dir or resume or Path(scratch) / "run").absolute()
            one = clone(estimator).set_params(backend="local", run_dir=str(home))
            job = {"estimator": one, "data": (X, y, validation), "resume": None if resume is None else str(home)}
            trainer = TorchTrainer(
                _work,
                train_loop_config=job,
                scaling_config=ScalingConfig(num_workers=count, use_gpu=gpus > 0),
                run_config=RunConfig(storage_path=str(Path(scratch) / "ray")),
            )
            try:
                trainer.fit()
            except Exception as error:
                cause = _ours(error)
                if cause is not None:
                    raise cause from None
                raise ResourceError(f"the Ray cluster failed: {' '.join(str(error).split())[:400]}") from error
            if not (home / "model").is_dir():
                raise ResourceError(
                    f"{home} does not hold the model: the cluster's machines must share this folder; give run_dir"
                )
            config = peek(home / "model")
            estimator.restore(config["learned"], read_tensors(home / "model" / "weights.safetensors"))
            run = Run(home, resume=True)
            run.close()
            if estimator.run_dir is None and resume is None:
                run.path = None
            estimator.run_, estimator.history_, estimator.n_iter_ = run, run.history, len(run.history)
    finally:
        if started:
            ray.shutdown()


def _work(job: dict[str, Any]) -> None:
    """What each of Ray's processes does; they have met each other already."""
    X, y, validation = job["data"]
    job["estimator"].fit(X, y, validation=validation, resume=job["resume"])


def _ours(error: BaseException | None) -> KonspektError | None:
    """The error of ours that a cluster's error was made of."""
    seen: set[int] = set()
    todo: list[Any] = [error]
    while todo:
        one = todo.pop()
        if one is None or id(one) in seen or not isinstance(one, BaseException):
            continue
        seen.add(id(one))
        if isinstance(one, KonspektError):
            return one
        todo += [one.__cause__, one.__context__, getattr(one, "cause", None)]
        todo += list((getattr(one, "worker_failures", None) or {}).values())
    return None
