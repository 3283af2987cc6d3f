"""A recommender: one user, whose taste drifts and is never seen, only what is clicked on."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from konspekt.core.params import AtLeast, MoreThan, Within, check_arguments
from konspekt.core.registry import system
from konspekt.rl.environments.pictures import BLUE, GREY, INK, ORANGE, WATER, Canvas

__all__ = ["Recommender"]

Floats = NDArray[np.float64]
TASTES_EACH = 3  # places of the ring between two items
GREEN = (52, 138, 84)


@system(name="recommender", kind="tool", rows=("R6",), paper="Åström 1965; Besbes, Gur & Zeevi 2014")
class Recommender(gymnasium.Env[Any, Any]):
    """A user to whom one item is shown at each step. A click pays 1, no click 0.

    Items lie evenly on a ring, and so does the user's taste, on one of three times as many places. The taste starts anywhere;
    after each step it moves to a neighbouring place with probability `drift`, whatever was shown. The probability of a
    click is the item's appeal, times exp(-(d / width)^2 / 2) at the distance d between item and taste, counted in items
    (`chances`, places by items). Appeals lie between 0.6 and 0.9 and belong to the items for good. An action is the number of an
    item. After `horizon` steps an episode is truncated.

    observations: "box": the last `memory` steps, the newest first, each as one number for each item: 1 shown and clicked, -1
        shown and not clicked, 0 not shown. "discrete": 0 at the beginning, then 1 + 2 * item + click of the last step.

    The optimum is known in closed form, as no action moves the taste: an oracle that sees it shows the likeliest item,
    and gets horizon times the mean over the places of the largest chance. That bounds what an agent can get, which has to
    guess the taste. `best_fixed` is what always showing the same item gets at best, and whoever follows
    `believe` and shows the likeliest item stands between the two.

    Raises ConfigError on an argument.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 8}  # noqa: RUF012  gymnasium's own way

    def __init__(
        self,
        *,
        items: Annotated[int, Within(2, 100)] = 8,
        drift: Annotated[float, Within(0, 1)] = 0.2,
        width: Annotated[float, MoreThan(0)] = 1.0,
        memory: Annotated[int, AtLeast(1)] = 8,
        horizon: Annotated[int, AtLeast(1)] = 100,
        observations: Literal["discrete", "box"] = "box",
        render_mode: Literal["rgb_array"] | None = None,
    ) -> None:
        given: dict[str, Any] = {"items": items, "drift": drift, "width": width, "memory": memory, "horizon": horizon}
        given |= {"observations": observations, "render_mode": render_mode}
        check_arguments("Recommender", type(self), given)
        self.items, self.drift, self.memory, self.horizon = items, float(drift), memory, horizon
        self.boxed = observations == "box"
        self.render_mode = render_mode
        self.places = items * TASTES_EACH
        apart = np.abs(np.arange(self.places)[:, None] - TASTES_EACH * np.arange(items)[None])
        distance = np.minimum(apart, self.places - apart) / TASTES_EACH
        # The appeals in steps of equal size; by the golden ratio, so that neighbours differ.
        self.appeals = 0.9 - 0.3 * np.argsort(np.argsort(np.arange(items) * 0.618034 % 1)) / (items - 1)
        self.chances: Floats = self.appeals * np.exp(-((distance / width) ** 2) / 2)
        self.observation_space = (
            spaces.Box(-1, 1, (memory * items,), np.float32) if self.boxed else spaces.Discrete(1 + 2 * items)
        )
        self.action_space = spaces.Discrete(items)
        self.taste = 0
        self.past: list[tuple[int, int, bool]] = []  # taste, item, click

    def optimum(self) -> float:
        """The expected number of clicks in an episode of an oracle that sees the taste: no agent gets more."""
        return float(self.horizon * self.chances.max(axis=1).mean())

    def best_fixed(self) -> tuple[int, float]:
        """The item that is best to show always, and the expected number of clicks in an episode."""
        means = self.chances.mean(axis=0)
        return int(means.argmax()), float(self.horizon * means.max())

    def believe(self, belief: Floats, item: int, clicked: bool) -> Floats:
        """The probability of each place of the taste after a step, by that before it and whether the item was clicked.

        It begins with the same for all places. Source: the filter of Åström 1965.
        """
        chance = self.chances[:, item]
        seen = belief * (chance if clicked else 1 - chance)
        seen = seen / seen.sum()
        moved: Floats = (1 - self.drift) * seen + self.drift / 2 * (np.roll(seen, 1) + np.roll(seen, -1))
        return moved

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Another user, with a taste anywhere on the ring."""
        super().reset(seed=seed)
        self.taste = int(self.np_random.integers(self.places))
        self.past = []
        return self._observe(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Show an item, then let the taste drift."""
        item = int(action)
        clicked = bool(self.np_random.random() < self.chances[self.taste, item])
        self.past.append((self.taste, item, clicked))
        if self.np_random.random() < self.drift:
            self.taste = (self.taste + int(self.np_random.choice((-1, 1)))) % self.places
        return self._observe(), float(clicked), False, len(self.past) >= self.horizon, {}

    def _observe(self) -> Any:
        if not self.boxed:
            return 1 + 2 * self.past[-1][1] + int(self.past[-1][2]) if self.past else 0
        seen = np.zeros((self.memory, self.items), np.float32)
        for back, (_, item, clicked) in enumerate(self.past[: -self.memory - 1 : -1]):
            seen[back, item] = 1 if clicked else -1
        return seen.reshape(-1)

    def render(self) -> NDArray[np.uint8] | None:
        """The ring with the items and the hidden taste, and below it what was shown when, if render_mode is "rgb_array"."""
        if self.render_mode != "rgb_array":
            return None
        canvas = Canvas(420, 400)
        middle, radius = np.array([130.0, 122.0]), 88
        canvas.disc((130, 122), radius, None, edge=(214, 218, 224), width=2)

        def place(taste: float, far: float) -> tuple[float, float]:
            angle = 2 * np.pi * taste / self.places - np.pi / 2
            return float(middle[0] + far * np.cos(angle)), float(middle[1] + far * np.sin(angle))

        canvas.line([(130, 122), place(self.taste, radius - 30)], ORANGE, 3)
        canvas.disc(place(self.taste, radius - 30), 6, ORANGE)
        size = min(20.0, 220 / self.items)
        for item in range(self.items):
            where = place(item * TASTES_EACH, radius)
            colour = WATER
            if self.past and self.past[-1][1] == item:
                colour = GREEN if self.past[-1][2] else GREY
            canvas.disc(where, size * self.appeals[item] / 0.9, colour, edge=BLUE, width=1.5)
            canvas.text(where, str(item), INK if colour is not GREEN else (255, 255, 255), size * 0.75, "mm")
        clicks = sum(clicked for _, _, clicked in self.past)
        canvas.text((250, 28), f"step {len(self.past)} of {self.horizon}", size=16)
        canvas.text((250, 52), f"{clicks} clicks", size=16)
        for y, colour, words in (
            (96, ORANGE, "taste, which is hidden"),
            (118, GREEN, "clicked"),
            (140, GREY, "not clicked"),
        ):
            canvas.disc((256, y), 5, colour)
            canvas.text((268, y), words, size=13, anchor="lm")
        self._draw_past(canvas)
        return canvas.pixels()

    def _draw_past(self, canvas: Canvas) -> None:
        left, right, top, bottom = 34, 408, 246, 388
        high, wide = (bottom - top) / self.items, (right - left) / self.horizon
        for item in range(self.items):
            y = top + (item + 0.5) * high
            canvas.line([(left, y), (right, y)], (228, 230, 232))
            if self.items <= 16:
                canvas.text((left - 10, y), str(item), size=min(13, high), anchor="mm")

        def height(taste: float) -> float:
            return top + (taste / TASTES_EACH + 0.5) * high

        way: list[tuple[float, float]] = []
        for step, (taste, _, _) in enumerate(self.past):
            if step and abs(taste - self.past[step - 1][0]) > 1:  # once round the ring
                if len(way) > 1:
                    canvas.line(way, ORANGE, 2)
                way = []
            way.append((left + (step + 0.5) * wide, height(taste)))
        if len(way) > 1:
            canvas.line(way, ORANGE, 2)
        for step, (_, item, clicked) in enumerate(self.past):
            where = (left + (step + 0.5) * wide, top + (item + 0.5) * high)
            canvas.disc(where, max(1.5, min(wide, high) * 0.45), GREEN if clicked else GREY)
