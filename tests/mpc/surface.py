"""Two raw tables with every type the SQL surface knows, their alignment in the clear, and DuckDB over the raw tables.

Unlike `sqlkit` the rows are not aligned ahead: customers without a subscriber and the reverse are there, so LEFT and
RIGHT JOIN mean something. `rate` and `usage` are floats in the files, declared decimal in party.yaml: the joint engine
sees what the connectors read, the oracle a cast of the floats.
"""

from __future__ import annotations

import datetime
import decimal
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from connectors import Declared, open_source
from mpc.sql import Context, Plan, Result, joined, plans
from party.catalogue import Catalogue, Column, Table
from tests.mpc.sqlkit import ARROW, Pair, same

JOIN = "FROM bank.customers b JOIN telco.subscribers t ON b.phone = t.msisdn"
SHARED, ALONE = 130, (20, 15)  # rows of both, rows of one party only
BANK = (
    Column("phone", "string"),
    Column("balance", "decimal", 2, 12, -100_000_000, 1_000_000_000),
    Column("income", "integer", low=0, high=1_000_000),
    Column("debt", "integer", low=-1_000_000, high=1_000_000),
    Column("age", "integer", low=18, high=99, nullable=False),
    Column("region", "string", domain=("north", "south", "east", "west")),
    Column("branch", "string"),
    Column("defaulted", "bool"),
    Column("vip", "bool", nullable=False),
    Column("opened", "date"),
    Column("seen", "timestamp"),
    Column("score", "float"),
    Column("rate", "decimal", 3, 6),
    Column("fee", "decimal", 1, 4),
    Column("segment", "integer", low=1, high=5),
    Column("free", "integer"),
)
TELCO = (
    Column("msisdn", "string"),
    Column("minutes", "integer", low=0, high=100_000),
    Column("bill", "decimal", 2, 8),
    Column("plan", "string"),
    Column("tier", "string", domain=("basic", "plus", "pro"), nullable=False),
    Column("prepaid", "bool"),
    Column("late", "integer", low=0, high=12, nullable=False),
    Column("joined", "date"),
    Column("used", "timestamp"),
    Column("usage", "decimal", 3, 7),
    Column("shift", "integer", low=-7, high=7),
    Column("city", "string"),
)
FLOATS = {"bank": {"rate": "decimal(6,3)"}, "telco": {"usage": "decimal(7,3)"}}
TIMES = {"date": pa.date32(), "timestamp": pa.timestamp("us")}


def _raw(columns: tuple[Column, ...], values: dict[str, list[Any]], floats: dict[str, str]) -> pa.Table:
    arrays = {}
    for column in columns:
        if column.name in floats:
            kind = pa.float64()
        elif column.type == "decimal":
            kind = pa.decimal128(column.precision, column.scale)
        else:
            kind = TIMES.get(column.type) or ARROW[column.type]
        arrays[column.name] = pa.array(values[column.name], kind)
    return pa.table(arrays)


def raw_tables(seed: int = 1) -> tuple[pa.Table, pa.Table]:
    """Both parties' own tables, in no common order."""
    rng = np.random.default_rng(seed)

    def some(values: list[Any], share: float = 0.12) -> list[Any]:
        return [None if miss else value for value, miss in zip(values, rng.random(len(values)) < share, strict=True)]

    def whole(low: int, high: int, rows: int) -> list[int]:
        found = rng.integers(low, high + 1, rows)
        found[:2] = low, high  # the ends of the range are always there
        return [int(value) for value in rng.permutation(found)]

    def scaled(low: int, high: int, scale: int, rows: int) -> list[decimal.Decimal]:
        return [decimal.Decimal(value).scaleb(-scale) for value in whole(low, high, rows)]

    def pick(words: tuple[Any, ...], rows: int) -> list[Any]:
        return [words[place] for place in rng.integers(0, len(words), rows)]

    start, midnight = datetime.date(2019, 12, 30), datetime.datetime(2020, 2, 28, 23, 59, 59, 999_999)
    keys = [f"+44790{number:07d}" for number in range(SHARED + sum(ALONE))]
    n, m = SHARED + ALONE[0], SHARED + ALONE[1]
    bank = {
        "phone": keys[:n],
        "balance": some(scaled(-100_000_000, 1_000_000_000, 2, n)),
        "income": some(whole(0, 1_000_000, n)),
        "debt": some(whole(-1_000_000, 1_000_000, n)),
        "age": whole(18, 99, n),
        "region": some(pick(("north", "south", "east"), n)),
        "branch": some(pick(("Łódź", "O'Hara", "b", "B", " pad ", ""), n)),
        "defaulted": some(pick((True, False), n)),
        "vip": pick((True, False, False), n),
        "opened": some([start + datetime.timedelta(days=day) for day in whole(0, 900, n)]),
        "seen": some([midnight + datetime.timedelta(seconds=part) for part in whole(-(10**7), 10**7, n)]),
        "score": some([float(value) for value in rng.random(n)]),
        "rate": some([float(value) for value in scaled(-999_999, 999_999, 3, n)]),
        "fee": some(scaled(-9_999, 9_999, 1, n)),
        "segment": some(whole(1, 5, n)),
        "free": some(whole(-(2**40), 2**40, n)),
    }
    telco = {
        "msisdn": keys[:SHARED] + keys[n:],
        "minutes": some(whole(0, 100_000, m)),
        "bill": some(scaled(-99_999_999, 99_999_999, 2, m)),
        "plan": some(pick(("basic", "plus", "pro", "p_o", "100%"), m)),
        "tier": pick(("basic", "plus", "plus", "pro"), m),
        "prepaid": some(pick((True, False), m)),
        "late": whole(0, 12, m),
        "joined": some([start + datetime.timedelta(days=day) for day in whole(-400, 400, m)]),
        "used": some([midnight + datetime.timedelta(seconds=part) for part in whole(-(10**6), 10**6, m)]),
        "usage": some([float(value) for value in scaled(-9_999_999, 9_999_999, 3, m)]),
        "shift": some(whole(-7, 7, m)),
        "city": some(pick(("leeds", "york", "hull"), m), 0.3),
    }
    tables = _raw(BANK, bank, FLOATS["bank"]), _raw(TELCO, telco, FLOATS["telco"])
    return tables[0].take(rng.permutation(n)), tables[1].take(rng.permutation(m))


