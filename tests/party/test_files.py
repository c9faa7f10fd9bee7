"""party.yaml: every key, every refusal with its line, secrets that never show."""

from __future__ import annotations

import datetime
from decimal import Decimal
from pathlib import Path

import pytest

from party.errors import FileError
from party.expansion import Url
from party.files import PartyFile, read_party
from party.yamlfile import parse

PRINT = "sha256:" + "ab" * 32
FULL = f"""version: 1
name: bank
listen: 127.0.0.1:7101
tables:
  customers:
    url: parquet:data/customers.parquet
    key: [phone]
    duplicates: first
    columns:
      phone:     {{type: string, normalise: phone, region: GB}}
      balance:   {{type: "decimal(12,2)", range: [-1000000, 10000000.5], nan: null}}
      region:    {{type: string, domain: [north, NO, "12"]}}
      defaulted: {{type: bool}}
      opened:    {{type: date, range: [2000-01-01, 2030-12-31]}}
  visits:
    url: csv:${{env:VISITS}}
    key: [[phone], [name, born]]
peers:
  telco: {{address: 127.0.0.1:7102, fingerprint: "{PRINT}"}}
  other: {{fingerprint: "{PRINT}"}}
alignment_ttl: 12h
"""


def read(text: str) -> PartyFile:
    return read_party(parse(text, "party.yaml"))


def test_reads_every_key() -> None:
    party = read(FULL)
    assert (party.name, party.listen, party.alignment_ttl) == ("bank", "127.0.0.1:7101", 43_200)
    table = party.tables["customers"]
    assert (table.key, table.duplicates, table.url.scheme) == ((("phone",),), "first", "parquet")
    phone, balance = table.column("phone"), table.column("balance")
    assert (phone.type, phone.normalise, phone.region) == ("string", "phone", "GB")
    assert (balance.type, balance.low, balance.high, balance.nan_null) == (
        "decimal(12,2)", -1000000, Decimal("10000000.5"), True,
    )  # fmt: skip
    assert table.column("region").domain == ("north", "NO", "12")
    assert table.column("opened").low == datetime.date(2000, 1, 1)
    assert table.column("unnamed").type is None
    assert party.tables["visits"].key == (("phone",), ("name", "born"))
    assert (party.peers["telco"].address, party.peers["other"].address) == ("127.0.0.1:7102", None)


def test_the_smallest_file_and_its_defaults() -> None:
    party = read("version: 1\nname: bank\n")
    assert (party.listen, party.alignment_ttl, dict(party.tables), dict(party.peers)) == (None, 86_400, {}, {})
    assert read("version: 1\nname: bank\ntables:\npeers: {}\n").tables == {}
    assert read("version: 1\nname: bank\nalignment_ttl: 0\n").alignment_ttl == 0


