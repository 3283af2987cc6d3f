from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces

import konspekt
from konspekt.core.errors import ConfigError, DataError
from konspekt.rl import elites
from konspekt.rl.cross_entropy import CrossEntropyMethod
from konspekt.rl.cross_entropy_net import CrossEntropyNet
from konspekt.rl.discretise import numbered
from konspekt.rl.elite_models import ClassifierPolicy, TablePolicy, starts_of
from konspekt.rl.elites import Carried, Session, above_start, faded, joined, last_visits, play_sessions, select
from konspekt.rl.vector import environments
from konspekt.testing.two_states import TwoStates

BOXED = functools.partial(TwoStates, actions="box", observations="box")
SMALL: dict[str, Any] = {"steps": 3_000, "sessions": 32, "n_envs": 32, "elite": 0.5, "random_state": 1}
MODELS = ("table", "forest", "logistic-regression")


def test_elites_are_the_best_share_with_those_as_good_as_the_last():
    assert select(np.array([1.0, 5, 3, 4, 2]), 0.4).tolist() == [False, True, False, True, False]
    assert select(np.array([1.0, 5, 4, 4, 2]), 0.4).tolist() == [False, True, True, True, False]
    # two are wanted and six are as good as the second: only the one that is better
    assert select(np.array([5.0, 4, 4, 4, 4, 4, 4, 0, 0, 0]), 0.2).tolist() == [True] + [False] * 9
    # nothing is better than these, so they all are elites
    assert select(np.array([4.0, 4, 4, 4, 4, 4, 0, 0, 0, 0]), 0.2).sum() == 6
    assert not select(np.full(7, 3.0), 0.5).any()
    assert select(np.array([0.0, 1.0]), 0.001).tolist() == [False, True]


def test_scores_are_taken_less_what_the_start_foretells():
    from sklearn.linear_model import LinearRegression

    rng = np.random.default_rng(0)
    starts = rng.normal(size=(40, 3))
    scores = 5 * starts[:, 0] + rng.normal(size=40)
    expected = scores - LinearRegression().fit(starts, scores).predict(starts)
    np.testing.assert_allclose(above_start(scores, starts), expected, atol=1e-7)
    # two groups, in the better of which all are equal: the group itself gives nothing
    groups = np.repeat(np.eye(2), 4, axis=0)
    above = above_start(np.array([9.0, 9, 9, 9, 0, 0, 0, 4]), groups)
    np.testing.assert_allclose(above, [0, 0, 0, 0, -1, -1, -1, 3], atol=1e-7)
    assert len(np.unique(above)) == 3  # equal ones are so to the bit, and make a tie
    # a start that foretells nothing, columns as many as sessions, and no columns that differ
    noise = rng.normal(size=40)
    assert above_start(noise, starts) is noise
    assert above_start(noise, np.eye(40)) is noise
    assert above_start(noise, np.ones((40, 2))) is noise


def test_numbered_starts_foretell_their_means_also_of_earlier_rounds():
    rng = np.random.default_rng(0)
    groups = rng.integers(5, size=60)
    scores = 3.0 * groups + rng.normal(size=60)
    expected = [score - scores[groups == group].mean() for score, group in zip(scores, groups, strict=True)]
    np.testing.assert_allclose(above_start(scores, groups), expected, atol=1e-7)
    # no two of this round begin alike, so it foretells nothing by itself; the rounds before know what the starts are worth
    starts, own = np.arange(4), np.array([10.0, 20, 31, 39])
    assert above_start(own, starts) is own
    past = np.repeat([-15.0, -5, 5, 15], 9), np.repeat(starts, 9)
    np.testing.assert_allclose(above_start(own, starts, past), [0, 0, 0.1 * 9, -0.1 * 9], atol=1e-7)
    columns = past[0], past[1][:, None].astype(float)
    from sklearn.linear_model import LinearRegression

    known = np.concatenate([own - own.mean(), past[0]]), np.concatenate([starts, past[1]])[:, None]
    rest = known[0] - LinearRegression().fit(known[1], known[0]).predict(known[1])
    np.testing.assert_allclose(above_start(own, starts[:, None].astype(float), columns), rest[:4], atol=1e-7)


