import itertools

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from konspekt.rl.mdp import MDP
from konspekt.rl.planning import finite_horizon
from konspekt.testing.two_states import TwoStates

FORMS = [
    pytest.param({"actions": a, "observations": o}, id=f"{a}-{o}")
    for a, o in itertools.product(("discrete", "box"), repeat=2)
]


@pytest.fixture
def registered():
    gymnasium.register(id="TwoStates-v0", entry_point=TwoStates)
    yield
    gymnasium.registry.pop("TwoStates-v0")


@pytest.mark.parametrize("form", FORMS)
def test_gymnasium_finds_nothing_to_say(form, registered):
    check_env(gymnasium.make("TwoStates-v0", **form).unwrapped)


@pytest.mark.parametrize("form", FORMS)
def test_the_optimum_is_the_best_of_all_plans(form):
    env = TwoStates(**form, length=5)
    begun = {}
    for seed in range(20):
        env.reset(seed=seed)
        begun[env.state] = seed
    assert set(begun) == {0, 1}
    for start, seed in begun.items():
        totals = []
        for plan in itertools.product((0, 1), repeat=5):
            env.reset(seed=seed)
            steps = [env.step(a if form["actions"] == "discrete" else [a - 0.5]) for a in plan]
            assert [step[2:4] for step in steps] == [(False, False)] * 4 + [(False, True)]
            totals.append(sum(step[1] for step in steps))
        assert max(totals) == env.optimum(start)
    assert env.optimum() == 4.5


def test_the_planner_says_the_same():
    env = TwoStates()
    plan = finite_horizon(MDP.from_env(env), 8)
    assert plan.v[0].tolist() == [env.optimum(0), env.optimum(1)] == [7, 8]
    assert env.optimum() == 7.5


def test_chance_is_what_drawn_actions_get():
    env = TwoStates()
    rng = np.random.default_rng(0)
    totals = []
    for seed in range(1000):
        env.reset(seed=seed)
        totals.append(sum(env.step(rng.integers(2))[1] for _ in range(8)))
    assert abs(np.mean(totals) - env.chance()) < 4 * np.std(totals) / np.sqrt(1000)
    assert env.chance() == 2


def test_observations_are_the_state():
    env = TwoStates(observations="box", render_mode="rgb_array")
    observation, _ = env.reset(seed=0)
    assert observation.tolist() == [env.state == 0, env.state == 1]
    lit = env.render().mean(axis=(0, 2)).reshape(2, 32).mean(axis=1)
    assert int(lit.argmax()) == env.state
