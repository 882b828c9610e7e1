"""`ratchet retrain`."""


def retrain() -> None:
    """What a night does, now: new data through the pipeline, before the gate, into place if it passes.

    Example: ratchet retrain (each night of itself: ratchet up)
    """
    from prefect.settings import PREFECT_API_URL, temporary_settings

    from flows import server, stopping
    from flows.retrain import retrain as flow

    with stopping.told(), temporary_settings({PREFECT_API_URL: server.available()}):
        flow()
