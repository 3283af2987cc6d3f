"""The whole of a pruning: what goes, what is left, what is measured, saved, drawn and refused."""

import json
import re

import numpy as np
import pytest
import torch
from sklearn.exceptions import NotFittedError

import konspekt
from konspekt.core.errors import ConfigError, DataError
from konspekt.core.folders import json_bytes, write_folder
from konspekt.core.params import split_call
from konspekt.explain import prune
from konspekt.explain.edges import layers_with_edges
from konspekt.explain.response import branches_of, responses
from konspekt.testing.tiny import tiny

QUIET = {"epochs": 1, "verbose": False, "device": "cpu"}


@pytest.fixture(scope="module")
def pictures():
    return tiny("image-classification", 40)


@pytest.fixture(scope="module")
def lenet(pictures):
    return konspekt.ImageClassifier(arch="lenet", **QUIET).fit(*pictures)


@pytest.fixture(scope="module")
def residual(pictures):
    return konspekt.ImageClassifier(arch="resnet20(width=0.25)", **QUIET).fit(*pictures)


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(80, 4))
    return X, np.where(X[:, 0] + X[:, 1] > 0, "yes", "no")


@pytest.fixture(scope="module")
def mlp(rows):
    return konspekt.MLPClassifier(hidden=(8,), **QUIET).fit(*rows)


def state(estimator):
    return {n: t.clone() for n, t in estimator.objective_.state_dict().items()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(t, other[n]) for n, t in one.items())


