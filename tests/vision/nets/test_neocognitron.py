"""The neocognitron's cells against the paper's equations written out, its rule, and what it makes of digits."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from torch.nn import functional as F

from konspekt.core.errors import ConfigError, DataError
from konspekt.core.params import build
from konspekt.core.registry import lookup
from konspekt.vision.nets.neocognitron import ComplexCells, SimpleCells, contrast, neocognitron


def distance(y, x):
    return 0.9 ** np.hypot(y, x)


def digits(side=16, count=600):
    x, y = load_digits(return_X_y=True)
    images = torch.tensor(x[:count], dtype=torch.float32).view(-1, 1, 8, 8)
    images = F.interpolate(images, (side, side), mode="bilinear")
    return (images - images.mean()) / images.std(), y[:count]


def test_s_cells_follow_the_papers_equations():
    torch.manual_seed(0)
    cells = SimpleCells(2, 3, selectivity=1.5, rate=1.0).double()
    cells.a.uniform_(0, 0.4)
    cells.b.copy_(torch.tensor([0.0, 3.0, 8.0]))
    u = torch.rand(1, 2, 4, 6, dtype=torch.float64)
    total = sum(distance(y, x) for y in range(-2, 3) for x in range(-2, 3))
    out, fired = cells(u)[0], 0
    for k, y, x in np.ndindex(3, 4, 6):
        excited, energy = 0.0, 0.0
        for j, dy, dx in np.ndindex(2, 5, 5):
            row, col = y + dy - 2, x + dx - 2
            if 0 <= row < 4 and 0 <= col < 6:
                seen = u[0, j, row, col].item()
                excited += cells.a[k, j, dy, dx].item() * seen
                energy += distance(dy - 2, dx - 2) / (2 * total) * seen**2
        inhibited = 2 * 1.5 / 2.5 * cells.b[k].item() * energy**0.5
        expected = 1.5 * max(0.0, (1 + excited) / (1 + inhibited) - 1)
        fired += expected > 0
        assert out[k, y, x].item() == pytest.approx(expected, rel=1e-6, abs=1e-12)  # c is kept in 32 bits
    assert 10 < fired < 72


@pytest.mark.parametrize("whole", [None, (4, 5)])
def test_c_cells_follow_the_papers_equations(whole):
    cells = ComplexCells(3, whole).double()
    u = torch.rand(1, 3, 4, 5, dtype=torch.float64)
    out = cells(u)[0]
    assert out.shape == ((3, 1, 1) if whole else (3, 2, 3))
    for _, y, x in np.ndindex(1, *out.shape[1:]):
        sums = []
        for k in range(3):
            if whole:
                sums.append(u[0, k].sum().item())
            else:
                near = [(2 * y + dy, 2 * x + dx, distance(dy, dx)) for dy in range(-2, 3) for dx in range(-2, 3)]
                sums.append(sum(d * u[0, k, r, c].item() for r, c, d in near if 0 <= r < 4 and 0 <= c < 5))
        for k in range(3):
            z = max(0.0, (1 + sums[k]) / (1 + np.mean(sums)) - 1)
            assert out[k, y, x].item() == pytest.approx(z / (0.5 + z), rel=1e-6, abs=1e-12)
    assert (out > 0).any()
    assert (out == 0).any()


@pytest.mark.parametrize("r", [0.5, 1.5, 4.0])
def test_a_plane_answers_to_a_cosine_above_r_over_1_plus_r_whatever_the_strength(r):
    """What follows from the equations for a plane that has learned one pattern."""
    rng = torch.Generator().manual_seed(0)
    cells = SimpleCells(1, 1, selectivity=r, rate=16.0).double()
    learned = torch.rand(1, 5, 5, generator=rng, dtype=torch.float64)
    cells.a.copy_(16 * cells.c * learned)
    cells.b.copy_(8 * cells.inhibition(learned[None])[0, 0, 2, 2])
    noise = torch.rand(400, 1, 5, 5, generator=rng, dtype=torch.float64) ** 4
    share = torch.linspace(0, 1, 400, dtype=torch.float64)[:, None, None, None]
    shown = (share * learned + (1 - share) * noise) * 10 ** (4 * torch.rand(400, 1, 1, 1, generator=rng).double() - 2)
    dot = (cells.c * shown * learned).sum((1, 2, 3))
    cosine = dot / ((cells.c * shown**2).sum((1, 2, 3)) * (cells.c * learned**2).sum()).sqrt()
    answers = cells(shown)[:, 0, 2, 2] > 0
    sure = (cosine - r / (1 + r)).abs() > 1e-6
    assert torch.equal(answers[sure], (cosine > r / (1 + r))[sure])
    if r > 1:
        assert 20 < answers.sum() < 380
    assert cells((1e6 * learned)[None])[0, 0, 2, 2].item() == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("column", [1, 2, 3, 5, 9])
def test_seeds_are_the_largest_of_each_column_and_then_of_each_plane(column):
    rng = np.random.default_rng(column)
    u = rng.random((4, 7, 5)) * (rng.random((4, 7, 5)) < 0.2)
    best = {}
    for top in range(0, 7, column):
        for left in range(0, 5, column):
            part = u[:, top : top + column, left : left + column]
            k, y, x = np.unravel_index(part.argmax(), part.shape)
            value = part[k, y, x]
            if value > 0 and value > best.get(int(k), (0,))[0]:
                best[int(k)] = (value, int(top + y), int(left + x))
    expected = [(k, y, x) for k, (_, y, x) in sorted(best.items())]
    assert SimpleCells(1, 4, 1.0, 1.0).seeds(torch.from_numpy(u), column) == expected
    assert expected


def test_reinforcement_is_in_proportion_to_the_input():
    torch.manual_seed(1)
    cells = SimpleCells(2, 3, selectivity=1.5, rate=4.0)
    u = torch.rand(2, 8, 8)
    a, b = cells.a.clone(), cells.b.clone()
    found = cells.seeds(cells(u[None])[0], 5)
    assert cells.reinforce(u, 5) == len(found) > 0
    padded = F.pad(u, (2, 2, 2, 2))
    for plane, y, x in found:
        a[plane] += 4 * cells.c * padded[:, y : y + 5, x : x + 5]
        b[plane] += 2 * (cells.c * padded[:, y : y + 5, x : x + 5] ** 2).sum().sqrt()
    assert torch.allclose(cells.a, a, rtol=1e-5)
    assert torch.allclose(cells.b, b, rtol=1e-5)
    assert len(found) < 3 or cells.b.all()


def test_an_unknown_pattern_goes_to_a_new_plane_and_a_known_one_to_its_own():
    torch.manual_seed(0)
    cells = SimpleCells(1, 4, selectivity=4.0, rate=16.0)
    bars = [torch.zeros(1, 5, 5), torch.zeros(1, 5, 5)]
    bars[0][0, 2] = 1
    bars[1][0, :, 2] = 1
    mine = []
    for bar in (*bars, *bars):
        (seed,) = cells.seeds(cells(bar[None])[0], 5)
        mine.append(seed[0])
        cells.reinforce(bar, 5)
    assert mine[0] != mine[1]
    assert mine[:2] == mine[2:]


def test_contrast_is_none_where_the_image_is_even_and_swaps_with_the_sign():
    x = torch.full((1, 2, 12, 10), -3.0)
    assert contrast(x).abs().max() < 1e-5
    x[0, 0, 6, 5] = 5
    out = contrast(x)
    assert out.shape == (1, 4, 12, 10)
    assert out[0, 0, 6, 5].item() == pytest.approx(8 * 80 / 81)
    assert out[0, 2, 6, 4].item() == pytest.approx(8 / 81, rel=1e-4)
    assert out.min() == 0
    assert torch.allclose(contrast(-x), out.roll(2, 1), atol=1e-5)


@pytest.mark.parametrize(
    ("size", "sides"),
    [
        ((5, 5), [5, 3, 2]),
        ((16, 16), [16, 8, 4]),
        ((28, 28), [28, 14, 7]),
        ((64, 64), [64, 32, 16, 8]),
        ((5, 40), [5, 3, 2, 1]),
    ],
)
def test_the_modules_follow_from_the_size(size, sides):
    net = neocognitron(2, 3, size, planes=4)
    u, seen = net.enter(torch.rand(2, 2, *size)), []
    for simple, complex_ in zip(net.simple, net.complex, strict=True):
        u = simple(u)
        seen.append(u.shape[2])
        u = complex_(u)
    assert seen == sides
    assert u.shape == (2, 4, 1, 1)
    assert net(torch.rand(2, 2, *size)).shape == (2, 3)


def test_grown_cells_tell_digits_apart_and_care_less_for_their_place():
    torch.manual_seed(0)
    images, labels = digits()
    net = neocognitron(1, 10, (16, 16))
    learned = net.grow([images[:60], images[60:120]])
    assert [len(module) for module in learned] == [120, 120, 120]
    assert all(module[0] > 0 for module in learned)
    features = (net.features(images) - net.mean) / net.std
    assert torch.allclose(features[:120].mean(0), torch.zeros(24), atol=1e-4)
    readout = LogisticRegression(max_iter=500).fit(features[:400], labels[:400])
    assert readout.score(features[400:], labels[400:]) > 0.4  # chance is 0.1

    def moved(a, b):
        return ((a - b).norm(dim=1) / (a - a.mean(0)).norm(dim=1)).mean()

    shifted = images.roll((0, 2), (2, 3))
    after = (net.features(shifted) - net.mean) / net.std
    assert moved(features, after) < 0.75 * moved(images.flatten(1), shifted.flatten(1))


def test_growing_is_deterministic_and_stops_at_the_patterns():
    images, _ = digits(count=40)
    nets = []
    for batches in ([images[:20]], iter([images[:7], images[7:20]]), [images]):
        torch.manual_seed(3)
        nets.append(neocognitron(1, 10, (16, 16), planes=6))
        nets[-1].grow(batches, patterns=20)
    for net in nets[1:]:
        for name, value in nets[0].state_dict().items():
            assert torch.allclose(net.state_dict()[name], value, rtol=1e-4, atol=1e-7), name
    again = neocognitron(1, 10, (16, 16), planes=6)
    again.load_state_dict(nets[0].state_dict())
    assert torch.equal(again(images), nets[0](images))


def test_only_the_readout_takes_a_gradient_before_and_after_growing():
    torch.manual_seed(0)
    images, _ = digits(count=20)
    net = neocognitron(1, 10, (16, 16), planes=6)
    assert [name for name, _ in net.named_parameters()] == ["readout.weight", "readout.bias"]
    assert net.heads == ("readout",)
    for _ in range(2):
        out = net(images)
        assert out.isfinite().all()
        for gradient in torch.autograd.grad(out.square().sum(), list(net.parameters())):
            assert gradient.isfinite().all()
            assert gradient.any()
        net.grow([images])


def test_a_gradient_reaches_the_image_and_an_empty_image_has_one():
    torch.manual_seed(0)
    net = neocognitron(1, 10, (16, 16), planes=6)
    net.grow([digits(count=20)[0]])
    x = torch.cat([digits(count=3)[0], torch.zeros(1, 1, 16, 16)]).requires_grad_()
    (gradient,) = torch.autograd.grad(net(x).square().sum(), x)
    assert gradient.isfinite().all()
    assert gradient[:3].any()


@pytest.mark.parametrize("form", ["default", "paper"])
def test_an_even_image_gives_finite_logits(form):
    net = neocognitron(3, 4, (9, 7), planes=5, form=form)
    x = torch.zeros(2, 3, 9, 7)
    assert net(x).isfinite().all()
    net.grow([x])
    assert net(x).isfinite().all()
    assert net(torch.randn(2, 3, 9, 7)).isfinite().all()


def test_arguments_are_checked():
    for size in ((4, 16), (16, 4), (16,)):
        with pytest.raises(
            ConfigError, match=r"net 'neocognitron': image_size must be .* at least 5 x 5 pixels.* got \("
        ):
            neocognitron(image_size=size)
    with pytest.raises(ConfigError, match="selectivity must be a tuple"):
        build("net", "neocognitron(selectivity=(0,))", 1, 10, (16, 16))
    with pytest.raises(ConfigError, match=r"rates must have a number for the first module, got \(\)"):
        neocognitron(rates=())
    with pytest.raises(DataError, match="there is no image to grow from"):
        neocognitron().grow([])
    assert neocognitron(width=0.5).readout.in_features == 12
    assert neocognitron(image_size=(64, 64), selectivity=(3.0,)).simple[3].selectivity == 3.0


def test_the_registry_knows_it():
    assert lookup("net", "neocognitron").rows == ("D10",)


@pytest.mark.parametrize(
    ("images", "said"),
    [
        (torch.zeros(2, 3, 16, 16), "batches of images of 1 channels, got 2 x 3 x 16 x 16"),
        (torch.zeros(1, 16, 16), "batches of images of 1 channels, got 1 x 16 x 16"),
        (torch.full((1, 1, 16, 16), torch.nan), "holds a number that is not finite"),
    ],
)
def test_images_that_it_cannot_grow_from(images, said):
    net = neocognitron(1, 3, (16, 16))
    before = {name: t.clone() for name, t in net.state_dict().items()}
    with pytest.raises(DataError, match=said):
        net.grow([images])
    assert all(torch.equal(t, before[name]) for name, t in net.state_dict().items())
