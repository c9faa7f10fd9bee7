"""Arithmetic on values that nobody sees: shares, lattice products, oblivious transfer, comparison, statistics, SQL.

Protocols run over `mpc.engine.Engine`.
"""
