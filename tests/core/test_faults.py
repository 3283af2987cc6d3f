"""Faults from outside, small versions of those that benchmarks/faults tries by the thousand; and what it brought out."""

import contextlib
import errno
import json
import os
import random
import shutil
import struct
import time

import numpy as np
import pytest
import torch
from torch import nn

import konspekt
from konspekt.core import ConfigError, DataError, KonspektError, ResourceError
from konspekt.core.folders import json_bytes, read_json, remove, tensor_file, write_folder
from konspekt.core.params import shown
from konspekt.core.runs import Run, list_runs, read_config, read_metrics
from konspekt.data.batches import Resident
from konspekt.engine import Training, checkpoint, minimise
from konspekt.engine.session import surroundings
from konspekt.engine.supervised import Regression
from konspekt.tabular import MLPClassifier
from konspekt.testing import mutations, refusing, tiny
from konspekt.vision import ImageClassifier


class Stop(Exception):
    pass


def stop_at(step):
    def callback(moment):
        if moment.event == "step" and moment.step == step:
            raise Stop

    return callback


def fit_toy(path, *, resume=False, stop=None, **training):
    """3 epochs of 3 steps, a checkpoint every 2; the weights as bytes."""
    draw = torch.Generator().manual_seed(1)
    x, y = torch.randn(12, 3, generator=draw), torch.randn(12, 2, generator=draw)
    batches = Resident({"x": x, "y": y}, batch_size=4, shuffle=True)
    training = Training(
        **{"epochs": 3, "lr": 0.05, "checkpoint_every": 2, "ema": 0.9, "schedule": "plateau"} | training
    )
    with surroundings(torch.device("cpu"), 0), contextlib.closing(Run(path, resume=resume)) as run:
        objective = Regression(nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Dropout(0.3), nn.Linear(8, 2)))
        callbacks = [] if stop is None else [stop_at(stop)]
        minimise(objective, batches, training, run=run, validation=batches, callbacks=callbacks)
    return b"".join(t.detach().numpy().tobytes() for t in objective.state_dict().values())


def cut_toy(path, **training):
    with pytest.raises(Stop):
        fit_toy(path, stop=7, **training)
    return path


def fit_table(path, *, resume=False, callbacks=(), **params):
    given = {"hidden": (6,), "norm": "batch", "dropout": 0.2, "epochs": 3, "batch_size": 8, "checkpoint_every": 2}
    given |= {"validation_fraction": 0.25, "run_dir": str(path)}
    made = MLPClassifier(**given | params)
    return made.fit(*tiny("tabular-classification", 24), resume=path if resume else None, callbacks=callbacks)


def fit_images(path, *, resume=False):
    made = ImageClassifier(image_size=16, epochs=1, batch_size=2, checkpoint_every=1, run_dir=str(path))
    return made.fit(*tiny("image-classification", 4), resume=path if resume else None)


def weights(path):
    return (path / "model" / "weights.safetensors").read_bytes()


