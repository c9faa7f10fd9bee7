"""COUNT(DISTINCT x): how many values of one owner's column occur among the rows that enter.

Where the weight and the groups are of the column's owner alone, it counts by itself: a value counts at the first
entering row that has it (`Builder.distinct`). Elsewhere the rows of each value are counted, cell by cell, as shares; a
value occurs where its count is at least 1, compared on shares; the bits are added up. No count of a value is opened.
The peer learns how many values the column has, rounded up to a power of 4, where no domain is declared.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
import numpy.typing as npt

from mpc.compare import at_least, to_arithmetic
from mpc.sql.joint import Joint
from mpc.sql.local import codes
from mpc.sql.products import CELLS, padded
from mpc.sql.types import Distinct
from party.errors import DataError, PeerError, UsageError
from party.message import Int, Message

__all__ = ["ValueCount", "distinct_counts"]

Words = npt.NDArray[np.uint64]


@dataclass(frozen=True, repr=False)
class ValueCount(Message, kind=0x0512):
    """The owner of a counted column to the other side: how many values it has, rounded up to a power of 4."""

    count: Annotated[int, Int(1, CELLS)]


def distinct_counts(joint: Joint) -> list[Words]:
    """Shares (cells,) of each COUNT(DISTINCT) of a plan. Rounds: one for the number of values, one for the products,
    a comparison, a conversion. Bytes: 81,930 for each value, cell and term."""
    return [_count(joint, one) for one in joint.plan.distincts]


def _count(joint: Joint, one: Distinct) -> Words:
    engine, plan, other = joint.engine, joint.plan, 1 - one.owner
    places = None
    size = one.values
    if joint.us == one.owner:
        of_rows, values = codes(joint.columns[joint.sources[one.source].name])
        met = len(values) - 1  # the last is NULL
        size = size or padded(max(met, 1))
        if size > CELLS or met > size:
            raise DataError(
                f"COUNT(DISTINCT) of a column of {met} values, at most {one.values or CELLS} are counted",
                hint="count a coarser expression; without the other party's conditions any number is counted",
            )
        if one.values is None:
            engine.guard.disclose(f"query.{plan.name}.values", engine.channel.peer, 1)
            engine.channel.send(ValueCount(size))
        places = joint.groups.places * size + np.minimum(of_rows, size - 1)  # NULLs have weight 0
    elif size is None:
        size = engine.channel.recv(ValueCount).count
        if padded(size) != size:
            raise PeerError("the number of values is no power of 4")
    if size * joint.sizes[0] * joint.sizes[1] > CELLS:
        raise UsageError(
            f"COUNT(DISTINCT) of {size} values in {joint.sizes[0] * joint.sizes[1]} groups, at most {CELLS} together",
            hint="count a coarser expression, or group by fewer keys",
        )
    own = joint.sizes[one.owner]
    counted = joint.counts(one.owner, one.terms, places, own * size)
    present = at_least(engine, counted.reshape(-1), 1, max(joint.rows, 1).bit_length() + 1)
    found = to_arithmetic(engine, present).reshape(own, size, joint.sizes[other]).sum(axis=1, dtype=np.uint64)
    return np.ascontiguousarray(found if one.owner == 0 else found.T).reshape(-1)
