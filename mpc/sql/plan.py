"""The planner: statement and catalogues in, a frozen plan out, the same on both sides."""

from __future__ import annotations

import math

from mpc.sql.across import tests_bytes
from mpc.sql.algebra import ONE, Poly, Side, atom_of, number, truth
from mpc.sql.domains import domain_of
from mpc.sql.entering import chosen, ways_of
from mpc.sql.expr import Expr, never_null, owners
from mpc.sql.having import check_tests, condition_of, ranks_of, tests_of
from mpc.sql.learnt import learnt
from mpc.sql.limit import check_cells
from mpc.sql.lookups import reads
from mpc.sql.products import CELLS, Builder, cells_of, groups_of
from mpc.sql.ranks import FUNCTIONS, check_answers, picks_of
from mpc.sql.sets import sets_of
from mpc.sql.step import local_select
from mpc.sql.syntax.parse import parse
from mpc.sql.syntax.places import at, located
from mpc.sql.types import Aggregate, Call, Condition, Context, GroupKey, Limit, Plan, Post, Query
from mpc.sql.uploading import settled
from mpc.sql.uses import columns_of
from party.errors import UsageError
from party.request import Opening, Request, Use

__all__ = ["build", "plan"]


def plan(sql: str, context: Context) -> Plan:
    """Plan one statement; runs nothing and needs no data.

    Raises StatementError (exit 2), with line and column: an unsupported construct by its name, a name that is not
    granted, a sum that would overflow 64 bits.
    """
    with located(sql):
        found = parse(sql, context)
        if len(found) > 1:
            raise UsageError("UNION ALL makes several plans", hint="`mpc.sql.plans` gives them")
        return build(found[0], context)


def build(query: Query, context: Context) -> Plan:
    """The plan of a query that is parsed already (SQL or statistics)."""
    if context.rows >= 2**31 or context.rows < 0:
        raise UsageError("a joint query takes at most 2^31 rows")
    with at(next(iter(query.places.groups), None)):
        keys = _keys(query, context)
    builder = Builder(context.rows, keys, context.parties)
    with at(query.places.where):
        weight = truth(query.where, context.parties)[0] if query.where is not None else ONE
    if keys:
        rows = builder.quantity("the number of rows", weight, 0, 1)
        builder.open(f"query.{context.name}.rows", rows, rows)
    places, shown = [], len(query.aggregates) if query.shown is None else query.shown
    end = len(builder.opened)
    for place, aggregate in enumerate(query.aggregates):
        what = f"query.{context.name}.{_column_name(query, place)}"
        with at(query.places.aggregates[place] if query.places.aggregates else None):
            places.append(_openings_of(aggregate, weight, builder, what, context))
        if place < shown:
            end = len(builder.opened)
    cells = math.prod(cells_of(keys, owner) or 1 for owner in (0, 1))  # at least: the run knows all
    having = None
    if query.having is not None:
        having = condition_of(query.having, builder, query.aggregates, places, context.min_rows)
        check_tests(having, cells)
    limit = None
    if query.limit is not None:
        ranks = ranks_of(query.order, builder, query.aggregates, places, context.min_rows) if keys else ()
        check_cells(cells)
        limit = Limit(*query.limit, ranks)
    check_answers(builder.picks, cells)
    sets = sets_of(query, weight, places, builder, context.parties) if context.min_rows > 1 else ()
    del builder.opened[end:]  # what HAVING alone reads
    for key in keys:
        builder.source(key.owner, "code" if _known(keys, key.owner) else "label", key.expr)
    whats = tuple(opened.what for opened in builder.opened)
    builder, calls = settled(builder)
    return Plan(
        name=context.name,
        parties=context.parties,
        tables=query.tables,
        to=context.to,
        rows=context.rows,
        min_rows=max(context.min_rows, 1),
        keys=keys,
        aggregates=query.aggregates[:shown],
        outputs=query.outputs,
        sources=(tuple(builder.sources[0]), tuple(builder.sources[1])),
        features=(tuple(builder.features[0]), tuple(builder.features[1])),
        quantities=tuple(builder.quantities),
        opened=tuple(builder.opened),
        counts=tuple(count for count, _ in places[:shown]),
        values=tuple(tuple(_after(end, number) for number in sums) for _, sums in places[:shown]),
        calls=calls,
        request=Request(
            _uses(query, context),
            frozenset(_openings(context, keys, whats, query) | _changed(context, calls) | _searches(context, builder)),
        ),
        local_sql=(_local(builder, 0), _local(builder, 1)),
        explanation=(*_explain(context, builder, whats, having, limit), *_read_alone(query, context, builder)),
        keep=query.keep,
        having=having,
        order=query.order,
        limit=limit,
        together=query.together,
        tests=tuple(builder.tests),
        joints=tuple(builder.joints),
        picks=tuple(builder.picks),
        distincts=tuple(builder.distincts),
        sets=sets,
    )


