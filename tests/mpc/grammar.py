"""Random joint statements, each with what an exact oracle needs: how DuckDB gives the rows, and how large a sum may be.

Every number carries the interval that its columns' declared ranges give it, in units of 10**-scale, worked out here
and not by the planner. So a test can tell a refusal that is due (a bound over 64 bits) from one that is not. Averages,
spreads and correlations are worked out in fractions from DuckDB's lists of values, because its own are rounded.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Context, Decimal
from fractions import Fraction
from typing import Any

from hypothesis import strategies as st

__all__ = ["JOIN", "Aggregate", "Number", "Statement", "Union", "exact", "statements", "unions"]

JOIN = "FROM bank.customers b JOIN telco.subscribers t ON b.phone = t.msisdn"
WIDE = 2**62 - 1
DIGITS = 10**18 - 1


@dataclass(frozen=True)
class Number:
    """SQL of a number, its bounds in units of 10**-scale, and the largest magnitude of anything it is made of."""

    sql: str
    low: int
    high: int
    scale: int = 0
    part: int = 0

    @property
    def most(self) -> int:
        return max(abs(self.low), abs(self.high))

    @property
    def largest(self) -> int:
        return max(self.most, self.part)

    def at(self, scale: int) -> tuple[int, int]:
        return self.low * 10 ** (scale - self.scale), self.high * 10 ** (scale - self.scale)


def _sum(op: str, a: Number, b: Number) -> Number:
    scale = max(a.scale, b.scale)
    (low, high), (least, most) = a.at(scale), b.at(scale)
    ends = (low + least, high + most) if op == "+" else (low - most, high - least)
    part = max(a.part, b.part, *(abs(end) for end in (low, high, least, most)))
    return Number(f"({a.sql} {op} {b.sql})", *ends, scale, part)


def _product(a: Number, b: Number) -> Number:
    corners = [x * y for x in (a.low, a.high) for y in (b.low, b.high)]
    return Number(f"({a.sql} * {b.sql})", min(corners), max(corners), a.scale + b.scale, max(a.largest, b.largest))


def _either(sql: str, *arms: Number) -> Number:
    scale = max(arm.scale for arm in arms)
    ends = [end for arm in arms for end in arm.at(scale)]
    return Number(sql, min(ends), max(ends), scale, max(*(abs(end) for end in ends), *(arm.part for arm in arms)))


LEAVES = {
    "b": (
        Number("b.age", 18, 99), Number("b.income", 0, 10**6), Number("b.balance", -(10**8), 10**9, 2),
        Number("b.wide", -WIDE, WIDE), Number("b.big", -DIGITS, DIGITS, 2), Number("b.debt", -(10**6), 0),
    ),
    "t": (
        Number("t.late", 0, 12), Number("t.minutes", 0, 10**5), Number("t.bill", 1 - 10**8, 10**8 - 1, 2),
        Number("t.huge", -(2**61), 2**61), Number("t.cents", -DIGITS, DIGITS, 4), Number("t.shift", -7, 7),
    ),
}  # fmt: skip
TESTS = {
    "b": (
        "b.age > 50", "b.region = 'north'", "b.region IN ('east', 'south')", "b.balance IS NULL", "b.defaulted",
        "b.balance BETWEEN 0 AND 4000000", "b.branch LIKE '%a%'", "b.opened < DATE '2021-01-01'", "b.income % 3 = 1",
        "NOT b.defaulted", "b.score > 0.5", "b.region IS NOT NULL", f"b.wide = {-WIDE}", f"b.free > {-(2**62)}",
        f"b.free IN ({2**62}, {-(2**62)}, 0)", "b.big < -0.01", "b.wide <> 0", "b.debt <= b.age",
    ),
    "t": (
        "t.late > 6", "t.plan = 'pro'", "t.plan NOT IN ('basic', 'x')", "t.minutes IS NULL", "t.prepaid", "t.bill < 0",
        "upper(t.plan) LIKE 'P%'", "t.prepaid IS NOT TRUE", "coalesce(t.minutes, 0) < 50000", "t.cents = 0",
        f"t.huge = {2**61}", f"t.huge BETWEEN {-(2**61)} AND -1", "abs(t.shift) = 7", "t.cents > 99999999999999.9998",
    ),
    "across": (
        "b.age > t.late", "b.debt = t.shift", "b.balance <= t.bill", "b.defaulted = t.prepaid",
        "b.income <> t.minutes", "b.age - 90 < t.shift",
    ),
}  # fmt: skip
# keys and the most groups they make; None: their owner alone knows how many
KEYS = {
    "b.region": 5, "b.defaulted": 3, "t.plan": None, "t.late // 5": 3, "t.prepaid": 3, "length(b.branch)": None,
    "CASE WHEN b.age > 50 THEN 1 END": 2, "b.wide > 0": 3, "t.shift": 16,
}  # fmt: skip

own_tests = st.sampled_from(TESTS["b"] + TESTS["t"])


def _combined(tests: st.SearchStrategy[str], leaves: int) -> st.SearchStrategy[str]:
    return st.recursive(
        tests,
        lambda inner: st.one_of(
            st.tuples(inner, st.sampled_from(("AND", "OR")), inner).map(lambda p: f"({p[0]} {p[1]} {p[2]})"),
            inner.map(lambda part: f"(NOT {part})"),
        ),
        max_leaves=leaves,
    )


@dataclass(frozen=True)
class Condition:
    """SQL of a condition; the largest magnitude that it compares across owners, and how many such comparisons."""

    sql: str
    most: int = 0
    across: int = 0

    def __str__(self) -> str:
        return self.sql


WHOLE = {"b": "bank.customers", "t": "telco.subscribers"}
SMALL = {
    side: tuple(leaf for leaf in leaves if leaf.most < 2**40) for side, leaves in LEAVES.items()
}  # averages and sums of them are exact in doubles


@st.composite
def _whole(draw: st.DrawFn, side: str) -> Number:
    """A number of an owner's whole table."""
    leaf, function = draw(st.sampled_from(SMALL[side])), draw(st.sampled_from(("MIN", "MAX")))
    where = draw(st.one_of(st.none(), st.sampled_from(TESTS[side])))
    inner = re.sub(
        rf"\b{side}\.", "w.", f"{function}({leaf.sql}) FROM {WHOLE[side]} w" + (f" WHERE {where}" if where else "")
    )
    return Number(f"(SELECT {inner})", leaf.low, leaf.high, leaf.scale)


