"""The run folder: one writer, metrics that survive a kill, what is kept."""

from __future__ import annotations

import errno
import json
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch

from konspekt.core import ConfigError, DataError, ResourceError, runs
from konspekt.core.runs import Run, read_config, read_metrics


@pytest.fixture
def run(tmp_path):
    made = Run(tmp_path / "run")
    yield made
    made.close()


class TestLock:
    def test_a_second_process_is_refused_until_the_first_lets_go(self, run):
        code = (
            "import sys\n"
            "from konspekt.core.runs import Run\n"
            "try: Run(sys.argv[1], resume=True)\n"
            "except ValueError as error: print(type(error).__name__, error)\n"
            "else: print('free')\n"
        )

        def other():
            return subprocess.run(
                [sys.executable, "-c", code, str(run.path)], capture_output=True, text=True, timeout=60, check=True
            ).stdout

        assert f"ResourceError another process is writing to the run folder {run.path}; wait for it" in other()
        run.close()
        assert other().strip() == "free"

    def test_a_second_run_in_this_process_too(self, run):
        with pytest.raises(ResourceError, match="another process is writing"):
            Run(run.path)
        run.close()
        Run(run.path).close()

    def test_a_folder_with_a_run_is_only_resumed(self, run):
        (run.path / "config.yaml").write_text("system: x\n")
        run.close()
        with pytest.raises(ConfigError, match="already holds a run; resume it, or give another run_dir"):
            Run(run.path)
        Run(run.path, resume=True).close()

    def test_a_folder_in_which_no_run_was_begun_is_removed(self, run):
        run.close()
        assert not run.path.exists()

    def test_a_folder_whose_fit_was_killed_before_its_config_says_so_and_can_be_used(self, run):
        with pytest.raises(DataError, match=f"{run.path}: a process is beginning a run there.*wait for it"):
            read_config(run.path)
        code = (
            "import os, signal, sys\n"
            "from konspekt.core.runs import Run\n"
            "run = Run(sys.argv[1])\n"
            "run.log('begun')\n"
            "os.kill(os.getpid(), signal.SIGKILL)\n"
        )
        run.close()
        killed = subprocess.run([sys.executable, "-c", code, str(run.path)], timeout=60, check=False)
        assert killed.returncode == -signal.SIGKILL
        with pytest.raises(
            DataError, match=f"stopped before anything of it was recorded.*fit again, with run_dir={run.path}"
        ):
            read_config(run.path)
        again = Run(run.path)
        (run.path / "config.yaml").write_text("system: x\n")
        again.abandon()  # what failed before its first step, as in a new folder
        again.close()
        assert not run.path.exists()

    def test_a_folder_that_holds_something_else_is_left(self, run):
        (run.path / "mine.txt").write_text("mine")
        run.close()
        assert [p.name for p in run.path.iterdir()] == ["mine.txt"]

    def test_a_place_that_cannot_be_a_folder(self, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(ResourceError, match="cannot write"):
            Run(tmp_path / "file" / "run")
        with pytest.raises(ResourceError, match="cannot write"):
            Run(tmp_path / "file")

    def test_close_twice(self, run):
        run.record("step", step=1)
        run.close()
        run.close()
        assert read_metrics(run.path) == [{"kind": "step", "step": 1}]


class TestMetrics:
    def test_records_are_lines_and_epochs_are_the_history(self, run):
        run.record("step", step=1, loss=0.5)
        run.record("epoch", step=2, loss=float("nan"), score=np.float32(0.25), sizes=np.array([1, 2]), t=torch.ones(2))
        run.record("stage", stage="fit", best=float("inf"), flag=np.bool_(True), nested={"a": (1, float("-inf"))})
        assert read_metrics(run.path) == [
            {"kind": "step", "step": 1, "loss": 0.5},
            {"kind": "epoch", "step": 2, "loss": None, "score": 0.25, "sizes": [1, 2], "t": [1.0, 1.0]},
            {"kind": "stage", "stage": "fit", "best": None, "flag": True, "nested": {"a": [1, None]}},
        ]
        assert run.history == read_metrics(run.path)[1:2]

    def test_each_record_is_on_disk_at_once(self, run):
        run.record("step", step=1)
        assert (run.path / "metrics.jsonl").read_text() == '{"kind": "step", "step": 1}\n'

    def test_a_last_line_cut_short_is_left_out(self, run):
        run.record("step", step=1, text="line\u2028separator \u00e9")
        run.record("step", step=2)
        run.close()
        path = run.path / "metrics.jsonl"
        whole = path.read_bytes()
        first = len(whole.splitlines(keepends=True)[0])
        for end in range(first, len(whole) - 1):
            path.write_bytes(whole[:end])
            assert [r["step"] for r in read_metrics(run.path)] == [1]
        path.write_bytes(whole[: first - 5])
        assert read_metrics(run.path) == []

    def test_a_line_in_the_middle_that_is_no_json(self, run):
        (run.path / "metrics.jsonl").write_text('{"kind": "step"}\n{"ki\n{"kind": "step"}\n')
        with pytest.raises(DataError, match=r"metrics\.jsonl, line 2: not JSON; the file is damaged"):
            read_metrics(run.path)

    def test_no_metrics(self, run):
        assert read_metrics(run.path) == []
        assert run.last_stage() is None

    def test_a_full_disk(self, run, monkeypatch):
        run.record("step", step=1)

        class Full:
            def write(self, text):
                raise OSError(errno.ENOSPC, "No space left on device")

            def close(self):
                pass

        monkeypatch.setattr(run, "_metrics", Full())
        with pytest.raises(ResourceError, match=r"metrics\.jsonl: the disk is full"):
            run.record("step", step=2)
        assert len(read_metrics(run.path)) == 1


class TestRewind:
    def fill(self, run):
        run.record("step", stage="first", step=5)
        run.record("epoch", stage="first", step=10, epoch=0)
        run.record("stage", stage="first", step=10)
        run.record("step", stage="second", step=5)
        run.record("epoch", stage="second", step=10, epoch=0)
        run.record("step", stage="second", step=15)
        run.record("epoch", stage="second", step=20, epoch=1)
        run.close()

    def left(self, run):
        return [(r["kind"], r["stage"], r["step"]) for r in read_metrics(run.path)]

    def test_forgets_the_stages_later_records_only(self, run):
        self.fill(run)
        again = Run(run.path, resume=True)
        again.rewind("second", 10, 1)
        assert self.left(run) == [
            ("step", "first", 5),
            ("epoch", "first", 10),
            ("stage", "first", 10),
            ("step", "second", 5),
            ("epoch", "second", 10),
        ]
        assert [r["step"] for r in again.history] == [10, 10]
        assert again.last_stage() == "second"
        again.record("epoch", stage="second", step=20, epoch=1)
        assert len(read_metrics(run.path)) == 6
        again.close()

    def test_forgets_the_epoch_that_will_be_ended_again(self, run):
        self.fill(run)
        run.rewind("second", 10, 0)  # a checkpoint at the last step of epoch 0, before the epoch's record
        assert ("epoch", "second", 10) not in self.left(run)
        assert ("step", "second", 5) in self.left(run)

    def test_forgets_that_the_stage_was_finished(self, run):
        self.fill(run)
        run.rewind("first", 10, 1)
        assert ("stage", "first", 10) not in self.left(run)
        assert ("epoch", "first", 10) in self.left(run)

    def test_repairs_a_line_that_a_kill_cut(self, run):
        self.fill(run)
        path = run.path / "metrics.jsonl"
        path.write_bytes(path.read_bytes()[:-9])
        again = Run(run.path, resume=True)
        again.rewind("second", 15, 1)
        again.record("epoch", stage="second", step=20, epoch=1)
        again.close()
        assert self.left(run)[-2:] == [("step", "second", 15), ("epoch", "second", 20)]

    def test_without_a_folder(self):
        run = Run()
        run.rewind("fit", 3, 0)
        assert run.history == []


class TestKeep:
    def test_everything_kept_is_json_in_the_folder(self, run):
        run.keep("loss", "curve", {"train": np.array([1.0, np.nan]), "valid": torch.tensor([2.0])})
        kept = json.loads((run.path / "kept" / "loss.json").read_text())
        assert kept == {"kind": "curve", "value": {"train": [1.0, None], "valid": [2.0]}}
        assert run.kept["loss"][0] == "curve"
        run.keep("loss", "text", "again")
        assert json.loads((run.path / "kept" / "loss.json").read_text()) == {"kind": "text", "value": "again"}

    def test_pictures_stand_in_one_line(self, run):
        run.keep("boxes", "images", {"images": np.arange(12, dtype=np.uint8).reshape(1, 2, 2, 3), "titles": ["one"]})
        text = (run.path / "kept" / "boxes.json").read_text()
        assert text.count("\n") == 1
        assert json.loads(text)["value"]["images"] == [[[[0, 1, 2], [3, 4, 5]], [[6, 7, 8], [9, 10, 11]]]]

    def test_an_unknown_kind(self, run):
        with pytest.raises(ConfigError, match=r"keep: kind must be one of curve, matrix, .*, got 'movie'"):
            run.keep("x", "movie", 1)
        assert not (run.path / "kept").exists()

    def test_arrays_are_read_back_without_pickle(self, run):
        arrays = {"index": np.arange(3), "truth": np.array(["a", "б", None], dtype=object), "loss": np.ones(3)}
        run.write_arrays("items/validation.npz", arrays)
        with np.load(run.path / "items" / "validation.npz", allow_pickle=False) as read:
            assert read["index"].tolist() == [0, 1, 2]
            assert read["truth"].tolist() == ["a", "б", "None"]

    def test_a_json_file_that_fails_leaves_the_old_one(self, run, monkeypatch):
        run.write_json("data.json", {"rows": 3})

        def full(*_):
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr("konspekt.core.folders.flush", full)
        with pytest.raises(ResourceError, match="the disk is full"):
            run.write_json("data.json", {"rows": 4})
        assert json.loads((run.path / "data.json").read_text()) == {"rows": 3}

    def test_the_log(self, run):
        run.log("all well")
        run.log("look here", warning=True)
        lines = (run.path / "log.txt").read_text().splitlines()
        assert [line[20:] for line in lines] == ["all well", "WARNING look here"]
        assert run.warnings == ["look here"]


def test_a_run_without_a_folder_writes_nothing_and_remembers(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = Run()
    run.record("epoch", step=1)
    run.record("step", step=2)
    run.log("x", warning=True)
    run.keep("c", "text", "y")
    run.write_json("a.json", 1)
    run.write_arrays("a.npz", {"x": np.ones(1)})
    run.close()
    assert run.history == [{"kind": "epoch", "step": 1}]
    assert run.warnings == ["x"]
    assert run.kept == {"c": ("text", "y")}
    assert run.checkpoints is None
    assert run.path is None
    assert list(tmp_path.iterdir()) == []


def test_paths_and_kinds(tmp_path):
    run = Run(str(tmp_path / "a" / "b"))
    assert run.checkpoints == tmp_path / "a" / "b" / "checkpoint"
    run.close()
    assert len(set(runs.KINDS)) == len(runs.KINDS)


def test_read_config(tmp_path):
    with pytest.raises(DataError, match=r"is not a run folder: it has no config\.yaml; give a folder that a fit wrote"):
        read_config(tmp_path)
    with pytest.raises(DataError, match="nowhere: there is no such folder; `konspekt runs` lists the runs"):
        read_config(tmp_path / "nowhere")
    (tmp_path / "config.yaml").write_text("system: x\nparams: {lr: 0.1}\n")
    assert read_config(tmp_path) == {"system": "x", "params": {"lr": 0.1}}
    for text, message in [
        ("- a\n", "a mapping belongs there, found list"),
        ("", "a mapping belongs there, found NoneType"),
        ("a: [", "not readable as YAML"),
        ("!!python/object/apply:os.mkdir [boom]", "not readable as YAML"),
    ]:
        (tmp_path / "config.yaml").write_text(text)
        with pytest.raises(DataError, match=message):
            read_config(tmp_path)
    (tmp_path / "config.yaml").write_bytes(b"\xff\xfe\x00a")
    with pytest.raises(DataError, match="not readable as YAML"):
        read_config(tmp_path)
