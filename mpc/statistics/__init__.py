"""Statistics of aligned columns, on the same plans as SQL: moments, tests, and what ranks features for a model.

`mpc.statistics.plan` plans and executes; `wanted` is what a job asks for, and loads nothing else.
"""
