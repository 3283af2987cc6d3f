"""Logic by threshold units: AND, OR and NOT as one unit each, and any truth table as a net of two layers. Row A5.

McCulloch and Pitts 1943, "A logical calculus of the ideas immanent in nervous activity",
https://doi.org/10.1007/BF02478259. Course: document I, section 15. With [z > 0] for 1 where z > 0 and 0 elsewhere,

    AND   [x1 + x2 - 3/2 > 0]        OR   [x1 + x2 - 1/2 > 0]        NOT   [-x1 + 1/2 > 0]

No single unit gives XOR, as no line divides {00, 11} from {01, 10}. Two layers do:

    XOR   [(x1 OR x2) - (x1 AND x2) - 1/2 > 0]

and every other table has a disjunctive normal form: one unit, an AND with some inputs negated, for each row that is true, and
an OR of them. That takes up to 2^n units for n inputs.

    >>> print(logic_network([0, 1, 1, 0]))
    h1 = [-x1 + x2 - 1/2 > 0]
    h2 = [x1 - x2 - 1/2 > 0]
    y = [h1 + h2 - 1/2 > 0]

Shape letters in this file: n inputs, U units.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from konspekt.core.errors import DataError
from konspekt.core.registry import system

__all__ = ["LogicNetwork", "ThresholdUnits", "and_unit", "logic_network", "not_unit", "or_unit", "xor_network"]


class ThresholdUnits(nn.Module):
    """A layer of units that give 1 where A x + b > 0 and 0 elsewhere. Nothing in it is learned.

    x (..., n) of 0 and 1 -> (..., U) of 0 and 1, in the same type

    weight: A (U, n).
    bias: b (U,).
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, weight: Sequence[Sequence[float]] | Tensor, bias: Sequence[float] | Tensor) -> None:
        super().__init__()
        self.register_buffer("weight", torch.as_tensor(weight, dtype=torch.float32))
        self.register_buffer("bias", torch.as_tensor(bias, dtype=torch.float32))

    def forward(self, x: Tensor) -> Tensor:
        """Whether each unit fires.

        Raises DataError on another number of inputs, and on numbers that are neither 0 nor 1.
        """
        inputs = self.weight.shape[1]
        given = x.shape[-1] if x.ndim else "a single number"
        if given != inputs:
            raise DataError(f"a logic unit of {inputs} inputs got {given}: the last axis must hold {inputs} numbers")
        if not bool(((x == 0) | (x == 1)).all()):
            bad = x[(x != 0) & (x != 1)].flatten()[0].item()
            raise DataError(f"a logic unit takes 0 and 1, got {bad!r}: compare with a threshold first")
        return (x.to(self.weight.dtype) @ self.weight.T + self.bias > 0).to(x.dtype)

    def lines(self, inputs: str, outputs: Sequence[str]) -> list[str]:
        """Each unit as an inequality: "y = [x1 + x2 - 3/2 > 0]"."""
        found = []
        for output, weights, bias in zip(outputs, self.weight.tolist(), self.bias.tolist(), strict=True):
            terms = [(w, f"{inputs}{i}") for i, w in enumerate(weights, 1) if w] + [(bias, "")]
            text = "".join(f" {'-' if w < 0 else '+'} {_size(abs(w), name)}" for w, name in terms)
            text = f"-{text[3:]}" if terms[0][0] < 0 else text[3:]  # no sign stands before the first but a minus
            found.append(f"{output} = [{text} > 0]")
        return found

    def __str__(self) -> str:
        units = len(self.bias)
        return "\n".join(self.lines("x", ["y"] if units == 1 else [f"y{i + 1}" for i in range(units)]))


def _size(number: float, name: str) -> str:
    """A number before a name: 1 and "x2" are "x2", 1.5 and "" are "3/2"."""
    if name and number == 1:
        return name
    halves = not float(number).is_integer() and float(2 * number).is_integer()
    return f"{2 * number:g}/2" if halves and not name else f"{number:g} {name}".strip()


class LogicNetwork(nn.Module):
    """Two layers of threshold units; printed, it is its inequalities.

    x (..., n) of 0 and 1 -> (...) of 0 and 1, in the same type
    """

    def __init__(self, hidden: ThresholdUnits, output: ThresholdUnits) -> None:
        super().__init__()
        self.hidden = hidden
        self.output = output

    def forward(self, x: Tensor) -> Tensor:
        """The truth value of each row."""
        return self.output(self.hidden(x)).squeeze(-1)  # type: ignore[no-any-return]

    def __str__(self) -> str:
        units = [f"h{i + 1}" for i in range(len(self.hidden.bias))]
        return "\n".join([*self.hidden.lines("x", units), *self.output.lines("h", ["y"])])


