"""Colours that can be read, light and dark."""

import re
from itertools import combinations
from pathlib import Path

import pytest

from konspekt import reports

STYLE = (Path(reports.__file__).parent / "style.html").read_text(encoding="utf-8")
LIGHT, DARK = (
    dict(re.findall(r"--([\w-]+): ([^;]+);", block)) for block in re.findall(r":root \{(.*?)\}", STYLE, re.S)
)


def rgb(text):
    if text.startswith("#"):
        return tuple(int(text[i : i + 2], 16) for i in (1, 3, 5))
    return tuple(map(int, text.split(",")))


def luminance(colour):
    linear = [c / 255 / 12.92 if c / 255 <= 0.04045 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in colour]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(a, b):
    """WCAG 2.2, contrast ratio."""
    bright, dim = sorted((luminance(a), luminance(b)), reverse=True)
    return (bright + 0.05) / (dim + 0.05)


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
@pytest.mark.parametrize("paint", ["ink", "muted", "s0", "s1", "s2", "s3", "s4", "s5"])
def test_text_reaches_aa(theme, paint):
    assert contrast(rgb(theme[paint]), rgb(theme["page"])) >= 4.5


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
@pytest.mark.parametrize("shade", ["first", "second"])
@pytest.mark.parametrize("alpha", [0.1, 0.4, 0.7, 1.0])
def test_numbers_on_shades_reach_aa(theme, shade, alpha):
    mixed = [alpha * s + (1 - alpha) * p for s, p in zip(rgb(theme[shade]), rgb(theme["page"]), strict=True)]
    assert contrast(rgb(theme["ink"]), mixed) >= 4.5


def test_both_themes_name_the_same_colours():
    assert LIGHT.keys() == DARK.keys()


# Viénot, Brettel and Mollon 1999: what a dichromat sees, on linear RGB
DICHROMATS = {
    "protan": ((0.11238, 0.88762, 0.0), (0.11238, 0.88762, 0.0), (0.00401, -0.00401, 1.0)),
    "deutan": ((0.29275, 0.70725, 0.0), (0.29275, 0.70725, 0.0), (-0.02234, 0.02234, 1.0)),
}


@pytest.mark.parametrize("kind", DICHROMATS)
@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
def test_the_first_two_series_differ_for_every_eye(theme, kind):
    def seen(colour):
        linear = [(c / 255) ** 2.2 for c in colour]
        return [sum(m * c for m, c in zip(row, linear, strict=True)) for row in DICHROMATS[kind]]

    for a, b in combinations(("s0", "s1"), 2):
        assert max(abs(x - y) for x, y in zip(seen(rgb(theme[a])), seen(rgb(theme[b])), strict=True)) > 0.15
