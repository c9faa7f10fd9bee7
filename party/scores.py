"""How finely a peer may be shown scores: decimals of a score, and the fraction bits of the logit that give them.

A score to d decimals needs its logit to 2^-b with 2^-b / 4 <= 10^-d / 2, for the sigmoid is nowhere steeper than 1/4.
Openings name the precision of the logits, `logits ... to 1/512`, and policy reads it there.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

__all__ = ["LOGITS", "MOST_DECIMALS", "Scores", "lacking", "logit_bits"]

MOST_DECIMALS = 6
LOGITS = "*: logits *"  # GLOB: all openings that show logits row by row
_PRECISION = re.compile(r"[^:]*: logits .*?to 1(?:/([0-9]+))?(?![0-9/])")


@dataclass(frozen=True)
class Scores:
    """What a peer may see of scores, row by row: whether, to how many decimals, how many a day (None: by `budget`)."""

    receive: bool = True
    decimals: int = 3
    per_day: int | None = None


def logit_bits(decimals: int) -> int:
    """Fraction bits of a logit that gives a score to so many decimals: 0, 3, 6, 9, 13, 16, 19 for 0 to 6."""
    return max(0, math.ceil(math.log2(10**decimals / 2)))


def lacking(scores: Scores, what: str) -> str | None:
    """What the policy lacks for an opening of this name to the peer; None: nothing, or it opens no logits."""
    found = _PRECISION.match(what)
    if found is None:
        return None
    if not scores.receive:
        return f"{what!r} shows the peer single rows, and policy says `scores: {{receive: false}}`"
    allowed = logit_bits(scores.decimals)
    if int(found[1] or 1) > 2**allowed:
        return (
            f"{what!r} is finer than `scores: {{decimals: {scores.decimals}}}` in our policy,"
            f" which shows logits to 1/{2**allowed}"
        )
    return None
