"""Generation of responses, by one model or steered by helpers, greedy or sampled, in left-padded batches of a fixed size.

Shapes: B = rows of a batch, T = tokens of a row so far, V = vocabulary.
"""

import random
from collections.abc import Callable, Iterable, Sequence
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
        warpers = [TemperatureLogitsWarper(self.temperature), TopPLogitsWarper(self.top_p)]
        return LogitsProcessorList([*warpers, _Draw([self.keys[row] for row in rows])])


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
                readers.append(_Reader(helper, *_left_padded(prompts, tokenizer, helper.device)))
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


@torch.no_grad()
def write(
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
) -> list[str]:
    """Return the model's response to each prompt, in their order: greedy, or drawn by `sampling`.

    Batches are filled in order of length and their size is fixed: a batch's shape changes the last digits of logits, and so now
    and then a token. A response ends at the end of turn, at its first closed code block, before the first of the texts in `stop`,
    or after `max_new_tokens` tokens.
    """
    model.set_attn_implementation("sdpa")
    render = _prompt_text if steering else render_prompt
    texts = [render(prompt, tokenizer) for prompt in prompts]
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token  # masked wherever it stands
    order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    responses = [""] * len(texts)
    tokenizer.padding_side = PADDING
    for batch in track(batches):
        inputs = tokenizer(
            [texts[i] for i in batch],
            add_special_tokens=tokenizer.chat_template is None,
            padding=True,
            return_tensors="pt",
        )
        width = inputs["input_ids"].shape[1]
        outputs = model.generate(
            **inputs.to(model.device),
            max_new_tokens=max_new_tokens,
            do_sample=False,  # the processor of `sampling` leaves only the token it drew
            logits_processor=sampling.of(batch) if sampling else None,
            pad_token_id=tokenizer.pad_token_id,
            stopping_criteria=[_Ended(tokenizer, width, stop)],
            custom_generate=steering.beside([prompts[i] for i in batch]) if steering else None,
        )
        for index, text in zip(
            batch, tokenizer.batch_decode(outputs[:, width:], skip_special_tokens=True), strict=True
        ):
            responses[index] = _before(text, stop)
    return responses


def _prompt_text(prompt: Sequence[Message], tokenizer: Tokenizer) -> str:
    """Return the prompt in the model's chat template, or as plain text if the model has none."""
    if tokenizer.chat_template is None:
        return "\n\n".join(message.content for message in prompt)
    return render_prompt(prompt, tokenizer)


def _left_padded(
    prompts: Sequence[Sequence[Message]], tokenizer: Tokenizer, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Return token ids and attention mask of prompts, (B, T) each. The tokenizer of an untuned model may have no padding token."""
    special = tokenizer.chat_template is None
    rows = [tokenizer(_prompt_text(prompt, tokenizer), add_special_tokens=special)["input_ids"] for prompt in prompts]
    longest = max(map(len, rows))
    ids = [[0] * (longest - len(row)) + row for row in rows]
    mask = [[0] * (longest - len(row)) + [1] * len(row) for row in rows]
    return torch.tensor(ids, device=device), torch.tensor(mask, device=device)


class _Draw(LogitsProcessor):
    """Leaves each row one token, drawn by its probability with random numbers that follow from the row's key alone."""

    def __init__(self, keys: Sequence[str]) -> None:
        self._streams = [random.Random(key) for key in keys]

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

    def __call__(self, input_ids: Tensor, scores: Any, **_: Any) -> Tensor:
        texts = self._tokenizer.batch_decode(input_ids[:, self._width :])
        ended = [text.count(FENCE) >= 2 or any(end in text for end in self._stop) for text in texts]
        return torch.tensor(ended, device=input_ids.device)


def _before(text: str, stop: Sequence[str]) -> str:
    """Return the text up to the first of the stop sequences."""
    return text[: min((text.find(end) for end in stop if end in text), default=len(text))]
