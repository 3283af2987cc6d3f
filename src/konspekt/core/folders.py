"""Folders that are whole or not there: written aside, flushed, renamed, with a manifest of sums written last.

A model and a checkpoint are both such a folder: JSON, text and safetensors files beside `manifest.json`, which lists
the size and the SHA-256 of each. Reading checks names, sizes and sums before a byte is interpreted, never follows a
link, and runs nothing that a file says.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import hashlib
import json
import os
import re
import shutil
import stat
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from konspekt.core.errors import DataError, ResourceError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "MANIFEST",
    "flush",
    "is_folder",
    "json_bytes",
    "read_json",
    "read_plain",
    "read_tensors",
    "remove",
    "tensor_file",
    "verify",
    "write_file",
    "write_folder",
]

MANIFEST = "manifest.json"
FORMAT = 1
MAX_JSON = 256 << 20  # bytes: larger than any vocabulary, small enough to parse
_SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")

Writer = bytes | Callable[[Path], None]


def flush(path: Path) -> None:
    """Have the operating system put a file, or a folder's entries, on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def json_bytes(value: Any, *, indent: int | None = 1) -> bytes:
    """JSON as it stands in the folders: UTF-8, indented, numbers exact, no NaN.

    indent: None: all in one line, written five times as fast, as suits a million numbers.
    """
    return (json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False) + "\n").encode()


def tensor_file(tensors: Mapping[str, Tensor], *, copy: bool = True) -> Writer:
    """A writer of a safetensors file. Tensors may share memory, be views, or lie on a device.

    copy: False for tensors that do none of this.
    """

    def write(path: Path) -> None:
        from safetensors import SafetensorError
        from safetensors.torch import save_file

        whole = {n: t.detach().cpu().contiguous().clone() for n, t in tensors.items()} if copy else dict(tensors)
        try:
            save_file(whole, str(path))
        except SafetensorError as error:  # the library turns the operating system's errors into its own
            raise OSError(errno.ENOSPC if "No space" in str(error) else errno.EIO, str(error), str(path)) from None

    return write


def write_file(path: Path, data: bytes) -> None:
    """Replace one file at once: readers see the old bytes or the new.

    Raises ResourceError where the disk refuses.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        aside.write_bytes(data)
        flush(aside)
        os.replace(aside, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            aside.unlink()
        raise refusal(error, path) from None


def write_folder(folder: Path, files: Mapping[str, Writer]) -> None:
    """Write the files and their manifest as `folder`, replacing an older such folder only when the new one is whole.

    Raises ResourceError where the disk refuses (the older folder stays), DataError where `folder` holds something else.
    """
    if folder.exists() and not is_folder(folder) and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(f"{folder} exists and was not written by konspekt; give a new folder, or remove this one first")
    aside = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    try:
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        sums = {}
        for name, writer in files.items():
            path = aside / name
            path.write_bytes(writer) if isinstance(writer, bytes) else writer(path)
            flush(path)
            sums[name] = {"bytes": path.stat().st_size, "sha256": _sum(path)}
        (aside / MANIFEST).write_bytes(json_bytes({"format": FORMAT, "files": sums}))
        flush(aside / MANIFEST)
        flush(aside)
        _put(aside, folder)
    except OSError as error:
        raise refusal(error, folder) from None
    finally:
        shutil.rmtree(aside, ignore_errors=True)  # what failed, or the older one


def _put(aside: Path, folder: Path) -> None:
    """Put the new folder in its place; the older one, if any, takes the place aside. OSError: nothing has changed."""
    if not folder.exists():
        os.replace(aside, folder)
        flush(folder.parent)
        return
    _exchange(aside, folder)
    try:
        flush(folder.parent)
    except OSError:
        _exchange(aside, folder)
        raise


def _exchange(a: Path, b: Path) -> None:
    """Swap two folders, at one moment where the system can (Linux), else by three renames."""
    try:
        swap = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError):
        done = False
    else:
        here, both = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
        done = swap(here, os.fsencode(a), here, os.fsencode(b), both) == 0
    if not done:
        spare = a.with_name(a.name + ".old")
        os.replace(b, spare)
        try:
            os.replace(a, b)
        except OSError:
            os.replace(spare, b)
            raise
        os.replace(spare, a)


def refusal(error: OSError, path: Path) -> ResourceError:
    """The ResourceError that says what the operating system refused and what to do about it."""
    advice = {
        errno.ENOSPC: "the disk is full: free some space, then resume or save again",
        errno.EDQUOT: "the disk quota is used up: free some space, then resume or save again",
        errno.EACCES: "permission denied: choose a folder that you may write",
        errno.EROFS: "the file system is read-only: choose another folder",
    }.get(error.errno or 0, f"{error.strerror or error}")
    return ResourceError(f"cannot write {path}: {advice}. What was saved before is untouched")


def is_folder(folder: Path) -> bool:
    """Whether a manifest stands there; `verify` says whether it holds."""
    return (folder / MANIFEST).is_file()


def verify(folder: Path, required: tuple[str, ...], may: tuple[str, ...] = ()) -> None:
    """Check that the folder holds the required files, nothing that is neither required nor in `may`, and their sums.

    Raises DataError that names the file.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder that konspekt wrote: there is no such folder")
    if not is_folder(folder):
        raise DataError(f"{folder} is not a folder that konspekt wrote: it has no {MANIFEST}")
    manifest = read_json(folder / MANIFEST)
    listed = manifest.get("files") if isinstance(manifest, dict) else None
    if not isinstance(listed, dict) or manifest.get("format") != FORMAT:
        raise DataError(
            f"{folder / MANIFEST}: not a manifest of format {FORMAT}; the file is damaged or of a newer version"
        )
    for name, facts in listed.items():
        if not _SAFE.fullmatch(name) or name not in (*required, *may):
            raise DataError(
                f"{folder / MANIFEST}: lists {name!r}, which has no place in such a folder; do not trust it"
            )
        path = folder / name
        if path.is_symlink() or not path.is_file():
            raise DataError(f"{path}: listed in the manifest, but it is not a plain file there; copy the folder again")
        if not isinstance(facts, dict) or path.stat().st_size != facts.get("bytes"):
            raise DataError(f"{path}: its size is not the manifest's: it is cut or changed; copy the folder again")
        if _sum(path) != facts.get("sha256"):
            raise DataError(
                f"{path}: its SHA-256 is not the manifest's: it is damaged or changed; copy the folder again"
            )
    for path in folder.iterdir():
        if path.name != MANIFEST and path.name not in listed and path.name in may:
            raise DataError(f"{path}: not listed in the manifest; do not trust it")
    for name in required:
        if name not in listed:
            raise DataError(f"{folder}: {name} is missing from the manifest; the folder is incomplete")


