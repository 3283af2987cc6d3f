"""Hessians and gradients of items, and what the closure makes of them, against torch's, closed forms and loops."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from sklearn.datasets import load_iris
from torch import nn

from konspekt.core import ConfigError, DivergedError
from konspekt.core.runs import read_metrics
from konspekt.data.batches import Resident
from konspekt.data.fields import Ragged
from konspekt.engine import Objective, curvature, trials
from konspekt.engine.flat import FlatParameters
from konspekt.engine.supervised import Classification, Regression
from konspekt.nn.norm import BatchRenorm
from konspekt.tabular import MLPClassifier, MLPRegressor

METHODS = ["newton", "bfgs", "lbfgs", "lbfgsb", "natural-gradient", "evolution"]


def classes(items=7, seed=0, hidden=(4,), dtype=torch.float64, extra=()):
    torch.manual_seed(seed)
    layers, size = [], 3
    for width in hidden:
        layers += [nn.Linear(size, width), nn.Tanh(), *extra]
        size = width
    objective = Classification(nn.Sequential(*layers, nn.Linear(size, 3)).to(dtype))
    batch = {"index": torch.arange(items), "x": torch.randn(items, 3, dtype=dtype), "y": torch.arange(items) % 3}
    return objective, batch


def flattened(objective):
    return FlatParameters("model", objective.players()["model"], merge=True)


def function_of(objective, batch, flat):
    """The loss as a function of the vector of the real parameters, and where those are."""
    names = {id(p): n for n, p in objective.named_parameters()}
    order = [names[id(p)] for p in flat.parameters]
    wrapped = curvature._Loss(objective)

    def loss(w):
        values, place = {}, 0
        for name, p in zip(order, flat.parameters, strict=True):
            values[f"objective.{name}"] = w[place : place + p.numel()].view(p.shape)
            place += p.numel()
        return torch.func.functional_call(wrapped, values, (batch, "model"))

    w = torch.cat([p.detach().reshape(-1) for p in flat.parameters])
    return loss, w, torch.cat([torch.arange(s.start, s.stop) for s in flat.slices])


class TestHessian:
    @pytest.mark.parametrize("hidden", [(), (4,), (5, 6)])
    def test_is_torchs_and_the_identity_in_what_pads(self, hidden):
        objective, batch = classes(hidden=hidden)
        flat = flattened(objective)
        loss, w, real = function_of(objective, batch, flat)
        found = curvature.hessian(objective, batch, "model", flat)
        expected = torch.eye(len(flat.weights), dtype=torch.float64)
        expected[real[:, None], real] = torch.autograd.functional.hessian(loss, w)
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-13)
        assert len(real) < len(found)
        assert torch.equal(found, found.T)
        assert all(p.grad is None or not p.grad.any() for p in objective.parameters())

    def test_l2_bends_matrices_only(self):
        objective, batch = classes()
        flat = flattened(objective)
        added = curvature.hessian(objective, batch, "model", flat, 0.3) - curvature.hessian(
            objective, batch, "model", flat
        )
        expected = torch.zeros(len(flat.weights), dtype=torch.float64)
        for p, place in zip(flat.parameters, flat.slices, strict=True):
            expected[place] = 0.6 if p.ndim > 1 else 0.0
        torch.testing.assert_close(added, expected.diag(), rtol=1e-12, atol=1e-14)

    def test_what_cannot_be_batched_goes_row_by_row(self, monkeypatch):
        objective, batch = classes()
        flat = flattened(objective)
        expected = curvature.hessian(objective, batch, "model", flat)
        plain = torch.autograd.grad

        def unbatched(*args, is_grads_batched=False, **options):
            if is_grads_batched:
                raise RuntimeError("Batching rule not implemented")
            return plain(*args, **options)

        monkeypatch.setattr(torch.autograd, "grad", unbatched)
        torch.testing.assert_close(curvature.hessian(objective, batch, "model", flat), expected, rtol=1e-10, atol=1e-14)

    def test_of_a_linear_loss_and_of_an_unused_parameter(self):
        class Odd(Regression):
            def __init__(self, power):
                super().__init__(nn.Linear(3, 1, bias=power == 2, dtype=torch.float64))
                self.unused, self.power = nn.Parameter(torch.ones(2, dtype=torch.float64), power == 2), power

            def loss(self, batch, player):
                total = self.model.weight.sum()
                return {"loss": total if self.power == 1 else total**2}

        for power, expected in ((1, 0.0), (2, 2.0)):
            objective = Odd(power)
            flat = flattened(objective)
            found = curvature.hessian(objective, {"index": torch.arange(2)}, "model", flat)
            place = dict(zip([p.numel() for p in flat.parameters], flat.slices, strict=True))[3]
            assert (found[place, place] == expected).all()
            assert torch.isfinite(found).all()


class Plain(nn.Module):
    """What vmap cannot go through: a number that Python reads."""

    def forward(self, x):
        return x * (1 + (x.sum().item() > 1e9))


def looped(objective, batch, flat):
    rows = []
    for i in range(len(batch["index"])):
        alone = {name: field[i : i + 1] for name, field in batch.items()}
        parts = torch.autograd.grad(objective.loss(alone, "model")["loss"], flat.parameters)
        row = torch.zeros(len(flat.weights), dtype=torch.float64)
        for place, part in zip(flat.slices, parts, strict=True):
            row[place] = part.reshape(-1)
        rows.append(row)
    return torch.stack(rows)


class TestItemGradients:
    @pytest.mark.parametrize(
        "extra", [(), (Plain(),), (nn.LayerNorm(4, dtype=torch.float64),)], ids=["plain", "item", "norm"]
    )
    def test_are_those_of_a_loop(self, extra):
        objective, batch = classes(extra=extra)
        flat = flattened(objective)
        found = curvature.item_gradients(objective, batch, "model", flat)
        torch.testing.assert_close(found, looped(objective, batch, flat), rtol=1e-10, atol=1e-14)
        loss, w, real = function_of(objective, batch, flat)
        torch.testing.assert_close(found.mean(0)[real], torch.func.grad(loss)(w), rtol=1e-10, atol=1e-13)

    def test_class_weights_count(self):
        objective, batch = classes()
        objective.weights = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)
        flat = flattened(objective)
        found = curvature.item_gradients(objective, batch, "model", flat)
        torch.testing.assert_close(found, looped(objective, batch, flat), rtol=1e-10, atol=1e-14)

    def test_dropout_draws_what_it_draws_for_the_batch(self):
        objective, batch = classes(hidden=(8, 8), extra=(nn.Dropout(0.5),), items=20)
        flat = flattened(objective)
        torch.manual_seed(4)
        objective.loss(batch, "model")["loss"].backward()
        torch.manual_seed(4)
        found = curvature.item_gradients(objective, batch, "model", flat)
        torch.testing.assert_close(found.mean(0), flat.gradient, rtol=1e-10, atol=1e-14)
        assert flat.gradient.any()

    def test_item_by_item_the_draws_begin_where_they_would(self):
        objective, batch = classes(extra=(nn.Dropout(0.5), Plain()))
        flat = flattened(objective)
        torch.manual_seed(4)
        expected = looped(objective, batch, flat)
        torch.manual_seed(4)
        found = curvature.item_gradients(objective, batch, "model", flat)
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-14)

    def test_ragged_fields_go_item_by_item(self):
        class Bag(nn.Module):
            def __init__(self):
                super().__init__()
                self.table = nn.Embedding(5, 3, dtype=torch.float64)

            def forward(self, x):
                return nn.functional.embedding_bag(x.values, self.table.weight, x.offsets[:-1], mode="mean")

        torch.manual_seed(0)
        objective = Classification(Bag())
        ragged = Ragged.of([torch.tensor([0, 1]), torch.tensor([2]), torch.tensor([3, 3, 4])])
        batch = {"index": torch.arange(3), "x": ragged, "y": torch.tensor([0, 1, 2])}
        flat = flattened(objective)
        found = curvature.item_gradients(objective, batch, "model", flat)
        (whole,) = torch.autograd.grad(objective.loss(batch, "model")["loss"], flat.parameters)
        torch.testing.assert_close(found.mean(0)[flat.slices[0]], whole.reshape(-1), rtol=1e-10, atol=1e-14)
        touched = found[:, flat.slices[0]].view(3, 5, 3).abs().sum(2) > 0
        assert touched.tolist() == [
            [True, True, False, False, False],
            [False, False, True, False, False],
            [False, False, False, True, True],
        ]

    @pytest.mark.parametrize("norm", [nn.BatchNorm1d(4), BatchRenorm(4)])
    def test_batch_statistics_are_refused(self, norm):
        objective, batch = classes(extra=(norm,))
        with pytest.raises(
            ConfigError, match=rf"model.2 \({type(norm).__name__}\) mixes the items of a batch; take norm='layer'"
        ):
            curvature.item_gradients(objective, batch, "model", flattened(objective))


class TestFisher:
    def test_expected_over_the_classes_it_is_the_hessian_of_a_logistic_regression(self):
        """Exactly: sum over c of p_c h_c h_c' with h_c the gradient for class c."""
        objective, batch = classes(hidden=(), items=9)
        flat = flattened(objective)
        p = objective.model(batch["x"]).softmax(1).detach()
        fisher = 0
        for c in range(3):
            h = curvature.item_gradients(objective, batch | {"y": torch.full((9,), c)}, "model", flat)
            fisher = fisher + h.T @ (h * p[:, c, None]) / 9
        _, _, real = function_of(objective, batch, flat)
        hessian = curvature.hessian(objective, batch, "model", flat)
        torch.testing.assert_close(fisher[real][:, real], hessian[real][:, real], rtol=1e-10, atol=1e-13)

    def test_drawn_targets_give_x_diag_p_x(self):
        """Two classes: the block of one class's weights is X' diag(p (1 - p)) X / n; the empirical one is another."""
        torch.manual_seed(0)
        objective = Classification(nn.Linear(3, 2, bias=False, dtype=torch.float64))
        draws, items = 3000, 10
        x = torch.randn(items, 3, dtype=torch.float64)
        y = torch.ones(items, dtype=torch.int64)
        batch = {"index": torch.arange(items * draws), "x": x.repeat(draws, 1), "y": y.repeat(draws)}
        flat = flattened(objective)
        p = objective.model(x).softmax(1)[:, 0].detach()
        expected = (x.T * (p * (1 - p))) @ x / items

        def fisher(batch):
            h = curvature.item_gradients(objective, batch, "model", flat)[:, :3]
            outer = h[:, :, None] * h[:, None, :]
            return outer.mean(0), outer.std(0) / len(h) ** 0.5

        found, error = fisher(objective.sample_targets(batch))
        assert ((found - expected).abs() < 5 * error).all()
        assert error.max() < 0.03 * expected.abs().max()
        empirical, _ = fisher(batch)
        assert (empirical - expected).abs().max() > 20 * error.max()

    def test_drawn_numbers_give_the_hessian_of_least_squares(self):
        """With variance T / 2 of each of T targets; of a linear net the Hessian is 2 / T X'X / n for each target."""
        torch.manual_seed(0)
        objective = Regression(nn.Linear(3, 2, bias=False, dtype=torch.float64))
        draws, items = 3000, 10
        x = torch.randn(items, 3, dtype=torch.float64)
        batch = {
            "index": torch.arange(items * draws),
            "x": x.repeat(draws, 1),
            "y": torch.zeros(items * draws, 2, dtype=torch.float64),
        }
        flat = flattened(objective)
        h = curvature.item_gradients(objective, objective.sample_targets(batch), "model", flat)[:, :6]
        outer = h[:, :, None] * h[:, None, :]
        expected = torch.kron(torch.eye(2, dtype=torch.float64), x.T @ x / items)  # 2 / T is 1
        torch.testing.assert_close(expected, curvature.hessian(objective, batch, "model", flat)[:6, :6])
        assert ((outer.mean(0) - expected).abs() < 5 * outer.std(0) / len(h) ** 0.5).all()

    def test_targets_come_from_torchs_generator_and_the_batch_is_left_alone(self):
        objective, batch = classes(items=50)
        for model in (objective, Regression(nn.Linear(3, 2, dtype=torch.float64))):
            drawn = []
            for seed in (1, 1, 2):
                torch.manual_seed(seed)
                drawn.append(model.sample_targets(batch)["y"])
            assert torch.equal(drawn[0], drawn[1])
            assert not torch.equal(drawn[0], drawn[2])
        assert torch.equal(batch["y"], torch.arange(50) % 3)

    def test_refusals(self, train):
        objective, batch = classes()
        objective.weights = torch.ones(3)
        with pytest.raises(ConfigError, match="with class weights the loss is no likelihood"):
            objective.sample_targets(batch)

        class Own(Objective):
            pass

        with pytest.raises(ConfigError, match=r"Own does not say how targets are drawn.*estimate='empirical'"):
            Own().sample_targets(batch)


