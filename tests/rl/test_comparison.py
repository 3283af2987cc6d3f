"""Agents side by side: interquartile means, their intervals, the table, the files."""

import itertools
import json
from dataclasses import dataclass

import numpy as np
import pytest
from scipy.stats import bootstrap, trim_mean

from konspekt.core.errors import ConfigError, DataError
from konspekt.reports.page import report
from konspekt.rl.comparison import _curve, bootstrap_interval, compare, interquartile_mean
from konspekt.rl.rounds import RoundAgent
from konspekt.testing.two_states import TwoStates


@dataclass(kw_only=True, eq=False, repr=False)
class Skilled(RoundAgent):
    """Does what is best in a share of its seeds' draws, which it does not learn."""

    skill: float = 1.0
    steps: int = 320

    def start(self, envs):
        self.good_ = np.random.default_rng(self.seed_).random() < self.skill
        self.observation = envs.reset()

    def round(self, envs, number):
        for _ in range(80):
            self.observation = envs.step(self.greedy(self.observation)).observation
        return {"steps": 80 * envs.num}

    def greedy(self, observations):
        return (1 - observations if self.good_ else observations).astype(np.int64)


# --- numbers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 8, 11, 40])
def test_the_interquartile_mean_is_that_of_the_middle_half(count):
    scores = np.random.default_rng(count).normal(size=count)
    cut = count // 4
    assert interquartile_mean(scores) == pytest.approx(np.sort(scores)[cut : count - cut].mean())
    assert interquartile_mean(scores) == trim_mean(scores, 0.25)


def test_scores_of_several_environments_are_taken_together():
    scores = np.arange(12.0).reshape(3, 4)
    assert interquartile_mean(scores) == 5.5
    assert interquartile_mean(scores * 10) == 55.0


@pytest.mark.parametrize("scores", [[], [1.0, np.nan], [np.inf], ["good"], [[1.0], [2.0, 3.0]], None])
@pytest.mark.parametrize("function", [interquartile_mean, bootstrap_interval])
def test_what_is_no_score_is_refused(scores, function):
    with pytest.raises(ConfigError, match=f"{function.__name__}: scores must be at least one number, all finite"):
        function(scores)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"confidence": 1.5}, "bootstrap_interval: confidence must be more than 0 and less than 1, got 1.5"),
        ({"n_bootstrap": 0}, "bootstrap_interval: n_bootstrap must be an integer at least 100, got 0"),
        ({"random_state": -1}, "bootstrap_interval: random_state must be an integer at least 0, got -1"),
    ],
)
def test_arguments_of_the_interval_are_checked(given, message):
    with pytest.raises(ConfigError, match=message):
        bootstrap_interval([1.0, 2.0], **given)


def test_the_bootstrap_is_stratified():
    # Between environments lie 100, within them at most 1: resamples across environments would be far apart.
    scores = np.random.default_rng(0).random((5, 4)) + np.array([0, 100, 200, 300])
    low, high = bootstrap_interval(scores)
    assert low <= interquartile_mean(scores) <= high
    assert high - low < 1


def test_the_interval_is_that_of_all_resamples_there_are():
    # Three runs in two environments have 3^3 * 3^3 resamples, all alike likely; the IQM of six numbers leaves out two.
    scores = np.array([[0.0, 10.0], [1.0, 12.0], [5.0, 19.0]])
    every = [
        np.sort(np.concatenate([scores[list(one), 0], scores[list(other), 1]]))[1:-1].mean()
        for one in itertools.product(range(3), repeat=3)
        for other in itertools.product(range(3), repeat=3)
    ]
    for confidence in (0.5, 0.8, 0.9):
        told = bootstrap_interval(scores, confidence=confidence, n_bootstrap=50_000)
        low, high = (1 - confidence) / 2, (1 + confidence) / 2
        for place, slack in ((low, 0.01), (high, 0.01)):  # of the share of resamples below
            least, most = np.quantile(every, [place - slack, place + slack])
            assert least <= told[place == high] <= most
        assert np.ptp(every) > 5


