"""Run folders of several kinds, made without a fit."""

import io
import json
import math
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from safetensors.numpy import save_file

HOSTILE = "<script>alert(1)</script>"


def write(path: Path, name: str, value) -> None:
    (path / name).parent.mkdir(parents=True, exist_ok=True)
    (path / name).write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")


def config(path: Path, **changes) -> None:
    value = {
        "system": "image-classifier",
        "class": "ImageClassifier",
        "params": {
            "arch": "lenet5",
            "epochs": 12,
            "lr": 0.001,
            "augment": ["flip"],
            "patience": 3,
            "hidden": [64, 32],
        },
        "seed": 7,
        "data": {"source": "digits", "target": None},
        "command": "konspekt fit image-classifier data=digits epochs=12",
        "versions": {
            "konspekt": "0.1.0",
            "python": "3.11.9",
            "torch": "2.13.0",
            "numpy": "2.4.0",
            "scikit-learn": "1.8.0",
        },
        "machine": {"platform": "Linux-6.8-x86_64", "processor": "x86_64", "cpus": 2, "device": "cpu", "threads": 1},
    } | changes
    path.mkdir(parents=True, exist_ok=True)
    (path / "config.yaml").write_text(yaml.safe_dump(value, sort_keys=False, allow_unicode=True), encoding="utf-8")


LAYERS = ("0.weight", "0.bias", "3.weight", "3.bias", "7.weight", "7.bias", "9.weight", "9.bias")


def metrics(stage="fit", epochs=12, steps=23, *, end=True, names=("val_loss", "val_accuracy"), best=None, steady=False):
    """Records that look like those of a fit."""
    rng = np.random.default_rng(sum(map(ord, stage)))
    records = []
    for epoch in range(epochs):
        for step in range(epoch * steps + 5, (epoch + 1) * steps + 1, 6):
            loss = 2.2 * math.exp(-step / 70) + 0.06 + 0.25 * rng.random() * math.exp(-step / 90)
            lr = 1e-3 if steady else 1e-3 * (1 + math.cos(math.pi * step / steps / epochs)) / 2 + 1e-6
            records.append({"kind": "step", "stage": stage, "epoch": epoch, "step": step, "loss": loss, "lr": lr,
                            "grad_norm": 3 * loss * (0.5 + rng.random())})  # fmt: skip
        done = (epoch + 1) * steps
        loss = 2.2 * math.exp(-done / 70) + 0.05
        held = {
            "val_loss": 2.1 * math.exp(-done / 70) + 0.09 + 0.004 * max(0, epoch - 8),
            "val_accuracy": 0.985 - 0.8 * math.exp(-done / 50),
            "val_r2": 0.82 - 0.7 * math.exp(-done / 60),
        }
        norms = {f"model.{n}": float(loss * 10 ** rng.uniform(-2, 0)) for n in LAYERS}
        records.append({"kind": "epoch", "stage": stage, "epoch": epoch, "step": done, "loss": loss, "lr": 1e-3,
                        "seconds": 0.4 + 0.03 * rng.random(), "grad_norm": 3 * loss, "grad_norms": norms,
                        **{n: held[n] for n in names}})  # fmt: skip
    if end:
        records.append({"kind": "stage", "stage": stage, "state": "finished", "step": epochs * steps, "best_epoch": best,
                        "stopped": "patience" if best is not None else "epochs", "seconds": 5.2})  # fmt: skip
    return records


def write_metrics(path: Path, *groups) -> None:
    write(path, "metrics.jsonl", "".join(json.dumps(r) + "\n" for g in groups for r in g))


def png(seed: int, size=(16, 16)) -> bytes:
    y, x = np.mgrid[: size[0], : size[1]]
    rng = np.random.default_rng(seed)
    cy, cx, r = rng.uniform(5, 11), rng.uniform(5, 11), rng.uniform(3, 6)
    ring = np.exp(-((np.hypot(y - cy, x - cx) - r) ** 2) / 2) * 255
    target = io.BytesIO()
    Image.fromarray(ring.astype(np.uint8)).save(target, format="PNG")
    return target.getvalue()


