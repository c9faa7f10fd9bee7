"""Bins of one's own column: where it is cut, and Pearson's statistic of two of them by two classes. All local.

Source: Kerber, "ChiMerge", AAAI 1992.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import numpy.typing as npt

__all__ = ["chi_squared", "cut", "joined"]

Ints = npt.NDArray[np.int64]


def cut(counts: Ints, bins: int, least: int) -> list[int]:
    """For each bin the place of its largest value among the distinct ones, ascending. counts: rows of each of these.

    Value v, with `less` of n rows below it, goes to floor(k less / n) of k: the cut at the k - 1 quantiles (inverted
    distribution function). From the lowest on, bins of fewer than `least` rows take in the next.
    """
    if not len(counts):
        return []
    less = np.cumsum(counts) - counts
    first = bins * less // int(counts.sum())
    return joined(counts, np.flatnonzero(np.diff(first, append=bins)), least)


def joined(counts: Ints, bounds: Ints, least: int) -> list[int]:
    """Of these last places of bins, ascending and ending with the last value, those that leave no bin under `least`."""
    ends: list[int] = []
    size = 0
    upto = np.cumsum(counts)[bounds]
    before = 0
    for end, total in zip(bounds.tolist(), upto.tolist(), strict=True):
        size += total - before
        before = total
        if size >= least:
            ends.append(end)
            size = 0
    if size:  # what is left over is too small: it joins the highest bin
        ends = [*ends[:-1], len(counts) - 1]
    return ends


def chi_squared(one: tuple[int, int], other: tuple[int, int]) -> Fraction:
    """Pearson's statistic of two bins by two classes."""
    (a, b), (c, d) = one, other
    below = (a + b) * (c + d) * (a + c) * (b + d)
    return Fraction((a + b + c + d) * (a * d - b * c) ** 2, below) if below else Fraction(0)
