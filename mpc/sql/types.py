"""The values a plan is made of: the query over typed expressions (`mpc.sql.expr`), and the frozen plan.

Everything here is a frozen value that both sides derive from public inputs alone, so that two plans of one statement
are equal byte for byte (`Plan.canonical`).
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

from mpc.sql.expr import Expr, never_null
from party.catalogue import Catalogue
from party.request import Opening, Request, Use

__all__ = [
    "Aggregate",
    "Call",
    "Condition",
    "Context",
    "Distinct",
    "Factor",
    "Feature",
    "GroupKey",
    "Limit",
    "Opened",
    "Order",
    "Output",
    "Pick",
    "Places",
    "Plan",
    "Post",
    "Quantity",
    "Query",
    "Rank",
    "Source",
    "Test",
]

_SPOKEN = {
    "quantile_cont": "MEDIAN or PERCENTILE_CONT",
    "quantile_disc": "PERCENTILE_DISC",
    "count_distinct": "COUNT(DISTINCT)",
}


@dataclass(frozen=True)
class Context:
    """What a statement is planned from; every field is public and equal on both sides.

    catalogues: the two parties' in the order of `Engine.index`. to: the receivers. rows: the number of aligned rows,
    or an upper bound of it. min_rows: the larger of both policies'. name: the query's name in openings. unmatched: for
    statistics over an alignment that keeps rows without a match, whose columns are NULL there; SQL says it by its JOIN.
    """

    name: str
    catalogues: tuple[Catalogue, Catalogue]
    to: tuple[str, ...]
    rows: int
    min_rows: int
    unmatched: str | None = None

    @property
    def parties(self) -> tuple[str, str]:
        return self.catalogues[0].party, self.catalogues[1].party


@dataclass(frozen=True)
class Aggregate:
    """One aggregate call: count, count_distinct, sum, avg, var_samp, var_pop, stddev_samp, stddev_pop, covar_samp,
    covar_pop, corr, regr_slope, regr_intercept, regr_r2, min, max, quantile_cont, quantile_disc (x, fraction)."""

    function: str
    args: tuple[Expr, ...] = ()
    condition: Expr | None = None

    @property
    def spoken(self) -> str:
        """The function in the words of a statement; several words may have become one function."""
        return _SPOKEN.get(self.function, self.function.upper())


@dataclass(frozen=True)
class Post:
    """Arithmetic on aggregates. op: key, aggregate (value = their number), literal, + - * / neg float; in HAVING also
    comparisons, and, or, not, isnull."""

    op: str
    args: tuple[Post, ...] = ()
    value: int = 0
    scale: int = 0


@dataclass(frozen=True)
class Output:
    """One column of the answer."""

    name: str
    post: Post


@dataclass(frozen=True)
class Order:
    """One part of ORDER BY."""

    post: Post
    descending: bool
    nulls_first: bool


@dataclass(frozen=True)
class Condition:
    """HAVING on shares. op: ge (a sum of coefficient * quantity + constant is at least 0), present, and, or, not.

    `gates` are counts: where one is too small, ge and present are unknown, and false. bound: of the sum's magnitude.
    """

    op: str
    args: tuple[Condition, ...] = ()
    terms: tuple[tuple[int, int], ...] = ()
    constant: int = 0
    bound: int = 0
    gates: tuple[int, ...] = ()


@dataclass(frozen=True)
class Rank:
    """One part of ORDER BY as LIMIT compares it: a group key (its number), or a sum as in `Condition`."""

    key: int | None
    terms: tuple[tuple[int, int], ...] = ()
    constant: int = 0
    bound: int = 0
    gates: tuple[int, ...] = ()
    descending: bool = False
    nulls_first: bool = False


@dataclass(frozen=True)
class Limit:
    """LIMIT and OFFSET over the groups in this order."""

    count: int
    offset: int
    ranks: tuple[Rank, ...] = ()


@dataclass(frozen=True)
class GroupKey:
    """One GROUP BY key: its owner's expression, and its values in order where they are public (None: not known)."""

    name: str
    expr: Expr
    owner: int
    domain: tuple[str | int | bool, ...] | None

    @property
    def places(self) -> int:
        """How many groups a declared domain makes: one more for NULL, where it may occur."""
        return len(self.domain or ()) + (not never_null(self.expr))


