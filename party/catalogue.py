"""What each side tells the other about its tables before anything else: names, types, ranges, grants; never a value.

A catalogue lists only columns with at least one grant towards that peer. Both sides plan from the same two
catalogues, so their plans agree.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Catalogue", "Column", "Table", "Type"]

Type = Literal["integer", "decimal", "float", "string", "bool", "date", "timestamp"]


@dataclass(frozen=True)
class Column:
    """One column. `low` and `high` are declared bounds in units of 10**-scale; `domain` the declared values;
    `nullable`: whether a value may be missing."""

    name: str
    type: Type
    scale: int = 0
    precision: int = 18
    low: int | None = None
    high: int | None = None
    domain: tuple[str | int | bool, ...] | None = None
    normalise: str = "text"
    grants: frozenset[str] = frozenset()
    nullable: bool = True


@dataclass(frozen=True)
class Table:
    """One table: its keys in the order they are tried (each a tuple of columns), its rows to two digits, and what a
    repeated key means: an error, its first row, or each of them."""

    name: str
    key: tuple[tuple[str, ...], ...]
    columns: tuple[Column, ...]
    rows: int
    duplicates: str = "error"

    def column(self, name: str) -> Column | None:
        """The column of this name, if it is granted."""
        return next((column for column in self.columns if column.name == name), None)


@dataclass(frozen=True)
class Catalogue:
    """One party's tables as one peer may see them."""

    party: str
    tables: tuple[Table, ...]
    min_rows: int = 1
    min_size: int = 1
    normalisation: int = 1

    def table(self, name: str) -> Table | None:
        """The table of this name, if any of its columns is granted."""
        return next((table for table in self.tables if table.name == name), None)
