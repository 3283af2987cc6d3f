"""Foreign weights: what is taken, what stays new, what is refused and with which words."""

import http.server
import sys
import threading
import time
import warnings
from collections import OrderedDict
from functools import partial

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F

from konspekt import ImageClassifier
from konspekt.core.errors import ConfigError, DataError, ResourceError
from konspekt.core.params import build
from konspekt.engine.pretrained import read_weights, take_weights
from konspekt.testing import tiny


class Net(nn.Module):
    """A convolution with batch norm, a body, a head, and two auxiliary heads behind layers of their own."""

    heads = ("fc", "aux1.fc2", "aux2.fc2")

    def __init__(self, channels=3, classes=5, aux=True, hidden=6):
        super().__init__()
        self.conv = nn.Conv2d(channels, 4, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(4)
        self.body = nn.Sequential(nn.Linear(4, hidden), nn.ReLU())
        for name in ("aux1", "aux2") if aux else ():
            parts = OrderedDict(fc1=nn.Linear(4, 3), relu=nn.ReLU(), fc2=nn.Linear(3, classes))
            self.add_module(name, nn.Sequential(parts))
        self.fc = nn.Linear(hidden, classes)

    def forward(self, x):
        return self.fc(self.body(F.relu(self.bn(self.conv(x))).mean((2, 3))))


def seeded(seed, *given, **named):
    torch.manual_seed(seed)
    net = Net(*given, **named).eval()
    for buffer in (net.bn.running_mean, net.bn.running_var):
        buffer.data.uniform_(0.5, 2)
    return net


def written(path, state):
    save_file({n: t.detach().clone().contiguous() for n, t in state.items()}, path)
    return path


@pytest.fixture
def path(tmp_path):
    return written(tmp_path / "net.safetensors", seeded(1).state_dict())


def take(net, weights, **more):
    return take_weights(net, weights, heads=getattr(net, "heads", ()), where="Learner", **more)


def refused(net, weights, error=DataError, **more):
    """The message of a refusal, which must leave the net as it was."""
    before = {n: t.clone() for n, t in net.state_dict().items()}
    with pytest.raises(error) as caught:
        take(net, weights, **more)
    assert all(torch.equal(t, before[n]) for n, t in net.state_dict().items())
    return str(caught.value)


# ------------------------------------------------------------------------------------------------------------ what is taken


def test_all_is_taken_where_all_fits(path):
    net, x = seeded(2), torch.rand(3, 3, 8, 8)
    notes = take(net, path)
    assert torch.equal(net(x), seeded(1)(x))
    assert notes[0] == f"weights were taken from {path}"
    assert notes[1] == "the head fc has 5 outputs in the file too: it was taken with the rest"


@pytest.mark.parametrize("prefix", ["module.", "net.", "model.net.", "module.net."])
def test_what_a_wrapper_put_before_the_names_is_taken_away(prefix, tmp_path):
    file = written(tmp_path / "x.safetensors", {prefix + n: t for n, t in seeded(1).state_dict().items()})
    net, x = seeded(2), torch.rand(3, 3, 8, 8)
    take(net, file)
    assert torch.equal(net(x), seeded(1)(x))


def test_a_prefix_that_the_net_has_too_stays(tmp_path):
    inner, wrapped = seeded(1), nn.Sequential(OrderedDict(net=seeded(2)))
    file = written(tmp_path / "x.safetensors", {f"net.{n}": t for n, t in inner.state_dict().items()})
    take_weights(wrapped, file, heads=("net.fc",), where="Learner")
    x = torch.rand(3, 3, 8, 8)
    assert torch.equal(wrapped(x), inner(x))


def test_counts_of_batches_may_be_absent(tmp_path):
    state = {n: t for n, t in seeded(1).state_dict().items() if "num_batches" not in n}
    net = seeded(2)
    take(net, written(tmp_path / "x.safetensors", state))
    assert torch.equal(net.bn.running_mean, state["bn.running_mean"])
    assert int(net.bn.num_batches_tracked) == 0


def test_counts_of_batches_are_no_differences(tmp_path):
    state = seeded(1).state_dict() | {"old.num_batches_tracked": torch.tensor(3)}
    net = seeded(2)
    take(net, written(tmp_path / "x.safetensors", state))
    assert torch.equal(net.bn.running_mean, state["bn.running_mean"])


def test_heads_of_another_size_stay_as_they_are_and_are_named(path):
    net = seeded(2, classes=2)
    fresh = {n: t.clone() for n, t in net.state_dict().items()}
    notes = take(net, path)
    theirs = load_file(path)
    heads = {f"{h}.{kind}" for h in Net.heads for kind in ("weight", "bias")}
    for name, tensor in net.state_dict().items():
        assert torch.equal(tensor, fresh[name] if name in heads else theirs[name]), name
    assert notes[1:] == [f"the head {h} had 5 outputs, here 2: it is new" for h in Net.heads]


def test_a_head_may_be_absent(tmp_path):
    state = {n: t for n, t in seeded(1).state_dict().items() if not n.startswith("fc.")}
    net = seeded(2)
    own = net.fc.weight.clone()
    assert "the head fc is not in the file: it is new" in take(net, written(tmp_path / "x.safetensors", state))
    assert torch.equal(net.fc.weight, own)


def test_auxiliary_heads_may_be_absent_as_a_whole_only(tmp_path):
    whole = seeded(1).state_dict()
    state = {n: t for n, t in whole.items() if not n.startswith("aux")}
    notes = take(seeded(2), written(tmp_path / "x.safetensors", state))
    assert "aux1 is not in the file: it is new" in notes
    assert "aux2 is not in the file: it is new" in notes
    part = {n: t for n, t in whole.items() if not n.startswith("aux1.fc1")}
    text = refused(seeded(2), written(tmp_path / "y.safetensors", part))
    assert "aux1.fc1.weight (3, 4) is missing in the file" in text


def test_auxiliary_heads_that_the_net_lacks_are_left_out(path):
    net = seeded(2, aux=False)
    notes = take_weights(net, path, heads=("fc",), where="Learner")
    assert "aux1 of the file was left out: the net here has no such part" in notes
    assert torch.equal(net.conv.weight, seeded(1).conv.weight)


def test_without_heads_the_last_module_with_parameters_is_one(tmp_path):
    def made(classes):
        return nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, classes), nn.Softplus())

    file, net = written(tmp_path / "x.safetensors", made(7).state_dict()), made(2)
    assert take(net, file)[1:] == ["the head 3 had 7 outputs, here 2: it is new"]
    assert torch.equal(net[1].weight, load_file(file)["1.weight"])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floats_become_the_nets_own(dtype, tmp_path):
    state = {n: t.to(dtype) if t.is_floating_point() else t for n, t in seeded(1).state_dict().items()}
    net = seeded(2)
    notes = take(net, written(tmp_path / "x.safetensors", state))
    assert f"the weights are {str(dtype)[6:]} in the file and float32 here" in notes
    assert net.conv.weight.dtype == torch.float32
    assert torch.equal(net.conv.weight, state["conv.weight"].float())


