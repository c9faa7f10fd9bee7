"""Mixed expressions as polynomials: sums of products of one bank column and one telco column, with NULLs.

An atom is one owner's whole sub-expression, computed in the clear by that owner. For an atom e: v(e) is its value, 0
where NULL; n(e) is 1 where it is not NULL; t(e) and f(e) are 1 where a condition is true, or false. SQL's three values
are then plain arithmetic: for conditions p and q of two owners, true(p AND q) = t(p) t(q), true(p OR q) =
t(p) + t(q) - t(p) t(q), and `NOT` swaps true and false. Every joint number of a statement is the sum over rows of such
a polynomial, so a sum of inner products.

A comparison of columns of both owners is a third kind of factor, a shared bit J a row. J is the XOR of a bit j0 at one
owner and j1 at the other, so J = j0 + j1 - 2 j0 j1, a polynomial of one-owner columns again (`Poly.lowered`).
"""

from __future__ import annotations

from dataclasses import dataclass

from mpc.sql.across import difference
from mpc.sql.expr import COMPARISONS, Expr, never_null, owners
from party.errors import UsageError

__all__ = ["ONE", "Poly", "Side", "atom_of", "number", "truth"]

Atoms = frozenset[tuple[str, Expr]]
TERMS = 64  # more terms than this are refused


@dataclass(frozen=True)
class Side:
    """The factors of one owner in a term: 0/1 atoms, and values with their multiplicities in order."""

    bits: Atoms = frozenset()
    values: tuple[Expr, ...] = ()

    def times(self, other: Side) -> Side | None:
        """The product; None where it is always 0."""
        bits = self.bits | other.bits
        values = tuple(sorted(self.values + other.values, key=repr))
        for op, expr in bits:
            if op == "t" and ("f", expr) in bits:
                return None
        known = {expr for op, expr in bits if op in "tf"} | set(values)
        return Side(frozenset(bit for bit in bits if not (bit[0] == "n" and bit[1] in known)), values)

    def bit(self, op: str, expr: Expr) -> Side:
        """One more bit in it."""
        return Side(self.bits | {(op, expr)}, self.values)


Factors = tuple[Side, Side, frozenset[Expr]]  # party 0's, party 1's, comparisons of both


@dataclass(frozen=True)
class Poly:
    """coefficient by factors."""

    terms: tuple[tuple[Factors, int], ...]

    @classmethod
    def of(cls, terms: dict[Factors, int]) -> Poly:
        kept = [(sides, factor) for sides, factor in terms.items() if factor]
        if len(kept) > TERMS:
            raise UsageError(
                f"an expression across both parties expands to {len(kept)} products, at most {TERMS} are allowed",
                hint="move conditions and arithmetic of one party's columns together",
            )
        return cls(tuple(kept))

    @classmethod
    def constant(cls, value: int) -> Poly:
        return cls.of({(Side(), Side(), frozenset()): value})

    def __add__(self, other: Poly) -> Poly:
        terms = dict(self.terms)
        for sides, factor in other.terms:
            terms[sides] = terms.get(sides, 0) + factor
        return Poly.of(terms)

    def __mul__(self, other: Poly) -> Poly:
        terms: dict[Factors, int] = {}
        for (a0, a1, a), left in self.terms:
            for (b0, b1, b), right in other.terms:
                first, second = a0.times(b0), a1.times(b1)
                if first is not None and second is not None:
                    factors = first, second, a | b
                    terms[factors] = terms.get(factors, 0) + left * right
        return Poly.of(terms)

    def lowered(self) -> list[tuple[Side, Side, int]]:
        """Products of one-owner columns and their coefficients; what joint comparisons give has become bits ("j")."""
        found: dict[tuple[Side, Side], int] = {}
        for (a, b, joint), factor in self.terms:
            shares = [(a, b, factor)]
            if joint:
                whole = Expr("all", "bool", tuple(sorted(joint, key=repr)))
                ours, theirs = a.bit("j", whole), b.bit("j", whole)
                shares = [(ours, b, factor), (a, theirs, factor), (ours, theirs, -2 * factor)]
            for first, second, share in shares:
                found[first, second] = found.get((first, second), 0) + share
        return [(first, second, factor) for (first, second), factor in found.items() if factor]

    def scaled(self, factor: int) -> Poly:
        return Poly.of({sides: value * factor for sides, value in self.terms})

    def __sub__(self, other: Poly) -> Poly:
        return self + other.scaled(-1)


ONE = Poly.constant(1)


def _atom(op: str, expr: Expr, parties: tuple[str, str]) -> Poly:
    if op == "n" and never_null(expr):
        return ONE
    (owner,) = owners(expr)
    side = Side(values=(expr,)) if op == "v" else Side(frozenset({(op, expr)}))
    return atom_of(side, owner == parties[0])


def atom_of(side: Side, first: bool) -> Poly:
    """One owner's factors alone."""
    return Poly.of({(side, Side(), frozenset()) if first else (Side(), side, frozenset()): 1})


