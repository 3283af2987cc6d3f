"""Agents on the command line: fit, resume, evaluate, play, compare, report, runs, info, list."""

import json
from dataclasses import dataclass
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch
from PIL import Image

import konspekt
from konspekt.core import registry
from konspekt.core.registry import system
from konspekt.rl.rounds import RoundAgent
from konspekt.testing.two_states import TwoStates

ENV = "konspekt-tests/TwoStates-v0"


@system(name="tiny-agent", kind="agent", task="acting", rows=("R3",), paper="none")
@dataclass(kw_only=True, eq=False, repr=False)
class TinyAgent(RoundAgent):
    """Acts at random and then well.

    steps: environment steps.
    """

    steps: int = 400

    def start(self, envs):
        self.known_, self.observation = np.zeros(1), envs.reset()

    def round(self, envs, number):
        rng = np.random.default_rng(number)
        for _ in range(80):
            self.observation = envs.step(rng.integers(2, size=envs.num)).observation
        self.known_ = self.known_ + 1
        return {"steps": 80 * envs.num, "epsilon": 1.0}

    def greedy(self, observations):
        return (1 - observations).astype(np.int64)

    def state(self):
        return {"known": torch.from_numpy(self.known_)}

    def load_state(self, state):
        self.known_ = state["known"].numpy()

    def learned_tensors(self):
        return self.state()

    def take_learned(self, values, tensors):
        self.load_state(tensors)


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    """The agent and its environment."""
    for name in ("SDL_VIDEODRIVER", "SDL_AUDIODRIVER", "PYGAME_HIDE_SUPPORT_PROMPT"):
        monkeypatch.setenv(name, "dummy")  # is put back after what the command sets
    every = registry.entries()
    entry = TinyAgent.__konspekt__
    monkeypatch.setattr(registry, "entries", lambda: (*every, entry))
    gymnasium.register(ENV, entry_point=TwoStates)
    yield
    del gymnasium.registry[ENV]


@pytest.fixture
def fitted(run):
    code, out, err = run("fit", "tiny-agent", f"env={ENV}", "run_dir=first")
    assert (code, err) == (0, "")
    return out


# ------------------------------------------------------------------------------------------------------- fit and resume


def test_fit_says_what_it_came_to(fitted, narrow):
    lines = fitted.splitlines()
    assert lines[0].startswith("80/400 steps  return ")
    assert lines[0].split("  ")[2:4] == ["length 8", "epsilon 1"]
    assert lines[-8].startswith("400/400 steps  return ")
    assert "training: 50 episodes in 400 steps, " in fitted
    assert ", length 8: the last 50 episodes, mean ± standard deviation" in fitted
    assert "length 8: one greedy episode, whose pictures the report has" in fitted
    assert fitted.endswith("\nmodel   first/model\nreport  first/report.html\n")
    assert narrow(fitted)


def test_fit_leaves_a_page_with_pictures(fitted):
    page = Path("first/report.html").read_text(encoding="utf-8")
    assert "data:image/gif;base64," in page
    assert "konspekt fit" not in page or "env=" in page
    assert {p.name for p in Path("first/frames").iterdir()} == {"episode.gif", "episode.json", "first.png", "strip.png"}
    assert konspekt.load("first").known_.tolist() == [5.0]


def test_an_environment_that_cannot_be_drawn_is_a_warning(run, monkeypatch):
    monkeypatch.setattr(TwoStates, "metadata", {"render_modes": []})
    code, out, _ = run("fit", "tiny-agent", f"env={ENV}", "run_dir=first")
    assert code == 0
    assert "warning: no pictures of a played episode:" in out
    assert "its modes are: none" in " ".join(out.split())
    assert "no pictures of a played episode" in Path("first/report.html").read_text(encoding="utf-8")


def test_an_episode_that_never_ended(run, monkeypatch):
    monkeypatch.setitem(gymnasium.registry[ENV].kwargs, "length", 500)
    code, out, err = run("fit", "tiny-agent", f"env={ENV}", "steps=80", "run_dir=first")
    assert (code, err) == (0, "")
    assert "training: 0 episodes in 80 steps" in out
    assert "no episode ended: give more steps, or max_episode_steps" in out


def test_resume_with_more_steps(run, fitted, fails):
    code, out, err = run("resume", "first", "steps=560")
    assert (code, err) == (0, "")
    assert "training: 70 episodes in 560 steps" in out
    assert konspekt.load("first").known_.tolist() == [7.0]
    fails(
        run("resume", "first", "gamma=0.5"), 2, "cannot be resumed with other parameters than", "gamma was 0.99, is 0.5"
    )


