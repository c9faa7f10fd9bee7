"""A registered schedule really executes at its time, through the installed command; its server dies with it."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import pytest

from tests.e2e.homes import Pair, alive, descendants, expect, make_pair, start, tally, wait_until

pytestmark = pytest.mark.timeout(400)

JOB = """version: 1
name: nightly
peer: telco
align: {bank: customers, telco: subscribers, learns: both}
analyse:
  - name: totals
    sql: SELECT COUNT(*) AS n, SUM(b.v * t.w) AS s FROM bank.customers b JOIN telco.subscribers t ON b.id = t.id
"""


def table(folder: Path, party: str, name: str, value: str, ids: range) -> tuple[str, str]:
    (folder / f"{name}.csv").write_text(f"id,{value}\n" + "".join(f"k{i},{i % 7}\n" for i in ids))
    column = f"columns: {{{value}: {{type: integer, range: [0, 10]}}}}"
    policy = f"alignment: rows\nmin_size: 10\nmin_rows: 5\napprove: auto\ncolumns:\n  {name}.id: [join]\n"
    return (
        f"{name}:\n  url: csv:{folder / name}.csv\n  key: [id]\n  {column}\n",
        f"{policy}  {name}.{value}: [aggregate]\n",
    )


def small_pair(folder: Path) -> Pair:
    bank = table(folder, "bank", "customers", "v", range(0, 300))
    pair = make_pair(folder, bank, table(folder, "telco", "subscribers", "w", range(100, 400)))
    (pair.bank / "job.yaml").write_text(JOB)
    return pair


def test_a_schedule_executes_at_its_time_and_leaves_nothing_running(tmp_path: Path) -> None:
    pair = small_pair(tmp_path)
    added = expect(tally(pair.bank, "schedule", str(pair.bank / "job.yaml"), "--cron", "* * * * *", "--json")).json
    assert len(added["next"]) == 3 and "scheduler" in added["start_with"]
    with pair.served():
        scheduler = start(pair.bank, "scheduler")
        try:
            assert scheduler.stdout is not None
            assert scheduler.stdout.readline().startswith("ready scheduler http://127.0.0.1:")
            assert tally(pair.bank, "schedule", "--list", "--json").json[0]["name"] == "nightly"

            def ran() -> bool:
                return any(run["status"] == "done" for run in tally(pair.bank, "runs", "--json").json)

            wait_until(ran, 150, "a scheduled run is done")
            done = [run for run in tally(pair.bank, "runs", "--json").json if run["status"] == "done"]
            result = json.loads((pair.bank / "state/runs" / done[-1]["run"] / "result.json").read_text())
            shared = range(100, 300)
            assert result["queries"]["totals"] == [{"n": 200, "s": sum((i % 7) ** 2 for i in shared)}]
            assert done[-1]["run"].startswith("flow-")
            began = time.gmtime(done[-1]["started"])
            assert began.tm_sec < 50, "it fires at the full minute"
            below = descendants(scheduler.pid)
            assert below, "the server is the scheduler's child"
        finally:
            scheduler.send_signal(signal.SIGINT)
            code = scheduler.wait(30)
            scheduler.stdout.close()
            scheduler.stderr.close()
    assert code == 0
    wait_until(lambda: not any(map(alive, below)), 10, "the server has ended")
    expect(tally(pair.bank, "schedule", "--remove", "nightly"))
    assert tally(pair.bank, "schedule", "--list", "--json").json == []


@pytest.mark.slow
def test_a_killed_scheduler_leaves_no_server(tmp_path: Path) -> None:
    pair = small_pair(tmp_path)
    scheduler = start(pair.bank, "scheduler")
    try:
        assert scheduler.stdout is not None and scheduler.stdout.readline().startswith("ready scheduler")
        below = descendants(scheduler.pid)
        assert below
    finally:
        scheduler.kill()
        scheduler.wait()
        scheduler.stdout.close()
        scheduler.stderr.close()
    wait_until(lambda: not any(map(alive, below)), 10, "the server has died with its parent")


def test_bad_schedules_are_refused_and_leave_nothing(tmp_path: Path) -> None:
    pair = small_pair(tmp_path)
    job = str(pair.bank / "job.yaml")
    for words in (["--cron", "61 * * * *"], ["--cron", "* * *"], ["--cron", "0 0 31 2 *"], []):
        assert tally(pair.bank, "schedule", job, *words).code == 2
    assert tally(pair.bank, "schedule", job, "--cron", "0 6 * * *", "--timezone", "Nowhere/Land").code == 2
    assert tally(pair.bank, "schedule", "--remove", "nobody").code == 2
    assert not list((pair.bank / "state").glob("schedules/*"))
