"""Duplicates between training and validation, identifiers, near-constant columns, and the quarantine."""

import json
import warnings

import numpy as np
import pandas as pd
import pytest
import torch

from konspekt import ImageClassifier, MLPClassifier
from konspekt.data.batches import Resident
from konspekt.data.fields import Ragged
from konspekt.engine.leakage import duplicates, identifiers


def batches(x, **more):
    return Resident({"x": x, "y": torch.arange(len(x)), **more})


def test_duplicates_are_counted_against_every_pair():
    draw = torch.Generator().manual_seed(0)
    x = torch.randint(0, 3, (60, 3), generator=draw).float()
    codes = torch.randint(0, 2, (60, 1), generator=draw)
    train = Resident({"x": x, "codes": codes, "y": torch.zeros(60)}, items=torch.arange(0, 40))
    held = Resident({"x": x, "codes": codes, "y": torch.ones(60)}, items=torch.arange(40, 60))
    count, pairs = duplicates(train, held)
    rows = torch.cat([x, codes], 1)
    wanted = sum(bool((rows[:40] == rows[i]).all(1).any()) for i in range(40, 60))
    assert 0 < wanted < 20
    assert count == wanted
    assert all(t < 40 <= h and torch.equal(rows[t], rows[h]) for t, h in pairs)


def test_pieces_of_different_lengths_are_compared_too():
    one = Ragged.of([torch.tensor([1, 2]), torch.tensor([3]), torch.tensor([4, 5, 6])])
    other = Ragged.of([torch.tensor([3]), torch.tensor([1, 2, 0])])
    assert duplicates(Resident({"x": one}), Resident({"x": other})) == (1, [[1, 0]])


def test_columns_that_number_or_name_the_rows_are_named():
    rows = [
        {"name": "id", "type": "number", "missing": 0, "unique": 100, "min": 1.0, "max": 100.0, "most": 1},
        {"name": "key", "type": "category", "missing": 10, "unique": 88, "most": 2},
        {"name": "size", "type": "number", "missing": 0, "unique": 100, "min": 0.5, "max": 9.25, "most": 1},
        {"name": "flag", "type": "category", "missing": 0, "unique": 2, "most": 100},
        {"name": "out", "type": "ignored", "missing": 0, "unique": 100, "most": 1},
    ]
    found = identifiers({"columns": rows, "rows": 100})
    assert [f["name"] for f in found] == ["id", "key", "flag"]
    assert "numbers the rows: 100 different values in 100 rows" in found[0]["why"]
    assert "types=id:ignored leaves it out" in found[0]["why"]
    assert "names the rows: 88 different values in 90 rows" in found[1]["why"]
    assert "has one value in 100 of 100 rows" in found[2]["why"]


def test_a_fit_says_so_in_the_log_and_in_data_json_and_warns_nobody(tmp_path):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"a": rng.normal(size=80), "id": np.arange(80)})
    frame["y"] = np.where(frame["a"] > 0, "p", "q")
    held = frame.iloc[[3, 5, 7]].copy()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        MLPClassifier(epochs=1, run_dir=str(tmp_path / "run")).fit(
            frame, "y", validation=(held.drop(columns="y"), held["y"])
        )
    leak = json.loads((tmp_path / "run" / "data.json").read_text())["leakage"]
    assert (leak["duplicates"], leak["examples"]) == (3, [[3, 0], [5, 1], [7, 2]])
    log = (tmp_path / "run" / "log.txt").read_text()
    assert "WARNING 3 of 3 held-out items stand among the training items too" in log
    assert "WARNING column 'id' numbers the rows" in log


def test_what_is_skipped_goes_into_quarantine(tmp_path):
    from PIL import Image

    rng = np.random.default_rng(0)
    folder = tmp_path / "images"
    for label in "ab":
        (folder / label).mkdir(parents=True)
        for number in range(4):
            Image.fromarray(rng.integers(0, 255, (16, 16), dtype=np.uint8)).save(folder / label / f"{number}.png")
    (folder / "a" / "broken.png").write_bytes(b"no image")
    run = tmp_path / "run"
    ImageClassifier(epochs=1, on_bad="skip", run_dir=str(run)).fit(str(folder))
    (entry,) = json.loads((run / "quarantine" / "items.json").read_text())
    assert entry["item"].endswith("broken.png")
    assert entry["reason"]
    assert (run / "quarantine" / entry["copy"]).read_bytes() == b"no image"
    assert "1 items were left out" in (run / "log.txt").read_text()


@pytest.mark.parametrize("as_frame", [True, False])
def test_rows_that_cannot_be_used_are_left_out_and_listed(tmp_path, as_frame):
    rng = np.random.default_rng(0)
    values, y = rng.normal(size=(40, 3)), np.where(np.arange(40) % 2, "p", "q").astype(object)
    values[4, 1] = np.inf
    y[9] = None
    X = pd.DataFrame(values, columns=["a", "b", "c"]) if as_frame else values
    run = tmp_path / "run"
    model = MLPClassifier(epochs=1, on_bad="skip", run_dir=str(run)).fit(X, y)
    listed = json.loads((run / "quarantine" / "items.json").read_text())
    assert [e["item"] for e in listed] == ["row 4", "row 9"]
    assert "infinite" in listed[0]["reason"]
    assert listed[1]["reason"] == "the target is missing"
    good = np.delete(np.arange(40), [4, 9])
    kept = X.iloc[good] if as_frame else X[good]
    straight = MLPClassifier(epochs=1).fit(kept, y[good].astype(str))
    for one, other in zip(model.model_.parameters(), straight.model_.parameters(), strict=True):
        assert torch.equal(one, other)
