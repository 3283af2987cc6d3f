"""Hidden layers as features: against forward hooks of torch, in scikit-learn's pipelines, saved and loaded."""

import json

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from torch import nn

import konspekt
from konspekt import FeatureExtractor, ImageClassifier, MLPClassifier
from konspekt.core.errors import ConfigError, DataError
from konspekt.testing import tiny


class Net(nn.Module):
    """Maps, a normalisation behind which a layer works in place, a pair, a layer that is not used, a head."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(1, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.relu = nn.ReLU(inplace=True)
        self.pair = Pair()
        self.unused = nn.Linear(2, 2)
        self.mix = Mix()
        self.fc = nn.Linear(4, 2)

    def forward(self, x):
        maps, _ = self.pair(self.relu(self.norm(self.conv(x))))
        return self.fc(self.mix(maps).mean((2, 3)))


class Pair(nn.Module):
    def forward(self, x):
        return x, 2 * x


class Mix(nn.Module):
    """Hands the maps on, by way of a layer that sees all images as one."""

    def __init__(self):
        super().__init__()
        self.whole = nn.Flatten(0)

    def forward(self, x):
        return self.whole(x).view_as(x)


@pytest.fixture(scope="module")
def data():
    return tiny("image-classification")


@pytest.fixture(scope="module")
def lenet(data):
    return ImageClassifier(arch="lenet", epochs=2, random_state=0).fit(*data)


@pytest.fixture(scope="module")
def own(data):
    return ImageClassifier(model=Net(), epochs=2, random_state=0).fit(*data)


def made(model, **params):
    return FeatureExtractor(model=model, **params).fit()


@torch.no_grad()
def hooked(model, layer, X, before=False):
    """What a layer gives, or takes, by a hook that is put on here."""
    kept, net = [], model.model_.net
    module = net.get_submodule(layer)
    if before:
        handle = module.register_forward_pre_hook(lambda m, given: kept.append(given[0].clone()))
    else:
        handle = module.register_forward_hook(lambda m, given, out: kept.append(out.clone()))
    model.model_.eval()(torch.from_numpy(X)[:, None])
    handle.remove()
    return kept[0].numpy()


# ---------------------------------------------------------------------------------------------------------- the features


def test_vectors_are_what_a_hook_sees(lenet, data):
    features = made(lenet, layer="fc2").transform(data[0])
    assert features.dtype == np.float32
    np.testing.assert_array_equal(features, hooked(lenet, "fc2", data[0]))


def test_without_a_layer_it_is_what_goes_into_the_head(lenet, own, data):
    np.testing.assert_array_equal(made(lenet).transform(data[0]), hooked(lenet, "fc3", data[0], before=True))
    np.testing.assert_array_equal(made(own).transform(data[0]), hooked(own, "fc", data[0], before=True))


@pytest.mark.parametrize(
    ("pooling", "pooled"),
    [
        ("average", lambda m: m.mean((2, 3))),
        ("max", lambda m: m.max((2, 3))),
        ("flat", lambda m: m.reshape(len(m), -1)),
    ],
)
def test_maps_are_pooled(pooling, pooled, lenet, data):
    extractor = made(lenet, layer="conv1", pooling=pooling)
    maps = hooked(lenet, "conv1", data[0])
    assert maps.shape == (24, 6, 12, 12)
    features = extractor.transform(data[0])
    np.testing.assert_allclose(features, pooled(maps), rtol=1e-6, atol=1e-6)
    assert extractor.n_features_out_ == features.shape[1] == (6 * 144 if pooling == "flat" else 6)


def test_averaged_maps_of_a_resnet_are_what_its_head_takes(data):
    model = ImageClassifier(arch="resnet18(width=0.125)", epochs=1, random_state=0).fit(*data)
    features = made(model, layer="layer4").transform(data[0])
    np.testing.assert_allclose(features, made(model).transform(data[0]), rtol=1e-5, atol=1e-6)
    head = model.model_.net.fc
    logits = features @ head.weight.detach().numpy().T + head.bias.detach().numpy()
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    np.testing.assert_allclose(shares, model.predict_proba(data[0]), rtol=1e-4)


def test_a_layer_that_works_in_place_behind_it_changes_nothing(own, data):
    features = made(own, layer="norm", pooling="flat").transform(data[0])
    assert (features < 0).any()
    np.testing.assert_array_equal(features, hooked(own, "norm", data[0]).reshape(24, -1))


def test_many_images_are_taken_in_batches(lenet, data):
    X = np.concatenate([data[0]] * 12)  # 288, more than one batch
    features = made(lenet, layer="conv1", pooling="flat").transform(X)
    np.testing.assert_allclose(features, np.tile(features[:24], (12, 1)), rtol=1e-5, atol=1e-5)
    assert len(features) == 288


def test_nothing_is_left_on_the_net_and_nothing_changes(lenet, data):
    extractor = made(lenet, layer="fc1")
    state = {n: t.clone() for n, t in lenet.model_.state_dict().items()}
    first = extractor.transform(data[0])
    np.testing.assert_array_equal(first, extractor.transform(data[0]))
    assert all(torch.equal(t, state[n]) for n, t in lenet.model_.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in lenet.model_.modules())


def test_names(lenet, data):
    assert made(lenet, layer="conv2").get_feature_names_out().tolist() == [f"conv2_{i}" for i in range(16)]
    assert made(lenet).get_feature_names_out()[:2].tolist() == ["hidden_0", "hidden_1"]
    table = made(lenet, layer="conv1").set_output(transform="pandas").transform(data[0])
    assert table.columns.tolist() == [f"conv1_{i}" for i in range(6)]


def test_a_table_for_people(lenet, data):
    extractor = made(lenet, layer="conv1")
    frame = extractor.predict_frame(data[0][:3])
    assert frame.columns.tolist() == ["item", *(f"conv1_{i}" for i in range(6))]
    assert frame["item"].tolist() == ["image 0", "image 1", "image 2"]
    np.testing.assert_array_equal(frame.iloc[:, 1:].to_numpy(), extractor.transform(data[0][:3]))


# ---------------------------------------------------------------------------------------------------------- scikit-learn


def test_a_clone_keeps_the_model_and_is_not_fitted(lenet, data):
    extractor = made(lenet, layer="fc2")
    copy = clone(extractor)
    assert copy.model is lenet
    assert copy.get_params() == extractor.get_params() == {"model": lenet, "layer": "fc2", "pooling": "average"}
    with pytest.raises(NotFittedError):
        copy.transform(data[0])
    np.testing.assert_array_equal(copy.fit(data[0]).transform(data[0]), extractor.transform(data[0]))


def test_in_a_pipeline_cross_validation_and_a_search(lenet, data):
    X, y = data
    pipe = make_pipeline(FeatureExtractor(model=lenet, layer="fc1"), LogisticRegression(max_iter=500))
    by_hand = cross_val_score(LogisticRegression(max_iter=500), hooked(lenet, "fc1", X), y, cv=3)
    assert cross_val_score(pipe, X, y, cv=3).tolist() == by_hand.tolist()
    search = GridSearchCV(pipe, {"featureextractor__layer": ["conv1", "fc2"]}, cv=3).fit(X, y)
    assert search.best_estimator_.predict(X).shape == y.shape
    assert list(search.cv_results_["param_featureextractor__layer"]) == ["conv1", "fc2"]


# ------------------------------------------------------------------------------------------------------- saved and loaded


def test_saved_and_loaded_it_is_the_same_to_the_bit(lenet, data, tmp_path):
    extractor = made(lenet, layer="conv2", pooling="max")
    folder = extractor.save(tmp_path / "features")
    back = konspekt.load(folder)
    assert type(back) is FeatureExtractor
    assert (back.layer, back.pooling, back.n_features_out_) == ("conv2", "max", 16)
    np.testing.assert_array_equal(back.transform(data[0]), extractor.transform(data[0]))
    np.testing.assert_array_equal(clone(back).fit().transform(data[0]), extractor.transform(data[0]))
    assert back.estimator_.predict_proba(data[0]).tolist() == lenet.predict_proba(data[0]).tolist()
    card = (folder / "card.md").read_text()
    assert "features: the layer 'conv2' of the net of ImageClassifier, trained on 24 items" in card
    assert extractor.model is lenet


def test_from_the_folder_of_a_model_and_of_a_run(lenet, data, tmp_path):
    wanted = made(lenet, layer="fc2").transform(data[0])
    saved = made(str(lenet.save(tmp_path / "model")), layer="fc2")
    np.testing.assert_array_equal(saved.transform(data[0]), wanted)
    run = ImageClassifier(arch="lenet", epochs=2, random_state=0, run_dir=str(tmp_path / "run")).fit(*data)
    assert run.run_.path == tmp_path / "run"
    np.testing.assert_array_equal(made(tmp_path / "run", layer="fc2").transform(data[0]), wanted)
    back = konspekt.load(saved.save(tmp_path / "features"))  # which needs the first folder no more
    np.testing.assert_array_equal(back.transform(data[0]), wanted)


def test_a_net_of_the_users_own_is_asked_for(own, data, tmp_path):
    extractor = made(own, layer="conv")
    folder = extractor.save(tmp_path / "features")
    with pytest.raises(ConfigError, match="fitted with a net of the user's own"):
        konspekt.load(folder)
    back = konspekt.load(folder, model=Net())
    np.testing.assert_array_equal(back.transform(data[0]), extractor.transform(data[0]))


def test_a_config_that_names_another_system_or_layer_is_refused(lenet, tmp_path):
    from konspekt.core.folders import json_bytes, write_folder

    folder = made(lenet, layer="conv1").save(tmp_path / "features")
    config = json.loads((folder / "config.json").read_text())

    def spoiled(name, **changes):
        files = {p.name: p.read_bytes() for p in folder.iterdir() if p.name != "manifest.json"}
        learned = config["learned"] | changes.pop("learned", {})
        bad = config | {"learned": learned, "params": config["params"] | changes}
        write_folder(tmp_path / name, files | {"config.json": json_bytes(bad)})
        with pytest.raises(DataError) as caught:
            konspekt.load(tmp_path / name)
        return str(caught.value)

    assert "'mlp-classifier' as the model, which is no estimator of images" in spoiled(
        "a", learned={"system": "mlp-classifier"}
    )
    assert "no estimator of images" in spoiled("b", learned={"system": "feature-extractor"})
    assert "the net has no layer 'conv9'" in spoiled("c", layer="conv9")
    assert "pooling must be one of" in spoiled("d", pooling="median")


# -------------------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("params", "text"),
    [
        ({"layer": "conv3"}, "the net has no layer 'conv3'; did you mean 'conv2'?"),
        ({"layer": "body"}, "the net has no layer 'body'; its parts are conv1, conv2, fc1, fc2, fc3"),
        ({"layer": ""}, "the net has no layer ''"),
        ({"layer": 3}, "layer must be a string, or None, got 3"),
        ({"pooling": "sum"}, "pooling must be one of 'average', 'max', 'flat', got 'sum'"),
    ],
)
def test_parameters_are_refused(params, text, lenet):
    with pytest.raises(ConfigError) as caught:
        made(lenet, **params)
    assert text in str(caught.value)


@pytest.mark.parametrize(
    ("layer", "text"),
    [
        ("pair", "layer='pair' gives a tuple, not one tensor"),
        ("unused", "layer='unused' is not used when the net predicts"),
        ("mix.whole", "layer='mix.whole' gives 784 rows for 1 images"),
    ],
)
def test_layers_without_features_are_refused(layer, text, own):
    with pytest.raises(ConfigError) as caught:
        made(own, layer=layer)
    assert text in str(caught.value)


def test_models_are_refused(tmp_path):
    table = MLPClassifier(hidden=(4,), epochs=1).fit(*tiny("tabular-classification"))
    for model, text in (
        (None, "model must be a fitted estimator of images"),
        (ImageClassifier(), "model is an ImageClassifier that is not fitted: fit it first"),
        (table, "such as ImageClassifier, or the folder of a saved one, got MLPClassifier"),
        (nn.Linear(2, 2), "got Linear"),
    ):
        with pytest.raises(ConfigError, match=text):
            made(model)
    with pytest.raises(DataError, match="there is no such folder"):
        made(tmp_path / "nowhere")


def test_before_fit_and_images_that_do_not_fit(lenet, data):
    with pytest.raises(NotFittedError):
        FeatureExtractor(model=lenet).transform(data[0])
    with pytest.raises(NotFittedError):
        FeatureExtractor(model=lenet).get_feature_names_out()
    extractor = made(lenet)
    with pytest.raises(DataError, match=r"has 12 x 16 pixels .* the model was trained on 16 x 16"):
        extractor.transform(data[0][:, :12])
    with pytest.raises(DataError, match="the scale differs"):
        extractor.transform(data[0] / np.float32(255))


def test_the_command_says_what_it_is_for(lenet, tmp_path, capsys):
    from konspekt.cli.app import main

    folder = made(lenet).save(tmp_path / "features")
    for arguments, text in (
        (["fit", "feature-extractor", "data=digits"], "feature-extractor is for Python"),
        (["evaluate", str(folder), "data=digits"], "FeatureExtractor predicts nothing that could be measured"),
    ):
        with pytest.raises(SystemExit) as stop:
            main(arguments)
        assert stop.value.code == 2
        assert text in " ".join(capsys.readouterr().err.split())


def test_the_modes_of_the_net_are_left_as_they_were(own, data):
    expected = made(own, layer="norm").transform(data[0])
    net = own.model_
    modes = [m.training for m in net.modules()]
    net.train()
    try:
        net.net.norm.eval()
        set_by_hand = [m.training for m in net.modules()]
        np.testing.assert_array_equal(made(own, layer="norm").transform(data[0]), expected)
        assert [m.training for m in net.modules()] == set_by_hand
    finally:
        for module, mode in zip(net.modules(), modes, strict=True):
            module.training = mode
