import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from konspekt import ObjectLocalizer, load
from konspekt.core.errors import ConfigError, DataError
from konspekt.testing.tiny import tiny
from konspekt.vision.localizer import corners, pair_iou


@pytest.fixture(scope="module")
def bars():
    return tiny("object-localization", 160)


@pytest.fixture(scope="module")
def fitted(bars):
    return ObjectLocalizer(epochs=25, lr=5e-3, batch_size=16).fit(*bars)


def test_iou_is_the_share_of_pixels_that_two_boxes_share():
    rng = np.random.default_rng(0)
    boxes = np.sort(rng.integers(0, 13, size=(2, 200, 2, 2)), axis=2)
    boxes[:, :, 1] += 1  # no box is empty
    found = pair_iou(*(torch.tensor(b.reshape(-1, 4), dtype=torch.float64) for b in boxes))
    for iou, one, other in zip(found.tolist(), *boxes, strict=True):
        masks = np.zeros((2, 14, 14), dtype=bool)
        for mask, ((left, top), (right, bottom)) in zip(masks, (one, other), strict=True):
            mask[top:bottom, left:right] = True
        assert iou == pytest.approx(masks.all(0).sum() / masks.any(0).sum())
    assert float(pair_iou(torch.zeros(1, 4), torch.zeros(1, 4))) == 0


def test_corners_lie_in_the_image_in_order():
    boxes = corners(torch.randn(100, 4, generator=torch.Generator().manual_seed(0)) * 10)
    assert bool(((boxes >= 0) & (boxes <= 1)).all())
    assert bool((boxes[:, :2] <= boxes[:, 2:]).all())
    torch.testing.assert_close(corners(torch.zeros(1, 4)), torch.tensor([[0.25, 0.25, 0.75, 0.75]]))


def test_the_loss_is_that_of_the_class_and_of_the_box(fitted, bars):
    X, y = bars
    batch = fitted._batches(fitted.encode(X, y, truth=True)).take(torch.arange(9))
    out = fitted.model_(batch["x"]).detach()
    truth = torch.tensor(y[["left", "top", "right", "bottom"]].to_numpy()[:9] / 16, dtype=torch.float32)
    gap = (corners(out[:, 2:]) - truth).abs()
    box = torch.where(gap < 0.1, gap.square() / 0.2, gap - 0.05).sum(1)
    expected = F.cross_entropy(out[:, :2], batch["y"], reduction="none") + 5 * box
    torch.testing.assert_close(fitted.objective_.item_losses(batch).detach(), expected)
    torch.testing.assert_close(fitted.objective_.loss(batch, "model")["loss"].detach(), expected.mean())


def test_bars_are_named_and_found(fitted, bars):
    X, y = bars
    scores = fitted.evaluate(X, y)
    assert scores["accuracy"] > 0.95
    assert scores["iou"] > 0.7
    assert scores["located"] > 0.9
    assert fitted.score(X, y) == pytest.approx(scores["located"])
    frame = fitted.predict_frame(X)
    assert list(frame) == ["item", "prediction", "probability", "left", "top", "right", "bottom"]
    assert np.array_equal(frame[["left", "top", "right", "bottom"]].to_numpy(), fitted.predict_boxes(X))
    assert (frame["prediction"] == y["label"]).mean() == pytest.approx(scores["accuracy"])


def test_it_comes_back_to_the_bit(fitted, bars, tmp_path):
    back = load(fitted.save(tmp_path / "model"))
    assert np.array_equal(back.predict_boxes(bars[0]), fitted.predict_boxes(bars[0]))


