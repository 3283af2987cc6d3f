"""idx files: read by the format's own description, refused where they are damaged, taken as images and labels."""

import gzip
import struct

import numpy as np
import pytest
from PIL import Image

from konspekt import ImageClassifier, load
from konspekt.core import memory
from konspekt.core.errors import DataError, ResourceError
from konspekt.data.idx import is_idx, labels_beside, read_idx

CODES = {"u1": 8, "i1": 9, "i2": 11, "i4": 12, "f4": 13, "f8": 14}


def idx(array, code=None):
    """The bytes of an idx file, written down from the format's description."""
    array = np.asarray(array)
    kind = f"{array.dtype.kind}{array.dtype.itemsize}"
    head = struct.pack(f">BBBB{array.ndim}I", 0, 0, code or CODES[kind], array.ndim, *array.shape)
    letter = {"u1": "B", "i1": "b", "i2": "h", "i4": "i", "f4": "f", "f8": "d"}[kind]
    return head + struct.pack(f">{array.size}{letter}", *array.ravel().tolist())


@pytest.mark.parametrize("kind", CODES)
@pytest.mark.parametrize("shape", [(5,), (2, 3), (2, 3, 4), (2, 1, 3, 2)], ids=str)
def test_every_type_and_shape_is_read(tmp_path, kind, shape):
    rng = np.random.default_rng(0)
    array = rng.normal(size=shape) * 50 if kind[0] == "f" else rng.integers(-100, 100, size=shape)
    array = np.abs(array).astype(kind) if kind[0] == "u" else array.astype(kind)
    (tmp_path / "a").write_bytes(idx(array))
    (tmp_path / "a.gz").write_bytes(gzip.compress(idx(array)))
    for path in (tmp_path / "a", str(tmp_path / "a.gz")):
        found = read_idx(path)
        assert found.dtype == np.dtype(kind)
        assert found.flags.writeable
        np.testing.assert_array_equal(found, array)
        assert is_idx(path)  # by its first bytes


WHOLE = idx(np.arange(24, dtype=np.uint8).reshape(2, 3, 4))
DAMAGE = {
    "nothing": (b"", "not an idx file: it begins with nothing"),
    "text": (b"a,b\n1,2\n", "not an idx file: it begins with 61 2c 62 0a, not with 00 00 and a type"),
    "a wrong type": (WHOLE[:2] + b"\x0a" + WHOLE[3:], "not an idx file: it begins with 00 00 0a 03"),
    "no axes": (WHOLE[:3] + b"\0" + WHOLE[4:], "its header says 0 axes"),
    "a cut header": (WHOLE[:11], "its header says 3 axes, and 1 lengths follow"),
    "a cut body": (WHOLE[:-1], "promises 2 x 3 x 4 numbers in 24 bytes, but 23 follow: the file is cut"),
    "bytes left over": (WHOLE + b"\0", "bytes follow after the 2 x 3 x 4 numbers"),
    "no items": (struct.pack(">BBBBII", 0, 0, 8, 2, 0, 4), "the file is empty: its shape is 0 x 4"),
    "a huge header": (struct.pack(">BBBBIII", 0, 0, 14, 3, *[2**32 - 1] * 3), "the whole file has 16"),
}


@pytest.mark.parametrize(("data", "message"), DAMAGE.values(), ids=DAMAGE)
@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_damaged_files_are_refused(tmp_path, data, message, pack):
    if pack is gzip.compress:
        message = message.replace("the whole file has 16", r"the whole file has \d\d")
    path = tmp_path / "x-idx3-ubyte"
    path.write_bytes(pack(data))
    with pytest.raises(DataError, match=message) as caught:
        read_idx(path)
    assert str(caught.value).startswith(str(path))


def test_damaged_gzip_is_refused(tmp_path):
    path = tmp_path / "x-idx3-ubyte.gz"
    packed = gzip.compress(idx(np.random.default_rng(0).integers(0, 256, 5000).astype(np.uint8)))
    for data in (packed[:-9], packed[:2000], packed[:1000] + bytes(50) + packed[1050:], packed[:-8] + b"\1" * 8):
        path.write_bytes(data)
        with pytest.raises(DataError, match=r"x-idx3-ubyte\.gz: not readable as an idx file \("):
            read_idx(path)


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    path = tmp_path / "bomb.gz"
    path.write_bytes(gzip.compress(struct.pack(">BBBBII", 0, 0, 8, 2, 1000, 4000) + bytes(4_000_000)))
    assert path.stat().st_size < 5000
    monkeypatch.setattr(memory, "available_memory", lambda: 3_999_999)
    with pytest.raises(ResourceError, match=r"bomb\.gz: an array of 1000 x 4000 numbers needs 0\.0 GiB of memory"):
        read_idx(path)
    monkeypatch.setattr(memory, "available_memory", lambda: 4_000_000)
    assert not read_idx(path).any()


def test_files_that_are_not_there(tmp_path):
    with pytest.raises(DataError, match="no-idx1-ubyte: there is no such file"):
        read_idx(tmp_path / "no-idx1-ubyte")
    with pytest.raises(DataError, match="this is a folder, not a file"):
        read_idx(tmp_path)


