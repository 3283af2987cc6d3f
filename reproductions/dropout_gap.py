"""Dropout lowers the test error, on parts of MNIST that are large enough; and what it does to the gap between the losses.

Srivastava, Hinton, Krizhevsky, Sutskever and Salakhutdinov 2014, "Dropout: a simple way to prevent neural networks from
overfitting", https://jmlr.org/papers/v15/srivastava14a.html: table 2, test error on MNIST 1.60 % of a usual net (2 layers of 800
logistic units) and 1.25 % with dropout (3 layers of 1024 rectified units); figure 10: on parts of 100 and of 500 digits dropout
brings nothing, on larger ones a gain in test error that first grows with the size, then declines.

A perceptron of two hidden layers of 1024 rectified units, with dropout of half of the hidden units and without, is trained
on parts of MNIST of several sizes with the same number of steps. (The paper drops a fifth of the pixels too and bounds the norm
of the weights of a unit; neither is done here.) The gap is the mean negative log-likelihood on the 10,000 test digits less that on the
training digits, both in prediction.
"""

from __future__ import annotations

from common import Study, mnist, of_seeds, some

from konspekt import ImageClassifier

SETTINGS = {
    "short": "1024-1024, 2,500 steps of 100, Adam 1e-3 along a cosine",
    "full": "1024-1024, 60,000 steps of 100, all sizes to 60,000, Adam 1e-3 along a cosine",
}


def main() -> None:
    study = Study(__file__, __doc__ or "", SETTINGS)
    X_all, y_all, X_test, y_test = mnist(study)
    sizes = study.pick((500,), (100, 500, 1000, 5000, 10_000), (100, 500, 1000, 5000, 10_000, 50_000, 60_000))
    steps = study.pick(100, 2500, 60_000)
    study.say(" items  dropout  training loss   held-out loss            gap  test error, %")
    table: dict[tuple[int, float], dict[str, list[float]]] = {}
    for size in sizes:
        for dropout in (0.0, 0.5):
            found = table.setdefault((size, dropout), {"on": [], "off": [], "gap": [], "error": []})
            for seed in study.range:
                X, y = some(X_all, y_all, size, seed)
                model = ImageClassifier(
                    arch=f"mlp(hidden=(1024, 1024), dropout={dropout})",
                    epochs=max(1, round(steps / max(1, size / 100))),
                    batch_size=100,
                    lr=1e-3,
                    schedule="cosine",
                    random_state=seed,
                )
                model.fit(X, y)
                on, off = model.evaluate(X, y), model.evaluate(X_test, y_test)
                values = (on["loss"], off["loss"], off["loss"] - on["loss"], 100 * (1 - off["accuracy"]))
                for key, value in zip(found, values, strict=True):
                    found[key].append(value)
            cells = "".join(f"{of_seeds(found[k], '.3f'):>16}" for k in ("on", "off", "gap"))
            study.say(f"{size:6}  {dropout:7g}{cells[1:]}  {of_seeds(found['error'])}")
    for size in sizes:
        without, with_it = (table[size, dropout] for dropout in (0.0, 0.5))
        gaps = f"gap {of_seeds(without['gap'], '.3f')} nats without, {of_seeds(with_it['gap'], '.3f')} with"
        errors = f"test error {of_seeds(without['error'])} % and {of_seeds(with_it['error'])} %"
        paper = "no gain" if size <= 500 else "a gain" if size < 60_000 else "1.60 % without, 1.25 % with"
        study.found("dropout of half of a perceptron's units", f"MNIST, {size:,} digits", paper, f"{gaps}; {errors}")
    study.finish()


if __name__ == "__main__":
    main()
