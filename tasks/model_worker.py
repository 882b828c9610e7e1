"""`transformers serve` with a model that Ratchet loads, `python -m tasks.model_worker NAME SOCKET FOLDER [BASE]`, or with all adapters of a
bank on one base, each by its name: then FOLDER is the bank, and NAME is not looked at.

The server, its API and its generation are transformers' own. What is ours is the loading: an adapter of any method, a difference or a
compressed model is put on its base as `evaluate` does, at the precision of section `compute`, from files of this machine alone.
"""

import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks import configuration
from tasks.io.system import process

if TYPE_CHECKING:
    from tasks.engine.device import Placement

Served = Mapping[str, Callable[[], Any]]
"""Models by the names that requests ask for."""


def main(name: str, socket: str, folder: Path, base: Path | None) -> None:
    """Load the model, and serve it under its name on a Unix socket until this process is ended."""
    config = configuration.load()
    process.set_threads(config.compute)
    import uvicorn

    from tasks.engine import device

    device.use(config.compute)
    app = application(*_served(name, folder, base, device.placement(config.compute)))
    uvicorn.run(app, uds=socket, log_level="warning", timeout_graceful_shutdown=5, timeout_keep_alive=60)


def _served(name: str, folder: Path, base: Path | None, placement: "Placement") -> tuple[Served, Any]:
    """Return the models by name, and their tokenizer."""
    from tasks.io.weights import banks, checkpoints, models

    if not checkpoints.is_bank(folder):
        model, tokenizer = models.load(folder, base, **placement)
        return {name: lambda: model}, tokenizer
    from tasks.engine.inference.bank import Bank

    assert base is not None, "a bank stands on a base"
    bank = Bank(folder, base, **placement)
    members = banks.members(folder)
    return {banks.served_name(members[task]): partial(bank.model, task) for task in bank.names}, bank.tokenizer


def application(served: Served, tokenizer: Any) -> Any:
    """Return the application of `transformers serve`, which answers for these models alone."""
    from fastapi import HTTPException
    from transformers.cli.serving import model_manager, server, utils
    from transformers.cli.serving.chat_completion import ChatCompletionHandler
    from transformers.cli.serving.completion import CompletionHandler
    from transformers.cli.serving.response import ResponseHandler
    from transformers.cli.serving.systemone import SystemOneHandler
    from transformers.cli.serving.transcription import TranscriptionHandler

    class Manager(model_manager.ModelManager):
        """Holds the models that are given."""

        def _load_processor(self, *_: Any, **__: Any) -> Any:
            return tokenizer

        def _load_model(self, name: str, *_: Any, **__: Any) -> Any:
            if name not in served:
                raise HTTPException(400, f"{name!r} is not served here. There are: {', '.join(served)}.")
            return served[name]()

        def list_models(self, *_: Any, **__: Any) -> list[dict[str, Any]]:
            return [{"id": name, "object": "model", "created": 0, "owned_by": "ratchet"} for name in served]

    class Chat(ChatCompletionHandler):
        """Refuses tools that the chat template would leave out."""

        async def handle_request(self, body: dict[str, Any], request_id: str) -> Any:
            if body.get("tools") and "tools" not in str(tokenizer.chat_template):
                raise HTTPException(400, "its chat template takes no tools")
            return await super().handle_request(body, request_id)

    state = utils.GenerationState()
    only = next(iter(served)) if len(served) == 1 else None
    manager = Manager(force_model=only, model_timeout=-1)  # what is held is not unloaded
    return server.build_server(
        manager,
        Chat(manager, state),
        completion_handler=CompletionHandler(manager, state),
        response_handler=ResponseHandler(manager, state),
        transcription_handler=TranscriptionHandler(manager, state),
        systemone_handler=SystemOneHandler(manager, state),
        generation_state=state,
    )


if __name__ == "__main__":
    name, socket, folder, *base = sys.argv[1:]
    sys.exit(process.run(lambda: main(name, socket, Path(folder), Path(base[0]) if base else None)))
