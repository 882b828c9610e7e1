"""Let DVC run the command of a stage on another machine. Hashes, cache, run cache and `dvc.lock` are still handled here."""

import os
from collections.abc import Iterable, Mapping
from typing import Any

from flows.execution.elsewhere import job
from tasks.io import stage_outputs
from tasks.io.system import progress
from tasks.io.system.process import explain


def use(host: str) -> None:
    """Replace the function by which DVC runs a stage's command in this process."""
    from dvc.stage import run
    from dvc.stage.exceptions import StageCmdFailedError

    def cmd_run(stage: Any, dry: bool = False, run_env: Any = None) -> None:
        run.logger.info("Running stage '%s':", stage.addressing)
        commands = stage.cmd if isinstance(stage.cmd, list) else stage.cmd.splitlines()
        try:
            before = _hashes(stage)
            code = job.run(host, _job(stage, commands), progress.say)
            if not code:
                _check_unchanged(stage, before)
        except (RuntimeError, OSError, ValueError) as error:
            progress.say(explain(error))
            code = 1
        if code:
            raise StageCmdFailedError(f"{'; '.join(commands)} (on {host})", code)

    run.cmd_run = cmd_run


def _hashes(stage: Any) -> dict[str, Any]:
    return {str(dep): dep.get_hash() if dep.exists else None for dep in stage.deps}


def _check_unchanged(stage: Any, before: Mapping[str, Any]) -> None:
    """Raise RuntimeError if an input of the stage was edited here while the host worked: DVC would record the hash of the edited file."""
    now = _hashes(stage)
    if changed := [name for name in now if now[name] != before[name]]:
        raise stage_outputs.changed_meanwhile(", ".join(changed), stage.addressing)


def _job(stage: Any, commands: list[str]) -> job.Job:
    from dvc.dependency import ParamsDependency

    deps = [dep.fs_path for dep in stage.deps if not isinstance(dep, ParamsDependency)]
    params = [dep.fs_path for dep in stage.deps if isinstance(dep, ParamsDependency)]
    return job.Job(
        stage.addressing,
        commands,
        deps=_here([*deps, *params]),
        outs=_here(out.fs_path for out in stage.outs),
        of_any=_here(out.fs_path for out in stage.repo.index.outs),
        folder=os.path.relpath(stage.wdir),
    )


def _here(paths: Iterable[str]) -> list[str]:
    return [os.path.relpath(path) for path in paths]
