"""The shapes of results: numbers, matrices, and tables that a data frame takes as they are."""

from __future__ import annotations

from typing import NotRequired, TypedDict

from mpc.sql.expr import Expr
from mpc.sql.result import Cell, Exact, shown

__all__ = ["Details", "Matrix", "Table", "Value", "in_units"]


class Matrix(TypedDict):
    """A covariance or correlation matrix with the names of its rows and columns."""

    columns: list[str]
    matrix: list[list[Cell]]


class Details(TypedDict):
    """What a table's numbers were made of."""

    columns: list[str]
    rows: list[list[Cell]]


class Table(TypedDict):
    """Names of columns, and rows of cells in their order; a row for each column that the job names."""

    columns: list[str]
    rows: list[list[Cell]]
    details: NotRequired[Details]


Value = Cell | dict[str, Cell] | Matrix | Table


def in_units(value: Cell, expr: Expr) -> Cell:
    """A whole number of units of a column as it is shown: a decimal is text."""
    return None if value is None else shown(Exact(int(value), expr.scale, expr.kind == "decimal"))