class TestSpoiledFolders:
    def test_models(self, tmp_path):
        X, y = tiny("tabular-classification", 24)
        estimator = MLPClassifier(hidden=(6,), norm="batch", epochs=1).fit(X, y)
        whole, wanted = estimator.save(tmp_path / "whole"), estimator.predict_proba(X)
        came = {"same": 0, "other": 0, "refused": 0}
        for seed in range(200):
            folder = tmp_path / f"{seed}" / "model"
            folder.parent.mkdir()
            shutil.copytree(whole, folder)
            done, agrees = mutations.mutate_folder(folder, random.Random(seed))
            try:
                same = np.array_equal(konspekt.load(folder).predict_proba(X), wanted)
            except KonspektError as error:
                came["refused"] += len(str(error)) > 20
                continue
            assert same or agrees, (seed, done)
            came["same" if same else "other"] += 1
        assert came["refused"] + came["same"] + came["other"] == 200
        assert came["refused"] > 100
        assert came["same"] > 5

    @pytest.mark.parametrize("optimizer", ["adam", "momentum"])
    def test_checkpoints(self, tmp_path, optimizer):
        whole = cut_toy(tmp_path / "whole", optimizer=optimizer)
        shutil.copytree(whole, tmp_path / "again")
        wanted = fit_toy(tmp_path / "again", resume=True, optimizer=optimizer)
        came = {"same": 0, "other": 0, "refused": 0}
        for seed in range(100):
            folder = tmp_path / f"{seed}"
            shutil.copytree(whole, folder)
            older, newer = sorted((folder / "checkpoint").iterdir())
            if seed % 2:
                shutil.rmtree(older)
            done, agrees = mutations.mutate_folder(newer, random.Random(seed))
            try:
                same = fit_toy(folder, resume=True, optimizer=optimizer) == wanted
            except KonspektError as error:
                came["refused"] += len(str(error)) > 20
                continue
            assert same or agrees, (seed, done)
            came["same" if same else "other"] += 1
        assert came["refused"] + came["same"] + came["other"] == 100
        assert came["refused"] > 20
        assert came["same"] > 20

    def test_a_state_of_another_size_reaches_no_kernel(self, tmp_path):
        """Adam's fused kernel reads and writes as many numbers as there are weights, however long its state is."""
        folder = sorted((cut_toy(tmp_path / "run", keep=1) / "checkpoint").iterdir())[-1]
        state = checkpoint.read(folder)
        kept = state["optimizers"]["model"]["state"][0]
        for name, value in [
            ("exp_avg", torch.zeros(1)),
            ("exp_avg_sq", torch.zeros(0)),
            ("step", torch.zeros(3)),
            ("exp_avg", torch.zeros(kept["exp_avg"].shape, dtype=torch.int32)),
            ("exp_avg", 3.0),
        ]:
            was, kept[name] = kept[name], value
            checkpoint.write(folder.parent, "fit", 6, state)
            with pytest.raises(DataError, match=rf"optimizers\.model\.state\.0\.{name} is not of this fit"):
                fit_toy(tmp_path / "run", resume=True)
            kept[name] = was
        checkpoint.write(folder.parent, "fit", 6, state)
        fit_toy(tmp_path / "run", resume=True)

    @pytest.mark.parametrize(
        ("change", "word"),
        [
            (lambda s: s.pop("step"), "KeyError: 'step'"),
            (lambda s: s.update(step=-1), "step is not of this fit"),
            (lambda s: s.update(epoch=1.5), "epoch is not of this fit"),
            (lambda s: s.update(epoch=True), "epoch is not of this fit"),
            (lambda s: s.update(seconds="1"), "seconds is not of this fit"),
            (lambda s: s.update(within=None), "within is not of this fit"),
            (lambda s: s["sums"].pop("loss/terms"), "sums is not of this fit"),
            (lambda s: s["weights"].pop("model.0.bias"), "weights is not of this fit"),
            (lambda s: s["weights"].update({"model.0.bias": torch.zeros(9)}), r"weights\.model\.0\.bias is not"),
            (lambda s: s.update(average=None), "average is not of this fit"),
            (lambda s: s["random"].update(cpu=torch.zeros(3, dtype=torch.uint8)), r"random 0\.cpu is not of this fit"),
            (lambda s: s["random"].update(cpu=s["random"]["cpu"] * 0), "Invalid mt19937 state"),
            (lambda s: s.update(schedule={"current": [], "waited": 0}), "does not fit this fit"),
            (lambda s: s.update(batches={"epoch": 0}), "does not fit this fit"),
            (lambda s: s["optimizers"]["model"]["param_groups"][0].update(lr="x"), r"param_groups\.0\.lr is not"),
            (
                lambda s: s["optimizers"]["model"]["param_groups"][0].update(params=[7]),
                r"param_groups\.0\.params is not",
            ),
        ],
    )
    def test_a_state_of_another_form(self, tmp_path, change, word):
        folder = sorted((cut_toy(tmp_path / "run", keep=1) / "checkpoint").iterdir())[-1]
        state = checkpoint.read(folder)
        change(state)
        checkpoint.write(folder.parent, "fit", 6, state)
        with pytest.raises(DataError, match=word) as error:
            fit_toy(tmp_path / "run", resume=True)
        assert "the newest checkpoint of stage 'fit'" in str(error.value)

    def test_options_are_this_fits(self, tmp_path):
        """What a checkpoint says of betas is not believed: the fit's own parameters count."""
        folder = sorted((cut_toy(tmp_path / "run", keep=1) / "checkpoint").iterdir())[-1]
        shutil.copytree(tmp_path / "run", tmp_path / "other")
        state = checkpoint.read(folder)
        state["optimizers"]["model"]["param_groups"][0].update(betas="nonsense", maximize=True)
        checkpoint.write(folder.parent, "fit", 6, state)
        assert fit_toy(tmp_path / "run", resume=True) == fit_toy(tmp_path / "other", resume=True)

    @pytest.mark.parametrize("tree", [{"$tensor": []}, {"$items": 3}, {"$items": [[{}, 1]]}, {"$tuple": 3}, [[]]])
    def test_a_tree_that_is_written_otherwise(self, tmp_path, tree):
        files = {"state.json": json_bytes(tree), "tensors.safetensors": tensor_file({"a": torch.zeros(1)})}
        write_folder(tmp_path / "c", files)
        with pytest.raises(DataError, match=r"state\.json: not the state of a run"):
            checkpoint.read(tmp_path / "c")

    def test_too_deep(self, tmp_path):
        deep = b"[" * 900 + b"]" * 900  # JSON's reader takes it
        write_folder(tmp_path / "c", {"state.json": deep, "tensors.safetensors": tensor_file({})})
        with pytest.raises(DataError, match=r"state\.json: not"):
            checkpoint.read(tmp_path / "c")

    def test_a_folder_in_the_place_of_a_manifest_goes_too(self, tmp_path):
        write_folder(tmp_path / "m", {"a.json": b"{}"})
        (tmp_path / "m" / "manifest.json").unlink()
        (tmp_path / "m" / "manifest.json").mkdir()
        remove(tmp_path / "m")
        assert not (tmp_path / "m").exists()

    def test_names_of_columns_that_are_no_text(self, tmp_path):
        folder = MLPClassifier(hidden=(6,), epochs=1).fit(*tiny("tabular-classification", 24)).save(tmp_path / "m")
        config = json.loads((folder / "config.json").read_text())
        for names in ({"": None}, ["a", {}, "c"], "abc"):
            config["learned"]["feature_names_in"] = names
            (folder / "config.json").write_text(json.dumps(config))
            mutations.sum_anew(folder)
            with pytest.raises(DataError, match=r"the names of columns in config\.json are no list of text"):
                konspekt.load(folder)

    def test_a_header_that_claims_too_much(self, tmp_path):
        from konspekt.core.folders import read_tensors

        for shape, offsets in [([2**62], [0, 4]), ([2**32, 2**32], [0, 4]), ([1], [0, 2**63]), ([0, 2**62], [0, 0])]:
            header = json.dumps({"a": {"dtype": "F32", "shape": shape, "data_offsets": offsets}}).encode()
            (tmp_path / "w").write_bytes(struct.pack("<Q", len(header)) + header + bytes(4))
            with pytest.raises(DataError, match="not a whole safetensors file"):
                read_tensors(tmp_path / "w")


