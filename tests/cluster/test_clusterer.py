"""What all clusterers share besides reading: the run folder, saving, pictures, the command line."""

import copy
import json
import re

import numpy as np
import pytest
from matplotlib.figure import Figure
from safetensors.numpy import load_file, save_file

import konspekt
from konspekt.cli.app import main
from konspekt.cluster import (
    DBSCAN,
    GaussianMixture,
    GraphClustering,
    KMeans,
    KMedians,
    MeanShift,
    SpectralClustering,
)
from konspekt.cluster.recording import indices
from konspekt.core import ConfigError, DataError

RNG = np.random.default_rng(0)
TRUTH = np.arange(30) % 3
X = RNG.normal(size=(30, 2)) * 0.3 + np.array([[0, 0], [5, 0], [0, 5]])[TRUTH]


@pytest.fixture
def fitted(tmp_path):
    return KMeans(n_clusters=3, random_state=0, run_dir=str(tmp_path / "run")).fit(X, TRUTH)


class TestRun:
    def test_the_folder_holds_what_a_page_needs(self, fitted, tmp_path):
        run = tmp_path / "run"
        result = json.loads((run / "result.json").read_text())
        assert result["scores"]["adjusted_rand"] == 1
        assert result["scores"]["clusters"] == 3
        assert result["scores"]["silhouette"] > 0.8
        facts = json.loads((run / "data.json").read_text())
        assert (facts["train"], facts["task"]) == (30, "clustering")
        assert [c["name"] for c in facts["columns"]] == ["column 0", "column 1"]
        sizes = json.loads((run / "kept" / "clusters.json").read_text())["value"]
        assert [r["points"] for r in sizes] == [10, 10, 10]
        assert sorted(r["commonest label"] for r in sizes) == ["0 (100%)", "1 (100%)", "2 (100%)"]
        with np.load(run / "clusters.npz", allow_pickle=False) as arrays:
            np.testing.assert_array_equal(arrays["points"], X)
            np.testing.assert_array_equal(arrays["labels"], fitted.labels_)
        assert np.array_equal(konspekt.load(run).labels_, fitted.labels_)

    def test_without_a_folder_nothing_is_written(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        KMeans(n_clusters=3, random_state=0).fit(X)
        assert not list(tmp_path.iterdir())

    def test_a_fit_that_fails_leaves_no_folder(self, tmp_path):
        with pytest.raises(DataError):
            KMeans(n_clusters=31, run_dir=str(tmp_path / "run")).fit(X)
        assert not (tmp_path / "run").exists()


class TestIndices:
    def test_of_one_cluster_there_is_nothing_to_compare(self):
        assert indices(X, np.zeros(30, np.int64), None) == {"clusters": 1, "noise": 0}

    def test_noise_is_left_out(self):
        labels = TRUTH.copy()
        labels[:6] = -1
        found = indices(X, labels, TRUTH)
        assert found["noise"] == pytest.approx(0.2)
        assert found["silhouette"] == pytest.approx(indices(X[6:], labels[6:], None)["silhouette"])

    def test_all_noise(self):
        assert indices(X, np.full(30, -1), None) == {"clusters": 0, "noise": 1}

    def test_distances_in_the_place_of_points(self):
        D = np.linalg.norm(X[:, None] - X[None], axis=2)
        found = indices(D, TRUTH, None, precomputed=True)
        assert found["silhouette"] == pytest.approx(indices(X, TRUTH, None)["silhouette"], rel=1e-9)
        assert "davies_bouldin" not in found


class TestSaved:
    def test_a_copy_leaves_the_points_out(self, fitted):
        back = copy.deepcopy(fitted)  # as a process of scikit-learn's searches gets it
        assert np.array_equal(back.predict(X), fitted.predict(X))
        with pytest.raises(ConfigError, match="the points are not saved with a model; give plot those of the fit"):
            back.plot()
        assert isinstance(back.plot(X), Figure)
        with pytest.raises(DataError, match="5 points for 30 labels"):
            back.plot(X[:5])

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda t: t.pop("labels_"), "holds other numbers|does not describe"),
            (lambda t: t.update(labels_=t["labels_"].astype(np.float64)), "labels_ are no numbers of clusters"),
            (lambda t: t.update(labels_=t["labels_"] - 5), "labels_ are no numbers of clusters"),
            (lambda t: t.update(other=t["labels_"]), "other"),
            (lambda t: t["cluster_centers_"].__setitem__((0, 0), np.nan), "NaN or infinite"),
        ],
    )
    def test_a_folder_that_was_changed_is_refused(self, fitted, tmp_path, change, message, monkeypatch):
        folder = fitted.save(tmp_path / "model")
        tensors = {n: a.copy() for n, a in load_file(folder / "weights.safetensors").items()}
        change(tensors)
        save_file(tensors, folder / "weights.safetensors")
        monkeypatch.setattr("konspekt.core.estimator.verify", lambda *_: None)  # as if the sums had been written anew
        with pytest.raises(DataError, match=message):
            konspekt.load(folder)

    def test_the_card_says_how_many_of_what_size(self, fitted, tmp_path):
        card = (fitted.save(tmp_path / "model") / "card.md").read_text()
        assert "3 clusters, of 10, 10, 10 points" in card
        assert "trained on 30 items" in card


