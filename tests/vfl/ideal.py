"""An ideal oracle in place of the engine: it sees both sides' inputs and hands out fresh shares of exact results.

`pair(seed)` gives two `vfl.secure.Arithmetic` for two threads. What each side received is kept in `seen`.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from hashlib import sha256
from typing import Any

import numpy as np

from mpc import ring
from party.message import decode, encode

WORDS = 2**64


class _Table:
    """Where both sides put their inputs; whoever comes second computes both answers."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.lock = threading.Lock()
        self.waiting: tuple[int, Any] | None = None
        self.answers = (queue.SimpleQueue(), queue.SimpleQueue())

    def meet(self, index: int, value: Any, compute: Callable[[Any, Any], tuple[Any, Any]]) -> Any:
        with self.lock:
            if self.waiting is None:
                self.waiting = (index, value)
            else:
                other, theirs = self.waiting
                assert other != index
                self.waiting = None
                for place, answer in enumerate(compute(*((theirs, value) if index else (value, theirs)))):
                    self.answers[place].put(answer)
        return self.answers[index].get(timeout=60)

    def close(self) -> None:
        """Nobody waits for a side that is gone."""
        for answers in self.answers:
            answers.put(ConnectionError("the other side is gone"))

    def words(self, shape: Any, modulus: int = WORDS) -> np.ndarray:
        return self.rng.integers(0, modulus - 1, shape, dtype=np.uint64, endpoint=True)


