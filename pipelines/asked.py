"""What a job asks of both parties: each part's Request and plan, derived from the job and the two catalogues alone.

Both sides call this by themselves and get the same, or the agreement fails.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import psi
from mpc import sql
from mpc.statistics import plan as statistics
from party.catalogue import Catalogue, Table
from party.errors import UsageError
from party.request import Request
from party.yamlfile import nearest
from pipelines.job import Analysis, Job

if TYPE_CHECKING:
    import vfl
    from vfl.cohort import Cohort

__all__ = [
    "check_tables",
    "cohort",
    "context",
    "explain",
    "joined",
    "keys_tried",
    "multiple",
    "queries",
    "request",
    "row_bound",
    "short_side",
    "sizes",
    "steps",
    "train_spec",
]

Catalogues = tuple[Catalogue, Catalogue]


def check_tables(job: Job, catalogues: Catalogues) -> None:
    """UsageError when a table is unknown, or its owner lets the peer join on none of its keys."""
    for (party, name), catalogue in zip(job.align.tables, catalogues, strict=True):
        table = catalogue.table(name)
        if table is None:
            other = job.other(party)
            known = [table.name for table in catalogue.tables]
            raise UsageError(
                f"{party} shows {other} no table {name!r}",
                party=party,
                stage="align",
                hint=f"{nearest(name, known)}"
                if known
                else f"{party} opens the key's columns and others to {other} in"
                f" its policy.yaml, such as `{name}.KEY: [join]`; nothing of it is open now",
            )
        if not table.key:
            raise UsageError(
                f"the key of {party}.{name} is not open for `join`",
                party=party,
                stage="align",
                hint=f"{party} grants it in policy.yaml, such as `{name}.phone: [join]`",
            )


def _tables(job: Job, catalogues: Catalogues) -> dict[str, Table]:
    """party -> its aligned table, as the catalogues show it."""
    found = {}
    for (party, name), catalogue in zip(job.align.tables, catalogues, strict=True):
        table = catalogue.table(name)
        if table is None:
            raise UsageError(f"{party} shows no table {name!r}", party=party, stage="align")
        found[party] = table
    return found


def multiple(job: Job, catalogues: Catalogues) -> bool:
    """Whether a key repeated on either side stands for each of its rows."""
    return "all" in {job.align.duplicates or table.duplicates for table in _tables(job, catalogues).values()}


def row_bound(job: Job, catalogues: Catalogues) -> int:
    """The most rows that an alignment can have: the smaller table's, rounded up to two digits, or the keeper's; where
    repeated keys stand for each of their rows, all pairs."""
    sizes = {party: table.rows for party, table in _tables(job, catalogues).items()}
    if multiple(job, catalogues):
        return min(math.prod(sizes.values()) + max(sizes.values()), psi.MOST_ROWS)
    return sizes[job.align.keep] if job.align.keep else min(sizes.values())


def context(job: Job, item: Analysis, catalogues: Catalogues, rows: int) -> sql.Context:
    """What one item of `analyse` is planned from."""
    least = max(catalogue.min_rows for catalogue in catalogues)
    unmatched = None
    if job.align.keep is not None:
        (unmatched,) = set(job.parties) - {job.align.keep}
    return sql.Context(item.name, catalogues, item.to, rows, least, unmatched)


def sizes(job: Job, catalogues: Catalogues) -> dict[str, int]:
    """party -> rows of its aligned table, to two digits."""
    return {party: table.rows for party, table in _tables(job, catalogues).items()}


def steps(
    job: Job, catalogues: Catalogues, rows: int | None = None, answered: Sequence[sql.Plan] = ()
) -> list[tuple[str, sql.Step]]:
    """The steps of each joint query of `analyse` with its name, as they follow one another over one connection; before
    those of an item the guard of the history, which compares it with earlier ones.

    rows: of the alignment, where one is kept; answered: plans of what was answered over it.
    """
    rows, held = row_bound(job, catalogues) if rows is None else rows, sql.Held()
    found: list[tuple[str, sql.Step]] = []
    earlier = list(answered)
    for item in job.analyse:
        plans = _plans(job, item, catalogues, rows)
        probes: list[sql.Probe] = []
        for plan in plans:
            probes += sql.probes(plan, earlier)
            earlier.append(plan)
        guard = sql.compared(probes, held)
        found += [(item.name, guard)] if guard is not None else []
        for plan in plans:
            found += [(plan.name, step) for step in sql.steps_of(plan, held=held)]
    return found


def train_spec(job: Job) -> vfl.TrainSpec:
    """The job's `train` in the words of vfl."""
    import vfl  # a query trains nothing, and starts sooner without it

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
        weights=None if job.train.weights is None else job.train.weights.partition(".")[2],
        class_weight=job.train.class_weight,
        offset={party: column for party, _, column in (name.partition(".") for name in job.train.offset)},
        early_stopping=job.train.early_stopping,
        validation_fraction=job.train.validation_fraction,
        preparing=vfl.Preparing(dict(job.train.prepare), job.train.screen),
        inference=job.train.inference,
        metrics=job.train.metrics.wanted(),
        cross_validation=job.train.cross_validation,
        l1=job.train.fitting.l1,
        method=job.train.fitting.method,
    )