@st.composite
def _with_whole(draw: st.DrawFn) -> Condition:
    """A column beside a number of its owner's whole table, or being among its values."""
    side = draw(st.sampled_from("bt"))
    leaf, op = draw(st.sampled_from(SMALL[side])), draw(st.sampled_from(("<", "<=", "=", "<>", ">=", ">")))
    function = draw(st.sampled_from(("AVG", "SUM", "MIN", "MAX", "COUNT")))
    where = draw(st.one_of(st.none(), st.sampled_from(TESTS[side])))
    inner = f"{function}({leaf.sql}) FROM {WHOLE[side]} w" + (f" WHERE {where}" if where else "")
    number = "(SELECT " + re.sub(rf"\b{side}\.", "w.", inner) + ")"
    return Condition(f"{leaf.sql} {op} {number}")


@st.composite
def _across(draw: st.DrawFn) -> Condition:
    """A comparison of both owners' numbers, alone or beside a condition of one."""
    ours, theirs = draw(_of_one("b")), draw(_of_one("t"))
    op, form = draw(st.sampled_from(("<", "<=", "=", "<>", ">=", ">"))), draw(st.integers(0, 5))
    if form == 0:
        both = _sum(draw(st.sampled_from("+-")), ours, theirs)
        other = draw(st.sampled_from((Number("100", 100, 100), Number("-3.5", -35, -35, 1), *SMALL["b"], *SMALL["t"])))
        text, parts = f"{both.sql} {op} {other.sql}", (both, other)
    else:
        text, parts = (f"{ours.sql} {op} {theirs.sql}" if form % 2 else f"{theirs.sql} {op} {ours.sql}"), (ours, theirs)
    scale = max(part.scale for part in parts)
    most = max(part.largest * 10 ** (scale - part.scale) for part in parts)
    beside = draw(st.one_of(st.none(), st.none(), own_tests))
    if beside is not None:
        text = f"({text} {draw(st.sampled_from(('AND', 'OR')))} {beside})"
    return Condition(f"(NOT {text})" if draw(st.integers(0, 3)) == 0 else text, 2 * most, 1)


