"""The ring of observations: against a list of all that ever happened, episode by episode."""

import numpy as np
import pytest
from scipy import stats

from konspekt.core.errors import ResourceError
from konspekt.rl import replay_memory
from konspekt.rl.prioritised import PrioritisedReplay, SumTree
from konspekt.rl.replay import ENTRY_BYTES, Replay
from konspekt.rl.replay_memory import check_replay, free_memory
from konspekt.rl.vector import Step


class History:
    """Random episodes of n environments, written into a replay and, whole, into lists.

    An observation is (environment, episode, place), so that it says where it comes from.
    """

    def __init__(self, replay, steps, seed=0, ends=0.2):
        rng = np.random.default_rng(seed)
        n = replay.num
        self.episodes = [[[]] for _ in range(n)]  # of each environment: (reward, terminated, truncated) a step
        place = np.zeros(n, int)
        episode = np.zeros(n, int)
        env = np.arange(n)
        now = np.stack([env, episode, place], 1).astype(np.float32)
        replay.begin(now)
        for _ in range(steps):
            reward = rng.normal(size=n)
            terminated, truncated = rng.random(n) < ends / 2, rng.random(n) < ends / 2
            place += 1
            final = np.stack([env, episode, place], 1).astype(np.float32)
            ended = terminated | truncated
            for i in range(n):
                self.episodes[i][-1].append((reward[i], terminated[i], truncated[i]))
                if ended[i]:
                    self.episodes[i].append([])
            place[ended] = 0
            episode += ended
            now = np.stack([env, episode, place], 1).astype(np.float32) if ended.any() else final
            replay.add(rng.integers(0, 3, n), Step(now, reward, terminated, truncated, final))

    def outcome(self, observation, gamma, n_steps):
        """Reward, discount and the observation after it of the transition from there, by the definition."""
        i, episode, place = map(int, observation)
        ahead = self.episodes[i][episode][place : place + n_steps]
        reward = sum(gamma**j * r for j, (r, _, _) in enumerate(ahead))
        discount = 0.0 if ahead[-1][1] else gamma ** len(ahead)
        return reward, discount, (i, episode, place + len(ahead))


@pytest.mark.parametrize("steps", [20, 400])
@pytest.mark.parametrize(("num", "n_steps", "stack"), [(1, 1, 1), (3, 1, 1), (1, 3, 1), (3, 4, 3)])
def test_transitions_are_those_that_happened(steps, num, n_steps, stack):
    replay = Replay((3,), np.float32, 50 * num, num=num, n_steps=n_steps, stack=stack, gamma=0.9)
    history = History(replay, steps)
    rows = np.flatnonzero(replay.kind)
    assert len(rows) == len(replay) > min(steps, 35) * num * 0.6
    assert replay.written[0] > 50 or steps == 20
    seen = replay.seen(rows)
    reward, discount, after = replay.outcome(rows)
    following = replay.seen(after)
    for k in range(len(rows)):
        newest = seen[k] if stack == 1 else seen[k, -1]
        expected = history.outcome(newest, 0.9, n_steps)
        assert reward[k] == pytest.approx(expected[0], abs=1e-5)
        assert discount[k] == pytest.approx(expected[1])
        last = following[k] if stack == 1 else following[k, -1]
        assert tuple(last.astype(int)) == expected[2]
        for stacked in (seen[k], following[k]) if stack > 1 else ():
            env, episode, place = stacked[-1]
            for back, frame in enumerate(stacked[::-1]):
                assert tuple(frame) == ((env, episode, place - back) if back <= place else (0, 0, 0))


def test_the_newest_observation_is_what_is_acted_on_stacked_too():
    replay = Replay((3,), np.float32, 60, num=2, stack=2)
    history = History(replay, 100, seed=2)
    stacks = replay.seen(np.array(replay.newest))
    for i, stack in enumerate(stacks):
        episode, place = len(history.episodes[i]) - 1, len(history.episodes[i][-1])
        assert tuple(stack[-1]) == (i, episode, place)
        assert tuple(stack[0]) == ((i, episode, place - 1) if place else (0, 0, 0))


