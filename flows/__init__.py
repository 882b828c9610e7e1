"""Flows run the graph of dvc.yaml. Importing this package keeps the tools below quiet and inside the workspace."""

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
    with contextlib.suppress(OSError):  # a folder that cannot be written is told by whoever writes first
        Path(".ratchet").mkdir(exist_ok=True)  # Prefect makes its folder, but none above it
# Prefect reads its settings when it is imported, which is after this package.
environment.set_defaults(environment.NO_TELEMETRY | environment.NO_PICKLE | _DEFAULTS)
if not os.environ.get(environment.TRACEBACK):
    # A failure is told in one message; Prefect's own record keeps the traceback.
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
