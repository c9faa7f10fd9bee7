"""SecretFlow's SPU on the same sums, for benchmarks/sql.py; only where it is installed. It is no dependency.

Two protocols for two parties: Cheetah, which needs nobody else, and SEMI2K, which takes its triples from a dealer that
both trust. Both parties are threads of this process and meet in memory, as SPU's own simulator has it: its seconds hold
compiling and sharing the columns, and no network. Whether an answer is right is told beside them: integers are a ring
of 64 bits there, and what wraps is not refused.
"""

from __future__ import annotations

import importlib
import importlib.util
import time
from collections.abc import Callable
from typing import Any

import numpy as np

__all__ = ["PROTOCOLS", "installed", "seconds"]

PROTOCOLS = ("CHEETAH", "SEMI2K")


def installed() -> bool:
    """Whether SPU and the front end that it is asked through can be imported here."""
    return all(importlib.util.find_spec(name) is not None for name in ("spu", "jax"))


Columns = tuple[dict[str, np.ndarray], dict[str, np.ndarray]]


def _asked(case: str, both: Columns) -> tuple[Callable[..., Any], np.ndarray, np.ndarray]:
    """What is computed of two secret arrays, and the arrays; KeyError for a case that SPU has no counterpart of."""
    import jax.numpy as jnp

    first, second = both
    return {
        "dot, 22-bit multiplier": (lambda x, y: jnp.sum(x * y), first["x0"], second["x0"]),
        "dot, again": (lambda x, y: jnp.sum(x * y), first["x0"], second["x0"]),
        "dot of 62-bit columns": (lambda x, y: jnp.sum(x * y), first["long"], second["long"]),
        "10 own groups, SUM": (
            lambda x, y: jnp.matmul(x.T, y),
            np.eye(10, dtype=np.int64)[first["group"]],
            second["x0"],
        ),
        "SUM WHERE pA AND pB": (
            lambda x, y: jnp.sum(x * y),
            (first["x1"] > 0).astype(np.int64),
            np.where(second["x2"] < 1000, second["x0"], 0),
        ),
        "WHERE b.x > t.x, 22 bits": (lambda x, y: jnp.sum(x > y), first["x0"], second["x0"]),
    }[case]


def seconds(case: str, protocol: str, both: Columns, right: np.ndarray) -> tuple[float, bool] | None:
    """Seconds, and whether the answer is the plain one, `right`; None where SPU is not asked this."""
    import jax
    import spu
    from spu.utils import simulation

    jax.config.update("jax_enable_x64", True)
    kinds = spu if hasattr(spu, "ProtocolKind") else importlib.import_module("spu.spu_pb2")
    try:
        function, x, y = _asked(case, both)
    except KeyError:
        return None
    simulator = simulation.Simulator.simple(2, getattr(kinds.ProtocolKind, protocol), kinds.FieldType.FM64)
    start = time.perf_counter()
    found = np.atleast_1d(simulation.sim_jax(simulator, function)(x, y))
    return time.perf_counter() - start, found.tolist() == right.tolist()
