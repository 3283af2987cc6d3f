import gc
import multiprocessing
import os
import signal
import threading

import gymnasium
import numpy as np
import pytest

from konspekt.core.errors import ConfigError, DataError, ResourceError
from konspekt.rl.seeding import episode_seed
from konspekt.rl.sub_processes import SubProcesses
from konspekt.rl.vector import environments


def falling(at=3, how="raise"):
    """An environment that raises or dies at its step `at`. All that it needs is made inside, as another process has to make it."""
    import os

    import gymnasium
    import numpy as np

    class Falling(gymnasium.Env):
        observation_space = gymnasium.spaces.Box(0, 1, (1,), np.float32)
        action_space = gymnasium.spaces.Discrete(2)
        at = 0

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            self.at = 0
            return np.zeros(1, np.float32), {}

        def step(self, action):
            self.at += 1
            if self.at == at:
                if how == "die":
                    os._exit(3)
                raise RuntimeError("the wheel came off")
            return np.zeros(1, np.float32), 0.0, False, False, {}

    return Falling()


def test_processes_give_what_one_process_gives():
    actions = np.random.default_rng(0).integers(0, 2, (150, 5))
    alone = environments("CartPole-v1", 5, seed=3, compiled=False)
    with environments("CartPole-v1", 5, seed=3, processes=2) as spread:
        assert isinstance(spread, SubProcesses)
        assert (spread.observation_space, spread.action_space) == (alone.observation_space, alone.action_space)
        assert np.array_equal(spread.reset(), alone.reset())
        for row in actions:
            one, other = spread.step(row), alone.step(row)
            for part in ("observation", "reward", "terminated", "truncated", "final"):
                assert getattr(one, part).dtype == getattr(other, part).dtype
                assert np.array_equal(getattr(one, part), getattr(other, part))
            assert (one.final is one.observation) == (other.final is other.observation)
        state = spread.state()
        assert spread.finished == alone.finished

        # A state goes from one form to the other, and back.
        assert alone.load_state(state) == []
        assert np.array_equal(alone.reset(), one.observation)
        assert spread.load_state(alone.state()) == []
        assert np.array_equal(spread.reset(), one.observation)
        assert spread.take_finished() == alone.take_finished()
        with pytest.raises(DataError, match="there are 2 actions, where 5 are needed"):
            spread.step(np.zeros(2, int))
    assert not multiprocessing.active_children()
    with pytest.raises(ResourceError, match="CartPole-v1: the environments are closed"):
        spread.step(actions[0])
    spread.close()  # once more is no error


def test_an_environment_that_raises_names_its_seed_and_step_and_the_others_go_on():
    with environments(falling, 3, seed=1, processes=1) as envs:
        envs.reset()
        for _ in range(2):
            envs.step(np.ones(3, int))
        with pytest.raises(DataError) as caught:
            envs.step(np.ones(3, int))
        seed = episode_seed(1, 0, 0)
        assert str(caught.value) == (
            f"the environment raised RuntimeError: the wheel came off (falling, environment 0, episode 0, seed {seed}, step 3, action 1)"
        )
        assert envs.reset().shape == (3, 1)  # no answer was left in a pipe


def test_a_process_that_dies_is_named_with_its_seeds():
    with environments(lambda: falling(2, "die"), 2, seed=1, processes=1) as envs:
        envs.reset()
        envs.step(np.zeros(2, int))
        with pytest.raises(ResourceError) as caught:
            envs.step(np.zeros(2, int))
        text = str(caught.value)
        assert "the process that plays environments 0 to 1 of the function has died (exit code 3)" in text
        assert f"environment 1: episode 0, seed {episode_seed(1, 1, 0)}, step 2." in text
        assert "with processes=0" in text
        assert not multiprocessing.active_children()
        with pytest.raises(ResourceError, match="has died"):
            envs.step(np.zeros(2, int))


def test_a_process_that_is_killed():
    with environments("CartPole-v1", 2, seed=1, processes=1) as envs:
        envs.reset()
        os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL)
        with pytest.raises(ResourceError, match="killed by signal 9, perhaps because memory ran out"):
            envs.step(np.zeros(2, int))


def test_what_nobody_closes_ends():
    envs = environments("CartPole-v1", 1, seed=1, processes=4)  # no more processes than environments
    assert len(multiprocessing.active_children()) == 1
    del envs
    gc.collect()
    assert not multiprocessing.active_children()


def test_what_cannot_be_sent_or_made():
    lock = threading.Lock()

    def make():
        return gymnasium.make("CartPole-v1") if lock else None

    with pytest.raises(
        ConfigError, match=r"what makes .*make cannot be sent to another process \(TypeError: cannot pickle"
    ):
        environments(make, 2, seed=0, processes=2)
    with pytest.raises(DataError, match=r"the function gave 3 \(int\), which is no gymnasium.Env"):
        environments(lambda: 3, 2, seed=0, processes=1)
    own = falling()  # an instance
    with pytest.raises(ConfigError, match="in processes of their own, and an instance"):
        environments(own, 1, seed=0, processes=1)
    assert not multiprocessing.active_children()
