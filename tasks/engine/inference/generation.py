"""Generation of responses, by one model or steered by helpers, greedy or sampled, in left-padded batches.

Shapes: B = rows of a batch, T = tokens of a row so far, V = vocabulary.
"""

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
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
from tasks.engine.chat_template import Tokenizer, render_prompt
from tasks.engine.forward import combined_losses, use_packed_attention
from tasks.engine.inference import decoding

FENCE = "```"
Track = Callable[[Iterable[list[int]]], Iterable[list[int]]]
ENDS = ("end of turn", "first closed code block")
"""The ends of every answer, beside its length and the given stop sequences."""
PADDING = "left"
"""The side of a batch's shorter prompts that is padded: a model continues from a prompt's last token."""
Pair = tuple[PreTrainedModel, Tokenizer]


@dataclass(frozen=True)
class Sampling:
    """Sampling of tokens at a temperature, from the likeliest ones that together have probability `top_p`."""

    temperature: float
    top_p: float
    keys: Sequence[str]
    """A seed for each prompt: its random numbers do not depend on the other prompts of its batch."""

    def of(self, rows: Sequence[int]) -> LogitsProcessorList:
        """Return the processors that draw the tokens of these prompts."""
        return self.drawing([random.Random(self.keys[row]) for row in rows])

    def drawing(self, streams: Sequence[random.Random]) -> LogitsProcessorList:
        """Return the processors that draw a token for each of these streams of random numbers, the next of each."""
        return LogitsProcessorList(
            [TemperatureLogitsWarper(self.temperature), TopPLogitsWarper(self.top_p), _Draw(streams)]
        )


@dataclass(frozen=True)
class Steering:
    """Helper models beside a main one, and the function that combines their logits. `steer` makes it."""

    helpers: Sequence[Pair]
    combine: Callable[[Tensor, Sequence[Tensor]], Tensor]
    """Of a method of family `decoders`: the main model's logits and the helpers' → the logits to write by."""
    vocabulary: int
    """Tokens of lower ids are shared by all models; others are not written."""

    def losses(self, model: PreTrainedModel, batch: dict[str, Tensor]) -> Tensor:
        """Return the loss of each trained token of a packed row, which all models read, (N,), for `scoring.losses`.

        Raises ValueError for a token that not all of them share.
        """
        if (largest := int(batch["input_ids"].max())) >= self.vocabulary:
            raise ValueError(
                f"The text holds token {largest}, and the models share only those below {self.vocabulary}."
            )
        models = [model, *(helper for helper, _ in self.helpers)]
        for reader in models:
            use_packed_attention(reader)
        return combined_losses(models, batch, self.combine, self.vocabulary)

    def beside(self, prompts: Sequence[Sequence[Message]]) -> Callable[..., Tensor]:
        """Return a loop for `model.generate(custom_generate=…)` in which the helpers read along, with prompts in their own templates.

        It decodes greedily or samples. Processors, temperature and top-p work on the combined logits.
        """

        def write(
            model: PreTrainedModel,
            input_ids: Tensor,
            logits_processor: LogitsProcessorList,
            stopping_criteria: StoppingCriteriaList,
            generation_config: GenerationConfig,
            **model_kwargs: Any,
        ) -> Tensor:
            ids_BT, mask_BT = input_ids, model_kwargs.get("attention_mask")
            if len(ids_BT) != len(prompts):
                raise ValueError("A steered model writes one answer to a prompt: no beams, no `num_return_sequences`.")
            readers = [_Reader(model, ids_BT, torch.ones_like(ids_BT) if mask_BT is None else mask_BT)]
            for helper, tokenizer in self.helpers:
                helper.set_attn_implementation("sdpa")
                ids = [prompt_ids(prompt, tokenizer) for prompt in prompts]
                readers.append(_Reader(helper, *decoding.left_padded(ids, helper.device)))
            done_B = torch.zeros(len(ids_BT), dtype=torch.bool, device=ids_BT.device)
            while not done_B.all():
                main_BV, *helpers = [reader.logits() for reader in readers]
                shared_BV = self.combine(
                    main_BV[:, : self.vocabulary], [helper[:, : self.vocabulary] for helper in helpers]
                )
                logits_BV = F.pad(shared_BV, (0, main_BV.shape[1] - shared_BV.shape[1]), value=-torch.inf)
                scores_BV = logits_processor(ids_BT, logits_BV)
                if generation_config.do_sample:
                    token_B = torch.multinomial(scores_BV.softmax(dim=1), 1)[:, 0]
                else:
                    token_B = scores_BV.argmax(dim=1)
                token_B = torch.where(done_B, generation_config.pad_token_id, token_B)
                ids_BT = torch.cat([ids_BT, token_B[:, None]], dim=1)
                done_B = done_B | stopping_criteria(ids_BT, scores_BV)
                for reader in readers:
                    reader.read(token_B)
            return ids_BT

        return write


