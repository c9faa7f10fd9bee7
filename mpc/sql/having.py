"""HAVING: which groups are shown, decided on shares of their counts and sums, without opening any of them.

A comparison of aggregates becomes a sum of whole multiples of shared quantities that is at least 0 or not: counts and
sums are quantities, AVG and division by a COUNT are multiplied out. So the test is exact, where SQL would round to
floats first. An aggregate of too few rows is NULL here as in the answer: `min_rows` holds for conditions, too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from mpc.compare import at_least, logic_and, logic_every, logic_not, negative
from mpc.engine import Engine
from mpc.sql.products import RANGE_HINT, Builder, overflow
from mpc.sql.types import Aggregate, Condition, Order, Post, Rank
from party.errors import UsageError

__all__ = ["check_tests", "condition_of", "having_bits", "known_bits", "ranks_of", "shared_sum", "tests_of"]

Words = npt.NDArray[np.uint64]
Bits = npt.NDArray[np.uint8]

Form = Mapping[int | None, Fraction]  # a sum of multiples of quantities; None is the constant
Places = Sequence[tuple[int, Sequence[int]]]

_MOST = 2**61  # magnitude of a compared sum
_TESTS = 100_000  # comparisons of a statement: about 50 MB and 80 MB of memory


# --- planning ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Ratio:
    """top / below. `below` is a positive number, or a multiple of a count, positive wherever the ratio is not NULL.
    gates: counts of entering rows."""

    top: Form
    below: Form
    gates: frozenset[int] = frozenset()

    @property
    def constant(self) -> Fraction | None:
        """The value, if no quantity is in it."""
        if any(key is not None for key in (*self.top, *self.below)):
            return None
        return self.top.get(None, Fraction(0)) / self.below[None]


_ONE: Form = {None: Fraction(1)}


class _Lowering:
    def __init__(
        self, clause: str, builder: Builder, aggregates: Sequence[Aggregate], places: Places, min_rows: int
    ) -> None:
        self.clause = clause
        self.builder = builder
        self.aggregates = aggregates
        self.places = places
        self.min_rows = min_rows

    def condition(self, post: Post) -> Condition:
        """One node of the HAVING tree."""
        if post.op in ("and", "or", "not"):
            return Condition(post.op, tuple(self.condition(arg) for arg in post.args))
        if post.op == "isnull":
            ratio = self.ratio(post.args[0])
            return Condition("not", (Condition("present", gates=tuple(sorted(ratio.gates))),))
        left, right = (self.ratio(arg) for arg in post.args)
        if post.op in ("=", "<>"):
            both = self.at_least(left, right), self.at_least(right, left)
            equal = Condition("and", both)
            return equal if post.op == "=" else Condition("not", (equal,))
        if post.op in ("<=", ">="):
            return self.at_least(left, right) if post.op == ">=" else self.at_least(right, left)
        return Condition("not", (self.at_least(left, right) if post.op == "<" else self.at_least(right, left),))

    def at_least(self, left: _Ratio, right: _Ratio) -> Condition:
        """left >= right."""
        difference = _plus(_times(left.top, right.below), _times(right.top, left.below), -1)
        whole = math.lcm(*(factor.denominator for factor in difference.values()))
        terms = tuple(sorted((int(f * whole), key) for key, f in difference.items() if key is not None and f))
        constant = int(difference.get(None, Fraction(0)) * whole)
        bound = abs(constant) + sum(abs(f) * self.builder.quantities[key].bound for f, key in terms)
        if bound >= _MOST:
            raise UsageError(
                f"a comparison of {self.clause} may reach {bound.bit_length()} bits, {_MOST.bit_length()} are possible",
                hint="declare smaller ranges of its columns in party.yaml, or compare with fewer digits",
            )
        return Condition("ge", (), terms, constant, bound, tuple(sorted(left.gates | right.gates)))

    def rank(self, order: Order) -> Rank:
        """What LIMIT compares groups by."""
        if order.post.op == "key":
            return Rank(order.post.value, descending=order.descending, nulls_first=order.nulls_first)
        ratio = self.ratio(order.post)
        if set(ratio.below) != {None}:
            raise UsageError(
                "LIMIT by an AVG, or by a division by a COUNT, is not supported", hint="ORDER BY sums and counts"
            )
        found = self.at_least(ratio, _Ratio({}, _ONE))
        return Rank(None, found.terms, found.constant, found.bound, found.gates, order.descending, order.nulls_first)

    def ratio(self, post: Post) -> _Ratio:
        """What is compared, multiplied out."""
        if post.op == "literal":
            return _Ratio({None: Fraction(post.value, 10**post.scale)}, _ONE)
        if post.op == "aggregate":
            return self.aggregate(post.value)
        if post.op in ("neg", "float"):
            inner = self.ratio(post.args[0])
            return _Ratio(_scaled(inner.top, Fraction(-1 if post.op == "neg" else 1)), inner.below, inner.gates)
        left, right = (self.ratio(arg) for arg in post.args)
        gates = left.gates | right.gates
        if post.op in "+-":
            sign = 1 if post.op == "+" else -1
            top = _plus(_times(left.top, right.below), _times(right.top, left.below), sign)
            return _Ratio(top, _times(left.below, right.below), gates)
        if post.op == "*":
            return _Ratio(_times(left.top, right.top), _times(left.below, right.below), gates)
        value = right.constant
        if value is not None and value != 0:
            return _Ratio(_scaled(left.top, 1 / value), left.below, gates)
        if value == 0 or post.args[1].op != "aggregate" or self.aggregates[post.args[1].value].function != "count":
            raise UsageError(
                f"{self.clause} divides by numbers other than 0, and by COUNT", hint="multiply both sides instead"
            )
        # a quotient by a COUNT of no row is NULL, as in the answer: the count becomes a gate
        (count,) = right.top
        return _Ratio(left.top, _times(left.below, right.top), gates | {int(count or 0)})

    def aggregate(self, number: int) -> _Ratio:
        """A count, a sum, or an average."""
        function = self.aggregates[number].function
        place, sums = self.places[number]
        count = self.builder.opened[place]
        rows: Form = {count.quantity: Fraction(1)}
        if function == "count":  # of no row it is 0, unless fewer than min_rows are hidden
            return _Ratio(rows, _ONE, frozenset(count.gates if self.min_rows > 1 else ()))
        if function not in ("sum", "avg"):
            raise UsageError(
                f"{self.clause} compares {self.aggregates[number].spoken}",
                hint="COUNT, SUM, AVG and arithmetic on them are supported",
            )
        total = self.builder.opened[sums[0]]
        quantity = self.builder.quantities[total.quantity]
        if quantity.words > 1:
            raise overflow(f"a sum of {self.clause}", quantity.bound.bit_length() + 1, RANGE_HINT)
        top: Form = {total.quantity: Fraction(1, 10**quantity.scale)}
        return _Ratio(top, _ONE if function == "sum" else rows, frozenset({count.quantity, *total.gates}))


def condition_of(
    having: Post, builder: Builder, aggregates: Sequence[Aggregate], places: Places, min_rows: int
) -> Condition:
    """HAVING over the quantities of `builder`; places: of each aggregate the openings of its count and its sums.

    Raises UsageError (exit 2) for an aggregate or a product that cannot be compared on shares, and for a comparison
    that could overflow.
    """
    return _Lowering("HAVING", builder, aggregates, places, min_rows).condition(having)


def ranks_of(
    order: Sequence[Order], builder: Builder, aggregates: Sequence[Aggregate], places: Places, min_rows: int
) -> tuple[Rank, ...]:
    """ORDER BY as LIMIT compares it. Raises UsageError as `condition_of`."""
    lowering = _Lowering("LIMIT", builder, aggregates, places, min_rows)
    return tuple(lowering.rank(part) for part in order)


def check_tests(condition: Condition, cells: int) -> None:
    """UsageError for more comparisons than one statement may make."""
    tests = len(tests_of(condition)) * cells
    if tests > _TESTS:
        raise UsageError(
            f"HAVING would make {tests:,} comparisons, at most {_TESTS:,} are allowed",
            hint="group by fewer or coarser keys, or compare less",
        )


def tests_of(condition: Condition) -> list[Condition]:
    """The comparisons of a condition, each once."""
    found = [condition] if condition.op in ("ge", "present") else []
    return list(dict.fromkeys(found + [test for arg in condition.args for test in tests_of(arg)]))


def _plus(left: Form, right: Form, sign: int) -> Form:
    return {key: left.get(key, Fraction(0)) + sign * right.get(key, Fraction(0)) for key in {**left, **right}}


def _scaled(form: Form, factor: Fraction) -> Form:
    return {key: value * factor for key, value in form.items()}


def _times(left: Form, right: Form) -> Form:
    for one, other in ((left, right), (right, left)):
        if set(one) == {None}:
            return _scaled(other, one[None])
    raise UsageError(
        "a comparison of groups would multiply two aggregates",
        hint="compare an AVG, or a division by a COUNT, with a number; multiply an aggregate with a number only",
    )


# --- on shares --------------------------------------------------------------------------------------------------------


def having_bits(engine: Engine, condition: Condition, quantities: Sequence[Words], min_rows: int, width: int) -> Bits:
    """XOR shares of which cells fulfil a condition, from shares (cells,) of the plan's quantities.

    width: bits of a count. Peer learns nothing. Rounds: two comparisons, `logic_every` of the gates and of each
    node of the tree. Bytes: two comparisons a test and cell.
    """
    tests = tests_of(condition)
    known = known_bits(engine, [test.gates for test in tests], quantities, min_rows, width)
    compared = [test for test in tests if test.op == "ge"]
    below: dict[Condition, Bits] = {}
    if compared:
        sums = np.stack([shared_sum(engine, test, quantities) for test in compared])
        bits = max(test.bound for test in compared).bit_length() + 1
        below = dict(zip(compared, negative(engine, sums, max(bits, 2)), strict=True))
    return _Tree(engine, below, dict(zip(tests, known, strict=True))).bits(condition, True)


def known_bits(
    engine: Engine, gates: Sequence[tuple[int, ...]], quantities: Sequence[Words], min_rows: int, width: int
) -> list[Bits]:
    """XOR shares of which cells have enough rows at all gates of each list."""
    distinct = sorted({gate for some in gates for gate in some})
    present: dict[int, Bits] = {}
    if distinct:
        least = max(min_rows, 1)
        counts = np.stack([quantities[gate] for gate in distinct])
        enough = at_least(engine, counts, least, max(width, least.bit_length()) + 1)
        present = dict(zip(distinct, enough, strict=True))
    lists = list(dict.fromkeys(some for some in gates if some))
    every = logic_every(engine, [[present[gate] for gate in some] for some in lists])
    known = dict(zip(lists, every, strict=True))
    known[()] = logic_not(engine, np.zeros(len(quantities[0]), dtype=np.uint8))
    return [known[some] for some in gates]


class _Tree:
    """Three-valued logic: a node is true, false or neither; each asked for by itself."""

    def __init__(self, engine: Engine, below: Mapping[Condition, Bits], known: Mapping[Condition, Bits]) -> None:
        self.engine = engine
        self.below = below
        self.known = known

    def bits(self, node: Condition, wanted: bool) -> Bits:
        """XOR shares of whether a node is true, or is false."""
        if node.op == "present":  # IS NOT NULL is never unknown
            return self.known[node] if wanted else logic_not(self.engine, self.known[node])
        if node.op == "ge":
            below = self.below[node]
            return logic_and(self.engine, logic_not(self.engine, below) if wanted else below, self.known[node])
        if node.op == "not":
            return self.bits(node.args[0], not wanted)
        parts = [self.bits(arg, wanted) for arg in node.args]
        if (node.op == "and") == wanted:
            return logic_every(self.engine, [parts])[0]
        (none,) = logic_every(self.engine, [[logic_not(self.engine, part) for part in parts]])
        return logic_not(self.engine, none)


def shared_sum(engine: Engine, test: Condition | Rank, quantities: Sequence[Words]) -> Words:
    """Our shares (cells,) of the sum that a comparison or a rank is about."""
    total: Words = np.full(len(quantities[0]), (test.constant if engine.index == 0 else 0) % 2**64, dtype=np.uint64)
    for factor, quantity in test.terms:
        total = total + np.uint64(factor % 2**64) * quantities[quantity]
    return total
