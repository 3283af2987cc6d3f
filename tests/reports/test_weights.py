"""The first layer: filters as pictures, norms by input."""

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

from konspekt.reports.reading import read_folder
from konspekt.reports.weights import first_layer


@pytest.fixture
def drawn(tmp_path, runs):
    """What is shown of these weights."""

    def draw(weights, *, image=None, columns=None, layers=(), config=True):
        folder = runs.bare(tmp_path / "a")
        (folder / "model").mkdir(exist_ok=True)
        if isinstance(weights, dict):
            save_file(
                {k: np.asarray(v, dtype=np.float32) for k, v in weights.items()},
                folder / "model" / "weights.safetensors",
            )
        else:
            (folder / "model" / "weights.safetensors").write_bytes(weights)
        runs.write(folder, "data.json", {"image": image} if image else {"columns": columns or []})
        runs.write(folder, "result.json", {"layers": [{"name": n} for n in layers]})
        if config:
            runs.write(folder, "model/config.json", {"learned": {"schema": {"columns": columns or []}}})
        return first_layer(read_folder(folder))

    return draw


def pictures(source):
    links = re.findall(r'src="data:image/png;base64,([^"]+)"', source)
    return [np.array(Image.open(io.BytesIO(base64.b64decode(link)))) for link in links]


def grid(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_filters_in_grey(drawn):
    weights = grid(5, 1, 4, 3)
    source = drawn({"model.conv1.weight": weights, "model.fc.weight": grid(2, 9)}, image={"channels": 1})
    shown = pictures(source)
    assert len(shown) == 5
    top = np.abs(weights).max()
    for picture, w in zip(shown, weights[:, 0], strict=True):
        np.testing.assert_allclose(picture, 127.5 * (1 + w / top), atol=0.51)
    assert "5 filters of 4 × 3 pixels, of one channel. Mid-grey is zero" in source


def test_filters_in_colour(drawn):
    weights = grid(80, 3, 7, 7)
    source = drawn({"a.weight": weights}, image={"channels": 3})
    shown = pictures(source)
    assert len(shown) == 64
    assert "The first 64 of 80 filters" in source
    np.testing.assert_allclose(
        shown[3][2, 5], 127.5 * (1 + weights[3, :, 2, 5] / np.abs(weights[:64]).max()), atol=0.51
    )


def test_zeros_are_mid_grey(drawn):
    assert set(np.unique(pictures(drawn({"a.weight": np.zeros((1, 1, 3, 3))}, image={"channels": 1}))[0])) <= {127, 128}


def test_the_first_layer_is_the_first_in_the_net(drawn):
    weights = {
        "model.net.blocks.0.weight": grid(2, 1, 3, 3),
        "model.net.blocks.10.weight": grid(4, 1, 3, 3),
        "model.net.stem.weight": grid(3, 1, 5, 5),
        "model.net.head.weight": grid(7, 6, 3, 3),
    }
    assert "3 filters" in drawn(weights, image={"channels": 1}, layers=("net.stem", "net.blocks.0", "net.blocks.10"))
    assert "2 filters" in drawn(weights, image={"channels": 1})  # without result.json: by name, 2 before 10
    del weights["model.net.blocks.0.weight"]
    weights["model.net.blocks.2.weight"] = grid(6, 1, 3, 3)
    assert "6 filters" in drawn(weights, image={"channels": 1})


@pytest.mark.parametrize(
    ("shape", "channels"), [((4, 1, 1, 1), 1), ((4, 2, 5, 5), 2), ((4, 3, 5, 5), 1), ((4, 9), 1), ((4, 1, 5), 1)]
)
def test_what_is_no_picture_is_not_drawn(drawn, shape, channels):
    assert drawn({"a.weight": grid(*shape)}, image={"channels": channels}) is None


NUMBERS = [{"name": "age", "type": "number", "missing": 0}, {"name": "height", "type": "number", "missing": 4}]


def test_norms_by_input(drawn):
    weights = grid(8, 3)
    source = drawn({"model.layers.0.weight": weights, "model.layers.2.weight": grid(1, 8)}, columns=NUMBERS)
    names = ["age", "height", "height is missing"]
    norms = dict(zip(names, np.sqrt((weights**2).sum(axis=0)), strict=True))
    found = re.findall(r'<th scope="row">(.*?)</th><td class="n">(.*?)</td>', source)
    assert found == [(n, f"{norms[n]:.3f}") for n in sorted(names, key=lambda n: -norms[n])]
    assert "width:100.0%" in source


def test_many_inputs(drawn):
    columns = [{"name": f"x{i}", "type": "number", "missing": 0} for i in range(50)]
    source = drawn({"a.weight": grid(4, 50)}, columns=columns)
    assert "The 30 largest of 50." in source
    assert source.count('<th scope="row">') == 30


def test_what_is_ambiguous_is_not_shown(drawn, runs, tmp_path):
    town = {"name": "town", "type": "category", "missing": 0}
    assert drawn({"a.weight": grid(8, 2)}, columns=[*NUMBERS[:1], town]) is None
    assert drawn({"a.weight": grid(8, 9)}, columns=NUMBERS) is None  # a polynomial, say
    assert drawn({"a.weight": grid(8, 3)}, columns=NUMBERS, config=True) is not None
    runs.keep(tmp_path / "a", "weights", "matrix", {"values": [[1]]})
    assert drawn({"a.weight": grid(8, 3)}, columns=NUMBERS) is None


@pytest.mark.parametrize("content", [b"", b"\x80\x04pickle", b"x" * 400, b"\xff" * 8 + b"{"])
def test_weights_that_are_damaged(drawn, content):
    assert "The first layer is not shown: model/ is not readable" in drawn(content, image={"channels": 1})


def test_values_that_are_not_finite_and_links(drawn, tmp_path, runs):
    weights = grid(2, 1, 3, 3)
    weights[0, 0, 0, 0] = np.nan
    assert drawn({"a.weight": weights}, image={"channels": 1}) is None
    folder = tmp_path / "a"
    save_file({"a.weight": grid(2, 1, 3, 3)}, tmp_path / "outside.safetensors")
    assert first_layer(read_folder(folder)) is None
    (folder / "model" / "weights.safetensors").unlink()
    assert first_layer(read_folder(folder)) is None
    (folder / "model" / "weights.safetensors").symlink_to(tmp_path / "outside.safetensors")
    assert first_layer(read_folder(folder)) is None


def test_damaged_config(drawn, runs, tmp_path):
    drawn({"a.weight": grid(8, 3)}, columns=NUMBERS)
    runs.write(tmp_path / "a", "model/config.json", "{")
    assert "model/ is not readable (" in first_layer(read_folder(tmp_path / "a"))
