"""Whole fits beside those of skorch, Lightning, Keras 3 (on torch) and scikit-learn: the same net, batches, epochs and rate.

    python benchmarks/peers.py --adult adult-train.csv.gz --mnist FOLDER        all of it; writes benchmarks/PEERS.md
    python benchmarks/peers.py --adult adult-train.csv.gz --mnist FOLDER --quick    few turns; prints, writes nothing

pip install -e ".[bench]" brings the peers. Each is used in the fastest way that was found: batches are cut from tensors by
an index (one `__getitem__` with a list, no collation item by item), callbacks, logging, progress and checkpoints are off. One side
does not see what another prepared: all get the same float32 array, and for images the same float32 tensor, in memory. A fit is timed from
the call to its end, after one that is not counted. Turns alternate; the figure is the ratio of the medians, ours over
the peer's, with the least and the largest ratio of a turn. What does not import is named with its error.
"""

from __future__ import annotations

import argparse
import copy
import logging
import os
import statistics
import time
import warnings
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("KERAS_BACKEND", "torch")

import numpy as np
import torch
from engine import SEED, against, alternate, machine_lines, say
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import BatchSampler, DataLoader, Dataset, RandomSampler, SequentialSampler

import konspekt
from konspekt.data.idx import read_idx
from konspekt.vision.nets.lenet import lenet

RESULTS = Path(__file__).parent / "PEERS.md"
BATCH, LR = 64, 1e-3
WORDS = (
    "Seconds are medians of whole fits; the ratio is ours over theirs, of the medians, with the least and the largest of a turn. "
    "The accuracy is of held-out items, mean and standard deviation over the turns."
)
Fit = Callable[[], tuple[float, Callable[[np.ndarray], np.ndarray]]]  # seconds, and what predicts classes


class Rows(Dataset[tuple[Tensor, Tensor]]):
    """A data set that is asked for a whole batch by a list of indices."""

    def __init__(self, x: Tensor, y: Tensor) -> None:
        self.x, self.y = x, y

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: list[int]) -> tuple[Tensor, Tensor]:
        part = torch.as_tensor(index)
        return self.x.index_select(0, part), self.y.index_select(0, part)


def loader(x: Tensor, y: Tensor, *, shuffle: bool = True) -> DataLoader[tuple[Tensor, Tensor]]:
    rows = Rows(x, y)
    order = RandomSampler(rows) if shuffle else SequentialSampler(rows)
    return DataLoader(rows, batch_size=None, sampler=BatchSampler(order, BATCH, drop_last=False))


def by_torch(net: nn.Module) -> Callable[[np.ndarray], np.ndarray]:
    @torch.no_grad()
    def predict(x: np.ndarray) -> np.ndarray:
        return net.eval()(torch.from_numpy(x)).argmax(1).numpy()

    return predict


def skorch_fit(net: nn.Module, x: np.ndarray, y: np.ndarray, epochs: int) -> Fit:
    from skorch import NeuralNetClassifier

    def fit() -> tuple[float, Callable[[np.ndarray], np.ndarray]]:
        torch.manual_seed(SEED)
        rows = Rows(torch.from_numpy(x), torch.from_numpy(y))
        model = NeuralNetClassifier(
            copy.deepcopy(net), criterion=nn.CrossEntropyLoss, optimizer=torch.optim.Adam, optimizer__fused=True, lr=LR,
            max_epochs=epochs, batch_size=BATCH, train_split=None, callbacks=None, callbacks__valid_acc=None,
            callbacks__print_log=None, callbacks__epoch_timer=None, verbose=0, classes=[*range(int(y.max()) + 1)],
            iterator_train__batch_size=None, iterator_train__sampler=BatchSampler(RandomSampler(rows), BATCH, False),
        )  # fmt: skip
        start = time.perf_counter()
        model.fit(rows, y=None)
        return time.perf_counter() - start, by_torch(model.module_)

    return fit


def lightning_fit(net: nn.Module, x: np.ndarray, y: np.ndarray, epochs: int) -> Fit:
    import lightning

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = copy.deepcopy(net)

        def training_step(self, batch: tuple[Tensor, Tensor], number: int) -> Tensor:
            return F.cross_entropy(self.net(batch[0]), batch[1])

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.Adam(self.parameters(), lr=LR, fused=True)

    def fit() -> tuple[float, Callable[[np.ndarray], np.ndarray]]:
        torch.manual_seed(SEED)
        module, batches = Module(), loader(torch.from_numpy(x), torch.from_numpy(y))
        start = time.perf_counter()
        trainer = lightning.Trainer(
            max_epochs=epochs, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
            enable_model_summary=False, barebones=True,
        )  # fmt: skip
        trainer.fit(module, batches)
        return time.perf_counter() - start, by_torch(module.net)

    return fit