class Ideal:
    """One side. Shares are drawn from the table's generator; `begin` starts it anew from the run's name, as a real
    engine does, so a repeated pass gets the same shares."""

    def __init__(self, table: _Table, index: int) -> None:
        self.table, self.index = table, index
        self.us, self.peer = ("bank", "telco") if index == 0 else ("telco", "bank")
        self.seen: list[np.ndarray] = []
        self.opened: list[tuple[str, np.ndarray]] = []
        self.calls = 0
        self.cut_after: int | None = None

    def _meet(self, value: Any, compute: Callable[[Any, Any], tuple[Any, Any]]) -> Any:
        self.calls += 1
        if self.cut_after is not None and self.calls > self.cut_after:
            self.table.answers[1 - self.index].put(ConnectionError("the other side is gone"))
            raise ConnectionError("cut")
        answer = self.table.meet(self.index, value, compute)
        if isinstance(answer, ConnectionError):
            raise answer
        return answer

    def _shares(self, value: np.ndarray, modulus: int = WORDS) -> tuple[np.ndarray, np.ndarray]:
        mask = self.table.words(value.shape, modulus)
        if modulus == WORDS:
            return mask, value - mask
        return mask, (value + (np.uint64(modulus) - mask)) % np.uint64(modulus)

    def seeded(self, root):
        self.roots = root
        return self

    def begin(self, label, number):
        def compute(a, b):
            assert a[1] == b[1]
            seed = sha256(b"".join(part for side in (a, b) for part in side)).digest()
            self.table.rng = np.random.default_rng(int.from_bytes(seed[:8], "big"))
            return None, None

        self._meet((self.roots, label), compute)

    def products(self, columns, share, rows):
        def compute(a, b):
            first = self._shares(ring.matmul(a[0].T, b[1], a_bits=20))
            second = self._shares(ring.matmul(b[0].T, a[1], a_bits=20))
            return (first[0], second[0]), (second[1], first[1])

        found = self._meet((columns, share), compute)
        assert len(found[1]) == rows
        self.seen += found
        return found

    def gradients(self, columns, share, theirs):
        def compute(a, b):
            first = self._shares(ring.matmul(a[0], b[1], a_bits=20))
            second = self._shares(ring.matmul(b[0], a[1], a_bits=20))
            return (first[0], second[0]), (second[1], first[1])

        found = self._meet((columns, share), compute)
        assert len(found[1]) == theirs
        return found

    def matrices(self, owned, factors, theirs, bits):
        def compute(a, b):
            for found in (a[1], b[1]):
                assert found.dtype == np.int64 and -(2 ** (bits - 1)) <= found.min() <= found.max() < 2 ** (bits - 1)
            first = self._shares(ring.matmul(a[0], b[1].T))
            second = self._shares(ring.matmul(b[0], a[1].T))
            return (first[0], second[0]), (second[1], first[1])

        ours = [strips.part(slice(0, strips.inner)) for strips in (owned, factors)]
        found = self._meet(ours, compute)
        assert (found[0].shape[1], found[1].shape[0]) == (theirs[1], theirs[0])
        self.seen += found
        return found

    def slots_owner(self, values, t, outputs):
        return self._slots(values, t)

    def slots_multiplier(self, factors, t):
        return self._slots(factors, t)

    def _slots(self, ours, t):
        ours = ours[(slice(None),) * (len(ours.shape) - 1) + (slice(0, ours.shape[-1]),)]

        def compute(a, b):
            values, factors = (a, b) if a.ndim == 2 else (b, a)
            total = np.zeros((len(factors), values.shape[1]), dtype=np.uint64)
            for h in range(len(values)):
                wide = np.uint64 if t < 2**32 else object  # products of larger residues pass 64 bits
                product = factors[:, h].astype(wide) * values[h].astype(wide) % np.array(t, dtype=wide)
                total = (total + product.astype(np.uint64)) % np.uint64(t)
            return self._shares(total, t)

        found = self._meet(ours, compute)
        self.seen.append(found)
        return found

    def lift(self, share, t):
        def compute(a, b):
            total = ((a + b) % np.uint64(t)).astype(np.int64)
            value = np.where(total > t // 2, total - t, total)
            assert np.abs(value).max() < t / 4
            return self._shares(value.view(np.uint64))

        found = self._meet(share, compute)
        self.seen.append(found)
        return found

    def truncate(self, share, shift):
        def compute(a, b):
            value = (a + b).view(np.int64)
            assert np.abs(value).max() < 2**62
            return self._shares((value >> np.int64(shift)).view(np.uint64))

        return self._meet(share, compute)

    def truncate_and_test(self, share, shift, asked, what):
        def compute(a, b):
            value = (a[1] + b[1]).view(np.int64)
            assert np.abs(value).max() < 2 ** (asked.bits - 1)
            found = np.array([(value[group] < 0).any() for group in asked.groups]).astype(np.uint8)
            whole = (a[0] + b[0]).view(np.int64)
            assert np.abs(whole).max() < 2**62
            cut = self._shares((whole >> np.int64(shift)).view(np.uint64))
            return (cut[0], found), (cut[1], found)

        cut, found = self._meet((share, asked.values), compute)
        self.opened.append((what, found))
        return cut, found

    def negative(self, share, bits):
        def compute(a, b):
            value = (a + b).view(np.int64)
            assert np.abs(value).max() < 2 ** (bits - 1)
            mask = self.table.rng.integers(0, 2, value.shape).astype(np.uint8)
            return mask, mask ^ (value < 0).astype(np.uint8)

        return self._meet(share, compute)

    def select(self, bits, values):
        return self._meet((bits, values), lambda a, b: self._shares((a[0] ^ b[0]).astype(np.uint64) * (a[1] + b[1])))

    def to_arithmetic(self, bits):
        return self._meet(bits, lambda a, b: self._shares((a ^ b).astype(np.uint64)))

    def open_bits(self, bits, what):
        found = self._meet(bits, lambda a, b: (a ^ b, a ^ b))
        self.opened.append((what, found))
        return found

    def open_to(self, share, what, to):
        found = self._meet(share, lambda a, b: (a + b, a + b))
        if to != self.us:
            return None
        self.opened.append((what, found))
        return found

    def disclose(self, what, to, rows):
        self.opened.append((what, np.array([rows])))

    def swap(self, message):
        return decode(type(message), self._meet(encode(message), lambda a, b: (b, a)))


def pair(seed: int) -> tuple[Ideal, Ideal]:
    table = _Table(seed)
    return Ideal(table, 0), Ideal(table, 1)
