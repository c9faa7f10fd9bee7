"""Homes: made whole or not at all, opened only when closed to others, changed without losing a comment."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from party import edits, home
from party.errors import FileError, InternalError, UsageError
from party.home import Home, replace_file
from party.identity import Card, create


@pytest.fixture
def bank(tmp_path: Path) -> Home:
    return Home.init(tmp_path / "bank", "bank", "127.0.0.1:7101", "bank.example:7101")


def card(tmp_path: Path, name: str = "telco", address: str | None = "127.0.0.1:7102") -> Card:
    folder = tmp_path / f"keys-{name}-{len(list(tmp_path.iterdir()))}"
    return create(folder, name).card(address)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_init_makes_a_closed_home_that_opens(bank: Home) -> None:
    assert (bank.party.name, bank.party.listen, bank.party.address) == ("bank", "127.0.0.1:7101", "bank.example:7101")
    assert dict(bank.policy.peers) == {} and bank.identity().name == "bank"
    assert bank.state.is_dir() and bank.results.is_dir()
    for path in [bank.root, *bank.root.rglob("*")]:
        assert mode(path) == (0o700 if path.is_dir() else 0o600), path
    text = (bank.root / "party.yaml").read_text()
    assert "# " in text and "parquet:data/customers.parquet" in text


def test_init_without_addresses_comments_them(tmp_path: Path) -> None:
    made = Home.init(tmp_path / "a", "bank")
    assert (made.party.listen, made.party.address) == (None, None)


def test_the_examples_in_the_comments_are_valid(bank: Home, tmp_path: Path) -> None:
    def uncomment(text: str, section: str) -> str:
        before, after = text.split(f"{section}: {{}}\n", 1)
        block, _, rest = after.partition("\n\n")
        return before + f"{section}:\n" + block.replace("#  ", "  ") + "\n\n" + rest

    party = uncomment(uncomment((bank.root / "party.yaml").read_text(), "tables"), "peers")
    party = party.replace("sha256:...", "sha256:" + "0" * 64)
    policy = uncomment((bank.root / "policy.yaml").read_text(), "peers")
    replace_file(bank.root / "party.yaml", party.encode())
    replace_file(bank.root / "policy.yaml", policy.encode())
    opened = Home.open(bank.root)
    assert opened.party.tables["customers"].column("balance").type == "decimal(12,2)"
    assert opened.policy.peers["telco"].grants("customers", "balance") == {"aggregate", "feature"}


@pytest.mark.parametrize("entry", ["party.yaml", "policy.yaml", "keys", "state", "results"])
def test_init_never_overwrites(tmp_path: Path, entry: str) -> None:
    (tmp_path / entry).write_text("mine")
    with pytest.raises(UsageError, match="never overwritten"):
        Home.init(tmp_path, "bank")
    assert [path.name for path in tmp_path.iterdir()] == [entry] and (tmp_path / entry).read_text() == "mine"


def test_init_works_in_a_folder_with_other_things(tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text("mine")
    Home.init(tmp_path, "bank")
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["job.yaml", "keys", "party.yaml", "policy.yaml", "results", "state"]


def test_a_failing_init_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, content: bytes) -> None:
        raise InternalError("disk full")

    monkeypatch.setattr(home, "write_new", full)
    with pytest.raises(InternalError):
        Home.init(tmp_path / "new", "bank")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "mine").write_text("")
    with pytest.raises(InternalError):
        Home.init(tmp_path, "bank")
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


@pytest.mark.parametrize(
    ("name", "listen", "address"),
    [("Bank", None, None), ("size", None, None), ("a/b", None, None), ("bank", "nowhere", None), ("bank", None, "h:0")],
)
def test_init_refuses_bad_words(tmp_path: Path, name: str, listen: str | None, address: str | None) -> None:
    with pytest.raises(UsageError):
        Home.init(tmp_path / "new", name, listen, address)
    assert list(tmp_path.iterdir()) == []


def test_open_names_what_is_missing(bank: Home, tmp_path: Path) -> None:
    with pytest.raises(FileError, match="no home folder"):
        Home.open(tmp_path)
    for name in ("results", "policy.yaml"):
        (bank.root / name).rename(tmp_path / name)
        with pytest.raises(FileError, match="is missing"):
            Home.open(bank.root)


@pytest.mark.parametrize("wide", ["keys", "state", "keys/key.pem", "keys/certificate.pem", "keys/peers"])
def test_open_refuses_what_others_may_read(bank: Home, wide: str) -> None:
    path = bank.root / wide
    path.chmod(mode(path) | 0o040)
    with pytest.raises(FileError, match="other users may") as caught:
        Home.open(bank.root)
    assert caught.value.hint == f"chmod {'700' if path.is_dir() else '600'} {path}"
    path.chmod(mode(path) & 0o700)
    Home.open(bank.root)


def test_our_own_name_is_no_peer_and_the_certificates_is_ours(bank: Home) -> None:
    policy = bank.root / "policy.yaml"
    policy.write_text("version: 1\npeers: {bank: {}}\n")
    with pytest.raises(FileError, match="our own name"):
        Home.open(bank.root)
    policy.write_text("version: 1\n")
    party = bank.root / "party.yaml"
    party.write_text(party.read_text().replace("name: bank\n", "name: shop\n"))
    with pytest.raises(FileError, match="certificate bears bank"):
        Home.open(bank.root).identity()


def test_trust_and_untrust_keep_comments(bank: Home, tmp_path: Path) -> None:
    path = bank.root / "party.yaml"
    path.write_text(path.read_text().replace("peers: {}", "peers: {}   # whom we know"))
    before = path.read_text()
    telco = card(tmp_path)
    opened = bank.add_peer(telco)
    assert opened.party.peers["telco"].fingerprint == telco.fingerprint and opened.pin("telco") == telco.pin
    assert opened.party.peers["telco"].address == "127.0.0.1:7102"
    for line in before.splitlines():
        assert line.replace("peers: {}", "peers:") in path.read_text()
    opened = opened.add_peer(card(tmp_path, "insurer", None))
    assert list(opened.party.peers) == ["telco", "insurer"] and opened.party.peers["insurer"].address is None
    opened = opened.remove_peer("insurer").remove_peer("telco")
    assert dict(opened.party.peers) == {} and "# whom we know" in path.read_text()
    assert not list((bank.keys / "peers").glob("*.pem")) and mode(path) == 0o600
    with pytest.raises(UsageError, match="no peer"):
        opened.remove_peer("telco")
    with pytest.raises(UsageError, match="no peer"):
        opened.pin("telco")


def test_another_card_of_one_name_needs_replace(bank: Home, tmp_path: Path) -> None:
    first, second = card(tmp_path), card(tmp_path, address=None)
    bank = bank.add_peer(first)
    before = (bank.root / "party.yaml").read_text()
    with pytest.raises(UsageError, match="another certificate") as caught:
        bank.add_peer(second)
    assert "--replace" in str(caught.value.hint) and (bank.root / "party.yaml").read_text() == before
    assert bank.add_peer(first).party == bank.party
    changed = bank.add_peer(second, change=True)
    assert changed.pin("telco") == second.pin and changed.party.peers["telco"].address == "127.0.0.1:7102"
    with pytest.raises(UsageError, match="own card"):
        bank.add_peer(bank.identity().card())
    with pytest.raises(UsageError, match="another fingerprint"):
        bank.add_peer(first, fingerprint=second.fingerprint)


def test_add_table_declares_it_and_leaves_it_closed(bank: Home) -> None:
    types = {"phone": "string", "balance": "decimal(12,2)", "no": "bool"}
    opened = bank.add_table("customers", "parquet:data/my customers.parquet", ["phone"], types)
    table = opened.party.tables["customers"]
    assert (table.key, table.url.written) == ((("phone",),), "parquet:data/my customers.parquet")
    assert {name: spec.type for name, spec in table.columns.items()} == types
    assert dict(opened.policy.peers) == {}
    assert "#      customers.balance: []" in (bank.root / "policy.yaml").read_text()
    again = opened.add_table("visits", "csv:v.csv", ["a", "b"], {})
    assert list(again.party.tables) == ["customers", "visits"] and again.party.tables["visits"].key == (("a", "b"),)
    with pytest.raises(UsageError, match="has a table `customers` already"):
        again.add_table("customers", "csv:v.csv", ["a"], {})
    for name, key, url in [("Big", "k", "csv:a"), ("t", "a b", "csv:a"), ("t", "k", "csv:a\nb")]:
        with pytest.raises(UsageError):
            again.add_table(name, url, [key], {})
    with pytest.raises(FileError):  # not a url: the result would not be a party.yaml
        again.add_table("t", "data.csv", ["k"], {})
    assert list(Home.open(bank.root).party.tables) == ["customers", "visits"]


PRINT = "sha256:" + "0" * 64
HEAD = "version: 1\nname: bank\n"
LAYOUTS = [
    HEAD, HEAD.rstrip("\n"), HEAD + "peers:\n", HEAD + "peers: {}\n", HEAD + "peers: # none\n",
    HEAD + f"peers:   # ours\n    a: {{fingerprint: '{PRINT}'}}   # first\n\n# end\n",
    HEAD + f"peers:\n  a:\n    # deep\n    fingerprint: '{PRINT}'\n  # tail\nlisten: h:1\n",
    (HEAD + f"peers:\n  a: {{fingerprint: '{PRINT}'}}\nlisten: h:1\n").replace("\n", "\r\n"),
    HEAD + f"peers:\n  a: {{fingerprint: '{PRINT}'}}",
    f"peers:\n  a: {{fingerprint: '{PRINT}'}}\n" + HEAD,
    "# über uns\n" + HEAD + "peers: {}\ntables: {}\n",
]  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS, ids=range(len(LAYOUTS)))
def test_any_block_layout_can_be_changed_and_changed_back(bank: Home, tmp_path: Path, layout: str) -> None:
    (bank.root / "party.yaml").write_bytes(layout.encode())
    start = Home.open(bank.root)
    changed = start.add_peer(card(tmp_path))
    assert [name for name in changed.party.peers if name != "telco"] == list(start.party.peers)
    assert changed.remove_peer("telco").party == start.party
    text = (bank.root / "party.yaml").read_bytes().decode()
    comments = [line.split("#", 1)[1].strip() for line in layout.splitlines() if "#" in line]
    assert all(comment in text for comment in comments)
    assert text.count("\r\n") in (0, text.count("\n"))


def test_a_layout_that_cannot_be_changed_is_refused_and_left_alone(bank: Home, tmp_path: Path) -> None:
    path = bank.root / "party.yaml"
    path.write_text(HEAD + f"peers: {{a: {{fingerprint: '{PRINT}'}}}}\n")
    before = path.read_bytes()
    with pytest.raises(FileError, match="cannot be changed here"):
        Home.open(bank.root).add_peer(card(tmp_path))
    with pytest.raises(FileError, match="cannot be changed here"):
        Home.open(bank.root).remove_peer("a")
    assert path.read_bytes() == before and not list((bank.keys / "peers").glob("*.pem"))
    with pytest.raises(UsageError, match="has no"):
        edits.remove_entry(HEAD, "peers", "telco", "party.yaml")


def test_replace_file_leaves_the_old_one_when_it_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a"
    replace_file(path, b"one")
    replace_file(path, b"two")
    assert path.read_bytes() == b"two" and mode(path) == 0o600

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InternalError, match="No space left"):
        replace_file(path, b"three")
    assert path.read_bytes() == b"two" and [p.name for p in tmp_path.iterdir()] == ["a"]
