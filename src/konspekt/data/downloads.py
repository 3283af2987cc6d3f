"""Well-known data sets of images, downloaded once and kept: MNIST, Fashion-MNIST, CIFAR-10.

Sizes and SHA-256 sums are those that TensorFlow Datasets publishes (its url_checksums). Of CIFAR-10 the binary version
is taken, as the one for Python is a pickle.
"""

from __future__ import annotations

import os
import tarfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from konspekt.core.errors import ConfigError, DataError, ResourceError, nearest
from konspekt.core.memory import check_room
from konspekt.data.idx import read_idx
from konspekt.data.sets import DataSet
from konspekt.data.transfer import Progress, Remote, download

__all__ = ["FETCHED", "cache_folder", "fetch", "fetched_name"]

FETCHED = ("cifar10", "fashion-mnist", "mnist")
TEST = "-test"  # behind a set's name: the part for the test

_GARMENTS = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
_THINGS = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

Part = tuple[NDArray[Any], NDArray[Any]]


@dataclass(frozen=True)
class Origin:
    """Where a set comes from. read: the folder of its files -> images and labels to train on and to test."""

    mirrors: tuple[str, ...]
    files: tuple[Remote, ...]
    read: Callable[[Path], tuple[Part, Part]]


def fetch(
    name: str,
    *,
    folder: str | Path | None = None,
    mirrors: Sequence[str] | None = None,
    progress: Progress | None = None,
) -> DataSet:
    """Bring a data set, from the folder that keeps such or from the network: "mnist", "fashion-mnist" or "cifar10".

    The set has the images to train on; its `test` has those to test, as has the name with "-test" behind it.

    folder: where the files are kept, each set in a folder of its name. None: KONSPEKT_DATA of the environment, else
        konspekt/data in XDG_CACHE_HOME, else ~/.cache/konspekt/data.
    mirrors: what to put before the names of the files in place of the known addresses, one tried after the other.
    progress: called with a file's name, the bytes that are there, and its size.

    Raises ConfigError on an unknown name, DataError where what comes is not what was published, ResourceError where
    nothing comes; the message names the addresses, and the folder where the files can be put by hand.
    """
    if not fetched_name(name):
        raise ConfigError(f"there is no data set {name!r} to fetch; {nearest(name, FETCHED)}")
    base = name.removesuffix(TEST)
    origin = ORIGINS[base]
    addresses = origin.mirrors if mirrors is None else tuple(mirrors)
    for address in addresses:
        if not isinstance(address, str) or not address.lower().startswith(("http://", "https://")):
            raise ConfigError(f"mirrors: {address!r} is no address that begins with http:// or https://")
    if not addresses:
        raise ConfigError("mirrors: the list is empty; None takes the known addresses")
    place = (cache_folder() if folder is None else Path(folder)) / base
    try:
        for file in origin.files:
            download(file, addresses, place, progress)
    except (DataError, ResourceError) as error:
        raise type(error)(f"{error}\nAll that {base} needs there: {', '.join(f.name for f in origin.files)}") from None
    (X, y), (X_test, y_test) = origin.read(place)
    test = DataSet(base + TEST, X_test, y_test, "image-classification")
    return test if name.endswith(TEST) else DataSet(base, X, y, "image-classification", test)


def fetched_name(name: str) -> bool:
    """Whether `fetch` knows the name."""
    return name.removesuffix(TEST) in FETCHED


def cache_folder() -> Path:
    """Where downloaded sets are kept, by the environment."""
    if given := os.environ.get("KONSPEKT_DATA"):
        return Path(given).expanduser()
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "konspekt" / "data"


def _read_mnist(names: Sequence[str] | None) -> Callable[[Path], tuple[Part, Part]]:
    """A reader of four idx files. names: of the classes; None: they are the digits."""

    def part(folder: Path, which: str) -> Part:
        images = read_idx(folder / f"{which}-images-idx3-ubyte.gz")
        labels = read_idx(folder / f"{which}-labels-idx1-ubyte.gz")
        return images, labels.astype(np.int64) if names is None else np.array(names)[labels]

    return lambda folder: (part(folder, "train"), part(folder, "t10k"))


def _read_cifar(folder: Path) -> tuple[Part, Part]:
    """The files of the archive, each with 10,000 records: a byte of the class, then 3 x 32 x 32 of red, green, blue."""
    path, size = folder / "cifar-10-binary.tar.gz", RECORDS * RECORD
    names = [f"cifar-10-batches-bin/{n}.bin" for n in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch")]
    check_room(2 * len(names) * size, f"{path}: CIFAR-10")
    found: dict[str, NDArray[np.uint8]] = {}
    try:
        with tarfile.open(path, "r:gz") as archive:
            for member in archive:  # nothing is unpacked onto the disk, and no other entry is looked at
                if member.name not in names:
                    continue
                file = archive.extractfile(member) if member.isreg() and member.size == size else None
                if file is None or member.name in found:
                    raise DataError(f"{path}: {member.name} is no plain file of {size:,} bytes, or is there twice")
                found[member.name] = np.frombuffer(file.read(), dtype=np.uint8).reshape(-1, RECORD)
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: not readable as an archive ({error})") from None
    gone = [name for name in names if name not in found]
    if gone:
        raise DataError(f"{path}: {gone[0]} is not in the archive")
    parts = [np.concatenate([found[n] for n in some]) for some in (names[:-1], names[-1:])]
    train, test = ((p[:, 1:].reshape(-1, 3, 32, 32), np.array(_THINGS)[p[:, 0]]) for p in parts)
    return train, test


RECORDS, RECORD = 10_000, 1 + 3 * 32 * 32

ORIGINS = {
    "mnist": Origin(
        ("https://ossci-datasets.s3.amazonaws.com/mnist", "https://storage.googleapis.com/cvdf-datasets/mnist"),
        (
            Remote(
                "train-images-idx3-ubyte.gz",
                9912422,
                "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
            ),
            Remote(
                "train-labels-idx1-ubyte.gz",
                28881,
                "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
            ),
            Remote(
                "t10k-images-idx3-ubyte.gz",
                1648877,
                "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
            ),
            Remote(
                "t10k-labels-idx1-ubyte.gz",
                4542,
                "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
            ),
        ),
        _read_mnist(None),
    ),
    "fashion-mnist": Origin(
        (
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",
            "https://storage.googleapis.com/tensorflow/tf-keras-datasets",
            "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion",
        ),
        (
            Remote(
                "train-images-idx3-ubyte.gz",
                26421880,
                "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
            ),
            Remote(
                "train-labels-idx1-ubyte.gz",
                29515,
                "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
            ),
            Remote(
                "t10k-images-idx3-ubyte.gz",
                4422102,
                "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
            ),
            Remote(
                "t10k-labels-idx1-ubyte.gz",
                5148,
                "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
            ),
        ),
        _read_mnist(_GARMENTS),
    ),
    "cifar10": Origin(
        ("https://www.cs.toronto.edu/~kriz", "https://storage.googleapis.com/s4tf-hosted-binaries/datasets/CIFAR10"),
        (
            Remote(
                "cifar-10-binary.tar.gz",
                170052171,
                "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
            ),
        ),
        _read_cifar,
    ),
}