@dataclass(frozen=True)
class Places:
    """Characters of the text where condition, keys, aggregates and columns begin; None or nothing if not known."""

    where: int | None = None
    groups: tuple[int | None, ...] = ()
    aggregates: tuple[int | None, ...] = ()
    outputs: tuple[int | None, ...] = ()


@dataclass(frozen=True)
class Query:
    """A statement after parsing and typing. join: each party's key columns. keep: whose rows stay without a match.
    shown: how many of the aggregates are opened, None for all; HAVING alone reads the others. limit: rows, rows before.
    places: where WHERE, each group key and each aggregate stand in the text, for what the planner refuses.
    together: what is shown whole or not at all (`mpc.sql.together`).
    """

    tables: tuple[str, str]
    where: Expr | None
    groups: tuple[Expr, ...]
    group_names: tuple[str, ...]
    aggregates: tuple[Aggregate, ...]
    outputs: tuple[Output, ...]
    join: tuple[tuple[str, ...], tuple[str, ...]]
    keep: str | None = None
    order: tuple[Order, ...] = ()
    having: Post | None = None
    shown: int | None = None
    limit: tuple[int, int] | None = None
    places: Places = Places()
    together: str = "cells"


# v value or 0, n is not NULL, t true, f false, of a source; j our share, of a joint bit; u, last, 1 at the first row of
# each value of a source among those that the other factors leave
Factor = tuple[str, int]


@dataclass(frozen=True)
class Source:
    """One column of an owner's local SQL. use: value (scaled integer), truth (0/1), present (not NULL), code, label."""

    name: str
    expr: Expr
    use: str


@dataclass(frozen=True)
class Test:
    """One comparison of each row: source x of party 0 with source y of party 1. less: x < y + shift; else x = y.

    Both are counted from `low` and then take at most `bits` bits; where either is NULL the answer means nothing.
    """

    less: bool
    x: int
    y: int
    shift: int
    low: int
    bits: int


@dataclass(frozen=True)
class Feature:
    """A row vector of one owner: the product of factors, or one digit of it, (x >> shift) cut to `width` bits.

    width 0: no cut (the top digit, signed). most: the largest magnitude of the entries.
    """

    factors: tuple[Factor, ...] = ()
    shift: int = 0
    width: int = 0
    most: int = 1


@dataclass(frozen=True)
class Quantity:
    """One number per cell that is shared: sums over products of features, as limbs of `width` bits.

    limbs[l] is a tuple of (coefficient, feature of party 0, feature of party 1); value = sum 2**(l width) limb_l.
    words: of 64 bits that its shares have; over 1: limbs, of which shares are modulo 2**modulus, are joined.
    """

    limbs: tuple[tuple[tuple[int, int, int], ...], ...]
    width: int
    bound: int
    scale: int
    words: int = 1
    modulus: int = 64


@dataclass(frozen=True)
class Opened:
    """One quantity as it is opened: `what` names it to the guard; 0 in cells where a gate, a count, is small."""

    what: str
    quantity: int
    gates: tuple[int, ...]


@dataclass(frozen=True)
class Pick:
    """An order statistic in each cell: of a source of `owner`, in [low, low + 2**bits), the least v with
    times * (rows of x <= v) >= share * rows + plus, condition being these three.

    terms: (coefficient, feature of party 0, feature of party 1), the weight of the entering rows; rows: their quantity.
    bound: of the condition's magnitude. In cells where a gate is small the value means nothing.
    """

    what: str
    owner: int
    source: int
    low: int
    bits: int
    terms: tuple[tuple[int, int, int], ...]
    rows: int
    condition: tuple[int, int, int]
    gates: tuple[int, ...]
    bound: int


