"""The verbs about trained models: models, model, score."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from party.errors import FileError, UsageError
from party.home import Home
from pipelines import models, scorecard
from pipelines.job_score import Scale
from pipelines.lean import load_meanwhile
from pipelines.progress import Progress
from pipelines.runs import RunState
from pipelines.scoring import MOST_IDS, Wanted, score_job

if TYPE_CHECKING:
    from vfl import ModelHalf

__all__ = ["ask_scores", "listing", "model", "model_text", "plan", "read_ids", "score", "score_text"]

_IDS_BYTES = 64 << 20
_OF_A_RUN = ("pipelines.execute", "duckdb", "vfl")


def listing(path: Path) -> list[dict[str, Any]]:
    """`tally models`."""
    return models.listing(Home.open(path))


def model(path: Path, name: str, scale: Scale | None, *, sklearn: bool) -> dict[str, Any]:
    """`tally model`: our half; with a scale as a scorecard, with `sklearn` as its coefficients."""
    home = Home.open(path)
    half = models.find(home, name)
    if scale is not None and (wrong := scale.complaint()) is not None:
        raise UsageError(f"a scorecard {wrong}")
    if sklearn and half.recipe is not None:
        raise UsageError(
            "a half with a recipe has weights of prepared features, which are no columns of our table",
            hint="`--scorecard` shows them by bin and category; the file under state/models has the recipe",
        )
    found: dict[str, Any] = {
        "id": half.id,
        "job": half.job,
        "parties": list(half.parties),
        "role": half.role,
        "trained": half.created,
        "agreement": half.agreement,
        "version": half.version,
        "tables": dict(half.tables),
        "coefficients": half.coefficients,
        "intercept": half.intercept,
        "winsorise": half.winsorise,
        "metrics": half.metrics,
    }
    if scale is not None:
        found["scorecard"] = scorecard.card(half, scale)
    if sklearn:
        found["sklearn"] = scorecard.coefficients(half)
    return found


def model_text(found: dict[str, Any]) -> str:
    """One model for people."""
    from pipelines.results import printable

    if "scorecard" in found:
        return scorecard.card_text(found["scorecard"])
    if "sklearn" in found:
        return scorecard.coefficients_text(found["sklearn"])
    metrics = found["metrics"] or {}
    lines = [f"model {found['id']} of job {found['job']}, {' and '.join(found['parties'])}, our half: {found['role']}"]
    lines.append(f"trained {found['trained']} by {found['version']}, agreement {found['agreement'][:16]}")
    lines.append(", ".join(f"{name} {value}" for name, value in metrics.items()))
    lines += [f"  {printable(name):24} {value:+.4f}" for name, value in found["coefficients"].items()]
    if found["intercept"] is not None:
        lines.append(f"  {'intercept':24} {found['intercept']:+.4f}")
    return "\n".join(lines)


def read_ids(file: Path, keys: Sequence[str]) -> tuple[str, ...]:
    """Ids of a file: of .csv the first column that is named like a key, of any other a line each."""
    try:
        if file.stat().st_size > _IDS_BYTES:
            raise FileError("is larger than 64 MiB", file=str(file), hint=f"at most {MOST_IDS} ids at a time")
        text = file.read_text("utf-8-sig")
    except OSError as error:
        raise FileError(f"cannot be read: {error.strerror}", file=str(file)) from None
    except UnicodeDecodeError:
        raise FileError("is not UTF-8", file=str(file)) from None
    if file.suffix != ".csv":
        return _stripped(text.splitlines())
    rows = csv.DictReader(text.splitlines())
    name = next((field for field in rows.fieldnames or () if field in keys), None)
    if name is None:
        raise FileError(f"has no column {' or '.join(keys)}", file=str(file), hint="its first line names its columns")
    return _stripped(str(row[name] or "") for row in rows)


def _stripped(lines: Iterable[str]) -> tuple[str, ...]:
    return tuple(text for line in lines if (text := line.strip()))


def score(path: Path, name: str, wanted: Wanted, ids_file: Path | None, *, new: bool, realign: bool) -> dict[str, Any]:
    """`tally score`: align our table anew, or use a kept alignment, and score its rows with a model."""
    from connectors import Receipt, open_sink
    from pipelines.link import dial
    from pipelines.live import receipt_of

    load_meanwhile(*_OF_A_RUN)
    home = Home.open(path)
    half = models.find(home, name)
    wanted = _with_ids(home, half, wanted, ids_file)
    job = score_job(home, half, wanted)
    if job.score and job.score.to and job.score.receiver == home.party.name:
        known = receipt_of(home, job.name, job.score.to)
        open_sink(job.score.to, home.root).check(Receipt(**known) if known else None)
    with dial(home, models.peer_of(half, home.party.name)) as link:
        result = ask_scores(link, job, wanted.ids, new=new, realign=realign)
        link.close()
    return result


def plan(path: Path, name: str, wanted: Wanted, ids_file: Path | None) -> dict[str, Any]:
    """`tally score --plan`: what it would do, and what each party would learn; nothing runs."""
    from pipelines.verbs_plan import plan_job

    home = Home.open(path)
    half = models.find(home, name)
    return plan_job(home, score_job(home, half, _with_ids(home, half, wanted, ids_file)), offline=False)


def _with_ids(home: Home, half: ModelHalf, wanted: Wanted, file: Path | None) -> Wanted:
    from pipelines.tables import table_spec

    if file is None:
        return wanted
    table = wanted.table or half.tables.get(home.party.name, "")
    keys = [column for form in table_spec(home, table).key for column in form]
    return replace(wanted, ids=read_ids(file, keys))


def ask_scores(link: Any, job: Any, ids: tuple[str, ...] | None, *, new: bool, realign: bool) -> dict[str, Any]:
    """One request for scores over an open link. Rows asked by key are never resumed: they are asked anew."""
    import sys

    from pipelines import execute

    before = (link.channel.counters.sent, link.channel.counters.received)
    progress = Progress(quiet=not sys.stderr.isatty())
    result = execute.run_job(link, job, progress, new=new or ids is not None, realign=realign, ids=ids)
    answers = RunState(link.home.state / "runs", result["run"]).get_json("answers")
    return {
        "run": result["run"],
        "model": job.score.model.id,
        "receiver": job.score.receiver,
        "rows": result["rows"],
        "columns": answers["columns"] if answers else None,
        "answers": answers["rows"] if answers else None,
        "scores": result["scores"],
        "timings": result["timings"],
        "bytes": {
            "sent": link.channel.counters.sent - before[0],
            "received": link.channel.counters.received - before[1],
        },
        "alignment": {"rows": result["rows"], "reused": result["details"]["alignment"]["reused"]},
    }


def score_text(result: dict[str, Any]) -> str:
    """Scores for people."""
    from pipelines.results import printable, table_text

    if result["answers"] is not None:
        lines = [table_text(result["columns"], result["answers"])]
    else:
        lines = [f"run {result['run']}: {result['rows']} rows in common, model {result['model']}"]
    if result["scores"]:
        lines.append(f"scores: {printable(result['scores']['path'])}, {result['scores']['rows']} rows")
    elif result["answers"] is None:
        lines.append(f"scores went to {result['receiver']}")
    return "\n".join(lines)
