"""Generate with a server that holds the measured weights, in place of `generation.respond`, and compare its weights with the local ones.

The prompt is sent as the token ids that `generation` reads, because servers add a start token to a text by rules of their own.
Shapes: N = tokens of a response, V = vocabulary.
"""

from collections.abc import Sequence
from functools import cached_property
from typing import Any, NamedTuple

import torch
from transformers import LogitsProcessorList, PreTrainedModel, RepetitionPenaltyLogitsProcessor

from tasks.core.records import Message
from tasks.core.stage import Run
from tasks.core.text.programs import block_end
from tasks.core.text.writing import Answer, Server
from tasks.engine.chat_template import Tokenizer
from tasks.engine.inference import generation, prompt_encoding
from tasks.engine.inference.generation import Response, Sampling
from tasks.engine.inference.writer import Bill
from tasks.io.generators import completions
from tasks.io.generators.answers import Answers
from tasks.io.generators.client import seed

PROBE_TOKENS = 32
"""Maximum tokens of a response by which served and local weights are compared."""
MAX_GAP = 0.5
"""Nats by which, under the local weights, a token of the server may be less likely than the most likely one. On SmolLM2-135M rounding to
bf16 causes 0.06, weights of 8 bits 0.24, of 6 bits 2.3."""
Prompt = Sequence[Message]


class _Doubt(NamedTuple):
    """A prompt to which the server and the local weights write different responses."""

    gap: float
    """The largest gap, in nats, between a token of the server's response and the most likely token; infinite for a response of no tokens."""
    served: str
    local: str