def _plans(job: Job, item: Analysis, catalogues: Catalogues, rows: int) -> tuple[sql.Plan, ...]:
    """One plan; one for each SELECT under UNION ALL; of statistics one for all moments, and one for each other."""
    planned = context(job, item, catalogues, rows)
    if item.sql is None:
        return statistics.plan(dict(item.statistics), dict(job.align.tables), planned).plans
    found = sql.plans(item.sql, planned)
    for plan in found:
        _check_aligned(job, item, plan)
    return found


def _check_aligned(job: Job, item: Analysis, plan: sql.Plan) -> None:
    if plan.tables != tuple(name for _, name in job.align.tables):
        raise UsageError(
            f"analyse.{item.name} reads other tables than the job aligns",
            stage="analyse",
            hint="one alignment a job: the parties join the two tables named under `align`, others each by itself",
        )
    if plan.keep not in (None, job.align.keep):
        raise UsageError(
            f"analyse.{item.name} keeps rows of {plan.keep} without a match, the job's alignment does not",
            stage="analyse",
            hint=f"say `keep: {plan.keep}` under `align`, or use JOIN",
        )


def keys_tried(job: Job, catalogues: Catalogues) -> int:
    """How many keys are tried in order."""
    return max(len(table.key) for table in _tables(job, catalogues).values())


def short_side(job: Job, catalogues: Catalogues) -> str | None:
    """The party with the much shorter table, when the unbalanced form of the alignment is taken."""
    if job.align.incremental:
        return None
    return psi.smaller({party: table.rows for party, table in _tables(job, catalogues).items()}, job.align.learns)


def joined(job: Job, catalogues: Catalogues) -> psi.Joined:
    """The job's `align` in the words of psi."""
    keys = {party: (table.name, table.key) for party, table in _tables(job, catalogues).items()}
    return psi.Joined(keys, job.align.learns, job.align.keep, multiple(job, catalogues), job.align.incremental)


def request(job: Job, catalogues: Catalogues) -> Request:
    """Everything the job asks for. Raises UsageError when it cannot be run, PolicyRefused when it never may be."""
    check_tables(job, catalogues)
    found = psi.request(joined(job, catalogues))
    rows = row_bound(job, catalogues)
    for item in job.analyse:
        for plan in _plans(job, item, catalogues, rows):
            found |= plan.request
    if job.train is not None:
        import vfl

        spec = train_spec(job)
        spec.check()
        found |= vfl.request(spec, *_scored(job))
    if job.score is not None and job.score.model is not None:
        from vfl import cohort as scoring

        found |= scoring.request(cohort(job))
    return found


