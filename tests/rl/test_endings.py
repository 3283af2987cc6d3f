"""Ways to the end: against sets grown by the definition, and against the chances of having ended after many steps."""

import numpy as np
import pytest

from konspekt.core.errors import ConfigError
from konspekt.rl.endings import can_end, check_discount, towards_the_end
from konspekt.rl.mdp import MDP

STATES, ACTIONS = 9, 3


def sparse_mdp(seed):
    """Each pair has one or two successors, few of which end; state 8 is terminal, as it stays and gets nothing."""
    rng = np.random.default_rng(seed)
    after = rng.integers(0, STATES, (STATES, ACTIONS, 2))
    chance = np.where(rng.random((STATES, ACTIONS)) < 0.4, 1.0, rng.uniform(0.1, 0.9, (STATES, ACTIONS)))
    ended = rng.random(after.shape) < 0.02
    rewards = np.ones(after.shape)
    after[8], ended[8], rewards[8] = 8, False, 0.0
    after[:8][rng.random((8, ACTIONS, 2)) < 0.7] = rng.integers(0, 4)  # so that some states have no way out
    return MDP.from_successors(np.stack([chance, 1 - chance], axis=2), after, rewards, ended)


def chances(mdp):
    """Of going on in s' and of ending, by a loop: (S, A, S) and (S, A). To come to state 8 is to end."""
    on, end = np.zeros((STATES, ACTIONS, STATES)), np.zeros((STATES, ACTIONS))
    for pair in range(STATES * ACTIONS):
        for k in range(mdp.indptr[pair], mdp.indptr[pair + 1]):
            s, a, p = *divmod(pair, ACTIONS), mdp.probabilities[k]
            if mdp.terminated[k] or mdp.next_states[k] == 8:
                end[s, a] += p
            else:
                on[s, a, mdp.next_states[k]] += p
    return on, end


@pytest.mark.parametrize("limited", [False, True])
def test_states_from_which_the_end_is_reached(limited):
    seen = set()
    for seed in range(60):
        mdp = sparse_mdp(seed)
        on, end = chances(mdp)
        allowed = np.random.default_rng(seed).random((STATES, ACTIONS)) < 0.5 if limited else np.ones(end.shape, bool)
        known = {8}
        while True:  # who may end at once, or come to one that is known
            more = {
                s
                for s in range(8)
                for a in range(ACTIONS)
                if allowed[s, a] and (end[s, a] or on[s, a, list(known)].any())
            }
            if more <= known:
                break
            known |= more
        assert np.flatnonzero(can_end(mdp, allowed if limited else None)).tolist() == sorted(known)
        chosen = towards_the_end(mdp, allowed if limited else None)
        assert np.flatnonzero(chosen >= 0).tolist() == sorted(known - {8})
        assert all(allowed[s, chosen[s]] for s in known - {8})
        seen.add(len(known))
    assert len(seen) > 4  # no end at all, an end for all, and much between


def test_such_a_policy_ends_with_probability_1():
    tried = 0
    for seed in range(60):
        mdp = sparse_mdp(seed)
        chosen = towards_the_end(mdp)
        states = np.arange(STATES)
        step = chances(mdp)[0][states, chosen.clip(min=0)]
        step[8] = 0
        many = np.linalg.matrix_power(step, 1 << 14)  # the chance of being in s' after 16,384 steps
        lost = (chosen < 0) & (states != 8)
        meets = np.linalg.matrix_power(step + np.eye(STATES), STATES)[:, lost].any(axis=1)
        np.testing.assert_allclose(many[~meets].sum(axis=1), 0, atol=1e-9)
        tried += int((~meets).sum())
    assert tried > 100


def test_without_a_discount_there_has_to_be_an_end():
    def loop(leave):
        return MDP.from_successors([[[1.0 - leave, leave]]], [[[0, 0]]], [[[1.0, 1.0]]], [[[False, True]]])

    check_discount(loop(0.01), 1.0)
    check_discount(loop(0.0), 0.999)
    with pytest.raises(ConfigError, match=r"gamma=1 needs episodes that end, and from 1 of 1 states \(0\) no terminal"):
        check_discount(loop(0.0), 1.0)
    for gamma in (-0.1, 1.1, np.nan):
        with pytest.raises(ConfigError, match="gamma must be from 0 to 1"):
            check_discount(loop(0.5), gamma)
