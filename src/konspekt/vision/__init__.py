"""Learning from images."""

from konspekt.vision.classifier import ImageClassifier
from konspekt.vision.features import FeatureExtractor
from konspekt.vision.localizer import ObjectLocalizer
from konspekt.vision.regressor import ImageRegressor

__all__ = ["FeatureExtractor", "ImageClassifier", "ImageRegressor", "ObjectLocalizer"]
