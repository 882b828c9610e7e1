"""What a model writes: greedy decoding in batches of a fixed size, padded on the left."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from transformers import PreTrainedModel, StoppingCriteria

from tasks.core.records import Message
from tasks.engine.encode import Tokenizer, render_prompt

FENCE = "```"
Track = Callable[[Iterable[list[int]]], Iterable[list[int]]]


@torch.no_grad()
def greedy(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[Message]],
    tokenizer: Tokenizer,
    *,
    max_new_tokens: int,
    batch_size: int,
    track: Track = iter,
) -> list[str]:
    """The model's response to each prompt, in their order.

    Batches are filled in order of length and their size is fixed, since a batch's shape moves the last digits of logits
    and so, now and then, a token. A response ends at the end of turn, at its first closed code block, or after
    `max_new_tokens` tokens.
    """
    model.set_attn_implementation("sdpa")
    texts = [render_prompt(prompt, tokenizer) for prompt in prompts]
    order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    responses = [""] * len(texts)
    tokenizer.padding_side = "left"
    for batch in track(batches):
        inputs = tokenizer([texts[i] for i in batch], add_special_tokens=False, padding=True, return_tensors="pt")
        width = inputs["input_ids"].shape[1]
        written = model.generate(
            **inputs.to(model.device),
            max_new_tokens=max_new_tokens,
            do_sample=False,
            pad_token_id=tokenizer.pad_token_id,
            stopping_criteria=[_ClosedBlock(tokenizer, width)],
        )
        for index, text in zip(
            batch, tokenizer.batch_decode(written[:, width:], skip_special_tokens=True), strict=True
        ):
            responses[index] = text
    return responses


class _ClosedBlock(StoppingCriteria):
    """True for each row whose response has opened a code block and closed it."""

    def __init__(self, tokenizer: Tokenizer, width: int) -> None:
        self._tokenizer, self._width = tokenizer, width

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        texts = self._tokenizer.batch_decode(input_ids[:, self._width :])
        return torch.tensor([text.count(FENCE) >= 2 for text in texts], device=input_ids.device)
