"""Completions of token sequences by servers with OpenAI's API that hold a model's weights: vLLM, SGLang, llama.cpp."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from tasks.core.text.writing import Answer, Server
from tasks.io.generators.answers import Answers
from tasks.io.generators.client import CUT_OFF, Client, Rejected, connect

LASTING = ("id", "root", "parent", "owned_by", "max_model_len", "meta")
"""The fields of a model's entry that stay the same while it is served; times and states are left out."""
ENDS = ("stop", CUT_OFF)
"""The values of `finish_reason`: the model's end token or a stop text; the token limit."""
BUILDS = (("/version", "version"), ("/props", "build_info"))
"""The paths outside the API, and the keys there, at which vLLM and llama.cpp report their version."""


def describe(server: Server) -> dict[str, Any]:
    """Return what a server reports about its model and its own version. Raises ValueError if it does not list the model."""
    with connect(server) as client:
        try:
            body = client.get("/models")
        except Rejected as rejection:
            raise ValueError(f"{server.url} lists no models: {rejection}.") from rejection
        try:
            entries = {str(entry["id"]): entry for entry in body["data"]}
        except (LookupError, TypeError):
            raise client.misshapen(body) from None
        if server.model not in entries:
            names = ", ".join(map(repr, sorted(entries))) or "none"
            raise ValueError(
                f"{server.url} does not serve {server.model!r}. It lists: {names}. "
                "Serve the model by that name, or write another one under `model`."
            )
        entry = entries[server.model]
        facts = {name: entry[name] for name in LASTING if name in entry}
        told = ((key, client.find(path)) for path, key in BUILDS)
        return facts | {key: body[key] for key, body in told if isinstance(body, dict) and key in body}


def complete(
    server: Server, requests: Sequence[dict[str, Any]], answers: Answers | None = None, identity: Any = None
) -> Iterator[Answer]:
    """Yield the completion of each request, in the order of the requests.

    Each completion is stored in `answers`, if given, as it arrives. `identity` is everything that a completion depends on besides the
    request. Raises ValueError if the server rejects a request, does not answer after `TRIES` attempts, or answers in another format.
    """
    with connect(server) as client:
        yield from client.in_order(partial(_complete, client, answers, identity), requests)


def _complete(client: Client, answers: Answers | None, identity: Any, request: dict[str, Any]) -> Answer:
    question = [identity, request]
    if answers and (kept := answers.get(question)) is not None:
        text, ended = kept
        return Answer(text, ended=ended)
    try:
        body = client.post("/completions", request)
    except Rejected as rejection:
        raise ValueError(
            f"{client.server.url} rejects a prompt of {len(request['prompt'])} tokens: {rejection}. It has to take "
            f"prompts as token ids, and to hold this one with {request['max_tokens']} more tokens: start it with a longer "
            "context, or lower `evaluate.max_new_tokens`."
        ) from rejection
    answer = client.answer(body, lambda choice: choice["text"], request["max_tokens"])
    if (reason := body["choices"][0].get("finish_reason")) not in ENDS:
        raise ValueError(
            f"{client.server.url} ended a completion for the reason {reason!r}, and {' or '.join(map(repr, ENDS))} is needed: "
            "an answer that was cut off counts as such."
        )
    if answers:
        answers.keep(question, [answer.text, answer.ended])
    return answer
