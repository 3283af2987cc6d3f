import itertools

import numpy as np
import pytest
from scipy.stats import poisson

from konspekt.core.errors import ConfigError
from konspekt.rl.environments.stock import Stock


def expected_day(filled, demand, margin, holding):
    """What a day pays on average that begins with so many pieces, summed over the customers."""
    asked = np.arange(200)
    sold = np.minimum(asked, filled)
    return float(poisson.pmf(asked, demand) @ (margin * sold - holding * (filled - sold)))


@pytest.mark.parametrize(("margin", "holding", "demand"), [(4, 1, 5), (1, 3, 5), (9, 0.5, 2.5)])
def test_without_order_cost_the_newsvendor_knows_the_optimum(margin, holding, demand):
    env = Stock(margin=margin, holding=holding, demand=demand, order_cost=0, capacity=15, horizon=40)
    level = int(poisson.ppf(margin / (margin + holding), demand))
    days = [expected_day(filled, demand, margin, holding) for filled in range(16)]
    assert int(np.argmax(days)) == level
    assert env.optimum() == pytest.approx(40 * days[level])
    assert env.rule(level - 1, level) == pytest.approx(40 * days[level])
    assert env.best_rule()[1] == level
    assert [env.plan.policy[t, stock] for t in (0, 39) for stock in (0, level)] == [level, 0, level, 0]


def test_too_small_a_room_is_filled():
    env = Stock(capacity=3, demand=9, order_cost=0, horizon=10)
    assert env.optimum() == pytest.approx(10 * expected_day(3, 9, 4, 1))


def test_no_plan_of_all_plans_gets_more():
    # 3 states, 3 orders, 3 days: each day one of 27 rules
    env = Stock(capacity=2, demand=1.2, order_cost=1.5, horizon=3)
    asked = np.arange(60)
    chance = poisson.pmf(asked, 1.2)
    pays, goes = np.zeros((3, 3)), np.zeros((3, 3, 3))
    for stock, order in itertools.product(range(3), range(3)):
        filled = min(stock + order, 2)
        left = np.maximum(filled - asked, 0)
        pays[stock, order] = chance @ (4 * (filled - left) - left) - 1.5 * (filled > stock)
        for evening in range(3):
            goes[stock, order, evening] = chance[left == evening].sum()
    rules = [np.array(rule) for rule in itertools.product(range(3), repeat=3)]
    states = np.arange(3)
    totals = []
    for last, middle in itertools.product(rules, rules):
        v = pays[states, last]
        v = pays[states, middle] + goes[states, middle] @ v
        totals += [pays[0, rule[0]] + goes[0, rule[0]] @ v for rule in rules]
    assert len(totals) == 27**3
    assert env.optimum() == pytest.approx(max(totals))


def test_rules_get_what_a_shop_of_its_own_gets():
    env = Stock(horizon=30)
    low, high = env.best_rule()
    rng = np.random.default_rng(0)
    stock, total = np.zeros(20_000, int), np.zeros(20_000)
    for _ in range(30):
        filled = np.where(stock <= low, high, stock)
        sold = np.minimum(filled, rng.poisson(5, len(stock)))
        total += 4 * sold - (filled - sold) - 10 * (filled > stock)
        stock = filled - sold
    assert abs(total.mean() - env.rule(low, high)) < 4 * total.std() / np.sqrt(len(total))
    assert env.rule(low, high) < env.optimum()  # which knows which day is the last
    assert env.rule(low, high) > 0.98 * env.optimum()


def test_more_than_the_room_holds_is_not_delivered():
    env = Stock(capacity=5, demand=0.001, order_cost=2, holding=1)
    env.reset(seed=0)
    assert env.step(3)[:2] == (3, -2 - 3)
    assert env.step(4)[:2] == (5, -2 - 5)
    assert env.step(4)[:2] == (5, -5)  # the room is full, and nothing is ordered


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"capacity": 201}, "capacity must be an integer from 1 to 200, got 201"),
        ({"demand": 0}, "demand must be more than 0, got 0"),
        ({"order_cost": -1}, "order_cost must be at least 0, got -1"),
    ],
)
def test_what_is_wrong_is_named(arguments, message):
    with pytest.raises(ConfigError, match=message):
        Stock(**arguments)
