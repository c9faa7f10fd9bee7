"""Comparisons of one party's columns with the other's: a shared bit a row, which nobody sees.

Planning: `difference` brings left op right to "x of party 0 is less than y of party 1" or "x equals y". Sums and
differences of both parties' columns are told apart: b.income - b.rent > 12 * t.bill compares one number of each. Dates
and timestamps count from 1970; texts of declared domains are places in their order; other texts are compared for
equality only, by 60 bits of a digest that stays at home. Running: `joint_bits`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from mpc.compare import equal, less_than, logic_and
from mpc.engine import Engine
from mpc.sql import numbers
from mpc.sql.domains import domain_of
from mpc.sql.expr import Expr, owners
from mpc.sql.types import Plan, Test
from party.errors import UsageError

__all__ = ["ROWS", "difference", "joint_bits", "ordinal", "test_of", "tests_bytes"]

Bits = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]

ROWS = 1 << 17  # rows compared at once: bounds memory
_SHARED = 62  # bits that compared numbers may span
_DAYS = (-719_162, 2_932_896)  # of the years 1 to 9999
_MICROSECONDS = 86_400_000_000
_TEXT = 60


def difference(expr: Expr, parties: tuple[str, str]) -> tuple[Expr, bool]:
    """A comparison of both parties' columns as Expr less or equal (x, y), value = shift, and whether it is negated."""
    left, right = expr.args
    if left.kind == "string":
        left, right = _texts(expr)
    elif left.kind in ("date", "timestamp"):
        left, right = ordinal(left), ordinal(right)
    if not (numbers.numeric(left) and numbers.numeric(right)):
        raise UsageError(
            f"{left.kind} and {right.kind} are not compared across parties",
            hint="across parties: whole numbers, decimals, dates, timestamps and texts; declare a float decimal(p,s)",
        )
    parts: list[Expr | None] = [None, None]
    for sign, side in ((1, left), (-1, right)):
        _split(side, sign, parties, parts)
    x, negative = (part if part is not None else numbers.literal("0") for part in parts)
    x, y = numbers.common(x, numbers.negate(negative))
    for part in (x, y):
        if part.low is None or part.high is None:
            names = ", ".join(sorted(_names(part)))
            raise UsageError(
                f"a comparison across parties with {names}: no range is declared for it",
                hint=f"declare `range: [low, high]` for {names} in its owner's party.yaml",
            )
    shift = 1 if expr.op in ("<=", ">") else 0
    op = "equal" if expr.op in ("=", "<>") else "less"
    found = Expr(op, "bool", (x, y), shift, low=0, high=1)
    test_of(found, 0, 0)
    return found, expr.op in ("<>", ">=", ">")


def test_of(joint: Expr, x: int, y: int) -> Test:
    """The test of an Expr less or equal, with the numbers of its sources."""
    ends = [(int(part.low or 0), int(part.high or 0)) for part in joint.args]
    shift = int(joint.value or 0)
    low = min(end for end, _ in ends)
    bits = max(1, (max(end for _, end in ends) + shift - low).bit_length())
    if bits > _SHARED or not -(2**62) <= low <= 2**62:
        raise UsageError(
            f"a comparison across parties takes {bits} bits, {_SHARED} are possible",
            hint="declare smaller ranges of its columns in party.yaml",
        )
    return Test(joint.op == "less", x, y, shift, low, bits)


def tests_bytes(tests: Sequence[Test], rows: int) -> int:
    """Bytes of these comparisons, both ways (docs/protocols/06-comparison.md, Cost)."""
    digits = [-(-test.bits // 4) for test in tests]
    return int(sum(20 * count + 8.75 * (count - 1) for count in digits) * rows)


def _split(expr: Expr, sign: int, parties: tuple[str, str], parts: list[Expr | None]) -> None:
    """Add sign * expr to the part of the owner of its columns."""
    of = owners(expr)
    if len(of) <= 1:
        place = 1 if of == {parties[1]} else 0
        term, known = (expr if sign > 0 else numbers.negate(expr)), parts[place]
        parts[place] = numbers.as_number(term) if known is None else numbers.add("+", known, term)
        return
    if expr.op in ("+", "-"):
        left, right = expr.args
        _split(left, sign, parties, parts)
        _split(right, sign if expr.op == "+" else -sign, parties, parts)
        return
    if expr.op == "neg":
        _split(expr.args[0], -sign, parties, parts)
        return
    if expr.op == "scale" and expr.args[0].op in ("+", "-", "neg"):
        inner = expr.args[0]
        moved = tuple(numbers.rescale(arg, expr.scale) for arg in inner.args)
        _split(Expr(inner.op, "decimal", moved, scale=expr.scale), sign, parties, parts)
        return
    raise UsageError(
        f"a comparison of {expr.op} over columns of both parties is not supported",
        hint="compare sums and differences of one party's expressions",
    )


def ordinal(expr: Expr) -> Expr:
    """A date as its day, a timestamp as its microsecond, counted from 1970."""
    if expr.kind == "date":
        return Expr("day", "integer", (expr,), low=_DAYS[0], high=_DAYS[1])
    low, high = _DAYS[0] * _MICROSECONDS, (_DAYS[1] + 1) * _MICROSECONDS - 1
    return Expr("microsecond", "integer", (expr,), low=low, high=high)


def _texts(expr: Expr) -> tuple[Expr, Expr]:
    """Two texts as numbers: places in the union of their domains, else digests."""
    known = [domain_of(side) for side in expr.args]
    if all(values is not None for values in known):
        union = sorted({str(value) for values in known for value in values or ()})
        left, right = (place_in(side, union) for side in expr.args)
        return left, right
    if expr.op not in ("=", "<>"):
        raise UsageError(
            "texts of both parties are compared in order", hint="declare `domain: [...]` of both columns in party.yaml"
        )
    left, right = (Expr("digest", "integer", (side,), low=0, high=2**_TEXT - 1) for side in expr.args)
    return left, right


def place_in(expr: Expr, values: Sequence[str]) -> Expr:
    """A text as its place among sorted values; any other value of the column is a DataError when it is read."""
    listed = tuple(Expr("literal", "string", value=value) for value in values)
    return Expr("place", "integer", (expr, *listed), low=0, high=max(len(values) - 1, 0))


def _names(expr: Expr) -> set[str]:
    own = {f"{expr.owner}.{expr.value}"} if expr.op == "column" else set()
    return own.union(*(_names(arg) for arg in expr.args))


# --- on shares --------------------------------------------------------------------------------------------------------


def joint_bits(engine: Engine, plan: Plan, ours: Sequence[Ints]) -> list[Bits]:
    """XOR shares (n,) of each joint bit of a plan, from our side's numbers of each test, (n,), counted from its low.

    Peer learns nothing. Rounds: those of `mpc.compare.less_than` for each test and 131,072 rows, then an AND for each
    further test of a bit. Bytes: as there.
    """
    found = [_test(engine, test, column) for test, column in zip(plan.tests, ours, strict=True)]
    joined = []
    for places in plan.joints:
        whole = found[places[0]]
        for place in places[1:]:
            whole = logic_and(engine, whole, found[place])
        joined.append(whole)
    return joined


def _test(engine: Engine, test: Test, column: Ints) -> Bits:
    words = column.astype(np.uint64)
    if engine.index == 1:
        words = words + np.uint64(test.shift)
    compare = less_than if test.less else equal
    pieces = [compare(engine, words[start : start + ROWS], test.bits) for start in range(0, len(words), ROWS)]
    return np.concatenate(pieces) if pieces else np.zeros(0, dtype=np.uint8)
