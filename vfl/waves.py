"""Sine series of the margin on shares: what each side brings to the slot products, computed where rows are asked for.

z = z_A + z_B modulo the period, so cos k z and sin k z are sums of two products each. The feature holder uploads 2K
values a row; the label holder folds its own angle, the label, a row's weight and the coefficients into its factors.
Step 3 of docs/protocols/09-split-logistic-regression.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vfl import series

__all__ = ["Factors", "Output", "Side", "Values", "angles_of", "constants", "powers", "residues"]

_LEAST_AMPLITUDE = 0.1


@dataclass(frozen=True)
class Output:
    """One wanted sum: the series, its fraction bits, whether it is multiplied by -s, and by a row's weight."""

    of: series.Series
    bits: int
    turned: bool = False
    weighed: bool = True


@dataclass(frozen=True, repr=False)
class Side:
    """One side's logits of some rows, as shares with `fraction` bits, and what it knows of the rows.

    logits: uint64 (n,), mod 2^64. signs: +-1, float64 (n,), and weights, float64 (n,) or None for 1, at the label
    holder; None at the other side. slots: fraction bits of a slot factor; t: the slots' modulus.
    """

    logits: np.ndarray
    fraction: int
    period: int
    slots: int
    t: int
    signs: np.ndarray | None = None
    weights: np.ndarray | None = None

    def waves(self, rows: slice) -> np.ndarray:
        """e^(i k angle) of our shares, k = 1..K: complex128 (K, rows)."""
        angles = angles_of(self.logits[rows], self.period, self.fraction)
        return powers(angles, series.window(self.period).harmonics)

    @property
    def rows(self) -> int:
        """How many rows."""
        return len(self.logits)


class Values:
    """The feature holder's slot values, uint64 (2K, n), by rows."""

    def __init__(self, side: Side, first: series.Series) -> None:
        self._side, self._size = side, _size(first)
        self.shape = (2 * len(self._size), side.rows)

    def __getitem__(self, key: tuple[slice, slice]) -> np.ndarray:
        waves = self._size[:, None] * 2.0**self._side.slots * self._side.waves(key[1])
        return residues(np.concatenate([waves.real, waves.imag]), self._side.t)


class Factors:
    """The label holder's slot factors, uint64 (outputs, 2K, n), by rows."""

    def __init__(self, side: Side, wanted: Sequence[Output]) -> None:
        self._side, self._wanted, self._size = side, wanted, _size(wanted[0].of)
        self.shape = (len(wanted), 2 * len(self._size), side.rows)

    def __getitem__(self, key: tuple[slice, slice, slice]) -> np.ndarray:
        side, rows = self._side, key[2]
        if side.signs is None:
            raise TypeError("only the label holder has factors")
        waves, signs = side.waves(rows), side.signs[rows]
        harmonics = len(self._size)
        found = np.empty((len(self._wanted), 2 * harmonics, len(signs)), dtype=np.uint64)
        for place, output in enumerate(self._wanted):
            scale = 2.0 ** (output.bits - side.slots)
            even = output.of.cosine / self._size * scale
            odd = output.of.sine / self._size * scale
            # Re and Im of (even - i s odd) e^(i k z): the factors of the other side's cosine and sine
            turned = (even[:, None] - 1j * odd[:, None] * signs) * waves
            turned *= _prefix(side, output, rows)
            found[place, :harmonics] = residues(turned.real, side.t)
            found[place, harmonics:] = residues(-turned.imag, side.t)
        return found


def constants(side: Side, wanted: Sequence[Output]) -> np.ndarray:
    """The label holder's constant terms, exact: uint64 (outputs, n) below t."""
    rows = slice(0, side.rows)
    found = [
        residues(np.broadcast_to(_prefix(side, one, rows) * one.of.constant * 2.0**one.bits, side.rows), side.t)
        for one in wanted
    ]
    return np.stack(found)


def angles_of(logits: np.ndarray, period: int, fraction: int) -> np.ndarray:
    """Our shares of logits as angles of the period, float64 (n,): the period in their units divides 2^64, so each share
    is reduced by itself."""
    modulus = np.uint64(period) << np.uint64(fraction)
    return np.asarray((logits & (modulus - np.uint64(1))).astype(np.float64) * (2 * np.pi / float(modulus)))


def powers(angles: np.ndarray, count: int) -> np.ndarray:
    """e^(i k angle), k = 1..count: complex128 (count, n), each a product of the one before."""
    found = np.empty((count, len(angles)), dtype=np.complex128)
    found[0].real, found[0].imag = np.cos(angles), np.sin(angles)
    for k in range(1, count):
        np.multiply(found[k - 1], found[0], out=found[k])
    return found


def residues(values: np.ndarray, t: int) -> np.ndarray:
    """Real numbers to the nearest integer modulo t, uint64; |values| under t."""
    rounded = np.rint(values).astype(np.int64)
    rounded += (rounded < 0) * np.int64(t)
    return np.asarray(rounded.view(np.uint64))


def _size(of: series.Series) -> np.ndarray:
    """Splits each coefficient evenly between the two factors."""
    return np.asarray(np.maximum(np.sqrt(np.hypot(of.cosine, of.sine)), _LEAST_AMPLITUDE))


def _prefix(side: Side, output: Output, rows: slice) -> np.ndarray:
    if side.signs is None:
        raise TypeError("only the label holder knows signs")
    signs = -side.signs[rows] if output.turned else np.ones(rows.stop - rows.start)
    return np.asarray(signs if side.weights is None or not output.weighed else signs * side.weights[rows])
