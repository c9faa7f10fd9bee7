"""The fixed-key hash and the bit transpose against plain twins."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from kernels.blockhash import hash_blocks, transpose_bits


def plain_hash(block: bytes, tweak: int) -> bytes:
    """pi(pi(x) ^ i) ^ pi(x), one block at a time."""
    key = hashlib.sha256(b"tallystick/v1/ot/blockhash/").digest()[:16]

    def pi(x: bytes) -> bytes:
        return Cipher(algorithms.AES(key), modes.ECB()).encryptor().update(x)

    inner = pi(block)
    mixed = bytes(a ^ b for a, b in zip(inner, tweak.to_bytes(16, "little"), strict=True))
    return bytes(a ^ b for a, b in zip(pi(mixed), inner, strict=True))


@pytest.mark.parametrize("first", [0, 1, 2**40 + 3])
def test_hash_equals_its_definition(first: int) -> None:
    blocks = np.random.default_rng(1).integers(0, 2**64, (50, 2), dtype=np.uint64)
    got = hash_blocks(blocks, first)
    for place, block in enumerate(blocks):
        assert got[place].tobytes() == plain_hash(block.tobytes(), first + place)


def test_hash_depends_on_block_and_tweak() -> None:
    same = np.zeros((2000, 2), dtype=np.uint64)
    assert len({row.tobytes() for row in hash_blocks(same, 5)}) == 2000
    blocks = np.arange(4000, dtype=np.uint64).reshape(-1, 2)
    ones = np.unpackbits(hash_blocks(blocks, 0).view(np.uint8)).mean()
    assert abs(ones - 0.5) < 0.005


def test_hash_leaves_its_input_alone_and_takes_views() -> None:
    wide = np.random.default_rng(2).integers(0, 2**64, (20, 4), dtype=np.uint64)
    copy = wide.copy()
    assert np.array_equal(hash_blocks(wide[:, :2], 9), hash_blocks(copy[:, :2].copy(), 9))
    assert np.array_equal(wide, copy)


@pytest.mark.parametrize("width", [0, 1, 2, 7, 8, 33, 256])
def test_transpose_equals_unpacked_transpose(width: int) -> None:
    columns = np.random.default_rng(width).integers(0, 256, (128, width), dtype=np.uint8)
    bits = np.unpackbits(columns, axis=1, bitorder="little")
    expected = np.packbits(bits.T, axis=1, bitorder="little") if width else np.empty((0, 16), np.uint8)
    got = transpose_bits(columns)
    assert got.shape == (8 * width, 2)
    assert np.array_equal(got.view(np.uint8).reshape(8 * width, 16), expected)


def test_wrong_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="uint64"):
        hash_blocks(np.zeros((4, 2), dtype=np.int64), 0)
    with pytest.raises(ValueError, match="uint64"):
        hash_blocks(np.zeros(4, dtype=np.uint64), 0)
    with pytest.raises(ValueError, match="128"):
        transpose_bits(np.zeros((64, 4), dtype=np.uint8))


def test_empty_inputs() -> None:
    assert hash_blocks(np.empty((0, 2), dtype=np.uint64), 3).shape == (0, 2)
