"""The `konspekt` command: what it prints, what it writes, and its exit codes (0 done, 1 failed, 2 wrong usage)."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

import konspekt
from konspekt.core.params import params_of
from konspekt.core.registry import entries, lookup
from konspekt.data.sets import load as load_set


@pytest.fixture
def iris(run):
    """A finished run on iris."""
    code, _, err = run("fit", "mlp-classifier", "data=iris", "epochs=2", "hidden=8", "run_dir=first")
    assert (code, err) == (0, "")
    return Path("first")


def table(path="t.csv", rows=40):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"a": rng.normal(size=rows), "b": rng.normal(size=rows), "zip": rng.integers(0, 3, size=rows)})
    frame["price"], frame["rent"] = frame["a"] * 2 + frame["zip"], frame["b"] - 1
    frame["kind"] = np.where(frame["a"] > 0, "up", "down")
    frame.to_csv(path, index=False)
    return frame


# ---------------------------------------------------------------------------------------------------------- list, info


def test_list_shows_everything(run, narrow):
    code, out, err = run("list")
    assert (code, err) == (0, "")
    for entry in entries():
        assert f"  {entry.name} " in out
    assert [line for line in out.splitlines() if line and line[0] != " "] == [
        f"{kind}s" for kind in dict.fromkeys(e.kind for e in entries())
    ]
    assert narrow(out)


def test_list_as_json_names_the_rows_of_the_course(run):
    code, out, _ = run("list", "--json")
    found = json.loads(out)
    assert code == 0
    assert {"name", "kind", "task", "rows", "paper", "summary"} == set(found[0])
    rows = {row for entry in found for row in entry["rows"]}
    assert {"A6", "A7", "A8", "A10", "A11", "A13", "B1", "B2", "D3"} <= rows
    assert len(found) == len(entries())
    assert all(entry["summary"] for entry in found)


def test_list_of_one_kind(run, fails):
    code, out, _ = run("list", "--kind", "net", "--json")
    assert (code, {e["kind"] for e in json.loads(out)}) == (0, {"net"})
    fails(run("list", "--kind", "nett"), 2, "--kind: there is no kind 'nett'; did you mean 'net'?")


def test_info_of_an_estimator(run):
    code, out, err = run("info", "mlp-classifier")
    assert (code, err) == (0, "")
    assert out.startswith("mlp-classifier (estimator, tabular-classification)\nrows B2, ")
    assert "Python: from konspekt.tabular.mlp import MLPClassifier" in out
    for name in params_of(konspekt.MLPClassifier):
        assert f"\n  {name} = " in out
    assert "  dropout = 0.0\n      the share of hidden units dropped at each training step. Must be at least\n" in out
    assert "Search space\n  batch_size: one of 16, 32, 64, 128\n  lr: real 0.0001 to 0.1, log" in out
    assert "hidden:" not in out.split("Parameters")[0]  # said once


def test_info_of_an_optimizer_and_a_net(run):
    _, out, _ = run("info", "adam")
    assert out.startswith("adam (optimizer)")
    assert "  beta2 = 0.999" in out
    assert "lr = " not in out  # what a user may not write in "adam(...)" is not offered
    assert "Search space" not in out
    _, out, _ = run("info", "lenet")
    assert "  form = 'default'" in out
    assert "one of 'default', 'paper'" in out
    assert "num_classes = " not in out
    _, out, _ = run("info", "relu")
    assert out.endswith("Parameters: none\n")


@pytest.mark.parametrize("name", [e.name for e in entries()])
def test_info_of_everything_fits_the_terminal(run, name, narrow):
    code, out, err = run("info", name)
    assert (code, err) == (0, "")
    assert narrow(out)


def test_info_of_something_unknown(run, fails):
    fails(run("info", "adm"), 2, "'adm' is not registered; did you mean 'adam'?")


def test_info_of_a_net_that_cannot_be_is_only_an_error(run, fails):
    fails(run("info", "vgg16", "--image-size", 31), 2, "image_size must be (height, width) of at least 32 x 32")
    fails(run("info", "lenet(widht=1)"), 2, "net 'lenet' has no argument 'widht'; did you mean 'width'?")


# ----------------------------------------------------------------------------------------------------------------- fit


def test_fit_leaves_a_model_and_a_report(run, narrow):
    code, out, err = run("fit", "mlp-classifier", "data=iris", "epochs=3", "hidden=8,4")
    assert (code, err) == (0, "")
    (folder,) = Path("runs").iterdir()
    assert folder.name.startswith("mlp-classifier-2")
    assert f"model   {folder}/model\nreport  {folder}/report.html" in out
    assert "validation scores after 3 epochs" in out
    assert "accuracy  0." in out
    notes, rest = out.split("epoch 1/3")
    assert notes.startswith("types found: number: sepal length (cm), ")  # what was read comes first, as in log.txt
    assert narrow(rest)
    assert "<html" in (folder / "report.html").read_text()[:500]
    model = konspekt.load(folder / "model")
    assert model.hidden == (8, 4)
    result = json.loads((folder / "result.json").read_text())
    assert result["epochs"] == 3
    assert f"accuracy  {result['scores']['accuracy']:.4f}" in out
    facts = json.loads((folder / "data.json").read_text())
    assert (facts["train"], facts["validation"]) == (120, 30)  # a fifth is held out


def test_two_runs_at_once_have_folders_of_their_own(run, monkeypatch):
    monkeypatch.setattr("time.strftime", lambda *arguments: "20250101-000000")
    for _ in range(2):
        assert run("fit", "logistic-classifier", "data=iris", "epochs=1")[0] == 0
    names = sorted(p.name for p in Path("runs").iterdir())
    assert names == ["logistic-classifier-20250101-000000", "logistic-classifier-20250101-000000-2"]


def test_fit_on_a_file_with_types_and_several_targets(run):
    frame = table()
    code, out, err = run(
        "fit", "mlp-regressor", "data=t.csv", "target=price,rent", "types=zip:category,kind:ignored", "hidden=",
        "epochs=2", "validation=0.25", "optimizer=adam(beta2=0.99)", "clip_norm=none", "run_dir=r",
    )  # fmt: skip
    assert (code, err) == (0, "")
    assert "r2" in out
    model = konspekt.load("r/model")
    assert model.types == {"zip": "category", "kind": "ignored"}
    assert (model.hidden, model.clip_norm, model.validation_fraction) == ((), None, 0.25)
    assert [c.type for c in model.schema_.columns] == ["number", "number", "category", "ignored"]
    assert model.targets_.names == ["price", "rent"]
    assert model.predict(frame.drop(columns=["price", "rent"])).shape == (40, 2)
    facts = json.loads(Path("r/data.json").read_text())
    assert (facts["train"], facts["validation"]) == (30, 10)


def test_validation_from_a_file_or_none_at_all(run, fails):
    table()
    table("v.csv", rows=7)
    base = ("fit", "logistic-classifier", "data=t.csv", "target=kind", "epochs=1")
    for given, train, held in (
        ("validation=v.csv", 40, 7),
        ("validation=0", 40, 0),
        ("validation_fraction=0.5", 20, 20),
    ):
        folder = given.replace(".", "-")
        assert run(*base, given, f"run_dir={folder}")[0] == 0
        facts = json.loads(Path(folder, "data.json").read_text())
        assert (facts["train"], facts["validation"]) == (train, held)
    fails(run(*base, "validation=no.csv"), 1, "validation=no.csv: there is no such file or folder")
    fails(
        run(*base, "validation=0.1", "validation_fraction=0.2"), 2, "validation and validation_fraction", "one of them"
    )
    fails(run(*base, "validation=1.5"), 2, "validation_fraction must be at least 0 and less than 1, or None, got 1.5")


def test_fit_from_a_config_file(run):
    table()
    Path("flat.yaml").write_text(
        "system: mlp-classifier\ndata: t.csv\ntarget: kind\nepochs: 2\nhidden: [4, 4]\nlr: 1\ntypes: {zip: category}\n"
        "run_dir: from-file\noptimizer: momentum\n"
    )
    code, _, err = run("fit", "--config", "flat.yaml", "lr=0.5", "hidden=3")  # what the command line says wins
    assert (code, err) == (0, "")
    model = konspekt.load("from-file/model")
    assert (model.epochs, model.hidden, model.lr, model.optimizer) == (2, (3,), 0.5, "momentum")
    assert model.types == {"zip": "category"}


def test_a_runs_own_config_repeats_it(run):
    table()
    table("v.csv", rows=9)
    for i, extra in enumerate((("validation=v.csv",), ("validation=0.3",), ("validation=0", "lr=0.05"))):
        given = ("data=t.csv", "target=kind", "epochs=2", "hidden=4", "random_state=5", f"run_dir=one{i}", *extra)
        assert run("fit", "mlp-classifier", *given)[0] == 0
        assert run("fit", "--config", f"one{i}/config.yaml", f"run_dir=two{i}")[0] == 0
        files = [Path(f"{n}{i}/model/weights.safetensors").read_bytes() for n in ("one", "two")]
        assert files[0] == files[1]
        marks = [yaml.safe_load(Path(f"{n}{i}/config.yaml").read_text())["fingerprint"] for n in ("one", "two")]
        assert marks[0] == marks[1]
    code, _, _ = run("fit", "--config", "one0/config.yaml")  # a run folder of its own
    assert code == 0
    assert len(list(Path("runs").iterdir())) == 1


def test_a_config_of_a_run_from_python_needs_data(run, fails):
    X, y = load_set("iris").for_task("tabular-classification")
    konspekt.LogisticClassifier(epochs=1, run_dir="memory").fit(X, y, validation=0.3)
    fails(run("fit", "--config", "memory/config.yaml"), 2, "data is missing")
    code, _, err = run("fit", "--config", "memory/config.yaml", "data=iris", "run_dir=again")
    assert (code, err) == (0, "")
    files = [Path(f"{n}/model/weights.safetensors").read_bytes() for n in ("memory", "again")]
    assert files[0] == files[1]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("a: [1", ("not readable as YAML",)),
        ("- 1\n- 2", ("a mapping of names to values belongs there",)),
        ("1: 2", ("a mapping of names to values belongs there",)),
        ("system: mlp-classifier\nparams: 3", ("params must be a mapping",)),
        ("system: mlp-classifier", ("data is missing",)),
        ("data: iris", ("which system?",)),
        ("system: 5\ndata: iris", ("'5' is not a registered estimator",)),
        ("system: mlp-classifier\ndata: iris\nepoch: 3", ("no parameter 'epoch'; did you mean 'epochs'?",)),
        ("system: mlp-classifier\ndata: iris\nhidden: 3", ("hidden must be a tuple", "got 3")),
        ("system: mlp-classifier\ndata: {target: x}", ("data is missing",)),
        ("system: !!python/object/apply:os.system ['touch evil']", ("not readable as YAML",)),
        ("\x00", ("not readable as YAML",)),
    ],
    ids=lambda v: v.replace("\n", "; ") if isinstance(v, str) else "",
)
def test_config_files_that_are_wrong(run, text, parts, fails):
    Path("c.yaml").write_text(text)
    fails(run("fit", "--config", "c.yaml"), 2, *parts)
    assert not Path("evil").exists()


def test_a_config_file_that_is_not_there(run, fails):
    fails(run("fit", "--config", "no.yaml"), 2, "--config: there is no file no.yaml")


WRONG = {
    "nothing": (("fit",), 2, "which system?", "konspekt list --kind estimator"),
    "no data": (("fit", "mlp-classifier"), 2, "data is missing", "data=table.csv target=COLUMN"),
    "a wrong system": (("fit", "mlp-clasifier", "data=iris"), 2, "did you mean 'mlp-classifier'?"),
    "a net": (("fit", "lenet", "data=digits"), 2, "'lenet' is not a registered estimator", "see `konspekt list`"),
    "a wrong key": (("fit", "mlp-classifier", "data=iris", "epoch=3"), 2, "MLPClassifier has no parameter 'epoch'", "'epochs'?"),
    "a wrong value": (("fit", "mlp-classifier", "data=iris", "epochs=many"), 2, "epochs must be an integer at least 1", "'many'"),
    "out of bounds": (("fit", "mlp-classifier", "data=iris", "dropout=1"), 2, "dropout must be", "got 1.0"),
    "a wrong choice": (("fit", "mlp-classifier", "data=iris", "norm=bach"), 2, "norm must be one of", "did you mean 'batch'?"),
    "a wrong optimizer": (("fit", "mlp-classifier", "data=iris", "optimizer=adm"), 2, "did you mean 'adam'?"),
    "a wrong argument": (("fit", "mlp-classifier", "data=iris", "optimizer=adam(beta=1)"), 2, "did you mean 'beta2'|'beta1'"),
    "a key twice": (("fit", "mlp-classifier", "data=iris", "lr=1", "lr=2"), 2, "lr is given twice"),
    "no pair": (("fit", "mlp-classifier", "data=iris", "fast"), 2, "arguments are KEY=VALUE, got 'fast'"),
    "no key": (("fit", "mlp-classifier", "data=iris", "=3"), 2, "arguments are KEY=VALUE, got '=3'"),
    "types without a colon": (("fit", "mlp-classifier", "data=iris", "types=zip"), 2, "types must be a mapping", "'zip'"),
    "hidden of words": (("fit", "mlp-classifier", "data=iris", "hidden=a,b"), 2, "hidden must be", "'a"),
    "a target for a set": (("fit", "mlp-classifier", "data=iris", "target=x"), 2, "data=iris brings its own target"),
    "data that are not there": (("fit", "mlp-classifier", "data=irsi"), 1, "data=irsi: there is no such file", "'iris'?"),
    "data of another task": (("fit", "linear-regressor", "data=iris"), 1, "must be numeric", "setosa"),
    "a folder that is no table": (("fit", "mlp-classifier", "data=."), 1, "not a table"),
    "a wrong command": (("fti",), 2, "No such command 'fti'", "'fit'"),
    "a wrong option": (("fit", "--fast"), 2, "No such option: --fast; see konspekt --help"),
    "info of nothing": (("info",), 2, "Missing argument 'SYSTEM'|Missing argument 'system'"),
    "resume of nothing": (("resume", "nowhere"), 1, "nowhere: there is no such folder; `konspekt runs` lists the runs"),
    "report of nothing": (("report", "."), 1, ". is not a run folder: it has no config.yaml"),
    "evaluate of nothing": (("evaluate", "nowhere", "data=iris"), 1, "nowhere: there is no such folder"),
    "evaluate without a model": (("evaluate", "nowhere"), 1, "nowhere: there is no such folder"),
    "evaluate with a wrong key": (("evaluate", "nowhere", "dta=iris"), 2, "no key 'dta'; did you mean 'data'?"),
    "predict of nothing": (("predict", "nowhere", "iris"), 1, "nowhere: there is no such folder"),
    "predict to nothing": (("predict", "nowhere", "iris", "--out", "x.txt"), 2, "--out must end in .csv or .json", "'x.txt'"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG.values(), ids=WRONG)
def test_wrong_usage_is_a_paragraph_and_a_code(run, case, fails):
    arguments, code, *parts = case
    result = run(*arguments)
    alternatives = [p for p in parts if "|" in p]
    fails(result, code, *(p for p in parts if "|" not in p))
    for part in alternatives:
        assert any(p in " ".join(result[2].split()) for p in part.split("|")), result[2]


def test_a_run_folder_that_is_taken(run, iris, fails):
    fails(run("fit", "mlp-classifier", "data=iris", f"run_dir={iris}"), 2, "already holds a run; resume it")


def test_bad_data_exit_with_one(run, fails):
    Path("t.csv").write_text("a,y\n1,0\n2,\n3,1\n")
    fails(run("fit", "mlp-classifier", "data=t.csv", "target=y"), 1, "the target is missing", "in 1 of 3 rows: 1")
    fails(run("fit", "mlp-classifier", "data=t.csv", "target=z"), 1, "t.csv has no column 'z'; known: a, y")
    fails(run("fit", "mlp-classifier", "data=t.csv"), 1, "requires y to be passed")
    result = run("fit", "linear-regressor", "data=diabetes", "lr=1e30", "optimizer=sgd")
    assert result[0] == 1
    assert "training stopped at step" in result[2]
    assert "Lower lr" in " ".join(result[2].split())
    assert "Traceback" not in result[2]


def test_debug_shows_where_it_happened(run):
    for arguments in (
        ("--debug", "fit", "mlp-classifier", "data=irsi"),
        ("fit", "mlp-classifier", "data=irsi", "--debug"),
    ):
        code, _, err = run(*arguments)
        assert code == 1
        assert "Traceback (most recent call last)" in err
        assert "DataError" in err
        assert "error: data=irsi" in err


def test_what_was_not_foreseen_is_a_paragraph_too(run, monkeypatch):
    def broken(*arguments):
        raise ZeroDivisionError("something\n  inside")

    monkeypatch.setattr("konspekt.cli.app._source", broken)
    code, _, err = run("fit", "mlp-classifier", "data=iris")
    assert code == 1
    assert " ".join(err.split()) == (
        "error: ZeroDivisionError: something inside (not foreseen; --debug shows where it happened)"
    )
    monkeypatch.setattr("konspekt.cli.app._source", lambda *a: (_ for _ in ()).throw(MemoryError))
    code, _, err = run("fit", "mlp-classifier", "data=iris")
    assert (code, "out of memory" in err) == (1, True)


# -------------------------------------------------------------------------------------------------------------- resume


def test_resume_with_more_epochs_is_one_long_run(run, iris):
    code, out, err = run("resume", iris, "epochs=5")
    assert (code, err) == (0, "")
    assert "validation scores after 5 epochs" in out
    assert run("fit", "mlp-classifier", "data=iris", "epochs=5", "hidden=8", "run_dir=whole")[0] == 0
    files = [folder / "model/weights.safetensors" for folder in (iris, Path("whole"))]
    assert files[0].read_bytes() == files[1].read_bytes()
    kept = [json.loads(line) for line in (iris / "metrics.jsonl").read_text().splitlines()]
    assert [r["epoch"] for r in kept if r["kind"] == "epoch"] == [0, 1, 2, 3, 4]


def test_resume_refuses_other_parameters_and_other_data(run, fails):
    table()
    table("v.csv", rows=9)
    given = ("data=t.csv", "target=kind", "epochs=1", "validation=v.csv", "run_dir=r")
    assert run("fit", "logistic-classifier", *given)[0] == 0
    fails(run("resume", "r", "lr=3"), 2, "cannot be resumed with other parameters", "lr was 0.01, is 3.0")
    fails(run("resume", "r", "epocs=3"), 2, "no parameter 'epocs'; did you mean 'epochs'?")
    code, out, err = run("resume", "r", "epochs=2")
    assert (code, err) == (0, "")
    assert "after 2 epochs" in out
    table("v.csv", rows=11)
    code, out, err = run("resume", "r", "epochs=3")
    assert code == 1
    assert out.startswith("types found: ")
    assert "was begun with other data" in " ".join(err.split())
    Path("v.csv").unlink()
    fails(run("resume", "r", "epochs=3"), 1, "validation=v.csv: there is no such file")


def test_resume_of_a_run_from_python(run, fails):
    X, y = load_set("iris").for_task("tabular-classification")
    konspekt.LogisticClassifier(epochs=1, run_dir="memory").fit(X, y)
    fails(
        run("resume", "memory"), 2, "fitted from Python on data in memory", "LogisticClassifier(...)", "resume='memory'"
    )


@pytest.mark.parametrize(
    ("text", "code"), [("", 1), ("system: nothing\nparams: {}\ndata: {}", 1), ("params: {}", 1), ("[1]", 1), ("{", 1)]
)
def test_resume_of_a_damaged_run(run, text, code, fails):
    Path("r").mkdir()
    Path("r/config.yaml").write_text(text)
    fails(run("resume", "r"), code, "config.yaml")


# ---------------------------------------------------------------------------------------------------- evaluate, predict


def test_evaluate_a_run_or_its_model(run, iris):
    code, out, err = run("evaluate", iris, "data=iris")
    assert (code, err) == (0, "")
    assert run("evaluate", iris / "model", "data=iris")[1] == out
    scores = konspekt.load(iris / "model").evaluate(load_set("iris"))
    assert out == "".join(f"{name:8}  {value:.4f}\n" for name, value in scores.items())


def test_evaluate_on_a_file(run, fails):
    frame = table()
    assert (
        run("fit", "linear-regressor", "data=t.csv", "target=price", "types=kind:ignored", "epochs=3", "run_dir=r")[0]
        == 0
    )
    code, out, _ = run("evaluate", "r", "data=t.csv", "target=price")
    assert code == 0
    scores = konspekt.load("r/model").evaluate(frame.drop(columns="price"), frame["price"])
    assert {line.split()[0] for line in out.splitlines()} == {"loss", "r2", "rmse", "mae"}
    assert f"rmse  {scores['rmse']:.4f}" in out
    fails(run("evaluate", "r", "data=t.csv"), 1, "the true y is needed here")
    fails(run("evaluate", "r", "data=iris"), 1, "feature names")


def test_predict_csv_to_csv_json_and_the_terminal(run):
    frame = table()
    assert run("fit", "mlp-classifier", "data=t.csv", "target=kind", "epochs=2", "run_dir=r")[0] == 0
    frame[["rent", "b", "a", "zip", "price"]].assign(more=1).to_csv(
        "new.csv", index=False
    )  # another order, more columns
    code, out, err = run("predict", "r", "new.csv", "--out", "p.csv")
    assert (code, out, err) == (0, "40 predictions in p.csv\n", "")
    found = pd.read_csv("p.csv")
    assert list(found.columns) == ["input", "item", "prediction", "p(down)", "p(up)"]
    model = konspekt.load("r/model")
    expected = model.predict_proba(frame.drop(columns="kind"))
    np.testing.assert_allclose(found[["p(down)", "p(up)"]], expected, rtol=1e-12)
    assert found["prediction"].tolist() == model.predict(frame.drop(columns="kind")).tolist()
    assert set(found["input"]) == {"new.csv"}

    assert run("predict", "r/model", "new.csv", "new.csv", "--out", "p.json")[1] == "80 predictions in p.json\n"
    rows = json.loads(Path("p.json").read_text())
    assert [r["item"] for r in rows] == list(range(40)) * 2
    np.testing.assert_allclose([r["p(up)"] for r in rows[:40]], expected[:, 1], rtol=1e-12)

    code, out, _ = run("predict", "r", "new.csv")
    assert (code, out) == (0, Path("p.csv").read_text())


def test_predict_refuses_what_it_cannot_read(run, iris, fails):
    fails(run("predict", iris, "nothing.csv"), 1, "nothing.csv: there is no such file or folder")
    table()
    fails(run("predict", iris, "t.csv"), 1, "columns that the model was trained on are missing: sepal length (cm)")
    fails(run("predict", iris, "iris", "--out", "no/folder/p.csv"), 1, "cannot write no/folder/p.csv")
    code, out, _ = run("predict", iris, "iris")
    assert code == 0
    assert len(out.splitlines()) == 151
    (iris / "model/config.json").write_text("{}")
    fails(run("predict", iris, "iris"), 1, "config.json", "its size is not the manifest's")


def test_images_from_a_folder(run, fails):
    rng = np.random.default_rng(0)
    for name, low in (("dark", 0), ("light", 150)):
        Path("pets", name).mkdir(parents=True)
        for i in range(8):
            pixels = rng.integers(low, low + 100, size=(10, 8), dtype=np.uint8)
            Image.fromarray(pixels).save(f"pets/{name}/{i}.png")
    code, out, err = run(
        "fit", "image-classifier", "data=pets", "arch=mlp(hidden=(8,))", "augment=shift", "image_size=8", "epochs=8",
        "lr=0.05", "validation=pets", "run_dir=r",
    )  # fmt: skip
    assert (code, err) == (0, "")
    assert "accuracy  1.0000" in out
    model = konspekt.load("r/model")
    assert (model.image_size, model.augment, model.classes_.tolist()) == (8, ("shift",), ["dark", "light"])
    assert run("evaluate", "r", "data=pets")[1].splitlines()[1] == "accuracy  1.0000"
    Path("pets/dark/bad.png").write_text("no picture")
    fails(run("evaluate", "r", "data=pets"), 1, "1 of 17 images cannot be used", "dark/bad.png: not an image")
    given = ("image_size=8", "arch=mlp", "augment=flip,crop(padding=1)", "epochs=1", "on_bad=skip", "run_dir=s")
    assert run("fit", "image-classifier", "data=pets", *given)[0] == 0
    assert konspekt.load("s/model").augment == ("flip", "crop(padding=1)")
    out = run("evaluate", "s", "data=pets")[1]
    assert "warning: 1 of 17 items could not be used" in out
    assert "dark/bad.png: not an image" in " ".join(out.split())
    Path("pets/dark/bad.png").unlink()
    code, out, _ = run("predict", "r", "pets/light", "pets/dark/3.png")
    rows = [line.split(",") for line in out.splitlines()]
    assert rows[0] == ["input", "item", "prediction", "p(dark)", "p(light)"]
    assert [r[:3] for r in rows[1:3]] == [["pets/light", "0.png", "light"], ["pets/light", "1.png", "light"]]
    assert rows[-1][:3] == ["pets/dark/3.png", "pets/dark/3.png", "dark"]
    Path("pets/dark/text.png").write_text("no picture")
    Path("pets/dark/more.jpg").write_text("no picture")
    code, _, err = run("fit", "image-classifier", "data=pets", "image_size=16", "epochs=1")
    assert code == 1
    lines = err.splitlines()
    assert lines[0] == "error: 2 of 18 images cannot be used:"
    assert any(line.startswith("  dark/more.jpg: ") for line in lines)  # each on a line of its own
    assert any(line.startswith("  dark/text.png: ") for line in lines)
    fails(run("fit", "image-classifier", "data=pets", "target=kind"), 1, "images")
    fails(run("fit", "image-classifier", "data=digits", "arch=lenet(num_classes=3)"), 2, "no argument 'num_classes'")


def test_report_can_be_written_again(run, iris):
    (iris / "report.html").unlink()
    code, out, err = run("report", iris)
    assert (code, out, err) == (0, f"{iris}/report.html\n", "")
    assert (iris / "report.html").is_file()


# ------------------------------------------------------------------------------------------------- a process of its own


def command(*arguments, **environment):
    return subprocess.run(
        [sys.executable, "-m", "konspekt", *arguments],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "80"} | environment,
        timeout=120,
        check=False,
    )


def imports(code):
    """Which of the heavy packages the code imports."""
    heavy = ("torch", "pandas", "sklearn", "scipy", "matplotlib", "PIL", "numpy", "jinja2")
    probe = f"import sys\n{code}\nprint([m for m in {heavy} if m in sys.modules], file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, timeout=120, check=True)
    return done.stderr.strip().splitlines()[-1]


def test_the_package_is_imported_lightly():
    assert imports("import konspekt") == "[]"


@pytest.mark.parametrize(
    "arguments", [["--help"], ["list"], ["fit", "--help"], ["fit", "mlp-clasifier", "data=iris"]], ids=str
)
def test_the_command_answers_without_torch(arguments):
    code = f"from konspekt.cli.app import main\ntry:\n    main({arguments!r})\nexcept SystemExit:\n    pass"
    assert "torch" not in imports(code)
    assert "pandas" not in imports(code)
    assert "sklearn" not in imports(code)


def test_a_fit_in_a_process_of_its_own(narrow):
    done = command("fit", "logistic-classifier", "data=iris", "epochs=2", "run_dir=r")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("model   r/model\nreport  r/report.html\n")
    assert narrow(done.stdout[done.stdout.index("epoch 1/2") :])


def test_an_error_in_a_process_of_its_own():
    done = command("fit", "mlp-clasifier", "data=iris")
    assert (done.returncode, done.stdout) == (2, "")
    assert (
        done.stderr
        == "error: 'mlp-clasifier' is not a registered estimator or agent; did you mean\n'mlp-classifier'?\n"
    )


def test_a_reader_that_had_enough_is_no_error():
    for arguments in ("list --json | head -1", "list | true"):
        pipe = f"{sys.executable} -m konspekt {arguments}"
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", pipe], capture_output=True, text=True, timeout=120, check=False
        )
        assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == ""


def test_every_estimator_of_the_registry_has_a_command(run, fails):
    for entry in entries():
        if entry.kind == "estimator":
            fails(run("fit", entry.name), 2, "data is missing")
            assert lookup("estimator", entry.name) is entry
