"""Numbers of one party's whole tables: which two of them, over nearly the same rows, would show the value of a few.

A SELECT among the expressions is a number that its owner computes alone and shows to nobody; but an answer may say
what it is, by a sum over it or by conditions on it. So two numbers of one table whose rows differ by fewer than
min_rows, and not by none, are refused like two joint answers (`mpc.sql.near`). The owner finds that out by itself, over
its own table. Sums over many rows of a further table for each row here are such numbers, too: the rows here may be the
same, and those there differ by one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from mpc.sql.entering import ways
from mpc.sql.expr import Expr
from mpc.sql.lookups import TRUE, Reads, all_of, parts_of, reads
from mpc.sql.render import from_text, further_name, quoted, render
from mpc.sql.types import Plan
from party.errors import UsageError

__all__ = ["PAIRS", "Apart", "apart"]

PAIRS = 1000  # of one statement with itself and what was answered before


@dataclass(frozen=True)
class Apart:
    """A SELECT that gives a row where two sets of rows of a table differ by few, and what must be read for it."""

    select: str
    reads: Reads


Rows = tuple[str, Expr]  # the table, and the condition that its rows fulfil


def apart(plans: Sequence[Plan], earlier: Iterable[Plan], party: str, peer: str) -> tuple[Apart, ...]:
    """What a party has to ask its own tables before the peer is told the answers of these plans, after earlier ones."""
    ours = list(dict.fromkeys(rows for plan in plans if peer in plan.to for rows in _told(plan, party)))
    others = dict.fromkeys(rows for plan in earlier if peer in plan.to for rows in _told(plan, party))
    known = [rows for rows in others if rows not in ours]
    pairs = [(one, other) for place, one in enumerate(ours) for other in (*ours[:place], *known) if one[0] == other[0]]
    if len(pairs) > PAIRS:
        raise UsageError(
            f"{len(pairs)} pairs of numbers of whole tables would have to be compared, at most {PAIRS} are",
            hint="ask for fewer different SELECTs among the expressions, or begin a new alignment with `--realign`",
        )
    return tuple(_pair(one, other, plans[0]) for one, other in pairs)


def _told(plan: Plan, party: str) -> Iterator[Rows]:
    """The rows that enter each number of a whole table, in each of their ways."""
    index = plan.parties.index(party)
    for expr in parts_of(source.expr for source in plan.sources[index]):
        if expr.op == "scalar":
            table, condition, value = expr.args[:3]
            name, function = str(table.value), expr.value
        elif expr.op == "looked" and expr.args[0].op == "grouped" and expr.args[1].op == "total":
            row, total = expr.args
            name, condition, (value,), function = str(row.value), row.args[0], total.args, total.value
        else:
            continue
        every = ways(value, zero=function in ("min", "max", "count")) if value != TRUE else ((),)
        for way in every or ((),):
            yield name, all_of([part for part in (condition, *way) if part != TRUE])


def _pair(one: Rows, other: Rows, plan: Plan) -> Apart:
    table, first, second = one[0], one[1], other[1]
    rows = from_text(quoted(further_name(table)), [first, second])
    sets = f"SELECT ({render(first)}) IS TRUE AS a, ({render(second)}) IS TRUE AS b FROM {rows}"  # noqa: S608  # our own tree
    least = plan.min_rows
    enough = [f"count(*) FILTER (WHERE {side}) >= {least}" for side in "ab"]
    few = f"count(*) FILTER (WHERE a <> b) BETWEEN 1 AND {least - 1}"
    select = f"SELECT 1 FROM ({sets}) HAVING {' AND '.join((*enough, few))}"  # noqa: S608
    whole = Expr("further", "null", value=table)
    return Apart(select, reads([Expr("scalar", "bool", (whole, first, second))], ""))
