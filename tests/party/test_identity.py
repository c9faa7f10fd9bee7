"""Keys, certificates, cards and pins."""

from __future__ import annotations

import datetime
import json
import stat
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from party.address import format_address, parse_address
from party.errors import FileError, PeerError, TallyError, UsageError
from party.identity import Identity, create, load_pin, parse_card, read_card, remove_peer, store_peer, verify


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Identity:
    return create(tmp_path_factory.mktemp("bank") / "keys", "bank")


def _certificate(name: str, key: object = None, days: tuple[int, int] = (-1, 10), issuer: object = None) -> str:
    key = key or Ed25519PrivateKey.generate()
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder(
        subject, subject, key.public_key(), x509.random_serial_number(),
        now + datetime.timedelta(days=days[0]), now + datetime.timedelta(days=days[1]),
    )  # fmt: skip
    algorithm = None if isinstance(issuer or key, Ed25519PrivateKey) else hashes.SHA256()
    return builder.sign(issuer or key, algorithm).public_bytes(serialization.Encoding.PEM).decode()


def test_create_writes_private_files_that_load_reads_back(tmp_path: Path) -> None:
    made = create(tmp_path / "keys", "bank")
    loaded = Identity.load(tmp_path / "keys")
    assert (loaded.name, loaded.fingerprint) == ("bank", made.fingerprint)
    assert loaded.fingerprint.startswith("sha256:") and len(loaded.fingerprint) == 71
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "keys").iterdir()}
    assert modes == {"key.pem": 0o600, "certificate.pem": 0o600, "peers": 0o700}
    assert stat.S_IMODE((tmp_path / "keys").stat().st_mode) == 0o700


def test_the_certificate_is_version_3_with_key_identifiers_and_no_right_to_sign_others(bank: Identity) -> None:
    certificate = x509.load_pem_x509_certificate(bank.certificate_pem.encode())
    extensions = certificate.extensions
    subject = extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    assert extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier == subject
    assert extensions.get_extension_for_class(x509.BasicConstraints).value.ca is False
    assert certificate.version is x509.Version.v3
    assert certificate.not_valid_after_utc - certificate.not_valid_before_utc > datetime.timedelta(days=3000)


def test_create_never_overwrites(tmp_path: Path) -> None:
    create(tmp_path / "keys", "bank")
    before = (tmp_path / "keys/key.pem").read_bytes()
    with pytest.raises(FileError, match="never overwritten"):
        create(tmp_path / "keys", "bank")
    assert (tmp_path / "keys/key.pem").read_bytes() == before


@pytest.mark.parametrize("name", ["", "Bank", "1bank", "a-b", "both", "learns", "size", "a" * 32, "bank\n", "ｂank"])
def test_a_name_that_is_no_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="cannot be the name"):
        create(tmp_path / "keys", name)
    assert not (tmp_path / "keys").exists()


def test_a_damaged_open_or_foreign_key_is_a_file_error(tmp_path: Path, bank: Identity) -> None:
    with pytest.raises(FileError, match="No such file"):
        Identity.load(tmp_path)
    create(tmp_path / "keys", "bank")
    key = tmp_path / "keys/key.pem"
    key.chmod(0o640)
    with pytest.raises(FileError, match="others may read"):
        Identity.load(tmp_path / "keys")
    key.chmod(0o600)
    key.write_bytes(bank.key_file.read_bytes())
    with pytest.raises(FileError, match="do not belong together"):
        Identity.load(tmp_path / "keys")
    key.write_text("nothing")
    with pytest.raises(FileError, match="not a private key"):
        Identity.load(tmp_path / "keys")


def test_a_signature_holds_for_its_content_purpose_and_key_only(bank: Identity) -> None:
    signature = bank.sign(b"content", "agreement")
    verify(bank.certificate_pem, b"content", signature, "agreement")
    for content, purpose, made in (
        (b"another", "agreement", signature),
        (b"content", "card", signature),
        (b"content", "agreement", signature[:-1]),
        (b"content", "agreement", bytes(64)),
    ):
        with pytest.raises(PeerError, match="signature"):
            verify(bank.certificate_pem, content, made, purpose)
    with pytest.raises(PeerError, match="signature"):
        verify(_certificate("bank"), b"content", signature, "agreement")


