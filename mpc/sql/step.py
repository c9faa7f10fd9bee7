"""An owner's local step: one SELECT over its aligned table, and the checks of its further tables before it."""

from __future__ import annotations

from collections.abc import Sequence

from mpc.sql.expr import Expr
from mpc.sql.lookups import Unique
from mpc.sql.render import constant, from_text, further_name, quoted, reach, render
from mpc.sql.types import GroupKey, Source
from party.errors import UsageError

__all__ = ["TABLE", "local_select", "repeated_select"]

TABLE = "aligned"  # the name under which the owner's aligned table is evaluated


def local_select(sources: Sequence[Source], keys: Sequence[GroupKey]) -> str:
    """The SELECT of one owner: one column a source, by name; the rows and their order stay as they are."""
    by_expr = {key.expr: key for key in keys}
    parts = []
    for source in sources:
        if source.use == "code":
            text = _code(source.expr, by_expr[source.expr])
        elif source.use == "label" and source.expr.kind in ("date", "timestamp"):
            text = f"CAST({render(source.expr)} AS VARCHAR)"
        elif source.use == "label" and source.expr.kind in ("integer", "decimal"):
            if reach(source.expr) > 2**63:
                raise UsageError(
                    "a group key, or a number in COUNT(DISTINCT), would overflow 64 bits",
                    hint="declare a range of its columns in party.yaml",
                )
            text = f"CAST({render(source.expr)} AS BIGINT)"
        elif source.use == "present":
            text = f"CASE WHEN {render(source.expr)} IS NULL THEN NULL ELSE CAST(1 AS BIGINT) END"
        elif source.expr.kind in ("bool", "integer", "decimal", "null"):
            text = f"CAST({render(source.expr)} AS BIGINT)"
        else:
            text = render(source.expr)
        parts.append(f"{text} AS {source.name}")
    listed = ", ".join(parts) or "CAST(1 AS BIGINT) AS c0"
    return f"SELECT {listed} FROM {from_text(TABLE, [source.expr for source in sources])}"  # noqa: S608  # our own tree


def _code(expr: Expr, key: GroupKey) -> str:
    text = render(expr)
    arms = [f"WHEN {text} IS NULL THEN NULL"]
    for place, value in enumerate(key.domain or ()):
        arms.append(f"WHEN {text} = {constant(value)} THEN {place}")
    return f"CAST(CASE {' '.join(arms)} ELSE -1 END AS BIGINT)"


def repeated_select(unique: Unique) -> str:
    """One row where keys that must be unique are not, none else."""
    keys = [f"k{place}" for place in range(len(unique.keys))]
    listed = ", ".join(f"{render(key)} AS {name}" for key, name in zip(unique.keys, keys, strict=True))
    rows = f"SELECT {listed} FROM {quoted(further_name(unique.table))}"  # noqa: S608
    present = " AND ".join(f"{name} IS NOT NULL" for name in keys)
    return f"SELECT 1 FROM ({rows}) WHERE {present} GROUP BY {', '.join(keys)} HAVING count(*) > 1 LIMIT 1"  # noqa: S608
