"""Lists made ahead: a long table of ours, masked and tagged before the peer with a short one asks.

    state/prepared/<name>/about.json   table, peer, stamp and repeats of the table, the label that its secrets are under
    state/prepared/<name>/list/        scalar, salt and tags, sealed under the home's key and that label

The scalar and salt of a list serve one run, ever. A run takes a list by renaming its folder into its own, after the
agreement and before its first word about the alignment: of two runs one has it, and after a crash at any point it lies
in one place or the other. From then on it is that run's: resumed, the run goes on with it; given up or done, it is
destroyed. A run that has begun without one takes none, since it has drawn a scalar of its own.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psi
from party.canonical import canonical
from party.catalogue import Table
from party.certificate import sync_folder
from party.errors import DataError, InternalError, PolicyRefused, UsageError
from party.home import Home, replace_file
from pipelines.live import Live
from pipelines.progress import Progress
from pipelines.runs import RunState
from pipelines.tables import catalogue, content_digest, identifiers, table_spec, table_stamp

__all__ = ["AHEAD", "prepare", "prepare_text", "ready", "take", "wipe"]

AHEAD = "ahead"  # folder of a run: the list it has taken
_LIST, _ABOUT = "list", "about.json"


def prepare(path: Path, peer: str, table: str, progress: Progress) -> dict[str, Any]:
    """`tally prepare`: make the list, unless one over the unchanged table lies there. Nothing leaves this home.

    Raises UsageError for an unknown peer or table, PolicyRefused when the peer may not join on the table, DataError
    when the table cannot be read or changes meanwhile.
    """
    home = Home.open(path)
    home.pin(peer)
    table_spec(home, table)
    shown = catalogue(home, peer).table(table)
    if shown is None or not shown.key:
        raise PolicyRefused(
            f"our policy does not let {peer} join on {table}",
            party=home.party.name,
            hint=f"grant `join` on its key columns to {peer} in policy.yaml, then prepare it",
        )
    folder = _place(home, peer, shown)
    folder.parent.mkdir(exist_ok=True, mode=0o700)
    with _locked(folder):
        about = _about(folder)
        made = about is None or about["stamp"] != table_stamp(home, table)
        for old in _earlier(folder, peer, table, also=made):
            _destroy(home, old)
            progress.note(f"a list made ahead for {peer} was out of date, {table} or its key has changed: destroyed")
        if made:
            about = _make(home, peer, shown, folder, progress)
    found = {name: (about or {})[name] for name in ("table", "peer", "keys", "repeats", "rows")}
    return {"party": home.party.name, **found, "made": made}


def prepare_text(found: dict[str, Any]) -> str:
    """The outcome for people."""
    table = f"{found['party']}.{found['table']}"
    if not found["made"]:
        return f"a list of {table} for {found['peer']} lies ready already"
    lines = [f"{found['keys']} keys of {table} lie ready for the next run in which {found['peer']} has a short list"]
    if found["repeats"]:
        lines.append(f"{found['repeats']} rows repeat a key: runs with `duplicates: first` or `all` can use it")
    return "\n".join(lines)


def _earlier(folder: Path, peer: str, table: str, *, also: bool) -> list[Path]:
    """Whole lists of this table for this peer that no run can use any more; `also`: the one in this place."""
    found = []
    for other in folder.parent.iterdir():
        about = _about(other) if other.is_dir() and not other.suffix else None
        if about is not None and (about["peer"], about["table"]) == (peer, table) and (also or other != folder):
            found.append(other)
    return found


def _make(home: Home, peer: str, shown: Table, folder: Path, progress: Progress) -> dict[str, Any]:
    """Make the list beside its place, then put it there; what a killed call left over this same table goes on."""
    making = folder.with_suffix(".new")
    about = _about(making)
    stamp = table_stamp(home, shown.name)
    if about is None or about["stamp"] != stamp:
        _destroy(home, making)
        making.mkdir(mode=0o700)
        about = {"label": f"prepared-{secrets.token_hex(16)}", "table": shown.name, "peer": peer, "stamp": stamp}
        replace_file(making / _ABOUT, json.dumps(about).encode())
    progress.stage("prepare")
    done = 0

    def step(count: int) -> None:
        nonlocal done
        done += count
        progress.step(done, max(shown.rows, done), f"masking the keys of {shown.name}")

    source = identifiers(home, shown, "first")[0]  # repeats are counted; whether they matter is for the run to say
    listed = psi.prepare_ahead(source, _store(home, making, about), step)
    content_digest(home, shown.name)  # kept with the table's stamp: the run will ask for it
    if table_stamp(home, shown.name) != stamp:
        _destroy(home, making)
        raise DataError(f"{shown.name} changed while it was read", party=home.party.name, hint="prepare it again")
    facts = listed.facts
    about |= {"keys": facts.count, "rows": facts.total, "repeats": facts.duplicates, "made": time.time()}
    replace_file(making / _ABOUT, json.dumps(about).encode())
    making.rename(folder)
    sync_folder(folder.parent)
    progress.end(f"{facts.count} keys")
    return about


def ready(home: Home, peer: str, shown: Table) -> bool:
    """Whether a list of our table lies there that the next run with this peer can take."""
    about = _about(_place(home, peer, shown)) if shown.key else None
    return about is not None and about["stamp"] == table_stamp(home, shown.name)


def take(live: Live, shown: Table, duplicates: str) -> psi.Store | None:
    """The list of our table `shown` that was made ahead for this run's peer, this run's alone from now on; None where
    there is none that it can use. Called on the side of the long list, before the run's own store is made."""
    held, begun = live.state.folder / AHEAD, (live.state.folder / "psi").exists()
    if not held.exists() and (begun or not _claimed(live, shown, duplicates, held)):
        return None
    about = _about(held)
    if about is None:
        raise InternalError("the list that this run has taken is gone", hint="run again with --new")
    store = _store(live.home, held, about)
    wrong = None if begun else _unusable(live, about, store)
    if wrong is None:
        live.progress.note("uses a list made ahead")
        return store
    _destroy(live.home, held)
    live.progress.note(f"a list made ahead was destroyed: {wrong}")
    live.ledger.append("prepared", run=live.state.run, peer=live.peer, table=shown.name, used=f"destroyed: {wrong}")
    return None


