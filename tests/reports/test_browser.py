"""The page in a browser, over the DevTools protocol: no error, no overflow, both themes, wide and as wide as a phone.

Chromium speaks the protocol over two pipes, so nothing but Chromium itself is needed.
"""

from __future__ import annotations

import fcntl
import itertools
import json
import os
import select
import shutil
import subprocess
import sys
import time

import pytest

from konspekt.reports.page import report

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
CHROMIUM = next((path for name in NAMES if (path := shutil.which(name))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed: make browser")

ARGUMENTS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--no-default-browser-check", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage", "--disable-extensions",
    "--remote-debugging-pipe",
)  # fmt: skip
# Chromium reads from descriptor 3 and writes to 4.
CONNECT = (
    "import os, sys; [os.dup2(int(a), n) for a, n in zip(sys.argv[1:3], (3, 4))]; os.execv(sys.argv[3], sys.argv[3:])"
)
PATIENCE = 60  # seconds for one answer: only a browser that hangs takes as long
WIDTHS = {"wide": 1200, "phone": 390}

# What stands beyond the page's right or left edge, unless something around it scrolls; pictures without pixels; words of
# a drawing that lie on each other, or outside of it.
MEASURE = """
((width) => {
  for (const folded of document.querySelectorAll("details")) folded.open = true;
  const scrolls = e => ["auto", "scroll"].includes(getComputedStyle(e).overflowX);
  const inside = e => { while ((e = e.parentElement)) if (scrolls(e)) return true; return false; };
  const name = e => `${e.tagName.toLowerCase()}.${e.getAttribute("class") || ""} ${(e.textContent || "").trim().slice(0, 40)}`;
  const outside = [...document.body.querySelectorAll("*")].filter(e => {
    const box = e.getBoundingClientRect();
    return box.width && (box.right > width + 0.5 || box.left < -0.5) && !inside(e);
  });
  const box = e => e.getBoundingClientRect();
  const meet = (a, b) => Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1
    && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 3;
  const collide = [], spill = [];
  for (const drawing of document.querySelectorAll("svg")) {
    const texts = [...drawing.querySelectorAll("text")], frame = box(drawing);
    for (const [i, e] of texts.entries()) {
      for (const other of texts.slice(i + 1)) if (meet(box(e), box(other))) collide.push(`${name(e)} / ${name(other)}`);
      if (box(e).left < frame.left - 4 || box(e).right > frame.right + 4) spill.push(name(e));
    }
  }
  const texts = [...document.querySelectorAll("svg text")].map(e => box(e).height);
  return {
    width: innerWidth,
    scroll: document.documentElement.scrollWidth,
    outside: outside.slice(0, 10).map(name),
    collide, spill,
    broken: [...document.images].filter(i => !i.complete || !i.naturalWidth).map(name),
    images: document.images.length,
    drawings: document.querySelectorAll("svg").length,
    smallest: Math.min(...texts),
    page: getComputedStyle(document.body).backgroundColor,
    ink: getComputedStyle(document.body).color,
  };
})(WIDTH)
"""


class Browser:
    """A headless Chromium with one page."""

    def __init__(self, profile):
        to_read, to_write = self._pipe(), self._pipe()

        ends = (to_write[0], to_read[1])
        self.process = subprocess.Popen(
            [sys.executable, "-c", CONNECT, *map(str, ends), CHROMIUM, *ARGUMENTS, f"--user-data-dir={profile}"],
            pass_fds=ends, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(to_write[0])
        os.close(to_read[1])
        self.reading, self.writing = to_read[0], to_write[1]
        self.numbers, self.rest, self.events, self.session = itertools.count(1), b"", [], None
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.ask(f"{domain}.enable")

    @staticmethod
    def _pipe():
        """A pipe whose ends are far from 3 and 4, so that neither is overwritten on the way."""
        ends = os.pipe()
        far = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 20) for end in ends]
        for end in ends:
            os.close(end)
        return far

    def ask(self, method, **params):
        number = next(self.numbers)
        message = {"id": number, "method": method, "params": params}
        message |= {"sessionId": self.session} if self.session else {}
        os.write(self.writing, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._message()
            if answer.get("id") == number:
                assert "error" not in answer, answer
                return answer["result"]
            self.events.append(answer)

    def _message(self):
        end = time.monotonic() + PATIENCE
        while b"\0" not in self.rest:
            ready, _, _ = select.select([self.reading], [], [], max(0.0, end - time.monotonic()))
            assert ready, f"Chromium has not answered within {PATIENCE} s"
            read = os.read(self.reading, 1 << 16)
            assert read, "Chromium has ended"
            self.rest += read
        message, _, self.rest = self.rest.partition(b"\0")
        return json.loads(message)

    def open(self, file, *, width, theme):
        """Load the page and measure it."""
        phone = width < 600
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=phone)
        self.ask("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": theme}])
        self.events.clear()
        self.ask("Page.navigate", url=file.as_uri())
        while not any(e.get("method") == "Page.loadEventFired" for e in self.events):
            self.events.append(self._message())
        self.ask("Runtime.evaluate", expression="document.fonts.ready.then(() => 0)", awaitPromise=True)
        seen = self.ask("Runtime.evaluate", expression=MEASURE.replace("WIDTH", str(width)), returnByValue=True)[
            "result"
        ]["value"]
        return seen | {"errors": self._errors(), "asked": self._asked(file)}

    def _errors(self):
        """What the console would show, violations of the page's own policy among it."""
        said = [e["params"]["entry"]["text"] for e in self.events if e.get("method") == "Log.entryAdded"]
        said += [str(e["params"]) for e in self.events if e.get("method") == "Runtime.exceptionThrown"]
        return said + [str(e["params"]["args"]) for e in self.events if e.get("method") == "Runtime.consoleAPICalled"]

    def _asked(self, file):
        """Addresses besides the page's own that were asked for."""
        sent = [e["params"]["request"]["url"] for e in self.events if e.get("method") == "Network.requestWillBeSent"]
        return [url for url in sent if not url.startswith("data:") and url != file.as_uri()]

    def close(self):
        os.close(self.writing)  # Chromium ends when its pipe does
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        os.close(self.reading)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    opened = Browser(tmp_path_factory.mktemp("profile"))
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory, runs):
    """Pages of runs with everything there is, with long names and many classes, and with almost nothing."""
    base = tmp_path_factory.mktemp("pages")
    long = tuple(f"averylongnameofaclasswithoutaspace{i}" for i in range(12))
    made = {
        "full": runs.full(base / "full"),
        "regression": runs.regression(base / "regression"),
        "long": runs.classification(base / ("long-name-of-a-run-" * 4), long, 120),
        "many": runs.classification(base / "many", tuple(f"kind {i}" for i in range(60)), 300),
        "stages": runs.stages(base / "stages"),
        "clusters": runs.clustering(base / "clusters"),
        "crowded": runs.clustering(base / "crowded", count=3000, kinds=40),
        "acting": runs.acting(base / "acting"),
        "agents": _agents(base / "agents"),
        "bare": runs.bare(base / "bare"),
    }
    runs.keep(made["bare"], "wide", "table", [{f"a long name of a column {i}": "x" * 60 for i in range(20)}])
    return {name: report(folder) for name, folder in made.items()}


