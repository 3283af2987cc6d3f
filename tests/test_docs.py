"""The pages: every example runs as it is printed, every name and link exists, what is generated is current."""

from __future__ import annotations

import builtins
import importlib
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import sklearn.exceptions

import konspekt
from konspekt.cli.app import app
from konspekt.core import ConfigError, DataError, entries, errors, registry
from konspekt.core.params import params_of
from konspekt.data.sets import SETS
from konspekt.engine import Moment
from konspekt.metrics import clustering
from konspekt.testing import checks_of, docs

ROOT = docs.repository(Path(__file__))
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)
NOT_RUN = re.compile(r"^(make|pip|\.venv/bin/\S+) ", re.M)  # they would install, or run these tests


def fences(page, language):
    return [text for found, text in FENCE.findall((ROOT / page).read_text(encoding="utf-8")) if found == language]


def prose(page):
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def run(arguments, folder):
    """Run a program as a reader would: in an empty folder, with the commands of this Python first on the path."""
    here = Path(sys.executable).parent
    path = os.pathsep.join([str(here), os.environ.get("PATH", "")])
    environment = os.environ | {"PATH": path, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "error"}
    done = subprocess.run(arguments, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def numbered(texts):
    return [pytest.param(text, id=str(number)) for number, text in enumerate(texts, 1)]


# --- examples ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", numbered(fences("README.md", "python")))
def test_python_example_runs(text, tmp_path):
    (tmp_path / "example.py").write_text(text, encoding="utf-8")
    printed = run([sys.executable, "example.py"], tmp_path)
    numbers = [float(n) for n in re.findall(r"\d+\.\d+", printed)]
    for promised in re.findall(r"# about (\d+\.\d+)", text):
        assert any(abs(n - float(promised)) < 0.03 for n in numbers), f"{promised} is not about any of {numbers}"
    assert printed.strip()


@pytest.mark.parametrize("text", numbered(t for t in fences("README.md", "bash") if not NOT_RUN.search(t)))
def test_shell_example_runs(text, tmp_path):
    assert run(["bash", "-e", "-c", text], tmp_path).strip()


def test_readme_has_examples_of_both_languages():
    assert len(fences("README.md", "python")) >= 4
    assert any("konspekt fit" in text for text in fences("README.md", "bash"))
    assert {language for page in PAGES for language, _ in FENCE.findall(page.read_text())} <= {"python", "bash", "text"}


def example(tmp_path, monkeypatch):
    """The entry of the system that CONTRIBUTING.md adds, as a package from outside would add it."""
    (text,) = fences("CONTRIBUTING.md", "python")
    (tmp_path / "added_by_contributing.py").write_text(text, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "added_by_contributing", raising=False)
    found = tuple(registry._read("added_by_contributing", tmp_path / "added_by_contributing.py"))
    together = (*entries(), *found)
    monkeypatch.setattr(registry, "entries", lambda: together)
    (entry,) = found
    return entry


@pytest.mark.parametrize("check", ["params", "fit", "save", "repeat", "resume", "overfit", "gradient", "bad_input"])
def test_contributed_example_keeps_the_contract(check, tmp_path, monkeypatch):
    entry = example(tmp_path, monkeypatch)
    folder = tmp_path / "made"
    folder.mkdir()
    dict(checks_of(entry))[check](entry, folder)
    assert entry.name == "softmax-classifier"


def test_contributed_example_names_rows_of_the_course(tmp_path, monkeypatch):
    course = docs.read_course(ROOT / docs.COURSE)
    entry = example(tmp_path, monkeypatch)
    assert docs.by_row(course, [*docs.own_entries(), entry])["B1"][-1] is entry


# --- names and links --------------------------------------------------------------------------------------------------


def anchors(page):
    """The anchors that GitHub gives the headings of a page."""
    heads = re.findall(r"^#+ (.+)$", prose(page), re.M)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{page.name} links to {target}, which is not there"
        assert not anchor or anchor in anchors(file), f"{page.name} links to {target}, which has no such heading"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_make_targets_exist(page):
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M))
    text = page.read_text(encoding="utf-8")
    named = set(re.findall(r"`make ([\w-]+)`", text)) | set(re.findall(r"^make ([\w-]+)", text, re.M))
    assert named <= targets


@pytest.mark.parametrize("page", [p for p in PAGES if p.name != "course.md"], ids=lambda page: page.name)
def test_commands_exist(page):
    commands = {c.name or c.callback.__name__ for c in app.registered_commands}
    named = re.findall(r"(?:`|^)konspekt (\w+)", page.read_text(encoding="utf-8"), re.M)
    assert set(named) <= commands, f"{page.name} names commands that are not there"


