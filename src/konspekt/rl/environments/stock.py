"""A stock to run: how much to order each morning, while customers come by chance."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from konspekt.core.params import AtLeast, MoreThan, Within, check_arguments
from konspekt.core.registry import system
from konspekt.rl.environments.pictures import BLUE, GREY, INK, ORANGE, RED, Canvas
from konspekt.rl.environments.tables import Pixels, TableEnvironment

__all__ = ["Stock"]

Floats = NDArray[np.float64]
Day = tuple[int, int, int]  # pieces in the morning, ordered, left in the evening


@system(name="stock", kind="tool", rows=("R6",), paper="Arrow, Harris & Marschak 1951; Scarf 1960; Puterman 1994, 3.2")
class Stock(TableEnvironment):
    """A shop's stock of one good. In the morning one orders, the delivery comes at once, then the customers do.

    An action is the number of pieces to order, 0 to `capacity`; what the room does not hold is not delivered. Customers ask
    for a number drawn from Poisson's law with mean `demand`; whom the stock does not serve is lost, and not seen. A day
    pays `margin` for each piece sold, less `holding` for each one left in the evening, less `order_cost` if anything was
    ordered. The first day begins with an empty stock, and after `horizon` days an episode is truncated.

    observations: "discrete": the pieces in stock; "box": the same as a number of -1 to 1.

    The optimum is computed: `P` holds what every order leads to, and `optimum` goes backwards through the days. Without an
    `order_cost` it has a closed form, too (the newsvendor's): fill up every morning to the least level that covers the demand with
    probability margin / (margin + holding), or to the capacity. That is best on every day alike, as one never starts above it.
    `rule(s, S)` is what filling up to S whenever the stock is s or less earns, and `best_rule` the best of these.

    Raises ConfigError on an argument.
    """

    def __init__(
        self,
        *,
        capacity: Annotated[int, Within(1, 200)] = 20,
        demand: Annotated[float, MoreThan(0)] = 5.0,
        margin: Annotated[float, MoreThan(0)] = 4.0,
        holding: Annotated[float, MoreThan(0)] = 1.0,
        order_cost: Annotated[float, AtLeast(0)] = 10.0,
        horizon: Annotated[int, AtLeast(1)] = 50,
        observations: Literal["discrete", "box"] = "discrete",
        render_mode: Literal["rgb_array"] | None = None,
    ) -> None:
        given: dict[str, Any] = {"capacity": capacity, "demand": demand, "margin": margin, "holding": holding}
        given |= {"order_cost": order_cost, "horizon": horizon, "observations": observations}
        check_arguments("Stock", type(self), {**given, "render_mode": render_mode})
        self.capacity, self.demand, self.margin = capacity, float(demand), float(margin)
        self.holding, self.order_cost = float(holding), float(order_cost)
        evenings = self._evenings()
        self.P = {
            stock: {
                order: [
                    (
                        float(p),
                        left,
                        self._earned(min(stock + order, capacity), left, stock < capacity and order > 0),
                        False,
                    )
                    for left, p in enumerate(evenings[min(stock + order, capacity)])
                    if p > 0
                ]
                for order in range(capacity + 1)
            }
            for stock in range(capacity + 1)
        }
        self.initial_state_distrib = np.eye(capacity + 1)[0]
        self.begin(observations, 1, horizon, render_mode)
        self.action_space = spaces.Discrete(capacity + 1)
        self.days: list[Day] = []
        self.total = 0.0

    def _evenings(self) -> Floats:
        """Row y: the probabilities that 0, 1, ... pieces are left of y."""
        from scipy.stats import poisson

        shares = np.zeros((self.capacity + 1, self.capacity + 1))
        for filled in range(self.capacity + 1):
            shares[filled, 1 : filled + 1] = poisson.pmf(np.arange(filled - 1, -1, -1), self.demand)
            shares[filled, 0] = poisson.sf(filled - 1, self.demand)  # all are sold, however many were asked for
        return shares

    def _earned(self, filled: int, left: int, ordered: bool) -> float:
        return self.margin * (filled - left) - self.holding * left - self.order_cost * ordered

    def features(self, state: int) -> NDArray[np.float32]:
        """The stock as -1 (empty) to 1 (full)."""
        return np.array([2 * state / self.capacity - 1], np.float32)

    def rule(self, low: int, high: int) -> float:
        """The expected return of an episode in which one fills up to `high` whenever the stock is `low` or less."""
        orders = [max(high - stock, 0) if stock <= low else 0 for stock in range(self.capacity + 1)]
        outcomes = [self.P[stock][order] for stock, order in enumerate(orders)]
        goes = np.zeros((self.capacity + 1, self.capacity + 1))
        for stock, followers in enumerate(outcomes):
            for probability, left, _, _ in followers:
                goes[stock, left] = probability
        paid = np.array([sum(p * reward for p, _, reward, _ in followers) for followers in outcomes])
        value = np.zeros(self.capacity + 1)
        for _ in range(self.horizon):
            value = paid + goes @ value
        return float(value[0])

    def best_rule(self) -> tuple[int, int]:
        """The (s, S) of the largest return, of all pairs."""
        pairs = [(low, high) for high in range(1, self.capacity + 1) for low in range(high)]
        return max(pairs, key=lambda pair: self.rule(*pair))

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Open the shop, with nothing in stock."""
        self.days, self.total = [], 0.0
        return super().reset(seed=seed)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Order, and see what is left in the evening."""
        stock = self.state
        found = super().step(action)
        self.days.append((stock, min(int(action), self.capacity - stock), self.state))
        self.total += found[1]
        return found

    def draw(self) -> Pixels:
        """The shelf of the last day (what was sold is pale, what was ordered orange) and the stock day by day."""
        canvas = Canvas(420, 340)
        morning, ordered, left = self.days[-1] if self.days else (0, 0, 0)
        canvas.text((20, 14), f"day {len(self.days)} of {self.horizon}", size=16)
        canvas.text((400, 14), f"earned {self.total:.0f}", size=16, anchor="rt")
        columns = min(self.capacity, 10)
        rows = -(-self.capacity // columns)
        wide, high = 380 / columns, 120 / rows
        edge = min(wide, high) / 12
        for piece in range(self.capacity):
            x, y = 20 + piece % columns * wide, 160 - (piece // columns + 1) * high
            there = piece < morning + ordered
            colour = (ORANGE if piece >= morning else BLUE) if there else None
            if there and piece >= left:
                colour = (246, 216, 184) if piece >= morning else (200, 214, 232)
            if colour:
                canvas.box(x + edge, y + edge, x + wide - edge, y + high - edge, colour, radius=edge * 1.5)
                middle = x + wide / 2
                canvas.box(middle - edge, y + edge, middle + edge, y + high * 0.4, (250, 248, 243))
        for row in range(rows):
            canvas.box(14, 160 - row * high - 1.5, 406, 160 - row * high + 1.5, (138, 106, 76))
        for x, colour, word in ((20, BLUE, "in stock"), (110, ORANGE, "ordered"), (196, (200, 214, 232), "sold today")):
            canvas.box(x, 172, x + 11, 183, colour, radius=2)
            canvas.text((x + 16, 178), word, size=12, anchor="lm")
        self._draw_days(canvas)
        return canvas.pixels()

    def _draw_days(self, canvas: Canvas) -> None:
        wide = 380 / self.horizon
        up = 110 / self.capacity
        canvas.text((20, 200), "evening stock; above it what it was filled to; red: sold out", INK, 12)
        for day, (morning, ordered, left) in enumerate(self.days):
            x = 20 + day * wide
            gap = min(1.0, wide / 8)
            canvas.box(x + gap, 326 - left * up, x + wide - gap, 326, BLUE)
            if ordered:
                top = morning + ordered
                canvas.box(x + gap, 326 - top * up, x + wide - gap, 326 - top * up + 3, ORANGE)
            if left == 0:
                canvas.disc((x + wide / 2, 332), 2.2, RED)
        canvas.line([(20, 326), (400, 326)], GREY)
