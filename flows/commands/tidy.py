"""`ratchet tidy`."""


def tidy() -> None:
    """Put dvc.lock in its canonical form.

    Stages in plan order, stale entries gone. Plain `dvc repro` appends; `ratchet run` does this by itself.

    Example: ratchet tidy
    """
    from flows import briefing, graph, workspace
    from tasks.io import progress

    with workspace.claimed():
        briefing.mend()
        progress.say("dvc.lock is in order now." if graph.tidy() else "dvc.lock was in order already.")