LAUGHS = "a: &a [x, x]\n" + "".join(
    f"{c}: &{c} [*{b}, *{b}]\n" for b, c in zip("abcdefghij", "bcdefghijk", strict=True)
)


class TestSpoiledRuns:
    @pytest.mark.parametrize(
        ("text", "word"),
        [
            (LAUGHS, "names a part of itself"),
            ("a: &a [*a]", "names a part of itself"),
            ("a: " + "[" * 5000, "more than 20 levels deep"),
            ("a: 2001-99-99", "not readable as YAML"),
            ("a: " + "9" * 5000, "not readable as YAML"),
            ("a: !!int x", "not readable as YAML"),
            ("a: !!python/object/apply:os.mkdir [boom]", "not readable as YAML"),
            ("a: " + "x" * 2**18, "more than the 262144 that such a file may have"),
        ],
        ids=range(8),
    )
    def test_config(self, tmp_path, monkeypatch, text, word):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "config.yaml").write_text(text)
        with pytest.raises(DataError, match=word):
            read_config(tmp_path)
        assert os.listdir(tmp_path) == ["config.yaml"]

    @pytest.mark.parametrize(
        ("key", "value"),
        [("seed", "1e999"), ("fingerprint", None), ("machine", {"threads": "x"}), ("machine", {"threads": 0})],
    )
    def test_config_of_another_form(self, tmp_path, key, value):
        import yaml

        with pytest.raises(Stop):
            fit_table(tmp_path / "run", callbacks=[stop_at(5)])
        config = read_config(tmp_path / "run") | {key: value}
        (tmp_path / "run" / "config.yaml").write_text(yaml.safe_dump(config))
        with pytest.raises(DataError, match=r"config\.yaml: not the description of a run"):
            fit_table(tmp_path / "run", resume=True)

    @pytest.mark.parametrize(
        "line",
        [
            "3",
            "{}",
            '{"kind": "epoch"}',
            '{"kind": "step", "step": "1"}',
            '{"kind": "epoch", "epoch": 0, "seconds": []}',
            "[" * 5000,
        ],
    )
    def test_metrics(self, tmp_path, line):
        with contextlib.closing(Run(tmp_path / "run")) as run:
            run.record("epoch", stage="fit", epoch=0, step=3, seconds=0.1)
            (run.path / "config.yaml").write_text("{}")
        text = (tmp_path / "run" / "metrics.jsonl").read_text()
        (tmp_path / "run" / "metrics.jsonl").write_text(f"{line}\n{text}")
        with pytest.raises(DataError, match=r"metrics\.jsonl, line 1: not (a record|JSON)"):
            Run(tmp_path / "run", resume=True)

    @pytest.mark.parametrize("name", ["metrics.jsonl", "chosen.json", "config.yaml"])
    def test_a_pipe_is_not_waited_for(self, tmp_path, name):
        os.mkfifo(tmp_path / name)
        reads = {
            "metrics.jsonl": read_metrics,
            "chosen.json": lambda p: read_json(p / "chosen.json"),
            "config.yaml": read_config,
        }
        with pytest.raises(DataError, match=r"not a plain file|is not a run folder"):
            reads[name](tmp_path)

    @pytest.mark.parametrize("value", ["x", -1, 0, True, [1], float("inf")])
    def test_a_learning_rate_that_was_not_found(self, tmp_path, value):
        with pytest.raises(Stop):
            fit_table(tmp_path / "run", lr="find", checkpoint_every=1, callbacks=[stop_at(2)])
        (tmp_path / "run" / "chosen.json").write_text(json.dumps({"fit.lr": value}))
        with pytest.raises(DataError, match=r"chosen\.json: 'fit\.lr' must be a number"):
            fit_table(tmp_path / "run", lr="find", checkpoint_every=1, resume=True)

    def test_a_message_is_short(self):
        assert len(shown("x" * 10**6)) < 400
        assert len(shown([[[[[[[[0] * 1000] * 1000] * 9] * 9]]]])) < 400
        assert shown("sgdd") == "'sgdd'"
        with pytest.raises(ConfigError) as error:
            MLPClassifier(lr="x" * 10**6).check_params()
        assert len(str(error.value)) < 600


