"""The values a plan is made of: typed expressions of single owners, the query, and the frozen plan.

Everything here is a frozen value that both sides derive from public inputs alone, so that two plans of one statement
are equal byte for byte (`Plan.canonical`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, is_dataclass
from functools import cached_property
from typing import Any, Literal

from party.catalogue import Catalogue
from party.request import Opening, Request, Use

__all__ = [
    "COMPARISONS",
    "Aggregate",
    "Call",
    "Condition",
    "Context",
    "Expr",
    "Factor",
    "Feature",
    "GroupKey",
    "Kind",
    "Limit",
    "Opened",
    "Order",
    "Output",
    "Plan",
    "Post",
    "Quantity",
    "Query",
    "Rank",
    "Source",
    "Test",
    "columns_of",
    "never_null",
    "owners",
]

Kind = Literal["integer", "decimal", "float", "string", "bool", "date", "timestamp", "null"]


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
class Expr:
    """One expression over a row, typed. Numbers are integers in units of 10**-scale within [low, high] where known."""

    op: str
    kind: Kind
    args: tuple[Expr, ...] = ()
    value: str | int | bool | None = None
    owner: str | None = None
    scale: int = 0
    low: int | None = None
    high: int | None = None

    @property
    def most(self) -> int | None:
        """The largest magnitude it can take, None when nothing is known."""
        return None if self.low is None or self.high is None else max(abs(self.low), abs(self.high))

    @cached_property
    def size(self) -> int:
        """How large its text would be, in nodes: a short statement may repeat one part of it exponentially often."""
        if self.op == "column":
            return 1  # what is declared of it is not written
        times = 3 if self.op in ("round", "floor", "ceil") else 1  # as `render` writes them
        return 1 + times * sum(arg.size for arg in self.args)

    @cached_property
    def _code(self) -> int:
        return hash((self.op, self.kind, self.args, self.value, self.owner, self.scale, self.low, self.high))

    def __hash__(self) -> int:
        """Each expression is walked once, not once for every expression around it."""
        return self._code


COMPARISONS = ("=", "<>", "<", "<=", ">", ">=")
_NULL_IF_AN_ARGUMENT_IS = frozenset(
    {"+", "-", "*", "//", "%", "neg", "scale", "number", "abs", "round", "floor", "ceil", "like", "ilike"}
    | {*COMPARISONS, "and", "or", "not", "less", "equal", "day", "microsecond", "digest"}
)


def never_null(expr: Expr) -> bool:
    """Whether a value is there in every row: of columns declared so, and of what is NULL only where an argument is."""
    if expr.op == "column":
        return any(arg.op == "required" for arg in expr.args)
    if expr.op == "literal":
        return expr.kind != "null"
    if expr.op in ("isnull", "istrue", "isfalse"):
        return True
    if expr.op == "place":
        return never_null(expr.args[0])
    if expr.op == "coalesce":
        return any(never_null(arg) for arg in expr.args)
    if expr.op == "case":
        return all(never_null(arg) for arg in (*expr.args[1:-1:2], expr.args[-1]))
    return expr.op in _NULL_IF_AN_ARGUMENT_IS and all(never_null(arg) for arg in expr.args)


def owners(expr: Expr) -> frozenset[str]:
    """The parties whose columns an expression reads."""
    mine = frozenset() if expr.owner is None else frozenset({expr.owner})
    return mine.union(*(owners(arg) for arg in expr.args))


def columns_of(expr: Expr, use: str) -> Iterator[tuple[str, str, str]]:
    """Every column an expression reads: (owner, column, use). Conditions count as `filter`, whatever they stand in, and
    what is compared with the other party's columns as `compare`."""
    if expr.op == "column" and expr.owner is not None:
        yield expr.owner, str(expr.value), use
    if expr.op in COMPARISONS and len(owners(expr)) > 1:
        use = "compare"
    for place, arg in enumerate(expr.args):
        condition = expr.op == "case" and place % 2 == 0 and place < len(expr.args) - 1
        inner = "filter" if condition or (arg.kind == "bool" and arg.op != "column" and use == "aggregate") else use
        yield from columns_of(arg, inner)


@dataclass(frozen=True)
class Aggregate:
    """One aggregate call: count, sum, avg, var_samp, var_pop, stddev_samp, stddev_pop, covar_samp, covar_pop, corr."""

    function: str
    args: tuple[Expr, ...] = ()
    condition: Expr | None = None


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
class Query:
    """A statement after parsing and typing. join: each party's key columns. keep: whose rows stay without a match.
    shown: how many of the aggregates are opened, None for all; HAVING alone reads the others. limit: rows, rows before.
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


Factor = tuple[str, int]  # v value or 0, n is not NULL, t true, f false, of a source; j our share, of a joint bit


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
    """

    limbs: tuple[tuple[tuple[int, int, int], ...], ...]
    width: int
    bound: int
    scale: int


@dataclass(frozen=True)
class Opened:
    """One quantity as it is opened: `what` names it to the guard; 0 in cells where a gate, a count, is small."""

    what: str
    quantity: int
    gates: tuple[int, ...]


@dataclass(frozen=True)
class Call:
    """One lattice product: `owner` uploads these features (each times its groups), the other multiplies its own."""

    owner: int
    uploaded: tuple[int, ...]
    rows: tuple[int, ...]
    bits: int


@dataclass(frozen=True)
class Plan:
    """What both sides will do for one statement, equal on both sides.

    local: the SQL text of each owner's own step, by party, over its aligned table `aligned`. counts[a] and values[a]
    are the numbers in `opened` of aggregate a: entering rows, then sums. opened[0] is the rows of each cell if grouped.
    keep: the party whose rows without a match take part (LEFT JOIN): the aligned rows must hold them. having: which
    groups are shown, and limit how many, decided on shares. order: of the answer's rows, at its receiver. tests: of
    columns of both parties; each of `joints` is a shared bit a row, that all of these tests hold.
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
    tests: tuple[Test, ...] = ()
    joints: tuple[tuple[int, ...], ...] = ()

    @property
    def local(self) -> dict[str, str]:
        return dict(zip(self.parties, self.local_sql, strict=True))

    @property
    def grouped(self) -> bool:
        return bool(self.keys)

    def explain(self) -> list[str]:
        """What each party learns, rounds and bytes, a line each, for `tally plan`."""
        return list(self.explanation)

    def canonical(self) -> bytes:
        """The plan as bytes, the same on both sides: to be compared by digest."""
        return json.dumps(_plain(self), sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


def _plain(value: Any) -> Any:
    if isinstance(value, (Use, Opening)) or (is_dataclass(value) and not isinstance(value, type)):
        return [type(value).__name__, *(_plain(getattr(value, part.name)) for part in fields(value))]
    if isinstance(value, frozenset):
        return [_plain(item) for item in sorted(value)]
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value
