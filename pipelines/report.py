"""The HTML report of a run, one self-contained page: what was agreed, found, spent, and what left this organisation."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from party.canonical import parse_canonical
from party.errors import UsageError
from party.home import Home, replace_file
from party.ledger import Ledger
from pipelines.plots import model_plots
from pipelines.results import alignment_lines, rows_text, validation_rows
from pipelines.runs import RunState

__all__ = ["write_report"]

_EMPTY: dict[str, Any] = {
    "rows": None,
    "queries": {},
    "statistics": {},
    "suppressed_groups": {},
    "model": None,
    "bytes": {"sent": 0, "received": 0},
    "details": {"stages": [], "kernels": "-"},
}
_NO_MODEL: dict[str, Any] = {"metrics": {}, "coefficients": {}}


def write_report(home: Home, state: RunState) -> Path:
    """Write state/runs/<run>/report.html; returns its path. UsageError while the run goes on."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    status = state.status
    if status["status"] == "running" and state.holder() is not None:
        raise UsageError(f"run {state.run} is not over yet", hint="`tally show` tells how far it is")
    result = state.get_json("result") or _EMPTY
    ledger = Ledger.open(home.state / "ledger.db")
    try:
        events = ledger.events(state.run)
    finally:
        ledger.close()
    disclosures: dict[tuple[str, str], dict[str, Any]] = {}
    for event in events:
        if event.event == "disclosure":
            what, to, rows = (event.fields[name] for name in ("what", "to", "rows"))
            kind = disclosures.setdefault((str(what), str(to)), {"times": 0, "rows": 0, "first": event.time})
            kind["times"] += 1
            kind["rows"] += int(rows)
    agreed = next((event for event in events if event.event == "agreement"), None)
    learns = []
    if agreed is not None:
        statement = parse_canonical(str(agreed.fields["statement"]).encode(), "the ledger's statement")
        learns = [
            f"between {' and '.join(statement['parties'])}, started by {statement['parties'][0]}",
            f"no group under {max(statement['min_rows'])} rows and no intersection under "
            f"{max(statement['min_size'])} rows is shown",
        ]
    environment = Environment(loader=PackageLoader("pipelines"), autoescape=True, undefined=StrictUndefined)
    page = environment.get_template("report.html").render(
        us=home.party.name,
        job={"name": status["job"]},
        status={"error": None} | status,
        started=time.strftime("%Y-%m-%d %H:%M", time.localtime(status["started"])),
        result=result,
        longest=max([entry["seconds"] for entry in result["details"]["stages"]], default=1.0) or 1.0,
        disclosures=disclosures,
        learns=learns,
        aligned=alignment_lines(result["details"].get("alignment") or {}),
        validated=validation_rows(result["model"] or _NO_MODEL),
        plots=model_plots(result["model"] or _NO_MODEL),
        counted=rows_text(result).partition(" ")[2],
    )
    path = state.folder / "report.html"
    replace_file(path, page.encode())
    return path
