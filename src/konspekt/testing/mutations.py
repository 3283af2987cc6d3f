"""Folders spoiled at random, by accident and by malice: what `konspekt.load` and `konspekt resume` must withstand.

An accident (a flipped bit, a cut file) leaves the manifest's sums as they were; malice writes them anew, so that only
what a file says can give it away. Everything is drawn from the generator that is given, so that a trial can be repeated.
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

from konspekt.core.folders import MANIFEST

__all__ = ["mutate_folder", "mutate_json", "mutate_lines", "mutate_tensors", "mutate_text", "sum_anew"]

_DEEP, _DIGITS = "\ue000deep\ue000", "\ue000digits\ue000"  # written as what json.dumps cannot write
_SPECIAL: list[Any] = [
    None, True, False, 0, -1, 1, 2, 2**31, 2**63, -(2**63) - 1, 10**30, 10**400, 0.5, -0.0, 1e308, 1e-320,
    float("nan"), float("inf"), "", "1", "nan", "none", "../../x", "/etc/passwd", "a\0b", "\ud800", "x" * 50_000,
    "os.system('touch boom')", "__import__('os').system('touch boom')", "!!python/object/apply:os.system ['touch boom']",
    "(" * 5000, "-" * 5000 + "1", "adam(" + "[" * 500 + ")", "adam(beta1=1e400)", "resnet(depth=999999999)", "999999999999999999999",
    [], {}, [[]], [None], [0] * 1000, list(range(100)), [10**9, 10**9], {"": None}, {"a": {"b": {"c": 1}}},
    {"$tensor": "nowhere"}, {"$tensor": ["state"]}, {"$tensor": None}, {"$items": 3}, {"$items": [[{}, 1]]}, {"$items": [[[1], 2]]},
    {"$items": [1]}, {"$tuple": 3}, {"$tuple": "abc"}, {"$items": [["a", 1], ["a", 2]]}, _DEEP, _DIGITS,
]  # fmt: skip
_NAMES = [
    "../../x", "/etc/passwd", "..", ".", "", ".hidden", "a\0b", "config.json\n", "x" * 300, "CONFIG.JSON", "sub/file", "x.py",
    "model.pkl", "C:\\x", "con", "config.json ", "\ud800",
]  # fmt: skip
_DTYPES = [
    "F64",
    "F32",
    "F16",
    "BF16",
    "I64",
    "I32",
    "I16",
    "I8",
    "U8",
    "BOOL",
    "U64",
    "F8_E4M3",
    "C64",
    "F4",
    "x",
    3,
    None,
]


def mutate_folder(folder: Path, draw: random.Random) -> tuple[str, bool]:
    """Spoil a folder of `write_folder`: what was done, and whether the manifest agrees with it."""
    kind = draw.choice(["accident", "malice", "malice", "malice", "manifest", "place"])
    files = sorted(p for p in folder.iterdir() if p.name != MANIFEST)
    if kind == "accident":
        path = draw.choice([*files, folder / MANIFEST])
        return f"{path.name}: {_mutate_bytes(path, draw)}", False
    if kind == "manifest":
        return f"manifest: {_mutate_manifest(folder, draw)}", False
    if kind == "place":
        return _mutate_place(folder, draw), False
    path = draw.choice([p for p in files if p.suffix != ".md"])
    how = mutate_json if path.suffix == ".json" else mutate_tensors
    done = _mutate_bytes(path, draw) if draw.random() < 0.1 else how(path, draw)
    sum_anew(folder)
    return f"{path.name}, sums anew: {done}", True


def sum_anew(folder: Path) -> None:
    """Write the manifest's sums anew, as malice would."""
    manifest = json.loads((folder / MANIFEST).read_bytes())
    for name in manifest["files"]:
        data = (folder / name).read_bytes()
        manifest["files"][name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (folder / MANIFEST).write_text(json.dumps(manifest))


def mutate_json(path: Path, draw: random.Random) -> str:
    """Change one to three values of a JSON file; what was done."""
    tree = json.loads(path.read_bytes())
    done = []
    for _ in range(draw.choice([1, 1, 1, 2, 3])):
        tree, what = _changed(tree, draw)
        done.append(what)
    path.write_bytes(_dumped(tree, draw))
    return "; ".join(done)


def mutate_lines(path: Path, draw: random.Random) -> str:
    """Change one line of a file of JSON lines, or its bytes."""
    lines = path.read_bytes().splitlines()
    if not lines or draw.random() < 0.3:
        return _mutate_bytes(path, draw)
    number = draw.randrange(len(lines))
    tree, what = _changed(json.loads(lines[number]), draw)
    lines[number] = _dumped(tree, draw).replace(b"\n", b" ")
    path.write_bytes(b"\n".join(lines) + b"\n")
    return f"line {number + 1}: {what}"


def mutate_text(path: Path, draw: random.Random) -> str:
    """Change a file of YAML: its bytes, or a value in it."""
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()
    values = [
        "[" * 3000, "&a [*a]", "!!python/object/apply:os.system ['touch boom']", "!!python/name:os.system", "{", "]", "2001-99-99",
        "!!binary x", "? [a]", "1e999", ".nan", "9" * 6000, "null", "-1", "[1, 2]", "{a: 1}", "../../x", "'\\0'", '"\\0"', "yes", "!!int x",
        "0x", "1:99:99", "!!set {a}", "<<: 3", "*nowhere", "%", "x" * 100_000,
    ]  # fmt: skip
    kind = draw.choice(["bytes", "value", "value", "value", "laughs", "cut", "twice"])
    number = draw.randrange(len(lines))
    if kind == "bytes":
        return _mutate_bytes(path, draw)
    if kind == "value":
        key, colon, _ = lines[number].partition(":")
        value = draw.choice(values)
        lines[number] = f"{key}{colon} {value}"
        done = f"line {number + 1}: {value[:30]}"
    elif kind == "laughs":  # each name stands for ten of the one before
        laughs = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
        laughs += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)]
        key, colon, _ = lines[number].partition(":")
        lines[number] = f"{key}{colon} *a11"
        lines[:0] = laughs
        done = f"line {number + 1}: a billion laughs"
    elif kind == "cut":
        lines = lines[:number]
        done = f"cut before line {number + 1}"
    else:
        lines.insert(number, draw.choice(lines))
        done = f"a line twice, at {number + 1}"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return done


