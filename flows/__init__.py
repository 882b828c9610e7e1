"""Run the graph of dvc.yaml as flows, and the `ratchet` command line.

The deployed flows are modules of this folder: `pipeline`, `retrain`, `monitor`, `promote`. `deployments` defines their deployments,
`automations` who is notified, `serve` keeps them running.
Packages, each of which imports only those after it:
  commands     one file for each `ratchet` command
  gateway      serve models by OpenAI's API
  experiments  compare compositions of methods, or two models; claims of papers
  registry     promote models, keep their history and versions, verify and share a workspace
  project      import data, edit params.yaml, review rewrites
  execution    run stages by DVC, Prefect's server, resources, the workspace lease

Importing this package keeps Prefect, DVC, MLflow and Hugging Face quiet and inside the workspace.
"""

import contextlib
import os
from pathlib import Path

from tasks.core import environment

_DEFAULTS = {
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
    "PREFECT_HOME": str(Path(".ratchet/prefect").absolute()),
    "PREFECT_RESULTS_DEFAULT_SERIALIZER": "json",
    "PREFECT_SERVER_LOGS_STREAM_OUT_ENABLED": "true",  # `prefect deployment run --watch` prints them
    "PREFECT_SERVER_LOGS_STREAM_PUBLISHING_ENABLED": "true",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
}
if Path("dvc.yaml").is_file():
    with contextlib.suppress(OSError):  # whoever writes first reports a folder that cannot be written
        Path(".ratchet").mkdir(exist_ok=True)  # Prefect makes its folder, but none above it
# Prefect reads its settings when it is imported, which is after this package.
environment.set_defaults(environment.NO_TELEMETRY | environment.NO_PICKLE | _DEFAULTS)
environment.bypass_proxies()
if "PREFECT_SERVER_API_AUTH_STRING" in os.environ:  # whoever starts a server with a password is a client of it
    environment.set_defaults({"PREFECT_API_AUTH_STRING": os.environ["PREFECT_SERVER_API_AUTH_STRING"]})
if not os.environ.get(environment.TRACEBACK):
    # A failure is told in one message; Prefect's own record keeps the traceback.
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
