import functools
from fractions import Fraction

import numpy as np
import pytest

from konspekt.core.errors import ConfigError
from konspekt.rl.environments.game import Game

ROWS = ["012", "345", "678", "036", "147", "258", "048", "246"]


def winner(board):
    return next(
        (board[int(r[0])] for r in ROWS if board[int(r[0])] != "." and len({board[int(i)] for i in r}) == 1), None
    )


@functools.cache
def worth(board, mover, mistakes):
    """(expected result, result of the best play by both) for X, who plays best against O, in exact numbers."""
    if winner(board) or "." not in board:
        result = {"X": 1, "O": -1, None: 0}[winner(board)]
        return Fraction(result), result
    after = [
        worth(board[:i] + mover + board[i + 1 :], "XO"[mover == "X"], mistakes) for i in range(9) if board[i] == "."
    ]
    if mover == "X":
        return max(a[0] for a in after), max(a[1] for a in after)
    least = min(a[1] for a in after)
    good = [a[0] for a in after if a[1] == least]
    everywhere = sum(a[0] for a in after) / len(after)
    return mistakes * everywhere + (1 - mistakes) * sum(good) / len(good), least


@pytest.mark.parametrize("mistakes", [Fraction(1), Fraction(1, 4)])
def test_the_optimum_is_that_of_all_games_in_exact_numbers(mistakes):
    first = worth("." * 9, "X", mistakes)[0]
    second = worth("." * 9, "O", mistakes)[0]
    assert Game(mistakes=float(mistakes), first="agent").optimum() == pytest.approx(float(first), abs=1e-12)
    assert Game(mistakes=float(mistakes), first="player").optimum() == pytest.approx(float(second), abs=1e-12)
    assert Game(mistakes=float(mistakes)).optimum() == pytest.approx(float(first + second) / 2, abs=1e-12)


def test_against_random_moves_191_of_192_games_are_won():
    assert worth("." * 9, "X", Fraction(1))[0] == Fraction(191, 192)
    env = Game(mistakes=1, first="agent")
    reach = [env.initial_state_distrib]
    ends = {1.0: 0.0, 0.0: 0.0, -1.0: 0.0}
    for step in range(5):
        following = np.zeros(len(env.P))
        for state in np.flatnonzero(reach[-1]):
            for probability, after, reward, terminated in env.P[state][env.plan.policy[step, state]]:
                if terminated:
                    ends[reward] += reach[-1][state] * probability
                else:
                    following[after] += reach[-1][state] * probability
        reach.append(following)
    assert ends == pytest.approx({1.0: 191 / 192, 0.0: 1 / 192, -1.0: 0.0})


@pytest.mark.parametrize("first", ["agent", "player", "coin"])
def test_a_player_without_mistakes_is_never_beaten(first):
    env = Game(mistakes=0, first=first)
    assert env.optimum() == 0
    rng = np.random.default_rng(0)
    rewards = set()
    for seed in range(100):
        _, info = env.reset(seed=seed)
        terminated = False
        while not terminated:
            _, reward, terminated, truncated, info = env.step(rng.choice(np.flatnonzero(info["action_mask"])))
            assert not truncated
        rewards.add(reward)
    assert rewards == {0.0, -1.0}


def test_who_begins():
    env = Game()
    boards = [env.reset(seed=seed)[1]["action_mask"].sum() for seed in range(200)]
    assert set(boards) == {8, 9}
    assert np.mean(np.array(boards) == 9) == pytest.approx(0.5, abs=0.15)
    assert Game(first="agent").reset(seed=1)[1]["action_mask"].all()
    assert Game(first="player").reset(seed=1)[1]["action_mask"].sum() == 8


def test_a_square_that_is_taken_loses_at_once():
    env = Game(first="player", observations="box")
    before, info = env.reset(seed=0)
    taken = int(np.flatnonzero(info["action_mask"] == 0)[0])
    assert before[taken] == -1
    after, reward, terminated, truncated, _ = env.step(taken)
    assert (reward, terminated, truncated) == (-1, True, False)
    assert np.array_equal(after, before)


def test_every_board_can_come_about():
    env = Game(mistakes=1, first="coin")
    boards = {env.decode(state) for state in env.P}
    assert len(boards) == len(env.P)
    for board in boards:
        ours, theirs = board.count(1), board.count(-1)
        assert abs(ours - theirs) <= 1
        text = "".join({0: ".", 1: "X", -1: "O"}[square] for square in board)
        over = winner(text) is not None or "." not in text
        state = env.boards.index(board)
        assert all(env.P[state][a] == [(1.0, state, 0.0, True)] for a in range(9)) == over


def test_the_player_answers_as_it_is_said_to():
    # X threatens 0 1 2 and O has nothing of its own: only square 2 does not lose
    board = (1, 1, 0, 0, -1, 0, 0, 0, 0)
    shares = Game(mistakes=0.6).answers(board)
    assert sum(shares.values()) == pytest.approx(1)
    assert shares[(1, 1, -1, 0, -1, 0, 0, 0, 0)] == pytest.approx(0.4 + 0.6 / 6)
    assert len(shares) == 6
    assert list(Game(mistakes=0).answers(board)) == [(1, 1, -1, 0, -1, 0, 0, 0, 0)]


def test_what_is_wrong_is_named():
    with pytest.raises(ConfigError, match="mistakes must be from 0 to 1, got 2"):
        Game(mistakes=2)
    with pytest.raises(ConfigError, match="first"):
        Game(first="me")
