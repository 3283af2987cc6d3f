"""The image classifier: what it takes, what its parameters do, and that a saved one is the same to the bit."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.base import clone

import konspekt
from konspekt import ImageClassifier
from konspekt.core.errors import ConfigError, DataError
from konspekt.core.params import build
from konspekt.nn.scaling import Standardise

TINY = {"arch": "mlp(hidden=(8,))", "epochs": 2}


def images(count=24, size=(8, 8), channels=None, seed=0):
    """A bright bar, upright (0) or lying (1), on noise."""
    rng = np.random.default_rng(seed)
    shape = (count, *size) if channels is None else (count, *size, channels)
    pixels = rng.integers(0, 60, size=shape, dtype=np.uint8)
    y = np.arange(count) % 2
    pixels[y == 0, :, 2:4] += 150
    pixels[y == 1, 2:4] += 150
    return pixels, y


@pytest.fixture
def folder(tmp_path):
    """A folder with a sub-folder for each class, in grey."""
    return fill(tmp_path / "bars")


def fill(root, size=(8, 8), seed=0):
    pixels, y = images(size=size, seed=seed)
    for name in ("upright", "lying"):
        (root / name).mkdir(parents=True)
    for i, (picture, label) in enumerate(zip(pixels, y, strict=True)):
        Image.fromarray(picture).save(root / ("upright", "lying")[label] / f"{i:02}.png")
    return root


# --------------------------------------------------------------------------------------------------------- what it takes


def test_arrays_lists_and_tensors_are_the_same():
    pixels, y = images()
    model = ImageClassifier(**TINY).fit(pixels, y)
    expected = model.predict_proba(pixels)
    assert expected.shape == (24, 2)
    for same in (
        pixels[:, None],
        pixels[..., None],
        torch.from_numpy(pixels),
        [Image.fromarray(p) for p in pixels],
        list(pixels),
    ):
        np.testing.assert_array_equal(ImageClassifier(**TINY).fit(same, y).predict_proba(same), expected)
        np.testing.assert_array_equal(model.predict_proba(same), expected)


def test_colour_arrays_either_way_round():
    pixels, y = images(channels=3)
    model = ImageClassifier(**TINY).fit(pixels, y)
    assert model.schema_.channels == 3
    np.testing.assert_array_equal(model.predict_proba(pixels.transpose(0, 3, 1, 2)), model.predict_proba(pixels))


def test_a_folder_is_learned_and_its_paths_are_predicted(folder, monkeypatch):
    model = ImageClassifier(**TINY | {"epochs": 8, "lr": 0.02}).fit(folder)
    assert model.classes_.tolist() == ["lying", "upright"]
    paths = sorted(folder.rglob("*.png"))
    truth = [p.parent.name for p in paths]
    assert model.predict(paths).tolist() == truth  # paths alone, no labels
    assert model.predict([str(p) for p in paths]).tolist() == truth
    np.testing.assert_array_equal(model.predict_proba(folder), model.predict_proba(paths))
    assert model.predict(paths[0]).tolist() == truth[:1]
    assert model.evaluate(folder)["accuracy"] == 1.0
    assert model.evaluate(paths, truth) == model.evaluate(folder)
    assert model.score(paths, truth) == 1.0
    table = model.predict_frame(folder)
    assert table["item"].tolist() == [p.relative_to(folder).as_posix() for p in paths]
    monkeypatch.chdir(folder)
    assert model.predict(["lying/01.png"]).tolist() == ["lying"]


def test_validation_as_a_folder_a_pair_or_a_share(folder, tmp_path):
    other = fill(tmp_path / "other", seed=1)
    pixels, y = images(seed=1)
    names = np.array(["upright", "lying"])[y]
    by_folder = ImageClassifier(**TINY, run_dir=str(tmp_path / "run")).fit(folder, validation=other)
    by_pair = ImageClassifier(**TINY).fit(folder, validation=(pixels, names))
    for key in ("val_loss", "val_accuracy"):
        assert by_folder.history_[-1][key] == pytest.approx(by_pair.history_[-1][key], abs=1e-6)
    assert by_folder.history_[-1]["val_accuracy"] == by_folder.evaluate(other)["accuracy"]
    facts = json.loads((tmp_path / "run/data.json").read_text())
    assert (facts["train"], facts["validation"]) == (24, 24)
    by_share = ImageClassifier(**TINY, validation_fraction=0.25).fit(folder)
    assert "val_accuracy" in by_share.history_[-1]
    (other / "sideways").mkdir()
    Image.fromarray(pixels[0]).save(other / "sideways/1.png")
    with pytest.raises(
        DataError, match=r"labels that the training did not have: 'sideways'; its classes are 'lying', 'upright'"
    ):
        ImageClassifier(**TINY).fit(folder, validation=other)


def test_bad_files_of_the_validation_are_listed_too(folder, tmp_path):
    other = fill(tmp_path / "other", seed=1)
    (other / "lying/bad.png").write_text("no picture")
    with pytest.raises(DataError, match=r"1 of 25 images cannot be used:\n  lying/bad\.png"):
        ImageClassifier(**TINY).fit(folder, validation=other)
    run = tmp_path / "run"
    ImageClassifier(**TINY, on_bad="skip", run_dir=str(run)).fit(folder, validation=other)
    facts = json.loads((run / "data.json").read_text())
    assert [s["item"] for s in facts["skipped"]] == ["lying/bad.png"]
    assert facts["validation"] == 24


def test_what_an_evaluation_leaves_out_is_said(folder, tmp_path):
    other = fill(tmp_path / "other", seed=1)
    model = ImageClassifier(**TINY, on_bad="skip").fit(folder)
    scores = model.evaluate(other)
    (other / "lying/bad.png").write_text("no picture")
    with pytest.warns(UserWarning, match=r"1 of 25 items could not be used, .*, such as lying/bad\.png: not an image"):
        assert model.evaluate(other) == scores


# -------------------------------------------------------------------------------------------------------- what it computes


def test_predictions_are_the_net_over_standardised_pixels():
    pixels, y = images()
    model = ImageClassifier(**TINY).fit(pixels, y)
    scale, net = model.model_.scale, model.model_.net
    assert isinstance(scale, Standardise)
    x = (pixels / 1.0 - pixels.mean()) / pixels.std()
    first, last = (m for m in net.layers if isinstance(m, torch.nn.Linear))
    hidden = np.maximum(x.reshape(24, -1) @ first.weight.detach().numpy().T + first.bias.detach().numpy(), 0)
    logits = hidden @ last.weight.detach().numpy().T + last.bias.detach().numpy()
    expected = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    np.testing.assert_allclose(model.predict_proba(pixels), expected, atol=1e-5)


@pytest.mark.parametrize("arch", ["lenet", "lenet(form='paper')", "mlp", "mlp(hidden=(16, 8), dropout=0.1)"])
def test_each_net_learns(arch):
    pixels, y = images(size=(16, 16))
    model = ImageClassifier(arch=arch, epochs=12, lr=0.01, batch_size=8).fit(pixels, y)
    assert model.score(pixels, y) == 1.0
    assert model.history_[-1]["loss"] < model.history_[0]["loss"]


def test_the_nets_arguments_come_from_arch():
    pixels, y = images()
    model = ImageClassifier(arch="mlp(hidden=(5, 3))", epochs=1).fit(pixels, y)
    shapes = [tuple(m.weight.shape) for m in model.model_.net.layers if isinstance(m, torch.nn.Linear)]
    assert shapes == [(5, 64), (3, 5), (2, 3)]
    same = build("net", "mlp(hidden=(5, 3))", 1, 2, (8, 8))
    assert [p.shape for p in same.parameters()] == [p.shape for p in model.model_.net.parameters()]


@pytest.mark.parametrize(
    ("arch", "message"),
    [
        ("lenet(num_classes=5)", "arch='lenet' has no argument 'num_classes'"),
        ("mlp(image_size=(9, 9))", "arch='mlp' has no argument 'image_size'"),
        ("mlp(hiden=(3,))", "did you mean 'hidden'"),
        ("mlp(hidden=3)", "hidden must be a tuple"),
        ("mlp(hidden=(0,))", "at least 1"),
        ("mlp(dropout=1)", "dropout must be"),
        ("lenett", "did you mean 'lenet'"),
        ("mlp(", "must be a name or a call such as"),
        ("mlp(hidden=open('x'))", "must be a name or a call such as"),
    ],
)
def test_wrong_nets_are_named(arch, message):
    pixels, y = images()
    with pytest.raises(ConfigError, match="ImageClassifier: arch") as caught:
        ImageClassifier(arch=arch).fit(pixels, y)
    assert message in str(caught.value)


def test_images_too_small_for_the_net_say_what_to_do(folder):
    pixels, y = images()
    for X, labels in ((pixels, y), (folder, None)):
        with pytest.raises(
            ConfigError, match=r"at least 16 x 16 pixels.*got \(8, 8\): enlarge the images, with image_size="
        ):
            ImageClassifier(arch="lenet", epochs=1).fit(X, labels)
        ImageClassifier(arch="lenet", epochs=1, image_size=16).fit(X, labels)


@pytest.mark.parametrize(("image_size", "shape"), [(12, (12, 12)), ((9, 14), (9, 14)), (None, (8, 8))])
def test_image_size(folder, image_size, shape):
    model = ImageClassifier(**TINY, image_size=image_size).fit(folder)
    assert (model.schema_.height, model.schema_.width) == shape
    other = np.random.default_rng(0).integers(0, 255, size=(3, 20, 30), dtype=np.uint8)
    if image_size is None:
        with pytest.raises(DataError, match="image_size="):
            model.predict(other)
    else:
        assert model.predict(other).shape == (3,)


@pytest.mark.parametrize("image_size", [0, -3, 2.5, "8", (8,), (8, 0), (8, 8, 8), True])
def test_a_wrong_image_size(image_size):
    pixels, y = images()
    with pytest.raises(ConfigError, match="image_size must be a number of pixels"):
        ImageClassifier(**TINY, image_size=image_size).fit(pixels, y)


def test_an_image_size_that_no_memory_holds():
    with pytest.raises(ConfigError, match=r"image_size=100000: images have at most 178,956,970 pixels here"):
        ImageClassifier(**TINY, image_size=100_000).fit(*images())


def test_mixed_sizes_need_image_size(folder):
    Image.fromarray(np.zeros((9, 11), dtype=np.uint8)).save(folder / "lying/odd.png")
    with pytest.raises(
        DataError, match=r"(?s)2 sizes .*8 x 8: 24 images.*9 x 11: 1 image, such as lying/odd\.png.*image_size="
    ):
        ImageClassifier(**TINY).fit(folder)
    assert ImageClassifier(**TINY, image_size=8).fit(folder).predict(folder).shape == (25,)


# --------------------------------------------------------------------------------------------------------- augmentation


def weights(model):
    return torch.cat([p.detach().flatten() for p in model.model_.parameters()])


def test_augmentation_changes_the_training_and_is_seeded():
    pixels, y = images(size=(16, 16))
    fits = [
        ImageClassifier(**TINY, augment=names, random_state=seed).fit(pixels, y)
        for names, seed in (((), 0), (("shift",), 0), (("shift",), 0), (("shift",), 1), (("shift", "shift"), 0))
    ]
    plain, shifted, again, other, twice = map(weights, fits)
    assert torch.equal(shifted, again)
    for different in (plain, other, twice):
        assert not torch.equal(shifted, different)


def test_a_draw_belongs_to_the_seed_the_epoch_and_the_item():
    pixels, y = images(size=(16, 16))
    transform = ImageClassifier(**TINY, augment=("shift",)).fit(pixels, y).make_transform()
    whole = torch.from_numpy(pixels)[:, None]
    everything = [transform({"x": whole, "index": torch.arange(24)}, epoch)["x"] for epoch in (0, 1)]
    for items in (torch.tensor([5, 2, 17]), torch.tensor([2])):
        batch = transform({"x": whole[items], "index": items}, 1)
        assert torch.equal(batch["x"], everything[1][items])
    assert not torch.equal(everything[0], everything[1])
    assert not torch.equal(everything[0], whole)
    assert ImageClassifier(**TINY).make_transform() is None


def test_prediction_is_not_augmented():
    pixels, y = images(size=(16, 16))
    model = ImageClassifier(**TINY, augment=("shift",)).fit(pixels, y)
    np.testing.assert_array_equal(model.predict_proba(pixels), model.predict_proba(pixels))
    np.testing.assert_allclose(model.predict_proba(pixels)[3:5], model.predict_proba(pixels[3:5]), rtol=1e-6)


def test_an_unknown_augmentation():
    pixels, y = images()
    with pytest.raises(ConfigError, match="'shfit' is not a registered augmentation; did you mean 'shift'"):
        ImageClassifier(augment=("shfit",)).fit(pixels, y)
    with pytest.raises(ConfigError, match="ImageClassifier: augment must be a tuple"):
        ImageClassifier(augment="shift").fit(pixels, y)


# ---------------------------------------------------------------------------------------------------------- the contract


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"arch": "lenet", "image_size": 16},
        {"arch": "lenet(form='paper')", "image_size": (17, 20), "augment": ("shift",)},
        {"class_weight": "balanced", "random_state": 3},
    ],
    ids=["mlp", "lenet", "paper", "weighted"],
)
def test_a_model_comes_back_to_the_bit(folder, params, tmp_path):
    model = ImageClassifier(**TINY | params).fit(folder)
    again = konspekt.load(model.save(tmp_path / "model"))
    np.testing.assert_array_equal(again.predict_proba(folder), model.predict_proba(folder))
    assert again.predict(folder).tolist() == model.predict(folder).tolist()
    assert again.schema_ == model.schema_
    assert again.get_params() == model.get_params()
    assert torch.equal(weights(again), weights(model))


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, bool])
def test_pixels_of_any_type_come_back_to_the_bit(dtype, tmp_path):
    pixels, y = images()
    pixels = (pixels / 255 if np.dtype(dtype).kind == "f" else pixels > 100 if dtype is bool else pixels).astype(dtype)
    model = ImageClassifier(**TINY).fit(pixels, y)
    again = konspekt.load(model.save(tmp_path / "model"))
    np.testing.assert_array_equal(again.predict_proba(pixels), model.predict_proba(pixels))


def test_the_same_seed_gives_the_same_bits(folder):
    one, two, three = (ImageClassifier(**TINY, random_state=seed).fit(folder) for seed in (0, 0, 1))
    assert torch.equal(weights(one), weights(two))
    assert not torch.equal(weights(one), weights(three))
    assert torch.equal(weights(clone(one).fit(folder)), weights(one))


def test_the_run_holds_the_worst_pictures(folder, tmp_path):
    run = tmp_path / "run"
    ImageClassifier(**TINY, run_dir=str(run), validation_fraction=0.25).fit(folder)
    items = json.loads((run / "items/items.json").read_text())
    assert {i["role"] for i in items} == {"example", "worst"}
    for item in items:
        with Image.open(run / "items" / item["image"]) as picture:
            assert picture.size == (8, 8)
        assert item["truth"] in ("lying", "upright")
    facts = json.loads((run / "data.json").read_text())
    assert facts["image"] == {"channels": 1, "height": 8, "width": 8, "dtype": "uint8"}


def test_points_of_the_space_are_parameters():
    for seed in range(20):
        point = ImageClassifier.space().draw(np.random.default_rng(seed))
        ImageClassifier(**point).check_params()
        assert point["arch"] in ("lenet", "mlp", "resnet20")