def mutate_tensors(path: Path, draw: random.Random) -> str:
    """Change the header of a safetensors file, or the numbers."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header, body = json.loads(data[8 : 8 + length]), bytearray(data[8 + length :])
    names = sorted(n for n in header if n != "__metadata__")
    name = draw.choice(names) if names else ""
    facts = header.get(name, {})
    kind = draw.choice(
        [
            "dtype",
            "shape",
            "offsets",
            "name",
            "less",
            "more",
            "length",
            "numbers",
            "numbers",
            "twice",
            "metadata",
            "cast",
        ]
    )
    if kind == "dtype":
        facts["dtype"] = draw.choice(_DTYPES)
    elif kind == "shape":
        shapes: list[Any] = [
            [],
            [0],
            [0, 2**40],
            [2**62],
            [2**32, 2**32],
            [-1],
            [1.5],
            ["1"],
            None,
            3,
            [1] * 1000,
            facts.get("shape", [])[::-1],
        ]
        shapes += [[*facts.get("shape", []), 1], [1, *facts.get("shape", [])], [10**30], [[1]]]
        facts["shape"] = draw.choice(shapes)
    elif kind == "offsets":
        first, last = facts.get("data_offsets", [0, 0])
        other = header[draw.choice(names)]["data_offsets"] if names else [0, 0]
        choices: list[Any] = [
            other,
            [first, last + 4],
            [first - 4, last],
            [last, first],
            [0, len(body)],
            [0, 2**63],
            [-4, 4],
            [first],
            None,
            [0.5, 1],
        ]
        facts["data_offsets"] = draw.choice([*choices, [2**64 - 4, 2**64], [first, last, last], ["0", "4"]])
    elif kind == "name" and names:
        header[draw.choice([*_NAMES, "state.step", draw.choice(names)])] = header.pop(name)
    elif kind == "less" and names:
        del header[name]
    elif kind == "more":
        header["more"] = {"dtype": "F32", "shape": [0, draw.choice([1, 2**31, 2**62])], "data_offsets": [len(body)] * 2}
    elif kind == "metadata":
        header["__metadata__"] = draw.choice([{}, {"format": "np"}, {"a": 1}, [], {"x": "y" * 10_000}, None])
    elif kind == "cast" and names:  # as many bytes for each number, other numbers; or as many numbers, other bytes
        _cast(header, body, name, draw)
    elif kind == "numbers" and body:
        size = max(4, len(body) // draw.choice([1, 10, 100]))
        start = draw.randrange(len(body))
        what = draw.choice(
            [b"\x00", b"\xff", struct.pack("<f", float("inf")), struct.pack("<f", 1e38), draw.randbytes(64)]
        )
        body[start : start + size] = (what * size)[: len(body[start : start + size])]
    text = json.dumps(header)
    if kind == "twice" and names:
        text = text[:-1] + f", {json.dumps(name)}: {json.dumps(facts)}}}"
    raw = text.encode("utf-8", "surrogatepass")
    length = (
        draw.choice([0, 1, len(raw) - 1, 2**32, 2**63, 2**64 - 1, len(raw) + len(body)])
        if kind == "length"
        else len(raw)
    )
    path.write_bytes(struct.pack("<Q", length) + raw + bytes(body))
    return f"{kind} of {name!r}: {json.dumps(header.get(name))[:120]}"


def _cast(header: dict[str, Any], body: bytearray, name: str, draw: random.Random) -> None:
    """Give a tensor another shape or type that the file bears out: shorter, longer, of another width."""
    facts = header[name]
    first, last = facts["data_offsets"]
    dtype, width = draw.choice([("F32", 4), ("F64", 8), ("I32", 4), ("U8", 1), ("BOOL", 1), ("I64", 8), ("BF16", 2)])
    count = draw.choice([0, 1, 2, (last - first) // width, (last - first) // 4, 1000])
    new = draw.randbytes(count * width) if draw.random() < 0.5 else bytes(count * width)
    body[first:last] = new
    change = len(new) - (last - first)
    for other in header.values():
        if (
            isinstance(other, dict)
            and "data_offsets" in other
            and other is not facts
            and other["data_offsets"][0] >= last
        ):
            other["data_offsets"] = [n + change for n in other["data_offsets"]]
    facts |= {"dtype": dtype, "shape": [count], "data_offsets": [first, first + len(new)]}


def _mutate_bytes(path: Path, draw: random.Random) -> str:
    data = bytearray(path.read_bytes())
    kind = draw.choice(["flip", "cut", "longer", "zero", "empty", "shift", "noise"]) if data else "longer"
    place = draw.randrange(len(data)) if data else 0
    if kind == "flip":
        for _ in range(draw.choice([1, 2, 8])):
            data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    elif kind == "cut":
        del data[place:]
    elif kind == "longer":
        data += draw.randbytes(draw.choice([1, 8, 4096]))
    elif kind == "zero":
        data[place : place + 512] = bytes(len(data[place : place + 512]))
    elif kind == "empty":
        data.clear()
    elif kind == "shift":
        del data[place : place + draw.choice([1, 4, 8])]
    else:
        data[:] = draw.randbytes(len(data))
    path.write_bytes(bytes(data))
    return f"{kind} at {place}"


def _mutate_manifest(folder: Path, draw: random.Random) -> str:
    manifest = json.loads((folder / MANIFEST).read_bytes())
    if draw.random() < 0.5:
        name = draw.choice(_NAMES)
        listed = draw.choice(sorted(manifest["files"]))
        manifest["files"][name] = manifest["files"][listed] if draw.random() < 0.5 else manifest["files"].pop(listed)
        what = f"lists {name[:30]!r}"
    else:
        manifest, what = _changed(manifest, draw)
    (folder / MANIFEST).write_bytes(_dumped(manifest, draw))
    return what


def _mutate_place(folder: Path, draw: random.Random) -> str:
    """Put something else in the place of a file: a link, a folder, a pipe, nothing."""
    path = draw.choice(sorted(folder.iterdir()))
    kind = draw.choice(["link", "absolute link", "dangling link", "folder", "pipe", "gone", "more"])
    if kind == "more":
        (folder / draw.choice(["extra.py", "__init__.py", "weights.bin", "optimizer.safetensors"])).write_text("boom")
        return "a file more"
    data = path.read_bytes()
    path.unlink()
    if kind == "link":
        beside = folder.parent / f"{folder.name}-{path.name}"
        beside.write_bytes(data)
        path.symlink_to(os.path.relpath(beside, folder))
    elif kind == "absolute link":
        path.symlink_to("/etc/passwd")
    elif kind == "dangling link":
        path.symlink_to("nowhere")
    elif kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    return f"{path.name}: {kind}"


def _changed(tree: Any, draw: random.Random) -> tuple[Any, str]:
    """A tree with one value, key or branch changed, and where."""
    places: list[tuple[Callable[[Any], None], Callable[[], None] | None, str]] = []

    def walk(value: Any, where: str) -> None:
        if isinstance(value, dict):
            for key in list(value):
                here = f"{where}.{key}"
                places.append(
                    (lambda new, v=value, k=key: v.__setitem__(k, new), lambda v=value, k=key: v.pop(k, None), here)  # type: ignore[misc]
                )
                walk(value[key], here)
        elif isinstance(value, list):
            for number, item in enumerate(value[:50]):
                here = f"{where}[{number}]"
                places.append((lambda new, v=value, n=number: v.__setitem__(n, new), None, here))  # type: ignore[misc]
                walk(item, here)

    walk(tree, "")
    if not places or draw.random() < 0.02:
        return copy.deepcopy(draw.choice(_SPECIAL)), "the whole"
    put, drop, where = draw.choice(places)
    if drop is not None and draw.random() < 0.15:
        drop()
        return tree, f"{where} gone"
    new = copy.deepcopy(draw.choice(_SPECIAL))
    put(new)
    return tree, f"{where} = {str(new)[:40]!r}"


def _dumped(tree: Any, draw: random.Random) -> bytes:
    text = json.dumps(tree)
    depth = draw.choice([50, 400, 990, 100_000])
    text = text.replace(json.dumps(_DEEP), "[" * depth + "]" * depth).replace(json.dumps(_DIGITS), "9" * 5000)
    return text.encode("utf-8", "surrogatepass")
