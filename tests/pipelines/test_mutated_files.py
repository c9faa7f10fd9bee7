"""Files that users write, damaged in every way: read, or refused as FileError (exit 2) with file, line and reason."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from party import limits
from party.errors import FileError
from party.files import read_party
from party.home import Home
from party.policy import read_policy
from party.yamlfile import load, parse
from pipelines import spec
from pipelines.spec import read_job

PARTY = f"""\
version: 1
name: bank
listen: 127.0.0.1:7101
address: 127.0.0.1:7101
alignment_ttl: 1d
tables:
  customers:
    url: parquet:data/customers.parquet
    key: [[phone], [email]]
    duplicates: first
    columns:
      phone:     {{type: string, normalise: phone, region: GB}}
      balance:   {{type: "decimal(12,2)", range: [-1000000, 10000000.50]}}
      region:    {{type: string, domain: [north, south, east, west]}}
      age:       {{type: integer, range: [0, 120]}}
      rate:      {{type: "decimal(9,4)", nan: null}}
peers:
  telco: {{address: 127.0.0.1:7102, fingerprint: "sha256:{"ab" * 32}"}}
"""
POLICY = """\
version: 1
peers:
  telco:
    alignment: rows
    min_size: 100
    columns:
      customers.phone:     [join]
      customers.balance:   [aggregate, feature]
    min_rows: 20
    approve: auto
