"""The job: spec, stages, worker, Prefect flows, schedules, results, reports, command line; and `Party` for Python."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipelines.facade import Party, RunResult, Session

__all__ = ["Party", "RunResult", "Session"]


def __getattr__(name: str) -> object:
    """Load the facade only when it is asked for: `tally --help` does not pay for it."""
    if name in __all__:
        from pipelines import facade

        return getattr(facade, name)
    raise AttributeError(name)