def points(items=12, batch_size=None, dtype=torch.float32):
    draw = torch.Generator().manual_seed(1)
    x = torch.randn(items, 3, generator=draw, dtype=dtype)
    y = x @ torch.tensor([[1.0, 0.5], [-1.0, 2.0], [0.0, 1.0]], dtype=dtype) + 0.1 * torch.randn(
        items, 2, generator=draw, dtype=dtype
    )
    return Resident({"x": x, "y": y}, batch_size=batch_size)


def net(*extra, dtype=torch.float32):
    torch.manual_seed(0)
    return Regression(nn.Sequential(nn.Linear(3, 5), nn.Tanh(), *extra, nn.Linear(5, 2)).to(dtype))


class Draws(nn.Module):
    """Writes down a number of each draw."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, x):
        mask = torch.rand(x.shape) if x.ndim == 2 else torch.rand(x.shape[-2:])
        if not torch._C._functorch.is_functorch_wrapped_tensor(mask):  # of items, drawn for all at once
            self.seen.append(mask.flatten()[0].item())
        return x * (mask > 0.3)


class TestThroughTheLoop:
    @pytest.mark.parametrize("name", METHODS)
    def test_all_evaluations_of_a_step_see_one_mask(self, train, name):
        draws, steps = Draws(), []

        def look(moment):
            if moment.event == "step":
                steps.append(list(draws.seen))
                draws.seen.clear()

        train(net(draws), points(), optimizer=name, lr=0.01, epochs=4, callbacks=[look])
        assert len(steps) == 4
        assert all(len(seen) > 1 and len(set(seen)) == 1 for seen in steps)
        assert len({seen[0] for seen in steps}) == 4

    def test_the_gradients_of_items_see_the_mask_too(self, train):
        draws, steps = Draws(), []

        def look(moment):
            if moment.event == "step":
                steps.append(list(draws.seen))
                draws.seen.clear()

        train(net(draws, Plain()), points(), optimizer="natural-gradient", lr=0.01, epochs=2, callbacks=[look])
        for batch, drawn, first, *others in steps:  # the loss, the targets, and item by item
            assert batch == drawn == first
            assert len(others) == 11

    def test_evolution_sees_the_penalties_and_leaves_the_gradient_alone(self, train):
        def look(moment):
            assert not any(p.grad.any() for p in moment.objective.parameters())

        ends = []
        for l1 in (0.0, 10.0):
            objective = net()
            train(objective, points(), optimizer="evolution", lr=1.0, epochs=60, l1=l1, l2=l1, callbacks=[look])
            ends.append(objective.model[0].weight.norm().item())
        assert ends[1] < 0.2 * ends[0]

    @pytest.mark.parametrize("name", ["newton", "bfgs", "lbfgs", "lbfgsb", "evolution", "toy-repeat(times=3)"])
    @pytest.mark.parametrize("norm", [nn.BatchNorm1d, BatchRenorm])
    def test_running_statistics_move_once_a_step_at_its_begin(self, train, plugin, name, norm):
        plugin.seen.clear()
        objective = net(norm(5), dtype=torch.float64)
        one, batches = net(norm(5), dtype=torch.float64), points(dtype=torch.float64)
        train(objective, batches, optimizer=name, lr=0.3, epochs=3)
        train(one, batches, optimizer=name, lr=0.3, epochs=2)
        assert [len(set(losses)) for losses in plugin.seen] == ([1] * 5 if "toy" in name else [])
        one.train()
        one.loss(next(batches.epoch(0)), "model")
        assert objective.model[2].num_batches_tracked == 3
        torch.testing.assert_close(list(objective.buffers()), list(one.buffers()), rtol=1e-12, atol=0)

    @pytest.mark.parametrize("name", METHODS)
    def test_the_loss_falls(self, train, name):
        run = train(net(), points(), optimizer=name, lr=1.0 if name in ("newton", "evolution") else 0.3, epochs=40)
        losses = [h["loss"] for h in run.history]
        assert losses[-1] < 0.3 * losses[0]

    @pytest.mark.parametrize("text", [*METHODS, "lbfgsb(lower=0.05, upper=0.6)"])
    def test_what_pads_the_parameters_stays_zero(self, train, text):
        found = []

        def look(moment):
            p = next(moment.objective.parameters())
            whole = torch.empty(0).set_(p.data.untyped_storage())
            pads = torch.ones(len(whole), dtype=torch.bool)
            for q in moment.objective.parameters():
                pads[q.storage_offset() : q.storage_offset() + q.numel()] = False
            assert pads.sum() >= 16
            found.append(whole[pads].any().item())
            if "lower" in text:
                assert all(0.05 <= v <= 0.6000001 for q in moment.objective.parameters() for v in q.flatten().tolist())

        train(net(), points(), optimizer=text, lr=0.3, epochs=5, callbacks=[look])
        assert found
        assert not any(found)

    @pytest.mark.parametrize("name", METHODS)
    def test_decay_is_seen_once_a_step_beside_the_step(self, train, name):
        start, ends = net(dtype=torch.float64).state_dict(), []
        for decay in (0.0, 0.2):
            objective = net(dtype=torch.float64)
            train(objective, points(dtype=torch.float64), optimizer=name, lr=0.1, epochs=1, weight_decay=decay)
            ends.append(objective.state_dict())
        for key, before in start.items():
            expected = ends[0][key] - (0.1 * 0.2 * before if before.ndim > 1 else 0)
            torch.testing.assert_close(ends[1][key], expected, rtol=1e-12, atol=1e-14)

    @pytest.mark.parametrize("name", METHODS)
    def test_a_beginning_that_is_not_finite_is_refused(self, train, name):
        batches = points()
        batches.fields["y"][3, 0] = torch.inf
        objective = net()
        before = [p.detach().clone() for p in objective.parameters()]
        with pytest.raises(DivergedError, match=r"stopped at step 0 .*field 'y' of the batch is not finite"):
            train(objective, batches, optimizer=name)
        assert all(torch.equal(p, b) for p, b in zip(objective.parameters(), before, strict=True))

    @pytest.mark.parametrize("name", ["newton", "bfgs", "lbfgs", "lbfgsb", "evolution(sigma=5.0)"])
    def test_a_tried_point_that_is_not_finite_is_not(self, train, name):
        losses = []

        class Log(Regression):
            def loss(self, batch, player):
                w = self.model.weight
                losses.append((w - w.log()).mean())
                return {"loss": losses[-1]}

        objective = Log(nn.Linear(3, 1, bias=False))
        nn.init.constant_(objective.model.weight, 3.0)
        train(objective, points(), optimizer=name, lr=50.0 if "bfgs" in name else 1.0, epochs=40)
        assert any(not torch.isfinite(v) for v in losses)
        assert (objective.model.weight - 1).abs().max() < 0.2

    @pytest.mark.parametrize("given", [{"clip_norm": 1.0}, {"clip_value": 1.0}])
    def test_clipping_is_refused_where_it_would_falsify(self, train, given):
        for name in ("newton", "bfgs", "lbfgs", "lbfgsb", "evolution"):
            with pytest.raises(ConfigError, match=f"optimizer='{name}' takes the gradient as it is, or none at all"):
                train(net(), points(), optimizer=name, **given)
        train(net(), points(), optimizer="natural-gradient", **given)

    @pytest.mark.parametrize("name", ["newton", "natural-gradient", "evolution"])
    @pytest.mark.parametrize("given", [{"accumulate": 2}, {"compile": True}])
    def test_what_has_no_second_derivatives_is_refused(self, train, monkeypatch, name, given):
        monkeypatch.setattr(nn.Module, "compile", lambda self: setattr(self, "_compiled_call_impl", self._call_impl))
        with pytest.raises(ConfigError, match=f"optimizer='{name}' asks for more than a gradient"):
            train(net(), points(batch_size=4), optimizer=name, **given)

    @pytest.mark.parametrize(("name", "expected"), [("newton", False), ("lbfgs", False), ("sgd", "auto")])
    def test_nothing_of_theirs_is_compiled_unasked(self, train, monkeypatch, name, expected):
        wanted, own = [], trials.Compiling
        monkeypatch.setattr(
            trials, "Compiling", lambda model, asked, *rest: wanted.append(asked) or own(model, asked, *rest)
        )
        train(net(), points(), optimizer=name, lr=0.01, epochs=1, compile="auto")
        assert wanted[-1] == expected

    @pytest.mark.parametrize("name", ["newton", "bfgs", "lbfgs", "lbfgsb"])
    def test_the_penalty_is_part_of_what_is_minimised(self, train, name):
        """Ridge regression: the closed form, with the bias left alone."""
        batches = points(dtype=torch.float64)
        torch.manual_seed(0)
        objective = Regression(nn.Linear(3, 2, dtype=torch.float64))
        run = train(objective, batches, optimizer=f"{name}(tolerance=1e-9)", lr=1.0, epochs=100, l2=0.1)
        x, y = (batches.fields[k].numpy() for k in ("x", "y"))
        xc, yc = x - x.mean(0), y - y.mean(0)
        # mean over 2 * 12 terms of squares, so the penalty counts 24 times
        expected = np.linalg.solve(xc.T @ xc + 0.1 * 24 * np.eye(3), xc.T @ yc).T
        np.testing.assert_allclose(objective.model.weight.detach(), expected, rtol=1e-6, atol=1e-8)
        assert len(run.history) < 60

    def test_a_logistic_regression_is_scipys(self, train):
        draw = np.random.default_rng(0)
        x, y = draw.normal(size=(40, 3)), draw.integers(0, 3, 40)

        def loss(w):
            z = x @ w.reshape(3, 3)
            return np.mean(np.logaddexp.reduce(z, 1) - z[np.arange(40), y])

        expected = minimize(loss, np.zeros(9), options={"gtol": 1e-8}).fun
        for name in ("newton", "bfgs", "lbfgs"):
            objective = Classification(nn.Linear(3, 3, bias=False, dtype=torch.float64))
            run = train(
                objective, Resident({"x": torch.tensor(x), "y": torch.tensor(y)}), optimizer=f"{name}(tolerance=1e-8)",
                lr=1.0, epochs=80,
            )  # fmt: skip
            assert run.history[-1]["loss"] == pytest.approx(expected, rel=1e-9)

    @pytest.mark.parametrize("name", METHODS)
    def test_killed_it_resumes_to_the_same_bits(self, train, die, killed, bits, tmp_path, name):
        def fit(folder, **more):
            objective = net(nn.Dropout(0.2))
            train(
                objective, points(batch_size=6), tmp_path / folder, optimizer=name, lr=0.1, epochs=3,
                checkpoint_every=1, weight_decay=0.01, **more,
            )  # fmt: skip
            return bits(objective)

        whole = fit("whole")
        killed(lambda: fit("cut", callbacks=[die(4)]))
        assert fit("cut", resume=True) == whole

    def test_a_fit_ends_where_it_has_converged(self, train, tmp_path):
        run = train(net(), points(), tmp_path / "run", optimizer="lbfgs(tolerance=0.01)", lr=1.0, epochs=500)
        assert len(run.history) < 200
        assert read_metrics(run.path)[-1]["stopped"] == "converged"


class TestEstimators:
    @pytest.mark.parametrize("given", [{"lr": 1.0}, {}], ids=["lr=1", "default lr"])
    @pytest.mark.parametrize("optimizer", ["lbfgs", "bfgs", "newton"])
    def test_iris(self, optimizer, given):
        if optimizer == "newton" and not given:
            return  # there lr is a plain factor
        X, y = load_iris(return_X_y=True)
        model = MLPClassifier(optimizer=optimizer, hidden=(8,), epochs=40, **given).fit(X, y)
        assert model.score(X, y) > 0.95

    def test_natural_gradient_with_dropout_and_penalties(self):
        X, y = load_iris(return_X_y=True)
        for how in ("full", "block", "diagonal"):
            model = MLPClassifier(
                optimizer=f"natural-gradient(fisher={how!r})", lr=0.1, hidden=(8,), epochs=20, dropout=0.1, l2=1e-4
            ).fit(X, y)
            assert model.score(X, y) > 0.93

    def test_evolution_of_a_regression(self):
        draw = np.random.default_rng(0)
        X = draw.normal(size=(80, 2))
        y = X[:, 0] - 2 * X[:, 1]
        model = MLPRegressor(optimizer="evolution", lr=1.0, hidden=(3,), epochs=60, batch_size=None).fit(X, y)
        assert model.score(X, y) > 0.9

    def test_a_net_too_large_for_its_hessian_says_so(self):
        X, y = load_iris(return_X_y=True)
        with pytest.raises(
            ValueError, match=r"optimizer 'newton' keeps matrices of \d+ x \d+ numbers.*Take optimizer='lbfgs'"
        ):
            MLPClassifier(optimizer="newton", lr=1.0, hidden=(3000, 1000), epochs=1).fit(X, y)
