"""The job of the how-to on preparing features runs under the policies of its page."""

from __future__ import annotations

import shutil
from pathlib import Path

from pipelines.demo_data import BANK, TELCO, make_tables
from tests.docs.pages import DOCS, blocks
from tests.e2e.homes import write_tables
from tests.e2e.small import declared
from tests.pipelines.two_homes import TwoHomes


def test_the_job_of_the_page_runs_under_its_policies(tmp_path: Path) -> None:
    shown = {block.told: block.text for block in blocks(DOCS / "how-to/prepare-features.md")}
    world = TwoHomes(tmp_path)
    made = make_tables(tmp_path / "made", 900, 1200)
    for table, path in ((BANK, made.bank), (TELCO, made.telco)):
        home = world.homes[table.party]
        place = home / table.url.partition(":")[2]
        place.parent.mkdir(exist_ok=True)
        shutil.copy(path, place)
        write_tables(home, declared(table)[0])
        (home / "policy.yaml").write_text(shown[f"file: {table.party}/policy.yaml"])
    run = world.run(shown["file: bank/risk.yaml"].replace("  prepare:", "  max_passes: 3\n  prepare:", 1))
    names = set(run["model"]["coefficients"])
    assert {"balance", "income", "age"} < names
    assert any(name.startswith("region=") for name in names)
    told = world.result("telco", run["run"])["model"]["coefficients"]
    assert {"minutes", "tenure:woe", "plan:woe"} < set(told)
    assert any(name.startswith("late_bills=") for name in told)
