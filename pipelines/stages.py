"""The four stages as plain functions, the same on both sides: align, analyse, train, score.

Each looks up what both sides have kept of it, does the rest, keeps its result, and waits until the peer has kept its
own. Without Prefect: `pipelines.execute` calls them in order; with it, `pipelines.flows` makes each a task.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

import numpy as np
import pyarrow as pa

import psi
from connectors import evaluate, finds
from mpc import sql
from mpc.statistics import plan as statistics
from party.catalogue import Catalogue, Table
from party.errors import DataError, InternalError
from party.message import Bytes, Message
from pipelines import alignments, asked, history, models, prepared, scoring, shown_models
from pipelines.job import Analysis
from pipelines.live import Live
from pipelines.tables import identifiers, open_table, read_aligned, read_whole

__all__ = ["STAGES", "align", "analyse", "score", "train"]


@dataclass(frozen=True, repr=False)
class Offer(Message, kind=0x0710):
    """Both ways, before an alignment: digests of the kept one that we would use again and of what was answered over it,
    or zeros. Reveals just that."""

    digest: Annotated[bytes, Bytes(32)]
    answered: Annotated[bytes, Bytes(32)]


def align(live: Live) -> None:
    """Find the shared rows, or use an alignment again that both sides still hold over unchanged keys."""
    stored = live.state.get_arrays("alignment")
    if "align" in live.done:
        if stored is None:
            raise InternalError("the alignment of this run is gone from its folder", hint="run again with --new")
        live.alignment = alignments.from_arrays(stored)
        live.prepared = (live.state.folder / prepared.AHEAD).exists()
        prepared.wipe(live.home, live.state)  # interrupted just before it was
        if (series := alignments.series(live)) is not None:
            series.promote(live.state.run)
        return
    held = None if live.realign or stored is not None else alignments.load(live)
    offer = Offer(bytes(32), bytes(32))
    if held is not None:
        offer = Offer(held.digest, history.of_alignment(live.home, live.peer, held.digest).digest)
    theirs = live.channel.swap(offer)
    if held is not None and theirs.digest == offer.digest and theirs.answered != offer.answered:
        live.progress.note("the two sides remember different answers over the kept alignment: aligns anew")
    elif held is not None and theirs == offer:
        live.progress.note("uses the alignment of an earlier run again: both sides found their keys unchanged")
        for opening in alignments.opened_to(live, held):
            live.guard.disclose(*opening)
        live.alignment, live.reused = held, True
        live.state.put_arrays("alignment", alignments.to_arrays(held))
        live.kept("align")
        return
    mine, other = (_shown(live, catalogue) for catalogue in live.catalogues[:: 1 if live.index == 0 else -1])
    keys, terms = identifiers(live.home, mine, live.job.align.duplicates), _terms(live, mine, other)
    ahead = prepared.take(live, mine, keys[0].duplicates) if terms.small == live.peer else None
    store = _store(live)
    means, series = psi.Means(store, ahead, live.progress.step), alignments.series(live)
    found = psi.align(keys, live.channel, live.guard, terms, means, series)
    live.alignment, live.prepared = found, ahead is not None
    live.state.put_arrays("alignment", alignments.to_arrays(found))
    live.kept("align")
    store.wipe()
    prepared.wipe(live.home, live.state)
    if series is not None:
        series.promote(live.state.run)
    alignments.keep(live, found)


def _store(live: Live) -> psi.SealedStore:
    """What this run's alignment keeps until both sides have it."""
    return psi.SealedStore(live.state.folder / "psi", live.home.state / "psi.key", live.state.run)


def _terms(live: Live, mine: Table, other: Table) -> psi.Terms:
    joined = asked.joined(live.job, live.catalogues)
    return psi.Terms(
        live.state.run,
        live.salt,
        joined.learns,
        our_min_size=live.catalogues[live.index].min_size,
        their_min_size=live.catalogues[1 - live.index].min_size,
        keep=joined.keep,
        multiple=joined.multiple,
        small=asked.short_side(live.job, live.catalogues),
        most_ours=mine.rows,
        most_theirs=other.rows,
    )


