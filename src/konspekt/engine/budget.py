"""The time that a fit may take, and what must be kept back of it. Field `max_time`.

When the training ends there is work left: a measurement on the held-out items, the predictions for the run folder, a
checkpoint, the model. What that will take is forecast from what it took so far, and training stops that much before the limit.
"""

from __future__ import annotations

import math
import time

__all__ = ["Budget"]

_DISK = 100e6  # bytes a second, until a checkpoint has been timed: written, flushed and summed
_FIXED = 0.1  # seconds for what does not grow with data or net: small files, example pictures
_SMALL = 0.005  # the same without a run folder
_SAFE = 1.2  # times what is forecast, as no two measurements take the same time


class Budget:
    """What is left of a fit's time.

    limit: seconds for the whole fit, None for any. began: time.perf_counter() at its start, less what earlier parts of the
    run used. writes: whether there is a run folder. size: bytes of a checkpoint. one_pass: seconds of a forward pass over
    the items that are measured. measures: whether there is validation within the training.
    """

    def __init__(
        self, limit: float | None, began: float, *, writes: bool, size: int, one_pass: float, measures: bool
    ) -> None:
        self.limit, self.began, self.writes, self.measures = limit, began, writes, measures
        self.one_pass = one_pass
        self.one_save = size / _DISK + 0.02 if writes else 0.0
        self.step = 0.0  # seconds of the slowest of the newest steps

    def stepped(self, seconds: float) -> None:
        """Note what a step took; one slow step counts less and less."""
        self.step = max(seconds, 0.9 * self.step)

    def measured(self, seconds: float) -> None:
        """Note what a measurement took."""
        self.one_pass = seconds

    def saved(self, seconds: float) -> None:
        """Note what a checkpoint took."""
        self.one_save = seconds

    @property
    def reserve(self) -> float:
        """Seconds for what follows the last step."""
        passes = self.measures + (3 if self.writes else 0)  # in the run folder: scores, predictions, losses of items
        seconds = passes * self.one_pass + (2 * self.one_save + _FIXED if self.writes else _SMALL)
        return seconds * _SAFE

    def over(self, now: float) -> bool:
        """Whether another step would end too late."""
        return self.limit is not None and now - self.began + self.step + self.reserve > self.limit

    @property
    def left(self) -> float:
        """Seconds until the limit."""
        return math.inf if self.limit is None else self.limit - self.used

    @property
    def used(self) -> float:
        """Seconds of the whole fit so far."""
        return time.perf_counter() - self.began
