"""What people see of a run: result JSON, text, report, progress. A peer's or a table's words stay words."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from party.catalogue import Column
from party.home import Home
from party.ledger import Ledger
from pipelines import results, verbs_home, verbs_run
from pipelines.progress import Progress
from pipelines.report import write_report
from pipelines.runs import RunState, list_runs, new_run_id

EVIL = '<script>alert("x")</script>'
RESULT: dict[str, Any] = {
    "run": "r",
    "job": "j",
    "status": "done",
    "rows": 200,
    "queries": {"by_plan": [{"plan": EVIL, EVIL: 1, "n": None}, {"plan": "a&b'c\"", EVIL: 2, "n": "1.50"}]},
    "statistics": {
        "s": {
            "sum": "12.50",
            "mean": {EVIL: 1.0, "b": None},
            "correlation": {"columns": [EVIL, "b"], "matrix": [[1.0, None], [None, 1.0]]},
            "woe": {
                "columns": ["column", "iv", "complete"],
                "rows": [[EVIL, 0.123456789, False]],
                "details": {"columns": ["bin", "rows_0"], "rows": [[EVIL, None], [None, 7]]},
            },
        }
    },
    "suppressed_groups": {"by_plan": 2},
    "columns": {"by_plan": ["plan", EVIL, "n"]},
    "model": {
        "id": "m",
        "metrics": {"auc": None, "ks": None, "log_loss": 0.5, "n_train": 3, "n_test": 0},
        "coefficients": {EVIL: 0.25},
        "intercept": None,
    },
    "scores": {"path": EVIL, "rows": 3},
    "timings": {"connect": 0.1, "align": 1.0},
    "bytes": {"sent": 10, "received": 20},
    "details": {
        "stages": [{"stage": EVIL, "seconds": 1.0, "sent": 1, "received": 2, "rounds": 1}],
        "kernels": EVIL,
        "alignment": {},
    },
}


class Page(HTMLParser):
    """The elements of a page, and its text."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.links: list[str] = []
        self.text = ""
        self.feed(content)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.links += [value or "" for name, value in attrs if name in ("href", "src") or name.startswith("on")]

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home.init(tmp_path / "bank", "bank")


def kept(home: Home, result: dict[str, Any] | None, **status: Any) -> RunState:
    state = RunState(home.state / "runs", new_run_id())
    state.create(digest="ab" * 32, job=EVIL, peer="telco", ours=True)
    state.update(**({"status": "done", "ended": 2e9, "started": 1.9e9} | status))
    if result is not None:
        state.put_json("result", result)
    ledger = Ledger.open(home.state / "ledger.db")
    ledger.append("disclosure", run=state.run, what=f"query.q.{EVIL}.count", to="telco", rows=3)
    ledger.close()
    return state


def test_no_word_of_a_result_becomes_markup_in_the_report(home: Home) -> None:
    page = Page(write_report(home, kept(home, RESULT)).read_text())
    assert "script" not in page.tags and not page.links
    assert page.text.count(EVIL) >= 10  # it is there, as text
    assert "a&b'c\"" in page.text and "1.50" in page.text


def test_a_run_that_failed_has_a_report_too(home: Home) -> None:
    error = {"code": "data", "party": "telco", "stage": "align", "message": EVIL, "hint": EVIL}
    page = Page(write_report(home, kept(home, None, status="failed", error=error)).read_text())
    assert "script" not in page.tags and page.text.count(EVIL) >= 3


def test_the_text_of_a_result_stands_on_lines_of_its_own() -> None:
    wild = json.loads(json.dumps(RESULT).replace(json.dumps(EVIL)[1:-1], "\\u001b[31mx\\r\\ny"))
    text = results.text(wild)
    assert all(letter.isprintable() or letter == "\n" for letter in text)
    assert "auc NULL" in text and "log_loss 0.5" in text
    assert "0.123457" in text and "complete" in text
    # two rows of a query stay two lines
    table = results.table_text(["plan"], [{"plan": "a\nb"}, {"plan": "c"}])
    assert len(table.splitlines()) == 3


def test_numbers_stand_to_the_right_and_keep_their_whole_part() -> None:
    rows = [{"plan": "basic", "n": 5, "s": "12.50", "a": 1234567.891}, {"plan": "x", "n": None, "s": "-3.25", "a": 0.5}]
    assert results.table_text(["plan", "n", "s", "a"], rows).split("\n") == [
        "plan      n      s           a",
        "basic     5  12.50  1234567.89",
        "x      NULL  -3.25         0.5",
    ]


def test_what_null_may_mean_is_said_only_where_there_is_one() -> None:
    assert "a number that fewer than the minimum of rows entered" in str(results.null_text([{"n": None}]))
    assert results.null_text([{"n": 0, "s": ""}]) is None
    text = verbs_run.query_text({"columns": ["n"], "rows": [{"n": None}], "suppressed_groups": 0})
    assert text.startswith("   n\nNULL\n(") or text.startswith("n\nNULL\n(")


