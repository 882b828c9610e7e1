"""`ratchet doctor`."""

import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from flows.commands import _terminal
from flows.commands._reports import DoctorReport, Finding, GpuSupport, Report
from tasks.core import environment

MARKS = {"good": "✓", "limited": "–", "blocked": "✗"}
COLOURS = {"✓": "green", "–": "yellow", "✗": "red"}
ROOM_GB = 5
"""Free disk space in GB below which the default profile may not fit: environment, base model and cache."""


def doctor(
    gpus: Annotated[
        int | None,
        typer.Option(
            min=1, help="Instead, say which trainings N GPUs can share: this workspace's, and every method's."
        ),
    ] = None,
    memory: Annotated[
        bool, typer.Option("--memory", help="Instead, say how much memory each training of this workspace takes.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object, for other programs.")] = False,
) -> Report:
    """Check machine and workspace, and print a fix for every problem.

    The exit code is 3 if something blocks a run.

    Example: ratchet doctor --gpus 4
    """
    checks: tuple[Callable[[], Iterator[Finding]], ...]
    checks = tuple(
        partial(_or_its_error, check)
        for check in (_machine, _sandbox, _settings, _files, _owners, _graph, _store, _prefect, _hosts)
    )
    if gpus is not None:
        checks = (partial(_gpus, gpus),)
    if memory:
        checks = (_memory,) if gpus is None else (*checks, _memory)
    findings = [finding for check in checks for finding in check()]
    report = DoctorReport(findings, list(_gpu_support()) if gpus else [])
    if not as_json:
        _show(report)
    return report