def test_edges_go_by_size_and_stay_away(mlp, rows, tmp_path):
    before = state(mlp)
    result = prune(mlp, *rows, share=(0.5, 0.75), epochs=2)
    assert same(before, state(mlp))  # the given one is untouched
    edges = 4 * 8 + 8 * 2
    assert [p.share for p in result.points] == [0, 0.5, 0.75]
    assert [p.parameters for p in result.points] == [edges + 10, edges // 2 + 10, edges // 4 + 10]
    assert {p.multiply_adds for p in result.points} == {edges}  # a dense product multiplies by 0 too
    assert all(p.seconds > 0 for p in result.points)
    assert result.sparsity == pytest.approx(0.75)
    assert result.points[-1].removed == "36 of 48 edges"
    for point in result.points[1:]:
        zeros = sum(int((w == 0).sum()) for w in layers_with_edges(point.estimator.model_).values())
        assert zeros == round(point.share * edges)
    frame = result.frame()
    assert list(frame.columns)[-2:] == ["accuracy before fine-tuning", "accuracy"]
    loaded = konspekt.load(result.save(tmp_path / "small"))
    assert same(state(loaded), state(result.estimator))
    assert (loaded.predict(rows[0]) == result.estimator.predict(rows[0])).all()
    again = prune(loaded, *rows, share=0.75, epochs=1)  # zeros of an earlier pruning do not come back
    for old, new in zip(*(layers_with_edges(e.model_).values() for e in (loaded, again.estimator)), strict=True):
        assert torch.equal(old == 0, new == 0)


def test_it_is_judged_on_what_was_held_out(rows):
    X, y = rows
    model = konspekt.MLPClassifier(hidden=(8,), **QUIET, validation_fraction=0.25).fit(X, y)
    result = prune(model, X, y, share=0.5, epochs=1)
    assert dict(result.points[0].before) == pytest.approx(
        {k[4:]: model.history_[-1][k] for k in ("val_loss", "val_accuracy")}
    )
    other = prune(model, X[:60], y[:60], share=0.5, epochs=1, validation=(X[60:], y[60:]))
    assert other.points[-1].after["accuracy"] == pytest.approx(other.estimator.score(X[60:], y[60:]))
    assert other.estimator.facts_["validation"] == 20


def test_without_fine_tuning_size_alone_decides(mlp, rows):
    result = prune(mlp, *rows, share=0.5, epochs=0)
    old, new = (torch.cat([w.flatten() for w in layers_with_edges(e.model_).values()]) for e in (mlp, result.estimator))
    assert torch.equal(new != 0, old.abs() > old.abs().sort().values[23])
    assert torch.equal(new[new != 0], old[new != 0])
    assert dict(result.points[-1].before) == dict(result.points[-1].after)


@pytest.mark.parametrize("hessian", ["diagonal", "exact"])
def test_curvature(rows, hessian):
    X, _ = rows
    y = 3 * X[:, 0] - X[:, 1] + 0.01 * X[:, 2]
    model = konspekt.LinearRegressor(epochs=60, lr=0.1, device="cpu").fit(X, y)
    result = prune(model, X, y, by="curvature", hessian=hessian, share=0.5, epochs=0)
    assert (result.estimator.model_.linear.weight[0] != 0).tolist() == [True, True, False, False]
    said = {
        "diagonal": "curvature: exact second derivatives over 64 items",
        "exact": "share 0.5: by the inverse of each",
    }
    assert result.notes[0].startswith(said[hessian])
    assert result.measure == "r2"
    assert result.points[-1].after["r2"] > 0.99


def test_a_dropped_branch_leaves_the_graph(residual, pictures, tmp_path):
    result = prune(residual, *pictures, by="branches", share=(0.12, 0.23), epochs=1, run_dir=tmp_path / "run")
    gone = result.points[-1].removed.split(", ")
    assert len(gone) == 2
    assert result.points[1].removed in gone
    maps = {"layer1": (4, 16), "layer2": (8, 8), "layer3": (16, 4)}  # width 0.25: channels and side of each stage

    def cost(name):
        channels, side = maps[name[:6]]
        before = maps["layer" + str(int(name[5]) - 1)][0] if name[7] == "0" and name[5] != "1" else channels
        return 9 * channels * (before + channels) * side**2

    total = 9 * 4 * 256 + sum(cost(f"layer{i}.{j}") for i in (1, 2, 3) for j in range(3)) + 16 * 2
    assert result.points[0].multiply_adds == total
    assert result.points[-1].multiply_adds == total - sum(map(cost, gone))
    net = result.estimator.model_.net
    assert sorted(set(residual.model_.net.residual_blocks()) - set(branches_of(net))) == gone
    assert not any(name.startswith(tuple(gone)) for name, _ in net.named_parameters())
    assert residual.arch == "resnet20(width=0.25)"
    drop = [result.points[1].removed, *(name for name in gone if name != result.points[1].removed)]
    loaded = konspekt.load(result.save(tmp_path / "small"))
    assert loaded.arch == result.estimator.arch
    assert split_call(loaded.arch, "arch") == ("resnet20", {"width": 0.25, "drop": tuple(drop)})
    assert (loaded.predict(pictures[0]) == result.estimator.predict(pictures[0])).all()
    page = konspekt.report(result).read_text()
    assert "accuracy against multiply-adds" in page
    assert f"In 2 steps {', '.join(gone)} were taken out" in page
    assert konspekt.load(tmp_path / "run" / "model").arch == loaded.arch
    again = prune(result.estimator, *pictures, by="branches", share=0.15, epochs=0)
    assert again.estimator.model_.net.fc.in_features == 16
    assert len(branches_of(again.estimator.model_.net)) == 6


def test_the_response_is_that_of_the_branch_over_the_shortcut(residual, pictures):
    """Of a branch whose last scale is halved, it is half as large."""
    net, objective = residual.model_.net, residual.objective_
    batches = residual._batches(residual.encode(*pictures, truth=True))
    first = responses(objective, net, batches)
    assert list(first) == [f"layer{i}.{j}" for i in (1, 2, 3) for j in range(3)]
    norm = net.layer3[2].bn2
    saved = norm.weight.detach().clone(), norm.bias.detach().clone()
    try:
        norm.weight.data /= 2
        norm.bias.data /= 2
        assert responses(objective, net, batches)["layer3.2"] == pytest.approx(first["layer3.2"] / 2, rel=1e-5)
        x = objective.model.scale(torch.as_tensor(pictures[0])[:, None].float())
        seen = []
        hook = net.layer1[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        with torch.no_grad():
            net(x)
            hook.remove()
            ratio = net.layer1[0].branch(seen[0]).flatten(1).norm(dim=1) / seen[0].flatten(1).norm(dim=1)
        assert first["layer1.0"] == pytest.approx(float(ratio.mean()), rel=1e-5)
    finally:
        norm.weight.data, norm.bias.data = saved
    assert not net.layer3[2]._forward_pre_hooks


def test_the_card_says_it_and_other_nets_cannot_begin_with_it(lenet, pictures, tmp_path):
    folder = prune(lenet, *pictures, by="channels", share=0.5, epochs=0).save(tmp_path / "small")
    assert (
        "- pruned: 2 convolutions of lenet have fewer channels than that is built with"
        in (folder / "card.md").read_text()
    )
    with pytest.raises(DataError, match="this model was pruned: 2 of its convolutions have fewer channels"):
        konspekt.ImageClassifier(arch="lenet", weights=str(folder)).fit(*pictures)


def test_channels_with_the_smallest_kernels_go(lenet, pictures, tmp_path):
    result = prune(lenet, *pictures, by="channels", share=0.5, epochs=0)
    old, new = lenet.model_.net, result.estimator.model_.net
    best = [
        conv.weight.detach().abs().sum((1, 2, 3)).topk(n).indices.sort().values
        for conv, n in ((old.conv1, 3), (old.conv2, 8))
    ]
    assert torch.equal(new.conv1.weight, old.conv1.weight[best[0]])
    assert torch.equal(new.conv2.weight, old.conv2.weight[best[1]][:, best[0]])
    assert torch.equal(new.fc1.weight, old.fc1.weight[:, best[1]])  # 1 x 1 after the last halving
    assert result.points[-1].multiply_adds == 25 * 3 * 144 + 75 * 8 * 4 + 8 * 120 + 120 * 84 + 84 * 2
    assert result.points[-1].removed == "11 of 22 channels"
    assert result.estimator.slimmed == {"conv1": 3, "conv2": 8}
    assert lenet.slimmed == {}
    loaded = konspekt.load(result.save(tmp_path / "small"))
    assert same(state(loaded), state(result.estimator))
    assert loaded.slimmed == {"conv1": 3, "conv2": 8}
    thinner = prune(loaded, *pictures, by="channels", share=(0.3, 0.9), epochs=1, layers=["conv2"])
    assert thinner.estimator.slimmed == {"conv1": 3, "conv2": 1}  # one stays
    assert konspekt.load(thinner.save(tmp_path / "thinner")).model_.net.conv2.out_channels == 1
    assert loaded.fit(*pictures).slimmed == {}  # a new fit begins with the whole net
    assert loaded.model_.net.conv1.out_channels == 6


def damaged(folder, plan):
    config = json.loads((folder / "config.json").read_text())
    config["learned"]["slimmed"] = plan
    files = {name: (folder / name).read_bytes() for name in ("weights.safetensors", "card.md")}
    write_folder(folder, {"config.json": json_bytes(config)} | files)
    return folder


@pytest.mark.parametrize(
    ("plan", "said"),
    [
        ({"conv1": 3, "conv2": 99}, "'conv2' has kept 99 of 16 channels"),
        ({"conv1": 3, "fc1": 8}, "channels of 'fc1' were taken out, which this net cannot do without"),
        ({"conv1": 3}, "the weights do not fit the model"),
        ({"conv1": -3}, "says no numbers of channels by layer"),
        ("conv1", "says no numbers of channels by layer"),
    ],
)
def test_a_damaged_plan_is_refused(lenet, pictures, tmp_path, plan, said):
    folder = prune(lenet, *pictures, by="channels", share=0.5, epochs=0).save(tmp_path / "small")
    with pytest.raises(DataError, match=said):
        konspekt.load(damaged(folder, plan))


def test_regression_of_images():
    X, y = tiny("image-regression", 24)
    model = konspekt.ImageRegressor(arch="lenet", **QUIET).fit(X, y)
    result = prune(model, X, y, by="channels", share=0.5, epochs=1)
    assert result.measure == "r2"
    assert result.estimator.predict(X).shape == (24,)


def test_the_same_seed_gives_the_same_net(lenet, pictures):
    one, other = (prune(lenet, *pictures, share=(0.5, 0.8), by="curvature", epochs=1) for _ in range(2))
    assert same(state(one.estimator), state(other.estimator))
    assert one.notes == other.notes == ("curvature: diagonal of the true Fisher information over 32 items",)


def test_items_that_cannot_be_read_are_said(rows, tmp_path):
    import pandas as pd

    X, y = rows
    frame = pd.DataFrame(X, columns=list("abcd"))
    model = konspekt.MLPClassifier(hidden=(4,), on_bad="skip", **QUIET).fit(frame, y)
    bad = frame.copy()
    bad.loc[3, "a"] = np.inf
    result = prune(model, bad, y, share=0.5, epochs=0, run_dir=tmp_path / "run")
    assert "1 items could not be read and were left out, as on_bad='skip' says" in result.notes
    assert "1 items were left out" in (tmp_path / "run" / "log.txt").read_text()


REFUSED = {
    "share 0": ({"share": 0}, "share must be more than 0 and less than 1, or several such numbers, got 0"),
    "share 1": ({"share": (0.5, 1.0)}, r"less than 1, or several such numbers, got \(0.5, 1.0\)"),
    "no share": ({"share": ()}, r"several such numbers, got \(\)"),
    "a word": ({"share": "half"}, "several such numbers, got 'half'"),
    "not a number": ({"share": float("nan")}, "several such numbers, got nan"),
    "back again": ({"share": (0.5, 0.3)}, r"shares must grow from step to step, as what is gone is gone; got \(0.5, 0.3\)"),
    "all": ({"share": 0.99}, "share=0.99 would leave 0 of the 48 weights of 2 layers"),
    "by": ({"by": "luck"}, "prune: by must be one of 'magnitude', 'curvature', 'branches', 'channels', got 'luck'"),
    "epochs": ({"epochs": -1}, "prune: epochs must be an integer at least 0, got -1"),
    "hessian": ({"hessian": "exact"}, "hessian= does not go with by='magnitude'"),
    "layers": ({"layers": ["layers.1"]}, "layers must name layers with a matrix, got 'layers.1'"),
    "branches": ({"by": "branches"}, "residual branches, of which a MLP has none left; resnet18"),
    "channels": ({"by": "channels"}, "a MLP cannot do without; lenet, alexnet"),
    "layers of branches": ({"by": "branches", "layers": ["x"]}, "layers= does not go with by='branches'"),
    "validation": ({"validation": 1.0}, "validation as a fraction must be more than 0 and less than 1, got 1.0"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_arguments_that_do_not_do(mlp, rows, case, tmp_path):
    given, said = REFUSED[case]
    with pytest.raises(ConfigError, match=said):
        prune(mlp, *rows, **({"run_dir": tmp_path / "run", "epochs": 1} | given))
    assert not (tmp_path / "run" / "config.yaml").exists()


def test_nets_that_cannot(lenet, residual, pictures):
    with pytest.raises(ConfigError, match="residual branches, of which a LeNet has none left"):
        prune(lenet, *pictures, by="branches")
    with pytest.raises(ConfigError, match=r"the channels of 'layer1\.0\.conv2' cannot go; those of layer1\.0\.conv1, "):
        prune(residual, *pictures, by="channels", layers=["layer1.0.conv2"])
    with pytest.raises(
        ConfigError, match=r"share=0\.05 takes out none of the 9 residual branches that are left; each is 0\.111"
    ):
        prune(residual, *pictures, by="branches", share=0.05)
    paper = konspekt.ImageClassifier(arch="lenet(form='paper')", **QUIET).fit(*pictures)
    with pytest.raises(ConfigError, match="a PaperLeNet cannot do without"):
        prune(paper, *pictures, by="channels")


def test_what_was_never_fitted_and_other_data(mlp, lenet, rows, pictures):
    with pytest.raises(NotFittedError):
        prune(konspekt.MLPClassifier(), *rows)
    with pytest.raises(ConfigError, match="takes an estimator that learns by gradient, got dict"):
        prune({}, *rows)
    with pytest.raises(DataError, match="labels that the training did not have: 'maybe'"):
        prune(mlp, rows[0], np.where(np.arange(80) % 2, "maybe", "yes"))
    with pytest.raises(ValueError, match="3 features"):
        prune(mlp, rows[0][:, :3], rows[1])
    with pytest.raises(DataError):
        prune(lenet, *rows)
    with pytest.raises(DataError, match="the true y is needed here: give y"):
        prune(mlp, rows[0])


@pytest.mark.parametrize(("by", "more"), [("magnitude", {"layers": ["fc2"]}), ("channels", {})])
def test_edges_that_have_gone_stay_gone_whatever_goes_next(lenet, pictures, by, more):
    first = prune(lenet, *pictures, by="magnitude", layers=["fc1"], share=0.5, epochs=0)
    dead = first.estimator.model_.net.fc1.weight == 0
    assert int(dead.sum()) == dead.numel() // 2
    found = prune(first.estimator, *pictures, by=by, share=0.5, epochs=1, **more)
    assert found.points[0].parameters == first.points[1].parameters
    after = found.estimator.model_.net.fc1.weight
    if by == "channels":
        assert int((after == 0).sum()) > after.numel() // 4  # with the channels that they read some have left the net
    else:
        assert torch.equal(after == 0, dead)


def test_a_share_that_has_gone_already_is_said(mlp, rows):
    small = prune(mlp, *rows, share=0.5, epochs=0).estimator
    with pytest.raises(ConfigError, match=r"share=0.4 takes out none, as 24 of the 48 edges have gone already; give"):
        prune(small, *rows, share=0.4, epochs=0)


def test_layers_are_a_list(mlp, rows):
    with pytest.raises(ConfigError, match=r"layers must be a list of names, got 'layers.0'; write \['layers.0'\]"):
        prune(mlp, *rows, layers="layers.0")


def test_it_is_shown_in_a_line(mlp, rows):
    found = prune(mlp, *rows, share=(0.25, 0.5), epochs=0)
    assert re.fullmatch(
        r"Pruned\(by='magnitude', accuracy \S+ without 0%, \S+ without 25%, \S+ without 50%\)", repr(found)
    )
