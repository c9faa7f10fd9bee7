"""What a job asks of one kind of statistic: columns, a column to split the rows by, and how to cut them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, fields
from decimal import Decimal
from typing import Any

__all__ = ["BINNED", "BINS", "KINDS", "MOMENTS", "QUARTILES", "Wanted"]

MOMENTS = ("count", "sum", "mean", "variance", "std", "covariance", "correlation", "vif", "quantiles")
_OPTIONS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {  # kind: required, possible besides
    **dict.fromkeys(MOMENTS, ((), ())),
    "quantiles": ((), ("at",)),
    "histogram": ((), ("bins", "edges")),
    "chi_squared": (("by",), ()),
    "t_test": (("by",), ()),
    "auc": (("by",), ()),
    "ks": (("by",), ("bins",)),
    "woe": (("by",), ("bins", "min_share", "merge")),
    "stability": (("by",), ("bins", "min_share")),
}
KINDS = tuple(_OPTIONS)
BINNED = ("ks", "woe", "stability")  # bins of equal frequency, cut by the column's owner
BINS = 10  # unless the job says otherwise
QUARTILES = ("0.25", "0.5", "0.75")
_PAIRS = ("covariance", "correlation", "vif")
_COLUMNS = 64
_BINS = (2, 64)
_FRACTION = re.compile(r"[01](\.[0-9]{1,6})?")
_EDGE = re.compile(r"-?[0-9]{1,18}(\.[0-9]{1,18})?")


@dataclass(frozen=True)
class Wanted:
    """columns as party.column; the rest is None, or empty, where the job does not say it.

    by: the column that splits the rows. bins: of equal frequency, or equal width for a histogram. edges: the cuts of a
    histogram, as decimal text. min_share: the smallest part of the rows in a bin. merge: neighbouring bins whose
    difference is not significant at this level become one. at: the fractions of quantiles, as decimal text.
    """

    columns: tuple[str, ...]
    by: str | None = None
    bins: int | None = None
    edges: tuple[str, ...] = ()
    min_share: float | None = None
    merge: float | None = None
    at: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Every column that is named."""
        return self.columns if self.by is None else (*self.columns, self.by)

    def complaints(self, kind: str) -> Iterator[tuple[str, str, str | None]]:
        """Each thing wrong: the key it stands under ("" for the whole), why, and a hint."""
        if kind not in _OPTIONS:
            yield "", f"no statistic {kind!r}", "one of " + ", ".join(KINDS)
            return
        required, possible = _OPTIONS[kind]
        for key, value in self.options().items():
            if key not in required + possible:
                yield key, f"{kind} takes no `{key}`", f"it takes {', '.join(('columns', *required, *possible))}"
            elif value is None:
                yield key, "says nothing", None
        for key in required:
            if getattr(self, key) is None:
                yield "", f"{kind} wants `{key}`", f"{kind}: {{columns: [...], {key}: party.column}}"
        least = 2 if kind in _PAIRS else 1
        if not least <= len(self.columns) <= _COLUMNS or len(set(self.columns)) < len(self.columns):
            yield (
                "",
                f"wants {'two or more' if least > 1 else 'one or more'} different columns, at most {_COLUMNS}",
                None,
            )
        if self.by is not None and self.by in self.columns:
            yield "by", f"{self.by} cannot be split by itself", None
        if self.bins is not None and self.edges:
            yield "edges", "has either `bins` or `edges`", None
        if self.bins is not None and not _BINS[0] <= self.bins <= _BINS[1]:
            yield "bins", f"is between {_BINS[0]} and {_BINS[1]}", f"{BINS} is the default"
        if not all(_EDGE.fullmatch(edge) for edge in self.edges) or len(self.edges) >= _BINS[1]:
            yield "edges", f"are numbers in digits, fewer than {_BINS[1]}", "such as [0, 99.5, 1000]"
        elif any(Decimal(a) >= Decimal(b) for a, b in zip(self.edges, self.edges[1:], strict=False)):
            yield "edges", "must ascend", None
        if not all(_FRACTION.fullmatch(one) and Decimal(one) <= 1 for one in self.at) or len(self.at) > 16:
            yield (
                "at",
                "are fractions between 0 and 1 of at most 6 digits, 1 to 16 of them",
                "such as [0.25, 0.5, 0.75]",
            )
        elif len({Decimal(one) for one in self.at}) < len(self.at):
            yield "at", "names a fraction twice", None
        if self.min_share is not None and not 0 <= self.min_share <= 0.5:
            yield "min_share", "is a part of the rows, between 0 and 0.5", "0.05 is five in a hundred"
        if self.merge is not None and not 0 < self.merge < 1:
            yield "merge", "is a level of significance, between 0 and 1", "0.05 is common"

    def options(self) -> dict[str, Any]:
        """What is said besides the columns."""
        said = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "columns"}
        return {key: value for key, value in said.items() if value not in (None, ())}

    def canonical(self, kind: str) -> list[Any]:
        """As both sides digest it: kind, columns and, where there are some, options."""
        options = {key: list(value) if isinstance(value, tuple) else value for key, value in self.options().items()}
        return [kind, list(self.columns), *([options] if options else [])]

    @classmethod
    def from_canonical(cls, kind: object, columns: object, options: object = None) -> tuple[str, Wanted]:
        """Of a peer's words: ValueError or TypeError where they are none of `canonical`'s."""
        given = {} if options is None else options
        if not isinstance(kind, str) or not isinstance(given, dict) or (options is not None and not given):
            raise ValueError("not a statistic")
        known = {field.name for field in fields(cls)} - {"columns"}
        if not set(given) <= known:
            raise ValueError("an unknown option")
        bins, by = given.get("bins"), given.get("by")
        if (bins is not None and type(bins) is not int) or (by is not None and not isinstance(by, str)):
            raise ValueError("not an option's type")
        share, merge = (_part(given.get(key)) for key in ("min_share", "merge"))
        edges, at = (_texts(given.get(key, [])) for key in ("edges", "at"))
        return kind, cls(_texts(columns), by, bins, edges, share, merge, at)


def _texts(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) and len(item) <= 20_000 for item in value):
        raise ValueError("not a list of texts")
    return tuple(value)


def _part(value: object) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("not a number")
    return float(value)