def _after(end: int, number: int) -> int:
    """Picks, which are numbered -1, -2 and so on until then, come behind what is opened."""
    return number if number >= 0 else end - 1 - number


def _local(builder: Builder, owner: int) -> str:
    return local_select(builder.sources[owner], [key for key in builder.keys if key.owner == owner])


def _known(keys: tuple[GroupKey, ...], owner: int) -> bool:
    return cells_of(keys, owner) is not None


# --- groups -----------------------------------------------------------------------------------------------------------


def _keys(query: Query, context: Context) -> tuple[GroupKey, ...]:
    keys = []
    for name, expr in zip(query.group_names, query.groups, strict=True):
        (owner,) = owners(expr)
        keys.append(GroupKey(name, expr, context.parties.index(owner), domain_of(expr)))
    made = tuple(keys)
    cells = groups_of(made, 0) * groups_of(made, 1)
    if cells > CELLS:
        raise UsageError(
            f"GROUP BY makes {cells} groups, at most {CELLS} are allowed", hint="group by fewer or coarser keys"
        )
    return made


# --- aggregates -------------------------------------------------------------------------------------------------------


def _column_name(query: Query, aggregate: int) -> str:
    def reads(post: Post) -> bool:
        return (post.op == "aggregate" and post.value == aggregate) or any(reads(arg) for arg in post.args)

    return next((output.name for output in query.outputs if reads(output.post)), str(aggregate))


def _valid(expr: Expr, parties: tuple[str, str]) -> Poly:
    if expr.kind in ("integer", "decimal", "bool", "null") or not owners(expr):
        return ONE if expr.op == "literal" and expr.kind != "null" else number(expr, parties)[1]
    if never_null(expr):
        return ONE
    if len(owners(expr)) > 1:
        raise UsageError(f"COUNT of {expr.op} over columns of both parties is not supported")
    (owner,) = owners(expr)
    return atom_of(Side(frozenset({("n", expr)})), owner == parties[0])


def _openings_of(
    aggregate: Aggregate, weight: Poly, builder: Builder, what: str, context: Context
) -> tuple[int, tuple[int, ...]]:
    """The openings of one aggregate: the count of entering rows, and the sums as `result.close` reads them."""
    parties = context.parties
    if aggregate.condition is not None:
        weight = weight * truth(aggregate.condition, parties)[0]
    if aggregate.function == "count":
        valid = _valid(aggregate.args[0], parties) if aggregate.args else ONE
        count = builder.quantity(what, weight * valid, 0, 1)
        return builder.open(f"{what}.count", count, count), ()
    if aggregate.function == "count_distinct" or aggregate.function in FUNCTIONS:
        return _single(aggregate, weight, builder, what, context)
    name = aggregate.function.upper()
    polys = [number(arg, parties) for arg in aggregate.args]
    both = weight
    for _, valid in polys:
        both = both * valid
    rows = builder.quantity(what, both, 0, 1)
    gates = _gates(aggregate, both, rows, builder, what, context)
    count = builder.open(f"{what}.count", rows, *gates)
    x, (value, valid) = aggregate.args[0], polys[0]
    parts: list[tuple[str, Poly, int, int | None]] = []  # name, sum of, scale, bound of one row
    if len(polys) == 1:
        parts.append(("sum", weight * value, x.scale, x.most))
        if aggregate.function not in ("sum", "avg"):
            parts.append(("sum_squares", weight * value * value, 2 * x.scale, _square(x)))
    else:
        y, (other, other_valid) = aggregate.args[1], polys[1]
        most = None if x.most is None or y.most is None else x.most * y.most
        parts.append(("sum_x", weight * value * other_valid, x.scale, x.most))
        parts.append(("sum_y", weight * other * valid, y.scale, y.most))
        parts.append(("sum_xy", weight * value * other, x.scale + y.scale, most))
        if aggregate.function in ("corr", "regr_r2"):
            parts.append(("sum_xx", weight * value * value * other_valid, 2 * x.scale, _square(x)))
        if aggregate.function == "corr" or aggregate.function.startswith("regr"):
            parts.append(("sum_yy", weight * other * other * valid, 2 * y.scale, _square(y)))
    sums = []
    for part, poly, scale, most in parts:
        total = builder.quantity(f"{name} ({what})", poly, scale, most)
        sums.append(builder.open(f"{what}.{part}", total, *gates))
    return count, tuple(sums)


