"""Two columns compared: chi-squared test, t-tests, and the area under the ROC curve; closed forms of opened numbers.

Everything up to the last step is whole numbers and fractions; tail probabilities are floats.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction

from mpc.sql.result import Cell, Result
from mpc.statistics.distributions import chi_squared_tail, t_two_sided
from mpc.statistics.setting import Setting
from mpc.statistics.tables import Details, Table
from mpc.statistics.wanted import Wanted

__all__ = ["close"]

_COLUMNS = {
    "chi_squared": ["column", "by", "rows", "statistic", "dof", "p", "complete"],
    "t_test": [
        "column", "by", "rows_0", "rows_1", "mean_0", "mean_1", "std_0", "std_1",
        "welch_t", "welch_dof", "welch_p", "pooled_t", "pooled_dof", "pooled_p",
    ],
    "auc": ["column", "by", "rows_0", "rows_1", "auc", "gini"],
}  # fmt: skip


def close(kind: str, wanted: Wanted, results: Mapping[str, Result], setting: Setting) -> Table:
    """A row for each column; for chi_squared the tables of counts besides."""
    rows: list[list[Cell]] = []
    counts: list[list[Cell]] = []
    for name, result in results.items():
        found, cells = _ROWS[kind](result, setting.context.min_rows)
        rows.append([name, wanted.by, *found])
        counts += [[name, wanted.by, *cell] for cell in cells]
    table = Table(columns=list(_COLUMNS[kind]), rows=rows)
    if kind == "chi_squared":
        table["details"] = Details(columns=["column", "by", "value", "by_value", "rows", "expected"], rows=counts)
    return table


Row = tuple[list[Cell], list[list[Cell]]]


def _chi_squared(result: Result, min_rows: int) -> Row:
    """Pearson's test of independence, without a correction. The table is shown whole or not at all; a cell of it that
    is not there has no rows."""
    cells = {(row["value"], row["by"]): int(row["rows"] or 0) for row in result.rows}
    firsts, seconds = (list(dict.fromkeys(pair[place] for pair in cells)) for place in (0, 1))
    if not cells:
        return [None, None, None, None, min_rows == 1], []
    in_first = {a: sum(cells.get((a, b), 0) for b in seconds) for a in firsts}
    in_second = {b: sum(cells.get((a, b), 0) for a in firsts) for b in seconds}
    total = sum(cells.values())
    details: list[list[Cell]] = [
        [a, b, cells.get((a, b), 0), float(Fraction(in_first[a] * in_second[b], total))]
        for a in firsts
        for b in seconds
    ]
    if len(firsts) < 2 or len(seconds) < 2:
        return [total, None, None, None, True], details
    # sum (observed - expected)^2 / expected = total * (sum observed^2 / (row * column) - 1)
    squares = sum(Fraction(n * n, in_first[a] * in_second[b]) for (a, b), n in cells.items())
    statistic = float(total * (squares - 1))
    dof = (len(firsts) - 1) * (len(seconds) - 1)
    return [total, statistic, dof, chi_squared_tail(statistic, dof), True], details


def _t_test(result: Result, min_rows: int) -> Row:
    """Group 1 minus group 0, two-sided: Welch's form, and the form with one pooled variance."""
    groups = {row["class"]: row for row in result.rows}
    counts, means, variances = [], [], []
    for flag in (False, True):
        row = groups.get(flag)
        count = row["rows"] if row else 0 if min_rows == 1 else None
        counts.append(None if count is None else int(count))
        has = row is not None and bool(count) and row["sum"] is not None
        means.append(Fraction(str(row["sum"])) / int(count) if row and count and has else None)
        variances.append(float(row["variance"]) if row and row["variance"] is not None else None)
    shown: list[Cell] = [*counts, *(None if mean is None else float(mean) for mean in means)]
    shown += [None if variance is None else math.sqrt(variance) for variance in variances]
    (n0, n1), (m0, m1), (v0, v1) = counts, means, variances
    if n0 is None or n1 is None or m0 is None or m1 is None or v0 is None or v1 is None or not v0 + v1 > 0:
        return [*shown, *[None] * 6], []
    difference = float(m1 - m0)
    part0, part1 = v0 / n0, v1 / n1
    welch = difference / math.sqrt(part0 + part1)
    welch_dof = (part0 + part1) ** 2 / (part0**2 / (n0 - 1) + part1**2 / (n1 - 1))
    pooled_dof = n0 + n1 - 2
    pooled = difference / math.sqrt(((n0 - 1) * v0 + (n1 - 1) * v1) / pooled_dof * (1 / n0 + 1 / n1))
    shown += [welch, welch_dof, t_two_sided(welch, welch_dof), pooled, pooled_dof, t_two_sided(pooled, pooled_dof)]
    return shown, []


def _auc(result: Result, min_rows: int) -> Row:
    """The part of pairs of a row of group 1 and one of group 0 in which the first has the larger value; ties count
    half. With r the sum of the mid-ranks of group 1: (r - n1 (n1 + 1) / 2) / (n1 n0)."""
    groups = {row["class"]: row for row in result.rows}
    counts = [
        int(groups[flag]["rows"] or 0) if flag in groups else 0 if min_rows == 1 else None for flag in (False, True)
    ]
    zeros, ones = counts
    if not zeros or not ones:
        return [zeros, ones, None, None], []
    doubled = int(groups[True]["ranks"] or 0)  # twice the mid-ranks
    area = Fraction(doubled - ones * (ones + 1), 2 * ones * zeros)
    return [zeros, ones, float(area), float(2 * area - 1)], []


_ROWS = {"chi_squared": _chi_squared, "t_test": _t_test, "auc": _auc}