def _or_its_error(check: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """Yield what a check finds, and the error that ends it as a finding: the other checks still run."""
    from tasks.io.system import process

    try:
        yield from check()
    except process.expected() as error:
        if os.environ.get(environment.TRACEBACK):
            raise
        yield Finding("blocked", process.explain(error))


def _show(report: DoctorReport) -> None:
    for finding in report.findings:
        _terminal.show(f"{MARKS[finding.state]} {finding.what}", colours=COLOURS)
        if finding.fix:
            _terminal.show(f"→ {finding.fix}", indent=4)
    if report.methods:
        rows = [
            (
                row.family,
                row.method,
                *(MARKS["good" if yes else "blocked"] for yes in (row.ddp, row.fsdp)),
                "; ".join(row.reasons),
            )
            for row in report.methods
        ]
        _terminal.show_table(
            [("family", "method", "DDP", "FSDP", "(a composition runs where each of its parts does)"), *rows], COLOURS
        )


def _machine() -> Iterator[Finding]:
    from tasks.io import provenance

    system = platform.system()
    if system == "Linux":
        yield Finding("good", "Linux: all promises hold")
    else:
        yield Finding(
            "limited", f"{system}: the pipeline runs; pass@1 reads “not run”", "for all of it, use Linux (or WSL)"
        )
    facts = provenance.machine_class()
    yield Finding("good", f"Python {facts['python']}, {facts['processor']}")
    missing = [package for package in provenance.PACKAGES if facts[package] == "absent"]
    versions = ", ".join(f"{package} {facts[package]}" for package in provenance.PACKAGES if package not in missing)
    yield (
        Finding("blocked", f"not installed: {', '.join(missing)}", "make install")
        if missing
        else Finding("good", versions)
    )
    python = shutil.which("python")
    if (
        python is None
        or Path(python).resolve() != Path(sys.executable).resolve()
        or Path(python).parent != Path(sys.executable).parent
    ):
        fix = f"source {Path(os.path.relpath(sys.executable)).parent}/activate (or let `ratchet run` do it)"
        yield Finding(
            "limited", f"`python` is {python or 'not there'}: plain `dvc repro` would run stages with that one", fix
        )
    free = shutil.disk_usage(".").free / 1e9
    yield (
        Finding("good", f"{free:.0f} GB of disk are free")
        if free > ROOM_GB
        else Finding(
            "blocked",
            f"{free:.1f} GB of disk are free; the default profile wants {ROOM_GB}",
            "`dvc gc --workspace` drops old outputs",
        )
    )


def _gpus(count: int) -> Iterator[Finding]:
    from tasks import configuration, methods
    from tasks.core.training import in_words

    config = configuration.load()
    for stage in configuration.stage_names():
        if not configuration.declaration(stage).trains:
            continue
        chosen = configuration.parts(stage, config)
        words = in_words(chosen.values())
        for kind, fsdp in (("DDP", False), ("FSDP", True)):
            if reasons := methods.alone(chosen, fsdp=fsdp):
                yield Finding("limited", f"{stage} ({words}) does not run under {kind}: {'; '.join(reasons)}")
            else:
                keys = f"compute: {{device: cuda, processes: {count}{', fsdp: true' if fsdp else ''}}}"
                yield Finding("good", f"{stage} ({words}) runs under {kind} on {count} GPUs: {keys}")


def _memory() -> Iterator[Finding]:
    from flows.execution import resources
    from flows.execution.cost import memory_counts
    from tasks import configuration
    from tasks.core.training import in_words

    config, available = configuration.load(), resources.machine().memory_gb
    for stage in configuration.stage_names():
        if not configuration.declaration(stage).trains:
            continue
        section = getattr(config, stage)
        words = in_words(configuration.parts(stage, config).values())
        if not section.max_tokens:
            yield Finding("good", f"{stage} trains nothing (max_tokens: 0)")
        elif (count := memory_counts.of(stage, config)) is None:
            fix = "`ratchet run fetch` brings the model; one that this machine has no room to load is not counted"
            yield Finding("limited", f"the memory of {stage} ({words}) is not known", fix)
        elif config.compute.device != "cpu":
            shares = ", less what FSDP shares of it" if config.compute.fsdp else ""
            yield Finding(
                "good", f"{stage} ({words}) takes about {count.tensors / 1e9:.2f} GB of a GPU's memory{shares}"
            )
        else:
            gigabytes = memory_counts.here(count, stage, config) / 1e9
            what = f"{stage} ({words}) takes about {gigabytes:.2f} GB of memory; this machine has {available:.1f} GB"
            fits = gigabytes <= available
            yield Finding("good" if fits else "limited", what, "" if fits else _LESS_MEMORY.format(stage=stage))


_LESS_MEMORY = (
    "set {stage}.activation_checkpointing: true or a smaller {stage}.pack_tokens; an adapter needs no optimizer state of the weights, "
    "and {stage}.optimizer: zo2 has few blocks of the model in memory"
)


def _gpu_support() -> Iterator[GpuSupport]:
    """Yield, for each method that trains, its support for DDP and FSDP and the reasons against it."""
    from tasks import methods
    from tasks.core.training import FAMILIES

    for family in FAMILIES:
        for name in methods.names(family):
            ddp, fsdp = (methods.alone({family: name}, fsdp=cut) for cut in (False, True))
            reasons = [reason.removeprefix(f"{family} {name}: ") for reason in fsdp]
            yield GpuSupport(family, name, not ddp, not fsdp, reasons)


def _sandbox() -> Iterator[Finding]:
    from tasks.io import sandbox

    level = sandbox.probe()
    what = f"sandbox level {level}"
    if level.number >= 2:
        yield Finding("good", f"{what}: model-written programs can run")
    else:
        yield Finding("limited", f"{what}: pass@1 reads “not run”; missing: {level.missing}", level.remedy)


def _settings() -> Iterator[Finding]:
    from tasks import configuration

    try:
        configuration.load()
    except (ValueError, FileNotFoundError) as error:
        yield Finding("blocked", str(error), "correct params.yaml, or `ratchet use reasoning` writes the default one")
    else:
        yield Finding("good", "params.yaml is valid")
    loud = [name for name, quiet in environment.NO_TELEMETRY.items() if os.environ.get(name, quiet) != quiet]
    yield (
        Finding("limited", f"telemetry is on: {', '.join(loud)}", f"unset {' '.join(loud)}")
        if loud
        else Finding("good", "telemetry of Prefect, DVC, MLflow and Hugging Face is off")
    )


def _files() -> Iterator[Finding]:
    from flows.execution.dvc import repair

    damages = repair.damages()
    for problem in damages:
        yield Finding("limited", problem, "`ratchet run` and `ratchet tidy` repair it, or say what would")
    if not damages:
        yield Finding("good", "dvc.lock, DVC's own locks and all outputs are complete")


def _owners() -> Iterator[Finding]:
    from flows.execution import workspace_lease
    from flows.execution.dvc import rwlock

    for path, owner in workspace_lease.held().items():
        yield Finding(
            "blocked" if owner.elsewhere else "limited",
            f"{path.stem} {'belongs to' if owner.elsewhere else 'is running:'} {owner}",
            workspace_lease.remedy(path, owner),
        )
    for pid, command in rwlock.living().items():
        yield Finding("limited", f"DVC is running (process {pid}: {command[:60]})", f"wait for it, or: kill {pid}")


def _graph() -> Iterator[Finding]:
    from flows.execution import workspace_lease
    from flows.execution.dvc import forecast, lock_file, version
    from tasks.io.system import git

    if workspace_lease.is_busy() or lock_file.problem():
        return  # the check would wait for DVC's lock, or report the damaged file again
    try:
        version.check()
    except RuntimeError as error:
        yield Finding("blocked", str(error), version.INSTALL)
        return
    try:
        steps = forecast.plan()
    except (ValueError, FileNotFoundError) as error:
        known = git.is_repository() and not git.is_ignored(Path("dvc.yaml"))
        fix = "correct dvc.yaml; `git diff dvc.yaml` shows what changed in it" if known else "git init"
        yield Finding("blocked", str(error), fix)
    else:
        yield Finding("good", f"the graph is valid: {len(steps)} stages")
        if stale := lock_file.obsolete_stages():
            yield Finding("limited", f"dvc.lock has stages that dvc.yaml has not: {', '.join(stale)}", "ratchet tidy")


def _store() -> Iterator[Finding]:
    from flows.execution import workspace_lease
    from tasks.io.runs import run_store

    try:
        run_store.check()
    except ValueError as error:
        yield Finding(
            "blocked", str(error), "unset MLFLOW_TRACKING_URI: runs are then kept in mlflow.db of this workspace"
        )
        return
    try:
        run_store.experiment()
    except ConnectionError as error:
        fix = "start it, or unset MLFLOW_TRACKING_URI; no run is lost: they wait in .ratchet/spool until it answers"
        yield Finding("limited", f"{run_store.shown()}: {error}", fix)
        return
    yield Finding("good", f"MLflow store {run_store.shown()}")
    if waiting := len(list(run_store.SPOOL.glob("*.jsonl"))):
        yield Finding("limited", f"{waiting} runs wait in {run_store.SPOOL} for MLflow", "the next run sends them")
    elif not workspace_lease.is_busy() and (dead := _unfinished(run_store.uri())):
        yield Finding(
            "limited",
            f"runs that are marked as running and have no process: {', '.join(dead)}",
            "`ratchet ui` can delete them",
        )


def _unfinished(uri: str) -> list[str]:
    """Return the MLflow runs with status RUNNING."""
    import mlflow
    from mlflow.entities import ViewType

    client = mlflow.MlflowClient(uri)
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    runs = client.search_runs(experiments, "attributes.status = 'RUNNING'", ViewType.ACTIVE_ONLY, max_results=10)
    return [f"{run.info.run_name} ({run.info.run_id[:8]})" for run in runs]


def _prefect() -> Iterator[Finding]:
    from flows.execution import prefect_server

    url = prefect_server.configured()
    if not url:
        yield Finding("good", "Prefect: runs start a private server; `ratchet up` keeps one")
    elif not prefect_server.answers(url):
        yield Finding("limited", f"no Prefect server answers at {url}; runs start a private one", "ratchet up")
    elif problem := prefect_server.obstacle(url):
        yield Finding("blocked", problem[0], problem[1])
    else:
        yield Finding("good", f"a Prefect server of our version answers at {url}")


def _hosts() -> Iterator[Finding]:
    """Check every host of the hosts file, and every host that `resources` names and the file lacks."""
    from flows.execution.elsewhere import hosts, job
    from tasks import configuration

    if os.environ.get(environment.HOSTS) and not hosts.path().is_file():
        yield Finding("limited", f"{environment.HOSTS} names {hosts.path()}, and there is no such file", "correct it")
    try:
        used = {declared.host: stage for stage, declared in configuration.load().resources.items() if declared.host}
    except (ValueError, FileNotFoundError):
        used = {}  # `_settings` reports it
    try:
        names = dict.fromkeys([*hosts.known(), *used])
    except ValueError as error:
        yield Finding("blocked" if used else "limited", str(error), "correct the hosts file")
        return
    for name in names:
        try:
            facts = job.check(name, used.get(name, "STAGE"))
        except (ValueError, RuntimeError, OSError) as error:
            fix = "or leave `resources.STAGE.host` out: the stage then runs here" if name in used else ""
            yield Finding("blocked" if name in used else "limited", str(error), fix)
        else:
            yield Finding("good", f"{name} answers, with our versions; {facts.free / 1e9:.0f} GB of its disk are free")
