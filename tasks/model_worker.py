"""`transformers serve` with a model that Ratchet loads, `python -m tasks.model_worker NAME SOCKET FOLDER [BASE]`, or with all adapters of a
bank on one base, each by its name: then FOLDER is the bank, and NAME is not looked at.

The server, its API and its generation are transformers' own. What is ours is the loading: an adapter of any method, a difference or a
compressed model is put on its base as `evaluate` does, at the precision of section `compute`, from files of this machine alone.
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

from tasks import configuration
from tasks.engine.inference import stop_texts
from tasks.forkserver import imports
from tasks.io.system import process

if TYPE_CHECKING:
    from tasks.engine.device import Placement

Served = Mapping[str, Callable[[], Any]]
"""Models by the names that requests ask for."""
Message = MutableMapping[str, Any]
"""Of ASGI."""
_client_left: ContextVar[threading.Event] = ContextVar("_client_left")
"""Set once the client of the request at hand has gone."""
_asked: ContextVar[Mapping[str, Any]] = ContextVar("_asked")
"""The body of the request at hand."""
OURS = ("seed", "frequency_penalty")
"""Fields that transformers' server reads otherwise: it sets the seed while another answer may still be drawn, and divides the scores of all
tokens of the prompt by the penalty."""
LEAST_TEMPERATURE = 1e-30
"""Scores divided by less are beyond a float; the most probable token is certain long before."""
OF_THE_CALL = ("messages", "load_audio_from_video")
"""Further arguments of a call of the chat template, which its signature does not name."""


def main(name: str, socket: str, folder: Path, base: Path | None) -> None:
    """Load the model, and serve it under its name on a Unix socket until this process is ended."""
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
    """Return the application of `transformers serve`, which answers for these models alone."""
    import jinja2
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

    class Bounded:
        """Refuses prompts that are empty or beyond the model's context, and what generation has no meaning for; ends answers before a stop text,
        where the context ends, and where nobody waits for them: transformers' own server ends streamed ones alone. Samples where a temperature
        above 0 or `top_p` asks for it, as OpenAI's API does: transformers' own server goes by the generation config of the model alone.

        Once a pass has begun, nothing stops it: all other requests would wait for a prompt that is too long.
        """

        async def handle_request(self, body: dict[str, Any], request_id: str) -> Any:
            _asked.set(body)
            try:
                return await super().handle_request(_with_floats(body), request_id)  # type: ignore[misc]
            except (ValueError, jinja2.TemplateError) as error:  # of a setting, or of the chat template about roles
                raise HTTPException(400, str(error).strip().partition("\n")[0]) from None
            except (AttributeError, LookupError, TypeError) as error:
                if body.get("generation_config") is None:
                    raise
                raise HTTPException(400, f"generation_config: generation failed with it: {error}") from None

        def _build_generation_config(self, body: dict[str, Any], *others: Any, **named: Any) -> Any:
            _check_generation_config(body.get("generation_config"))
            read = {field: value for field, value in body.items() if field not in OURS}
            settings = super()._build_generation_config(read, *others, **named)  # type: ignore[misc]
            temperature = body.get("temperature")
            if temperature or (temperature is None and body.get("top_p") is not None):
                settings.do_sample = True
                settings.top_k = settings.top_k or 0  # None would be transformers' own 50
            if settings.temperature:
                settings.temperature = max(settings.temperature, LEAST_TEMPERATURE)
            settings.return_dict_in_generate = False  # the server takes the tokens alone
            settings.stop_strings = stop_texts.checked(settings.stop_strings)
            return settings

        def _streaming(self, request: str, model: Any, *others: Any, **named: Any) -> Any:
            processor, name, inputs, settings, *further = others
            _fit(model, inputs, settings)
            ends = _ends(tokenizer, inputs, settings)
            inputs = {**inputs, "stopping_criteria": [ends], **_drawn(inputs)}  # all of it goes to `generate`
            response = super()._streaming(  # type: ignore[misc]
                request, model, processor, name, inputs, settings, *further, **named
            )
            response.body_iterator = stop_texts.cut_events(response.body_iterator, ends.stops, ends.is_whole)
            return response

        async def _non_streaming(self, request: str, model: Any, *others: Any, **named: Any) -> Any:
            processor, name, inputs, settings, *further = others
            _fit(model, inputs, settings)
            ends = _ends(tokenizer, inputs, settings)
            inputs = {**inputs, "stopping_criteria": [ends, _ends_with_client()], **_drawn(inputs)}
            response = await super()._non_streaming(  # type: ignore[misc]
                request, model, processor, name, inputs, settings, *further, **named
            )
            return type(response)(stop_texts.cut(json.loads(response.body), ends.stops, ends.is_whole))

    # Arguments of the call around the template: who sets them has another prompt than a chat, or none.
    reserved = {*inspect.signature(tokenizer.apply_chat_template).parameters, *OF_THE_CALL} - {"documents"}

    class Chat(Bounded, ChatCompletionHandler):
        """Refuses what the chat template would leave out: tools, images. A developer is the system to templates without one."""

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
            """Return the messages as templates take them in training: transformers leaves out the text beside calls, and the name of a tool."""
            read = ChatCompletionHandler.get_processor_inputs_from_messages
            if "developer" not in str(tokenizer.chat_template):  # it is the same to OpenAI's API, and to `ingest`
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
    manager = Manager(force_model=only, model_timeout=-1)  # what is held is not unloaded
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
    """Tells a request when its client has gone, while the answer is computed."""

    def __init__(self, app: Callable[..., Awaitable[None]]) -> None:
        self._app = app

    async def __call__(
        self,
        scope: Mapping[str, Any],
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        """Answer as the application within does."""
        left, listeners = threading.Event(), list[asyncio.Task[None]]()
        _client_left.set(left)

        async def listen() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass
            left.set()

        async def received() -> Message:
            message = await receive()
            if message["type"] == "http.request" and not message.get("more_body"):  # nothing follows but the end
                listeners.append(asyncio.create_task(listen()))
            return message

        try:
            await self._app(scope, received, send)
        finally:
            for listener in listeners:
                listener.cancel()


def _ends_with_client() -> Any:
    """Return the criterion by which generation stops once the client of the request at hand has gone."""
    import torch
    from transformers import StoppingCriteria

    class ClientLeft(StoppingCriteria):
        """Stops all sequences once the client has gone."""

        def __init__(self, left: threading.Event) -> None:
            self._left = left

        def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **_: Any) -> torch.Tensor:
            return torch.full((len(input_ids),), self._left.is_set(), device=input_ids.device)

    return ClientLeft(_client_left.get())


def _drawn(inputs: Any) -> dict[str, Any]:
    """Return the argument of `generate` by which the seed and the frequency penalty of the request at hand are honoured; none without them."""
    import torch
    from transformers import LogitsProcessor

    width = inputs["input_ids"].shape[-1]
    seed, penalty = (_asked.get().get(field) for field in OURS)

    class Drawn(LogitsProcessor):
        """Sets the seed before the first token, and lowers the score of a token by the penalty for each time that the answer has it."""

        def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
            written = input_ids[:, width:]
            if seed is not None and not written.shape[-1]:
                torch.manual_seed(seed)
            if not penalty:
                return scores
            return scores.scatter_add(1, written, torch.full_like(written, -penalty, dtype=scores.dtype))

    return {"logits_processor": [Drawn()]} if penalty or seed is not None else {}


def _ends(tokenizer: Any, inputs: Any, settings: Any) -> Any:
    """Return the criterion by which generation stops at a stop text, which is taken out of the settings.

    transformers' own criterion reads the prompt too: a text that begins there ended the answer.
    """
    import torch
    from transformers import StoppingCriteria

    from tasks.engine.inference.generation import Ended

    width, stops = inputs["input_ids"].shape[-1], settings.stop_strings or []
    settings.stop_strings = None
    named = settings.eos_token_id
    ends = {named} if isinstance(named, int) else set(named or ())

    class Ends(StoppingCriteria):
        """Stops at a stop text, and remembers whether the last token has ended the answer."""

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
    """Limit an answer to the tokens that the model's context has left. Raises HTTPException if its prompt fills that, or is empty."""
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


