"""`ratchet tidy`."""


def tidy() -> None:
    """Write dvc.lock in its canonical form, and repair incomplete files of DVC.

    Sorts stages in plan order and drops stale entries. Plain `dvc repro` only appends; `ratchet run` tidies by itself.

    Example: ratchet tidy
    """
    from flows.execution import preflight, workspace_lease
    from flows.execution.dvc import lock_file
    from tasks.io.system import progress

    with workspace_lease.acquired():
        preflight.repair_workspace()
        progress.say(
            "dvc.lock is in canonical form now." if lock_file.tidy() else "dvc.lock was in canonical form already."
        )
