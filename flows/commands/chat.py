"""`ratchet chat`."""

from typing import Annotated

import typer

from flows.commands import _completion


def chat(
    models: Annotated[
        list[str],
        typer.Argument(
            help="A folder, `base`, `champion`, a round such as `r0`, or an adapter of a bank, `r0/math`; one or two.",
            autocompletion=_completion.models,
        ),
    ],
    expert: Annotated[str | None, typer.Option(help="A small tuned model that steers the one you talk to.")] = None,
    antiexpert: Annotated[str | None, typer.Option(help="The small model that the expert was tuned from.")] = None,
    decoder: Annotated[
        str,
        typer.Option(
            help="The decoder that steers; `ratchet methods decoders` lists them.", autocompletion=_completion.decoders
        ),
    ] = "proxy_tuning",
    alpha: Annotated[float | None, typer.Option(min=0, help="Strength of the steering; default: 1.")] = None,
    router: Annotated[
        str, typer.Option(help="The router for a bank; `ratchet methods routers` lists them.")
    ] = "nearest",
) -> None:
    """Talk to a model, or to two side by side.

    Two small models can steer it, by default with proxy-tuning. In a bank, a router chooses the adapter that answers each message.

    Example: ratchet chat base r0, or ratchet chat models/large --expert r0 --antiexpert pretrained
    """
    import os
    import sys

    if len(models) > 2:
        raise ValueError(f"chat takes one model or two, not {len(models)}.")
    options = [f"--router={router}"]
    if expert or antiexpert or alpha is not None:
        if not (expert and antiexpert and len(models) == 1):
            raise ValueError("Steering takes one model, an --expert and the --antiexpert that it was tuned from.")
        options += ["--steered-by", expert, antiexpert, f"--decoder={decoder}"]
        options += [] if alpha is None else [f"--alpha={alpha}"]
    # A process of its own, because this one does not import torch.
    os.execv(sys.executable, [sys.executable, "-m", "tasks.chat", *models, *options])
