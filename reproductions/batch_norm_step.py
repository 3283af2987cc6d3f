"""Batch normalisation lets a net learn at learning rates at which the same net without it does not.

Ioffe and Szegedy 2015, "Batch normalization: accelerating deep network training by reducing internal covariate shift",
https://arxiv.org/abs/1502.03167, section 4.2: with batch normalisation Inception learns at 5 and at 30 times the rate of the net
without it, whose weights overflow at five times its rate.

VGG A thinned to an eighth, with and without batch normalisation, on MNIST: SGD with momentum 0.9, a grid of constant rates. A rate
is usable if each seed's net reads 90 % of the test digits at the end. The grid's step is a factor of sqrt(10).
"""

from __future__ import annotations

from common import Study, mnist, some

from konspekt import ImageClassifier
from konspekt.core.errors import DivergedError

SETTINGS = {
    "short": "VGG A, width 1/8, 10,000 digits, 3 epochs of 64",
    "full": "VGG A, width 1/2, 60,000 digits, 10 epochs of 64",
}
RATES = tuple(10.0 ** (k / 2) for k in range(-6, 4))
ENOUGH = 0.9


def main() -> None:
    study = Study(__file__, __doc__ or "", SETTINGS)
    X_all, y_all, X_test, y_test = mnist(study, pad=2)
    size, epochs, width = study.pick((1000, 1, 0.125), (10_000, 3, 0.125), (60_000, 10, 0.5))
    X_test, y_test = some(X_test, y_test, study.pick(500, 10_000, 10_000), 0)
    usable: dict[str, list[float]] = {}
    study.say("net       rate    test accuracy by seed, in %")
    for net in ("vgg11", "vgg11_bn"):
        for rate in study.pick((0.01, 0.1), RATES, RATES):
            reached: list[float | None] = []
            for seed in study.range:
                X, y = some(X_all, y_all, size, seed)
                model = ImageClassifier(
                    arch=f"{net}(width={width})",
                    optimizer="momentum(momentum=0.9)",
                    lr=rate,
                    epochs=epochs,
                    batch_size=64,
                    random_state=seed,
                )
                try:
                    reached.append(model.fit(X, y).score(X_test, y_test))
                except DivergedError:
                    reached.append(None)
            each = "  ".join("diverged" if r is None else f"{100 * r:8.2f}" for r in reached)
            study.say(f"{net:8}  {rate:<6.3g}  {each}")
            if all(r is not None and r >= ENOUGH for r in reached):
                usable.setdefault(net, []).append(rate)
    largest = {net: max(usable.get(net, [0.0])) for net in ("vgg11", "vgg11_bn")}
    study.say(
        f"largest usable rate: {largest['vgg11']:.3g} without, {largest['vgg11_bn']:.3g} with batch normalisation"
    )
    factor = f", {largest['vgg11_bn'] / largest['vgg11']:.3g} times as large" if largest["vgg11"] else ""
    study.found(
        "batch normalisation in VGG A, largest usable rate",
        f"MNIST, {size:,} digits",
        "5 to 30 times the rate without it",
        f"{largest['vgg11']:.3g} without, {largest['vgg11_bn']:.3g} with{factor}",
    )
    study.finish()


if __name__ == "__main__":
    main()
