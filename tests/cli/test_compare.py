"""`konspekt compare`."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from konspekt.cluster import shapes


@pytest.fixture
def table():
    X, y = shapes("noisy", n_samples=90, random_state=0)
    frame = pd.DataFrame(X, columns=["a", "b"]).assign(kind=np.where(y < 0, "stray", y.astype(str)))
    frame.to_csv("t.csv", index=False)
    frame.drop(columns="kind").to_csv("plain.csv", index=False)
    return frame


FEW = ("methods=kmeans, dbscan", "n_resamples=2", "n_seeds=2", "random_state=0")


def test_a_table_of_80_columns_and_a_page(run, table, narrow):
    code, out, err = run("compare", "--task", "clustering", "data=t.csv", "target=kind", "out=here", *FEW)
    assert (code, err) == (0, "")
    assert narrow(out)
    head, kmeans, dbscan = (line.split() for line in out.splitlines()[:3])
    assert head == ["method", "clusters", "noise", "silhouette", "ARI", "stable", "seeds", "time"]
    assert kmeans[:3] == ["kmeans", "3", "0.0%"]
    assert dbscan[0] == "dbscan"
    assert dbscan[6] == "-"
    assert "agreement with the labels that were given, which is not what a clustering is worth" in " ".join(out.split())
    assert out.endswith("\npage   here/report.html\ntable  here/comparison.csv\n")
    page = Path("here/report.html").read_text()
    assert "Comparison of clusterings <span>on t.csv</span>" in page
    assert "not what a clustering is worth" in page
    assert "prefers the shapes that it assumes" in page
    assert pd.read_csv("here/comparison.csv")["method"].tolist() == ["kmeans", "dbscan"]
    Path("here/report.html").unlink()
    assert run("report", "here")[1] == "here/report.html\n"
    assert Path("here/report.html").read_text() == page


def test_clustering_is_the_task_and_a_new_folder_is_made(run, table):
    for _ in range(2):
        code, out, _ = run("compare", "data=plain.csv", *FEW, "n_points=50")
        assert code == 0
        assert "ARI" not in out
        assert "50 of 90 points were drawn; n_points= says how many" in " ".join(out.split())
    assert len(list(Path("runs").glob("compare-clustering-*/report.html"))) == 2


def test_columns_that_outweigh_others_are_said(run, table):
    table.drop(columns="kind").assign(b=table["b"] * 1000).to_csv("units.csv", index=False)
    code, out, _ = run("compare", "data=units.csv", "methods=kmeans", "n_resamples=0", "n_seeds=0")
    assert code == 0
    assert "The columns differ in their spread up to" in out


def test_a_method_that_fails_is_said_and_no_failure_of_the_command(run):
    pd.DataFrame({"a": np.zeros(30), "b": np.zeros(30)}).to_csv("same.csv", index=False)
    code, out, _ = run("compare", "data=same.csv", "methods=dbscan", "out=o")
    assert code == 0
    assert out.splitlines()[1].split() == ["dbscan", "failed"]
    assert "dbscan: DBSCAN: most points have 4 others at no distance" in " ".join(out.split())


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--task", "clusterin", "data=t.csv"], 2, "there is no task 'clusterin'; did you mean 'clustering'?"),
        (
            ["--task", "image-regression", "data=t.csv"],
            2,
            "there is no comparison of its methods; there is one of clustering, acting",
        ),
        (["target=kind"], 2, "data is missing: konspekt compare --task clustering data=table.csv [target=COLUMN]"),
        (["data=t.csv", "method=kmeans"], 2, "compare has no key 'method'; did you mean 'methods'?"),
        (["data=t.csv", "methods="], 2, "compare: estimators is empty"),
        (
            ["data=t.csv", "target=kind", "methods=kmean"],
            2,
            "'kmean' is not a registered estimator; did you mean 'kmeans'?",
        ),
        (["data=t.csv", "n_seeds=1", "target=kind"], 2, "compare: n_seeds=1 leaves nothing to compare"),
        (["data=t.csv", "n_seeds=many"], 2, "n_seeds must be an integer at least 0, got 'many'"),
        (["data=t.csv", "out=full"], 2, "full: something else is there already"),
        (["data=nowhere.csv"], 1, "data=nowhere.csv: there is no such file or folder"),
        (["data=t.csv"], 1, "1 of 3 columns hold something else: 'kind'"),
        (["data=t.csv", "target=colour"], 1, "colour"),
        (["data=empty"], 1, "empty"),
    ],
)
def test_what_is_wrong_is_said(run, table, arguments, code, said, fails):
    Path("full").mkdir()
    Path("full/diary.txt").write_text("dear")
    Path("empty").mkdir()
    fails(run("compare", *arguments), code, said)
    assert not Path("runs").exists()
