"""The page of an agent's run."""

import json
import re

import numpy as np
import pytest

from konspekt.reports.page import headline, render, report
from konspekt.reports.reading import read_folder


def section(page, name):
    return page.partition(f'<section id="{name}"')[2].partition("</section>")[0].replace("\u202f", " ")


def plain(page):
    return " ".join(re.sub(r"<[^>]+>", " ", page).replace("\u202f", " ").split())


def change_json(folder, name, **values):
    file = folder / name
    file.write_text(json.dumps(json.loads(file.read_text(encoding="utf-8")) | values), encoding="utf-8")


@pytest.fixture
def folder(tmp_path, runs):
    return runs.acting(tmp_path / "a")


def test_headline(folder):
    head = headline(read_folder(folder))
    lengths = read_folder(folder).episodes["length"][-100:]
    assert float(head.score) == pytest.approx(lengths.mean(), abs=0.05)
    assert head.title == f"dqn on CartPole-v1: {head.score} return in the training"
    assert head.state == "finished"
    assert (
        head.story.replace("\u202f", " ") == "The agent made 20 000 environment steps, 300 whole episodes among them."
    )
    assert [line.replace("\u202f", " ") for line in head.context] == [
        "The mean of the last 100 episodes of the training, actions taken to explore included.",
        "One greedy episode afterwards got 187; konspekt evaluate plays many.",
    ]
    facts = {k: v.replace("\u202f", " ") for k, v in head.facts}
    assert facts["episodes"] == "300"
    assert facts["environment steps"] == "20 000"
    assert facts["steps a second"] == "2 000"
    assert facts["parameters"] == "4 610"
    assert float(facts["standard deviation"]) == pytest.approx(lengths.std(ddof=1), abs=0.05)


def test_sections(folder):
    page = render(read_folder(folder))
    assert re.findall(r'<section id="(\w+)"', page) == [
        "acting",
        "played",
        "environment",
        "kept",
        "episodes",
        "model",
        "again",
    ]
    assert "Predictions" not in page
    assert "training items" not in page
    setting = plain(section(page, "environment"))
    assert "observations Box(4,) of float32 actions Discrete(2) stepped together 2 discount 0.99" in setting


def test_curves_stand_over_environment_steps(folder):
    body = section(render(read_folder(folder)), "acting")
    titles = re.findall(r"<figcaption>(.*?)</figcaption>", body)
    assert titles == [
        "Return",
        "Length of the episodes",
        "Epsilon, the share of random actions",
        "Loss",
        "Mean q",
        "TD error",
    ]
    assert "environment steps" in body
    assert "Line: mean of the last 100 episodes. Points: an episode each." in body
    assert ">greedy</text>" in body
    assert "The same in every record: replay 10 000, learning rate 0.001." in body
    assert "grad_norms" not in body
    assert "env steps" not in body


def test_episodes_are_placed_by_the_steps_of_all_environments(folder):
    known = read_folder(folder).episodes
    lines = np.loadtxt(folder / "episodes.csv", delimiter=",", skiprows=1)
    own = lines[lines[:, 1] == 1]
    assert known["at"][known["env"] == 1].tolist() == (2 * np.cumsum(own[:, 5])).tolist()
    assert (np.diff(known["at"]) >= 0).all()


def test_the_running_mean_is_that_of_the_last_100(folder):
    body = section(render(read_folder(folder)), "acting")
    known = read_folder(folder).episodes["return"]
    first, last = known[0], known[-100:].mean()
    assert f"the running mean goes from {first:g} to {last:.3g}" in body


def test_last_episodes_and_the_file(folder):
    body = section(render(read_folder(folder)), "episodes")
    assert plain(body).count("time limit") + plain(body).count("its own end") == 12
    assert '<th scope="row">300</th>' in body
    assert '<a href="episodes.csv">episodes.csv</a>' in body
    assert "All 300 are in" in body


def test_one_environment_needs_no_column_of_them(tmp_path, runs):
    body = section(render(read_folder(runs.acting(tmp_path / "one", envs=1))), "episodes")
    assert ">environment<" not in body


def test_the_played_episode_moves_unless_that_is_unwanted(folder):
    body = section(render(read_folder(folder)), "played")
    assert '<source media="(prefers-reduced-motion: reduce)" srcset="data:image/png;base64,' in body
    assert '<img src="data:image/gif;base64,' in body
    assert 'class="strip" src="data:image/png;base64,' in body
    assert "A greedy episode after the training: return 187, 187 steps; seed 12." in body


@pytest.mark.parametrize("name", ["episode.gif", "first.png", "strip.png"])
def test_a_picture_that_is_none_is_said(folder, name):
    (folder / "frames" / name).write_bytes(b"<svg onload=alert(1)>")
    page = render(read_folder(folder))
    assert f"frames/{name}: absent, a link, too large, or no picture; it is not shown" in plain(page)
    assert "onload" not in page