def number(expr: Expr, parties: tuple[str, str]) -> tuple[Poly, Poly]:
    """The value (0 where NULL, in units of 10**-scale) and the validity of a numeric expression."""
    if expr.kind == "bool":
        true, false = truth(expr, parties)
        return true, ONE if never_null(expr) else true + false
    if expr.op == "literal":
        return (
            (Poly.constant(0), Poly.constant(0)) if expr.kind == "null" else (Poly.constant(int(expr.value or 0)), ONE)
        )
    if len(owners(expr)) == 1:
        return _atom("v", expr, parties), _atom("n", expr, parties)
    if expr.op in ("neg", "scale", "number"):
        value, valid = number(expr.args[0], parties)
        return value.scaled({"neg": -1, "number": 1}.get(expr.op) or 10 ** int(expr.value or 0)), valid
    if expr.op in ("+", "-", "*"):
        (left, left_valid), (right, right_valid) = (number(arg, parties) for arg in expr.args)
        if expr.op == "*":
            return left * right, left_valid * right_valid
        first, second = left * right_valid, right * left_valid
        return first + second if expr.op == "+" else first - second, left_valid * right_valid
    if expr.op == "case":
        return _case(expr, parties)
    if expr.op == "coalesce":
        return _first(expr, parties)
    if expr.op == "abs":
        (x,) = expr.args
        below = Expr("<", "bool", (x, Expr("literal", x.kind, value=0, scale=x.scale, low=0, high=0)), low=0, high=1)
        minus = Expr("neg", x.kind, (x,), scale=x.scale, low=-(x.high or 0), high=-(x.low or 0))
        return _case(Expr("case", x.kind, (below, minus, x), scale=x.scale), parties)
    if not owners(expr):
        raise UsageError("an expression of constants only is not supported here", hint="write its value")
    raise UsageError(
        f"{expr.op} over columns of both parties is not supported",
        hint="across parties: products, sums, differences, CASE, COALESCE, abs; everything else of one party's columns",
    )


def _case(expr: Expr, parties: tuple[str, str]) -> tuple[Poly, Poly]:
    value, valid, rest = Poly.constant(0), Poly.constant(0), ONE
    for place in range(0, len(expr.args) - 1, 2):
        here, _ = truth(expr.args[place], parties)
        then_value, then_valid = number(expr.args[place + 1], parties)
        value, valid = value + rest * here * then_value, valid + rest * here * then_valid
        rest = rest - rest * here
    else_value, else_valid = number(expr.args[-1], parties)
    return value + rest * else_value, valid + rest * else_valid


def _first(expr: Expr, parties: tuple[str, str]) -> tuple[Poly, Poly]:
    """COALESCE: each argument where it is there and none before it is."""
    value, rest = Poly.constant(0), ONE
    for arg in expr.args:
        here, valid = number(arg, parties)
        value, rest = value + rest * here, rest - rest * valid
    return value, ONE - rest


def truth(expr: Expr, parties: tuple[str, str]) -> tuple[Poly, Poly]:
    """Where a condition is true, and where it is false."""
    if expr.kind == "null":
        return Poly.constant(0), Poly.constant(0)
    if expr.op == "literal":
        one, none = ONE, Poly.constant(0)
        return (one, none) if expr.value else (none, one)
    if expr.op == "known":
        there = _atom("n", expr.args[0], parties)
        return there, ONE - there
    if expr.op == "not":
        true, false = truth(expr.args[0], parties)
        return false, true
    if len(owners(expr)) == 1 and not any(arg.op in ("known", "binned") for arg in expr.args):
        return _atom("t", expr, parties), _atom("f", expr, parties)
    if expr.op in ("and", "or"):
        pairs = [truth(arg, parties) for arg in expr.args]
        true, false = pairs[0]
        for other_true, other_false in pairs[1:]:
            if expr.op == "and":
                true, false = true * other_true, false + other_false - false * other_false
            else:
                true, false = true + other_true - true * other_true, false * other_false
        return true, false
    if expr.op in ("istrue", "isfalse") and expr.args[0].kind == "bool":
        true, false = truth(expr.args[0], parties)
        here = true if expr.op == "istrue" else false
        return here, ONE - here
    if expr.op == "isnull" and (expr.args[0].kind in ("integer", "decimal", "bool")):
        _, valid = number(expr.args[0], parties)
        return ONE - valid, valid
    if not owners(expr):
        raise UsageError("a condition of constants only is not supported here", hint="write TRUE or FALSE")
    if expr.op in COMPARISONS:
        return _compared(expr, parties)
    raise UsageError(
        f"the condition {expr.op} takes columns of both parties",
        hint="across parties: comparisons, and AND, OR, NOT, IS NULL of conditions",
    )


def _compared(expr: Expr, parties: tuple[str, str]) -> tuple[Poly, Poly]:
    """A comparison of columns of both owners: unknown where either side is NULL."""
    left, right = expr.args
    if left.kind == right.kind == "bool" and expr.op in ("=", "<>"):
        (yes, no), (other_yes, other_no) = (truth(arg, parties) for arg in expr.args)
        equal, differ = yes * other_yes + no * other_no, yes * other_no + no * other_yes
        return (equal, differ) if expr.op == "=" else (differ, equal)
    joint, negated = difference(expr, parties)
    x, y = joint.args
    known = _atom("n", x, parties) * _atom("n", y, parties)
    here = Poly.of({(Side(), Side(), frozenset({joint})): 1}) * known
    return (known - here, here) if negated else (here, known - here)
