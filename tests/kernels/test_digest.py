"""Batch SHA-256 against hashlib: each variant, every length about the blocks."""

from __future__ import annotations

import hashlib
import secrets

import numpy as np
import pytest

from kernels import digest
from kernels.curve25519 import pack

VARIANTS = [*digest.variants(), "hashlib"]


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("prefix", [b"", b"tallystick", b"x" * 55, b"y" * 63, b"z" * 64, b"w" * 200], ids=len)
def test_all_lengths_to_200_equal_hashlib(variant: str, prefix: bytes) -> None:
    items = [secrets.token_bytes(size) for size in range(201)]
    for width in (1, 10, 32):
        got = digest.sha256_cut(prefix, *pack(items), width, variant)
        assert got.shape == (201, width)
        assert got.tobytes() == b"".join(hashlib.sha256(prefix + item).digest()[:width] for item in items)


@pytest.mark.parametrize("variant", VARIANTS)
def test_rows_equal_hashlib(variant: str) -> None:
    for size in (0, 1, 32, 48, 64, 130):
        rows = np.frombuffer(secrets.token_bytes(size * 50), dtype=np.uint8).reshape(50, size)
        got = digest.sha256_rows(b"prefix", rows, 12, variant)
        assert got.tobytes() == b"".join(hashlib.sha256(b"prefix" + row.tobytes()).digest()[:12] for row in rows)
        turned = digest.sha256_rows(b"prefix", rows[::-2], 12, variant)
        assert np.array_equal(turned, got[::-2])


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_long_item_and_a_part_of_a_buffer(variant: str) -> None:
    items = [b"a" * 10, b"b" * 100_000, b"c"]
    data, offsets = pack(items)
    assert digest.sha256_cut(b"p", data, offsets, 32, variant)[1].tobytes() == hashlib.sha256(b"p" + items[1]).digest()
    assert digest.sha256_cut(b"p", data, offsets[2:], 32, variant).tobytes() == hashlib.sha256(b"pc").digest()


@pytest.mark.parametrize("variant", VARIANTS)
def test_nothing_gives_nothing(variant: str) -> None:
    assert digest.sha256_cut(b"p", *pack([]), 7, variant).shape == (0, 7)
    assert digest.sha256_rows(b"p", np.empty((0, 32), np.uint8), 7, variant).shape == (0, 7)


def test_wrong_shapes_are_refused() -> None:
    data, offsets = pack([b"ab", b"c"])
    for bad in (offsets[::-1], offsets + 1, offsets - 1, offsets[:0], offsets.astype(np.int32)):
        with pytest.raises(ValueError, match="packed items"):
            digest.sha256_cut(b"", data, bad, 8)
    for width in (0, 33, -1):
        with pytest.raises(ValueError, match="1 to 32"):
            digest.sha256_cut(b"", data, offsets, width)
    with pytest.raises(ValueError, match="shape"):
        digest.sha256_rows(b"", data, 8)
    if digest.variants():
        with pytest.raises(ValueError, match="not available"):
            digest.sha256_cut(b"", data, offsets, 8, "abacus")
