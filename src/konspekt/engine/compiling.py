"""torch.compile where it pays back within the run. Field `compile`.

To compile costs seconds to minutes, and a small net gains nothing by it, so "auto" asks first how long the rest of the stage
will take. Only where that is many times what compiling costs is the net compiled, a few steps are timed, and the faster
way is kept. The decision is written into the run, because compiled kernels round differently, and a resumed run takes the same.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from torch import nn

__all__ = ["Compiling"]

_COST = 40.0  # seconds that compiling a net may take, forward and backward
_WORTH = 15  # the rest must take so many times as long before it is tried
_LOOK = 10  # steps before the first look, after which caches are warm
_TIMED = 20  # steps each way
_GAIN = 0.95  # a compiled step must take less than this share of a plain one


class Compiling:
    """Decides for one stage.

    wanted: True, False or "auto". chosen: the step from which an earlier part of the run compiled, -1 for never, None if
    nothing was decided. note: called with a line for the log, and the decision. trial: computes a loss and its gradient once.
    """

    def __init__(
        self,
        model: nn.Module,
        wanted: bool | str,
        chosen: int | None,
        note: Callable[[str, int], None],
        trial: Callable[[], None],
    ) -> None:
        self.model, self.note, self.try_once = model, note, trial
        self.start: int | None = chosen if chosen is not None or wanted == "auto" else 0 if wanted else -1
        self.plain: list[float] = []
        self.fast: list[float] = []
        self.trial: int | None = None
        self.last = 0.0

    @property
    def decided(self) -> bool:
        """Whether nothing is left to look at."""
        return self.start is not None and (self.start < 0 or self.compiled)

    @property
    def compiled(self) -> bool:
        """Whether the net runs compiled."""
        return self.model._compiled_call_impl is not None

    def before(self, step: int, left: int, most: float = math.inf) -> None:
        """Called before a step, while nothing is decided. left: how many steps are to come. most: seconds they may take."""
        now = time.perf_counter()
        if self.start is not None:
            if step >= self.start >= 0:
                self.model.compile()
            return
        since, self.last = now - self.last, now
        if self.trial is None:
            self.plain.append(since)
            if len(self.plain) == _LOOK + _TIMED:
                seconds = min(sorted(self.plain[_LOOK:])[_TIMED // 2] * left, most)
                if seconds < _WORTH * _COST:
                    self.start = -1  # not worth a word
                else:
                    self._begin(step)
            return
        self.fast.append(since)
        if len(self.fast) == _LOOK + _TIMED:
            plain, fast = (sorted(t[_LOOK:])[_TIMED // 2] for t in (self.plain, self.fast))
            if fast < _GAIN * plain:
                self.start = self.trial
                self.note(f"compiled: a step takes {fast * 1e3:.3g} ms, {plain * 1e3:.3g} before", self.trial)
            else:
                self.release()
                self.start = -1
                self.note(f"not compiled: a step would take {fast * 1e3:.3g} ms, {plain * 1e3:.3g} as it is", -1)

    def _begin(self, step: int) -> None:
        """Compile, outside of what is timed."""
        self.trial = step
        self.model.compile()
        try:
            self.try_once()
        except Exception as error:  # noqa: BLE001, "auto" asks whether it works here; the log says why it does not
            self.release()
            self.start = -1
            self.note(f"not compiled: {type(error).__name__}: {' '.join(str(error).split())[:200]}", -1)
        self.last = time.perf_counter()

    def release(self) -> None:
        """Let the net run plainly again."""
        self.model._compiled_call_impl = None
