"""The section about a pruning, from what the run has kept."""

import pytest

from konspekt.reports.page import render
from konspekt.reports.pruned import pruning
from konspekt.reports.reading import read_folder


def row(share, removed, parameters, adds, before, after):
    return {
        "share": share, "removed": removed, "parameters": parameters, "multiply-adds": adds, "seconds an item": 1e-3,
        "accuracy before fine-tuning": before, "accuracy": after,
    }  # fmt: skip


ROWS = [
    row(0.0, "nothing", 2000, 9000, 0.97, 0.97),
    row(0.5, "layer1.1", 1500, 6000, 0.7, 0.95),
    row(0.8, "layer1.1, layer2.1", 500, 3000, 0.3, 0.9),
]


def folder_of(tmp_path, runs, value, kind="table"):
    folder = runs.bare(tmp_path / "a")
    runs.write(folder, "kept/pruning.json", {"kind": kind, "value": value})
    return read_folder(folder)


def test_curve_story_and_table(tmp_path, runs):
    folder = folder_of(tmp_path, runs, ROWS)
    source = pruning(folder)
    assert (
        "In 2 steps layer1.1, layer2.1 were taken out: accuracy 97.0\u202f% with all, 90.0\u202f% at the end." in source
    )
    assert "Left: 25.0\u202f% of the parameters (500 of 2\u202f000), 33.3\u202f% of the multiply-adds" in source
    assert source.count("<svg") == 2
    assert "accuracy against parameters" in source
    page = render(folder)
    assert page.count("accuracy against parameters") == source.count(
        "accuracy against parameters"
    )  # and not kept twice
    assert "Kept by the system" not in page


def test_sizes_that_do_not_change_are_not_drawn(tmp_path, runs):
    source = pruning(folder_of(tmp_path, runs, [r | {"multiply-adds": 9000} for r in ROWS]))
    assert source.count("<svg") == 1


def test_runs_without_a_pruning(tmp_path, runs):
    assert pruning(read_folder(runs.bare(tmp_path / "b"))) is None
    folder = folder_of(tmp_path, runs, "a word", kind="text")
    assert pruning(folder) is None
    assert "a word" in render(folder)


@pytest.mark.parametrize(
    "value",
    [
        [{"share": 1}],
        [{}],
        [r | {"parameters": None, "multiply-adds": "many", "accuracy": None} for r in ROWS],
        [r | {"removed": "<script>alert(1)</script>"} for r in ROWS],
        ROWS[:1],
    ],
)
def test_a_folder_is_not_trusted(tmp_path, runs, value):
    page = render(folder_of(tmp_path, runs, value))
    assert "<script>" not in page
    assert "Pruning cannot be shown" not in page
