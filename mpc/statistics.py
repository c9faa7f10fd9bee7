"""Statistics of aligned columns, on the same plans as SQL: count sum mean variance std covariance correlation.

NULLs are left out: per column for count, sum, mean, variance and std (ddof 1); pairwise for covariance (ddof 1) and
correlation, as pandas does, so that an entry [i][j] takes the rows where both columns have a value. min_rows counts the
rows of each number by itself; a number of fewer rows is None.
Source: docs/protocols/08-statistics-and-sql.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypedDict

from sqlglot import exp

from mpc.engine import Engine
from mpc.sql.bind import bind
from mpc.sql.execute import execute as execute_plan
from mpc.sql.local import LocalColumns
from mpc.sql.plan import build
from mpc.sql.result import Cell
from mpc.sql.scope import Scope
from mpc.sql.types import Aggregate, Context, Expr, Output, Plan, Post, Query
from party.errors import UsageError

__all__ = ["KINDS", "Matrix", "StatisticsPlan", "Value", "execute", "plan"]

KINDS = ("count", "sum", "mean", "variance", "std", "covariance", "correlation")
_FUNCTIONS = {
    "count": "count",
    "sum": "sum",
    "mean": "avg",
    "variance": "var_samp",
    "std": "stddev_samp",
    "covariance": "covar_samp",
    "correlation": "corr",
}
_PAIRS = ("covariance", "correlation")
_COLUMNS = 64


class Matrix(TypedDict):
    """A covariance or correlation matrix with the names of its rows and columns."""

    columns: list[str]
    matrix: list[list[Cell]]


Value = Cell | dict[str, Cell] | Matrix


@dataclass(frozen=True)
class StatisticsPlan:
    """A plan, and how its one row turns into what was asked: (kind, columns, names of the outputs)."""

    plan: Plan
    parts: tuple[tuple[str, tuple[str, ...]], ...]


def plan(statistics: Mapping[str, Sequence[str]], tables: Mapping[str, str], context: Context) -> StatisticsPlan:
    """Plan statistics: kind -> columns named party.column of the aligned tables (party -> table name).

    Raises UsageError (exit 2): an unknown kind or column, a column that is no number, a sum that would overflow.
    """
    aggregates: list[Aggregate] = []
    outputs: list[Output] = []
    parts: list[tuple[str, tuple[str, ...]]] = []
    scope = Scope.of_tables(tables, context.catalogues, context.unmatched)
    for kind, names in statistics.items():
        if kind not in _FUNCTIONS:
            raise UsageError(f"no statistic {kind!r}", hint=f"one of {', '.join(KINDS)}")
        if not names or len(set(names)) != len(names) or len(names) > _COLUMNS or (kind in _PAIRS and len(names) < 2):
            raise UsageError(f"{kind} wants {'two or more' if kind in _PAIRS else 'one or more'} different columns")
        columns = {name: _column(name, kind, scope) for name in names}
        for label, args in _calls(kind, columns):
            aggregates.append(Aggregate(_FUNCTIONS[kind], args))
            outputs.append(Output(label, Post("aggregate", value=len(aggregates) - 1)))
        parts.append((kind, tuple(names)))
    keys = []
    for catalogue in context.catalogues:
        table = catalogue.table(tables[catalogue.party])
        keys.append(tuple(name for key in table.key for name in key) if table is not None else ())
    query = Query(
        tables=(tables[context.parties[0]], tables[context.parties[1]]),
        where=None,
        groups=(),
        group_names=(),
        aggregates=tuple(aggregates),
        outputs=tuple(outputs),
        join=(keys[0], keys[1]),
    )
    return StatisticsPlan(build(query, context), tuple(parts))


def execute(
    planned: StatisticsPlan, columns: LocalColumns, engine: Engine, alignment: bytes | None = None
) -> dict[str, Value] | None:
    """Run our half; at a receiver {kind: number | {column: number} | {"columns": [...], "matrix": [[...]]}}, else None.

    One column gives the number itself. Decimals are strings. What the peer learns, rounds and bytes: as `mpc.sql`.
    """
    result = execute_plan(planned.plan, columns, engine, alignment)
    if result is None:
        return None
    (row,) = result.rows
    found: dict[str, Value] = {}
    for kind, names in planned.parts:
        if kind in _PAIRS:
            matrix: list[list[Cell]] = [[row[_label(kind, *sorted((a, b)))] for b in names] for a in names]
            found[kind] = Matrix(columns=list(names), matrix=matrix)
        elif len(names) == 1:
            found[kind] = row[_label(kind, names[0])]
        else:
            found[kind] = {name: row[_label(kind, name)] for name in names}
    return found


def _label(kind: str, *names: str) -> str:
    return f"{kind}({', '.join(names)})"


def _calls(kind: str, columns: Mapping[str, Expr]) -> list[tuple[str, tuple[Expr, ...]]]:
    """The aggregates of one kind: one a column, or one an unordered pair, itself included."""
    if kind not in _PAIRS:
        return [(_label(kind, name), (expr,)) for name, expr in columns.items()]
    names = sorted(columns)
    pairs = [(a, b) for i, a in enumerate(names) for b in names[i:]]
    return [(_label(kind, a, b), (columns[a], columns[b])) for a, b in pairs]


def _column(name: str, kind: str, scope: Scope) -> Expr:
    party, dot, column = name.partition(".")
    if not dot or party not in scope.aliases:
        raise UsageError(f"{name!r} names no column", hint="columns are named party.column")
    expr = bind(exp.column(exp.to_identifier(column), table=exp.to_identifier(party)), scope)
    if kind == "count":
        return expr
    if expr.kind == "float":
        raise UsageError(
            f"{kind} of {name}, a float", hint="declare the column decimal(p,s) in party.yaml: sums are exact"
        )
    if expr.kind not in ("integer", "decimal", "bool"):
        raise UsageError(f"{kind} of {name}, a {expr.kind}", hint="statistics take numbers and booleans")
    return expr
