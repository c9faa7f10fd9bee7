"""CPU seconds and bytes of the linear engine, each side in a thread: python benchmarks/linear.py [rows] [features].

Prints one line a product: CPU time of the owner's and of the multiplier's thread (encoding and queueing of messages
included, network and TLS not), and the bytes each sent. The training pass is what vfl asks for in one pass.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable

import numpy as np

from kernels.ntt import basis
from mpc.lattice import WIDE
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


def dot(rows: int) -> None:
    """One inner product of long columns, then the same upload queried again."""
    rng = np.random.default_rng(2)
    pair = Pair()
    column = rng.integers(0, 2**64, (1, rows), dtype=np.uint64)
    other = rng.integers(-(2**21) + 1, 2**21, (1, rows))
    held: dict[str, object] = {}

    def upload() -> None:
        held["up"] = pair.owner.upload(column)

    def receive() -> None:
        held["got"] = pair.multiplier.receive(1, rows)

    pair.run(f"upload {rows}", upload, receive)
    for _ in range(2):
        pair.run(
            f"dot {rows}",
            lambda: pair.owner.inner_owner(held["up"], 1, 22),  # type: ignore[arg-type]
            lambda: pair.multiplier.inner_multiplier(held["got"], other, 22),  # type: ignore[arg-type]
        )


if __name__ == "__main__":
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 24_000
    width = int(sys.argv[2]) if len(sys.argv) > 2 else 23
    print("kernel:", WIDE.basis.variant or "numpy twin", "N =", basis(WIDE.primes).column.size * 2048)
    for summed in (1, 3):
        training_pass(count, width, summed)
    dot(1_000_000)
