"""Names of the environment variables that Ratchet reads or sets, and the values it gives to libraries unless a user chose others.

Environment variables describe a machine and change no byte of an output. Whatever changes an output is a setting in params.yaml.
"""

import os
from collections.abc import Mapping

# The user sets these.
CORES, MEMORY_GB, GPUS = "RATCHET_CORES", "RATCHET_MEMORY_GB", "RATCHET_GPUS"
"""Upper limits of the resources of this machine that stages may use."""
NIGHTLY, MONITOR, TIMEZONE = "RATCHET_NIGHTLY", "RATCHET_MONITOR", "RATCHET_TIMEZONE"
"""Cron lines of the deployments `retrain/nightly` and `monitor/incoming`, and their time zone."""
NOTIFY, NOTIFY_OF = "RATCHET_NOTIFY", "RATCHET_NOTIFY_OF"
"""Addresses that are notified of the result of a night, and the events that are sent (`flows.automations`)."""
RAY = "RATCHET_RAY"
"""The address of a Ray cluster that works for stage `ingest`, runs trials, and generates and measures answers; `auto` for the cluster of this machine."""
RENDEZVOUS = "RATCHET_RENDEZVOUS"
"""`HOST:PORT` of the first node, at which the nodes of a training meet (`resources.STAGE.nodes`)."""
HOSTS = "RATCHET_HOSTS"
"""The hosts file, which says how to reach the machines that `resources.STAGE.host` names. The default is `~/.config/ratchet/hosts.yaml`."""
TRACEBACK = "RATCHET_TRACEBACK"
"""If set, errors print their traceback, not only one message."""
TRACES = "RATCHET_TRACES"
"""Callers (`chat`, `serve`, `refine`, separated by spaces) whose calls of models are recorded in MLflow as traces, with prompt and answer."""
NAME = "RATCHET_NAME"
"""The name of this workspace's experiment and registered model, on an MLflow server that several workspaces share."""
SIGNING_KEY = "RATCHET_SIGNING_KEY"
"""The file of the private key that signs the evidence of models, in place of the workspace's own key."""
TRACKING_URI = "MLFLOW_TRACKING_URI"
"""The database or server in which MLflow records runs."""

# A flow sets these for the stages it starts.
PARENT_RUN = "RATCHET_PARENT"
"""The id of the flow's MLflow run, which becomes the parent of its stages' runs. The flow's uploader also uploads their runs."""
FLOW_RUN = "RATCHET_FLOW_RUN"
"""Prefect's id of the flow run, which is recorded as a tag."""

ON = "RATCHET_ON"
"""The host that runs the command of the stage, if it is another machine."""
PROGRESS_S = "RATCHET_PROGRESS_S"
"""Seconds between two progress lines of a stage."""

# torchrun sets these in each process that shares a training.
RANK, WORLD_SIZE = "RANK", "WORLD_SIZE"
JOINED = "RATCHET_JOINED"
"""Set in the processes of a node that joined a training, because the workspace is on another machine."""

OMP_THREADS = "OMP_NUM_THREADS"
"""Number of OpenMP threads, read once, by the library that is imported first."""

NO_TELEMETRY = {
    "DO_NOT_TRACK": "1",
    "DVC_NO_ANALYTICS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "RAY_USAGE_STATS_ENABLED": "0",
}
"""Variables that switch off the telemetry of libraries."""
RAY_OPTIONS = {
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # in tasks without a GPU, leave the variables of GPUs unchanged
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",  # nodes use their installed packages, whatever command started this process
    "RAY_gcs_rpc_server_reconnect_timeout_s": "3600",  # else Ray ends this process, which may work without the cluster for minutes
}
"""Variables by which Ray uses an installed environment unchanged."""
RAY_LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
"""Variables for a cluster on the loopback. Otherwise Ray replaces 127.0.0.1 by the outer address of this machine, at which the cluster does not answer."""
NO_PICKLE = {"MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false"}
"""Variables by which MLflow refuses to load pickle files, which could run code."""


THIS_MACHINE = ("127.0.0.1", "localhost")
"""Host names of this machine, which are reached without a proxy."""


def bypass_proxies() -> None:
    """Let this process and its children connect directly to servers on this machine, even if the environment names a proxy.

    If the environment names no proxy, no variable is set, because on macOS it would switch off the proxies of the system settings.
    """
    if not any(name.lower().endswith("_proxy") and value for name, value in os.environ.items()):
        return
    for name, other in (("no_proxy", "NO_PROXY"), ("NO_PROXY", "no_proxy")):
        hosts = (os.environ.get(name) or os.environ.get(other, "")).replace(" ", "").split(",")
        missing = [host for host in THIS_MACHINE if not {host, "*"} & {*hosts}]
        os.environ[name] = ",".join(filter(None, [*hosts, *missing]))


def set_defaults(values: Mapping[str, str]) -> None:
    """Set the variables that are not set yet."""
    for name, value in values.items():
        os.environ.setdefault(name, value)
