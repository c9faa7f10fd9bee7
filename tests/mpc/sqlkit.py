"""Two tables, their catalogues, both engines, and DuckDB over the joined tables as the oracle of joint SQL."""

from __future__ import annotations

import datetime
import decimal
import queue
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from connectors import evaluate
from mpc.engine import Engine
from mpc.linear import Received, Uploaded
from mpc.ot import Ot
from mpc.sql import TABLE, Context, Plan, Result, execute, further_name, plan, reads_of
from party.catalogue import Catalogue, Column, Table
from party.channel import Channel
from party.guard import Guard
from tests.support import Ledger, channels, run_pair

BANK = (
    Column("phone", "string"),
    Column("balance", "decimal", 2, 12, -100_000_000, 1_000_000_000),
    Column("income", "integer", low=0, high=1_000_000),
    Column("age", "integer", low=18, high=99),
    Column("region", "string", domain=("north", "south", "east", "west")),
    Column("branch", "string"),
    Column("defaulted", "bool"),
    Column("opened", "date"),
    Column("score", "float"),
    Column("free", "integer"),
)
TELCO = (
    Column("msisdn", "string"),
    Column("minutes", "integer", low=0, high=100_000),
    Column("bill", "decimal", 2, 8),
    Column("plan", "string"),
    Column("prepaid", "bool"),
    Column("late", "integer", low=0, high=12),
)
ARROW = {
    "timestamp": pa.timestamp("us"),
    "string": pa.string(),
    "bool": pa.bool_(),
    "date": pa.date32(),
    "float": pa.float64(),
    "integer": pa.int64(),
}
JOIN = "FROM bank.customers b JOIN telco.subscribers t ON b.phone = t.msisdn"


def catalogues(rows: int) -> tuple[Catalogue, Catalogue]:
    return (
        Catalogue("bank", (Table("customers", (("phone",),), BANK, rows),)),
        Catalogue("telco", (Table("subscribers", (("msisdn",),), TELCO, rows),)),
    )


def context(rows: int, to: tuple[str, ...] = ("bank",), min_rows: int = 1) -> Context:
    return Context("q", catalogues(rows), to, rows, min_rows)


def arrow(columns: tuple[Column, ...], values: dict[str, list[Any]]) -> pa.Table:
    arrays = {}
    for column in columns:
        kind = pa.decimal128(column.precision, column.scale) if column.type == "decimal" else ARROW[column.type]
        arrays[column.name] = pa.array(values[column.name], kind)
    return pa.table(arrays)


def tables(rows: int, seed: int = 1) -> tuple[pa.Table, pa.Table]:
    """Both tables' aligned rows, with NULLs, negative numbers, quotes and an unbalanced group."""
    rng = np.random.default_rng(seed)

    def some(values: list[Any], share: float = 0.1) -> list[Any]:
        return [None if miss else value for value, miss in zip(values, rng.random(rows) < share, strict=True)]

    def cents(low: int, high: int) -> list[decimal.Decimal]:
        return [decimal.Decimal(int(v)).scaleb(-2) for v in rng.integers(low, high, rows)]

    keys = [f"+44790{i:07d}" for i in range(rows)]
    day = datetime.date(2020, 1, 1)
    bank = {
        "phone": keys,
        "balance": some(cents(-100_000_000, 1_000_000_000)),
        "income": some([int(v) for v in rng.integers(0, 1_000_000, rows)]),
        "age": [int(v) for v in rng.integers(18, 99, rows)],
        "region": some([("north", "south", "east")[v] for v in rng.integers(0, 3, rows)], 0.05),
        "branch": [("Łódź", "O'Hara", "b")[min(v, 2)] for v in rng.integers(0, 40, rows)],
        "defaulted": some([bool(v) for v in rng.integers(0, 2, rows)]),
        "opened": some([day + datetime.timedelta(days=int(v)) for v in rng.integers(0, 900, rows)]),
        "score": some([float(v) for v in rng.random(rows)]),
        "free": [int(v) for v in rng.integers(-(2**40), 2**40, rows)],
    }
    telco = {
        "msisdn": keys,
        "minutes": some([int(v) for v in rng.integers(0, 100_000, rows)]),
        "bill": some(cents(-999_999, 1_000_000)),
        "plan": some([("basic", "plus", "pro", "x")[v] for v in rng.choice(4, rows, p=[0.5, 0.3, 0.19, 0.01])], 0.05),
        "prepaid": some([bool(v) for v in rng.integers(0, 2, rows)]),
        "late": [int(v) for v in rng.integers(0, 13, rows)],
    }
    return arrow(BANK, bank), arrow(TELCO, telco)


