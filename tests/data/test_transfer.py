"""Downloading a file from a server that is slow of understanding: cuts, wrong bytes, no ranges, no file."""

import hashlib
import multiprocessing
import re
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from konspekt.core.errors import DataError, ResourceError
from konspekt.data import transfer
from konspekt.data.transfer import Remote, download, is_whole

DATA = np.random.default_rng(0).bytes(600_000)
REMOTE = Remote("file.bin", len(DATA), hashlib.sha256(DATA).hexdigest())


@contextmanager
def server(files, *, cuts=(), ranges=True, lengths=True, codes=()):
    """A server on this machine: gives its address, and the list of (path, Range) that it was asked for.

    files: path -> bytes. cuts: after how many bytes of each answer in turn the connection is cut. codes: instead of
    each answer in turn, an error; None: an answer.
    """
    asked, cuts, codes = [], list(cuts), list(codes)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append((self.path, self.headers.get("Range")))
            code = codes.pop(0) if codes else None
            data = files.get(self.path)
            if code or data is None:
                self.send_error(code or 404)
                return
            start = (
                int(re.match(r"bytes=(\d+)-", self.headers["Range"])[1]) if "Range" in self.headers and ranges else 0
            )
            if start >= len(data):
                self.send_error(416)
                return
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
            if lengths:
                self.send_header("Content-Length", str(len(data) - start))
            self.end_headers()
            self.wfile.write(data[start : start + cuts.pop(0)] if cuts else data[start:])

        def log_message(self, *args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{http.server_port}", asked
        finally:
            http.shutdown()
            thread.join()


@pytest.fixture(autouse=True)
def no_pause(monkeypatch):
    monkeypatch.setattr(transfer, "PAUSE", 0)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


def names(folder):
    return sorted(p.name for p in folder.iterdir() if not p.name.endswith(".lock"))


def test_a_file_is_downloaded_once(tmp_path):
    seen = []
    with server({"/sets/file.bin": DATA}) as (url, asked):
        path = download(REMOTE, [f"{url}/sets/"], tmp_path / "new", lambda *args: seen.append(args))
        assert path == tmp_path / "new/file.bin"
        assert path.read_bytes() == DATA
        assert download(REMOTE, [f"{url}/sets"], tmp_path / "new") == path
        assert asked == [("/sets/file.bin", None)]
    assert names(tmp_path / "new") == ["file.bin"]
    assert seen[-1] == ("file.bin", 600_000, 600_000)
    assert [there for _, there, _ in seen] == sorted({there for _, there, _ in seen})


def test_a_cut_connection_is_taken_up_where_it_was_cut(tmp_path):
    with server({"/file.bin": DATA}, cuts=[250_000, 1, 0]) as (url, asked):
        assert download(REMOTE, [url], tmp_path).read_bytes() == DATA
    assert [r for _, r in asked] == [None, "bytes=250000-", "bytes=250001-", "bytes=250001-"]


def test_without_lengths_a_cut_is_noticed_too(tmp_path):
    with server({"/file.bin": DATA}, cuts=[100], lengths=False) as (url, asked):
        assert download(REMOTE, [url], tmp_path).read_bytes() == DATA
    assert [r for _, r in asked] == [None, "bytes=100-"]


def test_a_part_of_another_day_is_gone_on_with(tmp_path):
    (tmp_path / "file.bin.part").write_bytes(DATA[:1000])
    with server({"/file.bin": DATA}) as (url, asked):
        assert download(REMOTE, [url], tmp_path).read_bytes() == DATA
    assert asked == [("/file.bin", "bytes=1000-")]
    assert names(tmp_path) == ["file.bin"]


def test_a_server_that_ignores_ranges_begins_again(tmp_path):
    with server({"/file.bin": DATA}, cuts=[1000], ranges=False) as (url, asked):
        assert download(REMOTE, [url], tmp_path).read_bytes() == DATA
    assert [r for _, r in asked] == [None, "bytes=1000-"]


@pytest.mark.parametrize("part", [bytes(1000), bytes(len(DATA)), bytes(len(DATA) + 5)], ids=["short", "full", "long"])
def test_a_part_with_wrong_bytes_is_thrown_away(tmp_path, part):
    (tmp_path / "file.bin.part").write_bytes(part)
    with server({"/file.bin": DATA}) as (url, asked):
        assert download(REMOTE, [url], tmp_path).read_bytes() == DATA
    assert asked[-1] == ("/file.bin", None)


def test_wrong_bytes_lead_to_the_next_mirror(tmp_path):
    wrong = bytes([DATA[0] ^ 1]) + DATA[1:]
    with server({"/a/file.bin": wrong, "/b/file.bin": DATA}) as (url, asked):
        assert download(REMOTE, [f"{url}/a", f"{url}/b"], tmp_path).read_bytes() == DATA
        assert asked == [("/a/file.bin", None), ("/b/file.bin", None)]  # all of it anew: the part is gone
        (tmp_path / "file.bin").unlink()
        with pytest.raises(DataError) as caught:
            download(REMOTE, [f"{url}/a"], tmp_path)
    text = str(caught.value)
    assert f"{url}/a/file.bin: its SHA-256 is {hashlib.sha256(wrong).hexdigest()}, it should be {REMOTE.sha256}" in text
    assert f"put the file (600,000 bytes, SHA-256 {REMOTE.sha256}) into {tmp_path} by hand" in text
    assert names(tmp_path) == []


@pytest.mark.parametrize("data", [DATA[:-1], DATA + b"x", b"<html>log in</html>"], ids=["less", "more", "a page"])
def test_a_file_of_another_size_is_not_even_taken(tmp_path, data):
    with server({"/file.bin": data}) as (url, asked):
        size = f"{len(data):,}"
        with pytest.raises(DataError, match=f"it has a file of {size} bytes, it should have 600,000"):
            download(REMOTE, [url], tmp_path)
        assert len(asked) == 1
    assert names(tmp_path) == []


def test_what_is_too_long_without_saying_so_is_read_no_further(tmp_path):
    with (
        server({"/file.bin": bytes(1) + DATA}, lengths=False) as (url, _),
        pytest.raises(DataError, match="its SHA-256"),
    ):
        download(REMOTE, [url], tmp_path)


def test_not_found_leads_to_the_next_mirror(tmp_path):
    with server({"/b/file.bin": DATA}) as (url, asked):
        assert download(REMOTE, [f"{url}/a", f"{url}/b"], tmp_path).read_bytes() == DATA
        assert [path for path, _ in asked] == ["/a/file.bin", "/b/file.bin"]
        (tmp_path / "file.bin").unlink()
        with pytest.raises(ResourceError, match=r"(?s)/a/file\.bin: HTTP 404 Not Found.*/c/file\.bin: HTTP 404"):
            download(REMOTE, [f"{url}/a", f"{url}/c"], tmp_path)


def test_a_busy_server_is_asked_again(tmp_path):
    with server({"/file.bin": DATA}, codes=[503, 429, None]) as (url, asked):
        assert download(REMOTE, [url], tmp_path).read_bytes() == DATA
        assert len(asked) == 3
    with server({"/file.bin": DATA}, codes=[500] * 99) as (url, asked):
        with pytest.raises(ResourceError, match=r"HTTP 500 Internal Server Error \(tried 6 times\)"):
            download(REMOTE, [url], tmp_path / "other")
        assert len(asked) == transfer.TRIES


def test_no_network_names_the_addresses_and_the_folder(tmp_path):
    with server({}) as (url, _):
        pass  # its port is closed now
    with pytest.raises(ResourceError) as caught:
        download(REMOTE, [f"{url}/a", f"{url}/b"], tmp_path)
    text = str(caught.value)
    assert f"{url}/a/file.bin: no connection (" in text
    assert f"{url}/b/file.bin: no connection (" in text
    assert "tried 2 times" in text
    assert f"into {tmp_path} by hand" in text


def test_a_damaged_file_in_its_place_is_replaced_or_left(tmp_path):
    path = tmp_path / "file.bin"
    path.write_bytes(b"by hand")
    assert not is_whole(path, REMOTE)
    sum_there = hashlib.sha256(b"by hand").hexdigest()
    with server({}) as (url, _), pytest.raises(ResourceError, match=f"lies there has the SHA-256 {sum_there}"):
        download(REMOTE, [url], tmp_path)
    assert path.read_bytes() == b"by hand"
    with server({"/file.bin": DATA}) as (url, _):
        download(REMOTE, [url], tmp_path)
    assert is_whole(path, REMOTE)


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ResourceError, match=r"cannot write .*file/folder/file\.bin: "):
        download(REMOTE, ["http://127.0.0.1:1"], tmp_path / "file/folder")


def test_two_processes_do_not_write_one_file(tmp_path):
    context = multiprocessing.get_context("fork")
    with server({"/file.bin": DATA}, cuts=[1000]) as (url, asked):
        processes = [context.Process(target=download, args=(REMOTE, [url], tmp_path)) for _ in range(3)]
        for process in processes:
            process.start()
        for process in processes:
            process.join(timeout=30)
        assert [p.exitcode for p in processes] == [0, 0, 0]
        assert [r for _, r in asked] == [None, "bytes=1000-"]
    assert (tmp_path / "file.bin").read_bytes() == DATA
