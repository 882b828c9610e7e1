"""Generate responses, with one model or with one that helpers steer, greedily or by sampling, in left-padded batches.

Shapes: B = rows of a batch, T = tokens of a row so far, V = vocabulary.
"""

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    PreTrainedModel,
    StoppingCriteria,
    StoppingCriteriaList,
    TemperatureLogitsWarper,
    TopPLogitsWarper,
)

from tasks.core.records import Message
from tasks.core.text.programs import block_end
from tasks.engine.chat_template import Tokenizer, render_prompt
from tasks.engine.context import room
from tasks.engine.forward import reads_alone, use_own_attention
from tasks.engine.inference import decoding
from tasks.engine.inference.batches import Track
from tasks.engine.inference.grammar import Constraint
from tasks.engine.inference.prompt_encoding import opens_reasoning, prompt_text
from tasks.engine.inference.steering import Steering

FENCES = "`~"
"""The characters of code fences, which end the block of a program."""
ENDS = ("end of turn", "first closed code block of a program under test")
"""The ends of answers, besides their maximum length and the given stop sequences."""
OF_ONE_PROMPT = ("min_new_tokens", "exponential_decay_length_penalty", "begin_suppress_tokens")
"""Settings of a generation config whose processors depend on the length of the prompt."""
PADDING = "left"
"""The side on which shorter prompts of a batch are padded: a model continues from a prompt's last token."""


@dataclass(frozen=True)
class Sampling:
    """Sampling of tokens at a temperature, from the most likely ones that together have probability `top_p`."""

    temperature: float
    top_p: float
    keys: Sequence[str]
    """A seed for each prompt: its random numbers do not depend on the other prompts of its batch."""

    def at(self, places: Sequence[int]) -> "Sampling":
        """Return the sampling of some of the prompts."""
        return replace(self, keys=[self.keys[place] for place in places])

    def of(self, rows: Sequence[int]) -> LogitsProcessorList:
        """Return the processors that draw the tokens of these prompts."""
        return self.drawing([random.Random(self.keys[row]) for row in rows])

    def drawing(self, streams: Sequence[random.Random]) -> LogitsProcessorList:
        """Return the processors that draw one token for each stream of random numbers, by the stream's next number."""
        likeliest = [TopPLogitsWarper(self.top_p)] if self.top_p < 1 else []  # it sorts the vocabulary for each row
        return LogitsProcessorList([TemperatureLogitsWarper(self.temperature), *likeliest, _Draw(streams)])


@dataclass(frozen=True)
class Response:
    """A model's response to one prompt."""

    text: str
    ended: bool
    """False if it was cut off after `max_new_tokens` tokens."""
    tokens_read: int = field(default=0, compare=False)
    tokens_written: int = field(default=0, compare=False)
    """Both counts of tokens are 0 where they are unknown, as for a response that was cached by an earlier run."""


def write(
    model: PreTrainedModel, prompts: Sequence[Sequence[Message]], tokenizer: Tokenizer, **options: Any
) -> list[str]:
    """Return the texts of `respond`, which takes the same options."""
    return [response.text for response in respond(model, prompts, tokenizer, **options)]


