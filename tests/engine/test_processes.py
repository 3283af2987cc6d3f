"""Several processes train one net: the same result as one, and an end that can be resumed when one of them is gone."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from konspekt.core import ConfigError, runs
from konspekt.core.errors import KonspektError
from konspekt.core.runs import Run, read_config, read_metrics
from konspekt.data.batches import Resident
from konspekt.engine import Objective, Training, budget, checkpoint, forecast, loop, minimise, resuming
from konspekt.engine.processes import LostProcess, Team, called_for, joined, own_device
from konspekt.engine.session import surroundings
from konspekt.engine.supervised import Regression
from konspekt.tabular import MLPClassifier

CPU = torch.device("cpu")


class Stop(Exception):
    """An end that nobody foresaw."""


@pytest.fixture
def several(fork, tmp_path):
    """`several(work, size=2)`: what `work(rank)` gave, or the error it met, in each of so many processes that have met.

    What a process gives is a tree of tensors and plain values; of one that died its exit code.
    """
    calls = []

    def run(work, size=2):
        calls.append(size)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        files = [tmp_path / f"process-{len(calls)}-{rank}.pt" for rank in range(size)]

        def child(rank):
            def go():
                signal.alarm(60)  # a process that waits for ever is a failure, not a hanging test
                os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(size), "LOCAL_RANK": str(rank)}
                os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
                begun = time.monotonic()
                try:
                    with joined(CPU):
                        found = {"value": work(rank)}
                except (KonspektError, KeyboardInterrupt, Stop) as error:
                    found = {"error": type(error).__name__, "message": str(error)}
                torch.save(found | {"seconds": time.monotonic() - begun}, files[rank])

            return go

        children = [fork(child(rank)) for rank in range(size)]
        codes = [os.waitstatus_to_exitcode(os.waitpid(c, 0)[1]) for c in children]
        return [torch.load(f) if f.exists() else c for f, c in zip(files, codes, strict=True)]

    return run


def fit(objective, batches, path=None, *, resume=False, validation=None, callbacks=(), **training):
    """One stage of a run, in this process or in the several that have met."""
    training = {"epochs": 3, "lr": 0.1, "optimizer": "sgd"} | training
    with joined(CPU) as team, surroundings(CPU, 0):
        run = Run(path, resume=resume, follows=not team.leads)
        with contextlib.closing(run):
            run.team = team if team.size > 1 else None
            minimise(objective, batches, Training(**training), run=run, validation=validation, callbacks=callbacks)
    return {"weights": flat(objective), "history": run.history, "chosen": run.chosen}


def flat(module):
    return torch.cat([p.detach().ravel() for p in module.parameters()])


def apart(one, other):
    return float((one - other).norm() / one.norm())


def points(batch_size=5, items=23, **options):
    draw = torch.Generator().manual_seed(1)
    x = torch.randn(items, 3, generator=draw, dtype=torch.float64)
    y = torch.sin(x @ torch.randn(3, 2, generator=draw, dtype=torch.float64))
    terms = torch.randint(1, 9, (items,), generator=draw).double()
    return Resident(
        {"x": x, "y": y, "terms": terms}, **{"batch_size": batch_size, "shuffle": True, "seed": 5} | options
    )


def net(drop=0.0):
    torch.manual_seed(2)
    return nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Dropout(drop), nn.Linear(8, 2)).double()


class Counted(Regression):
    """A mean over as many terms as its items have, which is not their number."""

    def loss(self, batch, player):
        terms = batch["terms"]
        errors = (self.model(batch["x"]) - batch["y"]).square().mean(1)
        return {"loss": (errors * terms).sum() / terms.sum(), "count": terms.sum()}


class Duel(Objective):
    """Two nets that pull at each other; the second moves at odd steps only."""

    def __init__(self, model):
        super().__init__()
        self.model, self.critic = model, net()

    def players(self):
        return {"d": [{"params": self.critic.parameters()}], "g": [{"params": self.model.parameters()}]}

    def turns(self, step):
        return ("d", "g") if step % 2 else ("d",)

    def loss(self, batch, player):
        gap = self.critic(batch["x"]) - self.model(batch["x"])
        return {"loss": (gap - batch["y"]).square().mean() if player == "d" else gap.square().mean()}


CASES = {
    "plain": {},  # parts of 3 and 2, and of 2 and 1
    "one item a batch": {"batch_size": 1, "items": 7},  # the second process has nothing to do
    "all items": {"batch_size": None},
    "a last batch that joined another": {"items": 21},
    "accumulated": {"accumulate": 2, "optimizer": "momentum"},
    "accumulated single items": {"batch_size": 1, "items": 5, "accumulate": 3},
    "counted": {"made": Counted, "optimizer": "adam", "lr": 0.01},
    "two players": {"made": Duel, "optimizer": "adam", "lr": 0.01},
    "two players, accumulated": {"made": Duel, "accumulate": 2},
    "penalties": {"l1": 0.01, "l2": 0.02, "weight_decay": 0.1},
    "clipped": {"clip_norm": 0.05, "clip_value": 0.01},
    "average": {"ema": 0.9, "running_risk": 0.2, "schedule": "cosine", "warmup": 2},
    "several questions": {"optimizer": "lbfgs", "batch_size": None, "lr": 0.5},
    "validation": {"validation": True, "patience": 2, "schedule": "plateau(patience=0)"},
    "a rate that is found": {"lr": "find"},
}


def one_case(name):
    options = dict(CASES[name])
    data = {k: options.pop(k) for k in ("batch_size", "items") if k in options}
    if options.pop("validation", False):
        options["validation"] = points(items=9)
    return fit(options.pop("made", Regression)(net()), points(**data), **options)


class TestAsOneProcess:
    def test_all_cases(self, several):
        both = several(lambda rank: {name: one_case(name) for name in CASES})
        assert all("value" in b for b in both), both
        for name in CASES:
            alone, first, second = one_case(name), both[0]["value"][name], both[1]["value"][name]
            assert apart(alone["weights"][:50], flat(net())) > 1e-3, name  # the model has moved
            assert apart(alone["weights"], first["weights"]) < 1e-9, name
            assert torch.equal(first["weights"], second["weights"]), name
            assert len(alone["history"]) == len(first["history"]), name
            for a, b in zip(alone["history"], first["history"], strict=True):
                assert (a["epoch"], a["step"]) == (b["epoch"], b["step"]), name
                for key in {"loss", "loss_g", "grad_norm", "lr", "risk", "val_loss", "val_r2"} & set(a):
                    assert b[key] == pytest.approx(a[key], rel=1e-7), (name, key)
            assert alone["chosen"] == first["chosen"] == second["chosen"], name

    def test_three_processes_of_which_one_has_no_part_of_the_last_batch(self, several):
        found = several(lambda rank: fit(Counted(net()), points(items=22, batch_size=5)), size=3)  # the last: 1, 1, 0
        alone = fit(Counted(net()), points(items=22, batch_size=5))
        for part in found:
            assert apart(alone["weights"], part["value"]["weights"]) < 1e-12

    def test_an_optimiser_that_asks_several_times_sees_the_same_numbers(self, several, plugin):
        def work(rank):
            plugin.seen.clear()
            found = fit(Regression(net(drop=0.5)), points(), optimizer="toy-repeat(times=3)")
            return found | {"seen": plugin.seen}

        first, second = several(work)
        assert first["value"]["seen"] == second["value"]["seen"]
        assert len(first["value"]["seen"]) == 15
        assert all(len(set(s)) == 1 for s in first["value"]["seen"])

    def test_each_draws_its_own_random_numbers(self, several):
        class Drawing(Regression):
            drawn = ()

            def loss(self, batch, player):
                self.drawn = [*self.drawn, float(torch.rand(()))]
                return super().loss(batch, player)

        def work(rank):
            objective = Drawing(net())
            fit(objective, points(), epochs=1)
            return objective.drawn

        first, second = (f["value"] for f in several(work))
        assert len(first) == len(second) == 5
        assert not set(first) & set(second)

    def test_weights_are_the_first_ones_from_the_start(self, several):
        def work(rank):
            torch.manual_seed(rank)
            model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)).double()
            model[1].running_mean.fill_(float(rank))
            model[0].bias.requires_grad_(False)
            start = flat(model)
            objective = Regression(model)
            fit(objective, points(None), lr=1e-30, epochs=1)
            return {"start": start, "end": flat(model)}

        first, second = (f["value"] for f in several(work))
        assert not torch.equal(first["start"], second["start"])
        assert torch.equal(first["end"], second["end"])

    def test_statistics_of_batches_are_said_to_be_of_the_parts(self, several, tmp_path):
        model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)).double()
        several(lambda rank: fit(Regression(model), points(batch_size=None), tmp_path / "run"))
        said = "batch statistics are those of each process, not of the whole step's items (model.1, ...)"
        assert said in (tmp_path / "run" / "log.txt").read_text()


class TestEstimator:
    X = np.random.default_rng(0).normal(size=(50, 3))
    y = np.where(X[:, 0] + X[:, 1] ** 2 > 0.5, "yes", "no")

    def estimator(self, path=None, **given):
        given = {"hidden": (6,), "epochs": 3, "batch_size": 9, "lr": 0.02, "random_state": 4} | given
        return MLPClassifier(run_dir=path and str(path), **given)

    def test_the_first_process_writes(self, several, tmp_path):
        def work(rank):
            fitted = self.estimator(tmp_path / "two").fit(self.X, self.y, validation=0.2)
            return {
                "probabilities": torch.from_numpy(fitted.predict_proba(self.X)),
                "path": fitted.run_.path is not None,
                "losses": [h["val_loss"] for h in fitted.history_],
            }

        first, second = (f["value"] for f in several(work))
        alone = self.estimator(tmp_path / "one").fit(self.X, self.y, validation=0.2)
        np.testing.assert_allclose(first["probabilities"].numpy(), alone.predict_proba(self.X), rtol=1e-4)
        assert torch.equal(first["probabilities"], second["probabilities"])
        assert (first["path"], second["path"]) == (True, False)
        assert first["losses"] == second["losses"]
        lines = [[(r["kind"], r["step"]) for r in read_metrics(tmp_path / n)] for n in ("one", "two")]
        assert lines[0] == lines[1]  # each once
        names = [{str(p.relative_to(tmp_path / n)) for p in (tmp_path / n).rglob("*")} for n in ("one", "two")]
        assert names[0] == names[1]
        assert [read_config(tmp_path / n)["machine"]["processes"] for n in ("one", "two")] == [1, 2]
        scores = [json.loads((tmp_path / n / "result.json").read_text())["scores"] for n in ("one", "two")]
        assert scores[1] == pytest.approx(scores[0], rel=1e-5)

    def test_without_a_seed_all_draw_the_same(self, several):
        def work(rank):
            fitted = self.estimator(random_state=None, epochs=1).fit(self.X, self.y, validation=0.2)
            return {"seed": fitted.seed_, "weights": flat(fitted.model_)}

        first, second = (f["value"] for f in several(work))
        assert first["seed"] == second["seed"]
        assert torch.equal(first["weights"], second["weights"])

    @pytest.mark.parametrize("kind", ["PiecesClassifier"])  # without dropout
    def test_fields_of_different_lengths(self, several, plugin, kind):
        rng = np.random.default_rng(0)
        X = [rng.integers(0, 9, size=rng.integers(1, 13)).tolist() for _ in range(31)]
        y = ["small" if np.mean(x) < 4 else "large" for x in X]

        def work(rank):
            fitted = getattr(plugin, kind)(epochs=4, batch_size=6, lr=0.05).fit(X, y)
            return {"weights": flat(fitted.model_), "loss": fitted.history_[-1]["loss"]}

        first, second = (f["value"] for f in several(work))
        alone = work(0)
        assert torch.equal(first["weights"], second["weights"])
        assert apart(alone["weights"], first["weights"]) < 1e-5
        assert first["loss"] == pytest.approx(alone["loss"], rel=1e-5)

    def test_time_that_is_over_ends_all(self, several, tmp_path):
        def work(rank):
            fitted = self.estimator(tmp_path / "run", max_time=1e-6).fit(self.X, self.y, validation=0.2)
            return [(h["step"], h["cut_short"]) for h in fitted.history_]

        assert [f["value"] for f in several(work)] == [[(1, True)]] * 2


class TestAgreed:
    """What one process wants, or its clock says, all do."""

    @pytest.mark.parametrize("rank", [0, 1])
    def test_a_callback_in_one_ends_all(self, several, rank):
        def stop(moment):
            return moment.step == 7 and int(os.environ["RANK"]) == rank

        both = several(lambda rank: fit(Regression(net()), points(), callbacks=[stop])["weights"])
        alone = fit(Regression(net()), points(), callbacks=[lambda moment: moment.step == 7])
        for found in both:
            assert apart(alone["weights"], found["value"]) < 1e-12

    @pytest.fixture
    def clocks(self, monkeypatch):
        """In the first process a loss takes a second, in the others it takes no time."""
        clock = SimpleNamespace(now=0.0, perf_counter=lambda: clock.now, strftime=lambda form: "now")
        for module in (budget, forecast, loop, resuming, runs):
            monkeypatch.setattr(module, "time", clock)

        class Slow(Regression):
            def loss(self, batch, player):
                clock.now += float(os.environ.get("RANK", "0") == "0")
                return super().loss(batch, player)

        return Slow

    def test_time_is_that_of_the_first(self, several, clocks, tmp_path):
        def work(rank):
            return fit(clocks(net()), points(), tmp_path / "run", max_time=8.0, validation=points(items=9))

        for found in several(work):
            ends = [(h["step"], h.get("cut_short")) for h in found["value"]["history"]]
            assert ends == [(5, None), (7, True)]

        def more(rank):
            whole = fit(clocks(net()), points(), max_time=1e6, validation=points(items=9))
            again = fit(
                clocks(net()), points(), tmp_path / "run", resume=True, max_time=1e6, validation=points(items=9)
            )
            return whole, again

        for found in several(more):
            whole, again = found["value"]
            assert torch.equal(whole["weights"], again["weights"])

    def test_a_checkpoint_a_minute_by_the_clock_of_the_first(self, several, clocks, tmp_path, monkeypatch):
        monkeypatch.setattr(checkpoint, "prune", lambda *args, **how: None)
        several(lambda rank: fit(clocks(net()), points(), tmp_path / "run", epochs=26, lr=0.01))
        steps = sorted(p.name for p in (tmp_path / "run" / "checkpoint").iterdir())
        # asked for in the step that ends after more than a minute; then the time is counted from there
        assert steps == ["fit-000000000", "fit-000000061", "fit-000000122", "fit-finished"]


class TestNotFinite:
    @pytest.mark.parametrize(("item", "process"), [(2, 0), (4, 1)])
    def test_the_message_says_in_which_process_and_at_which_items(self, several, tmp_path, item, process):
        def work(rank):
            batches = points(
                shuffle=False
            )  # 0 to 4: of the first three are the first process's, of the rest the second's
            batches.fields["x"][item + 5] = float("nan")
            objective, states = Regression(net()), []
            try:
                fit(objective, batches, tmp_path / "run", callbacks=[lambda m: states.append(flat(m.objective))])
            except KonspektError as error:
                return {
                    "message": str(error),
                    "steps": len(states),
                    "kept": bool(torch.equal(states[-1], flat(objective))),
                }

        both = several(work)
        for found in both:
            value = found["value"]
            place = (
                rf"training stopped at step 1 (epoch 1): field 'x' of the batch is not finite in process {process} of 2"
            )
            assert place in value["message"]
            shown = "5, 6, 7" if process == 0 else "8, 9"
            assert f"The batch held items {shown}. The weights are still those of the step before" in value["message"]
            assert (value["steps"], value["kept"]) == (1, True)
        assert (tmp_path / "run" / "log.txt").read_text().count("training stopped") == 1


def dying(step, rank, where="callback"):
    """A callback and a loss by which process `rank` is gone after `step` steps, between two steps or in the midst of one."""

    def callback(moment):
        if where == "callback" and moment.event == "step" and moment.step == step and int(os.environ["RANK"]) == rank:
            os._exit(9)

    class Dying(Regression):
        asked = 0

        def loss(self, batch, player):
            if where == "loss" and int(os.environ["RANK"]) == rank:
                self.asked += 1
                if self.asked == step + 1:
                    os._exit(9)
            return super().loss(batch, player)

    return callback, Dying


OPTIONS = {"optimizer": "adam", "lr": 0.02, "schedule": "cosine", "checkpoint_every": 100}


class TestLost:
    @pytest.mark.parametrize("where", ["callback", "loss"])
    def test_the_others_stop_and_leave_what_one_or_two_go_on_from(self, several, tmp_path, where):
        callback, made = dying(7, 1, where)
        first, second = several(
            lambda rank: fit(made(net()), points(), tmp_path / "cut", callbacks=[callback], **OPTIONS)
        )
        assert second == 9
        assert first["error"] == "LostProcess"
        message = first["message"]
        assert message.startswith("training stopped at step 7 (epoch 2): another process of this fit is gone (")
        assert message.endswith(f"go on, with any number of processes, with: konspekt resume {tmp_path / 'cut'}")
        assert f"WARNING {message}" in (tmp_path / "cut" / "log.txt").read_text()
        assert first["seconds"] < 30  # and not the half hour that is waited for one that lives
        assert "fit-000000007" in {p.name for p in (tmp_path / "cut" / "checkpoint").iterdir()}
        shutil.copytree(tmp_path / "cut", tmp_path / "again")

        def work(rank):
            whole = fit(Regression(net()), points(), **OPTIONS)
            return whole, fit(Regression(net()), points(), tmp_path / "cut", resume=True, **OPTIONS)

        for found in several(work):
            whole, resumed = found["value"]
            assert torch.equal(whole["weights"], resumed["weights"])
            assert [h["loss"] for h in whole["history"]] == [h["loss"] for h in resumed["history"]]
        alone = fit(Regression(net()), points(), **OPTIONS)
        resumed = fit(Regression(net()), points(), tmp_path / "again", resume=True, **OPTIONS)
        assert apart(alone["weights"], resumed["weights"]) < 1e-12
        assert [h["step"] for h in resumed["history"]] == [5, 10, 15]

    def test_the_first_is_lost_early(self, several, tmp_path):
        callback, made = dying(3, 0)
        first, second = several(
            lambda rank: fit(made(net()), points(), tmp_path / "run", callbacks=[callback], **OPTIONS)
        )
        assert first == 9
        assert second["error"] == "LostProcess"
        resumed = fit(Regression(net()), points(), tmp_path / "run", resume=True, **OPTIONS)
        assert apart(fit(Regression(net()), points(), **OPTIONS)["weights"], resumed["weights"]) < 1e-12

    @pytest.mark.parametrize(("question", "kept"), [(8, [0, 4]), (9, [0])])  # the first and the second of a step
    def test_in_the_midst_of_a_step_that_has_moved_weights_already(self, several, tmp_path, question, kept):
        """lbfgs asks at points of its choice: the weights at the second question are no state of a step."""
        callback, made = dying(question, 1, "loss")
        options = {"optimizer": "lbfgs", "lr": 1.0, "epochs": 8}
        first, _ = several(
            lambda rank: fit(made(net()), points(None), tmp_path / "run", callbacks=[callback], **options)
        )
        assert first["message"].startswith("training stopped at step 4 (epoch 5): another process of this fit is gone")
        assert sorted(p.name for p in (tmp_path / "run" / "checkpoint").iterdir()) == [f"fit-{k:09d}" for k in kept]
        alone = fit(Regression(net()), points(None), **options)
        resumed = fit(Regression(net()), points(None), tmp_path / "run", resume=True, **options)
        assert apart(alone["weights"], resumed["weights"]) < 1e-9

    def test_while_a_rate_is_looked_for(self, several, tmp_path):
        _, made = dying(30, 1, "loss")
        options = OPTIONS | {"lr": "find"}
        first, _ = several(lambda rank: fit(made(net()), points(), tmp_path / "run", **options))
        assert first["error"] == "LostProcess"
        assert first["message"].startswith("training stopped at step 0 (epoch 1): another process of this fit is gone")
        assert f"konspekt resume {tmp_path / 'run'}" in first["message"]
        resumed = fit(Regression(net()), points(), tmp_path / "run", resume=True, **options)
        assert torch.equal(fit(Regression(net()), points(), **options)["weights"], resumed["weights"])

    def test_an_error_in_one_ends_the_others_too(self, several, tmp_path):
        def fail(moment):
            if moment.event == "step" and moment.step == 7 and int(os.environ["RANK"]) == 1:
                raise Stop("on purpose")

        first, second = several(
            lambda rank: fit(Regression(net()), points(), tmp_path / "run", callbacks=[fail], **OPTIONS)
        )
        assert (first["error"], second["error"], second["message"]) == ("LostProcess", "Stop", "on purpose")
        resumed = fit(Regression(net()), points(), tmp_path / "run", resume=True, **OPTIONS)
        assert apart(fit(Regression(net()), points(), **OPTIONS)["weights"], resumed["weights"]) < 1e-12

    def test_without_a_folder(self, several):
        callback, made = dying(2, 1)
        first, _ = several(lambda rank: fit(made(net()), points(), callbacks=[callback]))
        assert first["message"].endswith("; without run_dir nothing was kept")


class TestStopped:
    @pytest.mark.parametrize("pressed", [(0, 1), (1,)])
    def test_ctrl_c_at_one_or_all_leaves_one_checkpoint(self, several, tmp_path, pressed):
        def press(moment):
            if moment.event == "step" and moment.step == 6 and int(os.environ["RANK"]) in pressed:
                os.kill(os.getpid(), signal.SIGINT)

        def work(rank):
            fit(Regression(net(drop=0.3)), points(), tmp_path / "run", callbacks=[press], **OPTIONS)

        for found in several(work):
            assert found["error"] == "InterruptedFit"
            assert (
                "stopped by Ctrl-C after step 7 (epoch 2)" in found["message"]
            )  # the others hear of it in the next step
        assert "fit-000000007" in {p.name for p in (tmp_path / "run" / "checkpoint").iterdir()}

        def resumed(rank):
            whole = fit(Regression(net(drop=0.3)), points(), **OPTIONS)
            return whole, fit(Regression(net(drop=0.3)), points(), tmp_path / "run", resume=True, **OPTIONS)

        for found in several(resumed):
            whole, again = found["value"]
            assert torch.equal(whole["weights"], again["weights"])

    @pytest.mark.parametrize("step", [2, 5, 9])
    def test_dropout_goes_on_to_the_bit(self, several, tmp_path, step):
        def stop(moment):
            if moment.event == "step" and moment.step == step:
                raise Stop

        options = OPTIONS | {"checkpoint_every": 2, "ema": 0.9}

        def whole_and_cut(rank):
            whole = fit(Regression(net(drop=0.5)), points(), tmp_path / "whole", **options)
            with pytest.raises(Stop):
                fit(Regression(net(drop=0.5)), points(), tmp_path / "cut", callbacks=[stop], **options)
            return whole, fit(Regression(net(drop=0.5)), points(), tmp_path / "cut", resume=True, **options)

        for found in several(whole_and_cut):
            whole, again = found["value"]
            assert torch.equal(whole["weights"], again["weights"])
            assert [h["loss"] for h in whole["history"]] == [h["loss"] for h in again["history"]]

    def test_one_that_was_finished_and_gets_more_epochs(self, several, tmp_path):
        def work(rank):
            whole = fit(Regression(net(drop=0.5)), points(), **OPTIONS | {"epochs": 4, "schedule": "constant"})
            fit(
                Regression(net(drop=0.5)), points(), tmp_path / "run", **OPTIONS | {"epochs": 2, "schedule": "constant"}
            )
            options = OPTIONS | {"epochs": 4, "schedule": "constant"}
            return whole, fit(Regression(net(drop=0.5)), points(), tmp_path / "run", resume=True, **options)

        for found in several(work):
            whole, again = found["value"]
            assert torch.equal(whole["weights"], again["weights"])


@pytest.mark.slow
def test_the_command_under_torchrun(tmp_path):
    """Two processes that torch starts: one run folder, and one voice."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--rdzv-backend", "c10d"]
    command += ["--rdzv-endpoint", "localhost:0", "-m", "konspekt", "fit", "mlp-classifier", "data=iris", "epochs=2"]
    command += ["hidden=4", "run_dir=run", "device=cpu"]
    done = subprocess.run(
        command, cwd=tmp_path, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("epoch 2/2") == 1
    assert done.stdout.count("scores after 2 epochs") == 1
    assert read_config(tmp_path / "run")["machine"]["processes"] == 2
    assert len([r for r in read_metrics(tmp_path / "run") if r["kind"] == "epoch"]) == 2
    assert (tmp_path / "run" / "report.html").is_file()


class TestMeeting:
    def test_alone_everything_is_handed_back(self):
        team, values = Team(), torch.tensor([1.0, 2.0])
        team.add(values), team.spread(values), team.wait()
        assert values.tolist() == [1, 2]
        assert (team.leads, team.tell({"a": 1}), team.gather([2])) == (True, {"a": 1}, [[2]])

    def test_sums_and_values(self, several):
        def work(rank):
            team = Team(rank, 3)
            values = torch.tensor([1.0, rank])
            team.add(values)
            spread = torch.tensor([float(rank)])
            team.spread(spread)
            told = team.tell({"nan": float("nan"), "rank": rank, "text": "é" * rank})
            return {
                "sum": values.tolist(),
                "spread": spread.tolist(),
                "told": told["rank"],
                "gathered": team.gather(["é" * 5 * rank, rank]),
            }

        for found in several(work, size=3):
            assert found["value"] == {
                "sum": [3, 3],
                "spread": [0],
                "told": 0,
                "gathered": [["", 0], ["é" * 5, 1], ["é" * 10, 2]],
            }

    def test_where_the_others_cannot_be_met(self, monkeypatch):
        monkeypatch.setenv("WORLD_SIZE", "2")
        monkeypatch.delenv("RANK", raising=False)
        assert called_for()
        with pytest.raises(ConfigError) as error:
            MLPClassifier(epochs=1).fit([[0.0], [1.0]], [0, 1])
        message = str(error.value)
        assert message.startswith("WORLD_SIZE=2 says that this is one process of several, but they cannot meet (")
        assert message.endswith("start them by: torchrun --nproc-per-node N -m konspekt fit ...")

    def test_a_gpu_for_each(self, monkeypatch):
        assert own_device("cuda") == "cuda"  # alone
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
        monkeypatch.setenv("WORLD_SIZE", "3")
        monkeypatch.setenv("LOCAL_RANK", "1")
        assert [own_device(n) for n in ("auto", "cuda", "cpu", "cuda:0")] == ["cuda:1", "cuda:1", "cpu", "cuda:0"]
        monkeypatch.setenv("LOCAL_RANK", "2")
        with pytest.raises(
            ConfigError, match="process 2 of this machine has no GPU: there are 2; start as many processes"
        ):
            own_device("auto")

    def test_a_lost_process_is_an_error_of_resources(self):
        from konspekt.core import ResourceError

        assert issubclass(LostProcess, ResourceError)
