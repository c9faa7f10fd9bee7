"""Microseconds a row for each rule of normalisation, clean and messy values, and the memory it takes.

python benchmarks/normalise.py [--rows 1000000] [--json]
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from benchmarks.two_parties import machine, memory
from psi import KeyColumn, from_scan

STEP = 65_536
CASES = {  # name: rule, region, how a row of eight or nine digits is written
    "text, clean": ("text", None, lambda n: pc.binary_join_element_wise("customer-", n, "")),
    "text, spaces": ("text", None, lambda n: pc.binary_join_element_wise(" customer-", n, " ", "")),
    "text, accents": ("text", None, lambda n: pc.binary_join_element_wise("\u00e9l\u00e8ve-", n, "")),
    "integer, text": ("integer", None, lambda n: n),
    "integer, zeros": ("integer", None, lambda n: pc.binary_join_element_wise("00", n, "")),
    "email, clean": ("email", None, lambda n: pc.binary_join_element_wise("ann.", n, "@example.com", "")),
    "email, mixed": ("email", None, lambda n: pc.binary_join_element_wise(" Ann.", n, "@Example.COM ", "")),
    "name": ("name", None, lambda n: pc.binary_join_element_wise("Ann O'Neill-Smith ", n, "")),
    "phone, E.164": ("phone", "GB", lambda n: pc.binary_join_element_wise("+447", n, "")),
    "phone, national": ("phone", "GB", lambda n: pc.binary_join_element_wise("07", n, "")),
    "phone, messy": (
        "phone",
        "GB",
        lambda n: pc.binary_join_element_wise(
            "0044 (7", pc.utf8_slice_codeunits(n, 0, 3), ") ", pc.utf8_slice_codeunits(n, 3, 9), ""
        ),
    ),
}


def batches(rows: int, case: str) -> Iterator[pa.RecordBatch]:
    """The rows of one case, made as they are read."""
    write = CASES[case][2]
    for at in range(0, rows, STEP):
        numbers = np.arange(at, min(at + STEP, rows)) + 100_000_000
        yield pa.record_batch({"key": write(pa.array(numbers).cast(pa.string()))})


def measure(rows: int, case: str) -> dict[str, object]:
    """One case, with the time to make its rows taken off."""
    rule, region, _ = CASES[case]
    start = time.perf_counter()
    for _ in batches(rows, case):
        pass
    making = time.perf_counter() - start
    source = from_scan(lambda: batches(rows, case), [KeyColumn("key", rule, region)])
    start = time.perf_counter()
    count = sum(len(batch.rows) for batch in source.batches())
    seconds = time.perf_counter() - start - making
    if count != rows:
        raise SystemExit(f"{case}: {rows - count} rows were not read")
    return {"case": case, "rows": rows, "us_a_row": round(seconds / rows * 1e6, 3)}


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0] if __doc__ else None)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    before = memory("VmRSS")
    figures = [measure(options.rows, case) for case in CASES]
    grown = round((memory("VmHWM") - before) / 1e6)
    if options.json:
        print(json.dumps({"machine": machine(), "rows": figures, "memory_mb": grown}))
        return
    print(f"{machine()}; {options.rows:,} rows each; {grown} MB over imports at the peak")
    for row in figures:
        print(f"{row['case']:20} {row['us_a_row']:>8} us a row")


if __name__ == "__main__":
    main()
