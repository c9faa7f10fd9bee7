"""Certificates and the small files that hold them: made, read, checked. No network, no policy.

Sources: RFC 5280 (certificates), RFC 8032 (Ed25519), RFC 8410 (Ed25519 in certificates).
"""

from __future__ import annotations

import contextlib
import datetime
import os
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from party import limits
from party.errors import FileError, InternalError

__all__ = [
    "check_dates",
    "common_name",
    "fingerprint_of",
    "load_certificate",
    "public_key_of",
    "read_text",
    "self_signed",
    "sync_folder",
    "write_new",
]

_YEARS = 10


def self_signed(name: str, key: Ed25519PrivateKey) -> x509.Certificate:
    """A certificate of version 3 for this key, signed by it: the name as CN, a random serial, ten years."""
    now = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    public = key.public_key()
    identifier = x509.SubjectKeyIdentifier.from_public_key(public)
    usage = dict.fromkeys(
        ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "key_cert_sign", "crl_sign",
         "encipher_only", "decipher_only"), False,
    )  # fmt: skip
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))  # the peer's clock may be behind ours
        .not_valid_after(now + datetime.timedelta(days=365 * _YEARS))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.KeyUsage(digital_signature=True, **usage), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False
        )
        .add_extension(identifier, critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False)
        .sign(key, None)
    )


def fingerprint_of(certificate: x509.Certificate) -> str:
    """`sha256:` and the hex digest of the DER form."""
    return "sha256:" + certificate.fingerprint(hashes.SHA256()).hex()


def load_certificate(pem: str, file: str | None = None) -> x509.Certificate:
    """The certificate of a PEM text; FileError when there is none."""
    try:
        return x509.load_pem_x509_certificate(pem.encode())
    except (ValueError, x509.InvalidVersion):
        raise FileError("this is not a certificate in PEM form", file=file) from None


def common_name(certificate: x509.Certificate) -> str:
    """The one CN of the subject; empty when there is none or more than one."""
    try:
        names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    except ValueError:
        names = []
    return str(names[0].value) if len(names) == 1 else ""


def public_key_of(certificate: x509.Certificate, file: str | None = None) -> Ed25519PublicKey:
    """Its Ed25519 key; FileError when it has another one, or none that can be read."""
    try:
        key: object = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PublicKey):
        raise FileError("the certificate has no Ed25519 key", file=file)
    return key


def check_dates(certificate: x509.Certificate, file: str) -> None:
    """FileError unless the certificate is valid now."""
    now = datetime.datetime.now(datetime.UTC)
    if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
        raise FileError(
            f"the certificate is valid from {certificate.not_valid_before_utc:%Y-%m-%d} to"
            f" {certificate.not_valid_after_utc:%Y-%m-%d} only, and today is {now:%Y-%m-%d}",
            file=file,
            hint="check the clock; otherwise its owner needs a new certificate",
        )


def read_text(path: Path, hint: str | None = None) -> str:
    """A small UTF-8 file; FileError when it cannot be read or is too large."""
    try:
        with path.open("rb") as file:
            content = file.read(limits.CARD_BYTES + 1)
        if len(content) > limits.CARD_BYTES:
            raise FileError(f"more than {limits.CARD_BYTES} bytes", file=str(path), hint=hint)
        return content.decode("utf-8")
    except OSError as error:
        raise FileError(error.strerror or "cannot be read", file=str(path), hint=hint) from None
    except UnicodeDecodeError:
        raise FileError("not text in UTF-8", file=str(path), hint=hint) from None


def write_new(path: Path, content: bytes) -> None:
    """Write, sync, and sync the folder: a file of mode 0600 that must not be there yet."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(descriptor)
    except FileExistsError:
        raise FileError("is here already and is never overwritten", file=str(path)) from None
    except OSError as error:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
        raise InternalError(f"{path} cannot be written: {error.strerror}") from None
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make names in a folder last."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
