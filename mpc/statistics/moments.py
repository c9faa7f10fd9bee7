"""Counts, sums, means, variances, covariances, correlations: one row of aggregates, one plan for all of an item.

NULLs are left out: per column for count, sum, mean, variance and std (ddof 1); pairwise for covariance (ddof 1) and
correlation, as pandas does, so that an entry [i][j] takes the rows where both columns have a value. The variance
inflation factors of several columns are the diagonal of the inverse of their correlation matrix. Quantiles lie between
the two nearest values, as numpy's do. min_rows counts the rows of each number by itself; of fewer rows it is None.
Source: docs/protocols/08-statistics-and-sql.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from mpc.sql import numbers
from mpc.sql.expr import Expr
from mpc.sql.result import Cell, Result
from mpc.sql.types import Aggregate, Query
from mpc.statistics.setting import Setting
from mpc.statistics.tables import Matrix, Table, Value
from mpc.statistics.wanted import QUARTILES, Wanted

__all__ = ["close", "query"]

_FUNCTIONS = {
    "count": "count",
    "sum": "sum",
    "mean": "avg",
    "variance": "var_samp",
    "std": "stddev_samp",
    "covariance": "covar_samp",
    "correlation": "corr",
    "vif": "corr",
    "quantiles": "quantile_cont",
}
_PAIRS = ("covariance", "correlation", "vif")
_SINGULAR = 1e-11  # smallest eigenvalue of a correlation matrix that is still inverted


def query(setting: Setting, asked: Mapping[str, Wanted]) -> Query:
    """One query without groups for all kinds of moments."""
    aggregates: dict[str, Aggregate] = {}
    for kind, wanted in asked.items():
        if kind == "count":
            columns = {name: setting.column(name) for name in wanted.columns}
        else:
            columns = {name: setting.number(name, kind) for name in wanted.columns}
        for label, args in _quantiles(wanted, columns) if kind == "quantiles" else _calls(kind, columns):
            aggregates[label] = Aggregate(_FUNCTIONS[kind], args)
    return setting.query({}, aggregates, ())


def close(kind: str, wanted: Wanted, result: Result) -> Value:
    """A number, {column: number}, a matrix, or the table of variance inflation factors."""
    (row,) = result.rows
    names = wanted.columns
    if kind == "quantiles":
        told: list[list[Cell]] = [
            [name, float(at), row[_label(kind, name, at)]] for name in names for at in _at(wanted)
        ]
        return Table(columns=["column", "at", "quantile"], rows=told)
    if kind in _PAIRS:
        matrix: list[list[Cell]] = [[row[_label(kind, *sorted((a, b)))] for b in names] for a in names]
        if kind == "vif":
            return Table(columns=["column", "vif"], rows=[list(pair) for pair in zip(names, _vif(matrix), strict=True)])
        return Matrix(columns=list(names), matrix=matrix)
    if len(names) == 1:
        return row[_label(kind, names[0])]
    return {name: row[_label(kind, name)] for name in names}


def _at(wanted: Wanted) -> tuple[str, ...]:
    return wanted.at or QUARTILES


def _label(kind: str, *names: str) -> str:
    return f"{'correlation' if kind == 'vif' else kind}({', '.join(names)})"


def _calls(kind: str, columns: Mapping[str, Expr]) -> list[tuple[str, tuple[Expr, ...]]]:
    """The aggregates of one kind: one a column, or one an unordered pair, itself included."""
    if kind not in _PAIRS:
        return [(_label(kind, name), (expr,)) for name, expr in columns.items()]
    names = sorted(columns)
    pairs = [(a, b) for i, a in enumerate(names) for b in names[i:]]
    return [(_label(kind, a, b), (columns[a], columns[b])) for a, b in pairs]


def _quantiles(wanted: Wanted, columns: Mapping[str, Expr]) -> list[tuple[str, tuple[Expr, ...]]]:
    return [
        (_label("quantiles", name, at), (x, numbers.literal(at))) for name, x in columns.items() for at in _at(wanted)
    ]


def _vif(matrix: Sequence[Sequence[Cell]]) -> list[Cell]:
    """The diagonal of the inverse. A column without a correlation with itself (constant, or too few rows) has none and
    takes no part; None for all where one column is a combination of others, or another correlation is missing."""
    kept = [place for place, row in enumerate(matrix) if row[place] is not None]
    found: list[Cell] = [None] * len(matrix)
    part = [[matrix[a][b] for b in kept] for a in kept]
    if len(kept) < 2 or any(cell is None for row in part for cell in row):
        return found
    correlations = np.array(part, dtype=np.float64)
    if np.linalg.eigvalsh(correlations)[0] < _SINGULAR:
        return found
    for place, value in zip(kept, np.diag(np.linalg.inv(correlations)).tolist(), strict=True):
        found[place] = float(value)
    return found
