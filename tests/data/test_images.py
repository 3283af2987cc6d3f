"""Reading images: formats, layouts, sizes, and everything that can be wrong with a file or an array."""

import io
import os
import struct
import time
import warnings
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image, ImageOps

from konspekt import ImageClassifier
from konspekt.core.errors import ConfigError, DataError, ResourceError
from konspekt.data import image_arrays, image_files
from konspekt.data.images import BadItem, Images, ImageSchema, read_images

RNG = np.random.default_rng(0)
COLOUR = RNG.integers(0, 256, (20, 30, 3), dtype=np.uint8)
GREY = RNG.integers(0, 256, (20, 30), dtype=np.uint8)


def only(images: Images) -> np.ndarray:
    """The one image that was read, as (H, W) or (H, W, C)."""
    assert len(images) == 1
    chw = images.pixels[0].numpy()
    return chw[0] if len(chw) == 1 else chw.transpose(1, 2, 0)


def opened(path) -> Image.Image:
    with Image.open(path) as image:
        image.load()
    return image


def put(folder, **files) -> None:
    """Small grey pngs: put(root, cats=2, dogs=1)."""
    for name, count in files.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            Image.fromarray(np.full((8, 8), i, np.uint8)).save(folder / name / f"{i}.png")


def png(width: int, height: int, depth: int, kind: int, chunks: list[tuple[bytes, bytes]]) -> bytes:
    """A png by hand: the header and the chunks that follow it."""

    def chunk(tag: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + tag + body + struct.pack(">I", zlib.crc32(tag + body))

    head = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    parts = [chunk(b"IHDR", head), *(chunk(*c) for c in chunks), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


# ------------------------------------------------------------------------------------------------------------ formats


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "tiff", "PNG", "Bmp", "TIFF"])
@pytest.mark.parametrize("array", [COLOUR, GREY], ids=["colour", "grey"])
def test_lossless_files_to_the_bit(tmp_path, suffix, array):
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(array).save(path)
    images = read_images(path)
    assert images.pixels.dtype is torch.uint8
    assert np.array_equal(only(images), array)
    assert images.names == [str(path)]
    assert images.labels is None
    assert images.kept.tolist() == [0]
    assert images.kept.dtype == np.int64


@pytest.mark.parametrize("suffix", ["jpg", "jpeg", "webp", "JPG"])
def test_lossy_files_as_pillow_decodes_them(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(COLOUR).save(path)
    assert np.array_equal(only(read_images(str(path))), np.asarray(opened(path).convert("RGB")))


def test_the_contents_decide_not_the_suffix(tmp_path):
    Image.fromarray(GREY).save(tmp_path / "a.png", format="JPEG")
    assert read_images(tmp_path / "a.png").pixels.shape == (1, 1, 20, 30)


def test_one_bit_is_0_and_255(tmp_path):
    Image.fromarray(GREY > 100).save(tmp_path / "a.png")
    assert np.array_equal(only(read_images(tmp_path / "a.png")), (GREY > 100) * np.uint8(255))


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bit_grey_is_divided_by_257(tmp_path, suffix):
    wide = RNG.integers(0, 65536, (20, 30)).astype(np.uint16)
    wide[0, :2] = 0, 65535
    Image.fromarray(wide).save(tmp_path / f"a.{suffix}")
    assert opened(tmp_path / f"a.{suffix}").mode.startswith("I")
    assert np.array_equal(only(read_images(tmp_path / f"a.{suffix}")), np.round(wide / 257).astype(np.uint8))


def deep_colour_png(values: np.ndarray) -> bytes:
    """Colour with 16 bits a channel (H, W, 3), which Pillow reads and does not write."""
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    return png(values.shape[1], values.shape[0], 16, 2, [(b"IDAT", zlib.compress(rows))])


def deep_colour_tiff(values: np.ndarray) -> bytes:
    """The same as a tiff: one strip behind a list of tags, little end first."""
    height, width, _ = values.shape
    body = values.astype("<u2").tobytes()
    tags = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 3, 8 + len(body)), (259, 3, 1, 1), (262, 3, 1, 2)]
    tags += [(273, 4, 1, 8), (277, 3, 1, 3), (278, 4, 1, height), (279, 4, 1, len(body)), (284, 3, 1, 1)]
    depths = struct.pack("<HHH", 16, 16, 16)
    listed = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags) + bytes(4)
    return b"II*\0" + struct.pack("<I", 8 + len(body) + len(depths)) + body + depths + listed


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bit_colour_is_its_high_byte(tmp_path, suffix):
    wide = RNG.integers(0, 65536, (20, 30, 3)).astype(np.uint16)
    wide[0, :2] = [[0], [65535]]
    made = {"png": deep_colour_png, "tif": deep_colour_tiff}[suffix]
    (tmp_path / f"a.{suffix}").write_bytes(made(wide))
    assert np.array_equal(only(read_images(tmp_path / f"a.{suffix}")), (wide >> 8).astype(np.uint8))


def test_16_bit_images_are_learned_from(tmp_path):
    wide = RNG.integers(0, 65536, (6, 8, 8, 3)).astype(np.uint16)
    paths = {"png": [], "tif": [], "grey": []}
    for i, image in enumerate(wide):
        for kind, data in (("png", deep_colour_png(image)), ("tif", deep_colour_tiff(image))):
            paths[kind].append(tmp_path / f"{i}.{kind}")
            paths[kind][-1].write_bytes(data)
        paths["grey"].append(tmp_path / f"grey{i}.tif")
        Image.fromarray(image[..., 0]).save(paths["grey"][-1])
    for X, dtype, high in (
        (paths["png"], "uint8", 255),
        (paths["tif"], "uint8", 255),
        (paths["grey"], "uint8", 255),
        (wide, "float32", 65535),
        (list(wide[..., 0]), "float32", 65535),
    ):
        model = ImageClassifier(arch="mlp(hidden=(4,))", epochs=1).fit(X, [0, 1] * 3)
        assert model.schema_.dtype == dtype
        assert model.schema_.mean[0] == pytest.approx(high / 2, rel=0.1)
        assert np.isfinite(model.predict_proba(X)).all()


def test_32_bit_integers_up_to_16_bits(tmp_path):
    Image.fromarray(np.full((5, 5), 65535, np.int32)).save(tmp_path / "a.tif")
    assert int(read_images(tmp_path / "a.tif").pixels.min()) == 255
    Image.fromarray(np.full((5, 5), 65536, np.int32)).save(tmp_path / "b.tif")
    with pytest.raises(DataError, match="its values run from 65536 to 65536"):
        read_images(tmp_path / "b.tif")


