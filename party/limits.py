"""Every cap and deadline in one place. Sizes in bytes, times in seconds."""

from __future__ import annotations

__all__ = [
    "FILE_BYTES",
    "FRAME_BYTES",
    "HEARTBEAT_SECONDS",
    "INBOX_BYTES",
    "OUTBOX_BYTES",
    "SILENCE_SECONDS",
    "STAGE_SECONDS",
]

FRAME_BYTES = 16 << 20  # largest body of one frame
OUTBOX_BYTES = 64 << 20  # queued for sending before `send` waits
INBOX_BYTES = 512 << 20  # received and not yet read: a peer that floods beyond it is cut off
HEARTBEAT_SECONDS = 3.0  # an idle side says that it is alive
SILENCE_SECONDS = 20.0  # nothing heard, heartbeat included: the peer is gone
STAGE_SECONDS = 6 * 3600.0  # one wait for one message
FILE_BYTES = 1 << 20  # largest party.yaml, policy.yaml or job.yaml