def _single(
    aggregate: Aggregate, weight: Poly, builder: Builder, what: str, context: Context
) -> tuple[int, tuple[int, ...]]:
    """The openings of an aggregate of one value of one party's expression: its values are counted or searched."""
    x = aggregate.args[0]
    if len(owners(x)) != 1:
        raise UsageError(
            f"{aggregate.spoken} of an expression that is not of one party's columns",
            hint="COUNT(DISTINCT), MIN, MAX, MEDIAN and quantiles take an expression of one party",
        )
    both = weight * _valid(x, context.parties)
    rows = builder.quantity(what, both, 0, 1)
    gates = _gates(aggregate, both, rows, builder, what, context)
    count = builder.open(f"{what}.count", rows, *gates)
    if aggregate.function == "count_distinct":
        values = builder.distinct(x, both)
        if context.min_rows > 1 and chosen(x) and any(o.quantity == values and not o.values for o in builder.distincts):
            raise UsageError(
                "COUNT(DISTINCT) of values that conditions choose, over rows that the other party chooses, too",
                hint="count a column, or a part of a text or date; put conditions into FILTER",
            )
        return count, (builder.open(f"{what}.distinct", values, *gates),)
    first = len(builder.picks)
    builder.picks += picks_of(aggregate, both, rows, gates, builder, what)
    return count, tuple(-1 - place for place in range(first, len(builder.picks)))


def _gates(aggregate: Aggregate, entering: Poly, rows: int, builder: Builder, what: str, context: Context) -> list[int]:
    """The counts that must reach min_rows: of the entering rows, and of each way to enter."""
    gates = [rows]
    if context.min_rows > 1:
        parties = context.parties
        gates += [builder.quantity(what, entering * _holds(way, parties), 0, 1) for way in ways_of(aggregate)]
    return gates


def _holds(way: tuple[Expr, ...], parties: tuple[str, str]) -> Poly:
    """1 in the rows where all conditions of a way are true."""
    found = ONE
    for condition in way:
        found = found * truth(condition, parties)[0]
    return found


def _square(expr: Expr) -> int | None:
    return None if expr.most is None else expr.most**2


# --- what is asked for, and what is learnt ----------------------------------------------------------------------------


def _uses(query: Query, context: Context) -> frozenset[Use]:
    tables = dict(zip(context.parties, query.tables, strict=True))
    found: set[tuple[str, str | None, str, str]] = set()
    if query.where is not None:
        found |= set(columns_of(query.where, "filter"))
    for aggregate in query.aggregates:
        for arg in aggregate.args:
            found |= set(columns_of(arg, "rank" if aggregate.function in FUNCTIONS else "aggregate"))
        if aggregate.condition is not None:
            found |= set(columns_of(aggregate.condition, "filter"))
    for expr in query.groups:
        found |= set(columns_of(expr, "group"))
    for party, columns in zip(context.parties, query.join, strict=True):
        found |= {(party, None, column, "join") for column in columns}
    return frozenset(Use(party, table or tables[party], column, use) for party, table, column, use in found)


def _changed(context: Context, calls: tuple[Call, ...]) -> set[Opening]:
    """Whether columns that were uploaded before still have their values, to the side that keeps them."""
    keepers = {context.parties[1 - call.owner] for call in calls}
    return {Opening(f"query.{context.name}.changed", keeper) for keeper in keepers}


def _searches(context: Context, builder: Builder) -> set[Opening]:
    """What searches and counts of values tell: a value goes to the receivers and to the owner of its column."""
    found = {Opening(f"query.{context.name}.changed", context.parties[pick.owner]) for pick in builder.picks}
    for pick in builder.picks:
        found |= {Opening(pick.what, to) for to in {*context.to, context.parties[pick.owner]}}
    for one in builder.distincts:
        found.add(Opening(f"query.{context.name}.changed", context.parties[one.owner]))
        if one.values is None:
            found.add(Opening(f"query.{context.name}.values", context.parties[1 - one.owner]))
    return found


