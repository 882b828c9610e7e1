"""`ratchet serve`."""

from typing import Annotated

import typer

from flows.commands import _completion


def serve(
    models: Annotated[
        list[str] | None,
        typer.Argument(
            help="`champion`, the number of a version, `base`, a round such as `r0`, or a folder; without any, `champion`.",
            autocompletion=_completion.models,
        ),
    ] = None,
    port: Annotated[int, typer.Option(help="The port to listen to.", min=1, max=65535)] = 8000,
) -> None:
    """Serve models by OpenAI's API on 127.0.0.1, until Ctrl-C.

    `champion` follows promotions and rollbacks without losing a request.

    Example: ratchet serve, or ratchet serve champion r0 --port 8001
    """
    from flows.gateway import server

    server.run(models or ["champion"], port)
