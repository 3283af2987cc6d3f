"""One drawer for each kind that a run can keep."""

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from konspekt.core.runs import KINDS, Run
from konspekt.reports.drawers import DRAWERS, draw
from konspekt.reports.page import report


def test_every_kind_has_a_drawer():
    assert tuple(DRAWERS) == KINDS


def test_what_a_run_keeps_is_drawn(tmp_path, runs):
    """Through `Run.keep` and the disk, in all the forms that it documents."""
    folder = runs.bare(tmp_path / "a")
    run = Run(folder, resume=True)
    run.keep("values", "curve", {"a": np.arange(5.0), "b": [1, 2, float("nan")]})
    run.keep("pairs", "curve", {"a": (np.arange(3), np.arange(3.0) ** 2)})
    run.keep("named", "matrix", {"values": np.eye(3), "rows": ["a", "b", "c"], "columns": ["d", "e", "f"]})
    run.keep("large", "matrix", {"values": np.arange(3200.0).reshape(80, 40)})
    run.keep("dots", "scatter", {"x": np.arange(9), "y": np.arange(9), "xlabel": "u", "ylabel": "v"})
    run.keep("grey", "images", {"images": np.zeros((2, 5, 4)), "titles": ["p", "q"]})
    run.keep("colour", "images", {"images": np.full((3, 5, 4, 3), 200)})
    run.keep("rows", "table", [{"a": 1, "b": "x"}, {"b": None, "c": True}])
    run.keep("deep/er", "text", "one\n  two")
    run.close()
    source = report(folder).read_text(encoding="utf-8")
    assert "could not be shown" not in source
    for name in ("Values", "Pairs", "Named", "Large", "Dots", "Grey", "Colour", "Rows", "Deep/er"):
        assert f"<h3>{name}</h3>" in source
    assert source.count("<img") == 5


def test_curve():
    source = draw("a", "curve", {"train": [3, 2, 1], "held out": [[1, 2], [5, 4]]})
    assert "train" in source
    assert "held out: from 5 to 4" in source
    assert "var(--s0)" in source
    assert "var(--s1)" in source


def test_curve_over_decades_has_a_log_axis():
    rates = [10.0**-i for i in range(6, 0, -1)]
    source = draw("a", "curve", {"loss": [rates, [3.0, 2.9, 2.5, 1.0, 1.2, 9.0]]})
    places = [float(x) for x in re.findall(r'<use href="#[^"]+" x="([\d.]+)"', source)]
    gaps = np.diff(places[-6:])
    assert len(places) >= 6
    assert gaps.max() - gaps.min() < 1


def test_many_series():
    source = draw("a", "curve", {f"s{i}": [i, i + 1] for i in range(40)})
    assert "24 of 40 series are drawn" in source


def test_matrix():
    source = draw("a", "matrix", {"values": [[1, -2], [None, 0]], "rows": ["p", "q"], "columns": ["r", "s"]})
    assert re.findall(r'<td class="(\w+)" style="--a:([\d.]+)">(.*?)</td>', source) == [
        ("first", "0.50", "1"),
        ("second", "1.00", "−2"),
    ]
    assert ">–</td>" in source


def test_large_matrix_is_a_picture():
    source = draw("a", "matrix", {"values": np.arange(2000.0).reshape(50, 40).tolist()})
    assert "<table" not in source
    link = re.search(r'href="data:image/png;base64,([^"]+)"', source)[1]
    pixels = np.array(Image.open(io.BytesIO(base64.b64decode(link))).convert("RGBA"))
    assert pixels.shape == (50, 40, 4)
    assert pixels[..., 3].min() == pytest.approx(0.06 * 255, abs=1)
    assert pixels[..., 3].max() == 255
    assert "Faint is 0, full is 1\u202f999" in source


def test_scatter_is_thinned():
    values = np.random.default_rng(0).random(5000).tolist()
    source = draw("a", "scatter", {"x": values, "y": values, "xlabel": "u", "ylabel": "v"})
    assert source.count("<use") < 650
    assert "of 5 000 points are drawn" in source.replace("\u202f", " ")


@pytest.mark.parametrize(
    ("pixels", "expected"),
    [
        ([[0, 255]], [0, 255]),
        ([[0.0, 1.0]], [0, 255]),
        ([[-1.0, 3.0]], [0, 255]),
        ([[0, 510]], [0, 255]),
        ([[0.0, 0.5]], [0, 128]),
    ],
)
def test_pictures_become_bytes(pixels, expected):
    link = re.search(r'src="data:image/png;base64,([^"]+)"', draw("a", "images", {"images": [pixels]}))[1]
    assert np.array(Image.open(io.BytesIO(base64.b64decode(link)))).ravel().tolist() == expected


def test_table():
    source = draw("a", "table", [{"a": 1.5, "b": "x"}, {"a": None, "b": "<i>"}])
    assert '<td class="n">' not in source.split("</tr>")[0]
    assert "&lt;i&gt;" in source
    assert "And 100 more rows" in draw("a", "table", [{"a": i} for i in range(300)])
    assert "5 more columns" in draw("a", "table", [{f"c{i}": i for i in range(45)}])


def test_text():
    assert draw("a", "text", "a\n <b>") == '<pre class="text" tabindex="0">a\n &lt;b&gt;</pre>'


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("curve", 3), ("curve", {}), ("curve", {"a": 3}), ("curve", {"a": []}), ("curve", {"a": [[1, 2], [1]]}),
        ("curve", {"a": [None]}), ("matrix", {"values": []}), ("matrix", {"values": [[1], [1, 2]]}), ("matrix", {}),
        ("matrix", {"values": [[]]}), ("scatter", {"x": [1], "y": [1, 2]}), ("scatter", []), ("images", {"images": []}),
        ("images", {"images": [[1, 2]]}), ("images", {"images": [[["a"]]]}), ("images", {"images": [np.zeros((2, 2, 5)).tolist()]}),
        ("table", []), ("table", {"a": 1}), ("table", [1]), ("sound", []), (None, None), ([], 1),
    ],
)  # fmt: skip
def test_what_is_not_of_its_kind_is_named(kind, value):
    assert re.fullmatch(r'<p class="note">This could not be shown: .{8,}\.</p>', draw("a", kind, value), re.S)


def test_a_series_of_two_points_with_one_x_is_a_mark():
    lines = {"normal": [[0.01, 0.1, 1.0], [0.2, 0.5, 0.3]], "odd": [[0.01, 0.1, 1.0], [0.1, 0.1, 0.8]]}
    marked = draw("errors", "curve", lines | {"threshold": [[0.5, 0.5], [0.0, 1.0]]})
    assert "threshold: 0.5" in marked
    assert "threshold" not in draw("errors", "curve", lines)
    assert marked.count("normal: from 0.2 to 0.3") == draw("errors", "curve", lines).count("normal: from 0.2 to 0.3")
    alone = draw("errors", "curve", {"upright": [[0.5, 0.5], [0.0, 1.0]]})
    assert "could not be shown" not in alone