def keras_fit(layers: Callable[[], list[object]], x: np.ndarray, y: np.ndarray, epochs: int) -> Fit:
    import keras

    def fit() -> tuple[float, Callable[[np.ndarray], np.ndarray]]:
        keras.utils.set_random_seed(SEED)
        model = keras.Sequential(layers())
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(optimizer=keras.optimizers.Adam(LR), loss=loss)
        start = time.perf_counter()
        model.fit(x, y, batch_size=BATCH, epochs=epochs, verbose=0, shuffle=True)
        return time.perf_counter() - start, lambda x: model.predict(x, batch_size=1024, verbose=0).argmax(1)

    return fit


def sklearn_fit(x: np.ndarray, y: np.ndarray, epochs: int) -> Fit:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier

    def fit() -> tuple[float, Callable[[np.ndarray], np.ndarray]]:
        model = MLPClassifier(
            (64, 64), alpha=0.0, batch_size=BATCH, learning_rate_init=LR, max_iter=epochs, n_iter_no_change=epochs + 1,
            tol=0.0, random_state=SEED,
        )  # fmt: skip
        start = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(x, y)
        return time.perf_counter() - start, model.predict

    return fit


def table_task(path: Path, epochs: int) -> tuple[dict[str, Callable[[], Fit]], tuple[np.ndarray, np.ndarray]]:
    """adult as one float32 matrix: standardised numbers and 0/1 columns; a fifth is held out."""
    import pandas as pd

    frame = pd.read_csv(path)
    y = (frame.pop(frame.columns[-1]).astype(str).str.contains(">")).to_numpy().astype(np.int64)
    numbers = frame.select_dtypes("number")
    columns = [(numbers - numbers.mean()) / numbers.std(), pd.get_dummies(frame.select_dtypes(exclude="number"))]
    x = np.concatenate([c.to_numpy(np.float32) for c in columns], axis=1)
    cut = len(x) * 4 // 5
    x_train, y_train = np.ascontiguousarray(x[:cut]), y[:cut]

    def net() -> nn.Module:
        torch.manual_seed(SEED)
        width = x.shape[1]
        return nn.Sequential(nn.Linear(width, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2))

    def layers() -> list[object]:
        import keras

        return [keras.Input((x.shape[1],)), *(keras.layers.Dense(64, "relu") for _ in range(2)), keras.layers.Dense(2)]

    def ours() -> tuple[float, Callable[[np.ndarray], np.ndarray]]:
        model = konspekt.MLPClassifier(hidden=(64, 64), epochs=epochs, batch_size=BATCH, lr=LR, random_state=SEED)
        start = time.perf_counter()
        model.fit(x_train, y_train)
        return time.perf_counter() - start, model.predict

    made: dict[str, Callable[[], Fit]] = {
        "konspekt": lambda: ours,
        "skorch": lambda: skorch_fit(net(), x_train, y_train, epochs),
        "lightning": lambda: lightning_fit(net(), x_train, y_train, epochs),
        "keras": lambda: keras_fit(layers, x_train, y_train, epochs),
        "scikit-learn": lambda: sklearn_fit(x_train, y_train, epochs),
    }
    return made, (x[cut:], y[cut:])