class TestDisk:
    @pytest.mark.parametrize("fit", [fit_table, fit_images])
    @pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
    def test_each_kind_of_write(self, tmp_path, fit, number):
        """One write of each kind and file, and all after it; then there is room again."""
        with refusing(tmp_path / "whole", 0) as disk:
            fit(tmp_path / "whole")
        kinds = {}
        for at, call in enumerate(disk.calls, 1):
            what, _, file = call.partition(" ")
            kinds.setdefault((what, file.split("/")[0].split(".")[1 if file.startswith(".") else 0]), at)
        assert len(kinds) > 15
        for at in sorted(kinds.values())[number % 2 :: 2]:  # the other half is the other errno's
            run = tmp_path / f"run{at}"
            with refusing(run, at, lasting=True, number=number) as disk, pytest.raises(ResourceError) as error:
                fit(run)
            assert "cannot write" in str(error.value)
            assert str(run) in str(error.value)
            assert {errno.ENOSPC: "the disk is full", errno.EROFS: "read-only"}[number] in str(error.value), (
                disk.refused
            )
            for folder in (run / "checkpoint").iterdir() if (run / "checkpoint").is_dir() else ():
                if not folder.name.startswith("."):
                    checkpoint.read(folder)
            fit(run, resume=(run / "config.yaml").is_file())
            assert weights(run) == weights(tmp_path / "whole"), disk.refused

    def test_what_a_file_keeps_back_does_not_hide_the_message(self, tmp_path):
        """A full disk is met again when the file is closed."""
        if not os.path.exists("/dev/full"):
            pytest.skip("this system has no /dev/full")
        run = Run(tmp_path / "run")
        run._metrics = open("/dev/full", "a", encoding="utf-8")  # noqa: SIM115, the run closes it
        with pytest.raises(ResourceError, match="the disk is full"):
            run.record("epoch", stage="fit", epoch=0)
        run.close()


