"""Faults that core once had; each test begins with what was wrong."""

from __future__ import annotations

import contextlib
import errno
import importlib.metadata
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated

import numpy as np
import pytest
import torch

from konspekt.core import (
    Category,
    ConfigError,
    DataError,
    Integer,
    Real,
    ResourceError,
    Space,
    entries,
    folders,
    registry,
)
from konspekt.core.folders import read_json, read_tensors, tensor_file, verify, write_folder
from konspekt.core.params import AtLeast, Registered, check_params, describe, parse_params, split_call
from konspekt.core.runs import Run, read_metrics
from konspekt.optim import adam


@dataclass
class Learner:
    depth: Annotated[int, AtLeast(1)] = 1
    rate: float = 1.0
    bias: bool = True
    acts: tuple[Annotated[str, Registered("activation")], ...] = ()
    anything: object = None
    types: Mapping[str, str] = field(default_factory=dict)


def test_a_header_of_any_length_is_read(tmp_path):
    # a header length whose low byte is 0x80 is taken for a pickle: one file in 32
    for length in range(60, 80):
        tensor_file({"x" * length: torch.ones(2)})(tmp_path / "w")
        assert list(read_tensors(tmp_path / "w")) == ["x" * length]


def test_a_call_of_a_call_is_refused():
    # the outer call of 'f(..)(..)' is read, and the first arguments are lost
    with pytest.raises(ConfigError, match="must be a name or a call"):
        split_call("adam(beta2=0.9)(eps=1)", "here")


def test_an_argument_given_twice_is_refused():
    # ast.parse lets a keyword stand twice; the last wins in silence
    with pytest.raises(ConfigError, match="must be a name or a call"):
        split_call("adam(eps=1, eps=2)", "here")


def test_a_comment_is_refused():
    # a # hides the rest, and what stands after it is accepted
    with pytest.raises(ConfigError, match="must be a name or a call"):
        split_call("adam(eps=1)#)", "here")


# literal_eval raises TypeError on an unhashable key
@pytest.mark.parametrize(
    "use",
    [
        lambda: split_call("adam(eps={[]: 1})", "here"),
        lambda: split_call("adam(eps={{}})", "here"),
        lambda: parse_params(Learner, {"anything": "{[]: 1}"}),
    ],
)
def test_an_unhashable_key_is_refused_as_any_other_nonsense(use):
    with contextlib.suppress(ConfigError):
        assert use() == {"anything": "{[]: 1}"}


def test_commas_inside_nested_parentheses_do_not_split():
    # the comma is judged by the next parenthesis, not by depth
    with pytest.raises(ConfigError, match=r"'leaky-relu' has no argument 'size'"):
        parse_params(Learner, {"acts": "leaky-relu(slope=0.1,size=(32,32)),relu"})


def test_an_item_of_a_tuple_that_is_unknown_gets_a_suggestion():
    # a tuple's own message hides the one about its item, and with it the suggestion
    with pytest.raises(ConfigError, match=r"did you mean 'relu'\?"):
        parse_params(Learner, {"acts": "tanh,rellu"})


def test_a_numpy_bool_is_a_bool():
    # NumPy 2 calls its type 'bool', not 'bool_'
    check_params(Learner(bias=np.bool_(True)))
    assert parse_params(Learner, {"bias": np.bool_(False)}) == {"bias": False}


# math.isfinite overflows on a huge integer; from a config.json it leaves `load` as an OverflowError
@pytest.mark.parametrize("name", ["depth", "rate"])
def test_a_huge_integer_is_refused_or_fits(name):
    with contextlib.suppress(ConfigError):
        assert parse_params(Learner, {name: 10**400})[name] == 10**400


def test_a_functions_parameter_without_default_shows_none():
    # a function's parameter without default has inspect's own mark, not dataclasses.MISSING
    assert describe(adam)[0]["default"] == ""


def test_branches_of_nested_spaces_have_names_of_their_own():
    # branches of nested spaces keep bare names, so those of two nested spaces collide
    def model(low):
        return Space({"kernel": Category({"rbf": Space({"gamma": Real(low, low + 1)})})})

    point = Space({"a": model(0), "b": model(5)}).draw(np.random.default_rng(0))
    assert {"a.kernel", "a.kernel.gamma", "b.kernel", "b.kernel.gamma"} == set(point) or {
        "a.kernel",
        "a.gamma",
        "b.kernel",
        "b.gamma",
    } == set(point)


def test_a_branch_that_reuses_a_name_is_refused():
    # a branch's name may be one of the space's own; then a drawn point does not pass the check
    with pytest.raises(ConfigError, match="g"):
        Space({"k": Category({"r": Space({"g": Real(0, 1)})}), "g": Integer(5, 6)})


