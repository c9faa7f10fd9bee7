"""Who we are: an Ed25519 key and a self-signed certificate, made by `create`, read by `Identity.load`.

A party is its certificate: peers pin the SHA-256 of its DER form, so no authority stands between them, and the
names and dates inside it only help people. The names of `party.card` are here as well.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from party.address import parse_address
from party.card import Card, Pin, check_name, load_pin, parse_card, read_card, remove_peer, store_peer
from party.certificate import (
    check_dates,
    common_name,
    fingerprint_of,
    load_certificate,
    public_key_of,
    read_text,
    self_signed,
    write_new,
)
from party.errors import FileError, PeerError, UsageError

__all__ = [
    "Card",
    "Identity",
    "Pin",
    "check_name",
    "create",
    "load_pin",
    "parse_card",
    "read_card",
    "remove_peer",
    "store_peer",
    "verify",
]

_KEY_FILE = "key.pem"
_CERTIFICATE_FILE = "certificate.pem"
_SIGNED = b"tallystick/v1/signature/"


class Identity:
    """Our own key and certificate. Has no representation that shows the key."""

    def __init__(self, name: str, key: Ed25519PrivateKey, certificate: x509.Certificate, keys_dir: Path) -> None:
        self.name = name
        self.keys_dir = keys_dir
        self._key = key
        self._certificate = certificate

    @classmethod
    def load(cls, keys_dir: Path | str) -> Identity:
        """Read what `create` wrote; FileError when a file is missing, damaged, readable by others or out of date."""
        folder = Path(keys_dir)
        key_file = folder / _KEY_FILE
        pem = read_text(folder / _CERTIFICATE_FILE, hint="run `tally init` first")
        secret = read_text(key_file, hint="run `tally init` first")
        if key_file.stat().st_mode & 0o077:
            raise FileError("others may read our private key", file=str(key_file), hint=f"chmod 600 {key_file}")
        try:
            key = serialization.load_pem_private_key(secret.encode(), password=None)
        except (ValueError, TypeError):
            raise FileError("this is not a private key in PEM form", file=str(key_file)) from None
        certificate = load_certificate(pem, file=str(folder / _CERTIFICATE_FILE))
        if not isinstance(key, Ed25519PrivateKey) or key.public_key() != public_key_of(certificate):
            raise FileError("key and certificate do not belong together", file=str(key_file))
        name = common_name(certificate)
        check_dates(certificate, file=str(folder / _CERTIFICATE_FILE))
        return cls(check_name(name), key, certificate, folder)

    @property
    def certificate_pem(self) -> str:
        """Our certificate."""
        return self._certificate.public_bytes(serialization.Encoding.PEM).decode()

    @property
    def fingerprint(self) -> str:
        """`sha256:` and the hex digest of our certificate's DER form."""
        return fingerprint_of(self._certificate)

    @property
    def certificate_file(self) -> Path:
        """Where `ssl` finds the certificate."""
        return self.keys_dir / _CERTIFICATE_FILE

    @property
    def key_file(self) -> Path:
        """Where `ssl` finds the key."""
        return self.keys_dir / _KEY_FILE

    def card(self, address: str | None = None) -> Card:
        """Our card; UsageError when the address cannot be dialled."""
        if address is not None and parse_address(address)[1] == 0:
            raise UsageError(f"{address!r} has no port", hint="give the port that peers reach us on")
        return Card(self.name, self.certificate_pem, address)

    def sign(self, content: bytes, purpose: str = "agreement") -> bytes:
        """64 bytes of Ed25519 over label, purpose and content: a signature for one purpose never serves another."""
        return self._key.sign(_labelled(content, purpose))


def create(keys_dir: Path | str, name: str) -> Identity:
    """Make key and certificate of a new party in `keys_dir` (made 0700, files 0600); FileError when one is there."""
    check_name(name)
    folder = Path(keys_dir)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if (folder / _KEY_FILE).exists() or (folder / _CERTIFICATE_FILE).exists():
        raise FileError("a key is here already and is never overwritten", file=str(folder))
    folder.chmod(0o700)
    key = Ed25519PrivateKey.generate()
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    certificate = self_signed(name, key)
    write_new(folder / _KEY_FILE, secret)
    write_new(folder / _CERTIFICATE_FILE, certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "peers").mkdir(mode=0o700, exist_ok=True)
    return Identity(name, key, certificate, folder)


def verify(certificate_pem: str, content: bytes, signature: bytes, purpose: str = "agreement") -> None:
    """Return when `signature` is that of the certificate's owner over purpose and content; PeerError otherwise."""
    try:
        public_key_of(load_certificate(certificate_pem)).verify(signature, _labelled(content, purpose))
    except InvalidSignature:
        raise PeerError(f"the peer's signature of the {purpose} is wrong") from None


def _labelled(content: bytes, purpose: str) -> bytes:
    return _SIGNED + purpose.encode() + b"/" + hashlib.sha256(content).digest()