# -------------------------------------------------------------------------------------------------------- the first layer


def test_added_kernels_give_for_grey_what_the_colour_net_gives_for_it_repeated(path):
    grey = seeded(2, channels=1).double()
    notes = take(grey, path, first_layer="sum")
    x = torch.rand(5, 1, 8, 8, dtype=torch.float64)
    wanted = seeded(1).double()(x.expand(-1, 3, -1, -1))
    torch.testing.assert_close(grey(x), wanted, rtol=1e-6, atol=0)  # the kernels are rounded to the file's 32 bits
    assert "the first layer conv saw 3 channels, here 1: its kernels were added up" in " ".join(notes)


def test_divided_kernels_give_for_grey_in_three_channels_what_the_grey_net_gives(tmp_path):
    file = written(tmp_path / "x.safetensors", seeded(1, channels=1).state_dict())
    colour = seeded(2).double()
    assert "saw 1 channel, here 3: each of its kernels was divided" in " ".join(take(colour, file, first_layer="sum"))
    x = torch.rand(5, 1, 8, 8, dtype=torch.float64)
    wanted = seeded(1, channels=1).double()(x)
    torch.testing.assert_close(colour(x.expand(-1, 3, -1, -1)), wanted, rtol=1e-6, atol=0)


def test_other_channels_are_refused_with_an_offer(path, tmp_path):
    text = refused(seeded(2, channels=1), path)
    assert "the first layer conv sees 3 channels in the file and 1 channel here" in text
    assert "channels=3, which repeats the grey channel, or first_layer='sum'" in text
    file = written(tmp_path / "x.safetensors", seeded(1, channels=1).state_dict())
    assert "channels=1, or first_layer='sum'" in refused(seeded(2), file)
    text = refused(seeded(2, channels=4), path, first_layer="sum")  # neither side is grey: nothing is made up
    assert "conv.weight is (4, 3, 3, 3) in the file and (4, 4, 3, 3) here" in text
    assert "first_layer must be 'sum' or None, got 'mean'" in refused(
        seeded(2, channels=1), path, ConfigError, first_layer="mean"
    )