def oracle(
    sql: str, bank: pa.Table, telco: pa.Table, further: Mapping[str, pa.Table] | None = None
) -> list[dict[str, Any]]:
    """DuckDB's answer over the joined tables; `further`: more tables, by party.table."""
    with duckdb.connect(":memory:", config={"threads": 1}) as connection:
        connection.execute("CREATE SCHEMA bank; CREATE SCHEMA telco")
        connection.register("bank_view", bank)
        connection.register("telco_view", telco)
        connection.execute("CREATE TABLE bank.customers AS SELECT * FROM bank_view")
        connection.execute("CREATE TABLE telco.subscribers AS SELECT * FROM telco_view")
        for number, (name, table) in enumerate((further or {}).items()):
            connection.register(f"further_{number}", table)
            connection.execute(f"CREATE TABLE {name} AS SELECT * FROM further_{number}")
        cursor = connection.execute(sql)
        names = [part[0] for part in cursor.description or []]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


class IdealReceived(Received):
    """Columns as they are."""

    def __init__(self, values: np.ndarray) -> None:
        self.values = values
        self.columns, self.rows = values.shape

    def parts(self, columns: int) -> list[Received]:
        return [IdealReceived(self.values[at : at + columns]) for at in range(0, self.columns, columns)]

    @staticmethod
    def joined(handles: Sequence[Any]) -> IdealReceived:
        return IdealReceived(np.concatenate([handle.values for handle in handles]))


class IdealLinear:
    """The oracle of the lattice engine: a trusted third party in a queue. Tests only."""

    def __init__(self, inbox: queue.Queue[Any], outbox: queue.Queue[Any]) -> None:
        self.inbox, self.outbox = inbox, outbox
        self.calls: list[tuple[str, tuple[int, ...]]] = []

    def upload(self, columns: np.ndarray) -> Uploaded:
        if columns.dtype != np.uint64:
            raise TypeError("uploads are uint64")
        self.calls.append(("upload", columns.shape))
        self.outbox.put(columns)
        return Uploaded(*columns.shape)

    def receive(self, k: int, n: int) -> IdealReceived:
        columns = self.inbox.get(timeout=60)
        if columns.shape != (k, n):
            raise ValueError("shapes differ")
        return IdealReceived(columns)

    def inner_owner(self, up: Uploaded, rows: int, bits: int) -> np.ndarray:
        share = self.inbox.get(timeout=60)
        if share.shape != (up.columns, rows):
            raise ValueError("shapes differ")
        return share

    def inner_multiplier(self, got: IdealReceived, rows: np.ndarray, bits: int) -> np.ndarray:
        if rows.dtype != np.int64 or np.abs(rows).max(initial=0) >= 2 ** (bits - 1):
            raise ValueError("a multiplier is wider than said")
        mask = np.frombuffer(np.random.default_rng().bytes(8 * got.columns * len(rows)), np.uint64)
        mask = mask.reshape(got.columns, len(rows))
        self.outbox.put(got.values @ rows.astype(np.uint64).T - mask)
        return mask

    def upload_long(self, columns: np.ndarray) -> Uploaded:
        if columns.dtype != np.int64:
            raise TypeError("uploads modulo 2^104 are int64")
        self.calls.append(("upload_long", columns.shape))
        self.outbox.put(columns)
        return Uploaded(*columns.shape)

    receive_long = receive

    def long_owner(self, up: Uploaded, rows: int) -> np.ndarray:
        share = self.inbox.get(timeout=60)
        if share.shape != (up.columns, rows, 2):
            raise ValueError("shapes differ")
        return share

    def long_multiplier(self, got: IdealReceived, rows: np.ndarray, bits: int) -> np.ndarray:
        if rows.dtype != np.int64 or np.abs(rows).max(initial=0) >= 2 ** (bits - 1) or bits > 22:
            raise ValueError("a multiplier is wider than said")
        exact = got.values.astype(object) @ rows.astype(object).T
        if exact.size and np.abs(exact).max() >= 2**102:
            raise ValueError("a sum leaves a quarter of the modulus")
        masks = [secrets.randbits(104) for _ in range(exact.size)]
        rest = [(int(value) - mask) % 2**104 for value, mask in zip(exact.reshape(-1), masks, strict=True)]
        ours, theirs = (
            np.frombuffer(b"".join(one.to_bytes(16, "little") for one in some), np.uint64).reshape(*exact.shape, 2)
            for some in (masks, rest)
        )
        self.outbox.put(theirs)
        return ours


