"""A run from agreement to result, on either side; and the same in steps for a Prefect flow.

`start` (the side that runs a job) and `take` (the other) agree and give a Live; `carry_out` does its stages in order;
`finish` makes the result. An error anywhere is told to the peer, written to the ledger, and kept with the run.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from mpc.engine import Engine
from party import agreement
from party.budget import DebitedLedger, take_queries, take_refused
from party.canonical import canonical, parse_canonical
from party.errors import InternalError, Interrupted, PeerError, TallyError
from party.guard import Guard
from party.home import Home, replace_file
from party.ledger import Ledger
from party.request import Request
from pipelines import asked, models, results
from pipelines.job import Job
from pipelines.link import Command, Link
from pipelines.live import Live
from pipelines.prepared import AHEAD, wipe
from pipelines.progress import Progress
from pipelines.runs import RunState, find_resumable, new_run_id
from pipelines.stages import STAGES
from pipelines.tables import table_stamp

__all__ = [
    "abandon_earlier",
    "carry_out",
    "check_bound",
    "failing",
    "finish",
    "keep_job",
    "kept_job",
    "perform",
    "run_job",
    "start",
    "take",
]

Ids = tuple[str, ...] | None


def keep_job(home: Home, job: Job) -> str:
    """Keep a copy under state/jobs; returns the digest by which it is found again."""
    content = canonical(job.canonical())
    digest = agreement.job_digest(content).hex()
    folder = home.state / "jobs"
    folder.mkdir(exist_ok=True, mode=0o700)
    kept = {"job": content.decode(), "score_to": job.score.to if job.score else None}
    replace_file(folder / f"{digest}.json", json.dumps(kept).encode())
    return digest


def kept_job(home: Home, digest: str) -> Job:
    """The job of this digest."""
    path = home.state / "jobs" / f"{digest}.json"
    if not path.exists():
        raise InternalError(f"the copy of job {digest[:12]} is gone from state/jobs", hint="schedule or run it again")
    kept = json.loads(path.read_bytes())
    job = Job.from_canonical(kept["job"].encode())
    if job.score and kept["score_to"]:
        job = replace(job, score=replace(job.score, to=kept["score_to"]))
    return job


def run_job(
    link: Link, job: Job, progress: Progress, *, new: bool = False, realign: bool = False, ids: Ids = None
) -> dict[str, Any]:
    """Run a job over a link without Prefect; returns the result. ids: keys of the rows that its `score` asks for."""
    with start(link, job, progress, new=new, realign=realign) as live:
        live.asked = ids
        carry_out(live)
        return finish(live)


@contextmanager
def start(
    link: Link, job: Job, progress: Progress, *, new: bool = False, run: str | None = None, realign: bool = False
) -> Iterator[Live]:
    """Agree on a run of ours with the peer: the unfinished one of this job, or a new one."""
    content = canonical(job.canonical())
    digest = agreement.job_digest(content).hex()
    runs = link.home.state / "runs"
    found = None if new else _named(runs, run, digest) if run else find_resumable(runs, digest)
    if new:
        abandon_earlier(link.home, digest, link.ledger)
    while True:
        with ExitStack() as held:
            state = found or RunState(runs, run or new_run_id())
            held.enter_context(state.locked())
            if found is None:
                state.create(digest=digest, job=job.name, peer=link.peer, ours=True)
            state.update(status="running", error=None, realign=realign)
            held.enter_context(failing(link, state))
            began = time.perf_counter()
            link.check_files()
            link.channel.send(Command("run"))
            side = _side(link, lambda p: _read(link, p, runs))
            agreed = agreement.propose(link.channel, side, state.run, content, _account(link, job, state))
            live = _assemble(link, agreed, state, job, progress)
            if live is not None:
                live.stages.append(_connect_entry(link, time.perf_counter() - began))
                live.realign = realign
                yield live
                return
            fresh = new_run_id()
            _give_up(link.home, state, continued=fresh)
            progress.note(f"run {state.run} cannot be resumed: a table changed, or a half is gone; starts afresh")
            found, run = None, fresh


@contextmanager
def take(link: Link, progress: Progress) -> Iterator[Live | None]:
    """Take part in a run that the peer starts; None when its earlier half is gone and it will start afresh."""
    runs = link.home.state / "runs"
    with ExitStack() as held:
        states: list[RunState] = []

        def read(proposed: agreement.Proposed) -> tuple[Request, bytes]:
            state = RunState(runs, proposed.run)
            job = Job.from_canonical(proposed.job)  # before anything of it is kept
            held.enter_context(state.locked())
            if not state.exists():
                state.create(digest=proposed.digest.hex(), job=job.name, peer=link.peer, ours=False)
            else:
                check_bound(state, proposed, link.peer)
            state.update(status="running", error=None)
            held.enter_context(failing(link, state))
            states.append(state)
            link.check_files()
            return _read(link, proposed, runs)

        began = time.perf_counter()
        side = _side(link, read)
        agreed = agreement.answer(link.channel, side)
        live = _assemble(link, agreed, states[0], Job.from_canonical(agreed.job), progress)
        if live is None:
            _give_up(link.home, states[0])
        else:
            live.stages.append(_connect_entry(link, time.perf_counter() - began))
        yield live


def _side(link: Link, read: Callable[[agreement.Proposed], tuple[Request, bytes]]) -> agreement.Side:
    """Our side of an agreement. The queries of a run are debited as soon as policy allows them, and one where not."""
    policy, peer = link.home.policy.towards(link.peer), link.peer

    def spend(proposed: agreement.Proposed, allowed: bool) -> tuple[str, ...]:
        if allowed:
            count = asked.queries(Job.from_canonical(proposed.job), peer)
            return take_queries(link.ledger, proposed.run, peer, policy.budget, count)
        if proposed.initiator == peer:
            take_refused(link.ledger, proposed.run, peer)
        return ()

    return agreement.Side(policy, read, link.ledger, link.sign, link.verify, spend)


def _named(runs: Path, run: str, digest: str) -> RunState | None:
    """The run of this name, if we began it for this job; None when there is none yet."""
    state = RunState(runs, run)
    if not state.exists():
        return None
    known = state.status
    if known.get("continued"):
        return _named(runs, known["continued"], digest)
    if not known.get("ours") or known.get("digest") != digest or known["status"] in ("done", "aborted"):
        raise InternalError(f"run {run} is not an unfinished run of this job")
    return state


def check_bound(state: RunState, proposed: agreement.Proposed, peer: str) -> None:
    """A run known here goes on only with the peer that began it, with the same job, and not after it was given up."""
    known = state.status
    if known["status"] == "aborted":
        raise PeerError("the peer proposes a run that both sides have given up", party=peer)
    if known.get("ours") or known.get("peer") != peer or known.get("digest") != proposed.digest.hex():
        raise PeerError("the peer proposes the name of another run", party=peer)


def carry_out(live: Live) -> None:
    """All stages in order."""
    for name in live.names:
        perform(live, name)


def perform(live: Live, name: str) -> None:
    """One stage."""
    with live.stage(name):
        STAGES[name](live)


def finish(live: Live) -> dict[str, Any]:
    """Both sides are done: keep the result, write its digest to the ledger, say so in the status."""
    with live.channel.stage("finish"):
        live.agree_end()
    result = results.make(live)
    content = json.dumps(result, indent=1).encode()
    replace_file(live.state.folder / "result.json", content)
    live.ledger.append("result", run=live.state.run, sha256=hashlib.sha256(content).hexdigest(), peer=live.peer)
    live.state.update(status="done", stage="done", ended=time.time())
    live.state.forget("psi", AHEAD, "passes", "progress.json", ".*.npz.*")
    return result


@contextmanager
def failing(link: Link, state: RunState) -> Iterator[None]:
    """Whatever goes wrong inside is told to the peer, written to the ledger and kept with the run."""
    try:
        yield
    except BaseException as error:
        known = error if isinstance(error, TallyError) else _unexpected(error, link)
        known.stage = known.stage or link.channel.stage_name
        if isinstance(known, InternalError):
            known.party = known.party or link.channel.us
        link.channel.abort(known)
        link.noted = known
        try:
            _note(link, state, known)
        except (OSError, InternalError):  # where the disk is full this fails, too: what came first is to be told
            if not isinstance(known, InternalError):
                raise
        if known is error:
            raise
        raise known from error


def _note(link: Link, state: RunState, error: TallyError) -> None:
    """Keep an error with the run and in the ledger."""
    status = "interrupted" if isinstance(error, Interrupted) else "failed"
    state.update(status=status, ended=time.time(), error=error.as_dict())
    link.ledger.append(
        "abort", run=state.run, peer=link.peer, stage=error.stage or "", code=error.code, reason=error.message[:500]
    )


def _unexpected(error: BaseException, link: Link) -> TallyError:
    if os.environ.get("TALLY_TRACEBACK"):
        traceback.print_exception(error)
    if isinstance(error, KeyboardInterrupt):
        return Interrupted("interrupted", party=link.channel.us)
    if isinstance(error, MemoryError):
        return InternalError("not enough memory", party=link.channel.us, hint="close other programs, or use fewer rows")
    if isinstance(error, OSError):
        return InternalError(
            f"{error.strerror or type(error).__name__}", party=link.channel.us, hint="is the disk full?"
        )
    return InternalError(f"a bug of ours: {type(error).__name__}", party=link.channel.us, hint="please report it")


def _read(link: Link, proposed: agreement.Proposed, runs: Path) -> tuple[Request, bytes]:
    """Our own reading of a job, and how far we had come with this run."""
    job = Job.from_canonical(proposed.job)
    if job.initiator != proposed.initiator:
        raise PeerError("the job names another initiator than the side that proposes it", party=link.peer)
    models.check(link.home, job)
    return asked.request(job, link.catalogues(job.parties)), _account(link, job, RunState(runs, proposed.run))


def _account(link: Link, job: Job, state: RunState) -> bytes:
    """How far this run has come here: the salt's digest and the units on disk.

    Empty for a new one. Without a salt where our table has changed since: that can only start afresh.
    """
    kept = state.get_json("agreed")
    if kept is None:
        return b""
    if kept["table"] != table_stamp(link.home, dict(job.align.tables)[link.channel.us]):
        return canonical({"salt": "", "units": []})
    mark = hashlib.sha256(b"tallystick/v1/pipelines/salt/" + bytes.fromhex(kept["salt"])).hexdigest()
    return canonical({"salt": mark, "units": sorted(state.get_json("units") or {})})


def _read_account(content: bytes, peer: str) -> tuple[str, frozenset[str]]:
    found = parse_canonical(content, "an account of an earlier try")
    units = found.get("units") if isinstance(found, dict) else None
    if not isinstance(units, list) or not isinstance(found.get("salt"), str):
        raise PeerError("an account of an earlier try is malformed", party=peer)
    return found["salt"], frozenset(map(str, units))


def _assemble(link: Link, agreed: agreement.Agreement, state: RunState, job: Job, progress: Progress) -> Live | None:
    """The run both sides can go on with; None when only one side has a half of it."""
    salt, done = agreed.salt, frozenset[str]()
    if agreed.our_resume or agreed.their_resume:
        if not agreed.our_resume or not agreed.their_resume:
            return None
        ours, theirs = (_read_account(account, link.peer) for account in (agreed.our_resume, agreed.their_resume))
        if not ours[0] or ours[0] != theirs[0]:
            return None
        salt = bytes.fromhex((state.get_json("agreed") or {})["salt"])
        done = ours[1] & theirs[1]
    else:
        table = table_stamp(link.home, dict(job.align.tables)[link.channel.us])
        kept = {"salt": salt.hex(), "table": table, "agreement": agreed.encode().decode()}
        state.put_json("agreed", kept | {"statement": agreed.statement.hex()})
    policy = link.home.policy.towards(link.peer)
    debited = DebitedLedger(link.ledger, link.peer, policy.budget, policy.scores.per_day)
    guard = Guard(agreed.run, link.peer, agreed.request.openings, debited, max(agreed.min_rows))
    index = job.parties.index(link.channel.us)
    engine: Engine | None = link.shared.get("engine")
    fits = engine is not None and engine.index == index
    engine = engine.for_run(guard) if engine and fits else Engine.start(link.channel, guard, index)
    link.shared["engine"] = engine
    live = Live(
        home=link.home,
        channel=link.channel,
        job=job,
        state=state,
        guard=guard,
        ledger=link.ledger,
        engine=engine,
        catalogues=link.catalogues(job.parties),
        salt=salt,
        progress=progress,
        done=done,
        shared=link.shared,
    )
    progress.keep(state.tell)
    if done:
        progress.note(f"resumes run {state.run}: done before: {', '.join(sorted(done))}")
    return live


def abandon_earlier(home: Home, digest: str, ledger: Ledger) -> None:
    """`--new`: the unfinished runs of this job are given up for good; the peer's halves are of no use to anybody."""
    while (state := find_resumable(home.state / "runs", digest)) is not None:
        with state.locked():
            _give_up(home, state)
            ledger.append("abandoned", run=state.run, peer=str(state.status["peer"]))


def _give_up(home: Home, state: RunState, **more: str) -> None:
    wipe(home, state)
    state.update(status="aborted", ended=time.time(), **more)
    state.forget("psi", AHEAD, "passes")


def _connect_entry(link: Link, seconds: float) -> dict[str, Any]:
    counters = link.channel.counters
    return {
        "stage": "connect",
        "seconds": link.connected + seconds,
        "sent": counters.sent,
        "received": counters.received,
        "rounds": counters.rounds,
    }
