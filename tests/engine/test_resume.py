"""A fit that is killed, damaged or refused goes on to the bit, or says why it does not."""

import contextlib
import errno
import os
import signal
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from konspekt.core import ConfigError, DataError, ResourceError, folders
from konspekt.core.runs import Run, read_metrics
from konspekt.data.batches import Resident
from konspekt.engine import Training, loop, minimise
from konspekt.engine.session import surroundings
from konspekt.engine.supervised import Regression
from konspekt.tabular import MLPClassifier


def points(**options):
    draw = torch.Generator().manual_seed(1)
    x, y = torch.randn(12, 3, generator=draw), torch.randn(12, 2, generator=draw)
    return Resident({"x": x, "y": y}, **{"batch_size": 4, "shuffle": True} | options)


def net():
    return nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 2))


class Counting(Regression):
    """Counts how often it is asked."""

    def __init__(self, model):
        super().__init__(model)
        self.asked, self.begun = 0, []

    def start_epoch(self, epoch, batches):
        self.begun.append(epoch)

    def loss(self, batch, player):
        self.asked += 1
        return super().loss(batch, player)


class Scripted(Counting):
    """Its measure is written down for each epoch."""

    values = (5.0, 4, 6, 3, 6, 7, 6, 1)

    def __init__(self, model):
        super().__init__(model)
        self.register_buffer("epoch", torch.tensor(0))

    def start_epoch(self, epoch, batches):
        self.epoch.fill_(epoch)

    def evaluate(self, batches):
        return {"loss": self.values[int(self.epoch)]}


def one_stage(path, *, resume=False, callbacks=(), validation=None, made=Counting, **training):
    """A fit of 3 epochs of 3 steps, with a checkpoint every 2 steps."""
    training = {"epochs": 3, "lr": 0.05, "checkpoint_every": 2} | training
    with surroundings(torch.device("cpu"), 0), contextlib.closing(Run(path, resume=resume)) as run:
        objective = made(net())
        minimise(objective, points(), Training(**training), run=run, callbacks=callbacks, validation=validation)
    return objective, run


def two_stages(path, *, resume=False, callbacks=(), shared=False, **training):
    """The last layer first, then all: 2 epochs of 3 steps each."""
    training = Training(**{"epochs": 2, "lr": 0.05, "checkpoint_every": 4} | training)
    with surroundings(torch.device("cpu"), 0), contextlib.closing(Run(path, resume=resume)) as run:
        head = Counting(net())
        for p in head.model[0].parameters():
            p.requires_grad_(False)
        batches = points()
        minimise(head, batches, training, run=run, stage="head", callbacks=callbacks)
        rest = Counting(head.model.requires_grad_(True))
        minimise(rest, batches if shared else points(), training, run=run, stage="rest", callbacks=callbacks)
    return head, rest, run


def epochs_of(run, stage="fit"):
    return [(r["epoch"], r["step"], r["loss"]) for r in run.history if r["stage"] == stage]


class Stop(Exception):
    pass


def stop_at(step, stage="fit"):
    def callback(moment):
        if (moment.event, moment.stage, moment.step) == ("step", stage, step):
            raise Stop

    return callback