def test_each_transition_is_drawn_as_often_as_any_other():
    for steps in (15, 200):
        replay = Replay((3,), np.float32, 120, num=3)
        History(replay, steps, ends=0.5)
        counts = np.bincount(replay.draw(np.random.default_rng(1), 30_000), minlength=120)
        assert set(np.flatnonzero(counts)) == set(np.flatnonzero(replay.kind))
        assert stats.chisquare(counts[replay.kind > 0]).pvalue > 1e-3


def test_rewards_of_an_episode_that_ended_are_told():
    replay = Replay((3,), np.float32, 30)
    replay.begin(np.zeros((1, 3)))
    x = np.zeros((1, 3), np.float32)
    no, yes = np.array([False]), np.array([True])
    for reward in (1.0, 2.0):
        replay.add(np.array([0]), Step(x, np.array([reward]), no, no, x))
        assert replay.ended == []
    replay.add(np.array([0]), Step(x + 1, np.array([4.0]), no, yes, x))
    ((env, rewards),) = replay.ended
    assert env == 0
    assert rewards.tolist() == [1.0, 2.0, 4.0]
    for _ in range(40):  # longer than the ring: its begin is overwritten
        replay.add(np.array([0]), Step(x, np.array([1.0]), no, no, x))
    replay.add(np.array([0]), Step(x + 1, np.array([4.0]), yes, no, x))
    assert replay.ended == [(0, None)]


def test_a_replay_comes_back_from_its_state():
    for steps in (12, 90):
        made = [PrioritisedReplay((3,), np.float32, 80, num=2, n_steps=2) for _ in range(2)]
        History(made[0], steps)
        made[0].update_priorities(made[0].draw(np.random.default_rng(0), 20), np.linspace(-3, 3, 20))
        state = made[0].state()
        made[1].load_state(state)
        rows = [replay.draw(np.random.default_rng(5), 64) for replay in made]
        np.testing.assert_array_equal(*rows)
        for one, other in zip(*(replay.outcome(rows[0]) for replay in made), strict=True):
            np.testing.assert_array_equal(one, other)
        np.testing.assert_array_equal(*(replay.seen(rows[0]) for replay in made))
        assert made[0].newest == made[1].newest


@pytest.mark.parametrize("what", ["observation", "newest", "kind", "priorities", "greatest"])
def test_a_state_of_another_replay_is_refused(what):
    replay = PrioritisedReplay((3,), np.float32, 80, num=2)
    History(replay, 30)
    state = replay.state()
    changed = {
        "observation": state["observation"][:, :-1],
        "newest": [100, 40],
        "kind": state["kind"] * 0 + 9,
        "priorities": state["priorities"] * 0,
        "greatest": 0.0,
    }
    with pytest.raises(ValueError, match=r"the replay|rows|there are not|greatest priority"):
        PrioritisedReplay((3,), np.float32, 80, num=2).load_state(state | {what: changed[what]})


def test_the_tree_finds_what_a_running_sum_finds():
    rng = np.random.default_rng(0)
    weights = rng.random(37) * (rng.random(37) < 0.6)
    tree = SumTree(37)
    tree.put(np.arange(37), weights)
    assert tree.total == pytest.approx(weights.sum())
    masses = rng.random(500) * tree.total
    np.testing.assert_array_equal(tree.find(masses), np.searchsorted(np.cumsum(weights), masses, side="right"))
    assert weights[tree.find(np.array([tree.total, 0.0]))].all()  # at the very ends too nothing empty
    tree.put(np.array([3, 3]), np.array([5.0, 7.0]))  # the last of two counts
    assert tree.leaves[3] == 7


