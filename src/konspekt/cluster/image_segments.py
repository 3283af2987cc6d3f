"""Segments of an image: clusters of its pixels by colour and place. Course: row J8 (document I, section 38).

Each pixel is a point: its colour in CIELAB, where distances are about those that are seen (CIE 15, 2004), and its row and column,
weighted (as in Achanta et al. 2012). A sample of the pixels is clustered, and all pixels are given to what was found.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from konspekt.core.errors import ConfigError, DataError
from konspekt.core.params import build, params_of, split_call
from konspekt.core.registry import lookup, system

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Segments", "lab", "segment_image"]

CHUNK = 1 << 17  # pixels that are predicted at once
LIMIT = 3_000  # sampled pixels where a method takes the square of their number
# sRGB (IEC 61966-2-1) to XYZ, relative to the white of D65
TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
WHITE = TO_XYZ.sum(axis=1)


@dataclass(frozen=True)
class Segments:
    """What `segment_image` found.

    labels: (H, W) int64, the segment of each pixel, the largest is 0; -1 where the method called a pixel noise.
    image: (H, W) or (H, W, 3), the image with values in [0, 1]. colours: (K, 1) or (K, 3), the mean colour of each segment.
    sizes: (K,), the pixels of each.
    """

    labels: NDArray[np.int64]
    image: NDArray[np.float64]
    colours: NDArray[np.float64]
    sizes: NDArray[np.int64]

    def picture(self) -> NDArray[np.uint8]:
        """The image in the mean colours of its segments, (H, W, 3) uint8; noise keeps its own."""
        flat = np.broadcast_to(self.image.reshape(*self.labels.shape, -1), (*self.labels.shape, 3)).copy()
        known = self.labels >= 0
        flat[known] = np.broadcast_to(self.colours, (len(self.colours), 3))[self.labels[known]]
        return np.rint(255 * flat).astype(np.uint8)

    def borders(self) -> NDArray[np.bool_]:
        """(H, W): where a pixel's right or lower neighbour is of another segment."""
        found = np.zeros(self.labels.shape, dtype=bool)
        found[:, :-1] = self.labels[:, :-1] != self.labels[:, 1:]
        found[:-1] |= self.labels[:-1] != self.labels[1:]
        return found

    def figure(self) -> Figure:
        """The image with the segments' borders, and the segments in their mean colours, as a matplotlib figure."""
        from matplotlib.figure import Figure

        picture = self.picture()
        lined = np.broadcast_to(self.image.reshape(*self.labels.shape, -1), picture.shape).copy()
        lined[self.borders()] = (1.0, 1.0, 0.0) if self.image.mean() < 0.6 else (0.8, 0.0, 0.4)
        height, width = self.labels.shape
        figure = Figure(figsize=(9, 0.5 + 4.5 * height / width), layout="constrained")
        for axes, shown, title in zip(
            figure.subplots(1, 2), (lined, picture), ("borders", f"{len(self.sizes)} segments"), strict=True
        ):
            axes.imshow(shown, interpolation="nearest")
            axes.set_title(title)
            axes.set_axis_off()
        return figure


@system(name="segment-image", kind="tool", rows=("J8",), paper="Shi & Malik 2000; Achanta et al. 2012")
def segment_image(
    image: Any,
    n_segments: int | None = None,
    *,
    method: Any = "kmeans",
    place: float = 0.3,
    sample: int | None = 20_000,
    random_state: int | None = None,
) -> Segments:
    """Divide an image into segments: clusters of its pixels by colour and place.

    image: a file, a Pillow image, or an array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4, whose opacity is left out); uint8, or floats
    and other integers, which are scaled by their own range unless all are within [0, 1].
    n_segments: how many; None: 8 where `method` needs to be told, else as the method finds.
    method: the name of a registered clustering, with arguments if need be ("gaussian-mixture(covariance_type='diag')", "mean-shift"),
    or an unfitted estimator of clusters, konspekt's or scikit-learn's, of which a copy is fitted.
    place: the weight of rows and columns beside colour. 0: colour alone, so that a segment may be scattered. At 1 the longer side of the image counts
    as much as the way from black to white.
    sample: how many pixels, drawn without repetition, are clustered; None: all, and slowly. The others go where `predict` says, or, for
    a method that has none, where their nearest sampled pixel is. Methods that keep a number for each pair of points get 3,000.
    random_state: the seed of the sample and of the method.

    Raises DataError where the image is none, ConfigError on a parameter.
    """
    _check(n_segments, place, sample, random_state)
    seed = secrets.randbits(31) if random_state is None else int(random_state)
    pixels = _read(image)
    height, width = pixels.shape[:2]
    points = _points(pixels, place)
    estimator = _estimator(method, n_segments, seed)
    if sample is not None and _needs_pairs(estimator):
        sample = min(sample, LIMIT)
    chosen = np.arange(len(points))
    if sample is not None and sample < len(points):
        chosen = np.sort(np.random.default_rng(seed).choice(len(points), sample, replace=False))
    labels = _labels(estimator, points, chosen)
    own, counts = np.unique(labels[labels >= 0], return_counts=True)
    rank = np.full(int(own.max(initial=-1)) + 2, -1, dtype=np.int64)  # the last is for -1
    rank[own[np.argsort(-counts, kind="stable")]] = np.arange(len(own))
    labels, sizes = rank[labels], np.sort(counts)[::-1]
    flat, known = pixels.reshape(len(labels), -1), labels >= 0
    colours = np.stack([np.bincount(labels[known], weights=c[known], minlength=len(own)) for c in flat.T], axis=1)
    shown = pixels[..., 0] if pixels.shape[2] == 1 else pixels
    return Segments(labels.reshape(height, width), shown, colours / sizes[:, None], sizes)


