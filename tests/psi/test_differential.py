"""Alignments against plain sets: lists of every length about the chunks' ends, on both sides, under each kernel.

Every table has a key of two columns, rows with one of them missing, and repeated keys, all in random order.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from kernels import curve25519
from psi import Alignment, Identifiers, KeyColumn, Means, MemoryStore, from_scan
from psi import align as align_tables
from psi.messages import CHUNK
from tests.psi.support import guard, terms
from tests.support import channels, run_pair

LENGTHS = (0, 1, 2, 7, 100, 1000, 10_000, 2 * CHUNK - 1, 2 * CHUNK, 2 * CHUNK + 1)
SHORT = 10_000  # of what the fallback does in reasonable time
MISSING = -1


class Table:
    """`n` distinct keys from one number on; a tenth of them repeated, and as many rows without one."""

    def __init__(self, first: int, n: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        keys = np.arange(first, first + n)
        some = 1 + n // 10
        again = rng.choice(keys, some) if n else keys
        self.keys = rng.permutation(np.concatenate([keys, again, np.full(some, MISSING)]))
        self.half = rng.random(len(self.keys)) < 0.5  # which of the two columns is missing, where one is

    def identifiers(self, duplicates: str) -> Identifiers:
        missing = self.keys == MISSING
        text = pa.array(self.keys % 1000, mask=missing & self.half).cast(pa.string())
        number = pa.array(self.keys // 1000, mask=missing & ~self.half)
        batch = pa.record_batch({"text": text, "number": number})
        columns = [KeyColumn("text"), KeyColumn("number", "integer")]
        return from_scan(lambda: [batch], columns, duplicates=duplicates)

    def rows(self) -> dict[int, list[int]]:
        found = defaultdict(list)
        for row, key in enumerate(self.keys.tolist()):
            if key != MISSING:
                found[key].append(row)
        return found


def joined(a: Table, b: Table, duplicates: str) -> list[tuple[int, int]]:
    """What a plain join gives."""
    left, right = a.rows(), b.rows()
    pairs = []
    for key in left.keys() & right.keys():
        every = itertools.product(left[key], right[key])
        pairs += list(every) if duplicates == "all" else [(left[key][0], right[key][0])]
    return sorted(pairs)


def aligned(a: Table, b: Table, duplicates: str) -> tuple[Alignment, Alignment]:
    first, second = channels()

    def side(channel: Any, table: Table, ours: str) -> Alignment:
        wanted = replace(terms(), multiple=duplicates == "all")
        return align_tables([table.identifiers(duplicates)], channel, guard(ours)[0], wanted, Means(MemoryStore()))

    return run_pair(lambda: side(first, a, "telco"), lambda: side(second, b, "bank"), first, second, timeout=400)


def check(n: int, m: int, duplicates: str) -> None:
    a, b = Table(0, n, 1), Table(n - min(n, m) // 2, m, 2)
    bank, telco = aligned(a, b, duplicates)
    assert (bank.ours, bank.theirs, telco.ours, telco.theirs) == (n, m, m, n)
    assert bank.count == telco.count == min(n, m) // 2 and bank.digest == telco.digest
    assert sorted(zip(bank.rows.tolist(), telco.rows.tolist(), strict=True)) == joined(a, b, duplicates)
    assert bank.facts and telco.facts
    assert (bank.facts.nulls, telco.facts.nulls) == (1 + n // 10, 1 + m // 10)
    assert (bank.facts.total, telco.facts.total) == (len(a.keys), len(b.keys))


def under(variant: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compute with one kernel from here on."""
    monkeypatch.setattr(curve25519, "best", lambda: curve25519.Kernel(variant))


@pytest.mark.parametrize("duplicates", ["first", "all"])
@pytest.mark.parametrize("m", LENGTHS[:5])
@pytest.mark.parametrize("n", LENGTHS[:5])
def test_short_lists_equal_a_plain_join(n: int, m: int, duplicates: str) -> None:
    check(n, m, duplicates)


@pytest.mark.slow
@pytest.mark.parametrize("n", LENGTHS)
@pytest.mark.parametrize("variant", [*curve25519.variants(), None])
def test_all_lengths_equal_a_plain_join_under_each_kernel(
    variant: str | None, n: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    under(variant, monkeypatch)
    for place, m in enumerate(LENGTHS):
        if variant is not None or max(n, m) <= SHORT:
            check(n, m, ("first", "all")[(LENGTHS.index(n) + place) % 2])
