"""`ratchet up`."""

from typing import Annotated

import typer


def up(
    ray: Annotated[
        bool, typer.Option("--ray", help="Start a Ray cluster of this machine too, for trials, ingest and stages.")
    ] = False,
) -> None:
    """Keep Prefect's server and deployments running, until Ctrl-C.

    Example: ratchet up, then in another terminal: prefect deployment run pipeline/workstation --watch
    """
    from flows import serve
    from flows.execution import cancellation

    cancellation.interrupt_when_terminated()
    serve.up(ray=ray)
