"""Two bulk operations of oblivious transfer: a hash of 16-byte blocks by fixed-key AES, and a bit transpose.

The hash is TMMO, pi(pi(x) ^ i) ^ pi(x) with pi = AES-128 under a public key and i a tweak that is never used twice with
one secret offset: tweakable circular correlation robust in the ideal-cipher model. Source: Guo, Katz, Wang, Yu,
"Efficient and Secure Multiparty Computation from Fixed-Key Block Ciphers", IEEE S&P 2020, section 7.4. Two AES blocks
an output, in one ECB call over a whole buffer. The transpose works on 8 x 8 bit blocks, one block a 64-bit word
(Warren, "Hacker's Delight", section 7-3). Both have plain twins in the tests.
"""

from __future__ import annotations

import hashlib

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

__all__ = ["hash_blocks", "transpose_bits"]

_KEY = hashlib.sha256(b"tallystick/v1/ot/blockhash/").digest()[:16]
_SWAPS = ((7, 0x00AA00AA00AA00AA), (14, 0x0000CCCC0000CCCC), (28, 0x00000000F0F0F0F0))


def _permute(blocks: np.ndarray) -> np.ndarray:
    """AES-128 under the fixed public key of each block: uint64 (n, 2) -> uint64 (n, 2)."""
    size = 16 * len(blocks)
    out = np.empty(size + 15, dtype=np.uint8)
    # a fresh context each time: one context cannot be used by two threads at once
    # ECB is what a permutation of independent blocks is called; nothing is encrypted here
    context = Cipher(algorithms.AES(_KEY), modes.ECB()).encryptor()  # noqa: S305
    context.update_into(blocks.reshape(-1).view(np.uint8).data, out.data)
    return out[:size].view("<u8").reshape(-1, 2)


def hash_blocks(blocks: np.ndarray, first: int) -> np.ndarray:
    """Hash n blocks under the tweaks first, first + 1, ..., first + n - 1.

    blocks: uint64, shape (n, 2), contiguous. Returns uint64, shape (n, 2). The caller never uses a tweak for two
    transfers under one secret offset.     Raises ValueError on another shape or dtype.
    """
    if blocks.ndim != 2 or blocks.shape[1] != 2 or blocks.dtype != np.uint64:
        raise ValueError("blocks are uint64 of shape (n, 2)")
    if not len(blocks):
        return np.empty((0, 2), dtype=np.uint64)
    inner = _permute(np.ascontiguousarray(blocks))
    tweaked = inner.copy()
    tweaked[:, 0] ^= np.arange(first, first + len(blocks), dtype=np.uint64)
    outer = _permute(tweaked)
    outer ^= inner
    return outer


def transpose_bits(columns: np.ndarray) -> np.ndarray:
    """Turn 128 packed bit columns into rows of 16 bytes.

    columns: uint8, shape (128, w); bit j % 8 (least significant first) of byte j // 8 belongs to row j.
    Returns uint64, shape (8 w, 2): bit c of a row, counted from the least significant of its first word, is column c.
    """
    if columns.ndim != 2 or columns.shape[0] != 128 or columns.dtype != np.uint8:
        raise ValueError("columns are uint8 of shape (128, w)")
    width = columns.shape[1]
    if not width:
        return np.empty((0, 2), dtype=np.uint64)
    blocks = np.ascontiguousarray(columns.reshape(16, 8, width).transpose(0, 2, 1)).view("<u8").reshape(16, width)
    for shift, mask in _SWAPS:
        moved = blocks >> np.uint64(shift)
        moved ^= blocks
        moved &= np.uint64(mask)
        blocks ^= moved
        moved <<= np.uint64(shift)
        blocks ^= moved
    octets = blocks.view(np.uint8).reshape(16, width, 8)
    return np.ascontiguousarray(octets.transpose(1, 2, 0)).view("<u8").reshape(8 * width, 2)