def vocabulary():
    """Every lower-case name that a page may print as code: parameters, methods, registered names, words of the data."""
    words = {e.name for e in entries()} | set(SETS) | set(registry.KINDS) | set(registry.TASKS) | {"data", "target"}
    for entry in entries():
        if entry.kind in ("estimator", "agent"):
            words |= set(params_of(entry.load())) | set(dir(entry.load()))
        elif entry.kind in ("net", "tool"):
            words |= set(inspect.signature(entry.load()).parameters)
    words |= {c.name or c.callback.__name__ for c in app.registered_commands}
    words |= {"validation", "resume", "callbacks"}  # of fit
    words |= {*konspekt.explain.__all__, *konspekt.cluster.__all__, *clustering.__all__}
    words |= set(Moment.__dataclass_fields__)
    return words


def exists(span):
    """Whether a dotted name leads somewhere from `konspekt`."""
    parts = span.removeprefix("konspekt.").split(".")
    place = konspekt
    for number, part in enumerate(parts):
        try:
            place = getattr(place, part)
        except AttributeError:
            try:
                place = importlib.import_module("konspekt." + ".".join(parts[: number + 1]))
            except ImportError:
                return False
    return True


def code_spans(page):
    return set(re.findall(r"`([^`\n]+)`", prose(page)))


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_classes_and_parameters_exist(name):
    known = vocabulary()
    homes = [konspekt, errors, sklearn.exceptions, builtins]
    homes += [importlib.import_module(f"konspekt.{m}") for m in ("engine", "core.params", "data.readers", "data.sets")]
    homes.append(importlib.import_module("konspekt.core.registry"))
    known |= {"KONSPEKT_DATA"}  # of the environment
    own = set(re.findall(r"^\s*(?:class|def) (\w+)", "\n".join(fences(name, "python")), re.M)) | {"Literal"}
    wrong = []
    for span in code_spans(ROOT / name):
        if re.fullmatch(r"konspekt(\.\w+)+(\(.*\))?", span):
            good = exists(span.partition("(")[0]) or span in (registry.GROUP,)
        elif match := re.fullmatch(r"([A-Z]\w*)(\(.*\))?", span):
            good = match[1] in own or any(hasattr(home, match[1]) for home in homes) or match[1] in known
        elif match := re.fullmatch(r"([a-z]\w*)=\S.*", span):
            good = match[1] in known or match[1] in ("waive", "rows", "kind")
        elif re.fullmatch(r"[a-z]+(_[a-z]+)+", span):
            good = span in known
        else:
            continue
        if not good:
            wrong.append(span)
    assert not wrong, f"{name} names what is not there: {', '.join(sorted(wrong))}"


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "docs/design.md"])
def test_files_that_are_named_exist(name):
    for span in code_spans(ROOT / name):
        if re.fullmatch(r"[\w/.]+\.(py|toml|md)|[a-z]\w*/", span) and "RESULTS" not in span:
            places = (ROOT / span, ROOT / "src/konspekt" / span)
            in_run = span in {
                "checkpoint/",
                "model/",
                "items/",
                "frames/",
                "kept/",
                "quarantine/",
                "tensorboard/",
                "stream/",
                "card.md",
                "runs/",
            }
            added = span in {"src/konspekt/tabular/softmax.py", "softmax.py"}
            open_yet = name == "docs/design.md" and span in code_spans_after(
                ROOT / name, "## What the shape leaves room"
            )
            assert in_run or added or open_yet or any(p.exists() for p in places), f"{name} names {span}"


def code_spans_after(page, heading):
    return set(re.findall(r"`([^`\n]+)`", prose(page).partition(heading)[2]))


def test_readme_lists_all_errors_and_all_that_a_run_folder_holds():
    text = prose(ROOT / "README.md")
    assert all(name in text for name in errors.__all__ if name != "nearest")
    assert "result.json" in text
    assert "got -1`" in text
    with pytest.raises(ConfigError, match=r"^MLPClassifier: lr must be more than 0, or 'find', got -1$"):
        konspekt.MLPClassifier(lr=-1).check_params()


# --- generated pages --------------------------------------------------------------------------------------------------


def test_generated_pages_are_current():
    assert docs.stale(ROOT) == [], "run `make docs`"


def test_all_rows_stand_on_the_page_and_open_ones_say_so():
    course = docs.read_course(ROOT / docs.COURSE)
    lines = (ROOT / docs.PAGE).read_text(encoding="utf-8").splitlines()
    states = {line.split(" | ")[0].strip("| "): line for line in lines if line.count(" | ") == 4}
    named = {row for e in docs.own_entries() for row in e.rows}
    assert len(course.rows) == 121
    assert set(course.rows) <= set(states)
    for name in course.rows:
        assert ("| open" in states[name]) == (name not in named)


