"""What `make demo` promises: LeNet on scikit-learn's digits, with the shift augmentation, over five seeds."""

from statistics import mean

import pytest

from konspekt import ImageClassifier
from konspekt.data import load


@pytest.mark.slow
def test_lenet_reads_at_least_98_of_100_digits():
    digits, scores = load("digits"), []
    for seed in range(5):
        model = ImageClassifier(image_size=32, augment=("shift",), validation_fraction=0.2, random_state=seed)
        scores.append(model.fit(digits).history_[-1]["val_accuracy"])
    assert mean(scores) >= 0.98, scores