class _Reader:
    """One model's view of a batch: its own prompts and cache, and the tokens that all of them are given."""

    def __init__(self, model: PreTrainedModel, ids_BT: Tensor, mask_BT: Tensor) -> None:
        self._model, self._new, self._mask = model, ids_BT, mask_BT
        self._cache: dict[str, Any] = {}

    def logits(self) -> Tensor:
        """Return the logits of the next token, (B, V)."""
        positions = (self._mask.cumsum(dim=1) - 1).clamp(min=0)[:, -self._new.shape[1] :]
        output = self._model(
            input_ids=self._new,
            attention_mask=self._mask,
            position_ids=positions,
            logits_to_keep=1,
            use_cache=True,
            **self._cache,
        )
        name = "cache" if "cache" in output else "past_key_values"  # as transformers called it before 5.24
        self._cache = {name: output[name]}
        return output.logits[:, -1].float()

    def read(self, token_B: Tensor) -> None:
        """Take the token that was chosen for each row."""
        self._new = token_B[:, None].to(self._mask.device)
        self._mask = torch.cat([self._mask, torch.ones_like(self._new)], dim=1)


def steer(main: Pair, helpers: Sequence[Pair], combine: Callable[[Tensor, Sequence[Tensor]], Tensor]) -> Steering:
    """Steer `main` by `helpers`. Raises ValueError if an id stands for different tokens in two of the tokenizers."""
    vocabularies = [
        {number: token for token, number in tokenizer.get_vocab().items()} for _, tokenizer in (main, *helpers)
    ]
    first, *others = vocabularies
    for other, (_, tokenizer) in zip(others, helpers, strict=True):
        different = [number for number in first.keys() & other.keys() if first[number] != other[number]]
        if different:
            number = min(different)
            raise ValueError(
                f"Models of different tokenizers cannot steer each other: token {number} is {first[number]!r} in "
                f"{main[1].name_or_path} and {other[number]!r} in {tokenizer.name_or_path}."
            )
    numbers = [set(vocabulary) for vocabulary in vocabularies]
    not_shared = set.union(*numbers) - set.intersection(*numbers)
    widths = [model.get_output_embeddings().weight.shape[0] for model, _ in (main, *helpers)]
    return Steering(helpers, combine, min([*widths, *not_shared]))


@dataclass(frozen=True)
class Response:
    """A model's response to one prompt."""

    text: str
    ended: bool
    """False if it was cut off after `max_new_tokens` tokens."""


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
) -> list[Response]:
    """Return the model's response to each prompt, in their order: greedy, or drawn by `sampling`.

    `tasks` are those of the prompts, for models that go by them; without them, or steered, a prompt is of no task that is known.

    Prompts are read in order of length, and at most `batch_size` responses are written at a time: where some end, the next prompts take
    their places; steered, a batch is written to its end. The shape of a batch changes the last digits of logits, and so in bf16 now and
    then a token. A response ends at the end of turn, at its first closed code block, before the first of the texts in `stop`, or after
    `max_new_tokens` tokens.
    """
    model.set_attn_implementation("sdpa")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token  # masked wherever it stands
    render = _prompt_text if steering else render_prompt
    texts = [render(prompt, tokenizer) for prompt in prompts]
    order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
    batches = track([order[start : start + batch_size] for start in range(0, len(order), batch_size)])
    special = tokenizer.chat_template is None
    ids = [tokenizer(text, add_special_tokens=special)["input_ids"] for text in texts]
    ended = _Ended(tokenizer, 0, stop)
    if steering:
        written = _steered(model, steering, prompts, ids, batches, tokenizer, max_new_tokens, sampling, ended)
    else:
        chooser = _Chooser(model, ids, tokenizer, sampling)
        written = decoding.decode(
            model,
            ids,
            tasks or [""] * len(ids),
            batches,
            batch_size=batch_size,
            max_new_tokens=max_new_tokens,
            choose=chooser.choose,
            has_ended=lambda tokens: tokens[-1] in chooser.ends or ended.row(tokens),
        )
    responses = dict(written)
    answers = [tokenizer.decode(responses[index], skip_special_tokens=True) for index in range(len(texts))]
    end_tokens = turn_ends(model)
    return [
        Response(before(text, stop), not end_tokens.isdisjoint(responses[index]) or ended.row(responses[index]))
        for index, text in enumerate(answers)
    ]


def turn_ends(model: PreTrainedModel) -> set[int]:
    """Return the tokens that end a response by the model's own config."""
    tokens = model.generation_config.eos_token_id
    return set(tokens) if isinstance(tokens, list) else {tokens} - {None}


def _prompt_text(prompt: Sequence[Message], tokenizer: Tokenizer) -> str:
    """Return the prompt in the model's chat template, or as plain text if the model has none."""
    if tokenizer.chat_template is None:
        return "\n\n".join(message.content for message in prompt)
    return render_prompt(prompt, tokenizer)


def prompt_ids(prompt: Sequence[Message], tokenizer: Tokenizer) -> list[int]:
    """Return the tokens of a prompt in the model's chat template, or of its plain text if the model has none."""
    special = tokenizer.chat_template is None
    return tokenizer(_prompt_text(prompt, tokenizer), add_special_tokens=special)["input_ids"]