def test_a_link_is_not_followed(folder, tmp_path):
    target = tmp_path / "elsewhere.gif"
    (folder / "frames" / "episode.gif").rename(target)
    (folder / "frames" / "episode.gif").symlink_to(target)
    assert "image/gif" not in render(read_folder(folder))
    target = tmp_path / "elsewhere.csv"
    (folder / "episodes.csv").rename(target)
    (folder / "episodes.csv").symlink_to(target)
    assert "episodes.csv: not readable (a link, no file, or too large)" in plain(render(read_folder(folder)))


BROKEN = {
    "empty": ("", "the first line names other columns"),
    "other columns": ("a,b\n1,2\n", "the first line names other columns"),
    "a word": ("episode,env,number,seed,return,length,truncated\n0,0,0,1,many,1,0\n", "not readable"),
    "too few": ("episode,env,number,seed,return,length,truncated\n0,0,0\n", "a line has other values than seven numbers"),
    "not finite": ("episode,env,number,seed,return,length,truncated\n0,0,0,1,nan,1,0\n", "a line has other values than seven numbers"),
    "a length of 0": ("episode,env,number,seed,return,length,truncated\n0,0,0,1,2.0,0,0\n", "a length or the number of an environment is out"),
    "bytes": (b"\xff\xfe\x00", "not readable"),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_damaged_episodes_are_said_and_the_rest_is_shown(folder, case):
    content, message = BROKEN[case]
    (folder / "episodes.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    page = render(read_folder(folder))
    assert message in plain(section(page, "problems"))
    assert "<figcaption>Return</figcaption>" in section(page, "acting")  # from the records of the epochs
    assert '<section id="episodes"' not in page


def test_no_whole_episode(folder):
    (folder / "episodes.csv").write_text("episode,env,number,seed,return,length,truncated\n")
    change_json(folder, "result.json", scores={}, episodes=0)
    head = headline(read_folder(folder))
    assert head.score == ""
    assert head.context[0] == "No episode ended, so there is no return."
    assert render(read_folder(folder))


def test_an_interrupted_run(tmp_path, runs):
    folder = runs.acting(tmp_path / "cut", finished=False)
    (folder / "checkpoint").mkdir()
    metrics = (folder / "metrics.jsonl").read_text().splitlines()
    (folder / "metrics.jsonl").write_text("\n".join(metrics[:7]) + "\n")
    head = headline(read_folder(folder))
    assert head.state == "interrupted"
    assert head.story.replace("\u202f", " ") == (
        "The run was interrupted after 7 000 of 20 000 environment steps; resume goes on from its newest checkpoint."
    )
    assert (head.score, head.score_name) == ("40", "return in the training")
    (folder / "metrics.jsonl").unlink()
    assert headline(read_folder(folder)).story == "The run ended before its first record."


def test_why_it_ended(folder):
    lines = (folder / "metrics.jsonl").read_text().replace('"stopped": "epochs"', '"stopped": "max_time"')
    (folder / "metrics.jsonl").write_text(lines)
    assert headline(read_folder(folder)).story.endswith("among them, until its time was over.")


def test_what_learned_without_acting(folder):
    (folder / "episodes.csv").write_text("episode,env,number,seed,return,length,truncated\n")
    records = [{"kind": "epoch", "stage": "fit", "epoch": i, "step": i + 1, "residual": 0.5**i} for i in range(9)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    change_json(folder, "result.json", scores={}, episodes=0)
    page = render(read_folder(folder))
    assert "The answer was found without acting, in 9 rounds." in plain(page)
    assert "<figcaption>Residual</figcaption>" in section(page, "acting")
    assert "No episode ended" not in page


def test_a_run_from_python_says_how_to_repeat_it(folder, runs):
    params = {"steps": 20_000}
    for kind, call in (("environment", "model.fit('CartPole-v1')"), ("memory", "model.fit(env)")):
        data = {"source": "CartPole-v1", "kind": kind}
        runs.config(folder, system="dqn", **{"class": "DQN"}, params=params, command="train.py", data=data)
        assert call in section(render(read_folder(folder)), "again").replace("&#39;", "'")


def test_hostile_names_are_text(folder, runs):
    change_json(
        folder, "data.json", source=runs.HOSTILE, observations=runs.HOSTILE, actions="a\x00b", notes=[runs.HOSTILE]
    )
    change_json(folder, "frames/episode.json", **{"return": "<b>", "seed": runs.HOSTILE, "length": None})
    page = render(read_folder(folder))
    assert "<script" not in page
    assert "A greedy episode after the training." in page


def test_the_same_folder_gives_the_same_bytes(folder, tmp_path):
    first = report(folder).read_bytes()
    assert report(folder, tmp_path / "b.html").read_bytes() == first


def test_a_large_picture_that_was_kept_is_shown_large(folder, runs):
    runs.keep(folder, "v", "images", {"images": np.zeros((1, 170, 170, 3), int).tolist(), "titles": ["v"]})
    runs.keep(folder, "small", "images", {"images": np.zeros((1, 8, 8), int).tolist(), "titles": ["s"]})
    assert section(render(read_folder(folder)), "kept").count('class="gallery large"') == 1
