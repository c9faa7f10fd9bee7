"""After a whole run no file of either side, nor anything it printed, holds a value that only the other side has.

One exception: the declared `domain` of a column with the grant `group` (here `plan` and `region`). Its owner publishes
it in the catalogue and the job's GROUP BY answers with it, so it stands in the peer's result by agreement. Logs,
temporary files and Prefect's database must not hold even these.
"""

from __future__ import annotations

import base64
import hashlib
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import phonenumbers
import pyarrow.csv as arrow_csv
import pyarrow.parquet as pq
import pytest

from pipelines.demo_data import BANK, TELCO

from .homes import Pair, expect, tally
from .small import make_stage, run_words

pytestmark = pytest.mark.alone
LEAST = 6
AGREED = {
    value
    for table in (BANK, TELCO)
    for column, spec in table.columns.items()
    if "group" in table.grants[column]
    for value in spec.get("domain", ())
}


def values(home: Path) -> set[str]:
    """Every value of a table as text, with at least six characters; phones also as E.164."""
    file = next((home / "data").iterdir())
    if file.suffix == ".csv":  # as the file spells them
        options = arrow_csv.ConvertOptions(
            column_types=dict.fromkeys(file.read_text().splitlines()[0].replace('"', "").split(","), "string")
        )
        table = arrow_csv.read_csv(file, convert_options=options)
    else:
        table = pq.read_table(file)
    found: set[str] = set()
    for name in table.column_names:
        texts = {str(value) for value in table.column(name).to_pylist() if value is not None}
        found |= texts
        if name in ("phone", "msisdn"):
            for text in texts:
                try:
                    number = phonenumbers.parse(text, "GB")
                except phonenumbers.NumberParseException:
                    continue
                found.add(phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164))
                found.add(str(number.national_number))
    return {value for value in found if len(value) >= LEAST}


def spellings(value: str) -> Iterator[bytes]:
    """What a value could look like in a file: raw, hex, base64 at each alignment, its plain SHA-256."""
    raw = value.encode()
    yield raw
    yield raw.hex().encode()
    yield from (piece for piece in aligned_base64(raw) if len(piece) >= LEAST)
    digest = hashlib.sha256(raw).digest()
    yield digest
    yield digest.hex().encode()
    yield from aligned_base64(digest)


def aligned_base64(raw: bytes) -> Iterator[bytes]:
    """The characters of base64 that depend on these bytes alone, at the three places in a group."""
    for shift in range(3):
        whole = base64.b64encode(bytes(shift) + raw + bytes(3))
        yield whole[-(-8 * shift // 6) : (8 * (shift + len(raw))) // 6]


@dataclass
class Scan:
    """Needles, ordered so that a file is read once: by their first six bytes."""

    needles: dict[bytes, list[tuple[bytes, str]]]

    @classmethod
    def of(cls, wanted: Iterable[str]) -> Scan:
        needles: dict[bytes, list[tuple[bytes, str]]] = {}
        for value in wanted:
            for spelled in spellings(value):
                needles.setdefault(spelled[:LEAST], []).append((spelled, value))
        return cls(needles)

    def hits(self, content: bytes) -> set[str]:
        found = set()
        for place in range(len(content) - LEAST + 1):
            for spelled, value in self.needles.get(content[place : place + LEAST], ()):
                if content.startswith(spelled, place):
                    found.add(value)
        return found


def files(*folders: Path) -> Iterator[Path]:
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and not path.is_symlink():
                yield path


def assert_clean(scan: Scan, folders: Iterable[Path]) -> int:
    """No file below has a hit; returns how many bytes were looked at."""
    seen = 0
    for path in files(*folders):
        content = path.read_bytes()
        seen += len(content)
        assert not scan.hits(content), f"{path.name} has values it must not have"
    return seen


@dataclass
class Ran:
    """A finished run and all that it left."""

    pair: Pair
    prefect: bool
    logs: Path
    temporary: dict[str, Path]


def run(folder: Path, *, prefect: bool) -> Ran:
    stage = make_stage(folder, rows=300)
    pair = stage.copy(folder / "homes")
    logs = folder / "logs"
    logs.mkdir()
    temporary = {name: folder / f"tmp-{name}" for name in ("bank", "telco")}
    for path in temporary.values():
        path.mkdir()
    with pair.served(TMPDIR=str(temporary["telco"])) as serve:
        words = [word for word in run_words(pair) if not (prefect and word == "--direct")]
        answer = expect(tally(pair.bank, *words, TMPDIR=str(temporary["bank"])))
        expect(tally(pair.bank, "report", answer.json["run"]))
        serve.terminate()
        serve.wait(10)
        (logs / "telco").write_text(serve.stdout.read() + serve.stderr.read())
    (logs / "bank").write_text(answer.stderr)
    stage.proxy.close()
    return Ran(pair, prefect, logs, temporary)


@pytest.fixture(scope="module", params=[False, pytest.param(True, marks=pytest.mark.slow)], ids=["direct", "prefect"])
def ran(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    return run(tmp_path_factory.mktemp("leaks"), prefect=request.param)


def test_nobody_keeps_values_of_the_other_side(ran: Ran) -> None:
    own = {home.name: values(home) for home in (ran.pair.bank, ran.pair.telco)}
    for us, them in (("bank", "telco"), ("telco", "bank")):
        only_theirs = own[them] - own[us] - AGREED
        assert len(only_theirs) > 300
        home = ran.pair.bank if us == "bank" else ran.pair.telco
        scan = Scan.of(only_theirs)
        assert assert_clean(scan, [home / "state", home / "results", ran.temporary[us]]) > 10_000
        assert not scan.hits((ran.logs / us).read_bytes())


def test_prefect_and_the_logs_have_values_of_nobody(ran: Ran) -> None:
    scan = Scan.of(values(ran.pair.bank) | values(ran.pair.telco))
    assert AGREED & {value for found in scan.needles.values() for _, value in found}
    if ran.prefect:
        assert list((ran.pair.bank / "state" / "prefect").glob("*.db")), "no database to look at"
    assert_clean(scan, [ran.logs, *ran.temporary.values(), ran.pair.bank / "state" / "prefect"])


@pytest.mark.parametrize("place", range(6))
def test_a_planted_value_is_found(ran: Ran, tmp_path: Path, place: int) -> None:
    value = sorted(values(ran.pair.telco) - values(ran.pair.bank))[17]
    shutil.copytree(ran.pair.bank / "state" / "runs", tmp_path / "runs")
    base64_of = base64.b64encode(b"ab" + value.encode() + b"cde")
    planted = [*list(spellings(value))[:2], base64_of, *list(spellings(value))[-5:-2]][place]
    victim = next(path for path in files(tmp_path) if path.name == "status.json")
    victim.write_bytes(victim.read_bytes() + b"\x00" + planted + b"\x00")
    with pytest.raises(AssertionError, match=r"status\.json has values"):
        assert_clean(Scan.of([value]), [tmp_path])
