"""What all environments have in common; each one's optimum is tested in its own file."""

import subprocess
import sys

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from scipy.stats import chisquare

from konspekt.core.errors import ConfigError
from konspekt.core.registry import entries
from konspekt.rl.environments import ENVIRONMENTS, make, register, specify
from konspekt.rl.environments.tables import TableEnvironment
from konspekt.rl.mdp import MDP
from konspekt.rl.planning import finite_horizon

SMALL = {"konspekt/Track-v0": {"layout": "short"}, "konspekt/Stock-v0": {"capacity": 6}}
VARIANTS = [(name, SMALL.get(name, {})) for name in ENVIRONMENTS]
VARIANTS += [
    (name, {**arguments, "observations": "discrete" if name == "konspekt/Recommender-v0" else "box"})
    for name, arguments in VARIANTS
    if name != "konspekt/Arm-v0"
]
TABLES = [(name, arguments) for name, arguments in VARIANTS[:5] if name[9:13] in ("Game", "Stoc", "Trac")]
every = pytest.mark.parametrize(("name", "arguments"), VARIANTS)
with_table = pytest.mark.parametrize(("name", "arguments"), TABLES)


@pytest.fixture
def registered():
    register()
    register()  # changes nothing
    yield
    for name in ENVIRONMENTS:
        gymnasium.registry.pop(name)


@every
def test_gymnasium_finds_nothing_to_say(name, arguments, registered):
    env = gymnasium.make(name, **arguments).unwrapped
    assert f"{type(env).__module__}:{type(env).__name__}" == ENVIRONMENTS[name]
    assert env.metadata["render_modes"] == ["rgb_array"]
    check_env(env)  # warnings are errors