"""
EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "bank_telco" / "job.yaml"
TEXTS = {"party.yaml": PARTY, "policy.yaml": POLICY, "job.yaml": EXAMPLE.read_text()}
ODD = [
    b"null",
    b"~",
    b"true",
    b"[]",
    b"{}",
    b"[a, b]",
    b"{a: 1}",
    b"-1",
    b"1e400",
    b".inf",
    b".nan",
    b"NaN",
    b"0x10",
    b"010",
    b"1_000",
    b"2026-01-01",
    b"''",
    b'"\\ud800"',
    b"&a b",
    b"*a",
    b"!!int 3",
    b"!x y",
    b"!!python/object:os.system x",
    b"<<",
    b"<<: *a",
    b"? a",
    b"|\n  x",
    b"%",
    b"@",
    b"`",
    b"\xff",
    b"\x00",
    b"NO",
    b"yes",
    b"a" * 5000,
    b"9" * 5000,
    b"9" * 60,
    b"1e308",
    b"-0",
    b"",
    b"[" * 100,
    b"{a: " * 100,
]


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> dict[str, Callable[[bytes], Any]]:
    """Readers of bytes: thousands of files would cost a slow disk half a minute."""

    def job(content: bytes) -> Any:
        monkeypatch.setattr(spec, "load", lambda path: parse(content, str(path)))
        return read_job(Path("job.yaml"), "bank")

    return {
        "party.yaml": lambda content: read_party(parse(content, "party.yaml")),
        "policy.yaml": lambda content: read_policy(parse(content, "policy.yaml")),
        "job.yaml": job,
    }


def met(reader: Callable[[bytes], Any], content: bytes, name: str) -> bool:
    """Whether it was refused. Any other error than FileError fails the test, and so does one without a place."""
    try:
        reader(content)
    except FileError as error:
        assert error.file is not None and name in error.file
        assert error.line is not None and 1 <= error.line <= content.count(b"\n") + 2
        assert error.message.startswith(f"{error.file}:{error.line}: ")
        assert len(error.message) < 600
        return True
    return False


@pytest.mark.parametrize("name", TEXTS)
def test_every_line_gone_doubled_or_last(name: str, read: dict[str, Callable[[bytes], Any]]) -> None:
    assert not met(read[name], TEXTS[name].encode(), name)
    lines = TEXTS[name].encode().splitlines(keepends=True)
    for at, line in enumerate(lines):
        met(read[name], b"".join(lines[:at] + lines[at + 1 :]), name)
        met(read[name], b"".join(lines[:at]), name)
        met(read[name], b"".join([*lines[:at], b"\t" + line, *lines[at + 1 :]]), name)
        if re.match(rb" *[a-z_.]+: +[^|]", line):  # a key and its value twice
            assert met(read[name], b"".join([*lines[: at + 1], *lines[at:]]), name), line


@pytest.mark.parametrize("name", TEXTS)
def test_an_odd_value_in_every_place(name: str, read: dict[str, Callable[[bytes], Any]]) -> None:
    content = TEXTS[name].encode()
    words = list(re.finditer(rb"[A-Za-z0-9_.,:\[\]{}\"'-]+", content))
    for number, word in enumerate(words):
        for odd in ODD[number % 4 :: 4]:  # each value at every fourth word: all of them everywhere take half a minute
            met(read[name], content[: word.start()] + odd + content[word.end() :], name)


@pytest.mark.parametrize("name", TEXTS)
def test_changed_bytes(name: str, read: dict[str, Callable[[bytes], Any]]) -> None:
    rng = random.Random(11)  # a fixed seed: the same bytes in every run
    refused = 0
    for _ in range(500):
        made = bytearray(TEXTS[name].encode())
        for _ in range(rng.choice((1, 2, 4))):
            at, kind = rng.randrange(len(made)), rng.randrange(3)
            if kind == 0:
                made[at] = rng.randrange(256)
            elif kind == 1:
                del made[at : at + rng.randrange(1, 9)]
            else:
                made[at:at] = rng.choice(ODD)
        refused += met(read[name], bytes(made), name)
    assert refused > 250


@pytest.mark.parametrize(
    ("name", "old", "new", "words"),
    [
        ("party.yaml", "listen:", "lisen:", ("lisen", "listen")),
        ("party.yaml", "normalise: phone", "normalize: phone", ("normalize", "normalise")),
        ("party.yaml", "nan: null", "nan: error", ("nan",)),
        ("party.yaml", "range: [0, 120]", "range: [120, 0]", ("range",)),
        ("party.yaml", "range: [0, 120]", "range: [0, .nan]", ("range",)),
        ("party.yaml", "name: bank", "name: both", ("name",)),
        ("policy.yaml", "approve: auto", "aprove: auto", ("aprove", "approve")),
        ("policy.yaml", "min_rows: 20", "min_rows: 0", ("min_rows", "1")),
        ("policy.yaml", "min_rows: 20", "min_rows: true", ("min_rows",)),
        ("policy.yaml", "min_rows: 20", "min_rows: 1.5", ("min_rows",)),
        ("policy.yaml", "[join]", "[joint]", ("joint", "join")),
        ("policy.yaml", "[join]", "&a [join]", ("anchors",)),
        ("policy.yaml", "[join]", "!!set [join]", ("tags",)),
        ("job.yaml", "analyse:", "analyze:", ("analyze", "analyse")),
        ("job.yaml", "learns: both", "learns: nobody", ("learns", "nobody")),
        ("job.yaml", "learns: both", "learnt: both", ("learnt", "learns")),
        ("job.yaml", "train:", "train: &a", ("anchors",)),
    ],
)
def test_the_error_names_the_place_and_the_nearest_word(
    name: str, old: str, new: str, words: tuple[str, ...], read: dict[str, Callable[[bytes], Any]]
) -> None:
    assert old in TEXTS[name]
    content = TEXTS[name].replace(old, new, 1)
    with pytest.raises(FileError) as caught:
        read[name](content.encode())
    told = f"{caught.value.message} {caught.value.hint}"
    assert all(word in told for word in words), told
    where = content[: content.index(new)].count("\n") + 1
    assert caught.value.line == where, (caught.value.line, where, told)


def test_too_large_not_text_or_no_file(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_bytes(TEXTS["job.yaml"].encode() + b"#" + b"x" * (limits.FILE_BYTES - len(TEXTS["job.yaml"].encode())))
    with pytest.raises(FileError, match="more than"):
        read_job(path, "bank")
    path.write_bytes(b"version: 1\nname: \xe9\n")
    with pytest.raises(FileError, match=r"job.yaml:2: not text in UTF-8"):
        read_job(path, "bank")
    for missing in (tmp_path, tmp_path / "none.yaml"):
        with pytest.raises(FileError, match=missing.name):
            load(missing)


def test_a_bomb_of_aliases_and_one_of_depth_are_refused_at_once() -> None:
    pairs = [(chr(97 + n), chr(98 + n)) for n in range(20)]
    bomb = "a: &a [x, x]\n" + "".join(f"{new}: &{new} [*{old}, *{old}]\n" for old, new in pairs)
    with pytest.raises(FileError, match="anchors"):
        parse(bomb, "job.yaml")
    for deep in ("[" * 400_000, "{a: " * 200_000, "- " * 400_000, "? " * 400_000):
        with pytest.raises(FileError):
            parse(f"a:\n {deep}", "job.yaml")


@pytest.mark.parametrize("name", ["party.yaml", "policy.yaml"])
def test_a_home_with_a_damaged_file_does_not_open(name: str, tmp_path: Path) -> None:
    home = Home.init(tmp_path / "bank", "bank")
    path = home.root / name
    whole = path.read_bytes()
    for content in (
        b"",
        b"[]",
        b"version: 2\n",
        b"\xff\xfe",
        b"version: 1\nversion: 1\n",
        whole + b"extra: 1\n",
        b"a: *b",
    ):
        path.write_bytes(content)
        with pytest.raises(FileError, match=re.escape(name)):
            Home.open(home.root)
    path.write_bytes(whole)
    assert Home.open(home.root).party.name == "bank"