def result(path: Path, scores, **changes) -> None:
    value = {
        "scores": scores, "scores_on": "validation", "seconds": 12.3, "fit_seconds": 10.1, "parameters": 61706,
        "layers": [{"name": "0", "type": "Conv2d", "parameters": 156}, {"name": "1", "type": "Tanh", "parameters": 0},
                   {"name": "3", "type": "Conv2d", "parameters": 2416}, {"name": "7", "type": "Linear", "parameters": 48120},
                   {"name": "9", "type": "Linear", "parameters": 11014}],
        "timings": {"data": 0.21, "train": 10.1, "evaluate": 0.5, "save": 0.09},
    }  # fmt: skip
    write(path, "result.json", value | changes)


def classification(path: Path, names=tuple("0123456789"), count=360) -> Path:
    """A finished fit on pictures, with everything there is."""
    config(path)
    write_metrics(path, metrics(best=8))
    rng = np.random.default_rng(0)
    k = len(names)
    truth = rng.integers(0, k, count)
    probability = rng.dirichlet(np.ones(k) * 0.05, count) * 0.3
    miss = rng.random(count) < 0.12
    said = np.where(miss, (truth + rng.integers(1, 3, count)) % k, truth)
    probability[np.arange(count), said] += 0.7
    labels = np.array(names)
    np.savez_compressed(
        path / "validation.npz", index=np.arange(count), truth=labels[truth], prediction=labels[said],
        loss=-np.log(probability[np.arange(count), truth] + 1e-3), probability=probability, classes=labels,
    )  # fmt: skip
    write(path, "data.json", {
        "task": "image-classification", "source": "digits", "train": 1437, "validation": count,
        "classes": [{"name": n, "train": 130 + 17 * (i * 7 % 5), "validation": int((truth == i).sum())} for i, n in enumerate(names)],
        "image": {"channels": 1, "height": 16, "width": 16, "dtype": "uint8"},
        "skipped": [{"item": "digits/4/broken.png", "reason": "cannot be read: the file is cut"}],
        "ignored": ["notes.txt", "Thumbs.db"], "fingerprint": "3f9a1c" * 10,
        "notes": ["pictures of 2 sizes were scaled to 16 × 16"],
    })  # fmt: skip
    items = []
    (path / "items").mkdir(exist_ok=True)
    for role, many in (("example", 12), ("worst", 10)):
        for i in range(many):
            name = f"{role}-{i}.png"
            (path / "items" / name).write_bytes(png(i + 100 * (role == "worst")))
            wrong = (i + 1) % k if role == "worst" and i < 8 else i % k
            items.append(
                {
                    "role": role,
                    "index": i,
                    "truth": names[i % k],
                    "prediction": names[wrong],
                    "loss": 6.5 - i / 2,
                    "image": name,
                }
            )
    write(path, "items/items.json", items)
    result(path, {"accuracy": float((~miss).mean()), "loss": 0.1023, "f1": 0.874})
    write(path, "log.txt", (
        "2026-11-21 10:00:00 image-classifier on digits: 1437 items to train on\n"
        "2026-11-21 10:00:01 WARNING class '8' has 12 items only; its score says little\n"
        "2026-11-21 10:00:12 finished: accuracy 0.981\n"
    ))  # fmt: skip
    filters = [[[float(np.sin(i + x * y / 4)) for x in range(5)] for y in range(5)] for i in range(6)]
    keep(path, "first-filters", "images", {"images": filters, "titles": [f"filter {i}" for i in range(6)]})
    keep(
        path,
        "learning-rate-test",
        "curve",
        {"loss": [[1e-4 * 2**i for i in range(12)], [2.3 - 0.1 * i + 0.01 * i * i for i in range(12)]]},
    )
    keep(
        path,
        "class-likeness",
        "matrix",
        {
            "values": [[math.cos(i - j) for j in range(5)] for i in range(5)],
            "rows": list("abcde"),
            "columns": ["alpha", "beta", "gamma", "delta", "epsilon"],
        },
    )
    keep(
        path,
        "embedding",
        "scatter",
        {
            "x": [math.sin(i * 1.7) * i for i in range(90)],
            "y": [math.cos(i * 1.7) * i for i in range(90)],
            "xlabel": "first",
            "ylabel": "second",
        },
    )
    keep(
        path, "attempts", "table", [{"lr": 0.1, "loss": 2.31, "kept": False}, {"lr": 0.01, "loss": 0.112, "kept": True}]
    )
    keep(path, "architecture", "text", "Conv2d(1, 6)\n  Tanh\nLinear(400, 10)")
    return path


