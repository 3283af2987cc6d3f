"""Targets with boxes: every form in which they are given, their scale, and each that can be no box."""

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from konspekt.core.errors import DataError
from konspekt.data.boxes import BoxReader
from konspekt.data.readers import source_of

IMAGES = np.random.default_rng(0).integers(0, 256, (4, 20, 40, 3), dtype=np.uint8)  # 40 wide, 20 high
LABELS = ["cat", "dog", "cat", "eel"]
PIXELS = np.array([[0, 0, 40, 20], [10, 5, 20, 15], [1.5, 2, 3, 4], [39, 19, 40, 20]])
SHARES = PIXELS / [40, 20, 40, 20]
FRAME = pd.DataFrame({"label": LABELS} | dict(zip(("left", "top", "right", "bottom"), PIXELS.T, strict=True)))


class Plain:
    """What the reader asks of an estimator."""

    image_size: int | None = 8
    on_bad, stream = "raise", "never"


def boxes(y, X=IMAGES, **params):
    estimator = type("Plain", (Plain,), params)()
    return BoxReader().open(estimator, X, y).y


def of_sides(frame):
    sides = pd.DataFrame({"x": frame.left, "y": frame.top, "width": frame.right - frame.left})
    return sides.assign(height=frame.bottom - frame.top, **{"class": frame.label})


ROWS = [[label, *row] for label, row in zip(LABELS, PIXELS.tolist(), strict=True)]
FORMS = {
    "a table": FRAME,
    "in another order, with more": FRAME[["bottom", "label", "right", "top", "left"]].assign(score=1.0),
    "as corners": FRAME.set_axis(["Name", "xmin", "ymin", "xmax", "ymax"], axis=1),
    "beside the size of the image": FRAME.set_axis(["class", "xmin", "ymin", "xmax", "ymax"], axis=1).assign(
        width=40, height=20
    ),
    "as sides": of_sides(FRAME),
    "as a corner and sides": of_sides(FRAME).rename(columns={"x": "left", "y": "top"}),
    "as sides, in short": of_sides(FRAME).rename(columns={"width": "w", "height": "h"}),
    "sides beside the size of the image": FRAME.assign(width=40, height=20),
    "by their places": FRAME.set_axis(list("abcde"), axis=1),
    "a mapping": FRAME.to_dict("list"),
    "a structured array": FRAME.astype({"label": "U3"}).to_records(index=False),
    "rows": ROWS,
    "an array of objects": np.array(ROWS, dtype=object),
    "a pair": (LABELS, PIXELS),
    "a pair of tensors": (np.array(LABELS), torch.from_numpy(PIXELS)),
}


@pytest.mark.parametrize("y", FORMS.values(), ids=FORMS)
def test_forms(y):
    found = boxes(y)
    assert found.labels.tolist() == LABELS
    assert found.boxes.dtype == np.float64
    np.testing.assert_allclose(found.boxes, SHARES, rtol=1e-12)


def test_labels_in_an_array_of_numbers_are_whole():
    rows = np.column_stack([[3, 1, 3, 7], PIXELS])
    for y in (rows, torch.from_numpy(rows), rows.tolist()):
        assert boxes(y).labels.tolist() == [3, 1, 3, 7]
        assert boxes(y).labels.dtype == np.int64


FAULTS = {
    "left of nothing": ([20, 5, 10, 15], "row 1 (image 1): left 20 is not less than right 10, so the box is empty"),
    "no width": ([10, 5, 10, 15], "left 10 is not less than right 10"),
    "no height": ([10, 5, 20, 5], "top 5 is not less than bottom 5, so the box is empty"),
    "before the image": ([-1, 5, 20, 15], "left -1 is outside of the image, which is 40 wide and 20 high"),
    "above the image": ([10, -0.5, 20, 15], "top -0.5 is outside"),
    "beyond the image": ([10, 5, 40.5, 15], "right 40.5 is outside of the image, which is 40 wide and 20 high"),
    "below the image": ([10, 5, 20, 21], "bottom 21 is outside"),
    "missing": ([np.nan, 5, 20, 15], "a side is missing (NaN) or infinite"),
    "infinite": ([10, 5, np.inf, 15], "a side is missing (NaN) or infinite"),
}


@pytest.mark.parametrize(("box", "message"), FAULTS.values(), ids=FAULTS)
def test_what_can_be_no_box(box, message):
    wrong = PIXELS.copy()
    wrong[1] = box
    with pytest.raises(DataError) as error:
        boxes((LABELS, wrong))
    assert "Plain: 1 of 4 boxes cannot be used (rows are counted from 0):" in str(error.value)
    assert message in str(error.value)