# ------------------------------------------------------------------------------------------------------- what is refused


def test_differences_are_listed(tmp_path):
    state = dict(seeded(1).state_dict())
    state["body.0.weight"] = torch.rand(9, 4)
    state["extra.weight"] = torch.rand(2)
    del state["bn.bias"]
    state["bn.weight"] = torch.ones(4, dtype=torch.int8)
    text = refused(seeded(2), written(tmp_path / "x.safetensors", state))
    assert text.startswith("Learner: weights='")
    assert "They differ in 4 places:" in text
    assert "bn.bias (4,) is missing in the file" in text
    assert "extra.weight (2,) of the file has no place in the net" in text
    assert "body.0.weight is (9, 4) in the file and (6, 4) here" in text
    assert "bn.weight is int8 in the file and float32 here" in text


def test_of_many_differences_twenty_are_listed(tmp_path):
    state = dict(seeded(1).state_dict()) | {f"more.{i}": torch.rand(1) for i in range(25)}
    text = refused(seeded(2), written(tmp_path / "x.safetensors", state))
    assert "They differ in 25 places" in text
    assert text.count("has no place in the net") == 20
    assert text.endswith("and 5 more")


def test_a_head_whose_inputs_differ_is_no_head_of_another_size(path):
    text = refused(seeded(2, classes=2, hidden=7), path)
    assert "fc.weight is (5, 6) in the file and (2, 7) here" in text
    assert "fc.bias is (5,) in the file and (2,) here" in text


def test_weights_of_another_net_are_called_so(tmp_path):
    lenet = build("net", "lenet", 3, 5, (16, 16))
    file = written(tmp_path / "x.safetensors", lenet.state_dict())
    text = refused(seeded(2), file)
    assert "these are weights of another net: no name is the same. The file has conv1.bias, conv1.weight" in text
    assert "the net here has conv.weight, bn.weight" in text


def test_a_file_with_a_head_only_is_refused(tmp_path):
    file = written(tmp_path / "x.safetensors", {"fc.weight": torch.rand(9, 6), "fc.bias": torch.rand(9)})
    assert "nothing of the file can be taken" in refused(seeded(2), file)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_is_refused(value, tmp_path):
    state = dict(seeded(1).state_dict())
    state["body.0.bias"] = torch.full((6,), value)
    assert "NaN or infinite: body.0.bias" in refused(seeded(2), written(tmp_path / "x.safetensors", state))


def test_what_overflows_the_nets_own_type_is_refused(tmp_path):
    state = {n: t.double() if t.is_floating_point() else t for n, t in seeded(1).state_dict().items()}
    state["body.0.bias"][2] = 1e39
    assert "NaN or infinite: body.0.bias" in refused(seeded(2), written(tmp_path / "x.safetensors", state))