def cohort(job: Job) -> Cohort:
    """The job's `score` of a model trained earlier, in the words of vfl."""
    from vfl.cohort import Cohort

    if job.score is None or job.score.model is None:
        raise UsageError("this job scores with no earlier model")
    first, second = job.parties
    features, score = dict(job.score.model.features), job.score
    return Cohort(
        (first, second),
        dict(job.align.tables),
        features,
        job.score.model.id,
        score.receiver,
        score.decimals,
        score.chosen,
    )


def _scored(job: Job) -> tuple[str, int] | tuple[()]:
    """Who receives scores, and how finely, as `vfl.request` and `vfl.plan` take it."""
    return () if job.score is None else (job.score.receiver, job.score.decimals)


def queries(job: Job, party: str) -> int:
    """How many queries this job takes from a party's budget: its answers, a model, scores; one for each of its columns
    for which the other's label is counted in bins; and one for each penalty that is tried."""
    scored = job.score is not None and job.score.receiver == party
    counted = 0
    if job.train is not None and job.train.prepare and party != job.train.label.partition(".")[0]:
        counted = len(train_spec(job).preparing.woe(party, dict(job.train.features)[party]))
    if job.train is not None and job.train.cross_validation is not None:
        counted += len(job.train.cross_validation.l2)
    return sum(item.answers for item in job.analyse if party in item.to) + (job.train is not None) + scored + counted


def _learners(job: Job) -> str:
    if job.align.learns == "size":
        return "both learn how many keys both have, nobody which"
    who = "both parties learn" if job.align.learns == "both" else f"{job.align.learns} learns"
    return f"{who} which of its own rows the other has"


def _answers(job: Job, catalogues: Catalogues, rows: int) -> list[str]:
    """What is told of each answer of `analyse`; what is true of all of them stands once, in front."""
    told = []
    for item in job.analyse:
        plans = _plans(job, item, catalogues, rows)
        for plan in plans:
            name = item.name if len(plans) == 1 else plan.name
            told.append((f"{name} (to {' and '.join(item.to)})", plan.explain()))
    shared = [line for line in told[0][1] if all(line in lines for _, lines in told)] if len(told) > 1 else []
    return [
        *(f"every answer: {line}" for line in shared),
        *(f"{name}: {line}" for name, lines in told for line in lines if line not in shared),
    ]


def explain(job: Job, catalogues: Catalogues) -> list[str]:
    """What will run and what each party learns, a line each."""
    rows = row_bound(job, catalogues)
    first, second = job.parties
    tables = _tables(job, catalogues)
    lines = [
        f"align: {first}.{tables[first].name} with {second}.{tables[second].name}, at most {rows} rows",
        f"align: each learns the length of the other's key list; {_learners(job)}",
    ]
    if len(tables[first].key) > 1:
        lines.append(
            "align: keys are tried in order, each on the rows that no earlier one matched; of each key both learn"
            " the length of the lists and how many match, and which, unless they are fewer than the minimum size"
        )
    if multiple(job, catalogues):
        lines.append(
            "align: of each matched key both learn how many rows the other has; every pair of them is a row, and counts"
            " as one for min_rows"
        )
    if (short := short_side(job, catalogues)) is not None:
        long = job.other(short)
        lines.append(
            f"align: the unbalanced form, {short} having the short list; {long} can make its own ahead, for one run:"
            f" `tally prepare {short} {tables[long].name}`"
        )
    if job.align.incremental:
        lines.append(
            "align: only what changed since the last run of this series is exchanged; each side learns how many of the"
            " other's keys are new and how many have gone, and can tell its masked keys again from run to run"
        )
    if job.align.keep:
        lines.append(f"align: {job.align.keep} keeps its rows without a match; the other side learns how many")
    lines += _answers(job, catalogues, rows)
    if job.train is not None:
        import vfl

        lines += list(vfl.plan(train_spec(job), rows, *_scored(job)).lines)
    if job.score is not None and job.score.model is not None:
        from vfl import cohort as scoring

        lines += scoring.explain(cohort(job), rows)
    return lines
