"""Folders: whole or not there, whatever the disk or a stranger does to them."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import pickle
import struct

import numpy as np
import pytest
import torch

from konspekt.core import DataError, ResourceError, folders
from konspekt.core.folders import (
    MANIFEST,
    is_folder,
    json_bytes,
    read_json,
    read_tensors,
    remove,
    tensor_file,
    verify,
    write_file,
    write_folder,
)

NAMES = ("config.json", "weights.safetensors")


def content(number):
    return {
        "config.json": json_bytes({"number": number}),
        "weights.safetensors": tensor_file({"w": torch.full((3, 2), float(number))}),
    }


@pytest.fixture
def model(tmp_path):
    folder = tmp_path / "model"
    write_folder(folder, content(1))
    return folder


def number_in(folder):
    verify(folder, NAMES)
    number = read_json(folder / "config.json")["number"]
    assert torch.equal(read_tensors(folder / "weights.safetensors")["w"], torch.full((3, 2), float(number)))
    return number


def manifest(folder, change):
    """Rewrite the manifest as a stranger would."""
    value = json.loads((folder / MANIFEST).read_text())
    change(value)
    (folder / MANIFEST).write_text(json.dumps(value))


class TestWrite:
    def test_what_was_written_is_read_and_nothing_else_is_left(self, model, tmp_path):
        assert is_folder(model)
        assert number_in(model) == 1
        assert sorted(p.name for p in model.iterdir()) == sorted([*NAMES, MANIFEST])
        listed = json.loads((model / MANIFEST).read_text())
        for name in NAMES:
            data = (model / name).read_bytes()
            assert listed["files"][name] == {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        assert os.listdir(tmp_path) == ["model"]

    def test_an_older_one_is_replaced(self, model, tmp_path):
        write_folder(model, content(2))
        assert number_in(model) == 2
        assert os.listdir(tmp_path) == ["model"]

    def test_parents_are_made_and_an_empty_folder_is_taken(self, tmp_path):
        (tmp_path / "a" / "empty").mkdir(parents=True)
        write_folder(tmp_path / "a" / "empty", content(3))
        write_folder(tmp_path / "b" / "c", content(4))
        assert number_in(tmp_path / "a" / "empty") == 3
        assert number_in(tmp_path / "b" / "c") == 4

    def test_somebody_elses_things_are_not_replaced(self, tmp_path):
        (tmp_path / "thesis").mkdir()
        (tmp_path / "thesis" / "text.tex").write_text("years of work")
        (tmp_path / "file").write_text("x")
        for name in ("thesis", "file"):
            with pytest.raises(DataError, match="exists and was not written by konspekt; give a new folder"):
                write_folder(tmp_path / name, content(1))
        assert (tmp_path / "thesis" / "text.tex").read_text() == "years of work"

    def test_bytes_that_repeat(self, tmp_path):
        write_folder(tmp_path / "a", content(1))
        write_folder(tmp_path / "b", content(1))
        for name in (*NAMES, MANIFEST):
            assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()

    def test_the_manifest_is_flushed_last_and_the_rename_after_it(self, tmp_path, monkeypatch):
        events = []
        replace = os.replace
        monkeypatch.setattr(folders, "flush", lambda path: events.append(path.name))
        monkeypatch.setattr(os, "replace", lambda a, b: (events.append(f"rename to {b.name}"), replace(a, b)))
        write_folder(tmp_path / "new", content(1))
        aside = f".new.{os.getpid()}.part"
        assert events == [*NAMES, MANIFEST, aside, "rename to new", tmp_path.name]

    def test_tensors_that_share_memory_are_views_or_empty(self, tmp_path):
        base = torch.arange(6.0).view(2, 3)
        tensors = {"base": base, "turned": base.T, "row": base[1], "none": torch.zeros(0, 4), "half": base.half()}
        tensors["ints"], tensors["parameter"] = torch.tensor([1, -2]), torch.nn.Parameter(torch.ones(2))
        tensor_file(tensors)(tmp_path / "w")
        read = read_tensors(tmp_path / "w")
        assert set(read) == set(tensors)
        for name, value in tensors.items():
            assert torch.equal(read[name], value.detach()), name
            assert read[name].dtype == value.dtype

    def test_json_is_exact_and_has_no_NaN(self):
        assert json.loads(json_bytes({"x": 0.1 + 0.2, "я": "ё"})) == {"x": 0.1 + 0.2, "я": "ё"}
        assert "я".encode() in json_bytes("я")
        with pytest.raises(ValueError, match="not JSON compliant"):
            json_bytes(float("nan"))

    def test_remove_takes_the_manifest_first(self, model, monkeypatch):
        monkeypatch.setattr(folders.shutil, "rmtree", lambda *a, **k: None)  # killed right after the first deed
        remove(model)
        assert not is_folder(model)
        assert (model / "config.json").exists()
        monkeypatch.undo()
        remove(model)
        assert not model.exists()
        remove(model)


def full(*_):
    raise OSError(errno.ENOSPC, "No space left on device")


class TestDiskFull:
    """The older folder survives a failure at each moment, and nothing half written lies about."""

    @pytest.mark.parametrize("owner_name", [(folders, "flush"), (os, "replace")], ids=["flush", "replace"])
    def test_write_folder(self, model, tmp_path, monkeypatch, owner_name):
        true, failed = getattr(*owner_name), 0
        for moment in range(1, 5):  # both files, the manifest, the new folder; as many renames as there are
            calls = []

            def at_the_moment(*arguments, calls=calls, moment=moment):
                calls.append(arguments)
                return full() if len(calls) == moment else true(*arguments)

            with monkeypatch.context() as patch:
                patch.setattr(*owner_name, at_the_moment)
                try:
                    write_folder(model, content(2))
                except ResourceError as error:
                    failed, message = failed + 1, str(error)
                else:
                    break
            assert "model: the disk is full: free some space" in message
            assert "What was saved before is untouched" in message
            assert number_in(model) == 1
            assert os.listdir(tmp_path) == ["model"]
        assert failed == 4 or owner_name[1] == "replace"
        write_folder(model, content(3))
        assert number_in(model) == 3

    def test_a_first_folder_that_fails_leaves_nothing(self, tmp_path, monkeypatch):
        monkeypatch.setattr(folders, "flush", full)
        with pytest.raises(ResourceError, match="the disk is full"):
            write_folder(tmp_path / "model", content(1))
        assert os.listdir(tmp_path) == []

    def test_when_safetensors_hides_the_cause(self, model, monkeypatch):
        from safetensors import SafetensorError
        from safetensors import torch as theirs

        def refuse(*_):
            raise SafetensorError(
                'Error while serializing: IoError(Os { code: 28, message: "No space left on device" })'
            )

        monkeypatch.setattr(theirs, "save_file", refuse)
        with pytest.raises(ResourceError, match="the disk is full"):
            write_folder(model, content(2))
        assert number_in(model) == 1

    @pytest.mark.parametrize(
        ("number", "advice"),
        [
            (errno.EDQUOT, "the disk quota is used up"),
            (errno.EACCES, "permission denied: choose a folder that you may write"),
            (errno.EROFS, "the file system is read-only"),
            (errno.EIO, "Input/output error"),
        ],
    )
    def test_other_refusals(self, tmp_path, monkeypatch, number, advice):
        def refuse(path):
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(folders, "flush", refuse)
        with pytest.raises(ResourceError, match=advice):
            write_folder(tmp_path / "model", content(1))

    @pytest.mark.parametrize("owner_name", [(folders, "flush"), (os, "replace")])
    def test_write_file(self, tmp_path, monkeypatch, owner_name):
        path = tmp_path / "state.json"
        write_file(path, b"old")
        with monkeypatch.context() as patch:
            patch.setattr(*owner_name, full)
            with pytest.raises(ResourceError, match=r"cannot write .*state\.json: the disk is full"):
                write_file(path, b"new")
        assert path.read_bytes() == b"old"
        assert os.listdir(tmp_path) == ["state.json"]
        write_file(path, b"new")
        assert path.read_bytes() == b"new"


class TestVerify:
    @pytest.mark.parametrize("name", NAMES)
    def test_a_flipped_bit_anywhere(self, model, name):
        data = bytearray((model / name).read_bytes())
        for place in np.linspace(0, len(data) - 1, 7).astype(int):
            data[place] ^= 1
            (model / name).write_bytes(data)
            with pytest.raises(DataError, match=f"{name}: its SHA-256 is not the manifest's: it is damaged"):
                verify(model, NAMES)
            data[place] ^= 1
        (model / name).write_bytes(data)
        assert number_in(model) == 1

    @pytest.mark.parametrize("name", NAMES)
    def test_cut_lengthened_and_missing(self, model, name):
        data = (model / name).read_bytes()
        for other in (data[:-1], b"", data + b" "):
            (model / name).write_bytes(other)
            with pytest.raises(DataError, match=f"{name}: its size is not the manifest's: it is cut or changed"):
                verify(model, NAMES)
        (model / name).unlink()
        with pytest.raises(DataError, match=f"{name}: listed in the manifest, but it is not a plain file"):
            verify(model, NAMES)

    def test_links_are_not_followed(self, model, tmp_path):
        (tmp_path / "elsewhere").write_bytes((model / "config.json").read_bytes())
        (model / "config.json").unlink()
        (model / "config.json").symlink_to(tmp_path / "elsewhere")
        with pytest.raises(DataError, match="not a plain file there"):
            verify(model, NAMES)
        with pytest.raises(DataError, match="a link, where a plain file belongs"):
            read_json(model / "config.json")

    def test_a_manifest_that_is_a_link(self, model, tmp_path):
        (model / MANIFEST).rename(tmp_path / "elsewhere")
        (model / MANIFEST).symlink_to(tmp_path / "elsewhere")
        with pytest.raises(DataError, match="a link, where a plain file belongs"):
            verify(model, NAMES)

    def test_a_folder_or_a_pipe_in_the_place_of_a_file(self, model):
        (model / "config.json").unlink()
        (model / "config.json").mkdir()
        with pytest.raises(DataError, match="not a plain file"):
            verify(model, NAMES)
        (model / "config.json").rmdir()
        os.mkfifo(model / "config.json")
        with pytest.raises(DataError, match="not a plain file"):
            verify(model, NAMES)

    @pytest.mark.parametrize(
        "name",
        ["../secret", "/etc/passwd", "sub/file", ".hidden", "", "..", "a\0b", "config.json\n", "x" * 101, "code.py"],
        ids=repr,
    )
    def test_names_with_no_place_in_the_folder(self, model, tmp_path, name):
        (tmp_path / "secret").write_text("x")
        manifest(model, lambda m: m["files"].update({name: {"bytes": 1, "sha256": hashlib.sha256(b"x").hexdigest()}}))
        with pytest.raises(DataError, match="which has no place in such a folder; do not trust it"):
            verify(model, NAMES)
        if name != "code.py":  # not even where the caller would have it
            with pytest.raises(DataError, match="which has no place in such a folder"):
                verify(model, NAMES, may=(name,))

    def test_a_file_that_may_be_there(self, model):
        write_folder(model, content(1) | {"extra.json": b"{}"})
        verify(model, NAMES, may=("extra.json", "other.json"))
        with pytest.raises(DataError, match=r"lists 'extra\.json', which has no place"):
            verify(model, NAMES)

    def test_a_required_file_that_is_not_listed(self, model):
        manifest(model, lambda m: m["files"].pop("config.json"))
        with pytest.raises(DataError, match=r"config\.json is missing from the manifest; the folder is incomplete"):
            verify(model, NAMES)

    @pytest.mark.parametrize(
        "text",
        [
            b"[]",
            b"3",
            b"null",
            b"{}",
            b'{"format": 1}',
            b'{"format": 1, "files": []}',
            b'{"format": 2, "files": {}}',
            b'{"files": {}}',
        ],
    )
    def test_a_manifest_of_another_form(self, model, text):
        (model / MANIFEST).write_bytes(text)
        with pytest.raises(DataError, match=r"manifest\.json: not a manifest of format 1"):
            verify(model, NAMES)

    @pytest.mark.parametrize("text", [b"", b"{", b"\xff\xfe\x00", b"[" * 100_000, b"9" * 5000])
    def test_a_manifest_that_is_no_json(self, model, text):
        (model / MANIFEST).write_bytes(text)
        with pytest.raises(DataError, match=r"manifest\.json: not readable as JSON"):
            verify(model, NAMES)

    @pytest.mark.parametrize("facts", [None, 3, [], {}, {"bytes": "many"}, {"sha256": 0}])
    def test_facts_of_another_form(self, model, facts):
        manifest(model, lambda m: m["files"].update({"config.json": facts}))
        with pytest.raises(DataError, match=r"config\.json: its size is not the manifest's"):
            verify(model, NAMES)

    def test_no_folder_and_no_manifest(self, tmp_path):
        with pytest.raises(DataError, match="there is no such folder"):
            verify(tmp_path / "nowhere", NAMES)
        with pytest.raises(DataError, match=r"it has no manifest\.json"):
            verify(tmp_path, NAMES)

    def test_a_file_too_large_to_be_ours(self, model, monkeypatch):
        monkeypatch.setattr(folders, "MAX_JSON", 10)
        with pytest.raises(DataError, match="bytes are more than the 10 that such a file may have"):
            read_json(model / "config.json")


class Bomb:
    def __reduce__(self):
        return os.mkdir, ("boom",)


def header(value, body=b""):
    text = json.dumps(value).encode()
    return struct.pack("<Q", len(text)) + text + body


class TestTensors:
    @pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
    def test_a_pickle_in_disguise_is_not_run(self, tmp_path, monkeypatch, protocol):
        monkeypatch.chdir(tmp_path)
        path = tmp_path / "weights.safetensors"
        path.write_bytes(pickle.dumps(Bomb(), protocol=protocol))
        with pytest.raises(DataError, match=r"weights\.safetensors: (this is a pickle|not a)"):
            read_tensors(path)
        assert not (tmp_path / "boom").exists()

    @pytest.mark.parametrize("zipped", [True, False])
    def test_a_file_of_torch_save_is_refused_by_name(self, tmp_path, zipped):
        path = tmp_path / "weights.safetensors"
        torch.save({"w": torch.ones(3)}, path, _use_new_zipfile_serialization=zipped)
        with pytest.raises(DataError, match=r"this is a pickle \(a PyTorch file\), not safetensors; it can run code"):
            read_tensors(path)

    @pytest.mark.parametrize("length", [2**64 - 1, 2**63, 2**40, 200])
    def test_a_header_said_to_be_huge(self, tmp_path, length):
        path = tmp_path / "weights.safetensors"
        path.write_bytes(struct.pack("<Q", length) + b"{" + b" " * 100)
        with pytest.raises(DataError, match="not a safetensors file: its header does not fit its 109 bytes"):
            read_tensors(path)

    @pytest.mark.parametrize("data", [b"", b"{}", b"\0" * 9, b"\0" * 200, b"hello world, this is text"])
    def test_what_is_nothing(self, tmp_path, data):
        (tmp_path / "w").write_bytes(data)
        with pytest.raises(DataError, match="not a safetensors file: its header does not fit"):
            read_tensors(tmp_path / "w")

    @pytest.mark.parametrize(
        "data",
        [
            header({"w": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 4]}}, b"0000"),
            header({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 400]}}, b"0000"),
            header({"w": {"dtype": "F32", "shape": [1], "data_offsets": [-4, 0]}}, b"0000"),
            header({"w": {"dtype": "X9", "shape": [1], "data_offsets": [0, 4]}}, b"0000"),
            header({"w": 3}, b"0000"),
            header({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}, b"0000extra"),
            struct.pack("<Q", 12) + b"{not json...",
        ],
        ids=range(7),
    )
    def test_a_header_that_lies(self, tmp_path, data):
        (tmp_path / "w").write_bytes(data)
        with pytest.raises(DataError, match=r"w: not a whole safetensors file \("):
            read_tensors(tmp_path / "w")

    def test_cut_at_each_eighth(self, model):
        path = model / "weights.safetensors"
        data = path.read_bytes()
        for part in range(1, 8):
            path.write_bytes(data[: len(data) * part // 8])
            with pytest.raises(DataError, match=r"not a (whole )?safetensors file"):
                read_tensors(path)
