"""A party's home folder: party.yaml, policy.yaml, keys/, state/, results/. Opened, made, and changed with care.

Changes keep the user's comments: the text is edited, read again, compared with what was wanted, and only then takes
the old file's place.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from party import edits
from party.address import parse_address
from party.card import Card, Pin, check_name, load_pin, remove_peer, store_peer
from party.certificate import sync_folder, write_new
from party.errors import FileError, InternalError, UsageError
from party.files import COLUMN, COLUMN_RULE, NAME, NAME_RULE, PartyFile, load_party, read_party
from party.identity import Identity, create
from party.policy import PolicyFile, load_policy, read_policy
from party.yamlfile import parse, read_bytes

__all__ = ["Home", "replace_file"]

_PARTY = """\
# {name}: who we are, where our tables lie, whom we know. `tally trust` and `tally add-table` add lines here.
version: 1
name: {name}
{listen}
{address}
# alignment_ttl: 1d             # how long an alignment may be used again; 0: never

tables: {{}}
#  customers:
#    url: parquet:data/customers.parquet       # relative to this folder, or absolute; secrets as ${{env:NAME}}
#    key: [phone]                              # [a, b] is one key of two columns
#    columns:                                  # optional: the rest is inferred
#      phone:   {{type: string, normalise: phone, region: GB}}
#      balance: {{type: "decimal(12,2)", range: [-1000000, 10000000]}}

peers: {{}}
#  telco: {{address: 127.0.0.1:7102, fingerprint: "sha256:..."}}
"""
_POLICY = """\
# What each peer may do with the columns of {name}. Nothing is allowed by default.
version: 1

