"""Microseconds of CPU a row for each rule of normalisation, clean and messy values, and the memory it takes.

python benchmarks/normalise.py [--rows 1000000] [--json]

Memory: a fresh process reads a table of this many rows, and one of four times as many, made batch by batch; what it
takes at its peak over its imports.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from benchmarks.two_parties import machine, memory
from psi import KeyColumn, from_scan

STEP = 65_536
GROWTH = ("text, spaces", "email, mixed", "phone, E.164", "phone, messy")


def _join(*parts: object) -> pa.Array:
    return pc.binary_join_element_wise(*parts, "")


def _messy(n: pa.Array) -> pa.Array:
    """British mobile numbers as eight people write them."""
    a, b = pc.utf8_slice_codeunits(n, 0, 3), pc.utf8_slice_codeunits(n, 3, 9)
    shapes = [
        _join("07", a, " ", b),
        _join("+44 7", a, " ", b),
        _join("0044 7", a, "-", b),
        _join("(07", a, ") ", b),
        _join(" 07", n, " "),
        _join("447", n),
        _join("+44 (0)7", a, " ", b),
        _join("07", a, "/", b),
    ]
    return pc.choose(pa.array(np.arange(len(n)) % len(shapes)), *shapes)


def _extensions(n: pa.Array) -> pa.Array:
    odd = pa.array(np.arange(len(n)) % 100 == 0)
    return pc.if_else(odd, _join("07", n, " ext 5"), _messy(n))


# name: rule, region, how a row of nine digits is written
CASES: dict[str, tuple[str, str | None, Callable[[pa.Array], pa.Array]]] = {
    "text, clean": ("text", None, lambda n: _join("customer-", n)),
    "text, spaces": ("text", None, lambda n: _join(" customer-", n, " ")),
    "text, accents": ("text", None, lambda n: _join("\u00e9l\u00e8ve-", n)),
    "integer, int64": ("integer", None, lambda n: n.cast(pa.int64())),
    "integer, text": ("integer", None, lambda n: n),
    "integer, messy": ("integer", None, lambda n: _join(" +00", n)),
    "email, clean": ("email", None, lambda n: _join("ann.", n, "@example.com")),
    "email, mixed": ("email", None, lambda n: _join(" Ann.", n, "@Example.COM ")),
    "name, ASCII": ("name", None, lambda n: _join("Ann O'Neill-Smith ", n)),
    "name, accents": ("name", None, lambda n: _join("Ren\u00e9e O'Neill-Smith ", n)),
    "phone, E.164": ("phone", "GB", lambda n: _join("+447", n)),
    "phone, national": ("phone", "GB", lambda n: _join("07", n)),
    "phone, messy": ("phone", "GB", _messy),
    "phone, AU national": ("phone", "AU", lambda n: _join("04", pc.utf8_slice_codeunits(n, 1, 9))),
    "phone, BR E.164": ("phone", "BR", lambda n: _join("+55119", pc.utf8_slice_codeunits(n, 1, 9))),
    "phone, messy, 1 % odd": ("phone", "GB", _extensions),
}


def batches(rows: int, case: str) -> Iterator[pa.RecordBatch]:
    """The rows of one case, made as they are read."""
    write = CASES[case][2]
    for at in range(0, rows, STEP):
        numbers = np.arange(at, min(at + STEP, rows)) + 100_000_000
        yield pa.record_batch({"key": write(pa.array(numbers).cast(pa.string()))})


def key(case: str) -> KeyColumn:
    """The key column of a case."""
    rule, region, _ = CASES[case]
    return KeyColumn("key", rule, region)


def measure(rows: int, case: str) -> dict[str, object]:
    """One case; its rows are made before, and one batch is read to warm up."""
    table = list(batches(rows, case))
    for _ in from_scan(lambda: table[:1], [key(case)]).batches():
        pass
    start = time.process_time()
    count = sum(len(batch.rows) for batch in from_scan(lambda: table, [key(case)]).batches())
    seconds = time.process_time() - start
    if count != rows:
        raise SystemExit(f"{case}: {rows - count} rows were not read")
    return {"case": case, "rows": rows, "us_a_row": round(seconds / rows * 1e6, 3)}


def peak(rows: int, case: str) -> int:
    """MB over imports at the peak, of a process that reads this once."""
    before = memory("VmRSS")
    for _ in from_scan(lambda: batches(rows, case), [key(case)]).batches():
        pass
    return round((memory("VmHWM") - before) / 1e6)


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0] if __doc__ else None)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    figures = [measure(options.rows, case) for case in CASES]
    sizes = (options.rows, 4 * options.rows)
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as fresh:
        grown = [[fresh.apply(peak, (rows, case)) for rows in sizes] for case in GROWTH]
    if options.json:
        taken = [
            {"case": case, "rows": rows, "memory_mb": mb}
            for case, pair in zip(GROWTH, grown, strict=True)
            for rows, mb in zip(sizes, pair, strict=True)
        ]
        print(json.dumps({"machine": machine(), "rows": figures, "memory": taken}))
        return
    print(f"{machine()}; {options.rows:,} rows each; CPU time")
    for row in figures:
        print(f"{row['case']:22} {row['us_a_row']:>8} us a row")
    for case, pair in zip(GROWTH, grown, strict=True):
        print(f"{case:22} {pair[0]:>5} MB over imports at the peak, {pair[1]} MB at {sizes[1]:,} rows")


if __name__ == "__main__":
    main()
