"""A process that is killed, and a plug-in package from outside with toys of its own."""

import contextlib
import importlib
import os
import signal
import sys
import warnings
from pathlib import Path

import pytest
import torch

from konspekt.core.registry import entries
from konspekt.core.runs import Run
from konspekt.engine import Training, minimise
from konspekt.engine.session import surroundings

PLUGIN = '''
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from torch import nn

from konspekt.core.params import AtLeast
from konspekt.core.registry import system
from konspekt.data.fields import Ragged
from konspekt.data.readers import Encoded, Learned, Opened
from konspekt.engine import NeuralClassifier
from konspekt.engine.supervised import Classification

seen = []  # what the optimiser's closure gave, in order


class Vocabulary:
    def __init__(self, size):
        self.size = size

    def to_json(self):
        return {"size": self.size}


def ragged(X):
    return Ragged.of([torch.tensor(x, dtype=torch.int64) for x in X])


class SequenceReader:
    """Lists of lists of small numbers."""

    def open(self, estimator, X, y):
        return Opened(X, len(X), np.asarray(y))

    def learn(self, estimator, opened, train):
        schema = Vocabulary(1 + max(max(x) for x in opened.data))
        return Learned(schema, {"x": ragged(opened.data)}, dict, [], lambda item: {"row": {"x": opened.data[item]}})

    def encode(self, estimator, X, y=None, *, truth=False, on_bad="raise"):
        return Encoded({"x": ragged(X)}, y, list(range(len(X))))

    def schema(self, value):
        return Vocabulary(value["size"])


class Bag(nn.Module):
    """Mean of embeddings over the places that the mask leaves."""

    def __init__(self, size, classes):
        super().__init__()
        self.table, self.drop, self.out = nn.Embedding(size, 6), nn.Dropout(0.3), nn.Linear(6, classes)

    def forward(self, x, mask):
        assert x.shape == mask.shape
        kept = self.drop(self.table(x)) * mask[..., None]
        return self.out(kept.sum(1) / mask.sum(1, keepdim=True))


@system(name="toy-bag", kind="estimator")
@dataclass(kw_only=True, eq=False, repr=False)
class BagClassifier(NeuralClassifier):
    """Classify sequences by the mean of their embeddings."""

    reader = SequenceReader()
    by_length = "x"

    def build(self, schema, targets):
        return Classification(Bag(schema.size, targets.num_classes), self.class_weights_, fields=("x", "x_mask"))


class Pieces(Bag):
    """The same without padding."""

    def forward(self, x):
        assert isinstance(x, Ragged)
        mean = nn.functional.embedding_bag(x.values, self.table.weight, x.offsets[:-1], mode="mean")
        return self.out(mean)


class PiecesLoss(Classification):
    collate = {"x": "ragged"}


@system(name="toy-pieces", kind="estimator")
@dataclass(kw_only=True, eq=False, repr=False)
class PiecesClassifier(BagClassifier):
    """Classify sequences by the mean of their embeddings, without padding."""

    def build(self, schema, targets):
        return PiecesLoss(Pieces(schema.size, targets.num_classes), self.class_weights_, fields=("x",))


class Repeat(torch.optim.Optimizer):
    """Asks the closure several times, then goes down the last gradient."""

    def __init__(self, groups, lr, times):
        super().__init__(groups, {"lr": lr})
        self.times = times

    def step(self, closure):
        losses = [closure().item() for _ in range(self.times)]
        seen.append(losses)
        with torch.no_grad():
            for group in self.param_groups:
                for w in group["params"]:
                    w.add_(w.grad, alpha=-group["lr"])
        return losses[0]


@system(name="toy-repeat", kind="optimizer")
def repeat(groups, lr, *, times: Annotated[int, AtLeast(1)] = 1):
    """Descent that evaluates several times."""
    return Repeat(groups, lr, times)
'''


@pytest.fixture(scope="module")
def plugin(tmp_path_factory):
    """A package that is installed, as far as Python can tell, and registers toys by its entry point."""
    site = tmp_path_factory.mktemp("site")
    (site / "konspekt_toys.py").write_text(PLUGIN)
    info = site / "konspekt_toys-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: konspekt-toys\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[konspekt.systems]\ntoys = konspekt_toys\n")
    sys.path.insert(0, str(site))
    importlib.invalidate_caches()
    entries.cache_clear()
    yield importlib.import_module("konspekt_toys")
    sys.path.remove(str(site))
    sys.modules.pop("konspekt_toys")
    importlib.invalidate_caches()
    entries.cache_clear()


def _fork(work):
    """A process of its own group that does `work` and ends with the code of its SystemExit, or 3."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of threads; torch's are asleep
        child = os.fork()
    if child:
        return child
    code = 3
    try:
        os.setpgid(0, 0)
        work()
        code = 0
    except SystemExit as stop:
        code = stop.code
    except BaseException as error:  # noqa: BLE001, the parent's pytest must not go on in the child
        os.write(2, f"{type(error).__name__}: {error}\n".encode())
    finally:
        os._exit(code)


@pytest.fixture
def fork():
    """`fork(work)` -> the process id; what is still alive at the end of the test is killed."""
    children = []

    def start(work):
        children.append(_fork(work))
        return children[-1]

    yield start
    for child in children:
        with contextlib.suppress(ChildProcessError, ProcessLookupError):
            if os.waitpid(child, os.WNOHANG) == (0, 0):
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)


@pytest.fixture
def killed(fork):
    """Run `work` in a process of its own, which must die by SIGKILL."""

    def check(work):
        _, status = os.waitpid(fork(work), 0)
        assert os.WIFSIGNALED(status), f"ended by itself with code {os.waitstatus_to_exitcode(status)}"
        assert os.WTERMSIG(status) == signal.SIGKILL

    return check


@pytest.fixture
def train():
    """`train(objective, batches, path, resume=..., ...)`: one stage in a run, seeded, with the surroundings of a fit."""

    def minimised(objective, batches, path=None, *, resume=False, validation=None, callbacks=(), **training):
        training = {"epochs": 2, "lr": 0.1, "optimizer": "sgd"} | training
        with surroundings(torch.device("cpu"), 0), contextlib.closing(Run(path, resume=resume)) as run:
            return minimise(
                objective, batches, Training(**training), run=run, validation=validation, callbacks=callbacks
            )

    return minimised


@pytest.fixture
def die():
    """`die(step, stage="fit")`: a callback that sends SIGKILL to its own process after a step."""

    def at(step, stage="fit"):
        def callback(moment):
            if moment.event == "step" and (moment.stage, moment.step) == (stage, step):
                os.kill(os.getpid(), signal.SIGKILL)

        return callback

    return at


@pytest.fixture
def bits():
    """`bits(module)`: its parameters and buffers as bytes, by name."""

    def of(module):
        return {name: t.detach().numpy().tobytes() for name, t in module.state_dict().items()}

    return of


@pytest.fixture
def model_bytes():
    """`model_bytes(run folder)`: the weights of the model that it holds."""
    return lambda path: (Path(path) / "model" / "weights.safetensors").read_bytes()
