"""`ratchet retrain`."""


def retrain() -> None:
    """Retrain now, as each night does.

    Runs the pipeline on new data, lets the gate judge the candidate, and promotes it if it passes.

    Example: ratchet retrain (every night automatically: ratchet up)
    """
    from flows.execution import cancellation, prefect_server
    from tasks.core.imports import lasting

    with lasting():
        from flows.retrain import retrain as flow

    with cancellation.handled(), prefect_server.connected():
        flow()