def _check(n_segments: Any, place: Any, sample: Any, random_state: Any) -> None:
    for name, value, low in (("n_segments", n_segments, 1), ("sample", sample, 2), ("random_state", random_state, 0)):
        whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
        if value is not None and not (whole and value >= low):
            raise ConfigError(f"segment_image: {name} must be an integer at least {low}, or None, got {value!r}")
    if isinstance(place, bool) or not isinstance(place, (int, float)) or not 0 <= place <= 1e6:
        raise ConfigError(f"segment_image: place must be from 0 to 1e6, got {place!r}")


def _read(image: Any) -> NDArray[np.float64]:
    """The pixels (H, W, C), C 1 or 3, in [0, 1]."""
    from pathlib import Path

    from PIL import Image, UnidentifiedImageError

    if isinstance(image, (str, Path)):
        try:
            with Image.open(image) as opened:
                image = opened.convert("L" if opened.mode in ("1", "L") else "RGB")
        except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
            raise DataError(f"segment_image: {image} cannot be read as an image ({error})") from None
    elif isinstance(image, Image.Image) and image.mode not in ("L", "RGB", "I", "F", "I;16"):
        image = image.convert("RGB")
    pixels = np.asarray(image)
    if pixels.dtype.kind not in "buif":
        raise DataError(f"segment_image: an image is an array of numbers, this one is of {pixels.dtype}")
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 3, 4) or pixels.size == 0:
        shape = pixels.shape[:2] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels.shape
        raise DataError(
            f"segment_image: an image has the shape (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), this one {shape}; channels come last"
        )
    pixels = pixels[..., :3]
    if pixels.dtype == np.uint8:
        return pixels / 255.0
    pixels = pixels.astype(np.float64)
    if not np.isfinite(pixels).all():
        row, column = (int(i) for i in np.argwhere(~np.isfinite(pixels))[0][:2])
        raise DataError(f"segment_image: the pixel in row {row}, column {column} is not finite; mend it")
    low, high = pixels.min(), pixels.max()
    return pixels if low >= 0 and high <= 1 else (pixels - low) / (high - low or 1.0)


def _points(pixels: NDArray[np.float64], place: float) -> NDArray[np.float32]:
    """Each pixel as a point (H W, C + 2), or (H W, C) without a weight of the place; from black to white is 1."""
    height, width, channels = pixels.shape
    flat = pixels.reshape(-1, channels)
    colours = lab(flat) / 100 if channels == 3 else flat
    parts = [colours.astype(np.float32)]
    if place > 0:
        scale = place / max(height - 1, width - 1, 1)
        rows, columns = np.mgrid[:height, :width].reshape(2, -1).astype(np.float32)
        parts.append(np.stack([rows, columns], axis=1) * np.float32(scale))
    return np.concatenate(parts, axis=1)


def lab(colours: NDArray[np.float64]) -> NDArray[np.float64]:
    """Colours of sRGB in [0, 1], (N, 3), in CIELAB under D65: L from 0 to 100, a and b."""
    linear = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    xyz = linear @ TO_XYZ.T / WHITE
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz * (29 / 6) ** 2 / 3 + 4 / 29)
    x, y, z = f.T
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=1)


def _estimator(method: Any, n_segments: int | None, seed: int) -> Any:
    """The estimator that is to be fitted: one of the registry by name, or a copy of the one given."""
    if not isinstance(method, str):
        if not hasattr(method, "fit") or not hasattr(method, "get_params") or isinstance(method, type):
            raise ConfigError(
                f"segment_image: method must be the name of a clustering or an estimator of one, got {method!r}"
            )
        from sklearn.base import clone

        estimator, known, given = clone(method), set(method.get_params()), set()
    else:
        name, arguments = split_call(method, "segment_image: method")
        entry = lookup("estimator", name)
        if entry.task != "clustering":
            raise ConfigError(f"segment_image: method must be a clustering, and {name!r} is for {entry.task}")
        known, given = set(params_of(entry.load())), set(arguments)
        estimator = build("estimator", method)
    count = next((p for p in ("n_clusters", "n_components") if p in known), None)
    if n_segments is not None and count is None:
        raise ConfigError(
            f"segment_image: {type(estimator).__name__} finds the number of segments by itself; leave n_segments out"
        )
    if count is not None and (n_segments is not None or (isinstance(method, str) and count not in given)):
        estimator.set_params(**{count: n_segments or 8})
    if "random_state" in known and estimator.get_params()["random_state"] is None:
        estimator.set_params(random_state=seed)
    return estimator


def _needs_pairs(estimator: Any) -> bool:
    """Whether the method keeps a number for each pair of points: of ours, those that have no clusters for new points."""
    return not hasattr(estimator, "predict")


def _labels(estimator: Any, points: NDArray[np.float32], chosen: NDArray[np.int64]) -> NDArray[np.int64]:
    part = points[chosen]
    estimator.fit(part)
    found = np.asarray(estimator.labels_ if hasattr(estimator, "labels_") else estimator.predict(part))
    if len(part) == len(points):
        return found.astype(np.int64)
    if hasattr(estimator, "predict"):
        starts = range(0, len(points), CHUNK)
        return np.concatenate([estimator.predict(points[s : s + CHUNK]) for s in starts]).astype(np.int64)
    from scipy.spatial import KDTree

    return found[KDTree(part).query(points)[1]].astype(np.int64)  # type: ignore[no-any-return]