class ServedModel:
    """A model of a server, and the same weights on this machine.

    `identity` is everything that a completion depends on besides its request: the measured weights, and the server's description of itself.
    """

    def __init__(self, server: Server, model: PreTrainedModel, tokenizer: Tokenizer, identity: Any, run: Run) -> None:
        self._server, self._model, self._tokenizer, self._identity, self._run = server, model, tokenizer, identity, run
        self._bill = Bill(server, run, "served_")

    @cached_property
    def _processors(self) -> LogitsProcessorList:
        """Return the processors that the model's generation config asks for."""
        tokenizer = self._tokenizer
        padding = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
        return generation.generation_settings(self._model, padding)[0]

    def respond(
        self,
        prompts: Sequence[Prompt],
        *,
        max_new_tokens: int,
        sampling: Sampling | None,
        stop: Sequence[str],
        tools: Sequence[str | None] = (),
        programs: bool = False,
    ) -> list[Response]:
        """Return the response to each prompt as `generation.respond` does: greedy, or drawn by `sampling`. Responses are cached across runs."""
        requests = self._requests(prompts, tools, max_new_tokens, sampling, stop)
        answers = Answers(self._run.cache / "answers")
        written = completions.complete(self._server, requests, answers, self._identity)
        responses = []
        for request, answer in zip(requests, self._bill.count(written, len(prompts)), strict=True):
            in_reasoning = prompt_encoding.opens_reasoning(request["prompt"], self._tokenizer)
            responses.append(_response(answer, stop, block_end(answer.text, in_reasoning) if programs else None))
        return responses

    def compare(self, prompts: Sequence[Prompt], tools: Sequence[str | None] = ()) -> None:
        """Compare greedy responses of the server with those of the local weights.

        Where responses differ, but every token of the server is nearly the most likely one under the local weights, rounding explains the
        difference, and a warning is given. Otherwise the server has other weights, and ValueError is raised.
        """
        requests = self._requests(prompts, tools, PROBE_TOKENS, None, ())
        answers = list(completions.complete(self._server, requests))
        responses = generation.respond(
            self._model,
            prompts,
            self._tokenizer,
            max_new_tokens=PROBE_TOKENS,
            batch_size=len(prompts),
            tools=tools,
        )
        doubts = [
            _Doubt(self._gap(request["prompt"], answer), answer.text, response.text)
            for request, answer, response in zip(requests, answers, responses, strict=True)
            if _response(answer, ()).text.strip() != response.text.strip()
        ]
        self._run.note(served_probes=len(prompts), served_differences=len(doubts))
        if not doubts:
            return
        worst = max(doubts)
        texts = f"It writes {worst.served!r}, and the measured weights write {worst.local!r}"
        if worst.gap > MAX_GAP:
            raise ValueError(
                f"evaluate.server: {self._server.url} serves other weights than the measured ones as {self._server.model!r}. {texts}; "
                f"a token of the first is {worst.gap:.2f} nats less likely than the likeliest, and {MAX_GAP} is the limit. Serve the "
                "measured model, unquantised, or leave `evaluate.server` out."
            )
        self._run.say(
            f"warning: {self._server.url} rounds otherwise than this machine in {len(doubts)} of {len(prompts)} probes. {texts}; "
            f"no token of the first is more than {worst.gap:.2f} nats less likely than the likeliest."
        )

    def _requests(
        self,
        prompts: Sequence[Prompt],
        tools: Sequence[str | None],
        max_new_tokens: int,
        sampling: Sampling | None,
        stop: Sequence[str],
    ) -> list[dict[str, Any]]:
        keys = sampling.keys if sampling else [""] * len(prompts)
        shared = {
            "model": self._server.model,
            "max_tokens": max_new_tokens,
            "temperature": sampling.temperature if sampling else 0.0,
            "top_p": sampling.top_p if sampling else 1.0,
            # Every setting is named, because servers have defaults: vLLM reads the model's generation config, llama.cpp has its own.
            "top_k": -1,
            "min_p": 0.0,
            **_penalties(self._processors),
            **({"stop": list(stop)} if stop else {}),
        }
        return [
            {**shared, "prompt": ids, "seed": seed(key)}
            for ids, key in zip(prompt_encoding.ids_of(prompts, self._tokenizer, tools), keys, strict=True)
        ]

    @torch.no_grad()
    def _gap(self, ids: Sequence[int], answer: Answer) -> float:
        """Return the largest gap, in nats, between a token of the answer and the most likely token, under the local weights."""
        text, incomplete, _ = answer.text.partition("\ufffd")  # a part of a character has no tokens of its own
        response = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        ends = generation.turn_ends(self._model) if answer.ended and not incomplete else set()
        if not response and not ends:
            return torch.inf
        inputs = torch.tensor([[*ids, *response]], device=self._model.device)
        logits_NV = self._model(input_ids=inputs).logits[0, -len(response) - 1 :].float()
        gaps = []
        for place, allowed in enumerate([*([token] for token in response), [*ends]]):
            if allowed:
                scores_1V = self._processors(inputs[:, : len(ids) + place], logits_NV[place : place + 1])
                gaps.append(float(scores_1V.max() - scores_1V[0, allowed].max()))
        return max(gaps)


def _response(answer: Answer, stop: Sequence[str], end: int | None = None) -> Response:
    """Return a completion, cut off as `generation` does: before the first stop text, and at `end`, where its program ends."""
    text = generation.before(answer.text[:end], stop)
    return Response(text, answer.ended or end is not None or len(text) < len(answer.text))


def _penalties(processors: LogitsProcessorList) -> dict[str, float]:
    """Return the model's repetition penalty under the names of vLLM and of llama.cpp.

    Raises ValueError if the model's generation config asks for any other processor, since a server cannot be asked for one.
    """
    penalty = 1.0
    for processor in processors:
        if not isinstance(processor, RepetitionPenaltyLogitsProcessor):
            raise ValueError(
                f"evaluate.server: the model's generation_config.json asks for {type(processor).__name__}, and a server cannot "
                "be told so. Leave `evaluate.server` out."
            )
        penalty = processor.penalty
    return {"repetition_penalty": penalty, "repeat_penalty": penalty, "repeat_last_n": -1}
