"""The forecast, the list of runs and the card, as the command prints them."""

import json

import pytest

from konspekt.cli.tables import bytes_text, seconds_text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.0123, "0.0123 s"), (59, "59 s"), (125, "2 min 5 s"), (7500, "2 h 5 min")]
)
def test_seconds(seconds, text):
    assert seconds_text(seconds) == text


@pytest.mark.parametrize(("size", "text"), [(12, "12 bytes"), (3_200_000, "3.2 MB"), (5.5e12, "5.5e+03 GB")])
def test_bytes(size, text):
    assert bytes_text(size) == text


def test_dry_run_prints_layers_time_and_memory_and_leaves_nothing(tmp_path, run):
    code, out, _ = run("fit", "mlp-classifier", "data=iris", "hidden=8", "epochs=4", "--dry-run")
    assert code == 0
    lines = out.splitlines()
    assert lines[0].split() == ["layer", "type", "parameters"]
    assert "67 parameters together" in out  # 4 * 8 + 8 + 8 * 3 + 3
    assert "16 steps of" in out  # 120 items, 4 batches, 4 epochs
    assert any(line.startswith("time expected") for line in lines)
    assert any(line.startswith("memory expected on cpu") for line in lines)
    assert max(map(len, lines)) <= 80
    assert not list(tmp_path.iterdir())


def test_runs_are_listed_with_state_and_score(tmp_path, run):
    assert run("fit", "mlp-classifier", "data=iris", "epochs=2", "run_dir=runs/one")[0] == 0
    (tmp_path / "runs" / "two").mkdir()
    (tmp_path / "runs" / "two" / "config.yaml").write_text("not: a run")
    (tmp_path / "runs" / "junk").mkdir()
    code, out, _ = run("runs")
    assert code == 0
    rows = {line.split()[0]: line for line in out.splitlines()}
    assert set(rows) == {"run", "one", "two"}
    assert "finished" in rows["one"]
    assert "accuracy" in rows["one"]
    assert "damaged" in rows["two"]
    (one, two) = json.loads(run("runs", "--json")[1])[::-1]
    result = json.loads((tmp_path / "runs" / "one" / "result.json").read_text())
    assert (one["score"], one["epochs"], one["state"]) == (result["scores"]["accuracy"], 2, "finished")
    assert two["state"] == "damaged"
    code, _, err = run("runs", "nowhere")
    assert code == 1
    assert "nowhere: there is no such folder" in err


def test_the_card_says_data_scores_limits_and_takes_a_licence(tmp_path, run):
    run("fit", "mlp-classifier", "data=iris", "epochs=2", "run_dir=one")
    code, out, _ = run("card", "one")
    assert code == 0
    for words in (
        "## Data",
        "trained on 120 items of iris, 30 held out",
        "## Scores",
        "- accuracy 0.",
        "## Limits",
        "## Versions",
    ):
        assert words in out
    assert "not stated" in out
    code, out, _ = run("card", "one", "--licence", "CC BY 4.0\nand more")
    assert "## Licence\n\nCC BY 4.0 and more\n" in out
    assert run("evaluate", "one", "data=iris")[0] == 0  # the manifest agrees with the new card
    (tmp_path / "one" / "model" / "card.md").write_text("other")
    assert run("card", "one")[0] == 1
