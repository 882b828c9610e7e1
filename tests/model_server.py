"""A server on loopback with the weights of a small model. It completes token ids by a plain call of transformers."""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from tests.chat_server import ChatServer, serving


@contextmanager
def serving_weights(
    model: Any,
    tokenizer: Any,
    name: str = "m",
    fault: Callable[[dict[str, Any], int], str] = lambda request, before: "",
) -> Iterator[ChatServer]:
    """Run the server until the end of the block."""
    network = copy.deepcopy(model)  # requests arrive while the test uses its own model
    network.set_attn_implementation("sdpa")
    ends = network.generation_config.eos_token_id
    ends = ends if isinstance(ends, list) else [ends]

    def reply(request: dict[str, Any]) -> tuple[str, str]:
        ids = torch.tensor([request["prompt"]])
        sampled = {key: request[key] for key in ("temperature", "top_p")} | {"top_k": 0}
        torch.manual_seed(request["seed"])
        output = network.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=request["max_tokens"],
            repetition_penalty=request["repetition_penalty"],
            pad_token_id=0,
            do_sample=request["temperature"] > 0,
            **(sampled if request["temperature"] > 0 else {}),
        )
        response = output[0, ids.shape[1] :].tolist()
        text = tokenizer.decode(response, skip_special_tokens=True)
        before = min((text.split(stop)[0] for stop in request.get("stop", [])), key=len, default=text)
        return before, "stop" if response[-1] in ends or before != text else "length"

    with serving(reply, fault) as server:
        server.models[0]["id"] = name
        yield server