class TestOneStage:
    @pytest.mark.parametrize("step", [1, 2, 3, 4, 6, 8, 9])
    def test_killed_at_a_step(self, killed, die, bits, tmp_path, step):
        whole, run = one_stage(tmp_path / "whole")
        killed(lambda: one_stage(tmp_path / "cut", callbacks=[die(step)]))
        resumed, again = one_stage(tmp_path / "cut", resume=True)
        assert bits(resumed) == bits(whole)
        saved = (step - 1) // 2 * 2  # a callback comes before the step's checkpoint
        assert resumed.asked == 9 - saved
        assert epochs_of(again)[-1] == epochs_of(run)[-1]

    @pytest.mark.parametrize(
        "training",
        [
            {"schedule": "cosine", "weight_decay": 0.2, "warmup": 2},
            {"schedule": "step(every=1, factor=0.3)", "optimizer": "adamw", "l2": 0.01},
            {"optimizer": "momentum", "schedule": "one-cycle", "clip_norm": 0.5, "weight_decay": 0.1},
            {"optimizer": "adadelta", "lr": 1.0, "clip_value": 0.05, "l1": 0.01},
        ],
        ids=str,
    )
    def test_with_all_that_changes_from_step_to_step(self, bits, tmp_path, training):
        whole, run = one_stage(tmp_path / "whole", **training)
        with pytest.raises(Stop):
            one_stage(tmp_path / "cut", callbacks=[stop_at(5)], **training)
        resumed, again = one_stage(tmp_path / "cut", resume=True, **training)
        assert resumed.asked == 5
        assert bits(resumed) == bits(whole)
        assert epochs_of(again) == epochs_of(run)
        assert again.history[-1]["lr"] == run.history[-1]["lr"]
        assert again.history[-1]["grad_norms"] == run.history[-1]["grad_norms"]

    @pytest.mark.parametrize("back", [1, 3, 5, 7, 9])
    def test_early_stopping_and_plateau_remember(self, bits, tmp_path, back):
        training = {
            "made": Scripted,
            "epochs": 20,
            "patience": 3,
            "schedule": "plateau(patience=0, factor=0.5)",
            "validation": points(),
        }
        whole, run = one_stage(tmp_path / "whole", **training)
        end = read_metrics(run.path)[-1]
        assert (end["stopped"], end["best_epoch"], end["step"]) == ("patience", 3, 21)
        assert [h["lr"] for h in run.history] == [0.05, 0.05, 0.05, 0.025, 0.025, 0.0125, 0.00625]
        with pytest.raises(Stop):
            one_stage(tmp_path / "cut", callbacks=[stop_at(end["step"] - back)], **training)
        resumed, again = one_stage(tmp_path / "cut", resume=True, **training)
        assert bits(resumed) == bits(whole)
        assert epochs_of(again) == epochs_of(run)
        assert [h["lr"] for h in again.history] == [h["lr"] for h in run.history]
        assert read_metrics(again.path)[-1]["best_epoch"] == end["best_epoch"]

    def test_a_finished_one_stays_as_it_is(self, bits, tmp_path):
        whole, run = one_stage(tmp_path / "run")
        before = (run.path / "metrics.jsonl").read_bytes()
        again, _ = one_stage(tmp_path / "run", resume=True)
        assert again.asked == 0
        assert bits(again) == bits(whole)
        assert (run.path / "metrics.jsonl").read_bytes() == before
        assert sorted(p.name for p in run.checkpoints.iterdir()) == ["fit-finished"]

    def test_one_stopped_by_a_callback_does_not_go_on(self, tmp_path):
        one_stage(tmp_path / "run", callbacks=[lambda m: m.step == 5])
        again, _ = one_stage(tmp_path / "run", resume=True, epochs=5)
        assert again.asked == 0

    def test_more_epochs_are_as_if_asked_for_at_once(self, bits, tmp_path):
        whole, run = one_stage(tmp_path / "whole", epochs=4)
        one_stage(tmp_path / "run", epochs=2)
        more, again = one_stage(tmp_path / "run", resume=True, epochs=4)
        assert more.begun == [2, 3]
        assert bits(more) == bits(whole)
        assert epochs_of(again) == epochs_of(run)
        states = [r["state"] for r in read_metrics(again.path) if r["kind"] == "stage"]
        assert states == ["finished"]

    def test_twice_in_a_row(self, bits, tmp_path):
        whole, run = one_stage(tmp_path / "whole")
        for step, resume in ((4, False), (5, True), (8, True)):
            with pytest.raises(Stop):
                one_stage(tmp_path / "cut", resume=resume, callbacks=[stop_at(step)])
        resumed, again = one_stage(tmp_path / "cut", resume=True)
        assert bits(resumed) == bits(whole)
        assert resumed.asked == 3
        assert epochs_of(again) == epochs_of(run)

    def test_the_seconds_add_up(self, tmp_path):
        def slow(moment):
            time.sleep(0.02)
            return stop_at(5)(moment)

        with pytest.raises(Stop):
            one_stage(tmp_path / "run", callbacks=[slow])
        one_stage(tmp_path / "run", resume=True)
        assert 0.08 < read_metrics(tmp_path / "run")[-1]["seconds"] < 5