def test_what_is_an_idx_file(tmp_path):
    for name in ("train-images-idx3-ubyte", "t10k-labels.idx1-ubyte", "x.idx", "emnist-idx3-ubyte.gz", "a.idx3.GZ"):
        assert is_idx(name) == (name != "x.idx")
    Image.new("L", (4, 4)).save(tmp_path / "a.png")
    (tmp_path / "short").write_bytes(b"\0\0")
    (tmp_path / "packed.gz").write_bytes(b"\x1f\x8b")
    for other in (tmp_path / "a.png", tmp_path / "short", tmp_path / "packed.gz", tmp_path, "no", "a\0b", None, 3, [1]):
        assert not is_idx(other)


def test_labels_lie_beside_images_by_name(tmp_path):
    for images, labels in (
        ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
        ("t10k-images.idx3-ubyte", "t10k-labels.idx1-ubyte"),
        ("a-images-idx4-ubyte.gz", "a-labels-idx1-ubyte.gz"),
        ("b-images-idx3-ubyte", "b-labels-idx1-ubyte.gz"),
        ("c-images-idx3-ubyte.gz", "c-labels-idx1-ubyte"),
    ):
        assert labels_beside(tmp_path / images) is None
        (tmp_path / labels).touch()
        assert labels_beside(tmp_path / images) == tmp_path / labels
    assert labels_beside(tmp_path / "train-labels-idx1-ubyte") is None


# ---------------------------------------------------------------------------------------------------------- in a fit


@pytest.fixture
def digits(tmp_path):
    """Images of two classes that differ in brightness, as four idx files: 40 to train on, 20 to test."""
    rng = np.random.default_rng(0)
    for name, count in (("train", 40), ("t10k", 20)):
        y = (np.arange(count) % 2).astype(np.uint8)
        X = rng.integers(0, 100, size=(count, 6, 6)) + y[:, None, None] * 120
        (tmp_path / f"{name}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(X.astype(np.uint8))))
        (tmp_path / f"{name}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(y)))
    return tmp_path


def small(**params):
    return ImageClassifier(**{"arch": "mlp(hidden=(4,))", "epochs": 8, "lr": 0.05, "random_state": 0} | params)


def test_images_bring_the_labels_beside_them(digits, tmp_path):
    X, X_test = (digits / f"{n}-images-idx3-ubyte.gz" for n in ("train", "t10k"))
    model = small(run_dir=str(tmp_path / "run")).fit(X, validation=str(X_test))
    by_array = small().fit(read_idx(X), np.arange(40) % 2)
    np.testing.assert_array_equal(model.predict_proba(X_test), by_array.predict_proba(read_idx(X_test)))
    scores = model.evaluate(str(X_test))
    assert scores["accuracy"] == 1
    assert scores == model.evaluate(X_test, np.arange(20) % 2)
    assert model.history_[-1]["val_accuracy"] == 1
    assert model.predict_frame(X_test).shape[0] == 20
    np.testing.assert_array_equal(load(tmp_path / "run/model").predict(X_test), model.predict(X_test))


def test_labels_can_be_a_file_of_another_name(digits):
    images, labels = digits / "train-images-idx3-ubyte.gz", digits / "train-labels-idx1-ubyte.gz"
    turned = digits / "turned"
    turned.write_bytes(idx(1 - np.arange(40, dtype=np.int32) % 2))
    plain, other = small().fit(images, str(labels)), small().fit(images, turned)
    assert (plain.predict(images) == 1 - other.predict(images)).all()
    assert other.evaluate(images, turned)["accuracy"] == 1
    assert other.evaluate(images)["accuracy"] == 0
    held = small().fit(images, turned, validation=(digits / "t10k-images-idx3-ubyte.gz", 1 - np.arange(20) % 2))
    assert held.history_[-1]["val_accuracy"] == 1
    assert small().fit(read_idx(images), turned).classes_.tolist() == [0, 1]


def test_the_labels_of_the_training_are_not_taken_for_those_of_the_validation(digits):
    images, labels = digits / "train-images-idx3-ubyte.gz", str(digits / "train-labels-idx1-ubyte.gz")
    with pytest.raises(DataError, match=r"t10k-images.* has t10k-labels-idx1-ubyte\.gz beside it, .*as a pair"):
        small().fit(images, labels, validation=str(digits / "t10k-images-idx3-ubyte.gz"))


def test_what_is_wrong_with_the_files_is_said(digits):
    images, labels = digits / "train-images-idx3-ubyte.gz", digits / "train-labels-idx1-ubyte.gz"
    with pytest.raises(DataError, match=r"train-labels-idx1-ubyte\.gz holds one number an item \(60|40.*\), no images"):
        small().fit(labels, labels)
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte\.gz: labels are one number an item, .* 40 x 6 x 6"):
        small().fit(images, str(images))
    with pytest.raises(DataError, match="X has 40 images and y has 20 labels"):
        small().fit(images, digits / "t10k-labels-idx1-ubyte.gz")
    labels.unlink()
    with pytest.raises(DataError, match=r"requires y.*train-images-idx3-ubyte\.gz has no labels beside it.*idx1"):
        small().fit(images)
    with pytest.raises(DataError, match="no-labels-idx1-ubyte: there is no such file"):
        small().fit(images, "no-labels-idx1-ubyte")
    with pytest.raises(DataError, match="y='kind': images have no column of that name"):
        small().fit(images, "kind")
    with pytest.raises(DataError, match="no-images-idx3-ubyte does not exist"):
        small().fit("no-images-idx3-ubyte")
