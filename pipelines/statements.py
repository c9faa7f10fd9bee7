"""SQL text before it is planned: split into statements, and which columns of a party it names."""

from __future__ import annotations

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError
from sqlglot.tokens import TokenType  # type: ignore[attr-defined]  # it is where the documentation has it

from party.errors import UsageError

__all__ = ["columns_named", "split_statements"]

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


def columns_named(sql: str, party: str) -> frozenset[str]:
    """The columns that a statement names with a table of this party, by alias or as party.table."""
    try:
        tree = sqlglot.parse_one(sql, dialect=_DIALECT)
    except SqlglotError as error:
        raise _unreadable(error) from None
    except RecursionError:
        raise UsageError("the statement is nested too deeply") from None
    aliases = {table.alias_or_name.lower() for table in tree.find_all(exp.Table) if table.db == party}
    return frozenset(column.name for column in tree.find_all(exp.Column) if column.table.lower() in aliases)


def _unreadable(error: SqlglotError) -> UsageError:
    told = (getattr(error, "errors", None) or [{}])[0]
    line = told.get("line")
    return UsageError(
        "this SQL cannot be read"
        + (f": line {line}, column {told.get('col')}: {told.get('description')}" if line else ""),
        hint="one SELECT ... FROM a JOIN b ON ...",
    )
