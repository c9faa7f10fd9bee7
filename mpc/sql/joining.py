"""Sums over 64 bits: their limbs, shared each by itself, to shares of the whole sum in as many words as it takes.

Step 3 of docs/protocols/08-statistics-and-sql.md. All limbs of all sums are widened in one exchange; the shifts and
sums after it are local. What is opened later is the sum and nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from mpc import long
from mpc.convert import widen
from mpc.engine import Engine
from mpc.sql.types import Quantity

__all__ = ["joined", "longest"]

Words = npt.NDArray[np.uint64]


def joined(engine: Engine, quantities: Sequence[Quantity], limbs: Sequence[Sequence[Words]]) -> list[Words]:
    """Shares (cells, words) of every quantity, from shares of its limbs: (cells,) modulo 2^64, or (cells, 2) modulo
    2^modulus, of values below a quarter of the modulus.

    Peer learns nothing. Rounds: none if all quantities are of one word, else 2 at index 1. Bytes: 4 + 8 `longest` a
    limb and cell.
    """
    shares = [[limb.reshape(len(limb), -1) for limb in some] for some in limbs]
    found = [some[0] for some in shares]
    several = [number for number, quantity in enumerate(quantities) if quantity.words > 1]
    if not several:
        return found
    length = longest(quantities)
    rows = np.concatenate([long.words_of(limb, length) for number in several for limb in shares[number]])
    bits = [np.full(len(limb), quantities[number].modulus) for number in several for limb in shares[number]]
    widened = iter(widen(engine, rows, np.concatenate(bits)).reshape(len(bits), -1, length))
    for number in several:
        quantity, total = quantities[number], np.zeros((len(found[number]), length), dtype=np.uint64)
        for place in range(len(quantity.limbs)):
            total = long.add(total, long.shifted(next(widened), place * quantity.width), length)
        found[number] = total[:, : quantity.words]
    return found


def longest(quantities: Sequence[Quantity]) -> int:
    """Words of the longest quantity."""
    return max((quantity.words for quantity in quantities), default=1)