def test_who_begins_far_off_is_an_elite_where_earlier_rounds_know_the_start():
    def begun(*scores: float) -> list[Session]:
        return [Session(np.array([k]), np.zeros(1, np.int64), score) for k, score in enumerate(scores)]

    starts = starts_of(spaces.Discrete(5))
    carried = Carried(rounds=0, starts=starts)
    assert [s.score for s in carried.choose(begun(0, 10, 20, 30), 0.25)] == [30]  # nothing is known yet
    for _ in range(3):
        assert not carried.choose(begun(0, 10, 20, 30), 0.25)  # all as ever
    assert [s.score for s in carried.choose(begun(5, 10, 20, 30), 0.25)] == [5]
    back = Carried(rounds=0, starts=starts)
    back.load_state(carried.state())
    again = begun(0, 10, 26, 30)
    assert [s.score for s in back.choose(again, 0.25)] == [s.score for s in carried.choose(again, 0.25)] == [26]
    for _ in range(20):
        carried.choose(again, 0.25)
    assert len(carried.begun) == elites.REMEMBERED


def test_of_a_loop_only_what_led_out_of_it_is_kept():
    one = Session(np.array([3, 5, 3, 3, 7]), np.array([0, 1, 2, 3, 4]), 1.0)
    (kept,) = last_visits([one])
    assert (kept.observations.tolist(), kept.actions.tolist(), kept.score) == ([5, 3, 7], [1, 3, 4], 1.0)


@pytest.mark.parametrize(("visits", "returned"), [("last", 7.9), ("all", None)])
def test_a_table_finds_the_way_of_the_taxi_where_loops_do_not_count(visits, returned):
    setting: dict[str, Any] = {
        "steps": 300_000,
        "sessions": 250,
        "n_envs": 50,
        "elite": 0.3,
        "lr": 0.5,
        "visits": visits,
    }
    got = CrossEntropyMethod(**setting).fit("Taxi-v4").evaluate("Taxi-v4", 300)["return"]
    # the optimum is 7.9 on average (the planner's); with loops counted the greedy policy is lost after as many steps
    assert got == pytest.approx(returned, abs=1.0) if returned else got < -20


def test_who_begins_well_is_no_elite_for_that():
    """A model that is fitted anew each round forgets the state that no elite began in."""
    right = {
        relative: sum(
            CrossEntropyMethod(
                model="logistic-regression", relative=relative, **SMALL | {"random_state": seed, "elite": 0.3}
            )
            .fit(TwoStates)
            .predict(np.array([0, 1]))
            .tolist()
            == [1, 0]
            for seed in range(4)
        )
        for relative in (True, False)
    }
    assert right[True] > right[False], right


def session(score: float, length: int = 2) -> Session:
    return Session(np.full(length, int(score)), np.zeros(length, np.int64), score)


def test_elites_compete_with_later_sessions_for_so_many_rounds():
    carried = Carried(rounds=1)
    assert [s.score for s in carried.choose([session(9), session(1)], 0.5)] == [9]
    # 9 is among the best half of three, and was of the round before, so it goes now
    assert sorted(s.score for s in carried.choose([session(2), session(3)], 0.5)) == [3, 9]
    assert sorted(s.score for s in carried.choose([session(2), session(1)], 0.5)) == [2, 3]
    back = Carried(rounds=1)
    back.load_state(carried.state())
    assert [s.score for old in back.kept for s in old] == [s.score for old in carried.kept for s in old] == [2]
    assert joined([session(1, 2), session(4, 3)])[0].tolist() == [1, 1, 4, 4, 4]


def test_noise_fades_evenly_and_stays():
    assert [faded(1.0, 0.2, 0.5, at) for at in (0.0, 0.25, 0.5, 0.9)] == pytest.approx([1.0, 0.6, 0.2, 0.2])


def test_sessions_are_whole_and_each_environment_plays_its_share():
    envs = environments(TwoStates, 3, seed=0)
    fresh = np.ones(3, bool)
    played, observation, fresh, steps = play_sessions(
        envs, envs.reset(), fresh, 4, 0.5, lambda o: np.zeros(3, np.int64), 0
    )
    assert (len(played), steps) == (6, 16)
    assert all(len(s.observations) == len(s.actions) == 8 and len(set(s.observations.tolist())) == 1 for s in played)
    assert {s.score for s in played} <= {0.0, 2 - 2**-7}
    # amid an episode: it is played to its end and does not count
    envs.step(np.zeros(3, np.int64))
    played, _, _, steps = play_sessions(
        envs, observation, np.zeros(3, bool), 3, 1.0, lambda o: np.zeros(3, np.int64), 0
    )
    assert (len(played), steps) == (3, 15)


def test_a_session_that_never_ends_says_so(monkeypatch):
    monkeypatch.setattr(elites, "LONGEST", 50)
    endless = functools.partial(TwoStates, length=10**9)
    for agent in (CrossEntropyMethod, CrossEntropyNet):
        with pytest.raises(
            DataError,
            match=r"goes on after 50 steps, where whole episodes are needed; give max_episode_steps .*seed \d+",
        ):
            agent(**SMALL).fit(endless)
        agent(**SMALL, max_episode_steps=8).fit(endless)