def test_all_of_them_are_listed():
    images = np.zeros((30, 8, 8), dtype=np.uint8)
    with pytest.raises(DataError) as error:
        boxes((["a"] * 30, np.array([[0, 0, 9, 9]] * 30)), images)
    lines = str(error.value).splitlines()
    assert "30 of 30 boxes" in lines[0]
    assert (len(lines), lines[20].strip()[:6], lines[21]) == (23, "row 19", "  and 10 more")


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (None, r"requires y to be passed, but the target y is None; give a table with the columns label, left"),
        ("label", r"y='label': one column is no box"),
        (ROWS[:3], r"X has 4 images and y has 3 boxes; each image has one"),
        (PIXELS, r"the boxes have shape \(4, 4\): give a table .* an array \(N, 5\)"),
        ((LABELS, PIXELS[:, :3]), r"labels \(4,\) and boxes \(4, 3\) are not \(N,\) and \(N, 4\)"),
        ((LABELS[:2], PIXELS), r"labels \(2,\) and boxes \(4, 4\)"),
        ([*ROWS[:3], ["eel", 1]], r"the rows of y differ in length"),
        (FRAME[["label", "left"]], r"no boxes in the columns label, left"),
        (
            FRAME.assign(left="wide"),
            r"row 0: the sides of boxes must be numbers \(could not convert string to float: 'wide'\)",
        ),
        (
            of_sides(FRAME)[["class", "x", "y", "width", "height"]].rename(columns={"x": "cx", "y": "cy"}),
            r"in the columns class, cx, cy, width, height width and height seem to be sizes, and it is not clear of what",
        ),
        ((LABELS, SHARES), r"all sides of boxes lie between 0 and 1, such as 0, 0, 1, 1: they seem to be shares"),
        (FRAME.assign(xmin=0, ymin=0, xmax=1, ymax=1), r"boxes twice, as left, top, right, bottom and as xmin, ymin"),
    ],
)
def test_what_holds_no_boxes(y, message):
    with pytest.raises(DataError, match=message):
        boxes(y)


@pytest.fixture
def table(tmp_path):
    """A csv of pictures of different sizes with a box in each; the last is stored turned."""
    draw = np.random.default_rng(1)
    rows, turned = [], Image.Exif()
    turned[0x0112] = 6
    for i, (height, width) in enumerate([(20, 40), (30, 16), (40, 20), (12, 24), (25, 25), (40, 20)]):
        image = Image.fromarray(draw.integers(0, 256, (height, width, 3), dtype=np.uint8))
        image.save(tmp_path / f"{i}.png", **({"exif": turned} if i == 5 else {}))
        wide = height if i == 5 else width
        rows.append({"path": f"{i}.png", "label": "ab"[i % 2], "left": 0, "top": 5, "right": wide, "bottom": 10})
    pd.DataFrame(rows).to_csv(tmp_path / "t.csv", index=False)
    return tmp_path / "t.csv"


HEIGHTS = np.array([20, 30, 40, 12, 25, 20])  # as they are seen


def test_boxes_of_a_table_of_paths(table):
    names = ("label", "left", "top", "right", "bottom")
    expected = np.column_stack([np.zeros(6), 5 / HEIGHTS, np.ones(6), 10 / HEIGHTS])
    for y in (None, names):
        found = boxes(y, table)
        assert found.labels.tolist() == ["a", "b"] * 3
        np.testing.assert_allclose(found.boxes, expected)
    reader, estimator = BoxReader(), type("Streaming", (Plain,), {"stream": "always"})()
    streamed = reader.stream(estimator, table, None, None)
    np.testing.assert_allclose(streamed.y.boxes, expected)
    assert streamed.data.sizes[:, 0].tolist() == HEIGHTS.tolist()
    assert source_of(str(table), names)["target"] == list(names)


def test_boxes_follow_the_images_that_are_left(table):
    (table.parent / "2.png").write_text("no picture")
    found = boxes(None, table, on_bad="skip")
    np.testing.assert_allclose(found.boxes[:, 1], np.delete(5 / HEIGHTS, 2))
    frame = pd.read_csv(table)
    frame.loc[4, "right"] = 99
    frame.to_csv(table, index=False)
    with pytest.raises(DataError, match=r"row 4 \(.*4\.png\): right 99 is outside of the image, which is 25 wide"):
        boxes(None, table, on_bad="skip")


def test_an_image_has_one_box(table):
    frame = pd.read_csv(table)
    pd.concat([frame, frame.iloc[[1]]]).to_csv(table, index=False)
    with pytest.raises(DataError, match=r"1\.png stands in rows 1 and 6: an image has one box here"):
        boxes(None, table)