def _with_floats(body: dict[str, Any]) -> dict[str, Any]:
    """Return a request whose biases of tokens are floats, which a whole number in JSON is not. Raises ValueError if one is no number."""
    if not (bias := body.get("logit_bias")):
        return body
    try:
        return body | {"logit_bias": {str(int(token)): float(value) for token, value in bias.items()}}
    except (AttributeError, TypeError, ValueError):
        raise ValueError("logit_bias is no object of numbers by the ids of tokens") from None


def _check_generation_config(text: str | None) -> None:
    """Raise ValueError if the field `generation_config` of a request is no JSON object."""
    try:
        is_sound = text is None or isinstance(json.loads(text), dict)
    except ValueError:
        is_sound = False
    if not is_sound:
        raise ValueError("generation_config is no JSON object")


def _without_empty_arguments(message: dict[str, Any]) -> dict[str, Any]:
    """Return a message whose calls without arguments have none in JSON too: models and clients write an empty text there."""
    if not (calls := message.get("tool_calls")):
        return message
    read = [
        {**call, "function": {**call["function"], "arguments": call["function"]["arguments"] or "{}"}} for call in calls
    ]
    return {**message, "tool_calls": read}


def _foreign_part(messages: Any) -> str | None:
    """Describe the first part of a message that is no text; None where all are texts."""
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
