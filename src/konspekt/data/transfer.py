"""Downloading one file: from one of several mirrors, taken up where it was cut, and in its place only when it is whole.

The bytes go to NAME.part beside the file and are renamed when their SHA-256 is the one that was published. A lock keeps
two processes from writing one file: the second waits, and finds it there.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from konspekt.core.errors import DataError, ResourceError
from konspekt.core.folders import flush, refusal

__all__ = ["Progress", "Remote", "download", "is_whole"]

TRIES = 6  # times that a mirror is asked for one file
PAUSE = 0.5  # seconds before the second try; each further pause is twice as long
TIMEOUT = 30.0  # seconds without a byte
_AT_ONCE = 1 << 18

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Remote:
    """A file that mirrors hold: its name, its size in bytes, its SHA-256."""

    name: str
    size: int
    sha256: str


class _CutError(Exception):
    """The connection failed, and the mirror may be asked again. begun: whether it had answered."""

    def __init__(self, text: str, *, begun: bool = True) -> None:
        super().__init__(text)
        self.begun = begun


class _RefusedError(Exception):
    """The mirror does not have the file. wrong: it has another in its place."""

    def __init__(self, text: str, *, wrong: bool = False) -> None:
        super().__init__(text)
        self.wrong = wrong


def is_whole(path: Path, remote: Remote) -> bool:
    """Whether this file is there with the right size and sum."""
    return path.is_file() and path.stat().st_size == remote.size and _sum(path) == remote.sha256


def download(remote: Remote, mirrors: Sequence[str], folder: Path, progress: Progress | None = None) -> Path:
    """The file in the folder: as it is there, if it is whole, else downloaded from the first mirror that has it.

    mirrors: what stands before the name in a URL. progress: called with the name, the bytes that are there and the size.

    Raises DataError where every mirror that answers has other bytes, ResourceError where none answers or the disk
    refuses.
    """
    path = folder / remote.name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder / f".{remote.name}.lock"):
            if is_whole(path, remote):
                return path
            _download(remote, mirrors, path, progress)
    except OSError as error:
        raise refusal(error, path) from None
    return path


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _download(remote: Remote, mirrors: Sequence[str], path: Path, progress: Progress | None) -> None:
    part = path.with_name(f"{path.name}.part")
    problems: list[str] = []
    wrong = False
    for mirror in mirrors:
        url = mirror.rstrip("/") + "/" + remote.name
        try:
            _from_mirror(url, remote, part, progress)
        except _RefusedError as error:
            problems.append(f"  {url}: {error}")
            wrong = wrong or error.wrong
            continue
        flush(part)
        os.replace(part, path)
        flush(path.parent)
        return
    there = f"; the file that lies there has the SHA-256 {_sum(path)}" if path.is_file() else ""
    raise (DataError if wrong else ResourceError)(
        f"{remote.name} cannot be had:\n"
        + "\n".join(problems)
        + f"\nWithout a network, put the file ({remote.size:,} bytes, SHA-256 {remote.sha256}) into {path.parent} by hand"
        + there
    )


def _from_mirror(url: str, remote: Remote, part: Path, progress: Progress | None) -> None:
    """Have the part whole and its sum right. Raises _RefusedError; a part with a wrong sum is then gone."""
    reason, silent = "", 0
    for attempt in range(TRIES):
        if attempt:
            time.sleep(PAUSE * 2 ** (attempt - 1))
        resumed = part.is_file() and part.stat().st_size > 0
        try:
            _transfer(url, remote, part, progress)
        except _CutError as error:
            reason = str(error)
            silent += not error.begun
            if silent == 2:  # there is no network, or no such machine
                break
            continue
        found = _sum(part)
        if found == remote.sha256:
            return
        part.unlink()
        reason = f"its SHA-256 is {found}, it should be {remote.sha256}"
        if not resumed:  # else what lay there from another time may have been wrong: once more from the beginning
            raise _RefusedError(reason, wrong=True)
    raise _RefusedError(f"{reason} (tried {attempt + 1} times)")


def _transfer(url: str, remote: Remote, part: Path, progress: Progress | None) -> None:
    """Ask for what the part lacks and add it."""
    there = part.stat().st_size if part.is_file() else 0
    if there > remote.size:
        part.unlink()
        there = 0
    if there == remote.size:
        return
    with _asked(url, there) as answer:
        if there and not _goes_on(answer, there):
            there = 0
        length = answer.headers.get("Content-Length")
        if length is not None and length.isdigit() and there + int(length) != remote.size:
            wrong = f"it has a file of {there + int(length):,} bytes, it should have {remote.size:,}"
            raise _RefusedError(wrong, wrong=True)
        with part.open("ab" if there else "wb") as file:
            while there < remote.size and (data := _next(answer, min(_AT_ONCE, remote.size - there))):
                file.write(data)
                there += len(data)
                if progress is not None:
                    progress(remote.name, there, remote.size)
    if there < remote.size:
        raise _CutError(f"the connection was cut after {there:,} of {remote.size:,} bytes")


def _asked(url: str, there: int) -> Any:
    """The answer of a server that has the file, from a byte on if it will."""
    import http.client
    import urllib.error
    import urllib.request

    headers = {"User-Agent": "konspekt", "Accept-Encoding": "identity"}
    headers |= {"Range": f"bytes={there}-"} if there else {}
    try:
        request = urllib.request.Request(url, headers=headers)  # noqa: S310, `fetch` lets only http and https through
        return urllib.request.urlopen(request, timeout=TIMEOUT)  # noqa: S310
    except urllib.error.HTTPError as error:
        error.close()
        text = f"HTTP {error.code} {error.reason}"
        if error.code in (408, 429) or error.code >= 500:
            raise _CutError(text) from None
        raise _RefusedError(text) from None
    except urllib.error.URLError as error:
        raise _CutError(f"no connection ({error.reason})", begun=False) from None
    except (http.client.HTTPException, OSError, ValueError) as error:
        raise _CutError(f"no answer ({type(error).__name__})", begun=False) from None


def _next(answer: Any, size: int) -> bytes:
    import http.client

    try:
        data: bytes = answer.read(size)
    except (http.client.HTTPException, OSError) as error:
        raise _CutError(f"the connection was cut ({type(error).__name__})") from None
    return data


def _goes_on(answer: Any, there: int) -> bool:
    """Whether the server sends what follows the first bytes, and not all from the beginning."""
    found = re.match(r"bytes (\d+)-", answer.headers.get("Content-Range", ""))
    return answer.status == 206 and found is not None and int(found[1]) == there


def _sum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
