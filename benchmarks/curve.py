"""The curve kernel's variants against `cryptography`: python benchmarks/curve.py [--json] [--points N] [--rounds N].

One line a variant: multiplications a second on one core, how many times X25519 of `cryptography` in the same run, the
map of an identifier of 12 bytes with hash_to_field, and two threads over one. Then SHA-256 of 48 bytes. The variants
take turns in every round, times are CPU times of the thread (so other work on the machine matters less), medians over
the rounds. Two threads over one is by the clock, from the quickest of many short trials of each, since other work on
the machine takes the second core away most of the time.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from kernels import curve25519, curve25519_native, curve25519_scalar, digest

TRIALS, TRIAL = 40, 0.002  # of one and of two threads in a round, and the seconds of one
TAG = b"tallystick/v1/benchmark/curve25519_XMD:SHA-512_ELL2_NU_/" + bytes(32)


def machine() -> str:
    """The processor's name where the system tells it, and how many of it we may use."""
    info = Path("/proc/cpuinfo")
    names = [line.split(":")[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
    cores = len(os.sched_getaffinity(0))
    return f"{names[0] if names else platform.processor() or platform.machine()}, {cores} cores for us"


def cpu(work: Callable[[], object]) -> float:
    start = time.thread_time()
    work()
    return time.thread_time() - start


def wall(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def measure(count: int, rounds: int) -> dict[str, Any]:
    scalar = curve25519.random_scalar()
    data, offsets = curve25519.pack([b"%012d" % i for i in range(count)])
    points = curve25519.hash_to_curve(data, offsets, TAG)
    few = points[: max(count // 16, 1)].tobytes()
    rows = np.ascontiguousarray(np.tile(points, (4, 1)))
    times: dict[str, list[float]] = {}
    quickest: dict[tuple[str, int], float] = {}  # by variant and threads, seconds a point of each thread
    with ThreadPoolExecutor(2) as threads:

        def at_once(variant: str, some: np.ndarray, count: int) -> None:
            for each in [threads.submit(curve25519_native.multiply, variant, scalar, some) for _ in range(count)]:
                each.result()

        for _ in range(rounds):
            done = {"cryptography": cpu(lambda: curve25519_scalar.multiply(scalar, few)) / (len(few) // 32)}
            for name in curve25519.variants():
                done[f"{name} multiply"] = cpu(lambda n=name: curve25519_native.multiply(n, scalar, points)) / count
                done[f"{name} map"] = cpu(lambda n=name: curve25519_native.hash_to_curve(n, data, offsets, TAG)) / count
                some = points[: max(int(TRIAL / done[f"{name} multiply"]), 1)]
                for _ in range(TRIALS):
                    for number in (1, 2):
                        seconds = wall(lambda n=name, some=some, number=number: at_once(n, some, number)) / len(some)
                        quickest[name, number] = min(seconds, quickest.get((name, number), seconds))
            for name in (*digest.variants(), "hashlib"):
                seconds = cpu(lambda n=name: digest.sha256_rows(b"benchmark/48byte", rows, 12, n))
                done[f"{name} digest"] = seconds / len(rows)
            for key, value in done.items():
                times.setdefault(key, []).append(value)
    middle = {key: statistics.median(values) for key, values in times.items()}
    return {
        "machine": machine(),
        "active": curve25519.active(),
        "cryptography": {"multiplications_per_s": round(1 / middle["cryptography"])},
        "variants": {
            name: {
                "multiplications_per_s": round(1 / middle[f"{name} multiply"]),
                "times_cryptography": round(middle["cryptography"] / middle[f"{name} multiply"], 2),
                "map_us": round(middle[f"{name} map"] * 1e6, 3),
                "two_threads": round(2 * quickest[name, 1] / quickest[name, 2], 2),
            }
            for name in curve25519.variants()
        },
        "digest_us": {name: round(middle[f"{name} digest"] * 1e6, 3) for name in (*digest.variants(), "hashlib")},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--points", type=int, default=8192)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    found = measure(arguments.points, arguments.rounds)
    if arguments.json:
        print(json.dumps(found, indent=2))
        return
    print(f"{found['machine']}; active: {found['active']}")
    print(f"{'':<14}{'mult/s':>10}{'times cryptography':>20}{'map us':>9}{'two threads':>13}")
    print(f"{'cryptography':<14}{found['cryptography']['multiplications_per_s']:>10,}{1:>20}")
    for name, row in found["variants"].items():
        print(
            f"{name:<14}{row['multiplications_per_s']:>10,}{row['times_cryptography']:>20}"
            f"{row['map_us']:>9}{row['two_threads']:>13}"
        )
    print("SHA-256 of 48 bytes, us: " + ", ".join(f"{name} {value}" for name, value in found["digest_us"].items()))


if __name__ == "__main__":
    main()
