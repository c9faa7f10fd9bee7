"""MIN, MAX, MEDIAN and quantiles: binary search on counts that nobody sees, one opened bit a step.

The k-th smallest value of a column is the least v with at least k entering rows of x <= v. In each step the column's
owner marks the rows up to the middle of what is left, the count of marked rows in the weight is shared, compared on
shares, and the one bit that comes out is opened to the receivers and to the column's owner, who needs it to mark the
next middle. All steps of the declared width are made, whatever the data; in a cell that is hidden every bit opens as 0.
Source: Aggarwal, Mishra, Pinkas, "Secure Computation of the k-th Ranked Element", EUROCRYPT 2004.

Reveals: the value itself, to the receivers and the column's owner. PERCENTILE_CONT and MEDIAN open two neighbours.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from mpc.compare import logic_and, logic_not, negative, to_arithmetic
from mpc.opening import Stream
from mpc.sql import numbers
from mpc.sql.across import ordinal, place_in
from mpc.sql.algebra import Poly
from mpc.sql.domains import domain_of
from mpc.sql.expr import Expr, owners
from mpc.sql.having import known_bits
from mpc.sql.joint import Joint
from mpc.sql.local import read
from mpc.sql.products import Builder
from mpc.sql.types import Aggregate, Pick
from party.errors import UsageError

__all__ = ["FUNCTIONS", "check_answers", "pick_values", "picks_of"]

Words = npt.NDArray[np.uint64]
Bits = npt.NDArray[np.uint8]

FUNCTIONS = ("min", "max", "quantile_cont", "quantile_disc")
_ANSWERS = 12_000  # most products of a statement's searches: 1 GB
_WIDTH = 63  # bits of a searched column: positions in it fit 64 bits with a sign
_MOST = 2**60


# --- planning ---------------------------------------------------------------------------------------------------------


def picks_of(
    aggregate: Aggregate, weight: Poly, rows: int, gates: Sequence[int], builder: Builder, what: str
) -> tuple[Pick, ...]:
    """The order statistics of one aggregate: one, or the two neighbours between which a quantile lies.

    weight: of the entering rows; rows: its quantity. Raises UsageError (exit 2) for a column that cannot be searched.
    """
    x = _searched(aggregate.args[0], aggregate.spoken)
    (party,) = owners(x)
    owner = builder.parties.index(party)
    low, high = int(x.low or 0), int(x.high or 0)
    bits = (high - low).bit_length()
    if max(abs(low), abs(high)) >= 2**63:
        raise UsageError(f"a number that {aggregate.spoken} searches would overflow 64 bits")
    if bits > _WIDTH:
        raise UsageError(
            f"{aggregate.spoken} searches {bits} bits, {_WIDTH} are possible",
            hint="declare a smaller range of its columns in party.yaml",
        )
    source, terms = builder.source(owner, "value", x), builder.terms(weight)
    found = []
    for name, times, share, plus in _conditions(aggregate):
        bound = (times + share) * max(builder.rows, 1) + abs(plus)
        if bound >= _MOST:
            raise UsageError(f"the fraction of {aggregate.spoken} has too many digits")
        found.append(
            Pick(f"{what}.{name}", owner, source, low, bits, terms, rows, (times, share, plus), tuple(gates), bound)
        )
    return tuple(found)


def _conditions(aggregate: Aggregate) -> list[tuple[str, int, int, int]]:
    """name, and times, share, plus: the least v with times * (rows of x <= v) >= share * rows + plus."""
    if aggregate.function == "min":
        return [("value", 1, 0, 1)]
    if aggregate.function == "max":
        return [("value", 1, 1, 0)]
    p = fraction_of(aggregate)
    if p == 0:
        return [("value", 1, 0, 1)]
    below, above = p.denominator, p.numerator
    if aggregate.function == "quantile_disc" or p == 1:
        return [("value", below, above, 0)]
    # neighbours of place p (n - 1), counted from 0
    return [("lower", below, above, 1 - above), ("upper", below, above, below - above)]


def fraction_of(aggregate: Aggregate) -> Fraction:
    """The fraction of a quantile."""
    literal = aggregate.args[1]
    return Fraction(int(literal.value or 0), 10**literal.scale)


def _searched(expr: Expr, spoken: str) -> Expr:
    """What is searched, as whole numbers with known ends."""
    if len(owners(expr)) != 1:
        raise UsageError(
            f"{spoken} of an expression that is not of one party's columns",
            hint="MIN, MAX, MEDIAN and quantiles take an expression of one party",
        )
    if expr.kind in ("date", "timestamp"):
        return ordinal(expr)
    if expr.kind == "string":
        values = domain_of(expr)
        if values is None:
            raise UsageError(
                f"{spoken} of a text without a declared domain",
                hint="declare `domain: [...]` of the column in its owner's party.yaml",
            )
        return place_in(expr, sorted(map(str, values)))
    x = numbers.as_number(expr)
    if x.low is None or x.high is None:
        raise UsageError(
            f"{spoken} of a column without a declared range",
            hint="declare `range: [low, high]` for it in its owner's party.yaml",
        )
    return x


def check_answers(picks: Sequence[Pick], cells: int) -> None:
    """UsageError for more products than the searches of one statement may take."""
    answers = sum(pick.bits * len(pick.terms) for pick in picks) * cells
    if answers > _ANSWERS:
        raise UsageError(
            f"MIN, MAX and quantiles would take {answers:,} products, at most {_ANSWERS:,} are allowed",
            hint="group by fewer keys, declare smaller ranges, or ask for fewer quantiles in one statement",
        )


# --- on shares --------------------------------------------------------------------------------------------------------


def pick_values(joint: Joint, quantities: Sequence[Words], shown: Bits | None) -> list[list[int]]:
    """The value of each pick in each cell at its receivers, an empty list elsewhere; of hidden cells a dummy.

    shown: XOR shares (cells,) of the groups that are shown, None where all are. Rounds: for each of the bits one for
    the product, those of a comparison, one for the opening. Bytes: 81,930 for each bit, cell and term, the comparisons.
    """
    plan, engine = joint.plan, joint.engine
    if not plan.picks:
        return []
    cells = joint.sizes[0] * joint.sizes[1]
    check_answers(plan.picks, cells)
    visible = _visible(joint, quantities, shown)
    searches = [_Search(joint, pick, part) for pick, part in zip(plan.picks, visible, strict=True)]
    for bit in range(max(pick.bits for pick in plan.picks) - 1, -1, -1):
        due = [search for search in searches if search.pick.bits > bit]
        sums = np.stack([search.difference(bit, quantities) for search in due])
        width = max(2 * search.pick.bound + 1 for search in due).bit_length() + 1
        reached = logic_not(engine, negative(engine, sums, width))
        for search, here in zip(due, reached, strict=True):
            search.take(bit, here)
    return [search.values() for search in searches]


def _visible(joint: Joint, quantities: Sequence[Words], shown: Bits | None) -> Words:
    """Shares mod 2^64, (picks, cells), of 1 where a cell is shown and enough rows enter at every gate."""
    plan, engine = joint.plan, joint.engine
    width = max(plan.rows, 1).bit_length()
    bits = np.stack(known_bits(engine, [pick.gates for pick in plan.picks], quantities, plan.min_rows, width))
    if shown is not None:
        bits = logic_and(engine, bits, np.broadcast_to(shown, bits.shape))
    found: Words = to_arithmetic(engine, bits)
    return found


class _Search:
    """One pick's search, in all cells at once."""

    def __init__(self, joint: Joint, pick: Pick, visible: Words) -> None:
        self.joint = joint
        self.pick = pick
        self.visible = visible
        us, peer = joint.engine.channel.us, joint.engine.channel.peer
        told = {*joint.plan.to, joint.plan.parties[pick.owner]}
        self.stream = Stream(joint.engine, pick.what, [party for party in (us, peer) if party in told], visible.size)
        self.found = np.zeros(joint.sizes, dtype=np.int64)  # counted from the least value; at those who are told
        if joint.us == pick.owner:
            values, valid = read(joint.sources[pick.source], joint.columns)
            self.values_of_rows = values - pick.low
            self.valid = valid == 1

    def difference(self, bit: int, quantities: Sequence[Words]) -> Words:
        """Shares (cells,) of what is at least 0 where enough rows are up to the middle; below 0 where hidden."""
        joint, pick = self.joint, self.pick
        places = marks = None
        if joint.us == pick.owner:
            middle = self.found + (2**bit - 1)
            ends = (middle if pick.owner == 0 else middle.T)[joint.groups.places].T  # (groups of the other, n)
            marks = self.valid & (self.values_of_rows <= ends)
            places = joint.groups.places
        counted = joint.counts(pick.owner, pick.terms, places, joint.sizes[pick.owner], marks)
        cells = (counted if pick.owner == 0 else counted.T).reshape(-1)
        times, share, plus = pick.condition
        total: Words = np.uint64(times) * cells - np.uint64(share) * quantities[pick.rows]
        hidden = self.visible * np.uint64(pick.bound + 1)
        if joint.us == 0:
            total -= np.uint64(plus % 2**64)
            hidden -= np.uint64(pick.bound + 1)
        return total + hidden

    def take(self, bit: int, reached: Bits) -> None:
        """Open one bit a cell and go on in that half."""
        opened = self.stream.open(reached)
        if opened is not None:
            self.found += np.where(opened.reshape(self.joint.sizes) == 1, 0, 1 << bit)

    def values(self) -> list[int]:
        """What was found, at a receiver."""
        if self.joint.engine.channel.us not in self.joint.plan.to:
            return []
        return [int(value) for value in (self.found + self.pick.low).reshape(-1)]