def _shown(live: Live, catalogue: Catalogue) -> Table:
    """The aligned table as its owner shows it: the rows it tells bound its list."""
    table = catalogue.table(dict(live.job.align.tables)[catalogue.party])
    if table is None:
        raise InternalError("an agreed table is not in its catalogue")
    return table


def analyse(live: Live) -> None:
    """Answer each item of `analyse` in the job's order."""
    if live.resumed:
        history.compare(live, _aligned(live).digest)
    for place, item in enumerate(live.job.analyse):
        unit = f"analyse-{item.name}"
        if unit not in live.done:
            answer = _answer(live, item)
            if answer is not None:
                live.state.put_json(unit, answer)
            live.kept(unit)
        live.progress.step(place + 1, len(live.job.analyse), item.name)


def _answer(live: Live, item: Analysis) -> dict[str, Any] | None:
    rows = _aligned(live).rows
    context = asked.context(live.job, item, live.catalogues, len(rows))
    if item.sql is not None:
        chosen = [(plan, rows) for plan in sql.plans(item.sql, context)]
        if live.job.align.keep is not None:  # an inner join over an alignment that holds more
            matched = rows[: len(rows) - _aligned(live).unmatched]
            inner = sql.plans(item.sql, replace(context, rows=len(matched)))
            chosen = [
                pair if pair[0].keep is not None else (fewer, matched)
                for pair, fewer in zip(chosen, inner, strict=True)
            ]
        _admit(live, item, [plan for plan, _ in chosen], chosen[0][1])
        found = [sql.execute(plan, _local(live, plan, of), live.engine, _aligned(live).digest) for plan, of in chosen]
        result = sql.joined(found)
        if result is None:
            return None
        return {
            "columns": list(result.columns),
            "rows": [dict(row) for row in result.rows],
            "suppressed_groups": result.suppressed_groups,
        }
    wanted = statistics.plan(dict(item.statistics), dict(live.job.align.tables), context)
    _admit(live, item, list(wanted.plans), rows)
    digest = _aligned(live).digest
    values = statistics.execute(wanted, lambda plan: _local(live, plan, rows), live.engine, digest)
    return None if values is None else {"statistics": values}


def _admit(live: Live, item: Analysis, plans: Sequence[sql.Plan], rows: np.ndarray) -> None:
    """Ask the guard of the history, before anything of the answer leaves."""
    history.admit(live, item, plans, _aligned(live).digest, lambda probe: _local(live, probe, rows))


def _local(live: Live, plan: sql.Plan, rows: np.ndarray) -> sql.LocalColumns:
    """Our local step, evaluated over our aligned rows and our further tables."""
    reads = sql.reads_of(plan, live.us)
    others = {sql.further_name(name): read_whole(open_table(live.home, name), c) for name, c in reads.there.items()}
    for unique in reads.unique:
        if finds(others, sql.repeated_select(unique)):
            columns = ", ".join(unique.columns)
            raise DataError(
                f"{columns} is not unique in table {unique.table}: more than one row answers",
                party=live.us,
                hint="a further table is joined on columns that tell its rows apart; where IN (SELECT ...) or a grouped"
                " table wants them unique here, join the other table instead and put its condition into WHERE",
            )
    table = dict(live.job.align.tables)[live.us]
    values = read_aligned(open_table(live.home, table), reads.here, rows)
    return evaluate(values, plan.local[live.us], sql.TABLE, others=others)