@torch.no_grad()
def respond(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[Message]],
    tokenizer: Tokenizer,
    *,
    max_new_tokens: int,
    batch_size: int,
    sampling: Sampling | None = None,
    stop: Sequence[str] = (),
    track: Track = iter,
    steering: Steering | None = None,
    tasks: Sequence[str] = (),
    tools: Sequence[str | None] = (),
    constrained: bool = False,
    programs: bool = False,
) -> list[Response]:
    """Return the model's response to each prompt, in their order: greedy, or drawn by `sampling`.

    `tasks` are the tasks of the prompts, for models that depend on them; without `tasks`, or with `steering`, the task of a prompt is
    unknown. `tools` are the schemas of each prompt's tools, which the chat template writes. With `constrained` a prompt with tools is
    answered by one call that they allow and nothing after it; a steered model cannot be constrained. With `programs` only the program of an
    answer is judged, so an answer ends with its code block.

    Prompts are read in order of length, and at most `batch_size` responses are written at a time: when one ends, the next prompt takes its
    place; a steered batch is written to its end. The shape of a batch changes the last digits of logits, and in bf16 sometimes a token.
    A response ends at the end of turn, before the first of the texts in `stop`, after `max_new_tokens` tokens, or where the
    model's context ends. Raises ValueError for a prompt that does not fit into the context.
    """
    render, schemas = prompt_text if steering else render_prompt, tools or [None] * len(prompts)
    texts = [render(prompt, tokenizer, each) for prompt, each in zip(prompts, schemas, strict=True)]
    special = tokenizer.chat_template is None
    ids = [tokenizer(text, add_special_tokens=special)["input_ids"] for text in texts]
    beside = partial(_beside, steering, prompts, schemas) if steering else None
    return continue_from(
        model,
        ids,
        tokenizer,
        max_new_tokens=max_new_tokens,
        batch_size=batch_size,
        sampling=sampling,
        stop=stop,
        track=track,
        beside=beside,
        tasks=tasks,
        lengths=[len(text) for text in texts],
        called=schemas if constrained else (),
        programs=programs,
    )


Beside = Callable[[Sequence[int]], tuple[Callable[..., Tensor], Sequence[float]]]
"""Numbers of prompts → the loop in which helpers steer a model, and the tokens of each answer for which their contexts have room."""


def _beside(
    steering: Steering, prompts: Sequence[Sequence[Message]], tools: Sequence[str | None], batch: Sequence[int]
) -> tuple[Callable[..., Tensor], Sequence[float]]:
    asked = [prompts[number] for number in batch], [tools[number] for number in batch]
    return steering.beside(*asked), steering.room(*asked)


@torch.no_grad()
def continue_from(
    model: PreTrainedModel,
    ids: Sequence[list[int]],
    tokenizer: Tokenizer,
    *,
    max_new_tokens: int,
    batch_size: int,
    sampling: Sampling | None = None,
    stop: Sequence[str] = (),
    track: Track = iter,
    beside: Beside | None = None,
    tasks: Sequence[str] = (),
    lengths: Sequence[int] = (),
    called: Sequence[str | None] = (),
    programs: bool = False,
) -> list[Response]:
    """Return what the model writes after each prompt, given in tokens, as `respond` does. Prompts are read in the order of `lengths`, by
    default their lengths in tokens. `called` holds, for each prompt that must be answered by a call, the tools that it may call."""
    space = room(model, ids)
    use_own_attention(model)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token  # padding is masked
    lengths = lengths or [len(prompt) for prompt in ids]
    order = sorted(range(len(ids)), key=lambda index: lengths[index])
    batches = track([order[start : start + batch_size] for start in range(0, len(order), batch_size)])
    in_reasoning = programs and any(opens_reasoning(prompt, tokenizer) for prompt in ids)  # one template for all
    ended = Ended(tokenizer, 0, stop, programs, in_reasoning)
    calls = [bool(tools) for tools in called] or [False] * len(ids)
    if beside:
        most = [min(max_new_tokens, each) for each in space]
        written = _steered(model, beside, ids, batches, tokenizer, most, sampling, ended)
    else:
        chooser = _Chooser(model, ids, tokenizer, sampling, called)

        def has_ended(number: int, tokens: Sequence[int]) -> bool:
            is_whole = tokens[-1] in chooser.ends or (not calls[number] and ended.row(tokens))
            return is_whole or len(tokens) >= space[number]

        how: dict[str, Any] = {"max_new_tokens": max_new_tokens, "choose": chooser.choose, "has_ended": has_ended}
        if reads_alone(model):
            written = decoding.decode_alone(model, ids, batches, padding=tokenizer.pad_token_id, **how)
        else:
            written = decoding.decode(model, ids, tasks or [""] * len(ids), batches, batch_size=batch_size, **how)
    responses = dict(written)
    answers = [tokenizer.decode(responses[index], skip_special_tokens=True) for index in range(len(ids))]
    end_tokens = turn_ends(model)
    return [
        Response(
            text if calls[index] else before(text, stop),
            not end_tokens.isdisjoint(responses[index]) or (not calls[index] and ended.row(responses[index])),
            len(ids[index]),
            len(responses[index]),
        )
        for index, text in enumerate(answers)
    ]