class TestCheckpointsOfARun:
    def test_how_many_are_kept(self, tmp_path):
        for keep in (1, 3):
            with pytest.raises(Stop):
                one_stage(tmp_path / str(keep), checkpoint_every=1, keep=keep, callbacks=[stop_at(7)])
            names = sorted(p.name for p in (tmp_path / str(keep) / "checkpoint").iterdir())
            assert names == [f"fit-{n:09d}" for n in range(7 - keep, 7)]

    def test_by_the_clock(self, monkeypatch, tmp_path):
        clock = [0.0]
        monkeypatch.setattr(loop, "time", SimpleNamespace(perf_counter=lambda: clock[0]))

        def tick(moment):
            clock[0] += 20 * (moment.event == "step")
            return stop_at(11)(moment)

        with pytest.raises(Stop):
            one_stage(tmp_path / "run", checkpoint_every=None, epochs=9, callbacks=[tick])
        names = sorted(p.name for p in (tmp_path / "run" / "checkpoint").iterdir())
        assert names == ["fit-000000005", "fit-000000010"]  # more than a minute after the beginning, and after that

    def test_without_a_folder_nothing_is_written(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        objective, run = one_stage(None)
        assert objective.asked == 9
        assert len(run.history) == 3
        assert os.listdir(tmp_path) == []


def spoil(folder, how):
    if how == "cut":
        (folder / "tensors.safetensors").write_bytes((folder / "tensors.safetensors").read_bytes()[:-7])
    elif how == "changed":
        data = bytearray((folder / "tensors.safetensors").read_bytes())
        data[-3] ^= 1
        (folder / "tensors.safetensors").write_bytes(bytes(data))
    elif how == "no state":
        (folder / "state.json").unlink()
    else:
        (folder / "manifest.json").unlink()


class TestDamage:
    @pytest.mark.parametrize("how", ["cut", "changed", "no state", "no manifest"])
    @pytest.mark.parametrize("keep", [1, 2])
    def test_the_one_before_is_taken_and_it_is_said(self, killed, die, bits, tmp_path, how, keep):
        whole, run = one_stage(tmp_path / "whole")
        killed(lambda: one_stage(tmp_path / "cut", callbacks=[die(7)]))
        spoil(tmp_path / "cut" / "checkpoint" / "fit-000000006", how)
        resumed, again = one_stage(tmp_path / "cut", resume=True, keep=keep)
        assert resumed.asked == 5  # from step 4
        assert bits(resumed) == bits(whole)
        assert epochs_of(again) == epochs_of(run)
        log = (tmp_path / "cut" / "log.txt").read_text()
        assert "WARNING a damaged checkpoint was passed over for the one before: " in log
        assert "fit-000000006" in log

    def test_a_newer_damaged_one_never_crowds_out_a_good_one(self, killed, die, bits, tmp_path):
        whole, _ = one_stage(tmp_path / "whole")
        killed(lambda: one_stage(tmp_path / "cut", callbacks=[die(9)], checkpoint_every=4))
        spoil(tmp_path / "cut" / "checkpoint" / "fit-000000008", "changed")
        with pytest.raises(Stop):
            one_stage(tmp_path / "cut", resume=True, checkpoint_every=1, keep=1, callbacks=[stop_at(7)])
        resumed, _ = one_stage(tmp_path / "cut", resume=True)
        assert resumed.asked == 3
        assert bits(resumed) == bits(whole)

    def test_all_damaged(self, tmp_path):
        with pytest.raises(Stop):
            one_stage(tmp_path / "run", callbacks=[stop_at(7)])
        checkpoints = tmp_path / "run" / "checkpoint"
        spoil(checkpoints / "fit-000000006", "cut")
        spoil(checkpoints / "fit-000000004", "no state")
        with pytest.raises(DataError) as error:
            one_stage(tmp_path / "run", resume=True)
        message = str(error.value)
        assert message.startswith("no checkpoint of this run can be read: ")
        assert str(checkpoints / "fit-000000006" / "tensors.safetensors") in message
        assert str(checkpoints / "fit-000000004" / "state.json") in message
        assert len(list(checkpoints.iterdir())) == 2

    def test_a_damaged_end_of_a_stage(self, tmp_path):
        one_stage(tmp_path / "run")
        spoil(tmp_path / "run" / "checkpoint" / "fit-finished", "changed")
        with pytest.raises(DataError, match=r"fit-finished/tensors\.safetensors: its SHA-256 is not the manifest's"):
            one_stage(tmp_path / "run", resume=True)


class TestStages:
    def test_each_does_its_part(self, bits, tmp_path):
        head, rest, run = two_stages(tmp_path / "run")
        assert (head.asked, rest.asked) == (6, 6)
        assert [(r["stage"], r["epoch"], r["step"]) for r in run.history] == [
            ("head", 0, 3),
            ("head", 1, 6),
            ("rest", 0, 3),
            ("rest", 1, 6),
        ]
        names = sorted(p.name for p in run.checkpoints.iterdir())
        assert names == ["head-finished", "rest-finished"]

    @pytest.mark.parametrize("shared", [False, True])
    @pytest.mark.parametrize("epochs", [1, 2])
    @pytest.mark.parametrize("step", [1, 3, 5])
    def test_an_exception_in_the_second(self, bits, tmp_path, shared, epochs, step):
        if step > 3 * epochs:
            step = 2
        options = {"shared": shared, "epochs": epochs, "checkpoint_every": 2}
        head, whole, run = two_stages(tmp_path / "whole", **options)
        with pytest.raises(Stop):
            two_stages(tmp_path / "cut", callbacks=[stop_at(step, "rest")], **options)
        first, resumed, again = two_stages(tmp_path / "cut", resume=True, **options)
        assert first.asked == 0
        assert resumed.asked == 3 * epochs - (step - 1) // 2 * 2
        assert bits(first) == bits(resumed) == bits(whole) == bits(head)  # the net is the same object
        assert epochs_of(again, "head") == epochs_of(run, "head")
        assert epochs_of(again, "rest") == epochs_of(run, "rest")

    @pytest.mark.parametrize(("stage", "step"), [("head", 2), ("head", 5), ("rest", 1), ("rest", 5)])
    def test_a_kill_in_either(self, killed, die, bits, tmp_path, stage, step):
        _, whole, run = two_stages(tmp_path / "whole")
        killed(lambda: two_stages(tmp_path / "cut", callbacks=[die(step, stage)]))
        first, resumed, again = two_stages(tmp_path / "cut", resume=True)
        left = 2 if step == 5 else 6
        assert (first.asked, resumed.asked) == ((left, 6) if stage == "head" else (0, left))
        assert bits(resumed) == bits(whole)
        records = read_metrics(again.path)
        kinds = [(r["kind"], r["stage"], r["step"]) for r in records]
        assert kinds == [(r["kind"], r["stage"], r["step"]) for r in read_metrics(run.path)]
        assert epochs_of(again, "rest") == epochs_of(run, "rest")

    def test_more_epochs_are_the_last_stages(self, tmp_path):
        two_stages(tmp_path / "run")
        head, rest, _ = two_stages(tmp_path / "run", resume=True, epochs=3)
        assert (head.asked, rest.asked) == (0, 3)


def sample(items=24):
    X = np.random.default_rng(0).normal(size=(items, 3))
    return X, np.where(X[:, 0] > 0, "yes", "no")


def classifier(path, **params):
    given = {"hidden": (6,), "dropout": 0.2, "epochs": 3, "batch_size": 8, "checkpoint_every": 2}
    return MLPClassifier(run_dir=None if path is None else str(path), **given | params)


class TestEstimator:
    @pytest.fixture
    def cut(self, killed, die, tmp_path):
        """A run killed after step 7 of 9."""
        killed(lambda: classifier(tmp_path / "cut").fit(*sample(), callbacks=[die(7)]))
        return tmp_path / "cut"

    def test_resumed_to_the_bit(self, cut, tmp_path, model_bytes):
        whole = classifier(tmp_path / "whole").fit(*sample())
        resumed = classifier(cut).fit(*sample(), resume=cut)
        assert model_bytes(cut) == model_bytes(tmp_path / "whole")
        assert [h["loss"] for h in resumed.history_] == [h["loss"] for h in whole.history_]
        assert resumed.n_iter_ == 3
        np.testing.assert_array_equal(resumed.predict_proba(sample()[0]), whole.predict_proba(sample()[0]))

    def test_more_epochs(self, cut, tmp_path, model_bytes):
        classifier(tmp_path / "whole", epochs=5).fit(*sample())
        resumed = classifier(cut, epochs=5, verbose=False).fit(*sample(), resume=cut)
        assert model_bytes(cut) == model_bytes(tmp_path / "whole")
        assert resumed.n_iter_ == 5
        classifier(cut, epochs=6).fit(*sample(), resume=cut)
        classifier(tmp_path / "longer", epochs=6).fit(*sample())
        assert model_bytes(cut) == model_bytes(tmp_path / "longer")

    def test_without_a_seed_it_goes_on_with_the_one_that_was_drawn(self, killed, die, tmp_path, model_bytes):
        killed(lambda: classifier(tmp_path / "cut", random_state=None).fit(*sample(), callbacks=[die(7)]))
        resumed = classifier(tmp_path / "cut", random_state=None).fit(*sample(), resume=tmp_path / "cut")
        classifier(tmp_path / "whole", random_state=resumed.seed_).fit(*sample())
        assert model_bytes(tmp_path / "cut") == model_bytes(tmp_path / "whole")

    def test_other_parameters_are_named(self, cut):
        with pytest.raises(ConfigError) as error:
            classifier(cut, lr=0.5, hidden=(7,), epochs=9).fit(*sample(), resume=cut)
        message = str(error.value)
        assert (
            "cannot be resumed with other parameters than epochs, max_time, workers, backend, run_dir, verbose: "
            in message
        )
        assert "hidden was (6,), is (7,)" in message
        assert "lr was 0.001, is 0.5" in message
        assert "epochs was" not in message

    def test_other_data_are_refused(self, cut):
        X, y = sample()
        other = X.copy()
        other[3, 1] += 1e-3
        for given in [
            (other, y),
            (X[::-1].copy(), y[::-1].copy()),
            (X, np.where(y == "yes", "no", "yes")),
            (X[:-1], y[:-1]),
        ]:
            with pytest.raises(DataError, match=r"was begun with other data \(fingerprint \w{12}, now \w{12}\)"):
                classifier(cut).fit(*given, resume=cut)
        with pytest.raises(DataError, match="was begun with other data"):
            classifier(cut).fit(X, y, validation=(X, y), resume=cut)

    def test_another_system_and_no_run_at_all(self, cut, tmp_path):
        from konspekt.tabular import LogisticClassifier

        with pytest.raises(ConfigError, match="is a run of 'mlp-classifier', not of 'logistic-classifier'"):
            LogisticClassifier().fit(*sample(), resume=cut)
        with pytest.raises(DataError, match=r"is not a run folder: it has no config\.yaml"):
            classifier(None).fit(*sample(), resume=tmp_path)
        (cut / "config.yaml").write_text("system: mlp-classifier\n")
        with pytest.raises(DataError, match=r"config\.yaml: not the description of a run; the file is damaged"):
            classifier(cut).fit(*sample(), resume=cut)

    def test_one_folder_has_one_writer(self, cut, fork):
        read, write = os.pipe()

        def hold():
            run = Run(cut, resume=True)
            os.write(write, b"x")
            time.sleep(60)
            run.close()

        child = fork(hold)
        assert os.read(read, 1) == b"x"
        before = {p: p.read_bytes() for p in cut.rglob("*") if p.is_file()}
        with pytest.raises(ResourceError, match="another process is writing to the run folder"):
            classifier(cut).fit(*sample(), resume=cut)
        assert {p: p.read_bytes() for p in cut.rglob("*") if p.is_file()} == before
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        assert classifier(cut).fit(*sample(), resume=cut).n_iter_ == 3

    def test_a_folder_that_has_a_run_is_not_begun_again(self, cut):
        with pytest.raises(ConfigError, match="already holds a run; resume it, or give another run_dir"):
            classifier(cut).fit(*sample())

    def test_a_fit_that_failed_lets_go_of_its_folder(self, tmp_path):
        with pytest.raises(Stop):
            classifier(tmp_path / "run").fit(*sample(), callbacks=[stop_at(3)])
        assert classifier(tmp_path / "run").fit(*sample(), resume=tmp_path / "run").n_iter_ == 3

    @pytest.mark.parametrize("call", [1, 4, 5, 8, 10, 11])
    def test_a_full_disk(self, tmp_path, monkeypatch, model_bytes, call):
        classifier(tmp_path / "whole", checkpoint_every=2).fit(*sample())
        flush, seen = folders.flush, []

        def full(path):
            if "checkpoint" in str(path):
                seen.append(path)
                if len(seen) == call:
                    raise OSError(errno.ENOSPC, "No space left on device", str(path))
            flush(path)

        with monkeypatch.context() as patch:
            patch.setattr(folders, "flush", full)
            with pytest.raises(ResourceError, match=r"cannot write .*: the disk is full: free some space, then resume"):
                classifier(tmp_path / "run").fit(*sample())
        kept = sorted(p.name for p in (tmp_path / "run" / "checkpoint").iterdir())
        assert kept == [f"fit-{2 * (k + 1):09d}" for k in range(call // 5)]  # the fifth: it stands already
        resumed = classifier(tmp_path / "run").fit(*sample(), resume=tmp_path / "run")
        assert resumed.n_iter_ == 3
        assert model_bytes(tmp_path / "run") == model_bytes(tmp_path / "whole")