def train(live: Live) -> None:
    """Train our half of the model together with the peer."""
    if "train" in live.done:
        return
    import vfl

    spec = asked.train_spec(live.job)
    names = list(spec.features[live.us])
    if spec.label_holder == live.us:
        names.append(spec.label[1])
        names += [] if spec.weights is None else [spec.weights]
    names += [spec.offset[live.us]] if live.us in spec.offset else []
    checkpoints = vfl.FileCheckpoints(live.state.folder / "passes")
    most = spec.passes or vfl.plan(spec, len(_aligned(live).rows)).passes
    fitted = vfl.train(
        live.engine,
        _features(live, names, _aligned(live).rows),
        spec,
        _aligned(live).digest,
        checkpoints,
        lambda number, told: live.progress.step(number, most, told),
    )
    for note in (*fitted.notes, *(f"{column} is left out by the screen" for column in fitted.left_out)):
        live.progress.note(note)
    name = hashlib.sha256(b"tallystick/v1/pipelines/model/" + live.state.run.encode()).hexdigest()[:16]
    statement = str((live.state.get_json("agreed") or {}).get("statement", ""))
    facts = {"id": name, "agreement": statement, "metrics": fitted.metrics.as_dict()}
    half = models.named(fitted.model, live.job, live.us, facts)
    live.state.put_json(
        "model",
        {
            "id": name,
            "half": half.to_json(),
            "metrics": fitted.metrics.as_dict(),
            "passes": fitted.passes,
            "converged": fitted.stopped,
            "left_out": list(fitted.left_out),
            "l2": fitted.l2,
            "cross_validation": None if fitted.validated is None else fitted.validated.as_list(),
            "inference": None if fitted.inference is None else fitted.inference.as_list(),
            "inference_refused": None if fitted.inference is None else fitted.inference.refusal,
            "fit": None if fitted.inference is None or fitted.inference.fit is None else fitted.inference.fit.as_dict(),
            "trained": time.time(),
        },
    )
    models.keep(live.home, half)
    live.kept("train")
    live.state.forget("passes")


def score(live: Live) -> None:
    """Open a score for every aligned row of the receiver's to it, who writes it where the job or its home says."""
    if live.job.score is None or "score" in live.done:
        return
    if live.job.score.model is not None:
        scoring.score(live, _features)
        return
    from vfl import ModelHalf, cohort
    from vfl.score import open_partial_logits
    from vfl.spec import scores_name

    kept = live.state.get_json("model")
    if kept is None:
        raise InternalError("the model of this run is gone from its folder", hint="run again with --new")
    model = ModelHalf.from_json(kept["half"])
    receiver, rows = live.job.score.receiver, _aligned(live).rows
    if live.job.align.keep not in (None, receiver):
        rows = rows[: len(rows) - _aligned(live).unmatched]  # the others are nobody whom the receiver knows
    target = scoring.sink_of(live) if receiver == live.us else None
    shown_models.admit(live, model)
    partial = cohort.partial_logits(model, _features(live, list(model.columns[live.us]), rows))
    name, decimals = scores_name(live.job.score.decimals), live.job.score.decimals
    found = open_partial_logits(live.engine, partial, name, receiver, decimals)
    if found is not None and target is not None:
        scoring.write(live, target, _score_columns(live, found))
    live.kept("score")


def _score_columns(live: Live, logits: np.ndarray) -> dict[str, Any]:
    """The keys of these aligned rows, what the job wants of their logits, and whether they were test rows."""
    from vfl import prepare

    alignment, job = _aligned(live), live.job
    if job.train is None or job.score is None:
        raise InternalError("a job that scores without training")
    test = prepare.split(len(alignment.rows), job.train.test_fraction, alignment.digest)[: len(logits)]
    values = scoring.forms(job.score).of(logits)
    split = pa.array(np.where(test, "test", "train"))
    return scoring.keys(live, alignment.rows[: len(logits)]) | {job.score.form: pa.array(values), "split": split}


def _features(live: Live, names: list[str], rows: np.ndarray) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Columns of these rows of ours as (values, valid): numbers and texts as they are, decimals as floats; missing ones
    0 or empty. Whether a text may be a feature is for its preparation to say."""
    table = read_aligned(open_table(live.home, dict(live.job.align.tables)[live.us]), names, rows)
    found = {}
    for name in names:
        column = table.column(name)
        valid = np.asarray(column.is_valid().to_numpy(zero_copy_only=False))
        kind = column.type
        if pa.types.is_decimal(kind):
            column = column.cast(pa.float64())
        if pa.types.is_boolean(kind):
            column = column.cast(pa.int8())
        if pa.types.is_temporal(kind):
            raise DataError(
                f"column {name} is {kind}: a date can be no feature or label",
                party=live.us,
                hint="make a number of it first, such as the days since",
            )
        text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
        found[name] = (np.asarray(column.fill_null("" if text else 0).to_numpy(zero_copy_only=False)), valid)
    return found


def _aligned(live: Live) -> psi.Alignment:
    if live.alignment is None:
        raise InternalError("a stage before the alignment")
    return live.alignment


STAGES = {"align": align, "analyse": analyse, "train": train, "score": score}