def test_all_errata_stand_on_the_page():
    course = docs.read_course(ROOT / docs.COURSE)
    page = (ROOT / docs.PAGE).read_text(encoding="utf-8")
    slips = [slip for _, part in course.errata for slip in part]
    assert len(slips) == 101
    assert all(docs._cell(text) in page for slip in slips for text in slip)


def copy_of_pages(folder):
    (folder / "docs").mkdir()
    for path in (docs.COURSE, docs.PAGE, docs.README, docs.TRANSLATION):
        (folder / path).write_bytes((ROOT / path).read_bytes())
    (folder / "pyproject.toml").write_text('[project]\nname = "konspekt"\n')
    (folder / "src").symlink_to(ROOT / "src")
    return folder


def test_check_names_what_is_stale_and_writes_nothing(tmp_path, monkeypatch, capsys):
    copy_of_pages(tmp_path)
    monkeypatch.chdir(tmp_path / "docs")
    assert docs.main(["--check"]) == 0
    (tmp_path / docs.PAGE).write_text("old")
    assert docs.main(["--check"]) == 1
    assert capsys.readouterr().out == "docs/course.md is stale; `make docs` writes it\n"
    assert (tmp_path / docs.PAGE).read_text() == "old"
    assert docs.main([]) == 0
    assert capsys.readouterr().out == "wrote docs/course.md\n"
    assert docs.main(["--check"]) == 0


def test_wrong_usage_and_wrong_place(tmp_path, monkeypatch, capsys):
    assert docs.main(["--chekc"]) == 2
    assert "usage: python -m konspekt.testing.docs [--check]" in capsys.readouterr().err
    monkeypatch.chdir(tmp_path)
    assert docs.main(["--check"]) == 1
    assert "is not inside konspekt's repository" in capsys.readouterr().err
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "konspekt"\n')
    assert docs.main(["--check"]) == 1
    assert "the konspekt that Python imports is" in capsys.readouterr().err
    (tmp_path / "pyproject.toml").write_text("not toml")
    with pytest.raises(ConfigError, match="is not inside konspekt's repository"):
        docs.repository(tmp_path)


@pytest.mark.parametrize("page", docs.HEADS, ids=str)
def test_readme_without_markers_is_an_error(page, tmp_path):
    copy_of_pages(tmp_path)
    (tmp_path / page).write_text("# konspekt\n")
    with pytest.raises(DataError, match=rf"{page}: the lines <!-- systems --> and <!-- /systems --> are missing"):
        docs.pages(tmp_path)


def entry_of(*rows):
    return registry.Entry(name="thing", kind="net", module="konspekt.vision.nets.mlp", qualname="mlp", rows=rows)


def test_unknown_row_is_an_error():
    course = docs.read_course(ROOT / docs.COURSE)
    with pytest.raises(ConfigError, match=r"net 'thing' names row 'A66', which docs/course.toml does not have"):
        docs.by_row(course, [entry_of("A66")])


def test_begun_and_lacks_must_agree_with_the_registry():
    course = docs.read_course(ROOT / docs.COURSE)
    with pytest.raises(DataError, match="row A9 says `begun`, but something is registered for it now"):
        docs.by_row(course, [*docs.own_entries(), entry_of("A9")])
    with pytest.raises(DataError, match="says `lacks`, but nothing is registered for it"):
        docs.by_row(course, [])


GOOD = '{ id = "A1", system = "s", source = "D", public = "p" }'


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (f"{GOOD}, {GOOD}", "row A1 stands there twice"),
        (GOOD.replace("A1", "B1"), "row B1 stands in group A"),
        ('{ id = "A1" }', "a key is missing or unknown"),
        (GOOD.replace("public", "publik"), "a key is missing or unknown"),
        ("{", "not readable as TOML"),
    ],
)
def test_course_file_that_is_wrong_is_an_error(rows, message, tmp_path):
    file = tmp_path / "course.toml"
    file.write_text(
        f'errata = []\n[documents]\nD = "d"\n[[groups]]\nletter = "A"\ntitle = "t"\npackages = []\nrows = [{rows}]\n'
    )
    with pytest.raises(DataError, match=message):
        docs.read_course(file)


def test_course_file_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(DataError, match="there is no such file"):
        docs.read_course(tmp_path / "course.toml")


def test_cells_show_what_they_say():
    assert docs._cell("|x| <w,x> a * b *c* `d|*e`") == r"\|x\| \<w,x> a * b \*c\* `d\|*e`"
