"""The fixed numbers of training: fraction bits, slot modulus, momentum, when to check and when to stop. All public.

Both sides compute them from the job and the aligned row count alone, so nothing about them is ever negotiated.
Source: momentum k/(k+3), Nesterov 1983; step 1/2 for two whitened blocks and the bounds used here are argued in
docs/protocols/09-split-logistic-regression.md.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from party.errors import DataError
from vfl import series

__all__ = [
    "AHEAD_BITS",
    "CHORDS",
    "INVERSES",
    "LEAST_ROWS",
    "SECOND_WEIGHTS",
    "WARM_PASSES",
    "WARM_ROWS",
    "WARM_SHIFT",
    "WEIGHT_BITS",
    "Scales",
    "checks",
    "first_second",
    "may_stop",
    "momentum",
    "pass_limit",
    "slot_bits",
    "slot_prime",
    "stop_limit",
    "wider",
]

WEIGHT_BITS = 20  # fraction bits of a weight
AHEAD_BITS = WEIGHT_BITS + 8  # of a weight after momentum, whose factor is b/256
LEAST_ROWS = 40
WARM_ROWS = 100_000  # from so many rows the first passes see a part of them
WARM_PASSES = 10
WARM_SHIFT = 2  # a quarter of the rows
SECOND_WEIGHTS = 80  # of both sides: beyond, an inverse costs more than the passes it saves
CHORDS = 3  # second-order steps with each inverse
INVERSES = 8  # at most
SMALL = 1000  # fewer rows are trained longer and more finely
_RING = 1 << 14  # slots need t = 1 mod 2N, N = 8192
_ROOM = 61  # exact truncation wants |value| < 2^62
_WEIGHT_ROOM = 6  # whitened weights stay below 2^6


@dataclass(frozen=True)
class Scales:
    """Fraction bits of every shared quantity of a pass."""

    matrix: int  # fx
    slots: int  # fs
    exponent: int  # a, of the whitening
    mean: int = 0  # the rows' mean weight is about 2^mean
    most: int = 0  # and none is over 2^most

    @property
    def penalty(self) -> int:
        """Of the penalty rows, whose entries are at most 2^(2a) in size."""
        return 18 - 2 * self.exponent

    @property
    def logit(self) -> int:
        """Of z = X v."""
        return self.matrix + AHEAD_BITS

    @property
    def residual(self) -> int:
        """Of r, in the slots and after the lift."""
        return 2 * self.slots

    @property
    def data(self) -> int:
        """Of X'r, whose rows are weighed by at most 1 instead of 2^most."""
        return self.matrix + self.residual - self.most

    @property
    def gradient(self) -> int:
        """G: the larger of the data's and the penalty's scale."""
        return max(self.data, self.penalty + AHEAD_BITS)

    def loss(self, period: int) -> int:
        """Of the loss in the slots, whose series reaches 0.36 T."""
        return self.residual - (period.bit_length() - 3)

    @property
    def shift(self) -> int:
        """What one exact truncation takes off a new weight: G + 2a + 1 - 20."""
        return self.gradient + 2 * self.exponent + 1 - WEIGHT_BITS

    def check(self, halvings: int = 0) -> None:
        """Raises DataError when a gradient step, halved so often, would not fit 64 bits."""
        needed = self.gradient + 2 * self.exponent + 1 + _WEIGHT_ROOM + halvings
        if halvings and needed > _ROOM:
            raise DataError(
                f"the loss keeps rising, after {halvings - 1} halvings of the step, too",
                hint="raise l2, as labels may be separable; winsorise, use milder weights of rows or a smaller offset",
            )
        if needed > _ROOM or self.shift < AHEAD_BITS - WEIGHT_BITS:
            raise DataError(
                f"training does not fit 64-bit fixed point (gradient scale {self.gradient}, whitening {self.exponent})",
                hint="use fewer rows or winsorise",
            )


def slot_bits(rows: int, spread: int = 0) -> int:
    """fs: fraction bits of one slot factor. Rounding noise a row is about 2^(1-fs), zero-mean: few rows need more.

    spread: the largest weight of a row is 2^spread times the mean one, so that the noise counts as much more.
    """
    return min(13, (9 if rows >= 5000 else 12 if rows >= SMALL else 13) + (max(0, spread) + 1) // 2)


def slot_prime(bits: int) -> int:
    """t: the smallest prime of at least 2^(2 bits + 3) that is 1 mod 2N, so that |r| < 2 stays under t/4."""
    candidate = (1 << (2 * bits + 3)) + 1
    candidate += -(candidate - 1) % _RING
    while not _is_prime(candidate):
        candidate += _RING
    return candidate


def momentum(k: int) -> int:
    """b of pass k after the last restart: v = ((256 + b) w - b w_previous) / 256."""
    return min(230, round(256 * k / (k + 3)))


def checks(number: int) -> bool:
    """Whether pass `number` (from 1) also computes the check bits: each of the first ten, then every fourth."""
    return number <= 10 or number % 4 == 0


def first_second(*, warm: bool) -> int:
    """The first pass of second order: the eighth, all rows being seen, before plain passes may stop."""
    return 8 + (WARM_PASSES if warm else 0)


def may_stop(number: int) -> bool:
    """Whether a checking pass also compares the steps: not in the first seven, where no model has settled."""
    return number >= 8


def stop_limit(rows: int, columns: int, tolerance: float) -> float:
    """Stop when every |step| 2^a is at most this: a quarter of sqrt(2 n tol / d), because steps are halved and weights
    lag the loss; under 1,000 rows 0.15 of it, where they lag further (measured on the breast table).
    """
    return (0.25 if rows >= SMALL else 0.15) * math.sqrt(2 * rows * tolerance / columns)


def pass_limit(rows: int, *, weighed: bool = False) -> int:
    """Most passes: 60, or 120 under 1,000 training rows and where rows have weights, which may flatten the loss."""
    return 120 if rows < SMALL or weighed else 60


def wider(period: int) -> int:
    """The next period. Raises DataError beyond the last: such margins mean separable labels."""
    if period >= series.PERIODS[-1]:
        raise DataError(
            f"margins leave a window of {series.PERIODS[-1]}: the labels are separable by these features",
            hint="raise l2, or leave out a feature that gives the label away",
        )
    return 2 * period


def _is_prime(number: int) -> bool:
    return number > 1 and all(number % d for d in range(2, math.isqrt(number) + 1))