class TestCommand:
    @pytest.fixture
    def table(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        np.savetxt("points.csv", np.c_[X, TRUTH], delimiter=",", header="a,b,group", comments="")

    def run(self, capsys, *arguments):
        with pytest.raises(SystemExit) as stop:
            main(list(arguments))
        out, err = capsys.readouterr()
        return stop.value.code, out, re.sub(r"\s+", " ", err)

    def test_fit_evaluate_predict(self, table, capsys):
        code, out, err = self.run(
            capsys, "fit", "kmeans", "data=points.csv", "target=group", "n_clusters=3", "run_dir=run", "random_state=0"
        )
        assert (code, err) == (0, "")
        assert "adjusted_rand" in out
        assert "epoch" not in out
        code, out, _ = self.run(capsys, "evaluate", "run", "data=points.csv", "target=group")
        assert code == 0
        assert re.search(r"adjusted_rand +1\.0000", out)
        code, out, _ = self.run(capsys, "predict", "run", "points.csv")
        assert out.splitlines()[0] == "input,item,cluster"
        assert len(out.splitlines()) == 31

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["fit", "kmeans", "data=points.csv", "validation=0.2"], "kmeans holds nothing out"),
            (["fit", "kmeans", "data=points.csv", "--dry-run"], "takes no steps that could be forecast"),
            (["fit", "kmeans", "data=points.csv", "epochs=3"], "epochs"),
            (
                ["fit", "kmeans", "data=points.csv", "n_clusters=99", "run_dir=r"],
                "n_clusters=99 is more than the 30 points",
            ),
        ],
    )
    def test_wrong_usage(self, table, capsys, arguments, message):
        code, _, err = self.run(capsys, *arguments)
        assert code in (1, 2)
        assert message in err

    def test_there_is_nothing_to_resume(self, fitted, tmp_path, capsys):
        code, _, err = self.run(capsys, "resume", str(tmp_path / "run"))
        assert code == 2
        assert "there is nothing to resume" in err


@pytest.mark.parametrize("kind", [KMeans, KMedians, GaussianMixture, SpectralClustering])
@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_that_no_generator_takes(kind, seed):
    with pytest.raises(ConfigError, match=f"random_state must be an integer from 0 to 4294967295, or None, got {seed}"):
        kind(random_state=seed).fit(X)


@pytest.mark.parametrize("kind", [DBSCAN, GraphClustering, MeanShift])
def test_no_threads(kind):
    with pytest.raises(ConfigError, match=f"{kind.__name__}: n_jobs must not be 0; give a number of threads"):
        kind(n_jobs=0).fit(X)
