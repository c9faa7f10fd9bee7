"""What a plan says it will move, against what its run moves."""

from __future__ import annotations

import pytest

from mpc.sql import plan
from mpc.sql.cost import steps_of
from tests.mpc.sqlkit import JOIN, Pair, context, tables

ROWS = 9000  # two blocks
STATEMENTS = [
    ("SUM(b.age * t.late) AS s", "", 1, ("bank",)),
    (
        "COUNT(*) AS n, SUM(b.income * t.late) AS s, AVG(t.minutes) AS m",
        "WHERE b.age > 30 AND t.late > 3",
        20,
        ("bank",),
    ),
    ("b.region, SUM(t.minutes) AS s", "GROUP BY b.region", 1, ("telco",)),
    ("b.region, t.prepaid, SUM(t.minutes) AS s", "GROUP BY b.region, t.prepaid", 20, ("bank", "telco")),
    ("b.branch, t.plan, COUNT(*) AS n", "GROUP BY b.branch, t.plan", 20, ("bank",)),
    ("b.region, SUM(t.late) AS s", "GROUP BY b.region HAVING COUNT(*) > 30 AND NOT SUM(t.late) < 5", 20, ("bank",)),
    ("b.region, SUM(t.late) AS s", "GROUP BY b.region ORDER BY s DESC, b.region LIMIT 2 OFFSET 1", 20, ("bank",)),
    ("VAR_SAMP(b.balance) AS v, CORR(b.balance, t.bill) AS r", "", 20, ("bank",)),
    ("SUM(CASE WHEN b.age > 40 THEN t.minutes ELSE t.late END) AS s", "", 20, ("bank",)),
    ("SUM(t.minutes) AS s", "WHERE b.income > t.minutes AND b.age < t.late * 9", 20, ("bank",)),
    ("MEDIAN(b.income) AS m, MAX(t.late) AS z", "WHERE t.prepaid", 20, ("bank",)),
    ("b.region, MIN(b.age) AS m, COUNT(DISTINCT t.late) AS d", "GROUP BY b.region", 20, ("telco",)),
]


@pytest.mark.parametrize(("select", "tail", "min_rows", "to"), STATEMENTS)
def test_bytes_within_five_per_cent_and_rounds_within_ten(
    select: str, tail: str, min_rows: int, to: tuple[str, ...]
) -> None:
    bank, telco = tables(ROWS)
    pair = Pair.real()
    made = plan(f"SELECT {select} {JOIN} {tail}", context(ROWS, to=to, min_rows=min_rows))
    before = [channel.counters.sent for channel in pair.channels]
    pair.run(made, bank, telco)
    moved = sum(channel.counters.sent - sent for channel, sent in zip(pair.channels, before, strict=True))
    rounds = max(channel.counters.rounds for channel in pair.channels)
    # groups without a declared domain are known at the run only
    steps = steps_of(made, (4, 16) if "branch" in tail else None)
    told, waits = sum(step.bytes for step in steps), sum(step.rounds for step in steps)
    assert abs(told - moved) <= 0.001 * moved, (moved, told, steps)
    assert waits == rounds, (rounds, waits, steps)
