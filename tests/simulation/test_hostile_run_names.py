"""A peer that proposes the name of a run that is not its own, or another job under the same name."""

from pathlib import Path

import pytest

from party.agreement import Proposed
from party.errors import PeerError
from pipelines.execute import check_bound
from pipelines.runs import RunState

RUN = "20260101-000000-0123456789"


def known(runs: Path, **other: object) -> RunState:
    state = RunState(runs, RUN)
    state.create(digest="aa" * 32, job="j", peer="telco", ours=False)
    state.update(**other)
    return state


PROPOSED = Proposed(RUN, b"{}", bytes.fromhex("aa" * 32), "telco", b"")


def test_the_same_run_goes_on(tmp_path: Path) -> None:
    check_bound(known(tmp_path), PROPOSED, "telco")


@pytest.mark.parametrize("other", [{"ours": True}, {"peer": "third"}, {"digest": "bb" * 32}, {"status": "aborted"}])
def test_a_run_of_another_side_peer_or_job_is_refused(tmp_path: Path, other: dict[str, object]) -> None:
    state = known(tmp_path, **other)
    before = state.status
    with pytest.raises(PeerError):
        check_bound(state, PROPOSED, "telco")
    assert state.status == before
