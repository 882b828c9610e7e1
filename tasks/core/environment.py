"""Names of the environment variables that Ratchet reads or sets, and the values it gives to libraries unless a user chose others.

What stands in the environment belongs to a machine and changes no byte of an output; what changes one stands in params.yaml.
"""

import os
from collections.abc import Mapping

# The user sets these.
CORES, MEMORY_GB, GPUS = "RATCHET_CORES", "RATCHET_MEMORY_GB", "RATCHET_GPUS"
"""Upper limits of what stages may use of this machine."""
NIGHTLY, MONITOR, TIMEZONE = "RATCHET_NIGHTLY", "RATCHET_MONITOR", "RATCHET_TIMEZONE"
"""Cron lines of the deployments `retrain/nightly` and `monitor/incoming`, and their time zone."""
NOTIFY, NOTIFY_OF = "RATCHET_NOTIFY", "RATCHET_NOTIFY_OF"
"""Addresses that are told what came of a night, and the events that they are told (`flows.automations`)."""
RAY = "RATCHET_RAY"
"""The address of a Ray cluster that works for stage `ingest`, runs trials, has a model answer and measures it, or `auto` for the one of this machine."""
RENDEZVOUS = "RATCHET_RENDEZVOUS"
"""`HOST:PORT` of the first node, where the nodes of a training meet (`resources.STAGE.nodes`)."""
HOSTS = "RATCHET_HOSTS"
"""The hosts file, which says how the machines are reached that `resources.STAGE.host` names. Without it `~/.config/ratchet/hosts.yaml`."""
TRACEBACK = "RATCHET_TRACEBACK"
"""Set it to see the traceback of an error that is otherwise told in one message."""
TRACES = "RATCHET_TRACES"
"""Whose calls of models MLflow gets as traces, with what was asked and answered: `chat`, `serve` and `refine`, separated by spaces."""
NAME = "RATCHET_NAME"
"""The name of this workspace on a server of MLflow that others use too: of its experiment and of its registered model."""
SIGNING_KEY = "RATCHET_SIGNING_KEY"
"""The file of another private key than the workspace's own, for the evidence of models."""
TRACKING_URI = "MLFLOW_TRACKING_URI"
"""The database or server that MLflow records runs in."""

# A flow sets these for the stages it starts.
PARENT_RUN = "RATCHET_PARENT"
"""The id of the flow's run, by which its stages become its children; its uploader takes their runs to MLflow too."""
FLOW_RUN = "RATCHET_FLOW_RUN"
"""Prefect's id of the flow run, which becomes a tag."""

ON = "RATCHET_ON"
"""The host that runs the command of the stage, where it is another machine."""
PROGRESS_S = "RATCHET_PROGRESS_S"
"""Seconds between two lines that tell how far a stage is."""

# torchrun sets these in each process that shares a training.
RANK, WORLD_SIZE = "RANK", "WORLD_SIZE"
JOINED = "RATCHET_JOINED"
"""Set in the processes of a node that joined a training: the workspace is another machine's."""

OMP_THREADS = "OMP_NUM_THREADS"
"""Threads of OpenMP, read once by whichever library is imported first."""

NO_TELEMETRY = {
    "DO_NOT_TRACK": "1",
    "DVC_NO_ANALYTICS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "RAY_USAGE_STATS_ENABLED": "0",
}
"""No library reports its use to its maker."""
RAY_OPTIONS = {
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # tasks without a GPU leave the variables of GPUs as they are
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",  # nodes keep the packages they have, whatever started this process
    "RAY_gcs_rpc_server_reconnect_timeout_s": "3600",  # Ray would end this process, which may work without the cluster for minutes
}
"""Ray takes an installed environment as it is."""
RAY_LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
"""Ray would look for 127.0.0.1 at the outer address of this machine, where a cluster on the loopback does not answer."""
NO_PICKLE = {"MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false"}
"""MLflow opens no file that could run code."""


THIS_MACHINE = ("127.0.0.1", "localhost")
"""Hosts that no proxy reaches for us."""


def bypass_proxies() -> None:
    """Let this process and its children reach servers of this machine directly, whatever proxy the environment names.

    Without such a variable none is set: on macOS one would switch off the proxies of the system's settings.
    """
    if not any(name.lower().endswith("_proxy") and value for name, value in os.environ.items()):
        return
    for name, other in (("no_proxy", "NO_PROXY"), ("NO_PROXY", "no_proxy")):
        hosts = (os.environ.get(name) or os.environ.get(other, "")).replace(" ", "").split(",")
        missing = [host for host in THIS_MACHINE if not {host, "*"} & {*hosts}]
        os.environ[name] = ",".join(filter(None, [*hosts, *missing]))


def set_defaults(values: Mapping[str, str]) -> None:
    """Set variables that are not set yet."""
    for name, value in values.items():
        os.environ.setdefault(name, value)