def _openings(context: Context, keys: tuple[GroupKey, ...], whats: tuple[str, ...], query: Query) -> set[Opening]:
    found = [Opening(what, to) for what in whats for to in context.to]
    if query.having is not None:
        found += [Opening(f"query.{context.name}.having", to) for to in context.to]
    if query.limit is not None and keys:
        found += [Opening(f"query.{context.name}.limit", to) for to in context.to]
    if context.min_rows > 1:  # where an earlier answer asks for it: `near`
        parts = ("history", "history.changed", "history.groups")
        found += [Opening(f"query.{context.name}.{part}", party) for part in parts for party in context.parties]
    for owner in (0, 1):
        ours = context.parties[owner]
        mine = [key for key in keys if key.owner == owner]
        if mine and not _known(keys, owner):
            found.append(Opening(f"query.{context.name}.groups", context.parties[1 - owner]))
            if ours not in context.to:
                found.append(Opening(f"query.{context.name}.shown", ours))
            found += [Opening(f"query.{context.name}.labels", to) for to in context.to if to != ours]
    return set(found)


def _read_alone(query: Query, context: Context, builder: Builder) -> list[str]:
    """Further tables that an owner reads by itself, of all their rows, whether aligned or not."""
    lines = []
    for party, table, sources in zip(context.parties, query.tables, builder.sources, strict=True):
        found = reads([source.expr for source in sources], table)
        lines += [f"{party} reads all of its table {further} by itself" for further in found.there]
        for unique in found.unique:
            columns = ", ".join(unique.columns)
            lines.append(f"the statement ends with an error where {columns} is not unique in {party}.{unique.table}")
    return lines


def _explain(
    context: Context, builder: Builder, whats: tuple[str, ...], having: Condition | None, limit: Limit | None
) -> list[str]:
    min_rows = max(context.min_rows, 1)
    lines = [f"{context.rows} aligned rows at most, min_rows {min_rows}"]
    for to in context.to:
        names = [what.removeprefix(f"query.{context.name}.") for what in whats]
        lines += [f"{to} learns {told}" for told in learnt(names)]
    for owner in (0, 1):
        mine = [key.name for key in builder.keys if key.owner == owner]
        if mine and not _known(builder.keys, owner):
            ours, theirs = context.parties[owner], context.parties[1 - owner]
            enough = f" of at least {min_rows} rows" if min_rows > 1 else ""
            lines.append(f"{theirs} learns how many groups{enough} {', '.join(mine)} makes, rounded up to a power of 4")
            if ours not in context.to:
                lines.append(f"{ours} learns which groups are shown, not their values")
            if theirs in context.to:
                lines.append(f"{theirs} learns the values of {', '.join(mine)} of shown groups")
    digits = any(quantity.words > 1 for quantity in builder.quantities)
    if builder.tests:
        count = len(builder.tests)
        lines.append(
            f"{count} comparison{'s' * (count > 1)} a row of columns of both parties, on shares, about"
            f" {tests_bytes(builder.tests, context.rows) / 1e6:.1f} MB: nobody learns which rows fulfil them"
        )
    for pick in builder.picks:
        searched, name = context.parties[pick.owner], pick.what.removeprefix(f"query.{context.name}.")
        lines.append(f"{name} is searched in {pick.bits} steps, on shares of counts: one bit of it is opened in each")
        if searched not in context.to:
            lines.append(f"{searched} learns {name} too, and in which groups it is hidden: its column is searched")
    if any(distinct.values is None for distinct in builder.distincts):
        lines.append("COUNT(DISTINCT): the other party learns how many values a column has, rounded up to a power of 4")
    if digits:
        lines.append("sums over 64 bits are joined from digits, on shares")
    if limit is not None and builder.keys:
        lines.append(
            f"LIMIT {limit.count} OFFSET {limit.offset} is decided on shares: of other groups nothing is opened"
        )
    if having is not None:
        tests = len(tests_of(having))
        lines.append(f"{' and '.join(context.to)} learns of each group whether it fulfils HAVING")
        lines.append(
            f"HAVING ({tests} comparisons a group) is decided on shares: of a group that it hides nothing is opened"
        )
    if min_rows > 1:
        lines.append(
            f"refused where its rows and those of an earlier answer differ by fewer than {min_rows}, as both learn:"
            " comparing takes more with every earlier statement, and is not predicted"
        )
        lines.append(f"numbers over fewer than {min_rows} rows stay hidden from both parties, by comparison on shares")
        if any(len(opened.gates) > 1 for opened in builder.opened):
            lines.append(f"so do numbers that take in fewer than {min_rows} rows by one arm of CASE or a condition")
    return lines