T = "version: 1\nname: bank\ntables:\n  t:\n    url: csv:a.csv\n    key: [k]\n    columns:\n      c: "
K = "version: 1\nname: bank\ntables:\n  t:\n    url: csv:a.csv\n    key: "
P = "version: 1\nname: bank\npeers:\n  "
REFUSED = [
    ("name: bank\n", 1, "lacks the key `version`"),
    ("version: 2\nname: bank\n", 1, "`version` must be 1"),
    ("version: 1\n", 1, "lacks the key `name`"),
    ("version: 1\nname: Bank\n", 2, "`name` cannot be"),
    ("version: 1\nname: size\n", 2, "`name` cannot be"),
    ("version: 1\nname: learns\n", 2, "`name` cannot be"),
    ("version: 1\nname: both\n", 2, "`name` cannot be"),
    (f"version: 1\nname: {'a' * 32}\n", 2, "`name` cannot be"),
    ("version: 1\nname: 7\n", 2, "must be text"),
    ("version: 1\nname: bank\nlistne: x\n", 3, "unknown key `listne`"),
    ("version: 1\nname: bank\nlisten: localhost\n", 3, "not an address"),
    ("version: 1\nname: bank\nlisten: localhost:99999\n", 3, "not an address"),
    ("version: 1\nname: bank\naddress: localhost:0\n", 3, "no port"),
    ("version: 1\nname: bank\nalignment_ttl: soon\n", 3, "not a time"),
    ("version: 1\nname: bank\nalignment_ttl: -1\n", 3, "between"),
    ("version: 1\nname: bank\ntables: [a]\n", 3, "must be a mapping"),
    ("version: 1\nname: bank\ntables:\n  Big: {url: 'csv:a', key: [k]}\n", 4, "not a name for a table"),
    ("version: 1\nname: bank\ntables:\n  t: {key: [k]}\n", 4, "lacks `url`"),
    ("version: 1\nname: bank\ntables:\n  t: {url: 'csv:a'}\n", 4, "lacks `key`"),
    ("version: 1\nname: bank\ntables:\n  t: {url: data.csv, key: [k]}\n", 4, "not a url"),
    ("version: 1\nname: bank\ntables:\n  t: {url: 'csv:a', key: [k], duplicates: last}\n", 4, "cannot be `last`"),
    (K + "k\n", 6, "must be a list"),
    (K + "[]\n", 6, "names no column"),
    (K + "[k, k]\n", 6, "twice"),
    (K + "[[k], [k]]\n", 6, "twice"),
    (K + "[[k], []]\n", 6, "empty"),
    (K + "[k, [l]]\n", 6, "mixes"),
    (K + "[1]\n", 6, "must be text"),
    (K + "['a b']\n", 6, "cannot be"),
    (K + "[k]\n    columns:\n      k: {type: float}\n", 6, "declared float"),
    (T + "{type: int}\n", 8, "cannot be `int`"),
    (T + "{type: decimal}\n", 8, "needs its digits"),
    (T + "{type: 'decimal(39,2)'}\n", 8, "cannot be"),
    (T + "{type: 'decimal(3,4)'}\n", 8, "cannot be"),
    (T + "{typ: string}\n", 8, "unknown key `typ`"),
    (T + "string\n", 8, "must be a mapping"),
    (T + "{normalise: fone}\n", 8, "cannot be `fone`"),
    (T + "{type: float, normalise: text}\n", 8, "makes no sense"),
    (T + "{type: string, region: GB}\n", 8, "needs `normalise: phone`"),
    (T + "{normalise: phone, region: gb}\n", 8, "cannot be `gb`"),
    (T + "{normalise: phone, region: false}\n", 8, "must be text"),
    (T + "{type: integer, range: 5}\n", 8, "must be a list"),
    (T + "{type: integer, range: [1]}\n", 8, "two values"),
    (T + "{type: integer, range: [2, 1]}\n", 8, "highest value first"),
    (T + "{type: integer, range: [0.5, 1]}\n", 8, "must be an integer"),
    (T + "{type: string, range: [1, 2]}\n", 8, "makes no sense"),
    (T + "{type: date, range: [2000-13-01, 2001-01-01]}\n", 8, "is not a date"),
    (T + "{type: float, range: [a, b]}\n", 8, "must be a number"),
    (T + "{domain: []}\n", 8, "empty"),
    (T + "{domain: [a, a]}\n", 8, "twice"),
    (T + "{domain: [a, 1]}\n", 8, "mixes"),
    (T + "{type: string, domain: [1]}\n", 8, "must be text"),
    (T + "{type: bool, domain: [NO]}\n", 8, "true or false"),
    (T + "{type: float, domain: [1.5]}\n", 8, "makes no sense"),
    (T + "{nan: zero}\n", 8, "only be null"),
    (T + "{nullable: 0}\n", 8, "true or false"),
    (T + "{type: string, nan: null}\n", 8, "makes no sense"),
    (P + "telco: {address: 'a:1'}\n", 4, "lacks `fingerprint`"),
    (P + "telco: {fingerprint: abc}\n", 4, "cannot be `abc`"),
    (P + f"telco: {{fingerprint: '{PRINT}', adress: x}}\n", 4, "unknown key `adress`"),
    (P + f"telco: {{fingerprint: '{PRINT}', address: 'h:0'}}\n", 4, "no port"),
    (P + f"bank: {{fingerprint: '{PRINT}'}}\n", 4, "our own name"),
    (P + f"both: {{fingerprint: '{PRINT}'}}\n", 4, "not a name for a peer"),
]


@pytest.mark.parametrize(("text", "line", "reason"), REFUSED, ids=range(len(REFUSED)))
def test_refuses_and_names_the_line(text: str, line: int, reason: str) -> None:
    with pytest.raises(FileError) as caught:
        read(text)
    assert reason in str(caught.value) and str(caught.value).startswith(f"party.yaml:{line}: ")


def test_secrets_are_filled_in_late_and_never_shown(tmp_path: Path) -> None:
    (tmp_path / "pw").write_text("hunter2\n")
    url = Url("postgresql://tally:${file:pw}@${env:DB_HOST}/db", "party.yaml", 7)
    assert url.expand(tmp_path, {"DB_HOST": "db.local"}) == "postgresql://tally:hunter2@db.local/db"
    assert "hunter2" not in repr(url)
    with pytest.raises(FileError, match=r"party.yaml:7: the environment variable DB_HOST is not set") as caught:
        url.expand(tmp_path, {})
    assert "hunter2" not in str(caught.value) + str(caught.value.hint)
    with pytest.raises(FileError, match="secret file pw cannot be read"):
        url.expand(tmp_path / "elsewhere", {"DB_HOST": "x"})
    (tmp_path / "pw").write_text("\n")
    with pytest.raises(FileError, match="empty"):
        url.expand(tmp_path, {"DB_HOST": "x"})


def test_what_a_secret_expands_to_is_not_expanded_again(tmp_path: Path) -> None:
    assert Url("csv:${env:A}").expand(tmp_path, {"A": "${env:B}", "B": "no"}) == "csv:${env:B}"


@pytest.mark.parametrize(
    "written",
    ["csv:${env:}", "csv:${env:A", "csv:${ENV:A}", "csv:${A}", "postgresql://me:pw@h/d", "s3://b/k?secret_key=abc"],
)
def test_a_url_that_is_half_a_placeholder_or_holds_a_password_is_refused(written: str) -> None:
    with pytest.raises(FileError, match=r"party.yaml:3: "):
        Url(written, "party.yaml", 3)


def test_the_page_is_valid_and_names_every_key() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs/reference/party-yaml.md").read_text()
    party = read(page.split("```yaml\n")[1].split("```")[0])
    assert (
        not party.tables["customers"].column("balance").nullable and party.tables["customers"].column("income").nullable
    )
    assert party.tables["customers"].column("income").nan_null and party.peers["telco"].address == "127.0.0.1:7102"
    for word in (
        "alignment_ttl",
        "duplicates",
        "normalise",
        "region",
        "range",
        "domain",
        "nan: null",
        "nullable",
        "fingerprint",
    ):
        assert f"`{word}`" in page or f"....{word}" in page, word