def test_the_table_is_counts_over_visits():
    cells = numbered(spaces.Discrete(3))
    policy = TablePolicy(cells, np.full(2, 0.5), 1.0, discrete=True)
    policy.fit(np.array([0, 0, 0, 0, 2]), np.array([1, 1, 1, 0, 0]))
    assert policy.values.tolist() == [[0.25, 0.75], [0.5, 0.5], [1.0, 0.0]]
    half = TablePolicy(cells, np.full(2, 0.5), 0.5, discrete=True)
    half.fit(np.array([0, 0, 0, 0, 2]), np.array([1, 1, 1, 0, 0]))
    assert half.values.tolist() == [[0.375, 0.625], [0.5, 0.5], [0.75, 0.25]]
    # what stood there counts for four visits: of eight choices in state 0 five are of action 1, of five in state 2 three of action 0
    slow = TablePolicy(cells, np.full(2, 0.5), 1.0, discrete=True, prior=4.0)
    slow.fit(np.array([0, 0, 0, 0, 2]), np.array([1, 1, 1, 0, 0]))
    np.testing.assert_allclose(slow.values, [[3 / 8, 5 / 8], [0.5, 0.5], [3 / 5, 2 / 5]])
    assert CrossEntropyMethod(prior=100.0, **SMALL).fit(TwoStates).policy_.prior == 100


def test_classes_that_the_elites_lack_have_no_probability():
    from sklearn.linear_model import LogisticRegression

    policy = ClassifierPolicy(spaces.Discrete(2), 4)
    assert policy.predict(np.array([0, 1])).tolist() == [[0.25] * 4] * 2
    policy.fit(np.array([0, 0, 1, 1]), np.array([1, 1, 3, 3]), LogisticRegression())
    chances = policy.predict(np.array([0, 1]))
    assert (chances[:, [0, 2]] == 0).all()
    np.testing.assert_allclose(chances.sum(axis=1), 1)
    assert chances.argmax(axis=1).tolist() == [1, 3]
    policy.fit(np.array([0, 1]), np.array([2, 2]), LogisticRegression())
    assert policy.predict(np.array([1])).tolist() == [[0, 0, 1, 0]]


@pytest.mark.parametrize("observations", ["discrete", "box"])
@pytest.mark.parametrize("model", MODELS)
def test_two_states_are_learned_and_brought_back(model, observations, tmp_path):
    env = functools.partial(TwoStates, observations=observations)
    fitted = CrossEntropyMethod(model=model, **SMALL).fit(env)
    assert fitted.evaluate(env, 20)["return_min"] >= 7
    seen = np.array([0, 1]) if observations == "discrete" else np.eye(2, dtype=np.float32)
    assert fitted.predict(seen).tolist() == [1, 0]
    back = konspekt.load(fitted.save(tmp_path / "model"))
    assert np.array_equal(back.policy_.predict(seen), fitted.policy_.predict(seen))


@pytest.mark.parametrize(
    "how",
    [
        {"model": "table"},
        {"model": "forest"},
        {"model": "table", "action_bins": 3},
        {"model": "forest", "spread": "schedule", "noise_end": 0.5},
    ],
)
def test_continuous_actions_are_learned(how, tmp_path):
    fitted = CrossEntropyMethod(**how, **SMALL).fit(BOXED)
    actions = fitted.predict(np.eye(2, dtype=np.float32))
    assert actions.shape == (2, 1)
    assert actions.dtype == np.float32
    assert actions[0, 0] > 0 >= actions[1, 0]
    assert fitted.evaluate(BOXED, 20)["return_min"] >= 7
    back = konspekt.load(fitted.save(tmp_path / "model"))
    assert np.array_equal(back.predict(np.eye(2, dtype=np.float32)), actions)


def test_bins_of_actions_lie_in_the_middle_of_equal_parts():
    agent = CrossEntropyMethod(action_bins=4)
    agent.action_space_ = spaces.Box(np.array([-1.0, 0.0]), np.array([1.0, 8.0]), dtype=np.float64)
    actions = agent._forward(np.array([0, 5, 15]))
    np.testing.assert_allclose(actions, [[-0.75, 1.0], [-0.25, 3.0], [0.75, 7.0]])
    assert agent._inward(actions).tolist() == [0, 5, 15]


