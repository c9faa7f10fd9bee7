"""Arithmetic on values that nobody sees: shares, lattice products, oblivious transfer, comparison, statistics, SQL."""

from mpc.engine import Engine

__all__ = ["Engine"]
