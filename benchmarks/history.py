"""Bytes and seconds of the guard of the history as a session grows: two processes, one core each, TLS on loopback.

    python benchmarks/history.py [--rows 2000 100000] [--statements 25] [--json]

One session asks different statements, with conditions of either party or of both, every third by groups, and at the end
a histogram and a correlation. Of each line: pairs of answer sets, what `mpc.sql.near_cost` says, and what moves.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).resolve().parents[1])  # not this folder: its files are named as packages are

import numpy as np
import pyarrow as pa

from benchmarks.two_parties import NAMES, Record, machine, run_both
from connectors import evaluate
from mpc.engine import Engine
from mpc.sql import TABLE, Context, Held, Plan, compared, differ_by_few, plan, probes
from mpc.statistics import plan as statistics
from mpc.statistics.wanted import Wanted
from party.catalogue import Catalogue, Column, Table
from party.channel import Channel
from party.guard import Guard

JOIN = "FROM bank.customers b JOIN telco.subscribers t ON b.phone = t.msisdn"
TABLES = {"bank": "customers", "telco": "subscribers"}
LEAST, FEATURES = 20, 3
ALIGNMENT = b"an alignment's digest"
WORDS = ("a", "b", "c", "d")


def columns(party: str) -> tuple[Column, ...]:
    """A group of four values and some numbers, which may be missing."""
    numbers = [Column(f"x{n}", "integer", low=0, high=999) for n in range(FEATURES)]
    return (
        Column("phone" if party == "bank" else "msisdn", "string"),
        Column("kind", "string", domain=WORDS),
        *numbers,
    )


def context(rows: int) -> Context:
    """What every statement is planned from."""
    made = [Catalogue(p, (Table(t, ((columns(p)[0].name,),), columns(p), rows),)) for p, t in TABLES.items()]
    return Context("q", (made[0], made[1]), ("bank",), rows, LEAST)


def table(place: int, rows: int) -> pa.Table:
    """A party's aligned rows."""
    rng = np.random.default_rng([7, place])
    found = {columns(NAMES[place])[0].name: [str(n) for n in range(rows)]}
    found |= {"kind": [WORDS[n] for n in rng.integers(0, 4, rows)]}
    for n in range(FEATURES):
        values, missing = rng.integers(0, 1000, rows), rng.random(rows) < 0.1
        found[f"x{n}"] = pa.array(values, mask=missing)
    return pa.table(found)


def session(rows: int, statements: int) -> list[Plan]:
    """The plans of all that is asked, in order."""
    rng, made = random.Random(1), []
    for place in range(statements):
        own, other = (f"{side}.x{rng.randrange(FEATURES)} > {rng.randrange(50, 950)}" for side in "bt")
        where = rng.choice([own, other, f"{own} AND {other}", f"{own} AND {other}", f"{own} OR {other}"])
        key = rng.choice(["b.kind", "t.kind"]) if place % 3 == 2 else ""
        select = f"{key}{', ' * bool(key)}COUNT(*) AS n, SUM(b.x0 * t.x0) AS s"
        made.append(plan(f"SELECT {select} {JOIN} WHERE {where}{' GROUP BY ' + key if key else ''}", context(rows)))
    names = tuple(f"{party}.x{n}" for party in NAMES for n in range(FEATURES))
    asked = {"histogram": Wanted(("bank.x0",), edges=("200", "400", "600", "800")), "correlation": Wanted(names)}
    for kind, wanted in asked.items():
        made += statistics.plan({kind: wanted}, TABLES, context(rows)).plans
    return made


def side(place: int, channel: Channel, task: tuple[int, int]) -> dict[str, Any]:
    """One party: the guard before each, all of them answered."""
    engine = Engine.start(channel, Guard("bench", NAMES[1 - place], (), Record()), place)
    aligned, answered, held, lines = table(place, task[0]), list[Plan](), Held(), []
    for made in session(*task):
        started, counters = time.perf_counter(), channel.counters
        found = probes(made, answered)
        planned, step = time.perf_counter() - started, compared(found, held)
        began, sent, rounds = time.perf_counter(), counters.sent, counters.rounds
        if found:
            guard = Guard("bench", channel.peer, made.request.openings, Record(), LEAST)
            local = [evaluate(aligned, probe.plan.local[channel.us], TABLE) for probe in found]
            differ_by_few(replace(engine, guard=guard), f"query.{made.name}.history", found, local, ALIGNMENT)
        lines.append(
            {
                "pairs": sum(len(probe.pairs) for probe in found),
                "planned_s": planned,
                "wall": time.perf_counter() - began,
                "sent": counters.sent - sent,
                "rounds": counters.rounds - rounds,
                "told_bytes": 0 if step is None else step.bytes,
                "told_rounds": 0 if step is None else step.rounds,
            }
        )
        answered.append(made)
    return {"lines": lines}


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0] if __doc__ else None)
    parser.add_argument("--rows", type=int, nargs="+", default=[2000, 100_000])
    parser.add_argument("--statements", type=int, default=25)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    figures = []
    for rows in options.rows:
        first, second = run_both(side, (rows, options.statements))
        for place, (ours, theirs) in enumerate(zip(first["lines"], second["lines"], strict=True)):
            last = options.statements - place
            figures.append(
                {
                    "rows": rows,
                    "what": f"statement {place + 1}" if last > 0 else ("histogram", "correlation")[-last],
                    "pairs": ours["pairs"],
                    "plan_s": round(ours["planned_s"], 3),
                    "wall_s": round(max(ours["wall"], theirs["wall"]), 3),
                    "mb": round((ours["sent"] + theirs["sent"]) / 1e6, 2),
                    "told_mb": round(ours["told_bytes"] / 1e6, 2),
                    "rounds": max(ours["rounds"], theirs["rounds"]),
                    "told_rounds": ours["told_rounds"],
                }
            )
    if options.json:
        print(json.dumps({"machine": machine(), "runs": figures}))
        return
    print(machine())
    for figure in [dict.fromkeys(figures[0])] + figures:
        cells = (str(name if value is None else value) for name, value in figure.items())
        print(" ".join(f"{cell:>13}" for cell in cells))


if __name__ == "__main__":
    main()