conditions = st.deferred(
    lambda: st.one_of(
        _combined(own_tests, 3).map(Condition),
        st.sampled_from(TESTS["across"]).map(lambda text: Condition(text, across=1)),
        _across(),
        _with_whole(),
    )
)


@st.composite
def _of_one(draw: st.DrawFn, side: str) -> Number:
    """A number of one owner's columns."""
    leaf = draw(st.sampled_from(LEAVES[side]))
    form = draw(st.integers(0, 9))
    if form == 9:
        return _sum(draw(st.sampled_from("+-")), draw(st.sampled_from(SMALL[side])), draw(_whole(side)))
    if form == 1:
        return Number(f"abs({leaf.sql})", 0, leaf.most, leaf.scale)
    if form == 2:
        return _sum(draw(st.sampled_from("+-")), leaf, Number("3", 3, 3))
    if form == 3:
        return _either(f"coalesce({leaf.sql}, 7)", leaf, Number("7", 7, 7))
    if form == 4 and leaf.scale == 0:
        return Number(f"({leaf.sql} // 7)", -(leaf.most // 7), leaf.most // 7)
    if form == 5:
        other, test = draw(st.sampled_from(LEAVES[side])), draw(st.sampled_from(TESTS[side]))
        return _either(f"CASE WHEN {test} THEN {leaf.sql} ELSE {other.sql} END", leaf, other)
    if form == 6:
        return Number(f"nullif({leaf.sql}, 12)", leaf.low, leaf.high, leaf.scale)
    if form == 7:
        return Number(f"(-{leaf.sql})", -leaf.high, -leaf.low, leaf.scale)
    return leaf


@st.composite
def numbers(draw: st.DrawFn) -> Number:
    """A number of one owner's columns or of both."""
    ours, theirs = draw(_of_one("b")), draw(_of_one("t"))
    form = draw(st.sampled_from(("b", "t", "t", "b", "+", "-", "*", "case")))
    if form in ("b", "t"):
        return ours if form == "b" else theirs
    if form in ("+", "-"):
        return _sum(form, ours, theirs)
    if form == "*":
        small = st.sampled_from((LEAVES["b"][0], LEAVES["b"][5], LEAVES["t"][0], LEAVES["t"][5]))
        one = draw(small)
        return _product(one, theirs if one.sql.startswith("b.") else ours)
    return _either(f"CASE WHEN {draw(own_tests)} THEN {ours.sql} ELSE {theirs.sql} END", ours, theirs)


@dataclass(frozen=True)
class Aggregate:
    """One aggregate: its SQL, DuckDB's text for an exact oracle, and how that becomes the answer."""

    sql: str
    oracle: str
    function: str
    args: tuple[Number, ...]
    condition: Condition | None = None

    def may_be_refused(self, rows: int) -> bool:
        """Whether one of its sums may need more than 64 bits, or one of its parts more than 62."""
        rows = max(rows, 1)
        if not self.args or self.function == "count":
            return False
        if self.function in ("min", "max"):
            return any((arg.high - arg.low).bit_length() > 62 for arg in self.args)
        bounds = [rows * arg.most for arg in self.args]
        if self.function not in ("sum", "avg"):
            bounds += [rows * a.most * b.most for a in self.args for b in self.args]
        return max(bounds) >= 2**63 or max(arg.largest for arg in self.args) >= 2**62


FEW_VALUES = ("b.region", "b.age // 10", "t.late", "t.shift", "b.defaulted", "t.plan", "length(b.branch)")


@st.composite
def _one_of_a_kind(draw: st.DrawFn) -> Aggregate:
    """An order statistic of one owner's numbers, or how many values there are."""
    condition = draw(st.one_of(st.none(), own_tests))
    over = f" FILTER (WHERE {condition})" if condition else ""
    function = draw(st.sampled_from(("min", "max", "count")))
    if function == "count":
        sql = f"COUNT(DISTINCT {draw(st.sampled_from(FEW_VALUES))}){over}"
        return Aggregate(sql, sql, function, ())
    number = draw(st.one_of(_of_one("b"), _of_one("t")))
    sql = f"{function.upper()}({number.sql}){over}"
    return Aggregate(sql, sql, function, (number,))


@st.composite
def aggregates(draw: st.DrawFn) -> Aggregate:
    if draw(st.integers(0, 7)) == 0:
        return draw(_one_of_a_kind())
    function = draw(
        st.sampled_from(
            (
                "count",
                "sum",
                "sum",
                "sum",
                "avg",
                "var_samp",
                "var_pop",
                "stddev_pop",
                "covar_samp",
                "covar_pop",
                "corr",
            )
        )
    )
    if function == "count" and draw(st.booleans()):
        args: tuple[Number, ...] = ()
    elif function in ("covar_samp", "covar_pop", "corr"):
        args = (draw(st.one_of(_of_one("b"), _of_one("t"))), draw(_of_one("t")))
    else:
        args = (draw(numbers()),)
    condition = draw(st.one_of(st.none(), st.none(), conditions))
    over = f" FILTER (WHERE {condition})" if condition else ""
    sql = f"{function.upper()}({', '.join(arg.sql for arg in args) or '*'}){over}"
    wide = "HUGEINT" if all(arg.scale == 0 for arg in args) else "DECIMAL(24,0)"  # a row may need more than 64 bits

    def roomy(text: str) -> str:
        return re.sub(r"[bt]\.(wide|huge)", rf"CAST(\g<0> AS {wide})", text)

    if function in ("count", "sum"):
        return Aggregate(sql, roomy(sql), function, args, condition)
    pair = args if len(args) == 2 else args * 2
    present = " AND ".join(f"({arg.sql}) IS NOT NULL" for arg in args)
    where = f"({condition}) AND {present}" if condition else present
    listed = ", ".join(f"CAST({arg.sql} AS DECIMAL(38,6))" for arg in pair)
    return Aggregate(sql, roomy(f"LIST([{listed}]) FILTER (WHERE {where})"), function, args, condition)


def exact(function: str, value: Any) -> Any:
    """The answer from what DuckDB gave for `Aggregate.oracle`: counts and sums as they are, the rest in fractions."""
    if function in ("count", "sum", "min", "max"):
        return value
    pairs: Sequence[Sequence[Decimal]] = value or ()
    n = len(pairs)
    xs, ys = ([Fraction(pair[place]) for pair in pairs] for place in (0, 1))
    if n == 0 or (n < 2 and function.endswith("samp")):
        return None
    if function == "avg":
        return float(sum(xs) / n)
    spread = [
        n * sum(a * b for a, b in zip(u, v, strict=True)) - sum(u) * sum(v) for u, v in ((xs, ys), (xs, xs), (ys, ys))
    ]
    if function == "corr":
        if spread[1] * spread[2] == 0:
            return None
        return math.copysign(math.sqrt(spread[0] ** 2 / (spread[1] * spread[2])), spread[0]) if spread[0] else 0.0
    found = spread[0] / (n * (n - 1) if function.endswith("samp") else n * n)
    return math.sqrt(found) if function.startswith("stddev") else float(found)


group_numbers = st.sampled_from(
    (
        "COUNT(*)",
        "COUNT(t.minutes)",
        "SUM(t.late)",
        "SUM(b.balance * t.late)",
        "SUM(b.balance)",
        "COUNT(b.income) * 3 - 1",
    )
)
group_tests = st.one_of(
    st.tuples(group_numbers, st.sampled_from(("<", "<=", "=", "<>", ">=", ">")), st.one_of(
        group_numbers, st.integers(-10, 200).map(str), st.sampled_from(("-0.5", "100.25", "99999999.99")),
    )).map(" ".join),
    st.tuples(st.sampled_from(("AVG(b.age)", "AVG(t.bill)", "SUM(t.late) / COUNT(b.region)")), st.sampled_from("<>"),
              st.sampled_from(("57.0625", "3.33", "-12.5"))).map(" ".join),
    group_numbers.map(lambda text: f"{text} IS NOT NULL"),
    st.tuples(group_numbers, st.integers(-5, 3), st.integers(3, 99)).map(lambda p: f"{p[0]} BETWEEN {p[1]} AND {p[2]}"),
)  # fmt: skip


@dataclass(frozen=True)
class Statement:
    """A statement, the same for the oracle, and its aggregates by their column."""

    sql: str
    oracle: str
    aggregates: dict[str, Aggregate]
    ordered: bool = False
    where: Condition | None = None

    def may_be_refused(self, rows: int) -> bool:
        """Whether the planner may have to refuse it: a wide number, or comparisons of both owners' columns."""
        found = [one for one in (self.where, *(one.condition for one in self.aggregates.values())) if one is not None]
        too_many = sum(one.across for one in found) > 1
        return too_many or any(one.most >= 2**60 for one in found) or self.may_be_wide(rows)

    def may_be_wide(self, rows: int) -> bool:
        """Whether one of its sums may need more than 64 bits."""
        return any(aggregate.may_be_refused(rows) for aggregate in self.aggregates.values())


@st.composite
def statements(draw: st.DrawFn) -> Statement:
    """SELECT keys, aggregates, WHERE, GROUP BY, HAVING, ORDER BY, LIMIT."""
    keys = draw(st.lists(st.sampled_from(sorted(KEYS)), max_size=2, unique=True))
    chosen = {f"a{place}": found for place, found in enumerate(draw(st.lists(aggregates(), min_size=1, max_size=2)))}
    where = draw(st.one_of(st.none(), conditions))
    having = draw(st.one_of(st.none(), _combined(group_tests, 3))) if keys else None
    sizes = [KEYS[key] for key in keys]
    ordered = bool(keys) and draw(st.integers(0, 3)) == 0
    tail = f" {JOIN}" + (f" WHERE {where}" if where else "")
    tail += f" GROUP BY {', '.join(keys)}" if keys else ""
    tail += f" HAVING {having}" if having else ""
    if ordered:
        tail += " ORDER BY " + ", ".join(
            f"{place + 1}{draw(st.sampled_from(('', ' DESC', ' NULLS FIRST')))}" for place in range(len(keys))
        )
        if None not in sizes and math.prod(size or 1 for size in sizes) <= 32:
            tail += draw(st.sampled_from(("", " LIMIT 2", " LIMIT 3 OFFSET 1")))
    return replace(_statement(keys, chosen, tail, where), ordered=ordered)


def _statement(keys: Sequence[str], chosen: dict[str, Aggregate], tail: str, where: Condition | None) -> Statement:
    listed = [f"{key} AS k{place}" for place, key in enumerate(keys)]
    sql, oracle = (
        "SELECT " + ", ".join(listed + [f"{text} AS {name}" for name, text in some.items()]) + tail
        for some in (
            {name: found.sql for name, found in chosen.items()},
            {name: found.oracle for name, found in chosen.items()},
        )
    )
    # a quotient by 0 is NULL, as docs/reference/sql.md says; DuckDB calls it infinity
    oracle = oracle.replace("/ COUNT(b.region)", "/ NULLIF(COUNT(b.region), 0)")
    return Statement(sql, oracle, chosen, where=where)


@dataclass(frozen=True)
class Union:
    """SELECTs of equally many columns of one type each under UNION ALL."""

    arms: tuple[Statement, ...]

    @property
    def sql(self) -> str:
        return " UNION ALL ".join(f"({arm.sql})" if arm.ordered else arm.sql for arm in self.arms)

    def brought(self, name: str, value: Any) -> Any:
        """A value of a column in the type that all SELECTs share: floats, else decimals, else integers."""
        kinds = [_kind(arm.aggregates[name]) for arm in self.arms if name in arm.aggregates]
        if value is None or not kinds:
            return value
        if None in kinds:
            return float(value)
        scale = max(kind or 0 for kind in kinds)
        return Decimal(value).quantize(Decimal(1).scaleb(-scale), context=_ROOM) if scale else int(value)


_ROOM = Context(prec=60)


def _kind(aggregate: Aggregate) -> int | None:
    """The scale of what an aggregate gives, None for a float."""
    if aggregate.function == "count":
        return 0
    return aggregate.args[0].scale if aggregate.function in ("sum", "min", "max") else None


@st.composite
def unions(draw: st.DrawFn) -> Union:
    """Two or three SELECTs with the same keys."""
    keys, columns = draw(st.lists(st.sampled_from(sorted(KEYS)), max_size=1)), draw(st.integers(1, 2))
    arms = []
    for _ in range(draw(st.integers(2, 3))):
        chosen = {f"a{place}": draw(aggregates()) for place in range(columns)}
        where = draw(st.one_of(st.none(), conditions))
        having = draw(st.one_of(st.none(), group_tests)) if keys else None
        tail = f" {JOIN}" + (f" WHERE {where}" if where else "")
        tail += f" GROUP BY {', '.join(keys)}" if keys else ""
        tail += f" HAVING {having}" if having else ""
        arms.append(_statement(keys, chosen, tail, where))
    return Union(tuple(arms))