def image_task(
    folder: Path, epochs: int, most: int
) -> tuple[dict[str, Callable[[], Fit]], tuple[np.ndarray, np.ndarray]]:
    """mnist, padded to 32 x 32, standardised."""

    def read(split: str, count: int) -> tuple[np.ndarray, np.ndarray]:
        pixels = read_idx(folder / f"{split}-images-idx3-ubyte.gz")[:count]
        x = np.pad(pixels, ((0, 0), (2, 2), (2, 2)))[:, None].astype(np.float32)
        return (x - 33.3) / 78.6, read_idx(folder / f"{split}-labels-idx1-ubyte.gz")[:count].astype(np.int64)

    (x, y), held = read("train", most), read("t10k", 2000)

    def net() -> nn.Module:
        torch.manual_seed(SEED)
        return lenet(1, 10, (32, 32))

    def layers() -> list[object]:
        import keras

        first = "channels_first"
        made: list[object] = [keras.Input((1, 32, 32))]
        for maps in (6, 16):
            made += [
                keras.layers.Conv2D(maps, 5, activation="relu", data_format=first),
                keras.layers.MaxPooling2D(2, data_format=first),
            ]
        made += [
            keras.layers.Flatten(),
            keras.layers.Dense(120, "relu"),
            keras.layers.Dense(84, "relu"),
            keras.layers.Dense(10),
        ]
        return made

    def ours() -> tuple[float, Callable[[np.ndarray], np.ndarray]]:
        model = konspekt.ImageClassifier(arch="lenet", epochs=epochs, batch_size=BATCH, lr=LR, random_state=SEED)
        start = time.perf_counter()
        model.fit(x, y)
        return time.perf_counter() - start, model.predict

    made: dict[str, Callable[[], Fit]] = {
        "konspekt": lambda: ours,
        "skorch": lambda: skorch_fit(net(), x, y, epochs),
        "lightning": lambda: lightning_fit(net(), x, y, epochs),
        "keras": lambda: keras_fit(layers, x, y, epochs),
    }
    return made, held


def compare(
    what: str, made: dict[str, Callable[[], Fit]], held: tuple[np.ndarray, np.ndarray], threads: int, turns: int
) -> list[str]:
    """Rows of the table: ours against each peer."""
    torch.set_num_threads(threads)
    fits: dict[str, Fit] = {}
    rows = []
    for name, make in made.items():
        try:
            fits[name] = make()
        except ImportError as error:
            rows.append(f"| {what}, {threads} thread(s) | {name} | did not import: {str(error)[:100]} | | | |")
    scores: dict[str, list[float]] = {name: [] for name in fits}

    def timed(name: str) -> Callable[[], float]:
        def run() -> float:
            seconds, predict = fits[name]()
            scores[name].append(float((np.asarray(predict(held[0])) == held[1]).mean()))
            return seconds

        return run

    seconds = alternate({name: timed(name) for name in fits}, turns)
    for name in fits:
        middle = statistics.median(seconds[name])
        accuracy = f"{statistics.mean(scores[name]):.4f} +- {statistics.pstdev(scores[name]):.4f}"
        ratio, limit, verdict = "1", "", ""
        if name != "konspekt":
            value, least, most = against(seconds["konspekt"], seconds[name])
            bound = (1.05 if name == "scikit-learn" else 0.5) if "adult" in what else 1.0
            ratio, limit, verdict = (
                f"{value:.3f} ({least:.3f} to {most:.3f})",
                f"{bound:g}",
                "met" if value <= bound else "missed",
            )
        rows.append(
            f"| {what}, {threads} thread(s) | {name} | {middle:.2f} s | {ratio} | {limit} {verdict} | {accuracy} |"
        )
        say(rows[-1])
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--adult", type=Path, required=True, help="adult-train.csv.gz: the last column is the income")
    parser.add_argument("--mnist", type=Path, required=True, help="the folder with mnist's four idx files")
    parser.add_argument("--quick", action="store_true", help="few turns; print only")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    turns, epochs, most = (2, 1, 3200) if given.quick else (9, 3, 12800)
    rows = []
    for threads in (1, 2):
        made, held = table_task(given.adult, epochs)
        rows += compare(f"MLP 64-64 on adult, batch 64, {epochs} epochs", made, held, threads, turns)
        made, held = image_task(given.mnist, 1, most)
        rows += compare(f"LeNet on {most} of mnist, batch 64, 1 epoch", made, held, threads, turns)
    if given.quick:
        return
    packages = ("konspekt", "torch", "skorch", "lightning", "keras", "scikit-learn", "numpy")
    found = []
    for package in packages:
        try:
            found.append(f"{package} {version(package)}")
        except ImportError:
            found.append(f"{package} not installed")
    text = [
        "# Whole fits beside other libraries", "",
        f"Written by `python benchmarks/peers.py`, {turns} turns of each side after one that is not counted.", "",
        *machine_lines(), f"- {', '.join(found)}", "",
        WORDS, "",
        "| what | library | time | ratio | limit | accuracy |", "|---|---|---|---|---|---|", *rows, "",
    ]  # fmt: skip
    RESULTS.write_text("\n".join(text), encoding="utf-8")
    say(f"wrote {RESULTS.name}")


if __name__ == "__main__":
    main()
