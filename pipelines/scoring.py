"""Score rows aligned anew with a model trained earlier: the job that asks for it, the stage on both sides, the answer.

`tally score` and `Session.score` make a job of `align` and `score`; policy, approval, ledger and budgets are those of
any job. The receiver may ask for some of the aligned rows by their keys: it looks them up in its own table and tells
the other side their places.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from connectors import Receipt, Sink, open_sink
from party.errors import DataError, InternalError, UsageError
from party.home import Home
from pipelines import asked, models, shown_models
from pipelines.job import Align, Job
from pipelines.job_score import STANDARD, Scale, Score
from pipelines.live import Live
from pipelines.tables import open_table, read_aligned, table_spec, table_stamp

if TYPE_CHECKING:
    from vfl import ModelHalf

__all__ = ["Wanted", "forms", "keys", "score", "score_job", "sink_of", "write"]

Features = Callable[[Live, list[str], np.ndarray], dict[str, tuple[np.ndarray, np.ndarray]]]

MOST_IDS = 100_000  # of one request by keys


@dataclass(frozen=True)
class Wanted:
    """What is asked of a model. table: ours; None: the one it was trained on, and so for the peer's."""

    table: str | None = None
    peer_table: str | None = None
    receiver: str | None = None  # None: we
    decimals: int = 3
    form: str = "score"
    scale: Scale = STANDARD
    to: str | None = None
    ids: tuple[str, ...] | None = None  # keys of the rows asked for; None: all aligned rows


def score_job(home: Home, half: ModelHalf, wanted: Wanted) -> Job:
    """The job that scores with this half and the peer's. UsageError for what cannot be asked."""
    us = home.party.name
    peer = models.peer_of(half, us)
    tables = dict(half.tables)
    tables[us] = wanted.table or tables[us]
    tables[peer] = wanted.peer_table or tables[peer]
    table_spec(home, tables[us])
    receiver = wanted.receiver or us
    if wanted.ids is not None:
        if receiver != us:
            raise UsageError("who asks for single rows receives their scores", hint="leave `--receiver` out")
        if not 0 < len(wanted.ids) <= MOST_IDS:
            raise UsageError(f"between 1 and {MOST_IDS} ids are asked for at a time", hint="without ids all are scored")
    model, chosen = models.reference(half, us), wanted.ids is not None
    score = Score(receiver, wanted.to, wanted.decimals, wanted.form, wanted.scale, model, chosen)
    align = Align(tuple((party, tables[party]) for party in half.parties), "both")
    job = Job(f"score-{half.id}", us, align, score=score)
    job.check()
    return job


def score(live: Live, features: Features) -> None:
    """The score stage with an earlier model: our part of the logits of the rows, opened to the receiver.

    features: columns of these rows of ours, as training reads them.
    """
    from vfl import cohort as protocol

    half = models.check(live.home, live.job)
    if half is None or live.alignment is None or live.job.score is None:
        raise InternalError("a score stage without a model or an alignment")
    cohort = asked.cohort(live.job)
    rows, places = live.alignment.rows, None
    receives = live.job.score.receiver == live.us
    target = sink_of(live) if receives and (not live.job.score.chosen or live.job.score.to) else None
    if live.job.score.chosen:
        if receives:
            found = _locate(live, rows)
            places = found.places
            protocol.choose(live.engine, places)
        else:
            places = protocol.learn_chosen(live.engine, len(rows))
        rows = rows[places]
    if len(rows):
        shown_models.admit(live, half)
        partial = protocol.partial_logits(half, features(live, list(half.columns[live.us]), rows))
    else:
        partial = np.zeros(0)
    logits = protocol.score(live.engine, partial, cohort)
    if logits is not None:
        column, values = live.job.score.form, forms(live.job.score).of(logits)
        if live.job.score.chosen:
            answers = found.answers(column, values)
            live.state.put_json("answers", answers)
            written = {name: pa.array([row[name] for row in answers["rows"]]) for name in answers["columns"]}
        else:
            written = keys(live, rows) | {column: pa.array(values)}
        if target is not None:
            write(live, target, written)
    live.kept("score")


def forms(score: Score) -> Any:
    """How the receiver writes what is opened to it."""
    from vfl.cohort import Forms

    return Forms(score.form, score.decimals, score.scale.offset, score.scale.factor)


# --- where all scores go ----------------------------------------------------------------------------------------------


def sink_of(live: Live) -> tuple[str, Sink, Receipt | None]:
    """Where scores go: by the job at the party that runs it, else to results/<job>/; and what an earlier run wrote."""
    told = live.job.score.to if live.job.score and live.ours else None
    url = told or f"parquet:results/{live.job.name}/scores.parquet"
    sink = open_sink(url, live.home.root)
    known = live.receipt(url)
    previous = Receipt(**known) if known else None
    sink.check(previous)
    return url, sink, previous


