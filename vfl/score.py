"""Scores of aligned rows with a trained model, opened to one named receiver at limited precision.

z = z_A + z_B, each part computed by its owner in the clear from its own weights; the two parts are additive shares
already. They are truncated exactly on shares before anything is opened: to 1/512 for 3 decimals of a score (which
moves by at most 0.0005 of that), coarser for fewer (`party.scores.logit_bits`), so the receiver sees nothing finer.
What that shows: one linear combination of the other side's features a row, which the plan says. In the tails 1/512 of
a logit is finer than 3 decimals of a score.

Step 9 of docs/protocols/09-split-logistic-regression.md.
"""

from __future__ import annotations

import numpy as np

from mpc import convert, opening, ring
from mpc.engine import Engine
from party.scores import logit_bits
from vfl.metrics import sigmoid
from vfl.model import ModelHalf
from vfl.spec import scores_name

__all__ = ["open_logits", "open_partial_logits", "rounded", "score", "sigmoid"]

_FINE_BITS = 40
_DECIMALS = 3


def score(
    engine: Engine, model: ModelHalf, values: np.ndarray, receiver: str, decimals: int = _DECIMALS
) -> np.ndarray | None:
    """Scores of standardised rows (n, d) in the common order, float64 (n,), at the receiver; None at the other side.

    Rounds: 3. Bytes: about 20 a row.
    """
    partial = model.partial_logits(values)
    logits = open_partial_logits(engine, partial, scores_name(decimals), receiver, decimals)
    return None if logits is None else rounded(logits, decimals)


def open_logits(engine: Engine, model: ModelHalf, values: np.ndarray, what: str, to: str) -> np.ndarray | None:
    """Logits to 1/512 of standardised rows (n, d), opened `to` one side under the name `what`; None at the other."""
    return open_partial_logits(engine, model.partial_logits(values), what, to)


def open_partial_logits(
    engine: Engine, partial: np.ndarray, what: str, to: str, decimals: int = _DECIMALS
) -> np.ndarray | None:
    """Logits from each side's own part (n,), as fine as scores of so many decimals need, opened `to` one side.

    Coarser decimals open coarser logits: what is cut off is cut on shares. Rounds: 3. Bytes: about 20 a row.
    """
    if not len(partial):
        return np.zeros(0) if engine.channel.us == to else None
    bits = logit_bits(decimals)
    share = ring.encode(partial, _FINE_BITS)  # less than one unit off once truncated: one side rounds down, one up
    opened = opening.open_to(engine, convert.truncate(engine, share, _FINE_BITS - bits), what, (to,))
    return None if opened is None else ring.decode(opened, bits)


def rounded(logits: np.ndarray, decimals: int) -> np.ndarray:
    """Scores, to so many decimals."""
    return np.round(sigmoid(logits), decimals)