def read_json(path: Path) -> Any:
    """The value of a JSON file.

    Raises DataError where it is no JSON, or too large to be one of ours.
    """
    try:
        return json.loads(read_plain(path, MAX_JSON))
    except (ValueError, RecursionError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path}: not readable as JSON ({str(error)[:80]}); the file is damaged") from None


def read_plain(path: Path, most: int) -> bytes:
    """The bytes of a file that is no link, no pipe, and no larger than `most`.

    Raises DataError where it is.
    """
    if path.is_symlink():
        raise DataError(f"{path}: a link, where a plain file belongs; copy the folder again")
    facts = path.stat()
    if not stat.S_ISREG(facts.st_mode):
        raise DataError(f"{path}: not a plain file; copy the folder again")
    if facts.st_size > most:
        raise DataError(f"{path}: {facts.st_size} bytes are more than the {most} that such a file may have")
    return path.read_bytes()


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file. No other format is read; a pickle is refused by name.

    Raises DataError that names the file.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(10)
    # a safetensors header's length may begin with these bytes too, but its ninth byte is "{"
    if head[8:9] != b"{" and (head[:2] == b"PK" or head[:1] == b"\x80"):
        raise DataError(f"{path}: this is a pickle (a PyTorch file), not safetensors; it can run code and is not read")
    if size < 10 or struct.unpack("<Q", head[:8])[0] > size - 8 or head[8:9] != b"{":
        raise DataError(f"{path}: not a safetensors file: its header does not fit its {size} bytes")
    try:
        return load_file(str(path))
    except (SafetensorError, OSError, ValueError, MemoryError) as error:
        raise DataError(f"{path}: not a whole safetensors file ({str(error)[:120]})") from None


def remove(folder: Path) -> None:
    """Remove a folder so that no half of it can be taken for a whole: the manifest goes first."""
    with contextlib.suppress(FileNotFoundError, IsADirectoryError, PermissionError):  # a folder there is no manifest
        (folder / MANIFEST).unlink()
    shutil.rmtree(folder, ignore_errors=True)


def _sum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
