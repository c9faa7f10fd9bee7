"""`tally plan` and EXPLAIN SELECT: what would run, step by step, and what each party would learn; nothing runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from party.home import Home
from pipelines.job import Job
from pipelines.queries import query_job

__all__ = ["explain", "explain_text", "plan", "plan_job", "plan_text"]

_COLUMNS = ["query", "step", "who", "rounds", "bytes", "seconds"]


def plan(path: Path, file: Path, offline: bool) -> dict[str, Any]:
    """`tally plan`: what would happen; nothing runs and nothing is decided."""
    from pipelines.spec import read_job

    home = Home.open(path)
    return plan_job(home, read_job(file, home.party.name), offline=offline)


def plan_job(home: Home, job: Job, *, offline: bool) -> dict[str, Any]:
    """What a job would do."""
    from party.policy import decide
    from pipelines import asked, calibration, grants, history, prepared
    from pipelines.link import dial
    from pipelines.predicted import predict, steps
    from pipelines.tables import catalogue, kept_catalogue, whole_table

    peer = job.other(home.party.name)
    if offline:
        known = {home.party.name: catalogue(home, peer), peer: kept_catalogue(home, peer)}
    else:
        with dial(home, peer) as link:
            link.close()
        known = {home.party.name: link.ours, peer: link.theirs}
    for name in grants.tables_named(job, home.party.name, home.party.tables):
        known[home.party.name] = grants.with_all_of(known[home.party.name], whole_table(home, peer, name))
    shown_by = known[job.parties[0]], known[job.parties[1]]
    catalogues = grants.with_stand_ins(job, shown_by, peer)
    request = asked.request(job, catalogues)
    speed = calibration.known(home, peer)
    shown = known[home.party.name].table(dict(job.align.tables)[home.party.name])
    ahead = asked.short_side(job, catalogues) == peer and shown is not None and prepared.ready(home, peer, shown)
    explained = asked.explain(job, catalogues)
    if ahead:
        explained.append("align: our list lies ready, made ahead")
    answered = history.known(home, job, catalogues)
    if answered is not None:
        explained.append(answered.told)
    ours = decide(home.policy.towards(peer), home.party.name, peer, request)
    lacking = {party: grants.missing(request, known[party]) for party in job.parties}
    theirs = sorted(f"{name} needs `{word}`" for name, words in lacking[peer].items() for word in words)
    if catalogues != shown_by:
        explained.append(grants.guessed(shown_by, catalogues, peer))
    return {
        "job": job.name,
        "peer": peer,
        "stages": [name for name in ("align", "analyse", "train", "score") if getattr(job, name)],
        "explain": explained,
        "predicted": predict(job, catalogues, speed, ahead=ahead, known=answered),
        "steps": steps(job, catalogues, speed, answered),
        "calibrated": {"machine": speed.since, "link": speed.link_since},
        "openings": sorted(f"{opening.what} -> {opening.to}" for opening in request.openings),
        "missing": {home.party.name: list(ours), peer: theirs},
        "patch": grants.patches(lacking, shown_by),
    }


def plan_text(result: dict[str, Any]) -> str:
    """The plan for people."""
    lines = [f"{result['job']} with {result['peer']}: {', '.join(result['stages'])}"]
    lines += [f"  {line}" for line in result["explain"]]
    lines += _steps_text(result["steps"])
    for stage, cost in result["predicted"].items():
        lines.append(f"predicted: {stage} about {_seconds(cost['seconds'])}, {cost['bytes'] / 1e6:.1f} MB")
    lines += _since(result["calibrated"], result["peer"])
    for party, missing in result["missing"].items():
        lines += [f"missing at {party}: {line}" for line in missing]
    for party, patch in result["patch"].items():
        if patch:
            lines += ["", f"# policy.yaml of {party}", *patch]
    return "\n".join(lines)


def _seconds(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"


def _since(calibrated: dict[str, str | None], peer: str) -> list[str]:
    """Where the predicted seconds come from."""
    names = {"machine": "our kernels' speed", "link": f"the link to {peer}"}
    lines = [f"predicted with {names[part]} as measured {when}" for part, when in calibrated.items() if when]
    missing = [names[part] for part, when in calibrated.items() if not when]
    if missing:
        lines.append(
            f"predicted with another machine's figures for {' and '.join(missing)}: `tally check {peer}` measures"
        )
    return lines


def explain(link: Any, sql: str) -> dict[str, Any]:
    """EXPLAIN SELECT: the steps of a joint query as rows, what each party learns, and what is predicted in all."""
    from pipelines import asked, calibration, history
    from pipelines.predicted import predict, steps

    job = query_job(link.home, link.peer, sql)
    catalogues = link.catalogues(job.parties)
    request = asked.request(job, catalogues)
    speed = calibration.known(link.home, link.peer)
    answered = history.known(link.home, job, catalogues)
    told = [answered.told] if answered is not None else []
    return {
        "run": None,
        "columns": _COLUMNS,
        "rows": steps(job, catalogues, speed, answered),
        "suppressed_groups": 0,
        "explain": [*asked.explain(job, catalogues), *told],
        "predicted": predict(job, catalogues, speed, known=answered),
        "openings": sorted(f"{opening.what} -> {opening.to}" for opening in request.openings),
        "timings": {},
        "bytes": {"sent": 0, "received": 0},
    }


def explain_text(result: dict[str, Any]) -> str:
    """EXPLAIN for people."""
    lines = [*_steps_text(result["rows"]), *result["explain"]]
    for stage, cost in result["predicted"].items():
        lines.append(f"predicted: {stage} about {_seconds(cost['seconds'])}, {cost['bytes'] / 1e6:.1f} MB")
    return "\n".join(lines)


def _steps_text(steps: list[dict[str, Any]]) -> list[str]:
    """The steps as a table."""
    from pipelines.results import table_text

    if not steps:
        return []
    rows = [{**step, "bytes": f"{step['bytes']:,}", "seconds": f"{step['seconds']:.3f}"} for step in steps]
    return table_text(_COLUMNS, rows).split("\n")
