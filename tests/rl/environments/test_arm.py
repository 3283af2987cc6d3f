import numpy as np
import pytest

from konspekt.core.errors import ConfigError
from konspekt.rl.environments.arm import HOME, Arm


def straight(env):
    """The return of the episode that was begun, of turning to the nearest posture and nothing else."""
    _, turns = env.nearest_posture(env.target[None], env.joints)
    goal, total = env.joints + turns[0], 0.0
    while True:
        observation, reward, terminated, truncated, _ = env.step(((goal - env.joints) / env.speed).astype(np.float32))
        assert observation in env.observation_space
        total += reward
        if terminated or truncated:
            return total


@pytest.mark.parametrize("shaping", [0.0, 10.0])
def test_turning_to_the_nearest_posture_gets_the_optimum_of_each_episode(shaping):
    env = Arm(shaping=shaping)
    totals = []
    for seed in range(150):
        env.reset(seed=seed)
        totals.append(straight(env))
        assert totals[-1] == pytest.approx(env.optimum(env.target), abs=1e-4)
    error = np.std(totals) / np.sqrt(len(totals))
    assert abs(np.mean(totals) - env.optimum()) < 4 * error


def test_no_posture_of_a_dense_grid_is_nearer():
    env = Arm()
    turns = np.linspace(-np.pi, np.pi, 1201)
    first, second = np.meshgrid(turns, turns, indexing="ij")
    shoulder, elbow = HOME[0] + first, HOME[1] + second
    x = 0.5 * np.cos(shoulder) + 0.5 * np.cos(shoulder + elbow)
    y = 0.5 * np.sin(shoulder) + 0.5 * np.sin(shoulder + elbow)
    farther = np.maximum(np.abs(first), np.abs(second))
    for seed in range(12):
        env.reset(seed=seed)
        inside = np.hypot(x - env.target[0], y - env.target[1]) <= env.tolerance
        least = farther[inside].min()
        found = env.nearest_posture(env.target[None], np.array(HOME))[0][0]
        assert found <= least
        assert found == pytest.approx(least, abs=0.02)


def test_no_drawn_actions_are_faster():
    env = Arm(shaping=0)
    rng = np.random.default_rng(0)
    arrived = 0
    for seed in range(300):
        env.reset(seed=seed)
        drift = rng.uniform(-1, 1, 2)
        for step in range(1, 60):
            if env.step(drift + rng.normal(size=2) * 0.1)[2]:
                arrived += 1
                assert -step <= env.optimum(env.target)
                break
    assert arrived > 5


def test_where_the_tip_is():
    env = Arm()
    observation, _ = env.reset(seed=0)
    assert np.allclose(observation[:4], [0, -1, 1, 0], atol=1e-7)  # it hangs
    assert np.allclose(observation[4:6], env.target)
    assert np.allclose(observation[6:], (env.target - [0, -1]) / 2)
    env.joints, env.target = np.array([0.0, np.pi / 2]), np.array([0.5, 0.54])  # the tip is at (0.5, 0.5)
    assert env.step([0, 0])[2]
    env.target = np.array([0.5, 0.56])
    assert not env.step([0, 0])[2]


def test_a_joint_turns_no_faster_than_its_speed():
    env = Arm(speed=0.2)
    env.reset(seed=0)
    env.step([5, -0.5])
    assert np.allclose(env.joints, [HOME[0] + 0.2, HOME[1] - 0.1])


def test_shaping_adds_what_the_tip_came_nearer():
    plain, shaped = Arm(shaping=0), Arm(shaping=3)
    rng = np.random.default_rng(1)
    plain.reset(seed=5)
    shaped.reset(seed=5)
    begun = np.linalg.norm(plain.target - [0, -1])
    sums = np.zeros(2)
    for _ in range(20):
        action = rng.uniform(-1, 1, 2)
        sums += [plain.step(action)[1], shaped.step(action)[1]]
    x, y = (0.5 * (f(plain.joints[0]) + f(plain.joints.sum())) for f in (np.cos, np.sin))
    assert sums[0] == -20
    assert sums[1] == pytest.approx(-20 + 3 * (begun - np.hypot(plain.target[0] - x, plain.target[1] - y)))


def test_targets_fill_the_ring_evenly():
    env = Arm()
    places = np.array([env.reset(seed=seed)[0][4:6] for seed in range(800)])
    radius = np.linalg.norm(places, axis=1)
    assert radius.min() >= 0.2
    assert radius.max() <= 0.9
    assert np.mean(radius < 0.6) == pytest.approx((0.36 - 0.04) / (0.81 - 0.04), abs=0.07)
    assert np.abs(places.mean(axis=0)).max() < 0.07


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"horizon": 20}, "half a turn at speed=0.15 takes 21 steps, and horizon=20 has fewer"),
        ({"tolerance": 0.2}, "tolerance must be more than 0 and less than 0.1, got 0.2"),
        ({"speed": 0}, "speed must be more than 0 and less than 3, got 0"),
    ],
)
def test_what_is_wrong_is_named(arguments, message):
    with pytest.raises(ConfigError, match=message):
        Arm(**arguments)