def test_gymnasium_knows_none_of_them_before_it_is_told():
    code = (
        "import gymnasium, konspekt.rl.environments as e; "
        "print(any(n.startswith('konspekt/') for n in gymnasium.registry)); e.register(); "
        "print(sum(n.startswith('konspekt/') for n in gymnasium.registry))"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert said == ["False", "5"]


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_a_specification_needs_no_registering(name):
    env = gymnasium.make(specify(name), render_mode="rgb_array")
    assert name not in gymnasium.registry
    assert env.spec.id == name
    assert type(env.unwrapped) is type(make(name))
    env.reset(seed=0)
    assert env.render().ndim == 3
    again = gymnasium.make(env.spec)  # as one does for a second one
    assert again.reset(seed=3)[0] in again.observation_space


def test_each_is_in_the_registry():
    listed = {f"{e.module}:{e.qualname}" for e in entries() if "R6" in e.rows and ".environments." in e.module}
    assert listed == set(ENVIRONMENTS.values())


def test_an_unknown_id_is_named_with_the_nearest():
    for asked in (make, specify):
        with pytest.raises(
            ConfigError, match=r"'konspekt/Trak-v0' is no environment .*; did you mean 'konspekt/Track-v0'"
        ):
            asked("konspekt/Trak-v0")


def play(env, seed, actions=200):
    """Everything that an episode of drawn actions shows."""
    rng = np.random.default_rng(seed)
    shown = [env.reset(seed=seed)[0]]
    for _ in range(actions):
        if isinstance(env.action_space, gymnasium.spaces.Discrete):
            action = rng.integers(env.action_space.n)
        else:
            action = rng.uniform(-1, 1, env.action_space.shape)
        observation, reward, terminated, truncated, _ = env.step(action)
        assert observation in env.observation_space
        assert np.isfinite(reward)
        assert not (terminated and truncated)
        shown += [observation, reward, terminated, truncated]
        if terminated or truncated:
            break
    return shown


@every
def test_an_episode_follows_from_its_seed_and_its_actions(name, arguments):
    env, other = make(name, **arguments), make(name, **arguments)
    other.reset(seed=77)  # what was before does not count
    first, second = play(env, 3), play(other, 3)
    assert len(first) == len(second)
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    episodes = [play(env, seed) for seed in range(8)]
    assert len({str(episode) for episode in episodes}) > 1


@pytest.mark.parametrize("name", [n for n in ENVIRONMENTS if n != "konspekt/Game-v0"])
def test_an_episode_is_truncated_after_the_horizon(name):
    env = make(name, horizon=30)
    assert env.horizon == 30
    idle = np.zeros(2) if name == "konspekt/Arm-v0" else 4 if name == "konspekt/Track-v0" else 0
    env.reset(seed=0)
    ends = [env.step(idle)[2:4] for _ in range(30)]
    assert ends == [(False, False)] * 29 + [(False, True)]


@every
def test_pictures_show_what_happens(name, arguments):
    env = make(name, **arguments, render_mode="rgb_array")
    env.reset(seed=0)
    before = env.render()
    env.step(env.action_space.sample() if name == "konspekt/Arm-v0" else 1)
    env.step(np.ones(2) if name == "konspekt/Arm-v0" else 2)
    after = env.render()
    assert before.dtype == np.uint8
    assert before.shape == after.shape
    assert before.ndim == 3
    assert 280 <= before.shape[0] <= 440
    assert 380 <= before.shape[1] <= 440
    assert (before != after).any()
    assert make(name, **arguments).render() is None


@with_table
def test_the_table_is_one(name, arguments):
    env = make(name, **arguments)
    assert sorted(env.P) == list(range(env.observation_space.n))
    assert env.initial_state_distrib.sum() == pytest.approx(1)
    for choices in env.P.values():
        assert sorted(choices) == list(range(env.action_space.n))
        for outcomes in choices.values():
            assert sum(outcome[0] for outcome in outcomes) == pytest.approx(1)
            assert all(outcome[1] in env.P for outcome in outcomes)


@with_table
def test_steps_come_as_often_as_the_table_says(name, arguments):
    env = make(name, **arguments)
    env.reset(seed=1)
    rng = np.random.default_rng(0)
    pairs = [(s, a) for s in env.P for a in env.P[s] if len(env.P[s][a]) > 2]
    tested = [pairs[i] for i in rng.choice(len(pairs), 5, replace=False)]
    for state, action in tested:
        outcomes = env.P[state][action]
        counts = dict.fromkeys([outcome[1:] for outcome in outcomes], 0)
        for _ in range(2000):
            env.state, env.steps = state, 0
            _, reward, terminated, _, _ = env.step(action)
            counts[env.state, reward, terminated] += 1
        expected = 2000 * np.array([outcome[0] for outcome in outcomes])
        rare = expected < 5  # chi-square needs some of each
        seen = np.array(list(counts.values()))
        seen, expected = np.append(seen[~rare], seen[rare].sum()), np.append(expected[~rare], expected[rare].sum())
        kept = expected > 0
        assert chisquare(seen[kept], expected[kept] * seen.sum() / expected.sum()).pvalue > 1e-4


@with_table
def test_the_best_actions_get_the_optimum(name, arguments):
    env = make(name, **arguments)
    totals = []
    for seed in range(300):
        state, _ = env.reset(seed=seed)
        total, step, done = 0.0, 0, False
        while not done:
            state, reward, terminated, truncated, _ = env.step(env.plan.policy[step, state])
            total, step, done = total + reward, step + 1, terminated or truncated
        totals.append(total)
    error = np.std(totals) / np.sqrt(len(totals))
    assert abs(np.mean(totals) - env.optimum()) < 4 * error
    assert error < 0.02 * abs(env.optimum()) + 0.05


@with_table
def test_the_planner_reads_the_table_from_the_environment(name, arguments):
    env = make(name, **arguments)
    plan = finite_horizon(MDP.from_env(env), env.horizon)
    assert env.initial_state_distrib @ plan.v[0] == pytest.approx(env.optimum(), abs=1e-9)
    boxed = make(name, **arguments, observations="box")
    assert isinstance(boxed, TableEnvironment)
    assert boxed.optimum() == pytest.approx(env.optimum())


@with_table
def test_as_numbers_every_state_is_another(name, arguments):
    env = make(name, **arguments, observations="box")
    rows = np.array([env.features(state) for state in env.P])
    assert all(row in env.observation_space for row in rows)
    assert len(np.unique(rows, axis=0)) == len(rows)
