"""The planner: statement and catalogues in, a frozen plan out, the same on both sides."""

from __future__ import annotations

from mpc.sql.algebra import ONE, Poly, Side, number, truth
from mpc.sql.parse import parse
from mpc.sql.products import ASSUMED_GROUPS, Builder, cells_of
from mpc.sql.render import local_select
from mpc.sql.types import Aggregate, Context, Expr, GroupKey, Plan, Post, Query, columns_of, owners
from party.errors import UsageError
from party.request import Opening, Request, Use

__all__ = ["CELLS", "build", "plan"]

CELLS = 4096  # most group cells of one statement
_SMALL = 64  # whole numbers of at most this many values are a domain by themselves


def plan(sql: str, context: Context) -> Plan:
    """Plan one statement; runs nothing and needs no data.

    Raises UsageError (exit 2): an unsupported construct by its name, a name that is not granted, a sum that would
    overflow 64 bits.
    """
    return build(parse(sql, context), context)


def build(query: Query, context: Context) -> Plan:
    """The plan of a query that is parsed already (SQL or statistics)."""
    if context.rows >= 2**31 or context.rows < 0:
        raise UsageError("a joint query takes at most 2^31 rows")
    keys = _keys(query, context)
    builder = Builder(context.rows, keys)
    weight = truth(query.where, context.parties)[0] if query.where is not None else ONE
    group_count = builder.quantity(f"query.{context.name}.rows", weight, 0, 1)
    counts, values = [], []
    for place, aggregate in enumerate(query.aggregates):
        what = f"query.{context.name}.{_column_name(query, place)}"
        count, sums = _quantities(aggregate, weight, builder, what, context.parties)
        counts.append(count)
        values.append(sums)
    for key in keys:
        builder.source(key.owner, "code" if _known(keys, key.owner) else "label", key.expr)
    used = sorted({group_count, *counts, *(number for sums in values for number in sums)})
    if not keys and group_count not in counts:
        used.remove(group_count)  # an answer without groups shows only what it names
    opened = tuple(builder.quantities[number] for number in used)
    calls = builder.calls()
    made = Plan(
        name=context.name,
        parties=context.parties,
        tables=query.tables,
        to=context.to,
        rows=context.rows,
        min_rows=max(context.min_rows, 1),
        keys=keys,
        aggregates=query.aggregates,
        outputs=query.outputs,
        sources=(tuple(builder.sources[0]), tuple(builder.sources[1])),
        features=(tuple(builder.features[0]), tuple(builder.features[1])),
        quantities=tuple(builder.quantities),
        group_count=group_count,
        counts=tuple(counts),
        values=tuple(values),
        calls=calls,
        request=Request(
            _uses(query, context), frozenset(_openings(context, keys, tuple(quantity.what for quantity in opened)))
        ),
        local_sql=(_local(builder, 0), _local(builder, 1)),
        explanation=tuple(_explain(query, context, builder, tuple(quantity.what for quantity in opened))),
    )
    return made


def _local(builder: Builder, owner: int) -> str:
    return local_select(builder.sources[owner], [key for key in builder.keys if key.owner == owner])


def _known(keys: tuple[GroupKey, ...], owner: int) -> bool:
    return cells_of(keys, owner) is not None


# --- groups -----------------------------------------------------------------------------------------------------------


def _keys(query: Query, context: Context) -> tuple[GroupKey, ...]:
    keys = []
    for name, expr in zip(query.group_names, query.groups, strict=True):
        (owner,) = owners(expr)
        keys.append(GroupKey(name, expr, context.parties.index(owner), _domain(expr)))
    made = tuple(keys)
    cells = (cells_of(made, 0) or ASSUMED_GROUPS) * (cells_of(made, 1) or ASSUMED_GROUPS)
    if cells > CELLS:
        raise UsageError(
            f"GROUP BY makes {cells} groups, at most {CELLS} are allowed", hint="group by fewer or coarser keys"
        )
    return made


def _domain(expr: Expr) -> tuple[str | int | bool, ...] | None:
    """The values of a key that both sides know without looking at data."""
    if expr.kind == "bool":
        return False, True
    if expr.op == "column":
        declared = next((arg for arg in expr.args if arg.op == "domain"), None)
        if declared is not None:
            return tuple(value.value for value in declared.args if value.value is not None)
    if expr.op == "case":
        branches = [*expr.args[1:-1:2], expr.args[-1]]
        real = [branch for branch in branches if branch.kind != "null"]
        if all(branch.op == "literal" and branch.kind in ("string", "integer") for branch in real):
            return tuple(dict.fromkeys(branch.value for branch in real if branch.value is not None))
    if expr.kind == "integer" and expr.low is not None and expr.high is not None and expr.high - expr.low < _SMALL:
        return tuple(range(expr.low, expr.high + 1))
    return None


# --- aggregates -------------------------------------------------------------------------------------------------------


def _column_name(query: Query, aggregate: int) -> str:
    def reads(post: Post) -> bool:
        return (post.op == "aggregate" and post.value == aggregate) or any(reads(arg) for arg in post.args)

    return next((output.name for output in query.outputs if reads(output.post)), str(aggregate))


