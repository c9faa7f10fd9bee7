"""The linear engine, each side in a thread: python benchmarks/linear.py [rows] [features].

Prints the kernel's operations for each of its variants, and inner products over a million rows with each; then, with
the fastest, what vfl asks for in one pass of training. One line a product: CPU time of the owner's and of the
multiplier's thread (encoding and queueing of messages included, network and TLS not), and the bytes each sent.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])  # not this folder: its files are named as packages are

import numpy as np

from benchmarks.two_parties import machine
from kernels import native, ntt
from mpc.lattice import NARROW
from mpc.linear import Linear, smallest_slot_prime
from party.channel import Channel, memory_pair


class Pair:
    """Two engines over one in-memory channel pair, run in two threads."""

    def __init__(self) -> None:
        self.channels = memory_pair()
        self.owner, self.multiplier = (Linear(channel, i) for i, channel in enumerate(self.channels))

    def run(self, label: str, ours: Callable[[], object], theirs: Callable[[], object]) -> None:
        seconds = [0.0, 0.0]
        before = [self._sent(channel) for channel in self.channels]

        def timed(place: int, side: Callable[[], object]) -> None:
            start = time.thread_time()
            side()
            seconds[place] = time.thread_time() - start

        start = time.perf_counter()
        threads = [threading.Thread(target=timed, args=pair) for pair in enumerate((ours, theirs))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        wall = time.perf_counter() - start
        sent = [self._sent(channel) - b for channel, b in zip(self.channels, before, strict=True)]
        print(
            f"{label:<44} owner {seconds[0]:6.3f} s  multiplier {seconds[1]:6.3f} s  wall {wall:6.3f} s"
            f"  up {sent[0] / 1e6:8.2f} MB  back {sent[1] / 1e6:6.2f} MB"
        )

    @staticmethod
    def _sent(channel: Channel) -> int:
        time.sleep(0.05)  # let the writer thread count what it sent
        return channel.counters.sent


def training_pass(rows: int, features: int, outputs: int) -> None:
    """Every product of one training pass, one direction after the other: matvec, slots with h = 48, inner."""
    rng = np.random.default_rng(1)
    pair, t = Pair(), smallest_slot_prime(21)
    owner, multiplier = pair.owner, pair.multiplier
    weights = rng.integers(0, 2**64, features, dtype=np.uint64)
    matrix = rng.integers(-(2**19), 2**19, (features, rows))
    values = rng.integers(0, t, (48, rows), dtype=np.uint64)
    factors = rng.integers(0, t, (outputs, 48, rows), dtype=np.uint64)
    residual = rng.integers(0, 2**64, (1, rows), dtype=np.uint64)

    def owner_inner() -> None:
        owner.inner_owner(owner.upload(residual), features, 21)

    def multiplier_inner() -> None:
        multiplier.inner_multiplier(multiplier.receive(1, rows), matrix, 21)

    for label in ("first", "again"):
        pair.run(
            f"{label}: matvec {rows} x {features}",
            lambda: owner.matvec_vector(weights, rows),
            lambda: multiplier.matvec_matrix(matrix, 21),
        )
        pair.run(
            f"{label}: slots 48 x {rows}, {outputs} outputs",
            lambda: owner.slots_owner(values, t, outputs),
            lambda: multiplier.slots_multiplier(factors, t),
        )
        pair.run(f"{label}: inner 1 x {rows} with {features} columns", owner_inner, multiplier_inner)


def dot(rows: int, multipliers: int) -> None:
    """Inner products of one long column with some others, then the same upload queried again."""
    rng = np.random.default_rng(2)
    pair = Pair()
    column = rng.integers(0, 2**64, (1, rows), dtype=np.uint64)
    others = rng.integers(-(2**21) + 1, 2**21, (multipliers, rows))
    held: dict[str, object] = {}

    def upload() -> None:
        held["up"] = pair.owner.upload(column)

    def receive() -> None:
        held["got"] = pair.multiplier.receive(1, rows)

    pair.run(f"upload {rows}", upload, receive)
    for label in ("first", "again"):
        pair.run(
            f"{label}: 1 x {rows} with {multipliers} columns",
            lambda: pair.owner.inner_owner(held["up"], multipliers, 22),  # type: ignore[arg-type]
            lambda: pair.multiplier.inner_multiplier(held["got"], others, 22),  # type: ignore[arg-type]
        )


def least(job: Callable[[], object]) -> float:
    """Microseconds of one call, the least of many."""
    best = float("inf")
    for _ in range(40):
        start = time.perf_counter()
        job()
        best = min(best, time.perf_counter() - start)
    return best * 1e6


BLOCKS = 32


def operations(ring: ntt.Basis) -> dict[str, float]:
    """Microseconds of each operation on 8192 values of three primes."""
    rng = np.random.default_rng(3)
    x = np.stack([rng.integers(0, p, ntt.N, dtype=np.uint64) for p in ring.primes])
    words = rng.integers(-(2**62), 2**62, ntt.N)
    total, packed = x.copy(), ring.pack(x, 50)
    column, rows = ntt.kept(3, BLOCKS, 2), np.stack([ntt.kept(3, BLOCKS, 1) for _ in range(4)])
    column[:], rows[:] = x.reshape(3, 1024, 1, 1, 8), x.reshape(3, 1024, 1, 1, 8)
    first, second = np.zeros((1, 4, 3), dtype=np.uint64), np.zeros((1, 4, 3, ntt.N), dtype=np.uint64)
    blocks = BLOCKS if ring.variant else 1
    return {
        "forward": least(lambda: ring.forward(x)),
        "inverse": least(lambda: ring.inverse(x)),
        "product": least(lambda: ring.multiply(x, x)),
        "product, added": least(lambda: ring.multiply_add(total, x, x)),
        "inner product": least(lambda: ring.dot(x, x)),
        "integers to residues": least(lambda: ring.residues(words)),
        "residues to fractions": least(lambda: ring.fraction(x)),
        "pack": least(lambda: ring.pack(x, 50)),
        "unpack": least(lambda: ring.unpack(packed, 50)),
        "both halves of a ciphertext times a row, summed": (
            least(lambda: ring.sums(first, second, [(column, 0)], rows, blocks)) / (4 * blocks)
        ),
    }


def kernels(variants: list[str]) -> None:
    """Prints the operations of each variant beside those of the numpy twin."""
    rings = [ntt.Basis(NARROW.primes), *(ntt.Native(NARROW.primes, variant) for variant in variants)]
    found = [operations(ring) for ring in rings]
    print(
        f"{'microseconds, 8192 values, three primes':<48}" + "".join(f"{ring.variant or 'numpy':>10}" for ring in rings)
    )
    for name in found[0]:
        print(f"{name:<48}" + "".join(f"{times[name]:>10.1f}" for times in found))


def use(variant: str) -> None:
    """Let the engine compute with this variant from now on."""
    os.environ["TALLYSTICK_KERNELS"] = variant
    ntt.variants.cache_clear()
    ntt.basis.cache_clear()


if __name__ == "__main__":
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 24_000
    width = int(sys.argv[2]) if len(sys.argv) > 2 else 23
    print(f"{machine()}; {native.active('ntt', NARROW.basis.variant)}")
    there = list(ntt.variants())
    kernels(there)
    for name in there:
        use(name)
        print(f"\n{native.active('ntt', NARROW.basis.variant)}")
        dot(1_000_000, 1)
        dot(1_000_000, 10)
    for summed in (1, 3):
        training_pass(count, width, summed)
