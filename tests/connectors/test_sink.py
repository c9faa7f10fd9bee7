"""Sinks: all or nothing, synced, receipts that tell the truth, and nothing of the owner's overwritten."""

from __future__ import annotations

import hashlib
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from connectors import Receipt, open_sink, open_source
from party.errors import InternalError, UsageError
from tests.connectors.conformance import SAMPLE

SCHEMES = ("csv", "parquet")


@contextmanager
def little_room(size: int) -> Iterator[None]:
    """No file of this process grows beyond this: what a full disk looks like from inside."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("scheme", SCHEMES)
def test_what_is_written_is_read_back_and_the_receipt_is_true(tmp_path: Path, scheme: str) -> None:
    receipt = open_sink(f"{scheme}:results/job/out", tmp_path).write(SAMPLE)
    data = (tmp_path / "results/job/out").read_bytes()
    assert receipt == Receipt("results/job/out", 6, hashlib.sha256(data).hexdigest(), len(data))
    source = open_source(f"{scheme}:results/job/out", tmp_path, {}, ["id"])
    read = source.read(SAMPLE.column_names)
    assert read.equals(SAMPLE.cast(read.schema))
    assert os.stat(tmp_path / "results/job/out").st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path / "results/job") == ["out"]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_stream_is_written_batch_by_batch(tmp_path: Path, scheme: str) -> None:
    reader = pa.RecordBatchReader.from_batches(SAMPLE.schema, SAMPLE.to_batches(max_chunksize=2))
    assert open_sink(f"{scheme}:out", tmp_path).write(reader).rows == 6


def test_a_table_without_rows_has_its_header(tmp_path: Path) -> None:
    assert open_sink("csv:out.csv", tmp_path).write(SAMPLE.slice(0, 0).select(["id", "n"])).rows == 0
    assert (tmp_path / "out.csv").read_text() == '"id","n"\n'


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_full_disk_leaves_nothing_behind(tmp_path: Path, scheme: str) -> None:
    noise = np.random.default_rng(1).integers(0, 2**62, 200_000)
    table = pa.table({"n": noise})
    sink = open_sink(f"{scheme}:out", tmp_path)
    with little_room(100_000), pytest.raises(InternalError, match="no space left"):
        sink.write(table)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_full_disk_leaves_the_earlier_result(tmp_path: Path, scheme: str) -> None:
    sink = open_sink(f"{scheme}:out", tmp_path)
    first = sink.write(SAMPLE)
    before = (tmp_path / "out").read_bytes()
    table = pa.table({"n": np.random.default_rng(1).integers(0, 2**62, 200_000)})
    with little_room(100_000), pytest.raises(InternalError):
        sink.write(table, first)
    assert (tmp_path / "out").read_bytes() == before
    assert os.listdir(tmp_path) == ["out"]


def test_rows_that_cannot_be_written_leave_nothing(tmp_path: Path) -> None:
    def broken() -> Iterator[pa.RecordBatch]:
        yield SAMPLE.to_batches()[0]
        raise pa.ArrowInvalid("a secret value")

    reader = pa.RecordBatchReader.from_batches(SAMPLE.schema, broken())
    with pytest.raises(InternalError) as caught:
        open_sink("csv:out.csv", tmp_path).write(reader)
    assert "secret" not in str(caught.value)
    assert os.listdir(tmp_path) == []


def test_only_our_own_unchanged_file_is_replaced(tmp_path: Path) -> None:
    sink = open_sink("csv:out.csv", tmp_path)
    receipt = sink.write(SAMPLE)
    with pytest.raises(UsageError, match="not written by this job"):
        sink.check()
    with pytest.raises(UsageError, match="not written by this job"):
        sink.write(SAMPLE.slice(1))
    second = sink.write(SAMPLE.slice(1), receipt)
    with pytest.raises(UsageError, match="changed since"):
        sink.check(receipt)
    with pytest.raises(UsageError, match="changed since"):
        open_sink("csv:out.csv", tmp_path).check(Receipt("other.csv", second.rows, second.sha256, second.bytes))
    sink.check(second)


def test_a_file_that_appears_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    def slow() -> Iterator[pa.RecordBatch]:
        (tmp_path / "out.csv").write_text("somebody else's")
        yield SAMPLE.to_batches()[0]

    with pytest.raises(InternalError, match="appeared"):
        open_sink("csv:out.csv", tmp_path).write(pa.RecordBatchReader.from_batches(SAMPLE.schema, slow()))
    assert (tmp_path / "out.csv").read_text() == "somebody else's"
    assert os.listdir(tmp_path) == ["out.csv"]


@pytest.mark.parametrize(
    "path",
    ["party.yaml", "policy.yaml", "POLICY.yaml", "keys/x", "state/ledger.db", "results/../keys/x", "link/x", "keys"],
)
def test_the_owners_own_files_are_never_written(tmp_path: Path, path: str) -> None:
    (tmp_path / "keys").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "keys")
    for inside in (True, False):
        with pytest.raises(UsageError, match=r"over party\.yaml"):
            open_sink(f"csv:{path}", tmp_path, inside)
    with pytest.raises(UsageError, match=r"over party\.yaml"):
        open_sink(f"csv:{tmp_path / path}", tmp_path, inside=False)


def test_results_stay_inside_the_home_folder(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "out").symlink_to(tmp_path)
    for path in ("../x.csv", "out/x.csv", str(tmp_path / "x.csv"), "results/../../x.csv"):
        with pytest.raises(UsageError, match="leaves the home folder"):
            open_sink(f"csv:{path}", home)
    assert open_sink(f"csv:{tmp_path / 'x.csv'}", home, inside=False).write(SAMPLE).rows == 6


def test_a_link_or_a_folder_in_the_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "party.yaml").write_text("version: 1")
    (tmp_path / "link.csv").symlink_to(tmp_path / "party.yaml")
    (tmp_path / "folder.csv").mkdir()
    for name in ("link.csv", "folder.csv"):
        with pytest.raises(UsageError, match="not a plain file"):
            open_sink(f"csv:{name}", tmp_path).write(SAMPLE)
    assert (tmp_path / "party.yaml").read_text() == "version: 1"


@pytest.mark.parametrize("url", ["csv", "csv:", "out.csv", ":x", "c sv:x", "csv:a\nb"])
def test_a_bad_url_is_a_usage_error(tmp_path: Path, url: str) -> None:
    for opener in (open_sink, open_source):
        with pytest.raises(UsageError) as caught:
            opener(url, tmp_path)
        assert caught.value.exit_code == 2


def test_an_unknown_scheme_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no connector for parqet:") as caught:
        open_source("parqet:x", tmp_path)
    assert caught.value.hint == "did you mean parquet:?"
