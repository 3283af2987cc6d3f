"""Streamed data beside the same data in memory: batches, places in an epoch, what is learned, what cannot be read."""

import gzip
import os
import pickle
import signal
from concurrent.futures.process import BrokenProcessPool
from unittest import mock

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from konspekt.core import DataError, ResourceError
from konspekt.data import stream_images, stream_tables, streams
from konspekt.data.batches import Resident
from konspekt.data.images import ImageSchema, read_images
from konspekt.data.reading_processes import ReadingProcesses
from konspekt.data.stream_tables import open_csv
from konspekt.data.streams import Scratch, Spill, Streamed, is_larger
from konspekt.data.table_files import read_csv
from konspekt.data.tables import TableSchema, split_target

TOTAL = 53


def fields(total=TOTAL):
    draw = torch.Generator().manual_seed(0)
    return {
        "x": torch.randn(total, 3, generator=draw),
        "codes": torch.randint(0, 9, (total, 2), generator=draw),
        "y": torch.arange(total) % 4,
    }


@pytest.fixture
def spill(tmp_path):
    known = fields()
    blocks = [{n: known[n][a : a + 20] for n in ("x", "codes")} for a in range(0, TOTAL, 20)]
    spill = Spill.write(tmp_path / "rows.bin", blocks, TOTAL)
    yield spill
    spill.close()


def same(one, other):
    assert list(one) == list(other) or set(one) == set(other)
    for name in one:
        assert one[name].dtype == other[name].dtype
        assert torch.equal(one[name], other[name]), name


def both(spill, **options):
    known = fields()
    return Resident(known, **options), Streamed(spill, {"y": known["y"]}, **options)


def double(batch, epoch):
    batch["x"] = batch["x"] * 2 + batch["index"][:, None] * epoch
    return batch


class TestBatches:
    @pytest.mark.parametrize("batch_size", [None, 1, 4, 13, 100])
    @pytest.mark.parametrize("shuffle", [True, False])
    def test_are_those_of_resident(self, spill, batch_size, shuffle):
        items = torch.arange(TOTAL)[torch.arange(TOTAL) % 5 != 2]
        resident, streamed = both(
            spill, items=items, batch_size=batch_size, shuffle=shuffle, seed=7, transform=double, device="cpu"
        )
        assert (streamed.num_items, streamed.num_batches) == (resident.num_items, resident.num_batches)
        for epoch in range(3):
            pairs = list(zip(streamed.epoch(epoch), resident.epoch(epoch), strict=True))
            assert len(pairs) == resident.num_batches
            for one, other in pairs:
                same(one, other)
        same(streamed.sample(), resident.sample())
        assert streamed.marks() == resident.marks()

    @pytest.mark.parametrize("position", [0, 1, 5, 12])
    def test_go_on_in_mid_epoch(self, spill, position):
        resident, streamed = both(spill, batch_size=4, shuffle=True, seed=1)
        begun = streamed.epoch(2)
        for _ in range(position):
            next(begun)
        state = streamed.state()
        assert state == {"epoch": 2 if position else 0, "position": position}
        again = Streamed(spill, {"y": fields()["y"]}, batch_size=4, shuffle=True, seed=1)
        again.load_state({"epoch": 2, "position": position})
        rest = list(again.epoch(2))
        for one, other in zip(rest, list(resident.epoch(2))[position:], strict=True):
            same(one, other)

    def test_parts_for_several_processes(self, spill):
        whole = [b["index"].tolist() for b in both(spill, batch_size=3, shuffle=True)[1].epoch(0)]
        parts = []
        for rank in range(4):
            streamed = both(spill, batch_size=3, shuffle=True)[1]
            streamed.share(rank, 4)
            assert (streamed.num_items, streamed.num_batches) == (TOTAL, 18)
            parts.append(list(streamed.epoch(0)))
        assert [torch.cat([p["index"] for p in step]).tolist() for step in zip(*parts, strict=True)] == whole
        assert parts[3][0]["x"].shape == (0, 3)
        assert parts[3][0]["codes"].shape == (0, 2)

    def test_fields_in_memory_must_be_as_many(self, spill):
        with pytest.raises(DataError, match=r"as many items each, 53, got \{'y': 5\}"):
            Streamed(spill, {"y": torch.arange(5)})
        assert Streamed(spill, {}).num_items == TOTAL

    def test_a_file_that_was_cut(self, spill):
        os.truncate(spill.path, 100)
        with pytest.raises(DataError, match=r"rows\.bin was cut while it was read"):
            list(Streamed(spill, {}, batch_size=9).epoch(0))


