"""A whole run with metrics asked for: what each side is told, in its result, its report and its ledger."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from party.ledger import Ledger
from vfl import wanted

from .homes import Pair, expect, tally
from .small import JOB, make_stage, run_words

pytestmark = pytest.mark.alone

ASKED = "  metrics: {to: [bank], threshold: 0.3, brier: true, curves: true, psi: true, likelihood_ratio: true}\nscore:"


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Pair, str]:
    folder = tmp_path_factory.mktemp("metrics")
    stage = make_stage(folder, 3000)
    pair = Pair(folder / "bank", folder / "telco", stage.port)
    (pair.bank / "job.yaml").write_text(JOB.replace("score:", ASKED))
    with pair.served():
        run = expect(tally(pair.bank, *run_words(pair))).json["run"]
    stage.proxy.close()
    return pair, run


def _metrics(home: Path, run: str) -> dict[str, object]:
    found: dict[str, object] = json.loads((home / "state/runs" / run / "result.json").read_text())["model"]["metrics"]
    return found


def _opened(home: Path) -> set[tuple[str, str]]:
    ledger = Ledger.open(home / "state" / "ledger.db")
    try:
        return {(str(e.fields["what"]), str(e.fields["to"])) for e in ledger.events() if e.event == "disclosure"}
    finally:
        ledger.close()


def test_the_receiver_is_told_and_the_other_side_is_not(ran: tuple[Pair, str]) -> None:
    pair, run = ran
    told, silent = _metrics(pair.bank, run), _metrics(pair.telco, run)
    assert 0.5 < told["auc"] < 1 and 0 < told["brier"] < 0.25 and told["psi"] and told["likelihood_ratio"]
    assert told["by_score"] and told["confusion"]
    assert silent == {"auc": None, "ks": None, "log_loss": None} | {k: told[k] for k in ("n_train", "n_test")}


def test_nobody_opens_a_logit_for_metrics(ran: tuple[Pair, str]) -> None:
    pair, _ = ran
    asked = {wanted.METRICS, wanted.BRIER, wanted.CONFUSION, wanted.TABLE, wanted.STABILITY, wanted.LIKELIHOOD}
    assert {(name, "bank") for name in asked} <= _opened(pair.telco)
    assert not asked & {what for what, _ in _opened(pair.bank)}
    for home in (pair.bank, pair.telco):
        assert not any("logits of test rows" in what for what, _ in _opened(home))


def test_each_report_draws_what_its_side_received(ran: tuple[Pair, str]) -> None:
    pair, run = ran
    pages = []
    for home in (pair.bank, pair.telco):
        expect(tally(home, "report", run))
        pages.append((home / "state/runs" / run / "report.html").read_text())
    for name in ("ROC curve", "KS curve", "Calibration", "Coefficients"):
        assert f">{name}</title>" in pages[0]
        assert (f">{name}</title>" in pages[1]) == (name == "Coefficients")
    assert "balance" in pages[0] and "minutes" in pages[1] and "minutes" not in pages[0].split("Model</h2>")[1]
    assert all("<script" not in page for page in pages)
