"""What preparation across the split puts on the wire, for `tally plan`: an upper bound where bins are declared.

Values of a category are not known before the run: they are counted as `recipes.VALUES` of them.
"""

from __future__ import annotations

from collections.abc import Mapping

from mpc.cost import Meter
from vfl import evidence, screening
from vfl.recipes import Preparing, order

__all__ = ["predict_preparation"]

_HEADER, _DIMENSION = 24, 4


def predict_preparation(
    preparing: Preparing, parties: tuple[str, str], holder: str, features: Mapping[str, tuple[str, ...]], rows: int
) -> Meter:
    """Bytes and waits before the first pass, for so many training rows; holder: of the label. Keys come on top."""
    meter = Meter()
    if not preparing:
        return meter
    sizes = [_HEADER + 2 * _DIMENSION + 4 * len(features.get(party, ())) for party in parties]
    meter.swap(*sizes)
    other = next(party for party in parties if party != holder)
    asked = [preparing.of(other, name).most_lines for name in preparing.woe(other, tuple(features.get(other, ())))]
    found = [evidence.predict_counts(rows, asked, parties.index(holder))] if asked else []
    if preparing.screen is not None:
        predict = screening.predict_follow if preparing.screen.vif is None else screening.predict_inflate
        first, second = order(parties, features)
        made = {party: sum(preparing.of(party, name).most_columns for name in features[party]) for party in parties}
        found.append(predict(rows, made[first], made[second], parties.index(first)))
    for one in found:
        meter.sent = [a + b for a, b in zip(meter.sent, one.sent, strict=True)]
        meter.waits = [a + b for a, b in zip(meter.waits, one.waits, strict=True)]
        meter.transfers += one.transfers
    return meter
