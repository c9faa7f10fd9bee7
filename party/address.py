"""HOST:PORT as a party writes it: one strict reader for cards, party.yaml, `--listen` and `--address`."""

from __future__ import annotations

import re

from party.errors import UsageError

__all__ = ["format_address", "parse_address"]

_ADDRESS = re.compile(
    r"(?:\[(?P<six>[0-9A-Fa-f:.]{2,45})\]|(?P<host>[A-Za-z0-9](?:[A-Za-z0-9.-]{0,252})))"
    r":(?P<port>0|[1-9][0-9]{0,4})"
)


def parse_address(text: str) -> tuple[str, int]:
    """Host and port of `HOST:PORT` or `[IPV6]:PORT`; UsageError otherwise. Port 0 (any free one) is for listening."""
    found = _ADDRESS.fullmatch(text)
    if found is None or int(found["port"]) > 65535:
        raise UsageError(f"{text[:80]!r} is not an address", hint="write HOST:PORT, for example 127.0.0.1:7101")
    return found["six"] or found["host"], int(found["port"])


def format_address(host: str, port: int) -> str:
    """The text that `parse_address` reads back."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
