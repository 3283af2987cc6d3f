"""Segments of images: colours against published values, shapes in a made picture, every form of an image, refusals."""

import numpy as np
import pytest
from PIL import Image
from sklearn.cluster import KMeans as Peer
from sklearn.datasets import load_sample_image
from sklearn.metrics import adjusted_rand_score

from konspekt.cluster.agglomerative import AgglomerativeClustering
from konspekt.cluster.image_segments import lab, segment_image
from konspekt.core.errors import ConfigError, DataError


def scene(noise=6.0):
    """A red disc and a green bar on a blue ground, 40 x 60, and which pixel is what."""
    rows, columns = np.mgrid[:40, :60]
    truth = np.zeros((40, 60), dtype=int)
    truth[(rows - 20) ** 2 + (columns - 15) ** 2 < 100] = 1
    truth[5:35, 40:48] = 2
    colours = np.array([[40, 60, 160], [200, 50, 40], [60, 180, 70]])
    image = colours[truth] + noise * np.random.default_rng(0).normal(size=(40, 60, 3))
    return image.clip(0, 255).astype(np.uint8), truth


def test_lab_has_the_published_values():
    given = np.array([[1, 1, 1], [0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], dtype=float)
    wanted = [
        [100, 0, 0],
        [0, 0, 0],
        [53.24, 80.09, 67.20],
        [87.73, -86.18, 83.18],
        [32.30, 79.19, -107.86],
    ]  # Lindbloom
    np.testing.assert_allclose(lab(given), wanted, atol=0.01)
    greys = lab(np.repeat(np.linspace(0, 1, 50)[:, None], 3, axis=1))
    np.testing.assert_allclose(greys[:, 1:], 0, atol=1e-9)
    assert (np.diff(greys[:, 0]) > 0).all()


@pytest.mark.parametrize(
    "method",
    ["kmeans", "gaussian-mixture(reg_covar=1e-5)", "spectral(affinity='nearest_neighbors')", Peer(3, n_init=5)],
    ids=["kmeans", "gaussian-mixture", "spectral", "scikit-learn"],
)
@pytest.mark.parametrize("sample", [None, 700])
def test_shapes_are_found_by_any_method(method, sample):
    image, truth = scene()
    before = method.get_params() if not isinstance(method, str) else None
    found = segment_image(image, 3, method=method, sample=sample, random_state=0)
    assert found.labels.shape == (40, 60)
    assert found.labels.dtype == np.int64
    assert adjusted_rand_score(truth.ravel(), found.labels.ravel()) == 1.0
    assert (
        found.sizes.tolist() == np.bincount(found.labels.ravel()).tolist() == sorted(np.bincount(truth.ravel()))[::-1]
    )
    for segment in range(3):
        np.testing.assert_allclose(found.colours[segment], image[found.labels == segment].mean(0) / 255, rtol=1e-12)
    if before is not None:
        assert method.get_params() == before
        assert not hasattr(method, "labels_")


def test_place_keeps_segments_together():
    image = np.full((30, 30), 0.5)
    image[:, ::2] += 0.1  # stripes
    by_colour = segment_image(image, 2, place=0, random_state=0)
    assert (by_colour.labels[:, ::2] == by_colour.labels[0, 0]).all()
    assert (by_colour.labels[:, 1::2] != by_colour.labels[0, 0]).all()
    by_place = segment_image(image, 2, place=2, random_state=0)
    assert by_place.borders().sum() < 40  # one border, not one at each stripe
    assert by_colour.borders().sum() == 30 * 29


def test_every_form_of_an_image_gives_the_same(tmp_path):
    image, _ = scene()
    wanted = segment_image(image, 3, random_state=0).labels
    Image.fromarray(image).save(tmp_path / "scene.png")
    opaque = np.concatenate([image, np.full((40, 60, 1), 255, dtype=np.uint8)], axis=2)
    for form in (image / 255, tmp_path / "scene.png", str(tmp_path / "scene.png"), Image.fromarray(image), opaque):
        assert np.array_equal(segment_image(form, 3, random_state=0).labels, wanted)
    grey = image.mean(2).astype(np.uint8)
    wanted = segment_image(grey, 2, random_state=0)
    assert wanted.image.ndim == 2
    assert np.array_equal(segment_image(grey[..., None], 2, random_state=0).labels, wanted.labels)
    assert np.array_equal(segment_image(Image.fromarray(grey), 2, random_state=0).labels, wanted.labels)
    low, high = int(grey.min()), int(grey.max())
    ranged = segment_image(grey.astype(float), 2, random_state=0)  # not within [0, 1]: by its own range
    np.testing.assert_allclose(ranged.image, (grey - low) / (high - low))
    assert segment_image(np.full((5, 5), 300.0), 1).labels.max() == 0


def test_the_seed_decides():
    image, _ = scene(noise=60)
    one, two, other = (segment_image(image, 6, sample=300, random_state=s).labels for s in (1, 1, 2))
    assert np.array_equal(one, two)
    assert not np.array_equal(one, other)


def test_methods_that_choose_the_number_themselves():
    image, truth = scene()
    found = segment_image(
        image, method="spectral(n_clusters=None, affinity='nearest_neighbors')", sample=700, random_state=0
    )
    assert len(found.sizes) == 3
    linked = segment_image(image, method=AgglomerativeClustering(n_clusters=3), sample=500, random_state=0)
    assert adjusted_rand_score(truth.ravel(), linked.labels.ravel()) > 0.95
    assert len(segment_image(image, random_state=0).sizes) == 8  # a method that must be told is told 8


class Noisy:
    """A method that calls every other pixel noise, and finds no number by itself."""

    def get_params(self, deep=True):
        return {}

    def set_params(self):
        return self

    def fit(self, X):
        self.labels_ = np.where(np.arange(len(X)) % 2, 5, -1)
        return self


def test_noise_is_no_segment_and_keeps_its_colour():
    image, _ = scene()
    found = segment_image(image, method=Noisy(), sample=None)
    assert set(np.unique(found.labels)) == {-1, 0}
    assert found.sizes.tolist() == [1200]
    picture = found.picture()
    assert np.array_equal(picture[found.labels == -1], image[found.labels == -1])
    assert len(np.unique(picture[found.labels == 0], axis=0)) == 1
    with pytest.raises(ConfigError, match="Noisy finds the number of segments by itself"):
        segment_image(image, 3, method=Noisy())


def test_a_photograph_and_its_picture():
    image = load_sample_image("flower.jpg")[::4, ::4]
    found = segment_image(image, 6, random_state=0)
    error = (found.picture().astype(float) - image).std()
    assert error < 0.5 * image.astype(float).std()  # six colours hold three quarters of the variance
    figure = found.figure()
    assert [axes.get_title() for axes in figure.axes] == ["borders", "6 segments"]
    assert [axes.images[0].get_array().shape for axes in figure.axes] == [image.shape, image.shape]
    figure.canvas.draw()


@pytest.mark.parametrize(
    ("image", "said"),
    [
        (np.zeros((3, 20, 20)), r"this one \(3, 20, 20\); channels come last"),
        (np.zeros(5), r"this one \(5,\)"),
        (np.zeros((0, 4)), r"this one \(0, 4\)"),
        (np.array([["a"]]), "array of numbers"),
        (None, "array of numbers"),
        (np.array([[0.0, 1.0], [0.5, np.nan]]), "row 1, column 1 is not finite"),
        ("no-such.png", "no-such.png cannot be read as an image"),
    ],
)
def test_what_is_no_image_is_refused(image, said):
    with pytest.raises(DataError, match=said):
        segment_image(image, 2)


@pytest.mark.parametrize(
    ("settings", "error", "said"),
    [
        ({"n_segments": 0}, ConfigError, "n_segments must be an integer at least 1, or None, got 0"),
        ({"place": -1}, ConfigError, "place must be from 0 to 1e6, got -1"),
        ({"place": 1e308}, ConfigError, "place must be from 0 to 1e6, got 1e"),
        ({"sample": 1.5}, ConfigError, "sample must be an integer at least 2, or None, got 1.5"),
        ({"method": "kmean"}, ConfigError, "did you mean 'kmeans'"),
        ({"method": "mlp-classifier"}, ConfigError, "tabular-classification"),
        ({"method": 3}, ConfigError, "the name of a clustering or an estimator of one, got 3"),
        ({"method": Peer}, ConfigError, "an estimator of one, got <class"),
        ({"n_segments": 9, "image": np.zeros((2, 2))}, DataError, "9 is more than the 4 points"),
    ],
)
def test_parameters(settings, error, said):
    with pytest.raises(error, match=said):
        segment_image(**{"image": scene()[0], **settings})
