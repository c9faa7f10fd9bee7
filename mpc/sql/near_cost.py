"""What the guard of the history will move and compute before a statement, for `tally plan` and EXPLAIN.

Counted by the rules of `mpc.sql.near` from the probes it makes; sizes of groups that only a run knows are taken as
`ASSUMED_GROUPS`. Which statements were answered before must be the same as at the run.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from mpc.cost import Meter
from mpc.sql.cost import Counting, Held, Step
from mpc.sql.near import Dim, Probe, comparing
from mpc.sql.products import ASSUMED_GROUPS

__all__ = ["STEP", "compared"]

STEP = "compare with what was answered before"
_COUNT = 24 + 8  # one message of a number


def compared(found: Sequence[Probe], held: Held | None = None, groups: Mapping[Dim, int] | None = None) -> Step | None:
    """All that `mpc.sql.near.differ_by_few` does for these probes, as one step; None where there are none.

    held: of earlier statements; what this one leaves is added to it. groups: sizes of groups that are known.
    """
    if not found:
        return None
    held, meter = Held() if held is None else held, Meter()
    cells, parts = 0, list[Counting]()
    for probe in found:
        sizes = [1, 1]
        for dim in probe.dims:
            if dim.size is None:
                meter.tell(dim.owner, _COUNT)
            sizes[dim.owner] *= dim.size or (groups or {}).get(dim) or ASSUMED_GROUPS
        cells += len(probe.pairs) * math.prod(sizes)
        parts.append(Counting(probe.plan, (sizes[0], sizes[1]), held, meter))
        parts[-1].products()
    parts[-1].base_transfers()
    plan = found[0].plan
    comparing(cells, plan.rows, plan.min_rows, meter)
    return Step(
        STEP,
        "both",
        meter.rounds,
        meter.bytes,
        sum(part.uploaded for part in parts),
        sum(part.transformed for part in parts),
        sum(part.multiplied for part in parts),
        sum(part.answers for part in parts),
        meter.transfers,
        2 * plan.rows * len(found),
    )
