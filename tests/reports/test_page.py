"""The page: what stands in it, that it is whole and alone, and that it never fails."""

import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from itertools import pairwise
from types import SimpleNamespace

import matplotlib
import numpy as np
import pytest
from markupsafe import Markup

from konspekt.core.errors import ConfigError, DataError, ResourceError
from konspekt.reports import figures, page
from konspekt.reports.page import report
from konspekt.reports.words import GAP

VOID = {"meta", "img", "br", "hr", "input", "link"}


class Page(HTMLParser):
    """Checks nesting while it reads, and gathers tags, texts and ids."""

    def __init__(self, source):
        super().__init__(convert_charrefs=True)
        self.open, self.tags, self.ids, self.words = [], [], [], []
        self.feed(source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.ids += [v for k, v in attrs if k == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not self.open or self.open[-1] not in ("style", "script"):
            self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())

    def of(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]


def read(folder):
    """Write the page, check what holds for every page, and hand it out."""
    source = report(folder).read_text(encoding="utf-8")
    seen = Page(source)
    assert source.startswith("<!doctype html>")
    assert seen.of("html")[0]["lang"] == "en"
    assert len(seen.ids) == len(set(seen.ids)), "an id stands twice"
    assert seen.of("script") == []
    for _, attrs in seen.tags:
        assert not [k for k in attrs if k.startswith("on")]
        for key in ("src", "href", "xlink:href", "srcset", "action"):
            link = attrs.get(key) or "#"
            assert link.startswith(("#", "data:image/"))
            assert not link.startswith("#") or link == "#" or link[1:] in seen.ids
        for target in re.findall(r"url\(#?([^)]*)\)", str(attrs.get("clip-path", "")) + str(attrs.get("style", ""))):
            assert target in seen.ids
    assert "http://" not in source
    assert "https://" not in source
    assert "@import" not in source
    levels = [int(tag[1]) for tag, _ in seen.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b - a <= 1 for a, b in pairwise(levels))
    for tag, attrs in seen.tags:
        if tag == "svg":
            assert attrs["role"] == "img"
            assert attrs["aria-label"]
        if tag == "img":
            assert attrs["alt"]
    return seen


def test_classification(tmp_path, runs):
    seen = read(runs.classification(tmp_path / "digits-run"))
    for words in (
        "image-classifier on digits", f"88.6{GAP}%", "accuracy on held-out data", "finished", "epoch 9, the best one",
        "Always answering the most frequent class would reach", "10 classes", f"61{GAP}706", "1 warning, 1 skipped item",
        "class '8' has 12 items only", "cannot be read: the file is cut", "notes.txt, Thumbs.db",
        "pictures of 2 sizes", "Accuracy", "Learning rate", "Gradient norm by layer", "Confusions",
        "How sure, how right", "0 → 1", "loss 6.5", "First filters", "Class likeness", "Conv2d(1, 6)",
        "konspekt fit image-classifier data=digits epochs=12", "(64, 32)", "2.13.0", "Linux-6.8-x86_64",
        "log.txt, 3 lines", "An epoch took 4",
    ):  # fmt: skip
        assert " ".join(words.split()) in seen.text, words
    assert "cannot be shown" not in seen.text
    assert "could not be shown" not in seen.text
    assert [a["id"] for a in seen.of("section")] == [a["href"][1:] for a in seen.of("a")][1:]
    assert len(seen.of("img")) == 12 + 10 + 6
    assert any("Item 0: truth 0, prediction 1" in a["alt"] for a in seen.of("img"))
    labels = [a["aria-label"] for a in seen.of("svg")]
    assert any(label.startswith("Loss. validation: from 1.6") for label in labels)


def test_what_a_fit_finds_out_before_it_begins(tmp_path, runs):
    seen = read(runs.full(tmp_path / "a"))
    text = seen.text.replace(GAP, " ")
    for words in (
        "40 skipped items", "All 40 skipped items", "digits/4/broken-39.png", "Quarantine 1 file", "batch-17.json",
        "balance of the classes: 1.52 to 1", "3 held-out items stand in the training data too", "a.png b.png",
        "id: every value differs", "Learning-rate range test", "Running estimate of the risk", "First-layer filters",
        "forecast actual actual / forecast time 20.0 s 10.0 s 0.5 × memory 100 MiB 150 MiB 1.5 × a step 4 ms –",
        "Chosen by the run fit.lr 0.00316 fit.compile no", "Measures by class", "Precision and recall",
    ):  # fmt: skip
        assert words in text, words
    labels = [a["aria-label"] for a in seen.of("svg")]
    tested = next(label for label in labels if label.startswith("Learning-rate range test"))
    assert "loss: from 2.3 " in tested
    assert "lowest 0.822 at learning rate 0.0501" in tested
    risk = next(label for label in labels if label.startswith("Running estimate of the risk"))
    assert "running estimate: from 2.3 to " in risk
    assert not any(label.startswith("Risk") for label in labels)
    assert "Learning rate range test" not in text  # not among the kept things besides
    assert "cannot be shown" not in text


def test_the_rate_that_was_taken_is_marked_and_the_explosion_cut(tmp_path, runs):
    folder = runs.full(tmp_path / "a")
    source = report(folder).read_text(encoding="utf-8")
    assert ">taken: 0.003162</text>" in source
    assert "It ends where the loss explodes; rates up to 10 were tried." in source
    tested = next(a["aria-label"] for a in Page(source).of("svg") if a["aria-label"].startswith("Learning-rate range"))
    value = json.loads((folder / "kept/learning-rate range test.json").read_text())["value"]["loss"]
    least = min(value[1])
    shown = [v for v in value[1] if v <= value[1][0] + 1.5 * (value[1][0] - least)]
    assert f"highest {max(shown):.3g} " in tested
    runs.keep(folder, "learning-rate range test", "curve", {"loss": value, "taken": [[5.0], [1.0]]})
    assert "taken: " not in report(folder).read_text(encoding="utf-8")  # it lies where nothing is drawn


@pytest.mark.parametrize(
    ("chosen", "told"),
    [
        ({"fit.compile": 120}, "fit.compile from step 120"),
        ({"compile": False}, "compile False"),
        ({"a": "x<y"}, "a 'x<y'"),
    ],
)
def test_what_the_run_chose(tmp_path, runs, chosen, told):
    folder = runs.bare(tmp_path / "a")
    runs.write(folder, "chosen.json", chosen)
    assert f"Chosen by the run {told} What was left" in read(folder).text


def test_a_range_test_that_is_none_is_named_where_kept_things_stand(tmp_path, runs):
    folder = runs.full(tmp_path / "a")
    runs.keep(folder, "learning-rate range test", "curve", {"loss": 3})
    assert "Learning rate range test This could not be shown" in read(folder).text


def test_a_forecast_alone(tmp_path, runs):
    folder = runs.bare(tmp_path / "a")
    for result, expected in (
        ({"forecast": {"seconds": 2.0}}, "Forecast and actual Forecast forecast actual time 2.0 s –"),
        ({"forecast": {"memory": 512, "seconds": "x"}, "actual": {"memory": 1024}}, "memory 512 B 1.0 KiB 2 ×"),
        ({"actual": {"seconds": 2.0}}, None),
        ({"forecast": [1], "actual": 3}, None),
    ):
        runs.write(folder, "result.json", result)
        text = read(folder).text.replace(GAP, " ")
        assert (expected in text) if expected else ("Forecast" not in text), text


def test_the_confusion_matrix_counts(tmp_path, runs):
    folder = runs.bare(tmp_path / "a")
    truth, said = np.array(["a", "a", "b", "b", "b", "c"]), np.array(["a", "b", "b", "b", "c", "c"])
    np.savez(folder / "validation.npz", truth=truth, prediction=said, index=np.arange(6), loss=np.ones(6))
    source = report(folder).read_text(encoding="utf-8")
    grid = source[source.index('<table class="grid') :]
    rows = re.findall(r'<tr><th scope="row">(.*?)</th>(.*?)</tr>', grid[: grid.index("</table>")])
    cells = {name: re.findall(r"<td[^>]*>(.*?)</td>", row) for name, row in rows}
    assert cells["a"] == ["1", "1", "·", f"50.0{GAP}%"]
    assert cells["b"] == ["·", "2", "1", f"66.7{GAP}%"]
    assert cells["c"] == ["·", "·", "1", f"100.0{GAP}%"]


def test_many_classes_become_pairs(tmp_path, runs):
    seen = read(runs.classification(tmp_path / "a", tuple(f"kind {i}" for i in range(60)), 900))
    assert "60 classes: the pairs most often confused" in seen.text
    assert "The 15 largest and the 15 smallest of 60 classes" in seen.text
    assert "Confusion matrix" not in [a.get("aria-label") for a in seen.of("div")]


def test_regression(tmp_path, runs):
    seen = read(runs.regression(tmp_path / "flats"))
    for words in (
        "mlp-regressor on flats.csv", "0.831", "R² on held-out data", "3 columns", "constant", "area in m²",
        "Mitte (410)", "price", "days on the market", "Prediction and truth", "Residuals", "How large the residuals are",
        "The learning rate was 0.001 throughout", "konspekt.MLPRegressor(", "hidden=(64, 64),", "model.fit(X, y)",
        "activation='relu'", "/data/houses/flats.csv",
    ):  # fmt: skip
        assert words in seen.text, words
    assert "cannot be shown" not in seen.text
    assert len(seen.of("svg")) == 4 + 2 * 3


def test_the_errors_by_target(tmp_path, runs):
    folder = runs.bare(tmp_path / "a")
    truth = np.array([1.0, 2.0, 3.0, 4.0])
    np.savez(
        folder / "validation.npz", truth=truth, prediction=np.array([1, 2, 3, 6.0]), index=np.arange(4), loss=truth
    )
    seen = read(folder)
    assert "y 0.2 1 0.5 −0.5" in seen.text  # R² = 1 − 4/5, RMSE = √(4/4), MAE = 2/4, mean of truth − prediction


def test_stages(tmp_path, runs):
    seen = read(runs.stages(tmp_path / "a"))
    assert "Stage fine-tune was interrupted after 2 epochs" in seen.text
    assert "pretrain" in seen.text
    assert "cluster" in seen.text
    assert "best: 8" in seen.text  # 4 epochs of the first stage, and the fourth of the second
    assert "on held-out data, last epoch" in seen.text


def test_almost_nothing(tmp_path, runs):
    seen = read(runs.bare(tmp_path / "a"))
    assert "interrupted The run ended before its first record" in seen.text
    assert "data.json is absent" in seen.text
    assert "validation.npz is absent" in seen.text


@pytest.fixture
def undrawn(monkeypatch):
    """Matplotlib takes most of the time; these tests are about the rest."""

    def box(name, label, draw, **layout):
        return Markup('<svg role="img" aria-label="{}"></svg>').format(label)

    monkeypatch.setattr(figures, "svg", box)


@pytest.mark.parametrize(
    "missing", ["metrics.jsonl", "data.json", "validation.npz", "items/items.json", "result.json", "log.txt"]
)
def test_any_file_may_be_absent(tmp_path, runs, undrawn, missing):
    folder = runs.classification(tmp_path / "a", count=60)
    (folder / missing).unlink()
    assert "cannot be shown" not in read(folder).text


@pytest.mark.parametrize(
    "damaged",
    [
        "metrics.jsonl",
        "data.json",
        "validation.npz",
        "items/items.json",
        "result.json",
        "chosen.json",
        "kept/attempts.json",
    ],
)
@pytest.mark.parametrize(
    "content",
    [b"", b"\xff\x00{", b"[1, [2], {}]\n{}\n", b'{"columns": 3, "classes": [{}], "scores": {"accuracy": "x"}}'],
)
def test_any_file_may_be_damaged(tmp_path, runs, undrawn, damaged, content):
    folder = runs.regression(tmp_path / "a", count=20)
    runs.keep(folder, "attempts", "table", [{"a": 1}])
    (folder / damaged).write_bytes(content)
    text = read(folder).text
    assert "mlp-regressor on flats.csv" in text
    # JSON that is whole but says odd things is taken for what it is worth; whatever else is damaged, the page names.
    whole = content.startswith(b"{") and damaged in ("data.json", "items/items.json", "result.json", "chosen.json")
    assert (damaged.rpartition("/")[2] in text) is not whole


def test_what_is_damaged_is_named(tmp_path, runs):
    folder = runs.regression(tmp_path / "a", count=20)
    (folder / "validation.npz").write_bytes(b"PK")
    (folder / "data.json").write_bytes(b"{")
    seen = read(folder)
    assert "Not shown on this page" in seen.text
    assert "validation.npz: not readable" in seen.text
    assert "data.json: not readable as JSON" in seen.text
    assert str(tmp_path) not in seen.text


def test_pickles_are_not_read(tmp_path, runs):
    folder = runs.bare(tmp_path / "a")
    np.savez(folder / "validation.npz", truth=np.array([{}], dtype=object), prediction=np.array([1]))
    assert "validation.npz: not readable" in read(folder).text


def test_hostile_names(tmp_path, runs):
    names = (
        runs.HOSTILE,
        '"><img src=x onerror=alert(1)>',
        "$\\frac{1}",
        "猫",
        "a\x00b\ud800",
        "{{ 7*7 }}",
        "]]>",
        "",
        "x" * 300,
    )
    folder = runs.classification(tmp_path / runs.HOSTILE.replace("/", "_"), names[:4] + names[5:])
    for kind, value in (
        ("curve", {n: [1, 2] for n in names}),
        ("matrix", {"values": [[1.0] * 9] * 9, "rows": list(names), "columns": list(names)}),
        ("scatter", {"x": [1], "y": [2], "xlabel": names[0], "ylabel": names[2]}),
        ("table", [{n: n for n in names}]),
        ("text", " ".join(names)),
        (runs.HOSTILE, 1),
    ):
        runs.keep(folder, f"of {kind[:3]}<b>&\"'", kind, value)
    runs.config(folder, system=runs.HOSTILE, command=runs.HOSTILE, data={"source": names[1]}, params={names[0]: names[1]},
                machine={names[0]: names[1]}, versions={names[0]: names[1]})  # fmt: skip
    runs.write(folder, "log.txt", f"2026-11-21 10:00:00 WARNING {runs.HOSTILE}\n")
    runs.write_metrics(
        folder,
        runs.metrics(runs.HOSTILE, 2),
        runs.metrics("b", 2),
        [{"kind": "epoch", "stage": "b", "epoch": 2, runs.HOSTILE: 1.0}],
    )
    seen = read(folder)
    assert seen.text.count("<script>alert(1)</script>") > 8
    assert "{{ 7*7 }}" in seen.text
    assert {a.get("src", "data:image/")[:11] for a in seen.of("img")} == {"data:image/"}
    assert not [t for t, _ in seen.tags if t == "b"]
    assert "cannot be shown" not in seen.text


def test_hostile_columns(tmp_path, runs):
    folder = runs.regression(tmp_path / "a", targets=(runs.HOSTILE, "b"), count=30)
    data = json.loads((folder / "data.json").read_text())
    data["columns"][0]["name"] = runs.HOSTILE
    data["skipped"] = [{"item": runs.HOSTILE, "reason": runs.HOSTILE}] * 20
    data["leakage"] = {"duplicates": 1, "examples": [[runs.HOSTILE, 1]], "identifiers": [{"name": runs.HOSTILE}]}
    runs.write(folder, "chosen.json", {runs.HOSTILE: runs.HOSTILE})
    data["columns"][1]["top"] = [[runs.HOSTILE, 3]]
    runs.write(folder, "data.json", data)
    assert read(folder).text.count("<script>alert(1)</script>") >= 4


@pytest.mark.parametrize("name", ["../secret.png", "/etc/passwd", "a/b.png", "..", ".hidden.png", "x" * 200, 7])
def test_pictures_from_elsewhere_are_refused(tmp_path, runs, name):
    folder = runs.bare(tmp_path / "a")
    (tmp_path / "secret.png").write_bytes(runs.png(0))
    runs.write(
        folder, "items/items.json", [{"role": "worst", "index": 1, "truth": "a", "prediction": "b", "image": name}]
    )
    seen = read(folder)
    assert seen.of("img") == []
    assert "is no plain file name" in seen.text


def test_links_and_other_files_are_no_pictures(tmp_path, runs):
    folder = runs.bare(tmp_path / "a")
    (folder / "items").mkdir()
    (tmp_path / "out.png").write_bytes(runs.png(0))
    (folder / "items" / "link.png").symlink_to(tmp_path / "out.png")
    (folder / "items" / "text.png").write_text("<svg onload=alert(1)>")
    (folder / "items" / "good.png").write_bytes(runs.png(0))
    items = [
        {"role": "example", "index": i, "truth": "a", "image": n}
        for i, n in enumerate(("link.png", "text.png", "good.png", "none.png"))
    ]
    runs.write(folder, "items/items.json", items)
    seen = read(folder)
    assert len(seen.of("img")) == 1
    assert seen.text.count("neither PNG nor JPEG") == 3


def test_values_that_are_not_finite(tmp_path, runs):
    folder = runs.bare(tmp_path / "a")
    records = runs.metrics(epochs=5)
    for i, value in ((0, None), (3, 1e300), (6, -1e308)):
        records[i]["loss"] = value
        records[i]["grad_norm"] = value
    epochs = [r for r in records if r["kind"] == "epoch"]
    epochs[1]["val_loss"] = epochs[2]["val_accuracy"] = None
    epochs[0]["grad_norms"] = {"a": None, "b": 0.0}
    runs.write_metrics(folder, records)
    np.savez(
        folder / "validation.npz",
        truth=np.array([1, np.nan, 1e300]),
        prediction=np.array([np.inf, 1, 2.0]),
        loss=np.array([np.nan, 1, 2]),
        index=np.arange(3),
    )
    seen = read(folder)
    assert "not finite: the line has a gap there" in seen.text
    assert "cannot be shown" not in seen.text


def test_one_epoch_and_steps_alone(tmp_path, runs):
    for name, records in (
        ("one", runs.metrics(epochs=1)),
        ("steps", [r for r in runs.metrics(epochs=3, end=False) if r["kind"] == "step"]),
        ("step", runs.metrics(epochs=1, end=False)[:1]),
        ("zero", [{"kind": "epoch", "stage": "fit", "epoch": 0, "step": 0, "loss": 0.0}]),
        ("nothing finite", [{"kind": "epoch", "stage": "fit", "epoch": 0, "step": 4, "loss": None, "val_loss": None}]),
    ):
        folder = runs.bare(tmp_path / name)
        runs.write_metrics(folder, records)
        assert "cannot be shown" not in read(folder).text
    assert "was interrupted in its first epoch" in Page((tmp_path / "steps" / "report.html").read_text()).text


def test_a_long_run_stays_small(tmp_path, runs):
    folder = runs.bare(tmp_path / "a")
    rng = np.random.default_rng(0)
    steps = [
        {"kind": "step", "stage": "fit", "epoch": 0, "step": i, "loss": float(v), "lr": 1e-3, "grad_norm": float(v)}
        for i, v in enumerate(rng.random(8_000))
    ]
    steps[2_345]["loss"] = 9.87
    runs.write_metrics(folder, steps)
    seen = read(folder)
    assert (folder / "report.html").stat().st_size < 150_000
    assert any("highest 9.87" in a["aria-label"] for a in seen.of("svg"))


def test_the_state_of_the_run(tmp_path, runs):
    folder = runs.bare(tmp_path / "a")
    runs.write_metrics(folder, runs.metrics(epochs=3))
    assert "not evaluated" in read(folder).text
    runs.result(folder, {"accuracy": 0.5}, scores_on="train")
    seen = read(folder)
    assert "finished The run ended after 3 epochs: all epochs were done." in seen.text
    assert "accuracy on the training data" in seen.text
    assert "No data were held out" in seen.text


def test_whose_weights_they_are(tmp_path, runs):
    """Without patience a fit ends with its last weights, whichever epoch was the best."""
    folder = runs.bare(tmp_path / "a")
    for patience, best, told in (
        (3, 1, "The weights are those of epoch 2, the best one"),
        (None, 1, "Epoch 2 was the best, but the weights are the last ones"),
        (None, 3, "The weights are those of epoch 4, the best one"),
    ):
        runs.config(folder, params={"epochs": 4, "patience": patience})
        runs.write_metrics(folder, [r for r in runs.metrics(epochs=4, best=best) if r["kind"] != "step"])
        assert told in page.headline(page.read_folder(folder)).story


def test_the_same_bytes_twice(tmp_path, runs):
    folder = runs.classification(tmp_path / "a", count=60)
    first = report(folder).read_bytes()
    assert first == report(folder, tmp_path / "elsewhere.html").read_bytes()


def test_matplotlib_is_left_as_it_was(tmp_path, runs):
    with matplotlib.rc_context({"font.size": 31.0, "axes.facecolor": "red", "text.parse_math": True}):
        before = dict(matplotlib.rcParams)
        styled = report(runs.regression(tmp_path / "a", count=20)).read_bytes()
        assert dict(matplotlib.rcParams) == before
    assert styled == report(tmp_path / "a").read_bytes()
    assert "red" not in re.findall(r"fill: (\w+)", styled.decode())


def test_neither_torch_nor_pyplot_is_imported(tmp_path, runs):
    runs.full(tmp_path / "a")
    code = (
        "import sys; from konspekt import report; report(sys.argv[1]); "
        "print([m for m in ('torch', 'pandas', 'sklearn', 'matplotlib.pyplot') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "a")], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_where_the_page_goes(tmp_path, runs):
    folder = runs.bare(tmp_path / "run")
    assert report(str(folder)) == folder / "report.html"
    assert report(folder, tmp_path / "x.html") == tmp_path / "x.html"
    (tmp_path / "site").mkdir()
    assert report(folder, tmp_path / "site") == tmp_path / "site" / "report.html"
    fitted = SimpleNamespace(run_=SimpleNamespace(path=folder))
    assert report(fitted) == folder / "report.html"


def test_what_is_no_run(tmp_path, runs):
    from sklearn.exceptions import NotFittedError

    with pytest.raises(DataError, match=r"is not a run folder: it has no config.yaml"):
        report(tmp_path)
    with pytest.raises(ConfigError, match="the fit kept no run folder; give run_dir"):
        report(SimpleNamespace(run_=SimpleNamespace(path=None)))
    with pytest.raises(NotFittedError, match="this SimpleNamespace has no run yet"):
        report(SimpleNamespace(fit=None))
    with pytest.raises(TypeError, match="takes a run folder or a fitted estimator, got int"):
        report(3)
    with pytest.raises(ResourceError, match="cannot write"):
        report(runs.bare(tmp_path / "a"), tmp_path / "no" / "such" / "folder.html")


def test_a_section_that_breaks_says_so(tmp_path, runs, monkeypatch):
    def broken(folder):
        raise KeyError("oops")

    monkeypatch.setattr(page, "SECTIONS", (("data", "Data", broken),))
    assert (
        "Data cannot be shown: the folder's files hold something unexpected (KeyError"
        in read(runs.bare(tmp_path / "a")).text
    )


def test_wilson():
    low, high = page._wilson(0.5, 10)  # Newcombe 1998: 5 of 10 gives 0.2366 to 0.7634
    assert low == pytest.approx(0.2366, abs=1e-4)
    assert high == pytest.approx(0.7634, abs=1e-4)
    assert page._wilson(1.0, 10)[1] == pytest.approx(1.0)
