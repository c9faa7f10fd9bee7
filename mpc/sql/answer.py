"""The answer at a receiver: opened integers and labels to rows, in the order of ORDER BY, then of the group keys."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mpc.sql.products import cells_of
from mpc.sql.result import Cell, Exact, Number, Result, close, evaluate, shown
from mpc.sql.types import Order, Plan

__all__ = ["Labels", "answer", "digits"]

Labels = tuple[tuple[str | int | bool | None, ...], ...]


def answer(
    plan: Plan, sizes: tuple[int, int], opened: list[list[int]], labels: tuple[Labels | None, Labels | None]
) -> Result:
    """opened: for each opening of the plan the integers of all cells, party 0's groups slowest."""
    names = tuple(output.name for output in plan.outputs)
    if not plan.grouped:
        whole = plan.limit is None or (plan.limit.count > 0 and plan.limit.offset == 0)
        return Result(names, (_row(plan, opened, 0, ()).cells,) if whole else (), 0)
    ranks = _ranks(plan, labels)
    found: list[tuple[tuple[int, ...], _Row]] = []
    hidden = 0
    for cell in range(sizes[0] * sizes[1]):
        if opened[0][cell] < plan.min_rows:
            hidden += _declared(plan, sizes, cell)
            continue
        keys = _keys(plan, sizes, cell, labels)
        order = tuple(rank[key] for rank, key in zip(ranks, keys, strict=True))
        found.append((order, _row(plan, opened, cell, keys)))
    rows = [row for _, row in sorted(found, key=lambda item: item[0])]
    for place in reversed(range(len(plan.order))):
        rows = _ordered(rows, place, plan.order[place])
    return Result(names, tuple(row.cells for row in rows), hidden)


@dataclass(frozen=True)
class _Row:
    """Cells as they are shown, and what ORDER BY compares."""

    cells: dict[str, Cell]
    order: tuple[Number | Cell, ...]


def _row(plan: Plan, opened: list[list[int]], cell: int, keys: tuple[Cell, ...]) -> _Row:
    values: list[Number | Cell] = []
    for place, aggregate in enumerate(plan.aggregates):
        count = opened[plan.counts[place]][cell]
        if plan.min_rows > 1 and count < plan.min_rows:
            values.append(None)
        else:
            values.append(close(aggregate, count, [opened[number][cell] for number in plan.values[place]]))
    cells = {output.name: shown(evaluate(output.post, values, keys)) for output in plan.outputs}
    return _Row(cells, tuple(evaluate(order.post, values, keys) for order in plan.order))


def _ordered(rows: list[_Row], place: int, order: Order) -> list[_Row]:
    """By one part of ORDER BY; equal rows stay in their order."""
    nulls = [row for row in rows if row.order[place] is None]
    others = [row for row in rows if row.order[place] is not None]

    def compared(row: _Row) -> Any:
        value = row.order[place]
        return value.fraction if isinstance(value, Exact) else value

    others.sort(key=compared, reverse=order.descending)
    return [*nulls, *others] if order.nulls_first else [*others, *nulls]


def digits(plan: Plan, sizes: tuple[int, int], cell: int, owner: int) -> list[int]:
    """The place of one owner's group in the domain of each of its keys; the domain's length for NULL."""
    place = cell // sizes[1] if owner == 0 else cell % sizes[1]
    found: list[int] = []
    for key in reversed([key for key in plan.keys if key.owner == owner]):
        place, digit = divmod(place, key.places)
        found.append(digit)
    return found[::-1]


def _keys(
    plan: Plan, sizes: tuple[int, int], cell: int, labels: tuple[Labels | None, Labels | None]
) -> tuple[Cell, ...]:
    values: list[list[Cell]] = []
    for owner in (0, 1):
        told = labels[owner]
        if told is not None:
            values.append(list(told[cell // sizes[1] if owner == 0 else cell % sizes[1]]))
            continue
        domains = [key.domain or () for key in plan.keys if key.owner == owner]
        places_in = digits(plan, sizes, cell, owner)
        values.append([None if d == len(domain) else domain[d] for d, domain in zip(places_in, domains, strict=True)])
    places = [0, 0]
    found = []
    for key in plan.keys:
        found.append(values[key.owner][places[key.owner]])
        places[key.owner] += 1
    return tuple(found)


def _ranks(plan: Plan, labels: tuple[Labels | None, Labels | None]) -> list[dict[Cell, int]]:
    """For each key the order of its values: as declared, else ascending; NULL last."""
    ranks: list[dict[Cell, int]] = []
    places = [0, 0]
    for key in plan.keys:
        told = labels[key.owner]
        if told is None:
            values: list[Cell] = list(key.domain or ())
        else:
            met = {label[places[key.owner]] for label in told if label}
            values = sorted(
                (value for value in met if value is not None), key=lambda value: (isinstance(value, str), value)
            )
        ranks.append({value: rank for rank, value in enumerate(dict.fromkeys([*values, None]))})
        places[key.owner] += 1
    return ranks


def _declared(plan: Plan, sizes: tuple[int, int], cell: int) -> bool:
    """Whether a cell lies in the declared domains: cells of NULL do not; without a domain every padded cell does."""
    for owner in (0, 1):
        if cells_of(plan.keys, owner) is not None:
            domains = [key.domain or () for key in plan.keys if key.owner == owner]
            found = digits(plan, sizes, cell, owner)
            if any(digit == len(domain) for digit, domain in zip(found, domains, strict=True)):
                return False
    return True