peers: {{}}
#  telco:
#    alignment: rows             # rows | size | nothing: what the peer may learn of the intersection
#    min_size: 100               # smaller intersections are not revealed
#    min_rows: 20                # no group smaller than this is ever opened
#    approve: auto               # auto | manual: whether runs that the peer starts wait for us
#    budget: {{queries: 10000, rows: 100000000}}   # what the peer may be answered in a day (UTC)
#    columns:                    # join filter compare group aggregate rank output feature label
#      customers.phone:   [join]
#      customers.balance: [aggregate, feature]
"""


@dataclass(frozen=True)
class Home:
    """An opened home: its two files as they were read, and where everything lies."""

    root: Path
    party: PartyFile
    policy: PolicyFile

    @classmethod
    def open(cls, path: Path | str) -> Home:
        """Read and check a home; FileError when something is missing, wrong, or open to other users."""
        root = Path(path).absolute()
        if not (root / "party.yaml").is_file():
            raise FileError(
                "this is no home folder: it has no party.yaml", file=str(path),
                hint="give one with --home DIR or TALLY_HOME, or make it with `tally init NAME`",
            )  # fmt: skip
        if not (root / "policy.yaml").is_file():
            raise FileError("is missing", file=str(root / "policy.yaml"), hint="write `version: 1` into it: all closed")
        for name in ("keys", "state", "results"):
            if not (root / name).is_dir():
                raise FileError("is missing", file=str(root / name), hint="restore it from a backup")
        _check_closed(root)
        party = load_party(root / "party.yaml")
        policy = load_policy(root / "policy.yaml")
        if party.name in policy.peers:
            raise FileError(f"`peers.{party.name}` is our own name", file=policy.file, hint="a peer is another party")
        policy.check_tables(party)
        return cls(root, party, policy)

    @classmethod
    def init(cls, path: Path | str, name: str, listen: str | None = None, address: str | None = None) -> Home:
        """Make a home with commented files and fresh keys; never overwrites, leaves nothing half-made."""
        check_name(name)
        if listen is not None:
            parse_address(listen)
        if address is not None and parse_address(address)[1] == 0:
            raise UsageError(f"{address!r} has no port", hint="give the port that peers reach us on")
        root = Path(path).absolute()
        fresh = not root.exists()
        for entry in ("party.yaml", "policy.yaml", "keys", "state", "results"):
            if os.path.lexists(root / entry):
                raise UsageError(f"{root / entry} is here already and is never overwritten", hint="take another folder")
        building = (root.parent if fresh else root) / f".tally-init-{secrets.token_hex(8)}"
        try:
            if fresh:
                root.parent.mkdir(parents=True, exist_ok=True)
            building.mkdir(mode=0o700)
            _build(building, name, listen, address)
            if fresh:
                building.rename(root)
            else:
                for entry in ("keys", "state", "results", "policy.yaml", "party.yaml"):  # party.yaml makes it a home
                    (building / entry).rename(root / entry)
            sync_folder(root)
            sync_folder(root.parent)
        except OSError as error:
            raise UsageError(f"{path} cannot be made: {error.strerror}", hint="see --home") from None
        finally:
            shutil.rmtree(building, ignore_errors=True)
        return cls.open(root)

    @property
    def keys(self) -> Path:
        """Our key and certificate, and our peers' certificates."""
        return self.root / "keys"

    @property
    def state(self) -> Path:
        """The ledger, runs, schedules."""
        return self.root / "state"

    @property
    def results(self) -> Path:
        """What others' jobs bring us."""
        return self.root / "results"

    def identity(self) -> Identity:
        """Our key and certificate; FileError when they bear another name than party.yaml."""
        identity = Identity.load(self.keys)
        if identity.name != self.party.name:
            raise FileError(
                f"`name: {self.party.name}`, but our certificate bears {identity.name}",
                file=self.party.file,
                hint="the name of a party is fixed by `tally init`",
            )
        return identity

    def pin(self, peer: str) -> Pin:
        """The pinned certificate of a peer; UsageError when there is none of this name."""
        known = self.party.peers.get(peer)
        if known is None:
            raise UsageError(
                f"no peer is called {peer[:40]!r}", party=self.party.name,
                hint=f"known: {', '.join(self.party.peers) or 'nobody'}; `tally trust CARD` adds one",
            )  # fmt: skip
        return load_pin(self.keys, peer, known.fingerprint)

    def add_peer(self, card: Card, *, fingerprint: str | None = None, change: bool = False) -> Home:
        """Pin a peer's card: its certificate under keys/peers/, its line in party.yaml. `change` replaces an older pin.

        `fingerprint`: what the user compared; UsageError when the card has another.
        """
        if card.name == self.party.name:
            raise UsageError("this is our own card", hint="ask the peer for its card")
        if fingerprint is not None and fingerprint != card.fingerprint:
            raise UsageError("the card has another fingerprint than the one given", hint="ask the peer for its card")
        known = self.party.peers.get(card.name)
        if known is not None and known.fingerprint != card.fingerprint and not change:
            raise UsageError(
                f"another certificate is pinned to {card.name}",
                hint="compare fingerprints with the peer, then `tally trust CARD --replace`",
            )
        address = card.address or (known.address if known else None)
        fields = ([f"address: {edits.quoted(address)}"] if address else []) + [f'fingerprint: "{card.fingerprint}"']
        line = f"{card.name}: {{{', '.join(fields)}}}"

        def edit(text: str, party: PartyFile) -> str:
            if card.name in party.peers:
                text = edits.remove_entry(text, "peers", card.name, party.file)
            return edits.add_entry(text, "peers", [line], party.file)

        def wanted(old: PartyFile, new: PartyFile) -> bool:
            theirs = new.peers.get(card.name)
            others = {name: peer for name, peer in old.peers.items() if name != card.name}
            found = {name: peer for name, peer in new.peers.items() if name != card.name}
            matches = theirs is not None and (theirs.address, theirs.fingerprint) == (address, card.fingerprint)
            return matches and found == others and replace(new, peers=old.peers) == old

        self._change(edit, wanted, lambda: store_peer(self.keys, card, replace=change))
        return Home.open(self.root)

    def remove_peer(self, name: str) -> Home:
        """Forget a peer: its line in party.yaml, then its certificate. Its part of policy.yaml stays."""
        if name not in self.party.peers:
            raise UsageError(
                f"no peer is called {name[:40]!r}", hint=f"known: {', '.join(self.party.peers) or 'nobody'}"
            )

        def wanted(old: PartyFile, new: PartyFile) -> bool:
            left = {other: peer for other, peer in old.peers.items() if other != name}
            return dict(new.peers) == left and replace(new, peers=old.peers) == old

        self._change(lambda text, party: edits.remove_entry(text, "peers", name, party.file), wanted)
        remove_peer(self.keys, name)
        return Home.open(self.root)

    def add_table(self, name: str, url: str, key: Sequence[str], types: Mapping[str, str]) -> Home:
        """Declare a table with the types its columns were found to have; all of them stay closed in policy.yaml.

        types: column -> type in the words of party.yaml ("string", "decimal(12,2)", ...).
        """
        if not NAME.fullmatch(name) or name in ("learns", "both", "size"):
            raise UsageError(f"{name[:40]!r} cannot be the name of a table", hint=NAME_RULE)
        if name in self.party.tables:
            raise UsageError(f"party.yaml has a table `{name}` already", hint="take another name, or edit party.yaml")
        for column in (*key, *types):
            if not COLUMN.fullmatch(column):
                raise UsageError(f"{column[:40]!r} cannot be the name of a column", hint=COLUMN_RULE)
        lines = [f"{name}:", f"  url: {edits.quoted(url)}", f"  key: [{', '.join(edits.quoted(c) for c in key)}]"]
        lines += ["  columns:"] if types else []
        lines += [f"    {edits.quoted(column)}: {{type: {edits.quoted(kind)}}}" for column, kind in types.items()]

        def wanted(old: PartyFile, new: PartyFile) -> bool:
            table = new.tables.get(name)
            others = {other: spec for other, spec in new.tables.items() if other != name}
            if table is None or [others, new.peers] != [dict(old.tables), old.peers]:
                return False
            found = {column: spec.type for column, spec in table.columns.items()}
            return (table.url.written, table.key, found) == (url, (tuple(key),), dict(types))

        self._change(lambda text, party: edits.add_entry(text, "tables", lines, party.file), wanted)
        closed = [f"Table {name}: all columns are closed. To open one, put its line under a peer's `columns:`."]
        closed += [f"     {name}.{column}: []" for column in dict.fromkeys((*key, *types))]
        with _locked(self.root):
            path = self.root / "policy.yaml"
            text = edits.add_comment(_text(path), closed)
            if read_policy(parse(text, str(path))) != load_policy(path):
                raise InternalError("a comment would change policy.yaml")
            replace_file(path, text.encode())
        return Home.open(self.root)

    def _change(
        self,
        edit: Callable[[str, PartyFile], str],
        wanted: Callable[[PartyFile, PartyFile], bool],
        first: Callable[[], object] = lambda: None,
    ) -> None:
        """Edit party.yaml as it is now; FileError, and nothing written, unless the result says what is wanted.

        `first` is done when the result is right and not yet in place.
        """
        path = self.root / "party.yaml"
        with _locked(self.root):
            old = load_party(path)
            text = edit(_text(path), old)
            new = read_party(parse(text, str(path)))
            if not wanted(old, new):
                raise FileError(
                    "this file is written in a way that cannot be changed here", file=str(path),
                    hint="make the change by hand; docs/reference/party-yaml.md shows the lines",
                )  # fmt: skip
            first()
            replace_file(path, text.encode())


