"""The verbs about this party: home, card, trust, tables, serve, check, audit."""

from __future__ import annotations

import sys
import time
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

from party.card import read_card
from party.catalogue import Column
from party.errors import TallyError, UsageError
from party.home import Home
from party.ledger import Ledger
from party.service import WorkerEvent
from party.service import serve as serve_connections

__all__ = [
    "add_table",
    "audit_verify",
    "card",
    "check",
    "init",
    "serve",
    "shown_column",
    "shown_text",
    "tables",
    "tables_text",
    "trust",
    "untrust",
]

_EPOCH = date(1970, 1, 1).toordinal()
_NAMED = 12  # values of a domain that a line names


def init(path: Path, name: str, listen: str | None, address: str | None) -> dict[str, Any]:
    """`tally init`."""
    home = Home.init(path, name, listen, address)
    return {"home": str(home.root), "name": name, "fingerprint": home.identity().fingerprint}


def card(path: Path) -> str:
    """`tally card`: JSON, to be sent to peers by any way whose fingerprint is then compared."""
    home = Home.open(path)
    return home.identity().card(home.party.address or home.party.listen).to_json()


def trust(path: Path, file: Path, replace: bool) -> dict[str, Any]:
    """`tally trust`."""
    found = read_card(file)
    Home.open(path).add_peer(found, change=replace)
    return {"name": found.name, "fingerprint": found.fingerprint, "address": found.address}


def untrust(path: Path, name: str) -> dict[str, Any]:
    """`tally untrust`."""
    Home.open(path).remove_peer(name)
    return {"name": name}


def add_table(path: Path, name: str, url: str, key: str) -> dict[str, Any]:
    """`tally add-table`."""
    from connectors import open_source
    from party.expansion import Url

    home = Home.open(path)
    columns = [column.strip() for column in key.split(",")]
    source = open_source(Url(url).expand(home.root), home.root, {}, columns)
    types = {found.name: "string" if found.key else found.kind.text() for found in source.schema()}
    home = home.add_table(name, url, columns, types)
    return {"party": home.party.name, "tables": [_table(home, name)]}


def tables(path: Path, peer: str | None) -> dict[str, Any]:
    """`tally tables [PEER]`."""
    home = Home.open(path)
    if peer is None:
        return {"party": home.party.name, "tables": [_table(home, name) for name in home.party.tables]}
    from pipelines.link import dial

    with dial(home, peer) as link:
        link.close()
    shown = [
        {
            "name": table.name,
            "key": [list(form) for form in table.key],
            "rows": table.rows,
            "columns": [shown_column(column) for column in table.columns],
        }
        for table in link.theirs.tables
    ]
    return {"party": peer, "tables": shown}


def _table(home: Home, name: str) -> dict[str, Any]:
    from pipelines.tables import open_table, table_spec

    source = open_table(home, name)
    grants = {
        column.name: {
            peer: sorted(policy.grants(name, column.name))
            for peer, policy in home.policy.peers.items()
            if policy.grants(name, column.name)
        }
        for column in source.schema()
    }
    columns = [{"name": c.name, "type": c.kind.text(), "grants": grants[c.name]} for c in source.schema()]
    key = [list(form) for form in table_spec(home, name).key]
    return {"name": name, "key": key, "rows": source.rows(), "columns": columns}


def shown_column(column: Column) -> dict[str, Any]:
    """A column of the peer's: type, grants, and what is declared of its values. Ranges are texts in its own unit."""
    kind = f"decimal({column.precision},{column.scale})" if column.type == "decimal" else column.type
    bounds = [_bound(column, bound) for bound in (column.low, column.high)]
    return {
        "name": column.name,
        "type": kind,
        "grants": sorted(column.grants),
        "range": None if None in bounds else bounds,
        "domain": None if column.domain is None else list(column.domain),
        "nullable": column.nullable,
    }


def _bound(column: Column, units: int | None) -> str | None:
    """Of numbers and dates. The peer chose the number: a date outside the calendar is none."""
    if units is not None and column.type in ("integer", "decimal"):
        return f"{Decimal(units).scaleb(-column.scale):f}"
    days = None if units is None else units + _EPOCH
    if days is not None and column.type == "date" and 1 <= days <= date.max.toordinal():
        return date.fromordinal(days).isoformat()
    return None


def _values(column: dict[str, Any]) -> str:
    """What is declared of a column's values, for people."""
    told = []
    if column.get("range"):
        told.append(" to ".join(column["range"]))
    if column.get("domain") is not None:
        names = [str(value) for value in column["domain"]]
        told.append(
            f"in {', '.join(names[:_NAMED])}{f' and {len(names) - _NAMED} more' if len(names) > _NAMED else ''}"
        )
    if column.get("nullable") is False:
        told.append("never NULL")
    return "; ".join(told)


