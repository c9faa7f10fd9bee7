"""Seconds and bytes of joint SQL and statistics: two processes, one core each, over mutual TLS on loopback, no dealer.

    python benchmarks/sql.py [--rows 100000 1000000] [--only dot ...] [--loopback] [--json]

Aligned columns are in memory, declared `nullable: false`. Each line is one statement of one session, planned and run on
both sides; bytes are TLS payload both ways; every answer is compared with the plain one. What a session needs once
(keys, base transfers) comes before the first line. `again` repeats a statement in the same session. The second
column of seconds is the same through a proxy that makes loopback a line of 100 Mbit/s and 40 ms (`slow_link.py`). The
last columns are SPU's, Cheetah and SEMI2K, where it is installed (`sql_peers.py`).
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).resolve().parents[1])  # not this folder: its files are named as packages are

import numpy as np
import pyarrow as pa

from benchmarks import sql_peers
from benchmarks.slow_link import Network
from benchmarks.two_parties import NAMES, Record, machine, memory, run_both
from connectors import evaluate
from kernels import ntt
from mpc import compare
from mpc.engine import Engine
from mpc.sql import TABLE, Context, Plan, execute, plan
from mpc.statistics import plan as statistics
from party.catalogue import Catalogue, Column, Table
from party.channel import Channel
from party.guard import Guard

JOIN = "FROM bank.customers b JOIN telco.subscribers t ON b.phone = t.msisdn"
REGIONS = tuple(f"region{n}" for n in range(10))
PLANS = tuple(f"plan{n}" for n in range(10))
FEATURES = 10  # columns a side of the correlation
ALIGNMENT = b"an alignment's digest"
SLOW = Network(rate=100e6, round_trip=0.040)
BITS = 21  # magnitude of a column: with its sign a multiplier of 22 bits


def _columns(party: str) -> tuple[Column, ...]:
    key, group, domain = ("phone", "region", REGIONS) if party == "bank" else ("msisdn", "plan", PLANS)
    numbers = [Column(f"x{n}", "integer", low=-(2**BITS) + 1, high=2**BITS - 1) for n in range(FEATURES)]
    found = [
        Column(group, "string", domain=domain),
        Column("flag", "bool"),
        Column("wide", "integer", low=-(2**42), high=2**42),
        Column("pence", "integer", low=-(2**30), high=2**30),
        Column("long", "integer", low=-(2**61), high=2**61),
        *numbers,
    ]
    return Column(key, "string"), *(replace(column, nullable=False) for column in found)


def catalogues(rows: int) -> tuple[Catalogue, Catalogue]:
    """Both parties' tables."""
    return (
        Catalogue("bank", (Table("customers", (("phone",),), _columns("bank"), rows),)),
        Catalogue("telco", (Table("subscribers", (("msisdn",),), _columns("telco"), rows),)),
    )


def columns(place: int, rows: int) -> dict[str, np.ndarray]:
    """One party's aligned columns; groups as numbers."""
    rng = np.random.default_rng(place)
    found = {
        "group": rng.integers(0, 10, rows),
        "flag": rng.integers(0, 2, rows),
        "wide": rng.integers(-(2**42), 2**42, rows),
        "pence": rng.integers(-(2**30), 2**30, rows),
        "long": rng.integers(-(2**61), 2**61, rows),
    }
    return found | {f"x{n}": rng.integers(-(2**BITS) + 1, 2**BITS, rows) for n in range(FEATURES)}


def table(place: int, values: dict[str, np.ndarray]) -> pa.Table:
    """The same as our aligned table."""
    group, names = ("region", REGIONS) if place == 0 else ("plan", PLANS)
    arrays = {
        group: pa.DictionaryArray.from_arrays(pa.array(values["group"]), pa.array(names)).cast(pa.string()),
        "flag": pa.array(values["flag"] == 1),
        **{name: pa.array(values[name]) for name in ("wide", "pence", "long")},
    }
    return pa.table(arrays | {f"x{n}": pa.array(values[f"x{n}"]) for n in range(FEATURES)})


@dataclass(frozen=True)
class Case:
    """One line: a statement, or the columns of a correlation, or comparisons; the plain answer as numbers."""

    name: str
    target: str
    sql: str = ""
    check: Callable[[dict[str, np.ndarray], dict[str, np.ndarray]], np.ndarray] | None = None
    kind: str = "sql"


def _grouped(keys: np.ndarray, count: int, values: np.ndarray) -> np.ndarray:
    sums = np.zeros(count, dtype=np.int64)
    np.add.at(sums, keys, values)
    return sums


