"""Alignments kept for later runs: each side holds its half, bound to the keys it was made from, for `alignment_ttl`."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import astuple

import numpy as np

from party.canonical import canonical
from party.catalogue import Catalogue
from party.errors import InternalError
from party.home import Home, replace_file
from pipelines.job import Job
from pipelines.live import Live
from pipelines.runs import RunState
from pipelines.tables import content_digest
from psi import Alignment, Facts, Limits, SeriesFolder

__all__ = ["from_arrays", "keep", "kept", "load", "opened_to", "series", "to_arrays"]


def to_arrays(alignment: Alignment) -> dict[str, np.ndarray]:
    """An alignment as arrays for a file of ours; -1 stands for a number that this side did not learn."""
    numbers = [alignment.ours, alignment.theirs, alignment.count, alignment.unmatched]
    found: dict[str, np.ndarray] = {
        "rows": alignment.rows,
        "digest": np.frombuffer(alignment.digest, dtype=np.uint8),
        "numbers": np.array([-1 if number is None else number for number in numbers]),
        "by_key": np.array([-1 if number is None else number for number in alignment.by_key], dtype=np.int64),
    }
    if alignment.facts is not None:
        found["facts"] = np.array(astuple(alignment.facts))
    return found if alignment.matched is None else found | {"matched": alignment.matched}


def from_arrays(arrays: Mapping[str, np.ndarray]) -> Alignment:
    """The reverse of `to_arrays`."""
    ours, theirs, count, unmatched = (int(number) for number in arrays["numbers"])
    return Alignment(
        rows=arrays["rows"],
        matched=arrays.get("matched"),
        count=None if count < 0 else count,
        digest=arrays["digest"].tobytes(),
        ours=ours,
        theirs=theirs,
        facts=Facts(*(int(number) for number in arrays["facts"])) if "facts" in arrays else None,
        by_key=tuple(None if number < 0 else int(number) for number in arrays["by_key"]),
        unmatched=unmatched,
    )


def keep(live: Live, alignment: Alignment) -> None:
    """Keep it for later runs over the same tables."""
    if live.home.party.alignment_ttl == 0:
        return
    state = _state(live.home, live.job, live.catalogues)
    state.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    state.put_arrays("alignment", to_arrays(alignment))
    replace_file(
        state.folder / "made.json", json.dumps({"time": time.time(), "content": _content(live.home, live.job)}).encode()
    )


def load(live: Live) -> Alignment | None:
    """The kept alignment of this job's tables, if it is young enough and our keys are unchanged."""
    return kept(live.home, live.job, live.catalogues)


def kept(home: Home, job: Job, catalogues: tuple[Catalogue, Catalogue]) -> Alignment | None:
    """The same before a run: whether the peer holds it, too, only the run knows."""
    state = _state(home, job, catalogues)
    made = state.get_json("made")
    arrays = state.get_arrays("alignment")
    if made is None or arrays is None or time.time() - made["time"] > home.party.alignment_ttl:
        return None
    return from_arrays(arrays) if made["content"] == _content(home, job) else None


def opened_to(live: Live, held: Alignment) -> list[tuple[str, str, int]]:
    """What using an alignment again tells the peer once more: opening, to whom, how many."""
    learns = live.job.align.learns
    if learns == "size":
        return [("alignment.count", live.peer, held.count or 0)]
    return [("alignment.rows", live.peer, len(held.rows))] if learns in ("both", live.peer) else []


def series(live: Live) -> SeriesFolder | None:
    """The series that this run belongs to, where its job is incremental; our policy says how long a key serves."""
    if not live.job.align.incremental:
        return None
    allowed = live.home.policy.towards(live.peer).series
    if allowed is None:
        raise InternalError("an incremental alignment that our policy does not allow")
    return SeriesFolder(
        live.home.state / "series" / _name(live.home, live.job, live.catalogues),
        live.home.state / "psi.key",
        Limits(*allowed),
    )


def _content(home: Home, job: Job) -> str:
    return content_digest(home, dict(job.align.tables)[home.party.name])


def _state(home: Home, job: Job, catalogues: tuple[Catalogue, Catalogue]) -> RunState:
    """Where the alignment of these tables under these policies is kept."""
    return RunState(home.state / "alignments", _name(home, job, catalogues))


def _name(home: Home, job: Job, catalogues: tuple[Catalogue, Catalogue]) -> str:
    """A digest of all that makes an alignment mean what it does, but for the tables' content."""
    us = home.party.name
    mine, other = catalogues if catalogues[0].party == us else catalogues[::-1]
    spec = home.party.tables[dict(job.align.tables)[us]]
    rules = [[spec.column(name).normalise, spec.column(name).region] for form in spec.key for name in form]
    meaning = [
        sorted(job.align.tables),
        job.align.learns,
        job.align.duplicates or spec.duplicates,
        job.align.keep,
        [list(form) for form in spec.key],
        rules,
        [mine.min_size, other.min_size],
        home.party.peers[job.other(us)].fingerprint,
    ]
    return hashlib.sha256(canonical(meaning)).hexdigest()[:32]
