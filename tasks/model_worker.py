"""Run `transformers serve` with a model that Ratchet loads: `python -m tasks.model_worker NAME SOCKET FOLDER [BASE]`.

If FOLDER is a bank, all its adapters are served on one base, each under its own name, and NAME is ignored. The server, its API and its
generation are those of transformers. Only the loading is ours: an adapter of any method, a difference or a compressed model is put on its base
as in stage `evaluate`, at the precision of section `compute`, from files on this machine only.
"""

import asyncio
import inspect
import json
import sys
import threading
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from contextvars import ContextVar
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks import configuration, request_settings
from tasks.engine.inference import stop_texts
from tasks.forkserver import imports
from tasks.io.system import process

if TYPE_CHECKING:
    from tasks.engine.device import Placement

Served = Mapping[str, Callable[[], Any]]
"""Functions that return models, by the names that requests use."""
Message = MutableMapping[str, Any]
"""A message of ASGI."""
_client_left: ContextVar[threading.Event] = ContextVar("_client_left")
"""The event that is set when the client of the current request has disconnected."""
_asked: ContextVar[Mapping[str, Any]] = ContextVar("_asked")
"""The body of the current request."""
OURS = ("seed", "frequency_penalty")
"""Fields that transformers' server handles differently: it sets the seed while another answer may still be sampled, and divides the scores
of all tokens of the prompt by the penalty."""
LEAST_TEMPERATURE = 1e-30
"""Scores divided by a smaller value would overflow a float. At this temperature the most probable token is certain anyway."""
OF_THE_CALL = ("messages", "load_audio_from_video")
"""More arguments of a call of the chat template, which are not in its signature."""


