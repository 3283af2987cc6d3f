"""The writer of checkpoints: large ones go to the disk by a thread while training goes on."""

import contextlib
import errno
import os
import signal
import threading

import pytest
import torch
from torch import nn

from konspekt.core import ResourceError, folders
from konspekt.core.runs import Run
from konspekt.data.batches import Resident
from konspekt.engine import Training, checkpoint, minimise
from konspekt.engine.checkpoint import Writer, newest, read, write
from konspekt.engine.session import surroundings
from konspekt.engine.supervised import Regression


@pytest.fixture
def large(monkeypatch):
    """Every checkpoint but a stage's end is large."""
    monkeypatch.setattr(checkpoint, "_LARGE", 1)


@pytest.fixture
def held(monkeypatch):
    """The disk waits, once for each write, until `held.set()`."""
    gate, inner = threading.Event(), folders.write_folder

    def waiting(folder, files):
        assert gate.wait(20)
        inner(folder, files)

    monkeypatch.setattr(folders, "write_folder", waiting)
    yield gate
    gate.set()


def full(monkeypatch, where="checkpoint"):
    flush = folders.flush

    def refused(path):
        if where in str(path):
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        flush(path)

    monkeypatch.setattr(folders, "flush", refused)


def state():
    base = torch.arange(12.0).reshape(3, 4)
    return {"w": base, "turned": base.t(), "row": base[1], "steps": [1, 2], "deep": {3: (base[0], "a")}}


class TestWriter:
    def test_it_has_the_bytes_of_its_moment(self, tmp_path, large, held):
        writer, kept = Writer(), state()
        writer.write(tmp_path, "fit", 1, kept, lambda: None)
        with torch.no_grad():
            kept["w"].fill_(99)
        kept["steps"].append(3)
        kept["deep"][3] = None
        held.set()
        writer.wait()
        back = read(tmp_path / "fit-000000001")
        assert torch.equal(back["w"], state()["w"])
        assert torch.equal(back["turned"], state()["w"].t())
        assert back["steps"] == [1, 2]
        assert torch.equal(back["deep"][3][0], state()["w"][0])

    def test_the_same_files_as_at_once(self, tmp_path, large):
        writer = Writer()
        writer.write(tmp_path / "thread", "fit", 1, state(), lambda: None)
        writer.wait()
        write(tmp_path / "once", "fit", 1, state())
        for name in ("state.json", "tensors.safetensors", "manifest.json"):
            files = [tmp_path / how / "fit-000000001" / name for how in ("thread", "once")]
            assert files[0].read_bytes() == files[1].read_bytes()

    def test_it_goes_on_meanwhile_and_calls_back_when_it_is_written(self, tmp_path, large, held):
        writer, done = Writer(), []
        writer.write(tmp_path, "fit", 1, state(), lambda: done.append(threading.current_thread().name))
        assert done == []
        assert not (tmp_path / "fit-000000001").exists()
        held.set()
        writer.wait()
        assert done == ["checkpoint"]
        assert newest(tmp_path, "fit")[1] is False

    def test_small_ones_and_ends_are_written_at_once(self, tmp_path, monkeypatch):
        size = sum(t.nbytes for t in (state()["w"], state()["turned"], state()["row"], state()["w"][0]))
        seen = []
        for limit, step in ((size + 1, 1), (size, 2), (size, None)):
            monkeypatch.setattr(checkpoint, "_LARGE", limit)
            writer = Writer()
            writer.write(tmp_path, "fit", step, state(), lambda: seen.append(threading.current_thread().name))
            writer.wait()
        assert seen == ["MainThread", "checkpoint", "MainThread"]

    def test_the_next_waits_for_the_one_before(self, tmp_path, large, held):
        writer, order = Writer(), []
        writer.write(tmp_path, "fit", 1, state(), lambda: order.append(1))
        threading.Timer(0.05, held.set).start()
        writer.write(tmp_path, "fit", 2, state(), lambda: order.append(2))
        writer.wait()
        assert order == [1, 2]

    def test_a_full_disk_is_told_at_the_next_occasion_and_once(self, tmp_path, large, monkeypatch):
        writer, done = Writer(), []
        with monkeypatch.context() as patch:
            full(patch, str(tmp_path))
            writer.write(tmp_path, "fit", 1, state(), lambda: done.append(1))
            message = r"cannot write .*fit-000000001: the disk is full: free some space, then resume"
            with pytest.raises(ResourceError, match=message):
                writer.wait()
        writer.wait()
        assert done == []
        assert list(tmp_path.iterdir()) == []
        writer.write(tmp_path, "fit", 2, state(), lambda: done.append(2))
        writer.wait()
        assert done == [2]


def points():
    draw = torch.Generator().manual_seed(1)
    x, y = torch.randn(12, 3, generator=draw), torch.randn(12, 2, generator=draw)
    return Resident({"x": x, "y": y}, batch_size=4, shuffle=True)


def fit(path, *, resume=False, callbacks=(), **training):
    """3 epochs of 3 steps, with a checkpoint after every second."""
    training = {"epochs": 3, "lr": 0.05, "checkpoint_every": 2, "ema": 0.9} | training
    with surroundings(torch.device("cpu"), 0), contextlib.closing(Run(path, resume=resume)) as run:
        objective = Regression(nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Dropout(0.3), nn.Linear(8, 2)))
        minimise(objective, points(), Training(**training), run=run, callbacks=callbacks)
    return objective


