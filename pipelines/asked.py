"""What a job asks of both parties: each part's Request and plan, derived from the job and the two catalogues alone.

Both sides call this by themselves and get the same, or the agreement fails.
"""

from __future__ import annotations

import psi
import vfl
from mpc import sql, statistics
from party.catalogue import Catalogue
from party.errors import UsageError
from party.request import Request
from pipelines.job import Analysis, Job

__all__ = ["check_tables", "context", "explain", "predict", "request", "row_bound", "train_spec"]

Catalogues = tuple[Catalogue, Catalogue]

_ALIGN_SECONDS = 1.5e-4  # a key, both parties at work: mapping and two multiplications
_QUERY_SECONDS = 1.0


def check_tables(job: Job, catalogues: Catalogues) -> None:
    """UsageError when a table is unknown, or its owner lets the peer join on none of its keys."""
    for (party, name), catalogue in zip(job.align.tables, catalogues, strict=True):
        table = catalogue.table(name)
        if table is None:
            known = ", ".join(table.name for table in catalogue.tables) or "none"
            raise UsageError(
                f"{party} shows no table {name!r}",
                party=party,
                stage="align",
                hint=f"tables with a granted column: {known}",
            )
        if not table.key:
            raise UsageError(
                f"the key of {party}.{name} is not open for `join`",
                party=party,
                stage="align",
                hint=f"{party} grants it in policy.yaml, such as `{name}.phone: [join]`",
            )


def row_bound(job: Job, catalogues: Catalogues) -> int:
    """The most rows that an alignment can have: the smaller table's, rounded up to two digits."""
    found = [catalogue.table(name) for (_, name), catalogue in zip(job.align.tables, catalogues, strict=True)]
    return min(table.rows for table in found if table is not None)


def context(job: Job, item: Analysis, catalogues: Catalogues, rows: int) -> sql.Context:
    """What one item of `analyse` is planned from."""
    least = max(catalogue.min_rows for catalogue in catalogues)
    return sql.Context(item.name, catalogues, item.to, rows, least)


def train_spec(job: Job) -> vfl.TrainSpec:
    """The job's `train` in the words of vfl."""
    if job.train is None:
        raise UsageError("this job trains nothing")
    party, _, column = job.train.label.partition(".")
    first, second = job.parties
    return vfl.TrainSpec(
        parties=(first, second),
        tables=dict(job.align.tables),
        label=(party, column),
        features=dict(job.train.features),
        l2=job.train.l2,
        winsorise=job.train.winsorise,
        test_fraction=job.train.test_fraction,
        tolerance=job.train.tol,
        passes=job.train.max_passes,
    )


def _plan(job: Job, item: Analysis, catalogues: Catalogues, rows: int) -> sql.Plan:
    planned = context(job, item, catalogues, rows)
    if item.sql is None:
        return statistics.plan(dict(item.statistics), dict(job.align.tables), planned).plan
    plan = sql.plan(item.sql, planned)
    if plan.tables != tuple(name for _, name in job.align.tables):
        raise UsageError(
            f"analyse.{item.name} reads other tables than the job aligns",
            stage="analyse",
            hint="one alignment a job: join the two tables named under `align`",
        )
    return plan


def request(job: Job, catalogues: Catalogues) -> Request:
    """Everything the job asks for. Raises UsageError when it cannot be run, PolicyRefused when it never may be."""
    check_tables(job, catalogues)
    keys = {}
    for (party, name), catalogue in zip(job.align.tables, catalogues, strict=True):
        table = catalogue.table(name)
        keys[party] = (name, table.key if table is not None else ())
    found = psi.request(keys, job.align.learns)
    rows = row_bound(job, catalogues)
    for item in job.analyse:
        found |= _plan(job, item, catalogues, rows).request
    if job.train is not None:
        spec = train_spec(job)
        spec.check()
        found |= vfl.request(spec, job.score.receiver if job.score else None)
    return found


def predict(job: Job, catalogues: Catalogues) -> dict[str, dict[str, float | int | None]]:
    """Coarse costs of the stages, bytes both ways: seconds are those of two cores of one machine, give or take a half.

    A query takes about a second and its bytes stand in its own lines of `explain`.
    """
    sizes = {}
    for (party, name), catalogue in zip(job.align.tables, catalogues, strict=True):
        table = catalogue.table(name)
        sizes[party] = table.rows if table is not None else 0
    costs = psi.predict(sizes, job.align.learns)
    found: dict[str, dict[str, float | int | None]] = {
        "align": {"seconds": _ALIGN_SECONDS * sum(sizes.values()), "bytes": sum(cost.sent for cost in costs.values())}
    }
    if job.analyse:
        found["analyse"] = {"seconds": _QUERY_SECONDS * len(job.analyse), "bytes": None}
    if job.train is not None:
        plan = vfl.plan(train_spec(job), row_bound(job, catalogues), job.score.receiver if job.score else None)
        found["train"] = {"seconds": plan.seconds, "bytes": plan.passes * plan.bytes_each_pass}
    return found


def explain(job: Job, catalogues: Catalogues) -> list[str]:
    """What will run and what each party learns, a line each."""
    rows = row_bound(job, catalogues)
    first, second = job.parties
    learner = "both parties learn" if job.align.learns == "both" else f"{job.align.learns} learns"
    lines = [
        f"align: {first}.{job.align.tables[0][1]} with {second}.{job.align.tables[1][1]}, at most {rows} rows",
        f"align: each learns the length of the other's key list; {learner} which of its own rows the other has",
    ]
    for item in job.analyse:
        told = " and ".join(item.to)
        lines += [f"{item.name} (to {told}): {line}" for line in _plan(job, item, catalogues, rows).explain()]
    if job.train is not None:
        lines += list(vfl.plan(train_spec(job), rows, job.score.receiver if job.score else None).lines)
    return lines
