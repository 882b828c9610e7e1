"""Define a workspace's deployments in Prefect, and their schedules. `prefect.yaml` defines the same for `prefect deploy`.

These settings belong to the machine and change no result, so they are environment variables: RATCHET_NIGHTLY and RATCHET_MONITOR are the
cron lines of `retrain/nightly` and `monitor/incoming`, RATCHET_TIMEZONE is their time zone. An empty line means no schedule.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from prefect import Flow
from prefect.client.schemas.schedules import CronSchedule
from prefect.deployments.runner import RunnerDeployment
from prefect.events import DeploymentEventTrigger
from prefect.types.entrypoint import EntrypointType
from pydantic import ValidationError

from flows.execution import prefect_server
from flows.monitor import DRIFT, monitor
from flows.pipeline import pipeline
from flows.promote import promote
from flows.retrain import retrain
from tasks import configuration
from tasks.core import environment

WORKSTATION = "workstation"


def all_deployments() -> list[RunnerDeployment]:
    """Return the deployments. Raises ValueError if the environment names an invalid schedule."""
    return [
        _deployment(pipeline, WORKSTATION, "The graph of dvc.yaml."),
        _deployment(
            retrain,
            "nightly",
            "New data, pipeline, gate, promotion.",
            schedule=schedule(environment.NIGHTLY, "0 3 * * *"),
        ),
        _deployment(
            retrain,
            "on-drift",
            "The flow of `nightly`, when `monitor` finds that incoming data differ from the training data.",
            triggers=[_on_drift()],
        ),
        _deployment(
            monitor,
            "incoming",
            "Compare the data that came in since (`monitor.incoming` of params.yaml) with the training data.",
            schedule=schedule(environment.MONITOR, "0 * * * *") if configuration.load().monitor.incoming else None,
        ),
        _deployment(promote, "manual", "The gate on the present candidate."),
    ]


def schedule(variable: str, default: str) -> CronSchedule | None:
    """Return the schedule from the cron line in an environment variable; None if the line is empty."""
    line, zone = os.environ.get(variable, default).strip(), os.environ.get(environment.TIMEZONE, "UTC")
    if not line:
        return None
    try:
        return CronSchedule(cron=line, timezone=zone)
    except ValidationError as error:
        problem = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise ValueError(
            f"{variable}={line!r} in {environment.TIMEZONE}={zone!r} is no schedule: {problem}. Write minute, hour, day, month and weekday, "
            "such as '0 3 * * *', and a zone such as Europe/Berlin."
        ) from None


def described(deployments: list[RunnerDeployment]) -> Iterator[str]:
    """Yield a line for each deployment: its name and what starts it."""
    names = {f"{deployment.flow_name}/{deployment.name}": deployment for deployment in deployments}
    width = max(map(len, names))
    for name, deployment in names.items():
        times = [at.schedule for at in deployment.schedules or ()]
        crons = [f"{at.cron} ({at.timezone})" for at in times if isinstance(at, CronSchedule)]
        events = [f"event {DRIFT}"] if deployment.triggers else []
        yield f"  {name:<{width}}  {', '.join(crons + events) or 'when asked for'}"


def _deployment(flow: Flow[Any, Any], name: str, description: str, **when: Any) -> RunnerDeployment:
    deployment = flow.to_deployment(
        name,
        description=description,
        entrypoint_type=EntrypointType.MODULE_PATH,  # a file path would put flows/ itself first on sys.path
        tags=[prefect_server.TAG, Path.cwd().name],
        paused=False,  # an earlier server paused this deployment when it ended
        **when,
    )
    assert isinstance(deployment, RunnerDeployment)
    return deployment


def _on_drift() -> DeploymentEventTrigger:
    return DeploymentEventTrigger(
        name="Retrain on drift",
        expect={DRIFT},
        parameters={"drift": {"__prefect_kind": "jinja", "template": "{{ event.payload.finding }}"}},
    )