@dataclass
class Pair:
    """Both engines over one pair of channels; statements run one after the other."""

    engines: tuple[Engine, Engine]
    channels: tuple[Channel, Channel]
    further: dict[str, pa.Table] = field(default_factory=dict)  # by party.table

    @classmethod
    def ideal(cls) -> Pair:
        ends = channels()
        there: queue.Queue[Any] = queue.Queue()
        back: queue.Queue[Any] = queue.Queue()
        linears = (IdealLinear(back, there), IdealLinear(there, back))
        made = [
            Engine(channel, Guard("r", channel.peer, (), Ledger()), linear, Ot(channel, index), index)  # type: ignore[arg-type]
            for index, (channel, linear) in enumerate(zip(ends, linears, strict=True))
        ]
        return cls((made[0], made[1]), ends)

    @classmethod
    def real(cls) -> Pair:
        ends = channels()
        made = [Engine.start(channel, Guard("r", channel.peer, (), Ledger()), i) for i, channel in enumerate(ends)]
        return cls((made[0], made[1]), ends)

    def run(
        self, made: Plan, bank: pa.Table, telco: pa.Table, alignment: bytes | None = None
    ) -> tuple[Result | None, Result | None]:
        """Execute one plan on both sides, each with a guard that allows what the plan names and nothing else."""
        sides = []
        self.ledgers = [Ledger(), Ledger()]
        for engine, table in zip(self.engines, (bank, telco), strict=True):
            guard = Guard("r", engine.channel.peer, made.request.openings, self.ledgers[engine.index], made.min_rows)
            us = engine.channel.us
            others = {further_name(name): self.further[f"{us}.{name}"] for name in reads_of(made, us).there}
            columns = evaluate(table, made.local[us], TABLE, others=others)
            sides.append((replace(engine, guard=guard), columns))
        return run_pair(
            lambda: execute(made, sides[0][1], sides[0][0], alignment),
            lambda: execute(made, sides[1][1], sides[1][0], alignment),
            *self.channels,
        )

    def query(self, sql: str, bank: pa.Table, telco: pa.Table, **options: Any) -> Result:
        made = plan(sql, context(bank.num_rows, **options))
        first, second = self.run(made, bank, telco)
        answer = first if first is not None else second
        if answer is None:
            raise AssertionError("nobody got an answer")
        return answer


def same(found: Any, wanted: Any) -> bool:
    """Integers and decimals identical, floats to 1e-9 relative; DuckDB's NaN of a constant CORR is our NULL."""
    if isinstance(wanted, float):
        if wanted != wanted:
            return found is None
        return isinstance(found, float) and abs(found - wanted) <= 1e-9 * max(abs(wanted), abs(found), 1e-300)
    if isinstance(wanted, decimal.Decimal):
        return isinstance(found, str) and found == f"{wanted:f}"
    if isinstance(wanted, (datetime.date, datetime.datetime)):
        return bool(found == str(wanted))
    return type(found) is type(wanted) and bool(found == wanted)


def agree(result: Result, wanted: list[dict[str, Any]]) -> None:
    """Same rows, whatever their order in the oracle; otherwise an AssertionError that shows both."""
    assert list(result.columns) == (list(wanted[0]) if wanted else list(result.columns))
    assert len(result.rows) == len(wanted), (result.rows, wanted)
    left = list(wanted)
    for row in result.rows:
        match = next((other for other in left if all(same(row[name], other[name]) for name in row)), None)
        assert match is not None, (row, left)
        left.remove(match)
