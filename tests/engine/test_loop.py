"""The loop's order of things, with toys: who moves, what is called when, what is measured, when it stops."""

import random
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from konspekt.core import ConfigError
from konspekt.core.runs import read_metrics
from konspekt.data.batches import Resident
from konspekt.engine import Objective
from konspekt.engine.supervised import Classification, Regression
from konspekt.tabular import MLPClassifier


def points(items=12, batch_size=4, **options):
    draw = torch.Generator().manual_seed(1)
    x = torch.randn(items, 3, generator=draw)
    y = x @ torch.tensor([[1.0, 0.5], [-1.0, 2.0], [0.0, 1.0]]) + 0.1 * torch.randn(items, 2, generator=draw)
    return Resident({"x": x, "y": y}, batch_size=batch_size, **options)


def line(seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Regression(nn.Linear(3, 2))


class Duel(Objective):
    """Two nets that pull at each other; the second moves at odd steps only."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.model, self.critic = nn.Linear(3, 2), nn.Linear(3, 2)
        self.model.bias.requires_grad_(False)
        self.turns_taken, self.values = [], {"d": [], "g": []}

    def players(self):
        return {"d": [{"params": self.critic.parameters()}], "g": [{"params": self.model.parameters()}]}

    def turns(self, step):
        return ("d", "g") if step % 2 else ("d",)

    def copy(self):
        nets = {"d": self.critic, "g": self.model}
        return {
            name: (
                [p.detach().clone() for p in net.parameters()],
                [p.grad.clone() for p in net.parameters() if p.grad is not None],
            )
            for name, net in nets.items()
        }

    def loss(self, batch, player):
        gap = self.critic(batch["x"]) - self.model(batch["x"])
        loss = (gap - batch["y"]).square().mean() if player == "d" else gap.square().mean()
        self.values[player].append(loss.item())
        self.before = self.copy()
        self.reached = [name for name, p in self.named_parameters() if p.requires_grad]
        return {"loss": loss, f"size_{player}": gap.abs().mean()}

    def after_step(self, step, player):
        assert not torch.is_grad_enabled()
        after = self.copy()
        moved, reached = [
            {
                name
                for name in after
                if not all(torch.equal(a, b) for a, b in zip(after[name][k], self.before[name][k], strict=True))
            }
            for k in (0, 1)
        ]
        self.turns_taken.append((step, player, moved, reached, self.reached))


class TestPlayers:
    def test_each_moves_in_its_turn_and_the_gradient_reaches_nobody_else(self, train):
        duel = Duel()
        start = duel.model.bias.detach().clone()
        run = train(duel, points(), epochs=2, lr=0.05)
        critic, model = ["critic.weight", "critic.bias"], ["model.weight"]
        expected = []
        for step in range(6):
            expected.append((step, "d", {"d"}, {"d"}, critic))
            if step % 2:
                expected.append((step, "g", {"g"}, {"g"}, model))
        assert duel.turns_taken == expected
        assert {n for n, p in duel.named_parameters() if p.requires_grad} == {*critic, *model}
        assert torch.equal(duel.model.bias, start)
        assert all(p.grad is None for p in duel.parameters())
        d, g = duel.values["d"], duel.values["g"]
        # epoch 0 has steps 0-2, of which g has one
        assert [h["loss"] for h in run.history] == pytest.approx([np.mean(d[:3]), np.mean(d[3:])], rel=1e-6)
        assert [h["loss_g"] for h in run.history] == pytest.approx([g[0], np.mean(g[1:])], rel=1e-6)
        assert all({"size_d", "size_g"} <= set(h) for h in run.history)

    def test_order_and_repetition_are_the_turns(self, train):
        class Twice(Duel):
            def turns(self, step):
                return ("g", "d", "g")

        duel = Twice()
        train(duel, points(), epochs=1)
        assert [t[1] for t in duel.turns_taken] == ["g", "d", "g"] * 3

    def test_a_player_without_parameters_is_refused(self, train):
        class Idle(Duel):
            def players(self):
                return super().players() | {"nobody": [{"params": []}]}

        with pytest.raises(ConfigError, match="player 'nobody' has no parameter that it may move"):
            train(Idle(), points())


class Watched(Regression):
    """Writes down every call, and keeps a state that decides the loss."""

    def __init__(self, model):
        super().__init__(model)
        self.calls = []
        self.memory = {"target": torch.zeros(2), "nested": {"list": [0], 3: torch.tensor(0)}, "pair": (0, "a")}

    def start_epoch(self, epoch, batches):
        self.calls.append(("start_epoch", epoch))
        self.memory["nested"]["list"] = [*self.memory["nested"]["list"], epoch]

    def loss(self, batch, player):
        assert self.training
        shift = self.memory["target"] * len(self.memory["nested"]["list"]) + self.memory["pair"][0]
        return {"loss": (self.model(batch["x"]) - batch["y"] + 0.01 * shift).square().mean()}

    def after_step(self, step, player):
        self.calls.append(("after_step", step, player))
        self.memory["target"] = 0.9 * self.memory["target"] + self.model.weight.mean(1)
        self.memory["nested"][3] = self.memory["nested"][3] + 1
        self.memory["pair"] = (step, "a")

    def state(self):
        self.calls.append(("state",))
        return self.memory

    def load_state(self, state):
        self.calls.append(("load_state", int(state["nested"][3])))
        self.memory = dict(state)


class TestHooks:
    def test_epochs_begin_once_and_steps_are_followed(self, train):
        watched = Watched(nn.Linear(3, 2))
        train(watched, points(), epochs=2)
        steps = [("after_step", s, "model") for s in range(6)]
        assert watched.calls == [("start_epoch", 0), *steps[:3], ("start_epoch", 1), *steps[3:]]
        assert not watched.training

    def test_state_is_saved_with_every_checkpoint_and_restored(self, train, die, killed, bits, tmp_path):
        def made():
            torch.manual_seed(2)
            return Watched(nn.Linear(3, 2))

        def fit(watched, name, **more):
            return train(watched, points(shuffle=True), tmp_path / name, epochs=3, checkpoint_every=2, **more)

        whole = made()
        fit(whole, "whole")
        assert whole.calls.count(("state",)) == 5  # at steps 2, 4, 6, 8 and at the end
        killed(lambda: fit(made(), "cut", callbacks=[die(5)]))
        resumed = made()
        fit(resumed, "cut", resume=True)
        # the checkpoint is of step 4, inside epoch 1, which does not begin again
        steps = [("after_step", s, "model") for s in range(4, 9)]
        assert [c for c in resumed.calls if c != ("state",)] == [
            ("load_state", 4),
            *steps[:2],
            ("start_epoch", 2),
            *steps[2:],
        ]
        assert bits(resumed) == bits(whole)
        assert resumed.memory["pair"] == (8, "a")
        assert resumed.memory["nested"]["list"] == [0, 0, 1, 2]
        assert torch.equal(resumed.memory["target"], whole.memory["target"])

    def test_what_can_be_no_state_is_a_type_error_that_says_where(self, train, tmp_path):
        watched = Watched(nn.Linear(3, 2))
        watched.memory["nested"]["deep"] = [object()]
        with pytest.raises(TypeError, match=r"state\.objective\.nested\.deep\.0 must be tensors and JSON, got object"):
            train(watched, points(), tmp_path / "run")


class Counted(Regression):
    """A mean over as many terms as the batch's counts say."""

    def loss(self, batch, player):
        count = batch["count"].sum()
        errors = (self.model(batch["x"]) - batch["y"]).square().mean(1)
        out = {"loss": (errors * batch["count"]).sum() / count, "count": count, "largest": errors.max()}
        self.outs.append({name: value.item() for name, value in out.items()})
        return out


class TestEpochLoss:
    def test_it_is_the_mean_over_all_terms(self, train):
        batches = points(items=11)
        batches.fields["count"] = torch.tensor([1.0, 5, 2, 1, 1, 9, 1, 3, 100, 1, 1])
        objective = Counted(nn.Linear(3, 2))
        objective.outs = []
        run = train(objective, batches, epochs=2, lr=1e-3)
        for epoch in (0, 1):
            outs = objective.outs[3 * epoch : 3 * epoch + 3]
            terms = sum(o["count"] for o in outs)
            assert terms == 125
            for name in ("loss", "largest"):
                mean = sum(o[name] * o["count"] for o in outs) / terms
                assert run.history[epoch][name] == pytest.approx(mean, rel=1e-6)
        assert "count" not in run.history[0]

    def test_by_default_every_item_counts_alike(self, train):
        objective, batches = line(), points(items=11)  # batches of 4, 4 and 3
        x, y = batches.fields["x"], batches.fields["y"]
        run = train(objective, batches, epochs=1, lr=1e-12)  # the weights stay
        expected = (objective.model(x) - y).square().mean().item()
        assert run.history[0]["loss"] == pytest.approx(expected, rel=1e-6)


class TestCallbacks:
    def test_what_they_see_and_when(self, train, tmp_path):
        seen = []
        batches = points()
        run = train(
            line(),
            batches,
            tmp_path / "run",
            validation=points(),
            callbacks=[lambda m: seen.append((m.event, m.stage, m.epoch, m.step, m.record)) or 0],
        )
        steps = [("step", "fit", epoch, 3 * epoch + k + 1) for epoch in (0, 1) for k in range(3)]
        ends = [("epoch", "fit", 1, 3), ("epoch", "fit", 2, 6)]
        assert [s[:4] for s in seen] == [*steps[:3], ends[0], *steps[3:], ends[1]]
        records = [s[4] for s in seen if s[0] == "epoch"]
        assert [r["epoch"] for r in records] == [0, 1]
        assert [r["val_loss"] for r in records] == [h["val_loss"] for h in run.history]
        assert records[0]["grad_norms"].keys() == {"model.weight", "model.bias"}
        total = sum(v**2 for v in records[1]["grad_norms"].values()) ** 0.5
        assert total == pytest.approx(records[1]["grad_norm"], rel=1e-5)

    @pytest.mark.parametrize(("event", "steps"), [("step", 1), ("epoch", 3)])
    def test_true_stops_after_all_of_them_were_asked(self, train, event, steps, tmp_path):
        asked = []
        run = train(
            line(),
            points(),
            tmp_path / "run",
            epochs=5,
            callbacks=[lambda m: m.event == event, lambda m: asked.append(m.step)],
        )
        assert max(asked) == steps
        end = read_metrics(run.path)[-1]
        assert (end["kind"], end["state"], end["stopped"], end["step"]) == ("stage", "finished", "callback", steps)

    def test_what_is_true_but_not_True_does_not_stop(self, train):
        run = train(line(), points(), callbacks=[lambda m: 1, lambda m: "yes"])
        assert len(run.history) == 2


class Scripted(Regression):
    """Its measures are written down beforehand."""

    measure, values = "loss", ()

    def evaluate(self, batches):
        assert not self.training
        self.asked = getattr(self, "asked", -1) + 1
        return {"loss": 1.0, self.measure: self.values[self.asked]}


class TestEarlyStopping:
    @pytest.mark.parametrize(
        ("measure", "values", "best"),
        [
            ("loss", [3.0, 2, 1, 2, 1, 0], 2),  # equal is not better
            ("accuracy", [0.1, 0.5, 0.4, 0.5, 0.9], 1),
            ("r2", [-1.0, float("nan"), -2, 3], 0),
        ],
    )
    def test_the_best_epochs_weights_come_back(self, train, bits, measure, values, best, tmp_path):
        torch.manual_seed(0)
        objective, after = Scripted(nn.Linear(3, 2)), []
        objective.measure, objective.values = measure, values
        run = train(
            objective,
            points(),
            tmp_path / "run",
            validation=points(),
            epochs=6,
            patience=2,
            monitor=measure,
            callbacks=[lambda m: after.append(bits(m.objective)) if m.event == "epoch" else None],
        )
        assert len(run.history) == best + 3
        assert bits(objective) == after[best]
        assert after[best] != after[-1]
        end = read_metrics(run.path)[-1]
        assert (end["stopped"], end["best_epoch"]) == ("patience", best)

    def test_without_patience_the_last_weights_stay(self, train, bits):
        torch.manual_seed(0)
        objective, after = Scripted(nn.Linear(3, 2)), []
        objective.values = [1.0, 2, 3]
        train(
            objective,
            points(),
            validation=points(),
            epochs=3,
            callbacks=[lambda m: after.append(bits(m.objective)) if m.event == "epoch" else None],
        )
        assert bits(objective) == after[-1]

    def test_a_measure_that_is_not_there(self, train):
        with pytest.raises(ConfigError, match="monitor='recall' is not measured here; known: loss, r2"):
            train(line(), points(), validation=points(), monitor="recall")

    @pytest.mark.parametrize("given", [{"patience": 3}, {"schedule": "plateau"}, {"schedule": "plateau(patience=2)"}])
    def test_what_watches_needs_validation(self, given):
        X, y = np.random.default_rng(0).normal(size=(20, 2)), np.arange(20) % 2
        with pytest.raises(ConfigError, match=r"MLPClassifier: .* needs validation data to watch: give validation="):
            MLPClassifier(**given).fit(X, y)
        fitted = MLPClassifier(**given, epochs=1, hidden=(2,)).fit(X, y, validation=0.2)
        assert fitted.n_iter_ == 1


class TestPlateau:
    def test_the_rate_falls_when_the_measure_does_not_get_better(self, train):
        torch.manual_seed(0)
        objective = Scripted(nn.Linear(3, 2))
        objective.values = [5.0, 6, 6, 4, 6, 6, 6]
        run = train(
            objective,
            points(),
            validation=points(),
            epochs=7,
            lr=0.1,
            schedule="plateau(patience=1, factor=0.5)",
        )
        assert [h["lr"] for h in run.history] == pytest.approx([0.1, 0.1, 0.1, 0.05, 0.05, 0.05, 0.025])


class TestRates:
    def test_warm_up_schedule_and_scales_reach_the_optimiser(self, train):
        class Scaled(Regression):
            def players(self):
                return {
                    "model": [
                        {"params": [self.model.weight], "lr_scale": 0.1},
                        {"params": [self.model.bias]},
                    ]
                }

        torch.manual_seed(0)
        objective, path = Scaled(nn.Linear(3, 2)), []

        def watch(moment):
            if moment.event == "step":
                path.append([(p.detach().clone(), p.grad.clone()) for p in moment.objective.model.parameters()])

        start = [p.detach().clone() for p in objective.model.parameters()]
        train(objective, points(), lr=0.2, epochs=2, warmup=2, schedule="step(every=1, factor=0.5)", callbacks=[watch])
        for step, factor in enumerate([0.5, 1, 1, 0.5, 0.5, 0.5]):
            before = start if step == 0 else [w for w, _ in path[step - 1]]
            for (after, gradient), w, scale in zip(path[step], before, (0.1, 1.0), strict=True):
                torch.testing.assert_close(after, w - 0.2 * factor * scale * gradient, rtol=1e-6, atol=1e-7)


class TestDescent:
    def test_it_stops_by_its_rule(self, train, tmp_path):
        objective, path = line(), []
        batches = points(batch_size=None)
        callback = [lambda m: path.append(torch.cat([p.detach().ravel() for p in m.objective.parameters()]))]
        run = train(
            objective, batches, tmp_path / "run", optimizer="descent(tolerance=0.01)", epochs=500, callbacks=callback
        )
        path = path[::2]  # a step and an epoch each
        moved = [float((b - a).norm()) for a, b in pairwise(path)]
        assert moved[-1] <= 0.01 < min(moved[:-1])
        assert len(run.history) == len(path) < 500
        assert read_metrics(run.path)[-1]["stopped"] == "converged"

    def test_its_batch_is_all_items(self):
        X = np.random.default_rng(0).normal(size=(30, 2))
        sizes = []

        class Seen(MLPClassifier):
            def train(self, splits, run, callbacks):
                sizes.append([len(b["index"]) for b in splits.train.epoch(0)])
                sizes.append(splits.train.shuffle)
                return super().train(splits, run, callbacks)

        Seen(optimizer="descent", batch_size=7, epochs=1, hidden=(2,)).fit(X, X[:, 0] > 0)
        Seen(optimizer="sgd", batch_size=7, epochs=1, hidden=(2,)).fit(X, X[:, 0] > 0)
        assert sizes == [[30], False, [7, 7, 7, 7, 2], True]


class TestSurroundings:
    def test_the_callers_generators_and_settings_are_as_before(self):
        X = np.random.default_rng(0).normal(size=(20, 2))

        def outside():
            return (
                torch.get_rng_state().numpy().tobytes(),
                random.getstate(),
                np.random.get_state()[1].tobytes(),
                torch.are_deterministic_algorithms_enabled(),
                torch.is_deterministic_algorithms_warn_only_enabled(),
                torch.utils.deterministic.fill_uninitialized_memory,
                torch.get_num_threads(),
            )

        inside = []

        def look(moment):
            inside.append(torch.are_deterministic_algorithms_enabled())
            random.random(), np.random.random(), torch.rand(1)
            if moment.step == 5:
                raise OverflowError("on purpose")

        estimator = MLPClassifier(hidden=(4,), dropout=0.2, epochs=2, batch_size=5)
        before = outside()
        estimator.fit(X, X[:, 0] > 0, validation=0.2)
        assert outside() == before
        with pytest.raises(OverflowError):
            estimator.fit(X, X[:, 0] > 0, callbacks=[look])
        assert inside == [True] * 6
        assert outside() == before

    def test_flags_that_the_caller_had_set_stay_set(self, train):
        torch.use_deterministic_algorithms(True, warn_only=True)
        try:
            train(line(), points())
            assert torch.is_deterministic_algorithms_warn_only_enabled()
        finally:
            torch.use_deterministic_algorithms(False)

    def test_the_thread_count_of_the_run_holds_inside_only(self):
        from konspekt.engine.session import surroundings

        assert torch.get_num_threads() == 1
        with surroundings(torch.device("cpu"), 0, threads=2):
            assert torch.get_num_threads() == 2
        assert torch.get_num_threads() == 1

        with pytest.raises(OverflowError), surroundings(torch.device("cpu"), 0, threads=2):
            raise OverflowError
        assert torch.get_num_threads() == 1

    def test_a_resumed_fit_has_the_threads_of_its_beginning(self, tmp_path):
        import yaml

        X = np.random.default_rng(0).normal(size=(20, 2))
        made = MLPClassifier(hidden=(4,), epochs=1, run_dir=str(tmp_path / "run"))
        made.fit(X, X[:, 0] > 0)
        file, counts = tmp_path / "run" / "config.yaml", []
        config = yaml.safe_load(file.read_text())
        assert config["machine"]["threads"] == 1
        config["machine"]["threads"] = 2
        file.write_text(yaml.safe_dump(config))
        made.set_params(epochs=2).fit(
            X, X[:, 0] > 0, resume=tmp_path / "run", callbacks=[lambda m: counts.append(torch.get_num_threads())]
        )
        assert counts == [2, 2]
        assert torch.get_num_threads() == 1

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("tpu", "device must be auto, cpu, cuda, cuda:N or mps, got 'tpu'"),
            ("meta", "device must be auto, cpu, cuda, cuda:N or mps, got 'meta'"),
            ("cuda:99", r"device='cuda:99': this machine has \d CUDA devices; use 'cpu'"),
        ],
    )
    def test_a_device_that_is_not_there(self, name, message):
        with pytest.raises(ConfigError, match=message):
            MLPClassifier(device=name).fit(np.eye(4), [0, 1, 0, 1])

    def test_the_seed_decides(self, bits):
        X = np.random.default_rng(0).normal(size=(20, 2))
        fitted = [
            bits(MLPClassifier(hidden=(4,), dropout=0.5, epochs=2, random_state=s).fit(X, X[:, 0] > 0).model_)
            for s in (1, 1, 2)
        ]
        assert fitted[0] == fitted[1] != fitted[2]