def turn_ends(model: PreTrainedModel) -> set[int]:
    """Return the tokens that end a response according to the model's own generation config."""
    tokens = model.generation_config.eos_token_id
    return set(tokens) if isinstance(tokens, list) else {tokens} - {None}


def _steered(
    model: PreTrainedModel,
    beside: Beside,
    ids: Sequence[list[int]],
    batches: Iterable[list[int]],
    tokenizer: Tokenizer,
    most: Sequence[float],
    sampling: Sampling | None,
    ended: "Ended",
) -> Iterator[tuple[int, list[int]]]:
    """Yield the number and the tokens of each response that helpers steer, with at most its `most` tokens, batch by batch."""
    for batch in batches:
        loop, space = beside(batch)
        lengths = [int(min(most[number], each)) for number, each in zip(batch, space, strict=True)]
        padded = tokenizer.pad({"input_ids": [ids[i] for i in batch]}, padding_side=PADDING, return_tensors="pt")
        width = padded["input_ids"].shape[1]
        outputs = model.generate(
            **padded.to(model.device),
            max_new_tokens=max(lengths),
            do_sample=False,  # the processor of `sampling` leaves only the token it drew
            logits_processor=sampling.of(batch) if sampling else None,
            pad_token_id=tokenizer.pad_token_id,
            stopping_criteria=[ended.after(width), _Long(width, lengths)],
            custom_generate=loop,
        )
        rows = zip(outputs[:, width:].tolist(), lengths, strict=True)
        ends = turn_ends(model)
        yield from zip(batch, (_to_end(tokens[:length], ends, ended) for tokens, length in rows), strict=True)


def _to_end(tokens: list[int], ends: set[int], ended: "Ended") -> list[int]:
    """Return a row up to the end of its response, without the padding after it."""
    lengths = (n for n, token in enumerate(tokens, 1) if token in ends or ended.row(tokens[:n]))
    return tokens[: next(lengths, len(tokens))]


class _Chooser:
    """Chooses the next tokens: applies the processors of the model's own generation config, masks tokens with which no allowed call can
    continue, and draws a token or takes the most likely one."""

    def __init__(
        self,
        model: PreTrainedModel,
        prompts: Sequence[Sequence[int]],
        tokenizer: Tokenizer,
        sampling: Sampling | None,
        called: Sequence[str | None],
    ) -> None:
        self._prompts, self._sampling = prompts, sampling
        self._streams = [random.Random(key) for key in sampling.keys] if sampling else []
        processors, ends = generation_settings(model, tokenizer.pad_token_id)
        self._processors = LogitsProcessorList() if reads_alone(model) else processors  # else applied by its loop
        self.ends = frozenset(ends)
        """The tokens that end a response."""
        self._constraint = Constraint(tokenizer, ends, called) if any(called) else None
        if self._constraint:
            self.ends |= self._constraint.ends

    def choose(self, numbers: Sequence[int], responses: Sequence[Sequence[int]], logits_AV: Tensor) -> Tensor:
        """Return the next token of each row, (A,)."""
        if self._processors:
            rows = [[*self._prompts[number], *response] for number, response in zip(numbers, responses, strict=True)]
            scored = [  # row by row: processors would count padding as tokens
                self._processors(torch.tensor([row], device=logits_AV.device), logits_V[None])
                for row, logits_V in zip(rows, logits_AV, strict=True)
            ]
            logits_AV = torch.cat(scored)
        if self._constraint:
            logits_AV = self._constraint.mask(numbers, responses, logits_AV)
        if self._sampling:
            draw = self._sampling.drawing([self._streams[number] for number in numbers])
            logits_AV = draw(None, logits_AV)
        return logits_AV.argmax(dim=1)


