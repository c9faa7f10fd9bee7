"""Oblivious transfer and what is built on it, both sides in one process: python benchmarks/ot.py [--json] [rows].

Wall seconds of the two threads together, network and TLS not included, and the bytes both sides sent.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from kernels import curve25519
from mpc import compare, convert
from mpc.engine import Engine
from mpc.opening import protect
from party.channel import memory_pair
from party.guard import Guard


class _Nowhere:
    """No opening happens here, so nothing is recorded."""

    def append(self, event: str, /, **fields: str | int) -> None:
        raise RuntimeError("a benchmark opened a value")


class Pair:
    """Two engines over one in-memory channel pair."""

    def __init__(self) -> None:
        self.channels = memory_pair()
        self.engines = [
            Engine.start(channel, Guard("benchmark", channel.peer, [], _Nowhere()), index)
            for index, channel in enumerate(self.channels)
        ]
        self.rows: list[dict[str, Any]] = []

    def run(self, label: str, count: int, *actions: Callable[[Engine], object]) -> None:
        """One action for both sides, or one each; adds a row to the table."""
        before = sum(channel.counters.sent for channel in self.channels)
        start = time.perf_counter()
        threads = [
            threading.Thread(target=actions[index % len(actions)], args=(engine,))
            for index, engine in enumerate(self.engines)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        seconds = time.perf_counter() - start
        sent = sum(channel.counters.sent for channel in self.channels) - before
        self.rows.append({"what": label, "count": count, "seconds": seconds, "bytes": sent})


def measure(rows: int) -> list[dict[str, Any]]:
    """All lines of the table, for so many rows."""
    rng = np.random.default_rng(1)
    pair = Pair()
    pair.run("base transfers, once a session", 1, lambda engine: engine.ot.prepare())
    words = rng.integers(0, 2**64, rows, dtype=np.uint64)
    bits = rng.integers(0, 2, rows).astype(np.uint8)
    digits = rng.integers(0, 16, rows).astype(np.uint8)
    t = 2113537
    small = rng.integers(0, t, rows).astype(np.uint64)
    pair.run(
        "correlated transfer mod 2^64",
        rows,
        lambda engine: engine.ot.cot_send(words),
        lambda engine: engine.ot.cot_receive(bits),
    )
    pair.run("the same, both ways at once", 2 * rows, lambda engine: engine.ot.cot_both(words, bits))
    pair.run("keys of 1-of-16", rows, lambda engine: engine.ot.offer16(rows), lambda engine: engine.ot.choose16(digits))
    pair.run("lift from a prime of 22 bits", rows, lambda engine: convert.lift(engine, small, t))
    pair.run("exact truncation", rows, lambda engine: convert.truncate(engine, words, 20))
    pair.run("select (shared bit times shared value)", rows, lambda engine: convert.select(engine, bits, words))
    tenth = words[: rows // 10]
    pair.run("sign of 64 bits", len(tenth), lambda engine: compare.negative(engine, tenth, 64))
    low = tenth & np.uint64(2**20 - 1)
    pair.run("sign of 22 bits", len(low), lambda engine: compare.negative(engine, low, 22))
    groups = np.full(100, 500, dtype=np.uint64)
    cells = np.ones((100, 3), dtype=np.uint64)
    pair.run("min_rows for 100 groups of 3 cells", 100, lambda engine: protect(engine, groups, cells, 20, 21))
    return pair.rows


def main() -> None:
    """Print a table, or with --json one document."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", nargs="?", type=int, default=1 << 20)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    machine = f"{platform.machine()}, {os.cpu_count()} cores, numpy {np.__version__}, curve {curve25519.active()}"
    table = measure(options.rows)
    if options.json:
        print(json.dumps({"machine": machine, "results": table}))
        return
    print(machine)
    for row in table:
        rate = row["count"] / row["seconds"] / 1e6
        each = row["bytes"] / row["count"]
        print(f"{row['what']:<42} {row['count']:>9} {row['seconds']:8.3f} s {rate:8.3f} M/s {each:9.1f} B each")


if __name__ == "__main__":
    main()
