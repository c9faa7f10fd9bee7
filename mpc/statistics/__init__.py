"""Statistics of aligned columns, on the same plans as SQL: moments, tests, and what ranks features for a model."""

from mpc.statistics.plan import StatisticsPlan, execute, plan
from mpc.statistics.tables import Matrix, Table, Value
from mpc.statistics.wanted import KINDS, Wanted

__all__ = ["KINDS", "Matrix", "StatisticsPlan", "Table", "Value", "Wanted", "execute", "plan"]
