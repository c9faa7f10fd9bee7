"""The verbs about schedules: add, list, remove, serve."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from party.home import Home
from pipelines import prefect_server, schedules

__all__ = ["add", "listing", "remove", "serve"]


def add(path: Path, file: Path, cron: str, timezone: str) -> dict[str, Any]:
    """`tally schedule JOB --cron`: keep a copy of the job and the times; a running scheduler takes it up by itself."""
    from pipelines.execute import keep_job
    from pipelines.spec import read_job

    home = Home.open(path)
    job = read_job(file, home.party.name)
    schedule = schedules.Schedule(job.name, keep_job(home, job), cron, timezone)
    schedules.save(home.state, schedule)
    running = prefect_server.scheduler_url(home.state)
    return _told(schedule) | {
        "scheduler": running,
        "start_with": None if running else f"tally --home {home.root} scheduler",
    }


def listing(path: Path) -> list[dict[str, Any]]:
    """`tally schedule --list`."""
    return [_told(schedule) for schedule in schedules.load_all(Home.open(path).state)]


def remove(path: Path, name: str) -> dict[str, Any]:
    """`tally schedule --remove NAME`."""
    schedules.remove(Home.open(path).state, name)
    return {"removed": name}


def serve(path: Path) -> None:
    """`tally scheduler`."""
    home = Home.open(path)
    prefect_server.configure(home.state)
    from pipelines import scheduler

    scheduler.serve(home)


def _told(schedule: schedules.Schedule) -> dict[str, Any]:
    times = [moment.isoformat() for moment in schedules.next_times(schedule, 3)]
    return {"name": schedule.name, "cron": schedule.cron, "timezone": schedule.timezone, "next": times}


def added_text(result: dict[str, Any]) -> str:
    """A new schedule for people."""
    lines = [f"{result['name']}: {result['cron']} ({result['timezone']})"]
    lines += [f"  next: {moment}" for moment in result["next"]]
    if result["start_with"]:
        lines.append(f"no scheduler runs for this home: start it with `{result['start_with']}`")
    return "\n".join(lines)


def listing_text(found: list[dict[str, Any]]) -> str:
    """The schedules for people."""
    lines = [f"{item['name']:24} {item['cron']:16} {item['timezone']:16} next {item['next'][0]}" for item in found]
    return "\n".join(lines) or "no schedules"
