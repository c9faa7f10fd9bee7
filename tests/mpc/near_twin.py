"""The guard of the history in the clear, and a session of statements over one alignment as `pipelines` runs it.

The twin knows nothing of plans: a statement is a list of conditions and group keys as SQL text, DuckDB says which rows
fulfil them, and two sets of rows are near when fewer than min_rows rows are in just one of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from connectors import evaluate
from mpc.sql import TABLE, Plan, Probe, Result, differ_by_few, plan, probes
from party.guard import Guard
from tests.mpc.sqlkit import Pair, context
from tests.support import Ledger, run_pair

Bools = np.ndarray
JOIN = "FROM bank.customers b JOIN telco.subscribers t ON b.phone = t.msisdn"


@dataclass(frozen=True)
class Asked:
    """Numbers of rows under conditions, and sums, by groups."""

    conditions: tuple[str, ...]  # a COUNT(*) FILTER each; "" for all rows
    keys: tuple[str, ...] = ()
    where: str = ""
    to: tuple[str, ...] = ("bank",)

    @property
    def sql(self) -> str:
        counts = [
            f"COUNT(*){f' FILTER (WHERE {text})' if text else ''} AS n{place}"
            for place, text in enumerate(self.conditions)
        ]
        where = f" WHERE {self.where}" if self.where else ""
        groups = f" GROUP BY {', '.join(self.keys)}" if self.keys else ""
        return f"SELECT {', '.join([*self.keys, *counts])} {JOIN}{where}{groups}"


class Truth:
    """Which of the aligned rows fulfil a condition, and to which group each belongs."""

    def __init__(self, bank: pa.Table, telco: pa.Table) -> None:
        self.rows = bank.num_rows
        self.db = duckdb.connect(":memory:", config={"threads": 1})
        self.db.register("one", bank.append_column("r", pa.array(range(self.rows))))
        self.db.register("other", telco.append_column("r", pa.array(range(self.rows))))

    def column(self, text: str) -> list[Any]:
        found = self.db.execute(f"SELECT {text} FROM one b JOIN other t ON b.r = t.r ORDER BY b.r").fetchall()
        return [value for (value,) in found]

    def cells(self, asked: Asked) -> list[list[Bools]]:
        """For each answer set its rows in each cell that occurs."""
        groups = list(zip(*(self.column(key) for key in asked.keys), strict=True)) or [()] * self.rows
        sets = []
        for text in dict.fromkeys(["", *asked.conditions] if asked.keys else asked.conditions):
            parts = " AND ".join(f"({part})" for part in (asked.where, text) if part)
            here = (
                np.array([value is True for value in self.column(parts)]) if parts else np.ones(self.rows, dtype=bool)
            )
            sets.append([here & np.array([group == cell for group in groups]) for cell in set(groups)])
        return sets

    def near(self, asked: Asked, earlier: Sequence[Asked], least: int) -> bool:
        """Whether the statement tells something of fewer than `least` rows by one difference."""
        ours = [cell for one in self.cells(asked) for cell in one]
        theirs = [cell for old in earlier if set(old.to) & set(asked.to) for one in self.cells(old) for cell in one]
        for cell in ours:
            for other in [*ours, *theirs]:
                apart = int(np.count_nonzero(cell ^ other))
                if cell.sum() >= least and other.sum() >= least and 0 < apart < least:
                    return True
        return False


@dataclass
class Session:
    """Statements over one alignment; each is answered or refused as the guard says."""

    pair: Pair
    bank: pa.Table
    telco: pa.Table
    least: int
    answered: list[Plan] = field(default_factory=list)
    probed: list[Probe] = field(default_factory=list)

    def near(self, made: Plan) -> bool:
        """What the guard says of a plan."""
        found = probes(made, self.answered)
        self.probed = list(found)
        if not found:
            return False
        what = f"query.{made.name}.history"
        sides = []
        for engine, table in zip(self.pair.engines, (self.bank, self.telco), strict=True):
            guard = Guard("r", engine.channel.peer, made.request.openings, Ledger(), made.min_rows)
            columns = [evaluate(table, probe.plan.local[engine.channel.us], TABLE) for probe in found]
            sides.append((replace(engine, guard=guard), columns))
        ours, theirs = run_pair(
            lambda: differ_by_few(sides[0][0], what, found, sides[0][1]),
            lambda: differ_by_few(sides[1][0], what, found, sides[1][1]),
            *self.pair.channels,
        )
        if ours != theirs:
            raise AssertionError("the two sides were told different bits")
        return ours

    def ask(self, sql: str, to: tuple[str, ...] = ("bank",)) -> Result | None:
        """The answer, None where it is refused."""
        made = plan(sql, context(self.bank.num_rows, to, self.least))
        if self.near(made):
            return None
        first, second = self.pair.run(made, self.bank, self.telco)
        self.answered.append(made)
        answer = first if first is not None else second
        if answer is None:
            raise AssertionError("nobody got an answer")
        return answer

    def refused(self, asked: Asked) -> bool:
        """What the guard says; the statement counts as answered when it is not refused."""
        made = plan(asked.sql, context(self.bank.num_rows, asked.to, self.least))
        if self.near(made):
            return True
        self.answered.append(made)
        return False