def and_unit(inputs: int = 2) -> ThresholdUnits:
    """One unit that is 1 where all inputs are: x (..., inputs) -> (..., 1)."""
    return ThresholdUnits([[1.0] * inputs], [0.5 - inputs])


def or_unit(inputs: int = 2) -> ThresholdUnits:
    """One unit that is 1 where any input is: x (..., inputs) -> (..., 1)."""
    return ThresholdUnits([[1.0] * inputs], [-0.5])


def not_unit() -> ThresholdUnits:
    """One unit that is 1 where its input is 0: x (..., 1) -> (..., 1)."""
    return ThresholdUnits([[-1.0]], [0.5])


def xor_network() -> LogicNetwork:
    """XOR as the notes write it, of an OR and an AND: x (..., 2) -> (...)."""
    return LogicNetwork(ThresholdUnits([[1.0, 1.0], [1.0, 1.0]], [-0.5, -1.5]), ThresholdUnits([[1.0, -1.0]], [-0.5]))


def _rows(table: Sequence[int] | Mapping[tuple[int, ...], int]) -> list[int]:
    """The outputs of a table in the order of its inputs, all there and all 0 or 1."""
    if not isinstance(table, Mapping) and not hasattr(table, "__iter__"):
        raise DataError(f"a truth table is a list of outputs or a mapping of inputs to outputs, got {table!r}")
    if isinstance(table, Mapping):
        odd = [key for key in table if not isinstance(key, tuple)]
        if odd:
            raise DataError(f"the inputs of a truth table are tuples such as (0, 1), got {odd[0]!r}")
        inputs = max((len(key) for key in table), default=0)
        if len(table) != 2**inputs or not inputs:
            raise DataError(
                f"a truth table of {inputs} inputs has {2**inputs} rows with one output each, got {len(table)}"
            )
        keys = [tuple(row >> (inputs - 1 - i) & 1 for i in range(inputs)) for row in range(2**inputs)]
        missing = [key for key in keys if key not in table]
        if missing:
            raise DataError(f"a truth table of {inputs} inputs has a row for {missing[0]!r}; it is missing")
        outputs = [table[key] for key in keys]
    else:
        outputs = list(table)
    count = len(outputs)
    if count < 2 or count & (count - 1):
        raise DataError(f"a truth table of n inputs has 2^n outputs (2, 4, 8, ...), got {count}")
    for row, value in enumerate(outputs):
        if getattr(value, "ndim", 0) or value not in (0, 1):
            raise DataError(f"a truth table holds 0 and 1, got {value!r} in row {row}")
    return [int(value) for value in outputs]


@system(name="logic-network", kind="layer", rows=("A5",), paper="https://doi.org/10.1007/BF02478259")
def logic_network(table: Sequence[int] | Mapping[tuple[int, ...], int]) -> LogicNetwork:
    """Any truth table as a net of two layers of threshold units, by its disjunctive normal form.

    x (..., n) of 0 and 1 -> (...) of 0 and 1, in the same type

    table: the outputs for 0...00, 0...01, 0...10, and so on, the last input changing first: [0, 1, 1, 0] is XOR; or a
        mapping of all 2^n inputs to outputs: {(0, 0): 0, (0, 1): 1, (1, 0): 1, (1, 1): 0}.

    Each row that is 1 makes a unit with weight 1 for an input that is 1 in it, -1 for one that is 0, and a threshold half
    below what the row itself gives, so that it fires for this row alone.

    Raises DataError where the table does not have one output, 0 or 1, for each of the 2^n inputs.
    """
    outputs = _rows(table)
    inputs = len(outputs).bit_length() - 1
    rows = torch.tensor([row for row, value in enumerate(outputs) if value], dtype=torch.long)
    bits = rows[:, None] >> torch.arange(inputs - 1, -1, -1) & 1  # (U, n)
    hidden = ThresholdUnits(2.0 * bits - 1, 0.5 - bits.sum(1))
    return LogicNetwork(hidden, or_unit(len(rows)))