def main(name: str, socket: str, folder: Path, base: Path | None) -> None:
    """Load the model, and serve it under its name on a Unix socket until this process ends."""
    config = configuration.load()
    process.set_threads(config.compute)
    with imports.of_models():
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
    """Return the application of `transformers serve`, which serves only these models."""
    import jinja2
    from fastapi import HTTPException
    from transformers.cli.serving import model_manager, server, utils
    from transformers.cli.serving.chat_completion import ChatCompletionHandler
    from transformers.cli.serving.completion import CompletionHandler
    from transformers.cli.serving.response import ResponseHandler
    from transformers.cli.serving.systemone import SystemOneHandler
    from transformers.cli.serving.transcription import TranscriptionHandler

    class Manager(model_manager.ModelManager):
        """Holds the given models."""

        def _load_processor(self, *_: Any, **__: Any) -> Any:
            return tokenizer

        def _load_model(self, name: str, *_: Any, **__: Any) -> Any:
            if name not in served:
                raise HTTPException(400, f"{name!r} is not served here. There are: {', '.join(served)}.")
            return served[name]()

        def list_models(self, *_: Any, **__: Any) -> list[dict[str, Any]]:
            return [{"id": name, "object": "model", "created": 0, "owned_by": "ratchet"} for name in served]

    class Bounded:
        """Adds limits and OpenAI's behaviour to a handler of transformers' server.

        It refuses prompts that are empty or longer than the model's context, since a forward pass cannot be interrupted and all other requests
        would wait for it, and it refuses invalid settings of generation. It ends an answer before a stop text, at the end of the context, and
        when the client has disconnected; transformers' own server does the last for streamed answers only. It samples if the request has a
        temperature above 0 or `top_p`, as OpenAI's API does; transformers' own server follows only the generation config of the model.
        """

        async def handle_request(self, body: dict[str, Any], request_id: str) -> Any:
            _asked.set(body)
            try:
                return await super().handle_request(request_settings.with_floats(body), request_id)  # type: ignore[misc]
            except (ValueError, jinja2.TemplateError) as error:  # for a setting, or by the chat template for a role
                raise HTTPException(400, str(error).strip().partition("\n")[0]) from None
            except request_settings.WrongModel as error:
                raise HTTPException(500, str(error)) from None
            except (AttributeError, LookupError, TypeError) as error:
                if body.get("generation_config") is None:
                    raise
                raise HTTPException(400, f"generation_config: generation failed with it: {error}") from None

        def _build_generation_config(self, body: dict[str, Any], *others: Any, **named: Any) -> Any:
            request_settings.check_generation_config(body.get("generation_config"))
            read = {field: value for field, value in body.items() if field not in OURS}
            settings = super()._build_generation_config(read, *others, **named)  # type: ignore[misc]
            temperature = body.get("temperature")
            if temperature or (temperature is None and body.get("top_p") is not None):
                settings.do_sample = True
                settings.top_k = settings.top_k or 0  # None would be transformers' own 50
            if settings.temperature and 0 < settings.temperature < LEAST_TEMPERATURE:
                settings.temperature = LEAST_TEMPERATURE
            settings.return_dict_in_generate = False  # the server uses only the tokens
            settings.num_return_sequences = 1  # with several, a stream would mix their tokens
            request_settings.check_mode(settings, body)
            settings.stop_strings = stop_texts.checked(settings.stop_strings)
            return settings

        def _streaming(self, request: str, model: Any, *others: Any, **named: Any) -> Any:
            processor, name, inputs, settings, *further = others
            _fit(model, inputs, settings)
            ends = _ends(tokenizer, inputs, settings)
            request_settings.rehearse(model, inputs, settings, _asked.get())  # before a stream begins
            inputs = {**inputs, "stopping_criteria": [ends], **_drawn(inputs)}  # `generate` gets all entries
            response = super()._streaming(  # type: ignore[misc]
                request, model, processor, name, inputs, settings, *further, **named
            )
            with_usage = bool((_asked.get().get("stream_options") or {}).get("include_usage"))
            response.body_iterator = stop_texts.cut_events(
                response.body_iterator, ends.stops, ends.is_whole, with_usage=with_usage
            )
            return response

        async def _non_streaming(self, request: str, model: Any, *others: Any, **named: Any) -> Any:
            processor, name, inputs, settings, *further = others
            _fit(model, inputs, settings)
            ends = _ends(tokenizer, inputs, settings)
            request_settings.rehearse(model, inputs, settings, _asked.get())  # before a stream begins
            inputs = {**inputs, "stopping_criteria": [ends, _ends_with_client()], **_drawn(inputs)}
            response = await super()._non_streaming(  # type: ignore[misc]
                request, model, processor, name, inputs, settings, *further, **named
            )
            return type(response)(stop_texts.cut(json.loads(response.body), ends.stops, ends.is_whole))

    # Arguments of the call that applies the template. With other values the result would not be the prompt of a chat.
    reserved = {*inspect.signature(tokenizer.apply_chat_template).parameters, *OF_THE_CALL} - {"documents"}

    class Chat(Bounded, ChatCompletionHandler):
        """Refuses content that the chat template would leave out, such as tools and images.

        Templates without the role `developer` get such messages with the role `system`.
        """

        async def handle_request(self, body: dict[str, Any], request_id: str) -> Any:
            if body.get("tools") and "tools" not in str(tokenizer.chat_template):
                raise HTTPException(400, "its chat template takes no tools")
            if part := _foreign_part(body.get("messages")):
                raise HTTPException(400, f"it reads text, and a message has {part}")
            if taken := reserved & (body.get("chat_template_kwargs") or {}).keys():
                raise HTTPException(400, f"chat_template_kwargs: {min(taken)} cannot be set")
            return await super().handle_request(body, request_id)

        @staticmethod
        def get_processor_inputs_from_messages(messages: list[dict[str, Any]], modality: Any) -> list[dict[str, Any]]:
            """Return the messages in the form that templates get in training. transformers drops text beside calls, and the names of tools."""
            read = ChatCompletionHandler.get_processor_inputs_from_messages
            if "developer" not in str(tokenizer.chat_template):  # OpenAI's API and `ingest` treat both roles alike
                messages = [
                    {**message, "role": "system"} if message.get("role") == "developer" else message
                    for message in messages
                ]
            told = [_without_empty_arguments(message) for message in messages]
            beside = read([{**message, "tool_calls": None} for message in messages], modality)
            names = [{"name": message["name"]} if message.get("name") else {} for message in messages]
            return [
                {**turn, "content": plain["content"], **name}
                for turn, plain, name in zip(read(told, modality), beside, names, strict=True)
            ]

    class Completion(Bounded, CompletionHandler):
        """Completes a text."""

    state = utils.GenerationState()
    only = next(iter(served)) if len(served) == 1 else None
    manager = Manager(force_model=only, model_timeout=-1)  # the models are never unloaded
    app = server.build_server(
        manager,
        Chat(manager, state),
        completion_handler=Completion(manager, state),
        response_handler=ResponseHandler(manager, state),
        transcription_handler=TranscriptionHandler(manager, state),
        systemone_handler=SystemOneHandler(manager, state),
        generation_state=state,
    )
    app.add_middleware(Listening)
    return app