def test_boxes_are_in_pixels_of_the_images_as_they_were_given(tmp_path):
    """Images of two sizes, all brought to 16 x 16; the net is told nothing but what the file says."""
    X, y = tiny("object-localization", 80)
    rows = []
    for i, (image, row) in enumerate(zip(X, y.itertuples(index=False), strict=True)):
        wide, high = (32, 16) if i % 3 else (16, 48)
        Image.fromarray(image).resize((wide, high), Image.Resampling.NEAREST).save(tmp_path / f"{i}.png")
        across, down = wide / 16, high / 16
        rows.append((f"{i}.png", row.label, row.left * across, row.top * down, row.right * across, row.bottom * down))
    pd.DataFrame(rows, columns=["path", "label", "xmin", "ymin", "xmax", "ymax"]).to_csv(
        tmp_path / "boxes.csv", index=False
    )
    same = {"epochs": 12, "lr": 5e-3, "batch_size": 16, "image_size": 16}
    by_file = ObjectLocalizer(**same).fit(tmp_path / "boxes.csv")
    streamed = ObjectLocalizer(**same, stream="always").fit(tmp_path / "boxes.csv", validation=tmp_path / "boxes.csv")
    for one, other in zip(by_file.model_.parameters(), streamed.model_.parameters(), strict=True):
        assert torch.equal(one, other)
    assert streamed.history_[-1]["val_iou"] == pytest.approx(by_file.evaluate(tmp_path / "boxes.csv")["iou"])
    assert by_file.evaluate(tmp_path / "boxes.csv")["iou"] > 0.5
    boxes = by_file.predict_boxes(tmp_path / "boxes.csv")
    truth = np.array([row[2:] for row in rows])
    ious = pair_iou(torch.tensor(boxes), torch.tensor(truth))
    assert float(ious.mean()) == pytest.approx(by_file.evaluate(tmp_path / "boxes.csv")["iou"], abs=1e-4)
    assert boxes[:, 3].max() > 20  # beyond what 16 pixels could hold


@pytest.mark.parametrize("augment", [("flip",), ("vertical-flip(p=1)",), ("shift",), ("rotate(degrees=180)",)])
def test_boxes_follow_the_images_when_these_are_augmented(bars, augment):
    fitted = ObjectLocalizer(epochs=25, lr=5e-3, batch_size=16, augment=augment, random_state=1).fit(*bars)
    moved = fitted.evaluate(bars[0][:, ::-1], upside_down(bars[1])) if "vertical" in augment[0] else None
    assert (moved or fitted.evaluate(*bars))["iou"] > 0.5


def upside_down(y):
    return y.assign(top=16 - y["bottom"], bottom=16 - y["top"])


def test_the_report_has_pictures_of_the_boxes(bars, tmp_path):
    fitted = ObjectLocalizer(epochs=2, run_dir=str(tmp_path / "run"), validation_fraction=0.25).fit(*bars)
    kind, value = fitted.run_.kept["boxes"]
    assert kind == "images"
    assert value["images"].shape == (12, 160, 160, 3)
    assert "IoU 0." in value["titles"][0]
    assert value["titles"][0].startswith(("upright: found", "lying: found"))


def test_pictures_of_large_images_are_made_smaller(tmp_path):
    X = np.random.default_rng(0).integers(0, 256, (6, 240, 800), dtype=np.uint8)
    y = (list("ababab"), [[100, 20, 700, 200]] * 6)
    fitted = ObjectLocalizer(arch="resnet20(width=0.1)", epochs=1, run_dir=str(tmp_path / "run")).fit(X, y)
    assert fitted.run_.kept["boxes"][1]["images"].shape == (6, 96, 320, 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"right": 17}, "row 3 (image 3): right 17 is outside of the image, which is 16 wide and 16 high"),
        ({"right": 0, "left": 0}, "row 3 (image 3): left 0 is not less than right 0, so the box is empty"),
        ({"top": float("nan")}, "row 3 (image 3): a side is missing (NaN) or infinite"),
    ],
)
def test_boxes_that_cannot_be(bars, change, message):
    X, y = bars
    y = y.astype({name: float for name in change})
    for name, value in change.items():
        y.loc[3, name] = value
    with pytest.raises(DataError) as error:
        ObjectLocalizer().fit(X, y)
    assert message in str(error.value)


def test_what_boxes_cannot_do(bars):
    with pytest.raises(ConfigError, match="augment='mixup' mixes two images, and their boxes cannot be mixed"):
        ObjectLocalizer(augment=("mixup",)).fit(*bars)
    with pytest.raises(ConfigError, match="a box's loss is no likelihood"):
        ObjectLocalizer(optimizer="natural-gradient(estimate='true')", epochs=1, arch="mlp(hidden=(4,))").fit(*bars)
