"""`ratchet up`."""


def up() -> None:
    """Keep Prefect's server and deployments running, until Ctrl-C.

    Example: ratchet up, then in another terminal: prefect deployment run pipeline/workstation --watch
    """
    from flows import serve
    from flows.execution import cancellation

    cancellation.interrupt_when_terminated()
    serve.up()