def wipe(home: Home, state: RunState) -> None:
    """The run's alignment is made or given up: its secrets and those of the list it has taken are overwritten."""
    for folder in (state.folder / "psi", state.folder / AHEAD / _LIST):
        if folder.exists():
            psi.SealedStore(folder, home.state / "psi.key", "").wipe()


def _claimed(live: Live, shown: Table, duplicates: str, held: Path) -> bool:
    """Make the list ours, if there is one."""
    folder = _place(live.home, live.peer, shown)
    about = _about(folder)
    if about is None or (duplicates == "error" and about["repeats"]):
        return False  # repeats: the run reads the table itself and says which rows
    try:
        folder.rename(held)
    except FileNotFoundError:
        return False  # another run was faster
    sync_folder(folder.parent)
    sync_folder(held.parent)
    live.ledger.append("prepared", run=live.state.run, peer=live.peer, table=shown.name, used="taken")
    return True


def _unusable(live: Live, about: dict[str, Any], store: psi.Store) -> str | None:
    """Why a list that we hold cannot serve this run."""
    agreed = live.state.get_json("agreed") or {}
    if about["stamp"] != agreed.get("table"):
        return "the table has changed since"
    try:
        return None if psi.prepared_ahead(store) else "it is not whole"
    except InternalError:
        return "it is damaged, or another home's"


def _place(home: Home, peer: str, shown: Table) -> Path:
    """Where a list lies: by all that must be the same when it is used, but for the table's content."""
    spec = table_spec(home, shown.name)
    columns = [spec.column(name) for name in shown.key[0]]
    meaning = [
        home.party.peers[peer].fingerprint,
        shown.name,
        [[column.name, column.normalise, column.region] for column in columns],
        psi.NORMALISATION,
    ]
    digest = hashlib.sha256(b"tallystick/v1/pipelines/prepared/" + canonical(meaning)).hexdigest()[:32]
    return home.state / "prepared" / digest


def _about(folder: Path) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = json.loads((folder / _ABOUT).read_bytes())
        return found
    except FileNotFoundError:
        return None
    except ValueError:
        raise InternalError(f"{_ABOUT} of a list made ahead is damaged", hint="remove state/prepared") from None


def _store(home: Home, folder: Path, about: dict[str, Any]) -> psi.SealedStore:
    return psi.SealedStore(folder / _LIST, home.state / "psi.key", str(about["label"]))


def _destroy(home: Home, folder: Path) -> None:
    """Out of any run's reach first, then its secrets, then the rest."""
    gone = folder.with_suffix(".gone")
    try:
        folder.rename(gone)
    except FileNotFoundError:
        if not gone.exists():
            return
    if (gone / _LIST).exists():
        psi.SealedStore(gone / _LIST, home.state / "psi.key", "").wipe()
    shutil.rmtree(gone)
    sync_folder(folder.parent)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One `tally prepare` of a list at a time."""
    handle = os.open(folder.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError("another `tally prepare` is making this list", hint="wait for it") from None
        yield
    finally:
        os.close(handle)
