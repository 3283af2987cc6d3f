"""Checkpoints: trees of tensors and JSON, which one is the newest, and a kill at every moment of a write."""

import json
import math
import os
import signal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from konspekt.core import DataError, ResourceError, folders
from konspekt.engine.checkpoint import join, newest, prune, random_state, read, set_random_state, split, write

DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.uint8, torch.bool)
tensors = st.builds(
    lambda shape, dtype, value: torch.full(shape, value).to(dtype),
    st.lists(st.integers(0, 3), max_size=3),
    st.sampled_from(DTYPES),
    st.integers(0, 9),
)
leaves = st.one_of(
    tensors,
    st.none(),
    st.booleans(),
    st.integers(-(2**60), 2**60),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=4),
)
keys = st.one_of(st.text("ab.$0", max_size=3), st.sampled_from(["$tensor", "$tuple", "$items"]), st.integers(0, 3))
trees = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(keys, inner, max_size=3),
    ),
    max_leaves=8,
)


def same(a, b):
    if type(a) is not type(b):
        return False
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and a.shape == b.shape and torch.equal(a, b)
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return a == b


@settings(deadline=None, max_examples=150)
@given(tree=trees)
def test_split_and_join_are_inverse(tree):
    found = {}
    plain = split(tree, found, "state")
    through = folders.json_bytes(plain)  # it is JSON
    assert same(join(plain, found), tree)
    assert same(join(json.loads(through), found), tree)


@pytest.mark.parametrize(
    "tree",
    [
        {"a.b": torch.tensor(1), "a": {"b": torch.tensor(2)}},
        {0: torch.tensor(1), "0": torch.tensor(2)},
        {"$tensor": "no tensor"},
        {"$tuple": [1]},
        {"$items": [[1, 2]]},
        {"deep": [({"x": (torch.ones(2), 1)}, [])]},
    ],
    ids=str,
)
def test_through_a_file(tmp_path, tree):
    assert same(read(write(tmp_path, "fit", 1, {"tree": tree}))["tree"], tree)


def test_memory_that_is_shared_or_not_contiguous(tmp_path):
    base = torch.arange(12.0).reshape(3, 4)
    state = {"whole": base, "row": base[1], "turned": base.t(), "wide": base[:1].expand(5, 4), "same": base}
    back = read(write(tmp_path, "fit", 1, state))
    assert same(back, state)
    assert math.isnan(read(write(tmp_path, "fit", 2, {"x": torch.tensor(math.nan)}))["x"])


@pytest.mark.parametrize(
    "value", [object(), {1, 2}, b"bytes", torch.float32, [1, lambda: 0]], ids=lambda v: type(v).__name__
)
def test_what_is_neither_tensor_nor_json(tmp_path, value):
    with pytest.raises(TypeError, match=r"state at state\.a\S* must be tensors and JSON, got \w+"):
        write(tmp_path, "fit", 1, {"a": value})
    assert not list(tmp_path.iterdir())


class TestNewest:
    def test_the_highest_step_of_the_stage_and_the_end_before_all(self, tmp_path):
        assert newest(tmp_path / "none", "fit") is None
        for stage, step in [("fit", 9), ("fit", 10), ("fit", 123_456_789), ("fit-b", 7), ("rest", 8)]:
            write(tmp_path, stage, step, {"step": step})
        assert newest(tmp_path, "fit") == ({"step": 123_456_789}, False, [])
        assert newest(tmp_path, "fit-b") == ({"step": 7}, False, [])
        assert newest(tmp_path, "other") is None
        write(tmp_path, "fit", None, {"step": 5})
        assert newest(tmp_path, "fit") == ({"step": 5}, True, [])

    def test_what_is_no_checkpoint_is_passed_over(self, tmp_path):
        write(tmp_path, "fit", 3, {"step": 3})
        (tmp_path / "fit-12").mkdir()
        (tmp_path / ".fit-000000009.77.part").mkdir()
        (tmp_path / "notes.txt").write_text("mine")
        assert newest(tmp_path, "fit") == ({"step": 3}, False, [])

    def test_damaged_ones_are_told_and_make_room(self, tmp_path):
        for step in (1, 2, 3):
            write(tmp_path, "fit", step, {"step": step, "x": torch.ones(4)})
        (tmp_path / "fit-000000003" / "state.json").write_text("{}")
        (tmp_path / "fit-000000002" / "tensors.safetensors").unlink()
        state, finished, damaged = newest(tmp_path, "fit")
        assert (state["step"], finished) == (1, False)
        assert [d.split(": ")[0] for d in damaged] == [
            str(tmp_path / "fit-000000003" / "state.json"),
            str(tmp_path / "fit-000000002" / "tensors.safetensors"),
        ]
        assert [p.name for p in tmp_path.iterdir()] == ["fit-000000001"]
        assert newest(tmp_path, "fit")[2] == []

    def test_a_state_that_names_a_tensor_that_is_not_there(self, tmp_path):
        files = {
            "state.json": folders.json_bytes({"x": {"$tensor": "gone"}}),
            "tensors.safetensors": folders.tensor_file({}),
        }
        folders.write_folder(tmp_path / "fit-000000001", files)
        with pytest.raises(DataError, match=r"state\.json: names a tensor 'gone' that is not there"):
            read(tmp_path / "fit-000000001")
        folders.write_folder(tmp_path / "fit-000000001", files | {"state.json": b"[1]"})
        with pytest.raises(DataError, match=r"state\.json: not the state of a run"):
            newest(tmp_path, "fit")


