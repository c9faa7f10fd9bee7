"""Schedules of a home, one JSON file each under `state/schedules`: a kept job, a cron expression and a time zone."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from party.errors import UsageError
from party.home import replace_file

if TYPE_CHECKING:
    from prefect.deployments.runner import RunnerDeployment

__all__ = ["Schedule", "deployment", "load_all", "next_times", "remove", "save"]


@dataclass(frozen=True)
class Schedule:
    """When a job runs: `digest` names the kept job under state/jobs."""

    name: str
    digest: str
    cron: str
    timezone: str

    @property
    def version(self) -> str:
        """Changes whenever anything of the schedule does."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:16]


def save(state: Path, schedule: Schedule) -> None:
    """Keep it; a schedule of the same name is replaced. UsageError on a bad expression or time zone."""
    next_times(schedule, 1)
    folder = state / "schedules"
    folder.mkdir(exist_ok=True, mode=0o700)
    replace_file(folder / f"{schedule.name}.json", json.dumps(asdict(schedule), indent=1).encode())


def load_all(state: Path) -> list[Schedule]:
    """Every schedule of this home, by name."""
    folder = state / "schedules"
    found: Iterable[Path] = sorted(folder.glob("*.json")) if folder.exists() else ()
    return [Schedule(**json.loads(path.read_bytes())) for path in found]


def remove(state: Path, name: str) -> None:
    """Forget it; a running scheduler notices within seconds."""
    path = state / "schedules" / f"{name}.json"
    if not path.exists():
        known = ", ".join(schedule.name for schedule in load_all(state)) or "none"
        raise UsageError(f"no schedule {name!r} here", hint=f"known schedules: {known}")
    path.unlink()


def next_times(schedule: Schedule, count: int) -> list[datetime]:
    """The next moments at which it fires, in its own time zone."""
    from cronsim import CronSim, CronSimError

    try:
        zone = ZoneInfo(schedule.timezone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise UsageError(f"no time zone {schedule.timezone!r}", hint="a name such as Europe/London or UTC") from None
    try:
        times: Any = CronSim(schedule.cron, datetime.now(UTC).astimezone(zone))
        return [next(times) for _ in range(count)]
    except (CronSimError, StopIteration):
        raise UsageError(
            f"{schedule.cron!r} is not a cron expression that ever fires",
            hint="five fields: minute hour day-of-month month day-of-week, such as '0 6 * * 1'",
        ) from None


async def deployment(root: Path, schedule: Schedule) -> RunnerDeployment:
    """The Prefect deployment of a schedule; its parameters are the home folder and the job's digest."""
    from prefect.schedules import Cron
    from prefect.types.entrypoint import EntrypointType

    from pipelines.flows import pipeline

    return await pipeline.ato_deployment(
        name=schedule.name,
        parameters={"home": str(root), "digest": schedule.digest},
        schedule=Cron(schedule.cron, timezone=schedule.timezone),
        entrypoint_type=EntrypointType.MODULE_PATH,
    )
