"""CSV sources: the conformance suite, and what is special to text files."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest

from connectors import Declared, open_source
from connectors.csv_file import _Checked
from party.errors import DataError, FileError
from tests.connectors.conformance import SourceConformance


class TestCsvSource(SourceConformance):
    def put(self, folder: Path, table: pa.Table) -> str:
        pyarrow.csv.write_csv(table, folder / "table.csv")
        return "csv:table.csv"


def read(folder: Path, data: bytes, **kinds: Declared) -> list[dict[str, object]]:
    (folder / "t.csv").write_bytes(data)
    source = open_source("csv:t.csv", folder, kinds)
    return source.read([field.name for field in source.schema()]).to_pylist()


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"a,b\n1,2\n3\n", "row 2 has 1 fields, the header 2"),
        (b"a,b\n1,2,3\n", "row 1 has 3 fields, the header 2"),
        (b'a,b\n1,"2\n3,4\n', "never closed"),
        (b'a,b\n1,"', "never closed"),
        (b'a,b\n1,x"2"\n', "line 2 has a quote in the wrong place"),
        (b'a,b\n1,2\n1,"2"x\n', "line 3 has a quote in the wrong place"),
        (b'a,b\n1,"2" \n', "line 2 has a quote in the wrong place"),
        (b"a,b\n1,\xff\xfe\n", "line 2 is not valid UTF-8"),
        (b"a,b\n1,caf\xc3", "not valid UTF-8"),
        (b"a,b\n1,x\x00y\n", "line 2 holds a NUL"),
        (b"", "is empty"),
        (b"\xef\xbb\xbf\n", "is empty"),
        (b"a,b,a\n1,2,3\n", "column 'a' occurs more than once"),
        (b"a,,c\n1,2,3\n", "column 2 of the header has no name"),
        (b"a;b\n1;2\n", "not separated by commas"),
        (b"\xff\xfea\x00,\x00b\x00", "UTF-16"),
    ],
)
def test_malformed_files_are_refused(tmp_path: Path, data: bytes, what: str) -> None:
    with pytest.raises(DataError, match=what) as caught:
        read(tmp_path, data)
    assert caught.value.exit_code == 6


def test_no_error_repeats_what_the_file_holds(tmp_path: Path) -> None:
    for data in (b"a,b\n1,2\nsecret-value\n", b'a,b\n1,secret-value"x\n', b"a,b\nsecret-value,\xff\n"):
        with pytest.raises(DataError) as caught:
            read(tmp_path, data)
        assert "secret-value" not in str(caught.value) + str(caught.value.hint) + str(caught.value.__context__)


@pytest.mark.parametrize(
    ("data", "rows"),
    [
        (b"\xef\xbb\xbfa,b\n1,x\n", [{"a": 1, "b": "x"}]),
        (b'\xef\xbb\xbf"a","b"\r\n"1","x"\r\n', [{"a": 1, "b": "x"}]),
        (b'a,b\n1,""\n2,\n', [{"a": 1, "b": ""}, {"a": 2, "b": None}]),
        (b'a,b\n1,"x ""y"" z"\n2,""""\n', [{"a": 1, "b": 'x "y" z'}, {"a": 2, "b": '"'}]),
        (b'a,b\n3,"p\nq"', [{"a": 3, "b": "p\nq"}]),
        (b"a,b\n\n1,x\n\n", [{"a": 1, "b": "x"}]),
        (b"a\n1\n\n3\n", [{"a": 1}, {"a": None}, {"a": 3}]),
        (b"a,b", []),
        (b"a,b\n", []),
    ],
)
def test_well_formed_files_are_read(tmp_path: Path, data: bytes, rows: list[dict[str, object]]) -> None:
    assert read(tmp_path, data) == rows


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["1", "02"], "string"),
        (["1", "+2"], "string"),
        (["1", "-20"], "integer"),
        (["1", "2.50"], "decimal(18,2)"),
        (["1", "2.1234567"], "float"),
        (["1e3", "2"], "float"),
        (["1", "1234567890123456789012"], "float"),
        (["1", "1e999"], "string"),
        (["true", "FALSE"], "bool"),
        (["1", "true"], "string"),
        (["2020-01-01"], "date"),
        (["2020-13-01"], "string"),
        (["2020-01-01 10:11"], "timestamp"),
        (["nan", "1"], "string"),
        (["", ""], "string"),
    ],
)
def test_inference_takes_a_type_only_when_every_value_agrees(tmp_path: Path, values: list[str], kind: str) -> None:
    (tmp_path / "t.csv").write_text("k,v\n" + "".join(f"x,{value}\n" for value in values))
    assert open_source("csv:t.csv", tmp_path).schema()[1].kind.text() == kind


def test_inference_reads_to_the_last_row(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("k,v\n" + "x,1\n" * 400_000 + "x,1.5\n")
    source = open_source("csv:t.csv", tmp_path)
    assert source.schema()[1].kind.text() == "decimal(18,1)"
    assert source.rows() == 400_001


@pytest.mark.parametrize("cut", range(1, 34))
def test_quotes_are_judged_alike_wherever_blocks_are_cut(cut: int) -> None:
    good = b'a,"b ""c"" d"\n"","x\ny",""""\n"z"'
    for data, fault in ((good, False), (good.replace(b'"z"', b'"z"z'), True), (good.replace(b'a,"b', b'a"b,"'), True)):
        checked = _Checked(io.BytesIO(), "t")
        try:
            checked.check(data[:cut])
            checked.check(data[cut:])
            checked.check(b"", last=True)
        except DataError:
            assert fault
        else:
            assert not fault


def test_a_folder_and_an_unreadable_url_are_file_errors(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(FileError, match="is not a file"):
        open_source("csv:folder", tmp_path).rows()


def quoted_as_rfc_4180_has_it(data: bytes) -> bool:
    """The plain twin of the check: one state a byte."""
    state = "start"
    for byte in data.decode():
        separator = byte in ",\n\r"
        if state in ("start", "text"):
            if byte == '"' and state == "text":
                return False
            state = "quoted" if byte == '"' else "start" if separator else "text"
        elif state == "quoted":
            state = "closed" if byte == '"' else "quoted"
        elif byte != '"' and not separator:
            return False
        else:
            state = "quoted" if byte == '"' else "start"
    return state != "quoted"


def test_the_quote_check_agrees_with_its_plain_twin() -> None:
    random = np.random.default_rng(4180)
    good = 0
    for _ in range(8000):
        data = bytes(random.choice(list(b'"",\na'), random.integers(1, 9)).tolist())
        cuts = sorted(random.integers(0, len(data) + 1, 2).tolist())
        checked = _Checked(io.BytesIO(), "t")
        fits = True
        try:
            for part in (data[: cuts[0]], data[cuts[0] : cuts[1]], data[cuts[1] :]):
                checked.check(part)
            checked.check(b"", last=True)
        except DataError:
            fits = False
        assert fits == quoted_as_rfc_4180_has_it(data), (data, cuts)
        good += fits
    assert 2000 < good < 6000