class World:
    """The raw tables, what the connectors read of them, and an oracle that holds both."""

    def __init__(self, folder: Path) -> None:
        self.read: list[pa.Table] = []
        self.database = duckdb.connect(":memory:", config={"threads": 1})
        self.database.execute("CREATE SCHEMA bank; CREATE SCHEMA telco")
        names = (("bank", "customers"), ("telco", "subscribers"))
        for (party, name), table in zip(names, raw_tables(), strict=True):
            pq.write_table(table, folder / f"{name}.parquet")
            declared = {column: Declared.of(kind) for column, kind in FLOATS[party].items()}
            source = open_source(f"parquet:{name}.parquet", folder, declared)
            self.read.append(source.read(table.column_names))
            self.database.register("raw", table)
            casts = ", ".join(f"CAST({column} AS {kind}) AS {column}" for column, kind in FLOATS[party].items())
            self.database.execute(f"CREATE TABLE {party}.{name} AS SELECT * REPLACE ({casts}) FROM raw")
            self.database.unregister("raw")

    def aligned(self, keep: str | None) -> tuple[pa.Table, pa.Table]:
        """The matched rows of both in one order, then the keeper's rows that have no match."""
        bank, telco = self.read
        ours, theirs = bank.column("phone").to_pylist(), telco.column("msisdn").to_pylist()
        place = {key: number for number, key in enumerate(theirs)}
        pairs: list[tuple[int | None, int | None]] = [(i, place[key]) for i, key in enumerate(ours) if key in place]
        if keep == "bank":
            pairs += [(i, None) for i, key in enumerate(ours) if key not in place]
        elif keep == "telco":
            met = set(ours)
            pairs += [(None, j) for j, key in enumerate(theirs) if key not in met]
        return (
            bank.take(pa.array([i for i, _ in pairs], pa.int64())).combine_chunks(),
            telco.take(pa.array([j for _, j in pairs], pa.int64())).combine_chunks(),
        )

    def plans(self, sql: str, to: tuple[str, ...], rows: int, min_rows: int = 1) -> list[Plan]:
        """As both sides make them, one for each SELECT of UNION ALL."""
        catalogues = (
            Catalogue("bank", (Table("customers", (("phone",),), BANK, rows),)),
            Catalogue("telco", (Table("subscribers", (("msisdn",),), TELCO, rows),)),
        )
        return list(plans(sql, Context("q", catalogues, to, rows, min_rows)))

    def joint(self, sql: str, pair: Pair, to: tuple[str, ...]) -> Result:
        """The answer of the joint engine, the same at every receiver; nobody else has one."""
        keep = self.plans(sql, to, SHARED + max(ALONE))[0].keep
        bank, telco = self.aligned(keep)
        pair.further = {"bank.customers": self.read[0], "telco.subscribers": self.read[1]}
        parts = [pair.run(made, bank, telco) for made in self.plans(sql, to, bank.num_rows)]
        answers = [joined([part[place] for part in parts]) for place in (0, 1)]
        found = [answer for answer in answers if answer is not None]
        assert [answer is not None for answer in answers] == [party in to for party in ("bank", "telco")]
        assert all(answer == found[0] for answer in found)
        return found[0]

    def plain(self, sql: str) -> list[dict[str, Any]]:
        """DuckDB over the raw tables."""
        cursor = self.database.execute(sql)
        names = [part[0] for part in cursor.description or []]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def agree_in_order(result: Result, wanted: list[dict[str, Any]]) -> None:
    """Same rows, in the same order."""
    assert len(result.rows) == len(wanted), (result.rows, wanted)
    for found, right in zip(result.rows, wanted, strict=True):
        assert list(found) == list(right)
        assert all(same(found[name], right[name]) for name in right), (found, right)
