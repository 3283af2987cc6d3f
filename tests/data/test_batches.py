"""Resident batches: which items come when, how they are handed over, and where a run goes on."""

from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from konspekt.core import ConfigError, DataError
from konspekt.data.batches import Resident
from konspekt.data.fields import Ragged

quick = settings(deadline=None, max_examples=60)
sizes = st.integers(1, 70)
batch_sizes = st.one_of(st.none(), st.integers(1, 20))


def numbers(total, **options):
    return Resident({"x": torch.arange(total) * 10}, **options)


def ragged(lengths):
    return Ragged.of([torch.full((n,), k) for k, n in enumerate(lengths)])


def sequences(lengths, **options):
    return Resident({"t": ragged(lengths), "x": torch.arange(len(lengths))}, **options)


def indices(batches, epoch=0):
    return [b["index"].tolist() for b in batches.epoch(epoch)]


def flat(lists):
    return [i for inner in lists for i in inner]


class TestOrder:
    @quick
    @given(items=sizes, batch_size=batch_sizes, shuffle=st.booleans(), epoch=st.integers(0, 3))
    def test_every_item_comes_once_an_epoch(self, items, batch_size, shuffle, epoch):
        batches = numbers(items, batch_size=batch_size, shuffle=shuffle)
        found = indices(batches, epoch)
        assert sorted(flat(found)) == list(range(items))
        assert len(found) == batches.num_batches
        assert batches.num_items == items
        if not shuffle:
            assert flat(found) == list(range(items))

    @quick
    @given(items=sizes, batch_size=st.integers(2, 20), shuffle=st.booleans())
    def test_a_last_batch_of_one_joins_the_one_before(self, items, batch_size, shuffle):
        found = [len(b) for b in indices(numbers(items, batch_size=batch_size, shuffle=shuffle))]
        if items == 1:
            assert found == [1]
            return
        assert min(found) >= 2
        whole = [batch_size] * (items // batch_size)
        rest = items % batch_size
        expected = {0: whole, 1: [*whole[:-1], batch_size + 1]}.get(rest, [*whole, rest])
        assert found == expected

    @quick
    @given(
        lengths=st.lists(st.integers(0, 9), min_size=1, max_size=40),
        batch_size=st.integers(1, 5),
        shuffle=st.booleans(),
    )
    def test_by_length_every_item_comes_once_too(self, lengths, batch_size, shuffle):
        batches = sequences(lengths, batch_size=batch_size, shuffle=shuffle, by_length="t")
        with mock.patch("konspekt.data.batches._BUCKETS", 3):
            found = [b.tolist() for b in batches.order(1)]
        assert sorted(flat(found)) == list(range(len(lengths)))
        assert len(found) == batches.num_batches
        if batch_size > 1 and len(lengths) > 1:
            assert min(map(len, found)) >= 2
        assert max(map(len, found)) <= batch_size + 1

    def test_one_item_more_than_a_bucket_is_no_batch_of_its_own(self):
        batches = sequences([3] * 101, batch_size=2, by_length="t", shuffle=True)
        assert batches.num_batches == len(batches.order(0)) == 50

    def test_it_is_decided_by_seed_and_epoch(self):
        first = numbers(40, batch_size=7, shuffle=True, seed=5)
        epochs = [indices(first, e) for e in range(3)]
        again = numbers(40, batch_size=7, shuffle=True, seed=5)
        assert [indices(again, e) for e in (2, 0, 1)] == [epochs[2], epochs[0], epochs[1]]
        assert epochs[0] != epochs[1] != epochs[2] != epochs[0]
        assert indices(numbers(40, batch_size=7, shuffle=True, seed=6)) != epochs[0]
        smaller = flat(indices(numbers(40, batch_size=3, shuffle=True, seed=5), 0))
        assert smaller == flat(epochs[0])  # the batch size only cuts it

    def test_the_callers_generator_plays_no_part(self):
        batches = sequences(range(40), batch_size=4, shuffle=True, by_length="t")
        torch.manual_seed(1)
        first, state = indices(batches), torch.get_rng_state()
        torch.manual_seed(2)
        assert indices(batches) == first
        torch.manual_seed(1)
        assert torch.equal(torch.get_rng_state(), state)

    def test_every_place_is_as_likely(self):
        first = [indices(numbers(5, batch_size=5, shuffle=True, seed=s))[0][0] for s in range(1000)]
        counts = np.bincount(first, minlength=5)
        assert ((counts - 200) ** 2 / 200).sum() < 18.5  # chi-squared of 4 degrees: p = 0.001

    def test_a_split_has_its_items_only(self):
        items = torch.tensor([9, 2, 5, 7, 4])
        batches = numbers(12, items=items, batch_size=2)
        found = list(batches.epoch(0))
        assert [b["index"].tolist() for b in found] == [[9, 2], [5, 7, 4]]
        assert [b["x"].tolist() for b in found] == [[90, 20], [50, 70, 40]]
        mixed = numbers(12, items=items, batch_size=2, shuffle=True)
        assert sorted(flat(indices(mixed))) == [2, 4, 5, 7, 9]


class TestByLength:
    lengths = np.random.default_rng(0).integers(1, 100, size=400).tolist()

    def padding(self, **options):
        batches = sequences(self.lengths, batch_size=8, shuffle=True, **options)
        places = sum(b["t_mask"].numel() for b in batches.epoch(0))
        assert sum(int(b["t_mask"].sum()) for b in batches.epoch(0)) == sum(self.lengths)
        return places / sum(self.lengths) - 1

    def test_there_is_much_less_padding(self):
        assert self.padding() > 0.6
        assert self.padding(by_length="t") < 0.05

    def test_but_the_batches_come_in_no_order_of_length(self):
        batches = sequences(self.lengths, batch_size=8, shuffle=True, by_length="t")
        longest = [b["t"].shape[1] for b in batches.epoch(0)]
        assert abs(np.corrcoef(longest, np.arange(len(longest)))[0, 1]) < 0.4
        assert longest != [b["t"].shape[1] for b in batches.epoch(1)]
        together = {frozenset(b) for b in indices(batches, 0)} & {frozenset(b) for b in indices(batches, 1)}
        assert len(together) < 10  # nor are they the same ones each epoch

    def test_without_shuffle_they_come_by_length_within_a_bucket(self):
        batches = sequences([5, 1, 4, 2, 3, 3], batch_size=2, by_length="t")
        assert indices(batches) == [[1, 3], [4, 5], [2, 0]]

    def test_it_must_name_a_ragged_field(self):
        for name in ("x", "u"):
            with pytest.raises(ConfigError, match=f"by_length must name a ragged field, got '{name}'"):
                sequences([1, 2], by_length=name)


class TestCollate:
    lengths = (2, 0, 3)

    def test_pad_is_the_default(self):
        (batch,) = sequences(self.lengths).epoch(0)
        assert set(batch) == {"index", "t", "t_mask", "x"}
        assert batch["t"].tolist() == [[0, 0, 0], [0, 0, 0], [2, 2, 2]]
        assert batch["t_mask"].tolist() == [[True, True, False], [False] * 3, [True] * 3]

    def test_ragged(self):
        (batch,) = sequences(self.lengths, items=torch.tensor([2, 0]), collate={"t": "ragged"}).epoch(0)
        assert set(batch) == {"index", "t", "x"}
        assert [p.tolist() for p in batch["t"].pieces()] == [[2, 2, 2], [0, 0]]

    def test_each_field_has_its_own(self):
        fields = {"a": ragged(self.lengths), "b": ragged(self.lengths)}
        (batch,) = Resident(fields, collate={"b": "ragged"}).epoch(0)
        assert set(batch) == {"index", "a", "a_mask", "b"}


def jitter(batch, epoch):
    return batch | {"x": batch["x"] + 1000 * (epoch + 1)}


def test_the_transform_is_given_batch_and_epoch():
    seen = []
    batches = numbers(6, batch_size=2, transform=lambda b, e: seen.append((b["index"].tolist(), e)) or jitter(b, e))
    assert [b["x"].tolist() for b in batches.epoch(4)] == [[5000, 5010], [5020, 5030], [5040, 5050]]
    assert seen == [([0, 1], 4), ([2, 3], 4), ([4, 5], 4)]
    assert batches.take(torch.tensor([1]))["x"].tolist() == [10]  # and not elsewhere
    assert batches.fields["x"].tolist() == [0, 10, 20, 30, 40, 50]


class TestGoingOn:
    def made(self, kind):
        options = {"batch_size": 4, "shuffle": True, "seed": 3}
        if kind == "by length":
            return sequences([1, 5, 2, 7, 3] * 4 + [6], by_length="t", **options)
        return numbers(21, transform=jitter if kind == "transform" else None, **options)

    @pytest.mark.parametrize("kind", ["plain", "transform", "by length"])
    def test_from_every_place_the_rest_is_the_same(self, kind):
        whole = [{n: v.tolist() for n, v in b.items()} for e in (0, 1, 2) for b in self.made(kind).epoch(e)]
        each = self.made(kind).num_batches
        assert len(whole) == 3 * each
        for epoch in (0, 1):
            for position in range(1, each + 1):
                first = self.made(kind)
                for _, _ in zip(range(position), first.epoch(epoch), strict=False):
                    pass
                second = self.made(kind)
                second.load_state(first.state())
                rest = [{n: v.tolist() for n, v in b.items()} for e in range(epoch, 3) for b in second.epoch(e)]
                assert rest == whole[epoch * each + position :]

    def test_the_state_is_told_while_a_batch_is_in_use(self):
        batches = numbers(6, batch_size=2)
        states = [batches.state() for _ in batches.epoch(2)]
        assert states == [{"epoch": 2, "position": p} for p in (1, 2, 3)]

    def test_a_place_is_used_once_and_for_its_own_epoch_only(self):
        batches = numbers(6, batch_size=2)
        batches.load_state({"epoch": 1, "position": 2})
        assert indices(batches, 1) == [[4, 5]]
        assert len(indices(batches, 1)) == 3
        batches.load_state({"epoch": 1, "position": 2})
        assert len(indices(batches, 2)) == 3
        assert len(indices(batches, 1)) == 3

    def test_an_epoch_that_is_left_begins_anew(self):
        batches = numbers(6, batch_size=2)
        next(batches.epoch(0))
        assert len(indices(batches, 0)) == 3


class TestRefusals:
    def test_fields_of_different_lengths(self):
        with pytest.raises(DataError, match=r"must have as many items each, got \{'x': 3, 't': 2\}"):
            Resident({"x": torch.zeros(3), "t": ragged([1, 2])})

    def test_nothing_at_all(self):
        for made in (lambda: numbers(0), lambda: numbers(3, items=torch.arange(0))):
            with pytest.raises(DataError, match="there are no items"):
                made()

    def test_a_field_named_index(self):
        with pytest.raises(ConfigError, match="a field may not be named 'index'"):
            Resident({"index": torch.zeros(3)})
