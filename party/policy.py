"""policy.yaml and the decision on it: what each peer may do with our columns. Nothing is allowed by default.

`decide` is a pure function of our policy and of what we ourselves read in the job.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType

from party.catalogue import Catalogue, Column, Table
from party.errors import FileError
from party.files import COLUMN, NAME, NAME_RULE, PartyFile, party_name
from party.request import GRANTS, Request
from party.scores import MOST_DECIMALS, Scores, lacking
from party.yamlfile import Reader, load, nearest

__all__ = [
    "ALIGNMENTS",
    "Budget",
    "PeerPolicy",
    "PolicyFile",
    "decide",
    "load_policy",
    "read_policy",
    "round_rows",
    "visible",
]

ALIGNMENTS = ("rows", "size", "nothing")
_MOST = 2**31
# What each opening of an alignment tells its receiver. Any other opening called `alignment.` counts as its rows.
_TELLS = {"alignment.list": "nothing", "alignment.enough": "nothing", "alignment.count": "size"}


@dataclass(frozen=True)
class Budget:
    """What one peer may take in a day. rows: numbers and rows that it is shown, those of the alignment aside."""

    queries: int = 10_000
    rows: int = 100_000_000  # a few scorings of ten million rows


@dataclass(frozen=True)
class PeerPolicy:
    """What one peer may do. `columns`: "table.column" -> grants. As it stands it allows nothing."""

    peer: str
    alignment: str = "nothing"
    min_size: int = 100
    min_rows: int = 20
    approve: str = "manual"
    columns: Mapping[str, frozenset[str]] = field(default_factory=lambda: MappingProxyType({}))
    series: tuple[int, int] | None = None  # runs and days after which an incremental alignment draws a new key
    duplicates: str = "first"  # "all": a key that the peer repeats may stand for each of its rows
    budget: Budget = field(default_factory=Budget)
    scores: Scores = field(default_factory=Scores)

    def grants(self, table: str, column: str) -> frozenset[str]:
        """The grants of one column, none when it is not named."""
        return self.columns.get(f"{table}.{column}", frozenset())


@dataclass(frozen=True)
class PolicyFile:
    """policy.yaml."""

    peers: Mapping[str, PeerPolicy]
    file: str = field(default="policy.yaml", compare=False)
    lines: Mapping[str, int] = field(default_factory=dict, compare=False, repr=False)

    def towards(self, peer: str) -> PeerPolicy:
        """The policy towards a peer; one that allows nothing when the file does not name it."""
        return self.peers.get(peer, PeerPolicy(peer))

    def check_tables(self, party: PartyFile) -> None:
        """FileError when a policy names a table that party.yaml does not have."""
        for peer, policy in self.peers.items():
            for column in policy.columns:
                table = column.partition(".")[0]
                if table not in party.tables:
                    raise FileError(
                        f"`peers.{peer}.columns.{column}`: party.yaml has no table `{table}`",
                        file=self.file,
                        line=self.lines.get(f"{peer}.{column}"),
                        hint=nearest(table, list(party.tables)),
                    )


def load_policy(path: Path) -> PolicyFile:
    """Read policy.yaml; FileError with file, line, reason and remedy."""
    return read_policy(load(path))


def read_policy(top: Reader) -> PolicyFile:
    """policy.yaml from its tree."""
    top.refuse_unknown(("version", "peers"))
    top.version()
    peers: dict[str, PeerPolicy] = {}
    lines: dict[str, int] = {}
    section = top.optional("peers")
    for name, reader in ({} if section is None else section.mapping()).items():
        party_name(Reader(top.file, replace(reader.node, value=name, text=name), f"peers.{name}"))
        peers[name] = _peer(name, reader, lines)
    return PolicyFile(MappingProxyType(peers), top.file, lines)


def _peer(name: str, reader: Reader, lines: dict[str, int]) -> PeerPolicy:
    known = ("alignment", "min_size", "columns", "min_rows", "approve", "series", "duplicates", "budget", "scores")
    reader.refuse_unknown(known)
    alignment, approve = reader.optional("alignment"), reader.optional("approve")
    min_size, min_rows = reader.optional("min_size"), reader.optional("min_rows")
    duplicates = reader.optional("duplicates")
    columns: dict[str, frozenset[str]] = {}
    section = reader.optional("columns")
    for column, item in ({} if section is None else section.mapping()).items():
        table, dot, rest = column.partition(".")
        if not dot or not NAME.fullmatch(table) or not COLUMN.fullmatch(rest):
            raise item.error("is not TABLE.COLUMN", hint=f"for example customers.balance; a table: {NAME_RULE}")
        grants = [grant.choice(GRANTS) for grant in item.list()]
        if len(set(grants)) < len(grants):
            raise item.error("names a grant twice", hint="remove one of them")
        columns[column] = frozenset(grants)
        lines[f"{name}.{column}"] = item.line
    default = PeerPolicy(name)
    return PeerPolicy(
        name,
        default.alignment if alignment is None else alignment.choice(ALIGNMENTS),
        default.min_size if min_size is None else min_size.integer(0, _MOST),
        default.min_rows if min_rows is None else min_rows.integer(1, _MOST),
        default.approve if approve is None else approve.choice(("auto", "manual")),
        MappingProxyType(columns),
        _series(reader.optional("series")),
        default.duplicates if duplicates is None else duplicates.choice(("first", "all")),
        _budget(reader.optional("budget")),
        _scores(reader.optional("scores")),
    )


def _scores(reader: Reader | None) -> Scores:
    """`scores: {receive: true, decimals: 3, per_day: 100000}`: how finely, and how many rows, the peer is scored."""
    default = Scores()
    if reader is None:
        return default
    reader.refuse_unknown(("receive", "decimals", "per_day"))
    receive, decimals, per_day = map(reader.optional, ("receive", "decimals", "per_day"))
    return Scores(
        default.receive if receive is None else receive.boolean(),
        default.decimals if decimals is None else decimals.integer(0, MOST_DECIMALS),
        default.per_day if per_day is None else per_day.integer(0, 2**53),
    )


def _budget(reader: Reader | None) -> Budget:
    """`budget: {queries: 200, rows: 100000}`: what the peer may take in a day."""
    default = Budget()
    if reader is None:
        return default
    reader.refuse_unknown(("queries", "rows"))
    queries, rows = reader.optional("queries"), reader.optional("rows")
    return Budget(
        default.queries if queries is None else queries.integer(0, _MOST),
        default.rows if rows is None else rows.integer(0, 2**53),
    )


def _series(reader: Reader | None) -> tuple[int, int] | None:
    """`series: {runs: 30, days: 30}`: how long one key may serve."""
    if reader is None:
        return None
    reader.refuse_unknown(("runs", "days"))
    return reader.required("runs").integer(1, 1000), reader.required("days").integer(1, 366)


def decide(policy: PeerPolicy, us: str, peer: str, request: Request) -> tuple[str, ...]:
    """What our policy towards the peer lacks for this request, one readable line each; empty: allowed.

    Looks at the columns of ours that are used and at what the peer learns of the intersection. A column that does
    not exist reads like a closed one.
    """
    if policy.peer != peer:
        return (f"this is the policy towards {policy.peer}, not {peer}",)
    missing = {
        f"{use.table}.{use.column} needs `{use.use}`"
        for use in request.uses
        if use.party == us and use.use not in policy.grants(use.table, use.column)
    }
    told = {
        _TELLS.get(opening.what, "rows")
        for opening in request.openings
        if opening.to == peer and opening.what.startswith("alignment")
    }
    for needed in ("rows", "size"):
        if needed in told:
            if ALIGNMENTS.index(policy.alignment) > ALIGNMENTS.index(needed):
                missing.add(f"the intersection needs `alignment: {needed}`, and policy says {policy.alignment}")
            break
    if policy.series is None and any(opening.what == "alignment.series" for opening in request.openings):
        missing.add("an incremental alignment needs `series: {runs: ..., days: ...}`, and policy has none")
    if policy.duplicates != "all" and any(opening.what == "alignment.multiplicities" for opening in request.openings):
        missing.add(
            "repeated keys that stand for each of their rows need `duplicates: all`: a row of ours then counts as often"
            f" as {peer} repeats its key, also for min_rows"
        )
    missing |= {
        reason
        for opening in request.openings
        if opening.to == peer and (reason := lacking(policy.scores, opening.what)) is not None
    }
    strange = {f"a use of a column by nobody: {use.party}" for use in request.uses if use.party not in (us, peer)}
    strange |= {f"{opening.what} to {opening.to}" for opening in request.openings if opening.to not in (us, peer)}
    return tuple(sorted(missing | {f"not between {us} and {peer}: {what}" for what in strange}))


def visible(catalogue: Catalogue, policy: PeerPolicy) -> Catalogue:
    """The part of our full catalogue that a peer may see: columns with a grant, keys open for `join`, rounded rows."""
    tables = []
    for table in catalogue.tables:
        columns = tuple(_granted(table, column, policy) for column in table.columns)
        shown = tuple(column for column in columns if column.grants)
        joinable = {column.name for column in shown if "join" in column.grants}
        keys = tuple(key for key in table.key if joinable.issuperset(key))
        if shown:
            tables.append(replace(table, key=keys, columns=shown, rows=round_rows(table.rows)))
    return replace(catalogue, tables=tuple(tables), min_rows=policy.min_rows, min_size=policy.min_size)


def round_rows(rows: int) -> int:
    """A number of rows rounded up to two digits."""
    unit = int(10 ** max(0, len(str(rows)) - 2))
    return -(-rows // unit) * unit


def _granted(table: Table, column: Column, policy: PeerPolicy) -> Column:
    return replace(column, grants=policy.grants(table.name, column.name))
