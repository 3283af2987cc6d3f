"""The degradation problem: with depth the training error of a plain net grows, that of a residual net does not.

He, Zhang, Ren and Sun 2016, "Deep residual learning for image recognition", https://arxiv.org/abs/1512.03385, section 4.2,
figure 6 and table 6. On CIFAR-10 "deep plain nets suffer from increased depth, and exhibit higher training error when going
deeper"; ResNets' falls. The test errors are 8.75, 7.51, 7.17 and 6.97 % with 20, 32, 44 and 56 layers.

The nets are the paper's; with shortcuts=False a net is the same but for its shortcuts. SGD with momentum 0.9; l2=5e-5 adds
1e-4 w to the gradient, which is the paper's weight decay. What is measured: the loss and the error on the training images,
in prediction, after the last epoch.

The short setting makes it on a part of MNIST with thin nets. MNIST is so easy that all nets would learn it by heart if they
were given the time, so it shows how far each gets in few epochs. The full setting is the paper's: CIFAR-10, 64,000 steps
of 128 images, the rate 0.1 divided by ten twice (here after a third and two thirds, there at 32,000 and 48,000), flips and crops.
"""

from __future__ import annotations

from typing import Any

from common import Study, mnist, of_seeds, some

import konspekt
from konspekt import ImageClassifier

SETTINGS = {
    "short": "10,000 digits, width 0.5, 5 epochs of 128, rate 0.05 along a cosine, bf16",
    "full": "CIFAR-10, 164 epochs of 128, rate 0.1 divided by 10 at epochs 55 and 110, 32 bits",
}
DEPTHS = (20, 32, 44, 56)


def main() -> None:
    study = Study(__file__, __doc__ or "", SETTINGS)
    options: dict[str, Any] = {"optimizer": "momentum(momentum=0.9)", "batch_size": 128}
    width, depths = study.pick(0.25, 0.5, 1.0), study.pick((20, 56), DEPTHS, DEPTHS)
    if study.setting == "full":
        data = konspekt.data.fetch("cifar10", folder=study.data)
        parts = (data.X, data.y, data.test.X, data.test.y)
        options |= {"lr": 0.1, "epochs": 164, "schedule": "step(every=55)", "augment": ("crop(padding=4)", "flip")}
    else:
        parts = mnist(study)
        options |= {"lr": 0.05, "epochs": study.pick(1, 5, 164), "schedule": "cosine", "precision": "bf16"}
    X_all, y_all, X_test, y_test = parts
    errors: dict[tuple[bool, int], list[float]] = {}
    study.say("layers  net       seed  training loss  training error  test error")
    for depth in depths:
        for shortcuts in (False, True):
            name = "residual" if shortcuts else "plain"
            for seed in study.range:
                X, y = some(X_all, y_all, study.pick(1000, 10_000, len(X_all)), seed)
                arch = f"resnet{depth}(width={width}, shortcuts={shortcuts})"
                model = ImageClassifier(arch=arch, l2=5e-5, random_state=seed, **options).fit(X, y)
                on, off = model.evaluate(X, y), 1 - model.score(X_test, y_test)
                errors.setdefault((shortcuts, depth), []).append(100 * (1 - on["accuracy"]))
                study.say(
                    f"{depth:6}  {name:8}  {seed:4}  {on['loss']:13.4f}  {100 * (1 - on['accuracy']):12.2f} %  "
                    f"{100 * off:8.2f} %"
                )
    for shortcuts, paper in (
        (False, "the error grows with depth (figure 6, left)"),
        (True, "the error falls with depth (figure 6, middle)"),
    ):
        found = ", ".join(f"{depth}: {of_seeds(errors[shortcuts, depth])} %" for depth in depths)
        name = "residual" if shortcuts else "plain"
        study.say(f"training error, {name}: " + ", ".join(f"{d}: {of_seeds(errors[shortcuts, d])}" for d in depths))
        data_name = "CIFAR-10" if study.setting == "full" else "MNIST, a sixth"
        study.found(f"{name} net, layers", f"{data_name}; training error", paper, found)
    study.finish()


if __name__ == "__main__":
    main()