@pytest.mark.parametrize("env", [TwoStates, BOXED])
def test_the_net_learns_and_is_brought_back(env, tmp_path):
    setting = SMALL | {"steps": 4_000, "hidden": (16,), "lr": 0.02, "noise": 0.3}
    fitted = CrossEntropyNet(**setting).fit(env)
    assert fitted.evaluate(env, 20)["return_min"] >= 7
    back = konspekt.load(fitted.save(tmp_path / "model"))
    seen = np.array([0, 1]) if env is TwoStates else np.eye(2, dtype=np.float32)
    assert np.array_equal(back.predict(seen), fitted.predict(seen))


def test_the_nets_loss_is_the_cross_entropy():
    agent = CrossEntropyNet(hidden=(4,))
    objective = agent.build(spaces.Box(-1, 1, (3,)), spaces.Discrete(5))
    x, action = torch.randn(7, 3), torch.randint(5, (7,))
    loss = objective.loss(
        {"index": torch.arange(7), "observation": x, "action": action, "advantage": torch.ones(7)}, "model"
    )
    torch.testing.assert_close(loss["loss"], torch.nn.functional.cross_entropy(objective.model(x)[0], action))


@pytest.mark.parametrize(
    ("agent", "env"),
    [
        (functools.partial(CrossEntropyMethod, carry=2), TwoStates),
        (functools.partial(CrossEntropyMethod, model="forest"), BOXED),
        (functools.partial(CrossEntropyNet, carry=1, batches=4, hidden=(4,)), BOXED),
    ],
)
def test_an_interrupted_fit_goes_on_to_the_same_policy(agent, env, resumed_beside_whole):
    def made(folder):
        return agent(**SMALL | {"steps": 2_000, "checkpoint_every": 1}, run_dir=folder)

    resumed, whole = resumed_beside_whole(made, env, "step", 5)
    one, other = whole.learned_tensors(), resumed.learned_tensors()
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert resumed.episodes_ == whole.episodes_


def test_a_model_of_the_users_own_is_fitted_again_on_load(tmp_path):
    from sklearn.tree import DecisionTreeClassifier

    fitted = CrossEntropyMethod(model=DecisionTreeClassifier(max_depth=2), **SMALL).fit(TwoStates)
    assert fitted.predict(np.array([0, 1])).tolist() == [1, 0]
    folder = fitted.save(tmp_path / "model")
    with pytest.raises(ConfigError, match="DecisionTreeClassifier"):
        konspekt.load(folder)
    back = konspekt.load(folder, model=DecisionTreeClassifier(max_depth=2))
    assert np.array_equal(back.policy_.predict(np.array([0, 1])), fitted.policy_.predict(np.array([0, 1])))


def test_what_cannot_be_is_refused():
    from sklearn.linear_model import LinearRegression, RidgeClassifier

    def refused(env: Any, match: str, **params: Any) -> None:
        with pytest.raises(ConfigError, match=match):
            CrossEntropyMethod(**SMALL, **params).fit(env)

    refused(TwoStates, "must be one of table, forest, logistic-regression", model="forrest")
    refused(TwoStates, "classifier or regressor of scikit-learn, got 3", model=3)
    refused(TwoStates, "the actions are choices, for which model must be a classifier", model=LinearRegression())
    refused(TwoStates, "RidgeClassifier gives no probabilities", model=RidgeClassifier())
    refused(BOXED, "give action_bins=5, or model='forest'", model="logistic-regression")
    refused(BOXED, "make 20,000 actions", action_bins=20_000)
    with pytest.raises(ConfigError, match="steps=5 are over before sessions=32"):
        CrossEntropyNet(**SMALL | {"steps": 5}).fit(TwoStates)


def test_a_damaged_policy_is_refused():
    fitted = CrossEntropyMethod(model="forest", **SMALL).fit(TwoStates)
    config, tensors = fitted.learned()
    with pytest.raises(DataError, match="the elites do not fit"):
        CrossEntropyMethod(model="forest").restore(config, tensors | {"actions": tensors["actions"] + 7})
    fitted = CrossEntropyMethod(**SMALL).fit(TwoStates)
    config, tensors = fitted.learned()
    with pytest.raises(DataError, match="does not fit observations and actions"):
        CrossEntropyMethod().restore(config, tensors | {"policy": tensors["policy"][:1]})


def test_the_report_gets_scores_and_actions(tmp_path):
    run = CrossEntropyMethod(**SMALL, run_dir=str(tmp_path / "run")).fit(TwoStates).run_
    curves = run.kept["sessions and elites"][1]
    assert len(curves["score"][0]) == len(curves["score"][1]) == len(run.history)
    assert sum(row["share"] for row in run.kept["actions of the elites"][1]) == pytest.approx(1, abs=1e-3)