def test_floats_in_a_file_have_no_known_scale(tmp_path):
    Image.fromarray(np.ones((5, 5), np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(DataError, match="holds floats, whose scale is not known"):
        read_images(tmp_path / "a.tif")


def test_palette(tmp_path):
    Image.fromarray(COLOUR).quantize(16).save(tmp_path / "a.png")
    assert np.array_equal(only(read_images(tmp_path / "a.png")), np.asarray(opened(tmp_path / "a.png").convert("RGB")))


def test_a_palette_of_greys_is_grey(tmp_path):
    image = Image.fromarray(GREY // 64)
    image.putpalette([v for grey in (0, 80, 160, 240) for v in (grey, grey, grey)])
    image.save(tmp_path / "a.png")
    assert opened(tmp_path / "a.png").mode == "P"
    assert np.array_equal(only(read_images(tmp_path / "a.png")), GREY // 64 * 80)


def on_white(colour: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    return np.floor(colour * (alpha / 255) + 255 * (1 - alpha / 255) + 0.5).astype(np.uint8)


def test_transparency_is_put_on_white(tmp_path):
    rgba = RNG.integers(0, 256, (20, 30, 4), dtype=np.uint8)
    Image.fromarray(rgba).save(tmp_path / "a.png")
    expected = on_white(rgba[..., :3], rgba[..., 3:])
    assert np.array_equal(only(read_images(tmp_path / "a.png")), expected)
    assert np.array_equal(only(read_images(rgba[None])), expected)
    assert np.array_equal(only(read_images(rgba.transpose(2, 0, 1)[None])), expected)
    assert np.array_equal(only(read_images([rgba])), expected)


def test_grey_with_transparency_stays_grey(tmp_path):
    la = RNG.integers(0, 256, (20, 30, 2), dtype=np.uint8)
    Image.fromarray(la).save(tmp_path / "a.png")
    assert opened(tmp_path / "a.png").mode == "LA"
    assert np.array_equal(only(read_images(tmp_path / "a.png")), on_white(la[..., 0], la[..., 1]))


def test_a_transparent_colour_is_white(tmp_path):
    Image.fromarray(np.uint8([[7, 8]]).repeat(8, 0)).save(tmp_path / "grey.png", transparency=7)
    assert only(read_images(tmp_path / "grey.png"))[0].tolist() == [255, 8]
    image = Image.fromarray(np.uint8([[0, 1]]).repeat(8, 0))
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.save(tmp_path / "palette.png", transparency=0)
    assert only(read_images(tmp_path / "palette.png"))[0].tolist() == [[255, 255, 255], [0, 0, 255]]


def test_cmyk(tmp_path):
    Image.fromarray(COLOUR).convert("CMYK").save(tmp_path / "a.jpg")
    assert opened(tmp_path / "a.jpg").mode == "CMYK"
    expected = np.asarray(opened(tmp_path / "a.jpg").convert("RGB"))
    assert np.array_equal(only(read_images(tmp_path / "a.jpg")), expected)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(tmp_path, suffix, orientation):
    path = tmp_path / f"a.{suffix}"
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(COLOUR).save(path, exif=exif)
    with Image.open(path) as image:
        expected = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    assert expected.shape[:2] == ((30, 20) if orientation >= 5 else (20, 30))
    assert np.array_equal(only(read_images(path)), expected)


def test_exif_orientation_6_is_a_quarter_turn_clockwise(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(COLOUR).save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(only(read_images(tmp_path / "a.png")), np.rot90(COLOUR, -1))


def test_exif_after_the_pixels(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    rows = b"".join(b"\0" + row.tobytes() for row in GREY)
    body = exif.tobytes().removeprefix(b"Exif\0\0")
    (tmp_path / "a.png").write_bytes(png(30, 20, 8, 0, [(b"IDAT", zlib.compress(rows)), (b"eXIf", body)]))
    assert np.array_equal(only(read_images(tmp_path / "a.png")), np.rot90(GREY, -1))


def test_damaged_exif_does_not_hide_the_image(tmp_path):
    Image.fromarray(COLOUR).save(tmp_path / "a.jpg", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff\x12\x01")
    assert read_images(tmp_path / "a.jpg").pixels.shape == (1, 3, 20, 30)


def test_the_first_frame_counts(tmp_path):
    first, second = Image.fromarray(GREY), Image.fromarray(255 - GREY)
    for name in ("a.tif", "a.png"):
        first.save(tmp_path / name, save_all=True, append_images=[second])
        assert np.array_equal(only(read_images(tmp_path / name)), GREY)


# ---------------------------------------------------------------------------------------------------- size and channels


@pytest.mark.parametrize("size", [(8, 8), (40, 50), (20, 10)])
def test_files_are_resized_as_pillow_does(tmp_path, size):
    Image.fromarray(COLOUR).save(tmp_path / "a.png")
    expected = np.asarray(Image.fromarray(COLOUR).resize(size[::-1], Image.Resampling.BILINEAR))
    assert np.array_equal(only(read_images(tmp_path / "a.png", image_size=size)), expected)


@pytest.mark.parametrize("size", [(8, 8), (40, 50), (20, 10)])
def test_arrays_are_resized_as_torch_does(size):
    x = torch.rand(5, 3, 20, 30)
    expected = torch.nn.functional.interpolate(x, size, mode="bilinear", antialias=True, align_corners=False)
    assert torch.equal(read_images(x, image_size=size).pixels, expected)
    bytes_ = (x * 255).to(torch.uint8)
    got = read_images(bytes_, image_size=size).pixels
    assert got.dtype is torch.uint8
    exact = torch.nn.functional.interpolate(bytes_.double(), size, mode="bilinear", antialias=True, align_corners=False)
    assert (got - exact).abs().max() < 0.501


def photograph(height: int, width: int) -> Image.Image:
    """Something smooth with edges, as jpg is made for."""
    y, x = np.mgrid[0:height, 0:width]
    waves = 127 + 60 * np.sin(x / 37) + 60 * np.cos(y / 23 + x / 90)
    rgb = np.stack([waves, waves[::-1], np.where((x // 60 + y // 45) % 2, 210, 40)], axis=-1)
    return Image.fromarray(rgb.clip(0, 255).astype(np.uint8))


@pytest.mark.parametrize(
    ("size", "shape", "scale"),
    [(40, (640, 480), 4), ((40, 30), (639, 481), 4), (16, (640, 480), 8), (100, (640, 480), 2), (200, (640, 480), 1)],
)
def test_large_jpgs_are_decoded_small(tmp_path, monkeypatch, size, shape, scale):
    photograph(*shape).save(tmp_path / "a.jpg", quality=92)
    whole = opened(tmp_path / "a.jpg")
    taken = []
    resize = Image.Image.resize
    monkeypatch.setattr(Image.Image, "resize", lambda self, *a: (taken.append(self.size), resize(self, *a))[1])
    found = read_images(tmp_path / "a.jpg", image_size=size)
    assert taken == [(-(-shape[1] // scale), -(-shape[0] // scale))]
    assert found.sizes.tolist() == [list(shape)]
    height, width = (size, size) if isinstance(size, int) else size
    assert scale == 1 or min(taken[0][0] / width, taken[0][1] / height) >= image_files.SPARE
    monkeypatch.undo()
    exact = np.asarray(whole.resize((width, height), Image.Resampling.BILINEAR)).astype(float)
    difference = np.abs(only(found) - exact)
    assert difference.mean() < 1
    assert scale > 1 or difference.max() == 0
    # A Pillow image that is decoded already is taken as it is.
    assert np.array_equal(only(read_images(whole, image_size=size)), exact)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_drafts_are_turned(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    photograph(320, 640).save(tmp_path / "a.jpg", quality=92, exif=exif)
    upright = ImageOps.exif_transpose(opened(tmp_path / "a.jpg"))
    found = read_images(tmp_path / "a.jpg", image_size=(20, 30))
    exact = np.asarray(upright.resize((30, 20), Image.Resampling.BILINEAR)).astype(float)
    assert np.abs(only(found) - exact).mean() < 2  # turned otherwise, it differs by more than 20
    assert found.sizes.tolist() == [[640, 320] if orientation >= 5 else [320, 640]]


def test_sizes_are_those_before_resizing(tmp_path):
    put(tmp_path, cats=2)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(COLOUR).save(tmp_path / "turned.png", exif=exif)
    (tmp_path / "bad.png").write_text("no picture")
    found = read_images(tmp_path, image_size=5, on_bad="skip")
    assert found.names == ["cats/0.png", "cats/1.png", "turned.png"]
    assert found.sizes.tolist() == [[8, 8], [8, 8], [30, 20]]
    assert found.sizes.dtype == np.int64
    assert read_images([GREY, COLOUR[:7]], image_size=5).sizes.tolist() == [[20, 30], [7, 30]]
    assert read_images(COLOUR[None], image_size=5).sizes.tolist() == [[20, 30]]


def test_arrays_and_files_agree_about_resizing(tmp_path):
    Image.fromarray(COLOUR).save(tmp_path / "a.png")
    from_file = read_images(tmp_path / "a.png", image_size=11).pixels.int()
    assert (from_file - read_images(COLOUR[None], image_size=11).pixels.int()).abs().max() <= 1


def test_resizing_in_pieces_changes_nothing(monkeypatch):
    x = RNG.integers(0, 256, (7, 20, 30, 4), dtype=np.uint8)
    whole = read_images(x, image_size=8, channels=1).pixels
    monkeypatch.setattr(image_arrays, "CHUNK", 3 * 4 * 20 * 30)
    assert torch.equal(read_images(x, image_size=8, channels=1).pixels, whole)


def test_colour_to_grey_is_pillows_luma(tmp_path):
    Image.fromarray(COLOUR).save(tmp_path / "a.png")
    expected = np.asarray(Image.fromarray(COLOUR).convert("L"))
    assert np.array_equal(only(read_images(tmp_path / "a.png", channels=1)), expected)
    assert np.array_equal(only(read_images(COLOUR[None], channels=1)), expected)
    assert np.array_equal(only(read_images([COLOUR], channels=1)), expected)
    floats = only(read_images(COLOUR[None].astype(float), channels=1))
    assert np.allclose(floats, COLOUR @ [0.299, 0.587, 0.114], atol=1e-4)


def test_grey_to_colour_is_repetition(tmp_path):
    Image.fromarray(GREY).save(tmp_path / "a.png")
    for source in (tmp_path / "a.png", GREY[None], [GREY]):
        assert np.array_equal(only(read_images(source, channels=3)), np.stack([GREY] * 3, -1))


def test_channels_are_1_only_where_every_image_is_grey(tmp_path):
    Image.fromarray(GREY).save(tmp_path / "a.png")
    assert read_images(tmp_path).pixels.shape == (1, 1, 20, 30)
    Image.fromarray(COLOUR).save(tmp_path / "b.png")
    images = read_images(tmp_path)
    assert images.pixels.shape == (2, 3, 20, 30)
    assert np.array_equal(images.pixels[0].numpy(), np.stack([GREY] * 3))


def test_sizes_that_differ_are_listed(tmp_path):
    put(tmp_path, cats=3)
    Image.fromarray(GREY).save(tmp_path / "cats" / "wide.png")
    with pytest.raises(
        DataError,
        match=r"2 sizes .height x width.:\n  8 x 8: 3 images, such as cats/0.png\n  20 x 30: 1 image, such as cats/wide.png\n.*image_size=",
    ):
        read_images(tmp_path)
    assert read_images(tmp_path, image_size=8).pixels.shape == (4, 1, 8, 8)


def test_at_most_ten_sizes_are_listed():
    with pytest.raises(DataError, match=r"have 12 sizes(.|\n)*and 2 more sizes"):
        read_images([np.zeros((5, width)) for width in range(5, 17)])


def test_a_damaged_file_of_another_size_is_not_a_second_size(tmp_path):
    put(tmp_path, cats=2)
    Image.fromarray(COLOUR).save(tmp_path / "cats" / "bad.bmp")
    whole = (tmp_path / "cats" / "bad.bmp").read_bytes()
    (tmp_path / "cats" / "bad.bmp").write_bytes(whole[:-600])
    images = read_images(tmp_path, on_bad="skip")
    assert images.pixels.shape == (2, 1, 8, 8)  # nor does it make the others coloured
    assert [item.item for item in images.bad] == ["cats/bad.bmp"]


@pytest.mark.parametrize("size", [0, -3, (8,), (8, 8, 3), 2.5, "8", True, (8, 0)])
def test_image_size_is_checked(size):
    with pytest.raises(ConfigError, match="image_size must be a number of pixels"):
        read_images(GREY[None], image_size=size)


def test_channels_and_on_bad_are_checked():
    with pytest.raises(ConfigError, match="channels must be 1, 3 or None, got 2"):
        read_images(GREY[None], channels=2)
    with pytest.raises(ConfigError, match="on_bad must be 'raise' or 'skip', got 'drop'"):
        read_images(GREY[None], on_bad="drop")


# -------------------------------------------------------------------------------------------------------------- folders


def test_labelled_folder(tmp_path):
    put(tmp_path, dogs=2, cats=11)
    put(tmp_path / "dogs", more=1)
    images = read_images(tmp_path, labelled=True)
    assert images.labels == ["cats"] * 11 + ["dogs"] * 3
    assert images.names[:4] == ["cats/0.png", "cats/1.png", "cats/10.png", "cats/2.png"]
    assert images.names[-3:] == ["dogs/0.png", "dogs/1.png", "dogs/more/0.png"]
    assert images.pixels[:, 0, 0, 0].tolist() == [0, 1, 10, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1, 0]
    assert images.kept.tolist() == list(range(14))
    assert images.ignored == []


def test_what_is_no_image_is_listed(tmp_path):
    put(tmp_path, cats=1, dogs=1)
    for name in ("readme.txt", "stray.png", "cats/notes.gif", "cats/.hidden.png", "cats/Thumbs.db", ".DS_Store"):
        (tmp_path / name).write_bytes(b"x")
    put(tmp_path, **{".git": 1, "__MACOSX": 1})
    images = read_images(tmp_path, labelled=True)
    assert images.names == ["cats/0.png", "dogs/0.png"]
    assert sorted(images.ignored) == [
        ".DS_Store", ".git/", "__MACOSX/", "cats/.hidden.png", "cats/Thumbs.db", "cats/notes.gif", "readme.txt", "stray.png",
    ]  # fmt: skip


def test_plain_folder_is_read_with_its_sub_folders(tmp_path):
    put(tmp_path, b=2, a=1)
    (tmp_path / "notes.txt").write_text("x")
    images = read_images(str(tmp_path))
    assert images.names == ["a/0.png", "b/0.png", "b/1.png"]
    assert images.labels is None
    assert images.ignored == ["notes.txt"]


def test_empty_class_folders_are_named(tmp_path):
    put(tmp_path, cats=1, dogs=0, owls=0)
    (tmp_path / "owls" / "a.gif").write_bytes(b"x")
    with pytest.raises(DataError, match=r"2 of the 3 class folders in .* hold no images: dogs, owls\. Fill or remove"):
        read_images(tmp_path, labelled=True)


def test_class_folders_without_images_may_be_skipped(tmp_path):
    put(tmp_path, cats=2, dogs=0, eels=1)
    found = read_images(tmp_path, labelled=True, on_bad="skip")
    assert found.labels == ["cats", "cats", "eels"]
    assert found.bad == [BadItem("dogs/", "the class folder holds no images, so there is no such class")]
    assert found.kept.tolist() == [0, 1, 3]
    put(tmp_path / "none", cats=0, dogs=0)
    with pytest.raises(DataError, match=r"2 of the 2 class folders in .*none hold no images: cats, dogs"):
        read_images(tmp_path / "none", labelled=True, on_bad="skip")


def test_splits_are_no_classes(tmp_path):
    for split in ("val", "train"):
        put(tmp_path / "sets" / split, cats=1, dogs=1)
    root = tmp_path / "sets"
    with pytest.raises(DataError) as error:
        read_images(root, labelled=True)
    assert str(error.value) == (
        f"{root} holds splits, not classes: train and val each have the folders cats, dogs. Give one to learn from and "
        f"one to be held out: data={root}/train validation={root}/val, in Python fit('{root}/train', "
        f"validation='{root}/val')"
    )
    assert len(read_images(root)) == 4  # to predict, the folder is what it is
    # A class may be called so: its folder holds images, or no classes that others have too.
    put(tmp_path / "vehicles", train=2, test=1)
    assert read_images(tmp_path / "vehicles", labelled=True).labels == ["test", "train", "train"]
    put(tmp_path / "years" / "train", y1999=1)
    put(tmp_path / "years" / "test", y2000=1)
    assert read_images(tmp_path / "years", labelled=True).labels == ["test", "train"]
    put(tmp_path / "people" / "young", girls=1, boys=1)
    put(tmp_path / "people" / "old", girls=1, boys=1)
    assert sorted(set(read_images(tmp_path / "people", labelled=True).labels)) == ["old", "young"]


def test_a_folder_of_idx_files_names_one(tmp_path):
    for name in (".train-images-idx3-ubyte.gz.lock", "t10k-images-idx3-ubyte.gz", "train-images-idx3-ubyte.gz"):
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(DataError, match=r"An idx file is given itself: .*/train-images-idx3-ubyte\.gz$"):
        read_images(tmp_path, labelled=True)


def test_a_labelled_folder_needs_sub_folders(tmp_path):
    with pytest.raises(
        DataError, match=r"no sub-folders \(it is empty\): a labelled folder has one sub-folder for each"
    ):
        read_images(tmp_path, labelled=True)
    Image.fromarray(GREY).save(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"no sub-folders \(it holds a.png\)"):
        read_images(tmp_path, labelled=True)
    with pytest.raises(DataError, match=r"a.png is not a folder: a labelled"):
        read_images(tmp_path / "a.png", labelled=True)


def test_a_folder_without_images(tmp_path):
    with pytest.raises(DataError, match=r"holds no images, it is empty\. Images are files that end in .bmp"):
        read_images(tmp_path)
    for i in range(5):
        (tmp_path / f"{i}.txt").write_text("x")
    with pytest.raises(DataError, match=r"holds no images; it holds 0.txt, 1.txt, 2.txt and 2 more"):
        read_images(tmp_path)


@pytest.mark.parametrize("labelled", [False, True])
def test_a_folder_that_is_not_there(tmp_path, labelled):
    with pytest.raises(DataError, match="nowhere does not exist"):
        read_images(tmp_path / "nowhere", labelled=labelled)
    with pytest.raises(DataError, match="does not exist"):
        read_images("a\0b")


def refuse(monkeypatch, part: str, error: type[OSError] = PermissionError) -> None:
    """Folders whose path ends so cannot be listed: what the superuser never sees."""
    scandir = os.scandir

    def scan(folder):
        if str(folder).endswith(part):
            raise error(13, "refused", str(folder))
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", scan)


def test_a_folder_that_cannot_be_listed(tmp_path, monkeypatch):
    refuse(monkeypatch, tmp_path.name)
    for labelled in (False, True):
        with pytest.raises(DataError, match="cannot be listed: no permission to read it"):
            read_images(tmp_path, labelled=labelled)
    refuse(monkeypatch, tmp_path.name, OSError)
    with pytest.raises(DataError, match="cannot be listed"):
        read_images(tmp_path)


def test_a_folder_behind_a_closed_one(tmp_path, monkeypatch):
    def refused(path):
        raise PermissionError(13, "refused", str(path))

    monkeypatch.setattr(Path, "is_dir", refused)
    with pytest.raises(DataError, match="cannot be read: no permission"):
        read_images(tmp_path)


@pytest.mark.parametrize("place", ["dogs", os.path.join("cats", "more")])
def test_a_sub_folder_that_cannot_be_listed_is_a_bad_item(tmp_path, monkeypatch, place):
    put(tmp_path, cats=1, dogs=1, owls=1)
    put(tmp_path / "cats", more=1)
    refuse(monkeypatch, place)
    with pytest.raises(DataError, match="the folder cannot be listed: no permission to read it"):
        read_images(tmp_path, labelled=True)
    images = read_images(tmp_path, labelled=True, on_bad="skip")
    assert images.bad == [
        BadItem(place.replace(os.sep, "/") + "/", "the folder cannot be listed: no permission to read it")
    ]
    assert len(images) == 3
    assert images.labels == [name.split("/")[0] for name in images.names]


def test_a_folder_that_links_to_itself(tmp_path):
    put(tmp_path, cats=1)
    (tmp_path / "cats" / "loop").symlink_to(tmp_path / "cats")
    images = read_images(tmp_path, labelled=True, on_bad="skip")
    assert images.names == ["cats/0.png"]
    assert images.bad == [BadItem("cats/loop/", "the folder is a link to a folder that it is in")]
    (tmp_path / "cats" / "loop").unlink()
    (tmp_path / "cats" / "knot").symlink_to(tmp_path / "cats" / "knot")
    assert read_images(tmp_path, labelled=True).ignored == ["cats/knot"]


def test_paths_one_by_one(tmp_path):
    put(tmp_path, cats=3)
    paths = [tmp_path / "cats" / f"{i}.png" for i in (2, 0)]
    for given in (
        paths,
        [str(p) for p in paths],
        np.array([str(p) for p in paths]),
        pd.Series([str(p) for p in paths]),
    ):
        images = read_images(given)
        assert images.names == [str(p) for p in paths]
        assert images.pixels[:, 0, 0, 0].tolist() == [2, 0]


# ------------------------------------------------------------------------------------------------------------ bad items


def jpeg() -> bytes:
    file = io.BytesIO()
    Image.fromarray(COLOUR).save(file, format="JPEG")
    return file.getvalue()


def bomb() -> bytes:
    """A 40000 x 40000 image in some 200 kB: 1 bit for each pixel, all zero."""
    squeeze = zlib.compressobj(1)
    rows = bytes(5001 * 1000)
    body = b"".join(squeeze.compress(rows) for _ in range(40)) + squeeze.flush()
    return png(40000, 40000, 1, 0, [(b"IDAT", body)])


@pytest.fixture(scope="module")
def bad_folder(tmp_path_factory):
    """A class folder with two good images and one of each kind that is bad."""
    root = tmp_path_factory.mktemp("bad")
    put(root, c=2)
    bad = root / "c"
    (bad / "bomb.png").write_bytes(bomb())
    (bad / "cut.jpg").write_bytes(jpeg()[:-200])
    Image.fromarray(COLOUR).save(bad / "cut.png")
    (bad / "cut.png").write_bytes((bad / "cut.png").read_bytes()[:900])
    (bad / "empty.png").write_bytes(b"")
    (bad / "folder.png").mkdir()
    (bad / "link.png").symlink_to(bad / "gone.png")
    os.mkfifo(bad / "pipe.png")
    (bad / "text.png").write_text("this is no image")
    Image.fromarray(COLOUR).save(bad / "really.jpg", format="GIF")
    return root


REASONS = {
    "bomb.png": "40000 x 40000 pixels are more than 178,956,970",
    "cut.jpg": "truncated",
    "cut.png": "",
    "empty.png": "the file is empty",
    "folder.png": "it is a folder, not an image",
    "link.png": "a link to a file that does not exist",
    "pipe.png": "it is not a regular file",
    "really.jpg": "not an image, or damaged; the formats that are read are BMP, JPEG, PNG, TIFF, WEBP",
    "text.png": "not an image, or damaged",
}


def test_bad_files_are_all_listed(bad_folder):
    with pytest.raises(DataError) as caught:
        read_images(bad_folder, labelled=True, image_size=8)
    message = str(caught.value)
    assert message.startswith("9 of 11 images cannot be used:")
    for name, reason in REASONS.items():
        assert f"c/{name}: {reason}" in message or (f"c/{name}: " in message and reason in message)
    assert 'on_bad="skip"' in message


def test_bad_files_are_skipped_and_named(bad_folder):
    before = time.perf_counter()
    images = read_images(bad_folder, labelled=True, image_size=8, on_bad="skip")
    assert time.perf_counter() - before < 5  # the bomb is not decoded
    assert images.names == ["c/0.png", "c/1.png"]
    assert images.labels == ["c", "c"]
    assert [item.item for item in images.bad] == [f"c/{name}" for name in sorted(REASONS)]
    for item in images.bad:
        assert REASONS[item.item[2:]] in item.reason
        assert item.reason
    assert images.pixels[:, 0, 0, 0].tolist() == [0, 1]


def test_kept_lets_a_target_be_filtered(bad_folder):
    bad = bad_folder / "c"
    paths = [bad / "text.png", bad / "0.png", bad / "cut.jpg", bad / "nowhere.png", bad, bad / "1.png", bad / "cut.png"]
    images = read_images(paths, image_size=8, on_bad="skip")
    assert images.kept.tolist() == [1, 5]
    assert images.pixels[:, 0, 0, 0].tolist() == [0, 1]
    assert [item.reason for item in images.bad][2:4] == ["the file does not exist", "it is a folder, not an image"]


def test_what_is_left_when_nothing_is_good(bad_folder):
    bad = bad_folder / "c"
    with pytest.raises(DataError, match="none of the 2 images can be used:"):
        read_images([bad / "text.png", bad / "empty.png"], on_bad="skip")
    with pytest.raises(DataError, match="none of the 2 images can be used:"):
        read_images([bad / "cut.jpg", bad / "empty.png"], on_bad="skip")
    with pytest.raises(DataError, match=r"the image cannot be used:\n  .*text.png: not an image"):
        read_images(bad / "text.png")


def test_the_first_twenty_are_listed(tmp_path):
    put(tmp_path, c=1)
    for i in range(25):
        (tmp_path / "c" / f"bad{i:02}.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"25 of 26 images cannot be used:\n(  c/bad.*\n){20}  and 5 more\n"):
        read_images(tmp_path)


@pytest.mark.parametrize("kind", ["jpg", "png", "webp", "tif", "bmp"])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.95])
def test_truncated_files(tmp_path, kind, share):
    Image.fromarray(np.kron(COLOUR, np.ones((4, 4, 1), np.uint8))).save(tmp_path / f"a.{kind}")
    whole = (tmp_path / f"a.{kind}").read_bytes()
    (tmp_path / f"a.{kind}").write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(DataError, match=r"the image cannot be used:\n  .*: \w"):
        read_images(tmp_path / f"a.{kind}")


def test_damaged_bytes_never_raise_anything_else(tmp_path):
    rng = np.random.default_rng(1)
    for kind in ("jpg", "png", "webp", "tif", "bmp"):
        Image.fromarray(COLOUR).save(tmp_path / f"a.{kind}")
        whole = (tmp_path / f"a.{kind}").read_bytes()
        for i in range(30):
            broken = bytearray(whole)
            for place in rng.integers(0, min(len(whole), 200), 3):
                broken[place] = rng.integers(256)
            (tmp_path / f"{i:02}-{kind}.{kind}").write_bytes(bytes(broken))
    images = read_images(tmp_path, image_size=8, on_bad="skip")
    assert len(images) + len(images.bad) == 155
    assert all(item.reason for item in images.bad)


def test_a_file_that_may_not_be_read(tmp_path, monkeypatch):
    put(tmp_path, c=2)
    real = Image.open

    def refused(path, **options):
        if path.name == "0.png":
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, **options)

    monkeypatch.setattr(Image, "open", refused)
    with pytest.raises(DataError, match=r"c/0.png: no permission to read it"):
        read_images(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may read everything")
def test_a_file_without_permission(tmp_path):
    put(tmp_path, c=2)
    (tmp_path / "c" / "0.png").chmod(0)
    with pytest.raises(DataError, match=r"c/0.png: no permission to read it"):
        read_images(tmp_path)


def test_large_images_leave_the_settings_of_the_process_alone(tmp_path, monkeypatch):
    (tmp_path / "a.png").write_bytes(png(10000, 10000, 1, 0, [(b"IDAT", zlib.compress(bytes(1251 * 10000)))]))
    filters, limit = list(warnings.filters), Image.MAX_IMAGE_PIXELS
    assert (
        read_images(tmp_path / "a.png", image_size=8).pixels.sum() == 0
    )  # Pillow would warn; warnings are errors here
    assert list(warnings.filters) == filters
    assert limit == Image.MAX_IMAGE_PIXELS
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)  # the user's own, lower limit holds
    with pytest.raises(DataError, match="exceeds limit of 2000 pixels"):
        read_images(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)  # and a limit taken away is still ours
    (tmp_path / "b.png").write_bytes(bomb())
    with pytest.raises(DataError, match="40000 x 40000 pixels are more than"):
        read_images(tmp_path / "b.png")


def test_images_that_do_not_fit_in_memory(monkeypatch):
    def full(*shape, **_):
        raise RuntimeError("can't allocate memory")

    monkeypatch.setattr(torch, "empty", full)
    with pytest.raises(ResourceError, match=r"2 images of 1024 x 1024 pixels and 3 channels need 0.0 GiB.*image_size="):
        read_images([np.zeros((1024, 1024, 3), np.uint8)] * 2)


# --------------------------------------------------------------------------------------------------------------- arrays


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((2, 8, 9), (2, 1, 8, 9)),
        ((2, 8, 9, 1), (2, 1, 8, 9)),
        ((2, 8, 9, 3), (2, 3, 8, 9)),
        ((2, 8, 9, 4), (2, 3, 8, 9)),
        ((2, 1, 8, 9), (2, 1, 8, 9)),
        ((2, 3, 8, 9), (2, 3, 8, 9)),
        ((2, 4, 8, 9), (2, 3, 8, 9)),
        ((2, 64), (2, 1, 8, 8)),
        ((3, 8, 8), (3, 1, 8, 8)),
    ],
)
def test_layout(shape, expected):
    x = RNG.integers(0, 256, shape, dtype=np.uint8)
    for given in (x, torch.from_numpy(x)):
        images = read_images(given)
        assert tuple(images.pixels.shape) == expected
        assert images.pixels.is_contiguous()
        assert images.names == [f"image {i}" for i in range(shape[0])]
        assert images.kept.tolist() == list(range(shape[0]))
    if 4 not in shape:
        last = x.reshape(2, 8, 9, -1) if shape[-1] in (1, 3) else None
        assert last is None or np.array_equal(images.pixels.numpy(), last.transpose(0, 3, 1, 2))


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((224, 200, 3), r"can be one image \(H, W, C\) or 224 grey images"),
        ((5, 3, 32, 3), r"can be read as \(H, W, C\) and as \(C, H, W\).*pad or enlarge"),
        ((5, 1, 4, 4), "can be read as"),
        ((5, 8, 8, 2), "no axis of 1, 3 or 4 channels"),
        ((5, 50), "rows of 50 numbers are no square images"),
        ((5,), "Reshape your data"),
        ((), "must be .N, H, W."),
        ((2, 2, 8, 8, 3), "must be .N, H, W."),
    ],
)
def test_shapes_that_are_refused(shape, message):
    with pytest.raises(DataError, match=message):
        read_images(np.zeros(shape))
    with pytest.raises(DataError, match=message):
        read_images(torch.zeros(shape))


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.uint16, np.int8, np.dtype(">i4")])
def test_whole_numbers_up_to_255_are_uint8(dtype):
    x = np.arange(100).reshape(1, 10, 10).astype(dtype)
    images = read_images(x)
    assert images.pixels.dtype is torch.uint8
    assert np.array_equal(only(images), x[0])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.longdouble, np.dtype(">f4")])
def test_floats_are_float32_in_their_own_units(dtype):
    x = np.linspace(-3, 300, 100).reshape(1, 10, 10).astype(dtype)
    images = read_images(x)
    assert images.pixels.dtype is torch.float32
    assert np.array_equal(only(images), x[0].astype(np.float32))


def test_other_numbers(tmp_path):
    large = np.arange(0, 65536, 656).reshape(1, 10, 10)
    assert read_images(large).pixels.dtype is torch.float32
    assert read_images(torch.from_numpy(large)).pixels.dtype is torch.float32
    assert read_images(torch.from_numpy(large // 1000)).pixels.dtype is torch.uint8
    assert read_images(-np.ones((1, 8, 8), int)).pixels.min() == -1
    mask = np.eye(8, dtype=bool)[None]
    assert read_images(mask).pixels.sum() == 8 * 255
    assert read_images(torch.from_numpy(mask)).pixels.sum() == 8 * 255
    assert read_images(torch.ones(1, 8, 8, dtype=torch.bfloat16, requires_grad=True)).pixels.dtype is torch.float32


def test_arrays_that_torch_cannot_share():
    x = RNG.random((4, 8, 8))
    turned = x[::-1, :, ::-1]
    assert np.array_equal(read_images(turned).pixels[:, 0].numpy(), turned.astype(np.float32))
    locked = x.astype(np.float32)
    locked.flags.writeable = False
    assert np.array_equal(read_images(locked).pixels[:, 0].numpy(), locked)


def test_tables_and_nested_lists():
    rows = RNG.integers(0, 256, (3, 64))
    for given in (pd.DataFrame(rows), rows.tolist(), rows.reshape(3, 8, 8).tolist()):
        assert np.array_equal(read_images(given).pixels.numpy().reshape(3, 64), rows)
    with pytest.raises(DataError, match="nested lists of unequal lengths"):
        read_images([[1, 2, 3, 4], [1, 2]])


def test_not_finite():
    x = RNG.random((5, 8, 8))
    x[2, 3, 3] = np.nan
    x[4, 0, 0] = np.inf
    for given in (x, torch.from_numpy(x), list(x)):
        with pytest.raises(
            DataError, match=r"2 of 5 images cannot be used:\n  image 2: it holds NaN or infinite values"
        ):
            read_images(given)
        images = read_images(given, on_bad="skip")
        assert images.kept.tolist() == [0, 1, 3]
        assert images.names == ["image 0", "image 1", "image 3"]
        assert [item.item for item in images.bad] == ["image 2", "image 4"]
        assert torch.equal(images.pixels, torch.from_numpy(x[[0, 1, 3]]).float()[:, None])
    with pytest.raises(DataError, match="none of the 5 images can be used"):
        read_images(x * np.nan, on_bad="skip")
    with pytest.raises(DataError, match="the image cannot be used:\n  image 0: it holds NaN"):
        read_images(np.full((1, 8, 8), 1e300))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (np.array([["a", "b"]]), r"must be numbers, got an array of shape \(1, 2\) and dtype <U1, such as .*'a'"),
        (np.array([[None, 1]], object), r"must be numbers, got an array of shape \(1, 2\) and dtype object, such as None"),
        (np.zeros((1, 8, 8), complex), "dtype complex128"),
        (torch.zeros(1, 8, 8, dtype=torch.complex64), "dense real numbers, got .* torch.complex64"),
        (torch.eye(8)[None].to_sparse(), "dense real numbers"),
        (np.zeros((0, 8, 8)), r"there are no images: got an array of shape \(0, 8, 8\)"),
        (np.zeros((3, 0, 8)), "there are no images"),
        (torch.zeros(0, 64), "there are no images"),
        ([], "there are no images: the list is empty"),
        (pd.DataFrame({"a": ["x", "y"]}), "must be numbers, got .* object|must be numbers, got .* str"),
        (17, "images are read from a folder, paths, an array, .* got a value of type int"),
        (None, "got a value of type NoneType"),
        (iter([GREY]), "got a value of type list_iterator"),
        ([1, 2], "image 0: it is a value of type int, neither a path nor an image"),
        ([np.zeros((8, 8), complex)], "image 0: images must be numbers"),
        ([np.zeros(8)], r"image 0: its shape is \(8,\)"),
        ([np.zeros((3, 8, 3))], "image 0: its shape .3, 8, 3. can be read as"),
        (np.zeros((1, 8, 8, 4)), "floats with 4 channels"),
    ],
)  # fmt: skip
def test_what_holds_no_images(source, message):
    with pytest.raises(DataError, match=message):
        read_images(source)


def test_classes_come_from_folders_only():
    with pytest.raises(
        DataError, match=r"not from an array of shape \(1, 20, 30\) and dtype uint8: give the classes as y"
    ):
        read_images(GREY[None], labelled=True)


def test_lists_of_images():
    pil = Image.fromarray(GREY)
    assert np.array_equal(only(read_images(pil)), GREY)
    images = read_images([pil, GREY, torch.from_numpy(GREY), GREY[..., None], GREY[None]])
    assert images.names == [f"image {i}" for i in range(5)]
    assert all(np.array_equal(x[0].numpy(), GREY) for x in images.pixels)
    mixed = read_images([pil, COLOUR[:9], GREY[:, :7]], image_size=8)
    assert mixed.pixels.shape == (3, 3, 8, 8)
    objects = np.empty(2, object)
    objects[:] = [GREY, GREY[:8]]
    assert read_images(objects, image_size=(8, 9)).pixels.shape == (2, 1, 8, 9)
    floats = read_images([np.ones((8, 9)), np.ones((9, 8))], image_size=8)
    assert floats.pixels.dtype is torch.float32


def test_lists_of_two_scales():
    with pytest.raises(DataError, match="two scales: image 1 is 8-bit, image 0 is float"):
        read_images([GREY / 255, GREY])


def test_pillow_images_that_are_bad(tmp_path, bad_folder):
    cut = Image.open(bad_folder / "c" / "cut.jpg")
    closed = Image.open(bad_folder / "c" / "0.png")
    closed.close()
    images = read_images([cut, closed, Image.fromarray(GREY)], on_bad="skip")
    cut.close()
    assert images.kept.tolist() == [2]
    assert "truncated" in images.bad[0].reason
    lazy = Image.open(bad_folder / "c" / "0.png")
    assert read_images([lazy] * 20).pixels.shape == (20, 1, 8, 8)


# --------------------------------------------------------------------------------------------------------------- schema


@pytest.mark.parametrize("chunk", [1, 2**22])
def test_learn_measures_each_channel(monkeypatch, chunk):
    monkeypatch.setattr(image_arrays, "CHUNK", chunk)
    x = RNG.random((10, 3, 8, 9)) * np.array([1, 100, 0])[:, None, None] + np.array([0, 5, 0.1])[:, None, None]
    schema = ImageSchema.learn(read_images(x))
    exact = x.astype(np.float32).astype(float)
    assert np.allclose(schema.mean, exact.mean((0, 2, 3)), rtol=1e-12)
    assert np.allclose(schema.std[:2], exact.std((0, 2, 3))[:2], rtol=1e-12)
    assert schema.std[2] == 1  # constant
    assert (schema.channels, schema.height, schema.width, schema.dtype, schema.resize) == (3, 8, 9, "float32", False)
    whole = RNG.integers(0, 256, (10, 8, 9), dtype=np.uint8)
    schema = ImageSchema.learn(read_images(whole), resize=True)
    assert np.allclose([schema.mean, schema.std], [[whole.mean()], [whole.std()]], rtol=1e-12)
    assert (schema.dtype, schema.resize) == ("uint8", True)


def test_schema_to_json_and_back():
    schema = ImageSchema.learn(read_images(COLOUR[None]))
    import json

    assert ImageSchema.from_json(json.loads(json.dumps(schema.to_json()))) == schema


@pytest.mark.parametrize(
    "change",
    [
        {"channels": 2},
        {"height": 0},
        {"width": 3.5},
        {"mean": [1.0, 2.0]},
        {"std": [0.0]},
        {"mean": [float("nan")]},
        {"mean": ["a"]},
        {"mean": None},
        {"dtype": "int8"},
        {"resize": "no"},
        {"extra": 1},
    ],
)
def test_schema_refuses_what_is_none(change):
    good = {"channels": 1, "height": 8, "width": 8, "mean": [0.0], "std": [1.0], "dtype": "uint8", "resize": False}
    assert ImageSchema.from_json(good).height == 8
    with pytest.raises(DataError, match="no description of images"):
        ImageSchema.from_json({**good, **change})


def schema(channels: int = 1, dtype: str = "uint8", *, resize: bool = False, mean: float = 120.0, std: float = 60.0):
    return ImageSchema(channels, 20, 30, (mean,) * channels, (std,) * channels, dtype, resize)


def test_encode_converts_files(tmp_path):
    put(tmp_path, c=1)
    Image.fromarray(COLOUR).save(tmp_path / "c" / "0.png")
    assert np.array_equal(only(schema(1).encode(tmp_path)), np.asarray(Image.fromarray(COLOUR).convert("L")))
    assert np.array_equal(only(schema(3).encode(Image.fromarray(GREY))), np.stack([GREY] * 3, -1))
    assert schema(1).encode(tmp_path, labelled=True).labels == ["c"]


def test_encode_refuses_other_channels_in_arrays():
    for source in (COLOUR[None], [COLOUR], torch.from_numpy(COLOUR)[None]):
        with pytest.raises(DataError, match="has 3 channels, the model was trained on 1 channel: convert"):
            schema(1).encode(source)
    with pytest.raises(DataError, match="has 1 channel, the model was trained on 3 channels"):
        schema(3).encode(GREY[None])


def test_what_to_do_about_other_channels_works():
    grey, colour = RNG.integers(0, 256, (2, 9, 8), dtype=np.uint8), RNG.integers(0, 256, (2, 9, 8, 3), dtype=np.uint8)
    of_grey, of_colour = (ImageSchema.learn(read_images(x)) for x in (grey, colour))
    with pytest.raises(
        DataError,
        match=r"each image has 1 channel, the model was trained on 3 channels: convert the array \(repeat its grey "
        r"values, np.stack\(\[x\] \* 3, axis=-1\) of an x \(N, H, W\)\); files are converted by themselves",
    ):
        of_colour.encode(grey)
    with pytest.raises(
        DataError,
        match=r"has 3 channels.* 1 channel: .*\(make it grey, x @ \[0.299, 0.587, 0.114\] of an x \(N, H, W, 3",
    ):
        of_grey.encode(colour)
    assert of_colour.encode(np.stack([grey] * 3, axis=-1)).pixels.shape == (2, 3, 9, 8)
    luma = of_grey.encode(colour @ [0.299, 0.587, 0.114]).pixels
    free = ImageSchema.learn(read_images(grey), convert=True).encode(colour).pixels
    assert (luma - free.float()).abs().max() <= 0.51


def test_encode_refuses_other_sizes(tmp_path):
    message = r"has 19 x 30 pixels \(height x width\), the model was trained on 20 x 30"
    Image.fromarray(GREY[1:]).save(tmp_path / "a.png")
    for source in (GREY[None, 1:], [GREY[1:]], tmp_path, Image.fromarray(GREY[1:])):
        with pytest.raises(DataError, match=message):
            schema().encode(source)
        assert schema(resize=True).encode(source).pixels.shape == (1, 1, 20, 30)
    images = schema().encode([GREY, GREY[1:]], on_bad="skip")
    assert images.kept.tolist() == [0]


def test_encode_settles_shapes_that_are_ambiguous():
    narrow = ImageSchema(1, 8, 4, (120.0,), (60.0,), "uint8")
    assert narrow.encode(np.zeros((5, 8, 4), np.uint8)).pixels.shape == (5, 1, 8, 4)
    assert narrow.encode(np.zeros((5, 1, 8, 4), np.uint8)).pixels.shape == (5, 1, 8, 4)
    assert narrow.encode(np.zeros((5, 32), np.uint8)).pixels.shape == (5, 1, 8, 4)
    x = RNG.integers(0, 256, (5, 3, 8, 3), dtype=np.uint8)
    first, last = (ImageSchema(3, *size, (120.0,) * 3, (60.0,) * 3, "uint8") for size in ((8, 3), (3, 8)))
    assert np.array_equal(first.encode(x).pixels.numpy(), x)
    assert np.array_equal(last.encode(x).pixels.numpy(), x.transpose(0, 3, 1, 2))


def test_encode_and_scales():
    images = schema(dtype="float32").encode(GREY[None])
    assert images.pixels.dtype is torch.float32
    assert np.array_equal(only(images), GREY)
    assert schema().encode(GREY[None].astype(float)).pixels.dtype is torch.float32
    with pytest.raises(
        DataError, match=r"scale differs: these images run to .*trained on 0..255 .* multiply them by 255"
    ):
        schema().encode(GREY[None] / 255)
    small = schema(dtype="float32", mean=0.13, std=0.3)
    with pytest.raises(DataError, match=r"scale differs: these images run to 255.*divided by 255"):
        small.encode(np.full((1, 20, 30), 255, np.uint8))
    assert small.encode(GREY[None] / 255).pixels.dtype is torch.float32
    assert small.encode(np.zeros((1, 20, 30), np.uint8)).pixels.dtype is torch.float32