def test_a_run_on_an_environment_of_python_is_resumed_there(run, fails):
    TinyAgent(run_dir="first").fit(TwoStates)
    fails(
        run("resume", "first"),
        2,
        "was fitted from Python on an environment made there (TwoStates)",
        "TinyAgent(...).fit(env, resume='first')",
    )


def test_the_config_of_a_run_is_one_for_fit(run, fitted):
    code, out, err = run("fit", "--config", "first/config.yaml", "run_dir=second")
    assert (code, err) == (0, "")
    assert "report  second/report.html" in out
    assert Path("first/model/weights.safetensors").read_bytes() == Path("second/model/weights.safetensors").read_bytes()


WRONG = {
    "no env": (("fit", "tiny-agent"), 2, "env is missing: konspekt fit tiny-agent env=CartPole-v1"),
    "data": (("fit", "tiny-agent", "data=iris"), 2, "tiny-agent is an agent and takes no data=: env=CartPole-v1"),
    "target": (("fit", "tiny-agent", f"env={ENV}", "target=a"), 2, "takes no target=: the rewards"),
    "validation": (("fit", "tiny-agent", f"env={ENV}", "validation=0.2"), 2, "takes no validation=: an agent is measured by playing"),
    "a key": (("fit", "tiny-agent", f"env={ENV}", "step=3"), 2, "TinyAgent has no parameter 'step'; did you mean 'steps'?"),
    "an agent's name": (("fit", "tiny-agnt", f"env={ENV}"), 2, "'tiny-agnt' is not a registered estimator or agent; did you mean 'tiny-agent'"),
    "another env": (("fit", "tiny-agent", "env=CartPol-v1"), 2, "no environment 'CartPol-v1': did you mean 'CartPole-v1'?"),
    "a dry run": (("fit", "tiny-agent", f"env={ENV}", "--dry-run"), 2, "makes its data by acting", "leave --dry-run out"),
    "an estimator": (("fit", "kmeans", f"env={ENV}"), 2, "kmeans learns from data and acts in no environment"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_wrong_usage_of_fit(run, case, fails):
    arguments, code, *parts = WRONG[case]
    fails(run(*arguments), code, *parts)
    assert not Path("runs").exists() or not any(Path("runs").iterdir())


# ----------------------------------------------------------------------------------------------------- evaluate and play


def test_evaluate(run, fitted):
    code, out, err = run("evaluate", "first", "episodes=20", "random_state=3")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == f"20 greedy episodes of {ENV}, random_state=3"
    got = dict(line.split() for line in lines[1:])
    said = konspekt.load("first").evaluate(ENV, 20, 3)
    assert {k: float(v) for k, v in got.items()} == {
        k: pytest.approx(v, abs=1e-4) for k, v in said.items() if k != "episodes"
    }
    assert run("evaluate", "first/model", f"env={ENV}", "episodes=20", "random_state=3")[1] == out


def test_play_writes_a_gif(run, fitted):
    code, out, err = run("play", "first", "episodes=2")
    assert (code, err) == (0, "")
    first, second, last = out.splitlines()
    assert first.startswith("episode 1: return ")
    assert first.endswith(", cut by the time limit")
    assert second.startswith("episode 2: return ")
    assert last.startswith("play-konspekt-tests-TwoStates-v0.gif (18 pictures, ")
    with Image.open("play-konspekt-tests-TwoStates-v0.gif") as gif:
        assert (gif.format, gif.size) == ("GIF", (64, 32))
    assert run("play", "first", "out=a.png")[0] == 0
    with Image.open("a.png") as strip:
        assert strip.format == "PNG"
        assert strip.size[0] > 8 * 64


def test_many_pictures_are_thinned(run, fitted, monkeypatch):
    monkeypatch.setattr("konspekt.cli.acting.MOST", 10)
    code, out, _ = run("play", "first", "episodes=2", "out=a.gif")
    assert code == 0
    assert "a.gif (10 of 18 pictures, " in out  # every second one, and the last of each episode


PLAY = {
    "a file": (("play", "first", "out=a.mp4"), 2, "out must end in .gif", "got 'a.mp4'"),
    "a key": (("play", "first", "episode=2"), 2, "play has no key 'episode' for agents; did you mean 'episodes'?"),
    "no number": (("play", "first", "episodes=two"), 2, "play: episodes must be a whole number, at least 1, got 'two'"),
    "none": (("evaluate", "first", "episodes=0"), 2, "evaluate: episodes must be a whole number, at least 1, got '0'"),
    "both": (("play", "first", "--window", "out=a.gif"), 2, "--window shows the episodes and out= writes them"),
    "data": (("evaluate", "first", "data=iris"), 2, "evaluate: an agent takes no data=; env=CartPole-v1"),
    "a key of neither": (
        ("evaluate", "first", "epsodes=3"),
        2,
        "evaluate has no key 'epsodes'; did you mean 'episodes'?",
    ),
    "rows": (
        ("predict", "first", "t.csv"),
        2,
        "TinyAgent acts and predicts for no rows or images",
        "konspekt play first",
    ),
}


@pytest.mark.parametrize("case", PLAY)
def test_wrong_usage_of_a_model(run, fitted, case, fails):
    arguments, code, *parts = PLAY[case]
    fails(run(*arguments), code, *parts)


def test_no_window_without_a_display(run, fitted, monkeypatch, fails):
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("sys.platform", "linux")
    fails(run("play", "first", "--window"), 2, "there is no display for a window", "the episode is written as a gif")


def test_a_window(run, fitted, monkeypatch):
    monkeypatch.setenv("DISPLAY", ":0")
    shown = []
    monkeypatch.setattr("konspekt.rl.frames.shown", lambda agent, env, played: shown.append((env, played.length)))
    code, out, err = run("play", "first", "--window", "episodes=2")
    assert (code, err, shown) == (0, "", [(ENV, 8)] * 2)
    assert len(out.splitlines()) == 2


def test_what_is_no_agent_does_not_play(run, fails):
    konspekt.KMeans(n_clusters=2, random_state=0).fit(np.arange(12.0).reshape(6, 2)).save("m")
    fails(run("evaluate", "m"), 2, "data is missing: konspekt evaluate MODEL data=table.csv")
    fails(run("play", "m"), 2, "KMeans is no agent and plays nothing: konspekt predict m INPUT")
    fails(
        run("evaluate", "m", "data=iris", "episodes=3"),
        2,
        "evaluate: episodes= is for agents; KMeans is measured on data=",
    )


def test_another_environment_is_refused(run, fitted, fails):
    fails(run("evaluate", "first", "env=CartPole-v1"), 1, "learned with observations of Discrete(2)", "Box(4,)")


# ------------------------------------------------------------------------------------------------------------- the rest


def test_runs_measures_the_return(run, fitted):
    code, out, _ = run("runs", ".")
    _, row = out.splitlines()
    assert code == 0
    assert row.split()[:4] == ["first", "finished", "5", "return"]
    found = json.loads(run("runs", ".", "--json")[1])[0]
    assert (found["measure"], found["system"], found["data"]) == ("return", "tiny-agent", ENV)
    Path("first/result.json").unlink()
    assert json.loads(run("runs", ".", "--json")[1])[0]["measure"] == "return"


def test_report_again(run, fitted):
    page = Path("first/report.html").read_bytes()
    assert run("report", "first") == (0, "first/report.html\n", "")
    assert Path("first/report.html").read_bytes() == page


def test_info_shows_parameters_and_search_space(run):
    code, out, _ = run("info", "tiny-agent")
    assert code == 0
    assert out.startswith("tiny-agent (agent, acting)\nrows R3; none\n")
    assert "  steps = 400\n      environment steps." in out
    assert "\nSearch space\n  gamma: real 0.9 to 0.999\n" in out


def test_list_of_agents(run, narrow):
    code, out, _ = run("list", "--kind", "agent")
    assert code == 0
    assert "  tiny-agent " in out
    assert narrow(out)
    rows = json.loads(run("list", "--json")[1])
    assert {
        "name": "tiny-agent",
        "kind": "agent",
        "task": "acting",
        "rows": ["R3"],
        "paper": "none",
        "summary": "Acts at random and then well.",
    } in rows


def test_compare_agents(run, fails, narrow):
    given = ("agents=tiny-agent, tiny-agent", f"env={ENV}", "seeds=2", "steps=80", "episodes=4", "out=c")
    code, out, err = run("compare", "--task", "acting", *given)
    assert (code, err) == (0, "")
    assert out.splitlines()[0].split()[:2] == ["agent", "IQM"]
    assert out.splitlines()[2].startswith("tiny-agent 2  ")
    assert out.endswith("\npage   c/report.html\ntable  c/comparison.csv\n")
    assert narrow(out)
    assert run("report", "c") == (0, "c/report.html\n", "")
    fails(run("compare", "--task", "acting", *given[1:]), 2, "agents is missing: konspekt compare --task acting env=")
    fails(
        run("compare", "--task", "acting", "agents=tiny-agent"),
        2,
        "env is missing: konspekt compare --task acting env=",
    )
    fails(run("compare", "--task", "acting", *given, "seed=3"), 2, "compare has no key 'seed'; did you mean 'seeds'?")
    fails(run("compare", "agents=tiny-agent"), 2, "compare has no key 'agents'; that is one of --task acting")
    fails(run("compare", "--task", "acting", "agents=kmeans", f"env={ENV}"), 2, "'kmeans' is not a registered agent")


def test_a_run_goes_on_in_its_own_environment(run, fitted, fails):
    fails(run("resume", "first", "env=CartPole-v1"), 2, f"first: a run goes on in its own environment, {ENV}")
    assert run("resume", "first", f"env={ENV}")[0] == 0


def test_no_module_is_imported_because_a_run_names_it(run, fitted, fails):
    config = Path("first/config.yaml")
    config.write_text(config.read_text().replace(f"source: {ENV}", f"source: konspekt_nowhere:{ENV}"))
    wanted = f"konspekt_nowhere:{ENV}"
    fails(run("resume", "first"), 2, f"names the environment '{wanted}'", "no module is imported", f"env={wanted}")
    fails(run("resume", "first", f"env={wanted}"), 2, "No module named 'konspekt_nowhere'")  # it was tried


def test_a_fit_that_was_killed_before_anything_was_recorded(run, fails):
    Path("begun").mkdir()
    Path("begun/.lock").touch()
    said = ("begun: a fit was begun there and stopped before anything of it was recorded", "run_dir=begun")
    for command in ("resume", "evaluate", "play"):
        fails(run(command, "begun"), 1, *said)
    assert run("fit", "tiny-agent", f"env={ENV}", "run_dir=begun")[0] == 0
    fails(run("resume", "nowhere"), 1, "nowhere: there is no such folder")


def test_fewer_steps_than_were_made_cannot_be_had(run, fitted, fails):
    fails(run("resume", "first", "steps=100"), 2, "first has made 400 environment steps already; steps=100 is less")


def test_an_environment_that_breaks_in_mid_run_leaves_a_run_that_goes_on(run, monkeypatch):
    steps, broken = TwoStates.step, [200]

    def step(self, action):
        broken[0] -= 1
        if broken[0] == 0:
            raise RuntimeError("no power")
        return steps(self, action)

    monkeypatch.setattr(TwoStates, "step", step)
    code, _, err = run("fit", "tiny-agent", f"env={ENV}", "checkpoint_every=1", "run_dir=first")
    said = " ".join(err.split())
    assert code == 1
    assert "no power" in said
    assert (
        "the run is kept: once the environment is mended, konspekt resume first goes on after environment step 160"
        in said
    )
    assert "WARNING stopped: the environment raised RuntimeError: no power" in Path("first/log.txt").read_text()
    code, out, err = run("resume", "first")
    assert (code, err) == (0, "")
    assert "in 400 steps" in out


@pytest.mark.parametrize(
    ("when", "said"),
    [("start", "stopped by Ctrl-C; go on with: konspekt resume first"), ("exhibit", "konspekt resume first")],
)
def test_ctrl_c_outside_of_the_steps_names_the_run(run, monkeypatch, when, said):
    def stop(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(TinyAgent, when, stop)
    code, _, err = run("fit", "tiny-agent", f"env={ENV}", "run_dir=first")
    assert code == 1
    assert said in " ".join(err.split())


def test_ctrl_c_after_the_training_names_the_model(run, monkeypatch):
    from konspekt.rl import frames

    def stop(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(frames, "film", stop)
    code, _, err = run("fit", "tiny-agent", f"env={ENV}", "run_dir=first")
    assert code == 1
    assert "after the training: first/model is kept; konspekt report first writes its page" in " ".join(err.split())


def test_an_episode_without_end_is_left_and_a_limit_can_be_given(run, monkeypatch):
    from konspekt.rl import frames

    class Endless(TwoStates):
        def step(self, action):
            return *super().step(action)[:3], False, {}

    monkeypatch.setattr(frames, "LONGEST_FILM", 60)
    monkeypatch.setattr(gymnasium.registry[ENV], "entry_point", Endless)
    code, out, err = run("fit", "tiny-agent", f"env={ENV}", "run_dir=first")
    assert (code, err) == (0, "")
    assert "it went on after 60 steps and was left there; max_episode_steps=N ends episodes" in " ".join(out.split())
    assert "before it was left, as it went on" in Path("first/report.html").read_text(encoding="utf-8")
    code, out, _ = run("evaluate", "first", "episodes=2", "max_episode_steps=30")
    assert code == 0
    assert "length             30.0000" in out