def full(path: Path) -> Path:
    """The same, with what a fit finds out before it begins, and a convolution first."""
    classification(path)
    records = metrics(best=8)
    for i, record in enumerate(r for r in records if r["kind"] == "step"):
        record["risk"] = 2.2 * 0.96**i + 0.1
    write_metrics(path, records)
    rates = [1e-6 * 10 ** (i / 10) for i in range(71)]
    losses = [2.3 - 1.5 / (1 + (0.002 / r) ** 1.5) + (2 * r) ** 2 for r in rates]
    tried = {"loss": [rates, losses], "taken": [[rates[35]], [losses[35]]]}
    keep(path, "learning-rate range test", "curve", tried)
    write(path, "chosen.json", {"fit.lr": rates[35], "fit.compile": -1})
    value = json.loads((path / "data.json").read_text(encoding="utf-8"))
    value["leakage"] = {
        "duplicates": 3,
        "examples": [["a.png", "b.png"]],
        "identifiers": [{"name": "id", "why": "every value differs"}],
    }
    value["skipped"] = [
        {"item": f"digits/4/broken-{i}.png", "reason": "cannot be read: the file is cut"} for i in range(40)
    ]
    write(path, "data.json", value)
    value = json.loads((path / "result.json").read_text(encoding="utf-8"))
    value["forecast"] = {"seconds": 20.0, "memory": 100 << 20, "step_seconds": 0.004}
    value["actual"] = {"seconds": 10.0, "memory": 150 << 20}
    write(path, "result.json", value)
    write(path, "quarantine/batch-17.json", {"items": [1, 2]})
    (path / "model").mkdir()
    weights = np.random.default_rng(0).normal(size=(6, 1, 5, 5)).astype(np.float32)
    save_file({"model.0.weight": weights}, path / "model" / "weights.safetensors")
    return path


def keep(path: Path, name: str, kind: str, value) -> None:
    write(path, f"kept/{name}.json", {"kind": kind, "value": value})


def regression(path: Path, targets=("price", "days on the market"), count=400) -> Path:
    """A finished fit on a table with two targets, from Python."""
    params = {"hidden": [64, 64], "epochs": 30, "lr": 0.003, "activation": "relu", "patience": 3}
    config(
        path,
        system="mlp-regressor",
        **{"class": "MLPRegressor"},
        params=params,
        command=None,
        data={"source": "/data/houses/flats.csv", "target": "price"},
    )
    write_metrics(path, metrics(epochs=30, names=("val_loss", "val_r2"), best=21, steady=True))
    rng = np.random.default_rng(1)
    truth = np.stack([rng.lognormal(12, 0.4, count), rng.gamma(4, 10, count)][: len(targets)], axis=1)
    prediction = truth * rng.normal(1, 0.12, truth.shape) + rng.normal(0, 3, truth.shape)
    loss = ((truth - prediction) ** 2 / truth.var(0)).mean(1)
    np.savez_compressed(path / "validation.npz", index=np.arange(count), truth=truth, prediction=prediction, loss=loss)
    columns = [
        {"name": "area in m²", "type": "number", "missing": 3, "unique": 212, "mean": 71.31, "std": 24.0, "min": 18.0, "max": 240.5},
        {"name": "district", "type": "category", "missing": 0, "unique": 12, "top": [["Mitte", 410], ["Wedding", 366], ["Neukölln", 201]]},
        {"name": "country", "type": "ignored", "missing": 0, "unique": 1, "note": "constant", "top": [["DE", 2000]]},
    ]  # fmt: skip
    write(path, "data.json", {
        "task": "tabular-regression", "source": "/data/houses/flats.csv", "train": 1600, "validation": count, "columns": columns,
        "targets": [{"name": n, "mean": float(truth[:, i].mean()), "std": float(truth[:, i].std()), "min": float(truth[:, i].min()), "max": float(truth[:, i].max())} for i, n in enumerate(targets)],
        "notes": ["1 column is constant: country"], "fingerprint": "77ab",
    })  # fmt: skip
    row = {"area in m²": 240.5, "district": "Mitte", "country": "DE"}
    write(path, "items/items.json", [
        {"role": r, "index": i, "truth": truth[i].tolist(), "prediction": prediction[i].tolist(), "loss": float(loss[i]), "row": row}
        for r, i in (("example", 0), ("example", 1), ("worst", 2), ("worst", 3), ("worst", 4))
    ])  # fmt: skip
    result(path, {"r2": 0.8312, "rmse": 31250.0, "mae": 20100.5, "loss": 0.17})
    return path