class TestReadingProcesses:
    def test_read_the_same_and_say_when_one_dies(self, spill):
        resident, _ = both(spill, batch_size=4, shuffle=True, seed=3, transform=double)
        readers = ReadingProcesses(spill, 2)
        try:
            options = {"shuffle": True, "seed": 3, "transform": double, "readers": readers}
            streamed = Streamed(spill, {"y": fields()["y"]}, batch_size=4, **options)
            held = Streamed(spill, {}, batch_size=11, readers=readers)
            with mock.patch("konspekt.data.reading_processes._TASK", 200):  # bytes: a few batches each
                for epoch in (0, 1):
                    for place, (one, other) in enumerate(
                        zip(streamed.epoch(epoch), resident.epoch(epoch), strict=True)
                    ):
                        same(one, other)
                        assert streamed.state() == {"epoch": epoch, "position": place + 1}
                        if place == 3:  # another order from the same processes, in the middle of this one
                            assert [len(b["index"]) for b in held.epoch(0)] == [11, 11, 11, 11, 9]
                begun = streamed.epoch(2)
                next(begun)
                begun.close()  # an epoch that is broken off
                streamed.load_state({"epoch": 2, "position": 9})
                for one, other in zip(streamed.epoch(2), list(resident.epoch(2))[9:], strict=True):
                    same(one, other)
            os.truncate(spill.path, 100)
            with pytest.raises(DataError, match=r"rows\.bin was cut") as error:
                list(streamed.epoch(3))
            assert error.value.__cause__ is None
            pid = readers._pool.submit(os.getpid).result()
            # Waits: until the death is noticed, the other process would read the cut file.
            with pytest.raises(BrokenProcessPool):
                readers._pool.submit(signal.raise_signal, signal.SIGKILL).result()
            with pytest.raises(ResourceError, match=r"a process that reads data \(workers\) has died.*workers=0"):
                list(streamed.epoch(4))
        finally:
            readers.close()
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)  # it was reaped


def test_a_source_goes_to_other_processes_without_its_open_file(spill):
    spill.read(np.arange(3))
    copy = pickle.loads(pickle.dumps(spill))  # noqa: S301, our own bytes
    assert copy._handle is None
    np.testing.assert_array_equal(copy.read(np.array([5, 6, 2]))["x"], fields()["x"][[5, 6, 2]].numpy())
    copy.close()


class TestScratch:
    def test_a_folder_of_the_run_is_replaced_and_removed(self, tmp_path):
        (tmp_path / "stream").mkdir()
        (tmp_path / "stream" / "left").write_text("by a fit that was killed")
        with Scratch(tmp_path) as scratch:
            folder = scratch.folder()
            assert folder == tmp_path / "stream" == scratch.folder()
            assert list(folder.iterdir()) == []
        assert list(tmp_path.iterdir()) == []

    def test_nothing_is_made_unless_it_is_asked_for(self, tmp_path, monkeypatch):
        monkeypatch.setattr(streams.tempfile, "tempdir", str(tmp_path))
        with Scratch():
            assert list(tmp_path.iterdir()) == []
        with Scratch() as scratch:
            assert scratch.folder().parent == tmp_path
        assert list(tmp_path.iterdir()) == []

    def test_a_disk_without_room(self, tmp_path):
        with pytest.raises(ResourceError, match="streamed are written there during the fit, but No such file"):
            Spill.write(tmp_path / "no" / "rows.bin", [{"x": torch.zeros(1, 1)}], 1)


def test_when_data_are_streamed(monkeypatch):
    monkeypatch.setattr(streams, "_free_memory", lambda: 1000)
    assert [is_larger("auto", lambda n=n: n) for n in (499, 500, 501)] == [False, False, True]
    assert (is_larger("always", lambda: 0), is_larger("never", lambda: 10**9)) == (True, False)
    monkeypatch.setattr(streams, "_free_memory", lambda: None)
    assert not is_larger("auto", lambda: 10**15)


