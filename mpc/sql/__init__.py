"""Joint SQL: plan a statement from public inputs, run it on shares."""

from mpc.sql.execute import execute
from mpc.sql.local import LocalColumn, LocalColumns
from mpc.sql.plan import build, plan
from mpc.sql.products import Work, work_of
from mpc.sql.render import TABLE
from mpc.sql.result import Result
from mpc.sql.types import Context, Plan

__all__ = [
    "TABLE",
    "Context",
    "LocalColumn",
    "LocalColumns",
    "Plan",
    "Result",
    "Work",
    "build",
    "execute",
    "plan",
    "work_of",
]
