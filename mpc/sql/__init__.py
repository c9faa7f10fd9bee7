"""Joint SQL: plan a statement from public inputs, run it on shares."""

from mpc.sql.alone import apart
from mpc.sql.cost import Held, Step, steps_of
from mpc.sql.execute import execute
from mpc.sql.local import LocalColumn, LocalColumns
from mpc.sql.lookups import Reads, Unique, reads_of
from mpc.sql.near import Probe, differ_by_few, probes
from mpc.sql.near_cost import compared
from mpc.sql.plan import build, plan
from mpc.sql.render import further_name
from mpc.sql.result import Result
from mpc.sql.step import TABLE, repeated_select
from mpc.sql.syntax.places import StatementError
from mpc.sql.syntax.sources import Tables, tables_of
from mpc.sql.types import Context, Plan
from mpc.sql.union import joined, plans

__all__ = [
    "TABLE",
    "Context",
    "Held",
    "LocalColumn",
    "LocalColumns",
    "Plan",
    "Probe",
    "Reads",
    "Result",
    "StatementError",
    "Step",
    "Tables",
    "Unique",
    "apart",
    "build",
    "compared",
    "differ_by_few",
    "execute",
    "further_name",
    "joined",
    "plan",
    "plans",
    "probes",
    "reads_of",
    "repeated_select",
    "steps_of",
    "tables_of",
]
