"""The verbs that only look, through the installed command: check, tables, plan, runs, show, report, cancel, trust."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.homes import expect, tally
from tests.e2e.test_schedule import small_pair

pytestmark = pytest.mark.timeout(200)


def test_looking_verbs_answer_with_the_keys_of_the_contract(tmp_path: Path) -> None:
    pair = small_pair(tmp_path)
    job = str(pair.bank / "job.yaml")
    assert tally(pair.bank, "plan", job, "--offline", "--json").code == 2  # nothing is known of the peer yet
    with pair.served():
        checked = expect(tally(pair.bank, "check", "telco", "--json")).json
        assert {line["check"] for line in checked["checks"]} >= {
            "reach",
            "version",
            "clock",
            "policy",
            "kernels",
            "ledger",
            "speed",
            "link",
        }
        assert all(line["ok"] for line in checked["checks"])
        (theirs,) = expect(tally(pair.bank, "tables", "telco", "--json")).json["tables"]
        assert {column["name"]: column["grants"] for column in theirs["columns"]} == {
            "id": ["join"],
            "w": ["aggregate"],
        }
        online = expect(tally(pair.bank, "plan", job, "--json")).json
        # before the run: after it the history of the alignment is part of a plan
        offline = expect(tally(pair.bank, "plan", job, "--offline", "--json")).json
        result = expect(tally(pair.bank, "run", job, "--direct", "--json")).json
    assert online == offline and online["missing"] == {"bank": [], "telco": []} and online["explain"]
    assert online["predicted"]["align"]["bytes"] > 0
    assert all(online["calibrated"].values())  # the check above measured our kernels and this link
    (listed,) = expect(tally(pair.bank, "runs", "--json")).json
    assert listed["run"] == result["run"] and listed["status"] == "done"
    assert expect(tally(pair.bank, "show", result["run"], "--json")).json["result"]["rows"] == 200
    for home in (pair.bank, pair.telco):
        page = Path(expect(tally(home, "report", result["run"], "--json")).json["report"]).read_text()
        assert result["run"] in page and "<script" not in page and "http" not in page
    assert tally(pair.bank, "cancel", result["run"]).code == 2  # it is done
    (ours,) = expect(tally(pair.bank, "tables", "--json")).json["tables"]
    assert ours["rows"] == 300 and ours["key"] == [["id"]]


def test_homes_and_cards_are_never_overwritten(tmp_path: Path) -> None:
    pair = small_pair(tmp_path)
    assert tally(pair.bank, "init", "bank").code == 2
    before = (pair.bank / "party.yaml").read_bytes()
    other = tmp_path / "other"
    expect(tally(other, "init", "telco"))
    (tmp_path / "other.card").write_text(expect(tally(other, "card")).stdout)
    assert tally(pair.bank, "trust", str(tmp_path / "other.card")).code == 2  # a second card of one name
    assert (pair.bank / "party.yaml").read_bytes() == before
    expect(tally(pair.bank, "trust", str(tmp_path / "other.card"), "--replace"))
    expect(tally(pair.bank, "untrust", "telco"))
    assert tally(pair.bank, "run", str(pair.bank / "job.yaml"), "--direct").code == 2


def test_a_query_does_not_pay_for_what_it_does_not_use() -> None:
    heavy = "[name for name in ('prefect', 'sklearn', 'pandas') if name in sys.modules]"
    code = f"import sys, pipelines.cli, pipelines.verbs_run, pipelines.execute; print({heavy})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_pyarrow_does_not_bring_pandas_into_a_process_of_ours_and_a_library_user_keeps_it() -> None:
    array = "import pyarrow, sys; pyarrow.scalar(1); print('pandas' in sys.modules, pyarrow.table({'a': [1]}).shape)"
    for begun, there in (("", True), ("from pipelines import lean; lean.refuse_pandas(); ", False)):
        done = subprocess.run([sys.executable, "-c", begun + array], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == f"{there} (1, 1)"