class Listening:
    """Notices, while the answer is computed, that the client of a request has disconnected, and sets the request's event."""

    def __init__(self, app: Callable[..., Awaitable[None]]) -> None:
        self._app = app

    async def __call__(
        self,
        scope: Mapping[str, Any],
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        """Answer by the wrapped application."""
        left, listeners = threading.Event(), list[asyncio.Task[None]]()
        _client_left.set(left)

        async def listen() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass
            left.set()

        async def received() -> Message:
            message = await receive()
            if message["type"] == "http.request" and not message.get("more_body"):  # only the disconnect can follow
                listeners.append(asyncio.create_task(listen()))
            return message

        try:
            await self._app(scope, received, send)
        finally:
            for listener in listeners:
                listener.cancel()


def _ends_with_client() -> Any:
    """Return the criterion that stops generation when the client of the current request has disconnected."""
    import torch
    from transformers import StoppingCriteria

    class ClientLeft(StoppingCriteria):
        """Stops all sequences when the client has disconnected."""

        def __init__(self, left: threading.Event) -> None:
            self._left = left

        def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **_: Any) -> torch.Tensor:
            return torch.full((len(input_ids),), self._left.is_set(), device=input_ids.device)

    return ClientLeft(_client_left.get())


def _drawn(inputs: Any) -> dict[str, Any]:
    """Return the argument of `generate` that applies the seed and the frequency penalty of the current request; empty without them."""
    import torch
    from transformers import LogitsProcessor

    width = inputs["input_ids"].shape[-1]
    seed, penalty = (_asked.get().get(field) for field in OURS)

    class Drawn(LogitsProcessor):
        """Sets the seed before the first token, and lowers the score of a token by the penalty for each occurrence in the answer."""

        def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
            written = input_ids[:, width:]
            if seed is not None and not written.shape[-1]:
                torch.manual_seed(seed)
            if not penalty:
                return scores
            return scores.scatter_add(1, written, torch.full_like(written, -penalty, dtype=scores.dtype))

    return {"logits_processor": [Drawn()]} if penalty or seed is not None else {}


def _ends(tokenizer: Any, inputs: Any, settings: Any) -> Any:
    """Return the criterion that stops generation at a stop text, and remove the stop texts from the settings.

    transformers' own criterion also reads the prompt, so a stop text that begins in the prompt would end the answer.
    """
    import torch
    from transformers import StoppingCriteria

    from tasks.engine.inference.generation import Ended

    width, stops = inputs["input_ids"].shape[-1], settings.stop_strings or []
    settings.stop_strings = None
    named = settings.eos_token_id
    ends = {named} if isinstance(named, int) else set(named or ())

    class Ends(StoppingCriteria):
        """Stops at a stop text, and records whether the last token has ended the answer."""

        def __init__(self) -> None:
            self.stops, self._stopped, self._is_whole = stops, Ended(tokenizer, width, stops), False

        def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **_: Any) -> torch.Tensor:
            stopped = self._stopped(input_ids, scores)
            self._is_whole = bool(stopped.all()) or set(input_ids[:, -1].tolist()) <= ends
            return stopped

        def is_whole(self) -> bool:
            """Return True if the last token has ended the answer."""
            return self._is_whole

    return Ends()


def _fit(model: Any, inputs: Any, settings: Any) -> None:
    """Limit an answer to the tokens left in the model's context. Raises HTTPException if the prompt fills the context or is empty."""
    from fastapi import HTTPException

    context = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    number = inputs["input_ids"].shape[-1]
    if not number:
        raise HTTPException(400, "the prompt has no tokens")
    if context is None:
        return
    if number >= context:
        raise HTTPException(400, f"the prompt has {number:,} tokens, and the context of the model {context:,}")
    settings.max_new_tokens = min(settings.max_new_tokens or context, context - number)


def _without_empty_arguments(message: dict[str, Any]) -> dict[str, Any]:
    """Return a message in which empty arguments of calls are `{}`, since models and clients write an empty text, which is not JSON."""
    if not (calls := message.get("tool_calls")):
        return message
    read = [
        {**call, "function": {**call["function"], "arguments": call["function"]["arguments"] or "{}"}} for call in calls
    ]
    return {**message, "tool_calls": read}


def _foreign_part(messages: Any) -> str | None:
    """Return a description of the first part of a message that is not text; None if all are text."""
    contents = (message.get("content") for message in messages or () if isinstance(message, Mapping))
    for part in (part for content in contents if isinstance(content, list) for part in content):
        kind = part.get("type") if isinstance(part, Mapping) else type(part).__name__
        if kind != "text":
            return f"a part of type {kind!r}"
        if not isinstance(part.get("text"), str):
            return "a part without a text"
    return None


if __name__ == "__main__":
    name, socket, folder, *base = sys.argv[1:]
    sys.exit(process.run(lambda: main(name, socket, Path(folder), Path(base[0]) if base else None)))
