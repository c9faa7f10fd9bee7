"""Which cells of a grouped plan are shown: each by itself, whole lines of a table, or a table as a whole.

A cell by itself is protected against the total of all cells; where both parties have keys, against the total of each
group of a receiver's own keys, for such totals a side knows of its own columns. Statistics of bins and classes need
whole lines anyway, and a test of independence the whole table; for them the decision is by lines, or by the table.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mpc.engine import Engine
from mpc.opening import shown_crossed, shown_lines, shown_table
from mpc.sql.local import closed
from mpc.sql.types import Plan
from party.errors import InternalError

__all__ = ["lines_of", "shown_cells"]


def shown_cells(
    engine: Engine, plan: Plan, sizes: tuple[int, int], rows: npt.NDArray[np.uint64], width: int
) -> npt.NDArray[np.uint8]:
    """XOR shares of the cells that are shown, (cells,), from shares of their rows, party 0's groups slowest.

    plan.together: "cells"; "lines", where the groups of the last key, its owner's only one, go together; "table".
    With min_rows 1 every cell that has rows is shown.
    """
    never = closed(plan, sizes)
    if plan.min_rows == 1 or plan.together == "cells":
        by = lines_of(plan)
        shape = sizes if by else (1, sizes[0] * sizes[1])
        crossed, hidden = rows.reshape(shape), never.reshape(shape)
        return shown_crossed(engine, crossed, plan.min_rows, width, by or (0,), hidden).reshape(-1)
    if plan.together == "table":
        return shown_table(engine, rows, plan.min_rows, width, never.reshape(-1))
    owner = plan.keys[-1].owner
    if [key.owner for key in plan.keys].count(owner) != 1:
        raise InternalError("the classes of a line are one key of one party")
    table = rows.reshape(sizes)
    if owner == 1:
        return shown_lines(engine, table, plan.min_rows, width, np.logical_or.reduce(never, axis=1)).reshape(-1)
    return shown_lines(engine, table.T, plan.min_rows, width, np.logical_or.reduce(never, axis=0)).T.reshape(-1)


def lines_of(plan: Plan) -> tuple[int, ...]:
    """The parties along whose groups the cells are protected; () for the total of all, where only one has keys."""
    owners = {key.owner for key in plan.keys}
    return tuple(owner for owner in sorted(owners) if plan.parties[owner] in plan.to) if len(owners) == 2 else ()
