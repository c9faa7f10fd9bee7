"""What a plan says the guard of the history will move, against what it moves."""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa

from connectors import evaluate
from mpc.sql import TABLE, Held, Plan, compared, differ_by_few, plan, probes
from mpc.sql.near import Probe
from mpc.statistics import plan as statistics
from mpc.statistics.wanted import Wanted
from party.guard import Guard
from tests.mpc.sqlkit import JOIN, Pair, context, tables
from tests.mpc.statkit import TABLES
from tests.support import Ledger, run_pair

LEAST = 20
COUNT = f"SELECT COUNT(*) AS n, SUM(b.income * t.late) AS s {JOIN} WHERE "
SESSION = (
    COUNT + "b.age > 30 AND t.late > 3",
    COUNT + "b.age > 40 OR t.prepaid",
    f"SELECT b.region, t.prepaid, COUNT(*) AS n {JOIN} WHERE t.late > 5 GROUP BY b.region, t.prepaid",
    f"SELECT t.late, AVG(b.balance) AS n {JOIN} WHERE b.defaulted GROUP BY t.late",
    COUNT + "b.income > t.minutes",
    COUNT + "b.age > 50",
)


def moved(pair: Pair, found: tuple[Probe, ...], made: Plan, sides: tuple[pa.Table, pa.Table]) -> tuple[int, int]:
    """Bytes both ways and rounds of the guard."""
    engines, columns = [], []
    for engine, table in zip(pair.engines, sides, strict=True):
        guard = Guard("r", engine.channel.peer, made.request.openings, Ledger(), made.min_rows)
        engines.append(replace(engine, guard=guard))
        columns.append([evaluate(table, probe.plan.local[engine.channel.us], TABLE) for probe in found])
    counters = [channel.counters for channel in pair.channels]
    before = [(one.sent, one.rounds) for one in counters]
    what = f"query.{made.name}.history"
    run_pair(
        lambda: differ_by_few(engines[0], what, found, columns[0], b"aligned"),
        lambda: differ_by_few(engines[1], what, found, columns[1], b"aligned"),
        *pair.channels,
    )
    now = [(one.sent - sent, one.rounds - rounds) for one, (sent, rounds) in zip(counters, before, strict=True)]
    return sum(sent for sent, _ in now), max(rounds for _, rounds in now)


def session(rows: int, statements: tuple[Plan, ...]) -> list[tuple[bool, bool]]:
    """Ask the guard for each after all before it; of each whether lattice products, and transfers, were made."""
    pair, sides, held = Pair.real(), tables(rows), Held()
    answered: list[Plan] = []
    used = []
    for made in statements:
        found = probes(made, answered)
        step = compared(found, held)
        if step is not None:
            counted, rounds = moved(pair, found, made, sides)
            assert abs(step.bytes - counted) <= 0.001 * counted, (made.name, step, counted)
            assert step.rounds == rounds, (step, rounds)
            used.append((any(p.plan.calls for p in found), any(p.plan.transfers for p in found)))
        answered.append(made)
    return used


def test_the_step_is_what_is_moved() -> None:
    used = session(2000, tuple(plan(sql, context(2000, min_rows=LEAST)) for sql in SESSION))
    assert used and {lattice for lattice, _ in used} == {False} and (False, True) in used


def test_the_step_is_what_is_moved_over_many_rows_and_with_kept_columns() -> None:
    """Where a column meets many others the lattice moves less, and uploads it once a session."""
    many = ", ".join(f"COUNT(*) FILTER (WHERE t.late > {n}) AS n{n}" for n in range(11))
    asked = (
        COUNT + "b.age > 30",
        f"SELECT {many} {JOIN}",
        COUNT + "b.age > 60",
        f"SELECT {many.replace('t.late', 't.minutes')} {JOIN} WHERE b.age > 30",
    )
    used = session(40_000, tuple(plan(sql, context(40_000, min_rows=LEAST)) for sql in asked))
    assert {lattice for lattice, _ in used} == {True, False} or all(lattice for lattice, _ in used)


def test_the_step_of_statistics_is_what_is_moved() -> None:
    made = tuple(plan(sql, context(500, min_rows=LEAST)) for sql in SESSION[:2])
    asked = {
        "histogram": Wanted(("bank.age",), edges=("30", "50")),
        "t_test": Wanted(("bank.income",), "telco.prepaid"),
    }
    planned = statistics.plan(asked, TABLES, context(500, min_rows=LEAST)).plans
    assert session(500, (*made, *planned))


def test_where_nothing_is_compared_there_is_no_step() -> None:
    assert compared(()) is None


def test_groups_that_only_a_run_knows_are_assumed() -> None:
    by = f"SELECT b.branch, COUNT(*) AS n {JOIN} WHERE t.late > {{}} GROUP BY b.branch"
    first, second = (plan(by.format(n), context(300, min_rows=LEAST)) for n in (1, 2))
    found = probes(second, [first])
    (dim,) = found[0].dims
    assumed, known = compared(found), compared(found, groups={dim: 4})
    assert assumed is not None and known is not None and assumed.bytes > known.bytes
    counted, rounds = moved(Pair.real(), found, second, tables(300))
    assert abs(known.bytes - counted) <= 0.001 * counted and known.rounds == rounds
