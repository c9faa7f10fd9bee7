"""UNION ALL: each SELECT is a joint query of its own, whose openings are named apart; their rows follow one another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from mpc.sql.plan import build
from mpc.sql.result import Result
from mpc.sql.syntax.parse import parse
from mpc.sql.syntax.places import StatementError, located
from mpc.sql.types import Context, Output, Plan, Post, Query

__all__ = ["joined", "plans"]

_Kind = tuple[str, int]  # kind and scale of a column of the answer


def plans(sql: str, context: Context) -> tuple[Plan, ...]:
    """The plans of one statement in their order; of UNION ALL they are named NAME.1, NAME.2 and so on.

    Raises StatementError (exit 2), with line and column, as `plan` does.
    """
    with located(sql):
        queries = parse(sql, context)
        if len(queries) == 1:
            return (build(queries[0], context),)
        named = [replace(context, name=f"{context.name}.{place}") for place in range(1, len(queries) + 1)]
        return tuple(build(query, own) for query, own in zip(_unified(queries), named, strict=True))


def joined(results: Sequence[Result | None]) -> Result | None:
    """The rows of all SELECTs under the names of the first; None if we receive nothing."""
    found = [result for result in results if result is not None]
    if not found:
        return None
    rows = tuple(row for result in found for row in result.rows)
    return Result(found[0].columns, rows, sum(result.suppressed_groups for result in found))


def _unified(queries: tuple[Query, ...]) -> list[Query]:
    """The columns of all SELECTs brought to the names of the first and to one type each."""
    first = queries[0]
    for query in queries[1:]:
        if len(query.outputs) != len(first.outputs):
            raise StatementError(
                f"a SELECT of {len(query.outputs)} columns under UNION ALL with one of {len(first.outputs)}",
                _start(query, 0),
                hint="all SELECTs have equally many columns",
            )
    found = [list(query.outputs) for query in queries]
    for place, output in enumerate(first.outputs):
        kinds = [_kind_of(query.outputs[place].post, query) for query in queries]
        for query, made, kind in zip(queries, found, kinds, strict=True):
            post = _as_kind(query.outputs[place].post, kind, kinds)
            if post is None:
                raise StatementError(
                    f"column {place + 1} of UNION ALL is {kinds[0][0]} and {kind[0]}",
                    _start(query, place),
                    hint="give a column one type in all SELECTs",
                )
            made[place] = Output(output.name, post)
    return [replace(query, outputs=tuple(outputs)) for query, outputs in zip(queries, found, strict=True)]


def _start(query: Query, place: int) -> int:
    starts = query.places.outputs
    return (starts[place] if place < len(starts) else None) or 0


def _kind_of(post: Post, query: Query) -> _Kind:
    """What a column of the answer holds."""
    if post.op == "key":
        key = query.groups[post.value]
        return key.kind, key.scale
    if post.op == "aggregate":
        aggregate = query.aggregates[post.value]
        if aggregate.function in ("count", "count_distinct"):
            return "integer", 0
        argument = aggregate.args[0]
        if aggregate.function in ("min", "max", "quantile_disc"):
            return argument.kind, argument.scale
        if aggregate.function == "sum":
            return ("decimal", argument.scale) if argument.kind == "decimal" else ("integer", 0)
        return "float", 0
    if post.op == "literal":
        return ("decimal", post.scale) if post.scale else ("integer", 0)
    if post.op in ("/", "float"):
        return "float", 0
    kinds = [_kind_of(arg, query) for arg in post.args]
    if any(kind == "float" for kind, _ in kinds):
        return "float", 0
    decimal = any(kind == "decimal" for kind, _ in kinds)
    scales = [scale for _, scale in kinds]
    return ("decimal" if decimal else "integer", sum(scales) if post.op == "*" else max(scales))


def _as_kind(post: Post, kind: _Kind, kinds: Sequence[_Kind]) -> Post | None:
    """A column in the type that all SELECTs share: numbers become decimals, or floats; None: there is none."""
    names = {name for name, _ in kinds}
    if len(set(kinds)) == 1:
        return post
    if not names <= {"integer", "decimal", "float"}:
        return None if kind[0] != kinds[0][0] else post
    if "float" in names:
        return post if kind[0] == "float" else Post("float", (post,))
    scale = max(scale for _, scale in kinds)
    return post if kind == ("decimal", scale) else Post("+", (post, Post("literal", value=0, scale=scale)))
