"""Both sides of statistics over the tables of `sqlkit`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pandas as pd
import pyarrow as pa

from connectors import evaluate
from mpc.sql import TABLE, Plan
from mpc.statistics import plan as statistics
from party.guard import Guard
from tests.mpc.sqlkit import Pair, context
from tests.support import Ledger, run_pair

TABLES = {"bank": "customers", "telco": "subscribers"}


def both(pair: Pair, planned: statistics.StatisticsPlan, bank: pa.Table, telco: pa.Table) -> tuple[Any, Any]:
    """Run both halves, each with a guard that allows what the plans name; what either side gets."""
    pair.ledgers = [Ledger(), Ledger()]

    def half(place: int) -> Any:
        engine, table = pair.engines[place], (bank, telco)[place]
        ledger, us = pair.ledgers[place], engine.channel.us
        guard = Guard("r", engine.channel.peer, planned.request.openings, ledger, planned.setting.context.min_rows)

        def local(plan: Plan) -> Any:
            return evaluate(table, plan.local[us], TABLE)

        return statistics.execute(planned, local, replace(engine, guard=guard), b"aligned")

    return run_pair(lambda: half(0), lambda: half(1), *pair.channels)


def ask(pair: Pair, asked: dict[str, Any], bank: pa.Table, telco: pa.Table, **options: Any) -> dict[str, Any]:
    """What the bank, or the only receiver, gets."""
    planned = statistics.plan(asked, TABLES, context(bank.num_rows, **options))
    first, second = both(pair, planned, bank, telco)
    found: dict[str, Any] = first if first is not None else second
    return found


def joined(bank: pa.Table, telco: pa.Table) -> pd.DataFrame:
    """The pooled table, columns as party.column, decimals as floats."""
    parts = [table.to_pandas().add_prefix(f"{party}.") for party, table in (("bank", bank), ("telco", telco))]
    pooled = pd.concat(parts, axis=1)
    for name in ("bank.balance", "telco.bill"):
        pooled[name] = pooled[name].astype(float)
    return pooled


def frame(table: dict[str, Any]) -> pd.DataFrame:
    """A table of a result as a data frame."""
    return pd.DataFrame(table["rows"], columns=table["columns"])
