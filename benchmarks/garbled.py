"""Signs in one exchange beside a truncation: python benchmarks/garbled.py [--json] [values] [bits].

Median milliseconds of 21 runs: both sides in one process with network and TLS left out, and each side's gates alone.
"""

from __future__ import annotations

import argparse
import json
import statistics
import threading
import time
from collections.abc import Callable

import numpy as np

from kernels.prg import Prg
from mpc.engine import Engine
from mpc.garbled import Asked, Evaluator, Garbler, circuit, fresh_offset, truncate_and_test
from party.channel import memory_pair
from party.guard import Guard
from party.request import Opening

_RUNS, _WHAT = 21, "benchmark: signs"


class _Nowhere:
    """A ledger that keeps nothing."""

    def append(self, event: str, /, **fields: str | int) -> None:
        pass


def _median(action: Callable[[], object]) -> float:
    """Milliseconds."""
    found = []
    for _ in range(_RUNS):
        start = time.perf_counter()
        action()
        found.append(time.perf_counter() - start)
    return 1e3 * statistics.median(found)


def measure(count: int, bits: int) -> dict[str, float]:
    """Two groups of one value and one of the rest, beside half as many truncations."""
    rng = np.random.default_rng(1)
    groups = (slice(0, 1), slice(1, 2), slice(2, count))
    asked = [Asked(rng.integers(0, 2**64, count, dtype=np.uint64), bits, groups) for _ in range(2)]
    words = rng.integers(0, 2**64, count // 2, dtype=np.uint64)
    channels = memory_pair()
    openings = [Opening(_WHAT, channel.us) for channel in channels]
    engines = [
        Engine.start(channel, Guard("benchmark", channel.peer, openings, _Nowhere()), index)
        for index, channel in enumerate(channels)
    ]

    def together(action: Callable[[Engine], object]) -> None:
        threads = [threading.Thread(target=action, args=(engine,)) for engine in engines]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    together(lambda engine: engine.ot.prepare())
    before = sum(channel.counters.sent for channel in channels)
    exchange = _median(lambda: together(lambda e: truncate_and_test(e, words, 20, asked[e.index], _WHAT)))
    sent = sum(channel.counters.sent for channel in channels) - before
    known, noise = asked[0].ours(), Prg(bytes(32), "benchmark")
    wires = rng.integers(0, 2**64, (*known.shape, 2), dtype=np.uint64)
    garbling = _median(lambda: circuit(Garbler(known, fresh_offset(noise)), wires, groups))
    tables = rng.integers(0, 2**64, (2 * asked[0].gates, 2), dtype=np.uint64)
    evaluating = _median(lambda: circuit(Evaluator(tables), wires, groups))
    return {"exchange_ms": exchange, "garbling_ms": garbling, "evaluating_ms": evaluating, "bytes": sent / _RUNS}


def main() -> None:
    """Print one line, or with --json one document."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("values", nargs="?", type=int, default=26)
    parser.add_argument("bits", nargs="?", type=int, default=62)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if not (options.values >= 3 and 2 <= options.bits <= 64):
        parser.error("at least 3 values of 2 to 64 bits")
    found = measure(options.values, options.bits)
    if options.json:
        print(json.dumps(found))
        return
    print(f"{options.values} values of {options.bits} bits: both sides {found['exchange_ms']:.1f} ms in all,", end="")
    print(f" gates alone {found['garbling_ms']:.1f} and {found['evaluating_ms']:.1f} ms, {found['bytes'] / 1e3:.1f} kB")


if __name__ == "__main__":
    main()
