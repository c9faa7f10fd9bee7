"""What EXPLAIN says a statement takes, beside what it takes: seconds of its analysis.

    python benchmarks/predictions.py [--rows 100000] [--times 5] [--json]

Two homes in a temporary folder, `tally serve` of the telco running, `tally check` for the calibration. Every statement
is asked in a connection and an alignment of its own; seconds are the median of its `analyse`. The target is 30 % on a
quiet machine. Bytes are exact, and tested (tests/mpc/test_sql_cost.py), so they are not here.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)  # not this folder: its files are named as packages are

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.query import homes, serving, tally
from benchmarks.two_parties import machine

JOIN = "FROM bank.customers b JOIN telco.subscribers t ON b.phone = t.phone"
TABLES = {
    "bank": """customers:
    url: parquet:data.parquet
    key: [phone]
    columns:
      phone: {type: string, normalise: text}
      balance: {type: integer, range: [-1000000, 1000000], nullable: false}
      income: {type: integer, range: [0, 1000000], nullable: false}
      region: {type: integer, range: [0, 9], nullable: false}
""",
    "telco": """subscribers:
    url: parquet:data.parquet
    key: [phone]
    columns:
      phone: {type: string, normalise: text}
      minutes: {type: integer, range: [0, 1000000], nullable: false}
      bill: {type: integer, range: [-1000000, 1000000], nullable: false}
      plan: {type: integer, range: [0, 9], nullable: false}
""",
}
EVERY = "[aggregate, filter, group, compare, rank]"
COLUMNS = {"bank": ("customers", "balance", "income", "region"), "telco": ("subscribers", "minutes", "bill", "plan")}
GRANTS = {
    party: "\n      ".join([f"{table}.phone: [join]", *(f"{table}.{column}: {EVERY}" for column in columns)]) + "\n"
    for party, (table, *columns) in COLUMNS.items()
}
STATEMENTS = {
    "product": f"SELECT SUM(b.balance * t.minutes) AS s {JOIN}",
    "correlation": f"SELECT CORR(b.balance, t.minutes) AS r, VAR_SAMP(b.income) AS v {JOIN}",
    "conditions": f"SELECT COUNT(*) AS n, SUM(b.income) AS s {JOIN} WHERE b.balance > 0 AND t.bill > 0",
    "own groups": f"SELECT b.region, SUM(t.minutes) AS s {JOIN} GROUP BY b.region",
    "groups of both": f"SELECT b.region, t.plan, COUNT(*) AS n, SUM(t.bill) AS s {JOIN} GROUP BY b.region, t.plan",
    "having": f"SELECT t.plan, SUM(b.income) AS s {JOIN} GROUP BY t.plan HAVING COUNT(*) > 50 AND SUM(b.income) > 9",
    "limit": f"SELECT t.plan, SUM(b.income) AS s {JOIN} GROUP BY t.plan ORDER BY s DESC LIMIT 3",
    "comparison": f"SELECT COUNT(*) AS n, SUM(t.bill) AS s {JOIN} WHERE b.income > t.minutes",
    "median": f"SELECT MEDIAN(b.income) AS m {JOIN} WHERE t.bill > 0",
    "distinct": f"SELECT COUNT(DISTINCT b.region) AS d {JOIN} WHERE t.bill > 0",
}


def make(folder: Path, rows: int) -> None:
    """The homes, all rows in common."""
    homes(folder, TABLES, GRANTS, "    min_rows: 20\n")
    rng = np.random.default_rng(1)
    keys = [f"+44790{n:07d}" for n in range(rows)]

    def some(low: int, high: int) -> Any:
        return rng.integers(low, high + 1, rows)

    bank = {"phone": keys, "balance": some(-1000000, 1000000), "income": some(0, 1000000), "region": some(0, 9)}
    telco = {"phone": keys, "minutes": some(0, 1000000), "bill": some(-1000000, 1000000), "plan": some(0, 9)}
    pq.write_table(pa.table(bank), folder / "bank" / "data.parquet")
    pq.write_table(pa.table(telco), folder / "telco" / "data.parquet")


def measure(rows: int, times: int) -> list[dict[str, Any]]:
    """Predicted and measured seconds of each statement."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make(folder, rows)
        with serving(folder / "telco"):
            tally(folder / "bank", "check", "telco")
            return [_row(folder / "bank", case, sql, times) for case, sql in STATEMENTS.items()]


def _row(home: Path, case: str, sql: str, times: int) -> dict[str, Any]:
    told = json.loads(tally(home, "query", "--peer", "telco", "--json", f"EXPLAIN {sql}"))
    seconds = []
    for _ in range(times):
        answer = json.loads(tally(home, "query", "--peer", "telco", "--realign", "--json", sql))
        seconds.append(answer["timings"]["analyse"])
    taken = statistics.median(seconds)
    predicted = told["predicted"]["analyse"]["seconds"]
    return {
        "case": case,
        "predicted_s": round(predicted, 3),
        "median_s": round(taken, 3),
        "ratio": round(predicted / taken, 2),
        "steps": told["rows"],
    }


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0] if __doc__ else None)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = measure(options.rows, options.times)
    if options.json:
        print(json.dumps({"machine": machine(), "rows": options.rows, "runs": found}))
        return
    print(f"{machine()}; {options.rows} rows; the target is 0.7 to 1.3")
    print(f"{'case':<20} {'predicted s':>12} {'median s':>9} {'ratio':>6}")
    for row in found:
        print(f"{row['case']:<20} {row['predicted_s']:>12} {row['median_s']:>9} {row['ratio']:>6}")


if __name__ == "__main__":
    main()