def _dot(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The exact inner product, from digits of 21 bits whose products add up in words."""
    digits = (
        [first >> 42, first >> 21 & 0x1FFFFF, first & 0x1FFFFF],
        [second >> 42, second >> 21 & 0x1FFFFF, second & 0x1FFFFF],
    )
    whole = sum(
        int((x * y).sum()) << 21 * (4 - i - j) for i, x in enumerate(digits[0]) for j, y in enumerate(digits[1])
    )
    return np.array([whole], dtype=object)


CASES = (
    Case(
        "dot, 22-bit multiplier",
        "0.5 s, 20 MB",
        f"SELECT SUM(b.x0 * t.x0) AS s {JOIN}",
        lambda a, b: np.array([(a["x0"] * b["x0"]).sum()]),
    ),
    Case(
        "dot, again",
        "0.1 s, 0.2 MB",
        f"SELECT SUM(b.x0 * t.x0) AS s {JOIN}",
        lambda a, b: np.array([(a["x0"] * b["x0"]).sum()]),
    ),
    Case(
        "sum of a 43-bit column",
        "0.8 s, 26 MB",
        f"SELECT SUM(CASE WHEN b.flag THEN t.wide END) AS s {JOIN}",
        lambda a, b: np.array([b["wide"][a["flag"] == 1].sum()]),
    ),
    Case(
        "10 own groups, SUM",
        "1 s, 21 MB",
        f"SELECT b.region, SUM(t.x0) AS s {JOIN} GROUP BY b.region",
        lambda a, b: _grouped(a["group"], 10, b["x0"]),
    ),
    Case(
        "10 x 10 groups, SUM, COUNT",
        "6 s, 220 MB",
        f"SELECT b.region, t.plan, SUM(t.x0) AS s, COUNT(*) AS n {JOIN} GROUP BY b.region, t.plan",
        lambda a, b: _grouped(a["group"] * 10 + b["group"], 100, b["x0"]),
    ),
    Case(
        "SUM WHERE pA AND pB",
        "0.5 s, 20 MB",
        f"SELECT SUM(t.x0) AS s {JOIN} WHERE b.x1 > 0 AND t.x2 < 1000",
        lambda a, b: np.array([b["x0"][(a["x1"] > 0) & (b["x2"] < 1000)].sum()]),
    ),
    Case(
        "dot of 31-bit columns",
        "0.8 s, 26 MB",
        f"SELECT SUM(b.pence * t.pence) AS s {JOIN}",
        lambda a, b: _dot(a["pence"], b["pence"]),
    ),
    Case(
        "dot of 62-bit columns",
        "0.8 s, 26 MB",
        f"SELECT SUM(b.long * t.long) AS s {JOIN}",
        lambda a, b: _dot(a["long"], b["long"]),
    ),
    Case(
        "median of filtered rows",
        "8 s, 60 MB",
        f"SELECT MEDIAN(b.x0) AS s {JOIN} WHERE t.x1 > 0",
        lambda a, b: np.array([np.median(a["x0"][b["x1"] > 0])]),
    ),
    Case(
        "COUNT(DISTINCT) of 10 values",
        "none",
        f"SELECT COUNT(DISTINCT b.region) AS s {JOIN} WHERE t.x1 > 0",
        lambda a, b: np.array([len(np.unique(a["group"][b["x1"] > 0]))]),
    ),
    Case(
        "WHERE b.x > t.x, 22 bits",
        "none",
        f"SELECT COUNT(*) AS s {JOIN} WHERE b.x0 > t.x0",
        lambda a, b: np.array([(a["x0"] > b["x0"]).sum()]),
    ),
    Case("20 x 20 correlation", "12 s, 430 MB", kind="correlation"),
    Case("100k comparisons, 64 bits", "3 s, 60 MB", kind="comparison"),
)


def _sql(case: Case, engine: Engine, aligned: pa.Table, rows: int) -> Any:
    made = plan(case.sql, Context("q", catalogues(rows), ("bank",), rows, 1))
    return _run(made, engine, aligned)


def _run(made: Plan, engine: Engine, aligned: pa.Table) -> Any:
    us = engine.channel.us
    return execute(made, evaluate(aligned, made.local[us], TABLE), _guarded(engine, made), ALIGNMENT)


def _guarded(engine: Engine, made: Plan) -> Engine:
    guard = Guard("bench", engine.channel.peer, made.request.openings, Record(), made.min_rows)
    return replace(engine, guard=guard)


def _correlation(engine: Engine, aligned: pa.Table, rows: int) -> Any:
    names = [f"{party}.x{n}" for party in NAMES for n in range(FEATURES)]
    tables = {"bank": "customers", "telco": "subscribers"}
    made = statistics.plan({"correlation": names}, tables, Context("c", catalogues(rows), ("bank",), rows, 1))
    us, (whole,) = engine.channel.us, made.plans
    found = statistics.execute(
        made, lambda one: evaluate(aligned, one.local[us], TABLE), _guarded(engine, whole), ALIGNMENT
    )
    return None if found is None else np.array(found["correlation"]["matrix"], dtype=np.float64)  # type: ignore[index,call-overload]


def side(place: int, channel: Channel, task: dict[str, Any]) -> dict[str, Any]:
    """One party: every case, one after the other."""
    engine = Engine.start(channel, Guard("bench", NAMES[1 - place], (), Record()), place)
    rows, found = task["rows"], []
    values = columns(place, rows)
    aligned = table(place, values)
    other = columns(1 - place, rows)  # to check the answers only
    both = (values, other) if place == 0 else (other, values)
    compare.less_than(engine, np.zeros(1, np.uint64), 8)  # base transfers
    small = catalogues(16), {name: column[:16] for name, column in values.items()}
    for name in ("x0", "long"):
        start_up = plan(f"SELECT SUM(b.{name} * t.{name}) AS s {JOIN}", Context("w", small[0], ("bank",), 16, 1))
        _run(start_up, engine, table(place, small[1]))  # keys
    for case in CASES:
        if task["only"] and not any(case.name.startswith(word) for word in task["only"]):
            continue
        sent, start, cpu = channel.counters.sent, time.perf_counter(), time.process_time()
        rounds = channel.counters.rounds
        if case.kind == "sql":
            answer = _sql(case, engine, aligned, rows)
            spent = time.perf_counter() - start, time.process_time() - cpu
            right = answer is None or [row["s"] for row in answer.rows] == case.check(*both).tolist()  # type: ignore[misc]
        elif case.kind == "correlation":
            matrix = _correlation(engine, aligned, rows)
            spent = time.perf_counter() - start, time.process_time() - cpu
            plain = np.corrcoef(np.stack([side[f"x{n}"] for side in both for n in range(FEATURES)]))
            right = matrix is None or bool(np.allclose(matrix, plain, rtol=0, atol=1e-9))
        else:
            ours = np.random.default_rng(place).integers(0, 2**64, 100_000, dtype=np.uint64)
            bits = compare.less_than(engine, ours, 64)
            spent = time.perf_counter() - start, time.process_time() - cpu
            right = len(bits) == len(ours)
        found.append(
            {
                "name": case.name,
                "wall": spent[0],
                "cpu": spent[1],
                "sent": channel.counters.sent - sent,
                "rounds": channel.counters.rounds - rounds,
                "right": right,
            }
        )
    return {
        "cases": found,
        "memory": memory("VmHWM"),
        "kernel": f"ntt: {ntt.variants()[-1] if ntt.variants() else 'numpy'}",
    }


def measure(rows: int, only: list[str], network: Network | None) -> list[dict[str, Any]]:
    """Both parties once, and once more over the slow line."""
    first, second = run_both(side, {"rows": rows, "only": only})
    slow = None if network is None else run_both(side, {"rows": rows, "only": only}, network)
    both = (columns(0, rows), columns(1, rows))
    found = []
    for place, (ours, theirs) in enumerate(zip(first["cases"], second["cases"], strict=True)):
        slower = [] if slow is None else [one["cases"][place] for one in slow]
        if not all(one["right"] for one in (ours, theirs, *slower)):
            raise SystemExit(f"wrong: {ours['name']}")
        found.append(
            {
                "rows": rows,
                "case": ours["name"],
                "wall_s": round(max(ours["wall"], theirs["wall"]), 3),
                "slow_s": round(max(one["wall"] for one in slower), 3) if slower else None,
                "cpu_s": round(ours["cpu"] + theirs["cpu"], 3),
                "mb": round((ours["sent"] + theirs["sent"]) / 1e6, 2),
                "rounds": max(ours["rounds"], theirs["rounds"]),
                "target_1M": next(case.target for case in CASES if case.name == ours["name"]),
                "kernel": first["kernel"],
                "spu": _peers(ours["name"], both),
            }
        )
    return found


def _peers(name: str, both: tuple[dict[str, np.ndarray], dict[str, np.ndarray]]) -> dict[str, str]:
    """What SPU's protocols take for a case, as text; nothing where it is not installed."""
    if not sql_peers.installed():
        return {}
    case, found = next(case for case in CASES if case.name == name), {}
    for protocol in sql_peers.PROTOCOLS:
        told = None if case.check is None else sql_peers.seconds(name, protocol, both, case.check(*both))
        found[protocol] = "-" if told is None else f"{told[0]:.2f}" + ("" if told[1] else " wrong")
    return found


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0] if __doc__ else None)
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--only", nargs="+", default=[], help="cases whose names begin so")
    parser.add_argument("--loopback", action="store_true", help="without the slow line")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    network = None if options.loopback else SLOW
    figures = [row for rows in options.rows for row in measure(rows, options.only, network)]
    if options.json:
        print(json.dumps({"machine": machine(), "slow": str(SLOW), "runs": figures}))
        return
    print(f"{machine()}; {figures[0]['kernel']}; slow: {SLOW}")
    peers = "".join(f"{name + ' s':>12}" for name in sql_peers.PROTOCOLS) if sql_peers.installed() else ""
    print("" if peers else "SPU is not installed: no column beside ours")
    heads = ("wall s", "slow s", "cpu s", "MB", "rounds")
    print(f"{'rows':>8}  {'case':<28} " + " ".join(f"{head:>8}" for head in heads) + f"  target at 1M    {peers}")
    for row in figures:
        others = "".join(f"{text:>12}" for text in row["spu"].values())
        print(
            f"{row['rows']:>8}  {row['case']:<28} {row['wall_s']:>8} {row['slow_s'] or '-':>8} {row['cpu_s']:>8}"
            f" {row['mb']:>8} {row['rounds']:>8}  {row['target_1M']:<15} {others}"
        )


if __name__ == "__main__":
    main()
