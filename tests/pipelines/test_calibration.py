"""What `tally check` measures is what `tally plan` counts with; what cannot be read is as if it was not there."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from party.channel import Channel, memory_pair
from party.errors import PeerError
from party.home import Home
from pipelines import calibration
from pipelines.calibration import REFERENCE
from pipelines.link import Command, Link, Probe
from pipelines.predicted import predict
from pipelines.verbs_plan import plan_text
from tests.mpc.sqlkit import catalogues
from tests.pipelines.test_job_bytes import JOB
from tests.support import run_pair


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home.init(tmp_path / "bank", "bank")


def on(channel: Channel) -> Link:
    return Link(None, channel, None, None, None, None, 0.0)  # type: ignore[arg-type]


def measured(**other: Any) -> dict[str, Any]:
    return {
        "since": "2026-01-02T03:04:05+00:00",
        "kernels": calibration.kernels(),
        "transform": 1e-4,
        "multiplications": 1e4,
        "transfers": 1e5,
    } | other


LINK = {"since": "2026-01-03T03:04:05+00:00", "round_trip": 0.05, "bandwidth": 1e6}


def test_kernels_are_measured_in_little_time() -> None:
    began = time.monotonic()
    found = calibration.measure_kernels()
    assert all(found[name] > 0 for name in ("transform", "multiplications", "transfers"))
    assert time.monotonic() - began < 20  # a second where nothing else runs


def test_a_link_is_measured_by_probes_that_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "_PROBE_SECONDS", 0.05)
    ours, theirs = memory_pair()

    def serve() -> int:
        served = 0
        while theirs.recv(Command).verb == "probe":
            on(theirs).answer_probe()
            served += 1
        theirs.close()
        return served

    def ask() -> dict[str, Any]:
        found = calibration.measure_link(on(ours))
        on(ours).close()
        return found

    found, served = run_pair(ask, serve, ours, theirs)
    assert 0 < found["round_trip"] < 5 and found["bandwidth"] > 0 and served <= 8 + 24


def test_a_probe_that_comes_back_changed_is_the_peers_fault() -> None:
    ours, theirs = memory_pair()
    theirs.send(Probe(b"other"))
    with pytest.raises(PeerError):
        on(ours).probe(b"these")
    for channel in (ours, theirs):
        channel._transport.shutdown()


def test_what_is_kept_is_what_is_known(home: Home) -> None:
    assert calibration.known(home, "telco") == REFERENCE
    calibration.keep(home, measured())
    calibration.keep(home, LINK, "telco")
    found = calibration.known(home, "telco")
    assert (found.transform, found.multiplications, found.transfers) == (1e-4, 1e4, 1e5)
    assert (found.round_trip, found.bandwidth, found.since) == (0.05, 1e6, "2026-01-02T03:04:05+00:00")
    other = calibration.known(home, "another")
    assert (other.link_since, other.bandwidth, other.transform) == (None, REFERENCE.bandwidth, 1e-4)
    calibration.keep(home, measured(kernels="a kernel of last year"))
    assert calibration.known(home, "telco").transform == REFERENCE.transform
    assert (home.state / "calibration.json").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"\xff",
        b"null",
        b'{"machine": 1}',
        b'{"machine": {}}',
        b'{"peers": []}',
        b'{"peers": {"telco": {}}}',
        json.dumps({"machine": measured(transform=0)}).encode(),
        json.dumps({"machine": measured(transform=True)}).encode(),
        json.dumps({"machine": measured(transform="1")}).encode(),
        json.dumps({"machine": measured(since=5)}).encode(),
        b'{"machine": {"since": "x", "kernels": "k", "transform": NaN, "multiplications": 1, "transfers": 1}}',
        json.dumps({"peers": {"telco": LINK | {"bandwidth": -1}}}).encode(),
    ],
)
def test_a_damaged_file_is_as_none(home: Home, content: bytes) -> None:
    (home.state / "calibration.json").write_bytes(content)
    assert calibration.known(home, "telco") == REFERENCE
    calibration.keep(home, measured())
    assert calibration.known(home, "telco").since


@pytest.mark.parametrize(
    ("other", "slower"),
    [
        ({"multiplications": REFERENCE.multiplications / 100}, {"align"}),
        ({"transform": REFERENCE.transform * 100}, {"analyse", "train"}),
        ({"transfers": REFERENCE.transfers / 100}, {"analyse", "train"}),
        ({"bandwidth": REFERENCE.bandwidth / 100}, {"align", "analyse", "train", "score"}),
        ({"round_trip": 0.1}, {"align", "analyse", "train", "score"}),
    ],
    ids=["curve", "transform", "transfers", "bandwidth", "round trip"],
)
def test_a_slower_part_makes_the_stages_that_need_it_longer(other: dict[str, float], slower: set[str]) -> None:
    both = catalogues(100_000)
    before, after = predict(JOB, both), predict(JOB, both, replace(REFERENCE, **other))  # type: ignore[arg-type]
    assert {stage for stage in before if after[stage]["seconds"] > 1.01 * before[stage]["seconds"]} == slower
    assert all(after[stage]["bytes"] == before[stage]["bytes"] > 0 for stage in before)


def test_a_plan_says_since_when_its_figures_are_known() -> None:
    result = {
        "job": "j",
        "peer": "telco",
        "stages": ["align"],
        "explain": [],
        "steps": [
            {"query": "q", "step": "1 product", "who": "telco", "rounds": 1, "bytes": 81_962, "seconds": 0.25},
        ],
        "predicted": {"align": {"seconds": 1.25, "bytes": 1_000_000}},
        "calibrated": {"machine": "2026-01-02T03:04:05+00:00", "link": None},
        "missing": {},
        "patch": {},
    }
    text = plan_text(result)
    assert "align about 1.2 s, 1.0 MB" in text and "as measured 2026-01-02T03:04:05" in text
    assert "`tally check telco`" in text
    assert any("1 product" in line and "81,962" in line and "0.250" in line for line in text.splitlines())
