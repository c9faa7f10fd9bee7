"""Every cap and deadline in one place. Sizes in bytes, times in seconds."""

from __future__ import annotations

__all__ = [
    "ABORT_SECONDS",
    "CARD_BYTES",
    "CLOSE_SECONDS",
    "CONNECT_SECONDS",
    "FILE_BYTES",
    "FIRST_BYTE_SECONDS",
    "FRAME_BYTES",
    "HANDSHAKE_SECONDS",
    "HEARTBEAT_SECONDS",
    "INBOX_BYTES",
    "INBOX_SOFT_BYTES",
    "OUTBOX_BYTES",
    "PENDING_SECONDS",
    "RUN_SECONDS",
    "SETUP_SECONDS",
    "SILENCE_SECONDS",
    "STAGE_SECONDS",
    "STOP_SECONDS",
    "WAITING",
    "WORKERS",
    "WORKERS_PENDING",
]

FRAME_BYTES = 24 << 20  # largest body of one frame
OUTBOX_BYTES = 64 << 20  # queued for sending before `send` waits
INBOX_SOFT_BYTES = 64 << 20  # received and not yet read: beyond it we stop reading, unless we wait in `send` ourselves
INBOX_BYTES = 512 << 20  # the same while we wait in `send`: a peer that floods beyond it is cut off
HEARTBEAT_SECONDS = 3.0  # an idle side says that it is alive
SILENCE_SECONDS = 20.0  # nothing heard, heartbeat included: the peer is gone
STAGE_SECONDS = 6 * 3600.0  # one wait for one message
SETUP_SECONDS = 600.0  # the same before a run is agreed: nothing is computed there but the types of a new table
RUN_SECONDS = 24 * 3600.0  # one worker of `tally serve`, from its first byte to its last
CLOSE_SECONDS = 600.0  # the peer may still write its results when we are done
CONNECT_SECONDS = 30.0  # dialling, the start of the peer's worker and the handshake together
HANDSHAKE_SECONDS = 15.0  # the handshake alone, on the side that listens
PENDING_SECONDS = 60.0  # a worker that has not authenticated its peer by then is stopped (its start included)
ABORT_SECONDS = 4.0  # telling the peer that we stop
STOP_SECONDS = 5.0  # workers may end in order before they are killed
WORKERS = 16  # of one `tally serve` at a time
WORKERS_PENDING = 4  # of these, ones that have not yet authenticated their peer; half of them from one address
WAITING = 256  # connections that have said nothing yet, or wait for a worker: the oldest makes room
FIRST_BYTE_SECONDS = 5.0  # a tally speaks as soon as it is connected; who does not gets no worker
FILE_BYTES = 1 << 20  # largest party.yaml, policy.yaml or job.yaml
CARD_BYTES = 16 << 10  # largest card, certificate or key file