def test_no_text_of_an_identity_shows_its_key(bank: Identity) -> None:
    secret = bank.key_file.read_text().splitlines()[1]
    assert secret not in repr(bank) + str(bank) + repr(vars(bank)) + bank.card("10.0.0.1:7101").to_json()


def test_a_card_comes_back_as_it_was(bank: Identity, tmp_path: Path) -> None:
    for address in (None, "bank.example:7101", "[::1]:7101"):
        (tmp_path / "card.json").write_text(bank.card(address).to_json())
        card = read_card(tmp_path / "card.json")
        assert (card.name, card.address, card.fingerprint) == ("bank", address, bank.fingerprint)


def test_odd_cards_are_refused(bank: Identity) -> None:
    good = json.loads(bank.card("127.0.0.1:7101").to_json())
    key = Ed25519PrivateKey.generate()
    pem = good["certificate"]
    odd = [
        {"version": 2}, {"version": True}, {"version": "1"}, {"name": "telco"}, {"name": "both"}, {"name": 7},
        {"address": "127.0.0.1"}, {"address": "127.0.0.1:0"}, {"address": None}, {"address": "a b:1"},
        {"extra": 1}, {"certificate": ""}, {"certificate": pem + pem}, {"certificate": "x" + pem},
        {"certificate": pem.replace("M", "N", 1)}, {"certificate": [pem]},
        {"certificate": _certificate("bank", days=(-20, -10))}, {"certificate": _certificate("bank", days=(1, 10))},
        {"certificate": _certificate("telco")},
        {"certificate": _certificate("bank", ec.generate_private_key(ec.SECP256R1()))},
        {"certificate": _certificate("bank", issuer=key)},
    ]  # fmt: skip
    parse_card(json.dumps(good))
    for change in odd:
        with pytest.raises(FileError):
            parse_card(json.dumps(good | change))
    for missing in ("version", "name", "certificate"):
        with pytest.raises(FileError):
            parse_card(json.dumps({name: value for name, value in good.items() if name != missing}))
    for text in ("", "[]", "[" * 10_000, '{"version": 1, "version": 1}', json.dumps(good) + " " * 20_000, "\x00"):
        with pytest.raises(FileError):
            parse_card(text)


@pytest.mark.filterwarnings("ignore:Parsed a serial number")  # cryptography's own word on some of these
@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.integers(0, 10_000), st.integers(0, 255))
def test_a_changed_card_is_refused_or_means_the_same(bank: Identity, place: int, byte: int) -> None:
    content = bytearray(bank.card("127.0.0.1:7101").to_json().encode())
    content[place % len(content)] = byte
    try:
        card = parse_card(content.decode("utf-8", "replace"))
    except TallyError:
        return
    assert card.fingerprint == bank.fingerprint and card.name == "bank"


def test_pins_are_kept_replaced_only_on_request_and_checked(tmp_path: Path, bank: Identity) -> None:
    card = bank.card()
    pin = store_peer(tmp_path, card)
    assert load_pin(tmp_path, "bank", pin.fingerprint) == store_peer(tmp_path, card) == pin
    other = create(tmp_path / "other", "bank").card()
    with pytest.raises(UsageError, match="another certificate"):
        store_peer(tmp_path, other)
    assert load_pin(tmp_path, "bank", card.fingerprint) == pin
    store_peer(tmp_path, other, replace=True)
    with pytest.raises(FileError, match="another fingerprint"):
        load_pin(tmp_path, "bank", card.fingerprint)
    with pytest.raises(FileError, match="64 hex"):
        load_pin(tmp_path, "bank", other.fingerprint.upper())
    with pytest.raises(UsageError):
        load_pin(tmp_path, "../bank", other.fingerprint)
    remove_peer(tmp_path, "bank")
    remove_peer(tmp_path, "bank")
    with pytest.raises(FileError, match="No such file"):
        load_pin(tmp_path, "bank", other.fingerprint)


def test_addresses_are_read_strictly() -> None:
    assert parse_address("bank.example:7101") == ("bank.example", 7101)
    assert parse_address(format_address("::1", 80)) == ("::1", 80)
    for text in ("", "bank", ":80", "bank:", "bank:65536", "bank:080", "-x:80", "::1:80", "bank:80\n", "a@b:80"):
        with pytest.raises(UsageError, match="not an address"):
            parse_address(text)