class TestClock:
    def test_it_may_go_back(self, tmp_path, monkeypatch):
        fit_table(tmp_path / "whole", max_time=100)
        now, strftime = [time.time()], time.strftime

        def back():
            now[0] -= 3600
            return now[0]

        with monkeypatch.context() as patch:
            patch.setattr(time, "time", back)
            patch.setattr(time, "strftime", lambda form, *when: strftime(form, *(when or (time.localtime(back()),))))
            with pytest.raises(Stop):
                fit_table(tmp_path / "run", max_time=100, callbacks=[stop_at(5)])
            for age, folder in enumerate(sorted((tmp_path / "run" / "checkpoint").iterdir())):
                for path in (folder, *folder.iterdir()):
                    os.utime(path, (1e9 - age, 1e9 - age))  # the newest looks the oldest
            asked = []
            fit_table(tmp_path / "run", max_time=100, resume=True, callbacks=[lambda m: asked.append(m.step)])
        assert asked[0] == 5  # from step 4 on
        assert weights(tmp_path / "run") == weights(tmp_path / "whole")
        assert all(0 <= r.get("seconds", 0) < 60 for r in read_metrics(tmp_path / "run"))
        assert sorted(r["name"] for r in list_runs(tmp_path)) == ["run", "whole"]


class TestOneItem:
    @pytest.mark.parametrize(("items", "size"), [(9, 8), (17, 8), (3, 2), (4, 3)])
    def test_left_over_with_batch_norm(self, items, size):
        X, y = tiny("tabular-classification", items)
        made = MLPClassifier(hidden=(6,), norm="batch", epochs=1, batch_size=size).fit(X, y)
        assert np.isfinite(made.predict_proba(X)).all()

    @pytest.mark.parametrize(
        ("items", "size", "processes", "fewest"),
        [
            (16, 4, 1, 4),
            (16, 4, 2, 2),
            (16, 3, 2, 1),
            (9, 4, 2, 2),
            (11, 4, 2, 1),
            (16, 4, 8, 1),
            (20, 8, 4, 1),
            (5, 8, 2, 2),
        ],
    )
    def test_the_fewest_of_a_process(self, items, size, processes, fewest):
        shares = []
        for rank in range(processes):
            batches = Resident({"x": torch.zeros(items, 1)}, batch_size=size)
            batches.share(rank, processes)
            shares += [len(b["index"]) for b in batches.epoch(0)]
        assert batches.fewest() == min(n for n in shares if n) == fewest
