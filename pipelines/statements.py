"""SQL text before it is planned: split into statements, and which tables of which parties it names."""

from __future__ import annotations

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError
from sqlglot.tokens import TokenType  # type: ignore[attr-defined]  # it is where the documentation has it

from party.errors import UsageError

__all__ = ["keeper_of", "split_statements", "tables_of"]

_DIALECT = "duckdb"


def split_statements(text: str) -> list[str]:
    """The statements of a text, split at semicolons outside of quotes and comments; UsageError if it cannot be read."""
    found, start = [], 0
    try:
        tokens = sqlglot.tokenize(text, read=_DIALECT)
    except SqlglotError as error:
        raise _unreadable(error) from None
    for token in tokens:
        if token.token_type == TokenType.SEMICOLON:
            found.append(text[start : token.start])
            start = token.end + 1
    found.append(text[start:])
    return [statement.strip() for statement in found if statement.strip()]


def tables_of(sql: str) -> dict[str, str]:
    """party -> table, for every `party.table` named; UsageError when it cannot be read or names two of one party."""
    found: dict[str, str] = {}
    for table in _tree(sql).find_all(exp.Table):
        if not table.db:
            raise UsageError(
                f"the table {table.name!r} names no party", hint="write party.table, such as bank.customers"
            )
        if found.setdefault(table.db, table.name) != table.name:
            raise UsageError(f"a query reads one table of {table.db}", hint="ask two queries")
    return found


def keeper_of(sql: str) -> str | None:
    """The party whose rows without a match stay, by LEFT or RIGHT JOIN; None for an inner join, and for what `mpc.sql`
    will refuse."""
    tree = _tree(sql)
    source, joins = tree.args.get("from_"), tree.args.get("joins") or []
    if source is None or len(joins) != 1:
        return None
    kept = {"LEFT": source.this, "RIGHT": joins[0].this}.get(joins[0].args.get("side") or "")
    return kept.db or None if isinstance(kept, exp.Table) else None


def _tree(sql: str) -> exp.Expr:
    try:
        return sqlglot.parse_one(sql, dialect=_DIALECT)
    except SqlglotError as error:
        raise _unreadable(error) from None
    except RecursionError:
        raise UsageError("the statement is nested too deeply") from None


def _unreadable(error: SqlglotError) -> UsageError:
    told = (getattr(error, "errors", None) or [{}])[0]
    line = told.get("line")
    return UsageError(
        "this SQL cannot be read"
        + (f": line {line}, column {told.get('col')}: {told.get('description')}" if line else ""),
        hint="one SELECT ... FROM a JOIN b ON ...",
    )