class TestSeveralEvaluations:
    def test_all_within_a_step_see_the_same_random_numbers(self, train, plugin):
        torch.manual_seed(0)
        objective = Regression(nn.Sequential(nn.Linear(3, 16), nn.Dropout(0.5), nn.Linear(16, 2)))
        plugin.seen.clear()
        train(objective, points(batch_size=None), optimizer="toy-repeat(times=3)", lr=1e-12, epochs=4)
        assert [len(set(losses)) for losses in plugin.seen] == [1] * 4
        assert len({losses[0] for losses in plugin.seen}) == 4  # at the same weights: another mask at each step

    def test_they_count_as_one_step(self, train, plugin, bits):
        ends, histories = [], []
        for times in (1, 3):
            torch.manual_seed(0)
            objective = Regression(nn.Sequential(nn.Linear(3, 16), nn.Dropout(0.5), nn.Linear(16, 2)))
            run = train(objective, points(), optimizer=f"toy-repeat(times={times})", l1=0.1, l2=0.1, clip_norm=0.5)
            ends.append(bits(objective))
            histories.append([h["loss"] for h in run.history])
        assert histories[0] == histories[1]
        assert ends[0] == ends[1]


def test_metrics_lines_come_at_their_interval(train, tmp_path):
    run = train(line(), points(), tmp_path / "run", epochs=40)
    records = read_metrics(run.path)
    assert [r["step"] for r in records if r["kind"] == "step"] == [50, 100]
    assert [r["step"] for r in records if r["kind"] == "epoch"] == list(range(3, 121, 3))
    assert [r["kind"] for r in records][-1] == "stage"
    assert all(r["grad_norm"] > 0 and r["lr"] == 0.1 for r in records if r["kind"] == "step")


def test_prediction_mode_at_the_end_and_memory_of_their_own(train):
    torch.manual_seed(0)
    objective = Classification(nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)))
    batches = points()
    batches.fields["y"] = torch.arange(12) % 2
    train(objective, batches)
    assert not any(m.training for m in objective.modules())
    starts = [p.untyped_storage().data_ptr() for p in objective.parameters()]
    assert len(set(starts)) == len(starts)