def write(live: Live, target: tuple[str, Sink, Receipt | None], columns: dict[str, Any]) -> None:
    """Write the table of scores and keep its receipt."""
    url, sink, previous = target
    receipt = asdict(sink.write(pa.table(columns), previous))
    live.keep_receipt(url, receipt)
    live.state.put_json("scores", receipt)


def keys(live: Live, rows: np.ndarray) -> dict[str, Any]:
    """The columns of all keys of our table, for these rows: one may have matched by any of them."""
    name = dict(live.job.align.tables)[live.us]
    columns = list(dict.fromkeys(column for form in table_spec(live.home, name).key for column in form))
    found = read_aligned(open_table(live.home, name), columns, rows)
    return {column: found.column(column) for column in columns}


# --- single rows, by their keys ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Located:
    """Which aligned rows were asked for. places: int64, ascending; asked: for each of them the number of its id."""

    places: np.ndarray
    asked: np.ndarray
    ids: Sequence[str]
    keys: dict[str, Any]  # our key columns of these rows

    def answers(self, column: str, values: np.ndarray) -> dict[str, Any]:
        """A row for each aligned row of an id, in the order of the ids; null where no row of both has it."""
        shown = {name: [None if v is None else str(v) for v in keys.to_pylist()] for name, keys in self.keys.items()}
        told = "asked_" if "asked" in self.keys else "asked"
        rows: list[tuple[int, dict[str, Any]]] = []
        for at, number in enumerate(self.asked):
            keys = {name: texts[at] for name, texts in shown.items()}
            rows.append((int(number), {told: self.ids[number], **keys, column: float(values[at])}))
        alone = set(range(len(self.ids))) - set(map(int, self.asked))
        empty = dict.fromkeys(self.keys)
        rows += [(number, {told: self.ids[number], **empty, column: None}) for number in alone]
        return {"columns": [told, *self.keys, column], "rows": [row for _, row in sorted(rows, key=lambda r: r[0])]}


def _locate(live: Live, rows: np.ndarray) -> _Located:
    """The aligned rows whose key is one of the ids asked for, read by the same rules as the alignment's keys."""
    if live.asked is None:
        raise InternalError("rows are asked for, but not which")
    ids = list(dict.fromkeys(live.asked))
    spec = table_spec(live.home, dict(live.job.align.tables)[live.us])
    single = [form[0] for form in spec.key if len(form) == 1]
    if not single:
        raise UsageError(
            "single rows are asked for by a key of one column, and this table has none", party=live.us, stage="score",
            hint="score all rows, without ids",
        )  # fmt: skip
    own, read = _own_keys(live, rows, single)
    asked_by = np.full(len(rows), -1, dtype=np.int64)
    for name in single:
        told = _normalised(live, name, pa.array(ids, pa.string()))
        found = np.asarray(pc.index_in(read[name], value_set=told, skip_nulls=True).fill_null(-1).to_numpy(False))
        asked_by = np.where(asked_by < 0, found, asked_by)
    places = np.flatnonzero(asked_by >= 0)
    taken = {name: column.take(pa.array(places)) for name, column in own.items()}
    return _Located(places, asked_by[places], ids, taken)


def _own_keys(live: Live, rows: np.ndarray, single: list[str]) -> tuple[dict[str, Any], dict[str, pa.Array]]:
    """Our keys of the aligned rows, as they stand and as the alignment reads them; read once a connection."""
    mark = (table_stamp(live.home, dict(live.job.align.tables)[live.us]), hashlib.sha256(rows.tobytes()).digest())
    held = live.shared.get("keys")
    if held is None or held[0] != mark:
        own = keys(live, rows)
        held = live.shared["keys"] = (mark, own, {name: _normalised(live, name, own[name]) for name in single})
    return held[1], held[2]


def _normalised(live: Live, name: str, values: Any) -> pa.Array:
    """One key column as the alignment reads it, binary; null where it cannot be read."""
    from psi import KeyColumn, from_scan

    declared = table_spec(live.home, dict(live.job.align.tables)[live.us]).column(name)
    key = [KeyColumn(name, declared.normalise, declared.region)]
    table = pa.table({name: values})
    parts, rows = [pa.array([], pa.large_binary())], [np.empty(0, dtype=np.int64)]
    try:
        for batch in from_scan(table.to_batches, key, duplicates="all").batches():
            buffers = [None, pa.py_buffer(batch.offsets.astype(np.int64)), pa.py_buffer(batch.data)]
            parts.append(pa.Array.from_buffers(pa.large_binary(), len(batch.rows), buffers))
            rows.append(batch.rows)
    except DataError as error:
        raise DataError(f"the ids cannot be read as {name}: {error.message}", party=live.us) from None
    places = np.full(table.num_rows, -1, dtype=np.int64)
    places[np.concatenate(rows)] = np.arange(sum(map(len, rows)))
    return pa.concat_arrays(parts).take(pa.array(places, mask=places < 0))