def _agents(folder):
    """A comparison of agents, as it is saved."""
    names = ("q-learning", "a name without any space that is long", "failed")
    rows = [
        {"agent": n, "iqm": 3.0 + i, "low": 2.5 + i, "high": 3.25 + i, "mean": 3.0, "std": 0.5, "min": 2.0, "max": 4.0, "length": 9.0,
         "seconds": 1.5, "seeds": 3, "problem": ""} for i, n in enumerate(names[:2])
    ]  # fmt: skip
    rows.append({"agent": "failed", "iqm": None, "problem": "the environment breaks a rule"})
    curves = {
        n: {"steps": [100, 5000, 10_000], "returns": [[0, 1, 2 + i], [0, 2, 3 + i]]} for i, n in enumerate(names[:2])
    }
    said = {"task": "acting", "source": "Taxi", "rows": rows, "curves": curves, "scores": {n: [3.0, 3.5] for n in names[:2]},
            "settings": {"seeds": 3, "episodes": 9, "confidence": 0.95, "n_bootstrap": 100}, "notes": ["A note."]}  # fmt: skip
    folder.mkdir()
    (folder / "comparison.json").write_text(json.dumps(said))
    return folder


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize(
    "name", ["full", "regression", "long", "many", "stages", "clusters", "crowded", "acting", "agents", "bare"]
)
def test_page(browser, pages, name, width, theme):
    seen = browser.open(pages[name], width=WIDTHS[width], theme=theme)
    assert seen["errors"] == []
    assert seen["asked"] == []
    assert seen["broken"] == []
    assert seen["outside"] == []
    assert seen["collide"] == []
    assert seen["spill"] == []
    assert seen["scroll"] <= seen["width"] == WIDTHS[width]
    page, ink = ([int(n) for n in seen[key][4:-1].split(",")] for key in ("page", "ink"))
    assert (sum(page) > sum(ink)) == (theme == "light")
    if name == "full":
        assert seen["images"] > 20
        assert seen["drawings"] > 8
        assert seen["smallest"] > 10  # pixels: the line of the smallest text in a drawing


def test_the_measure_finds_what_is_wrong(browser, tmp_path):
    """Each of the things that `test_page` looks for, on a page that has them all."""
    file = tmp_path / "wrong.html"
    file.write_text(
        '<!doctype html><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:">'
        '<p style="position: absolute; left: 0">styled</p><div id="wide">wide</div>'
        '<img src="data:image/png;base64,AAAA" alt=""><img src="other.png" alt="">'
        "<svg viewBox='0 0 900 10' width='900'><text y='9'>one</text><text y='9' x='8'>two</text><text x='950'>3</text></svg>"
        "<script>1</script>"
    )
    seen = browser.open(file, width=390, theme="light")
    assert len(seen["broken"]) == 2
    assert any(text.startswith("svg.") for text in seen["outside"])
    assert len(seen["collide"]) == 1
    assert len(seen["spill"]) == 1
    assert max(seen["scroll"], seen["width"]) > 390  # an emulated phone zooms out instead
    assert sum("Content Security Policy" in text for text in seen["errors"]) >= 3