def replace_file(path: Path, content: bytes | Callable[[BinaryIO], None]) -> None:
    """Put a file in place of another, or of none, so that a crash leaves the old or the new one, synced, mode 0600.

    `content`: the bytes, or what writes them.
    """
    temporary = path.parent / f".{path.name}.{secrets.token_hex(8)}"
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                if callable(content):
                    content(file)
                else:
                    file.write(content)
                file.flush()
                os.fsync(descriptor)
            temporary.replace(path)
        except BaseException:
            with suppress(OSError):
                temporary.unlink()
            raise
        sync_folder(path.parent)
    except OSError as error:
        raise InternalError(
            f"{path} cannot be written: {error.strerror}", hint="see whether the disk is full"
        ) from None


def _build(folder: Path, name: str, listen: str | None, address: str | None) -> None:
    create(folder / "keys", name)
    for entry in ("state", "results"):
        (folder / entry).mkdir(mode=0o700)
    lines = {
        "listen": "# listen: 127.0.0.1:7101      # a side that only dials has none",
        "address": "# address: our.host:7101      # what our card tells peers to dial",
    }
    lines |= {"listen": f"listen: {edits.quoted(listen)}"} if listen else {}
    lines |= {"address": f"address: {edits.quoted(address)}"} if address else {}
    write_new(folder / "policy.yaml", _POLICY.format(name=name).encode())
    write_new(folder / "party.yaml", _PARTY.format(name=name, **lines).encode())


def _check_closed(root: Path) -> None:
    """Keys and state belong to us alone."""
    for folder in (root / "keys", root / "state"):
        if stat.S_IMODE(folder.stat().st_mode) & 0o077:
            raise FileError("other users may look into this folder", file=str(folder), hint=f"chmod 700 {folder}")
    for path in sorted((root / "keys").rglob("*")):
        mode, wide = path.lstat().st_mode, "700" if path.is_dir() else "600"
        if not stat.S_ISLNK(mode) and stat.S_IMODE(mode) & 0o077:
            raise FileError("other users may read this", file=str(path), hint=f"chmod {wide} {path}")


def _text(path: Path) -> str:
    return read_bytes(path).decode("utf-8")


@contextmanager
def _locked(root: Path) -> Iterator[None]:
    """One change of the files at a time."""
    descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