def test_damaged_files_are_named(path, tmp_path):
    data = path.read_bytes()
    for name, spoiled in {"cut": data[: len(data) // 2], "head": data[:6], "text": b"weights" * 9}.items():
        file = tmp_path / f"{name}.safetensors"
        file.write_bytes(spoiled)
        assert f"{name}.safetensors" in refused(seeded(2), file)


def test_what_is_not_there_or_no_path(tmp_path, path):
    text = refused(seeded(2), tmp_path / "nut.safetensors")
    assert "there is no such file or folder; did you mean 'net.safetensors'?" in text
    assert "weights must be a .safetensors file, a folder" in refused(seeded(2), 3, ConfigError)
    assert "weights must be" in refused(seeded(2), "", ConfigError)
    assert "the net has no parameters" in refused(nn.ReLU(), path, ConfigError)
    with pytest.raises(ConfigError, match=r"the sizes of 1 are not known before the net's first batch"):
        take(nn.Sequential(nn.Flatten(), nn.LazyLinear(2)), path)


# ------------------------------------------------------------------------------------------------------------------ pickles


@pytest.mark.parametrize("name", ["net.ckpt", "net.safetensors", "pytorch_model.bin"])
def test_a_pickle_is_refused_with_lines_that_convert_it(name, tmp_path, monkeypatch):
    net, file = seeded(1), tmp_path / name
    whole = {"state_dict": net.state_dict(), "epoch": 3} if name.endswith(".ckpt") else net.state_dict()
    torch.save(whole, file)
    with monkeypatch.context() as patch:
        patch.setattr(torch, "load", lambda *a, **k: pytest.fail("a pickle was read"))
        text = refused(seeded(2), file)
    assert "is a PyTorch file, a pickle, which can run code" in text
    lines = text.splitlines()[1:]
    assert len(lines) == 3
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # of a file that is not closed at once
        exec("\n".join(lines), {})  # noqa: S102
    (new,) = set(tmp_path.glob("*.safetensors")) - {file}
    assert repr(str(new)) in text
    other, x = seeded(2), torch.rand(3, 3, 8, 8)
    take(other, new)
    assert torch.equal(other(x), net(x))


def test_a_legacy_pickle_is_refused_by_its_first_byte(tmp_path):
    file = tmp_path / "net.weights"
    torch.save(seeded(1).state_dict(), file, _use_new_zipfile_serialization=False)
    assert "a pickle" in refused(seeded(2), file)


# ------------------------------------------------------------------------------------------------- saved models and runs


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    X, y = tiny("image-classification")
    return folder, ImageClassifier(arch="lenet", epochs=1, random_state=0, run_dir=str(folder)).fit(X, y)


def test_a_saved_model_and_a_run_give_their_net(run, tmp_path):
    folder, model = run
    wanted = model.model_.net.state_dict()
    for place in (folder, folder / "model", folder / "model" / "weights.safetensors", model.save(tmp_path / "saved")):
        net = build("net", "lenet", 1, 2, (16, 16))
        notes = take_weights(net, place, heads=("fc3",), where="Learner")
        assert all(torch.equal(t, wanted[n]) for n, t in net.state_dict().items())
        assert notes[1] == "the head fc3 has 2 outputs in the file too: it was taken with the rest"
        assert len(notes) == 2


def test_a_damaged_or_foreign_folder_is_refused(run, path, tmp_path):
    _, model = run
    folder = model.save(tmp_path / "saved")
    net = build("net", "lenet", 1, 2, (16, 16))
    file = folder / "weights.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    assert "weights.safetensors: its SHA-256 is not the manifest's" in refused(net, folder)
    text = refused(net, path.parent)
    assert f"name a file in it, as {path}" in text
    (tmp_path / "empty").mkdir()
    text = refused(net, tmp_path / "empty")
    assert f"Learner: weights='{tmp_path / 'empty'}': " in text
    assert "has no manifest.json. It must be a .safetensors file, a folder that `save` wrote" in text
    (tmp_path / "notes.txt").write_text("these are no weights")
    text = refused(net, tmp_path / "notes.txt")
    assert f"Learner: weights='{tmp_path / 'notes.txt'}': " in text
    assert "not a safetensors file" in text
    assert "It must be a .safetensors file" in text
    (tmp_path / "unfinished").mkdir()
    (tmp_path / "unfinished" / "config.yaml").touch()
    assert "this run has no model yet; finish it first: konspekt resume" in refused(net, tmp_path / "unfinished")


def test_a_model_without_a_net_of_images_is_refused(tmp_path):
    from konspekt import MLPClassifier

    X, y = tiny("tabular-classification")
    folder = MLPClassifier(hidden=(4,), epochs=1).fit(X, y).save(tmp_path / "table")
    assert "has no net whose weights could be taken" in refused(seeded(2), folder)


# -------------------------------------------------------------------------------------------------------------------- hub


@pytest.fixture
def hub(monkeypatch, path):
    """What was asked of a hub that has one file."""
    module = pytest.importorskip("huggingface_hub", reason="the extra `hub` is not installed")
    asked = []

    def download(repository, file, *, revision=None):
        asked.append((repository, file, revision))
        return str(path)

    monkeypatch.setattr(module, "hf_hub_download", download)
    return asked


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("hf:timm/resnet18.a1_in1k", ("timm/resnet18.a1_in1k", "model.safetensors", None)),
        ("hf:a/b@v1.0", ("a/b", "model.safetensors", "v1.0")),
        ("hf:a/b/part/x.safetensors", ("a/b", "part/x.safetensors", None)),
        ("hf:a/b/x.safetensors@refs/pr/1", ("a/b", "x.safetensors", "refs/pr/1")),
    ],
)
def test_a_repository_is_asked_for_its_file(text, wanted, hub, path):
    net = seeded(2)
    take(net, text)
    assert hub == [wanted]
    assert torch.equal(net.conv.weight, load_file(path)["conv.weight"])