def tables_text(result: dict[str, Any]) -> str:
    """Tables for people."""
    from pipelines.results import printable

    lines = []
    for table in result["tables"]:
        keys = "; then ".join(", ".join(form) for form in table["key"])
        lines.append(f"{result['party']}.{table['name']}: {table['rows']} rows, key {keys}")
        for column in table["columns"]:
            grants = column["grants"]
            told = (
                "; ".join(f"{peer}: {', '.join(words)}" for peer, words in grants.items())
                if isinstance(grants, dict)
                else ", ".join(grants)
            )
            line = f"  {column['name']:24} {column['type']:16} {told or 'closed':40} {_values(column)}"
            lines.append(printable(line.rstrip()))
    return "\n".join(lines) or f"{result['party']} has no tables: add one with `tally add-table`"


def shown_text(result: dict[str, Any]) -> str:
    """What a peer lets us use, for people."""
    if result["tables"]:
        return tables_text(result)
    return f"{result['party']} has opened no column to us: ask it to grant some in its policy.yaml"


def serve(path: Path) -> None:
    """`tally serve`: until SIGTERM or SIGINT."""
    home = Home.open(path)
    if home.party.listen is None:
        raise UsageError("party.yaml has no `listen`", hint="add listen: HOST:PORT, or only dial")
    home.identity()
    ledger = Ledger.open(home.state / "ledger.db")

    def note(event: WorkerEvent) -> None:
        if event.kind in ("died", "refused", "overdue"):
            ledger.append("worker", kind=event.kind, pid=event.pid, signal=event.signal or "")
            print(f"serve: worker {event.pid} {event.kind} {event.signal or ''}", file=sys.stderr, flush=True)

    def ready(host: str, port: int) -> None:
        print(f"ready {home.party.name} {host}:{port}", flush=True)

    command = [sys.executable, "-m", "pipelines.worker", "--home", str(home.root)]
    try:
        serve_connections(home.party.listen, command, note, ready)
    finally:
        ledger.close()


def audit_verify(path: Path) -> dict[str, Any]:
    """`tally audit verify`."""
    ledger = Ledger.open(Home.open(path).state / "ledger.db")
    try:
        return {"events": ledger.verify(), "status": "ok"}
    finally:
        ledger.close()


def check(path: Path, peer: str) -> dict[str, Any]:
    """`tally check PEER`: every line is tried, whatever the others say; the exit code is the first failure's."""
    home = Home.open(path)
    lines: list[dict[str, Any]] = []
    codes: list[int] = []

    def record(name: str, text: str, error: TallyError | None = None) -> None:
        lines.append({"check": name, "ok": error is None, "text": error.message if error else text})
        if error is not None:
            lines[-1]["hint"] = error.hint
            codes.append(error.exit_code)

    from pipelines import calibration
    from pipelines.link import dial
    from pipelines.results import kernels
    from pipelines.tables import open_table

    for name in home.party.tables:
        try:
            source = open_table(home, name)
            record(f"table {name}", f"{source.rows()} rows, {len(source.schema())} columns")
        except TallyError as error:
            record(f"table {name}", "", error)
    record("kernels", kernels())
    speed = calibration.measure_kernels()
    calibration.keep(home, speed)
    record(
        "speed",
        f"{1e6 * speed['transform']:.0f} us a transform, {speed['multiplications']:,.0f} curve multiplications and"
        f" {speed['transfers'] / 1e6:.1f} million transfers a second: used by plans",
    )
    try:
        count = audit_verify(path)["events"]
        record("ledger", f"{count} events, the chain holds")
    except TallyError as error:
        record("ledger", "", error)
    try:
        began = time.perf_counter()
        with dial(home, peer) as link:
            record("reach", f"{peer} answers, {1000 * (time.perf_counter() - began):.0f} ms to connect")
            facts = link.facts()
            line = calibration.measure_link(link)
            link.close()
        calibration.keep(home, line, peer)
        record(
            "link",
            f"{1000 * line['round_trip']:.1f} ms there and back, {line['bandwidth'] / 1e6:.0f} MB/s: used by plans",
        )
        record("version", f"both {facts['version']}" if facts["version"] == _version() else _versions(facts))
        skew = abs(time.time() - facts["clock"])
        late = UsageError(f"the clocks differ by {skew:.0f} s", hint="let both machines keep time by NTP")
        record("clock", f"{skew:.1f} s apart", late if skew > 60 else None)
        record("peer kernels", facts["kernels"])
        granted = sum(len(table.columns) for table in link.theirs.tables)
        ours = sum(len(table.columns) for table in link.ours.tables)
        closed = UsageError(f"{peer} grants us no column", hint=f"ask {peer} to open columns in its policy.yaml")
        record("policy", f"{peer} grants {granted} columns, we grant {ours}", None if granted else closed)
    except TallyError as error:
        record("reach", "", error)
    return {"peer": peer, "checks": lines, "exit_code": codes[0] if codes else 0}


def check_text(result: dict[str, Any]) -> str:
    """The checks for people."""
    lines = []
    for line in result["checks"]:
        lines.append(f"{'ok  ' if line['ok'] else 'FAIL'}  {line['check']:14} {line['text']}")
        if line.get("hint"):
            lines.append(f"      try: {line['hint']}")
    return "\n".join(lines)


def _version() -> str:
    from importlib.metadata import version

    return version("tallystick")


def _versions(facts: dict[str, Any]) -> str:
    return f"ours {_version()}, theirs {facts['version']}: the protocol is the same"
