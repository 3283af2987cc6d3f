"""Threshold units and truth tables: every table of up to four inputs is what its net computes."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from konspekt.core.errors import DataError
from konspekt.core.registry import lookup
from konspekt.nn import logic_network
from konspekt.nn.logic import ThresholdUnits, and_unit, not_unit, or_unit, xor_network


def all_rows(inputs):
    return torch.tensor(list(itertools.product((0, 1), repeat=inputs)))


@pytest.mark.parametrize("inputs", [1, 2, 3])
def test_every_table_of_up_to_three_inputs(inputs):
    x = all_rows(inputs)
    for table in itertools.product((0, 1), repeat=2**inputs):
        assert logic_network(table)(x).tolist() == list(table)


@settings(max_examples=60, deadline=None)
@given(st.integers(4, 6).flatmap(lambda n: st.lists(st.booleans(), min_size=2**n, max_size=2**n)))
def test_tables_of_more_inputs(table):
    inputs = len(table).bit_length() - 1
    net = logic_network(table)
    assert net(all_rows(inputs).bool()).tolist() == table
    assert net.hidden.weight.shape == (sum(table), inputs)
    # each hidden unit stands for one row, and fires for no other
    assert net.hidden(all_rows(inputs)).sum(0).tolist() == [1] * sum(table)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 4).flatmap(lambda n: st.lists(st.integers(0, 1), min_size=2**n, max_size=2**n)))
def test_what_is_printed_is_what_is_computed(table):
    """The inequalities, read as arithmetic."""
    inputs = len(table).bit_length() - 1
    lines = str(logic_network(table)).split("\n")
    for row, value in zip(all_rows(inputs).tolist(), table, strict=True):
        names = {f"x{i + 1}": v for i, v in enumerate(row)}
        for line in lines:
            name, rule = line.split(" = ")
            names[name] = int(eval(rule, {}, names)[0])  # noqa: S307 - text that the test has made
        assert names["y"] == value


@pytest.mark.parametrize("inputs", [1, 2, 3, 5])
def test_single_units(inputs):
    x = all_rows(inputs)
    assert and_unit(inputs)(x).squeeze(-1).tolist() == [int(all(row)) for row in x.tolist()]
    assert or_unit(inputs)(x).squeeze(-1).tolist() == [int(any(row)) for row in x.tolist()]
    assert not_unit()(torch.tensor([[0], [1]])).tolist() == [[1], [0]]


def test_the_weights_are_the_notes():
    assert str(and_unit()) == "y = [x1 + x2 - 3/2 > 0]"
    assert str(or_unit()) == "y = [x1 + x2 - 1/2 > 0]"
    assert str(not_unit()) == "y = [-x1 + 1/2 > 0]"
    assert str(ThresholdUnits([[2.0, 0.0], [0.0, -0.5]], [0.0, 3.0])) == "y1 = [2 x1 + 0 > 0]\ny2 = [-0.5 x2 + 3 > 0]"


def test_xor():
    x = all_rows(2)
    net = logic_network([0, 1, 1, 0])
    assert net(x).tolist() == xor_network()(x).tolist() == [0, 1, 1, 0]
    assert str(net) == "h1 = [-x1 + x2 - 1/2 > 0]\nh2 = [x1 - x2 - 1/2 > 0]\ny = [h1 + h2 - 1/2 > 0]"
    assert str(xor_network()).split("\n")[-1] == "y = [h1 - h2 - 1/2 > 0]"


def test_no_single_unit_gives_xor():
    grid = [i / 2 for i in range(-6, 7)]
    units = torch.tensor(list(itertools.product(grid, repeat=3)))
    out = ThresholdUnits(units[:, :2], units[:, 2])(all_rows(2))
    seen = {tuple(column) for column in out.T.tolist()}
    assert len(seen) == 14  # of the 16 tables of two inputs, all but XOR and its negation
    assert not seen & {(0, 1, 1, 0), (1, 0, 0, 1)}


def test_tables_as_mappings_and_any_leading_axes():
    table = {(1, 0): True, (0, 0): False, (1, 1): False, (0, 1): True}
    x = all_rows(2).reshape(2, 2, 2).float()
    assert logic_network(table)(x).tolist() == [[0.0, 1.0], [1.0, 0.0]]
    assert logic_network(torch.tensor([0, 1, 1, 1]))(x).tolist() == [[0, 1], [1, 1]]


def test_constants():
    assert logic_network([0, 0, 0, 0])(all_rows(2)).tolist() == [0, 0, 0, 0]
    assert str(logic_network([0, 0])) == "y = [-1/2 > 0]"
    assert logic_network([1, 1, 1, 1])(all_rows(2)).tolist() == [1, 1, 1, 1]


def test_nothing_is_learned_and_all_is_saved():
    net = logic_network([0, 1, 1, 1])
    assert not list(net.parameters())
    other = logic_network([1, 1, 1, 0])
    other.load_state_dict(net.state_dict())
    assert other(all_rows(2)).tolist() == [0, 1, 1, 1]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ([], r"2\^n outputs .* got 0"),
        ([1], r"2\^n outputs .* got 1"),
        ([0, 1, 1], r"2\^n outputs .* got 3"),
        ([0, 2], "holds 0 and 1, got 2 in row 1"),
        ("0110", "holds 0 and 1, got '0' in row 0"),
        (torch.zeros(2, 2), "holds 0 and 1, got tensor.* in row 0"),
        ({}, "0 inputs .* got 0"),
        ({(0, 0): 1, (1, 1): 0}, "2 inputs has 4 rows with one output each, got 2"),
        ({(0,): 1, (2,): 0}, r"2|a row for \(1,\); it is missing"),
        ({(0,) * 200: 1}, "200 inputs .* got 1"),
    ],
)
def test_tables_that_are_none(table, message):
    with pytest.raises(DataError, match=message):
        logic_network(table)


def test_inputs_that_are_no_truth_values():
    net = logic_network([0, 1, 1, 0])
    with pytest.raises(DataError, match="a logic unit of 2 inputs got 3"):
        net(torch.zeros(4, 3))
    for bad in (0.5, float("nan"), -1.0):
        with pytest.raises(DataError, match=f"takes 0 and 1, got {bad}"):
            net(torch.tensor([[0.0, bad]]))


def test_the_registry_knows_it():
    assert lookup("layer", "logic-network").rows == ("A5",)


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (None, "a truth table is a list of outputs or a mapping of inputs to outputs, got None"),
        ({0: 0, 1: 1}, r"the inputs of a truth table are tuples such as \(0, 1\), got 0"),
    ],
)
def test_what_is_no_table(table, said):
    with pytest.raises(DataError, match=said):
        logic_network(table)


def test_a_single_number_is_no_row():
    with pytest.raises(DataError, match="a logic unit of 1 inputs got a single number"):
        logic_network([0, 1])(torch.tensor(1.0))