# -- tables ---------------------------------------------------------------------------------------------------------

WORDS = ["", "NA", "1", "2", "-3", "007", "1.5", "2e3", "True", "FALSE", "red", "a,b", 'say "no"', "two\nlines", "ü"]


def streamed_csv(path, scratch, y=None, texts=(), cells=8):
    with mock.patch.object(stream_tables, "CELLS", cells):
        return open_csv(path, y, texts, scratch)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.tuples(st.sampled_from([[*WORDS], WORDS[:5], WORDS[:8], ["True", "FALSE", ""], ["red", "NA"], ["4", "5"]]),
        st.integers(0, 2**32 - 1)),
        min_size=1, max_size=4,
    ),
    st.integers(1, 14),
    st.integers(1, 5),
)  # fmt: skip
def test_columns_are_those_of_the_whole_file(tmp_path_factory, columns, rows, per_block):
    path = tmp_path_factory.mktemp("any") / "t.csv"
    cells = {
        f"c{i}": [words[k] for k in np.random.default_rng(seed).integers(0, len(words), rows)]
        for i, (words, seed) in enumerate(columns)
    }
    pd.DataFrame(cells | {"last": ["x"] * rows}).to_csv(path, index=False)
    whole = read_csv(path, ["c1"])
    with Scratch() as scratch:
        table = streamed_csv(path, scratch, "last", ["c1"], per_block * (len(columns) + 1))
        assert table.names == list(whole.columns[:-1])
        for place, name in enumerate(table.names):
            pd.testing.assert_series_equal(table.column(place), whole[name])
        blocks = [table.block(k) for k in range(-(-rows // per_block))]
        for k, block in enumerate(blocks):
            expected = whole.iloc[k * per_block : (k + 1) * per_block, :-1].reset_index(drop=True)
            pd.testing.assert_frame_equal(block, expected)
        pd.testing.assert_series_equal(table.y, whole["last"])


def made(path, rows=400):
    draw = np.random.default_rng(1)
    frame = pd.DataFrame(
        {
            "far": draw.normal(1e9, 1e-3, rows),
            "gaps": np.where(draw.random(rows) < 0.1, np.nan, draw.normal(size=rows)),
            "count": draw.integers(-5, 2**40, rows),
            "flag": draw.random(rows) < 0.5,
            "kind": draw.choice(["red", "blue", None, "two\nlines"], rows),
            "late": ["7"] * (rows - 1) + ["seven"],
            "day": [f"2024-{1 + i % 12:02d}-{1 + i % 28:02d}" for i in range(rows)],
            "same": [3] * rows,
            "none": [np.nan] * rows,
            "zip": [f"{i % 11:03d}" for i in range(rows)],
            "y": draw.choice(["no", "yes"], rows),
        }
    )
    frame.to_csv(path, index=False)
    return frame


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz"])
def test_what_is_learned_of_a_table_is_the_same_to_the_bit(tmp_path, suffix):
    path = tmp_path / f"t{suffix}"
    made(path)
    types = {"zip": "category", "count": "category"}
    train = np.flatnonzero(np.random.default_rng(2).random(400) < 0.7)
    whole = read_csv(path, ["zip", "count", "y"])
    X = whole.drop(columns="y")
    schema = TableSchema.learn(X.iloc[train], types, "here")
    with Scratch() as scratch:
        table = streamed_csv(path, scratch, "y", ["zip", "count"], cells=11 * 37)
        found = table.learn(train, types, "here")
        assert found.to_json() == schema.to_json()
        assert found.notes == schema.notes
        assert table.facts(found) == schema.facts(X)
        pd.testing.assert_series_equal(table.y, whole["y"])
        pd.testing.assert_series_equal(table.row(399), X.iloc[399], check_names=False)
        spill = table.encoded(found, "here")
        encoded = schema.encode(X, "here")
        assert spill.marks() == Resident(encoded).marks()
        same({n: torch.from_numpy(a) for n, a in spill.read(np.arange(400)).items()}, encoded)
        spill.close()
        several = streamed_csv(path, scratch, ("far", "same"), cells=11 * 37)
        pd.testing.assert_frame_equal(several.y, whole[["far", "same"]])


BAD_FILES = {
    "a,b,y\n1,2,3,4\n1,2,3,4\n": r"t\.csv: .*more values than the first line has names",
    "a,a,y\n1,2,3\n": r"t\.csv: columns named twice: a; rename them",
    "a,b,y\n": r"t\.csv: there is a header but no row",
    "": r"t\.csv: the file is empty",
    "a;b;y\n1;2;3\n": r"t\.csv: the values seem to be separated by ';'",
    "a,b,z\n1,2,3\n": r"t\.csv has no column 'y'; known: a, b, z",
    'a,b,y\n1,2,3\n1,"2,3\n': r"t\.csv: not readable as csv \(.*EOF inside string",
}


@pytest.mark.parametrize("text", list(BAD_FILES))
def test_bad_files(tmp_path, text):
    path = tmp_path / "t.csv"
    path.write_text(text)
    with Scratch() as scratch, pytest.raises(DataError, match=BAD_FILES[text]) as error:
        streamed_csv(path, scratch, "y")
    with pytest.raises(DataError) as whole:
        split_target(path, "y")
    assert str(whole.value) == str(error.value)


def test_a_damaged_archive(tmp_path):
    path = tmp_path / "t.csv.gz"
    path.write_bytes(gzip.compress(b"a,y\n" + b"1,2\n" * 50_000)[:-200])
    with Scratch() as scratch, pytest.raises(DataError, match=r"t\.csv\.gz: not readable as csv"):
        streamed_csv(path, scratch, "y", cells=4000)


def test_a_value_that_is_too_large_is_said_with_its_block(tmp_path):
    path = tmp_path / "t.csv"
    pd.DataFrame({"a": [1.0, 2.0, 3.0, 4.0, 1e300], "y": range(5)}).to_csv(path, index=False)
    with Scratch() as scratch:
        table = streamed_csv(path, scratch, "y", cells=4)
        schema = table.learn(np.arange(4), None, "here")
        message = r"in rows 4 to 4, counted from the first of them: row 0, column 'a': the value is too large"
        with pytest.raises(DataError, match=message):
            table.encoded(schema, "here")


# -- images ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def pictures(tmp_path):
    draw = np.random.default_rng(0)
    for place, name in enumerate(["a/1.png", "a/2.png", "b/1.png", "b/2.png", "b/3.png"]):
        (tmp_path / "p" / name).parent.mkdir(parents=True, exist_ok=True)
        shape = (8, 9) if place % 2 else (8, 9, 3)
        Image.fromarray(draw.integers(0, 256, shape, dtype=np.uint8)).save(tmp_path / "p" / name)
    return tmp_path / "p"


def always(need):
    return True


@pytest.mark.parametrize("image_size", [None, (6, 5)])
def test_images_are_those_in_memory(pictures, image_size):
    whole = read_images(pictures, image_size=image_size, labelled=True)
    streamed = stream_images.stream_images(pictures, always, image_size=image_size, labelled=True)
    assert (streamed.labels, streamed.names, streamed.ignored) == (whole.labels, whole.names, whole.ignored)
    found = streamed.files.read(np.array([3, 0, 4]))["x"]
    np.testing.assert_array_equal(found, whole.pixels[[3, 0, 4]].numpy())
    assert streamed.files.marks() == Resident({"x": whole.pixels}).marks()
    some = np.array([0, 2, 3])
    whole.pixels = whole.pixels[some]
    assert streamed.files.learn(some, resize=True) == ImageSchema.learn(whole, resize=True)
    x = whole.pixels.double().numpy()
    np.testing.assert_allclose(streamed.files.learn(some, resize=True).std, x.std((0, 2, 3)), rtol=1e-12)


@pytest.mark.parametrize("channels", [1, 3])
def test_channels_are_those_that_are_asked_for(pictures, channels):
    whole = read_images(pictures, channels=channels)
    streamed = stream_images.stream_images(pictures, always, channels=channels)
    assert streamed.files.shape == (channels, 8, 9)
    np.testing.assert_array_equal(streamed.files.read(np.arange(5))["x"], whole.pixels.numpy())
    schema = ImageSchema.learn(whole, convert=True)
    assert streamed.files.learn(np.arange(5), resize=False, convert=True) == schema
    needs = []
    stream_images.stream_images(pictures, lambda need: needs.append(need()), channels=channels)
    assert needs == [5 * 8 * 9 * channels]


def test_large_jpgs_are_decoded_small_as_in_memory(tmp_path):
    draw, turned = np.random.default_rng(0), Image.Exif()
    turned[0x0112] = 6
    for i in range(3):
        noise = Image.fromarray(draw.integers(0, 256, (9, 12, 3), dtype=np.uint8)).resize((120, 90))
        noise.save(tmp_path / f"{i}.jpg", **({"exif": turned} if i == 1 else {}))
    whole = read_images(tmp_path, image_size=(10, 8))
    streamed = stream_images.stream_images(tmp_path, always, image_size=(10, 8))
    np.testing.assert_array_equal(streamed.files.read(np.arange(3))["x"], whole.pixels.numpy())
    assert streamed.sizes.tolist() == whole.sizes.tolist() == [[90, 120], [120, 90], [90, 120]]


def test_bad_images_are_listed_together_or_left_out(pictures):
    (pictures / "a" / "0.png").write_bytes(b"no image")
    whole = (pictures / "b" / "3.png").read_bytes()
    (pictures / "b" / "9.png").write_bytes(whole[:-40])  # its header is whole, so only decoding finds it
    messages = []
    for read in (read_images, lambda *a, **k: stream_images.stream_images(*a[:1], always, **k)):
        with pytest.raises(DataError) as error:
            read(pictures, labelled=True)
        messages.append(str(error.value))
    assert messages[0] == messages[1]
    assert "2 of 7 images cannot be used:\n  a/0.png: not an image" in messages[1]
    whole = read_images(pictures, labelled=True, on_bad="skip")
    streamed = stream_images.stream_images(pictures, always, labelled=True, on_bad="skip")
    assert streamed.bad == whole.bad
    assert streamed.kept.tolist() == whole.kept.tolist() == [1, 2, 3, 4, 5]


def test_where_only_a_bad_one_was_coloured_the_rest_is_grey(pictures):
    for path in pictures.rglob("*.png"):
        Image.open(path).convert("L").save(path)
    Image.new("RGB", (9, 8), "red").save(pictures / "a" / "1.png")
    (pictures / "a" / "1.png").write_bytes((pictures / "a" / "1.png").read_bytes()[:-30])
    whole = read_images(pictures, on_bad="skip")
    streamed = stream_images.stream_images(pictures, always, on_bad="skip")
    assert streamed.files.shape == tuple(whole.pixels.shape[1:]) == (1, 8, 9)
    np.testing.assert_array_equal(streamed.files.read(np.arange(4))["x"], whole.pixels.numpy())


def test_one_size_for_all_is_asked_for(pictures):
    Image.new("L", (4, 4)).save(pictures / "a" / "small.png")
    with pytest.raises(DataError, match=r"the images have 2 sizes \(height x width\):\n  8 x 9: 5 images"):
        stream_images.stream_images(pictures, always)


def test_a_file_that_goes_bad_during_the_fit_is_named(pictures):
    files = stream_images.stream_images(pictures, always).files
    (pictures / "b" / "2.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"b.2\.png: not an image, or damaged.*could be read when the fit began"):
        files.read(np.arange(5))
    Image.new("L", (4, 4)).save(pictures / "b" / "2.png")
    with pytest.raises(DataError, match=r"b.2\.png: it has 4 x 4 pixels, not 8 x 9"):
        files.read(np.arange(5))


def test_lists_of_paths_are_streamed_and_what_lies_in_memory_is_not(pictures):
    paths = sorted(pictures.rglob("*.png"))
    assert stream_images.stream_images(paths, always).names == [str(p) for p in paths]
    assert stream_images.stream_images([Image.new("L", (4, 4))], always) is None
    needs = []
    assert stream_images.stream_images(paths, lambda need: needs.append(need())) is None
    assert needs == [5 * 8 * 9 * 3]
