"""Whether the curve kernel's time tells its secrets: python benchmarks/constant_time.py [--measurements N] [--json].

After Reparaz, Balasch, Verbauwhede, "Dude, is my code constant time?" (DATE 2017): calls with one fixed secret and with
fresh random ones in random order, then Welch's t between the two classes' times, over all of them and over those below
a number of percentiles (interrupts only ever add time). |t| above 4.5 in a repeated run is a leak; a small |t| proves
nothing beyond this many measurements. The fixed secrets are extreme: a scalar with a single bit set, an identifier of
zeros. The last line is a control that must leak: the plain twin, which is why it sees public points only.
Exit code 1 when a variant's |t| passes 4.5, or when the control's does not.
"""

from __future__ import annotations

import argparse
import json
import secrets
import sys
import time
from collections.abc import Callable

import numpy as np

from kernels import curve25519, curve25519_native, curve25519_reference

LIMIT = 4.5
POINTS = 32
FIXED = (1 << 254).to_bytes(32, "little")


def welch(first: np.ndarray, second: np.ndarray) -> float:
    spread = first.var(ddof=1) / len(first) + second.var(ddof=1) / len(second)
    return float((first.mean() - second.mean()) / np.sqrt(spread)) if spread else 0.0


def largest_t(times: np.ndarray, fixed: np.ndarray) -> float:
    """The t of largest size over all times and over ten crops."""
    crops = [np.inf, *(np.percentile(times, 100 * (1 - 0.5 ** (10 * k / 10))) for k in range(1, 11))]
    found = [0.0]
    for crop in crops:
        kept = times <= crop
        if min((kept & fixed).sum(), (kept & ~fixed).sum()) > 50:
            found.append(welch(times[kept & fixed], times[kept & ~fixed]))
    return max(found, key=abs)


def compare(
    count: int, call: Callable[[object], object], same: Callable[[], object], fresh: Callable[[], object]
) -> float:
    """t between calls with the fixed input and with fresh ones, in random order; inputs are made before the clock.

    The fixed input is a new object each time too: one that stays in the cache would be seen instead of a leak.
    """
    rng = np.random.default_rng()
    times, classes = np.empty(count), np.empty(count, dtype=bool)
    for start in range(0, count, 1000):
        size = min(1000, count - start)
        fixed = rng.integers(0, 2, size).astype(bool)
        inputs = [same() if one else fresh() for one in fixed]
        for i, given in enumerate(inputs):
            before = time.perf_counter_ns()
            call(given)
            times[start + i] = time.perf_counter_ns() - before
        classes[start : start + size] = fixed
    return largest_t(times[count // 50 :], classes[count // 50 :])


def measure(count: int) -> dict[str, float]:
    points = curve25519.hash_to_curve(*curve25519.pack([b"%d" % i for i in range(POINTS)]), b"benchmark")
    offsets = np.arange(POINTS + 1, dtype=np.int64) * 12
    found: dict[str, float] = {}

    def identifiers() -> np.ndarray:
        return np.frombuffer(secrets.token_bytes(12 * POINTS), dtype=np.uint8)

    def fresh_keys() -> np.ndarray:
        return np.frombuffer(b"".join(curve25519.random_scalar() for _ in range(POINTS)), np.uint8).reshape(-1, 32)

    def same_key() -> bytes:
        return bytes(bytearray(FIXED))

    def same_keys() -> np.ndarray:
        return np.frombuffer(b"".join(same_key() for _ in range(POINTS)), np.uint8).reshape(-1, 32)

    def zeros() -> np.ndarray:
        return np.frombuffer(bytes(bytearray(32 * POINTS)), np.uint8).reshape(-1, 32)

    def blanks() -> np.ndarray:
        return np.frombuffer(bytes(bytearray(12 * POINTS)), np.uint8)

    for name in curve25519.variants():
        found[f"{name}: one scalar"] = compare(
            count, lambda s, n=name: curve25519_native.multiply(n, s, points), same_key, curve25519.random_scalar
        )
        found[f"{name}: a scalar a point"] = compare(
            count, lambda s, n=name: curve25519_native.multiply_each(n, s, points), same_keys, fresh_keys
        )
        found[f"{name}: points"] = compare(
            count, lambda p, n=name: curve25519_native.multiply(n, FIXED, p), zeros, fresh_keys
        )
        found[f"{name}: identifiers"] = compare(
            count,
            lambda d, n=name: curve25519_native.hash_to_curve(n, d, offsets, b"benchmark"),
            blanks,
            identifiers,
        )
    base = points[0].tobytes()
    found["control: the plain twin"] = compare(
        400, lambda s: curve25519_reference.multiply(s, base), same_key, curve25519.random_scalar
    )
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--measurements", type=int, default=4000, help="calls a comparison")
    arguments = parser.parse_args()
    found = measure(arguments.measurements)
    control = [abs(t) for name, t in found.items() if name.startswith("control")]
    kernel = [abs(t) for name, t in found.items() if not name.startswith("control")]
    if arguments.json:
        print(json.dumps({"measurements": arguments.measurements, "t": found}, indent=2))
    else:
        for name, t in found.items():
            print(f"{name:<32} t = {t:7.2f}")
    return int(max(kernel, default=0) > LIMIT or min(control) <= LIMIT)


if __name__ == "__main__":
    sys.exit(main())
