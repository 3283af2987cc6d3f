"""What acts by q-values and gives batches out of a replay.

A round acts `train_every` environment steps, brings the target net up to date, then gives `gradient_steps` batches. As the target net
stands still within a round, the batches of a round are drawn and its values of what comes next computed in one go.

Shape letters in this file: n environments, B transitions of a batch, G batches, A actions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from konspekt.data.fields import Batch
from konspekt.rl.exploration import Exploring, draw
from konspekt.rl.interaction import Interaction
from konspekt.rl.q_nets import short_way
from konspekt.rl.q_objective import QObjective, greatest
from konspekt.rl.replay import Replay, Rows

__all__ = ["MOST_KEPT", "Recall", "Replaying"]

MOST_KEPT = 2**30  # bytes of a replay that a checkpoint holds
_SHOWN = 2000  # episodes of which the foretold value and the return are remembered
_TOGETHER = 2**25  # bytes of observations that go through a net at once


@dataclass
class Recall:
    """How batches are drawn. beta: of the weights of priorities, at the beginning; it ends at 1."""

    batch_size: int
    learning_starts: int
    target_every: int
    target_tau: float
    beta: float = 0.4


class Replaying(Interaction):
    """Acts with an exploring policy, keeps what came of it, and gives batches of transitions.

    A batch has "index" (B,) the rows of the replay; "observation" (B, ...); "action" (B, 1); "reward" (B, 1); "discount" (B, 1);
    and "target" (B, 1), or with double q what its target needs: "next_observation" (B, ...), "next_values" (B, A), or (2, B, A) of
    twins, and of these "coin" (B, 1), whether the first net learns; with priorities "weight" (B, 1).
    """

    whole_rounds: ClassVar[bool] = True

    def __init__(
        self,
        objective: QObjective,
        envs: Any,
        replay: Replay,
        exploring: Exploring,
        recall: Recall,
        *,
        gradient_steps: int,
        **kwargs: Any,
    ) -> None:
        super().__init__(envs, per_round=gradient_steps, **kwargs)
        self.objective, self.replay, self.exploring, self.recall = objective, replay, exploring, recall
        self.prioritised: Any = replay if hasattr(replay, "update_priorities") else None
        self.actions = int(envs.action_space.n)
        self.updates = 0  # of the target net that were due so far
        self.rows: Rows = np.zeros(0, np.int64)  # of the batches that were drawn together
        self.coins: NDArray[np.bool_] | None = None
        self.given = 0  # of these batches
        self.ready: list[Batch] = []
        self.owed: Rows | None = None  # rows whose temporal difference is not noted yet
        self.foretold = [math.nan] * envs.num  # q of the first action of the running episode
        self.shown: list[tuple[float, float]] = []  # that, and the discounted return that the episode had
        self.taken = [0] * self.actions  # how often, since the last record
        self.shares: list[list[float]] = []  # of the actions, a record: environment steps, then a share each
        self.q_sum, self.q_count = 0.0, 0
        self.empty = False  # a resumed run without its replay
        self._ahead, self._behind = short_way(objective.model), short_way(objective.behind)

    # -- acting -----------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Act at random until there is enough to begin with."""
        self.replay.begin(self.observation)
        while self.acted < self.warmup:
            self._step(self.rng.integers(0, self.actions, self.envs.num))
            self.stepped()

    def act(self) -> None:
        """A round of steps; then the target net."""
        self._note()
        self.ready, self.rows, self.given = [], self.rows[:0], 0
        if self.empty:
            self._fill()
        self._act(self.round_steps, counts=True)
        due = self.acted // self.recall.target_every - self.updates
        if due:
            self.updates += due
            self.objective.follow(1 - (1 - self.recall.target_tau) ** due)

    def _act(self, steps: int, counts: bool) -> None:
        exploring, policy, num = self.exploring, self.exploring.policy, self.envs.num
        replay, q_of = self.replay, self._way()
        for _ in range(-(-steps // num)):
            seen = self.observation if replay.stack == 1 else replay.seen(np.array(replay.newest))
            q = q_of(seen)
            actions = draw(q, policy, exploring.rate(self.progress), self.rng)
            for i, row in enumerate(replay.newest):
                if replay.age[row] == 0:
                    self.foretold[i] = float(q[i, actions[i]])
            self._step(actions)
            if counts:
                self.stepped()

    def _step(self, actions: NDArray[Any]) -> None:
        step = self.envs.step(actions)
        self.replay.add(actions, step)
        self.observation = step.observation
        for action in actions.tolist():
            self.taken[action] += 1
        for i, rewards in self.replay.ended:
            if rewards is not None and not math.isnan(self.foretold[i]):
                got = float(rewards.astype(np.float64) @ self.replay.gamma ** np.arange(len(rewards)))
                self.shown = [*self.shown[1 - _SHOWN :], (self.foretold[i], got)]
            self.foretold[i] = math.nan

    def _way(self) -> Any:
        """From observations to q (n, A), with the weights of the moment."""
        if self._ahead is not None:
            self._ahead.refresh()
            return self._ahead
        model, device = self.objective.model, self.device

        @torch.no_grad()
        def q(observations: NDArray[Any]) -> NDArray[Any]:
            training = model.training
            model.eval()
            values: Tensor = model(torch.from_numpy(np.ascontiguousarray(observations)).to(device))
            model.train(training)
            return values.cpu().numpy()

        return q

    def _fill(self) -> None:
        """Make up for a replay that was not saved: steps beside those of the training."""
        self.empty = False
        self.replay.begin(self.observation)
        self._act(max(self.recall.learning_starts, 1), counts=False)
        self.episodes += self.envs.take_finished()

    # -- batches ----------------------------------------------------------------------------------------------------

    def batch(self) -> Batch:
        """The next batch of the round."""
        self._note()
        if self.empty:
            self._fill()
        size = self.recall.batch_size
        drawn = self.given * size == len(self.rows)
        if drawn:
            self._draw()
        if not self.ready:  # drawn now, or, in a resumed run, before
            self.ready = self._prepared(count=drawn)[self.given :][::-1]
        batch = self.ready.pop()
        if self.prioritised is not None:
            self.owed = self.rows[self.given * size : (self.given + 1) * size]
        self.given += 1
        return batch

    def _draw(self) -> None:
        """Rows for as many batches as are left in the round, or go through a net at once."""
        size = self.recall.batch_size
        left = self.per_round - self.place + 1
        each = size * self.replay.observation[:1].nbytes * self.replay.stack
        # With priorities a draw follows from the differences of the batch before.
        batches = 1 if self.prioritised is not None else max(1, min(left, _TOGETHER // each))
        self.rows, self.given = self.replay.draw(self.rng, batches * size), 0
        if self.objective.twins:
            self.coins = self.rng.random(len(self.rows)) < 0.5

    @torch.no_grad()
    def _prepared(self, count: bool) -> list[Batch]:
        """The batches of the rows that were drawn. count: their q in the record."""
        replay, rows, objective = self.replay, self.rows, self.objective
        reward, discount, after = replay.outcome(rows)
        fields: dict[str, Any] = {
            "index": torch.from_numpy(rows),
            "observation": self._tensor(replay.seen(rows)),
            "action": self._tensor(replay.action[rows].astype(np.int64)[:, None]),
            "reward": self._tensor(reward[:, None]),
            "discount": self._tensor(discount[:, None]),
        }
        next_seen = replay.seen(after)
        following = self._tensor(next_seen)
        short = self._behind if len(rows) == self.recall.batch_size else None  # of many rows torch is faster
        if short is not None:
            short.refresh()
        values = objective.target(following) if short is None else torch.from_numpy(short(next_seen))
        best = greatest(values.mean(0) if objective.twins else values)
        if count:
            self.q_sum, self.q_count = self.q_sum + float(best.mean()), self.q_count + 1
        if objective.doubling:
            fields |= {"next_observation": following, "next_values": values}
            if self.coins is not None and objective.twins:
                fields["coin"] = self._tensor(self.coins[:, None])
        else:
            fields["target"] = fields["reward"] + fields["discount"] * best
        if self.prioritised is not None:
            beta = self.recall.beta + (1 - self.recall.beta) * min(self.progress, 1.0)
            fields["weight"] = self._tensor(self.prioritised.weights(rows, beta)[:, None])
        size = self.recall.batch_size
        if len(rows) == size:
            return [fields]
        parts = {
            name: field.split(size, dim=field.ndim - 2 if name == "next_values" else 0)
            for name, field in fields.items()
        }
        return [{name: part[k] for name, part in parts.items()} for k in range(len(rows) // size)]

    def _tensor(self, array: NDArray[Any]) -> Tensor:
        return torch.from_numpy(array).to(self.device)

    def _note(self) -> None:
        """Note the temporal differences of the last batch."""
        if self.owed is not None and self.objective.errors is not None:
            self.prioritised.update_priorities(self.owed, self.objective.errors.cpu().numpy().ravel())
        self.owed = None

    def sample(self) -> Batch:
        """The last batch, or, before there is one, zeros."""
        if self._last is not None:
            return self._last
        count, shape = self.recall.batch_size, self.replay.observation.shape[1:]
        stack = () if self.replay.stack == 1 else (self.replay.stack,)
        zeros = self._tensor(np.zeros((count, *stack, *shape), self.replay.observation.dtype))
        column = torch.zeros(count, 1, device=self.device)
        twins = (2,) if self.objective.twins else ()
        return {
            "index": torch.arange(count),
            "observation": zeros,
            "action": column.long(),
            "reward": column,
            "discount": column,
            "target": column,
            "next_observation": zeros,
            "next_values": torch.zeros(*twins, count, self.actions, device=self.device),
            "coin": column > 0,
            "weight": column + 1,
        }

    # -- records and checkpoints ------------------------------------------------------------------------------------

    def measures(self) -> dict[str, float]:
        """Epsilon or temperature; transitions in the replay; q: the mean of the greatest q of a batch's next observations."""
        told = {"temperature" if self.exploring.policy == "softmax" else "epsilon": self.exploring.rate(self.progress)}
        told["replay"] = float(len(self.replay))
        if self.q_count:
            told["q"] = self.q_sum / self.q_count
        total = max(1, sum(self.taken))
        self.shares.append([float(self.acted), *(count / total for count in self.taken)])
        self.taken, self.q_sum, self.q_count = [0] * self.actions, 0.0, 0
        return told

    def kept(self) -> dict[str, Any]:
        """The replay, unless it is too large, and what was drawn from it; what the record and the report will say."""
        self._note()
        return {
            "replay": self.replay.state() if self.replay.nbytes <= MOST_KEPT and not self.empty else None,
            "rows": torch.from_numpy(self.rows.copy()),
            "coins": None if self.coins is None else torch.from_numpy(self.coins.copy()),
            "given": self.given,
            "updates": self.updates,
            "foretold": [None if math.isnan(x) else x for x in self.foretold],
            "shown": torch.tensor(self.shown, dtype=torch.float64).reshape(-1, 2),
            "taken": self.taken,
            "shares": torch.tensor(self.shares, dtype=torch.float64).reshape(-1, 1 + self.actions),
            "q": [self.q_sum, self.q_count],
        }

    def take_kept(self, state: Mapping[str, Any]) -> None:
        """Take back what `kept` gave. Raises ValueError where it is none of this training's."""
        self.updates = int(state["updates"])
        self.foretold = [math.nan if x is None else float(x) for x in state["foretold"]]
        self.taken = [int(x) for x in state["taken"]]
        self.shown = [(float(x), float(y)) for x, y in state["shown"].tolist()]
        self.shares = [[float(x) for x in row] for row in state["shares"].tolist()]
        self.q_sum, self.q_count = float(state["q"][0]), int(state["q"][1])
        if len(self.foretold) != self.envs.num or len(self.taken) != self.actions:
            raise ValueError("what was noted of acting is of other environments or actions")
        self.ready, self.owed, self.empty = [], None, state["replay"] is None
        if self.empty:
            self.rows, self.coins, self.given = self.rows[:0], None, 0
            return
        self.replay.load_state(state["replay"])
        self.rows, self.given = state["rows"].numpy().copy(), int(state["given"])
        self.coins = None if state["coins"] is None else state["coins"].numpy().copy()
        size = self.recall.batch_size
        ok: Any = self.rows.dtype == np.int64 and self.rows.ndim == 1 and len(self.rows) % size == 0
        ok = (
            ok
            and ((self.rows >= 0) & (self.rows < len(self.replay.kind))).all()
            and 0 <= self.given * size <= len(self.rows)
        )
        if self.objective.twins and len(self.rows):
            ok = ok and self.coins is not None and self.coins.dtype == np.bool_ and self.coins.shape == self.rows.shape
        if not ok:
            raise ValueError("the batches that were drawn are none of this replay's")
        if self.actions <= int(self.replay.action.max()):
            raise ValueError("the replay holds actions that there are not")

    def load_state(self, state: Mapping[str, Any]) -> list[str]:
        """Go on from there; says so where the replay was too large to be saved."""
        said = super().load_state(state)
        if self.empty:
            said.append(
                f"the replay was larger than {MOST_KEPT / 2**30:.0f} GiB and is in no checkpoint: it is filled anew for "
                f"{max(self.recall.learning_starts, 1)} environment steps, so the weights will not be those of a run in one piece"
            )
        return said