class TestInTraining:
    def test_steps_go_on_and_it_is_of_its_moment(self, tmp_path, large, monkeypatch, bits):
        """The first checkpoint, of step 2, is written while step 3 is made; its weights are those of step 2."""
        inner, third = folders.write_folder, threading.Event()
        waited = []

        def waiting(folder, files):
            if folder.name == "fit-000000002":
                waited.append(third.wait(20))
            inner(folder, files)

        monkeypatch.setattr(folders, "write_folder", waiting)
        states = {}

        def look(moment):
            if moment.event == "step":
                states[moment.step] = {n: t.clone() for n, t in moment.objective.state_dict().items()}
                if moment.step == 3:
                    third.set()

        fit(tmp_path / "run", callbacks=[look], epochs=1, keep=9)
        assert waited == [True]
        with monkeypatch.context() as patch:
            patch.setattr(checkpoint, "prune", lambda *args, **how: None)
            fit(tmp_path / "kept", callbacks=[look], epochs=1)
        saved = read(tmp_path / "kept" / "checkpoint" / "fit-000000002")["weights"]
        assert all(torch.equal(saved[n], t) for n, t in states[2].items())
        assert not torch.equal(saved["model.0.weight"], states[3]["model.0.weight"])

    def test_the_same_checkpoints_and_weights_as_at_once(self, tmp_path, monkeypatch, bits):
        monkeypatch.setattr(checkpoint, "prune", lambda *args, **how: None)
        small = fit(tmp_path / "small")
        monkeypatch.setattr(checkpoint, "_LARGE", 1)
        big = fit(tmp_path / "large")
        assert bits(small) == bits(big)
        names = [sorted(p.name for p in (tmp_path / n / "checkpoint").iterdir()) for n in ("small", "large")]
        assert names[0] == names[1] == [f"fit-{k:09d}" for k in (2, 4, 6, 8)] + ["fit-finished"]
        for name in names[0]:
            tensors = [
                (tmp_path / n / "checkpoint" / name / "tensors.safetensors").read_bytes() for n in ("small", "large")
            ]
            assert tensors[0] == tensors[1]

    @pytest.mark.parametrize("step", [3, 5, 6])
    def test_a_kill_while_it_is_written_leaves_the_one_before(self, tmp_path, large, killed, bits, step):
        whole = fit(tmp_path / "whole")

        def cut():
            inner = folders.flush

            def flush(path):
                if f"fit-{step // 2 * 2:09d}" in str(path) and path.name.startswith("tensors"):
                    os.kill(os.getpid(), signal.SIGKILL)
                inner(path)

            folders.flush = flush
            fit(tmp_path / "cut")

        killed(cut)
        before = step // 2 * 2 - 2
        names = {p.name for p in (tmp_path / "cut" / "checkpoint").iterdir() if not p.name.startswith(".")}
        assert names == ({f"fit-{before:09d}"} if before else set()) | (
            {f"fit-{before - 2:09d}"} if before > 2 else set()
        )
        assert bits(fit(tmp_path / "cut", resume=True)) == bits(whole)
        assert not [p for p in (tmp_path / "cut" / "checkpoint").iterdir() if p.name.startswith(".")]

    def test_a_full_disk_ends_the_fit(self, tmp_path, large, monkeypatch, bits):
        whole = fit(tmp_path / "whole")
        with monkeypatch.context() as patch:
            full(patch, "fit-000000004")
            with pytest.raises(ResourceError, match=r"cannot write .*fit-000000004: the disk is full: free some space"):
                fit(tmp_path / "run")
        assert [p.name for p in (tmp_path / "run" / "checkpoint").iterdir()] == ["fit-000000002"]
        assert bits(fit(tmp_path / "run", resume=True)) == bits(whole)

    def test_of_the_last_one_too(self, tmp_path, large, monkeypatch):
        with monkeypatch.context() as patch:
            full(patch, "fit-000000008")
            with pytest.raises(ResourceError, match=r"cannot write .*fit-000000008"):
                fit(tmp_path / "run")
        assert not (tmp_path / "run" / "checkpoint" / "fit-finished").exists()

    def test_ctrl_c_waits_until_it_is_written(self, tmp_path, large, bits):
        from konspekt.core.errors import InterruptedFit

        def press(moment):
            if moment.event == "step" and moment.step == 5:
                os.kill(os.getpid(), signal.SIGINT)

        with pytest.raises(InterruptedFit):
            fit(tmp_path / "run", callbacks=[press])
        assert "fit-000000005" in {p.name for p in (tmp_path / "run" / "checkpoint").iterdir()}
        assert bits(fit(tmp_path / "run", resume=True)) == bits(fit(tmp_path / "whole"))

    def test_what_ends_it_otherwise_leaves_no_thread(self, tmp_path, large):
        def fail(moment):
            if moment.step == 3:
                raise OverflowError("on purpose")

        with pytest.raises(OverflowError):
            fit(tmp_path / "run", callbacks=[fail])
        assert "checkpoint" not in {t.name for t in threading.enumerate()}
        assert [p.name for p in (tmp_path / "run" / "checkpoint").iterdir()] == ["fit-000000002"]
