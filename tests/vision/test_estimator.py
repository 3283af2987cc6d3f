import os
import signal

import numpy as np
import pytest
import torch
from PIL import Image

from konspekt import ImageClassifier, ImageRegressor, load
from konspekt.core.errors import ConfigError, DataError
from konspekt.core.runs import read_metrics
from konspekt.testing.tiny import tiny

SMALL = {"arch": "resnet20(width=0.25)", "epochs": 1, "batch_size": 8, "random_state": 0}


@pytest.fixture(scope="module")
def images():
    return tiny("image-classification", 24)


@pytest.fixture(scope="module")
def trained(images, tmp_path_factory):
    """A model of three classes on the same images, as a folder."""
    X, _ = images
    folder = tmp_path_factory.mktemp("trained") / "model"
    ImageClassifier(**SMALL | {"epochs": 3}).fit(X, np.arange(len(X)) % 3).save(folder)
    return folder


def state(estimator):
    return {n: t.clone() for n, t in estimator.model_.net.state_dict().items()}


def moved(before, after):
    return {n for n in before if not torch.equal(before[n], after[n])}


def test_weights_are_taken_a_head_of_another_size_is_new_and_what_is_frozen_stays(images, trained, tmp_path, capsys):
    X, y = images
    given = {"weights": str(trained), "freeze": "body", "run_dir": str(tmp_path / "run"), "verbose": True}
    fitted = ImageClassifier(**SMALL, **given).fit(X, y)
    before, after = state(load(trained)), state(fitted)
    changed = {n for n in before if before[n].shape != after[n].shape or not torch.equal(before[n], after[n])}
    assert changed == {"fc.weight", "fc.bias"}
    log = (tmp_path / "run" / "log.txt").read_text()
    assert f"weights were taken from {trained}" in log
    assert "the head fc had 3 outputs, here 2: it is new" in log
    assert "the head fc had 3 outputs, here 2: it is new" in capsys.readouterr().out
    assert all(p.requires_grad for p in fitted.model_.parameters())


def test_stages_unfreeze_more_and_more(images, trained, tmp_path):
    X, y = images
    seen = {}

    def look(moment):
        if moment.event == "epoch":
            net = moment.objective.model.net
            seen[moment.stage] = {n for n, p in net.named_parameters() if p.requires_grad}

    fitted = ImageClassifier(
        **SMALL,
        weights=str(trained),
        freeze="body",
        unfreeze=("layer2", "nothing"),
        lr_first=0.1,
        run_dir=str(tmp_path / "run"),
        validation_fraction=0.25,
    ).fit(X, y, callbacks=[look])
    assert list(seen) == ["frozen-1", "frozen-2", "fit"]
    assert seen["frozen-1"] == {"fc.weight", "fc.bias"}
    assert {n.split(".")[0] for n in seen["frozen-2"]} == {"layer3", "fc"}
    assert seen["fit"] == {n for n, _ in fitted.model_.net.named_parameters()}
    assert fitted.n_iter_ == 3
    assert [r["stage"] for r in read_metrics(tmp_path / "run") if r["kind"] == "stage"] == list(seen)


def test_a_fit_killed_in_its_second_stage_resumes_to_the_bit(images, trained, tmp_path):
    X, y = images

    def made(name):
        return ImageClassifier(
            **SMALL, weights=str(trained), freeze="body", unfreeze=("nothing",), run_dir=str(tmp_path / name), checkpoint_every=1
        )  # fmt: skip

    def kill(moment):
        if (moment.event, moment.stage, moment.step) == ("step", "fit", 2):
            os.kill(os.getpid(), signal.SIGKILL)

    made("whole").fit(X, y)
    child = os.fork()
    if child == 0:
        try:
            made("cut").fit(X, y, callbacks=[kill])
        finally:
            os._exit(3)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    made("cut").fit(X, y, resume=tmp_path / "cut")
    whole, cut = (tmp_path / name / "model" / "weights.safetensors" for name in ("whole", "cut"))
    assert whole.read_bytes() == cut.read_bytes()


def test_vgg_grows_from_a_to_the_depth_that_is_wanted(tmp_path):
    X, y = tiny("image-classification", 12)
    fitted = ImageClassifier(
        arch="vgg16(width=0.03)", image_size=32, epochs=1, batch_size=6, progressive=True, run_dir=str(tmp_path / "run")
    ).fit(X, y)
    stages = [r["stage"] for r in read_metrics(tmp_path / "run") if r["kind"] == "stage"]
    assert stages[-1] == "fit"
    assert len(stages) == 3
    assert all(s.startswith("depth-") for s in stages[:-1])
    assert fitted.n_iter_ == 3
    assert load(tmp_path / "run" / "model").predict(X).shape == y.shape


def test_googlenet_grows_from_one_head_to_the_next(tmp_path):
    X, y = tiny("image-classification", 12)
    made = ImageClassifier(
        arch="googlenet(width=0.06)", image_size=48, epochs=1, batch_size=6, progressive=True, run_dir=str(tmp_path / "run")
    )  # fmt: skip
    made.fit(X, y)
    stages = [r["stage"] for r in read_metrics(tmp_path / "run") if r["kind"] == "stage"]
    assert len(stages) == 3
    assert stages[-1] == "fit"


