"""Learning from images."""

from konspekt.vision.classifier import ImageClassifier

__all__ = ["ImageClassifier"]
