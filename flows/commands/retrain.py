"""`ratchet retrain`."""


def retrain() -> None:
    """What a night does, now: new data through the pipeline, before the gate, into place if it passes.

    Example: ratchet retrain (each night of itself: ratchet up)
    """
    from flows import server, stopping
    from tasks.core.imports import lasting

    with lasting():
        from flows.retrain import retrain as flow

    with stopping.told(), server.used():
        flow()
