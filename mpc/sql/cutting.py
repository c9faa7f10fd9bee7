"""Sums over 64 bits: into how many digits the factors of a product are cut, so that every digit's sum fits a word.

A product x y is sum over i, j of 2**(i w + j v) x_i y_j. The larger factor is cut into digits of `width` w. The smaller
one stays whole if it can; otherwise it is cut, too, into as few digits as possible (they are what is uploaded) of v
bits, a multiple of w: so all products fall on places l w, and the sums at one place are one limb. Limbs are joined on
shares (`joining`), which takes them below 2**62 in magnitude.

Modulo 2**104 there is room for more: one owner's columns stay whole, and the other's are cut into digits of at most 21
bits, each one answer (`long_cut_of`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mpc.lattice_long import LONG_BITS
from mpc.ring import LIMB_BITS

__all__ = ["Cut", "cut_of", "long_cut_of"]

_SPAN = 62  # a limb's sum stays below 2**_SPAN
_WIDEST, _NARROWEST = LIMB_BITS - 1, 4  # a digit of more bits takes two answers
_LIMBS = 24
_LONG_SPAN = LONG_BITS - 2  # a limb's modulo 2**104, likewise
_COARSE = 8  # most digits of a smaller factor

Digit = tuple[int, int]  # shift and width; width 0: all that is left, signed


@dataclass(frozen=True)
class Cut:
    """`large` digits of `width` bits of the larger factor; `small` of `step` width bits of the smaller, 1: whole."""

    width: int
    large: int
    step: int = 0
    small: int = 1

    @property
    def limbs(self) -> int:
        return self.large + self.step * (self.small - 1)

    def products(self, limb: int, larger: int, smaller: int) -> Iterator[tuple[Digit, Digit]]:
        """The digits of a term's factors whose products make a limb; larger, smaller: bounds of their magnitudes.

        The last digit a factor needs is signed: one of fewer bits than the cut is made for has fewer digits.
        """
        wide = self.step * self.width
        for j, second in enumerate(_digits(smaller, wide)):
            place = limb - j * self.step
            digits = _digits(larger, self.width)
            if 0 <= place < len(digits):
                yield digits[place], second


def _digits(most: int, width: int) -> list[Digit]:
    count = -(-(most.bit_length() + 1) // width) if width else 1
    return [(place * width, width) for place in range(count - 1)] + [((count - 1) * width, 0)]


def cut_of(rows: int, factors: Sequence[tuple[int, int, int]]) -> Cut | None:
    """How to cut a sum over rows of terms (|coefficient|, bound of the larger factor, of the smaller one).

    None where even so no limb would fit. The same on both sides: it reads bounds only.
    """
    large = max(most.bit_length() for _, most, _ in factors) + 1
    small = max(most.bit_length() for _, _, most in factors) + 1
    whole = (rows * sum(factor * most for factor, _, most in factors)).bit_length()
    width = min(_WIDEST, _SPAN - whole)
    if width >= _NARROWEST and -(-large // width) <= _LIMBS:
        return Cut(width, -(-large // width))
    weight = rows * sum(factor for factor, _, _ in factors)
    for parts in range(2, _COARSE + 1):
        for width in range(_WIDEST, _NARROWEST - 1, -1):
            step = -(-small // (parts * width))
            cut = Cut(width, -(-large // width), step, -(-small // (step * width)))
            together = min(cut.small, -(-cut.large // step))  # products that meet in one limb
            if weight * together << (width + step * width) <= 1 << _SPAN and cut.limbs <= _LIMBS:
                return cut
    return None


def long_cut_of(rows: int, factors: Sequence[tuple[int, int, int]]) -> Cut | None:
    """How to cut a sum over rows of (|coefficient|, bound of the factor that is cut, of the one that stays whole).

    Modulo 2^104. None where no limb would fit, or what stays whole is no word.
    """
    large = max(most.bit_length() for _, most, _ in factors) + 1
    whole = (rows * sum(factor * most for factor, _, most in factors)).bit_length()
    width = min(_WIDEST, _LONG_SPAN - whole)
    if width < _NARROWEST or -(-large // width) > _LIMBS or any(most >= 2**63 for _, _, most in factors):
        return None
    return Cut(width, -(-large // width))