class TestPrune:
    @pytest.fixture
    def parent(self, tmp_path):
        for step in (9, 10, 11):
            write(tmp_path, "fit", step, {})
        write(tmp_path, "rest", 1, {})
        write(tmp_path, "head", None, {})
        (tmp_path / ".fit-000000012.1.part").mkdir()
        return tmp_path

    @pytest.mark.parametrize(("keep", "left"), [(1, ["11"]), (2, ["10", "11"]), (5, ["09", "10", "11"])])
    def test_the_newest_stay(self, parent, keep, left):
        prune(parent, "fit", keep, finished=False)
        names = sorted(p.name for p in parent.iterdir())
        assert names == [*(f"fit-0000000{n}" for n in left), "head-finished", "rest-000000001"]

    def test_a_finished_stage_keeps_its_end_only(self, parent):
        write(parent, "fit", None, {})
        prune(parent, "fit", 2, finished=True)
        assert sorted(p.name for p in parent.iterdir()) == ["fit-finished", "head-finished", "rest-000000001"]


def flushes_of(work, monkeypatch):
    """How often a write flushes."""
    calls, flush = [], folders.flush
    with monkeypatch.context() as patch:
        patch.setattr(folders, "flush", lambda path: (calls.append(path), flush(path)))
        work()
    return len(calls)


@pytest.mark.parametrize("over", [False, True], ids=["a new one", "over an older one"])
def test_a_kill_at_any_flush_leaves_a_whole_one(tmp_path, monkeypatch, killed, over):
    old, new = {"step": 1, "x": torch.zeros(50)}, {"step": 2, "x": torch.ones(50)}
    step = 1 if over else 2

    def store(parent):
        write(parent, "fit", step, new)
        prune(parent, "fit", 2, finished=False)

    write(tmp_path / "count", "fit", 1, old)
    count = flushes_of(lambda: store(tmp_path / "count"), monkeypatch)
    assert count >= 5
    outcomes = []
    for at in range(1, count + 1):
        parent, flush = tmp_path / str(at), folders.flush
        write(parent, "fit", 1, old)

        def deadly(path, at=at, flush=flush, left=iter(range(1, at + 1))):  # noqa: B008
            if next(left) == at:
                os.kill(os.getpid(), signal.SIGKILL)
            flush(path)

        def work(parent=parent, deadly=deadly):
            folders.flush = deadly
            store(parent)

        killed(work)
        state, finished, damaged = newest(parent, "fit")
        assert same(state, old) or same(state, new)
        assert (finished, damaged) == (False, [])
        outcomes.append(state["step"])
        store(parent)  # and what it left half written is no obstacle
        assert same(newest(parent, "fit")[0], new)
        assert not list(parent.glob(".*"))
    assert outcomes == [1] * (count - 1) + [2]


def test_a_disk_that_refuses_leaves_the_one_before(tmp_path, monkeypatch):
    write(tmp_path, "fit", 1, {"step": 1})

    def full(path):
        raise OSError(28, "No space left on device", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(folders, "flush", full)
        with pytest.raises(ResourceError, match=r"the disk is full.*What was saved before is untouched"):
            write(tmp_path, "fit", 2, {"step": 2})
    assert newest(tmp_path, "fit") == ({"step": 1}, False, [])
    assert [p.name for p in tmp_path.iterdir()] == ["fit-000000001"]


def test_generators_go_on_where_they_were(tmp_path):
    with torch.random.fork_rng():
        torch.manual_seed(3)
        torch.randn(5)
        state = read(write(tmp_path, "fit", 1, random_state(torch.device("cpu"))))
        expected = torch.randn(7)
        torch.manual_seed(99)
        set_random_state(state, torch.device("cpu"))
        assert torch.equal(torch.randn(7), expected)
