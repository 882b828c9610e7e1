"""Name flow runs in Prefect's lists: the profile of the settings, and what runs."""

from collections.abc import Callable

from prefect import runtime

from flows.execution import run_summary


def pipeline() -> str:
    """Return `tiny · all stages`, or `tiny · tune@r0, evaluate@r0`."""
    return _named(", ".join(runtime.flow_run.parameters.get("stages") or ["all stages"]))


def of(flow: str) -> Callable[[], str]:
    """Return a function that names the runs of a flow: `tiny · retrain nightly`, or `tiny · retrain by hand`."""

    def name() -> str:
        return _named(f"{flow} {runtime.deployment.name or 'by hand'}")

    return name


def _named(what: str) -> str:
    try:
        return f"{run_summary.profile_name()} · {what}"
    except OSError:  # the flow itself reports what is wrong with the settings
        return what
