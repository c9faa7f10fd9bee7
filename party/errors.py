"""The error tree: one class per exit code of the command line.

TallyError
├── InternalError     1    our own fault: a bug, a full disk, a broken ledger
├── UsageError        2    wrong command line
│   └── FileError     2    a bad file: names file, line and remedy
├── PolicyRefused     3    our own policy says no
├── PeerRefused       4    the peer says no (policy, approval, version)
├── NetworkError      5    unreachable, wrong certificate
│   ├── PeerVanished  5    the connection ended without the closing message
│   └── DeadlineExceeded 5 nobody answered in time
├── DataError         6    values in a table (ours or, named, the peer's) do not fit
├── PeerError         7    the peer broke the protocol: abort, never retry
└── Interrupted       130  stopped by a signal or by `tally cancel`

Texts never hold values of a row: they are shown, logged and sent to the peer.
"""

from __future__ import annotations

__all__ = [
    "DataError",
    "DeadlineExceeded",
    "FileError",
    "InternalError",
    "Interrupted",
    "NetworkError",
    "PeerError",
    "PeerRefused",
    "PeerVanished",
    "PolicyRefused",
    "TallyError",
    "UsageError",
]


class TallyError(Exception):
    """Base of every error a user may meet: what, whose fault, at which stage, and what to try next."""

    exit_code = 1
    code = "internal"

    def __init__(
        self, message: str, *, party: str | None = None, stage: str | None = None, hint: str | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.party = party
        self.stage = stage
        self.hint = hint

    def as_dict(self) -> dict[str, str | None]:
        """The `error` object of `--json`."""
        return {
            "code": self.code,
            "party": self.party,
            "stage": self.stage,
            "message": self.message,
            "hint": self.hint,
        }


class InternalError(TallyError):
    """Our own fault."""


class UsageError(TallyError):
    """The command line, or a value given on it, is wrong."""

    exit_code = 2
    code = "usage"


class FileError(UsageError):
    """A file the user wrote is wrong: `file:line: reason`."""

    code = "file"

    def __init__(
        self,
        message: str,
        *,
        file: str | None = None,
        line: int | None = None,
        party: str | None = None,
        stage: str | None = None,
        hint: str | None = None,
    ) -> None:
        place = "" if file is None else f"{file}: " if line is None else f"{file}:{line}: "
        super().__init__(place + message, party=party, stage=stage, hint=hint)
        self.file = file
        self.line = line


class PolicyRefused(TallyError):
    """Our own policy does not allow it."""

    exit_code = 3
    code = "policy"


class PeerRefused(TallyError):
    """The peer does not allow it: its policy, its approval or its version."""

    exit_code = 4
    code = "refused_by_peer"


class NetworkError(TallyError):
    """The peer cannot be reached, or is not who it should be."""

    exit_code = 5
    code = "network"


class PeerVanished(NetworkError):
    """The connection ended without the closing message."""

    code = "peer_vanished"


class DeadlineExceeded(NetworkError):
    """Nothing came within the deadline."""

    code = "deadline"


class DataError(TallyError):
    """The values of a table do not fit what was declared or asked."""

    exit_code = 6
    code = "data"


class PeerError(TallyError):
    """The peer sent what the protocol does not allow: abort, never retry."""

    exit_code = 7
    code = "integrity"


class Interrupted(TallyError):
    """Stopped by a signal or by `tally cancel`."""

    exit_code = 130
    code = "interrupted"
