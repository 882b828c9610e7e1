"""`ratchet tidy`."""


def tidy() -> None:
    """Put dvc.lock in its canonical form, and mend torn files.

    Stages stand in plan order, and stale entries go. Plain `dvc repro` appends; `ratchet run` does this by itself.

    Example: ratchet tidy
    """
    from flows.execution import preflight, workspace_lease
    from flows.execution.dvc import lock_file
    from tasks.io.system import progress

    with workspace_lease.acquired():
        preflight.repair_workspace()
        progress.say("dvc.lock is in order now." if lock_file.tidy() else "dvc.lock was in order already.")