def test_prioritised_draws_are_as_frequent_as_the_priorities_say():
    replay = PrioritisedReplay((3,), np.float32, 60, num=2, alpha=0.5)
    History(replay, 100, seed=4)
    rows = np.flatnonzero(replay.kind)
    errors = np.random.default_rng(1).normal(size=len(rows)) * 3
    replay.update_priorities(rows, errors)
    expected = (np.abs(errors) + 1e-6) ** 0.5
    rng = np.random.default_rng(2)
    drawn = np.concatenate([replay.draw(rng, 50) for _ in range(600)])
    counts = np.bincount(drawn, minlength=60)
    assert counts.sum() == counts[rows].sum()
    assert stats.chisquare(counts[rows], expected / expected.sum() * len(drawn)).pvalue > 1e-3
    chances = expected / expected.sum()
    weights = (len(rows) * chances) ** -0.7
    np.testing.assert_allclose(replay.weights(rows, 0.7), weights / weights.max(), rtol=1e-5)
    batch = weights[:8]  # of a batch they are over the batch's largest
    np.testing.assert_allclose(replay.weights(rows[:8], 0.7), batch / batch.max(), rtol=1e-5)


def test_what_is_new_has_the_greatest_priority_and_what_is_gone_none():
    replay = PrioritisedReplay((3,), np.float32, 30, alpha=1.0, stack=3)
    history = History(replay, 10)
    assert set(replay.tree.leaves[:30][replay.kind > 0]) == {1.0}
    replay.update_priorities(np.flatnonzero(replay.kind)[:1], np.array([9.0]))
    x = np.full((1, 3), 7, np.float32)
    row = replay.newest[0]
    replay.add(np.array([0]), Step(x, np.ones(1), np.array([False]), np.array([False]), x))
    assert replay.tree.leaves[row] == pytest.approx(9.0)
    assert history.episodes
    for k in range(200):
        over = np.array([k % 7 == 0])
        replay.add(np.array([0]), Step(x + 0, np.ones(1), over, ~over & False, x))
        np.testing.assert_array_equal(replay.tree.leaves[:30] > 0, replay.kind > 0)


def test_stacked_frames_are_stored_once():
    replay = Replay((84, 84), np.uint8, 1000, stack=4)
    assert replay.observation.nbytes == 84 * 84 * 1000
    beside = sum(getattr(replay, name).nbytes for name in ("action", "reward", "kind", "age"))
    assert beside == 1000 * ENTRY_BYTES


def test_memory_is_stated_and_refused_before_it_is_taken(monkeypatch):
    monkeypatch.setattr(replay_memory, "free_memory", lambda: 8_000_000_000)
    said = check_replay((84, 84), np.uint8, 1_000_000)
    assert said == "the replay of 1,000,000 observations takes 7,066,000,000 bytes (7.07 GB) when it is full"
    monkeypatch.setattr(replay_memory, "free_memory", lambda: 1_000_000_000)
    with pytest.raises(ResourceError, match=r"7,066,000,000 bytes .*1,000,000,000 bytes .*buffer_size=127370 or less"):
        check_replay((84, 84), np.uint8, 1_000_000)  # nine tenths of what is free
    check_replay((84, 84), np.uint8, 141_522)
    with pytest.raises(ResourceError, match="buffer_size=127370 or less"):
        check_replay((84, 84), np.uint8, 141_523)


def test_memory_that_cannot_be_reserved_is_said():
    with pytest.raises(ResourceError, match=r"1,000,000,000,000,000 observations of 7,056 bytes cannot be reserved"):
        Replay((84, 84), np.uint8, 10**15)


@pytest.mark.parametrize("version", [1, 2])
def test_a_control_group_s_limit_counts(tmp_path, monkeypatch, version):
    monkeypatch.setattr(replay_memory, "available_memory", lambda: 10**12)
    assert free_memory(tmp_path) == 10**12
    folder = tmp_path if version == 2 else tmp_path / "memory"
    folder.mkdir(exist_ok=True)
    limit, used = (
        ("memory.max", "memory.current") if version == 2 else ("memory.limit_in_bytes", "memory.usage_in_bytes")
    )
    (folder / limit).write_text("5000\n")
    (folder / used).write_text("3000\n")
    (folder / "memory.stat").write_text("anon 2000\ninactive_file 700\ntotal_inactive_file 700\n")
    assert free_memory(tmp_path) == 2700
    if version == 2:
        (folder / limit).write_text("max\n")
        assert free_memory(tmp_path) == 10**12