@pytest.mark.parametrize("text", ["hf:", "hf:owner", "hf:a/b/model.bin", "hf:a/b c"])
def test_a_name_that_is_none_is_refused(text, hub):
    assert "must be 'hf:owner/name'" in refused(seeded(2), text, ConfigError)
    assert not hub


def test_without_the_package_it_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    text = refused(seeded(2), "hf:a/b", ConfigError)
    assert "huggingface_hub is not installed: pip install huggingface_hub" in text


class Hub(http.server.BaseHTTPRequestHandler):
    """A hub with one repository, a/b, that has one revision with one file."""

    def do_GET(self):
        owner, name, _, revision, file = self.path.strip("/").split("/")
        found = {"RepoNotFound": (owner, name) == ("a", "b"), "RevisionNotFound": revision == "main"}
        found["EntryNotFound"] = file == "model.safetensors"
        missing = next((code for code, there in found.items() if not there), None)
        body = b"" if missing else self.server.data
        self.send_response(404 if missing else 200)
        for header, value in {"X-Repo-Commit": "0" * 40, "ETag": f'"{"1" * 40}"', "X-Error-Code": missing}.items():
            if value:
                self.send_header(header, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    do_HEAD = do_GET

    def log_message(self, *given):
        """Say nothing."""


def test_a_hub_on_this_machine_is_asked_through_the_real_client(path, tmp_path, monkeypatch):
    module = pytest.importorskip("huggingface_hub", reason="the extra `hub` is not installed")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.data = path.read_bytes()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    own = {"endpoint": f"http://127.0.0.1:{server.server_port}", "cache_dir": tmp_path / "cache", "token": False}
    monkeypatch.setattr(module, "hf_hub_download", partial(module.hf_hub_download, **own))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    try:
        take(seeded(2), "hf:a/b")
        assert "there is no repository a/c, or it is private" in refused(seeded(2), "hf:a/c")
        assert "has no revision v2" in refused(seeded(2), "hf:a/b@v2")
        assert "has no file x.safetensors; name one: hf:a/b/FILE" in refused(seeded(2), "hf:a/b/x.safetensors")
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    monkeypatch.setattr(time, "sleep", lambda seconds: None)  # between the client's own attempts
    net = seeded(2)
    take(net, "hf:a/b")  # from the cache
    assert torch.equal(net.conv.weight, seeded(1).conv.weight)
    text = refused(seeded(2), "hf:a/b/y.safetensors", ResourceError)
    assert "y.safetensors is not in the cache and the hub cannot be reached" in text


def test_what_the_client_raises_becomes_a_message(monkeypatch):
    module = pytest.importorskip("huggingface_hub", reason="the extra `hub` is not installed")

    def fails(*given, **named):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "hf_hub_download", fails)
    assert "the download failed (OSError: [Errno 28] No space left" in refused(seeded(2), "hf:a/b", ResourceError)


def test_reading_alone_gives_the_tensors(path):
    assert set(read_weights(path, where="Learner")) == set(load_file(path))