def test_the_neocognitron_learns_its_cells_before_the_readout():
    X, y = tiny("image-classification", 24)
    fitted = ImageClassifier(arch="neocognitron(planes=4)", image_size=16, epochs=3, batch_size=8).fit(X, y)
    again = ImageClassifier(arch="neocognitron(planes=4)", image_size=16, epochs=3, batch_size=8).fit(X, y)
    assert {n for n, _ in fitted.model_.net.named_parameters()} == {"readout.weight", "readout.bias"}
    assert not moved(state(fitted), state(again))


def test_cells_that_have_learned_elsewhere_do_not_grow_again(tmp_path):
    X, y = tiny("image-classification", 24)
    given = {"arch": "neocognitron(planes=4)", "image_size": 16, "epochs": 1, "batch_size": 8}
    ImageClassifier(**given).fit(X[:, ::-1], y).save(tmp_path / "model")
    fitted = ImageClassifier(**given, weights=str(tmp_path / "model"), freeze="body").fit(X, y)
    assert moved(state(load(tmp_path / "model")), state(fitted)) == {"readout.weight", "readout.bias"}


def test_grey_images_may_be_repeated_and_colour_may_become_grey(images):
    X, y = images
    fitted = ImageClassifier(**SMALL, channels=3).fit(X, y)
    assert fitted.model_.net.conv1.weight.shape[1] == 3
    colour = np.repeat(X[..., None], 3, axis=3)
    assert np.array_equal(fitted.predict_proba(X), fitted.predict_proba(colour))
    assert ImageClassifier(**SMALL, channels=1).fit(colour, y).model_.net.conv1.weight.shape[1] == 1


def test_numbers_are_learned_from_images_in_their_own_units():
    X, y = tiny("image-regression", 48)
    fitted = ImageRegressor(arch="lenet", epochs=40, batch_size=16, lr=3e-3).fit(X, y)
    assert fitted.score(X, y) > 0.9
    assert abs(fitted.predict(X) - y).mean() < 1.2
    several = ImageRegressor(arch="lenet", epochs=1).fit(X, np.stack([y, -y], 1))
    assert several.predict(X).shape == (48, 2)


def test_names_of_folders_are_no_numbers(tmp_path):
    for place, name in enumerate(["3", "7"]):
        (tmp_path / name).mkdir()
        for i in range(2):
            Image.fromarray(np.full((16, 16), 10 * i + place, dtype=np.uint8)).save(tmp_path / name / f"{i}.png")
    with pytest.raises(DataError, match=r"a folder brings none: give an array of numbers, or .* a csv file of paths"):
        ImageRegressor(epochs=1).fit(tmp_path)
    assert ImageRegressor(epochs=1).fit(tmp_path, [1.0, 2, 3, 4]).predict(tmp_path).shape == (4,)


@pytest.mark.parametrize("augment", [("mixup",), ("flip", "crop(padding=2)", "rotate(degrees=10)")])
def test_augmented_and_mixed_fits_are_seeded_and_leave_predictions_alone(images, augment):
    X, y = images
    one, two = (ImageClassifier(arch="lenet", epochs=2, batch_size=8, augment=augment).fit(X, y) for _ in range(2))
    plain = ImageClassifier(arch="lenet", epochs=2, batch_size=8).fit(X, y)
    assert not moved(state(one), state(two))
    assert moved(state(one), state(plain))
    assert np.array_equal(one.predict_proba(X), one.predict_proba(X))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"unfreeze": ("nothing",)}, "unfreeze=('nothing',) goes on from a frozen net: give freeze='body'"),
        ({"freeze": "body"}, "freeze='body' would keep weights that were drawn at random: give weights="),
        ({"first_layer": "sum"}, "first_layer='sum' is about a file of weights: give weights="),
        ({"progressive": True, "weights": "x"}, "progressive=True begins at random: leave weights and freeze out"),
        (
            {"progressive": True},
            "progressive=True, but 'resnet20' has no stages of depth; vgg13 to vgg19 and googlenet",
        ),
        ({"lr_first": 0}, "lr_first must be"),
        ({"test_augment": ("flip", "mixup(alpha=1)")}, "test_augment='mixup' would predict for two images at once"),
        ({"augment": ("flop",)}, "augment 'flop' is not a registered augmentation; did you mean 'flip'"),
    ],
)
def test_what_does_not_go_together_is_refused(images, given, message):
    with pytest.raises(ConfigError) as error:
        ImageClassifier(**SMALL | given).fit(*images)
    assert message in str(error.value)


def test_batches_of_one_item_need_maps_of_several_pixels():
    X, y = tiny("image-classification", 8)
    given = {"arch": "resnet18(width=0.1)", "batch_size": 1, "epochs": 1}
    with pytest.raises(
        ConfigError, match=r"ImageClassifier: batch normalisation has one number of each map .* batch_size"
    ):
        ImageClassifier(**given, image_size=16).fit(X, y)
    assert len(ImageClassifier(**given, image_size=64).fit(X, y).history_) == 1


def test_a_depth_that_the_net_does_not_have(images, trained):
    with pytest.raises(ConfigError, match="ImageClassifier: freeze: the net has no part 'layer9' with weights"):
        ImageClassifier(**SMALL, weights=str(trained), freeze="layer9").fit(*images)
    with pytest.raises(ConfigError, match="ImageClassifier: unfreeze: the net has no part 'layr1'"):
        ImageClassifier(**SMALL, weights=str(trained), freeze="body", unfreeze=("layr1",)).fit(*images)
