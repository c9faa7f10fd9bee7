"""Seconds, bytes and memory of scoring a cohort with two model halves, two processes over mutual TLS on loopback.

    python benchmarks/score.py [--rows 100000] [--columns 10] [--decimals 3] [--json]

Each side reads its columns from a Parquet file, prepares them, computes its part of the logits, opens them to the bank,
and the bank writes the scores: all of the score stage but the alignment. The first request of a connection also makes
the base transfers. Prints the machine; `cpu` is computing of both sides, which load on the machine does not change.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.two_parties import Record, machine, memory, run_both
from mpc.engine import Engine
from party.channel import Channel
from party.guard import Guard
from vfl import cohort
from vfl.model import ModelHalf


def side(place: int, channel: Channel, task: Any) -> dict[str, Any]:
    """One party: a table of its own, its half, two requests."""
    rows, width, decimals = task
    rng = np.random.default_rng(place)
    names = tuple(f"x{n}" for n in range(width))
    half = ModelHalf(
        names, (0.0,) * width, (1.0,) * width, tuple(rng.normal(0, 0.3, width)), 0.1 if place == 0 else None, 3.0
    )
    wanted = cohort.Cohort(
        ("bank", "telco"),
        {"bank": "b", "telco": "t"},
        {"bank": names, "telco": names},
        "0" * 16,
        "bank",
        decimals,
        False,
    )
    guard = Guard("benchmark", channel.peer, cohort.request(wanted).openings, Record())
    engine = Engine.start(channel, guard, place)
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "table.parquet"
        pq.write_table(pa.table({name: rng.standard_normal(rows) for name in names}), path)
        order = pa.array(rng.permutation(rows))
        before = memory("VmRSS")
        for request in ("first", "again"):
            began, cpu, bytes_ = time.perf_counter(), time.process_time(), channel.counters.sent
            table = pq.read_table(path).take(order)
            columns = {
                name: (table.column(name).to_numpy(), np.asarray(table.column(name).is_valid().to_numpy()))
                for name in names
            }
            logits = cohort.score(engine, cohort.partial_logits(half, columns), wanted)
            if logits is not None:
                scores = cohort.Forms("score", decimals).of(logits)
                pq.write_table(pa.table({"key": pa.array(np.arange(rows)), "score": scores}), Path(folder) / "scores")
            found[request] = {
                "seconds": time.perf_counter() - began,
                "cpu": time.process_time() - cpu,
                "bytes": channel.counters.sent - bytes_,
            }
    return found | {"memory": memory("VmHWM") - before}


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--columns", type=int, default=10)
    parser.add_argument("--decimals", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    both = run_both(side, (options.rows, options.columns, options.decimals))
    result = {
        "machine": machine(),
        "rows": options.rows,
        "columns": options.columns,
        **{
            request: {
                "seconds": max(one[request]["seconds"] for one in both),
                "cpu": sum(one[request]["cpu"] for one in both),
                "bytes": sum(one[request]["bytes"] for one in both),
            }
            for request in ("first", "again")
        },
        "memory": max(one["memory"] for one in both),
    }
    if options.json:
        print(json.dumps(result))
        return
    print(f"{result['machine']}\n{options.rows} rows, {options.columns} columns a side")
    for request in ("first", "again"):
        found = result[request]
        print(f"{request:6} {found['seconds']:6.2f} s, {found['cpu']:5.2f} CPU s, {found['bytes'] / 1e6:6.2f} MB")
    print(f"memory above the imports: {result['memory'] / 1e6:.0f} MB a party at most")


if __name__ == "__main__":
    main()
