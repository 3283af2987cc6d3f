"""Sets that are fetched: read from files as their makers pack them, here from a server on this machine."""

import gzip
import hashlib
import io
import json
import struct
import tarfile
from pathlib import Path

import numpy as np
import pytest

from konspekt import ImageClassifier, data
from konspekt.core.errors import ConfigError, DataError, ResourceError
from konspekt.data import downloads, transfer
from konspekt.data.downloads import FETCHED, ORIGINS, Origin, cache_folder, fetch, fetched_name
from konspekt.data.sets import load
from konspekt.data.transfer import Remote

RNG = np.random.default_rng(0)
DIGITS = {"train": (RNG.integers(0, 256, (60, 8, 8)).astype(np.uint8), np.arange(60) % 10),
          "t10k": (RNG.integers(0, 256, (20, 8, 8)).astype(np.uint8), np.arange(20) % 10)}  # fmt: skip
COLOURS = RNG.integers(0, 256, (6, 4, 3, 32, 32)).astype(np.uint8)  # 6 files of 4 pictures


def mnist_files():
    files = {}
    for which, (X, y) in DIGITS.items():
        images = struct.pack(">BBBBIII", 0, 0, 8, 3, *X.shape) + X.tobytes()
        labels = struct.pack(">BBBBI", 0, 0, 8, 1, len(y)) + y.astype(np.uint8).tobytes()
        files[f"{which}-images-idx3-ubyte.gz"] = gzip.compress(images)
        files[f"{which}-labels-idx1-ubyte.gz"] = gzip.compress(labels)
    return files


def records(batch):
    return b"".join(bytes([i % 10]) + COLOURS[batch, i].tobytes() for i in range(4))


def cifar_file(change=None):
    entries = [(f"cifar-10-batches-bin/data_batch_{i + 1}.bin", records(i)) for i in range(5)]
    entries += [("cifar-10-batches-bin/test_batch.bin", records(5)), ("cifar-10-batches-bin/readme.html", b"read me")]
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, content in change(entries) if change else entries:
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            if content == b"a link":
                entry.type, entry.linkname, entry.size = tarfile.SYMTYPE, "/etc/passwd", 0
            archive.addfile(entry, io.BytesIO(content))
    return {"cifar-10-binary.tar.gz": packed.getvalue()}


def put(folder, name, files, monkeypatch):
    """Have the files lie in the folder as those of this set, with their sums as the published ones."""
    (folder / name).mkdir(parents=True, exist_ok=True)
    for file, content in files.items():
        (folder / name / file).write_bytes(content)
    remotes = tuple(Remote(n, len(c), hashlib.sha256(c).hexdigest()) for n, c in files.items())
    monkeypatch.setitem(ORIGINS, name, Origin(("http://127.0.0.1:1",), remotes, ORIGINS[name].read))


@pytest.fixture(autouse=True)
def no_network(monkeypatch, tmp_path):
    monkeypatch.setenv("KONSPEKT_DATA", str(tmp_path / "cache"))
    monkeypatch.setattr(transfer, "PAUSE", 0)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


def test_what_is_fetched_is_listed_with_published_sums():
    assert set(ORIGINS) == set(FETCHED)
    for name, origin in ORIGINS.items():
        assert len(origin.mirrors) > 1, name
        for remote in origin.files:
            assert len(bytes.fromhex(remote.sha256)) == 32
            assert not remote.name.endswith("python.tar.gz")
    sizes = {f.name: f.size for f in ORIGINS["mnist"].files}
    assert sorted(sizes.values()) == [4542, 28881, 1648877, 9912422]
    assert data.fetch is fetch
    assert [n for n in ("mnist", "mnist-test", "mnist-train", "cifar10-test-test") if fetched_name(n)] == [
        "mnist",
        "mnist-test",
    ]


def test_mnist_comes_from_its_folder(tmp_path, monkeypatch):
    put(tmp_path / "here", "mnist", mnist_files(), monkeypatch)
    mnist = fetch("mnist", folder=tmp_path / "here")
    assert (mnist.name, mnist.task, mnist.test.name, mnist.test.test) == (
        "mnist",
        "image-classification",
        "mnist-test",
        None,
    )
    np.testing.assert_array_equal(mnist.X, DIGITS["train"][0])
    np.testing.assert_array_equal(mnist.y, DIGITS["train"][1])
    np.testing.assert_array_equal(mnist.test.X, DIGITS["t10k"][0])
    test = fetch("mnist-test", folder=str(tmp_path / "here"))
    assert test.name == "mnist-test"
    np.testing.assert_array_equal(test.y, mnist.test.y)
    X, _ = mnist.for_task("tabular-classification")
    assert X.shape == (60, 64)


def test_fashion_mnist_has_the_names_of_its_classes(tmp_path, monkeypatch):
    put(tmp_path / "cache", "fashion-mnist", mnist_files(), monkeypatch)
    fashion = fetch("fashion-mnist")
    assert list(fashion.y[:3]) == ["T-shirt/top", "Trouser", "Pullover"]
    assert fashion.y[9] == "Ankle boot"


