"""Where in a statement a refusal points: line and column, found from the tokens that the parser kept.

An error meets its place on the way out: the innermost node that knows where it stands gives it (`placed`, `locate`),
and the reader of the text turns that into a line and a column (`StatementError.in_text`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, TypeVar, cast

from sqlglot import exp, tokenize
from sqlglot.errors import SqlglotError

from party.errors import UsageError

__all__ = ["GENERAL", "StatementError", "at", "locate", "located", "place_of", "placed", "word_at"]

GENERAL = "docs/reference/sql.md lists what a statement may hold"

Method = TypeVar("Method", bound=Callable[..., Any])


class StatementError(UsageError):
    """A construct that is refused. `start`: its first character; line and column, from 1, once the text is known."""

    def __init__(self, message: str, start: int, *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint or GENERAL)
        self.start = start
        self.line: int | None = None
        self.column: int | None = None

    def in_text(self, sql: str) -> StatementError:
        """The same with its line and column, in the message too; the first text counts."""
        if self.line is not None:
            return self
        before = sql[: self.start]
        line, column = before.count("\n") + 1, self.start - (before.rfind("\n") + 1) + 1
        found = StatementError(f"line {line}, column {column}: {self.message}", self.start, hint=self.hint)
        found.line, found.column = line, column
        return found


def place_of(node: exp.Expr) -> int | None:
    """The first character of a node's text, as far as its own words and names tell."""
    starts = [part.meta["start"] for part in node.walk() if "start" in part.meta]
    return min(starts, default=None)


def locate(error: UsageError, node: exp.Expr | None) -> UsageError:
    """The error with the place of this node, unless it has a place already, or the node knows none."""
    if isinstance(error, StatementError) or node is None:
        return error
    start = place_of(node)
    return error if start is None else StatementError(error.message, start, hint=error.hint)


@contextmanager
def at(start: int | None) -> Iterator[None]:
    """Gives what is refused inside this place, unless it has one already."""
    try:
        yield
    except UsageError as error:
        if start is None or isinstance(error, StatementError):
            raise
        raise StatementError(error.message, start, hint=error.hint) from None


@contextmanager
def located(sql: str) -> Iterator[None]:
    """Gives all that is refused inside its line and column in this text."""
    try:
        yield
    except RecursionError:
        raise StatementError("the statement is nested too deeply", 0).in_text(sql) from None
    except UsageError as error:
        told = error if isinstance(error, StatementError) else StatementError(error.message, 0, hint=error.hint)
        raise told.in_text(sql) from None


def placed(method: Method) -> Method:
    """Gives what a method over one node refuses the place of that node."""

    @wraps(method)
    def wrapped(self: Any, node: exp.Expr, *args: Any) -> Any:
        try:
            return method(self, node, *args)
        except UsageError as error:
            raise locate(error, node) from None

    return cast("Method", wrapped)


def word_at(sql: str, word: str, after: int = 0) -> int:
    """Where a keyword stands first behind a place; the place itself where it stands nowhere."""
    try:
        tokens = tokenize(sql, read="duckdb")
    except SqlglotError:
        return after
    return next((token.start for token in tokens if token.start >= after and token.text.upper() == word), after)