def test_what_a_peer_declares_of_values_is_shown_in_their_own_unit() -> None:
    columns = [
        Column("m", "decimal", scale=1, precision=8, low=-5, high=100000, grants=frozenset({"rank"}), nullable=False),
        Column("plan", "string", domain=(EVIL, "b\n", *(f"v{n}" for n in range(20)))),
        Column("opened", "date", low=0, high=364),
        Column("odd", "date", low=-(2**62), high=2**62),
        Column("free", "integer"),
    ]
    shown = [verbs_home.shown_column(column) for column in columns]
    assert [column["range"] for column in shown] == [
        ["-0.5", "10000.0"],
        None,
        ["1970-01-01", "1970-12-31"],
        None,
        None,
    ]
    text = verbs_home.shown_text(
        {"party": "telco", "tables": [{"name": "s", "key": [["k"]], "rows": 5, "columns": shown}]}
    )
    number, texts, opened, odd, free = text.split("\n")[1:]
    assert number.split() == "m decimal(8,1) rank -0.5 to 10000.0; never NULL".split()
    assert texts.endswith("v9 and 10 more") and "\N{REPLACEMENT CHARACTER}" in texts
    assert opened.endswith("1970-01-01 to 1970-12-31") and odd.endswith("closed") and free.endswith("closed")
    assert verbs_home.shown_text({"party": "telco", "tables": []}).startswith("telco has opened no column to us")


def test_matrices_and_numbers_of_several_columns_are_tables() -> None:
    told = RESULT | {
        "statistics": {
            "s": {
                "mean": {"bank.a": 2.0, "b": None},
                "correlation": {"columns": ["bank.a", "b"], "matrix": [[1.0, -0.25], [-0.25, 1.0]]},
            }
        }
    }
    text = results.text(told)
    assert "        bank.a      b\nbank.a       1  -0.25\nb        -0.25      1\n" in text
    assert "s, mean:\ncolumn  value\nbank.a      2\nb        NULL\n" in text
    assert '"' not in text.partition("s, mean")[2].partition("model")[0]


def test_a_result_is_one_json_document_whatever_it_holds() -> None:
    assert json.loads(json.dumps(RESULT, ensure_ascii=False)) == RESULT
    assert "NaN" not in json.dumps(RESULT)


def test_progress_says_numbers_and_the_names_of_stages_only(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr("pipelines.progress.time.monotonic", lambda: now[0])
    progress = Progress()
    progress.stage("align")
    for done in range(0, 101, 10):
        now[0] += 9.0
        progress.step(done, 100)
    progress.step(0, 0)
    progress.end("1.0 MB")
    told = capsys.readouterr()
    assert told.out == ""
    assert "align: 50 %" in told.err and "left" in told.err and "align: done in" in told.err
    quiet = Progress(quiet=True)
    quiet.stage("align")
    quiet.step(1, 2)
    quiet.note("x")
    quiet.end()
    assert capsys.readouterr().err == ""


def test_a_run_that_goes_on_is_shown_with_how_far_how_fast_and_how_long_still(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr("pipelines.progress.time.monotonic", lambda: now[0])
    monkeypatch.setattr("pipelines.progress.time.time", lambda: now[0])
    (tmp_path / "state").mkdir()
    state = RunState(tmp_path / "state" / "runs", new_run_id())
    state.create(digest="d", job="j", peer="bank", ours=False, stage="align")
    written: list[float] = []
    progress = Progress(quiet=True)
    progress.keep(lambda fields: (written.append(now[0]), state.tell(fields))[1])
    with state.locked():
        progress.stage("align")
        for done in range(0, 1000):
            now[0] += 0.01
            progress.step(done, 2000, "masking the keys of bank, 57,441 a second")
        assert len(written) <= 11 and min(np.diff(written)) >= 1.0
        (shown,) = list_runs(tmp_path / "state" / "runs")
        kept = shown["progress"]
        assert kept["stage"] == "align" and 0.4 < kept["part"] < 0.5 and 9 < kept["left"] < 13
        line = verbs_run.runs_text([shown])
        assert "of bank" in line and "running at align: " in line
        assert " s left (masking the keys of bank, 57,441 a second)" in line
        now[0] += 100
        assert "as of 1 min 40 s ago" in verbs_run.runs_text([shown])
        told = verbs_run.show_text({"status": state.shown() | {"started": 86400.0 * 400}, "result": None})
        assert "57,441 a second" in told and "started: 1971-02-0" in told and "ours: no, of bank" in told
        state.update(stage="train")
        assert "progress" not in state.shown()  # that was another stage
        state.update(stage="align")
    assert state.shown()["status"] == "broken" and "progress" not in state.shown()


def test_progress_that_cannot_be_kept_harms_nothing(tmp_path: Path) -> None:
    state = RunState(tmp_path / "nowhere", new_run_id())
    state.tell({"stage": "align"})
    state.create(digest="d", job="j", peer="bank", ours=False, stage="align")
    (state.folder / "progress.json").write_bytes(b"{half")
    with state.locked():
        assert "progress" not in state.shown()
