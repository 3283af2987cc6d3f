"""Ragged tensors against lists of lists."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from konspekt.core import DataError
from konspekt.data.fields import Ragged

quick = settings(deadline=None, max_examples=60)
pieces = st.lists(st.lists(st.integers(-9, 9), max_size=5), min_size=1, max_size=7)


@st.composite
def pieces_and_index(draw):
    lists = draw(pieces)
    return lists, draw(st.lists(st.integers(0, len(lists) - 1), max_size=10))


def ragged(lists, width=None, dtype=torch.int64):
    """width: each value becomes so many numbers."""
    made = [torch.tensor(p, dtype=dtype) for p in lists]
    return Ragged.of(made if width is None else [p[:, None] * torch.arange(1, width + 1) for p in made])


def lists_of(field):
    return [p.tolist() for p in field.pieces()]


class TestAgainstLists:
    @quick
    @given(lists=pieces)
    def test_pieces_lengths_and_items(self, lists):
        field = ragged(lists)
        assert lists_of(field) == lists
        assert len(field) == len(lists)
        assert field.lengths.tolist() == [len(p) for p in lists]
        for i in range(-len(lists), len(lists)):
            assert field[i].tolist() == lists[i]
        assert [p.tolist() for p in field] == lists  # __getitem__ ends an iteration by IndexError

    @quick
    @given(case=pieces_and_index())
    def test_take(self, case):
        lists, index = case
        taken = ragged(lists).take(torch.tensor(index, dtype=torch.int64))
        assert lists_of(taken) == [lists[i] for i in index]
        assert taken.offsets.tolist()[0] == 0
        assert taken.offsets.tolist()[-1] == len(taken.values)

    @quick
    @given(case=pieces_and_index(), value=st.integers(-3, 3))
    def test_padded(self, case, value):
        lists, index = case
        padded, mask = ragged(lists).take(torch.tensor(index, dtype=torch.int64)).padded(value)
        wanted = [lists[i] for i in index]
        longest = max(map(len, wanted), default=0)
        assert padded.shape == mask.shape == (len(index), longest)
        assert padded.tolist() == [p + [value] * (longest - len(p)) for p in wanted]
        assert mask.tolist() == [[True] * len(p) + [False] * (longest - len(p)) for p in wanted]

    @quick
    @given(case=pieces_and_index())
    def test_values_of_several_numbers(self, case):
        lists, index = case
        field = ragged(lists, width=3)
        taken = field.take(torch.tensor(index, dtype=torch.int64))
        assert lists_of(taken) == [[[v, 2 * v, 3 * v] for v in lists[i]] for i in index]
        padded, mask = taken.padded()
        assert padded.shape == (*mask.shape, 3)
        assert torch.equal(padded[mask], taken.values)
        assert not padded[~mask].any()

    @quick
    @given(case=pieces_and_index(), other=st.lists(st.integers(0, 3), max_size=5))
    def test_taking_twice_is_taking_the_items_of_the_items(self, case, other):
        lists, index = case
        other = [i for i in other if i < len(index)]
        once = ragged(lists).take(torch.tensor(index, dtype=torch.int64))
        twice = once.take(torch.tensor(other, dtype=torch.int64))
        assert lists_of(twice) == [lists[index[i]] for i in other]


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64, torch.bool])
def test_types_stay(dtype):
    field = ragged([[1], [], [0, 1]], dtype=dtype)
    assert field.values.dtype == field.padded()[0].dtype == field.take(torch.tensor([2])).values.dtype == dtype
    assert field.offsets.dtype == torch.int64
    assert field.to("cpu").values.dtype == dtype


def test_gradients_go_through():
    values = torch.arange(4.0, requires_grad=True)
    field = Ragged(values, torch.tensor([0, 1, 4]))
    padded, mask = field.take(torch.tensor([1, 1])).padded()
    (padded * mask).sum().backward()
    assert values.grad.tolist() == [0, 2, 2, 2]


def test_an_item_that_is_not_there():
    field = ragged([[1], [2]])
    for item in (2, -3):
        with pytest.raises(IndexError, match=f"item {item} of 2"):
            field[item]


def test_what_cannot_be_one():
    with pytest.raises(DataError, match="a Ragged needs at least one piece"):
        Ragged.of([])
    with pytest.raises(DataError, match=r"must agree in all but their length, got \[\(2,\), \(3,\)\]"):
        Ragged.of([torch.ones(1, 2), torch.ones(4, 3)])
