"""What a plan of statistics says it will move, against what its run moves."""

from __future__ import annotations

import pyarrow as pa
import pytest

from mpc.sql.cost import steps_of
from mpc.statistics import plan as statistics
from mpc.statistics.wanted import Wanted
from tests.mpc.sqlkit import Pair, context, tables
from tests.mpc.statkit import TABLES

ROWS = 9000  # two blocks
ASKED = [
    ("t_test", Wanted(("bank.income",), "telco.prepaid"), 20, ("bank",)),
    ("auc", Wanted(("telco.late",), "bank.defaulted"), 20, ("bank",)),
    ("woe", Wanted(("bank.income",), "telco.prepaid", bins=10), 20, ("telco",)),
    ("woe", Wanted(("bank.income",), "telco.prepaid", bins=3), 20, ("bank", "telco")),
    ("woe", Wanted(("bank.region",), "telco.prepaid"), 20, ("bank",)),
    ("stability", Wanted(("telco.bill",), "bank.defaulted", bins=20), 20, ("bank",)),
    ("ks", Wanted(("telco.minutes",), "bank.defaulted", bins=5), 1, ("bank",)),
    ("chi_squared", Wanted(("bank.region",), "telco.prepaid"), 20, ("bank",)),
    ("histogram", Wanted(("bank.age",), bins=5), 20, ("telco",)),
]


@pytest.mark.parametrize(
    ("kind", "wanted", "min_rows", "to"), ASKED, ids=lambda value: value if isinstance(value, str) else ""
)
def test_bytes_and_rounds_are_those_of_the_run(kind: str, wanted: Wanted, min_rows: int, to: tuple[str, ...]) -> None:
    bank, telco = tables(ROWS)
    telco = telco.set_column(4, "prepaid", pa.array([i % 3 == 0 for i in range(ROWS)]))
    bank = bank.set_column(6, "defaulted", pa.array([i % 4 == 0 for i in range(ROWS)]))
    pair = Pair.real()
    (made,) = statistics.plan({kind: wanted}, TABLES, context(ROWS, to=to, min_rows=min_rows)).plans
    before = [channel.counters.sent for channel in pair.channels]
    pair.run(made, bank, telco)
    moved = sum(channel.counters.sent - sent for channel, sent in zip(pair.channels, before, strict=True))
    steps = steps_of(made)
    told, waits = sum(step.bytes for step in steps), sum(step.rounds for step in steps)
    assert abs(told - moved) <= 0.001 * moved, (moved, told, steps)
    assert waits == max(channel.counters.rounds for channel in pair.channels), (waits, steps)