def clustering(path: Path, count=300, kinds=4, truth=True) -> Path:
    """A finished clustering of points of three columns, with noise, centres and given labels."""
    config(path, system="kmeans", **{"class": "KMeans"}, params={"n_clusters": kinds, "random_state": None},
           command=f"konspekt fit kmeans data=flats.csv n_clusters={kinds}", data={"source": "flats.csv", "target": None})  # fmt: skip
    rng = np.random.default_rng(2)
    labels = rng.integers(0, kinds, count)
    middles = 6 * rng.normal(size=(kinds, 2))
    points = middles[labels] + rng.normal(size=(count, 2))
    given = np.array(["north", "south", "a name of some length", "<b>west</b>"])[labels % 4]
    labels[::20] = -1
    axes = [f"principal component {i} ({share}% of variance)" for i, share in ((1, 71), (2, 20))]
    arrays = {
        "points": points,
        "labels": labels,
        "axes": np.array(axes),
        "total": np.array(40 * count),
        "marks": middles,
    }
    np.savez_compressed(path / "clusters.npz", **arrays, **({"truth": given} if truth else {}))
    columns = [
        {"name": n, "type": "number", "missing": 0, "mean": 1.0, "std": 1.0, "min": -2.0, "max": 9.0} for n in "abc"
    ]
    write(path, "data.json", {"task": "clustering", "source": "flats.csv", "rows": count, "train": count, "validation": 0,
                              "columns": columns, "skipped": [], "notes": [], "fingerprint": "77ab"})  # fmt: skip
    sizes = [{"cluster": "noise" if c == -1 else int(c), "points": int((labels == c).sum()), "share": float((labels == c).mean()),
              "mean a": 0.5 + c, "commonest label": "south (77%)"} for c in [*range(kinds), -1]]  # fmt: skip
    keep(path, "clusters", "table", sizes)
    keep(path, "inertia", "curve", {"inertia": [9.0, 4.0, 2.0, 1.5]})
    scores = {"clusters": float(kinds), "noise": float((labels == -1).mean()), "adjusted_rand": 0.7302, "silhouette": 0.5528,
              "calinski_harabasz": 561.6, "davies_bouldin": 0.662}  # fmt: skip
    write(path, "result.json", {"scores": {k: v for k, v in scores.items() if truth or k != "adjusted_rand"}, "epochs": 0,
                                "scores_on": "train", "seconds": 0.12, "timings": {"data": 0.01, "train": 0.09}})  # fmt: skip
    write_metrics(path, [{"kind": "stage", "stage": "fit", "state": "finished", "step": 0, "seconds": 0.0934}])
    write(path, "log.txt", "2026-11-21 10:00:01 WARNING two starts disagree\n")
    return path


