"""`transformers serve` with a model that Ratchet loads: `python -m tasks.model_worker NAME SOCKET FOLDER [BASE]`.

The server, its API and its generation are transformers' own. What is ours is the loading: an adapter of any method, a difference or a
compressed model is put on its base as `evaluate` does, at the precision of section `compute`, from files of this machine alone.
"""

import sys
from pathlib import Path
from typing import Any

from tasks import configuration
from tasks.io.system import process

Loaded = tuple[Any, Any]


def main(name: str, socket: str, folder: Path, base: Path | None) -> None:
    """Load the model, and serve it under its name on a Unix socket until this process is ended."""
    config = configuration.load()
    process.set_threads(config.compute)
    import uvicorn

    from tasks.engine import device
    from tasks.io.weights import models

    device.use(config.compute)
    app = application(name, models.load(folder, base, **device.placement(config.compute)))
    uvicorn.run(app, uds=socket, log_level="warning", timeout_graceful_shutdown=5, timeout_keep_alive=60)


def application(name: str, loaded: Loaded) -> Any:
    """Return the application of `transformers serve`, which answers for this model alone."""
    from fastapi import HTTPException
    from transformers.cli.serving import model_manager, server, utils
    from transformers.cli.serving.chat_completion import ChatCompletionHandler
    from transformers.cli.serving.completion import CompletionHandler
    from transformers.cli.serving.response import ResponseHandler
    from transformers.cli.serving.systemone import SystemOneHandler
    from transformers.cli.serving.transcription import TranscriptionHandler

    model, tokenizer = loaded

    class Manager(model_manager.ModelManager):
        """Holds the model that is given."""

        def _load_processor(self, *_: Any, **__: Any) -> Any:
            return tokenizer

        def _load_model(self, *_: Any, **__: Any) -> Any:
            return model

    class Chat(ChatCompletionHandler):
        """Refuses tools that the chat template would leave out."""

        async def handle_request(self, body: dict[str, Any], request_id: str) -> Any:
            if body.get("tools") and "tools" not in str(tokenizer.chat_template):
                raise HTTPException(400, "its chat template takes no tools")
            return await super().handle_request(body, request_id)

    state = utils.GenerationState()
    manager = Manager(force_model=name)
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
