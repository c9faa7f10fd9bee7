"""From what a job asks to plans, and from their results to what the job gets."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from mpc.engine import Engine
from mpc.sql.execute import execute as execute_plan
from mpc.sql.local import LocalColumns
from mpc.sql.plan import build
from mpc.sql.result import Result
from mpc.sql.types import Context, Plan
from mpc.statistics import binned, comparing, grouped, moments
from mpc.statistics.setting import Setting
from mpc.statistics.tables import Value
from mpc.statistics.wanted import BINNED, MOMENTS, Wanted
from party.errors import UsageError
from party.request import Request

__all__ = ["Asked", "StatisticsPlan", "execute", "plan"]

Asked = Mapping[str, Sequence[str] | Wanted]


@dataclass(frozen=True)
class Part:
    """One plan: all moments of the item, or one kind for one column."""

    kind: str
    column: str
    plan: Plan


@dataclass(frozen=True)
class StatisticsPlan:
    """The plans in the order in which they run, and what their results turn into."""

    setting: Setting
    asked: Mapping[str, Wanted]
    parts: tuple[Part, ...]

    @property
    def plans(self) -> tuple[Plan, ...]:
        """Each joint query."""
        return tuple(part.plan for part in self.parts)

    @property
    def request(self) -> Request:
        """What all of them ask for."""
        found = Request()
        for made in self.plans:
            found |= made.request
        return found


def plan(asked: Asked, tables: Mapping[str, str], context: Context) -> StatisticsPlan:
    """Plan statistics: kind -> what is wanted of it, over aligned tables (party -> table name).

    Raises UsageError (exit 2): an unknown kind or column, a column that does not fit it, a sum that would overflow.
    """
    wanted = {kind: one if isinstance(one, Wanted) else Wanted(tuple(one)) for kind, one in asked.items()}
    for kind, one in wanted.items():
        for key, reason, hint in one.complaints(kind):
            raise UsageError(f"{kind}{'.' * bool(key)}{key}: {reason}", hint=hint)
    setting = Setting(tables, context)
    parts = []
    together = {kind: one for kind, one in wanted.items() if kind in MOMENTS}
    if together:
        parts.append(Part("", "", build(moments.query(setting, together), context)))
    for kind, one in wanted.items():
        for name in one.columns if kind not in MOMENTS else ():
            named = replace(context, name=f"{context.name}.{kind}.{name}")
            made = build(grouped.query(kind, name, one, setting), named)
            told = (grouped.says(kind, name, one, setting), *made.explanation, *grouped.hides(made))
            parts.append(Part(kind, name, replace(made, explanation=told)))
    return StatisticsPlan(setting, wanted, tuple(parts))


def execute(
    planned: StatisticsPlan, local: Callable[[Plan], LocalColumns], engine: Engine, alignment: bytes | None = None
) -> dict[str, Value] | None:
    """Run our half; at a receiver kind -> value (docs/reference/results.md), else None.

    local: our own step of a plan, evaluated over our aligned rows. What the peer learns, rounds, bytes: as `mpc.sql`.
    """
    results: dict[tuple[str, str], Result] = {}
    for part in planned.parts:
        result = execute_plan(part.plan, local(part.plan), engine, alignment)
        if result is not None:
            results[part.kind, part.column] = result
    if not results:
        return None
    found: dict[str, Value] = {}
    for kind, one in planned.asked.items():
        if kind in MOMENTS:
            found[kind] = moments.close(kind, one, results["", ""])
            continue
        each = {name: results[kind, name] for name in one.columns}
        close = binned.close if kind in (*BINNED, "histogram") else comparing.close
        found[kind] = close(kind, one, each, planned.setting)
    return found
