"""Cards and pins: what a party hands to its peers, and what it keeps of them under keys/peers/.

The card is JSON: {"version": 1, "name", "address" (perhaps), "certificate" (PEM)}. It is public; whoever pins it
compares its fingerprint with the owner over another way.
"""

from __future__ import annotations

import hmac
import json
import re
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization

from party import limits
from party.address import parse_address
from party.certificate import (
    check_dates,
    common_name,
    fingerprint_of,
    load_certificate,
    public_key_of,
    read_text,
    sync_folder,
    write_new,
)
from party.errors import FileError, UsageError

__all__ = ["Card", "Pin", "check_name", "load_pin", "parse_card", "read_card", "remove_peer", "store_peer"]

_NAME = re.compile(r"[a-z][a-z0-9_]{0,30}")
_RESERVED = frozenset({"both", "learns", "size"})
_FINGERPRINT = re.compile(r"sha256:[0-9a-f]{64}")


def check_name(name: str) -> str:
    """The name itself when a party may bear it; UsageError otherwise."""
    if not _NAME.fullmatch(name) or name in _RESERVED:
        raise UsageError(
            f"{name[:40]!r} cannot be the name of a party",
            hint="small letters, digits and _, at most 31, a letter first; not `learns`, `both` or `size`",
        )
    return name


@dataclass(frozen=True)
class Pin:
    """A peer as we know it: the name we gave to exactly one certificate."""

    name: str
    fingerprint: str
    certificate_pem: str

    def __post_init__(self) -> None:
        if not hmac.compare_digest(fingerprint_of(load_certificate(self.certificate_pem)), self.fingerprint):
            raise FileError(
                f"the certificate kept for {self.name} has another fingerprint than its pin",
                hint=f"ask {self.name} for its card again and run `tally trust CARD --replace`",
            )


@dataclass(frozen=True)
class Card:
    """What a party hands to its peers. Public; the fingerprint is to be compared over another way, say by phone."""

    name: str
    certificate_pem: str
    address: str | None = None

    @property
    def fingerprint(self) -> str:
        """`sha256:` and the hex digest of the certificate's DER form."""
        return fingerprint_of(load_certificate(self.certificate_pem))

    @property
    def pin(self) -> Pin:
        """What we keep of the peer."""
        return Pin(self.name, self.fingerprint, self.certificate_pem)

    def to_json(self) -> str:
        """The card as a file."""
        content: dict[str, Any] = {"version": 1, "name": self.name}
        if self.address is not None:
            content["address"] = self.address
        return json.dumps(content | {"certificate": self.certificate_pem}, indent=2) + "\n"


def read_card(path: Path | str) -> Card:
    """The card in a file; FileError on anything odd."""
    return parse_card(read_text(Path(path), hint="give the file that the peer's `tally card` printed"), file=str(path))


def parse_card(text: str, file: str = "card") -> Card:
    """The card in this text; FileError unless it is exactly a valid card whose certificate bears its name today."""

    def wrong(reason: str) -> FileError:
        return FileError(reason, file=file, hint="ask the peer for the output of its `tally card`")

    if len(text) > limits.CARD_BYTES:
        raise wrong(f"a card has at most {limits.CARD_BYTES} bytes")
    try:
        content = json.loads(text, object_pairs_hook=_no_repeats)
    except (ValueError, RecursionError):
        raise wrong("this is not a card in JSON form") from None
    if not isinstance(content, dict):
        raise wrong("this is not a card in JSON form")
    unknown = sorted(set(content) - {"version", "name", "address", "certificate"})
    if unknown:
        raise wrong(f"a card has no key {unknown[0][:40]!r}")
    if type(content.get("version")) is not int or content["version"] != 1:
        raise wrong("this card's version is not 1")
    name, pem, address = content.get("name"), content.get("certificate"), content.get("address")
    if not isinstance(name, str) or not isinstance(pem, str) or ("address" in content and not isinstance(address, str)):
        raise wrong("a card has a name, a certificate and perhaps an address, all of them text")
    try:
        check_name(name)
        if address is not None and parse_address(address)[1] == 0:
            raise UsageError("the address has no port")
    except UsageError as error:
        raise wrong(error.message) from None
    try:
        reason = _flaw(load_certificate(pem, file=file), name, pem)
        if reason is not None:
            raise wrong(reason)
        check_dates(load_certificate(pem), file=file)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise wrong("the certificate is damaged") from None
    return Card(name, pem, address)


def _flaw(certificate: x509.Certificate, name: str, pem: str) -> str | None:
    """What keeps this certificate from being the one of `create` for this name; ValueError when it is damaged."""
    if certificate.public_bytes(serialization.Encoding.PEM).decode().split() != pem.split():
        return "the certificate is not exactly one PEM block"
    public_key_of(certificate)
    try:
        certificate.verify_directly_issued_by(certificate)
    except InvalidSignature:
        return "the certificate is not signed by its own key"
    return None if common_name(certificate) == name else f"the certificate bears another name than the card's {name!r}"


def store_peer(keys_dir: Path | str, card: Card, *, replace: bool = False) -> Pin:
    """Keep a peer's certificate in keys/peers/NAME.pem; UsageError when another one is there, unless `replace`."""
    folder = Path(keys_dir) / "peers"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / f"{check_name(card.name)}.pem"
    other = path.exists() and load_certificate(read_text(path), str(path)) != load_certificate(card.certificate_pem)
    if other and not replace:
        raise UsageError(
            f"another certificate is pinned to {card.name}",
            hint="compare fingerprints with the peer, then `tally trust CARD --replace`",
        )
    temporary = folder / f".{card.name}.{secrets.token_hex(8)}"
    write_new(temporary, card.certificate_pem.encode())
    temporary.replace(path)
    sync_folder(folder)
    return card.pin


def load_pin(keys_dir: Path | str, name: str, fingerprint: str) -> Pin:
    """The pin of a peer; FileError when its certificate is missing or is not the one of party.yaml's fingerprint."""
    if not _FINGERPRINT.fullmatch(fingerprint):
        raise FileError(f"the fingerprint of {name} is not `sha256:` and 64 hex digits")
    path = Path(keys_dir) / "peers" / f"{check_name(name)}.pem"
    return Pin(name, fingerprint, read_text(path, hint=f"ask {name} for its card and run `tally trust CARD`"))


def remove_peer(keys_dir: Path | str, name: str) -> None:
    """Forget a peer's certificate; no error when there is none."""
    (Path(keys_dir) / "peers" / f"{check_name(name)}.pem").unlink(missing_ok=True)


def _no_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) != len(pairs):
        raise ValueError("a key is given twice")
    return content