def test_the_interval_of_one_environment_is_scipys():
    scores = np.random.default_rng(3).gamma(2.0, 50.0, 12)
    told = bootstrap_interval(scores, n_bootstrap=20_000, random_state=1)
    peer = bootstrap(
        (scores,), lambda x, axis: trim_mean(x, 0.25, axis=axis), n_resamples=20_000, method="percentile", rng=2
    ).confidence_interval
    np.testing.assert_allclose(told, (peer.low, peer.high), rtol=0.02)


def test_the_interval_covers_the_truth_as_often_as_it_says():
    rng, inside = np.random.default_rng(0), 0
    for trial in range(200):  # of a symmetric distribution the interquartile mean is its middle
        low, high = bootstrap_interval(rng.normal(5.0, 2.0, 30), n_bootstrap=300, random_state=trial, confidence=0.9)
        inside += low <= 5.0 <= high
    assert 0.82 <= inside / 200 <= 0.96


def test_the_interval_narrows_with_the_seeds_and_widens_with_the_confidence():
    values = np.random.default_rng(1).normal(size=400)
    few, many = bootstrap_interval(values[:10]), bootstrap_interval(values)
    assert many[1] - many[0] < (few[1] - few[0]) / 2
    wide = bootstrap_interval(values[:10], confidence=0.99)
    assert wide[0] < few[0] < few[1] < wide[1]
    assert bootstrap_interval([3.0]) == bootstrap_interval(3.0) == (3.0, 3.0)


# --- agents ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def found():
    return compare({"good": Skilled(), "mixed": Skilled(skill=0.5)}, TwoStates, seeds=6, episodes=16)


def test_scores_are_those_of_the_single_fits(found):
    good, mixed = found.rows
    assert (good["agent"], mixed["agent"]) == ("good", "mixed")
    for seed, score in enumerate(found.scores["good"]):
        assert score == Skilled(random_state=seed).fit(TwoStates).evaluate(TwoStates, 16, seed)["return"]
    assert 7 <= good["low"] <= good["iqm"] <= good["high"] <= 8
    drawn = [np.random.default_rng(seed).random() < 0.5 for seed in range(6)]
    assert (found.scores["mixed"] > 5).tolist() == drawn  # the rest gets half of what there is
    assert mixed["iqm"] == interquartile_mean(found.scores["mixed"])
    assert mixed["std"] > 10 * good["std"]
    assert (mixed["min"], mixed["max"]) == (found.scores["mixed"].min(), found.scores["mixed"].max())


def test_the_same_call_gives_the_same_scores(found):
    again = compare({"good": Skilled(), "mixed": Skilled(skill=0.5)}, TwoStates, seeds=6, episodes=16)
    assert {k: v.tolist() for k, v in again.scores.items()} == {k: v.tolist() for k, v in found.scores.items()}
    assert [(r["low"], r["high"]) for r in again.rows] == [(r["low"], r["high"]) for r in found.rows]


def test_curves_are_on_one_axis(found):
    steps, returns = found.curves["good"]
    assert (steps[0], steps[-1], returns.shape) == (80, 320, (6, 100))
    assert ((returns >= 7) & (returns <= 8)).all()


def test_curves_of_unequal_lengths_end_where_the_shortest_does():
    def records(*pairs):
        return [{"env_steps": s, "return": r} for s, r in pairs]

    steps, returns = _curve([records((100, 1.0), (300, 3.0)), records((200, 5.0), (400, 7.0))])
    assert (steps[0], steps[-1]) == (200, 300)
    assert returns[:, 0].tolist() == [2.0, 5.0]
    assert returns[:, -1].tolist() == [3.0, 6.0]
    assert _curve([records((100, 1.0)), []]) is None
    assert _curve([records((100, 1.0)), records((200, 1.0))]) is None


def test_steps_are_set_for_all():
    found = compare([Skilled(), Skilled()], TwoStates, seeds=1, episodes=2, steps=160)
    assert [r["agent"] for r in found.rows] == ["Skilled", "Skilled 2"]
    assert found.curves["Skilled"][0][-1] == 160


def test_the_table_has_80_columns(found):
    lines = str(found).splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0].split() == ["agent", "IQM", "95", "%", "interval", "mean", "±", "sd", "worst", "best", "time"]
    assert lines[1].startswith("good   7.")
    assert "TwoStates, 6 seeds, 16 greedy episodes of each." in str(found)
    found_long = compare({"a" * 60: Skilled()}, TwoStates, seeds=1, episodes=1)
    assert max(map(len, str(found_long).splitlines())) <= 80


