"""Quality of the data, leakage, and what was left out."""

import re

import pytest

from konspekt.reports.quality import leakage, left_out, quality
from konspekt.reports.reading import read_folder


def text_of(source):
    return " ".join(re.sub(r"<[^>]+>", " ", source or "").split())


@pytest.fixture
def told(tmp_path, runs):
    """What a function says of a folder with this data.json."""

    def tell(function, data):
        folder = runs.bare(tmp_path / "a")
        runs.write(folder, "data.json", data)
        return function(read_folder(folder))

    return tell


COLUMNS = [
    {"name": "age", "type": "number", "missing": 30, "unique": 55},
    {"name": "town", "type": "category", "missing": 1, "unique": 3, "top": [["Ulm", 990], ["Graz", 6]]},
    {"name": "country", "type": "ignored", "missing": 0, "unique": 1, "top": [["AT", 1000]]},
    {"name": "passport", "type": "category", "missing": 0, "unique": 1000, "top": [["x", 1]]},
]


def test_columns(told):
    text = text_of(told(quality, {"columns": COLUMNS, "rows": 1000}))
    assert "types: 2 categories, 1 number, 1 ignored" in text
    assert "missing values: 31 (0.78 % of all) in 2 columns: age (3.00 %), town (0.10 %)" in text
    assert "constant columns: country" in text
    assert "nearly constant columns: town (99.0 % are one value)" in text
    assert "another value in each row: passport: a name or a number of the row" in text


def test_rows_are_those_of_training_and_validation_where_nothing_else_says(told):
    text = text_of(told(quality, {"columns": COLUMNS[:2], "train": 80, "validation": 20}))
    assert "age (30.00 %)" in text
    assert "missing values: none" in text_of(told(quality, {"columns": COLUMNS[2:]}))


@pytest.mark.parametrize(
    ("counts", "expected", "unexpected"),
    [
        (
            [(50, 5), (40, 4)],
            "balance of the classes: 1.25 to 1: 50 items of class k0, 40 of class k1",
            "accuracy says little",
        ),
        (
            [(500, 5), (4, 0)],
            "125 to 1: 500 items of class k0, 4 of class k1; accuracy says little about the small ones",
            "none",
        ),
        ([(500, 5), (4, 0)], "classes with nothing held out: k1", "∞"),
        ([(5, 0), (4, 0)], "1.25 to 1", "nothing held out"),
        ([(5, 1), (0, 1)], "∞ to 1: 5 items of class k0, 0 of class k1", "nothing held out"),
    ],
)
def test_classes(told, counts, expected, unexpected):
    data = {"classes": [{"name": f"k{i}", "train": t, "validation": v} for i, (t, v) in enumerate(counts)]}
    text = text_of(told(quality, data))
    assert expected in text
    assert unexpected not in text


@pytest.mark.parametrize("data", [{}, {"columns": 3, "classes": "x"}, {"classes": [{"name": "a", "train": 4}]}])
def test_nothing_to_say(told, data):
    assert told(quality, data) is None


def test_leakage(told):
    found = {"duplicates": 2, "examples": [[4, 11], ["a.png", "b.png"]], "identifiers": [{"name": "id", "why": "all differ"}]}  # fmt: skip
    text = text_of(told(leakage, {"leakage": found}))
    assert "2 held-out items stand in the training data too: the score is partly memory." in text
    assert "training item held-out item 4 11 a.png b.png" in text
    assert "id: all differ" in text
    assert "<details>" not in told(leakage, {"leakage": found})


def test_many_leaks_are_folded(told):
    found = {"duplicates": 99, "examples": [[i, i + 1] for i in range(20)]}
    source = told(leakage, {"leakage": found})
    assert "<details><summary>20 pairs of them</summary>" in source
    assert source.count("<tr>") == 21


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ({"duplicates": 0, "examples": [], "identifiers": []}, "Leakage No held-out item stands in the training data too."),
        ({}, ""),
        (None, ""),
        ({"duplicates": "many"}, ""),
        ({"duplicates": 1, "examples": 7}, "Leakage 1 held-out item stands in"),
        ({"duplicates": 1, "examples": [3, [1]], "identifiers": [4]}, "Leakage 1 held-out item stands in"),
    ],
)  # fmt: skip
def test_no_leaks(told, found, expected):
    text = text_of(told(leakage, {"leakage": found}))
    assert text.startswith(expected)
    assert bool(text) == bool(expected)


def test_skipped_items_are_all_listed(told):
    items = [{"item": f"img-{i}.png", "reason": "is cut" if i % 4 else "is empty"} for i in range(300)]
    source = told(left_out, {"skipped": items})
    text = text_of(source)
    assert "300 skipped items Reasons reason items is cut 225 is empty 75" in text
    assert "<summary>All 300 skipped items</summary>" in source
    assert all(f">img-{i}.png<" in source for i in range(300))
    assert "<details>" not in told(left_out, {"skipped": items[:3]})
    assert ">img-2.png<" in told(left_out, {"skipped": items[:3]})


def test_reasons_beyond_the_first_are_counted(told):
    items = [{"item": i, "reason": f"reason {i % 25}"} for i in range(100)]
    assert "And 20 items for 5 other reasons." in text_of(told(left_out, {"skipped": items}))


def test_quarantine(tmp_path, runs):
    folder = runs.bare(tmp_path / "a")
    assert left_out(read_folder(folder)) is None
    (tmp_path / "secret.txt").write_text("x" * 5000)
    (folder / "quarantine" / "deep").mkdir(parents=True)
    (folder / "quarantine" / "batch-3.npz").write_bytes(b"x" * 2048)
    (folder / "quarantine" / "deep" / "<b>.png").write_bytes(b"x" * 10)
    (folder / "quarantine" / "link.txt").symlink_to(tmp_path / "secret.txt")
    (folder / "quarantine" / "up").symlink_to(tmp_path)
    source = left_out(read_folder(folder))
    text = text_of(source).replace("\u202f", " ")
    assert "Quarantine 2 files, 2.0 KiB" in text
    assert "batch-3.npz 2.0 KiB" in text
    assert "deep/&lt;b&gt;.png 10 B" in text
    assert "secret" not in text
    assert "link.txt" not in text


def test_a_quarantine_that_is_a_link_is_not_followed(tmp_path, runs):
    folder = runs.bare(tmp_path / "a")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "x.txt").write_text("x")
    (folder / "quarantine").symlink_to(tmp_path / "other")
    assert left_out(read_folder(folder)) is None
