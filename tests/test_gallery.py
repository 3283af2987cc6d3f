"""The gallery: every augmentation has its picture, every picture stands on the page, and the page's lines made them."""

import ast
import io
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from konspekt.core import entries
from konspekt.core.params import split_call
from konspekt.testing import docs, gallery, gallery_rows
from konspekt.vision.augment import augment

ROOT = docs.repository(Path(__file__))
PAGE = (ROOT / "docs/gallery.md").read_text(encoding="utf-8")
SHOWN = re.findall(r"!\[([^\]]+)\]\(gallery/([\w-]+)\.png\)", PAGE)
LINES = re.findall(r"^```python\n(.*?)^```$", PAGE, re.M | re.S)
REGISTERED = [e.name for e in entries() if e.kind == "augmentation" and e.module.startswith("konspekt.")]


@pytest.fixture(scope="module")
def nets():
    """The nets of the page, hardly trained."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gallery_rows, "SCENES", "resnet18(width=0.05)")
        return gallery.fit_digits(1, 60), gallery.fit_scenes(1, 40)


@pytest.mark.parametrize("name", REGISTERED)
def test_augmentation_stands_on_the_page_with_its_picture(name):
    assert f"**{name}**: " in PAGE
    assert f"augment-{name}" in {file for _, file in SHOWN}
    assert split_call(gallery.AUGMENTATIONS[name][1], "augment")[0] == name


def test_pictures_exist_and_none_is_an_orphan():
    files = {path.stem: path for path in (ROOT / "docs/gallery").iterdir()}
    assert sorted(file for _, file in SHOWN) == sorted(files)
    assert all(path.suffix == ".png" for path in files.values())
    sizes = {name: path.stat().st_size for name, path in files.items()}
    assert max(sizes.values()) < 150_000
    assert sum(sizes.values()) < 1_500_000
    for path in files.values():
        with Image.open(path) as picture:
            picture.load()
            assert picture.width <= 800
            assert not picture.info.keys() & {"Software", "Creation Time"}


def test_every_picture_of_the_page_is_made(nets):
    assert set(gallery.pictures(*nets)) == {file for _, file in SHOWN}


def test_pictures_are_made(nets, monkeypatch):
    monkeypatch.setattr(gallery, "NETS", {"lenet": ("conv2", 32)})
    monkeypatch.setattr(gallery, "PRUNING", {"share": (0.5,), "epochs": 0})
    for name, make in gallery.pictures(*nets, step=8).items():
        made = make()
        if name.startswith("augment-"):
            assert made.width == 740, name
            assert len(set(made.tobytes())) > 100, name
        else:
            data = gallery.png(made)
            assert data.startswith(b"\x89PNG"), name
            assert len(data) > 1000, name


def calls(text):
    """The calls of the public functions that the gallery shows, without `.save`."""
    found = [n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.Call)]
    return {ast.unparse(n) for n in found if re.match(r"(explain\.\w+|augment)$", ast.unparse(n.func))}


def test_lines_of_the_page_are_those_of_the_gallery():
    own = set().union(*(calls(Path(m.__file__).read_text(encoding="utf-8")) for m in (gallery, gallery_rows)))
    general = {
        c for c in calls("\n".join(LINES)) if "alexnet" not in c and "layer='layer2'" not in c and "prune" not in c
    }
    assert len(general) == 9
    assert general <= own
    (pruned,) = (c for c in calls("\n".join(LINES)) if "prune" in c)
    assert pruned == f"explain.prune(digits, X, y, {', '.join(f'{k}={v!r}' for k, v in gallery.PRUNING.items())})"


def test_lines_of_the_page_run(nets, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    digits, scenes = nets
    shown = gallery.handwritten()
    monkeypatch.setattr(gallery, "fit_digits", lambda: digits)
    monkeypatch.setattr(gallery, "fit_scenes", lambda: scenes)
    monkeypatch.setattr(gallery, "handwritten", lambda: tuple(part[:60] for part in shown))
    whole = gallery.tensor
    monkeypatch.setattr(gallery, "tensor", lambda name: whole(name, 8))
    found = {}
    for text in LINES:
        exec(text.replace("epochs=2", "epochs=0"), found)  # noqa: S102 - the page's own lines
    assert list(scenes.classes_) == ["flower", "rest", "temple"]
    assert [scenes.classes_[found[n]] for n in ("bloom", "rest", "temple")] == list(scenes.classes_)
    assert found["by_arithmetic"] == 195
    assert 20 < found["by_gradient"] < 195
    assert found["after"]["boxes"].shape == (4, 4)
    assert {path.name for path in tmp_path.glob("*.png")} >= {"filters-digits.png", "saliency.png", "temple.png"}


def test_patches_bear_the_names_of_what_they_show():
    X, y = gallery_rows._patches(30)
    assert X.shape == (30, 64, 64, 3)
    assert set(y) == {"flower", "rest", "temple"}
    red, _, blue = X[y == "flower"].mean((0, 1, 2))
    assert red > blue + 50  # the flower is orange
    assert np.array_equal(gallery_rows._patches(30)[0], X)


def test_mixtures_have_the_shares_under_them():
    pair = {"x": torch.cat([gallery.batch(n, 1)["x"] for n in ("china", "flower")]), "index": torch.arange(2)}
    mean = pair["x"].float().mean((1, 2, 3))
    after = augment(pair | {"y": torch.arange(2)}, names=("mixup(alpha=1)",), seed=0, epoch=0)
    share = float(after["mix"][0])
    assert float(after["x"][0].float().mean()) == pytest.approx(float(share * mean[0] + (1 - share) * mean[1]), abs=0.5)


def test_figures_and_photographs_become_small_files_of_the_same_size():
    noise = np.random.default_rng(0).integers(0, 256, (300, 300, 3), dtype=np.uint8)
    data = gallery.png(Image.fromarray(noise))
    assert len(data) < noise.size / 2
    assert gallery.png(Image.fromarray(noise)) == data
    paper = np.full((40, 40, 3), 255, np.uint8)
    paper[:20] = 255 - noise[:20, :40] // 16  # much that is nearly white, as a sky
    with Image.open(io.BytesIO(gallery.png(Image.fromarray(paper)))) as read:
        assert read.size == (40, 40)
        assert np.asarray(read.convert("RGB"))[39].min() == 255


def test_wrong_usage_and_wrong_place(tmp_path, monkeypatch, capsys):
    assert gallery.main(["--all"]) == 2
    assert capsys.readouterr().err == "usage: python -m konspekt.testing.gallery\n"
    monkeypatch.chdir(tmp_path)
    assert gallery.main([]) == 1
    assert "is not inside konspekt's repository" in capsys.readouterr().err
