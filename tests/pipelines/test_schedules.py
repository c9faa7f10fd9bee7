"""Schedules: kept, listed, removed; a bad expression or time zone is refused before anything is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from party.errors import UsageError
from pipelines.schedules import Schedule, load_all, next_times, remove, save


def schedule(cron: str = "0 6 * * 1", timezone: str = "UTC") -> Schedule:
    return Schedule("churn-risk", "00" * 32, cron, timezone)


def test_next_times_ascend_and_stand_in_the_zone_of_the_schedule() -> None:
    times = next_times(schedule(timezone="Europe/London"), 3)
    assert times == sorted(set(times))
    assert {(moment.weekday(), moment.hour, moment.minute) for moment in times} == {(0, 6, 0)}


@pytest.mark.parametrize("cron", ["", "* * * *", "61 * * * *", "0 0 31 2 *", "soon"])
def test_an_expression_that_never_fires_is_refused_and_nothing_is_kept(tmp_path: Path, cron: str) -> None:
    with pytest.raises(UsageError, match="cron"):
        save(tmp_path, schedule(cron))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("zone", ["Mars/Olympus", "", "../../etc/passwd"])
def test_an_unknown_time_zone_is_refused(tmp_path: Path, zone: str) -> None:
    with pytest.raises(UsageError, match="time zone"):
        save(tmp_path, schedule(timezone=zone))
    assert not list(tmp_path.iterdir())


def test_a_schedule_comes_back_as_it_was_saved_is_replaced_by_name_and_removed(tmp_path: Path) -> None:
    save(tmp_path, schedule())
    later = schedule("30 7 * * *")
    save(tmp_path, later)
    assert load_all(tmp_path) == [later]
    assert later.version != schedule().version
    with pytest.raises(UsageError) as error:
        remove(tmp_path, "churn")
    assert "churn-risk" in str(error.value.hint)
    remove(tmp_path, "churn-risk")
    assert load_all(tmp_path) == []
