"""A game for two, noughts and crosses, against a player who makes mistakes and does not learn."""

from __future__ import annotations

import functools
from typing import Annotated, Any, Literal

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from konspekt.core.params import Within, check_arguments
from konspekt.core.registry import system
from konspekt.rl.environments.pictures import BLUE, GREY, INK, RED, Canvas
from konspekt.rl.environments.tables import Pixels, Table, TableEnvironment

__all__ = ["Game"]

Board = tuple[int, ...]  # nine squares by rows: 0 empty, 1 the agent's, -1 the other player's
LINES = ((0, 1, 2), (3, 4, 5), (6, 7, 8), (0, 3, 6), (1, 4, 7), (2, 5, 8), (0, 4, 8), (2, 4, 6))
EMPTY: Board = (0,) * 9


@system(name="game", kind="tool", rows=("R6",), paper="Michie 1963")
class Game(TableEnvironment):
    """Noughts and crosses on nine squares: three in a row win. A won game pays 1, a lost one -1, a draw and each move before 0.

    An action is the number of a square, by rows. The other player answers at once; with probability `mistakes` by any free
    square, each as likely, and otherwise by one of those that are best against the best play, each as likely. A square that is not
    free loses the game at once (-1, terminated, the board as it was); `info["action_mask"]` says which are free.

    mistakes: 0 never loses; 1 plays at random.
    first: who begins: "agent", "player", or "coin", each as likely.
    observations: "discrete": the number of the board (`decode` says what it is); "box": its nine squares, 1 one's own, -1 the
        other's, 0 free.

    The optimum is computed by going through all games: `P` holds the chances of the answers, and `optimum` goes backwards from
    the ends. Against mistakes=1 whoever begins wins 191 of 192 games and draws one, on average; against mistakes=0 nobody gets
    more than 0.

    Raises ConfigError on an argument.
    """

    def __init__(
        self,
        *,
        mistakes: Annotated[float, Within(0, 1)] = 0.5,
        first: Literal["agent", "player", "coin"] = "coin",
        observations: Literal["discrete", "box"] = "discrete",
        render_mode: Literal["rgb_array"] | None = None,
    ) -> None:
        given: dict[str, Any] = {"mistakes": mistakes, "first": first, "observations": observations}
        check_arguments("Game", type(self), {**given, "render_mode": render_mode})
        self.mistakes = float(mistakes)
        self.boards, self.P, self.initial_state_distrib = _explore(self.mistakes, first)
        self.begin(observations, 9, 9, render_mode)
        self.action_space = spaces.Discrete(9)
        self.answered: int | None = None

    def decode(self, state: int) -> Board:
        """The nine squares of a state, by rows: 1 the agent's, -1 the other player's, 0 free."""
        return self.boards[state]

    def features(self, state: int) -> NDArray[np.float32]:
        """The nine squares as numbers."""
        return np.array(self.boards[state], np.float32)

    def notes(self) -> dict[str, Any]:
        """Which squares are free, as Taxi and gymnasium's masked sampling have it."""
        return {"action_mask": np.array([square == 0 for square in self.boards[self.state]], np.int8)}

    def answers(self, board: Board) -> dict[Board, float]:
        """What the other player makes of a board that is not at its end, with the probability of each."""
        return _answers(board, self.mistakes)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """An empty board, or one with the other player's first move."""
        found = super().reset(seed=seed)
        self.answered = next((i for i, square in enumerate(self.boards[self.state]) if square), None)
        return found

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Take a square, and let the other player answer."""
        before = self.boards[self.state]
        found = super().step(action)
        after = self.boards[self.state]
        self.answered = next((i for i in range(9) if before[i] == 0 and after[i] == -1), None)
        return found

    def draw(self) -> Pixels:
        """The board: crosses the agent's, noughts the other player's, whose last move has a ground of its own."""
        canvas = Canvas(400, 400)
        board = self.boards[self.state]
        if self.answered is not None:
            x, y = 20 + 120 * (self.answered % 3), 20 + 120 * (self.answered // 3)
            canvas.box(x + 5, y + 5, x + 115, y + 115, (250, 232, 226), radius=10)
        for at in (140, 260):
            canvas.line([(at, 28), (at, 372)], GREY, 5)
            canvas.line([(28, at), (372, at)], GREY, 5)
        for square, whose in enumerate(board):
            x, y = 80 + 120 * (square % 3), 80 + 120 * (square // 3)
            if whose == 1:
                canvas.line([(x - 32, y - 32), (x + 32, y + 32)], BLUE, 13)
                canvas.line([(x - 32, y + 32), (x + 32, y - 32)], BLUE, 13)
            elif whose == -1:
                canvas.disc((x, y), 39, None, edge=RED, width=13)
        for a, b, c in LINES:
            if board[a] and board[a] == board[b] == board[c]:
                ends = [np.array([80 + 120 * (s % 3), 80 + 120 * (s // 3)], float) for s in (a, c)]
                along = (ends[1] - ends[0]) / np.linalg.norm(ends[1] - ends[0]) * 46
                (x0, y0), (x1, y1) = ends[0] - along, ends[1] + along
                canvas.line([(float(x0), float(y0)), (float(x1), float(y1))], INK, 6)
        return canvas.pixels()


def _put(board: Board, square: int, whose: int) -> Board:
    return (*board[:square], whose, *board[square + 1 :])


def _winner(board: Board) -> int:
    """1 or -1, or 0 where nobody has three in a row."""
    for a, b, c in LINES:
        if board[a] and board[a] == board[b] == board[c]:
            return board[a]
    return 0


@functools.cache  # 5,478 boards: every instance needs most of them
def _value(board: Board, mover: int) -> int:
    """How the game ends if both play their best: 1, 0 or -1, as the agent is paid."""
    if (won := _winner(board)) or 0 not in board:
        return won
    values = [_value(_put(board, square, mover), -mover) for square in range(9) if board[square] == 0]
    return max(values) if mover == 1 else min(values)


def _answers(board: Board, mistakes: float) -> dict[Board, float]:
    free = [square for square in range(9) if board[square] == 0]
    values = [_value(_put(board, square, -1), 1) for square in free]
    best = [square for square, value in zip(free, values, strict=True) if value == min(values)]
    shares = {}
    for square in free:
        share = mistakes / len(free) + (1 - mistakes) * (square in best) / len(best)
        if share > 0:
            shares[_put(board, square, -1)] = share
    return shares


@functools.lru_cache(maxsize=8)  # a quarter of a second, and many environments are made alike
def _explore(mistakes: float, first: str) -> tuple[list[Board], Table, NDArray[np.float64]]:
    """The boards that come about, those to begin with before the others; the table; the probabilities of the first board."""
    starts: dict[Board, float] = {}
    if first != "player":
        starts[EMPTY] = 1.0 if first == "agent" else 0.5
    if first != "agent":
        weight = 1.0 if first == "player" else 0.5
        starts |= {board: weight * share for board, share in _answers(EMPTY, mistakes).items()}
    boards = list(starts)
    numbers = {board: i for i, board in enumerate(boards)}
    table: Table = {}

    def number(board: Board) -> int:
        if board not in numbers:
            numbers[board] = len(boards)
            boards.append(board)
        return numbers[board]

    for state, board in enumerate(boards):  # the list grows while it is read
        over = _winner(board) != 0 or 0 not in board
        table[state] = {}
        for square in range(9):
            if over:
                outcomes = [(1.0, state, 0.0, True)]
            elif board[square] != 0:
                outcomes = [(1.0, state, -1.0, True)]
            else:
                mine = _put(board, square, 1)
                if _winner(mine) or 0 not in mine:
                    outcomes = [(1.0, number(mine), float(_winner(mine)), True)]
                else:
                    outcomes = [
                        (share, number(after), float(_winner(after)), _winner(after) != 0 or 0 not in after)
                        for after, share in _answers(mine, mistakes).items()
                    ]
            table[state][square] = outcomes
    first_board = np.zeros(len(boards))
    first_board[: len(starts)] = list(starts.values())
    return boards, table, first_board