def _steered(
    model: PreTrainedModel,
    steering: Steering,
    prompts: Sequence[Sequence[Message]],
    ids: Sequence[list[int]],
    batches: Iterable[list[int]],
    tokenizer: Tokenizer,
    max_new_tokens: int,
    sampling: Sampling | None,
    ended: "_Ended",
) -> Iterator[tuple[int, list[int]]]:
    """Yield the number and the tokens of each response that helpers steer, batch by batch."""
    for batch in batches:
        padded = tokenizer.pad({"input_ids": [ids[i] for i in batch]}, padding_side=PADDING, return_tensors="pt")
        width = padded["input_ids"].shape[1]
        outputs = model.generate(
            **padded.to(model.device),
            max_new_tokens=max_new_tokens,
            do_sample=False,  # the processor of `sampling` leaves only the token it drew
            logits_processor=sampling.of(batch) if sampling else None,
            pad_token_id=tokenizer.pad_token_id,
            stopping_criteria=[ended.after(width)],
            custom_generate=steering.beside([prompts[i] for i in batch]),
        )
        yield from zip(batch, outputs[:, width:].tolist(), strict=True)


class _Chooser:
    """The choice of the next tokens: by the processors that the model's own generation config asks for, then drawn or the likeliest."""

    def __init__(
        self, model: PreTrainedModel, prompts: Sequence[Sequence[int]], tokenizer: Tokenizer, sampling: Sampling | None
    ) -> None:
        self._prompts, self._sampling, self._padding = prompts, sampling, tokenizer.pad_token_id
        self._streams = [random.Random(key) for key in sampling.keys] if sampling else []
        self._processors, ends = generation_settings(model, self._padding)
        self.ends = frozenset(ends)
        """The tokens that end a response."""

    def choose(self, numbers: Sequence[int], responses: Sequence[Sequence[int]], logits_AV: Tensor) -> Tensor:
        """Return the next token of each row, (A,)."""
        if self._processors:
            rows = [[*self._prompts[number], *response] for number, response in zip(numbers, responses, strict=True)]
            ids_AT, _ = decoding.left_padded(rows, logits_AV.device, self._padding)
            logits_AV = self._processors(ids_AT, logits_AV)
        if self._sampling:
            draw = self._sampling.drawing([self._streams[number] for number in numbers])
            logits_AV = draw(None, logits_AV)
        return logits_AV.argmax(dim=1)


def generation_settings(model: PreTrainedModel, padding: int) -> tuple[LogitsProcessorList, list[int]]:
    """Return the processors that `model.generate` would use for greedy decoding, such as a repetition penalty, and the end tokens."""
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
    """Leaves each row one token, drawn by its probability with the next number of the row's own stream."""

    def __init__(self, streams: Sequence[random.Random]) -> None:
        self._streams = streams

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        uniform_B1 = torch.tensor([[stream.random()] for stream in self._streams], dtype=torch.float64)
        sums_BV = (
            scores.cpu().double().softmax(dim=1).cumsum(dim=1)
        )  # not every device has doubles, and sums that repeat
        # Scaled by the last sum, which rounding keeps from being 1; `right` passes over tokens of no probability.
        token_B1 = torch.searchsorted(sums_BV, uniform_B1 * sums_BV[:, -1:], right=True)
        return torch.full_like(scores, -torch.inf).scatter_(1, token_B1.to(scores.device), 0.0)


class _Ended(StoppingCriteria):
    """True for each row whose response has opened a code block and closed it, or holds one of the texts in `stop`."""

    def __init__(self, tokenizer: Tokenizer, width: int, stop: Sequence[str] = ()) -> None:
        self._tokenizer, self._width, self._stop = tokenizer, width, stop
        self._last = {text[-1] for text in (FENCE, *stop)}
        self._can_end: dict[int, bool] = {}

    def __call__(self, input_ids: Tensor, scores: Any, **_: Any) -> Tensor:
        ended = [self.row(tokens) for tokens in input_ids[:, self._width :].tolist()]
        return torch.tensor(ended, device=input_ids.device)

    def after(self, width: int) -> "_Ended":
        """Return the same for rows whose responses begin at this column."""
        return _Ended(self._tokenizer, width, self._stop)

    def row(self, tokens: Sequence[int]) -> bool:
        """Return True if the response is complete by its last token. The text is decoded only where that token may end one."""
        if not tokens or not self._may_end(tokens[-1]):
            return False
        text = self._tokenizer.decode(tokens)
        return text.count(FENCE) >= 2 or any(end in text for end in self._stop)

    def _may_end(self, token: int) -> bool:
        """Return True for a token that has the last character of an end, or part of a character, or white space that decoding strips."""
        if token not in self._can_end:
            piece = self._tokenizer.decode([token])
            self._can_end[token] = not piece.strip() or "\ufffd" in piece or any(end in piece for end in self._last)
        return self._can_end[token] or any(end.isspace() for end in self._last)


def before(text: str, stop: Sequence[str]) -> str:
    """Return the text up to the first of the stop sequences."""
    return text[: min((text.find(end) for end in stop if end in text), default=len(text))]