def test_bounds_of_an_integer_are_integers():
    # Integer takes bounds that are no integers, and draws below the lower
    with pytest.raises(ConfigError, match=r"Integer: .*0\.5"):
        Integer(0.5, 3.5)


def test_an_entry_point_into_a_missing_package_is_named(monkeypatch):
    # find_spec raises ModuleNotFoundError where the parent package is missing
    point = importlib.metadata.EntryPoint("mine", "no_such_package.systems", registry.GROUP)
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [point])
    with pytest.raises(ConfigError, match=r"mine names 'no_such_package\.systems', which is not installed"):
        entries.__wrapped__()


# an argument that is no literal raises a bare ValueError that names no file
@pytest.mark.parametrize("arguments", ["name=NAME, kind='loss'", "'x', kind='loss'", "name='x', kind='los'"])
def test_a_decorator_that_cannot_be_read_is_named_with_its_file(tmp_path, monkeypatch, arguments):
    (tmp_path / "mistake.py").write_text(f"\n@system({arguments})\ndef f(): pass\n")
    monkeypatch.setattr(registry, "_packages", lambda: iter([("pack", tmp_path)]))
    with pytest.raises((ConfigError, TypeError), match="mistake"):
        entries.__wrapped__()


def test_records_after_a_rewind_are_kept(tmp_path):
    # rewind replaces the file under an open handle: what is recorded next goes to the old one and is lost
    run = Run(tmp_path / "run")
    run.record("step", stage="fit", step=1)
    run.rewind("fit", 1, 0)
    run.record("step", stage="fit", step=2)
    run.close()
    assert [r["step"] for r in read_metrics(run.path)] == [1, 2]


def test_a_record_after_a_cut_line_is_readable(tmp_path):
    # a record is appended to a line that a kill cut, and both are unreadable
    run = Run(tmp_path / "run")
    run.record("step", step=1)
    run.close()
    with (run.path / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "st')
    again = Run(run.path, resume=True)
    again.record("step", step=2)
    again.record("step", step=3)
    again.close()
    assert [r["step"] for r in read_metrics(run.path)] == [1, 2, 3]


def test_metrics_that_are_no_text(tmp_path):
    # bytes that are no UTF-8 raise UnicodeDecodeError
    (tmp_path / "metrics.jsonl").write_bytes(b'{"kind": "step"}\n\xff\xfe\n{"kind": "step"}\n')
    with pytest.raises(DataError, match=r"metrics\.jsonl"):
        read_metrics(tmp_path)


def test_a_writer_that_raises_leaves_nothing_aside(tmp_path):
    # only OSError is cleaned up after
    def broken(path):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_folder(tmp_path / "model", {"a.json": broken})
    assert os.listdir(tmp_path) == []


def test_a_parent_folder_that_cannot_be_flushed(tmp_path, monkeypatch):
    # after the rename the old folder stays under its hidden name, and the message says nothing was changed
    write_folder(tmp_path / "model", {"a.json": b"1"})
    flush = folders.flush

    def refuse_the_parent(path):
        if path == tmp_path:
            raise OSError(errno.EIO, "Input/output error")
        flush(path)

    monkeypatch.setattr(folders, "flush", refuse_the_parent)
    with pytest.raises(ResourceError, match="cannot write"):
        write_folder(tmp_path / "model", {"a.json": b"2"})
    assert os.listdir(tmp_path) == ["model"]
    assert read_json(tmp_path / "model" / "a.json") == 1  # "What was saved before is untouched"


def test_a_file_beside_the_listed_ones_is_refused(tmp_path):
    # only what the manifest lists is looked at, though the docstring says 'nothing that is neither'
    write_folder(tmp_path / "model", {"a.json": b"{}"})
    (tmp_path / "model" / "planted.json").write_text("{}")
    with pytest.raises(DataError, match=r"planted\.json"):
        verify(tmp_path / "model", ("a.json",), may=("planted.json",))


def test_a_kill_between_the_renames_leaves_a_readable_folder(tmp_path, monkeypatch):
    # a kill between the two renames of write_folder leaves no folder of that name
    write_folder(tmp_path / "model", {"a.json": b"1"})
    replace, calls = os.replace, []

    class Kill(BaseException):
        pass

    def killed_after_the_first(a, b):
        calls.append(b)
        if len(calls) == 2:
            raise Kill
        replace(a, b)

    monkeypatch.setattr(os, "replace", killed_after_the_first)
    with contextlib.suppress(Kill):
        write_folder(tmp_path / "model", {"a.json": b"2"})
    verify(tmp_path / "model", ("a.json",))