def generation_settings(model: PreTrainedModel, padding: int) -> tuple[LogitsProcessorList, list[int]]:
    """Return the processors that `model.generate` would use for greedy decoding, such as a repetition penalty, and the end tokens.

    Raises ValueError if the model's generation config asks for a processor that needs the length of each prompt.
    """
    for name in OF_ONE_PROMPT:
        if getattr(model.generation_config, name, None):
            raise ValueError(
                f"{model.name_or_path}: its generation_config.json sets {name}, which counts from the end of each prompt, and processors "
                "here are those of all prompts. Remove the setting there."
            )
    processors, ends = LogitsProcessorList(), []

    def keep(
        model: PreTrainedModel,
        input_ids: Tensor,
        logits_processor: LogitsProcessorList,
        stopping_criteria: StoppingCriteriaList,
        generation_config: GenerationConfig,
        **_: Any,
    ) -> Tensor:
        processors.extend(logits_processor)
        tokens = generation_config.eos_token_id
        ends.extend([] if tokens is None else tokens if isinstance(tokens, list) else [tokens])
        return input_ids

    ids = torch.full((1, 1), padding, device=model.device)
    model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=1,
        do_sample=False,
        pad_token_id=padding,
        custom_generate=keep,
    )
    return processors, ends


class _Draw(LogitsProcessor):
    """Leaves each row one token, drawn by probability with the next number of the row's own random stream."""

    def __init__(self, streams: Sequence[random.Random]) -> None:
        self._streams = streams

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        uniform_B1 = torch.tensor([[stream.random()] for stream in self._streams], dtype=torch.float64)
        sums_BV = (
            scores.cpu().double().softmax(dim=1).cumsum(dim=1)
        )  # on the CPU: other devices may lack doubles or deterministic sums
        # The draw is scaled by the last sum, which rounding may keep from being exactly 1; `right` skips tokens of probability 0.
        token_B1 = torch.searchsorted(sums_BV, uniform_B1 * sums_BV[:, -1:], right=True)
        return torch.full_like(scores, -torch.inf).scatter_(1, token_B1.to(scores.device), 0.0)


class Ended(StoppingCriteria):
    """True for each row whose response holds one of the texts in `stop` or, with `programs`, has closed the code block of its program.

    `in_reasoning`: the prompts have opened the reasoning, so the responses begin inside it.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        width: int,
        stop: Sequence[str] = (),
        programs: bool = False,
        in_reasoning: bool = False,
    ) -> None:
        self._tokenizer, self._width, self._stop = tokenizer, width, stop
        self._programs, self._in_reasoning = programs, in_reasoning
        self._last = {text[-1] for text in stop} | set(FENCES if programs else "")
        self._can_end: dict[int, bool] = {}

    def __call__(self, input_ids: Tensor, scores: Any, **_: Any) -> Tensor:
        ended = [self.row(tokens) for tokens in input_ids[:, self._width :].tolist()]
        return torch.tensor(ended, device=input_ids.device)

    def after(self, width: int) -> "Ended":
        """Return the same for rows whose responses begin at this column."""
        return Ended(self._tokenizer, width, self._stop, self._programs, self._in_reasoning)

    def row(self, tokens: Sequence[int]) -> bool:
        """Return True if the last token completes the response. The text is decoded only if that token can end a response."""
        if not tokens or not self._may_end(tokens[-1]):
            return False
        text = self._tokenizer.decode(tokens)
        is_closed = self._programs and block_end(text, self._in_reasoning) is not None
        return is_closed or any(end in text for end in self._stop)

    def _may_end(self, token: int) -> bool:
        """Return True for a token with the last character of an end, with a part of a character, or with white space that decoding strips."""
        if token not in self._can_end:
            piece = self._tokenizer.decode([token])
            self._can_end[token] = not piece.strip() or "\ufffd" in piece or any(end in piece for end in self._last)
        return self._can_end[token] or any(end.isspace() for end in self._last)


class _Long(StoppingCriteria):
    """True for each row whose response has reached its maximum length."""

    def __init__(self, width: int, lengths: Sequence[int]) -> None:
        self._width, self._lengths = width, lengths

    def __call__(self, input_ids: Tensor, scores: Any, **_: Any) -> Tensor:
        return torch.tensor(self._lengths, device=input_ids.device) <= input_ids.shape[1] - self._width


def before(text: str, stop: Sequence[str]) -> str:
    """Return the text up to the first of the stop sequences."""
    return text[: min((text.find(end) for end in stop if end in text), default=len(text))]
