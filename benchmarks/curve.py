"""The curve kernel's variants against `cryptography`: python benchmarks/curve.py [--json] [--points N] [--rounds N].

One line a variant: multiplications a second on one core, how many times X25519 of `cryptography` in the same run, the
map of an identifier of 12 bytes with hash_to_field, and two threads over one. Then SHA-256 of 48 bytes. The variants
take turns in every round, times are CPU times of the thread (so other work on the machine matters less), medians over
the rounds. Two threads over one is by the clock: believe it only on a machine with two idle cores.
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
    with ThreadPoolExecutor(2) as threads:

        def twice(variant: str) -> None:
            halves = [threads.submit(curve25519_native.multiply, variant, scalar, points) for _ in range(2)]
            for half in halves:
                half.result()

        for _ in range(rounds):
            done = {"cryptography": cpu(lambda: curve25519_scalar.multiply(scalar, few)) / (len(few) // 32)}
            for name in curve25519.variants():
                done[f"{name} multiply"] = cpu(lambda n=name: curve25519_native.multiply(n, scalar, points)) / count
                done[f"{name} map"] = cpu(lambda n=name: curve25519_native.hash_to_curve(n, data, offsets, TAG)) / count
                one = wall(lambda n=name: curve25519_native.multiply(n, scalar, points))
                done[f"{name} threads"] = 2 * one / wall(lambda n=name: twice(n))
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
                "two_threads": round(middle[f"{name} threads"], 2),
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
