"""The pipeline as a Prefect flow: one task a stage, each one call into `pipelines.flow_runs`.

Parameters are the home folder, the job's digest and a run id: Prefect never sees a row, an identifier or a share.
A flow run from a schedule derives its run id from Prefect's, so that Prefect's retry resumes it.
"""

from __future__ import annotations

from prefect import flow, task
from prefect.artifacts import create_progress_artifact, create_table_artifact, update_progress_artifact
from prefect.runtime import flow_run

from pipelines import flow_runs

__all__ = ["pipeline"]


@task(name="stage", task_run_name="{name}", persist_result=False)
def stage(run: str, name: str) -> None:
    """One stage of a run that this process has open."""
    flow_runs.perform(run, name)


@flow(name="tallystick", flow_run_name="{digest}", persist_result=False, log_prints=False)
def pipeline(home: str, digest: str, run: str | None = None) -> str:
    """Connect, then one task a stage; returns the run's id. The result itself stays in the home."""
    run = flow_runs.begin(home, digest, run or flow_runs.run_for_flow(flow_run.id))
    try:
        names = flow_runs.names(run)
        progress = create_progress_artifact(0.0, key="tallystick-progress", description=f"Run {run}")
        for done, name in enumerate(names, start=1):
            stage(run, name)
            update_progress_artifact(progress, 100.0 * done / len(names))  # type: ignore[arg-type]  # not async here
        table = flow_runs.finish(run)
    except BaseException as error:
        flow_runs.give_up(run, error)
        raise
    create_table_artifact(key="tallystick-run", table=table, description=f"Run {run}: seconds and bytes a stage")
    return run