@dataclass(frozen=True)
class Distinct:
    """How many values of a source of `owner` occur among the rows of a weight: added to a quantity that is 0 so far.

    values: how many there may be, None where only the owner knows.
    """

    quantity: int
    owner: int
    source: int
    terms: tuple[tuple[int, int, int], ...]
    values: int | None


@dataclass(frozen=True)
class Call:
    """One lattice product: `owner` uploads these features (each times its groups), the other multiplies its own.

    Shares are modulo 2**modulus: 64, or `mpc.lattice.LONG_BITS`."""

    owner: int
    uploaded: tuple[int, ...]
    rows: tuple[int, ...]
    bits: int
    modulus: int = 64


@dataclass(frozen=True)
class Plan:
    """What both sides will do for one statement, equal on both sides.

    local: the SQL text of each owner's own step, by party, over its aligned table `aligned`. counts[a] and values[a]
    are the numbers in `opened` of aggregate a: entering rows, then sums. opened[0] is the rows of each cell if grouped.
    keep: the party whose rows without a match take part (LEFT JOIN): the aligned rows must hold them. having: which
    groups are shown, and limit how many, decided on shares. order: of the answer's rows, at its receiver. tests: of
    columns of both parties; each of `joints` is a shared bit a row, that all of these tests hold. Values of picks count
    on behind `opened`. transfers: products of bits that transfers count in place of the lattice, `owner` choosing; bits
    of the count. kept: products (features of both) whose shares are kept for later plans.
    """

    name: str
    parties: tuple[str, str]
    tables: tuple[str, str]
    to: tuple[str, ...]
    rows: int
    min_rows: int
    keys: tuple[GroupKey, ...]
    aggregates: tuple[Aggregate, ...]
    outputs: tuple[Output, ...]
    sources: tuple[tuple[Source, ...], tuple[Source, ...]]
    features: tuple[tuple[Feature, ...], tuple[Feature, ...]]
    quantities: tuple[Quantity, ...]
    opened: tuple[Opened, ...]
    counts: tuple[int, ...]
    values: tuple[tuple[int, ...], ...]
    calls: tuple[Call, ...]
    request: Request
    local_sql: tuple[str, str]
    explanation: tuple[str, ...] = field(default=())
    keep: str | None = None
    having: Condition | None = None
    order: tuple[Order, ...] = ()
    limit: Limit | None = None
    together: str = "cells"
    tests: tuple[Test, ...] = ()
    joints: tuple[tuple[int, ...], ...] = ()
    picks: tuple[Pick, ...] = ()
    distincts: tuple[Distinct, ...] = ()
    transfers: tuple[Call, ...] = ()
    kept: tuple[tuple[int, int], ...] = ()
    sets: tuple[Any, ...] = field(default=(), metadata={"derived": True})  # `mpc.sql.sets.AnswerSet`, for the history

    @property
    def local(self) -> dict[str, str]:
        return dict(zip(self.parties, self.local_sql, strict=True))

    @property
    def grouped(self) -> bool:
        return bool(self.keys)

    def explain(self) -> list[str]:
        """What each party learns, a line each, for `tally plan`."""
        return list(self.explanation)

    def canonical(self) -> bytes:
        """The plan as bytes, the same on both sides: to be compared by digest."""
        return json.dumps(_plain(self), sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


def _plain(value: Any) -> Any:
    if isinstance(value, (Use, Opening)) or (is_dataclass(value) and not isinstance(value, type)):
        kept = [part.name for part in fields(value) if not part.metadata.get("derived")]
        return [type(value).__name__, *(_plain(getattr(value, name)) for name in kept)]
    if isinstance(value, frozenset):
        return [_plain(item) for item in sorted(value)]
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value
