"""The queries behind the statistics of one column against another: bins times classes, or classes alone.

Each is one GROUP BY query whose keys are the column's bins or categories, and the two groups, or the categories, of the
other column. No cell of fewer than min_rows rows is opened, nor what would tell one by the totals that a side knows of
its own column: a bin is shown in both groups or in none, a table of categories whole or not at all.
"""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

from mpc.sql import numbers
from mpc.sql.expr import Expr, owners
from mpc.sql.ordered import SHARE_UNIT
from mpc.sql.types import Aggregate, Plan, Query
from mpc.statistics.setting import Setting, known, required, split
from mpc.statistics.wanted import BINNED, BINS, Wanted
from party.errors import UsageError

__all__ = ["categorical", "cuts", "hides", "query", "says"]

COUNT = Aggregate("count")


def query(kind: str, name: str, wanted: Wanted, setting: Setting) -> Query:
    """The query of one kind for one column."""
    if kind == "histogram":
        return _histogram(name, wanted, setting)
    by = str(wanted.by)
    if kind == "chi_squared":
        first, second = setting.category(name, kind), setting.category(by, kind)
        where = known(first, "group") + known(second, "group")
        return replace(setting.query({"value": first, "by": second}, {"rows": COUNT}, where), together="table")
    flag = setting.flag(by, kind)
    if kind == "t_test":
        x = setting.number(name, kind)
        aggregates = {"rows": COUNT, "sum": Aggregate("sum", (x,)), "variance": Aggregate("var_samp", (x,))}
        return setting.query({"class": split(flag)}, aggregates, known(x, "aggregate") + known(flag, "aggregate"))
    if kind == "auc":
        x = _ordered(name, kind, setting)
        (party,) = owners(flag)
        if party == setting.context.unmatched:
            raise UsageError(f"auc by {by}: rows that are kept without a match have no value of it")
        rank = Expr("rank", "integer", (x,), low=0, high=2 * max(setting.context.rows, 1))
        aggregates = {"rows": COUNT, "ranks": Aggregate("sum", (rank,))}
        return setting.query({"class": split(required(flag))}, aggregates, known(x, "rank"))
    found = _binned(kind, name, wanted, setting)
    apart = owners(setting.column(name)) != owners(flag)  # else one side knows every cell, and the other no total
    return replace(found, together="lines") if apart else found


def categorical(name: str, setting: Setting) -> bool:
    """Whether a column's own values are its bins: texts and booleans."""
    return setting.column(name).kind in ("string", "bool")


def _binned(kind: str, name: str, wanted: Wanted, setting: Setting) -> Query:
    flag = setting.flag(str(wanted.by), kind)
    labelled, classes = known(flag, "aggregate"), {"class": split(flag)}
    if kind != "ks" and categorical(name, setting):
        return setting.query({"value": setting.category(name, kind), **classes}, {"rows": COUNT}, labelled)
    x = _ordered(name, kind, setting)
    sizes = (wanted.bins or BINS, max(setting.context.min_rows, 1), round((wanted.min_share or 0) * SHARE_UNIT))
    args = (x, *(Expr("literal", "integer", value=size) for size in sizes))
    keys = {word: Expr(op, "integer", args) for word, op in (("bin", "bin"), ("above", "bin_above"), ("to", "bin_to"))}
    if kind == "ks":
        where = known(x, "rank")
    else:
        where = (Expr("binned", "bool", args, low=0, high=1),) if known(x, "rank") else ()
    found = setting.query(keys | classes, {"rows": COUNT}, where + labelled)
    names = (f"bin of {name}", "its lower edge", "its upper edge", f"{wanted.by}")
    return replace(found, group_names=names)


def _ordered(name: str, kind: str, setting: Setting) -> Expr:
    x = setting.column(name)
    if x.kind not in ("integer", "decimal"):
        hint = "declare the column decimal(p,s) in party.yaml" if x.kind == "float" else f"{kind} orders numbers"
        raise UsageError(f"{kind} of {name}, a {x.kind}", hint=hint)
    return x


# --- histograms -------------------------------------------------------------------------------------------------------


def _histogram(name: str, wanted: Wanted, setting: Setting) -> Query:
    x = setting.column(name)
    if x.kind not in ("integer", "decimal", "float"):
        raise UsageError(f"histogram of {name}, a {x.kind}", hint="of a category, use SQL: GROUP BY")
    args: list[Expr] = []
    for place, edge in enumerate(cuts(name, wanted, setting)):
        bound = _literal(edge)
        left, right = (x, bound) if x.kind == "float" else numbers.common(x, bound)
        args += [Expr("<=", "bool", (left, right), low=0, high=1), _whole(place)]
    case = Expr("case", "integer", (*args, _whole(len(args) // 2)), low=0, high=len(args) // 2)
    key = Expr("granted", "integer", (case,), value="group", low=case.low, high=case.high)
    return setting.query({"bin": key}, {"rows": COUNT}, known(x, "group"))


def cuts(name: str, wanted: Wanted, setting: Setting) -> tuple[str, ...]:
    """Where a histogram is cut, as decimal text: the job's edges, or bins of equal width over the declared range."""
    if wanted.edges:
        return wanted.edges
    x = setting.column(name)
    if x.kind == "float" or x.low is None or x.high is None:
        raise UsageError(
            f"histogram of {name}: no range is declared for it", hint="say `edges: [...]`, or declare a range"
        )
    bins = wanted.bins or BINS
    units = [x.low + place * (x.high - x.low) // bins for place in range(1, bins)]
    return tuple(f"{Decimal(unit).scaleb(-x.scale):f}" for unit in dict.fromkeys(units) if unit < x.high)


def _literal(text: str) -> Expr:
    found = numbers.literal(text.removeprefix("-"))
    return numbers.negate(found) if text.startswith("-") else found


def _whole(value: int) -> Expr:
    return Expr("literal", "integer", value=value, low=value, high=value)


# --- for `tally plan` -------------------------------------------------------------------------------------------------


def says(kind: str, name: str, wanted: Wanted, setting: Setting) -> str:
    """What one statistic of one column opens, in plain words."""
    told = f"{kind} of {name}" + (f" by {wanted.by}" if wanted.by else "")
    if kind == "histogram":
        edges = cuts(name, wanted, setting)
        return f"{told}: the rows of each of {len(edges) + 1} bins, cut at {', '.join(edges)}"
    if kind == "chi_squared":
        return f"{told}: the table of rows of both columns' values"
    if kind == "t_test":
        return f"{told}: rows, sum and sum of squares of {name} in each of both groups"
    if kind == "auc":
        return f"{told}: rows, and the sum of the ranks of {name}, in each of both groups"
    if kind in BINNED and (kind == "ks" or not categorical(name, setting)):
        return (
            f"{told}: the rows of each bin in each of both groups, and the bins' inner edges, which are values of"
            f" {name}; at most {wanted.bins or BINS} bins of equal frequency"
        )
    return f"{told}: the rows of each value of {name} in each of both groups"


def hides(plan: Plan) -> list[str]:
    """What of it stays hidden, beside numbers over few rows."""
    if plan.min_rows == 1 or plan.together == "cells":
        return []
    if plan.together == "table":
        return [f"the table is hidden if a cell of it has rows, but fewer than {plan.min_rows}"]
    return [
        f"a bin with fewer than {plan.min_rows} rows in either group is hidden, and the smallest other one with it"
        " where the hidden rows of a group would be fewer than that"
    ]