def acting(path: Path, envs=2, episodes=300, finished=True) -> Path:
    """An agent's run: episodes of growing return, greedy ones between epochs, pictures of one."""
    config(path, system="dqn", **{"class": "DQN"}, params={"steps": 20_000, "gamma": 0.99, "lr": 0.001},
           command="konspekt fit dqn env=CartPole-v1 steps=20000",
           data={"source": "CartPole-v1", "kind": "environment"})  # fmt: skip
    rng = np.random.default_rng(3)
    lengths = np.maximum(rng.poisson(10 + np.linspace(0, 100, episodes)), 1)
    ended = [(int(lengths[e : i + 1 : envs].sum()), e, i // envs) for i in range(episodes) for e in [i % envs]]
    order = sorted(range(episodes), key=lambda i: ended[i])  # in which they end
    lengths = lengths[order]
    rows = [
        f"{i},{ended[j][1]},{ended[j][2]},{10**9 + i},{float(n)},{n},{int(n > 90)}"
        for i, (j, n) in enumerate(zip(order, lengths, strict=True))
    ]
    write(path, "episodes.csv", "\n".join(["episode,env,number,seed,return,length,truncated", *rows]) + "\n")
    records = []
    for epoch in range(20):
        records.append(
            {"kind": "epoch", "stage": "fit", "epoch": epoch, "step": 900 * (epoch + 1), "loss": 0.5 / (epoch + 1), "seconds": 0.4,
             "env_steps": 1000.0 * (epoch + 1), "episodes": 15.0, "return": 10 + 5.0 * epoch, "length": 10 + 5.0 * epoch, "lr": 1e-3,
             "epsilon": max(0.05, 1 - epoch / 10), "q": 2.0 * epoch, "td_error": 0.1 * epoch, "replay": 10_000.0,
             "grad_norms": {"a.weight": 1.0}} | ({"val_return": 12 + 6.0 * epoch} if epoch % 2 else {})
        )  # fmt: skip
    write(path, "data.json", {"task": "acting", "source": "CartPole-v1", "environments": envs, "observations": "Box(4,) of float32",
                              "actions": "Discrete(2)", "train": 0, "validation": 0, "skipped": [], "notes": [],
                              "fingerprint": "77abcdef0123456"})  # fmt: skip
    end = [{"kind": "stage", "stage": "fit", "state": "finished", "step": 18_000, "stopped": "epochs", "seconds": 8.0}]
    write_metrics(path, [*records, *(end if finished else [])])
    if not finished:
        return path
    last = lengths[-100:]
    write(path, "result.json", {"scores": {"return": float(last.mean()), "length": float(last.mean()), "return_std": float(last.std(ddof=1))},
                                "scores_on": "training", "seconds": 10.0, "epochs": 20, "cut_short": False, "episodes": episodes,
                                "parameters": 4610, "timings": {"train": 9.0, "evaluate": 1.0}})  # fmt: skip
    keep(path, "q against returns", "scatter", {"x": [1.0, 2.0], "y": [1.5, 2.5], "xlabel": "q", "ylabel": "return"})
    (path / "frames").mkdir()
    pictures = [Image.fromarray(np.full((40, 60, 3), 20 * i, np.uint8)) for i in range(5)]
    pictures[0].save(path / "frames" / "episode.gif", save_all=True, append_images=pictures[1:])
    pictures[0].save(path / "frames" / "first.png")
    pictures[0].resize((480, 40)).save(path / "frames" / "strip.png")
    write(path, "frames/episode.json", {"env": "CartPole-v1", "seed": 12, "return": 187.0, "length": 187, "truncated": False,
                                        "every": 2, "pictures": 95})  # fmt: skip
    return path


def stages(path: Path) -> Path:
    """Two finished stages and an open one."""
    config(path, system="autoencoder-clusters", params={"epochs": 8})
    write_metrics(path, metrics("pretrain", 4), metrics("cluster", 6, best=3), metrics("fine-tune", 2, end=False))
    return path


def bare(path: Path) -> Path:
    """Interrupted before anything but config.yaml was there."""
    config(path, system="mlp-classifier", params={})
    return path


@pytest.fixture(scope="session")
def runs():
    """The builders above."""
    from types import SimpleNamespace

    return SimpleNamespace(
        HOSTILE=HOSTILE, acting=acting, bare=bare, classification=classification, clustering=clustering, config=config, full=full, keep=keep, metrics=metrics, png=png,
        regression=regression, result=result, stages=stages, write=write, write_metrics=write_metrics,
    )  # fmt: skip