def _valid(expr: Expr, parties: tuple[str, str]) -> Poly:
    if expr.kind in ("integer", "decimal", "bool", "null") or not owners(expr):
        return ONE if expr.op == "literal" and expr.kind != "null" else number(expr, parties)[1]
    if len(owners(expr)) > 1:
        raise UsageError(f"COUNT of {expr.op} over columns of both parties is not supported")
    (owner,) = owners(expr)
    side = Side(frozenset({("n", expr)}))
    return Poly.of({(side, Side()) if owner == parties[0] else (Side(), side): 1})


def _quantities(
    aggregate: Aggregate, weight: Poly, builder: Builder, what: str, parties: tuple[str, str]
) -> tuple[int, tuple[int, ...]]:
    """The numbers of the count of entering rows, and of the sums in the order that `result.close` reads."""
    if aggregate.condition is not None:
        weight = weight * truth(aggregate.condition, parties)[0]
    if aggregate.function == "count":
        valid = _valid(aggregate.args[0], parties) if aggregate.args else ONE
        return builder.quantity(f"{what}.count", weight * valid, 0, 1), ()
    x = aggregate.args[0]
    value, valid = number(x, parties)
    if len(aggregate.args) == 1:
        count = builder.quantity(f"{what}.count", weight * valid, 0, 1)
        sums = [builder.quantity(f"{what}.sum", weight * value, x.scale, x.most)]
        if aggregate.function not in ("sum", "avg"):
            most = None if x.most is None else x.most**2
            sums.append(builder.quantity(f"{what}.sum_squares", weight * value * value, 2 * x.scale, most, wide=True))
        return count, tuple(sums)
    y = aggregate.args[1]
    other, other_valid = number(y, parties)
    both = weight * valid * other_valid
    count = builder.quantity(f"{what}.count", both, 0, 1)
    most = None if x.most is None or y.most is None else x.most * y.most
    sums = [
        builder.quantity(f"{what}.sum_x", weight * value * other_valid, x.scale, x.most),
        builder.quantity(f"{what}.sum_y", weight * other * valid, y.scale, y.most),
        builder.quantity(f"{what}.sum_xy", weight * value * other, x.scale + y.scale, most, wide=True),
    ]
    if aggregate.function == "corr":
        for name, part, valid_too, expr in (("xx", value, other_valid, x), ("yy", other, valid, y)):
            square = None if expr.most is None else expr.most**2
            poly = weight * part * part * valid_too
            sums.append(builder.quantity(f"{what}.sum_{name}", poly, 2 * expr.scale, square, wide=True))
    return count, tuple(sums)


# --- what is asked for, and what is learnt -----------------------------------------------------------------------------


def _uses(query: Query, context: Context) -> frozenset[Use]:
    tables = dict(zip(context.parties, query.tables, strict=True))
    found: set[tuple[str, str, str]] = set()
    if query.where is not None:
        found |= set(columns_of(query.where, "filter"))
    for aggregate in query.aggregates:
        for arg in aggregate.args:
            found |= set(columns_of(arg, "aggregate"))
        if aggregate.condition is not None:
            found |= set(columns_of(aggregate.condition, "filter"))
    for expr in query.groups:
        found |= set(columns_of(expr, "group"))
    for party, columns in zip(context.parties, query.join, strict=True):
        found |= {(party, column, "join") for column in columns}
    return frozenset(Use(party, tables[party], column, use) for party, column, use in found)


def _openings(context: Context, keys: tuple[GroupKey, ...], whats: tuple[str, ...]) -> list[Opening]:
    found = [Opening(what, to) for what in whats for to in context.to]
    for owner in (0, 1):
        ours = context.parties[owner]
        mine = [key for key in keys if key.owner == owner]
        if mine and not _known(keys, owner):
            found.append(Opening(f"query.{context.name}.groups", context.parties[1 - owner]))
            found.append(Opening(f"query.{context.name}.shown", ours))
            found += [Opening(f"query.{context.name}.labels", to) for to in context.to if to != ours]
    return found


def _explain(query: Query, context: Context, builder: Builder, whats: tuple[str, ...]) -> list[str]:
    min_rows = max(context.min_rows, 1)
    lines = [f"{context.name}: {context.rows} aligned rows at most, min_rows {min_rows}"]
    for to in context.to:
        lines.append(f"{to} learns {', '.join(what.removeprefix(f'query.{context.name}.') for what in whats)}")
    for owner in (0, 1):
        mine = [key.name for key in builder.keys if key.owner == owner]
        if mine and not _known(builder.keys, owner):
            ours, theirs = context.parties[owner], context.parties[1 - owner]
            lines.append(f"{theirs} learns how many groups {', '.join(mine)} makes, rounded up to a power of 4")
            lines.append(f"{ours} learns which groups are shown; its labels of those go to {', '.join(context.to)}")
    calls = builder.calls()
    uploaded = sum(len(block) for block in {call.uploaded for call in calls})
    wide = max((len(quantity.limbs) for quantity in builder.quantities), default=1) > 1
    lines.append(
        f"{uploaded} encrypted columns, {len(calls)} products, about {builder.bytes(calls) / 1e6:.1f} MB"
        + (", sums over 64 bits joined from digits on shares" if wide else "")
    )
    if min_rows > 1:
        lines.append(f"answers of fewer than {min_rows} rows are hidden from both parties, by a comparison on shares")
    return lines