def test_the_picture_has_curves_and_intervals(found):
    left, right = found.plot().axes
    assert [t.get_text() for t in right.get_yticklabels()] == ["good", "mixed"]
    assert len(left.lines) == 2
    bar = right.lines[3].get_xdata()
    assert list(bar) == [found.rows[1]["low"], found.rows[1]["high"]]


def test_an_agent_that_fails_is_a_row(found):
    def boxes():
        return TwoStates(actions="box")

    class Broken(Skilled):
        def round(self, envs, number):
            raise DataError("the round went wrong")

    one = compare({"broken": Broken(), "good": Skilled()}, TwoStates, seeds=1, episodes=1)
    assert one.rows[0]["problem"] == "the round went wrong"
    assert one.rows[0]["iqm"] is None
    assert "broken  failed" in str(one)
    assert "broken: the round went wrong" in str(one)
    assert list(one.scores) == ["good"]
    with pytest.raises(DataError, match="Skilled takes actions that are Discrete"):
        compare([Skilled()], boxes, seeds=1)


WRONG = [
    (([],), {}, "agents is empty"),
    ((5,), {}, "agents are a list or a dict of them, got int"),
    (([TwoStates()],), {}, "an agent is needed, such as QLearning"),
    ((["dqnn"],), {}, "'dqnn' is not a registered agent; did you mean 'dqn'"),
    (([Skilled()],), {"seeds": 0}, "seeds must be an integer at least 1, got 0"),
    (([Skilled()],), {"confidence": 1.0}, "confidence must be"),
    (([Skilled()],), {"episodes": 0}, "episodes must be"),
]


@pytest.mark.parametrize(("arguments", "named", "message"), WRONG)
def test_wrong_arguments(arguments, named, message):
    with pytest.raises(ConfigError, match=message):
        compare(*arguments, TwoStates, **named)


# --- files ----------------------------------------------------------------------------------------------------------


def test_saved_and_on_a_page(found, tmp_path):
    with pytest.raises(ConfigError, match=r"in memory only: save\(folder\) it first"):
        report(found)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "a.txt").touch()
    with pytest.raises(ConfigError, match="something else is there already"):
        found.save(tmp_path / "other")
    place = found.save(tmp_path / "c")
    assert json.loads((place / "comparison.json").read_text())["scores"]["good"] == found.scores["good"].tolist()
    assert (place / "comparison.csv").read_text().splitlines()[0].startswith("agent,iqm,low,high,mean")
    page = report(found)
    assert page == place / "report.html"
    first = page.read_bytes()
    text = first.decode().replace("\u202f", " ")
    assert "Comparison of agents <span>on TwoStates</span>" in text
    assert "2 agents, each trained from 6 seeds." in text
    assert text.count("<svg") == 2
    assert "Interquartile means. good: " in text
    assert report(place).read_bytes() == first
    assert report(place, tmp_path / "x.html").read_bytes() == first


def test_a_damaged_comparison_is_said(found, tmp_path):
    place = found.save(tmp_path / "c")
    said = json.loads((place / "comparison.json").read_text())
    for change in (
        {"curves": 5},
        {"scores": []},
        {"curves": {"good": {"steps": [1], "returns": "x"}}},
        {"notes": 5},
        {"settings": None},
    ):
        (place / "comparison.json").write_text(json.dumps(said | change))
        assert "Comparison of agents" in report(place).read_text()
    (place / "comparison.json").write_text(json.dumps(said | {"rows": [5]}))
    with pytest.raises(DataError, match=r"comparison\.json: names no agent"):
        report(place)
    for name in ("<script>alert(1)</script>", "a\x00b"):
        rows = [said["rows"][0] | {"agent": name, "problem": name}]
        (place / "comparison.json").write_text(json.dumps(said | {"rows": rows, "source": name}))
        assert "<script>" not in report(place).read_text()


def test_an_agent_without_episodes_has_no_curve():
    class Late(Skilled):
        def round(self, envs, number):
            return {"steps": 320}

    found = compare([Late()], TwoStates, seeds=2, episodes=2)
    assert found.curves == {}
    assert found.rows[0]["iqm"] > 6