def test_cifar_is_read_out_of_its_archive(tmp_path, monkeypatch):
    monkeypatch.setattr(downloads, "RECORDS", 4)
    put(tmp_path / "cache", "cifar10", cifar_file(), monkeypatch)
    cifar = fetch("cifar10")
    np.testing.assert_array_equal(cifar.X, COLOURS[:5].reshape(20, 3, 32, 32))
    np.testing.assert_array_equal(cifar.test.X, COLOURS[5])
    assert list(cifar.test.y) == ["airplane", "automobile", "bird", "cat"]
    assert sorted(p.name for p in (tmp_path / "cache/cifar10").iterdir() if p.suffix != ".lock") == [
        "cifar-10-binary.tar.gz"
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda e: e[1:], r"data_batch_1\.bin is not in the archive"),
        (lambda e: [(e[0][0], e[0][1] + b"x"), *e[1:]], r"data_batch_1\.bin is no plain file of 12,292 bytes"),
        (lambda e: [(e[0][0], b"a link"), *e[1:]], r"data_batch_1\.bin is no plain file"),
        (lambda e: [e[0], *e], r"data_batch_1\.bin is no plain file of 12,292 bytes, or is there twice"),
        (lambda e: [(f"../{n}", c) for n, c in e], r"data_batch_1\.bin is not in the archive"),
    ],
    ids=["missing", "longer", "link", "twice", "outside"],
)
def test_an_archive_with_other_entries_is_refused(tmp_path, monkeypatch, change, message):
    monkeypatch.setattr(downloads, "RECORDS", 4)
    put(tmp_path / "cache", "cifar10", cifar_file(change), monkeypatch)
    with pytest.raises(DataError, match=message):
        fetch("cifar10")


def test_an_archive_that_is_none_is_refused(tmp_path, monkeypatch):
    whole = cifar_file()["cifar-10-binary.tar.gz"]
    for content in (b"no archive", whole[: len(whole) // 2]):
        put(tmp_path / "cache", "cifar10", {"cifar-10-binary.tar.gz": content}, monkeypatch)
        with pytest.raises(DataError, match=r"cifar-10-binary\.tar\.gz"):
            fetch("cifar10")


def test_where_files_are_kept(tmp_path, monkeypatch):
    assert cache_folder() == tmp_path / "cache"
    monkeypatch.delenv("KONSPEKT_DATA")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg/konspekt/data"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache/konspekt/data"


def test_what_cannot_be_fetched(tmp_path):
    with pytest.raises(ConfigError, match="there is no data set 'minst' to fetch; did you mean 'mnist'"):
        fetch("minst")
    for mirror in ("ftp://127.0.0.1", "file:///etc", "", 3):
        with pytest.raises(ConfigError, match="is no address that begins with http:// or https://"):
            fetch("mnist", mirrors=[mirror])
    with pytest.raises(ConfigError, match="mirrors: the list is empty"):
        fetch("mnist", mirrors=[])
    with pytest.raises(
        ResourceError,
        match=r"(?s)train-images.* cannot be had:.*127\.0\.0\.1:1/x/.*cache/mnist by hand.*needs there: train-.*t10k-labels",
    ):
        fetch("mnist", mirrors=["http://127.0.0.1:1/x"])
    with pytest.raises(ConfigError, match=r"mnist is not carried along: konspekt\.data\.fetch\('mnist'\) downloads it"):
        load("mnist")


def test_a_model_is_trained_and_measured_by_the_command_line(tmp_path, monkeypatch, capsys):
    from konspekt.cli.app import main

    put(tmp_path / "cache", "mnist", mnist_files(), monkeypatch)
    run = str(tmp_path / "run")

    def command(*arguments):
        with pytest.raises(SystemExit) as stop:
            main(list(arguments))
        printed = capsys.readouterr()
        assert stop.value.code == 0, printed.err
        return printed.out

    arguments = ("arch=mlp(hidden=(4,))", "epochs=1", "random_state=0", f"run_dir={run}")
    command("fit", "image-classifier", "data=mnist", "validation=mnist-test", *arguments)
    described = (tmp_path / "run/config.yaml").read_text()
    assert "source: mnist\n" in described
    assert "validation: mnist-test\n" in described
    command("resume", run, "epochs=2")
    assert json.loads((tmp_path / "run/result.json").read_text())["epochs"] == 2
    assert "accuracy" in command("evaluate", run, "data=mnist-test")
    assert len(command("predict", run, "mnist-test").splitlines()) == 21
    model = ImageClassifier(arch="mlp(hidden=(4,))", epochs=2, random_state=0).fit(
        fetch("mnist"), validation=fetch("mnist").test
    )
    assert model.evaluate(fetch("mnist").test)["accuracy"] >= 0


def test_idx_files_on_the_command_line(tmp_path, monkeypatch, capsys):
    from konspekt.cli.app import main

    for name, content in mnist_files().items():
        (tmp_path / name).write_bytes(content)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "other").write_bytes(gzip.decompress(mnist_files()["train-labels-idx1-ubyte.gz"]))

    def command(*arguments):
        with pytest.raises(SystemExit) as stop:
            main(list(arguments))
        printed = capsys.readouterr()
        assert stop.value.code == 0, printed.err
        return printed.out

    images, test = "train-images-idx3-ubyte.gz", "t10k-images-idx3-ubyte.gz"
    fit = ("fit", "image-classifier", f"data={images}", "arch=mlp(hidden=(4,))", "epochs=1", "random_state=0")
    command(*fit, "run_dir=plain")
    command(*fit, "target=other", f"validation={test}", "run_dir=named")
    command("resume", "named", "epochs=2")
    assert json.loads(Path("named/result.json").read_text())["epochs"] == 2
    scores = command("evaluate", "plain", f"data={images}")
    assert "accuracy" in scores
    assert command("evaluate", "plain", f"data={images}", "target=other") == scores
    assert len(command("predict", "plain", test).splitlines()) == 21
